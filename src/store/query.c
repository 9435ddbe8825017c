/* SPDX-License-Identifier: Apache-2.0 */
/* query.c - reads of rows: by key, by conditions over one table, and the one query that is more than that. */
#include "store/inner.h"

enum err reader_get(struct reader *reader, enum table_id table, void *row)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    struct store           *store = reader->store;
    const struct db_driver *driver = store->driver;
    struct cached          *cached;
    enum err                err = reader_use(reader, span_of(store->get_sql[table]), &cached);
    if (err)
        return err;
    bool found = false;
    for (unsigned i = 0; i < tables[table].keys && !err; i++)
        err = sql_bind(driver, cached->stmt, i + 1, &tables[table].columns[i], true, row);
    if (!err)
        err = reader_step(reader, cached, &found);
    if (!err && found)
        err = sql_read(driver, cached->stmt, table, reader->arena, row);
    reader_done(reader, cached);
    if (err)
        return reader_fail(reader, err);
    return found ? ERR_OK : ERR_NOT_FOUND;
}

/* ---- conditions ---- */

static enum err bind_eq(const struct db_driver *driver, struct db_stmt *stmt, unsigned index, const struct query *query,
                        unsigned i)
{
    switch (sql_column(query->table, query->eq[i].column)->kind) {
    case COL_I64:  return driver->bind_i64(stmt, index, query->eq[i].i64);
    case COL_UUID: return driver->bind_bytes(stmt, index, uuid_span(&query->eq[i].uuid));
    case COL_HASH:
    case COL_BYTES: {
        struct span bytes = query->eq[i].bytes;
        return driver->bind_bytes(stmt, index, bytes.p ? bytes : SPAN(""));
    }
    }
    assert(!"a column of no kind");
    return ERR_INTERNAL;
}

/* The order is that of sql_query's placeholders. */
static enum err bind_query(const struct db_driver *driver, struct db_stmt *stmt, const struct query *query, bool count)
{
    unsigned n = 0;
    enum err err = ERR_OK;
    for (unsigned i = 0; i < query->eq_count && !err; i++)
        err = bind_eq(driver, stmt, ++n, query, i);
    for (unsigned i = 0; i < query->cmp_count && !err; i++)
        err = sql_column(query->table, query->cmp[i].column)->kind == COL_I64
                  ? driver->bind_i64(stmt, ++n, query->cmp[i].i64)
                  : driver->bind_bytes(stmt, ++n, uuid_span(&query->cmp[i].uuid));
    for (unsigned i = 0; query->in_column && i < query->in_count && !err; i++)
        err = driver->bind_i64(stmt, ++n, query->in[i]);
    if (!err && !count && query->limit >= 0)
        err = driver->bind_i64(stmt, ++n, query->limit);
    if (!err && !count && query->offset > 0)
        err = driver->bind_i64(stmt, ++n, query->offset);
    return err;
}

static enum err query_use(struct reader *reader, const struct query *query, bool count, struct cached **ret)
{
    assert(query->eq_count <= ARRAY_LEN(query->eq) && query->cmp_count <= ARRAY_LEN(query->cmp) && query->in_count <= ARRAY_LEN(query->in));
    CLEANUP(buf_done) struct buf sql = { 0 };
    sql_query(query, count, &sql);
    struct cached *cached;
    enum err       err = reader_use(reader, buf_view(&sql), &cached);
    if (err)
        return err;
    err = bind_query(reader->store->driver, cached->stmt, query, count);
    if (err) {
        reader_done(reader, cached);
        return reader_fail(reader, err);
    }
    *ret = cached;
    return ERR_OK;
}

static bool asks_for_nothing(const struct query *query)
{
    return query->in_column && query->in_count == 0;
}

enum err reader_query(struct reader *reader, const struct query *query, bool (*each)(void *user, const void *row),
                      void *user)
{
    if (reader->err || asks_for_nothing(query))
        return reader->err;
    assert(reader->arena);
    struct cached *cached;
    enum err       err = query_use(reader, query, false, &cached);
    if (err)
        return err;
    void *row = arena_alloc(reader->arena, tables[query->table].row_size);
    bool  more = true;
    while (!err && more) {
        err = reader_step(reader, cached, &more);
        if (err || !more)
            break;
        err = sql_read(reader->store->driver, cached->stmt, query->table, reader->arena, row);
        more = !err && each(user, row);
    }
    reader_done(reader, cached);
    return err ? reader_fail(reader, err) : ERR_OK;
}

enum err reader_count(struct reader *reader, const struct query *query, int64_t *ret)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    if (asks_for_nothing(query)) {
        *ret = 0;
        return ERR_OK;
    }
    struct cached *cached;
    enum err       err = query_use(reader, query, true, &cached);
    if (err)
        return err;
    bool row;
    err = reader_step(reader, cached, &row);
    if (!err)
        *ret = reader->store->driver->i64(cached->stmt, 0);
    reader_done(reader, cached);
    return err;
}

/* ---- more than that ---- */

enum err reader_segments(struct reader *reader, uint64_t stream, int64_t *ret)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    const struct db_driver *driver = reader->store->driver;
    struct cached          *cached;
    enum err                err = reader_use(reader, SPAN(SQL_SEGMENT_COUNT), &cached);
    if (err)
        return err;
    bool row = false;
    err = driver->bind_i64(cached->stmt, 1, (int64_t)stream);
    if (!err)
        err = reader_step(reader, cached, &row);
    *ret = !err && row ? driver->i64(cached->stmt, 0) : 0;
    reader_done(reader, cached);
    return err ? reader_fail(reader, err) : ERR_OK;
}

static struct uuid uuid_of(const struct reader *reader, const struct cached *cached, unsigned column)
{
    struct span bytes = reader->store->driver->bytes(cached->stmt, column);
    struct uuid id = { .b = { 0 } };
    if (bytes.n == sizeof id.b)
        memcpy(id.b, bytes.p, sizeof id.b);
    return id;
}

enum err reader_ended(struct reader *reader, int64_t from_ms, int64_t before_ms, int64_t limit,
                      void (*each)(void *user, struct uuid workspace, struct uuid id, int64_t completed_ms), void *user)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    const struct db_driver *driver = reader->store->driver;
    struct cached          *cached;
    enum err                err = reader_use(reader, SPAN(SQL_RUN_ENDED), &cached);
    if (err)
        return err;
    bool row = true;
    err = driver->bind_i64(cached->stmt, 1, from_ms);
    if (!err)
        err = driver->bind_i64(cached->stmt, 2, before_ms);
    if (!err)
        err = driver->bind_i64(cached->stmt, 3, limit);
    while (!err && !(err = reader_step(reader, cached, &row)) && row)
        each(user, uuid_of(reader, cached, 0), uuid_of(reader, cached, 1), driver->i64(cached->stmt, 2));
    reader_done(reader, cached);
    return err ? reader_fail(reader, err) : ERR_OK;
}

enum err reader_snapshot(struct reader *reader, struct uuid attempt, uint64_t at_most, struct snapshot_row *ret)
{
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    const struct db_driver *driver = reader->store->driver;
    struct cached          *cached;
    enum err                err = reader_use(reader, SPAN(SQL_SNAPSHOT_AT_MOST), &cached);
    if (err)
        return err;
    bool found = false;
    err = driver->bind_bytes(cached->stmt, 1, uuid_span(&attempt));
    if (!err)
        err = driver->bind_i64(cached->stmt, 2, at_most > INT64_MAX ? INT64_MAX : (int64_t)at_most);
    if (!err)
        err = reader_step(reader, cached, &found);
    if (!err && found)
        err = sql_read(driver, cached->stmt, TABLE_snapshot, reader->arena, ret);
    reader_done(reader, cached);
    if (err)
        return reader_fail(reader, err);
    return found ? ERR_OK : ERR_NOT_FOUND;
}
