/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - POST /v1/api/teams/runs: a team that comes with its run, of the workspace's inline agent (model.md 6.2). From then on
 * it is a run like any other. {"team": {run options and "model"}, "input"?: the intent or {"intent"}, "budget"?: the host's caps} */
#include "api/agent_runs/routes.h"
#include "api/teams/routes.h"

static bool compile(struct call *call, struct sha256 *ret_plan)
{
    struct issues found = { .arena = &call->arena };
    struct jv     team, budget;
    bool          has_budget = body_object(call, "budget", &budget);
    if (!body_object(call, "team", &team) && !call->issues.count)
        issue_add(&call->issues, SPAN("/team"), "required", "is required");
    if (call_invalid(call, ERR_VALIDATION))
        return false;
    struct span more = has_budget ? arena_printf(&call->arena, ",\"budget\":%.*s", SPAN_ARG(jv_raw(budget))) : SPAN("");
    struct span text = arena_printf(&call->arena, "{\"format\":1,\"team\":%.*s%.*s}", SPAN_ARG(jv_raw(team)), SPAN_ARG(more));
    enum err e = catalog_inline(call->api->engine, call->tenant, call->workspace, json_read(text, &call->arena), ret_plan, &found);
    if (!e)
        return true;
    call->issues = found; /* their pointers begin with /team or /budget, as in the body */
    if (!call_invalid(call, e))
        call_fail(call, ERR_VALIDATION, "/team", "the team cannot be compiled");
    return false;
}

void team_run_post(struct call *call)
{
    struct engine  *engine = call->api->engine;
    struct idem_use idem = { .used = false };
    struct span     key = SPAN_NONE;
    struct error    error = { 0 };
    struct sha256   plan;
    struct run_row  row;
    struct jv       input = jv_get(call->body, "input");
    enum err        e = call_idem_key(call, &key, &error);
    if (!e)
        e = engine_ready(engine, &error);
    if (!e)
        e = call_idem(call, "teams.runs", key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (e) {
        call_error(call, &error);
        return;
    }
    if (idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    if (!compile(call, &plan))
        return;
    struct run_spec spec = { .tenant = call->tenant, .workspace = call->workspace, .agent = inline_agent_id(call->workspace),
                             .bundle = catalog_inline_bundle(engine, call->workspace, &plan)->row.id, .source = SOURCE_API,
                             .input = jv_is(input, JSON_NONE) ? SPAN_NONE : minified(call, input), .thread_choice = THREAD_IMPLICIT };
    if (run_create(engine, &spec, &row, &error)) {
        call_error(call, &error);
        return;
    }
    call_audit(call, call->workspace, "run.create", "run", row.id, SPAN_NONE);
    run_created(call, &idem, &row);
}
