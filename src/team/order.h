/* SPDX-License-Identifier: Apache-2.0 */
/* order.h - in which order the agents of a team stand (teams.md 2.4). */
#pragma once
#include "base/json.h"

struct team_agent {
    struct span id, role, instructions; /* instructions: may be empty */
    struct span json;                   /* the object as it was given, canonical */
    uint32_t    score;                  /* selection hash; computed by team_order when there is a seed */
};

/* 32-bit FNV-1a over the UTF-16 units of seed NUL id NUL role NUL instructions; `seed` is the text itself or a number's text. */
uint32_t team_selection_hash(struct span seed, const struct team_agent *agent);
/* The default collation of JavaScript (localeCompare, ICU root) for printable ASCII: white space, punctuation, digits, letters;
 * case counts only when all else is equal, lower case first. Other characters stand behind the letters, by code point: accents
 * are not folded (teams.md 2.4 allows an engine to stop here). */
int  team_collate(struct span a, struct span b);
/* Temperature not 0: unchanged. Otherwise sorted, stable. `seed`: a JSON string or number, or absent. */
void team_order(struct team_agent *agents, size_t count, double temperature, struct jv seed);
