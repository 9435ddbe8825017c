/* SPDX-License-Identifier: Apache-2.0 */
/* test_openai_chat.c - the provider kind openai-chat against a server that speaks it well and badly.
 *
 * The server is tests/wire/provider-server.mjs, started once as a child on a port of its own; the name of the model says how
 * it behaves. Each case is one call on a real loop and the chunks and the result that must come of it. */
#include "unit/unit.h"
#include "model/model.h"
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY "sk-very-secret-0123456789"

struct server {
    pid_t pid;
    int   port;
};

struct heard {
    const struct server *server;
    struct loop         *loop;
    struct model_call   *call;
    struct buf           text, reasoning, arguments, result;
    unsigned             chunks, cancel_after, stop_after; /* after so many chunks; 0: never */
    bool                 ended;
    enum err             err;
    struct loop_timer    timer; /* the test's patience, or the moment of a cancel */
};

/* ---- the server ---- */

static char *script_path(void)
{
    const char *root = getenv("PERDURE_SOURCE_ROOT");
    char       *path = NULL;
    if (root)
        assert_true(asprintf(&path, "%s/tests/wire/provider-server.mjs", root) > 0);
    else
        assert_true(asprintf(&path, "%.*sprovider-server.mjs", (int)(strrchr(__FILE__, '/') + 1 - __FILE__), __FILE__) > 0);
    return path;
}

static int server_start(void **state)
{
    static struct server server;
    int   out[2];
    char *path = script_path();
    char  line[64] = "";
    if (access(path, R_OK) || pipe(out))
        return -1;
    server.pid = fork();
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], 1);
        close(out[0]);
        execlp("node", "node", path, (char *)NULL);
        _exit(127);
    }
    free(path);
    close(out[1]);
    FILE *lines = fdopen(out[0], "r");
    bool  ready = fgets(line, sizeof line, lines) && sscanf(line, "listening on %d", &server.port) == 1;
    fclose(lines);
    *state = &server;
    return ready ? 0 : -1;
}

static int server_stop(void **state)
{
    struct server *server = *state;
    kill(server->pid, SIGKILL);
    return waitpid(server->pid, NULL, 0) == server->pid ? 0 : -1;
}

/* The body of a GET, read without a loop. */
static void get(const struct server *server, const char *path, struct buf *ret_body)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)server->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int        fd = socket(AF_INET, SOCK_STREAM, 0);
    struct buf answer = { 0 };
    char       piece[4096];
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    dprintf(fd, "GET %s HTTP/1.0\r\n\r\n", path);
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;)
        buf_put(&answer, piece, (size_t)n);
    close(fd);
    buf_byte(&answer, 0);
    char *body = strstr(answer.p, "\r\n\r\n");
    assert_non_null(body);
    buf_span(ret_body, span_of(body + 4));
    buf_byte(ret_body, 0);
    buf_done(&answer);
}

/* ---- one call ---- */

static void on_chunk(void *user, enum model_chunk_kind kind, struct span text)
{
    struct heard *heard = user;
    assert_false(heard->ended);
    assert_true(text.n > 0);
    buf_span(kind == CHUNK_TEXT ? &heard->text : kind == CHUNK_REASONING ? &heard->reasoning : &heard->arguments, text);
    if (++heard->chunks == heard->cancel_after) {
        model_cancel(heard->call);
        loop_stop(heard->loop);
    }
    if (heard->chunks == heard->stop_after)
        loop_stop(heard->loop);
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

static void on_impatience(struct loop_timer *timer)
{
    fail_msg("the call did not end");
}

/* Cancels as soon as the server has the request of model hang@cancel. */
static void on_cancel_time(struct loop_timer *timer)
{
    struct heard *heard = CONTAINER(timer, struct heard, timer);
    struct buf    log = { 0 };
    get(heard->server, "/_log", &log);
    if (strstr(log.p, "\"hang@cancel\"")) {
        model_cancel(heard->call);
        loop_stop(heard->loop);
    } else {
        loop_timer_set(timer, loop_now_us(heard->loop) + 5000);
    }
    buf_done(&log);
}

struct bench {
    struct loop        *loop;
    struct http_client *client;
    struct models      *models;
    struct arena        arena;
};

static struct bench bench_open(const struct server *server, const char *more)
{
    struct bench b = { 0 };
    struct error error;
    setenv("PERDURE_TEST_KEY", KEY, 1);
    struct span config = arena_printf(&b.arena,
                                      "{\"local\": {\"kind\": \"openai-chat\", \"base_url\": \"http://127.0.0.1:%d/v1\", "
                                      "\"api_key_env\": \"PERDURE_TEST_KEY\"%s}}", server->port, more);
    assert_int_equal(loop_new(env_real(), NULL, &b.loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(b.loop, &b.client, NULL), ERR_OK);
    if (models_new(b.loop, b.client, json_read(config, &b.arena), &b.models, &error))
        fail_msg("%s: %s", error.field, error.message);
    return b;
}

static void bench_close(struct bench *b)
{
    models_free(b->models);
    http_client_free(b->client);
    loop_free(b->loop);
    arena_done(&b->arena);
}

static void start(struct bench *b, struct heard *heard, const char *model, const char *request)
{
    struct model_call_config config = {
        .provider = SPAN("local"), .model = span_of(model), .request = span_of(request),
        .on_chunk = on_chunk, .on_end = on_end, .user = heard,
    };
    struct error error;
    if (model_start(b->models, &config, &heard->call, &error))
        fail_msg("%s: %s", error.field, error.message);
    assert_int_equal(heard->chunks, 0);
}

#define HELLO "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}"

static void run(struct bench *b, struct heard *heard, const char *model, const char *request)
{
    heard->loop = b->loop;
    loop_timer_init(&heard->timer, b->loop, on_impatience);
    loop_timer_set(&heard->timer, env_real()->mono_us(env_real()) + 20 * 1000000);
    start(b, heard, model, request);
    loop_run(b->loop);
    loop_timer_clear(&heard->timer);
    struct buf *all[] = { &heard->text, &heard->reasoning, &heard->arguments, &heard->result };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_byte(all[i], 0);
}

static void forget(struct heard *heard)
{
    buf_done(&heard->text);
    buf_done(&heard->reasoning);
    buf_done(&heard->arguments);
    buf_done(&heard->result);
}

/* ---- what goes out ---- */

static struct jv last_request(const struct server *server, struct arena *arena)
{
    struct buf log = { 0 };
    get(server, "/_log", &log);
    struct jv list = json_read(arena_copy(arena, span_of(log.p)), arena);
    buf_done(&log);
    assert_true(jv_count(list) > 0);
    return jv_at(list, jv_count(list) - 1);
}

static void the_request_is_what_was_asked_for(void **state)
{
    struct bench b = bench_open(*state, ", \"headers\": {\"X-Title\": \"a test\"}");
    struct heard heard = { 0 };
    run(&b, &heard, "plain", "{\"messages\": [{\"role\": \"system\", \"content\": \"be \\u00fc\"}, {\"role\": \"user\","
                             " \"content\": \"hi\", \"name\": \"ada\"}], \"max_tokens\": 64, \"temperature\": 0.20}");
    struct jv entry = last_request(*state, &b.arena);
    assert_true(jv_str_eq(jv_get(entry, "path"), "/v1/chat/completions"));
    assert_true(jv_str_eq(jv_get(entry, "authorization"), "Bearer " KEY));
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/content-type")), "application/json"));
    assert_true(jv_str_eq(jv_pointer(entry, SPAN("/headers/x-title")), "a test"));
    struct jv want = json_read(SPAN("{\"model\":\"plain\",\"messages\":[{\"role\":\"system\",\"content\":\"be \\u00fc\"},"
                                    "{\"role\":\"user\",\"content\":\"hi\",\"name\":\"ada\"}],\"stream\":true,\"stream_options\":"
                                    "{\"include_usage\":true},\"max_tokens\":64,\"temperature\":0.2}"), &b.arena);
    assert_true(jv_equal(jv_get(entry, "body"), want));
    forget(&heard);
    bench_close(&b);
}

static void without_a_key_there_is_no_header(void **state)
{
    const struct server *server = *state;
    struct bench         b = { 0 };
    struct heard         heard = { 0 };
    struct span          config = arena_printf(&b.arena, "{\"local\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\"}}",
                                               server->port);
    assert_int_equal(loop_new(env_real(), NULL, &b.loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(b.loop, &b.client, NULL), ERR_OK);
    assert_int_equal(models_new(b.loop, b.client, json_read(config, &b.arena), &b.models, NULL), ERR_OK);
    run(&b, &heard, "plain", HELLO);
    assert_int_equal(heard.err, ERR_OK);
    assert_int_equal(jv_kind(jv_get(last_request(server, &b.arena), "authorization")), JSON_NULL);
    forget(&heard);
    bench_close(&b);
}

/* ---- what comes back ---- */

#define ALL       "One two three four five"
#define OK_OF(finish, rest) "{\"text\":\"" ALL "\",\"finish_reason\":\"" finish "\"" rest ",\"model\":\"real-model-7\"," \
                            "\"response_id\":\"chatcmpl-1\"}"
#define OK_USED   OK_OF("stop", ",\"usage\":{\"input_tokens\":11,\"output_tokens\":5}")
#define IDS       ",\"model\":\"real-model-7\",\"response_id\":\"chatcmpl-1\""
#define FAILED(code, category, message, retryable, rest) \
    "{\"code\":\"" code "\",\"category\":\"" category "\",\"message\":\"" message "\",\"retryable\":" retryable \
    ",\"source\":\"provider\"" rest "}"

static const struct answer {
    const char *model, *text, *reasoning, *arguments, *result; /* a result that ends in * is a beginning */
    enum err    err;
} answers[] = {
    { "plain", ALL, "", "", OK_USED, ERR_OK },
    { "slow-start", ALL, "", "", OK_USED, ERR_OK },
    { "one-by-one", ALL, "", "", OK_USED, ERR_OK },
    { "crlf", ALL, "", "", OK_USED, ERR_OK },
    { "keepalive-comments", ALL, "", "", OK_USED, ERR_OK },
    { "split-utf8", "grüß dich 🌊€", "", "", "{\"text\":\"grüß dich 🌊€\",\"finish_reason\":\"stop\"" IDS "}", ERR_OK },
    { "escapes", "🌊 \"q\"\n", "", "", "{\"text\":\"🌊 \\\"q\\\"\\n\",\"finish_reason\":\"stop\"}", ERR_OK },
    { "reasoning", "Yes.", "Hm. Well. Twice.", "", "{\"text\":\"Yes.\",\"finish_reason\":\"stop\"" IDS "}", ERR_OK },
    { "tools", "", "", "{\"city\":{}\"Ulm\"}",
      "{\"text\":\"\",\"finish_reason\":\"tool_calls\",\"usage\":{\"input_tokens\":20,\"output_tokens\":9}" IDS ",\"tool_calls\":["
      "{\"id\":\"call_a\",\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"},"
      "{\"id\":\"call_b\",\"name\":\"clock\",\"arguments\":\"{}\"}]}", ERR_OK },
    { "tools-no-index", "", "", "{\"x\":1}{}",
      "{\"text\":\"\",\"finish_reason\":\"tool_calls\"" IDS ",\"tool_calls\":[{\"id\":\"a\",\"name\":\"f\",\"arguments\":"
      "\"{\\\"x\\\":1}\"},{\"id\":\"b\",\"name\":\"g\",\"arguments\":\"{}\"}]}", ERR_OK },
    { "length", ALL, "", "", OK_OF("length", ""), ERR_OK },
    { "no-done", ALL, "", "", OK_USED, ERR_OK },
    { "no-finish", ALL, "", "", OK_OF("stop", ""), ERR_OK },
    { "done-stays-open", ALL, "", "", OK_USED, ERR_OK },
    { "behind-done", ALL, "", "", OK_USED, ERR_OK },
    { "finish-then-reset", ALL, "", "", OK_OF("stop", ""), ERR_OK },
    { "two-choices", ALL, "", "", OK_OF("stop", ""), ERR_OK },
    { "nonstream", "All at once.", "Hm.", "{\"city\":\"Ulm\"}",
      "{\"text\":\"All at once.\",\"finish_reason\":\"tool_calls\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4},"
      "\"model\":\"real-model-7\",\"response_id\":\"chatcmpl-2\",\"tool_calls\":[{\"id\":\"call_a\",\"name\":\"weather\","
      "\"arguments\":\"{\\\"city\\\":\\\"Ulm\\\"}\"}]}", ERR_OK },

    { "nonstream-bad", "", "", "", FAILED("invalid_stream", "provider", "the answer holds something that is not JSON", "true", ""),
      ERR_MODEL },
    { "wrong-type", "", "", "", FAILED("unexpected_content_type", "provider", "the provider answered with content type text/html, "
      "expected text/event-stream or application/json", "false", ""), ERR_MODEL },
    { "no-type", "", "", "", FAILED("unexpected_content_type", "provider", "the provider answered without a content type", "false",
      ""), ERR_MODEL },
    { "redirect", "", "", "", FAILED("provider_rejected", "provider", "the provider answered with status 302", "false", ""),
      ERR_MODEL },
    { "bad-json", "a", "", "", FAILED("invalid_stream", "provider", "the answer holds something that is not JSON", "true", ""),
      ERR_MODEL },
    { "bad-shape", "a", "", "", FAILED("invalid_stream", "provider", "the answer holds something that is not an object", "true",
      ""), ERR_MODEL },
    { "bad-content", "", "", "", FAILED("invalid_stream", "provider", "a piece of the answer is not a text", "true", ""),
      ERR_MODEL },
    { "tools-bad-index", "", "", "", FAILED("invalid_stream", "provider", "a tool call has an index that is out of range", "true",
      ""), ERR_MODEL },
    { "huge-event", "", "", "", FAILED("answer_too_large", "provider", "the answer is larger than what is accepted", "false", ""),
      ERR_MODEL },
    { "stream-error", ALL, "", "", FAILED("provider_error", "provider", "it broke", "true", ",\"provider_code\":\"server_error\""),
      ERR_MODEL },
    { "stream-error-rate", "", "", "", FAILED("rate_limited", "rate_limit", "slow down", "true", ",\"provider_code\":\"429\""),
      ERR_MODEL },
    { "stream-error-bare", "", "", "", FAILED("invalid_request", "validation", "too long", "false", ",\"provider_code\":\"400\""),
      ERR_MODEL },
    { "cut-clean", ALL, "", "", FAILED("stream_cut", "network", "the stream ended before the answer did", "true", ""), ERR_MODEL },
    { "cut-3", "One two three", "", "", "{\"code\":\"stream_cut\",\"category\":\"network\",*", ERR_MODEL },
    { "reset", "", "", "", "{\"code\":\"connection_failed\",\"category\":\"network\",*", ERR_MODEL },
    { "close-at-once", "", "", "", "{\"code\":\"connection_failed\",\"category\":\"network\",*", ERR_MODEL },

    { "error-400", "", "", "", FAILED("invalid_request", "validation", "status 400", "false", ""), ERR_MODEL },
    { "error-401", "", "", "", FAILED("authentication_failed", "auth", "status 401", "false", ""), ERR_MODEL },
    { "error-403", "", "", "", FAILED("permission_denied", "auth", "status 403", "false", ""), ERR_MODEL },
    { "error-404", "", "", "", FAILED("not_found", "not_found", "status 404", "false", ""), ERR_MODEL },
    { "error-408", "", "", "", FAILED("timeout", "timeout", "status 408", "true", ""), ERR_MODEL },
    { "error-413", "", "", "", FAILED("request_too_large", "validation", "status 413", "false", ""), ERR_MODEL },
    { "error-418", "", "", "", FAILED("provider_rejected", "provider", "status 418", "false", ""), ERR_MODEL },
    { "error-422", "", "", "", FAILED("invalid_request", "validation", "status 422", "false", ""), ERR_MODEL },
    { "error-429", "", "", "", FAILED("rate_limited", "rate_limit", "Rate limit reached", "true",
      ",\"provider_code\":\"rate_limit_exceeded\",\"retry_after_ms\":2000"), ERR_MODEL },
    { "error-quota", "", "", "", FAILED("rate_limited", "rate_limit", "You exceeded your quota", "false",
      ",\"provider_code\":\"insufficient_quota\""), ERR_MODEL },
    { "error-500", "", "", "", FAILED("provider_error", "provider", "status 500", "true", ""), ERR_MODEL },
    { "error-503", "", "", "", FAILED("provider_error", "provider", "Overloaded", "true",
      ",\"provider_code\":\"overloaded_error\",\"retry_after_ms\":30000"), ERR_MODEL },
    { "error-504", "", "", "", FAILED("timeout", "timeout", "status 504", "true", ""), ERR_MODEL },
    { "error-text", "", "", "", FAILED("provider_error", "provider", "the provider answered with status 502", "true", ""),
      ERR_MODEL },
    { "error-string", "", "", "", FAILED("invalid_request", "validation", "model is not loaded", "false", ""), ERR_MODEL },
    { "error-echo-key", "", "", "", FAILED("authentication_failed", "auth", "Incorrect API key provided: Bearer ***", "false",
      ",\"provider_code\":\"invalid_api_key\""), ERR_MODEL },
    { "nobody", "", "", "", FAILED("not_found", "not_found", "The model 'nobody' does not exist", "false",
      ",\"provider_code\":\"model_not_found\""), ERR_MODEL },
};

static void check_result(const char *result, const char *want)
{
    size_t n = strlen(want);
    if (want[n - 1] != '*') {
        assert_string_equal(result, want);
    } else {
        assert_int_equal(strncmp(result, want, n - 1), 0);
        assert_non_null(strstr(result, "\"retryable\":true,\"source\":\"provider\"}"));
    }
}

/* All over one client, so that kept connections are used again behind well and badly ended answers alike. */
static void each_answer_is_read_for_what_it_is(void **state)
{
    struct bench b = bench_open(*state, "");
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        const struct answer *want = &answers[i];
        struct heard         heard = { 0 };
        run(&b, &heard, want->model, HELLO);
        if (strcmp(heard.result.p, want->result) && !strchr(want->result, '*'))
            print_message("model %s\n", want->model);
        check_result(heard.result.p, want->result);
        assert_int_equal(heard.err, want->err);
        assert_string_equal(heard.text.p, want->text);
        assert_string_equal(heard.reasoning.p, want->reasoning);
        assert_string_equal(heard.arguments.p, want->arguments);
        assert_null(strstr(heard.result.p, KEY));
        forget(&heard);
    }
    bench_close(&b);
}

static void every_delta_is_a_chunk(void **state)
{
    struct bench b = bench_open(*state, "");
    struct heard heard = { 0 };
    run(&b, &heard, "plain", HELLO);
    assert_int_equal(heard.chunks, 5);
    forget(&heard);
    bench_close(&b);
}

static void messages_of_providers_are_cut(void **state)
{
    struct bench b = bench_open(*state, "");
    struct heard heard = { 0 };
    run(&b, &heard, "error-long", HELLO);
    struct span message = jv_string(jv_get(json_read(span_of(heard.result.p), &b.arena), "message"), &b.arena);
    assert_int_equal(message.n, 500);
    forget(&heard);
    bench_close(&b);
}

static void an_answer_beyond_16_mib_is_refused(void **state)
{
    struct bench b = bench_open(*state, "");
    struct heard heard = { 0 };
    run(&b, &heard, "huge-answer", HELLO);
    assert_int_equal(heard.err, ERR_MODEL);
    assert_int_equal(heard.text.len - 1, 16 << 20);
    assert_non_null(strstr(heard.result.p, "\"answer_too_large\""));
    forget(&heard);
    bench_close(&b);
}

/* ---- time and silence ---- */

static void silence_times_out(void **state)
{
    static const char *const models[] = { "hang", "hang-in-stream" };
    struct bench             b = bench_open(*state, ", \"idle_timeout_ms\": 150");
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct heard heard = { 0 };
        run(&b, &heard, models[i], HELLO);
        assert_int_equal(heard.err, ERR_MODEL);
        assert_non_null(strstr(heard.result.p, "\"code\":\"timeout\",\"category\":\"timeout\""));
        assert_non_null(strstr(heard.result.p, "\"retryable\":true"));
        forget(&heard);
    }
    bench_close(&b);
}

static void nobody_listening_is_a_failure_of_the_network(void **state)
{
    struct server nobody = { .port = 1 };
    struct bench  b = bench_open(&nobody, "");
    struct heard  heard = { 0 };
    run(&b, &heard, "plain", HELLO);
    assert_int_equal(heard.err, ERR_MODEL);
    assert_non_null(strstr(heard.result.p, "\"code\":\"connection_failed\",\"category\":\"network\""));
    forget(&heard);
    bench_close(&b);
}

/* The client goes on living: it is the call alone that hangs up. */
static void check_server_saw_the_close(const struct server *server, const char *model)
{
    char       path[64];
    struct buf body = { 0 };
    snprintf(path, sizeof path, "/_closed?model=%s", model);
    get(server, path, &body);
    assert_string_equal(body.p, "{\"closed\":\"early\"}");
    buf_done(&body);
}

static void a_cancel_closes_the_socket(void **state)
{
    struct bench b = bench_open(*state, "");
    struct heard heard = { .loop = b.loop, .server = *state };
    loop_timer_init(&heard.timer, b.loop, on_cancel_time);
    loop_timer_set(&heard.timer, 1);
    start(&b, &heard, "hang@cancel", HELLO);
    loop_run(b.loop);
    assert_false(heard.ended);
    check_server_saw_the_close(*state, "hang@cancel");
    bench_close(&b);
}

static void a_cancel_from_a_chunk_closes_the_socket(void **state)
{
    struct bench b = bench_open(*state, "");
    struct heard heard = { .cancel_after = 3 };
    run(&b, &heard, "endless", HELLO);
    assert_int_equal(heard.chunks, 3);
    assert_false(heard.ended);
    check_server_saw_the_close(*state, "endless");
    forget(&heard);
    bench_close(&b);
}

static void freeing_the_models_closes_the_sockets(void **state)
{
    struct bench b = bench_open(*state, "");
    struct heard heard = { .loop = b.loop, .stop_after = 5 };
    start(&b, &heard, "hang-in-stream@free", HELLO);
    loop_run(b.loop);
    assert_int_equal(heard.chunks, 5);
    models_free(TAKE(b.models));
    check_server_saw_the_close(*state, "hang-in-stream@free");
    forget(&heard);
    bench_close(&b);
}

static void many_calls_run_side_by_side(void **state)
{
    enum { CALLS = 20 };
    struct bench b = bench_open(*state, "");
    struct heard heard[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        heard[i] = (struct heard){ .loop = b.loop };
        start(&b, &heard[i], i % 2 ? "one-by-one" : "cut-2", HELLO);
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
        forget(&heard[i]);
    }
    bench_close(&b);
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
    const struct server *server = *state;
    struct bench         b = { 0 };
    struct findings      findings = { 0 };
    int                  port = server->port;
    setenv("PERDURE_TEST_KEY", KEY, 1);
    setenv("PERDURE_TEST_GOOD_KEY", "good-key", 1);
    struct span config = arena_printf(
        &b.arena,
        "{\"good\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_GOOD_KEY\"},"
        "\"bad\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_KEY\"},"
        "\"none\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\"},"
        "\"unset\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v1\",\"api_key_env\":\"PERDURE_TEST_NO_KEY\"},"
        "\"lost\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:%d/v7\"},"
        "\"dead\":{\"kind\":\"openai-chat\",\"base_url\":\"http://127.0.0.1:1/v1\"}}", port, port, port, port, port);
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
        "scripted OK built in\n", "core.emit OK built in\n", "/v1: answers, knows ", "bad UNAUTHENTICATED http",
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
    bench_close(&b); /* with a check under way */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_is_what_was_asked_for),
        cmocka_unit_test(without_a_key_there_is_no_header),
        cmocka_unit_test(each_answer_is_read_for_what_it_is),
        cmocka_unit_test(every_delta_is_a_chunk),
        cmocka_unit_test(messages_of_providers_are_cut),
        cmocka_unit_test(an_answer_beyond_16_mib_is_refused),
        cmocka_unit_test(silence_times_out),
        cmocka_unit_test(nobody_listening_is_a_failure_of_the_network),
        cmocka_unit_test(a_cancel_closes_the_socket),
        cmocka_unit_test(a_cancel_from_a_chunk_closes_the_socket),
        cmocka_unit_test(freeing_the_models_closes_the_sockets),
        cmocka_unit_test(many_calls_run_side_by_side),
        cmocka_unit_test(doctor_tells_what_it_found),
    };
    return cmocka_run_group_tests(tests, server_start, server_stop);
}
