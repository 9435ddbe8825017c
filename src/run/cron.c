/* SPDX-License-Identifier: Apache-2.0 */
/* cron.c - runs that begin by the clock (agent-runs.md 9).
 *
 * All crons are in RAM with the instant at which each is due next, and one timer serves them. A due minute is dealt with in one
 * commit: the run, the key cron:<id>:<minute> that lets it happen once, and the row that remembers the minute. Whatever kept
 * the timer from firing (the process was down, the machine slept, the clock jumped), of all that was missed only the latest
 * minute runs. */
#include "base/schedule.h"
#include "run/inner.h"
#include <stdio.h>
#include <stdlib.h>

enum { LOOK_AGAIN_MS = 30000 }; /* the wall clock may be set; the timer's clock does not notice */

struct cron {
    struct cron_row    row;
    struct arena       arena; /* of the row's spans and the config's */
    struct cron_config config;
    struct schedule    schedule;
    struct tz         *tz;
    int64_t            next_ms; /* 0: never */
    char               why[256]; /* row.error, of this life */
};

/* ---- what it says ---- */

static void wrong(struct issues *issues, const char *pointer, const char *code, const char *message)
{
    if (issues)
        issue_add(issues, span_of(pointer), code, "%s", message);
}

static struct span member_text(struct jv config, const char *name, const char *pointer, size_t max, struct arena *arena,
                               struct issues *issues)
{
    struct jv v = jv_get(config, name);
    if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL))
        return SPAN_NONE;
    struct span text = jv_string(v, arena);
    if (!jv_is(v, JSON_STRING))
        wrong(issues, pointer, "type", "must be a string");
    else if (text.n > max)
        wrong(issues, pointer, "max_length", "is too long");
    else
        return text.p ? text : SPAN("");
    return SPAN_NONE;
}

/* What is no id names nothing, like an id that nothing has (agent-runs.md 2.2). */
static void read_id(struct jv config, const char *name, const char *pointer, struct arena *arena, struct uuid *ret, struct issues *issues)
{
    struct span text = member_text(config, name, pointer, 255, arena, issues);
    if (text.p && !uuid_parse(text, ret))
        memset(ret, 0xff, sizeof *ret);
}

static void read_thread(struct jv config, struct arena *arena, struct run_spec *spec, struct issues *issues)
{
    struct jv thread = jv_get(config, "thread"), id = jv_get(thread, "thread_id"), fresh = jv_get(thread, "new_thread");
    if (jv_is(thread, JSON_NONE) || jv_is(thread, JSON_NULL))
        return;
    if (!jv_is(thread, JSON_OBJECT)) {
        wrong(issues, "/thread", "type", "must be an object");
    } else if (!jv_is(fresh, JSON_NONE)) {
        spec->thread_choice = THREAD_NEW;
        if (!jv_is(fresh, JSON_TRUE) || !jv_is(id, JSON_NONE))
            wrong(issues, "/thread", "exclusive", "takes thread_id, or new_thread as true");
    } else if (!jv_is(id, JSON_NONE)) {
        spec->thread_choice = THREAD_GIVEN;
        read_id(thread, "thread_id", "/thread/thread_id", arena, &spec->thread, issues);
    }
}

static void check_times(const struct cron_config *config, struct issues *issues)
{
    struct schedule schedule;
    struct tz      *tz = NULL;
    const char     *why = "is required";
    if (!config->schedule.p)
        wrong(issues, "/schedule", "required", why);
    else if (!schedule_parse(config->schedule, &schedule, &why))
        wrong(issues, "/schedule", "format", why);
    if (tz_open(TZ_FOLDER, config->timezone, &tz))
        wrong(issues, "/timezone", "unknown", "is no time zone of the IANA database");
    tz_free(tz);
}

void cron_read(struct jv config, struct arena *arena, struct cron_config *ret, struct issues *issues)
{
    struct jv   input = jv_get(config, "input"), enabled = jv_get(config, "enabled");
    struct span end = member_text(config, "end_time", "/end_time", 64, arena, issues);
    *ret = (struct cron_config){ .run = { .source = SOURCE_CRON }, .enabled = jv_bool(enabled, true) };
    if (jv_is(jv_get(config, "agent_id"), JSON_NONE))
        wrong(issues, "/agent_id", "required", "is required");
    read_id(config, "agent_id", "/agent_id", arena, &ret->run.agent, issues);
    read_id(config, "bundle_id", "/bundle_id", arena, &ret->run.bundle, issues);
    read_thread(config, arena, &ret->run, issues);
    ret->run.input = jv_is(input, JSON_NONE) ? SPAN_NONE : jv_raw(input);
    ret->schedule = member_text(config, "schedule", "/schedule", 255, arena, issues);
    ret->timezone = member_text(config, "timezone", "/timezone", 64, arena, issues);
    if (!ret->timezone.p)
        ret->timezone = SPAN("UTC");
    if (!jv_is(enabled, JSON_NONE) && !jv_is(enabled, JSON_NULL) && !jv_is(enabled, JSON_TRUE) && !jv_is(enabled, JSON_FALSE))
        wrong(issues, "/enabled", "type", "must be true or false");
    if (end.p && !time_parse(end, &ret->end_ms))
        wrong(issues, "/end_time", "format", "must be an RFC 3339 time");
    if (issues)
        check_times(ret, issues);
}

/* ---- when ---- */

static int64_t next_ms(const struct cron_config *config, const struct schedule *schedule, const struct tz *tz, int64_t after_ms)
{
    int64_t at;
    if (!config->enabled || !schedule_next(schedule, tz, after_ms / 1000, &at))
        return 0;
    return config->end_ms && at * 1000 >= config->end_ms ? 0 : at * 1000;
}

int64_t cron_next_ms(const struct cron_row *row, int64_t after_ms)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct cron_config config;
    struct schedule    schedule;
    const char        *why;
    struct tz         *tz = NULL;
    int64_t            next = 0;
    cron_read(json_read(row->config, &arena), &arena, &config, NULL);
    if (schedule_parse(config.schedule, &schedule, &why) && !tz_open(TZ_FOLDER, config.timezone, &tz))
        next = next_ms(&config, &schedule, tz, after_ms);
    tz_free(tz);
    return next;
}

/* ---- in RAM ---- */

static void cron_free(struct cron *cron)
{
    if (!cron)
        return;
    tz_free(cron->tz);
    arena_done(&cron->arena);
    free(cron);
}

/* A row whose zone has gone from the system's database is kept and never due. */
static struct cron *cron_new(const struct cron_row *row)
{
    struct cron *cron = mem_alloc(sizeof *cron);
    const char  *why;
    cron->row = *row;
    cron->row.config = arena_copy(&cron->arena, row->config);
    cron->row.error = row->error.p ? arena_copy(&cron->arena, row->error) : SPAN_NONE;
    cron_read(json_read(cron->row.config, &cron->arena), &cron->arena, &cron->config, NULL);
    cron->config.run.tenant = row->tenant;
    cron->config.run.workspace = row->workspace;
    if (!schedule_parse(cron->config.schedule, &cron->schedule, &why) || tz_open(TZ_FOLDER, cron->config.timezone, &cron->tz))
        cron->config.enabled = false;
    return cron;
}

static void set_timer(struct engine *engine)
{
    int64_t      now = engine_now_ms(engine), wait = LOOK_AGAIN_MS;
    struct cron *cron;
    for (size_t i = 0; (cron = uuid_map_next(&engine->crons, &i));)
        if (cron->next_ms && cron->next_ms - now < wait)
            wait = cron->next_ms > now ? cron->next_ms - now : 0;
    loop_timer_set(&engine->cron_timer, engine->env->mono_us(engine->env) + (uint64_t)wait * 1000);
}

static void keep(struct engine *engine, struct cron *cron)
{
    cron_free(uuid_map_get(&engine->crons, cron->row.id));
    uuid_map_put(&engine->crons, cron->row.id, cron);
}

void cron_put(struct engine *engine, const struct cron_row *row)
{
    struct cron_row clean = *row;
    clean.config = redact_json(engine->config.redact, row->config, &engine->turn);
    struct cron *cron = cron_new(&clean);
    cron->next_ms = cron->tz ? next_ms(&cron->config, &cron->schedule, cron->tz, engine_now_ms(engine)) : 0;
    cron->row.due_ms = engine_now_ms(engine); /* what was due before it was said does not count */
    keep(engine, cron);
    batch_put(engine_batch(engine), TABLE_cron, &cron->row);
    set_timer(engine);
}

bool cron_get(struct engine *engine, struct uuid workspace, struct uuid id, struct cron_row *ret)
{
    struct cron *cron = uuid_map_get(&engine->crons, id);
    if (!cron || !uuid_eq(cron->row.workspace, workspace))
        return false;
    *ret = cron->row;
    return true;
}

bool cron_delete(struct engine *engine, struct uuid workspace, struct uuid id)
{
    struct cron *cron = uuid_map_get(&engine->crons, id);
    if (!cron || !uuid_eq(cron->row.workspace, workspace))
        return false;
    batch_delete(engine_batch(engine), TABLE_cron, &cron->row);
    cron_free(uuid_map_del(&engine->crons, id));
    return true;
}

void cron_free_all(struct engine *engine)
{
    struct cron *cron;
    loop_timer_clear(&engine->cron_timer);
    for (size_t i = 0; (cron = uuid_map_next(&engine->crons, &i));)
        cron_free(cron);
    uuid_map_done(&engine->crons);
}

/* ---- due ---- */

static void note(struct engine *engine, struct cron *cron, const struct error *error)
{
    char id[UUID_TEXT];
    uuid_format(cron->row.id, id);
    snprintf(cron->why, sizeof cron->why, "%s", error->message);
    cron->row.error = span_of(cron->why);
    log_line(loop_log(engine->config.loop), LOG_WARN, "cron_without_run", "cron=%.*s reason=\"%s\"", UUID_TEXT, id, error->message);
}

/* The minute `due_ms`: a run, unless there is one already. */
static void fire(struct engine *engine, struct cron *cron, int64_t due_ms)
{
    char            id[UUID_TEXT];
    struct run_row  run;
    struct idem_hit hit;
    struct error    error = { 0 };
    uuid_format(cron->row.id, id);
    struct span   key = arena_printf(&engine->turn, "cron:%.*s:%lld", UUID_TEXT, id, (long long)(due_ms / 60000));
    struct sha256 hash = idem_key(cron->row.workspace, "ar.cron", key);
    if (!idem_get(engine, hash, &engine->turn, &hit)) {
        if (run_create(engine, &cron->config.run, &run, &error)) {
            note(engine, cron, &error);
        } else {
            idem_put(engine, cron->row.workspace, hash, sha256_of(key), run.id, SPAN("{}"));
            cron->row.error = SPAN_NONE;
            cron->row.last_ms = due_ms;
            cron->row.last_run = run.id;
        }
    }
    cron->row.due_ms = due_ms;
    batch_put(engine_batch(engine), TABLE_cron, &cron->row);
}

/* Of all that has become due since the last time, the latest minute. */
static void look(struct engine *engine, struct cron *cron, int64_t now_ms)
{
    int64_t latest, until_ms = cron->config.end_ms && cron->config.end_ms <= now_ms ? cron->config.end_ms - 1 : now_ms;
    if (!cron->config.enabled)
        return;
    if (schedule_latest(&cron->schedule, cron->tz, cron->row.due_ms / 1000, until_ms / 1000, &latest))
        fire(engine, cron, latest * 1000);
    cron->next_ms = next_ms(&cron->config, &cron->schedule, cron->tz, now_ms);
}

static void timer_fires(struct loop_timer *timer)
{
    struct engine *engine = CONTAINER(timer, struct engine, cron_timer);
    int64_t        now = engine_now_ms(engine);
    struct cron   *cron;
    if (engine_ready(engine, NULL))
        return;
    for (size_t i = 0; (cron = uuid_map_next(&engine->crons, &i));)
        if (cron->next_ms && cron->next_ms <= now)
            look(engine, cron, now);
    set_timer(engine);
}

static bool load(void *user, const void *row)
{
    struct cron *cron = cron_new(row);
    keep(user, cron);
    cron->next_ms = cron->config.enabled ? 1 : 0; /* looked at by the timer: what was missed, and what comes next */
    return true;
}

enum err cron_start(struct engine *engine, struct error *error)
{
    struct query query = { .table = TABLE_cron, .order_column = "id", .limit = -1 };
    loop_timer_init(&engine->cron_timer, engine->config.loop, timer_fires);
    enum err e = engine_read_begin(engine);
    if (!e) {
        e = reader_query(engine_reader(engine), &query, load, engine);
        engine_read_end(engine);
    }
    if (e)
        return error_set(error, e, "", "the crons cannot be read");
    set_timer(engine);
    return ERR_OK;
}
