/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of base/mailbox.h: nothing lost, order kept per sender, no wake-up missed. Also run under TSan. */
#include "unit.h"
#include "base/mailbox.h"
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { SENDERS = 4, LETTERS = 20000, CHAIN = 7 };

struct letter {
    struct mail mail;
    unsigned    sender, number;
};

struct sender {
    struct mailbox *box;
    unsigned        id;
    bool            chains;
    struct letter  *letters;
};

static struct mail *link_chain(struct letter *letters, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        letters[i].mail.next = i + 1 < n ? &letters[i + 1].mail : NULL;
    return &letters[0].mail;
}

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (unsigned i = 0; i < LETTERS;) {
        unsigned n = s->chains ? 1 + i % CHAIN : 1;
        if (n > LETTERS - i)
            n = LETTERS - i;
        for (unsigned k = i; k < i + n; k++)
            s->letters[k] = (struct letter){ .sender = s->id, .number = k };
        if (s->chains)
            mailbox_post_chain(s->box, link_chain(s->letters + i, n));
        else
            mailbox_post(s->box, &s->letters[i].mail);
        i += n;
        if (i % 512 == 0) /* let the owner fall asleep now and then */
            nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    }
    return NULL;
}

/* Takes what there is, sleeping through the eventfd as a loop does. */
static struct mail *take_by_poll(struct mailbox *box)
{
    for (;;) {
        struct mail *mail = mailbox_take(box);
        if (mail)
            return mail;
        if (!mailbox_may_sleep(box))
            continue;
        struct pollfd fd = { .fd = mailbox_fd(box), .events = POLLIN };
        assert_int_equal(poll(&fd, 1, 20000), 1); /* a missed wake-up would end here */
        mailbox_awake(box);
    }
}

static struct mail *take_by_futex(struct mailbox *box)
{
    struct mail *mail = mailbox_wait(box, 20000);
    assert_non_null(mail);
    return mail;
}

static void exchange(bool by_fd, struct mail *(*take)(struct mailbox *box))
{
    struct mailbox box;
    struct sender  senders[SENDERS];
    pthread_t      threads[SENDERS];
    unsigned       next[SENDERS] = { 0 }, count = 0;
    mailbox_init(&box, by_fd);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){ &box, i, i % 2, calloc(LETTERS, sizeof(struct letter)) };
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    while (count < SENDERS * LETTERS) {
        for (struct mail *mail = take(&box), *after; mail; mail = after) {
            struct letter *letter = CONTAINER(mail, struct letter, mail);
            after = mail->next;
            assert_int_equal(letter->number, next[letter->sender]);
            next[letter->sender]++;
            count++;
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        free(senders[i].letters);
    }
    assert_null(mailbox_take(&box));
    mailbox_done(&box);
}

static void senders_to_a_futex_box(void **state)
{
    exchange(false, take_by_futex);
}

static void senders_to_an_eventfd_box(void **state)
{
    exchange(true, take_by_poll);
}

static void mail_comes_out_in_order(void **state)
{
    struct mailbox box;
    struct letter  letters[10];
    mailbox_init(&box, false);
    assert_null(mailbox_take(&box));
    for (unsigned i = 0; i < 10; i++)
        letters[i].number = i;
    mailbox_post(&box, &letters[0].mail);
    mailbox_post_chain(&box, link_chain(letters + 1, 5));
    mailbox_post_chain(&box, NULL);
    mailbox_post_chain(&box, link_chain(letters + 6, 1));
    mailbox_post(&box, &letters[7].mail);
    mailbox_post_chain(&box, link_chain(letters + 8, 2));
    unsigned want = 0;
    for (struct mail *mail = mailbox_take(&box); mail; mail = mail->next)
        assert_int_equal(CONTAINER(mail, struct letter, mail)->number, want++);
    assert_int_equal(want, 10);
    assert_null(mailbox_take(&box));
    mailbox_done(&box);
}

static void waiting_ends_with_the_time(void **state)
{
    struct mailbox box;
    mailbox_init(&box, false);
    assert_null(mailbox_wait(&box, 0));
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_null(mailbox_wait(&box, 30));
    clock_gettime(CLOCK_MONOTONIC, &after);
    int64_t ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_true(ms >= 28);
    mailbox_done(&box);
}

static bool readable(const struct mailbox *box)
{
    struct pollfd fd = { .fd = mailbox_fd(box), .events = POLLIN };
    return poll(&fd, 1, 0) == 1;
}

static void only_a_sleeper_is_woken(void **state)
{
    struct mailbox box;
    struct letter  a, b;
    mailbox_init(&box, true);
    mailbox_post(&box, &a.mail);
    assert_false(readable(&box));          /* the owner is awake: no system call was made */
    assert_false(mailbox_may_sleep(&box)); /* and it may not sleep on mail */
    assert_ptr_equal(mailbox_take(&box), &a.mail);
    assert_true(mailbox_may_sleep(&box));
    mailbox_post(&box, &a.mail);
    mailbox_post(&box, &b.mail);
    assert_true(readable(&box));
    mailbox_awake(&box);
    assert_false(readable(&box));
    struct mail *mail = mailbox_take(&box);
    assert_ptr_equal(mail, &a.mail);
    assert_ptr_equal(mail->next, &b.mail);
    mailbox_done(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_comes_out_in_order),
        cmocka_unit_test(waiting_ends_with_the_time),
        cmocka_unit_test(only_a_sleeper_is_woken),
        cmocka_unit_test(senders_to_a_futex_box),
        cmocka_unit_test(senders_to_an_eventfd_box),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
