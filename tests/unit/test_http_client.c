/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_client.c - outgoing calls against a server of a few lines that misbehaves on order. */
#include "net/http_client.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the peer: says its pieces to each request, waits between them, and ends as told ---- */

enum ending { KEEP, CLOSE, RESET, SILENCE };

struct script {
    const char *pieces[8];
    enum ending ending;
};

struct peer {
    const struct script *script;
    int                  listen_fd;
    uint16_t             port;
    pthread_t            thread;
    atomic_int           connections, ended; /* ended: connections that the client closed */
    struct buf           heard;              /* the last request; read it after peer_free's join or a finished call */
};

/* Reads one request with its body; false at the end of the connection. */
static bool hear(struct peer *peer, int fd)
{
    char c;
    peer->heard.len = 0;
    while (peer->heard.len < 4 || memcmp(peer->heard.p + peer->heard.len - 4, "\r\n\r\n", 4) != 0) {
        if (recv(fd, &c, 1, 0) != 1)
            return false;
        buf_byte(&peer->heard, c);
    }
    buf_byte(&peer->heard, '\0');
    const char *length = strcasestr(peer->heard.p, "\r\ncontent-length:");
    peer->heard.len--;
    for (long left = length ? atol(length + 17) : 0; left > 0; left--) {
        if (recv(fd, &c, 1, 0) != 1)
            return false;
        buf_byte(&peer->heard, c);
    }
    buf_byte(&peer->heard, '\0');
    return true;
}

static void say(const struct script *script, int fd)
{
    static const struct timespec gap = { .tv_nsec = 2000000 }; /* so that the pieces arrive as pieces */
    for (size_t i = 0; i < ARRAY_LEN(script->pieces) && script->pieces[i]; i++) {
        if (i > 0)
            nanosleep(&gap, NULL);
        send(fd, script->pieces[i], strlen(script->pieces[i]), MSG_NOSIGNAL);
    }
}

static void serve(struct peer *peer, int fd)
{
    char c;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    while (hear(peer, fd)) {
        say(peer->script, fd);
        if (peer->script->ending == RESET)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
        if (peer->script->ending == SILENCE)
            while (recv(fd, &c, 1, 0) > 0)
                continue;
        if (peer->script->ending == CLOSE || peer->script->ending == RESET)
            return;
    }
    atomic_fetch_add(&peer->ended, 1);
}

static void *peer_thread(void *user)
{
    struct peer *peer = user;
    for (;;) {
        int fd = accept4(peer->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(&peer->connections, 1);
        serve(peer, fd);
        close(fd);
    }
}

static struct peer *peer_new(const struct script *script)
{
    struct peer       *peer = calloc(1, sizeof *peer);
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t          n = sizeof a;
    peer->script = script;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer->listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(peer->listen_fd, 16), 0);
    getsockname(peer->listen_fd, (struct sockaddr *)&a, &n);
    peer->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_thread, peer), 0);
    return peer;
}

static void peer_free(struct peer *peer)
{
    shutdown(peer->listen_fd, SHUT_RDWR); /* accept returns */
    pthread_join(peer->thread, NULL);
    close(peer->listen_fd);
    buf_done(&peer->heard);
    free(peer);
}

/* ---- one call, and what came of it ---- */

enum cancel { CANCEL_NEVER, CANCEL_IN_HEAD, CANCEL_IN_DATA };

struct trial {
    struct loop        *loop;
    struct http_client *client;
    struct http_call   *call;
    enum cancel         cancel;
    struct trial       *also_cancel; /* another call, from inside this one's on_data */
    struct loop_timer   timer;
    int                 heads, pieces, dones, status;
    int64_t             retry_after_s;
    char                type[64];
    struct buf          data;
    enum err            err;
    struct error        error;
};

static void cancel_from_inside(struct trial *t)
{
    http_call_cancel(TAKE(t->call));
    loop_stop(t->loop);
}

static void on_head(void *user, int status, struct span type, int64_t retry_after_s)
{
    struct trial *t = user;
    t->heads++;
    t->status = status;
    t->retry_after_s = retry_after_s;
    snprintf(t->type, sizeof t->type, "%.*s", SPAN_ARG(type));
    if (t->cancel == CANCEL_IN_HEAD)
        cancel_from_inside(t);
}

static void on_data(void *user, struct span data)
{
    struct trial *t = user;
    assert_int_equal(t->heads, 1);
    t->pieces++;
    buf_span(&t->data, data);
    if (t->also_cancel && t->also_cancel->call)
        http_call_cancel(TAKE(t->also_cancel->call));
    if (t->cancel == CANCEL_IN_DATA)
        cancel_from_inside(t);
}

static void on_done(void *user, enum err err, const struct error *error)
{
    struct trial *t = user;
    t->dones++;
    t->err = err;
    t->error = *error;
    t->call = NULL;
    loop_stop(t->loop);
}

static void trial_init(struct trial *t)
{
    struct error error;
    *t = (struct trial){ .retry_after_s = -7 };
    assert_int_equal(loop_new(env_real(), NULL, &t->loop, &error), ERR_OK);
    assert_int_equal(http_client_new(t->loop, &t->client, &error), ERR_OK);
}

static void trial_done(struct trial *t)
{
    http_client_free(t->client);
    if (t->timer.loop)
        loop_timer_clear(&t->timer);
    loop_free(t->loop);
    buf_done(&t->data);
}

static void trial_clear(struct trial *t)
{
    t->heads = t->pieces = t->dones = 0;
    t->data.len = 0;
}

static void trial_start(struct trial *t, uint16_t port, struct http_call_config config)
{
    struct error error;
    char         url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/path?q", port);
    config.url = url;
    config.method = config.method ? config.method : "POST";
    config.trusted = true; /* what is refused is tested in test_outbound.c */
    config.on_head = on_head;
    config.on_data = on_data;
    config.on_done = on_done;
    config.user = t;
    if (http_call_start(t->client, &config, &t->call, &error))
        fail_msg("%s", error.message);
}

static bool data_is(const struct trial *t, const char *text)
{
    return span_is(buf_view(&t->data), text);
}

static void split_chunks_arrive_as_they_come(void **state)
{
    static const struct script script = {
        { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20", "0 OK\r\nContent-Type: text/event-stream\r\nTransfer-Enco",
          "ding: chunked\r\n\r\n5\r\nhel", "lo\r", "\n6\r\n world", "\r\n0\r", "\n\r\n" }, KEEP };
    static const char *const lines[] = { "Authorization: Bearer x", "Content-Type: application/json", NULL };
    struct peer *peer = peer_new(&script);
    struct trial t;
    trial_init(&t);
    for (int i = 0; i < 3; i++) {
        trial_clear(&t);
        trial_start(&t, peer->port, (struct http_call_config){ .headers = lines, .body = SPAN("{\"a\":1}") });
        loop_run(t.loop);
        assert_int_equal(t.dones, 1);
        assert_int_equal(t.err, ERR_OK);
        assert_int_equal(t.heads, 1);
        assert_int_equal(t.status, 200);
        assert_int_equal(t.retry_after_s, -1);
        assert_string_equal(t.type, "text/event-stream");
        assert_true(t.pieces > 1 && data_is(&t, "hello world"));
        assert_true(strncmp(peer->heard.p, "POST /path?q HTTP/1.1\r\n", 23) == 0);
        assert_non_null(strstr(peer->heard.p, "\r\nAuthorization: Bearer x\r\n"));
        assert_non_null(strstr(peer->heard.p, "\r\n\r\n{\"a\":1}"));
        assert_null(strcasestr(peer->heard.p, "expect:"));
    }
    assert_int_equal(atomic_load(&peer->connections), 1); /* reused */
    trial_done(&t);
    peer_free(peer);
}

static void methods_and_bodies(void **state)
{
    static const struct script script = { { "HTTP/1.1 204 No Content\r\n\r\n" }, KEEP };
    static const char *const   methods[] = { "GET", "HEAD", "DELETE", "PUT", "PATCH", "POST", "OPTIONS" };
    struct peer               *peer = peer_new(&script);
    struct trial               t;
    trial_init(&t);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        bool body = i == 3 || i == 4;
        trial_clear(&t);
        trial_start(&t, peer->port, (struct http_call_config){ .method = methods[i], .body = body ? SPAN("body") : SPAN_NONE });
        loop_run(t.loop);
        assert_int_equal(t.err, ERR_OK);
        assert_int_equal(t.status, 204);
        assert_int_equal(strncmp(peer->heard.p, methods[i], strlen(methods[i])), 0);
        assert_int_equal(strstr(peer->heard.p, "\r\n\r\nbody") != NULL, body);
        assert_null(strcasestr(peer->heard.p, "content-type:"));
    }
    trial_done(&t);
    peer_free(peer);
}

static void answers_that_are_cut(void **state)
{
    static const struct {
        struct script script;
        int           heads;
        enum err      err;
    } cases[] = {
        { { { "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "only this" }, CLOSE }, 1, ERR_IO },
        { { { "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "only this" }, RESET }, 1, ERR_IO },
        { { { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n" }, CLOSE }, 1, ERR_IO },
        { { { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" }, KEEP }, 1, ERR_IO },
        { { { "HTTP/1.1 200" }, CLOSE }, 0, ERR_IO },
        { { { "" }, CLOSE }, 0, ERR_IO },
        { { { "" }, RESET }, 0, ERR_IO },
        { { { "SSH-2.0-x\r\n" }, CLOSE }, 0, ERR_IO },
        { { { "HTTP/1.1 200 OK\r\n\r\nonly this" }, CLOSE }, 1, ERR_OK },
        { { { "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n" }, CLOSE }, 1, ERR_OK },
        { { { "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nonly this" }, CLOSE }, 1, ERR_OK },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *peer = peer_new(&cases[i].script);
        struct trial t;
        trial_init(&t);
        trial_start(&t, peer->port, (struct http_call_config){ 0 });
        loop_run(t.loop);
        if (t.dones != 1 || t.err != cases[i].err || t.heads != cases[i].heads)
            fail_msg("case %zu: done %d, err %d, heads %d", i, t.dones, t.err, t.heads);
        assert_int_equal(t.error.code, t.err);
        assert_int_equal(t.error.message[0] != '\0', t.err != ERR_OK);
        trial_done(&t);
        peer_free(peer);
    }
}

static void nobody_listens(void **state)
{
    static const struct script script = { { "" }, CLOSE };
    struct peer *peer = peer_new(&script);
    uint16_t     port = peer->port;
    struct trial t;
    peer_free(peer);
    trial_init(&t);
    trial_start(&t, port, (struct http_call_config){ 0 });
    loop_run(t.loop);
    assert_int_equal(t.dones, 1);
    assert_int_equal(t.err, ERR_IO);
    trial_done(&t);
}

static void times_and_sizes_are_limited(void **state)
{
    static const struct script silent = { { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "abc" }, SILENCE };
    static const struct script large = { { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "123456789" }, KEEP };
    static const struct {
        const struct script    *script;
        struct http_call_config config;
        enum err                err;
    } cases[] = {
        { &silent, { .idle_timeout_ms = 60 }, ERR_TIMEOUT },
        { &silent, { .total_timeout_ms = 60 }, ERR_TIMEOUT },
        { &large, { .max_bytes = 8 }, ERR_TOO_LARGE },
        { &large, { .max_bytes = 9 }, ERR_OK },
        { &large, { .idle_timeout_ms = 2000 }, ERR_OK },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer *peer = peer_new(cases[i].script);
        struct trial t;
        uint64_t     start = env_real()->mono_us(env_real());
        trial_init(&t);
        trial_start(&t, peer->port, cases[i].config);
        loop_run(t.loop);
        uint64_t took = env_real()->mono_us(env_real()) - start;
        if (t.dones != 1 || t.err != cases[i].err)
            fail_msg("case %zu: done %d, err %d", i, t.dones, t.err);
        if (t.err == ERR_TIMEOUT)
            assert_in_range(took, 50000, 1500000);
        trial_done(&t);
        peer_free(peer);
    }
}

static void on_trial_timer(struct loop_timer *timer)
{
    loop_stop(timer->loop);
}

/* Runs the loop until the client's socket is closed, as the peer sees it. */
static void until_ended(struct trial *t, struct peer *peer, int count)
{
    loop_timer_init(&t->timer, t->loop, on_trial_timer);
    for (int i = 0; i < 500 && atomic_load(&peer->ended) < count; i++) {
        loop_timer_set(&t->timer, loop_now_us(t->loop) + 5000);
        loop_run(t->loop);
    }
    assert_int_equal(atomic_load(&peer->ended), count);
}

static void cancel_closes_the_socket(void **state)
{
    static const struct script script = { { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "abc" }, SILENCE };
    for (enum cancel cancel = CANCEL_NEVER; cancel <= CANCEL_IN_DATA; cancel++) {
        struct peer *peer = peer_new(&script);
        struct trial t;
        trial_init(&t);
        t.cancel = cancel;
        trial_start(&t, peer->port, (struct http_call_config){ 0 });
        if (cancel == CANCEL_NEVER) { /* from outside, when data has come */
            loop_timer_init(&t.timer, t.loop, on_trial_timer);
            while (t.pieces == 0) {
                loop_timer_set(&t.timer, loop_now_us(t.loop) + 5000);
                loop_run(t.loop);
            }
            http_call_cancel(TAKE(t.call));
        } else {
            loop_run(t.loop);
        }
        until_ended(&t, peer, 1);
        assert_int_equal(t.dones, 0);
        assert_int_equal(t.pieces, cancel == CANCEL_IN_HEAD ? 0 : 1);
        trial_done(&t);
        peer_free(peer);
    }
}

static void cancel_before_it_began(void **state)
{
    static const struct script script = { { "HTTP/1.1 204 No\r\n\r\n" }, KEEP };
    struct peer *peer = peer_new(&script);
    struct trial t;
    trial_init(&t);
    trial_start(&t, peer->port, (struct http_call_config){ 0 });
    http_call_cancel(TAKE(t.call));
    trial_start(&t, peer->port, (struct http_call_config){ 0 });
    loop_run(t.loop);
    assert_int_equal(t.dones, 1);
    assert_int_equal(atomic_load(&peer->connections), 1);
    trial_done(&t);
    peer_free(peer);
}

static void a_call_may_cancel_another(void **state)
{
    static const struct script silent = { { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" }, SILENCE };
    static const struct script quick = { { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok" }, KEEP };
    struct peer *one = peer_new(&silent), *two = peer_new(&quick);
    struct trial t, other;
    trial_init(&t);
    other = (struct trial){ .loop = t.loop, .client = t.client };
    trial_start(&other, one->port, (struct http_call_config){ 0 });
    loop_timer_init(&t.timer, t.loop, on_trial_timer);
    while (other.heads == 0) {
        loop_timer_set(&t.timer, loop_now_us(t.loop) + 5000);
        loop_run(t.loop);
    }
    t.also_cancel = &other;
    trial_start(&t, two->port, (struct http_call_config){ 0 });
    until_ended(&t, one, 1);
    assert_null(other.call);
    assert_int_equal(other.dones, 0);
    while (t.dones == 0)
        loop_run(t.loop);
    assert_int_equal(t.err, ERR_OK);
    trial_done(&t);
    peer_free(one);
    peer_free(two);
}

static void retry_after(void **state)
{
    static const struct {
        const char *line;
        int64_t     least, most;
    } cases[] = {
        { "Retry-After: 17\r\n", 17, 17 },
        { "retry-after:0\r\n", 0, 0 },
        { "Retry-After: 99999999999999999999\r\n", INT32_MAX, INT32_MAX },
        { "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0, 0 },
        { "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n", 86400, 80LL * 366 * 86400 * 2 },
        { "Retry-After: soon\r\n", -1, -1 },
        { "Retry-After: -5\r\n", -1, -1 },
        { "Retry-After:\r\n", -1, -1 },
        { "", -1, -1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct script script = { { "HTTP/1.1 429 Slow\r\n", cases[i].line[0] ? cases[i].line : "A: b\r\n",
                                   "Content-Length: 0\r\n\r\n" }, KEEP };
        struct peer *peer = peer_new(&script);
        struct trial t;
        trial_init(&t);
        trial_start(&t, peer->port, (struct http_call_config){ 0 });
        loop_run(t.loop);
        assert_int_equal(t.status, 429);
        if (t.retry_after_s < cases[i].least || t.retry_after_s > cases[i].most)
            fail_msg("case %zu: %lld", i, (long long)t.retry_after_s);
        trial_done(&t);
        peer_free(peer);
    }
}

static void refused_calls(void **state)
{
    static const char *const bad_header[] = { "A: b\r\nC: d", NULL };
    struct trial             t;
    struct http_call        *call = NULL;
    struct error             error;
    trial_init(&t);
    struct http_call_config config = { .method = "GET", .url = "file:///etc/passwd", .on_done = on_done, .user = &t };
    assert_int_equal(http_call_start(t.client, &config, &call, &error), ERR_INVALID_PARAMETER);
    config.url = "http://127.0.0.1/";
    config.trusted = true;
    config.headers = bad_header;
    assert_int_equal(http_call_start(t.client, &config, &call, &error), ERR_INVALID_PARAMETER);
    assert_null(call);
    trial_done(&t);
}

static int descriptors(void)
{
    int  n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void free_cancels_what_is_in_flight(void **state)
{
    static const struct script script = { { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "abc" }, SILENCE };
    struct peer *peer = peer_new(&script);
    int          before = descriptors();
    struct trial t;
    trial_init(&t);
    trial_start(&t, peer->port, (struct http_call_config){ 0 });
    loop_timer_init(&t.timer, t.loop, on_trial_timer);
    while (t.pieces == 0) {
        loop_timer_set(&t.timer, loop_now_us(t.loop) + 5000);
        loop_run(t.loop);
    }
    trial_done(&t);
    assert_int_equal(t.dones, 0);
    while (atomic_load(&peer->ended) == 0)
        sched_yield();
    peer_free(peer);
    assert_int_equal(descriptors(), before - 1); /* and the listening socket */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_chunks_arrive_as_they_come),
        cmocka_unit_test(methods_and_bodies),
        cmocka_unit_test(answers_that_are_cut),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(times_and_sizes_are_limited),
        cmocka_unit_test(cancel_closes_the_socket),
        cmocka_unit_test(cancel_before_it_began),
        cmocka_unit_test(a_call_may_cancel_another),
        cmocka_unit_test(retry_after),
        cmocka_unit_test(refused_calls),
        cmocka_unit_test(free_cancels_what_is_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
