/* SPDX-License-Identifier: Apache-2.0 */
/* flow.c - the steps of a workflow.v1 (flow.h says when nodes start and how effects are named).
 *
 * One step: take the input to the call or timer that waits for it, then start what can start. A node that is done goes into a
 * queue; taking it out again, its targets and sources are looked at, which may put more nodes into the queue. So nothing here
 * is deeper than a loop, whatever the graph looks like. */
#include "workflow/flow.h"
#include "workflow/nested.h"
#include "workflow/spec.h"
#include <stdlib.h>

struct turn {
    struct machine *m;
    struct flow_run *f;
    const struct input *in;
    struct effects *out;
    struct jv input; /* of the run, once it was needed */
    bool input_read;
    uint32_t head, tail; /* of the queue m->queue */
    uint32_t starts, checkpoints;
    size_t bytes;
};

/* As in graph.c: a step is one commit. */
enum { STEP_STARTS_MAX = 256, STEP_BYTES_MAX = 4 << 20 };

/* ---- effects ---- */

static struct op_path path_of(const struct flow_run *f, uint32_t node)
{
    return node_path(node, f->nodes[node].execs);
}

static struct op_path timer_path(struct op_path path, uint32_t number)
{
    return op_sub(path, OP_PART(OP_TIMER, number));
}

static struct op_path call_path(struct op_path path, const struct flow_call *call)
{
    return call->try_no > 1 ? op_sub(path, OP_PART(OP_NODE, call->try_no)) : path;
}

static struct effect *node_effect(struct turn *t, uint32_t node, enum node_event event)
{
    struct effect *fx = effect_add(t->out, FX_NODE, path_of(t->f, node));
    fx->node = t->f->flow->nodes[node].job.node.id;
    fx->top = true;
    fx->node_.event = event;
    fx->node_.step = t->f->nodes[node].step;
    fx->node_.try_no = 1;
    return fx;
}

static struct effect *item_effect(struct turn *t, uint32_t node, uint32_t i, enum node_event event)
{
    struct effect *fx = effect_add(t->out, FX_NODE, op_sub(path_of(t->f, node), OP_PART(OP_ITEM, i)));
    fx->node = t->f->nodes[node].items[i].call.node.id;
    fx->node_.event = event;
    fx->node_.try_no = 1;
    return fx;
}

static void timer_effect(struct turn *t, uint32_t node, struct op_path path, uint64_t due_us, bool clear)
{
    struct effect *fx = effect_add(t->out, FX_TIMER, path);
    fx->node = t->f->flow->nodes[node].job.node.id;
    fx->top = true;
    fx->timer.due_us = due_us;
    fx->timer.clear = clear;
}

/* JCS of {"next", "state": {"locals", "values"}, "step"} as in graph.c; "next" is what runs or can start. */
static struct span hashed_state(struct turn *t)
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
static void checkpoint(struct turn *t, enum checkpoint_kind kind, uint32_t node, size_t at)
{
    struct effect *fx =
        effect_add(t->out, FX_CHECKPOINT, node == NO_INDEX ? (struct op_path){ 0 } : path_of(t->f, node));
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

static void limit_set(struct turn *t, uint32_t node, uint64_t left_us)
{
    struct flow_state *ns = &t->f->nodes[node];
    ns->limit_us = t->in->elapsed_us + left_us;
    timer_effect(t, node, timer_path(path_of(t->f, node), FLOW_LIMIT + ++ns->timers), ns->limit_us, false);
}

static void limit_clear(struct turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    if (ns->limit_us && !ns->waits)
        timer_effect(t, node, timer_path(path_of(t->f, node), FLOW_LIMIT + ns->timers), 0, true);
    ns->limit_us = 0;
}

static void waits_set(struct turn *t, uint32_t node, bool waits)
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
        limit_set(t, node, limit);
}

/* ---- nodes that are done ---- */

static void leave_flight(struct turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    limit_clear(t, node);
    t->f->waiting -= ns->waits;
    t->f->running--;
    ns->waits = false;
    flow_set_node(t->f, node, SET_FREE, false);
    flow_set_node(t->f, node, SET_RUNNING, false);
}

static void collect_clear(struct turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    if (ns->collect_due_us)
        timer_effect(t, node, timer_path(node_path(node, ns->execs + 1), FLOW_COLLECT + ns->timers), 0, true);
    ns->collect_due_us = 0;
}

static void done(struct turn *t, uint32_t node, enum flow_status status)
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

static void cancel_items(struct turn *t, uint32_t node, const char *reason)
{
    struct flow_state *ns = &t->f->nodes[node];
    for (uint32_t i = 0; i < ns->item_count; i++)
        if (ns->items[i].status == FLOW_RUNNING)
            item_effect(t, node, i, NODE_CANCEL)->node_.error = arena_printf(t->out->arena, "\"%s\"", reason);
}

/* Nobody needs it, or it can never start. What has not started ends without a trace. */
static void cancel(struct turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];

    flow_set_node(t->f, node, SET_PLACED, false);
    flow_set_node(t->f, node, SET_FREE, false);
    if (ns->status == FLOW_RUNNING) {
        struct effect *fx = effect_add(t->out, FX_ABORT, path_of(t->f, node));
        fx->node = t->f->flow->nodes[node].job.node.id;
        fx->top = true;
        ns->limit_us = 0;
        cancel_items(t, node, "not_needed");
        node_effect(t, node, NODE_CANCEL)->node_.error = SPAN("\"not_needed\"");
    } else {
        collect_clear(t, node);
    }
    done(t, node, FLOW_CANCELED);
}

static void look_at_target(struct turn *t, uint32_t node)
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

static void look_at_source(struct turn *t, uint32_t node)
{
    struct flow_run *f = t->f;
    if (!flow_is_done(&f->nodes[node]) && f->nodes[node].live == 0 && !f->flow->nodes[node].output)
        cancel(t, node);
}

static void drain(struct turn *t)
{
    const struct flow *flow = t->f->flow;
    while (t->head < t->tail) {
        uint32_t node = t->m->queue[t->head++];
        const struct flow_node *n = &flow->nodes[node];
        flow_account(t->f, node, t->out->arena);
        for (uint32_t e = n->out; e < n->out + n->out_count; e++)
            look_at_target(t, flow->edges[e].to);
        for (uint32_t i = n->in; i < n->in + n->in_count; i++)
            look_at_source(t, flow->edges[flow->in_edges[i]].from);
    }
    t->head = t->tail = 0;
}

static void finish_node(struct turn *t, uint32_t node, struct span output)
{
    struct flow_state *ns = &t->f->nodes[node];

    done(t, node, FLOW_SUCCEEDED);
    slot_set(&ns->output, output, t->m->arena);
    t->f->doc_turn[node] = 0;
    node_effect(t, node, NODE_FINISH)->node_.output = output;
    t->bytes += output.n;
    size_t behind = t->out->count;
    drain(t);
    checkpoint(t, CHECKPOINT_NODE, node, behind);
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

static void rewind_flights(struct flow_run *f)
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
static void fail_run(struct turn *t, const struct fault *fault, uint32_t node)
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
            cancel_items(t, i, "run_failed");
            node_effect(t, i, NODE_CANCEL)->node_.error = SPAN("\"run_failed\"");
        }
    rewind_flights(f);
    t->m->life = LIFE_FAILED;
    if (node == NO_INDEX)
        fault_to_json(fault, SPAN_NONE, &text);
    else
        fault_to_json(fault, f->flow->nodes[node].job.node.id, &text);
    effect_add(t->out, FX_FAIL, (struct op_path){ 0 })->fail.error = arena_copy(t->out->arena, buf_view(&text));
}

/* true when a way of tests on outputs and plain edges leads to an output of the run. */
static bool harms_output(struct turn *t, uint32_t node)
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

static void fail_node(struct turn *t, uint32_t node, const struct fault *fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };

    fault_to_json(fault, SPAN_NONE, &text);
    node_effect(t, node, NODE_FAIL)->node_.error = arena_copy(t->out->arena, buf_view(&text));
    if (harms_output(t, node)) {
        fail_run(t, fault, node);
        return;
    }
    done(t, node, FLOW_FAILED);
    drain(t);
}

/* ---- the end ---- */

static bool put_outputs(struct turn *t, struct buf *out, struct fault *fault)
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

static void finish_run(struct turn *t)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct fault fault;

    if (!put_outputs(t, &text, &fault)) {
        fail_run(t, &fault, NO_INDEX);
        return;
    }
    t->m->life = LIFE_FINISHED;
    checkpoint(t, CHECKPOINT_FINAL, NO_INDEX, t->out->count);
    struct effect *fx = effect_add(t->out, FX_FINISH, (struct op_path){ 0 });
    fx->finish.output = arena_copy(t->out->arena, buf_view(&text));
    fx->finish.values = arena_copy(t->out->arena, slot_view(&t->m->values));
}

/* ---- where values come from ---- */

static struct jv source_node(void *ctx, uint32_t node)
{
    struct turn *t = ctx;
    return flow_doc(t->f, node, t->out->arena);
}

struct jv flow_input(struct flow_run *f, struct jv root, struct span name)
{
    struct jv v = jv_get_span(root, name);
    for (struct jv_iter it = jv_iter(f->flow->inputs);
         jv_is(v, JSON_NONE) && jv_is(f->flow->inputs, JSON_ARRAY) && jv_step(&it);) {
        CLEANUP(arena_done) struct arena scratch = { 0 };
        if (span_eq(jv_string(jv_get(it.value, "name"), &scratch), name))
            v = jv_get(it.value, "default");
    }
    return v;
}

static struct jv source_input(void *ctx, struct span name)
{
    struct turn *t = ctx;
    if (!t->input_read)
        t->input = json_read(slot_view(&t->m->input), t->out->arena);
    t->input_read = true;
    return flow_input(t->f, t->input, name);
}

static struct flow_source source_of(struct turn *t, struct jv item)
{
    return (struct flow_source){ source_node, source_input, t, t->f->flow, item };
}

/* ---- agents at work ---- */

struct span flow_model(struct flow_run *f, const struct flow_node *node, const struct flow_job *job,
                       struct arena *arena)
{
    struct jv nodes = jv_get(f->models, job == &node->sub ? "subnodes" : "nodes");
    struct jv own = jv_get_span(nodes, node->job.node.id), all = jv_get(f->models, "all");
    return jv_is(own, JSON_STRING)   ? jv_string(own, arena)
           : jv_is(all, JSON_STRING) ? jv_string(all, arena)
                                     : SPAN_NONE;
}

const struct plan *flow_inner(struct flow_run *f, const struct flow_node *node, const struct flow_job *job,
                              struct jv request)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf definition = { 0 };
    CLEANUP(buf_done) struct buf json = { 0 };
    CLEANUP(buf_done) struct buf at = { 0 };
    struct issues issues = { .arena = &scratch };
    struct span model = flow_model(f, node, job, &scratch);
    const struct plan **kept = &f->plans[node - f->flow->nodes];

    if (!model.n && !job->rebuilt)
        return job->node.inner;
    if (*kept && !job->rebuilt)
        return *kept;
    flow_definition(job, request, model, &scratch, &definition);
    if (nested_compile(f->m->plan, "agent", json_read(buf_view(&definition), &scratch), &at, &issues, &json))
        return NULL;
    struct span text = arena_copy(f->m->arena, buf_view(&json));
    return *kept = nested_open(f->m->plan, f->m->arena, "agent", json_read(text, f->m->arena));
}

struct calling {
    uint32_t node;
    const struct flow_job *job;
    struct flow_call *call;
    struct op_path path; /* of the execution */
    struct jv item;
    bool top;
};

static unsigned class_of(const struct fault *fault)
{
    if (span_is(fault->code, "invalid_json") || span_is(fault->code, "invalid_output"))
        return RETRY_INVALID_JSON;
    if (span_is(fault->code, "truncated"))
        return RETRY_TRUNCATED;
    return span_is(fault->category, "rate_limit") ? RETRY_RATE_LIMIT
           : span_is(fault->category, "timeout")  ? RETRY_TIMEOUT
                                                  : 0;
}

/* An answer that should be JSON: a schema's as member "structured", a router's just has to be some. */
static bool judge(struct turn *t, const struct calling *c, struct span *output, struct fault *fault)
{
    struct arena *arena = t->out->arena;
    if (c->job->type != FLOW_ROUTE && !c->job->structured)
        return true;
    struct jv response = json_read(*output, arena), value = flow_text_json(response, arena);
    struct span text = flow_text(response, arena);
    bool cut = jv_str_eq(jv_get(response, "stop_reason"), "length") ||
               jv_str_eq(jv_get(response, "stop_reason"), "max_tokens");

    if (jv_is(value, JSON_NONE)) {
        *fault = (struct fault){
            .code = cut ? SPAN("truncated") : SPAN("invalid_json"),
            .category = SPAN("model"),
            .message = arena_printf(arena, "The answer is no JSON: %.*s", (int)(text.n < 500 ? text.n : 500),
                                    text.n ? text.p : ""),
            .source = SPAN("model"),
        };
        return false;
    }
    if (c->job->structured && jv_is(jv_get(response, "structured"), JSON_NONE) && output->n > 2)
        *output =
            arena_printf(arena, "%.*s,\"structured\":%.*s}", (int)(output->n - 1), output->p, SPAN_ARG(jv_raw(value)));
    return true;
}

/* The agent's word for it, in the words of workflow-runs.md 2.7 and 3.6. */
static void name_fault(struct fault *fault)
{
    static const struct {
        const char *agent, *workflow;
    } names[] = { { "tool_loop_limit", "TOOL_LOOP_LIMIT" },
                  { "tool_calls_limit", "TOOL_CALLS_LIMIT" },
                  { "tool_wait_expired", "TOOL_WAIT_EXPIRED" },
                  { "invalid_output", "invalid_json" } };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_is(fault->code, names[i].agent))
            fault->code = span_of(names[i].workflow);
}

/* true when there is another try to wait for. */
static bool try_again(struct turn *t, const struct calling *c, const struct fault *fault)
{
    uint64_t us = c->job->backoff_us;

    if (c->call->try_no >= c->job->max_tries || !(class_of(fault) & c->job->retry_on))
        return false;
    for (uint32_t i = 1; i < c->call->try_no && us < (uint64_t)PLAN_MS_MAX * 1000; i++)
        us *= 2;
    c->call->inner = NULL;
    c->call->phase = CALL_BACKOFF;
    timer_effect(t, c->node, timer_path(call_path(c->path, c->call), FLOW_BACKOFF), t->in->elapsed_us + us, false);
    return true;
}

/* While its machine asks for nothing but people. */
static void note_waiting(struct turn *t, const struct calling *c, size_t first)
{
    bool asks = false, works = false;
    for (size_t i = first; i < t->out->count; i++) {
        const struct effect *fx = &t->out->items[i];
        asks |= fx->kind == FX_WAIT;
        works |= fx->kind == FX_MODEL || fx->kind == FX_CHILD || (fx->kind == FX_TOOL && fx->tool.by != TOOL_BY_CLIENT);
    }
    if (c->top && (asks || works))
        waits_set(t, c->node, asks && !works);
}

static enum verdict call_begin(struct turn *t, const struct calling *c, struct work *work)
{
    struct flow_source source = source_of(t, c->item);
    struct jv request;

    if (!flow_request(c->job, &source, t->out->arena, &request, &work->fault))
        return VERDICT_FAILED;
    c->call->node.inner = flow_inner(t->f, &t->f->flow->nodes[c->node], c->job, request);
    if (!c->call->node.inner) {
        work->fault = flow_fault("INVALID_REQUEST", "validation", SPAN("The request to the model is not valid."));
        return VERDICT_FAILED;
    }
    work->config = flow_agent_input(request, t->out->arena);
    return nested_start(work);
}

/* Begins a try, or gives the machine its answer. Afterwards the call is at work, or its end is told. */
static enum verdict call_step(struct turn *t, const struct calling *c, bool begin, struct span *ret_output,
                              struct fault *ret_fault)
{
    struct work work = { .plan = t->m->plan,
                         .node = &c->call->node,
                         .in = t->in,
                         .out = t->out,
                         .inner = &c->call->inner,
                         .values = slot_view(&t->m->values),
                         .arena = t->m->arena,
                         .top = c->top };
    size_t first = t->out->count;

    c->call->try_no += begin;
    work.op = call_path(c->path, c->call);
    enum verdict verdict = begin ? call_begin(t, c, &work) : nested_answer(&work);
    c->call->phase = verdict == VERDICT_PENDING ? CALL_INNER : CALL_IDLE;
    *ret_output = work.output;
    *ret_fault = work.fault;
    if (verdict == VERDICT_DONE && !judge(t, c, ret_output, ret_fault))
        verdict = VERDICT_FAILED;
    if (verdict == VERDICT_FAILED)
        name_fault(ret_fault);
    if (verdict == VERDICT_FAILED && try_again(t, c, ret_fault))
        verdict = VERDICT_PENDING;
    note_waiting(t, c, first);
    if (work.human)
        checkpoint(t, CHECKPOINT_HUMAN, c->node, work.human_at);
    return verdict;
}

/* Nothing that large is put together. */
static bool is_too_large(struct turn *t, uint32_t node, size_t bytes)
{
    struct fault fault;
    if (bytes <= FLOW_OUTPUT_MAX)
        return false;
    fault = flow_fault(
        "OUTPUT_TOO_LARGE", "validation",
        arena_printf(t->out->arena, "The output would have %zu bytes, and at most %d may be.", bytes, FLOW_OUTPUT_MAX));
    fail_node(t, node, &fault);
    return true;
}

/* ---- fan-outs ---- */

static void finish_fanout(struct turn *t, uint32_t node)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct flow_state *ns = &t->f->nodes[node];
    struct jw w = jw_on(&text);
    size_t bytes = 0;

    for (uint32_t i = 0; i < ns->item_count; i++)
        bytes += ns->items[i].output.n;
    if (is_too_large(t, node, bytes))
        return;
    jw_obj(&w);
    jw_key(&w, "results");
    jw_arr(&w);
    for (uint32_t i = 0; i < ns->item_count; i++)
        jw_raw(&w, ns->items[i].output);
    jw_arr_end(&w);
    jw_end(&w);
    finish_node(t, node, arena_copy(t->out->arena, buf_view(&text)));
}

static void fail_fanout(struct turn *t, uint32_t node)
{
    const struct flow_state *ns = &t->f->nodes[node];
    struct arena *arena = t->out->arena;
    struct fault of_item = fault_told(ERR_INTERNAL, ns->items[ns->failed_item].output, "agent", arena);
    struct fault fault = of_item;
    fault.code = SPAN("FANOUT_ITEM_FAILED");
    fault.message = arena_printf(arena, "Item %u failed: %.*s", ns->failed_item, SPAN_ARG(of_item.message));
    fail_node(t, node, &fault);
}

/* After an item has ended, or none was there. */
static void look_at_fanout(struct turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];

    flow_set_node(t->f, node, SET_FREE, flow_has_item(n, ns));
    if (ns->failed_item != NO_INDEX && ns->items_flying == 0)
        fail_fanout(t, node);
    else if (ns->items_done == ns->item_count)
        finish_fanout(t, node);
}

static void end_item(struct turn *t, uint32_t node, uint32_t i, enum verdict verdict, struct span output,
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
        item_effect(t, node, i, NODE_FINISH)->node_.output = item->output;
        t->bytes += output.n;
        ns->items_done++;
    } else {
        fault_to_json(fault, SPAN_NONE, &text);
        item->status = FLOW_FAILED;
        item->output = arena_copy(t->m->arena, buf_view(&text));
        item_effect(t, node, i, NODE_FAIL)->node_.error = item->output;
        if (ns->failed_item == NO_INDEX)
            ns->failed_item = i;
    }
    look_at_fanout(t, node);
}

static struct calling item_calling(struct turn *t, uint32_t node, uint32_t i)
{
    struct flow_item *item = &t->f->nodes[node].items[i];
    return (struct calling){
        .node = node,
        .job = &t->f->flow->nodes[node].sub,
        .call = &item->call,
        .path = op_sub(path_of(t->f, node), OP_PART(OP_ITEM, i)),
        .item = json_read(item->value, t->out->arena),
    };
}

static void item_step(struct turn *t, uint32_t node, uint32_t i, bool begin)
{
    struct calling c = item_calling(t, node, i);
    struct flow_source source = source_of(t, c.item);
    struct span output;
    struct fault fault;
    enum verdict verdict;

    if (c.job->type == FLOW_TRANSFORM)
        verdict = flow_transform(c.job, &source, t->out->arena, &output, &fault) ? VERDICT_DONE : VERDICT_FAILED;
    else
        verdict = call_step(t, &c, begin, &output, &fault);
    if (verdict != VERDICT_PENDING)
        end_item(t, node, i, verdict, output, &fault);
}

static void start_item(struct turn *t, uint32_t node)
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
    struct effect *fx = item_effect(t, node, i, NODE_START);
    fx->node_.step = t->m->steps++;
    fx->node_.capability_ref = span_of(n->sub.node.capability->name);
    fx->node_.capability_version = span_of(n->sub.node.capability->version);
    fx->node_.execution_binding = n->sub.node.binding;
    t->starts++;
    item_step(t, node, i, true);
}

static void start_fanout(struct turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];
    struct flow_source source = source_of(t, (struct jv){ 0 });
    struct fault fault;
    struct jv items;

    if (!ns->items) {
        if (!flow_items(n, &source, t->out->arena, &items, &fault)) {
            fail_node(t, node, &fault);
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
static void run_join(struct turn *t, uint32_t node)
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
        fail_node(t, node, &fault);
        return;
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += f->nodes[ns->got[i]].output.n;
    if (is_too_large(t, node, bytes))
        return;
    qsort(ns->got, count, sizeof ns->got[0], by_number);
    struct jw w = jw_on(&text);
    jw_obj(&w);
    for (uint32_t i = 0; i < count; i++)
        put_source(&w, f, ns->got[i]);
    jw_end(&w);
    finish_node(t, node, arena_copy(t->out->arena, buf_view(&text)));
}

static void run_transform(struct turn *t, uint32_t node)
{
    struct flow_source source = source_of(t, (struct jv){ 0 });
    struct span output;
    struct fault fault;
    if (!flow_transform(&t->f->flow->nodes[node].job, &source, t->out->arena, &output, &fault))
        fail_node(t, node, &fault);
    else
        finish_node(t, node, output);
}

static void model_step(struct turn *t, uint32_t node, bool begin)
{
    struct calling c = { .node = node,
                         .job = &t->f->flow->nodes[node].job,
                         .call = &t->f->nodes[node].call,
                         .path = path_of(t->f, node),
                         .top = true };
    struct span output;
    struct fault fault;
    enum verdict verdict = call_step(t, &c, begin, &output, &fault);
    if (verdict == VERDICT_DONE)
        finish_node(t, node, output);
    else if (verdict == VERDICT_FAILED)
        fail_node(t, node, &fault);
}

/* A join.collect counts its time from the start of the first source. */
static void set_collect_timers(struct turn *t, uint32_t node)
{
    const struct flow *flow = t->f->flow;
    const struct flow_node *n = &flow->nodes[node];
    for (uint32_t e = n->out; e < n->out + n->out_count; e++) {
        uint32_t to = flow->edges[e].to;
        struct flow_state *ts = &t->f->nodes[to];
        if (!flow->nodes[to].timeout_us || ts->status != FLOW_PENDING || ts->collect_due_us)
            continue;
        ts->collect_due_us = t->in->elapsed_us + flow->nodes[to].timeout_us;
        timer_effect(t, to, timer_path(node_path(to, ts->execs + 1), FLOW_COLLECT + ++ts->timers), ts->collect_due_us,
                     false);
    }
}

static void start_node(struct turn *t, uint32_t node)
{
    const struct flow_node *n = &t->f->flow->nodes[node];
    struct flow_state *ns = &t->f->nodes[node];

    flow_set_node(t->f, node, flow_place_of(n), false);
    collect_clear(t, node);
    ns->status = FLOW_RUNNING;
    ns->execs++;
    ns->step = t->m->steps++;
    ns->call.node.id = n->job.node.id;
    flow_set_node(t->f, node, SET_RUNNING, true);
    t->f->running++;
    t->starts++;
    struct effect *fx = node_effect(t, node, NODE_START);
    fx->node_.capability_ref = span_of(n->job.node.capability->name);
    fx->node_.capability_version = span_of(n->job.node.capability->version);
    fx->node_.execution_binding = n->job.node.binding;
    set_collect_timers(t, node);
    if (t->f->flow->node_timeout_us && flow_place_of(n) == SET_PLACED)
        limit_set(t, node, t->f->flow->node_timeout_us);
    switch (n->job.type) {
    case FLOW_LLM:
    case FLOW_ROUTE: model_step(t, node, true); break;
    case FLOW_FANOUT: start_fanout(t, node); break;
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
static bool inputs_are_good(struct turn *t)
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
    fail_run(t, &fault, NO_INDEX);
    return false;
}

static void begin(struct turn *t)
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
    rewind_flights(t->f);
    m->paused = false;
    m->life = LIFE_RUNNING;
    if (inputs_are_good(t))
        flow_make_ready(t->f);
}

static void time_out(struct turn *t, uint32_t node)
{
    struct flow_state *ns = &t->f->nodes[node];
    struct fault fault = flow_fault("NODE_TIMEOUT", "timeout",
                                    arena_printf(t->out->arena, "The node was not done in %llu ms.",
                                                 (unsigned long long)(t->f->flow->node_timeout_us / 1000)));
    struct effect *fx = effect_add(t->out, FX_ABORT, path_of(t->f, node));
    fx->node = t->f->flow->nodes[node].job.node.id;
    fx->top = true;
    ns->limit_us = 0;
    cancel_items(t, node, "timeout");
    fail_node(t, node, &fault);
}

static bool is_timer(const struct input *in, struct op_path path, uint32_t number)
{
    struct op_path own = timer_path(path, number);
    return in->kind == IN_TIMER && op_path_eq(&in->op, &own);
}

/* 0: not for this call; 1: the next try is due; 2: for its machine. */
static unsigned for_call(const struct input *in, struct op_path path, const struct flow_call *call)
{
    path = call_path(path, call);
    if (call->phase == CALL_BACKOFF)
        return is_timer(in, path, FLOW_BACKOFF);
    return call->phase == CALL_INNER && in->op.n > path.n && op_path_under(&in->op, &path) ? 2 : 0;
}

static void deliver_item(struct turn *t, uint32_t node, struct op_path path)
{
    struct flow_state *ns = &t->f->nodes[node];
    uint32_t part = t->in->op.n > path.n ? t->in->op.v[path.n] : 0, i = part & 0x0fffffff;

    if (part >> 28 != OP_ITEM || i >= ns->item_count || ns->items[i].status != FLOW_RUNNING)
        return;
    unsigned what = for_call(t->in, op_sub(path, part), &ns->items[i].call);
    if (what)
        item_step(t, node, i, what == 1);
}

/* Late answers are nobody's. */
static void deliver(struct turn *t)
{
    struct flow_run *f = t->f;
    uint32_t part = t->in->op.n ? t->in->op.v[0] : 0, node = (part & 0x0fffffff) >> 8;

    if (part >> 28 != OP_NODE || node >= f->flow->node_count || !t->in->op.n)
        return;
    struct flow_state *ns = &f->nodes[node];
    if (ns->status == FLOW_PENDING && ns->collect_due_us &&
        is_timer(t->in, node_path(node, ns->execs + 1), FLOW_COLLECT + ns->timers)) {
        ns->collect_due_us = 0;
        ns->late = true;
        look_at_target(t, node);
        drain(t);
    }
    struct op_path path = path_of(f, node);
    if (ns->status != FLOW_RUNNING || !op_path_under(&t->in->op, &path))
        return;
    if (is_timer(t->in, path, FLOW_LIMIT + ns->timers)) {
        if (ns->limit_us && !ns->waits)
            time_out(t, node);
        return;
    }
    if (f->flow->nodes[node].job.type == FLOW_FANOUT) {
        deliver_item(t, node, path);
        return;
    }
    unsigned what = for_call(t->in, path, &ns->call);
    if (what)
        model_step(t, node, what == 1);
}

static void deliver_message(struct turn *t)
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

static bool is_cut(const struct turn *t)
{
    return t->out->stop_after_checkpoints && t->checkpoints >= t->out->stop_after_checkpoints;
}

static void start_ready(struct turn *t)
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
            start_item(t, node);
        } else {
            start_node(t, node);
        }
    }
    if (!is_cut(t) && m->life == LIFE_RUNNING && t->f->running == 0 && !m->paused)
        finish_run(t);
}

enum err flow_step(struct machine *m, const struct input *in, struct effects *out)
{
    struct turn t = { .m = m, .f = m->flow, .in = in, .out = out };
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
