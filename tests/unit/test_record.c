/* SPDX-License-Identifier: Apache-2.0 */
/* test_record.c - frames of records: written, read back the same, and never trusted when damaged. */
#include "ledger/record.h"
#include "unit/unit.h"

struct random {
    uint64_t seed;
};

static struct random random_seed(uint64_t seed) { return (struct random){ seed }; }
static uint64_t random_below(struct random *random, uint64_t n) { return next_random(&random->seed) % n; }

enum { RECORDS = 400, CALLS = 20 };

static struct record random_record(struct random *random, uint64_t index[CALLS], struct arena *arena)
{
    static const enum record_type plain[] = { REC_RUN_STARTED, REC_NODE_STARTED, REC_MODEL_FINISHED, REC_CUSTOM };
    if (random_below(random, 4)) {
        uint32_t call = (uint32_t)random_below(random, CALLS);
        if (random_below(random, 30) == 0)
            index[call] += 3; /* a call that goes on elsewhere */
        return (struct record){ .type = REC_MODEL_DELTA, .op = call + 1, .parent = call / 2, .delta_kind = (uint8_t)(call % 3),
                                .index = index[call]++, .surface = call % 2, .node = arena_printf(arena, "node_%u", call),
                                .text = arena_printf(arena, "t%u ", (unsigned)random_below(random, 1000)),
                                .flags = (uint8_t)(random_below(random, 4) << REC_WF_SHIFT) };
    }
    return (struct record){ .type = plain[random_below(random, ARRAY_LEN(plain))], .op = (uint32_t)random_below(random, 5),
                            .parent = (uint32_t)random_below(random, 5), .pub = arena_printf(arena, "{\"n\":%u}", (unsigned)random_below(random, 99)),
                            .priv = random_below(random, 2) ? SPAN("{\"us\":7}") : SPAN_NONE,
                            .flags = (uint8_t)(random_below(random, 4) << REC_WF_SHIFT) };
}

static void same(const struct record *a, const struct record *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->wall_ms, b->wall_ms);
    assert_int_equal(record_wf(a->flags), record_wf(b->flags));
    assert_true(span_eq(a->pub, b->pub));
    assert_true(span_eq(a->priv, b->priv));
    assert_int_equal(a->priv.p == NULL, b->priv.p == NULL);
    if (a->type != REC_MODEL_DELTA) {
        assert_int_equal(a->parent, b->parent);
        return;
    }
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->parent, b->parent);
    assert_int_equal(a->surface, b->surface);
    assert_int_equal(a->delta_kind, b->delta_kind);
    assert_true(span_eq(a->text, b->text));
    assert_true(span_eq(a->node, b->node));
}

static void a_frame_reads_back_as_it_was_written(void **state)
{
    (void)state;
    struct random random = random_seed(11);
    for (int round = 0; round < 50; round++) {
        struct arena        arena = { 0 };
        struct frame_writer w = { .first_seq = 7 };
        struct record       records[RECORDS];
        uint64_t            index[CALLS] = { 0 };
        int64_t             ms = 1700000000000;
        for (int i = 0; i < RECORDS; i++) {
            records[i] = random_record(&random, index, &arena);
            records[i].wall_ms = ms += (int64_t)random_below(&random, 300);
            frame_put(&w, &records[i]);
        }
        struct frame_reader r = frame_read(7, w.n, w.base_ms, buf_view(&w.body));
        struct record       record;
        for (int i = 0; i < RECORDS; i++) {
            assert_true(frame_next(&r, &record));
            assert_int_equal(record.seq, 7 + i);
            same(&records[i], &record);
        }
        assert_false(frame_next(&r, &record));
        assert_false(r.in.bad);
        buf_done(&w.body);
        arena_done(&arena);
    }
}

static void damaged_bytes_are_noticed_and_harmless(void **state)
{
    (void)state;
    struct random       random = random_seed(12);
    struct arena        arena = { 0 };
    struct frame_writer w = { .first_seq = 1 };
    uint64_t            index[CALLS] = { 0 };
    for (int i = 0; i < 60; i++) {
        struct record record = random_record(&random, index, &arena);
        record.wall_ms = 1000 + i;
        frame_put(&w, &record);
    }
    for (int round = 0; round < 20000; round++) {
        struct span copy = arena_copy(&arena, buf_view(&w.body));
        char       *bytes = (char *)(uintptr_t)copy.p;
        for (unsigned k = 0; k < 1 + random_below(&random, 3); k++)
            bytes[random_below(&random, copy.n)] = (char)random_below(&random, 256);
        copy.n = random_below(&random, 3) ? copy.n : random_below(&random, copy.n);
        struct frame_reader r = frame_read(1, w.n, w.base_ms, copy);
        struct record       record;
        while (frame_next(&r, &record))
            assert_non_null(record_info(record.type));
        if (round % 1000 == 0)
            arena_reset(&arena);
    }
    buf_done(&w.body);
    arena_done(&arena);
}

static void a_text_token_costs_about_a_dozen_bytes(void **state)
{
    (void)state;
    struct frame_writer w = { .first_seq = 1 };
    for (uint64_t i = 0; i < 100; i++) {
        struct record delta = { .type = REC_MODEL_DELTA, .op = 2, .parent = 1, .index = i, .text = SPAN(" token"), .node = SPAN("draft"),
                                .wall_ms = 5000 + (int64_t)i };
        frame_put(&w, &delta);
    }
    assert_true(w.body.len < 100 * 13);
    buf_done(&w.body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_reads_back_as_it_was_written),
        cmocka_unit_test(damaged_bytes_are_noticed_and_harmless),
        cmocka_unit_test(a_text_token_costs_about_a_dozen_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
