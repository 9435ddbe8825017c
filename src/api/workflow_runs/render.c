/* SPDX-License-Identifier: Apache-2.0 */
/* render.c - see render.h. One function per record type, in the order of the table of model.md 4. */
#include "api/workflow_runs/render.h"
#include <ctype.h>
#include <stdlib.h>

struct flow_ref flow_ref_make(const struct run_row *row, struct uuid attempt, uint64_t base)
{
    struct flow_ref ref = { .run = row->id, .attempt = attempt, .base = base };
    struct buf      hex = { 0 };
    buf_hex(&hex, row->plan.b, sizeof row->plan.b);
    memcpy(ref.plan_hash, hex.p, 64);
    buf_done(&hex);
    return ref;
}

struct uuid flow_request_id(const struct flow_ref *ref, uint32_t op)
{
    return operation_id(ref->run, ref->attempt, op);
}

struct span flow_node(struct span name)
{
    const char *colon = memchr(name.p ? name.p : "", ':', name.n);
    return colon ? span_make(name.p, (size_t)(colon - name.p)) : name;
}

/* ---- text ---- */

static unsigned sequence_length(unsigned char lead)
{
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

static void put_unit(struct buf *out, unsigned unit)
{
    static const char digits[] = "0123456789abcdef";
    char              text[6] = { '\\', 'u', digits[unit >> 12], digits[unit >> 8 & 15], digits[unit >> 4 & 15], digits[unit & 15] };
    buf_put(out, text, sizeof text);
}

void flow_ascii(struct span json, struct buf *out)
{
    size_t plain = 0, i = 0;
    while (i < json.n) {
        unsigned char c = (unsigned char)json.p[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        buf_put(out, json.p + plain, i - plain);
        unsigned n = sequence_length(c), code = c & (0x7fu >> n);
        for (unsigned k = 1; k < n && i + k < json.n; k++)
            code = code << 6 | ((unsigned char)json.p[i + k] & 0x3f);
        if (code >= 0x10000) {
            put_unit(out, 0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        put_unit(out, code);
        i = i + n < json.n ? i + n : json.n;
        plain = i;
    }
    buf_put(out, json.p + plain, json.n - plain);
}

enum { INCLUDED_MAX = 1 << 20 };

void flow_artifact(struct jw *w, const char *key, struct span json, bool included)
{
    struct arena arena = { 0 };
    struct buf   canonical = { 0 }, hex = { 0 };
    json_canonical(json_read(json, &arena), JSON_JCS, &canonical);
    struct sha256 hash = sha256_of(buf_view(&canonical));
    buf_hex(&hex, hash.b, sizeof hash.b);
    included = included && canonical.len <= INCLUDED_MAX;
    jw_obj(w);
    jw_key(w, "artifact_key");
    jw_cstr(w, key);
    jw_key(w, "info");
    jw_obj(w);
    jw_key(w, "bytes");
    jw_u64(w, canonical.len);
    jw_key(w, "sha256");
    jw_str(w, buf_view(&hex));
    jw_key(w, "included");
    jw_bool(w, included);
    jw_end(w);
    if (included) {
        jw_key(w, "content");
        jw_raw(w, buf_view(&canonical));
    }
    jw_end(w);
    buf_done(&canonical);
    buf_done(&hex);
    arena_done(&arena);
}

/* ---- one record on its way to lines ---- */

struct rendering {
    const struct flow_ref *ref;
    const struct record   *record;
    struct arena           arena;
    struct jv              pub, priv;
    uint64_t               seq, after; /* seq: of the last event */
    bool                   extra;      /* of a node that is none of the plan: not counted */
    struct buf             json, text;
    struct jw              w;
    const char            *type;
    void                 (*line)(void *user, uint64_t seq, const char *type, struct span json);
    void                  *user;
};

static void begin(struct rendering *r, const char *type)
{
    r->type = type;
    r->seq += !r->extra;
    r->json.len = 0;
    r->w = jw_on(&r->json);
    struct jw *w = &r->w;
    jw_obj(w);
    jw_key(w, "envelope_version");
    jw_cstr(w, "v2");
    jw_key(w, "run_id");
    jw_uuid(w, &r->ref->run);
    jw_key(w, "seq");
    jw_u64(w, r->seq);
    jw_key(w, "ts");
    jw_time(w, r->record->wall_ms);
    jw_key(w, "type");
    jw_cstr(w, type);
}

static void end(struct rendering *r)
{
    jw_end(&r->w);
    if (r->extra ? r->seq < r->after : r->seq <= r->after)
        return;
    r->text.len = 0;
    flow_ascii(buf_view(&r->json), &r->text);
    r->line(r->user, r->seq, r->type, buf_view(&r->text));
}

static void put_node(struct rendering *r)
{
    struct jv   told = jv_get(r->record->type == REC_WAIT_CLOSED ? r->priv : r->pub, "node");
    struct span name = r->record->type == REC_MODEL_DELTA ? r->record->node : jv_string(told, &r->arena);
    jw_key(&r->w, "node_id");
    jw_str(&r->w, r->ref->subnodes ? name : flow_node(name));
}

static void put_text(struct rendering *r, const char *name, struct jv value)
{
    jw_key(&r->w, name);
    jw_str(&r->w, jv_string(value, &r->arena));
}

static void put_optional(struct rendering *r, const char *name, struct jv value)
{
    if (jv_is(value, JSON_STRING) && jv_string(value, &r->arena).n)
        put_text(r, name, value);
}

/* "TOOL_LOOP_LIMIT" of "tool_loop_limit"; the classes of a run have names of their own (model.md 10). */
static struct span error_code(struct rendering *r, struct span code, bool of_run)
{
    if (of_run)
        return span_is(code, "run_timeout") ? SPAN("RUN_TIMEOUT") : span_is(code, "cancelled") ? SPAN("CANCELED") : SPAN("NODE_FAILED");
    char *upper = arena_alloc(&r->arena, code.n + 1);
    for (size_t i = 0; i < code.n; i++)
        upper[i] = (char)toupper((unsigned char)code.p[i]);
    return span_make(upper, code.n);
}

static void put_error(struct rendering *r, struct jv error, bool of_run)
{
    struct span code = jv_string(jv_get(error, "code"), &r->arena), message = jv_string(jv_get(error, "message"), &r->arena);
    struct jw  *w = &r->w;
    jw_key(w, "error");
    jw_obj(w);
    if (code.n) {
        jw_key(w, "code");
        jw_str(w, error_code(r, code, of_run));
    }
    jw_key(w, "message");
    jw_str(w, message.n ? message : SPAN("failed"));
    jw_end(w);
}

/* What stands in priv when the public part was cut (model.md 3). */
static struct span whole(struct rendering *r, const char *name)
{
    struct jv kept = jv_get(r->priv, "v"), shown = jv_get(r->pub, name);
    if (jv_is(jv_get(shown, "truncated"), JSON_TRUE)) {
        if (!jv_is(kept, JSON_NONE))
            return jv_raw(kept);
        if (!jv_is(r->priv, JSON_NONE))
            return jv_raw(r->priv);
    }
    return jv_is(shown, JSON_NONE) ? SPAN("null") : jv_raw(shown);
}

/* ---- the run ---- */

static void put_hash(struct rendering *r)
{
    jw_key(&r->w, "plan_hash");
    jw_cstr(&r->w, r->ref->plan_hash);
}

static void run_began(struct rendering *r)
{
    begin(r, "run_compiled");
    put_hash(r);
    end(r);
    begin(r, "run_started");
    put_hash(r);
    end(r);
}

static void run_finished(struct rendering *r)
{
    begin(r, "run_completed");
    put_hash(r);
    jw_key(&r->w, "outputs");
    flow_artifact(&r->w, "run_outputs.v0", whole(r, "output"), r->ref->outputs);
    end(r);
}

static void run_failed(struct rendering *r)
{
    struct jv error = jv_get(r->pub, "error");
    begin(r, jv_str_eq(jv_get(error, "code"), "run_timeout") ? "run_canceled" : "run_failed");
    put_hash(r);
    put_error(r, error, true);
    end(r);
}

static void run_cancelled(struct rendering *r)
{
    struct jv reason = jv_get(r->pub, "reason");
    begin(r, "run_canceled");
    put_hash(r);
    jw_key(&r->w, "error");
    jw_obj(&r->w);
    jw_key(&r->w, "code");
    jw_cstr(&r->w, "CANCELED");
    jw_key(&r->w, "message");
    struct span text = jv_string(reason, &r->arena);
    jw_str(&r->w, text.n ? text : SPAN("the run was canceled"));
    jw_end(&r->w);
    end(r);
}

/* ---- nodes ---- */

static void node_plain(struct rendering *r, const char *type)
{
    begin(r, type);
    put_node(r);
    end(r);
}

static void node_finished(struct rendering *r)
{
    begin(r, "node_output");
    put_node(r);
    jw_key(&r->w, "output");
    flow_artifact(&r->w, "node_output.v0", whole(r, "output"), r->ref->outputs);
    end(r);
    node_plain(r, "node_succeeded");
}

static void node_failed(struct rendering *r)
{
    begin(r, "node_failed");
    put_node(r);
    put_error(r, jv_get(r->pub, "error"), false);
    end(r);
}

/* ---- calls: step and request_id ---- */

/* Tool records name the model call they belong to; a model's own record is it. */
static void put_call(struct rendering *r)
{
    struct jw *w = &r->w;
    int64_t    step = 0, op = r->record->op;
    (void)jv_i64(jv_get(r->priv, "wf_step"), &step);
    (void)jv_i64(jv_get(r->priv, "call_op"), &op);
    struct uuid request = flow_request_id(r->ref, (uint32_t)op);
    jw_key(w, "step");
    jw_i64(w, step);
    jw_key(w, "request_id");
    jw_uuid(w, &request);
}

static void put_response_id(struct rendering *r, uint32_t op)
{
    struct uuid id = flow_request_id(r->ref, op);
    struct buf  text = { 0 };
    BUF_LIT(&text, "resp_");
    buf_hex(&text, id.b, sizeof id.b);
    jw_key(&r->w, "response_id");
    jw_str(&r->w, buf_view(&text));
    buf_done(&text);
}

static void delta(struct rendering *r, const char *kind)
{
    begin(r, "node_output_delta");
    put_node(r);
    jw_key(&r->w, "delta");
    jw_obj(&r->w);
    jw_key(&r->w, "kind");
    jw_cstr(&r->w, kind);
}

static void delta_end(struct rendering *r)
{
    jw_end(&r->w);
    end(r);
}

static void model_delta(struct rendering *r)
{
    if (record_wf(r->record->flags) == 2) {
        delta(r, "message_start");
        put_response_id(r, r->record->op);
        delta_end(r);
    }
    delta(r, "message_delta");
    jw_key(&r->w, "text_delta");
    jw_str(&r->w, r->record->text);
    delta_end(r);
}

/* Only whole numbers from 0 on; nothing else may stand there. */
static void put_count(struct rendering *r, const char *name, struct jv value)
{
    int64_t n;
    if (!jv_i64(value, &n) || n < 0)
        return;
    jw_key(&r->w, name);
    jw_i64(&r->w, n);
}

static void put_usage(struct rendering *r)
{
    struct jv usage = jv_get(r->pub, "usage");
    int64_t   in = 0, out = 0, total;
    if (!jv_i64(jv_get(usage, "input_tokens"), &in) && !jv_i64(jv_get(usage, "output_tokens"), &out))
        return;
    (void)jv_i64(jv_get(usage, "output_tokens"), &out);
    jw_key(&r->w, "usage");
    jw_obj(&r->w);
    put_count(r, "input_tokens", jv_get(usage, "input_tokens"));
    put_count(r, "output_tokens", jv_get(usage, "output_tokens"));
    jw_key(&r->w, "total_tokens");
    jw_i64(&r->w, jv_i64(jv_get(usage, "total_tokens"), &total) && total >= in + out ? total : in + out);
    jw_end(&r->w);
}

/* Clients know four providers and fail on any other (1.9). */
static void put_provider(struct rendering *r, struct jv provider)
{
    static const char *const known[] = { "anthropic", "openai", "xai", "google-ai-studio" };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (jv_str_eq(provider, known[i])) {
            jw_key(&r->w, "provider");
            jw_cstr(&r->w, known[i]);
        }
}

static void model_finished(struct rendering *r)
{
    if (record_wf(r->record->flags) == 2) {
        delta(r, "message_stop");
        delta_end(r);
    }
    begin(r, "node_llm_call");
    put_node(r);
    jw_key(&r->w, "llm_call");
    jw_obj(&r->w);
    put_call(r);
    put_provider(r, jv_get(r->priv, "provider"));
    put_optional(r, "model", jv_get(r->pub, "model"));
    put_response_id(r, r->record->op);
    put_optional(r, "stop_reason", jv_get(r->pub, "finish_reason"));
    put_usage(r);
    jw_end(&r->w);
    end(r);
}

/* Always text; what the model gave as an object is its JSON. */
static void put_arguments(struct rendering *r, struct jv v)
{
    jw_key(&r->w, "arguments");
    jw_str(&r->w, jv_is(v, JSON_STRING) ? jv_string(v, &r->arena) : jv_is(v, JSON_NONE) ? SPAN("{}") : jv_raw(v));
}

static void put_tool_call(struct rendering *r, bool arguments)
{
    struct jw *w = &r->w;
    jw_key(w, "tool_call");
    jw_obj(w);
    put_text(r, "id", jv_get(r->pub, "tool_call_id"));
    put_text(r, "name", jv_get(r->pub, "tool"));
    if (arguments)
        put_arguments(r, jv_get(r->pub, "arguments"));
    jw_end(w);
}

static void tool_started(struct rendering *r)
{
    begin(r, "node_tool_call");
    put_node(r);
    jw_key(&r->w, "tool_call");
    jw_obj(&r->w);
    put_call(r);
    put_tool_call(r, true);
    jw_end(&r->w);
    end(r);
}

/* An output that is no text is shown as its JSON. */
static struct span output_text(struct rendering *r)
{
    struct arena *arena = &r->arena;
    if (r->record->type == REC_TOOL_FAILED) {
        struct span message = jv_string(jv_get(jv_get(r->pub, "error"), "message"), arena);
        return arena_printf(arena, "Error: %.*s", SPAN_ARG(message.n ? message : SPAN("the tool failed")));
    }
    struct jv output = json_read(whole(r, "result"), arena);
    return jv_is(output, JSON_STRING) ? jv_string(output, arena) : jv_raw(output);
}

static void user_answer(struct rendering *r, struct span output)
{
    struct jv answer = json_read(output, &r->arena);
    begin(r, "node_user_answer");
    put_node(r);
    jw_key(&r->w, "user_answer");
    jw_obj(&r->w);
    put_call(r);
    put_tool_call(r, false);
    put_text(r, "answer", jv_get(answer, "answer"));
    jw_key(&r->w, "is_freeform");
    jw_bool(&r->w, jv_bool(jv_get(answer, "is_freeform"), true));
    jw_end(&r->w);
    end(r);
}

static void tool_ended(struct rendering *r)
{
    struct span output = output_text(r);
    begin(r, "node_tool_result");
    put_node(r);
    jw_key(&r->w, "tool_result");
    jw_obj(&r->w);
    put_call(r);
    put_tool_call(r, false);
    jw_key(&r->w, "output");
    jw_str(&r->w, output);
    jw_end(&r->w);
    end(r);
    if (record_wf(r->record->flags) == 2)
        user_answer(r, output);
}

/* ---- waiting ---- */

/* A question of a tool call shows it; any other prompt has one made up for it (model.md 6.3). */
static void put_made_call(struct rendering *r, struct jv approval_id, const struct span *question)
{
    struct jw *w = &r->w;
    struct buf made = { 0 };
    jw_key(w, "tool_call");
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, arena_printf(&r->arena, "ask_%.*s", SPAN_ARG(jv_string(approval_id, &r->arena))));
    jw_key(w, "name");
    jw_cstr(w, "user_ask");
    if (question) {
        BUF_LIT(&made, "{\"question\":");
        json_put_string(&made, *question);
        BUF_LIT(&made, "}");
        jw_key(w, "arguments");
        jw_str(w, buf_view(&made));
        buf_done(&made);
    }
    jw_end(w);
}

static void node_waiting(struct rendering *r)
{
    struct jw *w = &r->w;
    begin(r, "node_waiting");
    put_node(r);
    jw_key(w, "waiting");
    jw_obj(w);
    put_call(r);
    jw_key(w, "pending_tool_calls");
    jw_arr(w);
    for (struct jv_iter it = jv_iter(jv_get(r->pub, "pending")); jv_step(&it);) {
        jw_obj(w);
        jw_key(w, "tool_call");
        jw_obj(w);
        put_text(r, "id", jv_get(it.value, "tool_call_id"));
        put_text(r, "name", jv_get(it.value, "tool"));
        put_arguments(r, jv_get(it.value, "arguments"));
        jw_end(w);
        jw_end(w);
    }
    for (struct jv_iter it = jv_iter(jv_get(r->priv, "asks")); jv_step(&it);) {
        struct span question = jv_string(jv_get(it.value, "prompt"), &r->arena);
        jw_obj(w);
        put_made_call(r, jv_get(it.value, "approval_id"), &question);
        jw_end(w);
    }
    jw_arr_end(w);
    jw_key(w, "reason");
    jw_cstr(w, "tool_results");
    jw_end(w);
    end(r);
}

static void put_ask_call(struct rendering *r, struct span question)
{
    struct jw *w = &r->w;
    struct jv  id = jv_get(r->pub, "tool_call_id");
    if (!jv_is(id, JSON_STRING) || !jv_str_eq(jv_get(r->pub, "kind"), "ask")) {
        put_made_call(r, jv_get(r->pub, "approval_id"), &question);
        return;
    }
    jw_key(w, "tool_call");
    jw_obj(w);
    put_text(r, "id", id);
    jw_key(w, "name");
    jw_cstr(w, "user_ask");
    put_arguments(r, jv_get(r->pub, "details"));
    jw_end(w);
}

static void put_options(struct rendering *r, struct jv options)
{
    struct jw *w = &r->w;
    if (!jv_count(options))
        return;
    jw_key(w, "options");
    jw_arr(w);
    for (struct jv_iter it = jv_iter(options); jv_step(&it);) {
        jw_obj(w);
        put_text(r, "label", jv_get(it.value, "label"));
        put_optional(r, "description", jv_get(it.value, "description"));
        jw_end(w);
    }
    jw_arr_end(w);
}

static void user_ask(struct rendering *r)
{
    struct jv   details = jv_get(r->pub, "details");
    struct span question = jv_string(jv_get(details, "question"), &r->arena);
    if (!question.n)
        question = jv_string(jv_get(r->pub, "prompt"), &r->arena);
    begin(r, "node_user_ask");
    put_node(r);
    jw_key(&r->w, "user_ask");
    jw_obj(&r->w);
    put_call(r);
    put_ask_call(r, question);
    jw_key(&r->w, "question");
    jw_str(&r->w, question.n ? question : SPAN("?"));
    put_options(r, jv_get(details, "options"));
    jw_key(&r->w, "allow_freeform");
    jw_bool(&r->w, jv_bool(jv_get(details, "allow_freeform"), true));
    jw_end(&r->w);
    end(r);
}

/* The answer to a prompt that was no tool call. */
static void prompt_answered(struct rendering *r)
{
    struct jv   input = json_read(whole(r, "input"), &r->arena);
    struct span text = jv_is(input, JSON_STRING) ? jv_string(input, &r->arena) : jv_raw(input);
    begin(r, "node_user_answer");
    put_node(r);
    jw_key(&r->w, "user_answer");
    jw_obj(&r->w);
    put_call(r);
    put_made_call(r, jv_get(r->pub, "approval_id"), NULL);
    jw_key(&r->w, "answer");
    jw_str(&r->w, text.n ? text : SPAN("null"));
    jw_key(&r->w, "is_freeform");
    jw_bool(&r->w, true);
    jw_end(&r->w);
    end(r);
}

/* ---- records to events ---- */

static void render(struct rendering *r)
{
    bool only = record_wf(r->record->flags) == 3; /* closed before it began (AR X5) */
    if (only)
        run_began(r);
    switch (r->record->type) {
    case REC_RUN_STARTED:    run_began(r); break;
    case REC_RUN_FINISHED:   run_finished(r); break;
    case REC_RUN_FAILED:     run_failed(r); break;
    case REC_RUN_CANCELLED:  run_cancelled(r); break;
    case REC_NODE_STARTED:   node_plain(r, "node_started"); break;
    case REC_NODE_FINISHED:  node_finished(r); break;
    case REC_NODE_FAILED:    node_failed(r); break;
    case REC_NODE_WAITING:   node_waiting(r); break;
    case REC_MODEL_DELTA:    model_delta(r); break;
    case REC_MODEL_FINISHED: model_finished(r); break;
    case REC_MODEL_FAILED:   delta(r, "message_stop"); delta_end(r); break;
    case REC_TOOL_STARTED:   tool_started(r); break;
    case REC_TOOL_FINISHED:
    case REC_TOOL_FAILED:    tool_ended(r); break;
    case REC_WAIT_OPENED:    user_ask(r); break;
    case REC_WAIT_CLOSED:    prompt_answered(r); break;
    default:                 break; /* counts nothing */
    }
}

/* A record of an item of a fan-out that counts nothing, but is of a kind that would if the item were a node. */
static bool is_extra(struct rendering *r)
{
    struct span name = jv_string(jv_get(r->pub, "node"), &r->arena);
    bool        kind = r->record->type == REC_NODE_STARTED || r->record->type == REC_NODE_FINISHED ||
                (r->record->type == REC_NODE_FAILED && !jv_is(jv_get(r->pub, "will_retry"), JSON_TRUE));
    return kind && flow_node(name).n < name.n;
}

void flow_events(const struct flow_ref *ref, const struct record *record, uint64_t after,
                 void (*line)(void *user, uint64_t seq, const char *type, struct span json), void *user)
{
    unsigned n = record_wf(record->flags);
    uint64_t before = ref->base + record->wf;
    if ((!n && !ref->subnodes) || (n && before + n <= after))
        return;
    struct rendering r = { .ref = ref, .record = record, .after = after, .seq = before, .line = line, .user = user };
    if (record->pub.n)
        r.pub = json_read(record->pub, &r.arena);
    if (record->priv.n)
        r.priv = json_read(record->priv, &r.arena);
    r.extra = !n && is_extra(&r);
    if (n || r.extra)
        render(&r);
    assert(r.seq == before + n);
    buf_done(&r.json);
    buf_done(&r.text);
    arena_done(&r.arena);
}

/* ---- wire formats: one HTTP chunk per event ---- */

static void ndjson_line(void *user, uint64_t seq, const char *type, struct span json)
{
    struct buf *out = user;
    (void)seq;
    (void)type;
    buf_printf(out, "%zx\r\n", json.n + 1);
    buf_span(out, json);
    BUF_LIT(out, "\n\r\n");
}

static void ndjson_event(const void *ctx, const struct record *record, struct buf *out)
{
    flow_events(ctx, record, 0, ndjson_line, out);
}

/* A blank line: a JSON object would end every client's stream (4.5). */
static void ndjson_heartbeat(const void *ctx, uint64_t latest_seq, int64_t now_ms, struct buf *out)
{
    (void)ctx;
    (void)latest_seq;
    (void)now_ms;
    BUF_LIT(out, "1\r\n\n\r\n");
}

static void sse_line(void *user, uint64_t seq, const char *type, struct span json)
{
    struct buf *out = user, text = { 0 };
    buf_printf(&text, "event: %s\nid: %llu\ndata: ", type, (unsigned long long)seq);
    buf_span(&text, json);
    BUF_LIT(&text, "\n\n");
    http_chunk(out, buf_view(&text));
    buf_done(&text);
}

static void sse_event(const void *ctx, const struct record *record, struct buf *out)
{
    flow_events(ctx, record, 0, sse_line, out);
}

static void sse_heartbeat(const void *ctx, uint64_t latest_seq, int64_t now_ms, struct buf *out)
{
    (void)ctx;
    (void)latest_seq;
    (void)now_ms;
    BUF_LIT(out, "3\r\n:\n\n\r\n");
}

enum { KEEP_ALIVE_MS = 15000 };

#define FORMAT(kind, suffix) { .name = "workflow-" #kind suffix, .event = kind##_event, .heartbeat = kind##_heartbeat, \
                               .heartbeat_ms = KEEP_ALIVE_MS, .reset_on_fault = true, .ageless = true, .ctx_free = free }
static const struct wire_format lines[] = { FORMAT(ndjson, ""), FORMAT(ndjson, "-outputs") };
static const struct wire_format frames[] = {
    FORMAT(sse, ""), FORMAT(sse, "-outputs"), FORMAT(sse, "-subnodes"), FORMAT(sse, "-outputs-subnodes"),
};
#undef FORMAT

const struct wire_format *workflow_format(bool sse, bool outputs, bool subnodes)
{
    return sse ? &frames[outputs + 2 * subnodes] : &lines[outputs];
}
