/* SPDX-License-Identifier: Apache-2.0 */
/* test_cron.c - what crons do about minutes that passed while nobody was there.
 *
 * A cron is put into the store as if its last minute were an hour ago, the engine is opened, and the runs are counted. The minutes
 * of its schedule are all in the past hour, and come again in three quarters of an hour at the earliest. */
#include "support/engine_rig.h"
#include "unit/unit.h"
#include <stdlib.h>

static const char echo[] = "{\"format\":1,\"entry\":\"a\",\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.echo\","
                           "\"capability_version\":\"1\",\"execution_binding\":\"builtin\"}]}";

struct world {
    struct rig      rig;
    struct cron_row cron;
    struct arena    arena;
    int64_t         now_ms, latest_ms;
};

static void set_up(struct world *w, const char *more)
{
    struct error error;
    *w = (struct world){ .latest_ms = 0 };
    rig_init(&w->rig, NULL);
    assert_int_equal(rig_open(&w->rig, &error), ERR_OK);
    char agent[UUID_TEXT];
    struct uuid id = rig_agent(&w->rig, "echo", echo);
    uuid_format(id, agent);
    w->now_ms = engine_now_ms(w->rig.engine);
    int64_t minute = w->now_ms / 60000;
    w->latest_ms = (minute - 4) * 60000;
    w->cron = (struct cron_row){ .workspace = w->rig.workspace, .tenant = w->rig.tenant, .id = engine_mint(w->rig.engine), .agent = id,
                                 .due_ms = w->now_ms - 3600000, .revision = 1, .created_ms = w->now_ms };
    w->cron.config = arena_printf(&w->arena, "{\"agent_id\":\"%.*s\",\"schedule\":\"%d,%d,%d * * * *\"%s}", UUID_TEXT, agent,
                                  (int)((minute - 4) % 60), (int)((minute - 7) % 60), (int)((minute - 12) % 60), more);
    batch_put(engine_batch(w->rig.engine), TABLE_cron, &w->cron);
}

static void tear_down(struct world *w)
{
    arena_done(&w->arena);
    rig_done(&w->rig);
}

static bool never(void *user)
{
    return false;
}

/* Another life of the process, long enough for a timer that is due at once. */
static void live_again(struct world *w)
{
    struct error error;
    rig_close(&w->rig);
    assert_int_equal(rig_open(&w->rig, &error), ERR_OK);
    rig_run(&w->rig, never, NULL, 0.3);
}

static int64_t count_runs(struct world *w)
{
    struct reader *reader = store_reader(w->rig.store);
    struct query   query = { .table = TABLE_run, .eq_count = 1 };
    int64_t        count = -1;
    query.eq[0].column = "source";
    query.eq[0].i64 = SOURCE_CRON;
    assert_int_equal(reader_begin(reader, &w->arena), ERR_OK);
    assert_int_equal(reader_count(reader, &query, &count), ERR_OK);
    assert_int_equal(reader_get(reader, TABLE_cron, &w->cron), ERR_OK);
    reader_end(reader);
    return count;
}

static void of_the_missed_minutes_the_latest_runs(void **state)
{
    struct world w;
    set_up(&w, "");
    live_again(&w);
    assert_int_equal(count_runs(&w), 1);
    assert_true(w.cron.last_ms == w.latest_ms && w.cron.due_ms == w.latest_ms && !uuid_is_nil(w.cron.last_run));
    live_again(&w);
    assert_int_equal(count_runs(&w), 1);
    tear_down(&w);
}

/* The key of the minute, and not the row, is what makes it one. */
static void a_minute_runs_once_even_when_its_row_forgot(void **state)
{
    struct world w;
    set_up(&w, "");
    live_again(&w);
    assert_int_equal(count_runs(&w), 1);
    w.cron.due_ms = w.now_ms - 3600000;
    batch_put(engine_batch(w.rig.engine), TABLE_cron, &w.cron);
    live_again(&w);
    assert_int_equal(count_runs(&w), 1);
    assert_true(w.cron.due_ms == w.latest_ms);
    tear_down(&w);
}

static void what_ended_or_is_disabled_missed_nothing(void **state)
{
    static const char *const more[] = { ",\"enabled\":false", ",\"end_time\":\"2001-01-01\"", ",\"timezone\":\"No/Where\"" };
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        struct world w;
        set_up(&w, more[i]);
        live_again(&w);
        assert_int_equal(count_runs(&w), 0);
        tear_down(&w);
    }
}

static void what_cannot_run_says_why(void **state)
{
    struct world w;
    set_up(&w, "");
    struct agent *agent = catalog_agent(w.rig.engine, w.rig.workspace, w.cron.agent);
    struct agent_row row = agent->row;
    row.archived_ms = w.now_ms;
    catalog_put_agent(w.rig.engine, &row);
    live_again(&w);
    assert_int_equal(count_runs(&w), 0);
    assert_true(w.cron.due_ms == w.latest_ms && w.cron.last_ms == 0 && w.cron.error.n > 0);
    tear_down(&w);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_the_missed_minutes_the_latest_runs), cmocka_unit_test(a_minute_runs_once_even_when_its_row_forgot),
        cmocka_unit_test(what_ended_or_is_disabled_missed_nothing), cmocka_unit_test(what_cannot_run_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
