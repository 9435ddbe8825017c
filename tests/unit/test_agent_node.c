/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of the agent machine inside the graph machine: as a whole bundle, and as an llm node of a workflow. */
#include "agent/agent.h"
#include "unit.h"
static const struct machine_ops *const rig_kinds[] = { &agent_ops, NULL };
#define RIG_KINDS rig_kinds
#include "graph_rig.h"

static bool told(const struct rig *r, const char *text)
{
    return r->trace.len && memmem(r->trace.p, r->trace.len, text, strlen(text));
}

static void an_agent_is_a_bundle(void **state)
{
    for (int reloads = 0; reloads < 2; reloads++) {
        struct rig r;
        rig_open(&r, "{\"format\":1,\"agent\":{\"model\":{\"provider\":\"p\",\"model\":\"m\"},\"memory\":{\"thread\":true},"
                     "\"tools\":[{\"name\":\"look\",\"by\":\"client\"}]}}");
        rig_start(&r, "{\"input\":\"hello\",\"values\":{\"a\":1}}");
        if (reloads)
            rig_reload(&r);
        rig_answer(&r, "agent", ERR_OK, "{\"text\":\"\",\"tool_calls\":[{\"id\":\"c\",\"name\":\"look\",\"arguments\":\"{}\"}]}");
        assert_true(told(&r, "wait agent"));
        if (reloads)
            rig_reload(&r);
        rig_answer(&r, "agent", ERR_OK, "\"seen\"");
        assert_true(told(&r, "\"role\":\"tool\""));
        if (reloads)
            rig_reload(&r);
        rig_answer(&r, "agent", ERR_OK, "{\"text\":\"hi\",\"finish_reason\":\"stop\"}");
        assert_true(r.finished);
        assert_true(span_is(buf_view(&r.output), "{\"text\":\"hi\",\"finish_reason\":\"stop\",\"steps\":2}"));
        assert_non_null(memmem(r.values.p, r.values.len, "\"messages\":[", 12));
        assert_non_null(memmem(r.values.p, r.values.len, "\"a\":1", 5));
        rig_close(&r);
    }
}

static void an_agent_is_an_llm_node(void **state)
{
    struct rig r;
    rig_open(&r, "{\"kind\":\"workflow.v1\",\"nodes\":[{\"id\":\"read\",\"type\":\"llm.responses\",\"input\":{\"request\":{\"model\":\"scripted/x\","
                 "\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"go\"}]}]}}}],"
                 "\"outputs\":[{\"name\":\"out\",\"from\":\"read\"}]}");
    rig_start(&r, "{\"input\":{},\"values\":{}}");
    rig_answer(&r, "read", ERR_OK, "{\"text\":\"done\",\"finish_reason\":\"stop\",\"response_id\":\"r1\"}");
    assert_true(r.finished);
    assert_non_null(memmem(r.output.p, r.output.len, "{\"out\":{\"id\":\"r1\"", 17));
    assert_non_null(memmem(r.output.p, r.output.len, "\"text\":\"done\"", 13));
    rig_close(&r);
}

static void mistakes_are_told_with_their_place(void **state)
{
    struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    struct plan plan = { .kinds = rig_kinds };
    assert_int_equal(graph_ops.compile(rig_parse("{\"format\":1,\"agent\":{\"model\":{\"provider\":\"p\"}}}", &scratch), &plan, &issues),
                     ERR_VALIDATION);
    assert_true(issues.count == 1 && span_is(issues.items[0].pointer, "/agent/model/model"));
    arena_done(&plan.arena);
    arena_done(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_is_a_bundle),
        cmocka_unit_test(an_agent_is_an_llm_node),
        cmocka_unit_test(mistakes_are_told_with_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
