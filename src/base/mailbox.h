/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.h - how threads talk: an intrusive lock-free stack per receiver (hotpath.md 3).
 *
 * Any thread may post; only the owner takes. Posting one mail or a whole chain is one compare-and-swap; taking is one
 * exchange and a reversal, so mail comes out in the order in which it went in (per sender). The receiver is woken only when
 * it has said that it sleeps: through an eventfd when it sits in a loop, through a futex when it only waits for mail. */
#pragma once
#include "base/util.h"
#include <stdatomic.h>
#include <stdbool.h>

struct mail {
    struct mail *next;
};

struct mailbox {
    _Atomic(struct mail *) head;
    _Atomic(uint32_t)      asleep; /* 1: the owner must be woken */
    int                    wake_fd; /* eventfd, or -1: futex on `asleep` */
};

/* wake_by_fd: an eventfd is made (read it with mailbox_fd), for owners that poll. */
void mailbox_init(struct mailbox *box, bool wake_by_fd);
void mailbox_done(struct mailbox *box);
static inline int mailbox_fd(const struct mailbox *box) { return box->wake_fd; }
void mailbox_post(struct mailbox *box, struct mail *mail);
void mailbox_post_chain(struct mailbox *box, struct mail *first); /* first..last linked by next, in order of reading */
/* Owner: everything that is there, oldest first, or NULL. */
struct mail *mailbox_take(struct mailbox *box);
/* Owner: sleeps until there is mail or `timeout_ms` passed (-1: for ever), then takes. Futex boxes only. */
struct mail *mailbox_wait(struct mailbox *box, int timeout_ms);
/* Owner of an eventfd box, before it polls: true when it may sleep, false when mail is already there. */
bool mailbox_may_sleep(struct mailbox *box);
/* Owner, after the poll returned: clears the eventfd and the asleep flag. */
void mailbox_awake(struct mailbox *box);
