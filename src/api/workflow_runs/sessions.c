/* SPDX-License-Identifier: Apache-2.0 */
/* sessions.c - sessions and their messages (workflow-runs.md 5.9). */
#include "api/workflow_runs/routes.h"

/* ---- shapes ---- */

static void put_session(struct jw *w, const struct session_row *row)
{
    jw_key(w, "id");
    jw_uuid(w, &row->id);
    jw_key(w, "project_id");
    jw_uuid(w, &row->workspace);
    if (row->customer.n) {
        jw_key(w, "customer_id");
        jw_str(w, row->customer);
    }
    jw_key(w, "metadata");
    jw_raw(w, row->metadata.n ? row->metadata : SPAN("{}"));
    jw_key(w, "message_count");
    jw_i64(w, row->last_no - row->cleared);
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_key(w, "updated_at");
    jw_time(w, row->updated_ms);
}

static void put_message(struct jw *w, const struct message_row *row)
{
    struct uuid id = session_message_id(row->session, row->no);
    jw_obj(w);
    jw_key(w, "id");
    jw_uuid(w, &id);
    jw_key(w, "seq");
    jw_i64(w, row->no);
    jw_key(w, "role");
    jw_str(w, row->role);
    jw_key(w, "content");
    jw_raw(w, row->content);
    if (!uuid_is_nil(row->run)) {
        jw_key(w, "run_id");
        jw_uuid(w, &row->run);
    }
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_end(w);
}

static void send_session(struct call *call, const struct session_row *row, int status)
{
    jw_obj(&call->w);
    put_session(&call->w, row);
    jw_end(&call->w);
    call_send_committed(call, status);
}

/* ---- finding ---- */

static bool visible(const struct call *call, const struct session_row *row)
{
    return !call->customer.n || span_eq(call->customer, row->customer);
}

/* On the engine's thread, as it is from now on. False: 404 was answered. */
static bool find(struct call *call, struct session_row *ret)
{
    struct uuid  id;
    struct error error = { 0 };
    enum err     e = engine_ready(call->api->engine, &error);
    if (e) {
        call_error(call, &error);
        return false;
    }
    if (!call_path_uuid(call, 0, &id) || session_read(call->api->engine, call->workspace, id, ret) || !visible(call, ret)) {
        call_fail(call, ERR_NOT_FOUND, "", "no such session");
        return false;
    }
    return true;
}

static bool find_stored(struct call *call, struct session_row *ret)
{
    *ret = (struct session_row){ .workspace = call->workspace };
    if (call_path_uuid(call, 0, &ret->id) && !reader_get(call->reader, TABLE_session, ret) && visible(call, ret))
        return true;
    call_fail(call, ERR_NOT_FOUND, "", "no such session");
    return false;
}

/* ---- sessions ---- */

void flow_sessions_create(struct call *call)
{
    struct jv    metadata = { 0 };
    struct span  customer;
    struct error error = { 0 };
    bool         has = body_object(call, "metadata", &metadata);
    body_text(call, "customer_id", false, 255, &customer);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return;
    }
    struct session_row row = session_create(call->api->engine, call->tenant, call->workspace,
                                            call->customer.n ? call->customer : customer, has ? minified(call, metadata) : SPAN("{}"));
    call_audit(call, call->workspace, "session.create", "session", row.id, SPAN_NONE);
    send_session(call, &row, 201);
}

/* limit and offset or its decimal text as a cursor; limit 1..100, 50 unless told. */
static bool read_page(struct call *call, int64_t *ret_limit, int64_t *ret_offset)
{
    struct span limit = call_query(call, "limit"), offset = call_query(call, "offset"), cursor = call_query(call, "cursor");
    *ret_limit = 50;
    *ret_offset = 0;
    if (limit.p && (!call_parse_count(limit, ret_limit) || *ret_limit < 1 || *ret_limit > 100))
        issue_add_parameter(&call->issues, "limit", "range", "must be an integer from 1 to 100");
    if (offset.p && !call_parse_count(offset, ret_offset))
        issue_add_parameter(&call->issues, "offset", "range", "must be an integer from 0 on");
    if (cursor.p && !call_parse_count(cursor, ret_offset))
        issue_add_parameter(&call->issues, "cursor", "format", "is not one that a list gave");
    return !call_invalid(call, ERR_INVALID_PARAMETER);
}

struct listing {
    struct call *call;
    struct span  customer; /* of the query; empty: all */
    int64_t      skip, left, end; /* end: offset behind the last one shown */
    bool         more;
};

static bool take(struct listing *l, struct span customer)
{
    struct call *call = l->call;
    if ((call->customer.n && !span_eq(call->customer, customer)) || (l->customer.n && !span_eq(l->customer, customer)))
        return false;
    if (l->skip > 0) {
        l->skip--;
        return false;
    }
    l->more = !l->left;
    return l->left > 0;
}

static bool list_session(void *user, const void *found)
{
    struct listing           *l = user;
    const struct session_row *row = found;
    if (!take(l, row->customer))
        return !l->more;
    jw_obj(&l->call->w);
    put_session(&l->call->w, row);
    jw_end(&l->call->w);
    l->left--;
    l->end++;
    return true;
}

static void list(struct call *call, enum table_id table, const char *name, bool (*each)(void *user, const void *row))
{
    struct listing l = { .call = call, .customer = call_query(call, "customer_id") };
    struct query   query = { .table = table, .eq_count = 1, .order_column = "id", .descending = true, .limit = -1 };
    if (!read_page(call, &l.left, &l.skip))
        return;
    l.end = l.skip;
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    jw_obj(&call->w);
    jw_key(&call->w, name);
    jw_arr(&call->w);
    if (reader_query(call->reader, &query, each, &l)) {
        call_fail(call, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    jw_arr_end(&call->w);
    if (l.more) {
        jw_key(&call->w, "next_cursor");
        jw_str(&call->w, arena_printf(&call->arena, "%lld", (long long)l.end));
    }
    jw_end(&call->w);
    call_send(call, 200);
}

void flow_sessions_list(struct call *call)
{
    list(call, TABLE_session, "sessions", list_session);
}

static bool put_each_message(void *user, const void *row)
{
    put_message(user, row);
    return true;
}

static enum err put_messages(struct call *call, const struct session_row *row)
{
    struct query query = { .table = TABLE_message, .eq_count = 1, .cmp_count = 1, .order_column = "no", .limit = -1 };
    query.eq[0].column = "session";
    query.eq[0].uuid = row->id;
    query.cmp[0].column = "no";
    query.cmp[0].op = ">";
    query.cmp[0].i64 = row->cleared;
    jw_key(&call->w, "messages");
    jw_arr(&call->w);
    enum err e = reader_query(call->reader, &query, put_each_message, &call->w);
    jw_arr_end(&call->w);
    return e;
}

void flow_sessions_get(struct call *call)
{
    struct session_row row;
    if (!find_stored(call, &row))
        return;
    jw_obj(&call->w);
    put_session(&call->w, &row);
    if (put_messages(call, &row)) {
        call_fail(call, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    jw_end(&call->w);
    call_send(call, 200);
}

/* Members of `patch` replace or add; null removes. */
static struct span patched(struct call *call, struct span old, struct jv patch)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    struct jv  had = json_read(old.n ? old : SPAN("{}"), &call->arena);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(had); jv_step(&it);) {
        struct span name = jv_string(it.name, &call->arena);
        if (!jv_is(jv_get_span(patch, name), JSON_NONE))
            continue;
        jw_key_span(&w, name);
        jw_raw(&w, jv_raw(it.value));
    }
    for (struct jv_iter it = jv_iter(patch); jv_step(&it);) {
        if (jv_is(it.value, JSON_NULL))
            continue;
        jw_key_span(&w, jv_string(it.name, &call->arena));
        jw_raw(&w, minified(call, it.value));
    }
    jw_end(&w);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

void flow_sessions_patch(struct call *call)
{
    struct session_row row;
    struct jv          metadata;
    if (!body_object(call, "metadata", &metadata) && !call->issues.count)
        issue_add(&call->issues, SPAN("/metadata"), "required", "is required");
    if (call_invalid(call, ERR_VALIDATION) || !find(call, &row))
        return;
    row.metadata = patched(call, row.metadata, metadata);
    session_change(call->api->engine, &row);
    send_session(call, &row, 200);
}

void flow_sessions_delete(struct call *call)
{
    struct session_row row;
    struct error       error = { 0 };
    struct buf         actor = { 0 };
    if (!find(call, &row))
        return;
    enum err e = session_delete(call->api->engine, call->workspace, row.id, span_of(call_actor(call, &actor)), &error);
    buf_done(&actor);
    if (e) {
        call_error(call, &error);
        return;
    }
    call_audit(call, call->workspace, "session.delete", "session", row.id, SPAN_NONE);
    call_send_committed(call, 204);
}

void flow_sessions_clear(struct call *call)
{
    struct session_row row;
    if (!find(call, &row))
        return;
    row.cleared = row.last_no;
    session_change(call->api->engine, &row);
    send_session(call, &row, 200);
}

/* ---- messages ---- */

static void check_content(struct call *call, struct jv content)
{
    size_t i = 0;
    if (!jv_is(content, JSON_ARRAY)) {
        issue_add(&call->issues, SPAN("/content"), jv_is(content, JSON_NONE) ? "required" : "type", "must be a list of objects");
        return;
    }
    for (struct jv_iter it = jv_iter(content); jv_step(&it); i++)
        if (!jv_is(it.value, JSON_OBJECT))
            issue_add(&call->issues, arena_printf(&call->arena, "/content/%zu", i), "type", "must be an object");
}

void flow_messages_create(struct call *call)
{
    struct session_row row;
    struct span        role, run_text;
    struct uuid        run = { { 0 } };
    struct jv          content = jv_get(call->body, "content");
    if (body_text(call, "role", true, 32, &role) && !span_is(role, "user") && !span_is(role, "assistant") && !span_is(role, "tool"))
        issue_add(&call->issues, SPAN("/role"), "enum", "must be user, assistant or tool");
    check_content(call, content);
    if (body_text(call, "run_id", false, 64, &run_text) && !uuid_parse(run_text, &run))
        issue_add(&call->issues, SPAN("/run_id"), "format", "must be a UUID");
    if (call_invalid(call, ERR_VALIDATION) || !find(call, &row))
        return;
    struct message_row message = session_append(call->api->engine, &row, role, minified(call, content), run);
    put_message(&call->w, &message);
    call_send_committed(call, 201);
}

void flow_messages_list(struct call *call)
{
    struct session_row row;
    if (!find_stored(call, &row))
        return;
    jw_obj(&call->w);
    if (put_messages(call, &row)) {
        call_fail(call, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    jw_end(&call->w);
    call_send(call, 200);
}

/* ---- state handles ---- */

enum { TTL_MAX_S = 31536000 };

static void put_handle(struct jw *w, const struct handle_row *row)
{
    jw_obj(w);
    jw_key(w, "id");
    jw_uuid(w, &row->id);
    jw_key(w, "project_id");
    jw_uuid(w, &row->workspace);
    if (row->customer.n) {
        jw_key(w, "customer_id");
        jw_str(w, row->customer);
    }
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    if (row->expires_ms) {
        jw_key(w, "expires_at");
        jw_time(w, row->expires_ms);
    }
    jw_end(w);
}

void flow_handles_create(struct call *call)
{
    struct engine *engine = call->api->engine;
    struct jv      ttl = jv_get(call->body, "ttl_seconds");
    struct error   error = { 0 };
    int64_t        seconds = 0, now = engine_now_ms(engine);
    if (!jv_is(ttl, JSON_NONE) && (!jv_i64(ttl, &seconds) || seconds < 1 || seconds > TTL_MAX_S))
        issue_add(&call->issues, SPAN("/ttl_seconds"), "range", "must be an integer from 1 to %d", TTL_MAX_S);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (engine_ready(engine, &error)) {
        call_error(call, &error);
        return;
    }
    struct handle_row row = { .workspace = call->workspace, .id = engine_mint(engine), .customer = call->customer, .created_ms = now,
                              .expires_ms = seconds ? now + seconds * 1000 : 0 };
    batch_put(engine_batch(engine), TABLE_handle, &row);
    put_handle(&call->w, &row);
    call_send_committed(call, 201);
}

static bool list_handle(void *user, const void *found)
{
    struct listing          *l = user;
    const struct handle_row *row = found;
    if (!take(l, row->customer))
        return !l->more;
    put_handle(&l->call->w, row);
    l->left--;
    l->end++;
    return true;
}

void flow_handles_list(struct call *call)
{
    list(call, TABLE_handle, "state_handles", list_handle);
}

/* ERR_OK, ERR_NOT_FOUND, or ERR_EXPIRED. */
static enum err read_handle(struct call *call, struct reader *reader, struct span id, struct handle_row *ret)
{
    *ret = (struct handle_row){ .workspace = call->workspace };
    if (!uuid_parse(id, &ret->id) || reader_get(reader, TABLE_handle, ret) ||
        (call->customer.n && !span_eq(call->customer, ret->customer)))
        return ERR_NOT_FOUND;
    return ret->expires_ms && ret->expires_ms <= engine_now_ms(call->api->engine) ? ERR_EXPIRED : ERR_OK;
}

enum err flow_handle_find(struct call *call, struct span id, struct handle_row *ret)
{
    struct reader *reader = engine_reader(call->api->engine);
    if (reader_begin(reader, &call->arena))
        return ERR_STORAGE;
    enum err e = read_handle(call, reader, id, ret);
    reader_end(reader);
    return e;
}

void flow_handles_get(struct call *call)
{
    struct handle_row row;
    enum err          e = read_handle(call, call->reader, call->params[0], &row);
    if (e) {
        call_fail(call, e == ERR_EXPIRED ? ERR_LEDGER_EXPIRED : e, "",
                  e == ERR_EXPIRED ? "the state handle has expired" : "no such state handle");
        return;
    }
    put_handle(&call->w, &row);
    call_send(call, 200);
}

void flow_handles_delete(struct call *call)
{
    struct engine    *engine = call->api->engine;
    struct handle_row row;
    struct error      error = { 0 };
    enum err          e = engine_ready(engine, &error);
    if (e) {
        call_error(call, &error);
        return;
    }
    e = flow_handle_find(call, call->params[0], &row);
    if (e && e != ERR_EXPIRED) {
        call_fail(call, e == ERR_NOT_FOUND ? e : ERR_STORAGE, "", "no such state handle");
        return;
    }
    batch_delete(engine_batch(engine), TABLE_handle, &row);
    call_send_committed(call, 204);
}
