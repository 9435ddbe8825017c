/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - the event log of a run, stored and live (workflow-runs.md 4). */
#include "api/sink.h"
#include "api/workflow_runs/routes.h"
#include <stdlib.h>

enum { LIMIT_MAX = 10000 };

struct asked {
    uint64_t after;
    int64_t  limit; /* 0: none */
    bool     wait, sse, outputs, subnodes;
};

static bool read_flag(struct call *call, const char *name, bool def)
{
    struct span text = call_query(call, name);
    if (!text.p || span_is(text, def ? "true" : "false") || span_is(text, def ? "1" : "0"))
        return def;
    if (!span_is(text, def ? "false" : "true") && !span_is(text, def ? "0" : "1"))
        issue_add_parameter(&call->issues, name, "enum", "must be true or false");
    return !def;
}

static bool read_asked(struct call *call, struct asked *ret)
{
    struct span after = call_query(call, "after_seq"), limit = call_query(call, "limit"), accept;
    int64_t     n = 0;
    *ret = (struct asked){ .wait = read_flag(call, "wait", true) };
    ret->outputs = read_flag(call, "include_output", false); /* no published client can read what it adds */
    ret->subnodes = read_flag(call, "subnodes", false);
    if (after.p && !call_parse_count(after, &n))
        issue_add_parameter(&call->issues, "after_seq", "range", "must be an integer from 0 on");
    ret->after = (uint64_t)n;
    if (limit.p && (!call_parse_count(limit, &ret->limit) || ret->limit < 1 || ret->limit > LIMIT_MAX))
        issue_add_parameter(&call->issues, "limit", "range", "must be an integer from 1 to %d", LIMIT_MAX);
    ret->sse = http_header(call->req, "Accept", &accept) && accept.n >= 17 && memcmp(accept.p, "text/event-stream", 17) == 0;
    if (ret->subnodes && !ret->sse) /* they would end every client's stream of lines (3.5) */
        issue_add_parameter(&call->issues, "subnodes", "unsupported", "is for text/event-stream only");
    return !call_invalid(call, ERR_INVALID_PARAMETER);
}

/* ---- what is stored ---- */

/* The reading of one request: on the reader thread, then back. */
struct reading {
    struct call    *call;
    struct read_job job;
    struct run_row  row;
    struct flow_ref ref;
    struct asked    asked;
    uint64_t        seq;      /* of the current attempt's last record that is dealt with */
    int64_t         left;     /* of the limit; -1: there is none */
    bool            whole;    /* write what is stored; else only what the follower cannot begin with */
    bool            ended;    /* the event that ends the run was written or lies before */
    struct buf      out;
    enum err        err;
};

static void stored_line(void *user, uint64_t seq, const char *type, struct span json)
{
    struct reading *r = user;
    if (r->left == 0)
        return;
    r->left -= r->left > 0;
    if (r->asked.sse)
        buf_printf(&r->out, "event: %s\nid: %llu\ndata: ", type, (unsigned long long)seq);
    buf_span(&r->out, json);
    if (r->asked.sse)
        BUF_LIT(&r->out, "\n\n");
    else
        BUF_LIT(&r->out, "\n");
}

static bool stored_frame(void *user, const struct frame *frame)
{
    struct reading     *r = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    reader.wf = frame->wf_before;
    while (r->left && frame_next(&reader, &record)) {
        uint64_t first = r->ref.base + record.wf;
        if (record.seq <= r->seq)
            continue;
        if (!r->whole && first >= r->asked.after && (record_wf(record.flags) || r->asked.subnodes))
            return false; /* the follower begins here */
        flow_events(&r->ref, &record, r->asked.after, stored_line, r);
        r->seq = record.seq;
        r->ended = record.flags & REC_TERMINAL && record_wf(record.flags);
    }
    return r->left != 0;
}

static struct flow_ref ref_of(const struct reading *r, struct uuid attempt)
{
    struct flow_ref ref = flow_ref_make(&r->row, attempt, r->ref.base);
    ref.outputs = r->asked.outputs;
    ref.subnodes = r->asked.subnodes;
    return ref;
}

/* Older attempts from the event behind `after` on; the current one's numbers go on behind them. */
static enum err read_older(struct reader *reader, struct reading *r)
{
    enum err e = ERR_OK;
    bool     whole = r->whole;
    r->whole = true;
    for (int64_t no = 1; no < r->row.attempt_no && !e; no++) {
        struct attempt_row  old = { .run = r->row.id, .no = no };
        struct stream_place place;
        e = reader_get(reader, TABLE_attempt, &old);
        if (e == ERR_NOT_FOUND) {
            e = ERR_OK;
            continue;
        }
        r->ref = ref_of(r, old.id);
        r->seq = 0;
        if (!e)
            e = reader_frames(reader, (uint64_t)old.stream, 0, SIZE_MAX, stored_frame, r);
        if (!e)
            e = stream_place_read(reader, (uint64_t)old.stream, &place);
        if (!e)
            r->ref.base += place.wf_total;
    }
    r->ref = ref_of(r, r->row.attempt);
    r->seq = 0;
    r->ended = false;
    r->whole = whole;
    return e;
}

static enum err read_current(struct reader *reader, struct reading *r)
{
    uint64_t stream = (uint64_t)r->row.stream, first = 0;
    uint64_t after = r->asked.after > r->ref.base ? r->asked.after - r->ref.base : 0;
    enum err e = after ? reader_frame_by_wf(reader, stream, after, &first) : ERR_NOT_FOUND;
    if (e && e != ERR_NOT_FOUND)
        return e;
    r->seq = first ? first - 1 : 0;
    return reader_frames(reader, stream, r->seq, SIZE_MAX, stored_frame, r);
}

static void read_run(struct read_job *job, struct reader *reader)
{
    struct reading *r = CONTAINER(job, struct reading, job);
    struct arena    arena = { 0 };
    r->err = reader_begin(reader, &arena);
    if (!r->err) {
        r->err = read_older(reader, r);
        if (!r->err && r->left)
            r->err = read_current(reader, r);
        reader_end(reader);
    }
    arena_done(&arena);
}

/* ---- answers ---- */

static void answer_stored(struct call *call, struct reading *r)
{
    call->content_type = r->asked.sse ? "text/event-stream; charset=utf-8" : "application/x-ndjson; charset=utf-8";
    call->type_always = true;
    call->out = r->out;
    r->out = (struct buf){ 0 };
    call_send(call, 200);
}

static void put_headers(struct call *call, bool sse)
{
    call_header(call, "Content-Type: %s; charset=utf-8", sse ? "text/event-stream" : "application/x-ndjson");
    call_header(call, "Cache-Control: no-cache, no-transform");
    call_header(call, "X-Accel-Buffering: no");
    call_header(call, "X-ModelRelay-Request-Id: %s", call->request_id);
    if (call->api->config.cors_origin)
        call_header(call, "Access-Control-Allow-Origin: %s", call->api->config.cors_origin);
}

/* What was read goes out first; the follower goes on behind it. */
static void follow(struct call *call, struct reading *r)
{
    struct attempt_place place;
    struct error         error = { 0 };
    if (attempt_open(call->api->engine, call->workspace, r->row.id, r->row.attempt, &place, &error)) {
        call_error(call, &error);
        return;
    }
    struct flow_ref *ref = mem_alloc(sizeof *ref);
    *ref = r->ref;
    const struct wire_format *format = workflow_format(r->asked.sse, r->asked.outputs, r->asked.subnodes);
    struct follower          *follower = follower_new(place.stream, format, ref, r->seq, call->cred->row.expires_ms);
    stream_unref(place.stream);
    put_headers(call, r->asked.sse);
    struct buf first = { 0 };
    if (r->out.len)
        http_chunk(&first, buf_view(&r->out));
    sink_begin_behind(call, follower, first, r->left);
}

static void read_done(struct read_job *job)
{
    struct reading *r = CONTAINER(job, struct reading, job);
    struct call    *call = r->call;
    if (!call->req)
        call_free(call);
    else if (r->err)
        call_fail(call, ERR_STORAGE, "", "the ledger cannot be read");
    else if (!r->asked.wait || r->ended || !r->left)
        answer_stored(call, r);
    else
        follow(call, r);
    buf_done(&r->out);
    free(r);
}

void flow_run_events(struct call *call)
{
    struct asked   asked;
    struct run_row row;
    if (!read_asked(call, &asked) || !flow_run_read(call, &row) || (asked.wait && !sink_allowed(call)))
        return;
    struct reading *r = mem_alloc(sizeof *r);
    *r = (struct reading){ .call = call, .row = row, .asked = asked, .left = asked.limit ? asked.limit : -1,
                           .whole = !asked.wait || asked.limit, .job = { .run = read_run, .done = read_done } };
    store_read(engine_store(call->api->engine), &r->job);
}
