/* SPDX-License-Identifier: Apache-2.0 */
/* crons.c - runs that begin by the clock: create, list, get, change, delete, trigger (agent-runs.md 9). */
#include "api/agent_runs/routes.h"

static const char *const members[] = { "agent_id", "schedule", "timezone", "input", "thread", "bundle_id", "enabled", "end_time" };

/* ---- shapes ---- */

static void put_time(struct jw *w, const char *name, int64_t ms)
{
    jw_key(w, name);
    if (ms)
        jw_time(w, ms);
    else
        jw_null(w);
}

static void put_text(struct jw *w, const char *name, struct span text)
{
    jw_key(w, name);
    if (text.p)
        jw_str(w, text);
    else
        jw_null(w);
}

static void put_id(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    if (uuid_is_nil(id))
        jw_null(w);
    else
        jw_uuid(w, &id);
}

static void render_cron(struct call *call, const struct cron_row *row)
{
    struct jw         *w = &call->w;
    struct jv          object = json_read(row->config, &call->arena), input = jv_get(object, "input"), thread = jv_get(object, "thread");
    struct cron_config config;
    struct env        *env = engine_env(call->api->engine);
    cron_read(object, &call->arena, &config, NULL);
    jw_obj(w);
    put_id(w, "cron_id", row->id);
    put_id(w, "agent_id", row->agent);
    put_text(w, "schedule", config.schedule);
    put_text(w, "timezone", config.timezone);
    if (!jv_is(input, JSON_NONE)) {
        jw_key(w, "input");
        jw_raw(w, jv_raw(input));
    }
    jw_key(w, "thread");
    jw_raw(w, jv_is(thread, JSON_OBJECT) ? jv_raw(thread) : SPAN("null"));
    put_id(w, "bundle_id", config.run.bundle);
    jw_key(w, "enabled");
    jw_bool(w, config.enabled);
    put_time(w, "end_time", config.end_ms);
    put_time(w, "next_run_at", cron_next_ms(row, env->wall_ms(env)));
    put_time(w, "last_run_at", row->last_ms);
    put_id(w, "last_run_id", row->last_run);
    put_text(w, "last_error", row->error);
    jw_key(w, "revision");
    jw_i64(w, row->revision);
    put_time(w, "created_at", row->created_ms);
    put_time(w, "updated_at", row->updated_ms);
    jw_end(w);
}

/* ---- reading what is asked for ---- */

/* The members that a cron has, and no others. */
static struct span config_text(struct call *call, struct jv object)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct jv v = jv_get(object, members[i]);
        if (jv_is(v, JSON_NONE) || (jv_is(v, JSON_NULL) && strcmp(members[i], "input") != 0))
            continue;
        jw_key(&w, members[i]);
        jw_raw(&w, minified(call, v));
    }
    jw_end(&w);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

/* An agent without a live bundle, or a thread with a long queue, may be fit when the time comes. */
static bool fits(struct call *call, const struct cron_config *config)
{
    struct error    error = { 0 };
    struct run_spec spec = config->run;
    spec.tenant = call->tenant;
    spec.workspace = call->workspace;
    enum err e = run_check(call->api->engine, &spec, &error);
    if (!e || e == ERR_NO_LIVE_BUNDLE || e == ERR_THREAD_QUEUE_FULL)
        return true;
    call_error(call, &error);
    return false;
}

/* Fills config and agent of the row from a whole object. False: the answer was given. */
static bool read_config(struct call *call, struct jv object, struct cron_row *row)
{
    struct cron_config config;
    struct error       error = { 0 };
    cron_read(object, &call->arena, &config, &call->issues);
    if (call_invalid(call, ERR_VALIDATION))
        return false;
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return false;
    }
    row->config = config_text(call, object);
    row->agent = config.run.agent;
    return fits(call, &config);
}

static bool find(struct call *call, struct cron_row *row)
{
    struct uuid id;
    if (call_path_uuid(call, 0, &id) && cron_get(call->api->engine, call->workspace, id, row))
        return true;
    call_fail(call, ERR_CRON_NOT_FOUND, "", "no such cron in this workspace");
    return false;
}

/* ---- handlers ---- */

void crons_create(struct call *call)
{
    int64_t         now = engine_now_ms(call->api->engine);
    struct cron_row row = { .workspace = call->workspace, .tenant = call->tenant, .revision = 1, .created_ms = now, .updated_ms = now };
    char            id[UUID_TEXT];
    if (!read_config(call, call->body, &row))
        return;
    row.id = engine_mint(call->api->engine);
    cron_put(call->api->engine, &row);
    (void)cron_get(call->api->engine, call->workspace, row.id, &row); /* as it was kept: without configured secrets */
    render_cron(call, &row);
    call_audit(call, call->workspace, "cron.create", "cron", row.id, SPAN_NONE);
    uuid_format(row.id, id);
    call_header(call, "Location: /v1/api/crons/%.*s", UUID_TEXT, id);
    call_send_committed(call, 201);
}

static bool list_cron(void *user, const void *row)
{
    struct call *call = user;
    render_cron(call, row);
    call->shown++;
    return true;
}

void crons_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_cron, .eq_count = 1, .order_column = "id", .descending = !page.ascending, .limit = page.limit,
                           .offset = page.offset };
    struct span  agent = call_query(call, "agent_id");
    bool         known = true;
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    if (agent.p) {
        query.eq[1].column = "agent";
        known = uuid_parse(agent, &query.eq[query.eq_count++].uuid);
    }
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    call_list(call, &query, page, known, list_cron);
}

void crons_get(struct call *call)
{
    struct cron_row row = { .workspace = call->workspace };
    if (!call_path_uuid(call, 0, &row.id) || reader_get(call->reader, TABLE_cron, &row)) {
        call_fail(call, ERR_CRON_NOT_FOUND, "", "no such cron in this workspace");
        return;
    }
    render_cron(call, &row);
    call_send(call, 200);
}

void crons_patch(struct call *call)
{
    struct cron_row row;
    if (!find(call, &row) || !revision_fits(call, row.revision))
        return;
    if (!jv_is(call->body, JSON_OBJECT)) {
        issue_add(&call->issues, SPAN(""), "type", "must be an object");
        call_invalid(call, ERR_VALIDATION);
        return;
    }
    row.config = arena_copy(&call->arena, row.config);
    row.error = row.error.p ? arena_copy(&call->arena, row.error) : SPAN_NONE;
    if (!read_config(call, json_read(merged(call, row.config, call->body), &call->arena), &row))
        return;
    row.revision++;
    row.updated_ms = engine_now_ms(call->api->engine);
    cron_put(call->api->engine, &row);
    (void)cron_get(call->api->engine, call->workspace, row.id, &row); /* as it was kept: without configured secrets */
    render_cron(call, &row);
    call_audit(call, call->workspace, "cron.update", "cron", row.id, SPAN_NONE);
    call_send_committed(call, 200);
}

void crons_delete(struct call *call)
{
    struct cron_row row;
    struct error    error = { 0 };
    if (!find(call, &row))
        return;
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return;
    }
    cron_delete(call->api->engine, call->workspace, row.id);
    call_audit(call, call->workspace, "cron.delete", "cron", row.id, SPAN_NONE);
    call_send_committed(call, 204);
}

/* A run now, whatever the clock says; an Idempotency-Key makes it one. */
void crons_trigger(struct call *call)
{
    struct cron_row    row;
    struct run_row     run;
    struct cron_config config;
    struct error       error = { 0 };
    struct idem_use    idem = { .used = false };
    struct span        key = SPAN_NONE;
    if (!find(call, &row))
        return;
    cron_read(json_read(row.config, &call->arena), &call->arena, &config, NULL);
    config.run.tenant = call->tenant;
    config.run.workspace = call->workspace;
    enum err e = engine_ready(call->api->engine, &error);
    if (!e)
        e = call_idem_key(call, &key, &error);
    struct span scope = arena_printf(&call->arena, "ar.cron.%.*s", SPAN_ARG(call->params[0]));
    if (!e)
        e = call_idem(call, scope.p, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (!e && idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    if (!e)
        e = run_create(call->api->engine, &config.run, &run, &error);
    if (e) {
        call_error(call, &error);
        return;
    }
    call_audit(call, call->workspace, "cron.trigger", "cron", row.id, SPAN_NONE);
    run_created(call, &idem, &run);
}
