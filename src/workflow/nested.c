/* SPDX-License-Identifier: Apache-2.0 */
/* nested.c - nodes that hold a machine (nested.h). */
#include "workflow/nested.h"
#include "machine/nest.h"

/* ---- plans ---- */

static void add_issues(const struct issues *found, struct buf *at, struct issues *issues)
{
    for (size_t i = 0; i < found->count && i < ISSUES_MAX; i++) {
        const struct issue *issue = &found->items[i];
        size_t before = at->len;
        buf_span(at, issue->pointer);
        issue_add(issues, buf_view(at), "", "%.*s", SPAN_ARG(issue->message));
        if (issues->count <= ISSUES_MAX)
            issues->items[issues->count - 1].code = arena_copy(issues->arena, issue->code);
        at->len = before;
    }
}

enum err nested_compile(const struct plan *plan, const char *kind, struct jv definition, struct buf *at,
                        struct issues *issues, struct buf *out)
{
    const struct machine_ops *ops = nest_kind(plan, kind);
    struct plan inner = { .ops = ops, .kinds = plan->kinds };
    struct issues found = { .arena = issues->arena };

    if (!ops) {
        issue_add(issues, buf_view(at), "unsupported_binding", "this server has no machine of kind %s", kind);
        return ERR_UNSUPPORTED_BINDING;
    }
    enum err err = ops->compile(definition, &inner, &found);
    add_issues(&found, at, issues);
    if (!err)
        buf_span(out, inner.json);
    arena_done(&inner.arena);
    return err;
}

const struct plan *nested_open(const struct plan *plan, struct arena *arena, const char *kind, struct jv json)
{
    const struct machine_ops *ops = nest_kind(plan, kind);
    struct plan *inner = ARENA_NEW(arena, struct plan);

    if (!ops || !jv_is(json, JSON_OBJECT))
        return NULL;
    *inner = (struct plan){ .ops = ops, .kinds = plan->kinds, .json = jv_raw(json) };
    enum err err = ops->open(inner);
    /* One arena less to free: the outer plan's owner knows nothing of inner ones. */
    arena_adopt(arena, &inner->arena);
    if (err)
        return NULL;
    if (!inner->human_timeout_us)
        inner->human_timeout_us = plan->human_timeout_us;
    return inner;
}

/* ---- steps ---- */

static bool asks_person(const struct effect *fx)
{
    return fx->kind == FX_WAIT && fx->wait.kind != WAIT_TOOLS;
}

static void put_pending(struct jw *w, const struct effect *fx)
{
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, fx->tool.call_name);
    jw_key(w, "name");
    jw_str(w, fx->tool.tool);
    jw_key(w, "arguments");
    jw_raw(w, fx->tool.arguments);
    jw_end(w);
}

/* Effects from `first` on may hold questions: the node waits then. */
static void tell_waits(struct work *work, size_t first)
{
    CLEANUP(buf_done) struct buf pending = { 0 };
    struct effects *out = work->out;
    struct jw w = jw_on(&pending);
    bool waits = false, tools = false;

    jw_arr(&w);
    for (size_t i = first; i < out->count; i++) {
        const struct effect *fx = &out->items[i];
        waits |= fx->kind == FX_WAIT;
        tools |= fx->kind == FX_WAIT && (fx->wait.kind == WAIT_TOOLS || fx->wait.kind == WAIT_ASK);
        if (asks_person(fx) && !work->human) {
            work->human = true;
            work->human_at = i;
        }
        if (fx->kind == FX_TOOL && fx->tool.by == TOOL_BY_CLIENT)
            put_pending(&w, fx);
    }
    jw_arr_end(&w);
    if (!waits)
        return;
    struct effect *fx = effect_add(out, FX_NODE, work->op);
    fx->node = work->node->id;
    fx->top = work->top;
    fx->node_.event = NODE_WAIT;
    fx->node_.error = tools ? SPAN("\"tool_results\"") : SPAN("\"human\"");
    fx->node_.pending = tools ? arena_copy(out->arena, buf_view(&pending)) : SPAN_NONE;
}

static void take_effects(struct work *work, size_t first)
{
    for (size_t i = first; i < work->out->count; i++) {
        struct effect *fx = &work->out->items[i];
        fx->top = work->top;
        if (fx->kind == FX_STATE)
            work->values = fx->state.values;
    }
    tell_waits(work, first);
}

/* What the machine did not clear away itself. Nothing is recorded for it, and it is no harm when there is nothing. */
static void abort_rest(struct work *work)
{
    struct effect *fx = effect_add(work->out, FX_ABORT, work->op);
    fx->node = work->node->id;
    fx->top = work->top;
}

static enum verdict step(struct work *work, const struct input *in)
{
    const struct machine_ops *ops = work->node->inner->ops;
    struct nest_result result;
    size_t first = work->out->count;
    enum err err = nest_step(ops, *work->inner, in, work->op, work->node->id, work->out, &result);

    if (err) {
        abort_rest(work);
        work->fault = fault_told(err, SPAN_NONE, "runtime", work->out->arena);
        return VERDICT_FAILED;
    }
    take_effects(work, first);
    if (result.end == NEST_RUNS) {
        work->phase = PHASE_INNER;
        return VERDICT_PENDING;
    }
    abort_rest(work);
    if (result.end == NEST_FAILED) {
        work->fault = fault_told(ERR_INTERNAL, result.error, "agent", work->out->arena);
        return VERDICT_FAILED;
    }
    if (result.values.n)
        work->values = result.values;
    work->output = result.output.n ? result.output : SPAN("null");
    *work->inner = NULL;
    return VERDICT_DONE;
}

static struct span start_value(const struct work *work)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    struct jv input = jv_get(work->config, "input");

    jw_obj(&w);
    if (!jv_is(input, JSON_NONE)) {
        jw_key(&w, "input");
        jw_raw(&w, jv_raw(input));
    }
    jw_key(&w, "values");
    jw_raw(&w, work->values.n ? work->values : SPAN("{}"));
    jw_end(&w);
    return arena_copy(work->out->arena, buf_view(&text));
}

enum verdict nested_start(struct work *work)
{
    const struct plan *plan = work->node->inner;
    struct input in = *work->in;

    /* There is one already when this is a new attempt: it goes on at its last complete step. */
    if (!*work->inner && plan->ops->init(plan, work->arena, work->inner)) {
        work->fault = fault_told(ERR_INTERNAL, SPAN_NONE, "runtime", work->out->arena);
        return VERDICT_FAILED;
    }
    in.kind = IN_START;
    in.op = (struct op_path){ 0 };
    in.err = ERR_OK;
    in.value = start_value(work);
    return step(work, &in);
}

enum verdict nested_answer(struct work *work)
{
    return step(work, work->in);
}

/* ---- snapshots ---- */

enum err nested_save(const struct plan_node *node, const struct machine *inner, struct jw *w)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    enum err err = node->inner->ops->save(inner, &text);
    if (!err)
        jw_raw(w, buf_view(&text));
    return err;
}

enum err nested_load(const struct plan_node *node, struct span saved, struct arena *arena, struct machine **ret)
{
    if (!node->inner)
        return ERR_CORRUPT;
    return node->inner->ops->load(node->inner, saved, arena, ret);
}
