/* SPDX-License-Identifier: Apache-2.0 */
/* test_follow.c - followers that read as real ones do: a few bytes at a time, not at all for a while, gone and back again.
 *
 * Runs of the real engine emit events while followers with sockets of every temper follow them, with a ring so small that they
 * fall out of the live feed again and again. Whatever they do, each sees every event behind its cursor once, in order, up to the
 * terminal one; whoever asks behind the end gets the terminal event. */
#include "support/engine_rig.h"
#include "unit/unit.h"
#include <stdlib.h>

enum { FOLLOWERS = 60, EVENTS = 1500 };

static const char emit[] = "{\"format\":1,\"entry\":\"a\",\"nodes\":[{\"node\":\"a\",\"capability_ref\":\"core.emit\","
                           "\"capability_version\":\"1\",\"execution_binding\":\"builtin\",\"config\":{\"count\":1490,\"interval_ms\":1}}]}";

struct reader_sink {
    struct world    *world;
    struct follower *follower; /* NULL: not connected */
    struct buf       bytes;    /* since the last connect */
    size_t           parsed;
    uint64_t         cursor, next; /* next: the seq that must come */
    bool             done, full, terminal; /* terminal: the last event was seen; a real client stops there */
};

struct world {
    struct rig          rig;
    struct reader_sink  sinks[FOLLOWERS];
    struct loop_timer   timer;
    struct uuid         run, attempt;
    uint64_t            seed;
    unsigned            cuts, pauses;
};

/* "SEQ TYPE\n", padded so that chunks do not fit into one write. */
static void event_text(const void *ctx, const struct record *record, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%llu %s %0*d\n", (unsigned long long)record->seq, record_info(record->type)->ar_type,
               (int)(record->seq % 90) + 1, 0);
}

static void farewell(const void *ctx, enum follow_end end, enum record_type last, uint64_t latest, int64_t now_ms, struct buf *out)
{
    (void)ctx;
    (void)now_ms;
    if (end == FOLLOW_DONE)
        buf_printf(out, "close %s %llu\n", record_info(last)->ar_type, (unsigned long long)latest);
}

static void heartbeat(const void *ctx, uint64_t latest, int64_t now_ms, struct buf *out)
{
    (void)ctx;
    (void)now_ms;
    buf_printf(out, "beat %llu\n", (unsigned long long)latest);
}

static const struct wire_format lines = { .name = "lines", .event = event_text, .farewell = farewell, .heartbeat = heartbeat };

/* Checks whole lines as they arrive: dense, rising, nothing behind the close. */
static void parse(struct reader_sink *s)
{
    for (;;) {
        char *line = s->bytes.p + s->parsed;
        char *end = s->parsed < s->bytes.len ? memchr(line, '\n', s->bytes.len - s->parsed) : NULL;
        if (!end)
            return;
        *end = 0;
        assert_false(s->done);
        if (strncmp(line, "close ", 6) == 0)
            s->done = true;
        else if (strncmp(line, "beat ", 5) != 0) {
            assert_int_equal(strtoull(line, NULL, 10), s->next);
            s->cursor = s->next++;
            s->terminal = strstr(line, "RUN_FINISHED");
        }
        s->parsed = (size_t)(end + 1 - s->bytes.p);
    }
}

static ssize_t sink_write(void *user, const struct iovec *iov, int count)
{
    struct reader_sink *s = user;
    struct world       *w = s->world;
    if (next_random(&w->seed) % 400 == 0) { /* the connection breaks right here */
        w->cuts++;
        s->follower = NULL;
        return -1;
    }
    ssize_t taken = 0;
    bool    shy = next_random(&w->seed) % 3 == 0;
    for (int i = 0; i < count; i++) {
        size_t n = iov[i].iov_len;
        if (shy && next_random(&w->seed) % 2)
            n = next_random(&w->seed) % (n + 1);
        buf_put(&s->bytes, iov[i].iov_base, n);
        taken += (ssize_t)n;
        if (n < iov[i].iov_len) {
            s->full = true;
            w->pauses++;
            break;
        }
    }
    parse(s);
    return taken;
}

static void sink_end(void *user)
{
    struct reader_sink *s = user;
    s->follower = NULL;
}

static const struct sink_ops ops = { .write = sink_write, .end = sink_end, .abort = sink_end };

static void connect_sink(struct reader_sink *s)
{
    struct world        *w = s->world;
    struct attempt_place place;
    assert_int_equal(attempt_open(w->rig.engine, w->rig.workspace, w->run, w->attempt, &place, NULL), ERR_OK);
    s->bytes.len = s->parsed = 0; /* a half line of the old connection is gone */
    s->next = s->cursor + 1;
    s->full = false;
    s->follower = follower_new(place.stream, &lines, NULL, s->cursor, 0);
    stream_unref(place.stream);
    if (!follower_start(s->follower, &ops, s))
        s->follower = NULL;
}

/* Every millisecond some of them read on, some leave, and those that are away come back. */
static void stir(struct loop_timer *timer)
{
    struct world *w = CONTAINER(timer, struct world, timer);
    for (int i = 0; i < FOLLOWERS; i++) {
        struct reader_sink *s = &w->sinks[i];
        uint64_t            dice = next_random(&w->seed) % 100;
        if (!s->follower && s->terminal)
            s->done = true; /* cut between the last event and the close: nothing to come back for */
        if (s->done)
            continue;
        if (!s->follower && dice < 40) {
            connect_sink(s);
        } else if (s->follower && s->full && dice < (i % 4 ? 60u : 3u)) { /* every fourth is slow */
            s->full = false;
            follower_writable(s->follower);
        } else if (s->follower && dice == 99) {
            w->cuts++;
            follower_gone(TAKE(s->follower));
        }
    }
    loop_timer_set(timer, loop_now_us(w->rig.loop) + 1000);
}

static bool all_done(void *user)
{
    struct world *w = user;
    for (int i = 0; i < FOLLOWERS; i++)
        if (!w->sinks[i].done || w->sinks[i].follower)
            return false;
    return true;
}

static void created(void *arg, enum err err)
{
    struct world *w = arg;
    assert_int_equal(err, ERR_OK);
    loop_timer_set(&w->timer, loop_now_us(w->rig.loop));
}

static void every_follower_sees_every_event_once(void **state)
{
    (void)state;
    struct world w = { .seed = 4711 };
    struct error error = { 0 };
    rig_init(&w.rig, NULL);
    w.rig.ledger = (struct ledger_config){ .ring_bytes = 4096, .heartbeat_ms = 50, .frame_bytes = 1024 };
    assert_int_equal(rig_open(&w.rig, &error), ERR_OK);
    struct run_spec spec = { .tenant = w.rig.tenant, .workspace = w.rig.workspace, .agent = rig_agent(&w.rig, "emit", emit) };
    struct run_row  row;
    assert_int_equal(run_create(w.rig.engine, &spec, &row, &error), ERR_OK);
    w.run = row.id;
    w.attempt = row.attempt;
    loop_timer_init(&w.timer, w.rig.loop, stir);
    for (int i = 0; i < FOLLOWERS; i++)
        w.sinks[i] = (struct reader_sink){ .world = &w };
    engine_after(w.rig.engine, created, &w);
    assert_true(rig_run(&w.rig, all_done, &w, 60));
    for (int i = 0; i < FOLLOWERS; i++)
        assert_int_equal(w.sinks[i].cursor, w.sinks[0].cursor);
    assert_true(w.sinks[0].cursor >= 1490);
    assert_true(w.cuts > 100 && w.pauses > 1000);

    /* A closed ledger: from the start, from the middle, from the end and from far behind it. */
    uint64_t last = w.sinks[0].cursor, from[] = { 0, 700, last - 1, last, last + 1000 };
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        struct reader_sink *s = &w.sinks[i];
        s->done = s->terminal = false;
        s->cursor = from[i] < last ? from[i] : last - 1; /* what must come first is the one behind it */
        s->next = s->cursor + 1;
        s->bytes.len = s->parsed = 0;
        struct attempt_place place;
        assert_int_equal(attempt_open(w.rig.engine, w.rig.workspace, w.run, w.attempt, &place, NULL), ERR_OK);
        s->follower = follower_new(place.stream, &lines, NULL, from[i], 0);
        stream_unref(place.stream);
        if (!follower_start(s->follower, &ops, s))
            s->follower = NULL;
    }
    assert_true(rig_run(&w.rig, all_done, &w, 30));
    loop_timer_clear(&w.timer);
    for (int i = 0; i < FOLLOWERS; i++) {
        assert_int_equal(w.sinks[i].cursor, last);
        buf_done(&w.sinks[i].bytes);
    }
    rig_done(&w.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_follower_sees_every_event_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
