/* SPDX-License-Identifier: Apache-2.0 */
/* retry.c - which failed model calls are tried again, and after how long (teams.md 13.4). */
#include "model/retry.h"
#include "base/fields.h"

enum { ATTEMPTS_MAX = 1000000 };
#define DELAY_MAX_MS ((int64_t)30 * 86400 * 1000)

static const struct {
    const char *contract, *ours;
} class_names[RETRY_CLASS_COUNT] = {
    [RETRY_RATE_LIMITED]     = { "provider-rate-limited",     "rate_limited" },
    [RETRY_TIMEOUT]          = { "provider-timeout",          "timeout" },
    [RETRY_UNAVAILABLE]      = { "provider-unavailable",      "unavailable" },
    [RETRY_NETWORK]          = { "TypeError",                 "network" },
    [RETRY_AUTHENTICATION]   = { "provider-authentication",   "authentication" },
    [RETRY_NOT_FOUND]        = { "provider-not-found",        "not_found" },
    [RETRY_INVALID_REQUEST]  = { "provider-invalid-request",  "invalid_request" },
    [RETRY_INVALID_RESPONSE] = { "provider-invalid-response", "invalid_response" },
    [RETRY_ERROR]            = { "provider-error",            "error" },
    [RETRY_QUOTA]            = { "quota_exceeded",            "quota_exceeded" },
};

/* Our error objects: the first line that fits. code NULL: any. */
static const struct {
    const char      *category, *code;
    enum retry_class class;
} classes[] = {
    { "rate_limit", "quota_exceeded",          RETRY_QUOTA },
    { "rate_limit", NULL,                      RETRY_RATE_LIMITED },
    { "timeout",    NULL,                      RETRY_TIMEOUT },
    { "network",    NULL,                      RETRY_NETWORK },
    { "auth",       NULL,                      RETRY_AUTHENTICATION },
    { "not_found",  NULL,                      RETRY_NOT_FOUND },
    { "validation", NULL,                      RETRY_INVALID_REQUEST },
    { "provider",   "provider_error",          RETRY_UNAVAILABLE },
    { "provider",   "overloaded",              RETRY_UNAVAILABLE },
    { "provider",   "invalid_stream",          RETRY_INVALID_RESPONSE },
    { "provider",   "unexpected_content_type", RETRY_INVALID_RESPONSE },
    { "provider",   "answer_too_large",        RETRY_INVALID_RESPONSE },
    { "provider",   "provider_rejected",       RETRY_INVALID_REQUEST },
    { "provider",   NULL,                      RETRY_ERROR },
    { "model",      NULL,                      RETRY_ERROR },
};

static const uint32_t default_codes = 1u << RETRY_RATE_LIMITED | 1u << RETRY_TIMEOUT | 1u << RETRY_UNAVAILABLE | 1u << RETRY_NETWORK;

void retry_default(struct retry_policy *ret)
{
    *ret = (struct retry_policy){ .max_attempts = 3, .base_delay_ms = 250, .max_delay_ms = 4000, .jitter = true,
                                  .codes = default_codes };
}

/* ---- configuration ---- */

struct retry_fields {
    int64_t     max_attempts, base_delay_ms, max_delay_ms;
    struct span jitter;
    struct jv   retry_on;
};

#define AT(member) offsetof(struct retry_fields, member)
static const struct field retry_field_table[] = {
    { "max_attempts",  FIELD_INT,    AT(max_attempts),  false, 1, ATTEMPTS_MAX },
    { "base_delay_ms", FIELD_INT,    AT(base_delay_ms), false, 0, DELAY_MAX_MS },
    { "max_delay_ms",  FIELD_INT,    AT(max_delay_ms),  false, 0, DELAY_MAX_MS },
    { "jitter",        FIELD_STRING, AT(jitter),        false, 1, 16 },
    { "retry_on",      FIELD_ARRAY,  AT(retry_on),      false, 0, 0 },
};
#undef AT

static enum retry_class class_named(struct span name)
{
    for (int class = RETRY_NEVER + 1; class < RETRY_CLASS_COUNT; class++)
        if (span_is(name, class_names[class].contract) || span_is(name, class_names[class].ours))
            return (enum retry_class)class;
    return RETRY_NEVER;
}

static enum err parse_codes(struct jv list, const char *pointer, struct arena *arena, uint32_t *ret, struct error *error)
{
    uint32_t codes = 0;
    if (!jv_is(list, JSON_ARRAY))
        return ERR_OK;
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct span      name = jv_string(it.value, arena);
        enum retry_class class = class_named(name);
        if (class == RETRY_NEVER)
            return field_error(error, pointer, SPAN("retry_on"), "there is no code '%.*s'", (int)(name.n < 64 ? name.n : 64),
                               name.n ? name.p : "");
        codes |= 1u << class;
    }
    *ret = codes;
    return ERR_OK;
}

enum err retry_parse(struct jv config, const char *pointer, struct retry_policy *ret, struct error *error)
{
    struct arena        arena = { 0 };
    struct retry_policy policy;
    retry_default(&policy);
    struct retry_fields want = { .max_attempts = policy.max_attempts, .base_delay_ms = (int64_t)policy.base_delay_ms,
                                 .max_delay_ms = (int64_t)policy.max_delay_ms, .jitter = SPAN("full") };
    enum err            err = ERR_OK;

    if (!jv_is(config, JSON_NONE) && !jv_is(config, JSON_NULL))
        err = fields_read(config, pointer, retry_field_table, ARRAY_LEN(retry_field_table), &arena, &want, error);
    if (!err && !span_is(want.jitter, "full") && !span_is(want.jitter, "none"))
        err = field_error(error, pointer, SPAN("jitter"), "must be full or none");
    if (!err)
        err = parse_codes(want.retry_on, pointer, &arena, &policy.codes, error);
    if (!err) {
        policy.max_attempts = (uint32_t)want.max_attempts;
        policy.base_delay_ms = (uint64_t)want.base_delay_ms;
        policy.max_delay_ms = (uint64_t)want.max_delay_ms;
        policy.jitter = span_is(want.jitter, "full");
        *ret = policy;
    }
    arena_done(&arena);
    return err;
}

/* ---- decisions ---- */

static bool is_aborted(struct jv error)
{
    return jv_str_eq(jv_get(error, "code"), "aborted") || jv_str_eq(jv_get(error, "name"), "AbortError") ||
           jv_str_eq(jv_get(error, "category"), "cancelled");
}

enum retry_class retry_class_of(struct jv error)
{
    struct jv category = jv_get(error, "category"), code = jv_get(error, "code");
    if (is_aborted(error))
        return RETRY_NEVER;
    if (jv_str_eq(jv_get(error, "name"), "TypeError"))
        return RETRY_NETWORK;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (jv_str_eq(category, classes[i].category) && (!classes[i].code || jv_str_eq(code, classes[i].code)))
            return classes[i].class;
    for (int class = RETRY_NEVER + 1; class < RETRY_CLASS_COUNT; class++)
        if (class != RETRY_NETWORK && jv_str_eq(code, class_names[class].contract))
            return (enum retry_class)class;
    return RETRY_NEVER;
}

/* How long the provider asks us to wait; whole milliseconds. */
static bool told_delay(struct jv error, uint64_t *ret_ms)
{
    struct jv hint = jv_get(error, "retry_after_ms");
    double    ms;
    if (!jv_is(hint, JSON_NUMBER))
        hint = jv_get(jv_get(error, "detail"), "retryAfterMs");
    if (!jv_is(hint, JSON_NUMBER) || !jv_f64(hint, &ms) || !(ms >= 0) || ms > 1e300)
        return false;
    *ret_ms = ms < 9e15 ? (uint64_t)ms : UINT64_MAX;
    return true;
}

static uint64_t back_off(const struct retry_policy *policy, uint32_t attempt)
{
    uint64_t delay = policy->base_delay_ms;
    for (uint32_t i = 1; i < attempt && delay > 0 && delay < policy->max_delay_ms; i++)
        delay = delay > UINT64_MAX / 2 ? UINT64_MAX : delay * 2;
    return delay < policy->max_delay_ms ? delay : policy->max_delay_ms;
}

static bool is_tried_again(const struct retry_policy *policy, struct jv error, uint32_t attempt)
{
    enum retry_class class = retry_class_of(error);
    return attempt < policy->max_attempts && class != RETRY_NEVER && policy->codes & 1u << class;
}

bool retry_after(const struct retry_policy *policy, struct jv error, uint32_t attempt, double draw, uint64_t *ret_ms)
{
    uint64_t delay;
    assert(attempt >= 1 && draw >= 0 && draw < 1);
    if (!is_tried_again(policy, error, attempt))
        return false;
    if (told_delay(error, &delay))
        delay = delay < policy->max_delay_ms ? delay : policy->max_delay_ms;
    else
        delay = policy->jitter ? (uint64_t)((double)back_off(policy, attempt) * draw) : back_off(policy, attempt);
    *ret_ms = delay;
    return true;
}

bool retry_draws(const struct retry_policy *policy, struct jv error, uint32_t attempt)
{
    uint64_t told;
    return policy->jitter && is_tried_again(policy, error, attempt) && !told_delay(error, &told);
}
