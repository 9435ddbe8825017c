/* SPDX-License-Identifier: Apache-2.0 */
/* http_parse.h - bytes to requests; inside src/net only.
 *
 * An exchange is the part of a connection that exists only while a request is being read or answered: the buffer, the
 * header table, the body, the arena. The server puts bytes into it (exchange_room, then grow `end`) and asks
 * exchange_head and exchange_body how far they go. Nothing here touches a socket or a clock. */
#pragma once
#include "net/http_server.h"
/* Both headers have an enum http_method. */
#define http_method http_parser_method
#include <http_parser.h>
#undef http_method

enum parsed {
    PARSED_MORE,      /* needs more bytes */
    PARSED_DONE,
    PARSED_BAD,       /* x->bad says why; the connection cannot go on */
    PARSED_TOO_LARGE, /* the body exceeds its limit; what is left of it is unread */
};

enum chunk_state {
    CHUNK_SIZE_FIRST, CHUNK_SIZE, CHUNK_EXT, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_CR, CHUNK_LF,
    CHUNK_TRAILER_START, CHUNK_TRAILER, CHUNK_TRAILER_LF, CHUNK_LAST_LF,
};

struct parse_limits {
    uint32_t max_head_bytes;
    uint32_t max_headers;
};

struct exchange {
    struct http_request  req;
    struct exchange     *next; /* in the pool */
    struct parse_limits  limits;
    struct arena         arena;
    http_parser          parser;
    bool                 value_last;  /* the last header callback was for a value */
    bool                 wants_100;   /* Expect: 100-continue */
    bool                 answered;    /* by the handler, before the body was complete */
    bool                 delivered;   /* on_request was called */
    bool                 chunked;
    bool                 discard;     /* the body is read and thrown away */
    enum err             bad;
    /* in[start..parsed) is consumed by the current request, in[parsed..end) is not looked at yet. */
    char                *in;
    size_t               start, parsed, end, cap;
    /* The body: in the buffer behind the head when it fits (own NULL), else in a buffer of its own. */
    char                *own;
    size_t               own_cap;
    uint64_t             body_len;    /* bytes of the body so far (when discarding: seen so far) */
    uint64_t             body_limit;
    enum chunk_state     chunk;
    uint64_t             chunk_left;  /* bytes of this chunk to come; while in CHUNK_SIZE the number so far */
    uint32_t             chunk_extra; /* bytes of extensions and trailers so far */
    size_t               held;        /* bytes counted in *held_total */
    size_t              *held_total;
    struct http_header   headers[];   /* limits.max_headers */
};

enum { EXCHANGE_BUFFER = 8 * 1024, BODY_DISCARD_MOST = 64 * 1024 };

/* `held_total` counts the bytes that all exchanges hold in buffers. */
struct exchange *exchange_new(const struct parse_limits *limits, size_t *held_total);
void             exchange_free(struct exchange *x);
/* Ready for the next request of the same connection; what was read too much stays. */
void             exchange_next(struct exchange *x);
/* Forgets everything, for the pool; the buffer goes back to its first size. */
void             exchange_reset(struct exchange *x);
/* Before the first head: bytes that were read earlier. */
void             exchange_preload(struct exchange *x, struct span bytes);
static inline struct span exchange_rest(const struct exchange *x)
{
    return span_make(x->in + x->parsed, x->end - x->parsed);
}

/* Where to read to while the head, then the body, is incomplete: never 0 bytes. exchange_took says how many came. */
struct span_mut {
    char  *p;
    size_t n;
};
struct span_mut exchange_room(struct exchange *x);
void            exchange_took(struct exchange *x, size_t n);

/* Parses on. PARSED_DONE: req is complete but for its body. */
enum parsed exchange_head(struct exchange *x);
/* After the head: with the limit that holds for this request. PARSED_TOO_LARGE when Content-Length already exceeds it. */
enum parsed exchange_body_begin(struct exchange *x, uint64_t limit);
/* From now on the body is thrown away; more than `limit` bytes of it are PARSED_TOO_LARGE. */
void        exchange_discard(struct exchange *x, uint64_t limit);
/* PARSED_DONE: req.body is complete (empty when discarded). */
enum parsed exchange_body(struct exchange *x);
