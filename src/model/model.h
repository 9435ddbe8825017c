/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - model providers: what to send, how to read the answer (model.md 7.4, agent-runs.md 9.1).
 *
 * A call is started with a provider-neutral request and answers with chunks as they come and one end. Everything runs on the
 * loop's thread; nothing is called back from inside model_start. Providers are spoken natively. The host decides about
 * retries, recording and budgets; this folder knows nothing of runs. */
#pragma once
#include "base/json.h"
#include "net/http_client.h"
#include "net/loop.h"

/* ---- the provider-neutral request and answer: what machines write and read, what every provider translates once ----
 *
 * request  {"messages": [message…], "tools"?: [{"name", "description"?, "parameters": {schema}}…],
 *           "tool_choice"?: "auto" | "required" | "none" | {"name"}, "parallel_tool_calls"?: bool,
 *           "output_format"?: {"type": "json_schema", "name", "schema", "strict"?, "description"?},
 *           "max_tokens"?, "temperature"?, "stop"?: [text…], "reasoning_effort"?: "low" | "medium" | "high",
 *           "metadata"?: {…} (recorded, not sent), "script"? (scripted provider only)}
 * message  {"role": "system" | "user" | "assistant" | "tool", "content": text | [part…],
 *           "tool_calls"?: [call…] (assistant), "tool_call_id"? and "is_error"? (tool),
 *           "provider_state"?: JSON (assistant; from an answer, given back as it came: signed reasoning)}
 * part     {"type": "text", "text"} | {"type": "file", "file": {"data_base64", "mime_type", "filename"?}}
 * call     {"id", "name", "arguments": text (JSON as the model wrote it)}
 * answer   {"text", "finish_reason": "stop" | "length" | "tool_calls" | "content_filter" | "error" | "other",
 *           "usage"?: {"input_tokens", "output_tokens", "total_tokens" (totals: input includes the cache, output the reasoning),
 *                      "buckets": {"input", "cache_read", "cache_write", "output", "reasoning"} (disjoint)},
 *           "model"?, "response_id"?, "tool_calls"?: [call…], "reasoning"?: text, "provider_state"?: JSON} */

struct models; /* the configured providers */
struct model_call;

/* Providers of --config FILE: {"providers": {"NAME": {"kind": "openai-chat" | "openai-responses" | "anthropic", "base_url":
 * "http://…/v1", "api_key_env": "…", "api_key_file": "…", "connect_timeout_ms": N, "idle_timeout_ms": N, "headers": {…},
 * "stream": true, "max_tokens_name" (openai-chat), "thinking" (anthropic)}}} (docs/reference/configuration.md). `scripted`
 * and `core.emit` always exist and cannot be redefined. `config` is the value of "providers" or absent. Unknown
 * members are errors that name the
 * member. Keys are read from the environment or the file now; a missing one is reported by models_check, not here. */
enum err models_new(struct loop *loop, struct http_client *client, struct jv config, struct models **ret, struct error *error);
void     models_free(struct models *models); /* cancels what is in flight */
bool     models_has(const struct models *models, struct span provider);
/* Who a call goes to that names a provider, or "default", or none: the provider called `default`, else the only configured one,
 * else `scripted`. A provider that nobody configured was the first part of a model's name, when there is one called `default`
 * ("meta-llama/llama-3"): that one gets the whole name. What is found replaces the two; texts in `arena`. */
void     models_route(const struct models *models, struct arena *arena, struct span *provider, struct span *model);
/* Each configured provider, then `scripted`. */
void     models_each(const struct models *models, void (*each)(void *user, struct span provider), void *user);

enum model_chunk_kind { CHUNK_TEXT, CHUNK_REASONING, CHUNK_TOOL_ARGUMENTS };

struct model_call_config {
    struct span provider, model;
    struct span request;      /* the neutral request above or, for core.emit, {"count","interval_ms"}; copied */
    uint64_t    skip_chunks;  /* resumable providers only: go on behind this many chunks, of all kinds together, of the same
                                 call (after a crash) */
    uint32_t    attempt;      /* which try of the same call this is, from 1 (0 counts as 1); only scripts look at it */
    uint64_t    seed;         /* makes a scripted answer the same on every machine */
    /* text may be empty; valid during the call. */
    void (*on_chunk)(void *user, enum model_chunk_kind kind, struct span text);
    /* Exactly once unless cancelled; the call is freed after it returns.
     * ERR_OK: result = the neutral answer above.
     * else:   result = the error object of AR 3.2 without node members: {"code","category","message","retryable","source",
     *         "provider_code"?,"retry_after_ms"?}; category rate_limit, timeout, network, provider, auth, validation or model. */
    void (*on_end)(void *user, enum err err, struct span result);
    void *user;
};
/* ERR_VALIDATION when the provider is unknown or the request is unusable (no call exists then, on_end is not called). */
enum err model_start(struct models *models, const struct model_call_config *config, struct model_call **ret, struct error *error);
/* Closes the socket at once; no callback is called any more. */
void model_cancel(struct model_call *call);
/* A call of this provider can go on after a crash where it stopped (scripted, core.emit). */
bool model_resumable(const struct models *models, struct span provider);

/* Every key and secret header that was read for a provider; valid as long as `models`. For redaction. */
void models_secrets(const struct models *models, void (*each)(void *user, struct span secret), void *user);

/* doctor: one line per provider. Calls back once per provider, then done. `detail` says what was found, without secrets. */
void models_check(struct models *models, void (*each)(void *user, struct span provider, enum err err, struct span detail),
                  void (*done)(void *user), void *user);
