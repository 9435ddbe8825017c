/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_faults.c - every storage call fails once, and once more as "reported failed, yet happened".
 *
 * Under an engine with runs and followers the n-th call of the storage thread fails, for n = 0, 1, 2 … until the workload gets
 * through. Then the folder is opened again without the fault, and: every acknowledged create is there; everything a follower
 * was shown is there, the same bytes; every run ends; and while storage had failed the engine said so and took nothing. */
#include "support/engine_rig.h"
#include "unit/unit.h"
#include <stdlib.h>

enum { RUNS = 4 };

static const char echo[] = "{\"format\":1,\"entry\":\"a\",\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.echo\","
                           "\"capability_version\":\"1\",\"execution_binding\":\"builtin\"}]}";
static const char slow[] = "{\"format\":1,\"entry\":\"a\",\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.emit\","
                           "\"capability_version\":\"1\",\"execution_binding\":\"builtin\",\"config\":{\"count\":5,\"interval_ms\":1}}]}";

/* One run: what was promised about it, and what its follower saw. */
struct promise {
    struct rig *rig;
    struct uuid id;
    uint64_t    stream;
    bool        acked, answered, ended;
    struct buf  shown;
};

struct world {
    struct rig      rig;
    struct promise *runs;
    unsigned        answered;
};

static void event_text(const void *ctx, const struct record *record, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%llu %u %lld %u ", (unsigned long long)record->seq, record->type, (long long)record->wall_ms, record->op);
    buf_span(out, record->pub);
    buf_span(out, record->text);
    buf_byte(out, '\n');
}

static const struct wire_format plain = { .name = "plain", .event = event_text };

static ssize_t sink_write(void *user, const struct iovec *iov, int count)
{
    struct promise *p = user;
    ssize_t         n = 0;
    for (int i = 0; i < count; i++) {
        buf_put(&p->shown, iov[i].iov_base, iov[i].iov_len);
        n += (ssize_t)iov[i].iov_len;
    }
    return n;
}

static void sink_end(void *user) { ((struct promise *)user)->ended = true; }
static const struct sink_ops sink = { .write = sink_write, .end = sink_end, .abort = sink_end };

static void created(void *arg, enum err err)
{
    struct promise *p = arg;
    p->answered = true;
    p->acked = !err;
    struct attempt_place place;
    struct run_row       row;
    struct arena         arena = { 0 };
    if (!err && !run_row_get(p->rig->engine, p->rig->workspace, p->id, &arena, &row) &&
        !attempt_open(p->rig->engine, p->rig->workspace, p->id, row.attempt, &place, NULL)) {
        p->stream = stream_number(place.stream);
        follower_start(follower_new(place.stream, &plain, NULL, 0, 0), &sink, p);
        stream_unref(place.stream);
    } else {
        p->ended = true;
    }
    arena_done(&arena);
}

static void create(struct world *world, struct promise *p, struct uuid agent)
{
    struct run_spec spec = { .tenant = world->rig.tenant, .workspace = world->rig.workspace, .agent = agent, .input = SPAN("{\"n\":1}") };
    struct run_row  row;
    struct error    error = { 0 };
    p->rig = &world->rig;
    if (run_create(world->rig.engine, &spec, &row, &error)) {
        assert_int_equal(error.code, ERR_STORAGE);
        p->answered = p->ended = true;
        return;
    }
    p->id = row.id;
    engine_after(world->rig.engine, created, p);
}

static bool all_over(void *user)
{
    struct world *world = user;
    for (int i = 0; i < RUNS; i++)
        if (!world->runs[i].answered || !world->runs[i].ended)
            return false;
    return true;
}

static bool has_failed(void *user)
{
    struct world *world = user;
    return store_failed(world->rig.store);
}

/* What the ledger holds, in the words of the follower. */
struct reread {
    struct buf text;
};

static bool reread_frame(void *user, const struct frame *frame)
{
    struct reread      *to = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record))
        event_text(NULL, &record, &to->text);
    return !reader.in.bad;
}

static bool runs_ended(void *user)
{
    struct world *world = user;
    bool          ended = true;
    for (int i = 0; i < RUNS; i++) {
        struct arena   arena = { 0 };
        struct run_row row;
        if (world->runs[i].acked &&
            (run_row_get(world->rig.engine, world->rig.workspace, world->runs[i].id, &arena, &row) || row.status != RUN_COMPLETED))
            ended = false;
        arena_done(&arena);
    }
    return ended;
}

static void check_after(struct world *world)
{
    struct error error = { 0 };
    world->rig.driver = NULL;
    assert_int_equal(rig_open(&world->rig, &error), ERR_OK);
    struct reader *reader = store_reader(world->rig.store);
    for (int i = 0; i < RUNS; i++) {
        struct promise *p = &world->runs[i];
        struct arena    arena = { 0 };
        struct reread   now = { 0 };
        if (p->acked) {
            struct run_row row;
            assert_int_equal(run_row_get(world->rig.engine, world->rig.workspace, p->id, &arena, &row), ERR_OK);
        }
        if (p->stream) {
            assert_int_equal(reader_begin(reader, &arena), ERR_OK);
            assert_int_equal(reader_frames(reader, p->stream, 0, SIZE_MAX, reread_frame, &now), ERR_OK);
            reader_end(reader);
            assert_true(now.text.len >= p->shown.len);
            assert_memory_equal(now.text.p, p->shown.p, p->shown.len);
        }
        buf_done(&now.text);
        arena_done(&arena);
    }
    assert_true(rig_run(&world->rig, runs_ended, world, 10));
}

/* Returns true when the workload got through without the fault. */
static bool one_round(enum db_fault_kind kind, bool only_commits, unsigned long nth)
{
    struct db_fault *fault = db_fault_new(&db_sqlite);
    struct promise   runs[RUNS] = { 0 };
    struct world     world = { .runs = runs };
    struct error     error = { 0 };
    rig_init(&world.rig, db_fault_driver(fault));
    assert_int_equal(rig_open(&world.rig, &error), ERR_OK);
    struct uuid a = rig_agent(&world.rig, "echo", echo), b = rig_agent(&world.rig, "slow", slow);
    db_fault_arm(fault, kind, only_commits, nth);
    for (int i = 0; i < RUNS; i++)
        create(&world, &runs[i], i % 2 ? b : a);
    assert_true(rig_run(&world.rig, all_over, &world, 10));
    /* What fired when everything was over (a settling transaction, say) is on its way through the storage thread. */
    bool fired = db_fault_fired(fault);
    assert_true(!fired || rig_run(&world.rig, has_failed, &world, 5));
    assert_true(fired || !store_failed(world.rig.store) || db_fault_fired(fault));
    fired = store_failed(world.rig.store);
    if (fired) { /* a clear state, and nothing is taken any more */
        struct run_spec spec = { .tenant = world.rig.tenant, .workspace = world.rig.workspace, .agent = a };
        struct run_row  row;
        assert_int_equal(engine_ready(world.rig.engine, &error), ERR_STORAGE);
        assert_int_equal(run_create(world.rig.engine, &spec, &row, &error), ERR_STORAGE);
    } else {
        for (int i = 0; i < RUNS; i++)
            assert_true(runs[i].acked);
    }
    rig_close(&world.rig);
    db_fault_arm(fault, DB_FAULT_NONE, false, 0);
    check_after(&world);
    for (int i = 0; i < RUNS; i++)
        buf_done(&runs[i].shown);
    rig_done(&world.rig);
    db_fault_free(fault);
    return !fired;
}

static void every_call_fails_once(void **state)
{
    (void)state;
    unsigned long nth = 0;
    while (!one_round(DB_FAULT_FAILS, false, nth))
        nth += 1 + nth / 12; /* every early call, then ever larger strides: the calls repeat themselves */
    assert_true(nth > 20);
}

static void every_call_fails_and_yet_happens(void **state)
{
    (void)state;
    unsigned long nth = 0;
    while (!one_round(DB_FAULT_HAPPENED, false, nth))
        nth += 1 + nth / 12;
    assert_true(nth > 20);
}

static void every_commit_fails_once(void **state)
{
    (void)state;
    unsigned long fails = 0, happens = 0;
    while (!one_round(DB_FAULT_FAILS, true, fails))
        fails++;
    while (!one_round(DB_FAULT_HAPPENED, true, happens))
        happens++;
    assert_true(fails > 2 && happens > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_commit_fails_once),
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(every_call_fails_and_yet_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
