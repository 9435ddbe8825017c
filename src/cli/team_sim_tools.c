/* SPDX-License-Identifier: Apache-2.0 */
/* team_sim_tools.c - the scripted tools of a scenario: plain ones, the two built-in adapters, and Vercel AI tools (teams.md 17). */
#include "cli/team_sim.h"

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

static void copy_as(struct jw *w, const char *name, struct jv v)
{
    if (jv_kind(v) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static enum team_builtin builtin_of(struct jv tool)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    return team_builtin(jv_string(jv_get(tool, "builtin"), &arena));
}

/* ---- what they are ---- */

struct jv sim_tool_manifest(struct sim *sim, struct jv tool)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    if (builtin_of(tool))
        team_builtin_manifest(builtin_of(tool), jv_get(tool, "options"), &w);
    else if (has(tool, "vercel"))
        team_vercel_manifest(jv_get(tool, "vercel"), &w);
    else {
        jw_obj(&w);
        copy_as(&w, "identity", jv_get(tool, "identity"));
        jw_key(&w, "inputSchema");
        jw_raw(&w, has(tool, "inputSchema") ? jv_raw(jv_get(tool, "inputSchema"))
                                            : SPAN("{\"kind\":\"json-schema\",\"schema\":{\"type\":\"object\"}}"));
        copy_as(&w, "permissions", jv_get(tool, "permissions"));
        jw_end(&w);
    }
    return json_read(arena_copy(sim->arena, buf_view(&out)), sim->arena);
}

/* The tool of the scenario with that id, and its place among them. */
static struct jv find_tool(struct sim *sim, struct span id, size_t *ret_index)
{
    size_t i = 0;
    for (struct jv_iter it = jv_iter(jv_get(sim->scenario, "tools")); jv_step(&it); i++) {
        struct jv identity = jv_get(sim_tool_manifest(sim, it.value), "identity");
        if (span_eq(jv_string(jv_get(identity, "id"), sim->arena), id)) {
            *ret_index = i;
            return it.value;
        }
    }
    return (struct jv){ 0 };
}

/* ---- checks of the input ---- */

static size_t missing_fields(struct jv tool, struct jv input, struct jw *w, struct arena *arena)
{
    size_t count = 0;
    jw_arr(w);
    for (struct jv_iter it = jv_iter(jv_get(tool, "requireFields")); jv_step(&it);) {
        struct span field = jv_string(it.value, arena);
        if (jv_kind(jv_get_span(input, field)) != JSON_NONE)
            continue;
        jw_obj(w);
        jw_key(w, "code"), jw_cstr(w, "missing-field");
        jw_key(w, "path"), jw_str(w, field);
        jw_key(w, "message"), jw_str(w, arena_printf(arena, "%.*s is required.", SPAN_ARG(field)));
        jw_end(w);
        count++;
    }
    jw_arr_end(w);
    return count;
}

/* true: the input is no good, and the outcome says so. */
static bool refuses(struct jv tool, struct jv input, struct jw *outcome)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf issues = { 0 };
    struct jw w = jw_on(&issues);
    size_t    count = builtin_of(tool) ? team_builtin_check(builtin_of(tool), jv_get(tool, "options"), input, &w)
                                       : missing_fields(tool, input, &w, &arena);
    if (count)
        team_outcome_invalid(buf_view(&issues), outcome);
    return count > 0;
}

/* ---- what they do ---- */

static void tool_ends(struct sim_run *run, struct sim_tool *tool, struct span outcome)
{
    tool->open = false;
    if (run->done)
        return;
    team_trace_tool_end(&run->trace, tool->call, tool->index, outcome, sim_wall(run->sim));
    sim_publish(run);
    sim_answer(run, IN_TOOL, tool->op, ERR_OK, outcome);
}

static void put_or_null(struct jw *w, const char *name, struct jv from, const char *member)
{
    jw_key(w, name);
    jw_raw(w, has(from, member) ? jv_raw(jv_get(from, member)) : SPAN("null"));
}

static void put_echo(struct sim_run *run, struct sim_tool *tool, struct jw *w)
{
    jw_key(w, "output"), jw_obj(w);
    put_or_null(w, "agentId", tool->context, "agentId");
    put_or_null(w, "role", tool->context, "role");
    put_or_null(w, "turn", tool->context, "turn");
    put_or_null(w, "protocol", tool->context, "protocol");
    put_or_null(w, "tier", tool->context, "tier");
    put_or_null(w, "metadata", tool->context, "metadata");
    jw_key(w, "eventCount"), jw_u64(w, run->trace.event_count);
    jw_key(w, "transcriptLength"), jw_u64(w, run->trace.entry_count);
    jw_end(w);
}

static void put_success(struct sim_run *run, struct sim_tool *tool, struct jv behaviour, struct jw *w)
{
    bool error = has(behaviour, "errorResult");
    jw_obj(w);
    jw_key(w, "type"), jw_cstr(w, error ? "error" : "success");
    if (error)
        copy_as(w, "error", jv_get(behaviour, "errorResult"));
    else if (jv_bool(jv_get(behaviour, "echoContext"), false))
        put_echo(run, tool, w);
    else
        copy_as(w, "output", jv_get(behaviour, "output"));
    copy_as(w, "metadata", jv_get(behaviour, "metadata"));
    jw_end(w);
}

/* The next reply of a backend: one, or a list taken in turn (the last one again and again). */
static struct jv next_reply(struct sim *sim, struct sim_tool *tool)
{
    struct jv http = jv_get(jv_get(tool->tool, "behaviour"), "http");
    if (!jv_is(http, JSON_ARRAY) || !jv_count(http))
        return http;
    CLEANUP(arena_done) struct arena arena = { 0 };
    size_t      at = 0, count = jv_count(http);
    struct span id = jv_string(jv_get(jv_get(sim_tool_manifest(sim, tool->tool), "identity"), "id"), &arena);
    find_tool(sim, id, &at);
    size_t used = sim->http_used[at]++;
    return jv_at(http, used < count ? used : count - 1);
}

static void put_reply(struct sim_run *run, struct sim_tool *tool, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv reply = next_reply(run->sim, tool), body = jv_get(reply, "body");
    team_search_outcome((int)sim_number(jv_get(reply, "status"), 200), jv_string(jv_get(reply, "statusText"), &arena), body, w);
}

static void serve(struct sim_run *run, struct sim_tool *tool)
{
    CLEANUP(buf_done) struct buf outcome = { 0 };
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jw w = jw_on(&outcome);
    struct jv behaviour = jv_get(tool->tool, "behaviour");
    if (has(behaviour, "throw")) {
        struct sim_thrown  thrown = sim_thrown_of(run->sim, jv_get(behaviour, "throw"));
        struct team_thrown value = { json_read(thrown.json, &arena), thrown.is_error };
        if (has(tool->tool, "vercel"))
            team_outcome_vercel(&value, &w);
        else
            team_outcome_thrown(&value, &w);
    } else if (has(behaviour, "http"))
        put_reply(run, tool, &w);
    else
        put_success(run, tool, behaviour, &w);
    tool_ends(run, tool, buf_view(&outcome));
}

static void code_timed_out(struct sim_run *run, struct sim_tool *tool)
{
    CLEANUP(buf_done) struct buf outcome = { 0 }, message = { 0 }, detail = { 0 };
    struct jw w = jw_on(&outcome);
    BUF_LIT(&message, "Code execution exceeded timeout of ");
    json_put_f64(&message, tool->timeout_ms);
    BUF_LIT(&message, "ms.");
    BUF_LIT(&detail, "{\"timeoutMs\":");
    json_put_f64(&detail, tool->timeout_ms);
    BUF_LIT(&detail, "}");
    team_outcome_error("timeout", buf_view(&message), true, buf_view(&detail), &w);
    tool_ends(run, tool, buf_view(&outcome));
}

void sim_tool_timer(struct sim_run *run, struct sim_tool *tool, enum sim_timer_kind kind)
{
    if (!tool->open)
        return; /* its execution ran over the limit, or was cancelled */
    if (kind == SIM_TOOL_LIMIT)
        code_timed_out(run, tool);
    else
        serve(run, tool);
}

void sim_tools_abort(struct sim_run *run)
{
    for (struct sim_tool *tool = run->tools; tool; tool = tool->next) {
        if (!tool->open || builtin_of(tool->tool) != BUILTIN_CODE_EXEC)
            continue;
        CLEANUP(buf_done) struct buf outcome = { 0 };
        struct jw w = jw_on(&outcome);
        team_outcome_error("aborted", SPAN("Code execution was aborted."), true, SPAN_NONE, &w);
        tool_ends(run, tool, buf_view(&outcome));
    }
}

/* ---- start ---- */

static struct sim_tool *tool_new(struct sim_run *run, const struct effect *fx)
{
    struct sim      *sim = run->sim;
    struct sim_tool *tool = ARENA_NEW(sim->arena, struct sim_tool);
    size_t           index = 0;
    *tool = (struct sim_tool){ .op = fx->op, .open = true, .timeout_ms = -1 };
    tool->call = fx->op.v[0] & 0xfffffff;
    tool->index = fx->op.v[1] & 0xfffffff;
    tool->tool = find_tool(sim, fx->tool.tool, &index);
    tool->input = json_read(arena_copy(sim->arena, fx->tool.arguments), sim->arena);
    tool->context = json_read(arena_copy(sim->arena, fx->tool.context), sim->arena);
    struct sim_tool **end = &run->tools;
    while (*end)
        end = &(*end)->next;
    *end = tool;
    return tool;
}

static void begin_search(struct sim_run *run, struct sim_tool *tool)
{
    CLEANUP(buf_done) struct buf url = { 0 }, text = { 0 };
    team_search_url(jv_get(tool->tool, "options"), tool->input, &url);
    json_put_string(&text, buf_view(&url));
    sim_list_add(&run->sim->urls, buf_view(&text));
}

/* The limit is set before the sandbox begins, so it comes first when both are due at once. */
static void begin_code(struct sim_run *run, struct sim_tool *tool)
{
    struct jv own = jv_get(tool->input, "timeoutMs");
    tool->timeout_ms = sim_number(own, sim_number(jv_get(jv_get(tool->tool, "options"), "defaultTimeoutMs"), -1));
    if (tool->timeout_ms >= 0)
        sim_timer(run, SIM_TOOL_LIMIT, tool->timeout_ms, tool, tool->stamp);
}

void sim_tool_start(struct sim_run *run, const struct effect *fx)
{
    CLEANUP(buf_done) struct buf outcome = { 0 };
    struct jw        w = jw_on(&outcome);
    struct sim_tool *tool = tool_new(run, fx);
    team_trace_tool(&run->trace, tool->call, tool->index, fx->tool.arguments, fx->tool.context, sim_wall(run->sim));
    sim_publish(run);
    if (refuses(tool->tool, tool->input, &w)) {
        tool_ends(run, tool, buf_view(&outcome));
        return;
    }
    if (run->aborted && builtin_of(tool->tool) == BUILTIN_CODE_EXEC) {
        team_outcome_error("aborted", SPAN("Code execution was aborted before the sandbox started."), true, SPAN_NONE, &w);
        tool_ends(run, tool, buf_view(&outcome));
        return;
    }
    if (builtin_of(tool->tool) == BUILTIN_WEB_SEARCH)
        begin_search(run, tool);
    if (builtin_of(tool->tool) == BUILTIN_CODE_EXEC)
        begin_code(run, tool);
    sim_timer(run, SIM_TOOL, sim_number(jv_get(jv_get(tool->tool, "behaviour"), "latencyMs"), 0), tool, tool->stamp);
}
