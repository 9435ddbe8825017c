/* SPDX-License-Identifier: Apache-2.0 */
/* compatible.c - options and request to HTTP, reply to response or error. */
#include "team/compatible.h"
#include "team/text.h"
#include <math.h>

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

static void copy_as(struct jw *w, const char *name, struct jv v)
{
    if (jv_kind(v) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

/* ---- errors ---- */

struct failure {
    const char *code;
    struct span message, provider_id, detail;
    bool        retryable;
};

static void put_failure(const struct failure *failure, struct jw *w)
{
    jw_key(w, "error"), jw_obj(w);
    jw_key(w, "name"), jw_cstr(w, "DogpileError");
    jw_key(w, "code"), jw_cstr(w, failure->code);
    jw_key(w, "message"), jw_str(w, failure->message);
    jw_key(w, "retryable"), jw_bool(w, failure->retryable);
    if (failure->provider_id.n)
        jw_key(w, "providerId"), jw_str(w, failure->provider_id);
    if (failure->detail.n)
        jw_key(w, "detail"), jw_raw(w, failure->detail);
    jw_end(w);
}

/* ---- options ---- */

static bool is_text(struct jv v)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    return jv_is(v, JSON_STRING) && !js_blank(jv_string(v, &arena));
}

/* The first option that is no good, with what is expected of it. */
static const char *bad_option(struct jv options, const char **ret_expected)
{
    static const struct {
        const char *name, *expected;
    } texts[] = { { "apiKey", "a non-empty API key when provided" },
                  { "id", "a non-empty provider id when provided" },
                  { "path", "a non-empty request path when provided" } };
    double most = 1;
    *ret_expected = "a non-empty model id";
    if (!is_text(jv_get(options, "model")))
        return "model";
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        *ret_expected = texts[i].expected;
        if (has(options, texts[i].name) && !is_text(jv_get(options, texts[i].name)))
            return texts[i].name;
    }
    struct jv limit = jv_get(options, "maxOutputTokens");
    *ret_expected = "a positive integer when provided";
    if (jv_kind(limit) != JSON_NONE && (!jv_f64(limit, &most) || floor(most) != most || most <= 0))
        return "maxOutputTokens";
    return NULL;
}

static void put_bad_option(const char *path, const char *expected, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct failure failure = { .code = "invalid-configuration" };
    failure.message = arena_printf(&arena, "Invalid OpenAI-compatible provider option at %s.", path);
    failure.detail = arena_printf(&arena, "{\"kind\":\"configuration-validation\",\"path\":\"%s\",\"expected\":\"%s\"}", path, expected);
    jw_key(w, "id"), jw_null(w);
    jw_key(w, "http"), jw_null(w);
    jw_key(w, "response"), jw_null(w);
    put_failure(&failure, w);
}

/* ---- what is sent ---- */

/* A relative reference against a base with a slash at its end (RFC 3986 5.2, as far as paths of providers go). */
static struct span url_of(struct jv options, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct span base = has(options, "baseURL") ? jv_string(jv_get(options, "baseURL"), arena) : SPAN("https://api.openai.com/v1");
    struct span path = has(options, "path") ? jv_string(jv_get(options, "path"), arena) : SPAN("/chat/completions");
    const char *mark = base.n ? memchr(base.p, '?', base.n) : NULL;
    if (mark)
        base.n = (size_t)(mark - base.p);
    if (path.n && path.p[0] == '/')
        path = span_make(path.p + 1, path.n - 1);
    if (memmem(path.p, path.n, "://", 3))
        return path;
    buf_span(&out, base);
    if (!base.n || base.p[base.n - 1] != '/')
        buf_byte(&out, '/');
    while (path.n >= 3 && memcmp(path.p, "../", 3) == 0) {
        const char *host = memmem(out.p, out.len, "://", 3);
        size_t      least = host ? (size_t)(host + 3 - out.p) : 0, at = out.len - 1;
        while (at > least && out.p[at - 1] != '/')
            at--;
        if (at > least)
            out.len = at;
        path = span_make(path.p + 3, path.n - 3);
    }
    buf_span(&out, path);
    return arena_copy(arena, buf_view(&out));
}

static void put_headers(struct jv options, struct arena *arena, struct jw *w)
{
    bool authorised = false;
    jw_key(w, "headers"), jw_obj(w);
    for (struct jv_iter it = jv_iter(jv_get(options, "headers")); jv_step(&it);) {
        struct span name = js_lower(jv_string(it.name, arena), arena);
        authorised = authorised || span_is(name, "authorization");
        if (!span_is(name, "content-type") && jv_is(it.value, JSON_STRING))
            jw_key_span(w, name), jw_raw(w, jv_raw(it.value));
    }
    jw_key(w, "content-type"), jw_cstr(w, "application/json");
    if (has(options, "apiKey") && !authorised) {
        struct span key = jv_string(jv_get(options, "apiKey"), arena);
        jw_key(w, "authorization"), jw_str(w, arena_printf(arena, "Bearer %.*s", SPAN_ARG(key)));
    }
    jw_end(w);
}

static void put_plain(struct jw *w, struct jv v)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    double number;
    if (jv_is(v, JSON_NUMBER) && jv_f64(v, &number))
        json_put_f64(&text, number);
    else
        json_minify(v, &text);
    jw_raw(w, buf_view(&text));
}

/* The adapter's members at the places where the caller's of the same names stood: an object of JavaScript keeps them. */
static bool put_own(const char *name, struct jv options, struct jv request, struct jw *w)
{
    if (strcmp(name, "model") == 0)
        jw_key(w, name), put_plain(w, jv_get(options, "model"));
    else if (strcmp(name, "temperature") == 0)
        jw_key(w, name), put_plain(w, jv_get(request, "temperature"));
    else if (strcmp(name, "max_tokens") == 0) {
        if (has(options, "maxOutputTokens"))
            jw_key(w, name), put_plain(w, jv_get(options, "maxOutputTokens"));
        return has(options, "maxOutputTokens");
    } else {
        jw_key(w, name), jw_arr(w);
        for (struct jv_iter it = jv_iter(jv_get(request, "messages")); jv_step(&it);) {
            jw_obj(w);
            copy_as(w, "role", jv_get(it.value, "role"));
            copy_as(w, "content", jv_get(it.value, "content"));
            jw_end(w);
        }
        jw_arr_end(w);
    }
    return true;
}

static void put_body(struct jv options, struct jv request, struct arena *arena, struct jw *w)
{
    static const char *const names[] = { "model", "messages", "temperature", "max_tokens" };
    CLEANUP(buf_done) struct buf body = { 0 };
    struct jv extra = jv_get(options, "extraBody");
    struct jw b = jw_on(&body);
    jw_obj(&b);
    for (struct jv_iter it = jv_iter(extra); jv_step(&it);) {
        bool own = false;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            own = own || (jv_str_eq(it.name, names[i]) && put_own(names[i], options, request, &b));
        if (!own)
            jw_key_span(&b, jv_string(it.name, arena)), put_plain(&b, it.value);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!has(extra, names[i]))
            put_own(names[i], options, request, &b);
    jw_end(&b);
    jw_key(w, "body"), jw_str(w, buf_view(&body));
}

static void put_http(struct jv options, struct jv request, struct arena *arena, struct jw *w)
{
    jw_key(w, "http"), jw_obj(w);
    jw_key(w, "url"), jw_str(w, url_of(options, arena));
    jw_key(w, "method"), jw_cstr(w, "POST");
    put_headers(options, arena, w);
    put_body(options, request, arena, w);
    jw_end(w);
}

/* ---- what comes back ---- */

static void put_text_of(struct jv content, struct buf *out, struct arena *arena)
{
    if (jv_is(content, JSON_STRING))
        buf_span(out, jv_string(content, arena));
    else if (jv_is(content, JSON_ARRAY))
        for (struct jv_iter it = jv_iter(content); jv_step(&it);)
            if (jv_is(jv_get(it.value, "text"), JSON_STRING))
                buf_span(out, jv_string(jv_get(it.value, "text"), arena));
}

/* The first of the two that is there, as a count; null counts as absent. */
static bool read_count(struct jv usage, const char *name, const char *other, double *ret)
{
    struct jv v = jv_get(usage, name);
    if (other && (jv_kind(v) == JSON_NONE || jv_is(v, JSON_NULL)))
        v = jv_get(usage, other);
    return jv_is(v, JSON_NUMBER) && jv_f64(v, ret) && *ret >= 0;
}

static void put_usage(struct jv usage, struct jw *w)
{
    double input, output, total;
    if (!read_count(usage, "prompt_tokens", "input_tokens", &input) ||
        !read_count(usage, "completion_tokens", "output_tokens", &output))
        return;
    if (!read_count(usage, "total_tokens", NULL, &total))
        total = input + output;
    jw_key(w, "usage"), jw_obj(w);
    jw_key(w, "inputTokens"), jw_f64(w, input);
    jw_key(w, "outputTokens"), jw_f64(w, output);
    jw_key(w, "totalTokens"), jw_f64(w, total);
    jw_end(w);
}

static void put_finish(struct jv reason, struct jw *w)
{
    if (jv_kind(reason) == JSON_NONE || jv_is(reason, JSON_NULL))
        return;
    jw_key(w, "finishReason");
    if (jv_str_eq(reason, "stop") || jv_str_eq(reason, "length"))
        jw_raw(w, jv_raw(reason));
    else if (jv_str_eq(reason, "content_filter") || jv_str_eq(reason, "content-filter"))
        jw_cstr(w, "content-filter");
    else
        jw_cstr(w, jv_str_eq(reason, "tool_calls") || jv_str_eq(reason, "tool-calls") ? "tool-calls" : "other");
}

static void put_response(struct jv body, struct span text, struct jw *w)
{
    static const char *const members[] = { "id", "object", "created", "model", "usage" };
    jw_key(w, "response"), jw_obj(w);
    jw_key(w, "text"), jw_str(w, text);
    put_finish(jv_get(jv_at(jv_get(body, "choices"), 0), "finish_reason"), w);
    put_usage(jv_get(body, "usage"), w);
    jw_key(w, "metadata"), jw_obj(w);
    jw_key(w, "openAICompatible"), jw_obj(w);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        copy_as(w, members[i], jv_get(body, members[i]));
    jw_end(w), jw_end(w), jw_end(w);
}

static const char *code_of(int status)
{
    if (status == 401 || status == 403)
        return "provider-authentication";
    if (status == 404)
        return "provider-not-found";
    if (status == 408 || status == 504)
        return "provider-timeout";
    if (status == 429)
        return "provider-rate-limited";
    return status >= 500 ? "provider-unavailable" : status >= 400 ? "provider-invalid-request" : "provider-error";
}

static struct span status_detail(struct jv reply, bool with_body, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    copy_as(&w, "statusCode", jv_get(reply, "status"));
    jw_key(&w, "statusText"), jw_raw(&w, has(reply, "statusText") ? jv_raw(jv_get(reply, "statusText")) : SPAN("\"\""));
    if (with_body)
        copy_as(&w, "response", jv_get(reply, "body"));
    jw_end(&w);
    return arena_copy(arena, buf_view(&out));
}

/* The request failed before there was a reply. */
static void network_failure(struct jv thrown, struct failure *failure, struct arena *arena)
{
    bool        abort = jv_str_eq(jv_get(thrown, "name"), "AbortError");
    struct span message = jv_string(jv_get(thrown, "message"), arena);
    failure->code = abort ? "aborted" : "provider-error";
    failure->retryable = !abort;
    failure->message = message.n ? message
                       : abort   ? SPAN("OpenAI-compatible provider request was aborted.")
                                 : SPAN("OpenAI-compatible provider request failed before receiving a response.");
    if (has(thrown, "name"))
        failure->detail = arena_printf(arena, "{\"name\":%.*s}", SPAN_ARG(jv_raw(jv_get(thrown, "name"))));
}

/* true: the reply is a failure. */
static bool reply_fails(struct jv reply, struct span text, struct failure *failure, struct arena *arena)
{
    int64_t   status = 200;
    struct jv body = jv_get(reply, "body"), said = jv_get(jv_get(body, "error"), "message");
    jv_i64(jv_get(reply, "status"), &status);
    failure->code = "provider-invalid-response";
    if (has(reply, "throw"))
        network_failure(jv_get(reply, "throw"), failure, arena);
    else if (jv_bool(jv_get(reply, "notJson"), false)) {
        failure->message = SPAN("OpenAI-compatible provider returned a non-JSON response.");
        failure->retryable = status >= 500;
        failure->detail = status_detail(reply, false, arena);
    } else if (status < 200 || status > 299) {
        failure->code = code_of((int)status);
        failure->message = jv_is(said, JSON_STRING) ? jv_string(said, arena)
                                                    : arena_printf(arena, "OpenAI-compatible provider request failed with HTTP %lld.",
                                                                   (long long)status);
        failure->retryable = status == 408 || status == 429 || status >= 500;
        failure->detail = status_detail(reply, true, arena);
    } else {
        failure->message = jv_is(body, JSON_OBJECT) ? SPAN("OpenAI-compatible provider response did not include assistant text.")
                                                    : SPAN("OpenAI-compatible provider response must be a JSON object.");
        failure->retryable = true;
        return text.n == 0;
    }
    return true;
}

void team_compatible(struct jv options, struct jv request, struct jv reply, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    const char *expected, *bad = bad_option(options, &expected);
    if (bad) {
        put_bad_option(bad, expected, w);
        return;
    }
    struct span    model = jv_string(jv_get(options, "model"), &arena);
    struct failure failure = { .provider_id = has(options, "id") ? jv_string(jv_get(options, "id"), &arena)
                                                                 : arena_printf(&arena, "openai-compatible:%.*s", SPAN_ARG(model)) };
    jw_key(w, "id"), jw_str(w, failure.provider_id);
    put_http(options, request, &arena, w);
    put_text_of(jv_get(jv_get(jv_at(jv_get(jv_get(reply, "body"), "choices"), 0), "message"), "content"), &text, &arena);
    bool fails = reply_fails(reply, buf_view(&text), &failure, &arena);
    if (fails) {
        jw_key(w, "response"), jw_null(w);
        put_failure(&failure, w);
        return;
    }
    put_response(jv_get(reply, "body"), buf_view(&text), w);
    jw_key(w, "error"), jw_null(w);
}
