/* SPDX-License-Identifier: Apache-2.0 */
/* test_tools.c - tool calls of runs against a registry that the test scripts: what is sent, with which key, how often.
 *
 * A tool is never sent twice unless it may be, an outcome that is not known is decided by a person, a receipt is used by a later
 * attempt, clients answer in parts, and a strict replay sends nothing. Each story is told once in one life of the engine and once
 * with a restart at every event. */
#include "support/engine_rig.h"
#include "unit/unit.h"
#include <stdio.h>
#include <stdlib.h>

#define NODE(name, ref, binding, config, rest) \
    "{\"node\":\"" name "\",\"capability_ref\":\"" ref "\",\"capability_version\":\"1\",\"execution_binding\":\"" binding "\"," \
    "\"config\":" config ",\"next\":" rest "}"
#define CORE(name, ref, config, rest) NODE(name, ref, "builtin", config, rest)
#define TOOL(name, tool, rest)        NODE(name, "tool.call", "tool", "{\"tool\":\"" tool "\",\"arguments\":{\"n\":1}}", rest)
#define CLIENT(name, tool, more, rest) \
    NODE(name, "tool.call", "tool", "{\"tool\":\"" tool "\",\"by\":\"client\",\"arguments\":{\"n\":1}" more "}", rest)
#define GRAPH(entry, policy, nodes) "{\"format\":1,\"entry\":\"" entry "\"" policy ",\"nodes\":[" nodes "]}"

/* ---- the registry: "safe.*" may be called again; "*.slow" ends when the test says so, "*.bad" fails ---- */

struct tools {
    struct rig       *rig;
    struct tool_call *calls;
    unsigned          sent, lists;
    char              keys[32][UUID_TEXT];
    bool              hold; /* nothing ends until it is false */
};

struct tool_call {
    struct tool_call *next;
    struct tools     *tools;
    struct loop_timer timer;
    bool              bad, listed;
    void (*on_end)(void *user, enum err err, struct span result, bool sent);
    void *user;
};

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
    if (call->tools->hold) {
        loop_timer_set(timer, loop_now_us(call->tools->rig->loop) + 500);
        return;
    }
    unlink_call(call);
    if (call->bad)
        call->on_end(call->user, ERR_TOOL, SPAN("{\"code\":\"broken\",\"category\":\"tool\",\"message\":\"m\",\"retryable\":true,"
                                                "\"source\":\"tool\"}"), true);
    else
        call->on_end(call->user, ERR_OK, call->listed ? SPAN("{\"tools\":[]}") : SPAN("{\"ok\":1}"), true);
    free(call);
}

static bool ends_in(struct span s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

static struct tool_call *call_new(struct tools *tools, void (*on_end)(void *, enum err, struct span, bool), void *user)
{
    struct tool_call *call = mem_alloc(sizeof *call);
    *call = (struct tool_call){ .next = tools->calls, .tools = tools, .on_end = on_end, .user = user };
    tools->calls = call;
    loop_timer_init(&call->timer, tools->rig->loop, fire);
    loop_timer_set(&call->timer, loop_now_us(tools->rig->loop) + 300);
    return call;
}

static enum err start(struct tools *tools, const struct tool_call_config *config, struct tool_call **ret, struct error *error)
{
    if (span_is(config->tool, "nobody"))
        return error_set(error, ERR_TOOL, "", "there is no tool nobody");
    assert_true(tools->sent < ARRAY_LEN(tools->keys) && config->key.n == UUID_TEXT);
    memcpy(tools->keys[tools->sent++], config->key.p, UUID_TEXT);
    *ret = call_new(tools, config->on_end, config->user);
    (*ret)->bad = ends_in(config->tool, ".bad");
    return ERR_OK;
}

static enum err list(struct tools *tools, struct span names, void (*on_end)(void *, enum err, struct span, bool), void *user,
                     struct tool_call **ret, struct error *error)
{
    (void)names;
    (void)error;
    tools->lists++;
    *ret = call_new(tools, on_end, user);
    (*ret)->listed = true;
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
    return name.n > 5 && memcmp(name.p, "safe.", 5) == 0;
}

/* ---- the world ---- */

struct world {
    struct rig     rig;
    struct tools   tools;
    struct uuid    id;
    struct run_row row;
    struct arena   arena;
    int64_t        stop_at; /* until so many events are on disk; 0: until it rests or ends */
    unsigned       want_sent;
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

static bool ended(void *user)
{
    read_row(user);
    return run_terminal((enum run_status)((struct world *)user)->row.status);
}

static bool sent_so_many(void *user)
{
    struct world *w = user;
    return w->tools.sent >= w->want_sent;
}

static void until(struct world *w, bool (*what)(void *))
{
    bool done = rig_run(&w->rig, what, w, 10);
    if (!done) {
        struct buf text = { 0 };
        rig_events(&w->rig, (uint64_t)w->row.stream, &text);
        fprintf(stderr, "stuck in status %d behind: %.*s\n", (int)w->row.status, (int)text.len, text.p);
        buf_done(&text);
    }
    assert_true(done);
}

static void open_rig(struct world *w)
{
    struct error error = { 0 };
    w->tools.rig = &w->rig;
    w->rig.tools = (struct engine_tools){ .tools = &w->tools, .start = start, .list = list, .cancel = cancel, .repeat_safe = repeat_safe };
    assert_int_equal(rig_open(&w->rig, &error), ERR_OK);
}

static void begin(struct world *w, const char *definition)
{
    *w = (struct world){ .want_sent = 0 };
    rig_init(&w->rig, NULL);
    open_rig(w);
    struct run_spec spec = { .tenant = w->rig.tenant, .workspace = w->rig.workspace, .agent = rig_agent(&w->rig, "a", definition),
                             .input = SPAN("{\"x\":1}") };
    struct run_row row;
    assert_int_equal(run_create(w->rig.engine, &spec, &row, NULL), ERR_OK);
    w->id = row.id;
}

static void restart(struct world *w)
{
    rig_close(&w->rig);
    assert_null(w->tools.calls);
    open_rig(w);
}

static void end(struct world *w)
{
    arena_done(&w->arena);
    rig_done(&w->rig);
}

static void assert_events(struct world *w, const char *expected)
{
    struct buf text = { 0 };
    rig_events(&w->rig, (uint64_t)w->row.stream, &text);
    buf_byte(&text, '\0');
    assert_string_equal(text.p, expected);
    buf_done(&text);
}

static enum err decide(struct world *w, const char *input, bool reject)
{
    struct wait_answer answer = { .workspace = w->rig.workspace, .wait = w->row.wait, .input = span_of(input), .by = SPAN("ann"),
                                  .reject = reject };
    struct wait_row wait;
    struct run_row  row;
    struct issues   issues = { .arena = &w->arena };
    struct error    error = { 0 };
    return wait_decide(w->rig.engine, &answer, &wait, &row, &issues, &error);
}

#define CALLED "RUN_STARTED NODE_STARTED TOOL_CALL_STARTED"
#define ENDED  "TOOL_CALL_FINISHED NODE_FINISHED CHECKPOINT_CREATED CHECKPOINT_CREATED RUN_FINISHED"
#define ASKED  "RUN_RECOVERED HUMAN_PROMPT NODE_WAITING"

/* ---- the server's tools ---- */

static void a_call_is_recorded_before_and_after_it_is_made(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", TOOL("a", "pay", "null")));
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_int_equal(w.tools.sent, 1);
    assert_memory_equal(w.row.output.p, "{\"ok\":1}", w.row.output.n);
    assert_events(&w, CALLED " " ENDED);
    end(&w);
}

static void a_tool_that_nobody_has_fails_its_node(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", TOOL("a", "nobody", "null")));
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_events(&w, CALLED " TOOL_CALL_FAILED NODE_FAILED RUN_FAILED");
    end(&w);
}

static void a_safe_tool_is_sent_again_with_the_same_key(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", TOOL("a", "safe.look", "null")));
    w.tools.hold = true;
    for (w.want_sent = 1; w.want_sent < 4; w.want_sent++) {
        until(&w, sent_so_many);
        restart(&w);
    }
    w.tools.hold = false;
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_int_equal(w.tools.sent, 4);
    for (unsigned i = 1; i < 4; i++)
        assert_memory_equal(w.tools.keys[0], w.tools.keys[i], UUID_TEXT);
    end(&w);
}

/* Sends, dies, and comes back: a person is asked. */
static void lose_outcome(struct world *w)
{
    begin(w, GRAPH("a", "", TOOL("a", "pay", "null")));
    w->tools.hold = true;
    w->want_sent = 1;
    until(w, sent_so_many);
    restart(w);
    w->tools.hold = false;
    until(w, rests);
    assert_int_equal(w->row.status, RUN_WAITING);
    assert_int_equal(w->row.mask, MASK_PERSON);
    assert_int_equal(w->tools.sent, 1);
    assert_events(w, CALLED " " ASKED);
}

static void an_unknown_outcome_is_asked_for_and_given(void **state)
{
    (void)state;
    struct world w;
    lose_outcome(&w);
    restart(&w);
    assert_int_equal(decide(&w, "\"maybe\"", false), ERR_VALIDATION);
    assert_int_equal(decide(&w, "{\"result\":{\"paid\":7}}", false), ERR_OK);
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_int_equal(w.tools.sent, 1);
    assert_memory_equal(w.row.output.p, "{\"paid\":7}", w.row.output.n);
    assert_events(&w, CALLED " " ASKED " RUN_RESUMED " ENDED);
    end(&w);
}

static void an_unknown_outcome_is_declared_a_failure(void **state)
{
    (void)state;
    for (int rejected = 0; rejected < 2; rejected++) {
        struct world w;
        lose_outcome(&w);
        assert_int_equal(decide(&w, rejected ? "{\"approved\":false}" : "\"failed\"", rejected), ERR_OK);
        until(&w, ended);
        assert_int_equal(w.row.status, RUN_FAILED);
        assert_int_equal(w.tools.sent, 1);
        end(&w);
    }
}

static void an_unknown_call_is_repeated_on_demand_and_unknown_again_after_the_next_crash(void **state)
{
    (void)state;
    struct world w;
    lose_outcome(&w);
    w.tools.hold = true;
    assert_int_equal(decide(&w, "\"repeat\"", false), ERR_OK);
    w.want_sent = 2;
    until(&w, sent_so_many);
    assert_memory_equal(w.tools.keys[0], w.tools.keys[1], UUID_TEXT);
    restart(&w);
    until(&w, rests);
    assert_int_equal(w.row.status, RUN_WAITING);
    assert_int_equal(w.tools.sent, 2);
    w.tools.hold = false;
    assert_int_equal(decide(&w, "\"repeat\"", false), ERR_OK);
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_int_equal(w.tools.sent, 3);
    end(&w);
}

/* Beside a call in flight a node fails for the first time: the next attempt calls with the same key. */
static void a_later_attempt_sends_no_tool_twice_that_must_not_be(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("f", ",\"policy\":{\"max_attempts\":2}", CORE("f", "core.echo", "{}", "[\"a\",\"z\"]") "," TOOL("a", "pay", "null") ","
      CORE("z", "core.sleep", "{\"ms\":500}", "\"zz\"") ","
      CORE("zz", "core.fail", "{\"code\":\"once\",\"category\":\"tool\",\"message\":\"m\",\"retryable\":true,\"fail_times\":1}", "null")));
    w.tools.hold = true;
    until(&w, rests);
    assert_int_equal(w.row.status, RUN_WAITING);
    assert_int_equal(w.row.attempt_no, 2);
    assert_int_equal(w.tools.sent, 1);
    restart(&w);
    until(&w, rests);
    assert_int_equal(w.row.status, RUN_WAITING);
    w.tools.hold = false;
    assert_int_equal(decide(&w, "\"repeat\"", false), ERR_OK);
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_int_equal(w.tools.sent, 2);
    assert_memory_equal(w.tools.keys[0], w.tools.keys[1], UUID_TEXT);
    end(&w);
}

/* A node's tries, and a loop that comes by again. */
static void a_try_has_the_same_key_and_the_next_round_another(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", "{\"node\":\"a\",\"capability_ref\":\"tool.call\",\"capability_version\":\"1\",\"execution_binding\":\"tool\","
      "\"policy\":{\"max_tries\":2,\"backoff_ms\":1},\"config\":{\"tool\":\"safe.bad\"},\"next\":null}"));
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_int_equal(w.tools.sent, 2);
    assert_memory_equal(w.tools.keys[0], w.tools.keys[1], UUID_TEXT);
    end(&w);
    begin(&w, GRAPH("a", "", TOOL("a", "pay", "\"g\"") "," NODE("g", "core.human", "human", "{\"prompt\":\"again?\"}", "\"s\"") ","
      CORE("s", "core.switch", "{\"cases\":[{\"when\":{\"pointer\":\"/nodes/g/output\",\"equals\":1},\"next\":\"a\"},{\"next\":\"e\"}]}",
           "null") "," CORE("e", "core.echo", "{}", "null")));
    until(&w, rests);
    assert_int_equal(decide(&w, "1", false), ERR_OK);
    w.want_sent = 2;
    until(&w, sent_so_many);
    until(&w, rests);
    assert_true(memcmp(w.tools.keys[0], w.tools.keys[1], UUID_TEXT) != 0);
    end(&w);
}

static void a_cancelled_run_cancels_its_call(void **state)
{
    (void)state;
    struct world   w;
    struct run_row row;
    bool           already;
    begin(&w, GRAPH("a", "", TOOL("a", "pay", "null")));
    w.tools.hold = true;
    w.want_sent = 1;
    until(&w, sent_so_many);
    assert_non_null(w.tools.calls);
    assert_int_equal(run_cancel(w.rig.engine, w.rig.workspace, w.id, SPAN("enough"), SPAN("ann"), &row, &already, NULL), ERR_OK);
    assert_null(w.tools.calls);
    end(&w);
}

/* ---- the client's ---- */

static enum err give(struct world *w, const char *call, const char *tool, const char *output)
{
    struct client_result  item = { .call = span_of(call), .tool = span_of(tool), .output = span_of(output) };
    struct client_results all = { .workspace = w->rig.workspace, .run = w->id, .by = SPAN("client"), .items = &item, .count = 1 };
    struct run_row        row;
    struct error          error = { 0 };
    return run_tool_results(w->rig.engine, &all, &row, &error);
}

struct named {
    char     names[4][64];
    unsigned count;
};

static void add_name(void *user, const struct pending_call *call)
{
    struct named *named = user;
    assert_true(named->count < 4);
    snprintf(named->names[named->count++], 64, "%.*s", SPAN_ARG(call->call));
}

static struct named pending(struct world *w)
{
    struct named   named = { .count = 0 };
    struct run_row row;
    assert_int_equal(run_pending_calls(w->rig.engine, w->rig.workspace, w->id, add_name, &named, &row, NULL), ERR_OK);
    return named;
}

static void a_client_answers_what_is_its_own(void **state)
{
    (void)state;
    for (int restarts = 0; restarts < 2; restarts++) {
        struct world w;
        begin(&w, GRAPH("f", "", CORE("f", "core.echo", "{}", "[\"a\",\"b\"]") "," CLIENT("a", "read", "", "\"j\"") ","
          CLIENT("b", "write", "", "\"j\"") "," CORE("j", "core.value",
          "{\"value\":[{\"$from\":\"/nodes/a/output\"},{\"$from\":\"/nodes/b/output\"}]}", "null")));
        until(&w, rests);
        assert_int_equal(w.row.status, RUN_WAITING);
        assert_int_equal(w.row.mask, MASK_TOOLS);
        assert_string_equal(run_status_ar((enum run_status)w.row.status, (unsigned)w.row.mask), "running");
        if (restarts)
            restart(&w);
        struct named calls = pending(&w);
        assert_int_equal(calls.count, 2);
        assert_int_equal(give(&w, "nothing", "read", "1"), ERR_INVALID_PARAMETER);
        assert_int_equal(give(&w, calls.names[1], "read", "1"), ERR_INVALID_PARAMETER);
        assert_int_equal(give(&w, calls.names[1], "write", "\"w\""), ERR_OK);
        assert_int_equal(give(&w, calls.names[1], "write", "\"w\""), ERR_OK);
        assert_int_equal(give(&w, calls.names[1], "write", "\"x\""), ERR_CONFLICT);
        until(&w, rests);
        assert_int_equal(w.row.status, RUN_WAITING);
        if (restarts)
            restart(&w);
        assert_int_equal(pending(&w).count, 1);
        assert_int_equal(give(&w, calls.names[1], "write", "\"w\""), ERR_OK);
        assert_int_equal(give(&w, calls.names[0], "read", "\"r\""), ERR_OK);
        until(&w, ended);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        assert_memory_equal(w.row.output.p, "[\"r\",\"w\"]", w.row.output.n);
        assert_int_equal(give(&w, calls.names[0], "read", "\"r\""), ERR_OK);
        assert_int_equal(give(&w, calls.names[0], "read", "\"s\""), ERR_CONFLICT);
        assert_int_equal(w.tools.sent, 0);
        end(&w);
    }
}

static void nobody_answers_in_time(void **state)
{
    (void)state;
    for (int restarts = 0; restarts < 2; restarts++) {
        struct world w;
        begin(&w, GRAPH("a", "", CLIENT("a", "read", ",\"wait_ms\":400", "null")));
        until(&w, rests);
        assert_int_equal(w.row.status, RUN_WAITING);
        if (restarts)
            restart(&w);
        until(&w, ended);
        assert_int_equal(w.row.status, RUN_FAILED);
        assert_non_null(memmem(w.row.error.p, w.row.error.n, "tool_wait_expired", 17));
        end(&w);
    }
}

/* ---- the host's own ---- */

#define LOCAL(name, tool, arguments, rest) \
    NODE(name, "tool.call", "tool", "{\"tool\":\"" tool "\",\"by\":\"local\",\"arguments\":" arguments "}", rest)

static void what_is_written_is_read_in_the_same_commit_and_after_a_restart(void **state)
{
    (void)state;
    static const char expected[] = "[{\"found\":true,\"value\":{\"a\":1}},{\"keys\":[\"k/1\",\"k/2\"]},{\"deleted\":true},"
                                   "{\"found\":false},{\"found\":true,\"value\":2}]";
    for (int restarts = 0; restarts < 2; restarts++) {
        struct world w;
        begin(&w, GRAPH("a", "", LOCAL("a", "kv_write", "{\"key\":\"k/1\",\"value\":{\"a\":1}}", "\"b\"") ","
          LOCAL("b", "kv_write", "{\"key\":\"k/2\",\"value\":2,\"ttl_seconds\":60}", "\"h\"") ","
          NODE("h", "core.human", "human", "{\"prompt\":\"?\"}", "\"c\"") "," LOCAL("c", "kv_read", "{\"key\":\"k/1\"}", "\"d\"") ","
          LOCAL("d", "kv_list", "{\"prefix\":\"k/\"}", "\"e\"") "," LOCAL("e", "kv_delete", "{\"key\":\"k/1\"}", "\"f\"") ","
          LOCAL("f", "kv_read", "{\"key\":\"k/1\"}", "\"g\"") "," LOCAL("g", "kv_read", "{\"key\":\"k/2\"}", "\"i\"") ","
          CORE("i", "core.value", "{\"value\":[{\"$from\":\"/nodes/c/output\"},{\"$from\":\"/nodes/d/output\"},"
          "{\"$from\":\"/nodes/e/output\"},{\"$from\":\"/nodes/f/output\"},{\"$from\":\"/nodes/g/output\"}]}", "null")));
        until(&w, rests);
        if (restarts)
            restart(&w);
        assert_int_equal(decide(&w, "1", false), ERR_OK);
        until(&w, ended);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        assert_int_equal(w.row.output.n, sizeof expected - 1);
        assert_memory_equal(w.row.output.p, expected, sizeof expected - 1);
        end(&w);
    }
}

static void wrong_arguments_are_an_answer(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", LOCAL("a", "kv_write", "{\"key\":\"\",\"value\":1}", "null")));
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_non_null(memmem(w.row.error.p, w.row.error.n, "invalid_arguments", 17));
    end(&w);
}

static void a_list_of_tools_is_asked_for_again_after_a_restart(void **state)
{
    (void)state;
    struct world w;
    begin(&w, GRAPH("a", "", LOCAL("a", "tools.list", "{\"tools\":[\"x\"]}", "null")));
    w.tools.hold = true;
    for (int i = 0; i < 2; i++) {
        w.stop_at = 3;
        until(&w, rests);
        restart(&w);
    }
    w.tools.hold = false;
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_memory_equal(w.row.output.p, "{\"tools\":[]}", w.row.output.n);
    end(&w);
}

/* ---- all of it ---- */

static const char mixed[] = GRAPH("a", "", TOOL("a", "safe.one", "\"b\"") "," CORE("b", "core.echo", "{}", "[\"c\",\"d\"]") ","
  TOOL("c", "safe.two", "\"e\"") "," TOOL("d", "safe.three", "\"e\"") "," CORE("e", "core.value", "{\"value\":5}", "null"));

static void a_run_goes_on_wherever_it_was_stopped(void **state)
{
    (void)state;
    for (int64_t at = 1; at < 20; at++) {
        struct world w;
        begin(&w, mixed);
        w.stop_at = at;
        until(&w, rests);
        restart(&w);
        w.stop_at = 0;
        until(&w, ended);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        end(&w);
    }
}

static void a_strict_replay_sends_nothing(void **state)
{
    (void)state;
    struct world w;
    begin(&w, mixed);
    until(&w, ended);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    unsigned sent = w.tools.sent;
    struct replay_spec spec = { .workspace = w.rig.workspace, .run = w.id, .strict = true };
    struct run_row     row;
    struct error       error = { 0 };
    enum err           e = ERR_CHECKPOINT_NOT_FOUND;
    for (uint64_t seq = 1; seq < (uint64_t)w.row.last_seq; seq++) {
        spec.checkpoint = checkpoint_id(w.row.attempt, seq);
        e = run_replay(w.rig.engine, &spec, &row, &error);
        if (e)
            continue;
        struct uuid source = w.id;
        w.id = row.id;
        until(&w, ended);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        w.id = source;
        read_row(&w);
    }
    assert_int_equal(w.tools.sent, sent);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_recorded_before_and_after_it_is_made),
        cmocka_unit_test(a_tool_that_nobody_has_fails_its_node),
        cmocka_unit_test(a_safe_tool_is_sent_again_with_the_same_key),
        cmocka_unit_test(an_unknown_outcome_is_asked_for_and_given),
        cmocka_unit_test(an_unknown_outcome_is_declared_a_failure),
        cmocka_unit_test(an_unknown_call_is_repeated_on_demand_and_unknown_again_after_the_next_crash),
        cmocka_unit_test(a_later_attempt_sends_no_tool_twice_that_must_not_be),
        cmocka_unit_test(a_try_has_the_same_key_and_the_next_round_another),
        cmocka_unit_test(a_cancelled_run_cancels_its_call),
        cmocka_unit_test(a_client_answers_what_is_its_own),
        cmocka_unit_test(nobody_answers_in_time),
        cmocka_unit_test(what_is_written_is_read_in_the_same_commit_and_after_a_restart),
        cmocka_unit_test(wrong_arguments_are_an_answer),
        cmocka_unit_test(a_list_of_tools_is_asked_for_again_after_a_restart),
        cmocka_unit_test(a_run_goes_on_wherever_it_was_stopped),
        cmocka_unit_test(a_strict_replay_sends_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
