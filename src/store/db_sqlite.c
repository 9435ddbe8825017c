/* SPDX-License-Identifier: Apache-2.0 */
/* db_sqlite.c - the embedded driver: one file in the data folder, WAL, one sync per commit.
 *
 * Every connection belongs to one thread (NOMUTEX). Nothing here or elsewhere opens and closes the database file by
 * hand: closing any descriptor of it would drop the locks that SQLite holds for the whole process. What must be done to
 * the files themselves (syncing, growing the log) goes through the handles that SQLite has open. */
#include "store/db.h"
#include "base/mem.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

struct sqlite_db {
    sqlite3      *handle;
    sqlite3_stmt *begin_write, *begin_read, *commit;
    enum db_role  role;
    uint32_t      log_pages; /* told by the WAL hook at each commit */
};

struct sqlite_stmt {
    struct sqlite_db *db;
    sqlite3_stmt     *handle;
};

static struct sqlite_db *db_of(const struct db *db)
{
    return (struct sqlite_db *)db;
}

static struct sqlite_stmt *stmt_of(struct db_stmt *stmt)
{
    return (struct sqlite_stmt *)stmt;
}

static enum err failed(struct error *error, const struct sqlite_db *db, const char *what)
{
    int code = sqlite3_extended_errcode(db->handle);
    return error_set(error, ERR_STORAGE, NULL, "%s: %s (SQLite %d)", what, sqlite3_errmsg(db->handle), code);
}

/* ---- opening ---- */

static enum err run(struct sqlite_db *db, const char *sql, struct error *error)
{
    if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        return failed(error, db, sql);
    return ERR_OK;
}

static enum err prepare_handle(struct sqlite_db *db, const char *sql, sqlite3_stmt **ret, struct error *error)
{
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL) != SQLITE_OK)
        return failed(error, db, sql);
    return ERR_OK;
}

/* Asking for a journal mode answers with the mode that one got. */
static enum err use_wal(struct sqlite_db *db, struct error *error)
{
    sqlite3_stmt *stmt = NULL;
    enum err      err = prepare_handle(db, "PRAGMA journal_mode=WAL", &stmt, error);
    if (err)
        return err;
    int         rc = sqlite3_step(stmt);
    const char *mode = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    if (rc != SQLITE_ROW)
        err = failed(error, db, "no write-ahead log");
    else if (!mode || strcmp(mode, "wal") != 0)
        err = error_set(error, ERR_STORAGE, NULL, "this file system does not allow a write-ahead log (shared memory)");
    sqlite3_finalize(stmt);
    return err;
}

static int on_log(void *user, sqlite3 *handle, const char *name, int pages)
{
    ((struct sqlite_db *)user)->log_pages = (uint32_t)pages;
    return SQLITE_OK;
}

static const char *role_pragmas(enum db_role role)
{
    switch (role) {
    case DB_WRITER:       return "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-8192";
    case DB_CHECKPOINTER: return "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0";
    case DB_READER:       return "PRAGMA wal_autocheckpoint=0; PRAGMA query_only=1";
    }
    return "";
}

static enum err set_up(struct sqlite_db *db, struct error *error)
{
    sqlite3_busy_timeout(db->handle, 5000);
    enum err err = ERR_OK;
    if (db->role == DB_WRITER) {
        err = run(db, "PRAGMA page_size=4096", error);
        if (!err)
            err = use_wal(db, error);
    }
    if (!err)
        err = run(db, role_pragmas(db->role), error);
    /* The log's file survives a clean stop, so that it is grown once in its life. */
    int persist = 1;
    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    sqlite3_wal_hook(db->handle, on_log, db); /* also takes the place of the automatic checkpoint */
    if (!err)
        err = prepare_handle(db, "BEGIN IMMEDIATE", &db->begin_write, error);
    if (!err)
        err = prepare_handle(db, "BEGIN", &db->begin_read, error);
    if (!err)
        err = prepare_handle(db, "COMMIT", &db->commit, error);
    return err;
}

static void sqlite_close(struct db *base)
{
    struct sqlite_db *db = db_of(base);
    if (!db)
        return;
    sqlite3_finalize(db->begin_write);
    sqlite3_finalize(db->begin_read);
    sqlite3_finalize(db->commit);
    int rc = sqlite3_close(db->handle);
    assert(rc == SQLITE_OK); /* else a statement was not finalized */
    free(db);
}

static enum err sqlite_open(const struct db_driver *self, const char *url, enum db_role role, struct db **ret,
                            struct error *error)
{
    if (strncmp(url, "sqlite:", 7) != 0 || url[7] == '\0')
        return error_set(error, ERR_INVALID_PARAMETER, "store", "not a SQLite store: %s (want sqlite:FOLDER)", url);
    CLEANUP(buf_done) struct buf path = { 0 };
    buf_printf(&path, "%s/perdure.db%c", url + 7, '\0');
    struct sqlite_db *db = mem_alloc(sizeof *db);
    db->role = role;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE |
                (role == DB_WRITER ? SQLITE_OPEN_CREATE : 0);
    enum err err = ERR_OK;
    if (sqlite3_open_v2(path.p, &db->handle, flags, NULL) != SQLITE_OK)
        err = failed(error, db, path.p);
    else
        err = set_up(db, error);
    if (err) {
        sqlite_close((struct db *)db);
        return err;
    }
    *ret = (struct db *)db;
    return ERR_OK;
}

/* ---- statements ---- */

static enum err sqlite_exec(struct db *db, const char *sql, struct error *error)
{
    return run(db_of(db), sql, error);
}

static enum err sqlite_prepare(struct db *db, const char *sql, struct db_stmt **ret, struct error *error)
{
    sqlite3_stmt *handle = NULL;
    enum err      err = prepare_handle(db_of(db), sql, &handle, error);
    if (err)
        return err;
    struct sqlite_stmt *stmt = mem_alloc(sizeof *stmt);
    *stmt = (struct sqlite_stmt){ db_of(db), handle };
    *ret = (struct db_stmt *)stmt;
    return ERR_OK;
}

static void sqlite_finalize(struct db_stmt *stmt)
{
    if (!stmt)
        return;
    sqlite3_finalize(stmt_of(stmt)->handle);
    free(stmt_of(stmt));
}

static enum err sqlite_bind_i64(struct db_stmt *stmt, unsigned index, int64_t value)
{
    return sqlite3_bind_int64(stmt_of(stmt)->handle, (int)index, value) == SQLITE_OK ? ERR_OK : ERR_STORAGE;
}

static enum err sqlite_bind_bytes(struct db_stmt *stmt, unsigned index, struct span value)
{
    int rc = sqlite3_bind_blob64(stmt_of(stmt)->handle, (int)index, value.p, value.n, SQLITE_STATIC);
    return rc == SQLITE_OK ? ERR_OK : ERR_STORAGE;
}

static enum err sqlite_step(struct db_stmt *stmt, bool *ret_row, struct error *error)
{
    int rc = sqlite3_step(stmt_of(stmt)->handle);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return failed(error, stmt_of(stmt)->db, "a statement failed");
    *ret_row = rc == SQLITE_ROW;
    return ERR_OK;
}

static int64_t sqlite_i64(struct db_stmt *stmt, unsigned column)
{
    return sqlite3_column_int64(stmt_of(stmt)->handle, (int)column);
}

static struct span sqlite_bytes(struct db_stmt *stmt, unsigned column)
{
    sqlite3_stmt *handle = stmt_of(stmt)->handle;
    const void   *p = sqlite3_column_blob(handle, (int)column);
    if (p)
        return span_make(p, (size_t)sqlite3_column_bytes(handle, (int)column));
    /* SQLite gives NULL for a blob of no bytes, too. */
    return sqlite3_column_type(handle, (int)column) == SQLITE_NULL ? SPAN_NONE : SPAN("");
}

static void sqlite_reset(struct db_stmt *stmt)
{
    sqlite3_reset(stmt_of(stmt)->handle);
}

/* ---- transactions ---- */

static enum err step_once(struct sqlite_db *db, sqlite3_stmt *stmt, const char *what, struct error *error)
{
    enum err err = sqlite3_step(stmt) == SQLITE_DONE ? ERR_OK : failed(error, db, what);
    sqlite3_reset(stmt);
    return err;
}

static enum err sqlite_begin(struct db *base, bool write, struct error *error)
{
    struct sqlite_db *db = db_of(base);
    return step_once(db, write ? db->begin_write : db->begin_read, "begin", error);
}

static enum err sqlite_commit(struct db *db, struct error *error)
{
    return step_once(db_of(db), db_of(db)->commit, "commit", error);
}

static void sqlite_rollback(struct db *db)
{
    if (!sqlite3_get_autocommit(db_of(db)->handle))
        sqlite3_exec(db_of(db)->handle, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- the log ---- */

/* SQLite syncs the database file only in the pass that reaches the end of the log. Syncing it after each pass keeps
 * that last one short. A sync that fails must stop the store: the pages may be gone from memory, and the log would be
 * written over. */
static enum err sync_file(struct sqlite_db *db, struct error *error)
{
    sqlite3_file *file = NULL;
    int           rc = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (rc == SQLITE_OK && file && file->pMethods)
        rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    if (rc != SQLITE_OK)
        return error_set(error, ERR_STORAGE, NULL, "syncing the database file failed (SQLite %d)", rc);
    return ERR_OK;
}

static enum err sqlite_checkpoint(struct db *base, uint32_t *ret_copied, struct error *error)
{
    struct sqlite_db *db = db_of(base);
    int               pages = 0, copied = 0;
    int rc = sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_PASSIVE, &pages, &copied);
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
        return failed(error, db, "checkpoint");
    enum err err = db->role == DB_CHECKPOINTER ? sync_file(db, error) : ERR_OK;
    if (err)
        return err;
    *ret_copied = copied > 0 ? (uint32_t)copied : 0;
    return ERR_OK;
}

static uint32_t sqlite_log_pages(const struct db *db)
{
    return db_of(db)->log_pages;
}

/* In pieces: a write through SQLite's own handle takes less than 128 KiB at a time. */
static int write_zeros(sqlite3_file *file, sqlite3_int64 from, sqlite3_int64 to)
{
    enum { PIECE = 64 * 1024 };
    void *zeros = mem_alloc(PIECE);
    int   rc = SQLITE_OK;
    while (from < to && rc == SQLITE_OK) {
        int n = to - from < PIECE ? (int)(to - from) : PIECE;
        rc = file->pMethods->xWrite(file, zeros, n, from);
        from += n;
    }
    free(zeros);
    return rc;
}

/* Zeros behind the log's end: SQLite finds no valid frame there and writes over them, and a sync of a file that does
 * not grow saves the file system's own journal. Only the writer touches the log, and it is between transactions. A disk
 * without room for this may still have room for what matters; a failed sync, however, is a failed sync. */
static enum err sqlite_log_grow(struct db *base, uint32_t pages, bool *ret_done, struct error *error)
{
    enum { SLICE = 1 << 20, LOG_HEADER = 32, LOG_PAGE = 4096 + 24 };
    struct sqlite_db *db = db_of(base);
    sqlite3_file     *log = NULL;
    sqlite3_int64     size = 0, want = LOG_HEADER + (sqlite3_int64)pages * LOG_PAGE;
    *ret_done = true;
    if (sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK || !log ||
        !log->pMethods)
        return ERR_OK;
    if (log->pMethods->xFileSize(log, &size) != SQLITE_OK || size >= want)
        return ERR_OK;
    sqlite3_int64 to = want - size < SLICE ? want : size + SLICE;
    if (write_zeros(log, size, to) != SQLITE_OK)
        return ERR_OK;
    int rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    if (rc != SQLITE_OK)
        return error_set(error, ERR_STORAGE, NULL, "syncing the write-ahead log failed (SQLite %d)", rc);
    *ret_done = to >= want;
    return ERR_OK;
}

/* ---- the url ---- */

static const char scheme[] = "sqlite:";

static const char *sqlite_folder(const char *url)
{
    return url + sizeof scheme - 1;
}

static void sqlite_describe(const char *url, struct buf *out)
{
    buf_span(out, span_of(url));
}

static const char *const sqlite_schemes[] = { scheme, NULL };

const struct db_driver db_sqlite = {
    .name = "sqlite",
    .schemes = sqlite_schemes,
    .folder = sqlite_folder,
    .describe = sqlite_describe,
    .tail_unique = "",
    .clustered = "WITHOUT ROWID",
    .type_i64 = "INTEGER",
    .type_bytes = "BLOB",
    .type_pos = "INTEGER PRIMARY KEY",
    .open = sqlite_open,
    .close = sqlite_close,
    .exec = sqlite_exec,
    .prepare = sqlite_prepare,
    .finalize = sqlite_finalize,
    .bind_i64 = sqlite_bind_i64,
    .bind_bytes = sqlite_bind_bytes,
    .step = sqlite_step,
    .i64 = sqlite_i64,
    .bytes = sqlite_bytes,
    .reset = sqlite_reset,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .checkpoint = sqlite_checkpoint,
    .log_pages = sqlite_log_pages,
    .log_grow = sqlite_log_grow,
};
