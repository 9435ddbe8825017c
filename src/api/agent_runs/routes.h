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
/* The committed head of a run that goes on; a row's own is as old as its last transition. */
void fill_latest(struct reader *reader, struct run_row *row);

/* events.c */
void events_poll(struct call *call);
void events_stream(struct call *call);

/* agents.c */
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

/* approvals.c */
void approvals_list(struct call *call);
void approvals_get(struct call *call);
void approvals_approve(struct call *call);
void approvals_reject(struct call *call);

/* list.c: an offset list (AR 2.4) of the rows of a query; known false: empty. */
void call_list(struct call *call, const struct query *query, struct page page, bool known, bool (*each)(void *user, const void *row));
