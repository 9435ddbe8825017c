/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c - moves the write-ahead log into the database file, beside the storage thread and not inside its
 * commits.
 *
 * A checkpoint inside a commit is what makes the slowest commits slow. So this thread has its own connection; the
 * storage thread wakes it when the log is long. It copies what is there, syncs the file, and does so again while much
 * is left: beside a busy writer it never reaches the end. After three passes at most the storage thread itself copies
 * the short rest between two commits, and the next commit begins the log from its start. */
#include "store/inner.h"

enum { PASSES = 3, LEFT_ENOUGH = 300 };

static bool wait_for_work(struct checkpointer *checkpointer)
{
    pthread_mutex_lock(&checkpointer->lock);
    while (!checkpointer->stop && atomic_load(&checkpointer->state) != CHECKPOINT_RUNS)
        pthread_cond_wait(&checkpointer->wake, &checkpointer->lock);
    bool work = !checkpointer->stop;
    pthread_mutex_unlock(&checkpointer->lock);
    return work;
}

static enum err passes(struct store *store, struct error *error)
{
    for (unsigned i = 0; i < PASSES; i++) {
        uint32_t copied;
        enum err err = store->driver->checkpoint(store->checkpointer.db, &copied, error);
        if (err)
            return err;
        /* relaxed: a number for people. */
        atomic_fetch_add_explicit(&store->counters.checkpoints, 1, memory_order_relaxed);
        /* The pass knows only the log that it began with; what came meanwhile the storage thread tells. relaxed: a
         * hint. */
        if (atomic_load_explicit(&store->checkpointer.pages, memory_order_relaxed) < copied + LEFT_ENOUGH)
            break;
    }
    return ERR_OK;
}

/* The storage thread may be asleep. It may as well have seen the state and done its pass before this mail arrives, and
 * the next request may come while this one is still in the box; mail must not be posted twice. */
static void wake_writer(struct store *store)
{
    /* seq_cst, with the state: either this finds the flag cleared and posts, or the storage thread, which clears the
     * flag and then looks at the state, finds what was asked. */
    if (!atomic_exchange(&store->writer.wake_posted, true))
        mailbox_post(&store->writer.box, &store->writer.wake);
}

void checkpoint_wake_taken(struct store *store)
{
    atomic_store(&store->writer.wake_posted, false);
}

static void *run_checkpoints(void *arg)
{
    struct store        *store = arg;
    struct checkpointer *checkpointer = &store->checkpointer;
    while (wait_for_work(checkpointer)) {
        struct error error = { 0 };
        if (passes(store, &error)) {
            /* Pages may be lost that the log is the last to hold: it must not be begun again. */
            store_fail(store, &error);
            atomic_store(&checkpointer->state, CHECKPOINT_RESTS);
            return NULL;
        }
        atomic_store(&checkpointer->state, CHECKPOINT_ASKS);
        wake_writer(store);
    }
    return NULL;
}

void checkpoint_look(struct store *store)
{
    struct checkpointer *checkpointer = &store->checkpointer;
    uint32_t             pages = store->driver->log_pages(store->writer.db);
    atomic_store_explicit(&checkpointer->pages, pages, memory_order_relaxed);
    if (pages < store->config.wal_pages)
        checkpointer->due_at = store->config.wal_pages;
    if (pages < checkpointer->due_at || atomic_load(&checkpointer->state) != CHECKPOINT_RESTS)
        return;
    pthread_mutex_lock(&checkpointer->lock);
    atomic_store(&checkpointer->state, CHECKPOINT_RUNS);
    pthread_cond_signal(&checkpointer->wake);
    pthread_mutex_unlock(&checkpointer->lock);
}

enum err checkpoint_finish(struct store *store, struct error *error)
{
    struct checkpointer *checkpointer = &store->checkpointer;
    uint32_t             copied;
    enum err             err = store->driver->checkpoint(store->writer.db, &copied, error);
    store->counters.now.checkpoint_stalls++;
    /* When a reader keeps the log from beginning again, asking at each commit would help nobody: it may grow by half
     * first. */
    checkpointer->due_at = store->driver->log_pages(store->writer.db) + store->config.wal_pages / 2;
    atomic_store(&checkpointer->state, CHECKPOINT_RESTS);
    return err;
}

enum err checkpoint_start(struct store *store, struct error *error)
{
    struct checkpointer *checkpointer = &store->checkpointer;
    if (!store->driver->checkpoint)
        return ERR_OK;
    checkpointer->due_at = store->config.wal_pages;
    enum err err = store->driver->open(store->driver, store->config.url, DB_CHECKPOINTER, &checkpointer->db, error);
    if (!err)
        err = store_thread(&checkpointer->thread, "checkpoint", run_checkpoints, store, error);
    checkpointer->started = err == ERR_OK;
    return err;
}

void checkpoint_stop(struct store *store)
{
    struct checkpointer *checkpointer = &store->checkpointer;
    if (checkpointer->started) {
        pthread_mutex_lock(&checkpointer->lock);
        checkpointer->stop = true;
        pthread_cond_signal(&checkpointer->wake);
        pthread_mutex_unlock(&checkpointer->lock);
        pthread_join(checkpointer->thread, NULL);
    }
    checkpointer->started = false;
    store->driver->close(checkpointer->db);
    checkpointer->db = NULL;
}
