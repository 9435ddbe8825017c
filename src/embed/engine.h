/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - what the files of libperdure share: the handle, its thread, and how a caller's thread asks it for something.
 *
 * The engine's loop runs in a thread of its own, which makes the parts and takes them apart. A caller's thread puts an ask on its
 * stack, posts it to the loop and sleeps until the loop's thread has ended it. */
#pragma once
#include "embed/parts.h"
#include "perdure.h"
#include <pthread.h>

struct pd_engine {
    pthread_mutex_t   lock;    /* guards closing, stopped, refs, and what the comments below say */
    pthread_cond_t    changed; /* opened or stopped */
    bool              opened, closing, stopped;
    unsigned          refs;    /* the owner of the handle, each pd_events, each call that waits */
    struct ask       *asks;    /* in the loop's hands; under lock */
    /* the engine's thread */
    pthread_t         thread;
    struct log        log;
    struct config     config;
    struct parts      parts;
    struct uuid       tenant, workspace;
    struct pd_events *followers;
    struct loop_mail  close_mail;
    pd_log_fn         log_fn;
    void             *log_user;
    /* from pd_open to the thread, and back */
    struct parts_config want;
    char               *data, *store;
    enum err            result;    /* of the opening; later: ERR_STORAGE when the store had failed */
    struct error        error;
};

/* One question of a caller's thread. Embed it; lives on its stack. */
struct ask {
    struct loop_mail  mail;
    struct pd_engine *engine;
    struct ask       *prev, *next;
    pthread_cond_t    ended;
    bool              over;
    struct error      error;   /* code says how it ended */
    struct arena      arena;   /* for whoever has the ask; freed with it */
    struct issues     issues;  /* the first one becomes the error */
    struct read_job   job;
    /* The loop's thread: begins, and sees to it that ask_end is called some time. */
    void            (*begin)(struct ask *ask);
    /* The loop's thread: the engine closes; give up waiting. NULL: what it waits for comes before that. ask_end follows. */
    void            (*give_up)(struct ask *ask);
    /* The reader's thread, for asks that begin with ask_read: within one snapshot of the store. */
    enum err        (*read)(struct ask *ask, struct reader *reader);
};

void ask_init(struct ask *ask, void (*begin)(struct ask *ask));
void ask_done(struct ask *ask);
/* The caller's thread: returns when the ask has ended, with its error's code. ERR_DRAINING: it was not begun. */
enum err ask_wait(struct ask *ask, struct pd_engine *engine);
/* The loop's thread; the ask is the caller's again. */
void ask_end(struct ask *ask, enum err err);
/* The same when all that was done so far is on disk. */
void ask_end_committed(struct ask *ask);
/* A `begin`: hands the ask to the reader's thread. */
void ask_read(struct ask *ask);

/* Any thread: posts to the loop, unless the engine closes. */
void engine_post(struct pd_engine *engine, struct loop_mail *mail);
bool engine_closing(struct pd_engine *engine);
void engine_ref(struct pd_engine *engine);
void engine_unref(struct pd_engine *engine);
/* events.c, the loop's thread: nobody writes to the followers any more. */
void followers_stop(struct pd_engine *engine);

/* ---- errors.c ---- */
int pd_code_of(enum err err);
/* Fills `ret` (may be NULL) and returns the code. */
int give_error(const struct error *error, struct pd_error *ret);
int refuse(struct pd_error *ret, enum err err, const char *field, const char *format, ...) PRINTF(4, 5);
/* How an ask ended: its error, or the first issue; 0 when it went well. Frees it. */
int give_ask(struct ask *ask, struct pd_error *ret);

/* ---- arguments ---- */
/* An id; `name` is the argument's. False: *ret_code says why. */
bool take_id(const char *text, const char *name, enum err unknown, struct uuid *ret, struct pd_error *error, int *ret_code);
/* JSON of at most `max` bytes; the document lives in the arena. */
bool take_json(const char *text, const char *name, struct arena *arena, struct jv *ret, struct pd_error *error, int *ret_code);
/* The bytes as text of the caller's own; empties the buffer. */
char *give_text(struct buf *buf);
void  monotonic_cond_init(pthread_cond_t *cond);
