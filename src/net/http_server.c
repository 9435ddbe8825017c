/* SPDX-License-Identifier: Apache-2.0 */
/* http_server.c - the life of connections: accept, read, hand over, time out, close.
 *
 * Sockets are edge-triggered and never re-registered; `readable` and `blocked` remember the edges. All work on a connection
 * happens in conn_run, a loop over its state, so pipelined requests cost no stack. A budget per connection and round keeps
 * one busy peer from starving the others: who used it up goes to the ready list and continues in the next round.
 *
 * Connections are freed after a batch of events, never inside it: a later event of the batch may name the same one. */
#include "net/http_conn.h"
#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BATCHES_MOST = 4,             /* of ARRAY_LEN(events), per round */
    ACCEPTS_MOST = 64,            /* per round */
    ROUND_BYTES = 256 * 1024,     /* read per connection and round */
    ROUND_REQUESTS = 32,          /* per connection and round */
    POOL_MOST = 128,
    LINGER_BYTES = 64 * 1024 * 1024, /* a client that is still sending reads its answer only when it is done */
    LINGER_US = 2 * 1000 * 1000,
    TICK_US = 250 * 1000,
    ACCEPT_PAUSE_US = 100 * 1000,
};

struct budget {
    ssize_t bytes;
    int     requests;
};

/* ---- lists and time ---- */

static void link_out(struct link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
}

static void link_last(struct link *list, struct link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static struct http_conn *list_first(struct http_server *server, enum conn_list list)
{
    struct link *head = &server->lists[list];
    return head->next == head ? NULL : CONTAINER(head->next, struct http_conn, link);
}

static uint32_t bytes_in_kernel(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) || n < 0 ? 0 : (uint32_t)n;
}

void conn_list(struct http_conn *conn, enum conn_list list)
{
    struct http_server *server = conn->server;
    uint64_t            now = loop_now_us(server->loop);

    link_out(&conn->link);
    link_last(&server->lists[list], &conn->link);
    conn->due_us = now + server->list_us[list];
    if (list == LIST_WRITE)
        conn->count = bytes_in_kernel(conn->fd);
    if (list != LIST_NONE && !server->tick.due_us)
        loop_timer_set(&server->tick, now + TICK_US);
}

/* ---- exchanges ---- */

static struct exchange *take_exchange(struct http_server *server)
{
    struct exchange *x = server->pool;
    if (!x)
        return exchange_new(&server->limits, &server->held);
    server->pool = x->next;
    server->pool_count--;
    return x;
}

void conn_release_exchange(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct exchange    *x = TAKE(conn->x);

    if (!x)
        return;
    if (server->pool_count >= POOL_MOST) {
        exchange_free(x);
        return;
    }
    exchange_reset(x);
    x->next = server->pool;
    server->pool = x;
    server->pool_count++;
}

static void give_exchange(struct http_conn *conn)
{
    conn->x = take_exchange(conn->server);
    conn->x->req.conn = conn;
}

/* ---- accept ---- */

static void accept_pause(struct http_server *server)
{
    if (server->accepting)
        event_del(server->listen_event);
    server->accepting = false;
}

static void accept_resume(struct http_server *server)
{
    if (server->accepting || server->draining || server->accept_timer.due_us)
        return;
    server->accepting = event_add(server->listen_event, NULL) == 0;
}

static void on_accept_timer(struct loop_timer *timer)
{
    accept_resume(CONTAINER(timer, struct http_server, accept_timer));
}

static void conn_new(struct http_server *server, int fd)
{
    struct http_conn  *conn = mem_alloc(sizeof *conn);
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = conn };

    conn->server = server;
    conn->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        close(fd);
        free(conn);
        return;
    }
    server->open++;
    conn->link.prev = conn->link.next = &conn->link;
    conn_list(conn, LIST_IDLE);
}

static bool out_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void accept_failed(struct http_server *server, int error)
{
    if (!out_of_resources(error))
        return; /* nobody there, or one who left already */
    if (!server->accept_failed)
        log_line(loop_log(server->loop), LOG_WARN, "accept-paused", "reason=%s connections=%zu", strerror(error), server->open);
    server->accept_failed = true; /* said once, until it works again */
    accept_pause(server);
    loop_timer_set(&server->accept_timer, loop_now_us(server->loop) + ACCEPT_PAUSE_US);
}

static void on_listen(evutil_socket_t listen_fd, short what, void *user)
{
    struct http_server *server = user;

    for (int i = 0; i < ACCEPTS_MOST; i++) {
        if (server->open >= server->config.max_connections) {
            accept_pause(server);
            return;
        }
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0) {
            accept_failed(server, errno);
            return;
        }
        server->accept_failed = false;
        conn_new(server, fd);
    }
}

/* ---- the end of a connection ---- */

static void close_socket(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    if (conn->fd < 0)
        return;
    close(conn->fd);
    conn->fd = -1;
    server->open--;
    if (server->open < server->config.max_connections)
        accept_resume(server);
}

void conn_kill(struct http_conn *conn)
{
    struct http_server *server = conn->server;

    assert(conn->state != CONN_DEAD);
    close_socket(conn);
    conn_release_exchange(conn);
    free(TAKE(conn->out));
    free(TAKE(conn->in));
    link_out(&conn->link);
    conn->state = CONN_DEAD;
    if (conn->in_ready)
        return; /* the ready list frees it */
    if (!server->dispatching) {
        free(conn);
        return;
    }
    conn->next = server->dead;
    server->dead = conn;
}

void conn_reset(struct http_conn *conn)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };
    if (conn->fd >= 0)
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    conn_kill(conn);
}

static void bury(struct http_server *server)
{
    while (server->dead) {
        struct http_conn *conn = server->dead;
        server->dead = conn->next;
        free(conn);
    }
}

static void dispatch_enter(struct http_server *server)
{
    server->dispatching++;
}

static void dispatch_leave(struct http_server *server)
{
    if (--server->dispatching == 0)
        bury(server);
}

/* The request in hand will never be answered, and the handler wants to know. */
static void tell_gone(struct http_conn *conn)
{
    struct exchange *x = conn->x;
    if (!x || x->answered || !x->req.gone)
        return;
    void (*gone)(struct http_request *req) = x->req.gone;
    x->req.gone = NULL;
    gone(&x->req);
}

/* The peer went away before the answer. A handler that did not ask to be told keeps its request until it answers. */
static void conn_gone(struct http_conn *conn)
{
    if (conn->state == CONN_HANDLING && !conn->x->req.gone) {
        close_socket(conn);
        conn_list(conn, LIST_NONE);
        conn->state = CONN_ORPHAN;
        return;
    }
    tell_gone(conn);
    conn_kill(conn);
}

/* The answer is out and the connection ends. Closing a socket that holds unread bytes resets it, and a reset can overtake the
 * answer: then say "no more" and read a little longer. */
static void conn_finish(struct http_conn *conn)
{
    bool rest = conn->unread || conn->readable || (conn->x && conn->x->start < conn->x->end) || conn->in;

    conn_release_exchange(conn);
    free(TAKE(conn->in));
    if (!rest || shutdown(conn->fd, SHUT_WR)) {
        conn_kill(conn);
        return;
    }
    conn->state = CONN_LINGER;
    conn_list(conn, LIST_LINGER);
    conn->count = 0;
    conn->readable = true;
    conn_wake(conn);
}

void conn_answered(struct http_conn *conn)
{
    if (conn->closing || conn->server->draining) {
        conn_finish(conn);
        return;
    }
    if (conn->in) { /* behind a stream */
        give_exchange(conn);
        exchange_preload(conn->x, span_make(conn->in->bytes, conn->in->len));
        free(TAKE(conn->in));
    }
    if (conn->x && conn->x->discard) {
        conn->state = CONN_BODY;
        conn_list(conn, LIST_BODY);
    } else if (conn->x && conn->x->start < conn->x->end) {
        conn->state = CONN_HEAD;
        conn_list(conn, LIST_HEAD);
    } else {
        conn_release_exchange(conn);
        conn->state = CONN_IDLE;
        conn_list(conn, LIST_IDLE);
    }
    if (conn->x || conn->readable)
        conn_wake(conn);
}

/* What came was no request, or came too slowly, or there is no room for it. */
static void conn_bad(struct http_conn *conn, enum err code)
{
    tell_gone(conn);
    conn->closing = conn->unread = true;
    bool sent = conn_send_bad(conn, code);
    conn_release_exchange(conn);
    if (!sent) {
        conn_kill(conn);
    } else if (conn->out) {
        conn->state = CONN_WRITING;
        conn_list(conn, LIST_WRITE);
    } else {
        conn_answered(conn);
    }
}

/* ---- reading ---- */

enum fill { FILL_GOT, FILL_DRY, FILL_END, FILL_NO_ROOM };

static enum fill conn_fill(struct http_conn *conn, struct budget *budget)
{
    struct http_server *server = conn->server;

    if (!conn->readable)
        return FILL_DRY;
    struct span_mut room = exchange_room(conn->x);
    if (server->held > server->config.max_buffered_bytes)
        return FILL_NO_ROOM;
    ssize_t n;
    do
        n = recv(conn->fd, room.p, room.n, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        conn->readable = false;
        return FILL_DRY;
    }
    if (n <= 0)
        return FILL_END;
    exchange_took(conn->x, (size_t)n);
    budget->bytes -= n;
    /* A short read emptied the socket, and new bytes make a new edge. A FIN that was seen already makes none: read on. */
    if ((size_t)n < room.n && !conn->peer_shut && !conn->broken)
        conn->readable = false;
    return FILL_GOT;
}

/* Steps return true to be called again (in the state they left), false to wait for events. */

static bool step_idle(struct http_conn *conn, struct budget *budget)
{
    if (!conn->readable)
        return false;
    give_exchange(conn);
    conn->state = CONN_HEAD;
    return true;
}

static void head_more(struct http_conn *conn, enum fill fill)
{
    switch (fill) {
    case FILL_GOT:
        if (conn->x->start == 0 && conn->x->parsed == 0)
            conn_list(conn, LIST_HEAD); /* the first bytes: from here the head has its time */
        break;
    case FILL_NO_ROOM:
        conn_bad(conn, ERR_OVERLOADED);
        break;
    case FILL_END:
        conn_kill(conn);
        break;
    case FILL_DRY:
        if (conn->x->start != conn->x->end)
            break;
        conn_release_exchange(conn);
        conn->state = CONN_IDLE;
        if (conn->server->draining)
            conn_kill(conn);
        break;
    }
}

static void deliver(struct http_conn *conn, struct budget *budget, bool too_large)
{
    struct http_server *server = conn->server;

    budget->requests--;
    conn->state = CONN_HANDLING;
    conn_list(conn, LIST_NONE);
    if (too_large)
        conn->closing = conn->unread = true;
    server->handler.on_request(server->handler.user, &conn->x->req, too_large);
}

static void head_done(struct http_conn *conn, struct budget *budget)
{
    struct http_server *server = conn->server;
    struct exchange    *x = conn->x;
    uint64_t            limit = server->config.max_body;

    conn->state = CONN_BODY;
    if (server->handler.on_head)
        limit = server->handler.on_head(server->handler.user, &x->req);
    if (conn->state != CONN_BODY || x->answered)
        return; /* answered, or gone */
    if (exchange_body_begin(x, limit) == PARSED_TOO_LARGE) {
        deliver(conn, budget, true);
        return;
    }
    if (x->req.content_length == 0)
        return; /* step_body finds it complete at once */
    conn_list(conn, LIST_BODY);
    if (x->wants_100 && x->parsed == x->end && x->body_len == 0)
        conn_send_continue(conn);
}

static bool step_head(struct http_conn *conn, struct budget *budget)
{
    enum fill fill;

    switch (exchange_head(conn->x)) {
    case PARSED_DONE:
        head_done(conn, budget);
        return true;
    case PARSED_MORE:
        fill = conn_fill(conn, budget);
        head_more(conn, fill);
        return fill == FILL_GOT || fill == FILL_NO_ROOM;
    default:
        conn_bad(conn, conn->x->bad);
        return true;
    }
}

/* The body of a request that was answered early has ended. */
static void discarded(struct http_conn *conn)
{
    exchange_next(conn->x);
    conn_answered(conn);
}

static void discard_failed(struct http_conn *conn)
{
    conn->unread = true;
    conn_finish(conn);
}

static bool body_more(struct http_conn *conn, struct budget *budget)
{
    switch (conn_fill(conn, budget)) {
    case FILL_GOT:
        return true;
    case FILL_NO_ROOM:
        if (conn->x->discard)
            discard_failed(conn);
        else
            conn_bad(conn, ERR_OVERLOADED);
        return true;
    case FILL_END:
        conn_gone(conn);
        return false;
    default:
        return false;
    }
}

static bool step_body(struct http_conn *conn, struct budget *budget)
{
    struct exchange *x = conn->x;
    enum parsed      parsed = exchange_body(x);

    if (parsed == PARSED_MORE)
        return body_more(conn, budget);
    if (x->discard && parsed == PARSED_DONE) {
        discarded(conn);
    } else if (x->discard) {
        discard_failed(conn);
    } else if (parsed == PARSED_BAD) {
        conn_bad(conn, x->bad);
    } else {
        deliver(conn, budget, parsed == PARSED_TOO_LARGE);
    }
    return true;
}

static bool step_handling(struct http_conn *conn, struct budget *budget)
{
    if (conn->broken)
        conn_gone(conn);
    return false;
}

static bool step_writing(struct http_conn *conn, struct budget *budget)
{
    if (conn->broken || !conn_flush(conn)) {
        conn_kill(conn);
        return false;
    }
    if (conn->out)
        return false;
    conn_answered(conn);
    return true;
}

static bool step_stream(struct http_conn *conn, struct budget *budget)
{
    conn_stream_step(conn);
    return conn->state != CONN_STREAM; /* its sink may have ended it */
}

static bool step_linger(struct http_conn *conn, struct budget *budget)
{
    char    away[16 * 1024];
    ssize_t n = conn->readable ? recv(conn->fd, away, sizeof away, MSG_DONTWAIT) : 0;

    if (!conn->readable)
        return false;
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN) {
        conn->readable = false;
        return false;
    }
    conn->count += n > 0 ? (uint32_t)n : 0;
    if (n <= 0 || conn->count > LINGER_BYTES) {
        conn_kill(conn);
        return false;
    }
    budget->bytes -= n;
    return true;
}

static bool step_nothing(struct http_conn *conn, struct budget *budget)
{
    return false;
}

static bool (*const steps[CONN_STATES])(struct http_conn *conn, struct budget *budget) = {
    [CONN_IDLE] = step_idle,       [CONN_HEAD] = step_head,     [CONN_BODY] = step_body,
    [CONN_HANDLING] = step_handling, [CONN_WRITING] = step_writing, [CONN_STREAM] = step_stream,
    [CONN_LINGER] = step_linger,   [CONN_ORPHAN] = step_nothing, [CONN_DEAD] = step_nothing,
};

void conn_later(struct http_conn *conn)
{
    struct http_server *server = conn->server;

    if (conn->in_ready)
        return;
    conn->in_ready = true;
    conn->next = NULL;
    if (server->ready_first)
        server->ready_last->next = conn;
    else
        server->ready_first = conn;
    server->ready_last = conn;
    if (!server->ready_timer.due_us)
        loop_timer_set(&server->ready_timer, loop_now_us(server->loop));
}

void conn_wake(struct http_conn *conn)
{
    if (conn->server->running != conn)
        conn_later(conn);
}

/* Only inside a dispatch, which keeps a killed connection in memory until its end. */
static void conn_run(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct budget       budget = { ROUND_BYTES, ROUND_REQUESTS };

    server->running = conn;
    while (steps[conn->state](conn, &budget)) {
        if (budget.bytes > 0 && budget.requests > 0)
            continue;
        if (conn->state != CONN_DEAD)
            conn_later(conn);
        break;
    }
    server->running = NULL;
}

/* ---- events ---- */

static void on_conn_event(struct http_conn *conn, uint32_t events)
{
    if (conn->state == CONN_DEAD || conn->state == CONN_ORPHAN)
        return;
    if (events & EPOLLOUT)
        conn->blocked = false;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->readable = true;
    if (events & EPOLLRDHUP)
        conn->peer_shut = true;
    if (events & (EPOLLHUP | EPOLLERR))
        conn->broken = true;
    conn_run(conn);
}

static void on_epoll(evutil_socket_t fd, short what, void *user)
{
    struct http_server *server = user;
    int                 most = ARRAY_LEN(server->events), n = most;

    dispatch_enter(server);
    for (int batch = 0; batch < BATCHES_MOST && n == most; batch++) {
        n = epoll_wait(server->epoll_fd, server->events, most, 0);
        for (int i = 0; i < n; i++)
            on_conn_event(server->events[i].data.ptr, server->events[i].events);
        /* Between batches the dead could be freed, too; but the kernel no longer names them, and the end is near. */
    }
    dispatch_leave(server);
}

static void on_ready(struct loop_timer *timer)
{
    struct http_server *server = CONTAINER(timer, struct http_server, ready_timer);
    struct http_conn   *conn = TAKE(server->ready_first), *next;

    server->ready_last = NULL;
    dispatch_enter(server);
    for (; conn; conn = next) {
        next = conn->next;
        conn->in_ready = false;
        if (conn->state == CONN_DEAD)
            free(conn);
        else
            conn_run(conn);
    }
    dispatch_leave(server);
}

/* A slow reader is not a dead one: as long as the kernel's queue shrinks, the answer moves. */
static void write_timed_out(struct http_conn *conn)
{
    uint32_t before = conn->count;
    conn_list(conn, LIST_WRITE); /* counts again */
    if (conn->count < before)
        return;
    if (conn->state == CONN_STREAM)
        conn_stream_lost(conn);
    else
        conn_reset(conn);
}

static void timed_out(struct http_conn *conn, enum conn_list list)
{
    if (list == LIST_WRITE)
        write_timed_out(conn);
    else if (list == LIST_HEAD || (list == LIST_BODY && !conn->x->discard))
        conn_bad(conn, ERR_REQUEST_TIMEOUT);
    else
        conn_kill(conn);
}

static void on_tick(struct loop_timer *timer)
{
    struct http_server *server = CONTAINER(timer, struct http_server, tick);
    struct http_conn   *conn;
    uint64_t            now = loop_now_us(server->loop);
    bool                waiting = false;

    dispatch_enter(server);
    for (enum conn_list list = LIST_NONE + 1; list < LISTS; list++)
        while ((conn = list_first(server, list)) && conn->due_us <= now)
            timed_out(conn, list);
    for (enum conn_list list = LIST_NONE + 1; list < LISTS; list++)
        waiting = waiting || list_first(server, list);
    if (waiting && !server->tick.due_us)
        loop_timer_set(&server->tick, now + TICK_US);
    dispatch_leave(server);
}

/* ---- the server ---- */

void http_server_defaults(struct http_server_config *config)
{
    *config = (struct http_server_config){
        .host = "127.0.0.1",
        .max_connections = 20000,
        .max_head_bytes = 32 * 1024,
        .max_headers = 100,
        .max_body = 4 * 1024 * 1024,
        .head_timeout_ms = 10 * 1000,
        .body_timeout_ms = 60 * 1000,
        .idle_timeout_ms = 75 * 1000,
        .write_timeout_ms = 30 * 1000,
        .max_buffered_bytes = 256u * 1024 * 1024,
    };
}

static enum err bind_socket(const struct http_server_config *config, int *ret_fd, struct error *error)
{
    struct addrinfo  hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
    struct addrinfo *info;
    char             port[8];

    snprintf(port, sizeof port, "%u", config->port);
    if (getaddrinfo(config->host, port, &hints, &info))
        return error_set(error, ERR_INVALID_PARAMETER, "host", "'%s' is not a numeric address", config->host);
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
    bool bound = fd >= 0 && bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    int  reason = errno;
    freeaddrinfo(info);
    if (bound) {
        *ret_fd = fd;
        return ERR_OK;
    }
    if (fd >= 0)
        close(fd);
    return error_set(error, ERR_IO, NULL, "cannot listen on %s port %u: %s", config->host, config->port, strerror(reason));
}

static void set_times(struct http_server *server)
{
    server->list_us[LIST_IDLE] = server->config.idle_timeout_ms * 1000ull;
    server->list_us[LIST_HEAD] = server->config.head_timeout_ms * 1000ull;
    server->list_us[LIST_BODY] = server->config.body_timeout_ms * 1000ull;
    server->list_us[LIST_WRITE] = server->config.write_timeout_ms * 1000ull;
    server->list_us[LIST_LINGER] = LINGER_US;
}

static enum err open_events(struct http_server *server, struct error *error)
{
    struct event_base *base = loop_base(server->loop);

    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0)
        return error_set(error, ERR_IO, NULL, "epoll: %s", strerror(errno));
    server->epoll_event = event_new(base, server->epoll_fd, EV_READ | EV_PERSIST, on_epoll, server);
    server->listen_event = event_new(base, server->listen_fd, EV_READ | EV_PERSIST, on_listen, server);
    if (!server->epoll_event || !server->listen_event || event_add(server->epoll_event, NULL))
        return error_set(error, ERR_IO, NULL, "cannot register events");
    accept_resume(server);
    return server->accepting ? ERR_OK : error_set(error, ERR_IO, NULL, "cannot register the listening socket");
}

enum err http_server_new(struct loop *loop, const struct http_server_config *config, const struct http_handler *handler,
                         struct http_server **ret, struct error *error)
{
    int      fd = -1;
    enum err err = bind_socket(config, &fd, error);
    if (err)
        return err;

    struct http_server *server = mem_alloc(sizeof *server);
    server->loop = loop;
    server->config = *config;
    server->config.host = NULL; /* the caller's; not needed any more */
    server->handler = *handler;
    server->limits = (struct parse_limits){ config->max_head_bytes, config->max_headers };
    server->listen_fd = fd;
    server->epoll_fd = -1;
    server->date_s = -1;
    for (size_t i = 0; i < LISTS; i++)
        server->lists[i].prev = server->lists[i].next = &server->lists[i];
    set_times(server);
    loop_timer_init(&server->accept_timer, loop, on_accept_timer);
    loop_timer_init(&server->ready_timer, loop, on_ready);
    loop_timer_init(&server->tick, loop, on_tick);
    err = open_events(server, error);
    if (err) {
        http_server_free(server);
        return err;
    }
    *ret = server;
    return ERR_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    struct sockaddr_storage address = { 0 };
    socklen_t               n = sizeof address;

    if (server->listen_fd < 0 || getsockname(server->listen_fd, (struct sockaddr *)&address, &n))
        return server->config.port;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

size_t http_server_connections(const struct http_server *server)
{
    return server->open;
}

static void stop_listening(struct http_server *server)
{
    if (server->listen_fd < 0)
        return;
    server->config.port = http_server_port(server);
    if (server->listen_event)
        event_free(TAKE(server->listen_event));
    server->accepting = false;
    loop_timer_clear(&server->accept_timer);
    close(server->listen_fd);
    server->listen_fd = -1;
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    stop_listening(server);
    struct link *head = &server->lists[LIST_IDLE], *next;
    for (struct link *link = head->next; link != head; link = next) {
        next = link->next;
        struct http_conn *conn = CONTAINER(link, struct http_conn, link);
        if (!conn->in_ready && server->running != conn)
            conn_kill(conn); /* one in the ready list has a request waiting: it is answered and then closed */
    }
}

static void close_all(struct http_server *server)
{
    dispatch_enter(server);
    for (enum conn_list list = LIST_NONE; list < LISTS; list++) {
        struct http_conn *conn;
        while ((conn = list_first(server, list))) {
            if (conn->state == CONN_STREAM) {
                conn_stream_lost(conn);
                continue;
            }
            tell_gone(conn);
            conn_kill(conn);
        }
    }
    for (struct http_conn *conn = TAKE(server->ready_first), *next; conn; conn = next) {
        next = conn->next;
        free(conn);
    }
    dispatch_leave(server);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    assert(server->dispatching == 0); /* never from inside its own callbacks */
    server->draining = true;
    stop_listening(server);
    close_all(server);
    loop_timer_clear(&server->ready_timer);
    loop_timer_clear(&server->tick);
    if (server->epoll_event)
        event_free(server->epoll_event);
    if (server->epoll_fd >= 0)
        close(server->epoll_fd);
    while (server->pool) {
        struct exchange *x = server->pool;
        server->pool = x->next;
        exchange_free(x);
    }
    free(server);
}

/* ---- what handlers ask ---- */

static bool name_is(struct span name, const char *wanted, size_t n)
{
    return name.n == n && strncasecmp(name.p, wanted, n) == 0;
}

bool http_header(const struct http_request *req, const char *name, struct span *ret_value)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < req->header_count; i++)
        if (name_is(req->headers[i].name, name, n)) {
            *ret_value = req->headers[i].value;
            return true;
        }
    return false;
}

size_t http_header_count(const struct http_request *req, const char *name)
{
    size_t n = strlen(name), count = 0;
    for (size_t i = 0; i < req->header_count; i++)
        count += name_is(req->headers[i].name, name, n);
    return count;
}
