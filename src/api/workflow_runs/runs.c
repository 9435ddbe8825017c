/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - create, get and cancel a workflow run (workflow-runs.md 3). */
#include "api/workflow_runs/routes.h"
#include "workflow/spec.h"
#include <stdlib.h>

static const char SCOPE_CREATE[] = "wf.runs.create";

/* ---- what others see ---- */

const char *flow_run_status(const struct run_row *row)
{
    switch ((enum run_status)row->status) {
    case RUN_WAITING:   return "waiting";
    case RUN_COMPLETED: return "succeeded";
    case RUN_CANCELLED: return "canceled";
    case RUN_FAILED:    return row->error.n && memmem(row->error.p, row->error.n, "\"run_timeout\"", 13) ? "canceled" : "failed";
    default:            return "running";
    }
}

/* A run that was made for a customer is seen by that customer and by the project's keys. */
static bool visible(struct call *call, struct reader *reader, struct uuid run)
{
    struct flow_row flow = { .workspace = call->workspace, .run = run };
    if (!call->customer.n || call->cred->row.kind != CRED_CUSTOMER)
        return true;
    return !reader_get(reader, TABLE_flow, &flow) && span_eq(flow.customer, call->customer);
}

bool flow_run_read(struct call *call, struct run_row *ret)
{
    struct engine *engine = call->api->engine;
    struct reader *reader = call->reader ? call->reader : engine_reader(engine);
    *ret = (struct run_row){ .workspace = call->workspace };
    bool     known = call_path_uuid(call, 0, &ret->id);
    enum err e = !known ? ERR_NOT_FOUND : call->reader ? ERR_OK : reader_begin(reader, &call->arena);
    if (!e) {
        e = reader_get(reader, TABLE_run, ret);
        if (!e && !visible(call, reader, ret->id))
            e = ERR_NOT_FOUND;
        if (!call->reader)
            reader_end(reader);
    }
    if (e)
        call_fail(call, e == ERR_NOT_FOUND ? e : ERR_STORAGE, "run_id", e == ERR_NOT_FOUND ? "run not found" : "the store cannot be read");
    return !e;
}

/* ---- create: what is asked for ---- */

struct create {
    struct call    *call;
    struct issues   issues;
    struct span     v1;      /* the plan, canonical */
    struct jv       plan;
    struct span     inputs;  /* resolved */
    struct uuid     session; /* nil: none */
    struct idem_use idem;
    struct sha256   hash;
    struct span     key, fingerprint; /* empty: no idempotency */
    struct prepared *prepared; /* of a large plan; NULL: not yet */
};

static bool wants_stream(struct call *call)
{
    struct jv   stream = jv_get(call->body, "stream");
    struct span query = call_query(call, "stream");
    if (!jv_is(stream, JSON_NONE) && !jv_is(stream, JSON_TRUE) && !jv_is(stream, JSON_FALSE))
        issue_add(&call->issues, SPAN("/stream"), "type", "must be true or false");
    return jv_is(stream, JSON_TRUE) || span_is(query, "true") || span_is(query, "1");
}

/* The plan of the body: compiled from its spec, or known by its hash. False: the answer was given. */
static bool find_plan(struct create *c)
{
    struct call  *call = c->call;
    struct jv     spec = jv_get(call->body, "spec"), hash = jv_get(call->body, "plan_hash");
    struct sha256 wanted;
    bool          has_spec = !jv_is(spec, JSON_NONE), has_hash = !jv_is(hash, JSON_NONE);
    if (has_spec == has_hash) {
        call_fail(call, ERR_BAD_REQUEST, "spec", "exactly one of spec and plan_hash must be given");
        return false;
    }
    if (has_spec) {
        if (!spec_compile(spec, &call->arena, &c->v1, &c->issues))
            return true;
        flow_send_issues(call, &c->issues);
        return false;
    }
    struct span text = jv_string(hash, &call->arena);
    if (!sha256_parse(text, &wanted)) {
        call_fail(call, ERR_BAD_REQUEST, "plan_hash", "must be 64 hex digits");
        return false;
    }
    struct bundle *bundle = catalog_inline_bundle(call->api->engine, call->workspace, &wanted);
    struct jv      definition = bundle ? json_read(bundle->row.definition, &call->arena) : (struct jv){ 0 };
    struct jv      known = jv_get(definition, "workflow");
    if (!jv_is(known, JSON_OBJECT)) {
        call_fail(call, ERR_NOT_FOUND, "plan_hash", "plan not found");
        return false;
    }
    c->v1 = minified(call, known);
    return true;
}

/* The request without its options, which do not count. */
static struct span fingerprint(struct call *call)
{
    struct buf kept = { 0 }, canonical = { 0 };
    struct jw  w = jw_on(&kept);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(call->body); jv_step(&it);) {
        if (jv_str_eq(it.name, "options"))
            continue;
        jw_key_span(&w, jv_string(it.name, &call->arena));
        jw_raw(&w, jv_raw(it.value));
    }
    jw_end(&w);
    json_canonical(json_read(buf_view(&kept), &call->arena), JSON_JCS, &canonical);
    struct span text = arena_copy(&call->arena, buf_view(&canonical));
    buf_done(&kept);
    buf_done(&canonical);
    return text;
}

/* Streaming is part of the plan. On any thread. False: the answer was given. */
static bool shape_plan(struct create *c)
{
    struct call *call = c->call;
    if (!find_plan(c))
        return false;
    bool stream = wants_stream(call);
    if (call_invalid(call, ERR_BAD_REQUEST))
        return false;
    c->plan = json_read(c->v1, &call->arena);
    if (stream && spec_stream(c->plan, &call->arena, &c->v1, &c->issues)) {
        flow_send_issues(call, &c->issues);
        return false;
    }
    if (stream)
        c->plan = json_read(c->v1, &call->arena);
    if (c->key.n)
        c->fingerprint = fingerprint(call);
    return true;
}

static bool knows_tool(void *ctx, struct span name)
{
    return engine_knows_tool(ctx, name);
}

/* Inputs and models are not part of it. False: the answer was given. */
static bool fit_plan(struct create *c)
{
    struct call *call = c->call;
    struct jv    input = { 0 };
    body_object(call, "input", &input);
    if (call_invalid(call, ERR_BAD_REQUEST))
        return false;
    enum err e = spec_inputs(c->plan, input, &call->arena, &c->inputs, &c->issues);
    if (!e)
        e = spec_models(c->plan, jv_get(call->body, "model_override"), jv_get(call->body, "model_overrides"), &c->issues);
    if (!e)
        e = spec_tools(c->plan, knows_tool, call->api->engine, &c->issues);
    if (!e)
        return true;
    flow_send_issues(call, &c->issues);
    return false;
}

static bool read_session(struct create *c)
{
    struct call       *call = c->call;
    struct session_row row;
    struct span        text;
    if (!body_text(call, "session_id", false, 64, &text))
        return !call_invalid(call, ERR_BAD_REQUEST);
    if (uuid_parse(text, &c->session) && !session_read(call->api->engine, call->workspace, c->session, &row) &&
        (!call->customer.n || span_eq(call->customer, row.customer)))
        return true;
    call_fail(call, ERR_NOT_FOUND, "session_id", "session not found");
    return false;
}

/* ---- create: once ---- */

static struct span key_of(struct call *call)
{
    struct jv   options = jv_get(call->body, "options"), key = jv_get(options, "idempotency_key");
    struct span text = jv_string(key, &call->arena);
    if (jv_is(options, JSON_NONE) || jv_is(key, JSON_NONE))
        return SPAN_NONE;
    if (!jv_is(options, JSON_OBJECT) || !jv_is(key, JSON_STRING) || text.n > 255)
        issue_add(&call->issues, SPAN("/options/idempotency_key"), "format", "must be a string of at most 255 bytes");
    return text.n ? text : SPAN_NONE;
}

static void put_created(struct jw *w, struct uuid run, const char *status, struct span hash)
{
    jw_obj(w);
    jw_key(w, "run_id");
    jw_uuid(w, &run);
    jw_key(w, "status");
    jw_cstr(w, status);
    jw_key(w, "plan_hash");
    jw_str(w, hash);
    jw_end(w);
}

static struct span hex_of(struct call *call, const struct sha256 *hash)
{
    struct buf text = { 0 };
    buf_hex(&text, hash->b, sizeof hash->b);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

/* A repeat: the same run, as it is now. */
static void send_again(struct create *c)
{
    struct call   *call = c->call;
    struct run_row row = { 0 };
    if (run_row_get(call->api->engine, call->workspace, c->idem.hit.target, &call->arena, &row)) {
        put_created(&call->w, c->idem.hit.target, "running", c->idem.hit.answer); /* its commit is on its way */
    } else {
        put_created(&call->w, row.id, flow_run_status(&row), c->idem.hit.answer);
    }
    call_send_committed(call, 200);
}

/* ---- create: the run ---- */

/* {"all"?, "nodes"?, "subnodes"?} as the machine reads it (workflow/flow.h). */
static void put_models(struct create *c, struct jw *w)
{
    struct arena *arena = &c->call->arena;
    struct jv     all = jv_get(c->call->body, "model_override"), some = jv_get(c->call->body, "model_overrides");
    jw_obj(w);
    if (jv_is(all, JSON_STRING)) {
        jw_key(w, "all");
        jw_raw(w, jv_raw(all));
    }
    if (jv_is(jv_get(some, "nodes"), JSON_OBJECT)) {
        jw_key(w, "nodes");
        jw_raw(w, minified(c->call, jv_get(some, "nodes")));
    }
    jw_key(w, "subnodes");
    jw_obj(w);
    for (struct jv_iter it = jv_iter(jv_get(some, "fanout_subnodes")); jv_step(&it);) {
        jw_key_span(w, jv_string(jv_get(it.value, "parent_id"), arena));
        jw_raw(w, jv_raw(jv_get(it.value, "model")));
    }
    jw_end(w);
    jw_end(w);
}

/* What the machine gets: the resolved inputs, and the models that this run uses in place of the plan's. */
static struct span run_input(struct create *c)
{
    struct call *call = c->call;
    struct buf   text = { 0 };
    struct jw    w = jw_on(&text);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(json_read(c->inputs, &call->arena)); jv_step(&it);) {
        jw_key_span(&w, jv_string(it.name, &call->arena));
        jw_raw(&w, jv_raw(it.value));
    }
    if (!jv_is(jv_get(call->body, "model_override"), JSON_NONE) || !jv_is(jv_get(call->body, "model_overrides"), JSON_NONE)) {
        jw_key(&w, "$models");
        put_models(c, &w);
    }
    jw_end(&w);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

static enum err make_run(struct create *c, struct run_row *ret, struct error *error)
{
    struct call   *call = c->call;
    struct engine *engine = call->api->engine;
    if (!catalog_inline_bundle(engine, call->workspace, &c->hash))
        catalog_inline_prepared(engine, call->tenant, call->workspace, c->prepared);
    struct run_spec spec = { .tenant = call->tenant, .workspace = call->workspace, .agent = inline_agent_id(call->workspace),
                             .bundle = catalog_inline_bundle(engine, call->workspace, &c->hash)->row.id, .input = run_input(c),
                             .source = SOURCE_WORKFLOW, .thread = c->session,
                             .thread_choice = uuid_is_nil(c->session) ? THREAD_IMPLICIT : THREAD_GIVEN };
    enum err e = run_create(engine, &spec, ret, error);
    if (!e && call->customer.n)
        batch_put(engine_batch(engine), TABLE_flow, &(struct flow_row){ .workspace = call->workspace, .run = ret->id,
                                                                        .customer = call->customer });
    return e;
}

/* The engine knows the plan, or it is ready to be given to it. False: the answer was given. */
static bool ready_plan(struct create *c, struct prepared *own)
{
    struct call *call = c->call;
    c->hash = sha256_of(c->v1);
    if (c->prepared || catalog_inline_bundle(call->api->engine, call->workspace, &c->hash))
        return true;
    c->prepared = own;
    return flow_prepare(call, c->v1, own);
}

static void create(struct create *c)
{
    struct call    *call = c->call;
    struct run_row  row;
    struct prepared own = { 0 };
    struct error    error = { 0 };
    if (!fit_plan(c) || !read_session(c) || !ready_plan(c, &own))
        return;
    enum err e = engine_ready(call->api->engine, &error);
    if (!e) { /* the key is one of this customer's, so the scope ends with the customer */
        struct span scope = arena_printf(&call->arena, "%s.%.*s%c", SCOPE_CREATE, SPAN_ARG(call->customer), 0);
        e = call_idem(call, scope.p, c->key, c->fingerprint, &c->idem, &error);
    }
    if (!e && !c->idem.found)
        e = make_run(c, &row, &error);
    catalog_prepared_free(&own);
    if (e) {
        call_error(call, &error);
        return;
    }
    if (c->idem.found) {
        send_again(c);
        return;
    }
    struct span hex = hex_of(call, &c->hash);
    if (c->idem.used)
        idem_put(call->api->engine, call->workspace, c->idem.key, c->idem.fingerprint, row.id, hex);
    call_audit(call, call->workspace, "run.create", "run", row.id, SPAN_NONE);
    put_created(&call->w, row.id, "running", hex);
    call_send_committed(call, 200);
}

/* A large one is compiled on the reader thread: nobody else waits for it meanwhile. */
static void compile_large(struct read_job *job, struct reader *reader)
{
    struct create *c = CONTAINER(job, struct call, job)->user;
    (void)reader;
    if (shape_plan(c))
        (void)flow_prepare(c->call, c->v1, c->prepared);
}

static void compiled_large(struct read_job *job)
{
    struct call     *call = CONTAINER(job, struct call, job);
    struct create   *c = call->user;
    struct prepared *prepared = c->prepared; /* the call ends below */
    call->in_job = false;
    call->user = NULL;
    if (call->status || !call->req)
        call_send(call, call->status);
    else
        create(c);
    catalog_prepared_free(prepared);
    free(prepared);
}

void flow_runs_create(struct call *call)
{
    struct create *c = ARENA_NEW(&call->arena, struct create);
    *c = (struct create){ .call = call, .issues = { .arena = &call->arena }, .key = key_of(call) };
    if (call_invalid(call, ERR_BAD_REQUEST))
        return;
    if (flow_is_large(jv_get(call->body, "spec"))) {
        c->prepared = mem_alloc(sizeof *c->prepared);
        call->user = c;
        flow_elsewhere(call, compile_large, compiled_large);
    } else if (shape_plan(c)) {
        create(c);
    }
}

/* ---- get, cancel ---- */

void flow_runs_get(struct call *call)
{
    struct run_row        row;
    struct flow_snapshot *snapshot;
    struct span           include = call_query(call, "include");
    bool                  steps = include.p && memmem(include.p, include.n, "steps", 5);
    if (!flow_run_read(call, &row))
        return;
    if (flow_fold(call, &row, &snapshot)) {
        call_fail(call, ERR_STORAGE, "", "the ledger cannot be read");
        return;
    }
    flow_put_snapshot(call, &row, snapshot, steps);
    call_send(call, 200);
}

static void send_snapshot(struct read_job *job)
{
    struct call *call = CONTAINER(job, struct call, job);
    call->in_job = false;
    call_send(call, call->status);
}

static void read_snapshot(struct read_job *job, struct reader *reader)
{
    struct call *call = CONTAINER(job, struct call, job);
    if (reader_begin(reader, &call->arena)) {
        call_fail(call, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    call->reader = reader;
    flow_runs_get(call);
    call->reader = NULL;
    reader_end(reader);
}

/* The end is on disk: now its snapshot can be read. */
static void cancelled(void *arg, enum err err)
{
    struct call *call = arg;
    if (err) {
        if (call->req)
            http_abort(TAKE(call->req));
        call_free(call);
        return;
    }
    call->in_job = true;
    call->job.run = read_snapshot;
    call->job.done = send_snapshot;
    store_read(engine_store(call->api->engine), &call->job);
}

void flow_runs_cancel(struct call *call)
{
    struct run_row row, now = { 0 };
    struct error   error = { 0 };
    struct buf     actor = { 0 };
    bool           already;
    if (!flow_run_read(call, &row))
        return;
    enum err e = run_cancel(call->api->engine, call->workspace, row.id, SPAN("canceled over the API"),
                            span_of(call_actor(call, &actor)), &now, &already, &error);
    buf_done(&actor);
    if (e && e != ERR_INVALID_RUN_STATE) { /* one that has ended stays as it is */
        call_error(call, &error);
        return;
    }
    if (!e && !already)
        call_audit(call, call->workspace, "run.cancel", "run", row.id, SPAN_NONE);
    engine_after(call->api->engine, cancelled, call);
}
