/* SPDX-License-Identifier: Apache-2.0 */
/* Readers read while the writer appends, settles and deletes with tiny limits. In every snapshot every stream is
 * 1..head without a gap or a repeat, head is never below what was delivered before the snapshot began, and the row that
 * was written in the same batch as the last frame says the same head. Also run under TSan. */
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { STREAMS = 400, OPEN_AT_ONCE = 12, READERS = 3, SECONDS = 3, EVENTS_MOST = 120 };

struct stress {
    struct fixture    fixture;
    _Atomic(uint64_t) delivered[STREAMS]; /* head, as the owner knows it */
    _Atomic(unsigned) made;               /* streams that exist or are about to */
    _Atomic(bool)     stop;
};

struct reading {
    struct stress *stress;
    struct reader *reader;
    uint64_t       random, snapshots, frames;
    char           wrong[128]; /* the first thing that was not so */
};

static unsigned pick(uint64_t *random, unsigned below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33) % below;
}

static struct uuid id_of(unsigned stream)
{
    struct uuid id = { { 9 } };
    memcpy(&id.b[8], &stream, sizeof stream);
    return id;
}

/* ---- the owner ---- */

struct delivery {
    struct stress *stress;
    unsigned       stream;
    uint64_t       head;
};

static void delivered(void *arg, enum err err)
{
    struct delivery *delivery = arg;
    if (err == ERR_OK)
        atomic_store(&delivery->stress->delivered[delivery->stream], delivery->head);
    free(delivery);
}

static void append(struct stress *stress, struct batch *batch, unsigned stream, uint64_t *head, unsigned n, size_t size)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    fixture_body(stream + 1, *head + 1, size, &body);
    struct frame frame = { .stream = stream + 1, .first_seq = *head + 1, .n = n, .base_ms = (int64_t)*head, .wf_before = *head,
                           .epoch = 1, .body = buf_view(&body) };
    *head += n;
    batch_frame(batch, &frame, *head >= EVENTS_MOST);
    struct run_row row = { .workspace = id_of(0), .id = id_of(stream), .last_seq = (int64_t)*head };
    batch_put(batch, TABLE_run, &row);
    struct delivery *delivery = mem_alloc(sizeof *delivery);
    *delivery = (struct delivery){ stress, stream, *head };
    batch_after(batch, delivered, delivery);
}

/* One batch for up to four of the open streams; a stream that is full makes room for a new one. */
static bool append_some(struct stress *stress, unsigned *open, uint64_t *heads, uint64_t *random)
{
    struct batch *batch = batch_new(stress->fixture.store);
    unsigned      first = pick(random, OPEN_AT_ONCE), count = 1 + pick(random, 4);
    for (unsigned k = 0; k < count; k++) {
        unsigned *slot = &open[(first + k) % OPEN_AT_ONCE];
        if (heads[*slot] >= EVENTS_MOST) {
            unsigned made = atomic_load(&stress->made);
            if (made == STREAMS) {
                batch_free(batch);
                return false;
            }
            *slot = made;
            atomic_store(&stress->made, made + 1);
        }
        append(stress, batch, *slot, &heads[*slot], 1 + pick(random, 3), pick(random, 30) ? pick(random, 100) : 6000);
    }
    fixture_submit(&stress->fixture, batch);
    return true;
}

static void be_the_owner(struct stress *stress)
{
    static uint64_t heads[STREAMS];
    unsigned        open[OPEN_AT_ONCE];
    uint64_t        random = 5;
    time_t          end = time(NULL) + SECONDS;
    for (unsigned i = 0; i < OPEN_AT_ONCE; i++)
        open[i] = i;
    atomic_store(&stress->made, OPEN_AT_ONCE);
    for (unsigned turn = 0; time(NULL) <= end; turn++) {
        if (!append_some(stress, open, heads, &random))
            break;
        if (turn % 3 == 0)
            assert_int_equal(fixture_wait(&stress->fixture), ERR_OK);
        if (turn % 64 == 0) /* idle for a moment: settling goes on by itself */
            nanosleep(&(struct timespec){ .tv_nsec = 4000000 }, NULL);
    }
    assert_int_equal(fixture_wait(&stress->fixture), ERR_OK);
}

/* ---- the readers ---- */

struct seen {
    struct reading *reading;
    uint64_t        next;
};

static void wrong(struct reading *reading, const char *what, uint64_t stream, uint64_t seq)
{
    if (!reading->wrong[0])
        snprintf(reading->wrong, sizeof reading->wrong, "%s: stream %llu, seq %llu", what, (unsigned long long)stream,
                 (unsigned long long)seq);
}

static bool see(void *user, const struct frame *frame)
{
    struct seen *seen = user;
    seen->reading->frames++;
    if (frame->first_seq != seen->next)
        wrong(seen->reading, "a gap or a repeat", frame->stream, seen->next);
    else if (!fixture_body_is(frame->stream, frame->first_seq, frame->body))
        wrong(seen->reading, "other bytes", frame->stream, frame->first_seq);
    else if (frame->wf_before != frame->first_seq - 1)
        wrong(seen->reading, "another count", frame->stream, frame->first_seq);
    seen->next = frame->first_seq + frame->n;
    return !seen->reading->wrong[0];
}

static void read_stream(struct reading *reading, unsigned stream, uint64_t at_least)
{
    struct run_row row = { .workspace = id_of(0), .id = id_of(stream) };
    struct frame   last;
    uint64_t       head = 0, number = stream + 1;
    enum err       err = reader_head(reading->reader, number, &head, &last);
    if (!err)
        err = reader_get(reading->reader, TABLE_run, &row);
    if (err == ERR_NOT_FOUND && head == 0 && at_least == 0)
        return;
    if (err)
        wrong(reading, err_info(err)->name, number, head);
    else if (head < at_least)
        wrong(reading, "less than was delivered", number, head);
    else if ((uint64_t)row.last_seq != head)
        wrong(reading, "row and stream disagree", number, head);
    struct seen seen = { reading, 1 };
    if (reader_frames(reading->reader, number, 0, SIZE_MAX, see, &seen) || seen.next != head + 1)
        wrong(reading, "the end is missing", number, seen.next);
    uint64_t first = 0, after = head ? pick(&reading->random, (unsigned)head) : 0;
    if (reader_frame_by_wf(reading->reader, number, after, &first) || first > after + 1)
        wrong(reading, "not found by its count", number, after);
    seen.next = first;
    if (reader_frames(reading->reader, number, after, SIZE_MAX, see, &seen) || seen.next != head + 1)
        wrong(reading, "cannot be joined in its middle", number, after);
}

static void read_snapshot(struct reading *reading, struct arena *arena)
{
    enum { AT_ONCE = 6 };
    struct stress *stress = reading->stress;
    unsigned       streams[AT_ONCE];
    uint64_t       at_least[AT_ONCE];
    unsigned       made = atomic_load(&stress->made);
    for (unsigned i = 0; i < AT_ONCE; i++) {
        unsigned back = pick(&reading->random, i % 2 ? made : OPEN_AT_ONCE * 2);
        streams[i] = back < made ? made - 1 - back : 0;
        at_least[i] = atomic_load(&stress->delivered[streams[i]]);
    }
    if (reader_begin(reading->reader, arena))
        wrong(reading, "no snapshot", 0, 0);
    for (unsigned i = 0; i < AT_ONCE && !reading->wrong[0]; i++) {
        read_stream(reading, streams[i], at_least[i]);
        if (pick(&reading->random, 8) == 0) /* a snapshot that lasts, while much is settled and deleted */
            nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    }
    reader_end(reading->reader);
    reading->snapshots++;
}

static void *run_reader(void *arg)
{
    struct reading *reading = arg;
    struct arena    arena = { 0 };
    while (!atomic_load(&reading->stress->stop) && !reading->wrong[0]) {
        read_snapshot(reading, &arena);
        arena_reset(&arena);
    }
    arena_done(&arena);
    return NULL;
}

static void readers_always_see_dense_streams(void **state)
{
    struct stress *stress = mem_alloc(sizeof *stress);
    struct reading readings[READERS] = { 0 };
    pthread_t      threads[READERS];
    fixture_init(&stress->fixture, NULL);
    fixture_must_open(&stress->fixture);
    for (unsigned i = 0; i < READERS; i++) {
        readings[i] = (struct reading){ .stress = stress, .random = i + 1 };
        assert_int_equal(reader_open(stress->fixture.store, &readings[i].reader, NULL), ERR_OK);
    }
    atomic_store(&stress->made, 1);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_reader, &readings[i]), 0);
    be_the_owner(stress);
    atomic_store(&stress->stop, true);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_string_equal(readings[i].wrong, "");
        assert_true(readings[i].snapshots > 0 && readings[i].frames > 0);
        reader_close(readings[i].reader);
    }
    struct store_stats stats;
    store_stats(stress->fixture.store, &stats);
    assert_true(stats.settled_events > 0);
    fixture_done(&stress->fixture);
    free(stress);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(readers_always_see_dense_streams) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
