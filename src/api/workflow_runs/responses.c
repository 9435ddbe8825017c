/* SPDX-License-Identifier: Apache-2.0 */
/* responses.c - one model call, answered or streamed (workflow-runs.md 5): no run, nothing is kept. */
#include "api/workflow_runs/responses.h"
#include "workflow/flow.h"
#include <stdlib.h>

/* ---- what is asked ---- */

static const char *const roles[] = { "system", "user", "assistant", "tool" };

static void check_input(struct call *call, struct jv input, const char *at)
{
    size_t i = 0;
    if (!jv_is(input, JSON_ARRAY) || !jv_count(input)) {
        issue_add(&call->issues, arena_printf(&call->arena, "%s/input", at), "required", "must be a list of at least one message");
        return;
    }
    for (struct jv_iter it = jv_iter(input); jv_step(&it); i++) {
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(roles); k++)
            known = known || jv_str_eq(jv_get(it.value, "role"), roles[k]);
        if (!known)
            issue_add(&call->issues, arena_printf(&call->arena, "%s/input/%zu/role", at, i), "enum", "must be system, user, assistant or tool");
    }
}

static void put_optional(struct jw *w, const char *name, struct jv v)
{
    if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL))
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static void put_format(struct jw *w, struct jv format)
{
    struct jv schema = jv_get(format, "json_schema");
    if (!jv_is(schema, JSON_OBJECT))
        return;
    jw_key(w, "output_format");
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, "json_schema");
    put_optional(w, "name", jv_get(schema, "name"));
    put_optional(w, "schema", jv_get(schema, "schema"));
    put_optional(w, "strict", jv_get(schema, "strict"));
    put_optional(w, "description", jv_get(schema, "description"));
    jw_end(w);
}

static struct span neutral_request(struct jv body, struct arena *arena)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "messages");
    jw_raw(&w, jv_raw(jv_get(jv_get(flow_agent_input(body, arena), "input"), "messages")));
    flow_put_tools(jv_get(body, "tools"), &w);
    flow_put_choice(jv_get(body, "tool_choice"), &w);
    put_optional(&w, "max_tokens", jv_get(body, "max_output_tokens"));
    put_optional(&w, "temperature", jv_get(body, "temperature"));
    put_optional(&w, "stop", jv_get(body, "stop"));
    put_format(&w, jv_get(body, "output_format"));
    jw_end(&w);
    struct span kept = arena_copy(arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

bool response_read(struct call *call, struct jv body, const char *at, struct response_want *ret)
{
    size_t      before = call->issues.count;
    struct jv   model = jv_get(body, "model"), provider = jv_get(body, "provider");
    struct span text = jv_string(model, &call->arena);
    check_input(call, jv_get(body, "input"), at);
    if (!jv_is(model, JSON_NONE) && (!text.n || text.n > 128))
        issue_add(&call->issues, arena_printf(&call->arena, "%s/model", at), "format", "must be a string of 1 to 128 characters");
    if (!text.n && call->cred->row.kind != CRED_CUSTOMER && !call->customer.n && jv_is(model, JSON_NONE))
        issue_add(&call->issues, arena_printf(&call->arena, "%s/model", at), "required", "is required");
    if (call->issues.count > before)
        return false;
    *ret = (struct response_want){ .model = text.n ? text : SPAN("default"), .provider = jv_string(provider, &call->arena),
                                   .request = neutral_request(body, &call->arena) };
    return true;
}

enum err response_start(struct call *call, const struct response_want *want, struct model_call_config *config,
                        struct model_call **ret, struct error *error)
{
    struct models *models = engine_models(call->api->engine);
    config->provider = want->provider;
    config->model = want->model;
    config->request = want->request;
    return model_start(models, config, ret, error);
}

/* ---- what is answered ---- */

static struct span stop_reason(struct jv answer)
{
    struct jv reason = jv_get(answer, "finish_reason");
    return jv_str_eq(reason, "length") ? SPAN("\"max_tokens\"") : jv_is(reason, JSON_STRING) ? jv_raw(reason) : SPAN("\"unknown\"");
}

static void put_calls(struct jw *w, struct jv calls)
{
    if (!jv_count(calls))
        return;
    jw_key(w, "tool_calls");
    jw_arr(w);
    for (struct jv_iter it = jv_iter(calls); jv_step(&it);) {
        jw_obj(w);
        jw_key(w, "id");
        jw_raw(w, jv_raw(jv_get(it.value, "id")));
        jw_key(w, "type");
        jw_cstr(w, "function");
        jw_key(w, "function");
        jw_obj(w);
        jw_key(w, "name");
        jw_raw(w, jv_raw(jv_get(it.value, "name")));
        jw_key(w, "arguments");
        jw_raw(w, jv_raw(jv_get(it.value, "arguments")));
        jw_end(w);
        jw_end(w);
    }
    jw_arr_end(w);
}

static int64_t count_of(struct jv usage, const char *name)
{
    int64_t n = 0;
    return jv_i64(jv_get(usage, name), &n) && n > 0 ? n : 0;
}

static void put_usage(struct jw *w, struct jv usage)
{
    int64_t in = count_of(usage, "input_tokens"), out = count_of(usage, "output_tokens"), total = count_of(usage, "total_tokens");
    jw_key(w, "usage");
    jw_obj(w);
    jw_key(w, "input_tokens");
    jw_i64(w, in);
    jw_key(w, "output_tokens");
    jw_i64(w, out);
    jw_key(w, "total_tokens");
    jw_i64(w, total > in + out ? total : in + out);
    jw_end(w);
}

void response_put(struct jw *w, struct span id, struct span model, struct jv answer)
{
    struct jv said = jv_get(answer, "text"), calls = jv_get(answer, "tool_calls"), told = jv_get(answer, "model");
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, id);
    jw_key(w, "model");
    if (jv_is(told, JSON_STRING))
        jw_raw(w, jv_raw(told));
    else
        jw_str(w, model);
    jw_key(w, "output");
    jw_arr(w);
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, "message");
    jw_key(w, "role");
    jw_cstr(w, "assistant");
    jw_key(w, "content");
    jw_arr(w);
    if (jv_is(said, JSON_STRING) && (!jv_str_eq(said, "") || !jv_count(calls))) {
        jw_obj(w);
        jw_key(w, "type");
        jw_cstr(w, "text");
        jw_key(w, "text");
        jw_raw(w, jv_raw(said));
        jw_end(w);
    }
    jw_arr_end(w);
    put_calls(w, calls);
    jw_end(w);
    jw_arr_end(w);
    jw_key(w, "stop_reason");
    jw_raw(w, stop_reason(answer));
    put_usage(w, jv_get(answer, "usage"));
    jw_end(w);
}

struct span response_id(struct call *call)
{
    char text[UUID_TEXT];
    uuid_format(engine_mint(call->api->engine), text);
    return arena_printf(&call->arena, "resp_%.*s", UUID_TEXT, text);
}

/* What the provider said decides: what the client cannot mend is a 5xx, which clients try again. */
enum err response_failure(struct jv error, struct arena *arena, struct error *ret)
{
    struct jv   category = jv_get(error, "category");
    struct span message = jv_string(jv_get(error, "message"), arena);
    enum err    err = ERR_STORAGE;
    if (jv_str_eq(category, "rate_limit"))
        err = ERR_RATE_LIMITED;
    else if (jv_str_eq(category, "validation"))
        err = ERR_VALIDATION;
    else if (jv_str_eq(category, "not_found"))
        err = ERR_NOT_FOUND;
    else if (!jv_bool(jv_get(error, "retryable"), false))
        err = ERR_INTERNAL;
    return error_set(ret, err, "", "%.*s", SPAN_ARG(message.n ? message : SPAN("the model call failed")));
}

/* ---- one answer ---- */

struct response {
    struct call       *call;     /* NULL: gone, or a stream (then the connection stands for it) */
    struct model_call *model_call;
    struct arena       arena;
    struct span        id, model;
    struct http_conn  *conn;     /* of a stream */
    struct buf         out;      /* what the connection has not taken */
    bool               started, over;
    struct buf         text;
};

static void response_free(struct response *r)
{
    model_cancel(r->model_call);
    buf_done(&r->out);
    buf_done(&r->text);
    arena_done(&r->arena);
    free(r);
}

static void client_gone(struct call *call)
{
    response_free(call->user);
    call_free(call);
}

static void no_chunk(void *user, enum model_chunk_kind kind, struct span text)
{
    (void)user;
    (void)kind;
    (void)text;
}

static void answered(void *user, enum err err, struct span result)
{
    struct response *r = user;
    struct call     *call = r->call;
    struct error     error = { 0 };
    struct jv        answer = json_read(arena_copy(&call->arena, result), &call->arena);
    r->model_call = NULL;
    call->on_gone = NULL;
    if (err) {
        (void)response_failure(answer, &call->arena, &error);
        call_error(call, &error);
    } else {
        response_put(&call->w, r->id, r->model, answer);
        call_send(call, 200);
    }
    response_free(r);
}

/* ---- a stream of records (5.7) ---- */

static void flush(struct response *r)
{
    while (r->conn && r->out.len) {
        struct iovec iov = { r->out.p, r->out.len };
        ssize_t      n = http_stream_write(r->conn, &iov, 1);
        if (n < 0)
            r->conn = NULL;
        if (n <= 0)
            break;
        memmove(r->out.p, r->out.p + n, r->out.len - (size_t)n);
        r->out.len -= (size_t)n;
    }
    if (r->conn && r->over && !r->out.len)
        http_stream_end(TAKE(r->conn));
}

static void record_begin(struct buf *text, struct jw *w, const char *type)
{
    *w = jw_on(text);
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, type);
}

static void record_end(struct response *r, struct buf *text, struct jw *w)
{
    struct buf line = { 0 };
    jw_end(w);
    flow_ascii(buf_view(text), &line);
    BUF_LIT(&line, "\n");
    http_chunk(&r->out, buf_view(&line));
    buf_done(&line);
    buf_done(text);
}

static void stream_start(struct response *r)
{
    struct buf text = { 0 };
    struct jw  w;
    if (r->started)
        return;
    r->started = true;
    record_begin(&text, &w, "start");
    jw_key(&w, "request_id");
    jw_str(&w, r->id);
    jw_key(&w, "model");
    jw_str(&w, r->model);
    jw_key(&w, "stream_mode");
    jw_cstr(&w, "text-delta");
    jw_key(&w, "stream_version");
    jw_cstr(&w, "v2");
    record_end(r, &text, &w);
}

static void stream_chunk(void *user, enum model_chunk_kind kind, struct span delta)
{
    struct response *r = user;
    struct buf       text = { 0 };
    struct jw        w;
    if (kind != CHUNK_TEXT || !delta.n)
        return;
    stream_start(r);
    record_begin(&text, &w, "update");
    jw_key(&w, "delta");
    jw_str(&w, delta);
    record_end(r, &text, &w);
    flush(r);
}

static void put_completion(struct response *r, struct jv answer)
{
    struct buf text = { 0 };
    struct jw  w;
    stream_start(r);
    if (jv_count(jv_get(answer, "tool_calls"))) {
        record_begin(&text, &w, "tool_use_stop");
        put_calls(&w, jv_get(answer, "tool_calls"));
        record_end(r, &text, &w);
    }
    record_begin(&text, &w, "completion");
    jw_key(&w, "content");
    jw_raw(&w, jv_is(jv_get(answer, "text"), JSON_STRING) ? jv_raw(jv_get(answer, "text")) : SPAN("\"\""));
    jw_key(&w, "stop_reason");
    jw_raw(&w, stop_reason(answer));
    put_usage(&w, jv_get(answer, "usage"));
    put_calls(&w, jv_get(answer, "tool_calls"));
    record_end(r, &text, &w);
}

static void put_failure(struct response *r, struct jv failure)
{
    struct error           error = { 0 };
    const struct err_info *info = err_info(response_failure(failure, &r->arena, &error));
    struct buf             text = { 0 };
    struct jw              w;
    record_begin(&text, &w, "error");
    jw_key(&w, "code");
    jw_cstr(&w, info->wf_code);
    jw_key(&w, "message");
    jw_cstr(&w, error.message);
    jw_key(&w, "status");
    jw_i64(&w, info->wf_status);
    record_end(r, &text, &w);
}

static void stream_end(void *user, enum err err, struct span result)
{
    struct response *r = user;
    struct jv        answer = json_read(arena_copy(&r->arena, result), &r->arena);
    r->model_call = NULL;
    if (err)
        put_failure(r, answer);
    else
        put_completion(r, answer);
    r->over = true;
    flush(r);
    if (!r->conn)
        response_free(r);
}

static void conn_writable(void *user)
{
    struct response *r = user;
    flush(r);
    if (!r->conn)
        response_free(r);
}

static void conn_closed(void *user)
{
    struct response *r = user;
    r->conn = NULL;
    response_free(r);
}

static const struct http_stream_ops conn_ops = { .writable = conn_writable, .closed = conn_closed };

static bool wants_records(struct call *call)
{
    static const char want[] = "application/x-ndjson";
    struct span       accept;
    return http_header(call->req, "Accept", &accept) && accept.n >= sizeof want - 1 && memcmp(accept.p, want, sizeof want - 1) == 0;
}

/* The call has begun: its records go to the connection, and the call itself is no longer needed. */
static void begin_stream(struct call *call, struct response *r)
{
    call_header(call, "Content-Type: application/x-ndjson; profile=\"responses-stream/v2\"");
    call_header(call, "Cache-Control: no-cache, no-transform");
    call_header(call, "X-Request-Id: %s", call->request_id);
    call_header(call, "X-ModelRelay-Request-Id: %s", call->request_id);
    struct http_request *req = TAKE(call->req);
    req->user = NULL;
    r->call = NULL;
    r->conn = http_stream_begin(req, 200, buf_view(&call->headers), true, &conn_ops, r);
    call->api->by_status[2]++;
    call_free(call);
}

void flow_responses(struct call *call)
{
    struct response_want want;
    struct error         error = { 0 };
    bool                 stream = wants_records(call);
    if (!response_read(call, call->body, "", &want)) {
        call_invalid(call, ERR_VALIDATION);
        return;
    }
    struct response *r = mem_alloc(sizeof *r);
    r->call = call;
    r->id = arena_copy(&r->arena, response_id(call));
    r->model = arena_copy(&r->arena, want.model);
    struct model_call_config config = { .on_chunk = stream ? stream_chunk : no_chunk, .on_end = stream ? stream_end : answered, .user = r };
    if (response_start(call, &want, &config, &r->model_call, &error)) {
        response_free(r);
        call_error(call, &error);
    } else if (stream) {
        begin_stream(call, r);
    } else {
        call->user = r;
        call->on_gone = client_gone;
    }
}
