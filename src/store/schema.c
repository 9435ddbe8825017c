/* SPDX-License-Identifier: Apache-2.0 */
/* schema.c - makes the tables, refuses those of a later release, and raises this node's epoch: one transaction. */
#include "store/inner.h"
#include <stdio.h>
#include <stdlib.h>

/* 2: tables stream, producer, purge, audit, failure. 3: stat, cron. 4: index run_by_end. 5: kv, spend, flow, session, message, handle.
 * An older database gets the tables and indexes that it lacks. */
enum { SCHEMA_VERSION = 5 };

static enum err run_text(struct store *store, struct buf *sql, struct error *error)
{
    buf_byte(sql, '\0');
    return store->driver->exec(store->writer.db, sql->p, error);
}

static enum err create_table(struct store *store, enum table_id id, struct error *error)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    sql_create(store->driver, id, &sql);
    enum err err = run_text(store, &sql, error);
    for (const char *const *index = tables[id].indexes; *index && !err; index++)
        err = store->driver->exec(store->writer.db, *index, error);
    return err;
}

static enum err create_all(struct store *store, struct error *error)
{
    CLEANUP(buf_done) struct buf tail = { 0 };
    CLEANUP(buf_done) struct buf segment = { 0 };
    sql_create_frames(store->driver, &tail, &segment);
    enum err err = run_text(store, &tail, error);
    if (!err)
        err = run_text(store, &segment, error);
    for (unsigned id = 0; id < TABLE_COUNT && !err; id++)
        err = create_table(store, (enum table_id)id, error);
    return err;
}

static enum err bind_columns(struct store *store, struct db_stmt *stmt, enum table_id id, unsigned count,
                             const void *row, struct error *error)
{
    for (unsigned i = 0; i < count; i++)
        if (sql_bind(store->driver, stmt, i + 1, &tables[id].columns[i], i < tables[id].keys, row))
            return error_set(error, ERR_STORAGE, NULL, "the database refused a value of %s", tables[id].name);
    return ERR_OK;
}

/* A row by its key, at start, on the writer's connection. *ret_found is false when there is none. */
enum err schema_read_row(struct store *store, enum table_id id, void *row, struct arena *arena, bool *ret_found,
                         struct error *error)
{
    const struct db_driver *driver = store->driver;
    CLEANUP(buf_done) struct buf sql = { 0 };
    sql_get(id, &sql);
    buf_byte(&sql, '\0');
    struct db_stmt *stmt = NULL;
    enum err        err = driver->prepare(store->writer.db, sql.p, &stmt, error);
    if (!err)
        err = bind_columns(store, stmt, id, tables[id].keys, row, error);
    if (!err)
        err = driver->step(stmt, ret_found, error);
    if (!err && *ret_found)
        err = sql_read(driver, stmt, id, arena, row);
    driver->finalize(stmt);
    return err;
}

enum err schema_write_row(struct store *store, enum table_id id, enum sql_write how, const void *row,
                          struct error *error)
{
    const struct db_driver *driver = store->driver;
    CLEANUP(buf_done) struct buf sql = { 0 };
    sql_write(id, how, &sql);
    buf_byte(&sql, '\0');
    struct db_stmt *stmt = NULL;
    bool            found;
    enum err        err = driver->prepare(store->writer.db, sql.p, &stmt, error);
    if (!err)
        err = bind_columns(store, stmt, id, tables[id].count, row, error);
    if (!err)
        err = driver->step(stmt, &found, error);
    driver->finalize(stmt);
    return err;
}

/* At most nine digits; anything else is no version of ours. */
static bool parse_version(struct span text, unsigned *ret)
{
    unsigned value = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || i == 9)
            return false;
        value = value * 10 + (unsigned)(text.p[i] - '0');
    }
    *ret = value;
    return text.n > 0;
}

static enum err check_version(struct store *store, struct arena *arena, bool *ret_old, struct error *error)
{
    struct meta_row meta = { .name = SPAN("schema") };
    bool            found;
    enum err        err = schema_read_row(store, TABLE_meta, &meta, arena, &found, error);
    if (err)
        return err;
    unsigned version = 0;
    if (found && !parse_version(meta.value, &version))
        return error_set(error, ERR_CORRUPT, "store", "the database has no readable schema version");
    if (version > SCHEMA_VERSION)
        return error_set(error, ERR_STORAGE, "store",
                         "the database was written by a later release (schema %u, this one knows %d): use that release",
                         version, SCHEMA_VERSION);
    *ret_old = version < SCHEMA_VERSION; /* or there is none yet */
    return ERR_OK;
}

static enum err write_version(struct store *store, struct error *error)
{
    char text[16];
    snprintf(text, sizeof text, "%d", SCHEMA_VERSION);
    struct meta_row meta = { .name = SPAN("schema"), .value = span_of(text) };
    return schema_write_row(store, TABLE_meta, SQL_PUT, &meta, error);
}

static enum err in_transaction(struct store *store, struct arena *arena, struct error *error)
{
    bool     old = false;
    enum err err = create_table(store, TABLE_meta, error);
    if (!err)
        err = check_version(store, arena, &old, error);
    if (!err && old)
        err = create_all(store, error);
    if (!err && old)
        err = write_version(store, error);
    return err ? err : lease_take(store, arena, error);
}

enum err schema_prepare(struct store *store, struct error *error)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    enum err err = store->driver->begin(store->writer.db, true, error);
    if (!err)
        err = in_transaction(store, &arena, error);
    if (!err)
        err = store->driver->commit(store->writer.db, error);
    if (err)
        store->driver->rollback(store->writer.db);
    return err;
}
