/* SPDX-License-Identifier: Apache-2.0 */
/* flow_call.c - the agents of a workflow at work: model nodes, routers, and model items of fan-outs; their tries. */
#include "workflow/flow_turn.h"
#include "workflow/nested.h"

/* ---- where values come from ---- */

static struct jv source_node(void *ctx, uint32_t node)
{
    struct flow_turn *t = ctx;
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
    struct flow_turn *t = ctx;
    if (!t->input_read)
        t->input = json_read(slot_view(&t->m->input), t->out->arena);
    t->input_read = true;
    return flow_input(t->f, t->input, name);
}

struct flow_source flow_source_of(struct flow_turn *t, struct jv item)
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

static struct op_path call_path(struct op_path path, const struct flow_call *call)
{
    return call->try_no > 1 ? op_sub(path, OP_PART(OP_NODE, call->try_no)) : path;
}

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
static bool judge(struct flow_turn *t, const struct flow_calling *c, struct span *output, struct fault *fault)
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
static bool try_again(struct flow_turn *t, const struct flow_calling *c, const struct fault *fault)
{
    uint64_t us = c->job->backoff_us;

    if (c->call->try_no >= c->job->max_tries || !(class_of(fault) & c->job->retry_on))
        return false;
    for (uint32_t i = 1; i < c->call->try_no && us < (uint64_t)PLAN_MS_MAX * 1000; i++)
        us *= 2;
    c->call->inner = NULL;
    c->call->phase = CALL_BACKOFF;
    flow_timer_effect(t, c->node, flow_timer_path(call_path(c->path, c->call), FLOW_BACKOFF), t->in->elapsed_us + us, false);
    return true;
}

/* While its machine asks for nothing but people. */
static void note_waiting(struct flow_turn *t, const struct flow_calling *c, size_t first)
{
    bool asks = false, works = false;
    for (size_t i = first; i < t->out->count; i++) {
        const struct effect *fx = &t->out->items[i];
        asks |= fx->kind == FX_WAIT;
        works |= fx->kind == FX_MODEL || fx->kind == FX_CHILD || (fx->kind == FX_TOOL && fx->tool.by != TOOL_BY_CLIENT);
    }
    if (c->top && (asks || works))
        flow_waits_set(t, c->node, asks && !works);
}

static enum verdict call_begin(struct flow_turn *t, const struct flow_calling *c, struct work *work)
{
    struct flow_source source = flow_source_of(t, c->item);
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
enum verdict flow_call_step(struct flow_turn *t, const struct flow_calling *c, bool begin, struct span *ret_output,
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
        flow_checkpoint(t, CHECKPOINT_HUMAN, c->node, work.human_at);
    return verdict;
}

bool flow_is_timer(const struct input *in, struct op_path path, uint32_t number)
{
    struct op_path own = flow_timer_path(path, number);
    return in->kind == IN_TIMER && op_path_eq(&in->op, &own);
}

/* 0: not for this call; 1: the next try is due; 2: for its machine. */
unsigned flow_for_call(const struct input *in, struct op_path path, const struct flow_call *call)
{
    path = call_path(path, call);
    if (call->phase == CALL_BACKOFF)
        return flow_is_timer(in, path, FLOW_BACKOFF);
    return call->phase == CALL_INNER && in->op.n > path.n && op_path_under(&in->op, &path) ? 2 : 0;
}
