/* SPDX-License-Identifier: Apache-2.0 */
/* What only a database server can do to the store: another process takes the node over, connections end, it is shared by two
 * who must not both write. Needs PERDURE_TEST_PG, the url of a server (./dev test starts one). */
#include "support/store_fixture.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int set_up(void **state)
{
    if (!fixture_has(&db_pg))
        return 0;
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    fixture_init_on(fixture, &db_pg, NULL);
    fixture_must_open(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    if (*state)
        fixture_done(*state);
    free(*state);
    return 0;
}

static struct fixture *fixture_of(void **state)
{
    if (!*state)
        skip();
    return *state;
}

static enum err append(struct fixture *fixture, uint64_t stream, uint64_t seq)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    fixture_body(stream, seq, 50, &body);
    struct frame  frame = { .stream = stream, .first_seq = seq, .n = 1, .base_ms = 1, .epoch = 1, .body = buf_view(&body) };
    struct batch *batch = batch_new(fixture->store);
    batch_frame(batch, &frame, false);
    return fixture_commit(fixture, batch);
}

static bool see(void *user, const struct frame *frame)
{
    uint64_t *next = user;
    assert_int_equal(frame->first_seq, *next);
    assert_true(fixture_body_is(frame->stream, frame->first_seq, frame->body));
    *next += frame->n;
    return true;
}

static void assert_dense(struct fixture *fixture, uint64_t stream, uint64_t head)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct reader *reader = store_reader(fixture->store);
    uint64_t       next = 1;
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    assert_int_equal(reader_frames(reader, stream, 0, SIZE_MAX, see, &next), ERR_OK);
    assert_int_equal(next, head + 1);
    reader_end(reader);
}

/* A second owner on the same database, with a data folder of its own. */
static enum err open_elsewhere(struct fixture *fixture, const char *node, struct error *error)
{
    CLEANUP(buf_done) struct buf folder = { 0 };
    buf_printf(&folder, "%s/elsewhere%c", fixture->folder, '\0');
    struct store_config config = fixture->config;
    struct store       *store = NULL;
    config.folder = folder.p;
    config.node = node;
    enum err err = store_open(&config, &store, error);
    store_close(store);
    return err;
}

static void a_node_with_a_living_lease_is_not_taken(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct error    error = { 0 };
    assert_int_equal(open_elsewhere(fixture, NULL, &error), ERR_CONFLICT);
    assert_non_null(strstr(error.message, "\"local\" uses this database"));
    assert_int_equal(open_elsewhere(fixture, "other", &error), ERR_CONFLICT);
    assert_int_equal(append(fixture, 1, 1), ERR_OK); /* who has it goes on */
    fixture_close(fixture);
    assert_int_equal(open_elsewhere(fixture, NULL, &error), ERR_OK); /* it was given back */
    assert_int_equal(open_elsewhere(fixture, "other", &error), ERR_OK);
}

static void an_old_lease_runs_out(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct error    error = { 0 };
    fixture_close(fixture);
    fixture_exec(fixture, "UPDATE node SET expires_ms = 1, address = NULL");
    assert_int_equal(open_elsewhere(fixture, NULL, &error), ERR_OK);
}

/* What kill -9 leaves: a lease that lives, and a lock that nobody holds. */
static void a_restart_on_the_same_folder_does_not_wait(void **state)
{
    struct fixture *fixture = fixture_of(state);
    assert_int_equal(append(fixture, 1, 1), ERR_OK);
    fixture_close(fixture);
    fixture_exec(fixture, "UPDATE node SET expires_ms = 4000000000000");
    fixture_must_open(fixture);
    assert_int_equal(store_epoch(fixture->store), 2);
    assert_int_equal(append(fixture, 1, 2), ERR_OK);
    assert_dense(fixture, 1, 2);
}

static void a_node_that_was_taken_over_cannot_write(void **state)
{
    struct fixture *fixture = fixture_of(state);
    assert_int_equal(append(fixture, 1, 1), ERR_OK);
    fixture_exec(fixture, "UPDATE node SET epoch = epoch + 1");
    assert_int_equal(append(fixture, 1, 2), ERR_STORAGE);
    assert_true(store_failed(fixture->store));
    struct error why = { 0 };
    store_failure(fixture->store, &why);
    assert_non_null(strstr(why.message, "taken this node over"));
    fixture_close(fixture);
    fixture_must_open(fixture);
    assert_dense(fixture, 1, 1); /* nothing of the refused transaction is there */
}

static void an_idle_node_keeps_its_lease(void **state)
{
    struct fixture    *fixture = fixture_of(state);
    struct store_stats before, after;
    store_stats(fixture->store, &before);
    for (unsigned tries = 0; tries < 100; tries++) {
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
        store_stats(fixture->store, &after);
        if (after.commits > before.commits)
            return;
    }
    fail_msg("no transaction in 5 s");
}

static void end_all_connections(struct fixture *fixture)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    /* Only this test's: others run beside it. */
    buf_printf(&sql,
               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid IN "
               "(SELECT pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace "
               "WHERE n.nspname = '%s') OR application_name = '%s'%c",
               fixture->schema, fixture->schema, '\0');
    fixture_exec(fixture, sql.p);
}

/* The connections are found by their application_name. */
static void reopen_with_a_name(struct fixture *fixture)
{
    CLEANUP(buf_done) struct buf url = { 0 };
    fixture_close(fixture);
    buf_printf(&url, "%s&application_name=%s%c", fixture->url, fixture->schema, '\0');
    const char *plain = fixture->config.url;
    fixture->config.url = url.p;
    fixture_must_open(fixture);
    fixture->config.url = plain;
}

static void connections_that_end_are_made_again(void **state)
{
    struct fixture *fixture = fixture_of(state);
    reopen_with_a_name(fixture);
    uint64_t head = 0;
    for (unsigned round = 0; round < 20; round++) {
        assert_int_equal(append(fixture, 1, ++head), ERR_OK);
        end_all_connections(fixture);
        if (round % 3 == 0)
            assert_int_equal(append(fixture, 1, ++head), ERR_OK);
        assert_dense(fixture, 1, head); /* the reader's own connection is found dead before it is used */
    }
    struct store_stats stats;
    store_stats(fixture->store, &stats);
    assert_false(store_failed(fixture->store));
}

/* Under way when they end: in the middle of a transaction, or of its commit. */
static void connections_that_end_under_load_lose_nothing(void **state)
{
    enum { STREAMS = 8, BATCHES = 150 };
    struct fixture *fixture = fixture_of(state);
    reopen_with_a_name(fixture);
    for (uint64_t seq = 1; seq <= BATCHES; seq++) {
        for (uint64_t stream = 1; stream <= STREAMS; stream++) {
            CLEANUP(buf_done) struct buf body = { 0 };
            fixture_body(stream, seq, 300, &body);
            struct frame  frame = { .stream = stream, .first_seq = seq, .n = 1, .base_ms = 1, .epoch = 1, .body = buf_view(&body) };
            struct batch *batch = batch_new(fixture->store);
            batch_frame(batch, &frame, seq == BATCHES);
            fixture_submit(fixture, batch);
        }
        if (seq % 15 == 7)
            end_all_connections(fixture);
        if (seq % 10 == 0)
            fixture_wait(fixture);
    }
    assert_int_equal(fixture_wait(fixture), ERR_OK);
    assert_int_equal(fixture->failed, 0);
    for (uint64_t stream = 1; stream <= STREAMS; stream++)
        assert_dense(fixture, stream, BATCHES);
    assert_true(fixture_settled(fixture));
    for (uint64_t stream = 1; stream <= STREAMS; stream++)
        assert_dense(fixture, stream, BATCHES);
    struct store_stats stats;
    store_stats(fixture->store, &stats);
    assert_true(stats.retries > 0);
}

/* A way to the server that can be closed: a link to its socket, in a folder of the test's own. */
struct door {
    char *folder, *link, *socket, *url;
};

static char *text_of(const char *a, const char *b, const char *c)
{
    struct buf text = { 0 };
    buf_printf(&text, "%s%s%s%c", a, b, c, '\0');
    return text.p;
}

static struct door door_to(struct fixture *fixture)
{
    const char *host = strstr(fixture->url, "host=/");
    if (!host)
        skip(); /* a server that is not reached through a socket in the file system */
    host += strlen("host=");
    char       *folder = mem_dup(host, strcspn(host, "&"));
    struct door door = { .folder = text_of(fixture->folder, "/door", "") };
    CLEANUP(buf_done) struct buf more = { 0 };
    buf_printf(&more, "&application_name=%s&host=%s%c", fixture->schema, door.folder, '\0');
    door.link = text_of(door.folder, "/.s.PGSQL.5432", "");
    door.socket = text_of(folder, "/.s.PGSQL.5432", "");
    door.url = text_of(fixture->url, more.p, "");
    free(folder);
    assert_int_equal(mkdir(door.folder, 0700), 0);
    assert_int_equal(symlink(door.socket, door.link), 0);
    fixture_close(fixture);
    fixture->config.url = door.url;
    return door;
}

static void door_shut(struct fixture *fixture, struct door *door)
{
    assert_int_equal(unlink(door->link), 0);
    end_all_connections(fixture);
}

static void door_done(struct fixture *fixture, struct door *door)
{
    fixture_close(fixture);
    fixture->config.url = fixture->url;
    char *const all[] = { door->folder, door->link, door->socket, door->url };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
}

static void a_database_that_stays_away_stops_the_store(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct door     door = door_to(fixture);
    fixture->config.reconnect_ms = 200;
    fixture_must_open(fixture);
    assert_int_equal(append(fixture, 1, 1), ERR_OK);
    door_shut(fixture, &door);
    assert_int_equal(append(fixture, 1, 2), ERR_STORAGE);
    assert_true(store_failed(fixture->store));
    struct error why = { 0 };
    store_failure(fixture->store, &why);
    assert_non_null(strstr(why.message, "cannot connect"));
    door_done(fixture, &door);
    fixture_must_open(fixture);
    assert_dense(fixture, 1, 1);
}

static void a_database_that_comes_back_is_used_again(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct door     door = door_to(fixture);
    CLEANUP(arena_done) struct arena arena = { 0 };
    fixture_must_open(fixture);
    for (uint64_t seq = 1; seq <= 9; seq += 2) {
        assert_int_equal(append(fixture, 1, seq), ERR_OK);
        door_shut(fixture, &door);
        CLEANUP(buf_done) struct buf body = { 0 };
        fixture_body(1, seq + 1, 50, &body);
        struct frame  frame = { .stream = 1, .first_seq = seq + 1, .n = 1, .base_ms = 1, .epoch = 1, .body = buf_view(&body) };
        struct batch *batch = batch_new(fixture->store);
        batch_frame(batch, &frame, false);
        fixture_submit(fixture, batch);
        for (unsigned tries = 0; tries < 2000 && !store_away(fixture->store); tries++)
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        assert_true(store_away(fixture->store));
        assert_int_equal(reader_begin(store_reader(fixture->store), &arena), ERR_STORAGE); /* at once, and cleanly */
        assert_int_equal(symlink(door.socket, door.link), 0);
        assert_int_equal(fixture_wait(fixture), ERR_OK);
        assert_false(store_away(fixture->store));
        assert_dense(fixture, 1, seq + 1);
    }
    door_done(fixture, &door);
}

static void an_error_of_another_kind_stops_the_store(void **state)
{
    struct fixture *fixture = fixture_of(state);
    reopen_with_a_name(fixture);
    CLEANUP(buf_done) struct buf hide = { 0 };
    CLEANUP(buf_done) struct buf show = { 0 };
    buf_printf(&hide, "ALTER SCHEMA %s RENAME TO hidden_%s%c", fixture->schema, fixture->schema, '\0');
    buf_printf(&show, "ALTER SCHEMA hidden_%s RENAME TO %s%c", fixture->schema, fixture->schema, '\0');
    assert_int_equal(append(fixture, 1, 1), ERR_OK);
    fixture_exec(fixture, hide.p); /* the tables are gone: no conflict, no lost connection, hence the end */
    assert_int_equal(append(fixture, 1, 2), ERR_STORAGE);
    assert_true(store_failed(fixture->store));
    fixture_exec(fixture, show.p);
    fixture_close(fixture);
    fixture_must_open(fixture);
    assert_dense(fixture, 1, 1);
}

static void a_second_writer_of_a_stream_is_refused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    fixture->config.settle_hold_ms = 1000000;
    fixture_close(fixture);
    fixture_must_open(fixture);
    assert_int_equal(append(fixture, 1, 1), ERR_OK);
    /* Another hand has put the next frame there. */
    fixture_exec(fixture, "INSERT INTO tail SELECT pos + 1000, stream, 2, n, base_ms, wf_before, epoch, body FROM tail");
    assert_int_equal(append(fixture, 1, 2), ERR_STORAGE);
    assert_true(store_failed(fixture->store));
}

/* ---- the url ---- */

static void what_is_shown_of_a_url_has_no_secret(void **state)
{
    static const struct { const char *url, *shown; } cases[] = {
        { "postgres://ann:s3cret@db.example:5433/runs", "postgres://ann@db.example:5433/runs" },
        { "postgresql://db.example/runs?user=ann&password=s3cret&sslmode=require", "postgres://ann@db.example/runs" },
        { "postgres://ann@/runs?host=/var/run/postgresql&p%61ssword=s3cret", "postgres://ann@/var/run/postgresql/runs" },
        { "postgres://ann:s3cret@[::1", "postgres://" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(buf_done) struct buf shown = { 0 };
        db_pg.describe(cases[i].url, &shown);
        assert_true(span_eq(buf_view(&shown), span_of(cases[i].shown)));
    }
}

static void no_error_of_opening_shows_a_password(void **state)
{
    static const char *const urls[] = { "postgres://ann:s3cret@[::1", "postgres://ann:s3%zzcret@h/db", "postgres://ann:s3cret@h/?x=s3cret",
                                        "postgres://ann:s3cret@/db?host=/nowhere", "postgre://ann:s3cret@h/db" };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        char               *folder = temp_folder_new();
        struct error        error = { 0 };
        struct store       *store = NULL;
        struct store_config config = { .url = urls[i], .folder = folder };
        assert_int_not_equal(store_open(&config, &store, &error), ERR_OK);
        assert_true(error.message[0] != '\0');
        assert_null(strstr(error.message, "s3"));
        temp_folder_remove(folder);
    }
}

static void a_data_folder_is_wanted(void **state)
{
    struct store_config config = { .url = "postgres://ann@h/db" };
    struct error        error = { 0 };
    struct store       *store = NULL;
    assert_int_equal(store_open(&config, &store, &error), ERR_INVALID_PARAMETER);
    assert_non_null(strstr(error.message, "data folder"));
}

#define ON_SERVER(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_SERVER(a_node_with_a_living_lease_is_not_taken),
        ON_SERVER(an_old_lease_runs_out),
        ON_SERVER(a_restart_on_the_same_folder_does_not_wait),
        ON_SERVER(a_node_that_was_taken_over_cannot_write),
        ON_SERVER(an_idle_node_keeps_its_lease),
        ON_SERVER(connections_that_end_are_made_again),
        ON_SERVER(connections_that_end_under_load_lose_nothing),
        ON_SERVER(a_database_that_stays_away_stops_the_store),
        ON_SERVER(a_database_that_comes_back_is_used_again),
        ON_SERVER(an_error_of_another_kind_stops_the_store),
        ON_SERVER(a_second_writer_of_a_stream_is_refused),
        cmocka_unit_test(what_is_shown_of_a_url_has_no_secret),
        cmocka_unit_test(no_error_of_opening_shows_a_password),
        cmocka_unit_test(a_data_folder_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
