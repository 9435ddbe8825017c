/* SPDX-License-Identifier: Apache-2.0 */
/* render.h - resource shapes of agent-runs.md section 3: from rows and records to JSON and SSE. Pure. */
#pragma once
#include "api/call.h"
#include "ledger/follow.h"

enum { RENDER_LIST = 1 }; /* long inputs and outputs are cut (6.8) */
void render_value(struct jw *w, const char *name, struct span json, unsigned flags);
/* The members of a Run, without the braces. */
void render_run(struct jw *w, const struct run_row *row, unsigned flags);

/* Members usage and cost_usd of a run or thread that has called something; cost_known false: some calls have no price. */
void render_spend(struct jw *w, struct reader *reader, struct uuid workspace, enum spend_kind kind, struct uuid id);

/* What every event of an attempt shares. */
struct attempt_ref {
    struct uuid run, attempt, root, parent_operation; /* parent_operation: of the run, nil for a top-level one */
    struct uuid run_operation;
};
struct attempt_ref attempt_ref_make(struct uuid run, struct uuid attempt, struct uuid root, struct uuid parent_operation);
/* RunEventDto, the same bytes for polling, streaming and every redelivery. */
void render_event(const struct attempt_ref *ref, const struct record *record, struct buf *out);
extern const struct wire_format agent_runs_sse;
