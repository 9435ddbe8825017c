/* SPDX-License-Identifier: Apache-2.0 */
/* test_spec.c - workflow specifications: what is refused and where, what plans look like, when two are the same, and that
 * hostile ones cost little. */
#include "unit.h"
#include "base/ids.h"
#include "workflow/spec.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Specs in tests write ' for ". */
static struct jv parse(const char *text, struct arena *arena)
{
    char *copy = mem_dup(text, strlen(text));
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    struct jv v = json_read(arena_copy(arena, span_of(copy)), arena);
    if (jv_is(v, JSON_NONE))
        fail_msg("the test's own JSON is wrong: %s", copy);
    free(copy);
    return v;
}

struct compiled {
    struct arena arena;
    struct issues issues;
    enum err err;
    struct span text;
    struct jv plan;
};

static struct compiled compile_value(struct jv spec)
{
    struct compiled r = { 0 };
    r.issues.arena = &r.arena;
    r.err = spec_compile(spec, &r.arena, &r.text, &r.issues);
    assert_int_equal(r.err, r.issues.count ? ERR_VALIDATION : ERR_OK);
    if (r.err == ERR_OK)
        r.plan = json_read(r.text, &r.arena);
    return r;
}

/* The arena moves with the struct; its issues must follow. */
static void compile(const char *text, struct compiled *ret)
{
    struct arena spec = { 0 };
    *ret = compile_value(parse(text, &spec));
    ret->issues.arena = &ret->arena;
    arena_done(&spec);
}

static void put_issues(const struct issues *issues, struct buf *out)
{
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++)
        buf_printf(out, "%.*s %.*s; ", SPAN_ARG(issues->items[i].pointer), SPAN_ARG(issues->items[i].code));
    buf_byte(out, 0);
}

static void expect_issues(const char *spec, const char *expected)
{
    struct compiled r;
    struct buf found = { 0 };
    compile(spec, &r);
    put_issues(&r.issues, &found);
    if (strcmp(found.p, expected) != 0)
        fail_msg("%s\n  has      %s\n  expected %s", spec, found.p, expected);
    for (size_t i = 0; i < r.issues.count && i < ISSUES_MAX; i++)
        assert_true(r.issues.items[i].message.n > 0);
    buf_done(&found);
    arena_done(&r.arena);
}

/* What a pointer leads to in the plan, as text. */
static void expect_at(const struct compiled *r, const char *pointer, const char *expected)
{
    struct arena arena = { 0 };
    struct buf found = { 0 }, wanted = { 0 };
    struct jv v = jv_pointer(r->plan, span_of(pointer));
    if (expected)
        json_canonical(parse(expected, &arena), JSON_JCS, &wanted);
    if (!jv_is(v, JSON_NONE))
        buf_span(&found, jv_raw(v));
    if (!span_eq(buf_view(&found), buf_view(&wanted)))
        fail_msg("at %s: %.*s\n  expected %.*s", pointer, SPAN_ARG(buf_view(&found)), SPAN_ARG(buf_view(&wanted)));
    buf_done(&found);
    buf_done(&wanted);
    arena_done(&arena);
}

static void expect_good(const char *spec, struct compiled *r)
{
    compile(spec, r);
    if (r->err) {
        struct buf found = { 0 };
        put_issues(&r->issues, &found);
        fail_msg("%s\n  is refused: %s", spec, found.p);
    }
}

#define OUT(from) "'outputs':[{'name':'o','from':'" from "'}]"
#define INTENT(nodes, from) "{'kind':'workflow','model':'m','nodes':[" nodes "]," OUT(from) "}"
#define V1(nodes, more, from) "{'kind':'workflow.v1','nodes':[" nodes "]," more OUT(from) "}"
#define LLM(id, more) "{'id':'" id "','type':'llm','user':'x'" more "}"
#define REQ(more) "'request':{'input':[{'type':'message','role':'user','content':[{'type':'text','text':'hi {{a}}'}]}]" more "}"
#define RESP(id, more) "{'id':'" id "','type':'llm.responses','input':{" REQ("") more "}}"

/* ---- what is refused ---- */

static const struct {
    const char *spec, *issues;
} refusals[] = {
    /* the whole */
    { "[]", "$ INVALID_TYPE; " },
    { "null", "$ INVALID_TYPE; " },
    { "{}", "$.kind REQUIRED; " },
    { "{'kind':7}", "$.kind INVALID_TYPE; " },
    { "{'kind':'workflow.v0'}", "$.kind UNSUPPORTED_KIND; " },
    { "{'kind':'workflow.lite.v1'}", "$.kind UNSUPPORTED_KIND; " },
    { "{'kind':'workflow'}", "$.nodes REQUIRED; $.outputs REQUIRED; " },
    { "{'kind':'workflow','nodes':null,'outputs':null}", "$.nodes REQUIRED; $.outputs REQUIRED; " },
    { "{'kind':'workflow','nodes':[],'outputs':[]}", "$.nodes REQUIRED; $.outputs REQUIRED; " },
    { "{'kind':'workflow','nodes':{},'outputs':7}", "$.nodes INVALID_TYPE; $.outputs INVALID_TYPE; " },
    { "{'kind':'workflow','name':7,'model':'','max_parallelism':0,'nodes':[" LLM("a", "") "]," OUT("a") "}",
      "$.max_parallelism INVALID_TYPE; $.model INVALID_TYPE; $.name INVALID_TYPE; " },
    { "{'kind':'workflow','max_parallelism':1.5,'nodes':[" LLM("a", "") "]," OUT("a") "}", "$.max_parallelism INVALID_TYPE; " },

    /* ids */
    { INTENT("7," LLM("a", ""), "a"), "$.nodes[0] INVALID_TYPE; " },
    { INTENT(LLM("A", "") "," LLM("a", ""), "a"), "$.nodes[0].id INVALID_NODE_ID; " },
    { INTENT(LLM("", "") "," LLM("a", ""), "a"), "$.nodes[0].id INVALID_NODE_ID; " },
    { INTENT("{'type':'llm','user':'x'}," LLM("a", ""), "a"), "$.nodes[0].id REQUIRED; " },
    { INTENT(LLM("a", "") "," LLM("a", "") "," LLM("a", ""), "a"), "$.nodes[1].id DUPLICATE_NODE_ID; $.nodes[2].id DUPLICATE_NODE_ID; " },
    { INTENT("{'id':'a','type':'llm.responses'}", "a"), "$.nodes[0].type UNSUPPORTED_NODE_TYPE; " },
    { INTENT("{'id':'a','type':'route.switch'}", "a"), "$.nodes[0].type UNSUPPORTED_NODE_TYPE; " },
    { INTENT("{'id':'a','type':'agent.run'}", "a"), "$.nodes[0].type UNSUPPORTED_NODE_TYPE; " },
    { INTENT("{'id':'a'}", "a"), "$.nodes[0].type REQUIRED; " },
    { V1("{'id':'a','type':'llm','input':{}}", "", "a"), "$.nodes[0].type UNSUPPORTED_NODE_TYPE; " },
    { V1("{'id':'a','type':'fragment','input':{'ref':'x'}}", "", "a"), "$.nodes[0].type UNSUPPORTED_NODE_TYPE; " },

    /* references */
    { INTENT(LLM("a", ",'depends_on':['b',7]"), "c"),
      "$.nodes[0].depends_on[0] UNKNOWN_NODE; $.nodes[0].depends_on[1] INVALID_TYPE; $.outputs[0].from UNKNOWN_NODE; " },
    { INTENT(LLM("a", ",'depends_on':'b'"), "a"), "$.nodes[0].depends_on INVALID_TYPE; " },
    { INTENT(LLM("a", ",'depends_on':['a']"), "a"), "$.nodes CYCLE; " },
    { INTENT("{'id':'a','type':'llm','user':'{{a}}'}", "a"), "$.nodes CYCLE; " },
    { INTENT(LLM("a", ",'depends_on':['b']") "," LLM("b", ",'depends_on':['c']") "," LLM("c", ",'depends_on':['a']"), "a"), "$.nodes CYCLE; " },
    { INTENT("{'id':'a','type':'llm','user':'{{b}}'}," LLM("b", ",'depends_on':['a']"), "a"), "$.nodes CYCLE; " },
    { "{'kind':'workflow','nodes':[" LLM("a", "") "],'outputs':[{'name':'o','from':'a'},{'name':'o','from':'a'},{'from':'a'},"
      "{'name':'p'},{'name':'q','from':'a','pointer':'x'},{'name':'','from':7},5]}",
      "$.outputs[1].name DUPLICATE_OUTPUT; $.outputs[2].name REQUIRED; $.outputs[3].from REQUIRED; $.outputs[4].pointer INVALID_POINTER; "
      "$.outputs[5].from INVALID_TYPE; $.outputs[5].name INVALID_TYPE; $.outputs[6] INVALID_TYPE; " },

    /* inputs */
    { "{'kind':'workflow','inputs':[{'name':'a','type':'text'},{'name':'a'},{'type':'string'},{'name':'d','type':'string','default':7},"
      "{'name':'e','required':'yes'},3],'nodes':[" LLM("n", "") "]," OUT("n") "}",
      "$.inputs[0].type INVALID_TYPE; $.inputs[1].name DUPLICATE_INPUT; $.inputs[2].name REQUIRED; $.inputs[3].default INPUT_TYPE; "
      "$.inputs[4].required INVALID_TYPE; $.inputs[5] INVALID_TYPE; " },

    /* models */
    { INTENT("{'id':'a','type':'llm'}", "a"), "$.nodes[0] LLM_INPUT_REQUIRED; " },
    { INTENT("{'id':'a','type':'llm','system':'','user':'','input':[]}", "a"), "$.nodes[0] LLM_INPUT_REQUIRED; " },
    { INTENT("{'id':'a','type':'llm','user':7,'system':[],'input':{}}", "a"),
      "$.nodes[0] LLM_INPUT_REQUIRED; $.nodes[0].input INVALID_TYPE; $.nodes[0].system INVALID_TYPE; $.nodes[0].user INVALID_TYPE; " },
    { INTENT(LLM("a", ",'limit':1,'merge':[],'items_from':'b','colour':1"), "a"),
      "$.nodes[0].items_from FIELD_NOT_ALLOWED; $.nodes[0].limit FIELD_NOT_ALLOWED; $.nodes[0].merge FIELD_NOT_ALLOWED; " },
    { INTENT(LLM("a", ",'stream':1,'tools':['',7,{'type':'knife'},{'type':'function'},{'type':'function','function':{}},{}],"
                      "'tool_execution':{'mode':'both'},'max_output_tokens':-1,'stop':['','x',7]"), "a"),
      "$.nodes[0].max_output_tokens INVALID_TYPE; $.nodes[0].stop[0] INVALID_TYPE; $.nodes[0].stop[2] INVALID_TYPE; "
      "$.nodes[0].stream INVALID_TYPE; $.nodes[0].tool_execution.mode INVALID_TYPE; $.nodes[0].tools[0] INVALID_TYPE; "
      "$.nodes[0].tools[1] INVALID_TYPE; $.nodes[0].tools[2].type INVALID_TYPE; $.nodes[0].tools[3].function REQUIRED; "
      "$.nodes[0].tools[4].function.name REQUIRED; $.nodes[0].tools[5].type REQUIRED; " },
    { INTENT(LLM("a", ",'stop':['1','2','3','4','5','6','7','8','9'],'tool_execution':{}"), "a"),
      "$.nodes[0].stop LIMIT_EXCEEDED; $.nodes[0].tool_execution.mode REQUIRED; " },
    { INTENT(LLM("a", ",'retry':{'max_attempts':0,'retryable_errors':['bad'],'backoff_ms':-1}"), "a"),
      "$.nodes[0].retry.backoff_ms INVALID_TYPE; $.nodes[0].retry.max_attempts INVALID_TYPE; $.nodes[0].retry.retryable_errors[0] INVALID_TYPE; " },
    { INTENT(LLM("a", ",'output_format':{'type':'xml'}") "," LLM("b", ",'output_format':{'type':'json_schema'}") ","
             LLM("c", ",'output_format':{'type':'json_schema','json_schema':{'schema':true}}"), "a"),
      "$.nodes[0].output_format.type INVALID_TYPE; $.nodes[1].output_format.json_schema REQUIRED; "
      "$.nodes[2].output_format.json_schema.name REQUIRED; $.nodes[2].output_format.json_schema.schema INVALID_TYPE; " },
    { INTENT("{'id':'a','type':'llm','input':[7,{},{'role':'boss'},{'role':'user','content':[{'type':'text'},{'type':'image'},4,"
             "{'type':'file','file':{}}]},{'type':'thing','role':'user','content':'x'}]}", "a"),
      "$.nodes[0].input[0] INVALID_TYPE; $.nodes[0].input[1].role REQUIRED; $.nodes[0].input[2].role INVALID_TYPE; "
      "$.nodes[0].input[3].content[0].text REQUIRED; $.nodes[0].input[3].content[1].type INVALID_TYPE; $.nodes[0].input[3].content[2] INVALID_TYPE; "
      "$.nodes[0].input[3].content[3].file.data_base64 REQUIRED; $.nodes[0].input[3].content[3].file.mime_type REQUIRED; "
      "$.nodes[0].input[4].content INVALID_TYPE; $.nodes[0].input[4].type INVALID_TYPE; " },

    /* joins and conditions */
    { INTENT("{'id':'j','type':'join.any'}", "j"), "$.nodes[0] UNREACHABLE; " },
    { INTENT(LLM("a", "") ",{'id':'j','type':'join.collect','depends_on':['a'],'limit':0,'timeout_ms':1.5,'predicate':{'source':'x','op':'is',"
                          "'path':'a.b','value':[]}}", "j"),
      "$.nodes[1].limit INVALID_TYPE; $.nodes[1].predicate.op INVALID_CONDITION; $.nodes[1].predicate.path INVALID_CONDITION; "
      "$.nodes[1].predicate.source INVALID_CONDITION; $.nodes[1].timeout_ms INVALID_TYPE; " },
    { INTENT(LLM("a", "") ",{'id':'j','type':'join.any','depends_on':['a'],'predicate':{'source':'node_status','op':'equals','path':'$.a'}}", "j"),
      "$.nodes[1].predicate.path INVALID_CONDITION; $.nodes[1].predicate.value INVALID_CONDITION; " },
    { INTENT(LLM("a", "") ",{'id':'j','type':'join.any','depends_on':['a'],'predicate':{'source':'node_output','op':'matches','value':7}}", "j"),
      "$.nodes[1].predicate.value INVALID_CONDITION; " },
    { INTENT(LLM("a", "") ",{'id':'j','type':'join.all','depends_on':['a'],'predicate':{}}", "j"), "$.nodes[1].predicate FIELD_NOT_ALLOWED; " },

    /* transforms */
    { INTENT("{'id':'t','type':'transform.json'}", "t"), "$.nodes[0] EXCLUSIVE_FIELDS; " },
    { INTENT("{'id':'t','type':'transform.json','object':{},'merge':[]}", "t"),
      "$.nodes[0] EXCLUSIVE_FIELDS; $.nodes[0].merge REQUIRED; $.nodes[0].object REQUIRED; " },
    { INTENT("{'id':'t','type':'transform.json','object':{'x y':{'from':'no'},'b':7,'c':{}}}", "t"),
      "$.nodes[0].object.b INVALID_TYPE; $.nodes[0].object.c.from REQUIRED; $.nodes[0].object['x y'].from UNKNOWN_NODE; " },
    { INTENT("{'id':'t','type':'transform.json','merge':[{'from':'t'}]}", "t"), "$.nodes CYCLE; " },

    /* fan-out */
    { INTENT("{'id':'f','type':'map.fanout'}", "f"), "$.nodes[0] EXCLUSIVE_FIELDS; $.nodes[0].subnode REQUIRED; " },
    { INTENT("{'id':'f','type':'map.fanout','items_from':'no','items_from_input':'i','max_parallelism':0,'items_path':'$.x',"
             "'subnode':{'id':'S','type':'join.all'}}", "f"),
      "$.nodes[0] EXCLUSIVE_FIELDS; $.nodes[0].items_from UNKNOWN_NODE; $.nodes[0].items_path INVALID_POINTER; "
      "$.nodes[0].max_parallelism INVALID_TYPE; $.nodes[0].subnode.id INVALID_NODE_ID; $.nodes[0].subnode.type UNSUPPORTED_NODE_TYPE; " },
    { INTENT(LLM("a", "") ",{'id':'f','type':'map.fanout','items_from_input':'i','subnode':{'id':'s','type':'llm','depends_on':['a'],"
                          "'system':'{{input:i}}','user':'{{a}} {{item}}','tool_execution':{'mode':'client'}}}", "f"),
      "$.nodes[1].subnode.depends_on FIELD_NOT_ALLOWED; $.nodes[1].subnode.system PLACEHOLDER_NOT_ALLOWED; "
      "$.nodes[1].subnode.tool_execution.mode CLIENT_TOOLS_IN_FANOUT; $.nodes[1].subnode.user PLACEHOLDER_NOT_ALLOWED; " },
    { INTENT(LLM("a", "") ",{'id':'f','type':'map.fanout','items_from_input':'i','subnode':{'id':'s','type':'transform.json',"
                          "'object':{'x':{'from':'a'},'y':{'from':'item'}}}}", "f"),
      "$.nodes[1].subnode.object.x.from UNKNOWN_NODE; " },
    { INTENT("{'id':'f','type':'map.fanout','items_from':'f','subnode':{'id':'s','type':'llm','user':'{{item}}'}}", "f"), "$.nodes CYCLE; " },

    /* pointers into nothing */
    { "{'kind':'workflow','inputs':[{'name':'s','type':'string'}],'nodes':[" LLM("a", "") ",{'id':'j','type':'join.all','depends_on':['a']},"
      "{'id':'t','type':'transform.json','object':{'x':{'from':'j','pointer':'/b'},'y':{'from':'a','pointer':'/text'}}},"
      "{'id':'f','type':'map.fanout','items_from_input':'s','items_pointer':'/q','subnode':{'id':'s','type':'llm','user':'{{item}}'}}],"
      "'outputs':[{'name':'a','from':'a','pointer':'/structured'},{'name':'b','from':'j','pointer':'/a/output/x'},"
      "{'name':'c','from':'t','pointer':'/z'},{'name':'d','from':'f','pointer':'/result'},{'name':'e','from':'f','pointer':'/results/01'},"
      "{'name':'f','from':'f','pointer':'/results/3/nothing'},{'name':'g','from':'t','pointer':'/y'},{'name':'h','from':'a','pointer':'/model/x'}]}",
      "$.nodes[2].object.x.pointer POINTER_NOT_FOUND; $.nodes[2].object.y.pointer POINTER_NOT_FOUND; $.nodes[3].items_pointer POINTER_NOT_FOUND; "
      "$.outputs[0].pointer POINTER_NOT_FOUND; $.outputs[1].pointer POINTER_NOT_FOUND; $.outputs[2].pointer POINTER_NOT_FOUND; "
      "$.outputs[3].pointer POINTER_NOT_FOUND; $.outputs[4].pointer POINTER_NOT_FOUND; $.outputs[5].pointer POINTER_NOT_FOUND; "
      "$.outputs[6].pointer POINTER_NOT_FOUND; $.outputs[7].pointer POINTER_NOT_FOUND; " },

    /* workflow.v1 */
    { "{'kind':'workflow.v1','colour':1,'model':'m','execution':{'max_parallelism':0,'x':1},'fragments':{'a':{}},'nodes':[" RESP("a", "") "]," OUT("a") "}",
      "$.colour FIELD_NOT_ALLOWED; $.execution.max_parallelism INVALID_TYPE; $.execution.x FIELD_NOT_ALLOWED; $.fragments UNSUPPORTED_NODE_TYPE; "
      "$.model FIELD_NOT_ALLOWED; " },
    { V1("{'id':'a','type':'llm.responses','user':'x'}", "", "a"), "$.nodes[0].input REQUIRED; $.nodes[0].user FIELD_NOT_ALLOWED; " },
    { V1("{'id':'a','type':'llm.responses','input':{}}", "", "a"), "$.nodes[0].input.request REQUIRED; " },
    { V1("{'id':'a','type':'llm.responses','input':{'request':{'temperature':3,'tool_choice':{'type':'x'},'session_id':'s','provider':7}}}", "", "a"),
      "$.nodes[0].input.request LLM_INPUT_REQUIRED; $.nodes[0].input.request.provider INVALID_TYPE; $.nodes[0].input.request.session_id INVALID_TYPE; "
      "$.nodes[0].input.request.temperature INVALID_TYPE; $.nodes[0].input.request.tool_choice.type INVALID_TYPE; " },
    { V1(RESP("a", ",'tool_limits':{'max_llm_calls':65,'x':1},'max_tool_steps':0,'bindings':[7,{},{'from':'b','from_input':'c','to':'/input',"
        "'to_placeholder':'a'},"
                   "{'from':'no','to':''},{'from_input':'i','to_placeholder':'b'},{'from_input':'i','to':'/request/input'},{'from_input':'i',"
                       "'to':'/input/3'},"
                   "{'from_input':'i','to':'/tools/0/type'},{'from_input':'i','to_placeholder':'a','encoding':'xml','x':1}]") "," RESP("b", ""), "", "a"),
      "$.nodes[0].input.bindings[0] INVALID_TYPE; $.nodes[0].input.bindings[1] EXCLUSIVE_FIELDS; $.nodes[0].input.bindings[1] EXCLUSIVE_FIELDS; "
      "$.nodes[0].input.bindings[2] EXCLUSIVE_FIELDS; $.nodes[0].input.bindings[2] EXCLUSIVE_FIELDS; $.nodes[0].input.bindings[3] INVALID_POINTER; "
      "$.nodes[0].input.bindings[3].from UNKNOWN_NODE; $.nodes[0].input.bindings[4].to_placeholder PLACEHOLDER_NOT_FOUND; "
      "$.nodes[0].input.bindings[5].to INVALID_POINTER; $.nodes[0].input.bindings[6].to POINTER_NOT_FOUND; $.nodes[0].input.bindings[7].to "
          "POINTER_NOT_FOUND; "
      "$.nodes[0].input.bindings[8].encoding INVALID_TYPE; $.nodes[0].input.bindings[8].x FIELD_NOT_ALLOWED; $.nodes[0].input.max_tool_steps INVALID_TYPE; "
      "$.nodes[0].input.tool_limits.max_llm_calls INVALID_TYPE; $.nodes[0].input.tool_limits.x FIELD_NOT_ALLOWED; " },
    { V1(RESP("a", ",'bindings':[{'from_input':'i','to_placeholder':'a'},{'from_input':'j','to_placeholder':'a'}]"), "", "a"),
      "$.nodes[0].input.bindings[1] DUPLICATE_BINDING; " },
    { V1(RESP("a", ""), "'edges':[{'from':'a','to':'b'},{'to':'a'},7,{'from':'a','to':'a','when':{'source':'node_output','op':'equals',"
        "'path':'$['}}],", "a"),
      "$.edges[0].to UNKNOWN_NODE; $.edges[1].from REQUIRED; $.edges[2] INVALID_TYPE; $.edges[3].when.path INVALID_CONDITION; "
      "$.edges[3].when.value INVALID_CONDITION; $.nodes CYCLE; " },
    { V1("{'id':'f','type':'map.fanout','input':{'items':{'from':'x','from_input':'y','z':1},'item_bindings':[{'to_placeholder':'q'}],"
        "'subnode':{'id':'s','type':'route.switch',"
         "'input':{" REQ("") ",'bindings':[{'from_input':'a','to_placeholder':'a'}]}}}}", "", "f"),
      "$.nodes[0].input.item_bindings[0].to_placeholder PLACEHOLDER_NOT_FOUND; $.nodes[0].input.items EXCLUSIVE_FIELDS; "
          "$.nodes[0].input.items.from UNKNOWN_NODE; "
      "$.nodes[0].input.items.z FIELD_NOT_ALLOWED; $.nodes[0].input.subnode.input.bindings PLACEHOLDER_NOT_ALLOWED; " },
    { V1("{'id':'j','type':'join.all','input':{'x':1}},{'id':'c','type':'join.collect'}", "", "j"),
      "$.nodes[0].input.x FIELD_NOT_ALLOWED; $.nodes[1].input REQUIRED; " },
    { "{'kind':'workflow.v1','nodes':[" RESP("a", "") "],'outputs':[{'name':'o','from':'a','output':'x'}]}", "$.outputs[0].output FIELD_NOT_ALLOWED; " },
};

static void refuses_with_every_issue_in_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        expect_issues(refusals[i].spec, refusals[i].issues);
}

static void paths_become_pointers(void **state)
{
    (void)state;
    static const char *const cases[][2] = { { "$", "" }, { "$.nodes[2].user", "/nodes/2/user" }, { "$.nodes[0].object['a/b "
        "c~'].from", "/nodes/0/object/a~1b c~0/from" } };
    struct arena arena = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(span_is(spec_path_pointer(span_of(cases[i][0]), &arena), cases[i][1]));
    arena_done(&arena);
}

/* ---- what plans look like ---- */

static void writes_out_what_an_intent_means(void **state)
{
    (void)state;
    struct compiled r;
    expect_good("{'kind':'workflow','name':'triage','model':'m','max_parallelism':2,'extra':1,'inputs':[{'name':'task','type':'string',"
        "'required':true,'x':1},"
                "{'name':'any','type':'json','default':null}],'nodes':["
                "{'id':'gen','type':'llm','system':'S','user':'U {{task}} {{input:any}} {{task}}','input':[{'role':'assistant',"
                    "'content':[{'type':'text','text':'{{any}}'}]}],"
                "'stream':false,'tools':['look',{'type':'web','web':{}}],'tool_execution':{'mode':'client'},'retry':{'max_attempts':3,"
                    "'retryable_errors':['truncated','invalid_json']},"
                "'stop':[],'colour':'red'},"
                "{'id':'fan','type':'map.fanout','items_from':'gen','items_path':'/parts','subnode':{'id':'sub','type':'llm','model':'n',"
                    "'user':'{{item}}'}},"
                "{'id':'any_of','type':'join.any','depends_on':['gen','fan','gen'],'predicate':{'source':'node_output','op':'exists','path':'$',"
                    "'value':1}},"
                "{'id':'some','type':'join.collect','depends_on':['gen']},"
                "{'id':'t','type':'transform.json','merge':[{'from':'some','pointer':''},{'from':'fan','pointer':'/results'}]},"
                "{'id':'last','type':'llm','user':'{{t}}{{gen}}{{ gen }}{{unknown}}'}],"
                "'outputs':[{'name':'text','from':'last','pointer':'/output/0/content/0/text'},{'name':'all','from':'t','pointer':''}]}", &r);
    expect_at(&r, "/kind", "'workflow.v1'");
    expect_at(&r, "/name", "'triage'");
    expect_at(&r, "/extra", NULL);
    expect_at(&r, "/model", NULL);
    expect_at(&r, "/execution", "{'max_parallelism':2}");
    expect_at(&r, "/inputs", "[{'name':'task','type':'string','required':true},{'name':'any','default':null}]");
    expect_at(&r, "/nodes/0", "{'id':'gen','type':'llm.responses','input':{'request':{'model':'m','input':["
        "{'type':'message','role':'system','content':[{'type':'text','text':'S'}]},"
        "{'type':'message','role':'assistant','content':[{'type':'text','text':'{{any}}'}]},"
        "{'type':'message','role':'user','content':[{'type':'text','text':'U {{task}} {{input:any}} {{task}}'}]}],"
        "'tools':[{'type':'function','function':{'name':'look'}},{'type':'web','web':{}}]},"
        "'tool_execution':{'mode':'client'},'retry':{'max_attempts':3},'bindings':["
        "{'from_input':'any','to_placeholder':'any','encoding':'json_string'},{'from_input':'any','to_placeholder':'input:any','encoding':'json_string'},"
        "{'from_input':'task','to_placeholder':'task','encoding':'json_string'}]}}");
    expect_at(&r, "/nodes/1/input", "{'items':{'from':'gen','pointer':'/output/0/content/0/text','path':'/parts'},"
        "'item_bindings':[{'to_placeholder':'item','encoding':'json_string'}],"
        "'subnode':{'id':'sub','type':'llm.responses','input':{'request':{'model':'n','input':[{'type':'message','role':'user',"
            "'content':[{'type':'text','text':'{{item}}'}]}]}}}}");
    expect_at(&r, "/nodes/2", "{'id':'any_of','type':'join.any','input':{'predicate':{'source':'node_output','op':'exists'}}}");
    expect_at(&r, "/nodes/3", "{'id':'some','type':'join.collect','input':{}}");
    expect_at(&r, "/nodes/4/input", "{'merge':[{'from':'some'},{'from':'fan','pointer':'/results'}]}");
    expect_at(&r, "/nodes/5/input/bindings", "[{'from':'gen','pointer':'/output/0/content/0/text','to_placeholder':'gen','encoding':'json_string'},"
        "{'from':'t','to_placeholder':'t','encoding':'json_string'},{'from_input':'unknown','to_placeholder':'unknown','encoding':'json_string'}]");
    expect_at(&r, "/edges", "[{'from':'fan','to':'any_of'},{'from':'fan','to':'t'},{'from':'gen','to':'any_of'},{'from':'gen','to':'fan'},"
        "{'from':'gen','to':'last'},{'from':'gen','to':'some'},{'from':'some','to':'t'},{'from':'t','to':'last'}]");
    expect_at(&r, "/outputs", "[{'name':'text','from':'last','pointer':'/output/0/content/0/text'},{'name':'all','from':'t'}]");
    arena_done(&r.arena);
}

static void keeps_explicit_edges_and_adds_the_missing_ones(void **state)
{
    (void)state;
    struct compiled r;
    expect_good(V1("{'id':'r','type':'route.switch','input':{'request':{'input':[{'role':'user','content':[{'type':'text','text':'x'}]}],"
        "'output_format':{'type':'text'}},'stream':false,"
                   "'tool_limits':{'max_llm_calls':8},'max_tool_steps':10,'tool_execution':{'mode':'server'},'other':1}}," RESP("a", ","
                       "'bindings':[{'from':'r','pointer':'','to_placeholder':'a'}]") ","
                   RESP("b", ",'bindings':[{'from':'a','to':'/input/0/content/0/text'},{'from':'r','to':'/model','encoding':'json'}]"),
                   "'execution':{'max_parallelism':4},'edges':[{'from':'r','to':'b','when':{'source':'node_output','op':'equals','path':'$.route',"
                       "'value':1.0}},"
                   "{'from':'r','to':'b','when':{'value':1,'path':'$.route','op':'equals','source':'node_output'}},"
                   "{'from':'r','to':'b','when':{'source':'node_status','op':'equals','path':'$','value':'failed'}},{'from':'r','to':'a'},"
                       "{'from':'r','to':'a'}],", "b"), &r);
    expect_at(&r, "/execution", NULL);
    expect_at(&r, "/edges", "[{'from':'a','to':'b'},{'from':'r','to':'a'},{'from':'r','to':'b','when':{'source':'node_output','op':'equals',"
        "'path':'$.route','value':1}},"
        "{'from':'r','to':'b','when':{'source':'node_status','op':'equals','value':'failed'}}]");
    expect_at(&r, "/nodes/0/input", "{'request':{'input':[{'type':'message','role':'user','content':[{'type':'text','text':'x'}]}]}}");
    expect_at(&r, "/nodes/1/input/bindings", "[{'from':'r','to_placeholder':'a','encoding':'json_string'}]");
    expect_at(&r, "/nodes/2/input/bindings", "[{'from':'a','to':'/input/0/content/0/text','encoding':'json'},{'from':'r','to':'/model',"
        "'encoding':'json'}]");
    arena_done(&r.arena);
}

/* Node ids win over inputs; text that only looks like a placeholder stays. */
static void reads_placeholders(void **state)
{
    (void)state;
    static const struct {
        const char *text, *names;
    } cases[] = {
        { "{{a}}", "a " },           { "x{{a}}{{b}}", "a b " },   { "{{input:a}}", "input:a " }, { "{{input:}}", "" },   { "{{ a}}", "" },
        { "{{a }}", "" },            { "{{a-b}}", "" },           { "{{1a}}", "" },              { "{{_1A}}", "_1A " },  { "{{{a}}}", "a " },
        { "{{a}", "" },              { "{{a", "" },               { "{{", "" },                  { "", "" },             { "{{}}", "" },
        { "{{a{{b}}", "b " },        { "{{input:input:a}}", "" }, { "{{input}}", "input " },     { "{{a}}}}{{b}}", "a b " }, { "{{input:1}}", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf found = { 0 };
        struct span name, text = span_of(cases[i].text);
        for (size_t at = 0; spec_marker_next(text, &at, &name);)
            buf_printf(&found, "%.*s ", SPAN_ARG(name));
        buf_byte(&found, 0);
        assert_string_equal(found.p, cases[i].names);
        buf_done(&found);
    }
    struct compiled r;
    expect_good("{'kind':'workflow','inputs':[{'name':'a'}],'nodes':[" LLM("a", "") ",{'id':'b','type':'llm',"
        "'user':'{{a}}{{input:a}}'}]," OUT("b") "}", &r);
    expect_at(&r, "/nodes/1/input/bindings/0/from", "'a'");
    expect_at(&r, "/nodes/1/input/bindings/1/from_input", "'a'");
    arena_done(&r.arena);
}

static void refuses_patterns_that_cannot_run(void **state)
{
    (void)state;
    static const char *const bad[] = { "(", "a{999}", "(a{200}){200}", "(a)\\\\1", "[" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char spec[512];
        snprintf(spec, sizeof spec, INTENT(LLM("a", "") ",{'id':'j','type':'join.any','depends_on':['a'],'predicate':{'source':'node_output',"
            "'op':'matches','value':'%s'}}", "j"), bad[i]);
        expect_issues(spec, "$.nodes[1].predicate.value INVALID_CONDITION; ");
    }
}

static void reads_condition_paths(void **state)
{
    (void)state;
    static const struct {
        const char *path, *steps;
    } cases[] = {
        { ".a", "a | " }, { ".a.b[3]['c d']", "a b #3 c d | " }, { "['']", " | " }, { "[0]", "#0 | " },
        { "[01]", "| [01]" }, { ".", "| ." }, { ".a.", "a | ." }, { "[", "| [" }, { "['a'", "| ['a'" }, { "[-1]", "| [-1]" },
        { "[\"a'b\"].c-d", "a'b c-d | " }, { ".a\u00e9", "a | \u00e9" }, { "[*]", "| "
            "[*]" }, { "..a", "| ..a" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf found = { 0 };
        struct span name, path = span_of(cases[i].path);
        int64_t index;
        while (spec_path_next(&path, &name, &index))
            if (index >= 0)
                buf_printf(&found, "#%d ", (int)index);
            else
                buf_printf(&found, "%.*s ", SPAN_ARG(name));
        buf_printf(&found, "| %.*s", SPAN_ARG(path));
        buf_byte(&found, 0);
        assert_string_equal(found.p, cases[i].steps);
        buf_done(&found);
    }
}

/* ---- the same plan ---- */

static void the_plan_of_a_plan_is_the_plan(void **state)
{
    (void)state;
    static const char *const specs[] = {
        INTENT(LLM("a", ""), "a"),
        INTENT("{'id':'a','type':'llm','user':'{{x}} {{input:y}}'},{'id':'f','type':'map.fanout','items_from':'a','subnode':{'id':'s','type':'llm',"
            "'user':'{{item}}','stream':true}},"
               "{'id':'g','type':'map.fanout','items_from':'f','items_pointer':'/results','max_parallelism':9,'subnode':{'id':'s',"
                   "'type':'transform.json','merge':[{'from':'item','pointer':'/a~1b'}]}},"
               "{'id':'j','type':'join.collect','depends_on':['g','f'],'limit':1,'timeout_ms':5,'predicate':{'source':'node_status','op':'matches',"
                   "'value':'^s'}}", "j"),
        V1(RESP("a", ",'bindings':[{'from_input':'q','to':'/model'},{'from_input':'q','to_placeholder':'a'}],'retry':{'max_attempts':2,"
            "'backoff_ms':7}"), "", "a"),
    };
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        struct compiled first, second;
        expect_good(specs[i], &first);
        second = compile_value(first.plan);
        assert_int_equal(second.err, ERR_OK);
        assert_true(span_eq(first.text, second.text));
        arena_done(&first.arena);
        arena_done(&second.arena);
    }
}

static void same_plan(const char *a, const char *b, bool same)
{
    struct compiled x, y;
    expect_good(a, &x);
    expect_good(b, &y);
    if (span_eq(x.text, y.text) != same)
        fail_msg("%s\n%s\n  have %s plans", a, b, same ? "different" : "equal");
    arena_done(&x.arena);
    arena_done(&y.arena);
}

static void defaults_and_spelling_do_not_change_the_hash(void **state)
{
    (void)state;
    same_plan(INTENT(LLM("a", ""), "a"), "{'outputs':[{'from':'a','name':'o','pointer':''}],'nodes':[{'user':'\\u0078','type':'llm','id':'a',"
        "'depends_on':[],'stream':false,"
              "'tools':[],'tool_execution':{'mode':'server'},'retry':{'max_attempts':1,'backoff_ms':5}}],'model':'m','max_parallelism':4,"
                  "'inputs':[],'kind':'workflow','note':'x'}", true);
    same_plan(INTENT(LLM("a", "") "," LLM("b", ",'depends_on':['a','a']"), "b"), INTENT(LLM("a", "") "," LLM("b", ",'depends_on':['a']"), "b"), true);
    same_plan(INTENT(LLM("a", ""), "a"), INTENT(LLM("a", ",'model':'m'"), "a"), true);
    same_plan(INTENT(LLM("a", ""), "a"), INTENT(LLM("a", ",'model':'n'"), "a"), false);
    same_plan(INTENT(LLM("a", "") "," LLM("b", ""), "a"), INTENT(LLM("b", "") "," LLM("a", ""), "a"), false);
}

/* Stored plans are found by their hash: it may not change by accident. The text was looked at by hand once. */
static void the_hash_of_a_plan_stays(void **state)
{
    (void)state;
    struct compiled r;
    struct buf hex = { 0 };
    expect_good(INTENT(LLM("a", ""), "a"), &r);
    struct sha256 hash = sha256_of(r.text);
    buf_hex(&hex, hash.b, sizeof hash.b);
    buf_byte(&hex, 0);
    assert_true(span_is(r.text,
        "{\"kind\":\"workflow.v1\",\"nodes\":[{\"id\":\"a\",\"input\":{\"request\":{\"input\":[{\"content\":[{\"text\":\"x\",\"type\":\"text\"}],"
        "\"role\":\"user\",\"type\":\"message\"}],\"model\":\"m\"}},\"type\":\"llm.responses\"}],\"outputs\":[{\"from\":\"a\",\"name\":\"o\"}]}"));
    assert_string_equal(hex.p, "e87b42668eb8076f733a940f91728ca1c5d3f3dc96b99243536634b321e6115b");
    buf_done(&hex);
    arena_done(&r.arena);
}

/* ---- advice and drawings ---- */

static void gives_advice(void **state)
{
    (void)state;
    struct arena arena = { 0 };
    struct issues warnings = { .arena = &arena };
    struct buf found = { 0 };
    spec_lint(parse("{'kind':'workflow','note':1,'inputs':[{'name':'unused'}],'nodes':[" LLM("a", ",'colour':1,'tools':['ok','Get-It'],"
        "'output_format':{'type':'json_schema',"
                    "'json_schema':{'name':'n','strict':true,'schema':{'type':'object','additionalProperties':false,'required':['a'],"
                        "'properties':{'a':{'type':'array','items':{'type':'object'}}}}}}") ","
                    "{'id':'b','type':'llm','user':'{{ a }}'}]," OUT("a") "}", &arena), &warnings);
    put_issues(&warnings, &found);
    assert_string_equal(found.p, "$.inputs[0] UNUSED_INPUT; $.nodes[0].colour UNKNOWN_FIELD; "
        "$.nodes[0].output_format.json_schema.schema.properties.a.items SCHEMA_NOT_STRICT; "
                                 "$.nodes[0].tools[1] TOOL_NAME_PORTABILITY; $.nodes[1] UNUSED_NODE; $.nodes[1].user PLACEHOLDER_LITERAL; $.note "
                                     "UNKNOWN_FIELD; ");
    buf_done(&found);
    arena_done(&arena);
}

static void draws(void **state)
{
    (void)state;
    struct compiled r;
    struct buf out = { 0 };
    expect_good("{'kind':'workflow.v1','name':'say \\\"hi\\\"','nodes':[" RESP("end", "") ",{'id':'j','type':'join.all'}],"
                "'edges':[{'from':'end','to':'j','when':{'source':'node_output','op':'equals','path':'$.a','value':'<b>'}}]," OUT("j") "}", &r);
    assert_int_equal(spec_graph(r.plan, SPEC_MERMAID, &out), ERR_OK);
    buf_byte(&out, 0);
    assert_string_equal(out.p, "flowchart TD\n  n_end[\"end<br/>llm.responses\"]\n  n_j{{\"j<br/>join.all\"}}\n"
                               "  n_end -.->|\"$.a = #34;#60;b#62;#34;\"| n_j\n  out_0([\"o\"])\n  n_j --> out_0\n");
    out.len = 0;
    assert_int_equal(spec_graph(r.plan, SPEC_DOT, &out), ERR_OK);
    buf_byte(&out, 0);
    assert_string_equal(out.p, "digraph \"say \\\"hi\\\"\" {\n  rankdir=TB;\n  node [fontname=\"sans-serif\"];\n  n_end "
        "[label=\"end\\nllm.responses\", shape=box];\n"
                               "  n_j [label=\"j\\njoin.all\", shape=hexagon];\n  n_end -> n_j [style=dashed, label=\"$.a = \\\"<b>\\\"\"];\n"
                               "  out_0 [label=\"o\", shape=oval];\n  n_j -> out_0;\n}\n");
    assert_int_equal(spec_graph((struct jv){ 0 }, SPEC_DOT, &out), ERR_CORRUPT);
    buf_done(&out);
    arena_done(&r.arena);
}

/* ---- when a run starts ---- */

#define STARTS                                                                                                                              \
    "{'kind':'workflow','inputs':[{'name':'n','type':'number','default':3},{'name':'must','required':true},{'name':'maybe','type':'object'}]," \
    "'nodes':[" LLM("a", ",'tools':['calc','user_ask']") ",{'id':'b','type':'llm','model':'m','user':'{{free}}{{n}}'},"                          \
    "{'id':'f','type':'map.fanout','items_from_input':'list','subnode':{'id':'s','type':'llm','user':'{{item}}','tools':['hammer']}},"          \
    "{'id':'t','type':'transform.json','merge':[{'from':'a'}]}]," OUT("a") "}"

static void expect_start(enum err err, struct issues *issues, const char *expected)
{
    struct buf found = { 0 };
    put_issues(issues, &found);
    assert_string_equal(found.p, expected);
    assert_int_equal(err, *expected ? ERR_VALIDATION : ERR_OK);
    issues->count = 0;
    buf_done(&found);
}

static void resolves_inputs(void **state)
{
    (void)state;
    struct compiled r;
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct span text = SPAN_NONE;
    expect_good(STARTS, &r);
    enum err err = spec_inputs(r.plan, parse("{'must':1,'free':{'a':[]},'list':[1],'more':2}", &arena), &arena, &text, &issues);
    expect_start(err, &issues, "");
    assert_true(span_is(text, "{\"free\":{\"a\":[]},\"list\":[1],\"must\":1,\"n\":3}"));
    err = spec_inputs(r.plan, parse("{'n':'3','maybe':null,'free':null}", &arena), &arena, &text, &issues);
    expect_start(err, &issues, "$.input.list INPUT_REQUIRED; $.input.maybe INPUT_TYPE; $.input.must INPUT_REQUIRED; $.input.n INPUT_TYPE; ");
    err = spec_inputs(r.plan, (struct jv){ 0 }, &arena, &text, &issues);
    expect_start(err, &issues, "$.input.free INPUT_REQUIRED; $.input.list INPUT_REQUIRED; $.input.must INPUT_REQUIRED; ");
    err = spec_inputs(r.plan, parse("[]", &arena), &arena, &text, &issues);
    expect_start(err, &issues, "$.input INVALID_TYPE; ");
    arena_done(&arena);
    arena_done(&r.arena);
}

static void checks_models_of_a_run(void **state)
{
    (void)state;
    struct compiled r;
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct jv none = { 0 };
    expect_good(STARTS, &r);
    expect_start(spec_models(r.plan, none, none, &issues), &issues, "$.nodes[0].model MODEL_REQUIRED; $.nodes[2].subnode.model MODEL_REQUIRED; ");
    expect_start(spec_models(r.plan, parse("'x'", &arena), none, &issues), &issues, "");
    expect_start(spec_models(r.plan, parse("' '", &arena), parse("7", &arena), &issues), &issues, "$.model_override INVALID_TYPE; "
        "$.model_overrides INVALID_TYPE; ");
    expect_start(spec_models(r.plan, none, parse("{'nodes':{'a':'x'},'fanout_subnodes':[{'parent_id':'f','subnode_id':'s',"
        "'model':'y'}]}", &arena), &issues), &issues, "");
    expect_start(spec_models(r.plan, parse("'x'", &arena),
                             parse("{'nodes':{'no':'x','t':'x','f':'x','a':7},'fanout_subnodes':[{'parent_id':'a','subnode_id':'s','model':'y'},"
                                 "{'parent_id':'f','subnode_id':'z','model':'y'},"
                                   "{'parent_id':'no','subnode_id':'z'},4]}", &arena), &issues), &issues,
                 "$.model_overrides.fanout_subnodes[0].parent_id FIELD_NOT_ALLOWED; $.model_overrides.fanout_subnodes[1].subnode_id UNKNOWN_NODE; "
                 "$.model_overrides.fanout_subnodes[2].model INVALID_TYPE; $.model_overrides.fanout_subnodes[2].parent_id UNKNOWN_NODE; "
                     "$.model_overrides.fanout_subnodes[3] INVALID_TYPE; "
                 "$.model_overrides.nodes.a INVALID_TYPE; $.model_overrides.nodes.f FIELD_NOT_ALLOWED; $.model_overrides.nodes.no UNKNOWN_NODE; "
                     "$.model_overrides.nodes.t FIELD_NOT_ALLOWED; ");
    arena_done(&arena);
    arena_done(&r.arena);
}

static void streams_a_plan(void **state)
{
    (void)state;
    struct compiled r, again, wanted;
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct span text = SPAN_NONE;
    expect_good(INTENT(LLM("a", "") ",{'id':'f','type':'map.fanout','items_from':'a','subnode':{'id':'s','type':'llm','user':'{{item}}'}}", "f"), &r);
    expect_good(INTENT(LLM("a", ",'stream':true") ",{'id':'f','type':'map.fanout','items_from':'a','subnode':{'id':'s','type':'llm','stream':true,"
        "'user':'{{item}}'}}", "f"), &wanted);
    expect_start(spec_stream(r.plan, &arena, &text, &issues), &issues, "");
    assert_true(span_eq(text, wanted.text));
    again = compile_value(json_read(text, &arena));
    assert_true(span_eq(again.text, text));
    arena_done(&again.arena);
    arena_done(&wanted.arena);
    arena_done(&r.arena);
    expect_good(INTENT(LLM("a", ",'tool_execution':{'mode':'client'}") ",{'id':'f','type':'map.fanout','items_from':'a','subnode':{'id':'s',"
        "'type':'llm','user':'{{item}}','tool_execution':{'mode':'agentic'}}}", "f"), &r);
    expect_start(spec_stream(r.plan, &arena, &text, &issues), &issues, "$.nodes[0].tool_execution.mode STREAM_TOOL_MODE; "
        "$.nodes[1].subnode.tool_execution.mode STREAM_TOOL_MODE; ");
    arena_done(&arena);
    arena_done(&r.arena);
}

static bool knows_calc(void *ctx, struct span name)
{
    (void)ctx;
    return span_is(name, "calc");
}

static void looks_for_tools(void **state)
{
    (void)state;
    struct compiled r;
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    expect_good(STARTS, &r);
    expect_start(spec_tools(r.plan, knows_calc, NULL, &issues), &issues, "$.nodes[2].subnode.tools[0] UNKNOWN_TOOL; ");
    arena_done(&arena);
    arena_done(&r.arena);
}

/* ---- hostile specs ---- */

/* Compiles (a time that grew with the square of the text would end the test by its time limit), and what the caller is left with is
 * a multiple of the text. */
static void expect_bounded(struct buf *text, const char *code)
{
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct span plan = SPAN_NONE;
    struct jv spec = json_read(buf_view(text), &arena);
    assert_false(jv_is(spec, JSON_NONE));
    size_t before = arena.total;
    enum err err = spec_compile(spec, &arena, &plan, &issues);
    bool found = !code;
    for (size_t i = 0; i < issues.count && i < ISSUES_MAX; i++)
        found = found || span_is(issues.items[i].code, code);
    if (!found)
        fail_msg("no %s", code);
    assert_int_equal(err, code ? ERR_VALIDATION : ERR_OK);
    assert_true(arena.total - before <= text->len * 8 + (1 << 20));
    arena_done(&arena);
    buf_done(text);
}

static void hundred_thousand_nodes(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[");
    for (int i = 0; i < 100000; i++)
        buf_printf(&t, "%s{\"id\":\"n%d\",\"type\":\"llm\",\"user\":\"{{n%d}}\",\"depends_on\":[\"n%d\"]}", i ? "," : "", i,
        (i + 1) % 100000, (i + 7) % 100000);
    BUF_LIT(&t, "],\"outputs\":[{\"name\":\"o\",\"from\":\"n0\"}]}");
    expect_bounded(&t, "LIMIT_EXCEEDED");
}

static void a_cycle_through_all_nodes(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[");
    for (int i = 0; i < SPEC_NODES_MAX; i++)
        buf_printf(&t, "%s{\"id\":\"n%d\",\"type\":\"join.all\",\"depends_on\":[\"n%d\"]}", i ? "," : "", i, (i + 1) % SPEC_NODES_MAX);
    BUF_LIT(&t, "],\"outputs\":[{\"name\":\"o\",\"from\":\"n0\"}]}");
    expect_bounded(&t, "CYCLE");
}

static void the_largest_plan(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[");
    for (int i = 0; i < SPEC_NODES_MAX; i++) {
        buf_printf(&t, "%s{\"id\":\"n%d\",\"type\":\"join.all\",\"depends_on\":[", i ? "," : "", i);
        for (int d = 1; d < 10 && d <= i; d++)
            buf_printf(&t, "%s\"n%d\"", d > 1 ? "," : "", i - d);
        BUF_LIT(&t, "]}");
    }
    buf_printf(&t, "],\"outputs\":[{\"name\":\"o\",\"from\":\"n%d\"}]}", SPEC_NODES_MAX - 1);
    expect_bounded(&t, NULL);
}

static void too_many_edges(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow.v1\",\"nodes\":[");
    for (int i = 0; i < 500; i++)
        buf_printf(&t, "%s{\"id\":\"n%d\",\"type\":\"join.all\"}", i ? "," : "", i);
    BUF_LIT(&t, "],\"edges\":[");
    for (int i = 0; i < 500; i++)
        for (int j = i + 1; j < 500; j++)
            buf_printf(&t, "%s{\"from\":\"n%d\",\"to\":\"n%d\"}", i + j > 1 ? "," : "", i, j);
    BUF_LIT(&t, "],\"outputs\":[{\"name\":\"o\",\"from\":\"n0\"}]}");
    expect_bounded(&t, "LIMIT_EXCEEDED");
}

static void many_placeholders_and_pointers(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[{\"id\":\"a\",\"type\":\"llm\",\"user\":\"");
    for (int i = 0; i < 200000; i++)
        buf_printf(&t, "{{x%d}}", i % 1000 * 37 % 1000);
    BUF_LIT(&t, "{{{{{{{{{{{{{{{{\"},{\"id\":\"t\",\"type\":\"transform.json\",\"object\":{");
    for (int i = 0; i < 20000; i++)
        buf_printf(&t, "%s\"m%d\":{\"from\":\"a\",\"pointer\":\"/output/0\"}", i ? "," : "", i);
    BUF_LIT(&t, "}},{\"id\":\"u\",\"type\":\"transform.json\",\"object\":{");
    for (int i = 0; i < 20000; i++)
        buf_printf(&t, "%s\"m%d\":{\"from\":\"t\",\"pointer\":\"/m%d\"}", i ? "," : "", i, i);
    BUF_LIT(&t, "}}],\"outputs\":[{\"name\":\"o\",\"from\":\"u\"}]}");
    expect_bounded(&t, NULL);
}

static void targets_in_a_large_request(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow.v1\",\"nodes\":[{\"id\":\"a\",\"type\":\"llm.responses\",\"input\":{\"request\":{\"input\":[");
    for (int i = 0; i < 20000; i++)
        buf_printf(&t, "%s{\"role\":\"user\",\"content\":[]}", i ? "," : "");
    BUF_LIT(&t, "]},\"bindings\":[");
    for (int i = 0; i < SPEC_BINDINGS_MAX; i++)
        buf_printf(&t, "%s{\"from_input\":\"x\",\"to\":\"/input/%d\"}", i ? "," : "", i);
    BUF_LIT(&t, "]}}],\"outputs\":[{\"name\":\"o\",\"from\":\"a\"}]}");
    expect_bounded(&t, NULL);
}

/* Each transform hangs its pointer in front of the next one's. */
static void pointers_that_grow(void **state)
{
    (void)state;
    struct buf t = { 0 };
    char deep[2001];
    memset(deep, '/', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[{\"id\":\"n0\",\"type\":\"llm\",\"user\":\"x\"}");
    for (int i = 1; i <= 40; i++)
        buf_printf(&t, ",{\"id\":\"n%d\",\"type\":\"transform.json\",\"object\":{\"\":{\"from\":\"n%d\",\"pointer\":\"%s\"}}}", i, i - 1, deep);
    BUF_LIT(&t, "],\"outputs\":[");
    for (int i = 0; i < 10000; i++)
        buf_printf(&t, "%s{\"name\":\"o%d\",\"from\":\"n40\",\"pointer\":\"//\"}", i ? "," : "", i);
    BUF_LIT(&t, "]}");
    expect_bounded(&t, "POINTER_NOT_FOUND");
}

static void deep_documents_and_pointers(void **state)
{
    (void)state;
    struct buf t = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[{\"id\":\"a\",\"type\":\"llm\",\"user\":\"x\",\"note\":");
    for (int i = 0; i < 900; i++)
        buf_byte(&t, '[');
    for (int i = 0; i < 900; i++)
        buf_byte(&t, ']');
    BUF_LIT(&t, "}],\"outputs\":[{\"name\":\"o\",\"from\":\"a\"}]}");
    expect_bounded(&t, "LIMIT_EXCEEDED");
    t = (struct buf){ 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[{\"id\":\"a\",\"type\":\"llm\",\"user\":\"x\"}],\"outputs\":[{\"name\":\"o\",\"from\":\"a\",\"pointer\":\"");
    for (int i = 0; i < 100000; i++)
        BUF_LIT(&t, "/0");
    BUF_LIT(&t, "\"}]}");
    expect_bounded(&t, "INVALID_POINTER");
}

/* The deepest spec that is taken gives a plan that is taken. */
static void the_deepest_spec(void **state)
{
    (void)state;
    struct buf t = { 0 };
    struct arena arena = { 0 };
    BUF_LIT(&t,
        "{\"kind\":\"workflow\",\"nodes\":[{\"id\":\"f\",\"type\":\"map.fanout\",\"items_from_input\":\"x\","
        "\"subnode\":{\"id\":\"s\",\"type\":\"llm\",\"user\":\"x\","
                "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"t\",\"parameters\":{\"a\":");
    for (int i = 0; i < SPEC_INTENT_DEPTH_MAX - 8; i++)
        buf_byte(&t, '[');
    for (int i = 0; i < SPEC_INTENT_DEPTH_MAX - 8; i++)
        buf_byte(&t, ']');
    BUF_LIT(&t, "}}}]}}],\"outputs\":[{\"name\":\"o\",\"from\":\"f\"}]}");
    struct compiled first = compile_value(json_read(buf_view(&t), &arena));
    assert_int_equal(first.err, ERR_OK);
    struct compiled second = compile_value(first.plan);
    assert_int_equal(second.err, ERR_OK);
    assert_true(span_eq(first.text, second.text));
    arena_done(&first.arena);
    arena_done(&second.arena);
    arena_done(&arena);
    buf_done(&t);
}

static void too_many_issues_are_counted(void **state)
{
    (void)state;
    struct buf t = { 0 };
    struct arena arena = { 0 };
    BUF_LIT(&t, "{\"kind\":\"workflow\",\"nodes\":[");
    for (int i = 0; i < 200; i++)
        buf_printf(&t, "%s{\"id\":\"n%d\",\"type\":\"llm\"}", i ? "," : "", i);
    BUF_LIT(&t, "],\"outputs\":[{\"name\":\"o\",\"from\":\"n0\"}]}");
    struct compiled r = compile_value(json_read(buf_view(&t), &arena));
    assert_int_equal(r.issues.count, 200);
    assert_true(span_is(r.issues.items[0].code, "TOO_MANY_ISSUES"));
    assert_true(span_is(r.issues.items[0].message, "there are 200 issues; 49 of them are listed"));
    struct buf out = { 0 };
    struct jw w = jw_on(&out);
    spec_issues_to_json(&r.issues, &w);
    assert_int_equal(jv_count(json_read(buf_view(&out), &arena)), ISSUES_MAX);
    buf_done(&out);
    arena_done(&r.arena);
    arena_done(&arena);
    buf_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_with_every_issue_in_its_place),
        cmocka_unit_test(paths_become_pointers),
        cmocka_unit_test(writes_out_what_an_intent_means),
        cmocka_unit_test(keeps_explicit_edges_and_adds_the_missing_ones),
        cmocka_unit_test(reads_placeholders),
        cmocka_unit_test(refuses_patterns_that_cannot_run),
        cmocka_unit_test(reads_condition_paths),
        cmocka_unit_test(the_plan_of_a_plan_is_the_plan),
        cmocka_unit_test(defaults_and_spelling_do_not_change_the_hash),
        cmocka_unit_test(the_hash_of_a_plan_stays),
        cmocka_unit_test(gives_advice),
        cmocka_unit_test(draws),
        cmocka_unit_test(resolves_inputs),
        cmocka_unit_test(checks_models_of_a_run),
        cmocka_unit_test(streams_a_plan),
        cmocka_unit_test(looks_for_tools),
        cmocka_unit_test(hundred_thousand_nodes),
        cmocka_unit_test(a_cycle_through_all_nodes),
        cmocka_unit_test(the_largest_plan),
        cmocka_unit_test(too_many_edges),
        cmocka_unit_test(many_placeholders_and_pointers),
        cmocka_unit_test(targets_in_a_large_request),
        cmocka_unit_test(pointers_that_grow),
        cmocka_unit_test(deep_documents_and_pointers),
        cmocka_unit_test(the_deepest_spec),
        cmocka_unit_test(too_many_issues_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
