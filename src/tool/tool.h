/* SPDX-License-Identifier: Apache-2.0 */
/* tool.h - tools that the host can call: contracts, the registry, one call.
 *
 * A tool is configured in --config FILE under "tools" and "mcp_servers": built in, an HTTP endpoint, or one that an MCP server
 * offers ("SERVER.TOOL" is its name then; machines see it as such). Everything runs on the loop's thread; nothing is called
 * back from inside tool_start. The host records the intent with its key before the call and the receipt after it; this folder
 * knows nothing of runs, retries or budgets. */
#pragma once
#include "base/json.h"
#include "net/http_client.h"
#include "net/loop.h"

struct tools;
struct tool_call;

/* `config`: the values of "tools" and "mcp_servers", or absent ones. Unknown members are errors that name the member. MCP
 * servers over stdio are started at their first use and again when they died; secrets come from the environment or files. */
enum err tools_new(struct loop *loop, struct http_client *client, struct jv config_tools, struct jv config_mcp, struct tools **ret,
                   struct error *error);
void     tools_free(struct tools *tools); /* cancels what is in flight, ends child processes */

/* The contracts of the named tools ("SERVER.*": all of an MCP server), for "tools.list":
 * {"tools": [{"name", "version"?, "description"?, "input_schema": {…}, "repeat_safe": bool, "approval": bool}…]}.
 * An unknown name or a server that cannot be reached is ERR_TOOL with an error object. */
struct tool_call_config {
    struct span tool;       /* name */
    struct span arguments;  /* JSON object; checked against the contract's schema: a bad one ends with code invalid_arguments */
    struct span context;    /* JSON object or empty; passed to tools that want it */
    struct span key;        /* idempotency key: the same for every send of this call */
    /* Exactly once unless cancelled; the call is freed after it returns. `sent`: false when it is certain that nothing left the
     * process. ERR_OK: result is the output, any JSON. Else the error object of AR 3.2 without node members:
     * {"code","category":"tool","message","retryable","source":"tool"}. */
    void (*on_end)(void *user, enum err err, struct span result, bool sent);
    void *user;
};
enum err tool_list(struct tools *tools, struct span names, void (*on_end)(void *user, enum err err, struct span result, bool sent),
                   void *user, struct tool_call **ret, struct error *error); /* names: JSON array of texts */
/* ERR_TOOL when the name is unknown (no call exists then). */
enum err tool_start(struct tools *tools, const struct tool_call_config *config, struct tool_call **ret, struct error *error);
/* Closes the socket, tells an MCP server; no callback any more. */
void tool_cancel(struct tool_call *call);
/* true when the name is that of a configured tool, or of one that a configured MCP server may have. */
bool tool_known(const struct tools *tools, struct span name);
/* true when a call of this tool may be sent again with the same key. Unknown tools are not. */
bool tool_repeat_safe(const struct tools *tools, struct span name);
/* true when a person must agree before a call (`"approval": "always"`). Unknown tools: false. */
bool tool_needs_approval(const struct tools *tools, struct span name);
/* Every secret that was read for a tool or an MCP server; valid as long as `tools`. For redaction. */
void tools_secrets(const struct tools *tools, void (*each)(void *user, struct span secret), void *user);
/* doctor: one line per tool and MCP server, then done. */
void tools_check(struct tools *tools, void (*each)(void *user, struct span name, enum err err, struct span detail),
                 void (*done)(void *user), void *user);
