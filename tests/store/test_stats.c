/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of store/aggregate.h against the definitions themselves (agent-runs.md 8), over random rows: each figure is
 * computed here by looking at all rows, one figure at a time, the percentile by sorting. On SQLite and on PostgreSQL
 * (PERDURE_TEST_PG). */
#include "store/aggregate.h"
#include "store/tally.h"
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS_MOST = 3000, LIVE_MOST = 40, HOURS = 50, GROUPS_MOST = 64, WINDOWS = 40 };

struct world {
    struct fixture  fixture;
    uint64_t        random;
    struct stat_row rows[ROWS_MOST];
    bool            deleted[ROWS_MOST];
    size_t          count;
    struct run_row  live[LIVE_MOST];
};

static const int64_t live_statuses[] = { 1, 2 };

static unsigned pick(struct world *world, unsigned n)
{
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((world->random >> 33) % n);
}

static struct uuid id_of(unsigned kind, unsigned number)
{
    struct uuid id = { { (uint8_t)kind, (uint8_t)(number >> 8), (uint8_t)number, 7 } };
    return id;
}

static int set_up(void **state, const struct db_driver *driver)
{
    struct world *world = mem_alloc(sizeof *world);
    world->random = 4711;
    fixture_init_on(&world->fixture, driver, NULL);
    fixture_must_open(&world->fixture);
    *state = world;
    return 0;
}

static int set_up_sqlite(void **state)
{
    return set_up(state, &db_sqlite);
}

static int set_up_pg(void **state)
{
    return set_up(state, &db_pg);
}

static int tear_down(void **state)
{
    struct world *world = *state;
    fixture_done(&world->fixture);
    free(world);
    return 0;
}

/* ---- random rows ---- */

static void random_figures(struct world *world, struct stat_row *row)
{
    static const struct span names[] = { { NULL, 0 }, { "", 0 }, { "core.echo", 9 }, { "core.emit", 9 }, { "a", 1 },
                                         { "b\0c", 3 } };
    static const struct span versions[] = { { NULL, 0 }, { "1", 1 }, { "2", 1 } };
    static const struct span bindings[] = { { "builtin", 7 }, { "human", 5 }, { NULL, 0 } };
    static const struct span categories[] = { { "tool", 4 }, { "model", 5 }, { "human", 5 }, { "internal", 8 } };
    bool node = row->kind == STAT_NODE, run = row->kind == STAT_RUN;
    row->status = node || run ? pick(world, 4) : 0;
    row->ms = (node || run) && row->status != STAT_OPEN && pick(world, 5) ? (int64_t)pick(world, pick(world, 2) ? 20 : 5000) : -1;
    row->tries = node || run ? 1 + (int64_t)pick(world, 3) : 0;
    row->replayed = run && pick(world, 4) == 0;
    row->at_ms = row->created_ms + pick(world, 100000);
    if (node) {
        row->ref = names[pick(world, ARRAY_LEN(names))];
        row->version = versions[pick(world, ARRAY_LEN(versions))];
        row->binding = bindings[pick(world, ARRAY_LEN(bindings))];
    }
    bool failure = row->kind == STAT_FAILURE || (node && row->status == STAT_FAILED);
    row->category = failure ? categories[pick(world, ARRAY_LEN(categories))] : SPAN_NONE;
}

static void add_rows(struct world *world, size_t more)
{
    struct batch *batch = batch_new(world->fixture.store);
    assert_true(world->count + more <= ROWS_MOST);
    for (size_t i = 0; i < more; i++) {
        struct stat_row *row = &world->rows[world->count];
        *row = (struct stat_row){ .workspace = id_of(1, pick(world, 2)), .kind = pick(world, 4),
                                  .created_ms = pick(world, HOURS) * 3600000, .run = id_of(2, (unsigned)world->count),
                                  .attempt_no = 1, .op = pick(world, 3), .agent = id_of(3, pick(world, 3)) };
        random_figures(world, row);
        batch_put(batch, TABLE_stat, row);
        world->count++;
    }
    assert_int_equal(fixture_commit(&world->fixture, batch), ERR_OK);
}

/* What nodes and runs do later: end, or begin again. */
static void change_rows(struct world *world)
{
    struct batch *batch = batch_new(world->fixture.store);
    for (size_t i = 0; i < world->count; i++) {
        unsigned what = pick(world, 10);
        if (what == 0 && !world->deleted[i]) {
            batch_delete(batch, TABLE_stat, &world->rows[i]);
            world->deleted[i] = true;
        } else if (what == 1) {
            random_figures(world, &world->rows[i]);
            batch_put(batch, TABLE_stat, &world->rows[i]);
            world->deleted[i] = false;
        }
    }
    assert_int_equal(fixture_commit(&world->fixture, batch), ERR_OK);
}

static void add_live_runs(struct world *world)
{
    struct batch *batch = batch_new(world->fixture.store);
    for (unsigned i = 0; i < LIVE_MOST; i++) {
        world->live[i] = (struct run_row){ .workspace = id_of(1, pick(world, 2)), .id = id_of(4, i),
                                           .agent = id_of(3, pick(world, 3)), .status = pick(world, 4),
                                           .attempt_no = 1 + (int64_t)pick(world, 3),
                                           .created_ms = pick(world, HOURS) * 3600000 };
        if (pick(world, 3) == 0)
            world->live[i].replayed_from = id_of(5, i);
        batch_put(batch, TABLE_run, &world->live[i]);
    }
    assert_int_equal(fixture_commit(&world->fixture, batch), ERR_OK);
}

/* ---- the definitions ---- */

static bool in_window(const struct stat_window *window, struct uuid workspace, struct uuid agent, int64_t created_ms)
{
    return uuid_eq(workspace, window->workspace) && created_ms >= window->from_ms && created_ms < window->to_ms &&
           (uuid_is_nil(window->agent) || uuid_eq(agent, window->agent));
}

static bool same(struct span a, struct span b)
{
    return !a.p == !b.p && span_eq(a, b);
}

/* What the figures are about: the rows of a kind in a window, and of one group when there is one. */
struct asked {
    const struct world       *world;
    const struct stat_window *window;
    enum stat_kind            kind;
    const struct stat_group  *group;
    enum stat_group_by        by;
};

static bool is_asked(const struct asked *asked, size_t i)
{
    const struct stat_row *row = &asked->world->rows[i];
    if (asked->world->deleted[i] || row->kind != (int64_t)asked->kind ||
        !in_window(asked->window, row->workspace, row->agent, row->created_ms))
        return false;
    if (!asked->group)
        return true;
    if (asked->by == STAT_BY_BINDING)
        return same(row->binding, asked->group->name);
    return same(row->ref, asked->group->name) && same(row->version, asked->group->version);
}

enum what { ALL, OK, FAILED, TRIED_AGAIN, AGAIN, REPLAYED, TIMED, MS };

static int64_t count(const struct asked *asked, enum what what)
{
    int64_t n = 0;
    for (size_t i = 0; i < asked->world->count; i++) {
        const struct stat_row *row = &asked->world->rows[i];
        if (!is_asked(asked, i))
            continue;
        switch (what) {
        case ALL: n++; break;
        case OK: n += row->status == STAT_OK; break;
        case FAILED: n += row->status == STAT_FAILED; break;
        case TRIED_AGAIN: n += row->tries > 1; break;
        case AGAIN: n += row->tries - 1; break;
        case REPLAYED: n += row->replayed; break;
        case TIMED: n += row->ms >= 0; break;
        case MS: n += row->ms >= 0 ? row->ms : 0; break;
        }
    }
    return n;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t p95(const struct asked *asked)
{
    int64_t *all = mem_alloc(ROWS_MOST * sizeof *all), n = 0;
    for (size_t i = 0; i < asked->world->count; i++)
        if (is_asked(asked, i) && asked->world->rows[i].ms >= 0)
            all[n++] = asked->world->rows[i].ms;
    qsort(all, (size_t)n, sizeof *all, by_number);
    int64_t found = n ? all[(95 * n + 99) / 100 - 1] : 0;
    free(all);
    return found;
}

static int64_t count_category(const struct asked *asked, struct span category)
{
    int64_t n = 0;
    for (size_t i = 0; i < asked->world->count; i++)
        n += is_asked(asked, i) && same(asked->world->rows[i].category, category) &&
             (asked->kind == STAT_FAILURE || asked->world->rows[i].status == STAT_FAILED);
    return n;
}

/* ---- held against them ---- */

static void check_runs(const struct world *world, struct reader *reader, const struct stat_window *window)
{
    struct asked     asked = { world, window, STAT_RUN, NULL, STAT_BY_CAPABILITY };
    struct stat_runs runs;
    int64_t          live = 0, again = 0, replays = 0;
    assert_int_equal(stat_runs(reader, window, &runs), ERR_OK);
    for (unsigned i = 0; i < LIVE_MOST; i++) {
        const struct run_row *run = &world->live[i];
        if (!in_window(window, run->workspace, run->agent, run->created_ms) || run->status < 1 || run->status > 2)
            continue;
        live++;
        again += run->attempt_no - 1;
        replays += !uuid_is_nil(run->replayed_from);
    }
    assert_int_equal(runs.total, count(&asked, ALL) + live);
    assert_int_equal(runs.ok, count(&asked, OK));
    assert_int_equal(runs.failed, count(&asked, FAILED));
    assert_int_equal(runs.retries, count(&asked, AGAIN) + again);
    assert_int_equal(runs.replays, count(&asked, REPLAYED) + replays);
    assert_int_equal(runs.timed, count(&asked, TIMED));
    assert_int_equal(runs.ms_sum, count(&asked, MS));
    assert_int_equal(runs.ms_p95, p95(&asked));
}

static void check_node_figures(const struct asked *asked, const struct stat_nodes *nodes)
{
    assert_int_equal(nodes->total, count(asked, ALL));
    assert_int_equal(nodes->failed, count(asked, FAILED));
    assert_int_equal(nodes->retries, count(asked, TRIED_AGAIN));
    assert_int_equal(nodes->timed, count(asked, TIMED));
    assert_int_equal(nodes->ms_sum, count(asked, MS));
}

static void check_nodes(const struct world *world, struct reader *reader, const struct stat_window *window)
{
    struct asked      asked = { world, window, STAT_NODE, NULL, STAT_BY_CAPABILITY };
    struct stat_nodes nodes;
    int64_t           handoffs;
    assert_int_equal(stat_nodes(reader, window, &nodes), ERR_OK);
    check_node_figures(&asked, &nodes);
    asked.kind = STAT_HANDOFF;
    assert_int_equal(stat_handoffs(reader, window, &handoffs), ERR_OK);
    assert_int_equal(handoffs, count(&asked, ALL));
}

static void check_categories(const struct world *world, struct reader *reader, const struct stat_window *window)
{
    struct asked         asked = { world, window, STAT_FAILURE, NULL, STAT_BY_CAPABILITY };
    struct stat_category top[8];
    unsigned             n;
    int64_t              all = 0;
    assert_int_equal(stat_categories(reader, window, top, ARRAY_LEN(top), &n), ERR_OK);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(top[i].count, count_category(&asked, top[i].name));
        assert_true(!i || top[i - 1].count > top[i].count ||
                    (top[i - 1].count == top[i].count && span_cmp(top[i - 1].name, top[i].name) < 0));
        all += top[i].count;
    }
    assert_int_equal(all, count(&asked, ALL));
}

static void check_category_of(const struct asked *asked)
{
    static const struct span names[] = { { "human", 5 }, { "internal", 8 }, { "model", 5 }, { "tool", 4 } };
    struct span most = SPAN_NONE;
    int64_t     times = 0;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) /* by name: the first of equals stays */
        if (count_category(asked, names[i]) > times) {
            times = count_category(asked, names[i]);
            most = names[i];
        }
    assert_true(same(asked->group->category, most));
}

static int64_t last_used(const struct asked *asked)
{
    int64_t last = INT64_MIN;
    for (size_t i = 0; i < asked->world->count; i++)
        if (is_asked(asked, i) && asked->world->rows[i].at_ms > last)
            last = asked->world->rows[i].at_ms;
    return last;
}

static void check_group(const struct asked *asked)
{
    const struct stat_group *group = asked->group;
    check_node_figures(asked, &group->nodes);
    assert_int_equal(group->ms_p95, p95(asked));
    assert_int_equal(group->last_ms, last_used(asked));
    check_category_of(asked);
}

static int order(struct span a, struct span b)
{
    return !a.p || !b.p ? (a.p != NULL) - (b.p != NULL) : span_cmp(a, b);
}

static bool before(const struct stat_group *a, const struct stat_group *b)
{
    if (a->nodes.total != b->nodes.total)
        return a->nodes.total > b->nodes.total;
    int by_name = order(a->name, b->name);
    return by_name ? by_name < 0 : order(a->version, b->version) < 0;
}

/* No group is missing when their rows are all rows; none is there twice when they are in strict order. Pages are cut from
 * that. */
static void check_groups(const struct world *world, struct reader *reader, const struct stat_window *window,
                         enum stat_group_by by)
{
    struct asked      asked = { world, window, STAT_NODE, NULL, by };
    struct stat_group groups[GROUPS_MOST], page[3];
    unsigned          n, on_page;
    int64_t           total, all = 0;
    assert_int_equal(stat_groups(reader, window, by, GROUPS_MOST, 0, groups, &n, &total), ERR_OK);
    assert_int_equal(total, n);
    for (unsigned i = 0; i < n; i++) {
        asked.group = &groups[i];
        check_group(&asked);
        assert_true(!i || before(&groups[i - 1], &groups[i]));
        all += groups[i].nodes.total;
    }
    asked.group = NULL;
    assert_int_equal(all, count(&asked, ALL));
    assert_int_equal(stat_groups(reader, window, by, ARRAY_LEN(page), 2, page, &on_page, &total), ERR_OK);
    assert_int_equal(total, n);
    assert_int_equal(on_page, n < 2 ? 0 : n - 2 < ARRAY_LEN(page) ? n - 2 : ARRAY_LEN(page));
    for (unsigned i = 0; i < on_page; i++) {
        asked.group = &page[i];
        check_group(&asked);
        assert_true(same(page[i].name, groups[i + 2].name) && same(page[i].version, groups[i + 2].version));
    }
}

static struct stat_window random_window(struct world *world)
{
    struct stat_window window = { .workspace = id_of(1, pick(world, 2)), .from_ms = INT64_MIN, .to_ms = INT64_MAX,
                                  .live = live_statuses, .live_count = ARRAY_LEN(live_statuses) };
    if (pick(world, 2))
        window.from_ms = pick(world, HOURS) * 3600000 + pick(world, 2);
    if (pick(world, 2))
        window.to_ms = pick(world, HOURS) * 3600000 + pick(world, 2);
    if (pick(world, 2))
        window.agent = id_of(3, pick(world, 4)); /* nobody has the fourth */
    return window;
}

static void check_all(struct world *world)
{
    struct reader *reader = store_reader(world->fixture.store);
    for (unsigned i = 0; i < WINDOWS; i++) {
        CLEANUP(arena_done) struct arena arena = { 0 };
        struct stat_window window = random_window(world);
        assert_int_equal(reader_begin(reader, &arena), ERR_OK);
        check_runs(world, reader, &window);
        check_nodes(world, reader, &window);
        check_categories(world, reader, &window);
        check_groups(world, reader, &window, STAT_BY_CAPABILITY);
        check_groups(world, reader, &window, STAT_BY_BINDING);
        reader_end(reader);
    }
}

static void figures_are_what_the_rows_say(void **state)
{
    struct world *world = *state;
    check_all(world); /* of nothing */
    add_live_runs(world);
    for (unsigned round = 0; round < 3; round++) {
        add_rows(world, round == 0 ? 30 : ROWS_MOST / 3);
        check_all(world);
        change_rows(world);
        check_all(world);
    }
    fixture_close(&world->fixture);
    fixture_must_open(&world->fixture);
    check_all(world);
}

static void the_percentile_is_the_nearest_rank(void **state)
{
    (void)state;
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct tally tally = { 0 };
    assert_int_equal(tally_p95(&tally), 0);
    for (int64_t n = 1; n <= 400; n++) {
        tally_add(&tally, &arena, n, 1);
        assert_int_equal(tally_p95(&tally), (95 * n + 99) / 100); /* agent-runs.md 8: of 20 the 19th, of 1 the only one */
    }
    tally_done(&tally);
    tally_add(&tally, &arena, 7, 19);
    tally_add(&tally, &arena, 9, 1);
    assert_int_equal(tally_p95(&tally), 7);
    tally_add(&tally, &arena, INT64_C(1) << 40, 1);
    assert_int_equal(tally_p95(&tally), 9);
    assert_int_equal(tally.n, 21);
    assert_int_equal(tally.sum, 7 * 19 + 9 + (INT64_C(1) << 40));
    tally_done(&tally);
}

static void no_server(void **state)
{
    skip(); /* ./dev test starts one */
}

int main(void)
{
    const struct CMUnitTest sqlite[] = {
        cmocka_unit_test(the_percentile_is_the_nearest_rank),
        cmocka_unit_test_setup_teardown(figures_are_what_the_rows_say, set_up_sqlite, tear_down),
    };
    const struct CMUnitTest pg[] = {
        { "figures_are_what_the_rows_say (pg)", figures_are_what_the_rows_say, set_up_pg, tear_down, NULL },
    };
    const struct CMUnitTest none[] = { { "on PostgreSQL", no_server, NULL, NULL, NULL } };
    int failed = cmocka_run_group_tests(sqlite, NULL, NULL);
    failed += fixture_has(&db_pg) ? cmocka_run_group_tests(pg, NULL, NULL) : cmocka_run_group_tests(none, NULL, NULL);
    return failed;
}
