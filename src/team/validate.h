/* SPDX-License-Identifier: Apache-2.0 */
/* validate.h - the options of a run, checked before anything runs (teams.md 6): the first failure in the contract's order. */
#pragma once
#include "base/json.h"

/* What is wrong; all texts live in the arena given to the check. */
struct team_problem {
    struct span path; /* "agents[1].role" */
    const char *rule, *message, *expected, *received;
    struct span message_made; /* when the message has numbers in it; message is NULL then */
    struct span expected_made;
};

enum {
    TEAM_CHECK_INTENT    = 1, /* the intent is required (it comes with the options, not with the run) */
    TEAM_CHECK_FUNCTIONS = 2, /* members that are functions in the SDK must not be JSON values; without this flag, model.stream is
                                 a boolean, wrapUpHint.inject a text and evaluate an object, as definitions have them */
};

/* false: something is wrong, *ret says what. Functions that are absent count as given. */
bool team_validate(struct jv options, unsigned flags, struct arena *arena, struct team_problem *ret);
/* {"name":"DogpileError","code":"invalid-configuration","message","retryable":false,"detail":{…}} */
void team_problem_to_json(const struct team_problem *problem, struct jw *w);
/* "Invalid Dogpile configuration at {path}: {message}" */
struct span team_problem_text(const struct team_problem *problem, struct arena *arena);
/* The rule for an intent alone; `given` is what came (for "received"). */
bool team_intent_valid(struct span intent, struct jv given, struct arena *arena, struct team_problem *ret);
