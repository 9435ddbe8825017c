/* SPDX-License-Identifier: Apache-2.0 */
/* rpc.h - reads what an MCP server says: JSON-RPC 2.0 messages, lists of tools, results of calls. Pure; fuzzed.
 *
 * Bytes of a server are outside bytes: parsed strictly and within a bound, and what does not fit is an error that says what. */
#pragma once
#include "base/json.h"

enum rpc_kind { RPC_REQUEST, RPC_NOTIFICATION, RPC_RESULT, RPC_ERROR };

struct rpc_message {
    enum rpc_kind kind;
    uint64_t      id;      /* of a result or an error: our request; 0: none of ours */
    struct span   raw_id;  /* of a request: its id as JSON */
    struct span   method;
    struct jv     value;   /* params, result or error.data; may be absent */
    int64_t       code;    /* of an error */
    struct span   message; /* of an error */
};

/* One message. ERR_MALFORMED_JSON, ERR_VALIDATION. Texts lie in `arena` or in the document. */
enum err rpc_read(struct jv value, struct arena *arena, struct rpc_message *ret, struct error *error);
/* The text of one or, as an array, of several messages; `each` returns false to go no further. */
enum err rpc_read_text(struct span text, struct arena *arena, bool (*each)(void *user, const struct rpc_message *message), void *user,
                       struct error *error);

/* {"jsonrpc":"2.0","id"?,"method","params"?}; id 0: a notification. */
void rpc_write(struct buf *out, uint64_t id, const char *method, struct span params);

/* ---- what MCP puts into results ---- */

struct mcp_tool {
    struct span name, title, description;
    struct span schema;  /* inputSchema as it came */
};
enum { MCP_TOOLS_MAX = 1024 };
/* Appends the tools of one page of tools/list to `tools` (an array of `*count` in the arena, with room for MCP_TOOLS_MAX); copies.
 * *ret_cursor is the next page's or empty. A tool without name or with a schema that is no object is left out; a second one of a
 * name, too. */
enum err mcp_tools_read(struct jv result, struct arena *arena, struct mcp_tool *tools, size_t *count, struct span *ret_cursor,
                        struct error *error);
/* The result of tools/call as the output of a tool: structuredContent when there is some; the text when all content is text;
 * else {"content":[…]} as it came. *ret_error: isError is set, and the output is a text. */
enum err mcp_result_read(struct jv result, struct buf *out, bool *ret_error, struct error *error);
