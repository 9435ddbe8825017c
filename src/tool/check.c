/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - looks at each tool and MCP server in turn, for `perdure doctor`.
 *
 * A tool with an endpoint is not called: a call may have effects. What is told is whether its secrets are there. An MCP server
 * is started and asked for its tools. */
#include "tool/mcp.h"
#include <stdio.h>
#include <stdlib.h>

struct tool_check {
    struct tools            *tools;
    const struct tool       *tool;   /* whose turn it is; then the servers */
    const struct mcp_server *server;
    struct tool_call        *call;
    struct loop_timer        timer;
    void (*each)(void *user, struct span name, enum err err, struct span detail);
    void (*done)(void *user);
    void *user;
};

void tools_check_cancel(struct tools *tools)
{
    struct tool_check *check = TAKE(tools->check);
    if (!check)
        return;
    loop_timer_clear(&check->timer);
    tool_cancel(check->call);
    free(check);
}

static void tell_tool(struct tool_check *check, const struct tool *tool)
{
    struct buf text = { 0 };
    if (tool->endpoint.missing)
        buf_printf(&text, "%s", tool->endpoint.missing);
    else if (tool->endpoint.url)
        buf_printf(&text, "%s, posts to %s", tool->kind->name, tool->endpoint.url);
    else
        buf_printf(&text, "%s, built in", tool->kind->name);
    check->each(check->user, tool->name, tool->endpoint.missing ? ERR_UNAUTHENTICATED : ERR_OK, buf_view(&text));
    buf_done(&text);
}

static void on_list(void *user, enum err err, struct span result, bool sent)
{
    struct tool_check *check = user;
    struct arena       arena = { 0 };
    struct jv          value = json_read(result, &arena);
    struct buf         text = { 0 };
    const struct mcp_server *server = check->server;
    check->call = NULL;
    check->server = server->next;
    if (err)
        buf_span(&text, jv_string(jv_get(value, "message"), &arena));
    else
        buf_printf(&text, "MCP server, offers %zu tools", jv_count(jv_get(value, "tools")));
    loop_timer_set(&check->timer, 1);
    check->each(check->user, server->name, err, buf_view(&text));
    buf_done(&text);
    arena_done(&arena);
}

static void check_next(struct loop_timer *timer)
{
    struct tool_check *check = CONTAINER(timer, struct tool_check, timer);
    if (check->tool) {
        const struct tool *tool = check->tool;
        check->tool = tool->next;
        loop_timer_set(&check->timer, 1);
        tell_tool(check, tool);
    } else if (check->server) {
        struct buf   names = { 0 };
        struct error error;
        buf_printf(&names, "[\"%.*s.*\"]", SPAN_ARG(check->server->name));
        enum err err = tool_list(check->tools, buf_view(&names), on_list, check, &check->call, &error);
        assert(!err); /* the server is configured */
        buf_done(&names);
    } else {
        void (*done)(void *user) = check->done;
        void *user = check->user;
        tools_check_cancel(check->tools);
        done(user);
    }
}

void tools_check(struct tools *tools, void (*each)(void *user, struct span name, enum err err, struct span detail),
                 void (*done)(void *user), void *user)
{
    assert(!tools->check);
    struct tool_check *check = tools->check = mem_alloc(sizeof *check);
    *check = (struct tool_check){ .tools = tools, .tool = tools->list, .server = tools->servers, .each = each, .done = done, .user = user };
    loop_timer_init(&check->timer, tools->loop, check_next);
    loop_timer_set(&check->timer, 1);
}
