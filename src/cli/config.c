/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - reads the configuration file; what its parts mean is decided where they are used. */
#include "cli/config.h"
#include "base/fields.h"
#include "cli/commands.h"

enum { CONFIG_MAX = 1 << 20 };

enum err config_load(const char *path, struct config *ret, struct error *error)
{
    static const struct json_limits limits = { .depth = 32 };
    *ret = (struct config){ 0 };
    if (!path)
        return ERR_OK;
    enum err e = cli_read(path, &ret->text, error);
    if (!e && ret->text.len > CONFIG_MAX)
        e = error_set(error, ERR_TOO_LARGE, "config", "%s is larger than %d bytes", path, CONFIG_MAX);
    if (!e)
        e = json_parse(buf_view(&ret->text), &limits, &ret->arena, &ret->doc, error);
    if (e)
        return e;
    struct jv root = json_root(&ret->doc);
    if (!jv_is(root, JSON_OBJECT))
        return error_set(error, ERR_VALIDATION, "config", "%s must hold a JSON object", path);
    const struct { const char *name; struct jv *to; } members[] = {
        { "providers",   &ret->providers },
        { "prices",      &ret->prices },
        { "tools",       &ret->tools },
        { "mcp_servers", &ret->mcp_servers },
        { "outbound",    &ret->outbound },
        { "redact",      &ret->redact },
    };
    for (struct jv_iter it = jv_iter(root); jv_step(&it);) {
        size_t i = 0;
        while (i < ARRAY_LEN(members) && !jv_str_eq(it.name, members[i].name))
            i++;
        if (i == ARRAY_LEN(members)) {
            struct span name = jv_string(it.name, &ret->arena);
            return error_set(error, ERR_VALIDATION, "config", "%s: unknown member \"%.*s\"", path, SPAN_ARG(name));
        }
        *members[i].to = it.value;
    }
    return ERR_OK;
}

enum err config_outbound(const struct config *config, struct http_client *client, struct error *error)
{
    struct outbound_fields { struct jv allow; } want = { 0 };
    static const struct field fields[] = { { "allow", FIELD_ARRAY, offsetof(struct outbound_fields, allow), false, 0, 0 } };
    struct outbound          *outbound = NULL;
    struct arena              arena = { 0 };
    enum err                  err = ERR_OK;
    if (!jv_is(config->outbound, JSON_NONE))
        err = fields_read(config->outbound, "/outbound", fields, ARRAY_LEN(fields), &arena, &want, error);
    if (!err)
        err = outbound_new(want.allow, &outbound, error);
    if (!err)
        http_client_allow(client, outbound);
    arena_done(&arena);
    return err;
}

void config_done(struct config *config)
{
    arena_done(&config->arena);
    buf_done(&config->text);
}
