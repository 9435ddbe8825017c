/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_index.c - what one would write first: events in SQLite, in the order of arrival, with a unique index (stream, seq).
 *
 *   sqlite_index DIR SECONDS BYTES APPENDERS
 *
 * In every round each appender's event is inserted into its stream and all are committed together: the best case of a group
 * commit, in one thread, with nobody to answer. WAL, synchronous=FULL, inline checkpoints at 4,000 pages (the default of
 * 1,000 is slower), prepared statement. */
#include "common.h"
#include <sqlite3.h>

static void run(sqlite3 *db, const char *sql)
{
    char *error = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &error))
        die("%s: %s", sql, error);
}

static void step(sqlite3 *db, sqlite3_stmt *stmt)
{
    if (sqlite3_step(stmt) != SQLITE_DONE)
        die("%s", sqlite3_errmsg(db));
    sqlite3_reset(stmt);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL))
        die("%s: %s", sql, sqlite3_errmsg(db));
    return stmt;
}

static sqlite3 *open_db(const char *folder)
{
    char     path[4096];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/indexed.db", folder);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
        die("%s: %s", path, sqlite3_errmsg(db));
    run(db, "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000");
    run(db, "CREATE TABLE event (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL, payload BLOB NOT NULL)");
    run(db, "CREATE UNIQUE INDEX event_seq ON event (stream, seq)");
    return db;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: sqlite_index DIR SECONDS BYTES APPENDERS");
    double seconds = atof(argv[2]);
    size_t bytes = (size_t)atol(argv[3]), appenders = (size_t)atol(argv[4]);
    char  *payload = must_alloc(bytes);
    memset(payload, 'x', bytes);
    sqlite3      *db = open_db(argv[1]);
    sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE"), *commit = prepare(db, "COMMIT");
    sqlite3_stmt *insert = prepare(db, "INSERT INTO event (stream, seq, payload) VALUES (?1, ?2, ?3)");

    struct histogram *h = must_alloc(sizeof *h);
    uint64_t          warm_until = now_ns() + (uint64_t)(seconds * 2e8), from = 0, t = now_ns();
    sqlite3_int64     seq = 1;
    for (; !from || (double)(t - from) < seconds * 1e9; seq++) {
        if (!from && t >= warm_until)
            from = t;
        uint64_t round = t;
        step(db, begin);
        for (size_t i = 0; i < appenders; i++) {
            sqlite3_bind_int64(insert, 1, (sqlite3_int64)i + 1);
            sqlite3_bind_int64(insert, 2, seq);
            sqlite3_bind_blob(insert, 3, payload, (int)bytes, SQLITE_STATIC);
            step(db, insert);
        }
        step(db, commit);
        t = now_ns();
        if (from)
            histogram_add(h, t - round);
    }
    printf("rate=%.0f p50=%.1f p99=%.1f\n", (double)(h->n * appenders) * 1e9 / (double)(t - from), histogram_us(h, 0.5),
           histogram_us(h, 0.99));
    sqlite3_finalize(begin);
    sqlite3_finalize(insert);
    sqlite3_finalize(commit);
    sqlite3_close(db);
    return 0;
}
