/* SPDX-License-Identifier: Apache-2.0 */
/* definition.h - what an agent is made of, read once from its definition (docs/reference/agent-definition.md). */
#pragma once
#include "machine/machine.h"

enum {
    AGENT_TOOLS_MAX    = 128,  /* named in a definition */
    AGENT_CONTRACTS_MAX = 512, /* after listing */
    AGENT_NEST_MAX     = 2,    /* agents below agents: an op path has OP_PATH_MAX parts */
    AGENT_NAME_MAX     = 128,  /* bytes of a tool's name */
    AGENT_SHOWN_MAX    = 64,   /* bytes of the name that the model sees */
    AGENT_CALLS_MAX    = 64,   /* tool calls of one answer */
    AGENT_STEPS_MAX    = 1000,
};
#define AGENT_MS_MAX INT64_C(31536000000) /* a year */

enum tool_kind { KIND_SERVER, KIND_CLIENT, KIND_LOCAL, KIND_ASK, KIND_AGENT, KIND_CHILD };
enum output_form { FORM_TEXT, FORM_MESSAGE, FORM_RESPONSE };

struct agent;
struct agent_tool {
    enum tool_kind kind;
    struct span name;           /* of the tool in the configuration; "SERVER.*": all of that server */
    struct span shown;          /* what the model calls it: other bytes than [A-Za-z0-9_-] are '_' */
    struct span description;    /* text, or empty */
    struct jv parameters;       /* schema of the arguments; absent: what the listing says, or any object */
    bool checks;                /* the schema is of the subset of json_schema.h: arguments are checked against it */
    bool approval, repeat_safe;
    bool wraps_input;           /* agents with the usual parameters: {"input": text} */
    const struct agent *agent;  /* KIND_AGENT */
    struct span agent_id;       /* KIND_CHILD */
};

struct agent {
    struct span system;         /* text, or empty */
    struct span provider, model;
    struct jv settings;         /* the member "model" */
    bool stream;
    struct agent_tool *tools;
    uint32_t tool_count;
    bool lists;                 /* some are contracts of the host */
    struct jv tool_choice;      /* or absent */
    bool choice_forces;         /* "required" or a name: holds for the first model call only */
    bool serial;                /* parallel_tool_calls is false */
    uint32_t max_steps;
    uint32_t max_tool_steps;    /* 0: as many as max_steps allows */
    uint32_t max_calls;
    uint64_t wait_us, approval_us; /* approval 0: no end */
    bool stops_at_limit;
    bool fails_at_budget;
    struct jv schema;           /* of the output, or absent */
    struct span schema_name;
    bool checks_output;
    uint32_t repairs;
    bool memory;
    uint32_t max_messages;
    uint64_t max_chars;         /* 0: no cap */
    struct span retry;          /* JSON or empty */
    enum output_form form;
    struct plan_budget budget;
};

/* Reads a definition and adds an issue for everything that is wrong with it; `at` is its pointer, unchanged afterwards. What it
 * returns points into the document of `definition` and lives in `arena`; useless when there were issues. */
struct agent *agent_read(struct jv definition, struct arena *arena, struct buf *at, struct issues *issues);

/* The name that the model sees. */
struct span agent_shown(struct span name, struct arena *arena);
/* true when arguments can be checked against it. */
bool agent_schema_checks(struct jv schema);

/* machine_ops.compile and .open. */
enum err agent_compile(struct jv definition, struct plan *plan, struct issues *issues);
enum err agent_open(struct plan *plan);
