/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - what the store counts. The storage thread counts for itself and shows the numbers once per turn. */
#include "store/inner.h"
#include <stdio.h>
#include <sys/stat.h>

void stats_init(struct counters *counters)
{
    pthread_mutex_init(&counters->lock, NULL);
}

void stats_done(struct counters *counters)
{
    pthread_mutex_destroy(&counters->lock);
}

void stats_commit(struct counters *counters, uint64_t us)
{
    struct store_stats *now = &counters->now;
    size_t              i = 0;
    while (i + 1 < ARRAY_LEN(now->commit_us_hist) && us >= (uint64_t)1 << i)
        i++;
    now->commit_us_hist[i]++;
    now->commits++;
    now->commit_us_last = us;
    now->commit_us_sum += us;
    if (us > now->commit_us_max)
        now->commit_us_max = us;
}

void stats_publish(struct store *store)
{
    struct counters *counters = &store->counters;
    counters->now.wal_pages = store->driver->log_pages ? store->driver->log_pages(store->writer.db) : 0;
    counters->now.tail_frames = store->tail.next_pos - 1 - store->tail.deleted_through;
    counters->now.tail_bytes = store->tail.bytes;
    pthread_mutex_lock(&counters->lock);
    counters->shown = counters->now;
    pthread_mutex_unlock(&counters->lock);
}

/* Asking for a file's size does not open it. */
static uint64_t file_size(const char *folder, const char *name)
{
    CLEANUP(buf_done) struct buf path = { 0 };
    buf_printf(&path, "%s/%s%c", folder, name, '\0');
    struct stat st;
    return stat(path.p, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void store_stats(const struct store *store, struct store_stats *ret)
{
    struct counters *counters = (struct counters *)(uintptr_t)&store->counters;
    pthread_mutex_lock(&counters->lock);
    *ret = counters->shown;
    pthread_mutex_unlock(&counters->lock);
    /* relaxed: numbers for people. */
    ret->queue_batches = atomic_load_explicit(&counters->queued, memory_order_relaxed);
    ret->checkpoints = atomic_load_explicit(&counters->checkpoints, memory_order_relaxed);
    if (store->driver->folder) {
        const char *folder = store->driver->folder(store->config.url);
        ret->file_bytes = file_size(folder, "perdure.db") + file_size(folder, "perdure.db-wal");
    }
}
