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
    receipts_free(&b->run);
    free(b->run.ops);
    free(b->run.steps);
    free(b->run.effects.items);
    arena_done(&b->run.effects_arena);
    arena_done(&b->run.texts);
    buf_done(&b->engine.scratch);
    buf_done(&b->engine.scratch_priv);
    arena_done(&b->engine.turn);
    free(b);
}

/* Folds up to the checkpoint. What the machine did behind it is not in the records given, so that is no divergence. */
static enum err bench_fold(struct bench *b, struct reader *reader, struct fold *fold)
{
    b->run.plan = plan_load(&b->engine, reader, b->run.row.plan);
    enum err e = b->run.plan ? fold_ledger(&b->run, reader, fold) : ERR_CORRUPT;
    return fold->hashed.p ? ERR_OK : e ? e : ERR_CHECKPOINT_NOT_FOUND;
}

enum err checkpoint_read(const struct engine *engine, struct reader *reader, const struct run_row *row, uint64_t seq,
                         struct arena *arena, struct span *ret_hashed)
{
    struct bench *b = bench_new(engine, row);
    struct fold   fold = { .arena = arena, .until = seq };
    enum err      e = bench_fold(b, reader, &fold);
    if (!e)
        *ret_hashed = fold.hashed;
    bench_free(b);
    return e;
}

/* A timer of a node that is not at work: it waits for its next try. */
static bool is_between_tries(struct run *run)
{
    for (const struct timer *t = run->timers; t; t = t->next) {
        struct op_path node = t->path;
        node.n--;
        if (node.n && !run_op(run, &node))
            return true;
    }
    return false;
}

enum err checkpoint_cut(const struct engine *engine, struct reader *reader, const struct run_row *row, uint64_t seq, struct arena *arena,
                        struct cut *ret)
{
    struct bench *b = bench_new(engine, row);
    struct fold   fold = { .arena = arena, .until = seq, .cut = true };
    struct buf    saved = { 0 };
    enum err      e = bench_fold(b, reader, &fold);
    if (!e)
        e = b->run.plan->ops->save(b->run.machine, &saved);
    if (!e)
        *ret = (struct cut){ .saved = arena_copy(arena, buf_view(&saved)), .hashed = fold.hashed,
                             .between_tries = is_between_tries(&b->run) };
    buf_done(&saved);
    bench_free(b);
    return e;
}
