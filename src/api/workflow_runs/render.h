/* SPDX-License-Identifier: Apache-2.0 */
/* render.h - records as workflow events (workflow-runs.md 4, model.md 4): NDJSON lines and SSE frames. Pure.
 *
 * A record is 0 to 3 workflow events, as its flags say; they are numbered by the count of those before it. Nothing but the
 * record and what is constant in its attempt is needed to spell them, so that every reader gets the same bytes. */
#pragma once
#include "api/call.h"
#include "ledger/follow.h"

/* What all events of an attempt share. */
struct flow_ref {
    struct uuid run, attempt;
    char        plan_hash[65]; /* lower-case hex, NUL behind it */
    uint64_t    base;          /* workflow events of the attempts before this one */
    bool        outputs;       /* artifacts have their payload, unless it is large */
    bool        subnodes;      /* items of a fan-out are nodes with names of their own; what they add has the number of the event before */
};
struct flow_ref flow_ref_make(const struct run_row *row, struct uuid attempt, uint64_t base);

/* The id of an llm call: the same UUID as its operation on every other surface. */
struct uuid flow_request_id(const struct flow_ref *ref, uint32_t op);
/* Of a node name "fan:sub:2" the node of the plan: "fan". */
struct span flow_node(struct span name);
/* JSON text with every character beyond ASCII as \uXXXX (1.8). */
void flow_ascii(struct span json, struct buf *out);
/* {"artifact_key":…,"info":{…}}: size and hash of the value's canonical JSON; included: and the value, up to 1 MiB. */
void flow_artifact(struct jw *w, const char *key, struct span json, bool included);

/* Calls `line` for each event of the record whose number is greater than `after`: its number, its type and its JSON, ASCII, without
 * a line end. */
void flow_events(const struct flow_ref *ref, const struct record *record, uint64_t after,
                 void (*line)(void *user, uint64_t seq, const char *type, struct span json), void *user);

/* The format whose flow_refs have these members. */
const struct wire_format *workflow_format(bool sse, bool outputs, bool subnodes);
