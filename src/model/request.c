/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - checks a request that is meant for any provider, and reads its pieces. */
#include "model/request.h"
#include <stdio.h>
#include <strings.h>

enum { NAME_MAX_BYTES = 128 };

#define AT(type, member) offsetof(struct type, member)
static const struct field request_fields[] = {
    { "messages",            FIELD_ARRAY,  AT(model_request, messages),            false, 0, 0 },
    { "tools",               FIELD_ARRAY,  AT(model_request, tools),               false, 0, 0 },
    { "tool_choice",         FIELD_ANY,    AT(model_request, tool_choice),         false, 0, 0 },
    { "parallel_tool_calls", FIELD_ANY,    AT(model_request, parallel_tool_calls), false, 0, 0 },
    { "output_format",       FIELD_OBJECT, AT(model_request, output_format),       false, 0, 0 },
    { "max_tokens",          FIELD_NUMBER, AT(model_request, max_tokens),          false, 1, INT32_MAX },
    { "temperature",         FIELD_NUMBER, AT(model_request, temperature),         false, 0, 100 },
    { "stop",                FIELD_ARRAY,  AT(model_request, stop),                false, 0, 0 },
    { "reasoning_effort",    FIELD_STRING, AT(model_request, reasoning_effort),    false, 1, 16 },
    { "metadata",            FIELD_OBJECT, AT(model_request, metadata),            false, 0, 0 },
    { "script",              FIELD_OBJECT, AT(model_request, script),              false, 0, 0 },
};
static const struct field message_fields[] = {
    { "role",           FIELD_STRING, AT(message, role),           true,  1, 16 },
    { "content",        FIELD_ANY,    AT(message, content),        false, 0, 0 },
    { "name",           FIELD_STRING, AT(message, name),           false, 1, NAME_MAX_BYTES },
    { "tool_calls",     FIELD_ARRAY,  AT(message, tool_calls),     false, 0, 0 },
    { "tool_call_id",   FIELD_STRING, AT(message, tool_call_id),   false, 1, 512 },
    { "is_error",       FIELD_BOOL,   AT(message, is_error),       false, 0, 0 },
    { "provider_state", FIELD_ANY,    AT(message, provider_state), false, 0, 0 },
};
static const struct field call_fields[] = {
    { "id",        FIELD_STRING, AT(tool_call_want, id),        true, 1, 512 },
    { "name",      FIELD_STRING, AT(tool_call_want, name),      true, 1, NAME_MAX_BYTES },
    { "arguments", FIELD_STRING, AT(tool_call_want, arguments), true, 0, 0 },
};
static const struct field tool_fields[] = {
    { "name",        FIELD_STRING, AT(tool_want, name),        true,  1, NAME_MAX_BYTES },
    { "description", FIELD_STRING, AT(tool_want, description), false, 0, 0 },
    { "parameters",  FIELD_OBJECT, AT(tool_want, parameters),  true,  0, 0 },
};
static const struct field format_fields[] = {
    { "type",        FIELD_STRING, AT(format_want, type),        true,  1, 64 },
    { "name",        FIELD_STRING, AT(format_want, name),        true,  1, 64 },
    { "description", FIELD_STRING, AT(format_want, description), false, 0, 0 },
    { "schema",      FIELD_OBJECT, AT(format_want, schema),      true,  0, 0 },
    { "strict",      FIELD_ANY,    AT(format_want, strict),      false, 0, 0 },
};
#undef AT

struct file_part {
    struct span data, mime, filename;
};
static const struct field file_fields[] = {
    { "data_base64", FIELD_STRING, offsetof(struct file_part, data),     true,  0, 0 },
    { "mime_type",   FIELD_STRING, offsetof(struct file_part, mime),     true,  1, 128 },
    { "filename",    FIELD_STRING, offsetof(struct file_part, filename), false, 1, 512 },
};

struct choice_name {
    struct span name;
};
static const struct field choice_fields[] = {
    { "name", FIELD_STRING, offsetof(struct choice_name, name), true, 1, NAME_MAX_BYTES },
};

/* ---- checks ---- */

struct check {
    struct arena *arena;
    struct error *error;
};

static const char *under(const struct check *check, const char *pointer, const char *name)
{
    return arena_printf(check->arena, "%s/%s", pointer, name).p;
}

static bool is_given(struct jv value)
{
    return !jv_is(value, JSON_NONE) && !jv_is(value, JSON_NULL);
}

static bool one_of(struct span text, const char *const *names)
{
    while (*names && !span_is(text, *names))
        names++;
    return *names != NULL;
}

/* Each element of a list that was given. */
static enum err check_each(const struct check *check, struct jv list, const char *pointer,
                           enum err (*fn)(const struct check *check, struct jv value, const char *pointer))
{
    size_t at = 0;
    if (!is_given(list))
        return ERR_OK;
    for (struct jv_iter it = jv_iter(list); jv_step(&it); at++) {
        enum err err = fn(check, it.value, arena_printf(check->arena, "%s/%zu", pointer, at).p);
        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err check_file(const struct check *check, struct jv file, const char *pointer)
{
    struct file_part want = { 0 };
    enum err err = fields_read(file, pointer, file_fields, ARRAY_LEN(file_fields), check->arena, &want, check->error);
    for (size_t i = 0; !err && i < want.mime.n; i++)
        if ((unsigned char)want.mime.p[i] <= 0x20 || (unsigned char)want.mime.p[i] >= 0x7f)
            err = field_error(check->error, pointer, SPAN("mime_type"), "is not a media type");
    return err;
}

static enum err check_part(const struct check *check, struct jv part, const char *pointer)
{
    if (!jv_is(part, JSON_OBJECT))
        return error_set(check->error, ERR_VALIDATION, pointer, "a part must be an object");
    if (jv_str_eq(jv_get(part, "type"), "text"))
        return jv_is(jv_get(part, "text"), JSON_STRING) ? ERR_OK
                                                        : field_error(check->error, pointer, SPAN("text"), "must be a string");
    if (jv_str_eq(jv_get(part, "type"), "file"))
        return check_file(check, jv_get(part, "file"), under(check, pointer, "file"));
    return field_error(check->error, pointer, SPAN("type"), "must be \"text\" or \"file\"");
}

static enum err check_call(const struct check *check, struct jv call, const char *pointer)
{
    struct tool_call_want want = { 0 };
    return fields_read(call, pointer, call_fields, ARRAY_LEN(call_fields), check->arena, &want, check->error);
}

static enum err check_message(const struct check *check, struct jv value, const char *pointer)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool", NULL };
    struct message           want = { 0 };
    enum err err = fields_read(value, pointer, message_fields, ARRAY_LEN(message_fields), check->arena, &want, check->error);
    if (err)
        return err;
    if (!one_of(want.role, roles))
        return field_error(check->error, pointer, SPAN("role"), "must be system, user, assistant or tool");
    if (is_given(want.content) && !jv_is(want.content, JSON_STRING) && !jv_is(want.content, JSON_ARRAY))
        return field_error(check->error, pointer, SPAN("content"), "must be a string or an array of parts");
    if (jv_is(want.content, JSON_ARRAY) &&
        (err = check_each(check, want.content, under(check, pointer, "content"), check_part)))
        return err;
    if (is_given(want.tool_calls) && !span_is(want.role, "assistant"))
        return field_error(check->error, pointer, SPAN("tool_calls"), "only an assistant's message has them");
    if (span_is(want.role, "tool") != (want.tool_call_id.n > 0))
        return field_error(check->error, pointer, SPAN("tool_call_id"), "belongs to messages of a tool, and to all of them");
    return check_each(check, want.tool_calls, under(check, pointer, "tool_calls"), check_call);
}

static enum err check_tool(const struct check *check, struct jv tool, const char *pointer)
{
    struct tool_want want = { 0 };
    return fields_read(tool, pointer, tool_fields, ARRAY_LEN(tool_fields), check->arena, &want, check->error);
}

static enum err check_stop(const struct check *check, struct jv text, const char *pointer)
{
    return jv_is(text, JSON_STRING) ? ERR_OK : error_set(check->error, ERR_VALIDATION, pointer, "must be a string");
}

static enum err check_choice(const struct check *check, struct jv choice)
{
    static const char *const modes[] = { "auto", "required", "none", NULL };
    struct choice_name       want;
    if (!is_given(choice) || (jv_is(choice, JSON_STRING) && one_of(jv_string(choice, check->arena), modes)))
        return ERR_OK;
    if (!jv_is(choice, JSON_OBJECT))
        return field_error(check->error, "", SPAN("tool_choice"), "must be \"auto\", \"required\", \"none\" or {\"name\"}");
    return fields_read(choice, "/tool_choice", choice_fields, ARRAY_LEN(choice_fields), check->arena, &want, check->error);
}

static bool is_bool(struct jv value)
{
    return jv_is(value, JSON_TRUE) || jv_is(value, JSON_FALSE);
}

static enum err check_format(const struct check *check, struct jv format)
{
    struct format_want want = { 0 };
    if (!is_given(format))
        return ERR_OK;
    enum err err = fields_read(format, "/output_format", format_fields, ARRAY_LEN(format_fields), check->arena, &want, check->error);
    if (err)
        return err;
    if (!span_is(want.type, "json_schema"))
        return field_error(check->error, "/output_format", SPAN("type"), "must be \"json_schema\"");
    if (is_given(want.strict) && !is_bool(want.strict))
        return field_error(check->error, "/output_format", SPAN("strict"), "must be true or false");
    return ERR_OK;
}

static enum err check_scalars(const struct check *check, const struct model_request *want)
{
    static const char *const efforts[] = { "low", "medium", "high", NULL };
    int64_t                  tokens;
    if (jv_is(want->max_tokens, JSON_NUMBER) && !jv_i64(want->max_tokens, &tokens))
        return field_error(check->error, "", SPAN("max_tokens"), "must be an integer");
    if (want->reasoning_effort.n && !one_of(want->reasoning_effort, efforts))
        return field_error(check->error, "", SPAN("reasoning_effort"), "must be low, medium or high");
    if (is_given(want->parallel_tool_calls) && !is_bool(want->parallel_tool_calls))
        return field_error(check->error, "", SPAN("parallel_tool_calls"), "must be true or false");
    return ERR_OK;
}

enum err request_check(struct jv request, struct arena *arena, struct model_request *ret, struct error *error)
{
    struct check         check = { arena, error };
    struct model_request want = { 0 };
    enum err             err;
    if ((err = fields_read(request, "", request_fields, ARRAY_LEN(request_fields), arena, &want, error)) ||
        (err = check_scalars(&check, &want)) || (err = check_each(&check, want.messages, "/messages", check_message)) ||
        (err = check_each(&check, want.tools, "/tools", check_tool)) || (err = check_choice(&check, want.tool_choice)) ||
        (err = check_format(&check, want.output_format)) || (err = check_each(&check, want.stop, "/stop", check_stop)))
        return err;
    *ret = want;
    return ERR_OK;
}

/* ---- readers, for what has been checked ---- */

struct message message_read(struct jv message, struct arena *arena)
{
    struct message ret = { 0 };
    (void)fields_read(message, "", message_fields, ARRAY_LEN(message_fields), arena, &ret, NULL);
    if (jv_is(ret.content, JSON_NULL))
        ret.content = (struct jv){ 0 };
    if (!jv_is(ret.provider_state, JSON_OBJECT))
        ret.provider_state = (struct jv){ 0 };
    return ret;
}

struct part part_read(struct jv part, struct arena *arena)
{
    struct part      ret = { .text = jv_string(jv_get(part, "text"), arena) };
    struct file_part file = { 0 };
    if (!jv_str_eq(jv_get(part, "type"), "file"))
        return ret;
    (void)fields_read(jv_get(part, "file"), "", file_fields, ARRAY_LEN(file_fields), arena, &file, NULL);
    return (struct part){ .is_file = true, .data = file.data, .mime = file.mime, .filename = file.filename };
}

struct tool_call_want tool_call_read(struct jv call, struct arena *arena)
{
    struct tool_call_want ret = { 0 };
    (void)fields_read(call, "", call_fields, ARRAY_LEN(call_fields), arena, &ret, NULL);
    return ret;
}

struct tool_want tool_read(struct jv tool, struct arena *arena)
{
    struct tool_want ret = { 0 };
    (void)fields_read(tool, "", tool_fields, ARRAY_LEN(tool_fields), arena, &ret, NULL);
    return ret;
}

struct format_want format_read(struct jv format, struct arena *arena)
{
    struct format_want ret = { 0 };
    (void)fields_read(format, "", format_fields, ARRAY_LEN(format_fields), arena, &ret, NULL);
    return ret;
}

struct span content_text(struct jv content, struct arena *arena)
{
    struct buf all = { 0 };
    if (jv_is(content, JSON_STRING))
        return jv_string(content, arena);
    if (jv_is(content, JSON_ARRAY)) {
        for (struct jv_iter it = jv_iter(content); jv_step(&it);) {
            struct span text = jv_string(jv_get(it.value, "text"), arena);
            if (all.len && text.n)
                buf_byte(&all, '\n');
            buf_span(&all, text);
        }
    }
    struct span text = arena_copy(arena, buf_view(&all));
    buf_done(&all);
    return text;
}

bool content_is_empty(struct jv content)
{
    if (jv_is(content, JSON_STRING))
        return jv_str_eq(content, "");
    return jv_count(content) == 0;
}

bool mime_is(struct span mime, const char *prefix)
{
    size_t n = strlen(prefix);
    return mime.n >= n && strncasecmp(mime.p, prefix, n) == 0;
}

struct span data_url(const struct part *part, struct arena *arena)
{
    struct buf url = { 0 };
    buf_printf(&url, "data:%.*s;base64,", SPAN_ARG(part->mime));
    buf_span(&url, part->data);
    struct span text = arena_copy(arena, buf_view(&url));
    buf_done(&url);
    return text;
}

void put_json(struct jw *w, struct jv value)
{
    struct buf text = { 0 };
    json_minify(value, &text);
    jw_raw(w, buf_view(&text));
    buf_done(&text);
}
