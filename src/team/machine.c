/* SPDX-License-Identifier: Apache-2.0 */
/* machine.c - the steps of a team: phases of turns, commits in agent order, stop checks between them (teams.md 7, 8, 10.4).
 *
 * The protocols differ in which turns a phase has and in texts; everything else is here. */
#include "base/ids.h"
#include "team/answer.h"
#include "team/decision.h"
#include "team/state.h"
#include "team/validate.h"

/* What one step works with. */
struct step {
    struct machine     *m;
    const struct team  *team;
    const struct input *in;
    struct effects     *out;
};

/* ---- paths, time, texts ---- */

static const struct op_path own = { 0 };

static struct op_path call_path(uint32_t call)
{
    return op_sub(own, OP_PART(OP_MODEL, call));
}

static double elapsed_ms(const struct step *s)
{
    uint64_t from = s->m->start_us, now = s->in->elapsed_us;
    return now > from ? (double)(now - from) / 1000 : 0;
}

/* A text that must live until the next step. */
static struct span kept(struct step *s, const struct buf *text)
{
    return arena_copy(s->out->arena, buf_view(text));
}

static const struct team_agent *agent_of(const struct step *s, const struct team_phase *phase, uint32_t k)
{
    return &s->team->agents[phase->first + k];
}

static struct team_phase phase_now(const struct machine *m)
{
    struct team_phase phase = { 0 };
    team_protocol_of(m->team)->phase(m->team, m->phase, &phase);
    return phase;
}

static void emit(struct step *s, const char *name, const struct buf *value)
{
    struct effect *fx = effect_add(s->out, FX_EMIT, own);
    fx->emit.name = span_of(name);
    fx->emit.value = kept(s, value);
}

static void put_agent(struct jw *w, const struct team_agent *agent)
{
    jw_key(w, "agentId"), jw_str(w, agent->id);
    jw_key(w, "role"), jw_str(w, agent->role);
}

/* ---- ends ---- */

static void clear_limit(struct step *s)
{
    if (s->team->has_limit)
        effect_add(s->out, FX_TIMER, op_sub(own, OP_PART(OP_TIMER, 0)))->timer.clear = true;
}

static void fail(struct step *s, struct span error)
{
    s->m->life = TEAM_FAILED; /* what the phase has so far stays, for a new attempt */
    effect_add(s->out, FX_ABORT, own);
    clear_limit(s);
    effect_add(s->out, FX_FAIL, own)->fail.error = arena_copy(s->out->arena, error);
}

static void fail_timeout(struct step *s)
{
    CLEANUP(buf_done) struct buf error = { 0 }, message = { 0 };
    struct jw w = jw_on(&error);
    BUF_LIT(&message, "The operation timed out after ");
    json_put_f64(&message, s->team->limit_ms);
    BUF_LIT(&message, "ms.");
    jw_obj(&w);
    jw_key(&w, "name"), jw_cstr(&w, "DogpileError");
    jw_key(&w, "code"), jw_cstr(&w, "timeout");
    jw_key(&w, "category"), jw_cstr(&w, "timeout");
    jw_key(&w, "message"), jw_str(&w, buf_view(&message));
    jw_key(&w, "retryable"), jw_bool(&w, true);
    jw_key(&w, "source"), jw_cstr(&w, "agent");
    jw_key(&w, "providerId"), jw_str(&w, s->team->provider_id);
    jw_key(&w, "detail"), jw_obj(&w);
    jw_key(&w, "timeoutMs"), jw_f64(&w, s->team->limit_ms);
    jw_end(&w), jw_end(&w);
    fail(s, buf_view(&error));
}

static void put_output(const struct machine *m, struct jw *w)
{
    CLEANUP(buf_done) struct buf output = { 0 };
    team_protocol_of(m->team)->output(m, &output);
    jw_key(w, "output"), jw_str(w, buf_view(&output));
}

static void put_evaluation(struct jw *w, struct jv evaluation)
{
    if (jv_kind(evaluation) == JSON_NONE)
        return;
    jw_key(w, "evaluation"), jw_raw(w, jv_raw(evaluation));
    if (jv_kind(jv_get(evaluation, "quality")) != JSON_NONE)
        jw_key(w, "quality"), jw_raw(w, jv_raw(jv_get(evaluation, "quality")));
}

static void put_result(const struct machine *m, struct jw *w, struct jv evaluation)
{
    jw_key(w, "cost"), team_cost_to_json(&m->cost, w);
    put_evaluation(w, evaluation);
    put_output(m, w);
    if (m->stopped.n)
        jw_key(w, "termination"), jw_raw(w, m->stopped);
}

static void finish(struct step *s, struct jv evaluation)
{
    CLEANUP(buf_done) struct buf event = { 0 }, result = { 0 };
    struct machine *m = s->m;
    struct jw       w = jw_on(&event), r = jw_on(&result);
    jw_obj(&w);
    put_result(m, &w, evaluation);
    jw_key(&w, "transcript"), jw_obj(&w);
    jw_key(&w, "entryCount"), jw_u64(&w, m->entry_count);
    jw_key(&w, "kind"), jw_cstr(&w, "trace-transcript");
    jw_key(&w, "lastEntryIndex");
    if (m->entry_count)
        jw_u64(&w, m->entry_count - 1);
    else
        jw_null(&w);
    jw_end(&w), jw_end(&w);
    emit(s, "team.final", &event);
    jw_obj(&r);
    put_result(m, &r, evaluation);
    jw_end(&r);
    m->life = TEAM_FINISHED;
    m->result = team_canonical_text(buf_view(&result), m->arena);
    clear_limit(s);
    effect_add(s->out, FX_FINISH, own)->finish.output = m->result;
}

/* The evaluator sees the result so far (teams.md 5.4); it is asked before team.final is recorded, so that is written once. */
static void evaluate(struct step *s)
{
    CLEANUP(buf_done) struct buf arguments = { 0 };
    struct machine *m = s->m;
    struct jw       w = jw_on(&arguments);
    jw_obj(&w);
    put_result(m, &w, (struct jv){ 0 });
    jw_key(&w, "transcript"), jw_arr(&w);
    for (uint32_t i = 0; i < m->entry_count; i++) {
        jw_obj(&w);
        put_agent(&w, &s->team->agents[m->entries[i].agent]);
        jw_key(&w, "output"), jw_str(&w, m->entries[i].output);
        jw_end(&w);
    }
    jw_arr_end(&w);
    jw_key(&w, "options"), jw_raw(&w, jv_raw(s->team->evaluate_options));
    jw_end(&w);
    m->life = TEAM_EVALUATING;
    struct effect *fx = effect_add(s->out, FX_TOOL, op_sub(own, OP_PART(OP_TOOL, 0)));
    fx->tool.tool = s->team->evaluate;
    fx->tool.arguments = kept(s, &arguments);
    fx->tool.by = TOOL_BY_SERVER;
}

static void end(struct step *s)
{
    if (s->team->evaluate.n)
        evaluate(s);
    else
        finish(s, (struct jv){ 0 });
}

/* ---- stop checks ---- */

static struct span entry_output(const void *user, size_t index)
{
    const struct machine *m = user;
    return m->entries[index].output;
}

static void emit_budget_stop(struct step *s, const struct team_verdict *verdict)
{
    CLEANUP(buf_done) struct buf event = { 0 };
    struct jw w = jw_on(&event);
    jw_obj(&w);
    jw_key(&w, "cost"), team_cost_to_json(&s->m->cost, &w);
    jw_key(&w, "detail"), jw_raw(&w, verdict->detail);
    jw_key(&w, "elapsedMs"), jw_f64(&w, elapsed_ms(s));
    jw_key(&w, "iteration"), jw_u64(&w, s->m->entry_count);
    jw_key(&w, "reason"), jw_cstr(&w, verdict->budget_reason);
    jw_end(&w);
    emit(s, "team.budget-stop", &event);
}

/* true: no further turn starts (teams.md 10.4). */
static bool stops(struct step *s)
{
    struct machine    *m = s->m;
    const struct team *team = s->team;
    if (m->stopped.n || jv_kind(team->terminate) == JSON_NONE)
        return m->stopped.n > 0;
    bool                broadcast = team->protocol == TEAM_BROADCAST;
    struct team_context context = { .protocol = span_of(team_protocol_names[team->protocol]),
                                    .cost = m->cost,
                                    .iteration = m->entry_count,
                                    .elapsed_ms = elapsed_ms(s),
                                    .floor = team->floor,
                                    .progress = broadcast ? m->phase : m->entry_count,
                                    .entries = m->entry_count,
                                    .output = entry_output,
                                    .user = m };
    struct team_verdict verdict;
    struct span         record;
    if (!team_stop(team->terminate, &context, s->out->arena, &verdict, &record))
        return false;
    m->stopped = team_canonical_text(record, m->arena);
    if (verdict.budget_reason)
        emit_budget_stop(s, &verdict);
    return true;
}

/* ---- model calls ---- */

static void put_message(struct jw *w, const char *role, struct span content)
{
    jw_obj(w);
    jw_key(w, "role"), jw_cstr(w, role);
    jw_key(w, "content"), jw_str(w, content);
    jw_end(w);
}

static void put_messages(struct step *s, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    CLEANUP(buf_done) struct buf system = { 0 };
    const struct team_turn *turn = &s->m->turns[k];
    team_protocol_of(s->team)->system(s->m, phase, k, &system);
    jw_arr(w);
    put_message(w, "system", buf_view(&system));
    if (turn->hinted)
        put_message(w, "system", turn->hint);
    put_message(w, "user", turn->input);
    jw_arr_end(w);
}

static void put_metadata(struct step *s, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    const struct team_protocol_ops *protocol = team_protocol_of(s->team);
    jw_obj(w);
    jw_key(w, "protocol"), jw_cstr(w, team_protocol_names[s->team->protocol]);
    put_agent(w, agent_of(s, phase, k));
    if (protocol->metadata_head)
        protocol->metadata_head(s->m, w);
    jw_key(w, "tier"), jw_str(w, s->team->tier);
    protocol->metadata(s->m, phase, k, w);
    if (s->team->tools_json.n)
        jw_key(w, "tools"), jw_raw(w, s->team->tools_json);
    jw_end(w);
}

/* The tools once more, in the form that providers translate (model.h). */
static void put_neutral_tools(struct step *s, struct jw *w)
{
    struct jv tools = json_read(s->team->tools_json, s->out->arena);
    jw_key(w, "tools"), jw_arr(w);
    for (struct jv_iter it = jv_iter(tools); jv_step(&it);) {
        struct jv identity = jv_get(it.value, "identity"), schema = jv_get(it.value, "inputSchema");
        struct jv description = jv_get(identity, "description");
        jw_obj(w);
        jw_key(w, "name"), jw_raw(w, jv_raw(jv_get(identity, "name")));
        if (jv_is(description, JSON_STRING))
            jw_key(w, "description"), jw_raw(w, jv_raw(description));
        jw_key(w, "parameters"), jw_raw(w, jv_raw(jv_get(schema, "schema")));
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_if(struct jw *w, const char *name, struct span json)
{
    if (json.n)
        jw_key(w, name), jw_raw(w, json);
}

/* The contract's request without its braces and its runId (teams.md 2.6). */
static void put_request(struct step *s, const struct team_phase *phase, uint32_t k, struct jw *w)
{
    jw_key(w, "messages"), put_messages(s, phase, k, w);
    jw_key(w, "temperature"), jw_f64(w, s->team->temperature);
    jw_key(w, "metadata"), put_metadata(s, phase, k, w);
}

/* What the scripted model is to do in that call; behind the end of the list its last one. */
static struct jv script_of_call(const struct team *team, uint32_t call)
{
    size_t count = jv_count(team->script);
    return jv_is(team->script, JSON_ARRAY) ? jv_at(team->script, call < count ? call : count - 1) : team->script;
}

static struct span request_text(struct step *s, const struct team_phase *phase, uint32_t k)
{
    CLEANUP(buf_done) struct buf request = { 0 };
    struct jw w = jw_on(&request);
    jw_obj(&w);
    put_request(s, phase, k, &w);
    if (s->team->tools_json.n)
        put_neutral_tools(s, &w);
    put_if(&w, "max_tokens", s->team->max_tokens);
    if (jv_kind(s->team->script) != JSON_NONE)
        jw_key(&w, "script"), jw_raw(&w, jv_raw(script_of_call(s->team, s->m->first_call + k)));
    jw_end(&w);
    return kept(s, &request);
}

/* All that a trace wants to know of the call: it is recorded with the intent, so that no trace needs the machine again. */
static struct span labels_text(struct step *s, const struct team_phase *phase, uint32_t k)
{
    CLEANUP(buf_done) struct buf labels = { 0 };
    struct jw w = jw_on(&labels);
    jw_obj(&w);
    jw_key(&w, "agent_id"), jw_str(&w, agent_of(s, phase, k)->id);
    jw_key(&w, "role"), jw_str(&w, agent_of(s, phase, k)->role);
    jw_key(&w, "call"), jw_u64(&w, s->m->first_call + k);
    jw_key(&w, "request"), jw_obj(&w), put_request(s, phase, k, &w), jw_end(&w);
    jw_end(&w);
    return kept(s, &labels);
}

static void ask_model(struct step *s, const struct team_phase *phase, uint32_t k)
{
    struct effect *fx = effect_add(s->out, FX_MODEL, call_path(s->m->first_call + k));
    fx->model.provider = s->team->provider;
    fx->model.model = s->team->model;
    fx->model.retry = s->team->retry;
    fx->model.stream = s->team->stream;
    fx->model.labels = labels_text(s, phase, k);
    fx->model.request = request_text(s, phase, k);
}

/* The first turn, in agent order, for which the hint fires gets it, once per run (teams.md 10.7). */
static void give_hint(struct step *s, uint32_t k)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct machine    *m = s->m;
    const struct team *team = s->team;
    double             iteration = m->entry_count + (team->protocol == TEAM_COORDINATOR ? k : 0);
    if (m->hinted || jv_kind(team->hint) == JSON_NONE || !team_hint_fires(team->hint, &team->effective, iteration, elapsed_ms(s)))
        return;
    team_hint_text(team->hint, &team->effective, iteration, elapsed_ms(s), &text);
    m->hinted = m->turns[k].hinted = true;
    m->turns[k].hint = arena_copy(m->arena, buf_view(&text));
}

static void start_phase(struct step *s, const struct team_phase *phase)
{
    struct machine *m = s->m;
    m->turns = ARENA_ARRAY(m->arena, struct team_turn, phase->count);
    m->turn_count = phase->count;
    for (uint32_t k = 0; k < phase->count; k++) {
        CLEANUP(buf_done) struct buf input = { 0 };
        team_protocol_of(s->team)->user(m, phase, k, &input);
        m->turns[k].input = arena_copy(m->arena, buf_view(&input));
        give_hint(s, k);
        ask_model(s, phase, k);
    }
}

static void advance(struct step *s)
{
    struct team_phase phase;
    if (!team_protocol_of(s->team)->phase(s->team, s->m->phase, &phase) || stops(s))
        end(s);
    else
        start_phase(s, &phase);
}

/* ---- commit ---- */

static void emit_turn(struct step *s, const struct team_agent *agent, const struct team_turn *turn, struct span output,
                      const struct team_decision *decision)
{
    CLEANUP(buf_done) struct buf event = { 0 };
    struct jw w = jw_on(&event);
    jw_obj(&w);
    jw_key(&w, "agentId"), jw_str(&w, agent->id);
    jw_key(&w, "cost"), team_cost_to_json(&s->m->cost, &w);
    if (decision)
        jw_key(&w, "decision"), team_decision_to_json(decision, &w);
    jw_key(&w, "input"), jw_str(&w, turn->input);
    jw_key(&w, "output"), jw_str(&w, output);
    jw_key(&w, "role"), jw_str(&w, agent->role);
    jw_end(&w);
    emit(s, "team.agent-turn", &event);
}

static void add_cost(struct team_cost *cost, struct jv answer)
{
    struct team_cost own_cost;
    team_cost_read(jv_get(answer, "usage"), &own_cost);
    own_cost.usd = 0;
    jv_f64(jv_get(answer, "costUsd"), &own_cost.usd);
    cost->usd += own_cost.usd;
    cost->input_tokens += own_cost.input_tokens;
    cost->output_tokens += own_cost.output_tokens;
    cost->total_tokens += own_cost.total_tokens;
}

static void commit_turn(struct step *s, const struct team_phase *phase, uint32_t k, struct jw *contributions)
{
    const struct team_turn  *turn = &s->m->turns[k];
    const struct team_agent *agent = agent_of(s, phase, k);
    struct jv                answer = json_read(turn->answer, s->out->arena);
    struct span              output = jv_string(jv_get(answer, "text"), s->out->arena);
    struct team_decision     decision = { 0 };
    bool                     decided = team_decision_parse(output, &decision);
    add_cost(&s->m->cost, answer);
    team_entry_add(s->m, (struct team_entry){ phase->first + k, decided && decision.abstains, arena_copy(s->m->arena, output) });
    emit_turn(s, agent, turn, output, decided ? &decision : NULL);
    jw_obj(contributions);
    jw_key(contributions, "agentId"), jw_str(contributions, agent->id);
    if (decided)
        jw_key(contributions, "decision"), team_decision_to_json(&decision, contributions);
    jw_key(contributions, "output"), jw_str(contributions, output);
    jw_key(contributions, "role"), jw_str(contributions, agent->role);
    jw_end(contributions);
}

static void emit_broadcast(struct step *s, const struct team_phase *phase, struct span contributions)
{
    CLEANUP(buf_done) struct buf event = { 0 };
    struct jw w = jw_on(&event);
    jw_obj(&w);
    jw_key(&w, "contributions"), jw_raw(&w, contributions);
    jw_key(&w, "cost"), team_cost_to_json(&s->m->cost, &w);
    jw_key(&w, "round"), jw_u64(&w, phase->round);
    jw_end(&w);
    emit(s, "team.broadcast", &event);
}

/* All turns of the phase are done: their costs, entries and events in agent order, then the check. */
static void commit_phase(struct step *s)
{
    CLEANUP(buf_done) struct buf contributions = { 0 };
    struct machine   *m = s->m;
    struct team_phase phase = phase_now(m);
    struct jw         w = jw_on(&contributions);
    jw_arr(&w);
    for (uint32_t k = 0; k < phase.count; k++)
        commit_turn(s, &phase, k, &w);
    jw_arr_end(&w);
    if (phase.round)
        emit_broadcast(s, &phase, buf_view(&contributions));
    m->phase++;
    m->first_call += phase.count;
    m->turn_count = 0;
    if (stops(s))
        end(s);
    else
        advance(s);
}

static void commit_when_done(struct step *s)
{
    for (uint32_t k = 0; k < s->m->turn_count; k++)
        if (s->m->turns[k].state != TURN_DONE)
            return;
    commit_phase(s);
}

/* ---- tools ---- */

static const struct team_tool *find_tool(const struct team *team, struct span id)
{
    for (size_t i = 0; i < team->tool_count; i++)
        if (span_eq(team->tools[i].id, id))
            return &team->tools[i];
    return NULL;
}

static void put_text_or(struct jw *w, const char *name, struct jv given, struct span otherwise)
{
    struct span text = jv_is(given, JSON_STRING) ? jv_raw(given) : SPAN_NONE;
    if (text.n == 2)
        return; /* given, but empty: left out */
    jw_key(w, name);
    if (text.n)
        jw_raw(w, text);
    else
        jw_str(w, otherwise);
}

/* The protocol's own members, then the request's; a later one of the same name wins. */
static void put_tool_metadata(struct step *s, const struct team_phase *phase, struct jv given, struct jw *w)
{
    jw_key(w, "metadata"), jw_obj(w);
    if (team_protocol_of(s->team)->tool_metadata)
        team_protocol_of(s->team)->tool_metadata(phase, w);
    for (struct jv_iter it = jv_iter(jv_is(given, JSON_OBJECT) ? given : (struct jv){ 0 }); jv_step(&it);) {
        jw_key_span(w, jv_string(it.name, s->out->arena));
        jw_raw(w, jv_raw(it.value));
    }
    jw_end(w);
}

static struct span tool_context(struct step *s, const struct team_phase *phase, uint32_t k, struct jv request,
                                struct span identity)
{
    CLEANUP(buf_done) struct buf context = { 0 };
    const struct team_agent *agent = agent_of(s, phase, k);
    struct jv                id = jv_get(request, "toolCallId"), turn = jv_get(request, "turn");
    struct jw                w = jw_on(&context);
    jw_obj(&w);
    put_text_or(&w, "agentId", jv_get(request, "agentId"), agent->id);
    if (jv_is(id, JSON_STRING))
        jw_key(&w, "callId"), jw_raw(&w, jv_raw(id));
    put_tool_metadata(s, phase, jv_get(request, "metadata"), &w);
    jw_key(&w, "number"), jw_u64(&w, s->m->turns[k].number);
    jw_key(&w, "protocol"), jw_cstr(&w, team_protocol_names[s->team->protocol]);
    put_text_or(&w, "role", jv_get(request, "role"), agent->role);
    jw_key(&w, "tier"), jw_str(&w, s->team->tier);
    jw_key(&w, "tool"), jw_raw(&w, identity);
    jw_key(&w, "turn");
    if (jv_is(turn, JSON_NUMBER))
        jw_raw(&w, jv_raw(turn));
    else
        jw_u64(&w, s->m->entry_count + k + 1);
    jw_end(&w);
    return team_canonical_text(buf_view(&context), s->out->arena);
}

static struct span identity_of_missing(struct step *s, struct jv id)
{
    CLEANUP(buf_done) struct buf identity = { 0 };
    struct jw w = jw_on(&identity);
    jw_obj(&w);
    jw_key(&w, "id"), jw_raw(&w, jv_raw(id));
    jw_key(&w, "name"), jw_raw(&w, jv_raw(id));
    jw_end(&w);
    return kept(s, &identity);
}

/* A tool that nobody has: nothing is called, call and result are one event. */
static void emit_unavailable(struct step *s, uint32_t k, struct jv request, struct span context)
{
    CLEANUP(buf_done) struct buf event = { 0 }, message = { 0 };
    struct jw w = jw_on(&event);
    BUF_LIT(&message, "Runtime tool \"");
    buf_span(&message, jv_string(jv_get(request, "toolId"), s->out->arena));
    BUF_LIT(&message, "\" is not registered.");
    jw_obj(&w);
    jw_key(&w, "call"), jw_u64(&w, s->m->first_call + k);
    jw_key(&w, "context"), jw_raw(&w, context);
    jw_key(&w, "index"), jw_u64(&w, s->m->turns[k].tool);
    jw_key(&w, "input"), jw_raw(&w, jv_raw(jv_get(request, "input")));
    jw_key(&w, "outcome"), jw_obj(&w);
    jw_key(&w, "error"), jw_obj(&w);
    jw_key(&w, "code"), jw_cstr(&w, "unavailable");
    jw_key(&w, "message"), jw_str(&w, buf_view(&message));
    jw_key(&w, "retryable"), jw_bool(&w, false);
    jw_end(&w);
    jw_key(&w, "type"), jw_cstr(&w, "error");
    jw_end(&w), jw_end(&w);
    emit(s, "team.tool-unavailable", &event);
}

/* The request of the turn's model answer that stands at turn->tool; absent behind the last one. */
static struct jv tool_request(struct step *s, uint32_t k)
{
    struct jv answer = json_read(s->m->turns[k].answer, s->out->arena);
    return jv_at(jv_get(answer, "toolRequests"), s->m->turns[k].tool);
}

/* Calls the tool, or answers for one that is missing. true: it was called. */
static bool use_tool(struct step *s, uint32_t k, struct jv request)
{
    struct team_phase       phase = phase_now(s->m);
    const struct team_tool *tool = find_tool(s->team, jv_string(jv_get(request, "toolId"), s->out->arena));
    struct span identity = tool ? tool->identity : identity_of_missing(s, jv_get(request, "toolId"));
    struct span context = tool_context(s, &phase, k, request, identity);
    if (!tool) {
        emit_unavailable(s, k, request, context);
        return false;
    }
    uint32_t       call = s->m->first_call + k;
    struct effect *fx = effect_add(s->out, FX_TOOL, op_sub(call_path(call), OP_PART(OP_TOOL, s->m->turns[k].tool)));
    struct jv      id = jv_get(request, "toolCallId"), input = jv_get(request, "input");
    fx->tool.call_name = jv_is(id, JSON_STRING) ? jv_string(id, s->out->arena)
                                                : arena_printf(s->out->arena, "tool-%u", s->m->turns[k].number);
    fx->tool.tool = tool->id;
    fx->tool.arguments = jv_kind(input) == JSON_NONE ? SPAN("{}") : jv_raw(input);
    fx->tool.context = context;
    fx->tool.by = TOOL_BY_SERVER;
    return true;
}

/* Serves the turn's tool requests one after another until one of them must be waited for. */
static void use_tools(struct step *s, uint32_t k)
{
    struct team_turn *turn = &s->m->turns[k];
    for (;; turn->tool++) {
        struct jv request = tool_request(s, k);
        if (jv_kind(request) == JSON_NONE) {
            turn->state = TURN_DONE;
            commit_when_done(s);
            return;
        }
        turn->number = ++s->m->tool_calls;
        if (use_tool(s, k, request))
            return;
    }
}

/* ---- inputs ---- */

static void warn_of_floor(struct step *s)
{
    CLEANUP(buf_done) struct buf text = { 0 }, event = { 0 };
    struct team_caps caps = { 0 };
    struct jw        w = jw_on(&event);
    team_caps_add(&caps, s->team->terminate);
    if (s->team->protocol == TEAM_BROADCAST || !s->team->has_floor || !caps.has[CAP_ITERATIONS] ||
        caps.value[CAP_ITERATIONS] >= s->team->floor)
        return;
    BUF_LIT(&text, "[dogpile] protocol.minTurns (");
    json_put_f64(&text, s->team->floor);
    BUF_LIT(&text, ") exceeds terminate budget maxIterations (");
    json_put_f64(&text, caps.value[CAP_ITERATIONS]);
    BUF_LIT(&text, "); maxIterations will win.");
    jw_obj(&w);
    jw_key(&w, "message"), jw_str(&w, buf_view(&text));
    jw_end(&w);
    emit(s, "team.warning", &event);
}

static void assign_roles(struct step *s)
{
    for (size_t i = 0; i < s->team->agent_count; i++) {
        CLEANUP(buf_done) struct buf event = { 0 };
        struct jw w = jw_on(&event);
        jw_obj(&w);
        put_agent(&w, &s->team->agents[i]);
        jw_end(&w);
        emit(s, "team.role-assignment", &event);
    }
}

/* Not an event of the contract: marks where in a ledger a team begins, and says what for. */
static void tell_start(struct step *s)
{
    CLEANUP(buf_done) struct buf event = { 0 };
    struct jw w = jw_on(&event);
    jw_obj(&w);
    jw_key(&w, "intent"), jw_str(&w, s->m->intent);
    jw_end(&w);
    emit(s, "team.started", &event);
}

static void arm_limit(struct step *s)
{
    if (!s->team->has_limit)
        return;
    double us = s->team->limit_ms * 1000, most = 9e18;
    effect_add(s->out, FX_TIMER, op_sub(own, OP_PART(OP_TIMER, 0)))->timer.due_us =
        s->m->start_us + (uint64_t)(us < most ? us : most);
}

/* {"intent": …} is checked like the option of that name. */
static bool take_intent(struct step *s)
{
    CLEANUP(buf_done) struct buf error = { 0 };
    struct jv input = jv_get(json_read(s->in->value, s->out->arena), "input");
    struct jv intent = jv_is(input, JSON_OBJECT) ? jv_get(input, "intent") : input;
    s->m->intent = jv_is(intent, JSON_STRING) ? arena_copy(s->m->arena, jv_string(intent, s->out->arena)) : s->team->intent;
    struct team_problem problem;
    struct jw           w = jw_on(&error);
    if (team_intent_valid(s->m->intent, intent, s->out->arena, &problem))
        return true;
    team_problem_to_json(&problem, &w);
    error.len--; /* reopen the object: what an error of a run has besides */
    BUF_LIT(&error, ",\"category\":\"validation\",\"source\":\"agent\"}");
    s->m->life = TEAM_FAILED;
    effect_add(s->out, FX_FAIL, own)->fail.error = kept(s, &error);
    return false;
}

static void resume_turns(struct step *s)
{
    struct team_phase phase = phase_now(s->m);
    for (uint32_t k = 0; k < s->m->turn_count; k++) {
        if (s->m->turns[k].state == TURN_CALLING)
            ask_model(s, &phase, k);
        else if (s->m->turns[k].state == TURN_TOOLS)
            use_tool(s, k, tool_request(s, k)); /* a missing tool is never waited for */
    }
}

static void begin(struct step *s)
{
    if (!take_intent(s))
        return;
    s->m->life = TEAM_RUNNING;
    s->m->start_us = s->in->elapsed_us;
    tell_start(s);
    warn_of_floor(s);
    arm_limit(s);
    assign_roles(s);
    advance(s);
}

/* Goes on at the last complete step: what has an answer keeps it, what was asked is asked again. A team that had failed gets its
 * time anew, or it would fail of it at once. */
static void begin_again(struct step *s)
{
    if (s->m->life == TEAM_FAILED)
        s->m->start_us = s->in->elapsed_us;
    s->m->life = TEAM_RUNNING;
    arm_limit(s);
    if (s->m->turn_count)
        resume_turns(s);
    else
        advance(s);
}

static void on_start(struct step *s)
{
    if (s->m->life == TEAM_NEW || s->m->intent.n == 0)
        begin(s);
    else if (s->m->life == TEAM_FINISHED)
        effect_add(s->out, FX_FINISH, own)->finish.output = s->m->result;
    else
        begin_again(s);
}

/* The turn that an input is about, or -1 when it is not of the phase under way. */
static int64_t turn_of(const struct step *s)
{
    const struct op_path *op = &s->in->op;
    if (s->m->life != TEAM_RUNNING || op->n == 0 || op->v[0] >> 28 != OP_MODEL)
        return -1;
    uint32_t call = op->v[0] & 0xfffffff;
    bool under_way = call >= s->m->first_call && call - s->m->first_call < s->m->turn_count;
    return under_way ? (int64_t)(call - s->m->first_call) : -1;
}

static void on_budget(struct step *s)
{
    s->m->turn_count = 0;
    effect_add(s->out, FX_ABORT, own);
    end(s);
}

static void on_model(struct step *s)
{
    int64_t k = turn_of(s);
    if (k < 0 || s->m->turns[k].state != TURN_CALLING)
        return;
    if (s->in->err == ERR_BUDGET)
        on_budget(s);
    else if (s->in->err != ERR_OK)
        fail(s, s->in->value);
    else {
        s->m->turns[k].answer = team_answer(s->team, json_read(s->in->value, s->out->arena), s->m->arena);
        s->m->turns[k].state = TURN_TOOLS;
        use_tools(s, (uint32_t)k);
    }
}

static void on_tool(struct step *s)
{
    int64_t k = turn_of(s);
    if (s->m->life == TEAM_EVALUATING && s->in->op.n == 1) {
        if (s->in->err == ERR_OK)
            finish(s, json_read(s->in->value, s->out->arena));
        else
            fail(s, s->in->value);
        return;
    }
    if (k < 0 || s->in->op.n != 2 || s->m->turns[k].state != TURN_TOOLS ||
        s->in->op.v[1] != OP_PART(OP_TOOL, s->m->turns[k].tool))
        return;
    s->m->turns[k].tool++;
    use_tools(s, (uint32_t)k);
}

static void on_timer(struct step *s)
{
    bool lives = s->m->life == TEAM_RUNNING || s->m->life == TEAM_EVALUATING;
    if (lives && s->in->op.n == 1 && s->in->op.v[0] == OP_PART(OP_TIMER, 0))
        fail_timeout(s);
}

static enum err team_step(struct machine *m, const struct input *in, struct effects *out)
{
    struct step s = { m, m->team, in, out };
    switch (in->kind) {
    case IN_START:
        on_start(&s);
        break;
    case IN_MODEL:
        on_model(&s);
        break;
    case IN_TOOL:
        on_tool(&s);
        break;
    case IN_TIMER:
        on_timer(&s);
        break;
    default: /* nobody else has anything to say to a team */
        break;
    }
    return ERR_OK;
}

/* ---- definitions ---- */

static struct span pointer_of(struct span path, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    buf_byte(&out, '/');
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] == '.' || path.p[i] == '[')
            buf_byte(&out, '/');
        else if (path.p[i] != ']')
            buf_byte(&out, path.p[i]);
    return arena_copy(arena, buf_view(&out));
}

static void within_limits(struct jv definition, struct issues *issues)
{
    double rounds = 0;
    jv_f64(jv_get(jv_get(definition, "protocol"), "maxRounds"), &rounds);
    if (jv_count(jv_get(definition, "agents")) > TEAM_AGENTS_MAX)
        issue_add(issues, SPAN("/agents"), "too_many", "at most %d agents", TEAM_AGENTS_MAX);
    if (jv_count(jv_get(definition, "tools")) > TEAM_TOOLS_MAX)
        issue_add(issues, SPAN("/tools"), "too_many", "at most %d tools", TEAM_TOOLS_MAX);
    if (rounds > TEAM_ROUNDS_MAX)
        issue_add(issues, SPAN("/protocol/maxRounds"), "range", "at most %d rounds", TEAM_ROUNDS_MAX);
}

/* The contract names the first thing that is wrong; our limits come behind it. */
static bool is_good(struct jv definition, struct arena *arena, struct issues *issues)
{
    size_t              before = issues->count;
    struct team_problem problem;
    if (team_validate(definition, 0, arena, &problem))
        within_limits(definition, issues);
    else {
        struct span message = team_problem_text(&problem, arena);
        struct span at = span_is(problem.path, "options") ? SPAN_NONE : pointer_of(problem.path, arena);
        issue_add(issues, at, problem.rule, "%.*s", SPAN_ARG(message));
    }
    return issues->count == before;
}

static enum err team_open(struct plan *plan)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    if (plan->compiled)
        return ERR_OK;
    struct jv root = json_read(plan->json, &plan->arena), definition = jv_get(root, "team");
    if (!jv_str_eq(jv_get(root, "kind"), "team") || !is_good(definition, &scratch, &issues))
        return ERR_CORRUPT;
    struct team *team = ARENA_NEW(&plan->arena, struct team);
    team_read(definition, &plan->arena, team);
    plan->compiled = team;
    plan->max_attempts = 1;
    struct sha256 hash = sha256_of(plan->json);
    struct buf    hex = { .p = plan->hash.hex, .cap = sizeof plan->hash.hex };
    buf_hex(&hex, hash.b, sizeof hash.b);
    return ERR_OK;
}

static enum err team_compile(struct jv definition, struct plan *plan, struct issues *issues)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (!is_good(definition, &plan->arena, issues))
        return ERR_VALIDATION;
    BUF_LIT(&text, "{\"format\":1,\"kind\":\"team\",\"team\":");
    json_canonical(definition, JSON_JCS, &text);
    BUF_LIT(&text, "}");
    plan->json = arena_copy(&plan->arena, buf_view(&text));
    plan->compiled = NULL;
    return team_open(plan);
}

/* ---- life ---- */

struct machine *team_machine_new(const struct plan *plan, struct arena *arena)
{
    struct machine *m = ARENA_NEW(arena, struct machine);
    m->plan = plan;
    m->team = plan->compiled;
    m->arena = arena;
    return m;
}

void team_entry_add(struct machine *m, struct team_entry entry)
{
    if (m->entry_count == m->entry_cap) {
        struct team_entry *old = m->entries;
        m->entry_cap = m->entry_cap ? m->entry_cap * 2 : 8;
        m->entries = ARENA_ARRAY(m->arena, struct team_entry, m->entry_cap);
        if (old)
            memcpy(m->entries, old, m->entry_count * sizeof *old);
    }
    m->entries[m->entry_count++] = entry;
}

static enum err team_init(const struct plan *plan, struct arena *arena, struct machine **ret)
{
    *ret = team_machine_new(plan, arena);
    return ERR_OK;
}

const struct machine_ops team_ops = {
    .kind = "team",
    .rev = 1,
    .compile = team_compile,
    .open = team_open,
    .init = team_init,
    .step = team_step,
    .save = team_save,
    .load = team_load,
};
