/* SPDX-License-Identifier: Apache-2.0 */
/* flow_turn.c - what each part of a workflow's step tells the host, and what follows when a node ends (flow_turn.h).
 *
 * A node that is done goes into a queue; taking it out again, its targets and sources are looked at, which may put more nodes into
 * the queue. So nothing here is deeper than a loop, whatever the graph looks like. */
#include "workflow/flow_turn.h"

/* ---- effects ---- */

struct op_path flow_path(const struct flow_run *f, uint32_t node)
{
    return node_path(node, f->nodes[node].execs);
}

struct op_path flow_timer_path(struct op_path path, uint32_t number)
{
    return op_sub(path, OP_PART(OP_TIMER, number));
}

struct effect *flow_node_effect(struct flow_turn *t, uint32_t node, enum node_event event)
{
    struct effect *fx = effect_add(t->out, FX_NODE, flow_path(t->f, node));
    fx->node = t->f->flow->nodes[node].job.node.id;
    fx->top = true;
    fx->node_.event = event;
    fx->node_.step = t->f->nodes[node].step;
    fx->node_.try_no = 1;
    return fx;
}

struct effect *flow_item_effect(struct flow_turn *t, uint32_t node, uint32_t i, enum node_event event)
{
    struct effect *fx = effect_add(t->out, FX_NODE, op_sub(flow_path(t->f, node), OP_PART(OP_ITEM, i)));
    fx->node = t->f->nodes[node].items[i].call.node.id;
    fx->node_.event = event;
    fx->node_.try_no = 1;
    return fx;
}

void flow_timer_effect(struct flow_turn *t, uint32_t node, struct op_path path, uint64_t due_us, bool clear)
{
    struct effect *fx = effect_add(t->out, FX_TIMER, path);
    fx->node = t->f->flow->nodes[node].job.node.id;
    fx->top = true;
    fx->timer.due_us = due_us;
    fx->timer.clear = clear;
}

/* JCS of {"next", "state": {"locals", "values"}, "step"} as in graph.c; "next" is what runs or can start. */
static struct span hashed_state(struct flow_turn *t)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct flow_run *f = t->f;
    struct jw w = jw_on(&text);

    jw_obj(&w);
    jw_key(&w, "next");
    jw_arr(&w);
    for (uint32_t i = 0; i <= f->flow->node_count / 64; i++)
        for (uint64_t bits = f->ready[SET_PLACED][i] | f->ready[SET_FREE][i] | f->ready[SET_RUNNING][i]; bits;
             bits &= bits - 1)
            jw_str(&w, f->flow->nodes[i * 64 + (uint32_t)__builtin_ctzll(bits)].job.node.id);
    jw_arr_end(&w);
    jw_key(&w, "state");
    jw_obj(&w);
    jw_key(&w, "locals");
    jw_raw(&w, SPAN("{}"));
    jw_key(&w, "values");
    jw_raw(&w, machine_canonical_values(t->m));
    jw_end(&w);
    jw_key(&w, "step");
    jw_u64(&w, t->m->steps);
    jw_end(&w);
    return arena_copy(t->out->arena, buf_view(&text));
}

/* In front of the effects that came behind `at`. */
void flow_checkpoint(struct flow_turn *t, enum checkpoint_kind kind, uint32_t node, size_t at)
{
    struct effect *fx =
        effect_add(t->out, FX_CHECKPOINT, node == NO_INDEX ? (struct op_path){ 0 } : flow_path(t->f, node));
    fx->top = true;
    if (node != NO_INDEX)
        fx->node = t->f->flow->nodes[node].job.node.id;
    fx->checkpoint.kind = kind;
    fx->checkpoint.step = t->m->steps;
    fx->checkpoint.hashed = hashed_state(t);
    t->bytes += fx->checkpoint.hashed.n;
    t->checkpoints++;
    struct effect moved = *fx, *place = &t->out->items[at];
    memmove(place + 1, place, (t->out->count - 1 - at) * sizeof *place);
    *place = moved;
}

/* ---- the time-out of a node, which stands still while the node waits for people ---- */

void flow_limit_set(struct flow_turn *t, uint32_t node, uint64_t left_us)
{
    struct flow_state *ns = &t->f->nodes[node];
    ns->limit_us = t->in->elapsed_us + left_us;
    flow_timer_effect(t, node, flow_timer_path(flow_path(t->f, node), FLOW_LIMIT + ++ns->timers), ns->limit_us, false);
}

static void limit_clear(struct flow_turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    if (ns->limit_us && !ns->waits)
        flow_timer_effect(t, node, flow_timer_path(flow_path(t->f, node), FLOW_LIMIT + ns->timers), 0, true);
    ns->limit_us = 0;
}

void flow_waits_set(struct flow_turn *t, uint32_t node, bool waits)
{
    struct flow_state *ns = &t->f->nodes[node];
    uint64_t now = t->in->elapsed_us, limit = ns->limit_us;

    if (ns->waits == waits)
        return;
    if (limit && waits) {
        limit_clear(t, node);
        ns->limit_us = limit > now ? limit - now : 1; /* what is left of it */
    }
    ns->waits = waits;
    t->f->waiting += waits ? 1 : UINT32_MAX;
    if (limit && !waits)
        flow_limit_set(t, node, limit);
}

/* ---- nodes that are done ---- */

static void leave_flight(struct flow_turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    limit_clear(t, node);
    t->f->waiting -= ns->waits;
    t->f->running--;
    ns->waits = false;
    flow_set_node(t->f, node, SET_FREE, false);
    flow_set_node(t->f, node, SET_RUNNING, false);
}

void flow_collect_clear(struct flow_turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    if (ns->collect_due_us)
        flow_timer_effect(t, node, flow_timer_path(node_path(node, ns->execs + 1), FLOW_COLLECT + ns->timers), 0, true);
    ns->collect_due_us = 0;
}

static void done(struct flow_turn *t, uint32_t node, enum flow_status status)
{
    struct flow_state *ns = &t->f->nodes[node];
    if (ns->status == FLOW_RUNNING)
        leave_flight(t, node);
    ns->status = status;
    ns->order = ++t->f->order;
    ns->call.inner = NULL;
    ns->items = NULL;
    ns->item_count = 0;
    t->m->queue[t->tail++] = node;
}

void flow_cancel_items(struct flow_turn *t, uint32_t node, const char *reason)
{
    struct flow_state *ns = &t->f->nodes[node];
    for (uint32_t i = 0; i < ns->item_count; i++)
        if (ns->items[i].status == FLOW_RUNNING)
            flow_item_effect(t, node, i, NODE_CANCEL)->node_.error = arena_printf(t->out->arena, "\"%s\"", reason);
}

/* Nobody needs it, or it can never start. What has not started ends without a trace. */
static void cancel(struct flow_turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];

    flow_set_node(t->f, node, SET_PLACED, false);
    flow_set_node(t->f, node, SET_FREE, false);
    if (ns->status == FLOW_RUNNING) {
        struct effect *fx = effect_add(t->out, FX_ABORT, flow_path(t->f, node));
        fx->node = t->f->flow->nodes[node].job.node.id;
        fx->top = true;
        ns->limit_us = 0;
        flow_cancel_items(t, node, "not_needed");
        flow_node_effect(t, node, NODE_CANCEL)->node_.error = SPAN("\"not_needed\"");
    } else {
        flow_collect_clear(t, node);
    }
    done(t, node, FLOW_CANCELED);
}

void flow_look_at_target(struct flow_turn *t, uint32_t node)
{
    struct flow_run *f = t->f;
    if (f->nodes[node].status != FLOW_PENDING)
        return;
    enum flow_outlook outlook = flow_outlook(f, node);
    if (outlook == FLOW_OUTLOOK_READY)
        flow_set_node(f, node, flow_place_of(&f->flow->nodes[node]), true);
    if (outlook == FLOW_OUTLOOK_NEVER)
        cancel(t, node);
}

static void look_at_source(struct flow_turn *t, uint32_t node)
{
    struct flow_run *f = t->f;
    if (!flow_is_done(&f->nodes[node]) && f->nodes[node].live == 0 && !f->flow->nodes[node].output)
        cancel(t, node);
}

void flow_drain(struct flow_turn *t)
{
    const struct flow *flow = t->f->flow;
    while (t->head < t->tail) {
        uint32_t node = t->m->queue[t->head++];
        const struct flow_node *n = &flow->nodes[node];
        flow_account(t->f, node, t->out->arena);
        for (uint32_t e = n->out; e < n->out + n->out_count; e++)
            flow_look_at_target(t, flow->edges[e].to);
        for (uint32_t i = n->in; i < n->in + n->in_count; i++)
            look_at_source(t, flow->edges[flow->in_edges[i]].from);
    }
    t->head = t->tail = 0;
}

void flow_finish_node(struct flow_turn *t, uint32_t node, struct span output)
{
    struct flow_state *ns = &t->f->nodes[node];

    done(t, node, FLOW_SUCCEEDED);
    slot_set(&ns->output, output, t->m->arena);
    t->f->doc_turn[node] = 0;
    flow_node_effect(t, node, NODE_FINISH)->node_.output = output;
    t->bytes += output.n;
    size_t behind = t->out->count;
    flow_drain(t);
    flow_checkpoint(t, CHECKPOINT_NODE, node, behind);
}

/* ---- failures ---- */

/* What was in flight starts again in a new attempt, with what its machine had reached; items that are done stay done. */
static void rewind_node(struct flow_run *f, uint32_t node)
{
    struct flow_state *ns = &f->nodes[node];

    ns->collect_due_us = 0;
    if (ns->status != FLOW_RUNNING)
        return;
    ns->status = FLOW_PENDING;
    ns->waits = false;
    ns->limit_us = 0;
    ns->call.phase = CALL_IDLE;
    ns->call.try_no = 0;
    ns->items_flying = ns->item_next = 0;
    ns->failed_item = NO_INDEX;
    for (uint32_t i = 0; i < ns->item_count; i++)
        if (ns->items[i].status != FLOW_SUCCEEDED) {
            ns->items[i].status = FLOW_PENDING;
            ns->items[i].call.phase = CALL_IDLE;
            ns->items[i].call.try_no = 0;
            ns->items[i].output = SPAN_NONE;
        }
}

void flow_rewind(struct flow_run *f)
{
    for (uint32_t i = 0; i < f->flow->node_count; i++)
        rewind_node(f, i);
    f->running = f->waiting = 0;
    for (unsigned i = 0; i < FLOW_SETS; i++)
        memset(f->ready[i], 0, (f->flow->node_count / 64 + 1) * sizeof f->ready[i][0]);
}

/* Nodes that run, timers of nodes that do not. */
static uint32_t in_flight(const struct flow_run *f)
{
    uint32_t count = f->running;
    for (uint32_t i = 0; i < f->flow->node_count; i++)
        count += f->nodes[i].collect_due_us > 0;
    return count;
}

/* `node` has told of its failure and counts as running still. */
void flow_fail_run(struct flow_turn *t, const struct fault *fault, uint32_t node)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct flow_run *f = t->f;

    if (node != NO_INDEX)
        limit_clear(t, node);
    if (in_flight(f) > (node != NO_INDEX) || t->m->paused)
        effect_add(t->out, FX_ABORT, (struct op_path){ 0 })->top = true;
    t->m->paused = false;
    for (uint32_t i = 0; i < f->flow->node_count; i++)
        if (i != node && f->nodes[i].status == FLOW_RUNNING) {
            flow_cancel_items(t, i, "run_failed");
            flow_node_effect(t, i, NODE_CANCEL)->node_.error = SPAN("\"run_failed\"");
        }
    flow_rewind(f);
    t->m->life = LIFE_FAILED;
    if (node == NO_INDEX)
        fault_to_json(fault, SPAN_NONE, &text);
    else
        fault_to_json(fault, f->flow->nodes[node].job.node.id, &text);
    effect_add(t->out, FX_FAIL, (struct op_path){ 0 })->fail.error = arena_copy(t->out->arena, buf_view(&text));
}

/* true when a way of tests on outputs and plain edges leads to an output of the run. */
static bool harms_output(struct flow_turn *t, uint32_t node)
{
    const struct flow *flow = t->f->flow;
    CLEANUP(arena_done) struct arena scratch = { 0 };
    bool *seen = ARENA_ARRAY(&scratch, bool, flow->node_count), harms = flow->nodes[node].output;
    uint32_t *stack = ARENA_ARRAY(&scratch, uint32_t, flow->node_count), depth = 0;

    stack[depth++] = node;
    while (depth > 0 && !harms) {
        const struct flow_node *n = &flow->nodes[stack[--depth]];
        for (uint32_t e = n->out; e < n->out + n->out_count; e++) {
            const struct flow_edge *edge = &flow->edges[e];
            const struct flow_node *to = &flow->nodes[edge->to];
            bool absorbs = to->job.type == FLOW_JOIN_ANY || to->job.type == FLOW_JOIN_COLLECT ||
                           (edge->when && edge->when->status);
            if (absorbs || seen[edge->to] || flow_is_done(&t->f->nodes[edge->to]))
                continue;
            harms |= to->output;
            seen[edge->to] = true;
            stack[depth++] = edge->to;
        }
    }
    return harms;
}

void flow_fail_node(struct flow_turn *t, uint32_t node, const struct fault *fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };

    fault_to_json(fault, SPAN_NONE, &text);
    flow_node_effect(t, node, NODE_FAIL)->node_.error = arena_copy(t->out->arena, buf_view(&text));
    if (harms_output(t, node)) {
        flow_fail_run(t, fault, node);
        return;
    }
    done(t, node, FLOW_FAILED);
    flow_drain(t);
}

/* Nothing that large is put together. */
bool flow_is_too_large(struct flow_turn *t, uint32_t node, size_t bytes)
{
    struct fault fault;
    if (bytes <= FLOW_OUTPUT_MAX)
        return false;
    fault = flow_fault(
        "OUTPUT_TOO_LARGE", "validation",
        arena_printf(t->out->arena, "The output would have %zu bytes, and at most %d may be.", bytes, FLOW_OUTPUT_MAX));
    flow_fail_node(t, node, &fault);
    return true;
}
