/* SPDX-License-Identifier: Apache-2.0 */
/* threads.c - threads as resources: create, list, get (agent-runs.md 9). */
#include "api/agent_runs/routes.h"

/* idle, busy, waiting_for_human, or error when the last run failed. */
static const char *thread_status(struct reader *reader, const struct thread_row *row)
{
    if (uuid_is_nil(row->active_run))
        return row->state ? "error" : "idle";
    struct run_row run = { .workspace = row->workspace, .id = row->active_run };
    if (!reader || reader_get(reader, TABLE_run, &run))
        return "busy";
    return run.status == RUN_WAITING && run.mask & MASK_PERSON ? "waiting_for_human" : "busy";
}

static void put_id_or_null(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    if (uuid_is_nil(id))
        jw_null(w);
    else
        jw_uuid(w, &id);
}

static void render_thread(struct jw *w, struct reader *reader, const struct thread_row *row)
{
    jw_obj(w);
    jw_key(w, "thread_id");
    jw_uuid(w, &row->id);
    jw_key(w, "status");
    jw_cstr(w, thread_status(reader, row));
    jw_key(w, "implicit");
    jw_bool(w, row->implicit);
    jw_key(w, "values");
    jw_raw(w, row->values_json);
    jw_key(w, "metadata");
    jw_raw(w, row->metadata);
    put_id_or_null(w, "active_run_id", row->active_run);
    jw_key(w, "pending_runs");
    jw_i64(w, row->pending);
    put_id_or_null(w, "head_checkpoint_id", row->head_checkpoint);
    put_id_or_null(w, "forked_from_thread_id", row->forked_from);
    put_id_or_null(w, "agent_id", row->agent);
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_key(w, "updated_at");
    jw_time(w, row->updated_ms);
    if (reader)
        render_spend(w, reader, row->workspace, SPEND_THREAD, row->id);
    jw_end(w);
}

void threads_create(struct call *call)
{
    struct jv         metadata, values;
    struct thread_row row;
    struct error      error = { 0 };
    struct idem_use   idem = { 0 };
    struct span       key = SPAN_NONE;
    bool              has_metadata = body_object(call, "metadata", &metadata), has_values = body_object(call, "values", &values);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    enum err e = engine_ready(call->api->engine, &error);
    if (!e)
        e = call_idem_key(call, &key, &error);
    if (!e)
        e = call_idem(call, "ar.threads.create", key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (e) {
        call_error(call, &error);
        return;
    }
    if (idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    thread_create(call->api->engine, call->tenant, call->workspace, has_metadata ? minified(call, metadata) : SPAN_NONE,
                  has_values ? minified(call, values) : SPAN_NONE, &row);
    render_thread(&call->w, NULL, &row);
    call_audit(call, call->workspace, "thread.create", "thread", row.id, SPAN_NONE);
    if (idem.used)
        idem_put(call->api->engine, call->workspace, idem.key, idem.fingerprint, row.id, buf_view(&call->out));
    char id[UUID_TEXT];
    uuid_format(row.id, id);
    call_header(call, "Location: /v1/api/threads/%.*s", UUID_TEXT, id);
    call_send_committed(call, 201);
}

void threads_get(struct call *call)
{
    struct thread_row row = { .workspace = call->workspace };
    if (!call_path_uuid(call, 0, &row.id) || reader_get(call->reader, TABLE_thread, &row)) {
        call_fail(call, ERR_THREAD_NOT_FOUND, "", "no such thread in this workspace");
        return;
    }
    render_thread(&call->w, call->reader, &row);
    call_send(call, 200);
}

/* The status is derived, so a list filtered by it is filtered here; the page is cut after the filter. */
struct thread_list {
    struct call *call;
    struct span  status;
    struct page  page;
    int64_t      seen;
};

static bool list_thread(void *user, const void *row)
{
    struct thread_list *list = user;
    struct call        *call = list->call;
    if (list->status.p && !span_is(list->status, thread_status(call->reader, row)))
        return true;
    if (list->seen++ < list->page.offset || call->shown >= list->page.limit)
        return true;
    render_thread(&call->w, call->reader, row);
    call->shown++;
    return true;
}

void threads_list(struct call *call)
{
    static const char *const words[] = { "idle", "busy", "waiting_for_human", "error" };
    struct thread_list list = { .call = call, .page = call_page(call), .status = call_query(call, "status") };
    struct query query = { .table = TABLE_thread, .eq_count = 1, .order_column = "id", .descending = !list.page.ascending, .limit = -1 };
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    struct span agent = call_query(call, "agent_id");
    bool        known = true, word = !list.status.p;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        word = word || span_is(list.status, words[i]);
    if (!word)
        issue_add_parameter(&call->issues, "status", "enum", "%.*s is no thread status", SPAN_ARG(list.status));
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    if (agent.p) {
        query.eq[1].column = "agent";
        query.eq_count = 2;
        known = uuid_parse(agent, &query.eq[1].uuid);
    }
    if (!list.status.p) { /* nothing derived is asked for: the store counts and cuts */
        query.limit = list.page.limit;
        query.offset = list.page.offset;
        list.page.offset = 0;
    }
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    enum err e = known ? reader_query(call->reader, &query, list_thread, &list) : ERR_OK;
    int64_t  total = list.seen;
    if (!e && known && !list.status.p)
        e = reader_count(call->reader, &query, &total);
    if (e) {
        call->out.len = 0;
        call->w = jw_on(&call->out);
        call_fail(call, ERR_STORAGE, "", "the list cannot be read");
        return;
    }
    jw_arr_end(&call->w);
    if (!list.status.p)
        list.page.offset = query.offset;
    call_page_head(call, list.page, total, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}

/* ---- changing ---- */

void threads_patch(struct call *call)
{
    struct engine    *engine = call->api->engine;
    struct uuid       id;
    struct jv         patch;
    struct thread_row row = { 0 };
    struct error      error = { 0 };
    bool has = body_object(call, "metadata", &patch), clear = jv_is(jv_get(call->body, "metadata"), JSON_NULL);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    enum err e = engine_ready(engine, &error);
    if (!e)
        e = call_path_uuid(call, 0, &id) ? thread_read(engine, call->workspace, id, &row, &error)
                                         : error_set(&error, ERR_THREAD_NOT_FOUND, "", "no such thread in this workspace");
    if (!e && (has || clear)) {
        struct span metadata = clear ? SPAN("{}") : merged(call, row.metadata, patch);
        e = thread_set_metadata(engine, call->workspace, id, metadata, &row, &error);
    }
    if (e) {
        call_error(call, &error);
        return;
    }
    bool reading = !reader_begin(engine_reader(engine), &call->arena); /* its status is that of its run, as committed */
    render_thread(&call->w, reading ? engine_reader(engine) : NULL, &row);
    if (reading)
        reader_end(engine_reader(engine));
    if (has || clear)
        call_audit(call, call->workspace, "thread.update", "thread", row.id, SPAN_NONE);
    call_send_committed(call, 200);
}

void threads_delete(struct call *call)
{
    struct uuid  id;
    struct error error = { 0 };
    struct buf   actor = { 0 };
    struct span  force = call_query(call, "force");
    if (force.p && !span_is(force, "true") && !span_is(force, "false"))
        issue_add_parameter(&call->issues, "force", "enum", "must be true or false");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    enum err e = engine_ready(call->api->engine, &error);
    if (!e && !call_path_uuid(call, 0, &id))
        e = error_set(&error, ERR_THREAD_NOT_FOUND, "", "no such thread in this workspace");
    if (!e)
        e = thread_delete(call->api->engine, call->workspace, id, span_is(force, "true"), span_of(call_actor(call, &actor)), &error);
    buf_done(&actor);
    if (e) {
        call_error(call, &error);
        return;
    }
    call_audit(call, call->workspace, "thread.delete", "thread", id, span_is(force, "true") ? SPAN("{\"force\":true}") : SPAN_NONE);
    call_send_committed(call, 204);
}
