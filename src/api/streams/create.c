/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - PUT: a new stream, a fork, or the same answer again (streams.md 4, 11). */
#include "api/streams/streams.h"

struct creation {
    struct span      name;
    struct span      content_type; /* as sent, or the default; p NULL: a fork takes its source's */
    struct span      media;
    int64_t          ttl_s, expires_ms;
    bool             closed;
    struct span      fork_name;    /* p NULL: no fork */
    bool             has_fork_at;
    struct ds_offset fork_at;
    uint64_t         fork_sub;
    struct messages  messages;
};

/* ---- what is asked for ---- */

static bool read_lifetime(struct call *call, struct creation *c)
{
    struct span ttl, expires;
    uint64_t    seconds;
    bool        has_ttl = ds_header(call, "Stream-TTL", &ttl), has_expires = ds_header(call, "Stream-Expires-At", &expires);
    c->ttl_s = -1;
    if (has_ttl && has_expires) {
        ds_fail(call, NULL, ERR_BAD_REQUEST, "Stream-TTL", "Stream-TTL and Stream-Expires-At exclude each other");
        return false;
    }
    if (has_ttl && !number_parse(ttl, true, &seconds)) {
        ds_fail(call, NULL, ERR_BAD_REQUEST, "Stream-TTL", "must be a whole number of seconds without sign or leading zeros");
        return false;
    }
    if (has_ttl)
        c->ttl_s = (int64_t)seconds;
    if (has_expires && (!instant_parse(expires, &c->expires_ms) || c->expires_ms <= 0)) {
        ds_fail(call, NULL, ERR_BAD_REQUEST, "Stream-Expires-At", "must be an RFC 3339 time");
        return false;
    }
    return true;
}

static bool read_fork(struct call *call, struct creation *c)
{
    struct span from, at, sub;
    bool        forks = ds_header(call, "Stream-Forked-From", &from), has_sub = ds_header(call, "Stream-Fork-Sub-Offset", &sub);
    c->has_fork_at = ds_header(call, "Stream-Fork-Offset", &at);
    const char *wrong = NULL;
    if (!forks && (has_sub || c->has_fork_at))
        wrong = "a fork needs Stream-Forked-From";
    else if (forks && !name_of_path(from, &call->arena, &c->fork_name))
        wrong = "Stream-Forked-From must be the path of a stream";
    else if (c->has_fork_at && offset_parse(at, &c->fork_at) != OFFSET_AT)
        wrong = "Stream-Fork-Offset must be an offset";
    else if (has_sub && !number_parse(sub, true, &c->fork_sub))
        wrong = "Stream-Fork-Sub-Offset must be a whole number without sign or leading zeros";
    if (wrong)
        ds_fail(call, NULL, ERR_BAD_REQUEST, "Stream-Forked-From", "%s", wrong);
    return !wrong;
}

static bool read_type(struct call *call, struct creation *c)
{
    struct span given;
    bool        has = ds_header(call, "Content-Type", &given) && given.n;
    if (given.n > MEDIA_MAX) {
        ds_fail(call, NULL, ERR_BAD_REQUEST, "Content-Type", "is longer than %d bytes", MEDIA_MAX);
        return false;
    }
    if (!has && c->fork_name.p)
        return true;
    c->media = has ? media_parse(given, &call->arena) : SPAN_NONE;
    c->content_type = c->media.p ? given : SPAN("application/octet-stream");
    if (!c->media.p)
        c->media = c->content_type;
    return true;
}

/* Once the media type is known. */
static bool read_body(struct call *call, struct creation *c, struct span media)
{
    struct error error = { 0 };
    enum err     err = messages_parse(call, is_json_media(media), call->req->body, &c->messages, &error);
    if (err)
        call_error(call, &error);
    return !err;
}

/* ---- there is one already ---- */

static struct span media_of(struct call *call, const struct free_stream *fs)
{
    return media_parse(fs->row.media, &call->arena);
}

static bool same_request(struct call *call, const struct creation *c, const struct free_stream *fs)
{
    const struct stream_row *row = &fs->row;
    if (c->media.p && !span_eq(c->media, media_of(call, fs)))
        return false;
    if (c->ttl_s != row->ttl_s || c->expires_ms != row->expires_ms || c->closed != (row->closed != 0))
        return false;
    if ((c->fork_name.p != NULL) != (row->fork_of != 0))
        return false;
    if (!c->fork_name.p)
        return true;
    return span_eq(c->fork_name, row->fork_name) && c->fork_sub == (uint64_t)row->fork_sub &&
           (!c->has_fork_at || (!c->fork_at.generation && c->fork_at.seq == (uint64_t)row->fork_seq));
}

static void put_created(struct call *call, const struct free_stream *fs)
{
    call->content_type = call_text(call, fs->row.media);
    put_tail(call, fs);
    put_closed(call, fs);
}

static void answer_existing(struct call *call, const struct creation *c, const struct free_stream *fs)
{
    if (!same_request(call, c, fs)) {
        put_closed(call, fs);
        ds_fail(call, fs, ERR_CONFLICT, "", "the stream exists, made with other parameters");
        return;
    }
    put_created(call, fs);
    ds_send(call, fs, 200);
}

/* ---- the part of an append that a sub-offset takes ---- */

struct prefix {
    bool       json;
    uint64_t   want, have; /* bytes, or messages */
    unsigned   records;
    struct buf bytes;      /* length u64, message, length u64, … */
};

static bool prefix_record(void *user, const struct record *record)
{
    struct prefix *p = user;
    if (p->records++ && !(record->flags & REC_JOINED))
        return false; /* the next append */
    uint64_t n = record->pub.n;
    if (!p->json && n > p->want - p->have)
        n = p->want - p->have;
    buf_put(&p->bytes, &n, sizeof n);
    buf_put(&p->bytes, record->pub.p, (size_t)n);
    p->have += p->json ? 1 : n;
    return p->have < p->want;
}

static enum err prefix_read(struct call *call, const struct free_stream *source, uint64_t after, struct prefix *p)
{
    struct reader     *reader = engine_reader(call->api->engine);
    struct stream_view view = stream_view(source->stream);
    enum err           err = reader_begin(reader, &call->arena);
    if (err)
        return err;
    err = stream_records(reader, &view, after, stream_committed(source->stream), prefix_record, p);
    reader_end(reader);
    return err;
}

static void prefix_append(const struct prefix *p, struct free_stream *fs, bool closing)
{
    bool joined = false;
    for (size_t at = 0; at < p->bytes.len; joined = true) {
        uint64_t n;
        memcpy(&n, p->bytes.p + at, sizeof n);
        at += sizeof n + (size_t)n;
        free_append(fs, span_make(p->bytes.p + at - n, (size_t)n), joined, closing && at == p->bytes.len);
    }
}

/* ---- there is none ---- */

static void make(struct call *call, const struct creation *c, struct free_stream *source, uint64_t fork_seq, const struct prefix *prefix)
{
    struct free_spec spec = { .workspace = call->workspace, .name = c->name, .ttl_s = c->ttl_s, .expires_ms = c->expires_ms,
                              .media = c->content_type.p ? c->content_type : source->row.media, .source = source,
                              .fork_seq = fork_seq, .fork_name = c->fork_name, .fork_sub = c->fork_sub };
    struct free_stream *fs = free_create(call->api->ds->all, &spec);
    prefix_append(prefix, fs, c->closed && !c->messages.count);
    messages_append(&c->messages, fs, c->closed);
    if (c->closed)
        free_close(fs, !c->messages.count && !prefix->bytes.len, SPAN_NONE, 0, 0);
    struct span host;
    put_created(call, fs);
    BUF_LIT(&call->headers, "Location: http://");
    buf_span(&call->headers, ds_header(call, "Host", &host) && host.n ? host : SPAN("localhost"));
    buf_span(&call->headers, call->path);
    BUF_LIT(&call->headers, "\r\n");
    call_send_committed(call, 201);
}

static void create_again(void *arg, enum err err)
{
    struct call *call = arg;
    if (!err && call->req) {
        ds_create(call);
        return;
    }
    if (call->req)
        http_abort(TAKE(call->req));
    call_free(call);
}

/* The source of a fork; NULL: the call was answered. */
static struct free_stream *find_source(struct call *call, const struct creation *c)
{
    struct free_stream *source = NULL;
    switch (name_class(c->fork_name).class_) {
    case STREAM_FREE: break;
    case STREAM_RUN: case STREAM_ATTEMPT:
        ds_fail(call, NULL, ERR_FORBIDDEN, "Stream-Forked-From", "streams of runs cannot be forked");
        return NULL;
    default: ds_fail(call, NULL, ERR_NOT_FOUND, "Stream-Forked-From", "there is no such stream"); return NULL;
    }
    switch (free_find(call->api->ds->all, call->workspace, c->fork_name, &source)) {
    case FREE_LIVE: break;
    case FREE_DELETED: ds_fail(call, source, ERR_CONFLICT, "Stream-Forked-From", "the stream was deleted"); return NULL;
    case FREE_ABSENT: ds_fail(call, NULL, ERR_NOT_FOUND, "Stream-Forked-From", "there is no such stream"); return NULL;
    case FREE_BROKEN: ds_fail(call, NULL, ERR_STORAGE, "", "the store cannot be read"); return NULL;
    }
    const char *wrong = NULL;
    if (c->media.p && !span_eq(c->media, media_of(call, source)))
        ds_fail(call, source, ERR_CONFLICT, "Content-Type", "a fork has the content type of its source");
    else if (c->has_fork_at && offset_cmp(c->fork_at, (struct ds_offset){ 0, free_tail(source) }) > 0)
        wrong = "Stream-Fork-Offset lies beyond the end of the source";
    else if (source->level + 1 >= FREE_FORK_LEVELS)
        wrong = "too many forks of forks";
    else
        return source;
    if (wrong)
        ds_fail(call, source, ERR_BAD_REQUEST, "Stream-Fork-Offset", "%s", wrong);
    return NULL;
}

static void create_fork(struct call *call, struct creation *c)
{
    struct free_stream *source = find_source(call, c);
    if (!source || (!c->media.p && !read_body(call, c, media_of(call, source))))
        return;
    uint64_t      at = c->has_fork_at ? c->fork_at.seq : free_tail(source);
    struct prefix prefix = { .json = is_json_media(media_of(call, source)), .want = c->fork_sub };
    if (c->fork_sub && at < free_tail(source)) {
        if (!call->shown)
            call->shown = (int64_t)free_tail(source);
        if (stream_committed(source->stream) < (uint64_t)call->shown) { /* the store does not have it yet */
            engine_after(call->api->engine, create_again, call);
            return;
        }
        if (prefix_read(call, source, at, &prefix)) {
            buf_done(&prefix.bytes);
            ds_fail(call, NULL, ERR_STORAGE, "", "the store cannot be read");
            return;
        }
    }
    if (prefix.have < prefix.want)
        ds_fail(call, source, ERR_BAD_REQUEST, "Stream-Fork-Sub-Offset", "lies beyond the append behind the fork offset");
    else
        make(call, c, source, at, &prefix);
    buf_done(&prefix.bytes);
}

void ds_create(struct call *call)
{
    struct creation     c = { 0 };
    struct free_stream *fs = NULL;
    struct error        error = { 0 };
    struct span         closed;
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return;
    }
    c.closed = ds_header(call, "Stream-Closed", &closed) && header_true(closed);
    (void)name_parse(call->params[0], &call->arena, &c.name); /* the route did it before */
    if (!read_lifetime(call, &c) || !read_fork(call, &c) || !read_type(call, &c) || (c.media.p && !read_body(call, &c, c.media)))
        return;
    switch (free_find(call->api->ds->all, call->workspace, c.name, &fs)) {
    case FREE_LIVE: answer_existing(call, &c, fs); return;
    case FREE_DELETED: ds_fail(call, fs, ERR_CONFLICT, "", "the stream was deleted; its name is kept for its forks"); return;
    case FREE_BROKEN: ds_fail(call, NULL, ERR_STORAGE, "", "the store cannot be read"); return;
    case FREE_ABSENT: break;
    }
    if (c.fork_name.p)
        create_fork(call, &c);
    else
        make(call, &c, NULL, 0, &(struct prefix){ 0 });
}
