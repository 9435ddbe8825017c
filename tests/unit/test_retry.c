/* SPDX-License-Identifier: Apache-2.0 */
/* test_retry.c - which failed model calls are tried again, and after how long (teams.md 13.4). */
#include "unit.h"
#include "model/retry.h"

static struct jv parse(struct arena *arena, const char *text)
{
    struct jv value = json_read(span_of(text), arena);
    assert_int_not_equal(jv_kind(value), JSON_NONE);
    return value;
}

#define OURS(category, code) "{\"code\":\"" code "\",\"category\":\"" category "\",\"message\":\"m\",\"retryable\":true,\"source\":\"provider\"}"
#define THEIRS(code)         "{\"name\":\"DogpileError\",\"code\":\"" code "\",\"retryable\":true}"

static const struct {
    const char      *error;
    enum retry_class class;
    bool             by_default;
} cases[] = {
    { OURS("rate_limit", "rate_limited"),         RETRY_RATE_LIMITED,     true },
    { OURS("rate_limit", "quota_exceeded"),       RETRY_QUOTA,            false },
    { OURS("timeout", "timeout"),                 RETRY_TIMEOUT,          true },
    { OURS("network", "connection_failed"),       RETRY_NETWORK,          true },
    { OURS("network", "stream_cut"),              RETRY_NETWORK,          true },
    { OURS("provider", "provider_error"),         RETRY_UNAVAILABLE,      true },
    { OURS("provider", "overloaded"),             RETRY_UNAVAILABLE,      true },
    { OURS("provider", "invalid_stream"),         RETRY_INVALID_RESPONSE, false },
    { OURS("provider", "unexpected_content_type"), RETRY_INVALID_RESPONSE, false },
    { OURS("provider", "answer_too_large"),       RETRY_INVALID_RESPONSE, false },
    { OURS("provider", "provider_rejected"),      RETRY_INVALID_REQUEST,  false },
    { OURS("provider", "something"),              RETRY_ERROR,            false },
    { OURS("auth", "permission_denied"),          RETRY_AUTHENTICATION,   false },
    { OURS("not_found", "not_found"),             RETRY_NOT_FOUND,        false },
    { OURS("validation", "invalid_request"),      RETRY_INVALID_REQUEST,  false },
    { OURS("model", "content_filter"),            RETRY_ERROR,            false },
    { OURS("cancelled", "cancelled"),             RETRY_NEVER,            false },
    { OURS("budget", "budget_exceeded"),          RETRY_NEVER,            false },
    { THEIRS("provider-rate-limited"),            RETRY_RATE_LIMITED,     true },
    { THEIRS("provider-timeout"),                 RETRY_TIMEOUT,          true },
    { THEIRS("provider-unavailable"),             RETRY_UNAVAILABLE,      true },
    { THEIRS("provider-error"),                   RETRY_ERROR,            false },
    { THEIRS("provider-authentication"),          RETRY_AUTHENTICATION,   false },
    { THEIRS("provider-not-found"),               RETRY_NOT_FOUND,        false },
    { THEIRS("provider-invalid-request"),         RETRY_INVALID_REQUEST,  false },
    { THEIRS("provider-invalid-response"),        RETRY_INVALID_RESPONSE, false },
    { THEIRS("aborted"),                          RETRY_NEVER,            false },
    { THEIRS("timeout"),                          RETRY_NEVER,            false },
    { "{\"name\":\"TypeError\",\"message\":\"fetch failed\"}", RETRY_NETWORK, true },
    { "{\"name\":\"AbortError\",\"message\":\"\"}", RETRY_NEVER,          false },
    { "{\"name\":\"Error\",\"message\":\"x\"}",   RETRY_NEVER,            false },
    { "{}",                                       RETRY_NEVER,            false },
};

static void each_error_has_its_class(void **state)
{
    struct retry_policy policy;
    struct arena        arena = { 0 };
    retry_default(&policy);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jv error = parse(&arena, cases[i].error);
        uint64_t  ms;
        assert_int_equal(retry_class_of(error), cases[i].class);
        assert_int_equal(retry_after(&policy, error, 1, 0, &ms), cases[i].by_default);
        assert_int_equal(retry_draws(&policy, error, 1), cases[i].by_default);

        struct retry_policy all = policy;
        all.codes = UINT32_MAX;
        assert_int_equal(retry_after(&all, error, 1, 0, &ms), cases[i].class != RETRY_NEVER);
    }
    arena_done(&arena);
}

static void the_default_is_the_contracts(void **state)
{
    struct retry_policy policy;
    retry_default(&policy);
    assert_int_equal(policy.max_attempts, 3);
    assert_int_equal(policy.base_delay_ms, 250);
    assert_int_equal(policy.max_delay_ms, 4000);
    assert_true(policy.jitter);
}

/* "base 100, max 1000, draws 0.5 and 0.25: delays 50 (a network error), 1000 (hint 5000), 100 (third failure, 400 * 0.25)" */
static void the_contracts_example_holds(void **state)
{
    struct arena        arena = { 0 };
    struct retry_policy policy;
    uint64_t            ms;
    struct jv           network = parse(&arena, OURS("network", "connection_failed"));
    struct jv           hint = parse(&arena, "{\"name\":\"DogpileError\",\"code\":\"provider-rate-limited\",\"detail\":{\"retryAfterMs\":5000}}");
    assert_int_equal(retry_parse(parse(&arena, "{\"max_attempts\":4,\"base_delay_ms\":100,\"max_delay_ms\":1000}"), "/retry", &policy, NULL),
                     ERR_OK);
    assert_true(retry_after(&policy, network, 1, 0.5, &ms));
    assert_int_equal(ms, 50);
    assert_true(retry_after(&policy, hint, 2, 0.999, &ms));
    assert_int_equal(ms, 1000);
    assert_false(retry_draws(&policy, hint, 2));
    assert_true(retry_after(&policy, network, 3, 0.25, &ms));
    assert_int_equal(ms, 100);
    assert_false(retry_after(&policy, network, 4, 0.25, &ms));
    arena_done(&arena);
}

static void back_off_doubles_up_to_its_limit(void **state)
{
    static const uint64_t want[] = { 250, 500, 1000, 2000, 4000, 4000, 4000 };
    struct arena          arena = { 0 };
    struct retry_policy   policy;
    uint64_t              ms, seed = 1;
    struct jv             error = parse(&arena, OURS("timeout", "timeout"));
    assert_int_equal(retry_parse(parse(&arena, "{\"max_attempts\":1000000,\"jitter\":\"none\"}"), "", &policy, NULL), ERR_OK);
    assert_false(retry_draws(&policy, error, 1));
    for (uint32_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(retry_after(&policy, error, i + 1, 0.5, &ms));
        assert_int_equal(ms, want[i]);
    }
    assert_true(retry_after(&policy, error, 999999, 0.5, &ms));
    assert_int_equal(ms, 4000);
    assert_false(retry_after(&policy, error, 1000000, 0.5, &ms));

    policy.jitter = true;
    for (unsigned i = 0; i < 1000; i++) { /* full jitter: anywhere below the delay, never above */
        double draw = (double)(next_random(&seed) >> 11) / 9007199254740992.0;
        assert_true(retry_after(&policy, error, 3, draw, &ms));
        assert_int_equal(ms, (uint64_t)(1000 * draw));
    }
    policy.max_delay_ms = UINT64_MAX; /* no overflow */
    policy.jitter = false;
    assert_true(retry_after(&policy, error, 200, 0, &ms));
    assert_true(ms == UINT64_MAX);
    policy.base_delay_ms = 0;
    assert_true(retry_after(&policy, error, 900000, 0, &ms));
    assert_int_equal(ms, 0);
    arena_done(&arena);
}

static void a_hint_is_taken_when_it_is_one(void **state)
{
    static const struct {
        const char *hint;
        uint64_t    ms;
        bool        taken;
    } hints[] = {
        { "0", 0, true },         { "1", 1, true },        { "1500.9", 1500, true }, { "4001", 4000, true }, { "1e99", 4000, true },
        { "-1", 125, false },     { "\"1\"", 125, false }, { "null", 125, false },
    };
    struct arena        arena = { 0 };
    struct retry_policy policy;
    retry_default(&policy);
    for (size_t i = 0; i < ARRAY_LEN(hints); i++) {
        struct jv error = parse(&arena, arena_printf(&arena, "{\"category\":\"rate_limit\",\"code\":\"rate_limited\",\"retry_after_ms\":%s}",
                                                     hints[i].hint).p);
        uint64_t  ms;
        assert_true(retry_after(&policy, error, 1, 0.5, &ms));
        assert_int_equal(ms, hints[i].ms);
        assert_int_equal(retry_draws(&policy, error, 1), !hints[i].taken);
    }
    arena_done(&arena);
}

static void a_policy_is_read_and_what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *config, *field;
    } bad[] = {
        { "{\"max_attempts\":0}", "/retry/max_attempts" },       { "{\"base_delay_ms\":-1}", "/retry/base_delay_ms" },
        { "{\"max_delay_ms\":-1}", "/retry/max_delay_ms" },      { "{\"jitter\":\"some\"}", "/retry/jitter" },
        { "{\"jitter\":true}", "/retry/jitter" },                { "{\"retry_on\":[\"weather\"]}", "/retry/retry_on" },
        { "{\"retry_on\":[1]}", "/retry/retry_on" },             { "{\"tries\":1}", "/retry/tries" },
        { "[]", "/retry" },
    };
    struct arena        arena = { 0 };
    struct retry_policy policy = { .max_attempts = 77 };
    struct error        error;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(retry_parse(parse(&arena, bad[i].config), "/retry", &policy, &error), ERR_VALIDATION);
        assert_string_equal(error.field, bad[i].field);
        assert_int_equal(policy.max_attempts, 77);
    }
    assert_int_equal(retry_parse((struct jv){ 0 }, "/retry", &policy, &error), ERR_OK);
    assert_int_equal(policy.max_attempts, 3);
    assert_int_equal(retry_parse(parse(&arena, "{\"retry_on\":[\"provider-error\",\"network\",\"quota_exceeded\"]}"), "", &policy, NULL), ERR_OK);
    assert_int_equal(policy.codes, 1u << RETRY_ERROR | 1u << RETRY_NETWORK | 1u << RETRY_QUOTA);
    assert_int_equal(retry_parse(parse(&arena, "{\"retry_on\":[]}"), "", &policy, NULL), ERR_OK);
    assert_int_equal(policy.codes, 0);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_its_class),
        cmocka_unit_test(the_default_is_the_contracts),
        cmocka_unit_test(the_contracts_example_holds),
        cmocka_unit_test(back_off_doubles_up_to_its_limit),
        cmocka_unit_test(a_hint_is_taken_when_it_is_one),
        cmocka_unit_test(a_policy_is_read_and_what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
