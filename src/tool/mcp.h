/* SPDX-License-Identifier: Apache-2.0 */
/* mcp.h - MCP servers: configured once, started at their first use, started again when they died (inner header).
 *
 * A server is DOWN, OPENING (initialize is on its way), LISTING (tools/list) or READY. Calls wait in its queue until it is READY.
 * When it goes down every request that was on its way fails (it may have been carried out), and what only waited fails when
 * the start fails. A server that goes down again and again is started later and later, up to 30 s. */
#pragma once
#include "net/child.h"
#include "net/sse_parse.h"
#include "tool/inner.h"
#include "tool/rpc.h"

enum { MCP_MESSAGE_MAX = 16 << 20, MCP_UNSENT_MAX = 16 << 20, MCP_ENV_MAX = 64, MCP_ARGS_MAX = 64 };

enum mcp_state { MCP_DOWN, MCP_OPENING, MCP_LISTING, MCP_READY };
enum mcp_what { MCP_INITIALIZE, MCP_LIST, MCP_CALL };

/* A request that waits for its answer. */
struct mcp_request {
    struct mcp_request *next;
    uint64_t            id;
    enum mcp_what       what;
    struct tool_call   *call; /* of MCP_CALL */
};

/* Streamable HTTP: one POST, and what comes back on it. */
struct mcp_post {
    struct mcp_post   *next;
    struct mcp_server *server;
    struct http_call  *http;
    uint64_t           id;      /* the request it carries; 0: something that is not answered */
    int                status;
    enum { MCP_NOTHING, MCP_JSON, MCP_EVENTS } type;
    struct sse_parser  events;
    struct buf         body;
    bool               in_session; /* it was sent with a session id */
};

struct mcp_server {
    struct mcp_server  *next;
    struct tools       *tools;
    struct span         name;
    const char         *argv[MCP_ARGS_MAX + 1], *env[MCP_ENV_MAX + 16], *folder; /* stdio */
    struct endpoint     endpoint;                                             /* streamable HTTP: url is set */
    uint32_t            timeout_ms, start_timeout_ms;
    uint64_t            max_bytes;
    bool                approval, repeat_safe_all;
    struct jv           repeat_safe, allowed; /* arrays of names, or absent */

    enum mcp_state      state;
    struct tool_call   *queue, **queue_tail;
    struct mcp_request *requests;
    uint64_t            next_id;
    struct loop_timer   timer;      /* DOWN: the next start; OPENING, LISTING: patience; READY: not armed */
    unsigned            failures;   /* since the last good answer */
    uint64_t            not_before_us;
    struct arena        list_arena; /* tools as they were listed last */
    struct mcp_tool    *list, *pages;
    size_t              list_count, page_count, page_number;
    struct arena        page_arena;
    bool                listed, stale; /* stale: the server says that the list has changed */
    uint64_t            listed_us;
    /* stdio */
    struct child_process *child;
    struct buf          line, err_line;
    /* streamable HTTP */
    struct mcp_post    *posts;
    struct buf          session, protocol; /* NUL-terminated header values, or empty */
    struct loop_timer   fall;       /* goes down in a round of its own, because what failed is on the stack */
    char                fall_why[256];
};

/* ---- mcp.c ---- */
struct mcp_server *mcp_find(const struct tools *tools, struct span name); /* of SERVER.TOOL or SERVER.*; NULL */
bool     mcp_listed(const struct mcp_server *server); /* READY with a list that stands */
void     mcp_begin(struct tool_call *call, struct mcp_server *server); /* queues it; the server starts when it must */
void     mcp_let_go(struct tool_call *call); /* the call ends: leaves the queue, or its request is cancelled */
bool     mcp_put_contracts(const struct tools *tools, struct span name, struct jw *w); /* false: there is no such tool */
bool     mcp_repeat_safe(const struct tools *tools, struct span name);
bool     mcp_needs_approval(const struct tools *tools, struct span name);
uint32_t mcp_timeout_ms(const struct mcp_server *server);
void     mcp_free(struct tools *tools);
/* ---- mcp_config.c ---- */
enum err mcp_configure(struct tools *tools, struct jv config, struct error *error);

/* ---- what the transports say to the session ---- */
/* The text of one message, or of several, has come. */
void mcp_take(struct mcp_server *server, struct span text);
/* The request cannot be answered any more; `sent`: it may have been carried out. */
void mcp_request_lost(struct mcp_server *server, uint64_t id, bool sent, const char *why);
/* The session is of no use any more: all that is on its way fails. Carried out in a later round. */
void mcp_fall(struct mcp_server *server, const char *why);
/* The server has forgotten the session: `id` was not carried out and goes back to the queue. */
void mcp_session_expired(struct mcp_server *server, uint64_t id);

/* ---- mcp_stdio.c, mcp_http.c: a server has one of them ---- */
enum err mcp_stdio_open(struct mcp_server *server, struct error *error);
void     mcp_stdio_send(struct mcp_server *server, struct span message);
void     mcp_stdio_close(struct mcp_server *server, unsigned patience_ms);
void     mcp_http_send(struct mcp_server *server, struct span message, uint64_t id);
void     mcp_http_drop(struct mcp_server *server, uint64_t id); /* closes the socket of this request */
void     mcp_http_close(struct mcp_server *server);
/* Ends the sessions of all servers that have one (DELETE), within a second; only when the loop runs no more. */
void     mcp_http_farewell(struct tools *tools);

/* ---- check.c ---- */
void tools_check_cancel(struct tools *tools);
