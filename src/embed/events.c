/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - follows the events of an attempt from a caller's thread.
 *
 * A follower of the ledger writes frames into a window that the caller's thread empties: when the window is full the follower
 * rests, as it would at a full socket. Where the ledger drops it (it rested too long) the caller's thread has it begin again at
 * its cursor, so nobody notices. A frame is a head and an event as JSON, or the head alone: the end. */
#include "api/agent_runs/render.h"
#include "embed/engine.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { WINDOW = 256 << 10 };

struct frame_head {
    uint64_t seq;
    uint32_t n;    /* bytes of JSON behind it */
    uint32_t last; /* nothing follows */
};

struct pd_events {
    struct pd_engine *engine;
    struct uuid       run, attempt;
    /* the loop's thread */
    struct follower  *follower;  /* NULL: none */
    struct pd_events *prev, *next; /* of the engine's followers; linked while there is one */
    struct loop_mail  room;      /* the window has room again */
    /* both; under lock */
    pthread_mutex_t   lock;
    pthread_cond_t    came;
    struct buf        window;
    bool              full, gone; /* the follower rests; there is none any more */
    /* the caller's thread */
    struct buf        taken;     /* frames, read as far as `at` */
    size_t            at;
    struct buf        text;      /* what was handed out last */
    uint64_t          seq;
    bool              over;
};

/* ---- the format ---- */

static void put_event(const void *ctx, const struct record *record, struct buf *out)
{
    struct frame_head head = { .seq = record->seq, .last = (record->flags & REC_TERMINAL) != 0 };
    size_t            at = out->len;
    buf_put(out, &head, sizeof head);
    render_event(ctx, record, out);
    head.n = (uint32_t)(out->len - at - sizeof head);
    memcpy(out->p + at, &head, sizeof head);
}

static const struct wire_format embed_format = { .name = "embed", .event = put_event, .ctx_free = free };

/* ---- the loop's thread ---- */

static ssize_t window_write(void *sink, const struct iovec *iov, int count)
{
    struct pd_events *events = sink;
    size_t            taken = 0;
    pthread_mutex_lock(&events->lock);
    for (int i = 0; i < count && !events->full; i++) {
        size_t room = WINDOW - events->window.len, n = iov[i].iov_len < room ? iov[i].iov_len : room;
        buf_put(&events->window, iov[i].iov_base, n);
        taken += n;
        events->full = n < iov[i].iov_len;
    }
    pthread_cond_signal(&events->came);
    pthread_mutex_unlock(&events->lock);
    return (ssize_t)taken;
}

static void follower_is_gone(struct pd_events *events)
{
    if (events->prev)
        events->prev->next = events->next;
    else
        events->engine->followers = events->next;
    if (events->next)
        events->next->prev = events->prev;
    events->prev = events->next = NULL;
    events->follower = NULL;
    pthread_mutex_lock(&events->lock);
    events->gone = true;
    pthread_cond_signal(&events->came);
    pthread_mutex_unlock(&events->lock);
}

static void window_end(void *sink)
{
    follower_is_gone(sink);
}

static const struct sink_ops window_ops = { .write = window_write, .end = window_end, .abort = window_end };

static void room_again(struct loop_mail *mail)
{
    struct pd_events *events = CONTAINER(mail, struct pd_events, room);
    if (events->follower)
        follower_writable(events->follower);
}

static void link_follower(struct pd_events *events, struct attempt_place *place)
{
    struct attempt_ref *ref = mem_alloc(sizeof *ref);
    *ref = attempt_ref_make(place->run, place->attempt, place->root_operation, place->parent_operation);
    events->follower = follower_new(place->stream, &embed_format, ref, events->seq, 0);
    events->next = events->engine->followers;
    if (events->next)
        events->next->prev = events;
    events->engine->followers = events;
    stream_unref(place->stream); /* the follower holds it */
    follower_start(events->follower, &window_ops, events);
}

void followers_stop(struct pd_engine *engine)
{
    while (engine->followers) {
        follower_gone(engine->followers->follower);
        follower_is_gone(engine->followers);
    }
}

/* ---- open, again and again ---- */

struct events_ask {
    struct ask        ask;
    struct pd_events *events;
};

static enum err current_attempt(struct ask *ask, struct pd_events *events)
{
    struct run_row row;
    enum err       e = run_row_get(ask->engine->parts.engine, ask->engine->workspace, events->run, &ask->arena, &row);
    if (e)
        return error_set(&ask->error, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : e, "run", "no such run");
    events->attempt = row.attempt;
    return ERR_OK;
}

static void open_begin(struct ask *ask)
{
    struct pd_events    *events = CONTAINER(ask, struct events_ask, ask)->events;
    struct engine       *engine = ask->engine->parts.engine;
    struct attempt_place place;
    enum err             e = engine_ready(engine, &ask->error);
    if (!e && uuid_is_nil(events->attempt))
        e = current_attempt(ask, events);
    if (!e)
        e = attempt_open(engine, ask->engine->workspace, events->run, events->attempt, &place, &ask->error);
    if (!e)
        link_follower(events, &place);
    ask_end(ask, e);
}

static void close_begin(struct ask *ask)
{
    struct pd_events *events = CONTAINER(ask, struct events_ask, ask)->events;
    if (events->follower) {
        follower_gone(events->follower);
        follower_is_gone(events);
    }
    ask_end(ask, ERR_OK);
}

static int events_ask(struct pd_events *events, void (*begin)(struct ask *ask), struct pd_error *error)
{
    struct events_ask a = { .events = events };
    ask_init(&a.ask, begin);
    ask_wait(&a.ask, events->engine);
    return give_ask(&a.ask, error);
}

static void events_free(struct pd_events *events)
{
    engine_unref(events->engine);
    buf_done(&events->window);
    buf_done(&events->taken);
    buf_done(&events->text);
    pthread_cond_destroy(&events->came);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

int pd_events_open(struct pd_engine *engine, const char *run, const char *attempt, uint64_t after_seq, struct pd_events **ret,
                   struct pd_error *error)
{
    struct uuid run_id, attempt_id = { { 0 } };
    int         code = PD_OK;
    if (!take_id(run, "run", ERR_RUN_NOT_FOUND, &run_id, error, &code) ||
        (attempt && !take_id(attempt, "attempt", ERR_ATTEMPT_NOT_FOUND, &attempt_id, error, &code)))
        return code;
    struct pd_events *events = mem_alloc(sizeof *events);
    *events = (struct pd_events){ .engine = engine, .run = run_id, .attempt = attempt_id, .seq = after_seq, .room = { .run = room_again } };
    engine_ref(engine);
    pthread_mutex_init(&events->lock, NULL);
    monotonic_cond_init(&events->came);
    code = events_ask(events, open_begin, error);
    if (code)
        events_free(events);
    else
        *ret = events;
    return code;
}

void pd_events_close(struct pd_events *events)
{
    if (!events)
        return;
    if (events_ask(events, close_begin, NULL) != PD_OK) { /* the engine closes: its thread may still write to the window */
        pthread_mutex_lock(&events->engine->lock);
        while (!events->engine->stopped)
            pthread_cond_wait(&events->engine->changed, &events->engine->lock);
        pthread_mutex_unlock(&events->engine->lock);
    }
    events_free(events);
}

/* ---- the caller's thread ---- */

/* The next event out of what was taken. False: there is no whole one. */
static bool next_taken(struct pd_events *events)
{
    struct frame_head head;
    while (events->taken.len - events->at >= sizeof head) {
        memcpy(&head, events->taken.p + events->at, sizeof head);
        if (events->taken.len - events->at - sizeof head < head.n)
            return false;
        const char *json = events->taken.p + events->at + sizeof head;
        events->at += sizeof head + head.n;
        events->over = head.last;
        if (head.seq <= events->seq)
            continue; /* whoever asks behind the end gets the last event once more */
        events->text.len = 0;
        buf_put(&events->text, json, head.n);
        buf_byte(&events->text, '\0');
        events->seq = head.seq;
        return true;
    }
    return false;
}

/* Waits until something is in the window, and takes all of it. False: the time is over. */
static bool take_window(struct pd_events *events, const struct timespec *until, bool *ret_gone)
{
    int  rc = 0;
    bool was_full = false;
    buf_reserve(&events->taken, 1);
    memmove(events->taken.p, events->taken.p + events->at, events->taken.len - events->at);
    events->taken.len -= events->at;
    events->at = 0;
    pthread_mutex_lock(&events->lock);
    while (!events->window.len && !events->gone && rc != ETIMEDOUT)
        rc = until ? pthread_cond_timedwait(&events->came, &events->lock, until) : pthread_cond_wait(&events->came, &events->lock);
    bool some = events->window.len > 0;
    if (some) {
        buf_put(&events->taken, events->window.p, events->window.len);
        events->window.len = 0;
        was_full = events->full;
        events->full = false;
    }
    *ret_gone = !some && events->gone;
    pthread_mutex_unlock(&events->lock);
    if (was_full)
        engine_post(events->engine, &events->room);
    return some || *ret_gone;
}

/* The ledger has dropped the follower: on from the cursor. What was cut off in the middle comes whole. */
static int begin_again(struct pd_events *events, struct pd_error *error)
{
    events->taken.len = events->at = 0;
    events->gone = events->full = false; /* nobody else has it now */
    int code = events_ask(events, open_begin, error);
    if (code)
        events->gone = true; /* and there is no follower that could say so */
    return code;
}

static struct timespec after_ms(int64_t ms)
{
    enum { LONG_MS = INT32_MAX };
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t ns = at.tv_nsec + (ms < LONG_MS ? ms : LONG_MS) * INT64_C(1000000);
    at.tv_sec += (time_t)(ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    return at;
}

int pd_events_next(struct pd_events *events, int64_t timeout_ms, const char **ret_json, struct pd_error *error)
{
    struct timespec until = after_ms(timeout_ms < 0 ? 0 : timeout_ms);
    while (!next_taken(events)) {
        bool gone = false;
        if (events->over)
            return PD_END;
        if (!take_window(events, timeout_ms < 0 ? NULL : &until, &gone))
            return PD_TIMEOUT;
        int code = gone ? begin_again(events, error) : PD_OK;
        if (code)
            return code;
    }
    *ret_json = events->text.p;
    return PD_OK;
}

uint64_t pd_events_seq(const struct pd_events *events)
{
    return events->seq;
}
