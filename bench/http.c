/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - a closed-loop HTTP/1.1 client: each connection sends its next request when the last one is answered.
 *
 *   http --port N --path P [--method M] [--body B] [--header H]… [--conns N] [--secs S] [--warm S] [--count N] [--dup N]
 *        [--pids "1 2"] [--save FILE]
 *
 * In path, headers and body %N is the number of the request, %D that number divided by --dup (so that so many requests in a
 * row are the same: repeats), %S a text that differs from start to start, %% a percent sign. --count N: that many requests
 * and no more. --save: every answered body on a line of its own. Answers must have a Content-Length, be chunked or be a 204. */
#include "common.h"
#include <getopt.h>
#include <sys/epoll.h>

enum { ANSWER_MAX = 1 << 18, REQUEST_MAX = 1 << 16, HEADERS = 16 };

struct connection {
    int      fd;
    uint64_t sent_ns;
    size_t   len; /* of what is in `in` */
    char    *in;
};

struct client {
    const char      *path, *method, *body, *header[HEADERS];
    int              port, conns, headers, epoll;
    uint64_t         dup, limit, sent, answered, code[600];
    double           secs, warm;
    bool             measuring;
    char             session[32];
    FILE            *save;
    struct watched   server;
    struct histogram latency;
};

static size_t expand(const struct client *c, char *out, size_t room, const char *text, uint64_t number)
{
    size_t n = 0;
    for (; *text && n + 64 < room; text++) {
        if (*text != '%') {
            out[n++] = *text;
            continue;
        }
        switch (*++text) {
        case 'N': n += (size_t)sprintf(out + n, "%llu", (unsigned long long)number); break;
        case 'D': n += (size_t)sprintf(out + n, "%llu", (unsigned long long)(number / c->dup)); break;
        case 'S': n += (size_t)sprintf(out + n, "%s", c->session); break;
        case '%': out[n++] = '%'; break;
        default: die("a template has %%%c", *text);
        }
    }
    out[n] = 0;
    return n;
}

static void send_next(struct client *c, struct connection *k)
{
    static char text[REQUEST_MAX], body[REQUEST_MAX / 2];
    if (c->limit && c->sent >= c->limit)
        return;
    uint64_t number = c->sent++;
    size_t   body_len = c->body ? expand(c, body, sizeof body, c->body, number) : 0;
    size_t   n = (size_t)sprintf(text, "%s ", c->method);
    n += expand(c, text + n, 4096, c->path, number);
    n += (size_t)sprintf(text + n, " HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", c->port);
    for (int i = 0; i < c->headers; i++) {
        n += expand(c, text + n, 1024, c->header[i], number);
        n += (size_t)sprintf(text + n, "\r\n");
    }
    if (c->body)
        n += (size_t)sprintf(text + n, "Content-Length: %zu\r\n", body_len);
    n += (size_t)sprintf(text + n, "\r\n");
    memcpy(text + n, body, body_len);
    k->sent_ns = now_ns();
    write_all(k->fd, text, n + body_len);
}

/* Bytes of the whole answer in `in`, 0 when it is not there yet. */
static size_t answer_length(const struct connection *k, const char **ret_body)
{
    char *end = strstr(k->in, "\r\n\r\n");
    if (!end)
        return 0;
    size_t head = (size_t)(end + 4 - k->in);
    char  *length = strcasestr(k->in, "\ncontent-length:"), *chunked = strcasestr(k->in, "\ntransfer-encoding: chunked");
    *ret_body = end + 4;
    if (strncmp(k->in + 9, "204", 3) == 0)
        return head;
    if (length && length < end)
        return k->len >= head + (size_t)atol(length + 16) ? head + (size_t)atol(length + 16) : 0;
    if (chunked && chunked < end)
        return k->len >= head + 5 && memcmp(k->in + k->len - 5, "0\r\n\r\n", 5) == 0 ? k->len : 0;
    die("an answer without length: %.300s", k->in);
}

static void answered(struct client *c, struct connection *k, const char *body)
{
    int code = atoi(k->in + 9);
    c->answered++;
    if (c->save)
        fprintf(c->save, "%.*s\n", (int)(k->len - (size_t)(body - k->in)), body);
    if (c->measuring) {
        histogram_add(&c->latency, now_ns() - k->sent_ns);
        c->code[code > 0 && code < 600 ? code : 0]++;
    }
    if (code >= 400 && c->code[0]++ == 0)
        fprintf(stderr, "answered: %.400s\n", k->in);
}

static void readable(struct client *c, struct connection *k)
{
    ssize_t n = read(k->fd, k->in + k->len, ANSWER_MAX - 1 - k->len);
    if (n <= 0)
        die("the server closed a connection after: %.300s", k->in);
    k->len += (size_t)n;
    k->in[k->len] = 0;
    const char *body;
    if (!answer_length(k, &body))
        return;
    answered(c, k, body);
    k->len = 0;
    k->in[0] = 0;
    send_next(c, k);
}

static void read_options(struct client *c, int argc, char **argv)
{
    static const struct option names[] = {
        { "port", 1, 0, 'p' },  { "path", 1, 0, 'u' }, { "method", 1, 0, 'm' }, { "body", 1, 0, 'b' }, { "header", 1, 0, 'h' },
        { "conns", 1, 0, 'n' }, { "secs", 1, 0, 's' }, { "warm", 1, 0, 'w' },   { "dup", 1, 0, 'd' },  { "count", 1, 0, 'c' },
        { "pids", 1, 0, 'i' },  { "save", 1, 0, 'f' }, { 0, 0, 0, 0 },
    };
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;)
        switch (o) {
        case 'p': c->port = atoi(optarg); break;
        case 'u': c->path = optarg; break;
        case 'm': c->method = optarg; break;
        case 'b': c->body = optarg; break;
        case 'h':
            if (c->headers < HEADERS)
                c->header[c->headers++] = optarg;
            break;
        case 'n': c->conns = atoi(optarg); break;
        case 's': c->secs = atof(optarg); break;
        case 'w': c->warm = atof(optarg); break;
        case 'd': c->dup = (uint64_t)atol(optarg); break;
        case 'c': c->limit = (uint64_t)atol(optarg); break;
        case 'i': watched_read(&c->server, optarg); break;
        case 'f':
            if (!(c->save = fopen(optarg, "w")))
                die("%s: %s", optarg, strerror(errno));
            break;
        default: die("see the head of http.c");
        }
    if (!c->method)
        c->method = c->body ? "POST" : "GET";
}

static void report(const struct client *c, double took, double server_cpu, double cpu)
{
    printf("rate=%.0f n=%llu p50=%.1f p90=%.1f p99=%.1f max=%.1f server_cpu=%.2f cpu=%.2f us_per=%.2f",
           (double)c->latency.n / took, (unsigned long long)c->latency.n, histogram_us(&c->latency, 0.5),
           histogram_us(&c->latency, 0.9), histogram_us(&c->latency, 0.99), (double)c->latency.max / 1e3, server_cpu / took,
           cpu / took, c->latency.n ? server_cpu * 1e6 / (double)c->latency.n : 0);
    uint64_t bad = 0;
    for (int i = 0; i < 600; i++)
        if (i < 200 || i > 299)
            bad += c->code[i];
    printf(" bad=%llu\n", (unsigned long long)bad);
    if (bad)
        die("some answers were no success");
}

int main(int argc, char **argv)
{
    struct client *c = must_alloc(sizeof *c);
    c->path = "/", c->conns = 1, c->dup = 1, c->secs = 2, c->warm = 0.5;
    read_options(c, argc, argv);
    snprintf(c->session, sizeof c->session, "%d-%ld", (int)getpid(), (long)time(NULL));
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = must_alloc((size_t)c->conns * sizeof *all);
    for (int i = 0; i < c->conns; i++) {
        all[i].in = must_alloc(ANSWER_MAX);
        all[i].fd = connect_to(c->port);
        epoll_ctl(c->epoll, EPOLL_CTL_ADD, all[i].fd, &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &all[i] });
    }
    uint64_t begin = now_ns(), from = 0, t = begin;
    double   server_cpu = 0, cpu = 0;
    for (int i = 0; i < c->conns; i++)
        send_next(c, &all[i]);
    while (c->limit ? c->answered < c->limit : !from || (double)(t - from) < c->secs * 1e9) {
        struct epoll_event events[256];
        if (!from && (c->limit || (double)(t - begin) >= c->warm * 1e9)) {
            from = t;
            c->measuring = true;
            server_cpu = watched_cpu(&c->server);
            cpu = own_cpu();
        }
        int n = epoll_wait(c->epoll, events, 256, 5000);
        if (n == 0)
            die("no answer for 5 s");
        for (int i = 0; i < n; i++)
            readable(c, events[i].data.ptr);
        t = now_ns();
    }
    report(c, (double)(t - from) / 1e9, watched_cpu(&c->server) - server_cpu, own_cpu() - cpu);
    if (c->save)
        fclose(c->save);
    return 0;
}
