/* SPDX-License-Identifier: Apache-2.0 */
/* inner.h - what the files of src/api share: the surface's own state and the tables of routes. */
#pragma once
#include "api/call.h"
#include "ledger/follow.h"

struct api {
    struct api_config   config;
    struct engine      *engine;
    struct auth        *auth;
    struct http_server *server;
    struct credential  *dev;       /* --dev: the token "dev" */
    struct credential  *dev_key;   /* --dev: the workflow key "mr_sk_dev" */
    uint64_t            requests, errors, streams;
    uint64_t            by_status[6]; /* 1xx … 5xx */
    uint64_t            stale_appends; /* of producers of an older epoch: refused */
    int64_t             started_ms;
    struct streams     *ds;        /* api/streams */
    struct buf          openapi;   /* the document */
};

/* Tables of routes, one per surface; static segments before parameters. Ends with a NULL pattern. */
extern const struct route agent_runs_routes[];
extern const struct route teams_routes[];
extern const struct route admin_routes[];
extern const struct route streams_routes[];
extern const struct route workflow_routes[];

const struct route *route_table(size_t i); /* the i-th of them that are served; NULL behind the last */

/* router.c: the route of a path; NULL: none. *ret_other: the path exists with other methods, listed in `allow`. */
const struct route *route_find(struct span path, enum http_method method, struct arena *arena, struct span params[CALL_PARAMS],
                               bool *ret_other, struct buf *allow);
/* api/streams: the surface's own state; which calls are its own, and the headers that all its answers have. */
struct streams *streams_new(struct api *api);
void            streams_free(struct streams *streams); /* accepts NULL */
bool            streams_own(const struct call *call);
void            streams_headers(const struct call *call, struct buf *out);
/* workflow_runs/auth.c: finds call->cred by the headers of that surface. False: the answer was given. */
bool flow_authenticate(struct call *call);
void audit_list(struct call *call); /* audit.c */
/* openapi.c: the OpenAPI 3.1 document of all surfaces, as JSON; GET /openapi.json */
void openapi_document(const char *version, struct buf *out);
void openapi_send(struct call *call);
/* An offset list (AR 2.4) of the rows of a query; known false: empty. (agent_runs/list.c) */
void call_list(struct call *call, const struct query *query, struct page page, bool known, bool (*each)(void *user, const void *row));
void credential_end_streams(struct credential *cred); /* sink.c: its streams end at the next frame boundary (R9) */
