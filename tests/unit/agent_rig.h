/* SPDX-License-Identifier: Apache-2.0 */
/* agent_rig.h - a host that is a test: steps an agent machine, writes down what it asks for, keeps what is in flight, and checks
 * what must hold for every run: a path is open once, requests are JSON, every tool call in a conversation has its result right
 * behind it, nothing is left open and nothing happens after the end. */
#pragma once
#include "agent/agent.h"
#include <stdio.h>
#include <stdlib.h>

struct arig_open {
    struct op_path op;
    enum effect_kind kind;
};
enum { ARIG_OPEN = 256 };

struct arig {
    struct plan plan;
    struct machine *m;
    struct arena arenas[2]; /* of the machine, in turn */
    unsigned life;
    struct arena effects_arena;
    struct effects fx;
    struct buf trace;    /* one line per effect */
    struct buf rest;     /* of the last request, all but the messages */
    struct arig_open open[ARIG_OPEN];
    size_t open_count;
    uint64_t seq, elapsed_us;
    struct buf output, values;
    bool finished, failed;
    bool reloads;        /* save and load between all inputs */
};

__attribute__((unused)) static struct jv arig_parse(struct span text, struct arena *arena)
{
    struct json *doc = ARENA_NEW(arena, struct json);
    struct error error = { 0 };
    enum err err = json_parse(text, &(struct json_limits){ .depth = 256, .lone_surrogates = true }, arena, doc, &error);
    if (err)
        fprintf(stderr, "no JSON (%s): %.*s\n", error.message, SPAN_ARG(text));
    assert(err == ERR_OK);
    return json_root(doc);
}

static void arig_path(struct buf *out, const struct op_path *op)
{
    static const char letters[] = "nimtwTc";
    for (uint8_t i = 0; i < op->n; i++)
        buf_printf(out, "%s%c%u", i ? "/" : "", letters[op->v[i] >> 28], op->v[i] & 0x0fffffff);
    if (op->n == 0)
        BUF_LIT(out, "-");
}

/* Calls and results stand together, in any conversation that a provider would take. */
static void arig_check_messages(struct jv messages)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    size_t count = jv_count(messages);

    for (size_t i = 0; i < count; i++) {
        struct jv calls = jv_get(jv_at(messages, i), "tool_calls");
        size_t n = jv_is(calls, JSON_ARRAY) ? jv_count(calls) : 0;
        for (size_t j = 0; j < n; j++) {
            struct jv result = jv_at(messages, i + 1 + j);
            assert(jv_str_eq(jv_get(result, "role"), "tool"));
            assert(jv_equal(jv_get(result, "tool_call_id"), jv_get(jv_at(calls, j), "id")));
            (void)arig_parse(jv_string(jv_get(jv_at(calls, j), "arguments"), &scratch), &scratch);
        }
        i += n;
        assert(n > 0 || !jv_str_eq(jv_get(jv_at(messages, i), "role"), "tool"));
    }
}

static void arig_model(struct arig *r, const struct effect *fx)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf rest = { 0 };
    struct jv request = arig_parse(fx->model.request, &scratch), messages = jv_get(request, "messages");

    assert(fx->model.provider.n && fx->model.model.n);
    arig_check_messages(messages);
    for (struct jv_iter it = jv_iter(request); jv_step(&it);)
        if (!jv_str_eq(it.name, "messages"))
            buf_printf(&rest, " %.*s=%.*s", SPAN_ARG(jv_string(it.name, &scratch)), SPAN_ARG(jv_raw(it.value)));
    buf_printf(&r->trace, "model %.*s/%.*s%s%s%.*s", SPAN_ARG(fx->model.provider), SPAN_ARG(fx->model.model),
               fx->model.stream ? " stream" : "", fx->model.retry.n ? " retry=" : "", SPAN_ARG(fx->model.retry));
    if (!span_eq(buf_view(&rest), buf_view(&r->rest)))
        buf_span(&r->trace, buf_view(&rest));
    r->rest.len = 0;
    buf_span(&r->rest, buf_view(&rest));
    for (struct jv_iter it = jv_iter(messages); jv_step(&it);)
        buf_printf(&r->trace, "\n    %.*s", SPAN_ARG(jv_raw(it.value)));
}

static void arig_open(struct arig *r, const struct effect *fx)
{
    for (size_t i = 0; i < r->open_count; i++)
        assert(!op_path_eq(&r->open[i].op, &fx->op));
    assert(r->open_count < ARIG_OPEN);
    r->open[r->open_count++] = (struct arig_open){ fx->op, fx->kind };
}

static void arig_close_under(struct arig *r, struct op_path op)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->open_count; i++)
        if (!op_path_under(&r->open[i].op, &op))
            r->open[kept++] = r->open[i];
    r->open_count = kept;
}

static void arig_wait(struct arig *r, const struct effect *fx)
{
    static const char *const kinds[] = { "prompt", "ask", "tools", "approval" };
    buf_printf(&r->trace, "wait %s \"%.*s\" call=%.*s %.*s expires %llu", kinds[fx->wait.kind], SPAN_ARG(fx->wait.prompt),
               SPAN_ARG(fx->wait.call_name), SPAN_ARG(fx->wait.details), (unsigned long long)fx->wait.expires_us);
}

static void arig_end(struct arig *r, struct span output, struct span values)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    (void)arig_parse(output, &scratch);
    if (values.n)
        arig_check_messages(jv_get(arig_parse(values, &scratch), "messages"));
    assert(r->open_count == 0);
    r->output.len = r->values.len = 0;
    buf_span(&r->output, output);
    buf_span(&r->values, values);
}

static void arig_effect(struct arig *r, const struct effect *fx)
{
    static const char *const bys[] = { "server", "client", "local" };
    CLEANUP(arena_done) struct arena scratch = { 0 };

    assert(!r->finished && !r->failed);
    arig_path(&r->trace, &fx->op);
    BUF_LIT(&r->trace, " ");
    switch (fx->kind) {
    case FX_MODEL: arig_model(r, fx); break;
    case FX_TOOL:
        (void)arig_parse(fx->tool.arguments, &scratch);
        buf_printf(&r->trace, "tool %.*s %.*s by %s%s call=%.*s", SPAN_ARG(fx->tool.tool), SPAN_ARG(fx->tool.arguments),
                   bys[fx->tool.by], fx->tool.repeat_safe ? " repeat_safe" : "", SPAN_ARG(fx->tool.call_name));
        break;
    case FX_WAIT: arig_wait(r, fx); break;
    case FX_CHILD:
        buf_printf(&r->trace, "child %.*s %.*s", SPAN_ARG(fx->child.agent), SPAN_ARG(fx->child.input));
        break;
    case FX_ABORT:
        BUF_LIT(&r->trace, "abort");
        arig_close_under(r, fx->op);
        break;
    case FX_FINISH:
        buf_printf(&r->trace, "finish %.*s values %.*s", SPAN_ARG(fx->finish.output), SPAN_ARG(fx->finish.values));
        arig_end(r, fx->finish.output, fx->finish.values);
        r->finished = true;
        break;
    case FX_FAIL:
        buf_printf(&r->trace, "fail %.*s", SPAN_ARG(fx->fail.error));
        arig_end(r, fx->fail.error, SPAN_NONE);
        r->failed = true;
        break;
    default: assert(!"an effect that an inner machine does not have");
    }
    BUF_LIT(&r->trace, "\n");
    if (fx->kind == FX_MODEL || fx->kind == FX_TOOL || fx->kind == FX_WAIT || fx->kind == FX_CHILD)
        arig_open(r, fx);
}

/* A crash: saved, thrown away, loaded. Saving what was loaded gives the same text. */
__attribute__((unused)) static void arig_reload(struct arig *r)
{
    struct buf saved = { 0 }, again = { 0 };
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct arena *old = &r->arenas[r->life], *fresh = &r->arenas[r->life ^= 1];

    assert(agent_ops.save(r->m, &saved) == ERR_OK);
    (void)arig_parse(buf_view(&saved), &scratch);
    enum err err = agent_ops.load(&r->plan, buf_view(&saved), fresh, &r->m);
    if (err)
        fprintf(stderr, "cannot be loaded: %.*s\n", SPAN_ARG(buf_view(&saved)));
    assert(err == ERR_OK);
    arena_done(old);
    assert(agent_ops.save(r->m, &again) == ERR_OK);
    assert(span_eq(buf_view(&saved), buf_view(&again)));
    buf_done(&saved);
    buf_done(&again);
}

/* Steps; the value is copied to a place that vanishes, because inputs are valid during the step only. */
__attribute__((unused)) static size_t arig_input(struct arig *r, enum input_kind kind, struct op_path op, enum err err,
                                                 struct span value)
{
    char *copy = mem_dup(value.p ? value.p : "", value.n);
    struct input in = { .kind = kind,
                        .seq = ++r->seq,
                        .op = op,
                        .elapsed_us = r->elapsed_us,
                        .err = err,
                        .value = span_make(copy, value.n) };
    if (r->reloads)
        arig_reload(r);
    arena_reset(&r->effects_arena);
    r->fx.count = 0;
    if (kind == IN_START)
        r->finished = r->failed = false;
    assert(agent_ops.step(r->m, &in, &r->fx) == ERR_OK);
    memset(copy, '!', value.n);
    free(copy);
    for (size_t i = 0; i < r->fx.count; i++)
        arig_effect(r, &r->fx.items[i]);
    return r->fx.count;
}

/* Answers what is open at place i. A question is a tool call and a wait: either answer closes both. */
__attribute__((unused)) static void arig_answer_at(struct arig *r, size_t i, enum err err, struct span value)
{
    static const enum input_kind kinds[] = { [FX_MODEL] = IN_MODEL, [FX_TOOL] = IN_TOOL, [FX_WAIT] = IN_ANSWER, [FX_CHILD] = IN_CHILD };
    struct arig_open call = r->open[i];
    struct op_path parent = call.op;

    if (call.kind == FX_TOOL)
        arig_close_under(r, call.op);
    else
        memmove(&r->open[i], &r->open[i + 1], (--r->open_count - i) * sizeof r->open[0]);
    parent.n--;
    if (call.kind == FX_WAIT && call.op.v[call.op.n - 1] >> 28 == OP_WAIT)
        for (size_t k = 0; k < r->open_count; k++)
            if (op_path_eq(&r->open[k].op, &parent) && r->open[k].kind == FX_TOOL) {
                memmove(&r->open[k], &r->open[k + 1], (--r->open_count - k) * sizeof r->open[0]);
                break;
            }
    arig_input(r, kinds[call.kind], call.op, err, value);
}

/* The place of what is open under the path as text ("m0/t1"), or ARIG_OPEN. */
__attribute__((unused)) static size_t arig_find(struct arig *r, const char *path)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    for (size_t i = 0; i < r->open_count; i++) {
        text.len = 0;
        arig_path(&text, &r->open[i].op);
        if (span_is(buf_view(&text), path))
            return i;
    }
    return ARIG_OPEN;
}

__attribute__((unused)) static void arig_answer(struct arig *r, const char *path, enum err err, const char *value)
{
    size_t i = arig_find(r, path);
    if (i == ARIG_OPEN)
        fprintf(stderr, "nothing is open at %s:\n%.*s\n", path, SPAN_ARG(buf_view(&r->trace)));
    assert(i < ARIG_OPEN);
    arig_answer_at(r, i, err, span_of(value));
}

/* `definition` must be a good one. */
__attribute__((unused)) static void arig_begin(struct arig *r, const char *definition)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };

    *r = (struct arig){ .fx.arena = NULL };
    r->fx.arena = &r->effects_arena;
    enum err err = agent_ops.compile(arig_parse(span_of(definition), &scratch), &r->plan, &issues);
    for (size_t i = 0; i < issues.count && i < ISSUES_MAX; i++)
        fprintf(stderr, "%.*s %.*s: %.*s\n", SPAN_ARG(issues.items[i].pointer), SPAN_ARG(issues.items[i].code),
                SPAN_ARG(issues.items[i].message));
    assert(err == ERR_OK && issues.count == 0);
    assert(agent_ops.init(&r->plan, &r->arenas[0], &r->m) == ERR_OK);
}

__attribute__((unused)) static void arig_start(struct arig *r, const char *start)
{
    arig_input(r, IN_START, (struct op_path){ 0 }, ERR_OK, span_of(start));
}

__attribute__((unused)) static void arig_done(struct arig *r)
{
    arena_done(&r->plan.arena);
    arena_done(&r->arenas[0]);
    arena_done(&r->arenas[1]);
    arena_done(&r->effects_arena);
    free(r->fx.items);
    buf_done(&r->trace);
    buf_done(&r->rest);
    buf_done(&r->output);
    buf_done(&r->values);
}
