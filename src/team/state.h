/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - what the team machine remembers; shared by machine.c, the protocols and save.c. */
#pragma once
#include "team/plan.h"
#include "team/team.h"

enum team_life { TEAM_NEW, TEAM_RUNNING, TEAM_EVALUATING, TEAM_FINISHED, TEAM_FAILED, TEAM_LIVES };
enum turn_state { TURN_CALLING, TURN_TOOLS, TURN_DONE, TURN_STATES };

/* A turn of the phase that is under way. */
struct team_turn {
    enum turn_state state;
    uint32_t        tool;   /* TURN_TOOLS: the request that is being served */
    uint32_t        number; /* TURN_TOOLS: number of that tool call in the run */
    struct span     input;  /* the user text */
    bool            hinted; /* the wrap-up hint went with it */
    struct span     hint;
    struct span     answer; /* canonical response (answer.h); empty while calling */
};

/* A committed turn. */
struct team_entry {
    uint32_t    agent; /* index in team->agents */
    bool        abstains;
    struct span output;
};

/* Turns that run side by side: agents [first, first + count). */
struct team_phase {
    uint32_t    first, count;
    const char *name;  /* coordinator: plan, worker, final-synthesis */
    uint32_t    round; /* broadcast, from 1 */
};

struct machine {
    const struct plan *plan;
    const struct team *team;
    struct arena      *arena;
    enum team_life     life;
    struct span        intent;
    uint64_t           start_us;   /* elapsed time at which the team began */
    uint32_t           phase;      /* number of the phase under way, from 0 */
    uint32_t           first_call; /* number of its first model call */
    uint32_t           tool_calls; /* begun so far, in the run */
    bool               hinted;
    struct span        stopped;    /* stop record as JSON; empty: nothing stopped it */
    struct span        result;     /* TEAM_FINISHED: what it ended with */
    struct team_cost   cost;
    struct team_turn  *turns;      /* turn_count of them; none between phases */
    uint32_t           turn_count;
    struct team_entry *entries;
    uint32_t           entry_count, entry_cap;
};

struct machine *team_machine_new(const struct plan *plan, struct arena *arena);
void            team_entry_add(struct machine *m, struct team_entry entry);
enum err team_save(const struct machine *m, struct buf *out);
enum err team_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret);

/* ---- protocols: one file each ---- */

struct team_protocol_ops {
    /* The phase of that number, or false when the protocol is complete. Depends on the team alone. */
    bool (*phase)(const struct team *team, uint32_t number, struct team_phase *ret);
    /* The two prompts of the k-th turn of a phase, byte by byte as in teams.md 8. */
    void (*system)(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out);
    void (*user)(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out);
    /* Members of the request's metadata that only this protocol has: before "tier" and behind it. NULL: none before. */
    void (*metadata_head)(const struct machine *m, struct jw *w);
    void (*metadata)(const struct machine *m, const struct team_phase *phase, uint32_t k, struct jw *w);
    /* "metadata" of the context of a tool call (teams.md 8.5): members of an open object. */
    void (*tool_metadata)(const struct team_phase *phase, struct jw *w);
    void (*output)(const struct machine *m, struct buf *out);
};
extern const struct team_protocol_ops team_sequential, team_coordinator, team_broadcast, team_shared;
const struct team_protocol_ops *team_protocol_of(const struct team *team);

/* ---- pieces of prompts (prompts.c) ---- */

/* "You are {id}, acting as {role} in a {Name} multi-agent protocol." */
void prompt_you_are(const struct team_agent *agent, const char *protocol, struct buf *out);
void prompt_instructions(const struct team_agent *agent, struct buf *out); /* "\nInstructions: …" or nothing */
void prompt_mission(const struct machine *m, struct buf *out);             /* "Mission: {intent}" */
void prompt_prior(const struct machine *m, struct buf *out);               /* all entries, "{role} ({id}): {output}" */
/* Entries [first, first + count) as "{role}:{id} => {output}", a line each. */
void prompt_contributions(const struct machine *m, uint32_t first, uint32_t count, struct buf *out);
