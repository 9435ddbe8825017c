/* SPDX-License-Identifier: Apache-2.0 */
/* result.h - results out of traces: replay, accounting, benchmarks (teams.md 5, 14, 15); stream errors and log records. */
#pragma once
#include "team/trace.h"

/* replay(): the RunResult that belongs to a trace of schema 1.0. Calls nobody; does not check the trace; keeps its texts. Keys in
 * the order output, eventLog, trace, transcript, usage, metadata, accounting, cost, quality?, evaluation?. */
void team_replay(struct jv trace, struct jw *w);

/* The member "budgetStateChanges" of an open object: one entry per event that says what was spent (teams.md 4.1). */
void team_state_changes(struct jv events, struct jw *w);

/* ---- benchmark ---- */

/* The run options that a benchmark configuration stands for: {"intent","protocol","tier","agents"?,"temperature"?,"budget"?}
 * without the model. */
void team_benchmark_options(struct jv config, struct jv protocol, struct jw *w);
/* The artifact of one run: `events` are the stream's events without `error`, `result` its RunResult. */
void team_benchmark_artifact(struct jv config, struct jv protocol, struct jv result, const struct span *events, size_t count,
                             struct jw *w);
/* Score = quality of the run, or completeness of its artifact; `accounting` is the benchmark's. */
void team_benchmark_score(struct jv result, struct jv accounting, const struct span *events, size_t count, struct jw *w);

/* ---- errors and logs ---- */

/* An error of the contract: what the fields are that its JSON form has, in their order (teams.md 11.4). */
void team_error_to_json(struct jv error, struct jw *w);
bool team_error_is_own(struct jv error);
/* An error object of a run (agent-runs.md 3.2) as one of the contract's; its own pass through. `category` tells which code. */
void team_error_of_run(struct jv error, struct span provider_id, struct jw *w);
/* The `error` event of a stream. `is_error`: an error object, whatever its name; what is none is shown by its string form. */
void team_error_event(struct jv error, bool is_error, struct span run_id, int64_t at_ms, struct jw *w);
/* The provider's `aborted` error; detail {"status":"cancelled"} when `cancelled`. */
void team_aborted(struct span provider_id, bool cancelled, struct jw *w);
/* {"level","message","fields"} of the event logger (teams.md 13.5). false: this event is not to be logged. */
bool team_log_record(struct jv event, struct jv include, struct jw *w);
