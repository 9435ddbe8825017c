/* SPDX-License-Identifier: Apache-2.0 */
/* router.c - from a path to its handler: static segments first, then parameters (agent-runs.md 2.1). */
#include "api/inner.h"

static const struct route *const surfaces[] = { agent_runs_routes, teams_routes, admin_routes, streams_routes, workflow_routes };

const struct route *route_table(size_t i)
{
    return i < ARRAY_LEN(surfaces) ? surfaces[i] : NULL;
}

static const char *const method_names[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "" };

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* A static segment as it is written in the pattern against one that may be percent-encoded: decoded once, after splitting. */
static bool same_segment(struct span want, struct span have)
{
    size_t at = 0;
    if (!memchr(have.p, '%', have.n))
        return span_eq(want, have);
    for (size_t i = 0; i < have.n; i++, at++) {
        char c = have.p[i];
        if (c == '%') {
            int high = i + 2 < have.n ? hex(have.p[i + 1]) : -1, low = high < 0 ? -1 : hex(have.p[i + 2]);
            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (at >= want.n || want.p[at] != c)
            return false;
    }
    return at == want.n;
}

/* Compares segment by segment; a parameter takes anything but an empty segment; a last "*" takes the rest, as it is. */
static bool match(const char *pattern, struct span path, struct span params[CALL_PARAMS])
{
    const char *want = pattern, *have = path.p, *end = path.p + path.n;
    unsigned    count = 0;
    while (*want && have < end) {
        if (*want++ != '/' || *have++ != '/')
            return false;
        const char *slash = memchr(have, '/', (size_t)(end - have));
        struct span w = { want, strcspn(want, "/") }, h = { have, (size_t)((slash ? slash : end) - have) };
        bool        param = *want == '{';
        if (*want == '*') {
            params[count] = span_make(have, (size_t)(end - have));
            return true;
        }
        if (param ? h.n == 0 : !same_segment(w, h))
            return false;
        if (param)
            params[count++] = h;
        want += w.n;
        have += h.n;
    }
    return !*want && have == end;
}

static bool decode_params(struct span params[CALL_PARAMS], struct arena *arena)
{
    for (unsigned i = 0; i < CALL_PARAMS && params[i].p; i++)
        if (!url_decode(params[i], false, arena, &params[i]) || memchr(params[i].p, 0, params[i].n))
            return false;
    return true;
}

static void allow_add(struct buf *allow, enum http_method method)
{
    buf_printf(allow, "%s%s", allow->len ? ", " : "", method_names[method]);
}

const struct route *route_find(struct span path, enum http_method method, struct arena *arena, struct span params[CALL_PARAMS],
                               bool *ret_other, struct buf *allow)
{
    const struct route *first = NULL;
    *ret_other = false;
    memset(params, 0, CALL_PARAMS * sizeof *params);
    if (!path.n || path.p[0] != '/')
        return NULL;
    for (size_t t = 0; t < ARRAY_LEN(surfaces); t++)
        for (const struct route *r = surfaces[t]; r->pattern; r++) {
            struct span found[CALL_PARAMS] = { 0 };
            if (first ? strcmp(first->pattern, r->pattern) != 0 : !match(r->pattern, path, found))
                continue;
            if (!first) {
                first = r;
                memcpy(params, found, sizeof found);
                if (r->pattern[strlen(r->pattern) - 1] != '*' && !decode_params(params, arena))
                    return NULL;
            }
            if (r->method == method)
                return r;
            allow_add(allow, r->method);
        }
    *ret_other = first != NULL;
    return NULL;
}
