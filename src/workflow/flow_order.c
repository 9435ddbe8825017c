/* SPDX-License-Identifier: Apache-2.0 */
/* flow_order.c - who waits for whom in a workflow.v1: what follows for others when a node is done, and what can start. Nothing
 * here acts: flow.c does, and loading does it again. */
#include "workflow/flow.h"

struct machine *flow_new(const struct plan *plan, struct arena *arena)
{
    const struct graph *graph = plan->compiled;
    const struct flow *flow = graph->flow;
    struct machine *m = ARENA_NEW(arena, struct machine);
    struct flow_run *f = m->flow = ARENA_NEW(arena, struct flow_run);
    uint32_t n = flow->node_count;

    m->plan = plan;
    m->graph = graph;
    m->arena = arena;
    m->queue = ARENA_ARRAY(arena, uint32_t, n);
    slot_set(&m->values, SPAN("{}"), arena);
    f->m = m;
    f->flow = flow;
    f->nodes = ARENA_ARRAY(arena, struct flow_state, n);
    f->docs = ARENA_ARRAY(arena, struct jv, n);
    f->doc_turn = ARENA_ARRAY(arena, uint32_t, n);
    f->plans = ARENA_ARRAY(arena, const struct plan *, n);
    for (unsigned i = 0; i < FLOW_SETS; i++)
        f->ready[i] = ARENA_ARRAY(arena, uint64_t, n / 64 + 1);
    for (uint32_t i = 0; i < n; i++) {
        f->nodes[i].left = flow->nodes[i].sources;
        f->nodes[i].live = flow->nodes[i].targets;
        f->nodes[i].got = ARENA_ARRAY(arena, uint32_t, flow->nodes[i].sources);
        f->nodes[i].failed_item = NO_INDEX;
    }
    return m;
}

bool flow_is_model(const struct flow_job *job)
{
    return job->type == FLOW_LLM || job->type == FLOW_ROUTE;
}

bool flow_is_done(const struct flow_state *ns)
{
    return ns->status == FLOW_SUCCEEDED || ns->status == FLOW_FAILED || ns->status == FLOW_CANCELED;
}

struct jv flow_doc(struct flow_run *f, uint32_t node, struct arena *arena)
{
    if (f->doc_turn[node] != f->turn || !f->turn) {
        f->docs[node] = f->nodes[node].status == FLOW_SUCCEEDED ? json_read(slot_view(&f->nodes[node].output), arena)
                                                                : (struct jv){ 0 };
        f->doc_turn[node] = f->turn;
    }
    return f->docs[node];
}

/* What conditions look at: of a router what its model has said. */
static struct jv judged_of(struct flow_run *f, uint32_t node, struct arena *arena)
{
    struct jv doc = flow_doc(f, node, arena);
    return f->flow->nodes[node].job.type == FLOW_ROUTE ? flow_text_json(doc, arena) : doc;
}

static bool wants_output(const struct flow_run *f, uint32_t node)
{
    const struct flow_node *n = &f->flow->nodes[node];
    for (uint32_t e = n->out; e < n->out + n->out_count; e++) {
        const struct flow_edge *edge = &f->flow->edges[e];
        if ((edge->when && !edge->when->status) || f->flow->nodes[edge->to].predicate)
            return true;
    }
    return false;
}

void flow_set_node(struct flow_run *f, uint32_t node, enum flow_set set, bool on)
{
    uint64_t bit = UINT64_C(1) << (node & 63);
    f->ready[set][node / 64] = on ? f->ready[set][node / 64] | bit : f->ready[set][node / 64] & ~bit;
}

uint32_t flow_first(const struct flow_run *f, enum flow_set set)
{
    for (uint32_t i = 0; i <= f->flow->node_count / 64; i++)
        if (f->ready[set][i])
            return i * 64 + (uint32_t)__builtin_ctzll(f->ready[set][i]);
    return NO_INDEX;
}

enum flow_set flow_place_of(const struct flow_node *node)
{
    return flow_is_model(&node->job) || node->job.type == FLOW_FANOUT ? SET_PLACED : SET_FREE;
}

/* ---- what follows when a node is done ---- */

/* The pair (node, target), whose edges begin at e; returns the edge behind them. */
static uint32_t account_pair(struct flow_run *f, uint32_t node, uint32_t e, struct jv judged)
{
    const struct flow *flow = f->flow;
    enum flow_status status = f->nodes[node].status;
    uint32_t to = flow->edges[e].to, end = flow->nodes[node].out + flow->nodes[node].out_count;
    const struct flow_node *target = &flow->nodes[to];
    struct flow_state *ts = &f->nodes[to];
    bool on = false, plain = false;

    for (; e < end && flow->edges[e].to == to; e++) {
        const struct flow_when *when = flow->edges[e].when;
        plain |= !when;
        on |= when ? flow_holds(when, status, judged) : status == FLOW_SUCCEEDED;
    }
    ts->left--;
    ts->on += on;
    ts->plain_off += plain && !on;
    ts->conditional_on += on && !plain;
    if (on && status == FLOW_SUCCEEDED && (!target->predicate || flow_holds(target->predicate, status, judged)))
        ts->got[ts->got_count++] = node;
    return e;
}

void flow_account(struct flow_run *f, uint32_t node, struct arena *scratch)
{
    const struct flow *flow = f->flow;
    const struct flow_node *n = &flow->nodes[node];
    struct jv judged = wants_output(f, node) ? judged_of(f, node, scratch) : (struct jv){ 0 };
    uint32_t last = NO_INDEX;

    for (uint32_t e = n->out; e < n->out + n->out_count;)
        e = account_pair(f, node, e, judged);
    for (uint32_t i = n->in; i < n->in + n->in_count; i++) {
        uint32_t from = flow->edges[flow->in_edges[i]].from;
        f->nodes[from].live -= from != last; /* edges of one source stand together */
        last = from;
    }
}

static bool any_source_failed(const struct flow_run *f, uint32_t node)
{
    const struct flow_node *n = &f->flow->nodes[node];
    for (uint32_t i = n->in; i < n->in + n->in_count; i++)
        if (f->nodes[f->flow->edges[f->flow->in_edges[i]].from].status == FLOW_FAILED)
            return true;
    return false;
}

enum flow_outlook flow_outlook(const struct flow_run *f, uint32_t node)
{
    const struct flow_node *n = &f->flow->nodes[node];
    const struct flow_state *ns = &f->nodes[node];
    bool join = n->job.type == FLOW_JOIN_ANY || n->job.type == FLOW_JOIN_COLLECT;

    if (!join) {
        if (ns->plain_off > 0)
            return FLOW_OUTLOOK_NEVER;
        if (ns->left > 0)
            return FLOW_OUTLOOK_OPEN;
        return n->conditional == 0 || ns->conditional_on > 0 ? FLOW_OUTLOOK_READY : FLOW_OUTLOOK_NEVER;
    }
    if (n->job.type == FLOW_JOIN_ANY ? ns->got_count > 0 : ns->late || (n->limit && ns->got_count >= n->limit))
        return FLOW_OUTLOOK_READY;
    if (ns->left > 0)
        return FLOW_OUTLOOK_OPEN;
    /* All ways to it were closed: it is no failure that nothing came. */
    return n->sources > 0 && ns->on == 0 && !any_source_failed(f, node) ? FLOW_OUTLOOK_NEVER : FLOW_OUTLOOK_READY;
}

bool flow_has_item(const struct flow_node *n, struct flow_state *ns)
{
    if (ns->status != FLOW_RUNNING || !ns->items || ns->failed_item != NO_INDEX || ns->items_flying >= n->parallel)
        return false;
    while (ns->item_next < ns->item_count && ns->items[ns->item_next].status != FLOW_PENDING)
        ns->item_next++;
    return ns->item_next < ns->item_count;
}

void flow_make_ready(struct flow_run *f)
{
    for (uint32_t i = 0; i < f->flow->node_count; i++) {
        const struct flow_node *n = &f->flow->nodes[i];
        if (f->nodes[i].status == FLOW_PENDING && flow_outlook(f, i) == FLOW_OUTLOOK_READY)
            flow_set_node(f, i, flow_place_of(n), true);
        if (n->job.type == FLOW_FANOUT && flow_has_item(n, &f->nodes[i]))
            flow_set_node(f, i, SET_FREE, true);
        flow_set_node(f, i, SET_RUNNING, f->nodes[i].status == FLOW_RUNNING);
    }
}
