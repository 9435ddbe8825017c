/* SPDX-License-Identifier: Apache-2.0 */
/* writer.c - the storage thread: takes all its mail, writes it as one transaction with one sync, answers with one chain.
 *
 * There is no timer and no waiting for more: while one commit is on its way to the disk the next one gathers. When no mail
 * comes the thread settles, in small transactions of its own.
 *
 * Fail-stop. The first trouble in a transaction, wherever it is, rolls back and ends writing for good: its batches and all
 * later ones come back with ERR_STORAGE. Nothing is tried again, because after a failed sync the page cache may answer with
 * bytes that are on no disk. The one exception is ERR_CONFLICT from a commit, by which a driver promises that nothing happened. */
#include "store/inner.h"
#include <stdlib.h>

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
        enum err err = write_row(store, op, error);
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
    for (struct mail *mail = chain; mail && !err; mail = mail->next)
        err = apply_batch(store, CONTAINER(mail, struct batch, job.mail), error);
    if (!err)
        err = frames_insert(store, error);
    if (!err && settle)
        err = settle_step(store, chain ? SETTLE_BUSY : SETTLE_IDLE, writer->frame_count, writer->frame_bytes, error);
    return err;
}

static enum err commit(struct store *store, struct mail *chain, struct error *error)
{
    enum err err = write_all(store, chain, true, error);
    if (!err) {
        /* Readers that see the commit must find its frames, so the index goes first (tail_index.h). */
        frames_index(store);
        err = store->driver->commit(store->writer.db, error);
    }
    while (err == ERR_CONFLICT) {
        store->driver->rollback(store->writer.db);
        settle_undone(store);
        err = write_all(store, chain, false, error);
        if (!err)
            err = store->driver->commit(store->writer.db, error);
    }
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
    return store->writer.growing ? 2 : settle_patience(store);
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
    for (unsigned table = 0; table < TABLE_COUNT; table++)
        for (unsigned how = 0; how < SQL_WRITE_COUNT; how++)
            driver->finalize(writer->rows[table][how]);
    struct db_stmt *const rest[] = { writer->tail_insert, writer->tail_delete, writer->tail_body, writer->segment_insert,
                                     writer->segment_place };
    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        driver->finalize(rest[i]);
    driver->close(writer->db);
    free(writer->frames);
}
