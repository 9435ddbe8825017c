/* SPDX-License-Identifier: Apache-2.0 */
/* threads.c - a thread is the slot that its runs take one after the other, and the values they leave (agent-runs.md 4.5).
 *
 * A thread is in RAM while one of its runs is, or while something of it is on its way to disk: so a thread that is read from
 * the store is never older than what was promised about it. */
#include "run/inner.h"
#include <stdlib.h>

/* Thread states; the numbers are stored. */
enum { THREAD_IDLE, THREAD_ERROR };

static void own_texts(struct thread *thread)
{
    thread->row.values_json = arena_copy(&thread->texts, thread->row.values_json);
    thread->row.metadata = arena_copy(&thread->texts, thread->row.metadata);
    thread->row.channel = SPAN_NONE;
    thread->row.owner_node = SPAN_NONE;
}

static struct thread *thread_add(struct engine *engine, const struct thread_row *row)
{
    struct thread *thread = mem_alloc(sizeof *thread);
    thread->engine = engine;
    thread->row = *row;
    thread->refs = 1;
    own_texts(thread);
    uuid_map_put(&engine->threads, row->id, thread);
    engine->stats.threads_live++;
    return thread;
}

void thread_forget(struct thread *thread)
{
    uuid_map_del(&thread->engine->threads, thread->row.id);
    thread->engine->stats.threads_live--;
    arena_done(&thread->texts);
    free(thread->pending);
    free(thread);
}

static void thread_drop(struct thread *thread)
{
    if (!thread->refs && !thread->inflight && !thread->dirty)
        thread_forget(thread);
}

void thread_unref(struct thread *thread)
{
    if (!thread)
        return;
    assert(thread->refs > 0);
    thread->refs--;
    thread_drop(thread);
}

static bool add_pending(void *user, const void *row)
{
    struct buf           *ids = user;
    const struct run_row *run = row;
    buf_put(ids, &run->id, sizeof run->id);
    return true;
}

/* A thread that comes back from the store brings its waiting runs along, oldest first. */
static void load_pending(struct thread *thread, struct reader *reader)
{
    struct query query = { .table = TABLE_run, .eq_count = 2, .order_column = "id", .limit = -1 };
    query.eq[0].column = "thread";
    query.eq[0].uuid = thread->row.id;
    query.eq[1].column = "status";
    query.eq[1].i64 = RUN_PENDING;
    struct buf ids = { 0 };
    if (!reader_query(reader, &query, add_pending, &ids)) {
        size_t count = ids.len / sizeof(struct uuid);
        for (size_t i = 0; i < count; i++) {
            struct uuid    id = ((struct uuid *)(void *)ids.p)[i];
            struct run_row row = { .workspace = thread->row.workspace, .id = id };
            if (!run_find(thread->engine, row.workspace, id) && !reader_get(reader, TABLE_run, &row)) {
                struct run *run = run_new(thread->engine, &row);
                thread_enter(thread, run);
            }
        }
    }
    buf_done(&ids);
}

struct thread *thread_get(struct engine *engine, struct uuid workspace, struct uuid id)
{
    struct thread *thread = uuid_map_get(&engine->threads, id);
    if (thread) {
        if (!uuid_eq(thread->row.workspace, workspace) || thread->deleted)
            return NULL;
        thread->refs++;
        return thread;
    }
    struct thread_row row = { .workspace = workspace, .id = id };
    if (engine_read_begin(engine))
        return NULL;
    if (!reader_get(engine_reader(engine), TABLE_thread, &row)) {
        thread = thread_add(engine, &row);
        if (row.pending)
            load_pending(thread, engine_reader(engine));
    }
    engine_read_end(engine);
    return thread;
}

struct thread *thread_make(struct engine *engine, struct uuid tenant, struct uuid workspace, struct uuid agent, bool implicit)
{
    int64_t           now = engine_now_ms(engine);
    struct thread_row row = { .workspace = workspace, .id = engine_mint(engine), .tenant = tenant, .agent = agent,
                              .implicit = implicit, .values_json = SPAN("{}"), .metadata = SPAN("{}"),
                              .owner_epoch = (int64_t)store_epoch(engine->config.store), .created_ms = now, .updated_ms = now };
    struct thread *thread = thread_add(engine, &row);
    thread_dirty(thread);
    return thread;
}

void thread_dirty(struct thread *thread)
{
    /* Here and not when the row is written: an answer made in this turn shows the time that the row will have. */
    thread->row.updated_ms = engine_now_ms(thread->engine);
    if (thread->dirty)
        return;
    thread->dirty = true;
    thread->dirty_next = thread->engine->dirty_threads;
    thread->engine->dirty_threads = thread;
    engine_touch(thread->engine);
}

static void row_committed(void *arg, enum err err)
{
    struct thread *thread = arg;
    (void)err;
    thread->inflight--;
    thread_drop(thread);
}

void thread_rows_seal(struct engine *engine)
{
    while (engine->dirty_threads) {
        struct thread *thread = engine->dirty_threads;
        engine->dirty_threads = thread->dirty_next;
        thread->dirty = false;
        thread->row.pending = (int64_t)thread->pending_count;
        if (thread->deleted)
            batch_delete(engine_batch(engine), TABLE_thread, &thread->row);
        else
            batch_put(engine_batch(engine), TABLE_thread, &thread->row);
        thread->inflight++;
        batch_after(engine_batch(engine), row_committed, thread);
    }
}

/* It neither reads nor writes the thread's values, so it waits for nobody. */
static bool run_slotless(const struct run *run)
{
    return run->row.source == SOURCE_WORKFLOW || run->row.source == SOURCE_SESSION;
}

bool thread_enter(struct thread *thread, struct run *run)
{
    run->thread = thread;
    thread->refs++;
    if (run_slotless(run))
        return true;
    if (uuid_is_nil(thread->row.active_run) || uuid_eq(thread->row.active_run, run->row.id)) {
        thread->row.active_run = run->row.id;
        return true;
    }
    if (thread->pending_count == thread->pending_cap) {
        thread->pending_cap = thread->pending_cap ? thread->pending_cap * 2 : 4;
        thread->pending = mem_grow(thread->pending, thread->pending_cap * sizeof(struct run *));
    }
    /* By id, which is the order of creation: what was retried stands where it stood, and a restart finds the same order. */
    size_t at = thread->pending_count++;
    for (; at > 0 && memcmp(thread->pending[at - 1]->row.id.b, run->row.id.b, sizeof run->row.id.b) > 0; at--)
        thread->pending[at] = thread->pending[at - 1];
    thread->pending[at] = run;
    return false;
}

static void leave_queue(struct thread *thread, const struct run *run)
{
    size_t kept = 0;
    for (size_t i = 0; i < thread->pending_count; i++)
        if (thread->pending[i] != run)
            thread->pending[kept++] = thread->pending[i];
    thread->pending_count = kept;
}

void thread_exit(struct thread *thread, struct run *run, struct span values, bool failed)
{
    if (run_slotless(run))
        return;
    if (values.n) {
        struct arena old = thread->texts;
        thread->texts = (struct arena){ 0 };
        thread->row.values_json = redact_json(run->engine->config.redact, values, &run->engine->turn);
        own_texts(thread);
        arena_done(&old);
    }
    thread_dirty(thread);
    if (!uuid_eq(thread->row.active_run, run->row.id)) {
        leave_queue(thread, run);
        return;
    }
    thread->row.active_run = (struct uuid){ 0 };
    thread->row.last_run = run->row.id;
    thread->row.state = failed ? THREAD_ERROR : THREAD_IDLE;
    if (run->row.checkpoint_seq)
        thread->row.head_checkpoint = checkpoint_id(run->row.attempt, (uint64_t)run->row.checkpoint_seq);
    if (!thread->pending_count)
        return;
    struct run *next = thread->pending[0];
    leave_queue(thread, next);
    thread->row.active_run = next->row.id;
    run_move(next, RUN_PROMOTE);
    run_dirty(next);
    run_ready(next);
}

struct uuid thread_create(struct engine *engine, struct uuid tenant, struct uuid workspace, struct span metadata, struct span values,
                          struct thread_row *ret_row)
{
    struct thread *thread = thread_make(engine, tenant, workspace, (struct uuid){ 0 }, false);
    if (metadata.n)
        thread->row.metadata = arena_copy(&thread->texts, redact_json(engine->config.redact, metadata, &engine->turn));
    if (values.n)
        thread->row.values_json = arena_copy(&thread->texts, redact_json(engine->config.redact, values, &engine->turn));
    *ret_row = thread->row;
    struct uuid id = thread->row.id;
    thread_unref(thread); /* stays until its row is on disk */
    return id;
}

/* ---- as resources ---- */

static enum err found(struct thread *thread, struct error *error)
{
    return thread ? ERR_OK : error_set(error, ERR_THREAD_NOT_FOUND, "", "no such thread in this workspace");
}

static void view(struct engine *engine, const struct thread *thread, struct thread_row *ret)
{
    *ret = thread->row;
    ret->values_json = arena_copy(&engine->turn, ret->values_json);
    ret->metadata = arena_copy(&engine->turn, ret->metadata);
}

enum err thread_read(struct engine *engine, struct uuid workspace, struct uuid id, struct thread_row *ret_row, struct error *error)
{
    struct thread *thread = thread_get(engine, workspace, id);
    enum err       e = found(thread, error);
    if (!e)
        view(engine, thread, ret_row);
    thread_unref(thread);
    return e;
}

enum err thread_set_metadata(struct engine *engine, struct uuid workspace, struct uuid id, struct span metadata,
                             struct thread_row *ret_row, struct error *error)
{
    struct thread *thread = thread_get(engine, workspace, id);
    if (!thread)
        return found(thread, error);
    struct span  kept = arena_copy(&engine->turn, redact_json(engine->config.redact, metadata, &engine->turn));
    struct arena old = thread->texts;
    thread->texts = (struct arena){ 0 };
    thread->row.metadata = kept;
    own_texts(thread);
    arena_done(&old);
    thread_dirty(thread);
    view(engine, thread, ret_row);
    thread_unref(thread);
    return ERR_OK;
}

/* Those who wait first, so that none of them is promoted. */
static enum err cancel_all(struct engine *engine, struct thread *thread, struct span by, struct error *error)
{
    struct run_row row;
    bool           already = false; /* never: a run that has ended has left its thread */
    enum err       e = ERR_OK;
    while (!e && !already && (thread->pending_count || !uuid_is_nil(thread->row.active_run))) {
        struct uuid run = thread->row.active_run;
        if (thread->pending_count)
            run = thread->pending[thread->pending_count - 1]->row.id;
        e = run_cancel(engine, thread->row.workspace, run, SPAN("thread_deleted"), by, &row, &already, error);
    }
    return e;
}

enum err thread_delete(struct engine *engine, struct uuid workspace, struct uuid id, bool force, struct span by, struct error *error)
{
    struct thread *thread = thread_get(engine, workspace, id);
    if (!thread)
        return found(thread, error);
    bool busy = !uuid_is_nil(thread->row.active_run) || thread->pending_count;
    if (busy && !force) {
        thread_unref(thread);
        return error_set(error, ERR_THREAD_BUSY, "", "a run of the thread has not ended; ?force=true cancels its runs");
    }
    enum err e = cancel_all(engine, thread, by, error);
    if (!e) {
        thread->deleted = true;
        thread_dirty(thread);
    }
    thread_unref(thread);
    return e;
}
