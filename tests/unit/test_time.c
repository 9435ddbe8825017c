/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 3339 text and the real clocks of base/env.h. */
#include "unit.h"
#include "base/env.h"
#include "base/util.h"
#include <stdio.h>
#include <time.h>

#define DAY INT64_C(86400000)

static void assert_text(int64_t ms, const char *want)
{
    char text[TIME_TEXT + 1] = { 0 };
    time_format(ms, text);
    assert_string_equal(text, want);
}

static void known_moments(void **state)
{
    assert_text(0, "1970-01-01T00:00:00.000Z");
    assert_text(-1, "1969-12-31T23:59:59.999Z");
    assert_text(INT64_C(1932962828009), "2031-04-03T06:07:08.009Z");
    assert_text(INT64_C(951782400000), "2000-02-29T00:00:00.000Z");
    assert_text(INT64_C(-62167219200000), "0000-01-01T00:00:00.000Z");
    assert_text(INT64_C(253402300799999), "9999-12-31T23:59:59.999Z");
    assert_text(INT64_MIN, "0000-01-01T00:00:00.000Z");
    assert_text(INT64_MAX, "9999-12-31T23:59:59.999Z");
}

/* Every day from 0000 to 9999, against the C library. */
static void every_day_comes_back(void **state)
{
    for (int64_t ms = INT64_C(-62167219200000); ms < INT64_C(253402300800000); ms += DAY) {
        char      text[TIME_TEXT];
        int64_t   odd = ms + (ms / DAY * 7919 % DAY + DAY) % DAY, back;
        time_format(odd, text);
        assert_true(time_parse(span_make(text, TIME_TEXT), &back));
        assert_true(back == odd);
        assert_true(time_parse(span_make(text, 10), &back));
        assert_true(back == ms);

        struct tm tm;
        char      want[40];
        gmtime_r(&(time_t){ ms / 1000 }, &tm);
        snprintf(want, sizeof want, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
        assert_memory_equal(text, want, 10);
    }
}

static void other_spellings_of_a_moment(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "2031-04-05T06:07:08Z", "2031-04-05T06:07:08.000Z" },
        { "2031-04-05t06:07:08z", "2031-04-05T06:07:08.000Z" },
        { "2031-04-05T06:07:08.5Z", "2031-04-05T06:07:08.500Z" },
        { "2031-04-05T06:07:08.123456789Z", "2031-04-05T06:07:08.123Z" },
        { "2031-04-05T06:07:08.99999999999999999999999Z", "2031-04-05T06:07:08.999Z" },
        { "2031-04-05T06:07:08+02:30", "2031-04-05T03:37:08.000Z" },
        { "2031-04-05T22:07:08-05:00", "2031-04-06T03:07:08.000Z" },
        { "2031-04-05T06:07:08-00:00", "2031-04-05T06:07:08.000Z" },
        { "2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z" },
        { "2017-01-01T05:29:60.25+05:30", "2017-01-01T00:00:00.250Z" },
        { "2024-02-29", "2024-02-29T00:00:00.000Z" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms;
        assert_true(time_parse(span_of(cases[i].text), &ms));
        assert_text(ms, cases[i].want);
    }
}

static void what_is_no_time(void **state)
{
    static const char *const bad[] = {
        "", "2031", "2031-04", "2031-04-5", "2031-4-05", "31-04-05", "2031-13-01", "2031-00-01", "2031-04-00",
        "2031-04-31",
        "2023-02-29", "1900-02-29", "2031-04-05T", "2031-04-05T06", "2031-04-05T06:07", "2031-04-05T06:07Z",
        "2031-04-05T06:07:08", "2031-04-05 06:07:08Z", "2031-04-05T24:00:00Z", "2031-04-05T06:60:00Z",
        "2031-04-05T06:07:61Z", "2031-04-05T06:07:60Z", "2031-04-05T06:07:08.Z", "2031-04-05T06:07:08,5Z",
        "2031-04-05T06:07:08+0230", "2031-04-05T06:07:08+24:00", "2031-04-05T06:07:08+02:60",
        "2031-04-05T06:07:08+2:30",
        "2031-04-05T06:07:08ZZ", "2031-04-05T06:07:08Z ", " 2031-04-05T06:07:08Z", "2031-04-05Z",
        "+031-04-05T06:07:08Z",
        "2031-04-05T-1:07:08Z", "2031/04/05T06:07:08Z", "2031-04-05T06:07:08+02", "12031-04-05T06:07:08Z", "0", "now",
    };
    int64_t ms = 77;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (time_parse(span_of(bad[i]), &ms))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(ms, 77);
    }
    assert_false(time_parse(SPAN("2031-04-05\0" "06:07:08Z"), &ms));
    assert_false(time_parse(SPAN("2031-04-05T06:07:08\0"), &ms));
}

/* Each proper prefix of a full text is refused, except for the bare date. */
static void prefixes_are_refused(void **state)
{
    struct span whole = SPAN("2031-04-05T06:07:08.009+01:00");
    int64_t     ms;
    for (size_t n = 0; n < whole.n; n++)
        assert_int_equal(time_parse(span_make(whole.p, n), &ms), n == 10);
    assert_true(time_parse(whole, &ms));
}

static void real_clocks_run(void **state)
{
    struct env *env = env_real();
    assert_true(env->wall_ms(env) / 1000 >= time(NULL) - 1);
    assert_true(env->wall_ms(env) / 1000 <= time(NULL) + 1);
    uint64_t last = env->mono_us(env);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = env->mono_us(env);
        assert_true(now >= last);
        last = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_moments),
        cmocka_unit_test(every_day_comes_back),
        cmocka_unit_test(other_spellings_of_a_moment),
        cmocka_unit_test(what_is_no_time),
        cmocka_unit_test(prefixes_are_refused),
        cmocka_unit_test(real_clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
