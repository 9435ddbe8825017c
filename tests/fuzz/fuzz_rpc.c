/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_rpc.c - whatever an MCP server says is a message, or an error that says what is wrong; and what is made of its lists and
 * results is JSON. */
#include "tool/rpc.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    struct arena    *arena;
    struct mcp_tool *tools;
    size_t           count;
};

static void must_be_json(const struct buf *text, struct arena *arena)
{
    assert(!jv_is(json_read(buf_view(text), arena), JSON_NONE));
}

static bool take(void *user, const struct rpc_message *message)
{
    struct seen *seen = user;
    struct error error = { 0 };
    struct span  cursor;
    struct buf   out = { 0 };
    bool         failed = false;

    assert(message->kind != RPC_REQUEST || message->raw_id.n > 0);
    assert(message->kind > RPC_NOTIFICATION || message->method.p);
    size_t before = seen->count;
    if (message->kind == RPC_RESULT && !mcp_tools_read(message->value, seen->arena, seen->tools, &seen->count, &cursor, &error))
        for (size_t i = before; i < seen->count; i++) {
            out.len = 0;
            buf_span(&out, seen->tools[i].schema);
            must_be_json(&out, seen->arena);
        }
    out.len = 0;
    if (message->kind == RPC_RESULT && !mcp_result_read(message->value, &out, &failed, &error))
        must_be_json(&out, seen->arena);
    buf_done(&out);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = { 0 };
    struct seen  seen = { .arena = &arena, .tools = ARENA_ARRAY(&arena, struct mcp_tool, MCP_TOOLS_MAX) };
    struct error error = { 0 };
    char        *copy = mem_dup(data, size); /* its end is seen by the sanitizer */

    enum err err = rpc_read_text(span_make(copy, size), &arena, take, &seen, &error);
    assert(!err || error.message[0]);
    free(copy);
    arena_done(&arena);
    return 0;
}
