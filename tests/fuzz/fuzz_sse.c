/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_sse.c - any bytes, cut anywhere, are the same events as the same bytes at once.
 *
 * The first byte of the input says how large the pieces are, the second how small the limit is. */
#include "net/sse_parse.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool note_event(void *user, const struct sse_event *event)
{
    struct buf *seen = user;
    buf_varint(seen, event->type.n);
    buf_span(seen, event->type);
    buf_varint(seen, event->data.n);
    buf_span(seen, event->data);
    buf_varint(seen, event->id.n);
    buf_span(seen, event->id);
    return !span_is(event->data, "stop");
}

static enum err read_in_pieces(struct span stream, size_t piece, size_t max, struct buf *seen)
{
    struct sse_parser parser;
    enum err          err = ERR_OK;

    sse_init(&parser, max);
    for (size_t at = 0; at < stream.n && !err; at += piece) {
        size_t n = piece < stream.n - at ? piece : stream.n - at;
        char  *copy = mem_dup(stream.p + at, n);
        err = sse_feed(&parser, span_make(copy, n), note_event, seen);
        free(copy);
    }
    sse_done(&parser);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct span stream = span_make(data + 2, size - 2);
    struct buf  whole = { 0 }, pieces = { 0 };
    size_t      max = data[1] < 128 ? data[1] : 1 << 20;

    enum err one = read_in_pieces(stream, stream.n + 1, max, &whole);
    enum err two = read_in_pieces(stream, 1u + data[0] % 32, max, &pieces);
    assert(one == two);
    assert(span_eq(buf_view(&whole), buf_view(&pieces)));
    buf_done(&whole);
    buf_done(&pieces);
    return 0;
}
