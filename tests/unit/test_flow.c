/* SPDX-License-Identifier: Apache-2.0 */
/* test_flow.c - stories of workflow.v1 runs: what is asked for, line by line, and what comes out. graph_rig.h says what the lines
 * mean; "/i2" is item 2, "/0.2" a second try. The machine is saved and loaded before each answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <time.h>
#include "call_agent.h"
#define RIG_KINDS call_agent_kinds
#include "graph_rig.h"

#define LLM(id, text, rest)                                                                                            \
    "{'id':'" id "','type':'llm.responses','input':{'request':{'model':'m','input':[{'type':'message','role':'user',"  \
    "'content':[{'type':'text','text':'" text "'}]}]}" rest "}}"
#define FLOW(rest, nodes, edges, outputs)                                                                              \
    "{'kind':'workflow.v1'," rest "'nodes':[" nodes "],'edges':[" edges "],'outputs':[" outputs "]}"
#define EDGE(from, to)  "{'from':'" from "','to':'" to "'}"
#define OUT(name, from) "{'name':'" name "','from':'" from "'}"
#define SAYS(text)      "{'output':[{'content':[{'text':'" text "','type':'text'}],'role':'assistant','type':'message'}]}"
#define ERROR(code)     "{'code':'" code "','category':'rate_limit','message':'No.','retryable':true,'source':'model'}"

static char *quoted(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return copy;
}

static void begin(struct rig *r, const char *definition, const char *start)
{
    char *text = quoted(definition), *input = quoted(start);
    rig_open(r, text);
    rig_start(r, input);
    free(text);
    free(input);
}

static void answer(struct rig *r, const char *node, const char *value)
{
    char *text = quoted(value);
    rig_reload(r);
    rig_answer(r, node, ERR_OK, text);
    free(text);
}

static void fail_call(struct rig *r, const char *node, const char *value)
{
    char *text = quoted(value);
    rig_reload(r);
    rig_answer(r, node, ERR_MODEL, text);
    free(text);
}

static void assert_lines(struct buf *is, const char *expected)
{
    char *text = quoted(expected), *was = mem_dup(is->p ? is->p : "", is->len);
    is->len = 0;
    assert_string_equal(was, text);
    free(text);
    free(was);
}

/* Checkpoints are left out: they follow each finished node, which the rig checks. */
static void assert_trace(struct rig *r, const char *expected)
{
    struct buf kept = { 0 };
    for (char *p = r->trace.p, *end = p ? p + r->trace.len : p; p < end;) {
        char *next = (char *)memchr(p, '\n', (size_t)(end - p)) + 1;
        if (strncmp(p, "checkpoint", 10) != 0)
            buf_put(&kept, p, (size_t)(next - p));
        p = next;
    }
    r->trace.len = 0;
    assert_lines(&kept, expected);
    buf_done(&kept);
}

/* ---- stories ---- */

static void texts_flow_through_placeholders(void **state)
{
    static struct rig r;
    begin(
        &r,
        FLOW(
            "",
            LLM("one", "Say {{task}} {{ task }} {{unknown}}", ",'bindings':[{'from_input':'task','to_placeholder':'task'}]") "," LLM(
                "two", "More of {{one}}, {{input:n}}.",
                ",'bindings':[{'from':'one','pointer':'/output/0/content/0/text','to_placeholder':'one'},"
                "{'from_input':'n','to_placeholder':'input:n'}]"),
            EDGE("one", "two"),
            OUT("reply", "two") ",{'name':'first','from':'one','pointer':'/output/0/content/0/text'}"),
        "{'input':{'task':'a {{task}}','n':{'x':[1, 2]}},'values':{'v':1}}");
    assert_trace(&r, "start one step 0 try 1 [0.1]\nmodel one p m {'messages':[{'role':'user','content':[{'text':"
                     "'Say a {{task}} {{ task }} {{unknown}}','type':'text'}]}]} [0.1/m0]\n");
    answer(&r, "one", SAYS("words"));
    assert_trace(
        &r,
        "abort [0.1]\nfinish one " SAYS(
            "words") " [0.1]\nstart two step 1 try 1 [1.1]\n"
                     "model two p m {'messages':[{'role':'user','content':[{'text':'More of words, {\\'x\\':[1,2]}.','type':'text'}]}]} [1.1/m0]\n");
    answer(&r, "two", SAYS("end"));
    assert_lines(&r.output, "{'reply':" SAYS("end") ",'first':'words'}");
    assert_lines(&r.values, "{'v':1}");
    rig_close(&r);
}

#define FAN(id, parallel, sub)                                                                                         \
    "{'id':'" id "','type':'map.fanout','input':{'items':{'from_input':'list'},'max_parallelism':" parallel            \
    ",'subnode':" sub ",'item_bindings':"                                                                              \
    "[{'to_placeholder':'item'}]}}"

static void items_keep_their_order_whatever_comes_first(void **state)
{
    static struct rig r;
    begin(&r, FLOW("", FAN("fan", "2", LLM("sub", "About {{item}}", "")), "", OUT("all", "fan")),
          "{'input':{'list':['a',{'b':1},'c']}}");
    assert_trace(
        &r,
        "start fan step 0 try 1 [0.1]\n"
        "start fan:sub:0 step 1 try 1 [0.1/i0]\n"
        "model fan:sub:0 p m {'messages':[{'role':'user','content':[{'text':'About a','type':'text'}]}]} [0.1/i0/m0]\n"
        "start fan:sub:1 step 2 try 1 [0.1/i1]\n"
        "model fan:sub:1 p m {'messages':[{'role':'user','content':[{'text':'About {\\'b\\':1}','type':'text'}]}]} [0.1/i1/m0]\n");
    answer(&r, "fan:sub:1", "1");
    assert_trace(
        &r,
        "abort [0.1/i1]\nfinish fan:sub:1 1 [0.1/i1]\nstart fan:sub:2 step 3 try 1 [0.1/i2]\n"
        "model fan:sub:2 p m {'messages':[{'role':'user','content':[{'text':'About c','type':'text'}]}]} [0.1/i2/m0]\n");
    answer(&r, "fan:sub:2", "2");
    answer(&r, "fan:sub:0", "0");
    assert_lines(&r.output, "{'all':{'results':[0,1,2]}}");
    rig_close(&r);
    begin(&r, FLOW("", FAN("fan", "2", LLM("sub", "About {{item}}", "")), "", OUT("all", "fan")),
          "{'input':{'list':[]}}");
    assert_lines(&r.output, "{'all':{'results':[]}}");
    rig_close(&r);
}

static void a_failed_item_fails_its_node_and_done_ones_stay_done(void **state)
{
    static struct rig r;
    begin(&r, FLOW("", FAN("fan", "2", LLM("sub", "{{item}}", "")), "", OUT("all", "fan")),
          "{'input':{'list':['a','b','c','d']}}");
    answer(&r, "fan:sub:0", "0");
    fail_call(&r, "fan:sub:2", ERROR("down"));
    r.trace.len = 0;
    answer(&r, "fan:sub:1", "1");
    assert_trace(
        &r,
        "abort [0.1/i1]\nfinish fan:sub:1 1 [0.1/i1]\n"
        "fail fan {'code':'FANOUT_ITEM_FAILED','category':'rate_limit','message':'Item 2 failed: No.','retryable':true,'source':'model'} [0.1]\n"
        "failed {'code':'FANOUT_ITEM_FAILED','category':'rate_limit','message':'Item 2 failed: No.','retryable':true,'source':'model','node':'fan'} []\n");
    rig_reload(&r);
    rig_start(&r, "{}");
    assert_int_equal(r.call_count, 2);
    answer(&r, "fan:sub:3", "3");
    answer(&r, "fan:sub:2", "2");
    assert_lines(&r.output, "{'all':{'results':[0,1,2,3]}}");
    rig_close(&r);
}

static void a_thousand_items_take_time_that_grows_with_their_number(void **state)
{
    enum { ITEMS = 2000 };
    static struct rig r;
    struct buf text = { 0 };
    begin(&r, FLOW("", FAN("fan", "2000", LLM("sub", "{{item}}", "")), "", OUT("all", "fan")), "{'input':{'list':[]}}");
    rig_close(&r);
    buf_printf(&text, "{\"input\":{\"list\":[");
    for (int i = 0; i < ITEMS; i++)
        buf_printf(&text, "%s\"item %d\"", i ? "," : "", i);
    buf_printf(&text, "]}}");
    buf_byte(&text, '\0');
    clock_t began = clock();
    begin(&r, FLOW("", FAN("fan", "2000", LLM("sub", "{{item}}", "")), "", OUT("all", "fan")), text.p);
    while (r.call_count < ITEMS) { /* steps are bounded: the rest comes with the pauses between */
        assert_true(r.call_count <= 256 * 8 + 1);
        rig_answer(&r, "", ERR_OK, "null");
    }
    for (int i = 0; i < ITEMS; i++) {
        if (i % 100 == 0)
            rig_reload(&r);
        rig_answer_at(&r, r.call_count - 1, ERR_OK, "7");
        r.trace.len = r.paths.len = 0;
    }
    assert_true(r.finished);
    assert_int_equal(r.output.len, strlen("{\"all\":{\"results\":[]}}") + 2 * ITEMS - 1);
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 20);
    buf_done(&text);
    rig_close(&r);
}

#define GATHER(id)                                                                                                     \
    "{'id':'" id "','type':'transform.json','input':{'object':{'all':{'from':'f'},"                                      \
    "'first':{'from':'f','pointer':'/results/0/v'}}}}"
#define MERGE(id)                                                                                                      \
    "{'id':'" id "','type':'transform.json','input':{'merge':[{'from':'g'},{'from':'f','pointer':'/results/1'},"         \
    "{'from':'f'}]}}"

static void transforms_pick_and_merge(void **state)
{
    static struct rig r;
    begin(
        &r,
        FLOW(
            "",
            FAN("f", "4",
                "{'id':'t','type':'transform.json','input':{'object':{'v':{'from':'item','pointer':'/n'}}}}") ","
               GATHER("g") "," MERGE("h"),
            EDGE("f", "g") "," EDGE("g", "h") "," EDGE("f", "h"), OUT("o", "h")),
        "{'input':{'list':[{'n':1},{'n':2}]}}");
    assert_lines(&r.output, "{'o':{'all':{'results':[{'v':1},{'v':2}]},'first':1,'v':2,'results':[{'v':1},{'v':2}]}}");
    rig_close(&r);
    begin(&r,
          FLOW("",
               FAN("f", "4",
                   "{'id':'t','type':'transform.json','input':{'object':{'v':{'from':'item','pointer':'/n'}}}}"),
               "", OUT("o", "f")),
          "{'input':{'list':[{'n':1},{'m':2}]}}");
    assert_lines(
        &r.output,
        "{'code':'FANOUT_ITEM_FAILED','category':'validation','message':'Item 1 failed: There is nothing at \\'/n\\' in item.',"
        "'retryable':false,'source':'agent','node':'f'}");
    rig_close(&r);
}

static void a_router_chooses_a_branch_and_the_other_ends_without_a_trace(void **state)
{
    static const char definition[] =
        FLOW("",
             "{'id':'r','type':'route.switch','input':{'request':{'model':'m','input':[]}}}," LLM("x", "X", "") "," LLM(
                 "y", "Y", "") "," LLM("z", "Z", "") ",{'id':'j','type':'join.any'}",
             "{'from':'r','to':'x','when':{'source':'node_output','op':'equals','path':'$.route','value':'x'}},"
             "{'from':'r','to':'y','when':{'source':'node_output','op':'matches','path':'$.route','value':'^y'}}," EDGE(
                 "y", "z") "," EDGE("x", "j") "," EDGE("z", "j"),
             OUT("o", "j") "," OUT("x", "x"));
    static struct rig r;
    begin(&r, definition, "{}");
    answer(&r, "r", SAYS("{\\'route\\':\\'yes\\'}"));
    r.trace.len = 0;
    answer(&r, "y", "1");
    answer(&r, "z", "2");
    assert_lines(&r.output, "{'o':{'z':2}}");
    rig_close(&r);
    begin(&r, definition, "{}");
    answer(&r, "r", SAYS("no json"));
    assert_lines(
        &r.output,
        "{'code':'invalid_json','category':'model','message':'The answer is no JSON: no json','retryable':false,'source':'model','node':'r'}");
    rig_close(&r);
}

static void the_first_of_several_is_enough_and_the_others_are_stopped(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("",
               LLM("a", "A", "") "," LLM("b", "B", "") "," LLM(
                   "c", "C", "") ",{'id':'j','type':'join.any','input':{'predicate':"
                                 "{'source':'node_output','op':'exists','path':'$.good'}}}",
               EDGE("a", "j") "," EDGE("b", "j") "," EDGE("c", "j"), OUT("o", "j")),
          "{}");
    answer(&r, "b", "{'bad':1}");
    r.trace.len = 0;
    answer(&r, "c", "{'good':1}");
    assert_trace(&r,
                 "abort [2.1]\nfinish c {'good':1} [2.1]\nstart j step 3 try 1 [3.1]\nfinish j {'c':{'good':1}} [3.1]\n"
                 "abort [0.1]\ncancel a 'not_needed' [0.1]\ndone {'o':{'c':{'good':1}}} values {} []\n");
    rig_close(&r);
}

static void a_collector_stops_waiting(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("",
               LLM("a", "A", "") "," LLM("b", "B", "") ",{'id':'j','type':'join.collect','input':{'timeout_ms':50}}",
               EDGE("a", "j") "," EDGE("b", "j"), OUT("o", "j")),
          "{}");
    answer(&r, "b", "1");
    r.trace.len = 0;
    answer(&r, "j", "null");
    assert_trace(
        &r,
        "start j step 2 try 1 [2.1]\nfinish j {'b':1} [2.1]\nabort [0.1]\ncancel a 'not_needed' [0.1]\ndone {'o':{'b':1}} values {} []\n");
    assert_int_equal(r.elapsed_us, 50000);
    rig_close(&r);
}

static void a_node_has_its_time(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("'execution':{'node_timeout_ms':10},", LLM("a", "A", "") "," LLM("b", "B", ""), EDGE("a", "b"),
               OUT("o", "b")),
          "{}");
    answer(&r, "a", "1"); /* the timer comes first */
    assert_true(r.failed);
    assert_lines(
        &r.output,
        "{'code':'NODE_TIMEOUT','category':'timeout','message':'The node was not done in 10 ms.','retryable':false,'source':'agent','node':'a'}");
    rig_close(&r);
}

static void who_waits_for_people_takes_no_place_and_no_time(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("'execution':{'node_timeout_ms':10,'max_parallelism':1},",
               "{'id':'a','type':'llm.responses','input':{'request':{'model':'ask','input':[]}}}," LLM("b", "B", ""),
               "", OUT("o", "a")),
          "{}");
    assert_trace(&r, "start a step 0 try 1 [0.1]\ntimer a due 10000 [0.1/T234881025]\n"
                     "tool a look {} by client [0.1/t0]\nask a ''  expires 0 [0.1/w0]\n"
                     "wait a 'tool_results' for [{'id':'look','name':'look','arguments':{}}] [0.1]\n"
                     "timer a due 0 clear [0.1/T234881025]\n"
                     "start b step 1 try 1 [1.1]\ntimer b due 10000 [1.1/T234881025]\n"
                     "model b p m {'messages':[{'role':'user','content':[{'text':'B','type':'text'}]}]} [1.1/m0]\n");
    r.elapsed_us = 4000000;
    answer(&r, "a", "'seen'"); /* the tool; there are two at work now */
    assert_trace(&r, "abort [0.1/w0]\nmodel a p ask {} [0.1/m0]\ntimer a due 4010000 [0.1/T234881026]\n");
    rig_reload(&r);
    size_t model = 0;
    while (r.calls[model].kind != FX_MODEL || r.calls[model].node[0] != 'a')
        model++;
    rig_answer_at(&r, model, ERR_OK, "1");
    rig_reload(&r);
    answer(&r, "b", "null"); /* its time is over, and nobody needs it */
    assert_lines(&r.output, "{'o':1}");
    rig_close(&r);
}

static void classes_of_failures_are_tried_again(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("", LLM("a", "A", ",'retry':{'max_attempts':3,'backoff_ms':4,'retryable_errors':['rate_limit']}"), "",
               OUT("o", "a")),
          "{}");
    r.trace.len = 0;
    fail_call(&r, "a", ERROR("busy"));
    assert_trace(&r, "abort [0.1]\ntimer a due 4000 [0.1/T268435455]\n");
    answer(&r, "a", "null");
    fail_call(&r, "a", ERROR("busy"));
    r.trace.len = 0;
    answer(&r, "a", "null");
    assert_trace(&r,
                 "model a p m {'messages':[{'role':'user','content':[{'text':'A','type':'text'}]}]} [0.1/0.3/m0]\n");
    assert_int_equal(r.elapsed_us, 12000);
    fail_call(&r, "a", ERROR("busy"));
    assert_true(r.failed);
    rig_close(&r);
}

static void a_failure_that_harms_no_output_is_borne(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("", LLM("a", "A", "") "," LLM("b", "B", "") "," LLM("c", "C", "") "," LLM("d", "D", ""),
               "{'from':'a','to':'b','when':{'source':'node_status','op':'equals','path':'$','value':'failed'}},"
               "{'from':'a','to':'c','when':{'source':'node_status','op':'equals','path':'$','value':'succeeded'}}",
               OUT("o", "b") "," OUT("p", "c")),
          "{}");
    fail_call(&r, "a", ERROR("down"));
    fail_call(&r, "d", ERROR("down"));
    answer(&r, "b", "1");
    assert_lines(&r.output, "{'o':1}");
    rig_close(&r);
}

static void models_are_overridden_for_a_run(void **state)
{
    static struct rig r;
    begin(&r,
          FLOW("", LLM("a", "A", "") "," LLM("b", "B", "") "," FAN("f", "1", LLM("s", "{{item}}", "")),
               EDGE("a", "b") "," EDGE("b", "f"), OUT("o", "f")),
          "{'input':{'list':[1,2],'$models':{'all':'big','nodes':{'b':'x/small'},'subnodes':{'f':'tiny'}}}}");
    assert_true(memmem(r.trace.p, r.trace.len, "model a p big", 13));
    answer(&r, "a", "1");
    assert_true(memmem(r.trace.p, r.trace.len, "model b p small", 15));
    answer(&r, "b", "1");
    assert_true(memmem(r.trace.p, r.trace.len, "model f:s:0 p tiny", 18));
    answer(&r, "f:s:0", "1");
    answer(&r, "f:s:1", "1");
    assert_true(r.finished);
    rig_close(&r);
}

static void inputs_are_checked_before_anything_starts(void **state)
{
    static const char definition[] =
        FLOW("'inputs':[{'name':'n','type':'number','required':true},{'name':'m','default':7}],",
             "{'id':'t','type':'map.fanout','input':{'items':{'from_input':'list'},'subnode':{'id':'s',"
             "'type':'transform.json','input':{'object':{'v':{'from':'item'}}}}}}",
             "", OUT("o", "t"));
    static struct rig r;
    begin(&r, definition, "{'input':{'list':[]}}");
    assert_true(r.failed);
    assert_true(memmem(r.output.p, r.output.len, "\"INPUT_REQUIRED\"", 16) &&
                memmem(r.output.p, r.output.len, "$.input.n", 9));
    rig_close(&r);
    begin(&r, definition, "{'input':{'list':[],'n':'x'}}");
    assert_true(r.failed && memmem(r.output.p, r.output.len, "\"INPUT_TYPE\"", 12));
    rig_reload(&r);
    r.trace.len = 0;
    rig_start(&r, "{}");
    assert_true(r.failed);
    rig_close(&r);
    begin(&r, definition, "{'input':{'list':[1],'n':1}}");
    assert_lines(&r.output, "{'o':{'results':[{'v':1}]}}");
    rig_close(&r);
}

/* ---- plans and snapshots ---- */

static enum err open_plan(const char *definition)
{
    struct arena arena = { 0 };
    char *text = quoted(definition);
    struct plan plan = { .kinds = call_agent_kinds };
    struct issues issues = { .arena = &arena };
    enum err err = rig_plan(rig_parse(text, &arena), &plan, &issues);
    arena_done(&plan.arena);
    arena_done(&arena);
    free(text);
    return err;
}

static void bad_plans_are_refused(void **state)
{
    static const char *const bad[] = {
        FLOW("", "", "", OUT("o", "a")),
        FLOW("", LLM("a", "A", ""), "", ""),
        FLOW("", LLM("a", "A", ""), "", OUT("o", "b")),
        FLOW("", LLM("a", "A", "") "," LLM("a", "A", ""), "", OUT("o", "a")),
        FLOW("", LLM("a", "A", ""), EDGE("a", "a"), OUT("o", "a")),
        FLOW("", LLM("a", "A", "") "," LLM("b", "B", ""), EDGE("a", "b") "," EDGE("b", "a"), OUT("o", "a")),
        FLOW("", "{'id':'a','type':'sql.validate'}", "", OUT("o", "a")),
        FLOW("", "{'id':'a','type':'map.fanout','input':{'items':{'from':'a'},'subnode':{'id':'b','type':'join.all'}}}",
             "", OUT("o", "a")),
        FLOW("", "{'id':'a','type':'map.fanout','input':{}}", "", OUT("o", "a")),
        "{'kind':'workflow.v1'}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(open_plan(bad[i]), ERR_CORRUPT);
    assert_int_equal(open_plan(FLOW("", LLM("a", "A", ""), "", OUT("o", "a"))), ERR_OK);
}

/* Every byte of a snapshot, changed: it loads or it is corrupt, and nothing else happens. */
static void damaged_snapshots_do_no_harm(void **state)
{
    static struct rig r;
    struct buf saved = { 0 };
    begin(&r,
          FLOW("",
               FAN("fan", "2", LLM("s", "{{item}}", "")) "," LLM(
                   "b", "B", "") ",{'id':'j','type':'join.collect','input':{'timeout_ms':5}}",
               EDGE("b", "j") "," EDGE("fan", "j"), OUT("o", "j")),
          "{'input':{'list':[1,2,3]}}");
    answer(&r, "fan:s:0", "1");
    answer(&r, "b", "1");
    assert_int_equal(graph_ops.save(r.m, &saved), ERR_OK);
    for (size_t i = 0; i < saved.len; i++) {
        struct arena arena = { 0 };
        struct machine *m;
        char was = saved.p[i];
        static const char others[] = "0\"}x";
        for (size_t k = 0; k < 4; k++) {
            saved.p[i] = others[k];
            enum err err = graph_ops.load(&r.plan, buf_view(&saved), &arena, &m);
            assert_true(err == ERR_OK || err == ERR_CORRUPT);
        }
        saved.p[i] = was;
        arena_done(&arena);
    }
    buf_done(&saved);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_flow_through_placeholders),
        cmocka_unit_test(items_keep_their_order_whatever_comes_first),
        cmocka_unit_test(a_failed_item_fails_its_node_and_done_ones_stay_done),
        cmocka_unit_test(a_thousand_items_take_time_that_grows_with_their_number),
        cmocka_unit_test(transforms_pick_and_merge),
        cmocka_unit_test(a_router_chooses_a_branch_and_the_other_ends_without_a_trace),
        cmocka_unit_test(the_first_of_several_is_enough_and_the_others_are_stopped),
        cmocka_unit_test(a_collector_stops_waiting),
        cmocka_unit_test(a_node_has_its_time),
        cmocka_unit_test(who_waits_for_people_takes_no_place_and_no_time),
        cmocka_unit_test(classes_of_failures_are_tried_again),
        cmocka_unit_test(a_failure_that_harms_no_output_is_borne),
        cmocka_unit_test(models_are_overridden_for_a_run),
        cmocka_unit_test(inputs_are_checked_before_anything_starts),
        cmocka_unit_test(bad_plans_are_refused),
        cmocka_unit_test(damaged_snapshots_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
