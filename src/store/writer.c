/* SPDX-License-Identifier: Apache-2.0 */
/* writer.c - the storage thread: takes all its mail, writes it as one transaction with one sync, answers with one
 * chain.
 *
 * There is no timer and no waiting for more: while one commit is on its way to the disk the next one gathers. When no
 * mail comes the thread settles, in small transactions of its own.
 *
 * Fail-stop. The first trouble in a transaction, wherever it is, rolls back and ends writing for good: its batches and
 * all later ones come back with ERR_STORAGE. Nothing is tried again, because after a failed sync the page cache may
 * answer with bytes that are on no disk. The exceptions are a driver's ERR_CONFLICT, by which it promises that nothing
 * happened, and its ERR_IO: the database is a server, and the connection to it is gone. Then the lease tells whether
 * the transaction happened (lease.c); if it did not, it is tried again, for as long as the store's patience lasts. */
#include "store/inner.h"
#include <stdlib.h>
#include <time.h>

enum err writer_prepare(struct store *store, struct db_stmt **stmt, const char *sql, struct error *error)
{
    return *stmt ? ERR_OK : store->driver->prepare(store->writer.db, sql, stmt, error);
}

/* ---- one transaction ---- */

static enum err prepare_row(struct store *store, const struct op *op, struct db_stmt **ret, struct error *error)
{
    struct db_stmt **stmt = &store->writer.rows[op->table][op->how];
    if (!*stmt) {
        CLEANUP(buf_done) struct buf sql = { 0 };
        sql_write((enum table_id)op->table, (enum sql_write)op->how, &sql);
        buf_byte(&sql, '\0');
        enum err err = writer_prepare(store, stmt, sql.p, error);
        if (err)
            return err;
    }
    *ret = *stmt;
    return ERR_OK;
}

static enum err write_row(struct store *store, const struct op *op, struct error *error)
{
    struct db_stmt *stmt;
    enum err        err = prepare_row(store, op, &stmt, error);
    if (err)
        return err;
    bool row;
    err = batch_bind_row(store->driver, stmt, op, (const char *)(op + 1));
    if (!err)
        err = store->driver->step(stmt, &row, error);
    store->driver->reset(stmt);
    return err;
}

static enum err purge(struct store *store, const struct op *op, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt        **stmt = &store->writer.segment_purge;
    int64_t                 stream = (int64_t)*(const uint64_t *)(const void *)(op + 1);
    bool                    row;
    enum err                err = writer_prepare(store, stmt, SQL_SEGMENT_PURGE, error);
    if (err)
        return err;
    err = driver->bind_i64(*stmt, 1, stream);
    if (!err)
        err = driver->bind_i64(*stmt, 2, stream);
    if (!err)
        err = driver->step(*stmt, &row, error);
    driver->reset(*stmt);
    return err;
}

static enum err purge_snapshots(struct store *store, const struct op *op, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt        **stmt = &store->writer.snapshot_purge;
    struct span             attempt = uuid_span((const struct uuid *)(const void *)(op + 1));
    bool                    row;
    enum err                err = writer_prepare(store, stmt, SQL_SNAPSHOT_PURGE, error);
    if (err)
        return err;
    err = driver->bind_bytes(*stmt, 1, attempt);
    if (!err)
        err = driver->bind_bytes(*stmt, 2, attempt);
    if (!err)
        err = driver->step(*stmt, &row, error);
    driver->reset(*stmt);
    return err;
}

/* Rows are written as they come; frames are gathered and written together. */
static enum err apply_batch(struct store *store, const struct batch *batch, struct error *error)
{
    for (size_t at = 0; at < batch->ops.len;) {
        const struct op *op = (const struct op *)(const void *)(batch->ops.p + at);
        at += op->size;
        if (op->kind == OP_FRAME) {
            frames_stage(&store->writer, op);
            continue;
        }
        enum err err = op->kind == OP_PURGE             ? purge(store, op, error)
                       : op->kind == OP_PURGE_SNAPSHOTS ? purge_snapshots(store, op, error)
                                                        : write_row(store, op, error);
        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err write_all(struct store *store, struct mail *chain, bool settle, struct error *error)
{
    struct writer *writer = &store->writer;
    enum err       err = store->driver->begin(writer->db, true, error);
    writer->frame_count = writer->frame_bytes = 0;
    if (!err)
        err = lease_renew(store, error);
    for (struct mail *mail = chain; mail && !err; mail = mail->next)
        err = apply_batch(store, CONTAINER(mail, struct batch, job.mail), error);
    if (!err)
        err = frames_insert(store, error);
    if (!err && settle)
        err = settle_step(store, chain ? SETTLE_BUSY : SETTLE_IDLE, writer->frame_count, writer->frame_bytes, error);
    return err;
}

/* One try. `settle` only at the first one: what it packs is gone from RAM afterwards. *indexed: the index has the
 * frames, and they keep their positions. */
static enum err attempt(struct store *store, struct mail *chain, bool settle, bool *indexed, struct error *error)
{
    enum err err = write_all(store, chain, settle, error);
    if (err)
        return err;
    /* Readers that see the commit must find its frames, so the index goes first (tail_index.h). */
    if (!*indexed)
        frames_index(store);
    *indexed = true;
    return store->driver->commit(store->writer.db, error);
}

static void set_away(struct store *store, bool away, const struct error *error)
{
    /* relaxed: see store_away. */
    if (atomic_exchange_explicit(&store->writer.away, away, memory_order_relaxed) == away)
        return;
    if (away)
        log_line(store->config.log, LOG_WARN, "storage_away", "reason=\"%s\"", error->message);
    else
        log_line(store->config.log, LOG_INFO, "storage_back", "retries=%llu",
                 (unsigned long long)store->counters.now.retries);
}

static bool may_wait(const struct store *store, uint64_t since_us)
{
    enum { HURRY_MS = 1000 };
    uint64_t most_ms = store->config.reconnect_ms;
    if (atomic_load(&store->writer.hurry) && most_ms > HURRY_MS)
        most_ms = HURRY_MS;
    return store_now_us(store) - since_us < most_ms * 1000;
}

/* A try that was lost may have got there behind our back, before the one that takes its place: then this one is
 * fenced. */
static enum err first_or_again(struct store *store, struct mail *chain, bool first, bool *indexed, struct error *error)
{
    lease_prepare(store, first);
    enum err err = attempt(store, chain, first, indexed, error);
    return err == ERR_FENCED ? lease_outcome(store, error) : err;
}

/* What a lost or refused try leaves to do: find out what became of it, and do it again if it did not happen. */
static enum err try_again(struct store *store, struct mail *chain, bool *indexed, enum err err, struct error *error)
{
    if (err == ERR_IO)
        err = lease_outcome(store, error);
    return err == ERR_CONFLICT ? first_or_again(store, chain, false, indexed, error) : err;
}

/* ERR_CONFLICT and ERR_IO come from drivers whose server may refuse a transaction or go away: see db.h. */
static enum err commit(struct store *store, struct mail *chain, struct error *error)
{
    enum { PAUSE_FIRST_MS = 1, PAUSE_MOST_MS = 250 };
    uint64_t since_us = store_now_us(store);
    bool     indexed = false;
    enum err err = first_or_again(store, chain, true, &indexed, error);
    for (unsigned pause_ms = PAUSE_FIRST_MS; err == ERR_CONFLICT || err == ERR_IO;) {
        store->driver->rollback(store->writer.db);
        store->counters.now.retries++;
        /* A connection that ended is one thing; a server that does not take a new one is away. */
        set_away(store, err == ERR_IO && pause_ms > PAUSE_FIRST_MS, error);
        if (!may_wait(store, since_us))
            return err;
        nanosleep(&(struct timespec){ .tv_nsec = pause_ms * 1000000L }, NULL);
        pause_ms = pause_ms * 2 < PAUSE_MOST_MS ? pause_ms * 2 : PAUSE_MOST_MS;
        err = try_again(store, chain, &indexed, err, error);
    }
    set_away(store, false, error);
    if (!err && !lease_first_try(store))
        settle_undone(store);
    return err;
}

static void count_work(struct store *store, const struct mail *chain, uint64_t us)
{
    struct store_stats *now = &store->counters.now;
    for (; chain; chain = chain->next)
        now->batches++;
    now->frames += store->writer.frame_count;
    for (size_t i = 0; i < store->writer.frame_count; i++) {
        now->events += store->writer.frames[i].frame.n;
        now->frame_bytes += store->writer.frames[i].frame.body.n;
    }
    stats_commit(&store->counters, us);
}

/* `chain` may be NULL: then the transaction only settles. */
static enum err transact(struct store *store, struct mail *chain)
{
    struct error error = { 0 };
    uint64_t     start = store_now_us(store);
    store->writer.first_pos = store->tail.next_pos;
    enum err err = commit(store, chain, &error);
    if (err) {
        store->driver->rollback(store->writer.db);
        if (error.message[0] == '\0')
            error_set(&error, err, NULL, "the database refused a value");
        error.code = ERR_STORAGE;
        store_fail(store, &error);
        return ERR_STORAGE;
    }
    lease_committed(store);
    settle_committed(store);
    count_work(store, chain, store_now_us(store) - start);
    return ERR_OK;
}

/* ---- mail ---- */

/* Takes the mail that is not a batch out of the chain. */
static struct mail *only_batches(struct store *store, struct mail *chain)
{
    struct writer *writer = &store->writer;
    struct mail *first = NULL, **last = &first;
    for (struct mail *mail = chain, *next; mail; mail = next) {
        next = mail->next;
        if (mail == &writer->stop) {
            writer->stopping = true;
        } else if (mail == &writer->wake) {
            checkpoint_wake_taken(store);
        } else {
            *last = mail;
            last = &mail->next;
        }
    }
    *last = NULL;
    return first;
}

static void deliver(struct store *store, struct mail *chain, enum err result)
{
    uint64_t count = 0;
    for (struct mail *mail = chain; mail; mail = mail->next, count++)
        CONTAINER(mail, struct batch, job.mail)->result = result;
    /* relaxed: a number for people. */
    atomic_fetch_sub_explicit(&store->counters.queued, count, memory_order_relaxed);
    store->config.deliver(store->config.user, chain);
}

static void handle_mail(struct store *store, struct mail *chain)
{
    enum err result = store_failed(store) ? ERR_STORAGE : transact(store, chain);
    stats_publish(store);
    deliver(store, chain, result);
}

/* ---- while no mail comes ---- */

static enum err grow_log(struct store *store, struct error *error)
{
    bool     done = true;
    enum err err = store->driver->log_grow(store->writer.db, store->config.wal_grow_pages, &done, error);
    store->writer.growing = !done;
    return err;
}

/* 0 and more: how long to wait for mail before being idle. */
static int patience(const struct store *store)
{
    if (store_failed(store))
        return -1;
    if (store->writer.growing)
        return 2;
    int settle = settle_patience(store), lease = lease_patience(store);
    return settle < 0 || (lease >= 0 && lease < settle) ? lease : settle;
}

static void be_idle(struct store *store)
{
    if (store_failed(store))
        return;
    struct error error = { 0 };
    if (store->writer.growing) {
        if (grow_log(store, &error))
            store_fail(store, &error);
        return;
    }
    transact(store, NULL);
    stats_publish(store);
}

/* The last pass of a checkpoint wants a moment without mail, but not for ever. */
static void between_commits(struct store *store)
{
    enum { COMMITS_TO_WAIT = 16 };
    struct writer *writer = &store->writer;
    if (store_failed(store) || !store->driver->checkpoint)
        return;
    checkpoint_look(store);
    if (atomic_load(&store->checkpointer.state) != CHECKPOINT_ASKS)
        return;
    /* relaxed: only whether there is mail; taking it comes later and orders itself. */
    bool mail = atomic_load_explicit(&writer->box.head, memory_order_relaxed) != NULL;
    if (mail && ++writer->commits_since_asked < COMMITS_TO_WAIT)
        return;
    writer->commits_since_asked = 0;
    struct error error = { 0 };
    if (checkpoint_finish(store, &error))
        store_fail(store, &error);
}

static void *run_writer(void *arg)
{
    struct store  *store = arg;
    struct writer *writer = &store->writer;
    while (!writer->stopping) {
        struct mail *mail = mailbox_wait(&writer->box, patience(store));
        struct mail *batches = only_batches(store, mail);
        if (batches)
            handle_mail(store, batches);
        else if (!mail)
            be_idle(store);
        between_commits(store);
    }
    return NULL;
}

/* ---- opening, closing ---- */

enum err writer_open(struct store *store, struct error *error)
{
    enum err err = store->driver->open(store->driver, store->config.url, DB_WRITER, &store->writer.db, error);
    if (!err)
        err = schema_prepare(store, error);
    if (!err)
        err = frames_load(store, error);
    store->writer.growing = store->driver->log_grow != NULL;
    return err;
}

enum err writer_start(struct store *store, struct error *error)
{
    enum err err = store_thread(&store->writer.thread, "storage", run_writer, store, error);
    store->writer.started = err == ERR_OK;
    return err;
}

void writer_stop(struct store *store)
{
    struct writer *writer = &store->writer;
    if (!writer->started)
        return;
    atomic_store(&writer->hurry, true);
    mailbox_post(&writer->box, &writer->stop);
    pthread_join(writer->thread, NULL);
    writer->started = false;
}

void writer_close(struct store *store)
{
    struct writer          *writer = &store->writer;
    const struct db_driver *driver = store->driver;
    if (!writer->db)
        return;
    lease_give_back(store);
    for (unsigned table = 0; table < TABLE_COUNT; table++)
        for (unsigned how = 0; how < SQL_WRITE_COUNT; how++)
            driver->finalize(writer->rows[table][how]);
    struct db_stmt *const rest[] = { writer->tail_insert, writer->tail_delete, writer->tail_body,
                                     writer->segment_insert, writer->segment_place, writer->segment_purge, writer->snapshot_purge,
                                     writer->lease_renew, writer->lease_look };
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        driver->finalize(rest[i]);
    driver->close(writer->db);
    free(writer->frames);
}
