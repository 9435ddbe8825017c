/* SPDX-License-Identifier: Apache-2.0 */
/* tz.c - a strict reader of TZif files and of the POSIX rule in their footer.
 *
 * Only the 64-bit block is kept; the 32-bit one in front of it is walked over. Every count is checked against the bytes that
 * are there before anything is read. */
#include "base/mem.h"
#include "base/tz.h"
#include "base/util.h"
#include <stdio.h>
#include <stdlib.h>

enum { HEAD = 44, MAX_FILE = 1 << 20, MAX_CHANGES = 10000, MAX_TYPES = 256, MAX_OFFSET = 26 * 3600, DAY_S = 86400 };

struct change_day { /* when summer time begins or ends in a year */
    char    kind;   /* 'M': week `week` of month `month`; 'J': day 1..365 without leap days; 'N': day 0..365 */
    int     month, week, day;
    int64_t time_s;
};
struct rule {
    bool              is, has_dst;
    int64_t           std_s, dst_s;
    struct change_day start, end;
};
struct tz {
    size_t      count;
    int64_t    *at;      /* ascending; [i] is in force from at[i] on */
    int64_t    *offset;  /* [i] of at[i] */
    int64_t     first;   /* before at[0] */
    struct rule rule;    /* behind the last change */
};

/* ---- days ---- */

static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static int64_t year_of(int64_t unix_s)
{
    int64_t z = (unix_s >= 0 ? unix_s : unix_s - (DAY_S - 1)) / DAY_S + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    return yoe + era * 400 + (doy >= 306); /* years begin in March here */
}

static bool leap(int64_t y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* ---- the footer: std offset [dst [offset] , start [/time] , end [/time]] ---- */

static bool take_name(struct span *s)
{
    size_t n = 0;
    if (s->n && s->p[0] == '<') {
        while (n < s->n && s->p[n] != '>')
            n++;
        if (n == s->n)
            return false;
        n++;
    } else {
        while (n < s->n && ((s->p[n] >= 'A' && s->p[n] <= 'Z') || (s->p[n] >= 'a' && s->p[n] <= 'z')))
            n++;
    }
    s->p += n;
    s->n -= n;
    return n >= 3;
}

static bool take_char(struct span *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    s->p++;
    s->n--;
    return true;
}

static bool take_int(struct span *s, int max, int *ret)
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

/* [+-]hh[:mm[:ss]] */
static bool take_time(struct span *s, int64_t *ret)
{
    int  part[3] = { 0 };
    bool minus = take_char(s, '-');
    if (!minus)
        take_char(s, '+');
    if (!take_int(s, 167, &part[0]))
        return false;
    for (int i = 1; i < 3 && take_char(s, ':'); i++)
        if (!take_int(s, 59, &part[i]))
            return false;
    *ret = (int64_t)part[0] * 3600 + part[1] * 60 + part[2];
    if (minus)
        *ret = -*ret;
    return true;
}

static bool take_day(struct span *s, struct change_day *ret)
{
    struct change_day d = { .kind = 'N', .time_s = 7200 };
    bool              ok;
    if (take_char(s, 'M')) {
        d.kind = 'M';
        ok = take_int(s, 12, &d.month) && take_char(s, '.') && take_int(s, 5, &d.week) && take_char(s, '.') && take_int(s, 6, &d.day) &&
             d.month > 0 && d.week > 0;
    } else if (take_char(s, 'J')) {
        d.kind = 'J';
        ok = take_int(s, 365, &d.day) && d.day > 0;
    } else {
        ok = take_int(s, 365, &d.day);
    }
    if (ok && take_char(s, '/'))
        ok = take_time(s, &d.time_s);
    *ret = d;
    return ok;
}

static bool parse_rule(struct span s, struct rule *ret)
{
    struct rule r = { .is = true };
    if (s.n == 0) { /* nothing is known of later times: they are as the last ones */
        *ret = (struct rule){ .is = false };
        return true;
    }
    if (!take_name(&s) || !take_time(&s, &r.std_s))
        return false;
    r.std_s = -r.std_s; /* POSIX counts westward */
    r.dst_s = r.std_s + 3600;
    if (s.n) {
        r.has_dst = true;
        if (!take_name(&s))
            return false;
        if (s.n && s.p[0] != ',') {
            if (!take_time(&s, &r.dst_s))
                return false;
            r.dst_s = -r.dst_s;
        }
        if (!take_char(&s, ',') || !take_day(&s, &r.start) || !take_char(&s, ',') || !take_day(&s, &r.end))
            return false;
    }
    bool sane = r.std_s > -MAX_OFFSET && r.std_s < MAX_OFFSET && r.dst_s > -MAX_OFFSET && r.dst_s < MAX_OFFSET;
    *ret = r;
    return s.n == 0 && sane;
}

/* Seconds since 1970 on the local clock that is in force before the change. */
static int64_t change_local_s(const struct change_day *d, int64_t year)
{
    int64_t first = days_from_civil(year, 1, 1), day;
    if (d->kind == 'J') {
        day = first + d->day - 1 + (leap(year) && d->day >= 60);
    } else if (d->kind == 'N') {
        day = first + d->day;
    } else {
        int64_t month = days_from_civil(year, d->month, 1);
        int64_t next = d->month == 12 ? days_from_civil(year + 1, 1, 1) : days_from_civil(year, d->month + 1, 1);
        int     weekday = (int)(((month + 4) % 7 + 7) % 7);
        day = month + (d->day - weekday + 7) % 7 + (d->week - 1) * 7;
        while (day >= next)
            day -= 7;
    }
    return day * DAY_S + d->time_s;
}

static int64_t rule_offset(const struct rule *r, int64_t unix_s)
{
    if (!r->has_dst)
        return r->std_s;
    int64_t year = year_of(unix_s + r->std_s);
    int64_t start = change_local_s(&r->start, year) - r->std_s, end = change_local_s(&r->end, year) - r->dst_s;
    bool    dst = start < end ? unix_s >= start && unix_s < end : unix_s >= start || unix_s < end;
    return dst ? r->dst_s : r->std_s;
}

/* ---- the file ---- */

static uint32_t be32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

struct head {
    uint32_t isut, isstd, leaps, times, types, chars;
};

static bool read_head(struct span s, struct head *ret)
{
    if (s.n < HEAD || memcmp(s.p, "TZif", 4) != 0 || s.p[4] < '2' || s.p[4] > '4')
        return false;
    *ret = (struct head){ be32(s.p + 20), be32(s.p + 24), be32(s.p + 28), be32(s.p + 32), be32(s.p + 36), be32(s.p + 40) };
    return ret->times <= MAX_CHANGES && ret->types >= 1 && ret->types <= MAX_TYPES && ret->leaps <= MAX_CHANGES && ret->chars <= 4096 &&
           ret->isut <= MAX_TYPES && ret->isstd <= MAX_TYPES;
}

static size_t block_size(const struct head *h, size_t time_size)
{
    return (size_t)h->times * (time_size + 1) + (size_t)h->types * 6 + h->chars + (size_t)h->leaps * (time_size + 4) + h->isstd + h->isut;
}

static bool type_offset(struct span types, uint32_t type, uint32_t count, int64_t *ret)
{
    if (type >= count)
        return false;
    *ret = (int32_t)be32(types.p + (size_t)type * 6);
    return *ret > -MAX_OFFSET && *ret < MAX_OFFSET;
}

static bool read_changes(struct tz *tz, const char *p, const struct head *h)
{
    const char *kinds = p + (size_t)h->times * 8;
    struct span types = span_make(kinds + h->times, (size_t)h->types * 6);
    if (!type_offset(types, 0, h->types, &tz->first))
        return false;
    for (uint32_t i = 0; i < h->times; i++) {
        tz->at[i] = (int64_t)((uint64_t)be32(p + (size_t)i * 8) << 32 | be32(p + (size_t)i * 8 + 4));
        if ((i && tz->at[i] <= tz->at[i - 1]) || !type_offset(types, (unsigned char)kinds[i], h->types, &tz->offset[i]))
            return false;
    }
    tz->count = h->times;
    return true;
}

static bool parse(struct span s, struct tz *tz)
{
    struct head h;
    if (!read_head(s, &h) || s.n - HEAD < block_size(&h, 4))
        return false;
    size_t skip = HEAD + block_size(&h, 4);
    s.p += skip;
    s.n -= skip;
    if (!read_head(s, &h) || s.n - HEAD < block_size(&h, 8))
        return false;
    tz->at = mem_alloc((h.times + 1) * sizeof *tz->at);
    tz->offset = mem_alloc((h.times + 1) * sizeof *tz->offset);
    if (!read_changes(tz, s.p + HEAD, &h))
        return false;
    skip = HEAD + block_size(&h, 8);
    s.p += skip;
    s.n -= skip;
    if (s.n < 2 || s.p[0] != '\n' || s.p[s.n - 1] != '\n')
        return false;
    return parse_rule(span_make(s.p + 1, s.n - 2), &tz->rule);
}

enum err tz_parse(struct span bytes, struct tz **ret)
{
    struct tz *tz = mem_alloc(sizeof *tz);
    if (!parse(bytes, tz)) {
        tz_free(tz);
        return ERR_CORRUPT;
    }
    *ret = tz;
    return ERR_OK;
}

void tz_free(struct tz *tz)
{
    if (!tz)
        return;
    free(tz->at);
    free(tz->offset);
    free(tz);
}

static bool name_is_safe(struct span name)
{
    bool part = false; /* inside a part of the path */
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool word = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-';
        if (c == '/' && !part)
            return false;
        if (c != '/' && !word)
            return false;
        part = c != '/';
    }
    return part && name.n <= 64;
}

enum err tz_open(const char *folder, struct span name, struct tz **ret)
{
    char path[256];
    if (!name_is_safe(name) || snprintf(path, sizeof path, "%s/%.*s", folder, SPAN_ARG(name)) >= (int)sizeof path)
        return ERR_NOT_FOUND;
    FILE *f = fopen(path, "re");
    if (!f)
        return ERR_NOT_FOUND;
    char    *bytes = mem_alloc(MAX_FILE);
    size_t   n = fread(bytes, 1, MAX_FILE, f);
    bool     read = !ferror(f) && n < MAX_FILE; /* a folder opens and cannot be read */
    fclose(f);
    enum err err = read ? tz_parse(span_make(bytes, n), ret) : ERR_NOT_FOUND;
    free(bytes);
    return err;
}

/* ---- asking ---- */

int64_t tz_offset_s(const struct tz *tz, int64_t unix_s)
{
    size_t low = 0, high = tz->count; /* changes before low are at or before the instant */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tz->at[middle] <= unix_s)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == tz->count && tz->rule.is)
        return rule_offset(&tz->rule, unix_s);
    return low ? tz->offset[low - 1] : tz->first;
}

bool tz_instant(const struct tz *tz, int64_t local_s, int64_t *ret_unix_s)
{
    int64_t offsets[2] = { tz_offset_s(tz, local_s - DAY_S), tz_offset_s(tz, local_s + DAY_S) };
    bool    found = false;
    for (int i = 0; i < 2; i++) {
        int64_t at = local_s - offsets[i];
        if (tz_offset_s(tz, at) != offsets[i] || (found && at >= *ret_unix_s))
            continue;
        *ret_unix_s = at;
        found = true;
    }
    return found;
}
