/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - reads the configuration file; what its parts mean is decided where they are used. */
#include "cli/config.h"
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
    for (struct jv_iter it = jv_iter(root); jv_step(&it);)
        if (!jv_str_eq(it.name, "providers")) {
            struct span name = jv_string(it.name, &ret->arena);
            return error_set(error, ERR_VALIDATION, "config", "%s: unknown member \"%.*s\"", path, SPAN_ARG(name));
        }
    ret->providers = jv_get(root, "providers");
    return ERR_OK;
}

void config_done(struct config *config)
{
    arena_done(&config->arena);
    buf_done(&config->text);
}
