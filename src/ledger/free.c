/* SPDX-License-Identifier: Apache-2.0 */
/* free.c - free streams in RAM and their rows; see free.h. */
#include "ledger/free.h"
#include "ledger/follow.h"
#include <stdlib.h>

enum {
    KEEP_MOST = 4096,       /* streams in RAM that nobody uses */
    PRODUCERS_MOST = 4096,  /* of one stream in RAM */
    SWEEP_MOST = 256,       /* streams per sweep */
    PURGE_STREAMS = 16,     /* per sweep */
    PURGE_PRODUCERS = 512,  /* rows per stream and sweep */
    PURGE_AFTER_MS = 5000,  /* a read that began before is over */
};

struct free_streams {
    struct ledger      *ledger;
    struct store       *store;
    struct env         *env;
    struct free_host    host;
    struct uuid_map     names;   /* key of (workspace, name) -> struct free_stream */
    struct u64_map      numbers;
    struct free_stream *newest, *oldest; /* by last use */
    size_t              count;
    int64_t             started_ms;
    int64_t             purge_at;
};

static uint64_t mono_ms(const struct free_streams *all) { return all->env->mono_us(all->env) / 1000; }
static int64_t  wall_ms(const struct free_streams *all) { return all->env->wall_ms(all->env); }
static struct batch *batch_of(const struct free_streams *all) { return all->host.batch(all->host.user); }

static struct uuid key_of(struct uuid workspace, struct span name)
{
    struct buf text = { 0 };
    buf_put(&text, workspace.b, sizeof workspace.b);
    buf_span(&text, name);
    struct sha256 hash = sha256_of(buf_view(&text));
    struct uuid   key;
    buf_done(&text);
    memcpy(key.b, hash.b, sizeof key.b);
    return key;
}

/* ---- in RAM ---- */

static void list_out(struct free_stream *fs)
{
    *(fs->newer ? &fs->newer->older : &fs->all->newest) = fs->older;
    *(fs->older ? &fs->older->newer : &fs->all->oldest) = fs->newer;
    fs->newer = fs->older = NULL;
}

static void list_in(struct free_stream *fs)
{
    struct free_streams *all = fs->all;
    fs->older = all->newest;
    *(all->newest ? &all->newest->newer : &all->oldest) = fs;
    all->newest = fs;
}

static void forget_producers(struct free_stream *fs)
{
    for (size_t i = 0; i < FREE_PRODUCER_BUCKETS; i++)
        while (fs->producers[i]) {
            struct producer *p = fs->producers[i];
            fs->producers[i] = p->next;
            free(p);
        }
    fs->producer_count = 0;
}

static void forget(struct free_stream *fs)
{
    struct free_streams *all = fs->all;
    if (uuid_map_get(&all->names, fs->key) == fs)
        uuid_map_del(&all->names, fs->key);
    u64_map_del(&all->numbers, (uint64_t)fs->row.number);
    list_out(fs);
    all->count--;
    forget_producers(fs);
    stream_unref(fs->stream);
    arena_done(&fs->texts);
    buf_done(&fs->order);
    buf_done(&fs->closer);
    struct free_stream *parent = fs->parent;
    free(fs);
    if (parent)
        free_drop(parent);
}

static bool idle(const struct free_stream *fs)
{
    return !fs->refs && !fs->inflight;
}

void free_hold(struct free_stream *fs)
{
    fs->refs++;
}

void free_drop(struct free_stream *fs)
{
    assert(fs->refs > 0);
    fs->refs--;
    if (fs->dead && idle(fs))
        forget(fs);
}

bool     free_pending(const struct free_stream *fs) { return fs->inflight > 0; }
uint64_t free_tail(const struct free_stream *fs)    { return stream_head(fs->stream); }
size_t   free_streams_count(const struct free_streams *all) { return all->count; }

/* What it inherited, from near to far. */
static void set_bases(struct free_stream *fs)
{
    struct stream_base bases[FREE_FORK_LEVELS];
    unsigned           count = 0;
    uint64_t           limit = (uint64_t)fs->row.fork_seq;
    for (const struct free_stream *p = fs->parent; p; p = p->parent) {
        uint64_t from = (uint64_t)p->row.fork_seq;
        if (limit > from) {
            assert(count < FREE_FORK_LEVELS);
            bases[count++] = (struct stream_base){ (uint64_t)p->row.number, from, limit };
            limit = from;
        }
    }
    stream_set_bases(fs->stream, (uint64_t)fs->row.fork_seq, bases, count);
}

static void own_row(struct free_stream *fs, const struct stream_row *row)
{
    fs->row = *row;
    fs->row.name = arena_copy(&fs->texts, row->name);
    fs->row.media = arena_copy(&fs->texts, row->media);
    fs->row.fork_name = row->fork_name.p ? arena_copy(&fs->texts, row->fork_name) : SPAN_NONE;
    if (row->last_order.p) {
        buf_span(&fs->order, row->last_order);
        fs->row.last_order = buf_view(&fs->order);
    }
    if (row->closer.p) {
        buf_span(&fs->closer, row->closer);
        fs->row.closer = buf_view(&fs->closer);
    }
}

/* `parent` is held from here on; `head` is that of its own frames, 0 for none. */
static struct free_stream *add(struct free_streams *all, const struct stream_row *row, struct free_stream *parent,
                               const struct stream_place *own)
{
    struct free_stream *fs = mem_alloc(sizeof *fs);
    struct stream_place place = *own;
    fs->all = all;
    own_row(fs, row);
    fs->key = key_of(row->workspace, row->name);
    fs->parent = parent;
    fs->level = parent ? parent->level + 1 : 0;
    if (parent)
        parent->refs++;
    if (place.head < (uint64_t)row->fork_seq)
        place.head = (uint64_t)row->fork_seq;
    if (!place.last_ms)
        place.last_ms = row->created_ms;
    place.closed = row->closed;
    fs->stream = stream_open(all->ledger, (uint64_t)row->number, &place);
    set_bases(fs);
    uuid_map_put(&all->names, fs->key, fs);
    u64_map_put(&all->numbers, (uint64_t)row->number, fs);
    list_in(fs);
    all->count++;
    return fs;
}

/* ---- from the store ---- */

static enum err fetch(struct free_streams *all, struct reader *reader, uint64_t number, struct free_stream **ret);

static enum err bring(struct free_streams *all, struct reader *reader, const struct stream_row *row, struct free_stream **ret)
{
    struct free_stream *parent = NULL;
    struct stream_place place;
    enum err            err = row->fork_of ? fetch(all, reader, (uint64_t)row->fork_of, &parent) : ERR_OK;
    if (err == ERR_NOT_FOUND)
        err = ERR_CORRUPT; /* a source stays as long as it has forks */
    if (!err)
        err = stream_place_read(reader, (uint64_t)row->number, &place);
    if (err)
        return err;
    struct free_stream *fs = add(all, row, parent, &place);
    /* Nobody knows how much later than that it was used: at most until this process began. */
    int64_t since = row->access_ms > all->started_ms ? row->access_ms : all->started_ms, now = wall_ms(all);
    fs->access_ms = mono_ms(all) - (uint64_t)(now > since ? now - since : 0);
    *ret = fs;
    return ERR_OK;
}

static enum err fetch(struct free_streams *all, struct reader *reader, uint64_t number, struct free_stream **ret)
{
    struct free_stream *fs = u64_map_get(&all->numbers, number);
    if (fs) {
        *ret = fs;
        return ERR_OK;
    }
    struct stream_row row = { .number = (int64_t)number };
    enum err          err = reader_get(reader, TABLE_stream, &row);
    return err ? err : bring(all, reader, &row, ret);
}

static enum err fetch_number(struct free_streams *all, uint64_t number, struct free_stream **ret)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(all->store);
    enum err       err = reader_begin(reader, &arena);
    if (!err) {
        err = fetch(all, reader, number, ret);
        reader_end(reader);
    }
    return err;
}

struct one_row {
    struct stream_row row;
    bool              found;
};

static bool take_one(void *user, const void *row)
{
    struct one_row *one = user;
    one->row = *(const struct stream_row *)row;
    one->found = true;
    return false;
}

static enum err fetch_name(struct free_streams *all, struct uuid workspace, struct span name, struct free_stream **ret)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(all->store);
    struct one_row one = { .found = false };
    struct query   query = { .table = TABLE_stream, .eq_count = 2, .limit = 1,
                             .eq = { { .column = "workspace", .uuid = workspace }, { .column = "name", .bytes = name } } };
    enum err       err = reader_begin(reader, &arena);
    if (err)
        return err;
    err = reader_query(reader, &query, take_one, &one);
    if (!err && !one.found)
        err = ERR_NOT_FOUND;
    if (!err)
        err = bring(all, reader, &one.row, ret);
    reader_end(reader);
    return err;
}

/* ---- writing ---- */

static void committed(void *arg, enum err err)
{
    struct free_stream *fs = arg;
    if (!err && (fs->dead || fs->row.deleted))
        stream_end_followers(fs->stream, FOLLOW_DELETED); /* who let go of it meanwhile did not free it */
    fs->inflight--;
    if (fs->dead && idle(fs))
        forget(fs);
}

/* It stays in RAM, as it is now, until the turn's batch is on disk. */
static void changed(struct free_stream *fs)
{
    fs->inflight++;
    batch_after(batch_of(fs->all), committed, fs);
}

static void put_row(struct free_stream *fs)
{
    struct stream_row *row = &fs->row;
    row->expiring = !row->deleted && (row->window_s >= 0 || row->until_ms);
    row->due_ms = !row->expiring ? 0 : row->until_ms ? row->until_ms : row->access_ms + row->window_s * 1000;
    batch_put(batch_of(fs->all), TABLE_stream, row);
    changed(fs);
}

/* ---- lifetime ---- */

static bool expired(const struct free_stream *fs)
{
    if (fs->row.until_ms)
        return wall_ms(fs->all) >= fs->row.until_ms;
    if (fs->row.window_s < 0 || fs->live)
        return false;
    return mono_ms(fs->all) - fs->access_ms >= (uint64_t)fs->row.window_s * 1000;
}

/* A write per read would be too much: the time on disk may lag a tenth of the window. A crash only makes lives longer. */
static void save_access(struct free_stream *fs, bool always)
{
    int64_t now = wall_ms(fs->all), lag = fs->row.window_s * 100;
    if (!always && now - fs->row.access_ms < (lag > 1000 ? lag : 1000))
        return;
    fs->row.access_ms = now;
    put_row(fs);
}

void free_touch(struct free_stream *fs)
{
    fs->access_ms = mono_ms(fs->all);
    if (fs->row.window_s >= 0 && !fs->row.until_ms && !fs->dead && !fs->row.deleted)
        save_access(fs, false);
}

void free_live_begin(struct free_stream *fs)
{
    free_hold(fs);
    fs->live++;
    free_touch(fs);
}

void free_live_end(struct free_stream *fs)
{
    fs->live--;
    free_touch(fs);
    free_drop(fs);
}

/* ---- finding ---- */

/* Lets go of what was not used for long. The first of the list are never taken: somebody has them in hand. */
static void make_room(struct free_streams *all)
{
    struct free_stream *fs = all->oldest;
    for (int tries = 8; all->count > KEEP_MOST && fs && tries; tries--) {
        struct free_stream *newer = fs->newer;
        if (idle(fs)) {
            int64_t used = wall_ms(all) - (int64_t)(mono_ms(all) - fs->access_ms);
            if (fs->row.window_s >= 0 && !fs->row.until_ms && !fs->row.deleted && used > fs->row.access_ms) {
                fs->row.access_ms = used;
                put_row(fs);
            } else {
                forget(fs);
            }
        } else {
            list_out(fs);
            list_in(fs);
        }
        fs = newer;
    }
}

enum free_found free_find(struct free_streams *all, struct uuid workspace, struct span name, struct free_stream **ret)
{
    struct free_stream *fs = uuid_map_get(&all->names, key_of(workspace, name));
    if (!fs) {
        enum err err = fetch_name(all, workspace, name, &fs);
        if (err)
            return err == ERR_NOT_FOUND ? FREE_ABSENT : FREE_BROKEN;
    }
    list_out(fs);
    list_in(fs);
    make_room(all);
    if (!fs->dead && !fs->row.deleted && expired(fs))
        free_remove(fs);
    if (fs->dead)
        return FREE_ABSENT;
    *ret = fs;
    return fs->row.deleted ? FREE_DELETED : FREE_LIVE;
}

/* ---- making ---- */

static void inherit_life(struct stream_row *row, const struct free_spec *spec)
{
    bool asked = spec->ttl_s >= 0 || spec->expires_ms;
    row->window_s = asked || !spec->source ? spec->ttl_s : spec->source->row.window_s;
    row->until_ms = asked || !spec->source ? spec->expires_ms : spec->source->row.until_ms;
}

struct free_stream *free_create(struct free_streams *all, const struct free_spec *spec)
{
    assert(!spec->source || (spec->source->level < FREE_FORK_LEVELS && spec->fork_seq <= free_tail(spec->source)));
    int64_t           now = wall_ms(all);
    struct stream_row row = { .number = (int64_t)all->host.number(all->host.user), .workspace = spec->workspace, .name = spec->name,
                              .media = spec->media, .ttl_s = spec->ttl_s, .expires_ms = spec->expires_ms, .access_ms = now,
                              .created_ms = now };
    if (spec->source) {
        row.fork_of = spec->source->row.number;
        row.fork_seq = (int64_t)spec->fork_seq;
        row.fork_name = spec->fork_name;
        row.fork_sub = (int64_t)spec->fork_sub;
        spec->source->row.forks++;
        put_row(spec->source);
    }
    inherit_life(&row, spec);
    struct free_stream *fs = add(all, &row, spec->source, &(struct stream_place){ 0 });
    fs->access_ms = mono_ms(all);
    put_row(fs);
    return fs;
}

/* ---- changing ---- */

void free_append(struct free_stream *fs, struct span message, bool joined, bool closing)
{
    struct record record = { .type = REC_BYTES, .pub = message };
    record.flags = (uint8_t)((joined ? REC_JOINED : 0) | (closing ? REC_TERMINAL : 0));
    stream_append(fs->stream, &record);
    changed(fs);
}

void free_close(struct free_stream *fs, bool empty, struct span id, uint64_t epoch, uint64_t seq)
{
    fs->row.closed = 1;
    if (id.n) {
        fs->closer.len = 0;
        buf_span(&fs->closer, id);
        fs->row.closer = buf_view(&fs->closer);
        fs->row.closer_epoch = (int64_t)epoch;
        fs->row.closer_seq = (int64_t)seq;
    }
    if (empty)
        stream_close(fs->stream);
    put_row(fs);
}

void free_set_order(struct free_stream *fs, struct span order)
{
    fs->order.len = 0;
    buf_span(&fs->order, order);
    fs->row.last_order = buf_view(&fs->order);
    put_row(fs);
}

/* ---- producers ---- */

static struct producer **bucket_of(struct free_stream *fs, struct span id)
{
    return &fs->producers[hash64(id.p, id.n) % FREE_PRODUCER_BUCKETS];
}

static struct producer *producer_in(struct producer *first, struct span id)
{
    while (first && !span_eq(span_make(first->id, first->n), id))
        first = first->next;
    return first;
}

static struct producer *producer_keep(struct free_stream *fs, struct span id, uint64_t epoch, uint64_t seq)
{
    struct producer **bucket = bucket_of(fs, id), *p = producer_in(*bucket, id);
    if (!p) {
        p = mem_alloc(sizeof *p + id.n);
        p->n = id.n;
        memcpy(p->id, id.p, id.n);
        p->next = *bucket;
        *bucket = p;
        fs->producer_count++;
    }
    p->epoch = epoch;
    p->last_seq = seq;
    return p;
}

enum err free_producer(struct free_stream *fs, struct span id, struct producer_state *ret)
{
    struct producer *p = producer_in(*bucket_of(fs, id), id);
    if (!p) {
        if (fs->producer_count >= PRODUCERS_MOST && !fs->inflight)
            forget_producers(fs);
        CLEANUP(arena_done) struct arena arena = { 0 };
        struct reader      *reader = store_reader(fs->all->store);
        struct producer_row row = { .stream = fs->row.number, .id = id };
        enum err            err = reader_begin(reader, &arena);
        if (!err) {
            err = reader_get(reader, TABLE_producer, &row);
            reader_end(reader);
        }
        if (err && err != ERR_NOT_FOUND)
            return ERR_STORAGE;
        if (!err)
            p = producer_keep(fs, id, (uint64_t)row.epoch, (uint64_t)row.last_seq);
    }
    *ret = p ? (struct producer_state){ true, p->epoch, p->last_seq } : (struct producer_state){ 0 };
    return ERR_OK;
}

enum producer_verdict producer_judge(const struct producer_state *state, uint64_t epoch, uint64_t seq)
{
    if (!state->known)
        return seq == 0 ? PRODUCER_NEXT : PRODUCER_GAP;
    if (epoch < state->epoch)
        return PRODUCER_FENCED;
    if (epoch > state->epoch)
        return seq == 0 ? PRODUCER_NEXT : PRODUCER_BAD_START;
    if (seq <= state->last_seq)
        return PRODUCER_DUPLICATE;
    return seq == state->last_seq + 1 ? PRODUCER_NEXT : PRODUCER_GAP;
}

void free_producer_put(struct free_stream *fs, struct span id, uint64_t epoch, uint64_t seq)
{
    producer_keep(fs, id, epoch, seq);
    struct producer_row row = { .stream = fs->row.number, .id = id, .epoch = (int64_t)epoch, .last_seq = (int64_t)seq };
    batch_put(batch_of(fs->all), TABLE_producer, &row);
    changed(fs);
}

/* ---- deleting ---- */

/* Nothing names it any more: its row goes, its frames and producers go later. */
static void erase(struct free_stream *fs)
{
    struct free_streams *all = fs->all;
    struct purge_row     purge = { .stream = fs->row.number, .since_ms = wall_ms(all) };
    fs->dead = true;
    batch_delete(batch_of(all), TABLE_stream, &fs->row);
    batch_put(batch_of(all), TABLE_purge, &purge);
    changed(fs);
}

void free_remove(struct free_stream *fs)
{
    assert(!fs->dead);
    if (fs->row.forks) {
        fs->row.deleted = 1;
        put_row(fs);
        return;
    }
    for (struct free_stream *next; fs; fs = next) {
        struct free_stream *parent = fs->parent;
        erase(fs);
        next = NULL;
        if (!parent)
            break;
        parent->row.forks--;
        if (parent->row.deleted && !parent->row.forks)
            next = parent; /* its name was kept for this fork alone */
        else
            put_row(parent);
    }
}

/* ---- time passing ---- */

struct due {
    struct buf numbers;
    int64_t    now_ms;
};

static bool add_due(void *user, const void *row)
{
    struct due              *due = user;
    const struct stream_row *stream = row;
    if (stream->due_ms > due->now_ms)
        return false;
    buf_put(&due->numbers, &stream->number, sizeof stream->number);
    return true;
}

static bool add_purge(void *user, const void *row)
{
    struct due *due = user;
    buf_put(&due->numbers, &((const struct purge_row *)row)->stream, sizeof(int64_t));
    return true;
}

/* The first numbers of a query; false when there are none. */
static bool numbers_of(struct free_streams *all, const struct query *query, bool (*each)(void *user, const void *row), struct due *due)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(all->store);
    if (reader_begin(reader, &arena))
        return false;
    enum err err = reader_query(reader, query, each, due);
    reader_end(reader);
    return !err && due->numbers.len > 0;
}

static void sweep_one(struct free_streams *all, uint64_t number)
{
    struct free_stream *fs = NULL;
    if (fetch_number(all, number, &fs) || fs->dead || fs->row.deleted)
        return;
    if (expired(fs))
        free_remove(fs);
    else if (!fs->row.until_ms)
        save_access(fs, true); /* so that it does not stand in the way of those that are due */
}

static void sweep_expired(struct free_streams *all)
{
    struct due   due = { .now_ms = wall_ms(all) };
    struct query query = { .table = TABLE_stream, .eq_count = 1, .eq = { { .column = "expiring", .i64 = 1 } }, .order_column = "due_ms",
                           .limit = SWEEP_MOST };
    if (numbers_of(all, &query, add_due, &due))
        for (size_t i = 0; i < due.numbers.len / sizeof(int64_t); i++)
            sweep_one(all, ((const uint64_t *)(const void *)due.numbers.p)[i]);
    buf_done(&due.numbers);
}

static bool delete_producer(void *user, const void *row)
{
    struct free_streams *all = user;
    batch_delete(batch_of(all), TABLE_producer, row);
    return true;
}

/* Some producers and some segments at a time; its row in `purge` goes when there are none. Frames that lie in the tail are
 * waited for: they become segments by themselves. */
static void purge_one(struct free_streams *all, int64_t number)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader   *reader = store_reader(all->store);
    struct purge_row purge = { .stream = number };
    struct query     query = { .table = TABLE_producer, .eq_count = 1, .eq = { { .column = "stream", .i64 = number } },
                               .limit = PURGE_PRODUCERS };
    int64_t          producers = 0;
    uint64_t         head = 0;
    if (u64_map_get(&all->numbers, (uint64_t)number) || stream_is_open(all->ledger, (uint64_t)number) || reader_begin(reader, &arena))
        return;
    enum err err = reader_get(reader, TABLE_purge, &purge);
    if (!err && wall_ms(all) - purge.since_ms < PURGE_AFTER_MS)
        err = ERR_NOT_FOUND;
    if (!err)
        err = reader_count(reader, &query, &producers);
    if (!err && producers)
        err = reader_query(reader, &query, delete_producer, all);
    if (!err)
        err = reader_head(reader, (uint64_t)number, &head, NULL);
    bool in_tail = reader_in_tail(reader, (uint64_t)number);
    reader_end(reader);
    if (err)
        return;
    if (head && !in_tail)
        batch_purge(batch_of(all), (uint64_t)number);
    if (!head && producers <= PURGE_PRODUCERS)
        batch_delete(batch_of(all), TABLE_purge, &purge);
}

/* Where the last sweep stopped: one that must wait does not stand in the way of the others. */
static void sweep_purge(struct free_streams *all)
{
    struct due   due = { 0 };
    struct query query = { .table = TABLE_purge, .order_column = "stream", .limit = PURGE_STREAMS, .offset = all->purge_at };
    size_t       count = numbers_of(all, &query, add_purge, &due) ? due.numbers.len / sizeof(int64_t) : 0;
    for (size_t i = 0; i < count; i++)
        purge_one(all, ((const int64_t *)(const void *)due.numbers.p)[i]);
    all->purge_at = count == PURGE_STREAMS ? all->purge_at + PURGE_STREAMS : 0;
    buf_done(&due.numbers);
}

void free_sweep(struct free_streams *all)
{
    if (store_failed(all->store))
        return;
    sweep_expired(all);
    sweep_purge(all);
}

/* ---- life ---- */

struct free_streams *free_streams_new(struct ledger *ledger, struct store *store, struct env *env, const struct free_host *host)
{
    struct free_streams *all = mem_alloc(sizeof *all);
    *all = (struct free_streams){ .ledger = ledger, .store = store, .env = env, .host = *host };
    all->started_ms = wall_ms(all);
    return all;
}

void free_streams_free(struct free_streams *all)
{
    if (!all)
        return;
    /* Forks hold what they were forked from: several passes, leaves first. */
    while (all->count)
        for (struct free_stream *fs = all->newest, *older; fs; fs = older) {
            older = fs->older;
            if (fs->refs)
                continue;
            older = fs->older;
            forget(fs);
            break;
        }
    uuid_map_done(&all->names);
    u64_map_done(&all->numbers);
    free(all);
}
