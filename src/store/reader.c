/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - a connection of one's own that sees snapshots, reads the frames of streams, and the thread that does long
 * reads.
 *
 * A snapshot is pinned by asking the tail for its first and last position: with these two numbers the index in RAM and
 * the tables agree (tail_index.h). */
#include "store/inner.h"
#include <stdlib.h>

/* ---- errors ---- */

/* The first error of a snapshot is the answer to everything that follows in it. */
enum err reader_fail(struct reader *reader, enum err err)
{
    if (!reader->err)
        reader->err = err;
    return err;
}

/* Readers answer with a code; the reason goes into the log. */
static enum err say(struct reader *reader, const struct error *error)
{
    log_line(reader->store->config.log, LOG_ERROR, "storage_read_failed", "reason=\"%s\"", error->message);
    /* A lost connection is a matter of the store's: the next snapshot has a new one. */
    return reader_fail(reader, error->code == ERR_CORRUPT ? ERR_CORRUPT : ERR_STORAGE);
}

/* ---- statements, kept by their text ---- */

static struct cached **bucket_of(struct reader *reader, uint64_t hash)
{
    return &reader->cache[hash % CACHE_BUCKETS];
}

static enum err cache_add(struct reader *reader, struct span text, uint64_t hash, struct cached **ret)
{
    struct cached *cached = mem_alloc(sizeof *cached + text.n + 1);
    struct error   error;
    memcpy(cached->text, text.p, text.n);
    cached->hash = hash;
    cached->length = text.n;
    enum err err = reader->store->driver->prepare(reader->db, cached->text, &cached->stmt, &error);
    if (err) {
        free(cached);
        return say(reader, &error);
    }
    cached->next = *bucket_of(reader, hash);
    *bucket_of(reader, hash) = cached;
    *ret = cached;
    return ERR_OK;
}

enum err reader_use(struct reader *reader, struct span text, struct cached **ret)
{
    uint64_t       hash = hash64(text.p, text.n);
    struct cached *cached = *bucket_of(reader, hash);
    while (cached && (cached->busy || cached->hash != hash || cached->length != text.n ||
                      memcmp(cached->text, text.p, text.n) != 0))
        cached = cached->next;
    if (!cached) {
        /* None yet, or all in use: a callback reads while it is being called. */
        enum err err = cache_add(reader, text, hash, &cached);
        if (err)
            return err;
    }
    cached->busy = true;
    *ret = cached;
    return ERR_OK;
}

void reader_done(struct reader *reader, struct cached *cached)
{
    reader->store->driver->reset(cached->stmt);
    cached->busy = false;
}

enum err reader_step(struct reader *reader, struct cached *cached, bool *ret_row)
{
    struct error error;
    enum err     err = reader->store->driver->step(cached->stmt, ret_row, &error);
    return err ? say(reader, &error) : ERR_OK;
}

/* ---- open, close ---- */

enum err reader_open(struct store *store, struct reader **ret, struct error *error)
{
    struct reader *reader = mem_alloc(sizeof *reader);
    reader->store = store;
    enum err err = store->driver->open(store->driver, store->config.url, DB_READER, &reader->db, error);
    if (err) {
        free(reader);
        return err;
    }
    *ret = reader;
    return ERR_OK;
}

void reader_close(struct reader *reader)
{
    if (!reader)
        return;
    assert(!reader->arena);
    const struct db_driver *driver = reader->store->driver;
    for (size_t i = 0; i < CACHE_BUCKETS; i++)
        for (struct cached *cached = reader->cache[i], *next; cached; cached = next) {
            next = cached->next;
            driver->finalize(cached->stmt);
            free(cached);
        }
    driver->close(reader->db);
    free(reader);
}

/* ---- snapshots ---- */

static enum err pin(struct reader *reader)
{
    const struct db_driver *driver = reader->store->driver;
    struct cached          *cached;
    enum err                err = reader_use(reader, SPAN(SQL_TAIL_RANGE), &cached);
    if (err)
        return err;
    bool row = false;
    err = reader_step(reader, cached, &row);
    reader->view = (struct tail_view){ 1, 0 };
    if (!err && row && driver->bytes(cached->stmt, 0).p)
        reader->view =
            (struct tail_view){ (uint64_t)driver->i64(cached->stmt, 0), (uint64_t)driver->i64(cached->stmt, 1) };
    reader_done(reader, cached);
    return err;
}

enum err reader_begin(struct reader *reader, struct arena *arena)
{
    assert(!reader->arena && arena);
    struct error error;
    /* Whoever waits for a server that is not there keeps everybody behind him waiting. */
    if (store_away(reader->store))
        return reader_fail(reader, ERR_STORAGE);
    reader->err = ERR_OK;
    reader->arena = arena;
    tail_guard_enter(&reader->store->tail, &reader->guard); /* before the snapshot is pinned, see tail_index.h */
    enum err err = reader->store->driver->begin(reader->db, false, &error);
    if (err)
        say(reader, &error);
    else
        err = pin(reader);
    if (err) {
        reader_fail(reader, err);
        reader_end(reader);
    }
    return err;
}

void reader_end(struct reader *reader)
{
    if (!reader->arena)
        return;
    reader->store->driver->rollback(reader->db); /* nothing was written */
    tail_guard_leave(&reader->store->tail, &reader->guard);
    reader->arena = NULL;
}

/* ---- frames ---- */

struct frame_walk {
    struct reader *reader;
    uint64_t       stream, next;    /* the seq to go on from */
    size_t         left;            /* bytes that may still be handed out */
    bool           begun, stopped;
    bool (*each)(void *user, const struct frame *frame);
    void *user;
};

/* False when the walk is over. */
static bool hand_out(struct frame_walk *walk, const struct frame *frame)
{
    if (walk->begun && frame->body.n > walk->left) {
        walk->stopped = true;
        return false;
    }
    walk->begun = true;
    walk->left -= frame->body.n < walk->left ? frame->body.n : walk->left;
    walk->next = frame->first_seq + frame->n;
    walk->stopped = !walk->each(walk->user, frame);
    return !walk->stopped;
}

static enum err bind_two(struct reader *reader, struct cached *cached, uint64_t a, uint64_t b)
{
    const struct db_driver *driver = reader->store->driver;
    enum err                err = driver->bind_i64(cached->stmt, 1, (int64_t)a);
    if (!err)
        err = driver->bind_i64(cached->stmt, 2, b > INT64_MAX ? INT64_MAX : (int64_t)b);
    return err ? reader_fail(reader, err) : ERR_OK;
}

/* The statement's row as a frame; its n is that of the whole segment and comes apart, because it may be larger. */
static struct frame segment_row(const struct reader *reader, const struct cached *cached, uint64_t stream,
                                uint64_t *ret_events)
{
    const struct db_driver *driver = reader->store->driver;
    *ret_events = (uint64_t)driver->i64(cached->stmt, 1);
    return (struct frame){
        .stream = stream,
        .first_seq = (uint64_t)driver->i64(cached->stmt, 0),
        .base_ms = driver->i64(cached->stmt, 2),
        .wf_before = (uint64_t)driver->i64(cached->stmt, 3),
        .epoch = (uint64_t)driver->i64(cached->stmt, 4),
        .body = driver->bytes(cached->stmt, 5),
    };
}

static enum err walk_segment(struct frame_walk *walk, const struct cached *cached)
{
    uint64_t              events;
    struct frame          row = segment_row(walk->reader, cached, walk->stream, &events);
    struct segment_reader segment = segment_read(&row, events);
    while (!walk->stopped && segment_next(&segment))
        if (segment.at.first_seq + segment.at.n > walk->next)
            hand_out(walk, &segment.at);
    return !walk->stopped && segment_damaged(&segment) ? reader_fail(walk->reader, ERR_CORRUPT) : ERR_OK;
}

/* Where the segment that holds walk->next begins; 0 when none does. */
static enum err find_segment(struct frame_walk *walk, uint64_t *ret_first)
{
    const struct db_driver *driver = walk->reader->store->driver;
    struct cached          *cached;
    enum err                err = reader_use(walk->reader, SPAN(SQL_SEGMENT_PLACE), &cached);
    if (err)
        return err;
    bool row = false;
    err = bind_two(walk->reader, cached, walk->stream, walk->next);
    if (!err)
        err = reader_step(walk->reader, cached, &row);
    uint64_t first = !err && row ? (uint64_t)driver->i64(cached->stmt, 0) : 0;
    uint64_t events = first ? (uint64_t)driver->i64(cached->stmt, 1) : 0;
    *ret_first = walk->next < first + events ? first : 0;
    reader_done(walk->reader, cached);
    return err;
}

/* Some segments from the one that begins at `first` on; *ret_more is false at the last one. Not many at a time: a driver may
 * fetch all rows of an answer, also those that nobody steps to. */
static enum err walk_some_segments(struct frame_walk *walk, uint64_t first, bool *ret_more)
{
    enum { AT_A_TIME = 4 };
    struct cached *cached;
    enum err       err = reader_use(walk->reader, SPAN(SQL_SEGMENTS_FROM), &cached);
    if (err)
        return err;
    bool     row = true;
    unsigned count = 0;
    err = bind_two(walk->reader, cached, walk->stream, first);
    if (!err)
        err = walk->reader->store->driver->bind_i64(cached->stmt, 3, AT_A_TIME);
    while (!err && !walk->stopped) {
        err = reader_step(walk->reader, cached, &row);
        if (err || !row)
            break;
        count++;
        err = walk_segment(walk, cached);
    }
    reader_done(walk->reader, cached);
    *ret_more = count == AT_A_TIME;
    return err;
}

static enum err walk_segments(struct frame_walk *walk)
{
    uint64_t first = 0;
    bool     more = true;
    enum err err = find_segment(walk, &first);
    while (!err && first != 0 && more && !walk->stopped) {
        err = walk_some_segments(walk, first, &more);
        first = walk->next; /* where the next segment begins: seqs are dense */
    }
    return err;
}

static enum err walk_entry(struct frame_walk *walk, struct cached *cached, const struct tail_entry *entry)
{
    const struct db_driver *driver = walk->reader->store->driver;
    bool                    row = false;
    enum err                err = driver->bind_i64(cached->stmt, 1, (int64_t)entry->pos);
    if (!err)
        err = reader_step(walk->reader, cached, &row);
    if (!err && !row)
        err = ERR_CORRUPT;
    if (err)
        return reader_fail(walk->reader, err);
    struct frame frame = { walk->stream,     entry->first_seq, entry->n, entry->base_ms,
                           entry->wf_before, entry->epoch,     driver->bytes(cached->stmt, 0) };
    hand_out(walk, &frame);
    driver->reset(cached->stmt);
    return ERR_OK;
}

static enum err walk_entries(struct frame_walk *walk, const struct tail_entry *entries, size_t count)
{
    struct cached *cached;
    enum err       err = reader_use(walk->reader, SPAN(SQL_TAIL_BODY), &cached);
    if (err)
        return err;
    for (size_t i = 0; i < count && !err && !walk->stopped; i++)
        err = walk_entry(walk, cached, &entries[i]);
    reader_done(walk->reader, cached);
    return err;
}

/* Hands out what the tail has from walk->next on. */
static enum err walk_tail(struct frame_walk *walk, enum tail_where *ret_where)
{
    struct tail_entry entries[64];
    for (;;) {
        size_t count = 0;
        *ret_where = tail_index_copy(&walk->reader->store->tail, walk->reader->view, walk->stream, walk->next, entries,
                                     ARRAY_LEN(entries), &count);
        if (*ret_where != TAIL_HERE)
            return ERR_OK;
        enum err err = walk_entries(walk, entries, count);
        if (err || walk->stopped)
            return err;
    }
}

enum err reader_frames(struct reader *reader, uint64_t stream, uint64_t after, size_t max_bytes,
                       bool (*each)(void *user, const struct frame *frame), void *user)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    if (after >= INT64_MAX)
        return ERR_OK;
    struct frame_walk walk = {
        .reader = reader, .stream = stream, .next = after + 1, .left = max_bytes, .each = each, .user = user
    };
    enum tail_where   where;
    enum err          err = walk_tail(&walk, &where);
    if (err || walk.stopped || where == TAIL_BEYOND)
        return err;
    err = walk_segments(&walk);
    if (err || walk.stopped || where == TAIL_NONE)
        return err;
    return walk_tail(&walk, &where);
}

/* Of the segment that holds `seq`, or of the last one before it: the last frame with wf_before <=
 * wf_at_most, or its first. */
static enum err frame_in_segment(struct reader *reader, uint64_t stream, uint64_t seq, uint64_t wf_at_most,
                                 struct frame *ret, bool *ret_found)
{
    struct cached *cached;
    enum err       err = reader_use(reader, SPAN(SQL_SEGMENT_AT), &cached);
    if (err)
        return err;
    *ret_found = false;
    err = bind_two(reader, cached, stream, seq);
    if (!err)
        err = reader_step(reader, cached, ret_found);
    if (!err && *ret_found) {
        uint64_t              events;
        struct frame          row = segment_row(reader, cached, stream, &events);
        struct segment_reader segment = segment_read(&row, events);
        while (segment_next(&segment) && (segment.at.wf_before <= wf_at_most || ret->n == 0))
            *ret = segment.at;
        if (segment_damaged(&segment) || ret->n == 0)
            err = reader_fail(reader, ERR_CORRUPT);
        ret->body = SPAN_NONE;
    }
    reader_done(reader, cached);
    return err;
}

enum err reader_head(struct reader *reader, uint64_t stream, uint64_t *ret_head, struct frame *ret_last)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    struct frame      last = { .stream = stream };
    struct tail_entry entry;
    bool              found = tail_index_last(&reader->store->tail, reader->view, stream, &entry);
    if (found) {
        last =
            (struct frame){ stream, entry.first_seq, entry.n, entry.base_ms, entry.wf_before, entry.epoch, SPAN_NONE };
    } else {
        enum err err = frame_in_segment(reader, stream, INT64_MAX, UINT64_MAX, &last, &found);
        if (err)
            return err;
    }
    *ret_head = found ? last.first_seq + last.n - 1 : 0;
    if (ret_last)
        *ret_last = last;
    return ERR_OK;
}

bool reader_in_tail(struct reader *reader, uint64_t stream)
{
    struct tail_entry entry;
    return !reader->err && tail_index_last(&reader->store->tail, reader->view, stream, &entry);
}

/* ---- by WF number ---- */

/* The place of the segment that holds seq (or the last before it): first_seq, end, wf_before. */
struct place {
    uint64_t first, end, wf_before;
};

static enum err segment_place(struct reader *reader, uint64_t stream, uint64_t seq, struct place *ret)
{
    const struct db_driver *driver = reader->store->driver;
    struct cached          *cached;
    enum err                err = reader_use(reader, SPAN(SQL_SEGMENT_PLACE), &cached);
    if (err)
        return err;
    bool row = false;
    err = bind_two(reader, cached, stream, seq);
    if (!err)
        err = reader_step(reader, cached, &row);
    *ret = (struct place){ 0, 0, 0 };
    if (!err && row) {
        ret->first = (uint64_t)driver->i64(cached->stmt, 0);
        ret->end = ret->first + (uint64_t)driver->i64(cached->stmt, 1);
        ret->wf_before = (uint64_t)driver->i64(cached->stmt, 2);
    }
    reader_done(reader, cached);
    return err;
}

/* Binary search over the primary key: the last segment with wf_before <= after; first 0 when there is none. */
static enum err segment_by_wf(struct reader *reader, uint64_t stream, uint64_t after, struct place *ret)
{
    struct place found = { 0, 0, 0 }, last;
    enum err     err = segment_place(reader, stream, INT64_MAX, &last);
    uint64_t     low = 1, high = last.end; /* the answer begins in [low, high), or is `found` */
    while (!err && low < high) {
        struct place at;
        err = segment_place(reader, stream, low + (high - low) / 2, &at);
        if (err)
            break;
        if (at.first == 0) {
            low = low + (high - low) / 2 + 1;
        } else if (at.wf_before <= after) {
            found = at;
            low = at.end;
        } else {
            high = at.first;
        }
    }
    *ret = found;
    return err;
}

enum err reader_frame_by_wf(struct reader *reader, uint64_t stream, uint64_t after, uint64_t *ret_first_seq)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    struct tail_entry entry;
    if (tail_index_by_wf(&reader->store->tail, reader->view, stream, after, &entry) == TAIL_HERE) {
        *ret_first_seq = entry.first_seq;
        return ERR_OK;
    }
    struct place place;
    enum err     err = segment_by_wf(reader, stream, after, &place);
    if (err)
        return err;
    if (place.first == 0)
        return ERR_NOT_FOUND;
    struct frame frame = { 0 };
    bool         found = false;
    err = frame_in_segment(reader, stream, place.first, after, &frame, &found);
    if (!err)
        *ret_first_seq = frame.first_seq;
    return err;
}

/* ---- the reader thread ---- */

static void *run_reads(void *arg)
{
    struct store       *store = arg;
    struct read_thread *thread = &store->read_thread;
    for (bool stopping = false; !stopping;) {
        for (struct mail *mail = mailbox_wait(&thread->box, -1), *next; mail; mail = next) {
            next = mail->next;
            if (mail == &thread->stop) {
                stopping = true;
                continue;
            }
            struct read_job *job = CONTAINER(mail, struct read_job, mail);
            job->run(job, thread->reader);
            /* At once: the next job may take long. */
            mail->next = NULL;
            store->config.deliver(store->config.user, mail);
        }
    }
    return NULL;
}

void store_read(struct store *store, struct read_job *job)
{
    mailbox_post(&store->read_thread.box, &job->mail);
}

enum err read_thread_start(struct store *store, struct error *error)
{
    struct read_thread *thread = &store->read_thread;
    enum err            err = reader_open(store, &thread->reader, error);
    if (!err)
        err = store_thread(&thread->thread, "reader", run_reads, store, error);
    thread->started = err == ERR_OK;
    return err;
}

void read_thread_stop(struct store *store)
{
    struct read_thread *thread = &store->read_thread;
    if (thread->started) {
        mailbox_post(&thread->box, &thread->stop);
        pthread_join(thread->thread, NULL);
    }
    thread->started = false;
    reader_close(thread->reader);
    thread->reader = NULL;
}
