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

const char *const agent_life_words[LIFE_COUNT] = {
    [LIFE_NEW] = "new", [LIFE_RUNNING] = "running", [LIFE_FINISHED] = "finished", [LIFE_FAILED] = "failed"
};
const char *const agent_phase_words[PHASE_COUNT] = { [PHASE_LIST] = "list", [PHASE_MODEL] = "model", [PHASE_TOOLS] = "tools" };
const char *const agent_call_words[CALL_STATE_COUNT] = {
    [CALL_DONE] = "done", [CALL_APPROVAL] = "approval", [CALL_TOOL] = "tool",
    [CALL_ASK] = "ask",   [CALL_INNER] = "inner",       [CALL_CHILD] = "child",
};

/* ---- save ---- */

static void put_number(struct jw *w, const char *name, uint64_t n)
{
    if (n == 0)
        return;
    jw_key(w, name);
    jw_u64(w, n);
}

static void put_flag(struct jw *w, const char *name, bool flag)
{
    if (!flag)
        return;
    jw_key(w, name);
    jw_bool(w, true);
}

static void put_json(struct jw *w, const char *name, struct span json)
{
    if (!json.n)
        return;
    jw_key(w, name);
    jw_raw(w, json);
}

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
    put_json(w, "text", last->text);
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
    put_json(w, "arguments", call->arguments);
    put_word(w, "state", agent_call_words[call->state]);
    put_json(w, "result", call->result);
    put_flag(w, "failed", call->failed);
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
    put_number(w, "steps", m->steps);
    put_number(w, "tool_steps", m->tool_steps);
    put_number(w, "repairs", m->repairs);
    put_flag(w, "stopping", m->stopping);
    put_flag(w, "clients", m->waits_clients);
    put_number(w, "client_waits", m->client_waits);
    put_usage(w, &m->usage);
    put_last(w, &m->last);
    if (!span_is(m->values, "{}"))
        put_json(w, "values", m->values);
    put_json(w, "listed", m->listed);
    put_talk(w, "messages", &m->messages);
    if (m->queue.count)
        put_talk(w, "queue", &m->queue);
    put_json(w, "output", m->output);
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

static bool get_u32(struct jv object, const char *name, uint32_t *ret)
{
    struct jv v = jv_get(object, name);
    int64_t n = 0;
    if (!jv_is(v, JSON_NONE) && (!jv_i64(v, &n) || n < 0 || n > UINT32_MAX))
        return false;
    *ret = (uint32_t)n;
    return true;
}

static bool get_word(struct jv object, const char *name, const char *const *words, uint32_t count, uint32_t *ret)
{
    struct jv v = jv_get(object, name);
    for (*ret = 0; *ret < count; ++*ret)
        if (jv_str_eq(v, words[*ret]))
            return true;
    return false;
}

static struct span get_json(struct jv object, const char *name, struct arena *arena)
{
    struct jv v = jv_get(object, name);
    return jv_is(v, JSON_NONE) ? SPAN_NONE : arena_copy(arena, jv_raw(v));
}

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

    if (!get_word(v, "state", agent_call_words, CALL_STATE_COUNT, &state))
        return false;
    *call = (struct call){
        .id = get_text(v, "id", m->arena),
        .shown = get_text(v, "name", m->arena),
        .arguments = get_json(v, "arguments", m->arena),
        .state = (enum call_state)state,
        .result = get_json(v, "result", m->arena),
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
        .text = get_json(v, "text", m->arena),
        .finish_reason = get_text(v, "finish_reason", m->arena),
        .model = get_text(v, "model", m->arena),
        .response_id = get_text(v, "response_id", m->arena),
    };
}

static bool load_machine(struct machine *m, struct jv root)
{
    uint32_t rev, life, phase;
    struct jv values = jv_get(root, "values");

    if (!get_u32(root, "rev", &rev) || rev != agent_ops.rev || !get_word(root, "life", agent_life_words, LIFE_COUNT, &life) ||
        !get_word(root, "phase", agent_phase_words, PHASE_COUNT, &phase) || !get_u32(root, "steps", &m->steps) ||
        !get_u32(root, "tool_steps", &m->tool_steps) || !get_u32(root, "repairs", &m->repairs) ||
        !get_u32(root, "client_waits", &m->client_waits) || !get_usage(jv_get(root, "usage"), &m->usage) ||
        !get_talk(root, "messages", true, &m->messages, m->arena) || !get_talk(root, "queue", false, &m->queue, m->arena))
        return false;
    m->life = (enum life)life;
    m->phase = (enum phase)phase;
    m->stopping = jv_bool(jv_get(root, "stopping"), false);
    m->waits_clients = jv_bool(jv_get(root, "clients"), false);
    if (jv_is(values, JSON_OBJECT))
        m->values = arena_copy(m->arena, jv_raw(values));
    m->listed = get_json(root, "listed", m->arena);
    m->output = get_json(root, "output", m->arena);
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
