/* SPDX-License-Identifier: Apache-2.0 */
/* redact.c - finds all secrets in one pass.
 *
 * Each secret gives a few patterns (how it may be written). A bit per pair of bytes says whether some pattern begins so; most bytes of
 * most texts cost one look at it. In JSON a match may only begin where a character begins, never within an escape, so that what is
 * left is JSON again. */
#include "base/redact.h"
#include "base/fields.h"
#include <stdlib.h>
#include <strings.h>

struct pattern {
    struct span text;
    bool        json; /* may stand inside a JSON text: holds no quote that is not escaped */
};

struct redact {
    struct arena    arena;
    struct pattern *patterns; /* longest first */
    size_t          count, cap, longest;
    struct span    *fields;
    size_t          field_count;
    uint8_t         pairs[65536 / 8]; /* first two bytes of the patterns */
};

static const char mark[] = "[redacted]";

/* ---- what is looked for ---- */

struct redact *redact_new(void)
{
    return mem_alloc(sizeof(struct redact));
}

void redact_free(struct redact *redact)
{
    if (!redact)
        return;
    free(redact->patterns);
    arena_done(&redact->arena);
    free(redact);
}

static unsigned pair_of(const char *p)
{
    return (unsigned)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

static void add_pattern(struct redact *redact, struct span text, bool json)
{
    assert(text.p && text.n >= 2);
    size_t at = 0;
    for (size_t i = 0; i < redact->count; i++)
        if (span_eq(redact->patterns[i].text, text)) {
            redact->patterns[i].json = redact->patterns[i].json || json;
            return;
        }
    if (redact->count == redact->cap) {
        redact->cap = redact->cap ? redact->cap * 2 : 16;
        redact->patterns = mem_grow(redact->patterns, redact->cap * sizeof redact->patterns[0]);
    }
    while (at < redact->count && redact->patterns[at].text.n >= text.n)
        at++;
    memmove(redact->patterns + at + 1, redact->patterns + at, (redact->count - at) * sizeof redact->patterns[0]);
    redact->patterns[at] = (struct pattern){ arena_copy(&redact->arena, text), json };
    redact->count++;
    redact->longest = text.n > redact->longest ? text.n : redact->longest;
    redact->pairs[pair_of(text.p) / 8] |= (uint8_t)(1u << pair_of(text.p) % 8);
}

static void unquote(struct buf *text)
{
    memmove(text->p, text->p + 1, text->len - 1);
    text->len -= 2;
}

/* As JSON writes it, with minimal escapes or in ASCII, slashes escaped or not. */
static void add_escaped(struct redact *redact, struct span secret, unsigned depth)
{
    for (unsigned form = 0; form < 4; form++) {
        struct buf text = { 0 }, slashed = { 0 };
        (form & 1 ? json_put_string_ascii : json_put_string)(&text, secret);
        unquote(&text);
        for (size_t i = 0; i < text.len; i++) {
            if (form & 2 && text.p[i] == '/')
                buf_byte(&slashed, '\\');
            buf_byte(&slashed, text.p[i]);
        }
        add_pattern(redact, buf_view(&slashed), true);
        if (depth)
            add_escaped(redact, buf_view(&slashed), depth - 1);
        buf_done(&text);
        buf_done(&slashed);
    }
}

void redact_add(struct redact *redact, struct span secret)
{
    if (secret.n < REDACT_SECRET_MIN)
        return;
    add_pattern(redact, secret, !memchr(secret.p, '"', secret.n) && !memchr(secret.p, '\\', secret.n));
    add_escaped(redact, secret, 1);
}

/* The engine's own payloads would not be what they are without these. */
static bool is_reserved(struct span name)
{
    static const char *const reserved[] = { "p", "v", "us", "kind", "rev", "seed", "values", "id", "type", "seq", "node", "status", "step",
                                            "epoch", "input", "output", "error", "code", "message", "category", "source", "retryable",
                                            "tool", "name", "model", "usage", "text", "finish_reason" };
    size_t n = name.n;
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        if (n == strlen(reserved[i]) && strncasecmp(name.p, reserved[i], n) == 0)
            return true;
    return n > 3 && strncasecmp(name.p + n - 3, "_id", 3) == 0;
}

enum err redact_configure(struct redact *redact, struct jv config, struct error *error)
{
    struct members { struct jv fields, secrets_env; } want = { 0 };
    static const struct field table[] = {
        { "fields",      FIELD_ARRAY, offsetof(struct members, fields),      false, 0, 0 },
        { "secrets_env", FIELD_ARRAY, offsetof(struct members, secrets_env), false, 0, 0 },
    };
    if (jv_is(config, JSON_NONE))
        return ERR_OK;
    enum err err = fields_read(config, "/redact", table, ARRAY_LEN(table), &redact->arena, &want, error);
    if (err)
        return err;
    redact->fields = ARENA_ARRAY(&redact->arena, struct span, jv_count(want.fields) + 1);
    for (struct jv_iter it = jv_iter(want.fields); jv_step(&it);) {
        struct span name = jv_string(it.value, &redact->arena);
        if (!name.n || memchr(name.p, '"', name.n) || memchr(name.p, '\\', name.n))
            return error_set(error, ERR_VALIDATION, "/redact/fields", "fields: must be an array of plain names");
        if (is_reserved(name))
            return error_set(error, ERR_VALIDATION, "/redact/fields", "fields: \"%.*s\" is a name that the engine needs", SPAN_ARG(name));
        redact->fields[redact->field_count++] = arena_copy(&redact->arena, name);
    }
    for (struct jv_iter it = jv_iter(want.secrets_env); jv_step(&it);) {
        struct span name = jv_string(it.value, &redact->arena);
        if (!name.n || memchr(name.p, 0, name.n))
            return error_set(error, ERR_VALIDATION, "/redact/secrets_env", "secrets_env: must be an array of names");
        const char *secret = getenv(arena_copy(&redact->arena, name).p);
        if (!secret || strlen(secret) < REDACT_SECRET_MIN)
            return error_set(error, ERR_VALIDATION, "/redact/secrets_env", "secrets_env: %.*s holds no secret of at least %d bytes",
                             SPAN_ARG(name), REDACT_SECRET_MIN);
        redact_add(redact, span_of(secret));
    }
    return ERR_OK;
}

/* ---- secrets ---- */

/* The longest secret that begins here, or 0. */
static size_t secret_at(const struct redact *redact, const char *p, const char *end, bool json)
{
    if (end - p < 2 || !(redact->pairs[pair_of(p) / 8] & 1u << pair_of(p) % 8))
        return 0;
    for (size_t i = 0; i < redact->count; i++) {
        const struct pattern *pattern = &redact->patterns[i];
        if ((pattern->json || !json) && pattern->text.n <= (size_t)(end - p) && memcmp(p, pattern->text.p, pattern->text.n) == 0)
            return pattern->text.n;
    }
    return 0;
}

bool redact_append(const struct redact *redact, struct span text, struct buf *out)
{
    const char *end = text.n ? text.p + text.n : text.p, *from = text.p;
    bool        found = false;
    for (const char *p = text.p; redact && redact->count && p < end;) {
        size_t n = secret_at(redact, p, end, false);
        if (!n) {
            p++;
            continue;
        }
        found = true;
        buf_put(out, from, (size_t)(p - from));
        BUF_LIT(out, "[redacted]");
        from = p += n;
    }
    if (from < end)
        buf_put(out, from, (size_t)(end - from));
    return found;
}

static struct span kept(struct buf *out, struct arena *arena)
{
    struct span copy = arena_copy(arena, buf_view(out));
    buf_done(out);
    return copy;
}

struct span redact_text(const struct redact *redact, struct span text, struct arena *arena)
{
    struct buf out = { 0 };
    if (!redact || !redact->count)
        return text;
    if (redact_append(redact, text, &out))
        return kept(&out, arena);
    buf_done(&out);
    return text;
}

/* ---- JSON ---- */

struct pass {
    const struct redact *redact;
    struct buf          *out;
    const char          *p, *from, *end; /* from..p is not yet written */
    bool                 found;
};

static void flush(struct pass *pass)
{
    if (pass->p > pass->from)
        buf_put(pass->out, pass->from, (size_t)(pass->p - pass->from));
    pass->from = pass->p;
}

/* What lies behind `to` goes on; what lies between is replaced. */
static void replace(struct pass *pass, const char *to, const char *by)
{
    flush(pass);
    buf_span(pass->out, span_of(by));
    pass->from = pass->p = to;
    pass->found = true;
}

static bool is_field(const struct redact *redact, const char *p, size_t n)
{
    for (size_t i = 0; i < redact->field_count; i++)
        if (redact->fields[i].n == n && strncasecmp(redact->fields[i].p, p, n) == 0)
            return true;
    return false;
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* Behind a character of a JSON text: an escape is one character. */
static const char *next_unit(const char *p, const char *end)
{
    size_t n = *p != '\\' ? 1 : end - p > 1 && p[1] == 'u' ? 6 : 2;
    return n < (size_t)(end - p) ? p + n : end;
}

static const char *skip_scalar(const char *p, const char *end)
{
    while (p < end && (*p == '-' || *p == '+' || *p == '.' || (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || *p == 'E'))
        p++;
    return p;
}

/* Behind the name of a field and its colon, if the value is a scalar: behind the value; else NULL. */
static const char *field_value(const char *p, const char *end, const char **ret_value)
{
    p = skip_space(p, end);
    if (p == end || *p != ':')
        return NULL;
    p = *ret_value = skip_space(p + 1, end);
    if (p == end || *p == '{' || *p == '[' || *p == 'n')
        return NULL;
    if (*p != '"')
        return skip_scalar(p, end);
    for (p++; p < end && *p != '"';)
        p = next_unit(p, end);
    return p < end ? p + 1 : end;
}

/* The same one level down: JSON in a text, where quotes are \" . pass->p stands on the \" before a name. */
static bool inner_field(struct pass *pass)
{
    const char *name = pass->p + 2, *p = name, *end = pass->end;
    while (p < end && *p != '\\' && *p != '"')
        p++;
    if (end - p < 2 || p[1] != '"' || !is_field(pass->redact, name, (size_t)(p - name)))
        return false;
    p = skip_space(p + 2, end);
    if (p == end || *p != ':')
        return false;
    p = skip_space(p + 1, end);
    bool text = end - p > 2 && p[0] == '\\' && p[1] == '"';
    const char *value = p;
    if (text) {
        for (p += 2; p < end && *p != '"' && !(*p == '\\' && p + 1 < end && p[1] == '"');) {
            bool escape = *p == '\\' && p + 1 < end && p[1] == '\\'; /* an escape of the inner text: it has a second character */
            p = next_unit(p, end);
            if (escape && p < end && *p != '"')
                p = next_unit(p, end);
        }
        p = p < end && *p == '\\' ? p + 2 : p;
    } else if (*p == 'n' || (p = skip_scalar(p, end)) == value) {
        return false;
    }
    pass->p = value;
    replace(pass, p, "\\\"[redacted]\\\"");
    return true;
}

/* pass->p stands behind the opening quote; afterwards behind the closing one. */
static void pass_text(struct pass *pass)
{
    const struct redact *redact = pass->redact;
    while (pass->p < pass->end && *pass->p != '"') {
        size_t n = redact->count ? secret_at(redact, pass->p, pass->end, true) : 0;
        if (n)
            replace(pass, pass->p + n, mark);
        else if (!(redact->field_count && pass->p[0] == '\\' && pass->end - pass->p > 2 && pass->p[1] == '"' && inner_field(pass)))
            pass->p = next_unit(pass->p, pass->end);
    }
    if (pass->p < pass->end)
        pass->p++;
}

struct span redact_json(const struct redact *redact, struct span json, struct arena *arena)
{
    struct buf  out = { 0 };
    struct pass pass = { .redact = redact, .out = &out, .p = json.p, .from = json.p, .end = json.n ? json.p + json.n : json.p };
    if (!redact || (!redact->count && !redact->field_count))
        return json;
    while (pass.p < pass.end) {
        if (*pass.p++ != '"')
            continue;
        const char *begin = pass.p, *value;
        pass_text(&pass);
        size_t n = (size_t)(pass.p - begin);
        if (redact->field_count && n && is_field(redact, begin, n - 1)) {
            const char *behind = field_value(pass.p, pass.end, &value);
            if (behind) {
                pass.p = value;
                replace(&pass, behind, "\"[redacted]\"");
            }
        }
    }
    if (!pass.found) {
        buf_done(&out);
        return json;
    }
    flush(&pass);
    return kept(&out, arena);
}

/* ---- pieces ---- */

/* The text ends in the middle of a secret, as far as one can see. */
static bool begins_secret(const struct redact *redact, const char *p, size_t n)
{
    for (size_t i = 0; i < redact->count && redact->patterns[i].text.n > n; i++)
        if (memcmp(redact->patterns[i].text.p, p, n) == 0)
            return true;
    return false;
}

/* From left to right, so that the result is that of the whole text: what may still become a longer secret is held back before a
 * shorter one in it is replaced. */
struct span redact_piece(const struct redact *redact, struct redact_carry *carry, struct span piece, struct arena *arena)
{
    struct buf out = { 0 };
    if (!redact || !redact->count)
        return piece;
    buf_span(&carry->held, piece);
    const char *p = carry->held.p, *end = p + carry->held.len;
    while (p < end && !((size_t)(end - p) < redact->longest && begins_secret(redact, p, (size_t)(end - p)))) {
        size_t n = secret_at(redact, p, end, false);
        if (n)
            BUF_LIT(&out, "[redacted]");
        else
            buf_byte(&out, *p);
        p += n ? n : 1;
    }
    carry->held.len = (size_t)(end - p);
    if (carry->held.len)
        memmove(carry->held.p, p, carry->held.len);
    return kept(&out, arena);
}

struct span redact_rest(const struct redact *redact, struct redact_carry *carry, struct arena *arena)
{
    struct buf out = { 0 };
    (void)redact_append(redact, buf_view(&carry->held), &out); /* a short secret that was no longer one after all */
    carry->held.len = 0;
    return kept(&out, arena);
}

void redact_carry_done(struct redact_carry *carry)
{
    buf_done(&carry->held);
}

bool redact_hides_arguments(const struct redact *redact)
{
    return redact && redact->field_count;
}
