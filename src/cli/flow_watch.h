/* SPDX-License-Identifier: Apache-2.0 */
/* flow_watch.h - watches a run of a workflow: a line per node, questions and client tools answered, the outputs at the end. */
#pragma once
#include "cli/commands.h"

enum flow_form {
    FLOW_PEOPLE, /* lines of nodes on stderr, the outputs on stdout */
    FLOW_QUIET,  /* the outputs alone */
    FLOW_JSON,   /* the same in one line */
    FLOW_NDJSON, /* the workflow's event lines as received (workflow-runs.md 4), and nothing else */
};

struct flow_watch {
    const struct cli *cli;
    struct web       *web;
    const char       *command;    /* for messages */
    const char       *run_id;
    struct jv         plan;       /* compiled */
    struct jv         results;    /* of client tools: {name: result, or a list of results for one call after the other}; or absent */
    enum flow_form    form;
    int64_t           timeout_ms; /* 0: none */
    const char       *local_data; /* the data folder when the server ends with this command, else NULL */
};

/* To the end of the run; the exit code. What nobody here can answer ends it with EXIT_WAITING. */
int flow_watch(const struct flow_watch *watch);
