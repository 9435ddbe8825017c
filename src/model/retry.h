/* SPDX-License-Identifier: Apache-2.0 */
/* retry.h - when a failed model call is tried again (teams.md 13.4, "Retry wrapper"; the same for every machine).
 *
 * Pure: the host passes the draw and carries out the wait. Whether an error is worth another try is decided by its class alone;
 * the error's own `retryable` is not consulted (13.4). A cancelled call is never tried again. */
#pragma once
#include "base/json.h"

/* The codes of teams.md 11.4, and what our own errors (model.h) are among them. */
enum retry_class {
    RETRY_NEVER,            /* aborted, cancelled, and whatever is no failure of a model call */
    RETRY_RATE_LIMITED,     /* provider-rate-limited: category rate_limit, but for quota_exceeded */
    RETRY_TIMEOUT,          /* provider-timeout: category timeout */
    RETRY_UNAVAILABLE,      /* provider-unavailable: provider_error, overloaded (5xx) */
    RETRY_NETWORK,          /* a TypeError that is no DogpileError: category network, cut streams included */
    RETRY_AUTHENTICATION,   /* provider-authentication: category auth */
    RETRY_NOT_FOUND,        /* provider-not-found */
    RETRY_INVALID_REQUEST,  /* provider-invalid-request: category validation, provider_rejected */
    RETRY_INVALID_RESPONSE, /* provider-invalid-response: invalid_stream, unexpected_content_type, answer_too_large */
    RETRY_ERROR,            /* provider-error: any other failure of a provider or a model */
    RETRY_QUOTA,            /* quota_exceeded: the money is gone, and waiting does not bring it back */
    RETRY_CLASS_COUNT
};

struct retry_policy {
    uint32_t max_attempts;   /* all tries together, from 1 */
    uint64_t base_delay_ms, max_delay_ms;
    bool     jitter;         /* "full": draw in [0, delay]; else "none" */
    uint32_t codes;          /* 1 << enum retry_class of what is tried again */
};

/* 3 tries, 250 ms, at most 4000 ms, full jitter; rate limits, timeouts, unavailable providers and the network. */
void     retry_default(struct retry_policy *ret);
/* {"max_attempts"?, "base_delay_ms"?, "max_delay_ms"?, "jitter"?: "full" | "none", "retry_on"?: [code…]} on top of the default;
 * codes as in 11.4 ("provider-timeout"), or their last words in our spelling ("timeout", "rate_limited", "network"). Absent:
 * the default. ERR_VALIDATION names the member; *ret is untouched then. */
enum err retry_parse(struct jv config, const char *pointer, struct retry_policy *ret, struct error *error);
/* `error`: the error object of model.h, or {"name", "code", "detail"?} of teams.md. */
enum retry_class retry_class_of(struct jv error);
/* `error`: the error object of the call that was try number `attempt` (from 1); `draw`: uniform in [0, 1).
 * Returns false when it is not tried again; else *ret_ms is how long to wait (Retry-After included; 0: do not sleep). */
bool     retry_after(const struct retry_policy *policy, struct jv error, uint32_t attempt, double draw, uint64_t *ret_ms);
/* Whether retry_after would look at `draw`: the sequence of random numbers of a run must not move when it does not. */
bool     retry_draws(const struct retry_policy *policy, struct jv error, uint32_t attempt);
