/* SPDX-License-Identifier: Apache-2.0 */
/* failures.c - what went wrong: list, detail, and trying a failed run again (agent-runs.md 3.7, 6.6). */
#include "api/agent_runs/routes.h"

enum { SCOPE_RUN, SCOPE_NODE };          /* as run/failure.c stores them */
enum { STORED_OPEN, STORED_RETRIED };

/* ---- what the words of an item follow from ---- */

struct judged {
    struct run_row run;
    struct uuid    node_execution; /* nil: none failed */
    struct uuid    retried_from;   /* nil: the first try */
    bool           can_retry, can_replay, expired; /* expired: the run's ledger was removed by retention */
};

struct ancestors {
    const struct failure_row *of;
    struct uuid               execution; /* of the newest earlier failure of this node */
};

static bool take_ancestor(void *user, const void *at)
{
    struct ancestors         *to = user;
    const struct failure_row *row = at;
    bool same = row->op && row->status == STORED_RETRIED && span_eq(row->node, to->of->node) &&
                (row->attempt_no < to->of->attempt_no || (row->attempt_no == to->of->attempt_no && row->op < to->of->op));
    if (same)
        to->execution = operation_id(row->run, row->attempt, (uint32_t)row->op);
    return !same;
}

/* The failed execution that this one was a retry of: the failures of a run say it. */
static struct uuid ancestor(struct reader *reader, const struct failure_row *row)
{
    struct ancestors to = { .of = row };
    struct query     query = { .table = TABLE_failure, .eq_count = 1, .order_column = "id", .descending = true, .limit = -1 };
    query.eq[0].column = "run";
    query.eq[0].uuid = row->run;
    query.cmp[0].column = "id";
    query.cmp[0].op = "<";
    query.cmp[0].uuid = row->id;
    query.cmp_count = 1;
    if (row->op)
        (void)reader_query(reader, &query, take_ancestor, &to);
    return to.execution;
}

static void judge(struct call *call, const struct failure_row *row, struct judged *ret)
{
    *ret = (struct judged){ .run = { .workspace = row->workspace, .id = row->run } };
    if (reader_get(call->reader, TABLE_run, &ret->run))
        return;
    if (row->op)
        ret->node_execution = operation_id(row->run, row->attempt, (uint32_t)row->op);
    ret->retried_from = ancestor(call->reader, row);
    ret->expired = run_expired(call->api->engine, &ret->run);
    ret->can_replay = !ret->expired && (row->checkpoint_seq > 0 || row->attempt_no > 1);
    ret->can_retry = row->scope == SCOPE_RUN && row->retryable && uuid_eq(ret->run.attempt, row->attempt) &&
                     !retry_check(call->api->engine, call->reader, &ret->run, NULL);
}

static const char *status_of(const struct failure_row *row, const struct judged *j)
{
    if (j->expired)
        return "expired";
    if (row->status == STORED_RETRIED)
        return "retried";
    return j->run.status == RUN_COMPLETED ? "resolved" : "open";
}

/* ---- shapes ---- */

static void put_id(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    if (uuid_is_nil(id))
        jw_null(w);
    else
        jw_uuid(w, &id);
}

static void put_text(struct jw *w, const char *name, struct span text)
{
    jw_key(w, name);
    if (text.p)
        jw_str(w, text);
    else
        jw_null(w);
}

static void put_bool(struct jw *w, const char *name, bool v)
{
    jw_key(w, name);
    jw_bool(w, v);
}

static void put_who(struct jw *w, const struct failure_row *row, const struct judged *j)
{
    put_id(w, "failure_id", row->id);
    put_id(w, "run_id", row->run);
    put_id(w, "attempt_id", row->attempt);
    jw_key(w, "attempt_no");
    jw_i64(w, row->attempt_no);
    put_id(w, "thread_id", row->thread);
    put_id(w, "agent_id", row->agent);
    put_text(w, "failure_scope", row->scope == SCOPE_RUN ? SPAN("run") : SPAN("node"));
    put_id(w, "node_execution_id", j->node_execution);
    put_id(w, "operation_id", j->node_execution); /* a node execution is its operation */
    put_text(w, "capability_ref", row->capability_ref);
    put_text(w, "capability_version", row->capability_version);
    put_text(w, "execution_binding", row->execution_binding);
    put_text(w, "source_kind", row->op ? SPAN("node_execution") : SPAN("run_attempt"));
}

void render_failure(struct jw *w, struct call *call, const struct failure_row *row)
{
    struct judged j;
    struct uuid   none = { { 0 } };
    judge(call, row, &j);
    bool replayed = !uuid_is_nil(j.run.replayed_from), retried = !uuid_is_nil(j.retried_from) || row->attempt_no > 1;
    jw_obj(w);
    put_who(w, row, &j);
    put_text(w, "ancestry_kind", retried ? SPAN("retry") : replayed ? SPAN("replay") : SPAN("original"));
    put_text(w, "status", span_of(status_of(row, &j)));
    put_text(w, "error_code", row->code);
    put_text(w, "error_category", row->category);
    put_text(w, "error_source", row->source);
    put_text(w, "error_summary", row->summary);
    put_bool(w, "is_retryable", row->retryable);
    put_text(w, "provider_error_code", row->provider_code);
    put_id(w, "retried_from_node_execution_id", j.retried_from);
    put_id(w, "replayed_from_node_execution_id", origin_of_failure(call->reader, &j.run, row));
    put_bool(w, "can_retry", j.can_retry);
    put_id(w, "retry_from_node_execution_id", j.can_retry ? j.node_execution : none);
    put_bool(w, "can_replay", j.can_replay);
    put_id(w, "replay_from_node_execution_id", j.can_replay ? j.node_execution : none);
    jw_key(w, "failed_at");
    jw_time(w, row->failed_ms);
    jw_key(w, "created_at");
    jw_time(w, row->failed_ms);
    jw_end(w);
}

/* ---- reading ---- */

static bool list_failure(void *user, const void *row)
{
    struct call *call = user;
    render_failure(&call->w, call, row);
    call->shown++;
    return true;
}

static void text_filter(struct call *call, struct query *query, const char *parameter, const char *column)
{
    struct span value = call_query(call, parameter);
    if (!value.p)
        return;
    query->eq[query->eq_count].column = column;
    query->eq[query->eq_count++].bytes = value;
}

static void retryable_filter(struct call *call, struct query *query)
{
    struct span value = call_query(call, "retryable");
    if (!value.p)
        return;
    if (!span_is(value, "true") && !span_is(value, "false"))
        issue_add_parameter(&call->issues, "retryable", "enum", "must be true or false");
    query->in_column = "retryable";
    query->in[0] = span_is(value, "true");
    query->in_count = 1;
}

void failures_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_failure, .eq_count = 1, .order_column = "id", .descending = true, .limit = page.limit,
                           .offset = page.offset };
    struct span  agent = call_query(call, "agent_id");
    int64_t      count = 0;
    bool         known = true;
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    if (agent.p) {
        query.eq[1].column = "agent";
        known = uuid_parse(agent, &query.eq[query.eq_count++].uuid);
    }
    text_filter(call, &query, "capability_ref", "capability_ref");
    text_filter(call, &query, "error_category", "category");
    retryable_filter(call, &query);
    call_time_range(call, &query, "failed_ms");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    if (known && (reader_query(call->reader, &query, list_failure, call) || reader_count(call->reader, &query, &count))) {
        call->out.len = 0;
        call->w = jw_on(&call->out);
        call_fail(call, ERR_STORAGE, "", "the list cannot be read");
        return;
    }
    jw_arr_end(&call->w);
    jw_key(&call->w, "count");
    jw_i64(&call->w, count);
    jw_end(&call->w);
    call_send(call, 200);
}

/* Why, in full: the run's input, the error as it came, the attempts so far. */
static void put_payload(struct call *call, const struct failure_row *row)
{
    struct jw           *w = &call->w;
    struct run_row       run = { .workspace = row->workspace, .id = row->run };
    struct attempt_span *attempts;
    size_t               count;
    if (reader_get(call->reader, TABLE_run, &run) || attempts_read(call->reader, &run, &call->arena, &attempts, &count) ||
        run_expired(call->api->engine, &run))
        return;
    jw_key(w, "payload");
    jw_obj(w);
    if (run.input.p) {
        jw_key(w, "input");
        jw_raw(w, run.input);
    }
    jw_key(w, "error");
    jw_raw(w, row->error);
    jw_key(w, "attempts");
    jw_arr(w);
    for (size_t i = 0; i < count; i++) {
        jw_obj(w);
        put_id(w, "attempt_id", attempts[i].id);
        jw_key(w, "attempt_no");
        jw_i64(w, attempts[i].no);
        put_text(w, "status", span_of(run_status_ar(attempts[i].status, MASK_PERSON)));
        jw_key(w, "error");
        jw_raw(w, attempts[i].error);
        jw_end(w);
    }
    jw_arr_end(w);
    jw_end(w);
}

void failures_get(struct call *call)
{
    struct failure_row row = { .workspace = call->workspace };
    if (!call_path_uuid(call, 0, &row.id) || reader_get(call->reader, TABLE_failure, &row)) {
        call_fail(call, ERR_FAILURE_NOT_FOUND, "", "no such failure in this workspace");
        return;
    }
    jw_obj(&call->w);
    jw_key(&call->w, "failure");
    render_failure(&call->w, call, &row);
    put_payload(call, &row);
    jw_end(&call->w);
    call_send(call, 200);
}

/* ---- retry ---- */

void runs_retry(struct call *call)
{
    struct uuid     id, from = { { 0 } };
    struct run_row  row = { 0 };
    struct error    error = { 0 };
    struct idem_use idem = { .used = false };
    struct span     key = SPAN_NONE, from_text, reason;
    bool            named = body_text(call, "from_node_execution_id", false, 255, &from_text);
    body_text(call, "reason", false, 2000, &reason);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (named && !uuid_parse(from_text, &from))
        memset(&from, 0xff, sizeof from); /* not an id: it names no node execution */
    enum err    e = call_path_uuid(call, 0, &id) ? call_idem_key(call, &key, &error)
                                                 : error_set(&error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    struct span scope = arena_printf(&call->arena, "ar.retry.%.*s", SPAN_ARG(call->params[0]));
    if (!e)
        e = call_idem(call, scope.p, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (!e && idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    if (!e)
        e = run_retry(call->api->engine, call->workspace, id, from, &row, &error);
    if (e) {
        if (e == ERR_RETRY_NOT_POSSIBLE && !uuid_is_nil(row.attempt))
            call_extra_str(call, "current_status", span_of(run_status_ar((enum run_status)row.status, (unsigned)row.mask)));
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    render_run(&call->w, &row, 0);
    jw_end(&call->w);
    call_audit_text(call, "run.retry", "run", id, "reason", reason);
    if (idem.used)
        idem_put(call->api->engine, call->workspace, idem.key, idem.fingerprint, id, buf_view(&call->out));
    call_send_committed(call, 200);
}
