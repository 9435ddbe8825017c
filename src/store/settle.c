/* SPDX-License-Identifier: Apache-2.0 */
/* settle.c - moves frames from the tail, where they lie in order of arrival, into segments, where they lie by stream.
 *
 * When. Streams that closed, or have enough unsettled events or bytes, wait in a queue; so does, after settle_hold_ms,
 * whoever owns the oldest unsettled frame, because rows of the tail can only be deleted up to there. While no mail
 * comes the queue is worked off in small transactions. While mail comes it waits, until the tail has an eighth of its
 * bound; from there on each commit earns settling a credit for the bytes that it added, the more the longer the tail
 * is, so that commits stay alike and the tail finds its length. From a half on streams that are not due are settled as
 * well, the oldest first. Streams are taken in the order of their numbers within a commit: neighbours in the index
 * share pages.
 *
 * How. A segment row is inserted; rows of the tail whose frames all are in committed segments are deleted by a later
 * commit, some hundred at a time. Between the two a frame is in both places, with the same bytes (tail_index.h). */
#include "store/inner.h"
#include <stdlib.h>

enum {
    STREAM_MOST = SEGMENT_BYTES,  /* bytes of one stream per transaction */
    PAGE_COST = 4096,             /* a stream's segment dirties a page at least */
    IDLE_BYTES = 256 * 1024,      /* per transaction while no mail comes: mail that comes now waits for it */
    BUSY_BYTES_FULL = 128 * 1024, /* extra credit per commit once the tail is too long */
    IDLE_DELETES = 4096,
    BUSY_DELETES = 256,           /* while there is mail: this many rows at once, and twice what a commit inserts */
    IDLE_MS = 2,                  /* no mail for so long: idle */
    DUE_FROM = 8,                 /* while there is mail: streams that are due settle from an eighth of the bound on, */
    HOLDERS_FROM = 2,             /* small ones only from a half: their segments would be short */
    STEEPNESS = 4,                /* bytes settled per byte added when the tail is as long as it may be */
};

void settle_done(struct settle *settle)
{
    free(settle->picked);
    buf_done(&settle->body);
}

/* ---- which ---- */

static void pick(struct settle *settle, struct tail_stream *stream, int64_t *credit)
{
    if (settle->count == settle->cap) {
        settle->cap = settle->cap ? settle->cap * 2 : 64;
        settle->picked = mem_grow(settle->picked, settle->cap * sizeof(struct tail_stream *));
    }
    stream->is_picked = true;
    stream->picked = stream->settled;
    settle->picked[settle->count++] = stream;
    uint64_t bytes = stream->unsettled_bytes < STREAM_MOST ? stream->unsettled_bytes : STREAM_MOST;
    *credit -= (int64_t)bytes + PAGE_COST;
}

static void pick_due(struct store *store)
{
    struct tail_stream *stream;
    while (store->settle.due_credit > 0 && (stream = tail_index_take_due(&store->tail)))
        pick(&store->settle, stream, &store->settle.due_credit);
}

static bool old_enough(const struct store *store, const struct tail_place *place, uint32_t now_ms)
{
    return now_ms - place->since_ms >= store->config.settle_hold_ms;
}

static uint32_t now_ms(const struct store *store)
{
    return (uint32_t)((store_now_us(store) - store->start_us) / 1000);
}

/* Whoever owns the oldest unsettled frames. `only_old`: for longer than settle_hold_ms. Streams on the due list are
 * passed over: their turn comes. What was seen is not looked at again until the search has reached its end once. */
static void pick_holders(struct store *store, bool only_old)
{
    struct settle     *settle = &store->settle;
    struct tail_index *tail = &store->tail;
    uint32_t           now = now_ms(store);
    uint64_t           pos = settle->walk_from > tail->floor ? settle->walk_from : tail->floor + 1;
    for (; settle->holder_credit > 0 && pos < tail->next_pos; pos++) {
        const struct tail_place *place = tail_index_place(tail, pos);
        if (only_old && !old_enough(store, place, now))
            break;
        if (!place->settled && !place->stream->is_picked && place->stream->due == TAIL_NOT_DUE)
            pick(settle, place->stream, &settle->holder_credit);
    }
    settle->walk_from = settle->holder_credit > 0 ? 0 : pos;
}

static int by_number(const void *a, const void *b)
{
    const struct tail_stream *x = *(struct tail_stream *const *)a, *y = *(struct tail_stream *const *)b;
    return (x->number > y->number) - (x->number < y->number);
}

/* ---- one stream ---- */

static enum err put_segment(struct store *store, uint64_t stream, const struct segment *segment, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt         *stmt = store->writer.segment_insert;
    const int64_t numbers[] = {
        (int64_t)stream,        (int64_t)segment->first.first_seq, (int64_t)segment->events,
        segment->first.base_ms, (int64_t)segment->first.wf_before, (int64_t)segment->first.epoch
    };
    enum err err = ERR_OK;
    for (unsigned i = 0; i < ARRAY_LEN(numbers) && !err; i++)
        err = driver->bind_i64(stmt, i + 1, numbers[i]);
    if (!err)
        err = driver->bind_bytes(stmt, ARRAY_LEN(numbers) + 1, buf_view(segment->body));
    bool row;
    if (!err)
        err = driver->step(stmt, &row, error);
    driver->reset(stmt);
    return err;
}

/* A frame's body out of the tail; the caller resets the statement when it has copied the bytes. */
static enum err body_from_tail(struct store *store, uint64_t pos, struct span *ret, struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt         *stmt = store->writer.tail_body;
    bool                    row;
    enum err                err = driver->bind_i64(stmt, 1, (int64_t)pos);
    if (!err)
        err = driver->step(stmt, &row, error);
    if (err)
        return err;
    if (!row)
        return error_set(error, ERR_CORRUPT, NULL, "the tail has lost position %llu", (unsigned long long)pos);
    *ret = driver->bytes(stmt, 0);
    return ERR_OK;
}

/* Entries that a segment already holds (the process ended between settling and deleting): they need no second one. */
static enum err pass_over_settled(struct store *store, struct tail_stream *stream, uint32_t *ret_from,
                                  struct error *error)
{
    const struct db_driver *driver = store->driver;
    struct db_stmt         *stmt = store->writer.segment_place;
    bool                    row = false;
    enum err                err = driver->bind_i64(stmt, 1, (int64_t)stream->number);
    if (!err)
        err = driver->bind_i64(stmt, 2, INT64_MAX);
    if (!err)
        err = driver->step(stmt, &row, error);
    uint64_t end = !err && row ? (uint64_t)(driver->i64(stmt, 0) + driver->i64(stmt, 1)) : 0;
    driver->reset(stmt);
    if (err)
        return err;
    uint32_t from = stream->settled;
    while (from < stream->end && stream->entries[from].first_seq < end)
        from++;
    stream->bound_known = true;
    *ret_from = from;
    return ERR_OK;
}

struct packing {
    struct segment segment;
    size_t         ram_at, packed; /* bytes of stream->bodies passed, bytes packed */
};

static enum err pack_entry(struct store *store, struct tail_stream *stream, struct packing *packing, uint32_t i,
                           struct error *error)
{
    const struct tail_entry *entry = &stream->entries[i];
    struct frame frame = { stream->number,   entry->first_seq, entry->n, entry->base_ms,
                           entry->wf_before, entry->epoch,     SPAN_NONE };
    enum err     err = ERR_OK;
    if (stream->bodies_kept)
        frame.body = span_make(stream->bodies.p + packing->ram_at, entry->bytes);
    else
        err = body_from_tail(store, entry->pos, &frame.body, error);
    if (!err && frame.body.n != entry->bytes)
        err = error_set(error, ERR_CORRUPT, NULL, "position %llu of the tail has changed",
                        (unsigned long long)entry->pos);
    if (!err && !segment_fits(&packing->segment, &frame)) {
        err = put_segment(store, stream->number, &packing->segment, error);
        segment_begin(&packing->segment, &store->settle.body);
    }
    if (!err)
        segment_add(&packing->segment, &frame);
    if (!stream->bodies_kept)
        store->driver->reset(store->writer.tail_body);
    packing->ram_at += entry->bytes;
    packing->packed += entry->bytes;
    store->settle.events += entry->n;
    return err;
}

static enum err settle_stream(struct store *store, struct tail_stream *stream, struct error *error)
{
    struct packing packing = { 0 };
    uint32_t       i = stream->settled;
    enum err       err = stream->bound_known ? ERR_OK : pass_over_settled(store, stream, &i, error);
    segment_begin(&packing.segment, &store->settle.body);
    for (; i < stream->end && packing.packed < STREAM_MOST && !err; i++)
        err = pack_entry(store, stream, &packing, i, error);
    if (!err && packing.segment.events > 0)
        err = put_segment(store, stream->number, &packing.segment, error);
    if (err)
        return err;
    stream->picked = i;
    tail_index_bodies_packed(&store->tail, stream, packing.ram_at);
    return ERR_OK;
}

static enum err settle_picked(struct store *store, struct error *error)
{
    struct settle *settle = &store->settle;
    if (settle->count == 0)
        return ERR_OK;
    struct writer *writer = &store->writer;
    qsort(settle->picked, settle->count, sizeof *settle->picked, by_number);
    enum err err = writer_prepare(store, &writer->segment_insert, SQL_SEGMENT_INSERT, error);
    if (!err)
        err = writer_prepare(store, &writer->segment_place, SQL_SEGMENT_PLACE, error);
    if (!err)
        err = writer_prepare(store, &writer->tail_body, SQL_TAIL_BODY, error);
    for (size_t i = 0; i < settle->count && !err; i++)
        err = settle_stream(store, settle->picked[i], error);
    return err;
}

/* ---- deleting ---- */

/* Each DELETE dirties some pages whatever its size (the end of the free list, the tree's left edge), so that one of a
 * few hundred rows now and then costs less than a few rows per commit. */
static enum err delete_rows(struct store *store, enum settle_mode mode, size_t inserted, struct error *error)
{
    struct tail_index *tail = &store->tail;
    uint64_t           rows = tail->floor - tail->deleted_through;
    uint64_t           step = mode == SETTLE_IDLE ? IDLE_DELETES : BUSY_DELETES + 2 * inserted;
    bool               may_wait = mode == SETTLE_BUSY && tail->bytes < store->config.tail_bytes / 2;
    if (rows == 0 || (may_wait && rows < step))
        return ERR_OK;
    uint64_t        to = tail->deleted_through + (rows < step ? rows : step);
    struct db_stmt **stmt = &store->writer.tail_delete;
    enum err        err = writer_prepare(store, stmt, SQL_TAIL_DELETE, error);
    bool            row;
    if (!err)
        err = store->driver->bind_i64(*stmt, 1, (int64_t)to);
    if (!err)
        err = store->driver->step(*stmt, &row, error);
    if (*stmt)
        store->driver->reset(*stmt);
    if (!err)
        store->settle.delete_to = to;
    return err;
}

/* ---- how much ---- */

/* What a commit earns: nothing below `from`, then more the nearer the tail is to its bound. What was not spent is not
 * saved, so that a late queue does not make one long commit. */
static void earn(int64_t *credit, uint64_t from, uint64_t bound, uint64_t now, size_t inserted_bytes)
{
    if (*credit > 0 || now <= from)
        *credit = 0;
    if (now <= from)
        return;
    double fullness = now < bound ? (double)(now - from) / (double)(bound - from) : 1.0;
    *credit += (int64_t)((double)inserted_bytes * STEEPNESS * fullness);
    if (now >= bound)
        *credit += BUSY_BYTES_FULL;
}

static void earn_credit(struct store *store, enum settle_mode mode, size_t inserted_bytes)
{
    struct settle *settle = &store->settle;
    if (mode == SETTLE_IDLE) {
        settle->due_credit = settle->holder_credit = IDLE_BYTES;
        return;
    }
    uint64_t bound = store->config.tail_bytes, now = store->tail.bytes;
    earn(&settle->due_credit, bound / DUE_FROM, bound, now, inserted_bytes);
    earn(&settle->holder_credit, bound / HOLDERS_FROM, bound, now, inserted_bytes);
}

enum err settle_step(struct store *store, enum settle_mode mode, size_t inserted, size_t inserted_bytes,
                     struct error *error)
{
    struct settle *settle = &store->settle;
    settle->count = 0;
    settle->delete_to = 0;
    settle->events = 0;
    earn_credit(store, mode, inserted_bytes);
    pick_due(store);
    if (settle->holder_credit > 0)
        pick_holders(store, mode == SETTLE_IDLE);
    enum err err = settle_picked(store, error);
    if (err)
        return err;
    return delete_rows(store, mode, inserted, error);
}

void settle_committed(struct store *store)
{
    struct settle *settle = &store->settle;
    for (size_t i = 0; i < settle->count; i++)
        tail_index_settled(&store->tail, settle->picked[i]);
    if (settle->delete_to)
        tail_index_deleted(&store->tail, settle->delete_to);
    store->counters.now.settles += settle->count;
    store->counters.now.settled_events += settle->events;
    settle->count = 0;
    settle->delete_to = 0;
}

void settle_undone(struct store *store)
{
    struct settle *settle = &store->settle;
    for (size_t i = 0; i < settle->count; i++) {
        struct tail_stream *stream = settle->picked[i];
        stream->is_picked = false;
        stream->picked = stream->settled;
        tail_index_drop_bodies(&store->tail, stream); /* some are packed and gone; all are in the tail */
        tail_index_make_due(&store->tail, stream);
    }
    settle->count = 0;
    settle->delete_to = 0;
}

int settle_patience(const struct store *store)
{
    const struct tail_index *tail = &store->tail;
    if (tail->full.first || tail->closed.first || tail->floor > tail->deleted_through)
        return IDLE_MS;
    if (tail->floor + 1 == tail->next_pos)
        return -1;
    uint32_t held = now_ms(store) - tail_index_place(tail, tail->floor + 1)->since_ms;
    if (held >= store->config.settle_hold_ms)
        return IDLE_MS;
    uint32_t left = store->config.settle_hold_ms - held;
    return left > INT32_MAX ? INT32_MAX : (int)(left < IDLE_MS ? IDLE_MS : left);
}
