/* SPDX-License-Identifier: Apache-2.0 */
/* sse_parse.h - reads a server-sent event stream as it arrives (WHATWG HTML, "Server-sent events").
 *
 * Bytes may be cut anywhere, also inside CRLF, a character or the byte order mark. Lines end with CRLF, LF or CR. Bytes are
 * not decoded: whoever reads the data checks it. What is unfinished at the end of the stream is no event. */
#pragma once
#include "base/err.h"
#include "base/mem.h"

struct sse_event {
    struct span type; /* the event field; "message" when there was none */
    struct span data; /* data lines joined by LF */
    struct span id;   /* the last id seen in the stream */
};

struct sse_parser {
    size_t     max;   /* bytes of one event: its data, its type and the line that is being read */
    struct buf line;  /* the beginning of a line whose end has not arrived */
    struct buf data, type, id;
    unsigned   mark;  /* bytes of the byte order mark seen; 3 and more: the text has begun */
    bool       after_cr, stopped;
};

/* Called for each event; the spans are valid during the call. false: the rest of the stream is of no interest. */
typedef bool sse_on_event(void *user, const struct sse_event *event);

void sse_init(struct sse_parser *parser, size_t max);
void sse_done(struct sse_parser *parser);
/* ERR_TOO_LARGE when an event is larger than `max`; the stream cannot be read on then. After a stop or a failure further
 * bytes are ignored. `parser` must live until the call returns. */
enum err sse_feed(struct sse_parser *parser, struct span bytes, sse_on_event *on_event, void *user);
