/* SPDX-License-Identifier: Apache-2.0 */
/* sequential.c - one agent after another, each sees what all before it said (teams.md 8.1). */
#include "team/state.h"

static bool sequential_phase(const struct team *team, uint32_t number, struct team_phase *ret)
{
    *ret = (struct team_phase){ .first = number, .count = 1 };
    return number < team->agent_count;
}

static void sequential_system(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    const struct team_agent *agent = &m->team->agents[phase->first + k];
    prompt_you_are(agent, "Sequential", out);
    prompt_instructions(agent, out);
}

static void sequential_user(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    prompt_mission(m, out);
    if (m->entry_count == 0) {
        BUF_LIT(out, "\nProvide your contribution.");
        return;
    }
    BUF_LIT(out, "\n\nPrior contributions:\n");
    prompt_prior(m, out);
    BUF_LIT(out, "\n\nContinue the sequence with a useful next contribution.");
}

static void sequential_metadata(const struct machine *m, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    jw_key(w, "turn");
    jw_u64(w, phase->first + 1);
}

static void sequential_output(const struct machine *m, struct buf *out)
{
    for (uint32_t i = m->entry_count; i-- > 0;)
        if (!m->entries[i].abstains) {
            buf_span(out, m->entries[i].output);
            return;
        }
}

const struct team_protocol_ops team_sequential = {
    .phase = sequential_phase,
    .system = sequential_system,
    .user = sequential_user,
    .metadata = sequential_metadata,
    .output = sequential_output,
};
