/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - outcomes of tool calls, and the forms of the built-in tools. */
#include "team/tools.h"
#include "team/text.h"

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

static void copy(struct jw *w, struct jv from, const char *name)
{
    copy_as(w, name, jv_get(from, name));
}

/* ---- outcomes ---- */

static void put_error(struct jw *w, const char *code, struct span message, bool retryable, struct span detail)
{
    jw_key(w, "error"), jw_obj(w);
    jw_key(w, "code"), jw_cstr(w, code);
    jw_key(w, "message"), jw_str(w, message);
    jw_key(w, "retryable"), jw_bool(w, retryable);
    if (detail.n)
        jw_key(w, "detail"), jw_raw(w, detail);
    jw_end(w);
}

void team_outcome_error(const char *code, struct span message, bool retryable, struct span detail, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "type"), jw_cstr(w, "error");
    put_error(w, code, message, retryable, detail);
    jw_end(w);
}

void team_outcome_invalid(struct span issues, struct jw *w)
{
    CLEANUP(buf_done) struct buf detail = { 0 };
    BUF_LIT(&detail, "{\"issues\":");
    buf_span(&detail, issues);
    BUF_LIT(&detail, "}");
    team_outcome_error("invalid-input", SPAN("Runtime tool input failed validation."), false, buf_view(&detail), w);
}

static bool is_known_code(struct jv code)
{
    static const char *const codes[] = { "invalid-input", "permission-denied", "timeout", "aborted",
                                         "unavailable",   "backend-error",     "unknown" };
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (jv_str_eq(code, codes[i]))
            return true;
    return false;
}

static const char *js_type(struct jv v)
{
    switch (jv_kind(v)) {
    case JSON_NONE:
        return "undefined";
    case JSON_STRING:
        return "string";
    case JSON_NUMBER:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    default:
        return "object";
    }
}

/* {"name": …} of an error object, {"valueType": …} of anything else. */
static void put_origin(const struct team_thrown *thrown, struct buf *out)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    if (thrown->is_error)
        copy(&w, thrown->value, "name");
    else
        jw_key(&w, "valueType"), jw_cstr(&w, js_type(thrown->value));
    jw_end(&w);
}

void team_outcome_thrown(const struct team_thrown *thrown, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf origin = { 0 };
    struct span message = jv_string(jv_get(thrown->value, "message"), &arena);
    put_origin(thrown, &origin);
    if (is_known_code(jv_get(thrown->value, "code")) && jv_is(jv_get(thrown->value, "message"), JSON_STRING)) {
        jw_obj(w);
        jw_key(w, "type"), jw_cstr(w, "error");
        jw_key(w, "error"), jw_raw(w, jv_raw(thrown->value));
        jw_end(w);
    } else if (thrown->is_error && jv_str_eq(jv_get(thrown->value, "name"), "AbortError"))
        team_outcome_error("aborted", message.n ? message : SPAN("Tool execution was aborted."), true, buf_view(&origin), w);
    else if (thrown->is_error)
        team_outcome_error("backend-error", message, false, buf_view(&origin), w);
    else
        team_outcome_error("unknown", SPAN("Tool execution failed with a non-Error value."), false, buf_view(&origin), w);
}

void team_outcome_vercel(const struct team_thrown *thrown, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf origin = { 0 };
    struct span message = SPAN("Vercel AI tool execution failed.");
    put_origin(thrown, &origin);
    if (thrown->is_error)
        message = jv_string(jv_get(thrown->value, "message"), &arena);
    team_outcome_error("vercel-ai-tool-error", message, false, buf_view(&origin), w);
}

/* A run's tools fail with codes of their own; the contract's are kept, the others are the backend's errors. */
void team_outcome_receipt(bool ok, struct jv value, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf detail = { 0 };
    if (ok) {
        jw_obj(w);
        jw_key(w, "type"), jw_cstr(w, "success");
        copy_as(w, "output", value);
        jw_end(w);
        return;
    }
    struct jv   code = jv_get(value, "code");
    struct span message = jv_string(jv_get(value, "message"), &arena);
    const char *name = "backend-error";
    if (jv_str_eq(code, "invalid_arguments"))
        name = "invalid-input";
    else if (jv_str_eq(code, "unknown_tool"))
        name = "unavailable";
    else if (jv_str_eq(jv_get(value, "category"), "timeout"))
        name = "timeout";
    struct jw d = jw_on(&detail);
    jw_obj(&d);
    copy(&d, value, "code");
    jw_end(&d);
    team_outcome_error(name, message, jv_bool(jv_get(value, "retryable"), false), buf_view(&detail), w);
}

/* ---- built in: what they are ---- */

static const char *const languages[] = { "javascript", "typescript", "python", "bash", "shell" };

enum team_builtin team_builtin(struct span name)
{
    return span_is(name, "webSearch") ? BUILTIN_WEB_SEARCH : span_is(name, "codeExec") ? BUILTIN_CODE_EXEC : BUILTIN_NONE;
}

static void put_or(struct jw *w, const char *name, struct jv options, struct span otherwise)
{
    jw_key(w, name);
    jw_raw(w, has(options, name) ? jv_raw(jv_get(options, name)) : otherwise);
}

static void put_identity(enum team_builtin tool, struct jv options, struct jw *w)
{
    bool search = tool == BUILTIN_WEB_SEARCH;
    jw_key(w, "identity"), jw_obj(w);
    jw_key(w, "id"), jw_cstr(w, search ? "dogpile.tools.webSearch" : "dogpile.tools.codeExec");
    jw_key(w, "name"), jw_cstr(w, search ? "webSearch" : "codeExec");
    put_or(w, "namespace", options, SPAN("\"dogpile\""));
    put_or(w, "version", options, SPAN("\"1.0.0\""));
    jw_key(w, "description");
    if (has(options, "description"))
        jw_raw(w, jv_raw(jv_get(options, "description")));
    else
        jw_cstr(w, search ? "Search the web through a caller-provided fetch-compatible search adapter."
                          : "Execute code through a caller-provided sandbox adapter.");
    jw_end(w);
}

static void put_languages(struct jv enabled, struct jw *w)
{
    if (jv_is(enabled, JSON_ARRAY)) {
        jw_raw(w, jv_raw(enabled));
        return;
    }
    jw_arr(w);
    for (size_t i = 0; i < ARRAY_LEN(languages); i++)
        jw_cstr(w, languages[i]);
    jw_arr_end(w);
}

static void put_schema(enum team_builtin tool, struct jv options, struct jw *w)
{
    jw_key(w, "inputSchema"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "json-schema");
    jw_key(w, "schema");
    if (tool == BUILTIN_WEB_SEARCH)
        jw_raw(w, SPAN("{\"type\":\"object\",\"properties\":{\"query\":{\"type\":\"string\"},\"maxResults\":{\"type\":\"number\","
                       "\"minimum\":1}},\"required\":[\"query\"],\"additionalProperties\":false}"));
    else {
        jw_obj(w);
        jw_key(w, "type"), jw_cstr(w, "object");
        jw_key(w, "properties"), jw_obj(w);
        jw_key(w, "language"), jw_obj(w);
        jw_key(w, "type"), jw_cstr(w, "string");
        jw_key(w, "enum"), put_languages(jv_get(options, "languages"), w);
        jw_end(w);
        jw_key(w, "code"), jw_raw(w, SPAN("{\"type\":\"string\"}"));
        jw_key(w, "timeoutMs"), jw_raw(w, SPAN("{\"type\":\"number\",\"minimum\":1}"));
        jw_end(w);
        jw_key(w, "required"), jw_raw(w, SPAN("[\"language\",\"code\"]"));
        jw_key(w, "additionalProperties"), jw_bool(w, false);
        jw_end(w);
    }
    jw_key(w, "description");
    jw_cstr(w, tool == BUILTIN_WEB_SEARCH ? "Web search query and optional result cap."
                                          : "Code snippet plus language and optional timeout.");
    jw_end(w);
}

void team_builtin_manifest(enum team_builtin tool, struct jv options, struct jw *w)
{
    jw_obj(w);
    put_identity(tool, jv_get(options, "identity"), w);
    put_schema(tool, options, w);
    jw_key(w, "permissions");
    if (has(options, "permissions"))
        jw_raw(w, jv_raw(jv_get(options, "permissions")));
    else if (tool == BUILTIN_WEB_SEARCH)
        jw_raw(w, SPAN("[{\"kind\":\"network\",\"allowPrivateNetwork\":false}]"));
    else {
        jw_arr(w), jw_obj(w);
        jw_key(w, "kind"), jw_cstr(w, "code-execution");
        jw_key(w, "sandbox"), jw_cstr(w, "caller-provided");
        jw_key(w, "languages"), put_languages(jv_get(options, "languages"), w);
        jw_key(w, "allowNetwork"), jw_bool(w, jv_bool(jv_get(options, "allowNetwork"), false));
        jw_end(w), jw_arr_end(w);
    }
    jw_end(w);
}

/* ---- built in: what they take ---- */

static void put_issue(struct jw *w, const char *code, const char *path, struct span message, struct span detail)
{
    jw_obj(w);
    jw_key(w, "code"), jw_cstr(w, code);
    jw_key(w, "path"), jw_cstr(w, path);
    jw_key(w, "message"), jw_str(w, message);
    if (detail.n)
        jw_key(w, "detail"), jw_raw(w, detail);
    jw_end(w);
}

/* Not a string: one issue. */
static bool refuse_no_text(struct jv v, const char *path, const char *message, struct jw *w)
{
    if (jv_is(v, JSON_STRING))
        return false;
    put_issue(w, jv_kind(v) == JSON_NONE ? "missing-field" : "invalid-type", path, span_of(message), SPAN_NONE);
    return true;
}

static size_t check_least_one(struct jv v, const char *path, const char *not_number, const char *too_small, struct jw *w)
{
    double number;
    if (jv_kind(v) == JSON_NONE)
        return 0;
    if (!jv_is(v, JSON_NUMBER) || !jv_f64(v, &number))
        put_issue(w, "invalid-type", path, span_of(not_number), SPAN_NONE);
    else if (number < 1)
        put_issue(w, "out-of-range", path, span_of(too_small), SPAN("{\"minimum\":1}"));
    else
        return 0;
    return 1;
}

static size_t check_search(struct jv input, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv query = jv_get(input, "query");
    size_t    count = refuse_no_text(query, "query", "webSearch.query must be a string.", w);
    if (!count && js_blank(jv_string(query, &arena))) {
        put_issue(w, "invalid-value", "query", SPAN("webSearch.query must not be empty."), SPAN_NONE);
        count++;
    }
    return count + check_least_one(jv_get(input, "maxResults"), "maxResults", "webSearch.maxResults must be a finite number.",
                                   "webSearch.maxResults must be greater than or equal to 1.", w);
}

static bool is_language(struct jv v)
{
    for (size_t i = 0; i < ARRAY_LEN(languages); i++)
        if (jv_str_eq(v, languages[i]))
            return true;
    return false;
}

static bool is_enabled(struct jv enabled, struct jv language)
{
    if (!jv_is(enabled, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(enabled); jv_step(&it);)
        if (jv_equal(it.value, language))
            return true;
    return false;
}

static size_t check_adapter(struct jv options, struct jv input, struct jw *w)
{
    CLEANUP(buf_done) struct buf text = { 0 }, detail = { 0 };
    struct jv language = jv_get(input, "language"), enabled = jv_get(options, "languages");
    struct jv own = jv_get(input, "timeoutMs"), timeout = jv_kind(own) == JSON_NONE ? jv_get(options, "defaultTimeoutMs") : own;
    double    ms, most;
    size_t    count = 0;
    if (is_language(language) && !is_enabled(enabled, language)) {
        buf_printf(&detail, "{\"allowed\":%.*s}", SPAN_ARG(jv_raw(enabled)));
        put_issue(w, "invalid-value", "language", SPAN("codeExec.language is not enabled for this adapter."), buf_view(&detail));
        count++;
    }
    if (jv_f64(timeout, &ms) && jv_f64(jv_get(options, "maxTimeoutMs"), &most) && ms > most) {
        BUF_LIT(&text, "codeExec.timeoutMs must be less than or equal to ");
        json_put_f64(&text, most);
        BUF_LIT(&text, ".");
        detail.len = 0;
        BUF_LIT(&detail, "{\"maximum\":");
        json_put_f64(&detail, most);
        BUF_LIT(&detail, "}");
        put_issue(w, "out-of-range", jv_kind(own) == JSON_NONE ? "defaultTimeoutMs" : "timeoutMs", buf_view(&text),
                  buf_view(&detail));
        count++;
    }
    return count;
}

static size_t check_code(struct jv options, struct jv input, struct jw *w)
{
    struct jv language = jv_get(input, "language");
    size_t    count = refuse_no_text(language, "language", "codeExec.language must be a string.", w);
    if (!count && !is_language(language)) {
        put_issue(w, "invalid-value", "language",
                  SPAN("codeExec.language must be one of javascript, typescript, python, bash, or shell."),
                  SPAN("{\"allowed\":[\"javascript\",\"typescript\",\"python\",\"bash\",\"shell\"]}"));
        count++;
    }
    count += refuse_no_text(jv_get(input, "code"), "code", "codeExec.code must be a string.", w);
    count += check_least_one(jv_get(input, "timeoutMs"), "timeoutMs", "codeExec.timeoutMs must be a finite number.",
                             "codeExec.timeoutMs must be greater than or equal to 1.", w);
    return count + check_adapter(options, input, w);
}

size_t team_builtin_check(enum team_builtin tool, struct jv options, struct jv input, struct jw *w)
{
    jw_arr(w);
    size_t count = tool == BUILTIN_WEB_SEARCH ? check_search(input, w) : check_code(options, input, w);
    jw_arr_end(w);
    return count;
}

/* ---- web search ---- */

/* application/x-www-form-urlencoded. */
static void put_form(struct span text, struct buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("*-._", c))
            buf_byte(out, (char)c);
        else if (c == ' ')
            buf_byte(out, '+');
        else {
            buf_byte(out, '%');
            buf_byte(out, digits[c >> 4]);
            buf_byte(out, digits[c & 15]);
        }
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A piece of a query, decoded and encoded again, as setting a parameter does to all that are there. */
static void put_form_again(struct span text, struct buf *out)
{
    CLEANUP(buf_done) struct buf plain = { 0 };
    for (size_t i = 0; i < text.n; i++) {
        int high = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1, low = i + 2 < text.n ? hex_digit(text.p[i + 2]) : -1;
        if (text.p[i] == '%' && high >= 0 && low >= 0) {
            buf_byte(&plain, (char)(high << 4 | low));
            i += 2;
        } else
            buf_byte(&plain, text.p[i] == '+' ? ' ' : text.p[i]);
    }
    put_form(buf_view(&plain), out);
}

/* Sets `name` in the pairs of `query` ("a=1&b=2"): the first one keeps its place, further ones go, else it is added. */
static void set_parameter(struct buf *query, const char *name, struct span value)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    bool found = false;
    for (size_t at = 0; at < query->len;) {
        const char *from = query->p + at, *amp = memchr(from, '&', query->len - at);
        size_t      n = amp ? (size_t)(amp - from) : query->len - at;
        const char *equals = memchr(from, '=', n);
        struct span key = span_make(from, equals ? (size_t)(equals - from) : n);
        bool        own = span_is(key, name);
        at += n + 1;
        if (n == 0 || (own && found))
            continue;
        if (out.len)
            buf_byte(&out, '&');
        put_form_again(key, &out);
        buf_byte(&out, '=');
        if (own)
            put_form(value, &out);
        else if (equals)
            put_form_again(span_make(equals + 1, n - key.n - 1), &out);
        found = found || own;
    }
    if (!found) {
        if (out.len)
            buf_byte(&out, '&');
        buf_printf(&out, "%s=", name);
        put_form(value, &out);
    }
    query->len = 0;
    buf_span(query, buf_view(&out));
}

void team_search_url(struct jv options, struct jv input, struct buf *out)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf query = { 0 }, limit = { 0 };
    struct span endpoint = jv_string(jv_get(options, "endpoint"), &arena), fragment = SPAN_NONE;
    double      most = 10;
    if (!jv_f64(jv_get(input, "maxResults"), &most))
        jv_f64(jv_get(options, "defaultMaxResults"), &most);
    json_put_f64(&limit, most);
    const char *hash = endpoint.n ? memchr(endpoint.p, '#', endpoint.n) : NULL;
    if (hash) {
        fragment = span_make(hash, endpoint.n - (size_t)(hash - endpoint.p));
        endpoint.n -= fragment.n;
    }
    const char *mark = endpoint.n ? memchr(endpoint.p, '?', endpoint.n) : NULL;
    size_t      base = mark ? (size_t)(mark - endpoint.p) : endpoint.n;
    if (mark)
        buf_put(&query, mark + 1, endpoint.n - base - 1);
    set_parameter(&query, "q", jv_string(jv_get(input, "query"), &arena));
    set_parameter(&query, "limit", buf_view(&limit));
    buf_put(out, endpoint.p, base);
    const char *host = memmem(endpoint.p, base, "://", 3);
    if (host && !memchr(host + 3, '/', base - (size_t)(host + 3 - endpoint.p)))
        buf_byte(out, '/'); /* an empty path is one slash */
    buf_byte(out, '?');
    buf_span(out, buf_view(&query));
    buf_span(out, fragment);
}

static void backend_error(const char *message, struct jw *w)
{
    team_outcome_error("backend-error", span_of(message), false, SPAN_NONE, w);
}

/* What is wrong with one result, or NULL. */
static const char *result_problem(struct jv v)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    if (!jv_is(v, JSON_OBJECT))
        return "Web search result must be a JSON object.";
    if (!jv_is(jv_get(v, "title"), JSON_STRING) || js_blank(jv_string(jv_get(v, "title"), &arena)))
        return "Web search result title must be a non-empty string.";
    if (!jv_is(jv_get(v, "url"), JSON_STRING) || js_blank(jv_string(jv_get(v, "url"), &arena)))
        return "Web search result url must be a non-empty string.";
    if (has(v, "snippet") && !jv_is(jv_get(v, "snippet"), JSON_STRING))
        return "Web search result snippet must be a string when present.";
    if (has(v, "metadata") && !jv_is(jv_get(v, "metadata"), JSON_OBJECT))
        return "Web search result metadata must be a JSON object when present.";
    return NULL;
}

static void status_error(int status, struct span status_text, struct jw *w)
{
    CLEANUP(buf_done) struct buf message = { 0 }, detail = { 0 };
    struct jw d = jw_on(&detail);
    buf_printf(&message, "Web search backend returned HTTP %d.", status);
    jw_obj(&d);
    jw_key(&d, "status"), jw_i64(&d, status);
    jw_key(&d, "statusText"), jw_str(&d, status_text);
    jw_end(&d);
    team_outcome_error(status >= 500 ? "unavailable" : "backend-error", buf_view(&message),
                       status == 408 || status == 429 || status >= 500, buf_view(&detail), w);
}

void team_search_outcome(int status, struct span status_text, struct jv body, struct jw *w)
{
    if (status < 200 || status > 299) {
        status_error(status, status_text, w);
        return;
    }
    struct jv results = jv_is(body, JSON_ARRAY) ? body : jv_get(body, "results");
    if (!jv_is(results, JSON_ARRAY)) {
        backend_error("Web search backend response must contain a results array.", w);
        return;
    }
    for (struct jv_iter it = jv_iter(results); jv_step(&it);)
        if (result_problem(it.value)) {
            backend_error(result_problem(it.value), w);
            return;
        }
    jw_obj(w);
    jw_key(w, "type"), jw_cstr(w, "success");
    jw_key(w, "output"), jw_obj(w);
    jw_key(w, "results"), jw_arr(w);
    for (struct jv_iter it = jv_iter(results); jv_step(&it);) {
        jw_obj(w);
        copy(w, it.value, "title"), copy(w, it.value, "url"), copy(w, it.value, "snippet"), copy(w, it.value, "metadata");
        jw_end(w);
    }
    jw_arr_end(w), jw_end(w), jw_end(w);
}

/* ---- Vercel AI ---- */

static struct jv option(struct jv own, struct jv shared, const char *name)
{
    return has(own, name) ? jv_get(own, name) : jv_get(shared, name);
}

static void copy_text(struct jw *w, const char *name, struct jv v)
{
    if (jv_is(v, JSON_STRING) && jv_raw(v).n > 2)
        jw_key(w, name), jw_raw(w, jv_raw(v));
}

void team_vercel_manifest(struct jv tool, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv   options = jv_get(tool, "options"), schema = jv_get(tool, "inputSchema");
    struct span name = jv_string(jv_get(tool, "name"), &arena);
    struct jv   own = jv_get_span(jv_get(options, "identity"), name);
    struct jv   id = option(own, options, "id"), namespace = option(own, options, "namespace");
    struct jv   description = option(own, options, "description");
    jw_obj(w);
    jw_key(w, "identity"), jw_obj(w);
    jw_key(w, "id");
    if (jv_is(id, JSON_STRING))
        jw_raw(w, jv_raw(id));
    else
        jw_str(w, arena_printf(&arena, "vercel-ai.tools.%.*s", SPAN_ARG(name)));
    jw_key(w, "name"), jw_str(w, name);
    jw_key(w, "namespace"), jw_raw(w, jv_is(namespace, JSON_STRING) ? jv_raw(namespace) : SPAN("\"vercel-ai\""));
    copy_text(w, "version", option(own, options, "version"));
    copy_text(w, "description", jv_is(description, JSON_STRING) ? description : jv_get(tool, "description"));
    jw_end(w);
    jw_key(w, "inputSchema"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "json-schema");
    jw_key(w, "schema"), jw_raw(w, jv_raw(has(schema, "jsonSchema") ? jv_get(schema, "jsonSchema") : schema));
    copy_text(w, "description", jv_get(tool, "description"));
    jw_end(w), jw_end(w);
}
