/* SPDX-License-Identifier: Apache-2.0 */
/* answers.c - what answers of the Durable Streams surface share: headers, errors, finding the stream. */
#include "api/streams/streams.h"
#include <stdio.h>

/* Headers that a page in a browser may see: all of the contract. */
#define EXPOSED                                                                                                                \
    "Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-TTL, Stream-Expires-At, Stream-SSE-Data-Encoding, " \
    "Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq, ETag, Location, Retry-After, X-Request-Id"

bool streams_own(const struct call *call)
{
    size_t n = strlen(STREAMS_ROOT);
    return call->path.n >= n && memcmp(call->path.p, STREAMS_ROOT, n) == 0;
}

void streams_headers(const struct call *call, struct buf *out)
{
    const char *origin = call->api->config.cors_origin;
    if (call->content_type)
        buf_printf(out, "Content-Type: %s\r\n", call->content_type);
    else if (call->out.len)
        buf_printf(out, "Content-Type: %s\r\n", call->problem_body ? "application/problem+json" : "application/json");
    buf_printf(out, "Cache-Control: %s\r\nX-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: cross-origin\r\n"
                    "Access-Control-Allow-Origin: %s\r\n%sAccess-Control-Expose-Headers: " EXPOSED "\r\n",
               call->cache ? call->cache : "no-store", origin ? origin : "*", origin && strcmp(origin, "*") != 0 ? "Vary: Origin\r\n" : "");
}

void put_header(struct call *call, const char *name, struct span value)
{
    assert(!memchr(value.p ? value.p : "", '\n', value.n));
    buf_printf(&call->headers, "%s: ", name);
    buf_span(&call->headers, value);
    BUF_LIT(&call->headers, "\r\n");
}

void put_number(struct call *call, const char *name, uint64_t value)
{
    buf_printf(&call->headers, "%s: %llu\r\n", name, (unsigned long long)value);
}

void put_offset(struct call *call, const char *name, struct ds_offset offset)
{
    buf_printf(&call->headers, "%s: ", name);
    offset_put(&call->headers, offset);
    BUF_LIT(&call->headers, "\r\n");
}

void put_tail(struct call *call, const struct free_stream *fs)
{
    put_offset(call, "Stream-Next-Offset", (struct ds_offset){ 0, free_tail(fs) });
}

void put_closed(struct call *call, const struct free_stream *fs)
{
    if (fs->row.closed)
        BUF_LIT(&call->headers, "Stream-Closed: true\r\n");
}

const char *call_text(struct call *call, struct span text)
{
    return arena_copy(&call->arena, text).p;
}

void ds_send(struct call *call, const struct free_stream *fs, int status)
{
    call->late = fs && free_pending(fs);
    call_send(call, status);
}

void ds_fail(struct call *call, const struct free_stream *fs, enum err err, const char *field, const char *format, ...)
{
    struct error error = { .code = err };
    char         text[sizeof error.message];
    va_list      args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(&error, err, field, "%s", text);
    call->late = call->late || (fs && free_pending(fs));
    call_error(call, &error);
}

struct free_stream *ds_find(struct call *call, struct span name)
{
    struct free_stream *fs = NULL;
    switch (free_find(call->api->ds->all, call->workspace, name, &fs)) {
    case FREE_LIVE: return fs;
    case FREE_DELETED: ds_fail(call, fs, ERR_LEDGER_EXPIRED, "", "the stream was deleted; what was forked from it goes on"); break;
    case FREE_ABSENT: ds_fail(call, NULL, ERR_NOT_FOUND, "", "there is no such stream"); break;
    case FREE_BROKEN: ds_fail(call, NULL, ERR_STORAGE, "", "the store cannot be read"); break;
    }
    return NULL;
}

bool ds_header(struct call *call, const char *name, struct span *ret)
{
    *ret = SPAN_NONE;
    return call->req && http_header(call->req, name, ret);
}
