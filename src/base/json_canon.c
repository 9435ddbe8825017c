/* SPDX-License-Identifier: Apache-2.0 */
/* json_canon.c - one text for equal values: what fingerprints, plan hashes and team traces are made of.
 *
 * RFC 8785 with the variations that model.md 11 (row 31) and teams.md 1 ask for. */
#include "base/json_inner.h"
#include "base/utf8.h"
#include <stdlib.h>

/* ---- order of names ---- */

/* Walks text (WTF-8) as UTF-16. */
struct units {
    const char *p, *end;
    uint32_t    low; /* second half of a pair, still to come */
};

/* The next code unit, or -1 at the end. */
static int32_t next_unit(struct units *u)
{
    if (u->low) {
        int32_t low = (int32_t)u->low;
        u->low = 0;
        return low;
    }
    if (u->p == u->end)
        return -1;
    uint32_t cp = (unsigned char)*u->p;
    unsigned n = utf8_decode(u->p, u->end, true, &cp);
    u->p += n ? n : 1;
    if (cp < 0x10000)
        return (int32_t)cp;
    u->low = 0xdc00 + ((cp - 0x10000) & 0x3ff);
    return (int32_t)(0xd800 + ((cp - 0x10000) >> 10));
}

static int utf16_cmp(struct span a, struct span b)
{
    /* What is equal in front needs no decoding, as far as it is ASCII. */
    size_t same = 0;
    while (same < a.n && same < b.n && a.p[same] == b.p[same] && (unsigned char)a.p[same] < 0x80)
        same++;
    struct units left = { a.p + same, a.p + a.n, 0 }, right = { b.p + same, b.p + b.n, 0 };
    int32_t      x, y;
    do {
        x = next_unit(&left);
        y = next_unit(&right);
    } while (x == y && x >= 0);
    return (x > y) - (x < y);
}

/* The number that an array index spells ("0", "17", at most 2^32-2, no leading zero), or -1. */
static int64_t index_of(struct span name)
{
    int64_t value = 0;
    if (name.n == 0 || name.n > 10 || (name.n > 1 && name.p[0] == '0'))
        return -1;
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] < '0' || name.p[i] > '9')
            return -1;
        value = value * 10 + (name.p[i] - '0');
    }
    return value < INT64_C(0xffffffff) ? value : -1;
}

static int member_cmp(const void *left, const void *right)
{
    const struct json_member *a = left, *b = right;
    if (a->index >= 0 && b->index >= 0)
        return (a->index > b->index) - (a->index < b->index);
    if (a->index >= 0 || b->index >= 0)
        return a->index >= 0 ? -1 : 1;
    return utf16_cmp(a->name, b->name);
}

struct json_member *json_members_sorted(struct jv object, bool index_first, struct arena *arena, size_t *ret_count)
{
    struct json_member *members = ARENA_ARRAY(arena, struct json_member, jv_count(object));
    size_t              n = 0;
    bool                sorted = true;
    for (struct jv_iter it = jv_iter(object); jv_step(&it); n++) {
        struct span name = jv_string(it.name, arena);
        members[n] = (struct json_member){ name, it.value, index_first ? index_of(name) : -1 };
        sorted = sorted && (n == 0 || member_cmp(&members[n - 1], &members[n]) < 0);
    }
    if (!sorted)
        qsort(members, n, sizeof *members, member_cmp);
    *ret_count = n;
    return members;
}

/* ---- values ---- */

static bool is_integer(struct span number)
{
    for (size_t i = 0; i < number.n; i++)
        if (number.p[i] == '.' || number.p[i] == 'e' || number.p[i] == 'E')
            return false;
    return true;
}

/* A fraction of at most 15 digits without superfluous zeros is the shortest text of its double, since two such numbers
 * are never the same double; from 1e-6 on it is also written without an exponent. This is what spares prices the long
 * way. */
static bool is_shortest_fraction(struct span number)
{
    if (number.n > 24 || number.p[number.n - 1] == '0')
        return false;
    if (memchr(number.p, 'e', number.n) || memchr(number.p, 'E', number.n))
        return false;
    struct decimal d = decimal_of(number);
    return d.count > 0 && d.count <= 15 && d.fraction.n > 0 && d.scale > -6;
}

/* An integer up to 2^53 is its own shortest text, and a larger one keeps its text, so integers pass as they are; with
 * JSON_DOUBLES only those that are certainly exact do. */
static bool keeps_text(struct span number, unsigned flags)
{
    if (is_integer(number))
        return !span_is(number, "-0") && (number.n <= 15 || !(flags & JSON_DOUBLES));
    return is_shortest_fraction(number);
}

static void put_number(struct jv v, unsigned flags, struct buf *out)
{
    struct span text = jv_raw(v);
    double      value;
    if (keeps_text(text, flags))
        buf_span(out, text);
    else if (jv_f64(v, &value))
        json_put_f64(out, value);
    else if (flags & JSON_DOUBLES)
        BUF_LIT(out, "null"); /* 1e999 is Infinity in JavaScript, and that is written null */
    else
        buf_span(out, text);
}

static void put_text(struct jv v, struct buf *out)
{
    if (!jv_entry(v)->escaped) {
        buf_span(out, jv_raw(v));
        return;
    }
    CLEANUP(arena_done) struct arena arena = { 0 };
    json_put_string(out, jv_string(v, &arena));
}

static void put_object(struct jv v, unsigned flags, struct buf *out)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    size_t              n;
    struct json_member *members = json_members_sorted(v, flags & JSON_TEAM_KEYS, &arena, &n);
    buf_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_byte(out, ',');
        json_put_string(out, members[i].name);
        buf_byte(out, ':');
        json_canonical(members[i].value, flags, out); /* no deeper than the parser's limit */
    }
    buf_byte(out, '}');
}

static void put_array(struct jv v, unsigned flags, struct buf *out)
{
    bool comma = false;
    buf_byte(out, '[');
    for (struct jv_iter it = jv_iter(v); jv_step(&it); comma = true) {
        if (comma)
            buf_byte(out, ',');
        json_canonical(it.value, flags, out);
    }
    buf_byte(out, ']');
}

void json_canonical(struct jv v, unsigned flags, struct buf *out)
{
    switch (jv_kind(v)) {
    case JSON_NUMBER:
        put_number(v, flags, out);
        break;
    case JSON_STRING:
        put_text(v, out);
        break;
    case JSON_ARRAY:
        put_array(v, flags, out);
        break;
    case JSON_OBJECT:
        put_object(v, flags, out);
        break;
    default:
        buf_span(out, jv_raw(v));
    }
}
