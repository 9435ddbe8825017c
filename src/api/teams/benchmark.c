/* SPDX-License-Identifier: Apache-2.0 */
/* benchmark.c - POST /v1/api/teams/benchmark: one task under several protocols, each a run; the artifacts of all (teams.md 15).
 *
 * {"config": {"task","budget","model","agents"?,"metadata"?}, "protocols"?: [name or config…], "timeout_seconds"?}. model is what
 * the contract records (provider, temperature, seed, metadata) and what a team's definition has (model, id, stream, retry, script).
 * The runs are made in one commit and wait for nobody; who repeats the request with its idempotency key waits for the same runs. */
#include "api/agent_runs/routes.h"
#include "api/teams/routes.h"
#include "team/result.h"
#include <stdlib.h>

enum { PROTOCOLS_MAX = 16, WAIT_DEFAULT_MS = 60000, WAIT_MAX_MS = 300000 };
static const char SCOPE[] = "teams.benchmark";

struct one_run {
    struct benchmark *benchmark;
    struct jv         protocol;
    struct uuid       id;
    uint64_t          ticket;
    bool              over;
};

struct benchmark {
    struct call   *call;
    struct jv      config;
    struct one_run runs[PROTOCOLS_MAX];
    size_t         count, open;
    int64_t        since_ms, waited_ms;
    bool           reused, timed_out;
    struct buf     artifacts; /* JSON, made on the reader thread */
};

/* ---- definitions ---- */

static void copy(struct jw *w, struct jv from, const char *name)
{
    if (jv_is(jv_get(from, name), JSON_NONE))
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(jv_get(from, name)));
}

/* {"format":1,"team":{run options,"model"}} */
static struct jv definition_of(struct call *call, struct jv config, struct jv protocol)
{
    static const char *const members[] = { "provider", "model", "id", "stream", "retry", "script" };
    CLEANUP(buf_done) struct buf options = { 0 };
    struct jv model = jv_get(config, "model");
    struct jw o = jw_on(&options);
    team_benchmark_options(config, protocol, &o);
    options.len--; /* reopened: the model is the last member */
    buf_span(&options, SPAN(",\"model\":"));
    struct jw w = jw_on(&options);
    jw_obj(&w);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        copy(&w, model, members[i]);
    jw_end(&w);
    return json_read(arena_printf(&call->arena, "{\"format\":1,\"team\":%.*s}}", SPAN_ARG(buf_view(&options))), &call->arena);
}

/* ---- the request ---- */

static bool read_timeout(struct call *call, int64_t *ret_ms)
{
    struct jv v = jv_get(call->body, "timeout_seconds");
    double    seconds;
    *ret_ms = WAIT_DEFAULT_MS;
    if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL))
        return true;
    if (!jv_f64(v, &seconds) || seconds < 0) {
        issue_add(&call->issues, SPAN("/timeout_seconds"), "range", "must be a number from 0 on");
        return false;
    }
    *ret_ms = seconds * 1000 > WAIT_MAX_MS ? WAIT_MAX_MS : (int64_t)(seconds * 1000);
    return true;
}

static void read_protocols(struct call *call, struct benchmark *b)
{
    struct jv list = jv_get(call->body, "protocols");
    if (jv_is(list, JSON_NONE))
        list = json_read(SPAN("[\"sequential\",\"broadcast\",\"shared\",\"coordinator\"]"), &call->arena);
    if (!jv_is(list, JSON_ARRAY) || jv_count(list) < 1 || jv_count(list) > PROTOCOLS_MAX) {
        issue_add(&call->issues, SPAN("/protocols"), "range", "must be a list of 1 to %d protocols", PROTOCOLS_MAX);
        return;
    }
    for (struct jv_iter it = jv_iter(list); jv_step(&it); b->count++)
        b->runs[b->count] = (struct one_run){ .benchmark = b, .protocol = it.value };
}

static bool read_body(struct call *call, struct benchmark *b)
{
    static const char *const parts[] = { "task", "budget", "model" };
    bool given = body_object(call, "config", &b->config);
    if (!given && !call->issues.count)
        issue_add(&call->issues, SPAN("/config"), "required", "is required");
    for (size_t i = 0; given && i < ARRAY_LEN(parts); i++)
        if (!jv_is(jv_get(b->config, parts[i]), JSON_OBJECT))
            issue_add(&call->issues, arena_printf(&call->arena, "/config/%s", parts[i]), "type", "must be an object");
    read_protocols(call, b);
    read_timeout(call, &call->wait_ms);
    return !call_invalid(call, ERR_VALIDATION);
}

/* ---- the runs ---- */

static bool compile(struct call *call, struct benchmark *b, size_t i, struct sha256 *ret_plan)
{
    struct issues found = { .arena = &call->arena };
    enum err e = catalog_inline(call->api->engine, call->tenant, call->workspace, definition_of(call, b->config, b->runs[i].protocol),
                                ret_plan, &found);
    if (!e)
        return true;
    for (size_t k = 0; k < found.count && k < ISSUES_MAX; k++)
        found.items[k].pointer = arena_printf(&call->arena, "/protocols/%zu%.*s", i, SPAN_ARG(found.items[k].pointer));
    call->issues = found;
    if (!call_invalid(call, e))
        call_fail(call, ERR_VALIDATION, "/config", "the configuration is no team");
    return false;
}

/* False: the answer was given. */
static bool make_runs(struct call *call, struct benchmark *b)
{
    struct engine *engine = call->api->engine;
    struct sha256  plans[PROTOCOLS_MAX];
    struct error   error = { 0 };
    for (size_t i = 0; i < b->count; i++)
        if (!compile(call, b, i, &plans[i]))
            return false;
    for (size_t i = 0; i < b->count; i++) {
        struct run_row  row;
        struct run_spec spec = { .tenant = call->tenant, .workspace = call->workspace, .agent = inline_agent_id(call->workspace),
                                 .bundle = catalog_inline_bundle(engine, call->workspace, &plans[i])->row.id,
                                 .source = SOURCE_API, .thread_choice = THREAD_IMPLICIT };
        if (run_create(engine, &spec, &row, &error)) {
            call_error(call, &error);
            return false;
        }
        b->runs[i].id = row.id;
        call_audit(call, call->workspace, "run.create", "run", row.id, SPAN_NONE);
    }
    return true;
}

static void keep_runs(struct call *call, const struct benchmark *b, const struct idem_use *idem)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    jw_arr(&w);
    for (size_t i = 0; i < b->count; i++)
        jw_uuid(&w, &b->runs[i].id);
    jw_arr_end(&w);
    idem_put(call->api->engine, call->workspace, idem->key, idem->fingerprint, b->runs[0].id, buf_view(&text));
}

static void take_runs(struct call *call, struct benchmark *b, struct span kept)
{
    struct jv list = json_read(kept, &call->arena);
    b->reused = true;
    for (size_t i = 0; i < b->count; i++)
        uuid_parse(jv_string(jv_at(list, i), &call->arena), &b->runs[i].id);
}

/* ---- the answer ---- */

static void put_artifact(struct benchmark *b, const struct one_run *run, const struct team_fold *fold, struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf result = { 0 };
    const struct team_trace *trace = team_fold_trace(fold);
    struct span *events = ARENA_ARRAY(&arena, struct span, trace->event_count);
    struct jw    r = jw_on(&result);
    for (size_t i = 0; i < trace->event_count; i++)
        events[i] = trace->events[i].json;
    team_result_to_json(trace, &r);
    team_benchmark_artifact(b->config, run->protocol, json_read(buf_view(&result), &arena), events, trace->event_count, w);
}

static void put_run(struct benchmark *b, const struct one_run *run, struct reader *reader, struct jw *runs, struct jw *artifacts)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct run_row    row = { .workspace = b->call->workspace, .id = run->id };
    struct team_fold *fold = NULL;
    struct error      error = { 0 };
    bool              there = !reader_get(reader, TABLE_run, &row);
    jw_obj(runs);
    jw_key(runs, "run_id"), jw_uuid(runs, &run->id);
    jw_key(runs, "protocol"), jw_raw(runs, jv_raw(run->protocol));
    if (there)
        jw_key(runs, "status"), jw_cstr(runs, run_status_ar((enum run_status)row.status, (unsigned)row.mask));
    if (there && row.error.p)
        jw_key(runs, "error"), jw_raw(runs, row.error);
    jw_end(runs);
    if (team_trace_read(reader, b->call->workspace, run->id, SPAN_NONE, &arena, &fold, &error))
        jw_null(artifacts);
    else
        put_artifact(b, run, fold, artifacts);
    team_fold_free(fold);
}

/* On the reader thread. */
static void read_all(struct read_job *job, struct reader *reader)
{
    struct call      *call = CONTAINER(job, struct call, job);
    struct benchmark *b = call->user;
    struct jw         artifacts = jw_on(&b->artifacts);
    call->status = 500;
    if (reader_begin(reader, &call->arena))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "runs"), jw_arr(&call->w);
    jw_arr(&artifacts);
    for (size_t i = 0; i < b->count; i++)
        put_run(b, &b->runs[i], reader, &call->w, &artifacts);
    jw_arr_end(&artifacts), jw_arr_end(&call->w);
    reader_end(reader);
    jw_key(&call->w, "artifacts"), jw_raw(&call->w, buf_view(&b->artifacts));
    jw_key(&call->w, "timed_out"), jw_bool(&call->w, b->timed_out);
    if (b->reused)
        jw_key(&call->w, "reused"), jw_bool(&call->w, true);
    jw_key(&call->w, "waited_ms_total"), jw_i64(&call->w, b->waited_ms);
    jw_end(&call->w);
    call->status = 200;
}

static void benchmark_free(struct call *call)
{
    struct benchmark *b = call->user;
    call->user = NULL;
    buf_done(&b->artifacts);
    free(b);
}

static void read_done(struct read_job *job)
{
    struct call *call = CONTAINER(job, struct call, job);
    int          status = call->status;
    benchmark_free(call);
    if (status == 200)
        call_send(call, 200);
    else
        call_fail(call, ERR_STORAGE, "", "the store cannot be read");
}

static void answer(struct call *call)
{
    struct benchmark *b = call->user;
    for (size_t i = 0; i < b->count; i++)
        if (b->runs[i].ticket)
            run_unwatch(call->api->engine, b->runs[i].ticket);
    loop_timer_clear(&call->timer);
    b->waited_ms = engine_now_ms(call->api->engine) - b->since_ms;
    call->on_gone = NULL;
    call->job.run = read_all;
    call->job.done = read_done;
    store_read(engine_store(call->api->engine), &call->job);
}

/* ---- waiting ---- */

static void run_over(void *user, const struct run_row *row)
{
    struct one_run   *run = user;
    struct benchmark *b = run->benchmark;
    (void)row; /* what became of it is read with its trace */
    run->ticket = 0;
    run->over = true;
    if (--b->open == 0)
        answer(b->call);
}

static void time_is_up(struct loop_timer *timer)
{
    struct call      *call = CONTAINER(timer, struct call, timer);
    struct benchmark *b = call->user;
    b->timed_out = true;
    answer(call);
}

static void caller_gone(struct call *call)
{
    struct benchmark *b = call->user;
    for (size_t i = 0; i < b->count; i++)
        if (b->runs[i].ticket)
            run_unwatch(call->api->engine, b->runs[i].ticket);
    loop_timer_clear(&call->timer);
    benchmark_free(call);
    call_free(call);
}

static void committed(void *arg, enum err err)
{
    struct call      *call = arg;
    struct benchmark *b = call->user;
    b->timed_out = call->wait_ms == 0;
    if (err || b->timed_out || b->open == 0)
        answer(call);
}

static void wait_for_runs(struct call *call, struct benchmark *b)
{
    struct engine *engine = call->api->engine;
    if (call->wait_ms == 0) { /* answer at once, that is after the commit */
        engine_after(engine, committed, call);
        return;
    }
    for (size_t i = 0; i < b->count; i++) {
        b->runs[i].ticket = run_watch(engine, call->workspace, b->runs[i].id, run_over, &b->runs[i]);
        b->open += b->runs[i].ticket != 0;
    }
    if (b->open == 0) { /* the runs of an old key are gone */
        engine_after(engine, committed, call);
        return;
    }
    call->on_gone = caller_gone;
    call->timer.fire = time_is_up;
    loop_timer_set(&call->timer, loop_now_us(engine_loop(engine)) + (uint64_t)call->wait_ms * 1000);
}

void team_benchmark_post(struct call *call)
{
    struct benchmark *b = mem_alloc(sizeof *b);
    struct idem_use   idem = { .used = false };
    struct span       key = SPAN_NONE;
    struct error      error = { 0 };
    *b = (struct benchmark){ .call = call, .since_ms = engine_now_ms(call->api->engine) };
    enum err e = call_idem_key(call, &key, &error);
    if (!e)
        e = engine_ready(call->api->engine, &error);
    if (e)
        call_error(call, &error);
    if (e || !read_body(call, b)) {
        free(b);
        return;
    }
    e = call_idem(call, SCOPE, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (e) {
        free(b);
        call_error(call, &error);
        return;
    }
    if (idem.found)
        take_runs(call, b, idem.hit.answer);
    else if (!make_runs(call, b)) {
        free(b);
        return;
    }
    if (idem.used && !idem.found)
        keep_runs(call, b, &idem);
    call->user = b;
    wait_for_runs(call, b);
}
