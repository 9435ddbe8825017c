/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - opens and closes the whole, and keeps the reason when it has stopped. */
#include "store/inner.h"
#include <signal.h>
#include <stdlib.h>

/* ---- threads ---- */

enum err store_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg, struct error *error)
{
    /* Signals belong to the threads of the program, not to the store's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return error_set(error, ERR_STORAGE, NULL, "cannot start a thread: %s", strerror(rc));
    pthread_setname_np(*thread, name);
    return ERR_OK;
}

/* ---- fail-stop ---- */

void store_fail(struct store *store, const struct error *error)
{
    pthread_mutex_lock(&store->failure_lock);
    bool first = !atomic_load(&store->failed);
    if (first)
        store->failure = *error;
    /* release: whoever sees the flag finds the reason (which it still reads under the lock). */
    atomic_store_explicit(&store->failed, true, memory_order_release);
    pthread_mutex_unlock(&store->failure_lock);
    if (first)
        log_line(store->config.log, LOG_ERROR, "storage_stopped", "reason=\"%s\"", error->message);
}

bool store_failed(const struct store *store)
{
    return atomic_load_explicit(&store->failed, memory_order_acquire);
}

bool store_away(const struct store *store)
{
    /* relaxed: a hint for people and load balancers. */
    return atomic_load_explicit(&store->writer.away, memory_order_relaxed);
}

void store_failure(const struct store *store, struct error *ret)
{
    struct store *writable = (struct store *)(uintptr_t)store;
    pthread_mutex_lock(&writable->failure_lock);
    *ret = store->failure;
    pthread_mutex_unlock(&writable->failure_lock);
}

/* ---- small questions ---- */

uint64_t store_epoch(const struct store *store)
{
    return store->epoch;
}

struct reader *store_reader(struct store *store)
{
    return store->reader;
}

uint64_t store_now_us(const struct store *store)
{
    return store->config.env->mono_us(store->config.env);
}

/* ---- open, close ---- */

static void use_default(uint32_t *value, uint32_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

static void take_config(struct store *store, const struct store_config *config)
{
    struct store_config *own = &store->config;
    *own = *config;
    own->url = mem_dup(config->url, strlen(config->url));
    const char *node = config->node ? config->node : "local";
    own->node = mem_dup(node, strlen(node));
    own->folder = config->folder ? mem_dup(config->folder, strlen(config->folder)) : NULL;
    if (!own->env)
        own->env = env_real();
    use_default(&own->settle_events, 256);
    use_default(&own->settle_bytes, 64 * 1024);
    use_default(&own->settle_hold_ms, 30000);
    use_default(&own->wal_pages, 4000);
    use_default(&own->wal_grow_pages, 6000);
    use_default(&own->reconnect_ms, 30000);
    if (own->tail_bytes == 0)
        own->tail_bytes = 64 << 20;
}

static bool speaks(const struct db_driver *driver, const char *url)
{
    for (const char *const *scheme = driver->schemes; *scheme; scheme++)
        if (strncmp(url, *scheme, strlen(*scheme)) == 0)
            return true;
    return false;
}

static enum err choose_driver(struct store *store, struct error *error)
{
    static const struct db_driver *const drivers[] = { &db_sqlite, &db_pg };
    store->driver = store->config.driver;
    for (size_t i = 0; i < ARRAY_LEN(drivers) && !store->driver; i++)
        if (speaks(drivers[i], store->config.url))
            store->driver = drivers[i];
    /* The url is not repeated: it may be one with a password and a typing mistake. */
    if (!store->driver || !speaks(store->driver, store->config.url))
        return error_set(error, ERR_INVALID_PARAMETER, "store",
                         "no storage driver for this url (want sqlite:FOLDER or postgres://USER@HOST:PORT/DB)");
    return ERR_OK;
}

static enum err take_folder(struct store *store, struct error *error)
{
    const struct db_driver *driver = store->driver;
    const char *folder = driver->folder ? driver->folder(store->config.url) : store->config.folder;
    enum err    err = folder_take(folder, &store->lock_fd, error);
    if (!err && driver->shared)
        err = folder_token(store->lock_fd, store->config.env, store->lease.token, error);
    return err;
}

static void log_open(const struct store *store)
{
    CLEANUP(buf_done) struct buf shown = { 0 };
    store->driver->describe(store->config.url, &shown);
    log_line(store->config.log, LOG_INFO, "storage_open", "url=%.*s epoch=%llu tail_frames=%llu",
             SPAN_ARG(buf_view(&shown)), (unsigned long long)store->epoch,
             (unsigned long long)store->counters.shown.tail_frames);
}

static void prepare_texts(struct store *store)
{
    for (unsigned id = 0; id < TABLE_COUNT; id++) {
        struct buf sql = { 0 };
        sql_get((enum table_id)id, &sql);
        buf_byte(&sql, '\0');
        store->get_sql[id] = sql.p;
    }
}

static void init_parts(struct store *store)
{
    /* Streams that settle when they are due find their bodies in RAM; what waits longer is read again. */
    struct tail_limits limits = { store->config.settle_events, store->config.settle_bytes,
                                  store->config.tail_bytes / 2 };
    store->lock_fd = -1;
    store->start_us = store_now_us(store);
    pthread_mutex_init(&store->failure_lock, NULL);
    pthread_mutex_init(&store->checkpointer.lock, NULL);
    pthread_cond_init(&store->checkpointer.wake, NULL);
    stats_init(&store->counters);
    mailbox_init(&store->writer.box, false);
    mailbox_init(&store->read_thread.box, false);
    tail_index_init(&store->tail, &limits);
    prepare_texts(store);
}

static enum err start(struct store *store, struct error *error)
{
    enum err err = choose_driver(store, error);
    if (!err)
        err = take_folder(store, error);
    if (!err)
        err = writer_open(store, error);
    if (!err)
        err = reader_open(store, &store->reader, error);
    if (!err)
        err = checkpoint_start(store, error);
    if (!err)
        err = read_thread_start(store, error);
    if (err)
        return err;
    stats_publish(store);
    log_open(store);
    return writer_start(store, error);
}

enum err store_open(const struct store_config *config, struct store **ret, struct error *error)
{
    struct store *store = mem_alloc(sizeof *store);
    take_config(store, config);
    init_parts(store);
    enum err err = start(store, error);
    if (err) {
        store_close(store);
        return err;
    }
    *ret = store;
    return ERR_OK;
}

/* The storage thread goes first: what it delivers may still be read. The writer's connection goes last, because it is
 * the one that leaves the log tidy. */
void store_close(struct store *store)
{
    if (!store)
        return;
    writer_stop(store);
    read_thread_stop(store);
    if (store->driver) {
        checkpoint_stop(store);
        reader_close(store->reader);
        writer_close(store);
    }
    folder_give_back(store->lock_fd);
    settle_done(&store->settle);
    tail_index_done(&store->tail);
    mailbox_done(&store->writer.box);
    mailbox_done(&store->read_thread.box);
    stats_done(&store->counters);
    pthread_cond_destroy(&store->checkpointer.wake);
    pthread_mutex_destroy(&store->checkpointer.lock);
    pthread_mutex_destroy(&store->failure_lock);
    for (unsigned id = 0; id < TABLE_COUNT; id++)
        free(store->get_sql[id]);
    free((char *)(uintptr_t)store->config.url);
    free((char *)(uintptr_t)store->config.node);
    free((char *)(uintptr_t)store->config.folder);
    free(store);
}
