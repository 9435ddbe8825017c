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
    uint64_t            requests, errors, streams;
    uint64_t            by_status[6]; /* 1xx … 5xx */
    int64_t             started_ms;
};

/* Tables of routes, one per surface; static segments before parameters. Ends with a NULL pattern. */
extern const struct route agent_runs_routes[];
extern const struct route admin_routes[];

/* router.c: the route of a path; NULL: none. *ret_other: the path exists with other methods, listed in `allow`. */
const struct route *route_find(struct span path, enum http_method method, struct arena *arena, struct span params[CALL_PARAMS],
                               bool *ret_other, struct buf *allow);
void credential_end_streams(struct credential *cred); /* events.c: its streams end at the next frame boundary (R9) */
