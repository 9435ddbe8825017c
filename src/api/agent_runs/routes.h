/* SPDX-License-Identifier: Apache-2.0 */
/* routes.h - the handlers of the agent-runs surface, by resource; routes.c is their table. */
#pragma once
#include "api/agent_runs/render.h"
#include "api/inner.h"

/* runs.c */
void runs_create(struct call *call);
void runs_wait(struct call *call);
void runs_batch(struct call *call);
void runs_get(struct call *call);
void runs_list(struct call *call);
void runs_cancel(struct call *call);
void runs_resume(struct call *call);
void runs_rerun(struct call *call);
/* 201 for a run that was just created, its key kept when one was used. */
void run_created(struct call *call, const struct idem_use *idem, const struct run_row *row);
/* Its 1-based place among the pending runs of its thread; 0 when it is not pending. */
int64_t queue_position(struct reader *reader, const struct run_row *row);
/* The committed head of a run that goes on; a row's own is as old as its last transition. */
void fill_latest(struct reader *reader, struct run_row *row);

/* tools.c */
void runs_tool_results(struct call *call);

/* crons.c */
void crons_create(struct call *call);
void crons_list(struct call *call);
void crons_get(struct call *call);
void crons_patch(struct call *call);
void crons_delete(struct call *call);
void crons_trigger(struct call *call);

/* events.c */
void events_poll(struct call *call);
void events_stream(struct call *call);

/* agents.c */
/* RFC 7396, in the call's arena. */
struct span merged(struct call *call, struct span old, struct jv patch);
/* If-Match: "<revision>" is optional; when it is there it must fit. False: the answer was given. */
bool revision_fits(struct call *call, int64_t revision);
void agents_create(struct call *call);
void agents_list(struct call *call);
void agents_get(struct call *call);
void agents_patch(struct call *call);
void agents_archive(struct call *call);
void bundles_create(struct call *call);
void bundles_list(struct call *call);
void bundles_get(struct call *call);
void bundles_patch(struct call *call);
void bundles_publish(struct call *call);
void versions_list(struct call *call);
void versions_activate(struct call *call);

/* threads.c */
void threads_create(struct call *call);
void threads_list(struct call *call);
void threads_get(struct call *call);
void threads_patch(struct call *call);
void threads_delete(struct call *call);

/* attempts.c: the attempts of a run, oldest first; the last one is as far as it is committed. ERR_OK, or what reading gave. */
struct attempt_span {
    struct uuid  id;
    int64_t      no, started_ms, completed_ms;
    uint64_t     stream, last_seq;
    enum run_status status;
    struct span  error;
};
enum err attempts_read(struct reader *reader, const struct run_row *row, struct arena *arena, struct attempt_span **ret,
                       size_t *ret_count);

/* ancestry.c: what the node executions of a replay repeat of its source, as far as the source's ledgers are still there. */
struct origins;
/* In the arena; empty for a run that is no replay. ERR_OK, or what reading gave. */
enum err    origins_read(struct reader *reader, const struct run_row *run, struct arena *arena, struct origins **ret);
/* The source's node execution behind the nth start (from 0) of the node in an attempt of the replay; nil: it had none. */
struct uuid origin_of(const struct origins *origins, int64_t attempt_no, struct span node, unsigned nth);
/* The same for the node execution that failed; nil for a failure outside nodes and in a run that is no replay. */
struct uuid origin_of_failure(struct reader *reader, const struct run_row *run, const struct failure_row *failure);

/* checkpoints.c */
void checkpoints_index(struct call *call);
void checkpoints_get(struct call *call);
void threads_history(struct call *call);
void threads_checkpoints(struct call *call);

/* replay.c */
void runs_replay(struct call *call);

/* approvals.c */
void approvals_list(struct call *call);
void approvals_get(struct call *call);
void approvals_approve(struct call *call);
void approvals_reject(struct call *call);

/* failures.c */
void failures_list(struct call *call);
void failures_get(struct call *call);
void runs_retry(struct call *call);
void render_failure(struct jw *w, struct call *call, const struct failure_row *row); /* a RunFailureRetentionItem */

/* observability.c */
void observability_summary(struct call *call);
void observability_capabilities(struct call *call);
void observability_bindings(struct call *call);

/* inspection.c */
void runs_inspection(struct call *call);
