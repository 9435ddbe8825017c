/* SPDX-License-Identifier: Apache-2.0 */
/* test_machine_faults.c - as test_engine_faults.c, under runs that call tools, an agent, a workflow with a fan-out, and a team.
 *
 * Each commit, and each call of the storage thread, fails once, and once more as "reported failed, yet happened". No tool is ever
 * sent whose intent is not on disk, with its key; none that must not be sent twice is; afterwards every run that was acknowledged
 * ends well, when a person tells what came of the calls that nobody knows. */
#include "agent/agent.h"
#include "support/engine_rig.h"
#include "team/team.h"
#include "unit/unit.h"
#include "workflow/graph.h"
#include <stdio.h>
#include <stdlib.h>

#define SCRIPT(more) "{\"chunk\":3,\"interval_ms\":2," more "}"
#define CALL(name, tool, rest) \
    "{\"node\":\"" name "\",\"capability_ref\":\"tool.call\",\"capability_version\":\"1\",\"execution_binding\":\"tool\"," \
    "\"config\":{\"tool\":\"" tool "\",\"arguments\":{\"n\":1}},\"next\":" rest "}"

static const char *const definitions[] = {
    "{\"format\":1,\"entry\":\"a\",\"nodes\":[" CALL("a", "pay", "\"b\"") "," CALL("b", "look", "null") "]}",
    "{\"format\":1,\"agent\":{\"model\":{\"provider\":\"scripted\",\"model\":\"m\",\"script\":{\"turns\":["
    SCRIPT("\"tool_calls\":[{\"name\":\"look\",\"arguments\":{}},{\"name\":\"pay\",\"arguments\":{}}]") ","
    SCRIPT("\"text\":\"Paid.\"") "]}},\"tools\":[{\"name\":\"look\",\"repeat_safe\":true},{\"name\":\"pay\"}]}}",
    "{\"format\":1,\"workflow\":{\"kind\":\"workflow.v1\",\"nodes\":[{\"id\":\"fan\",\"type\":\"map.fanout\",\"input\":{"
    "\"items\":{\"from_input\":\"list\"},\"max_parallelism\":2,\"item_bindings\":[{\"to_placeholder\":\"item\"}],"
    "\"subnode\":{\"id\":\"sub\",\"type\":\"llm.responses\",\"input\":{\"request\":{\"model\":\"scripted/m\",\"script\":"
    SCRIPT("\"text\":\"Yes.\"") ",\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"{{item}}\"}]}"
    "]}}}}}],\"outputs\":[{\"name\":\"all\",\"from\":\"fan\",\"pointer\":\"/results\"}]}}",
    "{\"format\":1,\"team\":{\"model\":{\"provider\":\"scripted\",\"model\":\"m\",\"stream\":true,\"script\":" SCRIPT("\"text\":\"Agreed.\"") "},"
    "\"protocol\":\"broadcast\",\"agents\":[{\"id\":\"a\",\"role\":\"r\"},{\"id\":\"b\",\"role\":\"s\"}]}}",
};
static const char *const inputs[] = { "{}", "{\"text\":\"pay\"}", "{\"list\":[\"1\",\"2\",\"3\"]}", "{\"intent\":\"agree\"}" };
enum { RUNS = ARRAY_LEN(definitions), KEYS = 16 };
static const struct machine_ops *const machines[] = { &graph_ops, &agent_ops, &team_ops, NULL };

/* One run, and what was promised about it. */
struct promise {
    struct rig *rig;
    struct uuid id;
    bool        answered, acked;
};

struct tools {
    struct world     *world;
    struct tool_call *calls;
    unsigned          keys, sent[KEYS];
    char              key[KEYS][UUID_TEXT];
};

struct world {
    struct rig     rig;
    struct tools   tools;
    struct promise runs[RUNS];
};

struct tool_call {
    struct tool_call *next;
    struct tools     *tools;
    struct loop_timer timer;
    struct span       result;
    void (*on_end)(void *user, enum err err, struct span result, bool sent);
    void *user;
};

/* ---- what is on disk ---- */

struct looking {
    char  key[UUID_TEXT];
    bool  found;
};

static bool look_in_frame(void *user, const struct frame *frame)
{
    struct looking     *l = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record))
        l->found |= record.type == REC_TOOL_STARTED &&
                    (memmem(record.pub.p, record.pub.n, l->key, UUID_TEXT) || memmem(record.priv.p, record.priv.n, l->key, UUID_TEXT));
    return !reader.in.bad;
}

static bool intent_is_on_disk(struct world *w, struct span key)
{
    struct looking l = { .found = false };
    struct reader *reader = store_reader(w->rig.store);
    memcpy(l.key, key.p, UUID_TEXT);
    for (int i = 0; i < RUNS && !l.found; i++) {
        struct arena   arena = { 0 };
        struct run_row row;
        if (!run_row_get(w->rig.engine, w->rig.workspace, w->runs[i].id, &arena, &row)) {
            arena_reset(&arena);
            assert_int_equal(reader_begin(reader, &arena), ERR_OK);
            assert_int_equal(reader_frames(reader, (uint64_t)row.stream, 0, SIZE_MAX, look_in_frame, &l), ERR_OK);
            reader_end(reader);
        }
        arena_done(&arena);
    }
    return l.found;
}

/* ---- the registry: "look" may be sent again, "pay" may not ---- */

static void unlink_call(struct tool_call *call)
{
    struct tool_call **p = &call->tools->calls;
    while (*p != call)
        p = &(*p)->next;
    *p = call->next;
    loop_timer_clear(&call->timer);
}

static void fire(struct loop_timer *timer)
{
    struct tool_call *call = CONTAINER(timer, struct tool_call, timer);
    unlink_call(call);
    call->on_end(call->user, ERR_OK, call->result, true);
    free(call);
}

static struct tool_call *call_new(struct tools *tools, const char *result, void (*on_end)(void *, enum err, struct span, bool), void *user)
{
    struct loop      *loop = tools->world->rig.loop;
    struct tool_call *call = mem_alloc(sizeof *call);
    *call = (struct tool_call){ .next = tools->calls, .tools = tools, .result = span_of(result), .on_end = on_end, .user = user };
    tools->calls = call;
    loop_timer_init(&call->timer, loop, fire);
    loop_timer_set(&call->timer, loop_now_us(loop) + 300);
    return call;
}

static enum err start(struct tools *tools, const struct tool_call_config *config, struct tool_call **ret, struct error *error)
{
    (void)error;
    unsigned i = 0;
    assert_int_equal(config->key.n, UUID_TEXT);
    assert_true(intent_is_on_disk(tools->world, config->key));
    while (i < tools->keys && memcmp(tools->key[i], config->key.p, UUID_TEXT) != 0)
        i++;
    if (i == tools->keys) {
        assert_true(tools->keys < KEYS);
        memcpy(tools->key[tools->keys++], config->key.p, UUID_TEXT);
    }
    tools->sent[i]++;
    assert_true(tools->sent[i] == 1 || span_is(config->tool, "look"));
    *ret = call_new(tools, "{\"ok\":1}", config->on_end, config->user);
    return ERR_OK;
}

static enum err list(struct tools *tools, struct span names, void (*on_end)(void *, enum err, struct span, bool), void *user,
                     struct tool_call **ret, struct error *error)
{
    (void)names;
    (void)error;
    *ret = call_new(tools, "{\"tools\":[{\"name\":\"look\",\"repeat_safe\":true,\"input_schema\":{}},"
                           "{\"name\":\"pay\",\"repeat_safe\":false,\"input_schema\":{}}]}", on_end, user);
    return ERR_OK;
}

static void cancel(struct tool_call *call)
{
    unlink_call(call);
    free(call);
}

static bool repeat_safe(const struct tools *tools, struct span name)
{
    (void)tools;
    return span_is(name, "look");
}

/* ---- the runs ---- */

static void created(void *arg, enum err err)
{
    struct promise *p = arg;
    p->answered = true;
    p->acked = !err;
}

static void create(struct world *w, struct promise *p, struct uuid agent, const char *input)
{
    struct run_spec spec = { .tenant = w->rig.tenant, .workspace = w->rig.workspace, .agent = agent, .input = span_of(input) };
    struct run_row  row;
    struct error    error = { 0 };
    p->rig = &w->rig;
    if (run_create(w->rig.engine, &spec, &row, &error)) {
        assert_int_equal(error.code, ERR_STORAGE);
        p->answered = true;
        return;
    }
    p->id = row.id;
    engine_after(w->rig.engine, created, p);
}

/* What came of a payment that nobody knows is told. */
static void decide(struct world *w, const struct run_row *row)
{
    struct arena       arena = { 0 };
    struct wait_answer answer = { .workspace = w->rig.workspace, .wait = row->wait, .input = SPAN("{\"result\":{\"ok\":1}}"), .by = SPAN("ann") };
    struct wait_row    wait;
    struct run_row     after;
    struct issues      issues = { .arena = &arena };
    struct error       error = { 0 };
    (void)wait_decide(w->rig.engine, &answer, &wait, &after, &issues, &error); /* fails when storage does */
    arena_done(&arena);
}

static bool run_is_over(struct world *w, const struct promise *p)
{
    struct arena   arena = { 0 };
    struct run_row row;
    bool           over = false;
    if (!run_row_get(w->rig.engine, w->rig.workspace, p->id, &arena, &row)) {
        if (row.status == RUN_WAITING)
            decide(w, &row);
        over = row.status == RUN_COMPLETED;
        if (run_terminal((enum run_status)row.status) && !over)
            fail_msg("run %d failed: %.*s", (int)(p - w->runs), SPAN_ARG(row.error));
    }
    arena_done(&arena);
    return over;
}

static bool has_failed(void *user)
{
    return store_failed(((struct world *)user)->rig.store);
}

static bool runs_ended(void *user)
{
    struct world *w = user;
    bool          ended = true;
    for (int i = 0; i < RUNS; i++)
        ended &= w->runs[i].answered && (!w->runs[i].acked || run_is_over(w, &w->runs[i]));
    return ended;
}

static bool ended_or_failed(void *user)
{
    return has_failed(user) || runs_ended(user);
}

static void open_rig(struct world *w)
{
    struct error error = { 0 };
    w->rig.tools = (struct engine_tools){ .tools = &w->tools, .start = start, .list = list, .cancel = cancel, .repeat_safe = repeat_safe };
    w->rig.machines = machines;
    assert_int_equal(rig_open(&w->rig, &error), ERR_OK);
    assert_null(w->tools.calls);
}

/* Returns true when the workload got through without the fault. */
static bool one_round(enum db_fault_kind kind, bool only_commits, unsigned long nth)
{
    struct db_fault *fault = db_fault_new(&db_sqlite);
    struct world     w = { .tools = { .keys = 0 } };
    struct uuid      agents[RUNS];
    w.tools.world = &w;
    rig_init(&w.rig, db_fault_driver(fault));
    open_rig(&w);
    for (int i = 0; i < RUNS; i++)
        agents[i] = rig_agent(&w.rig, "a", definitions[i]);
    db_fault_arm(fault, kind, only_commits, nth);
    for (int i = 0; i < RUNS; i++)
        create(&w, &w.runs[i], agents[i], inputs[i]);
    assert_true(rig_run(&w.rig, ended_or_failed, &w, 20));
    bool fired = db_fault_fired(fault);
    assert_true(!fired || rig_run(&w.rig, has_failed, &w, 5));
    fired = store_failed(w.rig.store);
    rig_close(&w.rig);
    db_fault_arm(fault, DB_FAULT_NONE, false, 0);
    w.rig.driver = NULL;
    open_rig(&w);
    for (int i = 0; i < RUNS; i++)
        w.runs[i].answered = true;
    assert_true(rig_run(&w.rig, runs_ended, &w, 20));
    assert_true(fired || w.tools.keys == 4);
    rig_done(&w.rig);
    db_fault_free(fault);
    return !fired;
}

static void every_commit_fails_once(void **state)
{
    (void)state;
    unsigned long nth = 0;
    while (!one_round(DB_FAULT_FAILS, true, nth))
        nth++;
    assert_true(nth > 5); /* a tool call alone takes so many */
}

static void every_commit_fails_and_yet_happens(void **state)
{
    (void)state;
    unsigned long nth = 0;
    while (!one_round(DB_FAULT_HAPPENED, true, nth))
        nth++;
    assert_true(nth > 5); /* a tool call alone takes so many */
}

static void calls_of_the_store_fail_once(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        unsigned long nth = 0;
        while (!one_round(kind ? DB_FAULT_HAPPENED : DB_FAULT_FAILS, false, nth))
            nth += 1 + nth / 8; /* ever larger strides: the calls repeat themselves */
        assert_true(nth > 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_commit_fails_once),
        cmocka_unit_test(every_commit_fails_and_yet_happens),
        cmocka_unit_test(calls_of_the_store_fail_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
