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

/* Compiling keeps the plan, so that a run can be made of its hash. */
void flow_compile(struct call *call)
{
    struct issues issues = { .arena = &call->arena };
    struct error  error = { 0 };
    struct span   v1;
    struct sha256 hash;
    if (spec_compile(call->body, &call->arena, &v1, &issues)) {
        flow_send_issues(call, &issues);
        return;
    }
    enum err e = engine_ready(call->api->engine, &error);
    if (!e) {
        struct span definition = arena_printf(&call->arena, "{\"format\":1,\"workflow\":%.*s}", SPAN_ARG(v1));
        e = catalog_inline(call->api->engine, call->tenant, call->workspace, json_read(definition, &call->arena), &hash, &issues);
        if (e)
            error_set(&error, ERR_INTERNAL, "", "the plan cannot be kept");
    }
    if (e) {
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    put_plan(call, v1);
    jw_end(&call->w);
    call_send_committed(call, 200);
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
