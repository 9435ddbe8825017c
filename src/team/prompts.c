/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.c - the pieces that the protocols' prompts share (teams.md 8). */
#include "team/state.h"

void prompt_you_are(const struct team_agent *agent, const char *protocol, struct buf *out)
{
    BUF_LIT(out, "You are ");
    buf_span(out, agent->id);
    BUF_LIT(out, ", acting as ");
    buf_span(out, agent->role);
    buf_printf(out, " in a %s multi-agent protocol.", protocol);
}

void prompt_instructions(const struct team_agent *agent, struct buf *out)
{
    if (!agent->instructions.n)
        return;
    BUF_LIT(out, "\nInstructions: ");
    buf_span(out, agent->instructions);
}

void prompt_mission(const struct machine *m, struct buf *out)
{
    BUF_LIT(out, "Mission: ");
    buf_span(out, m->intent);
}

void prompt_prior(const struct machine *m, struct buf *out)
{
    for (uint32_t i = 0; i < m->entry_count; i++) {
        const struct team_agent *agent = &m->team->agents[m->entries[i].agent];
        if (i)
            BUF_LIT(out, "\n\n");
        buf_span(out, agent->role);
        BUF_LIT(out, " (");
        buf_span(out, agent->id);
        BUF_LIT(out, "): ");
        buf_span(out, m->entries[i].output);
    }
}

void prompt_contributions(const struct machine *m, uint32_t first, uint32_t count, struct buf *out)
{
    for (uint32_t i = first; i < first + count; i++) {
        const struct team_agent *agent = &m->team->agents[m->entries[i].agent];
        if (i > first)
            buf_byte(out, '\n');
        buf_span(out, agent->role);
        buf_byte(out, ':');
        buf_span(out, agent->id);
        BUF_LIT(out, " => ");
        buf_span(out, m->entries[i].output);
    }
}

const struct team_protocol_ops *team_protocol_of(const struct team *team)
{
    static const struct team_protocol_ops *const protocols[TEAM_PROTOCOLS] = {
        [TEAM_SEQUENTIAL] = &team_sequential,
        [TEAM_COORDINATOR] = &team_coordinator,
        [TEAM_BROADCAST] = &team_broadcast,
        [TEAM_SHARED] = &team_shared,
    };
    return protocols[team->protocol];
}
