/* SPDX-License-Identifier: Apache-2.0 */
/* retry.c - a failed run is tried again because somebody says so (agent-runs.md 6.6, T11).
 *
 * The run has left memory. Its ledger is folded up to what made it fail, the machine's state becomes the beginning of the next
 * attempt, and the run takes its thread's slot or queues for it. */
#include "run/inner.h"
#include <stdlib.h>

/* A later run of the thread has completed: the values that this run would go on from are no longer the thread's. */
static enum err thread_advanced(struct reader *reader, const struct run_row *row, bool *ret)
{
    struct query query = { .table = TABLE_run, .eq_count = 2, .cmp_count = 1 };
    int64_t      count = 0;
    query.eq[0].column = "thread";
    query.eq[0].uuid = row->thread;
    query.eq[1].column = "status";
    query.eq[1].i64 = RUN_COMPLETED;
    query.cmp[0].column = "completed_ms";
    query.cmp[0].op = ">=";
    query.cmp[0].i64 = row->completed_ms;
    enum err e = reader_count(reader, &query, &count);
    *ret = count > 0;
    return e;
}

enum err retry_check(const struct engine *engine, struct reader *reader, const struct run_row *row, struct error *error)
{
    struct thread_row thread = { .workspace = row->workspace, .id = row->thread };
    struct arena      arena = { 0 };
    bool              advanced = false, retryable = jv_bool(jv_get(json_read(row->error, &arena), "retryable"), false);
    arena_done(&arena);
    if (row->status != RUN_FAILED)
        return error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "the run is %s, not failed",
                         run_status_ar((enum run_status)row->status, (unsigned)row->mask));
    if (!retryable)
        return error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "the run's error is not retryable");
    if (run_expired(engine, row))
        return error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "the run ended longer ago than its events and checkpoints are kept");
    if (row->source == SOURCE_WORKFLOW || row->source == SOURCE_SESSION)
        return error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "runs of sessions end for good: replay them");
    if (reader_get(reader, TABLE_thread, &thread))
        return error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "the run's thread is gone");
    if (thread_advanced(reader, row, &advanced))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    return advanced ? error_set(error, ERR_THREAD_ADVANCED, "", "a later run of the thread has completed") : ERR_OK;
}

struct newest {
    struct uuid        attempt;
    struct failure_row row;
    bool               found;
};

static bool take_newest(void *user, const void *at)
{
    struct newest            *newest = user;
    const struct failure_row *row = at;
    newest->found = uuid_eq(row->attempt, newest->attempt) && row->scope == FAILURE_RUN;
    if (newest->found)
        newest->row = *row;
    return !newest->found;
}

/* The failure that ended the current attempt. Its spans live as long as the reader's snapshot. */
static void find_failure(struct reader *reader, const struct run_row *row, struct newest *newest)
{
    struct query query = { .table = TABLE_failure, .eq_count = 1, .order_column = "id", .descending = true, .limit = -1 };
    query.eq[0].column = "run";
    query.eq[0].uuid = row->id;
    newest->attempt = row->attempt;
    (void)reader_query(reader, &query, take_newest, newest);
}

static void mark_retried(struct engine *engine, struct newest *newest)
{
    if (!newest->found)
        return;
    newest->row.status = FAILURE_RETRIED;
    batch_put(engine_batch(engine), TABLE_failure, &newest->row);
}

static void keep_attempt(struct run *run)
{
    struct attempt_row old = { .run = run->row.id, .no = run->row.attempt_no, .id = run->row.attempt, .stream = run->row.stream,
                               .status = RUN_FAILED, .wf_base = run->row.wf_base, .last_seq = run->row.last_seq,
                               .checkpoint_seq = run->row.checkpoint_seq, .error = run->row.error, .started_ms = run->row.started_ms,
                               .completed_ms = run->row.completed_ms };
    batch_put(engine_batch(run->engine), TABLE_attempt, &old);
}

/* The run comes back with its ledger folded; what cannot be folded begins again from the input. */
static void try_again(struct run *run, struct thread *thread, struct reader *reader)
{
    struct engine *engine = run->engine;
    struct fold    fold = { .arena = &engine->turn, .closed = true };
    int64_t        checkpoint = run->row.checkpoint_seq;
    run->plan = catalog_plan(engine, run->row.plan, NULL);
    bool        folded = run->plan && !fold_ledger(run, reader, &fold);
    struct span saved = folded ? run_saved_state(run) : SPAN_NONE;
    run->row.checkpoint_seq = folded ? checkpoint : 0;
    keep_attempt(run);
    stat_run_again(run);
    run_open_attempt(run, engine_mint(engine), saved);
    run->row.completed_ms = 0;
    run_move(run, thread_enter(thread, run) ? RUN_RETRY : RUN_RETRY_BUSY);
    thread_dirty(thread);
    if (run->row.status == RUN_QUEUED)
        run_ready(run);
}

static enum err revive(struct engine *engine, const struct run_row *row, struct reader *reader, struct run **ret, struct error *error)
{
    struct stream_place place;
    struct thread      *thread = thread_get(engine, row->workspace, row->thread);
    enum err            e = ERR_OK;
    if (!thread)
        e = error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "the run's thread is gone");
    else if (thread->pending_count >= engine->config.thread_queue_max)
        e = error_set(error, ERR_THREAD_QUEUE_FULL, "", "%u runs are already waiting on the thread", engine->config.thread_queue_max);
    else if (stream_place_read(reader, (uint64_t)row->stream, &place))
        e = error_set(error, ERR_STORAGE, "", "the store cannot be read");
    if (!e) {
        struct stream *stream = stream_open(engine->ledger, (uint64_t)row->stream, &place);
        *ret = run_new(engine, row); /* shares the stream */
        stream_unref(stream);
        try_again(*ret, thread, reader);
    }
    thread_unref(thread); /* the run holds it */
    return e;
}

/* Nobody else may have it: what is in memory has not failed, or its failure is not on disk yet. */
static enum err check_memory(struct engine *engine, struct uuid workspace, struct uuid id, struct run_row *ret_row, struct error *error)
{
    struct run *run = uuid_map_get(&engine->runs, id);
    if (!run)
        return ERR_OK;
    if (!uuid_eq(run->row.workspace, workspace))
        return error_set(error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    run_row_view(run, ret_row);
    return error_set(error, ERR_RETRY_NOT_POSSIBLE, "", "the run is %s",
                     run_status_ar((enum run_status)run->row.status, (unsigned)run->row.mask));
}

static enum err retry_stored(struct engine *engine, struct run_row *row, struct uuid from, struct run **ret, struct error *error)
{
    struct reader *reader = engine_reader(engine);
    struct newest  newest = { .found = false };
    enum err       e = reader_get(reader, TABLE_run, row);
    if (e)
        return error_set(error, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : ERR_STORAGE, "", "no such run in this workspace");
    e = retry_check(engine, reader, row, error);
    if (e)
        return e;
    find_failure(reader, row, &newest);
    if (!uuid_is_nil(from) &&
        (!newest.found || !newest.row.op || !uuid_eq(operation_id(row->id, row->attempt, (uint32_t)newest.row.op), from)))
        return error_set(error, ERR_RETRY_NOT_POSSIBLE, "/from_node_execution_id", "the run did not fail in this node execution");
    e = revive(engine, row, reader, ret, error);
    if (!e)
        mark_retried(engine, &newest);
    return e;
}

enum err run_retry(struct engine *engine, struct uuid workspace, struct uuid id, struct uuid from, struct run_row *ret_row,
                   struct error *error)
{
    struct run *run = NULL;
    enum err    e = engine_ready(engine, error);
    *ret_row = (struct run_row){ .workspace = workspace, .id = id };
    if (!e)
        e = check_memory(engine, workspace, id, ret_row, error);
    if (e)
        return e;
    if (engine_read_begin(engine))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    e = retry_stored(engine, ret_row, from, &run, error);
    engine_read_end(engine);
    if (!e)
        run_row_view(run, ret_row);
    return e;
}

void run_load_start(struct run *run)
{
    struct engine      *engine = run->engine;
    struct snapshot_row row = { .seq = 0 };
    if (engine_read_begin(engine))
        return;
    if (!reader_snapshot(engine_reader(engine), run->row.attempt, 0, &row) &&
        run->plan->ops->load(run->plan, row.body, &run->machine_arena, &run->machine))
        run->machine = NULL;
    if (!run->receipts.count && run->row.attempt_no > 1 && receipts_scan(run, engine_reader(engine)))
        run->machine = NULL;
    engine_read_end(engine);
}
