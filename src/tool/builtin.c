/* SPDX-License-Identifier: Apache-2.0 */
/* builtin.c - the built-in tools of teams: checks and shapes, word for word as teams.md 12.4 has them. */
#include "tool/builtin.h"
#include <stdarg.h>
#include <stdio.h>

const char *const builtin_languages[LANGUAGE_COUNT] = { "javascript", "typescript", "python", "bash", "shell" };

/* ---- input ---- */

struct report {
    struct jw w;
    size_t    count;
    struct buf *out;
};

static struct report report_begin(struct buf *out)
{
    return (struct report){ .w = jw_on(out), .out = out };
}

/* Leaves the issue open for a detail; issue_end closes it. */
static void PRINTF(4, 5) issue_begin(struct report *report, const char *code, const char *path, const char *format, ...)
{
    char    message[160];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct jw *w = &report->w;
    if (report->count++ == 0) {
        jw_obj(w);
        jw_key(w, "type");
        jw_cstr(w, "invalid");
        jw_key(w, "issues");
        jw_arr(w);
    }
    jw_obj(w);
    jw_key(w, "code");
    jw_cstr(w, code);
    jw_key(w, "path");
    jw_cstr(w, path);
    jw_key(w, "message");
    jw_cstr(w, message);
}

static void issue_number(struct report *report, const char *name, int64_t number)
{
    jw_key(&report->w, "detail");
    jw_obj(&report->w);
    jw_key(&report->w, name);
    jw_i64(&report->w, number);
    jw_end(&report->w);
}

static void put_languages(struct jw *w, unsigned languages)
{
    jw_arr(w);
    for (unsigned i = 0; i < LANGUAGE_COUNT; i++)
        if (languages & 1u << i)
            jw_cstr(w, builtin_languages[i]);
    jw_arr_end(w);
}

static void issue_languages(struct report *report, unsigned languages)
{
    jw_key(&report->w, "detail");
    jw_obj(&report->w);
    jw_key(&report->w, "allowed");
    put_languages(&report->w, languages);
    jw_end(&report->w);
}

static void issue_end(struct report *report)
{
    jw_end(&report->w);
}

static bool report_end(struct report *report)
{
    if (report->count) {
        jw_arr_end(&report->w);
        jw_end(&report->w);
    } else {
        BUF_LIT(report->out, "{\"type\":\"valid\"}");
    }
    return report->count == 0;
}

/* A member that must be a string; true when it is. */
static bool want_string(struct report *report, struct jv input, const char *tool, const char *name)
{
    struct jv value = jv_get(input, name);
    if (jv_is(value, JSON_STRING))
        return true;
    issue_begin(report, jv_is(value, JSON_NONE) ? "missing-field" : "invalid-type", name, "%s.%s must be a string.", tool, name);
    issue_end(report);
    return false;
}

/* An optional number from 1; true with *ret when there is a good one. */
static bool want_count(struct report *report, struct jv input, const char *tool, const char *name, double *ret)
{
    struct jv value = jv_get(input, name);
    if (jv_is(value, JSON_NONE))
        return false;
    if (!jv_is(value, JSON_NUMBER) || !jv_f64(value, ret)) {
        issue_begin(report, "invalid-type", name, "%s.%s must be a finite number.", tool, name);
        issue_end(report);
        return false;
    }
    if (*ret < 1) {
        issue_begin(report, "out-of-range", name, "%s.%s must be greater than or equal to 1.", tool, name);
        issue_number(report, "minimum", 1);
        issue_end(report);
        return false;
    }
    return true;
}

/* Blank as JavaScript's trim has it, as far as ASCII goes. */
static bool is_blank(struct jv string)
{
    struct arena arena = { 0 };
    struct span  text = jv_string(string, &arena);
    size_t       i = 0;
    while (i < text.n && strchr(" \t\n\v\f\r", text.p[i]) && text.p[i])
        i++;
    arena_done(&arena);
    return i == text.n;
}

bool web_search_check(struct jv input, struct buf *out)
{
    struct report report = report_begin(out);
    double        number;
    if (want_string(&report, input, "webSearch", "query") && is_blank(jv_get(input, "query"))) {
        issue_begin(&report, "invalid-value", "query", "webSearch.query must not be empty.");
        issue_end(&report);
    }
    (void)want_count(&report, input, "webSearch", "maxResults", &number);
    return report_end(&report);
}

static unsigned language_of(struct jv value)
{
    unsigned i = 0;
    while (i < LANGUAGE_COUNT && !jv_str_eq(value, builtin_languages[i]))
        i++;
    return i;
}

static void check_language(struct report *report, struct jv input, unsigned enabled)
{
    if (!want_string(report, input, "codeExec", "language"))
        return;
    unsigned language = language_of(jv_get(input, "language"));
    if (language == LANGUAGE_COUNT) {
        issue_begin(report, "invalid-value", "language",
                    "codeExec.language must be one of javascript, typescript, python, bash, or shell.");
        issue_languages(report, (1u << LANGUAGE_COUNT) - 1);
        issue_end(report);
    } else if (!(enabled & 1u << language)) {
        issue_begin(report, "invalid-value", "language", "codeExec.language is not enabled for this adapter.");
        issue_languages(report, enabled);
        issue_end(report);
    }
}

bool code_exec_check(struct jv input, const struct code_limits *limits, struct buf *out)
{
    struct report report = report_begin(out);
    double        timeout = 0;
    check_language(&report, input, limits ? limits->languages : (1u << LANGUAGE_COUNT) - 1);
    (void)want_string(&report, input, "codeExec", "code");
    bool given = !jv_is(jv_get(input, "timeoutMs"), JSON_NONE);
    bool good = want_count(&report, input, "codeExec", "timeoutMs", &timeout);
    if (!given && limits && limits->default_timeout_ms) {
        timeout = (double)limits->default_timeout_ms;
        good = true;
    }
    if (good && limits && limits->max_timeout_ms && timeout > (double)limits->max_timeout_ms) {
        issue_begin(&report, "out-of-range", given ? "timeoutMs" : "defaultTimeoutMs",
                    "codeExec.timeoutMs must be less than or equal to %lld.", (long long)limits->max_timeout_ms);
        issue_number(&report, "maximum", limits->max_timeout_ms);
        issue_end(&report);
    }
    return report_end(&report);
}

/* ---- manifests ---- */

void web_search_manifest(struct buf *out)
{
    BUF_LIT(out, "{\"identity\":{\"id\":\"dogpile.tools.webSearch\",\"name\":\"webSearch\",\"namespace\":\"dogpile\","
                 "\"version\":\"1.0.0\",\"description\":\"Search the web through a caller-provided fetch-compatible search adapter.\"},"
                 "\"inputSchema\":{\"kind\":\"json-schema\",\"schema\":{\"type\":\"object\",\"properties\":{"
                 "\"query\":{\"type\":\"string\"},\"maxResults\":{\"type\":\"number\",\"minimum\":1}},"
                 "\"required\":[\"query\"],\"additionalProperties\":false},"
                 "\"description\":\"Web search query and optional result cap.\"},"
                 "\"permissions\":[{\"kind\":\"network\",\"allowPrivateNetwork\":false}]}");
}

void code_exec_manifest(const struct code_limits *limits, struct buf *out)
{
    unsigned languages = limits ? limits->languages : (1u << LANGUAGE_COUNT) - 1;
    struct jw w = jw_on(out);
    BUF_LIT(out, "{\"identity\":{\"id\":\"dogpile.tools.codeExec\",\"name\":\"codeExec\",\"namespace\":\"dogpile\","
                 "\"version\":\"1.0.0\",\"description\":\"Execute code through a caller-provided sandbox adapter.\"},"
                 "\"inputSchema\":{\"kind\":\"json-schema\",\"schema\":{\"type\":\"object\",\"properties\":{\"language\":{"
                 "\"type\":\"string\",\"enum\":");
    put_languages(&w, languages);
    BUF_LIT(out, "},\"code\":{\"type\":\"string\"},\"timeoutMs\":{\"type\":\"number\",\"minimum\":1}},\"required\":[\"language\",\"code\"],"
                 "\"additionalProperties\":false},\"description\":\"Code execution language, source code, and optional timeout.\"},"
                 "\"permissions\":[{\"kind\":\"code-execution\",\"sandbox\":\"caller-provided\",\"languages\":");
    w.comma = false;
    put_languages(&w, languages);
    BUF_LIT(out, ",\"allowNetwork\":false}]}");
}

/* ---- search ---- */

static void put_form(struct buf *out, struct span text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z' && c < 0x80, digit = c >= '0' && c <= '9';
        if (letter || digit || (c && strchr("*-._", c)))
            buf_byte(out, (char)c);
        else if (c == ' ')
            buf_byte(out, '+');
        else {
            buf_byte(out, '%');
            buf_byte(out, hex[c >> 4]);
            buf_byte(out, hex[c & 15]);
        }
    }
}

static void put_kept(struct buf *url, struct span query)
{
    while (query.n) {
        const char *amp = memchr(query.p, '&', query.n);
        struct span part = span_make(query.p, amp ? (size_t)(amp - query.p) : query.n);
        const char *eq = memchr(part.p, '=', part.n);
        struct span name = span_make(part.p, eq ? (size_t)(eq - part.p) : part.n);
        if (part.n && !span_is(name, "q") && !span_is(name, "limit")) {
            buf_span(url, part);
            buf_byte(url, '&');
        }
        query = amp ? span_make(amp + 1, query.n - part.n - 1) : SPAN_NONE;
    }
}

const char *web_search_url(struct span endpoint, struct jv input, int64_t default_limit, struct arena *arena)
{
    const char *hash = memchr(endpoint.p, '#', endpoint.n);
    if (hash)
        endpoint.n = (size_t)(hash - endpoint.p);
    const char *mark = memchr(endpoint.p, '?', endpoint.n);
    struct buf  url = { 0 };
    buf_put(&url, endpoint.p, mark ? (size_t)(mark - endpoint.p) : endpoint.n);
    buf_byte(&url, '?');
    if (mark)
        put_kept(&url, span_make(mark + 1, endpoint.n - (size_t)(mark - endpoint.p) - 1));
    BUF_LIT(&url, "q=");
    put_form(&url, jv_string(jv_get(input, "query"), arena));
    BUF_LIT(&url, "&limit=");
    struct jv wanted = jv_get(input, "maxResults");
    double    number;
    if (jv_is(wanted, JSON_NUMBER) && jv_f64(wanted, &number))
        json_put_f64(&url, number);
    else
        buf_u64(&url, (uint64_t)(default_limit > 0 ? default_limit : 10));
    const char *text = arena_copy(arena, buf_view(&url)).p;
    buf_done(&url);
    return text;
}

static bool bad_result(struct builtin_error *error, const char *format, const char *field)
{
    *error = (struct builtin_error){ .code = "backend-error" };
    if (field)
        snprintf(error->message, sizeof error->message, "Web search result %s %s", field, format);
    else
        snprintf(error->message, sizeof error->message, "%s", format);
    return false;
}

static bool put_result(struct jw *w, struct jv result, struct builtin_error *error)
{
    static const char *const required[] = { "title", "url" };
    if (!jv_is(result, JSON_OBJECT))
        return bad_result(error, "Web search result must be a JSON object.", NULL);
    struct jv snippet = jv_get(result, "snippet"), metadata = jv_get(result, "metadata");
    jw_obj(w);
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        struct jv value = jv_get(result, required[i]);
        if (!jv_is(value, JSON_STRING) || is_blank(value))
            return bad_result(error, "must be a non-empty string.", required[i]);
        jw_key(w, required[i]);
        jw_raw(w, jv_raw(value));
    }
    if (!jv_is(snippet, JSON_NONE)) {
        if (!jv_is(snippet, JSON_STRING))
            return bad_result(error, "must be a string when present.", "snippet");
        jw_key(w, "snippet");
        jw_raw(w, jv_raw(snippet));
    }
    if (!jv_is(metadata, JSON_NONE)) {
        if (!jv_is(metadata, JSON_OBJECT))
            return bad_result(error, "must be a JSON object when present.", "metadata");
        jw_key(w, "metadata");
        jw_raw(w, jv_raw(metadata));
    }
    jw_end(w);
    return true;
}

bool web_search_result(int status, struct jv body, struct buf *out, struct builtin_error *error)
{
    if (status < 200 || status > 299) {
        *error = (struct builtin_error){ .code = status >= 500 ? "unavailable" : "backend-error", .status = status,
                                         .retryable = status == 408 || status == 429 || status >= 500 };
        snprintf(error->message, sizeof error->message, "Web search backend returned HTTP %d.", status);
        return false;
    }
    struct jv results = jv_is(body, JSON_ARRAY) ? body : jv_get(body, "results");
    if (!jv_is(results, JSON_ARRAY))
        return bad_result(error, "Web search backend response must contain a results array.", NULL);
    size_t    start = out->len;
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "results");
    jw_arr(&w);
    for (struct jv_iter it = jv_iter(results); jv_step(&it);)
        if (!put_result(&w, it.value, error)) {
            out->len = start;
            return false;
        }
    jw_arr_end(&w);
    jw_end(&w);
    return true;
}

bool code_exec_result(struct jv body, struct buf *out)
{
    static const char *const texts[] = { "stdout", "stderr" };
    struct jv code = jv_get(body, "exitCode"), metadata = jv_get(body, "metadata");
    if (!jv_is(jv_get(body, "stdout"), JSON_STRING) || !jv_is(jv_get(body, "stderr"), JSON_STRING) || !jv_is(code, JSON_NUMBER) ||
        (!jv_is(metadata, JSON_NONE) && !jv_is(metadata, JSON_OBJECT)))
        return false;
    struct jw w = jw_on(out);
    jw_obj(&w);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        jw_key(&w, texts[i]);
        jw_raw(&w, jv_raw(jv_get(body, texts[i])));
    }
    jw_key(&w, "exitCode");
    jw_raw(&w, jv_raw(code));
    if (jv_is(metadata, JSON_OBJECT)) {
        jw_key(&w, "metadata");
        jw_raw(&w, jv_raw(metadata));
    }
    jw_end(&w);
    return true;
}
