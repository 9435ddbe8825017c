/* SPDX-License-Identifier: Apache-2.0 */
/* retry.h - when a failed model call is tried again (teams.md, retry section; the same for every machine).
 *
 * Pure: the host passes the draw and carries out the wait. */
#pragma once
#include "base/json.h"

struct retry_policy {
    uint32_t max_attempts;   /* from 1 */
    uint64_t base_delay_ms, max_delay_ms;
    bool     jitter;         /* full: draw in [0, delay] */
    uint32_t codes;          /* bit set of what is tried again; see retry.c */
};
void     retry_default(struct retry_policy *ret);
/* {"max_attempts"?, "base_delay_ms"?, "max_delay_ms"?, "jitter"?, "retry_on"?: [code…]}; ERR_VALIDATION names the member. */
enum err retry_parse(struct jv config, const char *pointer, struct retry_policy *ret, struct error *error);
/* `error`: the error object of the call that was try number `attempt` (from 1); `draw`: uniform in [0, 1).
 * Returns false when it is not tried again; else *ret_ms is how long to wait (Retry-After included). */
bool     retry_after(const struct retry_policy *policy, struct jv error, uint32_t attempt, double draw, uint64_t *ret_ms);
