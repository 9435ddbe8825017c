/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h - a model's answer as the contract's ModelResponse (teams.md 2.6), whichever of the two forms it came in.
 *
 * A host's provider answers in the neutral form (finish_reason, usage.input_tokens, tool_calls, cost_usd as a number or decimal
 * text); scripted teams answer in the contract's own. Members of the contract's form win. */
#pragma once
#include "team/plan.h"

/* Canonical JSON of {"text","finishReason"?,"toolRequests"?,"usage"?,"costUsd"?,"metadata"?}, in `arena`. Neutral tool calls name
 * a tool by its identity's name; it is looked up in `team`. */
struct span team_answer(const struct team *team, struct jv answer, struct arena *arena);
