/* SPDX-License-Identifier: Apache-2.0 */
/* mcp_config.c - the members of "mcp_servers": a command to start, or a URL. */
#include "tool/mcp.h"
#include <stdio.h>
#include <stdlib.h>

struct server_fields {
    struct span            cwd, approval;
    struct jv              command, env, env_from, repeat_safe, tools;
    struct endpoint_fields endpoint;
    int64_t                timeout_ms, start_timeout_ms, max_bytes;
};

#define AT(member) offsetof(struct server_fields, member)
static const struct field field_table[] = {
    { "command",          FIELD_ARRAY,  AT(command),               false, 0, 0 },
    { "env",              FIELD_OBJECT, AT(env),                   false, 0, 0 },
    { "env_from",         FIELD_ARRAY,  AT(env_from),              false, 0, 0 },
    { "cwd",              FIELD_STRING, AT(cwd),                   false, 1, 4096 },
    { "url",              FIELD_STRING, AT(endpoint.url),          false, 1, 4096 },
    { "headers",          FIELD_OBJECT, AT(endpoint.headers),      false, 0, 0 },
    { "api_key_env",      FIELD_STRING, AT(endpoint.api_key_env),  false, 1, 256 },
    { "api_key_file",     FIELD_STRING, AT(endpoint.api_key_file), false, 1, 4096 },
    { "timeout_ms",       FIELD_INT,    AT(timeout_ms),            false, 1, 86400000 },
    { "start_timeout_ms", FIELD_INT,    AT(start_timeout_ms),      false, 1, 86400000 },
    { "max_bytes",        FIELD_INT,    AT(max_bytes),             false, 1, 16 << 20 },
    { "approval",         FIELD_STRING, AT(approval),              false, 1, 16 },
    { "repeat_safe",      FIELD_ANY,    AT(repeat_safe),           false, 0, 0 },
    { "tools",            FIELD_ARRAY,  AT(tools),                 false, 0, 0 },
};
#undef AT

static bool plain(struct span text)
{
    return text.p && !(text.n && memchr(text.p, 0, text.n));
}

/* An array of texts; copied, so that it outlives the configuration. */
static enum err keep_names(struct tools *tools, struct jv names, const char *pointer, const char *member, struct jv *ret,
                           struct error *error)
{
    struct buf text = { 0 };
    if (!jv_is(names, JSON_ARRAY))
        return ERR_OK;
    for (struct jv_iter it = jv_iter(names); jv_step(&it);)
        if (!jv_is(it.value, JSON_STRING))
            return field_error(error, pointer, span_of(member), "must be an array of names");
    json_minify(names, &text);
    *ret = json_read(arena_copy(&tools->arena, buf_view(&text)), &tools->arena);
    buf_done(&text);
    return ERR_OK;
}

static enum err read_command(struct mcp_server *server, struct jv command, const char *pointer, struct error *error)
{
    struct arena *arena = &server->tools->arena;
    size_t        n = 0;
    for (struct jv_iter it = jv_iter(command); jv_step(&it);) {
        struct span word = jv_string(it.value, arena);
        if (!plain(word) || (n == 0 && !word.n) || n == MCP_ARGS_MAX)
            return field_error(error, pointer, SPAN("command"), "must be an array of 1 to %d texts", MCP_ARGS_MAX);
        server->argv[n++] = arena_copy(arena, word).p;
    }
    return n ? ERR_OK : field_error(error, pointer, SPAN("command"), "must be an array of 1 to %d texts", MCP_ARGS_MAX);
}

/* What every program wants, then what is configured. Nothing else is inherited: no key of a provider reaches a server by chance. */
static enum err read_env(struct mcp_server *server, const struct server_fields *want, const char *pointer, struct error *error)
{
    static const char *const usual[] = { "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM" };
    struct arena *arena = &server->tools->arena;
    size_t        n = 0;
    for (size_t i = 0; i < ARRAY_LEN(usual); i++)
        if (getenv(usual[i]) && jv_is(jv_get(want->env, usual[i]), JSON_NONE))
            server->env[n++] = arena_printf(arena, "%s=%s", usual[i], getenv(usual[i])).p;
    for (struct jv_iter it = jv_iter(want->env); jv_step(&it);) {
        struct span name = jv_string(it.name, arena), value = jv_string(it.value, arena);
        if (!plain(name) || !name.n || memchr(name.p, '=', name.n) || !plain(value) || n >= MCP_ENV_MAX)
            return field_error(error, pointer, SPAN("env"), "must be an object of at most %d texts", MCP_ENV_MAX - (int)ARRAY_LEN(usual));
        server->env[n++] = arena_printf(arena, "%.*s=%.*s", SPAN_ARG(name), SPAN_ARG(value)).p;
    }
    for (struct jv_iter it = jv_iter(want->env_from); jv_step(&it);) {
        struct span name = jv_string(it.value, arena);
        if (!plain(name) || !name.n || memchr(name.p, '=', name.n) || n >= MCP_ENV_MAX)
            return field_error(error, pointer, SPAN("env_from"), "must be an array of names of environment variables");
        const char *value = getenv(arena_copy(arena, name).p);
        if (!value) {
            server->endpoint.missing = arena_printf(arena, "the environment variable %.*s is not set", SPAN_ARG(name)).p;
            continue;
        }
        server->env[n++] = arena_printf(arena, "%.*s=%s", SPAN_ARG(name), value).p;
        tools_secret(server->tools, arena_copy(arena, span_of(value)));
    }
    return ERR_OK;
}

static enum err read_transport(struct mcp_server *server, const struct server_fields *want, const char *pointer, struct error *error)
{
    bool command = !jv_is(want->command, JSON_NONE);
    if (command == (want->endpoint.url.n > 0))
        return error_set(error, ERR_VALIDATION, pointer, "%.*s: must have either a command or a url", SPAN_ARG(server->name));
    if (!command) {
        if (!jv_is(want->env, JSON_NONE) || !jv_is(want->env_from, JSON_NONE) || want->cwd.n)
            return error_set(error, ERR_VALIDATION, pointer, "%.*s: env, env_from and cwd belong to a command", SPAN_ARG(server->name));
        return endpoint_configure(server->tools, &want->endpoint, pointer, &server->endpoint, error);
    }
    if (!jv_is(want->endpoint.headers, JSON_NONE) || want->endpoint.api_key_env.n || want->endpoint.api_key_file.n)
        return error_set(error, ERR_VALIDATION, pointer, "%.*s: headers and keys belong to a url", SPAN_ARG(server->name));
    if (want->cwd.n && !plain(want->cwd))
        return field_error(error, pointer, SPAN("cwd"), "is not the name of a folder");
    server->folder = want->cwd.n ? arena_copy(&server->tools->arena, want->cwd).p : NULL;
    enum err err = read_command(server, want->command, pointer, error);
    return err ? err : read_env(server, want, pointer, error);
}

static enum err read_repeat_safe(struct mcp_server *server, struct jv value, const char *pointer, struct error *error)
{
    if (jv_is(value, JSON_NONE) || jv_is(value, JSON_FALSE))
        return ERR_OK;
    if (jv_is(value, JSON_TRUE)) {
        server->repeat_safe_all = true;
        return ERR_OK;
    }
    if (!jv_is(value, JSON_ARRAY))
        return field_error(error, pointer, SPAN("repeat_safe"), "must be true, false or an array of names");
    return keep_names(server->tools, value, pointer, "repeat_safe", &server->repeat_safe, error);
}

static enum err add_server(struct tools *tools, struct span name, struct jv config, struct error *error)
{
    char                 pointer[sizeof "/mcp_servers/" + 64];
    struct server_fields want = { .timeout_ms = 60000, .start_timeout_ms = 60000, .max_bytes = 1 << 20, .approval = SPAN("never") };
    if (!name_is_fine(name, false))
        return field_error(error, "/mcp_servers", name, "a server's name is 1 to 64 letters, digits, '_' or '-'");
    snprintf(pointer, sizeof pointer, "/mcp_servers/%.*s", SPAN_ARG(name));
    for (const struct tool *tool = tools->list; tool; tool = tool->next)
        if (tool->name.n > name.n && tool->name.p[name.n] == '.' && memcmp(tool->name.p, name.p, name.n) == 0)
            return error_set(error, ERR_VALIDATION, pointer, "%.*s: the tool '%.*s' looks like one of this server", SPAN_ARG(name),
                             SPAN_ARG(tool->name));
    enum err err = fields_read(config, pointer, field_table, ARRAY_LEN(field_table), &tools->arena, &want, error);
    if (err)
        return err;
    if (!span_is(want.approval, "always") && !span_is(want.approval, "never"))
        return field_error(error, pointer, SPAN("approval"), "must be \"never\" or \"always\"");
    struct mcp_server **end = &tools->servers;
    while (*end)
        end = &(*end)->next;
    struct mcp_server *server = *end = ARENA_NEW(&tools->arena, struct mcp_server);
    server->tools = tools;
    server->name = arena_copy(&tools->arena, name);
    server->timeout_ms = (uint32_t)want.timeout_ms;
    server->start_timeout_ms = (uint32_t)want.start_timeout_ms;
    server->max_bytes = (uint64_t)want.max_bytes;
    server->approval = span_is(want.approval, "always");
    err = read_transport(server, &want, pointer, error);
    if (!err)
        err = read_repeat_safe(server, want.repeat_safe, pointer, error);
    return err ? err : keep_names(tools, want.tools, pointer, "tools", &server->allowed, error);
}

enum err mcp_configure(struct tools *tools, struct jv config, struct error *error)
{
    if (!jv_is(config, JSON_OBJECT) && !jv_is(config, JSON_NONE) && !jv_is(config, JSON_NULL))
        return error_set(error, ERR_VALIDATION, "/mcp_servers", "mcp_servers: must be an object");
    for (struct jv_iter it = jv_iter(config); jv_step(&it);) {
        enum err err = add_server(tools, jv_string(it.name, &tools->arena), it.value, error);
        if (err)
            return err;
    }
    return ERR_OK;
}
