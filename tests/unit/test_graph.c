/* SPDX-License-Identifier: Apache-2.0 */
/* test_graph.c - stories of runs: what the graph machine asks for, line by line, and what comes out.
 *
 * graph_rig.h writes one line per effect: what, node, details, [op path]. A path is index.execution, "/m0" a model
 * call, "/w0" a prompt, "/T0" a sleep, "/T1" the pause before a next try, "/c0" a child; [] is the run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "graph_rig.h"

#define NODE(name, ref, binding, config, rest)                                                                         \
    "{'node':'" name "','capability_ref':'" ref "','capability_version':'1',"                                          \
    "'execution_binding':'" binding "','config':" config rest "}"
#define NEXT(name)               ",'next':'" name "'"
#define TRIES(n, ms)             ",'policy':{'max_tries':" n ",'backoff_ms':" ms "}"
#define BUNDLE(entry, nodes)     "{'format':1,'entry':'" entry "','nodes':[" nodes "]}"
#define CHAT(name, rest)         NODE(name, "model.chat", "model", "{'provider':'p','model':'m','prompt':'" name "?'}", rest)
#define ECHO(name, rest)         NODE(name, "core.echo", "builtin", "{}", rest)
#define VALUE(name, value, rest) NODE(name, "core.value", "builtin", "{'value':" value "}", rest)
#define ANSWER                   "{\"text\":\"yes\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2},\"finish_reason\":\"stop\"}"

static char *quoted(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    return copy;
}

/* Machine and effects point into the rig, so it stays where it is. */
static void story(struct rig *r, const char *definition, const char *start)
{
    char *text = quoted(definition), *begin = quoted(start);
    rig_open(r, text);
    rig_start(r, begin);
    free(text);
    free(begin);
}

static void assert_trace(struct rig *r, const char *expected)
{
    char *text = quoted(expected), *is = mem_dup(r->trace.p ? r->trace.p : "", r->trace.len);
    r->trace.len = 0;
    assert_string_equal(is, text);
    free(text);
    free(is);
}

static void assert_output(struct rig *r, const char *expected)
{
    char *text = quoted(expected), *is = mem_dup(r->output.p, r->output.len);
    assert_true(r->finished);
    assert_string_equal(is, text);
    free(text);
    free(is);
}

static void assert_failed(struct rig *r, const char *expected)
{
    char *text = quoted(expected), *is = mem_dup(r->output.p ? r->output.p : "", r->output.len);
    assert_true(r->failed);
    assert_string_equal(is, text);
    free(text);
    free(is);
}

/* Runs the definition to its end without any answer and compares the output. */
static void assert_gives(const char *definition, const char *start, const char *output)
{
    struct rig r;
    story(&r, definition, start);
    assert_output(&r, output);
    rig_close(&r);
}

static void assert_fails(const char *definition, const char *start, const char *error)
{
    struct rig r;
    story(&r, definition, start);
    assert_failed(&r, error);
    rig_close(&r);
}

/* ---- the four fixtures of agent-runs.md 9.2 ---- */

static void echo_tells_the_whole_story_of_a_run(void **state)
{
    struct rig r;
    story(&r, BUNDLE("say", ECHO("say", "")), "{'input':{'n':1.50,'big':12345678901234567890},'values':{}}");
    assert_trace(&r, "start say step 0 try 1 [0.1]\n"
                     "finish say {'echo':{'n':1.50,'big':12345678901234567890}} [0.1]\n"
                     "checkpoint node say 1 {'next':[],'state':{'locals':{},'values':{}},'step':1} [0.1]\n"
                     "checkpoint final  1 {'next':[],'state':{'locals':{},'values':{}},'step':1} []\n"
                     "done {'echo':{'n':1.50,'big':12345678901234567890}} values {} []\n");
    rig_close(&r);
    assert_gives(BUNDLE("say", ECHO("say", "")), "{'values':{}}", "{'echo':null}");
    assert_gives(BUNDLE("say", ECHO("say", "")), "{'input':null,'values':{}}", "{'echo':null}");
}

static void a_person_is_asked_and_the_answer_is_the_output(void **state)
{
    struct rig r;
    story(&r,
          BUNDLE("gate", NODE("gate", "core.human", "human", "{'prompt':'Approve?'}",
                              NEXT("out")) "," VALUE("out", "{'answer':{'$from':'/nodes/gate/output'}}", "")),
          "{'values':{'b':1,'a':2}}");
    assert_trace(
        &r, "start gate step 0 try 1 [0.1]\n"
            "checkpoint human gate 1 {'next':['gate'],'state':{'locals':{},'values':{'a':2,'b':1}},'step':1} [0.1]\n"
            "ask gate 'Approve?'  expires 0 [0.1/w0]\n"
            "wait gate 'human' [0.1]\n");
    rig_reload(&r);
    rig_answer(&r, "gate", ERR_OK, "{\"ok\":true,\"n\":1.0}");
    assert_trace(&r,
                 "finish gate {'ok':true,'n':1.0} [0.1]\n"
                 "checkpoint node gate 1 {'next':['out'],'state':{'locals':{},'values':{'a':2,'b':1}},'step':1} [0.1]\n"
                 "start out step 1 try 1 [1.1]\n"
                 "finish out {'answer':{'ok':true,'n':1.0}} [1.1]\n"
                 "checkpoint node out 2 {'next':[],'state':{'locals':{},'values':{'a':2,'b':1}},'step':2} [1.1]\n"
                 "checkpoint final  2 {'next':[],'state':{'locals':{},'values':{'a':2,'b':1}},'step':2} []\n"
                 "done {'answer':{'ok':true,'n':1.0}} values {'b':1,'a':2} []\n");
    rig_close(&r);
}

static void nobody_answers_in_time(void **state)
{
    struct rig r;
    story(&r,
          "{'format':1,'entry':'gate','policy':{'human_timeout_ms':5},'nodes':[" NODE(
              "gate", "core.human", "human", "{'prompt':{'$from':'/input'},'schema':{'type':'string'}}", "") "]}",
          "{'input':{'order':17},'values':{}}");
    assert_trace(&r, "start gate step 0 try 1 [0.1]\n"
                     "checkpoint human gate 1 {'next':['gate'],'state':{'locals':{},'values':{}},'step':1} [0.1]\n"
                     "ask gate '{'order':17}' {'type':'string'} expires 5000 [0.1/w0]\n"
                     "wait gate 'human' [0.1]\n");
    rig_answer(&r, "gate", ERR_EXPIRED, "null");
    assert_failed(&r,
                  "{'code':'human_timeout','category':'human','message':'Nobody answered in time.','retryable':false,"
                  "'source':'human','node':'gate'}");
    rig_close(&r);
}

static void a_failure_on_purpose_fails_the_run(void **state)
{
    struct rig r;
    story(&r,
          BUNDLE("bad", NODE("bad", "core.fail", "builtin",
                             "{'code':'fixture_failure','category':'tool',"
                             "'message':'no','retryable':false}",
                             TRIES("5", "0"))),
          "{'values':{}}");
    assert_trace(
        &r,
        "start bad step 0 try 1 [0.1]\n"
        "fail bad {'code':'fixture_failure','category':'tool','message':'no','retryable':false,'source':'agent'} [0.1]\n"
        "failed {'code':'fixture_failure','category':'tool','message':'no','retryable':false,'source':'agent',"
        "'node':'bad'} []\n");
    rig_close(&r);
}

#define SLOW                                                                                                           \
    BUNDLE("slow", NODE("slow", "core.emit", "builtin",                                                                \
                        "{'count':{'$from':'/input/ticks','default':40},"                                              \
                        "'interval_ms':{'$from':'/input/interval_ms','default':100}}",                                 \
                        ""))

static void ticks_are_counted_by_the_input(void **state)
{
    struct rig r;
    story(&r, SLOW, "{'input':{'ticks':7},'values':{}}");
    assert_trace(&r, "start slow step 0 try 1 [0.1]\n"
                     "model slow core.emit core.emit {'count':7,'interval_ms':100} stream on_node [0.1/m0]\n");
    rig_reload(&r);
    rig_answer(&r, "slow", ERR_OK, "{}");
    assert_output(&r, "{'ticks':7}");
    rig_close(&r);
    story(&r, SLOW, "{'values':{}}");
    rig_answer(&r, "slow", ERR_OK, "{}");
    assert_output(&r, "{'ticks':40}");
    rig_close(&r);
    assert_fails(SLOW, "{'input':{'ticks':100001},'values':{}}",
                 "{'code':'invalid_config','category':'validation','message':'config/count must be from 0 to 100000.',"
                 "'retryable':false,'source':'agent','node':'slow'}");
}

/* ---- the other capabilities ---- */

static void values_are_set_and_patched(void **state)
{
    struct rig r;
    story(&r,
          BUNDLE("a", NODE("a", "core.set", "builtin", "{'value':{'x/y':{'$from':'/input/k'},'b':2}}",
                           NEXT("z")) "," NODE("z", "core.set", "builtin", "{'value':{}}",
                                               NEXT("v")) "," VALUE("v", "{'$from':'/values/x~1y'}", "")),
          "{'input':{'k':1.10},'values':{'b':1,'a':[0]}}");
    assert_trace(
        &r,
        "start a step 0 try 1 [0.1]\n"
        "state a [{'op':'replace','path':'/b','value':2},{'op':'add','path':'/x~1y','value':1.10}] -> "
        "{'b':2,'a':[0],'x/y':1.10} [0.1]\n"
        "finish a {'b':2,'x/y':1.10} [0.1]\n"
        "checkpoint node a 1 {'next':['z'],'state':{'locals':{},'values':{'a':[0],'b':2,'x/y':1.1}},'step':1} [0.1]\n"
        "start z step 1 try 1 [2.1]\n"
        "finish z {} [2.1]\n"
        "checkpoint node z 2 {'next':['v'],'state':{'locals':{},'values':{'a':[0],'b':2,'x/y':1.1}},'step':2} [2.1]\n"
        "start v step 2 try 1 [1.1]\n"
        "finish v 1.10 [1.1]\n"
        "checkpoint node v 3 {'next':[],'state':{'locals':{},'values':{'a':[0],'b':2,'x/y':1.1}},'step':3} [1.1]\n"
        "checkpoint final  3 {'next':[],'state':{'locals':{},'values':{'a':[0],'b':2,'x/y':1.1}},'step':3} []\n"
        "done 1.10 values {'b':2,'a':[0],'x/y':1.10} []\n");
    rig_close(&r);
}

static void a_sleep_is_a_timer(void **state)
{
    struct rig r;
    story(&r, BUNDLE("nap", NODE("nap", "core.sleep", "builtin", "{'ms':20}", "")), "{'values':{}}");
    assert_trace(&r, "start nap step 0 try 1 [0.1]\ntimer nap due 20000 [0.1/T0]\n");
    rig_answer(&r, "nap", ERR_OK, "null");
    assert_output(&r, "null");
    rig_close(&r);
}

static void a_model_is_asked(void **state)
{
    struct rig r;
    story(
        &r,
        BUNDLE(
            "chat",
            NODE(
                "chat", "model.chat", "model",
                "{'provider':'p','model':'m','system':'Be short.','messages':[{'role':'user','content':{'$from':'/input'}},"
                "{'role':'assistant','content':[{'type':'text','text':'a'}]}],'max_tokens':9,'temperature':0.5,'script':{'text':'t'}}",
                "")),
        "{'input':{'q':1},'values':{}}");
    assert_trace(
        &r,
        "start chat step 0 try 1 [0.1]\n"
        "model chat p m {'messages':[{'role':'system','content':'Be short.'},{'content':'{\\'q\\':1}','role':'user'},"
        "{'content':[{'text':'a','type':'text'}],'role':'assistant'}],'max_tokens':9,'temperature':0.5,"
        "'script':{'text':'t'}} stream [0.1/m0]\n");
    rig_answer(&r, "chat", ERR_OK,
               "{\"text\":\"hi\",\"finish_reason\":\"stop\",\"usage\":{\"input_tokens\":1},\"raw\":{}}");
    assert_output(&r, "{'text':'hi','usage':{'input_tokens':1},'finish_reason':'stop'}");
    rig_close(&r);
}

static void a_model_error_is_passed_on(void **state)
{
    static const struct {
        enum err err;
        const char *value, *error;
    } cases[] = {
        { ERR_MODEL,
          "{\"code\":\"overloaded_error\",\"category\":\"rate_limit\",\"message\":\"busy\",\"retryable\":false,"
          "\"source\":\"provider\",\"provider_code\":\"529\"}",
          "{'code':'overloaded_error','category':'rate_limit','message':'busy','retryable':false,'source':'provider',"
          "'provider_code':'529','node':'c'}" },
        { ERR_BUDGET, "",
          "{'code':'budget','category':'budget','message':'Budget reached','retryable':false,'source':'model',"
          "'node':'c'}" },
        { ERR_TIMEOUT, "{\"category\":\"nonsense\",\"provider_code\":null}",
          "{'code':'timeout','category':'timeout','message':'Timed out','retryable':true,'source':'model','node':'c'}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig r;
        story(&r, BUNDLE("c", CHAT("c", "")), "{'values':{}}");
        rig_answer(&r, "c", cases[i].err, cases[i].value);
        assert_failed(&r, cases[i].error);
        rig_close(&r);
    }
}

static void work_is_handed_to_another_agent(void **state)
{
    static const char definition[] =
        BUNDLE("h", NODE("h", "core.handoff", "agent", "{'agent_id':'a-1','input':{'q':{'$from':'/input'}}}", ""));
    static const struct {
        const char *answer, *output, *error;
    } cases[] = {
        { "{\"status\":\"completed\",\"output\":{\"n\":1.0}}", "{'n':1.0}", NULL },
        { "{\"status\":\"completed\"}", "null", NULL },
        { "{\"status\":\"failed\",\"error\":{\"category\":\"tool\",\"message\":\"broken\",\"retryable\":true}}", NULL,
          "{'code':'child_failed','category':'tool','message':'broken','retryable':true,'source':'agent','node':'h'}" },
        { "{\"status\":\"failed\"}", NULL,
          "{'code':'child_failed','category':'internal','message':'The child run failed.',"
          "'retryable':false,'source':'agent','node':'h'}" },
        { "{\"status\":\"cancelled\",\"error\":null}", NULL,
          "{'code':'child_cancelled','category':'cancelled',"
          "'message':'The child run was cancelled.','retryable':false,'source':'agent','node':'h'}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig r;
        story(&r, definition, "{'input':5,'values':{}}");
        assert_trace(&r, "start h step 0 try 1 [0.1]\nchild h a-1 {'q':5} [0.1/c0]\n");
        rig_reload(&r);
        rig_answer(&r, "h", ERR_OK, cases[i].answer);
        if (cases[i].output)
            assert_output(&r, cases[i].output);
        else
            assert_failed(&r, cases[i].error);
        rig_close(&r);
    }
}

static void references_lead_somewhere_or_have_a_default(void **state)
{
    assert_gives(
        BUNDLE("a", VALUE("a",
                          "[{'$from':'/input/a/0','default':1},{'$from':'/input/b','default':{'$from':'/values/v'}},"
                          "{'x':{'$from':'/input'}}]",
                          "")),
        "{'input':{'a':[{'$from':'/values'}]},'values':{'v':1e2}}",
        "[{'$from':'/values'},1e2,{'x':{'a':[{'$from':'/values'}]}}]");
    assert_fails(BUNDLE("a", VALUE("a", "{'x':[{'$from':'/input/b'}]}", "")), "{'input':{},'values':{}}",
                 "{'code':'reference_not_found','category':'validation','message':'There is nothing at /input/b.',"
                 "'retryable':false,'source':'agent','node':'a'}");
    assert_fails(BUNDLE("a", VALUE("a", "{'$from':'/input'}", "")), "{'values':{}}",
                 "{'code':'reference_not_found','category':'validation','message':'There is nothing at /input.',"
                 "'retryable':false,'source':'agent','node':'a'}");
    /* A node that has not run has no output. */
    assert_gives(BUNDLE("a", VALUE("a", "{'$from':'/nodes/b/output','default':7}",
                                   NEXT("b")) "," VALUE("b", "{'$from':'/nodes/a/output'}", "")),
                 "{'values':{}}", "7");
}

/* ---- the shape of runs ---- */

static void a_chain_of_plain_nodes_runs_in_one_step(void **state)
{
    struct rig r;
    story(&r,
          BUNDLE("a", NODE("a", "core.set", "builtin", "{'value':{'n':1}}", NEXT("b")) "," NODE(
                          "b", "core.set", "builtin", "{'value':{'n':2}}",
                          NEXT("c")) "," NODE("c", "core.set", "builtin", "{'value':{'m':{'$from':'/values/n'}}}", "")),
          "{'values':{}}");
    assert_int_equal(r.seq, 1);
    assert_output(&r, "{'m':2}");
    rig_close(&r);
}

#define DIAMOND                                                                                                        \
    BUNDLE("a", VALUE("a", "0", ",'next':['c','b']") "," CHAT("b", NEXT("d")) "," CHAT("c", NEXT("d")) "," VALUE(      \
                    "d", "[{'$from':'/nodes/b/output/text'},{'$from':'/nodes/c/output/text'}]", ""))

static void a_join_waits_for_both_branches(void **state)
{
    struct rig r;
    story(&r, DIAMOND, "{'values':{}}");
    assert_trace(&r, "start a step 0 try 1 [0.1]\nfinish a 0 [0.1]\n"
                     "checkpoint node a 1 {'next':['b','c'],'state':{'locals':{},'values':{}},'step':1} [0.1]\n"
                     "start b step 1 try 1 [1.1]\n"
                     "model b p m {'messages':[{'role':'user','content':'b?'}]} stream [1.1/m0]\n"
                     "start c step 2 try 1 [2.1]\n"
                     "model c p m {'messages':[{'role':'user','content':'c?'}]} stream [2.1/m0]\n");
    rig_answer(&r, "c", ERR_OK, "{\"text\":\"C\"}");
    assert_trace(&r, "finish c {'text':'C'} [2.1]\n"
                     "checkpoint node c 3 {'next':['b','d'],'state':{'locals':{},'values':{}},'step':3} [2.1]\n");
    rig_answer(&r, "b", ERR_OK, "{\"text\":\"B\"}");
    assert_output(&r, "['B','C']");
    rig_close(&r);
}

static void a_failure_cancels_the_others(void **state)
{
    struct rig r;
    story(&r, DIAMOND, "{'values':{}}");
    r.trace.len = 0;
    struct rig_call late = r.calls[0];
    rig_answer(&r, "c", ERR_MODEL, "{\"code\":\"x\",\"message\":\"y\",\"retryable\":true}");
    assert_trace(
        &r, "fail c {'code':'x','category':'model','message':'y','retryable':true,'source':'model'} [2.1]\n"
            "abort []\ncancel b 'run_failed' [1.1]\n"
            "failed {'code':'x','category':'model','message':'y','retryable':true,'source':'model','node':'c'} []\n");
    /* The answer of the cancelled call comes after all: it is nobody's. */
    assert_int_equal(rig_input(&r, IN_MODEL, late.op, ERR_OK, SPAN("{}")), 0);
    rig_close(&r);
}

static void several_ends_give_an_object(void **state)
{
    assert_gives(BUNDLE("a", VALUE("a", "0", ",'next':['c','b']") "," VALUE("b", "1", "") "," VALUE("c", "2", "")),
                 "{'values':{}}", "{'b':1,'c':2}");
}

#define CHOICE                                                                                                                     \
    BUNDLE(                                                                                                                        \
        "s",                                                                                                                       \
        NODE(                                                                                                                      \
            "s", "core.switch", "builtin",                                                                                         \
            "{'cases':["                                                                                                           \
            "{'when':{'pointer':'/input/k','equals':{'v':1}},'next':'x'},{'when':{'pointer':'/input/k','equals':'y'},'next':'y'}," \
            "{'when':{'pointer':'/input/k','equals':'end'},'next':null},{'when':{'pointer':'/input/k','equals':'end2'}}]}",        \
            "") "," VALUE("x", "'x'",                                                                                              \
                          NEXT(                                                                                                    \
                              "join")) "," VALUE("y", "'y'",                                                                       \
                                                 NEXT(                                                                             \
                                                     "join")) "," VALUE("join",                                                    \
                                                                        "{'$from':'/nodes/x/output','default':'no x'}",            \
                                                                        ""))

static void a_switch_takes_the_first_case_that_holds(void **state)
{
    assert_gives(CHOICE, "{'input':{'k':{'v':1.0}},'values':{}}", "'x'");
    assert_gives(CHOICE, "{'input':{'k':'y'},'values':{}}", "'no x'");
    assert_gives(CHOICE, "{'input':{'k':'end'},'values':{}}", "{'next':null}");
    assert_gives(CHOICE, "{'input':{'k':'end2'},'values':{}}", "{'next':null}");
    assert_fails(CHOICE, "{'input':{'k':2},'values':{}}",
                 "{'code':'no_case','category':'validation',"
                 "'message':'No case of the switch holds.','retryable':false,'source':'agent','node':'s'}");
    assert_fails(CHOICE, "{'values':{}}",
                 "{'code':'no_case','category':'validation',"
                 "'message':'No case of the switch holds.','retryable':false,'source':'agent','node':'s'}");
}

/* fork -> (slow, sw); sw -> dead -> far -> join, or straight to join; slow -> join */
static void a_dead_path_is_not_waited_for_but_a_live_one_is(void **state)
{
    struct rig r;
    story(
        &r,
        BUNDLE("fork", VALUE("fork", "0", ",'next':['slow','sw']") "," CHAT("slow", NEXT("join")) "," NODE(
                           "sw", "core.switch", "builtin",
                           "{'cases':[{'when':{'pointer':'/input','equals':1},'next':'dead'},{'next':'join'}]}",
                           "") "," CHAT("dead", NEXT("far")) "," VALUE("far", "0",
                                                                       NEXT("join")) "," VALUE("join", "'joined'", "")),
        "{'values':{}}");
    assert_int_equal(r.call_count, 1);
    rig_answer(&r, "slow", ERR_OK, ANSWER);
    assert_output(&r, "'joined'");
    rig_close(&r);
}

/* draft -> check (model) -> sw -> draft again while the answer is "again", else out */
#define LOOP                                                                                                           \
    BUNDLE("draft", VALUE("draft", "0", NEXT("check")) "," CHAT("check", NEXT("sw")) "," NODE(                         \
                        "sw", "core.switch", "builtin",                                                                \
                        "{'cases':[{'when':{'pointer':'/nodes/check/output/text','equals':'again'},'next':'draft'},"   \
                        "{'next':'out'}]}",                                                                            \
                        "") "," VALUE("out", "{'$from':'/nodes/check/output/text'}", ""))

static void a_loop_runs_its_nodes_again(void **state)
{
    struct rig r;
    story(&r, LOOP, "{'values':{}}");
    rig_answer(&r, "check", ERR_OK, "{\"text\":\"again\"}");
    r.trace.len = 0;
    rig_reload(&r);
    rig_answer(&r, "check", ERR_OK, "{\"text\":\"again\"}");
    assert_trace(&r, "finish check {'text':'again'} [0.2]\n"
                     "checkpoint node check 5 {'next':['sw'],'state':{'locals':{},'values':{}},'step':5} [0.2]\n"
                     "start sw step 5 try 1 [3.2]\n"
                     "finish sw {'next':'draft'} [3.2]\n"
                     "checkpoint node sw 6 {'next':['draft'],'state':{'locals':{},'values':{}},'step':6} [3.2]\n"
                     "start draft step 6 try 1 [1.3]\n"
                     "finish draft 0 [1.3]\n"
                     "checkpoint node draft 7 {'next':['check'],'state':{'locals':{},'values':{}},'step':7} [1.3]\n"
                     "start check step 7 try 1 [0.3]\n"
                     "model check p m {'messages':[{'role':'user','content':'check?'}]} stream [0.3/m0]\n");
    for (int i = 0; i < 300; i++)
        rig_answer(&r, "check", ERR_OK, "{\"text\":\"again\"}");
    struct op_path op = r.calls[0].op; /* beyond 255 the path is longer */
    assert_int_equal(op.n, 3);
    assert_int_equal(op.v[0], OP_NODE_TRY(0, 0));
    assert_int_equal(op.v[1], OP_PART(OP_ITEM, 303));
    rig_reload(&r);
    rig_answer(&r, "check", ERR_OK, "{\"text\":\"fine\"}");
    assert_output(&r, "'fine'");
    rig_close(&r);
}

static void a_loop_without_end_is_stopped(void **state)
{
    assert_fails(
        "{'format':1,'entry':'s','policy':{'max_steps':25},'nodes':[" NODE("s", "core.switch", "builtin",
                                                                           "{'cases':[{'next':'s'}]}", "") "]}",
        "{'values':{}}",
        "{'code':'max_steps','category':'budget','message':'The run has started 25 nodes, which is its limit.',"
        "'retryable':false,'source':'runtime','node':'s'}");
}

static void a_long_chain_is_cut_into_several_steps(void **state)
{
    struct rig r;
    unsigned cuts = 0;
    story(&r,
          "{'format':1,'entry':'s','policy':{'max_steps':1000},'nodes':[" NODE("s", "core.switch", "builtin",
                                                                               "{'cases':[{'next':'s'}]}", "") "]}",
          "{'values':{}}");
    for (; r.call_count > 0; cuts++) {
        assert_int_equal(r.calls[0].kind, FX_TIMER);
        assert_int_equal(r.calls[0].op.v[0], OP_PART(OP_TIMER, cuts + 1));
        rig_reload(&r);
        rig_answer(&r, "", ERR_OK, "null");
    }
    assert_int_equal(cuts, 3);
    assert_true(r.failed);
    rig_close(&r);
}

/* Two branches of one loop body run at the same time; the join outside waits until the loop is over. */
static void loop_bodies_may_be_parallel_and_are_waited_for(void **state)
{
    struct rig r;
    story(
        &r,
        BUNDLE(
            "e",
            VALUE("e", "0", ",'next':['h','join']") "," VALUE("h", "0", ",'next':['p','q']") "," CHAT("p", NEXT("sw")) "," CHAT(
                "q",
                NEXT(
                    "sw")) "," NODE("sw", "core.switch", "builtin",
                                    "{'cases':[{'when':{'pointer':'/nodes/q/output/text','equals':'again'},'next':'h'},"
                                    "{'next':'join'}]}",
                                    "") "," VALUE("join", "'end'", "")),
        "{'values':{}}");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r.call_count, 2);
        rig_answer(&r, "q", ERR_OK, i < 2 ? "{\"text\":\"again\"}" : "{}");
        assert_int_equal(r.call_count, 1);
        rig_reload(&r);
        rig_answer(&r, "p", ERR_OK, "{}");
    }
    assert_output(&r, "'end'");
    rig_close(&r);
}

/* e -> h -> (g, p, q), g -> (p, q); p -> s1 -> h or out; q -> s2 -> h or nothing. The branches p and q can reach each
 * other only through the next round, so both run at once; out waits while q may still begin another round. */
static void what_follows_a_loop_waits_for_its_last_round(void **state)
{
    struct rig r;
    story(
        &r,
        BUNDLE(
            "e",
            VALUE("e", "0", NEXT("h")) "," VALUE("h", "0", ",'next':['g','p','q']") "," VALUE("g", "0", ",'next':['p','q']") "," CHAT(
                "p",
                NEXT(
                    "s1")) "," CHAT("q",
                                    NEXT(
                                        "s2")) "," NODE("s1", "core.switch", "builtin",
                                                        "{'cases':[{'when':{'pointer':'/nodes/p/output/text','equals':'again'},'next':'h'},"
                                                        "{'next':'out'}]}",
                                                        "") "," NODE("s2", "core.switch", "builtin",
                                                                     "{'cases':[{'when':{'pointer':'/nodes/q/output/text','equals':'again'},'next':'h'},"
                                                                     "{'next':null}]}",
                                                                     "") "," VALUE("out", "'end'", "")),
        "{'values':{}}");
    assert_int_equal(r.call_count, 2);
    rig_answer(&r, "p", ERR_OK, "{}");
    assert_int_equal(r.call_count, 1);
    rig_answer(&r, "q", ERR_OK, "{\"text\":\"again\"}");
    assert_int_equal(r.call_count, 2);
    rig_reload(&r);
    rig_answer(&r, "p", ERR_OK, "{\"text\":\"again\"}");
    rig_answer(&r, "q", ERR_OK, "{}");
    assert_int_equal(r.call_count, 2); /* the third round, begun by p after q had ended */
    rig_answer(&r, "q", ERR_OK, "{}");
    rig_answer(&r, "p", ERR_OK, "{}");
    assert_output(&r, "{'out':'end','s2':{'next':null}}");
    const char *first = memmem(r.trace.p, r.trace.len, "start out step", 14);
    assert_non_null(first);
    assert_null(memmem(first + 1, r.trace.len - (size_t)(first + 1 - r.trace.p), "start out step", 14));
    rig_close(&r);
}

/* ---- tries, attempts ---- */

static void a_node_is_tried_again_after_a_pause_that_doubles(void **state)
{
    struct rig r;
    story(&r, BUNDLE("a", CHAT("a", TRIES("3", "20"))), "{'values':{}}");
    r.trace.len = 0;
    rig_answer(&r, "a", ERR_MODEL, "{\"retryable\":true}");
    assert_trace(
        &r,
        "fail a {'code':'model','category':'model','message':'Model call failed','retryable':true,'source':'model'} again [0.1]\n"
        "timer a due 20000 [0.1/T1]\n");
    rig_reload(&r);
    rig_answer(&r, "a", ERR_OK, "null");
    assert_trace(
        &r, "start a step 1 try 2 [0.2]\nmodel a p m {'messages':[{'role':'user','content':'a?'}]} stream [0.2/m0]\n");
    rig_answer(&r, "a", ERR_MODEL, "{\"retryable\":true}");
    assert_int_equal(r.calls[0].due_us, 20000 + 40000);
    rig_answer(&r, "a", ERR_OK, "null");
    rig_answer(&r, "a", ERR_MODEL, "{\"retryable\":true}");
    assert_failed(
        &r,
        "{'code':'model','category':'model','message':'Model call failed','retryable':true,'source':'model','node':'a'}");
    rig_close(&r);
}

#define FLAKY(tries)                                                                                                   \
    BUNDLE("a", NODE("a", "core.fail", "builtin", "{'code':'x','message':'m','retryable':true,'fail_times':3}",        \
                     TRIES(tries, "0")))

static void a_flaky_node_succeeds_at_last(void **state)
{
    struct rig r;
    story(&r, FLAKY("4"), "{'values':{}}");
    assert_int_equal(r.seq, 1);
    assert_output(&r, "null");
    rig_close(&r);
}

static void the_counter_of_failures_outlives_the_attempt(void **state)
{
    struct rig r;
    story(&r, FLAKY("2"), "{'values':{}}");
    assert_true(r.failed);
    rig_reload(&r);
    r.trace.len = 0;
    rig_start(&r, "{\"values\":{}}");
    assert_trace(
        &r, "start a step 2 try 1 [0.3]\n"
            "fail a {'code':'x','category':'internal','message':'m','retryable':true,'source':'agent'} again [0.3]\n"
            "start a step 3 try 2 [0.4]\n"
            "finish a null [0.4]\n"
            "checkpoint node a 4 {'next':[],'state':{'locals':{'a':3},'values':{}},'step':4} [0.4]\n"
            "checkpoint final  4 {'next':[],'state':{'locals':{'a':3},'values':{}},'step':4} []\n"
            "done null values {} []\n");
    rig_close(&r);
}

static void a_new_attempt_repeats_only_what_was_not_finished(void **state)
{
    struct rig r;
    story(&r, DIAMOND, "{'input':1,'values':{'v':1}}");
    rig_answer(&r, "b", ERR_OK, "{\"text\":\"B\"}");
    struct rig_call late = r.calls[0];
    rig_reload(&r);
    r.trace.len = 0;
    r.call_count = r.open_nodes = 0; /* the calls of the old attempt are gone */
    rig_start(&r, "{\"input\":2,\"values\":{}}");
    assert_trace(
        &r, "start c step 3 try 1 [2.2]\nmodel c p m {'messages':[{'role':'user','content':'c?'}]} stream [2.2/m0]\n");
    assert_int_equal(rig_input(&r, IN_MODEL, late.op, ERR_OK, SPAN("{\"text\":\"old\"}")), 0);
    rig_answer(&r, "c", ERR_OK, "{\"text\":\"C\"}");
    assert_output(&r, "['B','C']");
    assert_true(span_is(buf_view(&r.values), "{\"v\":1}"));
    rig_close(&r);
}

static void a_run_that_had_finished_finishes_again(void **state)
{
    struct rig r;
    story(&r, BUNDLE("say", ECHO("say", "")), "{'input':7,'values':{}}");
    rig_reload(&r);
    r.trace.len = 0;
    rig_start(&r, "{\"input\":8,\"values\":{}}");
    assert_trace(&r, "checkpoint final  1 {'next':[],'state':{'locals':{},'values':{}},'step':1} []\n"
                     "done {'echo':7} values {} []\n");
    rig_close(&r);
}

static void strangers_are_ignored(void **state)
{
    struct rig r;
    story(&r, BUNDLE("a", CHAT("a", "")), "{'values':{}}");
    struct op_path mine = r.calls[0].op, node = { .n = 1, .v = { OP_NODE_TRY(0, 1) } };
    struct op_path far = op_sub((struct op_path){ .n = 1, .v = { OP_NODE_TRY(99999, 1) } }, OP_PART(OP_MODEL, 0));
    assert_int_equal(rig_input(&r, IN_TOOL, mine, ERR_OK, SPAN("{}")), 0);
    assert_int_equal(rig_input(&r, IN_TIMER, mine, ERR_OK, SPAN("null")), 0);
    assert_int_equal(rig_input(&r, IN_MODEL, node, ERR_OK, SPAN("{}")), 0);
    assert_int_equal(rig_input(&r, IN_MODEL, op_sub(mine, OP_PART(OP_MODEL, 0)), ERR_OK, SPAN("{}")), 0);
    assert_int_equal(rig_input(&r, IN_MODEL, far, ERR_OK, SPAN("{}")), 0);
    assert_int_equal(rig_input(&r, IN_MESSAGE, (struct op_path){ 0 }, ERR_OK, SPAN("{}")), 0);
    rig_answer(&r, "a", ERR_OK, ANSWER);
    assert_true(r.finished);
    assert_int_equal(rig_input(&r, IN_MODEL, mine, ERR_OK, SPAN("{}")), 0);
    rig_close(&r);
}

static void snapshots_that_do_not_fit_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "{'rev':2,'life':'running','values':{},'nodes':{}}",
        "{'rev':1,'life':'asleep','values':{},'nodes':{}}",
        "{'rev':1,'life':'running','values':[],'nodes':{}}",
        "{'rev':1,'life':'running','values':{}}",
        "{'rev':1,'life':'running','values':{},'nodes':{'b':{}}}",
        "{'rev':1,'life':'running','values':{},'nodes':{'a':{'execs':-1}}}",
        "{'rev':1,'life':'running','values':{},'nodes':{'a':{'execs':1,'phase':'model'}}}",
        "{'rev':1,'life':'running','values':{},'nodes':{'a':{'execs':1,'phase':'dream'}}}",
    };
    struct rig r;
    story(&r, BUNDLE("a", ECHO("a", "")), "{'values':{}}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct arena arena = { 0 };
        struct machine *m = NULL;
        char *text = quoted(bad[i]);
        assert_int_equal(graph_ops.load(&r.plan, span_of(text), &arena, &m), ERR_CORRUPT);
        assert_null(m);
        free(text);
        arena_done(&arena);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_tells_the_whole_story_of_a_run),
        cmocka_unit_test(a_person_is_asked_and_the_answer_is_the_output),
        cmocka_unit_test(nobody_answers_in_time),
        cmocka_unit_test(a_failure_on_purpose_fails_the_run),
        cmocka_unit_test(ticks_are_counted_by_the_input),
        cmocka_unit_test(values_are_set_and_patched),
        cmocka_unit_test(a_sleep_is_a_timer),
        cmocka_unit_test(a_model_is_asked),
        cmocka_unit_test(a_model_error_is_passed_on),
        cmocka_unit_test(work_is_handed_to_another_agent),
        cmocka_unit_test(references_lead_somewhere_or_have_a_default),
        cmocka_unit_test(a_chain_of_plain_nodes_runs_in_one_step),
        cmocka_unit_test(a_join_waits_for_both_branches),
        cmocka_unit_test(a_failure_cancels_the_others),
        cmocka_unit_test(several_ends_give_an_object),
        cmocka_unit_test(a_switch_takes_the_first_case_that_holds),
        cmocka_unit_test(a_dead_path_is_not_waited_for_but_a_live_one_is),
        cmocka_unit_test(a_loop_runs_its_nodes_again),
        cmocka_unit_test(a_loop_without_end_is_stopped),
        cmocka_unit_test(a_long_chain_is_cut_into_several_steps),
        cmocka_unit_test(loop_bodies_may_be_parallel_and_are_waited_for),
        cmocka_unit_test(what_follows_a_loop_waits_for_its_last_round),
        cmocka_unit_test(a_node_is_tried_again_after_a_pause_that_doubles),
        cmocka_unit_test(a_flaky_node_succeeds_at_last),
        cmocka_unit_test(the_counter_of_failures_outlives_the_attempt),
        cmocka_unit_test(a_new_attempt_repeats_only_what_was_not_finished),
        cmocka_unit_test(a_run_that_had_finished_finishes_again),
        cmocka_unit_test(strangers_are_ignored),
        cmocka_unit_test(snapshots_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
