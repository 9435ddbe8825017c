/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - calls that the client answers: which are open, and their results (workflow-runs.md 3.6). */
#include "api/workflow_runs/routes.h"
#include <stdlib.h>

/* ---- what is open ---- */

struct open_call {
    struct pending_call call;
    unsigned            at; /* the order in which it was asked for */
};

struct pending_list {
    struct call *call;
    struct buf   items;   /* struct open_call */
};

static void add_pending(void *user, const struct pending_call *found)
{
    struct pending_list *list = user;
    struct open_call     item = { *found, (unsigned)(list->items.len / sizeof item) };
    buf_put(&list->items, &item, sizeof item);
}

static int by_node(const void *a, const void *b)
{
    const struct open_call *x = a, *y = b;
    int                     order = span_cmp(x->call.node, y->call.node);
    return order ? order : x->at < y->at ? -1 : 1;
}

static void put_call(struct jw *w, const struct pending_call *pending)
{
    jw_obj(w);
    jw_key(w, "tool_call");
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, pending->call);
    jw_key(w, "name");
    jw_str(w, pending->tool);
    jw_key(w, "arguments");
    jw_str(w, pending->arguments.n ? pending->arguments : SPAN("{}"));
    jw_end(w);
    jw_end(w);
}

/* One element per waiting node, by its id. */
static void put_pending(struct jw *w, const struct open_call *items, size_t count)
{
    for (size_t i = 0; i < count;) {
        const struct pending_call *first = &items[i].call;
        jw_obj(w);
        jw_key(w, "node_id");
        jw_str(w, flow_node(first->node));
        jw_key(w, "step");
        jw_u64(w, first->step);
        jw_key(w, "request_id");
        jw_uuid(w, &first->request);
        jw_key(w, "tool_calls");
        jw_arr(w);
        for (; i < count && span_eq(items[i].call.node, first->node) && uuid_eq(items[i].call.request, first->request); i++)
            put_call(w, &items[i].call);
        jw_arr_end(w);
        jw_end(w);
    }
}

void flow_pending_tools(struct call *call)
{
    struct pending_list list = { .call = call };
    struct run_row      row, now;
    struct error        error = { 0 };
    if (!flow_run_read(call, &row))
        return;
    if (run_pending_calls(call->api->engine, call->workspace, row.id, add_pending, &list, &now, &error)) {
        call_error(call, &error);
        return;
    }
    size_t count = list.items.len / sizeof(struct open_call);
    if (count)
        qsort(list.items.p, count, sizeof(struct open_call), by_node);
    jw_obj(&call->w);
    jw_key(&call->w, "run_id");
    jw_uuid(&call->w, &row.id);
    jw_key(&call->w, "pending");
    jw_arr(&call->w);
    put_pending(&call->w, (const struct open_call *)(const void *)list.items.p, count);
    jw_arr_end(&call->w);
    jw_end(&call->w);
    buf_done(&list.items);
    call_send_committed(call, 200);
}

/* ---- results ---- */

enum { RESULTS_MAX = 256 };

static bool is_text(struct jv v)
{
    return jv_is(v, JSON_STRING);
}

static void read_result(struct call *call, struct jv v, size_t i, struct client_result *ret)
{
    struct arena *arena = &call->arena;
    struct jv     tool_call = jv_get(v, "tool_call"), id = jv_get(tool_call, "id"), output = jv_get(v, "output");
    if (!is_text(id) || !jv_string(id, arena).n)
        issue_add(&call->issues, arena_printf(arena, "/results/%zu/tool_call/id", i), "required", "must be the id of a call");
    if (!is_text(output))
        issue_add(&call->issues, arena_printf(arena, "/results/%zu/output", i), "type", "must be a string");
    *ret = (struct client_result){ .call = jv_string(id, arena), .output = jv_is(output, JSON_NONE) ? SPAN("null") : jv_raw(output) };
    if (is_text(jv_get(tool_call, "name")))
        ret->tool = jv_string(jv_get(tool_call, "name"), arena);
}

static void check_twice(struct call *call, const struct client_result *items, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (span_eq(items[i].call, items[k].call)) {
                issue_add(&call->issues, arena_printf(&call->arena, "/results/%zu/tool_call/id", i), "repeated", "is given twice");
                break;
            }
}

static struct client_result *read_results(struct call *call, size_t *ret_count)
{
    struct jv results = jv_get(call->body, "results");
    size_t    count = jv_is(results, JSON_ARRAY) ? jv_count(results) : 0, i = 0;
    *ret_count = count;
    if (count < 1 || count > RESULTS_MAX) {
        issue_add(&call->issues, SPAN("/results"), "range", "must be a list of 1 to %d results", RESULTS_MAX);
        return NULL;
    }
    struct client_result *items = ARENA_ARRAY(&call->arena, struct client_result, count);
    for (struct jv_iter it = jv_iter(results); jv_step(&it); i++)
        read_result(call, it.value, i, &items[i]);
    check_twice(call, items, count);
    return items;
}

void flow_tool_results(struct call *call)
{
    struct run_row        row, now = { 0 };
    struct error          error = { 0 };
    struct buf            actor = { 0 };
    struct span           node, request;
    int64_t               step = 0;
    struct client_results results = { .workspace = call->workspace, .checked = true };
    body_text(call, "node_id", true, 255, &node);
    body_text(call, "request_id", true, 255, &request);
    if (!jv_i64(jv_get(call->body, "step"), &step) || step < 0 || step > UINT32_MAX)
        issue_add(&call->issues, SPAN("/step"), "type", "must be an integer from 0 on");
    results.items = read_results(call, &results.count);
    if (call_invalid(call, ERR_BAD_REQUEST) || !flow_run_read(call, &row))
        return;
    if (!uuid_parse(request, &results.request)) /* no step has such an id: a conflict, unless the node does not wait at all */
        memset(&results.request, 0xff, sizeof results.request);
    results.run = row.id;
    results.node = node;
    results.step = (uint32_t)step;
    results.by = span_of(call_actor(call, &actor));
    enum err e = run_tool_results(call->api->engine, &results, &now, &error);
    buf_done(&actor);
    if (e) {
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    jw_key(&call->w, "accepted");
    jw_u64(&call->w, results.count);
    jw_key(&call->w, "status");
    jw_cstr(&call->w, flow_run_status(&now));
    jw_end(&call->w);
    call_send_committed(call, 200);
}
