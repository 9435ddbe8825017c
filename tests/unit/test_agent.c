/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of src/agent: what the loop asks for, in stories whose traces stand in data/agent_stories.txt; that a crash between any
 * two inputs changes nothing; that a new attempt goes on where the old one stood; that any order of arrival gives the same
 * conversation; and what definitions are refused. AGENT_STORIES=FILE writes the traces there. */
#include "agent_rig.h"
#include "unit.h"

struct move {
    const char *path; /* "!": steering; "@": so many microseconds later */
    enum err err;
    const char *value;
};

struct story {
    const char *name, *definition, *start;
    struct move moves[12];
};

#define MODEL     "\"model\":{\"provider\":\"p\",\"model\":\"m\"}"
#define HELLO     "{\"input\":\"hello\"}"
#define SAY(text) "{\"text\":\"" text "\",\"finish_reason\":\"stop\",\"usage\":{\"input_tokens\":10,\"output_tokens\":2,\"total_tokens\":12}}"
#define CALL(id, name, arguments) "{\"id\":\"" id "\",\"name\":\"" name "\",\"arguments\":\"" arguments "\"}"
#define CALLS(calls)              "{\"text\":\"\",\"finish_reason\":\"tool_calls\",\"tool_calls\":[" calls "]}"
#define CLIENT(name)              "{\"name\":\"" name "\",\"by\":\"client\"}"

static const struct story stories[] = {
    { "a text is answered",
      "{\"system\":\"Be \\\"kind\\\".\"," MODEL "}",
      HELLO,
      { { "m0", ERR_OK, SAY("hi") } } },
    { "settings are passed on, buckets are added up",
      "{\"model\":{\"provider\":\"p\",\"model\":\"m\",\"temperature\":0.5,\"max_tokens\":9,\"stop\":[\"x\"],"
      "\"reasoning_effort\":\"low\",\"stream\":false},\"retry\":{\"max_attempts\":3}}",
      "{\"input\":{\"prompt\":\"hello\"}}",
      { { "m0", ERR_OK, "{\"text\":\"hi\",\"finish_reason\":\"length\",\"model\":\"m-2\",\"response_id\":\"r1\",\"usage\":{\"input_tokens\":10,"
                        "\"output_tokens\":5,\"total_tokens\":15,\"buckets\":{\"input\":3,\"cache_read\":7,\"cache_write\":0,\"output\":4,"
                        "\"reasoning\":1}}}" } } },
    { "tools are listed once, called at once, told in the order of the calls",
      "{" MODEL ",\"tools\":[\"files.*\",{\"name\":\"clock\",\"description\":\"mine\"}]}",
      "{\"input\":{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]}]}}",
      { { "t0", ERR_OK, "{\"tools\":[{\"name\":\"clock\",\"description\":\"theirs\",\"input_schema\":{\"type\":\"object\"},"
                        "\"repeat_safe\":true},{\"name\":\"files.read\",\"description\":\"reads\",\"input_schema\":{\"type\":\"object\","
                        "\"properties\":{\"path\":{\"type\":\"string\"}},\"required\":[\"path\"]}},{\"name\":\"other.x\"}]}" },
        { "m0", ERR_OK, "{\"text\":\"let me see\",\"tool_calls\":[" CALL("a", "files_read", "{ \\\"path\\\": \\\"x\\\" }") ","
                        CALL("b", "clock", "") "," CALL("b", "files.read", "{\\\"path\\\":\\\"y\\\"}")
                        "],\"provider_state\":{\"sig\":[1]}}" },
        { "m0/t2", ERR_OK, "{\"y\": 1.50}" },
        { "m0/t0", ERR_TOOL, "{\"code\":\"x\",\"message\":\"no such file\"}" },
        { "m0/t1", ERR_OK, "\"noon\"" },
        { "m1", ERR_OK, SAY("done") } } },
    { "what cannot be called is told to the model",
      "{" MODEL ",\"tools\":[\"files.*\"]}",
      HELLO,
      { { "t0", ERR_OK, "{\"tools\":[{\"name\":\"files.read\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"path\":{\"type\":"
                        "\"string\"}},\"required\":[\"path\"]}},{\"name\":\"files.odd\",\"input_schema\":{\"pattern\":\"x\"}}]}" },
        { "m0", ERR_OK, CALLS(CALL("a", "nothing", "{}") "," CALL("b", "files_read", "{\\\"path\\\":1}") ","
                              CALL("c", "files_read", "{\\\"path\\\"") "," CALL("d", "files_read", "[]") ",{},7,"
                              CALL("e", "files_odd", "{\\\"any\\\":1}")) },
        { "m0/t6", ERR_OK, "null" },
        { "m1", ERR_OK, CALLS(CALL("a", "nothing", "{}")) },
        { "m2", ERR_OK, SAY("sorry") } } },
    { "a listing that fails fails the agent",
      "{" MODEL ",\"tools\":[\"gone\"]}",
      HELLO,
      { { "t0", ERR_TOOL, "{\"code\":\"unknown_tool\",\"category\":\"tool\",\"message\":\"no gone\",\"retryable\":false,\"source\":\"tool\"}" } } },
    { "approved and rejected calls",
      "{" MODEL ",\"tools\":[{\"name\":\"pay\",\"approval\":true},\"look\"]}",
      HELLO,
      { { "t0", ERR_OK, "{\"tools\":[{\"name\":\"pay\"},{\"name\":\"look\",\"approval\":true}]}" },
        { "m0", ERR_OK, CALLS(CALL("a", "pay", "{\\\"eur\\\":5}") "," CALL("b", "look", "{}") "," CALL("c", "pay", "{}")) },
        { "m0/t1/w0", ERR_OK, "{\"approved\":false,\"reason\":\"private\"}" },
        { "m0/t0/w0", ERR_OK, "{\"approved\":true}" },
        { "m0/t2/w0", ERR_EXPIRED, "null" },
        { "m0/t0", ERR_OK, "{\"paid\":true}" },
        { "m1", ERR_OK, SAY("paid") } } },
    { "client tools and questions",
      "{" MODEL ",\"tool_mode\":\"client\",\"limits\":{\"wait_ttl_ms\":1000},\"tools\":[\"user_ask\",\"fs_read\",{\"name\":\"edit\","
      "\"parameters\":{\"type\":\"object\",\"required\":[\"path\"]},\"approval\":true},{\"name\":\"kv_read\",\"by\":\"local\"}]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "user_ask", "{\\\"question\\\":\\\"Which region?\\\",\\\"options\\\":[{\\\"label\\\":\\\"eu\\\"}]}") ","
                              CALL("b", "fs_read", "[1]") "," CALL("c", "edit", "{}") "," CALL("d", "kv_read", "{\\\"key\\\":\\\"k\\\"}") ","
                              CALL("e", "user_ask", "{\\\"question\\\":\\\" \\\"}") ","
                              CALL("f", "user_ask", "{\\\"question\\\":\\\"Sure?\\\"}")) },
        { "@", 0, "500000" },
        { "m0/t1", ERR_OK, "\"Error: no\"" },
        { "m0/t0/w0", ERR_OK, "\"eu\"" },
        { "m0/t3", ERR_OK, "null" },
        { "m0/t5", ERR_OK, "\"{\\\"answer\\\":\\\"yes\\\",\\\"is_freeform\\\":false}\"" },
        { "m0/t2/w0", ERR_OK, "true" },
        { "m0/t2", ERR_OK, "\"ok\"" },
        { "m1", ERR_OK, SAY("done") } } },
    { "nobody answers a client tool",
      "{" MODEL ",\"tools\":[" CLIENT("a") "," CLIENT("b") "]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "a", "{}") "," CALL("b", "b", "{}")) },
        { "m0/t1", ERR_OK, "1" },
        { "m0/w0", ERR_EXPIRED, "null" } } },
    { "nobody answers a question",
      "{" MODEL ",\"tools\":[\"user_ask\"]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "user_ask", "{\\\"question\\\":\\\"?\\\"}")) }, { "m0/t0/w0", ERR_EXPIRED, "null" } } },
    { "a structured output is repaired",
      "{" MODEL ",\"output\":{\"schema\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}}}",
      HELLO,
      { { "m0", ERR_OK, SAY("well") },
        { "m1", ERR_OK, SAY("{\\\"n\\\":\\\"x\\\"}") },
        { "m2", ERR_OK, SAY("```json\\n{\\\"n\\\": 1}\\n```") } } },
    { "a structured output cannot be repaired",
      "{" MODEL ",\"output\":{\"repairs\":1,\"name\":\"answer\",\"schema\":{\"type\":\"integer\"}}}",
      HELLO,
      { { "m0", ERR_OK, SAY("one") }, { "m1", ERR_OK, "{\"text\":\"\\\"tw\",\"finish_reason\":\"length\"}" } } },
    { "a structured output cannot be repaired within the steps",
      "{" MODEL ",\"limits\":{\"max_steps\":1},\"output\":{\"schema\":{\"type\":\"integer\"}}}",
      HELLO,
      { { "m0", ERR_OK, SAY("one") } } },
    { "the budget ends it with what is there",
      "{" MODEL ",\"tools\":[" CLIENT("a") "],\"output\":{\"schema\":{\"type\":\"integer\"}}}",
      HELLO,
      { { "m0", ERR_OK, "{\"text\":\"17\",\"tool_calls\":[" CALL("a", "a", "{}") "]}" },
        { "m0/t0", ERR_OK, "1" },
        { "m1", ERR_BUDGET, "{\"cap\":\"usd\",\"limit\":\"1\",\"used\":\"1\"}" } } },
    { "the budget of tools: what runs is awaited",
      "{" MODEL ",\"tools\":[{\"name\":\"kv_read\",\"by\":\"local\"}],\"memory\":{\"thread\":true}}",
      "{\"input\":\"q\",\"values\":{\"a\":1}}",
      { { "m0", ERR_OK, CALLS(CALL("a", "kv_read", "{\\\"key\\\":\\\"1\\\"}") "," CALL("b", "kv_read", "{\\\"key\\\":\\\"2\\\"}")) },
        { "m0/t0", ERR_BUDGET, "{\"cap\":\"tool_calls\",\"limit\":1,\"used\":1}" },
        { "m0/t1", ERR_OK, "2" } } },
    { "the budget may be a failure",
      "{" MODEL ",\"budget\":{\"usd\":\"0.5\",\"tokens\":100},\"on_budget\":\"fail\"}",
      HELLO,
      { { "m0", ERR_BUDGET, "{\"cap\":\"usd\"}" } } },
    { "too many model calls",
      "{" MODEL ",\"limits\":{\"max_steps\":2},\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "a", "{}")) }, { "m0/t0", ERR_OK, "1" }, { "m1", ERR_OK, CALLS(CALL("a", "a", "{}")) } } },
    { "too many model calls, and that is fine",
      "{" MODEL ",\"limits\":{\"max_steps\":1},\"on_limit\":\"stop\",\"memory\":{\"thread\":true},\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "m0", ERR_OK, "{\"text\":\"so far\",\"tool_calls\":[" CALL("a", "a", "{}") "]}" } } },
    { "too many tool rounds in agentic mode",
      "{" MODEL ",\"tool_mode\":\"agentic\",\"limits\":{\"max_tool_steps\":1},\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "a", "{}")) }, { "m0/t0", ERR_OK, "1" }, { "m1", ERR_OK, CALLS(CALL("a", "a", "{}")) } } },
    { "too many calls at once",
      "{" MODEL ",\"limits\":{\"max_tool_calls_per_step\":1},\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "a", "{}") "," CALL("b", "a", "{}")) } } },
    { "the model fails",
      "{" MODEL "}",
      HELLO,
      { { "m0", ERR_RATE_LIMITED, "{\"code\":\"rate_limited\",\"category\":\"rate_limit\",\"message\":\"slow down\",\"retryable\":true,"
                                  "\"source\":\"provider\",\"provider_code\":\"429\"}" } } },
    { "the model fails and says nothing", "{" MODEL "}", HELLO, { { "m0", ERR_TIMEOUT, "null" } } },
    { "an answer that is none", "{" MODEL "}", HELLO, { { "m0", ERR_OK, "[1]" } } },
    { "an answer of wrong kinds", "{" MODEL "}", HELLO, { { "m0", ERR_OK, "{\"text\":5,\"tool_calls\":{},\"usage\":[],\"finish_reason\":{}}" } } },
    { "numbers without measure",
      "{" MODEL ",\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "m0", ERR_OK, "{\"text\":\"\",\"tool_calls\":[" CALL("a", "a", "{}") "],\"usage\":{\"input_tokens\":9223372036854775807,"
                        "\"output_tokens\":-4,\"total_tokens\":1e99}}" },
        { "m0/t0", ERR_OK, "1" },
        { "m1", ERR_OK, "{\"text\":\"x\",\"usage\":{\"input_tokens\":9223372036854775807,\"output_tokens\":3}}" } } },
    { "a call that was cut off",
      "{" MODEL ",\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "m0", ERR_OK, "{\"text\":\"\",\"finish_reason\":\"length\",\"tool_calls\":[" CALL("a", "a", "{\\\"x\\\":1}") ","
                        CALL("b", "a", "{\\\"x") "," CALL("c", "a", "") "]}" },
        { "m0/t0", ERR_OK, "1" },
        { "m1", ERR_OK, SAY("ok") } } },
    { "steering is read at the next model call, and makes one",
      "{" MODEL ",\"tools\":[" CLIENT("a") "]}",
      HELLO,
      { { "!", 0, "\"first\"" },
        { "!", 0, "7" },
        { "!", 0, "null" },
        { "m0", ERR_OK, CALLS(CALL("a", "a", "{}")) },
        { "!", 0, "{\"message\":\"second\"}" },
        { "m0/t0", ERR_OK, "1" },
        { "!", 0, "{\"messages\":[{\"role\":\"user\",\"content\":\"third\"},{\"role\":\"nobody\"}]}" },
        { "!", 0, "{\"text\":\"fourth\"}" },
        { "m1", ERR_OK, SAY("done") },
        { "m2", ERR_OK, SAY("really") } } },
    { "the conversation is kept in the thread, and forgotten by turns",
      "{\"system\":\"S\"," MODEL ",\"memory\":{\"thread\":true,\"max_messages\":5},\"tools\":[" CLIENT("a") "]}",
      "{\"input\":{\"messages\":[{\"role\":\"system\",\"content\":\"only now\"},{\"role\":\"user\",\"content\":\"new\"}]},\"values\":{\"z\":[1],\"messages\":["
      "{\"role\":\"user\",\"content\":\"1\"},{\"role\":\"assistant\",\"content\":\"2\"},{\"role\":\"user\",\"content\":\"3\"},"
      "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"x\",\"name\":\"a\",\"arguments\":\"{}\"}]},"
      "{\"role\":\"tool\",\"tool_call_id\":\"x\",\"content\":\"4\"},{\"role\":\"assistant\",\"content\":\"5\"}]}}",
      { { "m0", ERR_OK, SAY("hi") } } },
    { "values of others are no conversation",
      "{" MODEL ",\"memory\":{\"thread\":true,\"max_chars\":1}}",
      "{\"input\":\"new\",\"values\":{\"messages\":[1,2],\"x\":{\"y\":\"\\u00e9\"}}}",
      { { "m0", ERR_OK, SAY("hi") } } },
    { "an agent is a tool",
      "{" MODEL ",\"tools\":[{\"name\":\"sub\",\"description\":\"d\",\"agent\":{\"system\":\"Sub.\",\"model\":{\"provider\":\"q\",\"model\":\"n\"},"
      "\"tools\":[\"look\",{\"name\":\"deep\",\"agent\":{\"model\":{\"provider\":\"r\",\"model\":\"o\"},\"output\":{\"schema\":{\"type\":\"integer\"}}}}]}}]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "sub", "{\\\"input\\\":\\\"do it\\\"}") "," CALL("b", "sub", "{\\\"input\\\":\\\"fail\\\"}")) },
        { "m0/t1/t0", ERR_TOOL, "{\"message\":\"no tools today\"}" },
        { "m0/t0/t0", ERR_OK, "{\"tools\":[{\"name\":\"look\"}]}" },
        { "m0/t0/m0", ERR_OK, CALLS(CALL("a", "look", "{}") "," CALL("b", "deep", "{\\\"input\\\":\\\"n\\\"}")) },
        { "m0/t0/m0/t0", ERR_OK, "\"seen\"" },
        { "m0/t0/m0/t1/m0", ERR_OK, SAY("12") },
        { "m0/t0/m1", ERR_OK, SAY("sub done") },
        { "m1", ERR_OK, SAY("all done") } } },
    { "an agent with a run of its own is a tool",
      "{" MODEL ",\"tools\":[{\"name\":\"clerk\",\"agent_id\":\"id-1\"},{\"name\":\"sorter\",\"agent_id\":\"id-2\",\"parameters\":{\"type\":\"object\"}}]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "clerk", "{\\\"input\\\":\\\"go\\\"}") "," CALL("b", "sorter", "{\\\"x\\\":1}") "," CALL("c", "clerk", "{}")) },
        { "m0/t1/c0", ERR_OK, "{\"status\":\"failed\",\"error\":{\"message\":\"broken\"}}" },
        { "m0/t0/c0", ERR_OK, "{\"status\":\"completed\",\"output\":{\"text\":\"x\",\"output\":{\"n\":1}}}" },
        { "m1", ERR_OK, SAY("done") } } },
    { "a response as output",
      "{\"model\":{\"provider\":\"openai\",\"model\":\"m\"},\"output_form\":\"response\"}",
      HELLO,
      { { "m0", ERR_OK, "{\"text\":\"hi\",\"finish_reason\":\"stop\",\"response_id\":\"r\",\"model\":\"m-7\",\"usage\":{\"input_tokens\":1,"
                        "\"output_tokens\":2}}" } } },
    { "a response without details", "{" MODEL ",\"output_form\":\"response\"}", HELLO, { { "m0", ERR_OK, "{\"text\":\"hi\"}" } } },
    { "a document in a response stands there without its fence",
      "{" MODEL ",\"output_form\":\"response\",\"output\":{\"check\":false,\"schema\":{\"$ref\":\"#\"}}}",
      HELLO,
      { { "m0", ERR_OK, SAY("```\\n{\\\"a\\\": 1}\\n```") } } },
    { "a message as output", "{" MODEL ",\"output_form\":\"message\"}", HELLO, { { "m0", ERR_OK, SAY("hi") } } },
    { "a forced choice forces once",
      "{" MODEL ",\"tool_choice\":{\"name\":\"a.b\"},\"parallel_tool_calls\":false,\"tools\":[" CLIENT("a.b") "]}",
      HELLO,
      { { "m0", ERR_OK, CALLS(CALL("a", "a_b", "{}")) }, { "m0/t0", ERR_OK, "1" }, { "m1", ERR_OK, SAY("ok") } } },
    { "an input that is none", "{" MODEL "}", "{\"values\":{}}", { { NULL, 0, NULL } } },
    { "an input of broken messages",
      "{" MODEL "}",
      "{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\"}]}}",
      { { NULL, 0, NULL } } },
    { "any other input is JSON for the model", "{" MODEL "}", "{\"input\":{\"a\": [1.0]}}", { { "m0", ERR_OK, SAY("ok") } } },
};

static void make(struct arig *r, const struct move *move)
{
    if (strcmp(move->path, "!") == 0)
        arig_input(r, IN_MESSAGE, (struct op_path){ 0 }, ERR_OK, span_of(move->value));
    else if (strcmp(move->path, "@") == 0)
        r->elapsed_us += (uint64_t)atoll(move->value);
    else
        arig_answer(r, move->path, move->err, move->value);
}

static void tell(struct arig *r, const struct story *story, bool reloads)
{
    arig_begin(r, story->definition);
    r->reloads = reloads;
    arig_start(r, story->start);
    for (const struct move *move = story->moves; move->path; move++)
        make(r, move);
    assert_true(r->finished || r->failed);
}

static char *expected_traces(void)
{
    const char *dir = getenv("PERDURE_TESTDATA");
    char path[4096];
    struct buf text = { 0 };
    (void)snprintf(path, sizeof path, "%s/agent_stories.txt", dir ? dir : "tests/unit/data");
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("cannot open %s; set PERDURE_TESTDATA", path);
    for (int c; (c = fgetc(file)) != EOF;)
        buf_byte(&text, (char)c);
    (void)fclose(file);
    buf_byte(&text, 0);
    return text.p;
}

static void each_story_asks_for_what_is_written(void **state)
{
    struct buf all = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct arig r;
        tell(&r, &stories[i], false);
        buf_printf(&all, "== %s\n%.*s\n", stories[i].name, SPAN_ARG(buf_view(&r.trace)));
        arig_done(&r);
    }
    if (getenv("AGENT_STORIES")) {
        FILE *file = fopen(getenv("AGENT_STORIES"), "w");
        assert_non_null(file);
        (void)fwrite(all.p, 1, all.len, file);
        (void)fclose(file);
    }
    buf_byte(&all, 0);
    char *expected = expected_traces();
    assert_string_equal(all.p, expected);
    free(expected);
    buf_done(&all);
}

static void a_crash_between_inputs_changes_nothing(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct arig plain, crashed;
        tell(&plain, &stories[i], false);
        tell(&crashed, &stories[i], true);
        assert_true(span_eq(buf_view(&plain.trace), buf_view(&crashed.trace)));
        assert_true(span_eq(buf_view(&plain.values), buf_view(&crashed.values)));
        arig_done(&plain);
        arig_done(&crashed);
    }
}

/* What a host does for a new attempt: all that is open is dropped, then the machine starts again. */
static void new_attempt(struct arig *r, const struct story *story)
{
    r->open_count = 0;
    arig_reload(r);
    arig_start(r, story->start);
}

static void a_new_attempt_goes_on_where_the_old_one_stood(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct arig plain;
        size_t count = 0;
        bool steered = false; /* steering that was on its way is read earlier by the new attempt: another story */
        while (stories[i].moves[count].path)
            steered = strcmp(stories[i].moves[count++].path, "!") == 0 || steered;
        if (steered)
            continue;
        tell(&plain, &stories[i], false);
        for (size_t at = 0; at <= count && plain.finished; at++) {
            struct arig r;
            arig_begin(&r, stories[i].definition);
            arig_start(&r, stories[i].start);
            for (size_t k = 0; k < count; k++) {
                if (k == at)
                    new_attempt(&r, &stories[i]);
                make(&r, &stories[i].moves[k]);
            }
            if (at == count)
                new_attempt(&r, &stories[i]); /* after the end: it ends again */
            assert_true(r.finished);
            /* A question that was asked again is the same, and so is everything else. */
            assert_string_equal(arena_copy(&r.effects_arena, buf_view(&r.output)).p,
                                arena_copy(&plain.effects_arena, buf_view(&plain.output)).p);
            assert_true(span_eq(buf_view(&r.values), buf_view(&plain.values)));
            arig_done(&r);
        }
        arig_done(&plain);
    }
}

static void a_failed_run_can_go_on(void **state)
{
    static const struct story story = { "", "{" MODEL ",\"tools\":[" CLIENT("a") "],\"output\":{\"repairs\":0,\"schema\":{\"type\":\"integer\"}}}", HELLO,
                                        { { NULL, 0, NULL } } };
    struct arig r;
    arig_begin(&r, story.definition);
    arig_start(&r, story.start);
    arig_answer(&r, "m0", ERR_MODEL, "{\"message\":\"down\"}");
    assert_true(r.failed);
    new_attempt(&r, &story);
    arig_answer(&r, "m0", ERR_OK, CALLS(CALL("a", "a", "{}") "," CALL("b", "a", "{}")));
    arig_answer(&r, "m0/t1", ERR_OK, "\"kept\"");
    arig_answer(&r, "m0/w0", ERR_EXPIRED, "null");
    assert_true(r.failed);
    new_attempt(&r, &story);
    assert_int_equal(arig_find(&r, "m0/t1"), ARIG_OPEN); /* it has its result */
    arig_answer(&r, "m0/t0", ERR_OK, "\"late\"");
    arig_answer(&r, "m1", ERR_OK, SAY("no"));
    assert_true(r.failed);
    assert_non_null(memmem(r.output.p, r.output.len, "invalid_output", 14));
    new_attempt(&r, &story);
    arig_answer(&r, "m2", ERR_OK, SAY("5"));
    assert_true(r.finished);
    assert_non_null(memmem(r.output.p, r.output.len, "\"output\":5", 10));
    arig_done(&r);
}

static void any_order_of_arrival_gives_the_same_conversation(void **state)
{
    static const char definition[] = "{" MODEL ",\"tools\":[" CLIENT("a") ",{\"name\":\"sub\",\"agent\":{" MODEL "}},{\"name\":\"kv_read\"},"
                                     "{\"name\":\"run\",\"agent_id\":\"i\"},\"user_ask\",{\"name\":\"pay\",\"by\":\"client\",\"approval\":true}]}";
    static const char *const paths[] = { "m0/t0", "m0/t1/m0", "m0/t2", "m0/t3/c0", "m0/t4/w0", "m0/t5/w0" };
    static const char *const values[] = { "\"A\"", SAY("B"), "\"C\"", "{\"status\":\"completed\",\"output\":\"D\"}", "\"E\"", "false" };
    char *first = NULL;
    uint64_t seed = 7;

    for (int round = 0; round < 200; round++) {
        size_t order[ARRAY_LEN(paths)];
        struct arig r;
        arig_begin(&r, definition);
        r.reloads = round % 2;
        arig_start(&r, HELLO);
        arig_answer(&r, "m0", ERR_OK, CALLS(CALL("1", "a", "{}") "," CALL("2", "sub", "{\\\"input\\\":\\\"x\\\"}") ","
                                            CALL("3", "kv_read", "{\\\"key\\\":\\\"k\\\"}") "," CALL("4", "run", "{\\\"input\\\":\\\"y\\\"}") ","
                                            CALL("5", "user_ask", "{\\\"question\\\":\\\"?\\\"}") "," CALL("6", "pay", "{}")));
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
            size_t j = next_random(&seed) % (i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        size_t before = 0;
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
            before = r.trace.len;
            arig_answer(&r, paths[order[i]], ERR_OK, values[order[i]]);
        }
        /* Apart from closing the clients' wait, which comes when it comes, the last step asks the model. */
        char *line = memmem(r.trace.p + before, r.trace.len - before, "m1 model", 8);
        assert_non_null(line);
        char *tail = mem_dup(line, (size_t)(r.trace.p + r.trace.len - line));
        if (first)
            assert_string_equal(tail, first);
        else
            first = mem_dup(tail, strlen(tail));
        free(tail);
        arig_done(&r);
    }
    free(first);
}

/* The plan around an agent may say how long people have; the definition has the last word. */
static void approvals_expire_as_the_plan_says(void **state)
{
    static const char *const definitions[] = {
        "{" MODEL ",\"tools\":[{\"name\":\"a\",\"by\":\"client\",\"approval\":true}]}",
        "{" MODEL ",\"limits\":{\"approval_ttl_ms\":2},\"tools\":[{\"name\":\"a\",\"by\":\"client\",\"approval\":true}]}",
    };
    static const char *const expected[] = { "expires 77\n", "expires 2000\n" };
    for (size_t i = 0; i < ARRAY_LEN(definitions); i++) {
        struct arig r;
        arig_begin(&r, definitions[i]);
        r.plan.human_timeout_us = 77;
        r.reloads = true;
        arig_start(&r, HELLO);
        arig_answer(&r, "m0", ERR_OK, CALLS(CALL("a", "a", "{}")));
        assert_non_null(memmem(r.trace.p, r.trace.len, expected[i], strlen(expected[i])));
        arig_done(&r);
    }
}

static void late_and_foreign_answers_are_dropped(void **state)
{
    struct arig r;
    arig_begin(&r, "{" MODEL ",\"tools\":[" CLIENT("a") "]}");
    arig_start(&r, HELLO);
    static const struct op_path none = { 0 }, m1 = { .n = 1, .v = { OP_PART(OP_MODEL, 1) } }, m0 = { .n = 1, .v = { OP_PART(OP_MODEL, 0) } },
                                t9 = { .n = 2, .v = { OP_PART(OP_MODEL, 0), OP_PART(OP_TOOL, 9) } },
                                w7 = { .n = 2, .v = { OP_PART(OP_MODEL, 0), OP_PART(OP_WAIT, 7) } },
                                t0w0 = { .n = 3, .v = { OP_PART(OP_MODEL, 0), OP_PART(OP_TOOL, 0), OP_PART(OP_WAIT, 0) } };
    assert_int_equal(arig_input(&r, IN_MODEL, m1, ERR_OK, SPAN(SAY("x"))), 0);
    assert_int_equal(arig_input(&r, IN_MODEL, none, ERR_OK, SPAN(SAY("x"))), 0);
    assert_int_equal(arig_input(&r, IN_TOOL, m0, ERR_OK, SPAN("1")), 0);
    arig_answer(&r, "m0", ERR_OK, CALLS(CALL("a", "a", "{}")));
    assert_int_equal(arig_input(&r, IN_MODEL, m0, ERR_OK, SPAN(SAY("again"))), 0);
    assert_int_equal(arig_input(&r, IN_TOOL, t9, ERR_OK, SPAN("1")), 0);
    assert_int_equal(arig_input(&r, IN_ANSWER, w7, ERR_EXPIRED, SPAN("null")), 0);
    assert_int_equal(arig_input(&r, IN_ANSWER, t0w0, ERR_OK, SPAN("1")), 0);
    arig_answer(&r, "m0/t0", ERR_OK, "1");
    arig_answer(&r, "m1", ERR_OK, SAY("done"));
    assert_int_equal(arig_input(&r, IN_MODEL, m1, ERR_OK, SPAN(SAY("x"))), 0);
    assert_int_equal(arig_input(&r, IN_MESSAGE, none, ERR_OK, SPAN("\"x\"")), 0);
    arig_done(&r);
}

static void damaged_snapshots_are_refused(void **state)
{
    static const char *const bad[] = {
        "", "{}", "[]", "{\"rev\":1,\"life\":\"running\",\"phase\":\"model\"}",
        "{\"rev\":9,\"life\":\"running\",\"phase\":\"model\",\"messages\":[]}",
        "{\"rev\":1,\"life\":\"finished\",\"phase\":\"model\",\"messages\":[]}",
        "{\"rev\":1,\"life\":\"running\",\"phase\":\"tools\",\"steps\":1,\"messages\":[]}",
        "{\"rev\":1,\"life\":\"running\",\"phase\":\"model\",\"messages\":[1]}",
        "{\"rev\":1,\"life\":\"running\",\"phase\":\"model\",\"steps\":-1,\"messages\":[]}",
        "{\"rev\":1,\"life\":\"running\",\"phase\":\"tools\",\"steps\":1,\"messages\":[],"
        "\"calls\":[{\"id\":\"a\",\"name\":\"no\",\"arguments\":{},\"state\":\"tool\"}]}",
        "{\"rev\":1,\"life\":\"running\",\"phase\":\"tools\",\"steps\":1,\"messages\":[],"
        "\"calls\":[{\"id\":\"a\",\"name\":\"a\",\"arguments\":{},\"state\":\"inner\"}]}",
        "{\"rev\":1,\"life\":\"running\",\"phase\":\"tools\",\"messages\":[],\"calls\":[{\"id\":\"a\",\"name\":\"a\",\"arguments\":{},\"state\":\"tool\"}]}",
    };
    struct arig r;
    arig_begin(&r, "{" MODEL ",\"tools\":[" CLIENT("a") "]}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct machine *m;
        assert_int_equal(agent_ops.load(&r.plan, span_of(bad[i]), &r.arenas[1], &m), ERR_CORRUPT);
    }
    arig_done(&r);
}

/* ---- definitions ---- */

struct refusal {
    const char *definition, *pointer, *code;
};

static const struct refusal refusals[] = {
    { "[]", "", "type" },
    { "{}", "/model", "required" },
    { "{\"model\":{\"model\":\"m\"}}", "/model/provider", "required" },
    { "{" MODEL ",\"sytem\":\"x\"}", "/sytem", "unknown_member" },
    { "{\"model\":{\"provider\":\"p\",\"model\":\"m\",\"temperature\":3}}", "/model/temperature", "range" },
    { "{\"model\":{\"provider\":\"p\",\"model\":\"m\",\"max_tokens\":0}}", "/model/max_tokens", "range" },
    { "{\"model\":{\"provider\":\"p\",\"model\":\"m\",\"stop\":[\"\"]}}", "/model/stop", "type" },
    { "{\"model\":{\"provider\":\"p\",\"model\":\"m\",\"reasoning_effort\":\"much\"}}", "/model/reasoning_effort", "enum" },
    { "{" MODEL ",\"tools\":{}}", "/tools", "type" },
    { "{" MODEL ",\"system\":1}", "/system", "type" },
    { "{\"model\":{\"provider\":\"\",\"model\":\"m\",\"temperature\":\"hot\"}}", "/model/provider", "range" },
    { "{\"model\":{\"provider\":\"p\",\"model\":\"m\",\"temperature\":\"hot\"}}", "/model/temperature", "type" },
    { "{" MODEL ",\"limits\":{\"max_steps\":\"x\"}}", "/limits/max_steps", "type" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a\",\"agent_id\":\"x\",\"by\":\"client\"}]}", "/tools/0/by", "conflict" },
    { "{" MODEL ",\"tools\":[{\"name\":\"user_ask\",\"approval\":true}]}", "/tools/0/approval", "conflict" },
    { "{" MODEL ",\"retry\":{\"retry_on\":[1]}}", "/retry/retry_on", "type" },
    { "{" MODEL ",\"tools\":[5]}", "/tools/0", "type" },
    { "{" MODEL ",\"tools\":[\"a b\"]}", "/tools/0", "pattern" },
    { "{" MODEL ",\"tools\":[\"\"]}", "/tools/0", "pattern" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a\",\"by\":\"nobody\"}]}", "/tools/0/by", "enum" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a\",\"by\":\"local\"}]}", "/tools/0/name", "unknown_tool" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a.*\",\"by\":\"client\"}]}", "/tools/0/name", "pattern" },
    { "{" MODEL ",\"tools\":[\"a.b\",\"a_b\"]}", "/tools/1", "duplicate" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a\",\"agent\":{},\"agent_id\":\"x\"}]}", "/tools/0/agent_id", "conflict" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a\",\"agent\":{\"tools\":[\"\"]}}]}", "/tools/0/agent/tools/0", "pattern" },
    { "{" MODEL ",\"tools\":[{\"name\":\"a\",\"agent\":{" MODEL ",\"tools\":[{\"name\":\"b\",\"agent\":{" MODEL ",\"tools\":[{\"name\":\"c\",\"agent\":{" MODEL
      "}}]}}]}}]}", "/tools/0/agent/tools/0/agent/tools/0/agent", "limit" },
    { "{" MODEL ",\"tool_choice\":\"required\"}", "/tool_choice", "conflict" },
    { "{" MODEL ",\"tool_choice\":\"maybe\"}", "/tool_choice", "enum" },
    { "{" MODEL ",\"tool_mode\":\"x\"}", "/tool_mode", "enum" },
    { "{" MODEL ",\"limits\":{\"max_steps\":0}}", "/limits/max_steps", "range" },
    { "{" MODEL ",\"limits\":{\"max_tool_calls_per_step\":65}}", "/limits/max_tool_calls_per_step", "range" },
    { "{" MODEL ",\"limits\":{\"steps\":1}}", "/limits/steps", "unknown_member" },
    { "{" MODEL ",\"on_limit\":\"go on\"}", "/on_limit", "enum" },
    { "{" MODEL ",\"output\":{}}", "/output/schema", "required" },
    { "{" MODEL ",\"output\":{\"schema\":{\"pattern\":\"x\"}}}", "/output/schema/pattern", "unsupported_keyword" },
    { "{" MODEL ",\"memory\":{\"thread\":1}}", "/memory/thread", "type" },
    { "{" MODEL ",\"retry\":{\"max\":1}}", "/retry/max", "unknown_member" },
    { "{" MODEL ",\"budget\":{\"usd\":\"1.\"}}", "/budget/usd", "range" },
    { "{" MODEL ",\"budget\":{\"usd\":-1}}", "/budget/usd", "range" },
    { "{" MODEL ",\"budget\":{\"usd\":1e3}}", "/budget/usd", "range" },
    { "{" MODEL ",\"budget\":{\"euros\":1}}", "/budget/euros", "unknown_member" },
    { "{" MODEL ",\"on_budget\":\"x\"}", "/on_budget", "enum" },
    { "{" MODEL ",\"output_form\":\"x\"}", "/output_form", "enum" },
};

static void definitions_are_refused_with_a_pointer(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct arena scratch = { 0 };
        struct plan plan = { .refs = 0 };
        struct issues issues = { .arena = &scratch };
        bool found = false;
        assert_int_equal(agent_ops.compile(arig_parse(span_of(refusals[i].definition), &scratch), &plan, &issues), ERR_VALIDATION);
        for (size_t k = 0; k < issues.count && k < ISSUES_MAX; k++)
            found = found || (span_is(issues.items[k].pointer, refusals[i].pointer) && span_is(issues.items[k].code, refusals[i].code));
        if (!found)
            fail_msg("no %s at %s for %s", refusals[i].code, refusals[i].pointer, refusals[i].definition);
        arena_done(&plan.arena);
        arena_done(&scratch);
    }
}

static void a_plan_is_canonical_and_opens_again(void **state)
{
    struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    struct plan a = { .refs = 0 }, b = { .refs = 0 }, again = { .refs = 0 }, bad = { .refs = 0 };

    struct span one = SPAN("{\"system\":\"s\"," MODEL ",\"budget\":{\"usd\":\"1.25\",\"seconds\":9},\"on_budget\":\"ask\"}");
    struct span other = SPAN("{\"on_budget\": \"ask\", \"budget\":{\"seconds\":9,\"usd\":\"1.25\"}," MODEL ",\"system\":\"s\"}");

    assert_int_equal(agent_ops.compile(arig_parse(one, &scratch), &a, &issues), ERR_OK);
    assert_int_equal(agent_ops.compile(arig_parse(other, &scratch), &b, &issues), ERR_OK);
    assert_memory_equal(a.hash.hex, b.hash.hex, 64);
    assert_string_equal(a.json.p, "{\"agent\":{\"budget\":{\"seconds\":9,\"usd\":\"1.25\"},\"model\":{\"model\":\"m\",\"provider\":\"p\"},"
                                  "\"on_budget\":\"ask\",\"system\":\"s\"},\"format\":1,\"kind\":\"agent\"}");
    assert_true(a.budget.usd == INT64_C(1250000000000) && a.budget.seconds == 9 && a.budget.on_breach == BUDGET_ASK);
    again.json = a.json;
    assert_int_equal(agent_ops.open(&again), ERR_OK);
    assert_memory_equal(a.hash.hex, again.hash.hex, 64);
    bad.json = SPAN("{\"agent\":{},\"kind\":\"agent\"}");
    assert_int_equal(agent_ops.open(&bad), ERR_CORRUPT);
    arena_done(&a.arena);
    arena_done(&b.arena);
    arena_done(&again.arena);
    arena_done(&bad.arena);
    arena_done(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_story_asks_for_what_is_written),
        cmocka_unit_test(a_crash_between_inputs_changes_nothing),
        cmocka_unit_test(a_new_attempt_goes_on_where_the_old_one_stood),
        cmocka_unit_test(a_failed_run_can_go_on),
        cmocka_unit_test(any_order_of_arrival_gives_the_same_conversation),
        cmocka_unit_test(approvals_expire_as_the_plan_says),
        cmocka_unit_test(late_and_foreign_answers_are_dropped),
        cmocka_unit_test(damaged_snapshots_are_refused),
        cmocka_unit_test(definitions_are_refused_with_a_pointer),
        cmocka_unit_test(a_plan_is_canonical_and_opens_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
