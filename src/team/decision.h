/* SPDX-License-Identifier: Apache-2.0 */
/* decision.h - the four labelled parts of an agent's answer (teams.md 9). */
#pragma once
#include "base/json.h"

struct team_decision {
    struct span role, rationale, contribution; /* parts of the text, trimmed, not empty */
    bool        abstains;
};
/* false: no decision, *ret untouched. Spans point into `text`. */
bool team_decision_parse(struct span text, struct team_decision *ret);
/* {"selectedRole","participation","rationale","contribution"} */
void team_decision_to_json(const struct team_decision *decision, struct jw *w);
