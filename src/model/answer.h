/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h - the answer of a model while it comes in, and its provider-neutral form (inner header of src/model).
 *
 * Bounds: TOOL_CALLS_MAX calls; whoever adds text counts it (model_http.h). */
#pragma once
#include "base/json.h"

enum { TOOL_CALLS_MAX = 128 };

struct tool_call {
    struct buf id, name, arguments;
};

/* Disjoint: what was read from the cache is not in input, what was thought not in output. */
struct usage {
    bool    known;
    int64_t input, cache_read, cache_write, output, reasoning; /* tokens, from 0 */
};

struct answer {
    struct buf        text, reasoning, model, response_id;
    struct buf        state;  /* provider_state: a JSON value, or empty */
    const char       *finish; /* one of model.h's, or NULL: not told yet */
    struct usage      usage;
    struct tool_call *tools;  /* TOOL_CALLS_MAX of them once there is one */
    size_t            tool_count;
};

void answer_done(struct answer *answer);
/* NULL when the index is out of range. */
struct tool_call *answer_tool(struct answer *answer, int64_t index);
/* Keeps the first text that is not empty, at most `max` bytes of it. */
void answer_set_once(struct buf *buf, struct span text, size_t max);
/* As OpenAI counts: `input` includes what the cache gave and took, `output` what was thought. Negative: not told. */
struct usage_totals {
    int64_t input, cached, written, output, reasoning;
};
/* Untouched when input or output were not told. */
void usage_from_totals(struct usage *usage, struct usage_totals totals);
void usage_to_json(const struct usage *usage, struct jw *w);
/* Every call has a name; one without an id gets one from the response's id and its place. */
bool answer_tools_complete(struct answer *answer);
void answer_to_json(const struct answer *answer, struct buf *out);
