/* SPDX-License-Identifier: Apache-2.0 */
/* flow.c - the steps of a workflow.v1 (flow.h says when nodes start and how effects are named).
 *
 * One step: take the input to the call or timer that waits for it, then start what can start. */
#include "workflow/flow_turn.h"
#include "workflow/spec.h"
#include <stdlib.h>

/* As in graph.c: a step is one commit. */
enum { STEP_STARTS_MAX = 256, STEP_BYTES_MAX = 4 << 20 };

/* ---- the end ---- */

static bool put_outputs(struct flow_turn *t, struct buf *out, struct fault *fault)
{
    struct flow_run *f = t->f;
    struct jw w = jw_on(out);

    jw_obj(&w);
    for (uint32_t i = 0; i < f->flow->output_count; i++) {
        const struct flow_output *output = &f->flow->outputs[i];
        if (f->nodes[output->from].status != FLOW_SUCCEEDED)
            continue; /* its branch was not taken */
        struct jv v = jv_pointer(flow_doc(f, output->from, t->out->arena), output->pointer);
        if (jv_is(v, JSON_NONE)) {
            *fault = flow_fault("POINTER_NOT_FOUND", "validation",
                                arena_printf(t->out->arena, "Output %.*s: there is nothing at \"%.*s\" in %.*s.",
                                             SPAN_ARG(output->name), SPAN_ARG(output->pointer),
                                             SPAN_ARG(f->flow->nodes[output->from].job.node.id)));
            return false;
        }
        jw_key_span(&w, output->name);
        jw_raw(&w, jv_raw(v));
    }
    jw_end(&w);
    return true;
}

static void finish_run(struct flow_turn *t)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct fault fault;

    if (!put_outputs(t, &text, &fault)) {
        flow_fail_run(t, &fault, NO_INDEX);
        return;
    }
    t->m->life = LIFE_FINISHED;
    flow_checkpoint(t, CHECKPOINT_FINAL, NO_INDEX, t->out->count);
    struct effect *fx = effect_add(t->out, FX_FINISH, (struct op_path){ 0 });
    fx->finish.output = arena_copy(t->out->arena, buf_view(&text));
    fx->finish.values = arena_copy(t->out->arena, slot_view(&t->m->values));
}

/* ---- nodes ---- */

static void put_source(struct jw *w, struct flow_run *f, uint32_t node)
{
    jw_key_span(w, f->flow->nodes[node].job.node.id);
    jw_raw(w, slot_view(&f->nodes[node].output));
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* What came in, by id. */
static void run_join(struct flow_turn *t, uint32_t node)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct flow_run *f = t->f;
    const struct flow_node *n = &f->flow->nodes[node];
    struct flow_state *ns = &f->nodes[node];
    uint32_t count = n->job.type == FLOW_JOIN_ANY && ns->got_count > 1                          ? 1
                     : n->job.type == FLOW_JOIN_COLLECT && n->limit && ns->got_count > n->limit ? n->limit
                                                                                                : ns->got_count;
    if (n->job.type == FLOW_JOIN_ANY && count == 0) {
        struct fault fault =
            flow_fault("JOIN_UNSATISFIED", "validation", SPAN("No source succeeded and satisfies the predicate."));
        flow_fail_node(t, node, &fault);
        return;
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += f->nodes[ns->got[i]].output.n;
    if (flow_is_too_large(t, node, bytes))
        return;
    qsort(ns->got, count, sizeof ns->got[0], by_number);
    struct jw w = jw_on(&text);
    jw_obj(&w);
    for (uint32_t i = 0; i < count; i++)
        put_source(&w, f, ns->got[i]);
    jw_end(&w);
    flow_finish_node(t, node, arena_copy(t->out->arena, buf_view(&text)));
}

static void run_transform(struct flow_turn *t, uint32_t node)
{
    struct flow_source source = flow_source_of(t, (struct jv){ 0 });
    struct span output;
    struct fault fault;
    if (!flow_transform(&t->f->flow->nodes[node].job, &source, t->out->arena, &output, &fault))
        flow_fail_node(t, node, &fault);
    else
        flow_finish_node(t, node, output);
}

static void model_step(struct flow_turn *t, uint32_t node, bool begin)
{
    struct flow_calling c = { .node = node,
                         .job = &t->f->flow->nodes[node].job,
                         .call = &t->f->nodes[node].call,
                         .path = flow_path(t->f, node),
                         .top = true };
    struct span output;
    struct fault fault;
    enum verdict verdict = flow_call_step(t, &c, begin, &output, &fault);
    if (verdict == VERDICT_DONE)
        flow_finish_node(t, node, output);
    else if (verdict == VERDICT_FAILED)
        flow_fail_node(t, node, &fault);
}

/* A join.collect counts its time from the start of the first source. */
static void set_collect_timers(struct flow_turn *t, uint32_t node)
{
    const struct flow *flow = t->f->flow;
    const struct flow_node *n = &flow->nodes[node];
    for (uint32_t e = n->out; e < n->out + n->out_count; e++) {
        uint32_t to = flow->edges[e].to;
        struct flow_state *ts = &t->f->nodes[to];
        if (!flow->nodes[to].timeout_us || ts->status != FLOW_PENDING || ts->collect_due_us)
            continue;
        ts->collect_due_us = t->in->elapsed_us + flow->nodes[to].timeout_us;
        flow_timer_effect(t, to, flow_timer_path(node_path(to, ts->execs + 1), FLOW_COLLECT + ++ts->timers), ts->collect_due_us,
                     false);
    }
}

static void start_node(struct flow_turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];

    flow_set_node(t->f, node, flow_place_of(n), false);
    flow_collect_clear(t, node);
    ns->status = FLOW_RUNNING;
    ns->execs++;
    ns->step = t->m->steps++;
    ns->call.node.id = n->job.node.id;
    flow_set_node(t->f, node, SET_RUNNING, true);
    t->f->running++;
    t->starts++;
    struct effect *fx = flow_node_effect(t, node, NODE_START);
    fx->node_.capability_ref = span_of(n->job.node.capability->name);
    fx->node_.capability_version = span_of(n->job.node.capability->version);
    fx->node_.execution_binding = n->job.node.binding;
    set_collect_timers(t, node);
    if (t->f->flow->node_timeout_us && flow_place_of(n) == SET_PLACED)
        flow_limit_set(t, node, t->f->flow->node_timeout_us);
    switch (n->job.type) {
    case FLOW_LLM:
    case FLOW_ROUTE: model_step(t, node, true); break;
    case FLOW_FANOUT: flow_start_fanout(t, node); break;
    case FLOW_TRANSFORM: run_transform(t, node); break;
    default: run_join(t, node); break;
    }
}

/* ---- inputs ---- */

void flow_take_models(struct flow_run *f)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct jv models = jv_get(json_read(slot_view(&f->m->input), &scratch), "$models");
    if (jv_is(models, JSON_OBJECT))
        f->models = json_read(arena_copy(f->m->arena, jv_raw(models)), f->m->arena);
}

/* The runs API has asked the same before it made the run; other surfaces have not. */
static bool inputs_are_good(struct flow_turn *t)
{
    struct arena *arena = t->out->arena;
    struct issues issues = { .arena = arena };
    struct span resolved;

    if (!spec_inputs(t->f->flow->root, json_read(slot_view(&t->m->input), arena), arena, &resolved, &issues))
        return true;
    const struct issue *first = &issues.items[0];
    struct fault fault =
        flow_fault("INPUT_REQUIRED", "validation",
                   arena_printf(arena, "%.*s %.*s.", SPAN_ARG(first->pointer), SPAN_ARG(first->message)));
    fault.code = first->code;
    flow_fail_run(t, &fault, NO_INDEX);
    return false;
}

static void begin(struct flow_turn *t)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct machine *m = t->m;
    struct jv start = json_read(t->in->value, t->out->arena), input = jv_get(start, "input"),
              values = jv_get(start, "values");

    if (m->life == LIFE_NEW) {
        json_minify(input, &text);
        if (jv_is(input, JSON_OBJECT))
            slot_set(&m->input, buf_view(&text), m->arena);
        if (jv_is(values, JSON_OBJECT))
            slot_set(&m->values, jv_raw(values), m->arena);
        flow_take_models(t->f);
    }
    flow_rewind(t->f);
    m->paused = false;
    m->life = LIFE_RUNNING;
    if (inputs_are_good(t))
        flow_make_ready(t->f);
}

static void time_out(struct flow_turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    struct fault fault = flow_fault("NODE_TIMEOUT", "timeout",
                                    arena_printf(t->out->arena, "The node was not done in %llu ms.",
                                                 (unsigned long long)(t->f->flow->node_timeout_us / 1000)));
    struct effect *fx = effect_add(t->out, FX_ABORT, flow_path(t->f, node));
    fx->node = t->f->flow->nodes[node].job.node.id;
    fx->top = true;
    ns->limit_us = 0;
    flow_cancel_items(t, node, "timeout");
    flow_fail_node(t, node, &fault);
}

/* Late answers are nobody's. */
static void deliver(struct flow_turn *t)
{
    struct flow_run *f = t->f;
    uint32_t part = t->in->op.n ? t->in->op.v[0] : 0, node = (part & 0x0fffffff) >> 8;

    if (part >> 28 != OP_NODE || node >= f->flow->node_count || !t->in->op.n)
        return;
    struct flow_state *ns = &f->nodes[node];
    if (ns->status == FLOW_PENDING && ns->collect_due_us &&
        flow_is_timer(t->in, node_path(node, ns->execs + 1), FLOW_COLLECT + ns->timers)) {
        ns->collect_due_us = 0;
        ns->late = true;
        flow_look_at_target(t, node);
        flow_drain(t);
    }
    struct op_path path = flow_path(f, node);
    if (ns->status != FLOW_RUNNING || !op_path_under(&t->in->op, &path))
        return;
    if (flow_is_timer(t->in, path, FLOW_LIMIT + ns->timers)) {
        if (ns->limit_us && !ns->waits)
            time_out(t, node);
        return;
    }
    if (f->flow->nodes[node].job.type == FLOW_FANOUT) {
        flow_deliver_item(t, node, path);
        return;
    }
    unsigned what = flow_for_call(t->in, path, &ns->call);
    if (what)
        model_step(t, node, what == 1);
}

static void deliver_message(struct flow_turn *t)
{
    for (uint32_t i = 0; i < t->f->flow->node_count && t->m->life == LIFE_RUNNING; i++)
        if (t->f->nodes[i].status == FLOW_RUNNING && t->f->nodes[i].call.phase == CALL_INNER)
            model_step(t, i, false);
}

static uint32_t next_to_start(const struct flow_run *f)
{
    uint32_t free = flow_first(f, SET_FREE),
             placed = f->running - f->waiting < f->flow->parallel ? flow_first(f, SET_PLACED) : NO_INDEX;
    return free < placed ? free : placed;
}

static bool is_cut(const struct flow_turn *t)
{
    return t->out->stop_after_checkpoints && t->checkpoints >= t->out->stop_after_checkpoints;
}

static void start_ready(struct flow_turn *t)
{
    struct machine *m = t->m;
    uint32_t node;

    while (!is_cut(t) && m->life == LIFE_RUNNING && !m->paused && (node = next_to_start(t->f)) != NO_INDEX) {
        if (t->starts >= STEP_STARTS_MAX || t->bytes >= STEP_BYTES_MAX) {
            m->paused = true;
            struct effect *fx =
                effect_add(t->out, FX_TIMER, (struct op_path){ .n = 1, .v = { OP_PART(OP_TIMER, ++m->pauses) } });
            fx->top = true;
            fx->timer.due_us = t->in->elapsed_us;
        } else if (t->f->nodes[node].status == FLOW_RUNNING) {
            flow_start_item(t, node);
        } else {
            start_node(t, node);
        }
    }
    if (!is_cut(t) && m->life == LIFE_RUNNING && t->f->running == 0 && !m->paused)
        finish_run(t);
}

enum err flow_step(struct machine *m, const struct input *in, struct effects *out)
{
    struct flow_turn t = { .m = m, .f = m->flow, .in = in, .out = out };
    struct op_path pause = { .n = 1, .v = { OP_PART(OP_TIMER, m->pauses) } };

    if (++m->flow->turn == 0) {
        memset(m->flow->doc_turn, 0, m->flow->flow->node_count * sizeof m->flow->doc_turn[0]);
        m->flow->turn = 1;
    }
    if (in->kind == IN_START)
        begin(&t);
    else if (m->life != LIFE_RUNNING)
        return ERR_OK;
    else if (m->paused && in->kind == IN_TIMER && op_path_eq(&in->op, &pause))
        m->paused = false;
    else if (in->kind == IN_MESSAGE)
        deliver_message(&t);
    else
        deliver(&t);
    start_ready(&t);
    return ERR_OK;
}
