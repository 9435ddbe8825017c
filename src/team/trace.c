/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - events as they happen, and the trace when all is over. */
#include "team/trace.h"
#include "base/env.h"
#include "team/answer.h"
#include "team/result.h"

struct tool_use {
    struct span context, input; /* canonical */
    struct span id;             /* tool call id, text */
    struct span result;         /* canonical; empty while it runs */
};

struct team_call {
    bool             known;
    struct span      request, response; /* canonical; response empty: no answer (yet) */
    struct span      agent_id, role, input;
    int64_t          started_ms, completed_ms;
    struct span      text;   /* chunks so far, in text_cap bytes */
    size_t           text_cap;
    uint32_t         chunks;
    struct tool_use *tools;
    uint32_t         tool_count, tool_cap;
};

/* ---- growing ---- */

/* Room for one more item in an arena array that doubles. */
static void *grown(struct arena *arena, void *items, size_t count, size_t *cap, size_t size, size_t want)
{
    if (want < *cap)
        return items;
    while (*cap <= want)
        *cap = *cap ? *cap * 2 : 16;
    void *more = arena_alloc(arena, *cap * size);
    if (count)
        memcpy(more, items, count * size);
    return more;
}

void team_trace_init(struct team_trace *trace, const struct team *team, struct span run_id, struct span intent,
                     struct arena *arena)
{
    *trace = (struct team_trace){ .team = team, .arena = arena };
    trace->run_id = arena_copy(arena, run_id);
    trace->intent = arena_copy(arena, intent);
}

static struct team_call *call_at(struct team_trace *trace, uint32_t call)
{
    trace->calls = grown(trace->arena, trace->calls, trace->call_count, &trace->call_cap, sizeof *trace->calls, call);
    if (call >= trace->call_count)
        trace->call_count = (size_t)call + 1;
    return &trace->calls[call];
}

/* ---- events ---- */

static void add_event(struct team_trace *trace, const char *type, int64_t at_ms, uint32_t call, struct span json)
{
    trace->events = grown(trace->arena, trace->events, trace->event_count, &trace->event_cap, sizeof *trace->events,
                          trace->event_count);
    trace->events[trace->event_count++] = (struct team_event){ type, at_ms, json, call };
}

/* An object that begins with what all events have; the caller adds the rest, and end_event closes it. */
static struct jw begin_event(const struct team_trace *trace, const char *type, int64_t at_ms, struct buf *out)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "type"), jw_cstr(&w, type);
    jw_key(&w, "runId"), jw_str(&w, trace->run_id);
    jw_key(&w, "at"), jw_time(&w, at_ms);
    return w;
}

static void end_event(struct team_trace *trace, const char *type, int64_t at_ms, uint32_t call, struct jw *w)
{
    jw_end(w);
    if (!trace->sink) {
        add_event(trace, type, at_ms, call, team_canonical_text(buf_view(w->out), trace->arena));
        return;
    }
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct team_event event = { type, at_ms, team_canonical_text(buf_view(w->out), &scratch), call };
    trace->sink(trace->sink_user, &event);
}

static void copy(struct jw *w, struct jv from, const char *name)
{
    if (jv_kind(jv_get(from, name)) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(jv_get(from, name)));
}

static void copy_all(struct jw *w, struct jv from, struct arena *scratch)
{
    for (struct jv_iter it = jv_iter(from); jv_step(&it);) {
        jw_key_span(w, jv_string(it.name, scratch));
        jw_raw(w, jv_raw(it.value));
    }
}

/* ---- turns ---- */

static void put_tool_calls(const struct team_call *call, struct jw *w, struct arena *scratch)
{
    jw_key(w, "toolCalls"), jw_arr(w);
    for (uint32_t i = 0; i < call->tool_count; i++) {
        const struct tool_use *use = &call->tools[i];
        jw_obj(w);
        copy(w, json_read(use->result, scratch), "toolCallId");
        copy(w, json_read(use->result, scratch), "tool");
        if (use->input.n)
            jw_key(w, "input"), jw_raw(w, use->input);
        jw_key(w, "result"), jw_raw(w, use->result);
        jw_end(w);
    }
    jw_arr_end(w);
}

/* Turns are committed in the order of their calls, so the n-th turn belongs to the n-th call. */
static void add_entry(struct team_trace *trace, struct jv turn, struct arena *scratch)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    copy(&w, turn, "agentId");
    copy(&w, turn, "role");
    copy(&w, turn, "input");
    copy(&w, turn, "output");
    copy(&w, turn, "decision");
    if (trace->entry_count < trace->call_count && trace->calls[trace->entry_count].tool_count)
        put_tool_calls(&trace->calls[trace->entry_count], &w, scratch);
    jw_end(&w);
    trace->entries = grown(trace->arena, trace->entries, trace->entry_count, &trace->entry_cap, sizeof *trace->entries,
                           trace->entry_count);
    trace->entries[trace->entry_count++] = team_canonical_text(buf_view(&out), trace->arena);
}

enum { OP_NUMBER_MAX = 0xfffffff }; /* of a part of a path */

static size_t add_unavailable(struct team_trace *trace, struct jv v, int64_t at_ms)
{
    int64_t call = 0, index = 0;
    if (!jv_i64(jv_get(v, "call"), &call) || !jv_i64(jv_get(v, "index"), &index) || call < 0 || index < 0 || call > OP_NUMBER_MAX ||
        index > OP_NUMBER_MAX)
        return 0;
    struct jv input = jv_get(v, "input");
    team_trace_tool(trace, (uint32_t)call, (uint32_t)index, jv_kind(input) == JSON_NONE ? SPAN_NONE : jv_raw(input),
                    jv_raw(jv_get(v, "context")), at_ms);
    team_trace_tool_end(trace, (uint32_t)call, (uint32_t)index, jv_raw(jv_get(v, "outcome")), at_ms);
    return 2;
}

size_t team_trace_emit(struct team_trace *trace, struct span name, struct span value, int64_t at_ms)
{
    static const char *const types[] = { "role-assignment", "agent-turn", "broadcast", "budget-stop", "final" };
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jv v = json_read(value, &scratch);
    if (name.n > 5 && memcmp(name.p, "team.", 5) == 0)
        name = span_make(name.p + 5, name.n - 5);
    if (span_is(name, "tool-unavailable"))
        return add_unavailable(trace, v, at_ms);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (!span_is(name, types[i]))
            continue;
        struct jw w = begin_event(trace, types[i], at_ms, &out);
        copy_all(&w, v, &scratch);
        end_event(trace, types[i], at_ms, UINT32_MAX, &w);
        if (jv_kind(jv_get(v, "cost")) != JSON_NONE)
            team_cost_read(jv_get(v, "cost"), &trace->cost);
        if (i == 1)
            add_entry(trace, v, &scratch);
        if (i == 4)
            trace->output = arena_copy(trace->arena, jv_raw(jv_get(v, "output")));
        return 1;
    }
    return 0;
}

/* ---- model calls ---- */

struct span team_request(const struct team_trace *trace, struct span request)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jv v = json_read(request, &scratch);
    struct jw w = jw_on(&out);
    jw_obj(&w);
    copy(&w, v, "messages");
    copy(&w, v, "temperature");
    jw_key(&w, "metadata"), jw_obj(&w);
    jw_key(&w, "runId"), jw_str(&w, trace->run_id);
    copy_all(&w, jv_get(v, "metadata"), &scratch);
    jw_end(&w), jw_end(&w);
    return team_canonical_text(buf_view(&out), trace->arena);
}

static struct span label(struct jv labels, const char *name, struct arena *arena, struct arena *scratch)
{
    return arena_copy(arena, jv_string(jv_get(labels, name), scratch));
}

/* The turn's input is the last message: a hint stands in front of it (teams.md 10.7). */
static struct span user_text(struct span request, struct arena *arena, struct arena *scratch)
{
    struct jv messages = jv_get(json_read(request, scratch), "messages");
    struct jv last = jv_at(messages, jv_count(messages) - 1);
    return arena_copy(arena, jv_string(jv_get(last, "content"), scratch));
}

void team_trace_call(struct team_trace *trace, uint32_t call, struct span request, struct span labels, int64_t at_ms)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct team_call *c = call_at(trace, call);
    struct jv         v = json_read(labels, &scratch);
    *c = (struct team_call){ .known = true, .started_ms = at_ms };
    c->request = team_request(trace, request);
    c->agent_id = label(v, "agent_id", trace->arena, &scratch);
    c->role = label(v, "role", trace->arena, &scratch);
    c->input = user_text(request, trace->arena, &scratch);
}

void team_trace_call_again(struct team_trace *trace, uint32_t call, int64_t at_ms)
{
    call_at(trace, call)->started_ms = at_ms;
}

static void add_text(struct team_trace *trace, struct team_call *c, struct span text)
{
    char *all = grown(trace->arena, (void *)c->text.p, c->text.n, &c->text_cap, 1, c->text.n + text.n);
    if (text.n)
        memcpy(all + c->text.n, text.p, text.n);
    c->text = span_make(all, c->text.n + text.n);
}

void team_trace_chunk(struct team_trace *trace, uint32_t call, struct span text, int64_t at_ms)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct team_call *c = call_at(trace, call);
    add_text(trace, c, text);
    struct jw w = begin_event(trace, "model-output-chunk", at_ms, &out);
    jw_key(&w, "agentId"), jw_str(&w, c->agent_id);
    jw_key(&w, "role"), jw_str(&w, c->role);
    jw_key(&w, "input"), jw_str(&w, c->input);
    jw_key(&w, "chunkIndex"), jw_u64(&w, c->chunks++);
    jw_key(&w, "text"), jw_str(&w, text);
    jw_key(&w, "output"), jw_str(&w, c->text);
    end_event(trace, "model-output-chunk", at_ms, call, &w);
}

void team_trace_answer(struct team_trace *trace, uint32_t call, struct jv answer, int64_t at_ms)
{
    struct team_call *c = call_at(trace, call);
    c->response = team_answer(trace->team, answer, trace->arena);
    c->completed_ms = at_ms;
}

void team_trace_call_failed(struct team_trace *trace, uint32_t call)
{
    size_t kept = 0;
    for (size_t i = 0; i < trace->event_count; i++)
        if (trace->events[i].call != call)
            trace->events[kept++] = trace->events[i];
    trace->event_count = kept;
    call_at(trace, call)->text.n = 0;
    call_at(trace, call)->chunks = 0;
}

/* ---- tools ---- */

struct span team_tool_call_id(struct span run_id, struct jv context, struct arena *arena)
{
    int64_t number = 0;
    if (jv_is(jv_get(context, "callId"), JSON_STRING))
        return jv_string(jv_get(context, "callId"), arena);
    jv_i64(jv_get(context, "number"), &number);
    return arena_printf(arena, "%.*s:tool-%lld", SPAN_ARG(run_id), (long long)number);
}

static struct tool_use *tool_at(struct team_trace *trace, uint32_t call, uint32_t index)
{
    struct team_call *c = call_at(trace, call);
    size_t            cap = c->tool_cap;
    c->tools = grown(trace->arena, c->tools, c->tool_count, &cap, sizeof *c->tools, index);
    c->tool_cap = (uint32_t)cap;
    if (index >= c->tool_count)
        c->tool_count = index + 1;
    return &c->tools[index];
}

static void put_tool(struct jw *w, const struct tool_use *use, struct jv context)
{
    jw_key(w, "toolCallId"), jw_str(w, use->id);
    copy(w, context, "tool");
    copy(w, context, "agentId");
    copy(w, context, "role");
}

void team_trace_tool(struct team_trace *trace, uint32_t call, uint32_t index, struct span input, struct span context,
                     int64_t at_ms)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct tool_use *use = tool_at(trace, call, index);
    struct jv        v = json_read(context, &scratch);
    use->context = arena_copy(trace->arena, context);
    use->input = input.n ? team_canonical_text(input, trace->arena) : SPAN_NONE;
    use->id = arena_copy(trace->arena, team_tool_call_id(trace->run_id, v, &scratch));
    struct jw w = begin_event(trace, "tool-call", at_ms, &out);
    put_tool(&w, use, v);
    if (use->input.n)
        jw_key(&w, "input"), jw_raw(&w, use->input);
    end_event(trace, "tool-call", at_ms, UINT32_MAX, &w);
}

/* {"type","toolCallId","tool","output" | "error","metadata"?} */
static struct span tool_result(struct team_trace *trace, const struct tool_use *use, struct jv context, struct jv outcome)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    copy(&w, outcome, "type");
    jw_key(&w, "toolCallId"), jw_str(&w, use->id);
    copy(&w, context, "tool");
    copy(&w, outcome, "output");
    copy(&w, outcome, "error");
    copy(&w, outcome, "metadata");
    jw_end(&w);
    return team_canonical_text(buf_view(&out), trace->arena);
}

void team_trace_tool_end(struct team_trace *trace, uint32_t call, uint32_t index, struct span outcome, int64_t at_ms)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct tool_use *use = tool_at(trace, call, index);
    struct jv        context = json_read(use->context, &scratch);
    use->result = tool_result(trace, use, context, json_read(outcome, &scratch));
    struct jw w = begin_event(trace, "tool-result", at_ms, &out);
    put_tool(&w, use, context);
    jw_key(&w, "result"), jw_raw(&w, use->result);
    end_event(trace, "tool-result", at_ms, UINT32_MAX, &w);
}

/* ---- the trace: parts that follow from the events ---- */

static bool is_type(const struct team_event *event, const char *type)
{
    return strcmp(event->type, type) == 0;
}

/* Where the run is, while the events are walked for decisions. */
struct progress {
    uint32_t turns, round, round_start;
};

static void put_turn_decision(const struct team_trace *trace, const struct progress *at, struct jv v, struct jw *w)
{
    copy(w, v, "agentId"), copy(w, v, "role"), copy(w, v, "input"), copy(w, v, "output"), copy(w, v, "cost");
    jw_key(w, "turn"), jw_u64(w, at->turns);
    jw_key(w, "transcriptEntryCount"), jw_u64(w, at->turns);
    if (trace->team->protocol == TEAM_BROADCAST) {
        jw_key(w, "round"), jw_u64(w, at->round + 1);
        jw_key(w, "contributionCount"), jw_u64(w, at->turns - at->round_start);
    }
    if (trace->team->protocol == TEAM_COORDINATOR) {
        bool last = at->turns == trace->team->agent_count + 1;
        jw_key(w, "phase"), jw_cstr(w, at->turns == 1 ? "plan" : last ? "final-synthesis" : "worker");
    }
}

/* The canonical text of a member, as a string. */
static void put_stable(struct jw *w, const char *name, struct jv v)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (jv_kind(v) == JSON_NONE)
        return;
    json_canonical(v, JSON_TEAM_KEYS | JSON_DOUBLES, &text);
    jw_key(w, name), jw_str(w, buf_view(&text));
}

static void put_tool_decision(struct jv v, const char *name, struct jv value, struct jw *w)
{
    copy(w, v, "toolCallId"), copy(w, v, "tool"), copy(w, v, "agentId"), copy(w, v, "role");
    put_stable(w, name, value);
}

static const char *decision_name(const struct team_event *event)
{
    static const char *const names[][2] = {
        { "role-assignment", "assign-role" },    { "tool-call", "start-tool-call" },
        { "tool-result", "complete-tool-call" }, { "agent-turn", "select-agent-turn" },
        { "broadcast", "collect-broadcast-round" }, { "budget-stop", "stop-for-budget" },
        { "final", "finalize-output" },
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (is_type(event, names[i][0]))
            return names[i][1];
    return NULL; /* a chunk */
}

static void put_decision(const struct team_trace *trace, size_t index, const char *name, const struct progress *at, struct jv v,
                         struct jw *w)
{
    const struct team_event *event = &trace->events[index];
    jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "replay-trace-protocol-decision");
    jw_key(w, "eventIndex"), jw_u64(w, index);
    jw_key(w, "eventType"), jw_cstr(w, event->type);
    jw_key(w, "protocol"), jw_cstr(w, team_protocol_names[trace->team->protocol]);
    jw_key(w, "decision"), jw_cstr(w, name);
    copy(w, v, "at");
    if (is_type(event, "agent-turn"))
        put_turn_decision(trace, at, v, w);
    else if (is_type(event, "tool-call"))
        put_tool_decision(v, "input", jv_get(v, "input"), w);
    else if (is_type(event, "tool-result"))
        put_tool_decision(v, "output", jv_get(v, "result"), w);
    else if (is_type(event, "role-assignment"))
        copy(w, v, "agentId"), copy(w, v, "role");
    else {
        jw_key(w, "transcriptEntryCount"), jw_u64(w, at->turns);
        copy(w, v, "cost"), copy(w, v, "output"), copy(w, v, "round");
        if (is_type(event, "broadcast"))
            jw_key(w, "contributionCount"), jw_u64(w, jv_count(jv_get(v, "contributions")));
        if (is_type(event, "budget-stop"))
            jw_key(w, "budgetReason"), jw_raw(w, jv_raw(jv_get(v, "reason")));
    }
    jw_end(w);
}

static void put_decisions(const struct team_trace *trace, struct jv events, struct jw *w)
{
    struct progress at = { 0 };
    struct jv_iter  it = jv_iter(events);
    jw_key(w, "protocolDecisions"), jw_arr(w);
    for (size_t i = 0; jv_step(&it); i++) {
        const struct team_event *event = &trace->events[i];
        const char              *name = decision_name(event);
        at.turns += is_type(event, "agent-turn");
        if (name)
            put_decision(trace, i, name, &at, it.value, w);
        if (is_type(event, "broadcast")) {
            at.round++;
            at.round_start = at.turns;
        }
    }
    jw_arr_end(w);
}

static void put_provider_calls(const struct team_trace *trace, struct jw *w)
{
    uint32_t number = 0;
    jw_key(w, "providerCalls"), jw_arr(w);
    for (size_t i = 0; i < trace->call_count; i++) {
        CLEANUP(arena_done) struct arena scratch = { 0 };
        const struct team_call *call = &trace->calls[i];
        if (!call->response.n)
            continue;
        jw_obj(w);
        jw_key(w, "kind"), jw_cstr(w, "replay-trace-provider-call");
        jw_key(w, "callId");
        jw_str(w, arena_printf(&scratch, "%.*s:provider-call:%u", SPAN_ARG(trace->run_id), ++number));
        jw_key(w, "providerId"), jw_str(w, trace->team->provider_id);
        jw_key(w, "startedAt"), jw_time(w, call->started_ms);
        jw_key(w, "completedAt"), jw_time(w, call->completed_ms);
        jw_key(w, "agentId"), jw_str(w, call->agent_id);
        jw_key(w, "role"), jw_str(w, call->role);
        jw_key(w, "request"), jw_raw(w, call->request);
        jw_key(w, "response"), jw_raw(w, call->response);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_inputs(const struct team_trace *trace, struct jw *w)
{
    const struct team *team = trace->team;
    jw_key(w, "inputs"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "replay-trace-run-inputs");
    jw_key(w, "intent"), jw_str(w, trace->intent);
    jw_key(w, "protocol"), jw_raw(w, team->protocol_json);
    jw_key(w, "tier"), jw_str(w, team->tier);
    jw_key(w, "modelProviderId"), jw_str(w, team->provider_id);
    jw_key(w, "agents"), jw_raw(w, team->agents_json);
    jw_key(w, "temperature"), jw_f64(w, team->temperature);
    jw_end(w);
}

static void put_budget(const struct team *team, struct jw *w)
{
    jw_key(w, "budget"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "replay-trace-budget");
    jw_key(w, "tier"), jw_str(w, team->tier);
    if (team->budget_json.n)
        jw_key(w, "caps"), jw_raw(w, team->budget_json);
    if (team->terminate_json.n)
        jw_key(w, "termination"), jw_raw(w, team->terminate_json);
    jw_end(w);
}

static void put_seed(const struct team *team, struct jw *w)
{
    jw_key(w, "seed"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "replay-trace-seed");
    jw_key(w, "source"), jw_cstr(w, team->seed_json.n ? "caller" : "none");
    jw_key(w, "value"), jw_raw(w, team->seed_json);
    jw_end(w);
}

static void put_final_output(struct jv final, struct jw *w)
{
    jw_key(w, "finalOutput"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "replay-trace-final-output");
    copy(w, final, "output");
    copy(w, final, "cost");
    jw_key(w, "completedAt"), jw_raw(w, jv_raw(jv_get(final, "at")));
    copy(w, final, "transcript");
    jw_end(w);
}

static struct span events_text(const struct team_trace *trace, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_arr(&w);
    for (size_t i = 0; i < trace->event_count; i++)
        jw_raw(&w, trace->events[i].json);
    jw_arr_end(&w);
    return arena_copy(arena, buf_view(&out));
}

static void put_transcript(const struct team_trace *trace, struct jw *w)
{
    jw_key(w, "transcript"), jw_arr(w);
    for (size_t i = 0; i < trace->entry_count; i++)
        jw_raw(w, trace->entries[i]);
    jw_arr_end(w);
}

static struct span trace_text(const struct team_trace *trace, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    struct jv events = json_read(events_text(trace, arena), arena);
    assert(trace->output.n);
    jw_obj(&w);
    jw_key(&w, "schemaVersion"), jw_cstr(&w, "1.0");
    jw_key(&w, "runId"), jw_str(&w, trace->run_id);
    jw_key(&w, "protocol"), jw_cstr(&w, team_protocol_names[trace->team->protocol]);
    jw_key(&w, "tier"), jw_str(&w, trace->team->tier);
    jw_key(&w, "modelProviderId"), jw_str(&w, trace->team->provider_id);
    jw_key(&w, "agentsUsed"), jw_raw(&w, trace->team->agents_json);
    put_inputs(trace, &w);
    put_budget(trace->team, &w);
    team_state_changes(events, &w);
    put_seed(trace->team, &w);
    put_decisions(trace, events, &w);
    put_provider_calls(trace, &w);
    put_final_output(jv_at(events, trace->event_count - 1), &w);
    jw_key(&w, "events"), jw_raw(&w, jv_raw(events));
    put_transcript(trace, &w);
    jw_end(&w);
    return team_canonical_text(buf_view(&out), arena);
}

void team_trace_to_json(const struct team_trace *trace, struct jw *w)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    jw_raw(w, trace_text(trace, &scratch));
}

/* A live result is what its trace replays to, canonical (teams.md 14). */
void team_result_to_json(const struct team_trace *trace, struct jw *w)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf replayed = { 0 };
    struct jw r = jw_on(&replayed);
    team_replay(json_read(trace_text(trace, &scratch), &scratch), &r);
    jw_raw(w, team_canonical_text(buf_view(&replayed), &scratch));
}
