/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.c - the front end for bundle definitions (agent-runs.md 9.1): definition -> plan, or all that is wrong with
 * it.
 *
 * Everything is looked at even when something is wrong already, so that an author gets all issues at once. Pointers
 * are relative to the definition. Members that nobody knows are ignored at the top (a definition may carry notes for
 * other tools) and refused in nodes, policies and configs, where they are mostly misspelt. */
#include "workflow/budget.h"
#include "workflow/capability.h"
#include "workflow/nested.h"
#include "workflow/spec.h"
#include <stdlib.h>

enum { DEPTH_MAX = 64 };

struct def_edge {
    uint32_t from, to;
    bool chosen; /* by a switch */
};

struct def_node {
    struct jv v;
    struct span name; /* empty when it is none */
    const struct capability *capability;
    struct span binding;
    struct jv config;
    struct span machine; /* canonical plan of the machine in it, or empty */
    int64_t max_tries, backoff_ms;
    uint32_t out, out_count; /* once the edges are sorted */
    bool reached;
    uint32_t into; /* cycle search: edges that still lead here */
};

struct compile {
    const struct plan *plan;
    struct arena *arena; /* of the compile only */
    struct issues *issues;
    struct buf at;
    struct def_node *nodes;
    uint32_t node_count;
    uint32_t *by_name; /* indices of nodes that have a name, sorted */
    uint32_t name_count;
    struct def_edge *edges;
    uint32_t edge_count, edge_cap;
    uint32_t entry; /* or NO_INDEX */
    struct budget_text budget;
    int64_t max_attempts, max_steps, run_timeout_ms, human_timeout_ms;
};

#define ISSUE(c, code, ...) issue_add((c)->issues, buf_view(&(c)->at), code, __VA_ARGS__)

/* ---- where we are in the definition ---- */

static size_t enter(struct compile *c, const char *name)
{
    size_t before = c->at.len;
    buf_printf(&c->at, "/%s", name);
    return before;
}

static size_t enter_index(struct compile *c, size_t index)
{
    size_t before = c->at.len;
    buf_printf(&c->at, "/%zu", index);
    return before;
}

static void leave(struct compile *c, size_t before)
{
    c->at.len = before;
}

/* ---- plain members ---- */

static bool is_absent(struct jv v)
{
    return jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL);
}

/* Absent and null mean the default. */
static int64_t read_int(struct compile *c, struct jv object, const char *name, int64_t def, int64_t low, int64_t high)
{
    struct jv v = jv_get(object, name);
    size_t before = enter(c, name);
    int64_t n = def;

    if (!is_absent(v)) {
        if (!jv_i64(v, &n)) {
            ISSUE(c, "type", "must be an integer");
        } else if (n < low || n > high) {
            ISSUE(c, "range", "must be from %lld to %lld", (long long)low, (long long)high);
            n = def;
        }
    }
    leave(c, before);
    return n;
}

/* A string that must be there; empty when it is not. */
static struct span read_text(struct compile *c, struct jv object, const char *name)
{
    struct jv v = jv_get(object, name);
    size_t before = enter(c, name);
    struct span text = SPAN_NONE;

    if (is_absent(v))
        ISSUE(c, "required", "is required");
    else if (!jv_is(v, JSON_STRING))
        ISSUE(c, "type", "must be a string");
    else if ((text = jv_string(v, c->arena)).n == 0)
        ISSUE(c, "range", "must not be empty");
    leave(c, before);
    return text;
}

static void refuse_unknown(struct compile *c, struct jv object, const char *const *known)
{
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct span name = jv_string(it.name, c->arena);
        const char *const *k = known;
        while (*k && !span_is(name, *k))
            k++;
        if (*k)
            continue;
        size_t before = c->at.len;
        json_pointer_push(&c->at, name);
        ISSUE(c, "unknown_member", "is not known here");
        leave(c, before);
    }
}

/* An object or nothing; the absent value stands for both. */
static struct jv read_object(struct compile *c, struct jv object, const char *name)
{
    struct jv v = jv_get(object, name);
    if (jv_is(v, JSON_OBJECT))
        return v;
    if (!is_absent(v)) {
        size_t before = enter(c, name);
        ISSUE(c, "type", "must be an object");
        leave(c, before);
    }
    return (struct jv){ 0 };
}

/* ---- policy ---- */

static void read_policy(struct compile *c, struct jv definition)
{
    static const char *const known[] = { "max_attempts", "max_steps", "run_timeout_ms", "human_timeout_ms", NULL };
    struct jv policy = read_object(c, definition, "policy");
    size_t before = enter(c, "policy");

    c->max_attempts = read_int(c, policy, "max_attempts", 1, 1, 100);
    c->max_steps = read_int(c, policy, "max_steps", PLAN_STEPS_DEFAULT, 1, PLAN_STEPS_MAX);
    c->run_timeout_ms = read_int(c, policy, "run_timeout_ms", 0, 1, PLAN_MS_MAX);
    c->human_timeout_ms = read_int(c, policy, "human_timeout_ms", 0, 1, PLAN_MS_MAX);
    if (jv_is(policy, JSON_OBJECT))
        refuse_unknown(c, policy, known);
    leave(c, before);
}

/* ---- nodes ---- */

static void read_name(struct compile *c, struct def_node *node)
{
    struct span name = read_text(c, node->v, "node");
    if (name.n && !plan_name_valid(name)) {
        size_t before = enter(c, "node");
        ISSUE(c, "pattern", "must be a lower-case letter and up to 63 lower-case letters, digits and underscores");
        leave(c, before);
        return;
    }
    node->name = name;
}

static void read_capability(struct compile *c, struct def_node *node)
{
    struct span ref = read_text(c, node->v, "capability_ref"), version = read_text(c, node->v, "capability_version");
    bool known = capability_known(ref);
    size_t before;

    node->capability = capability_find(ref, version);
    if (ref.n && !known) {
        before = enter(c, "capability_ref");
        ISSUE(c, "unknown_capability", "there is no capability %.*s", (int)(ref.n < 100 ? ref.n : 100), ref.p);
        leave(c, before);
    } else if (known && version.n && !node->capability) {
        before = enter(c, "capability_version");
        ISSUE(c, "unknown_version", "there is no such version of %.*s", SPAN_ARG(ref));
        leave(c, before);
    }
}

static void read_binding(struct compile *c, struct def_node *node)
{
    static const char *const bindings[] = { "builtin", "http", "model", "human", "agent", "loop", "team", "tool", "worker", NULL };
    struct span binding = read_text(c, node->v, "execution_binding");
    const char *const *b = bindings;
    size_t before = enter(c, "execution_binding");

    while (*b && !span_is(binding, *b))
        b++;
    node->binding = binding;
    if (binding.n && !*b)
        ISSUE(c, "enum", "must be builtin, model, human, agent, loop or team");
    else if (span_is(binding, "http") || span_is(binding, "worker"))
        ISSUE(c, "unsupported_binding", "this server does not execute nodes bound to %s", *b);
    else if (binding.n && node->capability && !span_is(binding, node->capability->binding))
        ISSUE(c, "binding_mismatch", "%s is bound to %s", node->capability->name, node->capability->binding);
    leave(c, before);
}

/* The members of `object` called `name`, or all others. */
static struct jv pick(struct compile *c, struct jv object, const char *name, bool others)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);

    jw_obj(&w);
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        if (jv_str_eq(it.name, name) == others)
            continue;
        jw_key_span(&w, jv_string(it.name, c->arena));
        jw_raw(&w, jv_raw(it.value));
    }
    jw_end(&w);
    return json_read(arena_copy(c->arena, buf_view(&text)), c->arena);
}

static void compile_machine(struct compile *c, struct def_node *node, struct jv definition)
{
    CLEANUP(buf_done) struct buf json = { 0 };
    if (!nested_compile(c->plan, node->capability->nests, definition, &c->at, c->issues, &json))
        node->machine = arena_copy(c->arena, buf_view(&json));
}

/* The config is the machine's definition, and beside it the input that the machine gets. */
static void read_machine(struct compile *c, struct def_node *node)
{
    if (!jv_is(node->config, JSON_OBJECT)) {
        ISSUE(c, "type", "must be an object");
        node->config = (struct jv){ 0 };
        return;
    }
    compile_machine(c, node, pick(c, node->config, "input", true));
    node->config = pick(c, node->config, "input", false);
}

static void read_config(struct compile *c, struct def_node *node)
{
    struct jv config = jv_get(node->v, "config");
    size_t before = enter(c, "config");

    node->config = is_absent(config) ? (struct jv){ 0 } : config;
    if (node->capability && node->capability->nests)
        read_machine(c, node);
    else if (node->capability)
        capability_check(node->capability, node->config, false, &c->at, c->issues);
    else if (!is_absent(config) && !jv_is(config, JSON_OBJECT))
        ISSUE(c, "type", "must be an object");
    leave(c, before);
}

static void read_node_policy(struct compile *c, struct def_node *node)
{
    static const char *const known[] = { "max_tries", "backoff_ms", NULL };
    struct jv policy = read_object(c, node->v, "policy");
    size_t before = enter(c, "policy");

    node->max_tries = read_int(c, policy, "max_tries", 1, 1, PLAN_TRIES_MAX);
    node->backoff_ms = read_int(c, policy, "backoff_ms", 0, 0, 86400000);
    if (jv_is(policy, JSON_OBJECT))
        refuse_unknown(c, policy, known);
    leave(c, before);
}

static void read_node(struct compile *c, struct def_node *node)
{
    static const char *const known[] = { "node", "capability_ref", "capability_version", "execution_binding", "config",
                                         "next", "policy",         "description",        "metadata",          NULL };
    if (!jv_is(node->v, JSON_OBJECT)) {
        ISSUE(c, "type", "must be an object");
        return;
    }
    read_name(c, node);
    read_capability(c, node);
    read_binding(c, node);
    read_config(c, node);
    read_node_policy(c, node);
    refuse_unknown(c, node->v, known);
}

static void read_nodes(struct compile *c, struct jv definition)
{
    struct jv nodes = jv_get(definition, "nodes");
    size_t outer = enter(c, "nodes"), count = jv_is(nodes, JSON_ARRAY) ? jv_count(nodes) : 0;

    if (is_absent(nodes))
        ISSUE(c, "required", "is required");
    else if (!jv_is(nodes, JSON_ARRAY))
        ISSUE(c, "type", "must be an array");
    else if (count == 0)
        ISSUE(c, "range", "must hold at least one node");
    else if (count > PLAN_NODES_MAX)
        ISSUE(c, "limit", "must hold at most %d nodes", PLAN_NODES_MAX);
    if (count > 0 && count <= PLAN_NODES_MAX) {
        c->nodes = ARENA_ARRAY(c->arena, struct def_node, count);
        for (struct jv_iter it = jv_iter(nodes); jv_step(&it);) {
            size_t before = enter_index(c, c->node_count);
            c->nodes[c->node_count].v = it.value;
            read_node(c, &c->nodes[c->node_count++]);
            leave(c, before);
        }
    }
    leave(c, outer);
}

/* ---- names ---- */

static int by_name_then_place(const void *a, const void *b, void *ctx)
{
    const struct def_node *nodes = ctx;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = span_cmp(nodes[x].name, nodes[y].name);
    return order ? order : (x > y) - (x < y);
}

static void sort_names(struct compile *c)
{
    c->by_name = ARENA_ARRAY(c->arena, uint32_t, c->node_count);
    for (uint32_t i = 0; i < c->node_count; i++)
        if (c->nodes[i].name.n)
            c->by_name[c->name_count++] = i;
    if (c->name_count > 1)
        qsort_r(c->by_name, c->name_count, sizeof c->by_name[0], by_name_then_place, c->nodes);
    for (uint32_t k = 1; k < c->name_count; k++) {
        uint32_t first = c->by_name[k - 1], again = c->by_name[k];
        if (!span_eq(c->nodes[first].name, c->nodes[again].name))
            continue;
        size_t before = c->at.len;
        buf_printf(&c->at, "/nodes/%u/node", again);
        ISSUE(c, "duplicate", "another node is named %.*s", SPAN_ARG(c->nodes[again].name));
        leave(c, before);
    }
}

static uint32_t find(const struct compile *c, struct span name)
{
    uint32_t low = 0, high = c->name_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (span_cmp(c->nodes[c->by_name[mid]].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low < c->name_count && span_eq(c->nodes[c->by_name[low]].name, name);
    return found ? c->by_name[low] : NO_INDEX;
}

static uint32_t find_or_issue(struct compile *c, struct jv v)
{
    struct span name = jv_string(v, c->arena);
    uint32_t node = find(c, name);
    if (node == NO_INDEX)
        ISSUE(c, "unknown_node", "there is no node %.*s", (int)(name.n < 100 ? name.n : 100), name.n ? name.p : "");
    return node;
}

static void read_entry(struct compile *c, struct jv definition)
{
    struct span name = read_text(c, definition, "entry");
    size_t before = enter(c, "entry");
    c->entry = name.n ? find_or_issue(c, jv_get(definition, "entry")) : NO_INDEX;
    leave(c, before);
}

/* ---- edges ---- */

static void add_edge(struct compile *c, uint32_t from, uint32_t to, bool chosen)
{
    if (c->edge_count == c->edge_cap) {
        c->edge_cap = c->edge_cap ? c->edge_cap * 2 : 64;
        c->edges = mem_grow(c->edges, c->edge_cap * sizeof c->edges[0]);
    }
    c->edges[c->edge_count++] = (struct def_edge){ from, to, chosen };
}

/* One name in `next`. */
static void read_next_name(struct compile *c, uint32_t from, struct jv v)
{
    if (!jv_is(v, JSON_STRING)) {
        ISSUE(c, "type", "must be the name of a node");
        return;
    }
    uint32_t to = find_or_issue(c, v);
    if (to != NO_INDEX)
        add_edge(c, from, to, false);
}

static void read_next_names(struct compile *c, uint32_t from, struct jv names)
{
    uint32_t first = c->edge_count;
    size_t index = 0;

    for (struct jv_iter it = jv_iter(names); jv_step(&it); index++) {
        size_t before = enter_index(c, index);
        uint32_t count = c->edge_count;
        read_next_name(c, from, it.value);
        for (uint32_t e = first; e < count && c->edge_count > count; e++)
            if (c->edges[e].to == c->edges[count].to) {
                ISSUE(c, "duplicate", "is named twice");
                c->edge_count = count;
            }
        leave(c, before);
        if (c->edge_count > PLAN_EDGES_MAX || index > PLAN_NODES_MAX)
            return;
    }
}

struct case_place {
    struct compile *c;
    uint32_t from;
};

static void read_case_target(void *ctx, size_t index, struct jv next)
{
    struct case_place *place = ctx;
    struct compile *c = place->c;
    size_t before = c->at.len;

    buf_printf(&c->at, "/config/cases/%zu/next", index);
    uint32_t to = find_or_issue(c, next);
    leave(c, before);
    if (to != NO_INDEX && c->edge_count <= PLAN_EDGES_MAX)
        add_edge(c, place->from, to, true);
}

static void read_next(struct compile *c, uint32_t from)
{
    struct def_node *node = &c->nodes[from];
    struct jv next = jv_get(node->v, "next");
    bool is_switch = node->capability && capability_is_switch(node->capability);
    size_t outer = c->at.len, before;

    buf_printf(&c->at, "/nodes/%u", from);
    before = enter(c, "next");
    if (is_switch && !is_absent(next))
        ISSUE(c, "not_allowed", "a core.switch names what follows in its cases");
    else if (jv_is(next, JSON_ARRAY))
        read_next_names(c, from, next);
    else if (!is_absent(next))
        read_next_name(c, from, next);
    leave(c, before);
    if (is_switch)
        capability_targets(node->capability, node->config, read_case_target, &(struct case_place){ c, from });
    leave(c, outer);
}

static int by_from_then_to(const void *a, const void *b, void *ctx)
{
    const struct compile *c = ctx;
    const struct def_edge *x = a, *y = b;
    int order = x->from == y->from ? 0 : span_cmp(c->nodes[x->from].name, c->nodes[y->from].name);
    if (order == 0)
        order = (x->from > y->from) - (x->from < y->from);
    return order ? order : x->to == y->to ? 0 : span_cmp(c->nodes[x->to].name, c->nodes[y->to].name);
}

/* In byte order of the names; cases that lead to the same node are one edge. */
static void sort_edges(struct compile *c)
{
    uint32_t kept = 0;
    if (c->edge_count > 1)
        qsort_r(c->edges, c->edge_count, sizeof c->edges[0], by_from_then_to, c);
    for (uint32_t e = 0; e < c->edge_count; e++)
        if (kept == 0 || c->edges[kept - 1].from != c->edges[e].from || c->edges[kept - 1].to != c->edges[e].to)
            c->edges[kept++] = c->edges[e];
    c->edge_count = kept;
    for (uint32_t e = 0; e < kept; e++) {
        struct def_node *from = &c->nodes[c->edges[e].from];
        if (from->out_count++ == 0)
            from->out = e;
    }
}

static void read_edges(struct compile *c)
{
    for (uint32_t i = 0; i < c->node_count && c->edge_count <= PLAN_EDGES_MAX; i++)
        read_next(c, i);
    if (c->edge_count > PLAN_EDGES_MAX) {
        size_t before = enter(c, "nodes");
        ISSUE(c, "limit", "may have at most %d followers in all", PLAN_EDGES_MAX);
        leave(c, before);
        c->edge_count = PLAN_EDGES_MAX;
    }
    sort_edges(c);
}

/* ---- references ---- */

static void check_reference(struct compile *c, struct jv reference)
{
    struct jv pointer = jv_get(reference, "$from");
    struct ref ref;
    size_t before = enter(c, "$from");

    if (!jv_is(pointer, JSON_STRING))
        ISSUE(c, "type", "must be a JSON pointer in a string");
    else if (!ref_parse(jv_string(pointer, c->arena), &ref))
        ISSUE(c, "pointer", "must be a JSON pointer that begins with /input, /values or /nodes/NAME/output");
    else if (ref.scope == REF_OUTPUT && find(c, ref.node) == NO_INDEX)
        ISSUE(c, "unknown_node", "there is no node %.*s", (int)(ref.node.n < 100 ? ref.node.n : 100), ref.node.p);
    leave(c, before);
    refuse_unknown(c, reference, (const char *const[]){ "$from", "default", NULL });
}

static void check_references(struct compile *c, struct jv v)
{
    bool object = jv_is(v, JSON_OBJECT), is_ref = ref_is(v);
    size_t index = 0;

    if (is_ref)
        check_reference(c, v);
    if (!object && !jv_is(v, JSON_ARRAY))
        return;
    for (struct jv_iter it = jv_iter(v); jv_step(&it); index++) {
        size_t before = c->at.len;
        if (object)
            json_pointer_push(&c->at, jv_string(it.name, c->arena));
        else
            buf_printf(&c->at, "/%zu", index);
        if (!is_ref || jv_str_eq(it.name, "default"))
            check_references(c, it.value);
        leave(c, before);
    }
}

struct pointer_place {
    struct compile *c;
    uint32_t node;
};

/* A switch that looks at a node which does not exist. Where exactly is not known here: the cases are. */
static void check_pointer(void *ctx, struct span pointer)
{
    struct pointer_place *place = ctx;
    struct compile *c = place->c;
    struct ref ref;

    if (!ref_parse(pointer, &ref) || ref.scope != REF_OUTPUT || find(c, ref.node) != NO_INDEX)
        return;
    size_t before = enter(c, "cases");
    ISSUE(c, "unknown_node", "a case looks at node %.*s, which there is not",
          (int)(ref.node.n < 100 ? ref.node.n : 100), ref.node.p);
    leave(c, before);
}

static void check_all_references(struct compile *c)
{
    for (uint32_t i = 0; i < c->node_count; i++) {
        size_t before = c->at.len;
        buf_printf(&c->at, "/nodes/%u/config", i);
        check_references(c, c->nodes[i].config);
        if (c->nodes[i].capability)
            capability_pointers(c->nodes[i].capability, c->nodes[i].config, check_pointer,
                                &(struct pointer_place){ c, i });
        leave(c, before);
    }
}

/* ---- the shape of the graph ---- */

static void check_reach(struct compile *c)
{
    uint32_t *stack = ARENA_ARRAY(c->arena, uint32_t, c->node_count), depth = 0;

    if (c->entry == NO_INDEX)
        return;
    c->nodes[c->entry].reached = true;
    stack[depth++] = c->entry;
    while (depth > 0) {
        const struct def_node *node = &c->nodes[stack[--depth]];
        for (uint32_t e = node->out; e < node->out + node->out_count; e++) {
            struct def_node *to = &c->nodes[c->edges[e].to];
            if (!to->reached)
                stack[depth++] = c->edges[e].to;
            to->reached = true;
        }
    }
    for (uint32_t i = 0; i < c->node_count; i++) {
        /* A node without a usable name has an issue already, and nobody could have named it. */
        if (c->nodes[i].reached || !c->nodes[i].name.n)
            continue;
        size_t before = c->at.len;
        buf_printf(&c->at, "/nodes/%u", i);
        ISSUE(c, "unreachable", "no way leads from the entry to node %.*s", SPAN_ARG(c->nodes[i].name));
        leave(c, before);
    }
}

/* From a node that is on a cycle or behind one, back along the edges until a node comes again: that is a cycle. */
static void report_cycle(struct compile *c, uint32_t start)
{
    CLEANUP(buf_done) struct buf names = { 0 };
    uint32_t *from = ARENA_ARRAY(c->arena, uint32_t, c->node_count);
    uint32_t *circle = ARENA_ARRAY(c->arena, uint32_t, c->node_count);
    bool *seen = ARENA_ARRAY(c->arena, bool, c->node_count);
    uint32_t at = start, count = 0;

    for (uint32_t e = 0; e < c->edge_count; e++)
        if (!c->edges[e].chosen && c->nodes[c->edges[e].from].into > 0)
            from[c->edges[e].to] = c->edges[e].from;
    for (; !seen[at]; at = from[at])
        seen[at] = true;
    do {
        circle[count++] = at;
        at = from[at];
    } while (at != circle[0]);
    for (uint32_t i = count; i-- > 0 && count - i <= 8;)
        buf_printf(&names, " %.*s", SPAN_ARG(c->nodes[circle[i]].name));
    size_t before = c->at.len;
    buf_printf(&c->at, "/nodes/%u/next", circle[0]);
    ISSUE(c, "cycle", "nodes follow each other in a circle without a core.switch:%.*s%s", SPAN_ARG(buf_view(&names)),
          count > 8 ? " and more" : "");
    leave(c, before);
}

/* Peels off nodes that nothing leads to, without the edges of switches. What is left hangs on a cycle. */
static void check_cycles(struct compile *c)
{
    uint32_t *stack = ARENA_ARRAY(c->arena, uint32_t, c->node_count), depth = 0, left = c->node_count;

    for (uint32_t e = 0; e < c->edge_count; e++)
        c->nodes[c->edges[e].to].into += !c->edges[e].chosen;
    for (uint32_t i = 0; i < c->node_count; i++)
        if (c->nodes[i].into == 0)
            stack[depth++] = i;
    while (depth > 0) {
        const struct def_node *node = &c->nodes[stack[--depth]];
        left--;
        for (uint32_t e = node->out; e < node->out + node->out_count; e++)
            if (!c->edges[e].chosen && --c->nodes[c->edges[e].to].into == 0)
                stack[depth++] = c->edges[e].to;
    }
    for (uint32_t i = 0; left > 0 && i < c->node_count; i++)
        if (c->nodes[i].into > 0) {
            report_cycle(c, i);
            return;
        }
}

/* ---- writing the plan ---- */

static void write_number(struct jw *w, const char *name, int64_t n, int64_t def)
{
    if (n == def)
        return;
    jw_key(w, name);
    jw_i64(w, n);
}

static void write_node(const struct def_node *node, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, node->name);
    jw_key(w, "type");
    jw_cstr(w, node->capability->name);
    jw_key(w, "version");
    jw_cstr(w, node->capability->version);
    jw_key(w, "binding");
    jw_str(w, node->binding);
    if (jv_count(node->config) > 0) {
        jw_key(w, "config");
        jw_raw(w, jv_raw(node->config));
    }
    if (node->machine.n) {
        jw_key(w, "machine");
        jw_raw(w, node->machine);
    }
    write_number(w, "max_tries", node->max_tries, 1);
    write_number(w, "backoff_ms", node->max_tries > 1 ? node->backoff_ms : 0, 0);
    jw_end(w);
}

static void write_edge(const struct compile *c, const struct def_edge *edge, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "from");
    jw_str(w, c->nodes[edge->from].name);
    jw_key(w, "to");
    jw_str(w, c->nodes[edge->to].name);
    if (edge->chosen) {
        jw_key(w, "when");
        jw_obj(w);
        jw_key(w, "pointer");
        jw_cstr(w, "/next");
        jw_key(w, "equals");
        jw_str(w, c->nodes[edge->to].name);
        jw_end(w);
    }
    jw_end(w);
}

static void write_limits(const struct compile *c, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "max_attempts");
    jw_i64(w, c->max_attempts);
    jw_key(w, "max_steps");
    jw_i64(w, c->max_steps);
    write_number(w, "run_timeout_ms", c->run_timeout_ms, 0);
    write_number(w, "human_timeout_ms", c->human_timeout_ms, 0);
    budget_write(&c->budget, w);
    jw_end(w);
}

static void write_plan(const struct compile *c, struct buf *out)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "kind");
    jw_cstr(&w, "graph");
    jw_key(&w, "format");
    jw_i64(&w, 1);
    jw_key(&w, "limits");
    write_limits(c, &w);
    jw_key(&w, "start");
    jw_arr(&w);
    jw_str(&w, c->nodes[c->entry].name);
    jw_arr_end(&w);
    jw_key(&w, "nodes");
    jw_arr(&w);
    for (uint32_t k = 0; k < c->name_count; k++)
        write_node(&c->nodes[c->by_name[k]], &w);
    jw_arr_end(&w);
    jw_key(&w, "edges");
    jw_arr(&w);
    for (uint32_t e = 0; e < c->edge_count; e++)
        write_edge(c, &c->edges[e], &w);
    jw_arr_end(&w);
    jw_end(&w);
}

/* ---- the whole ---- */

/* ---- one machine and nothing around it ---- */

static const struct single {
    const char *member, *capability;
} singles[] = { { "agent", "agent.loop" }, { "team", "team.run" } };

/* {"format": 1, "agent": {…}}: a graph of one node of that name, whose input is the run's. */
static void make_single(struct compile *c, const struct single *single, struct jv definition)
{
    struct def_node *node = c->nodes = ARENA_NEW(c->arena, struct def_node);
    size_t before = enter(c, single->member);

    node->name = span_of(single->member);
    node->capability = capability_find(span_of(single->capability), SPAN("1"));
    node->binding = span_of(node->capability->binding);
    node->config = json_read(SPAN("{\"input\":{\"$from\":\"/input\",\"default\":null}}"), c->arena);
    node->max_tries = 1;
    if (jv_is(definition, JSON_OBJECT))
        compile_machine(c, node, definition);
    else
        ISSUE(c, "type", "must be an object");
    leave(c, before);
    c->by_name = ARENA_NEW(c->arena, uint32_t);
    c->node_count = c->name_count = 1;
    c->entry = 0;
}

static bool read_single(struct compile *c, struct jv definition)
{
    const struct single *first = NULL;

    for (size_t i = 0; i < ARRAY_LEN(singles); i++) {
        if (is_absent(jv_get(definition, singles[i].member)))
            continue;
        if (first || !is_absent(jv_get(definition, "nodes"))) {
            size_t before = enter(c, singles[i].member);
            ISSUE(c, "exclusive", "a definition has nodes, an agent or a team");
            leave(c, before);
        }
        first = first ? first : &singles[i];
    }
    if (first)
        make_single(c, first, jv_get(definition, first->member));
    return first;
}

static void read_definition(struct compile *c, struct jv definition)
{
    size_t before = enter(c, "format");
    if (is_absent(jv_get(definition, "format")))
        ISSUE(c, "required", "is required");
    leave(c, before);
    read_int(c, definition, "format", 1, 1, 1);
    read_policy(c, definition);
    budget_read(jv_get(definition, "budget"), c->arena, &c->at, c->issues, &c->budget);
    if (read_single(c, definition))
        return;
    read_nodes(c, definition);
    sort_names(c);
    read_entry(c, definition);
    read_edges(c);
    check_all_references(c);
    check_reach(c);
    check_cycles(c);
}

static enum err compile_checked(struct compile *c, struct jv definition, struct plan *plan)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    size_t found_before = c->issues->count;

    if (!jv_is(definition, JSON_OBJECT)) {
        ISSUE(c, "type", "must be an object");
        return ERR_VALIDATION;
    }
    if (jv_deeper_than(definition, DEPTH_MAX)) {
        ISSUE(c, "limit", "is nested deeper than %d", DEPTH_MAX);
        return ERR_VALIDATION;
    }
    read_definition(c, definition);
    if (c->issues->count > found_before)
        return ERR_VALIDATION;
    write_plan(c, &text);
    enum err err = plan_seal(buf_view(&text), plan);
    assert(err != ERR_CORRUPT); /* we wrote it */
    if (err == ERR_TOO_LARGE) {
        size_t before = enter(c, "nodes");
        ISSUE(c, "limit", "loops are nested deeper than %d", PLAN_LOOPS_DEEP);
        leave(c, before);
        return ERR_VALIDATION;
    }
    return err;
}

/* Bundles speak of JSON pointers, workflows of paths. */
static enum err compile_workflow(struct jv definition, struct plan *plan, struct issues *issues)
{
    enum err err = workflow_compile(definition, plan, issues);
    bool inside = jv_is(jv_get(definition, "workflow"), JSON_OBJECT);
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++) {
        struct span pointer = spec_path_pointer(issues->items[i].pointer, issues->arena);
        issues->items[i].pointer = arena_printf(issues->arena, "%s%.*s", inside ? "/workflow" : "", SPAN_ARG(pointer));
    }
    return err;
}

enum err bundle_compile(struct jv definition, struct plan *plan, struct issues *issues)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct compile c = { .plan = plan, .arena = &scratch, .issues = issues, .entry = NO_INDEX };
    enum err err = workflow_is(definition) ? compile_workflow(definition, plan, issues) : compile_checked(&c, definition, plan);
    buf_done(&c.at);
    free(c.edges);
    return err;
}
