/* SPDX-License-Identifier: Apache-2.0 */
/* follow.c - the follower: a cursor, a stream reader, and the rule when to try again. */
#include "cli/follow.h"
#include "base/env.h"
#include "net/sse_parse.h"
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>

enum {
    EVENT_MAX = 2 << 20,     /* payloads are at most 256 KiB, escaped at worst six times as long */
    SILENCE_MS = 45000,      /* three of the longest heartbeat periods */
    PATIENCE_MS = 300000,
    DELAY_MAX_MS = 30000,
    QUICK_TRIES = 30,        /* refused connections that are tried again within a second */
};

/* One connection's work. */
struct reader {
    struct follow    *follow;
    struct sse_parser sse;
    enum follow_end   end;
    bool              ended;     /* `end` is valid: nothing more is wanted */
    bool              broken;    /* what came makes no sense or leaves a gap: connect anew */
    const char       *why;
    bool              retrying;  /* a note was given that the connection is gone */
};

bool follow_is_terminal(struct jv event)
{
    static const char *const names[] = { "RUN_FINISHED", "RUN_FAILED", "RUN_CANCELLED" };
    struct arena             arena = { 0 };
    struct span              type = jv_string(jv_get(event, "type"), &arena);
    bool                     found = false;
    for (size_t i = 0; i < ARRAY_LEN(names) && !found; i++)
        found = type.n == strlen(names[i]) && strncasecmp(type.p, names[i], type.n) == 0;
    arena_done(&arena);
    return found;
}

uint32_t follow_delay_ms(unsigned tries, bool refused, uint32_t jitter)
{
    static const uint16_t quick[] = { 200, 400, 800, 1000 };
    assert(tries > 0);
    if (refused && tries <= QUICK_TRIES)
        return quick[tries <= ARRAY_LEN(quick) ? tries - 1 : ARRAY_LEN(quick) - 1];
    unsigned power = (refused ? tries - QUICK_TRIES : tries) - 1;
    uint32_t delay = power >= 5 ? DELAY_MAX_MS : UINT32_C(1000) << power;
    return delay + jitter % (delay / 5 + 1);
}

/* ---- what arrives ---- */

static bool reader_break(struct reader *r, const char *why)
{
    r->broken = true;
    r->why = why;
    return false;
}

static bool reader_end(struct reader *r, enum follow_end end)
{
    r->ended = true;
    r->end = end;
    return false;
}

/* Inside a connection seqs rise by one (R1). A closed attempt sends its terminal event again to whoever asks beyond
 * it (R4): that ends the stream although its seq was already seen or skipped. */
static bool take_event(struct reader *r, struct span text, struct jv event)
{
    struct follow *f = r->follow;
    int64_t        seq = 0;
    bool           terminal = follow_is_terminal(event);
    uint64_t       want = f->next_seq ? f->next_seq : 1;
    if (!jv_i64(jv_get(event, "seq"), &seq) || seq < 1)
        return reader_break(r, "an event without a seq");
    if ((uint64_t)seq > want)
        return reader_break(r, "an event is missing");
    if ((uint64_t)seq < want && !terminal)
        return true;
    if ((uint64_t)seq == want)
        f->next_seq = want + 1;
    bool more = f->on_event(f->user, text, event);
    if (terminal)
        return reader_end(r, FOLLOW_TERMINAL);
    return more || reader_end(r, FOLLOW_STOPPED);
}

/* Heartbeats only show that the connection lives; `close` changes nothing after the terminal event; unknown types
 * may come. */
static bool on_sse(void *user, const struct sse_event *event)
{
    static const struct json_limits limits = { .depth = 80, .lone_surrogates = true };
    struct reader                  *r = user;
    if (span_is(event->type, "error"))
        return reader_break(r, "the server ends the stream");
    if (!span_is(event->type, "run_event"))
        return true;
    struct arena arena = { 0 };
    struct json  doc;
    bool more = json_parse(event->data, &limits, &arena, &doc, NULL) ? reader_break(r, "an event that is no JSON")
                                                                     : take_event(r, event->data, json_root(&doc));
    arena_done(&arena);
    return more;
}

static bool on_data(void *user, struct span data)
{
    struct reader *r = user;
    if (sse_feed(&r->sse, data, on_sse, r))
        return reader_break(r, "an event that is too large");
    return !r->ended && !r->broken;
}

static bool on_open(void *user)
{
    struct reader *r = user;
    if (r->retrying)
        r->follow->on_note(r->follow->user, FOLLOW_CONNECTED, "", 0);
    r->retrying = false;
    return true;
}

static void on_tick(void *user)
{
    struct reader *r = user;
    r->follow->on_tick(r->follow->user);
}

/* ---- one connection ---- */

static enum web_end connect_once(struct web *web, struct reader *r, struct web_stream *stream)
{
    struct follow *f = r->follow;
    struct arena   arena = { 0 };
    char           after[24], last[24];
    snprintf(after, sizeof after, "%" PRIu64, f->next_seq);
    snprintf(last, sizeof last, "%" PRIu64, f->next_seq ? f->next_seq - 1 : 0);
    const char *path =
        path_make(&arena, "/v1/api/runs/%s/events/stream?attemptId=%s&afterSeq=%s", f->run_id, f->attempt_id, after);
    *stream = (struct web_stream){ .path = path,
                                   .accept = "text/event-stream",
                                   .last_event_id = f->next_seq ? last : NULL,
                                   .idle_ms = SILENCE_MS,
                                   .tick_ms = f->tick_ms,
                                   .deadline_us = f->deadline_us,
                                   .wake_fd = f->wake_fd,
                                   .on_open = on_open,
                                   .on_data = on_data,
                                   .on_tick = on_tick,
                                   .user = r };
    r->broken = false;
    sse_init(&r->sse, EVENT_MAX);
    enum web_end end = web_follow(web, stream);
    sse_done(&r->sse);
    arena_done(&arena);
    return end;
}

/* Waiting changes nothing about these; everything else may be a server that is just starting, draining or
 * overloaded. */
static bool is_final_status(int status)
{
    return status >= 400 && status < 500 && status != 408 && status != 425 && status != 429;
}

/* Is this how the story ends? */
static bool is_end(struct reader *r, enum web_end end, const struct web_stream *stream, enum follow_end *ret)
{
    if (r->ended)
        *ret = r->end;
    else if (end == WEB_WOKEN)
        *ret = FOLLOW_SIGNAL;
    else if (end == WEB_DEADLINE)
        *ret = FOLLOW_DEADLINE;
    else if (end == WEB_STATUS && (stream->status == 401 || stream->status == 403))
        *ret = FOLLOW_AUTH;
    else if (end == WEB_STATUS && is_final_status(stream->status))
        *ret = FOLLOW_REFUSED;
    else
        return false;
    r->follow->error = stream->error;
    return true;
}

static const char *reason(const struct reader *r, enum web_end end, const struct web_stream *stream)
{
    if (r->broken)
        return r->why;
    if (end == WEB_EOF)
        return "the stream ended";
    if (end == WEB_IDLE)
        return "the server went silent";
    return stream->error.message;
}

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

/* Waits, ticking, unless a signal or the deadline comes first. */
static bool pause_ms(struct follow *f, uint32_t ms, enum follow_end *ret)
{
    uint64_t until = now_us() + (uint64_t)ms * 1000;
    for (;;) {
        uint64_t now = now_us();
        if (f->deadline_us && now >= f->deadline_us)
            return *ret = FOLLOW_DEADLINE, false;
        if (now >= until)
            return true;
        uint64_t      end = f->deadline_us && f->deadline_us < until ? f->deadline_us : until;
        int           left = (int)((end - now) / 1000) + 1;
        struct pollfd wake = { .fd = f->wake_fd, .events = POLLIN };
        if (poll(&wake, 1, f->tick_ms && (int)f->tick_ms < left ? (int)f->tick_ms : left) > 0)
            return *ret = FOLLOW_SIGNAL, false;
        if (f->tick_ms)
            f->on_tick(f->user);
    }
}

static uint32_t random_u32(void)
{
    uint32_t v;
    env_real()->random(env_real(), &v, sizeof v);
    return v;
}

enum follow_end follow_attempt(struct web *web, struct follow *follow)
{
    struct reader     r = { .follow = follow };
    struct web_stream stream;
    enum follow_end   end;
    unsigned          tries = 0;
    uint64_t          contact = now_us();
    uint64_t          patience = (uint64_t)(follow->patience_ms ? follow->patience_ms : PATIENCE_MS) * 1000;
    for (;;) {
        uint64_t     before = follow->next_seq;
        enum web_end web_end = connect_once(web, &r, &stream);
        if (is_end(&r, web_end, &stream, &end))
            return end;
        /* A connection counts as contact when it brought something or was simply ended; one that breaks at the same
         * gap each time does not, or this would go on for ever. */
        if (stream.status == 200 && (!r.broken || follow->next_seq > before)) {
            tries = 0;
            contact = now_us();
        }
        const char *why = reason(&r, web_end, &stream);
        if (now_us() - contact > patience) {
            error_set(&follow->error, ERR_IO, "", "%s", why);
            return FOLLOW_LOST;
        }
        uint32_t delay = follow_delay_ms(++tries, web_end == WEB_REFUSED, random_u32());
        r.retrying = true;
        follow->on_note(follow->user, FOLLOW_CUT, why, delay);
        if (!pause_ms(follow, delay, &end))
            return end;
    }
}
