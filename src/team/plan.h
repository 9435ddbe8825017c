/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - a team's definition, checked and laid out for the machine and for the trace. */
#pragma once
#include "machine/machine.h"
#include "team/order.h"
#include "team/terminate.h"

enum team_protocol { TEAM_SEQUENTIAL, TEAM_COORDINATOR, TEAM_BROADCAST, TEAM_SHARED, TEAM_PROTOCOLS };
extern const char *const team_protocol_names[TEAM_PROTOCOLS];

enum { TEAM_AGENTS_MAX = 256, TEAM_TOOLS_MAX = 256, TEAM_ROUNDS_MAX = 10000 };

struct team_tool {
    struct span id;
    struct span identity; /* the whole object as it was given, canonical */
};

struct team {
    enum team_protocol protocol;
    uint32_t           rounds;      /* broadcast: maxRounds */
    double             floor;       /* minTurns or minRounds; 0: none */
    bool               has_floor;   /* it was given */
    struct span        memory;      /* shared: organizationalMemory */
    struct span        tier;
    double             temperature;
    struct span        provider_id; /* what the trace calls the model provider */
    struct span        provider, model, retry; /* what FX_MODEL says; retry: JSON or empty */
    bool               stream;
    struct span        max_tokens;  /* JSON for every request, or empty */
    struct jv          script;      /* what the scripted model is to do: for each call, or a list of one per call; or absent */
    struct team_agent *agents;      /* the active ones, in their order */
    size_t             agent_count;
    struct team_tool  *tools;
    size_t             tool_count;
    struct jv          terminate;   /* the condition in force, or absent */
    struct team_caps   effective;   /* of budget and terminate together: for the hint */
    bool               has_limit;
    double             limit_ms;    /* the run's time limit (teams.md 11.2) */
    struct jv          hint;        /* or absent */
    struct span        evaluate;    /* name of the tool that judges the result, or empty */
    struct jv          evaluate_options;
    struct span        intent;      /* of the definition: used when the run brings none; may be empty */

    /* JSON, canonical, for the trace and for requests; empty: not there */
    struct span protocol_json, agents_json, budget_json, terminate_json, seed_json, tools_json;
};

/* The whole of `definition` must have passed team_validate. Texts live in the arena and in the definition's document. */
void team_read(struct jv definition, struct arena *arena, struct team *ret);
/* Canonical text (teams.md 1) of a value; of JSON text. In `arena`. */
struct span team_canonical(struct jv v, struct arena *arena);
struct span team_canonical_text(struct span json, struct arena *arena);
