/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - the results of a run's client tools, given by whoever follows it (model.md 6.3: each wait can be answered over every
 * surface that shows it; here the event NODE_WAITING shows it). */
#include "api/agent_runs/routes.h"

enum { RESULTS_MAX = 256, MESSAGE_MAX = 2000 };

/* A text, or {"message", "code"?}: as the object that a failed call has. */
static struct span read_error(struct call *call, struct jv v, size_t i)
{
    struct arena *arena = &call->arena;
    bool          object = jv_is(v, JSON_OBJECT);
    struct jv     text = object ? jv_get(v, "message") : v, code = object ? jv_get(v, "code") : (struct jv){ 0 };
    struct span   message = jv_is(text, JSON_STRING) ? jv_string(text, arena) : SPAN_NONE;
    struct buf    out = { 0 };
    struct jw     w = jw_on(&out);
    if (!message.n || message.n > MESSAGE_MAX)
        issue_add(&call->issues, arena_printf(arena, "/results/%zu/error", i), "type",
                  "must be a text of 1 to %d bytes, or an object with such a message", MESSAGE_MAX);
    jw_obj(&w);
    jw_key(&w, "code");      jw_str(&w, jv_is(code, JSON_STRING) ? jv_string(code, arena) : SPAN("tool_failed"));
    jw_key(&w, "category");  jw_cstr(&w, "tool");
    jw_key(&w, "message");   jw_str(&w, message);
    jw_key(&w, "retryable"); jw_bool(&w, false);
    jw_key(&w, "source");    jw_cstr(&w, "client");
    jw_end(&w);
    struct span error = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return error;
}

static void read_result(struct call *call, struct jv v, size_t i, struct client_result *ret)
{
    struct arena *arena = &call->arena;
    struct jv     id = jv_get(v, "tool_call_id"), result = jv_get(v, "result"), error = jv_get(v, "error");
    bool          failed = !jv_is(error, JSON_NONE) && !jv_is(error, JSON_NULL);
    *ret = (struct client_result){ .call = jv_is(id, JSON_STRING) ? jv_string(id, arena) : SPAN_NONE, .failed = failed };
    if (!ret->call.n)
        issue_add(&call->issues, arena_printf(arena, "/results/%zu/tool_call_id", i), "required", "must be the id of a call");
    if (failed == !jv_is(result, JSON_NONE))
        issue_add(&call->issues, arena_printf(arena, "/results/%zu", i), "required", "must have a result or an error, not both");
    else
        ret->output = failed ? read_error(call, error, i) : minified(call, result);
}

static void check_twice(struct call *call, const struct client_result *items, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (span_eq(items[i].call, items[k].call)) {
                issue_add(&call->issues, arena_printf(&call->arena, "/results/%zu/tool_call_id", i), "repeated", "is given twice");
                break;
            }
}

static const struct client_result *read_results(struct call *call, size_t *ret_count)
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

void runs_tool_results(struct call *call)
{
    struct run_row        row = { 0 };
    struct error          error = { 0 };
    struct buf            actor = { 0 };
    struct client_results results = { .workspace = call->workspace };
    enum err              e = ERR_OK;
    results.items = read_results(call, &results.count);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (!call_path_uuid(call, 0, &results.run))
        e = error_set(&error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    results.by = span_of(call_actor(call, &actor));
    if (!e)
        e = run_tool_results(call->api->engine, &results, &row, &error);
    buf_done(&actor);
    if (e == ERR_NOT_FOUND) /* the run is there, but waits for nothing of the kind */
        e = error_set(&error, ERR_CONFLICT, "", "the run waits for no results of tools");
    if (e) {
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    render_run(&call->w, &row, 0);
    jw_end(&call->w);
    call_audit(call, call->workspace, "run.tool_results", "run", row.id, SPAN_NONE);
    call_send_committed(call, 200);
}
