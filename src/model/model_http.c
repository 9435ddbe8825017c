/* SPDX-License-Identifier: Apache-2.0 */
/* model_http.c - sends a request and reads the answer, for all providers that are spoken to over HTTP. */
#include "model/model_http.h"
#include <stdio.h>
#include <strings.h>

/* ---- failures ---- */

bool model_http_fail(struct model_http *x, struct failure failure)
{
    struct arena *arena = &x->call.arena;
    failure.message = provider_clean_text(x->call.provider, failure.message, MESSAGE_MAX, arena);
    failure.provider_code = provider_clean_text(x->call.provider, failure.provider_code, 128, arena);
    provider_fail(&x->call, &failure);
    return false;
}

bool model_http_bad(struct model_http *x, const char *message)
{
    return model_http_fail(x, failure_of("invalid_stream", "provider", true, message));
}

bool model_http_fault(struct model_http *x, struct jv error)
{
    struct provider_fault fault = fault_read(error, &x->scratch);
    return model_http_fail(x, fault_class(&fault, 0, x->retry_after_ms, &x->scratch));
}

static void fail_by_status(struct model_http *x)
{
    static const struct json_limits limits = { .depth = 32, .entries = 4096, .lone_surrogates = true };
    struct provider_fault           fault = { 0 };
    struct json                     doc;
    if (!json_parse(buf_view(&x->body), &limits, &x->scratch, &doc, NULL))
        fault = fault_read(json_root(&doc), &x->scratch);
    model_http_fail(x, fault_class(&fault, x->status, x->retry_after_ms, &x->scratch));
}

static bool fail_size(struct model_http *x)
{
    return model_http_fail(x, failure_of("answer_too_large", "provider", false, "the answer is larger than what is accepted"));
}

/* ---- the answer ---- */

bool model_http_count(struct model_http *x, size_t bytes)
{
    if (bytes > ANSWER_MAX - x->answer_bytes)
        return fail_size(x);
    x->answer_bytes += bytes;
    return true;
}

bool model_http_text(struct model_http *x, enum model_chunk_kind kind, struct span text, struct buf *keep)
{
    if (!text.n)
        return true;
    if (!model_http_count(x, text.n))
        return false;
    buf_span(keep, text);
    return call_chunk(&x->call, kind, text);
}

static void succeed(struct model_http *x)
{
    struct buf result = { 0 };
    if (x->protocol->finish && !x->protocol->finish(x))
        return;
    if (!answer_tools_complete(&x->answer)) {
        model_http_bad(x, "a tool call has no name");
        return;
    }
    answer_to_json(&x->answer, &result);
    call_end(&x->call, ERR_OK, buf_view(&result));
    buf_done(&result);
}

bool model_http_done(struct model_http *x)
{
    x->done = true;
    loop_timer_set(&x->grace, loop_now_us(x->call.loop) + DONE_GRACE_US);
    return false;
}

static bool is_error(struct jv answer)
{
    struct jv error = jv_get(answer, "error");
    return jv_is(error, JSON_OBJECT) || jv_is(error, JSON_STRING) || jv_str_eq(jv_get(answer, "object"), "error") ||
           jv_str_eq(jv_get(answer, "type"), "error");
}

static bool take_document(struct model_http *x, struct span text, bool (*take)(struct model_http *x, struct jv value))
{
    static const struct json_limits limits = { .depth = 64, .lone_surrogates = true };
    struct json                     doc;
    arena_reset(&x->scratch);
    if (json_parse(text, &limits, &x->scratch, &doc, NULL))
        return model_http_bad(x, "the answer holds something that is not JSON");
    struct jv root = json_root(&doc);
    if (!jv_is(root, JSON_OBJECT))
        return model_http_bad(x, "the answer holds something that is not an object");
    /* An answer of OpenAI's Responses has a member "error" that says why its status is "failed". */
    return is_error(root) ? model_http_fault(x, root) : take(x, root);
}

static bool on_event(void *user, const struct sse_event *event)
{
    struct model_http *x = user;
    if (span_is(event->data, "[DONE]"))
        return model_http_done(x);
    return take_document(x, event->data, x->protocol->take_event);
}

/* ---- the response ---- */

static bool type_is(struct span type, const char *name)
{
    size_t n = strlen(name);
    return type.n >= n && strncasecmp(type.p, name, n) == 0 && (type.n == n || (type.p[n] && strchr("; \t", type.p[n])));
}

static void fail_by_type(struct model_http *x, struct span type)
{
    struct failure failure = failure_of("unexpected_content_type", "provider", false, NULL);
    failure.message = type.n ? arena_printf(&x->scratch, "the provider answered with content type %.*s, expected "
                                            "text/event-stream or application/json", (int)(type.n < 100 ? type.n : 100), type.p)
                             : SPAN("the provider answered without a content type");
    model_http_fail(x, failure);
}

static void on_header(void *user, struct span name, struct span value)
{
    static const char wanted[] = "retry-after-ms";
    struct model_http  *x = user;
    if (name.n == sizeof wanted - 1 && strncasecmp(name.p, wanted, name.n) == 0)
        snprintf(x->retry_ms_text, sizeof x->retry_ms_text, "%.*s", SPAN_ARG(value));
}

void model_http_on_head(void *user, int status, struct span content_type, int64_t retry_after_s)
{
    struct model_http *x = user;
    call_enter(&x->call);
    x->head = true;
    x->status = status;
    x->retry_after_ms = fault_retry_after(retry_after_s, span_of(x->retry_ms_text));
    if (status < 200 || status > 299)
        x->mode = BODY_FAULT;
    else if (type_is(content_type, "text/event-stream"))
        x->mode = BODY_STREAM;
    else if (type_is(content_type, "application/json"))
        x->mode = BODY_JSON;
    else
        fail_by_type(x, content_type);
    call_leave(&x->call);
}

static void keep_fault(struct model_http *x, struct span data)
{
    size_t room = FAULT_MAX - x->body.len;
    buf_put(&x->body, data.p, data.n < room ? data.n : room);
}

static void keep_json(struct model_http *x, struct span data)
{
    if (data.n > 2u * ANSWER_MAX - x->body.len)
        fail_size(x);
    else
        buf_span(&x->body, data);
}

void model_http_on_data(void *user, struct span data)
{
    struct model_http *x = user;
    call_enter(&x->call);
    switch (x->mode) {
    case BODY_FAULT: keep_fault(x, data); break;
    case BODY_JSON:  keep_json(x, data); break;
    case BODY_STREAM:
        if (sse_feed(&x->sse, data, on_event, x) && !x->call.closed)
            fail_size(x);
        break;
    }
    call_leave(&x->call);
}

static bool has_end(const struct model_http *x)
{
    return x->done || x->answer.finish;
}

/* A complete response. */
static void finish(struct model_http *x)
{
    switch (x->mode) {
    case BODY_FAULT:
        fail_by_status(x);
        break;
    case BODY_JSON:
        if (take_document(x, buf_view(&x->body), x->protocol->take_whole))
            succeed(x);
        break;
    case BODY_STREAM:
        if (has_end(x))
            succeed(x);
        else
            model_http_fail(x, failure_of("stream_cut", "network", true, "the stream ended before the answer did"));
        break;
    }
}

/* No complete response. A stream whose end we have read is good all the same. */
static void finish_badly(struct model_http *x, enum err err, const struct error *error)
{
    struct failure failure = failure_of(x->head ? "stream_cut" : "connection_failed", "network", true, error->message);
    if (x->head && x->mode == BODY_STREAM && has_end(x)) {
        succeed(x);
        return;
    }
    if (err == ERR_TOO_LARGE) {
        fail_size(x);
        return;
    }
    if (x->head && x->mode == BODY_FAULT) {
        fail_by_status(x); /* the status says more than the missing rest of its body */
        return;
    }
    if (err == ERR_TIMEOUT)
        failure = failure_of("timeout", "timeout", true, error->message);
    model_http_fail(x, failure);
}

void model_http_on_done(void *user, enum err err, const struct error *error)
{
    struct model_http *x = user;
    x->http = NULL; /* it is gone when we return */
    call_enter(&x->call);
    if (err)
        finish_badly(x, err, error);
    else
        finish(x);
    call_leave(&x->call);
}

static void on_grace(struct loop_timer *timer)
{
    struct model_http *x = CONTAINER(timer, struct model_http, grace);
    call_enter(&x->call);
    succeed(x);
    call_leave(&x->call);
}

/* ---- the request ---- */

static enum err send_request(struct model_http *x, struct span body, struct error *error)
{
    struct model_call          *call = &x->call;
    const struct provider_http *http = &call->provider->http;
    const char                 *headers[HEADERS_MAX + 8];
    size_t                      count = 0;

    headers[count++] = "Content-Type: application/json";
    headers[count++] = http->whole ? "Accept: application/json, text/event-stream" : "Accept: text/event-stream, application/json";
    for (size_t i = 0; http->headers[i]; i++)
        headers[count++] = http->headers[i];
    headers[count] = NULL;
    struct http_call_config config = {
        .method = "POST",
        .url = arena_printf(&call->arena, "%.*s%s", SPAN_ARG(http->base_url), x->protocol->path).p,
        .headers = headers,
        .body = body,
        .connect_timeout_ms = http->connect_timeout_ms,
        .idle_timeout_ms = http->idle_timeout_ms,
        .max_bytes = STREAM_MAX,
        .trusted = true,
        .on_header = on_header,
        .on_head = model_http_on_head,
        .on_data = model_http_on_data,
        .on_done = model_http_on_done,
        .user = x,
    };
    return http_call_start(call->client, &config, &x->http, error);
}

static enum err check_request(const struct model_call *call, const struct model_request *want, struct error *error)
{
    if (!call->model.n)
        return field_error(error, "", SPAN("model"), "is required");
    if (!jv_is(want->messages, JSON_ARRAY) || jv_count(want->messages) == 0)
        return field_error(error, "", SPAN("messages"), "at least one is required");
    if (jv_is(want->script, JSON_OBJECT))
        return field_error(error, "", SPAN("script"), "only the provider 'scripted' has one");
    return ERR_OK;
}

void model_http_init(struct model_http *x, const struct protocol *protocol)
{
    x->protocol = protocol;
    x->retry_after_ms = -1;
    sse_init(&x->sse, EVENT_MAX);
    loop_timer_init(&x->grace, x->call.loop, on_grace);
}

enum err model_http_start(struct model_call *call, const struct protocol *protocol, struct jv request, struct error *error)
{
    struct model_http     *x = (struct model_http *)call;
    struct model_request want;
    struct buf           body = { 0 };
    struct jw            w = jw_on(&body);

    model_http_init(x, protocol);
    enum err err = request_check(request, &call->arena, &want, error);
    if (err || (err = check_request(call, &want, error)))
        return err;
    err = protocol->put_body(x, &want, &w, error);
    if (!err)
        err = send_request(x, buf_view(&body), error);
    buf_done(&body);
    return err;
}

void model_http_close(struct model_call *call)
{
    struct model_http *x = (struct model_http *)call;
    loop_timer_clear(&x->grace);
    if (x->http)
        http_call_cancel(TAKE(x->http));
}

void model_http_release(struct model_call *call)
{
    struct model_http *x = (struct model_http *)call;
    answer_done(&x->answer);
    buf_done(&x->body);
    sse_done(&x->sse);
    arena_done(&x->scratch);
}
