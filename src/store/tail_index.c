/* SPDX-License-Identifier: Apache-2.0 */
/* tail_index.c - the index of the tail in RAM. The header says why it is right. */
#include "store/tail_index.h"
#include <stdlib.h>

void tail_index_init(struct tail_index *index, const struct tail_limits *limits)
{
    *index = (struct tail_index){ .oldest = 1, .next_pos = 1, .limits = *limits };
    index->full.last = &index->full.first;
    index->closed.last = &index->closed.first;
    pthread_mutex_init(&index->lock, NULL);
}

static void stream_free(struct tail_stream *stream)
{
    buf_done(&stream->bodies);
    free(stream->entries);
    free(stream);
}

void tail_index_done(struct tail_index *index)
{
    assert(!index->guards);
    struct tail_stream *stream;
    for (size_t i = 0; (stream = u64_map_next(&index->streams, &i));)
        stream_free(stream);
    u64_map_done(&index->streams);
    free(index->places);
    pthread_mutex_destroy(&index->lock);
}

/* ---- adding ---- */

static void places_grow(struct tail_index *index)
{
    uint64_t           cap = index->cap ? index->cap * 2 : 1024;
    struct tail_place *places = mem_alloc(cap * sizeof *places);
    for (uint64_t pos = index->oldest; pos < index->next_pos; pos++)
        places[pos & (cap - 1)] = index->places[pos & (index->cap - 1)];
    free(index->places);
    index->places = places;
    index->cap = cap;
}

struct tail_place *tail_index_place(const struct tail_index *index, uint64_t pos)
{
    assert(pos >= index->oldest && pos < index->next_pos);
    return &index->places[pos & (index->cap - 1)];
}

static struct tail_stream *stream_of(struct tail_index *index, uint64_t number, bool bound_known)
{
    struct tail_stream *stream = u64_map_get(&index->streams, number);
    if (stream)
        return stream;
    stream = mem_alloc(sizeof *stream);
    stream->number = number;
    stream->bound_known = stream->bodies_kept = bound_known;
    u64_map_put(&index->streams, number, stream);
    return stream;
}

/* Room for one entry more: what was taken out at the front makes room first. Under the lock. */
static void entries_reserve(struct tail_stream *stream)
{
    if (stream->end < stream->cap)
        return;
    uint32_t gone = stream->start;
    if (gone > 0 && gone >= stream->cap / 2) {
        memmove(stream->entries, stream->entries + gone, (stream->end - gone) * sizeof *stream->entries);
        stream->start = 0;
        stream->end -= gone;
        stream->settled -= gone;
        stream->picked -= gone;
        return;
    }
    stream->cap = stream->cap ? stream->cap * 2 : 4;
    stream->entries = mem_grow(stream->entries, stream->cap * sizeof *stream->entries);
}

static struct tail_stream *add_entry(struct tail_index *index, uint64_t number, const struct tail_entry *entry,
                                     uint32_t now_ms, bool bound_known)
{
    assert(entry->pos == index->next_pos && entry->bytes <= INT32_MAX);
    if (index->next_pos - index->oldest == index->cap)
        places_grow(index);
    struct tail_stream *stream = stream_of(index, number, bound_known);
    if (stream->end > stream->start) {
        const struct tail_entry *last = &stream->entries[stream->end - 1];
        assert(entry->first_seq == last->first_seq + last->n); /* dense, or our own mistake */
    }
    entries_reserve(stream);
    stream->entries[stream->end++] = *entry;
    index->next_pos++;
    *tail_index_place(index, entry->pos) = (struct tail_place){ stream, now_ms, entry->bytes & INT32_MAX, 0 };
    stream->unsettled_events += entry->n;
    stream->unsettled_bytes += entry->bytes;
    index->bytes += entry->bytes + TAIL_ROW_COST;
    return stream;
}

/* ---- due ---- */

static void due_push(struct tail_due_list *list, struct tail_stream *stream)
{
    stream->next_due = NULL;
    *list->last = stream;
    list->last = &stream->next_due;
}

static struct tail_stream *due_pop(struct tail_due_list *list)
{
    struct tail_stream *stream = list->first;
    if (!stream)
        return NULL;
    list->first = stream->next_due;
    if (!list->first)
        list->last = &list->first;
    stream->next_due = NULL;
    return stream;
}

void tail_index_make_due(struct tail_index *index, struct tail_stream *stream)
{
    /* What is being settled right now still counts as unsettled; tail_index_settled asks again. */
    if (stream->due != TAIL_NOT_DUE || stream->is_picked || stream->settled == stream->end)
        return;
    bool full = stream->unsettled_events >= index->limits.events || stream->unsettled_bytes >= index->limits.bytes;
    if (stream->closed) {
        stream->due = TAIL_DUE_CLOSED;
        due_push(&index->closed, stream);
    } else if (full) {
        stream->due = TAIL_DUE_FULL;
        due_push(&index->full, stream);
    }
}

/* One that closed while it was on the list of the full ones stays there. Nothing else settles a stream that is on a
 * list. */
struct tail_stream *tail_index_take_due(struct tail_index *index)
{
    struct tail_stream *stream = due_pop(&index->closed);
    if (!stream)
        stream = due_pop(&index->full);
    if (stream)
        stream->due = TAIL_NOT_DUE;
    return stream;
}

/* ---- adding, as the storage thread sees it ---- */

static bool can_follow(const struct tail_index *index, const struct tail_entry *entry, uint64_t number)
{
    if (entry->pos != index->next_pos || number == 0 || entry->first_seq == 0 || entry->n == 0 ||
        entry->bytes > INT32_MAX)
        return false;
    const struct tail_stream *stream = u64_map_get(&index->streams, number);
    const struct tail_entry  *last = stream ? &stream->entries[stream->end - 1] : NULL;
    return !last || entry->first_seq == last->first_seq + last->n;
}

bool tail_index_found(struct tail_index *index, const struct tail_entry *entry, uint64_t stream)
{
    if (index->next_pos == 1 && entry->pos > 1) {
        index->oldest = index->next_pos = entry->pos;
        index->floor = index->deleted_through = entry->pos - 1;
    }
    if (!can_follow(index, entry, stream))
        return false;
    tail_index_make_due(index, add_entry(index, stream, entry, 0, false));
    return true;
}

static void keep_body(struct tail_index *index, struct tail_stream *stream, struct span body)
{
    if (!stream->bodies_kept)
        return;
    if (index->ram + body.n > index->limits.body_ram) {
        tail_index_drop_bodies(index, stream);
        return;
    }
    buf_span(&stream->bodies, body);
    index->ram += body.n;
}

void tail_index_drop_bodies(struct tail_index *index, struct tail_stream *stream)
{
    index->ram -= stream->bodies.len;
    stream->bodies_kept = false;
    buf_done(&stream->bodies);
}

void tail_index_bodies_packed(struct tail_index *index, struct tail_stream *stream, size_t bytes)
{
    if (stream->bodies_kept) {
        struct buf *bodies = &stream->bodies;
        index->ram -= bytes;
        bodies->len -= bytes;
        if (bodies->len > 0)
            memmove(bodies->p, bodies->p + bytes, bodies->len);
    }
    if (stream->picked == stream->end)
        stream->bodies_kept = true;
}

void tail_index_add(struct tail_index *index, const struct tail_new *frames, size_t count, uint32_t now_ms)
{
    pthread_mutex_lock(&index->lock);
    for (size_t i = 0; i < count; i++) {
        const struct frame *frame = &frames[i].frame;
        struct tail_entry   entry = { index->next_pos, frame->first_seq, frame->wf_before, frame->epoch, frame->base_ms,
                                      frame->n, (uint32_t)frame->body.n };
        add_entry(index, frame->stream, &entry, now_ms, true);
    }
    pthread_mutex_unlock(&index->lock);
    /* The rest is nobody else's business, and copying takes its time. */
    uint64_t pos = index->next_pos - count;
    for (size_t i = 0; i < count; i++, pos++) {
        struct tail_stream *stream = tail_index_place(index, pos)->stream;
        keep_body(index, stream, frames[i].frame.body);
        stream->closed = frames[i].closed;
        tail_index_make_due(index, stream);
    }
}

/* ---- settled, deleted ---- */

void tail_index_settled(struct tail_index *index, struct tail_stream *stream)
{
    assert(stream->is_picked);
    stream->is_picked = false;
    for (; stream->settled < stream->picked; stream->settled++) {
        const struct tail_entry *entry = &stream->entries[stream->settled];
        tail_index_place(index, entry->pos)->settled = 1;
        stream->unsettled_events -= entry->n;
        stream->unsettled_bytes -= entry->bytes;
    }
    while (index->floor + 1 < index->next_pos && tail_index_place(index, index->floor + 1)->settled)
        index->floor++;
    tail_index_make_due(index, stream); /* what came meanwhile, or was too much for one transaction */
}

/* Under the lock. */
static void take_out(struct tail_index *index, uint64_t pos)
{
    struct tail_stream *stream = tail_index_place(index, pos)->stream;
    assert(stream->start < stream->settled && stream->entries[stream->start].pos == pos);
    if (++stream->start < stream->end)
        return;
    assert(stream->due == TAIL_NOT_DUE && !stream->is_picked);
    index->ram -= stream->bodies.len;
    u64_map_del(&index->streams, stream->number);
    stream_free(stream);
}

static uint64_t held_back_to(const struct tail_index *index)
{
    uint64_t through = index->deleted_through;
    for (const struct tail_guard *guard = index->guards; guard; guard = guard->next)
        if (guard->deleted_through < through)
            through = guard->deleted_through;
    return through;
}

void tail_index_deleted(struct tail_index *index, uint64_t through)
{
    assert(through <= index->floor && through >= index->deleted_through);
    for (uint64_t pos = index->deleted_through + 1; pos <= through; pos++)
        index->bytes -= tail_index_place(index, pos)->bytes + TAIL_ROW_COST;
    pthread_mutex_lock(&index->lock);
    index->deleted_through = through;
    uint64_t free_to = held_back_to(index);
    while (index->oldest <= free_to)
        take_out(index, index->oldest), index->oldest++;
    pthread_mutex_unlock(&index->lock);
}

/* ---- readers ---- */

void tail_guard_enter(struct tail_index *index, struct tail_guard *guard)
{
    assert(!guard->active);
    pthread_mutex_lock(&index->lock);
    guard->active = true;
    guard->deleted_through = index->deleted_through;
    guard->next = index->guards;
    index->guards = guard;
    pthread_mutex_unlock(&index->lock);
}

void tail_guard_leave(struct tail_index *index, struct tail_guard *guard)
{
    assert(guard->active);
    pthread_mutex_lock(&index->lock);
    struct tail_guard **link = &index->guards;
    while (*link != guard)
        link = &(*link)->next;
    *link = guard->next;
    guard->active = false;
    pthread_mutex_unlock(&index->lock);
}

/* The first entry in [low, high) for which `pos` is larger; high when there is none. */
static uint32_t first_above(const struct tail_entry *entries, uint32_t low, uint32_t high, uint64_t pos)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entries[middle].pos > pos)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct range {
    const struct tail_entry *entries;
    size_t                   n;
};

/* What the view has of the stream. Under the lock. */
static struct range in_view(const struct tail_index *index, struct tail_view view, uint64_t number)
{
    const struct tail_stream *stream = view.min <= view.max ? u64_map_get(&index->streams, number) : NULL;
    if (!stream)
        return (struct range){ NULL, 0 };
    uint32_t low = first_above(stream->entries, stream->start, stream->end, view.min - 1);
    uint32_t high = first_above(stream->entries, low, stream->end, view.max);
    return (struct range){ stream->entries + low, high - low };
}

/* The last of the range's entries that begins at or before seq; the first one does. */
static size_t entry_of_seq(struct range range, uint64_t seq)
{
    size_t low = 0, high = range.n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (range.entries[middle].first_seq <= seq)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static enum tail_where where(struct range range, uint64_t seq)
{
    if (range.n == 0)
        return TAIL_NONE;
    if (seq < range.entries[0].first_seq)
        return TAIL_BEFORE;
    const struct tail_entry *last = &range.entries[range.n - 1];
    return seq < last->first_seq + last->n ? TAIL_HERE : TAIL_BEYOND;
}

enum tail_where tail_index_copy(struct tail_index *index, struct tail_view view, uint64_t stream, uint64_t seq,
                                struct tail_entry *out, size_t most, size_t *ret_count)
{
    pthread_mutex_lock(&index->lock);
    struct range    range = in_view(index, view, stream);
    enum tail_where found = where(range, seq);
    if (found == TAIL_HERE) {
        size_t first = entry_of_seq(range, seq);
        *ret_count = range.n - first < most ? range.n - first : most;
        memcpy(out, range.entries + first, *ret_count * sizeof *out);
    }
    pthread_mutex_unlock(&index->lock);
    return found;
}

bool tail_index_last(struct tail_index *index, struct tail_view view, uint64_t stream, struct tail_entry *ret)
{
    pthread_mutex_lock(&index->lock);
    struct range range = in_view(index, view, stream);
    if (range.n > 0)
        *ret = range.entries[range.n - 1];
    pthread_mutex_unlock(&index->lock);
    return range.n > 0;
}

static enum tail_where last_with_wf(struct range range, uint64_t after, struct tail_entry *ret)
{
    if (range.n == 0)
        return TAIL_NONE;
    if (range.entries[0].wf_before > after)
        return TAIL_BEFORE;
    size_t low = 0, high = range.n;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (range.entries[middle].wf_before <= after)
            low = middle;
        else
            high = middle;
    }
    *ret = range.entries[low];
    return TAIL_HERE;
}

enum tail_where tail_index_by_wf(struct tail_index *index, struct tail_view view, uint64_t stream, uint64_t after,
                                 struct tail_entry *ret)
{
    pthread_mutex_lock(&index->lock);
    enum tail_where found = last_with_wf(in_view(index, view, stream), after, ret);
    pthread_mutex_unlock(&index->lock);
    return found;
}
