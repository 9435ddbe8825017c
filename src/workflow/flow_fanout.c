/* SPDX-License-Identifier: Apache-2.0 */
/* flow_fanout.c - fan-outs: the items of one node, started by index, so many at a time. */
#include "workflow/flow_turn.h"
#include "workflow/spec.h"

static void finish_fanout(struct flow_turn *t, uint32_t node)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct flow_state *ns = &t->f->nodes[node];
    struct jw w = jw_on(&text);
    size_t bytes = 0;

    for (uint32_t i = 0; i < ns->item_count; i++)
        bytes += ns->items[i].output.n;
    if (flow_is_too_large(t, node, bytes))
        return;
    jw_obj(&w);
    jw_key(&w, "results");
    jw_arr(&w);
    for (uint32_t i = 0; i < ns->item_count; i++)
        jw_raw(&w, ns->items[i].output);
    jw_arr_end(&w);
    jw_end(&w);
    flow_finish_node(t, node, arena_copy(t->out->arena, buf_view(&text)));
}

static void fail_fanout(struct flow_turn *t, uint32_t node)
{
    const struct flow_state *ns = &t->f->nodes[node];
    struct arena *arena = t->out->arena;
    struct fault of_item = fault_told(ERR_INTERNAL, ns->items[ns->failed_item].output, "agent", arena);
    struct fault fault = of_item;
    fault.code = SPAN("FANOUT_ITEM_FAILED");
    fault.message = arena_printf(arena, "Item %u failed: %.*s", ns->failed_item, SPAN_ARG(of_item.message));
    flow_fail_node(t, node, &fault);
}

/* After an item has ended, or none was there. */
static void look_at_fanout(struct flow_turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];

    flow_set_node(t->f, node, SET_FREE, flow_has_item(n, ns));
    if (ns->failed_item != NO_INDEX && ns->items_flying == 0)
        fail_fanout(t, node);
    else if (ns->items_done == ns->item_count)
        finish_fanout(t, node);
}

static void end_item(struct flow_turn *t, uint32_t node, uint32_t i, enum verdict verdict, struct span output,
                     const struct fault *fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct flow_state *ns = &t->f->nodes[node];
    struct flow_item *item = &ns->items[i];

    ns->items_flying--;
    if (verdict == VERDICT_DONE) {
        item->status = FLOW_SUCCEEDED;
        item->value = SPAN_NONE;
        item->output = arena_copy(t->m->arena, output);
        flow_item_effect(t, node, i, NODE_FINISH)->node_.output = item->output;
        t->bytes += output.n;
        ns->items_done++;
    } else {
        fault_to_json(fault, SPAN_NONE, &text);
        item->status = FLOW_FAILED;
        item->output = arena_copy(t->m->arena, buf_view(&text));
        flow_item_effect(t, node, i, NODE_FAIL)->node_.error = item->output;
        if (ns->failed_item == NO_INDEX)
            ns->failed_item = i;
    }
    look_at_fanout(t, node);
}

static struct flow_calling item_calling(struct flow_turn *t, uint32_t node, uint32_t i)
{
    struct flow_item *item = &t->f->nodes[node].items[i];
    return (struct flow_calling){
        .node = node,
        .job = &t->f->flow->nodes[node].sub,
        .call = &item->call,
        .path = op_sub(flow_path(t->f, node), OP_PART(OP_ITEM, i)),
        .item = json_read(item->value, t->out->arena),
    };
}

static void item_step(struct flow_turn *t, uint32_t node, uint32_t i, bool begin)
{
    struct flow_calling c = item_calling(t, node, i);
    struct flow_source source = flow_source_of(t, c.item);
    struct span output;
    struct fault fault;
    enum verdict verdict;

    if (c.job->type == FLOW_TRANSFORM)
        verdict = flow_transform(c.job, &source, t->out->arena, &output, &fault) ? VERDICT_DONE : VERDICT_FAILED;
    else
        verdict = flow_call_step(t, &c, begin, &output, &fault);
    if (verdict != VERDICT_PENDING)
        end_item(t, node, i, verdict, output, &fault);
}

void flow_start_item(struct flow_turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];
    uint32_t i = ns->item_next++;
    struct flow_item *item = &ns->items[i];

    item->status = FLOW_RUNNING;
    item->call.node.id =
        arena_printf(t->m->arena, "%.*s:%.*s:%u", SPAN_ARG(n->job.node.id), SPAN_ARG(n->sub.node.id), i);
    ns->items_flying++;
    flow_set_node(t->f, node, SET_FREE, flow_has_item(n, ns));
    struct effect *fx = flow_item_effect(t, node, i, NODE_START);
    fx->node_.step = t->m->steps++;
    fx->node_.capability_ref = span_of(n->sub.node.capability->name);
    fx->node_.capability_version = span_of(n->sub.node.capability->version);
    fx->node_.execution_binding = n->sub.node.binding;
    t->starts++;
    item_step(t, node, i, true);
}

void flow_start_fanout(struct flow_turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];
    struct flow_source source = flow_source_of(t, (struct jv){ 0 });
    struct fault fault;
    struct jv items;

    if (!ns->items) {
        if (!flow_items(n, &source, t->out->arena, &items, &fault)) {
            flow_fail_node(t, node, &fault);
            return;
        }
        ns->item_count = (uint32_t)jv_count(items);
        ns->items = ARENA_ARRAY(t->m->arena, struct flow_item, ns->item_count + 1);
        ns->items_done = 0;
        uint32_t i = 0;
        for (struct jv_iter it = jv_iter(items); jv_step(&it); i++)
            ns->items[i].value = arena_copy(t->m->arena, jv_raw(it.value));
    }
    look_at_fanout(t, node);
}

void flow_deliver_item(struct flow_turn *t, uint32_t node, struct op_path path)
{
    struct flow_state *ns = &t->f->nodes[node];
    uint32_t part = t->in->op.n > path.n ? t->in->op.v[path.n] : 0, i = part & 0x0fffffff;

    if (part >> 28 != OP_ITEM || i >= ns->item_count || ns->items[i].status != FLOW_RUNNING)
        return;
    unsigned what = flow_for_call(t->in, op_sub(path, part), &ns->items[i].call);
    if (what)
        item_step(t, node, i, what == 1);
}
