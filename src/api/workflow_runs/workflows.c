/* SPDX-License-Identifier: Apache-2.0 */
/* workflows.c - compile, lint, and the schemas of what this surface speaks (workflow-runs.md 2.7, 2.8). */
#include "api/workflow_runs/routes.h"
#include "api/workflow_runs/schemas.h"
#include "workflow/spec.h"

static struct sha256 put_plan(struct call *call, struct span v1)
{
    struct jw    *w = &call->w;
    struct sha256 hash = sha256_of(v1);
    struct buf    hex = { 0 };
    buf_hex(&hex, hash.b, sizeof hash.b);
    jw_key(w, "plan_json");
    jw_raw(w, v1);
    jw_key(w, "plan_hash");
    jw_str(w, buf_view(&hex));
    buf_done(&hex);
    return hash;
}

/* ---- plans that the engine is to have ---- */

enum { LARGE = 32 << 10 }; /* bytes of a specification: below, compiling takes less than a millisecond */

bool flow_is_large(struct jv spec)
{
    return jv_raw(spec).n > LARGE;
}

void flow_elsewhere(struct call *call, void (*run)(struct read_job *job, struct reader *reader), void (*done)(struct read_job *job))
{
    call->in_job = true;
    call->job.run = run;
    call->job.done = done;
    store_read(engine_store(call->api->engine), &call->job);
}

bool flow_prepare(struct call *call, struct span v1, struct prepared *ret)
{
    struct issues found = { .arena = &call->arena }, issues = { .arena = &call->arena };
    struct span   definition = arena_printf(&call->arena, "{\"format\":1,\"workflow\":%.*s}", SPAN_ARG(v1));
    if (!catalog_prepare(call->api->engine, json_read(definition, &call->arena), ret, &found))
        return true;
    issue_add(&issues, SPAN("$"), "LIMIT_EXCEEDED", "the plan cannot be kept: %.*s",
              SPAN_ARG(found.count ? found.items[0].message : SPAN("it is too large")));
    flow_send_issues(call, &issues);
    return false;
}

/* ---- compile: keeps the plan, so that a run can be made of its hash ---- */

struct compile {
    struct call    *call;
    struct span     v1;
    struct prepared prepared;
};

/* On any thread. False: the answer was given. */
static bool compile(struct compile *c)
{
    struct call  *call = c->call;
    struct issues issues = { .arena = &call->arena };
    if (spec_compile(call->body, &call->arena, &c->v1, &issues)) {
        flow_send_issues(call, &issues);
        return false;
    }
    if (!flow_prepare(call, c->v1, &c->prepared))
        return false;
    jw_obj(&call->w);
    put_plan(call, c->v1);
    jw_end(&call->w);
    return true;
}

static void keep(struct compile *c)
{
    struct call *call = c->call;
    struct error error = { 0 };
    if (engine_ready(call->api->engine, &error)) {
        catalog_prepared_free(&c->prepared);
        call->out.len = 0;
        call_error(call, &error);
        return;
    }
    catalog_inline_prepared(call->api->engine, call->tenant, call->workspace, &c->prepared);
    call_send_committed(call, 200);
}

static void compile_large(struct read_job *job, struct reader *reader)
{
    struct compile *c = CONTAINER(job, struct call, job)->user;
    (void)reader;
    (void)compile(c); /* a status is set when that was the end of it */
}

static void compiled_large(struct read_job *job)
{
    struct call    *call = CONTAINER(job, struct call, job);
    struct compile *c = call->user;
    call->in_job = false;
    call->user = NULL;
    if (!call->status && call->req) {
        keep(c);
        return;
    }
    catalog_prepared_free(&c->prepared);
    call_send(call, call->status);
}

void flow_compile(struct call *call)
{
    struct compile *c = ARENA_NEW(&call->arena, struct compile);
    c->call = call;
    if (flow_is_large(call->body)) {
        call->user = c;
        flow_elsewhere(call, compile_large, compiled_large);
    } else if (compile(c)) {
        keep(c);
    }
}

void flow_lint(struct call *call)
{
    struct jw    *w = &call->w;
    struct issues warnings = { .arena = &call->arena }, issues = { .arena = &call->arena };
    struct span   compile = call_query(call, "compile"), v1 = SPAN_NONE;
    struct jv     kind = jv_get(call->body, "kind");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    spec_lint(call->body, &warnings);
    jw_obj(w);
    if (jv_is(kind, JSON_STRING)) {
        jw_key(w, "kind");
        jw_raw(w, jv_raw(kind));
    }
    flow_put_issues(w, "lint_issues", &warnings);
    if (!span_is(compile, "false") && !span_is(compile, "0")) {
        if (spec_compile(call->body, &call->arena, &v1, &issues))
            flow_put_issues(w, "compile_issues", &issues);
        else
            (void)put_plan(call, v1);
    }
    jw_end(w);
    call_send(call, 200);
}

static void send_schema(struct call *call, struct span text)
{
    call->content_type = "application/schema+json";
    buf_span(&call->out, text);
    call_send(call, 200);
}

void flow_schema_events(struct call *call)
{
    send_schema(call, schema_run_event());
}

void flow_schema_workflow(struct call *call)
{
    send_schema(call, schema_workflow());
}
