/* SPDX-License-Identifier: Apache-2.0 */
/* document.c - reads JSON or YAML; see document.h. */
#include "cli/document.h"
#include "cli/commands.h"
#include "cli/yaml.h"

static bool ends_in(const char *word, const char *end)
{
    size_t n = strlen(word), m = strlen(end);
    return n > m && strcmp(word + n - m, end) == 0;
}

bool document_name(const char *word)
{
    return ends_in(word, ".json") || ends_in(word, ".yaml") || ends_in(word, ".yml");
}

static bool looks_like_json(const char *path, struct span text)
{
    size_t i = 0;
    if (document_name(path))
        return ends_in(path, ".json");
    while (i < text.n && strchr(" \t\r\n", text.p[i]))
        i++;
    return i < text.n && text.p[i] == '{';
}

static enum err parse(const char *path, struct span text, uint32_t depth, struct arena *arena, struct jv *ret, struct error *error)
{
    struct json *doc = ARENA_NEW(arena, struct json);
    struct buf   json = { 0 };
    enum err     err = ERR_OK;
    if (!looks_like_json(path, text)) {
        err = yaml_to_json(text, &json, error);
        text = arena_copy(arena, buf_view(&json));
        buf_done(&json);
    }
    if (err == ERR_OK)
        err = json_parse(text, &(struct json_limits){ .depth = depth }, arena, doc, error);
    if (err == ERR_OK)
        *ret = json_root(doc);
    return err;
}

enum err document_read(const char *path, uint32_t depth, struct arena *arena, struct jv *ret, struct error *error)
{
    struct buf text = { 0 };
    enum err   err = cli_read(path, &text, error);
    if (err == ERR_OK)
        err = parse(path, arena_copy(arena, buf_view(&text)), depth, arena, ret, error);
    buf_done(&text);
    return err;
}
