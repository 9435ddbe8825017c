/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - one table of everything that can go wrong, with a column per surface (model.md 10).
 *
 * Trouble that the world causes is a returned `enum err`; trouble that we caused is an assertion. The first function that
 * knows the reason writes it into a `struct error` (message, and the field it concerns); callers pass it on unchanged. */
#pragma once
#include "base/span.h"
#include "base/util.h"

/* name, AR status, AR code, WF status, WF code, DS status, RT code, retryable, title */
#define ERR_TABLE(X)                                                                                                                   \
    X(OK,                    200, "ok",                        200, "OK",                  200, 0,     0, "OK")                           \
    X(MALFORMED_JSON,        400, "malformed_json",            400, "INVALID_INPUT",       400, 40000, 0, "Malformed JSON")                \
    X(INVALID_CURSOR,        400, "invalid_cursor",            400, "INVALID_INPUT",       400, 40000, 0, "Invalid cursor")                \
    X(INVALID_HEADER,        400, "invalid_header",            400, "INVALID_INPUT",       400, 40000, 0, "Invalid header")                \
    X(IDEM_MISMATCH,         400, "idempotency_key_mismatch",  400, "INVALID_INPUT",       400, 40000, 0, "Idempotency keys differ")       \
    X(WORKSPACE_REQUIRED,    400, "workspace_required",        400, "INVALID_INPUT",       400, 40000, 0, "Workspace required")            \
    X(UNAUTHENTICATED,       401, "unauthenticated",           401, "UNAUTHORIZED",        401, 40101, 0, "Unauthenticated")               \
    X(INSUFFICIENT_SCOPE,    403, "insufficient_scope",        403, "FORBIDDEN",           403, 40160, 0, "Insufficient scope")            \
    X(WORKSPACE_FORBIDDEN,   403, "workspace_forbidden",       403, "FORBIDDEN",           403, 40160, 0, "Workspace forbidden")           \
    X(TENANT_FORBIDDEN,      403, "tenant_forbidden",          403, "FORBIDDEN",           403, 40160, 0, "Tenant forbidden")              \
    X(FORBIDDEN,             403, "forbidden",                 403, "FORBIDDEN",           403, 40300, 0, "Forbidden")                     \
    X(NOT_FOUND,             404, "not_found",                 404, "NOT_FOUND",           404, 40400, 0, "Not found")                     \
    X(RUN_NOT_FOUND,         404, "run_not_found",             404, "NOT_FOUND",           404, 40400, 0, "Run not found")                 \
    X(ATTEMPT_NOT_FOUND,     404, "attempt_not_found",         404, "NOT_FOUND",           404, 40400, 0, "Attempt not found")             \
    X(CHECKPOINT_NOT_FOUND,  404, "checkpoint_not_found",      404, "NOT_FOUND",           404, 40400, 0, "Checkpoint not found")          \
    X(FAILURE_NOT_FOUND,     404, "failure_not_found",         404, "NOT_FOUND",           404, 40400, 0, "Failure not found")             \
    X(AGENT_NOT_FOUND,       404, "agent_not_found",           404, "NOT_FOUND",           404, 40400, 0, "Agent not found")               \
    X(BUNDLE_NOT_FOUND,      404, "bundle_not_found",          404, "NOT_FOUND",           404, 40400, 0, "Bundle not found")              \
    X(VERSION_NOT_FOUND,     404, "version_not_found",         404, "NOT_FOUND",           404, 40400, 0, "Version not found")             \
    X(THREAD_NOT_FOUND,      404, "thread_not_found",          404, "NOT_FOUND",           404, 40400, 0, "Thread not found")              \
    X(APPROVAL_NOT_FOUND,    404, "approval_not_found",        404, "NOT_FOUND",           404, 40400, 0, "Approval not found")            \
    X(CRON_NOT_FOUND,        404, "cron_not_found",            404, "NOT_FOUND",           404, 40400, 0, "Cron not found")                \
    X(TOKEN_NOT_FOUND,       404, "token_not_found",           404, "NOT_FOUND",           404, 40400, 0, "Token not found")               \
    X(WORKSPACE_NOT_FOUND,   404, "workspace_not_found",       404, "NOT_FOUND",           404, 40400, 0, "Workspace not found")           \
    X(METHOD_NOT_ALLOWED,    405, "method_not_allowed",        405, "METHOD_NOT_ALLOWED",  405, 40500, 0, "Method not allowed")            \
    X(NOT_ACCEPTABLE,        406, "not_acceptable",            406, "INVALID_INPUT",       406, 40600, 0, "Not acceptable")                \
    X(INVALID_RUN_STATE,     409, "invalid_run_state",         409, "CONFLICT",            409, 40000, 0, "Invalid run state")             \
    X(NO_LIVE_BUNDLE,        409, "agent_has_no_live_bundle",  409, "CONFLICT",            409, 40000, 0, "Agent has no live bundle")      \
    X(AGENT_ARCHIVED,        409, "agent_archived",            409, "CONFLICT",            409, 40000, 0, "Agent archived")                \
    X(BUNDLE_PUBLISHED,      409, "bundle_published",          409, "CONFLICT",            409, 40000, 0, "Bundle is published")           \
    X(CHECKPOINT_NOT_REPLAYABLE, 409, "checkpoint_not_replayable", 409, "CONFLICT",        409, 40000, 0, "Checkpoint not replayable")     \
    X(NOT_DETERMINISTIC,     409, "replay_not_deterministic",  409, "CONFLICT",            409, 40000, 0, "Replay not deterministic")      \
    X(RETRY_NOT_POSSIBLE,    409, "retry_not_possible",        409, "CONFLICT",            409, 40000, 0, "Retry not possible")            \
    X(THREAD_ADVANCED,       409, "thread_advanced",           409, "CONFLICT",            409, 40000, 0, "Thread advanced")               \
    X(THREAD_DELETED,        409, "thread_deleted",            409, "CONFLICT",            409, 40000, 0, "Thread deleted")                \
    X(THREAD_BUSY,           409, "thread_busy",               409, "CONFLICT",            409, 40000, 0, "Thread busy")                   \
    X(WORKSPACE_NOT_EMPTY,   409, "workspace_not_empty",       409, "CONFLICT",            409, 40000, 0, "Workspace not empty")           \
    X(VERSION_CONFLICT,      409, "version_conflict",          409, "CONFLICT",            409, 40000, 0, "Version conflict")              \
    X(NAME_TAKEN,            409, "name_taken",                409, "CONFLICT",            409, 40000, 0, "Name is taken")                 \
    X(CONFLICT,              409, "conflict",                  409, "CONFLICT",            409, 40000, 0, "Conflict")                      \
    X(LEDGER_EXPIRED,        410, "ledger_expired",            410, "NOT_FOUND",           410, 40400, 0, "Ledger expired")                \
    X(TOO_LARGE,             413, "payload_too_large",         413, "INVALID_INPUT",       413, 40009, 0, "Payload too large")             \
    X(URI_TOO_LONG,          414, "uri_too_long",              414, "INVALID_INPUT",       414, 40000, 0, "URI too long")                  \
    X(MEDIA_TYPE,            415, "unsupported_media_type",    415, "INVALID_INPUT",       415, 40000, 0, "Unsupported media type")        \
    X(VALIDATION,            422, "validation_failed",         400, "VALIDATION_ERROR",    400, 40000, 0, "Validation failed")             \
    X(INVALID_PARAMETER,     422, "invalid_parameter",         400, "INVALID_INPUT",       400, 40000, 0, "Invalid parameter")             \
    X(IDEM_REUSED,           422, "idempotency_key_reused",    409, "CONFLICT",            409, 40000, 0, "Idempotency key reused")        \
    X(BUNDLE_MISMATCH,       422, "bundle_agent_mismatch",     400, "VALIDATION_ERROR",   400, 40000, 0, "Bundle belongs to another agent")\
    X(THREAD_QUEUE_FULL,     422, "thread_queue_full",         429, "RATE_LIMIT",          422, 42910, 0, "Thread queue full")             \
    X(UNSUPPORTED_BINDING,   422, "unsupported_binding",       400, "VALIDATION_ERROR",    400, 40000, 0, "Unsupported execution binding") \
    X(RATE_LIMITED,          429, "rate_limited",              429, "RATE_LIMIT",          429, 42910, 1, "Rate limited")                  \
    X(TOO_MANY_STREAMS,      429, "too_many_streams",          429, "RATE_LIMIT",          429, 42910, 1, "Too many streams")              \
    X(HEADERS_TOO_LARGE,     431, "headers_too_large",         431, "INVALID_INPUT",       431, 40000, 0, "Request headers too large")     \
    X(BAD_REQUEST,           400, "bad_request",               400, "INVALID_INPUT",       400, 40000, 0, "Bad request")                   \
    X(REQUEST_TIMEOUT,       408, "request_timeout",           408, "INVALID_INPUT",       408, 40000, 1, "Request timeout")               \
    X(INTERNAL,              500, "internal_error",            500, "INTERNAL_ERROR",      500, 50000, 1, "Internal error")                \
    X(NOMEM,                 503, "overloaded",                503, "SERVICE_UNAVAILABLE", 503, 50003, 1, "Out of memory")                 \
    X(OVERLOADED,            503, "overloaded",                503, "SERVICE_UNAVAILABLE", 503, 50003, 1, "Overloaded")                    \
    X(DRAINING,              503, "draining",                  503, "SERVICE_UNAVAILABLE", 503, 80003, 1, "Draining")                      \
    X(STORAGE,               503, "storage_unavailable",       503, "SERVICE_UNAVAILABLE", 503, 80003, 1, "Storage unavailable")           \
    /* classes that stay inside: inputs of machines, results of drivers */                                                              \
    X(FENCED,                503, "storage_unavailable",       503, "SERVICE_UNAVAILABLE", 503, 80003, 1, "Fenced by a newer epoch")       \
    X(CORRUPT,               500, "internal_error",            500, "INTERNAL_ERROR",      500, 50000, 0, "Stored bytes are damaged")      \
    X(IO,                    500, "internal_error",            500, "INTERNAL_ERROR",      500, 50000, 1, "Input/output error")            \
    X(TIMEOUT,               500, "timeout",                   500, "INTERNAL_ERROR",      500, 50003, 1, "Timed out")                     \
    X(CANCELLED,             500, "cancelled",                 500, "INTERNAL_ERROR",      500, 50000, 0, "Cancelled")                     \
    X(EXPIRED,               500, "expired",                   500, "INTERNAL_ERROR",      500, 50000, 0, "Expired")                       \
    X(BUDGET,                500, "budget",                    500, "INTERNAL_ERROR",      500, 50000, 0, "Budget reached")                \
    X(MODEL,                 500, "model",                     500, "INTERNAL_ERROR",      500, 50000, 0, "Model call failed")             \
    X(TOOL,                  500, "tool",                      500, "INTERNAL_ERROR",      500, 50000, 0, "Tool call failed")              \
    X(CHILD,                 500, "child",                     500, "INTERNAL_ERROR",      500, 50000, 0, "Child run failed")

enum err {
#define X(name, ...) ERR_##name,
    ERR_TABLE(X)
#undef X
    ERR_COUNT
};

struct err_info {
    const char *name;    /* "OK", for logs */
    int         ar_status;
    const char *ar_code;
    int         wf_status;
    const char *wf_code;
    int         ds_status;
    int         rt_code;
    bool        retryable;
    const char *title;
};

/* Never NULL; valid for ever. */
const struct err_info *err_info(enum err err);

/* Why something failed. Plain value, nothing to free; `field` is a JSON pointer, a parameter or header name, or empty. */
struct error {
    enum err code;
    char     field[128];
    char     message[256]; /* UTF-8, cut on a character boundary */
};

/* Fills `error` (which may be NULL) and returns `code`, so that `return error_set(...)` reads well. */
enum err error_set(struct error *error, enum err code, const char *field, const char *format, ...) PRINTF(4, 5);
