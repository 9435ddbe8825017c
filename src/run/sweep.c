/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.c - what outlived its time leaves the store: idempotency keys, a day after their answer and not before their run ended
 * (agent-runs.md 2.7), and values of tools. Looked up on the reader thread, removed in the turn's batch, a bounded number at a time. */
#include "run/inner.h"
#include <stdlib.h>

enum { SWEEP_EVERY_US = 60 * 1000000, SWEEP_SOON_US = 200000, SWEEP_MAX = 2000 };

struct sweep {
    struct read_job job;
    struct engine  *engine;
    int64_t         now_ms;
    size_t          count, over;
    struct idem_row rows[SWEEP_MAX]; /* keys only; in the end those that are over */
    size_t          values;
    struct kv_row   kv[SWEEP_MAX];   /* keys only, in the arena */
    struct arena    arena;
};

static bool collect_value(void *user, const void *row)
{
    struct sweep        *sweep = user;
    const struct kv_row *kv = row;
    struct kv_row       *to = &sweep->kv[sweep->values];
    *to = (struct kv_row){ .workspace = kv->workspace, .handle = kv->handle, .key = arena_copy(&sweep->arena, kv->key),
                           .expires_ms = kv->expires_ms };
    return ++sweep->values < SWEEP_MAX;
}

static bool collect(void *user, const void *row)
{
    struct sweep          *sweep = user;
    const struct idem_row *idem = row;
    sweep->rows[sweep->count] = *idem;
    sweep->rows[sweep->count].answer = SPAN_NONE;
    return ++sweep->count < SWEEP_MAX;
}

/* Keys of other things than runs name no run: nothing holds them. */
static bool goes_on(struct reader *reader, const struct idem_row *idem)
{
    struct run_row run = { .workspace = idem->workspace, .id = idem->target };
    return !reader_get(reader, TABLE_run, &run) && !run_terminal((enum run_status)run.status);
}

static void sweep_run(struct read_job *job, struct reader *reader)
{
    struct sweep *sweep = CONTAINER(job, struct sweep, job);
    struct arena  arena = { 0 };
    struct query  query = { .table = TABLE_idem, .cmp_count = 1, .order_column = "expires_ms", .limit = SWEEP_MAX };
    query.cmp[0].column = "expires_ms";
    query.cmp[0].op = "<";
    query.cmp[0].i64 = sweep->now_ms;
    if (!reader_begin(reader, &arena)) {
        (void)reader_query(reader, &query, collect, sweep);
        for (size_t i = 0; i < sweep->count; i++)
            if (!goes_on(reader, &sweep->rows[i]))
                sweep->rows[sweep->over++] = sweep->rows[i];
        struct query values = { .table = TABLE_kv, .cmp_count = 2, .order_column = "expires_ms", .limit = SWEEP_MAX };
        values.cmp[0].column = values.cmp[1].column = "expires_ms";
        values.cmp[0].op = ">";
        values.cmp[1].op = "<=";
        values.cmp[1].i64 = sweep->now_ms;
        (void)reader_query(reader, &values, collect_value, sweep);
        reader_end(reader);
    }
    arena_done(&arena);
}

static void sweep_done(struct read_job *job)
{
    struct sweep  *sweep = CONTAINER(job, struct sweep, job);
    struct engine *engine = sweep->engine;
    bool           more = sweep->over == SWEEP_MAX || sweep->values == SWEEP_MAX;
    if (!engine_ready(engine, NULL)) {
        for (size_t i = 0; i < sweep->over; i++)
            batch_delete(engine_batch(engine), TABLE_idem, &sweep->rows[i]);
        local_expire(engine, sweep->kv, sweep->values);
        loop_timer_set(&engine->sweep, loop_now_us(engine->config.loop) + (more ? SWEEP_SOON_US : SWEEP_EVERY_US));
    }
    arena_done(&sweep->arena);
    free(sweep);
}

static void sweep_fire(struct loop_timer *timer)
{
    struct engine *engine = CONTAINER(timer, struct engine, sweep);
    struct sweep  *sweep = mem_alloc(sizeof *sweep);
    sweep->job.run = sweep_run;
    sweep->job.done = sweep_done;
    sweep->engine = engine;
    sweep->now_ms = engine_now_ms(engine);
    store_read(engine->config.store, &sweep->job);
}

void sweep_start(struct engine *engine)
{
    loop_timer_init(&engine->sweep, engine->config.loop, sweep_fire);
    loop_timer_set(&engine->sweep, engine->env->mono_us(engine->env) + SWEEP_EVERY_US);
}
