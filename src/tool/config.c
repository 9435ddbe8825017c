/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - the members of "tools" in the configuration file: contracts, endpoints, and the secrets that they need.
 *
 * Secrets are read once, when the process starts, from the environment or a file. A missing one is no error here: the other
 * tools work without it, `perdure doctor` tells, and calls of this tool fail with not_configured. */
#include "tool/inner.h"
#include "base/secret.h"
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    TIMEOUT_MS = 30000,
    MAX_BYTES = 1 << 20,
    FETCH_BYTES = 256 << 10,
};

struct tool_fields {
    struct span            kind, description, version, approval;
    struct jv              input_schema, languages;
    struct endpoint_fields endpoint;
    int64_t                timeout_ms, max_bytes, max_redirects, default_limit, default_timeout_ms, max_timeout_ms;
    bool                   repeat_safe;
};

#define AT(member) offsetof(struct tool_fields, member)
static const struct field field_table[] = {
    { "kind",               FIELD_STRING, AT(kind),                  true,  1, 64 },
    { "description",        FIELD_STRING, AT(description),           false, 0, 4096 },
    { "version",            FIELD_STRING, AT(version),               false, 1, 64 },
    { "approval",           FIELD_STRING, AT(approval),              false, 1, 16 },
    { "repeat_safe",        FIELD_BOOL,   AT(repeat_safe),           false, 0, 0 },
    { "input_schema",       FIELD_OBJECT, AT(input_schema),          false, 0, 0 },
    { "timeout_ms",         FIELD_INT,    AT(timeout_ms),            false, 1, 86400000 },
    { "max_bytes",          FIELD_INT,    AT(max_bytes),             false, 1, 64 << 20 },
    { "max_redirects",      FIELD_INT,    AT(max_redirects),         false, 0, REDIRECTS_MAX },
    { "url",                FIELD_STRING, AT(endpoint.url),          false, 1, 4096 },
    { "headers",            FIELD_OBJECT, AT(endpoint.headers),      false, 0, 0 },
    { "api_key_env",        FIELD_STRING, AT(endpoint.api_key_env),  false, 1, 256 },
    { "api_key_file",       FIELD_STRING, AT(endpoint.api_key_file), false, 1, 4096 },
    { "secret_env",         FIELD_STRING, AT(endpoint.secret_env),   false, 1, 256 },
    { "secret_file",        FIELD_STRING, AT(endpoint.secret_file),  false, 1, 4096 },
    { "default_limit",      FIELD_INT,    AT(default_limit),         false, 1, 1000 },
    { "languages",          FIELD_ARRAY,  AT(languages),             false, 0, 0 },
    { "default_timeout_ms", FIELD_INT,    AT(default_timeout_ms),    false, 1, 86400000 },
    { "max_timeout_ms",     FIELD_INT,    AT(max_timeout_ms),        false, 1, 86400000 },
};
#undef AT

/* Members that only some kinds have. */
static const struct { const char *member, *kinds; } only[] = {
    { "url",                "http web_search code_exec" },
    { "headers",            "http web_search code_exec" },
    { "api_key_env",        "http web_search code_exec" },
    { "api_key_file",       "http web_search code_exec" },
    { "secret_env",         "http code_exec" },
    { "secret_file",        "http code_exec" },
    { "repeat_safe",        "http code_exec" },
    { "input_schema",       "http" },
    { "max_redirects",      "http_fetch" },
    { "default_limit",      "web_search" },
    { "languages",          "code_exec" },
    { "default_timeout_ms", "code_exec" },
    { "max_timeout_ms",     "code_exec" },
};

bool name_is_fine(struct span name, bool dots)
{
    if (name.n == 0 || name.n > 64)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-' && !(dots && c == '.'))
            return false;
    }
    return true;
}

/* ---- secrets ---- */

void tools_secret(struct tools *tools, struct span secret)
{
    if (secret.n && tools->secret_count < SECRETS_MAX)
        tools->secrets[tools->secret_count++] = secret;
}

static struct span read_secret(struct tools *tools, struct span env, struct span file, const char **ret_missing)
{
    struct span secret = env.n    ? secret_from_env(env, "secret", &tools->arena, ret_missing)
                         : file.n ? secret_from_file(file, "secret", &tools->arena, ret_missing)
                                  : SPAN_NONE;
    tools_secret(tools, secret);
    return secret;
}

/* ---- endpoints ---- */

static bool is_reserved(const char *name, bool has_key)
{
    static const char *const reserved[] = { "host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "expect",
                                            "idempotency-key", "perdure-timestamp", "perdure-signature", "mcp-session-id",
                                            "mcp-protocol-version" };
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        if (strcasecmp(name, reserved[i]) == 0)
            return true;
    return has_key && strcasecmp(name, "authorization") == 0;
}

static enum err add_headers(struct tools *tools, const struct endpoint_fields *want, const char *pointer, struct endpoint *ret,
                            struct error *error)
{
    struct arena *arena = &tools->arena;
    size_t        count = 0;
    bool          has_key = want->api_key_env.n || want->api_key_file.n;
    for (struct jv_iter it = jv_iter(want->headers); jv_step(&it); count++) {
        struct span name = arena_copy(arena, jv_string(it.name, arena)), value = arena_copy(arena, jv_string(it.value, arena));
        if (!http_header_name_valid(name) || is_reserved(name.p, has_key))
            return field_error(error, pointer, name, "is no header that can be set here");
        if (!jv_is(it.value, JSON_STRING) || value.n > 8192 || !span_one_line(value) || count == HEADERS_MAX)
            return field_error(error, pointer, name, "must be a string on one line; at most %d headers", HEADERS_MAX);
        ret->headers[count] = arena_printf(arena, "%.*s: %.*s", SPAN_ARG(name), SPAN_ARG(value)).p;
        if (http_header_is_secret(name.p))
            tools_secret(tools, value);
    }
    struct span key = read_secret(tools, want->api_key_env, want->api_key_file, &ret->missing);
    if (key.n)
        ret->headers[count] = arena_printf(arena, "Authorization: Bearer %.*s", SPAN_ARG(key)).p;
    return ERR_OK;
}

enum err endpoint_configure(struct tools *tools, const struct endpoint_fields *want, const char *pointer, struct endpoint *ret,
                            struct error *error)
{
    struct error why;
    struct span  host, texts[] = { want->url, want->api_key_env, want->api_key_file, want->secret_env, want->secret_file };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].n && memchr(texts[i].p, 0, texts[i].n))
            return error_set(error, ERR_VALIDATION, pointer, "a text of an endpoint holds a NUL");
    if (want->api_key_env.n && want->api_key_file.n)
        return field_error(error, pointer, SPAN("api_key_file"), "cannot stand beside api_key_env");
    if (want->secret_env.n && want->secret_file.n)
        return field_error(error, pointer, SPAN("secret_file"), "cannot stand beside secret_env");
    if (!want->url.n)
        return field_error(error, pointer, SPAN("url"), "is required");
    ret->url = arena_copy(&tools->arena, want->url).p;
    if (outbound_url(ret->url, &tools->arena, &host, &why))
        return field_error(error, pointer, SPAN("url"), "%s", why.message);
    ret->sign_key = read_secret(tools, want->secret_env, want->secret_file, &ret->missing);
    return add_headers(tools, want, pointer, ret, error);
}

/* ---- contracts ---- */

static struct jv keep_json(struct tools *tools, struct span text)
{
    return json_read(arena_copy(&tools->arena, text), &tools->arena);
}

static void keep_schema(struct tools *tools, struct tool *tool, struct span text)
{
    tool->schema_jv = keep_json(tools, text);
    tool->schema = jv_raw(tool->schema_jv);
}

static enum err read_schema(struct tools *tools, struct tool *tool, struct jv schema, const char *pointer, struct error *error)
{
    struct issues issues = { .arena = &tools->arena };
    struct buf    text = { 0 };
    if (jv_is(schema, JSON_NONE)) {
        keep_schema(tools, tool, SPAN("{\"type\":\"object\"}"));
        return ERR_OK;
    }
    json_minify(schema, &text);
    keep_schema(tools, tool, buf_view(&text));
    text.len = 0;
    json_schema_check(tool->schema_jv, &text, &issues);
    buf_done(&text);
    if (issues.count)
        return field_error(error, pointer, SPAN("input_schema"), "%.*s: %.*s", SPAN_ARG(issues.items[0].pointer),
                           SPAN_ARG(issues.items[0].message));
    if (!jv_str_eq(jv_get(tool->schema_jv, "type"), "object"))
        return field_error(error, pointer, SPAN("input_schema"), "must have the type object");
    return ERR_OK;
}

static void builtin_schema(struct tools *tools, struct tool *tool, const struct buf *manifest)
{
    struct jv schema = jv_get(jv_get(keep_json(tools, buf_view(manifest)), "inputSchema"), "schema");
    keep_schema(tools, tool, jv_raw(schema));
    /* Its own check says what is wrong in the words of the contract, and unknown members are ignored. */
    tool->schema_jv = keep_json(tools, SPAN("{\"type\":\"object\"}"));
}

static enum err read_languages(struct tool *tool, struct jv languages, const char *pointer, struct error *error)
{
    for (struct jv_iter it = jv_iter(languages); jv_step(&it);) {
        unsigned i = 0;
        while (i < LANGUAGE_COUNT && !jv_str_eq(it.value, builtin_languages[i]))
            i++;
        if (i == LANGUAGE_COUNT)
            return field_error(error, pointer, SPAN("languages"), "may hold javascript, typescript, python, bash and shell");
        tool->code.languages |= 1u << i;
    }
    if (!tool->code.languages)
        tool->code.languages = (1u << LANGUAGE_COUNT) - 1;
    return ERR_OK;
}

static const struct tool_kind *kind_find(struct span name)
{
    static const struct tool_kind *const kinds[] = { &kind_http, &kind_http_fetch, &kind_web_search, &kind_code_exec };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (span_is(name, kinds[i]->name))
            return kinds[i];
    return NULL;
}

static bool kind_has(const char *kinds, struct span kind)
{
    const char *at = memmem(kinds, strlen(kinds), kind.p, kind.n);
    return at && (at == kinds || at[-1] == ' ') && (at[kind.n] == ' ' || at[kind.n] == 0);
}

static enum err check_members(struct jv config, struct span kind, const char *pointer, struct error *error)
{
    for (size_t i = 0; i < ARRAY_LEN(only); i++)
        if (!jv_is(jv_get(config, only[i].member), JSON_NONE) && !kind_has(only[i].kinds, kind))
            return field_error(error, pointer, span_of(only[i].member), "a tool of the kind %.*s has no such member", SPAN_ARG(kind));
    return ERR_OK;
}

static enum err fill(struct tools *tools, struct tool *tool, const struct tool_fields *want, const char *pointer, struct error *error)
{
    struct buf manifest = { 0 };
    enum err   err = ERR_OK;
    tool->timeout_ms = (uint32_t)want->timeout_ms;
    tool->max_bytes = (uint64_t)want->max_bytes;
    tool->repeat_safe = want->repeat_safe;
    tool->approval = span_is(want->approval, "always");
    tool->description = arena_copy(&tools->arena, want->description);
    tool->version = arena_copy(&tools->arena, want->version);
    tool->default_limit = want->default_limit;
    tool->max_redirects = want->max_redirects;
    tool->code.default_timeout_ms = want->default_timeout_ms;
    tool->code.max_timeout_ms = want->max_timeout_ms;
    if (tool->kind != &kind_http_fetch)
        err = endpoint_configure(tools, &want->endpoint, pointer, &tool->endpoint, error);
    if (!err)
        err = read_languages(tool, want->languages, pointer, error);
    if (err)
        return err;
    if (tool->kind == &kind_http)
        return read_schema(tools, tool, want->input_schema, pointer, error);
    if (tool->kind == &kind_http_fetch) {
        keep_schema(tools, tool, SPAN("{\"type\":\"object\",\"properties\":{\"url\":{\"type\":\"string\",\"minLength\":1,"
                                      "\"maxLength\":8192}},\"required\":[\"url\"],\"additionalProperties\":false}"));
        if (!tool->description.n)
            tool->description = SPAN("Gets a page of the public web and returns its text.");
        tool->repeat_safe = true;
        return ERR_OK;
    }
    if (tool->kind == &kind_web_search) {
        web_search_manifest(&manifest);
        tool->repeat_safe = true;
    } else {
        code_exec_manifest(&tool->code, &manifest);
    }
    builtin_schema(tools, tool, &manifest);
    struct jv identity = jv_get(keep_json(tools, buf_view(&manifest)), "identity");
    if (!tool->description.n)
        tool->description = jv_string(jv_get(identity, "description"), &tools->arena);
    if (!tool->version.n)
        tool->version = jv_string(jv_get(identity, "version"), &tools->arena);
    buf_done(&manifest);
    return ERR_OK;
}

static struct tool *tool_add(struct tools *tools, struct span name, const struct tool_kind *kind)
{
    struct tool **end = &tools->list;
    while (*end)
        end = &(*end)->next;
    *end = ARENA_NEW(&tools->arena, struct tool);
    (*end)->name = arena_copy(&tools->arena, name);
    (*end)->kind = kind;
    return *end;
}

static struct tool_fields defaults(const struct tool_kind *kind)
{
    return (struct tool_fields){ .approval = SPAN("never"), .timeout_ms = TIMEOUT_MS, .max_redirects = 5, .default_limit = 10,
                                 .max_bytes = kind == &kind_http_fetch ? FETCH_BYTES : MAX_BYTES };
}

static enum err add_configured(struct tools *tools, struct span name, struct jv config, struct error *error)
{
    char pointer[sizeof "/tools/" + 64];
    if (!name_is_fine(name, true))
        return field_error(error, "/tools", name, "a tool's name is 1 to 64 letters, digits, '_', '-' or '.'");
    snprintf(pointer, sizeof pointer, "/tools/%.*s", SPAN_ARG(name));
    if (!jv_is(config, JSON_OBJECT))
        return error_set(error, ERR_VALIDATION, pointer, "must be an object");
    struct span             kind_name = jv_string(jv_get(config, "kind"), &tools->arena);
    const struct tool_kind *kind = kind_find(kind_name);
    struct tool_fields      want = defaults(kind);
    enum err err = fields_read(config, pointer, field_table, ARRAY_LEN(field_table), &tools->arena, &want, error);
    if (err)
        return err;
    if (!kind)
        return field_error(error, pointer, SPAN("kind"), "there is no kind '%.*s'", SPAN_ARG(kind_name));
    if ((err = check_members(config, kind_name, pointer, error)))
        return err;
    if (!span_is(want.approval, "always") && !span_is(want.approval, "never"))
        return field_error(error, pointer, SPAN("approval"), "must be \"never\" or \"always\"");
    return fill(tools, tool_add(tools, name, kind), &want, pointer, error);
}

enum err tools_configure(struct tools *tools, struct jv config, struct error *error)
{
    if (!jv_is(config, JSON_OBJECT) && !jv_is(config, JSON_NONE) && !jv_is(config, JSON_NULL))
        return error_set(error, ERR_VALIDATION, "/tools", "tools: must be an object");
    if (jv_is(jv_get(config, "http_fetch"), JSON_NONE)) {
        struct tool_fields want = defaults(&kind_http_fetch);
        enum err err = fill(tools, tool_add(tools, SPAN("http_fetch"), &kind_http_fetch), &want, "/tools/http_fetch", error);
        assert(!err);
    }
    for (struct jv_iter it = jv_iter(config); jv_step(&it);) {
        enum err err = add_configured(tools, jv_string(it.name, &tools->arena), it.value, error);
        if (err)
            return err;
    }
    return ERR_OK;
}
