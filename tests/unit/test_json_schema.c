/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of base/json_schema.h: what is a schema of the subset, what fits it, and that nothing takes for ever. */
#include "unit.h"
#include "base/json_schema.h"
#include <time.h>

static struct arena arena;

static int done_arena(void **state)
{
    arena_done(&arena);
    return 0;
}

static struct jv must(const char *text)
{
    static const struct json_limits limits = { .depth = 200 };
    struct json *doc = ARENA_NEW(&arena, struct json);
    struct error error = { 0 };
    if (json_parse(arena_copy(&arena, span_of(text)), &limits, &arena, doc, &error))
        fail_msg("%s: %s", text, error.message);
    return json_root(doc);
}

/* "pointer code" of each issue, one behind the other with "; ". */
static struct span told(const struct issues *issues)
{
    struct buf text = { 0 };
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++)
        buf_printf(&text, "%s%.*s %.*s", i ? "; " : "", SPAN_ARG(issues->items[i].pointer), SPAN_ARG(issues->items[i].code));
    struct span kept = arena_copy(&arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

static void refuses_what_is_no_schema_of_the_subset(void **state)
{
    static const struct { const char *schema, *issues; } cases[] = {
        { "true", "" },
        { "{}", "" },
        { "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":[\"string\",\"null\"]}}}", "" },
        { "{\"title\":\"t\",\"description\":\"d\",\"default\":1,\"examples\":[1],\"$comment\":\"c\",\"readOnly\":true}", "" },
        { "5", "/s type" },
        { "{\"type\":\"text\"}", "/s/type enum" },
        { "{\"type\":[]}", "/s/type enum" },
        { "{\"type\":[\"string\",7]}", "/s/type enum" },
        { "{\"enum\":[]}", "/s/enum type" },
        { "{\"enum\":\"a\"}", "/s/enum type" },
        { "{\"required\":[\"a\",1]}", "/s/required type" },
        { "{\"minItems\":-1}", "/s/minItems type" },
        { "{\"maxLength\":1.5}", "/s/maxLength type" },
        { "{\"minimum\":\"1\"}", "/s/minimum type" },
        { "{\"properties\":[]}", "/s/properties type" },
        { "{\"properties\":{\"a/b\":{\"pattern\":\"x\"}}}", "/s/properties/a~1b/pattern unsupported_keyword" },
        { "{\"items\":[{}]}", "/s/items type" },
        { "{\"anyOf\":[]}", "/s/anyOf type" },
        { "{\"oneOf\":[{},{\"type\":1}]}", "/s/oneOf/1/type enum" },
        { "{\"additionalProperties\":7}", "/s/additionalProperties type" },
        { "{\"$ref\":\"#\"}", "/s/$ref unsupported_keyword" },
        { "{\"format\":\"date\",\"uniqueItems\":true}", "/s/format unsupported_keyword; /s/uniqueItems unsupported_keyword" },
        { "{\"title\":1}", "/s/title type" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct issues issues = { .arena = &arena };
        struct buf    at = { 0 };
        BUF_LIT(&at, "/s");
        json_schema_check(must(cases[i].schema), &at, &issues);
        if (!span_is(told(&issues), cases[i].issues))
            fail_msg("%s: %.*s", cases[i].schema, SPAN_ARG(told(&issues)));
        assert_true(span_is(buf_view(&at), "/s"));
        buf_done(&at);
    }
}

static void says_what_does_not_fit_and_where(void **state)
{
    static const struct { const char *schema, *value, *issues; } cases[] = {
        { "true", "1", "" },
        { "false", "1", "/input not" },
        { "{\"type\":\"integer\"}", "1.0", "" },
        { "{\"type\":\"integer\"}", "1e2", "" },
        { "{\"type\":\"integer\"}", "1.5", "/input type" },
        { "{\"type\":\"integer\"}", "12345678901234567890123", "" },
        { "{\"type\":\"number\"}", "true", "/input type" },
        { "{\"type\":\"boolean\"}", "false", "" },
        { "{\"type\":[\"null\",\"string\"]}", "null", "" },
        { "{\"type\":[\"null\",\"string\"]}", "[]", "/input type" },
        { "{\"enum\":[1,\"a\",{\"b\":[2]}]}", "{\"b\":[2.0]}", "" },
        { "{\"enum\":[1,\"a\"]}", "\"b\"", "/input enum" },
        { "{\"const\":null}", "null", "" },
        { "{\"const\":1}", "2", "/input const" },
        { "{\"type\":\"object\",\"required\":[\"ok\",\"who\"],\"properties\":{\"ok\":{\"type\":\"boolean\"}}}", "{\"ok\":1}",
          "/input/who required; /input/ok type" },
        { "{\"required\":[\"a\"]}", "[]", "" },
        { "{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"a\":1,\"b~/\":2}", "/input/b~0~1 unknown_member" },
        { "{\"additionalProperties\":{\"type\":\"string\"}}", "{\"a\":\"x\",\"b\":2}", "/input/b type" },
        { "{\"minProperties\":1,\"maxProperties\":2}", "{}", "/input min_properties" },
        { "{\"minProperties\":1,\"maxProperties\":2}", "{\"a\":1,\"b\":1,\"c\":1}", "/input max_properties" },
        { "{\"items\":{\"type\":\"string\"},\"minItems\":1,\"maxItems\":2}", "[\"a\",1,\"c\"]", "/input/1 type; /input max_items" },
        { "{\"minItems\":1}", "[]", "/input min_items" },
        { "{\"minLength\":2,\"maxLength\":3}", "\"\\u00e9\\u00e9\"", "" },
        { "{\"minLength\":2,\"maxLength\":3}", "\"\xf0\x9f\xa6\x89\"", "/input min_length" },
        { "{\"maxLength\":3}", "\"abcd\"", "/input max_length" },
        { "{\"minimum\":1,\"maximum\":2}", "1", "" },
        { "{\"minimum\":1}", "0.999", "/input range" },
        { "{\"maximum\":2}", "2.5", "/input range" },
        { "{\"exclusiveMinimum\":1}", "1", "/input range" },
        { "{\"exclusiveMaximum\":2}", "2", "/input range" },
        { "{\"minimum\":1}", "\"0\"", "" },
        { "{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "4", "/input any_of" },
        { "{\"anyOf\":[{\"type\":\"string\"},{\"minimum\":5}]}", "6", "" },
        { "{\"oneOf\":[{\"type\":\"number\"},{\"minimum\":5}]}", "6", "/input one_of" },
        { "{\"oneOf\":[{\"type\":\"number\"},{\"minimum\":5}]}", "4", "" },
        { "{\"allOf\":[{\"type\":\"string\"},{\"maxLength\":1}]}", "5", "/input type" },
        { "{\"not\":{\"type\":\"string\"}}", "\"a\"", "/input not" },
        { "{\"items\":{\"properties\":{\"a\":{\"items\":{\"type\":\"null\"}}}}}", "[{},{\"a\":[null,0]}]", "/input/1/a/1 type" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct issues issues = { .arena = &arena };
        struct buf    at = { 0 };
        BUF_LIT(&at, "/input");
        bool fits = json_schema_fits(must(cases[i].schema), must(cases[i].value), &at, &issues);
        if (!span_is(told(&issues), cases[i].issues) || fits != (issues.count == 0))
            fail_msg("%s of %s: %.*s", cases[i].value, cases[i].schema, SPAN_ARG(told(&issues)));
        assert_int_equal(json_schema_fits(must(cases[i].schema), must(cases[i].value), &at, NULL), fits);
        assert_true(span_is(buf_view(&at), "/input"));
        buf_done(&at);
    }
}

static void refuses_schemas_that_are_too_deep_or_too_long(void **state)
{
    struct buf    text = { 0 }, at = { 0 };
    struct issues issues = { .arena = &arena };
    for (int i = 0; i < JSON_SCHEMA_DEPTH + 1; i++)
        BUF_LIT(&text, "{\"not\":");
    BUF_LIT(&text, "{}");
    for (int i = 0; i < JSON_SCHEMA_DEPTH + 1; i++)
        BUF_LIT(&text, "}");
    buf_byte(&text, 0);
    json_schema_check(must(text.p), &at, &issues);
    assert_int_equal(issues.count, 1);
    assert_true(span_is(issues.items[0].code, "too_deep"));
    text.len = 0;
    BUF_LIT(&text, "{\"title\":\"");
    for (int i = 0; i < JSON_SCHEMA_BYTES; i++)
        buf_byte(&text, 'x');
    buf_put(&text, "\"}", 3);
    issues = (struct issues){ .arena = &arena };
    json_schema_check(must(text.p), &at, &issues);
    assert_int_equal(issues.count, 1);
    assert_true(span_is(issues.items[0].code, "max_length"));
    buf_done(&text);
    buf_done(&at);
}

/* 6000 names looked up among 300000 members would be two billion comparisons. */
static void gives_up_on_what_would_take_too_long(void **state)
{
    struct buf    schema = { 0 }, value = { 0 }, at = { 0 };
    struct issues issues = { .arena = &arena };
    BUF_LIT(&schema, "{\"required\":[\"x\"");
    for (int i = 0; i < 6000; i++)
        buf_printf(&schema, ",\"r%d\"", i);
    buf_put(&schema, "]}", 3);
    BUF_LIT(&value, "{\"x\":1");
    for (int i = 0; i < 300000; i++)
        buf_printf(&value, ",\"m%d\":1", i);
    buf_put(&value, "}", 2);
    struct jv rule = must(schema.p), large = must(value.p);
    json_schema_check(rule, &at, &issues);
    assert_int_equal(issues.count, 0);
    clock_t began = clock();
    assert_false(json_schema_fits(rule, large, &at, &issues));
    assert_true(clock() - began < 5 * CLOCKS_PER_SEC);
    bool told_so = false;
    for (size_t i = 0; i < issues.count && i < ISSUES_MAX; i++)
        told_so = told_so || span_is(issues.items[i].code, "too_complex");
    assert_true(told_so);
    buf_done(&schema);
    buf_done(&value);
    buf_done(&at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(refuses_what_is_no_schema_of_the_subset, done_arena),
        cmocka_unit_test_teardown(says_what_does_not_fit_and_where, done_arena),
        cmocka_unit_test_teardown(refuses_schemas_that_are_too_deep_or_too_long, done_arena),
        cmocka_unit_test_teardown(gives_up_on_what_would_take_too_long, done_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
