/* SPDX-License-Identifier: Apache-2.0 */
/* flow_plan.c - from a canonical workflow.v1 to arrays, once per plan (flow.h). What spec_compile has checked is not checked
 * again; what would break the machine is. */
#include "workflow/flow.h"
#include "workflow/nested.h"
#include "workflow/spec.h"
#include <stdlib.h>

const char *const flow_type_names[FLOW_TYPES] = {
    [FLOW_LLM] = "llm.responses", [FLOW_ROUTE] = "route.switch",        [FLOW_JOIN_ALL] = "join.all",
    [FLOW_JOIN_ANY] = "join.any", [FLOW_JOIN_COLLECT] = "join.collect", [FLOW_TRANSFORM] = "transform.json",
    [FLOW_FANOUT] = "map.fanout",
};

/* Only names: what these nodes do is in flow.c. */
static const struct capability shown[FLOW_TYPES] = {
    [FLOW_LLM] = { .name = "llm.responses", .version = "1", .binding = "model" },
    [FLOW_ROUTE] = { .name = "route.switch", .version = "1", .binding = "model" },
    [FLOW_JOIN_ALL] = { .name = "join.all", .version = "1", .binding = "builtin" },
    [FLOW_JOIN_ANY] = { .name = "join.any", .version = "1", .binding = "builtin" },
    [FLOW_JOIN_COLLECT] = { .name = "join.collect", .version = "1", .binding = "builtin" },
    [FLOW_TRANSFORM] = { .name = "transform.json", .version = "1", .binding = "builtin" },
    [FLOW_FANOUT] = { .name = "map.fanout", .version = "1", .binding = "builtin" },
};

uint32_t flow_find(const struct flow *flow, struct span id)
{
    uint32_t low = 0, high = flow->node_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int c = span_cmp(flow->nodes[mid].job.node.id, id);
        if (c == 0)
            return mid;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NO_INDEX;
}

static int64_t int_of(struct jv object, const char *name, int64_t def, int64_t most)
{
    int64_t n;
    return jv_i64(jv_get(object, name), &n) && n > 0 ? (n < most ? n : most) : def;
}

/* ---- requests to agents ---- */

static void put_member(struct jw *w, const char *name, struct jv v)
{
    if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL))
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

/* MODEL is "PROVIDER/NAME", or a name and the request says the provider; else it is the provider called "default". */
static void put_model(const struct flow_job *job, struct jv request, struct span model, struct arena *arena,
                      struct jw *w)
{
    struct span provider = jv_string(jv_get(request, "provider"), arena);
    model = model.n ? model : jv_string(jv_get(request, "model"), arena);
    const char *slash = model.n ? memchr(model.p, '/', model.n) : NULL;

    if (!provider.n && slash) {
        provider = span_make(model.p, (size_t)(slash - model.p));
        model = span_make(slash + 1, model.n - provider.n - 1);
    }
    jw_key(w, "model");
    jw_obj(w);
    jw_key(w, "provider");
    jw_str(w, provider.n ? provider : SPAN("default"));
    jw_key(w, "model");
    jw_str(w, model.n ? model : SPAN("default"));
    put_member(w, "max_tokens", jv_get(request, "max_output_tokens"));
    put_member(w, "temperature", jv_get(request, "temperature"));
    put_member(w, "stop", jv_get(request, "stop"));
    put_member(w, "script", jv_get(request, "script"));
    jw_key(w, "stream");
    jw_bool(w, jv_bool(jv_get(job->input, "stream"), false));
    jw_end(w);
}

void flow_put_tools(struct jv tools, bool complete, struct jw *w)
{
    if (jv_count(tools) == 0)
        return;
    jw_key(w, "tools");
    jw_arr(w);
    for (struct jv_iter it = jv_iter(tools); jv_step(&it);) {
        struct jv function = jv_get(it.value, "function");
        if (!jv_is(function, JSON_OBJECT))
            continue; /* what a provider does by itself is no tool of ours */
        jw_obj(w);
        put_member(w, "name", jv_get(function, "name"));
        put_member(w, "description", jv_get(function, "description"));
        put_member(w, "parameters", jv_get(function, "parameters"));
        if (complete && jv_is(jv_get(function, "parameters"), JSON_NONE)) {
            jw_key(w, "parameters");
            jw_raw(w, SPAN("{\"type\":\"object\"}"));
        }
        jw_end(w);
    }
    jw_arr_end(w);
}

void flow_put_choice(struct jv choice, struct jw *w)
{
    struct jv function = jv_get(choice, "function");
    if (!jv_is(choice, JSON_OBJECT))
        return;
    jw_key(w, "tool_choice");
    if (jv_is(function, JSON_STRING)) {
        jw_obj(w);
        put_member(w, "name", function);
        jw_end(w);
    } else {
        jw_raw(w, jv_raw(jv_get(choice, "type")));
    }
}

static void put_limits(const struct flow_job *job, struct jw *w)
{
    struct jv limits = jv_get(job->input, "tool_limits"), mode = jv_get(jv_get(job->input, "tool_execution"), "mode");

    if (jv_is(mode, JSON_STRING))
        put_member(w, "tool_mode", mode);
    jw_key(w, "limits");
    jw_obj(w);
    if (jv_str_eq(mode, "agentic")) {
        jw_key(w, "max_tool_steps");
        jw_i64(w, int_of(job->input, "max_tool_steps", 10, 64));
    } else {
        jw_key(w, "max_steps");
        jw_i64(w, int_of(limits, "max_llm_calls", 8, 64));
    }
    jw_key(w, "max_tool_calls_per_step");
    jw_i64(w, int_of(limits, "max_tool_calls_per_step", 16, 64));
    jw_key(w, "wait_ttl_ms");
    jw_i64(w, int_of(limits, "wait_ttl_ms", 900000, 86400000));
    jw_end(w);
}

void flow_definition(const struct flow_job *job, struct jv request, struct span model, struct arena *arena,
                     struct buf *out)
{
    struct jw w = jw_on(out);
    struct jv format = jv_get(jv_get(request, "output_format"), "json_schema");

    jw_obj(&w);
    put_model(job, request, model, arena, &w);
    flow_put_tools(jv_get(request, "tools"), false, &w);
    flow_put_choice(jv_get(request, "tool_choice"), &w);
    put_limits(job, &w);
    if (jv_is(jv_get(format, "schema"), JSON_OBJECT)) {
        jw_key(&w, "output");
        jw_obj(&w);
        put_member(&w, "schema", jv_get(format, "schema"));
        put_member(&w, "name", jv_get(format, "name"));
        jw_key(&w, "repairs"); /* `retry` of the node is what the author can ask for */
        jw_i64(&w, 0);
        jw_end(&w);
    }
    jw_key(&w, "output_form");
    jw_cstr(&w, "response");
    jw_end(&w);
}

/* ---- reading ---- */

struct opening {
    struct plan *plan;
    struct flow *flow;
    struct issues *issues; /* or NULL */
    struct arena scratch;
};

/* JSON pointers of inner definitions mean nothing to the author: the node is named. */
static bool open_agent(struct opening *o, struct flow_job *job, size_t index, bool sub)
{
    CLEANUP(buf_done) struct buf definition = { 0 };
    CLEANUP(buf_done) struct buf json = { 0 };
    CLEANUP(buf_done) struct buf at = { 0 };
    struct issues found = { .arena = &o->scratch };

    flow_definition(job, jv_get(job->input, "request"), SPAN_NONE, &o->scratch, &definition);
    enum err err = nested_compile(
        o->plan, "agent", json_read(arena_copy(&o->scratch, buf_view(&definition)), &o->scratch), &at, &found, &json);
    if (!err)
        job->node.inner = nested_open(o->plan, &o->plan->arena, "agent",
                                      json_read(arena_copy(&o->plan->arena, buf_view(&json)), &o->plan->arena));
    for (size_t i = 0; o->issues && i < found.count && i < ISSUES_MAX; i++) {
        struct span path = arena_printf(o->issues->arena, sub ? "$.nodes[%zu].subnode" : "$.nodes[%zu]", index);
        issue_add(o->issues, path, err == ERR_UNSUPPORTED_BINDING ? "UNSUPPORTED_NODE_TYPE" : "INVALID_REQUEST",
                  "%.*s %.*s", SPAN_ARG(found.items[i].pointer), SPAN_ARG(found.items[i].message));
    }
    return job->node.inner;
}

static void read_retry(struct flow_job *job, struct jv retry)
{
    static const struct {
        const char *name;
        unsigned bit;
    } classes[] = { { "invalid_json", RETRY_INVALID_JSON },
                    { "truncated", RETRY_TRUNCATED },
                    { "rate_limit", RETRY_RATE_LIMIT },
                    { "timeout", RETRY_TIMEOUT } };
    struct jv errors = jv_get(retry, "retryable_errors");

    job->max_tries = (uint32_t)int_of(retry, "max_attempts", 1, PLAN_TRIES_MAX);
    job->backoff_us = (uint64_t)int_of(retry, "backoff_ms", 1000, 86400000) * 1000;
    job->retry_on = jv_is(errors, JSON_ARRAY) ? 0 : RETRY_INVALID_JSON | RETRY_TRUNCATED;
    for (struct jv_iter it = jv_iter(errors); jv_is(errors, JSON_ARRAY) && jv_step(&it);)
        for (size_t i = 0; i < ARRAY_LEN(classes); i++)
            if (jv_str_eq(it.value, classes[i].name))
                job->retry_on |= classes[i].bit;
}

static bool changes_more_than_messages(struct jv bindings, struct arena *scratch)
{
    for (struct jv_iter it = jv_iter(bindings); jv_step(&it);) {
        struct span to = jv_string(jv_get(it.value, "to"), scratch);
        if (to.n && !(to.n >= 6 && memcmp(to.p, "/input", 6) == 0 && (to.n == 6 || to.p[6] == '/')))
            return true;
    }
    return false;
}

static bool read_job(struct opening *o, struct flow_job *job, struct jv v, struct jv bindings)
{
    struct jv type = jv_get(v, "type"), input = jv_get(v, "input"),
              format = jv_get(jv_get(input, "request"), "output_format");
    unsigned t = 0;

    while (t < FLOW_TYPES && !jv_str_eq(type, flow_type_names[t]))
        t++;
    if (t == FLOW_TYPES)
        return false;
    *job = (struct flow_job){ .type = (enum flow_type)t, .input = input, .bindings = bindings };
    job->node = (struct plan_node){ .id = jv_string(jv_get(v, "id"), &o->plan->arena),
                                    .capability = &shown[t],
                                    .max_tries = 1 };
    job->node.binding = span_of(shown[t].binding);
    job->structured = jv_is(jv_get(format, "json_schema"), JSON_OBJECT);
    job->rebuilt = changes_more_than_messages(bindings, &o->scratch);
    read_retry(job, jv_get(input, "retry"));
    return plan_name_valid(job->node.id);
}

static struct flow_when *read_when(struct opening *o, struct jv v)
{
    if (!jv_is(v, JSON_OBJECT))
        return NULL;
    struct flow_when *when = ARENA_NEW(&o->plan->arena, struct flow_when);
    when->status = jv_str_eq(jv_get(v, "source"), "node_status");
    when->op = jv_str_eq(jv_get(v, "op"), "equals")    ? FLOW_EQUALS
               : jv_str_eq(jv_get(v, "op"), "matches") ? FLOW_MATCHES
                                                       : FLOW_EXISTS;
    when->path = jv_string(jv_get(v, "path"), &o->plan->arena);
    when->value = jv_get(v, "value");
    return when;
}

static bool read_node(struct opening *o, struct jv v, size_t index, struct flow_node *node)
{
    struct jv input = jv_get(v, "input"), sub = jv_get(input, "subnode");

    if (!read_job(o, &node->job, v, jv_get(input, "bindings")))
        return false;
    node->items_from = NO_INDEX;
    node->predicate = read_when(o, jv_get(input, "predicate"));
    node->limit = (uint32_t)int_of(input, "limit", 0, UINT32_MAX);
    node->timeout_us = (uint64_t)int_of(input, "timeout_ms", 0, PLAN_MS_MAX) * 1000;
    node->parallel = (uint32_t)int_of(input, "max_parallelism", o->flow->parallel, FLOW_ITEMS_MAX);
    if (flow_is_model(&node->job) && !open_agent(o, &node->job, index, false))
        return false;
    if (node->job.type != FLOW_FANOUT)
        return true;
    return read_job(o, &node->sub, sub, jv_get(input, "item_bindings")) &&
           (flow_is_model(&node->sub) || node->sub.type == FLOW_TRANSFORM) &&
           (!flow_is_model(&node->sub) || open_agent(o, &node->sub, index, true));
}

static int by_id(const void *a, const void *b)
{
    const struct flow_node *x = a, *y = b;
    return span_cmp(x->job.node.id, y->job.node.id);
}

static bool read_nodes(struct opening *o, struct jv nodes)
{
    struct flow *flow = o->flow;
    size_t count = jv_is(nodes, JSON_ARRAY) ? jv_count(nodes) : 0;
    bool good = count >= 1 && count <= PLAN_NODES_MAX;

    flow->nodes = ARENA_ARRAY(&o->plan->arena, struct flow_node, good ? count : 1);
    for (struct jv_iter it = jv_iter(nodes); good && jv_step(&it); flow->node_count++)
        good = read_node(o, it.value, flow->node_count, &flow->nodes[flow->node_count]);
    if (!good)
        return false;
    qsort(flow->nodes, flow->node_count, sizeof flow->nodes[0], by_id);
    for (uint32_t i = 1; i < flow->node_count; i++)
        if (by_id(&flow->nodes[i - 1], &flow->nodes[i]) == 0)
            return false;
    return true;
}

/* Once the ids are sorted. */
static bool read_items(struct opening *o)
{
    struct flow *flow = o->flow;
    for (uint32_t i = 0; i < flow->node_count; i++) {
        struct flow_node *node = &flow->nodes[i];
        struct jv items = jv_get(node->job.input, "items"), from = jv_get(items, "from");
        if (node->job.type != FLOW_FANOUT)
            continue;
        node->items_pointer = jv_string(jv_get(items, "pointer"), &o->plan->arena);
        node->items_path = jv_string(jv_get(items, "path"), &o->plan->arena);
        node->items_input = jv_string(jv_get(items, "from_input"), &o->plan->arena);
        if (jv_is(from, JSON_STRING))
            node->items_from = flow_find(flow, jv_string(from, &o->scratch));
        if (node->items_from == NO_INDEX && !node->items_input.n)
            return false;
    }
    return true;
}

static int by_ends(const void *a, const void *b)
{
    const struct flow_edge *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return (x->to > y->to) - (x->to < y->to);
}

static bool read_edges(struct opening *o, struct jv edges)
{
    struct flow *flow = o->flow;
    size_t count = jv_is(edges, JSON_ARRAY) ? jv_count(edges) : 0;

    if (count > PLAN_EDGES_MAX)
        return false;
    flow->edges = ARENA_ARRAY(&o->plan->arena, struct flow_edge, count + 1);
    for (struct jv_iter it = jv_iter(edges); count && jv_step(&it); flow->edge_count++) {
        struct flow_edge *edge = &flow->edges[flow->edge_count];
        edge->from = flow_find(flow, jv_string(jv_get(it.value, "from"), &o->scratch));
        edge->to = flow_find(flow, jv_string(jv_get(it.value, "to"), &o->scratch));
        edge->when = read_when(o, jv_get(it.value, "when"));
        if (edge->from == NO_INDEX || edge->to == NO_INDEX || edge->from == edge->to)
            return false;
    }
    qsort(flow->edges, flow->edge_count, sizeof flow->edges[0], by_ends);
    return true;
}

/* Edges of one pair stand together. */
static void link_pairs(struct flow *flow, struct arena *arena)
{
    for (uint32_t e = 0; e < flow->edge_count; e++) {
        struct flow_node *from = &flow->nodes[flow->edges[e].from], *to = &flow->nodes[flow->edges[e].to];
        bool first = e == 0 || by_ends(&flow->edges[e - 1], &flow->edges[e]) != 0;
        if (from->out_count++ == 0)
            from->out = e;
        to->in_count++;
        from->targets += first;
        to->sources += first;
        bool plain = false;
        for (uint32_t k = e; first && k < flow->edge_count && by_ends(&flow->edges[e], &flow->edges[k]) == 0; k++)
            plain |= !flow->edges[k].when;
        to->conditional += first && !plain;
    }
    uint32_t place = 0;
    flow->in_edges = ARENA_ARRAY(arena, uint32_t, flow->edge_count + 1);
    for (uint32_t i = 0; i < flow->node_count; i++) {
        flow->nodes[i].in = place;
        place += flow->nodes[i].in_count;
        flow->nodes[i].in_count = 0;
    }
    for (uint32_t e = 0; e < flow->edge_count; e++) {
        struct flow_node *to = &flow->nodes[flow->edges[e].to];
        flow->in_edges[to->in + to->in_count++] = e;
    }
}

/* A circle would never end, and never start. */
static bool is_acyclic(const struct flow *flow, struct arena *scratch)
{
    uint32_t *into = ARENA_ARRAY(scratch, uint32_t, flow->node_count),
             *stack = ARENA_ARRAY(scratch, uint32_t, flow->node_count);
    uint32_t depth = 0, seen = 0;

    for (uint32_t i = 0; i < flow->node_count; i++)
        if ((into[i] = flow->nodes[i].in_count) == 0)
            stack[depth++] = i;
    while (depth > 0) {
        const struct flow_node *node = &flow->nodes[stack[--depth]];
        seen++;
        for (uint32_t e = node->out; e < node->out + node->out_count; e++)
            if (--into[flow->edges[e].to] == 0)
                stack[depth++] = flow->edges[e].to;
    }
    return seen == flow->node_count;
}

static bool read_outputs(struct opening *o, struct jv outputs)
{
    struct flow *flow = o->flow;
    size_t count = jv_is(outputs, JSON_ARRAY) ? jv_count(outputs) : 0;

    flow->outputs = ARENA_ARRAY(&o->plan->arena, struct flow_output, count + 1);
    for (struct jv_iter it = jv_iter(outputs); count && jv_step(&it); flow->output_count++) {
        struct flow_output *output = &flow->outputs[flow->output_count];
        output->name = jv_string(jv_get(it.value, "name"), &o->plan->arena);
        output->pointer = jv_string(jv_get(it.value, "pointer"), &o->plan->arena);
        output->from = flow_find(flow, jv_string(jv_get(it.value, "from"), &o->scratch));
        if (output->from == NO_INDEX)
            return false;
        flow->nodes[output->from].output = true;
    }
    return count > 0;
}

enum err flow_open(struct plan *plan, struct flow **ret, struct issues *issues)
{
    struct flow *flow = ARENA_NEW(&plan->arena, struct flow);
    struct opening o = { .plan = plan, .flow = flow, .issues = issues };
    struct jv root = json_read(plan->json, &plan->arena), execution = jv_get(root, "execution");

    flow->parallel = (uint32_t)int_of(execution, "max_parallelism", FLOW_PARALLEL, UINT32_MAX);
    flow->node_timeout_us = (uint64_t)int_of(execution, "node_timeout_ms", 0, PLAN_MS_MAX) * 1000;
    flow->root = root;
    flow->inputs = jv_get(root, "inputs");
    plan->max_attempts = 1;
    plan->run_timeout_us = (uint64_t)int_of(execution, "run_timeout_ms", 0, PLAN_MS_MAX) * 1000;
    bool good = read_nodes(&o, jv_get(root, "nodes")) && read_items(&o) && read_edges(&o, jv_get(root, "edges")) &&
                read_outputs(&o, jv_get(root, "outputs"));
    if (good) {
        link_pairs(flow, &plan->arena);
        good = is_acyclic(flow, &o.scratch);
    }
    arena_done(&o.scratch);
    *ret = flow;
    return good ? ERR_OK : ERR_CORRUPT;
}

/* ---- the front end ---- */

bool workflow_is(struct jv definition)
{
    struct jv kind = jv_get(definition, "kind");
    return jv_str_eq(kind, "workflow") || jv_str_eq(kind, "workflow.v1") ||
           jv_is(jv_get(definition, "workflow"), JSON_OBJECT);
}

enum err workflow_compile(struct jv definition, struct plan *plan, struct issues *issues)
{
    struct jv inside = jv_get(definition, "workflow"), spec = jv_is(inside, JSON_OBJECT) ? inside : definition;
    struct flow *flow;

    if (spec_compile(spec, &plan->arena, &plan->json, issues))
        return ERR_VALIDATION;
    /* What inner definitions say is wrong comes from opening; a good plan is opened twice. */
    struct plan trial = { .ops = plan->ops, .kinds = plan->kinds, .json = plan->json };
    enum err err = flow_open(&trial, &flow, issues);
    arena_done(&trial.arena);
    if (err && issues->count == 0)
        issue_add(issues, SPAN("$"), "INVALID_TYPE", "is no workflow.v1 that this server can run");
    return err ? ERR_VALIDATION : plan_open(plan);
}
