/* SPDX-License-Identifier: Apache-2.0 */
/* inner.h - what the files of this folder share: the registry, a call's life, one HTTP exchange.
 *
 * A call ends exactly once, through tool_end or tool_fail, and is freed by it: whoever calls them goes home without touching the
 * call again. Nothing ends a call inside tool_start and tool_list; what fails there fails in a later round. */
#pragma once
#include "base/fields.h"
#include "base/json_schema.h"
#include "tool/builtin.h"
#include "tool/tool.h"

enum { HEADERS_MAX = 32, REDIRECTS_MAX = 10, SECRETS_MAX = 64 };

/* An address that the configuration names, and how to prove who asks. */
struct endpoint {
    const char *url;
    const char *headers[HEADERS_MAX + 4]; /* "Name: value", NULL-terminated: the configured ones and the key */
    struct span sign_key;   /* of the HMAC; empty: nothing is signed */
    const char *missing;    /* what is wrong with a secret, or NULL */
};

struct tool;
struct mcp_server;
struct mcp_request;

struct tool_kind {
    const char *name;
    void (*begin)(struct tool_call *call);  /* starts the exchange, or fails the call */
    void (*answer)(struct tool_call *call); /* the exchange is complete */
    bool  trusted;                          /* the URL is the configuration's */
    bool  cuts;                             /* an answer that is too large is cut and not refused */
};
extern const struct tool_kind kind_http, kind_http_fetch, kind_web_search, kind_code_exec;

struct tool {
    struct tool            *next;
    struct span             name, version, description;
    struct span             schema;    /* JSON text of an object */
    struct jv               schema_jv; /* parsed; in the registry's arena */
    const struct tool_kind *kind;
    struct endpoint         endpoint;
    struct code_limits      code;
    int64_t                 default_limit, max_redirects;
    uint32_t                timeout_ms;
    uint64_t                max_bytes;
    bool                    repeat_safe, approval;
};

struct tools {
    struct loop        *loop;
    struct http_client *client;
    struct arena        arena;
    struct tool        *list;    /* as configured, http_fetch before them when it is not configured */
    struct mcp_server  *servers;
    struct tool_call   *calls;
    struct tool_check  *check;
    struct span         secrets[SECRETS_MAX];
    size_t              secret_count;
};

/* One HTTP request and its whole answer. */
struct exchange {
    struct http_call *http;
    const char       *url;       /* asked last */
    int               status;
    char              type[128]; /* content type without parameters, lower case */
    const char       *location;
    struct buf        body;
    unsigned          redirects;
    bool              cut;
};

enum call_purpose { CALL_RUN, CALL_LIST };

struct tool_call {
    struct tools       *tools;
    struct tool_call   *prev, *next;
    struct tool        *tool;      /* NULL: an MCP server's, or a list */
    enum call_purpose   purpose;
    struct arena        arena;
    struct span         name, key, context;
    struct jv           arguments;
    struct jv           names;     /* of a list */
    struct loop_timer   timer;     /* time limit, or the end that waits for its round */
    bool                sent;
    struct exchange     exchange;
    const struct tool_fault *fault; /* to end with when the timer fires; NULL: time is up */
    struct mcp_server  *server;    /* it waits for this server, or has a request there */
    struct tool_call   *wait_next; /* in the server's queue */
    struct mcp_request *request;
    unsigned            again;     /* how often it was taken back to the queue */
    void (*on_end)(void *user, enum err err, struct span result, bool sent);
    void *user;
};

struct tool_fault {
    const char *code;
    struct span message;
    bool        retryable;
};

/* ---- tools.c ---- */
void tool_end(struct tool_call *call, struct span result);
void PRINTF(4, 5) tool_fail(struct tool_call *call, const char *code, bool retryable, const char *format, ...);
void PRINTF(4, 5) tool_fail_later(struct tool_call *call, const char *code, bool retryable, const char *format, ...);
struct tool *tool_find(const struct tools *tools, struct span name);
/* Goes on with a list when a server it waited for is ready. */
void list_go_on(struct tool_call *call);
/* true, or the call has been failed with invalid_arguments. */
bool arguments_fit(struct tool_call *call, struct jv schema);
/* UTF-8 in any case, at most `max` bytes, in the arena. */
struct span clean_text(struct span text, size_t max, struct arena *arena);
struct json_limits tool_json_limits(void);

/* ---- exchange.c ---- */
struct exchange_request {
    const char        *method;
    const char        *url;
    const char *const *headers;
    struct span        body;
};
/* Starts it, or fails the call (in a later round). */
void tool_exchange_start(struct tool_call *call, const struct exchange_request *request);
void tool_exchange_done(struct exchange *exchange); /* closes the socket */
/* Ends the call with the error that stands for this status; `body`: show what the answer says about it. */
void fail_status(struct tool_call *call, int status, bool body);
/* The answer as JSON in the call's arena; absent when it is none. */
struct jv exchange_json(struct tool_call *call);

/* ---- config.c ---- */
enum err tools_configure(struct tools *tools, struct jv config, struct error *error);
bool name_is_fine(struct span name, bool dots);
/* Members that endpoints have in common. */
struct endpoint_fields {
    struct span url, api_key_env, api_key_file, secret_env, secret_file;
    struct jv   headers;
};
enum err endpoint_configure(struct tools *tools, const struct endpoint_fields *want, const char *pointer, struct endpoint *ret,
                            struct error *error);
void tools_secret(struct tools *tools, struct span secret); /* never to be seen; kept as it is */
