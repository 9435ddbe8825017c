/* SPDX-License-Identifier: Apache-2.0 */
/* outflow.h - an answer whose headers go out before it is known: clients wait five seconds for them and no longer (workflow-runs.md
 * 1.5). It is always a 200; what goes wrong behind it ends with a TCP reset. */
#pragma once
#include "api/inner.h"

enum { OUTFLOW_HEADERS_MS = 4000 };

struct outflow {
    struct http_conn *conn;  /* NULL: not begun, or over */
    struct buf        out;   /* what the connection has not taken */
    bool              ending;
    void            (*over)(void *user); /* once: all of it is out, or the client is gone. Not from outflow_abort */
    void             *user;
};

/* Sends the status line and the call's headers. The call stays the caller's and has no request any more. */
void outflow_begin(struct outflow *flow, struct call *call, const char *content_type, void (*over)(void *user), void *user);
/* One chunk. May call `over` (the client is gone) before it returns only from outflow_flush and outflow_end. */
void outflow_put(struct outflow *flow, struct span bytes);
void outflow_flush(struct outflow *flow); /* the flow may be gone behind it */
void outflow_end(struct outflow *flow);   /* the same */
void outflow_abort(struct outflow *flow);
void outflow_done(struct outflow *flow);  /* frees the bytes; resets a connection that is still there */
