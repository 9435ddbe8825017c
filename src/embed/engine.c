/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - opens and closes an engine in a thread of its own, and carries asks to it. */
#include "embed/engine.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define RETENTION_MS (INT64_C(30) * 86400000)

/* ---- asks ---- */

void ask_init(struct ask *ask, void (*begin)(struct ask *ask))
{
    *ask = (struct ask){ .begin = begin };
    ask->issues.arena = &ask->arena;
    pthread_cond_init(&ask->ended, NULL);
}

void ask_done(struct ask *ask)
{
    pthread_cond_destroy(&ask->ended);
    arena_done(&ask->arena);
}

static void ask_run(struct loop_mail *mail)
{
    struct ask *ask = CONTAINER(mail, struct ask, mail);
    ask->begin(ask);
}

/* Under the lock. */
static void ask_link(struct ask *ask, struct pd_engine *engine)
{
    ask->next = engine->asks;
    if (ask->next)
        ask->next->prev = ask;
    engine->asks = ask;
}

static void ask_unlink(struct ask *ask)
{
    if (ask->prev)
        ask->prev->next = ask->next;
    else
        ask->engine->asks = ask->next;
    if (ask->next)
        ask->next->prev = ask->prev;
}

enum err ask_wait(struct ask *ask, struct pd_engine *engine)
{
    ask->engine = engine;
    ask->mail.run = ask_run;
    pthread_mutex_lock(&engine->lock);
    if (engine->closing) {
        pthread_mutex_unlock(&engine->lock);
        return error_set(&ask->error, ERR_DRAINING, "", "the engine is being closed");
    }
    engine->refs++;
    ask_link(ask, engine);
    loop_post(engine->parts.loop, &ask->mail); /* under the lock: behind it comes the closing */
    while (!ask->over)
        pthread_cond_wait(&ask->ended, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
    engine_unref(engine);
    return ask->error.code;
}

void ask_end(struct ask *ask, enum err err)
{
    struct pd_engine *engine = ask->engine;
    ask->error.code = err;
    pthread_mutex_lock(&engine->lock);
    ask_unlink(ask);
    ask->over = true;
    pthread_cond_signal(&ask->ended); /* within the lock: behind it the ask is gone */
    pthread_mutex_unlock(&engine->lock);
}

static void committed(void *arg, enum err err)
{
    struct ask *ask = arg;
    if (err)
        error_set(&ask->error, ERR_STORAGE, "", "the store has failed");
    ask_end(ask, err ? ERR_STORAGE : ERR_OK);
}

void ask_end_committed(struct ask *ask)
{
    engine_after(ask->engine->parts.engine, committed, ask);
}

static void read_run(struct read_job *job, struct reader *reader)
{
    struct ask *ask = CONTAINER(job, struct ask, job);
    if (reader_begin(reader, &ask->arena)) {
        error_set(&ask->error, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    ask->error.code = ask->read(ask, reader);
    reader_end(reader);
}

static void read_done(struct read_job *job)
{
    struct ask *ask = CONTAINER(job, struct ask, job);
    ask_end(ask, ask->error.code);
}

void ask_read(struct ask *ask)
{
    ask->job.run = read_run;
    ask->job.done = read_done;
    store_read(ask->engine->parts.store, &ask->job);
}

void engine_post(struct pd_engine *engine, struct loop_mail *mail)
{
    pthread_mutex_lock(&engine->lock);
    if (!engine->closing)
        loop_post(engine->parts.loop, mail);
    pthread_mutex_unlock(&engine->lock);
}

bool engine_closing(struct pd_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    bool closing = engine->closing;
    pthread_mutex_unlock(&engine->lock);
    return closing;
}

/* ---- the engine's thread ---- */

/* What can wait for long is ended; the rest ends with the commits and reads that are on their way. */
static void close_now(struct loop_mail *mail)
{
    struct pd_engine *engine = CONTAINER(mail, struct pd_engine, close_mail);
    struct ask       *waiting;
    do {
        pthread_mutex_lock(&engine->lock);
        waiting = engine->asks;
        while (waiting && !waiting->give_up)
            waiting = waiting->next;
        pthread_mutex_unlock(&engine->lock);
        if (waiting) {
            waiting->give_up(waiting);
            error_set(&waiting->error, ERR_DRAINING, "", "the engine is being closed");
            ask_end(waiting, ERR_DRAINING);
        }
    } while (waiting);
    engine_drain(engine->parts.engine);
}

static void tell(struct pd_engine *engine, bool *what, enum err result)
{
    pthread_mutex_lock(&engine->lock);
    *what = true;
    engine->result = result;
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
}

static void *engine_life(void *arg)
{
    struct pd_engine *engine = arg;
    enum err          e = parts_open(&engine->want, &engine->parts, &engine->error);
    if (!e) {
        api_home(engine->parts.api, &engine->tenant, &engine->workspace);
        tell(engine, &engine->opened, ERR_OK);
        loop_run(engine->parts.loop);
        followers_stop(engine);
        if (store_failed(engine->parts.store))
            e = ERR_STORAGE;
    }
    parts_close(&engine->parts);
    tell(engine, &engine->stopped, e);
    return NULL;
}

/* ---- life ---- */

static void take_line(void *user, enum log_level level, const char *line)
{
    struct pd_engine *engine = user;
    engine->log_fn((int)level, line, engine->log_user);
}

static void engine_free_all(struct pd_engine *engine)
{
    config_done(&engine->config);
    free(engine->data);
    free(engine->store);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

void engine_ref(struct pd_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->refs++;
    pthread_mutex_unlock(&engine->lock);
}

void engine_unref(struct pd_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    bool last = --engine->refs == 0;
    pthread_mutex_unlock(&engine->lock);
    if (last)
        engine_free_all(engine);
}

/* The caller's struct may be an older, shorter one: what it lacks has its default. */
static bool take_config(const struct pd_config *config, struct pd_config *ret, struct pd_error *error, int *ret_code)
{
    struct pd_config defaults = PD_CONFIG_INIT;
    *ret = defaults;
    if (!config || config->size < offsetof(struct pd_config, store)) {
        *ret_code = refuse(error, ERR_VALIDATION, "size", "the configuration has no size: begin with PD_CONFIG_INIT");
        return false;
    }
    memcpy(ret, config, config->size < sizeof *ret ? config->size : sizeof *ret);
    if (!ret->data || !ret->data[0])
        *ret_code = refuse(error, ERR_VALIDATION, "data", "is required");
    else if (ret->log_level < PD_LOG_DEBUG || ret->log_level > PD_LOG_OFF)
        *ret_code = refuse(error, ERR_VALIDATION, "log_level", "is none of enum pd_log_level");
    else if (ret->retention_ms < -1)
        *ret_code = refuse(error, ERR_VALIDATION, "retention_ms", "is a time in milliseconds, 0 or -1");
    else if (ret->thread_queue > 100000)
        *ret_code = refuse(error, ERR_VALIDATION, "thread_queue", "is at most 100000");
    else
        return true;
    return false;
}

static struct pd_engine *engine_alloc(const struct pd_config *config)
{
    struct pd_engine *engine = mem_alloc(sizeof *engine);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->changed, NULL);
    engine->refs = 1;
    engine->data = mem_dup(config->data, strlen(config->data));
    engine->store = config->store ? mem_dup(config->store, strlen(config->store)) : NULL;
    engine->log_fn = config->log;
    engine->log_user = config->log_user;
    engine->log = (struct log){ .level = config->log ? (enum log_level)config->log_level : LOG_OFF, .fd = -1, .take = take_line,
                                .user = engine };
    engine->close_mail.run = close_now;
    engine->want = (struct parts_config){ .data = engine->data, .store = engine->store, .config = &engine->config, .log = &engine->log,
                                          .retention_ms = config->retention_ms == -1 ? 0 :
                                                          config->retention_ms ? config->retention_ms : RETENTION_MS,
                                          .thread_queue_max = config->thread_queue };
    return engine;
}

/* With all signals blocked: they belong to the program. */
static enum err start_thread(struct pd_engine *engine)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&engine->thread, NULL, engine_life, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return error_set(&engine->error, ERR_INTERNAL, "", "cannot start a thread: %s", strerror(rc));
    pthread_setname_np(engine->thread, "perdure");
    pthread_mutex_lock(&engine->lock);
    while (!engine->opened && !engine->stopped)
        pthread_cond_wait(&engine->changed, &engine->lock);
    bool opened = engine->opened;
    pthread_mutex_unlock(&engine->lock);
    if (opened)
        return ERR_OK;
    pthread_join(engine->thread, NULL);
    return engine->result;
}

int pd_open(const struct pd_config *config, struct pd_engine **ret, struct pd_error *error)
{
    struct pd_config want;
    int              code = PD_OK;
    if (!take_config(config, &want, error, &code))
        return code;
    struct pd_engine *engine = engine_alloc(&want);
    enum err          e = config_parse(want.config ? span_of(want.config) : SPAN_NONE, &engine->config, &engine->error);
    if (e) {
        if (!engine->error.field[0])
            snprintf(engine->error.field, sizeof engine->error.field, "config");
    } else {
        e = start_thread(engine);
    }
    if (!e) {
        *ret = engine;
        return PD_OK;
    }
    engine->error.code = e;
    code = give_error(&engine->error, error);
    if (e == ERR_CONFLICT && strcmp(engine->error.field, "store") == 0) { /* the folder is taken */
        code = PD_STORAGE;
        if (error)
            error->code = code;
    }
    engine_free_all(engine);
    return code;
}

int pd_close(struct pd_engine *engine)
{
    if (!engine)
        return PD_OK;
    pthread_mutex_lock(&engine->lock);
    engine->closing = true;
    loop_post(engine->parts.loop, &engine->close_mail);
    pthread_mutex_unlock(&engine->lock);
    pthread_join(engine->thread, NULL);
    int code = engine->result ? PD_STORAGE : PD_OK;
    engine_unref(engine);
    return code;
}
