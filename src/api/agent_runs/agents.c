/* SPDX-License-Identifier: Apache-2.0 */
/* agents.c - agents, their bundles and versions (agent-runs.md 9). A published bundle never changes. */
#include "api/agent_runs/routes.h"
#include <stdlib.h>

enum { NAME_MAX_BYTES = 255, TEXT_MAX_BYTES = 10000 };

/* ---- shapes ---- */

static void put_id_or_null(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    if (uuid_is_nil(id))
        jw_null(w);
    else
        jw_uuid(w, &id);
}

static void render_agent(struct jw *w, const struct agent_row *row)
{
    jw_obj(w);
    jw_key(w, "agent_id");
    jw_uuid(w, &row->id);
    jw_key(w, "name");
    jw_str(w, row->name);
    jw_key(w, "description");
    jw_str(w, row->description);
    jw_key(w, "status");
    jw_cstr(w, row->archived_ms ? "archived" : "active");
    put_id_or_null(w, "live_bundle_id", row->live_bundle);
    put_id_or_null(w, "live_version_id", row->live_version);
    jw_key(w, "live_version_no");
    if (row->live_version_no)
        jw_i64(w, row->live_version_no);
    else
        jw_null(w);
    jw_key(w, "revision");
    jw_i64(w, row->revision);
    jw_key(w, "metadata");
    jw_raw(w, row->metadata);
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_key(w, "updated_at");
    jw_time(w, row->updated_ms);
    jw_end(w);
}

static void render_bundle(struct jw *w, const struct bundle_row *row)
{
    struct buf hash = { 0 };
    buf_hex(&hash, row->plan.b, sizeof row->plan.b);
    jw_obj(w);
    jw_key(w, "bundle_id");
    jw_uuid(w, &row->id);
    jw_key(w, "agent_id");
    jw_uuid(w, &row->agent);
    jw_key(w, "status");
    jw_cstr(w, uuid_is_nil(row->version) ? "draft" : "published");
    put_id_or_null(w, "agent_version_id", row->version);
    jw_key(w, "definition");
    jw_raw(w, row->definition);
    jw_key(w, "plan_hash");
    jw_str(w, buf_view(&hash));
    jw_key(w, "revision");
    jw_i64(w, row->revision);
    jw_key(w, "created_at");
    jw_time(w, row->created_ms);
    jw_key(w, "updated_at");
    jw_time(w, row->updated_ms);
    jw_end(w);
    buf_done(&hash);
}

static void render_version(struct jw *w, const struct version_row *row)
{
    jw_obj(w);
    jw_key(w, "agent_version_id");
    jw_uuid(w, &row->id);
    jw_key(w, "version_no");
    jw_i64(w, row->version_no);
    jw_key(w, "agent_id");
    jw_uuid(w, &row->agent);
    jw_key(w, "bundle_id");
    jw_uuid(w, &row->bundle);
    if (row->notes.p) {
        jw_key(w, "notes");
        jw_str(w, row->notes);
    }
    jw_key(w, "published_at");
    jw_time(w, row->published_ms);
    jw_end(w);
}

/* ---- finding ---- */

static struct agent *find_agent(struct call *call)
{
    struct uuid   id;
    struct agent *agent = call_path_uuid(call, 0, &id) ? catalog_agent(call->api->engine, call->workspace, id) : NULL;
    if (!agent)
        call_fail(call, ERR_AGENT_NOT_FOUND, "", "no such agent in this workspace");
    return agent;
}

static struct bundle *find_bundle(struct call *call, const struct agent *agent)
{
    struct uuid    id;
    struct bundle *bundle = call_path_uuid(call, 1, &id) ? catalog_bundle(call->api->engine, call->workspace, id) : NULL;
    if (bundle && uuid_eq(bundle->row.agent, agent->row.id))
        return bundle;
    call_fail(call, ERR_BUNDLE_NOT_FOUND, "", "the agent has no such bundle");
    return NULL;
}

static bool writable(struct call *call)
{
    struct error error = { 0 };
    if (!engine_ready(call->api->engine, &error))
        return true;
    call_error(call, &error);
    return false;
}

bool revision_fits(struct call *call, int64_t revision)
{
    struct span given, want = arena_printf(&call->arena, "\"%lld\"", (long long)revision);
    if (!http_header(call->req, "If-Match", &given) || span_is(given, "*") || span_eq(given, want))
        return true;
    call_extra_str(call, "current_revision", span_make(want.p + 1, want.n - 2));
    call_fail(call, ERR_VERSION_CONFLICT, "If-Match", "the revision is %.*s", SPAN_ARG(want));
    return false;
}

/* ---- agents ---- */

static bool name_row(void *user, const void *row)
{
    const struct agent_row *agent = row;
    struct uuid            *found = user;
    if (!agent->archived_ms)
        *found = agent->id;
    return agent->archived_ms != 0;
}

/* A name is taken by an agent that is not archived: names are what people apply by. */
static bool name_taken(struct call *call, struct span name, struct uuid except)
{
    struct engine *engine = call->api->engine;
    struct uuid    found = { 0 };
    struct query   query = { .table = TABLE_agent, .eq_count = 2, .order_column = "id", .limit = -1 };
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    query.eq[1].column = "name";
    query.eq[1].bytes = name;
    if (!reader_begin(engine_reader(engine), &call->arena)) {
        (void)reader_query(engine_reader(engine), &query, name_row, &found);
        reader_end(engine_reader(engine));
    }
    return !uuid_is_nil(found) && !uuid_eq(found, except);
}

static struct span metadata_or(struct call *call, struct span otherwise)
{
    struct jv metadata;
    return body_object(call, "metadata", &metadata) ? minified(call, metadata) : otherwise;
}

void agents_create(struct call *call)
{
    struct span     name, description, key = SPAN_NONE;
    struct idem_use idem = { 0 };
    struct error    error = { 0 };
    body_text(call, "name", true, NAME_MAX_BYTES, &name);
    body_text(call, "description", false, TEXT_MAX_BYTES, &description);
    struct span metadata = metadata_or(call, SPAN("{}"));
    if (call_invalid(call, ERR_VALIDATION) || !writable(call))
        return;
    enum err e = call_idem_key(call, &key, &error);
    if (!e)
        e = call_idem(call, "ar.agents.create", key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (!e && idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    if (!e && name_taken(call, name, (struct uuid){ 0 }))
        e = error_set(&error, ERR_NAME_TAKEN, "/name", "there is already an agent of this name");
    if (e) {
        call_error(call, &error);
        return;
    }
    int64_t          now = engine_now_ms(call->api->engine);
    struct agent_row row = { .id = engine_mint(call->api->engine), .tenant = call->tenant, .workspace = call->workspace, .name = name,
                             .description = description.p ? description : SPAN(""), .metadata = metadata, .revision = 1,
                             .created_ms = now, .updated_ms = now };
    struct agent *agent = catalog_put_agent(call->api->engine, &row);
    render_agent(&call->w, &agent->row);
    call_audit_text(call, "agent.create", "agent", row.id, "name", row.name);
    if (idem.used)
        idem_put(call->api->engine, call->workspace, idem.key, idem.fingerprint, row.id, buf_view(&call->out));
    char id[UUID_TEXT];
    uuid_format(row.id, id);
    call_header(call, "Location: /v1/api/agents/%.*s", UUID_TEXT, id);
    call_send_committed(call, 201);
}

struct agent_list {
    struct call *call;
    struct page  page;
    int          archived; /* 0: active, 1: archived, -1: all */
    int64_t      seen;
};

static bool list_agent(void *user, const void *row)
{
    struct agent_list      *list = user;
    const struct agent_row *agent = row;
    if (list->archived >= 0 && (agent->archived_ms != 0) != list->archived)
        return true;
    if (list->seen++ < list->page.offset || list->call->shown >= list->page.limit)
        return true;
    render_agent(&list->call->w, agent);
    list->call->shown++;
    return true;
}

void agents_list(struct call *call)
{
    struct agent_list list = { .call = call, .page = call_page(call), .archived = 0 };
    struct span       name = call_query(call, "name"), archived = call_query(call, "archived");
    struct query query = { .table = TABLE_agent, .eq_count = 1, .order_column = "id", .descending = !list.page.ascending, .limit = -1 };
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    if (name.p) {
        query.eq[1].column = "name";
        query.eq[1].bytes = name;
        query.eq_count = 2;
    }
    if (span_is(archived, "true"))
        list.archived = 1;
    else if (span_is(archived, "all"))
        list.archived = -1;
    else if (archived.p && !span_is(archived, "false"))
        issue_add_parameter(&call->issues, "archived", "enum", "must be true, false or all");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    if (reader_query(call->reader, &query, list_agent, &list)) {
        call->out.len = 0;
        call->w = jw_on(&call->out);
        call_fail(call, ERR_STORAGE, "", "the list cannot be read");
        return;
    }
    jw_arr_end(&call->w);
    call_page_head(call, list.page, list.seen, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}

void agents_get(struct call *call)
{
    struct agent_row row = { 0 };
    if (!call_path_uuid(call, 0, &row.id) || reader_get(call->reader, TABLE_agent, &row) || !uuid_eq(row.workspace, call->workspace)) {
        call_fail(call, ERR_AGENT_NOT_FOUND, "", "no such agent in this workspace");
        return;
    }
    render_agent(&call->w, &row);
    call_send(call, 200);
}

/* RFC 7396 for an object of two levels: metadata members that are null go away. */
struct span merged(struct call *call, struct span old, struct jv patch)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    struct jv  before = json_read(old, &call->arena);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(before); jv_step(&it);) {
        struct span name = jv_string(it.name, &call->arena);
        if (!jv_is(jv_get_span(patch, name), JSON_NONE))
            continue;
        jw_key_span(&w, name);
        jw_raw(&w, jv_raw(it.value));
    }
    for (struct jv_iter it = jv_iter(patch); jv_step(&it);) {
        if (jv_is(it.value, JSON_NULL))
            continue;
        struct span name = jv_string(it.name, &call->arena);
        struct jv   was = jv_get_span(before, name);
        jw_key_span(&w, name);
        if (jv_is(it.value, JSON_OBJECT))
            jw_raw(&w, merged(call, jv_is(was, JSON_OBJECT) ? jv_raw(was) : SPAN("{}"), it.value));
        else
            jw_raw(&w, jv_raw(it.value));
    }
    jw_end(&w);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

void agents_patch(struct call *call)
{
    struct agent *agent = find_agent(call);
    struct span   name, description;
    struct jv     metadata;
    if (!agent || !writable(call) || !revision_fits(call, agent->row.revision))
        return;
    struct agent_row row = agent->row;
    if (body_text(call, "name", false, NAME_MAX_BYTES, &name)) {
        if (!name.n)
            issue_add(&call->issues, SPAN("/name"), "min_length", "must not be empty");
        row.name = name;
    }
    if (body_text(call, "description", false, TEXT_MAX_BYTES, &description))
        row.description = description;
    else if (jv_is(jv_get(call->body, "description"), JSON_NULL))
        row.description = SPAN("");
    if (body_object(call, "metadata", &metadata))
        row.metadata = merged(call, row.metadata, metadata);
    else if (jv_is(jv_get(call->body, "metadata"), JSON_NULL))
        row.metadata = SPAN("{}");
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (!span_eq(row.name, agent->row.name) && name_taken(call, row.name, row.id)) {
        call_fail(call, ERR_NAME_TAKEN, "/name", "there is already an agent of this name");
        return;
    }
    row.revision++;
    row.updated_ms = engine_now_ms(call->api->engine);
    render_agent(&call->w, &catalog_put_agent(call->api->engine, &row)->row);
    call_audit(call, call->workspace, "agent.update", "agent", row.id, SPAN_NONE);
    call_send_committed(call, 200);
}

void agents_archive(struct call *call)
{
    struct agent *agent = find_agent(call);
    if (!agent || !writable(call))
        return;
    if (!agent->row.archived_ms) {
        struct agent_row row = agent->row;
        row.archived_ms = row.updated_ms = engine_now_ms(call->api->engine);
        row.revision++;
        catalog_put_agent(call->api->engine, &row);
        call_audit(call, call->workspace, "agent.archive", "agent", row.id, SPAN_NONE);
    }
    call_send_committed(call, 204);
}

/* ---- bundles ---- */

/* Compiles body.definition; on failure the answer was given. */
static bool compile(struct call *call, struct span *ret_definition, struct sha256 *ret_plan)
{
    struct jv     definition;
    struct issues found = { .arena = &call->arena };
    if (!body_object(call, "definition", &definition) && !call->issues.count)
        issue_add(&call->issues, SPAN("/definition"), "required", "is required");
    if (call_invalid(call, ERR_VALIDATION))
        return false;
    *ret_definition = minified(call, definition);
    enum err e = catalog_compile(call->api->engine, definition, ret_plan, &found);
    if (!e)
        return true;
    for (size_t i = 0; i < found.count && i < ISSUES_MAX; i++)
        found.items[i].pointer = arena_printf(&call->arena, "/definition%.*s", SPAN_ARG(found.items[i].pointer));
    call->issues = found;
    if (!call_invalid(call, e))
        call_fail(call, ERR_VALIDATION, "/definition", "the definition cannot be compiled");
    return false;
}

void bundles_create(struct call *call)
{
    struct agent *agent = find_agent(call);
    struct span   definition;
    struct sha256 plan;
    if (!agent || !writable(call))
        return;
    if (agent->row.archived_ms) {
        call_fail(call, ERR_AGENT_ARCHIVED, "", "the agent is archived");
        return;
    }
    if (!compile(call, &definition, &plan))
        return;
    int64_t           now = engine_now_ms(call->api->engine);
    struct bundle_row row = { .id = engine_mint(call->api->engine), .workspace = call->workspace, .agent = agent->row.id,
                              .definition = definition, .plan = plan, .revision = 1, .created_ms = now, .updated_ms = now };
    render_bundle(&call->w, &catalog_put_bundle(call->api->engine, &row)->row);
    char agent_id[UUID_TEXT], id[UUID_TEXT];
    uuid_format(agent->row.id, agent_id);
    uuid_format(row.id, id);
    call_header(call, "Location: /v1/api/agents/%.*s/bundles/%.*s", UUID_TEXT, agent_id, UUID_TEXT, id);
    call_audit(call, call->workspace, "bundle.create", "bundle", row.id, SPAN_NONE);
    call_send_committed(call, 201);
}

static bool list_bundle(void *user, const void *row)
{
    struct call *call = user;
    render_bundle(&call->w, row);
    call->shown++;
    return true;
}

/* The lists below an agent. False: it is unknown and the answer was given. */
static bool of_agent(struct call *call, struct query *query)
{
    struct agent_row row = { 0 };
    if (!call_path_uuid(call, 0, &row.id) || reader_get(call->reader, TABLE_agent, &row) || !uuid_eq(row.workspace, call->workspace)) {
        call_fail(call, ERR_AGENT_NOT_FOUND, "", "no such agent in this workspace");
        return false;
    }
    query->eq[0].column = "agent";
    query->eq[0].uuid = row.id;
    query->eq_count = 1;
    return true;
}

void bundles_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_bundle, .order_column = "id", .descending = !page.ascending, .limit = page.limit,
                           .offset = page.offset };
    if (call_invalid(call, ERR_INVALID_PARAMETER) || !of_agent(call, &query))
        return;
    call_list(call, &query, page, true, list_bundle);
}

void bundles_get(struct call *call)
{
    struct query      query = { 0 };
    struct bundle_row row = { 0 };
    if (!of_agent(call, &query))
        return;
    if (!call_path_uuid(call, 1, &row.id) || reader_get(call->reader, TABLE_bundle, &row) || !uuid_eq(row.agent, query.eq[0].uuid)) {
        call_fail(call, ERR_BUNDLE_NOT_FOUND, "", "the agent has no such bundle");
        return;
    }
    render_bundle(&call->w, &row);
    call_send(call, 200);
}

void bundles_patch(struct call *call)
{
    struct agent  *agent = find_agent(call);
    struct bundle *bundle = agent ? find_bundle(call, agent) : NULL;
    struct span    definition;
    struct sha256  plan;
    if (!bundle || !writable(call) || !revision_fits(call, bundle->row.revision))
        return;
    if (!uuid_is_nil(bundle->row.version)) {
        call_fail(call, ERR_BUNDLE_PUBLISHED, "", "a published bundle does not change: make a new one");
        return;
    }
    if (!compile(call, &definition, &plan))
        return;
    struct bundle_row row = bundle->row;
    row.definition = definition;
    row.plan = plan;
    row.revision++;
    row.updated_ms = engine_now_ms(call->api->engine);
    render_bundle(&call->w, &catalog_put_bundle(call->api->engine, &row)->row);
    call_audit(call, call->workspace, "bundle.update", "bundle", row.id, SPAN_NONE);
    call_send_committed(call, 200);
}

/* ---- publishing ---- */

/* Versions are numbered per agent from 1 on; the last number is found once per agent and kept with it. */
static int64_t next_version_no(struct call *call, struct agent *agent)
{
    struct engine *engine = call->api->engine;
    struct query   query = { .table = TABLE_version, .eq_count = 1, .order_column = "version_no", .limit = -1 };
    int64_t        count = 0;
    query.eq[0].column = "agent";
    query.eq[0].uuid = agent->row.id;
    if (!agent->versions && !reader_begin(engine_reader(engine), &call->arena)) {
        if (!reader_count(engine_reader(engine), &query, &count))
            agent->versions = count;
        reader_end(engine_reader(engine));
    }
    return ++agent->versions;
}

static void make_live(struct call *call, struct agent *agent, const struct bundle *bundle, int64_t version_no, const char *action)
{
    struct agent_row row = agent->row;
    row.live_bundle = bundle->row.id;
    row.live_version = bundle->row.version;
    row.live_version_no = version_no;
    row.revision++;
    row.updated_ms = engine_now_ms(call->api->engine);
    call_audit(call, call->workspace, action, "bundle", bundle->row.id, SPAN_NONE);
    catalog_put_agent(call->api->engine, &row);
}

static bool find_version(struct call *call, struct uuid id, struct version_row *ret)
{
    struct engine *engine = call->api->engine;
    struct version_row *kept = catalog_version(engine, id);
    if (kept) {
        *ret = *kept;
        return true;
    }
    ret->id = id;
    bool found = false;
    if (!reader_begin(engine_reader(engine), &call->arena)) {
        found = !reader_get(engine_reader(engine), TABLE_version, ret);
        reader_end(engine_reader(engine));
    }
    return found;
}

void bundles_publish(struct call *call)
{
    struct agent  *agent = find_agent(call);
    struct bundle *bundle = agent ? find_bundle(call, agent) : NULL;
    struct span    notes;
    if (!bundle || !writable(call))
        return;
    bool has_notes = body_text(call, "notes", false, TEXT_MAX_BYTES, &notes);
    if (call_invalid(call, ERR_VALIDATION) || !revision_fits(call, agent->row.revision))
        return;
    if (agent->row.archived_ms) {
        call_fail(call, ERR_AGENT_ARCHIVED, "", "the agent is archived");
        return;
    }
    struct version_row version = { 0 };
    if (!uuid_is_nil(bundle->row.version) && find_version(call, bundle->row.version, &version)) {
        make_live(call, agent, bundle, version.version_no, "bundle.publish"); /* published before: the same version, live again */
        render_version(&call->w, &version);
        call_send_committed(call, 200);
        return;
    }
    version = (struct version_row){ .id = engine_mint(call->api->engine), .workspace = call->workspace, .agent = agent->row.id,
                                    .bundle = bundle->row.id, .version_no = next_version_no(call, agent),
                                    .notes = has_notes ? notes : SPAN_NONE, .published_ms = engine_now_ms(call->api->engine) };
    catalog_put_version(call->api->engine, &version);
    struct bundle_row row = bundle->row;
    row.version = version.id;
    row.updated_ms = version.published_ms;
    bundle = catalog_put_bundle(call->api->engine, &row);
    make_live(call, agent, bundle, version.version_no, "bundle.publish");
    render_version(&call->w, &version);
    call_send_committed(call, 200);
}

static bool list_version(void *user, const void *row)
{
    struct call *call = user;
    render_version(&call->w, row);
    call->shown++;
    return true;
}

void versions_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_version, .order_column = "version_no", .descending = !page.ascending, .limit = page.limit,
                           .offset = page.offset };
    if (call_invalid(call, ERR_INVALID_PARAMETER) || !of_agent(call, &query))
        return;
    call_list(call, &query, page, true, list_version);
}

void versions_activate(struct call *call)
{
    struct agent      *agent = find_agent(call);
    struct version_row version = { 0 };
    struct uuid        id;
    if (!agent || !writable(call) || !revision_fits(call, agent->row.revision))
        return;
    if (!call_path_uuid(call, 1, &id) || !find_version(call, id, &version) || !uuid_eq(version.agent, agent->row.id)) {
        call_fail(call, ERR_VERSION_NOT_FOUND, "", "the agent has no such version");
        return;
    }
    struct bundle *bundle = catalog_bundle(call->api->engine, call->workspace, version.bundle);
    if (!bundle) {
        call_fail(call, ERR_BUNDLE_NOT_FOUND, "", "the version's bundle is gone");
        return;
    }
    make_live(call, agent, bundle, version.version_no, "bundle.activate");
    render_version(&call->w, &version);
    call_send_committed(call, 200);
}
