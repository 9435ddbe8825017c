/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - what surfaces ask of runs: create, cancel, resume, watch, follow. */
#include "base/json_schema.h"
#include "run/inner.h"
#include <stdlib.h>

const char *run_source_name(enum run_source source)
{
    static const char *const names[SOURCE_COUNT] = { "api", "wait", "batch", "cron", "rerun", "replay", "handoff", "workflow", "session" };
    assert(source < SOURCE_COUNT);
    return names[source];
}

/* ---- create ---- */

static enum err resolve_bundle(struct engine *engine, const struct run_spec *spec, struct agent **ret_agent,
                               struct bundle **ret_bundle, struct error *error)
{
    struct agent *agent = catalog_agent(engine, spec->workspace, spec->agent);
    if (!agent)
        return error_set(error, ERR_AGENT_NOT_FOUND, "/agent_id", "no such agent in this workspace");
    if (agent->row.archived_ms)
        return error_set(error, ERR_AGENT_ARCHIVED, "/agent_id", "agent %.*s is archived", SPAN_ARG(agent->row.name));
    bool pinned = !uuid_is_nil(spec->bundle);
    if (!pinned && uuid_is_nil(agent->row.live_bundle))
        return error_set(error, ERR_NO_LIVE_BUNDLE, "/agent_id", "agent %.*s has no published bundle", SPAN_ARG(agent->row.name));
    struct bundle *bundle = catalog_bundle(engine, spec->workspace, pinned ? spec->bundle : agent->row.live_bundle);
    if (!bundle)
        return error_set(error, ERR_BUNDLE_NOT_FOUND, "/bundle_id", "no such bundle in this workspace");
    if (!uuid_eq(bundle->row.agent, agent->row.id))
        return error_set(error, ERR_BUNDLE_MISMATCH, "/bundle_id", "the bundle belongs to another agent");
    *ret_agent = agent;
    *ret_bundle = bundle;
    return ERR_OK;
}

static enum err check_thread(struct engine *engine, const struct run_spec *spec, struct error *error)
{
    if (spec->thread_choice != THREAD_GIVEN)
        return ERR_OK;
    struct thread *thread = thread_get(engine, spec->workspace, spec->thread);
    if (!thread)
        return error_set(error, ERR_THREAD_NOT_FOUND, "/thread/thread_id", "no such thread in this workspace");
    bool full = thread->pending_count >= engine->config.thread_queue_max;
    thread_unref(thread);
    if (full)
        return error_set(error, ERR_THREAD_QUEUE_FULL, "/thread/thread_id", "%u runs are already waiting on this thread",
                         engine->config.thread_queue_max);
    return ERR_OK;
}

enum err run_check(struct engine *engine, const struct run_spec *spec, struct error *error)
{
    struct agent  *agent;
    struct bundle *bundle;
    enum err       e = engine_ready(engine, error);
    if (!e)
        e = resolve_bundle(engine, spec, &agent, &bundle, error);
    return e ? e : check_thread(engine, spec, error);
}

enum err run_create(struct engine *engine, const struct run_spec *spec, struct run_row *ret_row, struct error *error)
{
    struct agent  *agent;
    struct bundle *bundle = NULL;
    enum err       e = run_check(engine, spec, error);
    if (!e)
        e = resolve_bundle(engine, spec, &agent, &bundle, error);
    if (e)
        return e;
    assert(bundle);
    struct thread *thread = spec->thread_choice == THREAD_GIVEN
                                ? thread_get(engine, spec->workspace, spec->thread)
                                : thread_make(engine, spec->tenant, spec->workspace, spec->agent, spec->thread_choice == THREAD_IMPLICIT);
    int64_t now = engine_now_ms(engine);
    struct run_row row = { .workspace = spec->workspace, .id = engine_mint(engine), .tenant = spec->tenant, .thread = thread->row.id,
                           .agent = spec->agent, .bundle = bundle->row.id, .version = bundle->row.version, .plan = bundle->row.plan,
                           .status = RUN_QUEUED, .source = spec->source, .pinned = !uuid_is_nil(spec->bundle),
                           .stream = (int64_t)engine_new_stream(engine), .attempt = engine_mint(engine), .attempt_no = 1,
                           .input = redact_json(engine->config.redact, spec->input, &engine->turn), .created_ms = now,
                           .updated_ms = now, .root_operation = spec->root_operation, .parent_operation = spec->parent_operation,
                           .parent_run = spec->parent_run, .parent_op = spec->parent_op, .rerun_of = spec->rerun_of };
    if (uuid_is_nil(row.root_operation))
        row.root_operation = operation_id(row.id, row.attempt, 0);
    struct run *run = run_new(engine, &row);
    if (thread_enter(thread, run))
        run_ready(run);
    else
        run->row.status = RUN_PENDING;
    if (uuid_is_nil(thread->row.agent))
        thread->row.agent = spec->agent;
    thread_dirty(thread);
    thread_unref(thread); /* the run holds it */
    run->row_stale = true;
    run_dirty(run);
    engine->stats.runs_created++;
    engine->stats.by_status[run->row.status]++;
    engine->stats.now[run->row.status]++;
    run_row_view(run, ret_row);
    return ERR_OK;
}

/* ---- cancel, resume ---- */

static bool answer_fits(struct engine *engine, const struct open_wait *wait, struct span input, struct issues *issues);
static struct span answer_of(struct engine *engine, const struct open_wait *wait, struct span input);

enum err run_cancel(struct engine *engine, struct uuid workspace, struct uuid id, struct span reason, struct span by,
                    struct run_row *ret_row, bool *ret_already, struct error *error)
{
    struct run *run = NULL;
    enum err    e = engine_ready(engine, error);
    if (!e)
        e = run_load(engine, workspace, id, &run, ret_row, error);
    *ret_already = e == ERR_INVALID_RUN_STATE && ret_row->status == RUN_CANCELLED;
    if (*ret_already)
        return ERR_OK;
    if (e == ERR_INVALID_RUN_STATE)
        return error_set(error, e, "", "the run is %s", run_status_ar((enum run_status)ret_row->status, 0));
    if (e)
        return e;
    run_cancel_now(run, reason, by);
    run_row_view(run, ret_row);
    return ERR_OK;
}

enum err run_resume(struct engine *engine, struct uuid workspace, struct uuid id, struct span input, struct uuid checkpoint,
                    struct span by, struct run_row *ret_row, struct issues *issues, struct error *error)
{
    struct run *run = NULL;
    enum err    e = engine_ready(engine, error);
    if (!e)
        e = run_load(engine, workspace, id, &run, ret_row, error);
    if (!e && run->inbox)
        run_turn(run);
    if (!e && (run->gone || run->row.status != RUN_WAITING || !wait_first_person(run))) {
        run_row_view(run, ret_row);
        e = ERR_INVALID_RUN_STATE;
    }
    if (e == ERR_INVALID_RUN_STATE)
        return error_set(error, e, "", "the run is %s, not waiting_for_human",
                         run_status_ar((enum run_status)ret_row->status, (unsigned)ret_row->mask));
    if (e)
        return e;
    struct open_wait *wait = run->waits;
    while (wait && (wait->row.kind == WAIT_TOOLS ||
                    (!uuid_is_nil(checkpoint) &&
                     !uuid_eq(checkpoint_id(run->row.attempt, (uint64_t)wait->row.checkpoint_seq), checkpoint))))
        wait = wait->next;
    if (!wait) {
        run_row_view(run, ret_row);
        return error_set(error, ERR_INVALID_RUN_STATE, "/checkpoint_id", "the run is not paused at this checkpoint");
    }
    if (!answer_fits(engine, wait, input, issues))
        return error_set(error, ERR_VALIDATION, "", "the answer does not fit the prompt's schema");
    struct pending_input in = { .kind = IN_ANSWER, .path = wait->path, .op = (uint32_t)wait->row.op, .by = by,
                                .value = answer_of(engine, wait, input), .node = wait->row.node, .wait = wait->row.id };
    run_answer(run, &in, ret_row);
    return ERR_OK;
}

static bool is_blank(struct span text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!strchr(" \t\r\n", text.p[i]))
            return false;
    return true;
}

/* A plain text that answers a question is what clients send as an object (model.md 6.3). */
static struct span answer_of(struct engine *engine, const struct open_wait *wait, struct span input)
{
    if (wait->row.kind != WAIT_ASK || !jv_is(json_read(input, &engine->turn), JSON_STRING))
        return input;
    return arena_printf(&engine->turn, "{\"answer\":%.*s,\"is_freeform\":true}", SPAN_ARG(input));
}

static bool answer_fits(struct engine *engine, const struct open_wait *wait, struct span input, struct issues *issues)
{
    struct jv  said = json_read(input, &engine->turn);
    struct buf at = { 0 };
    BUF_LIT(&at, "/input");
    if (wait->row.kind == WAIT_ASK) {
        struct jv text = jv_is(said, JSON_OBJECT) ? jv_get(said, "answer") : said;
        if (jv_is(text, JSON_STRING) && is_blank(jv_string(text, &engine->turn))) {
            issue_add(issues, buf_view(&at), "range", "must not be blank");
            buf_done(&at);
            return false;
        }
    }
    if (!wait->row.schema_json.n) {
        buf_done(&at);
        return true;
    }
    bool fits = json_schema_fits(json_read(wait->row.schema_json, &engine->turn), said, &at, issues);
    if (fits && wait->row.kind == WAIT_BUDGET && !money_raise_fits(said, &engine->turn)) {
        issue_add(issues, SPAN("/input/raise"), "range", "must be an amount above 0, with at most 12 decimals");
        fits = false;
    }
    buf_done(&at);
    return fits;
}

static struct open_wait *find_wait(const struct run *run, struct uuid id)
{
    struct open_wait *wait = run->waits;
    while (wait && !uuid_eq(wait->row.id, id))
        wait = wait->next;
    return wait;
}

static enum err not_open(const struct wait_row *wait, struct error *error)
{
    return error_set(error, ERR_INVALID_RUN_STATE, "", "the approval is not pending%s%s", wait->status ? ": it is " : "",
                     wait->status ? wait_status_name((enum wait_status)wait->status) : "");
}

enum err wait_decide(struct engine *engine, const struct wait_answer *answer, struct wait_row *ret_wait, struct run_row *ret_run,
                     struct issues *issues, struct error *error)
{
    struct run *run = NULL;
    enum err    e = engine_ready(engine, error);
    if (e)
        return e;
    *ret_wait = (struct wait_row){ .id = answer->wait };
    if (engine_read_begin(engine))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    e = reader_get(engine_reader(engine), TABLE_wait, ret_wait); /* its spans live in the turn's arena */
    engine_read_end(engine);
    if (e == ERR_NOT_FOUND || (!e && (!uuid_eq(ret_wait->workspace, answer->workspace) || ret_wait->kind == WAIT_TOOLS)))
        return error_set(error, ERR_APPROVAL_NOT_FOUND, "", "no such approval in this workspace");
    if (e)
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    if (ret_wait->status != WAIT_OPEN) {
        (void)run_row_get(engine, answer->workspace, ret_wait->run, &engine->turn, ret_run);
        return not_open(ret_wait, error);
    }
    e = run_load(engine, answer->workspace, ret_wait->run, &run, ret_run, error);
    if (!e && run->inbox)
        run_turn(run);
    struct open_wait *wait = !e && !run->gone ? find_wait(run, answer->wait) : NULL;
    if (!e && !wait)
        run_row_view(run, ret_run);
    if (!wait)
        return e && e != ERR_INVALID_RUN_STATE ? e : not_open(ret_wait, error);
    struct pending_input in = { .kind = IN_ANSWER, .path = wait->path, .op = (uint32_t)wait->row.op, .by = answer->by,
                                .value = answer->reject ? answer->input : answer_of(engine, wait, answer->input),
                                .node = wait->row.node, .wait = wait->row.id, .rejected = answer->reject };
    if (!answer->reject && !answer_fits(engine, wait, answer->input, issues))
        return error_set(error, ERR_VALIDATION, "", "the answer does not fit the prompt's schema");
    ret_wait->status = answer->reject ? WAIT_REJECTED : WAIT_APPROVED;
    ret_wait->answer = arena_copy(&engine->turn, in.value);
    ret_wait->decided_by = arena_copy(&engine->turn, answer->by);
    ret_wait->decided_ms = engine_now_ms(engine);
    run_answer(run, &in, ret_run);
    return ERR_OK;
}

/* ---- watching ---- */

static void watch_now(struct engine *engine, const struct run_row *row, struct watch *watch);

uint64_t run_watch(struct engine *engine, struct uuid workspace, struct uuid id,
                   void (*done)(void *user, const struct run_row *row), void *user)
{
    struct run    *run = uuid_map_get(&engine->runs, id);
    struct run_row row;
    if (run && !uuid_eq(run->row.workspace, workspace))
        return 0;
    if (run)
        row = run->row;
    else if (run_row_get(engine, workspace, id, &engine->turn, &row))
        return 0;
    struct watch *watch = mem_alloc(sizeof *watch);
    *watch = (struct watch){ .engine = engine, .ticket = ++engine->next_ticket, .done = done, .user = user };
    u64_map_put(&engine->watches, watch->ticket, watch);
    if (!run || run->gone || (row.status == RUN_WAITING && row.mask & MASK_PERSON)) {
        watch_now(engine, &row, watch);
    } else {
        watch->run = run;
        watch->next = run->watches;
        run->watches = watch;
    }
    return watch->ticket;
}

struct watched {
    struct watch  *watch;
    struct run_row row;
    struct arena   arena;
};

static void watched_done(void *arg, enum err err)
{
    struct watched *now = arg;
    if (now->watch->done)
        now->watch->done(now->watch->user, err ? NULL : &now->row);
    u64_map_del(&now->watch->engine->watches, now->watch->ticket);
    free(now->watch);
    arena_done(&now->arena);
    free(now);
}

/* What it waits for has happened: tell after the turn's commit, like everybody else. */
static void watch_now(struct engine *engine, const struct run_row *row, struct watch *watch)
{
    struct watched *now = mem_alloc(sizeof *now);
    now->watch = watch;
    now->row = *row;
    run_texts_copy(&now->arena, &now->row);
    engine_after(engine, watched_done, now);
}

void run_watches_fire(struct run *run)
{
    while (run->watches) {
        struct watch *watch = run->watches;
        run->watches = watch->next;
        watch->run = NULL;
        struct run_row row = run->row;
        row.last_seq = (int64_t)stream_head(run->stream);
        watch_now(run->engine, &row, watch);
    }
}

void run_unwatch(struct engine *engine, uint64_t ticket)
{
    struct watch *watch = u64_map_get(&engine->watches, ticket);
    if (!watch)
        return;
    if (!watch->run) { /* on its way */
        watch->done = NULL;
        return;
    }
    for (struct watch **p = &watch->run->watches; *p; p = &(*p)->next)
        if (*p == watch) {
            *p = watch->next;
            break;
        }
    u64_map_del(&engine->watches, ticket);
    free(watch);
}

/* ---- reading ---- */

enum err run_row_get(struct engine *engine, struct uuid workspace, struct uuid id, struct arena *arena, struct run_row *ret)
{
    struct reader *reader = engine_reader(engine);
    ret->workspace = workspace;
    ret->id = id;
    enum err e = reader_begin(reader, arena);
    if (e)
        return e;
    e = reader_get(reader, TABLE_run, ret);
    uint64_t     head = 0;
    struct frame last;
    if (!e && !run_terminal((enum run_status)ret->status) && !reader_head(reader, (uint64_t)ret->stream, &head, &last) &&
        head > (uint64_t)ret->last_seq)
        ret->last_seq = (int64_t)head;
    reader_end(reader);
    return e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : e;
}

enum err attempt_open(struct engine *engine, struct uuid workspace, struct uuid run, struct uuid attempt, struct attempt_place *ret,
                      struct error *error)
{
    struct arena   arena = { 0 };
    struct reader *reader = engine_reader(engine);
    struct run_row row = { .workspace = workspace, .id = run };
    enum err       e = reader_begin(reader, &arena);
    if (e)
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    struct attempt_find found = { 0 };
    e = attempt_read(reader, &row, attempt, &found, error);
    if (!e) {
        struct stream_place place;
        e = stream_place_read(reader, found.stream, &place);
        if (!e) {
            if (!place.last_ms)
                place.last_ms = row.created_ms;
            *ret = (struct attempt_place){ .run = run, .attempt = attempt, .attempt_no = found.no, .root_operation = row.root_operation,
                                           .parent_operation = row.parent_operation,
                                           .stream = stream_open(engine->ledger, found.stream, &place) };
        }
    }
    reader_end(reader);
    arena_done(&arena);
    return e;
}

static enum err expired(struct error *error)
{
    return error_set(error, ERR_LEDGER_EXPIRED, "", "the events of this attempt were removed by retention");
}

enum err attempt_read(struct reader *reader, struct run_row *row, struct uuid attempt, struct attempt_find *ret, struct error *error)
{
    enum err e = reader_get(reader, TABLE_run, row);
    if (e == ERR_NOT_FOUND)
        return error_set(error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    if (e)
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    if (uuid_eq(row->attempt, attempt)) {
        if (!row->stream)
            return expired(error);
        *ret = (struct attempt_find){ (uint64_t)row->stream, (uint32_t)row->attempt_no };
        return ERR_OK;
    }
    for (int64_t no = 1; no < row->attempt_no; no++) {
        struct attempt_row old = { .run = row->id, .no = no };
        if (!reader_get(reader, TABLE_attempt, &old) && uuid_eq(old.id, attempt)) {
            if (!old.stream)
                return expired(error);
            *ret = (struct attempt_find){ (uint64_t)old.stream, (uint32_t)no };
            return ERR_OK;
        }
    }
    return error_set(error, ERR_ATTEMPT_NOT_FOUND, "attemptId", "the run has no such attempt");
}
