/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th call to the database fails, for every n until the workload gets through: no acknowledged batch is lost, none
 * is there by half, and the store has stopped and says so. Also in the nasty way: the call reports an error and yet it
 * happened. */
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

/* Batch k holds frame k + 1 of two streams and tenant k: all three are there, or none is. */
enum { BATCHES = 5, STREAM_A = 71, STREAM_B = 72 };

struct work {
    struct fixture fixture;
    enum err       results[BATCHES]; /* ERR_COUNT: never came back */
};

static void note(void *arg, enum err err)
{
    *(enum err *)arg = err;
}

static struct tenant_row tenant_no(unsigned k)
{
    return (struct tenant_row){ .id = { { 1, (uint8_t)k } }, .name = SPAN("tenant"), .created_ms = k };
}

static void add_frame(struct batch *batch, uint64_t stream, unsigned k)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    fixture_body(stream, k + 1, 40, &body);
    struct frame frame = { .stream = stream, .first_seq = k + 1, .n = 1, .base_ms = 1000 + k, .epoch = 1, .body = buf_view(&body) };
    batch_frame(batch, &frame, k + 1 == BATCHES);
}

static void submit(struct work *work, unsigned k)
{
    struct batch     *batch = batch_new(work->fixture.store);
    struct tenant_row row = tenant_no(k);
    add_frame(batch, STREAM_A, k);
    batch_put(batch, TABLE_tenant, &row);
    add_frame(batch, STREAM_B, k);
    batch_after(batch, note, &work->results[k]);
    fixture_submit(&work->fixture, batch);
}

/* Until everything is settled and deleted, or the store has stopped: these transactions may fail as well. */
static void let_it_settle(struct store *store)
{
    for (unsigned i = 0; i < 5000 && !store_failed(store); i++) {
        struct store_stats stats;
        store_stats(store, &stats);
        if (stats.tail_frames == 0)
            return;
        nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
    }
    assert_true(store_failed(store));
}

static void do_work(struct work *work)
{
    submit(work, 0);
    fixture_wait(&work->fixture);
    submit(work, 1);
    submit(work, 2); /* likely one transaction */
    fixture_wait(&work->fixture);
    let_it_settle(work->fixture.store);
    submit(work, 3);
    submit(work, 4);
    fixture_wait(&work->fixture);
    let_it_settle(work->fixture.store);
}

static void assert_stopped(struct work *work)
{
    struct store *store = work->fixture.store;
    struct error  error = { 0 };
    assert_true(store_failed(store));
    store_failure(store, &error);
    assert_int_equal(error.code, ERR_STORAGE);
    assert_true(error.message[0] != '\0');
    struct batch *batch = batch_new(store);
    assert_int_equal(fixture_commit(&work->fixture, batch), ERR_STORAGE);
}

struct seen {
    uint64_t next;
};

static bool see(void *user, const struct frame *frame)
{
    struct seen *seen = user;
    assert_int_equal(frame->first_seq, seen->next);
    assert_true(fixture_body_is(frame->stream, frame->first_seq, frame->body));
    seen->next += frame->n;
    return true;
}

static uint64_t read_stream(struct reader *reader, uint64_t stream)
{
    uint64_t    head;
    struct seen seen = { 1 };
    assert_int_equal(reader_head(reader, stream, &head, NULL), ERR_OK);
    assert_int_equal(reader_frames(reader, stream, 0, SIZE_MAX, see, &seen), ERR_OK);
    assert_int_equal(seen.next, head + 1);
    return head;
}

/* With the driver bare: what is on disk? */
static void check_what_is_there(struct work *work)
{
    work->fixture.config.driver = NULL;
    fixture_must_open(&work->fixture);
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(work->fixture.store);
    for (unsigned round = 0; round < 2; round++) { /* as found, and after settling */
        assert_int_equal(reader_begin(reader, &arena), ERR_OK);
        uint64_t head = read_stream(reader, STREAM_A);
        assert_int_equal(read_stream(reader, STREAM_B), head);
        for (unsigned k = 0; k < BATCHES; k++) {
            struct tenant_row row = tenant_no(k);
            enum err          err = reader_get(reader, TABLE_tenant, &row);
            assert_int_equal(err, k < head ? ERR_OK : ERR_NOT_FOUND); /* wholly there or not at all */
            if (work->results[k] == ERR_OK)
                assert_true(k < head); /* acknowledged */
        }
        reader_end(reader);
        assert_true(fixture_settled(&work->fixture));
    }
}

static bool is_cut(enum db_fault_kind kind)
{
    return kind == DB_FAULT_CUT || kind == DB_FAULT_CUT_AFTER;
}

/* One run. Returns whether the fault came. A connection that is cut is made again, and nothing else is seen of it. */
static bool run_once(const struct db_driver *base, enum db_fault_kind kind, bool only_commits, unsigned long nth)
{
    struct db_fault *fault = db_fault_new(base);
    struct work      work = { 0 };
    fixture_init_on(&work.fixture, base, db_fault_driver(fault));
    for (unsigned k = 0; k < BATCHES; k++)
        work.results[k] = ERR_COUNT;
    fixture_must_open(&work.fixture);
    db_fault_arm(fault, kind, only_commits, nth);
    do_work(&work);
    bool fired = db_fault_fired(fault);
    bool stops = fired && !is_cut(kind);
    assert_int_equal(store_failed(work.fixture.store), stops);
    assert_false(store_away(work.fixture.store));
    if (stops)
        assert_stopped(&work);
    fixture_close(&work.fixture);
    for (unsigned k = 0; k < BATCHES && !stops; k++)
        assert_int_equal(work.results[k], ERR_OK);
    check_what_is_there(&work);
    fixture_done(&work.fixture);
    db_fault_free(fault);
    return fired;
}

/* A run on a server makes and drops a schema, which takes its time: there, every 31st call, from a different one on for each
 * kind of fault. PERDURE_TEST_FULL is for who has the time. */
static unsigned long stride(const struct db_driver *base)
{
    return base == &db_pg && !getenv("PERDURE_TEST_FULL") ? 31 : 1;
}

/* *state: the driver. */
static void run_all(void **state, enum db_fault_kind kind, bool only_commits)
{
    const struct db_driver *base = *state;
    unsigned long           step = only_commits ? 1 : stride(base), nth = step > 1 ? kind * 7 : 0;
    if (!fixture_has(base))
        skip(); /* ./dev test starts a server */
    while (run_once(base, kind, only_commits, nth))
        nth += step;
    assert_true(nth >= 4 * step); /* else this tested nothing */
}

static void no_failing_call_loses_what_was_acknowledged(void **state)
{
    run_all(state, DB_FAULT_FAILS, false);
}

static void no_call_that_happened_after_all_does_harm(void **state)
{
    run_all(state, DB_FAULT_HAPPENED, false);
}

static void a_commit_that_fails_stops_the_store(void **state)
{
    run_all(state, DB_FAULT_FAILS, true);
}

static void a_commit_that_failed_and_happened_is_whole(void **state)
{
    run_all(state, DB_FAULT_HAPPENED, true);
}

static void a_connection_cut_before_any_call_is_made_again(void **state)
{
    run_all(state, DB_FAULT_CUT, false);
}

static void a_connection_cut_after_any_call_is_made_again(void **state)
{
    run_all(state, DB_FAULT_CUT_AFTER, false);
}

static void a_commit_whose_answer_is_lost_happens_once(void **state)
{
    run_all(state, DB_FAULT_CUT_AFTER, true);
}

static void opening_fails_cleanly_wherever_it_fails(void **state)
{
    const struct db_driver *base = *state;
    if (!fixture_has(base))
        skip();
    for (unsigned long nth = 0;; nth += stride(base)) {
        struct db_fault *fault = db_fault_new(base);
        struct fixture   fixture;
        struct error     error = { 0 };
        fixture_init_on(&fixture, base, db_fault_driver(fault));
        db_fault_arm(fault, nth % 2 ? DB_FAULT_HAPPENED : DB_FAULT_FAILS, false, nth / 2);
        enum err err = fixture_open(&fixture, &error);
        bool     fired = db_fault_fired(fault);
        db_fault_arm(fault, DB_FAULT_NONE, false, 0);
        if (err)
            assert_true(fired && error.message[0] != '\0');
        else
            fixture_close(&fixture);
        fixture_must_open(&fixture); /* the second try finds a sound folder */
        assert_int_equal(fixture_commit(&fixture, batch_new(fixture.store)), ERR_OK);
        fixture_done(&fixture);
        db_fault_free(fault);
        if (!fired)
            break;
    }
}

/* A file that may not grow is what a full disk looks like. The first batches fit, then one does not. */
static void a_full_disk_stops_the_store_and_loses_nothing(void **state)
{
    enum { FILE_MOST = 1 << 20, BODY = 50000 };
    struct fixture fixture;
    struct rlimit  before, small;
    uint64_t       acknowledged = 0;
    fixture_init(&fixture, NULL);
    fixture_must_open(&fixture);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){ FILE_MOST, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum err err = ERR_OK;
    for (uint64_t seq = 1; seq < 1000 && !err; seq++) {
        CLEANUP(buf_done) struct buf body = { 0 };
        fixture_body(5, seq, BODY, &body);
        struct frame  frame = { .stream = 5, .first_seq = seq, .n = 1, .epoch = 1, .body = buf_view(&body) };
        struct batch *batch = batch_new(fixture.store);
        batch_frame(batch, &frame, false);
        err = fixture_commit(&fixture, batch);
        if (!err)
            acknowledged = seq;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(err, ERR_STORAGE);
    assert_true(acknowledged > 0 && store_failed(fixture.store));
    fixture_close(&fixture);
    fixture_must_open(&fixture);
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(fixture.store);
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    assert_true(read_stream(reader, 5) >= acknowledged);
    reader_end(reader);
    fixture_done(&fixture);
}

#define ON(base, name) { #name " (" #base ")", name, NULL, NULL, (void *)(uintptr_t)&db_##base }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(sqlite, no_failing_call_loses_what_was_acknowledged),
        ON(sqlite, no_call_that_happened_after_all_does_harm),
        ON(sqlite, a_commit_that_fails_stops_the_store),
        ON(sqlite, a_commit_that_failed_and_happened_is_whole),
        ON(sqlite, opening_fails_cleanly_wherever_it_fails),
        cmocka_unit_test(a_full_disk_stops_the_store_and_loses_nothing),
        ON(pg, no_failing_call_loses_what_was_acknowledged),
        ON(pg, no_call_that_happened_after_all_does_harm),
        ON(pg, a_commit_that_fails_stops_the_store),
        ON(pg, a_commit_that_failed_and_happened_is_whole),
        ON(pg, opening_fails_cleanly_wherever_it_fails),
        ON(pg, a_connection_cut_before_any_call_is_made_again),
        ON(pg, a_connection_cut_after_any_call_is_made_again),
        ON(pg, a_commit_whose_answer_is_lost_happens_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
