/* SPDX-License-Identifier: Apache-2.0 */
/* retention.c - the ledgers of runs that ended long ago leave the store; the rows of the runs stay (agent-runs.md L10, 3.7).
 *
 * A run whose time is over loses its streams and snapshots in one commit with what says so: `stream` 0 in its row and in those of
 * its older attempts. A crash leaves it either whole or gone. What one statement does not delete (long ledgers, frames that lie in
 * the tail) is put on the list of streams that nobody can name (table purge), which ledger/free.c works off.
 *
 * Runs are looked up on the reader thread, some at a time, oldest end first. Left alone, and looked at again the next time, are
 * runs that somebody holds: a follower of one of their streams, or a replay that goes on and reads its source again after a crash. */
#include "run/inner.h"
#include <stdlib.h>

enum {
    RUNS_AT_A_TIME = 32,
    BYTES_AT_A_TIME = 1 << 20,   /* of a commit: rows with inputs and outputs are written again */
    LOOK_MOST_US = 60 * 1000000, /* how often, when nothing is left to do */
    LOOK_LEAST_US = 50 * 1000,
    SOON_US = 200 * 1000,
};

struct doomed {
    struct run_row row;          /* keys, stream, completed_ms; spans not valid */
    bool           held;
    size_t         first, count; /* among the ledgers */
};

struct doomed_ledger {
    struct attempt_row row;      /* of an older attempt; no 0: the run's current one, of which id and stream are set */
    bool               in_tail;
    int64_t            segments, snapshots;
};

struct retention {
    struct read_job job;
    struct engine  *engine;
    struct arena    arena;
    int64_t         from_ms, before_ms, last_ms;
    struct doomed   runs[RUNS_AT_A_TIME];
    size_t          count;
    struct buf      ledgers;     /* struct doomed_ledger */
    enum err        err;
};

bool run_expired(const struct engine *engine, const struct run_row *row)
{
    int64_t keep_ms = engine->config.retention_ms;
    bool    over = keep_ms && row->completed_ms && engine->env->wall_ms(engine->env) - row->completed_ms >= keep_ms;
    return run_terminal((enum run_status)row->status) && (!row->stream || over);
}

/* ---- looking: the reader thread ---- */

static void take_ended(void *user, struct uuid workspace, struct uuid id, int64_t completed_ms)
{
    struct retention *r = user;
    r->runs[r->count++].row = (struct run_row){ .workspace = workspace, .id = id };
    r->last_ms = completed_ms;
}

static bool replays_go_on(struct reader *reader, const struct run_row *row)
{
    struct query query = { .table = TABLE_run, .eq_count = 1, .in_column = "status" };
    int64_t      count = 0;
    query.eq[0].column = "replayed_from";
    query.eq[0].uuid = row->id;
    for (int64_t status = 0; status < RUN_STATUS_COUNT; status++)
        if (!run_terminal((enum run_status)status))
            query.in[query.in_count++] = status;
    return reader_count(reader, &query, &count) || count > 0;
}

static enum err add_ledger(struct retention *r, struct reader *reader, const struct attempt_row *row)
{
    struct doomed_ledger ledger = { .row = *row, .in_tail = reader_in_tail(reader, (uint64_t)row->stream) };
    struct query         query = { .table = TABLE_snapshot, .eq_count = 1 };
    query.eq[0].column = "attempt";
    query.eq[0].uuid = row->id;
    enum err e = reader_segments(reader, (uint64_t)row->stream, &ledger.segments);
    if (!e)
        e = reader_count(reader, &query, &ledger.snapshots);
    buf_put(&r->ledgers, &ledger, sizeof ledger);
    return e;
}

static enum err look_at(struct retention *r, struct reader *reader, struct doomed *doomed)
{
    enum err e = reader_get(reader, TABLE_run, &doomed->row);
    doomed->first = r->ledgers.len / sizeof(struct doomed_ledger);
    doomed->held = e || replays_go_on(reader, &doomed->row);
    for (int64_t no = 1; no < doomed->row.attempt_no && !e; no++) {
        struct attempt_row old = { .run = doomed->row.id, .no = no };
        e = reader_get(reader, TABLE_attempt, &old);
        if (!e && old.stream)
            e = add_ledger(r, reader, &old);
        e = e == ERR_NOT_FOUND ? ERR_OK : e;
    }
    if (!e)
        e = add_ledger(r, reader, &(struct attempt_row){ .id = doomed->row.attempt, .stream = doomed->row.stream });
    doomed->count = r->ledgers.len / sizeof(struct doomed_ledger) - doomed->first;
    return e;
}

static void retention_look(struct read_job *job, struct reader *reader)
{
    struct retention *r = CONTAINER(job, struct retention, job);
    r->err = reader_begin(reader, &r->arena);
    if (r->err)
        return;
    r->err = reader_ended(reader, r->from_ms, r->before_ms, RUNS_AT_A_TIME, take_ended, r);
    for (size_t i = 0; i < r->count && !r->err; i++)
        r->err = look_at(r, reader, &r->runs[i]);
    reader_end(reader);
}

/* ---- removing: the engine's thread ---- */

/* False: the snapshots are too many for one statement; some go, the rest at the next look, and then the ledger. */
static bool thin_out(struct engine *engine, const struct doomed_ledger *ledgers, size_t count)
{
    bool few = true;
    for (size_t i = 0; i < count; i++)
        few &= ledgers[i].snapshots <= PURGE_MOST;
    for (size_t i = 0; i < count; i++)
        if (ledgers[i].snapshots)
            batch_purge_snapshots(engine_batch(engine), ledgers[i].row.id);
    return few;
}

static void remove_ledger(struct engine *engine, const struct doomed_ledger *ledger)
{
    struct purge_row   purge = { .stream = ledger->row.stream, .since_ms = engine_now_ms(engine) };
    struct attempt_row row = ledger->row;
    if (ledger->in_tail || ledger->segments > PURGE_MOST)
        batch_put(engine_batch(engine), TABLE_purge, &purge);
    else if (ledger->segments)
        batch_purge(engine_batch(engine), (uint64_t)ledger->row.stream);
    row.stream = 0;
    if (row.no)
        batch_put(engine_batch(engine), TABLE_attempt, &row);
}

static bool in_use(const struct engine *engine, const struct doomed *doomed, const struct doomed_ledger *ledgers)
{
    bool used = uuid_map_get(&engine->runs, doomed->row.id) != NULL;
    for (size_t i = 0; i < doomed->count; i++)
        used |= stream_is_open(engine->ledger, (uint64_t)ledgers[i].row.stream);
    return used;
}

/* Nothing happened to it since it was looked at: somebody may have tried it again. True: it is gone with this turn's commit. */
static bool remove_run(struct engine *engine, const struct doomed *doomed, const struct doomed_ledger *ledgers)
{
    struct run_row row = { .workspace = doomed->row.workspace, .id = doomed->row.id };
    if (doomed->held || in_use(engine, doomed, ledgers) || reader_get(engine_reader(engine), TABLE_run, &row) ||
        !run_terminal((enum run_status)row.status) || row.stream != doomed->row.stream)
        return false;
    if (!thin_out(engine, ledgers, doomed->count))
        return false;
    for (size_t i = 0; i < doomed->count; i++)
        remove_ledger(engine, &ledgers[i]);
    row.stream = 0;
    row.checkpoint_seq = 0;
    batch_put(engine_batch(engine), TABLE_run, &row);
    return true;
}

static size_t remove_all(struct retention *r, bool *ret_all)
{
    const struct doomed_ledger *ledgers = (const struct doomed_ledger *)(const void *)r->ledgers.p;
    struct engine              *engine = r->engine;
    size_t                      gone = 0, i = 0;
    *ret_all = false;
    if (r->err || engine_ready(engine, NULL) || engine_read_begin(engine))
        return 0;
    for (; i < r->count && batch_bytes(engine_batch(engine)) < BYTES_AT_A_TIME; i++)
        gone += remove_run(engine, &r->runs[i], ledgers + r->runs[i].first);
    engine_read_end(engine);
    *ret_all = i == r->count;
    return gone;
}

/* Runs that are held are passed over until the end is reached, so that they do not stand in the way of others. */
static int64_t next_from(const struct retention *r, size_t gone, bool all)
{
    if (!all)
        return r->from_ms;
    if (r->count < RUNS_AT_A_TIME)
        return 0;
    return r->last_ms + (!gone && r->last_ms == r->from_ms);
}

static uint64_t pause_us(const struct engine *engine)
{
    uint64_t us = (uint64_t)engine->config.retention_ms * 1000 / 4;
    return us > LOOK_MOST_US ? LOOK_MOST_US : us < LOOK_LEAST_US ? LOOK_LEAST_US : us;
}

static void retention_done(struct read_job *job)
{
    struct retention *r = CONTAINER(job, struct retention, job);
    struct engine    *engine = r->engine;
    bool              all;
    size_t            gone = remove_all(r, &all);
    engine->stats.ledgers_expired += gone;
    engine->retained_from_ms = next_from(r, gone, all);
    if (gone) {
        char before[TIME_TEXT];
        time_format(r->before_ms, before);
        log_line(loop_log(engine->config.loop), LOG_INFO, "ledgers_expired", "runs=%zu ended_before=%.*s", gone, TIME_TEXT, before);
    }
    if (!engine_ready(engine, NULL))
        loop_timer_set(&engine->retention,
                       loop_now_us(engine->config.loop) + (!all || engine->retained_from_ms ? SOON_US : pause_us(engine)));
    buf_done(&r->ledgers);
    arena_done(&r->arena);
    free(r);
}

static void retention_fire(struct loop_timer *timer)
{
    struct engine    *engine = CONTAINER(timer, struct engine, retention);
    struct retention *r = mem_alloc(sizeof *r);
    r->job.run = retention_look;
    r->job.done = retention_done;
    r->engine = engine;
    r->from_ms = engine->retained_from_ms;
    r->before_ms = engine_now_ms(engine) - engine->config.retention_ms;
    store_read(engine->config.store, &r->job);
}

void retention_start(struct engine *engine)
{
    loop_timer_init(&engine->retention, engine->config.loop, retention_fire);
    if (engine->config.retention_ms)
        loop_timer_set(&engine->retention, engine->env->mono_us(engine->env) + pause_us(engine));
}
