/* SPDX-License-Identifier: Apache-2.0 */
/* live.c - readers that wait: SSE and long-poll, both followers of the ledger (streams.md 9, 10).
 *
 * What a commit brought is rendered once per form and shared by all who stand at the same place; SSE adds each follower's own
 * control event, long-poll its own head. */
#include "api/agent_runs/render.h"
#include "api/sink.h"
#include "api/streams/streams.h"
#include "base/utf8.h"
#include <stdio.h>
#include <stdlib.h>

enum { SSE_QUIET_MS = 15000 };

/* ---- gathering: what a chunk holds ---- */

static void event_bytes(const void *ctx, const struct record *record, struct buf *out)
{
    (void)ctx;
    buf_span(out, record->pub);
}

static void event_json(const void *ctx, const struct record *record, struct buf *out)
{
    (void)ctx;
    if (out->len)
        buf_byte(out, ',');
    buf_span(out, record->pub);
}

static void event_run(const void *ctx, const struct record *record, struct buf *out)
{
    if (out->len)
        buf_byte(out, ',');
    render_event(ctx, record, out);
}

/* ---- long-poll: the body of an answer ---- */

static void body_bytes(const void *ctx, struct buf *bytes)
{
    (void)ctx;
    (void)bytes;
}

/* Puts text before and behind. */
static void enclose(struct buf *bytes, const char *before, const char *behind)
{
    struct buf whole = { 0 };
    buf_reserve(&whole, bytes->len + strlen(before) + strlen(behind));
    buf_span(&whole, span_of(before));
    buf_span(&whole, buf_view(bytes));
    buf_span(&whole, span_of(behind));
    buf_done(bytes);
    *bytes = whole;
}

static void body_json(const void *ctx, struct buf *bytes)
{
    (void)ctx;
    enclose(bytes, "[", "]");
}

/* ---- SSE: a data event ---- */

static void sse_json(const void *ctx, struct buf *bytes)
{
    (void)ctx;
    enclose(bytes, "event: data\ndata:[", "]\n\n");
}

static void data_line(struct buf *out, const char *p, const char *end)
{
    BUF_LIT(out, "data:");
    if (p < end && *p == ' ')
        buf_byte(out, ' '); /* readers take one blank away */
    while (p < end) {
        uint32_t cp;
        unsigned n = utf8_decode(p, end, false, &cp);
        if (n)
            buf_put(out, p, n);
        else
            BUF_LIT(out, "\xef\xbf\xbd");
        p += n ? n : 1;
    }
    BUF_LIT(out, "\n");
}

/* CRLF, CR and LF each begin a new line, so that no payload can make an event. */
static void sse_text(const void *ctx, struct buf *bytes)
{
    struct buf  out = { 0 };
    const char *p = bytes->p, *end = p + bytes->len;
    (void)ctx;
    buf_reserve(&out, bytes->len + 64);
    BUF_LIT(&out, "event: data\n");
    for (;;) {
        const char *stop = p;
        while (stop < end && *stop != '\r' && *stop != '\n')
            stop++;
        data_line(&out, p, stop);
        if (stop == end)
            break;
        p = stop + (stop[0] == '\r' && stop + 1 < end && stop[1] == '\n' ? 2 : 1);
    }
    BUF_LIT(&out, "\n");
    buf_done(bytes);
    *bytes = out;
}

static void put_base64(struct buf *out, const char *bytes, size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)bytes;
    buf_reserve(out, (n + 2) / 3 * 4);
    for (; n >= 3; n -= 3, p += 3) {
        char four[] = { letters[p[0] >> 2], letters[(p[0] & 3) << 4 | p[1] >> 4], letters[(p[1] & 15) << 2 | p[2] >> 6],
                        letters[p[2] & 63] };
        buf_put(out, four, sizeof four);
    }
    if (n) {
        unsigned second = n > 1 ? p[1] : 0;
        char four[] = { letters[p[0] >> 2], letters[(p[0] & 3) << 4 | second >> 4], n > 1 ? letters[(second & 15) << 2] : '=', '=' };
        buf_put(out, four, sizeof four);
    }
}

static void sse_base64(const void *ctx, struct buf *bytes)
{
    struct buf out = { 0 };
    (void)ctx;
    BUF_LIT(&out, "event: data\ndata:");
    put_base64(&out, bytes->p, bytes->len);
    BUF_LIT(&out, "\n\n");
    buf_done(bytes);
    *bytes = out;
}

/* ---- SSE: the control event behind it ---- */

static size_t sse_control(const void *ctx, const struct follow_place *place, char out[FOLLOW_TAIL])
{
    uint64_t cursor = cursor_at(place->now_ms);
    /* A run's stream goes on behind an attempt that failed. */
    bool open = place->generation && place->last == REC_RUN_FAILED, closed = place->closed && !open;
    int      n = snprintf(out, FOLLOW_TAIL, "event: control\ndata:{\"streamNextOffset\":\"%016llu_%016llu\"",
                          (unsigned long long)place->generation, (unsigned long long)place->seq);
    (void)ctx;
    if (!closed)
        n += snprintf(out + n, FOLLOW_TAIL - (size_t)n, ",\"streamCursor\":\"%llu\"",
                      (unsigned long long)(cursor > place->mark ? cursor : place->mark));
    n += snprintf(out + n, FOLLOW_TAIL - (size_t)n, "%s%s}\n\n", place->at_head ? ",\"upToDate\":true" : "",
                  closed ? ",\"streamClosed\":true" : "");
    assert(n > 0 && n < FOLLOW_TAIL);
    return (size_t)n;
}

static const struct wire_format wait_bytes = { .name = "ds-wait", .event = event_bytes, .finish = body_bytes, .once = true };
static const struct wire_format wait_json = { .name = "ds-wait-json", .event = event_json, .finish = body_json, .once = true };
static const struct wire_format wait_run = { .name = "ds-wait-run", .event = event_run, .finish = body_json, .once = true,
                                             .ctx_free = free };
static const struct wire_format follow_json = { .name = "ds-sse-json", .event = event_json, .finish = sse_json, .tail = sse_control,
                                                .heartbeat_ms = SSE_QUIET_MS };
static const struct wire_format follow_text = { .name = "ds-sse-text", .event = event_bytes, .finish = sse_text, .tail = sse_control,
                                                .heartbeat_ms = SSE_QUIET_MS };
static const struct wire_format follow_base64 = { .name = "ds-sse-base64", .event = event_bytes, .finish = sse_base64,
                                                  .tail = sse_control, .heartbeat_ms = SSE_QUIET_MS };
static const struct wire_format follow_run = { .name = "ds-sse-run", .event = event_run, .finish = sse_json, .tail = sse_control,
                                               .heartbeat_ms = SSE_QUIET_MS, .ctx_free = free };

/* ---- SSE ---- */

/* What a connection holds as long as it is open. */
struct live {
    struct free_stream *fs;
    struct parked_run  *parked;
};

static struct live *live_begin(struct free_stream *fs, struct parked_run *parked)
{
    struct live *live = mem_alloc(sizeof *live);
    *live = (struct live){ fs, parked };
    if (fs)
        free_live_begin(fs);
    return live;
}

static void live_over(void *user)
{
    struct live *live = user;
    if (live->fs)
        free_live_end(live->fs);
    parked_free(live->parked);
    free(live);
}

static int64_t sse_deadline(struct call *call)
{
    struct engine *engine = call->api->engine;
    uint64_t       random;
    env_random_u64(engine_env(engine), &random);
    int64_t age = call->api->config.live_age_ms, token = call->cred->row.expires_ms;
    int64_t end = engine_now_ms(engine) + age * 9 / 10 + (int64_t)(random % ((uint64_t)age / 5 + 1));
    return token && token < end ? token : end;
}

static const struct wire_format *sse_format(const struct source *source)
{
    if (source->ref)
        return &follow_run;
    return source->json ? &follow_json : source->text ? &follow_text : &follow_base64;
}

void live_sse(struct call *call, struct source *source, const struct place *place)
{
    const struct wire_format *format = sse_format(source);
    struct source             held = *source; /* the call ends below, and with it what `source` points into */
    if (!sink_allowed(call)) {
        source_done(&held);
        return;
    }
    bool               at_end = place->generation == held.attempts && place->after == held.upto;
    struct parked_run *parked = at_end ? run_park(call, &held) : NULL;
    struct follower   *follower = follower_new(parked ? parked_stream(parked) : held.stream, format, TAKE(held.ref), place->after,
                                               sse_deadline(call));
    struct live       *live = live_begin(held.fs, parked);
    follower_mark(follower, place->cursor, place->generation);
    source_done(&held);
    call->content_type = "text/event-stream";
    call->cache = "no-cache, no-transform";
    BUF_LIT(&call->headers, "X-Accel-Buffering: no\r\n");
    if (format == &follow_base64)
        BUF_LIT(&call->headers, "Stream-SSE-Data-Encoding: base64\r\n");
    streams_headers(call, &call->headers);
    sink_begin(call, follower, live_over, live);
}

/* ---- long-poll ---- */

struct waiter {
    struct call     *call;
    struct source    source;
    struct place     place;
    struct follower *follower;
    struct live     *live;
};

static void waiter_over(struct waiter *w)
{
    loop_timer_clear(&w->call->timer);
    w->call->on_gone = NULL;
    live_over(TAKE(w->live));
}

/* No data: 204 at the place where it stands. */
static void waiter_nothing(struct waiter *w, bool closed)
{
    struct call     *call = w->call;
    struct ds_offset at = { w->place.generation, w->place.after };
    waiter_over(w);
    put_chunk_head(call, &w->source, at, at, true, closed, false);
    call->content_type = NULL;
    put_number(call, "Stream-Cursor", w->place.cursor);
    source_done(&w->source);
    call_send(call, 204);
}

static void waiter_fail(struct waiter *w, enum err err, const char *why)
{
    struct call *call = w->call;
    waiter_over(w);
    source_done(&w->source);
    ds_fail(call, NULL, err, "", "%s", why);
}

static void waiter_data(struct waiter *w, const struct follow_answer *answer)
{
    struct call     *call = w->call;
    struct ds_offset from = { w->place.generation, w->place.after }, to = { w->place.generation, answer->seq };
    waiter_over(w);
    buf_span(&call->out, answer->bytes);
    put_chunk_head(call, &w->source, from, to, answer->at_head, answer->closed, true);
    put_number(call, "Stream-Cursor", w->place.cursor);
    source_done(&w->source);
    call_send(call, 200);
}

static void waiter_answer(void *sink, const struct follow_answer *answer)
{
    struct waiter *w = sink;
    if (answer->bytes.p)
        waiter_data(w, answer);
    else if (answer->end == FOLLOW_DELETED)
        waiter_fail(w, ERR_NOT_FOUND, "the stream was deleted");
    else if (answer->end == FOLLOW_STORAGE)
        waiter_fail(w, ERR_STORAGE, "the store cannot be read");
    else
        waiter_nothing(w, answer->closed);
}

static void waiter_end(void *sink)
{
    waiter_nothing(sink, false);
}

static void waiter_abort(void *sink)
{
    waiter_fail(sink, ERR_STORAGE, "the stream cannot be followed");
}

static void waiter_late(struct loop_timer *timer)
{
    struct waiter *w = CONTAINER(timer, struct call, timer)->user;
    follower_gone(w->follower);
    waiter_nothing(w, false);
}

static void waiter_gone(struct call *call)
{
    struct waiter *w = call->user;
    follower_gone(w->follower);
    waiter_over(w);
    source_done(&w->source);
    call_free(call);
}

static const struct sink_ops waiter_ops = { .end = waiter_end, .abort = waiter_abort, .answer = waiter_answer };

void live_wait(struct call *call, struct source *source, const struct place *place)
{
    struct loop              *loop = engine_loop(call->api->engine);
    const struct wire_format *format = source->ref ? &wait_run : source->json ? &wait_json : &wait_bytes;
    struct waiter            *w = ARENA_NEW(&call->arena, struct waiter);
    if (engine_draining(call->api->engine)) {
        source_done(source);
        ds_fail(call, NULL, ERR_DRAINING, "", "the server is shutting down");
        return;
    }
    w->call = call;
    w->source = *source;
    w->place = *place;
    *source = (struct source){ 0 };
    struct parked_run *parked = run_park(call, &w->source);
    w->live = live_begin(w->source.fs, parked);
    call->user = w;
    call->on_gone = waiter_gone;
    loop_timer_init(&call->timer, loop, waiter_late);
    loop_timer_set(&call->timer, loop_now_us(loop) + call->api->config.long_poll_ms * 1000ull);
    w->follower = follower_new(parked ? parked_stream(parked) : w->source.stream, format, TAKE(w->source.ref), place->after,
                               call->cred->row.expires_ms);
    follower_start(w->follower, &waiter_ops, w);
}
