/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - POST /v1/api/runs/{runId}/checkpoints/{checkpointId}/replay (agent-runs.md 7.2). */
#include "api/agent_runs/routes.h"

static void put_created(struct jw *w, const struct run_row *row)
{
    jw_key(w, "run_id");
    jw_uuid(w, &row->id);
    jw_key(w, "status");
    jw_cstr(w, run_status_ar((enum run_status)row->status, 0));
    jw_key(w, "thread_id");
    jw_uuid(w, &row->thread);
    jw_key(w, "current_attempt_id");
    jw_uuid(w, &row->attempt);
    jw_key(w, "replayed_from_run_id");
    jw_uuid(w, &row->replayed_from);
    jw_key(w, "replayed_from_checkpoint_id");
    jw_uuid(w, &row->replayed_checkpoint);
    jw_key(w, "replay_mode");
    jw_cstr(w, row->replay_mode ? "strict" : "best_effort");
}

static void send_created(struct call *call, const struct run_row *row)
{
    char id[UUID_TEXT];
    uuid_format(row->id, id);
    call_header(call, "Location: /v1/api/runs/%.*s", UUID_TEXT, id);
    jw_obj(&call->w);
    put_created(&call->w, row);
    jw_key(&call->w, "reused");
    jw_bool(&call->w, false);
    jw_end(&call->w);
    call_send_committed(call, 201);
}

static void keep_answer(struct call *call, const struct idem_use *idem, const struct run_row *row)
{
    struct buf answer = { 0 };
    struct jw  w = jw_on(&answer);
    if (!idem->used)
        return;
    jw_obj(&w);
    put_created(&w, row);
    jw_end(&w);
    idem_put(call->api->engine, call->workspace, idem->key, idem->fingerprint, row->id, buf_view(&answer));
    buf_done(&answer);
}

/* False: the answer was given. */
static bool read_body(struct call *call, struct replay_spec *spec)
{
    struct span mode;
    bool        given = body_text(call, "mode", false, 255, &mode);
    body_text(call, "reason", false, 2000, &spec->reason);
    spec->strict = given && span_is(mode, "strict");
    if (given && !spec->strict && !span_is(mode, "best_effort"))
        issue_add(&call->issues, SPAN("/mode"), "enum", "must be best_effort or strict");
    return !call_invalid(call, ERR_VALIDATION);
}

void runs_replay(struct call *call)
{
    struct replay_spec spec = { .workspace = call->workspace };
    struct run_row     row;
    struct error       error = { 0 };
    struct idem_use    idem = { .used = false };
    struct span        key = SPAN_NONE;
    if (!read_body(call, &spec))
        return;
    enum err e = call_path_uuid(call, 0, &spec.run) ? call_idem_key(call, &key, &error)
                                                    : error_set(&error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    if (!e && !call_path_uuid(call, 1, &spec.checkpoint)) /* not an id: it names no checkpoint */
        memset(&spec.checkpoint, 0xff, sizeof spec.checkpoint);
    struct span scope = arena_printf(&call->arena, "ar.replay.%.*s.%.*s", SPAN_ARG(call->params[0]), SPAN_ARG(call->params[1]));
    if (!e)
        e = call_idem(call, scope.p, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (!e && idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    if (!e)
        e = run_replay(call->api->engine, &spec, &row, &error);
    if (e) {
        call_error(call, &error);
        return;
    }
    call_audit_text(call, "run.replay", "run", spec.run, "reason", spec.reason);
    keep_answer(call, &idem, &row);
    send_created(call, &row);
}
