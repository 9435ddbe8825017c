/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the states of a run and what may lead from one to another (model.md 6.1, agent-runs.md 4.2).
 *
 * One table. What is not written in it is not allowed. A crash has no entry: it changes the epoch, not the state. */
#pragma once
#include "base/err.h"

/* The numbers are stored. */
enum run_status {
    RUN_PENDING, RUN_QUEUED, RUN_ACTIVE, RUN_WAITING, RUN_RESUMED, RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_STATUS_COUNT
};

enum run_input {
    RUN_PROMOTE,   /* T3: the thread's slot became free */
    RUN_CLAIM,     /* T4 */
    RUN_FINISH,    /* T5 */
    RUN_FAIL,      /* T6, T13, T14: final */
    RUN_TRY_AGAIN, /* T10: this attempt failed, a new one begins */
    RUN_REST,      /* T7: nothing in flight, somebody is asked */
    RUN_ANSWER,    /* T8 */
    RUN_WAKE,      /* T13: nobody answered in time; the machine says what follows, in the same commit */
    RUN_REQUEUE,   /* T9 */
    RUN_RETRY,     /* T11, to queued */
    RUN_RETRY_BUSY,/* T11, to pending */
    RUN_CANCEL,    /* T12 */
    RUN_INPUT_COUNT
};

enum { MASK_PERSON = 1, MASK_TOOLS = 2 }; /* of a waiting run: on what */

/* Of a wait row: the words of an approval (agent-runs.md 9). The numbers are stored. */
enum wait_status { WAIT_OPEN, WAIT_APPROVED, WAIT_REJECTED, WAIT_EXPIRED, WAIT_CANCELLED, WAIT_STATUS_COUNT };
const char *wait_status_name(enum wait_status status);
bool        wait_status_parse(struct span word, enum wait_status *ret); /* false: no such word */

/* true and *ret_to, or false when the table does not allow it. */
bool        run_edge(enum run_status from, enum run_input input, enum run_status *ret_to);
bool        run_terminal(enum run_status status);
/* The word on the agent-runs surface; a run that waits for tools only is "running" there. */
const char *run_status_ar(enum run_status status, unsigned mask);
/* false: no such word. `waiting_for_human` and `running` come back as the statuses that are shown so. */
bool        run_status_parse(struct span word, enum run_status *ret);
