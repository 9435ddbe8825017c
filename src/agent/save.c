/* SPDX-License-Identifier: Apache-2.0 */
/* save.c - snapshots of the agent machine.
 *
 *     {"rev": 1, "life", "phase", "steps"?, "tool_steps"?, "repairs"?, "stopping"?: true, "clients"?: true, "client_waits"?,
 *      "usage"?: [8 numbers], "last"?: {"text"?, "finish_reason", "model"?, "response_id"?}, "values"?: {…}, "listed"?: {…},
 *      "messages": […], "queue"?: […], "output"?,
 *      "calls"?: [{"id", "name", "arguments"?, "state", "result"?, "failed"?: true, "inner"?: {…}}]}
 *
 * What is 0, false or empty is left out. Equal states have equal texts. Only what the definition does not say is there. */
#include "agent/state.h"
#include "machine/save.h"

const char *const agent_life_words[LIFE_COUNT] = {
    [LIFE_NEW] = "new", [LIFE_RUNNING] = "running", [LIFE_FINISHED] = "finished", [LIFE_FAILED] = "failed"
};
const char *const agent_phase_words[PHASE_COUNT] = { [PHASE_LIST] = "list", [PHASE_MODEL] = "model", [PHASE_TOOLS] = "tools" };
const char *const agent_call_words[CALL_STATE_COUNT] = {
    [CALL_DONE] = "done", [CALL_APPROVAL] = "approval", [CALL_TOOL] = "tool",
    [CALL_ASK] = "ask",   [CALL_INNER] = "inner",       [CALL_CHILD] = "child",
};

/* ---- save ---- */

static void put_text(struct jw *w, const char *name, struct span text)
{
    if (!text.n)
        return;
    jw_key(w, name);
    jw_str(w, text);
}

static void put_word(struct jw *w, const char *name, const char *word)
{
    jw_key(w, name);
    jw_cstr(w, word);
}

static void put_talk(struct jw *w, const char *name, const struct talk *talk)
{
    jw_key(w, name);
    jw_arr(w);
    for (uint32_t i = 0; i < talk->count; i++)
        jw_raw(w, talk->items[i]);
    jw_arr_end(w);
}

static void put_usage(struct jw *w, const struct usage *usage)
{
    if (!usage->known)
        return;
    jw_key(w, "usage");
    jw_arr(w);
    for (int i = 0; i < USE_COUNT; i++)
        jw_u64(w, usage->n[i]);
    jw_arr_end(w);
}

static void put_last(struct jw *w, const struct last *last)
{
    if (!last->finish_reason.n)
        return;
    jw_key(w, "last");
    jw_obj(w);
    save_json(w, "text", last->text);
    put_text(w, "finish_reason", last->finish_reason);
    put_text(w, "model", last->model);
    put_text(w, "response_id", last->response_id);
    jw_end(w);
}

static void put_machine(struct jw *w, const struct machine *m);

static void put_call(struct jw *w, const struct call *call)
{
    jw_obj(w);
    put_text(w, "id", call->id);
    put_text(w, "name", call->shown);
    save_json(w, "arguments", call->arguments);
    put_word(w, "state", agent_call_words[call->state]);
    save_json(w, "result", call->result);
    save_flag(w, "failed", call->failed);
    if (call->inner) {
        jw_key(w, "inner");
        put_machine(w, call->inner);
    }
    jw_end(w);
}

static void put_calls(struct jw *w, const struct machine *m)
{
    if (!m->call_count)
        return;
    jw_key(w, "calls");
    jw_arr(w);
    for (uint32_t j = 0; j < m->call_count; j++)
        put_call(w, &m->calls[j]);
    jw_arr_end(w);
}

static void put_machine(struct jw *w, const struct machine *m)
{
    jw_obj(w);
    jw_key(w, "rev");
    jw_u64(w, agent_ops.rev);
    put_word(w, "life", agent_life_words[m->life]);
    put_word(w, "phase", agent_phase_words[m->phase]);
    save_number(w, "steps", m->steps);
    save_number(w, "tool_steps", m->tool_steps);
    save_number(w, "repairs", m->repairs);
    save_flag(w, "stopping", m->stopping);
    save_flag(w, "clients", m->waits_clients);
    save_number(w, "client_waits", m->client_waits);
    put_usage(w, &m->usage);
    put_last(w, &m->last);
    if (!span_is(m->values, "{}"))
        save_json(w, "values", m->values);
    save_json(w, "listed", m->listed);
    put_talk(w, "messages", &m->messages);
    if (m->queue.count)
        put_talk(w, "queue", &m->queue);
    save_json(w, "output", m->output);
    put_calls(w, m);
    jw_end(w);
}

enum err agent_save(const struct machine *m, struct buf *out)
{
    struct jw w = jw_on(out);
    put_machine(&w, m);
    return ERR_OK;
}

/* ---- load ---- */

static struct span get_text(struct jv object, const char *name, struct arena *arena)
{
    struct span text = jv_string(jv_get(object, name), arena);
    return text.n ? arena_copy(arena, text) : SPAN_NONE;
}

static bool get_talk(struct jv object, const char *name, bool required, struct talk *talk, struct arena *arena)
{
    struct jv v = jv_get(object, name);
    if (!jv_is(v, JSON_ARRAY))
        return jv_is(v, JSON_NONE) && !required;
    for (struct jv_iter it = jv_iter(v); jv_step(&it);) {
        if (!jv_is(it.value, JSON_OBJECT))
            return false;
        agent_talk_add(talk, jv_raw(it.value), arena);
    }
    return true;
}

static bool get_usage(struct jv v, struct usage *usage)
{
    int64_t n;
    if (jv_is(v, JSON_NONE))
        return true;
    usage->known = true;
    for (int i = 0; i < USE_COUNT; i++) {
        if (!jv_i64(jv_at(v, (size_t)i), &n) || n < 0)
            return false;
        usage->n[i] = (uint64_t)n;
    }
    return jv_count(v) == USE_COUNT;
}

static bool load_machine(struct machine *m, struct jv root);

/* A call that is not done has what its state needs. */
static bool call_fits(const struct call *call)
{
    if (!call->id.n || !call->shown.n)
        return false;
    if (call->state == CALL_DONE)
        return call->result.n && call->result.p[0] == '"';
    if (!call->tool || !call->arguments.n)
        return false;
    enum tool_kind kind = call->tool->kind;
    switch (call->state) {
    case CALL_TOOL: return kind == KIND_SERVER || kind == KIND_CLIENT || kind == KIND_LOCAL;
    case CALL_ASK: return kind == KIND_ASK;
    case CALL_CHILD: return kind == KIND_CHILD;
    case CALL_INNER: return kind == KIND_AGENT && call->inner;
    default: return kind != KIND_ASK;
    }
}

static bool load_call(struct machine *m, struct jv v)
{
    struct call *call = &m->calls[m->call_count++];
    struct jv inner = jv_get(v, "inner");
    uint32_t state;

    if (!load_word(jv_get(v, "state"), agent_call_words, CALL_STATE_COUNT, &state))
        return false;
    *call = (struct call){
        .id = get_text(v, "id", m->arena),
        .shown = get_text(v, "name", m->arena),
        .arguments = load_json(v, "arguments", m->arena),
        .state = (enum call_state)state,
        .result = load_json(v, "result", m->arena),
        .failed = jv_bool(jv_get(v, "failed"), false),
    };
    call->tool = agent_tools_find(m, call->shown);
    m->pending += call->state != CALL_DONE;
    if (!jv_is(inner, JSON_NONE)) {
        if (call->state != CALL_INNER || !call->tool || call->tool->kind != KIND_AGENT)
            return false;
        call->inner = agent_machine(call->tool->agent, m->approval_us, m->arena);
        if (!load_machine(call->inner, inner))
            return false;
    }
    return call_fits(call);
}

static bool load_calls(struct machine *m, struct jv calls)
{
    size_t count = jv_is(calls, JSON_ARRAY) ? jv_count(calls) : 0;

    if ((m->phase == PHASE_TOOLS) != (count > 0) || count > AGENT_CALLS_MAX || (count > 0 && m->steps == 0))
        return false;
    m->calls = ARENA_ARRAY(m->arena, struct call, count + 1);
    for (struct jv_iter it = jv_iter(calls); count > 0 && jv_step(&it);)
        if (!load_call(m, it.value))
            return false;
    return (count == 0 || m->pending > 0) && (!m->waits_clients || m->client_waits > 0);
}

static void load_last(struct machine *m, struct jv v)
{
    m->last = (struct last){
        .text = load_json(v, "text", m->arena),
        .finish_reason = get_text(v, "finish_reason", m->arena),
        .model = get_text(v, "model", m->arena),
        .response_id = get_text(v, "response_id", m->arena),
    };
}

static bool load_machine(struct machine *m, struct jv root)
{
    uint32_t rev, life, phase;
    struct jv values = jv_get(root, "values");

    if (!load_u32(root, "rev", &rev) || rev != agent_ops.rev || !load_word(jv_get(root, "life"), agent_life_words, LIFE_COUNT, &life) ||
        !load_word(jv_get(root, "phase"), agent_phase_words, PHASE_COUNT, &phase) || !load_u32(root, "steps", &m->steps) ||
        !load_u32(root, "tool_steps", &m->tool_steps) || !load_u32(root, "repairs", &m->repairs) ||
        !load_u32(root, "client_waits", &m->client_waits) || !get_usage(jv_get(root, "usage"), &m->usage) ||
        !get_talk(root, "messages", true, &m->messages, m->arena) || !get_talk(root, "queue", false, &m->queue, m->arena))
        return false;
    m->life = (enum life)life;
    m->phase = (enum phase)phase;
    m->stopping = jv_bool(jv_get(root, "stopping"), false);
    m->waits_clients = jv_bool(jv_get(root, "clients"), false);
    if (jv_is(values, JSON_OBJECT))
        m->values = arena_copy(m->arena, jv_raw(values));
    m->listed = load_json(root, "listed", m->arena);
    m->output = load_json(root, "output", m->arena);
    load_last(m, jv_get(root, "last"));
    if (m->life == LIFE_FINISHED && !m->output.n)
        return false;
    if (m->phase != PHASE_LIST)
        agent_tools_resolve(m);
    return load_calls(m, jv_get(root, "calls"));
}

enum err agent_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct machine *m = agent_machine(plan->compiled, plan->human_timeout_us, arena);

    if (!load_machine(m, json_read(saved, &scratch)))
        return ERR_CORRUPT;
    *ret = m;
    return ERR_OK;
}
