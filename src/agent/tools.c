/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - which tools the model sees, and whether what it passes to them fits. */
#include "agent/state.h"
#include "base/json_schema.h"

static bool is_pattern(const struct agent_tool *tool)
{
    return tool->kind == KIND_SERVER && tool->name.n > 2 && tool->name.p[tool->name.n - 1] == '*';
}

/* "files.*" stands for "files.read". */
static bool stands_for(const struct agent_tool *tool, struct span name)
{
    size_t stem = tool->name.n - 1;
    if (!is_pattern(tool))
        return span_eq(tool->name, name);
    return name.n > stem && memcmp(name.p, tool->name.p, stem) == 0;
}

static void tools_append(struct machine *m, const struct agent_tool *tool)
{
    /* The model could not tell them apart; the first one stays. */
    if (m->tool_count < AGENT_CONTRACTS_MAX && !agent_tools_find(m, tool->shown))
        m->tools[m->tool_count++] = *tool;
}

/* The definition has the last word about what the model reads; an approval that either asks for is asked for. */
static void append_listed(struct machine *m, const struct agent_tool *named, struct jv contract)
{
    struct agent_tool tool = *named;
    struct jv schema = jv_get(contract, "input_schema");

    tool.name = arena_copy(m->arena, jv_string(jv_get(contract, "name"), m->arena));
    tool.shown = agent_shown(tool.name, m->arena);
    tool.approval = named->approval || jv_bool(jv_get(contract, "approval"), false);
    tool.repeat_safe = named->repeat_safe || jv_bool(jv_get(contract, "repeat_safe"), false);
    if (!tool.description.n && jv_is(jv_get(contract, "description"), JSON_STRING))
        tool.description = jv_string(jv_get(contract, "description"), m->arena);
    if (jv_is(tool.parameters, JSON_NONE) && jv_is(schema, JSON_OBJECT)) {
        tool.parameters = schema;
        tool.checks = agent_schema_checks(schema);
    }
    tools_append(m, &tool);
}

static void tools_write(struct machine *m)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);

    jw_arr(&w);
    for (uint32_t i = 0; i < m->tool_count; i++) {
        const struct agent_tool *tool = &m->tools[i];
        jw_obj(&w);
        jw_key(&w, "name");
        jw_str(&w, tool->shown);
        if (tool->description.n) {
            jw_key(&w, "description");
            jw_str(&w, tool->description);
        }
        jw_key(&w, "parameters");
        jw_raw(&w, jv_is(tool->parameters, JSON_NONE) ? SPAN("{\"type\":\"object\"}") : jv_raw(tool->parameters));
        jw_end(&w);
    }
    jw_arr_end(&w);
    m->tools_json = m->tool_count ? arena_copy(m->arena, buf_view(&text)) : SPAN_NONE;
}

void agent_tools_resolve(struct machine *m)
{
    const struct agent *a = m->agent;
    struct jv listed = jv_get(json_read(m->listed, m->arena), "tools");

    m->tools = ARENA_ARRAY(m->arena, struct agent_tool, a->tool_count + jv_count(listed) + 1);
    m->tool_count = 0;
    for (uint32_t i = 0; i < a->tool_count; i++) {
        const struct agent_tool *tool = &a->tools[i];
        if (tool->kind != KIND_SERVER) {
            tools_append(m, tool);
            continue;
        }
        for (struct jv_iter it = jv_iter(listed); jv_is(listed, JSON_ARRAY) && jv_step(&it);) {
            struct span name = jv_string(jv_get(it.value, "name"), m->arena);
            if (name.n > 0 && name.n <= AGENT_NAME_MAX && stands_for(tool, name))
                append_listed(m, tool, it.value);
        }
    }
    tools_write(m);
}

const struct agent_tool *agent_tools_find(const struct machine *m, struct span shown)
{
    for (uint32_t i = 0; i < m->tool_count; i++)
        if (span_eq(m->tools[i].shown, shown))
            return &m->tools[i];
    return NULL;
}

struct span agent_tools_wanted(const struct agent *agent, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);

    jw_obj(&w);
    jw_key(&w, "tools");
    jw_arr(&w);
    for (uint32_t i = 0; i < agent->tool_count; i++)
        if (agent->tools[i].kind == KIND_SERVER)
            jw_str(&w, agent->tools[i].name);
    jw_arr_end(&w);
    jw_end(&w);
    return arena_copy(arena, buf_view(&text));
}

/* ---- arguments ---- */

enum { ARGUMENTS_DEPTH = 64 };

static const char *misfit(struct jv schema, struct jv value, struct arena *turn)
{
    CLEANUP(buf_done) struct buf at = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    struct issues issues = { .arena = turn };

    if (json_schema_fits(schema, value, &at, &issues))
        return NULL;
    BUF_LIT(&text, "The arguments do not fit the schema of the tool:");
    for (size_t i = 0; i < issues.count && i < 10; i++)
        buf_printf(&text, "%s %.*s %.*s", i ? ";" : "", SPAN_ARG(issues.items[i].pointer),
                   SPAN_ARG(issues.items[i].message));
    return arena_copy(turn, buf_view(&text)).p;
}

/* A question must say something (workflow-runs.md 3.6). */
static bool is_blank(struct jv v, struct arena *turn)
{
    struct span text = jv_string(v, turn);
    size_t i = 0;
    while (i < text.n && (text.p[i] == ' ' || text.p[i] == '\t' || text.p[i] == '\n' || text.p[i] == '\r'))
        i++;
    return i == text.n;
}

static const char *check_value(const struct call *call, struct jv value, struct arena *turn)
{
    const struct agent_tool *tool = call->tool;

    if (!tool)
        return arena_printf(turn, "There is no tool named %.*s.", SPAN_ARG(call->shown)).p;
    if (tool->kind == KIND_CLIENT) /* it judges for itself (workflow-runs.md 3.6) */
        return NULL;
    if (!jv_is(value, JSON_OBJECT))
        return "The arguments must be a JSON object.";
    const char *wrong = tool->checks ? misfit(tool->parameters, value, turn) : NULL;
    if (!wrong && tool->kind == KIND_ASK && is_blank(jv_get(value, "question"), turn))
        return "The question is empty.";
    return wrong;
}

const char *agent_tools_check(struct call *call, struct span written, bool cut, struct arena *arena, struct arena *turn)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct json *doc = ARENA_NEW(turn, struct json);
    struct json_limits limits = { .depth = ARGUMENTS_DEPTH, .lone_surrogates = true };

    if (!written.n && cut)
        return "The answer was cut off before the arguments. Call the tool again.";
    if (json_parse(written.n ? written : SPAN("{}"), &limits, turn, doc, NULL))
        return cut ? "The answer was cut off within the arguments. Call the tool again, with shorter arguments."
                   : "The arguments are not valid JSON.";
    json_minify(json_root(doc), &text);
    call->arguments = arena_copy(arena, buf_view(&text));
    return check_value(call, json_root(doc), turn);
}
