/* SPDX-License-Identifier: Apache-2.0 */
/* call_agent.h - the simplest agent there can be, for tests of what holds agents: one model call with the messages it was given;
 * what is answered is its output as it stands, and what fails is its error. With a model called "ask" it asks a follower first. */
#pragma once
#include "machine/nest.h"

static enum err call_agent_open(struct plan *plan)
{
    plan->compiled = (void *)plan->json.p;
    return ERR_OK;
}

static enum err call_agent_compile(struct jv definition, struct plan *plan, struct issues *issues)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (jv_is(jv_get(definition, "refuse"), JSON_TRUE))
        issue_add(issues, SPAN("/refuse"), "refused", "is refused");
    json_canonical(definition, JSON_JCS, &text);
    plan->json = arena_copy(&plan->arena, buf_view(&text));
    return issues->count ? ERR_VALIDATION : ERR_OK;
}

struct call_agent {
    struct span model, input;
};

static enum err call_agent_init(const struct plan *plan, struct arena *arena, struct machine **ret)
{
    struct call_agent *agent = ARENA_NEW(arena, struct call_agent);
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct jv model = jv_get(jv_get(json_read(plan->json, &scratch), "model"), "model");
    agent->model = arena_copy(arena, jv_string(model, &scratch));
    *ret = (struct machine *)agent;
    return ERR_OK;
}

static struct op_path call_agent_op(enum op_part part)
{
    return op_sub((struct op_path){ 0 }, OP_PART(part, 0));
}

static void call_agent_ask(struct effects *out)
{
    struct effect *fx = effect_add(out, FX_TOOL, call_agent_op(OP_TOOL));
    fx->tool.call_name = fx->tool.tool = SPAN("look");
    fx->tool.arguments = SPAN("{}");
    fx->tool.by = TOOL_BY_CLIENT;
    effect_add(out, FX_WAIT, call_agent_op(OP_WAIT))->wait.kind = WAIT_TOOLS;
}

static enum err call_agent_step(struct machine *m, const struct input *in, struct effects *out)
{
    struct call_agent *agent = (struct call_agent *)m;
    if (in->kind == IN_START && span_is(agent->model, "ask")) {
        call_agent_ask(out);
    } else if (in->kind == IN_START || in->kind == IN_TOOL) {
        if (in->kind == IN_TOOL)
            effect_add(out, FX_ABORT, call_agent_op(OP_WAIT));
        struct effect *fx = effect_add(out, FX_MODEL, call_agent_op(OP_MODEL));
        fx->model.provider = SPAN("p");
        fx->model.model = agent->model;
        fx->model.request = in->kind == IN_TOOL
                                ? SPAN("{}")
                                : arena_copy(out->arena, jv_raw(jv_get(json_read(in->value, out->arena), "input")));
    } else if (in->err) {
        effect_add(out, FX_FAIL, (struct op_path){ 0 })->fail.error = arena_copy(out->arena, in->value);
    } else {
        effect_add(out, FX_FINISH, (struct op_path){ 0 })->finish.output = arena_copy(out->arena, in->value);
    }
    return ERR_OK;
}

static enum err call_agent_save(const struct machine *m, struct buf *out)
{
    BUF_LIT(out, "{}");
    return ERR_OK;
}

static enum err call_agent_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret)
{
    return call_agent_init(plan, arena, ret);
}

static const struct machine_ops call_agent_ops = {
    "agent", 1, call_agent_compile, call_agent_open, call_agent_init, call_agent_step, call_agent_save, call_agent_load
};
static const struct machine_ops *const call_agent_kinds[] = { &call_agent_ops, NULL };
