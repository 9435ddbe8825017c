/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c - connections of followers, and the list of them that each credential has (agent-runs.md R9). */
#include "api/sink.h"
#include <stdlib.h>

/* Where a chunk begins and ends in the bytes that go out. */
struct chunk_scan {
    size_t size, rest; /* of the chunk; what is missing of it and its line end */
    bool   in_body;
};

/* The connection of a follower, and its place in the list of its credential's open streams. */
struct stream_sink {
    struct http_conn   *conn;
    struct follower    *follower;
    struct credential  *cred;
    struct stream_sink *prev, *next;
    struct api         *api;
    void              (*over)(void *user);
    void               *user;
    struct buf          first;    /* goes out before anything of the follower */
    size_t              first_out;
    struct chunk_scan   scan;
    int64_t             left;     /* chunks until the end; -1: no limit */
};

static void sink_free(struct stream_sink *sink)
{
    if (sink->prev)
        sink->prev->next = sink->next;
    else
        sink->cred->sinks = sink->next;
    if (sink->next)
        sink->next->prev = sink->prev;
    sink->cred->streams--;
    sink->api->streams--;
    auth_unref(sink->cred);
    if (sink->over)
        sink->over(sink->user);
    buf_done(&sink->first);
    free(sink);
}

/* 1: all of it is out; 0: the socket is full; -1: it is gone. */
static int put_first(struct stream_sink *sink)
{
    struct iovec iov = { sink->first.p + sink->first_out, sink->first.len - sink->first_out };
    if (!iov.iov_len)
        return 1;
    ssize_t n = http_stream_write(sink->conn, &iov, 1);
    if (n < 0)
        return -1;
    sink->first_out += (size_t)n;
    return sink->first_out == sink->first.len;
}

enum { QUIET_BYTES = 3 }; /* a blank line, an SSE comment */

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
}

/* How many bytes may go out: all, or those up to the end of the chunk that brings *left to 0. */
static size_t scan_chunks(struct chunk_scan *s, const char *p, size_t n, int64_t *left)
{
    for (size_t i = 0; i < n;) {
        if (!s->in_body) {
            char c = p[i++];
            if (c == '\n') {
                s->in_body = true;
                s->rest = s->size + 2;
            } else if (c != '\r') {
                s->size = s->size * 16 + hex_digit(c);
            }
            continue;
        }
        size_t step = n - i < s->rest ? n - i : s->rest;
        i += step;
        s->rest -= step;
        if (s->rest)
            continue;
        *left -= s->size > QUIET_BYTES;
        *s = (struct chunk_scan){ .size = 0 };
        if (!*left)
            return i;
    }
    return n;
}

/* -1: the connection failed, or it has had enough and is ended. */
static ssize_t write_limited(struct stream_sink *sink, const struct iovec *iov, int count)
{
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        struct chunk_scan scan = sink->scan;
        int64_t           left = sink->left;
        struct iovec      part = { iov[i].iov_base, scan_chunks(&scan, iov[i].iov_base, iov[i].iov_len, &left) };
        ssize_t           n = http_stream_write(sink->conn, &part, 1);
        if (n < 0)
            return -1;
        scan_chunks(&sink->scan, part.iov_base, (size_t)n, &sink->left);
        total += n;
        if (!sink->left) {
            http_stream_end(sink->conn);
            return -1;
        }
        if ((size_t)n < part.iov_len)
            break;
    }
    return total;
}

static ssize_t sink_write(void *user, const struct iovec *iov, int count)
{
    struct stream_sink *sink = user;
    int                 first = put_first(sink);
    ssize_t             n = first;
    if (first == 1)
        n = sink->left < 0 ? http_stream_write(sink->conn, iov, count) : write_limited(sink, iov, count);
    if (n < 0)
        sink_free(sink); /* the follower frees itself */
    return n;
}

static void sink_end(void *user)
{
    struct stream_sink *sink = user;
    struct http_conn   *conn = sink->conn;
    sink_free(sink);
    http_stream_end(conn);
}

static void sink_abort(void *user)
{
    struct stream_sink *sink = user;
    struct http_conn   *conn = sink->conn;
    sink_free(sink);
    http_stream_abort(conn);
}

static void conn_writable(void *user)
{
    struct stream_sink *sink = user;
    struct follower    *follower = sink->follower;
    int                 first = put_first(sink);
    if (first < 0) {
        sink_free(sink);
        follower_gone(follower);
    } else if (first) {
        follower_writable(follower);
    }
}

static void conn_closed(void *user)
{
    struct stream_sink *sink = user;
    struct follower    *follower = sink->follower;
    sink_free(sink);
    follower_gone(follower);
}

static const struct sink_ops        sink_ops = { .write = sink_write, .end = sink_end, .abort = sink_abort };
static const struct http_stream_ops conn_ops = { .writable = conn_writable, .closed = conn_closed };

void credential_end_streams(struct credential *cred)
{
    for (struct stream_sink *sink = cred->sinks, *next; sink; sink = next) {
        next = sink->next;
        follower_expire(sink->follower);
    }
}

static bool within_limit(struct call *call)
{
    uint32_t max = call->api->config.max_streams;
    if (!max || call->cred->streams < max)
        return true;
    call_header(call, "Retry-After: 1");
    call_fail(call, ERR_TOO_MANY_STREAMS, "", "the token has %u open streams", max);
    return false;
}

bool sink_allowed(struct call *call)
{
    if (!within_limit(call))
        return false;
    if (!call->req->chunked_ok) {
        call_fail(call, ERR_BAD_REQUEST, "", "a stream needs HTTP/1.1");
        return false;
    }
    if (engine_draining(call->api->engine)) {
        call_fail(call, ERR_DRAINING, "", "the server is shutting down");
        return false;
    }
    return true;
}

static struct stream_sink *sink_open(struct call *call, struct follower *follower)
{
    struct stream_sink *sink = mem_alloc(sizeof *sink);
    *sink = (struct stream_sink){ .api = call->api, .cred = call->cred, .follower = follower, .left = -1 };
    auth_ref(sink->cred);
    sink->next = sink->cred->sinks;
    if (sink->next)
        sink->next->prev = sink;
    sink->cred->sinks = sink;
    sink->cred->streams++;
    call->api->streams++;
    buf_printf(&call->headers, "X-Request-Id: %s\r\n", call->request_id);
    struct http_request *req = TAKE(call->req);
    req->user = NULL;
    sink->conn = http_stream_begin(req, 200, buf_view(&call->headers), true, &conn_ops, sink);
    call->api->by_status[2]++;
    call_free(call);
    return sink;
}

void sink_begin(struct call *call, struct follower *follower, void (*over)(void *user), void *user)
{
    struct stream_sink *sink = sink_open(call, follower);
    sink->over = over;
    sink->user = user;
    follower_start(follower, &sink_ops, sink);
}

void sink_begin_behind(struct call *call, struct follower *follower, struct buf first, int64_t left)
{
    struct stream_sink *sink = sink_open(call, follower);
    sink->first = first;
    sink->left = left;
    if (put_first(sink) < 0) {
        sink_free(sink);
        follower_gone(follower);
    } else {
        follower_start(follower, &sink_ops, sink);
    }
}
