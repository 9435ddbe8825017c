/* SPDX-License-Identifier: Apache-2.0 */
/* provider_openai_chat.c - any server that speaks OpenAI's chat completions: POST {base_url}/chat/completions, streamed.
 *
 * Many servers speak it nearly. What is tolerated, because real ones do it: an answer that is not streamed though we asked,
 * no [DONE] behind a finish_reason, no finish_reason before [DONE], usage in a chunk without choices or not at all, errors in
 * the middle of the stream, comments as keep-alive. What is not: bytes that are no JSON, another content type, an end before
 * either sign of the end. Bounds: an event EVENT_MAX, the answer ANSWER_MAX. */
#include "base/utf8.h"
#include "model/provider.h"
#include "net/sse_parse.h"
#include <strings.h>

enum {
    EVENT_MAX = 1 << 20,
    ANSWER_MAX = 16 << 20,
    STREAM_MAX = 1 << 30,  /* bytes on the wire; each token comes in a few hundred */
    FAULT_MAX = 64 << 10,  /* of the body of an error, the rest is not looked at */
    MESSAGE_MAX = 500,
    TOOL_CALLS_MAX = 128,
    DONE_GRACE_US = 250000, /* from [DONE] to the end of the response; then we hang up */
    RETRY_AFTER_MAX_S = 86400,
};

struct tool_call {
    struct buf id, name, arguments;
};

enum body_mode { BODY_STREAM, BODY_JSON, BODY_FAULT };

struct chat_call {
    struct model_call call; /* first */
    struct http_call *http;
    struct loop_timer grace;
    enum body_mode    mode;
    bool              head, done; /* the head has come; [DONE] has come */
    int               status;
    int64_t           retry_after_s;
    struct sse_parser sse;
    struct arena      scratch; /* of one event */
    struct buf        body;    /* BODY_JSON, BODY_FAULT */
    struct buf        text, finish_reason, model, response_id;
    size_t            answer_bytes; /* of all kinds of chunks */
    int64_t           input_tokens, output_tokens; /* -1: not told */
    struct tool_call *tools;
    size_t            tool_count;
};

/* ---- failures ---- */

struct status_class {
    int         from, to;
    const char *code, *category;
    bool        retryable;
};

/* The first line that fits. */
static const struct status_class status_classes[] = {
    { 401, 401, "authentication_failed", "auth",       false },
    { 403, 403, "permission_denied",     "auth",       false },
    { 404, 404, "not_found",             "not_found",  false },
    { 408, 408, "timeout",               "timeout",    true },
    { 400, 400, "invalid_request",       "validation", false },
    { 413, 413, "request_too_large",     "validation", false },
    { 422, 422, "invalid_request",       "validation", false },
    { 429, 429, "rate_limited",          "rate_limit", true },
    { 504, 504, "timeout",               "timeout",    true },
    { 500, 599, "provider_error",        "provider",   true },
    { 0,   999, "provider_rejected",     "provider",   false },
};

/* Errors in a stream have no status, and some answers are clearer than their status. By error.type or error.code. */
static const struct {
    const char *name;
    int         status; /* is treated like it */
    bool        final;  /* never worth another try */
} known_errors[] = {
    { "insufficient_quota",      429, true },
    { "billing_not_active",      429, true },
    { "rate_limit_exceeded",     429, false },
    { "rate_limit_error",        429, false },
    { "tokens",                  429, false },
    { "requests",                429, false },
    { "invalid_request_error",   400, false },
    { "BadRequestError",         400, false },
    { "context_length_exceeded", 400, false },
    { "authentication_error",    401, false },
    { "invalid_api_key",         401, false },
    { "permission_error",        403, false },
    { "not_found_error",         404, false },
    { "model_not_found",         404, false },
    { "timeout",                 408, false },
    { "server_error",            500, false },
    { "overloaded_error",        503, false },
};

static const struct status_class *status_class(int status)
{
    const struct status_class *class = status_classes;
    while (status < class->from || status > class->to)
        class++;
    return class;
}

static struct failure failure_of(const char *code, const char *category, bool retryable, const char *message)
{
    return (struct failure){ .code = code, .category = category, .retryable = retryable, .message = span_of(message),
                             .retry_after_ms = -1 };
}

static void chat_fail(struct chat_call *chat, struct failure failure)
{
    struct arena *arena = &chat->call.arena;
    failure.message = provider_clean_text(chat->call.provider, failure.message, MESSAGE_MAX, arena);
    failure.provider_code = provider_clean_text(chat->call.provider, failure.provider_code, 128, arena);
    provider_fail(&chat->call, &failure);
}

/* {"error": {"message", "type", "code"}} and its relatives: "error" may be a text, and the object may be the error itself. */
struct provider_fault {
    struct span message, code, type;
    int         status; /* a code that is a number; 0: none */
};

static struct provider_fault fault_read(struct jv body, struct arena *arena)
{
    struct jv             error = jv_get(body, "error");
    struct provider_fault fault = { 0 };
    int64_t               number;

    if (jv_is(error, JSON_STRING)) {
        fault.message = jv_string(error, arena);
        return fault;
    }
    if (!jv_is(error, JSON_OBJECT))
        error = body;
    struct jv code = jv_get(error, "code");
    fault.message = jv_string(jv_get(error, "message"), arena);
    if (!fault.message.p)
        fault.message = jv_string(jv_get(error, "detail"), arena);
    fault.code = jv_is(code, JSON_NUMBER) ? jv_raw(code) : jv_string(code, arena);
    fault.type = jv_string(jv_get(error, "type"), arena);
    if (jv_i64(code, &number) && number >= 400 && number <= 599)
        fault.status = (int)number;
    return fault;
}

/* The status of the response wins over what the body calls it, but for the codes that say that trying again is pointless. */
static void fail_by_fault(struct chat_call *chat, int status, const struct provider_fault *fault)
{
    bool final = false;
    for (size_t i = 0; i < ARRAY_LEN(known_errors); i++) {
        if (!span_is(fault->code, known_errors[i].name) && !span_is(fault->type, known_errors[i].name))
            continue;
        final = final || known_errors[i].final;
        status = status ? status : known_errors[i].status;
    }
    const struct status_class *class = status_class(status ? status : fault->status ? fault->status : 500);
    struct failure failure = failure_of(class->code, class->category, class->retryable && !final, NULL);
    failure.message = fault->message;
    failure.provider_code = fault->code.n ? fault->code : fault->type;
    if (failure.retryable && chat->retry_after_s >= 0)
        failure.retry_after_ms = (chat->retry_after_s < RETRY_AFTER_MAX_S ? chat->retry_after_s : RETRY_AFTER_MAX_S) * 1000;
    if (!failure.message.n)
        failure.message = arena_printf(&chat->scratch, "the provider answered with status %d", chat->status);
    chat_fail(chat, failure);
}

static void fail_by_status(struct chat_call *chat)
{
    static const struct json_limits limits = { .depth = 32, .entries = 4096, .lone_surrogates = true };
    struct provider_fault           fault = { 0 };
    struct json                     doc;
    if (!json_parse(buf_view(&chat->body), &limits, &chat->scratch, &doc, NULL))
        fault = fault_read(json_root(&doc), &chat->scratch);
    fail_by_fault(chat, chat->status, &fault);
}

static void fail_stream(struct chat_call *chat, const char *message)
{
    chat_fail(chat, failure_of("invalid_stream", "provider", true, message));
}

static void fail_size(struct chat_call *chat)
{
    chat_fail(chat, failure_of("answer_too_large", "provider", false, "the answer is larger than what is accepted"));
}

/* ---- the result ---- */

static void put_tools(const struct chat_call *chat, struct jw *w)
{
    jw_arr(w);
    for (size_t i = 0; i < chat->tool_count; i++) {
        const struct tool_call *tool = &chat->tools[i];
        jw_obj(w);
        jw_key(w, "id");        jw_str(w, buf_view(&tool->id));
        jw_key(w, "name");      jw_str(w, buf_view(&tool->name));
        jw_key(w, "arguments"); jw_str(w, buf_view(&tool->arguments));
        jw_end(w);
    }
    jw_arr_end(w);
}

static struct span finish_reason(const struct chat_call *chat)
{
    if (chat->finish_reason.len)
        return buf_view(&chat->finish_reason);
    return chat->tool_count ? SPAN("tool_calls") : SPAN("stop");
}

static void put_result(const struct chat_call *chat, struct buf *out)
{
    struct jw w = jw_on(out);

    jw_obj(&w);
    jw_key(&w, "text");          jw_str(&w, buf_view(&chat->text));
    jw_key(&w, "finish_reason"); jw_str(&w, finish_reason(chat));
    if (chat->input_tokens >= 0 && chat->output_tokens >= 0) {
        jw_key(&w, "usage");
        jw_obj(&w);
        jw_key(&w, "input_tokens");  jw_i64(&w, chat->input_tokens);
        jw_key(&w, "output_tokens"); jw_i64(&w, chat->output_tokens);
        jw_end(&w);
    }
    if (chat->model.len) {
        jw_key(&w, "model");
        jw_str(&w, buf_view(&chat->model));
    }
    if (chat->response_id.len) {
        jw_key(&w, "response_id");
        jw_str(&w, buf_view(&chat->response_id));
    }
    if (chat->tool_count) {
        jw_key(&w, "tool_calls");
        put_tools(chat, &w);
    }
    jw_end(&w);
}

static void chat_succeed(struct chat_call *chat)
{
    struct buf result = { 0 };
    put_result(chat, &result);
    call_end(&chat->call, ERR_OK, buf_view(&result));
    buf_done(&result);
}

/* ---- reading: each function returns false when the call is over ---- */

static bool take_text(struct chat_call *chat, enum model_chunk_kind kind, struct span text, struct buf *keep)
{
    if (!text.n)
        return true;
    if (text.n > ANSWER_MAX - chat->answer_bytes) {
        fail_size(chat);
        return false;
    }
    chat->answer_bytes += text.n;
    if (keep)
        buf_span(keep, text);
    return call_chunk(&chat->call, kind, text);
}

static struct tool_call *tool_at(struct chat_call *chat, struct jv delta)
{
    int64_t index;
    bool    told = jv_i64(jv_get(delta, "index"), &index);
    if (!told) /* some servers send whole calls without an index, and pieces without an id */
        index = (int64_t)chat->tool_count - (jv_is(jv_get(delta, "id"), JSON_STRING) || !chat->tool_count ? 0 : 1);
    if (index < 0 || index >= TOOL_CALLS_MAX)
        return NULL;
    if (!chat->tools)
        chat->tools = ARENA_ARRAY(&chat->call.arena, struct tool_call, TOOL_CALLS_MAX);
    if ((size_t)index >= chat->tool_count)
        chat->tool_count = (size_t)index + 1;
    return &chat->tools[index];
}

/* Some servers repeat id and name in each piece. */
static void set_once(struct buf *buf, struct span text)
{
    if (!buf->len)
        buf_put(buf, text.p, text.n < 512 ? text.n : utf8_cut(text.p, 512));
}

static bool take_tool(struct chat_call *chat, struct jv delta)
{
    struct jv         function = jv_get(delta, "function");
    struct tool_call *tool = tool_at(chat, delta);
    if (!tool) {
        fail_stream(chat, "a tool call has an index that is out of range");
        return false;
    }
    set_once(&tool->id, jv_string(jv_get(delta, "id"), &chat->scratch));
    set_once(&tool->name, jv_string(jv_get(function, "name"), &chat->scratch));
    return take_text(chat, CHUNK_TOOL_ARGUMENTS, jv_string(jv_get(function, "arguments"), &chat->scratch), &tool->arguments);
}

static bool take_tools(struct chat_call *chat, struct jv list)
{
    if (!jv_is(list, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(list); jv_step(&it);)
        if (!take_tool(chat, it.value))
            return false;
    return true;
}

static const struct {
    const char           *name;
    enum model_chunk_kind kind;
} text_members[] = {
    { "reasoning_content", CHUNK_REASONING },
    { "reasoning",         CHUNK_REASONING },
    { "content",           CHUNK_TEXT },
    { "refusal",           CHUNK_TEXT },
};

/* A delta, or the message of an answer that is not streamed: the members are the same. */
static bool take_message(struct chat_call *chat, struct jv message)
{
    bool reasoned = false; /* servers that send reasoning under both names send the same text twice */
    for (size_t i = 0; i < ARRAY_LEN(text_members); i++) {
        enum model_chunk_kind kind = text_members[i].kind;
        struct jv             value = jv_get(message, text_members[i].name);
        if (jv_is(value, JSON_NONE) || jv_is(value, JSON_NULL) || (kind == CHUNK_REASONING && reasoned))
            continue;
        if (!jv_is(value, JSON_STRING)) {
            if (kind == CHUNK_REASONING)
                continue;
            fail_stream(chat, "a piece of the answer is not a text");
            return false;
        }
        struct span text = jv_string(value, &chat->scratch);
        reasoned = reasoned || (kind == CHUNK_REASONING && text.n);
        if (!take_text(chat, kind, text, kind == CHUNK_TEXT ? &chat->text : NULL))
            return false;
    }
    return take_tools(chat, jv_get(message, "tool_calls"));
}

static void take_usage(struct chat_call *chat, struct jv usage)
{
    int64_t input, output;
    if (jv_i64(jv_get(usage, "prompt_tokens"), &input) && jv_i64(jv_get(usage, "completion_tokens"), &output) && input >= 0 &&
        output >= 0) {
        chat->input_tokens = input;
        chat->output_tokens = output;
    }
}

static bool take_choices(struct chat_call *chat, struct jv choices, const char *member)
{
    if (!jv_is(choices, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(choices); jv_step(&it);) {
        int64_t index;
        if (jv_i64(jv_get(it.value, "index"), &index) && index != 0)
            continue; /* one answer was asked for */
        if (!take_message(chat, jv_get(it.value, member)))
            return false;
        struct span reason = jv_string(jv_get(it.value, "finish_reason"), &chat->scratch);
        if (reason.n)
            set_once(&chat->finish_reason, span_make(reason.p, reason.n < 64 ? reason.n : utf8_cut(reason.p, 64)));
    }
    return true;
}

static bool take_answer(struct chat_call *chat, struct jv answer, const char *member)
{
    if (!jv_is(answer, JSON_OBJECT)) {
        fail_stream(chat, "the answer holds something that is not an object");
        return false;
    }
    struct jv error = jv_get(answer, "error");
    if (jv_is(error, JSON_OBJECT) || jv_is(error, JSON_STRING) || jv_str_eq(jv_get(answer, "object"), "error")) {
        struct provider_fault fault = fault_read(answer, &chat->scratch);
        fail_by_fault(chat, 0, &fault);
        return false;
    }
    set_once(&chat->response_id, jv_string(jv_get(answer, "id"), &chat->scratch));
    set_once(&chat->model, jv_string(jv_get(answer, "model"), &chat->scratch));
    take_usage(chat, jv_get(answer, "usage"));
    return take_choices(chat, jv_get(answer, "choices"), member);
}

static bool take_document(struct chat_call *chat, struct span text, const char *member)
{
    static const struct json_limits limits = { .depth = 64, .lone_surrogates = true };
    struct json                     doc;
    arena_reset(&chat->scratch);
    if (json_parse(text, &limits, &chat->scratch, &doc, NULL)) {
        fail_stream(chat, "the answer holds something that is not JSON");
        return false;
    }
    return take_answer(chat, json_root(&doc), member);
}

static bool on_event(void *user, const struct sse_event *event)
{
    struct chat_call *chat = user;
    if (!span_is(event->data, "[DONE]"))
        return take_document(chat, event->data, "delta");
    chat->done = true;
    loop_timer_set(&chat->grace, loop_now_us(chat->call.loop) + DONE_GRACE_US);
    return false;
}

/* ---- the response ---- */

static bool type_is(struct span type, const char *name)
{
    size_t n = strlen(name);
    return type.n >= n && strncasecmp(type.p, name, n) == 0 && (type.n == n || memchr("; \t", type.p[n], 3));
}

static void fail_by_type(struct chat_call *chat, struct span type)
{
    struct failure failure = failure_of("unexpected_content_type", "provider", false, NULL);
    failure.message = type.n ? arena_printf(&chat->scratch, "the provider answered with content type %.*s, expected "
                                            "text/event-stream or application/json", (int)(type.n < 100 ? type.n : 100), type.p)
                             : SPAN("the provider answered without a content type");
    chat_fail(chat, failure);
}

static void on_head(void *user, int status, struct span content_type, int64_t retry_after_s)
{
    struct chat_call *chat = user;
    call_enter(&chat->call);
    chat->head = true;
    chat->status = status;
    chat->retry_after_s = retry_after_s;
    if (status < 200 || status > 299)
        chat->mode = BODY_FAULT;
    else if (type_is(content_type, "text/event-stream"))
        chat->mode = BODY_STREAM;
    else if (type_is(content_type, "application/json"))
        chat->mode = BODY_JSON;
    else
        fail_by_type(chat, content_type);
    call_leave(&chat->call);
}

static void keep_fault(struct chat_call *chat, struct span data)
{
    size_t room = FAULT_MAX - chat->body.len;
    buf_put(&chat->body, data.p, data.n < room ? data.n : room);
}

static void keep_json(struct chat_call *chat, struct span data)
{
    if (data.n > 2u * ANSWER_MAX - chat->body.len)
        fail_size(chat);
    else
        buf_span(&chat->body, data);
}

static void on_data(void *user, struct span data)
{
    struct chat_call *chat = user;
    call_enter(&chat->call);
    switch (chat->mode) {
    case BODY_FAULT: keep_fault(chat, data); break;
    case BODY_JSON:  keep_json(chat, data); break;
    case BODY_STREAM:
        if (sse_feed(&chat->sse, data, on_event, chat) && !chat->call.closed)
            fail_size(chat);
        break;
    }
    call_leave(&chat->call);
}

/* A complete response. */
static void finish(struct chat_call *chat)
{
    switch (chat->mode) {
    case BODY_FAULT:
        fail_by_status(chat);
        break;
    case BODY_JSON:
        if (take_document(chat, buf_view(&chat->body), "message"))
            chat_succeed(chat);
        break;
    case BODY_STREAM:
        if (chat->done || chat->finish_reason.len)
            chat_succeed(chat);
        else
            chat_fail(chat, failure_of("stream_cut", "network", true, "the stream ended before the answer did"));
        break;
    }
}

/* No complete response. A stream whose end we have read is good all the same. */
static void finish_badly(struct chat_call *chat, enum err err, const struct error *error)
{
    struct failure failure = failure_of(chat->head ? "stream_cut" : "connection_failed", "network", true, error->message);
    if (chat->head && chat->mode == BODY_STREAM && (chat->done || chat->finish_reason.len)) {
        chat_succeed(chat);
        return;
    }
    if (err == ERR_TOO_LARGE) {
        fail_size(chat);
        return;
    }
    if (chat->head && chat->mode == BODY_FAULT) {
        fail_by_status(chat); /* the status says more than the missing rest of its body */
        return;
    }
    if (err == ERR_TIMEOUT)
        failure = failure_of("timeout", "timeout", true, error->message);
    chat_fail(chat, failure);
}

static void on_done(void *user, enum err err, const struct error *error)
{
    struct chat_call *chat = user;
    chat->http = NULL; /* it is gone when we return */
    call_enter(&chat->call);
    if (err)
        finish_badly(chat, err, error);
    else
        finish(chat);
    call_leave(&chat->call);
}

static void on_grace(struct loop_timer *timer)
{
    struct chat_call *chat = CONTAINER(timer, struct chat_call, grace);
    call_enter(&chat->call);
    chat_succeed(chat);
    call_leave(&chat->call);
}

/* ---- the request ---- */

static void put_body(const struct model_call *call, const struct model_request *want, struct buf *out)
{
    struct buf messages = { 0 };
    struct jw  w = jw_on(out);

    json_minify(want->messages, &messages);
    jw_obj(&w);
    jw_key(&w, "model");          jw_str(&w, call->model);
    jw_key(&w, "messages");       jw_raw(&w, buf_view(&messages));
    jw_key(&w, "stream");         jw_bool(&w, true);
    jw_key(&w, "stream_options"); jw_raw(&w, SPAN("{\"include_usage\":true}"));
    if (jv_is(want->max_tokens, JSON_NUMBER)) {
        jw_key(&w, "max_tokens");
        jw_raw(&w, jv_raw(want->max_tokens));
    }
    if (jv_is(want->temperature, JSON_NUMBER)) {
        jw_key(&w, "temperature");
        jw_raw(&w, jv_raw(want->temperature));
    }
    jw_end(&w);
    buf_done(&messages);
}

static enum err send_request(struct chat_call *chat, struct span body, struct error *error)
{
    struct model_call          *call = &chat->call;
    const struct provider_http *http = &call->provider->http;
    const char                 *headers[HEADERS_MAX + 8];
    size_t                      count = 0;

    headers[count++] = "Content-Type: application/json";
    headers[count++] = "Accept: text/event-stream, application/json";
    for (size_t i = 0; http->headers[i]; i++)
        headers[count++] = http->headers[i];
    headers[count] = NULL;
    struct http_call_config config = {
        .method = "POST",
        .trusted = true, /* the configuration names it */
        .url = arena_printf(&call->arena, "%.*s/chat/completions", SPAN_ARG(http->base_url)).p,
        .headers = headers,
        .body = body,
        .connect_timeout_ms = http->connect_timeout_ms,
        .idle_timeout_ms = http->idle_timeout_ms,
        .max_bytes = STREAM_MAX,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .user = chat,
    };
    return http_call_start(call->client, &config, &chat->http, error);
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

static enum err chat_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    struct chat_call    *chat = (struct chat_call *)call;
    struct model_request want;
    struct buf           body = { 0 };

    assert(skip_chunks == 0); /* not resumable */
    sse_init(&chat->sse, EVENT_MAX);
    loop_timer_init(&chat->grace, call->loop, on_grace);
    chat->input_tokens = chat->output_tokens = chat->retry_after_s = -1;
    enum err err = request_read(call, request, &want, error);
    if (err || (err = check_request(call, &want, error)))
        return err;
    put_body(call, &want, &body);
    err = send_request(chat, buf_view(&body), error);
    buf_done(&body);
    return err;
}

static void chat_close(struct model_call *call)
{
    struct chat_call *chat = (struct chat_call *)call;
    loop_timer_clear(&chat->grace);
    if (chat->http)
        http_call_cancel(TAKE(chat->http));
}

static void chat_release(struct model_call *call)
{
    struct chat_call *chat = (struct chat_call *)call;
    for (size_t i = 0; i < chat->tool_count; i++) {
        buf_done(&chat->tools[i].id);
        buf_done(&chat->tools[i].name);
        buf_done(&chat->tools[i].arguments);
    }
    buf_done(&chat->text);
    buf_done(&chat->finish_reason);
    buf_done(&chat->model);
    buf_done(&chat->response_id);
    buf_done(&chat->body);
    sse_done(&chat->sse);
    arena_done(&chat->scratch);
}

const struct provider_ops provider_openai_chat = {
    .kind = "openai-chat",
    .call_size = sizeof(struct chat_call),
    .check_path = "/models",
    .start = chat_start,
    .close = chat_close,
    .release = chat_release,
};
