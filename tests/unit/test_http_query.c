/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_query.c - percent-decoding and query parameters. */
#include "net/http_server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void decodes(void **state)
{
    static const struct {
        const char *in, *out; /* out NULL: refused */
        bool        plus;
    } cases[] = {
        { "", "", false },          { "abc", "abc", false },  { "a%20b", "a b", false }, { "a+b", "a+b", false },
        { "a+b", "a b", true },     { "%41%6a%6A", "Ajj", false }, { "%2B", "+", true }, { "%", NULL, false },
        { "%4", NULL, false },      { "a%4", NULL, false },   { "%g0", NULL, false },    { "%0g", NULL, false },
        { "%%41", NULL, false },    { "%C3%A4", "\xc3\xa4", false },
    };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span out = SPAN("untouched");
        bool        good = url_decode(span_of(cases[i].in), cases[i].plus, &arena, &out);
        assert_int_equal(good, cases[i].out != NULL);
        assert_true(span_is(out, good ? cases[i].out : "untouched"));
    }
    struct span nul;
    assert_true(url_decode(SPAN("a%00b"), false, &arena, &nul));
    assert_int_equal(nul.n, 3);
    arena_done(&arena);
}

static void finds_parameters(void **state)
{
    static const struct {
        const char *query, *name, *value;
        size_t      count;
        bool        bad;
    } cases[] = {
        { "", "a", NULL, 0, false },
        { "a=1", "a", "1", 1, false },
        { "b=2&a=1", "a", "1", 1, false },
        { "a=1&a=2&aa=3", "a", "1", 2, false },
        { "a", "a", "", 1, false },
        { "a=", "a", "", 1, false },
        { "&&a=x+y%26&", "a", "x y&", 1, false },
        { "a=b=c", "a", "b=c", 1, false },
        { "%61=1", "a", "1", 1, false },
        { "a+b=1", "a b", "1", 1, false },
        { "=1", "", NULL, 0, false },
        { "a=%zz", "a", NULL, 1, true },
        { "a=1&a=%zz", "a", "1", 2, false },
        { "a%00=1", "a", NULL, 0, false },
        { "a%=1", "a", NULL, 0, false },
        { "A=1", "a", NULL, 0, false },
    };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span value = SPAN_NONE;
        bool        bad = false;
        size_t      count = query_get(span_of(cases[i].query), cases[i].name, &arena, &value, &bad);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(bad, cases[i].bad);
        assert_int_equal(value.p != NULL, cases[i].value != NULL);
        if (cases[i].value)
            assert_true(span_is(value, cases[i].value));
        assert_int_equal(query_get(span_of(cases[i].query), cases[i].name, &arena, NULL, NULL), count);
    }
    assert_int_equal(query_get(SPAN_NONE, "a", &arena, NULL, NULL), 0);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes),
        cmocka_unit_test(finds_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
