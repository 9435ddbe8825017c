/* SPDX-License-Identifier: Apache-2.0 */
/* test_team.c - the team machine by itself: definitions, intents, limits, budgets of the host, a new attempt, answers of both
 * forms; and the pure parts that no vector file covers. */
#include "unit/unit.h"

#include "team/answer.h"
#include "team/decision.h"
#include "team/order.h"
#include "team/result.h"
#include "team/team.h"
#include "team/terminate.h"
#include "team/text.h"
#include "team/tools.h"
#include <stdlib.h>
#include <string.h>

/* ---- a machine with its plan ---- */

struct rig {
    struct plan     plan;
    struct arena    arena, step;
    struct issues   issues;
    struct effects  fx;
    struct machine *m;
    enum err        compiled;
};

static void rig_open(struct rig *r, const char *definition)
{
    *r = (struct rig){ .issues = { .arena = &r->arena }, .fx = { .arena = &r->step } };
    r->compiled = team_ops.compile(json_read(span_of(definition), &r->arena), &r->plan, &r->issues);
    if (r->compiled == ERR_OK)
        assert_int_equal(team_ops.init(&r->plan, &r->arena, &r->m), ERR_OK);
}

static void rig_close(struct rig *r)
{
    free(r->fx.items);
    arena_done(&r->plan.arena);
    arena_done(&r->arena);
    arena_done(&r->step);
}

static void send(struct rig *r, enum input_kind kind, struct op_path op, enum err err, const char *value, uint64_t elapsed_us)
{
    struct input in = { .kind = kind, .op = op, .err = err, .value = span_of(value), .elapsed_us = elapsed_us };
    r->fx.count = 0;
    arena_reset(&r->step);
    assert_int_equal(team_ops.step(r->m, &in, &r->fx), ERR_OK);
}

static void start(struct rig *r, const char *value)
{
    send(r, IN_START, (struct op_path){ 0 }, ERR_OK, value, 0);
}

static struct op_path call(uint32_t number)
{
    return op_sub((struct op_path){ 0 }, OP_PART(OP_MODEL, number));
}

static const struct effect *find(const struct rig *r, enum effect_kind kind, unsigned skip)
{
    for (size_t i = 0; i < r->fx.count; i++)
        if (r->fx.items[i].kind == kind && skip-- == 0)
            return &r->fx.items[i];
    return NULL;
}

static unsigned count(const struct rig *r, enum effect_kind kind)
{
    unsigned n = 0;
    while (find(r, kind, n))
        n++;
    return n;
}

static const struct effect *emitted(const struct rig *r, const char *name)
{
    for (size_t i = 0; i < r->fx.count; i++)
        if (r->fx.items[i].kind == FX_EMIT && span_is(r->fx.items[i].emit.name, name))
            return &r->fx.items[i];
    return NULL;
}

static void is_text(struct span text, const char *expected)
{
    assert_int_equal(text.n, strlen(expected));
    assert_memory_equal(text.p, expected, text.n);
}

#define MODEL "\"model\":{\"provider\":\"p\",\"model\":\"m\",\"stream\":true}"
#define AGENTS "\"agents\":[{\"id\":\"ada\",\"role\":\"lead\"},{\"id\":\"bob\",\"role\":\"reviewer\"}]"
#define START "{\"input\":\"Do it.\",\"values\":{}}"
#define ANSWER(text) "{\"text\":\"" text "\",\"usage\":{\"inputTokens\":1,\"outputTokens\":2,\"totalTokens\":3},\"costUsd\":0.5}"

/* ---- definitions ---- */

static void a_bad_definition_is_an_issue_at_its_place(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL ",\"agents\":[{\"id\":\"a\",\"role\":\"r\"},{\"id\":\"b\",\"role\":\" \"}]}");
    assert_int_equal(r.compiled, ERR_VALIDATION);
    assert_int_equal(r.issues.count, 1);
    is_text(r.issues.items[0].pointer, "/agents/1/role");
    is_text(r.issues.items[0].code, "non-empty-string");
    is_text(r.issues.items[0].message, "Invalid Dogpile configuration at agents[1].role: agent.role is required.");
    rig_close(&r);
}

static void definitions_have_no_functions_but_their_own_forms(void **state)
{
    static const char *const good[] = {
        "{" MODEL "}",
        "{" MODEL ",\"evaluate\":{\"tool\":\"judge\"},\"wrapUpHint\":{\"atIteration\":1,\"inject\":\"hurry\"}}",
    };
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"model\":{\"id\":\"x\"}}",
        "{" MODEL ",\"evaluate\":true}",
        "{" MODEL ",\"wrapUpHint\":{\"atIteration\":1,\"inject\":7}}",
        "{" MODEL ",\"protocol\":{\"kind\":\"broadcast\",\"maxRounds\":100000}}",
    };
    struct rig r;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        rig_open(&r, good[i]);
        assert_int_equal(r.compiled, ERR_OK);
        rig_close(&r);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        rig_open(&r, bad[i]);
        assert_int_equal(r.compiled, ERR_VALIDATION);
        assert_true(r.issues.count > 0);
        rig_close(&r);
    }
}

/* ---- starts and ends ---- */

static void the_intent_comes_as_text_or_as_object_or_with_the_definition(void **state)
{
    static const char *const starts[] = { START, "{\"input\":{\"intent\":\"Do it.\"},\"values\":{}}", "{\"values\":{}}" };
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        struct rig r;
        rig_open(&r, i == 2 ? "{" MODEL ",\"intent\":\"Do it.\"}" : "{" MODEL "}");
        start(&r, starts[i]);
        struct jv request = json_read(find(&r, FX_MODEL, 0)->model.request, &r.arena);
        struct jv user = jv_at(jv_get(request, "messages"), 1);
        assert_true(jv_str_eq(jv_get(user, "content"), "Mission: Do it.\nProvide your contribution."));
        assert_true(find(&r, FX_MODEL, 0)->model.stream);
        rig_close(&r);
    }
}

static void a_blank_intent_fails_the_team(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "}");
    start(&r, "{\"input\":{\"intent\":\" \\u00a0\"},\"values\":{}}");
    struct jv error = json_read(find(&r, FX_FAIL, 0)->fail.error, &r.arena);
    assert_true(jv_str_eq(jv_get(error, "code"), "invalid-configuration"));
    assert_true(jv_str_eq(jv_get(error, "category"), "validation"));
    assert_true(jv_str_eq(jv_get(jv_get(error, "detail"), "received"), "string"));
    assert_int_equal(count(&r, FX_MODEL), 0);
    rig_close(&r);
}

static void parallel_turns_commit_in_agent_order(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS ",\"protocol\":{\"kind\":\"broadcast\",\"maxRounds\":1}}");
    start(&r, START);
    assert_int_equal(count(&r, FX_MODEL), 2);
    send(&r, IN_MODEL, call(1), ERR_OK, ANSWER("second"), 10);
    assert_int_equal(r.fx.count, 0);
    send(&r, IN_MODEL, call(0), ERR_OK, ANSWER("first"), 20);
    struct jv first = json_read(find(&r, FX_EMIT, 0)->emit.value, &r.arena);
    assert_true(jv_str_eq(jv_get(first, "output"), "first"));
    assert_non_null(emitted(&r, "team.broadcast"));
    struct jv output = json_read(find(&r, FX_FINISH, 0)->finish.output, &r.arena);
    assert_true(jv_str_eq(jv_get(output, "output"), "lead:ada => first\nreviewer:bob => second"));
    rig_close(&r);
}

static void a_failed_call_ends_the_team_and_nothing_is_committed(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS ",\"protocol\":\"shared\"}");
    start(&r, START);
    send(&r, IN_MODEL, call(1), ERR_OK, ANSWER("kept"), 10);
    send(&r, IN_MODEL, call(0), ERR_MODEL, "{\"code\":\"rate_limited\"}", 20);
    assert_non_null(find(&r, FX_ABORT, 0));
    is_text(find(&r, FX_FAIL, 0)->fail.error, "{\"code\":\"rate_limited\"}");
    assert_null(emitted(&r, "team.agent-turn"));
    send(&r, IN_MODEL, call(1), ERR_OK, ANSWER("late"), 30);
    assert_int_equal(r.fx.count, 0);
    rig_close(&r);
}

static void the_time_limit_counts_from_the_start_of_the_team(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL ",\"budget\":{\"timeoutMs\":50}}");
    send(&r, IN_START, (struct op_path){ 0 }, ERR_OK, START, 7000);
    assert_int_equal(find(&r, FX_TIMER, 0)->timer.due_us, 57000);
    send(&r, IN_TIMER, find(&r, FX_TIMER, 0)->op, ERR_OK, "null", 57000);
    struct jv error = json_read(find(&r, FX_FAIL, 0)->fail.error, &r.arena);
    assert_true(jv_str_eq(jv_get(error, "message"), "The operation timed out after 50ms."));
    assert_true(jv_bool(jv_get(error, "retryable"), false));
    assert_non_null(find(&r, FX_ABORT, 0));
    rig_close(&r);
}

static void a_budget_of_the_host_ends_the_team_with_what_is_there(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS "}");
    start(&r, START);
    send(&r, IN_MODEL, call(0), ERR_OK, ANSWER("so far"), 10);
    send(&r, IN_MODEL, call(1), ERR_BUDGET, "{\"cap\":\"usd\",\"limit\":1,\"used\":1}", 20);
    struct jv output = json_read(find(&r, FX_FINISH, 0)->finish.output, &r.arena);
    assert_true(jv_str_eq(jv_get(output, "output"), "so far"));
    rig_close(&r);
}

static void a_new_attempt_asks_again_for_what_was_in_flight(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS ",\"protocol\":\"shared\",\"tools\":[{\"identity\":{\"id\":\"t\",\"name\":\"t\"},\"inputSchema\":"
                 "{\"kind\":\"json-schema\",\"schema\":{}}}]}");
    start(&r, START);
    send(&r, IN_MODEL, call(0), ERR_OK, "{\"text\":\"x\",\"toolRequests\":[{\"toolId\":\"t\",\"input\":{\"a\":1}}]}", 10);
    assert_int_equal(count(&r, FX_TOOL), 1);
    struct buf saved = { 0 };
    assert_int_equal(team_ops.save(r.m, &saved), ERR_OK);
    assert_int_equal(team_ops.load(&r.plan, buf_view(&saved), &r.arena, &r.m), ERR_OK);
    send(&r, IN_START, (struct op_path){ 0 }, ERR_OK, START, 20);
    assert_int_equal(count(&r, FX_TOOL), 1);
    assert_int_equal(count(&r, FX_MODEL), 1);
    assert_true(find(&r, FX_MODEL, 0)->op.v[0] == OP_PART(OP_MODEL, 1));
    is_text(find(&r, FX_TOOL, 0)->tool.arguments, "{\"a\":1}");
    is_text(find(&r, FX_TOOL, 0)->tool.call_name, "tool-1");
    assert_null(emitted(&r, "team.role-assignment"));
    buf_done(&saved);
    rig_close(&r);
}

static void a_new_attempt_after_a_failure_keeps_the_answers(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS ",\"protocol\":\"shared\",\"budget\":{\"timeoutMs\":50}}");
    start(&r, START);
    send(&r, IN_MODEL, call(1), ERR_OK, ANSWER("kept"), 10);
    send(&r, IN_MODEL, call(0), ERR_MODEL, "{\"code\":\"rate_limited\"}", 20);
    assert_non_null(find(&r, FX_FAIL, 0));
    send(&r, IN_START, (struct op_path){ 0 }, ERR_OK, START, 90000);
    assert_int_equal(count(&r, FX_MODEL), 1);
    assert_int_equal(find(&r, FX_TIMER, 0)->timer.due_us, 140000);
    send(&r, IN_MODEL, call(0), ERR_OK, ANSWER("again"), 91000);
    struct jv output = json_read(find(&r, FX_FINISH, 0)->finish.output, &r.arena);
    assert_true(jv_str_eq(jv_get(output, "output"), "lead:ada => again\nreviewer:bob => kept"));
    struct buf first = { 0 };
    buf_span(&first, find(&r, FX_FINISH, 0)->finish.output);
    send(&r, IN_START, (struct op_path){ 0 }, ERR_OK, START, 92000);
    assert_int_equal(r.fx.count, 1);
    assert_true(span_eq(find(&r, FX_FINISH, 0)->finish.output, buf_view(&first)));
    buf_done(&first);
    rig_close(&r);
}

static void a_plan_opens_from_its_text_alone(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS "}");
    struct plan again = { .json = r.plan.json };
    assert_int_equal(team_ops.open(&again), ERR_OK);
    assert_memory_equal(again.hash.hex, r.plan.hash.hex, sizeof again.hash.hex);
    assert_int_equal(((const struct team *)again.compiled)->agent_count, 2);
    arena_done(&again.arena);
    struct plan bad = { .json = SPAN("{\"format\":1,\"kind\":\"team\",\"team\":{}}") };
    assert_int_equal(team_ops.open(&bad), ERR_CORRUPT);
    arena_done(&bad.arena);
    rig_close(&r);
}

static void a_damaged_snapshot_is_refused(void **state)
{
    static const char *const damaged[] = {
        "", "[]", "{}",
        "{\"rev\":1,\"life\":\"running\",\"intent\":\"i\",\"start_us\":0,\"phase\":0,\"first_call\":0,\"tool_calls\":0,\"cost\":{},"
        "\"entries\":[{\"agent\":9,\"output\":\"x\"}],\"turns\":[]}",
        "{\"rev\":1,\"life\":\"running\",\"intent\":\"i\",\"start_us\":0,\"phase\":0,\"first_call\":0,\"tool_calls\":0,\"cost\":{},"
        "\"entries\":[],\"turns\":[{\"state\":\"calling\",\"tool\":0,\"number\":0,\"input\":\"a\"},{}]}",
        "{\"rev\":1,\"life\":\"running\",\"intent\":\"i\",\"start_us\":0,\"phase\":0,\"first_call\":0,\"tool_calls\":0,\"cost\":{},"
        "\"entries\":[],\"turns\":[{\"state\":\"done\",\"tool\":0,\"number\":0,\"input\":\"a\"}]}",
        "{\"rev\":2,\"life\":\"new\"}",
    };
    struct rig r;
    rig_open(&r, "{" MODEL "," AGENTS "}");
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++)
        assert_int_equal(team_ops.load(&r.plan, span_of(damaged[i]), &r.arena, &r.m), ERR_CORRUPT);
    rig_close(&r);
}

static void the_evaluator_is_a_tool_and_final_is_written_once(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL ",\"agents\":[{\"id\":\"a\",\"role\":\"r\"}],\"evaluate\":{\"tool\":\"judge\",\"strict\":true}}");
    start(&r, START);
    send(&r, IN_MODEL, call(0), ERR_OK, ANSWER("done"), 10);
    assert_null(emitted(&r, "team.final"));
    const struct effect *fx = find(&r, FX_TOOL, 0);
    is_text(fx->tool.tool, "judge");
    struct jv arguments = json_read(fx->tool.arguments, &r.arena);
    assert_true(jv_str_eq(jv_get(arguments, "output"), "done"));
    assert_true(jv_bool(jv_get(jv_get(arguments, "options"), "strict"), false));
    send(&r, IN_TOOL, fx->op, ERR_OK, "{\"quality\":0.9,\"rationale\":\"ok\"}", 20);
    struct jv final = json_read(emitted(&r, "team.final")->emit.value, &r.arena);
    is_text(jv_raw(jv_get(final, "quality")), "0.9");
    is_text(jv_raw(jv_get(final, "evaluation")), "{\"quality\":0.9,\"rationale\":\"ok\"}");
    assert_non_null(find(&r, FX_FINISH, 0));
    rig_close(&r);
}

static void a_tool_that_nobody_has_is_never_called(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL ",\"agents\":[{\"id\":\"a\",\"role\":\"r\"}]}");
    start(&r, START);
    send(&r, IN_MODEL, call(0), ERR_OK, "{\"text\":\"x\",\"toolRequests\":[{\"toolId\":\"rm\",\"input\":{}}]}", 10);
    assert_int_equal(count(&r, FX_TOOL), 0);
    struct jv event = json_read(emitted(&r, "team.tool-unavailable")->emit.value, &r.arena);
    assert_true(jv_str_eq(jv_get(jv_get(jv_get(event, "outcome"), "error"), "code"), "unavailable"));
    assert_non_null(find(&r, FX_FINISH, 0));
    rig_close(&r);
}

/* ---- answers ---- */

static void a_neutral_answer_becomes_the_contracts(void **state)
{
    struct rig r;
    rig_open(&r, "{" MODEL ",\"tools\":[{\"identity\":{\"id\":\"x.search\",\"name\":\"search\"},\"inputSchema\":{\"kind\":\"json-schema\","
                 "\"schema\":{}}}]}");
    struct jv answer = json_read(SPAN("{\"text\":\"hi\",\"finish_reason\":\"tool_calls\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4,"
                                      "\"total_tokens\":7,\"buckets\":{}},\"cost_usd\":\"0.250\",\"model\":\"m-1\",\"tool_calls\":[{\"id\":\"c1\","
                                      "\"name\":\"search\",\"arguments\":\"{\\\"q\\\":1}\"},{\"id\":\"c2\",\"name\":\"other\",\"arguments\":\"no\"}]}"),
                                 &r.arena);
    is_text(team_answer(r.plan.compiled, answer, &r.arena),
            "{\"costUsd\":0.25,\"finishReason\":\"tool-calls\",\"text\":\"hi\",\"toolRequests\":[{\"input\":{\"q\":1},\"toolCallId\":\"c1\","
            "\"toolId\":\"x.search\"},{\"input\":{},\"toolCallId\":\"c2\",\"toolId\":\"other\"}],\"usage\":{\"inputTokens\":3,\"outputTokens\":4,"
            "\"totalTokens\":7}}");
    rig_close(&r);
}

static void outcome_is(bool ok, const char *value, const char *expected)
{
    struct arena arena = { 0 };
    struct buf   out = { 0 };
    struct jw    w = jw_on(&out);
    team_outcome_receipt(ok, json_read(span_of(value), &arena), &w);
    is_text(buf_view(&out), expected);
    buf_done(&out);
    arena_done(&arena);
}

static void receipts_of_a_host_become_outcomes(void **state)
{
    outcome_is(true, "[1]", "{\"type\":\"success\",\"output\":[1]}");
    outcome_is(false, "{\"code\":\"tool_timeout\",\"category\":\"timeout\",\"message\":\"late\",\"retryable\":true}",
               "{\"type\":\"error\",\"error\":{\"code\":\"timeout\",\"message\":\"late\",\"retryable\":true,\"detail\":{\"code\":\"tool_timeout\"}}}");
    outcome_is(false, "{\"code\":\"invalid_arguments\",\"message\":\"no\"}",
               "{\"type\":\"error\",\"error\":{\"code\":\"invalid-input\",\"message\":\"no\",\"retryable\":false,"
               "\"detail\":{\"code\":\"invalid_arguments\"}}}");
}

/* ---- a trace without the call that failed ---- */

static void a_call_that_was_made_again_leaves_no_chunks(void **state)
{
    struct rig        r;
    struct team_trace trace;
    rig_open(&r, "{" MODEL "}");
    team_trace_init(&trace, r.plan.compiled, SPAN("run"), SPAN("i"), &r.arena);
    struct span labels = SPAN("{\"agent_id\":\"a\",\"role\":\"r\"}");
    struct span request = SPAN("{\"messages\":[{\"role\":\"user\",\"content\":\"in\"}],\"temperature\":0,\"metadata\":{}}");
    team_trace_call(&trace, 0, request, labels, 0);
    team_trace_chunk(&trace, 0, SPAN("lost"), 1);
    team_trace_call_failed(&trace, 0);
    team_trace_call(&trace, 0, request, labels, 2);
    team_trace_chunk(&trace, 0, SPAN("a"), 3);
    team_trace_chunk(&trace, 0, SPAN("b"), 4);
    assert_int_equal(trace.event_count, 2);
    is_text(trace.events[1].json, "{\"agentId\":\"a\",\"at\":\"1970-01-01T00:00:00.004Z\",\"chunkIndex\":1,\"input\":\"in\",\"output\":\"ab\","
                                  "\"role\":\"r\",\"runId\":\"run\",\"text\":\"b\",\"type\":\"model-output-chunk\"}");
    rig_close(&r);
}

/* ---- small things ---- */

static void hint_is(const char *caps, double iteration, double elapsed_ms, const char *expected)
{
    struct arena     arena = { 0 };
    struct buf       out = { 0 };
    struct team_caps own = { 0 };
    team_caps_add(&own, json_read(span_of(caps), &arena));
    team_hint_text((struct jv){ 0 }, &own, iteration, elapsed_ms, &out);
    buf_byte(&out, 0);
    assert_non_null(strstr(out.p, expected));
    buf_done(&out);
    arena_done(&arena);
}

static void hints_round_as_javascript_does(void **state)
{
    hint_is("{\"timeoutMs\":1250}", 0, 0, "with 1.3s remaining.");
    hint_is("{\"timeoutMs\":90000}", 0, 500, "with 89.5s remaining.");
    hint_is("{\"timeoutMs\":1150}", 0, 0, "with 1.1s remaining."); /* 1.15 is a little less as a double */
    hint_is("{\"timeoutMs\":250}", 0, 0.5, "with 249.5ms remaining.");
    hint_is("{\"timeoutMs\":250,\"maxIterations\":3}", 2, 900, "with 1 turn remaining and 0ms remaining.");
    hint_is("{\"maxIterations\":3}", 9, 0, "with 0 turns remaining.");
    hint_is("{\"maxUsd\":3}", 9, 0, "You are approaching a configured hard limit.");
}

static void text_rules_are_those_of_javascript(void **state)
{
    struct arena arena = { 0 };
    is_text(js_trim(SPAN("\xef\xbb\xbf \xc2\xa0x y\xe2\x80\xa9\t")), "x y");
    is_text(js_trim(SPAN("\xe2\x80\x8b")), "\xe2\x80\x8b"); /* U+200B is no white space */
    assert_true(js_blank(SPAN("\r\n\xe3\x80\x80")));
    is_text(js_lower(SPAN("\xe2\x84\xaa\xc3\x89\xc4\xb0"), &arena), "k\xc3\xa9i\xcc\x87");
    is_text(js_lower(SPAN("\xce\x9f\xce\x94\xce\x9f\xce\xa3 \xce\xa3"), &arena), "\xce\xbf\xce\xb4\xce\xbf\xcf\x82 \xcf\x83");
    is_text(js_lower(SPAN("\xf0\x90\x90\x80"), &arena), "\xf0\x90\x90\xa8");
    is_text(js_lower(SPAN("plain"), &arena), "plain");
    arena_done(&arena);
}

static void the_collation_orders_ascii(void **state)
{
    static const char *const ordered[] = { "",   "_",  "-a", "!",  "a-10", "a 1", "agent-10", "agent-2", "alpha", "Alpha", "Beta", "z_1", "z-1" };
    assert_true(team_collate(SPAN("agent-10"), SPAN("agent-2")) < 0);
    assert_true(team_collate(SPAN("alpha"), SPAN("Beta")) < 0);
    assert_true(team_collate(SPAN("a"), SPAN("A")) < 0);
    assert_true(team_collate(SPAN("Ab"), SPAN("ac")) < 0);
    assert_true(team_collate(SPAN("z_1"), SPAN("z-1")) < 0);
    for (size_t i = 0; i < ARRAY_LEN(ordered); i++)
        for (size_t j = 0; j < ARRAY_LEN(ordered); j++)
            assert_int_equal(team_collate(span_of(ordered[i]), span_of(ordered[j])),
                             -team_collate(span_of(ordered[j]), span_of(ordered[i])));
}

static void long_outputs_are_compared_in_linear_time(void **state)
{
    struct buf a = { 0 }, b = { 0 };
    for (unsigned i = 0; i < 15000; i++) {
        buf_printf(&a, "w%u ", i);
        buf_printf(&b, "w%u ", i + 5000);
    }
    assert_true(team_similarity(buf_view(&a), buf_view(&b)) == 0.5);
    buf_done(&a);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_definition_is_an_issue_at_its_place),
        cmocka_unit_test(definitions_have_no_functions_but_their_own_forms),
        cmocka_unit_test(the_intent_comes_as_text_or_as_object_or_with_the_definition),
        cmocka_unit_test(a_blank_intent_fails_the_team),
        cmocka_unit_test(parallel_turns_commit_in_agent_order),
        cmocka_unit_test(a_failed_call_ends_the_team_and_nothing_is_committed),
        cmocka_unit_test(the_time_limit_counts_from_the_start_of_the_team),
        cmocka_unit_test(a_budget_of_the_host_ends_the_team_with_what_is_there),
        cmocka_unit_test(a_new_attempt_asks_again_for_what_was_in_flight),
        cmocka_unit_test(a_new_attempt_after_a_failure_keeps_the_answers),
        cmocka_unit_test(a_plan_opens_from_its_text_alone),
        cmocka_unit_test(a_damaged_snapshot_is_refused),
        cmocka_unit_test(the_evaluator_is_a_tool_and_final_is_written_once),
        cmocka_unit_test(a_tool_that_nobody_has_is_never_called),
        cmocka_unit_test(a_neutral_answer_becomes_the_contracts),
        cmocka_unit_test(receipts_of_a_host_become_outcomes),
        cmocka_unit_test(a_call_that_was_made_again_leaves_no_chunks),
        cmocka_unit_test(hints_round_as_javascript_does),
        cmocka_unit_test(text_rules_are_those_of_javascript),
        cmocka_unit_test(the_collation_orders_ascii),
        cmocka_unit_test(long_outputs_are_compared_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
