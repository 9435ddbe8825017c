/* SPDX-License-Identifier: Apache-2.0 */
/* fault.c - sorts the errors of providers into our classes. */
#include "model/fault.h"
#include <strings.h>

struct status_class {
    int         from, to;
    const char *code, *category;
    bool        retryable;
};

/* The first line that fits. 4990 and the like are not statuses of HTTP: they are what `known_errors` refers to. */
enum { CLASS_CONTEXT = 4000, CLASS_CONTENT = 4001, CLASS_QUOTA = 4290 };

static const struct status_class status_classes[] = {
    { 401, 401, "authentication_failed", "auth",       false },
    { 402, 402, "quota_exceeded",        "rate_limit", false },
    { 403, 403, "permission_denied",     "auth",       false },
    { 404, 404, "not_found",             "not_found",  false },
    { 408, 408, "timeout",               "timeout",    true },
    { 400, 400, "invalid_request",       "validation", false },
    { 413, 413, "request_too_large",     "validation", false },
    { 422, 422, "invalid_request",       "validation", false },
    { 429, 429, "rate_limited",          "rate_limit", true },
    { 504, 504, "timeout",               "timeout",    true },
    { 529, 529, "overloaded",            "provider",   true },
    { 500, 599, "provider_error",        "provider",   true },
    { CLASS_CONTEXT, CLASS_CONTEXT, "context_length_exceeded", "validation", false },
    { CLASS_CONTENT, CLASS_CONTENT, "content_filter",          "model",      false },
    { CLASS_QUOTA,   CLASS_QUOTA,   "quota_exceeded",          "rate_limit", false },
    { 0,   999, "provider_rejected",     "provider",   false },
};

/* Errors in a stream have no status, and some answers are clearer than their status. By error.type or error.code. */
static const struct {
    const char *name;
    int         status; /* is treated like it */
    bool        wins;   /* over the status of the response, too */
} known_errors[] = {
    { "insufficient_quota",        CLASS_QUOTA,   true },
    { "billing_not_active",        CLASS_QUOTA,   true },
    { "billing_error",             CLASS_QUOTA,   true },
    { "context_length_exceeded",   CLASS_CONTEXT, true },
    { "exceed_context_size_error", CLASS_CONTEXT, true },
    { "content_filter",            CLASS_CONTENT, true },
    { "content_policy_violation",  CLASS_CONTENT, true },
    { "rate_limit_exceeded",       429, false },
    { "rate_limit_error",          429, false },
    { "tokens",                    429, false },
    { "requests",                  429, false },
    { "invalid_request_error",     400, false },
    { "invalid_prompt",            400, false },
    { "BadRequestError",           400, false },
    { "request_too_large",         413, false },
    { "authentication_error",      401, false },
    { "invalid_api_key",           401, false },
    { "permission_error",          403, false },
    { "not_found_error",           404, false },
    { "model_not_found",           404, false },
    { "timeout",                   408, false },
    { "timeout_error",             408, false },
    { "server_error",              500, false },
    { "api_error",                 500, false },
    { "overloaded_error",          529, false },
};

static const struct status_class *status_class(int status)
{
    const struct status_class *class = status_classes;
    while (status < class->from || status > class->to)
        class++;
    return class;
}

struct failure failure_of(const char *code, const char *category, bool retryable, const char *message)
{
    return (struct failure){ .code = code, .category = category, .retryable = retryable, .message = span_of(message),
                             .retry_after_ms = -1 };
}

struct provider_fault fault_read(struct jv body, struct arena *arena)
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

/* Servers that have no name for it say it in words. */
static bool speaks_of_context(struct span message)
{
    static const char *const words[] = { "prompt is too long", "maximum context length", "context window", "context size",
                                         "context length" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (message.n && memmem(message.p, message.n, words[i], strlen(words[i])))
            return true;
    return false;
}

static int effective_status(const struct provider_fault *fault, int status)
{
    int named = 0;
    for (size_t i = 0; i < ARRAY_LEN(known_errors); i++) {
        if (!span_is(fault->code, known_errors[i].name) && !span_is(fault->type, known_errors[i].name))
            continue;
        if (known_errors[i].wins)
            return known_errors[i].status;
        named = named ? named : known_errors[i].status;
    }
    status = status ? status : fault->status ? fault->status : named ? named : 500;
    return (status == 400 || status == 413) && speaks_of_context(fault->message) ? CLASS_CONTEXT : status;
}

struct failure fault_class(const struct provider_fault *fault, int status, int64_t retry_after_ms, struct arena *arena)
{
    const struct status_class *class = status_class(effective_status(fault, status));
    struct failure             failure = failure_of(class->code, class->category, class->retryable, NULL);
    failure.message = fault->message;
    failure.provider_code = fault->code.n ? fault->code : fault->type;
    if (failure.retryable)
        failure.retry_after_ms = retry_after_ms;
    if (!failure.message.n)
        failure.message = status ? arena_printf(arena, "the provider answered with status %d", status)
                                 : SPAN("the provider reported an error without a message");
    return failure;
}

int64_t fault_retry_after(int64_t seconds, struct span milliseconds)
{
    int64_t ms = 0;
    size_t  n = 0;
    while (n < milliseconds.n && milliseconds.p[n] >= '0' && milliseconds.p[n] <= '9' && ms < RETRY_AFTER_MAX_MS)
        ms = ms * 10 + (milliseconds.p[n++] - '0');
    if (n == 0) {
        if (seconds < 0)
            return -1;
        ms = seconds < RETRY_AFTER_MAX_MS / 1000 ? seconds * 1000 : RETRY_AFTER_MAX_MS;
    }
    return ms < RETRY_AFTER_MAX_MS ? ms : RETRY_AFTER_MAX_MS;
}
