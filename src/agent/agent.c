/* SPDX-License-Identifier: Apache-2.0 */
/* agent.c - the steps of the agent machine (agent.h tells its paths and inputs). */
#include "agent/agent.h"
#include "agent/state.h"
#include "machine/nest.h"

struct machine *agent_machine(const struct agent *agent, uint64_t human_us, struct arena *arena)
{
    struct machine *m = ARENA_NEW(arena, struct machine);
    m->agent = agent;
    m->arena = arena;
    m->approval_us = agent->approval_us ? agent->approval_us : human_us;
    m->values = SPAN("{}");
    return m;
}

static enum err agent_init(const struct plan *plan, struct arena *arena, struct machine **ret)
{
    *ret = agent_machine(plan->compiled, plan->human_timeout_us, arena);
    return ERR_OK;
}

/* ---- paths ---- */

static struct op_path path_of(uint32_t part)
{
    return (struct op_path){ .n = 1, .v = { part } };
}

static struct op_path call_path(const struct machine *m, uint32_t j)
{
    return op_sub(path_of(OP_PART(OP_MODEL, m->steps - 1)), OP_PART(OP_TOOL, j));
}

static struct op_path call_wait_path(const struct machine *m, uint32_t j)
{
    return op_sub(call_path(m, j), OP_PART(OP_WAIT, 0));
}

static struct op_path clients_path(const struct machine *m)
{
    return op_sub(path_of(OP_PART(OP_MODEL, m->steps - 1)), OP_PART(OP_WAIT, m->client_waits - 1));
}

/* ---- small texts ---- */

static struct span quoted(struct span text, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    json_put_string(&out, text);
    return arena_copy(arena, buf_view(&out));
}

/* What a tool gave, as the content of a message: text as it is, anything else as JSON text. A JSON string. */
static struct span content_of(struct jv v, struct arena *arena)
{
    struct span text = jv_is(v, JSON_NONE) ? SPAN("null") : json_minified(v, arena);
    return jv_is(v, JSON_STRING) ? text : quoted(text, arena);
}

static struct span text_or(struct jv v, struct span def, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? text : def;
}

/* ---- the end ---- */

static void fail(struct turn *t, const struct fault *fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct machine *m = t->m;

    if (m->phase == PHASE_TOOLS && (m->pending > 0 || m->waits_clients))
        effect_add(t->out, FX_ABORT, (struct op_path){ 0 });
    m->waits_clients = false;
    m->life = LIFE_FAILED;
    fault_to_json(fault, SPAN_NONE, &text);
    effect_add(t->out, FX_FAIL, (struct op_path){ 0 })->fail.error = arena_copy(t->out->arena, buf_view(&text));
}

/* The error object that came with a failed call; what it does not say follows from the class. */
static void fail_as_told(struct turn *t)
{
    struct fault fault = fault_told(t->in->err, t->in->value, t->m->phase == PHASE_LIST ? "tool" : "model", t->out->arena);
    fail(t, &fault);
}

static void put_finish(struct turn *t)
{
    struct effect *fx = effect_add(t->out, FX_FINISH, (struct op_path){ 0 });
    fx->finish.output = t->m->output;
    fx->finish.values = agent_output_values(t->m, t->out->arena);
}

static void finish(struct turn *t, struct span structured)
{
    struct machine *m = t->m;
    m->life = LIFE_FINISHED;
    m->output = agent_output_make(m, structured, m->arena);
    put_finish(t);
}

/* Ends with what is there; a structured output only if what is there happens to be one. */
static void finish_early(struct turn *t, struct span reason)
{
    struct span structured = SPAN_NONE, wrong;
    t->m->last.finish_reason = reason;
    if (!jv_is(t->m->agent->schema, JSON_NONE))
        (void)agent_output_parse(t->m, t->out->arena, &structured, &wrong);
    finish(t, structured);
}

static void over_limit(struct turn *t, const char *code, const char *what, uint32_t most)
{
    if (t->m->agent->stops_at_limit) {
        finish_early(t, span_of(code));
        return;
    }
    fail(t, &(struct fault){
                .code = span_of(code),
                .category = SPAN("budget"),
                .message = arena_printf(t->out->arena, "%s: the limit is %u.", what, most),
                .source = SPAN("agent"),
            });
}

static void over_budget(struct turn *t)
{
    if (t->m->agent->fails_at_budget)
        fail(t, &(struct fault){ .code = SPAN("budget"),
                                 .category = SPAN("budget"),
                                 .message = SPAN("The budget of the run is used up."),
                                 .source = SPAN("runtime") });
    else
        finish_early(t, SPAN("budget"));
}

/* ---- model calls ---- */

static void steer(struct machine *m)
{
    for (uint32_t i = 0; i < m->queue.count; i++)
        agent_talk_add(&m->messages, m->queue.items[i], m->arena);
    m->queue.count = 0;
}

static void call_model(struct turn *t)
{
    struct machine *m = t->m;
    const struct agent *a = m->agent;

    steer(m);
    m->phase = PHASE_MODEL;
    if (m->steps >= a->max_steps) {
        over_limit(t, "tool_loop_limit", "The agent may not call its model again", a->max_steps);
        return;
    }
    struct effect *fx = effect_add(t->out, FX_MODEL, path_of(OP_PART(OP_MODEL, m->steps)));
    fx->model.provider = a->provider;
    fx->model.model = a->model;
    fx->model.request = agent_request_make(m, t->out->arena);
    fx->model.retry = a->retry;
    fx->model.stream = a->stream;
}

static void ask_list(struct turn *t)
{
    struct effect *fx = effect_add(t->out, FX_TOOL, path_of(OP_PART(OP_TOOL, 0)));
    fx->tool.tool = SPAN("tools.list");
    fx->tool.arguments = agent_tools_wanted(t->m->agent, t->out->arena);
    fx->tool.by = TOOL_BY_LOCAL;
    fx->tool.repeat_safe = true;
}

/* ---- tool calls ---- */

static void end_call(struct machine *m, struct call *call, struct span content, bool failed)
{
    call->result = arena_copy(m->arena, content);
    call->failed = failed;
    call->state = CALL_DONE;
    call->inner = NULL;
    m->pending--;
}

static void end_call_wrong(struct turn *t, struct call *call, struct span message)
{
    struct arena *arena = t->out->arena;
    end_call(t->m, call, quoted(arena_printf(arena, "Error: %.*s", SPAN_ARG(message)), arena), true);
}

static void put_tool(struct turn *t, uint32_t j)
{
    const struct call *call = &t->m->calls[j];
    struct effect *fx = effect_add(t->out, FX_TOOL, call_path(t->m, j));
    fx->tool.call_name = call->id;
    fx->tool.tool = call->tool->name;
    fx->tool.arguments = call->arguments;
    fx->tool.by = call->tool->kind == KIND_SERVER  ? TOOL_BY_SERVER
                  : call->tool->kind == KIND_LOCAL ? TOOL_BY_LOCAL
                                                   : TOOL_BY_CLIENT;
    fx->tool.repeat_safe = call->tool->repeat_safe;
}

/* {"input": text} of the usual parameters becomes a message; arguments of a schema of its own are passed on as they are. */
static struct span input_for(const struct call *call, struct arena *arena)
{
    struct jv input = jv_get(json_read(call->arguments, arena), "input");
    if (call->tool->wraps_input && jv_is(input, JSON_STRING))
        return arena_printf(arena, "{\"message\":%.*s}", SPAN_ARG(jv_raw(input)));
    return call->arguments;
}

static void step_inner(struct turn *t, uint32_t j, const struct input *in)
{
    struct machine *m = t->m;
    struct call *call = &m->calls[j];
    struct nest_result end;
    struct arena *arena = t->out->arena;

    (void)nest_step(&agent_ops, call->inner, in, call_path(m, j), SPAN_NONE, t->out, &end); /* agent_step cannot fail */
    if (end.end == NEST_RUNS)
        return;
    agent_usage_sum(&m->usage, &call->inner->usage);
    if (end.end == NEST_FINISHED)
        end_call(m, call, agent_output_for_caller(json_read(end.output, arena), arena), false);
    else
        end_call_wrong(t, call, text_or(jv_get(json_read(end.error, arena), "message"), SPAN("The agent failed."), arena));
}

static void start_inner(struct turn *t, uint32_t j)
{
    struct call *call = &t->m->calls[j];
    struct input in = *t->in;

    if (!call->inner)
        call->inner = agent_machine(call->tool->agent, t->m->approval_us, t->m->arena);
    in.kind = IN_START;
    in.err = ERR_OK;
    in.value = arena_printf(t->out->arena, "{\"input\":%.*s,\"values\":{}}", SPAN_ARG(input_for(call, t->out->arena)));
    step_inner(t, j, &in);
}

static void launch(struct turn *t, uint32_t j)
{
    struct call *call = &t->m->calls[j];
    struct effect *fx;

    switch (call->tool->kind) {
    case KIND_SERVER:
    case KIND_CLIENT:
    case KIND_LOCAL:
        call->state = CALL_TOOL;
        put_tool(t, j);
        break;
    case KIND_ASK:
        call->state = CALL_ASK;
        put_tool(t, j);
        break;
    case KIND_AGENT:
        call->state = CALL_INNER;
        start_inner(t, j);
        break;
    case KIND_CHILD:
        call->state = CALL_CHILD;
        fx = effect_add(t->out, FX_CHILD, op_sub(call_path(t->m, j), OP_PART(OP_CHILD, 0)));
        fx->child.agent = call->tool->agent_id;
        fx->child.input = input_for(call, t->out->arena);
        break;
    }
}

static bool is_client_call(const struct call *call)
{
    return call->state == CALL_TOOL && call->tool->kind == KIND_CLIENT;
}

static void put_ask(struct turn *t, uint32_t j)
{
    struct call *call = &t->m->calls[j];
    struct effect *fx = effect_add(t->out, FX_WAIT, call_wait_path(t->m, j));
    fx->wait.kind = WAIT_ASK;
    fx->wait.prompt = jv_string(jv_get(json_read(call->arguments, t->out->arena), "question"), t->out->arena);
    fx->wait.call_name = call->id;
    fx->wait.details = call->arguments;
    fx->wait.expires_us = t->in->elapsed_us + t->m->agent->wait_us;
}

static void put_approval(struct turn *t, uint32_t j)
{
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"approved\":{\"type\":\"boolean\"},"
                                 "\"reason\":{\"type\":\"string\"}},\"required\":[\"approved\"]}";
    struct call *call = &t->m->calls[j];
    struct arena *arena = t->out->arena;
    struct effect *fx = effect_add(t->out, FX_WAIT, call_wait_path(t->m, j));
    uint64_t ttl = t->m->approval_us;

    fx->wait.kind = WAIT_APPROVAL;
    fx->wait.prompt = arena_printf(arena, "May the agent call %.*s?", SPAN_ARG(call->tool->name));
    fx->wait.schema = span_of(schema);
    fx->wait.call_name = call->id;
    fx->wait.details = arena_printf(arena, "{\"tool\":%.*s,\"arguments\":%.*s}",
                                    SPAN_ARG(quoted(call->tool->name, arena)), SPAN_ARG(call->arguments));
    fx->wait.expires_us = ttl ? t->in->elapsed_us + ttl : 0;
}

/* Opens the wait of the step's client tools, or closes it. */
static void settle_clients(struct turn *t)
{
    struct machine *m = t->m;
    bool needed = false;

    for (uint32_t j = 0; j < m->call_count; j++)
        needed = needed || is_client_call(&m->calls[j]);
    if (needed && !m->waits_clients) {
        m->client_waits++;
        struct effect *fx = effect_add(t->out, FX_WAIT, clients_path(m));
        fx->wait.kind = WAIT_TOOLS;
        fx->wait.expires_us = t->in->elapsed_us + m->agent->wait_us;
    } else if (!needed && m->waits_clients) {
        effect_add(t->out, FX_ABORT, clients_path(m));
    }
    m->waits_clients = needed;
}

static void put_tool_message(struct machine *m, const struct call *call)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);

    jw_obj(&w);
    jw_key(&w, "role");
    jw_cstr(&w, "tool");
    jw_key(&w, "tool_call_id");
    jw_str(&w, call->id);
    jw_key(&w, "content");
    jw_raw(&w, call->result);
    if (call->failed) {
        jw_key(&w, "is_error");
        jw_bool(&w, true);
    }
    jw_end(&w);
    agent_talk_add(&m->messages, buf_view(&text), m->arena);
}

/* When all results are there they are told in the order of the calls, and the model has the word again. */
static void end_step(struct turn *t)
{
    struct machine *m = t->m;

    settle_clients(t);
    if (m->pending > 0)
        return;
    for (uint32_t j = 0; j < m->call_count; j++)
        put_tool_message(m, &m->calls[j]);
    m->call_count = 0;
    m->calls = NULL;
    m->client_waits = 0;
    m->tool_steps++;
    m->phase = PHASE_MODEL;
    if (m->stopping)
        over_budget(t);
    else
        call_model(t);
}

/* All that is not done: intents first, then what people are asked, then the wait for client tools (workflow-runs.md 3.6). */
static void run_calls(struct turn *t)
{
    struct machine *m = t->m;

    for (uint32_t j = 0; j < m->call_count; j++)
        if (m->calls[j].state != CALL_DONE && m->calls[j].state != CALL_APPROVAL)
            launch(t, j);
    for (uint32_t j = 0; j < m->call_count; j++) {
        if (m->calls[j].state == CALL_APPROVAL)
            put_approval(t, j);
        else if (m->calls[j].state == CALL_ASK)
            put_ask(t, j);
    }
    end_step(t);
}

/* ---- answers of the model ---- */

enum { CALL_ID_MAX = 128 };

static bool id_taken(const struct machine *m, struct span id)
{
    for (uint32_t j = 0; j < m->call_count; j++)
        if (span_eq(m->calls[j].id, id))
            return true;
    return false;
}

/* Results are matched by id, so ids must differ within an answer; a missing, repeated or absurd one is replaced. */
static struct span unique_id(const struct machine *m, struct jv given, struct arena *arena)
{
    struct span id = jv_string(given, arena);
    if (id.n > 0 && id.n <= CALL_ID_MAX && !id_taken(m, id))
        return arena_copy(arena, id);
    for (uint32_t n = m->call_count;; n++) {
        id = arena_printf(arena, "call_%u_%u", m->steps - 1, n);
        if (!id_taken(m, id))
            return id;
    }
}

static void read_call(struct turn *t, struct jv v, bool cut)
{
    struct machine *m = t->m;
    struct call *call = &m->calls[m->call_count];
    struct jv written = jv_get(v, "arguments");
    struct span text = jv_is(written, JSON_STRING) ? jv_string(written, t->out->arena)
                       : jv_is(written, JSON_OBJECT) ? jv_raw(written)
                                                     : SPAN_NONE;

    call->id = unique_id(m, jv_get(v, "id"), m->arena);
    call->shown = agent_shown(jv_string(jv_get(v, "name"), t->out->arena), m->arena);
    if (!call->shown.n)
        call->shown = SPAN("unnamed");
    call->tool = agent_tools_find(m, call->shown);
    m->call_count++;
    m->pending++;
    const char *wrong = agent_tools_check(call, text, cut, m->arena, t->out->arena);
    if (wrong)
        end_call_wrong(t, call, span_of(wrong));
    else
        call->state = call->tool->approval ? CALL_APPROVAL : CALL_TOOL;
}

static void read_calls(struct turn *t, struct jv calls)
{
    struct machine *m = t->m;
    m->calls = ARENA_ARRAY(m->arena, struct call, jv_count(calls));
    m->call_count = m->pending = 0;
    for (struct jv_iter it = jv_iter(calls); jv_step(&it);)
        read_call(t, it.value, span_is(m->last.finish_reason, "length"));
}

/* As the conversation remembers it. Calls that nobody answers may not stand there, so they are left out when the loop ends
 * before they ran. Arguments that are no JSON object are left out too: a provider may have to parse them. */
static void put_answer(struct machine *m, struct jv answer)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    struct jv said = jv_get(answer, "text"), state = jv_get(answer, "provider_state");
    bool silent = !jv_is(said, JSON_STRING) || jv_str_eq(said, "");

    if (silent && m->call_count == 0)
        return;
    jw_obj(&w);
    jw_key(&w, "role");
    jw_cstr(&w, "assistant");
    jw_key(&w, "content");
    jw_raw(&w, silent ? SPAN("\"\"") : jv_raw(said));
    if (m->call_count > 0) {
        jw_key(&w, "tool_calls");
        jw_arr(&w);
        for (uint32_t j = 0; j < m->call_count; j++) {
            jw_obj(&w);
            jw_key(&w, "id");
            jw_str(&w, m->calls[j].id);
            jw_key(&w, "name");
            jw_str(&w, m->calls[j].shown);
            jw_key(&w, "arguments");
            jw_str(&w, m->calls[j].arguments.n && m->calls[j].arguments.p[0] == '{' ? m->calls[j].arguments : SPAN("{}"));
            jw_end(&w);
        }
        jw_arr_end(&w);
    }
    if (!jv_is(state, JSON_NONE) && !jv_is(state, JSON_NULL)) {
        jw_key(&w, "provider_state");
        jw_raw(&w, jv_raw(state));
    }
    jw_end(&w);
    agent_talk_add(&m->messages, buf_view(&text), m->arena);
}

static void remember(struct machine *m, struct jv answer, bool calls)
{
    struct jv said = jv_get(answer, "text");
    struct span reason = jv_string(jv_get(answer, "finish_reason"), m->arena);

    if (jv_is(said, JSON_STRING) && (!calls || !jv_str_eq(said, "")))
        m->last.text = json_minified(said, m->arena);
    m->last.finish_reason = reason.n ? arena_copy(m->arena, reason) : calls ? SPAN("tool_calls") : SPAN("stop");
    m->last.model = arena_copy(m->arena, jv_string(jv_get(answer, "model"), m->arena));
    m->last.response_id = arena_copy(m->arena, jv_string(jv_get(answer, "response_id"), m->arena));
    agent_usage_add(&m->usage, jv_get(answer, "usage"));
}

/* The document did not fit: the model is told why and asked again, a bounded number of times. */
static void repair(struct turn *t, struct span wrong)
{
    struct machine *m = t->m;
    struct arena *arena = t->out->arena;
    bool cut = span_is(m->last.finish_reason, "length");
    bool again = m->repairs < m->agent->repairs && m->steps < m->agent->max_steps;
    struct span told = arena_printf(arena, "%.*s\nAnswer again with the corrected JSON document only.", SPAN_ARG(wrong));

    told = arena_printf(arena, "{\"role\":\"user\",\"content\":%.*s}", SPAN_ARG(quoted(told, arena)));
    agent_talk_add(&m->messages, told, m->arena);
    m->phase = PHASE_MODEL;
    m->repairs++;
    if (again) {
        call_model(t);
        return;
    }
    fail(t, &(struct fault){ .code = cut ? SPAN("truncated") : SPAN("invalid_output"),
                             .category = SPAN("model"),
                             .message = wrong,
                             .source = SPAN("agent"),
                             .retryable = true });
}

static void answered(struct turn *t)
{
    struct machine *m = t->m;
    struct span structured = SPAN_NONE, wrong;

    if (m->queue.count > 0 && m->steps < m->agent->max_steps)
        call_model(t);
    else if (!jv_is(m->agent->schema, JSON_NONE) && !agent_output_parse(m, t->out->arena, &structured, &wrong))
        repair(t, wrong);
    else
        finish(t, structured);
}

static void called(struct turn *t, struct jv answer, struct jv calls)
{
    struct machine *m = t->m;
    const struct agent *a = m->agent;

    if (jv_count(calls) > a->max_calls) {
        put_answer(m, answer);
        over_limit(t, "tool_calls_limit", "The model called too many tools at once", a->max_calls);
    } else if (m->steps >= a->max_steps || (a->max_tool_steps && m->tool_steps >= a->max_tool_steps)) {
        put_answer(m, answer);
        over_limit(t, "tool_loop_limit", "The model calls tools again and again",
                   m->steps >= a->max_steps ? a->max_steps : a->max_tool_steps);
    } else {
        read_calls(t, calls);
        put_answer(m, answer);
        m->phase = PHASE_TOOLS;
        run_calls(t);
    }
}

static void take_answer(struct turn *t)
{
    struct machine *m = t->m;
    struct jv answer = json_read(t->in->value, t->out->arena), calls = jv_get(answer, "tool_calls");

    if (t->in->err == ERR_BUDGET) {
        over_budget(t);
        return;
    }
    if (t->in->err) {
        fail_as_told(t);
        return;
    }
    if (!jv_is(answer, JSON_OBJECT)) {
        fail(t, &(struct fault){ .code = SPAN("invalid_answer"),
                                 .category = SPAN("model"),
                                 .message = SPAN("The answer of the model is not an object."),
                                 .source = SPAN("model"),
                                 .retryable = true });
        return;
    }
    bool has_calls = jv_is(calls, JSON_ARRAY) && jv_count(calls) > 0;
    m->steps++;
    remember(m, answer, has_calls);
    if (has_calls) {
        called(t, answer, calls);
    } else {
        put_answer(m, answer);
        answered(t);
    }
}

/* ---- answers of tools and people ---- */

static void wait_expired(struct turn *t)
{
    fail(t, &(struct fault){
                .code = SPAN("tool_wait_expired"),
                .category = SPAN("tool"),
                .message = arena_printf(t->out->arena, "no tool results within %llu ms",
                                        (unsigned long long)(t->m->agent->wait_us / 1000)),
                .source = SPAN("tool"),
            });
}

static struct span told_error(struct turn *t, struct jv error)
{
    struct span title = span_of(err_info(t->in->err)->title);
    if (jv_is(error, JSON_STRING))
        return text_or(error, title, t->out->arena);
    return text_or(jv_get(error, "message"), title, t->out->arena);
}

static void take_result(struct turn *t, struct call *call)
{
    struct jv value = json_read(t->in->value, t->out->arena);

    t->m->stopping = t->m->stopping || t->in->err == ERR_BUDGET;
    if (t->in->err)
        end_call_wrong(t, call, told_error(t, value));
    else
        end_call(t->m, call, content_of(value, t->out->arena), false);
}

static void take_child(struct turn *t, struct call *call)
{
    struct jv value = json_read(t->in->value, t->out->arena);

    if (t->in->err == ERR_OK && jv_str_eq(jv_get(value, "status"), "completed"))
        end_call(t->m, call, agent_output_for_caller(jv_get(value, "output"), t->out->arena), false);
    else
        end_call_wrong(t, call, text_or(jv_get(jv_get(value, "error"), "message"), SPAN("The run of the agent failed."),
                                        t->out->arena));
}

static void take_approval(struct turn *t, uint32_t j)
{
    struct call *call = &t->m->calls[j];
    struct arena *arena = t->out->arena;
    struct jv value = json_read(t->in->value, arena);
    struct span reason = jv_string(jv_get(value, "reason"), arena);

    if (t->in->err == ERR_OK && (jv_is(value, JSON_TRUE) || jv_bool(jv_get(value, "approved"), false)))
        launch(t, j);
    else if (t->in->err)
        end_call_wrong(t, call, t->in->err == ERR_EXPIRED ? SPAN("Nobody approved the call in time.")
                                                          : told_error(t, value));
    else if (reason.n)
        end_call_wrong(t, call, arena_printf(arena, "The call was rejected: %.*s", SPAN_ARG(reason)));
    else
        end_call_wrong(t, call, SPAN("The call was rejected."));
}

/* A plain text is what a person typed. */
static void take_reply(struct turn *t, struct call *call)
{
    struct arena *arena = t->out->arena;
    struct jv value = json_read(t->in->value, arena);

    if (t->in->err)
        end_call_wrong(t, call, told_error(t, value));
    else if (jv_is(value, JSON_STRING))
        end_call(t->m, call,
                 quoted(arena_printf(arena, "{\"answer\":%.*s,\"is_freeform\":true}", SPAN_ARG(json_minified(value, arena))), arena),
                 false);
    else
        end_call(t->m, call, content_of(value, arena), false);
}

/* What reaches call j: `rest` is the number of parts behind its path. true when the call was waiting for it. */
static bool take_for_call(struct turn *t, uint32_t j, unsigned rest)
{
    struct call *call = &t->m->calls[j];
    const struct input *in = t->in;
    bool waits = in->kind == IN_ANSWER && rest == 1 && in->op.v[2] == OP_PART(OP_WAIT, 0);

    switch (call->state) {
    case CALL_APPROVAL:
        if (waits)
            take_approval(t, j);
        return waits;
    case CALL_ASK:
        if (waits && in->err != ERR_EXPIRED)
            take_reply(t, call);
        else if (in->kind == IN_TOOL && rest == 0 && in->err != ERR_EXPIRED)
            take_result(t, call);
        else if (in->err == ERR_EXPIRED && (waits || rest == 0))
            wait_expired(t);
        else
            return false;
        return true;
    case CALL_TOOL:
        if (in->kind != IN_TOOL || rest != 0)
            return false;
        if (is_client_call(call) && in->err == ERR_EXPIRED)
            wait_expired(t);
        else
            take_result(t, call);
        return true;
    case CALL_CHILD:
        if (in->kind != IN_CHILD || rest != 1 || in->op.v[2] != OP_PART(OP_CHILD, 0))
            return false;
        take_child(t, call);
        return true;
    case CALL_INNER:
        if (rest == 0)
            return false;
        step_inner(t, j, in);
        return true;
    case CALL_DONE:
    case CALL_STATE_COUNT: break;
    }
    return false;
}

static void take_in_step(struct turn *t)
{
    struct machine *m = t->m;
    const struct op_path *op = &t->in->op;

    if (op->n < 2 || op->v[0] != OP_PART(OP_MODEL, m->steps - 1))
        return;
    uint32_t kind = op->v[1] >> 28, number = op->v[1] & 0x0fffffff;
    if (kind == OP_WAIT && m->waits_clients && op->n == 2 && number == m->client_waits - 1 && t->in->kind == IN_ANSWER &&
        t->in->err == ERR_EXPIRED)
        wait_expired(t);
    else if (kind == OP_TOOL && number < m->call_count && take_for_call(t, number, op->n - 2u) && m->life == LIFE_RUNNING)
        end_step(t);
}

static void take_list(struct turn *t)
{
    struct machine *m = t->m;

    if (t->in->err == ERR_BUDGET) {
        over_budget(t);
    } else if (t->in->err) {
        fail_as_told(t);
    } else {
        struct jv listed = json_read(t->in->value, t->out->arena);
        m->listed = jv_is(listed, JSON_OBJECT) ? json_minified(listed, m->arena) : SPAN("{}");
        agent_tools_resolve(m);
        call_model(t);
    }
}

/* ---- start ---- */

static void take_values(struct machine *m, struct jv values, struct arena *turn)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    struct talk past = { 0 };
    const char *why;

    if (!m->agent->memory || !jv_is(values, JSON_OBJECT))
        return;
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(values); jv_step(&it);)
        if (!jv_str_eq(it.name, "messages")) {
            jw_key_span(&w, jv_string(it.name, turn));
            jw_raw(&w, json_minified(it.value, turn));
        }
    jw_end(&w);
    m->values = arena_copy(m->arena, buf_view(&text));
    /* What others left there is no conversation: begin a new one. */
    if (!jv_is(jv_get(values, "messages"), JSON_ARRAY) || !agent_talk_add_input(&past, values, turn, &why))
        return;
    uint32_t from = agent_talk_trim(past.items, past.count, m->agent->max_messages, m->agent->max_chars);
    for (uint32_t i = from; i < past.count; i++)
        agent_talk_add(&m->messages, past.items[i], m->arena);
}

static void begin(struct turn *t)
{
    struct machine *m = t->m;
    struct jv start = json_read(t->in->value, t->out->arena);
    const char *why = NULL;

    m->messages.count = 0;
    take_values(m, jv_get(start, "values"), t->out->arena);
    if (!agent_talk_add_input(&m->messages, jv_get(start, "input"), m->arena, &why)) {
        fail(t, &(struct fault){ .code = SPAN("invalid_input"),
                                 .category = SPAN("validation"),
                                 .message = arena_printf(t->out->arena, "The input is not usable: %s.", why),
                                 .source = SPAN("agent") });
        m->life = LIFE_NEW; /* another attempt reads its input again */
        return;
    }
    m->life = LIFE_RUNNING;
    if (m->agent->lists) {
        ask_list(t);
        return;
    }
    agent_tools_resolve(m);
    call_model(t);
}

/* A new attempt: on from here. */
static void begin_again(struct turn *t)
{
    struct machine *m = t->m;
    m->life = LIFE_RUNNING;
    m->waits_clients = false;
    m->repairs = 0;
    if (m->phase == PHASE_LIST)
        ask_list(t);
    else if (m->phase == PHASE_MODEL)
        call_model(t);
    else
        run_calls(t);
}

static void start(struct turn *t)
{
    switch (t->m->life) {
    case LIFE_NEW: begin(t); break;
    case LIFE_FINISHED: put_finish(t); break;
    case LIFE_RUNNING:
    case LIFE_FAILED: begin_again(t); break;
    case LIFE_COUNT: break;
    }
}

/* Steering that cannot be read is dropped: there is nobody to tell. */
static void take_message(struct turn *t)
{
    struct machine *m = t->m;
    uint32_t before = m->queue.count;
    const char *why;
    if (!agent_talk_add_input(&m->queue, json_read(t->in->value, t->out->arena), m->arena, &why))
        m->queue.count = before;
}

static bool is_path(const struct input *in, enum input_kind kind, uint32_t part)
{
    return in->kind == kind && in->op.n == 1 && in->op.v[0] == part;
}

static enum err agent_step(struct machine *m, const struct input *in, struct effects *out)
{
    struct turn t = { m, in, out };

    if (in->kind == IN_START)
        start(&t);
    else if (m->life != LIFE_RUNNING)
        return ERR_OK;
    else if (in->kind == IN_MESSAGE)
        take_message(&t);
    else if (m->phase == PHASE_LIST && is_path(in, IN_TOOL, OP_PART(OP_TOOL, 0)))
        take_list(&t);
    else if (m->phase == PHASE_MODEL && is_path(in, IN_MODEL, OP_PART(OP_MODEL, m->steps)))
        take_answer(&t);
    else if (m->phase == PHASE_TOOLS)
        take_in_step(&t);
    return ERR_OK;
}

const struct machine_ops agent_ops = {
    .kind = "agent",
    .rev = 1,
    .compile = agent_compile,
    .open = agent_open,
    .init = agent_init,
    .step = agent_step,
    .save = agent_save,
    .load = agent_load,
};
