/* SPDX-License-Identifier: Apache-2.0 */
/* test_openai_chat.c - the provider kind openai-chat against a server that speaks it well and badly. */
#include "support/provider_rig.h"
#include <stdio.h>
#include <stdlib.h>

#define KIND "openai-chat"
#define KEY  RIG_KEY
#define WITH_KEY ", \"api_key_env\": \"PERDURE_TEST_KEY\""

/* ---- what goes out ---- */

static void the_request_is_what_was_asked_for(void **state)
{
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY ", \"headers\": {\"X-Title\": \"a test\"}");
    struct heard heard = { 0 };
    wire_run(&b, &heard, "plain", "{\"messages\": [{\"role\": \"system\", \"content\": \"be \\u00fc\"}, {\"role\": \"user\","
                             " \"content\": \"hi\", \"name\": \"ada\"}], \"max_tokens\": 64, \"temperature\": 0.20}");
    struct jv entry = rig_last_request(*state, &b.arena);
    assert_true(jv_str_eq(jv_get(entry, "path"), "/v1/chat/completions"));
    assert_true(jv_str_eq(jv_get(entry, "authorization"), "Bearer " KEY));
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/content-type")), "application/json"));
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/x-title")), "a test"));
    struct jv want = json_read(SPAN("{\"model\":\"plain\",\"messages\":[{\"role\":\"system\",\"content\":\"be \\u00fc\"},"
                                    "{\"role\":\"user\",\"content\":\"hi\",\"name\":\"ada\"}],\"stream\":true,\"stream_options\":"
                                    "{\"include_usage\":true},\"max_tokens\":64,\"temperature\":0.2}"), &b.arena);
    assert_true(jv_equal(jv_get(entry, "body"), want));
    heard_done(&heard);
    wire_close(&b);
}

static void without_a_key_there_is_no_header(void **state)
{
    struct wire_rig   b = wire_open(*state, KIND, "");
    struct heard heard = { 0 };
    wire_run(&b, &heard, "plain", RIG_HELLO);
    assert_int_equal(heard.err, ERR_OK);
    assert_int_equal(jv_kind(jv_get(rig_last_request(*state, &b.arena), "authorization")), JSON_NULL);
    heard_done(&heard);
    wire_close(&b);
}

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define HEAD "{\"model\":\"plain\",\"messages\":[" USER "],\"stream\":true,\"stream_options\":{\"include_usage\":true}"

static void each_member_is_said_in_the_protocols_words(void **state)
{
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY);
    rig_check_body(&b,
                   "{\"messages\":[" USER "],\"tools\":[{\"name\":\"weather\",\"description\":\"Tells it.\",\"parameters\":"
                   "{\"type\":\"object\", \"properties\":{}}},{\"name\":\"clock\",\"parameters\":{}}],\"tool_choice\":\"required\","
                   "\"parallel_tool_calls\":false}",
                   HEAD ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"description\":\"Tells it.\","
                   "\"parameters\":{\"type\":\"object\",\"properties\":{}}}},{\"type\":\"function\",\"function\":{\"name\":\"clock\","
                   "\"parameters\":{}}}],\"tool_choice\":\"required\",\"parallel_tool_calls\":false}");
    rig_check_body(&b, "{\"messages\":[" USER "],\"tools\":[{\"name\":\"f\",\"parameters\":{}}],\"tool_choice\":{\"name\":\"f\"}}",
                   HEAD ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],\"tool_choice\":"
                   "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}");
    rig_check_body(&b, "{\"messages\":[" USER "],\"tools\":[],\"tool_choice\":\"auto\",\"metadata\":{\"a\":1}}", HEAD "}");
    rig_check_body(&b,
                   "{\"messages\":[" USER "],\"output_format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{\"type\":\"object\"},"
                   "\"strict\":true,\"description\":\"d\"},\"stop\":[\"a\",\"b\"],\"reasoning_effort\":\"low\"}",
                   HEAD ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"description\":\"d\",\"schema\":"
                   "{\"type\":\"object\"},\"strict\":true}},\"stop\":[\"a\",\"b\"],\"reasoning_effort\":\"low\"}");
    wire_close(&b);
}

static void a_conversation_with_tools_goes_back_as_it_was(void **state)
{
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY ", \"stream\": false, \"max_tokens_name\": \"max_completion_tokens\"");
    rig_check_body(&b,
                   "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"file\",\"file\":"
                   "{\"data_base64\":\"aGk=\",\"mime_type\":\"image/png\"}},{\"type\":\"file\",\"file\":{\"data_base64\":\"aGk=\","
                   "\"mime_type\":\"application/pdf\",\"filename\":\"a.pdf\"}},{\"type\":\"file\",\"file\":{\"data_base64\":\"aGk=\","
                   "\"mime_type\":\"audio/wav\"}}]},{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c1\",\"name\":\"f\","
                   "\"arguments\":\"{\\\"x\\\":1}\"}],\"provider_state\":{\"kind\":\"anthropic\",\"blocks\":[]}},{\"role\":\"tool\","
                   "\"tool_call_id\":\"c1\",\"content\":\"out\",\"is_error\":true}],\"max_tokens\":9}",
                   "{\"model\":\"plain\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},"
                   "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,aGk=\"}},{\"type\":\"file\",\"file\":{"
                   "\"filename\":\"a.pdf\",\"file_data\":\"data:application/pdf;base64,aGk=\"}},{\"type\":\"input_audio\",\"input_audio\":{"
                   "\"data\":\"aGk=\",\"format\":\"wav\"}}]},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\","
                   "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}]},{\"role\":\"tool\",\"content\":"
                   "\"out\",\"tool_call_id\":\"c1\"}],\"stream\":false,\"max_completion_tokens\":9}");
    wire_close(&b);
}

/* ---- what comes back ---- */

#define ALL       "One two three four five"
#define OK_OF(finish, rest) "{\"text\":\"" ALL "\",\"finish_reason\":\"" finish "\"" rest ",\"model\":\"real-model-7\"," \
                            "\"response_id\":\"chatcmpl-1\"}"
#define OK_USED   OK_OF("stop", "" RIG_USAGE("11", "0", "0", "5", "0", "11", "5", "16") "")
#define IDS       ",\"model\":\"real-model-7\",\"response_id\":\"chatcmpl-1\""

static const struct rig_answer answers[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "split-utf8", "grüß dich 🌊€", "", "", "{\"text\":\"grüß dich 🌊€\",\"finish_reason\":\"stop\"" IDS "}", ERR_OK },
    { "escapes", "🌊 \"q\"\n", "", "", "{\"text\":\"🌊 \\\"q\\\"\\n\",\"finish_reason\":\"stop\"}", ERR_OK },
    { "reasoning", "Yes.", "Hm. Well. Twice.", "", "{\"text\":\"Yes.\",\"finish_reason\":\"stop\"" IDS
      ",\"reasoning\":\"Hm. Well. Twice.\"}", ERR_OK },
    { "usage-details", "x", "", "", "{\"text\":\"x\",\"finish_reason\":\"stop\"" RIG_USAGE("36", "64", "0", "20", "30", "100", "50", "150")
      IDS "}", ERR_OK },
    { "tools-no-id", "", "", "{}", "{\"text\":\"\",\"finish_reason\":\"tool_calls\"" IDS ",\"tool_calls\":[{\"id\":"
      "\"call-chatcmpl-1-0\",\"name\":\"f\",\"arguments\":\"{}\"}]}", ERR_OK },
    { "filtered", ALL, "", "", OK_OF("content_filter", ""), ERR_OK },
    { "odd-finish", ALL, "", "", OK_OF("other", ""), ERR_OK },
    { "tools", "", "", "{\"city\":{}\"Ulm\"}",
      "{\"text\":\"\",\"finish_reason\":\"tool_calls\"" RIG_USAGE("20", "0", "0", "9", "0", "20", "9", "29") "" IDS ",\"tool_calls\":["
      "{\"id\":\"call_a\",\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"},"
      "{\"id\":\"call_b\",\"name\":\"clock\",\"arguments\":\"{}\"}]}", ERR_OK },
    { "tools-no-index", "", "", "{\"x\":1}{}",
      "{\"text\":\"\",\"finish_reason\":\"tool_calls\"" IDS ",\"tool_calls\":[{\"id\":\"a\",\"name\":\"f\",\"arguments\":"
      "\"{\\\"x\\\":1}\"},{\"id\":\"b\",\"name\":\"g\",\"arguments\":\"{}\"}]}", ERR_OK },
    { "length", ALL, "", "", OK_OF("length", ""), ERR_OK },
    { "no-done", ALL, "", "", OK_USED, ERR_OK },
    { "no-finish", ALL, "", "", OK_OF("stop", ""), ERR_OK },
    { "behind-done", ALL, "", "", OK_USED, ERR_OK },
    { "finish-then-reset", ALL, "", "", OK_OF("stop", ""), ERR_OK },
    { "two-choices", ALL, "", "", OK_OF("stop", ""), ERR_OK },
    { "nonstream", "All at once.", "Hm.", "{\"city\":\"Ulm\"}",
      "{\"text\":\"All at once.\",\"finish_reason\":\"tool_calls\"" RIG_USAGE("3", "0", "0", "4", "0", "3", "4", "7") ","
      "\"model\":\"real-model-7\",\"response_id\":\"chatcmpl-2\",\"tool_calls\":[{\"id\":\"call_a\",\"name\":\"weather\","
      "\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"}],\"reasoning\":\"Hm.\"}", ERR_OK },

    { "bad-content", "", "", "", RIG_FAILED("invalid_stream", "provider", "a piece of the answer is not a text", "true", ""),
      ERR_MODEL },
    { "tools-bad-index", "", "", "", RIG_FAILED("invalid_stream", "provider", "a tool call has an index that is out of range", "true",
      ""), ERR_MODEL },
    { "stream-error-rate", "", "", "", RIG_FAILED("rate_limited", "rate_limit", "slow down", "true", ",\"provider_code\":\"429\""),
      ERR_MODEL },
    { "stream-error-bare", "", "", "", RIG_FAILED("invalid_request", "validation", "too long", "false", ",\"provider_code\":\"400\""),
      ERR_MODEL },

    { "error-429", "", "", "", RIG_FAILED("rate_limited", "rate_limit", "Rate limit reached", "true",
      ",\"provider_code\":\"rate_limit_exceeded\",\"retry_after_ms\":2000"), ERR_MODEL },
    { "error-quota", "", "", "", RIG_FAILED("quota_exceeded", "rate_limit", "You exceeded your quota", "false",
      ",\"provider_code\":\"insufficient_quota\""), ERR_MODEL },
    { "error-503", "", "", "", RIG_FAILED("provider_error", "provider", "Overloaded", "true",
      ",\"provider_code\":\"overloaded_error\",\"retry_after_ms\":30000"), ERR_MODEL },
    { "error-context", "", "", "", RIG_FAILED("context_length_exceeded", "validation", "This model's maximum context length is 8192 "
      "tokens.", "false", ",\"provider_code\":\"context_length_exceeded\""), ERR_MODEL },
    { "error-context-words", "", "", "", RIG_FAILED("context_length_exceeded", "validation", "This model's maximum context length is "
      "512 tokens.", "false", ",\"provider_code\":\"400\""), ERR_MODEL },
    { "error-content", "", "", "", RIG_FAILED("content_filter", "model", "The response was filtered", "false",
      ",\"provider_code\":\"content_filter\""), ERR_MODEL },
    { "tools-no-name", "", "", "{}", RIG_FAILED("invalid_stream", "provider", "a tool call has no name", "true", ""), ERR_MODEL },
    { "error-string", "", "", "", RIG_FAILED("invalid_request", "validation", "model is not loaded", "false", ""), ERR_MODEL },
    { "error-echo-key", "", "", "", RIG_FAILED("authentication_failed", "auth", "Incorrect API key provided: Bearer ***", "false",
      ",\"provider_code\":\"invalid_api_key\""), ERR_MODEL },
};

static void each_answer_is_read_for_what_it_is(void **state)
{
    rig_check_answers(*state, KIND, WITH_KEY, answers, ARRAY_LEN(answers));
}

/* The same behaviours, not streamed where the server knows how. */
static const struct rig_answer whole[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "stream-anyway", ALL, "", "", OK_USED, ERR_OK },
    { "usage-details", "x", "", "", "{\"text\":\"x\",\"finish_reason\":\"stop\"" RIG_USAGE("36", "64", "0", "20", "30", "100", "50", "150")
      IDS "}", ERR_OK },
    { "tools", "", "", "{\"city\":\"Ulm\"}{}",
      "{\"text\":\"\",\"finish_reason\":\"tool_calls\"" RIG_USAGE("20", "0", "0", "9", "0", "20", "9", "29") IDS ",\"tool_calls\":["
      "{\"id\":\"call_a\",\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"},"
      "{\"id\":\"call_b\",\"name\":\"clock\",\"arguments\":\"{}\"}]}", ERR_OK },
};

static void whole_answers_are_read_as_well(void **state)
{
    rig_check_answers(*state, KIND, WITH_KEY ", \"stream\": false", whole, ARRAY_LEN(whole));
}

static void the_wire_may_be_bad(void **state)
{
    rig_check_wire(*state, KIND, WITH_KEY, OK_USED);
}

static void every_delta_is_a_chunk(void **state)
{
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY);
    struct heard heard = { 0 };
    wire_run(&b, &heard, "plain", RIG_HELLO);
    assert_int_equal(heard.chunks, 5);
    heard_done(&heard);
    wire_close(&b);
}

static void messages_of_providers_are_cut(void **state)
{
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY);
    struct heard heard = { 0 };
    wire_run(&b, &heard, "error-long", RIG_HELLO);
    struct span message = jv_string(jv_get(json_read(span_of(heard.result.p), &b.arena), "message"), &b.arena);
    assert_int_equal(message.n, 500);
    heard_done(&heard);
    wire_close(&b);
}

static void nobody_listening_is_a_failure_of_the_network(void **state)
{
    struct rig_server nobody = { .port = 1 };
    struct wire_rig  b = wire_open(&nobody, KIND, WITH_KEY);
    struct heard  heard = { 0 };
    wire_run(&b, &heard, "plain", RIG_HELLO);
    assert_int_equal(heard.err, ERR_MODEL);
    assert_non_null(strstr(heard.result.p, "\"code\":\"connection_failed\",\"category\":\"network\""));
    heard_done(&heard);
    wire_close(&b);
}

static void freeing_the_models_closes_the_sockets(void **state)
{
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY);
    struct heard heard = { .stop_after = 5 };
    rig_start(&b, &heard, "hang-in-stream@free", RIG_HELLO);
    loop_run(b.loop);
    assert_int_equal(heard.chunks, 5);
    models_free(TAKE(b.models));
    rig_saw_the_close(*state, "hang-in-stream@free");
    heard_done(&heard);
    wire_close(&b);
}

static void many_calls_run_side_by_side(void **state)
{
    enum { CALLS = 20 };
    struct wire_rig b = wire_open(*state, KIND, WITH_KEY);
    struct heard heard[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        heard[i] = (struct heard){ 0 };
        rig_start(&b, &heard[i], i % 2 ? "one-by-one" : "cut-2", RIG_HELLO);
    }
    for (unsigned ended = 0; ended < CALLS;) {
        loop_run(b.loop);
        ended = 0;
        for (unsigned i = 0; i < CALLS; i++)
            ended += heard[i].ended;
    }
    for (unsigned i = 0; i < CALLS; i++) {
        assert_int_equal(heard[i].err, i % 2 ? ERR_OK : ERR_MODEL);
        assert_true(span_is(buf_view(&heard[i].text), i % 2 ? ALL : "One two"));
        heard_done(&heard[i]);
    }
    wire_close(&b);
}

/* ---- doctor ---- */

struct findings {
    struct loop *loop;
    struct buf   lines;
    bool         done;
};

static void on_finding(void *user, struct span provider, enum err err, struct span detail)
{
    struct findings *findings = user;
    buf_printf(&findings->lines, "%.*s %s %.*s\n", SPAN_ARG(provider), err_info(err)->name, SPAN_ARG(detail));
}

static void on_findings_done(void *user)
{
    struct findings *findings = user;
    findings->done = true;
    loop_stop(findings->loop);
}

static void doctor_tells_what_it_found(void **state)
{
    const struct rig_server *server = *state;
    struct wire_rig         b = { 0 };
    struct findings      findings = { 0 };
    int                  port = server->port;
    setenv("PERDURE_TEST_KEY", KEY, 1);
    setenv("PERDURE_TEST_GOOD_KEY", "good-key", 1);
    struct span config = arena_printf(
        &b.arena,
        "{\"good\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_GOOD_KEY\"},"
        "\"good.responses\":{\"kind\":\"openai-responses\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_GOOD_KEY\"},"
        "\"good.anthropic\":{\"kind\":\"anthropic\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_GOOD_KEY\"},"
        "\"bad.anthropic\":{\"kind\":\"anthropic\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_KEY\"},"
        "\"bad\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_KEY\"},"
        "\"none\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\"},"
        "\"unset\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_NO_KEY\"},"
        "\"lost\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v7\"},"
        "\"dead\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:1/v1\"}}", port, port, port, port, port, port, port, port);
    assert_int_equal(loop_new(env_real(), NULL, &b.loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(b.loop, &b.client, NULL), ERR_OK);
    assert_int_equal(models_new(b.loop, b.client, json_read(config, &b.arena), &b.models, NULL), ERR_OK);
    findings.loop = b.loop;
    models_check(b.models, on_finding, on_findings_done, &findings);
    assert_int_equal(findings.lines.len, 0);
    loop_run(b.loop);
    assert_true(findings.done);
    buf_byte(&findings.lines, 0);

    static const char *const want[] = {
        "scripted OK built in\n", "core.emit OK built in\n", "good OK http", "/v1: answers, knows ",
        "good.responses OK http", "/v1: answers, knows ", "good.anthropic OK http", "/v1: answers, knows ",
        "bad.anthropic UNAUTHENTICATED http", "/v1: refuses the key (status 401)\n", "bad UNAUTHENTICATED http",
        "/v1: refuses the key (status 401)\n", "none UNAUTHENTICATED http", "/v1: wants a key (status 401)\n",
        "/v1: the environment variable PERDURE_TEST_NO_KEY is not set\n", "lost NOT_FOUND http",
        "/v7: answers, but has no /models; is this the right address?\n", "dead IO http://127.0.0.1:1/v1: ",
    };
    const char *at = findings.lines.p;
    for (size_t i = 0; i < ARRAY_LEN(want); i++) { /* in this order */
        at = strstr(at, want[i]);
        if (!at)
            fail_msg("'%s' is missing in:\n%s", want[i], findings.lines.p);
    }
    assert_null(strstr(findings.lines.p, KEY));
    assert_null(strstr(findings.lines.p, "good-key"));

    models_check(b.models, on_finding, on_findings_done, &findings);
    buf_done(&findings.lines);
    wire_close(&b); /* with a check under way */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_is_what_was_asked_for),
        cmocka_unit_test(without_a_key_there_is_no_header),
        cmocka_unit_test(each_member_is_said_in_the_protocols_words),
        cmocka_unit_test(a_conversation_with_tools_goes_back_as_it_was),
        cmocka_unit_test(each_answer_is_read_for_what_it_is),
        cmocka_unit_test(whole_answers_are_read_as_well),
        cmocka_unit_test(the_wire_may_be_bad),
        cmocka_unit_test(every_delta_is_a_chunk),
        cmocka_unit_test(messages_of_providers_are_cut),
        cmocka_unit_test(nobody_listening_is_a_failure_of_the_network),
        cmocka_unit_test(freeing_the_models_closes_the_sockets),
        cmocka_unit_test(many_calls_run_side_by_side),
        cmocka_unit_test(doctor_tells_what_it_found),
    };
    return cmocka_run_group_tests(tests, rig_server_start, rig_server_stop);
}
