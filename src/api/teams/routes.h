/* SPDX-License-Identifier: Apache-2.0 */
/* routes.h - the handlers of teams (teams.md): traces and events of runs, replay, benchmarks. routes.c is their table. */
#pragma once
#include "api/inner.h"
#include "api/teams/fold.h"

/* trace.c: GET /v1/api/runs/{id}/trace[?node=NAME] */
void team_trace_get(struct call *call);
/* The whole ledger of a run's attempts, as far as the last of them goes back, folded. *ret is the caller's. ERR_OK, or what
 * stands in the way: ERR_RUN_NOT_FOUND, ERR_NOT_FOUND (no team in it), ERR_INVALID_RUN_STATE (no trace, or not yet),
 * ERR_LEDGER_EXPIRED, ERR_STORAGE. */
enum err team_trace_read(struct reader *reader, struct uuid workspace, struct uuid run, struct span node, struct arena *arena,
                         struct team_fold **ret, struct error *error);
/* The team of a run, from its plan. Errors as above. */
enum err team_place_read(struct reader *reader, const struct run_row *row, struct span node, struct arena *arena,
                         struct team_place *ret, struct error *error);

/* Folds the records of the run's attempts from the first on that counts for the current one; without that one unless last_too. */
enum err team_lineage_feed(struct reader *reader, const struct run_row *row, bool last_too, struct arena *arena, struct team_fold *fold);

/* events.c: GET /v1/api/runs/{id}/team-events[?node=NAME] */
void team_events(struct call *call);

/* replay.c: POST /v1/api/teams/replay */
/* replay() does not check a trace; what is no trace at all is found here. */
void team_trace_check(struct jv trace, struct issues *issues);
void team_replay_post(struct call *call);

/* benchmark.c: POST /v1/api/teams/benchmark */
void team_benchmark_post(struct call *call);

/* runs.c: POST /v1/api/teams/runs */
void team_run_post(struct call *call);
