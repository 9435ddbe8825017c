/* SPDX-License-Identifier: Apache-2.0 */
/* tools.h - what becomes of a tool call (teams.md 12.3), and the built-in tools' checks and forms (12.4). Pure.
 *
 * An outcome is {"type":"success","output"?,"metadata"?} or {"type":"error","error":{"code","message","retryable"?,"detail"?},
 * "metadata"?}: a tool result without its ids, which trace.h puts in. */
#pragma once
#include "base/json.h"

/* What was thrown, as far as JSON can say it. */
struct team_thrown {
    struct jv value;
    bool      is_error; /* an error object: {"name","message",…}; AbortError is the DOM's */
};

void team_outcome_thrown(const struct team_thrown *thrown, struct jw *w);
/* The same for a tool of the Vercel AI kind (12.5). */
void team_outcome_vercel(const struct team_thrown *thrown, struct jw *w);
void team_outcome_error(const char *code, struct span message, bool retryable, struct span detail, struct jw *w);
/* `issues`: a JSON array; not empty. */
void team_outcome_invalid(struct span issues, struct jw *w);
/* From what a host's tool gave: ERR_OK and any JSON, or an error object of a run. */
void team_outcome_receipt(bool ok, struct jv value, struct jw *w);

/* ---- built in ---- */

enum team_builtin { BUILTIN_NONE, BUILTIN_WEB_SEARCH, BUILTIN_CODE_EXEC };
enum team_builtin team_builtin(struct span name); /* "webSearch", "codeExec" */
/* {"identity","inputSchema","permissions"} of an adapter with these options (may be absent). */
void team_builtin_manifest(enum team_builtin tool, struct jv options, struct jw *w);
/* Writes the issues as a JSON array and returns their number. */
size_t team_builtin_check(enum team_builtin tool, struct jv options, struct jv input, struct jw *w);
/* The URL that a search asks for. */
void team_search_url(struct jv options, struct jv input, struct buf *out);
/* The outcome of a search from the answer of its backend: `body` is JSON, absent when there is none. */
void team_search_outcome(int status, struct span status_text, struct jv body, struct jw *w);
/* {"identity","inputSchema"} of a tool of the Vercel AI kind: {"name","description"?,"inputSchema","options"?}. */
void team_vercel_manifest(struct jv tool, struct jw *w);
