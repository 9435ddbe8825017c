/* SPDX-License-Identifier: Apache-2.0 */
/* frames.c - a transaction's frames become rows of the tail, in the order in which they came.
 *
 * A row has a position and nothing else to be found by: an index by stream would cost a page per stream and commit.
 * Where each stream's rows lie is in RAM (tail_index.c), and is rebuilt here at start by reading through the tail,
 * which is short. */
#include "store/inner.h"

/* ---- at start ---- */

enum { SCAN_ROWS = 10000 }; /* at a time: a driver may hold a whole answer in memory */

static struct tail_entry entry_of(const struct db_driver *driver, struct db_stmt *stmt)
{
    return (struct tail_entry){
        .pos = (uint64_t)driver->i64(stmt, 0),
        .first_seq = (uint64_t)driver->i64(stmt, 2),
        .n = (uint32_t)driver->i64(stmt, 3),
        .base_ms = driver->i64(stmt, 4),
        .wf_before = (uint64_t)driver->i64(stmt, 5),
        .epoch = (uint64_t)driver->i64(stmt, 6),
        .bytes = (uint32_t)driver->i64(stmt, 7),
    };
}

/* Up to SCAN_ROWS rows behind `after`; *ret_last is the last one's position, or `after` when there was none. */
static enum err load_some(struct store *store, struct db_stmt *stmt, uint64_t after, uint64_t *ret_last,
                          struct error *error)
{
    if (store->driver->bind_i64(stmt, 1, (int64_t)after) || store->driver->bind_i64(stmt, 2, SCAN_ROWS))
        return error_set(error, ERR_STORAGE, "store", "the database refused a value");
    enum err err = ERR_OK;
    *ret_last = after;
    while (!err) {
        bool row;
        err = store->driver->step(stmt, &row, error);
        if (err || !row)
            break;
        struct tail_entry entry = entry_of(store->driver, stmt);
        if (!tail_index_found(&store->tail, &entry, (uint64_t)store->driver->i64(stmt, 1)))
            return error_set(error, ERR_CORRUPT, "store", "the tail is damaged at position %llu",
                             (unsigned long long)entry.pos);
        *ret_last = entry.pos;
    }
    store->driver->reset(stmt);
    return err;
}

static enum err load_rows(struct store *store, struct error *error)
{
    struct db_stmt *stmt = NULL;
    enum err        err = store->driver->prepare(store->writer.db, SQL_TAIL_SCAN, &stmt, error);
    for (uint64_t after = 0, last = 0; !err; after = last) {
        err = load_some(store, stmt, after, &last, error);
        if (last == after)
            break;
    }
    store->driver->finalize(stmt);
    return err;
}

enum err frames_load(struct store *store, struct error *error)
{
    enum err err = store->driver->begin(store->writer.db, false, error);
    if (!err)
        err = load_rows(store, error);
    store->driver->rollback(store->writer.db); /* nothing was written */
    return err;
}

/* ---- in a transaction ---- */

void frames_stage(struct writer *writer, const struct op *op)
{
    if (writer->frame_count == writer->frame_cap) {
        writer->frame_cap = writer->frame_cap ? writer->frame_cap * 2 : 256;
        writer->frames = mem_grow(writer->frames, writer->frame_cap * sizeof *writer->frames);
    }
    const struct op_frame *fixed = (const struct op_frame *)(const void *)(op + 1);
    writer->frames[writer->frame_count++] = (struct tail_new){
        .closed = op->closed,
        .frame = {
            .stream = fixed->stream, .first_seq = fixed->first_seq, .n = fixed->n, .base_ms = fixed->base_ms,
            .wf_before = fixed->wf_before, .epoch = fixed->epoch,
            .body = span_make((const char *)(fixed + 1), fixed->bytes),
        },
    };
    writer->frame_bytes += fixed->bytes + TAIL_ROW_COST;
}

static enum err bind_frame(const struct db_driver *driver, struct db_stmt *stmt, uint64_t pos,
                           const struct frame *frame)
{
    const int64_t numbers[] = { (int64_t)pos,  (int64_t)frame->stream,    (int64_t)frame->first_seq, (int64_t)frame->n,
                                frame->base_ms, (int64_t)frame->wf_before, (int64_t)frame->epoch };
    enum err err = ERR_OK;
    for (unsigned i = 0; i < ARRAY_LEN(numbers) && !err; i++)
        err = driver->bind_i64(stmt, i + 1, numbers[i]);
    return err ? err : driver->bind_bytes(stmt, ARRAY_LEN(numbers) + 1, frame->body);
}

enum err frames_insert(struct store *store, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct writer          *writer = &store->writer;
    if (writer->frame_count == 0)
        return ERR_OK;
    enum err err = writer_prepare(store, &writer->tail_insert, SQL_TAIL_INSERT, error);
    for (size_t i = 0; i < writer->frame_count && !err; i++) {
        bool row;
        err = bind_frame(driver, writer->tail_insert, writer->first_pos + i, &writer->frames[i].frame);
        if (!err)
            err = driver->step(writer->tail_insert, &row, error);
        driver->reset(writer->tail_insert);
    }
    return err;
}

void frames_index(struct store *store)
{
    struct writer *writer = &store->writer;
    if (writer->frame_count == 0)
        return;
    uint32_t now_ms = (uint32_t)((store_now_us(store) - store->start_us) / 1000);
    tail_index_add(&store->tail, writer->frames, writer->frame_count, now_ms);
}
