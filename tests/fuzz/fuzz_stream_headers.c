/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what the Durable Streams surface reads from targets and headers; what is accepted must come out again as it was. */
#include "api/streams/parse.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void offsets(struct span text)
{
    struct ds_offset at;
    if (offset_parse(text, &at) != OFFSET_AT)
        return;
    struct buf out = { 0 };
    offset_put(&out, at);
    assert(span_eq(buf_view(&out), text)); /* one position has one spelling */
    buf_done(&out);
}

static void names(struct span text, struct arena *arena)
{
    struct span name;
    if (name_parse(text, arena, &name)) {
        assert(name.n > 0 && name.n <= STREAM_NAME_MAX && name.p[0] != '/' && name.p[name.n - 1] != '/');
        for (size_t i = 0; i < name.n; i++)
            assert((unsigned char)name.p[i] >= 0x20 && name.p[i] != 0x7f);
        struct stream_name which = name_class(name);
        assert(which.class_ != STREAM_ATTEMPT || which.attempt > 0);
    }
    (void)name_of_path(text, arena, &name);
    (void)name_class(text);
}

static void headers(struct span text, struct arena *arena)
{
    struct span media = media_parse(text, arena);
    if (media.p) {
        struct span again = media_parse(media, arena);
        assert(span_eq(again, media));
    }
    uint64_t n;
    int64_t  ms;
    if (number_parse(text, true, &n))
        assert(n < 1ull << 53 && number_parse(text, false, &n));
    (void)instant_parse(text, &ms);
    (void)header_true(text);
    (void)etag_matches(text, SPAN("\"1:0:2\""));
    uint64_t cursor = cursor_answer(text, 1930000000000, text.n ? (uint64_t)(unsigned char)text.p[0] << 4 : 0);
    assert(cursor >= cursor_at(1930000000000));
    if (number_parse(text, false, &n))
        assert(cursor > n || n < cursor_at(1930000000000));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = { 0 };
    struct span  text = { (const char *)data, size };
    offsets(text);
    names(text, &arena);
    headers(text, &arena);
    arena_done(&arena);
    return 0;
}
