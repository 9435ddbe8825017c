/* SPDX-License-Identifier: Apache-2.0 */
/* test_schedule.c - time zones and cron lines: tables of what is due, around the hours that are skipped and doubled. */
#include "base/ids.h"
#include "base/mem.h"
#include "base/schedule.h"
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t at(const char *text)
{
    int64_t ms;
    assert_true(time_parse(span_of(text), &ms));
    return ms / 1000;
}

static struct tz *zone(const char *name)
{
    struct tz *tz = NULL;
    assert_int_equal(tz_open(TZ_FOLDER, span_of(name), &tz), ERR_OK);
    return tz;
}

static struct schedule line(const char *text)
{
    struct schedule s;
    const char     *why = "";
    if (!schedule_parse(span_of(text), &s, &why))
        fail_msg("%s: %s", text, why);
    return s;
}

static const struct due {
    const char *zone, *line, *after, *next;
} dues[] = {
    { "UTC", "* * * * *", "2031-04-05T06:07:00Z", "2031-04-05T06:08:00Z" },
    { "UTC", "* * * * *", "2031-04-05T06:07:59Z", "2031-04-05T06:08:00Z" },
    { "UTC", "*/15 * * * *", "2031-04-05T06:45:00Z", "2031-04-05T07:00:00Z" },
    { "UTC", "5/20 * * * *", "2031-04-05T06:25:00Z", "2031-04-05T06:45:00Z" },
    { "UTC", "0 9 * * 1-5", "2031-04-04T09:00:00Z", "2031-04-07T09:00:00Z" },
    { "UTC", "0 9 * * MON-FRI", "2031-04-04T09:00:00Z", "2031-04-07T09:00:00Z" },
    { "UTC", "0 0 * * 7", "2031-04-05T00:00:00Z", "2031-04-06T00:00:00Z" },
    { "UTC", "0 0 1 jan *", "2031-01-01T00:00:00Z", "2032-01-01T00:00:00Z" },
    { "UTC", "0 0 13 * 5", "2031-04-05T00:00:00Z", "2031-04-11T00:00:00Z" }, /* either day */
    { "UTC", "0 0 13 * 5", "2031-04-11T00:00:00Z", "2031-04-13T00:00:00Z" },
    { "UTC", "0 0 */2 * 5", "2031-04-05T00:00:00Z", "2031-04-11T00:00:00Z" }, /* a day that begins with a star: both */
    { "UTC", "0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z" },
    { "UTC", "0 0 30 2 *", "2031-01-01T00:00:00Z", NULL },
    /* Berlin goes forward at 2031-03-30T01:00Z: 02:00 to 02:59 does not happen */
    { "Europe/Berlin", "30 2 * * *", "2031-03-29T01:30:00Z", "2031-03-31T00:30:00Z" },
    { "Europe/Berlin", "*/30 * * * *", "2031-03-30T00:30:00Z", "2031-03-30T01:00:00Z" },
    { "Europe/Berlin", "0 3 * * *", "2031-03-29T12:00:00Z", "2031-03-30T01:00:00Z" },
    /* and back at 2031-10-26T01:00Z: 02:00 to 02:59 comes twice and is due once */
    { "Europe/Berlin", "30 2 * * *", "2031-10-25T12:00:00Z", "2031-10-26T00:30:00Z" },
    { "Europe/Berlin", "30 2 * * *", "2031-10-26T00:30:00Z", "2031-10-27T01:30:00Z" },
    { "Europe/Berlin", "* * * * *", "2031-10-26T00:59:00Z", "2031-10-26T02:00:00Z" },
    { "Europe/Berlin", "0 9 * * *", "2031-10-26T00:59:00Z", "2031-10-26T08:00:00Z" },
    /* New York: forward 2031-03-09T07:00Z, back 2031-11-02T06:00Z */
    { "America/New_York", "15 2 * * *", "2031-03-08T07:15:00Z", "2031-03-10T06:15:00Z" },
    { "America/New_York", "15 1 * * *", "2031-11-02T05:15:00Z", "2031-11-03T06:15:00Z" },
    { "America/New_York", "15 1 * * *", "2031-11-01T12:00:00Z", "2031-11-02T05:15:00Z" },
    /* behind what the file lists, by its rule */
    { "Europe/Berlin", "30 2 * * *", "2071-03-28T12:00:00Z", "2071-03-30T00:30:00Z" },
    { "Europe/Berlin", "0 9 * * *", "2071-07-01T12:00:00Z", "2071-07-02T07:00:00Z" },
    { "Australia/Lord_Howe", "0 9 * * *", "2071-01-01T12:00:00Z", "2071-01-01T22:00:00Z" }, /* +11 in summer */
    { "Asia/Kolkata", "0 9 * * *", "2031-01-01T12:00:00Z", "2031-01-02T03:30:00Z" },
    { "Pacific/Apia", "0 0 * * *", "2011-12-29T12:00:00Z", "2011-12-30T10:00:00Z" }, /* without a 30 December */
};

static void a_line_is_due_where_the_table_says(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(dues); i++) {
        struct tz      *tz = zone(dues[i].zone);
        struct schedule s = line(dues[i].line);
        int64_t         next = 0;
        bool            found = schedule_next(&s, tz, at(dues[i].after), &next);
        char            text[TIME_TEXT + 1] = "";
        if (found)
            time_format(next * 1000, text);
        if (found != (dues[i].next != NULL) || (found && next != at(dues[i].next)))
            fail_msg("case %zu: %s in %s behind %s: %s", i, dues[i].line, dues[i].zone, dues[i].after, text);
        tz_free(tz);
    }
}

/* Each due minute of some days, stepwise, is what the latest of any window is. */
static void the_latest_is_the_last_of_the_nexts(void **state)
{
    struct tz      *tz = zone("Europe/Berlin");
    struct schedule s = line("7,41 1-3 * * *");
    int64_t         from = at("2031-10-24T00:00:00Z"), due[64], got;
    size_t          n = 0;
    for (int64_t t = from; n < 64 && schedule_next(&s, tz, t, &t);)
        due[n++] = t;
    for (size_t i = 0; i < n; i++) {
        assert_true(schedule_latest(&s, tz, from, due[i], &got) && got == due[i]);
        assert_true(schedule_latest(&s, tz, from, due[i] + 59, &got) && got == due[i]);
        assert_true(schedule_latest(&s, tz, from - 5000LL * 86400, due[i], &got) && got == due[i]);
        assert_int_equal(schedule_latest(&s, tz, due[i], due[i] + 59, &got), false);
    }
    tz_free(tz);
}

static void what_is_no_line_is_refused(void **state)
{
    static const char *const bad[] = { "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *",
        "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "*/60 * * * *", "1- * * * *", "-1 * * * *", "1,,2 * * * *", ", * * * *",
        "1, * * * *", "a * * * *", "* * * foo *", "* * * * mo", "@daily", "1.5 * * * *", "99999999999 * * * *", "*5 * * * *", "** * * * *" };
    struct schedule s;
    const char     *why;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        why = NULL;
        if (schedule_parse(span_of(bad[i]), &s, &why) || !why)
            fail_msg("%s", bad[i]);
    }
    assert_true(schedule_parse(SPAN("  0\t9  1,15 * sun  "), &s, &why));
}

/* Against the C library, hour by hour. It is told the zone through the environment: this is a process of its own. */
static void offsets_are_those_of_the_c_library(void **state)
{
    static const char *const names[] = { "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
                                         "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "Europe/Dublin" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tz *tz = zone(names[i]);
        setenv("TZ", names[i], 1);
        tzset();
        for (int64_t t = at("1985-01-01"); t < at("2085-01-01"); t += 3600 * 5 + 1800) {
            struct tm tm;
            time_t    when = (time_t)t;
            assert_non_null(localtime_r(&when, &tm));
            if (tz_offset_s(tz, t) != tm.tm_gmtoff)
                fail_msg("%s at %lld: %lld, not %ld", names[i], (long long)t, (long long)tz_offset_s(tz, t), tm.tm_gmtoff);
        }
        tz_free(tz);
    }
}

static void what_is_no_zone_is_refused(void **state)
{
    static const char *const bad[] = { "", "/", "Europe", "Europe/", "/etc/passwd", "../../../etc/passwd", "Europe/../UTC", "No/Where", "UTC ", "a//b" };
    struct tz *tz = NULL;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(tz_open(TZ_FOLDER, span_of(bad[i]), &tz), ERR_NOT_FOUND);
    assert_int_equal(tz_open("/etc", SPAN("passwd"), &tz), ERR_CORRUPT);
    assert_null(tz);
}

/* Every cut of a file, and every byte of it changed: refused or read, and never beyond its end (this runs under ASan). */
static void damaged_files_do_no_harm(void **state)
{
    FILE  *f = fopen(TZ_FOLDER "/Europe/Berlin", "re");
    char   bytes[8192];
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    assert_true(n > 100 && n < sizeof bytes);
    fclose(f);
    for (size_t i = 0; i < n; i++) {
        struct tz *tz = NULL;
        char      *cut = malloc(i + 1);
        memcpy(cut, bytes, i);
        assert_int_equal(tz_parse(span_make(cut, i), &tz), ERR_CORRUPT);
        free(cut);
        char kept = bytes[i];
        bytes[i] = (char)(kept ^ 0x5a);
        if (!tz_parse(span_make(bytes, n), &tz))
            assert_in_range((uint64_t)(tz_offset_s(tz, at("2071-07-01")) + 200000), 1, 400000);
        tz_free(tz);
        bytes[i] = kept;
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_due_where_the_table_says), cmocka_unit_test(the_latest_is_the_last_of_the_nexts),
        cmocka_unit_test(what_is_no_line_is_refused), cmocka_unit_test(offsets_are_those_of_the_c_library),
        cmocka_unit_test(what_is_no_zone_is_refused), cmocka_unit_test(damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
