/* SPDX-License-Identifier: Apache-2.0 */
/* provider.c - a model provider that costs next to nothing, and the time from cancelling a run to the end of its call there.
 *
 *   provider PORT TOKENS INTERVAL_MS
 *   provider PORT TOKENS INTERVAL_MS cancel SERVER_PORT AGENT_ID COUNT
 *
 * One thread, epoll. It speaks chat completions and nothing else: whatever is POSTed gets an answer of TOKENS chunks, one every
 * INTERVAL_MS (0: as fast as they are taken), each with the text "T0=<nanoseconds>;" of CLOCK_MONOTONIC at its sending, which is how
 * follow.c knows its age; then usage and [DONE]. The model "endless" never comes to its end.
 *
 * With `cancel` another thread starts COUNT runs of the agent, whose model must be "endless", one after the other, waits until
 * tokens flow, cancels the run, and takes the time from before the request is written until the provider sees its socket
 * closed; and until the answer to the cancelling is there. */
#include "common.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

enum { FDS = 1 << 14, REQUEST_MAX = 1 << 20, OUT_MAX = 16384, ENDLESS = 1 << 30 };

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
static const char chunk[] = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":["
                            "{\"index\":0,\"delta\":{\"content\":\"T0=%llu; \"},\"finish_reason\":null}]}\n\n";
static const char tail[] = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":["
                           "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
                           "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],"
                           "\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\ndata: [DONE]\n\n";

struct call {
    char    *in;      /* what has been read of the request; NULL: no connection */
    size_t   in_len;
    int      tokens, sent; /* 0 tokens: the request is not complete */
    bool     endless, ended;
    uint64_t due_ns;
    char     out[OUT_MAX]; /* what the socket did not take */
    size_t   out_len;
};

struct provider {
    int              epoll, listener, tokens;
    uint64_t         interval_ns;
    struct call     *calls[FDS];
    int              top;           /* above the highest descriptor in use */
    _Atomic uint64_t flowing;       /* endless answers that have sent a chunk */
    _Atomic uint64_t closed, closed_ns; /* endless answers that were cut off, and when the last one was */
};

static void hang_up(struct provider *p, int fd)
{
    struct call *call = p->calls[fd];
    if (call->endless && call->sent) {
        atomic_store(&p->closed_ns, now_ns());
        atomic_fetch_add(&p->closed, 1);
    }
    free(call->in);
    free(call);
    p->calls[fd] = NULL;
    close(fd);
}

/* False: the other side is gone. */
static bool flush(struct call *call, int fd)
{
    ssize_t n = send(fd, call->out, call->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN;
    memmove(call->out, call->out + n, call->out_len - (size_t)n);
    call->out_len -= (size_t)n;
    return true;
}

static void put_due(struct provider *p, struct call *call, uint64_t now)
{
    while (call->sent < call->tokens && call->due_ns <= now && call->out_len + 512 < OUT_MAX) {
        call->out_len += (size_t)sprintf(call->out + call->out_len, chunk, (unsigned long long)now_ns());
        call->due_ns += p->interval_ns;
        if (call->sent++ == 0 && call->endless)
            atomic_fetch_add(&p->flowing, 1);
    }
    if (call->sent == call->tokens && !call->ended && call->out_len + sizeof tail + 32 < OUT_MAX) {
        call->out_len += (size_t)sprintf(call->out + call->out_len, tail, call->tokens, call->tokens + 10);
        call->ended = true;
    }
}

static void speak(struct provider *p, int fd, uint64_t now)
{
    struct call *call = p->calls[fd];
    if (!call || !call->tokens)
        return;
    for (size_t before = 0;; before = call->out_len) {
        put_due(p, call, now);
        if (call->out_len == before) /* nothing new, or nothing was taken */
            return;
        if (!flush(call, fd) || (call->ended && !call->out_len)) {
            hang_up(p, fd);
            return;
        }
    }
}

/* How long the request is with its body; 0: its head is not complete. */
static size_t request_length(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\ncontent-length:");
    return end ? (size_t)(end + 4 - text) + (length && length < end ? (size_t)atol(length + 16) : 0) : 0;
}

static void listen_to(struct provider *p, int fd)
{
    struct call *call = p->calls[fd];
    ssize_t      n = read(fd, call->in + call->in_len, REQUEST_MAX - 1 - call->in_len);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        hang_up(p, fd);
        return;
    }
    call->in_len += (size_t)n;
    call->in[call->in_len] = 0;
    size_t need = request_length(call->in);
    if (call->tokens || !need || call->in_len < need)
        return;
    call->endless = strstr(call->in, "\"model\":\"endless\"") != NULL;
    call->tokens = call->endless ? ENDLESS : p->tokens;
    call->due_ns = now_ns();
    call->out_len = sizeof head - 1;
    memcpy(call->out, head, sizeof head - 1);
    speak(p, fd, call->due_ns);
}

static void welcome(struct provider *p)
{
    for (int fd, one = 1; (fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= FDS)
            die("too many connections");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        p->calls[fd] = must_alloc(sizeof **p->calls);
        p->calls[fd]->in = must_alloc(REQUEST_MAX);
        p->top = fd >= p->top ? fd + 1 : p->top;
        epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN | EPOLLRDHUP, .data.fd = fd });
    }
}

static void *serve(void *arg)
{
    struct provider *p = arg;
    for (;;) {
        struct epoll_event events[256];
        int                n = epoll_wait(p->epoll, events, 256, 1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == p->listener)
                welcome(p);
            else if (p->calls[fd])
                listen_to(p, fd);
        }
        uint64_t now = now_ns();
        for (int fd = 0; fd < p->top; fd++)
            speak(p, fd, now);
    }
    return NULL;
}

/* ---- cancelling ---- */

/* Sends a POST and gives the text of the answer's body, which is the caller's. */
static char *post(int port, const char *path, const char *body)
{
    char  *text = must_alloc(65536);
    int    fd = connect_to(port), n = snprintf(text, 65536,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer dev\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: %zu\r\n\r\n%s", path, strlen(body), body);
    size_t got = 0;
    write_all(fd, text, (size_t)n);
    for (ssize_t more; got < 65535 && (more = read(fd, text + got, 65535 - got)) > 0;)
        got += (size_t)more;
    text[got] = 0;
    close(fd);
    if (got < 12 || text[9] != '2')
        die("POST %s: %.300s", path, text);
    return text;
}

static void wait_until(const _Atomic uint64_t *what, uint64_t above)
{
    for (uint64_t begin = now_ns(); atomic_load(what) <= above;) {
        if (now_ns() - begin > 10000000000u)
            die("nothing happened for ten seconds");
        sleep_ns(50000);
    }
}

static void cancel_runs(struct provider *p, int port, const char *agent, int count)
{
    struct histogram *socket_closed = must_alloc(sizeof *socket_closed), *answered = must_alloc(sizeof *answered);
    char              body[256], path[128];
    for (int i = 0; i < count; i++) {
        uint64_t flowing = atomic_load(&p->flowing), closed = atomic_load(&p->closed);
        snprintf(body, sizeof body, "{\"agent_id\":\"%s\",\"input\":\"go\"}", agent);
        char *text = post(port, "/v1/api/runs", body), *id = strstr(text, "\"run_id\":\"");
        if (!id)
            die("no run: %.300s", text);
        snprintf(path, sizeof path, "/v1/api/runs/%.36s/cancel", id + 10);
        free(text);
        wait_until(&p->flowing, flowing);
        sleep_ns(20000000); /* some tokens are on their way */
        uint64_t begin = now_ns();
        free(post(port, path, "{}"));
        histogram_add(answered, now_ns() - begin);
        wait_until(&p->closed, closed);
        uint64_t at = atomic_load(&p->closed_ns);
        histogram_add(socket_closed, at > begin ? at - begin : 0);
    }
    printf("n=%d closed_p50=%.1f closed_p99=%.1f closed_max=%.1f answered_p50=%.1f answered_p99=%.1f\n", count,
           histogram_us(socket_closed, 0.5), histogram_us(socket_closed, 0.99), (double)socket_closed->max / 1e3,
           histogram_us(answered, 0.5), histogram_us(answered, 0.99));
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 8)
        die("see the head of provider.c");
    struct provider   *p = must_alloc(sizeof *p);
    struct sockaddr_in address = loopback(atoi(argv[1]));
    int                one = 1;
    pthread_t          thread;
    p->tokens = atoi(argv[2]);
    p->interval_ns = (uint64_t)(atof(argv[3]) * 1e6);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(p->listener, (struct sockaddr *)&address, sizeof address) || listen(p->listener, 4096))
        die("port %s: %s", argv[1], strerror(errno));
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->listener, &(struct epoll_event){ .events = EPOLLIN, .data.fd = p->listener });
    if (argc == 4) {
        serve(p);
        return 0;
    }
    if (pthread_create(&thread, NULL, serve, p))
        die("no thread");
    cancel_runs(p, atoi(argv[5]), argv[6], atoi(argv[7]));
    return 0;
}
