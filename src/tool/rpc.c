/* SPDX-License-Identifier: Apache-2.0 */
/* rpc.c - reads what an MCP server says. */
#include "tool/rpc.h"

static enum err bad(struct error *error, const char *what)
{
    return error_set(error, ERR_VALIDATION, NULL, "%s", what);
}

static enum err read_error(struct jv value, struct arena *arena, struct rpc_message *ret, struct error *error)
{
    struct jv message = jv_get(value, "message");
    if (!jv_is(value, JSON_OBJECT) || !jv_i64(jv_get(value, "code"), &ret->code))
        return bad(error, "an error must be an object with a code");
    ret->kind = RPC_ERROR;
    ret->message = jv_is(message, JSON_STRING) ? jv_string(message, arena) : SPAN("no message");
    ret->value = jv_get(value, "data");
    return ERR_OK;
}

enum err rpc_read(struct jv value, struct arena *arena, struct rpc_message *ret, struct error *error)
{
    struct rpc_message message = { 0 };
    struct jv          id = jv_get(value, "id"), method = jv_get(value, "method"), failed = jv_get(value, "error");
    int64_t            number;
    enum err           err = ERR_OK;
    if (!jv_is(value, JSON_OBJECT) || !jv_str_eq(jv_get(value, "jsonrpc"), "2.0"))
        return bad(error, "not a JSON-RPC 2.0 message");
    if (jv_is(method, JSON_STRING)) {
        message.method = jv_string(method, arena);
        message.value = jv_get(value, "params");
        message.kind = jv_is(id, JSON_NONE) ? RPC_NOTIFICATION : RPC_REQUEST;
        message.raw_id = jv_is(id, JSON_NONE) ? SPAN_NONE : jv_raw(id);
        if (message.kind == RPC_REQUEST && !jv_is(id, JSON_STRING) && !jv_is(id, JSON_NUMBER))
            return bad(error, "the id of a request must be a text or a number");
    } else if (jv_is(id, JSON_NONE)) {
        return bad(error, "a message without method and id");
    } else {
        message.id = jv_i64(id, &number) && number > 0 ? (uint64_t)number : 0;
        message.kind = RPC_RESULT;
        message.value = jv_get(value, "result");
        if (!jv_is(failed, JSON_NONE) && !jv_is(failed, JSON_NULL))
            err = read_error(failed, arena, &message, error);
        else if (jv_is(message.value, JSON_NONE))
            err = bad(error, "an answer without result and error");
    }
    if (!err)
        *ret = message;
    return err;
}

enum err rpc_read_text(struct span text, struct arena *arena, bool (*each)(void *user, const struct rpc_message *message), void *user,
                       struct error *error)
{
    static const struct json_limits limits = { .depth = 64, .lone_surrogates = true };
    struct json       *doc = ARENA_NEW(arena, struct json); /* texts of messages may point into it */
    struct rpc_message message;
    enum err           err = json_parse(text, &limits, arena, doc, error);
    if (err)
        return err;
    struct jv root = json_root(doc);
    if (!jv_is(root, JSON_ARRAY)) {
        err = rpc_read(root, arena, &message, error);
        if (!err)
            (void)each(user, &message);
        return err;
    }
    for (struct jv_iter it = jv_iter(root); !err && jv_step(&it);) {
        err = rpc_read(it.value, arena, &message, error);
        if (!err && !each(user, &message))
            break;
    }
    return err;
}

void rpc_write(struct buf *out, uint64_t id, const char *method, struct span params)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "jsonrpc");
    jw_cstr(&w, "2.0");
    if (id) {
        jw_key(&w, "id");
        jw_u64(&w, id);
    }
    jw_key(&w, "method");
    jw_cstr(&w, method);
    if (params.n) {
        jw_key(&w, "params");
        jw_raw(&w, params);
    }
    jw_end(&w);
}

/* ---- tools ---- */

static bool have(const struct mcp_tool *tools, size_t count, struct span name)
{
    for (size_t i = 0; i < count; i++)
        if (span_eq(tools[i].name, name))
            return true;
    return false;
}

enum err mcp_tools_read(struct jv result, struct arena *arena, struct mcp_tool *tools, size_t *count, struct span *ret_cursor,
                        struct error *error)
{
    struct jv list = jv_get(result, "tools"), cursor = jv_get(result, "nextCursor");
    if (!jv_is(list, JSON_ARRAY))
        return bad(error, "the answer to tools/list has no tools");
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct jv   schema = jv_get(it.value, "inputSchema");
        struct span name = jv_string(jv_get(it.value, "name"), arena);
        if (name.n == 0 || name.n > 128 || memchr(name.p, 0, name.n) || !jv_is(schema, JSON_OBJECT) || have(tools, *count, name))
            continue;
        if (*count == MCP_TOOLS_MAX)
            return bad(error, "the server has too many tools");
        tools[(*count)++] = (struct mcp_tool){
            .name = arena_copy(arena, name),
            .title = arena_copy(arena, jv_string(jv_get(it.value, "title"), arena)),
            .description = arena_copy(arena, jv_string(jv_get(it.value, "description"), arena)),
            .schema = json_minified(schema, arena),
        };
    }
    *ret_cursor = jv_is(cursor, JSON_STRING) ? arena_copy(arena, jv_string(cursor, arena)) : SPAN_NONE;
    return ERR_OK;
}

/* ---- results ---- */

/* All of the text parts; false when there is a part of another kind. */
static bool join_text(struct jv content, struct buf *out)
{
    struct arena arena = { 0 };
    bool         all = true;
    for (struct jv_iter it = jv_iter(content); jv_step(&it);) {
        struct jv text = jv_get(it.value, "text");
        if (!jv_str_eq(jv_get(it.value, "type"), "text") || !jv_is(text, JSON_STRING)) {
            all = false;
            continue;
        }
        if (out->len)
            buf_byte(out, '\n');
        buf_span(out, jv_string(text, &arena));
    }
    arena_done(&arena);
    return all;
}

enum err mcp_result_read(struct jv result, struct buf *out, bool *ret_error, struct error *error)
{
    struct jv  content = jv_get(result, "content"), structured = jv_get(result, "structuredContent");
    struct buf text = { 0 };
    if (!jv_is(result, JSON_OBJECT) || (!jv_is(content, JSON_ARRAY) && !jv_is(structured, JSON_OBJECT)))
        return bad(error, "the answer to tools/call has no content");
    *ret_error = jv_bool(jv_get(result, "isError"), false);
    bool all_text = join_text(content, &text);
    if (*ret_error || (!jv_is(structured, JSON_OBJECT) && all_text)) {
        json_put_string(out, buf_view(&text));
    } else if (jv_is(structured, JSON_OBJECT)) {
        json_minify(structured, out);
    } else {
        BUF_LIT(out, "{\"content\":");
        json_minify(content, out);
        buf_byte(out, '}');
    }
    buf_done(&text);
    return ERR_OK;
}
