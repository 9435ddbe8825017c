/* SPDX-License-Identifier: Apache-2.0 */
/* test_scripted.c - the built-in models stream what they were told, at the pace they were told, from where they were told.
 *
 * A real loop on a clock of our own, which moves only when it is looked at. The loop always has mail, so it never sleeps, and
 * seconds of its time pass in a moment. */
#include "unit.h"
#include "base/utf8.h"
#include "model/provider.h"
#include <stdio.h>
#include <stdlib.h>

enum { CHUNKS_MAX = 4096 };

struct clock {
    struct env env;
    uint64_t   now_us, tick_us; /* each look at the clock moves it by a tick */
};

struct heard {
    struct loop_mail   awake;
    struct clock      *clock;
    struct loop       *loop;
    struct model_call *call;
    struct buf         text, reasoning, arguments;
    unsigned           chunks, rounds, cancel_after, stall_after; /* after so many chunks; 0: never */
    unsigned           most_in_a_round, in_this_round;
    uint64_t           at_us[CHUNKS_MAX];
    size_t             length[CHUNKS_MAX]; /* of the text, behind each chunk */
    bool               ended;
    enum err           err;
    struct buf         result;
};

static int64_t clock_wall_ms(struct env *env)
{
    return (int64_t)((struct clock *)env)->now_us / 1000;
}

static uint64_t clock_mono_us(struct env *env)
{
    struct clock *clock = (struct clock *)env;
    return clock->now_us += clock->tick_us;
}

static void on_chunk(void *user, enum model_chunk_kind kind, struct span text)
{
    struct heard *heard = user;
    assert_false(heard->ended);
    assert_true(heard->chunks < CHUNKS_MAX);
    buf_span(kind == CHUNK_TEXT ? &heard->text : kind == CHUNK_REASONING ? &heard->reasoning : &heard->arguments, text);
    heard->at_us[heard->chunks] = loop_now_us(heard->loop);
    heard->length[heard->chunks] = heard->text.len;
    if (++heard->in_this_round > heard->most_in_a_round)
        heard->most_in_a_round = heard->in_this_round;
    if (++heard->chunks == heard->cancel_after) {
        model_cancel(heard->call);
        loop_stop(heard->loop);
    }
    if (heard->chunks == heard->stall_after)
        heard->clock->now_us += 3600 * 1000000ull;
}

static void on_end(void *user, enum err err, struct span result)
{
    struct heard *heard = user;
    assert_false(heard->ended);
    heard->ended = true;
    heard->err = err;
    buf_span(&heard->result, result);
    loop_stop(heard->loop);
}

static void on_awake(struct loop_mail *mail)
{
}

static void on_turn(void *user)
{
    struct heard *heard = user;
    heard->in_this_round = 0;
    loop_post(heard->loop, &heard->awake);
    assert_true(++heard->rounds < 100000);
}

struct setting {
    const char *provider, *request;
    uint64_t    skip;
    unsigned    cancel_after, stall_after;
    uint32_t    attempt;
};

static void listen(const struct setting *setting, struct heard *heard)
{
    struct clock        clock = { { clock_wall_ms, clock_mono_us, NULL }, 1000000, 500 };
    struct loop        *loop;
    struct http_client *client;
    struct models      *models;
    assert_int_equal(loop_new(&clock.env, NULL, &loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(loop, &client, NULL), ERR_OK);
    assert_int_equal(models_new(loop, client, (struct jv){ 0 }, &models, NULL), ERR_OK);

    *heard = (struct heard){ .awake.run = on_awake, .clock = &clock, .loop = loop,
                             .cancel_after = setting->cancel_after, .stall_after = setting->stall_after };
    loop_on_turn(loop, on_turn, heard);
    struct model_call_config config = {
        .provider = span_of(setting->provider), .model = SPAN("writer"), .request = span_of(setting->request),
        .skip_chunks = setting->skip, .attempt = setting->attempt, .on_chunk = on_chunk, .on_end = on_end, .user = heard,
    };
    struct error error;
    enum err     err = model_start(models, &config, &heard->call, &error);
    if (err)
        fail_msg("%s: %s", error.field, error.message);
    assert_int_equal(heard->chunks, 0); /* nothing is called back from inside model_start */
    loop_run(loop);
    models_free(models);
    http_client_free(client);
    loop_free(loop);
    buf_byte(&heard->text, 0);
    buf_byte(&heard->reasoning, 0);
    buf_byte(&heard->arguments, 0);
    buf_byte(&heard->result, 0);
}

static void forget(struct heard *heard)
{
    buf_done(&heard->text);
    buf_done(&heard->reasoning);
    buf_done(&heard->arguments);
    buf_done(&heard->result);
}

static void check(const struct setting *setting, const char *text, enum err err, const char *result)
{
    struct heard heard;
    listen(setting, &heard);
    assert_string_equal(heard.text.p, text);
    assert_true(heard.ended);
    assert_int_equal(heard.err, err);
    assert_string_equal(heard.result.p, result);
    forget(&heard);
}

#define CHECK(provider, request, skip, text, err, result) check(&(struct setting){ provider, request, skip, 0, 0, 0 }, text, err, result)

static void emit_counts(void **state)
{
    CHECK("core.emit", "{\"count\":3,\"interval_ms\":20}", 0, "tick 0 tick 1 tick 2 ", ERR_OK,
          "{\"text\":\"tick 0 tick 1 tick 2 \",\"finish_reason\":\"stop\",\"usage\":{\"input_tokens\":0,\"output_tokens\":3}}");
    CHECK("core.emit", "{\"count\":0}", 0, "", ERR_OK,
          "{\"text\":\"\",\"finish_reason\":\"stop\",\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}");
}

static void emit_goes_on_where_it_stopped(void **state)
{
    const char *result = "{\"text\":\"tick 0 tick 1 tick 2 \",\"finish_reason\":\"stop\","
                         "\"usage\":{\"input_tokens\":0,\"output_tokens\":3}}";
    static const char *const rest[] = { "tick 0 tick 1 tick 2 ", "tick 1 tick 2 ", "tick 2 ", "", "" };
    for (unsigned skip = 0; skip < ARRAY_LEN(rest); skip++)
        check(&(struct setting){ "core.emit", "{\"count\":3,\"interval_ms\":1}", skip, 0, 0, 0 }, rest[skip], ERR_OK, result);
}

static void chunks_do_not_drift(void **state)
{
    struct heard heard;
    listen(&(struct setting){ "core.emit", "{\"count\":100,\"interval_ms\":7}", 40, 0, 0, 0 }, &heard);
    assert_int_equal(heard.chunks, 60);
    for (unsigned k = 0; k < heard.chunks; k++) {
        uint64_t due = heard.at_us[0] + k * 7000;
        assert_true(heard.at_us[k] >= due);
        assert_true(heard.at_us[k] < due + 4000); /* less than one interval late, the hundredth as well as the first */
    }
    forget(&heard);
}

static void a_late_loop_catches_up_in_slices(void **state)
{
    struct heard heard;
    listen(&(struct setting){ "core.emit", "{\"count\":1000,\"interval_ms\":10}", 0, 0, 5, 0 }, &heard);
    assert_int_equal(heard.chunks, 1000);
    assert_int_equal(heard.most_in_a_round, PACE_SLICE);
    assert_true(heard.at_us[999] - heard.at_us[0] < 3700 * 1000000ull);
    forget(&heard);

    listen(&(struct setting){ "core.emit", "{\"count\":1000,\"interval_ms\":0}", 0, 0, 0, 0 }, &heard);
    assert_int_equal(heard.chunks, 1000);
    assert_int_equal(heard.most_in_a_round, PACE_SLICE);
    assert_true(heard.rounds >= 1000 / PACE_SLICE);
    forget(&heard);
}

static void a_call_may_be_cancelled_from_its_own_chunk(void **state)
{
    struct heard heard;
    listen(&(struct setting){ "core.emit", "{\"count\":1000,\"interval_ms\":0}", 0, 3, 0, 0 }, &heard);
    assert_string_equal(heard.text.p, "tick 0 tick 1 tick 2 ");
    assert_false(heard.ended);
    forget(&heard);
    listen(&(struct setting){ "scripted", "{\"script\":{\"text\":\"a b c d\",\"interval_ms\":0}}", 0, 2, 0, 0 }, &heard);
    assert_string_equal(heard.text.p, "a b ");
    assert_false(heard.ended);
    forget(&heard);
}

#define BUCKETS(i, r, w, o, t) "\"buckets\":{\"input\":" i ",\"cache_read\":" r ",\"cache_write\":" w ",\"output\":" o ",\"reasoning\":" t "}"
#define TOTALS(in, out, total) "\"usage\":{\"input_tokens\":" in ",\"output_tokens\":" out ",\"total_tokens\":" total ","
#define USAGE(in, out, total)  TOTALS(in, out, total) BUCKETS(in, "0", "0", out, "0") "}"

static void a_script_says_what_it_says(void **state)
{
    CHECK("scripted", "{\"messages\":[{\"role\":\"system\",\"content\":\"be short\"},{\"role\":\"user\",\"content\":\"hi\"}],"
          "\"script\":{\"text\":\"Good  morning,\\nyou.\"}}", 0, "Good  morning,\nyou.", ERR_OK,
          "{\"text\":\"Good  morning,\\nyou.\",\"finish_reason\":\"stop\"," USAGE("3", "3", "6") ","
          "\"model\":\"writer\"}");
    CHECK("scripted", "{\"script\":{\"text\":\"\",\"finish_reason\":\"length\",\"usage\":null}}", 0, "", ERR_OK,
          "{\"text\":\"\",\"finish_reason\":\"length\",\"model\":\"writer\"}");
    CHECK("scripted", "{\"script\":{\"text\":\"x\",\"usage\":{\"input_tokens\":7,\"output_tokens\":9}}}", 0, "x", ERR_OK,
          "{\"text\":\"x\",\"finish_reason\":\"stop\"," USAGE("7", "9", "16")
          ",\"model\":\"writer\"}");
}

/* As the test hears it: text, then what was thought, then the arguments of calls. */
static void check_all(const struct setting *setting, const char *text, const char *reasoning, const char *arguments,
                      const char *result)
{
    struct heard heard;
    listen(setting, &heard);
    assert_string_equal(heard.text.p, text);
    assert_string_equal(heard.reasoning.p, reasoning);
    assert_string_equal(heard.arguments.p, arguments);
    assert_string_equal(heard.result.p, result);
    forget(&heard);
}

static void a_script_thinks_and_calls_tools(void **state)
{
    static const char request[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"go\"}],\"script\":{\"reasoning\":\"hm so\",\"text\":\"I look\","
                                  "\"tool_calls\":[{\"name\":\"f\",\"arguments\":{\"a b\": 1}},{\"name\":\"g\",\"id\":\"mine\",\"arguments\":\"{bad\"},"
                                  "{\"name\":\"h\"}],\"provider_state\":{\"kind\":\"x\"}}}";
    static const char result[] = "{\"text\":\"I look\",\"finish_reason\":\"tool_calls\"," TOTALS("1", "8", "9") BUCKETS("1", "0", "0", "6", "2")
                                 "},\"model\":\"writer\",\"tool_calls\":[{\"id\":\"call-0-0\",\"name\":\"f\",\"arguments\":\"{\\\"a b\\\":1}\"},"
                                 "{\"id\":\"mine\",\"name\":\"g\",\"arguments\":\"{bad\"},{\"id\":\"call-0-2\",\"name\":\"h\",\"arguments\":\"{}\"}],"
                                 "\"reasoning\":\"hm so\",\"provider_state\":{\"kind\":\"x\"}}";
    static const char *const after[][3] = { /* behind so many chunks of all kinds */
        { "hm so", "I look", "{\"a b\":1}{bad{}" }, { "so", "I look", "{\"a b\":1}{bad{}" }, { "", "I look", "{\"a b\":1}{bad{}" },
        { "", "look", "{\"a b\":1}{bad{}" },        { "", "", "{\"a b\":1}{bad{}" },         { "", "", "b\":1}{bad{}" },
        { "", "", "{bad{}" },                      { "", "", "{}" },                         { "", "", "" },
    };
    for (unsigned skip = 0; skip < ARRAY_LEN(after); skip++)
        check_all(&(struct setting){ "scripted", request, skip, 0, 0, 0 }, after[skip][1], after[skip][0], after[skip][2], result);
}

#define TURNS "\"script\":{\"turns\":[{\"tool_calls\":[{\"name\":\"f\"}],\"usage\":null},{\"text\":\"done\",\"usage\":null}]}"
#define U     "{\"role\":\"user\",\"content\":\"go\"}"
#define A     "{\"role\":\"assistant\",\"content\":\"x\"}"

static void a_turn_is_chosen_by_what_was_answered(void **state)
{
    const char *first = "{\"text\":\"\",\"finish_reason\":\"tool_calls\",\"model\":\"writer\",\"tool_calls\":[{\"id\":\"call-0-0\",\"name\":"
                        "\"f\",\"arguments\":\"{}\"}]}";
    const char *last = "{\"text\":\"done\",\"finish_reason\":\"stop\",\"model\":\"writer\"}";
    CHECK("scripted", "{\"messages\":[" U "]," TURNS "}", 1, "", ERR_OK, first);
    CHECK("scripted", "{\"messages\":[" U "," A "," U "]," TURNS "}", 0, "done", ERR_OK, last);
    CHECK("scripted", "{\"messages\":[" A "," A "," A "," A "]," TURNS "}", 0, "done", ERR_OK, last);
}

static void usage_has_buckets(void **state)
{
    CHECK("scripted", "{\"script\":{\"text\":\"x\",\"usage\":{\"input_tokens\":100,\"output_tokens\":50,\"cache_read_tokens\":60,"
          "\"cache_write_tokens\":10,\"reasoning_tokens\":20}}}", 0, "x", ERR_OK,
          "{\"text\":\"x\",\"finish_reason\":\"stop\"," TOTALS("100", "50", "150") BUCKETS("30", "60", "10", "30", "20")
          "},\"model\":\"writer\"}");
}

static void the_first_chunk_may_be_late(void **state)
{
    struct heard heard;
    listen(&(struct setting){ "scripted", "{\"script\":{\"text\":\"a b\",\"delay_ms\":3000}}", 0, 0, 0, 0 }, &heard);
    assert_true(heard.at_us[0] >= 1000000 + 3000000 && heard.at_us[0] < 1000000 + 3020000);
    forget(&heard);
    listen(&(struct setting){ "scripted", "{\"script\":{\"text\":\"a b\",\"delay_ms\":3000}}", 1, 0, 0, 0 }, &heard);
    assert_true(heard.at_us[0] < 1000000 + 100000); /* it was waited for before */
    forget(&heard);
}

static void a_script_may_fail_so_many_times(void **state)
{
    static const char request[] = "{\"script\":{\"text\":\"a b\",\"usage\":null,\"error\":{\"status\":429,\"message\":\"slow\","
                                  "\"retry_after_ms\":50},\"error_after_chunks\":1,\"fail_tries\":2}}";
    static const char limited[] = "{\"code\":\"rate_limited\",\"category\":\"rate_limit\",\"message\":\"slow\",\"retryable\":true,"
                                  "\"source\":\"provider\",\"retry_after_ms\":50}";
    for (uint32_t attempt = 0; attempt < 3; attempt++)
        check(&(struct setting){ "scripted", request, 0, 0, 0, attempt }, "a ", ERR_MODEL, limited);
    check(&(struct setting){ "scripted", request, 0, 0, 0, 3 }, "a b", ERR_OK,
          "{\"text\":\"a b\",\"finish_reason\":\"stop\",\"model\":\"writer\"}");
    check(&(struct setting){ "scripted", "{\"script\":{\"text\":\"a b\",\"usage\":null,\"cut_after_chunks\":0,\"fail_tries\":1}}", 0, 0, 0, 2 },
          "a b", ERR_OK, "{\"text\":\"a b\",\"finish_reason\":\"stop\",\"model\":\"writer\"}");
}

static void chunks_are_words_or_so_many_characters(void **state)
{
    static const struct {
        const char *request;
        unsigned    chunks;
        size_t      length[8];
    } cases[] = {
        { "{\"script\":{\"text\":\" one two\\n\\nthree\"}}", 3, { 5, 10, 15 } },
        { "{\"script\":{\"text\":\"abcde\",\"chunk\":2}}", 3, { 2, 4, 5 } },
        { "{\"script\":{\"text\":\"\\u00fc\\u20ac\\ud83c\\udf0ax\",\"chunk\":1}}", 4, { 2, 5, 9, 10 } },
        { "{\"script\":{\"text\":\"\\u00fc\\u20ac\\ud83c\\udf0ax\",\"chunk\":3}}", 2, { 9, 10 } },
        { "{\"script\":{\"text\":\"0123456789012345678901234567890123456789\"}}", 2, { 32, 40 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct heard heard;
        listen(&(struct setting){ "scripted", cases[i].request, 0, 0, 0, 0 }, &heard);
        assert_int_equal(heard.chunks, cases[i].chunks);
        for (unsigned k = 0; k < heard.chunks; k++)
            assert_int_equal(heard.length[k], cases[i].length[k]);
        forget(&heard);
    }
}

static void the_default_pace_is_20_ms(void **state)
{
    struct heard heard;
    listen(&(struct setting){ "scripted", "{\"script\":{\"text\":\"a b c d e\"}}", 0, 0, 0, 0 }, &heard);
    assert_int_equal(heard.chunks, 5);
    assert_true(heard.at_us[4] - heard.at_us[0] >= 80000 && heard.at_us[4] - heard.at_us[0] < 90000);
    forget(&heard);
}

static void errors_come_when_the_script_says(void **state)
{
    const char *plain = "{\"code\":\"busy\",\"category\":\"model\",\"message\":\"the script says so\",\"retryable\":false,"
                        "\"source\":\"model\"}";
    const char *cut = "{\"code\":\"stream_cut\",\"category\":\"network\",\"message\":\"the connection ended in the middle of the "
                      "answer\",\"retryable\":true,\"source\":\"provider\"}";
    CHECK("scripted", "{\"script\":{\"error\":{\"code\":\"busy\"}}}", 0, "", ERR_MODEL, plain);
    CHECK("scripted", "{\"script\":{\"text\":\"a b c\",\"error\":{\"code\":\"busy\"}}}", 0, "a b c", ERR_MODEL, plain);
    CHECK("scripted", "{\"script\":{\"text\":\"a b c\",\"error\":{\"code\":\"busy\"},\"error_after_chunks\":2}}", 0, "a b ",
          ERR_MODEL, plain);
    CHECK("scripted", "{\"script\":{\"text\":\"a b c\",\"error\":{\"code\":\"busy\"},\"error_after_chunks\":0}}", 0, "",
          ERR_MODEL, plain);
    CHECK("scripted", "{\"script\":{\"text\":\"a b c\",\"error\":{\"code\":\"busy\"},\"error_after_chunks\":9}}", 0, "a b c",
          ERR_MODEL, plain);
    CHECK("scripted", "{\"script\":{\"text\":\"a b c\",\"error\":{\"code\":\"busy\"},\"error_after_chunks\":2}}", 1, "b ",
          ERR_MODEL, plain);
    CHECK("scripted", "{\"script\":{\"text\":\"a b c\",\"cut_after_chunks\":1}}", 0, "a ", ERR_MODEL, cut);
    CHECK("scripted", "{\"script\":{\"error\":{\"code\":\"slow_down\",\"category\":\"rate_limit\",\"message\":\"later\","
          "\"retryable\":true,\"source\":\"provider\",\"provider_code\":\"429\",\"retry_after_ms\":50}}}", 0, "", ERR_MODEL,
          "{\"code\":\"slow_down\",\"category\":\"rate_limit\",\"message\":\"later\",\"retryable\":true,\"source\":\"provider\","
          "\"provider_code\":\"429\",\"retry_after_ms\":50}");
}

#define ABOUT(text) "{\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"},{\"role\":\"assistant\",\"content\":\"no\"}]," \
                    "\"script\":{\"interval_ms\":0}}"

static void without_a_text_it_writes_about_the_input(void **state)
{
    static const char request[] = ABOUT("Ledgers keep promises. A ledger writes first, and a ledger never forgets!");
    struct heard      first, second;
    listen(&(struct setting){ "scripted", request, 0, 0, 0, 0 }, &first);
    assert_non_null(strstr(first.text.p, "“Ledgers keep promises. A ledger writes first, and a ledger never forgets!”"));
    assert_non_null(strstr(first.text.p, "12 words in 2 sentences"));
    assert_non_null(strstr(first.text.p, "“ledger”, which you used 2 times"));
    assert_non_null(strstr(first.text.p, "“promises” with 8 letters"));
    assert_null(strstr(first.text.p, "“first”")); /* too common to be a subject */
    assert_non_null(strstr(first.text.p, "\n\n"));
    assert_true(first.chunks > 100);

    listen(&(struct setting){ "scripted", request, 30, 0, 0, 0 }, &second);
    assert_int_equal(second.chunks, first.chunks - 30);
    assert_string_equal(second.text.p, first.text.p + first.length[29]);
    assert_string_equal(second.result.p, first.result.p);
    forget(&first);
    forget(&second);
}

static void any_input_gives_a_well_formed_text(void **state)
{
    uint64_t          seed = 7;
    static const char *const pieces[] = { " ", "a", "Wort", ".", ("\xc3\xbc" "bermut"), "\xf0\x9f\x8c\x8a", "\n", "\xe2\x80\x9c", "! ",
                                          "beginning", "0", "\xed\xa0\x80", "\t", "longestwordthatnobodywouldeverwriteinasinglemessage" };
    for (unsigned round = 0; round < 500; round++) {
        struct buf  prompt = { 0 }, text = { 0 };
        uint64_t    length = next_random(&seed) % 60;
        for (uint64_t i = 0; i < length; i++)
            buf_span(&prompt, span_of(pieces[next_random(&seed) % ARRAY_LEN(pieces)]));
        scripted_paragraphs(buf_view(&prompt), &text);
        for (const char *p = text.p, *end = text.p + text.len; p < end;) {
            uint32_t cp;
            unsigned n = utf8_decode(p, end, true, &cp);
            assert_true(n > 0);
            p += n;
        }
        buf_done(&prompt);
        buf_done(&text);
    }
}

static void a_bad_script_is_named(void **state)
{
    static const struct {
        const char *request, *field;
    } cases[] = {
        { "{\"script\":{\"txt\":\"a\"}}", "/script/txt" },
        { "{\"script\":{\"text\":1}}", "/script/text" },
        { "{\"script\":1}", "/script" },
        { "{\"script\":{\"chunk\":0}}", "/script/chunk" },
        { "{\"script\":{\"interval_ms\":-1}}", "/script/interval_ms" },
        { "{\"script\":{\"interval_ms\":3600001}}", "/script/interval_ms" },
        { "{\"script\":{\"usage\":{\"input_tokens\":1}}}", "/script/usage/output_tokens" },
        { "{\"script\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":-1}}}", "/script/usage/output_tokens" },
        { "{\"script\":{\"usage\":7}}", "/script/usage" },
        { "{\"script\":{\"error\":{}}}", "/script/error/code" },
        { "{\"script\":{\"error\":{\"code\":\"a\",\"category\":\"weather\"}}}", "/script/error/category" },
        { "{\"script\":{\"error\":{\"code\":\"a\",\"source\":\"weather\"}}}", "/script/error/source" },
        { "{\"script\":{\"error\":{\"code\":\"a\",\"retryable\":1}}}", "/script/error/retryable" },
        { "{\"script\":{\"error\":{\"code\":\"a\",\"node\":\"n\"}}}", "/script/error/node" },
        { "{\"script\":{\"error_after_chunks\":1}}", "/script/error_after_chunks" },
        { "{\"script\":{\"cut_after_chunks\":1,\"error\":{\"code\":\"a\"}}}", "/script/cut_after_chunks" },
        { "{\"script\":{\"error\":{\"status\":429,\"code\":\"a\"}}}", "/script/error/code" },
        { "{\"script\":{\"error\":{\"status\":200}}}", "/script/error/status" },
        { "{\"script\":{\"fail_tries\":1}}", "/script/fail_tries" },
        { "{\"script\":{\"tool_calls\":[{}]}}", "/script/tool_calls/0/name" },
        { "{\"script\":{\"tool_calls\":[{\"name\":\"f\"},{\"name\":\"f\",\"arguments\":1}]}}", "/script/tool_calls/1/arguments" },
        { "{\"script\":{\"turns\":[]}}", "/script/turns" },
        { "{\"script\":{\"turns\":[{}],\"text\":\"a\"}}", "/script/turns" },
        { "{\"script\":{\"turns\":[{},{\"chunk\":0}]}}", "/script/turns/1/chunk" },
        { "{\"script\":{\"turns\":[{\"turns\":[]}]}}", "/script/turns/0/turns" },
        { "{\"script\":{\"turns\":[{\"usage\":7}]}}", "/script/turns/0/usage" },
        { "{\"text\":\"a\"}", "/text" },
    };
    static const struct {
        const char *request, *field;
    } ticks[] = {
        { "{}", "/count" },
        { "{\"count\":-1}", "/count" },
        { "{\"count\":1000001}", "/count" },
        { "{\"count\":1,\"interval\":1}", "/interval" },
        { "{\"count\":1,\"interval_ms\":\"1\"}", "/interval_ms" },
    };
    struct loop        *loop;
    struct http_client *client;
    struct models      *models;
    assert_int_equal(loop_new(env_real(), NULL, &loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(loop, &client, NULL), ERR_OK);
    assert_int_equal(models_new(loop, client, (struct jv){ 0 }, &models, NULL), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(cases) + ARRAY_LEN(ticks); i++) {
        bool                     script = i < ARRAY_LEN(cases);
        size_t                   at = script ? i : i - ARRAY_LEN(cases);
        struct model_call_config config = { .provider = script ? SPAN("scripted") : SPAN("core.emit"),
                                            .request = span_of(script ? cases[at].request : ticks[at].request) };
        struct model_call       *call = NULL;
        struct error             error = { .code = ERR_OK };
        assert_int_equal(model_start(models, &config, &call, &error), ERR_VALIDATION);
        assert_string_equal(error.field, script ? cases[at].field : ticks[at].field);
        assert_null(call);
    }
    models_free(models);
    http_client_free(client);
    loop_free(loop);
}

static void freeing_the_models_ends_their_calls(void **state)
{
    struct clock        clock = { { clock_wall_ms, clock_mono_us, NULL }, 1, 1 };
    struct heard        heard = { .clock = &clock };
    struct loop        *loop;
    struct http_client *client;
    struct models      *models;
    assert_int_equal(loop_new(&clock.env, NULL, &loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(loop, &client, NULL), ERR_OK);
    assert_int_equal(models_new(loop, client, (struct jv){ 0 }, &models, NULL), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        struct model_call_config config = { .provider = SPAN("core.emit"), .request = SPAN("{\"count\":9}"), .on_chunk = on_chunk,
                                            .on_end = on_end, .user = &heard };
        assert_int_equal(model_start(models, &config, &heard.call, NULL), ERR_OK);
    }
    models_free(models);
    http_client_free(client);
    loop_free(loop); /* asserts that no timer is left */
    assert_int_equal(heard.chunks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emit_counts),
        cmocka_unit_test(emit_goes_on_where_it_stopped),
        cmocka_unit_test(chunks_do_not_drift),
        cmocka_unit_test(a_late_loop_catches_up_in_slices),
        cmocka_unit_test(a_call_may_be_cancelled_from_its_own_chunk),
        cmocka_unit_test(a_script_says_what_it_says),
        cmocka_unit_test(a_script_thinks_and_calls_tools),
        cmocka_unit_test(a_turn_is_chosen_by_what_was_answered),
        cmocka_unit_test(usage_has_buckets),
        cmocka_unit_test(the_first_chunk_may_be_late),
        cmocka_unit_test(a_script_may_fail_so_many_times),
        cmocka_unit_test(chunks_are_words_or_so_many_characters),
        cmocka_unit_test(the_default_pace_is_20_ms),
        cmocka_unit_test(errors_come_when_the_script_says),
        cmocka_unit_test(without_a_text_it_writes_about_the_input),
        cmocka_unit_test(any_input_gives_a_well_formed_text),
        cmocka_unit_test(a_bad_script_is_named),
        cmocka_unit_test(freeing_the_models_ends_their_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
