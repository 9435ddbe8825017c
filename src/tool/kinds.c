/* SPDX-License-Identifier: Apache-2.0 */
/* kinds.c - the kinds of tools that are one HTTP request: http, http_fetch, web_search, code_exec.
 *
 * Only http_fetch asks a URL that a model chose: it is not trusted, follows redirects itself so that each of them is checked again,
 * sends no header of the configuration, and gives text only. */
#include "base/ids.h"
#include "tool/inner.h"
#include <stdio.h>

enum { SIGN_HEADERS = 4 };

static bool status_ok(int status)
{
    return status >= 200 && status <= 299;
}

/* The endpoint's headers and `more`, in the arena, with what signs the body. */
static const char *const *headers_of(struct tool_call *call, struct span body)
{
    const struct endpoint *endpoint = &call->tool->endpoint;
    const char           **headers = ARENA_ARRAY(&call->arena, const char *, HEADERS_MAX + 4 + SIGN_HEADERS);
    size_t                 n = 0;
    for (; endpoint->headers[n]; n++)
        headers[n] = endpoint->headers[n];
    if (body.n)
        headers[n++] = "Content-Type: application/json";
    if (call->key.n)
        headers[n++] = arena_printf(&call->arena, "Idempotency-Key: %.*s", SPAN_ARG(call->key)).p;
    if (endpoint->sign_key.n) {
        struct env *env = loop_env(call->tools->loop);
        struct buf  text = { 0 }, line = { 0 };
        buf_printf(&text, "%lld", (long long)(env->wall_ms(env) / 1000));
        headers[n++] = arena_printf(&call->arena, "Perdure-Timestamp: %.*s", SPAN_ARG(buf_view(&text))).p;
        buf_byte(&text, '.');
        buf_span(&text, body);
        struct sha256 digest = hmac_sha256(endpoint->sign_key, buf_view(&text));
        BUF_LIT(&line, "Perdure-Signature: v1=");
        buf_hex(&line, digest.b, sizeof digest.b);
        headers[n++] = arena_copy(&call->arena, buf_view(&line)).p;
        buf_done(&text);
        buf_done(&line);
    }
    return headers;
}

static bool has_secrets(struct tool_call *call)
{
    if (!call->tool->endpoint.missing)
        return true;
    tool_fail_later(call, "not_configured", false, "%s", call->tool->endpoint.missing);
    return false;
}

static void post(struct tool_call *call, struct span body)
{
    tool_exchange_start(call, &(struct exchange_request){ .method = "POST", .url = call->tool->endpoint.url,
                                                     .headers = headers_of(call, body), .body = body });
}

/* ---- http: {"tool","version"?,"arguments","context"?} is posted; the answer is the output ---- */

static void http_begin(struct tool_call *call)
{
    if (!has_secrets(call))
        return;
    struct buf body = { 0 };
    struct jw  w = jw_on(&body);
    jw_obj(&w);
    jw_key(&w, "tool");
    jw_str(&w, call->name);
    if (call->tool->version.n) {
        jw_key(&w, "version");
        jw_str(&w, call->tool->version);
    }
    jw_key(&w, "arguments");
    jw_raw(&w, jv_raw(call->arguments));
    if (call->context.n) {
        jw_key(&w, "context");
        jw_raw(&w, call->context);
    }
    jw_end(&w);
    struct span text = arena_copy(&call->arena, buf_view(&body));
    buf_done(&body);
    post(call, text);
}

static bool type_is_json(const char *type)
{
    size_t n = strlen(type);
    return strcmp(type, "application/json") == 0 || (n > 5 && strcmp(type + n - 5, "+json") == 0);
}

static bool type_is_text(const char *type)
{
    return strncmp(type, "text/", 5) == 0 || type_is_json(type) || strcmp(type, "application/xml") == 0 ||
           strcmp(type, "application/javascript") == 0 || strcmp(type, "application/xhtml+xml") == 0 ||
           strcmp(type, "application/yaml") == 0 || (strlen(type) > 4 && strcmp(type + strlen(type) - 4, "+xml") == 0);
}

static void end_with(struct tool_call *call, struct buf *text)
{
    struct span result = arena_copy(&call->arena, buf_view(text));
    buf_done(text);
    tool_end(call, result);
}

static void http_answer(struct tool_call *call)
{
    struct exchange *exchange = &call->exchange;
    struct buf       out = { 0 };
    if (!status_ok(exchange->status)) {
        fail_status(call, exchange->status, true);
    } else if (exchange->body.len == 0) {
        tool_end(call, SPAN("null"));
    } else if (type_is_json(exchange->type)) {
        struct jv value = exchange_json(call);
        if (jv_is(value, JSON_NONE)) {
            tool_fail(call, "invalid_response", false, "the answer says that it is JSON, and is none");
            return;
        }
        json_minify(value, &out);
        end_with(call, &out);
    } else if (strncmp(exchange->type, "text/", 5) == 0) {
        json_put_string(&out, clean_text(buf_view(&exchange->body), SIZE_MAX / 2, &call->arena));
        end_with(call, &out);
    } else {
        tool_fail(call, "invalid_response", false, "the answer has the content type '%s'; JSON or text is wanted", exchange->type);
    }
}

const struct tool_kind kind_http = { .name = "http", .begin = http_begin, .answer = http_answer, .trusted = true };

/* ---- http_fetch: {"url"} -> {"url","status","content_type","text","truncated"} ---- */

static void fetch(struct tool_call *call, const char *url)
{
    static const char *const headers[] = { "Accept: text/*, application/json, application/xml;q=0.9, */*;q=0.1",
                                           "User-Agent: perdure/" PERDURE_VERSION, NULL };
    tool_exchange_start(call, &(struct exchange_request){ .method = "GET", .url = url, .headers = headers });
}

static void fetch_begin(struct tool_call *call)
{
    struct span url = jv_string(jv_get(call->arguments, "url"), &call->arena);
    if (memchr(url.p, 0, url.n)) {
        tool_fail_later(call, "invalid_url", false, "the URL holds a NUL");
        return;
    }
    fetch(call, arena_copy(&call->arena, url).p);
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static void follow(struct tool_call *call)
{
    struct exchange *exchange = &call->exchange;
    const char      *next = exchange->location ? outbound_join(exchange->url, exchange->location, &call->arena) : NULL;
    if (!next)
        tool_fail(call, "invalid_response", false, "a redirect (status %d) without a usable location", exchange->status);
    else if (exchange->redirects++ >= (unsigned)call->tool->max_redirects)
        tool_fail(call, "too_many_redirects", false, "more than %lld redirects", (long long)call->tool->max_redirects);
    else if (strncmp(exchange->url, "https:", 6) == 0 && strncmp(next, "https:", 6) != 0)
        tool_fail(call, "outbound_refused", false, "a redirect from https to something else");
    else
        fetch(call, next);
}

static void fetch_answer(struct tool_call *call)
{
    struct exchange *exchange = &call->exchange;
    if (is_redirect(exchange->status)) {
        follow(call);
        return;
    }
    if (exchange->status == 429 || exchange->status >= 500) {
        fail_status(call, exchange->status, false);
        return;
    }
    if (exchange->body.len && exchange->type[0] && !type_is_text(exchange->type)) {
        tool_fail(call, "unsupported_content", false, "the page has the content type '%s'; only text can be read", exchange->type);
        return;
    }
    struct buf out = { 0 };
    struct jw  w = jw_on(&out);
    jw_obj(&w);
    jw_key(&w, "url");
    jw_str(&w, clean_text(span_of(exchange->url), 8192, &call->arena));
    jw_key(&w, "status");
    jw_i64(&w, exchange->status);
    jw_key(&w, "content_type");
    jw_str(&w, clean_text(span_of(exchange->type), 128, &call->arena));
    jw_key(&w, "text");
    jw_str(&w, clean_text(buf_view(&exchange->body), SIZE_MAX / 2, &call->arena));
    jw_key(&w, "truncated");
    jw_bool(&w, exchange->cut);
    jw_end(&w);
    end_with(call, &out);
}

const struct tool_kind kind_http_fetch = { .name = "http_fetch", .begin = fetch_begin, .answer = fetch_answer, .cuts = true };

/* ---- the built-ins of teams ---- */

/* The first issue stands for all of them; a team's machine makes its own report with the same function. */
static void fail_input(struct tool_call *call, struct buf *report)
{
    struct jv first = jv_at(jv_get(json_read(buf_view(report), &call->arena), "issues"), 0);
    struct span message = jv_string(jv_get(first, "message"), &call->arena);
    tool_fail_later(call, "invalid-input", false, "%.*s", SPAN_ARG(message));
    buf_done(report);
}

static void search_begin(struct tool_call *call)
{
    struct buf report = { 0 };
    if (!has_secrets(call))
        return;
    if (!web_search_check(call->arguments, &report)) {
        fail_input(call, &report);
        return;
    }
    buf_done(&report);
    const char *url = web_search_url(span_of(call->tool->endpoint.url), call->arguments, call->tool->default_limit, &call->arena);
    tool_exchange_start(call, &(struct exchange_request){ .method = "GET", .url = url, .headers = headers_of(call, SPAN_NONE) });
}

static void search_answer(struct tool_call *call)
{
    struct builtin_error error = { 0 };
    struct buf           out = { 0 };
    if (web_search_result(call->exchange.status, exchange_json(call), &out, &error)) {
        end_with(call, &out);
        return;
    }
    buf_done(&out);
    tool_fail(call, error.code, error.retryable, "%s", error.message);
}

const struct tool_kind kind_web_search = { .name = "web_search", .begin = search_begin, .answer = search_answer, .trusted = true };

/* {"language","code","timeoutMs"?} goes to the sandbox that the configuration names; the default timeout is put into it. */
static void code_begin(struct tool_call *call)
{
    const struct code_limits *limits = &call->tool->code;
    struct buf                report = { 0 }, body = { 0 };
    if (!has_secrets(call))
        return;
    if (!code_exec_check(call->arguments, limits, &report)) {
        fail_input(call, &report);
        return;
    }
    struct jw w = jw_on(&body);
    jw_obj(&w);
    jw_key(&w, "language");
    jw_raw(&w, jv_raw(jv_get(call->arguments, "language")));
    jw_key(&w, "code");
    jw_raw(&w, jv_raw(jv_get(call->arguments, "code")));
    struct jv timeout = jv_get(call->arguments, "timeoutMs");
    if (!jv_is(timeout, JSON_NONE) || limits->default_timeout_ms) {
        jw_key(&w, "timeoutMs");
        if (jv_is(timeout, JSON_NONE))
            jw_i64(&w, limits->default_timeout_ms);
        else
            jw_raw(&w, jv_raw(timeout));
    }
    jw_end(&w);
    struct span text = arena_copy(&call->arena, buf_view(&body));
    buf_done(&report);
    buf_done(&body);
    post(call, text);
}

static void code_answer(struct tool_call *call)
{
    struct buf out = { 0 };
    if (!status_ok(call->exchange.status)) {
        fail_status(call, call->exchange.status, true);
    } else if (code_exec_result(exchange_json(call), &out)) {
        end_with(call, &out);
        return;
    } else {
        tool_fail(call, "invalid_response", false, "the sandbox must answer with stdout, stderr and exitCode");
    }
    buf_done(&out);
}

const struct tool_kind kind_code_exec = { .name = "code_exec", .begin = code_begin, .answer = code_answer, .trusted = true };
