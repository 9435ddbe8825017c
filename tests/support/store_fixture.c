/* SPDX-License-Identifier: Apache-2.0 */
/* store_fixture.c - see store_fixture.h. */
#include "support/store_fixture.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- folders ---- */

char *temp_folder_new(void)
{
    const char *base = getenv("TMPDIR");
    CLEANUP(buf_done) struct buf path = { 0 };
    buf_printf(&path, "%s/perdure-test-XXXXXX%c", base && *base ? base : "/tmp", '\0');
    if (!mkdtemp(path.p)) {
        perror(path.p);
        abort();
    }
    return mem_dup(path.p, strlen(path.p));
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) {
        unlink(path);
        return;
    }
    chmod(path, 0700);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        CLEANUP(buf_done) struct buf child = { 0 };
        buf_printf(&child, "%s/%s%c", path, entry->d_name, '\0');
        struct stat st;
        if (lstat(child.p, &st) == 0 && S_ISDIR(st.st_mode))
            remove_tree(child.p);
        else
            unlink(child.p);
    }
    closedir(dir);
    rmdir(path);
}

void temp_folder_remove(char *path)
{
    if (!path)
        return;
    remove_tree(path);
    free(path);
}

/* ---- the store and its owner ---- */

static void deliver(void *user, struct mail *chain)
{
    mailbox_post_chain(&((struct fixture *)user)->box, chain);
}

static char *joined(const char *a, const char *b, const char *c)
{
    struct buf text = { 0 };
    buf_printf(&text, "%s%s%s%c", a, b, c, '\0');
    return text.p;
}

static const char *pg_url(void)
{
    const char *url = getenv("PERDURE_TEST_PG");
    return url && *url ? url : NULL;
}

bool fixture_has(const struct db_driver *base)
{
    return base != &db_pg || pg_url();
}

static void exec_at(const struct db_driver *base, const char *url, const char *sql)
{
    struct db   *db = NULL;
    struct error error = { 0 };
    if (base->open(base, url, DB_WRITER, &db, &error) || base->exec(db, sql, &error)) {
        fprintf(stderr, "%s: %s\n", sql, error.message);
        abort();
    }
    base->close(db);
}

void fixture_exec(struct fixture *fixture, const char *sql)
{
    exec_at(fixture->base, fixture->url, sql);
}

/* A schema of its own: tests run side by side. */
static char *pg_schema_new(struct fixture *fixture)
{
    unsigned char id[6];
    struct buf    name = { 0 }, sql = { 0 };
    env_real()->random(env_real(), id, sizeof id);
    BUF_LIT(&name, "test_");
    buf_hex(&name, id, sizeof id);
    buf_byte(&name, '\0');
    buf_printf(&sql, "CREATE SCHEMA %s%c", name.p, '\0');
    exec_at(&db_pg, pg_url(), sql.p);
    buf_done(&sql);
    fixture->schema = name.p;
    return joined(pg_url(), strchr(pg_url(), '?') ? "&options=-csearch_path%3D" : "?options=-csearch_path%3D", name.p);
}

static void pg_schema_remove(struct fixture *fixture)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    if (!fixture->schema)
        return;
    buf_printf(&sql, "DROP SCHEMA %s CASCADE%c", fixture->schema, '\0');
    fixture_exec(fixture, sql.p);
    free(fixture->schema);
}

void fixture_init(struct fixture *fixture, const struct db_driver *driver)
{
    fixture_init_on(fixture, &db_sqlite, driver);
}

void fixture_init_on(struct fixture *fixture, const struct db_driver *base, const struct db_driver *driver)
{
    *fixture = (struct fixture){ .base = base, .folder = temp_folder_new() };
    fixture->data = joined(fixture->folder, "/data", "");
    fixture->url = base == &db_pg ? pg_schema_new(fixture) : joined("sqlite:", fixture->data, "");
    mailbox_init(&fixture->box, false);
    fixture->config = (struct store_config){
        .url = fixture->url,
        .folder = fixture->data,
        .driver = driver,
        .env = env_real(),
        .deliver = deliver,
        .user = fixture,
        .settle_events = 8,
        .settle_bytes = 2000,
        .settle_hold_ms = 1,
        .tail_bytes = 16 * 1024,
        .wal_pages = 64,
        .wal_grow_pages = 16,
    };
}

enum err fixture_open(struct fixture *fixture, struct error *error)
{
    return store_open(&fixture->config, &fixture->store, error);
}

void fixture_must_open(struct fixture *fixture)
{
    struct error error = { 0 };
    if (fixture_open(fixture, &error) != ERR_OK) {
        fprintf(stderr, "store_open: %s\n", error.message);
        abort();
    }
}

void fixture_close(struct fixture *fixture)
{
    if (!fixture->store)
        return;
    fixture_wait(fixture);
    store_close(fixture->store);
    fixture->store = NULL;
}

void fixture_done(struct fixture *fixture)
{
    fixture_close(fixture);
    mailbox_done(&fixture->box);
    pg_schema_remove(fixture);
    temp_folder_remove(fixture->folder);
    free(fixture->url);
    free(fixture->data);
    *fixture = (struct fixture){ 0 };
}

/* ---- batches ---- */

static void came_back(void *arg, enum err err)
{
    struct fixture *fixture = arg;
    if (err)
        fixture->failed++;
    else
        fixture->ok++;
}

void fixture_submit(struct fixture *fixture, struct batch *batch)
{
    batch_after(batch, came_back, fixture);
    fixture->waiting++;
    store_submit(fixture->store, batch);
}

void fixture_read(struct fixture *fixture, struct read_job *job)
{
    fixture->waiting++;
    store_read(fixture->store, job);
}

enum err fixture_wait(struct fixture *fixture)
{
    enum err last = ERR_OK;
    while (fixture->waiting > 0)
        for (struct mail *mail = mailbox_wait(&fixture->box, -1), *next; mail; mail = next) {
            next = mail->next;
            unsigned failed = fixture->failed;
            store_finish(fixture->store, mail);
            last = fixture->failed > failed ? ERR_STORAGE : ERR_OK;
            fixture->waiting--;
        }
    return last;
}

enum err fixture_commit(struct fixture *fixture, struct batch *batch)
{
    fixture_submit(fixture, batch);
    return fixture_wait(fixture);
}

bool fixture_settled(struct fixture *fixture)
{
    for (unsigned i = 0; i < 5000; i++) {
        struct store_stats stats;
        store_stats(fixture->store, &stats);
        if (stats.tail_frames == 0)
            return true;
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    return false;
}

/* ---- bodies ---- */

void fixture_body(uint64_t stream, uint64_t seq, size_t size, struct buf *out)
{
    buf_varint(out, size);
    for (size_t i = 0; i < size; i++)
        buf_byte(out, (char)(stream * 31 + seq * 7 + i * (1 + seq % 5)));
}

bool fixture_body_is(uint64_t stream, uint64_t seq, struct span body)
{
    struct reader_bytes in = bytes_of(body);
    uint64_t            size = bytes_varint(&in);
    if (in.bad || size != (uint64_t)(in.end - in.p))
        return false;
    for (size_t i = 0; i < size; i++)
        if (in.p[i] != (char)(stream * 31 + seq * 7 + i * (1 + seq % 5)))
            return false;
    return true;
}
