/* SPDX-License-Identifier: Apache-2.0 */
/* test_nested.c - machines inside nodes: routing, endings, saving at every step, retries and new attempts.
 *
 * The inner machine is a small one made for this: it makes `calls` model calls one after the other, asks a follower and a
 * person when it is told to, and gives back its input and how many calls it made in this life. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "machine/nest.h"

extern const struct machine_ops small_ops;
static const struct machine_ops *const rig_kinds[] = { &small_ops, NULL };
#define RIG_KINDS rig_kinds
#include "graph_rig.h"

/* ---- the small machine ---- */

struct small {
    int64_t calls;
    bool asks, stores;
};

struct small_machine {
    const struct small *plan;
    struct arena *arena;
    int64_t at, starts;
    bool asked;
    struct span input;
};

static enum err small_open(struct plan *plan)
{
    struct small *small = ARENA_NEW(&plan->arena, struct small);
    struct jv root = json_read(plan->json, &plan->arena);
    if (!jv_i64(jv_get(root, "calls"), &small->calls))
        return ERR_CORRUPT;
    small->asks = jv_bool(jv_get(root, "asks"), false);
    small->stores = jv_bool(jv_get(root, "stores"), false);
    plan->compiled = small;
    return ERR_OK;
}

static enum err small_compile(struct jv definition, struct plan *plan, struct issues *issues)
{
    struct buf text = { 0 };
    int64_t n;
    if (!jv_i64(jv_get(definition, "calls"), &n))
        issue_add(issues, SPAN("/calls"), "required", "is required");
    if (!jv_is(jv_get(definition, "input"), JSON_NONE))
        issue_add(issues, SPAN("/input"), "unknown_member", "belongs to the node");
    json_canonical(definition, JSON_JCS, &text);
    plan->json = arena_copy(&plan->arena, buf_view(&text));
    buf_done(&text);
    return issues->count ? ERR_VALIDATION : small_open(plan);
}

static enum err small_init(const struct plan *plan, struct arena *arena, struct machine **ret)
{
    struct small_machine *m = ARENA_NEW(arena, struct small_machine);
    m->plan = plan->compiled;
    m->arena = arena;
    *ret = (struct machine *)m;
    return ERR_OK;
}

static struct op_path small_op(enum op_part part, int64_t n)
{
    return op_sub((struct op_path){ 0 }, OP_PART(part, n));
}

static void small_ask(struct effects *out)
{
    struct effect *fx = effect_add(out, FX_TOOL, small_op(OP_TOOL, 0));
    fx->tool.call_name = SPAN("c1");
    fx->tool.tool = SPAN("look");
    fx->tool.arguments = SPAN("{\"at\":1}");
    fx->tool.by = TOOL_BY_CLIENT;
    fx = effect_add(out, FX_WAIT, small_op(OP_WAIT, 0));
    fx->wait.kind = WAIT_ASK;
    fx->wait.prompt = SPAN("Well?");
}

static void small_next(struct small_machine *m, struct effects *out)
{
    if (m->plan->asks && !m->asked) {
        m->asked = true;
        small_ask(out);
        return;
    }
    if (m->at < m->plan->calls) {
        struct effect *fx = effect_add(out, FX_MODEL, small_op(OP_MODEL, m->at));
        fx->model.provider = fx->model.model = SPAN("p");
        fx->model.request = SPAN("{}");
        return;
    }
    if (m->plan->stores) {
        struct effect *fx = effect_add(out, FX_STATE, (struct op_path){ 0 });
        fx->state.patch = SPAN("[]");
        fx->state.values = SPAN("{\"stored\":1}");
    }
    struct effect *fx = effect_add(out, FX_FINISH, (struct op_path){ 0 });
    fx->finish.output = arena_printf(out->arena, "{\"calls\":%lld,\"input\":%.*s,\"starts\":%lld}", (long long)m->at,
                                     SPAN_ARG(m->input), (long long)m->starts);
}

static enum err small_step(struct machine *machine, const struct input *in, struct effects *out)
{
    struct small_machine *m = (struct small_machine *)machine;
    if (in->kind == IN_START) {
        struct jv input = jv_get(json_read(in->value, out->arena), "input");
        m->input = arena_copy(m->arena, jv_is(input, JSON_NONE) ? SPAN("\"none\"") : jv_raw(input));
        m->starts++;
        m->asked = false;
    } else if (in->kind == IN_MESSAGE) {
        struct effect *fx = effect_add(out, FX_EMIT, (struct op_path){ 0 });
        fx->emit.name = SPAN("heard");
        fx->emit.value = arena_copy(out->arena, in->value);
        return ERR_OK;
    } else if (in->err) {
        effect_add(out, FX_FAIL, (struct op_path){ 0 })->fail.error = arena_copy(out->arena, in->value);
        return ERR_OK;
    } else if (in->kind == IN_TOOL) {
        return ERR_OK; /* the person's answer goes on */
    } else {
        struct op_path expected = in->kind == IN_MODEL ? small_op(OP_MODEL, m->at) : small_op(OP_WAIT, 0);
        assert_true(op_path_eq(&in->op, &expected));
        m->at += in->kind == IN_MODEL;
    }
    small_next(m, out);
    return ERR_OK;
}

static enum err small_save(const struct machine *machine, struct buf *out)
{
    const struct small_machine *m = (const struct small_machine *)machine;
    buf_printf(out, "{\"asked\":%s,\"at\":%lld,\"starts\":%lld,\"input\":%.*s}", m->asked ? "true" : "false",
               (long long)m->at, (long long)m->starts, SPAN_ARG(m->input));
    return ERR_OK;
}

static enum err small_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret)
{
    struct arena scratch = { 0 };
    struct jv root = json_read(saved, &scratch);
    small_init(plan, arena, ret);
    struct small_machine *m = (struct small_machine *)*ret;
    bool good = jv_i64(jv_get(root, "at"), &m->at) && jv_i64(jv_get(root, "starts"), &m->starts);
    m->asked = jv_bool(jv_get(root, "asked"), false);
    m->input = arena_copy(arena, jv_raw(jv_get(root, "input")));
    arena_done(&scratch);
    return good ? ERR_OK : ERR_CORRUPT;
}

const struct machine_ops small_ops = { "agent",    1,          small_compile, small_open,
                                       small_init, small_step, small_save,    small_load };

/* ---- helpers ---- */

#define LOOP(name, config, rest)                                                                                       \
    "{\"node\":\"" name                                                                                                \
    "\",\"capability_ref\":\"agent.loop\",\"capability_version\":\"1\",\"execution_binding\":\"loop\","                \
    "\"config\":" config rest "}"
#define VALUE(name, value)                                                                                             \
    "{\"node\":\"" name                                                                                                \
    "\",\"capability_ref\":\"core.value\",\"capability_version\":\"1\",\"execution_binding\":\"builtin\","             \
    "\"config\":{\"value\":" value "}}"
#define BUNDLE(entry, nodes) "{\"format\":1,\"entry\":\"" entry "\",\"nodes\":[" nodes "]}"
#define ERROR                                                                                                          \
    "{\"code\":\"down\",\"category\":\"provider\",\"message\":\"No.\",\"retryable\":true,\"source\":\"model\"}"

static void assert_text(struct buf *is, const char *expected)
{
    char *text = mem_dup(is->p ? is->p : "", is->len);
    assert_string_equal(text, expected);
    free(text);
    is->len = 0;
}

static void story(struct rig *r, const char *definition, const char *start)
{
    rig_open(r, definition);
    rig_start(r, start);
}

/* ---- stories ---- */

static void an_agent_alone_is_a_graph_of_one_node(void **state)
{
    static struct rig r;
    story(&r, "{\"format\":1,\"agent\":{\"calls\":2}}", "{\"input\":{\"q\":1},\"values\":{}}");
    rig_answer(&r, "agent", ERR_OK, "{}");
    rig_answer(&r, "agent", ERR_OK, "{}");
    assert_text(&r.trace,
                "start agent step 0 try 1 [0.1]\n"
                "model agent p p {} [0.1/m0]\n"
                "model agent p p {} [0.1/m1]\n"
                "abort [0.1]\n"
                "finish agent {\"calls\":2,\"input\":{\"q\":1},\"starts\":1} [0.1]\n"
                "checkpoint node agent 1 {\"next\":[],\"state\":{\"locals\":{},\"values\":{}},\"step\":1} [0.1]\n"
                "checkpoint final  1 {\"next\":[],\"state\":{\"locals\":{},\"values\":{}},\"step\":1} []\n"
                "done {\"calls\":2,\"input\":{\"q\":1},\"starts\":1} values {} []\n");
    rig_close(&r);
    story(&r, "{\"format\":1,\"agent\":{\"calls\":0}}", "{}");
    assert_text(&r.output, "{\"calls\":0,\"input\":null,\"starts\":1}");
    rig_close(&r);
}

static void questions_of_an_agent_are_told_by_its_node(void **state)
{
    static struct rig r;
    story(&r, "{\"format\":1,\"agent\":{\"calls\":0,\"asks\":true,\"stores\":true}}", "{\"input\":7}");
    assert_text(
        &r.trace,
        "start agent step 0 try 1 [0.1]\n"
        "tool agent look {\"at\":1} by client [0.1/t0]\n"
        "checkpoint human agent 1 {\"next\":[\"agent\"],\"state\":{\"locals\":{},\"values\":{}},\"step\":1} [0.1]\n"
        "ask agent \"Well?\"  expires 0 [0.1/w0]\n"
        "wait agent \"tool_results\" for [{\"id\":\"c1\",\"name\":\"look\",\"arguments\":{\"at\":1}}] [0.1]\n");
    rig_reload(&r);
    rig_answer_at(&r, 0, ERR_OK, "\"seen\"");
    assert_text(&r.trace, "");
    rig_reload(&r);
    rig_answer_at(&r, 0, ERR_OK, "\"yes\"");
    assert_text(
        &r.trace,
        "state agent [] -> {\"stored\":1} [0.1]\n"
        "abort [0.1]\n"
        "finish agent {\"calls\":0,\"input\":7,\"starts\":1} [0.1]\n"
        "checkpoint node agent 1 {\"next\":[],\"state\":{\"locals\":{},\"values\":{\"stored\":1}},\"step\":1} [0.1]\n"
        "checkpoint final  1 {\"next\":[],\"state\":{\"locals\":{},\"values\":{\"stored\":1}},\"step\":1} []\n"
        "done {\"calls\":0,\"input\":7,\"starts\":1} values {\"stored\":1} []\n");
    rig_close(&r);
}

static void a_next_try_begins_anew_and_a_new_attempt_goes_on(void **state)
{
    static struct rig r;
    story(&r,
          BUNDLE("go", LOOP("go", "{\"calls\":2,\"input\":\"x\"}", ",\"policy\":{\"max_tries\":2,\"backoff_ms\":5}")),
          "{}");
    rig_answer(&r, "go", ERR_OK, "{}");
    r.trace.len = 0;
    rig_answer(&r, "go", ERR_MODEL, ERROR);
    rig_reload(&r);
    assert_text(&r.trace, "abort [0.1]\nfail go " ERROR " again [0.1]\ntimer go due 5000 [0.1/T268435455]\n");
    rig_answer(&r, "go", ERR_OK, "null");
    rig_answer(&r, "go", ERR_OK, "{}"); /* m0 of the second try */
    r.trace.len = 0;
    rig_answer(&r, "go", ERR_MODEL, ERROR);
    assert_true(r.failed);
    rig_reload(&r);
    r.trace.len = 0;
    rig_start(&r, "{}");
    assert_text(&r.trace, "start go step 2 try 1 [0.3]\nmodel go p p {} [0.3/m1]\n");
    rig_reload(&r);
    rig_answer(&r, "go", ERR_OK, "{}");
    assert_text(&r.output, "{\"calls\":2,\"input\":\"x\",\"starts\":2}");
    rig_close(&r);
}

/* a, then n agents at once, then all of them together; answered from the last to the first, with a crash before each answer. */
static void many_agents_at_once_are_kept_apart_and_survive(void **state)
{
    enum { AGENTS = 40, CALLS = 3 };
    static struct rig r;
    struct buf text = { 0 };
    buf_printf(&text,
               "{\"format\":1,\"entry\":\"a\",\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.value\","
               "\"capability_version\":\"1\",\"execution_binding\":\"builtin\",\"config\":{\"value\":5},\"next\":[");
    for (int i = 0; i < AGENTS; i++)
        buf_printf(&text, "%s\"n%02d\"", i ? "," : "", i);
    buf_printf(&text, "]}");
    for (int i = 0; i < AGENTS; i++)
        buf_printf(
            &text,
            ",{\"node\":\"n%02d\",\"capability_ref\":\"agent.loop\",\"capability_version\":\"1\","
            "\"execution_binding\":\"loop\",\"config\":{\"calls\":%d,\"input\":{\"n\":%d,\"of\":{\"$from\":\"/nodes/a/output\"}}}}",
            i, CALLS, i);
    buf_printf(&text, "]}");
    buf_byte(&text, '\0');
    story(&r, text.p, "{}");
    assert_int_equal(r.call_count, AGENTS);
    for (int k = 0; k < AGENTS * CALLS; k++) {
        rig_reload(&r);
        rig_answer_at(&r, r.call_count - 1 - (size_t)(k * 7) % r.call_count, ERR_OK, "{}");
    }
    assert_true(r.finished);
    text.len = 0;
    for (int i = 0; i < AGENTS; i++)
        buf_printf(&text, "%s\"n%02d\":{\"calls\":%d,\"input\":{\"n\":%d,\"of\":5},\"starts\":1}", i ? "," : "{", i,
                   CALLS, i);
    buf_printf(&text, "}");
    buf_byte(&text, '\0');
    assert_text(&r.output, text.p);
    buf_done(&text);
    rig_close(&r);
}

static void a_failed_node_ends_the_agents_beside_it(void **state)
{
    static struct rig r;
    story(
        &r,
        "{\"format\":1,\"entry\":\"a\",\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.value\",\"capability_version\":\"1\","
        "\"execution_binding\":\"builtin\",\"config\":{\"value\":5},\"next\":[\"b\",\"c\"]}," LOOP(
            "b", "{\"calls\":2}", "") "," LOOP("c", "{\"calls\":2}", "") "]}",
        "{}");
    rig_answer(&r, "c", ERR_OK, "{}");
    rig_input(&r, IN_MESSAGE, (struct op_path){ 0 }, ERR_OK, SPAN("\"hi\""));
    assert_true(memmem(r.trace.p, r.trace.len, "emit b heard \"hi\" [1.1]\nemit c heard \"hi\" [2.1]\n", 48));
    r.trace.len = 0;
    rig_answer(&r, "b", ERR_MODEL, ERROR);
    assert_text(
        &r.trace,
        "abort [1.1]\nfail b " ERROR " [1.1]\nabort []\ncancel c \"run_failed\" [2.1]\n"
        "failed {\"code\":\"down\",\"category\":\"provider\",\"message\":\"No.\",\"retryable\":true,\"source\":\"model\","
        "\"node\":\"b\"} []\n");
    rig_reload(&r);
    rig_start(&r, "{}");
    assert_text(
        &r.trace,
        "start b step 3 try 1 [1.2]\nmodel b p p {} [1.2/m0]\nstart c step 4 try 1 [2.2]\nmodel c p p {} [2.2/m1]\n");
    rig_close(&r);
}

/* ---- definitions ---- */

static void assert_issues(const char *definition, const char *expected, enum err expected_err)
{
    struct arena arena = { 0 };
    struct plan plan = { .kinds = rig_kinds };
    struct issues issues = { .arena = &arena };
    struct buf text = { 0 };
    enum err err = graph_ops.compile(rig_parse(definition, &arena), &plan, &issues);
    for (size_t i = 0; i < issues.count; i++)
        buf_printf(&text, "%.*s %.*s\n", SPAN_ARG(issues.items[i].pointer), SPAN_ARG(issues.items[i].code));
    assert_text(&text, expected);
    assert_int_equal(err, expected_err);
    buf_done(&text);
    arena_done(&plan.arena);
    arena_done(&arena);
}

static void issues_of_inner_definitions_say_where(void **state)
{
    assert_issues("{\"format\":1,\"agent\":{}}", "/agent/calls required\n", ERR_VALIDATION);
    assert_issues(BUNDLE("a", LOOP("a", "{\"input\":{\"$from\":\"/nowhere\"}}", "")),
                  "/nodes/0/config/calls required\n/nodes/0/config/input/$from pointer\n", ERR_VALIDATION);
    assert_issues("{\"format\":1,\"team\":{}}", "/team unsupported_binding\n", ERR_VALIDATION);
    assert_issues("{\"format\":1,\"agent\":{\"calls\":1},\"team\":{}}", "/team exclusive\n", ERR_VALIDATION);
    assert_issues("{\"format\":1,\"agent\":7}", "/agent type\n", ERR_VALIDATION);
    assert_issues(
        "{\"format\":1,\"agent\":{\"calls\":1},\"budget\":{\"max_usd\":1,\"max_tokens\":0,\"on_breach\":\"panic\",\"x\":1}}",
        "/budget/max_usd range\n/budget/max_tokens range\n/budget/on_breach range\n/budget/x unknown_member\n",
        ERR_VALIDATION);
}

static void a_budget_becomes_exact_numbers(void **state)
{
    static const struct {
        const char *text;
        int64_t pico;
    } cases[] = { { "0.25", 250000000000 },
                  { "1", 1000000000000 },
                  { "0.000000000001", 1 },
                  { "9000000", 9000000000000000000 },
                  { "3.1400", 3140000000000 },
                  { "0", -1 },
                  { "0.0", -1 },
                  { "-1", -1 },
                  { "1.", -1 },
                  { ".5", -1 },
                  { "01", -1 },
                  { "1e3", -1 },
                  { "0.0000000000001", -1 },
                  { "9000001", -1 },
                  { "99999999999999999999", -1 },
                  { "", -1 },
                  { "1 ", -1 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = { 0 };
        struct plan plan = { .kinds = rig_kinds };
        struct issues issues = { .arena = &arena };
        struct span text = arena_printf(&arena,
                                        "{\"format\":1,\"agent\":{\"calls\":1},\"budget\":{\"max_usd\":\"%s\","
                                        "\"max_seconds\":60,\"on_breach\":\"ask\"}}",
                                        cases[i].text);
        enum err err = graph_ops.compile(json_read(text, &arena), &plan, &issues);
        assert_int_equal(err, cases[i].pico < 0 ? ERR_VALIDATION : ERR_OK);
        if (!err) {
            assert_true(plan.budget.usd == cases[i].pico && plan.budget.seconds == 60 &&
                        plan.budget.on_breach == BUDGET_ASK);
            struct plan again = { .kinds = rig_kinds, .json = arena_copy(&arena, plan.json) };
            assert_int_equal(graph_ops.open(&again), ERR_OK);
            assert_true(again.budget.usd == cases[i].pico);
            arena_done(&again.arena);
        }
        arena_done(&plan.arena);
        arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_alone_is_a_graph_of_one_node),
        cmocka_unit_test(questions_of_an_agent_are_told_by_its_node),
        cmocka_unit_test(a_next_try_begins_anew_and_a_new_attempt_goes_on),
        cmocka_unit_test(many_agents_at_once_are_kept_apart_and_survive),
        cmocka_unit_test(a_failed_node_ends_the_agents_beside_it),
        cmocka_unit_test(issues_of_inner_definitions_say_where),
        cmocka_unit_test(a_budget_becomes_exact_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
