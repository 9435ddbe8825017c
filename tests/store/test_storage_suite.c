/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/store.h, kept by every driver: the same tests on SQLite and on PostgreSQL (when PERDURE_TEST_PG
 * has the url of a server), each bare, and inside the fault driver that is not armed. */
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- setups ---- */

struct setup {
    struct fixture   fixture;
    struct db_fault *fault;
};

static int set_up(void **state, const struct db_driver *base, bool faulty)
{
    struct setup *setup = mem_alloc(sizeof *setup);
    setup->fault = faulty ? db_fault_new(base) : NULL;
    fixture_init_on(&setup->fixture, base, faulty ? db_fault_driver(setup->fault) : NULL);
    fixture_must_open(&setup->fixture);
    *state = setup;
    return 0;
}

static int set_up_bare(void **state)
{
    return set_up(state, &db_sqlite, false);
}

static int set_up_faulty(void **state)
{
    return set_up(state, &db_sqlite, true);
}

static int set_up_pg(void **state)
{
    return set_up(state, &db_pg, false);
}

static int set_up_pg_faulty(void **state)
{
    return set_up(state, &db_pg, true);
}

static int tear_down(void **state)
{
    struct setup *setup = *state;
    fixture_done(&setup->fixture);
    db_fault_free(setup->fault);
    free(setup);
    return 0;
}

static struct fixture *fixture_of(void **state)
{
    return &((struct setup *)*state)->fixture;
}

static struct batch *batch_of(struct fixture *fixture)
{
    return batch_new(fixture->store);
}

static void must_commit(struct fixture *fixture, struct batch *batch)
{
    assert_int_equal(fixture_commit(fixture, batch), ERR_OK);
}

static void reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_must_open(fixture);
}

/* A snapshot of the owner's reader; its arena. */
struct snap {
    struct reader *reader;
    struct arena   arena;
};

static struct snap *snap_begin(struct fixture *fixture)
{
    struct snap *snap = mem_alloc(sizeof *snap);
    snap->reader = store_reader(fixture->store);
    assert_int_equal(reader_begin(snap->reader, &snap->arena), ERR_OK);
    return snap;
}

static void snap_end(struct snap *snap)
{
    reader_end(snap->reader);
    arena_done(&snap->arena);
    free(snap);
}

/* ---- rows ---- */

/* Values that differ by column and by `salt`, among them the ones that break things. */
static void fill_row(enum table_id id, unsigned salt, void *row, struct arena *arena)
{
    static const int64_t numbers[] = { 0, 1, -1, INT64_MAX, INT64_MIN, 4294967296 };
    const struct table  *table = &tables[id];
    memset(row, 0, table->row_size);
    for (unsigned i = 0; i < table->count; i++) {
        char    *value = (char *)row + table->columns[i].offset;
        unsigned pick = i < table->keys ? salt + 1 : salt + i;
        switch (table->columns[i].kind) {
        case COL_I64: *(int64_t *)(void *)value = i < table->keys ? (int64_t)salt : numbers[pick % ARRAY_LEN(numbers)]; break;
        case COL_UUID:
            if (pick % 3 != 0 || i < table->keys)
                memset(value, (int)(1 + pick % 250), sizeof(struct uuid));
            break;
        case COL_HASH: memset(value, (int)(pick % 256), sizeof(struct sha256)); break;
        case COL_BYTES: {
            static const struct span texts[] = { { NULL, 0 }, { "", 0 }, { "a\0b", 3 }, { "\xff\xfe", 2 }, { "{\"k\":1}", 7 } };
            struct span              text = texts[pick % ARRAY_LEN(texts)];
            if (i < table->keys || pick % 7 == 6)
                text = arena_printf(arena, "text %u of %s%c%u", pick, table->name, 0, salt);
            *(struct span *)(void *)value = text;
            break;
        }
        }
    }
}

static void assert_rows_equal(enum table_id id, const void *a, const void *b)
{
    for (unsigned i = 0; i < tables[id].count; i++) {
        const struct column *column = &tables[id].columns[i];
        const char          *x = (const char *)a + column->offset, *y = (const char *)b + column->offset;
        if (column->kind == COL_BYTES) {
            struct span s = *(const struct span *)(const void *)x, t = *(const struct span *)(const void *)y;
            assert_true(span_eq(s, t));
            assert_int_equal(s.p == NULL, t.p == NULL); /* NULL and empty are two things */
            continue;
        }
        size_t size = column->kind == COL_I64 ? sizeof(int64_t) : column->kind == COL_UUID ? sizeof(struct uuid) : sizeof(struct sha256);
        assert_memory_equal(x, y, size);
    }
}

static void copy_key(enum table_id id, const void *from, void *to)
{
    memset(to, 0, tables[id].row_size);
    for (unsigned i = 0; i < tables[id].keys; i++) {
        const struct column *column = &tables[id].columns[i];
        size_t size = column->kind == COL_I64 ? sizeof(int64_t) : column->kind == COL_UUID ? sizeof(struct uuid)
                      : column->kind == COL_HASH ? sizeof(struct sha256) : sizeof(struct span);
        memcpy((char *)to + column->offset, (const char *)from + column->offset, size);
    }
}

static void assert_stored(struct fixture *fixture, enum table_id id, const void *row)
{
    struct snap *snap = snap_begin(fixture);
    void        *got = arena_alloc(&snap->arena, tables[id].row_size);
    copy_key(id, row, got);
    assert_int_equal(reader_get(snap->reader, id, got), ERR_OK);
    assert_rows_equal(id, row, got);
    snap_end(snap);
}

static void rows_of_every_table_come_back_as_they_went(void **state)
{
    struct fixture *fixture = fixture_of(state);
    CLEANUP(arena_done) struct arena arena = { 0 };
    for (unsigned id = 0; id < TABLE_COUNT; id++)
        for (unsigned salt = 10; salt < 24; salt++) {
            void         *row = arena_alloc(&arena, tables[id].row_size);
            struct batch *batch = batch_of(fixture);
            fill_row(id, salt, row, &arena);
            batch_put(batch, id, row);
            must_commit(fixture, batch);
            assert_stored(fixture, id, row);
        }
}

static void put_replaces_all_columns(void **state)
{
    struct fixture *fixture = fixture_of(state);
    CLEANUP(arena_done) struct arena arena = { 0 };
    for (unsigned id = 0; id < TABLE_COUNT; id++) {
        void *first = arena_alloc(&arena, tables[id].row_size), *second = arena_alloc(&arena, tables[id].row_size);
        void *kept = arena_alloc(&arena, tables[id].row_size);
        fill_row(id, 40, first, &arena);
        fill_row(id, 41, second, &arena);
        copy_key(id, first, kept);
        for (unsigned i = 0; i < tables[id].keys; i++) {
            const struct column *column = &tables[id].columns[i];
            size_t size = column->kind == COL_I64 ? sizeof(int64_t) : column->kind == COL_UUID ? sizeof(struct uuid)
                          : column->kind == COL_HASH ? sizeof(struct sha256) : sizeof(struct span);
            memcpy((char *)second + column->offset, (char *)kept + column->offset, size);
        }
        struct batch *batch = batch_of(fixture);
        batch_insert(batch, id, first);
        batch_insert_new(batch, id, second); /* is there already: left as it is */
        must_commit(fixture, batch);
        assert_stored(fixture, id, first);
        batch = batch_of(fixture);
        batch_put(batch, id, second);
        must_commit(fixture, batch);
        assert_stored(fixture, id, second);
        batch = batch_of(fixture);
        batch_delete(batch, id, second);
        must_commit(fixture, batch);
        struct snap *snap = snap_begin(fixture);
        assert_int_equal(reader_get(snap->reader, id, kept), ERR_NOT_FOUND);
        snap_end(snap);
    }
}

static void an_insert_of_a_key_that_exists_stops_the_store(void **state)
{
    struct fixture   *fixture = fixture_of(state);
    struct tenant_row row = { .id = { { 1 } }, .name = SPAN("one") };
    struct batch     *batch = batch_of(fixture);
    batch_insert(batch, TABLE_tenant, &row);
    must_commit(fixture, batch);

    batch = batch_of(fixture);
    struct tenant_row other = { .id = { { 2 } }, .name = SPAN("two") };
    batch_insert(batch, TABLE_tenant, &other);
    batch_insert(batch, TABLE_tenant, &row);
    assert_int_equal(fixture_commit(fixture, batch), ERR_STORAGE);
    assert_true(store_failed(fixture->store));
    struct error error = { 0 };
    store_failure(fixture->store, &error);
    assert_int_equal(error.code, ERR_STORAGE);
    assert_true(error.message[0] != '\0');

    batch = batch_of(fixture); /* refused from now on */
    struct tenant_row third = { .id = { { 3 } }, .name = SPAN("three") };
    batch_put(batch, TABLE_tenant, &third);
    assert_int_equal(fixture_commit(fixture, batch), ERR_STORAGE);

    reopen(fixture);
    struct snap *snap = snap_begin(fixture);
    assert_int_equal(reader_get(snap->reader, TABLE_tenant, &row), ERR_OK);
    assert_int_equal(reader_get(snap->reader, TABLE_tenant, &other), ERR_NOT_FOUND);
    assert_int_equal(reader_get(snap->reader, TABLE_tenant, &third), ERR_NOT_FOUND);
    snap_end(snap);
}

/* ---- queries ---- */

static struct uuid uuid_no(unsigned n)
{
    struct uuid id = { { 0x01, 0x90 } };
    id.b[14] = (uint8_t)(n >> 8);
    id.b[15] = (uint8_t)n;
    return id;
}

static void put_runs(struct fixture *fixture, unsigned count)
{
    struct batch *batch = batch_of(fixture);
    for (unsigned i = 1; i <= count; i++) {
        struct run_row row = { .workspace = uuid_no(1), .id = uuid_no(100 + i), .thread = uuid_no(i % 2), .status = i % 4,
                               .input = SPAN("{}"), .attempt_no = i };
        batch_put(batch, TABLE_run, &row);
    }
    must_commit(fixture, batch);
}

struct seen {
    unsigned count, stop_after;
    int64_t  numbers[64];
};

static bool see_run(void *user, const void *row)
{
    struct seen *seen = user;
    assert_true(seen->count < ARRAY_LEN(seen->numbers));
    seen->numbers[seen->count++] = ((const struct run_row *)row)->attempt_no;
    return seen->count != seen->stop_after;
}

static struct seen run_query(struct fixture *fixture, const struct query *query, int64_t *ret_count, unsigned stop_after)
{
    struct seen  seen = { .stop_after = stop_after };
    struct snap *snap = snap_begin(fixture);
    assert_int_equal(reader_query(snap->reader, query, see_run, &seen), ERR_OK);
    assert_int_equal(reader_count(snap->reader, query, ret_count), ERR_OK);
    snap_end(snap);
    return seen;
}

static void assert_seen(const struct seen *seen, const int64_t *expected, unsigned count)
{
    assert_int_equal(seen->count, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(seen->numbers[i], expected[i]);
}
#define ASSERT_SEEN(seen, ...) \
    assert_seen(&(seen), (const int64_t[]){ __VA_ARGS__ }, ARRAY_LEN(((const int64_t[]){ __VA_ARGS__ })))

static void queries_filter_order_and_cut(void **state)
{
    struct fixture *fixture = fixture_of(state);
    put_runs(fixture, 12);
    int64_t      count;
    struct query query = { .table = TABLE_run, .order_column = "id", .limit = -1,
                           .eq = { { .column = "workspace", .uuid = uuid_no(1) } }, .eq_count = 1 };

    struct seen seen = run_query(fixture, &query, &count, 0);
    assert_int_equal(seen.count, 12);
    assert_int_equal(count, 12);

    query.in_column = "status";
    query.in[0] = 1, query.in[1] = 3, query.in_count = 2;
    seen = run_query(fixture, &query, &count, 0);
    ASSERT_SEEN(seen, 1, 3, 5, 7, 9, 11);
    assert_int_equal(count, 6);

    query.descending = true;
    query.limit = 2, query.offset = 1;
    seen = run_query(fixture, &query, &count, 0);
    ASSERT_SEEN(seen, 9, 7);
    assert_int_equal(count, 6); /* limit and offset ignored */

    query.limit = -1, query.offset = 4;
    seen = run_query(fixture, &query, &count, 0);
    ASSERT_SEEN(seen, 3, 1);

    query.offset = 0;
    seen = run_query(fixture, &query, &count, 3); /* the callback stops */
    ASSERT_SEEN(seen, 11, 9, 7);

    query.eq[1].column = "thread";
    query.eq[1].uuid = uuid_no(0);
    query.eq_count = 2;
    seen = run_query(fixture, &query, &count, 0);
    assert_int_equal(seen.count, 0);
    assert_int_equal(count, 0);

    query.in_count = 0; /* in an empty set is nothing */
    query.eq_count = 1;
    seen = run_query(fixture, &query, &count, 0);
    assert_int_equal(seen.count, 0);
    assert_int_equal(count, 0);
}

static void queries_compare_bytes(void **state)
{
    struct fixture       *fixture = fixture_of(state);
    struct credential_row row = { .id = uuid_no(1), .kind = 2, .lookup = SPAN("a\0b") };
    struct batch         *batch = batch_of(fixture);
    batch_put(batch, TABLE_credential, &row);
    row.id = uuid_no(2);
    row.lookup = SPAN("a\0c");
    batch_put(batch, TABLE_credential, &row);
    must_commit(fixture, batch);
    int64_t      count;
    struct query query = { .table = TABLE_credential, .limit = -1, .eq = { { .column = "lookup", .bytes = SPAN("a\0b") } }, .eq_count = 1 };
    struct snap *snap = snap_begin(fixture);
    assert_int_equal(reader_count(snap->reader, &query, &count), ERR_OK);
    assert_int_equal(count, 1);
    snap_end(snap);
}

/* A callback that reads with the same reader, also the same statement. */
static struct reader *nested_reader;
static bool nested_each(void *user, const void *row)
{
    struct run_row other = { .workspace = uuid_no(1), .id = ((const struct run_row *)row)->id };
    assert_int_equal(reader_get(nested_reader, TABLE_run, &other), ERR_OK);
    int64_t      count;
    struct query query = { .table = TABLE_run, .limit = -1 };
    struct seen  seen = { 0 };
    assert_int_equal(reader_count(nested_reader, &query, &count), ERR_OK);
    assert_int_equal(reader_query(nested_reader, &query, see_run, &seen), ERR_OK);
    assert_int_equal(seen.count, 5);
    ++*(unsigned *)user;
    return true;
}

static void a_callback_may_read(void **state)
{
    struct fixture *fixture = fixture_of(state);
    put_runs(fixture, 5);
    struct snap *snap = snap_begin(fixture);
    struct query query = { .table = TABLE_run, .limit = -1 };
    unsigned     calls = 0;
    nested_reader = snap->reader;
    assert_int_equal(reader_query(snap->reader, &query, nested_each, &calls), ERR_OK);
    assert_int_equal(calls, 5);
    snap_end(snap);
}

static void the_snapshot_with_the_highest_seq_is_found(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct batch   *batch = batch_of(fixture);
    for (int64_t seq = 10; seq <= 30; seq += 10) {
        struct snapshot_row row = { .attempt = uuid_no(5), .seq = seq, .digest = { { (uint8_t)seq } }, .body = SPAN("state") };
        batch_put(batch, TABLE_snapshot, &row);
    }
    must_commit(fixture, batch);
    static const struct { uint64_t at_most; int64_t seq; } cases[] = { { 9, 0 }, { 10, 10 }, { 29, 20 }, { 30, 30 }, { UINT64_MAX, 30 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct snap        *snap = snap_begin(fixture);
        struct snapshot_row row = { 0 };
        enum err            err = reader_snapshot(snap->reader, uuid_no(5), cases[i].at_most, &row);
        assert_int_equal(err, cases[i].seq ? ERR_OK : ERR_NOT_FOUND);
        assert_int_equal(row.seq, cases[i].seq);
        snap_end(snap);
    }
}

static void snapshots_are_purged_newest_first_and_of_one_attempt(void **state)
{
    enum { MANY = PURGE_MOST + 5 };
    struct fixture *fixture = fixture_of(state);
    struct batch   *batch = batch_of(fixture);
    for (int64_t seq = 0; seq < MANY; seq++)
        for (unsigned attempt = 5; attempt <= 6; attempt++) {
            struct snapshot_row row = { .attempt = uuid_no(attempt), .seq = seq, .body = SPAN("state") };
            batch_put(batch, TABLE_snapshot, &row);
        }
    must_commit(fixture, batch);
    for (int64_t left = MANY - PURGE_MOST; left >= 0; left -= MANY - PURGE_MOST) {
        batch = batch_of(fixture);
        batch_purge_snapshots(batch, uuid_no(5));
        must_commit(fixture, batch);
        struct snap        *snap = snap_begin(fixture);
        struct snapshot_row row = { 0 };
        assert_int_equal(reader_snapshot(snap->reader, uuid_no(5), UINT64_MAX, &row), left ? ERR_OK : ERR_NOT_FOUND);
        assert_int_equal(row.seq, left ? left - 1 : 0);
        assert_int_equal(reader_snapshot(snap->reader, uuid_no(6), UINT64_MAX, &row), ERR_OK);
        assert_int_equal(row.seq, MANY - 1);
        snap_end(snap);
    }
}

static void see_ended(void *user, struct uuid workspace, struct uuid id, int64_t completed_ms)
{
    struct seen *seen = user;
    assert_true(uuid_eq(workspace, uuid_no(1)));
    assert_true(uuid_eq(id, uuid_no(100 + (unsigned)completed_ms / 10)));
    seen->numbers[seen->count++] = completed_ms;
}

/* Runs 1 to 9 ended at ten times their number, but for every third one, which goes on; every fifth one's ledger is gone. */
static void runs_that_ended_are_found_in_the_order_of_their_ends(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct batch   *batch = batch_of(fixture);
    for (unsigned i = 9; i >= 1; i--) {
        struct run_row row = { .workspace = uuid_no(1), .id = uuid_no(100 + i), .stream = i % 5 ? (int64_t)(1000 + i) : 0,
                               .completed_ms = i % 3 ? (int64_t)i * 10 : 0 };
        batch_put(batch, TABLE_run, &row);
    }
    must_commit(fixture, batch);
    static const struct { int64_t from, before, limit; unsigned count; int64_t numbers[6]; } cases[] = {
        { 0, 1000, 100, 5, { 10, 20, 40, 70, 80 } }, { 0, 1000, 2, 2, { 10, 20 } }, { 20, 80, 100, 3, { 20, 40, 70 } }, { 81, 1000, 9, 0, { 0 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct seen  seen = { .count = 0 };
        struct snap *snap = snap_begin(fixture);
        assert_int_equal(reader_ended(snap->reader, cases[i].from, cases[i].before, cases[i].limit, see_ended, &seen), ERR_OK);
        snap_end(snap);
        assert_seen(&seen, cases[i].numbers, cases[i].count);
    }
}

/* ---- frames ---- */

struct expected {
    struct frame  *frames;
    size_t         count, cap;
};

struct model {
    struct expected streams[24];  /* what was committed, by stream number - 1000 */
    uint64_t        random;
    struct arena    arena;
};

static unsigned model_random(struct model *model, unsigned below)
{
    model->random = model->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(model->random >> 33) % below;
}

static void model_done(struct model *model)
{
    for (size_t i = 0; i < ARRAY_LEN(model->streams); i++)
        free(model->streams[i].frames);
    arena_done(&model->arena);
}

static void model_append(struct model *model, struct batch *batch, unsigned i, size_t size, bool closed)
{
    struct expected    *stream = &model->streams[i];
    const struct frame *last = stream->count ? &stream->frames[stream->count - 1] : NULL;
    struct frame        frame = {
               .stream = 1000 + i,
               .first_seq = last ? last->first_seq + last->n : 1,
               .n = 1 + model_random(model, 5),
               .base_ms = (last ? last->base_ms : 1700000000000) + (int64_t)model_random(model, 5000) - 100,
               .wf_before = last ? last->wf_before + model_random(model, 3) : 0,
               .epoch = last ? last->epoch + model_random(model, 2) : 1,
    };
    CLEANUP(buf_done) struct buf body = { 0 };
    fixture_body(frame.stream, frame.first_seq, size, &body);
    frame.body = arena_copy(&model->arena, buf_view(&body));
    batch_frame(batch, &frame, closed);
    if (stream->count == stream->cap) {
        stream->cap = stream->cap ? stream->cap * 2 : 16;
        stream->frames = mem_grow(stream->frames, stream->cap * sizeof *stream->frames);
    }
    stream->frames[stream->count++] = frame;
}

struct reading {
    const struct expected *expected;
    size_t                 at, seen, stop_after;
};

static bool check_frame(void *user, const struct frame *frame)
{
    struct reading *reading = user;
    assert_true(reading->at < reading->expected->count);
    const struct frame *want = &reading->expected->frames[reading->at++];
    assert_int_equal(frame->stream, want->stream);
    assert_int_equal(frame->first_seq, want->first_seq);
    assert_int_equal(frame->n, want->n);
    assert_int_equal(frame->base_ms, want->base_ms);
    assert_int_equal(frame->wf_before, want->wf_before);
    assert_int_equal(frame->epoch, want->epoch);
    assert_true(span_eq(frame->body, want->body));
    reading->seen++;
    return reading->seen != reading->stop_after;
}

static void check_wf(struct reader *reader, const struct expected *stream, uint64_t after)
{
    uint64_t want = 0, got = 0;
    for (size_t i = 0; i < stream->count; i++)
        if (stream->frames[i].wf_before <= after)
            want = stream->frames[i].first_seq;
    enum err err = reader_frame_by_wf(reader, stream->frames[0].stream, after, &got);
    assert_int_equal(err, want ? ERR_OK : ERR_NOT_FOUND);
    assert_int_equal(got, want);
}

/* Reads a stream as a whole, from places in its middle, in pieces, and by WF number. */
static void check_stream(struct model *model, struct reader *reader, unsigned i)
{
    const struct expected *stream = &model->streams[i];
    uint64_t               number = 1000 + i, head = 99;
    struct frame           last = { 0 };
    assert_int_equal(reader_head(reader, number, &head, &last), ERR_OK);
    if (stream->count == 0) {
        assert_int_equal(head, 0);
        uint64_t first;
        assert_int_equal(reader_frame_by_wf(reader, number, 3, &first), ERR_NOT_FOUND);
        return;
    }
    const struct frame *want = &stream->frames[stream->count - 1];
    assert_int_equal(head, want->first_seq + want->n - 1);
    assert_int_equal(last.first_seq, want->first_seq);
    assert_int_equal(last.base_ms, want->base_ms);
    assert_int_equal(last.wf_before, want->wf_before);

    struct reading reading = { .expected = stream };
    assert_int_equal(reader_frames(reader, number, 0, SIZE_MAX, check_frame, &reading), ERR_OK);
    assert_int_equal(reading.seen, stream->count);
    for (unsigned tries = 0; tries < 6; tries++) {
        size_t         from = model_random(model, (unsigned)stream->count);
        uint64_t       inside = model_random(model, stream->frames[from].n);
        struct reading part = { .expected = stream, .at = from, .stop_after = 1 + model_random(model, 4) };
        size_t         left = stream->count - from;
        uint64_t       after = stream->frames[from].first_seq - 1 + inside;
        assert_int_equal(reader_frames(reader, number, after, SIZE_MAX, check_frame, &part), ERR_OK);
        assert_int_equal(part.seen, left < part.stop_after ? left : part.stop_after);
        struct reading one = { .expected = stream, .at = from };
        assert_int_equal(reader_frames(reader, number, after, 1, check_frame, &one), ERR_OK);
        assert_int_equal(one.seen, 1); /* at least one, and no second one above the limit */
        check_wf(reader, stream, model_random(model, (unsigned)want->wf_before + 3));
    }
    struct reading none = { .expected = stream, .at = stream->count };
    assert_int_equal(reader_frames(reader, number, head, SIZE_MAX, check_frame, &none), ERR_OK);
    assert_int_equal(reader_frames(reader, number, head + 7, SIZE_MAX, check_frame, &none), ERR_OK);
    assert_int_equal(reader_frames(reader, number, UINT64_MAX, SIZE_MAX, check_frame, &none), ERR_OK);
    assert_int_equal(none.seen, 0);
}

static void check_all(struct fixture *fixture, struct model *model)
{
    struct snap *snap = snap_begin(fixture);
    for (unsigned i = 0; i < ARRAY_LEN(model->streams); i++)
        check_stream(model, snap->reader, i);
    snap_end(snap);
}

static void append_at_random(struct fixture *fixture, struct model *model, unsigned batches)
{
    for (unsigned n = 0; n < batches; n++) {
        struct batch *batch = batch_of(fixture);
        unsigned      count = 1 + model_random(model, 6);
        for (unsigned k = 0; k < count; k++) {
            unsigned i = model_random(model, ARRAY_LEN(model->streams) - 2); /* two stay empty */
            size_t   size = model_random(model, 20) == 0 ? 9000 : model_random(model, 200);
            model_append(model, batch, i, size, model_random(model, 50) == 0);
        }
        fixture_submit(fixture, batch);
        if (model_random(model, 3) == 0)
            assert_int_equal(fixture_wait(fixture), ERR_OK);
    }
    assert_int_equal(fixture_wait(fixture), ERR_OK);
}

static void streams_are_dense_over_tail_and_segments(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    model->random = 7;
    for (unsigned round = 0; round < 12; round++) {
        append_at_random(fixture, model, 40);
        check_all(fixture, model);
        if (round % 4 == 1) {
            assert_true(fixture_settled(fixture));
            check_all(fixture, model);
        }
        if (round % 4 == 3) {
            reopen(fixture);
            check_all(fixture, model);
        }
    }
    struct store_stats stats;
    store_stats(fixture->store, &stats);
    assert_true(fixture_settled(fixture));
    check_all(fixture, model);
    model_done(model);
    free(model);
}

static void large_frames_come_back(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    static const size_t sizes[] = { 1 << 20, 10, 0, 200000, 130000, 131072, 1, 1 << 20, 3 << 20 };
    for (unsigned round = 0; round < 2; round++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct batch *batch = batch_of(fixture);
            model_append(model, batch, 3, sizes[i], false);
            must_commit(fixture, batch);
        }
    check_all(fixture, model);
    assert_true(fixture_settled(fixture));
    check_all(fixture, model);
    reopen(fixture);
    check_all(fixture, model);
    model_done(model);
    free(model);
}

static void a_purge_takes_the_segments_of_one_stream(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    append_at_random(fixture, model, 60);
    assert_true(fixture_settled(fixture));
    struct batch *batch = batch_of(fixture);
    int64_t       before, after, other;
    struct snap  *snap = snap_begin(fixture);
    assert_int_equal(reader_segments(snap->reader, 1000, &before), ERR_OK);
    assert_true(before > 0 && before <= PURGE_MOST && !reader_in_tail(snap->reader, 1000));
    snap_end(snap);
    batch_purge(batch, 1000);
    must_commit(fixture, batch);
    snap = snap_begin(fixture);
    assert_int_equal(reader_segments(snap->reader, 1000, &after), ERR_OK);
    assert_int_equal(reader_segments(snap->reader, 1001, &other), ERR_OK);
    assert_int_equal(after, 0);
    assert_true(other > 0);
    for (unsigned i = 1; i < ARRAY_LEN(model->streams); i++)
        check_stream(model, snap->reader, i);
    snap_end(snap);
    model_done(model);
    free(model);
}

static void settled_rows_leave_the_tail(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    append_at_random(fixture, model, 60);
    assert_true(fixture_settled(fixture));
    uint64_t events = 0;
    for (size_t i = 0; i < ARRAY_LEN(model->streams); i++)
        for (size_t k = 0; k < model->streams[i].count; k++)
            events += model->streams[i].frames[k].n;
    struct store_stats stats;
    store_stats(fixture->store, &stats);
    assert_int_equal(stats.events, events);
    assert_int_equal(stats.settled_events, events);
    assert_int_equal(stats.tail_bytes, 0);
    assert_true(stats.settles > 0 && stats.commits > 0);
    assert_int_equal(stats.file_bytes > 0, fixture->base->folder != NULL);
    assert_int_equal(stats.queue_batches, 0);
    uint64_t counted = 0;
    for (size_t i = 0; i < ARRAY_LEN(stats.commit_us_hist); i++)
        counted += stats.commit_us_hist[i];
    assert_int_equal(counted, stats.commits);
    model_done(model);
    free(model);
}

static void the_tail_stays_inside_its_bound(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    uint64_t        most = 0;
    for (unsigned n = 0; n < 300; n++) { /* never idle: the next batch is there before the last one is done */
        for (unsigned k = 0; k < 2; k++) {
            struct batch *batch = batch_of(fixture);
            model_append(model, batch, model_random(model, 20), 300, false);
            fixture_submit(fixture, batch);
        }
        assert_int_equal(fixture_wait(fixture), ERR_OK);
        struct store_stats stats;
        store_stats(fixture->store, &stats);
        most = stats.tail_bytes > most ? stats.tail_bytes : most;
    }
    assert_true(most < 3 * fixture->config.tail_bytes);
    check_all(fixture, model);
    model_done(model);
    free(model);
}

/* ---- snapshots ---- */

static void a_snapshot_does_not_move(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    append_at_random(fixture, model, 30);
    struct tenant_row tenant = { .id = uuid_no(9), .name = SPAN("before") };
    struct batch     *batch = batch_of(fixture);
    batch_put(batch, TABLE_tenant, &tenant);
    must_commit(fixture, batch);

    struct snap *snap = snap_begin(fixture);
    /* Behind its back: more frames of the same streams, settled and deleted as far as may be, and another row. */
    struct model *later = mem_alloc(sizeof *later);
    for (unsigned i = 0; i < ARRAY_LEN(model->streams); i++)
        for (size_t k = 0; k < model->streams[i].count; k++) {
            struct expected *copy = &later->streams[i];
            if (copy->count == copy->cap) {
                copy->cap = copy->cap ? copy->cap * 2 : 16;
                copy->frames = mem_grow(copy->frames, copy->cap * sizeof *copy->frames);
            }
            copy->frames[copy->count++] = model->streams[i].frames[k];
        }
    append_at_random(fixture, later, 60);
    tenant.name = SPAN("after");
    batch = batch_of(fixture);
    batch_put(batch, TABLE_tenant, &tenant);
    must_commit(fixture, batch);
    assert_true(fixture_settled(fixture));

    struct tenant_row seen = { .id = uuid_no(9) };
    assert_int_equal(reader_get(snap->reader, TABLE_tenant, &seen), ERR_OK);
    assert_true(span_is(seen.name, "before"));
    for (unsigned i = 0; i < ARRAY_LEN(model->streams); i++)
        check_stream(model, snap->reader, i);
    snap_end(snap);

    snap = snap_begin(fixture);
    assert_int_equal(reader_get(snap->reader, TABLE_tenant, &seen), ERR_OK);
    assert_true(span_is(seen.name, "after"));
    snap_end(snap);
    check_all(fixture, later);
    model_done(model);
    model_done(later);
    free(model);
    free(later);
}

/* ---- the owner's side ---- */

struct order {
    unsigned next;
    bool     wrong;
};
struct ticket {
    struct order *order;
    unsigned      number;
};

static void check_order(void *arg, enum err err)
{
    struct ticket *ticket = arg;
    if (err != ERR_OK || ticket->order->next != ticket->number)
        ticket->order->wrong = true;
    ticket->order->next++;
}

static void after_calls_come_in_order(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct order    order = { 0 };
    struct ticket   tickets[60];
    struct model   *model = mem_alloc(sizeof *model);
    for (unsigned i = 0; i < ARRAY_LEN(tickets); i++)
        tickets[i] = (struct ticket){ &order, i };
    for (unsigned i = 0; i < ARRAY_LEN(tickets); i += 3) {
        struct batch *batch = batch_of(fixture);
        assert_true(batch_empty(batch));
        model_append(model, batch, i % 5, 10, false);
        assert_true(!batch_empty(batch) && batch_bytes(batch) > 10);
        for (unsigned k = 0; k < 3; k++)
            batch_after(batch, check_order, &tickets[i + k]);
        fixture_submit(fixture, batch);
    }
    assert_int_equal(fixture_wait(fixture), ERR_OK);
    assert_false(order.wrong);
    assert_int_equal(order.next, ARRAY_LEN(tickets));
    batch_free(batch_of(fixture)); /* one that was never submitted */
    model_done(model);
    free(model);
}

static void an_empty_batch_comes_back_too(void **state)
{
    must_commit(fixture_of(state), batch_of(fixture_of(state)));
}

struct test_job {
    struct read_job job;
    uint64_t        head;
    bool            ran, done;
};

static void job_run(struct read_job *base, struct reader *reader)
{
    struct test_job *job = CONTAINER(base, struct test_job, job);
    CLEANUP(arena_done) struct arena arena = { 0 };
    job->ran = reader_begin(reader, &arena) == ERR_OK && reader_head(reader, 1003, &job->head, NULL) == ERR_OK;
    reader_end(reader);
}

static void job_done(struct read_job *base)
{
    CONTAINER(base, struct test_job, job)->done = true;
}

static void read_jobs_run_elsewhere_and_come_back(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    struct batch   *batch = batch_of(fixture);
    model_append(model, batch, 3, 10, false);
    must_commit(fixture, batch);
    struct test_job jobs[4] = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        jobs[i].job.run = job_run;
        jobs[i].job.done = job_done;
        fixture_read(fixture, &jobs[i].job);
    }
    fixture_wait(fixture);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        assert_true(jobs[i].ran && jobs[i].done);
        assert_int_equal(jobs[i].head, model->streams[3].frames[0].n);
    }
    model_done(model);
    free(model);
}

/* ---- opening ---- */

static void everything_is_there_after_a_restart(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    fixture_close(fixture);
    fixture->config.settle_hold_ms = 1000000; /* all of it stays in the tail */
    fixture->config.settle_events = 1000000;
    fixture->config.settle_bytes = 1 << 30;
    fixture->config.tail_bytes = 1 << 30;
    fixture_must_open(fixture);
    append_at_random(fixture, model, 80);
    struct store_stats before, after;
    store_stats(fixture->store, &before);
    reopen(fixture);
    store_stats(fixture->store, &after);
    assert_true(before.tail_frames > 0);
    assert_int_equal(after.tail_frames, before.tail_frames);
    assert_int_equal(after.tail_bytes, before.tail_bytes);
    check_all(fixture, model);
    fixture->config.settle_hold_ms = 1;
    reopen(fixture);
    assert_true(fixture_settled(fixture));
    check_all(fixture, model);
    append_at_random(fixture, model, 20);
    check_all(fixture, model);
    model_done(model);
    free(model);
}

static void the_epoch_rises_at_each_start(void **state)
{
    struct fixture *fixture = fixture_of(state);
    assert_int_equal(store_epoch(fixture->store), 1);
    for (uint64_t epoch = 2; epoch < 5; epoch++) {
        reopen(fixture);
        assert_int_equal(store_epoch(fixture->store), epoch);
    }
    fixture_close(fixture);
    fixture->config.node = "other";
    fixture_must_open(fixture);
    assert_int_equal(store_epoch(fixture->store), 1);
}

static void a_folder_has_one_process(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct store   *second = NULL;
    struct error    error = { 0 };
    assert_int_equal(store_open(&fixture->config, &second, &error), ERR_CONFLICT);
    assert_null(second);
    assert_non_null(strstr(error.message, "in use"));
    must_commit(fixture, batch_of(fixture)); /* the first one goes on */
}

static void a_later_schema_is_refused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct meta_row row = { .name = SPAN("schema"), .value = SPAN("2000") };
    struct batch   *batch = batch_of(fixture);
    batch_put(batch, TABLE_meta, &row);
    must_commit(fixture, batch);
    fixture_close(fixture);
    struct error error = { 0 };
    assert_int_equal(fixture_open(fixture, &error), ERR_STORAGE);
    assert_non_null(strstr(error.message, "later release"));
    assert_null(fixture->store);
}

/* Bytes from a disk are outside bytes: a row of the tail that cannot be there is said, not asserted. */
static void a_damaged_tail_is_refused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct error    error = { 0 };
    fixture_close(fixture);
    fixture_exec(fixture, "INSERT INTO tail SELECT 7, 1, 1, 2, 0, 0, 1, value FROM meta WHERE length(name) = 6"); /* "schema" */
    fixture_exec(fixture, "INSERT INTO tail SELECT 8, 1, 4, 1, 0, 0, 1, value FROM meta WHERE length(name) = 6");
    assert_int_equal(fixture_open(fixture, &error), ERR_CORRUPT);
    assert_non_null(strstr(error.message, "position 8"));
}

static void bad_places_are_refused_with_a_reason(void **state)
{
    struct fixture *fixture = fixture_of(state);
    fixture_close(fixture);
    CLEANUP(buf_done) struct buf in_a_file = { 0 };
    CLEANUP(buf_done) struct buf file = { 0 };
    buf_printf(&file, "%s/file%c", fixture->folder, '\0');
    FILE *f = fopen(file.p, "w");
    assert_non_null(f);
    fclose(f);
    buf_printf(&in_a_file, "sqlite:%s/file/data%c", fixture->folder, '\0');
    const char *const urls[] = { "sqlite:", "mongodb://x", "", in_a_file.p, "postgres://[::1", "postgres://h/?nonsense=1" };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct store_config config = fixture->config;
        struct store       *store = NULL;
        struct error        error = { 0 };
        config.url = urls[i];
        assert_true(store_open(&config, &store, &error) != ERR_OK);
        assert_true(error.message[0] != '\0');
        assert_null(store);
    }
}

static void the_folder_is_private(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct stat     st;
    assert_int_equal(stat(fixture->data, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void the_log_is_checkpointed_and_reused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct model   *model = mem_alloc(sizeof *model);
    for (unsigned i = 0; i < 40; i++)
        append_at_random(fixture, model, 20);
    struct store_stats stats = { 0 };
    for (unsigned tries = 0; tries < 2000; tries++) {
        store_stats(fixture->store, &stats);
        if (stats.checkpoints > 0 && stats.checkpoint_stalls > 0)
            break;
        must_commit(fixture, batch_of(fixture));
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    assert_true(stats.checkpoints > 0);
    assert_true(stats.checkpoint_stalls > 0);
    check_all(fixture, model);
    model_done(model);
    free(model);
}

#define ON(setup, name) { #name " (" #setup ")", name, set_up_##setup, tear_down, NULL }
#define SUITE(setup)                                                                                                            \
    ON(setup, rows_of_every_table_come_back_as_they_went), ON(setup, put_replaces_all_columns),                                 \
        ON(setup, an_insert_of_a_key_that_exists_stops_the_store), ON(setup, queries_filter_order_and_cut),                     \
        ON(setup, queries_compare_bytes), ON(setup, a_callback_may_read), ON(setup, the_snapshot_with_the_highest_seq_is_found),  \
        ON(setup, snapshots_are_purged_newest_first_and_of_one_attempt),                                                       \
        ON(setup, runs_that_ended_are_found_in_the_order_of_their_ends), ON(setup, a_purge_takes_the_segments_of_one_stream), \
        ON(setup, streams_are_dense_over_tail_and_segments), ON(setup, large_frames_come_back),                                 \
        ON(setup, settled_rows_leave_the_tail), ON(setup, the_tail_stays_inside_its_bound), ON(setup, a_snapshot_does_not_move), \
        ON(setup, after_calls_come_in_order), ON(setup, an_empty_batch_comes_back_too),                                         \
        ON(setup, read_jobs_run_elsewhere_and_come_back), ON(setup, everything_is_there_after_a_restart),                       \
        ON(setup, the_epoch_rises_at_each_start), ON(setup, a_folder_has_one_process), ON(setup, a_later_schema_is_refused),    \
        ON(setup, bad_places_are_refused_with_a_reason), ON(setup, a_damaged_tail_is_refused),                                  \
        ON(setup, the_folder_is_private)

static void no_server(void **state)
{
    skip(); /* ./dev test starts one */
}

int main(void)
{
    const struct CMUnitTest sqlite[] = { SUITE(bare), SUITE(faulty), ON(bare, the_log_is_checkpointed_and_reused),
                                         ON(faulty, the_log_is_checkpointed_and_reused) };
    const struct CMUnitTest pg[] = { SUITE(pg), SUITE(pg_faulty) };
    const struct CMUnitTest none[] = { { "on PostgreSQL", no_server, NULL, NULL, NULL } };
    int failed = cmocka_run_group_tests(sqlite, NULL, NULL);
    if (fixture_has(&db_pg))
        failed += cmocka_run_group_tests(pg, NULL, NULL);
    else
        failed += cmocka_run_group_tests(none, NULL, NULL);
    return failed;
}
