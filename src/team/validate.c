/* SPDX-License-Identifier: Apache-2.0 */
/* validate.c - one function per kind of rule, one per object; the order of calls is the order of the contract. */
#include "team/validate.h"
#include "team/text.h"
#include <math.h>

struct check {
    struct arena        *arena;
    struct team_problem *problem;
    unsigned             flags;
};

/* ---- failures ---- */

static const char *type_name(struct jv v)
{
    double number;
    switch (jv_kind(v)) {
    case JSON_NONE:
        return "undefined";
    case JSON_NULL:
        return "null";
    case JSON_ARRAY:
        return "array";
    case JSON_NUMBER:
        return jv_f64(v, &number) ? "number" : jv_raw(v).p[0] == '-' ? "-Infinity" : "Infinity";
    case JSON_STRING:
        return "string";
    case JSON_OBJECT:
        return "object";
    default:
        return "boolean";
    }
}

static bool fails(struct check *c, struct span path, const char *rule, const char *message, const char *expected, struct jv actual)
{
    *c->problem = (struct team_problem){
        .path = path, .rule = rule, .message = message, .expected = expected, .received = type_name(actual)
    };
    return false;
}

static struct span below(struct check *c, struct span path, const char *name)
{
    return path.n ? arena_printf(c->arena, "%.*s.%s", SPAN_ARG(path), name) : span_of(name);
}

static struct span element(struct check *c, struct span path, size_t index)
{
    return arena_printf(c->arena, "%.*s[%zu]", SPAN_ARG(path), index);
}

/* ---- rules for one value ---- */

static bool is_absent(struct jv v)
{
    return jv_kind(v) == JSON_NONE;
}

static bool check_object(struct check *c, struct jv v, struct span path)
{
    return jv_is(v, JSON_OBJECT) || fails(c, path, "object", "value must be an object.", "object", v);
}

static bool check_text(struct check *c, struct jv v, struct span path, const char *message)
{
    if (jv_is(v, JSON_STRING) && !js_blank(jv_string(v, c->arena)))
        return true;
    return fails(c, path, "non-empty-string", message, "non-empty string", v);
}

static bool check_optional_string(struct check *c, struct jv object, struct span path, const char *name)
{
    struct jv v = jv_get(object, name);
    if (is_absent(v) || jv_is(v, JSON_STRING))
        return true;
    return fails(c, below(c, path, name), "non-empty-string", "value must be a string when provided.", "string", v);
}

static bool is_integer(struct jv v, double least)
{
    double number;
    return jv_is(v, JSON_NUMBER) && jv_f64(v, &number) && floor(number) == number && number >= least;
}

static bool check_positive(struct check *c, struct jv object, struct span path, const char *name, bool optional)
{
    struct jv v = jv_get(object, name);
    if ((optional && is_absent(v)) || is_integer(v, 1))
        return true;
    return fails(c, below(c, path, name), "positive-integer", "value must be a positive integer.", "integer >= 1", v);
}

static bool check_natural(struct check *c, struct jv object, struct span path, const char *name)
{
    struct jv v = jv_get(object, name);
    if (is_absent(v) || is_integer(v, 0))
        return true;
    return fails(c, below(c, path, name), "non-negative-integer", "value must be a non-negative integer.", "integer >= 0", v);
}

static bool check_range(struct check *c, struct jv object, struct span path, const char *name, bool optional, int top)
{
    struct jv v = jv_get(object, name);
    double    number;
    if ((optional && is_absent(v)) || (jv_is(v, JSON_NUMBER) && jv_f64(v, &number) && number >= 0 && number <= top))
        return true;
    fails(c, below(c, path, name), "range", NULL, NULL, v);
    c->problem->message_made = arena_printf(c->arena, "value must be a finite number in the inclusive range 0..%d.", top);
    c->problem->expected_made = arena_printf(c->arena, "finite number in 0..%d", top);
    return false;
}

/* A function of the SDK: no JSON value is one. Absent is fine, be it because it is optional or because the caller has it. */
static bool check_function(struct check *c, struct jv object, struct span path, const char *name)
{
    struct jv v = jv_get(object, name);
    if (is_absent(v) || !(c->flags & TEAM_CHECK_FUNCTIONS))
        return true;
    return fails(c, below(c, path, name), "function", "value must be a function.", "function", v);
}

static bool all_finite(struct jv v)
{
    double number;
    if (jv_is(v, JSON_NUMBER))
        return jv_f64(v, &number);
    if (jv_is(v, JSON_ARRAY) || jv_is(v, JSON_OBJECT))
        for (struct jv_iter it = jv_iter(v); jv_step(&it);)
            if (!all_finite(it.value)) /* no deeper than the parser's limit */
                return false;
    return true;
}

static bool check_json_object(struct check *c, struct jv v, struct span path)
{
    if (jv_is(v, JSON_OBJECT) && all_finite(v))
        return true;
    return fails(c, path, "json-object", "value must be a JSON-compatible object.", "JSON-compatible object", v);
}

/* ---- members, in the contract's order ---- */

static const char protocol_names[] = "coordinator | sequential | broadcast | shared";

static bool is_protocol(struct jv v)
{
    return jv_str_eq(v, "coordinator") || jv_str_eq(v, "sequential") || jv_str_eq(v, "broadcast") || jv_str_eq(v, "shared");
}

static bool check_protocol(struct check *c, struct jv v)
{
    struct span path = SPAN("protocol");
    if (is_absent(v) || (jv_is(v, JSON_STRING) && is_protocol(v)))
        return true;
    if (jv_is(v, JSON_STRING))
        return fails(c, path, "enum", "protocol must be one of coordinator, sequential, broadcast, or shared.", protocol_names, v);
    if (!check_object(c, v, path))
        return false;
    struct jv kind = jv_get(v, "kind");
    if (!is_protocol(kind))
        return fails(c, SPAN("protocol.kind"), "enum",
                     "protocol config kind must be one of coordinator, sequential, broadcast, or shared.", protocol_names, kind);
    if (jv_str_eq(kind, "broadcast"))
        return check_positive(c, v, path, "maxRounds", true) && check_natural(c, v, path, "minRounds");
    return check_positive(c, v, path, "maxTurns", true) && check_natural(c, v, path, "minTurns") &&
           (!jv_str_eq(kind, "shared") || check_optional_string(c, v, path, "organizationalMemory"));
}

static bool check_tier(struct check *c, struct jv v)
{
    if (is_absent(v) || jv_str_eq(v, "fast") || jv_str_eq(v, "balanced") || jv_str_eq(v, "quality"))
        return true;
    return fails(c, SPAN("tier"), "enum", "tier must be one of fast, balanced, or quality.", "fast | balanced | quality", v);
}

static bool check_model(struct check *c, struct jv v)
{
    struct span path = SPAN("model");
    if (!check_object(c, v, path))
        return false;
    if (!(c->flags & TEAM_CHECK_FUNCTIONS))
        return check_text(c, jv_get(v, "provider"), SPAN("model.provider"), "model.provider is required.") &&
               (is_absent(jv_get(v, "id")) || check_text(c, jv_get(v, "id"), SPAN("model.id"), "model.id is required.")) &&
               check_optional_string(c, v, path, "model") && check_positive(c, v, path, "max_tokens", true);
    return check_text(c, jv_get(v, "id"), SPAN("model.id"), "model.id is required.") && check_function(c, v, path, "generate") &&
           check_function(c, v, path, "stream");
}

static bool check_agents(struct check *c, struct jv v)
{
    struct span path = SPAN("agents");
    if (is_absent(v))
        return true;
    if (!jv_is(v, JSON_ARRAY))
        return fails(c, path, "array", "agents must be an array when provided.", "readonly AgentSpec[]", v);
    if (!jv_count(v))
        return fails(c, path, "array", "agents must contain at least one participant when provided.",
                     "non-empty readonly AgentSpec[]", v);
    size_t i = 0;
    for (struct jv_iter it = jv_iter(v); jv_step(&it); i++) {
        struct span at = element(c, path, i);
        if (!check_object(c, it.value, at) || !check_text(c, jv_get(it.value, "id"), below(c, at, "id"), "agent.id is required.") ||
            !check_text(c, jv_get(it.value, "role"), below(c, at, "role"), "agent.role is required.") ||
            !check_optional_string(c, it.value, at, "instructions"))
            return false;
    }
    return true;
}

static bool check_identity(struct check *c, struct jv v, struct span path)
{
    return check_object(c, v, path) &&
           check_text(c, jv_get(v, "id"), below(c, path, "id"), "tool identity id is required.") &&
           check_text(c, jv_get(v, "name"), below(c, path, "name"), "tool identity name is required.") &&
           check_optional_string(c, v, path, "namespace") && check_optional_string(c, v, path, "version") &&
           check_optional_string(c, v, path, "description");
}

static bool check_input_schema(struct check *c, struct jv v, struct span path)
{
    if (!check_object(c, v, path))
        return false;
    struct jv kind = jv_get(v, "kind");
    if (!jv_str_eq(kind, "json-schema"))
        return fails(c, below(c, path, "kind"), "runtime-tool", "tool inputSchema.kind must be json-schema.", "json-schema", kind);
    return check_json_object(c, jv_get(v, "schema"), below(c, path, "schema")) && check_optional_string(c, v, path, "description");
}

static bool check_tool(struct check *c, struct jv v, struct span path)
{
    if (!check_object(c, v, path) || !check_identity(c, jv_get(v, "identity"), below(c, path, "identity")) ||
        !check_input_schema(c, jv_get(v, "inputSchema"), below(c, path, "inputSchema")))
        return false;
    struct jv permissions = jv_get(v, "permissions");
    if (!is_absent(permissions) && !jv_is(permissions, JSON_ARRAY))
        return fails(c, below(c, path, "permissions"), "array", "value must be an array when provided.", "array", permissions);
    return check_function(c, v, path, "validateInput") && check_function(c, v, path, "execute");
}

static bool check_tools(struct check *c, struct jv v)
{
    struct span path = SPAN("tools");
    if (is_absent(v))
        return true;
    if (!jv_is(v, JSON_ARRAY))
        return fails(c, path, "array", "tools must be an array when provided.", "readonly RuntimeTool[]", v);
    size_t i = 0;
    for (struct jv_iter it = jv_iter(v); jv_step(&it); i++)
        if (!check_tool(c, it.value, element(c, path, i)))
            return false;
    return true;
}

static bool check_caps(struct check *c, struct jv v, struct span path)
{
    if (!check_object(c, v, path))
        return false;
    struct jv usd = jv_get(v, "maxUsd");
    double    number;
    if (!is_absent(usd) && !(jv_is(usd, JSON_NUMBER) && jv_f64(usd, &number) && number >= 0))
        return fails(c, below(c, path, "maxUsd"), "non-negative-number", "value must be a non-negative finite number.",
                     "finite number >= 0", usd);
    return check_natural(c, v, path, "maxTokens") && check_natural(c, v, path, "maxIterations") &&
           check_natural(c, v, path, "timeoutMs") && check_range(c, v, path, "qualityWeight", true, 1);
}

static bool check_condition(struct check *c, struct jv v, struct span path);

static bool check_conditions(struct check *c, struct jv v, struct span path)
{
    const char *expected = "non-empty termination condition array";
    if (!jv_is(v, JSON_ARRAY))
        return fails(c, path, "array", "firstOf conditions must be a non-empty array.", expected, v);
    if (!jv_count(v))
        return fails(c, path, "array", "firstOf conditions must contain at least one condition.", expected, v);
    size_t i = 0;
    for (struct jv_iter it = jv_iter(v); jv_step(&it); i++)
        if (!check_condition(c, it.value, element(c, path, i))) /* no deeper than the parser's limit; JSON has no cycles */
            return false;
    return true;
}

static bool check_condition(struct check *c, struct jv v, struct span path)
{
    if (!check_object(c, v, path))
        return false;
    struct jv kind = jv_get(v, "kind"), rubric = jv_get(v, "rubric");
    if (jv_str_eq(kind, "budget"))
        return check_caps(c, v, path);
    if (jv_str_eq(kind, "convergence"))
        return check_positive(c, v, path, "stableTurns", false) && check_range(c, v, path, "minSimilarity", false, 1);
    if (jv_str_eq(kind, "judge"))
        return (jv_is(rubric, JSON_STRING) ? check_text(c, rubric, below(c, path, "rubric"), "judge rubric must not be empty.")
                                           : check_json_object(c, rubric, below(c, path, "rubric"))) &&
               check_range(c, v, path, "minScore", true, 1);
    if (jv_str_eq(kind, "firstOf"))
        return check_conditions(c, jv_get(v, "conditions"), below(c, path, "conditions"));
    return fails(c, below(c, path, "kind"), "termination-condition",
                 "termination condition kind must be budget, convergence, judge, or firstOf.",
                 "budget | convergence | judge | firstOf", kind);
}

static bool check_hint(struct check *c, struct jv v)
{
    struct span path = SPAN("wrapUpHint");
    if (is_absent(v))
        return true;
    if (!check_object(c, v, path) || !check_natural(c, v, path, "atIteration") || !check_range(c, v, path, "atFraction", true, 1) ||
        !check_function(c, v, path, "inject"))
        return false;
    if (!(c->flags & TEAM_CHECK_FUNCTIONS) && !check_optional_string(c, v, path, "inject"))
        return false;
    if (is_absent(jv_get(v, "atIteration")) && is_absent(jv_get(v, "atFraction")))
        return fails(c, path, "object", "wrapUpHint must configure atIteration or atFraction.",
                     "WrapUpHintConfig with atIteration or atFraction", v);
    return true;
}

/* In a definition an evaluator is the tool that is asked. */
static bool check_evaluate(struct check *c, struct jv options)
{
    struct jv v = jv_get(options, "evaluate");
    if (is_absent(v) || (c->flags & TEAM_CHECK_FUNCTIONS))
        return check_function(c, options, SPAN_NONE, "evaluate");
    return check_object(c, v, SPAN("evaluate")) &&
           check_text(c, jv_get(v, "tool"), SPAN("evaluate.tool"), "evaluate.tool is required.");
}

static bool check_seed(struct check *c, struct jv v)
{
    double number;
    if (is_absent(v) || jv_is(v, JSON_STRING) || (jv_is(v, JSON_NUMBER) && jv_f64(v, &number)))
        return true;
    return fails(c, SPAN("seed"), "finite-number", "seed must be a string or finite number when provided.",
                 "string or finite number", v);
}

bool team_validate(struct jv options, unsigned flags, struct arena *arena, struct team_problem *ret)
{
    struct check c = { arena, ret, flags };
    if (!check_object(&c, options, SPAN("options")))
        return false;
    if ((flags & TEAM_CHECK_INTENT) && !check_text(&c, jv_get(options, "intent"), SPAN("intent"), "intent is required."))
        return false;
    if (!check_protocol(&c, jv_get(options, "protocol")) || !check_tier(&c, jv_get(options, "tier")) ||
        !check_model(&c, jv_get(options, "model")) || !check_agents(&c, jv_get(options, "agents")) ||
        !check_tools(&c, jv_get(options, "tools")) || !check_range(&c, options, SPAN_NONE, "temperature", true, 2))
        return false;
    struct jv budget = jv_get(options, "budget"), terminate = jv_get(options, "terminate"), signal = jv_get(options, "signal");
    if (!is_absent(budget) && !check_caps(&c, budget, SPAN("budget")))
        return false;
    if (!is_absent(terminate) && !check_condition(&c, terminate, SPAN("terminate")))
        return false;
    if (!check_hint(&c, jv_get(options, "wrapUpHint")) || !check_evaluate(&c, options) || !check_seed(&c, jv_get(options, "seed")))
        return false;
    if (!is_absent(signal))
        return fails(&c, SPAN("signal"), "abort-signal", "value must be an AbortSignal when provided.", "AbortSignal", signal);
    return true;
}

bool team_intent_valid(struct span intent, struct jv given, struct arena *arena, struct team_problem *ret)
{
    struct check c = { arena, ret, 0 };
    return !js_blank(intent) || fails(&c, SPAN("intent"), "non-empty-string", "intent is required.", "non-empty string", given);
}

/* ---- the problem as texts ---- */

struct span team_problem_text(const struct team_problem *problem, struct arena *arena)
{
    struct span message = problem->message ? span_of(problem->message) : problem->message_made;
    return arena_printf(arena, "Invalid Dogpile configuration at %.*s: %.*s", SPAN_ARG(problem->path), SPAN_ARG(message));
}

void team_problem_to_json(const struct team_problem *problem, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    jw_obj(w);
    jw_key(w, "name"), jw_cstr(w, "DogpileError");
    jw_key(w, "code"), jw_cstr(w, "invalid-configuration");
    jw_key(w, "message"), jw_str(w, team_problem_text(problem, &arena));
    jw_key(w, "retryable"), jw_bool(w, false);
    jw_key(w, "detail"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "configuration-validation");
    jw_key(w, "path"), jw_str(w, problem->path);
    jw_key(w, "rule"), jw_cstr(w, problem->rule);
    jw_key(w, "expected"), jw_str(w, problem->expected ? span_of(problem->expected) : problem->expected_made);
    jw_key(w, "received"), jw_cstr(w, problem->received);
    jw_end(w), jw_end(w);
}
