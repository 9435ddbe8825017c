/* SPDX-License-Identifier: Apache-2.0 */
/* Names, offsets and header values of the Durable Streams surface: what is accepted, what is refused (streams.md 1, 2, 3, 9, 13). */
#include "api/streams/parse.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

static void names_are_decoded_once_and_checked(void **state)
{
    static const struct { struct span raw; const char *name; } cases[] = {
        { SPAN("a"), "a" }, { SPAN("a/b/c"), "a/b/c" }, { SPAN("A%2fb"), "A/b" }, { SPAN("%C3%A4"), "\xc3\xa4" }, { SPAN("a%2520"), "a%20" },
        { SPAN("a+b"), "a+b" }, { SPAN("..a"), "..a" }, { SPAN("a/...") , "a/..." },
        { SPAN(""), NULL }, { SPAN("/"), NULL }, { SPAN("a/"), NULL }, { SPAN("/a"), NULL }, { SPAN("a//b"), NULL }, { SPAN("."), NULL },
        { SPAN("a/.."), NULL }, { SPAN("%2e%2e/a"), NULL }, { SPAN("a/%2E"), NULL }, { SPAN("%00"), NULL }, { SPAN("a%0a"), NULL }, { SPAN("a%7f"), NULL },
        { SPAN("%c2%85"), NULL }, { SPAN("%ff"), NULL }, { SPAN("%c0%80"), NULL }, { SPAN("%ed%a0%80"), NULL }, { SPAN("a%"), NULL }, { SPAN("a%g0"), NULL },
    };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span name = SPAN_NONE;
        bool        ok = name_parse(cases[i].raw, &arena, &name);
        if (ok != (cases[i].name != NULL) || (ok && !span_is(name, cases[i].name)))
            fail_msg("%.*s", SPAN_ARG(cases[i].raw));
    }
    char        longest[3 * STREAM_NAME_MAX + 4];
    struct span name;
    memset(longest, 'x', sizeof longest);
    assert_true(name_parse(span_make(longest, STREAM_NAME_MAX), &arena, &name));
    assert_false(name_parse(span_make(longest, STREAM_NAME_MAX + 1), &arena, &name));
    assert_false(name_parse(span_make(longest, sizeof longest), &arena, &name));
    arena_done(&arena);
    (void)state;
}

static void a_source_is_named_by_its_path(void **state)
{
    struct arena arena = { 0 };
    struct span  name;
    assert_true(name_of_path(SPAN("/v1/stream/a/b"), &arena, &name) && span_is(name, "a/b"));
    assert_true(name_of_path(SPAN("/proxy/v1/stream/a%20b"), &arena, &name) && span_is(name, "a b"));
    assert_true(name_of_path(SPAN("/v1/stream/v1/stream/x"), &arena, &name) && span_is(name, "v1/stream/x"));
    assert_false(name_of_path(SPAN("v1/stream/a"), &arena, &name));
    assert_false(name_of_path(SPAN("/v1/streams/a"), &arena, &name));
    assert_false(name_of_path(SPAN("/v1/stream/"), &arena, &name));
    assert_false(name_of_path(SPAN(""), &arena, &name));
    arena_done(&arena);
    (void)state;
}

static void the_first_segment_says_what_it_is(void **state)
{
    static const struct { struct span name; enum stream_class class_; uint64_t attempt; } cases[] = {
        { SPAN("a"), STREAM_FREE, 0 }, { SPAN("Runs/x"), STREAM_FREE, 0 }, { SPAN("runsx"), STREAM_FREE, 0 }, { SPAN("a/runs"), STREAM_FREE, 0 },
        { SPAN("__ds"), STREAM_CONTROL, 0 }, { SPAN("__ds/x/y"), STREAM_CONTROL, 0 }, { SPAN("__dsx"), STREAM_FREE, 0 },
        { SPAN("channels"), STREAM_CHANNEL, 0 }, { SPAN("channels/a/b"), STREAM_CHANNEL, 0 },
        { SPAN("runs"), STREAM_RUNS_OTHER, 0 }, { SPAN("runs/id"), STREAM_RUN, 0 }, { SPAN("runs/id/attempts"), STREAM_RUNS_OTHER, 0 },
        { SPAN("runs/id/attempts/1"), STREAM_ATTEMPT, 1 }, { SPAN("runs/id/attempts/20"), STREAM_ATTEMPT, 20 },
        { SPAN("runs/id/attempts/0"), STREAM_RUNS_OTHER, 0 }, { SPAN("runs/id/attempts/01"), STREAM_RUNS_OTHER, 1 },
        { SPAN("runs/id/attempts/1/x"), STREAM_RUNS_OTHER, 1 }, { SPAN("runs/id/attempt/1"), STREAM_RUNS_OTHER, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct stream_name got = name_class(cases[i].name);
        if (got.class_ != cases[i].class_ || (got.class_ == STREAM_ATTEMPT && got.attempt != cases[i].attempt))
            fail_msg("%.*s", SPAN_ARG(cases[i].name));
    }
    (void)state;
}

static void offsets_have_exactly_one_form(void **state)
{
    static const struct { struct span text; enum offset_form form; uint64_t generation, seq; } cases[] = {
        { SPAN("-1"), OFFSET_START, 0, 0 }, { SPAN("now"), OFFSET_NOW, 0, 0 },
        { SPAN("0000000000000000_0000000000000000"), OFFSET_AT, 0, 0 }, { SPAN("0000000000000002_0000000000000017"), OFFSET_AT, 2, 17 },
        { SPAN("9999999999999999_9999999999999999"), OFFSET_AT, 9999999999999999, 9999999999999999 },
        { SPAN(""), OFFSET_BAD, 0, 0 }, { SPAN("now\0"), OFFSET_BAD, 0, 0 }, { SPAN("NOW"), OFFSET_BAD, 0, 0 }, { SPAN("-1\n"), OFFSET_BAD, 0, 0 },
        { SPAN("0"), OFFSET_BAD, 0, 0 }, { SPAN("-2"), OFFSET_BAD, 0, 0 }, { SPAN("0000000000000000-0000000000000000"), OFFSET_BAD, 0, 0 },
        { SPAN("0000000000000000_000000000000000"), OFFSET_BAD, 0, 0 }, { SPAN("0000000000000000_00000000000000000"), OFFSET_BAD, 0, 0 },
        { SPAN("000000000000000 _0000000000000000"), OFFSET_BAD, 0, 0 }, { SPAN("0000000000000000_000000000000000a"), OFFSET_BAD, 0, 0 },
        { SPAN("+000000000000000_0000000000000000"), OFFSET_BAD, 0, 0 }, { SPAN("0000000000000000_0000000000000000\r"), OFFSET_BAD, 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ds_offset at;
        if (offset_parse(cases[i].text, &at) != cases[i].form || at.generation != cases[i].generation || at.seq != cases[i].seq)
            fail_msg("case %zu", i);
        if (cases[i].form != OFFSET_AT)
            continue;
        struct buf out = { 0 };
        offset_put(&out, at);
        assert_true(span_eq(buf_view(&out), cases[i].text));
        buf_done(&out);
    }
    assert_true(offset_cmp((struct ds_offset){ 0, 9 }, (struct ds_offset){ 1, 0 }) < 0);
    assert_true(offset_cmp((struct ds_offset){ 1, 2 }, (struct ds_offset){ 1, 1 }) > 0);
    assert_int_equal(offset_cmp((struct ds_offset){ 1, 2 }, (struct ds_offset){ 1, 2 }), 0);
    (void)state;
}

static void numbers_stop_where_doubles_do(void **state)
{
    uint64_t n = 7;
    assert_true(number_parse(SPAN("9007199254740991"), true, &n) && n == 9007199254740991);
    assert_false(number_parse(SPAN("9007199254740992"), true, &n));
    assert_true(number_parse(SPAN("007"), false, &n) && n == 7);
    static const struct span bad[] = { SPAN("007"), SPAN(""), SPAN("+1"), SPAN("-1"), SPAN("1.0"), SPAN("1e3"), SPAN(" 1"), SPAN("1 "), SPAN("0x1") };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(number_parse(bad[i], true, &n));
    assert_true(number_parse(SPAN("0"), true, &n) && n == 0);
    (void)state;
}

static void media_types_lose_case_and_parameters(void **state)
{
    static const struct { struct span given; const char *media; } cases[] = {
        { SPAN("text/plain"), "text/plain" }, { SPAN("TEXT/Plain; charset=utf-8"), "text/plain" }, { SPAN("application/json;x"), "application/json" },
        { SPAN("application/vnd.a+json ;q=1"), "application/vnd.a+json" }, { SPAN("a/b"), "a/b" },
        { SPAN(""), NULL }, { SPAN("text"), NULL }, { SPAN("text/"), NULL },
        { SPAN("/plain"), NULL }, { SPAN("text/pl ain"), NULL }, { SPAN("te xt/plain"), NULL },
        { SPAN("text/plain, text/html"), NULL }, { SPAN("text/\xc3\xa4"), NULL }, { SPAN("text/a/b"), NULL },
    };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span media = media_parse(cases[i].given, &arena);
        if ((media.p != NULL) != (cases[i].media != NULL) || (media.p && !span_is(media, cases[i].media)))
            fail_msg("%.*s", SPAN_ARG(cases[i].given));
    }
    assert_true(is_json_media(SPAN("application/json")) && !is_json_media(SPAN("application/ndjson")));
    assert_true(is_text_media(SPAN("text/csv")) && !is_text_media(SPAN("text/")) && !is_text_media(SPAN("image/png")));
    arena_done(&arena);
    (void)state;
}

static void instants_need_a_time_and_a_zone(void **state)
{
    int64_t ms;
    assert_true(instant_parse(SPAN("2030-01-02T03:04:05Z"), &ms) && ms == 1893553445000);
    assert_true(instant_parse(SPAN("2030-01-02T04:04:05.5+01:00"), &ms) && ms == 1893553445500);
    static const struct span bad[] = { SPAN(""), SPAN("2030-01-02"), SPAN("2030-01-02T03:04:05"), SPAN("2030-13-02T03:04:05Z"), SPAN("tomorrow"),
                                       SPAN("2030-01-02 03:04:05Z"), SPAN("1893553445"), SPAN("2030-01-02T03:04:05Z ") };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (instant_parse(bad[i], &ms))
            fail_msg("%.*s", SPAN_ARG(bad[i]));
    assert_true(header_true(SPAN("TrUe")) && !header_true(SPAN("true ")) && !header_true(SPAN("1")) && !header_true(SPAN("")));
    (void)state;
}

static void tags_match_as_rfc_9110_says(void **state)
{
    struct span tag = SPAN("\"a:b,c\"");
    static const struct { struct span header; bool hit; } cases[] = {
        { SPAN("\"a:b,c\""), true }, { SPAN("W/\"a:b,c\""), true }, { SPAN("*"), true }, { SPAN(" * "), true }, { SPAN("\"x\", \"a:b,c\""), true },
        { SPAN("\"x\" , W/\"y\",\"a:b,c\" ,\"z\""), true },
        { SPAN(""), false }, { SPAN("a:b,c"), false }, { SPAN("\"a:b\""), false }, { SPAN("\"x\" \"a:b,c\""), false },
        { SPAN("\"a:b,c"), false }, { SPAN("W/"), false }, { SPAN("w/\"a:b,c\""), false }, { SPAN("*,\"x\""), false }, { SPAN(",\"a:b,c\""), false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (etag_matches(cases[i].header, tag) != cases[i].hit)
            fail_msg("%.*s", SPAN_ARG(cases[i].header));
    (void)state;
}

static void a_cursor_is_always_later_than_the_client_s(void **state)
{
    int64_t  now_ms = (1728432000ll + 20 * 1000 + 5) * 1000;
    uint64_t now = cursor_at(now_ms);
    assert_int_equal(now, 1000);
    assert_int_equal(cursor_at(0), 0);
    assert_int_equal(cursor_answer(SPAN_NONE, now_ms, 5), now);
    assert_int_equal(cursor_answer(SPAN("999"), now_ms, 5), now);
    assert_int_equal(cursor_answer(SPAN("abc"), now_ms, 5), now);
    assert_int_equal(cursor_answer(SPAN("9007199254740992"), now_ms, 5), now);
    for (uint64_t random = 0; random < 8000; random += 7) {
        uint64_t got = cursor_answer(SPAN("1000"), now_ms, random);
        assert_true(got > 1000 && got <= 1000 + 180);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_decoded_once_and_checked),
        cmocka_unit_test(a_source_is_named_by_its_path),
        cmocka_unit_test(the_first_segment_says_what_it_is),
        cmocka_unit_test(offsets_have_exactly_one_form),
        cmocka_unit_test(numbers_stop_where_doubles_do),
        cmocka_unit_test(media_types_lose_case_and_parameters),
        cmocka_unit_test(instants_need_a_time_and_a_zone),
        cmocka_unit_test(tags_match_as_rfc_9110_says),
        cmocka_unit_test(a_cursor_is_always_later_than_the_client_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
