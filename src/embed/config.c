/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - reads the configuration file; what its parts mean is decided where they are used. */
#include "embed/config.h"
#include "base/fields.h"
#include "workflow/budget.h"
#include <errno.h>
#include <stdio.h>

enum { CONFIG_MAX = 1 << 20 };

/* As far as it is not too long. */
static enum err read_file(const char *path, struct buf *out, struct error *error)
{
    bool  standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "re");
    if (!file)
        return error_set(error, ERR_IO, "", "%s: %s", path, strerror(errno));
    buf_reserve(out, CONFIG_MAX + 1);
    out->len = fread(out->p, 1, CONFIG_MAX + 1, file);
    bool failed = ferror(file);
    if (!standard)
        fclose(file);
    return failed ? error_set(error, ERR_IO, "", "%s cannot be read", path) : ERR_OK;
}

/* ret->text is what there is to read. */
static enum err config_read(const char *name, struct config *ret, struct error *error)
{
    static const struct json_limits limits = { .depth = 32 };
    enum err                        e = ERR_OK;
    if (ret->text.len > CONFIG_MAX)
        return error_set(error, ERR_TOO_LARGE, "config", "%s is larger than %d bytes", name, CONFIG_MAX);
    if ((e = json_parse(buf_view(&ret->text), &limits, &ret->arena, &ret->doc, error)))
        return e;
    struct jv root = json_root(&ret->doc);
    if (!jv_is(root, JSON_OBJECT))
        return error_set(error, ERR_VALIDATION, "config", "%s must hold a JSON object", name);
    const struct { const char *name; struct jv *to; } members[] = {
        { "providers",   &ret->providers },
        { "prices",      &ret->prices },
        { "tools",       &ret->tools },
        { "mcp_servers", &ret->mcp_servers },
        { "outbound",    &ret->outbound },
        { "redact",      &ret->redact },
        { "budgets",     &ret->budgets },
    };
    for (struct jv_iter it = jv_iter(root); jv_step(&it);) {
        size_t i = 0;
        while (i < ARRAY_LEN(members) && !jv_str_eq(it.name, members[i].name))
            i++;
        if (i == ARRAY_LEN(members)) {
            struct span member = jv_string(it.name, &ret->arena);
            return error_set(error, ERR_VALIDATION, "config", "%s: unknown member \"%.*s\"", name, SPAN_ARG(member));
        }
        *members[i].to = it.value;
    }
    return ERR_OK;
}

enum err config_load(const char *path, struct config *ret, struct error *error)
{
    *ret = (struct config){ 0 };
    if (!path)
        return ERR_OK;
    enum err e = read_file(path, &ret->text, error);
    return e ? e : config_read(path, ret, error);
}

enum err config_parse(struct span text, struct config *ret, struct error *error)
{
    *ret = (struct config){ 0 };
    if (!text.p)
        return ERR_OK;
    buf_span(&ret->text, text);
    return config_read("the configuration", ret, error);
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

static enum err read_budget(struct jv budget, const char *pointer, struct plan_budget *ret, struct error *error)
{
    struct arena       arena = { 0 };
    struct issues      issues = { .arena = &arena };
    struct budget_text text = { 0 };
    struct buf         at = { 0 };
    enum err           e = ERR_OK;
    budget_read(budget, &arena, &at, &issues, &text);
    *ret = text.budget;
    if (issues.count) {
        char field[64];
        struct span member = issues.items[0].pointer;
        size_t skip = member.n < sizeof "/budget" - 1 ? member.n : sizeof "/budget" - 1; /* its name in a definition */
        snprintf(field, sizeof field, "%s%.*s", pointer, (int)(member.n - skip), member.p + skip);
        e = error_set(error, ERR_VALIDATION, field, "%.*s", SPAN_ARG(issues.items[0].message));
    }
    buf_done(&at);
    arena_done(&arena);
    return e;
}

enum err config_budgets(const struct config *config, struct plan_budget *ret_run, struct plan_budget *ret_day, struct error *error)
{
    struct budget_fields { struct jv run, day; } want = { 0 };
    static const struct field fields[] = { { "run", FIELD_OBJECT, offsetof(struct budget_fields, run), false, 0, 0 },
                                           { "workspace_day", FIELD_OBJECT, offsetof(struct budget_fields, day), false, 0, 0 } };
    struct arena              arena = { 0 };
    enum err                  e = ERR_OK;
    *ret_run = *ret_day = (struct plan_budget){ 0 };
    if (!jv_is(config->budgets, JSON_NONE))
        e = fields_read(config->budgets, "/budgets", fields, ARRAY_LEN(fields), &arena, &want, error);
    if (!e)
        e = read_budget(want.run, "/budgets/run", ret_run, error);
    if (!e)
        e = read_budget(want.day, "/budgets/workspace_day", ret_day, error);
    arena_done(&arena);
    return e;
}

void config_done(struct config *config)
{
    arena_done(&config->arena);
    buf_done(&config->text);
}
