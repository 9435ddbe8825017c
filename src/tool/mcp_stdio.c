/* SPDX-License-Identifier: Apache-2.0 */
/* mcp_stdio.c - MCP over the standard streams of a child process: one message a line; its standard error goes to the log. */
#include "tool/mcp.h"
#include <stdio.h>

enum { LOG_LINE_MAX = 1000 };

static void on_out(void *user, struct span data)
{
    struct mcp_server *server = user;
    while (data.n && server->state != MCP_DOWN && !server->fall.due_us) {
        const char *end = memchr(data.p, '\n', data.n);
        size_t      n = end ? (size_t)(end - data.p) : data.n;
        if (server->line.len + n > MCP_MESSAGE_MAX) {
            mcp_fall(server, "it sent a message that is too large");
            return;
        }
        buf_put(&server->line, data.p, n);
        data = span_make(data.p + n + (end != NULL), data.n - n - (end != NULL));
        if (!end)
            return;
        struct buf line = server->line; /* ours while it is read: the session may change meanwhile */
        server->line = (struct buf){ 0 };
        struct span text = buf_view(&line);
        if (text.n && text.p[text.n - 1] == '\r')
            text.n--;
        if (text.n)
            mcp_take(server, text);
        buf_done(&line);
    }
}

static void on_err(void *user, struct span data)
{
    struct mcp_server *server = user;
    for (size_t i = 0; i < data.n; i++) {
        if (data.p[i] != '\n' && server->err_line.len < LOG_LINE_MAX) {
            buf_byte(&server->err_line, data.p[i]);
            continue;
        }
        if (server->err_line.len)
            log_line(loop_log(server->tools->loop), LOG_INFO, "mcp_server_says", "server=%.*s text=\"%.*s\"", SPAN_ARG(server->name),
                     SPAN_ARG(buf_view(&server->err_line)));
        server->err_line.len = 0;
    }
}

static void on_end(void *user, const char *how)
{
    struct mcp_server *server = user;
    char               why[100];
    server->child = NULL;
    snprintf(why, sizeof why, "its process %s", how);
    mcp_fall(server, why);
}

enum err mcp_stdio_open(struct mcp_server *server, struct error *error)
{
    struct child_config config = { .argv = server->argv, .env = server->env, .folder = server->folder, .max_unsent = MCP_UNSENT_MAX,
                                   .on_out = on_out, .on_err = on_err, .on_end = on_end, .user = server };
    server->line.len = server->err_line.len = 0;
    return child_start(server->tools->loop, &config, &server->child, error);
}

void mcp_stdio_send(struct mcp_server *server, struct span message)
{
    struct buf line = { 0 };
    if (!server->child)
        return;
    buf_span(&line, message);
    buf_byte(&line, '\n');
    if (child_write(server->child, buf_view(&line)))
        mcp_fall(server, "it does not read what it is sent");
    buf_done(&line);
}

void mcp_stdio_close(struct mcp_server *server, unsigned patience_ms)
{
    child_stop(TAKE(server->child), patience_ms);
    server->line.len = 0;
}
