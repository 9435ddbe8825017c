/* SPDX-License-Identifier: Apache-2.0 */
/* provider_config.c - one member of "providers" of --config: what is allowed, the key, and what must never be shown.
 *
 * A key is read once, when the process starts. A missing one is no error here: the other providers work without it, and
 * `perdure doctor` tells. */
#include "base/secret.h"
#include "base/utf8.h"
#include "model/provider.h"
#include <strings.h>

enum { URL_MAX = 2048, SECRET_MIN = 4 };

struct provider_fields {
    struct span kind, base_url, api_key_env, api_key_file;
    int64_t     connect_timeout_ms, idle_timeout_ms;
    struct jv   headers;
    bool        stream;
    struct span max_tokens_name, thinking;
};

#define AT(member) offsetof(struct provider_fields, member)
static const struct field provider_field_table[] = {
    { "kind",               FIELD_STRING, AT(kind),               true,  1, 64 },
    { "base_url",           FIELD_STRING, AT(base_url),           true,  1, URL_MAX },
    { "api_key_env",        FIELD_STRING, AT(api_key_env),        false, 1, 256 },
    { "api_key_file",       FIELD_STRING, AT(api_key_file),       false, 1, 4096 },
    { "connect_timeout_ms", FIELD_INT,    AT(connect_timeout_ms), false, 1, 86400000 },
    { "idle_timeout_ms",    FIELD_INT,    AT(idle_timeout_ms),    false, 1, 86400000 },
    { "headers",            FIELD_OBJECT, AT(headers),            false, 0, 0 },
    { "stream",             FIELD_BOOL,   AT(stream),             false, 0, 0 },
    { "max_tokens_name",    FIELD_STRING, AT(max_tokens_name),    false, 1, 64 },
    { "thinking",           FIELD_STRING, AT(thinking),           false, 1, 64 },
};
#undef AT

/* ---- secrets ---- */

static void add_secret(struct provider_http *http, struct span secret)
{
    if (secret.n >= SECRET_MIN && http->secret_count < SECRETS_MAX)
        http->secrets[http->secret_count++] = secret;
}

static size_t secret_at(const struct provider_http *http, const char *p, const char *end)
{
    size_t longest = 0;
    for (size_t i = 0; i < http->secret_count; i++) {
        struct span secret = http->secrets[i];
        if (secret.n > longest && secret.n <= (size_t)(end - p) && memcmp(p, secret.p, secret.n) == 0)
            longest = secret.n;
    }
    return longest;
}

struct span provider_clean_text(const struct provider *provider, struct span text, size_t max, struct arena *arena)
{
    struct buf  out = { 0 };
    const char *end = text.n ? text.p + text.n : text.p;
    for (const char *p = text.p; p < end && out.len <= max;) {
        uint32_t cp;
        size_t   n = secret_at(&provider->http, p, end);
        if (n) {
            BUF_LIT(&out, "***");
        } else if ((n = utf8_decode(p, end, false, &cp))) {
            buf_put(&out, p, n);
        } else {
            buf_byte(&out, '?');
            n = 1;
        }
        p += n;
    }
    if (out.len > max)
        out.len = utf8_cut(out.p, max);
    struct span clean = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return clean;
}

/* ---- the key ---- */

static struct span read_key(const struct provider_fields *want, struct arena *arena, const char **ret_missing)
{
    if (want->api_key_env.n)
        return secret_from_env(want->api_key_env, "key", arena, ret_missing);
    if (want->api_key_file.n)
        return secret_from_file(want->api_key_file, "key", arena, ret_missing);
    return SPAN_NONE;
}

/* ---- headers ---- */

static bool name_is(struct span name, const char *other)
{
    return name.n == strlen(other) && strncasecmp(name.p, other, name.n) == 0;
}

/* `header` is a line, or its beginning: "Name: …". */
static bool is_name_of(struct span name, const char *header)
{
    return name.n == strcspn(header, ":") && strncasecmp(name.p, header, name.n) == 0;
}

/* What the client and the kind write themselves. */
static bool is_reserved(struct span name, bool has_key, const char *key_header)
{
    static const char *const reserved[] = { "host", "content-length", "content-type", "transfer-encoding", "connection",
                                            "accept", "expect" };
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        if (name_is(name, reserved[i]))
            return true;
    return has_key && is_name_of(name, key_header);
}

static enum err add_headers(struct provider *provider, struct jv headers, bool has_key, const char *pointer, struct arena *arena,
                            struct error *error)
{
    struct provider_http *http = &provider->http;
    size_t count = 0;
    if (!jv_is(headers, JSON_OBJECT))
        return ERR_OK;
    for (struct jv_iter it = jv_iter(headers); jv_step(&it);) {
        struct span name = jv_string(it.name, arena), value = jv_string(it.value, arena);
        if (!http_header_name_valid(name))
            return field_error(error, pointer, name, "is not the name of a header");
        if (is_reserved(name, has_key, provider->ops->key_header))
            return field_error(error, pointer, name, "is written by the server itself");
        if (!value.p || value.n > 8192 || !span_one_line(value))
            return field_error(error, pointer, name, "must be a string on one line");
        if (count == HEADERS_MAX)
            return field_error(error, pointer, name, "there are more than %d headers", HEADERS_MAX);
        http->headers[count++] = arena_printf(arena, "%.*s: %.*s", SPAN_ARG(name), SPAN_ARG(value)).p;
        const char *name_text = arena_copy(arena, name).p;
        if (http_header_is_secret(name_text))
            add_secret(http, arena_copy(arena, value));
    }
    return ERR_OK;
}

/* There is room behind HEADERS_MAX. */
static void add_line(struct provider_http *http, const char *line)
{
    size_t count = 0;
    while (http->headers[count])
        count++;
    assert(count < ARRAY_LEN(http->headers) - 1);
    http->headers[count] = line;
}

static void add_key(struct provider *provider, struct span key, struct arena *arena)
{
    if (!key.n)
        return;
    add_line(&provider->http, arena_printf(arena, "%s%.*s", provider->ops->key_header, SPAN_ARG(key)).p);
    add_secret(&provider->http, key);
}

/* The version of the protocol that is spoken here, unless the configuration names another. */
static void add_version(struct provider *provider, struct jv headers, struct arena *arena)
{
    const char *line = provider->ops->version_header;
    if (!line)
        return;
    if (jv_is(headers, JSON_OBJECT))
        for (struct jv_iter it = jv_iter(headers); jv_step(&it);)
            if (is_name_of(jv_string(it.name, arena), line))
                return;
    add_line(&provider->http, line);
}

/* ---- the address ---- */

/* Plain: what is added behind it must end up in the path, and a name and password in it would be shown. */
static const char *url_trouble(struct span url)
{
    size_t scheme = url.n > 7 && strncmp(url.p, "http://", 7) == 0 ? 7 : url.n > 8 && strncmp(url.p, "https://", 8) == 0 ? 8 : 0;
    if (!scheme || url.p[scheme] == '/')
        return "must begin with http:// or https:// and a host";
    bool in_host = true;
    for (size_t i = scheme; i < url.n; i++) {
        unsigned char c = (unsigned char)url.p[i];
        if (c <= 0x20 || c >= 0x7f || strchr("?#\\\"<>", c))
            return "must be a plain address without query, fragment and spaces";
        in_host = in_host && c != '/';
        if (in_host && c == '@')
            return "must not hold a name or password; use api_key_env or headers";
    }
    return NULL;
}

static struct span without_slash(struct span url)
{
    while (url.n && url.p[url.n - 1] == '/')
        url.n--;
    return url;
}

/* ---- all of it ---- */

static const struct provider_ops *kind_find(const struct provider_ops *const *kinds, struct span kind)
{
    for (; *kinds; kinds++)
        if (!(*kinds)->fixed_name && span_is(kind, (*kinds)->kind))
            return *kinds;
    return NULL;
}

static bool holds_nul(struct span text)
{
    return text.n && memchr(text.p, 0, text.n);
}

static enum err check_fields(const struct provider_fields *want, const char *pointer, struct error *error)
{
    const char *trouble = url_trouble(want->base_url);
    if (trouble)
        return field_error(error, pointer, SPAN("base_url"), "%s", trouble);
    if (want->api_key_env.n && want->api_key_file.n)
        return field_error(error, pointer, SPAN("api_key_file"), "cannot stand beside api_key_env");
    if (holds_nul(want->api_key_env))
        return field_error(error, pointer, SPAN("api_key_env"), "is not the name of an environment variable");
    if (holds_nul(want->api_key_file))
        return field_error(error, pointer, SPAN("api_key_file"), "is not the name of a file");
    return ERR_OK;
}

/* What only one kind has. */
static enum err read_dialect(struct provider *provider, const struct provider_fields *want, const char *pointer,
                             struct error *error)
{
    struct provider_http *http = &provider->http;
    http->whole = !want->stream;
    http->max_completion_tokens = span_is(want->max_tokens_name, "max_completion_tokens");
    http->thinking_budget = span_is(want->thinking, "budget");
    if (want->max_tokens_name.n && provider->ops != &provider_openai_chat)
        return field_error(error, pointer, SPAN("max_tokens_name"), "only the kind openai-chat has it");
    if (want->max_tokens_name.n && !http->max_completion_tokens && !span_is(want->max_tokens_name, "max_tokens"))
        return field_error(error, pointer, SPAN("max_tokens_name"), "must be max_tokens or max_completion_tokens");
    if (want->thinking.n && provider->ops != &provider_anthropic)
        return field_error(error, pointer, SPAN("thinking"), "only the kind anthropic has it");
    if (want->thinking.n && !http->thinking_budget && !span_is(want->thinking, "adaptive"))
        return field_error(error, pointer, SPAN("thinking"), "must be adaptive or budget");
    return ERR_OK;
}

enum err provider_configure(struct provider *provider, struct jv config, const char *pointer, struct arena *arena,
                            const struct provider_ops *const *kinds, struct error *error)
{
    struct provider_fields want = { .stream = true };
    struct provider_http  *http = &provider->http;
    enum err err = fields_read(config, pointer, provider_field_table, ARRAY_LEN(provider_field_table), arena, &want, error);
    if (err)
        return err;
    provider->ops = kind_find(kinds, want.kind);
    if (!provider->ops)
        return field_error(error, pointer, SPAN("kind"), "there is no kind '%.*s'", SPAN_ARG(want.kind));
    if ((err = check_fields(&want, pointer, error)) || (err = read_dialect(provider, &want, pointer, error)))
        return err;

    bool        has_key = want.api_key_env.n || want.api_key_file.n;
    const char *headers_pointer = arena_printf(arena, "%s/headers", pointer).p;
    if ((err = add_headers(provider, want.headers, has_key, headers_pointer, arena, error)))
        return err;
    add_key(provider, read_key(&want, arena, &http->missing_key), arena);
    add_version(provider, want.headers, arena);
    http->base_url = arena_copy(arena, without_slash(want.base_url));
    http->connect_timeout_ms = (uint32_t)want.connect_timeout_ms;
    http->idle_timeout_ms = (uint32_t)want.idle_timeout_ms;
    return ERR_OK;
}
