/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.c - a stack that any thread pushes to and one thread empties, and the wake-up that goes with it.
 *
 * The wake-up is Dekker's handshake. A sender first pushes, then looks at `asleep`; the owner first sets `asleep`, then
 * looks at the stack. Whichever of the two comes second sees the other, so mail and sleep never miss each other. That
 * needs one total order over the four operations, hence seq_cst on exactly these. Only the sender that finds the stack
 * empty looks at `asleep`: behind anybody else's push, that somebody does.
 *
 * A sender touches the box after its mail is in, so a box must outlive its senders (join them first). */
#include "base/mailbox.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "perdure: %s: %s; stopping\n", what, strerror(errno));
    abort();
}

void mailbox_init(struct mailbox *box, bool wake_by_fd)
{
    atomic_init(&box->head, NULL);
    atomic_init(&box->asleep, 0);
    box->wake_fd = -1;
    if (wake_by_fd) {
        box->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (box->wake_fd < 0)
            die("no eventfd for a mailbox");
    }
}

void mailbox_done(struct mailbox *box)
{
    if (box->wake_fd >= 0)
        close(box->wake_fd);
    box->wake_fd = -1;
}

static void wake(struct mailbox *box)
{
    if (box->wake_fd < 0) {
        syscall(SYS_futex, &box->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        return;
    }
    uint64_t one = 1;
    while (write(box->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
    /* EAGAIN would mean 2^64-2 wake-ups that nobody read: then the owner is certainly going to wake. */
}

/* `top`..`bottom` is linked newest first. */
static void push(struct mailbox *box, struct mail *top, struct mail *bottom)
{
    /* relaxed: only the value is needed to try the exchange; nothing is read through it. */
    struct mail *old = atomic_load_explicit(&box->head, memory_order_relaxed);
    do {
        bottom->next = old;
        /* seq_cst includes release: the owner, which acquires, sees the mail's contents and `next`. Earlier pushes stay
         * visible too, because an exchange continues their release sequence. seq_cst itself: the handshake above.
         * relaxed on failure: as the load above. */
    } while (!atomic_compare_exchange_weak_explicit(&box->head, &old, top, memory_order_seq_cst, memory_order_relaxed));
    if (old)
        return;
    /* seq_cst: the handshake. The exchange makes one of several senders the one that wakes; the load before it keeps
     * the usual case (the owner is awake) free of a write to the shared line. */
    if (atomic_load_explicit(&box->asleep, memory_order_seq_cst) &&
        atomic_exchange_explicit(&box->asleep, 0, memory_order_seq_cst))
        wake(box);
}

void mailbox_post(struct mailbox *box, struct mail *mail)
{
    push(box, mail, mail);
}

static struct mail *reverse(struct mail *list)
{
    struct mail *reversed = NULL;
    while (list) {
        struct mail *next = list->next;
        list->next = reversed;
        reversed = list;
        list = next;
    }
    return reversed;
}

void mailbox_post_chain(struct mailbox *box, struct mail *first)
{
    if (!first)
        return;
    struct mail *last = reverse(first);
    push(box, last, first);
}

struct mail *mailbox_take(struct mailbox *box)
{
    /* relaxed: an empty box is the common answer and needs no write; mail that arrives just now is found next time, and
     * whoever is about to sleep asks again through may_sleep. */
    if (!atomic_load_explicit(&box->head, memory_order_relaxed))
        return NULL;
    /* acquire: pairs with the release in push, so that the contents of the mail are visible. */
    return reverse(atomic_exchange_explicit(&box->head, NULL, memory_order_acquire));
}

bool mailbox_may_sleep(struct mailbox *box)
{
    /* seq_cst twice: the handshake. */
    atomic_store_explicit(&box->asleep, 1, memory_order_seq_cst);
    if (!atomic_load_explicit(&box->head, memory_order_seq_cst))
        return true;
    /* relaxed: a sender that still sees 1 only makes a superfluous wake-up. */
    atomic_store_explicit(&box->asleep, 0, memory_order_relaxed);
    return false;
}

void mailbox_awake(struct mailbox *box)
{
    /* relaxed: as above. The owner takes its mail after this, and what comes later finds the flag again before it
     * sleeps. */
    atomic_store_explicit(&box->asleep, 0, memory_order_relaxed);
    /* Always read: whether a sender has written already cannot be told from the flag, since it clears that first. A
     * write that comes after this read costs one poll that returns early. */
    uint64_t count;
    while (read(box->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
        continue;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Until `asleep` is no longer 1, or `left_ms` passed (negative: for ever), or for no reason at all. */
static void futex_sleep(struct mailbox *box, int64_t left_ms)
{
    struct timespec left = { .tv_sec = left_ms / 1000, .tv_nsec = left_ms % 1000 * 1000000 };
    syscall(SYS_futex, &box->asleep, FUTEX_WAIT_PRIVATE, 1, left_ms < 0 ? NULL : &left, NULL, 0);
    /* relaxed: as in may_sleep. */
    atomic_store_explicit(&box->asleep, 0, memory_order_relaxed);
}

struct mail *mailbox_wait(struct mailbox *box, int timeout_ms)
{
    assert(box->wake_fd < 0);
    int64_t deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
    for (;;) {
        struct mail *mail = mailbox_take(box);
        if (mail)
            return mail;
        int64_t left = deadline < 0 ? -1 : deadline - now_ms();
        if (deadline >= 0 && left <= 0)
            return NULL;
        if (mailbox_may_sleep(box))
            futex_sleep(box, left);
    }
}
