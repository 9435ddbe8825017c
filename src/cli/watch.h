/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - watches a run to its end and says how it went: what `run`, `runs follow` and `runs resume` have in
 * common. */
#pragma once
#include "cli/commands.h"
#include <signal.h>

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

/* ---- what other ways of watching need, too ---- */

/* Ctrl-C and SIGTERM arrive through a descriptor instead of ending the process: it is woken, not killed. */
struct watch_signals {
    sigset_t set, old;
    int      fd;
};
void watch_signals_begin(struct watch_signals *signals);
void watch_signals_end(struct watch_signals *signals);
/* A line from the terminal without its newline; false at its end or when a signal came (*ret_signal). */
bool watch_read_line(int signal_fd, char **line, size_t *cap, bool *ret_signal);
/* "code: message (node NAME)" and a newline; `error` is the error object of a run. */
void watch_print_error(const struct cli *cli, FILE *out, struct jv error);
