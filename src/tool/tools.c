/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - the registry, and the life of a call: names, arguments, the time limit, exactly one end. */
#include "base/utf8.h"
#include "tool/inner.h"
#include "tool/mcp.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { MESSAGE_MAX = 2000 };

/* ---- the registry ---- */

struct tool *tool_find(const struct tools *tools, struct span name)
{
    struct tool *tool = tools->list;
    while (tool && !span_eq(tool->name, name))
        tool = tool->next;
    return tool;
}

enum err tools_new(struct loop *loop, struct http_client *client, struct jv config_tools, struct jv config_mcp, struct tools **ret,
                   struct error *error)
{
    struct tools *tools = mem_alloc(sizeof *tools);
    tools->loop = loop;
    tools->client = client;
    enum err err = tools_configure(tools, config_tools, error);
    if (!err)
        err = mcp_configure(tools, config_mcp, error);
    if (err) {
        tools_free(tools);
        return err;
    }
    *ret = tools;
    return ERR_OK;
}

void tools_free(struct tools *tools)
{
    if (!tools)
        return;
    tools_check_cancel(tools);
    while (tools->calls)
        tool_cancel(tools->calls); /* takes itself off the list, which the analyzer misses: NOLINT(clang-analyzer-unix.Malloc) */
    mcp_free(tools);
    arena_done(&tools->arena);
    free(tools);
}

bool tool_known(const struct tools *tools, struct span name)
{
    return tool_find(tools, name) || mcp_find(tools, name);
}

bool tool_repeat_safe(const struct tools *tools, struct span name)
{
    const struct tool *tool = tool_find(tools, name);
    return tool ? tool->repeat_safe : mcp_repeat_safe(tools, name);
}

bool tool_needs_approval(const struct tools *tools, struct span name)
{
    const struct tool *tool = tool_find(tools, name);
    return tool ? tool->approval : mcp_needs_approval(tools, name);
}

void tools_secrets(const struct tools *tools, void (*each)(void *user, struct span secret), void *user)
{
    for (size_t i = 0; i < tools->secret_count; i++)
        each(user, tools->secrets[i]);
}

/* ---- texts ---- */

struct span clean_text(struct span text, size_t max, struct arena *arena)
{
    struct buf  out = { 0 };
    const char *end = text.n ? text.p + text.n : text.p;
    for (const char *p = text.p; p < end && out.len <= max;) {
        uint32_t cp;
        size_t   n = utf8_decode(p, end, false, &cp);
        if (n)
            buf_put(&out, p, n);
        else
            BUF_LIT(&out, "\xef\xbf\xbd");
        p += n ? n : 1;
    }
    if (out.len > max)
        out.len = utf8_cut(out.p, max);
    struct span clean = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return clean;
}

struct json_limits tool_json_limits(void)
{
    return (struct json_limits){ .depth = 64, .lone_surrogates = true };
}

/* ---- the end of a call ---- */

/* From here on nothing calls it any more. */
static void call_close(struct tool_call *call)
{
    loop_timer_clear(&call->timer);
    tool_exchange_done(&call->exchange);
    mcp_let_go(call);
    if (call->prev)
        call->prev->next = call->next;
    else
        call->tools->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
}

static void call_free(struct tool_call *call)
{
    buf_done(&call->exchange.body);
    arena_done(&call->arena);
    free(call);
}

void tool_cancel(struct tool_call *call)
{
    if (!call)
        return;
    call_close(call);
    call_free(call);
}

void tool_end(struct tool_call *call, struct span result)
{
    call_close(call);
    call->on_end(call->user, ERR_OK, result, true);
    call_free(call);
}

static void fail_with(struct tool_call *call, const struct tool_fault *fault)
{
    struct buf result = { 0 };
    struct jw  w = jw_on(&result);
    jw_obj(&w);
    jw_key(&w, "code");      jw_cstr(&w, fault->code);
    jw_key(&w, "category");  jw_cstr(&w, "tool");
    jw_key(&w, "message");   jw_str(&w, fault->message);
    jw_key(&w, "retryable"); jw_bool(&w, fault->retryable);
    jw_key(&w, "source");    jw_cstr(&w, "tool");
    jw_end(&w);
    call->sent = call->sent || (call->exchange.http && http_call_sent(call->exchange.http));
    call_close(call);
    call->on_end(call->user, ERR_TOOL, buf_view(&result), call->sent);
    buf_done(&result);
    call_free(call);
}

static struct tool_fault *PRINTF(4, 0) fault_make(struct tool_call *call, const char *code, bool retryable, const char *format,
                                                  va_list args)
{
    char               text[MESSAGE_MAX];
    struct tool_fault *fault = ARENA_NEW(&call->arena, struct tool_fault);
    vsnprintf(text, sizeof text, format, args);
    *fault = (struct tool_fault){ code, clean_text(span_of(text), MESSAGE_MAX, &call->arena), retryable };
    return fault;
}

void tool_fail(struct tool_call *call, const char *code, bool retryable, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tool_fault *fault = fault_make(call, code, retryable, format, args);
    va_end(args);
    fail_with(call, fault);
}

void tool_fail_later(struct tool_call *call, const char *code, bool retryable, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    call->fault = fault_make(call, code, retryable, format, args);
    va_end(args);
    loop_timer_set(&call->timer, 1);
}

static void on_timer(struct loop_timer *timer)
{
    struct tool_call *call = CONTAINER(timer, struct tool_call, timer);
    if (call->fault)
        fail_with(call, call->fault);
    else if (call->purpose == CALL_LIST)
        list_go_on(call);
    else
        tool_fail(call, "timeout", true, "the tool did not answer within its time limit");
}

/* ---- the beginning of a call ---- */

static struct tool_call *call_new(struct tools *tools, void (*on_end)(void *, enum err, struct span, bool), void *user)
{
    struct tool_call *call = mem_alloc(sizeof *call);
    call->tools = tools;
    call->on_end = on_end;
    call->user = user;
    loop_timer_init(&call->timer, tools->loop, on_timer);
    call->next = tools->calls;
    if (call->next)
        call->next->prev = call;
    tools->calls = call;
    return call;
}

/* Copied: the call outlives the caller's bytes. */
static struct jv call_json(struct tool_call *call, struct span text)
{
    struct json_limits limits = tool_json_limits();
    struct json       *doc = ARENA_NEW(&call->arena, struct json);
    if (json_parse(arena_copy(&call->arena, text), &limits, &call->arena, doc, NULL))
        return (struct jv){ 0 };
    return json_root(doc);
}

bool arguments_fit(struct tool_call *call, struct jv schema)
{
    struct issues issues = { .arena = &call->arena };
    struct buf    at = { 0 };
    bool          fit = json_schema_fits(schema, call->arguments, &at, &issues);
    buf_done(&at);
    if (fit)
        return true;
    if (issues.count)
        tool_fail_later(call, "invalid_arguments", false, "%.*s: %.*s",
                        SPAN_ARG(issues.items[0].pointer.n ? issues.items[0].pointer : SPAN("/")),
                        SPAN_ARG(issues.items[0].message));
    else
        tool_fail_later(call, "invalid_arguments", false, "the arguments do not fit the schema");
    return false;
}

/* A header holds it, so it must be one line of visible ASCII. */
static bool key_is_fine(struct span key)
{
    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] <= 0x20 || key.p[i] >= 0x7f)
            return false;
    return key.n <= 255;
}

enum err tool_start(struct tools *tools, const struct tool_call_config *config, struct tool_call **ret, struct error *error)
{
    struct tool       *tool = tool_find(tools, config->tool);
    struct mcp_server *server = tool ? NULL : mcp_find(tools, config->tool);
    if (!tool && !server)
        return error_set(error, ERR_TOOL, "/tool", "there is no tool named '%.*s'", SPAN_ARG(config->tool));
    if (!key_is_fine(config->key))
        return error_set(error, ERR_TOOL, "/key", "the idempotency key must be one line of visible ASCII");
    struct tool_call *call = call_new(tools, config->on_end, config->user);
    call->tool = tool;
    call->name = arena_copy(&call->arena, config->tool);
    call->key = arena_copy(&call->arena, config->key);
    call->context = arena_copy(&call->arena, config->context);
    call->arguments = call_json(call, config->arguments);
    uint32_t limit = tool ? tool->timeout_ms : mcp_timeout_ms(server);
    loop_timer_set(&call->timer, loop_now_us(tools->loop) + limit * 1000ull);
    if (!jv_is(call->arguments, JSON_OBJECT))
        tool_fail_later(call, "invalid_arguments", false, "the arguments must be a JSON object");
    else if (!tool)
        mcp_begin(call, server);
    else if (arguments_fit(call, tool->schema_jv))
        tool->kind->begin(call);
    *ret = call;
    return ERR_OK;
}

/* ---- contracts ---- */

static void put_contract(struct jw *w, const struct tool *tool)
{
    jw_obj(w);
    jw_key(w, "name");
    jw_str(w, tool->name);
    if (tool->version.n) {
        jw_key(w, "version");
        jw_str(w, tool->version);
    }
    if (tool->description.n) {
        jw_key(w, "description");
        jw_str(w, tool->description);
    }
    jw_key(w, "input_schema");
    jw_raw(w, tool->schema);
    jw_key(w, "repeat_safe");
    jw_bool(w, tool->repeat_safe);
    jw_key(w, "approval");
    jw_bool(w, tool->approval);
    jw_end(w);
}

/* Each server that is asked for must have told its tools; the call comes back here when one has. */
void list_go_on(struct tool_call *call)
{
    for (struct jv_iter it = jv_iter(call->names); jv_step(&it);) {
        struct span        name = jv_string(it.value, &call->arena);
        struct mcp_server *server = tool_find(call->tools, name) ? NULL : mcp_find(call->tools, name);
        if (server && !mcp_listed(server)) {
            mcp_begin(call, server);
            return;
        }
    }
    struct buf out = { 0 };
    struct jw  w = jw_on(&out);
    jw_obj(&w);
    jw_key(&w, "tools");
    jw_arr(&w);
    for (struct jv_iter it = jv_iter(call->names); jv_step(&it);) {
        struct span        name = jv_string(it.value, &call->arena);
        const struct tool *tool = tool_find(call->tools, name);
        if (tool) {
            put_contract(&w, tool);
        } else if (!mcp_put_contracts(call->tools, name, &w)) {
            buf_done(&out);
            tool_fail(call, "unknown_tool", false, "there is no tool named '%.*s'", SPAN_ARG(name));
            return;
        }
    }
    jw_arr_end(&w);
    jw_end(&w);
    struct span result = arena_copy(&call->arena, buf_view(&out));
    buf_done(&out);
    tool_end(call, result);
}

enum err tool_list(struct tools *tools, struct span names, void (*on_end)(void *user, enum err err, struct span result, bool sent),
                   void *user, struct tool_call **ret, struct error *error)
{
    struct tool_call *call = call_new(tools, on_end, user);
    call->purpose = CALL_LIST;
    call->names = call_json(call, names);
    enum err err = jv_is(call->names, JSON_ARRAY) ? ERR_OK : error_set(error, ERR_TOOL, "/tools", "the names of tools must be an array");
    for (struct jv_iter it = jv_iter(call->names); !err && jv_step(&it);) {
        struct span name = jv_string(it.value, &call->arena);
        if (!name.n || (!tool_find(tools, name) && !mcp_find(tools, name)))
            err = error_set(error, ERR_TOOL, "/tools", "there is no tool named '%.*s'", SPAN_ARG(name));
    }
    if (err) {
        tool_cancel(call);
        return err;
    }
    loop_timer_set(&call->timer, 1);
    *ret = call;
    return ERR_OK;
}
