/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - from the canonical JSON of a plan to arrays, once per plan (plan.h).
 *
 * The arrays hold what every step would otherwise compute again: who precedes whom, which edges begin a loop anew,
 * which outputs somebody may ask for. Loops are found as a forest: the strongly connected parts of the graph are the
 * outer loops; the first node of each (in the order of a walk from the start) is its header, the edges into it from
 * within are its back edges; without them the same is done inside. */
#include "workflow/plan.h"
#include "base/ids.h"
#include "workflow/budget.h"
#include "workflow/capability.h"
#include "workflow/flow.h"
#include "workflow/nested.h"
#include "workflow/ref.h"

bool plan_name_valid(struct span name)
{
    if (name.n < 1 || name.n > 64 || name.p[0] < 'a' || name.p[0] > 'z')
        return false;
    for (size_t i = 1; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

uint32_t graph_find(const struct graph *graph, struct span name)
{
    uint32_t low = 0, high = graph->node_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int c = span_cmp(graph->nodes[mid].id, name);
        if (c == 0)
            return mid;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NO_INDEX;
}

bool loop_within(const struct graph *graph, uint32_t loop, uint32_t outer)
{
    while (loop != NO_INDEX && loop != outer)
        loop = graph->loops[loop].parent;
    return loop == outer;
}

/* ---- reading ---- */

static bool get_i64(struct jv object, const char *name, int64_t def, int64_t low, int64_t high, int64_t *ret)
{
    struct jv v = jv_get(object, name);
    *ret = def;
    return jv_is(v, JSON_NONE) || (jv_i64(v, ret) && *ret >= low && *ret <= high);
}

static bool read_limits(struct jv limits, struct plan *plan, struct graph *graph)
{
    int64_t attempts, steps, run_ms, human_ms;
    if (!get_i64(limits, "max_attempts", 1, 1, UINT32_MAX, &attempts) ||
        !get_i64(limits, "max_steps", PLAN_STEPS_DEFAULT, 1, PLAN_STEPS_MAX, &steps) ||
        !get_i64(limits, "run_timeout_ms", 0, 0, PLAN_MS_MAX, &run_ms) ||
        !get_i64(limits, "human_timeout_ms", 0, 0, PLAN_MS_MAX, &human_ms))
        return false;
    plan->max_attempts = (uint32_t)attempts;
    plan->run_timeout_us = (uint64_t)run_ms * 1000;
    plan->human_timeout_us = (uint64_t)human_ms * 1000;
    graph->max_steps = (uint32_t)steps;
    return budget_open(jv_get(limits, "budget"), &plan->budget);
}

static bool read_node(struct jv v, struct plan *plan, struct plan_node *node)
{
    struct arena *arena = &plan->arena;
    int64_t tries, backoff_ms;
    if (!get_i64(v, "max_tries", 1, 1, PLAN_TRIES_MAX, &tries) ||
        !get_i64(v, "backoff_ms", 0, 0, PLAN_MS_MAX, &backoff_ms))
        return false;
    *node = (struct plan_node){
        .id = jv_string(jv_get(v, "id"), arena),
        .capability = capability_find(jv_string(jv_get(v, "type"), arena), jv_string(jv_get(v, "version"), arena)),
        .binding = jv_string(jv_get(v, "binding"), arena),
        .config = jv_get(v, "config"),
        .has_refs = ref_inside(jv_get(v, "config")),
        .max_tries = (uint32_t)tries,
        .backoff_us = (uint64_t)backoff_ms * 1000,
        .loop = NO_INDEX,
    };
    if (!plan_name_valid(node->id) || !node->capability)
        return false;
    if (node->capability->nests)
        node->inner = nested_open(plan, arena, node->capability->nests, jv_get(v, "machine"));
    return node->inner || !node->capability->nests;
}

static bool read_nodes(struct jv v, struct plan *plan, struct graph *graph)
{
    size_t count = jv_count(v);
    if (!jv_is(v, JSON_ARRAY) || count < 1 || count > PLAN_NODES_MAX)
        return false;
    graph->nodes = ARENA_ARRAY(&plan->arena, struct plan_node, count);
    for (struct jv_iter it = jv_iter(v); jv_step(&it); graph->node_count++) {
        struct plan_node *node = &graph->nodes[graph->node_count];
        if (!read_node(it.value, plan, node))
            return false;
        if (graph->node_count > 0 && span_cmp(node[-1].id, node->id) >= 0)
            return false;
    }
    return true;
}

static bool read_edge(struct jv v, struct arena *arena, const struct graph *graph, struct plan_edge *edge)
{
    struct jv when = jv_get(v, "when");
    *edge = (struct plan_edge){
        .from = graph_find(graph, jv_string(jv_get(v, "from"), arena)),
        .to = graph_find(graph, jv_string(jv_get(v, "to"), arena)),
        .back = NO_INDEX,
        .conditional = !jv_is(when, JSON_NONE),
        .pointer = jv_string(jv_get(when, "pointer"), arena),
        .equals = jv_get(when, "equals"),
    };
    if (edge->conditional && (!json_pointer_valid(edge->pointer) || jv_is(edge->equals, JSON_NONE)))
        return false;
    return edge->from != NO_INDEX && edge->to != NO_INDEX;
}

static bool read_edges(struct jv v, struct arena *arena, struct graph *graph)
{
    size_t count = jv_count(v);
    if (!jv_is(v, JSON_ARRAY) || count > PLAN_EDGES_MAX)
        return false;
    graph->edges = ARENA_ARRAY(arena, struct plan_edge, count);
    for (struct jv_iter it = jv_iter(v); jv_step(&it); graph->edge_count++) {
        struct plan_edge *edge = &graph->edges[graph->edge_count];
        if (!read_edge(it.value, arena, graph, edge) || (graph->edge_count > 0 && edge[-1].from > edge->from))
            return false;
    }
    return true;
}

static bool read_starts(struct jv v, struct arena *arena, struct graph *graph)
{
    if (!jv_is(v, JSON_ARRAY) || jv_count(v) < 1)
        return false;
    graph->starts = ARENA_ARRAY(arena, uint32_t, jv_count(v));
    for (struct jv_iter it = jv_iter(v); jv_step(&it); graph->start_count++) {
        uint32_t node = graph_find(graph, jv_string(it.value, arena));
        if (node == NO_INDEX)
            return false;
        graph->starts[graph->start_count] = node;
    }
    return true;
}

/* Fills in/in_count and out/out_count. */
static void link_edges(struct graph *graph, struct arena *arena)
{
    uint32_t place = 0;

    for (uint32_t e = 0; e < graph->edge_count; e++) {
        struct plan_node *from = &graph->nodes[graph->edges[e].from];
        if (from->out_count++ == 0)
            from->out = e;
        graph->nodes[graph->edges[e].to].in_count++;
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        graph->nodes[i].in = place;
        place += graph->nodes[i].in_count;
        graph->nodes[i].in_count = 0;
    }
    graph->in_edges = ARENA_ARRAY(arena, uint32_t, graph->edge_count);
    for (uint32_t e = 0; e < graph->edge_count; e++) {
        struct plan_node *to = &graph->nodes[graph->edges[e].to];
        graph->in_edges[to->in + to->in_count++] = e;
    }
}

/* ---- loops ---- */

/* Working memory of the loop search. `part` says which piece of the graph a node belongs to while pieces are split. */
struct split {
    struct graph *graph;
    uint32_t *part, *place; /* by node: piece; order of the walk from the start */
    uint32_t *number, *low; /* Tarjan's */
    bool *on_stack;
    uint32_t *stack, *path, *edge; /* nodes seen, nodes of the current walk, next edge of each */
    uint32_t *todo, todo_count;    /* loops whose inside is still to be split */
    uint32_t counter, parts;
    bool too_deep;
};

/* Depth-first order from the start nodes; nodes that cannot be reached come last. */
static void number_places(struct split *s)
{
    struct graph *g = s->graph;
    uint32_t next = g->node_count;

    for (uint32_t i = 0; i < g->node_count; i++)
        s->place[i] = NO_INDEX;
    for (uint32_t k = g->start_count + g->node_count; k-- > 0;) {
        uint32_t root = k >= g->node_count ? g->starts[k - g->node_count] : k, depth = 0;
        if (s->number[root])
            continue;
        s->number[root] = 1;
        s->path[depth] = root;
        s->edge[depth++] = 0;
        while (depth > 0) {
            const struct plan_node *node = &g->nodes[s->path[depth - 1]];
            if (s->edge[depth - 1] == node->out_count) {
                s->place[s->path[--depth]] = --next;
                continue;
            }
            uint32_t to = g->edges[node->out + s->edge[depth - 1]++].to;
            if (!s->number[to]) {
                s->number[to] = 1;
                s->path[depth] = to;
                s->edge[depth++] = 0;
            }
        }
    }
    memset(s->number, 0, g->node_count * sizeof s->number[0]);
}

static bool edge_inside(const struct split *s, const struct plan_edge *edge, uint32_t part)
{
    return edge->back == NO_INDEX && s->part[edge->from] == part && s->part[edge->to] == part;
}

static uint32_t loop_depth(const struct graph *g, uint32_t loop)
{
    uint32_t depth = 0;
    for (; loop != NO_INDEX; loop = g->loops[loop].parent)
        depth++;
    return depth;
}

/* The members stand on the stack from `first`. They become a loop inside `parent`. */
static void make_loop(struct split *s, uint32_t first, uint32_t count, uint32_t parent)
{
    struct graph *g = s->graph;
    uint32_t header = s->stack[first], loop = g->loop_count, part = ++s->parts;

    if (loop_depth(g, parent) >= PLAN_LOOPS_DEEP) {
        s->too_deep = true;
        return;
    }
    for (uint32_t i = first; i < first + count; i++) {
        if (s->place[s->stack[i]] < s->place[header])
            header = s->stack[i];
        s->part[s->stack[i]] = part;
        g->nodes[s->stack[i]].loop = loop;
    }
    g->loops[g->loop_count++] = (struct plan_loop){ .header = header, .parent = parent };
    s->todo[s->todo_count++] = loop;
    const struct plan_node *h = &g->nodes[header];
    for (uint32_t i = 0; i < h->in_count; i++) {
        struct plan_edge *edge = &g->edges[g->in_edges[h->in + i]];
        if (edge_inside(s, edge, part))
            edge->back = loop;
    }
}

/* A strongly connected part is complete: everything on the stack from `root` on. */
static void pop_part(struct split *s, uint32_t root, uint32_t *top, uint32_t parent)
{
    struct graph *g = s->graph;
    uint32_t first = *top;
    bool cyclic = false;

    do
        s->on_stack[s->stack[--first]] = false;
    while (s->stack[first] != root);
    const struct plan_node *node = &g->nodes[root];
    for (uint32_t i = 0; i < node->out_count; i++) {
        const struct plan_edge *edge = &g->edges[node->out + i];
        cyclic |= edge->to == root && edge->back == NO_INDEX;
    }
    if (*top - first > 1 || cyclic)
        make_loop(s, first, *top - first, parent);
    *top = first;
}

/* Tarjan's search from `root` inside its piece; every cyclic part found becomes a loop inside `parent`. */
static void find_parts(struct split *s, uint32_t root, uint32_t parent)
{
    struct graph *g = s->graph;
    uint32_t depth = 0, top = 0, part = s->part[root];

    s->path[depth] = root;
    s->edge[depth++] = 0;
    while (depth > 0) {
        uint32_t at = s->path[depth - 1];
        const struct plan_node *node = &g->nodes[at];
        if (s->edge[depth - 1] == 0) {
            s->number[at] = s->low[at] = ++s->counter;
            s->stack[top++] = at;
            s->on_stack[at] = true;
        }
        if (s->edge[depth - 1] < node->out_count) {
            const struct plan_edge *edge = &g->edges[node->out + s->edge[depth - 1]++];
            if (edge->back != NO_INDEX)
                continue;
            if (s->on_stack[edge->to]) {
                if (s->number[edge->to] < s->low[at])
                    s->low[at] = s->number[edge->to];
            } else if (s->part[edge->to] == part && !s->number[edge->to]) {
                s->path[depth] = edge->to;
                s->edge[depth++] = 0;
            }
            continue;
        }
        depth--;
        if (depth > 0 && s->low[at] < s->low[s->path[depth - 1]])
            s->low[s->path[depth - 1]] = s->low[at];
        if (s->low[at] == s->number[at])
            pop_part(s, at, &top, parent);
    }
}

/* Splits the piece that `part` names. Its members get a number each, so that each is searched once. */
static void split_piece(struct split *s, const uint32_t *members, uint32_t count, uint32_t parent)
{
    for (uint32_t i = 0; i < count; i++)
        s->number[members[i]] = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!s->number[members[i]])
            find_parts(s, members[i], parent);
}

/* The nodes whose innermost loop so far is `loop`. */
static uint32_t members_of(const struct graph *g, uint32_t loop, uint32_t *ret_members)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i].loop == loop)
            ret_members[count++] = i;
    return count;
}

static bool find_loops(struct graph *g, struct arena *arena)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    uint32_t n = g->node_count + 1;
    struct split s = {
        .graph = g,
        .part = ARENA_ARRAY(&scratch, uint32_t, n),
        .place = ARENA_ARRAY(&scratch, uint32_t, n),
        .number = ARENA_ARRAY(&scratch, uint32_t, n),
        .low = ARENA_ARRAY(&scratch, uint32_t, n),
        .on_stack = ARENA_ARRAY(&scratch, bool, n),
        .stack = ARENA_ARRAY(&scratch, uint32_t, n),
        .path = ARENA_ARRAY(&scratch, uint32_t, n),
        .edge = ARENA_ARRAY(&scratch, uint32_t, n),
        .todo = ARENA_ARRAY(&scratch, uint32_t, n),
    };
    uint32_t *members = ARENA_ARRAY(&scratch, uint32_t, n);

    /* Each loop has a header of its own, so there are at most as many loops as nodes. */
    g->loops = ARENA_ARRAY(arena, struct plan_loop, g->node_count);
    number_places(&s);
    split_piece(&s, members, members_of(g, NO_INDEX, members), NO_INDEX);
    while (s.todo_count > 0 && !s.too_deep) {
        uint32_t loop = s.todo[--s.todo_count];
        split_piece(&s, members, members_of(g, loop, members), loop);
    }
    return !s.too_deep;
}

/* ---- what is known beforehand about each node ---- */

static void keep_referred(void *ctx, struct jv reference)
{
    struct graph *g = ctx;
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct ref ref;

    if (!ref_parse(jv_string(jv_get(reference, "$from"), &scratch), &ref) || ref.scope != REF_OUTPUT)
        return;
    uint32_t node = graph_find(g, ref.node);
    if (node != NO_INDEX)
        g->nodes[node].keep = true;
}

static void keep_pointer(void *ctx, struct span pointer)
{
    struct graph *g = ctx;
    struct ref ref;
    uint32_t node;
    if (ref_parse(pointer, &ref) && ref.scope == REF_OUTPUT && (node = graph_find(g, ref.node)) != NO_INDEX)
        g->nodes[node].keep = true;
}

static void know_nodes(struct graph *g)
{
    for (uint32_t i = 0; i < g->node_count; i++) {
        struct plan_node *node = &g->nodes[i];
        bool certain = false; /* it always gives a token on */
        for (uint32_t e = node->out; e < node->out + node->out_count; e++)
            certain |= !g->edges[e].conditional;
        node->keep |= !certain;
        ref_each(node->config, keep_referred, g);
        capability_pointers(node->capability, node->config, keep_pointer, g);
        if (node->in_count == 1) {
            const struct plan_edge *edge = &g->edges[g->in_edges[node->in]];
            uint32_t from_loop = g->nodes[edge->from].loop;
            node->solo = edge->back == NO_INDEX && (from_loop == NO_INDEX || loop_within(g, node->loop, from_loop));
        }
    }
    for (uint32_t i = 0; i < g->start_count; i++)
        g->nodes[g->starts[i]].solo &= g->nodes[g->starts[i]].in_count == 0;
}

/* ---- opening and sealing ---- */

static void name_plan(struct plan *plan)
{
    struct sha256 hash = sha256_of(plan->json);
    for (size_t i = 0; i < sizeof hash.b; i++) {
        plan->hash.hex[2 * i] = "0123456789abcdef"[hash.b[i] >> 4];
        plan->hash.hex[2 * i + 1] = "0123456789abcdef"[hash.b[i] & 15];
    }
}

/* What an agent that is alone may cost is what the run may cost. */
static void take_budget(const struct graph *g, struct plan *plan)
{
    const struct plan_budget *own = &plan->budget;
    if (g->node_count == 1 && g->nodes[0].inner && !own->usd && !own->tokens && !own->model_calls && !own->tool_calls && !own->seconds)
        plan->budget = g->nodes[0].inner->budget;
}

enum err plan_open(struct plan *plan)
{
    if (plan->compiled)
        return ERR_OK;
    struct jv root = json_read(plan->json, &plan->arena);
    struct graph *graph = ARENA_NEW(&plan->arena, struct graph);

    if (jv_str_eq(jv_get(root, "kind"), "workflow.v1")) {
        enum err err = flow_open(plan, &graph->flow, NULL);
        name_plan(plan);
        plan->compiled = err ? NULL : graph;
        return err;
    }
    if (!jv_str_eq(jv_get(root, "kind"), "graph") || !read_limits(jv_get(root, "limits"), plan, graph) ||
        !read_nodes(jv_get(root, "nodes"), plan, graph) ||
        !read_edges(jv_get(root, "edges"), &plan->arena, graph) ||
        !read_starts(jv_get(root, "start"), &plan->arena, graph))
        return ERR_CORRUPT;
    link_edges(graph, &plan->arena);
    if (!find_loops(graph, &plan->arena))
        return ERR_TOO_LARGE;
    know_nodes(graph);
    take_budget(graph, plan);
    name_plan(plan);
    plan->compiled = graph;
    return ERR_OK;
}

enum err plan_seal(struct span text, struct plan *plan)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf canonical = { 0 };
    struct jv root = json_read(text, &scratch);

    if (jv_is(root, JSON_NONE))
        return ERR_CORRUPT;
    json_canonical(root, JSON_JCS, &canonical);
    plan->json = arena_copy(&plan->arena, buf_view(&canonical));
    return plan_open(plan);
}
