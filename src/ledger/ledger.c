/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.c - streams: appending during a turn, sealing at its end, publishing after the commit. Followers are follow.c's. */
#include "ledger/inner.h"
#include <stdlib.h>

void ledger_defaults(struct ledger_config *config)
{
    if (!config->heartbeat_ms)
        config->heartbeat_ms = 5000;
    if (!config->slow_reader_ms)
        config->slow_reader_ms = 30000;
    if (!config->ring_bytes)
        config->ring_bytes = 32 << 10;
    if (!config->frame_bytes)
        config->frame_bytes = 32 << 10;
}

struct ledger *ledger_new(const struct ledger_config *config)
{
    struct ledger *ledger = mem_alloc(sizeof *ledger);
    ledger->config = *config;
    ledger_defaults(&ledger->config);
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return;
    assert(ledger->streams.count == 0);
    u64_map_done(&ledger->streams);
    free(ledger);
}

struct stream *stream_open(struct ledger *ledger, uint64_t number, const struct stream_place *place)
{
    assert(number > 0);
    struct stream *stream = u64_map_get(&ledger->streams, number);
    if (stream) {
        stream->refs++;
        return stream;
    }
    stream = mem_alloc(sizeof *stream);
    stream->ledger = ledger;
    stream->number = number;
    stream->refs = 1;
    stream->head = stream->committed = stream->durable = place->head;
    stream->wf_total = place->wf_total;
    stream->last_ms = place->last_ms;
    stream->closed = stream->finished = place->closed;
    stream->last_type = REC_END;
    u64_map_put(&ledger->streams, number, stream);
    ledger->stats.streams++;
    return stream;
}

bool stream_is_open(const struct ledger *ledger, uint64_t number)
{
    return u64_map_get(&ledger->streams, number) != NULL;
}

void stream_unref(struct stream *stream)
{
    if (!stream || --stream->refs > 0)
        return;
    assert(!stream->dirty && !stream->sealed);
    feeds_free(stream);
    buf_done(&stream->writer.body);
    free(stream->bases);
    u64_map_del(&stream->ledger->streams, stream->number);
    stream->ledger->stats.streams--;
    free(stream);
}

void stream_set_bases(struct stream *stream, uint64_t from, const struct stream_base *bases, unsigned count)
{
    if (stream->bases || !count)
        return;
    assert(!stream->feeds && stream->head >= from);
    stream->from = from;
    stream->base_count = count;
    stream->bases = mem_grow(NULL, count * sizeof *bases);
    memcpy(stream->bases, bases, count * sizeof *bases);
}

struct stream_view stream_view(const struct stream *stream)
{
    return (struct stream_view){ stream->number, stream->from, stream->bases, stream->base_count };
}

uint64_t stream_number(const struct stream *stream)    { return stream->number; }
uint64_t stream_head(const struct stream *stream)      { return stream->head; }
uint64_t stream_committed(const struct stream *stream) { return stream->committed; }
uint64_t stream_wf_total(const struct stream *stream)  { return stream->wf_total; }
bool     stream_closed(const struct stream *stream)    { return stream->closed; }
bool     stream_finished(const struct stream *stream)  { return stream->finished; }

int64_t stream_now_ms(struct stream *stream)
{
    struct env *env = stream->ledger->config.env;
    int64_t     now = env->wall_ms(env);
    return now > stream->last_ms ? now : stream->last_ms;
}

static void list_sealed(struct stream *stream, struct sealed *sealed)
{
    if (stream->sealed_last)
        stream->sealed_last->next = sealed;
    else
        stream->sealed = sealed;
    stream->sealed_last = sealed;
}

/* Moves the frame under construction to the list of sealed ones. */
static void cut_frame(struct stream *stream)
{
    struct frame_writer *w = &stream->writer;
    struct sealed       *sealed = mem_alloc(sizeof *sealed);
    sealed->stream = stream;
    sealed->first_seq = w->first_seq;
    sealed->last_seq = w->first_seq + w->n - 1;
    sealed->n = w->n;
    sealed->base_ms = w->base_ms;
    sealed->wf_before = w->wf_before;
    sealed->terminal = w->terminal;
    sealed->body = w->body;
    list_sealed(stream, sealed);
    *w = (struct frame_writer){ 0 };
}

/* Takes the place of the frame that a close without a record does not have. */
static void seal_close(struct stream *stream)
{
    struct sealed *sealed = mem_alloc(sizeof *sealed);
    sealed->stream = stream;
    sealed->first_seq = stream->head + 1;
    sealed->last_seq = stream->head;
    sealed->terminal = true;
    list_sealed(stream, sealed);
    stream->close_due = false;
}

static void stream_dirty(struct stream *stream)
{
    if (stream->dirty)
        return;
    stream->dirty = true;
    stream->refs++; /* until its frames are on disk */
    stream->dirty_next = stream->ledger->dirty;
    stream->ledger->dirty = stream;
}

uint64_t stream_append(struct stream *stream, struct record *record)
{
    assert(!stream->closed);
    struct frame_writer *w = &stream->writer;
    /* A record that would make the frame too big begins a new one; a record that is too big by itself has one alone. */
    size_t bytes = record->pub.n + (record->priv.p ? record->priv.n : 0) + record->text.n + 64;
    if (w->n && w->body.len + bytes > stream->ledger->config.frame_bytes)
        cut_frame(stream);
    if (w->n == 0) {
        w->first_seq = stream->head + 1;
        w->wf_before = stream->wf_total;
    }
    record->seq = ++stream->head;
    record->wall_ms = stream->last_ms = stream_now_ms(stream);
    frame_put(w, record);
    stream->wf_total += record_wf(record->flags);
    if (record->flags & REC_TERMINAL) {
        stream->closed = true;
        stream->last_type = record->type;
        stream->last_flags = record->flags;
    }
    stream_dirty(stream);
    stream->ledger->stats.appended++;
    return record->seq;
}

void stream_close(struct stream *stream)
{
    assert(!stream->closed);
    stream->closed = stream->close_due = true;
    stream_dirty(stream);
}

bool ledger_dirty(const struct ledger *ledger)
{
    return ledger->dirty != NULL;
}

/* The commit's answer for all frames that one stream got in one turn. */
static void frames_committed(void *arg, enum err err)
{
    struct sealed *sealed = arg;
    struct stream *stream = sealed->stream;
    for (const struct sealed *s = sealed; s && !err; s = s->next)
        stream->durable = s->last_seq;
    while (sealed) {
        struct sealed *next = sealed->next;
        if (!err) {
            stream->committed = sealed->last_seq;
            stream->finished = stream->finished || sealed->terminal;
            stream->ledger->stats.published += sealed->n;
            if (sealed->n)
                feeds_publish(stream, sealed);
            else
                feeds_finish(stream);
        }
        buf_done(&sealed->body);
        free(sealed);
        sealed = next;
    }
    stream_unref(stream);
}

static void seal_stream(struct stream *stream, struct batch *batch)
{
    if (stream->writer.n)
        cut_frame(stream);
    if (stream->close_due)
        seal_close(stream);
    struct sealed *first = stream->sealed;
    stream->sealed = stream->sealed_last = NULL;
    uint64_t epoch = store_epoch(stream->ledger->config.store);
    for (struct sealed *s = first; s; s = s->next) {
        if (!s->n)
            continue;
        struct frame frame = { .stream = stream->number, .first_seq = s->first_seq, .n = s->n, .base_ms = s->base_ms,
                               .wf_before = s->wf_before, .epoch = epoch, .body = buf_view(&s->body) };
        batch_frame(batch, &frame, s->terminal);
        if (!stream->feeds)
            buf_done(&s->body); /* nobody to show it to: a follower that comes meanwhile reads it from the store */
    }
    batch_after(batch, frames_committed, first);
}

void ledger_seal(struct ledger *ledger, struct batch *batch)
{
    struct stream *stream = ledger->dirty;
    ledger->dirty = NULL;
    while (stream) {
        struct stream *next = stream->dirty_next;
        stream->dirty = false;
        seal_stream(stream, batch);
        stream = next;
    }
}

void ledger_tick(struct ledger *ledger)
{
    int64_t now_ms = ledger->config.env->wall_ms(ledger->config.env);
    /* A tick may end the last follower of any stream, and with it the stream: hold them all while walking. */
    struct buf held = { 0 };
    for (struct stream *s = ledger->with_feeds; s; s = s->feed_next) {
        s->refs++;
        buf_put(&held, &s, sizeof s);
    }
    for (size_t i = 0; i < held.len / sizeof(struct stream *); i++) {
        struct stream *s = ((struct stream **)(void *)held.p)[i];
        feeds_tick(s, now_ms);
        stream_unref(s);
    }
    buf_done(&held);
}

void ledger_stats(const struct ledger *ledger, struct ledger_stats *ret)
{
    *ret = ledger->stats;
}

static bool last_record(void *user, const struct frame *frame)
{
    struct stream_place *place = user;
    struct frame_reader  reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record        record;
    uint64_t             wf = frame->wf_before;
    while (frame_next(&reader, &record)) {
        wf += record_wf(record.flags);
        place->head = record.seq;
        place->last_ms = record.wall_ms;
        place->closed = record.flags & REC_TERMINAL;
    }
    place->wf_total = wf;
    return true;
}

enum err stream_place_read(struct reader *reader, uint64_t number, struct stream_place *ret)
{
    *ret = (struct stream_place){ 0 };
    uint64_t     head = 0;
    struct frame last;
    enum err     e = reader_head(reader, number, &head, &last);
    if (e || head == 0)
        return e;
    return reader_frames(reader, number, last.first_seq - 1, 1, last_record, ret);
}
