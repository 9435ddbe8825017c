/* SPDX-License-Identifier: Apache-2.0 */
/* definition.c - reads and checks agent definitions; makes and opens the plan (definition.h).
 *
 * One reader serves both: compiling reports what it finds, opening a stored plan calls anything it finds corrupt. */
#include "agent/definition.h"
#include "base/ids.h"
#include "base/json_schema.h"

enum { DEPTH_MAX = 64, STOPS_MAX = 8, PICO_DIGITS = 12, USD_WHOLE_MAX = 1000000 };

struct reading {
    struct arena *arena;
    struct buf *at;
    struct issues *issues;
    unsigned depth; /* agents around this one */
    bool client_mode; /* tools without "by" are the client's */
};

#define ISSUE(r, code, ...) issue_add((r)->issues, buf_view((r)->at), code, __VA_ARGS__)

static size_t enter(struct reading *r, const char *name)
{
    size_t before = r->at->len;
    buf_printf(r->at, "/%s", name);
    return before;
}

static size_t enter_index(struct reading *r, size_t index)
{
    size_t before = r->at->len;
    buf_printf(r->at, "/%zu", index);
    return before;
}

static void leave(struct reading *r, size_t before)
{
    r->at->len = before;
}

#define ISSUE_AT(r, name, code, ...)               \
    do {                                           \
        size_t issue_before_ = enter((r), (name)); \
        ISSUE((r), (code), __VA_ARGS__);           \
        leave((r), issue_before_);                 \
    } while (0)

/* ---- plain members: null is as good as absent ---- */

static struct jv member(struct jv object, const char *name)
{
    struct jv v = jv_get(object, name);
    return jv_is(v, JSON_NULL) ? (struct jv){ 0 } : v;
}

static bool absent(struct jv v)
{
    return jv_is(v, JSON_NONE);
}

static int64_t read_int(struct reading *r, struct jv object, const char *name, int64_t def, int64_t low, int64_t high)
{
    struct jv v = member(object, name);
    int64_t n = def;

    if (absent(v))
        return def;
    if (!jv_i64(v, &n))
        ISSUE_AT(r, name, "type", "must be an integer");
    else if (n < low || n > high)
        ISSUE_AT(r, name, "range", "must be from %lld to %lld", (long long)low, (long long)high);
    else
        return n;
    return def;
}

static bool read_bool(struct reading *r, struct jv object, const char *name, bool def)
{
    struct jv v = member(object, name);
    if (!absent(v) && !jv_is(v, JSON_TRUE) && !jv_is(v, JSON_FALSE))
        ISSUE_AT(r, name, "type", "must be true or false");
    return jv_bool(v, def);
}

/* Empty when there is none. */
static struct span read_text(struct reading *r, struct jv object, const char *name, bool required)
{
    struct jv v = member(object, name);
    struct span text = SPAN_NONE;

    if (absent(v)) {
        if (required)
            ISSUE_AT(r, name, "required", "is required");
    } else if (!jv_is(v, JSON_STRING)) {
        ISSUE_AT(r, name, "type", "must be a string");
    } else if ((text = jv_string(v, r->arena)).n == 0 && required) {
        ISSUE_AT(r, name, "range", "must not be empty");
    }
    return text;
}

static struct jv read_kind(struct reading *r, struct jv object, const char *name, enum json_kind kind)
{
    struct jv v = member(object, name);
    if (absent(v) || jv_is(v, kind))
        return v;
    ISSUE_AT(r, name, "type", kind == JSON_OBJECT ? "must be an object" : "must be an array");
    return (struct jv){ 0 };
}

/* The place of the text in `names`; `def` when it is not there. */
static uint32_t read_enum(struct reading *r, struct jv object, const char *name, const char *const *names, uint32_t def)
{
    CLEANUP(buf_done) struct buf list = { 0 };
    struct jv v = member(object, name);
    uint32_t i;

    if (absent(v))
        return def;
    for (i = 0; names[i]; i++) {
        if (jv_str_eq(v, names[i]))
            return i;
        buf_printf(&list, "%s%s", i ? names[i + 1] ? ", " : " or " : "", names[i]);
    }
    ISSUE_AT(r, name, "enum", "must be %.*s", SPAN_ARG(buf_view(&list)));
    return def;
}

static bool is_one_of(struct span name, const char *const *names)
{
    while (*names && !span_is(name, *names))
        names++;
    return *names;
}

static void refuse_unknown(struct reading *r, struct jv object, const char *const *known)
{
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct span name = jv_string(it.name, r->arena);
        size_t before = r->at->len;
        if (is_one_of(name, known))
            continue;
        json_pointer_push(r->at, name);
        ISSUE(r, "unknown_member", "is not known here");
        leave(r, before);
    }
}

/* ---- model ---- */

static void read_temperature(struct reading *r, struct jv model)
{
    struct jv v = member(model, "temperature");
    double d;
    if (absent(v))
        return;
    if (!jv_is(v, JSON_NUMBER) || !jv_f64(v, &d))
        ISSUE_AT(r, "temperature", "type", "must be a number");
    else if (!(d >= 0 && d <= 2))
        ISSUE_AT(r, "temperature", "range", "must be from 0 to 2");
}

static void read_stops(struct reading *r, struct jv model)
{
    struct jv stops = read_kind(r, model, "stop", JSON_ARRAY);
    bool fine = true;

    for (struct jv_iter it = jv_iter(stops); jv_step(&it);)
        fine = fine && jv_is(it.value, JSON_STRING) && !jv_str_eq(it.value, "");
    if (!fine)
        ISSUE_AT(r, "stop", "type", "must be a list of texts that are not empty");
    else if (jv_count(stops) > STOPS_MAX)
        ISSUE_AT(r, "stop", "limit", "must hold at most %d texts", STOPS_MAX);
}

static void read_model(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "provider", "model",  "temperature", "max_tokens", "reasoning_effort",
                                         "stop",     "script", "stream",      NULL };
    static const char *const efforts[] = { "low", "medium", "high", NULL };
    struct jv model = read_kind(r, definition, "model", JSON_OBJECT);
    size_t before = enter(r, "model");

    a->settings = model;
    if (absent(member(definition, "model"))) {
        ISSUE(r, "required", "is required");
    } else if (!absent(model)) {
        a->provider = read_text(r, model, "provider", true);
        a->model = read_text(r, model, "model", true);
        a->stream = read_bool(r, model, "stream", true);
        read_temperature(r, model);
        read_stops(r, model);
        (void)read_int(r, model, "max_tokens", 0, 1, INT32_MAX);
        (void)read_enum(r, model, "reasoning_effort", efforts, 0);
        refuse_unknown(r, model, known);
    }
    leave(r, before);
}

/* ---- tools ---- */

/* Contracts of what the host itself does in the commit of the call (machine.h, TOOL_BY_LOCAL), and of user_ask
 * (workflow-runs.md 3.6). */
static const struct local {
    const char *name, *description, *parameters;
} locals[] = {
    { "kv_read", "Reads a value that was stored under a key.",
      "{\"type\":\"object\",\"properties\":{\"key\":{\"type\":\"string\"}},\"required\":[\"key\"]}" },
    { "kv_write", "Stores a value under a key.",
      "{\"type\":\"object\",\"properties\":{\"key\":{\"type\":\"string\"},\"value\":{},"
      "\"ttl_seconds\":{\"type\":\"integer\",\"minimum\":1}},"
      "\"required\":[\"key\",\"value\"]}" },
    { "kv_list", "Lists the keys that are stored.",
      "{\"type\":\"object\",\"properties\":{\"prefix\":{\"type\":\"string\"}}}" },
    { "kv_delete", "Deletes a key and its value.",
      "{\"type\":\"object\",\"properties\":{\"key\":{\"type\":\"string\"}},\"required\":[\"key\"]}" },
    { "tasks_write", "Replaces the list of tasks.",
      "{\"type\":\"object\",\"properties\":{\"tasks\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
      "\"content\":{\"type\":\"string\"},\"status\":{\"enum\":[\"pending\",\"in_progress\",\"completed\"]}},"
      "\"required\":[\"content\",\"status\"]}}},\"required\":[\"tasks\"]}" },
    { "memory_write", "Remembers something for later.",
      "{\"type\":\"object\",\"properties\":{\"key\":{\"type\":\"string\"},\"content\":{\"type\":\"string\"}},"
      "\"required\":[\"content\"]}" },
    { "user_ask", "Asks the user a question and waits for the answer.",
      "{\"type\":\"object\",\"properties\":{\"question\":{\"type\":\"string\",\"minLength\":1},\"options\":{\"type\":\"array\","
      "\"items\":{\"type\":\"object\",\"properties\":{\"label\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"}},"
      "\"required\":[\"label\"]}},\"allow_freeform\":{\"type\":\"boolean\"}},\"required\":[\"question\"]}" },
};
static const char agent_parameters[] =
    "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":\"what to do, in words\"}},"
    "\"required\":[\"input\"]}";

static const struct local *local_find(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(locals); i++)
        if (span_is(name, locals[i].name))
            return &locals[i];
    return NULL;
}

static bool plain_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

struct span agent_shown(struct span name, struct arena *arena)
{
    struct span shown = { name.p, name.n < AGENT_SHOWN_MAX ? name.n : AGENT_SHOWN_MAX };
    char *p = (char *)arena_copy(arena, shown).p;
    for (size_t i = 0; i < shown.n; i++)
        if (!plain_byte(p[i]))
            p[i] = '_';
    return span_make(p, shown.n);
}

bool agent_schema_checks(struct jv schema)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf at = { 0 };
    struct issues issues = { .arena = &scratch };

    if (!jv_is(schema, JSON_OBJECT))
        return false;
    json_schema_check(schema, &at, &issues);
    return issues.count == 0;
}

static bool is_pattern(struct span name)
{
    return name.n > 2 && name.p[name.n - 1] == '*' && name.p[name.n - 2] == '.';
}

static void check_tool_name(struct reading *r, const struct agent_tool *tool)
{
    struct span stem = { tool->name.p, tool->name.n - (is_pattern(tool->name) ? 2 : 0) };
    bool fine = stem.n > 0 && tool->name.n <= AGENT_NAME_MAX;

    for (size_t i = 0; fine && i < stem.n; i++)
        fine = plain_byte(stem.p[i]) || stem.p[i] == '.' || stem.p[i] == '/';
    if (!fine)
        ISSUE(r, "pattern", "must be 1 to %d letters, digits and any of _ - . /; SERVER.* names all tools of a server",
              AGENT_NAME_MAX);
    else if (is_pattern(tool->name) && tool->kind != KIND_SERVER)
        ISSUE(r, "pattern", "only tools of the server can be named by a pattern");
}

static void read_default_contract(struct reading *r, struct agent_tool *tool)
{
    const struct local *local = local_find(tool->name);

    if (tool->kind == KIND_LOCAL || tool->kind == KIND_ASK) {
        if (!tool->description.n)
            tool->description = span_of(local->description);
        if (absent(tool->parameters) || tool->kind == KIND_ASK)
            tool->parameters = json_read(span_of(local->parameters), r->arena);
    }
    if ((tool->kind == KIND_AGENT || tool->kind == KIND_CHILD) && absent(tool->parameters)) {
        tool->parameters = json_read(span_of(agent_parameters), r->arena);
        tool->wraps_input = true;
    }
    tool->checks = agent_schema_checks(tool->parameters);
}

static enum tool_kind kind_by(struct reading *r, struct jv v, struct span name)
{
    static const char *const bys[] = { "server", "client", "local", NULL };
    const struct local *local = local_find(name);
    uint32_t by = read_enum(r, v, "by", bys, r->client_mode ? 1 : local ? 2 : 0);

    if (span_is(name, "user_ask"))
        return KIND_ASK;
    if (by == 2 && !local)
        ISSUE_AT(r, "name", "unknown_tool", "there is no local tool of this name");
    if (by == 2)
        return local ? KIND_LOCAL : KIND_SERVER;
    return by == 1 ? KIND_CLIENT : KIND_SERVER;
}

static const struct agent *read_agent(struct reading *r, struct jv definition);

/* Another agent, in this run or in one of its own. */
static bool read_agent_tool(struct reading *r, struct jv v, struct agent_tool *tool)
{
    struct jv agent = read_kind(r, v, "agent", JSON_OBJECT);
    struct span id = read_text(r, v, "agent_id", false);

    if (absent(agent) && !id.n)
        return false;
    tool->kind = absent(agent) ? KIND_CHILD : KIND_AGENT;
    tool->agent_id = id;
    if (!absent(agent) && id.n)
        ISSUE_AT(r, "agent_id", "conflict", "a tool is an agent or names one, not both");
    if (!absent(member(v, "by")))
        ISSUE_AT(r, "by", "conflict", "an agent is run by the server");
    if (absent(agent))
        return true;
    size_t before = enter(r, "agent");
    if (r->depth >= AGENT_NEST_MAX)
        ISSUE(r, "limit", "agents are nested deeper than %d", AGENT_NEST_MAX);
    else
        tool->agent = read_agent(r, agent);
    leave(r, before);
    return true;
}

static void read_tool_object(struct reading *r, struct jv v, struct agent_tool *tool)
{
    static const char *const known[] = { "name",        "description", "parameters", "by",
                                         "approval",    "agent",       "agent_id",   "repeat_safe", NULL };
    tool->name = read_text(r, v, "name", true);
    tool->description = read_text(r, v, "description", false);
    tool->parameters = read_kind(r, v, "parameters", JSON_OBJECT);
    tool->approval = read_bool(r, v, "approval", false);
    tool->repeat_safe = read_bool(r, v, "repeat_safe", false);
    if (!read_agent_tool(r, v, tool))
        tool->kind = kind_by(r, v, tool->name);
    if (tool->kind == KIND_ASK && tool->approval)
        ISSUE_AT(r, "approval", "conflict", "a question needs no approval");
    refuse_unknown(r, v, known);
}

static void read_tool(struct reading *r, struct jv v, struct agent_tool *tool)
{
    if (jv_is(v, JSON_OBJECT)) {
        read_tool_object(r, v, tool);
    } else if (jv_is(v, JSON_STRING)) {
        tool->name = jv_string(v, r->arena);
        tool->kind = kind_by(r, (struct jv){ 0 }, tool->name);
    } else {
        ISSUE(r, "type", "must be the name of a tool or an object");
        return;
    }
    size_t before = jv_is(v, JSON_OBJECT) ? enter(r, "name") : r->at->len;
    if (jv_is(v, JSON_STRING) || tool->name.n)
        check_tool_name(r, tool);
    leave(r, before);
    tool->shown = agent_shown(tool->name, r->arena);
    read_default_contract(r, tool);
}

static void refuse_duplicate(struct reading *r, const struct agent *a)
{
    const struct agent_tool *last = &a->tools[a->tool_count - 1];
    for (uint32_t i = 0; last->name.n && i + 1 < a->tool_count; i++)
        if (span_eq(a->tools[i].shown, last->shown)) {
            ISSUE(r, "duplicate", "the model would see two tools named %.*s", SPAN_ARG(last->shown));
            return;
        }
}

static void read_tools(struct reading *r, struct jv definition, struct agent *a)
{
    struct jv tools = read_kind(r, definition, "tools", JSON_ARRAY);
    size_t outer = enter(r, "tools"), count = jv_count(tools);

    if (count > AGENT_TOOLS_MAX)
        ISSUE(r, "limit", "must hold at most %d tools", AGENT_TOOLS_MAX);
    else if (count > 0)
        a->tools = ARENA_ARRAY(r->arena, struct agent_tool, count);
    for (struct jv_iter it = jv_iter(tools); a->tools && jv_step(&it);) {
        size_t before = enter_index(r, a->tool_count);
        struct agent_tool *tool = &a->tools[a->tool_count++];
        read_tool(r, it.value, tool);
        refuse_duplicate(r, a);
        a->lists = a->lists || tool->kind == KIND_SERVER;
        leave(r, before);
    }
    leave(r, outer);
}

/* A name is checked against the listing when it is used: it may be that of a listed tool. */
static void read_tool_choice(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "name", NULL };
    static const char *const choices[] = { "auto", "required", "none", NULL };
    struct jv choice = member(definition, "tool_choice");

    a->tool_choice = choice;
    if (jv_is(choice, JSON_OBJECT)) {
        size_t before = enter(r, "tool_choice");
        (void)read_text(r, choice, "name", true);
        refuse_unknown(r, choice, known);
        leave(r, before);
        a->choice_forces = true;
    } else {
        a->choice_forces = read_enum(r, definition, "tool_choice", choices, 0) == 1;
    }
    if (a->choice_forces && a->tool_count == 0)
        ISSUE_AT(r, "tool_choice", "conflict", "there are no tools to choose from");
}

/* ---- limits, output, memory, money ---- */

static void read_limits(struct reading *r, struct jv definition, bool agentic, struct agent *a)
{
    static const char *const known[] = { "max_steps",   "max_tool_steps",  "max_tool_calls_per_step",
                                         "wait_ttl_ms", "approval_ttl_ms", NULL };
    struct jv limits = read_kind(r, definition, "limits", JSON_OBJECT);
    size_t before = enter(r, "limits");

    a->max_tool_steps = (uint32_t)read_int(r, limits, "max_tool_steps", agentic ? 10 : 0, 1, AGENT_STEPS_MAX);
    a->max_steps = (uint32_t)read_int(r, limits, "max_steps", a->max_tool_steps ? (int64_t)a->max_tool_steps + 1 : 20, 1,
                                      AGENT_STEPS_MAX);
    a->max_calls = (uint32_t)read_int(r, limits, "max_tool_calls_per_step", 16, 1, AGENT_CALLS_MAX);
    a->wait_us = (uint64_t)read_int(r, limits, "wait_ttl_ms", 900000, 1, AGENT_MS_MAX) * 1000;
    a->approval_us = (uint64_t)read_int(r, limits, "approval_ttl_ms", 0, 1, AGENT_MS_MAX) * 1000;
    if (!absent(limits))
        refuse_unknown(r, limits, known);
    leave(r, before);
}

static void read_output(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "schema", "name", "repairs", "check", NULL };
    struct jv output = read_kind(r, definition, "output", JSON_OBJECT);
    size_t before = enter(r, "output");

    if (!absent(output)) {
        a->schema = read_kind(r, output, "schema", JSON_OBJECT);
        a->schema_name = read_text(r, output, "name", false);
        a->repairs = (uint32_t)read_int(r, output, "repairs", 2, 0, 10);
        a->checks_output = read_bool(r, output, "check", true);
        if (!a->schema_name.n)
            a->schema_name = SPAN("output");
        if (absent(member(output, "schema"))) {
            ISSUE_AT(r, "schema", "required", "is required");
        } else if (!absent(a->schema) && a->checks_output) {
            size_t inside = enter(r, "schema");
            json_schema_check(a->schema, r->at, r->issues);
            leave(r, inside);
        }
        refuse_unknown(r, output, known);
    }
    leave(r, before);
}

static void read_memory(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "thread", "max_messages", "max_chars", NULL };
    struct jv memory = read_kind(r, definition, "memory", JSON_OBJECT);
    size_t before = enter(r, "memory");

    a->memory = read_bool(r, memory, "thread", false);
    a->max_messages = (uint32_t)read_int(r, memory, "max_messages", 200, 1, 100000);
    a->max_chars = (uint64_t)read_int(r, memory, "max_chars", 0, 1, INT32_MAX);
    if (!absent(memory))
        refuse_unknown(r, memory, known);
    leave(r, before);
}

/* Shape only: what the members mean is the host's business (model/retry.h). */
static void read_retry(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "max_attempts", "base_delay_ms", "max_delay_ms", "jitter", "retry_on", NULL };
    struct jv retry = read_kind(r, definition, "retry", JSON_OBJECT);
    size_t before = enter(r, "retry");

    if (!absent(retry)) {
        (void)read_int(r, retry, "max_attempts", 1, 1, 100);
        (void)read_int(r, retry, "base_delay_ms", 0, 0, AGENT_MS_MAX);
        (void)read_int(r, retry, "max_delay_ms", 0, 0, AGENT_MS_MAX);
        (void)read_bool(r, retry, "jitter", true);
        for (struct jv_iter it = jv_iter(read_kind(r, retry, "retry_on", JSON_ARRAY)); jv_step(&it);)
            if (!jv_is(it.value, JSON_STRING))
                ISSUE_AT(r, "retry_on", "type", "must be a list of texts");
        refuse_unknown(r, retry, known);
        a->retry = jv_raw(retry);
    }
    leave(r, before);
}

/* "12.5" to 12500000000000; -1 when it is no such number. */
static int64_t pico_of(struct span text)
{
    int64_t whole = 0, part = 0;
    size_t i = 0, digits = 0;

    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9' && whole <= USD_WHOLE_MAX; i++)
        whole = whole * 10 + (text.p[i] - '0');
    if (i == 0 || whole > USD_WHOLE_MAX)
        return -1;
    if (i < text.n && text.p[i++] != '.')
        return -1;
    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9' && digits < PICO_DIGITS; i++, digits++)
        part = part * 10 + (text.p[i] - '0');
    if (i < text.n || text.p[i - 1] == '.')
        return -1;
    for (; digits < PICO_DIGITS; digits++)
        part *= 10;
    return whole * INT64_C(1000000000000) + part;
}

static void read_budget(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "usd", "tokens", "model_calls", "tool_calls", "seconds", NULL };
    static const char *const breaches[] = { "fail", "stop", "ask", NULL };
    struct jv budget = read_kind(r, definition, "budget", JSON_OBJECT), usd = member(budget, "usd");
    uint32_t breach = read_enum(r, definition, "on_budget", breaches, BUDGET_STOP);
    size_t before = enter(r, "budget");

    a->budget.on_breach = (enum budget_breach)breach;
    a->fails_at_budget = !absent(member(definition, "on_budget")) && breach == BUDGET_FAIL;
    a->budget.tokens = (uint64_t)read_int(r, budget, "tokens", 0, 1, INT64_MAX);
    a->budget.model_calls = (uint64_t)read_int(r, budget, "model_calls", 0, 1, INT32_MAX);
    a->budget.tool_calls = (uint64_t)read_int(r, budget, "tool_calls", 0, 1, INT32_MAX);
    a->budget.seconds = (uint64_t)read_int(r, budget, "seconds", 0, 1, AGENT_MS_MAX / 1000);
    if (!absent(usd)) {
        a->budget.usd = pico_of(jv_is(usd, JSON_STRING) ? jv_string(usd, r->arena) : jv_raw(usd));
        if (a->budget.usd <= 0)
            ISSUE_AT(r, "usd", "range", "must be a decimal above 0, at most %d, with at most %d places", USD_WHOLE_MAX,
                     PICO_DIGITS);
    }
    if (!absent(budget))
        refuse_unknown(r, budget, known);
    leave(r, before);
}

/* ---- the whole ---- */

static void read_members(struct reading *r, struct jv definition, struct agent *a)
{
    static const char *const known[] = { "system", "model",    "tools",  "tool_choice", "parallel_tool_calls", "tool_mode",
                                         "limits", "on_limit", "output", "memory",      "retry",               "budget",
                                         "on_budget", "output_form", "description", "metadata", NULL };
    static const char *const modes[] = { "server", "client", "agentic", NULL };
    static const char *const limits[] = { "fail", "stop", NULL };
    static const char *const forms[] = { "text", "message", "response", NULL };
    uint32_t mode = read_enum(r, definition, "tool_mode", modes, 0);

    r->client_mode = mode == 1;
    a->system = read_text(r, definition, "system", false);
    read_model(r, definition, a);
    read_tools(r, definition, a);
    read_tool_choice(r, definition, a);
    a->serial = !read_bool(r, definition, "parallel_tool_calls", true);
    read_limits(r, definition, mode == 2, a);
    a->stops_at_limit = read_enum(r, definition, "on_limit", limits, 0) == 1;
    read_output(r, definition, a);
    read_memory(r, definition, a);
    read_retry(r, definition, a);
    read_budget(r, definition, a);
    a->form = (enum output_form)read_enum(r, definition, "output_form", forms, FORM_TEXT);
    refuse_unknown(r, definition, known);
}

static const struct agent *read_agent(struct reading *r, struct jv definition)
{
    struct reading inner = *r;
    struct agent *a = ARENA_NEW(r->arena, struct agent);
    inner.depth++;
    read_members(&inner, definition, a);
    return a;
}

struct agent *agent_read(struct jv definition, struct arena *arena, struct buf *at, struct issues *issues)
{
    struct reading r = { .arena = arena, .at = at, .issues = issues };
    struct agent *a = ARENA_NEW(arena, struct agent);

    if (jv_is(definition, JSON_OBJECT))
        read_members(&r, definition, a);
    else
        ISSUE(&r, "type", "must be an object");
    return a;
}

enum err agent_compile(struct jv definition, struct plan *plan, struct issues *issues)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf at = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    size_t found_before = issues->count;

    if (jv_deeper_than(definition, DEPTH_MAX))
        issue_add(issues, SPAN_NONE, "limit", "is nested deeper than %d", DEPTH_MAX);
    else
        (void)agent_read(definition, &scratch, &at, issues);
    if (issues->count > found_before)
        return ERR_VALIDATION;
    BUF_LIT(&text, "{\"agent\":");
    json_canonical(definition, JSON_JCS, &text);
    BUF_LIT(&text, ",\"format\":1,\"kind\":\"agent\"}");
    plan->json = arena_copy(&plan->arena, buf_view(&text));
    plan->compiled = NULL;
    return agent_open(plan);
}

enum err agent_open(struct plan *plan)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf at = { 0 };
    struct issues issues = { .arena = &scratch };

    if (plan->compiled)
        return ERR_OK;
    struct jv root = json_read(plan->json, &plan->arena);
    if (!jv_str_eq(jv_get(root, "kind"), "agent"))
        return ERR_CORRUPT;
    struct agent *a = agent_read(jv_get(root, "agent"), &plan->arena, &at, &issues);
    if (issues.count > 0)
        return ERR_CORRUPT;
    plan->compiled = a;
    plan->budget = a->budget;
    plan->max_attempts = 1;
    struct sha256 hash = sha256_of(plan->json);
    for (size_t i = 0; i < sizeof hash.b; i++) {
        plan->hash.hex[2 * i] = "0123456789abcdef"[hash.b[i] >> 4];
        plan->hash.hex[2 * i + 1] = "0123456789abcdef"[hash.b[i] & 15];
    }
    return ERR_OK;
}
