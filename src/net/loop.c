/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - one thread's event loop: rounds over libevent, timers, mail, and the turn hook.
 *
 * Timers are not libevent's: a heap of our own costs no allocation per timer and no system call per change. One libevent
 * timer stands for the head of the heap and is set again only when the loop is about to sleep and the head has changed.
 * Mail wakes the loop through an eventfd, but only when the loop has said that it sleeps (mailbox.h). */
#include "net/loop.h"
#include "base/mem.h"
#include <event2/event.h>
#include <stdlib.h>

enum { LOOP_SIGNALS = 4 };

struct loop_signal {
    struct event *event;
    void (*fn)(void *user, int signal);
    void         *user;
};

struct loop {
    struct env         *env;
    const struct log   *log;
    struct event_base  *base;
    struct event       *mail_event;  /* the mailbox's eventfd */
    struct event       *timer_event; /* the head of the heap, when armed */
    struct mailbox      box;
    bool                woken;       /* the eventfd was readable in this round */
    uint64_t            now_us;
    uint64_t            armed_us;    /* what timer_event is set to; 0: not armed */
    struct loop_timer **heap;        /* heap[0] is due first */
    size_t              count, cap;
    void (*turn)(void *user);
    void               *turn_user;
    struct loop_mail    stop_mail;   /* loop_stop is mail, so that it is ordered with all other mail */
    atomic_bool         stop_posted;
    bool                stopping;
    struct loop_signal  signals[LOOP_SIGNALS];
    unsigned            signal_count;
};

/* ---- the heap ---- */

static void heap_put(struct loop *loop, size_t at, struct loop_timer *timer)
{
    loop->heap[at] = timer;
    timer->heap_at = at;
}

static void heap_up(struct loop *loop, size_t at, struct loop_timer *timer)
{
    while (at > 0 && loop->heap[(at - 1) / 2]->due_us > timer->due_us) {
        heap_put(loop, at, loop->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(loop, at, timer);
}

static void heap_down(struct loop *loop, size_t at, struct loop_timer *timer)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= loop->count)
            break;
        if (child + 1 < loop->count && loop->heap[child + 1]->due_us < loop->heap[child]->due_us)
            child++;
        if (loop->heap[child]->due_us >= timer->due_us)
            break;
        heap_put(loop, at, loop->heap[child]);
        at = child;
    }
    heap_put(loop, at, timer);
}

static void heap_settle(struct loop *loop, size_t at, struct loop_timer *timer)
{
    if (at > 0 && loop->heap[(at - 1) / 2]->due_us > timer->due_us)
        heap_up(loop, at, timer);
    else
        heap_down(loop, at, timer);
}

void loop_timer_init(struct loop_timer *timer, struct loop *loop, void (*fire)(struct loop_timer *timer))
{
    *timer = (struct loop_timer){ .loop = loop, .fire = fire };
}

void loop_timer_set(struct loop_timer *timer, uint64_t due_us)
{
    struct loop *loop = timer->loop;
    bool         armed = timer->due_us != 0;

    timer->due_us = due_us ? due_us : 1; /* 0 means: not armed */
    if (armed) {
        heap_settle(loop, timer->heap_at, timer);
        return;
    }
    if (loop->count == loop->cap) {
        loop->cap = loop->cap ? 2 * loop->cap : 64;
        loop->heap = mem_grow(loop->heap, loop->cap * sizeof(struct loop_timer *));
    }
    heap_up(loop, loop->count++, timer);
}

void loop_timer_clear(struct loop_timer *timer)
{
    if (!timer->due_us)
        return;
    struct loop *loop = timer->loop;
    struct loop_timer *last = loop->heap[--loop->count];
    timer->due_us = 0;
    if (last != timer)
        heap_settle(loop, timer->heap_at, last);
}

/* At most as many as there were before: a timer that sets itself to "now" waits for the next round, so that sockets and
 * mail get their turn. */
static void fire_timers(struct loop *loop)
{
    for (size_t n = loop->count; n > 0 && loop->count > 0 && loop->heap[0]->due_us <= loop->now_us; n--) {
        struct loop_timer *timer = loop->heap[0];
        loop_timer_clear(timer);
        timer->fire(timer);
    }
}

/* ---- rounds ---- */

static void on_wake(evutil_socket_t fd, short what, void *user)
{
    ((struct loop *)user)->woken = true;
}

/* Nothing more to do: fire_timers looks at the clock in each round. */
static void on_timer_event(evutil_socket_t fd, short what, void *user)
{
    ((struct loop *)user)->armed_us = 0;
}

static void arm_head(struct loop *loop)
{
    uint64_t due = loop->count ? loop->heap[0]->due_us : 0;
    if (due == loop->armed_us)
        return;
    loop->armed_us = due;
    if (!due) {
        evtimer_del(loop->timer_event);
        return;
    }
    uint64_t       now = loop->env->mono_us(loop->env);
    uint64_t       wait = due > now ? due - now : 0;
    struct timeval tv = { .tv_sec = (time_t)(wait / 1000000), .tv_usec = (suseconds_t)(wait % 1000000) };
    evtimer_add(loop->timer_event, &tv);
}

static void take_mail(struct loop *loop)
{
    struct mail *next;
    for (struct mail *mail = mailbox_take(&loop->box); mail; mail = next) {
        next = mail->next; /* run() may free it */
        struct loop_mail *letter = CONTAINER(mail, struct loop_mail, mail);
        letter->run(letter);
    }
}

static void loop_round(struct loop *loop)
{
    loop->now_us = loop->env->mono_us(loop->env);
    bool due = loop->count > 0 && loop->heap[0]->due_us <= loop->now_us;
    /* may_sleep is asked last: it announces the sleep, and from then on each sender pays for a wake-up. Mail that this very
     * thread posted in the last turn makes it false. */
    bool sleep = !due && mailbox_may_sleep(&loop->box);

    if (sleep)
        arm_head(loop);
    event_base_loop(loop->base, sleep ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
    if (loop->woken)
        mailbox_awake(&loop->box);
    else
        /* Sockets woke us, not mail: spare the read of an empty eventfd. relaxed as in mailbox_awake; a sender that saw the
         * flag just before writes the eventfd and makes one poll return early. */
        atomic_store_explicit(&loop->box.asleep, 0, memory_order_relaxed);
    loop->woken = false;
    loop->now_us = loop->env->mono_us(loop->env);
    fire_timers(loop);
    take_mail(loop);
    if (loop->turn)
        loop->turn(loop->turn_user);
}

void loop_run(struct loop *loop)
{
    while (!loop->stopping)
        loop_round(loop);
    loop->stopping = false;
}

static void on_stop_mail(struct loop_mail *mail)
{
    struct loop *loop = CONTAINER(mail, struct loop, stop_mail);
    loop->stopping = true;
    /* From here the mail may be posted again; release pairs with the exchange in loop_stop. */
    atomic_store_explicit(&loop->stop_posted, false, memory_order_release);
}

void loop_stop(struct loop *loop)
{
    if (!atomic_exchange_explicit(&loop->stop_posted, true, memory_order_acq_rel))
        mailbox_post(&loop->box, &loop->stop_mail.mail);
}

/* ---- life ---- */

static struct event_base *base_new(void)
{
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK); /* one thread; others only post mail */
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

enum err loop_new(struct env *env, const struct log *log, struct loop **ret, struct error *error)
{
    struct loop *loop = mem_alloc(sizeof *loop);

    loop->env = env;
    loop->log = log;
    mailbox_init(&loop->box, true);
    loop->stop_mail.run = on_stop_mail;
    loop->now_us = env->mono_us(env);
    loop->base = base_new();
    if (loop->base) {
        loop->mail_event = event_new(loop->base, loop->box.wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
        loop->timer_event = evtimer_new(loop->base, on_timer_event, loop);
    }
    if (!loop->mail_event || !loop->timer_event || event_add(loop->mail_event, NULL)) {
        loop_free(loop);
        return error_set(error, ERR_IO, NULL, "cannot make an event loop");
    }
    *ret = loop;
    return ERR_OK;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    assert(loop->count == 0); /* a timer outlives its loop */
    if (loop->mail_event)
        event_free(loop->mail_event);
    if (loop->timer_event)
        event_free(loop->timer_event);
    for (unsigned i = 0; i < loop->signal_count; i++)
        event_free(loop->signals[i].event);
    if (loop->base)
        event_base_free(loop->base);
    mailbox_done(&loop->box);
    free(loop->heap);
    free(loop);
}

static void signal_came(evutil_socket_t signal, short events, void *user)
{
    struct loop_signal *handler = user;
    (void)events;
    handler->fn(handler->user, (int)signal);
}

enum err loop_on_signal(struct loop *loop, int signal, void (*fn)(void *user, int signal), void *user, struct error *error)
{
    assert(loop->signal_count < LOOP_SIGNALS);
    struct loop_signal *handler = &loop->signals[loop->signal_count];
    *handler = (struct loop_signal){ .fn = fn, .user = user };
    handler->event = evsignal_new(loop->base, signal, signal_came, handler);
    if (!handler->event || event_add(handler->event, NULL)) {
        if (handler->event)
            event_free(handler->event);
        return error_set(error, ERR_NOMEM, "", "the loop cannot take signals");
    }
    loop->signal_count++;
    return ERR_OK;
}

void loop_on_turn(struct loop *loop, void (*turn)(void *user), void *user)
{
    loop->turn = turn;
    loop->turn_user = user;
}

void loop_post(struct loop *loop, struct loop_mail *mail)
{
    mailbox_post(&loop->box, &mail->mail);
}

void loop_post_chain(struct loop *loop, struct loop_mail *first)
{
    mailbox_post_chain(&loop->box, &first->mail);
}

struct env *loop_env(struct loop *loop)
{
    return loop->env;
}

const struct log *loop_log(struct loop *loop)
{
    return loop->log;
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

uint64_t loop_now_us(struct loop *loop)
{
    return loop->now_us;
}
