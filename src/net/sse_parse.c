/* SPDX-License-Identifier: Apache-2.0 */
/* sse_parse.c - reads a server-sent event stream as it arrives.
 *
 * A line that lies whole in the bytes at hand is read where it lies; only the piece of a line at the end of the bytes is
 * copied. Limits are checked before anything is copied. */
#include "net/sse_parse.h"

static const char MARK[3] = { '\xef', '\xbb', '\xbf' }; /* U+FEFF, allowed once at the very beginning */

void sse_init(struct sse_parser *parser, size_t max)
{
    *parser = (struct sse_parser){ .max = max };
}

void sse_done(struct sse_parser *parser)
{
    buf_done(&parser->line);
    buf_done(&parser->data);
    buf_done(&parser->type);
    buf_done(&parser->id);
}

static void replace(struct buf *buf, struct span value)
{
    buf->len = 0;
    buf_span(buf, value);
}

static void read_field(struct sse_parser *parser, struct span name, struct span value)
{
    if (span_is(name, "data")) {
        buf_span(&parser->data, value);
        buf_byte(&parser->data, '\n');
    } else if (span_is(name, "event")) {
        replace(&parser->type, value);
    } else if (span_is(name, "id") && !(value.n && memchr(value.p, 0, value.n))) {
        replace(&parser->id, value);
    }
    /* "retry" is advice for a reader that connects again; a model call never does. All other names are ignored. */
}

/* An event without a data line is none. Returns false when the reader has had enough. */
static bool dispatch(struct sse_parser *parser, sse_on_event *on_event, void *user)
{
    struct sse_event event = {
        .type = parser->type.len ? buf_view(&parser->type) : SPAN("message"),
        .data = span_make(parser->data.p, parser->data.len ? parser->data.len - 1 : 0),
        .id = buf_view(&parser->id),
    };
    bool more = parser->data.len == 0 || on_event(user, &event);
    parser->data.len = 0;
    parser->type.len = 0;
    return more;
}

static bool read_line(struct sse_parser *parser, struct span line, sse_on_event *on_event, void *user)
{
    if (line.n == 0)
        return dispatch(parser, on_event, user);
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == line.p)
        return true; /* a comment, often a keep-alive */
    struct span name = line, value = SPAN_NONE;
    if (colon) {
        name.n = (size_t)(colon - line.p);
        value = span_make(colon + 1, line.n - name.n - 1);
        if (value.n && value.p[0] == ' ')
            value = span_make(value.p + 1, value.n - 1);
    }
    read_field(parser, name, value);
    return true;
}

static bool fits(const struct sse_parser *parser, size_t more)
{
    size_t held = parser->data.len + parser->type.len + parser->line.len;
    return more <= parser->max && held <= parser->max - more;
}

/* The mark may be cut, too. Bytes that only looked like its beginning belong to the first line. */
static void skip_mark(struct sse_parser *parser, struct span *bytes)
{
    while (parser->mark < sizeof MARK && bytes->n) {
        if (bytes->p[0] != MARK[parser->mark]) {
            buf_put(&parser->line, MARK, parser->mark);
            parser->mark = sizeof MARK;
            return;
        }
        parser->mark++;
        *bytes = span_make(bytes->p + 1, bytes->n - 1);
    }
}

static size_t line_end(struct span bytes)
{
    size_t n = 0;
    while (n < bytes.n && bytes.p[n] != '\n' && bytes.p[n] != '\r')
        n++;
    return n;
}

static bool take_line(struct sse_parser *parser, struct span part, sse_on_event *on_event, void *user)
{
    if (parser->line.len == 0)
        return read_line(parser, part, on_event, user);
    buf_span(&parser->line, part);
    bool more = read_line(parser, buf_view(&parser->line), on_event, user);
    parser->line.len = 0;
    return more;
}

enum err sse_feed(struct sse_parser *parser, struct span bytes, sse_on_event *on_event, void *user)
{
    skip_mark(parser, &bytes);
    while (bytes.n && !parser->stopped) {
        if (parser->after_cr && bytes.p[0] == '\n')
            bytes = span_make(bytes.p + 1, bytes.n - 1); /* the second half of a CRLF */
        parser->after_cr = false;
        if (!bytes.n)
            break;
        size_t n = line_end(bytes);
        if (!fits(parser, n)) {
            parser->stopped = true;
            return ERR_TOO_LARGE;
        }
        struct span part = span_make(bytes.p, n);
        if (n == bytes.n) {
            buf_span(&parser->line, part);
            break;
        }
        parser->after_cr = bytes.p[n] == '\r';
        bytes = span_make(bytes.p + n + 1, bytes.n - n - 1);
        parser->stopped = !take_line(parser, part, on_event, user);
    }
    return ERR_OK;
}
