/* SPDX-License-Identifier: Apache-2.0 */
/* A process appends to many streams and is killed at a random moment, again and again, also while it settles: what it
 * had acknowledged is there afterwards, every stream is dense, and the rows agree with the streams. */
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 100, SECONDS = 15, STREAMS = 60 };

struct receipt {
    uint64_t stream, head;
};

static unsigned pick(uint64_t *random, unsigned below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33) % below;
}

static struct uuid id_of(uint64_t stream)
{
    struct uuid id = { { 9 } };
    memcpy(&id.b[8], &stream, sizeof stream);
    return id;
}

/* ---- the process that is killed ---- */

struct child {
    struct fixture *fixture;
    int             out;
    uint64_t        heads[STREAMS + 1], random;
};

struct acknowledge {
    int            out;
    struct receipt receipt;
};

static void acknowledged(void *arg, enum err err)
{
    struct acknowledge *ack = arg;
    if (err || write(ack->out, &ack->receipt, sizeof ack->receipt) != sizeof ack->receipt)
        _exit(3);
    free(ack);
}

static void find_heads(struct child *child)
{
    struct arena   arena = { 0 };
    struct reader *reader = store_reader(child->fixture->store);
    if (reader_begin(reader, &arena))
        _exit(4);
    for (uint64_t stream = 1; stream <= STREAMS; stream++)
        if (reader_head(reader, stream, &child->heads[stream], NULL))
            _exit(4);
    reader_end(reader);
    arena_done(&arena);
}

static void append(struct child *child, struct batch *batch, uint64_t stream)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    uint64_t *head = &child->heads[stream];
    fixture_body(stream, *head + 1, pick(&child->random, 40) ? pick(&child->random, 120) : 20000, &body);
    struct frame frame = { .stream = stream, .first_seq = *head + 1, .n = 1 + pick(&child->random, 4), .base_ms = (int64_t)*head,
                           .wf_before = *head, .epoch = store_epoch(child->fixture->store), .body = buf_view(&body) };
    *head += frame.n;
    batch_frame(batch, &frame, false);
    struct run_row row = { .workspace = id_of(0), .id = id_of(stream), .last_seq = (int64_t)*head };
    batch_put(batch, TABLE_run, &row);
    struct acknowledge *ack = mem_alloc(sizeof *ack);
    *ack = (struct acknowledge){ child->out, { stream, *head } };
    batch_after(batch, acknowledged, ack);
}

static void run_child(struct fixture *fixture, int out, uint64_t seed)
{
    struct child child = { .fixture = fixture, .out = out, .random = seed };
    fixture_must_open(fixture);
    find_heads(&child);
    for (;;) {
        struct batch *batch = batch_new(fixture->store);
        unsigned      count = 1 + pick(&child.random, 5);
        uint64_t      first = pick(&child.random, STREAMS);
        for (unsigned k = 0; k < count; k++)
            append(&child, batch, 1 + (first + k * 7) % STREAMS);
        fixture_submit(fixture, batch);
        if (pick(&child.random, 2))
            fixture_wait(fixture);
        if (pick(&child.random, 20) == 0) /* long enough for settling by itself */
            nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
}

/* ---- the one that kills ---- */

struct seen {
    uint64_t next;
};

static bool see(void *user, const struct frame *frame)
{
    struct seen *seen = user;
    assert_int_equal(frame->first_seq, seen->next);
    assert_true(fixture_body_is(frame->stream, frame->first_seq, frame->body));
    seen->next += frame->n;
    return true;
}

static void check(struct fixture *fixture, const uint64_t *acked)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(fixture->store);
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    for (uint64_t stream = 1; stream <= STREAMS; stream++) {
        uint64_t       head;
        struct seen    seen = { 1 };
        struct run_row row = { .workspace = id_of(0), .id = id_of(stream) };
        assert_int_equal(reader_head(reader, stream, &head, NULL), ERR_OK);
        assert_true(head >= acked[stream]);
        assert_int_equal(reader_frames(reader, stream, 0, SIZE_MAX, see, &seen), ERR_OK);
        assert_int_equal(seen.next, head + 1);
        assert_int_equal(reader_get(reader, TABLE_run, &row), head ? ERR_OK : ERR_NOT_FOUND);
        assert_int_equal(row.last_seq, head);
    }
    reader_end(reader);
}

/* What the child wrote until it was killed. Receipts are smaller than PIPE_BUF, so none is cut. */
static unsigned take_receipts(int in, uint64_t *acked)
{
    struct receipt receipts[64];
    unsigned       count = 0;
    ssize_t        n;
    while ((n = read(in, receipts, sizeof receipts)) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof *receipts; i++, count++)
            if (acked[receipts[i].stream] < receipts[i].head)
                acked[receipts[i].stream] = receipts[i].head;
    return count;
}

/* A pipe holds only so much: the child stands still when nobody reads. */
static void read_for(int in, unsigned ms, uint64_t *acked)
{
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)ms * 1000000;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        long left = (end.tv_sec - now.tv_sec) * 1000 + (end.tv_nsec - now.tv_nsec) / 1000000;
        if (left <= 0)
            return;
        struct pollfd poller = { .fd = in, .events = POLLIN };
        struct receipt receipt;
        if (poll(&poller, 1, (int)left) > 0 && read(in, &receipt, sizeof receipt) == sizeof receipt &&
            acked[receipt.stream] < receipt.head)
            acked[receipt.stream] = receipt.head;
    }
}

static void kill_one(struct fixture *fixture, uint64_t *acked, uint64_t *random, unsigned *ret_receipts)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        run_child(fixture, ends[1], *random);
        _exit(0);
    }
    close(ends[1]);
    struct pollfd poller = { .fd = ends[0], .events = POLLIN };
    assert_true(poll(&poller, 1, 20000) == 1); /* it works; else POLLHUP and the status below */
    read_for(ends[0], pick(random, 60), acked);
    kill(pid, SIGKILL);
    *ret_receipts += take_receipts(ends[0], acked);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void nothing_acknowledged_is_lost_by_a_kill(void **state)
{
    struct fixture fixture;
    uint64_t       acked[STREAMS + 1] = { 0 }, random = 11;
    unsigned       receipts = 0, rounds = 0;
    time_t         end = time(NULL) + SECONDS;
    fixture_init(&fixture, NULL);
    fixture.config.settle_events = 5;
    for (; rounds < ROUNDS && time(NULL) < end; rounds++) {
        kill_one(&fixture, acked, &random, &receipts);
        fixture_must_open(&fixture);
        check(&fixture, acked);
        if (rounds % 8 == 7) {
            assert_true(fixture_settled(&fixture));
            check(&fixture, acked);
        }
        fixture_close(&fixture);
        random += rounds;
    }
    assert_true(rounds >= 5 && receipts > 0);
    print_message("%u kills\n", rounds);
    fixture_done(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(nothing_acknowledged_is_lost_by_a_kill) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
