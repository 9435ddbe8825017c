/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - the ledger of an attempt, polled and streamed (agent-runs.md 5). */
#include "api/agent_runs/routes.h"
#include "api/sink.h"

enum { POLL_DEFAULT = 100, POLL_MAX = 1000 };

/* ^[0-9]{1,16}$ — never guess a position: guessing means loss or duplicates. */
static bool parse_cursor(struct span text, uint64_t *ret)
{
    uint64_t n = 0;
    if (text.n < 1 || text.n > 16)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text.p[i] - '0');
    }
    *ret = n;
    return true;
}

/* attemptId and afterSeq of both endpoints. False: the answer was given. */
static bool read_place(struct call *call, struct uuid *ret_run, struct uuid *ret_attempt, uint64_t *ret_after)
{
    struct span attempt = call_query(call, "attemptId"), after = call_query(call, "afterSeq");
    *ret_after = 0;
    if (!attempt.p)
        issue_add_parameter(&call->issues, "attemptId", "required", "is required: there is no default attempt");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return false;
    if (after.p && !parse_cursor(after, ret_after)) {
        call_fail(call, ERR_INVALID_CURSOR, "afterSeq", "must be an integer from 0 on");
        return false;
    }
    if (!call_path_uuid(call, 0, ret_run)) {
        call_fail(call, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
        return false;
    }
    if (!uuid_parse(attempt, ret_attempt))
        memset(ret_attempt, 0xff, sizeof *ret_attempt); /* not an id: the run has no such attempt */
    return true;
}

/* ---- polling ---- */

struct poll {
    struct call       *call;
    struct attempt_ref ref;
    uint64_t           after, last;
    int64_t            limit, shown;
    bool               closed; /* the last event shown is the terminal one */
};

static bool poll_frame(void *user, const struct frame *frame)
{
    struct poll        *poll = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (poll->shown < poll->limit && frame_next(&reader, &record)) {
        if (record.seq <= poll->after)
            continue;
        if (poll->shown++)
            BUF_LIT(&poll->call->out, ",");
        render_event(&poll->ref, &record, &poll->call->out);
        poll->last = record.seq;
        poll->closed = record.flags & REC_TERMINAL;
    }
    return poll->shown < poll->limit;
}

static int64_t poll_limit(struct call *call)
{
    struct span text = call_query(call, "limit");
    int64_t     limit = POLL_DEFAULT;
    if (text.p && (!call_parse_count(text, &limit) || limit < 1))
        issue_add_parameter(&call->issues, "limit", "range", "must be an integer from 1 on");
    return limit > POLL_MAX ? POLL_MAX : limit;
}

/* Is the ledger closed? What was shown tells when it reaches the head; else the last event does. */
static bool ledger_closed(struct call *call, uint64_t stream, const struct poll *poll, uint64_t latest)
{
    struct stream_place place;
    if (poll->shown && poll->last == latest)
        return poll->closed;
    return !stream_place_read(call->reader, stream, &place) && place.closed;
}

void events_poll(struct call *call)
{
    struct run_row      row = { .workspace = call->workspace };
    struct uuid         attempt;
    struct attempt_find found;
    struct error        error = { 0 };
    struct poll         poll = { .call = call, .limit = poll_limit(call) };
    uint64_t            latest = 0;
    struct frame        last;
    if (!read_place(call, &row.id, &attempt, &poll.after))
        return;
    if (attempt_read(call->reader, &row, attempt, &found, &error)) {
        call_error(call, &error);
        return;
    }
    poll.ref = attempt_ref_make(row.id, attempt, row.root_operation, row.parent_operation);
    poll.last = poll.after;
    BUF_LIT(&call->out, "{\"events\":[");
    enum err e = reader_head(call->reader, found.stream, &latest, &last);
    if (!e && latest > poll.after)
        e = reader_frames(call->reader, found.stream, poll.after, SIZE_MAX, poll_frame, &poll);
    if (e) {
        call_fail(call, ERR_STORAGE, "", "the ledger cannot be read");
        return;
    }
    buf_printf(&call->out, "],\"latest_seq\":%llu,\"next_after_seq\":%llu,\"has_more\":%s,\"attempt_closed\":%s}",
               (unsigned long long)latest, (unsigned long long)poll.last, poll.last < latest ? "true" : "false",
               ledger_closed(call, found.stream, &poll, latest) ? "true" : "false");
    call_send(call, 200);
}

/* ---- streaming ---- */

/* The cursor rule (5.3): Last-Event-ID wins when it is present, even when it is 0. */
static bool read_cursor(struct call *call, uint64_t *cursor)
{
    struct span last;
    if (http_header_count(call->req, "Last-Event-ID") > 1) {
        call_fail(call, ERR_INVALID_HEADER, "Last-Event-ID", "is given more than once");
        return false;
    }
    if (!http_header(call->req, "Last-Event-ID", &last) || !last.n)
        return true;
    if (parse_cursor(last, cursor))
        return true;
    call_fail(call, ERR_INVALID_CURSOR, "Last-Event-ID", "must be an integer from 0 on");
    return false;
}

static bool accepts_sse(struct call *call)
{
    struct span accept;
    if (!http_header(call->req, "Accept", &accept) || !accept.n || memmem(accept.p, accept.n, "text/event-stream", 17) ||
        memmem(accept.p, accept.n, "*/*", 3) || memmem(accept.p, accept.n, "text/*", 6))
        return true;
    call_fail(call, ERR_NOT_ACCEPTABLE, "Accept", "this is a stream of text/event-stream");
    return false;
}

static void begin_stream(struct call *call, const struct attempt_place *place, uint64_t cursor)
{
    struct attempt_ref *ref = mem_alloc(sizeof *ref);
    *ref = attempt_ref_make(place->run, place->attempt, place->root_operation, place->parent_operation);
    struct follower *follower = follower_new(place->stream, &agent_runs_sse, ref, cursor, call->cred->row.expires_ms);
    BUF_LIT(&call->headers, "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache, no-transform\r\n"
                            "X-Accel-Buffering: no\r\n");
    if (call->api->config.cors_origin)
        buf_printf(&call->headers, "Access-Control-Allow-Origin: %s\r\n", call->api->config.cors_origin);
    sink_begin(call, follower, NULL, NULL);
}

void events_stream(struct call *call)
{
    struct uuid          run, attempt;
    uint64_t             cursor;
    struct attempt_place place;
    struct error         error = { 0 };
    if (!read_place(call, &run, &attempt, &cursor) || !read_cursor(call, &cursor) || !accepts_sse(call) || !sink_allowed(call))
        return;
    if (attempt_open(call->api->engine, call->workspace, run, attempt, &place, &error)) {
        call_error(call, &error);
        return;
    }
    begin_stream(call, &place, cursor);
    stream_unref(place.stream);
}
