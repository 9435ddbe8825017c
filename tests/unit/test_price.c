/* SPDX-License-Identifier: Apache-2.0 */
/* test_price.c - costs are exact, and what is unknown stays unknown. */
#include "unit.h"
#include "model/price.h"
#include <stdio.h>
#include <stdlib.h>

static struct prices *table(struct arena *arena, const char *config)
{
    struct prices *prices = NULL;
    struct error   error;
    if (prices_new(*config ? json_read(span_of(config), arena) : (struct jv){ 0 }, &prices, &error))
        fail_msg("%s: %s", error.field, error.message);
    return prices;
}

static void check_cost(const struct prices *prices, const char *provider, const char *model, const char *usage, const char *want)
{
    struct arena arena = { 0 };
    struct buf   text = { 0 };
    int64_t      pico = -7;
    if (price_of(prices, span_of(provider), span_of(model), json_read(span_of(usage), &arena), &pico))
        usd_text(pico, &text);
    else
        BUF_LIT(&text, "unknown");
    buf_byte(&text, 0);
    assert_string_equal(text.p, want);
    buf_done(&text);
    arena_done(&arena);
}

#define MINE "{\"mine/m\":{\"input\":\"2.5\",\"cache_read\":\"0.25\",\"cache_write\":3.125,\"output\":\"10.000001\",\"reasoning\":\"20\"}," \
             "\"mine/plain\":{\"input\":1,\"output\":2},\"mine/free\":{\"input\":\"0\",\"output\":\"0\"},\"local/*\":{\"input\":\"0\"," \
             "\"output\":\"0\"},\"local/dear\":{\"input\":\"1000000\",\"output\":\"1000000\"},\"openai/gpt-4o\":null,\"a/b/c\":{\"input\":7,\"output\":7}}"
#define BUCKETS(i, r, w, o, t) "{\"input_tokens\":1,\"output_tokens\":1,\"buckets\":{\"input\":" i ",\"cache_read\":" r \
                               ",\"cache_write\":" w ",\"output\":" o ",\"reasoning\":" t "}}"

static void a_call_costs_what_its_buckets_cost(void **state)
{
    struct arena   arena = { 0 };
    struct prices *prices = table(&arena, MINE);
    check_cost(prices, "mine", "m", BUCKETS("1000000", "0", "0", "0", "0"), "2.5");
    check_cost(prices, "mine", "m", BUCKETS("0", "1000000", "0", "0", "0"), "0.25");
    check_cost(prices, "mine", "m", BUCKETS("0", "0", "1000000", "0", "0"), "3.125");
    check_cost(prices, "mine", "m", BUCKETS("0", "0", "0", "1000000", "0"), "10.000001");
    check_cost(prices, "mine", "m", BUCKETS("0", "0", "0", "0", "1000000"), "20");
    check_cost(prices, "mine", "m", BUCKETS("1", "1", "1", "1", "1"), "0.000035875001");
    check_cost(prices, "mine", "m", "{\"input_tokens\":2,\"output_tokens\":1}", "0.000015000001");
    check_cost(prices, "mine", "plain", BUCKETS("1", "0", "0", "1", "1"), "0.000005"); /* thinking costs what writing does */
    check_cost(prices, "mine", "free", BUCKETS("9", "0", "0", "9", "9"), "0");
    check_cost(prices, "local", "anything", BUCKETS("9", "0", "0", "9", "0"), "0");
    check_cost(prices, "local", "dear", BUCKETS("1", "0", "0", "0", "0"), "1");
    check_cost(prices, "a", "b/c", BUCKETS("1000000", "0", "0", "0", "0"), "7");
    prices_free(prices);
    arena_done(&arena);
}

static void what_is_unknown_stays_unknown(void **state)
{
    struct arena   arena = { 0 };
    struct prices *prices = table(&arena, MINE);
    int64_t        pico = 7;
    check_cost(prices, "mine", "other", BUCKETS("1", "0", "0", "0", "0"), "unknown");
    check_cost(prices, "min", "e/m", BUCKETS("1", "0", "0", "0", "0"), "unknown");
    check_cost(prices, "scripted", "writer", BUCKETS("0", "0", "0", "0", "0"), "unknown");
    check_cost(prices, "mine", "plain", BUCKETS("1", "1", "0", "0", "0"), "unknown"); /* no price for what the cache gives */
    check_cost(prices, "mine", "plain", BUCKETS("1", "0", "1", "0", "0"), "unknown");
    check_cost(prices, "mine", "m", "{}", "unknown");
    check_cost(prices, "mine", "m", "null", "unknown");
    check_cost(prices, "mine", "m", "{\"input_tokens\":1}", "unknown");
    check_cost(prices, "mine", "m", "{\"input_tokens\":-1,\"output_tokens\":1}", "unknown");
    check_cost(prices, "mine", "m", BUCKETS("1.5", "0", "0", "0", "0"), "unknown");
    check_cost(prices, "mine", "m", "{\"buckets\":{\"input\":1}}", "unknown");
    check_cost(prices, "openai", "gpt-4o", BUCKETS("1", "0", "0", "0", "0"), "unknown"); /* taken away */
    check_cost(prices, "local", "dear", BUCKETS("9223372", "0", "0", "0", "0"), "9223372");
    check_cost(prices, "local", "dear", BUCKETS("9223373", "0", "0", "0", "0"), "unknown"); /* does not fit */
    check_cost(prices, "local", "dear", BUCKETS("9223372", "0", "0", "1", "0"), "unknown");
    assert_false(price_of(prices, SPAN("mine"), SPAN("m"), (struct jv){ 0 }, &pico));
    assert_int_equal(pico, 7);
    prices_free(prices);
    arena_done(&arena);
}

static void the_list_is_well_formed(void **state)
{
    struct arena   arena = { 0 };
    struct prices *prices = table(&arena, "");
    for (const struct price_line *line = price_table; line->name; line++) {
        const char *slash = strchr(line->name, '/');
        int64_t     input, output;
        assert_non_null(slash);
        struct span provider = span_make(line->name, (size_t)(slash - line->name)), model = span_of(slash + 1);
        assert_true(span_is(provider, "openai") || span_is(provider, "anthropic"));
        assert_true(price_bound(prices, provider, model, 1, 0, &input) && price_bound(prices, provider, model, 0, 1, &output));
        assert_true(input > 0 && output > input); /* per token, in 10^-12 USD */
        for (const struct price_line *other = line + 1; other->name; other++)
            assert_string_not_equal(line->name, other->name);
    }
    check_cost(prices, "anthropic", "claude-sonnet-4-5", BUCKETS("1000", "2000", "3000", "400", "0"), "0.02085");
    check_cost(prices, "openai", "gpt-4o", BUCKETS("36", "64", "0", "20", "30"), "0.00067");
    prices_free(prices);
    arena_done(&arena);
}

static void a_bound_is_never_below_a_cost(void **state)
{
    struct arena   arena = { 0 };
    struct prices *prices = table(&arena, MINE);
    uint64_t       seed = 3;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t t[5], input, output;
        char     usage[256];
        int64_t  cost, bound;
        for (unsigned k = 0; k < 5; k++)
            t[k] = next_random(&seed) % 100000;
        snprintf(usage, sizeof usage, "{\"buckets\":{\"input\":%llu,\"cache_read\":%llu,\"cache_write\":%llu,\"output\":%llu,\"reasoning\":%llu}}",
                 (unsigned long long)t[0], (unsigned long long)t[1], (unsigned long long)t[2], (unsigned long long)t[3],
                 (unsigned long long)t[4]);
        input = t[0] + t[1] + t[2];
        output = t[3] + t[4];
        struct arena scratch = { 0 };
        assert_true(price_of(prices, SPAN("mine"), SPAN("m"), json_read(span_of(usage), &scratch), &cost));
        assert_true(price_bound(prices, SPAN("mine"), SPAN("m"), input, output, &bound));
        assert_true(bound >= cost);
        /* exact: the same sum in wider integers */
        __int128 want = (__int128)t[0] * 2500000 + (__int128)t[1] * 250000 + (__int128)t[2] * 3125000 + (__int128)t[3] * 10000001 +
                        (__int128)t[4] * 20000000;
        assert_true(want == cost);
        arena_done(&scratch);
    }
    int64_t pico;
    assert_false(price_bound(prices, SPAN("nobody"), SPAN("m"), 1, 1, &pico));
    assert_false(price_bound(prices, SPAN("mine"), SPAN("m"), UINT64_MAX, 1, &pico));
    prices_free(prices);
    arena_done(&arena);
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *config, *field;
    } cases[] = {
        { "[]", "/prices" },
        { "{\"m\":{\"input\":1,\"output\":1}}", "/prices/m" },
        { "{\"/m\":{\"input\":1,\"output\":1}}", "/prices/~1m" },
        { "{\"p/\":{\"input\":1,\"output\":1}}", "/prices/p~1" },
        { "{\"p/m\":{\"input\":1}}", "/prices/p~1m/output" },
        { "{\"p/m\":{\"input\":null,\"output\":1}}", "/prices/p~1m/input" },
        { "{\"p/m\":{\"input\":1,\"output\":1,\"image\":1}}", "/prices/p~1m/image" },
        { "{\"p/m\":{\"input\":-1,\"output\":1}}", "/prices/p~1m/input" },
        { "{\"p/m\":{\"input\":1e3,\"output\":1}}", "/prices/p~1m/input" },
        { "{\"p/m\":{\"input\":\"1.0000001\",\"output\":1}}", "/prices/p~1m/input" },
        { "{\"p/m\":{\"input\":\"1000000.000001\",\"output\":1}}", "/prices/p~1m/input" },
        { "{\"p/m\":{\"input\":\"$1\",\"output\":1}}", "/prices/p~1m/input" },
        { "{\"p/m\":{\"input\":1,\"output\":true}}", "/prices/p~1m/output" },
        { "{\"p/m\":7}", "/prices/p~1m" },
    };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct prices *prices = NULL;
        struct error   error = { 0 };
        assert_int_equal(prices_new(json_read(span_of(cases[i].config), &arena), &prices, &error), ERR_VALIDATION);
        assert_string_equal(error.field, cases[i].field);
        assert_null(prices);
    }
    arena_done(&arena);
}

static void money_is_written_and_read(void **state)
{
    static const struct {
        int64_t     pico;
        const char *text;
    } cases[] = {
        { 0, "0" }, { 1, "0.000000000001" }, { 1230000000, "0.00123" }, { 1000000000000, "1" }, { -1500000000000, "-1.5" },
        { INT64_MAX, "9223372.036854775807" }, { INT64_MIN, "-9223372.036854775808" },
    };
    static const char *const bad[] = { "", "-", ".", "1.", ".5", "+1", "1e3", " 1", "1 ", "0x1", "--1", "1.0000000000001", "1,5",
                                       "9223372.036854775808", "-9223372.036854775809", "99999999999999999999" };
    static const struct {
        const char *text;
        int64_t     pico;
    } more[] = { { "00.10", 100000000000 }, { "-0", 0 }, { "7.000000000000", 7000000000000 } };
    struct buf text = { 0 };
    int64_t    pico;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        text.len = 0;
        usd_text(cases[i].pico, &text);
        assert_true(span_is(buf_view(&text), cases[i].text));
        assert_int_equal(usd_parse(buf_view(&text), &pico), ERR_OK);
        assert_true(pico == cases[i].pico);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(usd_parse(span_of(bad[i]), &pico), ERR_VALIDATION);
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        assert_int_equal(usd_parse(span_of(more[i].text), &pico), ERR_OK);
        assert_true(pico == more[i].pico);
    }
    uint64_t seed = 11;
    for (unsigned i = 0; i < 20000; i++) { /* there and back, whatever the number */
        int64_t value = (int64_t)(next_random(&seed) >> (next_random(&seed) % 64)) * (i % 2 ? 1 : -1);
        text.len = 0;
        usd_text(value, &text);
        assert_int_equal(usd_parse(buf_view(&text), &pico), ERR_OK);
        assert_true(pico == value);
        assert_true(text.len == 1 || !memchr(text.p, '.', text.len) || text.p[text.len - 1] != '0');
    }
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_costs_what_its_buckets_cost),
        cmocka_unit_test(what_is_unknown_stays_unknown),
        cmocka_unit_test(the_list_is_well_formed),
        cmocka_unit_test(a_bound_is_never_below_a_cost),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(money_is_written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
