/* SPDX-License-Identifier: Apache-2.0 */
/* http_write.c - what goes out: answers, and streams without end.
 *
 * Everything is written at once from where it lies, one system call per answer or stream write. Only what the socket does
 * not take of an *answer* is copied and sent later; a stream never queues, its sink keeps a cursor and tries again. */
#include "net/http_conn.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

/* ---- sending ---- */

/* One sendmsg: bytes taken, 0 when the socket is full, -1 when it is broken. A short write sets `blocked`. */
static ssize_t send_iov(struct http_conn *conn, const struct iovec *iov, size_t count, size_t total)
{
    struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = count };
    ssize_t       n;

    do
        n = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN)
        return -1;
    if (n < 0)
        n = 0;
    if ((size_t)n < total)
        conn->blocked = true;
    return n;
}

static size_t iov_total(const struct iovec *iov, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* Appends all but the first `skip` bytes to what waits. */
static void stash_rest(struct http_conn *conn, const struct iovec *iov, size_t count, size_t skip)
{
    size_t        more = iov_total(iov, count) - skip;
    size_t        len = conn->out ? conn->out->len : 0;
    struct stash *stash = mem_grow(conn->out, sizeof *stash + len + more);

    if (!conn->out)
        stash->at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t from = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        skip -= from;
        if (iov[i].iov_len > from)
            memcpy(stash->bytes + len, (const char *)iov[i].iov_base + from, iov[i].iov_len - from);
        len += iov[i].iov_len - from;
    }
    stash->len = len;
    conn->out = stash;
}

/* Sends all of it, now or later. False when the connection is broken. */
static bool send_all(struct http_conn *conn, const struct iovec *iov, size_t count)
{
    size_t  total = iov_total(iov, count);
    ssize_t n = 0;

    if (!conn->out && !conn->blocked)
        n = send_iov(conn, iov, count, total);
    if (n < 0)
        return false;
    if ((size_t)n < total)
        stash_rest(conn, iov, count, (size_t)n);
    return true;
}

bool conn_flush(struct http_conn *conn)
{
    struct stash *out = conn->out;
    if (!out || conn->blocked)
        return true;
    struct iovec iov = { out->bytes + out->at, out->len - out->at };
    ssize_t      n = send_iov(conn, &iov, 1, iov.iov_len);
    if (n < 0)
        return false;
    out->at += (size_t)n;
    if (out->at == out->len)
        free(TAKE(conn->out));
    else if (n > 0)
        conn_list(conn, LIST_WRITE); /* progress: its time starts anew */
    return true;
}

/* ---- heads ---- */

const char *http_reason(int status)
{
    const char *text = http_status_str((enum http_status)status);
    return text[0] == '<' ? "Unknown" : text;
}

/* The date is made once a second. */
static struct span date_line(struct http_server *server)
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct env *env = loop_env(server->loop);
    int64_t     now_s = env->wall_ms(env) / 1000;

    if (now_s != server->date_s) {
        time_t    t = (time_t)now_s;
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(server->date, sizeof server->date, "Date: %.3s, %02u %.3s %04u %02u:%02u:%02u GMT\r\n",
                 days + 3 * tm.tm_wday, (unsigned)tm.tm_mday % 100, months + 3 * tm.tm_mon,
                 (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
                 (unsigned)tm.tm_sec % 100);
        server->date_s = now_s;
    }
    return span_of(server->date);
}

/* A small text on the stack; everything that goes in is bounded. */
struct line {
    size_t n;
    char   p[192];
};

static void line_span(struct line *line, struct span s)
{
    assert(s.n <= sizeof line->p - line->n);
    memcpy(line->p + line->n, s.p, s.n);
    line->n += s.n;
}

static void line_u64(struct line *line, uint64_t v)
{
    char  digits[20];
    char *at = digits + sizeof digits;
    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    line_span(line, span_make(at, (size_t)(digits + sizeof digits - at)));
}

static void line_status(struct line *line, struct http_server *server, int status)
{
    assert(status >= 100 && status <= 999);
    line_span(line, SPAN("HTTP/1.1 "));
    line_u64(line, (uint64_t)status);
    line_span(line, SPAN(" "));
    line_span(line, span_of(http_reason(status)));
    line_span(line, SPAN("\r\n"));
    line_span(line, date_line(server));
}

static void line_connection(struct line *line, bool closing, bool http_1_1)
{
    if (closing)
        line_span(line, SPAN("Connection: close\r\n"));
    else if (!http_1_1)
        line_span(line, SPAN("Connection: keep-alive\r\n"));
}

static struct iovec iov_of(struct span s)
{
    return (struct iovec){ (void *)s.p, s.n };
}

/* Head and body of one answer. */
static bool send_answer(struct http_conn *conn, int status, struct span headers, struct span body, bool head_only, bool http_1_1)
{
    struct line first = { 0 }, last = { 0 };
    bool        bodiless = status == 204 || status == 304;

    line_status(&first, conn->server, status);
    if (!bodiless) {
        line_span(&last, SPAN("Content-Length: "));
        line_u64(&last, body.n);
        line_span(&last, SPAN("\r\n"));
    }
    line_connection(&last, conn->closing, http_1_1);
    line_span(&last, SPAN("\r\n"));
    struct iovec iov[] = { { first.p, first.n }, iov_of(headers), { last.p, last.n }, iov_of(body) };
    return send_all(conn, iov, bodiless || head_only || body.n == 0 ? 3 : 4);
}

bool conn_send_bad(struct http_conn *conn, enum err code)
{
    struct http_handler *handler = &conn->server->handler;
    CLEANUP(buf_done) struct buf headers = { 0 };
    CLEANUP(buf_done) struct buf body = { 0 };

    if (handler->on_bad)
        handler->on_bad(handler->user, code, &headers, &body);
    return send_answer(conn, err_info(code)->ar_status, buf_view(&headers), buf_view(&body), false, true);
}

void conn_send_continue(struct http_conn *conn)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec      iov = { (void *)text, sizeof text - 1 };
    /* Trouble shows at the answer; what does not fit now goes out before it. */
    (void)send_all(conn, &iov, 1);
}

/* ---- answers ---- */

/* Whether the connection can go on after an answer given before the body was read. */
static bool rest_is_small(const struct exchange *x)
{
    return !x->wants_100 && (x->chunked || x->req.content_length <= BODY_DISCARD_MOST);
}

static void wait_or_go_on(struct http_conn *conn)
{
    if (!conn->out) {
        conn_answered(conn);
        return;
    }
    conn->state = CONN_WRITING;
    conn_list(conn, LIST_WRITE);
    if (!conn->blocked)
        conn_wake(conn); /* the edge has come and gone */
}

void http_reply(struct http_request *req, int status, struct span headers, struct span body)
{
    struct http_conn *conn = req->conn;
    struct exchange  *x = conn->x;

    assert(&x->req == req && !x->answered);
    if (conn->state == CONN_ORPHAN) {
        conn_kill(conn);
        return;
    }
    assert(conn->state == CONN_BODY || conn->state == CONN_HANDLING);
    bool unread = conn->state == CONN_BODY && x->req.content_length > 0;
    x->answered = true;
    if (!req->keep_alive || conn->server->draining || (unread && !rest_is_small(x)))
        conn->closing = true;
    conn->unread = conn->unread || (unread && conn->closing);
    if (!send_answer(conn, status, headers, body, req->method == HTTP_M_HEAD, req->chunked_ok)) {
        conn_kill(conn);
        return;
    }
    if (unread && !conn->closing)
        exchange_discard(x, BODY_DISCARD_MOST);
    else
        exchange_next(x);
    wait_or_go_on(conn);
}

void http_abort(struct http_request *req)
{
    conn_reset(req->conn);
}

/* ---- streams ---- */

/* What was read behind the request waits until the stream ends. */
static void keep_rest(struct http_conn *conn)
{
    struct span rest = exchange_rest(conn->x);
    if (rest.n == 0)
        return;
    conn->in = mem_grow(NULL, sizeof *conn->in + rest.n);
    conn->in->at = 0;
    conn->in->len = rest.n;
    memcpy(conn->in->bytes, rest.p, rest.n);
}

static bool send_stream_head(struct http_conn *conn, int status, struct span headers, bool http_1_1)
{
    struct line first = { 0 }, last = { 0 };

    line_status(&first, conn->server, status);
    if (conn->chunked)
        line_span(&last, SPAN("Transfer-Encoding: chunked\r\n"));
    if (status != 101) /* which says "Connection: upgrade" itself */
        line_connection(&last, conn->closing, http_1_1);
    line_span(&last, SPAN("\r\n"));
    struct iovec iov[] = { { first.p, first.n }, iov_of(headers), { last.p, last.n } };
    return send_all(conn, iov, ARRAY_LEN(iov));
}

struct http_conn *http_stream_begin(struct http_request *req, int status, struct span headers, bool chunked,
                                    const struct http_stream_ops *ops, void *sink)
{
    struct http_conn *conn = req->conn;
    bool              unread = conn->state == CONN_BODY && req->content_length > 0;
    bool              orphan = conn->state == CONN_ORPHAN;

    assert(&conn->x->req == req && !conn->x->answered);
    assert(orphan || conn->state == CONN_BODY || conn->state == CONN_HANDLING);
    conn->ops = ops;
    conn->sink = sink;
    conn->chunked = chunked;
    if (!chunked || !req->keep_alive || unread || conn->server->draining)
        conn->closing = true;
    conn->unread = conn->unread || unread;
    conn->state = CONN_STREAM;
    if (orphan || !send_stream_head(conn, status, headers, req->chunked_ok))
        conn->broken = true;
    else if (!conn->closing)
        keep_rest(conn);
    conn_release_exchange(conn);
    conn_list(conn, conn->out ? LIST_WRITE : LIST_NONE);
    conn->owes_writable = conn->out != NULL;
    if (conn->broken || conn->peer_shut || (conn->out && !conn->blocked))
        conn_wake(conn);
    return conn;
}

ssize_t http_stream_write(struct http_conn *conn, const struct iovec *iov, int count)
{
    assert(conn->state == CONN_STREAM && conn->ops && count >= 0);
    if (conn->broken) {
        conn_kill(conn);
        return -1;
    }
    if (conn->out || conn->blocked) {
        conn->owes_writable = true;
        return 0;
    }
    size_t  some = count <= IOV_MAX ? (size_t)count : IOV_MAX;
    size_t  total = iov_total(iov, some);
    ssize_t n = send_iov(conn, iov, some, total);
    if (n < 0) {
        conn_kill(conn);
        return -1;
    }
    if (conn->blocked) {
        conn->owes_writable = true;
        conn_list(conn, LIST_WRITE);
    } else if (some < (size_t)count) {
        conn->owes_writable = true; /* no edge will come: the socket took all that one call can carry */
        conn_later(conn);
    }
    return n;
}

void conn_stream_lost(struct http_conn *conn)
{
    const struct http_stream_ops *ops = conn->ops;
    void                         *sink = conn->sink;

    conn_reset(conn);
    ops->closed(sink);
}

void conn_stream_step(struct http_conn *conn)
{
    if (conn->broken || conn->peer_shut || !conn_flush(conn)) {
        conn_stream_lost(conn);
        return;
    }
    if (conn->out || conn->blocked || !conn->owes_writable)
        return;
    conn->owes_writable = false;
    conn_list(conn, LIST_NONE);
    conn->ops->writable(conn->sink);
}

void http_stream_end(struct http_conn *conn)
{
    static const char last_chunk[] = "0\r\n\r\n";
    struct iovec      iov = { (void *)last_chunk, sizeof last_chunk - 1 };

    assert(conn->state == CONN_STREAM && conn->ops);
    conn->ops = NULL;
    if (conn->broken || (conn->chunked && !send_all(conn, &iov, 1))) {
        conn_kill(conn);
        return;
    }
    conn->owes_writable = false;
    wait_or_go_on(conn);
}

void http_stream_abort(struct http_conn *conn)
{
    assert(conn->state == CONN_STREAM && conn->ops);
    conn_reset(conn);
}

void http_chunk(struct buf *out, struct span data)
{
    if (data.n == 0)
        return; /* an empty chunk would end the stream */
    buf_printf(out, "%zx\r\n", data.n);
    buf_span(out, data);
    BUF_LIT(out, "\r\n");
}
