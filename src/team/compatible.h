/* SPDX-License-Identifier: Apache-2.0 */
/* compatible.h - the contract's OpenAI-compatible provider as a pure function (teams.md 13.2): what it sends, and what it makes
 * of the reply. The engine's own provider (src/model) speaks the same protocol; this is what the contract's vectors are about. */
#pragma once
#include "base/json.h"

/* Writes the members id, http, response and error into an open object: null where there is nothing. `reply` is {"status",
 * "statusText"?, "body"? | "notJson": true} or {"throw": {"name","message"}}. */
void team_compatible(struct jv options, struct jv request, struct jv reply, struct jw *w);
