/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator.c - the first agent plans, the others work side by side, the first one draws it together (teams.md 8.4). */
#include "team/state.h"

static bool coordinator_phase(const struct team *team, uint32_t number, struct team_phase *ret)
{
    uint32_t workers = (uint32_t)team->agent_count - 1;
    if (number > 0 && workers == 0)
        number++; /* nobody to work: the synthesis follows the plan */
    if (number == 1)
        *ret = (struct team_phase){ .first = 1, .count = workers, .name = "worker" };
    else
        *ret = (struct team_phase){ .first = 0, .count = 1, .name = number == 0 ? "plan" : "final-synthesis" };
    return number < 3;
}

static void coordinator_system(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    const struct team_agent *agent = &m->team->agents[phase->first + k], *coordinator = &m->team->agents[0];
    prompt_you_are(agent, "Coordinator", out);
    if (span_eq(agent->id, coordinator->id))
        BUF_LIT(out, " You are the coordinator: assign work, integrate worker contributions, and produce the final answer.");
    else {
        BUF_LIT(out, " You are a worker managed by coordinator ");
        buf_span(out, coordinator->id);
        buf_byte(out, '.');
    }
    prompt_instructions(agent, out);
}

static void coordinator_user(const struct machine *m, const struct team_phase *phase, uint32_t k, struct buf *out)
{
    struct span coordinator = m->team->agents[0].id;
    prompt_mission(m, out);
    if (strcmp(phase->name, "plan") == 0) {
        BUF_LIT(out, "\nCoordinator ");
        buf_span(out, coordinator);
        BUF_LIT(out, ": assign the work, name the plan, and provide the first contribution.");
        return;
    }
    BUF_LIT(out, "\n\nCoordinator: ");
    buf_span(out, coordinator);
    BUF_LIT(out, "\nPrior contributions:\n");
    prompt_prior(m, out);
    if (strcmp(phase->name, "worker") == 0)
        BUF_LIT(out, "\n\nFollow the coordinator-managed plan and provide your assigned contribution.");
    else
        BUF_LIT(out, "\n\nSynthesize the final answer as the coordinator.");
}

static void coordinator_metadata_head(const struct machine *m, struct jw *w)
{
    jw_key(w, "coordinatorAgentId");
    jw_str(w, m->team->agents[0].id);
}

static void coordinator_metadata(const struct machine *m, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    jw_key(w, "phase");
    jw_cstr(w, phase->name);
}

static void coordinator_tool_metadata(const struct team_phase *phase, struct jw *w)
{
    jw_key(w, "phase");
    jw_cstr(w, phase->name);
}

static void coordinator_output(const struct machine *m, struct buf *out)
{
    if (m->entry_count)
        buf_span(out, m->entries[m->entry_count - 1].output);
}

const struct team_protocol_ops team_coordinator = {
    .phase = coordinator_phase,
    .system = coordinator_system,
    .user = coordinator_user,
    .metadata_head = coordinator_metadata_head,
    .metadata = coordinator_metadata,
    .tool_metadata = coordinator_tool_metadata,
    .output = coordinator_output,
};
