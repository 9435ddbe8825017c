/* SPDX-License-Identifier: Apache-2.0 */
/* test_sse_parse.c - server-sent events are the same however the network cuts them.
 *
 * Each case is a stream and the events it must give, written as "type|data|id;" with \n for LF. Every case is read whole,
 * byte by byte, and cut at every place into two. */
#include "unit.h"
#include "net/sse_parse.h"
#include <stdlib.h>

enum { ROOM = 4096 };

static void put_readable(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n')
            BUF_LIT(out, "\\n");
        else
            buf_byte(out, text.p[i]);
    }
}

static bool note_event(void *user, const struct sse_event *event)
{
    struct buf *seen = user;
    buf_span(seen, event->type);
    buf_byte(seen, '|');
    put_readable(seen, event->data);
    buf_byte(seen, '|');
    buf_span(seen, event->id);
    buf_byte(seen, ';');
    return !span_is(event->data, "[DONE]");
}

/* Fed in pieces of `first` bytes, then of `rest` bytes. The pieces are copies, so that a span that is kept too long is seen. */
static void read_in_pieces(struct span stream, size_t first, size_t rest, struct buf *seen)
{
    struct sse_parser parser;
    sse_init(&parser, ROOM);
    for (size_t at = 0, n = first; at < stream.n; at += n, n = rest) {
        if (n > stream.n - at)
            n = stream.n - at;
        char *piece = mem_dup(stream.p + at, n);
        assert_int_equal(sse_feed(&parser, span_make(piece, n), note_event, seen), ERR_OK);
        free(piece);
    }
    sse_done(&parser);
}

static void check(struct span stream, const char *want)
{
    for (size_t cut = 1; cut <= stream.n; cut++) {
        struct buf seen = { 0 };
        read_in_pieces(stream, cut, stream.n, &seen);
        buf_byte(&seen, 0);
        assert_string_equal(seen.p, want);
        seen.len = 0;
        read_in_pieces(stream, cut, cut, &seen);
        buf_byte(&seen, 0);
        assert_string_equal(seen.p, want);
        buf_done(&seen);
    }
}

#define CASE(stream, want) check(SPAN(stream), want)

static void lines_end_with_lf_cr_or_crlf(void **state)
{
    CASE("data: a\n\ndata: b\n\n", "message|a|;message|b|;");
    CASE("data: a\r\n\r\ndata: b\r\n\r\n", "message|a|;message|b|;");
    CASE("data: a\r\rdata: b\r\r", "message|a|;message|b|;");
    CASE("data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", "message|a|;message|b|;message|c|;");
}

static void data_lines_are_joined(void **state)
{
    CASE("data: a\ndata: b\ndata\ndata:c\n\n", "message|a\\nb\\n\\nc|;");
    CASE("data:\n\n", "message||;");
    CASE("data\n\n", "message||;");
    CASE("data:  two blanks\n\n", "message| two blanks|;");
    CASE("data: a:b: c\n\n", "message|a:b: c|;");
}

static void comments_and_unknown_fields_are_skipped(void **state)
{
    CASE(": keep-alive\n\n:\n\n: OPENROUTER PROCESSING\ndata: a\n:x\n\n", "message|a|;");
    CASE("retry: 10\nfoo: bar\nDATA: no\ndata : no\ndata: a\n\n", "message|a|;");
}

static void types_and_ids(void **state)
{
    CASE("event: ping\ndata: a\n\ndata: b\n\n", "ping|a|;message|b|;");
    CASE("event: lost\n\ndata: b\n\n", "message|b|;");
    CASE("id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "message|a|7;message|b|7;message|c|;");
    CASE("id: a\0b\ndata: a\n\n", "message|a|;");
    CASE("event: one\nevent: two\ndata: a\n\n", "two|a|;");
}

static void a_mark_is_skipped_once(void **state)
{
    CASE("\xef\xbb\xbf" "data: a\n\n", "message|a|;");
    CASE("\xef\xbb\xbf\xef\xbb\xbf" "data: a\n\ndata: b\n\n", "message|b|;");
    CASE("\xef\xbb" "data: a\n\ndata: b\n\n", "message|b|;");
    CASE("data: \xef\xbb\xbf\n\n", "message|\xef\xbb\xbf|;");
}

static void an_unfinished_event_is_none(void **state)
{
    CASE("data: a\n\ndata: b\n", "message|a|;");
    CASE("data: a\n\ndata: b", "message|a|;");
    CASE("data: a\n", "");
}

static void nothing_is_read_behind_a_stop(void **state)
{
    CASE("data: a\n\ndata: [DONE]\n\ndata: b\n\n", "message|a|;message|[DONE]|;");
}

static void characters_may_be_cut(void **state)
{
    CASE("data: gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8a\n\n", "message|gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8a|;");
}

/* How many bytes of `stream`, fed in pieces of n, are accepted by a reader with room for `max`. */
static enum err feed_limited(size_t max, struct span stream, size_t n)
{
    struct buf        seen = { 0 };
    struct sse_parser parser;
    enum err          err = ERR_OK;
    sse_init(&parser, max);
    for (size_t at = 0; at < stream.n && !err; at += n)
        err = sse_feed(&parser, span_make(stream.p + at, n < stream.n - at ? n : stream.n - at), note_event, &seen);
    if (err) /* dead from then on */
        assert_int_equal(sse_feed(&parser, SPAN("\n\ndata: x\n\n"), note_event, &seen), ERR_OK);
    assert_true(!err || seen.len == 0);
    sse_done(&parser);
    buf_done(&seen);
    return err;
}

static void an_event_beyond_the_limit_is_refused(void **state)
{
    static const struct {
        struct span stream;
        size_t      max;
        enum err    want;
    } cases[] = {
        { SPAN("data: 0123456789\n\n"), 16, ERR_OK },
        { SPAN("data: 0123456789\n\n"), 15, ERR_TOO_LARGE },
        { SPAN("data: 01234\ndata: 56789\n\n"), 17, ERR_OK },
        { SPAN("data: 01234\ndata: 56789\n\n"), 16, ERR_TOO_LARGE },
        { SPAN(": a comment without end 0123456789"), 16, ERR_TOO_LARGE },
        { SPAN("event: 0123456789\ndata: 1\n\n"), 17, ERR_OK },
        { SPAN("event: 0123456789\ndata: 12345678\n\n"), 17, ERR_TOO_LARGE },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t n = 1; n <= cases[i].stream.n; n++)
            assert_int_equal(feed_limited(cases[i].max, cases[i].stream, n), cases[i].want);
}

static void many_small_events_are_not_one_large_one(void **state)
{
    struct buf        stream = { 0 }, seen = { 0 };
    struct sse_parser parser;
    for (int i = 0; i < 1000; i++)
        BUF_LIT(&stream, "event: e\nid: 1\ndata: x\n\n");
    sse_init(&parser, 24);
    assert_int_equal(sse_feed(&parser, buf_view(&stream), note_event, &seen), ERR_OK);
    assert_int_equal(seen.len, 1000 * strlen("e|x|1;"));
    sse_done(&parser);
    buf_done(&stream);
    buf_done(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf_cr_or_crlf),
        cmocka_unit_test(data_lines_are_joined),
        cmocka_unit_test(comments_and_unknown_fields_are_skipped),
        cmocka_unit_test(types_and_ids),
        cmocka_unit_test(a_mark_is_skipped_once),
        cmocka_unit_test(an_unfinished_event_is_none),
        cmocka_unit_test(nothing_is_read_behind_a_stop),
        cmocka_unit_test(characters_may_be_cut),
        cmocka_unit_test(an_event_beyond_the_limit_is_refused),
        cmocka_unit_test(many_small_events_are_not_one_large_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
