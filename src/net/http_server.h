/* SPDX-License-Identifier: Apache-2.0 */
/* http_server.h - HTTP/1.1 in front: connections, parsing, limits, responses, and the raw write path of followers.
 *
 * Parsing is libhttp-parser's (Debian), sockets are non-blocking and registered once, edge-triggered, in an epoll instance of
 * our own whose descriptor is one event of the loop (hotpath.md 4, 5: evhttp costs twice the CPU per request, cannot tell an
 * absent header from an empty one, and does not let go of a socket). One request at a time per connection; pipelined bytes
 * wait. All of it runs on the loop's thread. */
#pragma once
#include "base/json.h"
#include "net/loop.h"
#include <sys/uio.h>

enum http_method { HTTP_M_GET, HTTP_M_HEAD, HTTP_M_POST, HTTP_M_PUT, HTTP_M_PATCH, HTTP_M_DELETE, HTTP_M_OPTIONS, HTTP_M_OTHER };

struct http_header {
    struct span name, value; /* as sent; value without surrounding blanks, may be empty */
};

struct http_server;
struct http_conn; /* opaque */

/* A request lives from on_head until it is answered or gone. Everything it shows points into its arena or buffer. */
struct http_request {
    struct http_conn   *conn;
    struct arena       *arena;    /* freed when the request ends; handlers may use it */
    enum http_method    method;
    struct span         method_text;
    struct span         target;   /* as sent: path[?query] */
    struct span         path;     /* before '?', still percent-encoded */
    struct span         query;    /* behind '?', still encoded; p NULL when there is no '?' */
    struct http_header *headers;
    size_t              header_count;
    struct span         body;     /* complete in on_request */
    bool                has_body; /* Content-Length > 0 or a chunked body with bytes */
    uint64_t            content_length; /* of the head; UINT64_MAX: chunked */
    bool                keep_alive;
    bool                chunked_ok; /* the client speaks HTTP/1.1: a stream may be chunked */
    void               *user;     /* the handler's own; not touched here */
    /* Set by the handler when it wants to know that the client went away before the answer (the request is then over, and
     * must not be answered). Called on the loop's thread, never from inside http_reply. */
    void (*gone)(struct http_request *req);
};

struct http_handler {
    /* The head is complete. Returns the body limit in bytes for this request, so that routes may differ (AR 2.1). The
     * handler may also answer right here (bad route, no credential): the body is then read and thrown away up to 64 KiB,
     * beyond that the connection closes after the answer. May be NULL: config.max_body for all. */
    uint64_t (*on_head)(void *user, struct http_request *req);
    /* The request is complete, or the body is over its limit (too_large: answer 413; the connection closes after it).
     * Must lead to exactly one http_reply or http_stream_begin, now or later. */
    void (*on_request)(void *user, struct http_request *req, bool too_large);
    /* The bytes were no HTTP, or a limit on the head was hit: make the body of the error answer (code is ERR_BAD_REQUEST,
     * ERR_HEADERS_TOO_LARGE, ERR_URI_TOO_LONG, ERR_REQUEST_TIMEOUT or, past max_buffered_bytes, ERR_OVERLOADED). The connection
     * closes after it. */
    void (*on_bad)(void *user, enum err code, struct buf *headers, struct buf *body);
    void *user;
};

struct http_server_config {
    const char *host;               /* numeric address */
    uint16_t    port;               /* 0: any */
    uint32_t    max_connections;    /* default 20000; over it: accept pauses */
    uint32_t    max_head_bytes;     /* default 32 KiB: request line and headers */
    uint32_t    max_headers;        /* default 100 */
    uint64_t    max_body;           /* default 4 MiB */
    uint32_t    head_timeout_ms;    /* first byte of a request to the end of its head; default 10 s */
    uint32_t    body_timeout_ms;    /* end of head to end of body; default 60 s */
    uint32_t    idle_timeout_ms;    /* keep-alive without a request; default 75 s */
    uint32_t    write_timeout_ms;   /* an answer, or a stream whose write was short, that makes no progress; default 30 s */
    uint32_t    max_buffered_bytes; /* request bytes held in memory over all connections; default 256 MiB; over it: 503 */
};
void http_server_defaults(struct http_server_config *config);

enum err http_server_new(struct loop *loop, const struct http_server_config *config, const struct http_handler *handler,
                         struct http_server **ret, struct error *error);
uint16_t http_server_port(const struct http_server *server);
size_t   http_server_connections(const struct http_server *server);
/* Stops accepting, closes idle connections; those with a request in hand finish and close ("Connection: close"). */
void     http_server_drain(struct http_server *server);
/* Closes everything: closed() and gone() are called for what is open; a request without gone must not be answered any more.
 * Not from inside a callback of the server. */
void     http_server_free(struct http_server *server);

/* First header of that name (ASCII case ignored): false when absent; an empty value is present. */
bool   http_header(const struct http_request *req, const char *name, struct span *ret_value);
size_t http_header_count(const struct http_request *req, const char *name);

/* Answers. `headers` are complete lines "Name: value\r\n" (Content-Length, Date and Connection are added here). Both spans
 * are copied or written before this returns. Status 204 and 304 carry no body and no Content-Length; HEAD answers keep the
 * Content-Length and drop the body. */
void http_reply(struct http_request *req, int status, struct span headers, struct span body);
/* Drops the connection without an answer (TCP reset). */
void http_abort(struct http_request *req);
const char *http_reason(int status);

/* ---- streams: an answer without end ----
 * After http_stream_begin the request and its arena are gone and the connection is a bare socket with ~100 bytes of state. */
struct http_stream_ops {
    void (*writable)(void *sink);           /* after a short write the socket takes bytes again */
    /* The peer is gone: reset, half-closed, or stuck for write_timeout_ms. The conn must not be touched any more.
     * Both come from the loop only, never from inside one of the calls below. */
    void (*closed)(void *sink);
};
/* Sends the head (chunked when asked: then every write must itself be whole chunks, see http_chunk) and returns the
 * connection, which stays valid until closed() or http_stream_end/abort. */
struct http_conn *http_stream_begin(struct http_request *req, int status, struct span headers, bool chunked,
                                    const struct http_stream_ops *ops, void *sink);
/* Writes now what the socket takes: bytes taken, 0 when it is full (writable() will follow), -1 when it is gone (closed()
 * will NOT be called; the conn is already freed). Nothing is ever queued here. */
ssize_t http_stream_write(struct http_conn *conn, const struct iovec *iov, int count);
/* Sends the last chunk when chunked. Keep-alive goes on with the next request when the request allowed it. The caller must
 * have nothing half-written. */
void http_stream_end(struct http_conn *conn);
void http_stream_abort(struct http_conn *conn); /* TCP reset: a reader must not take this for a clean end */
/* Appends data as one HTTP chunk: "hex\r\n" data "\r\n". */
void http_chunk(struct buf *out, struct span data);

/* ---- helpers on targets ---- */
/* Decodes %XX (and '+' as space when plus). false: bad escape. */
bool url_decode(struct span in, bool plus, struct arena *arena, struct span *ret);
/* The raw values of a query parameter: how many there are; the first one decoded into ret (may be NULL). A bad escape in the
 * value makes *ret_bad true. */
size_t query_get(struct span query, const char *name, struct arena *arena, struct span *ret, bool *ret_bad);
