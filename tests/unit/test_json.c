/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of base/json.h. The canonical vectors come from PERDURE_TESTDATA (default tests/unit/data). */
#include "unit.h"
#include "base/ids.h"
#include "base/json.h"
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct json_limits usual = { .depth = 64 };
static const struct json_limits loose = { .depth = 64, .lone_surrogates = true };

static struct arena arena;

static int done_arena(void **state)
{
    arena_done(&arena);
    return 0;
}

/* Parses a copy of exactly the right size, so that ASan sees each read beyond it. */
static enum err parse(struct span text, const struct json_limits *limits, struct jv *ret, struct error *error)
{
    char *copy = malloc(text.n ? text.n : 1);
    memcpy(copy, text.n ? text.p : "", text.n);
    struct json doc;
    enum err    err = json_parse(span_make(copy, text.n), limits, &arena, &doc, error);
    free(copy);
    if (err != ERR_OK)
        return err;
    struct json *kept = ARENA_NEW(&arena, struct json);
    doc.text = arena_copy(&arena, text);
    *kept = doc;
    if (ret)
        *ret = json_root(kept);
    return ERR_OK;
}

static struct jv must(const char *text)
{
    struct jv    v = { 0 };
    struct error error = { 0 };
    if (parse(span_of(text), &loose, &v, &error) != ERR_OK)
        fail_msg("%s: %s", text, error.message);
    return v;
}

static void assert_span(struct span got, const char *want)
{
    if (!span_is(got, want))
        fail_msg("got %.*s, want %s", SPAN_ARG(got), want);
}

static void assert_minified(const char *text, const char *want)
{
    struct buf buf = { 0 };
    json_minify(must(text), &buf);
    assert_span(buf_view(&buf), want);
    buf_done(&buf);
}

static void assert_canonical(const char *text, unsigned flags, const char *want)
{
    struct buf buf = { 0 };
    json_canonical(must(text), flags, &buf);
    assert_span(buf_view(&buf), want);
    buf_done(&buf);
}

/* ---- parsing ---- */

static const struct span good_texts[] = {
    SPAN("{}"), SPAN("[]"), SPAN("null"), SPAN("true"), SPAN("false"), SPAN("0"), SPAN("-0"), SPAN("1"), SPAN("-1"),
    SPAN("10"), SPAN("0.0"), SPAN("1.5e3"), SPAN("1E+3"), SPAN("1e-3"), SPAN("0e0"), SPAN("0E1"), SPAN("-0.1e-0"),
    SPAN("123456789012345678901234567890"), SPAN("1e999"), SPAN("\"\""), SPAN("\"a\""), SPAN(" \t\r\n1 \t\r\n"),
    SPAN("[1,2]"), SPAN("[ 1 , 2 ]"), SPAN("{\"a\":1}"), SPAN("{ \"a\" : 1 , \"b\" : [ ] }"), SPAN("[[[[]]],{}]"),
    SPAN("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\""), SPAN("\"\\u0000\""), SPAN("\"\\uD83D\\uDE00\""),
    SPAN("\"\\ud83d\\ude00\""),
    SPAN("\"\x7f\""), SPAN("\"\xc2\x80\""), SPAN("\"\xdf\xbf\""), SPAN("\"\xe0\xa0\x80\""), SPAN("\"\xed\x9f\xbf\""),
    SPAN("\"\xee\x80\x80\""), SPAN("\"\xef\xbf\xbf\""), SPAN("\"\xf0\x90\x80\x80\""), SPAN("\"\xf4\x8f\xbf\xbf\""),
    SPAN("{\"\":0}"), SPAN("{\"a\":1,\"a\":2}"), SPAN("\"\\uFFFF\\ufffe\""), SPAN("[null,true,false]"),
    SPAN("\"01234567\""), SPAN("\"012345678901234567890123456789\""),
};

static const struct span bad_texts[] = {
    SPAN(""), SPAN(" "), SPAN("{"), SPAN("["), SPAN("}"), SPAN("]"), SPAN("{]"), SPAN("[}"), SPAN("[1}"),
    SPAN("{\"a\":1]"),
    SPAN("[1,]"), SPAN("[,1]"), SPAN("[1,,2]"), SPAN("[1 2]"), SPAN("{,}"), SPAN("{\"a\"}"), SPAN("{\"a\":}"),
    SPAN("{\"a\":1,}"),
    SPAN("{\"a\" 1}"), SPAN("{a:1}"), SPAN("{1:1}"), SPAN("{\"a\":1 \"b\":2}"), SPAN("{\"a\":1,,\"b\":2}"),
    SPAN("{null:1}"),
    SPAN("1 2"), SPAN("{}{}"), SPAN("[]]"), SPAN("nul"), SPAN("nulll"), SPAN("True"), SPAN("NULL"), SPAN("tru"),
    SPAN("falsey"),
    SPAN("NaN"), SPAN("Infinity"), SPAN("-Infinity"), SPAN("-"), SPAN("+1"), SPAN("01"), SPAN("-01"), SPAN("00"),
    SPAN(".5"),
    SPAN("1."), SPAN("1.e3"), SPAN("-.5"), SPAN("1e"), SPAN("1e+"), SPAN("1e-"), SPAN("1e1.5"), SPAN("0x10"),
    SPAN("1_000"),
    SPAN("1a"), SPAN("- 1"), SPAN("\""), SPAN("\"a"), SPAN("\"\\"), SPAN("\"\\\""), SPAN("\"\\x41\""), SPAN("\"\\u\""),
    SPAN("\"\\u123\""), SPAN("\"\\u123g\""), SPAN("\"\\u 123\""), SPAN("\"\\u-123\""), SPAN("\"\\U0041\""),
    SPAN("\"\\a\""),
    SPAN("\"\\'\""), SPAN("'a'"), SPAN("\"\n\""), SPAN("\"\t\""), SPAN("\"\0\""), SPAN("\"\x1f\""), SPAN("1\0"),
    SPAN("\0"),
    SPAN("\"0123456\x01" "89\""), SPAN("\"01234567\x1f" "9\""), SPAN("\f1"), SPAN("\v1"), SPAN("\xc2\xa0" "1"),
    SPAN("\xef\xbb\xbf{}"),
    SPAN("// a\n1"), SPAN("/* a */1"), SPAN("[1]#"), SPAN("[1,/**/2]"),
    /* not UTF-8: lone tails, overlong forms, surrogates, beyond the end, cut off */
    SPAN("\"\x80\""), SPAN("\"\xbf\""), SPAN("\"\xc0\x80\""), SPAN("\"\xc1\xbf\""), SPAN("\"\xe0\x9f\xbf\""),
    SPAN("\"\xf0\x8f\xbf\xbf\""), SPAN("\"\xed\xa0\x80\""), SPAN("\"\xed\xbf\xbf\""), SPAN("\"\xf4\x90\x80\x80\""),
    SPAN("\"\xf5\x80\x80\x80\""), SPAN("\"\xf8\x88\x80\x80\x80\""), SPAN("\"\xff\""), SPAN("\"\xfe\""),
    SPAN("\"\xc2\""),
    SPAN("\"\xe2\x82\""), SPAN("\"\xf0\x9f\x98\""), SPAN("\"\xc2"), SPAN("\"\xe2\x82"), SPAN("\"\xf0\x9f\x98"),
    SPAN("\"\xc3\x28\""),
    SPAN("\"\xe2\x28\xa1\""), SPAN("\"\xe2\x82\x28\""), SPAN("\"\xf0\x28\x8c\xbc\""), SPAN("\"\xf0\x90\x28\xbc\""),
    SPAN("\"\xf0\x90\x8c\x28\""), SPAN("\xc3\xa9"), SPAN("{\"\xff\":1}"),
};

static void good_texts_are_accepted(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(good_texts); i++) {
        struct error error = { 0 };
        struct jv    v;
        if (parse(good_texts[i], &usual, &v, &error) != ERR_OK)
            fail_msg("%.*s: %s", SPAN_ARG(good_texts[i]), error.message);
        assert_true(jv_kind(v) != JSON_NONE);
    }
}

static void bad_texts_are_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(bad_texts); i++) {
        struct error error = { 0 };
        if (parse(bad_texts[i], &loose, NULL, &error) != ERR_MALFORMED_JSON)
            fail_msg("accepted: %.*s", SPAN_ARG(bad_texts[i]));
        assert_int_equal(error.code, ERR_MALFORMED_JSON);
        assert_non_null(strstr(error.message, " at byte "));
    }
}

/* Strings are skipped eight bytes at a time: each special byte at each place of a word must be seen. */
static void special_bytes_are_seen_everywhere(void **state)
{
    char text[44];
    for (size_t at = 1; at < sizeof text - 2; at++) {
        for (int c = 0; c < 256; c++) {
            memset(text, 'x', sizeof text);
            text[0] = text[sizeof text - 1] = '"';
            text[at] = (char)c;
            text[at + 1] = 'n'; /* "\n" is an escape */
            bool plain = c >= 0x20 && c < 0x80 && c != '"';
            assert_int_equal(parse(span_make(text, sizeof text), &usual, NULL, NULL),
            plain ? ERR_OK : ERR_MALFORMED_JSON);
        }
    }
}

/* Every two- and three-byte string, and the corners of four, against a definition made from the code points. */
static void utf8_is_exactly_rfc_3629(void **state)
{
    static uint8_t valid[1 << 16];
    for (unsigned cp = 0x80; cp < 0x800; cp++)
        valid[(0xc0 | cp >> 6) << 8 | 0x80 | (cp & 0x3f)] = 1;
    char text[6] = "\"    \"";
    for (unsigned pair = 0x8000; pair < 0x10000; pair++) {
        text[1] = (char)(pair >> 8);
        text[2] = (char)pair;
        text[3] = '"';
        struct json doc;
        bool ok = json_parse(span_make(text, 4), &usual, &arena, &doc, NULL) == ERR_OK;
        assert_int_equal(ok, valid[pair]);
        if (pair % 256 == 0)
            arena_reset(&arena);
    }
    size_t accepted = 0;
    for (unsigned triple = 0xe00000; triple < 0xf10000; triple++) {
        text[1] = (char)(triple >> 16);
        text[2] = (char)(triple >> 8);
        text[3] = (char)triple;
        text[4] = '"';
        struct json doc;
        accepted += json_parse(span_make(text, 5), &usual, &arena, &doc, NULL) == ERR_OK;
        if (triple % 256 == 0)
            arena_reset(&arena);
    }
    assert_int_equal(accepted, 0x10000 - 0x800 - 0x800); /* all of U+0800..U+FFFF but the surrogates */
}

static void lone_surrogates_are_a_matter_of_the_flag(void **state)
{
    static const char *const lone[] = {
        "\"\\ud800\"", "\"\\udfff\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud800\\ud800\\udc00\"", "{\"\\udead\":1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(lone); i++) {
        assert_int_equal(parse(span_of(lone[i]), &usual, NULL, NULL), ERR_MALFORMED_JSON);
        assert_int_equal(parse(span_of(lone[i]), &loose, NULL, NULL), ERR_OK);
    }
    assert_int_equal(parse(SPAN("\"\\ud800\\u00g1\""), &loose, NULL, NULL), ERR_MALFORMED_JSON);
    assert_int_equal(parse(SPAN("\"\\ud800\\u"), &loose, NULL, NULL), ERR_MALFORMED_JSON);
}

static void depth_is_limited(void **state)
{
    static const unsigned depths[] = { 0, 1, 2, 64, 1023, 1024 };
    char                  text[2 * 1025];
    for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
        unsigned           depth = depths[i];
        struct json_limits limits = { .depth = depth };
        memset(text, '[', depth + 1);
        memset(text + depth + 1, ']', depth + 1);
        assert_int_equal(parse(span_make(text, 2 * (depth + 1)), &limits, NULL, NULL), ERR_MALFORMED_JSON);
        if (depth > 0)
            assert_int_equal(parse(span_make(text + 1, 2 * depth), &limits, NULL, NULL), ERR_OK);
    }
    struct json_limits none = { .depth = 0 }, endless = { .depth = UINT32_MAX };
    assert_int_equal(parse(SPAN("1"), &none, NULL, NULL), ERR_OK);
    assert_int_equal(parse(SPAN("{}"), &none, NULL, NULL), ERR_MALFORMED_JSON);
    memset(text, '[', 1025);
    memset(text + 1025, ']', 1025);
    assert_int_equal(parse(span_make(text, 2050), &endless, NULL, NULL),
    ERR_MALFORMED_JSON); /* the parser's own limit */
}

static void entries_are_limited(void **state)
{
    struct json_limits limits = { .depth = 4, .entries = 5 };
    assert_int_equal(parse(SPAN("[1,2,3,4]"), &limits, NULL, NULL), ERR_OK);
    assert_int_equal(parse(SPAN("[1,2,3,4,5]"), &limits, NULL, NULL), ERR_MALFORMED_JSON);
    assert_int_equal(parse(SPAN("{\"a\":1,\"b\":2}"), &limits, NULL, NULL), ERR_OK);
    assert_int_equal(parse(SPAN("{\"a\":1,\"b\":[]}"), &limits, NULL, NULL), ERR_OK);
    assert_int_equal(parse(SPAN("{\"a\":1,\"b\":[1]}"), &limits, NULL, NULL), ERR_MALFORMED_JSON);
}

static void the_message_names_the_place(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "{\"a\":1,}", "a member name is missing at byte 7" },
        { "[1,2", "the text ends too early at byte 4" },
        { "[1 2]", "a comma or ] is missing at byte 3" },
        { "nope", "a value is missing at byte 0" },
        { "1 x", "something follows the value at byte 2" },
        { "[\"\x01\"]", "a control character in a string at byte 2" },
        { "", "the text ends too early at byte 0" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error error = { 0 };
        struct json  doc = { .count = 77 };
        assert_int_equal(json_parse(span_of(cases[i].text), &usual, &arena, &doc, &error), ERR_MALFORMED_JSON);
        assert_string_equal(error.message, cases[i].message);
        assert_int_equal(doc.count, 77);
    }
}

static void the_tape_is_as_described(void **state)
{
    struct jv                v = must(" {\"a\":1, \"b\" : [ \"x\\n\" , {} ] }");
    const struct json_entry *tape = v.doc->tape;
    static const struct json_entry want[] = {
        { 1, 30, 7, JSON_OBJECT, 0, 0 }, { 3, 1, 2, JSON_STRING, 0, 0 },  { 6, 1, 3, JSON_NUMBER, 0, 0 },
        { 10, 1, 4, JSON_STRING, 0, 0 }, { 15, 14, 7, JSON_ARRAY, 0, 0 }, { 18, 3, 6, JSON_STRING, 1, 0 },
        { 25, 2, 7, JSON_OBJECT, 0, 0 },
    };
    assert_int_equal(sizeof(struct json_entry), 16);
    assert_int_equal(v.doc->count, ARRAY_LEN(want));
    assert_memory_equal(tape, want, sizeof want);
}

/* A tape longer than what the parser keeps on its stack. */
static void long_documents_are_whole(void **state)
{
    struct buf buf = { 0 };
    buf_byte(&buf, '[');
    for (int i = 0; i < 5000; i++)
        buf_printf(&buf, "%s{\"n\":%d}", i ? "," : "", i);
    buf_byte(&buf, ']');
    struct jv v;
    assert_int_equal(parse(buf_view(&buf), &usual, &v, NULL), ERR_OK);
    assert_int_equal(jv_count(v), 5000);
    int64_t n, want = 0;
    for (struct jv_iter it = jv_iter(v); jv_step(&it); want++) {
        assert_true(jv_i64(jv_get(it.value, "n"), &n));
        assert_int_equal(n, want);
    }
    buf_done(&buf);
}

/* ---- duplicates ---- */

static void the_last_duplicate_wins(void **state)
{
    struct jv v = must("{\"a\":1,\"b\":2,\"\\u0061\":3,\"c\":4,\"b\":{\"x\":1,\"x\":2}}");
    int64_t   n;
    assert_true(jv_i64(jv_get(v, "a"), &n) && n == 3);
    assert_true(jv_i64(jv_get(jv_get(v, "b"), "x"), &n) && n == 2);
    assert_int_equal(jv_count(v), 5);
    assert_minified("{\"a\":1,\"b\":2,\"\\u0061\":3,\"c\":4,\"b\":{\"x\":1,\"x\":2}}",
    "{\"\\u0061\":3,\"c\":4,\"b\":{\"x\":2}}");
    assert_minified("{\"a\":1,\"a\":[1 , 2],\"a\": 3 }", "{\"a\":3}");
    assert_minified("{\"\":1,\"\":2}", "{\"\":2}");
    assert_minified("{\"abcd\":1,\"abcx\":2,\"xbcd\":3,\"abc\":4}", "{\"abcd\":1,\"abcx\":2,\"xbcd\":3,\"abc\":4}");
    assert_minified("{\"\\ud800\":1,\"\\uD800\":2}", "{\"\\uD800\":2}");
}

/* Objects of every size around the change of method, with one pair of duplicates at any two places. */
static void duplicates_are_found_at_any_size(void **state)
{
    static const int sizes[] = { 2, 3, 8, 31, 32, 33, 34, 100 };
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        int n = sizes[k];
        for (int first = 0; first < n; first += 1 + n / 9) {
            for (int second = first; second < n; second += 1 + n / 7) {
                struct buf buf = { 0 };
                for (int i = 0; i < n; i++)
                    buf_printf(&buf, "%s\"name-%d\":%d", i ? "," : "{", i == second ? first : i, i);
                buf_byte(&buf, '}');
                struct jv v;
                assert_int_equal(parse(buf_view(&buf), &usual, &v, NULL), ERR_OK);
                size_t seen = 0;
                for (struct jv_iter it = jv_iter(v); jv_step(&it);)
                    seen++;
                assert_int_equal(seen, first == second ? n : n - 1);
                assert_int_equal(v.doc->tape[0].escaped, first != second);
                char name[32];
                int64_t value;
                snprintf(name, sizeof name, "name-%d", first);
                assert_true(jv_i64(jv_get(v, name), &value));
                assert_int_equal(value, second);
                buf_done(&buf);
            }
        }
        arena_reset(&arena);
    }
}

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* A hundred thousand members, half of them duplicates: a quadratic step anywhere would take minutes. */
static void huge_objects_are_not_quadratic(void **state)
{
    struct buf buf = { 0 }, out = { 0 };
    for (int i = 0; i < 100000; i++)
        buf_printf(&buf, "%s\"%d\":%d", i ? "," : "{", i % 50000, i);
    buf_byte(&buf, '}');
    double    before = seconds();
    struct jv v;
    assert_int_equal(parse(buf_view(&buf), &usual, &v, NULL), ERR_OK);
    size_t seen = 0;
    for (struct jv_iter it = jv_iter(v); jv_step(&it);)
        seen++;
    assert_int_equal(seen, 50000);
    json_minify(v, &out);
    json_canonical(v, JSON_TEAM_KEYS, &out);
    assert_true(jv_equal(v, v));
    assert_true(seconds() - before < 20);
    buf_done(&buf);
    buf_done(&out);
}

/* ---- reading ---- */

static void absent_values_are_harmless(void **state)
{
    struct jv none = { 0 };
    int64_t   n;
    double    d;
    assert_int_equal(jv_kind(none), JSON_NONE);
    assert_int_equal(jv_kind(jv_get(jv_get(none, "a"), "b")), JSON_NONE);
    assert_int_equal(jv_kind(jv_at(none, 0)), JSON_NONE);
    assert_int_equal(jv_kind(jv_pointer(none, SPAN("/a"))), JSON_NONE);
    assert_int_equal(jv_raw(none).n, 0);
    assert_null(jv_string(none, &arena).p);
    assert_false(jv_i64(none, &n) || jv_f64(none, &d) || jv_str_eq(none, ""));
    assert_true(jv_bool(none, true));
    assert_false(jv_bool(none, false));
    assert_int_equal(jv_count(none), 0);
    struct jv_iter it = jv_iter(none);
    assert_false(jv_step(&it));
    assert_true(jv_equal(none, none));
    assert_false(jv_equal(none, must("null")));
    assert_int_equal(jv_kind(json_read(SPAN("{"), &arena)), JSON_NONE);
    assert_int_equal(jv_kind(jv_get(must("[1]"), "a")), JSON_NONE);
    assert_int_equal(jv_kind(jv_at(must("{\"a\":1}"), 0)), JSON_NONE);
    assert_int_equal(jv_kind(jv_at(must("[1]"), 1)), JSON_NONE);
}

static void raw_text_is_as_it_came(void **state)
{
    struct jv v = must("[ 1.50 , \"a\\u0062\" , [ 1, 2 ] , { } ,true]");
    assert_span(jv_raw(jv_at(v, 0)), "1.50");
    assert_span(jv_raw(jv_at(v, 1)), "\"a\\u0062\"");
    assert_span(jv_raw(jv_at(v, 2)), "[ 1, 2 ]");
    assert_span(jv_raw(jv_at(v, 3)), "{ }");
    assert_span(jv_raw(jv_at(v, 4)), "true");
}

static void strings_are_unescaped(void **state)
{
    static const struct {
        const char *json;
        struct span text;
    } cases[] = {
        { "\"plain\"", SPAN("plain") },
        { "\"\"", SPAN("") },
        { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", SPAN("\"\\/\b\f\n\r\t") },
        { "\"a\\u0000b\"", SPAN("a\0b") },
        { "\"\\u00e9\\u20AC\"", SPAN("\xc3\xa9\xe2\x82\xac") },
        { "\"\\ud83d\\ude00!\"", SPAN("\xf0\x9f\x98\x80!") },
        { "\"\\uDBFF\\uDFFF\"", SPAN("\xf4\x8f\xbf\xbf") },
        { "\"\\ud800\"", SPAN("\xed\xa0\x80") },
        { "\"x\\udfffy\"", SPAN("x\xed\xbf\xbfy") },
        { "\"\\ud83d\\ud83d\\ude00\"", SPAN("\xed\xa0\xbd\xf0\x9f\x98\x80") },
        { "\"\\ude00\\ud83d\"", SPAN("\xed\xb8\x80\xed\xa0\xbd") },
        { "\"\\ud83d\\u0041\"", SPAN("\xed\xa0\xbd" "A") },
        { "\"\\\\ud83d\"", SPAN("\\ud83d") },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jv v = must(cases[i].json);
        assert_true(span_eq(jv_string(v, &arena), cases[i].text));
        if (!memchr(cases[i].text.p, 0, cases[i].text.n))
            assert_true(jv_str_eq(v, cases[i].text.p));
        assert_false(jv_str_eq(v, "something else"));
        char object[100];
        snprintf(object, sizeof object, "{\"zz\":0,%s:7}", cases[i].json);
        int64_t n;
        assert_true(jv_i64(jv_get_span(must(object), cases[i].text), &n) && n == 7);
    }
    struct jv v = must("\"plain\"");
    assert_ptr_equal(jv_string(v, NULL).p, v.doc->text.p + 1); /* no copy */
    assert_null(jv_string(must("1"), &arena).p);
    assert_false(jv_str_eq(must("\"a\\nb\""), "a\n"));
    assert_false(jv_str_eq(must("\"a\\n\""), "a\nb"));
}

static void integers(void **state)
{
    static const struct {
        const char *text;
        bool        ok;
        int64_t     want;
    } cases[] = {
        { "0", true, 0 }, { "-0", true, 0 }, { "7", true, 7 }, { "-7", true, -7 }, { "7.0", true, 7 },
        { "-7.000", true, -7 },
        { "9223372036854775807", true, INT64_MAX }, { "-9223372036854775808", true, INT64_MIN },
        { "9223372036854775807.0", true, INT64_MAX }, { "9223372036854775808", false, 0 },
        { "-9223372036854775809", false, 0 },
        { "18446744073709551616", false, 0 }, { "99999999999999999999999", false, 0 }, { "7.5", false, 0 },
        { "7.01", false, 0 },
        { "7e0", false, 0 }, { "7e2", false, 0 }, { "7.0e0", false, 0 }, { "\"7\"", false, 0 }, { "true", false, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t n = 12345;
        if (jv_i64(must(cases[i].text), &n) != cases[i].ok)
            fail_msg("%s", cases[i].text);
        assert_true(n == (cases[i].ok ? cases[i].want : 12345));
    }
}

static void doubles_are_read_exactly(void **state)
{
    static const char *const texts[] = {
        "0", "-0", "0.0e99999999999999999999", "1", "-1.5", "0.1", "1e22", "1e23", "9007199254740993",
        "9007199254740992.5",
        "9007199254740993.0000000000000000000000000000000001", "123456789012345678901234567890",
        "1.7976931348623157e308",
        "1.7976931348623158e308", "5e-324", "2.5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "1e-400",
        "1e-99999999999999999999999", "2.2250738585072011e-308", "2.2250738585072014e-308",
        "0.000000000000000000000000000001e30",
        "1000000000000000000000000000000e-30", "3.141592653589793238462643383279", "8.5e-0017", "1E+0",
        "4503599627370497.5",
    };
    double d;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_true(jv_f64(must(texts[i]), &d));
        double want = strtod(texts[i], NULL);
        assert_memory_equal(&d, &want, sizeof d);
    }
    assert_false(jv_f64(must("1e309"), &d));
    assert_false(jv_f64(must("-1e99999999999999999999999"), &d));
    assert_false(jv_f64(must("1.7976931348623159e308"), &d));
    assert_false(jv_f64(must("\"1\""), &d));
}

/* 1 + 2^-53 lies exactly between two doubles; a digit two thousand places further on decides. */
static void the_last_digit_of_a_long_number_counts(void **state)
{
    struct buf buf = { 0 };
    double     d;
    BUF_LIT(&buf, "1.00000000000000011102230246251565404236316680908203125");
    struct jv v;
    assert_int_equal(parse(buf_view(&buf), &usual, &v, NULL), ERR_OK);
    assert_true(jv_f64(v, &d) && d == 1.0);
    for (int i = 0; i < 2000; i++)
        buf_byte(&buf, '0');
    buf_byte(&buf, '1');
    assert_int_equal(parse(buf_view(&buf), &usual, &v, NULL), ERR_OK);
    assert_true(jv_f64(v, &d) && d == 1.0000000000000002);
    buf.len = 0;
    BUF_LIT(&buf, "0."); /* many zeros in front and an exponent that takes them back */
    for (int i = 0; i < 5000; i++)
        buf_byte(&buf, '0');
    BUF_LIT(&buf, "123e5001");
    assert_int_equal(parse(buf_view(&buf), &usual, &v, NULL), ERR_OK);
    assert_true(jv_f64(v, &d) && d == 1.23);
    buf_done(&buf);
}

static void equality_is_by_value(void **state)
{
    static const struct {
        const char *a, *b;
        bool        equal;
    } cases[] = {
        { "1", "1.0", true }, { "1", "10e-1", true }, { "100", "1e2", true }, { "0", "-0.0e5", true }, { "1",
        "-1", false },
        { "0.1", "0.10000000000000000001", false }, { "9007199254740993", "9007199254740992", false }, { "1e400",
        "10e399", true },
        { "123.456", "123456e-3", true }, { "12", "1.3e1", false }, { "1", "\"1\"", false }, { "\"a\"",
        "\"\\u0061\"", true },
        { "\"\\u0061\\n\"", "\"a\\u000a\"", true }, { "\"a\"", "\"b\"", false }, { "\"\\n\"", "\"n\"", false },
        { "[1,2]", "[1.0,2]", true }, { "[1,2]", "[2,1]", false }, { "[1]", "[1,2]", false }, { "[]", "{}", false },
        { "{\"a\":1,\"b\":2}", "{\"b\":2,\"\\u0061\":1}", true }, { "{\"a\":1,\"a\":2}", "{\"a\":2}", true },
        { "{\"a\":1}", "{\"a\":1,\"b\":2}", false }, { "{\"a\":1}", "{\"b\":1}", false }, { "{\"a\":{\"b\":[1]}}",
        "{\"a\":{\"b\":[1]}}", true },
        { "null", "false", false }, { "true", "true", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jv a = must(cases[i].a), b = must(cases[i].b);
        if (jv_equal(a, b) != cases[i].equal || jv_equal(b, a) != cases[i].equal)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
    }
}

/* The examples of RFC 6901, and what is not a pointer. */
static void pointers(void **state)
{
    struct jv v = must("{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,\"i\\\\j\":5,\"k\\\"l\":6,"
                       "\" \":7,\"m~n\":8,\"~1\":9,\"01\":10,\"-\":11,\"d\":[[],{\"x\":[0,1,2,3,4,5,6,7,8,9,12]}]}");
    static const struct {
        const char *pointer, *want;
    } cases[] = {
        { "/foo", "[\"bar\",\"baz\"]" }, { "/foo/0", "\"bar\"" }, { "/", "0" }, { "/a~1b", "1" }, { "/c%d", "2" },
        { "/e^f", "3" },
        { "/g|h", "4" }, { "/i\\j", "5" }, { "/k\"l", "6" }, { "/ ", "7" }, { "/m~0n", "8" }, { "/~01", "9" },
        { "/01", "10" },
        { "/-", "11" }, { "/d/1/x/10", "12" },
        { "/foo/2", "" }, { "/foo/-", "" }, { "/foo/01", "" }, { "/foo/+1", "" }, { "/foo/", "" }, { "/foo/1e0", "" },
        { "/foo/0/x", "" }, { "/nope", "" }, { "foo", "" }, { "/m~n", "" }, { "/m~", "" }, { "/m~2", "" },
        { "/foo/18446744073709551616", "" },
        { "/foo/4294967296", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_span(jv_raw(jv_pointer(v, span_of(cases[i].pointer))), cases[i].want);
    assert_true(jv_equal(jv_pointer(v, SPAN("")), v));
    assert_true(json_pointer_valid(SPAN("")) && json_pointer_valid(SPAN("/~0~1/a")));
    assert_false(json_pointer_valid(SPAN("a")) || json_pointer_valid(SPAN("/~")) || json_pointer_valid(SPAN("/~2")));

    struct buf pointer = { 0 };
    json_pointer_push(&pointer, SPAN("a/b~"));
    json_pointer_push(&pointer, SPAN("3"));
    json_pointer_push(&pointer, SPAN(""));
    assert_span(buf_view(&pointer), "/a~1b~0/3/");
    buf_done(&pointer);
}

/* ---- writing ---- */

static void numbers_and_order_survive(void **state)
{
    assert_minified(" { \"z\" : 1.0 , \"a\" : [ 1e2 , -0 , 12345678901234567890123 ] , \"m\" : \"\\u0041 \\/\" } ",
                    "{\"z\":1.0,\"a\":[1e2,-0,12345678901234567890123],\"m\":\"\\u0041 \\/\"}");
    assert_minified(" [ ] ", "[]");
    assert_minified("{ }", "{}");
    assert_minified("\" \"", "\" \"");
}

static void strings_are_written(void **state)
{
    static const struct {
        struct span text;
        const char *utf8, *ascii;
    } cases[] = {
        { SPAN(""), "\"\"", "\"\"" },
        { SPAN("a/b"), "\"a/b\"", "\"a/b\"" },
        { SPAN("\"\\\b\f\n\r\t\1\x1f\x7f"), "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"",
        "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"" },
        { SPAN("a\0b"), "\"a\\u0000b\"", "\"a\\u0000b\"" },
        { SPAN("\xc3\xa9\xe2\x80\xa8"), "\"\xc3\xa9\xe2\x80\xa8\"", "\"\\u00e9\\u2028\"" },
        { SPAN("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\"" },
        { SPAN("x\xed\xa0\x80y"), "\"x\\ud800y\"", "\"x\\ud800y\"" },
        { SPAN("\xff\xc3"), "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\"\\ufffd\\ufffd\"" },
    };
    struct buf buf = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf.len = 0;
        json_put_string(&buf, cases[i].text);
        assert_span(buf_view(&buf), cases[i].utf8);
        buf.len = 0;
        json_put_string_ascii(&buf, cases[i].text);
        assert_span(buf_view(&buf), cases[i].ascii);
    }
    buf_done(&buf);
}

static void the_cursor_sets_commas(void **state)
{
    struct buf  buf = { 0 };
    struct jw   w = jw_on(&buf);
    struct uuid id = { { 1, 2, 3 } };
    jw_obj(&w);
    jw_key(&w, "a"); jw_arr(&w);
    jw_i64(&w, INT64_MIN); jw_i64(&w, -1); jw_i64(&w, 0); jw_u64(&w, UINT64_MAX); jw_f64(&w, 0.5); jw_f64(&w, NAN);
    jw_arr(&w); jw_arr_end(&w);
    jw_obj(&w); jw_end(&w);
    jw_arr_end(&w);
    jw_key_span(&w, SPAN("b\n")); jw_str(&w, SPAN("x"));
    jw_key(&w, "c"); jw_cstr(&w, NULL);
    jw_key(&w, "d"); jw_raw(&w, SPAN("[1 ]"));
    jw_key(&w, "e"); jw_raw(&w, SPAN_NONE);
    jw_key(&w, "f"); jw_bool(&w, true);
    jw_key(&w, "g"); jw_null(&w);
    jw_key(&w, "h"); jw_time(&w, 1);
    jw_key(&w, "i"); jw_uuid(&w, &id);
    jw_key(&w, "j"); jw_cstr(&w, "y");
    jw_end(&w);
    assert_span(buf_view(&buf),
    "{\"a\":[-9223372036854775808,-1,0,18446744073709551615,0.5,null,[],{}],\"b\\n\":\"x\",\"c\":null,"
                                "\"d\":[1 ],\"e\":null,\"f\":true,\"g\":null,\"h\":\"1970-01-01T00:00:00.001Z\","
                                "\"i\":\"01020300-0000-0000-0000-000000000000\",\"j\":\"y\"}");
    buf_done(&buf);
}

static void assert_f64(double v, const char *want)
{
    struct buf buf = { 0 };
    json_put_f64(&buf, v);
    assert_span(buf_view(&buf), want);
    buf_done(&buf);
}

/* As Number.prototype.toString writes them. */
static void doubles_are_written_as_ecmascript_does(void **state)
{
    static const struct {
        double      v;
        const char *want;
    } cases[] = {
        { 0, "0" }, { -0.0, "0" }, { 1, "1" }, { -1.5, "-1.5" }, { 0.1, "0.1" }, { 0.1 + 0.2, "0.30000000000000004" },
        { 1e21, "1e+21" }, { 1e20, "100000000000000000000" }, { 999999999999999900000.0, "999999999999999900000" },
        { 123456789012345680000.0, "123456789012345680000" }, { 1e-6, "0.000001" }, { 1e-7, "1e-7" },
        { 1.5e-7, "1.5e-7" },
        { 0.000001234, "0.000001234" }, { 5e-324, "5e-324" }, { 1.5e-323, "1.5e-323" },
        { DBL_MAX, "1.7976931348623157e+308" },
        { 2.2250738585072014e-308, "2.2250738585072014e-308" }, { 2.225073858507201e-308, "2.225073858507201e-308" },
        { 9007199254740991.0, "9007199254740991" }, { 9007199254740992.0, "9007199254740992" },
        { 9007199254740994.0, "9007199254740994" },
        { -1e300, "-1e+300" }, { 1.2345e25, "1.2345e+25" }, { 100.25, "100.25" }, { 1e22, "1e+22" }, { 1e23, "1e+23" },
        { 5.684341886080802e-14, "5.684341886080802e-14" }, /* 2^-44: the nearest 16 digits fall out below it */
        { 4.35, "4.35" }, { 333333333.33333329, "333333333.3333333" }, { 9.5367431640625e-7, "9.5367431640625e-7" },
        { 2251799813685248.5, "2251799813685248.5" }, { 1.0 / 3, "0.3333333333333333" }, { INFINITY, "null" },
        { -INFINITY, "null" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_f64(cases[i].v, cases[i].want);
}

static void random_doubles_read_back_exactly(void **state)
{
    uint64_t   seed = 20;
    struct buf buf = { 0 };
    for (int i = 0; i < 100000; i++) {
        uint64_t bits = next_random(&seed);
        if (i % 10 == 0)
            bits &= ~(UINT64_C(0x7fe) << 52); /* around the subnormals */
        if (i % 10 == 1)
            bits &= UINT64_C(0xfff) << 52;    /* powers of two */
        double v, back;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v) || v == 0)
            continue;
        buf.len = 0;
        json_put_f64(&buf, v);
        struct json doc;
        assert_int_equal(json_parse(buf_view(&buf), &usual, &arena, &doc, NULL), ERR_OK);
        assert_true(jv_f64(json_root(&doc), &back));
        assert_memory_equal(&v, &back, sizeof v);
        arena_reset(&arena);
    }
    buf_done(&buf);
}

static void the_locale_does_not_matter(void **state)
{
    /* Where no locale with a decimal comma is installed this only repeats the above. */
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR" };
    for (size_t i = 0; i < ARRAY_LEN(names) && !setlocale(LC_NUMERIC, names[i]); i++)
        continue;
    double v;
    assert_f64(0.30000000000000004, "0.30000000000000004");
    assert_f64(1.5e-9, "1.5e-9");
    assert_true(jv_f64(must("0.30000000000000004"), &v));
    assert_true(v == 0.1 + 0.2);
    assert_true(jv_f64(must("1.00000000000000000000000001e-300"), &v));
    assert_true(v == 1e-300);
    setlocale(LC_NUMERIC, "C");
}

/* ---- canonical text ---- */

static struct span read_file(const char *name)
{
    const char *dir = getenv("PERDURE_TESTDATA");
    char        path[4096];
    struct buf  buf = { 0 };
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/unit/data", name);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s; set PERDURE_TESTDATA", path);
    for (int c; (c = fgetc(file)) != EOF;)
        buf_byte(&buf, (char)c);
    fclose(file);
    struct span text = arena_copy(&arena, buf_view(&buf));
    buf_done(&buf);
    return text;
}

static void canonical_vectors(void **state)
{
    struct jv  cases = jv_get(json_read(read_file("canonical-json.json"), &arena), "cases");
    struct buf buf = { 0 };
    size_t     n = 0;
    for (struct jv_iter it = jv_iter(cases); jv_step(&it); n++) {
        struct span want = jv_string(jv_get(it.value, "text"), &arena);
        for (unsigned flags = 0; flags < 4; flags++) { /* none of them depends on a flag */
            buf.len = 0;
            json_canonical(jv_get(it.value, "value"), flags, &buf);
            assert_true(span_eq(buf_view(&buf), want));
        }
    }
    assert_int_equal(n, 5);
    buf_done(&buf);
}

static void canonical_text(void **state)
{
    const char *keys = "{\"10\":1,\"9\":2,\"\":7,\"B\":4,\"_\":5,\"a\":3,\"\xc3\xa9\":6}";
    assert_canonical(keys, JSON_TEAM_KEYS, "{\"9\":2,\"10\":1,\"\":7,\"B\":4,\"_\":5,\"a\":3,\"\xc3\xa9\":6}");
    assert_canonical(keys, JSON_JCS, "{\"\":7,\"10\":1,\"9\":2,\"B\":4,\"_\":5,\"a\":3,\"\xc3\xa9\":6}");
    /* Array indexes end at 2^32-2 and have no leading zero, sign or point. */
    assert_canonical("{\"-1\":0,\"01\":0,\"4294967295\":0,\"4294967294\":0,\"0\":0,\"1.0\":0,\"99999999999\":0}",
    JSON_TEAM_KEYS,
                     "{\"0\":0,\"4294967294\":0,\"-1\":0,\"01\":0,\"1.0\":0,\"4294967295\":0,\"99999999999\":0}");
    /* The example of RFC 8785, 3.2.3: by UTF-16 an emoji sorts before U+FB33. */
    assert_canonical("{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\",\"1\":\"One\","
                     "\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\",\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
                     JSON_JCS,
                     "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\",\"\xc3\xb6\":\"Latin Small Letter O With Diaeresis\","
                     "\"\xe2\x82\xac\":\"Euro Sign\",\"\xf0\x9f\x98\x80\":\"Emoji: Grinning Face\",\"\xef\xac\xb3\":\"Hebrew Letter Dalet With Dagesh\"}");
    assert_canonical("{\"\\ud83d\":1,\"\\ud83d\\ude00\":2,\"\\ud83c\":3,\"\\ude00\":4,\"\\ue000\":5,\"\\ud83dx\":6}",
    JSON_JCS,
                     "{\"\\ud83c\":3,\"\\ud83d\":1,\"\\ud83dx\":6,\"\xf0\x9f\x98\x80\":2,\"\\ude00\":4,\"\xee\x80\x80\":5}");
    /* RFC 8785, 3.2.2. */
    assert_canonical("{\"numbers\":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"
                     "\"string\":\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\",\"literals\":[null,true,false]}",
                     JSON_JCS,
                     "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
                     "\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
    assert_canonical("[\"\\u007f\\u2028\\/\\u0008\\u001F\"]", JSON_JCS, "[\"\x7f\xe2\x80\xa8/\\b\\u001f\"]");
    assert_canonical("{\"b\":{\"y\":1,\"x\":1},\"a\":1,\"b\":{\"d\":1,\"c\":1,\"d\":2}}",
    JSON_JCS, "{\"a\":1,\"b\":{\"c\":1,\"d\":2}}");
}

static void canonical_numbers(void **state)
{
    static const struct {
        const char *text, *kept, *doubles;
    } cases[] = {
        { "0", "0", "0" }, { "-0", "0", "0" }, { "-0.0", "0", "0" }, { "1.0", "1", "1" }, { "1e2", "100", "100" },
        { "-12", "-12", "-12" },
        { "9007199254740992", "9007199254740992", "9007199254740992" },
        { "9007199254740993", "9007199254740993", "9007199254740992" },
        { "-12345678901234567890", "-12345678901234567890", "-12345678901234567000" },
        { "12345678901234567890.0", "12345678901234567000", "12345678901234567000" },
        { "1234567890123456789012", "1234567890123456789012", "1.2345678901234568e+21" },
        { "0.25", "0.25", "0.25" }, { "-0.000001", "-0.000001", "-0.000001" }, { "0.0000001", "1e-7", "1e-7" },
        { "0.10", "0.1", "0.1" },
        { "123456789.123456", "123456789.123456", "123456789.123456" }, { "0.1234567890123456", "0.1234567890123456",
        "0.1234567890123456" },
        { "0.12345678901234567", "0.12345678901234566", "0.12345678901234566" }, { "-0.000", "0", "0" },
        { "0.0000012345678901234", "0.0000012345678901234", "0.0000012345678901234" }, { "1.5E2", "150", "150" },
        { "1e400", "1e400", "null" }, { "1e-400", "0", "0" }, { "-1e-400", "0", "0" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_canonical(cases[i].text, JSON_JCS, cases[i].kept);
        assert_canonical(cases[i].text, JSON_DOUBLES | JSON_TEAM_KEYS, cases[i].doubles);
    }
}

/* The texts that are let through unread are those that the long way would write. */
static void decimals_are_written_as_their_doubles(void **state)
{
    uint64_t   seed = 21;
    struct buf text = { 0 }, canonical = { 0 }, through = { 0 };
    for (int i = 0; i < 50000; i++) {
        uint64_t whole = next_random(&seed) % 100000 >> next_random(&seed) % 17, fraction = next_random(&seed) % 1000000000000;
        int      digits = 1 + (int)(next_random(&seed) % 12);
        for (int k = digits; k < 12; k++)
            fraction /= 10;
        text.len = canonical.len = through.len = 0;
        buf_printf(&text, "%s%llu.%0*llu", i % 2 ? "-" : "", (unsigned long long)whole, digits, (unsigned long long)fraction);
        struct json doc;
        double      v;
        assert_int_equal(json_parse(buf_view(&text), &usual, &arena, &doc, NULL), ERR_OK);
        json_canonical(json_root(&doc), i % 3 ? JSON_JCS : JSON_DOUBLES, &canonical);
        assert_true(jv_f64(json_root(&doc), &v));
        json_put_f64(&through, v);
        if (!span_eq(buf_view(&canonical), buf_view(&through)))
            fail_msg("%.*s: %.*s", SPAN_ARG(buf_view(&text)), SPAN_ARG(buf_view(&canonical)));
        arena_reset(&arena);
    }
    buf_done(&text);
    buf_done(&canonical);
    buf_done(&through);
}

/* ---- issues ---- */

static void issues_are_counted_and_fifty_are_kept(void **state)
{
    struct issues *issues = calloc(1, sizeof *issues);
    struct buf     buf = { 0 };
    struct jw      w = jw_on(&buf);
    issues->arena = &arena;
    issues_to_json(issues, &w);
    assert_span(buf_view(&buf), "[]");
    buf.len = 0;
    w = jw_on(&buf);
    issue_add(issues, SPAN("/a~1b"), "required", "\"%s\" is required", "a/b");
    issue_add(issues, SPAN(""), "type", "must be an object");
    issue_add_parameter(issues, "limit", "range", "1..%d", 100);
    issues_to_json(issues, &w);
    assert_span(buf_view(&buf),
    "[{\"pointer\":\"/a~1b\",\"code\":\"required\",\"message\":\"\\\"a/b\\\" is required\"},"
                                "{\"pointer\":\"\",\"code\":\"type\",\"message\":\"must be an object\"},"
                                "{\"parameter\":\"limit\",\"code\":\"range\",\"message\":\"1..100\"}]");
    for (int i = 0; i < 100; i++)
        issue_add(issues, SPAN("/x"), "range", "%d", i);
    assert_int_equal(issues->count, 103);
    buf.len = 0;
    w = jw_on(&buf);
    issues_to_json(issues, &w);
    assert_int_equal(jv_count(json_read(arena_copy(&arena, buf_view(&buf)), &arena)), ISSUES_MAX);
    buf_done(&buf);
    free(issues);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, done_arena)
    const struct CMUnitTest tests[] = {
        TEST(good_texts_are_accepted),
        TEST(bad_texts_are_refused),
        TEST(special_bytes_are_seen_everywhere),
        TEST(utf8_is_exactly_rfc_3629),
        TEST(lone_surrogates_are_a_matter_of_the_flag),
        TEST(depth_is_limited),
        TEST(entries_are_limited),
        TEST(the_message_names_the_place),
        TEST(the_tape_is_as_described),
        TEST(long_documents_are_whole),
        TEST(the_last_duplicate_wins),
        TEST(duplicates_are_found_at_any_size),
        TEST(huge_objects_are_not_quadratic),
        TEST(absent_values_are_harmless),
        TEST(raw_text_is_as_it_came),
        TEST(strings_are_unescaped),
        TEST(integers),
        TEST(doubles_are_read_exactly),
        TEST(the_last_digit_of_a_long_number_counts),
        TEST(equality_is_by_value),
        TEST(pointers),
        TEST(numbers_and_order_survive),
        TEST(strings_are_written),
        TEST(the_cursor_sets_commas),
        TEST(doubles_are_written_as_ecmascript_does),
        TEST(random_doubles_read_back_exactly),
        TEST(the_locale_does_not_matter),
        TEST(canonical_vectors),
        TEST(canonical_text),
        TEST(canonical_numbers),
        TEST(decimals_are_written_as_their_doubles),
        TEST(issues_are_counted_and_fifty_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
