/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - the table of legal transitions. tests/every/test_run_state.c enumerates every pair. */
#include "run/state.h"

struct edge {
    bool            legal;
    enum run_status to;
};
#define GO(status) { true, RUN_##status }

static const struct edge edges[RUN_STATUS_COUNT][RUN_INPUT_COUNT] = {
    [RUN_PENDING] = { [RUN_PROMOTE] = GO(QUEUED), [RUN_FAIL] = GO(FAILED), [RUN_CANCEL] = GO(CANCELLED) },
    [RUN_QUEUED]  = { [RUN_CLAIM] = GO(ACTIVE), [RUN_FAIL] = GO(FAILED), [RUN_CANCEL] = GO(CANCELLED) },
    [RUN_ACTIVE]  = { [RUN_FINISH] = GO(COMPLETED), [RUN_FAIL] = GO(FAILED), [RUN_TRY_AGAIN] = GO(QUEUED),
                      [RUN_REST] = GO(WAITING), [RUN_CANCEL] = GO(CANCELLED) },
    [RUN_WAITING] = { [RUN_ANSWER] = GO(RESUMED), [RUN_WAKE] = GO(ACTIVE), [RUN_FAIL] = GO(FAILED), [RUN_CANCEL] = GO(CANCELLED) },
    [RUN_RESUMED] = { [RUN_REQUEUE] = GO(QUEUED), [RUN_CANCEL] = GO(CANCELLED) },
    [RUN_FAILED]  = { [RUN_RETRY] = GO(QUEUED), [RUN_RETRY_BUSY] = GO(PENDING) },
    /* nothing leaves COMPLETED and CANCELLED */
};

bool run_edge(enum run_status from, enum run_input input, enum run_status *ret_to)
{
    assert(from < RUN_STATUS_COUNT);
    assert(input < RUN_INPUT_COUNT);
    const struct edge *edge = &edges[from][input];
    if (edge->legal)
        *ret_to = edge->to;
    return edge->legal;
}

bool run_terminal(enum run_status status)
{
    return status == RUN_COMPLETED || status == RUN_FAILED || status == RUN_CANCELLED;
}

static const char *const words[RUN_STATUS_COUNT] = {
    "pending", "queued", "running", "waiting_for_human", "resumed", "completed", "failed", "cancelled",
};

const char *run_status_ar(enum run_status status, unsigned mask)
{
    assert(status < RUN_STATUS_COUNT);
    return status == RUN_WAITING && !(mask & MASK_PERSON) ? words[RUN_ACTIVE] : words[status];
}

bool run_status_parse(struct span word, enum run_status *ret)
{
    for (int s = 0; s < RUN_STATUS_COUNT; s++)
        if (span_is(word, words[s])) {
            *ret = (enum run_status)s;
            return true;
        }
    return false;
}

static const char *const wait_words[WAIT_STATUS_COUNT] = { "pending", "approved", "rejected", "expired", "cancelled" };

const char *wait_status_name(enum wait_status status)
{
    assert(status < WAIT_STATUS_COUNT);
    return wait_words[status];
}

bool wait_status_parse(struct span word, enum wait_status *ret)
{
    for (int s = 0; s < WAIT_STATUS_COUNT; s++)
        if (span_is(word, wait_words[s])) {
            *ret = (enum wait_status)s;
            return true;
        }
    return false;
}
