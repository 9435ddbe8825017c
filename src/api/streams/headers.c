/* SPDX-License-Identifier: Apache-2.0 */
/* headers.c - values of headers, and the cursors of waiting requests. */
#include "api/streams/parse.h"
#include "base/env.h"
#include <strings.h>

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static size_t token_len(const char *p, const char *end)
{
    const char *from = p;
    while (p < end && is_token_char(*p))
        p++;
    return (size_t)(p - from);
}

struct span media_parse(struct span content_type, struct arena *arena)
{
    const char *p = content_type.p, *end = p + content_type.n;
    size_t      first = content_type.n ? token_len(p, end) : 0;
    if (!first || p + first == end || p[first] != '/')
        return SPAN_NONE;
    size_t second = token_len(p + first + 1, end), n = first + 1 + second;
    size_t rest = n;
    while (rest < content_type.n && (p[rest] == ' ' || p[rest] == '\t'))
        rest++;
    if (!second || (rest < content_type.n && p[rest] != ';'))
        return SPAN_NONE;
    char *lower = arena_alloc(arena, n + 1);
    for (size_t i = 0; i < n; i++)
        lower[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i];
    return span_make(lower, n);
}

bool is_json_media(struct span media)
{
    return span_is(media, "application/json");
}

bool is_text_media(struct span media)
{
    return media.n > 5 && memcmp(media.p, "text/", 5) == 0;
}

bool header_true(struct span value)
{
    return value.n == 4 && strncasecmp(value.p, "true", 4) == 0;
}

bool instant_parse(struct span text, int64_t *ret_ms)
{
    return text.n >= 20 && (text.p[10] == 'T' || text.p[10] == 't') && time_parse(text, ret_ms);
}

/* ---- entity tags ---- */

static const char *skip_blank(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

bool etag_matches(struct span header, struct span etag)
{
    const char *p = header.p, *end = p + header.n;
    if (!header.n)
        return false;
    p = skip_blank(p, end);
    if (p < end && *p == '*')
        return skip_blank(p + 1, end) == end;
    while (p < end) {
        if (end - p > 2 && p[0] == 'W' && p[1] == '/')
            p += 2; /* weak comparison: the mark does not count */
        const char *close = p < end && *p == '"' ? memchr(p + 1, '"', (size_t)(end - p - 1)) : NULL;
        if (!close)
            return false;
        if (span_eq(span_make(p, (size_t)(close + 1 - p)), etag))
            return true;
        p = skip_blank(close + 1, end);
        if (p == end || *p != ',')
            return false;
        p = skip_blank(p + 1, end);
    }
    return false;
}

/* ---- cursors ---- */

enum { CURSOR_S = 20, JITTER_S = 3600 };
#define CURSOR_EPOCH_S 1728432000ll /* 2024-10-09T00:00:00Z */

uint64_t cursor_at(int64_t now_ms)
{
    int64_t s = now_ms / 1000 - CURSOR_EPOCH_S;
    return s > 0 ? (uint64_t)s / CURSOR_S : 0;
}

uint64_t cursor_answer(struct span given, int64_t now_ms, uint64_t random)
{
    uint64_t now = cursor_at(now_ms), theirs;
    if (!given.p || !number_parse(given, false, &theirs) || theirs < now)
        return now;
    uint64_t step = (random % JITTER_S + 1 + CURSOR_S - 1) / CURSOR_S;
    return theirs + (step ? step : 1);
}
