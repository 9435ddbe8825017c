/* SPDX-License-Identifier: Apache-2.0 */
/* http_query.c - percent-decoding and query parameters of request targets. */
#include "net/http_server.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Both digits behind a '%', or -1. */
static int escape_value(struct span in, size_t at)
{
    if (in.n - at < 3)
        return -1;
    int high = hex_value(in.p[at + 1]), low = hex_value(in.p[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool url_decode(struct span in, bool plus, struct arena *arena, struct span *ret)
{
    char  *out = arena_alloc(arena, in.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        if (c == '%') {
            int value = escape_value(in, i);
            if (value < 0)
                return false;
            c = (char)value;
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        out[n++] = c;
    }
    *ret = span_make(out, n);
    return true;
}

/* Cuts the first "name=value" off a query. */
static struct span next_pair(struct span *query)
{
    const char *end = query->n ? memchr(query->p, '&', query->n) : NULL;
    size_t      n = end ? (size_t)(end - query->p) : query->n;
    struct span pair = { query->p, n };
    size_t      cut = end ? n + 1 : n;
    *query = span_make(query->p + cut, query->n - cut);
    return pair;
}

/* Names are compared decoded, so that a%69d is aid; without memory, because most names do not match. */
static bool name_is(struct span raw, const char *name)
{
    for (size_t i = 0; i < raw.n; i++, name++) {
        int c = (unsigned char)raw.p[i];
        if (c == '%') {
            c = escape_value(raw, i);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (c <= 0 || c != (unsigned char)*name)
            return false;
    }
    return *name == '\0';
}

size_t query_get(struct span query, const char *name, struct arena *arena, struct span *ret, bool *ret_bad)
{
    size_t count = 0;

    while (query.n > 0) {
        struct span pair = next_pair(&query);
        const char *equals = pair.n ? memchr(pair.p, '=', pair.n) : NULL;
        size_t      name_n = equals ? (size_t)(equals - pair.p) : pair.n;
        if (name_n == 0 || !name_is(span_make(pair.p, name_n), name))
            continue;
        size_t      skip = equals ? name_n + 1 : name_n;
        struct span value = { pair.p + skip, pair.n - skip };
        if (count++ == 0 && ret && !url_decode(value, true, arena, ret))
            *ret_bad = true;
    }
    return count;
}
