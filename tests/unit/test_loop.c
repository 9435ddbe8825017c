/* SPDX-License-Identifier: Apache-2.0 */
/* test_loop.c - rounds, timers and mail. */
#include "net/loop.h"
#include <setjmp.h>
#include <stdarg.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct loop *loop_for_test(void)
{
    struct loop *loop;
    struct error error;
    assert_int_equal(loop_new(env_real(), NULL, &loop, &error), ERR_OK);
    return loop;
}

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

/* ---- timers ---- */

struct probe {
    struct loop_timer timer;
    uint64_t          due_us;
    bool              fired;
};

static uint64_t last_due;
static int      fired, expected;

static void on_probe(struct loop_timer *timer)
{
    struct probe *probe = CONTAINER(timer, struct probe, timer);
    assert_false(probe->fired);
    assert_int_equal(timer->due_us, 0); /* one shot */
    assert_true(loop_now_us(timer->loop) >= probe->due_us);
    assert_true(probe->due_us >= last_due);
    last_due = probe->due_us;
    probe->fired = true;
    if (++fired == expected)
        loop_stop(timer->loop);
}

static void timers_fire_in_order(void **state)
{
    enum { MANY = 500 };
    struct loop  *loop = loop_for_test();
    struct probe *probes = calloc(MANY, sizeof *probes);
    uint64_t      start = now_us();
    unsigned      seed = 7;

    fired = 0;
    last_due = 0;
    expected = MANY - MANY / 5;
    for (int i = 0; i < MANY; i++) {
        loop_timer_init(&probes[i].timer, loop, on_probe);
        loop_timer_set(&probes[i].timer, start + (uint64_t)rand_r(&seed) % 30000);
    }
    for (int i = 0; i < MANY; i++) { /* all are moved, a fifth is cleared */
        probes[i].due_us = start + (uint64_t)rand_r(&seed) % 30000;
        loop_timer_set(&probes[i].timer, probes[i].due_us);
        if (i % 5 == 0) {
            loop_timer_clear(&probes[i].timer);
            loop_timer_clear(&probes[i].timer); /* harmless */
        }
    }
    loop_run(loop);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(probes[i].fired, i % 5 != 0);
    assert_true(now_us() - start < 2000000);
    free(probes);
    loop_free(loop);
}

struct again {
    struct loop_timer timer;
    int               times, turns, turns_then;
};

static void on_again(struct loop_timer *timer)
{
    struct again *again = CONTAINER(timer, struct again, timer);
    if (again->times > 0) /* never twice in one round */
        assert_true(again->turns > again->turns_then);
    again->turns_then = again->turns;
    if (++again->times == 100)
        loop_stop(timer->loop);
    else
        loop_timer_set(timer, loop_now_us(timer->loop));
}

static void count_turn(void *user)
{
    ((struct again *)user)->turns++;
}

static void a_timer_for_now_waits_for_the_next_round(void **state)
{
    struct loop *loop = loop_for_test();
    struct again again = { .times = 0 };
    uint64_t     start = now_us();

    loop_timer_init(&again.timer, loop, on_again);
    loop_on_turn(loop, count_turn, &again);
    loop_timer_set(&again.timer, 0);
    loop_run(loop);
    assert_int_equal(again.times, 100);
    assert_int_equal(again.turns, 100);
    assert_true(now_us() - start < 1000000);
    loop_free(loop);
}

static void on_clear_other(struct loop_timer *timer)
{
    loop_timer_clear((struct loop_timer *)timer + 1);
    loop_stop(timer->loop);
}

static void on_never(struct loop_timer *timer)
{
    fail_msg("a cleared timer fired");
}

static void a_timer_may_clear_another_that_is_due(void **state)
{
    struct loop      *loop = loop_for_test();
    struct loop_timer timers[2];
    loop_timer_init(&timers[0], loop, on_clear_other);
    loop_timer_init(&timers[1], loop, on_never);
    loop_timer_set(&timers[0], 1);
    loop_timer_set(&timers[1], 2);
    loop_run(loop);
    loop_free(loop);
}

/* ---- mail ---- */

struct letter {
    struct loop_mail mail;
    struct loop     *loop;
    int              sender, number, last;
};

enum { SENDERS = 4, LETTERS = 5000 };
static int next_number[SENDERS], letters;

static void on_letter(struct loop_mail *mail)
{
    struct letter *letter = CONTAINER(mail, struct letter, mail);
    assert_int_equal(letter->number, next_number[letter->sender]++);
    if (++letters == SENDERS * LETTERS)
        loop_stop(letter->loop);
    free(letter);
}

static struct letter *letter_new(struct loop *loop, int sender, int number)
{
    struct letter *letter = calloc(1, sizeof *letter);
    letter->mail.run = on_letter;
    letter->loop = loop;
    letter->sender = sender;
    letter->number = number;
    return letter;
}

struct sender {
    struct loop *loop;
    pthread_t    thread;
    int          number;
};

static void *send_letters(void *user)
{
    struct sender *sender = user;
    for (int n = 0; n < LETTERS; n += 2) {
        struct letter *first = letter_new(sender->loop, sender->number, n);
        struct letter *second = letter_new(sender->loop, sender->number, n + 1);
        if (n % 4) {
            loop_post(sender->loop, &first->mail);
            loop_post(sender->loop, &second->mail);
        } else {
            first->mail.mail.next = &second->mail.mail;
            second->mail.mail.next = NULL;
            loop_post_chain(sender->loop, &first->mail);
        }
    }
    return NULL;
}

static void mail_of_many_threads_arrives_in_order(void **state)
{
    struct loop  *loop = loop_for_test();
    struct sender senders[SENDERS];

    letters = 0;
    memset(next_number, 0, sizeof next_number);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){ .loop = loop, .number = i };
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]), 0);
    }
    loop_run(loop);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_int_equal(letters, SENDERS * LETTERS);
    loop_free(loop);
}

/* ---- the turn ---- */

struct talk {
    struct loop_mail  mail;
    struct loop      *loop;
    struct loop_timer alarm;
    int               rounds, mails;
    bool              from_turn;
};

static void on_talk(struct loop_mail *mail)
{
    struct talk *talk = CONTAINER(mail, struct talk, mail);
    talk->from_turn = false;
    if (++talk->mails == 1000)
        loop_stop(talk->loop);
}

static void post_in_turn(void *user)
{
    struct talk *talk = user;
    talk->rounds++;
    if (!talk->from_turn && talk->mails < 1000) {
        talk->from_turn = true;
        loop_post(talk->loop, &talk->mail);
    }
}

static void on_alarm(struct loop_timer *timer)
{
    struct talk *talk = CONTAINER(timer, struct talk, alarm);
    if (talk->mails == 0 && talk->rounds == 0) {
        loop_timer_set(timer, loop_now_us(timer->loop) + 5000000);
        return; /* the first round; from here only mail from the turn keeps the loop awake */
    }
    fail_msg("mail posted in the turn waited for something else");
}

static void mail_posted_in_the_turn_comes_at_once(void **state)
{
    struct talk talk = { .mail.run = on_talk, .loop = loop_for_test() };
    loop_on_turn(talk.loop, post_in_turn, &talk);
    loop_timer_init(&talk.alarm, talk.loop, on_alarm);
    loop_timer_set(&talk.alarm, 1);
    loop_run(talk.loop);
    assert_int_equal(talk.mails, 1000);
    assert_in_range(talk.rounds, 1000, 1002);
    loop_timer_clear(&talk.alarm);
    loop_free(talk.loop);
}

struct pipes {
    struct loop *loop;
    int          read, turns;
};

static void on_pipe(evutil_socket_t fd, short what, void *user)
{
    char c;
    assert_int_equal(read(fd, &c, 1), 1);
    ((struct pipes *)user)->read++;
}

static void pipes_turn(void *user)
{
    struct pipes *pipes = user;
    pipes->turns++;
    if (pipes->read == 3)
        loop_stop(pipes->loop);
}

static void one_turn_for_all_events_of_a_round(void **state)
{
    struct pipes  pipes = { .loop = loop_for_test() };
    struct event *events[3];
    int           fds[3][2];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pipe(fds[i]), 0);
        assert_int_equal(write(fds[i][1], "x", 1), 1);
        events[i] = event_new(loop_base(pipes.loop), fds[i][0], EV_READ | EV_PERSIST, on_pipe, &pipes);
        event_add(events[i], NULL);
    }
    loop_on_turn(pipes.loop, pipes_turn, &pipes);
    loop_run(pipes.loop);
    assert_int_equal(pipes.read, 3);
    assert_in_range(pipes.turns, 1, 2); /* the round of the events, and that of the stop mail */
    for (int i = 0; i < 3; i++) {
        event_free(events[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    loop_free(pipes.loop);
}

static void *stop_it(void *user)
{
    loop_stop(user);
    loop_stop(user);
    return NULL;
}

static void stop_from_any_thread_and_run_again(void **state)
{
    struct loop *loop = loop_for_test();
    pthread_t    thread;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(pthread_create(&thread, NULL, stop_it, loop), 0);
        loop_run(loop);
        pthread_join(thread, NULL);
    }
    loop_stop(loop); /* before the run: it does one round */
    loop_run(loop);
    loop_free(loop);
    loop_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(a_timer_for_now_waits_for_the_next_round),
        cmocka_unit_test(a_timer_may_clear_another_that_is_due),
        cmocka_unit_test(mail_of_many_threads_arrives_in_order),
        cmocka_unit_test(mail_posted_in_the_turn_comes_at_once),
        cmocka_unit_test(one_turn_for_all_events_of_a_round),
        cmocka_unit_test(stop_from_any_thread_and_run_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
