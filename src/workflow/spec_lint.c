/* SPDX-License-Identifier: Apache-2.0 */
/* spec_lint.c - advice about a specification that is no reason to refuse it (spec.h, spec_lint).
 *
 * Most of it is said where the thing is read; here is what needs a look of its own: the strictness of JSON schemas, names of
 * tools, and what nobody uses. */
#include "workflow/spec_inner.h"

enum { SCHEMA_DEPTH = 32 };

void spec_lint_tool(struct spec_compile *c, struct span name)
{
    bool plain = name.p[0] >= 'a' && name.p[0] <= 'z';
    for (size_t i = 0; i < name.n; i++)
        plain = plain && ((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') || name.p[i] == '_');
    if (!plain)
        SPEC_WARN(c, "TOOL_NAME_PORTABILITY", "the Rust SDK reads only names of a-z, 0-9 and _: \"%.*s\" is none", SHOW(name));
}

/* ---- schemas: a strict provider wants closed objects whose members are all required ---- */

static void lint_object(struct spec_compile *c, struct jv schema)
{
    struct jv properties = jv_get(schema, "properties"), required = jv_get(schema, "required");
    if (!jv_is(jv_get(schema, "additionalProperties"), JSON_FALSE))
        SPEC_WARN(c, "SCHEMA_NOT_STRICT", "an object without \"additionalProperties\": false");
    if (jv_is(properties, JSON_OBJECT) && jv_count(properties) > jv_count(required))
        SPEC_WARN(c, "SCHEMA_NOT_STRICT", "not all properties are required");
}

static void lint_schema(struct spec_compile *c, struct jv schema, unsigned levels);

static void lint_members(struct spec_compile *c, struct jv parent, const char *name, unsigned levels)
{
    struct jv v = jv_get(parent, name);
    size_t before = spec_enter(c, name), i = 0;
    if (jv_is(v, JSON_OBJECT) || jv_is(v, JSON_ARRAY))
        for (struct jv_iter it = jv_iter(v); jv_step(&it); i++) {
            size_t at = jv_is(v, JSON_OBJECT) ? spec_enter_span(c, jv_string(it.name, c->arena)) : spec_enter_index(c, i);
            lint_schema(c, it.value, levels);
            spec_leave(c, at);
        }
    spec_leave(c, before);
}

static void lint_schema(struct spec_compile *c, struct jv schema, unsigned levels)
{
    static const char *const lists[] = { "properties", "$defs", "definitions", "anyOf", "oneOf", "allOf" };
    if (levels == 0 || !jv_is(schema, JSON_OBJECT))
        return;
    if (jv_str_eq(jv_get(schema, "type"), "object") || jv_is(jv_get(schema, "properties"), JSON_OBJECT))
        lint_object(c, schema);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        lint_members(c, schema, lists[i], levels - 1);
    size_t before = spec_enter(c, "items");
    lint_schema(c, jv_get(schema, "items"), levels - 1);
    spec_leave(c, before);
}

void spec_lint_format(struct spec_compile *c, struct jv format)
{
    struct jv schema = spec_get(format, "json_schema");
    size_t before = spec_enter(c, "json_schema");
    if (!jv_is(spec_get(schema, "strict"), JSON_TRUE))
        SPEC_WARN(c, "SCHEMA_NOT_STRICT", "without \"strict\": true a provider may answer beside the schema");
    (void)spec_enter(c, "schema");
    lint_schema(c, spec_get(schema, "schema"), SCHEMA_DEPTH);
    spec_leave(c, before);
}

/* ---- what nobody uses ---- */

void spec_lint_plan(struct spec_compile *c)
{
    size_t before = spec_enter(c, "nodes");
    for (uint32_t i = 0; i < c->node_count; i++) {
        size_t at = spec_enter_index(c, i);
        if (c->nodes[i].id.n && !c->nodes[i].used)
            SPEC_WARN(c, "UNUSED_NODE", "nothing depends on it and no output shows it");
        spec_leave(c, at);
    }
    spec_leave(c, before);
    (void)spec_enter(c, "inputs");
    for (uint32_t i = 0; i < c->input_count; i++) {
        size_t at = spec_enter_index(c, c->inputs[i].index);
        if (c->inputs[i].name.n && !c->inputs[i].used)
            SPEC_WARN(c, "UNUSED_INPUT", "nothing uses it");
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

void spec_lint(struct jv spec, struct issues *warnings)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct span plan;
    (void)spec_run(spec, &arena, &plan, &issues, warnings);
    spec_sort_issues(warnings);
}
