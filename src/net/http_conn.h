/* SPDX-License-Identifier: Apache-2.0 */
/* http_conn.h - one connection and its server; inside src/net only.
 *
 * http_server.c owns the life of connections (accept, read, time out, close), http_write.c what goes out. A connection is
 * small, because tens of thousands of them do nothing: idle, or followers of a stream. All that a request needs hangs on
 * `x` and goes back to a pool with the answer. */
#pragma once
#include "net/http_parse.h"
#include <sys/epoll.h>

struct link {
    struct link *prev, *next;
};

enum conn_state {
    CONN_IDLE,     /* no request, no exchange */
    CONN_HEAD,     /* a head is being read */
    CONN_BODY,     /* a body is being read, or thrown away when x->discard */
    CONN_HANDLING, /* the handler owes an answer */
    CONN_WRITING,  /* the end of an answer waits for the socket */
    CONN_STREAM,   /* belongs to a sink */
    CONN_LINGER,   /* answered and shut; what the peer still sends is thrown away, so that it sees the answer, not a reset */
    CONN_ORPHAN,   /* the peer is gone, the handler does not know and will still answer */
    CONN_DEAD,     /* closed; freed when no batch of events can name it any more */
    CONN_STATES
};

/* Each connection is in exactly one list. All in one list wait equally long, so the first one is due first. */
enum conn_list { LIST_NONE, LIST_IDLE, LIST_HEAD, LIST_BODY, LIST_WRITE, LIST_LINGER, LISTS };

/* Bytes that wait: unsent ones of an answer, or unparsed ones behind the request of a stream. */
struct stash {
    size_t at, len;
    char   bytes[];
};

struct http_conn {
    struct http_server           *server;
    struct link                   link;
    uint64_t                      due_us;     /* of its list */
    struct http_conn             *next;       /* in the ready list, or among the dead */
    struct exchange              *x;
    struct stash                 *out;        /* unsent */
    struct stash                 *in;         /* a stream's: requests that came too early */
    const struct http_stream_ops *ops;
    void                         *sink;
    int                           fd;
    uint32_t                      count;      /* LIST_WRITE: bytes in the kernel's queue when last seen; LINGER: bytes read */
    uint8_t                       state;
    bool                          readable : 1; /* edge-triggered: true until a read found nothing more */
    bool                          blocked : 1;  /* true from a short write to the next EPOLLOUT */
    bool                          peer_shut : 1;  /* FIN seen; there may still be bytes to read */
    bool                          broken : 1;     /* reset, or closed in both directions */
    bool                          owes_writable : 1; /* a stream's write was short: writable() must follow */
    bool                          closing : 1;    /* after this answer */
    bool                          unread : 1;     /* bytes of the request were left in the socket */
    bool                          chunked : 1;    /* the stream */
    bool                          in_ready : 1;
};

struct http_server {
    struct loop              *loop;
    struct http_server_config config;
    struct http_handler       handler;
    struct parse_limits       limits;
    int                       epoll_fd, listen_fd;
    struct event             *epoll_event, *listen_event;
    struct loop_timer         accept_timer; /* no descriptors: accept again later */
    struct loop_timer         ready_timer;  /* due at once while the ready list holds anything */
    struct loop_timer         tick;
    struct link               lists[LISTS];
    uint64_t                  list_us[LISTS];
    struct http_conn         *ready_first, *ready_last;
    struct http_conn         *dead;
    struct http_conn         *running;      /* conn_run is working on it: no need to wake it */
    unsigned                  dispatching;
    struct exchange          *pool;
    size_t                    pool_count;
    size_t                    held;         /* request bytes in memory */
    size_t                    open;
    bool                      accepting, accept_failed, draining;
    int64_t                   date_s;       /* what `date` says */
    char                      date[40];     /* "Date: …\r\n" */
    struct epoll_event        events[512];
};

/* ---- http_server.c ---- */
void             conn_list(struct http_conn *conn, enum conn_list list); /* moves it to the end, its time starts now */
void             conn_kill(struct http_conn *conn);     /* closes; takes everything with it; calls nobody */
void             conn_reset(struct http_conn *conn);    /* the same with a TCP reset */
void             conn_wake(struct http_conn *conn);     /* conn_run soon, unless it is running */
void             conn_later(struct http_conn *conn);    /* conn_run in the next round, also when it is running now */
void             conn_release_exchange(struct http_conn *conn);
/* All of an answer is written: on to the next request, or the end. May free the conn. */
void             conn_answered(struct http_conn *conn);

/* ---- http_write.c ---- */
/* Sends on what waits in `out`: false when the connection is broken. */
bool             conn_flush(struct http_conn *conn);
/* Sends an error answer for bytes that were no request; false when the connection is broken. */
bool             conn_send_bad(struct http_conn *conn, enum err code);
void             conn_send_continue(struct http_conn *conn);
/* The sink of a stream, or the stream's first bytes, get what events brought. */
void             conn_stream_step(struct http_conn *conn);
/* Kills the stream and tells its sink. */
void             conn_stream_lost(struct http_conn *conn);
