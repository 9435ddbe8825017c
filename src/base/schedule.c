/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c - cron lines: read into sets of bits, and walked day by day on the local calendar. */
#include "base/schedule.h"
#include "base/util.h"
#include <string.h>
#include <strings.h>

enum { DAY_S = 86400, SEARCH_DAYS = 366 * 9 }; /* 29 February may be eight years away */

/* ---- reading ---- */

static const char *const month_names[] = { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec" };
static const char *const day_names[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

struct field {
    int                min, max;
    const char *const *names; /* names[i] is min + i; NULL: numbers only */
    int                name_count;
};
static const struct field fields[] = {
    { 0, 59, NULL, 0 }, { 0, 23, NULL, 0 }, { 1, 31, NULL, 0 }, { 1, 12, month_names, 12 }, { 0, 7, day_names, 7 },
};

static bool take_number(struct span *s, int max, int *ret)
{
    int    v = 0;
    size_t n = 0;
    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++) {
        v = v * 10 + (s->p[n] - '0');
        if (v > max)
            return false;
    }
    s->p += n;
    s->n -= n;
    *ret = v;
    return n > 0;
}

static bool take_value(struct span *s, const struct field *f, int *ret)
{
    for (int i = 0; i < f->name_count && s->n >= 3; i++)
        if (strncasecmp(s->p, f->names[i], 3) == 0) {
            s->p += 3;
            s->n -= 3;
            *ret = f->min + i;
            return true;
        }
    return take_number(s, f->max, ret) && *ret >= f->min;
}

static bool take(struct span *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    s->p++;
    s->n--;
    return true;
}

/* One part of a list: `*`, a, a-b, each with /step (a/step means a to the end). */
static bool take_part(struct span *s, const struct field *f, uint64_t *bits)
{
    int  from = f->min, to = f->max, step = 1;
    bool star = take(s, '*'), single = false;
    if (!star) {
        if (!take_value(s, f, &from))
            return false;
        to = from;
        single = !take(s, '-');
        if (!single && (!take_value(s, f, &to) || to < from))
            return false;
    }
    if (take(s, '/')) {
        if (!take_number(s, 59, &step) || step == 0)
            return false;
        if (single)
            to = f->max;
    }
    for (int v = from; v <= to; v += step)
        *bits |= UINT64_C(1) << v;
    return true;
}

static bool read_field(struct span s, const struct field *f, uint64_t *ret)
{
    uint64_t bits = 0;
    do {
        if (!take_part(&s, f, &bits))
            return false;
    } while (take(&s, ','));
    *ret = bits;
    return s.n == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool schedule_parse(struct span text, struct schedule *ret, const char **ret_why)
{
    static const char *const whys[] = { "the first field (minute) is none", "the second field (hour) is none",
                                        "the third field (day of month) is none", "the fourth field (month) is none",
                                        "the fifth field (day of week) is none" };
    uint64_t bits[5];
    bool     star[5];
    size_t   n = 0, i = 0;
    while (i < text.n) {
        size_t from = i;
        while (i < text.n && !is_blank(text.p[i]))
            i++;
        if (i > from) {
            struct span one = span_make(text.p + from, i - from);
            if (n == 5 || !read_field(one, &fields[n], &bits[n])) {
                *ret_why = n == 5 ? "must have five fields, this has more" : whys[n];
                return false;
            }
            star[n++] = one.p[0] == '*';
        }
        while (i < text.n && is_blank(text.p[i]))
            i++;
    }
    if (n < 5) {
        *ret_why = "must have five fields: minute, hour, day of month, month, day of week";
        return false;
    }
    if (bits[4] & 1 << 7)
        bits[4] |= 1;
    *ret = (struct schedule){ .minutes = bits[0], .hours = (uint32_t)bits[1], .days = (uint32_t)bits[2], .months = (uint32_t)bits[3],
                              .weekdays = (uint32_t)bits[4], .any_day = star[2], .any_weekday = star[4] };
    return true;
}

/* ---- being due ---- */

static void civil(int64_t days, int *ret_month, int *ret_day)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *ret_day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *ret_month = (int)(mp < 10 ? mp + 3 : mp - 9);
}

static bool day_fits(const struct schedule *s, int64_t days)
{
    int month, day, weekday = (int)(((days + 4) % 7 + 7) % 7);
    civil(days, &month, &day);
    bool by_day = s->days >> day & 1, by_weekday = s->weekdays >> weekday & 1;
    if (!(s->months >> month & 1))
        return false;
    return s->any_day || s->any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return (a >= 0 ? a : a - (b - 1)) / b;
}

/* The earliest due instant of a local day behind `after_s`. Local order is the order of instants but where clocks go back. */
static bool next_in_day(const struct schedule *s, const struct tz *tz, int64_t day, int64_t from_local_s, int64_t after_s, int64_t *ret_s)
{
    for (int hour = 0; hour < 24; hour++) {
        int64_t hour_s = day * DAY_S + hour * 3600;
        if (!(s->hours >> hour & 1) || hour_s + 3600 <= from_local_s)
            continue;
        bool found = false;
        for (int minute = 0; minute < 60; minute++) {
            int64_t at;
            if (!(s->minutes >> minute & 1) || !tz_instant(tz, hour_s + minute * 60, &at) || at <= after_s || (found && at >= *ret_s))
                continue;
            *ret_s = at;
            found = true;
        }
        if (found)
            return true;
    }
    return false;
}

bool schedule_next(const struct schedule *s, const struct tz *tz, int64_t after_s, int64_t *ret_s)
{
    /* Three hours of slack: clocks may just have gone back. */
    int64_t from_local_s = after_s + tz_offset_s(tz, after_s) - 3 * 3600;
    int64_t first = floor_div(from_local_s, DAY_S);
    for (int64_t day = first; day < first + SEARCH_DAYS; day++)
        if (day_fits(s, day) && next_in_day(s, tz, day, from_local_s, after_s, ret_s))
            return true;
    return false;
}

bool schedule_latest(const struct schedule *s, const struct tz *tz, int64_t after_s, int64_t until_s, int64_t *ret_s)
{
    static const int64_t back[] = { 3600, DAY_S, 4 * DAY_S, 32 * DAY_S, 400 * DAY_S, INT64_MAX };
    for (size_t i = 0; i < ARRAY_LEN(back); i++) {
        int64_t from = until_s - after_s > back[i] ? until_s - back[i] : after_s, at;
        bool    found = false;
        for (int64_t t = from; schedule_next(s, tz, t, &at) && at <= until_s; t = at) {
            *ret_s = at;
            found = true;
        }
        if (found || from == after_s)
            return found;
    }
    return false;
}
