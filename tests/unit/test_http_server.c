/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_server.c - a real server on a loop in a thread, and raw sockets that are as rude as clients get. */
#include "net/http_conn.h"
#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the server under test: what it answers depends on the path ---- */

struct sink {
    struct http_conn *conn;
    size_t            left, at; /* bytes of the pattern to write */
    bool              abort, hold;
};

struct world {
    struct loop        *loop;
    struct http_server *server;
    pthread_t           thread;
    struct http_request *held;   /* /hold */
    struct loop_timer   later;   /* /later */
    struct http_request *later_req;
    struct sink        *sink;    /* the last stream that waits */
    atomic_int          requests, gone, closed, bad, writables, shorts, conns;
    atomic_size_t       last_body;
};

enum { BIG = 3 * 1024 * 1024, STREAM_BYTES = 8 * 1024 * 1024 };

static void reply_text(struct http_request *req, int status, const char *text)
{
    http_reply(req, status, SPAN("Content-Type: text/plain\r\n"), span_of(text));
}

static struct world *world_of(struct http_request *req)
{
    return req->user;
}

static void on_gone(struct http_request *req)
{
    atomic_fetch_add(&world_of(req)->gone, 1);
}

static void on_later(struct loop_timer *timer)
{
    struct world *w = CONTAINER(timer, struct world, later);
    reply_text(w->later_req, 200, "later");
}

static void sink_free(struct sink *sink)
{
    free(sink);
}

static struct world *the_world; /* a test has one server; stream callbacks count here */

static void sink_write(struct sink *sink)
{
    static char pattern[64 * 1024];
    while (sink->left > 0) {
        for (size_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (char)('a' + (sink->at + i) % 26);
        size_t       n = sink->left < sizeof pattern ? sink->left : sizeof pattern;
        struct iovec iov[2] = { { pattern, n / 2 }, { pattern + n / 2, n - n / 2 } };
        ssize_t      took = http_stream_write(sink->conn, iov, 2);
        if (took < 0) {
            sink_free(sink);
            return;
        }
        sink->at += (size_t)took;
        sink->left -= (size_t)took;
        if ((size_t)took < n) {
            atomic_fetch_add(&the_world->shorts, 1);
            return; /* writable() follows */
        }
    }
    if (sink->hold)
        return;
    if (sink->abort)
        http_stream_abort(sink->conn);
    else
        http_stream_end(sink->conn);
    sink_free(sink);
}

static void on_writable(void *user)
{
    atomic_fetch_add(&the_world->writables, 1);
    sink_write(user);
}

static void on_closed(void *user)
{
    atomic_fetch_add(&the_world->closed, 1);
    sink_free(user);
}

static const struct http_stream_ops sink_ops = { on_writable, on_closed };

static struct sink *stream(struct http_request *req, bool chunked, size_t bytes)
{
    struct sink *sink = calloc(1, sizeof *sink);
    sink->left = bytes;
    sink->conn = http_stream_begin(req, 200, SPAN("X-Stream: yes\r\n"), chunked, &sink_ops, sink);
    return sink;
}

static void send_chunks(struct sink *sink)
{
    struct buf buf = { 0 };
    http_chunk(&buf, SPAN("hello "));
    http_chunk(&buf, SPAN("world"));
    http_chunk(&buf, SPAN_NONE);
    struct iovec iov = { buf.p, buf.len };
    assert_int_equal(http_stream_write(sink->conn, &iov, 1), buf.len);
    buf_done(&buf);
}

static uint64_t on_head(void *user, struct http_request *req)
{
    req->user = user;
    if (span_is(req->path, "/early"))
        reply_text(req, 401, "early");
    else if (span_is(req->path, "/gone-in-head"))
        req->gone = on_gone;
    return span_is(req->path, "/small") ? 10 : 1 << 20;
}

static void echo(struct http_request *req)
{
    char head[256], method[16];
    snprintf(method, sizeof method, "%.*s", SPAN_ARG(req->method_text));
    snprintf(head, sizeof head, "X-Method: %s\r\nX-Query: %.*s\r\nX-Path: %.*s\r\n", method, SPAN_ARG(req->query),
             SPAN_ARG(req->path));
    http_reply(req, 200, span_of(head), req->body);
}

static void headers_back(struct http_request *req)
{
    struct buf buf = { 0 };
    for (size_t i = 0; i < req->header_count; i++)
        buf_printf(&buf, "%.*s=[%.*s]\n", SPAN_ARG(req->headers[i].name), SPAN_ARG(req->headers[i].value));
    struct span value = SPAN_NONE;
    buf_printf(&buf, "empty:%d absent:%d twice:%zu", http_header(req, "X-EMPTY", &value) && value.n == 0,
               http_header(req, "x-absent", &value), http_header_count(req, "x-twice"));
    http_reply(req, 200, SPAN_NONE, buf_view(&buf));
    buf_done(&buf);
}

static void on_request(void *user, struct http_request *req, bool too_large)
{
    struct world *w = user;
    struct span   path = req->path;

    req->user = w;
    atomic_fetch_add(&w->requests, 1);
    atomic_store(&w->last_body, req->body.n);
    if (too_large) {
        reply_text(req, 413, "too large");
    } else if (span_is(path, "/headers")) {
        headers_back(req);
    } else if (span_is(path, "/gone")) {
        req->gone = on_gone;
    } else if (span_is(path, "/gone-in-head") && req->body.n == 0) {
        return;
    } else if (span_is(path, "/hold")) {
        w->held = req;
    } else if (span_is(path, "/later")) {
        w->later_req = req;
        loop_timer_set(&w->later, loop_now_us(w->loop) + 20000);
    } else if (span_is(path, "/big")) {
        char *body = malloc(BIG);
        memset(body, 'b', BIG);
        http_reply(req, 200, SPAN_NONE, span_make(body, BIG));
        free(body);
    } else if (span_is(path, "/204")) {
        http_reply(req, 204, SPAN_NONE, SPAN_NONE);
    } else if (span_is(path, "/abort")) {
        http_abort(req);
    } else if (span_is(path, "/chunks")) {
        struct sink *sink = stream(req, true, 0);
        send_chunks(sink);
        sink_write(sink);
    } else if (span_is(path, "/stream")) {
        sink_write(stream(req, false, STREAM_BYTES));
    } else if (span_is(path, "/stream-abort")) {
        struct sink *sink = stream(req, true, 0);
        send_chunks(sink);
        sink->abort = true;
        sink_write(sink);
    } else if (span_is(path, "/follow")) {
        struct sink *sink = stream(req, true, 0);
        sink->hold = true;
        w->sink = sink;
    } else {
        echo(req);
    }
}

static void on_bad(void *user, enum err code, struct buf *headers, struct buf *body)
{
    atomic_fetch_add(&((struct world *)user)->bad, 1);
    BUF_LIT(headers, "X-Bad: yes\r\n");
    buf_printf(body, "%s", err_info(code)->name);
}

static void *world_thread(void *user)
{
    loop_run(((struct world *)user)->loop);
    return NULL;
}

static struct http_server_config test_config(void)
{
    struct http_server_config config;
    http_server_defaults(&config);
    config.max_head_bytes = 4096;
    config.max_headers = 20;
    return config;
}

static struct world *world_new(const struct http_server_config *config)
{
    struct world       *w = calloc(1, sizeof *w);
    struct error        error;
    struct http_handler handler = { on_head, on_request, on_bad, w };

    the_world = w;
    assert_int_equal(loop_new(env_real(), NULL, &w->loop, &error), ERR_OK);
    if (http_server_new(w->loop, config, &handler, &w->server, &error))
        fail_msg("%s", error.message);
    loop_timer_init(&w->later, w->loop, on_later);
    assert_int_equal(pthread_create(&w->thread, NULL, world_thread, w), 0);
    return w;
}

static void world_free(struct world *w)
{
    loop_stop(w->loop);
    pthread_join(w->thread, NULL);
    loop_timer_clear(&w->later);
    http_server_free(w->server);
    loop_free(w->loop);
    free(w);
}

/* Runs a function on the loop's thread and waits for it. */
struct call {
    struct loop_mail mail;
    struct world    *w;
    void (*fn)(struct world *w);
    sem_t            done;
};

static void call_run(struct loop_mail *mail)
{
    struct call *call = CONTAINER(mail, struct call, mail);
    call->fn(call->w);
    sem_post(&call->done);
}

static void on_loop(struct world *w, void (*fn)(struct world *w))
{
    struct call call = { .mail.run = call_run, .w = w, .fn = fn };
    sem_init(&call.done, 0, 0);
    loop_post(w->loop, &call.mail);
    while (sem_wait(&call.done))
        continue;
    sem_destroy(&call.done);
}

static void count_conns(struct world *w)
{
    atomic_store(&w->conns, (int)http_server_connections(w->server));
}

static int connections(struct world *w)
{
    on_loop(w, count_conns);
    return atomic_load(&w->conns);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Waits, at most 5 s, until the counter has the value. */
#define EVENTUALLY(condition)                                                                                        \
    do {                                                                                                             \
        uint64_t until_ = now_ms() + 5000;                                                                           \
        while (!(condition) && now_ms() < until_)                                                                    \
            sched_yield();                                                                                           \
        assert_true(condition);                                                                                      \
    } while (0)

/* ---- the client ---- */

static int dial_with(struct world *w, int receive_buffer)
{
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(http_server_port(w->server)) };
    struct timeval     patience = { .tv_sec = 10 };

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int dial(struct world *w)
{
    return dial_with(w, 0);
}

static void put(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        assert_true(k > 0);
        p += k;
        n -= (size_t)k;
    }
}

static void say(int fd, const char *text)
{
    put(fd, text, strlen(text));
}

static void hang_up_with_reset(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
    close(fd);
}

struct answer {
    int        status;
    struct buf head, body;
};

static void answer_done(struct answer *a)
{
    buf_done(&a->head);
    buf_done(&a->body);
}

/* Reads one answer with Content-Length (or none); status 0 when the connection ended before it. */
static void hear_to(int fd, bool head_only, struct answer *a)
{
    *a = (struct answer){ 0 };
    char c;
    while (a->head.len < 4 || memcmp(a->head.p + a->head.len - 4, "\r\n\r\n", 4) != 0) {
        if (recv(fd, &c, 1, 0) != 1)
            return;
        buf_byte(&a->head, c);
    }
    buf_byte(&a->head, '\0');
    assert_int_equal(memcmp(a->head.p, "HTTP/1.1 ", 9), 0);
    a->status = atoi(a->head.p + 9);
    const char *length = strcasestr(a->head.p, "\r\nContent-Length: ");
    size_t      want = length && !head_only ? (size_t)atoll(length + 18) : 0;
    buf_reserve(&a->body, want + 1);
    while (a->body.len < want) {
        ssize_t n = recv(fd, a->body.p + a->body.len, want - a->body.len, 0);
        assert_true(n > 0);
        a->body.len += (size_t)n;
    }
    a->body.p[a->body.len] = '\0';
}

static struct answer hear(int fd)
{
    struct answer a;
    hear_to(fd, false, &a);
    return a;
}

static void expect(int fd, int status, const char *body)
{
    struct answer a = hear(fd);
    assert_int_equal(a.status, status);
    if (body)
        assert_string_equal(a.body.p, body);
    answer_done(&a);
}

static bool has(const struct answer *a, const char *line)
{
    return strcasestr(a->head.p, line) != NULL;
}

/* 0: clean end; else errno. */
static int expect_end(int fd)
{
    char    c[256];
    ssize_t n;
    while ((n = recv(fd, c, sizeof c, 0)) > 0)
        continue;
    return n == 0 ? 0 : errno;
}

/* ---- requests and answers ---- */

static void small_structs(void **state)
{
    print_message("sizeof(struct http_conn) = %zu, sizeof(struct exchange) = %zu\n", sizeof(struct http_conn),
                  sizeof(struct exchange));
    assert_true(sizeof(struct http_conn) <= 128);
}

static void answers_and_keeps_the_connection(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    for (int i = 0; i < 3; i++) {
        say(fd, "POST /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
        struct answer a = hear(fd);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body.p, "hello");
        assert_true(has(&a, "\r\nX-Method: POST\r\n") && has(&a, "\r\nX-Query: x=1&y\r\n") && has(&a, "\r\nX-Path: /a%20b\r\n"));
        assert_true(has(&a, "\r\nDate: ") && has(&a, " GMT\r\n") && !has(&a, "\r\nConnection:"));
        answer_done(&a);
    }
    close(fd);
}

static void headers_are_as_sent(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    say(fd, "GET /headers HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nX-Blank:  \t a b \t \r\nX-Twice: 1\r\nx-tWICE: 2\r\n\r\n");
    expect(fd, 200, "Host=[h]\nX-Empty=[]\nX-Blank=[a b]\nX-Twice=[1]\nx-tWICE=[2]\nempty:1 absent:0 twice:2");
    close(fd);
}

static void split_at_every_byte(void **state)
{
    static const char *const requests[] = {
        "POST /split?q=1 HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nhello",
        "POST /split?q=1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n03;a=b\r\nllo\r\n0\r\nT: x\r\n\r\n",
    };
    struct world *w = *state;
    for (size_t r = 0; r < ARRAY_LEN(requests); r++) {
        size_t n = strlen(requests[r]);
        int    fd = dial(w);
        for (size_t cut = 1; cut < n; cut++) {
            int before = atomic_load(&w->requests);
            setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &(int){ 1 }, sizeof(int));
            put(fd, requests[r], cut);
            connections(w); /* a round trip through the loop: the first part has been read */
            assert_int_equal(atomic_load(&w->requests), before);
            put(fd, requests[r] + cut, n - cut);
            expect(fd, 200, "hello");
        }
        for (size_t i = 0; i < n; i++)
            put(fd, requests[r] + i, 1);
        expect(fd, 200, "hello");
        close(fd);
    }
}

static void ten_thousand_pipelined_requests(void **state)
{
    struct world     *w = *state;
    static const char request[] = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok";
    enum { MANY = 10000 };
    int        fd = dial(w), before = atomic_load(&w->requests);
    struct buf all = { 0 };
    for (int i = 0; i < MANY; i++)
        buf_put(&all, request, sizeof request - 1);
    size_t sent = 0, answers = 0, at = 0;
    char   in[65536];
    static const char tail[] = "\r\n\r\nok";
    while (answers < MANY) {
        struct pollfd p = { fd, (short)(POLLIN | (sent < all.len ? POLLOUT : 0)), 0 };
        assert_true(poll(&p, 1, 10000) > 0);
        if (p.revents & POLLOUT) {
            ssize_t k = send(fd, all.p + sent, all.len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            sent += k > 0 ? (size_t)k : 0;
        }
        if (!(p.revents & POLLIN))
            continue;
        ssize_t n = recv(fd, in, sizeof in, MSG_DONTWAIT);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++) {
            at = in[i] == tail[at] ? at + 1 : in[i] == '\r';
            if (at == sizeof tail - 1) {
                answers++;
                at = 0;
            }
        }
    }
    assert_int_equal(atomic_load(&w->requests) - before, MANY);
    buf_done(&all);
    close(fd);
}

static void pipelined_behind_a_late_answer(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    say(fd, "GET /later HTTP/1.1\r\nHost: h\r\n\r\nPOST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz"
            "GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /later HTTP/1.1\r\nHost: h\r\n\r\n");
    expect(fd, 200, "later");
    expect(fd, 200, "xyz");
    struct answer a = hear(fd);
    assert_int_equal(a.body.len, BIG);
    answer_done(&a);
    expect(fd, 200, "later");
    close(fd);
}

static void answers_without_body(void **state)
{
    struct world *w = *state;
    struct answer a;
    int           fd = dial(w);
    say(fd, "HEAD /big HTTP/1.1\r\nHost: h\r\n\r\nGET /204 HTTP/1.1\r\nHost: h\r\n\r\nGET /e HTTP/1.1\r\nHost: h\r\n\r\n");
    hear_to(fd, true, &a);
    assert_true(a.status == 200 && has(&a, "\r\nContent-Length: 3145728\r\n"));
    answer_done(&a);
    hear_to(fd, true, &a);
    assert_true(a.status == 204 && !has(&a, "Content-Length"));
    answer_done(&a);
    expect(fd, 200, "");
    close(fd);
}

static void http_1_0_and_connection_close(void **state)
{
    static const struct {
        const char *request;
        bool        keeps;
    } cases[] = {
        { "GET / HTTP/1.0\r\n\r\n", false },
        { "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true },
        { "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false },
        { "GET / HTTP/1.1\r\nHost: h\r\n\r\n", true },
    };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int fd = dial(w);
        say(fd, cases[i].request);
        struct answer a = hear(fd);
        assert_int_equal(a.status, 200);
        assert_int_equal(has(&a, "\r\nConnection: close\r\n"), !cases[i].keeps);
        answer_done(&a);
        if (cases[i].keeps) {
            say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            expect(fd, 200, "");
        } else {
            assert_int_equal(expect_end(fd), 0);
        }
        close(fd);
    }
}

static void targets(void **state)
{
    static const struct {
        const char *line, *path, *query;
    } cases[] = {
        { "GET /a/b?c=d?e", "/a/b", "c=d?e" },
        { "GET http://host:80/x?y=z", "/x", "y=z" },
        { "GET http://host", "/", "" },
        { "OPTIONS *", "*", "" },
        { "PROPFIND /dav", "/dav", "" },
    };
    struct world *w = *state;
    int           fd = dial(w);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[256];
        snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: h\r\n\r\n", cases[i].line);
        say(fd, text);
        struct answer a = hear(fd);
        assert_int_equal(a.status, 200);
        snprintf(text, sizeof text, "\r\nX-Query: %s\r\nX-Path: %s\r\n", cases[i].query, cases[i].path);
        assert_true(has(&a, text));
        answer_done(&a);
    }
    close(fd);
}

/* ---- bad bytes and limits ---- */

#define H "GET / HTTP/1.1\r\nHost: h\r\n"
#define P "POST / HTTP/1.1\r\nHost: h\r\n"
#define C P "Transfer-Encoding: chunked\r\n\r\n"

static void refused_bytes(void **state)
{
    static const char *const cases[] = {
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls\r\n\r\n",
        "BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",                       /* no Host */
        H "Host: i\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET /\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /#f HTTP/1.1\r\nHost: h\r\n\r\n",
        H "A B: c\r\n\r\n",
        H "A : c\r\n\r\n",
        H ": c\r\n\r\n",
        H "A: c\r\n d\r\n\r\n",                           /* obs-fold */
        H "A:\r\n d\r\n\r\n",
        H "A: c\x01\r\n\r\n",
        H "\r\rX",
        P "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        P "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        P "Transfer-Encoding: gzip, chunked\r\n\r\n",
        P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        P "Transfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        P "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        P "Content-Length: 3, 3\r\n\r\nabc",
        P "Content-Length: +3\r\n\r\nabc",
        P "Content-Length: -3\r\n\r\nabc",
        P "Content-Length: 99999999999999999999999\r\n\r\n",
        C "x\r\n", C "\r\n", C "-1\r\n", C "0x1\r\n", C "5\nhello", C "2\r\nheXX0\r\n\r\n", C "2\r\nhe\n0\r\n\r\n",
        C "0\r\nT: \x01\r\n\r\n", C "0\r\n\rX", C "1;\x02\r\n", C "11111111111111111\r\n",
    };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int before = atomic_load(&w->requests);
        int fd = dial(w);
        say(fd, cases[i]);
        struct answer a = hear(fd);
        if (a.status != 400)
            fail_msg("case %zu: status %d", i, a.status);
        assert_string_equal(a.body.p, "BAD_REQUEST");
        assert_true(has(&a, "\r\nConnection: close\r\n") && has(&a, "\r\nX-Bad: yes\r\n"));
        answer_done(&a);
        assert_int_equal(expect_end(fd), 0);
        assert_int_equal(atomic_load(&w->requests), before);
        close(fd);
    }
    int fd = dial(w); /* a NUL, which say() cannot send */
    put(fd, H "A: b\0c\r\n\r\n", sizeof(H "A: b\0c\r\n\r\n") - 1);
    expect(fd, 400, "BAD_REQUEST");
    close(fd);
}

static void limits_on_the_head(void **state)
{
    struct world *w = *state;
    struct buf    buf = { 0 };

    /* One byte too long in the target; then in a header; then one header too many. */
    for (int kind = 0; kind < 4; kind++) {
        buf.len = 0;
        buf_printf(&buf, "GET /");
        for (int i = 0; kind == 0 && i < 5000; i++)
            buf_byte(&buf, 'a');
        buf_printf(&buf, " HTTP/1.1\r\nHost: h\r\n");
        if (kind == 1)
            BUF_LIT(&buf, "A: ");
        for (int i = 0; kind == 1 && i < 5000; i++)
            buf_byte(&buf, 'a');
        for (int i = 0; i < (kind == 2 ? 20 : kind == 3 ? 19 : 0); i++)
            buf_printf(&buf, "%sH%d: 1", i ? "\r\n" : "", i);
        BUF_LIT(&buf, "\r\n\r\n");
        int fd = dial(w);
        put(fd, buf.p, buf.len);
        expect(fd, kind == 0 ? 414 : kind == 3 ? 200 : 431,
               kind == 0 ? "URI_TOO_LONG" : kind == 3 ? "" : "HEADERS_TOO_LARGE");
        close(fd);
    }
    buf_done(&buf);
}

static void body_over_its_limit_is_not_read(void **state)
{
    static const char *const cases[] = {
        "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n",
        "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999\r\n\r\n",
        "POST /small HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n",
        "POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n1\r\n",
        "POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
    };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int fd = dial(w);
        say(fd, cases[i]);
        struct answer a = hear(fd);
        assert_int_equal(a.status, 413);
        assert_true(has(&a, "\r\nConnection: close\r\n"));
        answer_done(&a);
        assert_int_equal(expect_end(fd), 0);
        close(fd);
    }
    int fd = dial(w); /* exactly at the limit */
    say(fd, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789"
            "POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n");
    expect(fd, 200, "0123456789");
    expect(fd, 200, "0123456789");
    close(fd);
}

/* A client that goes on sending sees the answer and a clean end, not a reset. */
static void lingers_while_the_client_still_sends(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    char          bytes[16 * 1024] = { 0 };
    say(fd, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 163840\r\n\r\n");
    for (int i = 0; i < 10; i++)
        put(fd, bytes, sizeof bytes);
    expect(fd, 413, "too large");
    assert_int_equal(expect_end(fd), 0);
    close(fd);
    EVENTUALLY(connections(w) == 0);
}

static void early_answer_discards_a_small_body(void **state)
{
    struct world *w = *state;
    int           fd = dial(w), before = atomic_load(&w->requests);
    say(fd, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n");
    expect(fd, 401, "early");
    char bytes[20000] = { 'G' };
    put(fd, bytes, sizeof bytes);
    say(fd, "POST /early HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            "GET /early HTTP/1.1\r\nHost: h\r\n\r\n"
            "POST /z HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nz");
    expect(fd, 401, "early");
    expect(fd, 401, "early");
    expect(fd, 200, "z");
    assert_int_equal(atomic_load(&w->requests) - before, 1);
    say(fd, "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n");
    struct answer a = hear(fd);
    assert_true(a.status == 401 && has(&a, "\r\nConnection: close\r\n"));
    answer_done(&a);
    assert_int_equal(expect_end(fd), 0);
    close(fd);
}

static void expect_100_continue(void **state)
{
    struct world *w = *state;
    struct answer a;
    int           fd = dial(w);
    for (int i = 0; i < 2; i++) {
        say(fd, "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
        hear_to(fd, true, &a);
        assert_int_equal(a.status, 100);
        answer_done(&a);
        say(fd, "hi");
        expect(fd, 200, "hi");
    }
    say(fd, "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"); /* did not wait */
    expect(fd, 200, "hi");
    close(fd);
}

static void large_bodies(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    struct buf    body = { 0 }, chunked = { 0 };
    char          head[128];
    for (size_t n = 0; n < 900000; n++)
        buf_byte(&body, (char)('a' + n % 23));
    for (size_t at = 0; at < body.len; at += 7777)
        http_chunk(&chunked, span_make(body.p + at, body.len - at < 7777 ? body.len - at : 7777));
    BUF_LIT(&chunked, "0\r\n\r\n");
    for (int i = 0; i < 4; i++) {
        bool as_chunks = i % 2;
        snprintf(head, sizeof head, as_chunks ? P "Transfer-Encoding: chunked\r\n\r\n" : P "Content-Length: %d\r\n\r\n", 900000);
        say(fd, head);
        put(fd, as_chunks ? chunked.p : body.p, as_chunks ? chunked.len : body.len);
        struct answer a = hear(fd);
        assert_int_equal(a.body.len, body.len);
        assert_memory_equal(a.body.p, body.p, body.len);
        answer_done(&a);
    }
    buf_done(&body);
    buf_done(&chunked);
    close(fd);
}

static void memory_limit_answers_503(void **state)
{
    struct world *w = *state; /* max_buffered_bytes is 100,000 here */
    int           fd = dial(w);
    char         *bytes = calloc(1, 300000);
    say(fd, P "Content-Length: 300000\r\n\r\n");
    send(fd, bytes, 250000, MSG_NOSIGNAL);
    expect(fd, 503, "OVERLOADED");
    close(fd);
    fd = dial(w);
    say(fd, P "Content-Length: 2\r\n\r\nok");
    expect(fd, 200, "ok");
    close(fd);
    free(bytes);
}

/* ---- time ---- */

static void slow_clients_time_out(void **state)
{
    static const struct {
        const char *bytes;
        int         status;
    } cases[] = {
        { "", 0 },                                                     /* idle: closed without a word */
        { "GET / HT", 408 },
        { P "Content-Length: 3\r\n\r\nab", 408 },
        { P "Transfer-Encoding: chunked\r\n\r\n3\r\nab", 408 },
    };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t start = now_ms();
        int      fd = dial(w);
        say(fd, cases[i].bytes);
        struct answer a = hear(fd);
        assert_int_equal(a.status, cases[i].status);
        answer_done(&a);
        assert_int_equal(expect_end(fd), 0);
        assert_true(now_ms() - start >= 90 && now_ms() - start < 3000);
        close(fd);
    }
    EVENTUALLY(connections(w) == 0);
}

static void reader_that_stops_is_dropped(void **state)
{
    struct world *w = *state;
    int           fd = dial_with(w, 4096);
    say(fd, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    EVENTUALLY(connections(w) == 1);
    EVENTUALLY(connections(w) == 0);
    char c[65536];
    ssize_t n;
    while ((n = recv(fd, c, sizeof c, 0)) > 0)
        continue;
    assert_true(n < 0 && errno == ECONNRESET);
    close(fd);
    fd = dial_with(w, 4096); /* a stream, too; its sink hears of it */
    int closed = atomic_load(&w->closed);
    say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    EVENTUALLY(atomic_load(&w->closed) == closed + 1);
    EVENTUALLY(connections(w) == 0);
    close(fd);
}

/* ---- clients that leave ---- */

static void half_close_still_gets_its_answer(void **state)
{
    static const char *const paths[] = { "/", "/later", "/big" };
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char text[64];
        int  fd = dial(w);
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", paths[i]);
        say(fd, text);
        shutdown(fd, SHUT_WR);
        expect(fd, 200, NULL);
        assert_int_equal(expect_end(fd), 0);
        close(fd);
    }
    EVENTUALLY(connections(w) == 0);
}

static void reset_tells_the_handler(void **state)
{
    struct world *w = *state;
    int           before = atomic_load(&w->gone), requests = atomic_load(&w->requests);
    int           fd = dial(w);
    say(fd, "GET /gone HTTP/1.1\r\nHost: h\r\n\r\n");
    EVENTUALLY(atomic_load(&w->requests) == requests + 1);
    hang_up_with_reset(fd);
    EVENTUALLY(atomic_load(&w->gone) == before + 1);
    /* Also one whose body never came. */
    fd = dial(w);
    say(fd, "POST /gone-in-head HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    EVENTUALLY(connections(w) == 1);
    hang_up_with_reset(fd);
    EVENTUALLY(atomic_load(&w->gone) == before + 2);
    EVENTUALLY(connections(w) == 0);
}

static void answer_held(struct world *w)
{
    if (w->held)
        reply_text(TAKE(w->held), 200, "too late");
}

static void stream_held(struct world *w)
{
    if (w->held)
        stream(TAKE(w->held), true, 0)->hold = true;
}

static void handler_may_answer_a_ghost(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        int requests = atomic_load(&w->requests), closed = atomic_load(&w->closed);
        int fd = dial(w);
        say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
        EVENTUALLY(atomic_load(&w->requests) == requests + 1);
        hang_up_with_reset(fd);
        EVENTUALLY(connections(w) == 0);
        on_loop(w, i ? stream_held : answer_held);
        EVENTUALLY(atomic_load(&w->closed) == closed + i);
    }
}

static void abort_resets(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    say(fd, "GET /abort HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(expect_end(fd), ECONNRESET);
    close(fd);
}

/* ---- streams ---- */

static void stream_ends_and_keep_alive_goes_on(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    char          text[128];
    for (int i = 0; i < 3; i++) {
        /* The next request is already there while the stream runs. */
        say(fd, "GET /chunks HTTP/1.1\r\nHost: h\r\n\r\nPOST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nnext");
        struct answer a = hear(fd);
        assert_true(a.status == 200 && has(&a, "\r\nTransfer-Encoding: chunked\r\n") && has(&a, "\r\nX-Stream: yes\r\n"));
        assert_false(has(&a, "Connection:"));
        answer_done(&a);
        static const char chunks[] = "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n";
        assert_int_equal(recv(fd, text, sizeof chunks - 1, MSG_WAITALL), sizeof chunks - 1);
        assert_memory_equal(text, chunks, sizeof chunks - 1);
        expect(fd, 200, "next");
    }
    close(fd);
}

static void stream_with_a_slow_reader(void **state)
{
    struct world *w = *state;
    int           fd = dial_with(w, 8192), writables = atomic_load(&w->writables);
    say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    struct answer a = hear(fd);
    assert_true(a.status == 200 && has(&a, "\r\nConnection: close\r\n"));
    answer_done(&a);
    EVENTUALLY(atomic_load(&w->shorts) > 0); /* nobody reads: at some point the socket is full */
    char   in[65536];
    size_t at = 0;
    for (ssize_t n; (n = recv(fd, in, sizeof in, 0)) > 0; at += (size_t)n)
        for (ssize_t i = 0; i < n; i++)
            if (in[i] != (char)('a' + (at + (size_t)i) % 26))
                fail_msg("wrong byte at %zu", at + (size_t)i);
    assert_int_equal(at, STREAM_BYTES);
    assert_true(atomic_load(&w->writables) > writables);
    close(fd);
    EVENTUALLY(connections(w) == 0);
}

static void stream_abort_is_a_reset(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    say(fd, "GET /stream-abort HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(expect_end(fd), ECONNRESET);
    close(fd);
}

static void stream_whose_reader_leaves(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++) {
        int before = atomic_load(&w->closed);
        int fd = dial(w);
        say(fd, "GET /follow HTTP/1.1\r\nHost: h\r\n\r\n");
        expect(fd, 200, NULL);
        if (i == 0)
            close(fd);
        else if (i == 1)
            hang_up_with_reset(fd);
        else
            shutdown(fd, SHUT_WR);
        EVENTUALLY(atomic_load(&w->closed) == before + 1);
        if (i == 2)
            close(fd);
    }
    EVENTUALLY(connections(w) == 0);
}

static void write_on_and_end(struct world *w)
{
    w->sink->hold = false;
    send_chunks(w->sink);
    sink_write(TAKE(w->sink));
}

static void stream_written_from_outside(void **state)
{
    struct world *w = *state;
    int           fd = dial(w);
    for (int i = 0; i < 3; i++) {
        say(fd, "GET /follow HTTP/1.1\r\nHost: h\r\n\r\n");
        expect(fd, 200, NULL);
        if (i == 1)
            say(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok"); /* waits in the socket */
        on_loop(w, write_on_and_end);
        char text[64];
        assert_int_equal(recv(fd, text, 26, MSG_WAITALL), 26);
        assert_memory_equal(text + 21, "0\r\n\r\n", 5);
        if (i == 1)
            expect(fd, 200, "ok");
    }
    close(fd);
}

/* ---- many, and the end ---- */

static int descriptors(void)
{
    int  n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void two_thousand_connects_leave_nothing(void **state)
{
    struct world *w = *state;
    EVENTUALLY(connections(w) == 0);
    int before = descriptors();
    for (int i = 0; i < 2000; i++) {
        int fd = dial(w);
        if (i % 4) {
            say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            if (i % 4 > 1)
                expect(fd, 200, "");
        }
        if (i % 3)
            close(fd);
        else
            hang_up_with_reset(fd);
    }
    EVENTUALLY(connections(w) == 0);
    assert_int_equal(descriptors(), before);
}

static void over_max_connections_accept_waits(void **state)
{
    struct world *w = *state; /* max_connections is 4 here */
    int           fds[8];
    for (int i = 0; i < 8; i++) {
        fds[i] = dial(w);
        say(fds[i], "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for (int i = 0; i < 8; i++) {
        assert_true(connections(w) <= 4);
        expect(fds[i], 200, "");
        close(fds[i]);
    }
    EVENTUALLY(connections(w) == 0);
}

static void runs_out_of_descriptors_and_recovers(void **state)
{
    struct world *w = *state;
    struct rlimit old, tight;
    int           fd = dial(w);
    say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect(fd, 200, "");
    int second = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)second + 1; /* not one more */
    setrlimit(RLIMIT_NOFILE, &tight);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(http_server_port(w->server)) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(second, (struct sockaddr *)&a, sizeof a), 0);
    say(second, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    say(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect(fd, 200, ""); /* those who are in go on */
    connections(w);
    assert_int_equal(connections(w), 1);
    setrlimit(RLIMIT_NOFILE, &old);
    expect(second, 200, "");
    close(fd);
    close(second);
}

static void drain(struct world *w)
{
    http_server_drain(w->server);
}

static void drain_finishes_what_is_in_hand(void **state)
{
    struct world *w = *state;
    int           idle = dial(w), busy = dial(w), following = dial(w), requests = atomic_load(&w->requests);
    say(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect(idle, 200, "");
    say(busy, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    say(following, "GET /follow HTTP/1.1\r\nHost: h\r\n\r\n");
    EVENTUALLY(atomic_load(&w->requests) == requests + 3);
    on_loop(w, drain);
    assert_int_equal(expect_end(idle), 0);
    on_loop(w, answer_held);
    struct answer a = hear(busy);
    assert_true(a.status == 200 && has(&a, "\r\nConnection: close\r\n"));
    answer_done(&a);
    assert_int_equal(expect_end(busy), 0);
    expect(following, 200, NULL);
    on_loop(w, write_on_and_end);
    assert_int_equal(expect_end(following), 0);
    EVENTUALLY(connections(w) == 0);
    close(idle);
    close(busy);
    close(following);
}

/* http_server_free with everything open: nothing leaks (the sanitizer looks), sinks and handlers hear of it. */
static void free_closes_everything(void **state)
{
    struct http_server_config config = test_config();
    struct world             *w = world_new(&config);
    static const char *const  paths[] = { "/follow", "/gone", "/hold", "/big", "/stream", "/x" };
    int                       fds[ARRAY_LEN(paths)];
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char text[64];
        fds[i] = dial_with(w, 4096);
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", paths[i]);
        say(fds[i], text);
    }
    EVENTUALLY(atomic_load(&w->requests) == (int)ARRAY_LEN(paths));
    loop_stop(w->loop);
    pthread_join(w->thread, NULL);
    http_server_free(w->server);
    assert_int_equal(atomic_load(&w->gone), 1);
    assert_int_equal(atomic_load(&w->closed), 2);
    loop_free(w->loop);
    free(w);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        close(fds[i]);
}

static void a_taken_port_is_an_error(void **state)
{
    struct world             *w = *state;
    struct http_server_config config = test_config();
    struct http_server       *server = NULL;
    struct error              error;
    struct http_handler       handler = { .on_request = on_request };
    config.port = http_server_port(w->server);
    assert_int_equal(http_server_new(w->loop, &config, &handler, &server, &error), ERR_IO);
    config.host = "not an address";
    assert_int_equal(http_server_new(w->loop, &config, &handler, &server, &error), ERR_INVALID_PARAMETER);
    assert_null(server);
}

/* ---- worlds ---- */

static int plain_world(void **state)
{
    struct http_server_config config = test_config();
    *state = world_new(&config);
    return 0;
}

static int impatient_world(void **state)
{
    struct http_server_config config = test_config();
    config.head_timeout_ms = config.body_timeout_ms = config.idle_timeout_ms = config.write_timeout_ms = 100;
    *state = world_new(&config);
    return 0;
}

static int narrow_world(void **state)
{
    struct http_server_config config = test_config();
    config.max_buffered_bytes = 100000;
    config.max_connections = 4;
    *state = world_new(&config);
    return 0;
}

static int end_world(void **state)
{
    world_free(*state);
    return 0;
}

#define IN_WORLD(test, world) cmocka_unit_test_setup_teardown(test, world, end_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_structs),
        IN_WORLD(answers_and_keeps_the_connection, plain_world),
        IN_WORLD(headers_are_as_sent, plain_world),
        IN_WORLD(split_at_every_byte, plain_world),
        IN_WORLD(ten_thousand_pipelined_requests, plain_world),
        IN_WORLD(pipelined_behind_a_late_answer, plain_world),
        IN_WORLD(answers_without_body, plain_world),
        IN_WORLD(http_1_0_and_connection_close, plain_world),
        IN_WORLD(targets, plain_world),
        IN_WORLD(refused_bytes, plain_world),
        IN_WORLD(limits_on_the_head, plain_world),
        IN_WORLD(body_over_its_limit_is_not_read, plain_world),
        IN_WORLD(lingers_while_the_client_still_sends, plain_world),
        IN_WORLD(early_answer_discards_a_small_body, plain_world),
        IN_WORLD(expect_100_continue, plain_world),
        IN_WORLD(large_bodies, plain_world),
        IN_WORLD(memory_limit_answers_503, narrow_world),
        IN_WORLD(slow_clients_time_out, impatient_world),
        IN_WORLD(reader_that_stops_is_dropped, impatient_world),
        IN_WORLD(half_close_still_gets_its_answer, plain_world),
        IN_WORLD(reset_tells_the_handler, plain_world),
        IN_WORLD(handler_may_answer_a_ghost, plain_world),
        IN_WORLD(abort_resets, plain_world),
        IN_WORLD(stream_ends_and_keep_alive_goes_on, plain_world),
        IN_WORLD(stream_with_a_slow_reader, plain_world),
        IN_WORLD(stream_abort_is_a_reset, plain_world),
        IN_WORLD(stream_whose_reader_leaves, plain_world),
        IN_WORLD(stream_written_from_outside, plain_world),
        IN_WORLD(two_thousand_connects_leave_nothing, plain_world),
        IN_WORLD(over_max_connections_accept_waits, narrow_world),
        IN_WORLD(runs_out_of_descriptors_and_recovers, plain_world),
        IN_WORLD(drain_finishes_what_is_in_hand, plain_world),
        cmocka_unit_test(free_closes_everything),
        IN_WORLD(a_taken_port_is_an_error, plain_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
