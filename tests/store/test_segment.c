/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a segment: the example of docs/reference/storage-format.md, there and back for all that a frame can be,
 * and bytes that are damaged. */
#include "base/mem.h"
#include "store/segment.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

static const struct frame example[] = {
    { 1, 7, 4, 1930000000000, 5, 3, { "frame1", 6 } },
    { 1, 11, 1, 1930000000350, 9, 3, { "x", 1 } },
    { 1, 12, 2, 1930000000350, 9, 4, { "", 0 } },
};

static void assert_frame(const struct frame *got, const struct frame *want)
{
    assert_int_equal(got->stream, want->stream);
    assert_int_equal(got->first_seq, want->first_seq);
    assert_int_equal(got->n, want->n);
    assert_int_equal(got->base_ms, want->base_ms);
    assert_int_equal(got->wf_before, want->wf_before);
    assert_int_equal(got->epoch, want->epoch);
    assert_true(span_eq(got->body, want->body));
}

static void pack(const struct frame *frames, size_t count, struct buf *body, struct frame *ret_row, uint64_t *ret_events)
{
    struct segment segment;
    segment_begin(&segment, body);
    for (size_t i = 0; i < count; i++)
        segment_add(&segment, &frames[i]);
    *ret_row = segment.first;
    ret_row->body = buf_view(body);
    *ret_events = segment.events;
}

static void assert_holds(const struct frame *row, uint64_t events, const struct frame *frames, size_t count)
{
    struct segment_reader reader = segment_read(row, events);
    for (size_t i = 0; i < count; i++) {
        assert_true(segment_next(&reader));
        assert_frame(&reader.at, &frames[i]);
    }
    assert_false(segment_next(&reader));
    assert_false(segment_damaged(&reader));
}

/* The bytes between ```segment and ``` on the page. */
static void read_page(struct buf *out)
{
    const char *root = getenv("PERDURE_SOURCE_ROOT");
    char        path[4096], line[1024];
    bool        inside = false;
    snprintf(path, sizeof path, "%s/docs/reference/storage-format.md", root ? root : ".");
    FILE *page = fopen(path, "r");
    assert_non_null(page);
    while (fgets(line, sizeof line, page)) {
        if (strncmp(line, "```", 3) == 0) {
            inside = strncmp(line, "```segment", 10) == 0;
            continue;
        }
        unsigned byte;
        for (int at = 0, used; inside && sscanf(line + at, "%2x%n", &byte, &used) == 1; at += used)
            buf_byte(out, (char)byte);
    }
    fclose(page);
}

static void the_example_of_the_manual_is_what_the_code_does(void **state)
{
    CLEANUP(buf_done) struct buf page = { 0 };
    CLEANUP(buf_done) struct buf body = { 0 };
    struct frame row;
    uint64_t     events;
    read_page(&page);
    pack(example, ARRAY_LEN(example), &body, &row, &events);
    assert_int_equal(events, 7);
    assert_int_equal(page.len, body.len);
    assert_memory_equal(page.p, body.p, body.len);
    row.body = buf_view(&page);
    assert_holds(&row, 7, example, ARRAY_LEN(example));
}

static void extremes_come_back(void **state)
{
    static const struct frame frames[] = {
        { 5, 1, 1, INT64_MAX, 0, UINT64_MAX, { "\0", 1 } },
        { 5, 2, 3, INT64_MIN, INT64_MAX, 0, { "b", 1 } },
        { 5, 5, 1, 0, UINT64_MAX, 1, { "", 0 } },
        { 5, 6, UINT32_MAX, -1, UINT64_MAX, INT64_MAX, { "c", 1 } },
    };
    CLEANUP(buf_done) struct buf body = { 0 };
    struct frame row;
    uint64_t     events;
    pack(frames, ARRAY_LEN(frames), &body, &row, &events);
    assert_holds(&row, events, frames, ARRAY_LEN(frames));
}

static void a_body_is_not_begun_another_frame_when_it_is_full(void **state)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    char          *large = mem_alloc(2 * SEGMENT_BYTES);
    struct segment segment;
    struct frame   frame = { .stream = 1, .first_seq = 1, .n = 1, .body = { large, 2 * SEGMENT_BYTES } };
    segment_begin(&segment, &body);
    assert_true(segment_fits(&segment, &frame)); /* alone */
    segment_add(&segment, &frame);
    frame = (struct frame){ .stream = 1, .first_seq = 2, .n = 1, .body = { large, 1 } };
    assert_false(segment_fits(&segment, &frame));
    segment_begin(&segment, &body);
    assert_true(segment_fits(&segment, &frame));
    segment_add(&segment, &frame);
    frame = (struct frame){ .stream = 1, .first_seq = 3, .n = 1, .body = { large, SEGMENT_BYTES - 100 } };
    assert_true(segment_fits(&segment, &frame));
    frame.body.n = SEGMENT_BYTES;
    assert_false(segment_fits(&segment, &frame));
    free(large);
}

/* Reads to the end, whatever that is; each frame must lie inside the body. */
static bool reads_whole(const struct frame *row, uint64_t events)
{
    struct segment_reader reader = segment_read(row, events);
    while (segment_next(&reader))
        if (reader.at.body.n > 0) {
            assert_true(reader.at.body.p >= row->body.p);
            assert_true(reader.at.body.p + reader.at.body.n <= row->body.p + row->body.n);
        }
    return !segment_damaged(&reader);
}

static void damage_is_noticed_or_harmless(void **state)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    struct frame row;
    uint64_t     events;
    pack(example, ARRAY_LEN(example), &body, &row, &events);
    for (size_t cut = 0; cut < body.len; cut++) { /* any cut is noticed, also one between frames */
        CLEANUP(buf_done) struct buf copy = { 0 };
        buf_put(&copy, body.p, cut);
        row.body = buf_view(&copy);
        assert_false(reads_whole(&row, events));
    }
    for (size_t at = 0; at < body.len; at++)
        for (unsigned value = 0; value < 256; value++) {
            CLEANUP(buf_done) struct buf copy = { 0 };
            buf_put(&copy, body.p, body.len);
            copy.p[at] = (char)value;
            row.body = buf_view(&copy);
            reads_whole(&row, events); /* the sanitizers look on */
        }
    row.body = buf_view(&body);
    assert_false(reads_whole(&row, events + 1));
    assert_false(reads_whole(&row, events - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_manual_is_what_the_code_does),
        cmocka_unit_test(extremes_come_back),
        cmocka_unit_test(a_body_is_not_begun_another_frame_when_it_is_full),
        cmocka_unit_test(damage_is_noticed_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
