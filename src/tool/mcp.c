/* SPDX-License-Identifier: Apache-2.0 */
/* mcp.c - the session with an MCP server: what is asked of it, and what becomes of it when the server does not play along. */
#include "tool/mcp.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    PAGES_MAX = 100,
    LIST_AGE_US = 60 * 1000 * 1000, /* a server over HTTP tells nobody when its list has changed */
    LIST_YOUNG_US = 100 * 1000,      /* a server that always says that its list has changed is not asked without end */
    BACKOFF_MS = 250,
    BACKOFF_MAX_MS = 30000,
    AGAIN_MAX = 2,
};

static const char newest_protocol[] = "2025-06-18";

static bool is_http(const struct mcp_server *server)
{
    return server->endpoint.url != NULL;
}

/* ---- names ---- */

static struct span tool_part(const struct mcp_server *server, struct span name)
{
    return span_make(name.p + server->name.n + 1, name.n - server->name.n - 1);
}

struct mcp_server *mcp_find(const struct tools *tools, struct span name)
{
    for (struct mcp_server *server = tools->servers; server; server = server->next)
        if (name.n > server->name.n + 1 && name.p[server->name.n] == '.' && memcmp(name.p, server->name.p, server->name.n) == 0)
            return server;
    return NULL;
}

static bool names_hold(struct jv names, struct span name)
{
    struct arena arena = { 0 };
    bool         found = false;
    for (struct jv_iter it = jv_iter(names); !found && jv_step(&it);)
        found = span_eq(jv_string(it.value, &arena), name);
    arena_done(&arena);
    return found;
}

static bool is_allowed(const struct mcp_server *server, struct span tool)
{
    return jv_is(server->allowed, JSON_NONE) || names_hold(server->allowed, tool);
}

static bool is_repeat_safe(const struct mcp_server *server, struct span tool)
{
    return server->repeat_safe_all || names_hold(server->repeat_safe, tool);
}

bool mcp_repeat_safe(const struct tools *tools, struct span name)
{
    const struct mcp_server *server = mcp_find(tools, name);
    return server && is_repeat_safe(server, tool_part(server, name));
}

bool mcp_needs_approval(const struct tools *tools, struct span name)
{
    const struct mcp_server *server = mcp_find(tools, name);
    return server && server->approval;
}

uint32_t mcp_timeout_ms(const struct mcp_server *server)
{
    return server->timeout_ms;
}

static const struct mcp_tool *listed_tool(const struct mcp_server *server, struct span name)
{
    for (size_t i = 0; is_allowed(server, name) && i < server->list_count; i++)
        if (span_eq(server->list[i].name, name))
            return &server->list[i];
    return NULL;
}

/* ---- requests ---- */

static struct mcp_request *request_new(struct mcp_server *server, enum mcp_what what, struct tool_call *call)
{
    struct mcp_request *request = mem_alloc(sizeof *request);
    *request = (struct mcp_request){ .next = server->requests, .id = ++server->next_id, .what = what, .call = call };
    server->requests = request;
    if (call)
        call->request = request;
    return request;
}

static struct mcp_request *request_take(struct mcp_server *server, uint64_t id)
{
    for (struct mcp_request **p = &server->requests; *p; p = &(*p)->next)
        if ((*p)->id == id) {
            struct mcp_request *request = *p;
            *p = request->next;
            if (request->call)
                request->call->request = NULL;
            return request;
        }
    return NULL;
}

static void send(struct mcp_server *server, uint64_t id, const char *method, struct span params)
{
    struct buf text = { 0 };
    rpc_write(&text, id, method, params);
    if (is_http(server))
        mcp_http_send(server, buf_view(&text), id);
    else
        mcp_stdio_send(server, buf_view(&text));
    buf_done(&text);
}

/* The client has nothing to offer but that it is there. */
static void answer_server(struct mcp_server *server, const struct rpc_message *message)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "jsonrpc");
    jw_cstr(&w, "2.0");
    jw_key(&w, "id");
    jw_raw(&w, message->raw_id);
    if (span_is(message->method, "ping")) {
        jw_key(&w, "result");
        jw_raw(&w, SPAN("{}"));
    } else {
        jw_key(&w, "error");
        jw_raw(&w, SPAN("{\"code\":-32601,\"message\":\"Method not found\"}"));
    }
    jw_end(&w);
    if (is_http(server))
        mcp_http_send(server, buf_view(&text), 0);
    else
        mcp_stdio_send(server, buf_view(&text));
    buf_done(&text);
}

/* ---- the queue ---- */

static struct tool_call *queue_pop(struct mcp_server *server)
{
    struct tool_call *call = server->queue;
    if (!call)
        return NULL;
    server->queue = call->wait_next;
    if (!server->queue)
        server->queue_tail = &server->queue;
    call->wait_next = NULL;
    return call;
}

static void queue_push(struct mcp_server *server, struct tool_call *call)
{
    call->server = server;
    call->wait_next = NULL;
    *server->queue_tail = call;
    server->queue_tail = &call->wait_next;
}

void mcp_let_go(struct tool_call *call)
{
    struct mcp_server *server = call->server;
    if (!server)
        return;
    for (struct tool_call **p = &server->queue; *p; p = &(*p)->wait_next)
        if (*p == call) {
            *p = call->wait_next;
            break;
        }
    server->queue_tail = &server->queue;
    while (*server->queue_tail)
        server->queue_tail = &(*server->queue_tail)->wait_next;
    if (call->request) {
        struct mcp_request *request = request_take(server, call->request->id);
        char                params[96];
        snprintf(params, sizeof params, "{\"requestId\":%llu,\"reason\":\"the call was cancelled\"}", (unsigned long long)request->id);
        if (is_http(server))
            mcp_http_drop(server, request->id);
        send(server, 0, "notifications/cancelled", span_of(params));
        free(request);
    }
    call->server = NULL;
}

static void work(struct mcp_server *server);

/* ---- the tools of a server ---- */

static bool schema_is_ours(struct jv schema, struct arena *arena)
{
    struct issues issues = { .arena = arena };
    struct buf    at = { 0 };
    json_schema_check(schema, &at, &issues);
    buf_done(&at);
    return issues.count == 0;
}

/* A schema may say more than we can check: then names that are required and the parts that we know are checked, and the server
 * checks the rest. */
static bool fits_partly(struct tool_call *call, struct jv schema)
{
    struct jv properties = jv_get(schema, "properties");
    for (struct jv_iter it = jv_iter(jv_get(schema, "required")); jv_is(jv_get(schema, "required"), JSON_ARRAY) && jv_step(&it);) {
        struct span name = jv_string(it.value, &call->arena);
        if (name.p && jv_is(jv_get_span(call->arguments, name), JSON_NONE)) {
            tool_fail_later(call, "invalid_arguments", false, "/%.*s: is required", SPAN_ARG(name));
            return false;
        }
    }
    for (struct jv_iter it = jv_iter(call->arguments); jv_step(&it);) {
        struct span   name = jv_string(it.name, &call->arena);
        struct jv     part = jv_get_span(properties, name);
        struct issues issues = { .arena = &call->arena };
        struct buf    at = { 0 };
        bool bad = jv_is(part, JSON_OBJECT) && schema_is_ours(part, &call->arena) && !json_schema_fits(part, it.value, &at, &issues);
        buf_done(&at);
        if (bad) {
            tool_fail_later(call, "invalid_arguments", false, "/%.*s: %.*s", SPAN_ARG(name),
                            SPAN_ARG(issues.count ? issues.items[0].message : SPAN("does not fit the schema")));
            return false;
        }
    }
    return true;
}

static void start_call(struct mcp_server *server, struct tool_call *call)
{
    struct span            name = tool_part(server, call->name);
    const struct mcp_tool *tool = listed_tool(server, name);
    if (!tool) {
        tool_fail_later(call, "unknown_tool", false, "the server %.*s offers no tool named '%.*s'", SPAN_ARG(server->name), SPAN_ARG(name));
        return;
    }
    struct jv schema = json_read(arena_copy(&call->arena, tool->schema), &call->arena);
    bool      fits = schema_is_ours(schema, &call->arena) ? arguments_fit(call, schema) : fits_partly(call, schema);
    if (!fits)
        return;
    struct mcp_request *request = request_new(server, MCP_CALL, call);
    struct buf          params = { 0 };
    struct jw           w = jw_on(&params);
    jw_obj(&w);
    jw_key(&w, "name");
    jw_str(&w, name);
    jw_key(&w, "arguments");
    jw_raw(&w, jv_raw(call->arguments));
    if (call->key.n) {
        jw_key(&w, "_meta");
        jw_obj(&w);
        jw_key(&w, "perdure.dev/idempotency-key");
        jw_str(&w, call->key);
        jw_end(&w);
    }
    jw_end(&w);
    call->sent = call->sent || !is_http(server); /* a pipe takes it at once; HTTP says it later */
    send(server, request->id, "tools/call", buf_view(&params));
    buf_done(&params);
}

static void put_contract(struct jw *w, const struct mcp_server *server, const struct mcp_tool *tool, struct buf *scratch)
{
    scratch->len = 0;
    buf_printf(scratch, "%.*s.%.*s", SPAN_ARG(server->name), SPAN_ARG(tool->name));
    jw_obj(w);
    jw_key(w, "name");
    jw_str(w, buf_view(scratch));
    if (tool->description.n || tool->title.n) {
        jw_key(w, "description");
        jw_str(w, tool->description.n ? tool->description : tool->title);
    }
    jw_key(w, "input_schema");
    jw_raw(w, tool->schema);
    jw_key(w, "repeat_safe");
    jw_bool(w, is_repeat_safe(server, tool->name));
    jw_key(w, "approval");
    jw_bool(w, server->approval);
    jw_end(w);
}

bool mcp_put_contracts(const struct tools *tools, struct span name, struct jw *w)
{
    const struct mcp_server *server = mcp_find(tools, name);
    struct buf               scratch = { 0 };
    if (!server)
        return false;
    struct span            part = tool_part(server, name);
    const struct mcp_tool *one = span_is(part, "*") ? NULL : listed_tool(server, part);
    if (one)
        put_contract(w, server, one, &scratch);
    for (size_t i = 0; span_is(part, "*") && i < server->list_count; i++)
        if (is_allowed(server, server->list[i].name))
            put_contract(w, server, &server->list[i], &scratch);
    buf_done(&scratch);
    return one || span_is(part, "*");
}

/* ---- up and down ---- */

static void ask_list(struct mcp_server *server, struct span cursor)
{
    struct buf params = { 0 };
    if (cursor.n) {
        struct jw w = jw_on(&params);
        jw_obj(&w);
        jw_key(&w, "cursor");
        jw_str(&w, cursor);
        jw_end(&w);
    }
    send(server, request_new(server, MCP_LIST, NULL)->id, "tools/list", buf_view(&params));
    buf_done(&params);
}

static void begin_list(struct mcp_server *server)
{
    server->state = MCP_LISTING;
    server->stale = false;
    server->page_count = server->page_number = 0;
    arena_done(&server->page_arena);
    server->pages = ARENA_ARRAY(&server->page_arena, struct mcp_tool, MCP_TOOLS_MAX);
    loop_timer_set(&server->timer, loop_now_us(server->tools->loop) + server->start_timeout_ms * 1000ull);
    ask_list(server, SPAN_NONE);
}

static void fail_queue(struct mcp_server *server, const char *why)
{
    for (struct tool_call *call; (call = queue_pop(server));) {
        call->server = NULL;
        tool_fail(call, "unavailable", true, "the MCP server %.*s: %s", SPAN_ARG(server->name), why);
    }
}

/* Everything that was on its way is lost; the next start waits for its time. */
static void go_down(struct mcp_server *server, const char *why)
{
    const struct log *log = loop_log(server->tools->loop);
    bool              starting = server->state != MCP_READY;
    log_line(log, LOG_WARN, "mcp_server_down", "server=%.*s reason=\"%s\"", SPAN_ARG(server->name), why);
    server->state = MCP_DOWN;
    loop_timer_clear(&server->timer);
    loop_timer_clear(&server->fall);
    if (is_http(server))
        mcp_http_close(server);
    else
        mcp_stdio_close(server, 0);
    server->failures++;
    uint64_t delay_ms = server->failures < 2 ? 0 : server->failures > 8 ? BACKOFF_MAX_MS : (uint64_t)BACKOFF_MS << (server->failures - 2);
    server->not_before_us = loop_now_us(server->tools->loop) + (delay_ms < BACKOFF_MAX_MS ? delay_ms : BACKOFF_MAX_MS) * 1000;
    while (server->requests) {
        struct mcp_request *request = request_take(server, server->requests->id);
        struct tool_call   *call = request->call;
        free(request);
        if (call)
            tool_fail(call, "unavailable", true, "the MCP server %.*s: %s", SPAN_ARG(server->name), why);
    }
    if (starting)
        fail_queue(server, why);
    work(server);
}

static void on_fall(struct loop_timer *timer)
{
    struct mcp_server *server = CONTAINER(timer, struct mcp_server, fall);
    go_down(server, server->fall_why);
}

void mcp_fall(struct mcp_server *server, const char *why)
{
    if (server->state == MCP_DOWN || server->fall.due_us)
        return;
    snprintf(server->fall_why, sizeof server->fall_why, "%s", why);
    loop_timer_set(&server->fall, 1);
}

static void initialize(struct mcp_server *server)
{
    struct buf params = { 0 };
    buf_printf(&params, "{\"protocolVersion\":\"%s\",\"capabilities\":{},\"clientInfo\":{\"name\":\"perdure\",\"version\":\"%s\"}}",
               newest_protocol, PERDURE_VERSION);
    send(server, request_new(server, MCP_INITIALIZE, NULL)->id, "initialize", buf_view(&params));
    buf_done(&params);
}

static void start_server(struct mcp_server *server)
{
    struct error error = { 0 };
    server->state = MCP_OPENING;
    server->listed = false;
    loop_timer_set(&server->timer, loop_now_us(server->tools->loop) + server->start_timeout_ms * 1000ull);
    if (server->endpoint.missing) {
        mcp_fall(server, server->endpoint.missing);
    } else if (!is_http(server) && mcp_stdio_open(server, &error)) {
        mcp_fall(server, error.message);
    } else {
        log_line(loop_log(server->tools->loop), LOG_INFO, "mcp_server_start", "server=%.*s", SPAN_ARG(server->name));
        initialize(server);
    }
}

/* The next thing that its queue needs. */
static void work(struct mcp_server *server)
{
    uint64_t now = loop_now_us(server->tools->loop);
    if (!server->queue || server->fall.due_us)
        return;
    if (server->state == MCP_DOWN) {
        loop_timer_set(&server->timer, server->not_before_us > now ? server->not_before_us : 1);
    } else if (server->state == MCP_READY && !mcp_listed(server)) {
        begin_list(server);
    } else if (server->state == MCP_READY) {
        for (struct tool_call *call; server->state == MCP_READY && (call = queue_pop(server));) {
            if (call->purpose == CALL_RUN) {
                start_call(server, call);
            } else {
                call->server = NULL;
                loop_timer_set(&call->timer, 1); /* list_go_on, in its own round */
            }
        }
    }
}

static void on_timer(struct loop_timer *timer)
{
    struct mcp_server *server = CONTAINER(timer, struct mcp_server, timer);
    if (server->state == MCP_DOWN && server->queue)
        start_server(server);
    else if (server->state == MCP_OPENING || server->state == MCP_LISTING)
        go_down(server, "it did not get ready in time");
}

bool mcp_listed(const struct mcp_server *server)
{
    uint64_t age_us = loop_now_us(server->tools->loop) - server->listed_us;
    bool     old = server->stale || (is_http(server) && age_us > LIST_AGE_US);
    return server->state == MCP_READY && server->listed && (!old || age_us < LIST_YOUNG_US);
}

void mcp_begin(struct tool_call *call, struct mcp_server *server)
{
    if (!server->timer.loop) {
        loop_timer_init(&server->timer, server->tools->loop, on_timer);
        loop_timer_init(&server->fall, server->tools->loop, on_fall);
        server->queue_tail = &server->queue;
    }
    queue_push(server, call);
    work(server);
}

/* ---- answers ---- */

static void take_initialize(struct mcp_server *server, struct jv result)
{
    struct arena arena = { 0 };
    struct span  version = jv_string(jv_get(result, "protocolVersion"), &arena);
    bool         fine = version.n == 10; /* a date */
    for (size_t i = 0; i < version.n; i++)
        fine = fine && ((version.p[i] >= '0' && version.p[i] <= '9') || version.p[i] == '-');
    if (!fine || span_cmp(version, SPAN("2024-11-05")) < 0) {
        mcp_fall(server, "it speaks no protocol version that is known here");
    } else if (!jv_is(jv_get(jv_get(result, "capabilities"), "tools"), JSON_OBJECT)) {
        mcp_fall(server, "it offers no tools");
    } else {
        server->protocol.len = 0;
        buf_span(&server->protocol, version);
        buf_byte(&server->protocol, 0);
        send(server, 0, "notifications/initialized", SPAN_NONE);
        begin_list(server);
    }
    arena_done(&arena);
}

static void take_list(struct mcp_server *server, struct jv result)
{
    struct span  cursor;
    struct error error;
    if (mcp_tools_read(result, &server->page_arena, server->pages, &server->page_count, &cursor, &error)) {
        mcp_fall(server, error.message);
        return;
    }
    if (cursor.n && ++server->page_number < PAGES_MAX) {
        ask_list(server, cursor);
        return;
    }
    arena_done(&server->list_arena);
    server->list_arena = server->page_arena;
    server->page_arena = (struct arena){ 0 };
    server->list = server->pages;
    server->list_count = server->page_count;
    server->listed = true;
    server->listed_us = loop_now_us(server->tools->loop);
    server->state = MCP_READY;
    loop_timer_clear(&server->timer);
    work(server);
}

static void take_result(struct mcp_server *server, struct tool_call *call, struct jv result)
{
    struct buf   out = { 0 };
    struct error error = { 0 };
    bool         failed = false;
    server->failures = 0;
    enum err    err = mcp_result_read(result, &out, &failed, &error);
    struct span text = arena_copy(&call->arena, buf_view(&out));
    buf_done(&out);
    if (err)
        tool_fail(call, "invalid_response", false, "%s", error.message);
    else if (text.n > server->max_bytes)
        tool_fail(call, "too_large", false, "the answer is larger than %llu bytes", (unsigned long long)server->max_bytes);
    else if (failed)
        tool_fail(call, "tool_error", false, "%.*s", SPAN_ARG(jv_string(json_read(text, &call->arena), &call->arena)));
    else
        tool_end(call, text);
}

/* -32602 is the protocol's word for bad arguments and unknown tools; a text from the server explains it. */
static void take_error(struct mcp_server *server, const struct mcp_request *request, const struct rpc_message *message)
{
    if (request->what != MCP_CALL) {
        char why[160];
        snprintf(why, sizeof why, "it answers %s with error %lld: %.*s", request->what == MCP_LIST ? "tools/list" : "initialize",
                 (long long)message->code, (int)(message->message.n < 80 ? message->message.n : 80), message->message.p);
        mcp_fall(server, why);
        return;
    }
    bool arguments = message->code == -32602;
    tool_fail(request->call, arguments ? "invalid_arguments" : "tool_error", false, "%.*s", SPAN_ARG(message->message));
}

static void take_answer(struct mcp_server *server, const struct rpc_message *message)
{
    struct mcp_request *request = message->id ? request_take(server, message->id) : NULL;
    if (!request)
        return; /* an answer to what was cancelled */
    if (message->kind == RPC_ERROR)
        take_error(server, request, message);
    else if (request->what == MCP_INITIALIZE)
        take_initialize(server, message->value);
    else if (request->what == MCP_LIST)
        take_list(server, message->value);
    else
        take_result(server, request->call, message->value);
    free(request);
}

static bool take_message(void *user, const struct rpc_message *message)
{
    struct mcp_server *server = user;
    if (message->kind == RPC_REQUEST)
        answer_server(server, message);
    else if (message->kind != RPC_NOTIFICATION)
        take_answer(server, message);
    else if (span_is(message->method, "notifications/tools/list_changed"))
        server->stale = true;
    return server->state != MCP_DOWN;
}

void mcp_take(struct mcp_server *server, struct span text)
{
    struct arena arena = { 0 };
    struct error error;
    if (rpc_read_text(text, &arena, take_message, server, &error)) {
        char why[200];
        snprintf(why, sizeof why, "it says something that is no message: %.120s", error.message);
        mcp_fall(server, why);
    }
    arena_done(&arena);
}

void mcp_request_lost(struct mcp_server *server, uint64_t id, bool sent, const char *why)
{
    struct mcp_request *request = request_take(server, id);
    if (!request)
        return;
    if (request->call) {
        request->call->sent = request->call->sent || sent;
        server->failures++;
        tool_fail(request->call, "unavailable", true, "the MCP server %.*s: %s", SPAN_ARG(server->name), why);
    } else {
        mcp_fall(server, why);
    }
    free(request);
}

void mcp_session_expired(struct mcp_server *server, uint64_t id)
{
    struct mcp_request *request = request_take(server, id);
    if (request && request->call && request->call->again++ < AGAIN_MAX) {
        queue_push(server, request->call); /* before the fall, which fails only what was on its way */
    } else if (request && request->call) {
        tool_fail(request->call, "unavailable", true, "the MCP server %.*s forgets its session again and again", SPAN_ARG(server->name));
    }
    free(request);
    mcp_fall(server, "the session has expired");
}

void mcp_free(struct tools *tools)
{
    mcp_http_farewell(tools);
    for (struct mcp_server *server = tools->servers; server; server = server->next) {
        while (server->requests)
            free(request_take(server, server->requests->id));
        if (server->timer.loop) {
            loop_timer_clear(&server->timer);
            loop_timer_clear(&server->fall);
        }
        if (is_http(server))
            mcp_http_close(server);
        else
            mcp_stdio_close(server, 300);
        arena_done(&server->list_arena);
        arena_done(&server->page_arena);
        buf_done(&server->line);
        buf_done(&server->err_line);
        buf_done(&server->session);
        buf_done(&server->protocol);
    }
}
