/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - what the owner wants written, packed into one buffer, and what comes back.
 *
 * A batch is bytes: it can be applied any number of times, which is what a transaction that must be tried again needs.
 * The storage thread binds values straight out of the buffer. */
#include "store/inner.h"
#include <stdlib.h>

struct after {
    void (*fn)(void *arg, enum err err);
    void *arg;
};

enum { HINT_MOST = 256 * 1024 };

static void batch_come_back(struct read_job *job);

struct batch *batch_new(struct store *store)
{
    struct batch *batch = mem_alloc(sizeof *batch);
    batch->store = store;
    batch->job.done = batch_come_back;
    buf_reserve(&batch->ops, store->batch_hint ? store->batch_hint : 256);
    return batch;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    buf_done(&batch->ops);
    buf_done(&batch->after);
    free(batch);
}

bool batch_empty(const struct batch *batch)
{
    return batch->ops.len == 0;
}

size_t batch_bytes(const struct batch *batch)
{
    return batch->ops.len;
}

/* ---- packing ---- */

/* Operations begin at multiples of 8, so that their heads can be read in place. */
static size_t op_begin(struct batch *batch, struct op op, size_t room)
{
    size_t at = batch->ops.len;
    buf_reserve(&batch->ops, sizeof op + room + 8);
    buf_put(&batch->ops, &op, sizeof op);
    return at;
}

static void op_end(struct batch *batch, size_t at)
{
    static const char zeros[8];
    buf_put(&batch->ops, zeros, -batch->ops.len & 7);
    assert(batch->ops.len - at <= UINT32_MAX);
    ((struct op *)(void *)(batch->ops.p + at))->size = (uint32_t)(batch->ops.len - at);
}

void batch_frame(struct batch *batch, const struct frame *frame, bool closed)
{
    assert(frame->stream > 0 && frame->stream <= INT64_MAX && frame->first_seq > 0 && frame->n > 0);
    struct op_frame fixed = {
        .stream = frame->stream, .first_seq = frame->first_seq, .wf_before = frame->wf_before, .epoch = frame->epoch,
        .base_ms = frame->base_ms, .n = frame->n, .bytes = (uint32_t)frame->body.n,
    };
    assert(frame->body.n <= INT32_MAX - 64);
    size_t at = op_begin(batch, (struct op){ .kind = OP_FRAME, .closed = closed }, sizeof fixed + frame->body.n);
    buf_put(&batch->ops, &fixed, sizeof fixed);
    buf_span(&batch->ops, frame->body);
    op_end(batch, at);
    batch->frames++;
}

/* 0: NULL, else the length + 1. */
static void pack_bytes(struct buf *out, struct span bytes)
{
    buf_varint(out, bytes.p ? (uint64_t)bytes.n + 1 : 0);
    buf_span(out, bytes);
}

static void pack_column(struct buf *out, const struct column *column, bool is_key, const void *row)
{
    const char *value = (const char *)row + column->offset;
    switch (column->kind) {
    case COL_I64: buf_put(out, value, sizeof(int64_t)); break;
    case COL_BYTES: {
        struct span bytes = *(const struct span *)(const void *)value;
        pack_bytes(out, is_key && !bytes.p ? SPAN("") : bytes);
        break;
    }
    case COL_UUID: {
        const struct uuid *id = (const struct uuid *)(const void *)value;
        pack_bytes(out, is_key || !uuid_is_nil(*id) ? uuid_span(id) : SPAN_NONE);
        break;
    }
    case COL_HASH: pack_bytes(out, span_make(value, sizeof(struct sha256))); break;
    }
}

static unsigned columns_written(const struct table *table, enum sql_write how)
{
    return how == SQL_DELETE ? table->keys : table->count;
}

static void add_row(struct batch *batch, enum table_id id, enum sql_write how, const void *row)
{
    const struct table *table = &tables[id];
    size_t at =
        op_begin(batch, (struct op){ .kind = OP_ROW, .table = (uint8_t)id, .how = (uint8_t)how }, table->row_size);
    for (unsigned i = 0; i < columns_written(table, how); i++)
        pack_column(&batch->ops, &table->columns[i], i < table->keys, row);
    op_end(batch, at);
}

void batch_put(struct batch *batch, enum table_id table, const void *row)
{
    add_row(batch, table, SQL_PUT, row);
}

void batch_insert(struct batch *batch, enum table_id table, const void *row)
{
    add_row(batch, table, SQL_INSERT, row);
}

void batch_insert_new(struct batch *batch, enum table_id table, const void *row)
{
    add_row(batch, table, SQL_INSERT_NEW, row);
}

void batch_delete(struct batch *batch, enum table_id table, const void *row)
{
    add_row(batch, table, SQL_DELETE, row);
}

void batch_purge(struct batch *batch, uint64_t stream)
{
    size_t at = op_begin(batch, (struct op){ .kind = OP_PURGE }, sizeof stream);
    buf_put(&batch->ops, &stream, sizeof stream);
    op_end(batch, at);
}

void batch_purge_snapshots(struct batch *batch, struct uuid attempt)
{
    size_t at = op_begin(batch, (struct op){ .kind = OP_PURGE_SNAPSHOTS }, sizeof attempt);
    buf_put(&batch->ops, &attempt, sizeof attempt);
    op_end(batch, at);
}

void batch_after(struct batch *batch, void (*fn)(void *arg, enum err err), void *arg)
{
    struct after after = { fn, arg };
    buf_put(&batch->after, &after, sizeof after);
}

/* ---- unpacking, on the storage thread ---- */

enum err batch_bind_row(const struct db_driver *driver, struct db_stmt *stmt, const struct op *op, const char *values)
{
    const struct table *table = &tables[op->table];
    struct reader_bytes in = bytes_of(span_make(values, op->size - sizeof *op));
    enum err            err = ERR_OK;
    for (unsigned i = 0; i < columns_written(table, op->how) && !err; i++) {
        if (table->columns[i].kind == COL_I64) {
            int64_t value;
            memcpy(&value, bytes_take(&in, sizeof value).p, sizeof value);
            err = driver->bind_i64(stmt, i + 1, value);
            continue;
        }
        uint64_t length = bytes_varint(&in);
        err = driver->bind_bytes(stmt, i + 1, length ? bytes_take(&in, (size_t)length - 1) : SPAN_NONE);
    }
    assert(!in.bad);
    return err;
}

/* ---- there and back ---- */

void store_submit(struct store *store, struct batch *batch)
{
    assert(batch->store == store);
    size_t size = batch->ops.len;
    /* New batches begin as large as recent ones ended: half of the difference each time, downwards too. */
    store->batch_hint = size > HINT_MOST ? HINT_MOST : (store->batch_hint + size) / 2 + 64;
    /* relaxed: a number for people. */
    atomic_fetch_add_explicit(&store->counters.queued, 1, memory_order_relaxed);
    mailbox_post(&store->writer.box, &batch->job.mail);
}

static void batch_come_back(struct read_job *job)
{
    struct batch *batch = CONTAINER(job, struct batch, job);
    size_t        count = batch->after.len / sizeof(struct after);
    for (size_t i = 0; i < count; i++) {
        struct after after;
        memcpy(&after, batch->after.p + i * sizeof after, sizeof after);
        after.fn(after.arg, batch->result);
    }
    batch_free(batch);
}

void store_finish(struct store *store, struct mail *mail)
{
    struct read_job *job = CONTAINER(mail, struct read_job, mail);
    job->done(job);
}
