/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - create, wait, batch, get, list, cancel, resume (agent-runs.md 6). */
#include "api/agent_runs/routes.h"
#include <stdio.h>
#include <stdlib.h>

static const char SCOPE_CREATE[] = "ar.runs.create";

/* ---- what a create says ---- */

static void read_thread(struct call *call, struct run_spec *spec, bool *ret_unknown)
{
    struct jv thread = jv_get(call->body, "thread");
    if (jv_is(thread, JSON_NONE) || jv_is(thread, JSON_NULL))
        return;
    if (!jv_is(thread, JSON_OBJECT)) {
        issue_add(&call->issues, SPAN("/thread"), "type", "must be an object");
        return;
    }
    struct jv id = jv_get(thread, "thread_id"), fresh = jv_get(thread, "new_thread");
    bool      has_id = !jv_is(id, JSON_NONE) && !jv_is(id, JSON_NULL), has_new = !jv_is(fresh, JSON_NONE);
    if (has_id && has_new)
        issue_add(&call->issues, SPAN("/thread"), "exclusive", "takes thread_id or new_thread, not both");
    else if (has_new && !jv_is(fresh, JSON_TRUE))
        issue_add(&call->issues, SPAN("/thread/new_thread"), "enum", "can only be true");
    else if (has_id && !jv_is(id, JSON_STRING))
        issue_add(&call->issues, SPAN("/thread/thread_id"), "type", "must be a string");
    if (has_new)
        spec->thread_choice = THREAD_NEW;
    if (!has_id)
        return;
    spec->thread_choice = THREAD_GIVEN;
    *ret_unknown = !uuid_parse(jv_string(id, &call->arena), &spec->thread);
}

/* Fills the spec from a create body. False: the answer was given. */
static bool read_spec(struct call *call, enum run_source source, struct run_spec *spec)
{
    struct span agent, bundle;
    bool        unknown_thread = false;
    *spec = (struct run_spec){ .tenant = call->tenant, .workspace = call->workspace, .source = source };
    bool has_agent = body_text(call, "agent_id", true, 255, &agent);
    bool has_bundle = body_text(call, "bundle_id", false, 255, &bundle);
    read_thread(call, spec, &unknown_thread);
    struct jv input = jv_get(call->body, "input");
    if (!jv_is(input, JSON_NONE))
        spec->input = minified(call, input);
    if (call_invalid(call, ERR_VALIDATION))
        return false;
    if (has_agent && !uuid_parse(agent, &spec->agent))
        call_fail(call, ERR_AGENT_NOT_FOUND, "/agent_id", "no such agent in this workspace");
    else if (has_bundle && !uuid_parse(bundle, &spec->bundle))
        call_fail(call, ERR_BUNDLE_NOT_FOUND, "/bundle_id", "no such bundle in this workspace");
    else if (unknown_thread)
        call_fail(call, ERR_THREAD_NOT_FOUND, "/thread/thread_id", "no such thread in this workspace");
    else
        return true;
    return false;
}

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
    jw_key(w, "current_attempt_no");
    jw_i64(w, row->attempt_no);
}

static void location(struct call *call, struct uuid run)
{
    char id[UUID_TEXT];
    uuid_format(run, id);
    call_header(call, "Location: /v1/api/runs/%.*s", UUID_TEXT, id);
}

static void keep_created(struct call *call, const struct idem_use *idem, const struct run_row *row)
{
    struct buf answer = { 0 };
    struct jw  w = jw_on(&answer);
    jw_obj(&w);
    put_created(&w, row);
    jw_end(&w);
    idem_put(call->api->engine, call->workspace, idem->key, idem->fingerprint, row->id, buf_view(&answer));
    buf_done(&answer);
}

static void send_created(struct call *call, const struct run_row *row)
{
    location(call, row->id);
    jw_obj(&call->w);
    put_created(&call->w, row);
    jw_key(&call->w, "reused");
    jw_bool(&call->w, false);
    jw_end(&call->w);
    call_send_committed(call, 201);
}

void run_created(struct call *call, const struct idem_use *idem, const struct run_row *row)
{
    if (idem->used)
        keep_created(call, idem, row);
    send_created(call, row);
}

/* Idempotency first, then the run and its key in one commit. False: the answer was given (also for a repeat, unless the
 * caller wants to go on with it). */
static bool create_once(struct call *call, enum run_source source, struct idem_use *idem, struct run_row *ret_row)
{
    struct run_spec spec;
    struct error    error = { 0 };
    struct span     key = SPAN_NONE;
    enum err e = call_idem_key(call, &key, &error);
    if (e == ERR_VALIDATION && error.field[0] == '/') /* one of all that is wrong with the body */
        issue_add(&call->issues, span_of(error.field), "format", "%s", error.message);
    else if (e) {
        call_error(call, &error);
        return false;
    }
    if (!read_spec(call, source, &spec))
        return false;
    e = engine_ready(call->api->engine, &error);
    if (!e)
        e = call_idem(call, SCOPE_CREATE, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, idem, &error);
    if (!e && idem->found)
        return true;
    if (!e)
        e = run_create(call->api->engine, &spec, ret_row, &error);
    if (e) {
        call_error(call, &error);
        return false;
    }
    call_audit(call, call->workspace, "run.create", "run", ret_row->id, SPAN_NONE);
    if (idem->used)
        keep_created(call, idem, ret_row);
    return true;
}

void runs_create(struct call *call)
{
    struct idem_use idem = { 0 };
    struct run_row  row;
    if (!create_once(call, SOURCE_API, &idem, &row))
        return;
    if (idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    send_created(call, &row);
}

/* ---- rerun: the original request once more, on a thread of its own (6.7) ---- */

static enum err rerun_spec(struct call *call, struct uuid id, struct run_spec *spec, struct error *error)
{
    struct run_row source = { 0 };
    enum err       e = run_row_get(call->api->engine, call->workspace, id, &call->arena, &source);
    if (e)
        return error_set(error, e == ERR_RUN_NOT_FOUND ? e : ERR_STORAGE, "", "no such run in this workspace");
    *spec = (struct run_spec){ .tenant = source.tenant, .workspace = source.workspace, .agent = source.agent, .input = source.input,
                               .source = SOURCE_RERUN, .rerun_of = id };
    if (source.pinned)
        spec->bundle = source.bundle;
    return ERR_OK;
}

void runs_rerun(struct call *call)
{
    struct uuid     id;
    struct run_spec spec;
    struct run_row  row;
    struct error    error = { 0 };
    struct idem_use idem = { .used = false };
    struct span     key = SPAN_NONE;
    bool            known = call_path_uuid(call, 0, &id);
    enum err        e = known ? engine_ready(call->api->engine, &error)
                              : error_set(&error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    if (!e)
        e = call_idem_key(call, &key, &error);
    struct span scope = arena_printf(&call->arena, "ar.rerun.%.*s", SPAN_ARG(call->params[0]));
    if (!e)
        e = call_idem(call, scope.p, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (!e && idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    if (!e)
        e = rerun_spec(call, id, &spec, &error);
    if (!e)
        e = run_create(call->api->engine, &spec, &row, &error);
    if (e) {
        call_error(call, &error);
        return;
    }
    call_audit(call, call->workspace, "run.rerun", "run", row.id, SPAN_NONE);
    run_created(call, &idem, &row);
}

/* ---- wait ---- */

struct waiting {
    struct call *call;
    int64_t      since_ms;
    struct uuid  run;
    bool         reused;
};

static void wait_answer(struct call *call, const struct run_row *row, bool timed_out)
{
    struct waiting *waiting = call->user;
    jw_obj(&call->w);
    render_run(&call->w, row, 0);
    if (waiting->reused) {
        jw_key(&call->w, "reused");
        jw_bool(&call->w, true);
    }
    jw_key(&call->w, "timed_out");
    jw_bool(&call->w, timed_out);
    jw_key(&call->w, "waited_ms_total");
    jw_i64(&call->w, engine_now_ms(call->api->engine) - waiting->since_ms);
    jw_end(&call->w);
    free(waiting);
    call_send(call, 200);
}

static void wait_over(void *user, const struct run_row *row)
{
    struct call *call = user;
    call->ticket = 0;
    loop_timer_clear(&call->timer);
    if (row) {
        wait_answer(call, row, false);
        return;
    }
    free(call->user);
    if (call->req)
        http_abort(TAKE(call->req));
    call_free(call);
}

static void wait_timeout(struct loop_timer *timer)
{
    struct call    *call = CONTAINER(timer, struct call, timer);
    struct waiting *waiting = call->user;
    struct run_row  row;
    run_unwatch(call->api->engine, call->ticket);
    call->ticket = 0;
    if (run_row_get(call->api->engine, call->workspace, waiting->run, &call->arena, &row)) {
        free(waiting);
        call_fail(call, ERR_STORAGE, "", "the run cannot be read");
        return;
    }
    wait_answer(call, &row, !run_terminal((enum run_status)row.status) && row.status != RUN_WAITING);
}

static void wait_gone(struct call *call)
{
    run_unwatch(call->api->engine, call->ticket);
    free(call->user);
    call_free(call);
}

enum { WAIT_DEFAULT_MS = 30000, WAIT_MAX_MS = 300000 };

static bool read_timeout(struct call *call, int64_t *ret_ms)
{
    struct jv v = jv_get(call->body, "timeout_seconds");
    double    seconds;
    *ret_ms = WAIT_DEFAULT_MS;
    if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL))
        return true;
    if (!jv_is(v, JSON_NUMBER) || !jv_f64(v, &seconds) || seconds < 0) {
        issue_add(&call->issues, SPAN("/timeout_seconds"), "range", "must be a number from 0 on");
        return false;
    }
    *ret_ms = seconds * 1000 > WAIT_MAX_MS ? WAIT_MAX_MS : (int64_t)(seconds * 1000);
    return true;
}

static void watch_first(void *arg, enum err err);

void runs_wait(struct call *call)
{
    struct idem_use idem = { 0 };
    struct run_row  row = { 0 };
    int64_t         timeout_ms;
    if (!read_timeout(call, &timeout_ms)) {
        call_invalid(call, ERR_VALIDATION);
        return;
    }
    if (!create_once(call, SOURCE_WAIT, &idem, &row))
        return;
    struct waiting *waiting = mem_alloc(sizeof *waiting);
    *waiting = (struct waiting){ .call = call, .since_ms = engine_now_ms(call->api->engine), .reused = idem.found,
                                 .run = idem.found ? idem.hit.target : row.id };
    call->user = waiting;
    call->wait_ms = timeout_ms;
    if (timeout_ms == 0) { /* answer at once, that is after the commit */
        engine_after(call->api->engine, watch_first, call);
        return;
    }
    call->on_gone = wait_gone;
    call->timer.fire = wait_timeout;
    loop_timer_set(&call->timer, loop_now_us(engine_loop(call->api->engine)) + (uint64_t)timeout_ms * 1000);
    call->ticket = run_watch(call->api->engine, call->workspace, waiting->run, wait_over, call);
    if (!call->ticket) { /* the run of an old key is gone */
        call->on_gone = NULL;
        free(waiting);
        call_fail(call, ERR_RUN_NOT_FOUND, "", "the run of this idempotency key is gone");
    }
}

static void watch_first(void *arg, enum err err)
{
    struct call *call = arg;
    if (!err) {
        wait_timeout(&call->timer);
        return;
    }
    wait_over(call, NULL);
}

/* ---- batch ---- */

enum { BATCH_MAX = 1000 };

struct batch_item {
    struct run_spec spec;
    struct idem_use idem;
    struct run_row  row;
    int             same_as; /* an earlier item of this batch with the same key, or -1 */
};

static struct span item_pointer(struct call *call, size_t i, const char *member)
{
    return arena_printf(&call->arena, "/inputs/%zu%s%s", i, member ? "/" : "", member ? member : "");
}

/* The create body that an item stands for, canonical. */
static struct span item_canonical(struct call *call, struct span agent, struct jv input)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "agent_id");
    jw_str(&w, agent);
    jw_key(&w, "input");
    jw_raw(&w, jv_raw(input));
    jw_end(&w);
    struct span canonical = call_canonical(call, json_read(arena_copy(&call->arena, buf_view(&text)), &call->arena));
    buf_done(&text);
    return canonical;
}

static bool read_item_key(struct call *call, struct jv item, size_t i, struct span fallback, struct span *ret_key)
{
    struct jv key = jv_get(item, "idempotency_key");
    *ret_key = fallback.p ? arena_printf(&call->arena, "%.*s#%zu", SPAN_ARG(fallback), i) : SPAN_NONE;
    if (jv_is(key, JSON_NONE) || jv_is(key, JSON_NULL))
        return true;
    struct span text = jv_string(key, &call->arena);
    bool        ok = jv_is(key, JSON_STRING) && text.n <= 255;
    for (size_t c = 0; ok && c < text.n; c++)
        ok = text.p[c] >= 0x21 && text.p[c] <= 0x7e;
    if (!ok) {
        issue_add(&call->issues, item_pointer(call, i, "idempotency_key"), "format", "has 1 to 255 visible ASCII characters");
        return false;
    }
    if (text.n)
        *ret_key = text;
    return true;
}

static int find_same(const struct batch_item *items, size_t count, const struct idem_use *idem)
{
    for (size_t i = 0; i < count; i++)
        if (items[i].idem.used && memcmp(items[i].idem.key.b, idem->key.b, sizeof idem->key.b) == 0)
            return (int)i;
    return -1;
}

/* Checks everything before anything is made: all or nothing. */
static struct batch_item *read_items(struct call *call, const struct run_spec *base, struct span agent, struct jv inputs,
                                     struct span fallback, struct error *error)
{
    size_t             count = jv_count(inputs), i = 0;
    struct batch_item *items = ARENA_ARRAY(&call->arena, struct batch_item, count);
    for (struct jv_iter it = jv_iter(inputs); jv_step(&it); i++) {
        struct jv   input = jv_get(it.value, "input");
        struct span key;
        items[i].spec = *base;
        items[i].same_as = -1;
        if (!jv_is(it.value, JSON_OBJECT))
            issue_add(&call->issues, item_pointer(call, i, NULL), "type", "must be an object");
        else if (jv_is(input, JSON_NONE))
            issue_add(&call->issues, item_pointer(call, i, "input"), "required", "is required");
        else
            items[i].spec.input = minified(call, input);
        if (!read_item_key(call, it.value, i, fallback, &key) || call->issues.count || !key.p)
            continue;
        if (call_idem(call, SCOPE_CREATE, key, item_canonical(call, agent, input), &items[i].idem, error))
            return NULL;
        items[i].same_as = find_same(items, i, &items[i].idem);
        const struct batch_item *same = items[i].same_as >= 0 ? &items[items[i].same_as] : NULL;
        if (same && memcmp(same->idem.fingerprint.b, items[i].idem.fingerprint.b, sizeof same->idem.fingerprint.b) != 0) {
            error_set(error, ERR_IDEM_REUSED, "", "items %d and %zu use one idempotency key for different inputs", items[i].same_as, i);
            return NULL;
        }
    }
    return items;
}

static void put_item(struct jw *w, size_t index, struct span answer, const struct run_row *row, struct arena *arena)
{
    jw_obj(w);
    jw_key(w, "index");
    jw_u64(w, index);
    if (row) {
        put_created(w, row);
    } else {
        struct jv first = json_read(answer, arena);
        for (struct jv_iter it = jv_iter(first); jv_step(&it);) {
            jw_key_span(w, jv_string(it.name, arena));
            jw_raw(w, jv_raw(it.value));
        }
    }
    jw_key(w, "reused");
    jw_bool(w, row == NULL);
    jw_end(w);
}

static struct span created_json(struct call *call, const struct run_row *row)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    put_created(&w, row);
    jw_end(&w);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

static void make_items(struct call *call, struct batch_item *items, size_t count)
{
    struct engine *engine = call->api->engine;
    size_t         created = 0;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    for (size_t i = 0; i < count; i++) {
        struct batch_item *item = &items[i];
        if (item->same_as >= 0)
            item->idem = items[item->same_as].idem;
        struct error error = { 0 };
        bool         fresh = !item->idem.found && item->same_as < 0;
        if (fresh) {
            enum err e = run_create(engine, &item->spec, &item->row, &error); /* was checked: nothing can be in its way */
            assert(!e);
            created++;
            call_audit(call, call->workspace, "run.create", "run", item->row.id, SPAN_NONE);
            item->idem.hit.answer = created_json(call, &item->row);
            if (item->idem.used)
                idem_put(engine, call->workspace, item->idem.key, item->idem.fingerprint, item->row.id, item->idem.hit.answer);
        }
        put_item(&call->w, i, item->idem.hit.answer, fresh ? &item->row : NULL, &call->arena);
    }
    jw_arr_end(&call->w);
    jw_key(&call->w, "count");
    jw_u64(&call->w, count);
    jw_key(&call->w, "created");
    jw_u64(&call->w, created);
    jw_key(&call->w, "reused");
    jw_u64(&call->w, count - created);
    jw_end(&call->w);
    call_send_committed(call, created ? 201 : 200);
}

void runs_batch(struct call *call)
{
    struct run_spec spec = { .tenant = call->tenant, .workspace = call->workspace, .source = SOURCE_BATCH };
    struct jv       inputs = jv_get(call->body, "inputs");
    struct span     agent, fallback = SPAN_NONE;
    struct error    error = { 0 };
    body_text(call, "agent_id", true, 255, &agent);
    size_t count = jv_count(inputs);
    if (!jv_is(inputs, JSON_ARRAY))
        issue_add(&call->issues, SPAN("/inputs"), jv_is(inputs, JSON_NONE) ? "required" : "type", "must be an array");
    else if (count < 1 || count > BATCH_MAX)
        issue_add(&call->issues, SPAN("/inputs"), "size", "must have 1 to %d elements", BATCH_MAX);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    bool     known = uuid_parse(agent, &spec.agent);
    enum err e = call_idem_key(call, &fallback, &error);
    struct batch_item *items = e ? NULL : read_items(call, &spec, agent, inputs, fallback, &error);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (items && !known)
        error_set(&error, ERR_AGENT_NOT_FOUND, "/agent_id", "no such agent in this workspace");
    if (!items || !known || run_check(call->api->engine, &spec, &error)) {
        call_error(call, &error);
        return;
    }
    make_items(call, items, count);
}

/* ---- get, list ---- */

int64_t queue_position(struct reader *reader, const struct run_row *row)
{
    struct query query = { .table = TABLE_run, .eq_count = 2, .cmp_count = 1 };
    int64_t      place = 0;
    if (row->status != RUN_PENDING)
        return 0;
    query.eq[0].column = "thread";
    query.eq[0].uuid = row->thread;
    query.eq[1].column = "status";
    query.eq[1].i64 = RUN_PENDING;
    query.cmp[0].column = "id";
    query.cmp[0].op = "<=";
    query.cmp[0].uuid = row->id;
    return reader_count(reader, &query, &place) ? 0 : place;
}

static void put_position(struct call *call, const struct run_row *row)
{
    int64_t position = queue_position(call->reader, row);
    if (!position)
        return;
    jw_key(&call->w, "queue_position");
    jw_i64(&call->w, position);
}

void runs_get(struct call *call)
{
    struct run_row row = { .workspace = call->workspace };
    enum err       e = ERR_NOT_FOUND;
    if (call_path_uuid(call, 0, &row.id))
        e = reader_get(call->reader, TABLE_run, &row);
    if (e) {
        call_fail(call, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : ERR_STORAGE, "", "no such run in this workspace");
        return;
    }
    fill_latest(call->reader, &row);
    jw_obj(&call->w);
    render_run(&call->w, &row, 0);
    render_spend(&call->w, call->reader, row.workspace, SPEND_RUN, row.id);
    put_position(call, &row);
    jw_end(&call->w);
    call_send(call, 200);
}

void fill_latest(struct reader *reader, struct run_row *row)
{
    uint64_t     head = 0;
    struct frame last;
    if (!run_terminal((enum run_status)row->status) && !reader_head(reader, (uint64_t)row->stream, &head, &last) &&
        head > (uint64_t)row->last_seq)
        row->last_seq = (int64_t)head;
}

/* A comma list of status words. False: an issue. */
static void read_statuses(struct call *call, struct query *query)
{
    struct span list = call_query(call, "status");
    while (list.n) {
        const char     *comma = memchr(list.p, ',', list.n);
        struct span     word = { list.p, comma ? (size_t)(comma - list.p) : list.n };
        enum run_status status;
        if (!run_status_parse(word, &status)) {
            issue_add_parameter(&call->issues, "status", "enum", "%.*s is no status", SPAN_ARG(word));
            return;
        }
        if (query->in_count < RUN_STATUS_COUNT)
            query->in[query->in_count++] = status;
        query->in_column = "status";
        list = comma ? span_make(comma + 1, list.n - word.n - 1) : SPAN_NONE;
    }
}

/* An id filter that is no id names nothing: an empty list. */
static bool read_id_filter(struct call *call, struct query *query, const char *parameter, const char *column)
{
    struct span value = call_query(call, parameter);
    if (!value.p)
        return true;
    query->eq[query->eq_count].column = column;
    return uuid_parse(value, &query->eq[query->eq_count++].uuid);
}

static bool list_run(void *user, const void *row)
{
    struct call   *call = user;
    struct run_row run = *(const struct run_row *)row;
    fill_latest(call->reader, &run);
    jw_obj(&call->w);
    render_run(&call->w, &run, RENDER_LIST);
    put_position(call, &run);
    jw_end(&call->w);
    call->shown++;
    return true;
}

void runs_list(struct call *call)
{
    struct page  page = call_page(call);
    struct query query = { .table = TABLE_run, .eq_count = 1, .order_column = "id", .descending = !page.ascending,
                           .limit = page.limit, .offset = page.offset };
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    read_statuses(call, &query);
    bool known = read_id_filter(call, &query, "thread_id", "thread");
    known = read_id_filter(call, &query, "agent_id", "agent") && known;
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    call_list(call, &query, page, known, list_run);
}

/* ---- cancel, resume ---- */

void runs_cancel(struct call *call)
{
    struct uuid    id;
    struct span    reason;
    struct run_row row = { 0 };
    struct error   error = { 0 };
    bool           already = false;
    body_text(call, "reason", false, 2000, &reason);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (!call_path_uuid(call, 0, &id)) {
        call_fail(call, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
        return;
    }
    struct buf  actor = { 0 };
    const char *by = call_actor(call, &actor);
    enum err    e = run_cancel(call->api->engine, call->workspace, id, reason, span_of(by), &row, &already, &error);
    buf_done(&actor);
    if (e == ERR_INVALID_RUN_STATE)
        call_extra_str(call, "current_status", span_of(run_status_ar((enum run_status)row.status, (unsigned)row.mask)));
    if (e) {
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    jw_key(&call->w, "run_id");
    jw_uuid(&call->w, &row.id);
    jw_key(&call->w, "status");
    jw_cstr(&call->w, "cancelled");
    jw_key(&call->w, "cancelled");
    jw_bool(&call->w, true);
    jw_key(&call->w, "already_cancelled");
    jw_bool(&call->w, already);
    if (row.cancel_reason.p) {
        jw_key(&call->w, "reason");
        jw_str(&call->w, row.cancel_reason);
    }
    jw_key(&call->w, "completed_at");
    jw_time(&call->w, row.completed_ms);
    jw_end(&call->w);
    if (!already)
        call_audit_text(call, "run.cancel", "run", row.id, "reason", reason);
    call_send_committed(call, 200);
}

void runs_resume(struct call *call)
{
    struct uuid     id = { 0 }, checkpoint = { 0 };
    struct run_row  row = { 0 };
    struct error    error = { 0 };
    struct idem_use idem = { 0 };
    struct span     key = SPAN_NONE, checkpoint_text;
    struct jv       input = jv_get(call->body, "input");
    bool            known = call_path_uuid(call, 0, &id);
    bool            named = body_text(call, "checkpoint_id", false, 255, &checkpoint_text);
    if (jv_is(input, JSON_NONE))
        issue_add(&call->issues, SPAN("/input"), "required", "is required");
    if (call_invalid(call, ERR_VALIDATION))
        return;
    if (named && !uuid_parse(checkpoint_text, &checkpoint))
        memset(&checkpoint, 0xff, sizeof checkpoint); /* not an id: it names no checkpoint */
    enum err e = known ? call_idem_key(call, &key, &error) : error_set(&error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    struct span scope = arena_printf(&call->arena, "ar.resume.%.*s", SPAN_ARG(call->params[0]));
    if (!e)
        e = call_idem(call, scope.p, key, key.p ? call_canonical(call, call->body) : SPAN_NONE, &idem, &error);
    if (!e && idem.found) {
        call_send_reused(call, idem.hit.answer);
        return;
    }
    struct buf  actor = { 0 };
    const char *by = call_actor(call, &actor);
    if (!e)
        e = run_resume(call->api->engine, call->workspace, id, minified(call, input), checkpoint, span_of(by), &row,
                       &call->issues, &error);
    buf_done(&actor);
    if (e == ERR_INVALID_RUN_STATE)
        call_extra_str(call, "current_status", span_of(run_status_ar((enum run_status)row.status, (unsigned)row.mask)));
    if (e) {
        call_error(call, &error);
        return;
    }
    jw_obj(&call->w);
    render_run(&call->w, &row, 0);
    jw_end(&call->w);
    call_audit(call, call->workspace, "run.resume", "run", id, SPAN_NONE);
    if (idem.used)
        idem_put(call->api->engine, call->workspace, idem.key, idem.fingerprint, id, buf_view(&call->out));
    call_send_committed(call, 200);
}
