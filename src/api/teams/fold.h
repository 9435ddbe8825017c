/* SPDX-License-Identifier: Apache-2.0 */
/* fold.h - what a ledger says of a team in it: its events as they were, or its trace when all is over (teams.md 3, 4).
 *
 * Pure: records in, the contract's objects out. Team events are custom records with run id and stamp put in; tool events come
 * from tool records, chunks from deltas (model.md 4, "team events"). A call that was made again counts once. */
#pragma once
#include "api/call.h"
#include "team/trace.h"

/* Which team of a plan is meant. */
struct team_place {
    struct span node;       /* its node */
    struct jv   definition; /* its run options, canonical */
    size_t      count;      /* teams in the plan that come into question */
};
/* `plan`: the JSON of a run's plan; `node` empty: any. The first one is described; count 0: there is none. Spans point into
 * `arena` or into the plan. */
void team_place_find(struct jv plan, struct span node, struct arena *arena, struct team_place *ret);

struct team_fold;
/* `definition` and `node` are copied. With `event` it is called for each event and no trace is kept; then also for the `error`
 * that ends the stream of a run that failed or was cancelled. */
struct team_fold *team_fold_new(struct uuid run, const struct team_place *place,
                                void (*event)(void *user, const struct team_event *event), void *user);
void team_fold_free(struct team_fold *fold); /* accepts NULL */
/* The records of an attempt in their order, from the first on. */
void team_fold_take(struct team_fold *fold, const struct record *record);
bool team_fold_begun(const struct team_fold *fold);
bool team_fold_complete(const struct team_fold *fold); /* `final` was there: the trace can be written */
const struct team_trace *team_fold_trace(const struct team_fold *fold);
