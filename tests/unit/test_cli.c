/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli.c - the parts of the command that need no server: back-off, merge patches, paths, text for a terminal. */
#include "unit.h"
#include "cli/agents.h"
#include "cli/follow.h"
#include <stdlib.h>
#include <string.h>

static void a_restarting_server_is_found_within_a_second(void **state)
{
    for (unsigned n = 1; n <= 30; n++)
        assert_in_range(follow_delay_ms(n, true, UINT32_MAX), 100, 1000);
    assert_in_range(follow_delay_ms(31, true, 0), 1000, 1200);
}

static void other_failures_back_off_to_half_a_minute(void **state)
{
    static const uint32_t base[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000 };
    uint64_t              seed = 1;
    for (unsigned i = 0; i < ARRAY_LEN(base); i++)
        for (unsigned k = 0; k < 50; k++)
            assert_in_range(follow_delay_ms(i + 1, false, (uint32_t)next_random(&seed)), base[i],
                            base[i] + base[i] / 5);
    assert_in_range(follow_delay_ms(4000000000u, false, 7), 30000, 36000);
}

static void a_terminal_event_is_known_in_any_case(void **state)
{
    static const struct {
        const char *event;
        bool        terminal;
    } cases[] = { { "{\"type\":\"RUN_FINISHED\"}", true },
                  { "{\"type\":\"run_Failed\"}", true },
                  { "{\"type\":\"RUN_CANCELLED\"}", true },
                  { "{\"type\":\"RUN_FINI\\u0053HED\"}", true },
                  { "{\"type\":\"RUN_FINISHED2\"}", false },
                  { "{\"type\":\"RUN_RESUMED\"}", false },
                  { "{\"type\":7}", false },
                  { "{}", false },
                  { "[]", false } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = { 0 };
        assert_int_equal(follow_is_terminal(json_read(span_of(cases[i].event), &arena)), cases[i].terminal);
        arena_done(&arena);
    }
}

static void a_merge_patch_says_only_what_differs(void **state)
{
    static const struct {
        const char *from, *to, *patch; /* NULL: equal */
    } cases[] = {
        { "{\"a\":1,\"b\":2}", "{\"b\":2.0,\"a\":1}", NULL },
        { "{\"a\":1}", "{\"a\":2}", "{\"a\":2}" },
        { "{\"a\":1,\"b\":1}", "{\"a\":1}", "{\"b\":null}" },
        { "{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"y\":3}}", "{\"a\":{\"x\":null,\"y\":3}}" },
        { "{\"a\":[1]}", "{\"a\":[1,2],\"c\":\"\\u00e9\"}", "{\"a\":[1,2],\"c\":\"\\u00e9\"}" },
        { "{\"a\":1}", "{}", "{\"a\":null}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = { 0 };
        struct buf   out = { 0 };
        bool differ = merge_patch_between(json_read(span_of(cases[i].from), &arena),
                                          json_read(span_of(cases[i].to), &arena), &out);
        assert_int_equal(differ, cases[i].patch != NULL);
        buf_byte(&out, 0);
        assert_string_equal(out.p, cases[i].patch ? cases[i].patch : "");
        buf_done(&out);
        arena_done(&arena);
    }
}

static void what_people_type_cannot_leave_its_path_segment(void **state)
{
    struct arena arena = { 0 };
    assert_string_equal(path_make(&arena, "/runs/%s/events", "../a b?c#d%"), "/runs/..%2Fa%20b%3Fc%23d%25/events");
    assert_string_equal(path_query(&arena, "/x", "name", "a&b=c"), "/x?name=a%26b%3Dc");
    assert_string_equal(path_query(&arena, "/x?y=1", "n", "\xc3\xa9"), "/x?y=1&n=%C3%A9");
    assert_string_equal(path_query(&arena, "/x", "n", NULL), "/x");
    arena_done(&arena);
}

static void output_of_a_model_does_not_drive_the_terminal(void **state)
{
    static const char text[] = "a\x1b[31mb\r\n\tc\x7f\xc2\x9b" "2Jd\xc3\xa9";
    char             *shown = NULL;
    size_t            size = 0;
    FILE             *out = open_memstream(&shown, &size);
    cli_put_safe(out, span_of(text), true);
    fputc('|', out);
    cli_put_safe(out, span_of(text), false);
    fclose(out);
    assert_string_equal(shown, "a?[31mb?\n\tc??2Jd\xc3\xa9|a\x1b[31mb\r\n\tc\x7f\xc2\x9b" "2Jd\xc3\xa9");
    free(shown);
}

static void durations_read_well(void **state)
{
    static const struct {
        int64_t     ms;
        const char *text;
    } cases[] = { { 0, "0 ms" }, { 999, "999 ms" }, { 3210, "3.2 s" }, { 59999, "59.9 s" }, { 245000, "4 min 05 s" },
                  { 7800000, "2 h 10 min" }, { 273600000, "3 d 4 h" }, { -1, "-" } };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_true(span_is(cli_duration(cases[i].ms, &arena), cases[i].text));
    arena_done(&arena);
}

static void an_address_must_be_one_and_loopback_is_known(void **state)
{
    static const struct {
        const char *url;
        bool        good, local;
    } cases[] = { { "http://127.0.0.1:7070", true, true },
                  { "http://localhost:1/", true, true },
                  { "http://[::1]:8", true, true },
                  { "https://example.org", true, false },
                  { "http://127.evil.example", true, false },
                  { "ftp://127.0.0.1", false, false },
                  { "127.0.0.1:7070", false, false },
                  { "http://a/?b=1", false, false },
                  { "", false, false } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct web_options options = { .server = cases[i].url, .token = "t" };
        struct web        *web = NULL;
        struct error       error;
        assert_int_equal(web_new(&options, &web, &error) == ERR_OK, cases[i].good);
        if (cases[i].good)
            assert_int_equal(web_is_local(web), cases[i].local);
        web_free(web);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restarting_server_is_found_within_a_second),
        cmocka_unit_test(other_failures_back_off_to_half_a_minute),
        cmocka_unit_test(a_terminal_event_is_known_in_any_case),
        cmocka_unit_test(a_merge_patch_says_only_what_differs),
        cmocka_unit_test(what_people_type_cannot_leave_its_path_segment),
        cmocka_unit_test(output_of_a_model_does_not_drive_the_terminal),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(an_address_must_be_one_and_loopback_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
