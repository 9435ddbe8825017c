/* SPDX-License-Identifier: Apache-2.0 */
/* floor.c - the least a server must do: the floor under durable POSTs and under fan-out, to compare with.
 *
 *   floor PORT [FILE]
 *
 * One thread, epoll, no HTTP parsing beyond what finds the end of a request. GET …/sub/K follows channel K, POST …/pub/K sends
 * the body to its followers as one SSE frame, one send() per message and follower. With FILE every body is first written
 * into that file (filled with zeros before), with one fdatasync per round of epoll, and only then answered. */
#include "common.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum { FILE_BYTES = 256 << 20, FDS = 1 << 16, CHANNELS = 1 << 16, REQUEST_MAX = 70000, ROUND = 1024 };
static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
static const char following[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

struct channel {
    int   *fd, count, cap;
};

struct client {
    char *in; /* what has been read of a request */
    int   len;
    int   channel, slot; /* of a follower; channel -1: none */
};

struct floor {
    int             epoll, listener, log;
    off_t           log_at;
    char           *log_text; /* bodies of this round */
    size_t          log_len;
    int             waiting[FDS], waiting_count; /* to be answered after the sync */
    uint64_t        seq;
    struct client   client[FDS];
    struct channel  channel[CHANNELS];
};

static void drop(struct floor *f, int fd)
{
    struct client *client = &f->client[fd];
    if (client->channel >= 0) {
        struct channel *channel = &f->channel[client->channel];
        int             last = channel->fd[--channel->count];
        channel->fd[client->slot] = last;
        f->client[last].slot = client->slot;
    }
    free(client->in);
    *client = (struct client){ .channel = -1 };
    close(fd);
}

static void answer(int fd, const char *text, size_t n)
{
    if (send(fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE && errno != ECONNRESET && errno != EBADF)
        die("send: %s", strerror(errno));
}

static void follow(struct floor *f, int fd, int number)
{
    struct channel *channel = &f->channel[number];
    if (channel->count == channel->cap) {
        channel->cap = channel->cap ? channel->cap * 2 : 16;
        channel->fd = realloc(channel->fd, (size_t)channel->cap * sizeof(int));
    }
    answer(fd, following, sizeof following - 1);
    struct client *client = &f->client[fd];
    free(client->in);
    *client = (struct client){ .channel = number, .slot = channel->count };
    channel->fd[channel->count++] = fd;
}

/* A follower that does not keep up is cut off; this program keeps nothing for anybody. */
static void publish(struct floor *f, int number, const char *body, int n)
{
    static char     frame[REQUEST_MAX + 64];
    struct channel *channel = &f->channel[number];
    int             len = sprintf(frame, "id: %llu\ndata: %.*s\n\n", (unsigned long long)f->seq++, n, body);
    for (int i = 0; i < channel->count; i++)
        if (send(channel->fd[i], frame, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
            shutdown(channel->fd[i], SHUT_RDWR);
}

static void posted(struct floor *f, int fd, int number, const char *body, int n)
{
    publish(f, number, body, n);
    if (f->log < 0) {
        answer(fd, accepted, sizeof accepted - 1);
        return;
    }
    memcpy(f->log_text + f->log_len, body, (size_t)n);
    f->log_len += (size_t)n;
    f->waiting[f->waiting_count++] = fd;
}

static int number_behind(const char *head, const char *word)
{
    const char *at = strstr(head, word);
    return at ? atoi(at + strlen(word)) & (CHANNELS - 1) : 0;
}

/* Takes one whole request from what has been read. false: there is none, or the connection follows from now on. */
static bool take_request(struct floor *f, int fd)
{
    struct client *client = &f->client[fd];
    char          *end = client->len ? strstr(client->in, "\r\n\r\n") : NULL;
    if (!end)
        return false;
    if (client->in[0] == 'G') {
        follow(f, fd, number_behind(client->in, "/sub/"));
        return false;
    }
    char *length = strcasestr(client->in, "content-length:");
    int   n = length ? atoi(length + 15) : 0, used = (int)(end + 4 - client->in) + n;
    if (n < 0 || client->len < used)
        return false;
    posted(f, fd, number_behind(client->in, "/pub/"), end + 4, n);
    client->len -= used;
    memmove(client->in, client->in + used, (size_t)client->len + 1);
    return true;
}

static void readable(struct floor *f, int fd)
{
    struct client *client = &f->client[fd];
    if (!client->in)
        client->in = must_alloc(REQUEST_MAX);
    ssize_t n = read(fd, client->in + client->len, (size_t)(REQUEST_MAX - 1 - client->len));
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(f, fd);
        return;
    }
    client->len += (int)n;
    client->in[client->len] = 0;
    while (take_request(f, fd))
        ;
}

static void accept_all(struct floor *f)
{
    int fd, one = 1;
    while ((fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= FDS)
            die("too many connections");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        f->client[fd] = (struct client){ .channel = -1 };
        epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN, .data.fd = fd });
    }
}

static void sync_and_answer(struct floor *f)
{
    if (!f->waiting_count)
        return;
    if (f->log_at + (off_t)f->log_len > FILE_BYTES)
        f->log_at = 0;
    if (pwrite(f->log, f->log_text, f->log_len, f->log_at) != (ssize_t)f->log_len || fdatasync(f->log))
        die("log: %s", strerror(errno));
    f->log_at += (off_t)f->log_len;
    f->log_len = 0;
    for (int i = 0; i < f->waiting_count; i++)
        answer(f->waiting[i], accepted, sizeof accepted - 1);
    f->waiting_count = 0;
}

static void open_log(struct floor *f, const char *path)
{
    char *zeros = must_alloc(1 << 20);
    f->log_text = must_alloc((size_t)ROUND * REQUEST_MAX);
    f->log = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (off_t at = 0; at < FILE_BYTES; at += 1 << 20)
        if (pwrite(f->log, zeros, 1 << 20, at) != 1 << 20)
            die("%s: %s", path, strerror(errno));
    if (fsync(f->log))
        die("%s: %s", path, strerror(errno));
    free(zeros);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3)
        die("usage: floor PORT [FILE]");
    struct floor      *f = must_alloc(sizeof *f);
    struct sockaddr_in address = loopback(atoi(argv[1]));
    int                one = 1;
    f->log = -1;
    if (argc > 2)
        open_log(f, argv[2]);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(f->listener, (struct sockaddr *)&address, sizeof address) || listen(f->listener, 4096))
        die("port %s: %s", argv[1], strerror(errno));
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->listener, &(struct epoll_event){ .events = EPOLLIN, .data.fd = f->listener });
    for (;;) {
        struct epoll_event events[ROUND];
        int                n = epoll_wait(f->epoll, events, ROUND, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == f->listener)
                accept_all(f);
            else
                readable(f, events[i].data.fd);
        }
        sync_and_answer(f);
    }
}
