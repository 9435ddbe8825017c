/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - one thread's event loop: libevent underneath, a turn at a time (hotpath.md 3).
 *
 * A round is: wait for events, run their callbacks, take the mail, run the turn hook once. Work gathered by the callbacks of
 * one round leaves together in the hook; nothing commits or writes per callback. All functions but loop_post and loop_stop
 * belong to the loop's own thread. */
#pragma once
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mailbox.h"

struct loop;
struct event_base;

enum err loop_new(struct env *env, const struct log *log, struct loop **ret, struct error *error);
void     loop_free(struct loop *loop); /* accepts NULL; all timers must be cleared before */
void     loop_run(struct loop *loop);  /* until loop_stop */
void     loop_stop(struct loop *loop); /* any thread, and signal handlers of libevent */
/* Called once at the end of every round. One hook. */
void     loop_on_turn(struct loop *loop, void (*turn)(void *user), void *user);
struct env        *loop_env(struct loop *loop);
const struct log  *loop_log(struct loop *loop);
struct event_base *loop_base(struct loop *loop); /* for signals, listeners and libcurl */
uint64_t           loop_now_us(struct loop *loop); /* monotonic, taken once per round */

/* Calls fn on the loop's thread when the process gets `signal`. Before loop_run; at most 4. */
enum err loop_on_signal(struct loop *loop, int signal, void (*fn)(void *user, int signal), void *user, struct error *error);

/* Mail that runs on the loop's thread. Embed it; the receiver frees. */
struct loop_mail {
    struct mail mail;
    void (*run)(struct loop_mail *mail);
};
void loop_post(struct loop *loop, struct loop_mail *mail); /* any thread */
/* A chain linked by mail.next, first to last: one wake-up. */
void loop_post_chain(struct loop *loop, struct loop_mail *first);

/* A timer is owned by whoever embeds it. One shot. */
struct loop_timer {
    struct loop *loop;
    void (*fire)(struct loop_timer *timer);
    uint64_t     due_us;   /* monotonic; 0 when not armed */
    size_t       heap_at;  /* place in the loop's heap */
};
void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*fire)(struct loop_timer *timer));
void loop_timer_set(struct loop_timer *timer, uint64_t due_us); /* arms or moves */
void loop_timer_clear(struct loop_timer *timer);                /* harmless when not armed */
