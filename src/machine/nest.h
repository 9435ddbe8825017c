/* SPDX-License-Identifier: Apache-2.0 */
/* nest.h - a machine inside a machine (model.md 7.2): an agent or a team as a node of a graph, an agent as the tool of another.
 *
 * The outermost machine of a run is always a graph: it alone asks for FX_NODE, FX_CHECKPOINT, and the run's FX_FINISH and
 * FX_FAIL. An inner machine knows nothing of where it stands: its paths begin at itself, its FX_FINISH and FX_FAIL end it and
 * not the run, and it never asks for FX_NODE or FX_CHECKPOINT. The parent keeps it as a member of its own state, hands it the
 * inputs below its path, and puts its path and its node in front of what the inner one asks for.
 *
 * An inner machine gets IN_START with {"input":…?,"values":{…}} first. Another IN_START, maybe after a load, is a new attempt:
 * nothing it had asked for is in flight any more, its paths stand below another prefix, and it goes on at its last complete
 * step, also when it had failed. It shares the parent's arenas. */
#pragma once
#include "machine/machine.h"

static inline struct op_path op_join(struct op_path prefix, const struct op_path *path)
{
    for (unsigned i = 0; i < path->n; i++)
        prefix = op_sub(prefix, path->v[i]);
    return prefix;
}

/* `path` without its first `n` parts. */
static inline struct op_path op_below(const struct op_path *path, unsigned n)
{
    struct op_path ret = { .n = (uint8_t)(path->n - n) };
    memcpy(ret.v, path->v + n, ret.n * sizeof ret.v[0]);
    return ret;
}

/* The kind in the table that `plan` was given, or NULL. */
static inline const struct machine_ops *nest_kind(const struct plan *plan, const char *kind)
{
    for (const struct machine_ops *const *ops = plan->kinds; ops && *ops; ops++)
        if (strcmp((*ops)->kind, kind) == 0)
            return *ops;
    return NULL;
}

enum nest_end { NEST_RUNS, NEST_FINISHED, NEST_FAILED };
struct nest_result {
    enum nest_end end;
    struct span   output, values; /* of FX_FINISH; values empty: unchanged */
    struct span   error;          /* of FX_FAIL */
};

/* Steps the inner machine that stands at `prefix`, in the node `node`. `in` carries the parent's path (or none, for IN_START
 * and IN_MESSAGE). Its effects are added to `out`, except its end, which comes back in *ret. */
static inline enum err nest_step(const struct machine_ops *ops, struct machine *inner, const struct input *in,
                                 struct op_path prefix, struct span node, struct effects *out, struct nest_result *ret)
{
    struct input own = *in;
    size_t       first = out->count, kept = first;
    own.op = in->kind == IN_START || in->kind == IN_MESSAGE ? (struct op_path){ 0 } : op_below(&in->op, prefix.n);
    *ret = (struct nest_result){ .end = NEST_RUNS };
    enum err err = ops->step(inner, &own, out);
    for (size_t i = first; i < out->count; i++) {
        struct effect fx = out->items[i];
        assert(fx.kind != FX_NODE && fx.kind != FX_CHECKPOINT);
        if (fx.kind == FX_FINISH)
            *ret = (struct nest_result){ .end = NEST_FINISHED, .output = fx.finish.output, .values = fx.finish.values };
        else if (fx.kind == FX_FAIL)
            *ret = (struct nest_result){ .end = NEST_FAILED, .error = fx.fail.error };
        else {
            fx.op = op_join(prefix, &fx.op);
            fx.node = node;
            out->items[kept++] = fx;
        }
    }
    out->count = kept;
    return err;
}
