/* SPDX-License-Identifier: Apache-2.0 */
/* Free streams over a real store: what a commit makes, what a restart keeps, lifetimes by a clock of our own, forks that hold
 * their sources, and that a deleted stream leaves nothing behind. */
#include "ledger/free.h"
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

struct clock {
    struct env env;
    int64_t    wall_ms;
    uint64_t   mono_us;
};

static int64_t  clock_wall(struct env *env) { return CONTAINER(env, struct clock, env)->wall_ms; }
static uint64_t clock_mono(struct env *env) { return CONTAINER(env, struct clock, env)->mono_us; }
static void     clock_random(struct env *env, void *out, size_t n) { (void)env; memset(out, 7, n); }

struct bench {
    struct fixture       fixture;
    struct clock         clock;
    struct ledger       *ledger;
    struct free_streams *all;
    struct batch        *batch;
    uint64_t             number;
    struct uuid          workspace;
};

static uint64_t next_number(void *user)
{
    struct bench *b = user;
    return ++b->number;
}

static struct batch *turn_batch(void *user)
{
    struct bench *b = user;
    return b->batch;
}

static void up(struct bench *b)
{
    struct free_host host = { .user = b, .number = next_number, .batch = turn_batch };
    fixture_must_open(&b->fixture);
    struct ledger_config config = { .store = b->fixture.store, .env = &b->clock.env };
    b->ledger = ledger_new(&config);
    b->all = free_streams_new(b->ledger, b->fixture.store, &b->clock.env, &host);
    b->batch = batch_new(b->fixture.store);
}

/* The end of a turn: everything so far is on disk. */
static void turn(struct bench *b)
{
    ledger_seal(b->ledger, b->batch);
    assert_int_equal(fixture_commit(&b->fixture, b->batch), ERR_OK);
    b->batch = batch_new(b->fixture.store);
}

static void down(struct bench *b)
{
    turn(b);
    batch_free(b->batch);
    free_streams_free(b->all);
    ledger_free(b->ledger);
    fixture_close(&b->fixture);
}

static void restart(struct bench *b)
{
    down(b);
    up(b);
}

static int begin(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    *state = b;
    b->clock = (struct clock){ .env = { clock_wall, clock_mono, clock_random }, .wall_ms = 1930000000000, .mono_us = 1000 * 1000 * 1000 };
    b->workspace.b[0] = 1;
    fixture_init(&b->fixture, NULL);
    up(b);
    return 0;
}

static int end(void **state)
{
    struct bench *b = *state;
    down(b);
    fixture_done(&b->fixture);
    free(b);
    return 0;
}

static void pass(struct bench *b, int64_t ms)
{
    b->clock.wall_ms += ms;
    b->clock.mono_us += (uint64_t)ms * 1000;
}

static struct free_stream *create(struct bench *b, const char *name, int64_t ttl_s, struct free_stream *source)
{
    struct free_spec spec = { .workspace = b->workspace, .name = span_of(name), .media = SPAN("text/plain"), .ttl_s = ttl_s, .source = source,
                              .fork_seq = source ? free_tail(source) : 0, .fork_name = source ? source->row.name : SPAN_NONE };
    return free_create(b->all, &spec);
}

static enum free_found found(struct bench *b, const char *name, struct free_stream **ret)
{
    *ret = NULL;
    return free_find(b->all, b->workspace, span_of(name), ret);
}

static bool collect(void *user, const struct record *record)
{
    buf_span(user, record->pub);
    return true;
}

static void assert_reads(struct bench *b, const struct free_stream *fs, const char *want)
{
    struct arena       arena = { 0 };
    struct buf         got = { 0 };
    struct stream_view view = stream_view(fs->stream);
    struct reader     *reader = store_reader(b->fixture.store);
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    assert_int_equal(stream_records(reader, &view, 0, free_tail(fs), collect, &got), ERR_OK);
    reader_end(reader);
    assert_true(span_is(buf_view(&got), want));
    buf_done(&got);
    arena_done(&arena);
}

static int64_t rows(struct bench *b, enum table_id table)
{
    struct arena   arena = { 0 };
    struct query   query = { .table = table, .limit = -1 };
    int64_t        count = -1;
    struct reader *reader = store_reader(b->fixture.store);
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    assert_int_equal(reader_count(reader, &query, &count), ERR_OK);
    reader_end(reader);
    arena_done(&arena);
    return count;
}

static void a_restart_keeps_what_a_commit_made(void **state)
{
    struct bench       *b = *state;
    struct free_stream *fs = create(b, "a", -1, NULL);
    free_append(fs, SPAN("one"), false, false);
    free_producer_put(fs, SPAN("p"), 3, 0);
    free_set_order(fs, SPAN("k"));
    assert_true(free_pending(fs));
    turn(b);
    assert_false(free_pending(fs));
    free_append(fs, SPAN("two"), false, true);
    free_close(fs, false, SPAN("p"), 3, 1);
    restart(b);
    struct producer_state p;
    assert_int_equal(found(b, "a", &fs), FREE_LIVE);
    assert_int_equal(free_tail(fs), 2);
    assert_true(fs->row.closed && span_is(fs->row.closer, "p") && fs->row.closer_seq == 1 && span_is(fs->row.last_order, "k"));
    assert_true(stream_finished(fs->stream));
    assert_int_equal(free_producer(fs, SPAN("p"), &p), ERR_OK);
    assert_true(p.known && p.epoch == 3 && p.last_seq == 0);
    assert_int_equal(free_producer(fs, SPAN("q"), &p), ERR_OK);
    assert_false(p.known);
    assert_reads(b, fs, "onetwo");
}

static void the_rules_of_producers(void **state)
{
    static const struct { struct producer_state s; uint64_t epoch, seq; enum producer_verdict want; } cases[] = {
        { { false, 0, 0 }, 0, 0, PRODUCER_NEXT }, { { false, 0, 0 }, 9, 0, PRODUCER_NEXT }, { { false, 0, 0 }, 0, 1, PRODUCER_GAP },
        { { true, 2, 5 }, 2, 6, PRODUCER_NEXT }, { { true, 2, 5 }, 2, 5, PRODUCER_DUPLICATE }, { { true, 2, 5 }, 2, 0, PRODUCER_DUPLICATE },
        { { true, 2, 5 }, 2, 7, PRODUCER_GAP }, { { true, 2, 5 }, 1, 6, PRODUCER_FENCED }, { { true, 2, 5 }, 1, 0, PRODUCER_FENCED },
        { { true, 2, 5 }, 3, 0, PRODUCER_NEXT }, { { true, 2, 5 }, 3, 6, PRODUCER_BAD_START },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (producer_judge(&cases[i].s, cases[i].epoch, cases[i].seq) != cases[i].want)
            fail_msg("case %zu", i);
    (void)state;
}

static void a_window_ends_to_the_millisecond_and_access_moves_it(void **state)
{
    struct bench       *b = *state;
    struct free_stream *fs = create(b, "w", 10, NULL);
    turn(b);
    pass(b, 9999);
    assert_int_equal(found(b, "w", &fs), FREE_LIVE);
    free_touch(fs);
    pass(b, 9999);
    assert_int_equal(found(b, "w", &fs), FREE_LIVE);
    free_live_begin(fs);
    pass(b, 60000);
    assert_int_equal(found(b, "w", &fs), FREE_LIVE);
    free_live_end(fs);
    pass(b, 9999);
    assert_int_equal(found(b, "w", &fs), FREE_LIVE);
    pass(b, 1);
    assert_int_equal(found(b, "w", &fs), FREE_ABSENT);
    fs = create(b, "w", -1, NULL); /* the name is free at once, in the same turn */
    free_append(fs, SPAN("new"), false, false);
    turn(b);
    assert_int_equal(found(b, "w", &fs), FREE_LIVE);
    assert_reads(b, fs, "new");
    restart(b);
    assert_int_equal(found(b, "w", &fs), FREE_LIVE);
    assert_reads(b, fs, "new");
}

static void a_restart_makes_a_life_longer_never_shorter(void **state)
{
    struct bench       *b = *state;
    struct free_stream *fs = create(b, "r", 10, NULL);
    turn(b);
    pass(b, 9000);
    assert_int_equal(found(b, "r", &fs), FREE_LIVE);
    free_touch(fs);
    restart(b);
    pass(b, 9000);
    assert_int_equal(found(b, "r", &fs), FREE_LIVE);
    pass(b, 1000);
    assert_int_equal(found(b, "r", &fs), FREE_ABSENT);
}

static void the_sweeper_takes_what_nobody_asks_for(void **state)
{
    struct bench *b = *state;
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        create(b, name, i % 2 ? 5 : 500, NULL);
    }
    restart(b); /* none of them in RAM */
    assert_int_equal(rows(b, TABLE_stream), 20);
    pass(b, 6000);
    free_sweep(b->all);
    turn(b);
    assert_int_equal(rows(b, TABLE_stream), 10);
}

static void a_fork_holds_what_it_came_from(void **state)
{
    struct bench       *b = *state;
    struct free_stream *a = create(b, "a", 100, NULL), *f, *g;
    free_append(a, SPAN("1"), false, false);
    f = create(b, "f", -1, a);
    free_append(a, SPAN("x"), false, false);
    free_append(f, SPAN("2"), false, false);
    g = create(b, "g", 7, f);
    free_append(g, SPAN("3"), false, false);
    turn(b);
    assert_int_equal(f->row.window_s, 100); /* inherited */
    assert_int_equal(g->row.window_s, 7);
    assert_int_equal(free_tail(g), 3);
    assert_reads(b, g, "123");
    assert_reads(b, a, "1x");
    free_remove(a);
    free_remove(f);
    restart(b);
    assert_int_equal(found(b, "a", &a), FREE_DELETED);
    assert_int_equal(found(b, "f", &f), FREE_DELETED);
    assert_int_equal(found(b, "g", &g), FREE_LIVE);
    assert_reads(b, g, "123");
    free_remove(g);
    assert_int_equal(found(b, "a", &a), FREE_ABSENT);
    turn(b);
    assert_int_equal(found(b, "f", &f), FREE_ABSENT);
    assert_int_equal(rows(b, TABLE_stream), 0);
}

static void nothing_is_left_of_a_deleted_stream(void **state)
{
    struct bench       *b = *state;
    struct free_stream *source = create(b, "big", -1, NULL), *fs;
    for (int i = 0; i < 3; i++)
        free_append(source, SPAN("inherited"), false, false);
    fs = create(b, "fork", -1, source);
    char filler[4000];
    memset(filler, 'f', sizeof filler);
    for (int i = 0; i < 200; i++) {
        char id[16];
        free_append(fs, span_make(filler, sizeof filler), false, false);
        snprintf(id, sizeof id, "p%d", i);
        free_producer_put(fs, span_of(id), 0, 0);
        if (i % 5 == 0)
            turn(b);
    }
    turn(b);
    uint64_t numbers[] = { (uint64_t)source->row.number, (uint64_t)fs->row.number };
    free_remove(fs);
    free_remove(source);
    turn(b);
    assert_int_equal(rows(b, TABLE_purge), 2);
    assert_int_equal(rows(b, TABLE_producer), 200);
    free_sweep(b->all); /* too early: a read may be under way */
    turn(b);
    assert_int_equal(rows(b, TABLE_purge), 2);
    pass(b, 60000);
    fixture_settled(&b->fixture);
    for (int i = 0; i < 50 && rows(b, TABLE_purge) > 0; i++) {
        free_sweep(b->all);
        turn(b);
        fixture_settled(&b->fixture);
    }
    assert_int_equal(rows(b, TABLE_purge), 0);
    assert_int_equal(rows(b, TABLE_producer), 0);
    struct arena   arena = { 0 };
    struct reader *reader = store_reader(b->fixture.store);
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uint64_t head = 1;
        assert_int_equal(reader_head(reader, numbers[i], &head, NULL), ERR_OK);
        assert_int_equal(head, 0);
    }
    reader_end(reader);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_restart_keeps_what_a_commit_made, begin, end),
        cmocka_unit_test(the_rules_of_producers),
        cmocka_unit_test_setup_teardown(a_window_ends_to_the_millisecond_and_access_moves_it, begin, end),
        cmocka_unit_test_setup_teardown(a_restart_makes_a_life_longer_never_shorter, begin, end),
        cmocka_unit_test_setup_teardown(the_sweeper_takes_what_nobody_asks_for, begin, end),
        cmocka_unit_test_setup_teardown(a_fork_holds_what_it_came_from, begin, end),
        cmocka_unit_test_setup_teardown(nothing_is_left_of_a_deleted_stream, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
