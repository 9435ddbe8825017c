/* SPDX-License-Identifier: Apache-2.0 */
/* graph_save.c - snapshots of the graph machine.
 *
 *     {"rev": 1, "life": "running", "steps": 3, "pauses"?, "paused"?: true, "input"?: …, "values": {…},
 *      "nodes": {NAME: {"execs", "try", "step", "phase"?, "token"?: true, "ended"?: true, "fails"?, "due_us"?, "memo"?,
 *                       "inner"?, "output"?}}}
 *
 * Nodes that were never reached are left out, the others stand in byte order; so equal states have equal texts.
 * "phase" is there while the node is in flight: model, timer, answer, child, backoff, inner. "memo" belongs to an execution
 * in flight. "inner" is the snapshot of the machine in the node. */
#include "workflow/graph.h"
#include "machine/save.h"
#include "workflow/flow.h"
#include "workflow/nested.h"
#include "workflow/state.h"

const char *const phase_names[PHASE_COUNT] = {
    [PHASE_IDLE] = "idle",     [PHASE_MODEL] = "model", [PHASE_TIMER] = "timer",
    [PHASE_ANSWER] = "answer", [PHASE_CHILD] = "child", [PHASE_BACKOFF] = "backoff", [PHASE_INNER] = "inner",
    [PHASE_TOOL] = "tool",
};
const char *const life_names[LIFE_COUNT] = {
    [LIFE_NEW] = "new", [LIFE_RUNNING] = "running", [LIFE_FINISHED] = "finished", [LIFE_FAILED] = "failed"
};

/* ---- save ---- */

static enum err save_node(const struct plan_node *node, const struct node_state *ns, struct jw *w)
{
    bool flies = ns->phase != PHASE_IDLE;

    if (!ns->execs && !ns->token)
        return ERR_OK;
    jw_key_span(w, node->id);
    jw_obj(w);
    save_number(w, "execs", ns->execs);
    save_number(w, "try", ns->try_no);
    save_number(w, "step", ns->step);
    if (flies) {
        jw_key(w, "phase");
        jw_cstr(w, phase_names[ns->phase]);
    }
    save_flag(w, "token", ns->token);
    save_flag(w, "ended", ns->ended);
    save_number(w, "fails", ns->fails);
    save_number(w, "due_us", flies ? ns->due_us : 0);
    if (flies)
        save_json(w, "memo", slot_view(&ns->memo));
    if (ns->inner) {
        jw_key(w, "inner");
        enum err err = nested_save(node, ns->inner, w);
        if (err)
            return err;
    }
    save_json(w, "output", slot_view(&ns->output));
    jw_end(w);
    return ERR_OK;
}

enum err graph_save(const struct machine *m, struct buf *out)
{
    if (m->flow)
        return flow_save(m, out);
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "rev");
    jw_u64(&w, graph_ops.rev);
    jw_key(&w, "life");
    jw_cstr(&w, life_names[m->life]);
    save_number(&w, "steps", m->steps);
    save_number(&w, "pauses", m->pauses);
    save_flag(&w, "paused", m->paused);
    save_json(&w, "input", slot_view(&m->input));
    save_json(&w, "values", slot_view(&m->values));
    jw_key(&w, "nodes");
    jw_obj(&w);
    for (uint32_t i = 0; i < m->graph->node_count; i++) {
        enum err err = save_node(&m->graph->nodes[i], &m->nodes[i], &w);
        if (err)
            return err;
    }
    jw_end(&w);
    jw_end(&w);
    return ERR_OK;
}

/* ---- load ---- */

static void get_text(struct jv object, const char *name, struct slot *slot, struct arena *arena)
{
    struct jv v = jv_get(object, name);
    if (!jv_is(v, JSON_NONE))
        slot_set(slot, jv_raw(v), arena);
}

/* A capability that cannot wait has nothing in flight, whatever the text says. */
static bool phase_fits(const struct plan_node *node, enum phase phase)
{
    if (phase == PHASE_IDLE || phase == PHASE_BACKOFF)
        return true;
    return node->inner ? phase == PHASE_INNER : phase != PHASE_INNER && node->capability->answer;
}

static bool load_node(struct machine *m, uint32_t node, struct jv v)
{
    struct node_state *ns = &m->nodes[node];
    struct jv phase_name = jv_get(v, "phase");
    uint32_t phase = PHASE_IDLE;

    if (!jv_is(phase_name, JSON_NONE) && !load_word(phase_name, phase_names, PHASE_COUNT, &phase))
        return false;
    if (!load_u32(v, "execs", &ns->execs) || !load_u32(v, "try", &ns->try_no) || !load_u32(v, "step", &ns->step) ||
        !load_u32(v, "fails", &ns->fails) || !load_number(v, "due_us", INT64_MAX, &ns->due_us))
        return false;
    ns->phase = (enum phase)phase;
    ns->token = jv_bool(jv_get(v, "token"), false);
    ns->ended = jv_bool(jv_get(v, "ended"), false);
    get_text(v, "memo", &ns->memo, m->arena);
    get_text(v, "output", &ns->output, m->arena);
    struct jv inner = jv_get(v, "inner");
    if (!jv_is(inner, JSON_NONE) && nested_load(&m->graph->nodes[node], jv_raw(inner), m->arena, &ns->inner))
        return false;
    if (ns->phase == PHASE_INNER && !ns->inner)
        return false;
    m->running += ns->phase != PHASE_IDLE;
    m->tokens += ns->token;
    m->failers += ns->fails > 0;
    return phase_fits(&m->graph->nodes[node], ns->phase) && (ns->phase == PHASE_IDLE || ns->execs > 0);
}

static bool load_nodes(struct machine *m, struct jv nodes, struct arena *scratch)
{
    if (!jv_is(nodes, JSON_OBJECT))
        return false;
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it);) {
        uint32_t node = graph_find(m->graph, jv_string(it.name, scratch));
        if (node == NO_INDEX || !load_node(m, node, it.value))
            return false;
    }
    return true;
}

enum err graph_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    const struct graph *graph = plan->compiled;
    if (graph->flow)
        return flow_load(plan, saved, arena, ret);
    struct jv root = json_read(saved, &scratch);
    struct machine *m = machine_new(plan, arena);
    uint32_t rev, life;

    if (!load_u32(root, "rev", &rev) || rev != graph_ops.rev ||
        !load_word(jv_get(root, "life"), life_names, LIFE_COUNT, &life) || !load_u32(root, "steps", &m->steps) ||
        !load_u32(root, "pauses", &m->pauses) || !jv_is(jv_get(root, "values"), JSON_OBJECT))
        return ERR_CORRUPT;
    m->life = (enum life)life;
    m->paused = jv_bool(jv_get(root, "paused"), false);
    get_text(root, "input", &m->input, arena);
    get_text(root, "values", &m->values, arena);
    if (!load_nodes(m, jv_get(root, "nodes"), &scratch))
        return ERR_CORRUPT;
    *ret = m;
    return ERR_OK;
}
