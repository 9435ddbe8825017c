/* SPDX-License-Identifier: Apache-2.0 */
/* provider_rig.c - calls of a model provider against a server that speaks its protocol well and badly. */
#include "support/provider_rig.h"
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the server ---- */

static char *script_path(void)
{
    const char *root = getenv("PERDURE_SOURCE_ROOT");
    char       *path = NULL;
    if (root)
        assert_true(asprintf(&path, "%s/tests/wire/provider-server.mjs", root) > 0);
    else
        assert_true(asprintf(&path, "%.*s../wire/provider-server.mjs", (int)(strrchr(__FILE__, '/') + 1 - __FILE__), __FILE__) > 0);
    return path;
}

int rig_server_start(void **state)
{
    static struct rig_server server;
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

int rig_server_stop(void **state)
{
    struct rig_server *server = *state;
    kill(server->pid, SIGKILL);
    return waitpid(server->pid, NULL, 0) == server->pid ? 0 : -1;
}

void rig_get(const struct rig_server *server, const char *path, struct buf *ret_body)
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

struct jv rig_last_request(const struct rig_server *server, struct arena *arena)
{
    struct buf log = { 0 };
    rig_get(server, "/_log", &log);
    struct jv list = json_read(arena_copy(arena, span_of(log.p)), arena);
    buf_done(&log);
    assert_true(jv_count(list) > 0);
    return jv_at(list, jv_count(list) - 1);
}

/* The client goes on living: it is the call alone that hangs up. */
void rig_saw_the_close(const struct rig_server *server, const char *model)
{
    char       path[64];
    struct buf body = { 0 };
    snprintf(path, sizeof path, "/_closed?model=%s", model);
    rig_get(server, path, &body);
    assert_string_equal(body.p, "{\"closed\":\"early\"}");
    buf_done(&body);
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
        loop_stop(heard->rig->loop);
    }
    if (heard->chunks == heard->stop_after)
        loop_stop(heard->rig->loop);
}

static void on_end(void *user, enum err err, struct span result)
{
    struct heard *heard = user;
    assert_false(heard->ended);
    heard->ended = true;
    heard->err = err;
    buf_span(&heard->result, result);
    loop_stop(heard->rig->loop);
}

static void on_impatience(struct loop_timer *timer)
{
    fail_msg("the call did not end");
}

struct wire_rig wire_open(const struct rig_server *server, const char *kind, const char *more)
{
    struct wire_rig   rig = { .server = server };
    struct error error;
    setenv("PERDURE_TEST_KEY", RIG_KEY, 1);
    struct span config = arena_printf(&rig.arena, "{\"local\": {\"kind\": \"%s\", \"base_url\": \"http://127.0.0.1:%d/v1\"%s}}", kind,
                                      server->port, more);
    assert_int_equal(loop_new(env_real(), NULL, &rig.loop, NULL), ERR_OK);
    assert_int_equal(http_client_new(rig.loop, &rig.client, NULL), ERR_OK);
    if (models_new(rig.loop, rig.client, json_read(config, &rig.arena), &rig.models, &error))
        fail_msg("%s: %s", error.field, error.message);
    return rig;
}

void wire_close(struct wire_rig *rig)
{
    models_free(rig->models);
    http_client_free(rig->client);
    loop_free(rig->loop);
    arena_done(&rig->arena);
}

static enum err try_start(struct wire_rig *rig, struct heard *heard, const char *model, const char *request, struct error *error)
{
    struct model_call_config config = {
        .provider = SPAN("local"), .model = span_of(model), .request = span_of(request),
        .on_chunk = on_chunk, .on_end = on_end, .user = heard,
    };
    heard->rig = rig;
    return model_start(rig->models, &config, &heard->call, error);
}

void rig_start(struct wire_rig *rig, struct heard *heard, const char *model, const char *request)
{
    struct error error;
    if (try_start(rig, heard, model, request, &error))
        fail_msg("%s: %s", error.field, error.message);
    assert_int_equal(heard->chunks, 0);
}

void wire_run(struct wire_rig *rig, struct heard *heard, const char *model, const char *request)
{
    loop_timer_init(&heard->timer, rig->loop, on_impatience);
    loop_timer_set(&heard->timer, env_real()->mono_us(env_real()) + 20 * 1000000);
    rig_start(rig, heard, model, request);
    loop_run(rig->loop);
    loop_timer_clear(&heard->timer);
    struct buf *all[] = { &heard->text, &heard->reasoning, &heard->arguments, &heard->result };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_byte(all[i], 0);
}

void heard_done(struct heard *heard)
{
    buf_done(&heard->text);
    buf_done(&heard->reasoning);
    buf_done(&heard->arguments);
    buf_done(&heard->result);
}

/* ---- checks ---- */

static void check_result(const char *result, const char *want)
{
    size_t n = strlen(want);
    if (want[n - 1] != '*')
        assert_string_equal(result, want);
    else
        assert_int_equal(strncmp(result, want, n - 1), 0);
}

void rig_check_answers(const struct rig_server *server, const char *kind, const char *more, const struct rig_answer *answers,
                       size_t count)
{
    struct wire_rig rig = wire_open(server, kind, more);
    for (size_t i = 0; i < count; i++) {
        const struct rig_answer *want = &answers[i];
        struct heard             heard = { 0 };
        wire_run(&rig, &heard, want->model, RIG_HELLO);
        if (strcmp(heard.result.p, want->result) && !strchr(want->result, '*'))
            print_message("model %s\n", want->model);
        check_result(heard.result.p, want->result);
        assert_int_equal(heard.err, want->err);
        assert_string_equal(heard.text.p, want->text);
        assert_string_equal(heard.reasoning.p, want->reasoning);
        assert_string_equal(heard.arguments.p, want->arguments);
        assert_null(strstr(heard.result.p, RIG_KEY));
        heard_done(&heard);
    }
    wire_close(&rig);
}

#define ALL "One two three four five"

static const char *const good[] = { "slow-start", "one-by-one", "split-frames", "crlf", "keepalive-comments", "done-stays-open",
                                    "whole-anyway" };
static const struct rig_answer bad[] = {
    { "nonstream-bad", "", "", "", RIG_FAILED("invalid_stream", "provider", "the answer holds something that is not JSON", "true", ""),
      ERR_MODEL },
    { "wrong-type", "", "", "", RIG_FAILED("unexpected_content_type", "provider", "the provider answered with content type text/html, "
      "expected text/event-stream or application/json", "false", ""), ERR_MODEL },
    { "no-type", "", "", "", RIG_FAILED("unexpected_content_type", "provider", "the provider answered without a content type", "false",
      ""), ERR_MODEL },
    { "redirect", "", "", "", RIG_FAILED("provider_rejected", "provider", "the provider answered with status 302", "false", ""),
      ERR_MODEL },
    { "bad-json", "a", "", "", RIG_FAILED("invalid_stream", "provider", "the answer holds something that is not JSON", "true", ""),
      ERR_MODEL },
    { "bad-shape", "a", "", "", RIG_FAILED("invalid_stream", "provider", "the answer holds something that is not an object", "true",
      ""), ERR_MODEL },
    { "huge-event", "", "", "", RIG_FAILED("answer_too_large", "provider", "the answer is larger than what is accepted", "false", ""),
      ERR_MODEL },
    { "stream-error", ALL, "", "", RIG_FAILED("provider_error", "provider", "it broke", "true", ",\"provider_code\":\"server_error\""),
      ERR_MODEL },
    { "cut-clean", ALL, "", "", RIG_FAILED("stream_cut", "network", "the stream ended before the answer did", "true", ""), ERR_MODEL },
    { "cut-3", "One two three", "", "", "{\"code\":\"stream_cut\",\"category\":\"network\",*", ERR_MODEL },
    { "reset-in-stream", ALL, "", "", "{\"code\":\"stream_cut\",\"category\":\"network\",*", ERR_MODEL },
    { "reset", "", "", "", "{\"code\":\"connection_failed\",\"category\":\"network\",*", ERR_MODEL },
    { "close-at-once", "", "", "", "{\"code\":\"connection_failed\",\"category\":\"network\",*", ERR_MODEL },
    { "error-text", "", "", "", RIG_FAILED("provider_error", "provider", "the provider answered with status 502", "true", ""),
      ERR_MODEL },
    { "error-400", "", "", "", "{\"code\":\"invalid_request\",\"category\":\"validation\",\"message\":\"status 400\",*", ERR_MODEL },
    { "error-401", "", "", "", "{\"code\":\"authentication_failed\",\"category\":\"auth\",\"message\":\"status 401\",*", ERR_MODEL },
    { "error-403", "", "", "", "{\"code\":\"permission_denied\",\"category\":\"auth\",\"message\":\"status 403\",*", ERR_MODEL },
    { "error-404", "", "", "", "{\"code\":\"not_found\",\"category\":\"not_found\",\"message\":\"status 404\",*", ERR_MODEL },
    { "error-408", "", "", "", "{\"code\":\"timeout\",\"category\":\"timeout\",\"message\":\"status 408\",\"retryable\":true,*", ERR_MODEL },
    { "error-413", "", "", "", "{\"code\":\"request_too_large\",\"category\":\"validation\",*", ERR_MODEL },
    { "error-418", "", "", "", "{\"code\":\"provider_rejected\",\"category\":\"provider\",\"message\":\"status 418\",\"retryable\":false,*",
      ERR_MODEL },
    { "error-422", "", "", "", "{\"code\":\"invalid_request\",\"category\":\"validation\",*", ERR_MODEL },
    { "error-500", "", "", "", "{\"code\":\"provider_error\",\"category\":\"provider\",\"message\":\"status 500\",\"retryable\":true,*",
      ERR_MODEL },
    { "error-504", "", "", "", "{\"code\":\"timeout\",\"category\":\"timeout\",\"message\":\"status 504\",\"retryable\":true,*", ERR_MODEL },
    { "error-529", "", "", "", "{\"code\":\"overloaded\",\"category\":\"provider\",*", ERR_MODEL },
    { "nobody", "", "", "", "{\"code\":\"not_found\",\"category\":\"not_found\",\"message\":\"The model 'nobody' does not exist\",*",
      ERR_MODEL },
};

static void check_failure(struct wire_rig *rig, const char *model, const char *part)
{
    struct heard heard = { 0 };
    wire_run(rig, &heard, model, RIG_HELLO);
    assert_int_equal(heard.err, ERR_MODEL);
    if (!strstr(heard.result.p, part))
        fail_msg("%s: '%s' is not in %s", model, part, heard.result.p);
    heard_done(&heard);
}

static void check_silence(const struct rig_server *server, const char *kind, const char *more)
{
    char impatient[256];
    snprintf(impatient, sizeof impatient, "%s, \"idle_timeout_ms\": 150", more);
    struct wire_rig rig = wire_open(server, kind, impatient);
    check_failure(&rig, "hang", "\"code\":\"timeout\",\"category\":\"timeout\"");
    check_failure(&rig, "hang-in-stream", "\"code\":\"timeout\",\"category\":\"timeout\"");
    wire_close(&rig);
}

static void check_size(const struct rig_server *server, const char *kind, const char *more)
{
    struct wire_rig   rig = wire_open(server, kind, more);
    struct heard heard = { 0 };
    wire_run(&rig, &heard, "huge-answer", RIG_HELLO);
    assert_int_equal(heard.err, ERR_MODEL);
    assert_int_equal(heard.text.len - 1, 16 << 20);
    assert_non_null(strstr(heard.result.p, "\"answer_too_large\""));
    heard_done(&heard);
    wire_close(&rig);
}

struct cancel {
    struct loop_timer timer;
    struct heard      heard;
};

/* Cancels as soon as the server has the request of model hang@cancel. */
static void on_cancel_time(struct loop_timer *timer)
{
    struct cancel *cancel = CONTAINER(timer, struct cancel, timer);
    struct wire_rig    *rig = cancel->heard.rig;
    struct buf     log = { 0 };
    rig_get(rig->server, "/_log", &log);
    if (strstr(log.p, "\"hang@cancel\"")) {
        model_cancel(cancel->heard.call);
        loop_stop(rig->loop);
    } else {
        loop_timer_set(timer, loop_now_us(rig->loop) + 5000);
    }
    buf_done(&log);
}

static void check_cancel(const struct rig_server *server, const char *kind, const char *more)
{
    struct wire_rig    rig = wire_open(server, kind, more);
    struct cancel cancel = { .heard = { 0 } };
    struct heard  heard = { .cancel_after = 3 };
    loop_timer_init(&cancel.timer, rig.loop, on_cancel_time);
    loop_timer_set(&cancel.timer, 1);
    rig_start(&rig, &cancel.heard, "hang@cancel", RIG_HELLO);
    loop_run(rig.loop);
    assert_false(cancel.heard.ended);
    rig_saw_the_close(server, "hang@cancel");

    wire_run(&rig, &heard, "endless", RIG_HELLO); /* from inside a chunk */
    assert_int_equal(heard.chunks, 3);
    assert_false(heard.ended);
    rig_saw_the_close(server, "endless");
    heard_done(&heard);
    wire_close(&rig);
}

void rig_check_wire(const struct rig_server *server, const char *kind, const char *more, const char *whole)
{
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        rig_check_answers(server, kind, more, &(struct rig_answer){ good[i], ALL, "", "", whole, ERR_OK }, 1);
    rig_check_answers(server, kind, more, bad, ARRAY_LEN(bad));
    check_silence(server, kind, more);
    check_size(server, kind, more);
    check_cancel(server, kind, more);
}

void rig_check_body(struct wire_rig *rig, const char *request, const char *want)
{
    struct heard heard = { 0 };
    struct buf   sent = { 0 };
    wire_run(rig, &heard, "plain", request);
    assert_int_equal(heard.err, ERR_OK);
    json_minify(jv_get(rig_last_request(rig->server, &rig->arena), "body"), &sent);
    buf_byte(&sent, 0);
    assert_string_equal(sent.p, want);
    buf_done(&sent);
    heard_done(&heard);
}

void rig_check_refused(struct wire_rig *rig, const char *request, const char *field)
{
    struct heard heard = { 0 };
    struct error error = { 0 };
    assert_int_equal(try_start(rig, &heard, "plain", request, &error), ERR_VALIDATION);
    assert_string_equal(error.field, field);
    assert_null(heard.call);
}
