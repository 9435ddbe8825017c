/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c - tokens, tenants, workspaces, health and figures: what is around the runs (agent-runs.md 9, design.md). */
#include "api/inner.h"
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

static bool writable(struct call *call)
{
    struct error error = { 0 };
    if (!engine_ready(call->api->engine, &error))
        return true;
    call_error(call, &error);
    return false;
}

/* ---- api tokens ---- */

static const char *const scopes_known[] = {
    "runs:read", "runs:write", "agents:read", "agents:write", "threads:*", "threads:read", "threads:write", "approvals:decide", "crons:*",
    "tokens:admin", "audit:read", "streams:*", "streams:read", "streams:write", "channels:*", "*",
};

static const char *const kind_names[] = { [CRED_TOKEN] = "token", [CRED_MR_KEY] = "workflow_key", [CRED_CUSTOMER] = "customer_token" };

static void render_token(struct jw *w, const struct credential *cred, const char *text)
{
    jw_obj(w);
    jw_key(w, "token_id");
    jw_uuid(w, &cred->row.id);
    if (cred->row.kind != CRED_TOKEN) {
        jw_key(w, "kind");
        jw_cstr(w, kind_names[cred->row.kind]);
    }
    if (cred->row.client_id.n) {
        jw_key(w, "customer_id");
        jw_str(w, cred->row.client_id);
    }
    jw_key(w, "name");
    jw_str(w, cred->row.name);
    jw_key(w, "scopes");
    jw_raw(w, cred->row.scopes);
    jw_key(w, "tenant_id");
    jw_uuid(w, &cred->row.tenant);
    jw_key(w, "workspace_id");
    if (uuid_is_nil(cred->row.workspace))
        jw_null(w);
    else
        jw_uuid(w, &cred->row.workspace);
    jw_key(w, "prefix");
    jw_str(w, cred->row.prefix);
    if (text) {
        jw_key(w, "token");
        jw_cstr(w, text);
    }
    jw_key(w, "expires_at");
    if (cred->row.expires_ms)
        jw_time(w, cred->row.expires_ms);
    else
        jw_null(w);
    jw_key(w, "created_at");
    jw_time(w, cred->row.created_ms);
    jw_end(w);
}

static void check_scopes(struct call *call, struct jv scopes)
{
    size_t i = 0;
    if (!jv_is(scopes, JSON_ARRAY) || !jv_count(scopes)) {
        issue_add(&call->issues, SPAN("/scopes"), jv_is(scopes, JSON_NONE) ? "required" : "type", "must be a list of at least one scope");
        return;
    }
    for (struct jv_iter it = jv_iter(scopes); jv_step(&it); i++) {
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(scopes_known); k++)
            known = known || jv_str_eq(it.value, scopes_known[k]);
        struct span pointer = arena_printf(&call->arena, "/scopes/%zu", i);
        if (!known)
            issue_add(&call->issues, pointer, "enum", "is no scope");
        else if (!auth_allows(call->cred, jv_string(it.value, &call->arena).p) && !auth_allows(call->cred, "*"))
            issue_add(&call->issues, pointer, "forbidden", "is more than the token has that asks");
    }
}

/* Besides tokens: the keys of the workflow surface, and tokens that stand for one of a key's customers (workflow-runs.md 1.3). */
static enum credential_kind token_kind(struct call *call, struct span *ret_customer)
{
    struct span text;
    unsigned    kind = CRED_TOKEN;
    if (body_text(call, "kind", false, 64, &text))
        for (kind = 0; kind < ARRAY_LEN(kind_names) && !span_is(text, kind_names[kind]); kind++)
            continue;
    if (kind == ARRAY_LEN(kind_names)) {
        issue_add(&call->issues, SPAN("/kind"), "enum", "must be token, workflow_key or customer_token");
        return CRED_TOKEN;
    }
    body_text(call, "customer_id", kind == CRED_CUSTOMER, 255, ret_customer);
    if (kind != CRED_CUSTOMER && ret_customer->p)
        issue_add(&call->issues, SPAN("/customer_id"), "exclusive", "belongs to a customer_token");
    if (kind != CRED_TOKEN && !jv_is(jv_get(call->body, "scopes"), JSON_NONE))
        issue_add(&call->issues, SPAN("/scopes"), "exclusive", "the rights of a %s are fixed", kind_names[kind]);
    return (enum credential_kind)kind;
}

static struct span scopes_of(struct call *call, enum credential_kind kind, struct jv asked)
{
    return kind == CRED_TOKEN ? minified(call, asked) : kind == CRED_MR_KEY ? SPAN("[\"workflows:*\"]") : SPAN("[\"workflows:use\"]");
}

static void tokens_create(struct call *call)
{
    struct span name, workspace_text, expires_text;
    struct uuid workspace = call->cred->row.workspace;
    int64_t     expires_ms = 0;
    struct jv   scopes = jv_get(call->body, "scopes"), given = jv_get(call->body, "workspace_id");
    struct span          customer = SPAN_NONE;
    enum credential_kind kind = token_kind(call, &customer);
    body_text(call, "name", true, 255, &name);
    if (kind == CRED_TOKEN)
        check_scopes(call, scopes);
    if (body_text(call, "workspace_id", false, 255, &workspace_text)) {
        struct workspace *found = uuid_parse(workspace_text, &workspace) ? auth_workspace(call->api->auth, workspace) : NULL;
        if (!found || !uuid_eq(found->row.tenant, call->tenant))
            issue_add(&call->issues, SPAN("/workspace_id"), "unknown", "no such workspace");
        else if (!uuid_is_nil(call->cred->row.workspace) && !uuid_eq(workspace, call->cred->row.workspace) &&
                 !auth_allows(call->cred, "*"))
            issue_add(&call->issues, SPAN("/workspace_id"), "forbidden", "the asking token is bound to another workspace");
    } else if (jv_is(given, JSON_NULL)) {
        if (uuid_is_nil(call->cred->row.workspace) || auth_allows(call->cred, "*"))
            workspace = (struct uuid){ 0 }; /* all workspaces of the tenant */
        else
            issue_add(&call->issues, SPAN("/workspace_id"), "forbidden", "the asking token is bound to a workspace");
    }
    if (body_text(call, "expires_at", false, 64, &expires_text)) {
        if (!time_parse(expires_text, &expires_ms))
            issue_add(&call->issues, SPAN("/expires_at"), "format", "must be an RFC 3339 time");
        else if (expires_ms <= engine_now_ms(call->api->engine))
            issue_add(&call->issues, SPAN("/expires_at"), "range", "lies in the past");
    }
    if (call_invalid(call, ERR_VALIDATION) || !writable(call))
        return;
    char               text[64];
    struct credential *cred = auth_mint(call->api->auth, &(struct credential_spec){ .kind = kind, .tenant = call->tenant,
                                        .workspace = workspace, .name = name, .scopes = scopes_of(call, kind, scopes),
                                        .customer = customer, .expires_ms = expires_ms }, text);
    render_token(&call->w, cred, text);
    call_audit(call, uuid_is_nil(call->workspace) ? workspace : call->workspace, "token.create", "token", cred->row.id, SPAN_NONE);
    call_send_committed(call, 201);
}

struct token_list {
    struct call *call;
    struct page  page;
    int64_t      seen;
};

static void list_token(void *user, const struct credential *cred)
{
    struct token_list *list = user;
    struct call       *call = list->call;
    struct uuid        bound = call->cred->row.workspace;
    if (cred->row.kind >= (int64_t)ARRAY_LEN(kind_names) || cred->row.revoked_ms || !uuid_eq(cred->row.tenant, call->tenant) ||
        cred == call->api->dev ||
        cred == call->api->dev_key)
        return;
    if (!uuid_is_nil(bound) && !uuid_eq(bound, cred->row.workspace) && !auth_allows(call->cred, "*"))
        return;
    if (list->seen++ < list->page.offset || call->shown >= list->page.limit)
        return;
    render_token(&call->w, cred, NULL);
    call->shown++;
}

static void tokens_list(struct call *call)
{
    struct token_list list = { .call = call, .page = call_page(call) };
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    auth_each(call->api->auth, list_token, &list);
    jw_arr_end(&call->w);
    call_page_head(call, list.page, list.seen, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}

static void tokens_revoke(struct call *call)
{
    struct uuid        id;
    struct credential *cred = call_path_uuid(call, 0, &id) ? auth_by_id(call->api->auth, id) : NULL;
    struct uuid        bound = call->cred->row.workspace;
    bool visible = cred && !cred->row.revoked_ms && cred != call->api->dev && cred != call->api->dev_key &&
                   uuid_eq(cred->row.tenant, call->tenant) &&
                   (uuid_is_nil(bound) || uuid_eq(bound, cred->row.workspace) || auth_allows(call->cred, "*"));
    if (!visible) {
        call_fail(call, ERR_TOKEN_NOT_FOUND, "", "no such token");
        return;
    }
    if (!writable(call))
        return;
    call_audit(call, uuid_is_nil(call->workspace) ? cred->row.workspace : call->workspace, "token.revoke", "token", id, SPAN_NONE);
    auth_revoke(call->api->auth, cred);
    credential_end_streams(cred);
    call_send_committed(call, 204);
}

/* ---- tenants, workspaces ---- */

static void tenant_current(struct call *call)
{
    struct tenant_row row = auth_tenant_row(call->api->auth);
    jw_obj(&call->w);
    jw_key(&call->w, "tenant_id");
    jw_uuid(&call->w, &row.id);
    jw_key(&call->w, "name");
    jw_str(&call->w, row.name);
    jw_key(&call->w, "created_at");
    jw_time(&call->w, row.created_ms);
    jw_end(&call->w);
    call_send(call, 200);
}

static void render_workspace(struct jw *w, const struct workspace_row *row)
{
    jw_obj(w);
    jw_key(w, "workspace_id");
    jw_uuid(w, &row->id);
    jw_key(w, "tenant_id");
    jw_uuid(w, &row->tenant);
    jw_key(w, "name");
    jw_str(w, row->name);
    jw_key(w, "metadata");
    jw_raw(w, row->metadata);
    jw_key(w, "revision");
    jw_i64(w, row->revision);
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_key(w, "updated_at");
    jw_time(w, row->updated_ms);
    jw_end(w);
}

static bool workspace_visible(const struct call *call, const struct workspace *w)
{
    struct uuid bound = call->cred->row.workspace;
    return uuid_eq(w->row.tenant, call->tenant) &&
           (uuid_is_nil(bound) || uuid_eq(bound, w->row.id) || auth_allows(call->cred, "*"));
}

static void workspaces_list(struct call *call)
{
    struct page page = call_page(call);
    int64_t     seen = 0;
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    for (struct workspace *w = auth_workspaces(call->api->auth); w; w = w->next) {
        if (!workspace_visible(call, w) || seen++ < page.offset || call->shown >= page.limit)
            continue;
        render_workspace(&call->w, &w->row);
        call->shown++;
    }
    jw_arr_end(&call->w);
    call_page_head(call, page, seen, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}

static void workspaces_create(struct call *call)
{
    struct span name;
    struct jv   metadata;
    body_text(call, "name", true, 255, &name);
    bool has = body_object(call, "metadata", &metadata);
    if (call_invalid(call, ERR_VALIDATION) || !writable(call))
        return;
    int64_t now = engine_now_ms(call->api->engine);
    struct workspace_row row = { .id = engine_mint(call->api->engine), .tenant = call->tenant, .name = name,
                                 .metadata = has ? minified(call, metadata) : SPAN("{}"), .revision = 1, .created_ms = now,
                                 .updated_ms = now };
    row.app_id = arena_printf(&call->arena, "w%016llx", (unsigned long long)hash64(row.id.b, sizeof row.id.b));
    render_workspace(&call->w, &auth_put_workspace(call->api->auth, &row)->row);
    call_audit(call, row.id, "workspace.create", "workspace", row.id, SPAN_NONE);
    call_send_committed(call, 201);
}

static struct workspace *find_workspace(struct call *call)
{
    struct uuid       id;
    struct workspace *w = call_path_uuid(call, 0, &id) ? auth_workspace(call->api->auth, id) : NULL;
    if (w && workspace_visible(call, w))
        return w;
    call_fail(call, ERR_WORKSPACE_NOT_FOUND, "", "no such workspace");
    return NULL;
}

static void workspaces_get(struct call *call)
{
    struct workspace *w = find_workspace(call);
    if (!w)
        return;
    render_workspace(&call->w, &w->row);
    call_send(call, 200);
}

static void workspaces_patch(struct call *call)
{
    struct workspace *w = find_workspace(call);
    struct span       name;
    struct jv         metadata;
    if (!w || !writable(call))
        return;
    struct workspace_row row = w->row;
    if (body_text(call, "name", false, 255, &name))
        row.name = name;
    if (body_object(call, "metadata", &metadata))
        row.metadata = minified(call, metadata);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    row.revision++;
    row.updated_ms = engine_now_ms(call->api->engine);
    render_workspace(&call->w, &auth_put_workspace(call->api->auth, &row)->row);
    call_audit(call, row.id, "workspace.update", "workspace", row.id, SPAN_NONE);
    call_send_committed(call, 200);
}

/* Empty means: no agents, threads or runs, and not the one the asking token lives in. */
static bool workspace_empty(struct call *call, struct uuid id)
{
    static const enum table_id held[] = { TABLE_agent, TABLE_thread, TABLE_run };
    struct reader *reader = engine_reader(call->api->engine);
    int64_t        total = 0;
    bool           empty = false;
    if (reader_begin(reader, &call->arena))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(held); i++) {
        struct query query = { .table = held[i], .eq_count = 1, .order_column = "id", .limit = -1 };
        int64_t      count = 0;
        query.eq[0].column = "workspace";
        query.eq[0].uuid = id;
        empty = !reader_count(reader, &query, &count);
        total += empty ? count : 1;
    }
    reader_end(reader);
    return total == 0 && !uuid_eq(call->cred->row.workspace, id);
}

static void workspaces_delete(struct call *call)
{
    struct workspace *w = find_workspace(call);
    if (!w || !writable(call))
        return;
    if (!workspace_empty(call, w->row.id)) {
        call_fail(call, ERR_WORKSPACE_NOT_EMPTY, "", "the workspace is not empty");
        return;
    }
    call_audit(call, w->row.id, "workspace.delete", "workspace", w->row.id, SPAN_NONE);
    auth_drop_workspace(call->api->auth, w);
    call_send_committed(call, 204);
}

/* ---- health and figures ---- */

static void healthz(struct call *call)
{
    jw_obj(&call->w);
    jw_key(&call->w, "status");
    jw_cstr(&call->w, "ok");
    jw_key(&call->w, "version");
    jw_cstr(&call->w, call->api->config.version);
    jw_end(&call->w);
    call_send(call, 200);
}

static void readyz(struct call *call)
{
    struct error error = { 0 };
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    jw_key(&call->w, "status");
    jw_cstr(&call->w, "ready");
    jw_end(&call->w);
    call_send(call, 200);
}

static void figure(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    buf_printf(out, "# HELP perdure_%s %s\n# TYPE perdure_%s %s\nperdure_%s %llu\n", name, help, name, type, name,
               (unsigned long long)value);
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE              *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void commit_histogram(struct buf *out, const struct store_stats *s)
{
    uint64_t sum = 0;
    BUF_LIT(out, "# HELP perdure_commit_seconds Time of a commit with its sync\n# TYPE perdure_commit_seconds histogram\n");
    for (size_t i = 0; i < ARRAY_LEN(s->commit_us_hist); i++) {
        sum += s->commit_us_hist[i];
        buf_printf(out, "perdure_commit_seconds_bucket{le=\"%g\"} %llu\n", (double)(1ull << i) / 1e6, (unsigned long long)sum);
    }
    buf_printf(out, "perdure_commit_seconds_bucket{le=\"+Inf\"} %llu\nperdure_commit_seconds_sum %g\nperdure_commit_seconds_count %llu\n",
               (unsigned long long)s->commits, (double)s->commit_us_sum / 1e6, (unsigned long long)s->commits);
}

static void runs_by_status(struct buf *out, const struct engine_stats *e, int64_t now_ms)
{
    BUF_LIT(out, "# HELP perdure_runs Runs that have not ended, by status\n# TYPE perdure_runs gauge\n");
    for (int i = 0; i < RUN_STATUS_COUNT; i++)
        if (!run_terminal((enum run_status)i))
            buf_printf(out, "perdure_runs{status=\"%s\"} %lld\n", run_status_ar((enum run_status)i, MASK_PERSON), (long long)e->now[i]);
    int64_t age_ms = e->pending_since_ms && e->pending_since_ms < now_ms ? now_ms - e->pending_since_ms : 0;
    figure(out, "oldest_pending_seconds", "gauge", "How long the oldest run waits for its thread", (uint64_t)age_ms / 1000);
    BUF_LIT(out, "# HELP perdure_model_tokens_total Tokens as models reported them\n# TYPE perdure_model_tokens_total counter\n");
    buf_printf(out, "perdure_model_tokens_total{kind=\"input\"} %llu\nperdure_model_tokens_total{kind=\"output\"} %llu\n",
               (unsigned long long)e->tokens_in, (unsigned long long)e->tokens_out);
}

/* Of producers that were replaced, and this process's own when another one has taken its lease. */
static uint64_t stale_writes(const struct call *call)
{
    struct error why = { 0 };
    if (store_failed(engine_store(call->api->engine)))
        store_failure(engine_store(call->api->engine), &why);
    return call->api->stale_appends + (why.code == ERR_FENCED);
}

static void metrics(struct call *call)
{
    struct engine_stats e;
    struct ledger_stats l;
    struct store_stats  s;
    struct buf         *out = &call->out;
    engine_look_pending(call->api->engine);
    engine_stats(call->api->engine, &e);
    ledger_stats(engine_ledger(call->api->engine), &l);
    store_stats(engine_store(call->api->engine), &s);
    figure(out, "runs_created_total", "counter", "Runs created", e.runs_created);
    figure(out, "runs_ended_total", "counter", "Runs that reached their end", e.runs_ended);
    figure(out, "ledgers_expired_total", "counter", "Runs whose events and checkpoints were removed by retention", e.ledgers_expired);
    figure(out, "runs_live", "gauge", "Runs in memory", e.runs_live);
    BUF_LIT(out, "# HELP perdure_run_transitions_total Transitions into a status\n# TYPE perdure_run_transitions_total counter\n");
    for (int i = 0; i < RUN_STATUS_COUNT; i++)
        buf_printf(out, "perdure_run_transitions_total{status=\"%s\"} %llu\n", run_status_ar((enum run_status)i, MASK_PERSON),
                   (unsigned long long)e.by_status[i]);
    runs_by_status(out, &e, engine_now_ms(call->api->engine));
    figure(out, "stale_writes_refused_total", "counter", "Writes of an older epoch that were refused", stale_writes(call));
    figure(out, "model_calls_total", "counter", "Model calls started", e.model_calls);
    figure(out, "model_retries_total", "counter", "Model calls that failed and are made again", e.model_retries);
    figure(out, "model_calls_unpriced_total", "counter", "Model calls whose price is not known", e.calls_unpriced);
    figure(out, "tool_calls_total", "counter", "Tool calls sent", e.tool_calls);
    figure(out, "tool_outcomes_asked_total", "counter", "Tool calls whose outcome a person was asked for", e.receipts_asked);
    figure(out, "budgets_reached_total", "counter", "Calls that a cap stood in the way of", e.budgets_reached);
    BUF_LIT(out, "# HELP perdure_model_cost_usd_total Cost of model calls that have a price\n# TYPE perdure_model_cost_usd_total counter\n"
                 "perdure_model_cost_usd_total ");
    usd_text((int64_t)e.cost_pico, out);
    buf_byte(out, '\n');
    figure(out, "turns_total", "counter", "Turns of the engine that wrote something", e.turns);
    figure(out, "events_appended_total", "counter", "Events appended to streams", l.appended);
    figure(out, "events_published_total", "counter", "Events on disk and shown", l.published);
    figure(out, "followers", "gauge", "Open followers", l.followers);
    figure(out, "followers_catching_up", "gauge", "Followers that read from the store", l.catching_up);
    figure(out, "slow_readers_total", "counter", "Followers dropped because they did not read", l.slow_dropped);
    figure(out, "deliveries_total", "counter", "Chunks handed to followers from the live feed", l.deliveries);
    figure(out, "commits_total", "counter", "Commits", s.commits);
    figure(out, "frames_total", "counter", "Frames written", s.frames);
    figure(out, "settled_events_total", "counter", "Events moved from the tail into segments", s.settled_events);
    figure(out, "tail_bytes", "gauge", "Unsettled frame bytes", s.tail_bytes);
    figure(out, "wal_pages", "gauge", "Pages in the write-ahead log", s.wal_pages);
    figure(out, "checkpoints_total", "counter", "Checkpoints of the write-ahead log", s.checkpoints);
    figure(out, "checkpoint_stalls_total", "counter", "Checkpoints that the storage thread had to run itself", s.checkpoint_stalls);
    figure(out, "store_bytes", "gauge", "Size of the database file", s.file_bytes);
    figure(out, "storage_failed", "gauge", "1 after fail-stop", store_failed(engine_store(call->api->engine)));
    figure(out, "storage_away", "gauge", "1 while the database cannot be reached", store_away(engine_store(call->api->engine)));
    figure(out, "store_retries_total", "counter", "Transactions tried again: conflicts, lost connections", s.retries);
    commit_histogram(out, &s);
    figure(out, "http_requests_total", "counter", "Requests", call->api->requests);
    figure(out, "http_connections", "gauge", "Open connections", call->api->server ? http_server_connections(call->api->server) : 0);
    figure(out, "http_streams", "gauge", "Open event streams", call->api->streams);
    BUF_LIT(out, "# HELP perdure_http_responses_total Responses by class\n# TYPE perdure_http_responses_total counter\n");
    for (int i = 1; i < 6; i++)
        buf_printf(out, "perdure_http_responses_total{class=\"%dxx\"} %llu\n", i, (unsigned long long)call->api->by_status[i]);
    figure(out, "resident_bytes", "gauge", "Resident memory", resident_bytes());
    figure(out, "heap_bytes", "gauge", "Memory in use on the heap", mallinfo2().uordblks);
    call->content_type = "text/plain; version=0.0.4; charset=utf-8";
    call_send(call, 200);
}

const struct route admin_routes[] = {
    { HTTP_M_POST,   "/v1/api/api-tokens",      "tokens:admin", tokens_create,     ROUTE_TENANT },
    { HTTP_M_GET,    "/v1/api/api-tokens",      "tokens:admin", tokens_list,       ROUTE_TENANT },
    { HTTP_M_DELETE, "/v1/api/api-tokens/{id}", "tokens:admin", tokens_revoke,     ROUTE_TENANT },
    { HTTP_M_GET,    "/v1/api/tenants/current", "",             tenant_current,    ROUTE_TENANT },
    { HTTP_M_GET,    "/v1/api/workspaces",      "",             workspaces_list,   ROUTE_TENANT },
    { HTTP_M_POST,   "/v1/api/workspaces",      "tokens:admin", workspaces_create, ROUTE_TENANT },
    { HTTP_M_GET,    "/v1/api/workspaces/{id}", "",             workspaces_get,    ROUTE_TENANT },
    { HTTP_M_PATCH,  "/v1/api/workspaces/{id}", "tokens:admin", workspaces_patch,  ROUTE_TENANT },
    { HTTP_M_DELETE, "/v1/api/workspaces/{id}", "tokens:admin", workspaces_delete, ROUTE_TENANT },
    { HTTP_M_GET,    "/v1/api/audit",           "audit:read",   audit_list,        ROUTE_READ | ROUTE_HEAVY | ROUTE_TENANT },
    { HTTP_M_GET,    "/healthz",                NULL,           healthz,           ROUTE_TENANT },
    { HTTP_M_GET,    "/readyz",                 NULL,           readyz,            ROUTE_TENANT },
    { HTTP_M_GET,    "/openapi.json",           NULL,           openapi_send,      ROUTE_TENANT },
    { HTTP_M_GET,    "/metrics",                NULL,           metrics,           ROUTE_TENANT },
    { 0 },
};
