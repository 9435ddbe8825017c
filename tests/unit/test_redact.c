/* SPDX-License-Identifier: Apache-2.0 */
/* test_redact.c - secrets and fields are found however they are written, and what is left is the same JSON. */
#include "unit/unit.h"
#include "base/redact.h"
#include <stdlib.h>

static struct redact *with(const char *const *secrets, const char *config, struct arena *arena)
{
    struct redact *redact = redact_new();
    struct error   error = { 0 };
    for (; secrets && *secrets; secrets++)
        redact_add(redact, span_of(*secrets));
    if (config)
        assert_int_equal(redact_configure(redact, json_read(span_of(config), arena), &error), ERR_OK);
    return redact;
}

static const char *const secrets[] = { "sk-live-0123456789", "p\"a\\ss/wörd", "sk-live-01234567", "nabcdefgh", NULL };

static void secrets_in_json(void **state)
{
    static const struct { const char *in, *out; } cases[] = {
        { "{\"a\":\"sk-live-0123456789\"}", "{\"a\":\"[redacted]\"}" },
        { "{\"a\":\"x sk-live-01234567899 y\"}", "{\"a\":\"x [redacted]9 y\"}" }, /* the longest */
        { "{\"a\":\"sk-live-01234567\"}", "{\"a\":\"[redacted]\"}" },
        { "{\"sk-live-0123456789\":1}", "{\"[redacted]\":1}" },
        { "[\"p\\\"a\\\\ss/w\303\266rd\"]", "[\"[redacted]\"]" },
        { "[\"p\\\"a\\\\ss\\/w\\u00f6rd\"]", "[\"[redacted]\"]" },
        { "[\"{\\\"k\\\":\\\"p\\\\\\\"a\\\\\\\\ss/w\303\266rd\\\"}\"]", "[\"{\\\"k\\\":\\\"[redacted]\\\"}\"]" }, /* JSON in a text */
        { "[\"\\nabcdefgh\"]", "[\"\\nabcdefgh\"]" }, /* a line break is no n */
        { "[\"\\\\nabcdefgh\"]", "[\"\\\\[redacted]\"]" },
        { "[\"nabcdefgh\",\"nabcdefghnabcdefgh\"]", "[\"[redacted]\",\"[redacted][redacted]\"]" },
        { "{\"a\":1,\"b\":[true,null,\"ok\"]}", "{\"a\":1,\"b\":[true,null,\"ok\"]}" },
        { "\"sk-live-0123", "\"sk-live-0123" },
    };
    struct arena   arena = { 0 };
    struct redact *redact = with(secrets, NULL, &arena);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span out = redact_json(redact, span_of(cases[i].in), &arena);
        assert_int_equal(out.n, strlen(cases[i].out));
        assert_memory_equal(out.p, cases[i].out, out.n);
        struct span again = redact_json(redact, out, &arena);
        assert_true(span_eq(again, out)); /* twice is once */
    }
    struct span same = SPAN("{\"a\":\"nothing here\"}");
    assert_ptr_equal(redact_json(redact, same, &arena).p, same.p);
    assert_ptr_equal(redact_json(NULL, same, &arena).p, same.p);
    redact_free(redact);
    arena_done(&arena);
}

static void fields_in_json(void **state)
{
    static const struct { const char *in, *out; } cases[] = {
        { "{\"password\":\"x\",\"b\":1}", "{\"password\":\"[redacted]\",\"b\":1}" },
        { "{\"a\":{\"Password\" : 12.5e3 },\"pin\":true}", "{\"a\":{\"Password\" : \"[redacted]\" },\"pin\":\"[redacted]\"}" },
        { "{\"password\":\"a\\\"b\\\\\",\"b\":1}", "{\"password\":\"[redacted]\",\"b\":1}" },
        { "{\"password\":{\"type\":\"string\"},\"pin\":null}", "{\"password\":{\"type\":\"string\"},\"pin\":null}" }, /* a schema */
        { "{\"password\":{\"pin\":\"x\"}}", "{\"password\":{\"pin\":\"[redacted]\"}}" },
        { "[\"password\",\"x\"]", "[\"password\",\"x\"]" },
        { "{\"my_password\":\"x\"}", "{\"my_password\":\"x\"}" },
        { "{\"arguments\":\"{\\\"password\\\": \\\"x\\\\\\\"y\\\",\\\"n\\\":1}\"}",
          "{\"arguments\":\"{\\\"password\\\": \\\"[redacted]\\\",\\\"n\\\":1}\"}" },
        { "{\"arguments\":\"{\\\"pin\\\":1234,\\\"n\\\":1}\"}", "{\"arguments\":\"{\\\"pin\\\":\\\"[redacted]\\\",\\\"n\\\":1}\"}" },
        { "{\"arguments\":\"{\\\"pin\\\":\\\"ab\\\\\\\\\\\"}\"}", "{\"arguments\":\"{\\\"pin\\\":\\\"[redacted]\\\"}\"}" },
    };
    struct arena   arena = { 0 };
    struct redact *redact = with(NULL, "{\"fields\":[\"password\",\"pin\"]}", &arena);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span out = redact_json(redact, span_of(cases[i].in), &arena);
        if (!span_is(out, cases[i].out))
            print_error("%s -> %.*s\n", cases[i].in, SPAN_ARG(out));
        assert_true(span_is(out, cases[i].out));
        assert_false(jv_is(json_read(out, &arena), JSON_NONE));
    }
    assert_true(redact_hides_arguments(redact));
    redact_free(redact);
    arena_done(&arena);
}

static void configuration(void **state)
{
    static const char *const wrong[] = { "{\"fields\":[\"id\"]}", "{\"fields\":[\"Values\"]}", "{\"fields\":[\"run_id\"]}", "{\"fields\":[1]}",
                                         "{\"secrets_env\":[\"PERDURE_TEST_NOT_SET\"]}", "{\"color\":1}", "{\"fields\":\"a\"}" };
    struct arena arena = { 0 };
    struct error error;
    setenv("PERDURE_TEST_SECRET", "from-the-environment", 1);
    struct redact *redact = with(NULL, "{\"secrets_env\":[\"PERDURE_TEST_SECRET\"]}", &arena);
    assert_true(span_is(redact_text(redact, SPAN("a from-the-environment b"), &arena), "a [redacted] b"));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(redact_configure(redact, json_read(span_of(wrong[i]), &arena), &error), ERR_VALIDATION);
    redact_free(redact);
    arena_done(&arena);
}

/* Cut at every place, into pieces of every size: the whole is the redacted whole. */
static void pieces(void **state)
{
    static const char text[] = "sk-live sk-live-0123456789, sk-live-01234567! p\"a\\ss/w\303\266rd sk-live-0123 nabcdefgh sk-li";
    struct arena   arena = { 0 };
    struct redact *redact = with(secrets, NULL, &arena);
    struct buf     whole = { 0 };
    assert_true(redact_append(redact, span_of(text), &whole));
    for (size_t size = 1; size < sizeof text; size++)
        for (size_t first = 1; first <= size; first++) {
            struct redact_carry carry = { 0 };
            struct buf          out = { 0 };
            for (size_t at = 0; at < sizeof text - 1;) {
                size_t n = at ? size : first;
                n = n < sizeof text - 1 - at ? n : sizeof text - 1 - at;
                buf_span(&out, redact_piece(redact, &carry, span_make(text + at, n), &arena));
                at += n;
            }
            buf_span(&out, redact_rest(redact, &carry, &arena));
            assert_null(memmem(out.p, out.len, "0123456789", 10));
            assert_null(memmem(out.p, out.len, "nabcdefgh", 9));
            assert_int_equal(out.len, whole.len);
            assert_memory_equal(out.p, whole.p, whole.len);
            redact_carry_done(&carry);
            buf_done(&out);
            arena_reset(&arena);
        }
    buf_done(&whole);
    redact_free(redact);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_in_json),
        cmocka_unit_test(fields_in_json),
        cmocka_unit_test(configuration),
        cmocka_unit_test(pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
