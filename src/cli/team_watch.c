/* SPDX-License-Identifier: Apache-2.0 */
/* team_watch.c - see team_watch.h. The id of an SSE event names the record it came from; who comes back names the last one. */
#include "cli/team_watch.h"
#include "base/env.h"
#include "cli/follow.h"
#include "net/sse_parse.h"
#include <poll.h>

enum { EVENT_MAX = 64 << 20, SILENCE_MS = 45000, PATIENCE_US = 300000000 };

struct reader {
    struct team_watch *watch;
    struct sse_parser  sse;
    char               id[24];  /* of the last event handed on */
    bool               over;
    enum team_end      end;
    const char        *broken;
};

static void take_event(struct reader *r, const struct sse_event *event, struct jv root)
{
    r->watch->on_event(r->watch->user, event->data, root);
    snprintf(r->id, sizeof r->id, "%.*s", (int)(event->id.n < 23 ? event->id.n : 23), event->id.p ? event->id.p : "");
    bool error = jv_str_eq(jv_get(root, "type"), "error");
    if (!error && !jv_str_eq(jv_get(root, "type"), "final"))
        return;
    r->over = true;
    r->end = !error ? TEAM_END_FINAL
             : jv_str_eq(jv_get(jv_get(root, "detail"), "code"), "aborted") ? TEAM_END_CANCELLED : TEAM_END_ERROR;
}

static bool on_sse(void *user, const struct sse_event *event)
{
    static const struct json_limits limits = { .depth = 160, .lone_surrogates = true };
    struct reader *r = user;
    struct json    doc;
    if (span_is(event->type, "close") && !r->over) { /* an end without an event of its own: the run had no team */
        r->over = true;
        r->end = TEAM_END_ERROR;
    }
    if (!span_is(event->type, "team_event"))
        return !r->over;
    CLEANUP(arena_done) struct arena arena = { 0 };
    if (json_parse(event->data, &limits, &arena, &doc, NULL))
        r->broken = "an event that is no JSON";
    else
        take_event(r, event, json_root(&doc));
    return !r->over && !r->broken;
}

static bool on_data(void *user, struct span data)
{
    struct reader *r = user;
    if (sse_feed(&r->sse, data, on_sse, r))
        r->broken = "an event that is too large";
    return !r->over && !r->broken;
}

static bool on_open(void *user)
{
    (void)user;
    return true;
}

static void on_tick(void *user)
{
    struct reader *r = user;
    r->watch->on_tick(r->watch->user);
}

static enum web_end connect_once(struct web *web, struct reader *r, struct web_stream *stream)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    r->broken = NULL;
    *stream = (struct web_stream){ .path = path_make(&arena, "/v1/api/runs/%s/team-events", r->watch->run_id),
                                   .accept = "text/event-stream",
                                   .last_event_id = r->id[0] ? r->id : NULL,
                                   .idle_ms = SILENCE_MS,
                                   .tick_ms = r->watch->tick_ms,
                                   .wake_fd = r->watch->wake_fd,
                                   .on_open = on_open,
                                   .on_data = on_data,
                                   .on_tick = on_tick,
                                   .user = r };
    sse_init(&r->sse, EVENT_MAX);
    enum web_end end = web_follow(web, stream);
    sse_done(&r->sse);
    return end;
}

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

enum team_end team_watch(struct web *web, struct team_watch *watch)
{
    struct reader     r = { .watch = watch };
    struct web_stream stream;
    uint64_t          contact = now_us();
    for (unsigned tries = 0;;) {
        enum web_end end = connect_once(web, &r, &stream);
        if (r.over)
            return r.end;
        if (end == WEB_WOKEN)
            return TEAM_END_SIGNAL;
        watch->error = stream.error;
        if (r.broken)
            error_set(&watch->error, ERR_IO, "", "%s", r.broken);
        if (end == WEB_STATUS && stream.status >= 400 && stream.status < 500 && stream.status != 408 && stream.status != 429)
            return TEAM_END_REFUSED;
        if (stream.status == 200 && !r.broken) {
            tries = 0;
            contact = now_us();
        }
        if (now_us() - contact > PATIENCE_US)
            return TEAM_END_LOST;
        struct pollfd wake = { .fd = watch->wake_fd, .events = POLLIN };
        if (poll(&wake, 1, (int)follow_delay_ms(++tries, end == WEB_REFUSED, 0)) > 0)
            return TEAM_END_SIGNAL;
    }
}
