/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.h - outgoing HTTP (models, tools, webhooks): libcurl's multi interface on the same loop.
 *
 * Everything runs on the loop's thread. Bytes are handed over as they arrive; nothing is buffered. Every connection of the
 * process that is HTTP is opened here and held to net/outbound.h: the address that is connected to was checked. */
#pragma once
#include "net/loop.h"
#include "net/outbound.h"

struct http_client;
struct http_call;

enum err http_client_new(struct loop *loop, struct http_client **ret, struct error *error);
void     http_client_free(struct http_client *client); /* cancels what is in flight */
/* What calls that are not trusted may reach besides public addresses. Takes ownership; NULL: nothing. */
void     http_client_allow(struct http_client *client, struct outbound *outbound);

struct http_call_config {
    const char  *method;             /* "POST" */
    const char  *url;                /* http:// or https:// */
    const char *const *headers;      /* "Name: value" lines, NULL-terminated; copied */
    struct span  body;               /* copied */
    bool         trusted;            /* the operator's configuration names this URL: any address will do. Else only public
                                        addresses and those that http_client_allow names */
    const char *const *resolve;      /* "HOST:PORT:ADDRESS" lines that stand in for the resolver, NULL-terminated, or NULL; the
                                        addresses are checked all the same */
    uint32_t     connect_timeout_ms; /* default 10 s */
    uint32_t     idle_timeout_ms;    /* no byte received for so long: ERR_TIMEOUT; default 120 s */
    uint32_t     total_timeout_ms;   /* 0: none */
    uint64_t     max_bytes;          /* of the answer's body; 0: none; over it: ERR_TOO_LARGE */
    /* Each header of the final response, before on_head; may be NULL. */
    void (*on_header)(void *user, struct span name, struct span value);
    /* The head of the final response. headers: content type and Retry-After seconds (-1: absent or unreadable). */
    void (*on_head)(void *user, int status, struct span content_type, int64_t retry_after_s);
    void (*on_data)(void *user, struct span data);
    /* Exactly once, last, unless cancelled. ERR_OK: a complete response of any status. ERR_IO: no connection, reset, cut
     * (message says which); ERR_TIMEOUT; ERR_TOO_LARGE; ERR_FORBIDDEN: it leads to an address that is not allowed, nothing was
     * sent. The call is freed after it returns. */
    void (*on_done)(void *user, enum err err, const struct error *error);
    void *user;
};
/* Redirects are not followed; proxies of the environment are not used; TLS certificates are checked. ERR_INVALID_PARAMETER: not a
 * URL that outbound_url takes; ERR_FORBIDDEN: its host is an address that is not allowed. */
enum err http_call_start(struct http_client *client, const struct http_call_config *config, struct http_call **ret,
                         struct error *error);
/* Closes the socket at once; no callback is called any more. May be called from on_head and on_data (not from on_done). */
void http_call_cancel(struct http_call *call);
/* false: it is certain that no byte of the request has left. Until on_done has returned. */
bool http_call_sent(const struct http_call *call);

/* ---- headers that the configuration names ---- */
/* A token (RFC 9110) of at most 128 bytes. */
bool http_header_name_valid(struct span name);
/* The name says that the value is nothing to show: "Authorization", "X-Api-Key", … */
bool http_header_is_secret(const char *name);
