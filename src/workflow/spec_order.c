/* SPDX-License-Identifier: Apache-2.0 */
/* spec_order.c - the graph of a specification: its edges in order and each once, and no cycle (workflow-runs.md 2.7, 2.8). */
#include "workflow/spec_inner.h"
#include <stdlib.h>

enum { CYCLE_SHOWN = 400 }; /* bytes of a cycle in a message */

/* ---- edges ---- */

struct ranked {
    uint32_t from, to; /* ranks */
    struct spec_edge edge;
};

static int by_rank(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->to != b->to)
        return a->to < b->to ? -1 : 1;
    if (a->edge.inferred != b->edge.inferred)
        return a->edge.inferred ? 1 : -1; /* explicit ones first */
    return span_cmp(a->edge.when, b->edge.when);
}

static bool doubled(const struct spec_edge *before, const struct spec_edge *edge)
{
    return before->from == edge->from && before->to == edge->to &&
           (edge->inferred || span_eq(before->when, edge->when));
}

static void sort_edges(struct spec_compile *c)
{
    struct ranked *ranked = mem_alloc((c->edge_count + 1) * sizeof *ranked);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->edge_count; i++)
        ranked[i] = (struct ranked){ c->nodes[c->edges[i].from].rank, c->nodes[c->edges[i].to].rank, c->edges[i] };
    if (c->edge_count > 1)
        qsort(ranked, c->edge_count, sizeof *ranked, by_rank);
    for (uint32_t i = 0; i < c->edge_count; i++)
        if (kept == 0 || !doubled(&c->edges[kept - 1], &ranked[i].edge))
            c->edges[kept++] = ranked[i].edge;
    c->edge_count = kept;
    free(ranked);
}

bool spec_has_edge(const struct spec_compile *c, uint32_t from, uint32_t to)
{
    uint32_t low = 0, high = c->edge_count;
    uint32_t from_rank = c->nodes[from].rank, to_rank = c->nodes[to].rank;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        uint32_t f = c->nodes[c->edges[mid].from].rank, t = c->nodes[c->edges[mid].to].rank;
        if (f == from_rank && t == to_rank)
            return true;
        if (f < from_rank || (f == from_rank && t < to_rank))
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

void spec_put_edges(struct spec_compile *c)
{
    if (c->edge_count == 0)
        return;
    jw_key(&c->w, "edges");
    jw_arr(&c->w);
    for (uint32_t i = 0; i < c->edge_count; i++) {
        const struct spec_edge *edge = &c->edges[i];
        jw_obj(&c->w);
        jw_key(&c->w, "from");
        jw_str(&c->w, c->nodes[edge->from].id);
        jw_key(&c->w, "to");
        jw_str(&c->w, c->nodes[edge->to].id);
        if (edge->when.n) {
            jw_key(&c->w, "when");
            jw_raw(&c->w, edge->when);
        }
        jw_end(&c->w);
    }
    jw_arr_end(&c->w);
}

/* ---- cycles ---- */

/* Takes away, again and again, nodes that nothing leads to any more. What stays is on a cycle or behind one. */
static uint32_t peel(const struct spec_compile *c, uint32_t *into)
{
    uint32_t *first = mem_alloc(((size_t)c->node_count + 2) * sizeof *first); /* of a node's edges; by source */
    uint32_t *ready = mem_alloc(((size_t)c->node_count + 1) * sizeof *ready);
    uint32_t *targets = mem_alloc(((size_t)c->edge_count + 1) * sizeof *targets);
    uint32_t head = 0, tail = 0;
    for (uint32_t i = 0; i < c->edge_count; i++) {
        first[c->edges[i].from + 2]++; /* summed up and filled, first[n] is where those of n begin */
        into[c->edges[i].to]++;
    }
    for (uint32_t n = 1; n <= c->node_count; n++)
        first[n + 1] += first[n];
    for (uint32_t i = 0; i < c->edge_count; i++)
        targets[first[c->edges[i].from + 1]++] = c->edges[i].to;
    for (uint32_t n = 0; n < c->node_count; n++)
        if (into[n] == 0)
            ready[tail++] = n;
    for (; head < tail; head++)
        for (uint32_t i = first[ready[head]]; i < first[ready[head] + 1]; i++)
            if (--into[targets[i]] == 0)
                ready[tail++] = targets[i];
    free(first);
    free(ready);
    free(targets);
    return c->node_count - tail;
}

/* Walks backwards over what was left until a node comes up again; *ret holds the cycle in the order of its edges. */
static uint32_t find_cycle(const struct spec_compile *c, const uint32_t *into, uint32_t *ret)
{
    uint32_t *before = mem_alloc(((size_t)c->node_count + 1) * sizeof *before); /* 1 + a source that was left */
    uint32_t *place = mem_alloc(((size_t)c->node_count + 1) * sizeof *place);   /* 1 + how far into the walk */
    uint32_t *walk = mem_alloc(((size_t)c->node_count + 1) * sizeof *walk);
    uint32_t at = NO_INDEX, length = 0, count = 0;
    for (uint32_t i = 0; i < c->edge_count; i++) {
        const struct spec_edge *edge = &c->edges[i];
        if (into[edge->from] > 0 && into[edge->to] > 0 && before[edge->to] == 0) {
            before[edge->to] = edge->from + 1;
            at = at == NO_INDEX ? edge->to : at;
        }
    }
    assert(at != NO_INDEX);
    while (place[at] == 0) {
        walk[length++] = at;
        place[at] = length;
        assert(before[at] > 0);
        at = before[at] - 1;
    }
    for (uint32_t i = length; i >= place[at]; i--)
        ret[count++] = walk[i - 1];
    free(before);
    free(place);
    free(walk);
    return count;
}

static void report_cycle(struct spec_compile *c, const uint32_t *into)
{
    uint32_t *cycle = mem_alloc(((size_t)c->node_count + 1) * sizeof *cycle);
    uint32_t count = find_cycle(c, into, cycle), first = 0;
    struct buf text = { 0 };
    assert(count > 0); /* there is one, or nobody would ask */
    for (uint32_t i = 1; i < count; i++) /* begins with the smallest id, so that it does not depend on the walk */
        if (c->nodes[cycle[i]].rank < c->nodes[cycle[first]].rank)
            first = i;
    for (uint32_t i = 0; i <= count; i++) {
        struct span id = c->nodes[cycle[(first + i) % count]].id;
        if (i > 0)
            BUF_LIT(&text, " -> ");
        if (text.len + id.n > CYCLE_SHOWN) {
            buf_printf(&text, "... (%u nodes)", count);
            break;
        }
        buf_span(&text, id);
    }
    size_t before = spec_enter(c, "nodes");
    SPEC_ISSUE(c, "CYCLE", "nodes wait for each other: %.*s", SPAN_ARG(buf_view(&text)));
    spec_leave(c, before);
    buf_done(&text);
    free(cycle);
}

/* ---- joins that wait for nothing ---- */

static void check_joins(struct spec_compile *c)
{
    bool *fed = mem_alloc((size_t)c->node_count + 1);
    for (uint32_t i = 0; i < c->edge_count; i++)
        fed[c->edges[i].to] = true;
    size_t before = spec_enter(c, "nodes");
    for (uint32_t n = 0; n < c->node_count; n++) {
        if (c->nodes[n].shape.type != SPEC_JOIN_ANY || fed[n] || c->nodes[n].id.n == 0)
            continue;
        size_t at = spec_enter_index(c, n);
        SPEC_ISSUE(c, "UNREACHABLE", "join.any has no sources, so that none can ever satisfy it");
        spec_leave(c, at);
    }
    spec_leave(c, before);
    free(fed);
}

void spec_order(struct spec_compile *c)
{
    sort_edges(c);
    if (c->edge_count > SPEC_EDGES_MAX) {
        size_t before = spec_enter(c, c->v1 ? "edges" : "nodes");
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are %u edges; %d are allowed", c->edge_count, SPEC_EDGES_MAX);
        spec_leave(c, before);
    }
    uint32_t *into = mem_alloc(((size_t)c->node_count + 1) * sizeof *into);
    if (c->node_count > 0 && peel(c, into) > 0)
        report_cycle(c, into);
    free(into);
    check_joins(c);
}
