/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - runs in RAM: how they come, how they are written once per turn, and how they leave. */
#include "run/inner.h"
#include <stdlib.h>

/* ---- rows ---- */

/* The spans of a run row that belong to the run. */
static struct span *const *row_texts(struct run_row *row, struct span *out[5])
{
    out[0] = &row->input;
    out[1] = &row->output;
    out[2] = &row->error;
    out[3] = &row->prompt;
    out[4] = &row->cancel_reason;
    return out;
}

void run_texts_copy(struct arena *arena, struct run_row *row)
{
    struct span *texts[5];
    row_texts(row, texts);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i]->p)
            *texts[i] = arena_copy(arena, *texts[i]);
}

void run_row_own(struct run *run, const struct run_row *row)
{
    run->row = *row;
    run_texts_copy(&run->texts, &run->row);
}

void run_row_view(const struct run *run, struct run_row *ret)
{
    *ret = run->row;
    ret->last_seq = (int64_t)stream_head(run->stream);
    run_texts_copy(&run->engine->turn, ret);
}

void run_text(struct run *run, struct span *member, struct span value)
{
    struct span kept = redact_json(run->engine->config.redact, value, &run->engine->turn);
    *member = value.p ? arena_copy(&run->texts, kept) : SPAN_NONE;
}

void run_dirty(struct run *run)
{
    if (run->dirty || run->fold)
        return;
    run->dirty = true;
    run->dirty_next = run->engine->dirty_runs;
    run->engine->dirty_runs = run;
    engine_touch(run->engine);
}

void run_ready(struct run *run)
{
    if (run->ready || run->gone)
        return;
    run->ready = true;
    run->ready_next = NULL;
    *run->engine->ready_tail = run;
    run->engine->ready_tail = &run->ready_next;
    engine_touch(run->engine);
}

static void run_drop(struct run *run)
{
    if (run->gone && !run->inflight && !run->dirty && !run->ready)
        run_forget(run);
}

static void row_committed(void *arg, enum err err)
{
    struct run *run = arg;
    (void)err;
    run->inflight--;
    run_drop(run);
}

void run_rows_seal(struct engine *engine)
{
    while (engine->dirty_runs) {
        struct run *run = engine->dirty_runs;
        engine->dirty_runs = run->dirty_next;
        run->dirty = false;
        stat_nodes_open(run);
        /* The fat row changes at transitions only; a turn that brought nothing but events leaves it alone. */
        if (run->row_stale) {
            run->row_stale = false;
            batch_put(engine_batch(engine), TABLE_run, &run->row);
        }
        run->inflight++;
        batch_after(engine_batch(engine), row_committed, run);
    }
}

/* ---- RAM ---- */

struct run *run_find(struct engine *engine, struct uuid workspace, struct uuid id)
{
    struct run *run = uuid_map_get(&engine->runs, id);
    return run && !run->gone && uuid_eq(run->row.workspace, workspace) ? run : NULL;
}

struct run *run_new(struct engine *engine, const struct run_row *row)
{
    struct run *run = mem_alloc(sizeof *run);
    run->engine = engine;
    run->inbox_tail = &run->inbox;
    run_row_own(run, row);
    loop_timer_init(&run->wake, engine->config.loop, run_wake_fire);
    struct stream_place place = { .last_ms = row->created_ms };
    run->stream = stream_open(engine->ledger, (uint64_t)row->stream, &place);
    uuid_map_put(&engine->runs, row->id, run);
    engine->stats.runs_live++;
    return run;
}

void run_new_stream(struct run *run)
{
    struct stream_place place = { .last_ms = stream_now_ms(run->stream) };
    stream_unref(run->stream);
    run->row.stream = (int64_t)engine_new_stream(run->engine);
    run->stream = stream_open(run->engine->ledger, (uint64_t)run->row.stream, &place);
    run->row.last_seq = run->row.checkpoint_seq = 0;
}

static void free_list(void *first)
{
    for (void **node = first, *next; node; node = next) { /* every list node begins with its next */
        next = *node;
        free(node);
    }
}

void run_reset_machine(struct run *run)
{
    inflight_cancel_under(run, &(struct op_path){ 0 });
    tool_abort_under(run, &(struct op_path){ 0 });
    free_list(TAKE(run->timers));
    free_list(TAKE(run->children));
    free_list(TAKE(run->waits));
    run->machine = NULL;
    run->op_count = run->op_next = run->step_count = 0;
    run->finished = (struct op){ 0 };
    run->effects.count = 0;
    run->records_since_snapshot = 0;
    arena_done(&run->machine_arena);
    arena_done(&run->host_arena);
}

void run_forget(struct run *run)
{
    struct engine *engine = run->engine;
    if (uuid_map_get(&engine->runs, run->row.id) == run)
        uuid_map_del(&engine->runs, run->row.id);
    loop_timer_clear(&run->wake);
    run_reset_machine(run);
    free_list(TAKE(run->inbox));
    replay_free(run);
    receipts_free(run);
    free(run->steps);
    stream_unref(run->stream);
    thread_unref(run->thread);
    free(run->ops);
    free(run->effects.items);
    arena_done(&run->effects_arena);
    arena_done(&run->texts);
    engine->stats.runs_live--;
    free(run);
}

/* Parked runs with a due time leave a timer behind, in RAM and as a row. */
void run_leave(struct run *run)
{
    struct engine *engine = run->engine;
    run->gone = true;
    run_dirty(run);
    loop_timer_clear(&run->wake);
    if (run_terminal((enum run_status)run->row.status)) {
        parked_forget(engine, run->row.id);
        return;
    }
    engine->stats.runs_parked++;
    int64_t due = 0;
    for (const struct open_wait *w = run->waits; w; w = w->next)
        if (w->row.expires_ms && (!due || w->row.expires_ms < due))
            due = w->row.expires_ms;
    if (!due)
        return;
    struct timer_row row = { .due_ms = due, .workspace = run->row.workspace, .run = run->row.id };
    batch_put(engine_batch(engine), TABLE_timer, &row);
    parked_load(engine, run->row.workspace, run->row.id, due);
}

enum err run_load(struct engine *engine, struct uuid workspace, struct uuid id, struct run **ret, struct run_row *ret_row,
                  struct error *error)
{
    struct run *run = uuid_map_get(&engine->runs, id);
    if (run && !uuid_eq(run->row.workspace, workspace))
        return error_set(error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    if (run && !run->gone) {
        *ret = run;
        return ERR_OK;
    }
    if (run && run_terminal((enum run_status)run->row.status)) {
        run_row_view(run, ret_row);
        return ERR_INVALID_RUN_STATE;
    }
    if (run) { /* parked, its commit is still on its way: it need not leave */
        run->gone = false;
        engine->stats.runs_parked--;
        parked_forget(engine, id);
        *ret = run;
        return ERR_OK;
    }
    return run_unpark(engine, workspace, id, ret, ret_row, error);
}

void run_move(struct run *run, enum run_input input)
{
    enum run_status to = RUN_PENDING;
    bool            legal = run_edge((enum run_status)run->row.status, input, &to);
    assert(legal);
    run->engine->stats.now[run->row.status]--;
    run->engine->stats.now[to]++;
    run->row.status = to;
    run->row.updated_ms = stream_now_ms(run->stream); /* here, so that every answer of this turn shows what the row will */
    run->row_stale = true;
    run->engine->stats.by_status[to]++;
    run_dirty(run);
}

/* ---- time ---- */

uint64_t run_elapsed_us(struct run *run)
{
    uint64_t mono = run->engine->env->mono_us(run->engine->env);
    uint64_t now = run->elapsed_base_us + (mono > run->mono_base_us ? mono - run->mono_base_us : 0);
    return now > run->now_us ? now : run->now_us;
}

void run_set_elapsed(struct run *run, uint64_t elapsed_us)
{
    run->elapsed_base_us = elapsed_us;
    run->now_us = elapsed_us;
    run->mono_base_us = run->engine->env->mono_us(run->engine->env);
}

/* The run's own time limit counts what it does, not how long people think. */
static uint64_t timeout_us(const struct run *run)
{
    if (!run->plan || !run->plan->run_timeout_us || run->row.status != RUN_ACTIVE || replay_is_strict(run))
        return 0; /* what a strict replay is fed has the times of its source */
    return run->plan->run_timeout_us + (uint64_t)run->row.waited_ms * 1000;
}

void run_arm(struct run *run)
{
    if (run->wake_retry_us)
        return;
    uint64_t due = timeout_us(run);
    for (const struct timer *t = run->timers; t; t = t->next)
        if (!due || t->due_us < due)
            due = t->due_us ? t->due_us : 1;
    for (const struct inflight *c = run->calls; c; c = c->next)
        if (c->lost && (!due || c->due_us < due))
            due = c->due_us ? c->due_us : 1;
    for (const struct open_wait *w = run->waits; w; w = w->next)
        if (w->expires_us && (!due || w->expires_us < due))
            due = w->expires_us;
    if (!due)
        loop_timer_clear(&run->wake);
    else
        loop_timer_set(&run->wake, run->mono_base_us + (due > run->elapsed_base_us ? due - run->elapsed_base_us : 0));
}

void run_wake_fire(struct loop_timer *timer)
{
    struct run *run = CONTAINER(timer, struct run, wake);
    uint64_t    now = run_elapsed_us(run), limit = timeout_us(run);
    if (limit && now >= limit) {
        run->now_us = now;
        run_fail_code(run, "run_timeout", "timeout", false, "the run took longer than its run_timeout_ms");
        return;
    }
    inflight_due(run);
    for (const struct timer *t = run->timers; t; t = t->next)
        if (t->due_us <= now)
            run_input(run, &(struct pending_input){ .kind = IN_TIMER, .path = t->path });
    for (const struct open_wait *w = run->waits; w; w = w->next)
        if (w->expires_us && w->expires_us <= now)
            run_input(run, &(struct pending_input){ .kind = IN_ANSWER, .err = ERR_EXPIRED, .path = w->path, .op = (uint32_t)w->row.op,
                                                    .node = w->row.node, .wait = w->row.id });
    run_ready(run);
}

/* ---- runs that left memory with a due time ---- */

enum { PARKED_AGAIN_US = 1000000 };

static void parked_fire(struct loop_timer *timer)
{
    struct parked *parked = CONTAINER(timer, struct parked, timer);
    struct engine *engine = parked->engine;
    struct run    *run = NULL;
    struct run_row row;
    struct uuid    workspace = parked->workspace, id = parked->run;
    if (engine_ready(engine, NULL)) { /* its row stays: the next start, or a database that is back, finds it due */
        loop_timer_set(timer, engine->env->mono_us(engine->env) + PARKED_AGAIN_US);
        return;
    }
    parked_forget(engine, id);
    if (run_load(engine, workspace, id, &run, &row, NULL))
        return;
    run_wake_fire(&run->wake);
}

void parked_load(struct engine *engine, struct uuid workspace, struct uuid id, int64_t due_ms)
{
    struct parked *parked = mem_alloc(sizeof *parked);
    parked->engine = engine;
    parked->workspace = workspace;
    parked->run = id;
    parked->due_ms = due_ms;
    loop_timer_init(&parked->timer, engine->config.loop, parked_fire);
    int64_t in_ms = due_ms - engine->env->wall_ms(engine->env);
    loop_timer_set(&parked->timer, engine->env->mono_us(engine->env) + (in_ms > 0 ? (uint64_t)in_ms * 1000 : 0));
    uuid_map_put(&engine->parked, id, parked);
}

void parked_forget(struct engine *engine, struct uuid id)
{
    struct parked *parked = uuid_map_del(&engine->parked, id);
    if (!parked)
        return;
    struct timer_row row = { .due_ms = parked->due_ms, .workspace = parked->workspace, .run = id };
    batch_delete(engine_batch(engine), TABLE_timer, &row);
    engine_touch(engine);
    loop_timer_clear(&parked->timer);
    free(parked);
}
