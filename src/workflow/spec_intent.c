/* SPDX-License-Identifier: Apache-2.0 */
/* spec_intent.c - nodes of the intent format (workflow-runs.md 2.2, 2.4, 2.5): short for people, written out in the plan. */
#include "workflow/spec_inner.h"

enum { BIT_LLM = 1, BIT_ALL = 2, BIT_ANY = 4, BIT_COLLECT = 8, BIT_TRANSFORM = 16, BIT_FANOUT = 32, BIT_EVERY = 63 };

static const struct {
    const char *name;
    enum spec_type type;
    unsigned bit;
} types[] = {
    { "llm", SPEC_LLM, BIT_LLM },
    { "join.all", SPEC_JOIN_ALL, BIT_ALL },
    { "join.any", SPEC_JOIN_ANY, BIT_ANY },
    { "join.collect", SPEC_JOIN_COLLECT, BIT_COLLECT },
    { "transform.json", SPEC_TRANSFORM, BIT_TRANSFORM },
    { "map.fanout", SPEC_FANOUT, BIT_FANOUT },
};

/* Which types a member belongs to. A member of another type is a slip that would otherwise be ignored silently. */
static const struct {
    const char *name;
    unsigned types;
} fields[] = {
    { "id", BIT_EVERY },
    { "type", BIT_EVERY },
    { "depends_on", BIT_EVERY },
    { "model", BIT_LLM },
    { "system", BIT_LLM },
    { "user", BIT_LLM },
    { "input", BIT_LLM },
    { "stream", BIT_LLM },
    { "tools", BIT_LLM },
    { "tool_execution", BIT_LLM },
    { "retry", BIT_LLM },
    { "max_output_tokens", BIT_LLM },
    { "output_format", BIT_LLM },
    { "stop", BIT_LLM },
    { "script", BIT_LLM },
    { "predicate", BIT_ANY | BIT_COLLECT },
    { "limit", BIT_COLLECT },
    { "timeout_ms", BIT_COLLECT },
    { "object", BIT_TRANSFORM },
    { "merge", BIT_TRANSFORM },
    { "items_from", BIT_FANOUT },
    { "items_from_input", BIT_FANOUT },
    { "items_pointer", BIT_FANOUT },
    { "items_path", BIT_FANOUT },
    { "subnode", BIT_FANOUT },
    { "max_parallelism", BIT_FANOUT },
};

/* ---- type and members ---- */

enum spec_type spec_intent_type(struct spec_compile *c, struct jv node, bool sub)
{
    struct span name = jv_string(spec_need(c, node, "type", JSON_STRING), c->arena);
    for (size_t i = 0; name.p && i < ARRAY_LEN(types); i++)
        if (span_is(name, types[i].name) && (!sub || types[i].type == SPEC_LLM || types[i].type == SPEC_TRANSFORM))
            return types[i].type;
    if (!name.p)
        return SPEC_NO_TYPE;
    size_t before = spec_enter(c, "type");
    if (sub)
        SPEC_ISSUE(c, "UNSUPPORTED_NODE_TYPE", "a fan-out's subnode is llm or transform.json, not \"%.*s\"", SHOW(name));
    else if (span_is(name, "route.switch") || span_is(name, "llm.responses"))
        SPEC_ISSUE(c, "UNSUPPORTED_NODE_TYPE", "\"%.*s\" is a node of kind workflow.v1%s", SHOW(name),
                   span_is(name, "llm.responses") ? "; here it is called llm" : "");
    else
        SPEC_ISSUE(c, "UNSUPPORTED_NODE_TYPE",
                   "\"%.*s\" is none of llm, join.all, join.any, join.collect, transform.json, map.fanout", SHOW(name));
    spec_leave(c, before);
    return SPEC_NO_TYPE;
}

static unsigned bit_of(enum spec_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].type == type)
            return types[i].bit;
    return BIT_EVERY;
}

static void check_members(struct spec_compile *c, struct jv node, enum spec_type type)
{
    unsigned bit = bit_of(type);
    for (struct jv_iter it = jv_iter(node); jv_step(&it);) {
        struct span name = jv_string(it.name, c->arena);
        size_t i = 0;
        while (i < ARRAY_LEN(fields) && !span_is(name, fields[i].name))
            i++;
        if ((i < ARRAY_LEN(fields) && (fields[i].types & bit)) || jv_is(it.value, JSON_NULL))
            continue;
        size_t before = spec_enter_span(c, name);
        if (i < ARRAY_LEN(fields))
            SPEC_ISSUE(c, "FIELD_NOT_ALLOWED", "is no field of a node of this type");
        else
            SPEC_WARN(c, "UNKNOWN_FIELD", "is not known here and ignored");
        spec_leave(c, before);
    }
}

static void read_depends(struct spec_compile *c, uint32_t index)
{
    struct jv list = spec_want(c, c->nodes[index].v, "depends_on", JSON_ARRAY);
    size_t before = spec_enter(c, "depends_on"), i = 0;
    for (struct jv_iter it = jv_iter(list); jv_step(&it); i++) {
        struct span id = jv_string(it.value, c->arena);
        uint32_t from = id.n ? spec_find(c, id) : NO_INDEX;
        if (from != NO_INDEX) {
            spec_depend(c, from, index);
            continue;
        }
        size_t at = spec_enter_index(c, i);
        if (!jv_is(it.value, JSON_STRING))
            SPEC_ISSUE(c, "INVALID_TYPE", "must be the id of a node");
        else
            SPEC_ISSUE(c, "UNKNOWN_NODE", "there is no node \"%.*s\"", SHOW(id));
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

/* ---- models ---- */

/* What {{name}} stands for: a node before an input; the text of a model's answer, the whole of any other output. */
static struct spec_binding resolve(struct spec_compile *c, struct span name, uint32_t index)
{
    const struct span prefix = SPAN("input:");
    struct spec_binding b = { .to_placeholder = name, .text = true };
    uint32_t from = spec_find(c, name);
    if (from != NO_INDEX) {
        b.from = c->nodes[from].id;
        if (c->nodes[from].shape.type == SPEC_LLM)
            b.pointer = SPAN(SPEC_TEXT_POINTER);
        spec_depend(c, from, index);
        return b;
    }
    b.from_input = name;
    if (name.n > prefix.n && memcmp(name.p, prefix.p, prefix.n) == 0)
        b.from_input = span_make(name.p + prefix.n, name.n - prefix.n);
    spec_use_input(c, b.from_input, SPAN_NONE);
    return b;
}

static void put_llm(struct spec_compile *c, uint32_t index)
{
    struct spec_marks marks = { 0 };
    struct jv node = c->nodes[index].v;
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    spec_intent_request(c, node, SPAN_NONE, &marks);
    spec_llm_common(c, node, false);
    struct spec_binding *bindings = ARENA_ARRAY(c->arena, struct spec_binding, marks.count + 1);
    for (size_t i = 0; i < marks.count; i++)
        bindings[i] = resolve(c, marks.names[i], index);
    spec_put_bindings(c, "bindings", bindings, marks.count);
    jw_end(&c->w);
}

/* ---- fan-out ---- */

static void put_items(struct spec_compile *c, uint32_t index)
{
    struct jv node = c->nodes[index].v;
    uint32_t from = spec_node_ref(c, node, "items_from");
    struct span input = spec_want_text(c, node, "items_from_input", 0);
    struct span pointer = spec_pointer(c, node, "items_pointer"), path = spec_pointer(c, node, "items_path");
    if (spec_has(node, "items_from") == spec_has(node, "items_from_input"))
        SPEC_ISSUE(c, "EXCLUSIVE_FIELDS", "needs exactly one of items_from and items_from_input");
    if (from != NO_INDEX && pointer.n == 0 && c->nodes[from].shape.type == SPEC_LLM)
        pointer = SPAN(SPEC_TEXT_POINTER);
    spec_depend(c, from, index);
    size_t before = spec_enter(c, "items_pointer");
    if (from != NO_INDEX)
        spec_use_node(c, from, pointer);
    else if (input.n)
        spec_use_input(c, input, pointer);
    spec_leave(c, before);

    jw_key(&c->w, "items");
    jw_obj(&c->w);
    jw_key(&c->w, from != NO_INDEX ? "from" : "from_input");
    jw_str(&c->w, from != NO_INDEX ? c->nodes[from].id : input);
    if (pointer.n) {
        jw_key(&c->w, "pointer");
        jw_str(&c->w, pointer);
    }
    if (path.n) {
        jw_key(&c->w, "path");
        jw_str(&c->w, path);
    }
    jw_end(&c->w);
}

static void check_sub_id(struct spec_compile *c, struct jv sub)
{
    struct span id = jv_string(spec_need(c, sub, "id", JSON_STRING), c->arena);
    size_t before = spec_enter(c, "id");
    if (id.p && !plan_name_valid(id))
        SPEC_ISSUE(c, "INVALID_NODE_ID", "\"%.*s\" is no node id: a letter a-z, then up to 63 of a-z, 0-9 and _", SHOW(id));
    spec_leave(c, before);
}

static void put_subnode(struct spec_compile *c, uint32_t index, struct jv sub, struct spec_marks *marks)
{
    enum spec_type type = spec_intent_type(c, sub, true);
    check_sub_id(c, sub);
    check_members(c, sub, type);
    c->nodes[index].sub = spec_shape_of(type, sub, sub);
    if (spec_has(sub, "depends_on")) {
        size_t before = spec_enter(c, "depends_on");
        SPEC_ISSUE(c, "FIELD_NOT_ALLOWED", "a fan-out's subnode depends on its item only");
        spec_leave(c, before);
    }
    jw_obj(&c->w);
    jw_key(&c->w, "id");
    jw_str(&c->w, jv_string(spec_get(sub, "id"), c->arena));
    jw_key(&c->w, "type");
    jw_cstr(&c->w, spec_type_names[type]);
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    if (type == SPEC_LLM) {
        spec_intent_request(c, sub, SPAN("item"), marks);
        spec_llm_common(c, sub, true);
    } else if (type == SPEC_TRANSFORM) {
        spec_transform(c, sub, index, true);
    }
    jw_end(&c->w);
    jw_end(&c->w);
}

static void put_fanout(struct spec_compile *c, uint32_t index)
{
    struct jv node = c->nodes[index].v;
    struct spec_marks marks = { 0 };
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    put_items(c, index);
    spec_put_int(c, node, "max_parallelism", 1, INT32_MAX, 0);
    struct jv sub = spec_need(c, node, "subnode", JSON_OBJECT);
    if (jv_is(sub, JSON_OBJECT)) {
        size_t before = spec_enter(c, "subnode");
        jw_key(&c->w, "subnode");
        put_subnode(c, index, sub, &marks);
        spec_leave(c, before);
    }
    if (spec_marks_have(&marks, SPAN("item"))) {
        struct spec_binding binding = { .to_placeholder = SPAN("item"), .text = true };
        spec_put_bindings(c, "item_bindings", &binding, 1);
    }
    jw_end(&c->w);
}

/* ---- all of them ---- */

static void put_join(struct spec_compile *c, struct jv node, enum spec_type type)
{
    size_t start = c->body.len;
    struct jw outer = c->w;
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    size_t empty = c->body.len;
    if (type != SPEC_JOIN_ALL)
        spec_put_predicate(c, node);
    if (type == SPEC_JOIN_COLLECT) {
        spec_put_int(c, node, "limit", 1, INT32_MAX, 0);
        spec_put_int(c, node, "timeout_ms", 1, PLAN_MS_MAX, 0);
    }
    if (c->body.len == empty && type != SPEC_JOIN_COLLECT) { /* join.collect must have one, the others need none */
        c->body.len = start;
        c->w = outer;
        return;
    }
    jw_end(&c->w);
}

void spec_intent_node(struct spec_compile *c, uint32_t index)
{
    struct spec_node *node = &c->nodes[index];
    enum spec_type type = node->shape.type;
    node->shape = spec_shape_of(type, node->v, node->v);
    check_members(c, node->v, type);
    jw_obj(&c->w);
    jw_key(&c->w, "id");
    jw_str(&c->w, node->id);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, spec_type_names[type]);
    read_depends(c, index);
    if (type == SPEC_LLM) {
        put_llm(c, index);
    } else if (type == SPEC_FANOUT) {
        put_fanout(c, index);
    } else if (type == SPEC_TRANSFORM) {
        jw_key(&c->w, "input");
        jw_obj(&c->w);
        spec_transform(c, node->v, index, false);
        jw_end(&c->w);
    } else if (type != SPEC_NO_TYPE) {
        put_join(c, node->v, type);
    }
    jw_end(&c->w);
}
