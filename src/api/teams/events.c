/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - the event stream of a team's run, live: the contract's events and nothing else (teams.md 3, 11.1).
 *
 * What an event says depends on what came before it (a chunk repeats its turn's prompt and all of its text), so each follower
 * has a fold of its own that begins with the attempt's first record. A reader that comes back names the last record it has seen
 * (Last-Event-ID, afterSeq); what lies before is folded and not sent. */
#include "api/sink.h"
#include "api/teams/routes.h"
#include <stdio.h>
#include <stdlib.h>

struct team_stream {
    struct team_fold *fold;
    struct buf       *out;   /* of the record that is being rendered */
    uint64_t          seq, after;
    bool              lines; /* NDJSON, not SSE */
    struct buf        before; /* events of the attempts that this one goes on from */
};

static void put_event(void *user, const struct team_event *event)
{
    struct team_stream *ts = user;
    if ((ts->seq && ts->seq <= ts->after) || (ts->out == &ts->before && strcmp(event->type, "error") == 0))
        return; /* known, or the end of an attempt that was not the last */
    if (ts->lines) {
        buf_printf(ts->out, "%zx\r\n", event->json.n + 1);
        buf_span(ts->out, event->json);
        BUF_LIT(ts->out, "\n\r\n");
        return;
    }
    struct span head = span_of("event: team_event\ndata: ");
    char        id[32];
    int         digits = snprintf(id, sizeof id, "id: %llu\n", (unsigned long long)ts->seq);
    buf_printf(ts->out, "%zx\r\n", (size_t)digits + head.n + event->json.n + 2);
    buf_put(ts->out, id, (size_t)digits);
    buf_span(ts->out, head);
    buf_span(ts->out, event->json);
    BUF_LIT(ts->out, "\n\n\r\n");
}

/* On the reader thread; the ctx is this follower's own (wire_format.remembers). */
static void stream_event(const void *ctx, const struct record *record, struct buf *out)
{
    struct team_stream *ts = (struct team_stream *)(uintptr_t)ctx;
    if (record->seq <= ts->seq)
        return;
    if (ts->before.len) {
        buf_span(out, buf_view(&ts->before));
        buf_done(&ts->before);
    }
    ts->seq = record->seq;
    ts->out = out;
    team_fold_take(ts->fold, record);
}

static void put_chunk(struct buf *out, struct span bytes)
{
    buf_printf(out, "%zx\r\n", bytes.n);
    buf_span(out, bytes);
    BUF_LIT(out, "\r\n");
}

static void sse_heartbeat(const void *ctx, uint64_t latest_seq, int64_t now_ms, struct buf *out)
{
    (void)ctx, (void)now_ms;
    char text[96];
    int  n = snprintf(text, sizeof text, "event: heartbeat\ndata: {\"latest_seq\":%llu}\n\n", (unsigned long long)latest_seq);
    put_chunk(out, span_make(text, (size_t)n));
}

static void lines_heartbeat(const void *ctx, uint64_t latest_seq, int64_t now_ms, struct buf *out)
{
    (void)ctx, (void)latest_seq, (void)now_ms;
    put_chunk(out, SPAN("\n"));
}

static void sse_farewell(const void *ctx, enum follow_end end, enum record_type last, uint64_t latest_seq, int64_t now_ms,
                         struct buf *out)
{
    (void)ctx, (void)now_ms;
    if (end != FOLLOW_DONE)
        return; /* a plain end: the client comes back */
    const char *reason = last == REC_RUN_CANCELLED ? "cancelled" : last == REC_RUN_FAILED ? "failed" : "completed";
    char        text[128];
    int n = snprintf(text, sizeof text, "event: close\ndata: {\"status\":\"%s\",\"latest_seq\":%llu}\n\n", reason,
                     (unsigned long long)latest_seq);
    put_chunk(out, span_make(text, (size_t)n));
}

static void stream_free(void *ctx)
{
    struct team_stream *ts = ctx;
    team_fold_free(ts->fold);
    buf_done(&ts->before);
    free(ts);
}

static const struct wire_format team_sse = { .name = "team-sse", .event = stream_event, .heartbeat = sse_heartbeat,
                                             .farewell = sse_farewell, .ctx_free = stream_free, .remembers = true };
/* A clean end reads as the end of the run: whoever must come back is cut off. */
static const struct wire_format team_lines = { .name = "team-lines", .event = stream_event, .heartbeat = lines_heartbeat,
                                               .ctx_free = stream_free, .remembers = true, .reset_on_fault = true };

/* ---- the request ---- */

static bool wants_lines(struct call *call)
{
    struct span accept;
    return http_header(call->req, "Accept", &accept) &&
           (memmem(accept.p, accept.n, "ndjson", 6) || memmem(accept.p, accept.n, "jsonl", 5));
}

static bool read_after(struct call *call, uint64_t *ret)
{
    struct span text = call_query(call, "afterSeq"), last;
    int64_t     after = 0;
    if (http_header(call->req, "Last-Event-ID", &last) && last.n)
        text = last;
    if (text.p && (!call_parse_count(text, &after) || after < 0))
        issue_add_parameter(&call->issues, "afterSeq", "range", "must be an integer from 0 on");
    *ret = (uint64_t)after;
    return !call_invalid(call, ERR_INVALID_PARAMETER);
}

/* From the engine thread's own reader: the rows of a run and its plan are in one place each. */
static enum err find_team(struct call *call, struct span node, struct run_row *row, struct team_place *ret, struct error *error)
{
    struct reader *reader = engine_reader(call->api->engine);
    enum err       e = run_row_get(call->api->engine, call->workspace, row->id, &call->arena, row);
    if (e)
        return error_set(error, e == ERR_RUN_NOT_FOUND ? e : ERR_STORAGE, "", "no such run in this workspace");
    if (reader_begin(reader, &call->arena))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    e = team_place_read(reader, row, node, &call->arena, ret, error);
    reader_end(reader);
    return e;
}

/* What is needed from the request to the stream. */
struct opening {
    struct team_stream  *ts;
    struct run_row       row;
    struct attempt_place place;
};

static void begin(struct call *call, struct opening *opening)
{
    struct team_stream       *ts = opening->ts;
    const struct wire_format *format = ts->lines ? &team_lines : &team_sse;
    struct follower *follower = follower_new(opening->place.stream, format, ts, 0, call->cred->row.expires_ms);
    buf_printf(&call->headers, "Content-Type: %s\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n",
               ts->lines ? "application/x-ndjson" : "text/event-stream; charset=utf-8");
    if (call->api->config.cors_origin)
        buf_printf(&call->headers, "Access-Control-Allow-Origin: %s\r\n", call->api->config.cors_origin);
    stream_unref(opening->place.stream); /* the follower holds it */
    sink_begin(call, follower, NULL, NULL);
}

static void forget(struct opening *opening)
{
    stream_unref(opening->place.stream);
    stream_free(opening->ts);
}

/* On the reader thread: what the attempts before this one told. */
static void read_before(struct read_job *job, struct reader *reader)
{
    struct call    *call = CONTAINER(job, struct call, job);
    struct opening *opening = call->user;
    call->status = 500;
    if (reader_begin(reader, &call->arena))
        return;
    opening->ts->out = &opening->ts->before;
    if (!team_lineage_feed(reader, &opening->row, false, &call->arena, opening->ts->fold))
        call->status = 200;
    if (opening->ts->after)
        opening->ts->before.len = 0; /* the reader was further already */
    reader_end(reader);
}

static void before_read(struct read_job *job)
{
    struct call    *call = CONTAINER(job, struct call, job);
    struct opening *opening = TAKE(call->user);
    if (call->status == 200 && call->req)
        begin(call, opening);
    else {
        forget(opening);
        call_fail(call, ERR_STORAGE, "", "the ledger cannot be read");
    }
    free(opening);
}

/* The current attempt, or the one that is asked for. */
static bool open_stream(struct call *call, struct opening *opening, struct team_place *ret_team)
{
    struct uuid  attempt = { 0 };
    struct error error = { 0 };
    struct span  node = call_query(call, "node"), id = call_query(call, "attemptId");
    if (!read_after(call, &opening->ts->after) || !sink_allowed(call))
        return false;
    if (!call_path_uuid(call, 0, &opening->row.id)) {
        call_fail(call, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
        return false;
    }
    if (id.p && !uuid_parse(id, &attempt)) {
        call_fail(call, ERR_ATTEMPT_NOT_FOUND, "attemptId", "the run has no such attempt");
        return false;
    }
    enum err e = find_team(call, node, &opening->row, ret_team, &error);
    if (!e)
        e = attempt_open(call->api->engine, call->workspace, opening->row.id, id.p ? attempt : opening->row.attempt, &opening->place,
                         &error);
    if (e)
        call_error(call, &error);
    return !e;
}

void team_events(struct call *call)
{
    struct opening   *opening = mem_alloc(sizeof *opening);
    struct team_place team;
    opening->ts = mem_alloc(sizeof *opening->ts);
    opening->ts->lines = wants_lines(call);
    if (!open_stream(call, opening, &team)) {
        stream_free(opening->ts);
        free(opening);
        return;
    }
    opening->ts->fold = team_fold_new(opening->row.id, &team, put_event, opening->ts);
    if (opening->row.attempt_no > 1 && opening->place.attempt_no == (uint32_t)opening->row.attempt_no) {
        call->user = opening;
        call->job.run = read_before;
        call->job.done = before_read;
        store_read(engine_store(call->api->engine), &call->job);
        return;
    }
    begin(call, opening);
    free(opening);
}
