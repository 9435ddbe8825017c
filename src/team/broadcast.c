/* SPDX-License-Identifier: Apache-2.0 */
/* broadcast.c - all agents at once, in rounds; from the second round on they know what was intended in the first
 * (teams.md 8.2). */
#include "team/state.h"

static bool broadcast_phase(const struct team *team, uint32_t number, struct team_phase *ret)
{
    *ret = (struct team_phase){ .first = 0, .count = (uint32_t)team->agent_count, .round = number + 1 };
    return number < team->rounds;
}

static void broadcast_system(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    const struct team_agent *agent = &m->team->agents[k];
    prompt_you_are(agent, "Broadcast", out);
    prompt_instructions(agent, out);
}

static void broadcast_user(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    prompt_mission(m, out);
    if (m->team->rounds == 1)
        buf_printf(out, "\nBroadcast round %u: contribute independently before synthesis.", phase->round);
    else if (phase->round == 1)
        BUF_LIT(out, "\nBroadcast round 1: broadcast your intended role and participation decision. "
                     "Do not produce the final plan yet.");
    else {
        BUF_LIT(out, "\n\nRound 1 intentions:\n");
        prompt_contributions(m, 0, (uint32_t)m->team->agent_count, out);
        buf_printf(out, "\n\nBroadcast round %u: make your final contribution or abstention decision informed by all round 1 "
                        "intentions.", phase->round);
    }
}

static void broadcast_metadata(const struct machine *m, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    jw_key(w, "round");
    jw_u64(w, phase->round);
}

static void broadcast_tool_metadata(const struct team_phase *phase, struct jw *w)
{
    jw_key(w, "round");
    jw_u64(w, phase->round);
}

/* The last round that was completed: rounds are committed as a whole. */
static void broadcast_output(const struct machine *m, struct buf *out)
{
    uint32_t agents = (uint32_t)m->team->agent_count;
    if (m->entry_count >= agents)
        prompt_contributions(m, m->entry_count - agents, agents, out);
}

const struct team_protocol_ops team_broadcast = {
    .phase = broadcast_phase,
    .system = broadcast_system,
    .user = broadcast_user,
    .metadata = broadcast_metadata,
    .tool_metadata = broadcast_tool_metadata,
    .output = broadcast_output,
};
