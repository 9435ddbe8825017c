/* SPDX-License-Identifier: Apache-2.0 */
/* test_openai_responses.c - the provider kind openai-responses against a server that speaks Responses well and badly. */
#include "support/provider_rig.h"
#include <stdio.h>
#include <stdlib.h>

#define KIND     "openai-responses"
#define WITH_KEY ", \"api_key_env\": \"PERDURE_TEST_KEY\""

/* ---- what goes out ---- */

#define USER "{\"role\":\"user\",\"content\":\"hi\"}"
#define BODY(input, rest) "{\"model\":\"plain\",\"input\":[" input "],\"stream\":true,\"store\":false" rest "}"

static void each_member_is_said_in_the_protocols_words(void **state)
{
    struct wire_rig rig = wire_open(*state, KIND, WITH_KEY);
    rig_check_body(&rig, "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"}," USER "],\"max_tokens\":99,\"temperature\":0.5}",
                   BODY("{\"role\":\"system\",\"content\":\"Be brief.\"}," USER, ",\"max_output_tokens\":99,\"temperature\":0.5"));
    struct jv entry = rig_last_request(*state, &rig.arena);
    assert_true(jv_str_eq(jv_get(entry, "path"), "/v1/responses"));
    assert_true(jv_str_eq(jv_get(entry, "authorization"), "Bearer " RIG_KEY));
    rig_check_body(&rig,
                   "{\"messages\":[" USER "],\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"}}],"
                   "\"tool_choice\":\"required\",\"parallel_tool_calls\":true}",
                   BODY(USER, ",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"},"
                              "\"strict\":false}],\"tool_choice\":\"required\",\"parallel_tool_calls\":true"));
    rig_check_body(&rig, "{\"messages\":[" USER "],\"tools\":[{\"name\":\"f\",\"parameters\":{}}],\"tool_choice\":{\"name\":\"f\"}}",
                   BODY(USER, ",\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{},\"strict\":false}],\"tool_choice\":"
                              "{\"type\":\"function\",\"name\":\"f\"}"));
    rig_check_body(&rig,
                   "{\"messages\":[" USER "],\"reasoning_effort\":\"high\",\"output_format\":{\"type\":\"json_schema\",\"name\":\"n\","
                   "\"schema\":{\"type\":\"object\"},\"strict\":true}}",
                   BODY(USER, ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"schema\":{\"type\":\"object\"},\"strict\":true}},"
                              "\"reasoning\":{\"effort\":\"high\"},\"include\":[\"reasoning.encrypted_content\"]"));
    rig_check_refused(&rig, "{\"messages\":[" USER "],\"stop\":[\"a\"]}", "/stop");
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
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"ok\"}],\"tool_calls\":[{\"id\":\"c1\",\"name\":\"f\",\"arguments\":"
        "\"{\\\"x\\\": 1}\"}],\"provider_state\":{\"kind\":\"openai-responses\",\"items\":[{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[],"
        "\"encrypted_content\":\"E\"}]}},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"one\"},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c2\",\"name\":\"f\",\"arguments\":\"{}\"}],"
        "\"provider_state\":{\"kind\":\"anthropic\",\"blocks\":[{}]}},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":[{\"type\":\"text\",\"text\":\"two\"}]}]}",
        BODY("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"see\"},{\"type\":\"input_image\",\"image_url\":"
             "\"data:image/png;base64,aGk=\"},{\"type\":\"input_file\",\"filename\":\"a.pdf\",\"file_data\":\"data:application/pdf;base64,aGk=\"}]},"
             "{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[],\"encrypted_content\":\"E\"},{\"role\":\"assistant\",\"content\":\"ok\"},"
             "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 1}\"},"
             "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"one\"},"
             "{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"f\",\"arguments\":\"{}\"},"
             "{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":[{\"type\":\"input_text\",\"text\":\"two\"}]}", ""));
    wire_close(&rig);
}

/* ---- what comes back ---- */

#define ALL     "One two three four five"
#define IDS     ",\"model\":\"real-model-7\",\"response_id\":\"resp_1\""
#define USED    RIG_USAGE("11", "0", "0", "5", "0", "11", "5", "16")
#define OK_OF(finish) "{\"text\":\"" ALL "\",\"finish_reason\":\"" finish "\"" USED IDS "}"
#define OK_USED OK_OF("stop")
#define WEATHER "{\"id\":\"call_a\",\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"}"
#define CALLED  "{\"text\":\"\",\"finish_reason\":\"tool_calls\"" RIG_USAGE("20", "0", "0", "9", "0", "20", "9", "29") IDS \
                ",\"tool_calls\":[" WEATHER ",{\"id\":\"call_b\",\"name\":\"clock\",\"arguments\":\"{}\"}]}"
#define THOUGHT(text) "{\"text\":\"Yes.\",\"finish_reason\":\"stop\"" RIG_USAGE("36", "64", "0", "20", "30", "100", "50", "150") IDS \
                ",\"reasoning\":\"" text "\",\"provider_state\":{\"kind\":\"openai-responses\",\"items\":[{\"type\":\"reasoning\",\"id\":" \
                "\"rs_1\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"Hm.\"},{\"type\":\"summary_text\",\"text\":\"Well.\"}]," \
                "\"encrypted_content\":\"ZW5jcnlwdGVk\"}]}}"

static const struct rig_answer answers[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "tools", "", "", "{\"city\":\"Ulm\"}{}", CALLED, ERR_OK },
    { "reasoning", "Yes.", "Hm.\n\nWell.", "", THOUGHT("Hm.\\n\\nWell."), ERR_OK },
    { "open-reasoning", "Yes.", "Hm.", "", "{\"text\":\"Yes.\",\"finish_reason\":\"stop\"" IDS ",\"reasoning\":\"Hm.\"}", ERR_OK },
    { "refusal", "No.", "", "", "{\"text\":\"No.\",\"finish_reason\":\"stop\"" IDS "}", ERR_OK },
    { "only-the-end", "All here.", "", "{\"city\":\"Ulm\"}", "{\"text\":\"All here.\",\"finish_reason\":\"tool_calls\""
      RIG_USAGE("1", "0", "0", "2", "0", "1", "2", "3") IDS ",\"tool_calls\":[" WEATHER "]}", ERR_OK },
    { "length", ALL, "", "", OK_OF("length"), ERR_OK },
    { "filtered", "", "", "", "{\"text\":\"\",\"finish_reason\":\"content_filter\"" IDS "}", ERR_OK },
    { "split-utf8", "grüß dich 🌊€", "", "", "{\"text\":\"grüß dich 🌊€\",\"finish_reason\":\"stop\"" IDS "}", ERR_OK },
    { "failed", "", "", "", RIG_FAILED("provider_error", "provider", "The model failed.", "true", ",\"provider_code\":\"server_error\""),
      ERR_MODEL },
    { "failed-rate", "", "", "", RIG_FAILED("rate_limited", "rate_limit", "Slow down.", "true",
      ",\"provider_code\":\"rate_limit_exceeded\""), ERR_MODEL },
    { "bad-index", "", "", "", RIG_FAILED("invalid_stream", "provider", "an item has an index that is out of range", "true", ""),
      ERR_MODEL },
    { "bad-arguments", "", "", "", RIG_FAILED("invalid_stream", "provider", "there are arguments for a tool call that has not begun",
      "true", ""), ERR_MODEL },
    { "error-429", "", "", "", RIG_FAILED("rate_limited", "rate_limit", "Rate limit reached", "true",
      ",\"provider_code\":\"rate_limit_exceeded\",\"retry_after_ms\":1500"), ERR_MODEL },
    { "error-context", "", "", "", RIG_FAILED("context_length_exceeded", "validation", "Your input exceeds the context window of this "
      "model.", "false", ",\"provider_code\":\"context_length_exceeded\""), ERR_MODEL },
    { "error-echo-key", "", "", "", RIG_FAILED("authentication_failed", "auth", "Incorrect API key provided: Bearer ***", "false",
      ",\"provider_code\":\"invalid_api_key\""), ERR_MODEL },
};

static void each_answer_is_read_for_what_it_is(void **state)
{
    rig_check_answers(*state, KIND, WITH_KEY, answers, ARRAY_LEN(answers));
}

static const struct rig_answer whole[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "stream-anyway", ALL, "", "", OK_USED, ERR_OK },
    { "tools", "", "", "{\"city\":\"Ulm\"}{}", CALLED, ERR_OK },
    { "reasoning", "Yes.", "Hm.\n\nWell.", "", THOUGHT("Hm.\\n\\nWell."), ERR_OK },
    { "failed", "", "", "", RIG_FAILED("provider_error", "provider", "The model failed.", "true", ",\"provider_code\":\"server_error\""),
      ERR_MODEL },
    { "no-output", "", "", "", RIG_FAILED("invalid_stream", "provider", "the answer has no output", "true", ""), ERR_MODEL },
};

static void whole_answers_are_read_as_well(void **state)
{
    rig_check_answers(*state, KIND, WITH_KEY ", \"stream\": false", whole, ARRAY_LEN(whole));
}

static void retry_after_may_be_a_date(void **state)
{
    struct wire_rig rig = wire_open(*state, KIND, WITH_KEY);
    struct heard    heard = { 0 };
    int64_t         ms = 0;
    wire_run(&rig, &heard, "error-date", RIG_HELLO);
    assert_true(jv_i64(jv_get(json_read(span_of(heard.result.p), &rig.arena), "retry_after_ms"), &ms));
    assert_true(ms > 60000 && ms <= 90000);
    heard_done(&heard);
    wire_close(&rig);
}

static void the_wire_may_be_bad(void **state)
{
    rig_check_wire(*state, KIND, WITH_KEY, OK_USED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_member_is_said_in_the_protocols_words),
        cmocka_unit_test(a_conversation_with_tools_goes_back_as_it_was),
        cmocka_unit_test(each_answer_is_read_for_what_it_is),
        cmocka_unit_test(whole_answers_are_read_as_well),
        cmocka_unit_test(retry_after_may_be_a_date),
        cmocka_unit_test(the_wire_may_be_bad),
    };
    return cmocka_run_group_tests(tests, rig_server_start, rig_server_stop);
}
