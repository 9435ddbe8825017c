/* SPDX-License-Identifier: Apache-2.0 */
/* test_conformance.c - the scenarios and vectors of the teams contract, and the same scenarios with the machine saved and loaded
 * behind each of its steps. */
#include "unit/unit.h"

#include "base/ids.h"
#include "cli/commands.h"
#include "cli/team_conform.h"
#include "cli/team_sim.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_failed(void *user, struct span name, const char *difference)
{
    if (difference)
        print_message("%.*s: %s\n", SPAN_ARG(name), difference);
}

static const char *folder(const char *name, char path[512])
{
    const char *data = getenv("PERDURE_TESTDATA");
    snprintf(path, 512, "%s/%s", data ? data : "tests/team/data", name);
    return path;
}

static void all_pass(const char *path, size_t least)
{
    struct conform conform = { .each = print_failed };
    struct error   error = { 0 };
    assert_int_equal(conform_folder(path, &conform, &error), ERR_OK);
    assert_int_equal(conform.failed, 0);
    assert_true(conform.passed >= least);
}

static void scenarios_and_vectors_of_the_contract(void **state)
{
    char path[512];
    all_pass(folder("", path), 101);
}

static void scenarios_made_with_the_reference(void **state)
{
    char path[512];
    all_pass(folder("../more", path), 40);
}

/* ---- differences are found ---- */

static bool differ(const char *expected, const char *actual, const char *says)
{
    struct arena arena = { 0 };
    struct buf   pointer = { 0 }, out = { 0 };
    bool         found = conform_differs(json_read(span_of(expected), &arena), json_read(span_of(actual), &arena), &pointer, &out);
    if (says)
        assert_memory_equal(out.p, says, strlen(says));
    buf_done(&pointer);
    buf_done(&out);
    arena_done(&arena);
    return found;
}

static void a_difference_is_named_by_its_place(void **state)
{
    assert_false(differ("{\"a\":[1,{\"b\":2.0}]}", "{\"a\":[1.0,{\"b\":2}]}", NULL));
    assert_true(differ("{\"a\":[1,{\"b\":2}]}", "{\"a\":[1,{\"b\":3}]}", "at /a/1/b: expected 2, got 3"));
    assert_true(differ("{\"a\":[1]}", "{\"a\":[1,2]}", "at /a/1: expected nothing, got 2"));
    assert_true(differ("{\"a\":1}", "{\"a\":1,\"b\":null}", "at /b: expected nothing, got null"));
    assert_true(differ("{\"a\":1,\"b\":null}", "{\"a\":1}", "at /b: expected null, got nothing"));
    assert_true(differ("\"1\"", "1", "at /: expected \"1\", got 1"));
}

/* ---- saved and loaded behind each step ---- */

struct reload {
    struct arena arenas[2];
    unsigned     steps;
};

/* The machine goes on as one that was loaded from the text of the old one; its own text is the same. */
static void reload(void *user, const struct plan *plan, struct arena *arena, struct machine **machine)
{
    struct reload  *r = user;
    struct buf      before = { 0 }, after = { 0 };
    struct arena   *fresh = &r->arenas[++r->steps % 2];
    struct machine *loaded = NULL;
    assert_int_equal(team_ops.save(*machine, &before), ERR_OK);
    arena_done(fresh);
    assert_int_equal(team_ops.load(plan, buf_view(&before), fresh, &loaded), ERR_OK);
    assert_int_equal(team_ops.save(loaded, &after), ERR_OK);
    assert_true(span_eq(buf_view(&before), buf_view(&after)));
    *machine = loaded;
    buf_done(&before);
    buf_done(&after);
}

static void compare_with_reloads(const char *path)
{
    struct arena     arena = { 0 };
    struct buf       text = { 0 }, plain = { 0 }, reloaded = { 0 };
    struct error     error;
    struct reload    r = { 0 };
    struct sim_probe probe = { reload, &r };
    assert_int_equal(cli_read(path, &text, &error), ERR_OK);
    struct jv scenario = json_read(buf_view(&text), &arena);
    assert_int_equal(sim_scenario(scenario, NULL, &plain, &error), ERR_OK);
    assert_int_equal(sim_scenario(scenario, &probe, &reloaded, &error), ERR_OK);
    assert_true(span_eq(buf_view(&plain), buf_view(&reloaded)));
    arena_done(&r.arenas[0]);
    arena_done(&r.arenas[1]);
    arena_done(&arena);
    buf_done(&text);
    buf_done(&plain);
    buf_done(&reloaded);
}

static void each_file(const char *path, void (*each)(const char *path))
{
    DIR   *dir = opendir(path);
    size_t count = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char file[800];
        if (!strstr(entry->d_name, ".scenario.json"))
            continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        each(file);
        count++;
    }
    closedir(dir);
    assert_true(count >= 10);
}

static void a_saved_and_loaded_machine_gives_the_same_trace(void **state)
{
    char path[512];
    each_file(folder("scenarios", path), compare_with_reloads);
    each_file(folder("../more", path), compare_with_reloads);
}

/* ---- the frozen trace ---- */

/* Run ids and stamps are free (teams.md 16): both traces with theirs put to the same. */
static void neutral(struct jv v, struct buf *out, struct span run_id)
{
    struct arena arena = { 0 };
    bool         comma = false;
    if (jv_is(v, JSON_STRING)) {
        struct span text = jv_string(v, &arena);
        const char *at = run_id.n ? memmem(text.p, text.n, run_id.p, run_id.n) : NULL;
        if (text.n == 24 && text.p[10] == 'T' && text.p[23] == 'Z')
            text = SPAN("stamp");
        else if (at)
            text = arena_printf(&arena, "run%.*s", (int)(text.p + text.n - at - run_id.n), at + run_id.n);
        json_put_string(out, text);
    } else if (jv_is(v, JSON_ARRAY) || jv_is(v, JSON_OBJECT)) {
        buf_byte(out, jv_is(v, JSON_ARRAY) ? '[' : '{');
        for (struct jv_iter it = jv_iter(v); jv_step(&it); comma = true) {
            if (comma)
                buf_byte(out, ',');
            if (it.object)
                buf_printf(out, "%.*s:", SPAN_ARG(jv_raw(it.name)));
            neutral(it.value, out, run_id);
        }
        buf_byte(out, jv_is(v, JSON_ARRAY) ? ']' : '}');
    } else
        buf_span(out, jv_raw(v));
    arena_done(&arena);
}

static void neutral_text(struct jv trace, struct buf *out)
{
    struct arena arena = { 0 };
    struct buf   text = { 0 };
    struct span  id = jv_string(jv_get(trace, "runId"), &arena);
    neutral(trace, &text, id);
    json_canonical(json_read(buf_view(&text), &arena), JSON_TEAM_KEYS | JSON_DOUBLES, out);
    buf_done(&text);
    arena_done(&arena);
}

/* teams.md 13.7: the deterministic provider's texts as a script. */
static const char frozen_scenario[] =
    "{\"format\":\"team-scenario-1\",\"id\":\"frozen\",\"mode\":\"run\",\"options\":{\"intent\":\"Frozen replay-version-skew fixture.\","
    "\"protocol\":{\"kind\":\"sequential\",\"maxTurns\":2},\"tier\":\"TIER\",\"agents\":[{\"id\":\"agent-1\",\"role\":\"planner\"},{\"id\":\"agent-2\","
    "\"role\":\"critic\"}],\"budget\":{\"maxUsd\":1,\"maxTokens\":500,\"qualityWeight\":0.8}},\"provider\":{\"id\":\"v0_3-replay-fixture\","
    "\"steps\":[STEPS]}}";

static void put_step(struct buf *out, struct jv call)
{
    json_minify(jv_get(call, "response"), out);
}

static void the_frozen_trace_is_made_again_and_replays(void **state)
{
    char         path[512];
    struct arena arena = { 0 };
    struct buf   text = { 0 }, steps = { 0 }, scenario = { 0 }, out = { 0 }, mine = { 0 }, frozen = { 0 };
    struct error error;
    assert_int_equal(cli_read(folder("fixtures/replay-trace-v0_3.json", path), &text, &error), ERR_OK);
    struct jv trace = json_read(buf_view(&text), &arena);
    for (struct jv_iter it = jv_iter(jv_get(trace, "providerCalls")); jv_step(&it);) {
        if (steps.len)
            buf_byte(&steps, ',');
        put_step(&steps, it.value);
    }
    struct span tier = jv_string(jv_get(trace, "tier"), &arena);
    const char *at_tier = strstr(frozen_scenario, "TIER"), *at_steps = strstr(frozen_scenario, "STEPS");
    buf_put(&scenario, frozen_scenario, (size_t)(at_tier - frozen_scenario));
    buf_span(&scenario, tier);
    buf_put(&scenario, at_tier + 4, (size_t)(at_steps - at_tier - 4));
    buf_span(&scenario, buf_view(&steps));
    buf_put(&scenario, at_steps + 5, strlen(at_steps + 5));
    assert_int_equal(sim_scenario(json_read(buf_view(&scenario), &arena), NULL, &out, &error), ERR_OK);
    struct jv own = jv_get(jv_get(json_read(buf_view(&out), &arena), "result"), "trace");
    neutral_text(trace, &frozen);
    neutral_text(own, &mine);
    assert_true(mine.len > 1000);
    assert_int_equal(mine.len, frozen.len);
    assert_memory_equal(mine.p, frozen.p, mine.len);

    struct buf replayed = { 0 };
    struct jw  w = jw_on(&replayed);
    team_replay(trace, &w);
    struct jv result = json_read(buf_view(&replayed), &arena);
    assert_true(jv_equal(jv_get(result, "output"), jv_get(jv_get(trace, "finalOutput"), "output")));
    assert_true(jv_equal(jv_get(jv_get(result, "accounting"), "budgetStateChanges"), jv_get(trace, "budgetStateChanges")));
    buf_done(&replayed);
    struct buf *all[] = { &text, &steps, &scenario, &out, &mine, &frozen };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_done(all[i]);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scenarios_and_vectors_of_the_contract),
        cmocka_unit_test(scenarios_made_with_the_reference),
        cmocka_unit_test(a_difference_is_named_by_its_place),
        cmocka_unit_test(a_saved_and_loaded_machine_gives_the_same_trace),
        cmocka_unit_test(the_frozen_trace_is_made_again_and_replays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
