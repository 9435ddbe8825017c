/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of base/mem.h, base/utf8.h, base/err.h and base/log.h. */
#include "unit.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <unistd.h>

static void arena_gives_zeroed_aligned_memory_that_stays(void **state)
{
    struct arena arena = { 0 };
    char        *all[400];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(all); i++) {
            size_t size = i * 7 % 3000;
            all[i] = arena_alloc(&arena, size);
            assert_int_equal((uintptr_t)all[i] % 16, 0);
            for (size_t k = 0; k < size; k++)
                assert_int_equal(all[i][k], 0);
            memset(all[i], (int)i + 1, size);
        }
        for (size_t i = 0; i < ARRAY_LEN(all); i++)
            for (size_t k = 0; k < i * 7 % 3000; k++)
                assert_int_equal((unsigned char)all[i][k], (unsigned char)(i + 1));
        arena_reset(&arena);
        assert_true(arena.total > 0 && arena.total <= 256 * 1024);
    }
    arena_done(&arena);
    assert_int_equal(arena.total, 0);
    arena_done(&arena);
}

static void arena_large_block_leaves_room_for_small_ones(void **state)
{
    struct arena arena = { 0 };
    arena_alloc(&arena, 16);
    size_t before = arena.total;
    arena_alloc(&arena, 1 << 20);
    for (int i = 0; i < 64; i++)
        arena_alloc(&arena, 16);
    assert_int_equal(arena.total, before + (1 << 20));
    arena_reset(&arena);
    assert_int_equal(arena.total, before); /* the large block did not stay */
    arena_done(&arena);
}

static void arena_texts_end_with_a_nul(void **state)
{
    struct arena arena = { 0 };
    struct span  copy = arena_copy(&arena, SPAN("abc"));
    assert_true(span_is(copy, "abc"));
    assert_int_equal(copy.p[3], '\0');
    copy = arena_copy(&arena, SPAN_NONE);
    assert_int_equal(copy.n, 0);
    assert_int_equal(copy.p[0], '\0');
    struct span text = arena_printf(&arena, "%s-%d", "run", 42);
    assert_true(span_is(text, "run-42"));
    assert_int_equal(text.p[text.n], '\0');
    arena_done(&arena);
}

static void buf_grows_and_keeps_its_bytes(void **state)
{
    struct buf buf = { 0 };
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%d,", i);
    assert_int_equal(buf.len, 3890);
    assert_memory_equal(buf.p, "0,1,2,3,", 8);
    assert_memory_equal(buf.p + buf.len - 8, "998,999,", 8);
    buf_put(&buf, NULL, 0);
    buf_done(&buf);
    assert_null(buf.p);
    buf_done(NULL);
    buf_hex(&buf, "\x00\xff\x1a", 3);
    assert_true(span_is(buf_view(&buf), "00ff1a"));
    buf_done(&buf);
}

static void varints_come_back(void **state)
{
    struct buf buf = { 0 };
    for (int bit = 0; bit < 64; bit++) {
        buf_varint(&buf, UINT64_C(1) << bit);
        buf_varint(&buf, (UINT64_C(1) << bit) - 1);
        buf_varint(&buf, UINT64_MAX >> bit);
    }
    struct reader_bytes r = bytes_of(buf_view(&buf));
    for (int bit = 0; bit < 64; bit++) {
        assert_true(bytes_varint(&r) == UINT64_C(1) << bit);
        assert_true(bytes_varint(&r) == (UINT64_C(1) << bit) - 1);
        assert_true(bytes_varint(&r) == UINT64_MAX >> bit);
    }
    assert_false(r.bad);
    assert_true(r.p == r.end);
    buf_done(&buf);
}

static void reader_refuses_short_and_superfluous_bytes(void **state)
{
    static const struct {
        struct span bytes;
    } bad[] = {
        { SPAN("") }, { SPAN("\x80") }, { SPAN("\x80\x00") }, { SPAN("\xff\xff") },
        { SPAN("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02") }, { SPAN("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01") },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reader_bytes r = bytes_of(bad[i].bytes);
        assert_int_equal(bytes_varint(&r), 0);
        assert_true(r.bad);
        assert_int_equal(bytes_u8(&r), 0);
    }
    struct reader_bytes r = bytes_of(SPAN("abcdef"));
    assert_true(span_is(bytes_take(&r, 2), "ab"));
    assert_int_equal(bytes_u8(&r), 'c');
    assert_null(bytes_take(&r, 4).p);
    assert_true(r.bad);
    assert_int_equal(bytes_u8(&r), 0);
}

static void utf8_is_cut_between_characters(void **state)
{
    static const struct {
        const char *text;
        size_t      at, want;
    } cases[] = {
        { "abc", 2, 2 },          { "a\xc3\xa9z", 2, 1 },           { "a\xc3\xa9z", 3, 3 },
        { "\xe2\x82\xac", 1, 0 }, { "\xe2\x82\xac", 2, 0 },         { "\xe2\x82\xac", 3, 3 },
        { "x\xf0\x9f\x98\x80", 4, 1 }, { "x\xf0\x9f\x98\x80", 3, 1 }, { "x\xf0\x9f\x98\x80", 2, 1 },
        { "x\xf0\x9f\x98\x80", 5, 5 }, { "", 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(utf8_cut(cases[i].text, cases[i].at), cases[i].want);
}

static void errors_carry_field_and_message(void **state)
{
    struct error error = { 0 };
    assert_int_equal(error_set(&error, ERR_VALIDATION, "/input", "%s is %d", "it", 7), ERR_VALIDATION);
    assert_int_equal(error.code, ERR_VALIDATION);
    assert_string_equal(error.field, "/input");
    assert_string_equal(error.message, "it is 7");
    assert_int_equal(error_set(NULL, ERR_STORAGE, NULL, "x"), ERR_STORAGE);

    char text[400];
    memset(text, 'x', sizeof text);
    text[399] = '\0';
    memcpy(text + 253, "\xe2\x82\xac", 3); /* would lose its last byte to the NUL at 255 */
    memcpy(text + 126, "\xc3\xa9", 2);
    error_set(&error, ERR_TOOL, text, "%s", text);
    assert_int_equal(strlen(error.message), 253);
    assert_int_equal(strlen(error.field), 126);
    error_set(&error, ERR_TOOL, NULL, "y");
    assert_string_equal(error.field, "");
}

static void the_table_has_a_row_for_each_error(void **state)
{
    for (int i = 0; i < ERR_COUNT; i++) {
        const struct err_info *info = err_info((enum err)i);
        assert_non_null(info->name);
        assert_true(info->ar_status >= 200 && info->ar_status < 600);
        assert_true(info->wf_status >= 200 && info->ds_status >= 200);
        assert_true(strlen(info->ar_code) && strlen(info->wf_code) && strlen(info->title));
    }
    assert_string_equal(err_info(ERR_THREAD_BUSY)->ar_code, "thread_busy");
    assert_true(err_info((enum err)12345) == err_info(ERR_INTERNAL));
}

static size_t read_line(int fd, char *line, size_t size)
{
    ssize_t n = read(fd, line, size - 1);
    assert_true(n > 0);
    line[n] = '\0';
    assert_true(strchr(line, '\n') == line + n - 1);
    return (size_t)n;
}

static void log_lines_are_one_line(void **state)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    char       line[8192];
    struct log log = { .level = LOG_INFO, .fd = fds[1] };
    log_line(NULL, LOG_ERROR, "nothing", "x");
    log_line(&log, LOG_DEBUG, "nothing", "x");
    log_line(&log, LOG_WARN, "net.bad_request", "path=%s", "/a\nb\x1b[2J");
    read_line(fds[0], line, sizeof line);
    assert_string_equal(line + 24, " warn net.bad_request path=/a\\nb\\x1b[2J\n");

    log.json = true;
    log_line(&log, LOG_ERROR, "store.stopped", "why=\"%s\"", "disk\xff full\n");
    size_t       n = read_line(fds[0], line, sizeof line);
    struct arena arena = { 0 };
    struct jv    v = json_read(span_make(line, n), &arena);
    assert_true(jv_str_eq(jv_get(v, "level"), "error"));
    assert_true(jv_str_eq(jv_get(v, "event"), "store.stopped"));
    assert_true(jv_str_eq(jv_get(v, "message"), "why=\"disk\xef\xbf\xbd full\n\""));
    int64_t ms;
    assert_true(time_parse(jv_string(jv_get(v, "time"), &arena), &ms));
    arena_done(&arena);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_gives_zeroed_aligned_memory_that_stays),
        cmocka_unit_test(arena_large_block_leaves_room_for_small_ones),
        cmocka_unit_test(arena_texts_end_with_a_nul),
        cmocka_unit_test(buf_grows_and_keeps_its_bytes),
        cmocka_unit_test(varints_come_back),
        cmocka_unit_test(reader_refuses_short_and_superfluous_bytes),
        cmocka_unit_test(utf8_is_cut_between_characters),
        cmocka_unit_test(errors_carry_field_and_message),
        cmocka_unit_test(the_table_has_a_row_for_each_error),
        cmocka_unit_test(log_lines_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
