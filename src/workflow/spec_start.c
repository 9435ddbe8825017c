/* SPDX-License-Identifier: Apache-2.0 */
/* spec_start.c - what is checked of a plan when a run of it starts: inputs, models, streaming, tools (workflow-runs.md 2.3, 3.8).
 *
 * Plans here were compiled before, so that their form is not checked again. Paths of nodes are those of the intent format
 * ("$.nodes[2].model"), which is what authors have before them; the order of nodes is the same in both. */
#include "workflow/spec_inner.h"
#include <stdlib.h>

static struct spec_compile begin(struct arena *arena, struct issues *issues)
{
    struct spec_compile c = { .arena = arena, .issues = issues };
    buf_byte(&c.at, '$');
    return c;
}

static enum err end(struct spec_compile *c)
{
    buf_done(&c->at);
    buf_done(&c->body);
    spec_sort_issues(c->issues);
    return c->issues->count ? ERR_VALIDATION : ERR_OK;
}

static struct span text_of(struct spec_compile *c, struct jv object, const char *name)
{
    return jv_string(spec_get(object, name), c->arena);
}

static bool calls_model(struct jv node)
{
    return jv_str_eq(spec_get(node, "type"), "llm.responses") || jv_str_eq(spec_get(node, "type"), "route.switch");
}

static struct jv subnode_of(struct jv node)
{
    return spec_get(spec_get(node, "input"), "subnode");
}

static struct span canonical(struct spec_compile *c, struct arena *arena)
{
    struct buf out = { 0 };
    json_canonical(json_read(buf_view(&c->body), c->arena), JSON_JCS, &out);
    struct span ret = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return ret;
}

/* ---- inputs ---- */

struct named {
    struct span name;
    struct jv   value; /* what was sent, or absent */
    struct jv   decl;
};

static int by_name(const void *left, const void *right)
{
    return span_cmp(((const struct named *)left)->name, ((const struct named *)right)->name);
}

static struct named *named_find(struct named *list, size_t count, struct span name)
{
    struct named key = { .name = name };
    return count ? bsearch(&key, list, count, sizeof *list, by_name) : NULL;
}

static size_t keep_each_once(struct named *list, size_t count)
{
    size_t kept = 0;
    if (count > 1)
        qsort(list, count, sizeof *list, by_name);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || !span_eq(list[kept - 1].name, list[i].name))
            list[kept++] = list[i];
    return kept;
}

static void need(struct spec_compile *c, struct spec_marks *needs, struct jv holder)
{
    struct span name = text_of(c, holder, "from_input");
    if (name.n == 0)
        return;
    if (needs->count == needs->cap) {
        size_t cap = needs->cap ? needs->cap * 2 : 16;
        struct span *names = ARENA_ARRAY(c->arena, struct span, cap);
        if (needs->count)
            memcpy(names, needs->names, needs->count * sizeof *names);
        needs->names = names;
        needs->cap = cap;
    }
    needs->names[needs->count++] = name;
}

static struct spec_marks needed_inputs(struct spec_compile *c, struct jv v1)
{
    struct spec_marks needs = { 0 };
    for (struct jv_iter it = jv_iter(spec_get(v1, "nodes")); jv_step(&it);) {
        struct jv input = spec_get(it.value, "input");
        need(c, &needs, spec_get(input, "items"));
        for (struct jv_iter b = jv_iter(spec_get(input, "bindings")); jv_step(&b);)
            need(c, &needs, b.value);
    }
    spec_marks_sort(&needs);
    return needs;
}

/* The value that the run gets, or absent. */
static struct jv value_of(struct spec_compile *c, const struct named *sent, struct jv decl, bool needed, struct span name)
{
    struct jv value = sent ? sent->value : jv_is(decl, JSON_OBJECT) ? jv_get(decl, "default") : (struct jv){ 0 };
    struct span type = text_of(c, decl, "type");
    size_t before = spec_enter(c, "input");
    (void)spec_enter_span(c, name);
    if (jv_is(value, JSON_NONE) && (needed || jv_is(spec_get(decl, "required"), JSON_TRUE)))
        SPEC_ISSUE(c, "INPUT_REQUIRED", "the workflow needs this input");
    else if (!jv_is(value, JSON_NONE) && type.n && !spec_type_fits(type, value))
        SPEC_ISSUE(c, "INPUT_TYPE", "must be of type %.*s", SHOW(type));
    spec_leave(c, before);
    return value;
}

static void put_value(struct spec_compile *c, struct span name, struct jv value)
{
    if (jv_is(value, JSON_NONE))
        return;
    jw_key_span(&c->w, name);
    jw_raw(&c->w, jv_raw(value));
}

static void put_inputs(struct spec_compile *c, struct jv v1, struct jv input)
{
    struct jv decls = spec_get(v1, "inputs");
    struct spec_marks needs = needed_inputs(c, v1);
    struct named *sent = ARENA_ARRAY(c->arena, struct named, jv_count(input) + 1);
    struct named *declared = ARENA_ARRAY(c->arena, struct named, jv_count(decls) + 1);
    size_t sent_count = 0, declared_count = 0;
    for (struct jv_iter it = jv_iter(input); jv_step(&it); sent_count++)
        sent[sent_count] = (struct named){ .name = jv_string(it.name, c->arena), .value = it.value };
    sent_count = keep_each_once(sent, sent_count);
    for (struct jv_iter it = jv_iter(decls); jv_step(&it); declared_count++)
        declared[declared_count] = (struct named){ .name = text_of(c, it.value, "name"), .decl = it.value };
    declared_count = keep_each_once(declared, declared_count);
    for (size_t i = 0; i < declared_count; i++) {
        struct span name = declared[i].name;
        bool needed = spec_marks_have(&needs, name);
        put_value(c, name, value_of(c, named_find(sent, sent_count, name), declared[i].decl, needed, name));
    }
    for (size_t i = 0; i < needs.count; i++)
        if (!named_find(declared, declared_count, needs.names[i]))
            put_value(c, needs.names[i],
                      value_of(c, named_find(sent, sent_count, needs.names[i]), (struct jv){ 0 }, true, needs.names[i]));
}

enum err spec_inputs(struct jv v1, struct jv input, struct arena *arena, struct span *ret, struct issues *issues)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct spec_compile c = begin(&scratch, issues);
    struct span text = SPAN_NONE;
    c.w = jw_on(&c.body);
    jw_obj(&c.w);
    if (jv_is(input, JSON_OBJECT) || jv_is(input, JSON_NONE) || jv_is(input, JSON_NULL)) {
        put_inputs(&c, v1, jv_is(input, JSON_OBJECT) ? input : (struct jv){ 0 });
    } else {
        size_t before = spec_enter(&c, "input");
        SPEC_ISSUE(&c, "INVALID_TYPE", "must be an object");
        spec_leave(&c, before);
    }
    jw_end(&c.w);
    if (issues->count == 0)
        text = canonical(&c, arena);
    enum err err = end(&c);
    if (err == ERR_OK)
        *ret = text;
    return err;
}

/* ---- models ---- */

static int by_node(const void *left, const void *right)
{
    return span_cmp(((const struct spec_name *)left)->name, ((const struct spec_name *)right)->name);
}

static void index_nodes(struct spec_compile *c, struct jv v1)
{
    struct jv nodes = spec_get(v1, "nodes");
    c->nodes = ARENA_ARRAY(c->arena, struct spec_node, jv_count(nodes) + 1);
    c->names = ARENA_ARRAY(c->arena, struct spec_name, jv_count(nodes) + 1);
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it); c->node_count++) {
        c->nodes[c->node_count] = (struct spec_node){ .v = it.value, .id = text_of(c, it.value, "id") };
        c->names[c->node_count] = (struct spec_name){ c->nodes[c->node_count].id, c->node_count };
    }
    c->name_count = c->node_count;
    if (c->name_count > 1)
        qsort(c->names, c->name_count, sizeof *c->names, by_node);
}

static bool is_blank(struct span text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!strchr(" \t\r\n", text.p[i]))
            return false;
    return true;
}

/* At the member that holds it. */
static void check_model(struct spec_compile *c, struct jv model)
{
    struct span text = jv_string(model, c->arena);
    if (!jv_is(model, JSON_STRING) || is_blank(text) || spec_characters(text) > SPEC_MODEL_MAX)
        SPEC_ISSUE(c, "INVALID_TYPE", "must be the name of a model, 1 to %d characters", SPEC_MODEL_MAX);
}

/* `used` marks a node whose model (that of its subnode, if it is a fan-out) is overridden. */
static void read_node_overrides(struct spec_compile *c, struct jv overrides)
{
    struct jv nodes = spec_want(c, overrides, "nodes", JSON_OBJECT);
    size_t before = spec_enter(c, "nodes");
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it);) {
        struct span id = jv_string(it.name, c->arena);
        uint32_t node = spec_find(c, id);
        size_t at = spec_enter_span(c, id);
        if (node == NO_INDEX)
            SPEC_ISSUE(c, "UNKNOWN_NODE", "there is no node \"%.*s\"", SHOW(id));
        else if (!calls_model(c->nodes[node].v))
            SPEC_ISSUE(c, "FIELD_NOT_ALLOWED", "this node has no model");
        else
            c->nodes[node].used = true;
        check_model(c, it.value);
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

static void read_sub_override(struct spec_compile *c, struct jv v)
{
    struct span parent = spec_need_text(c, v, "parent_id", 0), id = spec_need_text(c, v, "subnode_id", 0);
    uint32_t node = parent.n ? spec_find(c, parent) : NO_INDEX;
    struct jv sub = node == NO_INDEX ? (struct jv){ 0 } : subnode_of(c->nodes[node].v);
    size_t before = spec_enter(c, node == NO_INDEX || jv_is(sub, JSON_NONE) ? "parent_id" : "subnode_id");
    if (parent.n && node == NO_INDEX)
        SPEC_ISSUE(c, "UNKNOWN_NODE", "there is no node \"%.*s\"", SHOW(parent));
    else if (parent.n && jv_is(sub, JSON_NONE))
        SPEC_ISSUE(c, "FIELD_NOT_ALLOWED", "this node is no fan-out");
    else if (parent.n && id.n && !span_eq(text_of(c, sub, "id"), id))
        SPEC_ISSUE(c, "UNKNOWN_NODE", "the fan-out has no subnode \"%.*s\"", SHOW(id));
    else if (parent.n && id.n && !calls_model(sub))
        SPEC_ISSUE(c, "FIELD_NOT_ALLOWED", "this subnode has no model");
    else if (node != NO_INDEX)
        c->nodes[node].used = true;
    spec_leave(c, before);
    (void)spec_enter(c, "model");
    check_model(c, spec_get(v, "model"));
    spec_leave(c, before);
}

static void read_sub_overrides(struct spec_compile *c, struct jv overrides)
{
    struct jv list = spec_want(c, overrides, "fanout_subnodes", JSON_ARRAY);
    size_t before = spec_enter(c, "fanout_subnodes"), i = 0;
    for (struct jv_iter it = jv_iter(list); jv_step(&it); i++) {
        size_t at = spec_enter_index(c, i);
        if (jv_is(it.value, JSON_OBJECT))
            read_sub_override(c, it.value);
        else
            SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

static void require_models(struct spec_compile *c)
{
    size_t before = spec_enter(c, "nodes");
    for (uint32_t i = 0; i < c->node_count; i++) {
        struct jv node = c->nodes[i].v, sub = subnode_of(node);
        struct jv caller = calls_model(node) ? node : calls_model(sub) ? sub : (struct jv){ 0 };
        if (c->nodes[i].used || jv_is(caller, JSON_NONE) || spec_has(spec_get(spec_get(caller, "input"), "request"), "model"))
            continue;
        size_t at = spec_enter_index(c, i);
        if (!calls_model(node))
            (void)spec_enter(c, "subnode");
        (void)spec_enter(c, "model");
        SPEC_ISSUE(c, "MODEL_REQUIRED", "neither the node nor the workflow nor the run names a model");
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

enum err spec_models(struct jv v1, struct jv model_override, struct jv model_overrides, struct issues *issues)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct spec_compile c = begin(&scratch, issues);
    bool all = !jv_is(model_override, JSON_NONE) && !jv_is(model_override, JSON_NULL);
    index_nodes(&c, v1);
    if (all) {
        size_t before = spec_enter(&c, "model_override");
        check_model(&c, model_override);
        spec_leave(&c, before);
    }
    size_t before = spec_enter(&c, "model_overrides");
    if (jv_is(model_overrides, JSON_OBJECT)) {
        read_node_overrides(&c, model_overrides);
        read_sub_overrides(&c, model_overrides);
    } else if (!jv_is(model_overrides, JSON_NONE) && !jv_is(model_overrides, JSON_NULL)) {
        SPEC_ISSUE(&c, "INVALID_TYPE", "must be an object");
    }
    spec_leave(&c, before);
    if (!all)
        require_models(&c);
    return end(&c);
}

/* ---- streaming ---- */

/* The members of an object, without the one of that name. */
static void put_others(struct spec_compile *c, struct jv object, const char *name)
{
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        if (jv_str_eq(it.name, name))
            continue;
        jw_key_span(&c->w, jv_string(it.name, c->arena));
        jw_raw(&c->w, jv_raw(it.value));
    }
}

static void put_streaming(struct spec_compile *c, struct jv node)
{
    struct jv input = spec_get(node, "input");
    size_t before = spec_enter(c, "tool_execution");
    (void)spec_enter(c, "mode");
    if (spec_has(input, "tool_execution")) /* the default, server, is never written */
        SPEC_ISSUE(c, "STREAM_TOOL_MODE", "a run that streams cannot run tools in the client or the agentic loop");
    spec_leave(c, before);
    jw_obj(&c->w);
    put_others(c, node, "input");
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    put_others(c, input, "stream");
    jw_key(&c->w, "stream");
    jw_bool(&c->w, true);
    jw_end(&c->w);
    jw_end(&c->w);
}

static void put_streamed(struct spec_compile *c, struct jv node)
{
    struct jv sub = subnode_of(node);
    if (calls_model(node)) {
        put_streaming(c, node);
        return;
    }
    if (!calls_model(sub)) {
        jw_raw(&c->w, jv_raw(node));
        return;
    }
    size_t before = spec_enter(c, "subnode");
    jw_obj(&c->w);
    put_others(c, node, "input");
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    put_others(c, spec_get(node, "input"), "subnode");
    jw_key(&c->w, "subnode");
    put_streaming(c, sub);
    jw_end(&c->w);
    jw_end(&c->w);
    spec_leave(c, before);
}

enum err spec_stream(struct jv v1, struct arena *arena, struct span *ret_v1, struct issues *issues)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct spec_compile c = begin(&scratch, issues);
    struct span text = SPAN_NONE;
    size_t before = spec_enter(&c, "nodes"), i = 0;
    c.w = jw_on(&c.body);
    jw_obj(&c.w);
    put_others(&c, v1, "nodes");
    jw_key(&c.w, "nodes");
    jw_arr(&c.w);
    for (struct jv_iter it = jv_iter(spec_get(v1, "nodes")); jv_step(&it); i++) {
        size_t at = spec_enter_index(&c, i);
        put_streamed(&c, it.value);
        spec_leave(&c, at);
    }
    jw_arr_end(&c.w);
    jw_end(&c.w);
    spec_leave(&c, before);
    if (issues->count == 0)
        text = canonical(&c, arena);
    enum err err = end(&c);
    if (err == ERR_OK)
        *ret_v1 = text;
    return err;
}

/* ---- tools ---- */

static void check_tools(struct spec_compile *c, struct jv node, bool (*known)(void *ctx, struct span name), void *ctx)
{
    struct jv input = spec_get(node, "input");
    size_t before = spec_enter(c, "tools"), i = 0;
    if (!jv_str_eq(spec_get(spec_get(input, "tool_execution"), "mode"), "client"))
        for (struct jv_iter it = jv_iter(spec_get(spec_get(input, "request"), "tools")); jv_step(&it); i++) {
            struct span name = text_of(c, spec_get(it.value, "function"), "name");
            if (!jv_str_eq(spec_get(it.value, "type"), "function") || span_is(name, "user_ask") || known(ctx, name))
                continue;
            size_t at = spec_enter_index(c, i);
            SPEC_ISSUE(c, "UNKNOWN_TOOL", "this server has no tool \"%.*s\"; with tool_execution.mode client it is yours",
                       SHOW(name));
            spec_leave(c, at);
        }
    spec_leave(c, before);
}

enum err spec_tools(struct jv v1, bool (*known)(void *ctx, struct span name), void *ctx, struct issues *issues)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct spec_compile c = begin(&scratch, issues);
    size_t before = spec_enter(&c, "nodes"), i = 0;
    for (struct jv_iter it = jv_iter(spec_get(v1, "nodes")); jv_step(&it); i++) {
        struct jv sub = subnode_of(it.value);
        size_t at = spec_enter_index(&c, i);
        if (calls_model(it.value))
            check_tools(&c, it.value, known, ctx);
        if (calls_model(sub)) {
            (void)spec_enter(&c, "subnode");
            check_tools(&c, sub, known, ctx);
        }
        spec_leave(&c, at);
    }
    spec_leave(&c, before);
    return end(&c);
}
