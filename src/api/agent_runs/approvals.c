/* SPDX-License-Identifier: Apache-2.0 */
/* approvals.c - the prompts of runs that ask a person, as resources: list, get, approve, reject (agent-runs.md 9).
 *
 * An approval is the row of a wait. Deciding it is a resume of its run with an answer; the engine takes the first one. */
#include "api/agent_runs/routes.h"

static void put_text_or_null(struct jw *w, const char *name, struct span text)
{
    jw_key(w, name);
    if (text.p)
        jw_str(w, text);
    else
        jw_null(w);
}

static void put_json_or_null(struct jw *w, const char *name, struct span json)
{
    jw_key(w, name);
    jw_raw(w, json.n ? json : SPAN("null"));
}

static void put_time_or_null(struct jw *w, const char *name, int64_t ms)
{
    jw_key(w, name);
    if (ms)
        jw_time(w, ms);
    else
        jw_null(w);
}

static void put_id(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    jw_uuid(w, &id);
}

static void render_approval(struct jw *w, const struct wait_row *row, unsigned flags)
{
    jw_obj(w);
    put_id(w, "approval_id", row->id);
    put_id(w, "run_id", row->run);
    put_id(w, "thread_id", row->thread);
    put_id(w, "attempt_id", row->attempt);
    put_id(w, "checkpoint_id", checkpoint_id(row->attempt, (uint64_t)row->checkpoint_seq));
    put_text_or_null(w, "node", row->node);
    jw_key(w, "status");
    jw_cstr(w, wait_status_name((enum wait_status)row->status));
    jw_key(w, "kind");
    jw_cstr(w, wait_kind_name((enum wait_kind)row->kind));
    put_text_or_null(w, "prompt", row->prompt);
    put_json_or_null(w, "schema", row->schema_json);
    render_value(w, "details", row->options.n ? row->options : SPAN("null"), flags);
    put_time_or_null(w, "expires_at", row->expires_ms);
    put_time_or_null(w, "decided_at", row->decided_ms);
    put_text_or_null(w, "decided_by", row->decided_by.n ? row->decided_by : SPAN_NONE);
    put_json_or_null(w, "decision", row->answer);
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_end(w);
}

/* ---- reading ---- */

static bool list_approval(void *user, const void *row)
{
    struct call *call = user;
    render_approval(&call->w, row, RENDER_LIST);
    call->shown++;
    return true;
}

void approvals_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_wait, .eq_count = 1, .order_column = "id", .descending = !page.ascending,
                           .limit = page.limit, .offset = page.offset, .in_column = "kind",
                           .in = { WAIT_PROMPT, WAIT_ASK, WAIT_APPROVAL, WAIT_RECEIPT, WAIT_BUDGET }, .in_count = 5 };
    struct span  run = call_query(call, "run_id"), word = call_query(call, "status");
    bool         known = true;
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    if (run.p) {
        query.eq[query.eq_count].column = "run";
        known = uuid_parse(run, &query.eq[query.eq_count++].uuid);
    }
    if (word.p) {
        enum wait_status status;
        if (!wait_status_parse(word, &status)) {
            issue_add_parameter(&call->issues, "status", "enum", "%.*s is no status of an approval", SPAN_ARG(word));
        } else {
            query.eq[query.eq_count].column = "status";
            query.eq[query.eq_count++].i64 = status;
        }
    }
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    call_list(call, &query, page, known, list_approval);
}

void approvals_get(struct call *call)
{
    struct wait_row row = { 0 };
    if (!call_path_uuid(call, 0, &row.id) || reader_get(call->reader, TABLE_wait, &row) || !uuid_eq(row.workspace, call->workspace) ||
        row.kind == WAIT_TOOLS) {
        call_fail(call, ERR_APPROVAL_NOT_FOUND, "", "no such approval in this workspace");
        return;
    }
    render_approval(&call->w, &row, 0);
    call_send(call, 200);
}

/* ---- deciding ---- */

static void decide(struct call *call, struct span input, bool reject)
{
    struct wait_answer answer = { .workspace = call->workspace, .input = input, .reject = reject };
    struct wait_row    wait = { 0 };
    struct run_row     run = { 0 };
    struct error       error = { 0 };
    struct buf         actor = { 0 };
    enum err           e = ERR_OK;
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (!call_path_uuid(call, 0, &answer.wait))
        e = error_set(&error, ERR_APPROVAL_NOT_FOUND, "", "no such approval in this workspace");
    answer.by = span_of(call_actor(call, &actor));
    if (!e)
        e = wait_decide(call->api->engine, &answer, &wait, &run, &call->issues, &error);
    buf_done(&actor);
    if (e == ERR_INVALID_RUN_STATE)
        call_extra_str(call, "current_status", span_of(run_status_ar((enum run_status)run.status, (unsigned)run.mask)));
    if (e) {
        call_error(call, &error);
        return;
    }
    render_approval(&call->w, &wait, 0);
    struct span reason = reject ? jv_string(jv_get(call->body, "reason"), &call->arena) : SPAN_NONE;
    call_audit_text(call, reject ? "approval.reject" : "approval.approve", "approval", wait.id, "reason", reason);
    call_send_committed(call, 200);
}

void approvals_approve(struct call *call)
{
    struct jv input = jv_get(call->body, "input");
    decide(call, jv_is(input, JSON_NONE) ? SPAN("{\"approved\":true}") : minified(call, input), false);
}

void approvals_reject(struct call *call)
{
    struct span reason;
    struct buf  text = { 0 };
    struct jw   w = jw_on(&text);
    bool        given = body_text(call, "reason", false, 2000, &reason);
    jw_obj(&w);
    jw_key(&w, "approved");
    jw_bool(&w, false);
    jw_key(&w, "reason");
    if (given)
        jw_str(&w, reason);
    else
        jw_null(&w);
    jw_end(&w);
    struct span input = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    decide(call, input, true);
}
