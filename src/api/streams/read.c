/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - GET and HEAD: catch-up from a snapshot on the reader thread, and the way to the live forms (streams.md 8, 13). */
#include "api/agent_runs/render.h"
#include "api/streams/streams.h"
#include <stdlib.h>

/* ---- sources ---- */

void source_of_free(struct call *call, struct free_stream *fs, struct source *ret)
{
    struct span media = media_parse(fs->row.media, &call->arena);
    free_hold(fs);
    *ret = (struct source){
        .fs = fs, .stream = stream_open(engine_ledger(call->api->engine), stream_number(fs->stream), NULL),
        .json = is_json_media(media), .text = is_json_media(media) || is_text_media(media),
        .upto = free_tail(fs), .tail = { 0, free_tail(fs) }, .closed = fs->row.closed, .late = free_pending(fs),
        .content_type = call_text(call, fs->row.media), .id = (uint64_t)fs->row.number,
    };
}

void source_done(struct source *source)
{
    stream_unref(source->stream);
    if (source->fs)
        free_drop(source->fs);
    free(source->ref);
    *source = (struct source){ 0 };
}

/* ---- one read ---- */

enum mode { READ_CATCH_UP, READ_WAIT, READ_SSE };

struct reading {
    struct read_job  job;
    struct call     *call;
    struct source    source;
    struct stream_view view;
    enum mode        mode;
    struct ds_offset from;
    bool             now;      /* offset=now */
    struct span      cursor;   /* of the query; p NULL: none */
    uint64_t         upto, last;
    size_t           limit;
    enum err         err;
};

static void give_up(struct reading *r)
{
    struct call *call = r->call;
    source_done(&r->source);
    if (call->req)
        http_abort(TAKE(call->req));
    call_free(call);
}

static uint64_t answer_cursor(const struct reading *r)
{
    struct engine *engine = r->call->api->engine;
    uint64_t       random;
    env_random_u64(engine_env(engine), &random);
    return cursor_answer(r->cursor, engine_now_ms(engine), random);
}

/* ---- heads of answers ---- */

static struct span tag_of(struct call *call, const struct source *source, struct ds_offset from, struct ds_offset to, bool closed)
{
    struct buf tag = { 0 };
    buf_printf(&tag, "\"%llx:", (unsigned long long)source->id);
    offset_put(&tag, from);
    buf_byte(&tag, ':');
    offset_put(&tag, to);
    buf_printf(&tag, "%s\"", closed ? ":c" : "");
    struct span kept = arena_copy(&call->arena, buf_view(&tag));
    buf_done(&tag);
    return kept;
}

void put_chunk_head(struct call *call, const struct source *source, struct ds_offset from, struct ds_offset to, bool at_head,
                    bool closed, bool with_tag)
{
    put_offset(call, "Stream-Next-Offset", to);
    if (at_head)
        BUF_LIT(&call->headers, "Stream-Up-To-Date: true\r\n");
    if (closed)
        BUF_LIT(&call->headers, "Stream-Closed: true\r\n");
    if (with_tag)
        put_header(call, "ETag", tag_of(call, source, from, to, closed));
    call->content_type = source->content_type;
    call->cache = !with_tag ? "no-store" : at_head ? "private, no-cache" : "private, max-age=86400, immutable";
}

static bool not_modified(struct call *call, const struct source *source, struct ds_offset from, struct ds_offset to, bool closed)
{
    struct span given;
    return ds_header(call, "If-None-Match", &given) && etag_matches(given, tag_of(call, source, from, to, closed));
}

/* The 200 or 304 of a catch-up; call->out has the messages. */
static void finish(struct reading *r)
{
    struct call     *call = r->call;
    struct ds_offset to = { r->from.generation, r->last };
    bool             at_head = offset_cmp(to, r->source.tail) == 0, closed = at_head && r->source.closed;
    put_chunk_head(call, &r->source, r->from, to, at_head, closed, !r->now);
    if (r->mode == READ_WAIT)
        put_number(call, "Stream-Cursor", answer_cursor(r));
    int status = 200;
    if (!r->now && not_modified(call, &r->source, r->from, to, closed)) {
        call->out.len = 0;
        call->content_type = NULL;
        status = 304;
    }
    source_done(&r->source);
    call_send(call, status);
}

/* ---- reading, on the reader thread ---- */

static bool take_record(void *user, const struct record *record)
{
    struct reading *r = user;
    struct buf     *out = &r->call->out;
    size_t          before = out->len;
    bool            first = r->last == r->from.seq;
    if (r->source.json && !first)
        buf_byte(out, ',');
    if (r->source.ref)
        render_event(r->source.ref, record, out);
    else
        buf_span(out, record->pub);
    if (!first && out->len > r->limit) {
        out->len = before;
        return false;
    }
    r->last = record->seq;
    return true;
}

static void read_run(struct read_job *job, struct reader *reader)
{
    struct reading *r = CONTAINER(job, struct reading, job);
    r->err = reader_begin(reader, &r->call->arena);
    if (r->err)
        return;
    if (r->source.json)
        buf_byte(&r->call->out, '[');
    r->err = stream_records(reader, &r->view, r->from.seq, r->upto, take_record, r);
    reader_end(reader);
    if (r->source.json)
        buf_byte(&r->call->out, ']');
}

static void read_done(struct read_job *job)
{
    struct reading *r = CONTAINER(job, struct reading, job);
    if (!r->err) {
        finish(r);
        return;
    }
    struct call *call = r->call;
    enum err     err = r->err;
    source_done(&r->source);
    call->out.len = 0;
    ds_fail(call, NULL, err == ERR_CORRUPT ? err : ERR_STORAGE, "", "the stream cannot be read");
}

static void read_store(struct reading *r)
{
    r->view = stream_view(r->source.stream);
    r->upto = r->source.upto;
    r->limit = r->call->api->config.stream_chunk;
    r->job.run = read_run;
    r->job.done = read_done;
    store_read(engine_store(r->call->api->engine), &r->job);
}

/* ---- where to, once everything is on disk that the answer tells of ---- */

/* An answer of nothing: the end of what there is. */
static void read_nothing(struct reading *r)
{
    if (r->source.json)
        BUF_LIT(&r->call->out, "[]");
    finish(r);
}

static void closed_at_once(struct reading *r)
{
    struct call *call = r->call;
    put_chunk_head(call, &r->source, r->from, r->source.tail, true, true, false);
    call->content_type = NULL;
    put_number(call, "Stream-Cursor", answer_cursor(r));
    source_done(&r->source);
    call_send(call, 204);
}

static void go(struct reading *r)
{
    struct place place = { .after = r->from.seq, .generation = (uint32_t)r->from.generation };
    bool         behind = offset_cmp(r->from, r->source.tail) < 0;
    if (r->mode != READ_CATCH_UP)
        place.cursor = answer_cursor(r);
    if (r->mode == READ_SSE)
        live_sse(r->call, &r->source, &place);
    else if (behind && !r->now)
        read_store(r);
    else if (r->mode == READ_CATCH_UP)
        read_nothing(r);
    else if (r->source.closed)
        closed_at_once(r);
    else
        live_wait(r->call, &r->source, &place);
}

static void go_late(void *arg, enum err err)
{
    struct reading *r = arg;
    if (err || !r->call->req)
        give_up(r);
    else
        go(r);
}

/* ---- the request ---- */

static void read_mode(struct reading *r)
{
    struct call *call = r->call;
    struct span  live = SPAN_NONE;
    bool         bad = false;
    size_t       count = query_get(call->query, "live", &call->arena, &live, &bad);
    r->mode = !count || bad ? READ_CATCH_UP : span_is(live, "sse") ? READ_SSE : span_is(live, "long-poll") ? READ_WAIT : READ_CATCH_UP;
    if (!query_get(call->query, "cursor", &call->arena, &r->cursor, &bad))
        r->cursor = SPAN_NONE;
}

/* False: the call was answered. */
static bool read_from(struct reading *r)
{
    struct call *call = r->call;
    struct span  text = SPAN_NONE;
    bool         bad = false;
    size_t       count = query_get(call->query, "offset", &call->arena, &text, &bad);
    const char  *wrong = NULL;
    if (count > 1)
        wrong = "is given more than once";
    else if (!count && r->mode != READ_CATCH_UP)
        wrong = "is needed to follow a stream";
    enum offset_form form = !count ? OFFSET_START : bad ? OFFSET_BAD : offset_parse(text, &r->from);
    if (!wrong && form == OFFSET_BAD)
        wrong = "is no offset";
    r->now = form == OFFSET_NOW;
    if (r->now)
        r->from = r->source.tail;
    enum err err = ERR_OK;
    if (!wrong && offset_cmp(r->from, r->source.tail) <= 0)
        err = source_seek(call, &r->source, &r->from);
    else if (!wrong)
        err = ERR_INVALID_CURSOR;
    if (err == ERR_INVALID_CURSOR)
        wrong = "lies beyond the end of the stream";
    if (!wrong && !err)
        return true;
    call->late = r->source.late;
    source_done(&r->source); /* before the answer, which takes the call's arena with it */
    ds_fail(call, NULL, wrong ? ERR_INVALID_CURSOR : err, "offset", "%s", wrong ? wrong : "the stream cannot be read");
    return false;
}

void ds_read(struct call *call, struct source *source)
{
    struct reading *r = ARENA_NEW(&call->arena, struct reading);
    r->call = call;
    r->source = *source;
    read_mode(r);
    if (!read_from(r))
        return;
    r->last = r->from.seq;
    if (r->source.late)
        engine_after(call->api->engine, go_late, r);
    else
        go(r);
}

void ds_head(struct call *call, const struct source *source)
{
    const struct free_stream *fs = source->fs;
    put_offset(call, "Stream-Next-Offset", source->tail);
    if (source->closed)
        BUF_LIT(&call->headers, "Stream-Closed: true\r\n");
    if (fs && fs->row.until_ms) {
        char time[TIME_TEXT];
        time_format(fs->row.until_ms, time);
        put_header(call, "Stream-Expires-At", span_make(time, sizeof time));
    } else if (fs && fs->row.window_s >= 0) {
        put_number(call, "Stream-TTL", (uint64_t)fs->row.window_s);
    }
    call->content_type = source->content_type;
    ds_send(call, fs, 200);
}
