/* SPDX-License-Identifier: Apache-2.0 */
/* json_inner.h - what the files of the JSON library share with each other and with nobody else. */
#pragma once
#include "base/json.h"

enum { JSON_DEPTH_MAX = 1024 };         /* no limit may ask for more: stacks are fixed */
enum { JSON_TEXT_MAX = 1 << 30 };

static inline const struct json_entry *jv_entry(struct jv v)
{
    return &v.doc->tape[v.at];
}

/* The bytes of a scalar without quotes, of a container with its brackets. */
static inline struct span entry_text(const struct json *doc, uint32_t at)
{
    return span_make(doc->text.p + doc->tape[at].off, doc->tape[at].len);
}

/* The first byte from p on that is not plain inside a string: a quote, a backslash, a control byte, or not ASCII. Eight
 * bytes at a time: subtracting borrows into the high bit of exactly those bytes (and perhaps of bytes behind the first
 * of them, which do not matter). */
static inline const char *json_skip_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    for (; end - p >= 8; p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        x = __builtin_bswap64(x);
#endif
        uint64_t found = ((x - ones * 0x20) | ((x ^ ones * '"') - ones) | ((x ^ ones * '\\') - ones) | x) & high;
        if (found)
            return p + __builtin_ctzll(found) / 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* Decodes the escape at *p (a backslash, already checked by the parser) to 1..4 bytes of WTF-8 and moves *p behind it.
 * */
unsigned json_unescape(const char **p, const char *end, char out[4]);
/* Four hex digits, or -1. */
int32_t json_hex4(const char *p, const char *end);
/* `raw` (between the quotes; escaped or not) as text; a copy in the arena only when it must be. */
struct span json_unescaped(struct span raw, bool escaped, struct arena *arena);

/* A number's text taken apart: digits * 10^scale with an imaginary point before the first digit. Zeros at both ends do
 * not count, so two numbers are equal when their parts are. */
struct decimal {
    bool        negative;
    struct span whole, fraction;    /* the digits before and behind the point */
    size_t      first, count;       /* significant ones in whole + fraction; count 0: zero */
    int64_t     scale;
};
struct decimal decimal_of(struct span number);
bool           decimal_eq(const struct decimal *a, const struct decimal *b);
bool           decimal_to_f64(const struct decimal *d, double *ret); /* false when beyond the largest double */

/* Members of an object that no later one overrides, sorted: integer-like names first if asked for, then by UTF-16. */
struct json_member {
    struct span name; /* unescaped */
    struct jv   value;
    int64_t     index; /* of an integer-like name when asked for, else -1 */
};
struct json_member *json_members_sorted(struct jv object, bool index_first, struct arena *arena, size_t *ret_count);
