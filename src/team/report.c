/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - what a caller is told when a team fails, and what a logger is told of each event (teams.md 11, 13.5). */
#include "team/result.h"

static void copy(struct jw *w, struct jv from, const char *name)
{
    if (jv_kind(jv_get(from, name)) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(jv_get(from, name)));
}

/* ---- errors ---- */

static bool is_known_code(struct jv code)
{
    static const char *const codes[] = {
        "invalid-configuration", "aborted", "timeout", "provider-authentication", "provider-invalid-request",
        "provider-invalid-response", "provider-not-found", "provider-rate-limited", "provider-timeout", "provider-unavailable",
        "provider-unsupported", "provider-error", "unknown",
    };
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (jv_str_eq(code, codes[i]))
            return true;
    return false;
}

/* Any object with that name, a known code and a string message is accepted as one (teams.md 11.4). */
bool team_error_is_own(struct jv error)
{
    return jv_str_eq(jv_get(error, "name"), "DogpileError") && is_known_code(jv_get(error, "code")) &&
           jv_is(jv_get(error, "message"), JSON_STRING);
}

void team_error_to_json(struct jv error, struct jw *w)
{
    jw_obj(w);
    copy(w, error, "name"), copy(w, error, "code"), copy(w, error, "message"), copy(w, error, "retryable");
    copy(w, error, "providerId"), copy(w, error, "detail");
    jw_end(w);
}

/* teams.md 13.2, by what the host's model layer knows of the failure. */
static const char *code_of_category(struct jv error)
{
    static const char *const codes[][2] = {
        { "auth", "provider-authentication" }, { "rate_limit", "provider-rate-limited" }, { "timeout", "provider-timeout" },
        { "network", "provider-error" },       { "not_found", "provider-not-found" },     { "validation", "provider-invalid-request" },
        { "model", "provider-invalid-response" },
    };
    struct jv category = jv_get(error, "category");
    if (jv_str_eq(jv_get(error, "code"), "run_timeout"))
        return "timeout";
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (jv_str_eq(category, codes[i][0]))
            return codes[i][1];
    if (jv_str_eq(category, "provider"))
        return jv_bool(jv_get(error, "retryable"), false) ? "provider-unavailable" : "provider-error";
    return "unknown";
}

void team_error_of_run(struct jv error, struct span provider_id, struct jw *w)
{
    if (team_error_is_own(error)) {
        team_error_to_json(error, w);
        return;
    }
    jw_obj(w);
    jw_key(w, "name"), jw_cstr(w, "DogpileError");
    jw_key(w, "code"), jw_cstr(w, code_of_category(error));
    copy(w, error, "message"), copy(w, error, "retryable");
    if (provider_id.n)
        jw_key(w, "providerId"), jw_str(w, provider_id);
    jw_key(w, "detail"), jw_obj(w);
    if (jv_kind(jv_get(error, "code")) != JSON_NONE)
        jw_key(w, "runErrorCode"), jw_raw(w, jv_raw(jv_get(error, "code")));
    if (jv_kind(jv_get(error, "retry_after_ms")) != JSON_NONE)
        jw_key(w, "retryAfterMs"), jw_raw(w, jv_raw(jv_get(error, "retry_after_ms")));
    jw_end(w), jw_end(w);
}

static bool in_detail(struct jv error, const char *name)
{
    return jv_kind(jv_get(jv_get(error, "detail"), name)) != JSON_NONE;
}

/* Flat: the error's own detail stands beside the code, and wins. */
static void put_detail(struct jv error, struct jw *w)
{
    static const char *const names[] = { "code", "providerId", "retryable" };
    CLEANUP(arena_done) struct arena arena = { 0 };
    jw_key(w, "detail"), jw_obj(w);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!in_detail(error, names[i]))
            copy(w, error, names[i]);
    for (struct jv_iter it = jv_iter(jv_get(error, "detail")); jv_step(&it);)
        jw_key_span(w, jv_string(it.name, &arena)), jw_raw(w, jv_raw(it.value));
    jw_end(w);
}

static void put_value(struct jv value, struct buf *out);

/* Array.prototype.toString: elements by commas, null as nothing. */
static void put_array(struct jv list, struct buf *out)
{
    bool comma = false;
    for (struct jv_iter it = jv_iter(list); jv_step(&it); comma = true) {
        if (comma)
            buf_byte(out, ',');
        if (!jv_is(it.value, JSON_NULL))
            put_value(it.value, out); /* no deeper than the parser's limit */
    }
}

/* String(value) of what is no error object. */
static void put_value(struct jv value, struct buf *out)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    double number;
    if (jv_is(value, JSON_STRING))
        buf_span(out, jv_string(value, &arena));
    else if (jv_is(value, JSON_OBJECT))
        BUF_LIT(out, "[object Object]");
    else if (jv_is(value, JSON_ARRAY))
        put_array(value, out);
    else if (jv_is(value, JSON_NUMBER) && jv_f64(value, &number))
        json_put_f64(out, number);
    else
        buf_span(out, jv_kind(value) == JSON_NONE ? SPAN("undefined") : jv_raw(value));
}

static void put_value_text(struct jv value, struct jw *w)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    put_value(value, &text);
    jw_str(w, buf_view(&text));
}

void team_error_event(struct jv error, bool is_error, struct span run_id, int64_t at_ms, struct jw *w)
{
    bool own = team_error_is_own(error);
    jw_obj(w);
    jw_key(w, "type"), jw_cstr(w, "error");
    jw_key(w, "runId"), jw_str(w, run_id);
    jw_key(w, "at"), jw_time(w, at_ms);
    if (own || is_error)
        copy(w, error, "name"), copy(w, error, "message");
    else
        jw_key(w, "name"), jw_cstr(w, "Error"), jw_key(w, "message"), put_value_text(error, w);
    if (own)
        put_detail(error, w);
    jw_end(w);
}

void team_aborted(struct span provider_id, bool cancelled, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "name"), jw_cstr(w, "DogpileError");
    jw_key(w, "code"), jw_cstr(w, "aborted");
    jw_key(w, "message"), jw_cstr(w, "The operation was aborted.");
    jw_key(w, "retryable"), jw_bool(w, false);
    jw_key(w, "providerId"), jw_str(w, provider_id);
    if (cancelled) {
        jw_key(w, "detail"), jw_obj(w);
        jw_key(w, "status"), jw_cstr(w, "cancelled");
        jw_end(w);
    }
    jw_end(w);
}

/* ---- logs ---- */

static const char *log_level(struct jv event)
{
    struct jv type = jv_get(event, "type");
    if (jv_str_eq(type, "model-output-chunk"))
        return "debug";
    if (jv_str_eq(type, "budget-stop"))
        return "warn";
    if (jv_str_eq(type, "error"))
        return "error";
    if (jv_str_eq(type, "tool-result") && jv_str_eq(jv_get(jv_get(event, "result"), "type"), "error"))
        return "warn";
    return "info";
}

static bool is_included(struct jv type, struct jv include)
{
    if (!jv_is(include, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(include); jv_step(&it);)
        if (jv_equal(it.value, type))
            return true;
    return false;
}

bool team_log_record(struct jv event, struct jv include, struct jw *w)
{
    static const char *const names[] = { "at", "runId", "agentId", "role" };
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv type = jv_get(event, "type");
    if (!is_included(type, include))
        return false;
    struct span type_text = jv_string(type, &arena);
    jw_obj(w);
    jw_key(w, "level"), jw_cstr(w, log_level(event));
    jw_key(w, "message"), jw_str(w, arena_printf(&arena, "dogpile:%.*s", SPAN_ARG(type_text)));
    jw_key(w, "fields"), jw_obj(w);
    jw_key(w, "eventType"), jw_str(w, type_text);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (jv_is(jv_get(event, names[i]), JSON_STRING))
            copy(w, event, names[i]);
    jw_end(w), jw_end(w);
    return true;
}
