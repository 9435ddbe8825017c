/* SPDX-License-Identifier: Apache-2.0 */
/* test_bundle.c - bundle definitions: what is refused and where, what the plan looks like, when two plans are the
 * same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "graph_rig.h"
#include "workflow/plan.h"

/* Definitions in tests write ' for ". */
static char *quoted(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    return copy;
}

static enum err compile_text(const char *text, struct plan *plan, struct issues *issues)
{
    char *copy = quoted(text);
    enum err err = graph_ops.compile(rig_parse(copy, issues->arena), plan, issues);
    free(copy);
    return err;
}

#define ECHO(name, next)                                                                                               \
    "{'node':'" name "','capability_ref':'core.echo','capability_version':'1',"                                        \
    "'execution_binding':'builtin','next':" next "}"
#define NODE(name, ref, binding, config, next)                                                                         \
    "{'node':'" name "','capability_ref':'" ref "','capability_version':'1',"                                          \
    "'execution_binding':'" binding "','config':" config ",'next':" next "}"
#define BUNDLE(entry, nodes)      "{'format':1,'entry':'" entry "','nodes':[" nodes "]}"
#define ONE(ref, binding, config) BUNDLE("a", NODE("a", ref, binding, config, "null"))

struct refusal {
    const char *definition;
    const char *issues; /* "pointer code" of each, in order, with a blank behind */
};

static const struct refusal refusals[] = {
    { "[]", " type " },
    { "7", " type " },
    { "{}", "/format required /nodes required /entry required " },
    { "{'format':2,'entry':'a','nodes':[" ECHO("a", "null") "]}", "/format range " },
    { "{'format':'1','entry':'a','nodes':[" ECHO("a", "null") "]}", "/format type " },
    { "{'format':1,'entry':'a','nodes':{}}", "/nodes type /entry unknown_node " },
    { "{'format':1,'entry':'a','nodes':[]}", "/nodes range /entry unknown_node " },
    { "{'format':1,'entry':7,'nodes':[" ECHO("a", "null") "]}", "/entry type " },
    { BUNDLE("b", ECHO("a", "null")), "/entry unknown_node " },
    { "{'format':1,'entry':'a','nodes':[7," ECHO("a", "null") "]}", "/nodes/0 type " },
    { "{'format':1,'entry':'a','policy':[],'nodes':[" ECHO("a", "null") "]}", "/policy type " },
    { "{'format':1,'entry':'a','policy':{'max_attempts':0,'max_tries':2,'run_timeout_ms':0,'human_timeout_ms':'x',"
      "'max_steps':0},'nodes':[" ECHO("a", "null") "]}",
      "/policy/max_attempts range /policy/max_steps range /policy/run_timeout_ms range /policy/human_timeout_ms type "
      "/policy/max_tries unknown_member " },

    /* nodes */
    { BUNDLE("a", "{}"), "/nodes/0/node required /nodes/0/capability_ref required /nodes/0/capability_version required "
                         "/nodes/0/execution_binding required /entry unknown_node " },
    { BUNDLE("A", ECHO("A", "null")), "/nodes/0/node pattern /entry unknown_node " },
    { BUNDLE("a", ECHO("a", "'b'") "," ECHO("b", "null") "," ECHO("b", "null")),
      "/nodes/2/node duplicate /nodes/2 unreachable " },
    { BUNDLE("a", ECHO("a", "'b'")), "/nodes/0/next unknown_node " },
    { BUNDLE("a", ECHO("a", "7")), "/nodes/0/next type " },
    { BUNDLE("a", ECHO("a", "['b',7,'c']") "," ECHO("b", "null")),
      "/nodes/0/next/1 type /nodes/0/next/2 unknown_node " },
    { BUNDLE("a", ECHO("a", "['b','b']") "," ECHO("b", "null")), "/nodes/0/next/1 duplicate " },
    { BUNDLE("a", ECHO("a", "null") "," ECHO("b", "null")), "/nodes/1 unreachable " },
    { BUNDLE("a", ECHO("a", "'b'") "," ECHO("b", "'a'")), "/nodes/0/next cycle " },
    { BUNDLE("a", ECHO("a", "'a'")), "/nodes/0/next cycle " },
    { BUNDLE("a", ECHO("a", "'b'") "," ECHO("b", "'c'") "," ECHO("c", "'b'")), "/nodes/1/next cycle " },
    { BUNDLE("a", NODE("a", "core.nothing", "builtin", "{}", "null")), "/nodes/0/capability_ref unknown_capability " },
    { "{'format':1,'entry':'a','nodes':[{'node':'a','capability_ref':'core.echo','capability_version':'2',"
      "'execution_binding':'builtin'}]}",
      "/nodes/0/capability_version unknown_version " },
    { "{'format':1,'entry':'a','nodes':[{'node':'a','capability_ref':'core.echo','capability_version':1,"
      "'execution_binding':'builtin','colour':1,'description':'fine','policy':{'max_tries':0,'backoff_ms':-1,'x':1}}]}",
      "/nodes/0/capability_version type /nodes/0/policy/max_tries range /nodes/0/policy/backoff_ms range "
      "/nodes/0/policy/x unknown_member /nodes/0/colour unknown_member " },
    { ONE("core.echo", "http", "{}"), "/nodes/0/execution_binding unsupported_binding " },
    { ONE("core.echo", "worker", "{}"), "/nodes/0/execution_binding unsupported_binding " },
    { ONE("core.echo", "human", "{}"), "/nodes/0/execution_binding binding_mismatch " },
    { ONE("core.echo", "magic", "{}"), "/nodes/0/execution_binding enum " },

    /* configs */
    { ONE("core.echo", "builtin", "7"), "/nodes/0/config type " },
    { ONE("core.echo", "builtin", "{'x/y':1}"), "/nodes/0/config/x~1y unknown_member " },
    { ONE("core.emit", "builtin", "{}"), "/nodes/0/config/count required " },
    { ONE("core.emit", "builtin", "{'count':100001,'interval_ms':1.5}"),
      "/nodes/0/config/count range /nodes/0/config/interval_ms type " },
    { ONE("core.sleep", "builtin", "{'ms':-1}"), "/nodes/0/config/ms range " },
    { ONE("core.set", "builtin", "{'value':[]}"), "/nodes/0/config/value type " },
    { ONE("core.value", "builtin", "{}"), "/nodes/0/config/value required " },
    { ONE("core.fail", "builtin", "{'code':'','category':'bad','retryable':1,'message':2}"),
      "/nodes/0/config/code range /nodes/0/config/message type /nodes/0/config/retryable type "
      "/nodes/0/config/category enum " },
    { ONE("core.human", "human", "{'schema':7}"), "/nodes/0/config/prompt required /nodes/0/config/schema type " },
    { ONE("core.handoff", "agent", "{'agent_id':''}"), "/nodes/0/config/agent_id range " },
    { ONE("model.chat", "model", "{'provider':'p'}"), "/nodes/0/config/model required /nodes/0/config required " },
    { ONE("model.chat", "model",
          "{'provider':'p','model':'m','prompt':'x','messages':[],'temperature':3,'max_tokens':0}"),
      "/nodes/0/config/max_tokens range /nodes/0/config/temperature range /nodes/0/config exclusive "
      "/nodes/0/config/messages range " },
    { ONE("model.chat", "model", "{'provider':'p','model':'m','messages':[7,{},{'role':'boss','content':1}]}"),
      "/nodes/0/config/messages/0 type /nodes/0/config/messages/1/role required /nodes/0/config/messages/1/content required "
      "/nodes/0/config/messages/2/role enum /nodes/0/config/messages/2/content type " },

    /* switches */
    { ONE("core.switch", "builtin", "{}"), "/nodes/0/config/cases required " },
    { ONE("core.switch", "builtin", "{'cases':[]}"), "/nodes/0/config/cases range " },
    { ONE("core.switch", "builtin", "{'cases':[7,{'next':7},{'next':'b'},{'when':{},'next':null,'x':1}]}"),
      "/nodes/0/config/cases/0 type /nodes/0/config/cases/1/next type /nodes/0/config/cases/3/x unknown_member "
      "/nodes/0/config/cases/3/when/pointer required /nodes/0/config/cases/3/when/equals required "
      "/nodes/0/config/cases/2/next unknown_node " },
    { ONE("core.switch", "builtin",
          "{'cases':[{'when':{'pointer':'/x','equals':1}},"
          "{'when':{'pointer':'/nodes/b/output','equals':1}}]}"),
      "/nodes/0/config/cases/0/when/pointer pointer /nodes/0/config/cases unknown_node " },
    { BUNDLE("a", NODE("a", "core.switch", "builtin", "{'cases':[{'next':'b'}]}", "'b'") "," ECHO("b", "null")),
      "/nodes/0/next not_allowed " },

    /* references */
    { ONE("core.value", "builtin",
          "{'value':[{'$from':'/outside'},{'$from':7},{'$from':'/nodes/b/output/x'},"
          "{'$from':'/nodes/a'},{'$from':'input'},{'$from':'/input','or':1}]}"),
      "/nodes/0/config/value/0/$from pointer /nodes/0/config/value/1/$from type /nodes/0/config/value/2/$from unknown_node "
      "/nodes/0/config/value/3/$from pointer /nodes/0/config/value/4/$from pointer "
      "/nodes/0/config/value/5/or unknown_member " },
    { ONE("core.value", "builtin", "{'value':{'$from':'/input/x','default':{'$from':'/nowhere'}}}"),
      "/nodes/0/config/value/default/$from pointer " },
    { ONE("core.value", "builtin", "{'$from':'/input'}"), "/nodes/0/config type " },
};

static void every_mistake_is_named_with_its_place(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct arena arena = { 0 };
        struct issues issues = { .arena = &arena };
        struct plan plan = { 0 };
        struct buf found = { 0 };
        enum err err = compile_text(refusals[i].definition, &plan, &issues);
        for (size_t k = 0; k < issues.count && k < ISSUES_MAX; k++) {
            buf_printf(&found, "%.*s %.*s ", SPAN_ARG(issues.items[k].pointer), SPAN_ARG(issues.items[k].code));
            assert_true(issues.items[k].message.n > 0);
        }
        buf_byte(&found, 0);
        if (strcmp(found.p, refusals[i].issues) != 0)
            print_error("case %zu: %s\n", i, refusals[i].definition);
        assert_string_equal(found.p, refusals[i].issues);
        assert_int_equal(err, ERR_VALIDATION);
        buf_done(&found);
        arena_done(&plan.arena);
        arena_done(&arena);
    }
}

static struct plan good(const char *definition)
{
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct plan plan = { 0 };
    enum err err = compile_text(definition, &plan, &issues);
    for (size_t i = 0; i < issues.count && i < ISSUES_MAX; i++)
        print_error("%.*s %.*s\n", SPAN_ARG(issues.items[i].pointer), SPAN_ARG(issues.items[i].message));
    assert_int_equal(err, ERR_OK);
    arena_done(&arena);
    return plan;
}

static void assert_json(struct span json, const char *expected)
{
    char *text = quoted(expected);
    char *is = mem_dup(json.p, json.n);
    assert_string_equal(is, text);
    free(is);
    free(text);
}

static void the_plan_is_canonical(void **state)
{
    struct plan plan = good(
        "{'policy':{'human_timeout_ms':5,'run_timeout_ms':600000,'max_attempts':3},'notes':'ignored','entry':'z','nodes':["
        "{'next':null,'config':{'prompt':'Approve?'},'execution_binding':'human','capability_version':'1',"
        "'capability_ref':'core.human','node':'gate','policy':{'max_tries':1,'backoff_ms':9},'metadata':{'x':1}}," NODE(
            "z", "core.switch", "builtin",
            "{'cases':[{'when':{'pointer':'/input/n','equals':1.0},'next':'gate'},{'next':'b'}]}",
            "null") ","
                    "{'node':'b','capability_ref':'core.echo','capability_version':'1','execution_binding':'builtin','next':['gate'],"
                    "'policy':{'max_tries':2,'backoff_ms':9}}],'format':1}");
    assert_json(plan.json,
                "{'edges':[{'from':'b','to':'gate'},{'from':'z','to':'b','when':{'equals':'b','pointer':'/next'}},"
                "{'from':'z','to':'gate','when':{'equals':'gate','pointer':'/next'}}],'format':1,'kind':'graph',"
                "'limits':{'human_timeout_ms':5,'max_attempts':3,'max_steps':10000,'run_timeout_ms':600000},'nodes':["
                "{'backoff_ms':9,'binding':'builtin','id':'b','max_tries':2,'type':'core.echo','version':'1'},"
                "{'binding':'human','config':{'prompt':'Approve?'},'id':'gate','type':'core.human','version':'1'},"
                "{'binding':'builtin','config':{'cases':[{'next':'gate','when':{'equals':1,'pointer':'/input/n'}},"
                "{'next':'b'}]},'id':'z','type':'core.switch','version':'1'}],'start':['z']}");
    assert_int_equal(plan.run_timeout_us, 600000000);
    assert_int_equal(plan.human_timeout_us, 5000);
    assert_int_equal(plan.max_attempts, 3);
    arena_done(&plan.arena);
}

static void the_hash_names_what_is_meant_not_how_it_is_written(void **state)
{
    struct plan a = good(BUNDLE("a", ECHO("a", "'b'") "," NODE("b", "core.value", "builtin", "{'value':1}", "null")));
    struct plan b = good(
        "{'nodes':[ {'config':{ 'value':1.0 },'node':'b','capability_ref':'core.value',"
        "'capability_version':'1','execution_binding':'builtin'}," ECHO(
            "a",
            "['b']") "],"
                     "'policy':{'max_attempts':1,'max_steps':10000,'run_timeout_ms':null},'entry':'a','format':1}");
    struct plan c = good(BUNDLE("a", ECHO("a", "'b'") "," NODE("b", "core.value", "builtin", "{'value':2}", "null")));
    assert_memory_equal(a.hash.hex, b.hash.hex, 64);
    assert_memory_not_equal(a.hash.hex, c.hash.hex, 64);
    /* Stored plans are found by this text: it must not change without a new format number. */
    assert_memory_equal(a.hash.hex, "3815b5c8f87d8132e072bb617175947c59e5622b3157fb0ac0c58bed816f594d", 64);
    arena_done(&a.arena);
    arena_done(&b.arena);
    arena_done(&c.arena);
}

static void a_stored_plan_opens_again(void **state)
{
    struct plan plan = good(BUNDLE("a", ECHO("a", "'b'") "," ECHO("b", "null"))), stored = { 0 };
    stored.json = arena_copy(&stored.arena, plan.json);
    assert_int_equal(graph_ops.open(&stored), ERR_OK);
    assert_memory_equal(plan.hash.hex, stored.hash.hex, 64);
    assert_int_equal(stored.max_attempts, 1);
    assert_int_equal(((struct graph *)stored.compiled)->node_count, 2);
    arena_done(&plan.arena);
    arena_done(&stored.arena);
}

static void a_damaged_plan_is_called_corrupt(void **state)
{
    static const char *const damaged[] = {
        "",
        "{",
        "{}",
        "{'kind':'team'}",
        "{'kind':'graph','limits':{},'nodes':[],'edges':[],'start':[]}",
        "{'kind':'graph','limits':{},'nodes':[{'id':'a','type':'core.gone','version':'1','binding':'builtin'}],'edges':[],"
        "'start':['a']}",
        "{'kind':'graph','limits':{},'nodes':[{'id':'a','type':'core.echo','version':'1','binding':'builtin'}],"
        "'edges':[{'from':'a','to':'b'}],'start':['a']}",
        "{'kind':'graph','limits':{'max_steps':0},'nodes':[{'id':'a','type':'core.echo','version':'1','binding':'builtin'}],"
        "'edges':[],'start':['a']}",
    };
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
        struct plan plan = { 0 };
        char *text = quoted(damaged[i]);
        plan.json = span_of(text);
        assert_int_equal(graph_ops.open(&plan), ERR_CORRUPT);
        arena_done(&plan.arena);
        free(text);
    }
}

static void loops_are_found_within_loops(void **state)
{
    /* h -> i -> s (back to i, back to h, or out) */
    struct plan plan = good(BUNDLE("e", ECHO("e", "'h'") "," ECHO("h", "'i'") "," ECHO("i", "'s'") "," NODE(
                                            "s", "core.switch", "builtin",
                                            "{'cases':[{'when':{'pointer':'/input','equals':1},'next':'i'},"
                                            "{'when':{'pointer':'/input','equals':2},'next':'h'},{'next':'o'}]}",
                                            "null") "," ECHO("o", "null")));
    const struct graph *g = plan.compiled;
    uint32_t e = graph_find(g, SPAN("e")), h = graph_find(g, SPAN("h")), i = graph_find(g, SPAN("i"));
    uint32_t s = graph_find(g, SPAN("s")), o = graph_find(g, SPAN("o"));
    assert_int_equal(g->loop_count, 2);
    assert_int_equal(g->nodes[e].loop, NO_INDEX);
    assert_int_equal(g->nodes[o].loop, NO_INDEX);
    assert_int_equal(g->loops[g->nodes[h].loop].header, h);
    assert_int_equal(g->loops[g->nodes[i].loop].header, i);
    assert_int_equal(g->nodes[s].loop, g->nodes[i].loop);
    assert_int_equal(g->loops[g->nodes[i].loop].parent, g->nodes[h].loop);
    assert_int_equal(g->loops[g->nodes[h].loop].parent, NO_INDEX);
    for (uint32_t k = 0; k < g->edge_count; k++) {
        const struct plan_edge *edge = &g->edges[k];
        uint32_t expected = edge->from == s && edge->to == h   ? g->nodes[h].loop
                            : edge->from == s && edge->to == i ? g->nodes[i].loop
                                                               : NO_INDEX;
        assert_int_equal(edge->back, expected);
    }
    arena_done(&plan.arena);
}

/* A definition made of many nodes; `next` writes what follows node i. */
static struct buf many(unsigned count, void (*put_rest)(struct buf *out, unsigned i, unsigned count))
{
    struct buf text = { 0 };
    BUF_LIT(&text, "{\"format\":1,\"entry\":\"n0\",\"nodes\":[");
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&text, "%s{\"node\":\"n%u\",\"capability_version\":\"1\",\"execution_binding\":\"builtin\",",
                   i ? "," : "", i);
        put_rest(&text, i, count);
        BUF_LIT(&text, "}");
    }
    BUF_LIT(&text, "]}");
    buf_byte(&text, 0);
    return text;
}

static void put_chain(struct buf *out, unsigned i, unsigned count)
{
    buf_printf(out, "\"capability_ref\":\"core.echo\"");
    if (i + 1 < count)
        buf_printf(out, ",\"next\":\"n%u\"", i + 1);
}

/* Node i goes on to i + 1, or back to any earlier one: loops within loops. */
static void put_nest(struct buf *out, unsigned i, unsigned count)
{
    if (i + 1 < count) {
        put_chain(out, i, count);
        return;
    }
    buf_printf(out, "\"capability_ref\":\"core.switch\",\"config\":{\"cases\":[{\"next\":null}");
    for (unsigned k = 0; k + 1 < count; k++)
        buf_printf(out, ",{\"next\":\"n%u\"}", k);
    buf_printf(out, "]}");
}

static void assert_size(unsigned count, void (*put_rest)(struct buf *, unsigned, unsigned), const char *code)
{
    struct buf text = many(count, put_rest);
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct plan plan = { 0 };
    enum err err = compile_text(text.p, &plan, &issues);
    assert_int_equal(err, code ? ERR_VALIDATION : ERR_OK);
    if (code) {
        assert_true(span_is(issues.items[0].code, code));
        assert_true(span_is(issues.items[0].pointer, "/nodes"));
    }
    arena_done(&plan.arena);
    arena_done(&arena);
    buf_done(&text);
}

static void there_are_limits_and_they_can_be_reached(void **state)
{
    assert_size(10000, put_chain, NULL);
    assert_size(10001, put_chain, "limit");
    assert_size(33, put_nest, NULL);
    assert_size(34, put_nest, "limit");
}

static void a_definition_nested_too_deep_is_refused(void **state)
{
    struct buf text = { 0 };
    BUF_LIT(&text, "{'format':1,'entry':'a','nodes':[");
    BUF_LIT(&text, "{'node':'a','capability_ref':'core.value','capability_version':'1','execution_binding':'builtin',"
                   "'config':{'value':");
    for (int i = 0; i < 70; i++)
        buf_byte(&text, '[');
    for (int i = 0; i < 70; i++)
        buf_byte(&text, ']');
    BUF_LIT(&text, "}}]}");
    buf_byte(&text, 0);
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct plan plan = { 0 };
    assert_int_equal(compile_text(text.p, &plan, &issues), ERR_VALIDATION);
    assert_int_equal(issues.count, 1);
    assert_true(span_is(issues.items[0].code, "limit"));
    arena_done(&plan.arena);
    arena_done(&arena);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_is_named_with_its_place),
        cmocka_unit_test(the_plan_is_canonical),
        cmocka_unit_test(the_hash_names_what_is_meant_not_how_it_is_written),
        cmocka_unit_test(a_stored_plan_opens_again),
        cmocka_unit_test(a_damaged_plan_is_called_corrupt),
        cmocka_unit_test(loops_are_found_within_loops),
        cmocka_unit_test(there_are_limits_and_they_can_be_reached),
        cmocka_unit_test(a_definition_nested_too_deep_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
