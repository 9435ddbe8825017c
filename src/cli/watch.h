/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - watches a run to its end and says how it went: what `run`, `runs follow` and `runs resume` have in
 * common. */
#pragma once
#include "cli/commands.h"

struct watch {
    const struct cli *cli;
    struct web       *web;
    const char       *command;    /* for messages */
    const char       *run_id;
    const char       *attempt_id; /* NULL: the run's current one */
    uint64_t          from;       /* first seq wanted, 0: the start; of the first attempt watched */
    bool              json;       /* one event object per line, as received, and nothing else */
    bool              quiet;      /* only the output */
    bool              leave_when_waiting; /* a person is needed: ask on a terminal, else end with EXIT_WAITING */
    int64_t           timeout_ms; /* 0: none */
    const char       *local_data; /* the data folder when the server ends with this command, else NULL */
};

int watch_run(const struct watch *watch);
/* "code: message (node NAME)" and a newline; `error` is the error object of a run. */
void watch_print_error(const struct cli *cli, FILE *out, struct jv error);
