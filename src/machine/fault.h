/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - the error object of agent-runs.md 3.2 in parts, for machines that fail a node or a run. */
#pragma once
#include "base/err.h"
#include "base/json.h"

struct fault {
    struct span code, category, message, source;
    struct span provider_code; /* JSON, or empty */
    bool retryable;
};

/* One of the categories of agent-runs.md 3.2, as a JSON string. */
bool fault_is_category(struct jv v);
/* The error object that came with a failure of this class; what it does not say follows from the class, and `source` is where
 * it came from. Texts stay in `error` or are made in the arena. */
struct fault fault_told(enum err err, struct span error, const char *source, struct arena *arena);
/* Writes the error object; `node` may be empty. */
void fault_to_json(const struct fault *fault, struct span node, struct buf *out);
