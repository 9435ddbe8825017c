/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.h - outgoing HTTP (models, tools, webhooks): libcurl's multi interface on the same loop.
 *
 * Everything runs on the loop's thread. Bytes are handed over as they arrive; nothing is buffered. */
#pragma once
#include "net/loop.h"

struct http_client;
struct http_call;

enum err http_client_new(struct loop *loop, struct http_client **ret, struct error *error);
void     http_client_free(struct http_client *client); /* cancels what is in flight */

struct http_call_config {
    const char  *method;             /* "POST" */
    const char  *url;                /* http:// or https:// */
    const char *const *headers;      /* "Name: value" lines, NULL-terminated; copied */
    struct span  body;               /* copied */
    uint32_t     connect_timeout_ms; /* default 10 s */
    uint32_t     idle_timeout_ms;    /* no byte received for so long: ERR_TIMEOUT; default 120 s */
    uint32_t     total_timeout_ms;   /* 0: none */
    uint64_t     max_bytes;          /* of the answer's body; 0: none; over it: ERR_TOO_LARGE */
    /* Each header line, before on_head; also of interim responses. The value is without white space at its ends. NULL: none. */
    void (*on_header)(void *user, struct span name, struct span value);
    /* The head of the final response. headers: content type and Retry-After seconds (-1: absent or unreadable). */
    void (*on_head)(void *user, int status, struct span content_type, int64_t retry_after_s);
    void (*on_data)(void *user, struct span data);
    /* Exactly once, last, unless cancelled. ERR_OK: a complete response of any status. ERR_IO: no connection, reset, cut
     * (message says which); ERR_TIMEOUT; ERR_TOO_LARGE. The call is freed after it returns. */
    void (*on_done)(void *user, enum err err, const struct error *error);
    void *user;
};
/* Redirects are not followed; proxies of the environment are not used; TLS certificates are checked. */
enum err http_call_start(struct http_client *client, const struct http_call_config *config, struct http_call **ret,
                         struct error *error);
/* Closes the socket at once; no callback is called any more. May be called from on_head and on_data (not from on_done). */
void http_call_cancel(struct http_call *call);
