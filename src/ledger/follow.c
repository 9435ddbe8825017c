/* SPDX-License-Identifier: Apache-2.0 */
/* follow.c - feeds and their followers; see follow.h for the promises.
 *
 * Where a follower's next byte comes from, in this order: the rest of a chunk it has begun; the feed's ring of what was just
 * published; a chunk that was read from the store a moment ago; a new read on the reader thread. A follower that is at the
 * head, blocked, or waiting for a read costs nothing until something happens. */
#include "ledger/inner.h"
#include <stdlib.h>

enum {
    F_BLOCKED  = 1 << 0, /* the socket is full: the next writable edge goes on */
    F_READING  = 1 << 1, /* on a catch_up's list */
    F_TERMINAL = 1 << 2, /* the terminal event was sent on this connection */
    F_FAREWELL = 1 << 3, /* f->chunk is the farewell: end when it is out */
    F_ENDING   = 1 << 4, /* end at the next event boundary */
    F_GREETED  = 1 << 5, /* a tail was sent */
};
enum { GATHER = 16, CATCH_UP_BYTES = 256 << 10, SWEEP_MS = 1000 };

/* What a follower of a format with a tail sends around a chunk: the head and the end of the HTTP chunk are its own. */
struct wrap {
    uint64_t mark;
    uint32_t generation;
    uint16_t head_n, tail_n;
    bool     ready; /* made for the chunk in hand */
    char     head[12], tail[FOLLOW_TAIL + 2];
};

struct follower {
    struct feed           *feed;
    const struct sink_ops *ops;
    void                  *sink;
    uint64_t               cursor; /* last seq that the connection accepted whole */
    struct chunk          *chunk;  /* begun, or about to be */
    struct wrap           *wrap;   /* NULL unless the format has a tail */
    uint32_t               off;    /* into its bytes; with a wrap: into head, bytes and tail */
    uint32_t               slot;   /* in feed->followers */
    int64_t                progress_ms, end_ms;
    struct follower       *reading_next;
    uint8_t                flags;
    enum follow_end        end;
};

/* A read of the store on its way, shared by all followers of the feed that want the same place. */
struct catch_up {
    struct read_job           job;
    struct feed              *feed;
    struct catch_up          *next;
    struct follower          *waiting;
    const struct wire_format *format;
    const void               *ctx;
    uint64_t                  stream, after, upto; /* stream: of a fork the base that has what is wanted */
    struct chunk             *chunk; /* NULL: nothing was found */
    enum record_type          last_type;
    uint8_t                   last_flags;
    enum err                  err;
};

/* ---- chunks ---- */

static struct chunk *chunk_new(uint64_t first_seq)
{
    struct chunk *c = mem_alloc(sizeof *c);
    c->refs = 1;
    c->first_seq = first_seq;
    c->last_seq = first_seq ? first_seq - 1 : 0;
    return c;
}

static struct chunk *chunk_ref(struct chunk *c)
{
    c->refs++;
    return c;
}

static void chunk_unref(struct chunk *c)
{
    if (!c || --c->refs > 0)
        return;
    buf_done(&c->bytes);
    free(c->ends);
    free(c);
}

static void chunk_event(struct chunk *c, const struct wire_format *format, const void *ctx, const struct record *record)
{
    size_t i = (size_t)(++c->last_seq - c->first_seq);
    if ((i & (i + 1)) == 0) /* room for the next power of two */
        c->ends = mem_grow(c->ends, (2 * i + 2) * sizeof *c->ends);
    format->event(ctx, record, &c->bytes);
    c->ends[i] = (uint32_t)c->bytes.len;
}

static bool chunk_holds(const struct chunk *c, uint64_t seq)
{
    return c && c->first_seq <= seq && seq <= c->last_seq;
}

/* Where event `seq` begins. */
static uint32_t chunk_offset(const struct chunk *c, uint64_t seq)
{
    return seq == c->first_seq ? 0 : c->ends[seq - c->first_seq - 1];
}

/* ---- feeds ---- */

static int64_t wall_now(const struct feed *feed)
{
    struct env *env = feed->stream->ledger->config.env;
    return env->wall_ms(env);
}

static struct feed *feed_get(struct stream *stream, const struct wire_format *format, void *ctx)
{
    for (struct feed *f = stream->feeds; f; f = f->next)
        if (f->format == format && !format->remembers) {
            if (format->ctx_free)
                format->ctx_free(ctx);
            return f;
        }
    struct feed *feed = mem_alloc(sizeof *feed);
    feed->stream = stream;
    feed->format = format;
    feed->ctx = ctx;
    feed->last_sent_ms = wall_now(feed);
    if (!stream->feeds) {
        struct ledger *ledger = stream->ledger;
        stream->feed_prev = NULL;
        stream->feed_next = ledger->with_feeds;
        if (ledger->with_feeds)
            ledger->with_feeds->feed_prev = stream;
        ledger->with_feeds = stream;
    }
    feed->next = stream->feeds;
    stream->feeds = feed;
    stream->ledger->stats.feeds++;
    return feed;
}

static void ring_clear(struct feed *feed)
{
    for (; feed->ring_count; feed->ring_count--) {
        chunk_unref(feed->ring[feed->ring_at]);
        feed->ring_at = (feed->ring_at + 1) % RING_CHUNKS;
    }
    feed->ring_bytes = 0;
}

static void recent_clear(struct feed *feed)
{
    for (unsigned i = 0; i < RECENT_READS; i++) {
        chunk_unref(feed->recent[i]);
        feed->recent[i] = NULL;
    }
}

static void feed_unlink(struct feed *feed)
{
    struct stream *stream = feed->stream;
    for (struct feed **p = &stream->feeds; *p; p = &(*p)->next)
        if (*p == feed) {
            *p = feed->next;
            break;
        }
    if (stream->feeds)
        return;
    if (stream->feed_prev)
        stream->feed_prev->feed_next = stream->feed_next;
    else
        stream->ledger->with_feeds = stream->feed_next;
    if (stream->feed_next)
        stream->feed_next->feed_prev = stream->feed_prev;
}

/* A feed lives while somebody follows it or a read for it is on its way. */
static void feed_release(struct feed *feed)
{
    if (feed->count || feed->reads || feed->busy)
        return;
    feed_unlink(feed);
    feed->stream->ledger->stats.feeds--;
    ring_clear(feed);
    recent_clear(feed);
    if (feed->format->ctx_free)
        feed->format->ctx_free(feed->ctx);
    free(feed->followers);
    free(feed);
}

void feeds_free(struct stream *stream)
{
    assert(!stream->feeds); /* followers and reads hold the stream */
}

static struct chunk *ring_get(const struct feed *feed, unsigned i)
{
    return feed->ring[(feed->ring_at + i) % RING_CHUNKS];
}

static void ring_push(struct feed *feed, struct chunk *chunk)
{
    size_t bound = feed->stream->ledger->config.ring_bytes;
    while (feed->ring_count == RING_CHUNKS || (feed->ring_count && feed->ring_bytes + chunk->bytes.len > bound)) {
        struct chunk *oldest = ring_get(feed, 0);
        feed->ring_bytes -= oldest->bytes.len;
        chunk_unref(oldest);
        feed->ring_at = (feed->ring_at + 1) % RING_CHUNKS;
        feed->ring_count--;
    }
    feed->ring[(feed->ring_at + feed->ring_count++) % RING_CHUNKS] = chunk;
    feed->ring_bytes += chunk->bytes.len;
}

/* The place in the ring of the chunk that holds `seq`; -1 when it is not there. Most look for the newest. */
static int ring_find(const struct feed *feed, uint64_t seq)
{
    if (!feed->ring_count || ring_get(feed, feed->ring_count - 1)->last_seq < seq || ring_get(feed, 0)->first_seq > seq)
        return -1;
    unsigned low = 0, high = feed->ring_count - 1;
    if (ring_get(feed, high)->first_seq <= seq)
        return (int)high;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (ring_get(feed, mid)->last_seq < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return (int)low;
}

/* ---- followers ---- */

/* What it waited for is no longer of interest. */
static void leave_read(struct follower *f)
{
    f->feed->stream->ledger->stats.catching_up--;
    for (struct catch_up *c = f->feed->reads; c; c = c->next)
        for (struct follower **p = &c->waiting; *p; p = &(*p)->reading_next)
            if (*p == f) {
                *p = f->reading_next;
                return;
            }
}

static void follower_free(struct follower *f)
{
    struct feed   *feed = f->feed;
    struct stream *stream = feed->stream;
    struct follower *last = feed->followers[--feed->count];
    feed->followers[f->slot] = last;
    last->slot = f->slot;
    if (f->flags & F_READING)
        leave_read(f);
    chunk_unref(f->chunk);
    stream->ledger->stats.followers--;
    free(f->wrap);
    free(f);
    feed_release(feed);
    stream_unref(stream);
}

static bool finish(struct follower *f)
{
    f->ops->end(f->sink);
    follower_free(f);
    return false;
}

static bool drop(struct follower *f)
{
    f->ops->abort(f->sink);
    follower_free(f);
    return false;
}

/* The connection took everything up to `seq`. */
static void advance(struct follower *f, uint64_t seq)
{
    struct stream *stream = f->feed->stream;
    f->cursor = seq;
    if (stream->finished && seq == stream->committed)
        f->flags |= F_TERMINAL;
}

static ssize_t push(struct follower *f, const struct iovec *iov, int count)
{
    ssize_t n = f->ops->write(f->sink, iov, count);
    if (n > 0 && f->flags & F_BLOCKED)
        f->progress_ms = wall_now(f->feed);
    return n;
}

static void block(struct follower *f, ssize_t taken)
{
    if (!(f->flags & F_BLOCKED) || taken > 0)
        f->progress_ms = wall_now(f->feed);
    f->flags |= F_BLOCKED;
}

/* Sends what is left of f->chunk. Returns 1: it is out; 0: blocked; -1: the follower is gone. */
static int push_chunk(struct follower *f)
{
    struct chunk *c = f->chunk;
    if (f->off < c->bytes.len) {
        struct iovec iov = { c->bytes.p + f->off, c->bytes.len - f->off };
        ssize_t      n = push(f, &iov, 1);
        if (n < 0) {
            follower_free(f);
            return -1;
        }
        f->off += (uint32_t)n;
        if (f->off < c->bytes.len) {
            block(f, n);
            return 0;
        }
    }
    if (c->last_seq)
        advance(f, c->last_seq);
    chunk_unref(TAKE(f->chunk));
    f->off = 0;
    return 1;
}

/* ---- formats whose unit is a chunk ---- */

/* "1f4\r\n" */
static uint16_t chunk_head(char out[12], size_t n)
{
    unsigned digits = 1;
    while (digits < 8 && n >> (4 * digits))
        digits++;
    for (unsigned i = 0; i < digits; i++)
        out[i] = "0123456789abcdef"[n >> (4 * (digits - 1 - i)) & 15];
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return (uint16_t)(digits + 2);
}

static void make_wrap(struct follower *f)
{
    struct feed        *feed = f->feed;
    struct stream      *stream = feed->stream;
    struct wrap        *wrap = f->wrap;
    uint64_t            seq = f->chunk->last_seq ? f->chunk->last_seq : f->cursor;
    bool                at_head = seq == stream->durable;
    struct follow_place place = { .seq = seq, .at_head = at_head, .closed = at_head && stream->finished, .last = stream->last_type,
                                  .now_ms = wall_now(feed), .mark = wrap->mark, .generation = wrap->generation };
    /* A farewell is the closing tail, unless the last event's tail was that already. */
    bool mute = f->flags & F_FAREWELL && (f->end != FOLLOW_DONE || f->flags & F_TERMINAL);
    wrap->head_n = wrap->tail_n = 0;
    wrap->ready = true;
    if (mute)
        return;
    wrap->tail_n = (uint16_t)feed->format->tail(feed->ctx, &place, wrap->tail);
    wrap->head_n = chunk_head(wrap->head, f->chunk->bytes.len + wrap->tail_n);
    memcpy(wrap->tail + wrap->tail_n, "\r\n", 2);
    wrap->tail_n += 2;
    f->flags |= F_GREETED;
    if (place.closed)
        f->flags |= F_TERMINAL;
}

/* push_chunk for formats with a tail. */
static int push_wrapped(struct follower *f)
{
    struct chunk *c = f->chunk;
    struct wrap  *wrap = f->wrap;
    if (!wrap->ready)
        make_wrap(f);
    struct iovec iov[] = { { wrap->head, wrap->head_n }, { c->bytes.p, c->bytes.len }, { wrap->tail, wrap->tail_n } };
    size_t       skip = f->off, left = 0;
    for (size_t i = 0; i < ARRAY_LEN(iov); i++) {
        size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        iov[i].iov_base = cut ? (char *)iov[i].iov_base + cut : iov[i].iov_base;
        iov[i].iov_len -= cut;
        skip -= cut;
        left += iov[i].iov_len;
    }
    if (left) {
        ssize_t n = push(f, iov, ARRAY_LEN(iov));
        if (n < 0) {
            follower_free(f);
            return -1;
        }
        f->off += (uint32_t)n;
        if ((size_t)n < left) {
            block(f, n);
            return 0;
        }
    }
    f->feed->stream->ledger->stats.deliveries++;
    if (c->last_seq)
        f->cursor = c->last_seq;
    chunk_unref(TAKE(f->chunk));
    f->off = 0;
    wrap->ready = false;
    return 1;
}

/* The one answer of a format with `once`; the follower is gone. */
static int push_answer(struct follower *f)
{
    struct stream       *stream = f->feed->stream;
    struct chunk        *c = f->chunk;
    struct follow_answer answer = { .end = f->end, .seq = f->cursor };
    if (!(f->flags & F_FAREWELL))
        answer = (struct follow_answer){ .bytes = buf_view(&c->bytes), .seq = c->last_seq };
    answer.at_head = answer.seq == stream->durable;
    answer.closed = answer.at_head && stream->finished;
    f->ops->answer(f->sink, &answer);
    follower_free(f);
    return -1;
}

static int push_any(struct follower *f)
{
    const struct wire_format *format = f->feed->format;
    return format->tail ? push_wrapped(f) : format->once ? push_answer(f) : push_chunk(f);
}

/* A chunk of such a format helps only who is at its beginning. */
static bool begins_right(const struct follower *f, const struct chunk *chunk)
{
    return !f->feed->format->finish || chunk->first_seq == f->cursor + 1;
}

/* Sends what the ring has from chunk `at` on, many chunks in one system call. Same results as push_chunk. */
static int push_ring(struct follower *f, unsigned at)
{
    struct feed  *feed = f->feed;
    struct iovec  iov[GATHER];
    int           count = 0;
    uint32_t      skip = chunk_offset(ring_get(feed, at), f->cursor + 1);
    for (unsigned i = at; i < feed->ring_count && count < GATHER; i++, count++) {
        struct chunk *c = ring_get(feed, i);
        iov[count] = (struct iovec){ c->bytes.p + skip, c->bytes.len - skip };
        skip = 0;
    }
    ssize_t taken = push(f, iov, count);
    if (taken < 0) {
        follower_free(f);
        return -1;
    }
    feed->stream->ledger->stats.deliveries += (uint64_t)count;
    size_t left = (size_t)taken;
    for (int i = 0; i < count; i++) {
        struct chunk *c = ring_get(feed, at + (unsigned)i);
        if (left < iov[i].iov_len) { /* stopped inside this one: hold it, the ring may let go of it */
            f->chunk = chunk_ref(c);
            f->off = (uint32_t)((size_t)((char *)iov[i].iov_base - c->bytes.p) + left);
            block(f, taken);
            return 0;
        }
        left -= iov[i].iov_len;
        advance(f, c->last_seq);
    }
    return 1;
}

static void catch_up_start(struct follower *f);

static bool take_recent(struct follower *f)
{
    for (unsigned i = 0; i < RECENT_READS; i++)
        if (chunk_holds(f->feed->recent[i], f->cursor + 1) && begins_right(f, f->feed->recent[i])) {
            f->chunk = chunk_ref(f->feed->recent[i]);
            f->off = chunk_offset(f->chunk, f->cursor + 1);
            return true;
        }
    return false;
}

static void say_farewell(struct follower *f, enum follow_end end)
{
    struct feed   *feed = f->feed;
    struct stream *stream = feed->stream;
    f->chunk = chunk_new(0);
    f->off = 0;
    f->flags |= F_FAREWELL;
    f->end = end;
    if (feed->format->farewell)
        feed->format->farewell(feed->ctx, end, stream->last_type, stream->committed, wall_now(feed), &f->chunk->bytes);
}

/* The connection ends: cleanly, unless its clients would take that for the end of a run that goes on. */
static bool close_connection(struct follower *f)
{
    bool goes_on = f->end != FOLLOW_DONE || !record_wf(f->feed->stream->last_flags);
    return goes_on && f->feed->format->reset_on_fault ? drop(f) : finish(f);
}

/* Sends all that can be sent now. False when the follower is gone. */
static bool pump(struct follower *f)
{
    struct stream *stream = f->feed->stream;
    f->flags &= (uint8_t)~F_BLOCKED;
    for (;;) {
        int sent = 1, at;
        if (f->chunk) {
            sent = push_any(f);
            if (sent == 1 && f->flags & F_FAREWELL)
                return close_connection(f);
        } else if (f->flags & F_ENDING) {
            return close_connection(f);
        } else if (stream->finished && f->cursor >= stream->committed) {
            if (f->flags & F_TERMINAL || f->feed->format->finish)
                say_farewell(f, FOLLOW_DONE);
            else
                f->cursor = stream->committed - 1; /* AR R4: whoever asks behind the end gets the terminal event again */
        } else if ((at = ring_find(f->feed, f->cursor + 1)) >= 0 && begins_right(f, ring_get(f->feed, (unsigned)at))) {
            if (f->feed->format->finish)
                f->chunk = chunk_ref(ring_get(f->feed, (unsigned)at));
            else
                sent = push_ring(f, (unsigned)at);
        } else if (f->cursor >= stream->committed) {
            if (store_failed(stream->ledger->config.store))
                say_farewell(f, FOLLOW_STORAGE); /* nothing will come any more */
            else if (!f->wrap || f->flags & F_GREETED)
                return true; /* at the head */
            else
                f->chunk = chunk_new(0);
        } else if (!take_recent(f)) {
            catch_up_start(f);
            return true;
        }
        if (sent <= 0)
            return sent == 0;
    }
}

/* ---- reading back from the store ---- */

static bool encode_frame(void *user, const struct frame *frame)
{
    struct catch_up    *read = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    reader.wf = frame->wf_before;
    while (frame_next(&reader, &record)) {
        if (record.seq <= read->after)
            continue;
        if (record.seq > read->upto) /* on disk, but not yet announced: the live feed will bring it */
            return false;
        if (!read->chunk)
            read->chunk = chunk_new(record.seq);
        if (record.seq != read->chunk->last_seq + 1) {
            read->err = ERR_CORRUPT;
            return false;
        }
        chunk_event(read->chunk, read->format, read->ctx, &record);
        read->last_type = record.type;
        read->last_flags = record.flags;
    }
    if (reader.in.bad)
        read->err = ERR_CORRUPT;
    return !read->err && (!read->chunk || read->chunk->bytes.len < CATCH_UP_BYTES);
}

/* On the reader thread. */
static void catch_up_run(struct read_job *job, struct reader *reader)
{
    struct catch_up *read = CONTAINER(job, struct catch_up, job);
    struct arena     arena = { 0 };
    enum err         e = reader_begin(reader, &arena);
    if (!e) {
        e = reader_frames(reader, read->stream, read->after, CATCH_UP_BYTES, encode_frame, read);
        reader_end(reader);
    }
    if (!e && read->chunk && read->format->finish)
        read->format->finish(read->ctx, &read->chunk->bytes);
    if (e)
        read->err = e;
    arena_done(&arena);
}

static void catch_up_unlink(struct catch_up *read)
{
    for (struct catch_up **p = &read->feed->reads; *p; p = &(*p)->next)
        if (*p == read) {
            *p = read->next;
            return;
        }
}

static void recent_keep(struct feed *feed, struct chunk *chunk)
{
    chunk_unref(feed->recent[feed->recent_at]);
    feed->recent[feed->recent_at] = chunk;
    feed->recent_at = (feed->recent_at + 1) % RECENT_READS;
}

static void catch_up_done(struct read_job *job)
{
    struct catch_up *read = CONTAINER(job, struct catch_up, job);
    struct feed     *feed = read->feed;
    struct stream   *stream = feed->stream;
    catch_up_unlink(read);
    stream->refs++; /* the last follower may leave below */
    if (stream->closed && stream->last_type == REC_END && read->chunk && read->chunk->last_seq == stream->committed) {
        stream->last_type = read->last_type;
        stream->last_flags = read->last_flags;
    }
    if (read->chunk && !read->err)
        recent_keep(feed, chunk_ref(read->chunk));
    feed->busy++; /* until all of them were served */
    for (struct follower *f = read->waiting, *next; f; f = next) {
        next = f->reading_next;
        f->flags &= (uint8_t)~F_READING;
        stream->ledger->stats.catching_up--;
        if (read->err || !chunk_holds(read->chunk, f->cursor + 1)) { /* reads are shared by those with one cursor */
            say_farewell(f, FOLLOW_STORAGE);
        } else {
            f->chunk = chunk_ref(read->chunk);
            f->off = chunk_offset(f->chunk, f->cursor + 1);
        }
        pump(f);
    }
    feed->busy--;
    chunk_unref(read->chunk);
    free(read);
    feed_release(feed);
    stream_unref(stream);
    stream_unref(stream); /* the read's own */
}

/* What a fork did not write itself lies in one of its bases; the next read goes on in the next one. */
static void catch_up_base(struct catch_up *read, const struct stream *stream)
{
    for (unsigned i = 0; i < stream->base_count && read->after < stream->from; i++) {
        const struct stream_base *base = &stream->bases[i];
        if (read->after >= base->from && read->after < base->upto) {
            read->stream = base->number;
            read->upto = base->upto;
            return;
        }
    }
}

static void catch_up_start(struct follower *f)
{
    struct feed     *feed = f->feed;
    struct stream   *stream = feed->stream;
    struct catch_up *read = feed->reads;
    while (read && read->after != f->cursor)
        read = read->next;
    if (!read) {
        read = mem_alloc(sizeof *read);
        read->job.run = catch_up_run;
        read->job.done = catch_up_done;
        read->feed = feed;
        read->format = feed->format;
        read->ctx = feed->ctx;
        read->stream = stream->number;
        read->after = f->cursor;
        read->upto = stream->committed;
        catch_up_base(read, stream);
        read->next = feed->reads;
        feed->reads = read;
        stream->refs++;
        stream->ledger->stats.catch_up_reads++;
        store_read(stream->ledger->config.store, &read->job);
    }
    f->flags |= F_READING;
    f->reading_next = read->waiting;
    read->waiting = f;
    stream->ledger->stats.catching_up++;
}

/* ---- publishing ---- */

static struct chunk *encode_sealed(const struct feed *feed, const struct sealed *sealed)
{
    struct chunk       *chunk = chunk_new(sealed->first_seq);
    struct frame_reader reader = frame_read(sealed->first_seq, sealed->n, sealed->base_ms, buf_view(&sealed->body));
    struct record       record;
    reader.wf = sealed->wf_before;
    while (frame_next(&reader, &record))
        chunk_event(chunk, feed->format, feed->ctx, &record);
    assert(chunk->last_seq == sealed->last_seq);
    if (feed->format->finish)
        feed->format->finish(feed->ctx, &chunk->bytes);
    return chunk;
}

static void feed_publish(struct feed *feed, const struct sealed *sealed)
{
    if (sealed->body.len && !feed->format->remembers) {
        if (feed->ring_count && ring_get(feed, feed->ring_count - 1)->last_seq + 1 != sealed->first_seq)
            ring_clear(feed);
        ring_push(feed, encode_sealed(feed, sealed));
    } else {
        ring_clear(feed); /* the feed is younger than the frame, or remembers: its followers read it from the store */
    }
    feed->last_sent_ms = wall_now(feed);
    for (size_t i = feed->count; i-- > 0;) {
        struct follower *f = feed->followers[i];
        if (!f->chunk && !(f->flags & (F_BLOCKED | F_READING)) && f->ops)
            pump(f);
    }
}

void feeds_publish(struct stream *stream, const struct sealed *sealed)
{
    for (struct feed *feed = stream->feeds, *next; feed; feed = next) {
        next = feed->next;
        feed->busy++; /* the last follower may leave meanwhile */
        feed_publish(feed, sealed);
        feed->busy--;
        feed_release(feed);
    }
}

void feeds_finish(struct stream *stream)
{
    for (struct feed *feed = stream->feeds, *next; feed; feed = next) {
        next = feed->next;
        feed->busy++;
        for (size_t i = feed->count; i-- > 0;) {
            struct follower *f = feed->followers[i];
            if (!f->chunk && !(f->flags & (F_BLOCKED | F_READING)) && f->ops)
                pump(f);
        }
        feed->busy--;
        feed_release(feed);
    }
}

/* ---- coming and going ---- */

struct follower *follower_new(struct stream *stream, const struct wire_format *format, void *ctx, uint64_t cursor,
                              int64_t deadline_ms)
{
    struct feed     *feed = feed_get(stream, format, ctx);
    struct ledger   *ledger = stream->ledger;
    struct follower *f = mem_alloc(sizeof *f);
    f->feed = feed;
    f->cursor = cursor;
    f->progress_ms = wall_now(feed);
    if (ledger->config.max_age_ms && !format->ageless) {
        uint32_t jitter = 0;
        ledger->config.env->random(ledger->config.env, &jitter, sizeof jitter);
        uint64_t age = ledger->config.max_age_ms;
        f->end_ms = f->progress_ms + (int64_t)(age - age / 10 + jitter % (age / 5 + 1));
    }
    if (deadline_ms && (!f->end_ms || deadline_ms < f->end_ms))
        f->end_ms = deadline_ms;
    if (feed->count == feed->cap) {
        feed->cap = feed->cap ? feed->cap * 2 : 4;
        feed->followers = mem_grow(feed->followers, feed->cap * sizeof *feed->followers);
    }
    f->slot = (uint32_t)feed->count;
    feed->followers[feed->count++] = f;
    stream->refs++;
    ledger->stats.followers++;
    return f;
}

void follower_mark(struct follower *f, uint64_t mark, uint32_t generation)
{
    assert(f->feed->format->tail && !f->wrap);
    f->wrap = mem_alloc(sizeof *f->wrap);
    f->wrap->mark = mark;
    f->wrap->generation = generation;
}

bool follower_start(struct follower *f, const struct sink_ops *ops, void *sink)
{
    assert(!f->feed->format->tail == !f->wrap);
    f->ops = ops;
    f->sink = sink;
    if (f->feed->format->greeting) {
        f->chunk = chunk_new(0);
        f->feed->format->greeting(f->feed->ctx, &f->chunk->bytes);
    }
    return pump(f);
}

void follower_writable(struct follower *f)
{
    if (f->flags & F_BLOCKED)
        pump(f);
}

void follower_gone(struct follower *f)
{
    follower_free(f);
}

static void follower_end(struct follower *f, enum follow_end why)
{
    f->flags |= F_ENDING;
    f->end = why;
    if (!f->chunk && !(f->flags & (F_BLOCKED | F_READING)))
        pump(f);
}

void follower_expire(struct follower *f)
{
    follower_end(f, FOLLOW_AGE);
}

/* ---- time passing ---- */

static void feed_heartbeat(struct feed *feed, int64_t now_ms)
{
    struct stream *stream = feed->stream;
    struct chunk  *beat = chunk_new(0);
    if (feed->format->heartbeat)
        feed->format->heartbeat(feed->ctx, stream->committed, now_ms, &beat->bytes);
    feed->last_sent_ms = now_ms;
    for (size_t i = feed->count; i-- > 0;) {
        struct follower *f = feed->followers[i];
        if (f->chunk || f->flags & (F_BLOCKED | F_READING))
            continue;
        f->chunk = chunk_ref(beat);
        f->off = 0;
        pump(f);
    }
    chunk_unref(beat);
}

/* Once a second: who makes no progress, and whose time is over. */
static void feed_sweep(struct feed *feed, int64_t now_ms)
{
    struct ledger *ledger = feed->stream->ledger;
    for (size_t i = feed->count; i-- > 0;) {
        struct follower *f = feed->followers[i];
        if (f->flags & F_BLOCKED && now_ms - f->progress_ms > ledger->config.slow_reader_ms) {
            ledger->stats.slow_dropped++;
            drop(f);
        } else if (f->end_ms && now_ms >= f->end_ms) {
            follower_end(f, FOLLOW_AGE);
        }
    }
}

void feeds_tick(struct stream *stream, int64_t now_ms)
{
    for (struct feed *feed = stream->feeds, *next; feed; feed = next) {
        next = feed->next;
        feed->busy++;
        uint32_t beat_ms = feed->format->heartbeat_ms ? feed->format->heartbeat_ms : stream->ledger->config.heartbeat_ms;
        bool     beats = feed->format->heartbeat || feed->format->tail;
        if (!stream->finished && beats && now_ms - feed->last_sent_ms >= beat_ms - beat_ms / 20)
            feed_heartbeat(feed, now_ms);
        if (now_ms / SWEEP_MS != feed->swept_ms / SWEEP_MS) {
            feed->swept_ms = now_ms;
            feed_sweep(feed, now_ms);
            recent_clear(feed);
        }
        feed->busy--;
        feed_release(feed);
    }
}

static void gather(const struct stream *stream, struct buf *out)
{
    for (struct feed *feed = stream->feeds; feed; feed = feed->next)
        buf_put(out, feed->followers, feed->count * sizeof *feed->followers);
}

static void end_gathered(struct buf *gathered, enum follow_end why)
{
    struct follower **all = (struct follower **)(void *)gathered->p;
    for (size_t i = 0; i < gathered->len / sizeof *all; i++) {
        struct follower *f = all[i];
        if (f->chunk || f->flags & (F_BLOCKED | F_READING)) {
            drop(f);
            continue;
        }
        say_farewell(f, why);
        if (pump(f) && f->flags & F_BLOCKED)
            drop(f);
    }
    buf_done(gathered);
}

void ledger_end_all(struct ledger *ledger, enum follow_end why)
{
    struct buf gathered = { 0 };
    for (struct stream *s = ledger->with_feeds; s; s = s->feed_next)
        gather(s, &gathered);
    end_gathered(&gathered, why);
}

void stream_end_followers(struct stream *stream, enum follow_end why)
{
    struct buf gathered = { 0 };
    gather(stream, &gathered);
    end_gathered(&gathered, why);
}
