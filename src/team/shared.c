/* SPDX-License-Identifier: Apache-2.0 */
/* shared.c - all agents at once, each with the configured memory as the shared state (teams.md 8.3). */
#include "team/state.h"

static bool shared_phase(const struct team *team, uint32_t number, struct team_phase *ret)
{
    *ret = (struct team_phase){ .first = 0, .count = (uint32_t)team->agent_count };
    return number == 0;
}

static void shared_system(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    const struct team_agent *agent = &m->team->agents[k];
    prompt_you_are(agent, "Shared", out);
    BUF_LIT(out, " Read the shared state, update it with your best contribution, and preserve useful prior work.");
    prompt_instructions(agent, out);
}

static void shared_user(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    prompt_mission(m, out);
    buf_printf(out, "\nShared turn %u: read the shared state and return an improved shared-state update.\n\nShared state:\n", k + 1);
    buf_span(out, m->team->memory.n ? m->team->memory : SPAN("(empty)"));
}

static void shared_metadata(const struct machine *m, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    jw_key(w, "turn");
    jw_u64(w, k + 1);
}

static void shared_output(const struct machine *m, struct buf *out)
{
    prompt_contributions(m, 0, m->entry_count, out);
}

const struct team_protocol_ops team_shared = {
    .phase = shared_phase,
    .system = shared_system,
    .user = shared_user,
    .metadata = shared_metadata,
    .output = shared_output,
};
