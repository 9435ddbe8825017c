/* SPDX-License-Identifier: Apache-2.0 */
/* render.c - the agent-runs surface's shapes; see render.h. */
#include "api/agent_runs/render.h"
#include <stdlib.h>

/* ---- runs ---- */

enum { LIST_VALUE_MAX = 64 << 10 };

void render_value(struct jw *w, const char *name, struct span json, unsigned flags)
{
    jw_key(w, name);
    if (!(flags & RENDER_LIST) || json.n <= LIST_VALUE_MAX) {
        jw_raw(w, json);
        return;
    }
    jw_obj(w);
    jw_key(w, "truncated");
    jw_bool(w, true);
    jw_key(w, "bytes");
    jw_u64(w, json.n);
    jw_end(w);
}

static void put_id(struct jw *w, const char *name, struct uuid id)
{
    if (uuid_is_nil(id))
        return;
    jw_key(w, name);
    jw_uuid(w, &id);
}

static void put_time(struct jw *w, const char *name, int64_t ms)
{
    if (!ms)
        return;
    jw_key(w, name);
    jw_time(w, ms);
}

static void put_i64(struct jw *w, const char *name, int64_t v)
{
    jw_key(w, name);
    jw_i64(w, v);
}

static void render_outcome(struct jw *w, const struct run_row *row, unsigned flags)
{
    bool terminal = run_terminal((enum run_status)row->status);
    if (row->status == RUN_COMPLETED)
        render_value(w, "output", row->output.p ? row->output : SPAN("null"), flags);
    else if (row->error.p && row->status != RUN_CANCELLED) {
        jw_key(w, "error");
        jw_raw(w, row->error);
    }
    put_time(w, "started_at", row->started_ms);
    if (terminal)
        put_time(w, "completed_at", row->completed_ms);
    if (terminal && row->started_ms)
        put_i64(w, "duration_ms", row->completed_ms - row->started_ms);
    if (row->status == RUN_WAITING && row->mask & MASK_PERSON) {
        jw_key(w, "human_prompt");
        jw_str(w, row->prompt);
        put_id(w, "approval_id", row->wait);
    }
    if (row->checkpoint_seq)
        put_id(w, "checkpoint_id", checkpoint_id(row->attempt, (uint64_t)row->checkpoint_seq));
}

static void render_origin(struct jw *w, const struct run_row *row)
{
    struct uuid operation = operation_id(row->id, row->attempt, 0);
    put_id(w, "operation_id", operation);
    put_id(w, "root_operation_id", row->root_operation);
    jw_key(w, "source");
    jw_cstr(w, run_source_name((enum run_source)row->source));
    put_id(w, "parent_run_id", row->parent_run);
    put_id(w, "rerun_of_run_id", row->rerun_of);
    if (!uuid_is_nil(row->replayed_from)) {
        put_id(w, "replayed_from_run_id", row->replayed_from);
        put_id(w, "replayed_from_checkpoint_id", row->replayed_checkpoint);
        jw_key(w, "replay_mode");
        jw_cstr(w, row->replay_mode ? "strict" : "best_effort");
    }
    if (row->status == RUN_CANCELLED && row->cancel_reason.p) {
        jw_key(w, "cancel_reason");
        jw_str(w, row->cancel_reason);
    }
    put_i64(w, "waited_ms", row->waited_ms);
    put_time(w, "updated_at", row->updated_ms);
}

void render_run(struct jw *w, const struct run_row *row, unsigned flags)
{
    put_id(w, "run_id", row->id);
    jw_key(w, "status");
    jw_cstr(w, run_status_ar((enum run_status)row->status, (unsigned)row->mask));
    if (row->status == RUN_WAITING && !(row->mask & MASK_PERSON)) {
        jw_key(w, "waiting_on");
        jw_cstr(w, "tools");
    }
    put_id(w, "thread_id", row->thread);
    put_id(w, "agent_id", row->agent);
    put_id(w, "bundle_id", row->bundle);
    put_id(w, "agent_version_id", row->version);
    put_id(w, "tenant_id", row->tenant);
    put_id(w, "workspace_id", row->workspace);
    if (row->input.p)
        render_value(w, "input", row->input, flags);
    put_id(w, "current_attempt_id", row->attempt);
    put_i64(w, "current_attempt_no", row->attempt_no);
    put_i64(w, "latest_seq", row->last_seq);
    put_time(w, "created_at", row->created_ms);
    render_outcome(w, row, flags);
    render_origin(w, row);
}

void render_spend(struct jw *w, struct reader *reader, struct uuid workspace, enum spend_kind kind, struct uuid id)
{
    struct spend_row row;
    struct buf       text = { 0 };
    if (!spend_read(reader, workspace, kind, id, 0, &row))
        return;
    jw_key(w, "usage");
    jw_obj(w);
    put_i64(w, "input_tokens", row.tokens_in);
    put_i64(w, "output_tokens", row.tokens_out);
    put_i64(w, "model_calls", row.model_calls);
    put_i64(w, "tool_calls", row.tool_calls);
    jw_end(w);
    if (row.unpriced) {
        jw_key(w, "cost_known");
        jw_bool(w, false);
    }
    if (row.unpriced < row.model_calls) { /* of the calls that have a price */
        usd_text(row.usd, &text);
        jw_key(w, "cost_usd");
        jw_str(w, buf_view(&text));
        buf_done(&text);
    }
}

/* ---- events ---- */

struct attempt_ref attempt_ref_make(struct uuid run, struct uuid attempt, struct uuid root, struct uuid parent_operation)
{
    return (struct attempt_ref){ .run = run, .attempt = attempt, .root = root, .parent_operation = parent_operation,
                                 .run_operation = operation_id(run, attempt, 0) };
}

static struct uuid op_of(const struct attempt_ref *ref, uint32_t op)
{
    return op ? operation_id(ref->run, ref->attempt, op) : ref->run_operation;
}

static void put_uuid(struct buf *out, struct uuid id)
{
    buf_reserve(out, UUID_TEXT + 2);
    char *p = out->p + out->len;
    *p = '"';
    uuid_format(id, p + 1);
    p[UUID_TEXT + 1] = '"';
    out->len += UUID_TEXT + 2;
}

static void render_delta(const struct attempt_ref *ref, const struct record *r, struct buf *out)
{
    static const char *const kinds[] = { "text", "reasoning", "arguments" };
    BUF_LIT(out, "{");
    if (r->node.n) {
        BUF_LIT(out, "\"node\":");
        json_put_string(out, r->node);
        BUF_LIT(out, ",");
    }
    if (!(r->surface & SURFACE_NO_CALL)) {
        BUF_LIT(out, "\"call_id\":");
        put_uuid(out, op_of(ref, r->op));
        BUF_LIT(out, ",");
    }
    BUF_LIT(out, "\"index\":");
    buf_u64(out, r->index);
    BUF_LIT(out, ",\"delta\":");
    json_put_string(out, r->text);
    if (r->delta_kind != DELTA_TEXT && r->delta_kind < ARRAY_LEN(kinds))
        buf_printf(out, ",\"kind\":\"%s\"", kinds[r->delta_kind]);
    BUF_LIT(out, "}");
}

void render_event(const struct attempt_ref *ref, const struct record *r, struct buf *out)
{
    char time[TIME_TEXT];
    BUF_LIT(out, "{\"id\":");
    put_uuid(out, event_id(ref->attempt, r->seq));
    BUF_LIT(out, ",\"seq\":");
    buf_u64(out, r->seq);
    BUF_LIT(out, ",\"type\":\"");
    buf_span(out, span_of(record_info(r->type)->ar_type));
    BUF_LIT(out, "\",\"timestamp\":\"");
    time_format(r->wall_ms, time);
    buf_put(out, time, sizeof time);
    BUF_LIT(out, "\",\"attempt_id\":");
    put_uuid(out, ref->attempt);
    BUF_LIT(out, ",\"payload\":");
    if (r->type == REC_MODEL_DELTA)
        render_delta(ref, r, out);
    else if (r->pub.n)
        buf_span(out, r->pub);
    else
        BUF_LIT(out, "null");
    BUF_LIT(out, ",\"operation_id\":");
    put_uuid(out, op_of(ref, r->op));
    BUF_LIT(out, ",\"parent_operation_id\":");
    if (r->op)
        put_uuid(out, op_of(ref, r->parent));
    else if (uuid_is_nil(ref->parent_operation))
        BUF_LIT(out, "null");
    else
        put_uuid(out, ref->parent_operation);
    BUF_LIT(out, ",\"root_operation_id\":");
    put_uuid(out, ref->root);
    BUF_LIT(out, "}");
}

/* ---- SSE: one HTTP chunk per frame, so that every event boundary is a place to start (5.4) ---- */

enum { CHUNK_DIGITS = 8, CHUNK_HEAD = CHUNK_DIGITS + 2 }; /* "0000abcd\r\n" */

/* Reserves the chunk's head; end_chunk fills it in. Leading zeros are legal in a chunk size. */
static size_t begin_chunk(struct buf *out)
{
    size_t at = out->len;
    buf_put(out, "00000000\r\n", CHUNK_HEAD);
    return at;
}

static void end_chunk(struct buf *out, size_t at)
{
    char *digit = out->p + at + CHUNK_DIGITS;
    for (size_t n = out->len - at - CHUNK_HEAD; n; n >>= 4)
        *--digit = "0123456789abcdef"[n & 15];
    BUF_LIT(out, "\r\n");
}

static void sse_event(const void *ctx, const struct record *record, struct buf *out)
{
    size_t at = begin_chunk(out);
    buf_reserve(out, 512); /* most events fit, and grow no further */
    BUF_LIT(out, "id: ");
    buf_u64(out, record->seq);
    BUF_LIT(out, "\nevent: run_event\ndata: ");
    render_event(ctx, record, out);
    BUF_LIT(out, "\n\n");
    end_chunk(out, at);
}

/* A line of the first frame, never a block of its own. */
static void sse_greeting(const void *ctx, struct buf *out)
{
    size_t at = begin_chunk(out);
    (void)ctx;
    BUF_LIT(out, "retry: 1000\n");
    end_chunk(out, at);
}

static void put_stamp(struct buf *out, int64_t now_ms)
{
    char time[TIME_TEXT];
    time_format(now_ms, time);
    BUF_LIT(out, "\"timestamp\":\"");
    buf_put(out, time, sizeof time);
    BUF_LIT(out, "\"");
}

static void sse_heartbeat(const void *ctx, uint64_t latest_seq, int64_t now_ms, struct buf *out)
{
    const struct attempt_ref *ref = ctx;
    size_t                    at = begin_chunk(out);
    BUF_LIT(out, "event: heartbeat\ndata: {");
    put_stamp(out, now_ms);
    BUF_LIT(out, ",\"run_id\":");
    put_uuid(out, ref->run);
    BUF_LIT(out, ",\"attempt_id\":");
    put_uuid(out, ref->attempt);
    buf_printf(out, ",\"latest_seq\":%llu}\n\n", (unsigned long long)latest_seq);
    end_chunk(out, at);
}

static void sse_close(enum record_type last, uint64_t latest_seq, int64_t now_ms, struct buf *out)
{
    const char *reason = last == REC_RUN_CANCELLED ? "cancelled" : last == REC_RUN_FAILED ? "failed" : "completed";
    BUF_LIT(out, "event: close\ndata: {");
    put_stamp(out, now_ms);
    buf_printf(out, ",\"reason\":\"%s\",\"terminal\":true,\"latest_seq\":%llu}\n\n", reason, (unsigned long long)latest_seq);
}

static void sse_error(enum follow_end end, int64_t now_ms, struct buf *out)
{
    enum err err = end == FOLLOW_DRAINING ? ERR_DRAINING : ERR_STORAGE;
    buf_printf(out, "event: error\ndata: {\"code\":\"%s\",\"message\":\"%s\",\"retryable\":true,", err_info(err)->ar_code,
               err_info(err)->title);
    put_stamp(out, now_ms);
    BUF_LIT(out, "}\n\n");
}

static void sse_farewell(const void *ctx, enum follow_end end, enum record_type last, uint64_t latest_seq, int64_t now_ms,
                         struct buf *out)
{
    (void)ctx;
    if (end == FOLLOW_AGE || end == FOLLOW_SLOW)
        return; /* a plain end at a frame boundary: the client comes back */
    size_t at = begin_chunk(out);
    if (end == FOLLOW_DONE)
        sse_close(last, latest_seq, now_ms, out);
    else
        sse_error(end, now_ms, out);
    end_chunk(out, at);
}

const struct wire_format agent_runs_sse = {
    .name = "agent-runs-sse", .event = sse_event, .greeting = sse_greeting, .heartbeat = sse_heartbeat, .farewell = sse_farewell,
    .ctx_free = free,
};
