/* SPDX-License-Identifier: Apache-2.0 */
/* test_anthropic.c - the provider kind anthropic against a server that speaks Messages well and badly. */
#include "support/provider_rig.h"
#include <stdio.h>
#include <stdlib.h>

#define KIND     "anthropic"
#define WITH_KEY ", \"api_key_env\": \"PERDURE_TEST_KEY\""

/* ---- what goes out ---- */

static void the_headers_are_those_of_the_house(void **state)
{
    struct wire_rig rig = wire_open(*state, KIND, WITH_KEY);
    struct heard    heard = { 0 };
    wire_run(&rig, &heard, "plain", RIG_HELLO);
    struct jv entry = rig_last_request(*state, &rig.arena);
    assert_true(jv_str_eq(jv_get(entry, "path"), "/v1/messages"));
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/x-api-key")), RIG_KEY));
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/anthropic-version")), "2023-06-01"));
    assert_int_equal(jv_kind(jv_get(entry, "authorization")), JSON_NULL);
    heard_done(&heard);
    wire_close(&rig);
}

static void the_version_can_be_configured(void **state)
{
    struct wire_rig rig = wire_open(*state, KIND, ", \"headers\": {\"Anthropic-Version\": \"2030-01-01\"}");
    struct heard    heard = { 0 };
    wire_run(&rig, &heard, "plain", RIG_HELLO);
    struct jv entry = rig_last_request(*state, &rig.arena);
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/anthropic-version")), "2030-01-01"));
    assert_int_equal(jv_kind(jv_pointer(entry, SPAN("/headers/x-api-key"))), JSON_NONE);
    heard_done(&heard);
    wire_close(&rig);
}

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define SAID "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}"
#define BODY(most, messages, rest) "{\"model\":\"plain\",\"max_tokens\":" most ",\"messages\":[" messages "],\"stream\":true" rest "}"

static void each_member_is_said_in_the_protocols_words(void **state)
{
    struct wire_rig rig = wire_open(*state, KIND, WITH_KEY);
    rig_check_body(&rig,
                   "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"}," USER ",{\"role\":\"system\",\"content\":\"And kind.\"}],"
                   "\"max_tokens\":99,\"temperature\":0.5,\"stop\":[\"END\"],\"metadata\":{\"a\":1}}",
                   "{\"model\":\"plain\",\"max_tokens\":99,\"system\":\"Be brief.\\n\\nAnd kind.\",\"messages\":[" SAID "],\"stream\":true,"
                   "\"temperature\":0.5,\"stop_sequences\":[\"END\"]}");
    rig_check_body(&rig,
                   "{\"messages\":[" USER "],\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"}}],"
                   "\"tool_choice\":\"required\",\"parallel_tool_calls\":false}",
                   BODY("8192", SAID, ",\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}}],"
                                      "\"tool_choice\":{\"type\":\"any\",\"disable_parallel_tool_use\":true}"));
    rig_check_body(&rig, "{\"messages\":[" USER "],\"tools\":[{\"name\":\"f\",\"parameters\":{}}],\"tool_choice\":{\"name\":\"f\"}}",
                   BODY("8192", SAID, ",\"tools\":[{\"name\":\"f\",\"input_schema\":{}}],\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}"));
    rig_check_body(&rig, "{\"messages\":[" USER "],\"tools\":[{\"name\":\"f\",\"parameters\":{}}],\"tool_choice\":\"none\",\"parallel_tool_calls\":false}",
                   BODY("8192", SAID, ",\"tools\":[{\"name\":\"f\",\"input_schema\":{}}],\"tool_choice\":{\"type\":\"none\"}"));
    rig_check_body(&rig,
                   "{\"messages\":[" USER "],\"reasoning_effort\":\"medium\",\"output_format\":{\"type\":\"json_schema\",\"name\":\"n\","
                   "\"schema\":{\"type\":\"object\"}}}",
                   BODY("8192", SAID, ",\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"medium\",\"format\":{\"type\":"
                                      "\"json_schema\",\"schema\":{\"type\":\"object\"}}}"));
    wire_close(&rig);

    rig = wire_open(*state, KIND, ", \"thinking\": \"budget\"");
    rig_check_body(&rig, "{\"messages\":[" USER "],\"reasoning_effort\":\"low\"}",
                   BODY("9216", SAID, ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}"));
    rig_check_body(&rig, "{\"messages\":[" USER "],\"reasoning_effort\":\"low\",\"max_tokens\":1025}",
                   BODY("1025", SAID, ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}"));
    rig_check_refused(&rig, "{\"messages\":[" USER "],\"reasoning_effort\":\"low\",\"max_tokens\":1024}", "/max_tokens");
    wire_close(&rig);
}

static void a_conversation_with_tools_goes_back_as_it_was(void **state)
{
    struct wire_rig rig = wire_open(*state, KIND, WITH_KEY);
    rig_check_body(
        &rig,
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"file\",\"file\":{\"data_base64\":"
        "\"aGk=\",\"mime_type\":\"image/png\"}},{\"type\":\"file\",\"file\":{\"data_base64\":\"aGk=\",\"mime_type\":\"application/pdf\","
        "\"filename\":\"a.pdf\"}}]},"
        "{\"role\":\"assistant\",\"content\":\"ok\",\"tool_calls\":[{\"id\":\"c1\",\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"},"
        "{\"id\":\"c2\",\"name\":\"g\",\"arguments\":\"{broken\"},{\"id\":\"c3\",\"name\":\"h\",\"arguments\":\"\"}],"
        "\"provider_state\":{\"kind\":\"anthropic\",\"blocks\":[{\"type\":\"thinking\",\"thinking\":\"T\",\"signature\":\"S\"}]}},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"one\"},{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"two\","
        "\"is_error\":true},{\"role\":\"tool\",\"tool_call_id\":\"c3\",\"content\":\"\"}," USER ",{\"role\":\"assistant\",\"content\":\"\","
        "\"provider_state\":{\"kind\":\"openai-responses\",\"items\":[]},\"tool_calls\":[{\"id\":\"c4\",\"name\":\"f\",\"arguments\":\"{}\"}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c4\",\"content\":[{\"type\":\"text\",\"text\":\"four\"}]}]}",
        BODY("8192",
             "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"image\",\"source\":{\"type\":\"base64\","
             "\"media_type\":\"image/png\",\"data\":\"aGk=\"}},{\"type\":\"document\",\"source\":{\"type\":\"base64\",\"media_type\":"
             "\"application/pdf\",\"data\":\"aGk=\"},\"title\":\"a.pdf\"}]},"
             "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"T\",\"signature\":\"S\"},{\"type\":\"text\",\"text\":\"ok\"},"
             "{\"type\":\"tool_use\",\"id\":\"c1\",\"name\":\"f\",\"input\":{\"x\":1}},{\"type\":\"tool_use\",\"id\":\"c2\",\"name\":\"g\",\"input\":"
             "{\"unreadable_arguments\":\"{broken\"}},{\"type\":\"tool_use\",\"id\":\"c3\",\"name\":\"h\",\"input\":{}}]},"
             "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c1\",\"content\":[{\"type\":\"text\",\"text\":\"one\"}]},"
             "{\"type\":\"tool_result\",\"tool_use_id\":\"c2\",\"content\":[{\"type\":\"text\",\"text\":\"two\"}],\"is_error\":true},"
             "{\"type\":\"tool_result\",\"tool_use_id\":\"c3\",\"content\":[]}]}," SAID ","
             "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"c4\",\"name\":\"f\",\"input\":{}}]},"
             "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c4\",\"content\":[{\"type\":\"text\",\"text\":\"four\"}]}]}",
             ""));
    rig_check_refused(&rig, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{\"data_base64\":\"aGk=\","
                      "\"mime_type\":\"audio/wav\"}}]}]}", "/messages");
    wire_close(&rig);
}

/* ---- what comes back ---- */

#define ALL     "One two three four five"
#define IDS     ",\"model\":\"real-claude-7\",\"response_id\":\"msg_1\""
#define USED    RIG_USAGE("11", "0", "0", "5", "0", "11", "5", "16")
#define OK_OF(finish) "{\"text\":\"" ALL "\",\"finish_reason\":\"" finish "\"" USED IDS "}"
#define OK_USED OK_OF("stop")
#define TOOLS   ",\"tool_calls\":[{\"id\":\"toolu_a\",\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"}," \
                "{\"id\":\"toolu_b\",\"name\":\"clock\",\"arguments\":\"{}\"}]"
#define CALLED  "{\"text\":\"Let me look.\",\"finish_reason\":\"tool_calls\"" RIG_USAGE("20", "0", "0", "9", "0", "20", "9", "29") IDS TOOLS "}"
#define THOUGHT "{\"text\":\"Yes.\",\"finish_reason\":\"stop\"" RIG_USAGE("11", "0", "0", "10", "30", "11", "40", "51") IDS \
                ",\"reasoning\":\"Hm. Well.\",\"provider_state\":{\"kind\":\"anthropic\",\"blocks\":[{\"type\":\"thinking\",\"thinking\":" \
                "\"Hm. Well.\",\"signature\":\"c2lnbmF0dXJl\"},{\"type\":\"redacted_thinking\",\"data\":\"cmVkYWN0ZWQ=\"}]}}"
#define CACHED  "{\"text\":\"x\",\"finish_reason\":\"stop\"" RIG_USAGE("29", "64", "7", "20", "0", "100", "20", "120") IDS "}"

static const struct rig_answer answers[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "no-stop", ALL, "", "", OK_USED, ERR_OK },
    { "tools", "Let me look.", "", "{\"city\":\"Ulm\"}{}", CALLED, ERR_OK },
    { "thinking", "Yes.", "Hm. Well.", "", THOUGHT, ERR_OK },
    { "usage-details", "x", "", "", CACHED, ERR_OK },
    { "unknown-things", "ab", "", "", "{\"text\":\"ab\",\"finish_reason\":\"stop\"" USED IDS "}", ERR_OK },
    { "length", ALL, "", "", OK_OF("length"), ERR_OK },
    { "refusal", "", "", "", "{\"text\":\"\",\"finish_reason\":\"content_filter\"" USED IDS "}", ERR_OK },
    { "paused", ALL, "", "", OK_OF("other"), ERR_OK },
    { "split-utf8", "grüß dich 🌊€", "", "", "{\"text\":\"grüß dich 🌊€\",\"finish_reason\":\"stop\"" USED IDS "}", ERR_OK },
    { "bad-index", "", "", "", RIG_FAILED("invalid_stream", "provider", "a content block has an index that is out of range", "true", ""),
      ERR_MODEL },
    { "stream-error-overloaded", ALL, "", "", RIG_FAILED("overloaded", "provider", "Overloaded", "true",
      ",\"provider_code\":\"overloaded_error\""), ERR_MODEL },
    { "error-429", "", "", "", RIG_FAILED("rate_limited", "rate_limit", "Number of request tokens has exceeded your rate limit", "true",
      ",\"provider_code\":\"rate_limit_error\",\"retry_after_ms\":7000"), ERR_MODEL },
    { "error-529", "", "", "", RIG_FAILED("overloaded", "provider", "Overloaded", "true", ",\"provider_code\":\"overloaded_error\""),
      ERR_MODEL },
    { "error-billing", "", "", "", RIG_FAILED("quota_exceeded", "rate_limit", "Your credit is used up", "false",
      ",\"provider_code\":\"billing_error\""), ERR_MODEL },
    { "error-context", "", "", "", RIG_FAILED("context_length_exceeded", "validation", "prompt is too long: 210000 tokens > 200000 maximum",
      "false", ",\"provider_code\":\"invalid_request_error\""), ERR_MODEL },
    { "error-echo-key", "", "", "", RIG_FAILED("authentication_failed", "auth", "invalid x-api-key ***", "false",
      ",\"provider_code\":\"authentication_error\""), ERR_MODEL },
};

static void each_answer_is_read_for_what_it_is(void **state)
{
    rig_check_answers(*state, KIND, WITH_KEY, answers, ARRAY_LEN(answers));
}

static const struct rig_answer whole[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "stream-anyway", ALL, "", "", OK_USED, ERR_OK },
    { "tools", "Let me look.", "", "{\"city\":\"Ulm\"}{}", CALLED, ERR_OK },
    { "thinking", "Yes.", "Hm. Well.", "", THOUGHT, ERR_OK },
    { "usage-details", "x", "", "", CACHED, ERR_OK },
    { "no-content", "", "", "", RIG_FAILED("invalid_stream", "provider", "the answer has no content", "true", ""), ERR_MODEL },
};

static void whole_answers_are_read_as_well(void **state)
{
    rig_check_answers(*state, KIND, WITH_KEY ", \"stream\": false", whole, ARRAY_LEN(whole));
}

static void the_wire_may_be_bad(void **state)
{
    rig_check_wire(*state, KIND, WITH_KEY, OK_USED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_headers_are_those_of_the_house),
        cmocka_unit_test(the_version_can_be_configured),
        cmocka_unit_test(each_member_is_said_in_the_protocols_words),
        cmocka_unit_test(a_conversation_with_tools_goes_back_as_it_was),
        cmocka_unit_test(each_answer_is_read_for_what_it_is),
        cmocka_unit_test(whole_answers_are_read_as_well),
        cmocka_unit_test(the_wire_may_be_bad),
    };
    return cmocka_run_group_tests(tests, rig_server_start, rig_server_stop);
}
