/* SPDX-License-Identifier: Apache-2.0 */
/* audit.c - who changed what: one row per change, written in the commit of the change itself (agent-runs.md 9).
 *
 * Rows are only ever added, at the right edge of their workspace's part of the table. What was refused left nothing behind and
 * has no row. Nothing secret goes in: ids, names of actions, reasons that callers gave, without configured secrets. */
#include "api/inner.h"

void call_audit(struct call *call, struct uuid workspace, const char *action, const char *kind, struct uuid resource, struct span data)
{
    struct audit_row row = { .workspace = workspace, .id = engine_mint(call->api->engine), .tenant = call->tenant,
                             .at_ms = engine_now_ms(call->api->engine), .actor = call->cred->row.id, .action = span_of(action),
                             .kind = span_of(kind), .resource = resource, .request = span_of(call->request_id),
                             .data = redact_json(engine_redact(call->api->engine), data, &call->arena) };
    batch_insert(engine_batch(call->api->engine), TABLE_audit, &row);
}

void call_audit_text(struct call *call, const char *action, const char *kind, struct uuid resource, const char *name, struct span value)
{
    struct buf data = { 0 };
    struct jw  w = jw_on(&data);
    jw_obj(&w);
    if (value.p) {
        jw_key(&w, name);
        jw_str(&w, value);
    }
    jw_end(&w);
    call_audit(call, call->workspace, action, kind, resource, buf_view(&data));
    buf_done(&data);
}

/* ---- reading ---- */

static bool list_row(void *user, const void *at)
{
    struct call            *call = user;
    const struct audit_row *row = at;
    struct jw              *w = &call->w;
    jw_obj(w);
    jw_key(w, "audit_id");
    jw_uuid(w, &row->id);
    jw_key(w, "at");
    jw_time(w, row->at_ms);
    jw_key(w, "actor");
    jw_obj(w);
    jw_key(w, "kind");
    jw_cstr(w, "token");
    jw_key(w, "id");
    jw_uuid(w, &row->actor);
    jw_end(w);
    jw_key(w, "action");
    jw_str(w, row->action);
    jw_key(w, "resource");
    jw_obj(w);
    jw_key(w, "kind");
    jw_str(w, row->kind);
    jw_key(w, "id");
    jw_uuid(w, &row->resource);
    jw_end(w);
    jw_key(w, "result");
    jw_cstr(w, "ok");
    jw_key(w, "request_id");
    jw_str(w, row->request);
    jw_key(w, "data");
    jw_raw(w, row->data.n ? row->data : SPAN("{}"));
    jw_end(w);
    call->shown++;
    return true;
}

/* An id, also as "token:<id>", which is how other places write an actor. False: it names nothing. */
static bool id_filter(struct call *call, struct query *query, const char *parameter, const char *column)
{
    static const char prefix[] = "token:";
    struct span       value = call_query(call, parameter);
    size_t            n = sizeof prefix - 1;
    if (!value.p)
        return true;
    if (value.n > n && memcmp(value.p, prefix, n) == 0)
        value = span_make(value.p + n, value.n - n);
    query->eq[query->eq_count].column = column;
    return uuid_parse(value, &query->eq[query->eq_count++].uuid);
}

void audit_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_audit, .eq_count = 1, .order_column = "id", .descending = !page.ascending,
                           .limit = page.limit, .offset = page.offset };
    struct span  action = call_query(call, "action");
    bool         wide = uuid_is_nil(call->workspace); /* a tenant-wide token that chose no workspace sees them all */
    query.eq[0].column = wide ? "tenant" : "workspace";
    query.eq[0].uuid = wide ? call->tenant : call->workspace;
    bool known = id_filter(call, &query, "actor", "actor");
    known = id_filter(call, &query, "resource_id", "resource") && known;
    if (action.p) {
        query.eq[query.eq_count].column = "action";
        query.eq[query.eq_count++].bytes = action;
    }
    call_time_range(call, &query, "at_ms");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    call_list(call, &query, page, known, list_row);
}
