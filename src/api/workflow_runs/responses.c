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
            issue_add(&call->issues, arena_printf(&call->arena, "%s/input/%zu/role", at, i), "enum",
                      "must be system, user, assistant or tool");
    }
}

static void check_stop(struct call *call, struct jv stop, const char *at)
{
    bool bad = !jv_is(stop, JSON_ARRAY) || jv_count(stop) > 8;
    for (struct jv_iter it = jv_iter(stop); !bad && jv_step(&it);)
        bad = !jv_is(it.value, JSON_STRING) || jv_string(it.value, &call->arena).n > 128;
    if (bad && !jv_is(stop, JSON_NONE))
        issue_add(&call->issues, arena_printf(&call->arena, "%s/stop", at), "range",
                  "must be a list of at most 8 strings of at most 128 bytes");
}

static void check_numbers(struct call *call, struct jv body, const char *at)
{
    struct jv most = jv_get(body, "max_output_tokens"), temperature = jv_get(body, "temperature");
    int64_t   n = 0;
    double    d = 0;
    if (!jv_is(most, JSON_NONE) && (!jv_i64(most, &n) || n < 0))
        issue_add(&call->issues, arena_printf(&call->arena, "%s/max_output_tokens", at), "range", "must be an integer from 0 on");
    if (!jv_is(temperature, JSON_NONE) && (!jv_f64(temperature, &d) || d < 0 || d > 2))
        issue_add(&call->issues, arena_printf(&call->arena, "%s/temperature", at), "range", "must be a number from 0 to 2");
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
    flow_put_tools(jv_get(body, "tools"), true, &w);
    flow_put_choice(jv_get(body, "tool_choice"), &w);
    put_optional(&w, "max_tokens", jv_get(body, "max_output_tokens"));
    put_optional(&w, "temperature", jv_get(body, "temperature"));
    put_optional(&w, "stop", jv_get(body, "stop"));
    put_format(&w, jv_get(body, "output_format"));
    put_optional(&w, "script", jv_get(body, "script"));
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
    check_stop(call, jv_get(body, "stop"), at);
    check_numbers(call, body, at);
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

enum err response_state(struct call *call, struct jv body, struct error *error)
{
    struct handle_row row;
    struct jv         id = jv_get(body, "state_id");
    if (jv_is(id, JSON_NONE))
        return ERR_OK;
    enum err e = flow_handle_find(call, jv_string(id, &call->arena), &row);
    if (e == ERR_EXPIRED)
        return error_set(error, ERR_LEDGER_EXPIRED, "state_id", "the state handle has expired");
    return e ? error_set(error, e, "state_id", e == ERR_NOT_FOUND ? "no such state handle" : "the store cannot be read") : ERR_OK;
}

enum err response_start(struct call *call, const struct response_want *want, struct model_call_config *config,
                        struct model_call **ret, struct error *error)
{
    struct models *models = engine_models(call->api->engine);
    const char    *slash = want->provider.n ? NULL : memchr(want->model.p, '/', want->model.n); /* "PROVIDER/NAME", as in workflows */
    config->provider = slash ? span_make(want->model.p, (size_t)(slash - want->model.p)) : want->provider;
    config->model = slash ? span_make(slash + 1, want->model.n - config->provider.n - 1) : want->model;
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

/* ---- one answer, whole or as records (5.7) ---- */

enum answer_form { ANSWER_JSON, ANSWER_RECORDS, ANSWER_SSE };
static const char *const form_types[] = {
    [ANSWER_JSON] = "application/json", [ANSWER_RECORDS] = "application/x-ndjson; profile=\"responses-stream/v2\"",
    [ANSWER_SSE] = "text/event-stream; charset=utf-8",
};

struct response {
    struct call       *call;       /* NULL once the headers are out */
    struct model_call *model_call;
    struct loop_timer  timer;
    struct arena       arena;
    enum answer_form   form;
    struct span        id, model;
    struct outflow     flow;
    bool               started;    /* the record `start` was sent */
};

static void response_free(struct response *r)
{
    loop_timer_clear(&r->timer);
    model_cancel(r->model_call);
    outflow_done(&r->flow);
    arena_done(&r->arena);
    free(r);
}

static void client_gone(struct call *call)
{
    response_free(call->user);
    call_free(call);
}

static void free_later(struct loop_timer *timer)
{
    response_free(CONTAINER(timer, struct response, timer));
}

/* Maybe inside a callback of the model call, which must not be cancelled there. */
static void flow_over(void *user)
{
    struct response *r = user;
    if (!r->model_call) {
        response_free(r);
        return;
    }
    r->timer.fire = free_later;
    loop_timer_set(&r->timer, 0);
}

/* The headers, and no way back to an error. */
static void begin(struct response *r)
{
    struct call *call = r->call;
    if (!call)
        return;
    loop_timer_clear(&r->timer);
    call->on_gone = NULL;
    r->call = NULL;
    outflow_begin(&r->flow, call, form_types[r->form], flow_over, r);
    call_free(call);
}

static void too_long(struct loop_timer *timer)
{
    begin(CONTAINER(timer, struct response, timer));
}

/* ---- records ---- */

static void record_begin(struct buf *text, struct jw *w, const char *type)
{
    *w = jw_on(text);
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, type);
}

static void record_end(struct response *r, const char *type, struct buf *text, struct jw *w)
{
    struct buf line = { 0 };
    jw_end(w);
    if (r->form == ANSWER_SSE)
        buf_printf(&line, "event: %s\ndata: ", type);
    flow_ascii(buf_view(text), &line);
    buf_span(&line, r->form == ANSWER_SSE ? SPAN("\n\n") : SPAN("\n"));
    outflow_put(&r->flow, buf_view(&line));
    buf_done(&line);
    buf_done(text);
}

static void put_start(struct response *r)
{
    struct buf text = { 0 };
    struct jw  w;
    if (r->started)
        return;
    r->started = true;
    begin(r);
    record_begin(&text, &w, "start");
    jw_key(&w, "request_id");
    jw_str(&w, r->id);
    jw_key(&w, "model");
    jw_str(&w, r->model);
    jw_key(&w, "stream_mode");
    jw_cstr(&w, "text-delta");
    jw_key(&w, "stream_version");
    jw_cstr(&w, "v2");
    record_end(r, "start", &text, &w);
}

static void got_chunk(void *user, enum model_chunk_kind kind, struct span delta)
{
    struct response *r = user;
    struct buf       text = { 0 };
    struct jw        w;
    if (r->form == ANSWER_JSON || kind != CHUNK_TEXT || !delta.n)
        return;
    put_start(r);
    record_begin(&text, &w, "update");
    jw_key(&w, "delta");
    jw_str(&w, delta);
    record_end(r, "update", &text, &w);
    outflow_flush(&r->flow);
}

static void put_completion(struct response *r, struct jv answer)
{
    struct buf text = { 0 };
    struct jw  w;
    put_start(r);
    if (jv_count(jv_get(answer, "tool_calls"))) {
        record_begin(&text, &w, "tool_use_stop");
        put_calls(&w, jv_get(answer, "tool_calls"));
        record_end(r, "tool_use_stop", &text, &w);
    }
    record_begin(&text, &w, "completion");
    jw_key(&w, "content");
    jw_raw(&w, jv_is(jv_get(answer, "text"), JSON_STRING) ? jv_raw(jv_get(answer, "text")) : SPAN("\"\""));
    jw_key(&w, "stop_reason");
    jw_raw(&w, stop_reason(answer));
    put_usage(&w, jv_get(answer, "usage"));
    put_calls(&w, jv_get(answer, "tool_calls"));
    record_end(r, "completion", &text, &w);
}

static void put_failure(struct response *r, const struct error *error)
{
    const struct err_info *info = err_info(error->code);
    struct buf             text = { 0 };
    struct jw              w;
    record_begin(&text, &w, "error");
    jw_key(&w, "code");
    jw_cstr(&w, info->wf_code);
    jw_key(&w, "message");
    jw_cstr(&w, error->message);
    jw_key(&w, "status");
    jw_i64(&w, info->wf_status);
    record_end(r, "error", &text, &w);
}

/* ---- the end ---- */

/* Nothing was said yet: an error is an error. Else a record says so, or the connection breaks. */
static void fail(struct response *r, struct jv failure)
{
    struct error error = { 0 };
    struct call *call = r->call;
    (void)response_failure(failure, &r->arena, &error);
    if (call) {
        call->on_gone = NULL;
        response_free(r);
        call_error(call, &error);
    } else if (r->form == ANSWER_JSON) {
        response_free(r);
    } else {
        put_failure(r, &error);
        outflow_end(&r->flow);
    }
}

static void succeed(struct response *r, struct jv answer)
{
    struct call *call = r->call;
    struct buf   text = { 0 };
    struct jw    w = jw_on(&text);
    if (r->form == ANSWER_JSON && call) {
        call->on_gone = NULL;
        response_put(&call->w, r->id, r->model, answer);
        response_free(r);
        call_send(call, 200);
        return;
    }
    if (r->form == ANSWER_JSON) {
        response_put(&w, r->id, r->model, answer);
        outflow_put(&r->flow, buf_view(&text));
        buf_done(&text);
    } else {
        put_completion(r, answer);
    }
    outflow_end(&r->flow);
}

static void got_end(void *user, enum err err, struct span result)
{
    struct response *r = user;
    struct jv        answer = json_read(arena_copy(&r->arena, result), &r->arena);
    r->model_call = NULL;
    if (err)
        fail(r, answer);
    else
        succeed(r, answer);
}

static bool accepts(struct call *call, const char *type)
{
    struct span accept;
    size_t      n = strlen(type);
    return http_header(call->req, "Accept", &accept) && accept.n >= n && memcmp(accept.p, type, n) == 0;
}

void flow_responses(struct call *call)
{
    struct loop         *loop = engine_loop(call->api->engine);
    struct response_want want;
    struct error         error = { 0 };
    if (!response_read(call, call->body, "", &want)) {
        call_invalid(call, ERR_VALIDATION);
        return;
    }
    if (response_state(call, call->body, &error)) {
        call_error(call, &error);
        return;
    }
    struct response *r = mem_alloc(sizeof *r);
    r->call = call;
    r->form = accepts(call, "application/x-ndjson") ? ANSWER_RECORDS : accepts(call, "text/event-stream") ? ANSWER_SSE : ANSWER_JSON;
    r->id = arena_copy(&r->arena, response_id(call));
    r->model = arena_copy(&r->arena, want.model);
    loop_timer_init(&r->timer, loop, too_long);
    struct model_call_config config = { .on_chunk = got_chunk, .on_end = got_end, .user = r };
    if (response_start(call, &want, &config, &r->model_call, &error)) {
        response_free(r);
        call_error(call, &error);
        return;
    }
    call->user = r;
    call->on_gone = client_gone;
    loop_timer_set(&r->timer, loop_now_us(loop) + (uint64_t)OUTFLOW_HEADERS_MS * 1000);
}
