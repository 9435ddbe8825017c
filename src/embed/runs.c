/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - runs of an embedded engine: start, wait, look, cancel, answer. */
#include "api/agent_runs/render.h"
#include "api/agent_runs/routes.h"
#include "embed/engine.h"

static const char ACTOR[] = "embedder";

#define LOOK_US (UINT64_C(500) * 1000)

/* ---- start ---- */

struct start_ask {
    struct ask     ask;
    struct jv      definition; /* NONE: of an agent */
    struct run_spec spec;
    struct span    key;
    struct sha256  fingerprint;
    struct uuid    run;
};

static enum err inline_bundle(struct start_ask *s)
{
    struct engine *engine = s->ask.engine->parts.engine;
    struct sha256  plan;
    enum err       e = catalog_inline(engine, s->spec.tenant, s->spec.workspace, s->definition, &plan, &s->ask.issues);
    if (e)
        return error_set(&s->ask.error, e, "", "the definition cannot be compiled");
    s->spec.agent = inline_agent_id(s->spec.workspace);
    s->spec.bundle = catalog_inline_bundle(engine, s->spec.workspace, &plan)->row.id;
    return ERR_OK;
}

/* ERR_OK with a run: it is the one that this key made before. */
static enum err look_for_key(struct start_ask *s, struct sha256 *ret_key)
{
    struct idem_hit hit;
    if (!s->key.p)
        return ERR_OK;
    *ret_key = idem_key(s->spec.workspace, "embed.runs", s->key);
    if (!idem_get(s->ask.engine->parts.engine, *ret_key, &s->ask.arena, &hit))
        return ERR_OK;
    if (memcmp(hit.fingerprint.b, s->fingerprint.b, sizeof hit.fingerprint.b) != 0)
        return error_set(&s->ask.error, ERR_IDEM_REUSED, "key", "the key was used for another run");
    s->run = hit.target;
    return ERR_OK;
}

static void start_begin(struct ask *ask)
{
    struct start_ask *s = CONTAINER(ask, struct start_ask, ask);
    struct engine    *engine = ask->engine->parts.engine;
    struct sha256     key;
    struct run_row    row;
    s->spec.tenant = ask->engine->tenant;
    s->spec.workspace = ask->engine->workspace;
    enum err e = engine_ready(engine, &ask->error);
    if (!e)
        e = look_for_key(s, &key);
    if (!e && uuid_is_nil(s->run) && !jv_is(s->definition, JSON_NONE))
        e = inline_bundle(s);
    if (!e && uuid_is_nil(s->run)) {
        e = run_create(engine, &s->spec, &row, &ask->error);
        if (!e)
            s->run = row.id;
        if (!e && s->key.p)
            idem_put(engine, s->spec.workspace, key, s->fingerprint, row.id, SPAN("{}"));
    }
    if (e)
        ask_end(ask, e);
    else
        ask_end_committed(ask);
}

static void fingerprint(const struct pd_run_config *config, struct sha256 *ret)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    const char *const parts[] = { config->definition, config->agent, config->input, config->thread };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buf_byte(&text, parts[i] ? '+' : '-');
        buf_put(&text, parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) + 1 : 1);
    }
    *ret = sha256_of(buf_view(&text));
}

static bool take_what(const struct pd_run_config *config, struct start_ask *s, struct pd_error *error, int *ret_code)
{
    if (!config->definition == !config->agent) {
        *ret_code = refuse(error, ERR_VALIDATION, "definition", "give a definition or an agent, one of the two");
        return false;
    }
    if (config->definition)
        return take_json(config->definition, "definition", &s->ask.arena, &s->definition, error, ret_code);
    return take_id(config->agent, "agent", ERR_AGENT_NOT_FOUND, &s->spec.agent, error, ret_code);
}

static bool take_input(const char *text, const char *name, struct arena *arena, struct span *ret, struct pd_error *error, int *ret_code)
{
    CLEANUP(buf_done) struct buf small = { 0 };
    struct jv input;
    if (!take_json(text, name, arena, &input, error, ret_code))
        return false;
    json_minify(input, &small);
    *ret = arena_copy(arena, buf_view(&small));
    return true;
}

static bool take_run(const struct pd_run_config *config, struct start_ask *s, struct pd_error *error, int *ret_code)
{
    size_t key = config->key ? strnlen(config->key, 256) : 0;
    s->spec.source = SOURCE_API;
    if (!take_what(config, s, error, ret_code) ||
        (config->input && !take_input(config->input, "input", &s->ask.arena, &s->spec.input, error, ret_code)))
        return false;
    s->spec.thread_choice = config->thread ? THREAD_GIVEN : THREAD_IMPLICIT;
    if (config->thread && !take_id(config->thread, "thread", ERR_THREAD_NOT_FOUND, &s->spec.thread, error, ret_code))
        return false;
    if (config->key && (key < 1 || key > 255)) {
        *ret_code = refuse(error, ERR_VALIDATION, "key", "has 1 to 255 bytes");
        return false;
    }
    if (config->key) {
        s->key = span_make(config->key, key);
        fingerprint(config, &s->fingerprint);
    }
    return true;
}

int pd_run_start(struct pd_engine *engine, const struct pd_run_config *config, char ret_run[PD_ID_SIZE], struct pd_error *error)
{
    struct pd_run_config want = PD_RUN_CONFIG_INIT;
    struct start_ask     s = { .definition = { 0 } };
    int                  code = PD_OK;
    if (!config || config->size < offsetof(struct pd_run_config, agent))
        return refuse(error, ERR_VALIDATION, "size", "the configuration has no size: begin with PD_RUN_CONFIG_INIT");
    memcpy(&want, config, config->size < sizeof want ? config->size : sizeof want);
    ask_init(&s.ask, start_begin);
    if (!take_run(&want, &s, error, &code)) {
        ask_done(&s.ask);
        return code;
    }
    ask_wait(&s.ask, engine);
    code = give_ask(&s.ask, error);
    if (code)
        return code;
    uuid_format(s.run, ret_run);
    ret_run[UUID_TEXT] = '\0';
    return PD_OK;
}

/* ---- wait ---- */

struct wait_ask {
    struct ask        ask;
    struct uuid       run;
    int64_t           timeout_ms;
    uint64_t          ticket, until_us;
    struct loop_timer timer;
    int               status;
};

/* In the order of the engine's own statuses. */
static int status_of(const struct run_row *row)
{
    switch ((enum run_status)row->status) {
    case RUN_PENDING:   return PD_PENDING;
    case RUN_QUEUED:    return PD_QUEUED;
    case RUN_WAITING:   return PD_WAITING;
    case RUN_COMPLETED: return PD_COMPLETED;
    case RUN_FAILED:    return PD_FAILED;
    case RUN_CANCELLED: return PD_CANCELLED;
    default:            return PD_RUNNING;
    }
}

const char *pd_status_name(int status)
{
    static const char *const names[] = { "pending", "queued", "running", "waiting", "completed", "failed", "cancelled" };
    return status >= 0 && status < (int)ARRAY_LEN(names) ? names[status] : NULL;
}

static void wait_seen(void *user, const struct run_row *row)
{
    struct wait_ask *w = user;
    loop_timer_clear(&w->timer);
    if (row) {
        w->status = status_of(row);
        ask_end(&w->ask, ERR_OK);
    } else {
        ask_end(&w->ask, error_set(&w->ask.error, ERR_STORAGE, "", "the store has failed"));
    }
}

/* As it is on disk: does it wait for a person, or is it over? */
static bool wait_is_over(struct wait_ask *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct run_row row;
    if (run_row_get(w->ask.engine->parts.engine, w->ask.engine->workspace, w->run, &arena, &row))
        return false;
    w->status = status_of(&row);
    return run_terminal((enum run_status)row.status) || (row.status == RUN_WAITING && row.mask & MASK_PERSON);
}

/* Also looks now and then whether the store has failed: then nothing would come any more. */
static void wait_tick(struct loop_timer *timer)
{
    struct wait_ask *w = CONTAINER(timer, struct wait_ask, timer);
    struct engine   *engine = w->ask.engine->parts.engine;
    uint64_t         now = loop_now_us(w->ask.engine->parts.loop);
    enum err         e = engine_ready(engine, &w->ask.error);
    if (!e && now < w->until_us) {
        loop_timer_set(timer, w->until_us - now < LOOK_US ? w->until_us : now + LOOK_US);
        return;
    }
    run_unwatch(engine, w->ticket);
    ask_end(&w->ask, e ? e : wait_is_over(w) ? ERR_OK : ERR_TIMEOUT);
}

static void wait_begin(struct ask *ask)
{
    struct wait_ask *w = CONTAINER(ask, struct wait_ask, ask);
    struct loop     *loop = ask->engine->parts.loop;
    enum err         e = engine_ready(ask->engine->parts.engine, &ask->error);
    loop_timer_init(&w->timer, loop, wait_tick);
    if (!e) {
        w->ticket = run_watch(ask->engine->parts.engine, ask->engine->workspace, w->run, wait_seen, w);
        if (!w->ticket)
            e = error_set(&ask->error, ERR_RUN_NOT_FOUND, "run", "no such run");
    }
    if (e) {
        ask_end(ask, e);
        return;
    }
    w->until_us = w->timeout_ms < 0 ? UINT64_MAX : loop_now_us(loop) + (uint64_t)w->timeout_ms * 1000;
    wait_tick(&w->timer);
}

static void wait_give_up(struct ask *ask)
{
    struct wait_ask *w = CONTAINER(ask, struct wait_ask, ask);
    loop_timer_clear(&w->timer);
    run_unwatch(ask->engine->parts.engine, w->ticket);
}

int pd_run_wait(struct pd_engine *engine, const char *run, int64_t timeout_ms, int *ret_status, struct pd_error *error)
{
    enum { LONG_MS = INT32_MAX };
    struct wait_ask w = { .timeout_ms = timeout_ms > LONG_MS ? LONG_MS : timeout_ms };
    int             code = PD_OK;
    if (!take_id(run, "run", ERR_RUN_NOT_FOUND, &w.run, error, &code))
        return code;
    ask_init(&w.ask, wait_begin);
    w.ask.give_up = wait_give_up;
    ask_wait(&w.ask, engine);
    code = give_ask(&w.ask, error);
    if (code == PD_OK)
        *ret_status = w.status;
    return code;
}

/* ---- look ---- */

struct look_ask {
    struct ask  ask;
    struct uuid run;
    bool        output;
    struct buf  text;
};

static enum err look_read(struct ask *ask, struct reader *reader)
{
    struct look_ask *l = CONTAINER(ask, struct look_ask, ask);
    struct run_row   row = { .workspace = ask->engine->workspace, .id = l->run };
    enum err         e = reader_get(reader, TABLE_run, &row);
    if (e)
        return error_set(&ask->error, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : ERR_STORAGE, "run", "no such run");
    if (l->output && row.status != RUN_COMPLETED)
        return error_set(&ask->error, ERR_INVALID_RUN_STATE, "run", "the run is %s", pd_status_name(status_of(&row)));
    struct jw w = jw_on(&l->text);
    fill_latest(reader, &row);
    if (l->output) {
        jw_raw(&w, row.output);
        return ERR_OK;
    }
    jw_obj(&w);
    render_run(&w, &row, 0);
    render_spend(&w, reader, row.workspace, SPEND_RUN, row.id);
    jw_end(&w);
    return ERR_OK;
}

static int look(struct pd_engine *engine, const char *run, bool output, char **ret_json, struct pd_error *error)
{
    struct look_ask l = { .output = output };
    int             code = PD_OK;
    if (!take_id(run, "run", ERR_RUN_NOT_FOUND, &l.run, error, &code))
        return code;
    ask_init(&l.ask, ask_read);
    l.ask.read = look_read;
    ask_wait(&l.ask, engine);
    code = give_ask(&l.ask, error);
    if (code == PD_OK)
        *ret_json = give_text(&l.text);
    buf_done(&l.text);
    return code;
}

int pd_run_get(struct pd_engine *engine, const char *run, char **ret_json, struct pd_error *error)
{
    return look(engine, run, false, ret_json, error);
}

int pd_run_output(struct pd_engine *engine, const char *run, char **ret_json, struct pd_error *error)
{
    return look(engine, run, true, ret_json, error);
}

/* ---- steer ---- */

struct steer_ask {
    struct ask  ask;
    struct uuid run, approval;
    struct span input; /* or the reason of a cancel */
};

static void cancel_begin(struct ask *ask)
{
    struct steer_ask *s = CONTAINER(ask, struct steer_ask, ask);
    struct run_row    row = { 0 };
    bool              already = false;
    enum err          e = run_cancel(ask->engine->parts.engine, ask->engine->workspace, s->run, s->input, span_of(ACTOR), &row, &already,
                                     &ask->error);
    if (e)
        ask_end(ask, e);
    else
        ask_end_committed(ask);
}

int pd_run_cancel(struct pd_engine *engine, const char *run, const char *reason, struct pd_error *error)
{
    struct steer_ask s = { .input = reason ? span_of(reason) : SPAN_NONE };
    int              code = PD_OK;
    if (!take_id(run, "run", ERR_RUN_NOT_FOUND, &s.run, error, &code))
        return code;
    if (s.input.n > 2000)
        return refuse(error, ERR_VALIDATION, "reason", "has at most 2000 bytes");
    ask_init(&s.ask, cancel_begin);
    ask_wait(&s.ask, engine);
    return give_ask(&s.ask, error);
}

static void answer_begin(struct ask *ask)
{
    struct steer_ask  *s = CONTAINER(ask, struct steer_ask, ask);
    struct engine     *engine = ask->engine->parts.engine;
    struct wait_answer answer = { .workspace = ask->engine->workspace, .wait = s->approval, .input = s->input, .by = span_of(ACTOR) };
    struct wait_row    wait = { 0 };
    struct run_row     row = { 0 };
    enum err           e = ERR_OK;
    if (uuid_is_nil(s->approval))
        e = run_resume(engine, answer.workspace, s->run, s->input, s->approval, answer.by, &row, &ask->issues, &ask->error);
    else
        e = wait_decide(engine, &answer, &wait, &row, &ask->issues, &ask->error);
    if (e)
        ask_end(ask, e);
    else
        ask_end_committed(ask);
}

int pd_run_answer(struct pd_engine *engine, const char *run, const char *approval, const char *input, struct pd_error *error)
{
    struct steer_ask s = { .run = { { 0 } } };
    int              code = PD_OK;
    ask_init(&s.ask, answer_begin);
    if (!take_id(run, "run", ERR_RUN_NOT_FOUND, &s.run, error, &code) ||
        (approval && !take_id(approval, "approval", ERR_APPROVAL_NOT_FOUND, &s.approval, error, &code)) ||
        !take_input(input, "input", &s.ask.arena, &s.input, error, &code)) {
        ask_done(&s.ask);
        return code;
    }
    ask_wait(&s.ask, engine);
    return give_ask(&s.ask, error);
}
