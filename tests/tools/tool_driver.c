/* SPDX-License-Identifier: Apache-2.0 */
/* tool_driver.c - src/tool behind a pipe: reads commands, one JSON object a line, and says what became of them the same way.
 *
 * tool_driver CONFIG: CONFIG is a file like --config. Commands: {"op":"call","id","tool","arguments","key"?,"context"?},
 * {"op":"cancel","id"}, {"op":"list","id","names":[…]}, {"op":"check"}, {"op":"safe","tool"}. Answers: {"id","err","result","sent"},
 * {"check","err","detail"}, {"checked":true}, {"safe"}. At the end of its input everything is freed and it exits. */
#include "embed/config.h"
#include "tool/tool.h"
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct pending {
    struct pending   *next;
    struct driver    *driver;
    struct tool_call *call;
    struct span       id;
    struct arena      arena;
};

struct driver {
    struct loop        *loop;
    struct http_client *client;
    struct tools       *tools;
    struct pending     *pending;
    struct event       *readable;
    struct buf          input;
};

static void say(struct buf *line)
{
    buf_byte(line, '\n');
    if (write(1, line->p, line->len) != (ssize_t)line->len)
        abort();
    buf_done(line);
}

static void say_end(struct span id, enum err err, struct span result, bool sent)
{
    struct buf line = { 0 };
    struct jw  w = jw_on(&line);
    jw_obj(&w);
    jw_key(&w, "id");
    jw_raw(&w, id);
    jw_key(&w, "err");
    jw_cstr(&w, err_info(err)->name);
    jw_key(&w, "result");
    jw_raw(&w, result);
    jw_key(&w, "sent");
    jw_bool(&w, sent);
    jw_end(&w);
    say(&line);
}

static void forget(struct pending *pending)
{
    struct pending **p = &pending->driver->pending;
    while (*p != pending)
        p = &(*p)->next;
    *p = pending->next;
    arena_done(&pending->arena);
    free(pending);
}

static void on_end(void *user, enum err err, struct span result, bool sent)
{
    struct pending *pending = user;
    say_end(pending->id, err, result, sent);
    forget(pending);
}

static void start(struct driver *driver, struct jv command, bool list)
{
    struct pending *pending = mem_alloc(sizeof *pending);
    struct arena   *arena = &pending->arena;
    struct error    error = { 0 };
    enum err        err;
    *pending = (struct pending){ .next = driver->pending, .driver = driver };
    pending->id = arena_copy(arena, jv_raw(jv_get(command, "id")));
    driver->pending = pending;
    if (list) {
        err = tool_list(driver->tools, jv_raw(jv_get(command, "names")), on_end, pending, &pending->call, &error);
    } else {
        struct tool_call_config config = { .tool = jv_string(jv_get(command, "tool"), arena),
                                           .arguments = jv_raw(jv_get(command, "arguments")),
                                           .context = jv_raw(jv_get(command, "context")),
                                           .key = jv_string(jv_get(command, "key"), arena), .on_end = on_end, .user = pending };
        err = tool_start(driver->tools, &config, &pending->call, &error);
    }
    if (!err)
        return;
    struct buf text = { 0 };
    json_put_string(&text, span_of(error.message));
    say_end(pending->id, err, buf_view(&text), false);
    buf_done(&text);
    forget(pending);
}

static void cancel(struct driver *driver, struct span id)
{
    for (struct pending *pending = driver->pending; pending; pending = pending->next)
        if (span_eq(pending->id, id)) {
            tool_cancel(pending->call);
            forget(pending);
            return;
        }
}

static void on_check(void *user, struct span name, enum err err, struct span detail)
{
    struct buf line = { 0 };
    struct jw  w = jw_on(&line);
    jw_obj(&w);
    jw_key(&w, "check");
    jw_str(&w, name);
    jw_key(&w, "err");
    jw_cstr(&w, err_info(err)->name);
    jw_key(&w, "detail");
    jw_str(&w, detail);
    jw_end(&w);
    say(&line);
}

static void on_checked(void *user)
{
    struct buf line = { 0 };
    BUF_LIT(&line, "{\"checked\":true}");
    say(&line);
}

static void carry_out(struct driver *driver, struct span line)
{
    struct arena arena = { 0 };
    struct jv    command = json_read(line, &arena), op = jv_get(command, "op");
    struct span  tool = jv_string(jv_get(command, "tool"), &arena);
    if (jv_str_eq(op, "call") || jv_str_eq(op, "list")) {
        start(driver, command, jv_str_eq(op, "list"));
    } else if (jv_str_eq(op, "cancel")) {
        cancel(driver, jv_raw(jv_get(command, "id")));
    } else if (jv_str_eq(op, "check")) {
        tools_check(driver->tools, on_check, on_checked, driver);
    } else if (jv_str_eq(op, "safe")) {
        struct buf out = { 0 };
        buf_printf(&out, "{\"safe\":%s,\"approval\":%s}", tool_repeat_safe(driver->tools, tool) ? "true" : "false",
                   tool_needs_approval(driver->tools, tool) ? "true" : "false");
        say(&out);
    }
    arena_done(&arena);
}

static void on_input(evutil_socket_t fd, short what, void *user)
{
    struct driver *driver = user;
    char           data[4096];
    ssize_t        n = read(0, data, sizeof data);
    if (n == 0)
        loop_stop(driver->loop);
    for (ssize_t i = 0; i < n; i++) {
        if (data[i] != '\n') {
            buf_byte(&driver->input, data[i]);
            continue;
        }
        carry_out(driver, buf_view(&driver->input));
        driver->input.len = 0;
    }
}

int main(int argc, char **argv)
{
    struct driver driver = { 0 };
    struct config config = { 0 };
    struct error  error = { 0 };
    struct log    log = { .level = LOG_DEBUG, .fd = 2 };
    signal(SIGPIPE, SIG_IGN);
    enum err err = argc == 2 ? config_load(argv[1], &config, &error) : ERR_INVALID_PARAMETER;
    if (!err)
        err = loop_new(env_real(), &log, &driver.loop, &error);
    if (!err)
        err = http_client_new(driver.loop, &driver.client, &error);
    if (!err)
        err = config_outbound(&config, driver.client, &error);
    if (!err)
        err = tools_new(driver.loop, driver.client, config.tools, config.mcp_servers, &driver.tools, &error);
    if (err) {
        fprintf(stderr, "%s: %s\n", error.field, error.message);
        config_done(&config);
        http_client_free(driver.client);
        loop_free(driver.loop);
        return 1;
    }
    config_done(&config); /* nothing may point into it any more */
    driver.readable = event_new(loop_base(driver.loop), 0, EV_READ | EV_PERSIST, on_input, &driver);
    event_add(driver.readable, NULL);
    loop_run(driver.loop);
    event_free(driver.readable);
    while (driver.pending)
        forget(driver.pending);
    tools_free(driver.tools);
    http_client_free(driver.client);
    loop_free(driver.loop);
    buf_done(&driver.input);
    return 0;
}
