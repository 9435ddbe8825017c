/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c - what a checkpoint holds: the ledger up to it, folded once more (model.md D10: a checkpoint is a marker).
 *
 * This runs on any thread. The fold only ever touches its run and a few buffers of the engine, so it is given both: a run that
 * nobody else knows, and an engine that is nothing but those buffers. */
#include "run/inner.h"
#include <stdlib.h>

struct bench {
    struct engine engine;
    struct run    run;
};

static struct bench *bench_new(const struct engine *engine, const struct run_row *row)
{
    struct bench *b = mem_alloc(sizeof *b);
    b->engine.config.machines = engine->config.machines;
    b->engine.env = engine->env;
    b->run.engine = &b->engine;
    b->run.inbox_tail = &b->run.inbox;
    b->run.row = *row;
    b->run.row.started_ms = 0; /* how long it took is not asked for */
    return b;
}

static void bench_free(struct bench *b)
{
    run_reset_machine(&b->run);
    plan_free(b->run.plan);
    free(b->run.ops);
    free(b->run.effects.items);
    arena_done(&b->run.effects_arena);
    arena_done(&b->run.texts);
    buf_done(&b->engine.scratch);
    buf_done(&b->engine.scratch_priv);
    arena_done(&b->engine.turn);
    free(b);
}

enum err checkpoint_read(const struct engine *engine, struct reader *reader, const struct run_row *row, uint64_t seq,
                         struct arena *arena, struct span *ret_hashed)
{
    struct bench *b = bench_new(engine, row);
    struct fold   fold = { .arena = arena, .until = seq };
    b->run.plan = plan_load(engine, reader, row->plan);
    enum err e = b->run.plan ? fold_ledger(&b->run, reader, &fold) : ERR_CORRUPT;
    if (fold.hashed.p) { /* what the machine did behind it is not in the records given: no divergence */
        *ret_hashed = fold.hashed;
        e = ERR_OK;
    } else if (!e) {
        e = ERR_CHECKPOINT_NOT_FOUND;
    }
    bench_free(b);
    return e;
}
