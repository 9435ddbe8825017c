/* SPDX-License-Identifier: Apache-2.0 */
/* The example of docs/reference/storage-format.md, read from the page: what is written there is what the code reads and
 * writes. When this fails after a change of the layout, data folders of the last release cannot be read any more. */
#include "unit.h"
#include "ledger/record.h"
#include <stdio.h>
#include <stdlib.h>

#define BASE_MS INT64_C(1930000000000)

static const struct record expected[] = {
    { .type = REC_MODEL_STARTED, .op = 2, .parent = 1, .wall_ms = BASE_MS,
      .pub = { "{\"node\":\"write\",\"model\":\"writer\"}", 33 } },
    { .type = REC_MODEL_DELTA, .flags = 2 << REC_WF_SHIFT, .op = 2, .parent = 1, .wall_ms = BASE_MS + 20, .index = 0,
      .node = { "write", 5 }, .text = { "Dear ", 5 } },
    { .type = REC_MODEL_DELTA, .flags = 1 << REC_WF_SHIFT, .op = 2, .parent = 1, .wall_ms = BASE_MS + 200, .index = 1,
      .node = { "write", 5 }, .text = { "all", 3 } },
    { .type = REC_RUN_CANCELLED, .flags = REC_TERMINAL | 1 << REC_WF_SHIFT, .wall_ms = BASE_MS + 210,
      .pub = { "{\"reason\":null}", 15 }, .priv = { "{\"by\":\"dev\"}", 12 } },
};

static unsigned nibble(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
}

/* The bytes between ```hex and ```. */
static void read_example(struct buf *out)
{
    const char *root = getenv("PERDURE_SOURCE_ROOT");
    char        path[4096], line[1024];
    bool        inside = false;

    snprintf(path, sizeof path, "%s/docs/reference/storage-format.md", root ? root : ".");
    FILE *page = fopen(path, "r");
    assert_non_null(page);
    while (fgets(line, sizeof line, page)) {
        if (strncmp(line, "```", 3) == 0)
            inside = strncmp(line, "```hex", 6) == 0;
        else if (inside)
            for (const char *p = line; p[0] > ' ' && p[1] > ' '; p += p[2] == ' ' ? 3 : 2)
                buf_byte(out, (char)(nibble(p[0]) << 4 | nibble(p[1])));
    }
    fclose(page);
}

static void assert_span_equal(struct span got, struct span want)
{
    assert_int_equal(got.n, want.n);
    if (want.n)
        assert_memory_equal(got.p, want.p, want.n);
}

static void the_page_decodes_to_what_it_says(void **state)
{
    CLEANUP(buf_done) struct buf bytes = { 0 };
    struct record                record;

    read_example(&bytes);
    struct frame_reader reader = frame_read(7, ARRAY_LEN(expected), BASE_MS, buf_view(&bytes));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(frame_next(&reader, &record));
        assert_int_equal(record.seq, 7 + i);
        assert_int_equal(record.type, expected[i].type);
        assert_int_equal(record_wf(record.flags), record_wf(expected[i].flags));
        assert_int_equal(record.flags & REC_TERMINAL, expected[i].flags & REC_TERMINAL);
        assert_int_equal(record.wall_ms, expected[i].wall_ms);
        assert_int_equal(record.op, expected[i].op);
        assert_int_equal(record.parent, expected[i].parent);
        assert_int_equal(record.index, expected[i].index);
        assert_span_equal(record.pub, expected[i].pub);
        assert_span_equal(record.priv, expected[i].priv);
        assert_span_equal(record.node, expected[i].node);
        assert_span_equal(record.text, expected[i].text);
    }
    assert_false(frame_next(&reader, &record));
    assert_false(reader.in.bad);
    assert_ptr_equal(reader.in.p, reader.in.end);
}

static void writing_the_same_records_gives_the_same_bytes(void **state)
{
    CLEANUP(buf_done) struct buf bytes = { 0 };
    struct frame_writer          writer = { .first_seq = 7 };

    read_example(&bytes);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        frame_put(&writer, &expected[i]);
    assert_span_equal(buf_view(&writer.body), buf_view(&bytes));
    assert_true(writer.terminal);
    buf_done(&writer.body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_decodes_to_what_it_says),
        cmocka_unit_test(writing_the_same_records_gives_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
