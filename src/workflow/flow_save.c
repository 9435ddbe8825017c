/* SPDX-License-Identifier: Apache-2.0 */
/* flow_save.c - snapshots of a workflow.v1's run.
 *
 *     {"rev": 1, "life": "running", "steps": 3, "pauses"?, "paused"?: true, "input"?: {…}, "values": {…},
 *      "nodes": {ID: {"status"?, "execs"?, "step"?, "order"?, "waits"?: true, "limit_us"?, "timers"?, "collect_us"?,
 *                     "late"?: true, CALL, "output"?, "items"?: [{"status"?, CALL, "value"?, "output"?}…], "failed"?}}}
 *
 * CALL: "phase"? (inner, backoff), "try"?, "inner"?: the snapshot of the agent. "status" is left out when it is pending, a node
 * when it is as in the beginning. "order" is the place of a node among those that are done: what follows for their targets is
 * not saved but found again, in that order. */
#include "workflow/flow.h"
#include "machine/save.h"
#include "workflow/graph.h"
#include "workflow/nested.h"

static const char *const phases[] = { [CALL_IDLE] = "idle", [CALL_INNER] = "inner", [CALL_BACKOFF] = "backoff" };

/* ---- save ---- */

static void put_status(struct jw *w, enum flow_status status)
{
    if (status == FLOW_PENDING)
        return;
    jw_key(w, "status");
    jw_cstr(w, flow_status_names[status]);
}

static enum err save_call(const struct flow_call *call, struct jw *w)
{
    if (call->phase != CALL_IDLE) {
        jw_key(w, "phase");
        jw_cstr(w, phases[call->phase]);
    }
    save_number(w, "try", call->try_no);
    if (!call->inner)
        return ERR_OK;
    jw_key(w, "inner");
    return nested_save(&call->node, call->inner, w);
}

static enum err save_items(const struct flow_state *ns, struct jw *w)
{
    enum err err = ERR_OK;
    if (!ns->items)
        return ERR_OK;
    jw_key(w, "items");
    jw_arr(w);
    for (uint32_t i = 0; i < ns->item_count && !err; i++) {
        const struct flow_item *item = &ns->items[i];
        jw_obj(w);
        put_status(w, item->status);
        if (item->status != FLOW_SUCCEEDED)
            err = save_call(&item->call, w);
        save_json(w, "value", item->value);
        save_json(w, "output", item->output);
        jw_end(w);
    }
    jw_arr_end(w);
    if (ns->failed_item != NO_INDEX)
        save_number(w, "failed", (uint64_t)ns->failed_item + 1);
    return err;
}

static enum err save_node(const struct flow_state *ns, struct span id, struct jw *w)
{
    if (ns->status == FLOW_PENDING && !ns->execs && !ns->timers && !ns->collect_due_us)
        return ERR_OK;
    jw_key_span(w, id);
    jw_obj(w);
    put_status(w, ns->status);
    save_number(w, "execs", ns->execs);
    save_number(w, "step", ns->step);
    save_number(w, "order", ns->order);
    save_flag(w, "waits", ns->waits);
    save_number(w, "limit_us", ns->limit_us);
    save_number(w, "timers", ns->timers);
    save_number(w, "collect_us", ns->collect_due_us);
    save_flag(w, "late", ns->late);
    enum err err = ns->order ? ERR_OK : save_call(&ns->call, w);
    if (!err)
        err = save_items(ns, w);
    save_json(w, "output", slot_view(&ns->output));
    jw_end(w);
    return err;
}

enum err flow_save(const struct machine *m, struct buf *out)
{
    const struct flow_run *f = m->flow;
    struct jw w = jw_on(out);
    enum err err = ERR_OK;

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
    for (uint32_t i = 0; i < f->flow->node_count && !err; i++)
        err = save_node(&f->nodes[i], f->flow->nodes[i].job.node.id, &w);
    jw_end(&w);
    jw_end(&w);
    return err;
}

/* ---- load ---- */

/* The index of the name; 0 when there is none. */
static bool get_name(struct jv v, const char *const *names, uint32_t count, uint32_t *ret)
{
    *ret = 0;
    return jv_is(v, JSON_NONE) || load_word(v, names, count, ret);
}

struct loading {
    struct flow_run *f;
    struct arena scratch; /* of this load; documents of outputs too */
    struct jv input;
};

static struct jv load_node_doc(void *ctx, uint32_t node)
{
    struct loading *l = ctx;
    return json_read(slot_view(&l->f->nodes[node].output), &l->scratch);
}

static struct jv load_input(void *ctx, struct span name)
{
    struct loading *l = ctx;
    return flow_input(l->f, l->input, name);
}

/* The agent's plan is that of the node, unless this run has another for it. */
static bool load_call(struct loading *l, uint32_t node, const struct flow_job *job, struct span value, struct jv v,
                      struct flow_call *call)
{
    const struct flow_node *n = &l->f->flow->nodes[node];
    struct jv inner = jv_get(v, "inner"), request = jv_get(job->input, "request");
    struct flow_source source = { load_node_doc, load_input, l, l->f->flow, json_read(value, &l->scratch) };
    struct fault fault;
    unsigned phase;

    if (!get_name(jv_get(v, "phase"), phases, ARRAY_LEN(phases), &phase) || !load_u32(v, "try", &call->try_no))
        return false;
    call->phase = (enum flow_phase)phase;
    if (jv_is(inner, JSON_NONE))
        return call->phase != CALL_INNER;
    if (job->type != FLOW_LLM && job->type != FLOW_ROUTE)
        return false;
    if (job->rebuilt && !flow_request(job, &source, &l->scratch, &request, &fault))
        return false;
    call->node.inner = flow_inner(l->f, n, job, request);
    return call->node.inner && !nested_load(&call->node, jv_raw(inner), l->f->m->arena, &call->inner);
}

static bool load_item(struct loading *l, uint32_t node, uint32_t i, struct jv v)
{
    struct arena *arena = l->f->m->arena;
    const struct flow_node *n = &l->f->flow->nodes[node];
    struct flow_state *ns = &l->f->nodes[node];
    struct flow_item *item = &ns->items[i];
    unsigned status;

    if (!get_name(jv_get(v, "status"), flow_status_names, FLOW_STATUSES, &status))
        return false;
    item->status = (enum flow_status)status;
    item->value = load_json(v, "value", arena);
    item->output = load_json(v, "output", arena);
    item->call.node.id = arena_printf(arena, "%.*s:%.*s:%u", SPAN_ARG(n->job.node.id), SPAN_ARG(n->sub.node.id), i);
    ns->items_flying += item->status == FLOW_RUNNING;
    ns->items_done += item->status == FLOW_SUCCEEDED;
    if (item->status == FLOW_SUCCEEDED)
        return item->output.n;
    return item->value.n && load_call(l, node, &n->sub, item->value, v, &item->call);
}

static bool load_items(struct loading *l, uint32_t node, struct jv items)
{
    struct flow_state *ns = &l->f->nodes[node];
    uint32_t i = 0;

    if (jv_is(items, JSON_NONE))
        return true;
    if (l->f->flow->nodes[node].job.type != FLOW_FANOUT || !jv_is(items, JSON_ARRAY) ||
        jv_count(items) > FLOW_ITEMS_MAX)
        return false;
    ns->item_count = (uint32_t)jv_count(items);
    ns->items = ARENA_ARRAY(l->f->m->arena, struct flow_item, ns->item_count + 1);
    for (struct jv_iter it = jv_iter(items); jv_step(&it); i++)
        if (!load_item(l, node, i, it.value))
            return false;
    return ns->failed_item == NO_INDEX || ns->failed_item < ns->item_count;
}

/* First what calls may look at, then the calls. */
static bool load_node(struct loading *l, uint32_t node, struct jv v)
{
    struct flow_run *f = l->f;
    struct flow_state *ns = &f->nodes[node];
    struct jv output = jv_get(v, "output");
    unsigned status;
    uint32_t failed;

    if (!get_name(jv_get(v, "status"), flow_status_names, FLOW_STATUSES, &status) || !load_u32(v, "execs", &ns->execs) ||
        !load_u32(v, "step", &ns->step) || !load_u32(v, "order", &ns->order) || !load_u32(v, "timers", &ns->timers) ||
        !load_u32(v, "failed", &failed) || !load_number(v, "limit_us", INT64_MAX, &ns->limit_us) ||
        !load_number(v, "collect_us", INT64_MAX, &ns->collect_due_us))
        return false;
    ns->status = (enum flow_status)status;
    ns->waits = jv_bool(jv_get(v, "waits"), false);
    ns->late = jv_bool(jv_get(v, "late"), false);
    ns->failed_item = failed ? failed - 1 : NO_INDEX;
    ns->call.node.id = f->flow->nodes[node].job.node.id;
    if (!jv_is(output, JSON_NONE))
        slot_set(&ns->output, jv_raw(output), f->m->arena);
    f->running += ns->status == FLOW_RUNNING;
    f->waiting += ns->waits;
    bool over = ns->status != FLOW_PENDING && ns->status != FLOW_RUNNING;
    return over == (ns->order > 0) && ns->order <= f->flow->node_count &&
           (ns->status != FLOW_SUCCEEDED || ns->output.n) && (!ns->waits || ns->status == FLOW_RUNNING) &&
           (ns->status != FLOW_RUNNING || ns->execs > 0);
}

static bool load_calls(struct loading *l, uint32_t node, struct jv v)
{
    struct flow_state *ns = &l->f->nodes[node];
    return ns->order || (load_call(l, node, &l->f->flow->nodes[node].job, SPAN_NONE, v, &ns->call) &&
                         load_items(l, node, jv_get(v, "items")));
}

static bool load_nodes(struct loading *l, struct jv nodes, bool (*load)(struct loading *l, uint32_t node, struct jv v))
{
    if (!jv_is(nodes, JSON_OBJECT))
        return false;
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it);) {
        uint32_t node = flow_find(l->f->flow, jv_string(it.name, &l->scratch));
        if (node == NO_INDEX || !load(l, node, it.value))
            return false;
    }
    return true;
}

/* Gaps and doubles mean damage. */
static bool account_all(struct loading *l)
{
    struct flow_run *f = l->f;
    uint32_t *by_order = ARENA_ARRAY(&l->scratch, uint32_t, f->flow->node_count + 1);

    for (uint32_t i = 0; i < f->flow->node_count; i++) {
        uint32_t order = f->nodes[i].order;
        if (order && by_order[order])
            return false;
        if (order)
            by_order[order] = i + 1;
        f->order += order > 0;
    }
    f->turn = 1;
    for (uint32_t k = 1; k <= f->order; k++) {
        if (!by_order[k])
            return false;
        flow_account(f, by_order[k] - 1, &l->scratch);
    }
    memset(f->doc_turn, 0, f->flow->node_count * sizeof f->doc_turn[0]);
    return true;
}

static bool load_all(struct loading *l, struct jv root)
{
    struct machine *m = l->f->m;
    uint32_t rev;
    unsigned life;

    if (!load_u32(root, "rev", &rev) || rev != graph_ops.rev ||
        !get_name(jv_get(root, "life"), life_names, LIFE_COUNT, &life) || !load_u32(root, "steps", &m->steps) ||
        !load_u32(root, "pauses", &m->pauses) || !jv_is(jv_get(root, "values"), JSON_OBJECT))
        return false;
    m->life = (enum life)life;
    m->paused = jv_bool(jv_get(root, "paused"), false);
    l->input = jv_get(root, "input");
    if (jv_is(l->input, JSON_OBJECT))
        slot_set(&m->input, jv_raw(l->input), m->arena);
    slot_set(&m->values, jv_raw(jv_get(root, "values")), m->arena);
    flow_take_models(l->f);
    struct jv nodes = jv_get(root, "nodes");
    if (!load_nodes(l, nodes, load_node) || !load_nodes(l, nodes, load_calls) || !account_all(l))
        return false;
    if (m->life == LIFE_RUNNING)
        flow_make_ready(l->f);
    return true;
}

enum err flow_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret)
{
    struct machine *m = flow_new(plan, arena);
    struct loading l = { .f = m->flow };
    bool good = load_all(&l, json_read(saved, &l.scratch));

    arena_done(&l.scratch);
    if (!good)
        return ERR_CORRUPT;
    *ret = m;
    return ERR_OK;
}
