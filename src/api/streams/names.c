/* SPDX-License-Identifier: Apache-2.0 */
/* names.c - names of streams and places in them. */
#include "api/streams/parse.h"
#include "base/utf8.h"
#include "net/http_server.h"
#include <stdio.h>

static bool well_formed(struct span name)
{
    for (const char *p = name.p, *end = name.p + name.n; p < end;) {
        uint32_t cp;
        unsigned n = utf8_decode(p, end, false, &cp);
        if (!n || cp < 0x20 || cp == 0x7f || (cp >= 0x80 && cp < 0xa0))
            return false;
        p += n;
    }
    return true;
}

/* Cuts the first segment off. */
static struct span segment(struct span *rest)
{
    const char *slash = rest->n ? memchr(rest->p, '/', rest->n) : NULL;
    struct span first = { rest->p, slash ? (size_t)(slash - rest->p) : rest->n };
    *rest = slash ? span_make(slash + 1, rest->n - first.n - 1) : SPAN_NONE;
    return first;
}

static bool segments_ok(struct span name)
{
    struct span rest = name;
    do {
        struct span s = segment(&rest);
        if (!s.n || span_is(s, ".") || span_is(s, ".."))
            return false;
    } while (rest.p);
    return true;
}

bool name_parse(struct span raw, struct arena *arena, struct span *ret)
{
    struct span name;
    if (!raw.n || raw.n > 3 * STREAM_NAME_MAX || !url_decode(raw, false, arena, &name))
        return false;
    if (!name.n || name.n > STREAM_NAME_MAX || !well_formed(name) || !segments_ok(name))
        return false;
    *ret = name;
    return true;
}

bool name_of_path(struct span path, struct arena *arena, struct span *ret)
{
    const char *root = path.n && path.p[0] == '/' ? memmem(path.p, path.n, STREAMS_ROOT, strlen(STREAMS_ROOT)) : NULL;
    if (!root)
        return false;
    root += strlen(STREAMS_ROOT);
    return name_parse(span_make(root, path.n - (size_t)(root - path.p)), arena, ret);
}

struct stream_name name_class(struct span name)
{
    struct stream_name ret = { .class_ = STREAM_FREE };
    struct span        rest = name, first = segment(&rest);
    if (span_is(first, "__ds"))
        ret.class_ = STREAM_CONTROL;
    else if (span_is(first, "channels"))
        ret.class_ = STREAM_CHANNEL;
    if (!span_is(first, "runs"))
        return ret;
    ret.class_ = STREAM_RUNS_OTHER;
    if (!rest.p)
        return ret;
    ret.run = segment(&rest);
    if (!rest.p) {
        ret.class_ = STREAM_RUN;
    } else if (span_is(segment(&rest), "attempts") && rest.p && number_parse(segment(&rest), true, &ret.attempt) && !rest.p &&
               ret.attempt > 0) {
        ret.class_ = STREAM_ATTEMPT;
    }
    return ret;
}

bool number_parse(struct span text, bool canonical, uint64_t *ret)
{
    uint64_t n = 0;
    if (!text.n || text.n > 64 || (canonical && text.n > 1 && text.p[0] == '0'))
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text.p[i] - '0');
        if (n > (1ull << 53) - 1)
            return false;
    }
    *ret = n;
    return true;
}

/* Exactly 16 digits. */
static bool field_parse(const char *p, uint64_t *ret)
{
    uint64_t n = 0;
    for (int i = 0; i < 16; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(p[i] - '0');
    }
    *ret = n;
    return true;
}

enum offset_form offset_parse(struct span text, struct ds_offset *ret)
{
    *ret = (struct ds_offset){ 0, 0 };
    if (span_is(text, "-1"))
        return OFFSET_START;
    if (span_is(text, "now"))
        return OFFSET_NOW;
    struct ds_offset at;
    if (text.n != OFFSET_TEXT || text.p[16] != '_' || !field_parse(text.p, &at.generation) || !field_parse(text.p + 17, &at.seq))
        return OFFSET_BAD;
    *ret = at;
    return OFFSET_AT;
}

void offset_put(struct buf *out, struct ds_offset offset)
{
    char text[48];
    int  n = snprintf(text, sizeof text, "%016llu_%016llu", (unsigned long long)offset.generation, (unsigned long long)offset.seq);
    assert(n == OFFSET_TEXT);
    buf_put(out, text, OFFSET_TEXT);
}

int offset_cmp(struct ds_offset a, struct ds_offset b)
{
    if (a.generation != b.generation)
        return a.generation < b.generation ? -1 : 1;
    return (a.seq > b.seq) - (a.seq < b.seq);
}
