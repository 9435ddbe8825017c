/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - several model calls in one request (workflow-runs.md 5.8), so many at a time, answered together. */
#include "api/workflow_runs/responses.h"
#include <stdio.h>
#include <stdlib.h>

enum { BATCH_MAX = 1000, CONCURRENT_DEFAULT = 10, CONCURRENT_MAX = 100, TIMEOUT_MAX_MS = 3600000 };

struct batch_item {
    struct batch_call   *batch;
    struct span          id;
    struct response_want want;
    struct model_call   *model_call;
    bool                 begun, done;
    struct span          response; /* JSON; p NULL: it failed */
    struct error         error;
    struct jv            answer;
};

struct batch_call {
    struct call       *call;
    struct loop_timer  headers;  /* they go out before clients give up */
    struct outflow     flow;
    struct batch_item *items;
    size_t             count, next, running, ended;
    int64_t            concurrent;
    bool               fail_fast, stopped;
};

/* ---- the answer ---- */

static int64_t tokens(const struct batch_item *item, const char *name)
{
    int64_t n = 0;
    return item->response.p && jv_i64(jv_get(jv_get(item->answer, "usage"), name), &n) && n > 0 ? n : 0;
}

static void put_result(struct jw *w, const struct batch_item *item)
{
    const struct err_info *info = err_info(item->error.code);
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, item->id);
    jw_key(w, "status");
    jw_cstr(w, item->response.p ? "success" : "error");
    if (item->response.p) {
        jw_key(w, "response");
        jw_raw(w, item->response);
    } else {
        jw_key(w, "error");
        jw_obj(w);
        jw_key(w, "status");
        jw_i64(w, info->wf_status);
        jw_key(w, "message");
        jw_cstr(w, item->error.message[0] ? item->error.message : info->title);
        jw_key(w, "code");
        jw_cstr(w, info->wf_code);
        jw_end(w);
    }
    jw_end(w);
}

static void put_totals(struct jw *w, const struct batch_call *batch)
{
    int64_t in = 0, out = 0, good = 0;
    for (size_t i = 0; i < batch->count; i++) {
        in += tokens(&batch->items[i], "input_tokens");
        out += tokens(&batch->items[i], "output_tokens");
        good += batch->items[i].response.p != NULL;
    }
    const struct { const char *name; int64_t value; } counts[] = {
        { "total_input_tokens", in }, { "total_output_tokens", out }, { "total_requests", (int64_t)batch->count },
        { "successful_requests", good }, { "failed_requests", (int64_t)batch->count - good },
    };
    jw_key(w, "usage");
    jw_obj(w);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        jw_key(w, counts[i].name);
        jw_i64(w, counts[i].value);
    }
    jw_end(w);
}

static void answer_free(struct batch_call *batch)
{
    loop_timer_clear(&batch->headers);
    outflow_done(&batch->flow);
    free(batch);
}

static void finish(struct batch_call *batch)
{
    struct call *call = batch->call;
    struct jw   *w = &call->w;
    loop_timer_clear(&call->timer);
    call->on_gone = NULL;
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, response_id(call));
    jw_key(w, "results");
    jw_arr(w);
    for (size_t i = 0; i < batch->count; i++)
        put_result(w, &batch->items[i]);
    jw_arr_end(w);
    put_totals(w, batch);
    jw_end(w);
    if (batch->flow.conn) {
        outflow_put(&batch->flow, buf_view(&call->out));
        outflow_end(&batch->flow);
    } else {
        answer_free(batch);
        call_send(call, 200);
    }
}

/* ---- the calls ---- */

static void no_chunk(void *user, enum model_chunk_kind kind, struct span text)
{
    (void)user;
    (void)kind;
    (void)text;
}

static void stop(struct batch_call *batch, enum err err, const char *message)
{
    batch->stopped = true;
    for (size_t i = 0; i < batch->count; i++) {
        struct batch_item *item = &batch->items[i];
        if (item->done)
            continue;
        model_cancel(TAKE(item->model_call));
        item->done = true;
        error_set(&item->error, err, "", "%s", message);
    }
    batch->running = 0;
    batch->ended = batch->count;
}

static void pump(struct batch_call *batch);

static void item_failed(struct batch_item *item)
{
    if (item->batch->fail_fast && !item->batch->stopped)
        stop(item->batch, ERR_CANCELLED, "another request of the batch failed");
}

static void item_ended(void *user, enum err err, struct span result)
{
    struct batch_item *item = user;
    struct batch_call *batch = item->batch;
    struct arena      *arena = &batch->call->arena;
    item->model_call = NULL;
    item->done = true;
    item->answer = json_read(arena_copy(arena, result), arena);
    batch->running--;
    batch->ended++;
    if (err) {
        (void)response_failure(item->answer, arena, &item->error);
        item_failed(item);
    } else {
        struct buf text = { 0 };
        struct jw  w = jw_on(&text);
        response_put(&w, response_id(batch->call), item->want.model, item->answer);
        item->response = arena_copy(arena, buf_view(&text));
        buf_done(&text);
    }
    pump(batch);
}

static void pump(struct batch_call *batch)
{
    while (!batch->stopped && batch->next < batch->count && (int64_t)batch->running < batch->concurrent) {
        struct batch_item       *item = &batch->items[batch->next++];
        struct model_call_config config = { .on_chunk = no_chunk, .on_end = item_ended, .user = item };
        if (!item->error.code && !response_start(batch->call, &item->want, &config, &item->model_call, &item->error)) {
            batch->running++;
            continue;
        }
        item->done = true;
        batch->ended++;
        item_failed(item);
    }
    if (batch->ended == batch->count)
        finish(batch);
}

static void timed_out(struct loop_timer *timer)
{
    struct call       *call = CONTAINER(timer, struct call, timer);
    struct batch_call *batch = call->user;
    stop(batch, ERR_TIMEOUT, "the batch took longer than its timeout_ms");
    finish(batch);
}

static void client_gone(struct call *call)
{
    struct batch_call *batch = call->user;
    stop(batch, ERR_CANCELLED, "");
    answer_free(batch);
    loop_timer_clear(&call->timer);
    call_free(call);
}

static void flow_over(void *user)
{
    struct batch_call *batch = user;
    client_gone(batch->call);
}

static void too_long(struct loop_timer *timer)
{
    struct batch_call *batch = CONTAINER(timer, struct batch_call, headers);
    batch->call->on_gone = NULL;
    outflow_begin(&batch->flow, batch->call, "application/json", flow_over, batch);
}

/* ---- the request ---- */

static int64_t option(struct call *call, const char *name, int64_t def, int64_t most)
{
    struct jv v = jv_get(jv_get(call->body, "options"), name);
    int64_t   n = def;
    if (!jv_is(v, JSON_NONE) && (!jv_i64(v, &n) || n < 1 || n > most))
        issue_add(&call->issues, arena_printf(&call->arena, "/options/%s", name), "range", "must be an integer from 1 to %lld",
                  (long long)most);
    return n;
}

static void read_items(struct call *call, struct batch_call *batch)
{
    struct jv requests = jv_get(call->body, "requests");
    size_t    i = 0;
    batch->count = jv_is(requests, JSON_ARRAY) ? jv_count(requests) : 0;
    if (batch->count < 1 || batch->count > BATCH_MAX) {
        issue_add(&call->issues, SPAN("/requests"), "range", "must be a list of 1 to %d requests", BATCH_MAX);
        return;
    }
    batch->items = ARENA_ARRAY(&call->arena, struct batch_item, batch->count);
    for (struct jv_iter it = jv_iter(requests); jv_step(&it); i++) {
        struct batch_item *item = &batch->items[i];
        char               at[48];
        snprintf(at, sizeof at, "/requests/%zu", i);
        item->batch = batch;
        item->id = jv_string(jv_get(it.value, "id"), &call->arena);
        if (!item->id.n)
            issue_add(&call->issues, arena_printf(&call->arena, "%s/id", at), "required", "must be a string that is not empty");
        if (response_read(call, it.value, at, &item->want))
            (void)response_state(call, it.value, &item->error);
    }
}

void flow_responses_batch(struct call *call)
{
    struct batch_call *batch = mem_alloc(sizeof *batch);
    int64_t            timeout_ms = option(call, "timeout_ms", TIMEOUT_MAX_MS, TIMEOUT_MAX_MS);
    batch->call = call;
    batch->concurrent = option(call, "max_concurrent", CONCURRENT_DEFAULT, CONCURRENT_MAX);
    batch->fail_fast = jv_bool(jv_get(jv_get(call->body, "options"), "fail_fast"), false);
    read_items(call, batch);
    loop_timer_init(&batch->headers, engine_loop(call->api->engine), too_long);
    if (call->issues.count) {
        answer_free(batch);
        call_invalid(call, ERR_VALIDATION);
        return;
    }
    call->user = batch;
    call->on_gone = client_gone;
    loop_timer_init(&call->timer, engine_loop(call->api->engine), timed_out);
    loop_timer_set(&call->timer, loop_now_us(engine_loop(call->api->engine)) + (uint64_t)timeout_ms * 1000);
    loop_timer_set(&batch->headers, loop_now_us(engine_loop(call->api->engine)) + (uint64_t)OUTFLOW_HEADERS_MS * 1000);
    pump(batch);
}
