/* SPDX-License-Identifier: Apache-2.0 */
/* env.c - the real clocks, the system's random source, and RFC 3339 text.
 *
 * Everything that must be testable gets a `struct env` handed in; this is the one that is true. */
#include "base/env.h"
#include "base/util.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

/* ---- the real environment ---- */

static int64_t real_wall_ms(struct env *env)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint64_t real_mono_us(struct env *env)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void random_from_system(void *out, size_t n)
{
    for (char *p = out; n > 0;) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            fprintf(stderr, "perdure: no random numbers from the system (errno %d); stopping\n", errno);
            abort();
        }
        p += got;
        n -= (size_t)got;
    }
}

/* One system call serves some four hundred ids. Each thread has its own, so there is nothing to lock. */
enum { POOL_SIZE = 4096 };
struct pool {
    size_t  left; /* unused bytes, at the end */
    uint8_t bytes[POOL_SIZE];
};
static _Thread_local struct pool pool;

static void real_random(struct env *env, void *out, size_t n)
{
    if (n > POOL_SIZE / 4) {
        random_from_system(out, n);
        return;
    }
    if (n > pool.left) {
        random_from_system(pool.bytes, POOL_SIZE);
        pool.left = POOL_SIZE;
    }
    uint8_t *from = pool.bytes + POOL_SIZE - pool.left;
    memcpy(out, from, n);
    memset(from, 0, n); /* what was handed out (it may be a key) does not stay behind */
    pool.left -= n;
}

struct env *env_real(void)
{
    static struct env real = { real_wall_ms, real_mono_us, real_random };
    return &real;
}

/* ---- RFC 3339 ---- */

#define DAY_MS  INT64_C(86400000)
#define YEAR_0  INT64_C(-62167219200000) /* 0000-01-01T00:00:00.000Z */
#define YEAR_10K INT64_C(253402300800000) /* 10000-01-01T00:00:00.000Z */

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years begin in March here, so that the leap day
 * is the last of its year; an era is the 400 years after which the calendar repeats. */
static int64_t days_of(int year, int month, int day)
{
    int y = month <= 2 ? year - 1 : year;
    int era = (y >= 0 ? y : y - 399) / 400;
    int year_of_era = y - era * 400;
    int day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (int64_t)era * 146097 + day_of_era - 719468;
}

/* The inverse of days_of; days is not before the year 0000. */
static void date_of(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int     day_of_era = (int)(z - era * 146097);
    int     year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int     day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int     month = (5 * day_of_year + 2) / 153;
    *ret_day = day_of_year - (153 * month + 2) / 5 + 1;
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = (int)(year_of_era + era * 400) + (*ret_month <= 2);
}

static void put_digits(char *out, int width, int value)
{
    for (int i = width - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
}

void time_format(int64_t wall_ms, char out[TIME_TEXT])
{
    if (wall_ms < YEAR_0)
        wall_ms = YEAR_0;
    if (wall_ms >= YEAR_10K)
        wall_ms = YEAR_10K - 1;
    int64_t days = wall_ms / DAY_MS;
    int     ms = (int)(wall_ms % DAY_MS);
    if (ms < 0) {
        ms += (int)DAY_MS;
        days--;
    }
    int year, month, day;
    date_of(days, &year, &month, &day);

    memcpy(out, "0000-00-00T00:00:00.000Z", TIME_TEXT);
    put_digits(out, 4, year);
    put_digits(out + 5, 2, month);
    put_digits(out + 8, 2, day);
    put_digits(out + 11, 2, ms / 3600000);
    put_digits(out + 14, 2, ms / 60000 % 60);
    put_digits(out + 17, 2, ms / 1000 % 60);
    put_digits(out + 20, 3, ms % 1000);
}

/* A cursor over the text; once something does not fit, `bad` stays set. */
struct scan {
    const char *p, *end;
    bool        bad;
};

static int scan_digits(struct scan *s, int width, int least, int most)
{
    int value = 0;
    for (int i = 0; i < width; i++) {
        if (s->p == s->end || *s->p < '0' || *s->p > '9') {
            s->bad = true;
            return 0;
        }
        value = value * 10 + (*s->p++ - '0');
    }
    s->bad |= value < least || value > most;
    return value;
}

static bool scan_one_of(struct scan *s, const char *chars, char *ret)
{
    if (s->p == s->end || !*s->p || !strchr(chars, *s->p))
        return false;
    *ret = *s->p++;
    return true;
}

static void scan_char(struct scan *s, const char *chars)
{
    char c;
    s->bad |= !scan_one_of(s, chars, &c);
}

static int days_in_month(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

static int64_t scan_date(struct scan *s)
{
    int year = scan_digits(s, 4, 0, 9999);
    scan_char(s, "-");
    int month = scan_digits(s, 2, 1, 12);
    scan_char(s, "-");
    int day = scan_digits(s, 2, 1, 31);
    if (s->bad || day > days_in_month(year, month)) {
        s->bad = true;
        return 0;
    }
    return days_of(year, month, day);
}

/* ".5", ".123456789": milliseconds, further digits cut off. */
static int scan_fraction(struct scan *s)
{
    int ms = scan_digits(s, 1, 0, 9) * 100;
    for (int unit = 10; s->p < s->end && *s->p >= '0' && *s->p <= '9'; unit /= 10)
        ms += (*s->p++ - '0') * unit;
    return ms;
}

/* Minutes east of UTC. */
static int scan_offset(struct scan *s)
{
    char sign = 'Z';
    if (!scan_one_of(s, "Zz+-", &sign))
        s->bad = true;
    if (s->bad || sign == 'Z' || sign == 'z')
        return 0;
    int hours = scan_digits(s, 2, 0, 23);
    scan_char(s, ":");
    int minutes = hours * 60 + scan_digits(s, 2, 0, 59);
    return sign == '-' ? -minutes : minutes;
}

bool time_parse(struct span text, int64_t *ret_ms)
{
    struct scan s = { text.p, text.p + text.n, false };
    int64_t     days = scan_date(&s);
    if (s.bad)
        return false;
    if (s.p == s.end) {
        *ret_ms = days * DAY_MS;
        return true;
    }

    scan_char(&s, "Tt");
    int64_t minute = scan_digits(&s, 2, 0, 23) * 60;
    scan_char(&s, ":");
    minute += scan_digits(&s, 2, 0, 59);
    scan_char(&s, ":");
    int  second = scan_digits(&s, 2, 0, 60);
    char point;
    int  ms = scan_one_of(&s, ".", &point) ? scan_fraction(&s) : 0;
    minute += days * 1440 - scan_offset(&s);
    if (s.bad || s.p != s.end)
        return false;
    /* A leap second exists only at the end of a UTC day; it counts as the first second of the next. */
    if (second == 60 && (minute % 1440 + 1440) % 1440 != 1439)
        return false;
    *ret_ms = minute * 60000 + second * 1000 + ms;
    return true;
}
