/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.c - one HTTP request of a tool and its whole answer, with every way in which that can fail. */
#include "tool/inner.h"
#include <stdio.h>
#include <strings.h>

enum { BODY_SHOWN = 300 };

void tool_exchange_done(struct exchange *exchange)
{
    if (exchange->http)
        http_call_cancel(TAKE(exchange->http));
}

static bool name_is(struct span name, const char *other)
{
    return name.n == strlen(other) && strncasecmp(name.p, other, name.n) == 0;
}

static void on_header(void *user, struct span name, struct span value)
{
    struct tool_call *call = user;
    if (name_is(name, "location") && value.n < 8192)
        call->exchange.location = arena_copy(&call->arena, value).p;
}

static void on_head(void *user, int status, struct span content_type, int64_t retry_after_s)
{
    struct exchange *exchange = &((struct tool_call *)user)->exchange;
    size_t           n = 0;
    exchange->status = status;
    while (n < content_type.n && n < sizeof exchange->type - 1 && content_type.p[n] != ';' && content_type.p[n] > ' ') {
        char c = content_type.p[n];
        exchange->type[n++] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    exchange->type[n] = 0;
}

static void on_data(void *user, struct span data)
{
    struct tool_call *call = user;
    struct exchange  *exchange = &call->exchange;
    uint64_t          room = call->tool->max_bytes - exchange->body.len;
    if (data.n > room && call->tool->kind->cuts) {
        buf_put(&exchange->body, data.p, (size_t)room);
        exchange->cut = true;
        call->sent = true;
        tool_exchange_done(exchange);
        call->tool->kind->answer(call);
        return;
    }
    buf_span(&exchange->body, data); /* bounded by max_bytes otherwise */
}

static void on_done(void *user, enum err err, const struct error *error)
{
    struct tool_call *call = user;
    call->sent = call->sent || http_call_sent(call->exchange.http);
    call->exchange.http = NULL;
    switch (err) {
    case ERR_OK:
        call->tool->kind->answer(call);
        break;
    case ERR_TIMEOUT:
        tool_fail(call, "timeout", true, "%s", error->message);
        break;
    case ERR_TOO_LARGE:
        tool_fail(call, "too_large", false, "the answer is larger than %llu bytes", (unsigned long long)call->tool->max_bytes);
        break;
    case ERR_FORBIDDEN:
        tool_fail(call, "outbound_refused", false, "%s", error->message);
        break;
    default:
        tool_fail(call, "unavailable", true, "%s", error->message);
    }
}

void tool_exchange_start(struct tool_call *call, const struct exchange_request *request)
{
    struct exchange        *exchange = &call->exchange;
    struct error            error = { 0 };
    struct http_call_config config = {
        .method = request->method,
        .url = request->url,
        .headers = request->headers,
        .body = request->body,
        .trusted = call->tool->kind->trusted,
        .idle_timeout_ms = call->tool->timeout_ms,
        .max_bytes = call->tool->kind->cuts ? 0 : call->tool->max_bytes,
        .on_header = on_header,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .user = call,
    };
    exchange->url = request->url;
    exchange->location = NULL;
    exchange->status = 0;
    exchange->body.len = 0;
    enum err err = http_call_start(call->tools->client, &config, &exchange->http, &error);
    if (err == ERR_FORBIDDEN)
        tool_fail_later(call, "outbound_refused", false, "%s", error.message);
    else if (err)
        tool_fail_later(call, "invalid_url", false, "%s", error.message);
}

struct jv exchange_json(struct tool_call *call)
{
    struct json_limits limits = tool_json_limits();
    struct json       *doc = ARENA_NEW(&call->arena, struct json);
    if (json_parse(buf_view(&call->exchange.body), &limits, &call->arena, doc, NULL))
        return (struct jv){ 0 };
    return json_root(doc);
}

/* The message of an error body as most services write it, else its beginning as it stands. */
static struct span body_message(struct tool_call *call)
{
    struct jv body = exchange_json(call), error = jv_get(body, "error");
    struct jv message = jv_is(error, JSON_OBJECT) ? jv_get(error, "message") : jv_is(error, JSON_STRING) ? error : jv_get(body, "message");
    if (jv_is(message, JSON_STRING))
        return clean_text(jv_string(message, &call->arena), BODY_SHOWN, &call->arena);
    return clean_text(buf_view(&call->exchange.body), BODY_SHOWN, &call->arena);
}

void fail_status(struct tool_call *call, int status, bool body)
{
    struct span message = body ? body_message(call) : SPAN_NONE;
    const char *code = "rejected";
    bool        again = false;
    if (status == 401 || status == 403)
        code = "permission_denied";
    else if (status == 404 || status == 410)
        code = "not_found";
    else if (status == 408 || status == 504) {
        code = "timeout";
        again = true;
    } else if (status == 429) {
        code = "rate_limited";
        again = true;
    } else if (status == 425 || status >= 500) {
        code = "unavailable";
        again = status != 501;
    } else if (status == 413) {
        code = "too_large";
    } else if (status < 400) {
        code = "invalid_response";
    }
    tool_fail(call, code, again, "status %d%s%.*s", status, message.n ? ": " : "", SPAN_ARG(message));
}
