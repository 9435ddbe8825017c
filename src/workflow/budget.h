/* SPDX-License-Identifier: Apache-2.0 */
/* budget.h - "budget" of a definition: what a run may cost at most (model.md 7.2).
 *
 *     {"max_usd"?: "0.25", "max_tokens"?, "max_model_calls"?, "max_tool_calls"?, "max_seconds"?, "on_breach"?: "fail"}
 *
 * Money is decimal text with at most 12 digits behind the point and at most 9,000,000 in front, or it could not be counted
 * exactly. on_breach: fail (the default), stop, ask. A plan has the same members, money in its shortest form, nothing that
 * is the default. */
#pragma once
#include "machine/machine.h"

struct budget_text {
    struct span max_usd; /* shortest form, or empty */
    struct plan_budget budget;
};

/* Absent and null: no caps. */
void budget_read(struct jv budget, struct arena *arena, struct buf *at, struct issues *issues, struct budget_text *ret);
/* Writes the member "budget", or nothing. */
void budget_write(const struct budget_text *budget, struct jw *w);
/* From a plan. false when it is damaged. */
bool budget_open(struct jv budget, struct plan_budget *ret);
/* false when it is no such text, or too large or too fine to be counted in 10^-12 USD, or 0. */
bool budget_usd(struct span text, int64_t *ret_pico);
