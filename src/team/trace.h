/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - the events, the trace and the result of a team's run, as a fold over what was recorded (teams.md 3 to 5).
 *
 * The same fold serves a run's ledger and a simulated host: feed it what happened, in order, with the time of each. It owns no
 * clock and makes no id but those that follow from the run id. Everything it hands out is canonical JSON in its arena.
 *
 * With a `sink` events are handed to it as they come and nothing is kept of them, which a trace could not do without.
 *
 * Deltas of a call that failed and was made again count as if they had never been: team_trace_call_failed drops their events, so
 * that a trace with a crash in it equals the one without. */
#pragma once
#include "team/plan.h"

struct team_event {
    const char *type; /* "agent-turn" … */
    int64_t     at_ms;
    struct span json; /* the whole event, canonical */
    uint32_t    call; /* of a chunk: the model call; else UINT32_MAX */
};

struct team_trace {
    const struct team *team;
    struct arena      *arena;
    struct span        run_id, intent;
    struct team_event *events;
    size_t             event_count, event_cap;
    struct team_call  *calls; /* by number of the model call */
    size_t             call_count, call_cap;
    struct span       *entries; /* transcript */
    size_t             entry_count, entry_cap;
    struct team_cost   cost;  /* of the last event that has one */
    struct span        output; /* JSON text of the final output; empty: not finished */
    void (*sink)(void *user, const struct team_event *event); /* event->json: until it returns */
    void  *sink_user;
};

/* `run_id` and `intent` are copied. */
void team_trace_init(struct team_trace *trace, const struct team *team, struct span run_id, struct span intent,
                     struct arena *arena);

/* ---- what happened ---- */

/* FX_EMIT: name with or without "team."; warnings and names of others add nothing. Returns the number of events added. */
size_t team_trace_emit(struct team_trace *trace, struct span name, struct span value, int64_t at_ms);
/* FX_MODEL number `call`: its request and labels as the machine gave them. */
void   team_trace_call(struct team_trace *trace, uint32_t call, struct span request, struct span labels, int64_t at_ms);
/* The call is made again after a crash, or after an error that is worth another try. */
void   team_trace_call_again(struct team_trace *trace, uint32_t call, int64_t at_ms);
/* One chunk of a streaming call, also an empty one. */
void   team_trace_chunk(struct team_trace *trace, uint32_t call, struct span text, int64_t at_ms);
void   team_trace_answer(struct team_trace *trace, uint32_t call, struct jv answer, int64_t at_ms);
void   team_trace_call_failed(struct team_trace *trace, uint32_t call);
/* FX_TOOL number `index` of that call: arguments and context as the machine gave them; and what came of it: {"type":"success",
 * "output","metadata"?} or {"type":"error","error":{…},"metadata"?} (tools.h). */
void   team_trace_tool(struct team_trace *trace, uint32_t call, uint32_t index, struct span input, struct span context,
                       int64_t at_ms);
void   team_trace_tool_end(struct team_trace *trace, uint32_t call, uint32_t index, struct span outcome, int64_t at_ms);

/* ---- what it amounts to ---- */

/* The request as the provider sees it: {"messages","metadata","temperature"} with the run id put in. Canonical. */
struct span team_request(const struct team_trace *trace, struct span request);
/* The id of a tool call with that context (callId, or run id and number). */
struct span team_tool_call_id(struct span run_id, struct jv context, struct arena *arena);
/* Only after `final`. */
void team_trace_to_json(const struct team_trace *trace, struct jw *w);
/* RunResult (teams.md 5.1). Only after `final`. */
void team_result_to_json(const struct team_trace *trace, struct jw *w);
