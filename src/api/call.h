/* SPDX-License-Identifier: Apache-2.0 */
/* call.h - one request on its way through a handler: who asks, for what, and the answer under construction.
 *
 * A call owns its memory: the connection may vanish at any time (then nothing is sent), and a read may run on the reader
 * thread. Checks happen in the order that agent-runs.md 2.3 fixes: route, method, auth, scope, rate limit, content type, body
 * size, JSON; a handler does validation, existence and state. */
#pragma once
#include "api/api.h"
#include "api/auth.h"

enum { CALL_PARAMS = 3, CALL_REQUEST_ID = 128 };

struct call;
struct route {
    enum http_method method;
    const char      *pattern;   /* "/v1/api/runs/{id}/events" */
    const char      *scope;     /* NULL: no credential needed; "" any credential */
    void           (*handle)(struct call *call);
    unsigned         flags;
};
enum {
    ROUTE_READ      = 1 << 0, /* call->reader is set, inside one snapshot; the handler only reads and then the call is sent */
    ROUTE_HEAVY     = 1 << 1, /* with READ: on the reader thread */
    ROUTE_EMPTY_OK  = 1 << 2, /* an empty body equals {} */
    ROUTE_BATCH     = 1 << 3, /* the larger body limit */
    ROUTE_TENANT    = 1 << 4, /* no workspace needed */
    ROUTE_STREAM    = 1 << 5, /* counts as an open stream; Accept must allow text/event-stream */
    ROUTE_RAW       = 1 << 6, /* the body is anything; the limit is that of Durable Streams */
};

struct call {
    struct api          *api;
    struct http_request *req;       /* NULL: the client is gone */
    const struct route  *route;
    struct arena         arena;
    struct span          path, query; /* own copies */
    struct span          params[CALL_PARAMS]; /* decoded path segments, by order in the pattern */
    struct credential   *cred;      /* held; NULL on open routes */
    struct uuid          tenant, workspace;
    struct span          customer;  /* of the workflow surface: whom the request is for; empty: nobody in particular */
    char                 request_id[CALL_REQUEST_ID + 1];
    bool                 flow;      /* of the workflow surface: its errors are flat, its ids have names of their own */
    bool                 problem;   /* Accept names application/problem+json */
    bool                 problem_body; /* the answer is one */
    const char          *content_type; /* NULL: JSON */
    bool                 type_always; /* the type is said even of an empty body */
    const char          *cache;     /* Cache-Control of a Durable Streams answer; NULL: no-store */
    bool                 late;      /* call_send waits for the turn's commit: the answer tells of something that is on its way */
    bool                 in_job;    /* reading: call_send only notes the status */
    bool                 dispatched; /* the handler has it */
    struct json          doc;
    struct jv            body;      /* an object or whatever was sent; absent when there was none */
    struct reader       *reader;
    struct read_job      job;
    int                  status;
    struct buf           headers, out;
    struct jw            w;         /* on `out` */
    struct buf           extra;     /* members added to an error object: ,"name":value… */
    struct issues        issues;
    void                *user;      /* the handler's own, e.g. a watch */
    uint64_t             ticket;
    int64_t              wait_ms, shown;
    struct loop_timer    timer;
    void               (*on_gone)(struct call *call); /* the client went away before the answer */
};

/* ---- answers: exactly one of these ends a handler ---- */
void call_send(struct call *call, int status);              /* call->out, now */
void call_send_committed(struct call *call, int status);    /* after the turn's commit; 5xx when it fails */
void call_error(struct call *call, const struct error *error);
void call_fail(struct call *call, enum err err, const char *field, const char *format, ...) PRINTF(4, 5);
/* true: there were issues and they are the answer (422). */
bool call_invalid(struct call *call, enum err as);
/* workflow_runs/errors.c: the body of an error there (workflow-runs.md 1.7), and what stands in front of it. */
void flow_error_body(struct call *call, const struct error *error);
/* Fails with the engine's or a catalogue's error. */
void call_extra_str(struct call *call, const char *name, struct span value);
void call_header(struct call *call, const char *format, ...) PRINTF(2, 3);
void call_free(struct call *call);

/* ---- reading the request ---- */
/* A query parameter, decoded; p NULL when absent or empty. Repeated or badly encoded: an issue. */
struct span call_query(struct call *call, const char *name);
struct span call_query_raw(struct call *call, const char *name, bool *ret_present); /* empty is present */
bool call_parse_count(struct span text, int64_t *ret); /* decimal digits; what is beyond 2^53 is clamped to it */
struct page {
    int64_t limit, offset;
    bool    ascending;
};
struct page call_page(struct call *call);           /* AR 2.4; issues on bad values */
void call_page_head(struct call *call, struct page page, int64_t total, int64_t shown); /* total, limit, offset, has_more */
bool call_path_uuid(struct call *call, unsigned param, struct uuid *ret);
/* A member of the body: absent and null give false; a wrong type is an issue at /name. */
bool body_text(struct call *call, const char *name, bool required, size_t max, struct span *ret);
bool body_object(struct call *call, const char *name, struct jv *ret);
struct span minified(struct call *call, struct jv v); /* in the call's arena */

/* ?from (inclusive) and ?to (exclusive) as conditions on a column of times; issues on bad ones and when from is after to. */
void call_time_range(struct call *call, struct query *query, const char *column);

/* ---- audit: in the commit of the change; `data` a JSON object or SPAN_NONE ---- */
void call_audit(struct call *call, struct uuid workspace, const char *action, const char *kind, struct uuid resource, struct span data);
/* In the call's workspace, with one text member; p NULL: none. */
void call_audit_text(struct call *call, const char *action, const char *kind, struct uuid resource, const char *name, struct span value);

/* ---- idempotency (AR 2.7) ---- */
struct idem_use {
    bool          used;
    struct sha256 key, fingerprint;
    struct idem_hit hit;
    bool          found;
};
/* Reads the key of headers and body (item: an element of a batch, then only its member counts and `fallback` is its key).
 * ERR_OK also when there is none. */
enum err call_idem_key(struct call *call, struct span *ret_key, struct error *error);
enum err call_idem(struct call *call, const char *scope, struct span key, struct span canonical, struct idem_use *ret,
                   struct error *error);
/* Canonical JSON of an object without the members that do not count. */
struct span call_canonical(struct call *call, struct jv object);
void call_send_reused(struct call *call, struct span answer); /* 200, the first answer and "reused":true */
const char *call_actor(const struct call *call, struct buf *out); /* "token:<id>", NUL behind it */
