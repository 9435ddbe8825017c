/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - what the agent machine remembers, shared by the files of this folder. */
#pragma once
#include "agent/agent.h"
#include "agent/definition.h"
#include "machine/fault.h"

enum life { LIFE_NEW, LIFE_RUNNING, LIFE_FINISHED, LIFE_FAILED, LIFE_COUNT };
/* What the machine waits for, or would if it still ran. */
enum phase { PHASE_LIST, PHASE_MODEL, PHASE_TOOLS, PHASE_COUNT };
enum call_state { CALL_DONE, CALL_APPROVAL, CALL_TOOL, CALL_ASK, CALL_INNER, CALL_CHILD, CALL_STATE_COUNT };

/* Totals and disjoint buckets of model.h; they stop at the largest number instead of beginning again. */
enum { USE_INPUT, USE_OUTPUT, USE_TOTAL, USE_B_INPUT, USE_B_READ, USE_B_WRITE, USE_B_OUTPUT, USE_B_REASONING, USE_COUNT };
struct usage {
    bool known;
    uint64_t n[USE_COUNT];
};

/* Messages, each a JSON text in the machine's arena. */
struct talk {
    struct span *items;
    uint32_t count, cap;
};

struct call {
    struct span id;        /* text; unique in its answer */
    struct span shown;     /* text: the name that the model used */
    struct span arguments; /* JSON, minified; empty when the model wrote none that can be used */
    const struct agent_tool *tool; /* NULL: there is no such tool */
    enum call_state state;
    struct span result;    /* JSON string: the content of the tool message */
    bool failed;
    struct machine *inner;
};

/* The last answer, as far as the end may need it. */
struct last {
    struct span text;          /* JSON string: what the model said last; empty: nothing */
    struct span finish_reason; /* text */
    struct span model, response_id; /* text or empty */
};

struct machine {
    const struct agent *agent;
    struct arena *arena;
    uint64_t approval_us; /* how long a person has to approve; 0: no end */
    enum life life;
    enum phase phase;
    uint32_t steps;      /* answers so far. The call in flight is number `steps`; in PHASE_TOOLS the answer is `steps - 1` */
    uint32_t tool_steps; /* answers that called tools */
    uint32_t repairs;    /* of the structured output, so far */
    bool stopping;       /* a tool call was refused by the budget: this step is the last */
    bool waits_clients;  /* a wait for client tools is open: number `client_waits - 1` of the step */
    uint32_t client_waits;
    struct talk messages;
    struct talk queue;   /* steering that no model call has seen */
    struct usage usage;
    struct last last;
    struct span values;  /* JSON object without "messages" */
    struct span listed;  /* answer of tools.list, or empty */
    struct span output;  /* of FX_FINISH, once finished */
    struct call *calls;  /* of the answer whose tools run */
    uint32_t call_count, pending;

    /* made from the above, never saved */
    struct agent_tool *tools;
    uint32_t tool_count;
    struct span tools_json; /* for requests; empty: no tools */
};

/* What lives as long as a step. */
struct turn {
    struct machine *m;
    const struct input *in;
    struct effects *out;
};

extern const char *const agent_life_words[LIFE_COUNT];
extern const char *const agent_phase_words[PHASE_COUNT];
extern const char *const agent_call_words[CALL_STATE_COUNT];
extern const char *const agent_usage_words[USE_COUNT];

/* ---- agent.c ---- */
/* `human_us`: what the plan around it gives people, for approvals that the definition gives no time. */
struct machine *agent_machine(const struct agent *agent, uint64_t human_us, struct arena *arena);

/* ---- save.c ---- */
enum err agent_save(const struct machine *m, struct buf *out);
enum err agent_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret);

/* ---- talk.c: messages ---- */
void agent_talk_add(struct talk *talk, struct span message, struct arena *arena); /* copies */
/* Messages of an input: a text, {"message"}, {"prompt"}, {"messages": […]}, or any other value as JSON text. false when it is
 * no usable input; then *why says so. */
bool agent_talk_add_input(struct talk *talk, struct jv input, struct arena *arena, const char **why);
/* How many messages to forget, from the front: whole turns, each from a user message to the next one, until what is left has at
 * most `max_messages` messages and `max_chars` (0: any) characters of JSON text. The newest turn always stays. */
uint32_t agent_talk_trim(const struct span *messages, uint32_t count, uint32_t max_messages, uint64_t max_chars);
bool agent_talk_is(struct span message, const char *role);

/* ---- tools.c ---- */
/* Makes m->tools and m->tools_json of the definition and m->listed. */
void agent_tools_resolve(struct machine *m);
const struct agent_tool *agent_tools_find(const struct machine *m, struct span shown);
/* JSON array for tools.list. */
struct span agent_tools_wanted(const struct agent *agent, struct arena *arena);
/* Parses what the model wrote as arguments into call->arguments, if it is JSON, and checks it. `cut`: the answer ended at the
 * token limit. Returns NULL, or what to tell the model, which lives in `turn`. */
const char *agent_tools_check(struct call *call, struct span written, bool cut, struct arena *arena, struct arena *turn);

/* ---- request.c ---- */
struct span agent_request_make(const struct machine *m, struct arena *arena);

/* ---- output.c ---- */
void agent_usage_add(struct usage *usage, struct jv reported);
void agent_usage_sum(struct usage *usage, const struct usage *other);
/* The JSON document in the last answer, or what is wrong with it, for the model to read. */
bool agent_output_parse(const struct machine *m, struct arena *arena, struct span *ret_json, struct span *ret_wrong);
/* What the machine gives back, in the form that the definition asks for. `structured`: JSON or empty. */
struct span agent_output_make(const struct machine *m, struct span structured, struct arena *arena);
struct span agent_output_values(const struct machine *m, struct arena *arena);
/* Text of an agent's or a run's output, for the model that called it: JSON string. */
struct span agent_output_for_caller(struct jv output, struct arena *arena);
