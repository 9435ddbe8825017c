/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - calls that the client answers: which are open, and their results (workflow-runs.md 3.6). */
#include "api/workflow_runs/routes.h"
#include <stdlib.h>
#include <strings.h>

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

/* ---- answers to questions that no model asked ---- */

static bool is_word(struct span text, const char *const *words)
{
    for (; *words; words++)
        if (text.n == strlen(*words) && strncasecmp(text.p, *words, text.n) == 0)
            return true;
    return false;
}

/* The answer as the question's schema wants it: {"approved": …} of a word, JSON, or the text. */
static struct span answer_input(struct call *call, const struct pending_call *asked, struct span output, bool *ret_reject)
{
    static const char *const yes[] = { "yes", "y", "ok", "true", "approve", "approved", NULL };
    static const char *const no[] = { "no", "n", "false", "reject", "rejected", NULL };
    struct arena            *arena = &call->arena;
    struct jv                said = json_read(jv_string(json_read(output, arena), arena), arena), answer = jv_get(said, "answer");
    struct span              text = jv_string(answer, arena);
    *ret_reject = asked->approval && is_word(text, no);
    if (asked->approval && is_word(text, yes))
        return SPAN("{\"approved\":true}");
    struct jv json = json_read(text, arena);
    return jv_is(json, JSON_OBJECT) ? minified(call, json) : jv_is(answer, JSON_NONE) ? SPAN("null") : jv_raw(answer);
}

static const struct pending_call *find_pending(const struct pending_list *list, struct span id)
{
    const struct open_call *items = (const struct open_call *)(const void *)list->items.p;
    for (size_t i = 0; i < list->items.len / sizeof *items; i++)
        if (items[i].call.made_up && span_eq(items[i].call.call, id))
            return &items[i].call;
    return NULL;
}

/* One answer, decided as over the agent-runs surface; a repeat of the one that was given is harmless. */
static enum err decide(struct call *call, const struct client_results *results, struct run_row *ret, struct error *error)
{
    struct pending_list list = { .call = call };
    struct issues       issues = { .arena = &call->arena };
    struct wait_answer  answer = { .workspace = call->workspace, .by = results->by };
    struct wait_row     wait;
    struct span         id = results->items[0].call;
    if (!uuid_parse(span_make(id.p + 4, id.n - 4), &answer.wait) || results->count > 1)
        return error_set(error, ERR_BAD_REQUEST, "", "the answer to a question comes alone, with the id that the question has");
    enum err e = run_pending_calls(call->api->engine, call->workspace, results->run, add_pending, &list, ret, error);
    const struct pending_call *asked = e ? NULL : find_pending(&list, id);
    if (asked && !span_eq(flow_node(asked->node), results->node))
        e = error_set(error, ERR_NOT_FOUND, "", "the node asks nothing");
    else if (asked && (asked->step != results->step || !uuid_eq(asked->request, results->request)))
        e = error_set(error, ERR_CONFLICT, "", "the node waits for the results of another step");
    struct pending_call known = asked ? *asked : (struct pending_call){ .approval = true };
    buf_done(&list.items);
    if (e)
        return e;
    answer.input = answer_input(call, &known, results->items[0].output, &answer.reject);
    e = wait_decide(call->api->engine, &answer, &wait, ret, &issues, error);
    if (e != ERR_INVALID_RUN_STATE)
        return e == ERR_VALIDATION ? error_set(error, ERR_BAD_REQUEST, "results/0/output", "the answer does not fit the question")
                                   : e;
    struct jv given = json_read(wait.answer, &call->arena);
    bool same = wait.status == WAIT_REJECTED ? answer.reject : jv_equal(given, json_read(answer.input, &call->arena));
    return same ? ERR_OK : error_set(error, ERR_CONFLICT, "", "the question has another answer already");
}

static bool is_question(struct span id)
{
    return id.n == 4 + UUID_TEXT && memcmp(id.p, "ask_", 4) == 0;
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
    enum err e = is_question(results.items[0].call) ? decide(call, &results, &now, &error)
                                                    : run_tool_results(call->api->engine, &results, &now, &error);
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
