/* SPDX-License-Identifier: Apache-2.0 */
/* graph_rig.h - a host that is a test: steps a graph machine, writes down every effect, keeps what is in flight, and
 * checks while it goes what must hold for every run: op paths are used once, node executions open and close in order,
 * a checkpoint follows each finished node, nothing happens after the end. */
#pragma once
#include "workflow/graph.h"
#include <stdio.h>
#include <stdlib.h>

struct rig_call {
    struct op_path op;
    enum effect_kind kind; /* FX_MODEL, FX_TOOL, FX_WAIT, FX_TIMER, FX_CHILD */
    char node[160]; /* of an item: FANOUT:SUBNODE:INDEX */
    uint64_t due_us;
};

enum { RIG_CALLS = 2048 };

/* What nodes may hold: a test that wants some says so before it includes this file. */
#ifndef RIG_KINDS
#define RIG_KINDS NULL
#endif

struct rig {
    struct plan plan;
    struct machine *m;
    struct arena machine_arenas[2]; /* in turn: a machine keeps a pointer to its own */
    unsigned life;                  /* which */
    struct arena effects_arena;
    struct effects fx;
    struct buf trace;  /* one line per effect, since the start */
    struct buf paths;  /* every path that was given out: none may come twice */
    struct buf output; /* of the run, or the error */
    struct buf values;
    struct rig_call calls[RIG_CALLS];
    size_t call_count;
    uint64_t seq, elapsed_us;
    uint32_t open_nodes;
    bool finished, failed;
};

__attribute__((unused)) static struct jv rig_parse(const char *text, struct arena *arena)
{
    struct json *doc = ARENA_NEW(arena, struct json);
    enum err err =
        json_parse(span_of(text), &(struct json_limits){ .depth = 128, .lone_surrogates = true }, arena, doc, NULL);
    if (err)
        fprintf(stderr, "test text is no JSON: %s\n", text);
    assert(err == ERR_OK);
    return json_root(doc);
}

/* A workflow.v1 is a plan already: it is opened as it is stored, so that a test may use
 * what specifications cannot say. */
__attribute__((unused)) static enum err rig_plan(struct jv definition, struct plan *plan, struct issues *issues)
{
    struct buf text = { 0 };
    if (!jv_str_eq(jv_get(definition, "kind"), "workflow.v1"))
        return graph_ops.compile(definition, plan, issues);
    json_canonical(definition, JSON_JCS, &text);
    plan->json = arena_copy(&plan->arena, buf_view(&text));
    buf_done(&text);
    return graph_ops.open(plan);
}

/* The definition must be a good one. */
__attribute__((unused)) static void rig_open(struct rig *r, const char *definition)
{
    struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    *r = (struct rig){ .fx.arena = NULL };
    r->fx.arena = &r->effects_arena;
    r->plan.kinds = RIG_KINDS;
    enum err err = rig_plan(rig_parse(definition, &scratch), &r->plan, &issues);
    for (size_t i = 0; i < issues.count && i < ISSUES_MAX; i++)
        fprintf(stderr, "%.*s %.*s: %.*s\n", SPAN_ARG(issues.items[i].pointer), SPAN_ARG(issues.items[i].code),
                SPAN_ARG(issues.items[i].message));
    assert(err == ERR_OK && issues.count == 0);
    assert(graph_ops.open(&r->plan) == ERR_OK);
    assert(graph_ops.init(&r->plan, &r->machine_arenas[0], &r->m) == ERR_OK);
    arena_done(&scratch);
}

__attribute__((unused)) static void rig_close(struct rig *r)
{
    arena_done(&r->plan.arena);
    arena_done(&r->machine_arenas[0]);
    arena_done(&r->machine_arenas[1]);
    arena_done(&r->effects_arena);
    free(r->fx.items);
    buf_done(&r->trace);
    buf_done(&r->paths);
    buf_done(&r->output);
    buf_done(&r->values);
}

static void rig_put_path(struct buf *out, const struct op_path *op)
{
    static const char letters[] = "nimtwTc";
    for (uint8_t i = 0; i < op->n; i++) {
        uint32_t kind = op->v[i] >> 28, number = op->v[i] & 0x0fffffff;
        if (kind == OP_NODE)
            buf_printf(out, "%s%u.%u", i ? "/" : "", number >> 8, number & 255);
        else
            buf_printf(out, "/%c%u", letters[kind], number);
    }
}

/* Each path starts one thing only: one node execution or one call. */
static void rig_use_path(struct rig *r, const struct op_path *op)
{
    struct buf text = { 0 };
    BUF_LIT(&text, "\n");
    rig_put_path(&text, op);
    BUF_LIT(&text, "\n");
    assert(!r->paths.len || !memmem(r->paths.p, r->paths.len, text.p, text.len));
    buf_span(&r->paths, buf_view(&text));
    buf_done(&text);
}

static void rig_open_call(struct rig *r, const struct effect *fx, uint64_t due_us)
{
    assert(r->call_count < RIG_CALLS && fx->node.n < sizeof r->calls[0].node);
    struct rig_call *call = &r->calls[r->call_count++];
    *call = (struct rig_call){ .op = fx->op, .kind = fx->kind, .due_us = due_us };
    if (fx->node.n)
        memcpy(call->node, fx->node.p, fx->node.n);
    rig_use_path(r, &fx->op);
}

static void rig_node(struct rig *r, const struct effect *fx)
{
    static const char *const names[] = { "start", "finish", "fail", "cancel", "wait" };
    struct buf *t = &r->trace;
    buf_printf(t, "%s %.*s", names[fx->node_.event], SPAN_ARG(fx->node));
    if (fx->node_.event == NODE_START) {
        buf_printf(t, " step %u try %u", fx->node_.step, fx->node_.try_no);
        rig_use_path(r, &fx->op);
        assert(fx->node_.capability_ref.n && fx->node_.capability_version.n && fx->node_.execution_binding.n);
        r->open_nodes++;
    } else if (fx->node_.event != NODE_WAIT) {
        assert(r->open_nodes > 0);
        r->open_nodes--;
    }
    if (fx->node_.event == NODE_FINISH)
        buf_printf(t, " %.*s", SPAN_ARG(fx->node_.output));
    if (fx->node_.error.n)
        buf_printf(t, " %.*s", SPAN_ARG(fx->node_.error));
    if (fx->node_.event == NODE_FAIL && fx->node_.will_retry)
        buf_printf(t, " again");
    if (fx->node_.pending.n)
        buf_printf(t, " for %.*s", SPAN_ARG(fx->node_.pending));
}

static void rig_abort(struct rig *r, const struct effect *fx)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->call_count; i++)
        if (!op_path_under(&r->calls[i].op, &fx->op))
            r->calls[kept++] = r->calls[i];
    assert(kept < r->call_count || fx->op.n); /* the run is not aborted when nothing of it is there */
    r->call_count = kept;
    buf_printf(&r->trace, fx->kind == FX_TIMER ? " clear" : "abort");
}

static void rig_end(struct rig *r, struct span output, struct span values)
{
    assert(r->open_nodes == 0 && r->call_count == 0);
    r->output.len = r->values.len = 0;
    buf_span(&r->output, output);
    buf_span(&r->values, values);
}

static void rig_effect(struct rig *r, const struct effect *fx)
{
    static const char *const kinds[] = { "start", "node", "human", "final" };
    struct buf *t = &r->trace;
    assert(!r->finished && !r->failed);
    switch (fx->kind) {
    case FX_NODE: rig_node(r, fx); break;
    case FX_MODEL:
        buf_printf(t, "model %.*s %.*s %.*s %.*s%s%s", SPAN_ARG(fx->node), SPAN_ARG(fx->model.provider),
                   SPAN_ARG(fx->model.model), SPAN_ARG(fx->model.request), fx->model.stream ? " stream" : "",
                   fx->model.on_node ? " on_node" : "");
        rig_open_call(r, fx, 0);
        break;
    case FX_WAIT:
        buf_printf(t, "ask %.*s \"%.*s\" %.*s expires %llu", SPAN_ARG(fx->node), SPAN_ARG(fx->wait.prompt),
                   SPAN_ARG(fx->wait.schema), (unsigned long long)fx->wait.expires_us);
        rig_open_call(r, fx, fx->wait.expires_us);
        break;
    case FX_TIMER:
        buf_printf(t, "timer %.*s due %llu", SPAN_ARG(fx->node), (unsigned long long)fx->timer.due_us);
        if (fx->timer.clear) {
            rig_abort(r, fx);
            break;
        }
        rig_open_call(r, fx, fx->timer.due_us);
        break;
    case FX_CHILD:
        buf_printf(t, "child %.*s %.*s %.*s", SPAN_ARG(fx->node), SPAN_ARG(fx->child.agent), SPAN_ARG(fx->child.input));
        rig_open_call(r, fx, 0);
        break;
    case FX_TOOL:
        buf_printf(t, "tool %.*s %.*s %.*s%s", SPAN_ARG(fx->node), SPAN_ARG(fx->tool.tool), SPAN_ARG(fx->tool.arguments),
                   fx->tool.by == TOOL_BY_CLIENT ? " by client" : "");
        rig_open_call(r, fx, 0);
        break;
    case FX_EMIT:
        buf_printf(t, "emit %.*s %.*s %.*s", SPAN_ARG(fx->node), SPAN_ARG(fx->emit.name), SPAN_ARG(fx->emit.value));
        break;
    case FX_ABORT: rig_abort(r, fx); break;
    case FX_STATE:
        buf_printf(t, "state %.*s %.*s -> %.*s", SPAN_ARG(fx->node), SPAN_ARG(fx->state.patch),
                   SPAN_ARG(fx->state.values));
        break;
    case FX_CHECKPOINT:
        buf_printf(t, "checkpoint %s %.*s %u %.*s", kinds[fx->checkpoint.kind], SPAN_ARG(fx->node), fx->checkpoint.step,
                   SPAN_ARG(fx->checkpoint.hashed));
        break;
    case FX_FINISH:
        buf_printf(t, "done %.*s values %.*s", SPAN_ARG(fx->finish.output), SPAN_ARG(fx->finish.values));
        rig_end(r, fx->finish.output, fx->finish.values);
        r->finished = true;
        break;
    case FX_FAIL:
        buf_printf(t, "failed %.*s", SPAN_ARG(fx->fail.error));
        rig_end(r, fx->fail.error, SPAN_NONE);
        r->failed = true;
        break;
    default: assert(!"an effect that a graph does not have");
    }
    BUF_LIT(t, " [");
    rig_put_path(t, &fx->op);
    BUF_LIT(t, "]\n");
}

/* Finished nodes are followed directly by their checkpoint, prompts preceded by theirs. */
static void rig_check_order(const struct effects *fx)
{
    for (size_t i = 0; i < fx->count; i++) {
        const struct effect *at = &fx->items[i], *next = i + 1 < fx->count ? at + 1 : NULL;
        if (at->kind == FX_NODE && at->node_.event == NODE_FINISH && at->top)
            assert(next && next->kind == FX_CHECKPOINT && next->checkpoint.kind == CHECKPOINT_NODE &&
                   op_path_eq(&at->op, &next->op) && span_eq(at->node, next->node));
        if (at->kind == FX_WAIT && at->wait.kind == WAIT_PROMPT)
            assert(i > 0 && at[-1].kind == FX_CHECKPOINT && at[-1].checkpoint.kind == CHECKPOINT_HUMAN && next &&
                   next->kind == FX_NODE && next->node_.event == NODE_WAIT);
    }
}

/* Steps; the value is copied to a place that vanishes, because inputs are valid during the step only. */
__attribute__((unused)) static size_t rig_input(struct rig *r, enum input_kind kind, struct op_path op, enum err err,
                                                struct span value)
{
    char *copy = mem_dup(value.p ? value.p : "", value.n);
    struct input in = { .kind = kind,
                        .seq = ++r->seq,
                        .op = op,
                        .elapsed_us = r->elapsed_us,
                        .err = err,
                        .value = span_make(copy, value.n) };
    arena_reset(&r->effects_arena);
    r->fx.count = 0;
    assert(graph_ops.step(r->m, &in, &r->fx) == ERR_OK);
    memset(copy, '!', value.n);
    free(copy);
    if (kind == IN_START)
        r->finished = r->failed = false;
    rig_check_order(&r->fx);
    for (size_t i = 0; i < r->fx.count; i++)
        rig_effect(r, &r->fx.items[i]);
    return r->fx.count;
}

__attribute__((unused)) static void rig_start(struct rig *r, const char *start)
{
    rig_input(r, IN_START, (struct op_path){ 0 }, ERR_OK, span_of(start));
}

/* Answers call number i. */
__attribute__((unused)) static void rig_answer_at(struct rig *r, size_t i, enum err err, const char *value)
{
    assert(i < r->call_count);
    struct rig_call call = r->calls[i];
    enum input_kind kind = call.kind == FX_MODEL   ? IN_MODEL
                           : call.kind == FX_TOOL  ? IN_TOOL
                           : call.kind == FX_WAIT  ? IN_ANSWER
                           : call.kind == FX_TIMER ? IN_TIMER
                                                   : IN_CHILD;
    memmove(&r->calls[i], &r->calls[i + 1], (--r->call_count - i) * sizeof r->calls[0]);
    if (kind == IN_TIMER && r->elapsed_us < call.due_us)
        r->elapsed_us = call.due_us;
    rig_input(r, kind, call.op, err, span_of(value));
}

/* Answers what the node waits for. */
__attribute__((unused)) static void rig_answer(struct rig *r, const char *node, enum err err, const char *value)
{
    size_t i = 0;
    while (i < r->call_count && strcmp(r->calls[i].node, node) != 0)
        i++;
    rig_answer_at(r, i, err, value);
}

/* A crash: the machine is saved, thrown away and loaded. Saving what was loaded must give the same text. */
__attribute__((unused)) static void rig_reload(struct rig *r)
{
    struct buf saved = { 0 }, again = { 0 };
    struct arena *old = &r->machine_arenas[r->life], *fresh = &r->machine_arenas[r->life ^= 1];
    assert(graph_ops.save(r->m, &saved) == ERR_OK);
    assert(graph_ops.load(&r->plan, buf_view(&saved), fresh, &r->m) == ERR_OK);
    arena_done(old);
    assert(graph_ops.save(r->m, &again) == ERR_OK);
    assert(span_eq(buf_view(&saved), buf_view(&again)));
    buf_done(&saved);
    buf_done(&again);
}
