/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - the command's side of HTTP: JSON in and out, and one long GET whose bytes are handed over as they come.
 *
 * Blocking, one thread, one connection at a time (kept alive). The server's own outgoing HTTP is net/http_client.h;
 * this one needs no loop. Every read is bounded. Redirects are not followed, so that a token never travels to a
 * second host. */
#pragma once
#include "base/json.h"

#define WEB_DEFAULT_URL  "http://127.0.0.1:7070"
#define WEB_DEFAULT_DATA "perdure-data"

struct web_options { /* as they came from the command line or the environment; NULL: not given */
    const char *server, *token, *data, *workspace;
};

struct web;

/* The token is the given one, or the first line of DIR/token. That file is the key to everything on this machine, so
 * it is read only for a loopback server or when --data was given; otherwise, and when it is not there, requests go
 * without a token. ERR_INVALID_PARAMETER: the URL is no http(s) URL, the token has blanks. */
enum err    web_new(const struct web_options *options, struct web **ret, struct error *error);
void        web_free(struct web *web); /* accepts NULL */
void        web_freep(struct web **web);
const char *web_base(const struct web *web);  /* "http://127.0.0.1:7070", no slash at the end */
bool        web_has_token(const struct web *web);
bool        web_is_local(const struct web *web); /* a loopback address */
/* Points it at another server, with the token of its data folder unless one was given; as web_new. */
enum err    web_move(struct web *web, const struct web_options *options, struct error *error);

struct web_request {
    const char *method; /* NULL: GET, or POST with a body */
    const char *path;   /* "/v1/api/runs?limit=2", made with path_… */
    struct span body;   /* JSON or empty */
    const char *content_type;         /* of the body; NULL: application/json */
    const char *const *headers;       /* more lines "Name: value", NULL behind the last; or NULL */
    const char *idempotency_key; /* NULL: none */
    uint32_t    timeout_ms;      /* 0: 60 s */
    bool        once;            /* no second try */
};

struct web_reply {
    int         status;
    struct span body;          /* in the arena */
    struct jv   json;          /* absent when the body is empty or no JSON */
    int64_t     retry_after_s; /* -1: none */
    int64_t     date_ms;       /* of the Date header, 0: none */
    char        request_id[129];
    /* of a Durable Streams answer */
    char        stream_next[34], stream_type[257];
    bool        stream_up_to_date, stream_closed;
};

/* ERR_OK: an answer of any status. ERR_IO, ERR_TIMEOUT, ERR_TOO_LARGE: there was none; the message says why, with
 * the URL. What can be repeated safely (GET, DELETE, PUT and whatever has an idempotency key) is tried up to three
 * times when the answer is 429 or 503 or the connection breaks; a refused connection is reported at once. */
MUST_USE enum err web_call(struct web *web, const struct web_request *request, struct arena *arena,
                           struct web_reply *ret, struct error *error);

/* ---- streams ---- */
enum web_end {
    WEB_EOF,      /* the response ended as it should */
    WEB_STOPPED,  /* a callback said so */
    WEB_STATUS,   /* not 200: `status` and `error` say what */
    WEB_REFUSED,  /* nobody listens there */
    WEB_BROKEN,   /* cut, reset, unreachable */
    WEB_IDLE,     /* silent for idle_ms */
    WEB_WOKEN,    /* wake_fd became readable */
    WEB_DEADLINE, /* deadline_us has come */
};

struct web_stream {
    const char *path;
    const char *accept;         /* "text/event-stream" */
    const char *last_event_id;  /* NULL: none */
    uint32_t    idle_ms;
    uint32_t    tick_ms;        /* on_tick about so often; 0: never */
    uint64_t    deadline_us;    /* monotonic, 0: none */
    int         wake_fd;        /* -1: none */
    bool (*on_open)(void *user);                   /* status 200 was read; false: stop */
    bool (*on_data)(void *user, struct span data); /* false: stop */
    void (*on_tick)(void *user);
    void *user;
    /* results */
    int          status;        /* 0: there was no answer */
    struct error error;         /* for WEB_STATUS, WEB_REFUSED, WEB_BROKEN */
    int64_t      retry_after_s; /* -1: none */
};
enum web_end web_follow(struct web *web, struct web_stream *stream);

/* Fills `error` from a problem body (2.5 of the contract) or, when it is none, from the status. */
void web_problem(int status, struct jv body, struct arena *arena, struct error *error);

/* ---- paths ---- */
/* printf for paths: each %s is percent-encoded as one segment or query value. Text in the arena. */
const char *path_make(struct arena *arena, const char *format, ...);
/* path with `name=value` behind ? or &; `value` NULL: unchanged. */
const char *path_query(struct arena *arena, const char *path, const char *name, const char *value);
