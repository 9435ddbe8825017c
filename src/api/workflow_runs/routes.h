/* SPDX-License-Identifier: Apache-2.0 */
/* routes.h - the handlers of the workflow surface (workflow-runs.md), by resource; routes.c is their table. */
#pragma once
#include "api/inner.h"
#include "api/workflow_runs/render.h"

/* errors.c */
void flow_put_issues(struct jw *w, const char *name, const struct issues *issues);
/* 400 with the bare list of issues of a specification. */
void flow_send_issues(struct call *call, const struct issues *issues);

/* runs.c */
void flow_runs_create(struct call *call);
void flow_runs_get(struct call *call);
void flow_runs_cancel(struct call *call);
/* The run of the path, if it is the caller's to see (1.3); false: 404 was answered. With call->reader, or on the engine thread. */
bool flow_run_read(struct call *call, struct run_row *ret);
const char *flow_run_status(const struct run_row *row);

/* snapshot.c: what the ledgers of a run say about its nodes, calls and tools. */
struct flow_snapshot;
/* ERR_OK or what reading gave; lives in the call's arena. */
enum err flow_fold(struct call *call, const struct run_row *row, struct flow_snapshot **ret);
void     flow_put_snapshot(struct call *call, const struct run_row *row, const struct flow_snapshot *snapshot, bool steps);
void     flow_run_steps(struct call *call);
void     flow_run_tool_call(struct call *call);
void     flow_run_tasks(struct call *call);

/* tools.c */
void flow_pending_tools(struct call *call);
void flow_tool_results(struct call *call);

/* events.c */
void flow_run_events(struct call *call);

/* workflows.c */
void flow_compile(struct call *call);
void flow_lint(struct call *call);
void flow_schema_events(struct call *call);
void flow_schema_workflow(struct call *call);
/* Is this specification so large that it is compiled on the reader thread? */
bool flow_is_large(struct jv spec);
/* There, with call->in_job set; `done` comes back on the engine's thread. */
void flow_elsewhere(struct call *call, void (*run)(struct read_job *job, struct reader *reader), void (*done)(struct read_job *job));
/* What the engine is given of a plan, on any thread. False: it is refused, and the answer was given. */
bool flow_prepare(struct call *call, struct span v1, struct prepared *ret);

/* sessions.c */
void flow_sessions_create(struct call *call);
void flow_sessions_list(struct call *call);
void flow_sessions_get(struct call *call);
void flow_sessions_patch(struct call *call);
void flow_sessions_delete(struct call *call);
void flow_messages_create(struct call *call);
void flow_messages_list(struct call *call);
void flow_sessions_clear(struct call *call);

/* state handles: sessions.c, too */
void flow_handles_create(struct call *call);
void flow_handles_list(struct call *call);
void flow_handles_get(struct call *call);
void flow_handles_delete(struct call *call);
/* Engine thread. ERR_NOT_FOUND, ERR_EXPIRED (and the row), ERR_STORAGE; the row's spans live as long as the call. */
enum err flow_handle_find(struct call *call, struct span id, struct handle_row *ret);

/* responses.c */
void flow_responses(struct call *call);
void flow_responses_batch(struct call *call);

/* models.c */
void flow_models(struct call *call);
