/* SPDX-License-Identifier: Apache-2.0 */
/* mcp_http.c - MCP over streamable HTTP: each message is a POST; what comes back is JSON or a stream of events on it.
 *
 * A session id that the server gave goes with every later request. A 404 with one means that the server has forgotten the session
 * and carried nothing out. */
#include "tool/mcp.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { FAREWELL_MS = 1000 };

/* ---- posts ---- */

static void post_free(struct mcp_post *post)
{
    struct mcp_post **p = &post->server->posts;
    while (*p != post)
        p = &(*p)->next;
    *p = post->next;
    if (post->http)
        http_call_cancel(post->http);
    sse_done(&post->events);
    buf_done(&post->body);
    free(post);
}

void mcp_http_drop(struct mcp_server *server, uint64_t id)
{
    for (struct mcp_post *post = server->posts; post; post = post->next)
        if (post->id == id) {
            post_free(post);
            return;
        }
}

void mcp_http_close(struct mcp_server *server)
{
    while (server->posts)
        post_free(server->posts);
    server->session.len = server->protocol.len = 0;
}

static bool header_is(struct span name, const char *other)
{
    return name.n == strlen(other) && strncasecmp(name.p, other, name.n) == 0;
}

static void on_header(void *user, struct span name, struct span value)
{
    struct mcp_post   *post = user;
    struct mcp_server *server = post->server;
    if (!header_is(name, "mcp-session-id") || server->state != MCP_OPENING || value.n == 0 || value.n > 1024)
        return;
    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < 0x21 || value.p[i] > 0x7e)
            return;
    server->session.len = 0;
    buf_span(&server->session, value);
    buf_byte(&server->session, 0);
}

static void on_head(void *user, int status, struct span content_type, int64_t retry_after_s)
{
    struct mcp_post *post = user;
    post->status = status;
    if (status < 200 || status > 299)
        return;
    if (content_type.n >= 16 && strncasecmp(content_type.p, "application/json", 16) == 0)
        post->type = MCP_JSON;
    else if (content_type.n >= 17 && strncasecmp(content_type.p, "text/event-stream", 17) == 0)
        post->type = MCP_EVENTS;
}

static bool on_event(void *user, const struct sse_event *event)
{
    struct mcp_server *server = user;
    if (event->data.n && span_is(event->type, "message"))
        mcp_take(server, event->data);
    return true;
}

static bool is_open(const struct mcp_server *server, const struct mcp_post *post)
{
    const struct mcp_post *open = server->posts;
    while (open && open != post)
        open = open->next;
    return open != NULL;
}

static void on_data(void *user, struct span data)
{
    struct mcp_post   *post = user;
    struct mcp_server *server = post->server;
    if (post->type == MCP_JSON) {
        buf_span(&post->body, data); /* bounded by max_bytes */
    } else if (post->type == MCP_EVENTS) {
        struct sse_parser events = post->events; /* out of the post, which may be gone when this returns */
        post->events = (struct sse_parser){ .max = events.max };
        enum err err = sse_feed(&events, data, on_event, server);
        if (is_open(server, post))
            post->events = events;
        else
            sse_done(&events);
        if (err)
            mcp_fall(server, "it sent a message that is too large");
    }
}

/* A request's POST is over: what was to come has come. */
static void ended(struct mcp_post *post, bool sent, enum err err, const char *message)
{
    struct mcp_server *server = post->server;
    uint64_t           id = post->id;
    int                status = post->status;
    bool               in_session = post->in_session;
    struct buf         body = post->type == MCP_JSON ? post->body : (struct buf){ 0 };
    if (post->type == MCP_JSON)
        post->body = (struct buf){ 0 };
    post_free(post);
    if (!err && status == 404 && in_session) {
        mcp_session_expired(server, id);
    } else if (err) {
        mcp_request_lost(server, id, sent, message);
    } else if (status < 200 || status > 299) {
        char why[64];
        snprintf(why, sizeof why, "it answers with status %d", status);
        mcp_request_lost(server, id, status >= 500, why);
    } else {
        if (body.len)
            mcp_take(server, buf_view(&body));
        mcp_request_lost(server, id, true, "it ended the answer without an answer"); /* nothing, when it was answered */
    }
    buf_done(&body);
}

static void on_done(void *user, enum err err, const struct error *error)
{
    struct mcp_post *post = user;
    bool             sent = http_call_sent(post->http);
    post->http = NULL;
    if (post->id) {
        ended(post, sent, err, error->message);
        return;
    }
    /* A notification, or our answer to the server: nobody waits for it. */
    bool expired = !err && post->status == 404 && post->in_session;
    struct mcp_server *server = post->server;
    post_free(post);
    if (expired)
        mcp_fall(server, "the session has expired");
}

static void headers_of(struct mcp_server *server, const char *headers[HEADERS_MAX + 10], struct arena *arena)
{
    size_t n = 0;
    for (; server->endpoint.headers[n]; n++)
        headers[n] = server->endpoint.headers[n];
    headers[n++] = "Content-Type: application/json";
    headers[n++] = "Accept: application/json, text/event-stream";
    if (server->session.len)
        headers[n++] = arena_printf(arena, "Mcp-Session-Id: %s", server->session.p).p;
    if (server->protocol.len)
        headers[n++] = arena_printf(arena, "MCP-Protocol-Version: %s", server->protocol.p).p;
    headers[n] = NULL;
}

void mcp_http_send(struct mcp_server *server, struct span message, uint64_t id)
{
    const char      *headers[HEADERS_MAX + 10];
    struct arena     arena = { 0 };
    struct error     error = { 0 };
    struct mcp_post *post = mem_alloc(sizeof *post);
    *post = (struct mcp_post){ .next = server->posts, .server = server, .id = id, .in_session = server->session.len > 0 };
    sse_init(&post->events, MCP_MESSAGE_MAX);
    server->posts = post;
    headers_of(server, headers, &arena);
    struct http_call_config config = {
        .method = "POST",
        .url = server->endpoint.url,
        .headers = headers,
        .body = message,
        .trusted = true, /* the configuration names it */
        .idle_timeout_ms = server->timeout_ms > server->start_timeout_ms ? server->timeout_ms : server->start_timeout_ms,
        .max_bytes = MCP_MESSAGE_MAX,
        .on_header = on_header,
        .on_head = on_head,
        .on_data = on_data,
        .on_done = on_done,
        .user = post,
    };
    if (http_call_start(server->tools->client, &config, &post->http, &error)) {
        post_free(post);
        mcp_fall(server, error.message);
    }
    arena_done(&arena);
}

/* ---- the end ---- */

struct farewell {
    struct loop *loop;
    unsigned     left;
};

static void said(void *user, enum err err, const struct error *error)
{
    struct farewell *farewell = user;
    if (--farewell->left == 0)
        loop_stop(farewell->loop);
}

/* On a loop of its own: the process's runs no more. Whatever the servers answer is fine. */
void mcp_http_farewell(struct tools *tools)
{
    struct farewell     farewell = { 0 };
    struct http_client *client = NULL;
    for (struct mcp_server *server = tools->servers; server; server = server->next) {
        const char       *headers[HEADERS_MAX + 10];
        struct arena      arena = { 0 };
        struct http_call *call;
        if (!server->endpoint.url || !server->session.len)
            continue;
        if (!farewell.loop && (loop_new(loop_env(tools->loop), NULL, &farewell.loop, NULL) ||
                               http_client_new(farewell.loop, &client, NULL)))
            break;
        headers_of(server, headers, &arena);
        struct http_call_config config = { .method = "DELETE", .url = server->endpoint.url, .headers = headers, .trusted = true,
                                           .connect_timeout_ms = FAREWELL_MS, .total_timeout_ms = FAREWELL_MS, .on_done = said,
                                           .user = &farewell };
        farewell.left += http_call_start(client, &config, &call, NULL) == ERR_OK;
        arena_done(&arena);
    }
    if (farewell.left)
        loop_run(farewell.loop);
    http_client_free(client);
    loop_free(farewell.loop);
}
