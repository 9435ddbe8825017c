/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - defaults, expanded names, and what can be made once and not in each turn. */
#include "team/plan.h"

const char *const team_protocol_names[TEAM_PROTOCOLS] = { "sequential", "coordinator", "broadcast", "shared" };

struct span team_canonical(struct jv v, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    json_canonical(v, JSON_TEAM_KEYS | JSON_DOUBLES, &out);
    return arena_copy(arena, buf_view(&out));
}

struct span team_canonical_text(struct span json, struct arena *arena)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    return team_canonical(json_read(json, &scratch), arena);
}

static struct span text_or(struct jv v, const char *otherwise, struct arena *arena)
{
    return jv_is(v, JSON_STRING) ? jv_string(v, arena) : span_of(otherwise);
}

/* ---- protocol ---- */

static enum team_protocol protocol_of(struct jv name)
{
    for (unsigned i = 0; i < TEAM_PROTOCOLS; i++)
        if (jv_str_eq(name, team_protocol_names[i]))
            return i;
    return TEAM_SEQUENTIAL;
}

/* A name expands to a config with a limit (teams.md 2.3); a config is recorded as it was given. */
static struct jv expanded(struct jv protocol, struct arena *arena)
{
    if (jv_is(protocol, JSON_OBJECT))
        return protocol;
    enum team_protocol kind = jv_is(protocol, JSON_STRING) ? protocol_of(protocol) : TEAM_SEQUENTIAL;
    const char        *limit = kind == TEAM_BROADCAST ? "\"maxRounds\":2" : "\"maxTurns\":3";
    return json_read(arena_printf(arena, "{\"kind\":\"%s\",%s}", team_protocol_names[kind], limit), arena);
}

/* A cap as a count; absent or beyond all use: `otherwise`. */
static size_t count_of(struct jv v, size_t otherwise)
{
    double number;
    return jv_f64(v, &number) && number < (double)otherwise ? (size_t)number : otherwise;
}

static size_t read_protocol(struct team *team, struct jv definition, struct arena *arena)
{
    struct jv config = expanded(jv_get(definition, "protocol"), arena);
    double    rounds = 2;
    team->protocol = protocol_of(jv_get(config, "kind"));
    team->protocol_json = team_canonical(config, arena);
    bool broadcast = team->protocol == TEAM_BROADCAST;
    jv_f64(jv_get(config, "maxRounds"), &rounds);
    team->rounds = rounds < TEAM_ROUNDS_MAX ? (uint32_t)rounds : TEAM_ROUNDS_MAX;
    team->has_floor = jv_f64(jv_get(config, broadcast ? "minRounds" : "minTurns"), &team->floor);
    team->memory = text_or(jv_get(config, "organizationalMemory"), "", arena);
    return broadcast ? TEAM_AGENTS_MAX : count_of(jv_get(config, "maxTurns"), TEAM_AGENTS_MAX);
}

/* ---- agents ---- */

static const char default_agents[] =
    "[{\"id\":\"agent-1\",\"role\":\"planner\",\"instructions\":\"Frame the mission and identify the important constraints.\"},"
    "{\"id\":\"agent-2\",\"role\":\"critic\",\"instructions\":\"Stress-test the previous contribution and improve weak spots.\"},"
    "{\"id\":\"agent-3\",\"role\":\"synthesizer\",\"instructions\":\"Produce the final useful answer from the accumulated work.\"}]";

static struct span agents_json(const struct team *team, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_arr(&w);
    for (size_t i = 0; i < team->agent_count; i++)
        jw_raw(&w, team->agents[i].json);
    jw_arr_end(&w);
    return arena_copy(arena, buf_view(&out));
}

static void read_agents(struct team *team, struct jv definition, size_t active, struct arena *arena)
{
    struct jv list = jv_get(definition, "agents");
    if (jv_kind(list) == JSON_NONE)
        list = json_read(span_of(default_agents), arena);
    size_t count = 0;
    team->agents = ARENA_ARRAY(arena, struct team_agent, jv_count(list));
    for (struct jv_iter it = jv_iter(list); jv_step(&it);)
        team->agents[count++] = (struct team_agent){ .id = jv_string(jv_get(it.value, "id"), arena),
                                                     .role = jv_string(jv_get(it.value, "role"), arena),
                                                     .instructions = text_or(jv_get(it.value, "instructions"), "", arena),
                                                     .json = team_canonical(it.value, arena) };
    team_order(team->agents, count, team->temperature, jv_get(definition, "seed"));
    team->agent_count = count < active ? count : active;
    team->agents_json = agents_json(team, arena);
}

/* ---- tools ---- */

static void copy_text(struct jw *w, struct jv from, const char *name)
{
    struct jv v = jv_get(from, name);
    if (!jv_is(v, JSON_STRING) || jv_raw(v).n <= 2)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static void copy_member(struct jw *w, struct jv from, const char *name)
{
    struct jv v = jv_get(from, name);
    if (jv_kind(v) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static void put_permission(struct jw *w, struct jv permission)
{
    struct jv kind = jv_get(permission, "kind");
    jw_obj(w);
    copy_member(w, permission, "kind");
    if (jv_str_eq(kind, "network")) {
        copy_member(w, permission, "allowHosts");
        copy_member(w, permission, "allowPrivateNetwork");
    } else if (jv_str_eq(kind, "code-execution")) {
        copy_member(w, permission, "sandbox");
        copy_member(w, permission, "languages");
        copy_member(w, permission, "allowNetwork");
    } else {
        copy_member(w, permission, "name");
        copy_text(w, permission, "description");
        copy_member(w, permission, "metadata");
    }
    jw_end(w);
}

/* What a model is told about a tool (teams.md 12.2). */
static void put_manifest(struct jw *w, struct jv tool)
{
    struct jv identity = jv_get(tool, "identity"), schema = jv_get(tool, "inputSchema");
    jw_obj(w);
    jw_key(w, "identity"), jw_obj(w);
    copy_member(w, identity, "id");
    copy_member(w, identity, "name");
    copy_text(w, identity, "namespace");
    copy_text(w, identity, "version");
    copy_text(w, identity, "description");
    jw_end(w);
    jw_key(w, "inputSchema"), jw_obj(w);
    copy_member(w, schema, "kind");
    copy_member(w, schema, "schema");
    copy_text(w, schema, "description");
    jw_end(w);
    jw_key(w, "permissions"), jw_arr(w);
    for (struct jv_iter it = jv_iter(jv_get(tool, "permissions")); jv_step(&it);)
        put_permission(w, it.value);
    jw_arr_end(w);
    jw_end(w);
}

static void read_tools(struct team *team, struct jv list, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    team->tools = ARENA_ARRAY(arena, struct team_tool, jv_count(list));
    jw_arr(&w);
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct jv identity = jv_get(it.value, "identity");
        team->tools[team->tool_count++] =
            (struct team_tool){ jv_string(jv_get(identity, "id"), arena), team_canonical(identity, arena) };
        put_manifest(&w, it.value);
    }
    jw_arr_end(&w);
    if (team->tool_count)
        team->tools_json = team_canonical_text(buf_view(&out), arena);
}

/* ---- budget and termination ---- */

/* {"kind":"budget"} and the caps that are there (teams.md 10.1). */
static struct jv condition_from(struct jv budget, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    jw_key(&w, "kind"), jw_cstr(&w, "budget");
    copy_member(&w, budget, "maxUsd");
    copy_member(&w, budget, "maxTokens");
    copy_member(&w, budget, "maxIterations");
    copy_member(&w, budget, "timeoutMs");
    jw_end(&w);
    return json_read(arena_copy(arena, buf_view(&out)), arena);
}

static void read_limits(struct team *team, struct jv definition, struct arena *arena)
{
    struct jv budget = jv_get(definition, "budget"), terminate = jv_get(definition, "terminate");
    if (jv_kind(terminate) != JSON_NONE)
        team->terminate = terminate;
    else if (jv_kind(budget) != JSON_NONE)
        team->terminate = condition_from(budget, arena);
    if (jv_kind(budget) != JSON_NONE)
        team->budget_json = team_canonical(budget, arena);
    if (jv_kind(team->terminate) != JSON_NONE)
        team->terminate_json = team_canonical(team->terminate, arena);
    team_caps_add(&team->effective, budget);
    team_caps_add(&team->effective, team->terminate);
    team->has_limit = team->effective.has[CAP_TIMEOUT];
    team->limit_ms = team->effective.value[CAP_TIMEOUT];
}

/* ---- the rest ---- */

static double tier_temperature(struct span tier)
{
    return span_is(tier, "fast") ? 0 : span_is(tier, "quality") ? 0.4 : 0.2;
}

static struct span json_or_empty(struct jv v, enum json_kind kind, struct arena *arena)
{
    return jv_is(v, kind) ? team_canonical(v, arena) : SPAN_NONE;
}

static void read_model(struct team *team, struct jv model, struct arena *arena)
{
    team->provider = text_or(jv_get(model, "provider"), "", arena);
    team->model = text_or(jv_get(model, "model"), "", arena);
    team->provider_id = jv_is(jv_get(model, "id"), JSON_STRING) ? jv_string(jv_get(model, "id"), arena) : team->provider;
    team->stream = jv_bool(jv_get(model, "stream"), false);
    team->retry = json_or_empty(jv_get(model, "retry"), JSON_OBJECT, arena);
    team->max_tokens = json_or_empty(jv_get(model, "max_tokens"), JSON_NUMBER, arena);
    if (jv_is(jv_get(model, "script"), JSON_OBJECT) || jv_count(jv_get(model, "script")) > 0)
        team->script = jv_get(model, "script");
}

void team_read(struct jv definition, struct arena *arena, struct team *ret)
{
    *ret = (struct team){ .hint = jv_get(definition, "wrapUpHint") };
    ret->tier = text_or(jv_get(definition, "tier"), "balanced", arena);
    if (!jv_f64(jv_get(definition, "temperature"), &ret->temperature))
        ret->temperature = tier_temperature(ret->tier);
    read_model(ret, jv_get(definition, "model"), arena);
    size_t active = read_protocol(ret, definition, arena);
    read_agents(ret, definition, active, arena);
    read_tools(ret, jv_get(definition, "tools"), arena);
    read_limits(ret, definition, arena);
    if (jv_kind(jv_get(definition, "seed")) != JSON_NONE)
        ret->seed_json = team_canonical(jv_get(definition, "seed"), arena);
    ret->evaluate_options = jv_get(definition, "evaluate");
    ret->evaluate = text_or(jv_get(ret->evaluate_options, "tool"), "", arena);
    ret->intent = text_or(jv_get(definition, "intent"), "", arena);
}
