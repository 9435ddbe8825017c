/* SPDX-License-Identifier: Apache-2.0 */
/* save.c - snapshots of the team machine.
 *
 *     {"rev": 1, "life": "running", "intent": …, "start_us", "phase", "first_call", "tool_calls", "hinted"?: true, "stopped"?: {…},
 *      "result"?: {…}, "cost": {…}, "entries": [{"agent", "abstains"?: true, "output"}],
 *      "turns": [{"state", "tool", "number", "input", "hint"?, "answer"?}]} */
#include "team/state.h"

static const char *const life_names[TEAM_LIVES] = { "new", "running", "evaluating", "finished", "failed" };
static const char *const turn_names[TURN_STATES] = { "calling", "tools", "done" };

static void save_turn(const struct team_turn *turn, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "state"), jw_cstr(w, turn_names[turn->state]);
    jw_key(w, "tool"), jw_u64(w, turn->tool);
    jw_key(w, "number"), jw_u64(w, turn->number);
    jw_key(w, "input"), jw_str(w, turn->input);
    if (turn->hinted)
        jw_key(w, "hint"), jw_str(w, turn->hint);
    if (turn->answer.n)
        jw_key(w, "answer"), jw_raw(w, turn->answer);
    jw_end(w);
}

static void save_entry(const struct team_entry *entry, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "agent"), jw_u64(w, entry->agent);
    if (entry->abstains)
        jw_key(w, "abstains"), jw_bool(w, true);
    jw_key(w, "output"), jw_str(w, entry->output);
    jw_end(w);
}

enum err team_save(const struct machine *m, struct buf *out)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "rev"), jw_u64(&w, team_ops.rev);
    jw_key(&w, "life"), jw_cstr(&w, life_names[m->life]);
    jw_key(&w, "intent"), jw_str(&w, m->intent);
    jw_key(&w, "start_us"), jw_u64(&w, m->start_us);
    jw_key(&w, "phase"), jw_u64(&w, m->phase);
    jw_key(&w, "first_call"), jw_u64(&w, m->first_call);
    jw_key(&w, "tool_calls"), jw_u64(&w, m->tool_calls);
    if (m->hinted)
        jw_key(&w, "hinted"), jw_bool(&w, true);
    if (m->stopped.n)
        jw_key(&w, "stopped"), jw_raw(&w, m->stopped);
    if (m->result.n)
        jw_key(&w, "result"), jw_raw(&w, m->result);
    jw_key(&w, "cost"), team_cost_to_json(&m->cost, &w);
    jw_key(&w, "entries"), jw_arr(&w);
    for (uint32_t i = 0; i < m->entry_count; i++)
        save_entry(&m->entries[i], &w);
    jw_arr_end(&w);
    jw_key(&w, "turns"), jw_arr(&w);
    for (uint32_t i = 0; i < m->turn_count; i++)
        save_turn(&m->turns[i], &w);
    jw_arr_end(&w);
    jw_end(&w);
    return ERR_OK;
}

/* ---- load ---- */

static bool get_u32(struct jv object, const char *name, uint32_t *ret)
{
    int64_t n;
    if (!jv_i64(jv_get(object, name), &n) || n < 0 || n > UINT32_MAX)
        return false;
    *ret = (uint32_t)n;
    return true;
}

static bool get_text(struct jv v, struct arena *arena, struct span *ret)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    if (!jv_is(v, JSON_STRING))
        return false;
    *ret = arena_copy(arena, jv_string(v, &scratch));
    return true;
}

static bool get_name(struct jv v, const char *const *names, unsigned count, unsigned *ret)
{
    for (*ret = 0; *ret < count; ++*ret)
        if (jv_str_eq(v, names[*ret]))
            return true;
    return false;
}

static bool load_entries(struct machine *m, struct jv list)
{
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct team_entry entry = { .abstains = jv_bool(jv_get(it.value, "abstains"), false) };
        if (!get_u32(it.value, "agent", &entry.agent) || entry.agent >= m->team->agent_count ||
            !get_text(jv_get(it.value, "output"), m->arena, &entry.output))
            return false;
        team_entry_add(m, entry);
    }
    return true;
}

static bool load_turn(struct machine *m, struct jv v, struct team_turn *turn)
{
    unsigned  state;
    struct jv answer = jv_get(v, "answer");
    if (!get_name(jv_get(v, "state"), turn_names, TURN_STATES, &state) || !get_u32(v, "tool", &turn->tool) ||
        !get_u32(v, "number", &turn->number) || !get_text(jv_get(v, "input"), m->arena, &turn->input))
        return false;
    turn->state = state;
    turn->hinted = get_text(jv_get(v, "hint"), m->arena, &turn->hint);
    if (jv_is(answer, JSON_OBJECT))
        turn->answer = arena_copy(m->arena, jv_raw(answer));
    return (turn->state == TURN_CALLING) == (turn->answer.n == 0);
}

/* As many turns as the phase has, or none. */
static bool load_turns(struct machine *m, struct jv list)
{
    struct team_phase phase;
    size_t            count = jv_count(list);
    if (count == 0)
        return true;
    if (!team_protocol_of(m->team)->phase(m->team, m->phase, &phase) || phase.count != count)
        return false;
    m->turns = ARENA_ARRAY(m->arena, struct team_turn, count);
    for (struct jv_iter it = jv_iter(list); jv_step(&it); m->turn_count++)
        if (!load_turn(m, it.value, &m->turns[m->turn_count]))
            return false;
    return true;
}

static bool load_all(struct machine *m, struct jv v)
{
    unsigned  life;
    int64_t   start_us, rev;
    struct jv stopped = jv_get(v, "stopped");
    if (!jv_i64(jv_get(v, "rev"), &rev) || rev != team_ops.rev || !get_name(jv_get(v, "life"), life_names, TEAM_LIVES, &life) ||
        !get_text(jv_get(v, "intent"), m->arena, &m->intent) || !jv_i64(jv_get(v, "start_us"), &start_us) || start_us < 0 ||
        !get_u32(v, "phase", &m->phase) || !get_u32(v, "first_call", &m->first_call) || !get_u32(v, "tool_calls", &m->tool_calls))
        return false;
    m->life = life;
    m->start_us = (uint64_t)start_us;
    m->hinted = jv_bool(jv_get(v, "hinted"), false);
    if (jv_is(stopped, JSON_OBJECT))
        m->stopped = arena_copy(m->arena, jv_raw(stopped));
    if (jv_is(jv_get(v, "result"), JSON_OBJECT))
        m->result = arena_copy(m->arena, jv_raw(jv_get(v, "result")));
    team_cost_read(jv_get(v, "cost"), &m->cost);
    if ((m->life == TEAM_FINISHED) != (m->result.n > 0))
        return false;
    return load_entries(m, jv_get(v, "entries")) && load_turns(m, jv_get(v, "turns"));
}

enum err team_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct machine *m = team_machine_new(plan, arena);
    if (!load_all(m, json_read(saved, &scratch)))
        return ERR_CORRUPT;
    *ret = m;
    return ERR_OK;
}
