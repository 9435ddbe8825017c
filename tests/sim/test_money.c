/* SPDX-License-Identifier: Apache-2.0 */
/* test_money.c - model calls that fail and are made again, what calls cost, and caps that are reached. */
#include "support/engine_rig.h"
#include "unit/unit.h"
#include <stdio.h>
#include <stdlib.h>

#define NODE(name, ref, binding, config, rest) \
    "{\"node\":\"" name "\",\"capability_ref\":\"" ref "\",\"capability_version\":\"1\",\"execution_binding\":\"" binding "\"," \
    "\"config\":" config ",\"next\":" rest "}"
#define MODEL(name, model, script, rest) \
    NODE(name, "model.chat", "model", "{\"provider\":\"scripted\",\"model\":\"" model "\",\"prompt\":\"p\",\"max_tokens\":100," \
                                      "\"script\":{\"interval_ms\":0," script "}}", rest)
#define GRAPH(entry, more, nodes) "{\"format\":1,\"entry\":\"" entry "\"" more ",\"nodes\":[" nodes "]}"
#define USED                      "\"text\":\"one two\",\"usage\":{\"input_tokens\":10,\"output_tokens\":5}"

struct world {
    struct rig     rig;
    struct prices *prices;
    struct uuid    id;
    struct run_row row;
    struct arena   arena;
    int64_t        stop_at;
};

static void read_row(struct world *w)
{
    arena_reset(&w->arena);
    w->row = (struct run_row){ .status = RUN_QUEUED };
    if (run_row_get(w->rig.engine, w->rig.workspace, w->id, &w->arena, &w->row))
        w->row.status = RUN_QUEUED;
}

static bool rests(void *user)
{
    struct world *w = user;
    read_row(w);
    return (w->stop_at && w->row.last_seq >= w->stop_at) || w->row.status == RUN_WAITING ||
           run_terminal((enum run_status)w->row.status);
}

static void until_rest(struct world *w)
{
    assert_true(rig_run(&w->rig, rests, w, 15));
}

static void open_rig(struct world *w)
{
    struct error error = { 0 };
    struct arena arena = { 0 };
    if (!w->prices)
        assert_int_equal(prices_new(json_read(SPAN("{\"scripted/priced\":{\"input\":\"1000\",\"output\":\"2000\"}}"), &arena), &w->prices,
                                    &error), ERR_OK);
    arena_done(&arena);
    w->rig.prices = w->prices;
    assert_int_equal(rig_open(&w->rig, &error), ERR_OK);
}

static void create(struct world *w, const char *definition)
{
    static unsigned number;
    char            name[32];
    struct run_row  row;
    snprintf(name, sizeof name, "a%u", number++);
    struct run_spec spec = { .tenant = w->rig.tenant, .workspace = w->rig.workspace, .agent = rig_agent(&w->rig, name, definition) };
    assert_int_equal(run_create(w->rig.engine, &spec, &row, NULL), ERR_OK);
    w->id = row.id;
}

static void begin(struct world *w, const char *definition)
{
    *w = (struct world){ .stop_at = 0 };
    rig_init(&w->rig, NULL);
    open_rig(w);
    create(w, definition);
}

static void restart(struct world *w)
{
    rig_close(&w->rig);
    open_rig(w);
}

static void end(struct world *w)
{
    arena_done(&w->arena);
    rig_done(&w->rig);
    prices_free(w->prices);
}

static struct spend_row spent(struct world *w)
{
    struct spend_row row = { .workspace = w->rig.workspace, .kind = 0, .id = w->id };
    struct arena     arena = { 0 };
    assert_int_equal(reader_begin(store_reader(w->rig.store), &arena), ERR_OK);
    (void)reader_get(store_reader(w->rig.store), TABLE_spend, &row);
    reader_end(store_reader(w->rig.store));
    arena_done(&arena);
    return row;
}

static enum err decide(struct world *w, const char *input)
{
    struct wait_answer answer = { .workspace = w->rig.workspace, .wait = w->row.wait, .input = span_of(input), .by = SPAN("ann") };
    struct wait_row wait;
    struct run_row  row;
    struct issues   issues = { .arena = &w->arena };
    struct error    error = { 0 };
    return wait_decide(w->rig.engine, &answer, &wait, &row, &issues, &error);
}

static void assert_events(struct world *w, const char *expected)
{
    struct buf text = { 0 };
    rig_events(&w->rig, (uint64_t)w->row.stream, &text);
    buf_byte(&text, '\0');
    assert_string_equal(text.p, expected);
    buf_done(&text);
}

static bool has(struct span text, const char *part)
{
    return text.p && memmem(text.p, text.n, part, strlen(part));
}

/* ---- retries ---- */

static const char flaky[] =
    GRAPH("a", "", MODEL("a", "priced", "\"text\":\"one two\",\"error\":{\"status\":503},\"error_after_chunks\":1,\"fail_tries\":1,"
                                        "\"usage\":{\"input_tokens\":10,\"output_tokens\":5}", "null"));

static void a_failed_call_is_made_again_and_the_machine_does_not_see_it(void **state)
{
    (void)state;
    struct world w;
    begin(&w, flaky);
    until_rest(&w);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_events(&w, "RUN_STARTED NODE_STARTED MODEL_STARTED MODEL_DELTA MODEL_FAILED MODEL_STARTED MODEL_DELTA MODEL_DELTA "
                      "MODEL_FINISHED NODE_FINISHED CHECKPOINT_CREATED CHECKPOINT_CREATED RUN_FINISHED");
    end(&w);
}

static void a_call_that_is_to_be_made_again_outlives_a_restart_at_any_event(void **state)
{
    (void)state;
    for (int64_t at = 1; at < 14; at++) {
        struct world w;
        begin(&w, flaky);
        w.stop_at = at;
        until_rest(&w);
        restart(&w);
        w.stop_at = 0;
        until_rest(&w);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        assert_true(has(w.row.output, "one two"));
        end(&w);
    }
}

static void tries_come_to_an_end(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", MODEL("a", "m", "\"error\":{\"status\":503}", "null")));
    until_rest(&w);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_events(&w, "RUN_STARTED NODE_STARTED MODEL_STARTED MODEL_FAILED MODEL_STARTED MODEL_FAILED MODEL_STARTED MODEL_FAILED "
                      "NODE_FAILED RUN_FAILED");
    end(&w);
    begin(&w, GRAPH("a", "", MODEL("a", "m", "\"error\":{\"status\":400}", "null")));
    until_rest(&w);
    assert_events(&w, "RUN_STARTED NODE_STARTED MODEL_STARTED MODEL_FAILED NODE_FAILED RUN_FAILED");
    end(&w);
}

/* ---- cost ---- */

static void what_was_spent_is_exact_and_an_unknown_price_is_no_zero(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", MODEL("a", "priced", USED, "\"b\"") "," MODEL("b", "unheard-of", USED, "null")));
    until_rest(&w);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    restart(&w);
    struct spend_row row = spent(&w);
    assert_int_equal(row.usd, 10 * 1000000000LL + 5 * 2000000000LL); /* $1000 and $2000 per million tokens, in 10^-12 */
    assert_int_equal(row.unpriced, 1);
    assert_int_equal(row.model_calls, 2);
    assert_int_equal(row.tokens_in, 20);
    assert_int_equal(row.tokens_out, 10);
    end(&w);
}

/* ---- caps ---- */

#define TWO(budget) GRAPH("a", ",\"budget\":" budget, MODEL("a", "priced", USED, "\"b\"") "," MODEL("b", "priced", USED, "null"))

static void a_cap_ends_the_run(void **state)
{
    (void)state;
    static const char *const caps[] = { TWO("{\"max_model_calls\":1}"), TWO("{\"max_usd\":\"0.25\"}"), TWO("{\"max_tokens\":145}") };
    for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
        struct world w;
        begin(&w, caps[i]);
        until_rest(&w);
        assert_int_equal(w.row.status, RUN_FAILED);
        assert_true(has(w.row.error, "budget_exceeded"));
        assert_int_equal(spent(&w).model_calls, 1);
        end(&w);
    }
}

static void a_cap_is_told_to_the_machine(void **state)
{
    (void)state;
    struct world w;
    begin(&w, TWO("{\"max_model_calls\":1,\"on_breach\":\"stop\"}"));
    until_rest(&w);
    assert_int_equal(w.row.status, RUN_FAILED); /* a graph ends where its node fails; an agent ends with what it has */
    assert_events(&w, "RUN_STARTED NODE_STARTED MODEL_STARTED MODEL_DELTA MODEL_DELTA MODEL_FINISHED NODE_FINISHED CHECKPOINT_CREATED "
                      "NODE_STARTED MODEL_STARTED BUDGET_REACHED MODEL_FAILED NODE_FAILED RUN_FAILED");
    end(&w);
}

static void a_person_raises_a_cap_or_stops(void **state)
{
    (void)state;
    for (int restarts = 0; restarts < 2; restarts++)
        for (int stops = 0; stops < 2; stops++) {
            struct world w;
            begin(&w, TWO("{\"max_model_calls\":1,\"on_breach\":\"ask\"}"));
            until_rest(&w);
            assert_int_equal(w.row.status, RUN_WAITING);
            if (restarts)
                restart(&w);
            assert_int_equal(decide(&w, "{\"raise\":0}"), ERR_VALIDATION);
            assert_int_equal(decide(&w, stops ? "\"stop\"" : "{\"raise\":1}"), ERR_OK);
            until_rest(&w);
            while (w.row.status == RUN_WAITING) /* as it was on disk a moment ago */
                until_rest(&w);
            assert_int_equal(w.row.status, stops ? RUN_FAILED : RUN_COMPLETED);
            assert_int_equal(spent(&w).model_calls, stops ? 1 : 2);
            end(&w);
        }
}

static void the_day_of_a_workspace_has_caps_too(void **state)
{
    (void)state;
    struct world w = { .stop_at = 0 };
    rig_init(&w.rig, NULL);
    w.rig.day_budget = (struct plan_budget){ .model_calls = 1 };
    open_rig(&w);
    create(&w, GRAPH("a", "", MODEL("a", "priced", USED, "null")));
    until_rest(&w);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    restart(&w);
    create(&w, GRAPH("a", "", MODEL("a", "priced", USED, "null")));
    until_rest(&w);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_true(has(w.row.error, "budget_exceeded"));
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_is_made_again_and_the_machine_does_not_see_it),
        cmocka_unit_test(a_call_that_is_to_be_made_again_outlives_a_restart_at_any_event),
        cmocka_unit_test(tries_come_to_an_end),
        cmocka_unit_test(what_was_spent_is_exact_and_an_unknown_price_is_no_zero),
        cmocka_unit_test(a_cap_ends_the_run),
        cmocka_unit_test(a_cap_is_told_to_the_machine),
        cmocka_unit_test(a_person_raises_a_cap_or_stops),
        cmocka_unit_test(the_day_of_a_workspace_has_caps_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
