/* SPDX-License-Identifier: Apache-2.0 */
/* db_fault.c - a driver around another one that fails once, when it is told to, also in the nasty way: it reports an
 * error and yet it happened. Readers and the checkpoint connection pass through untouched: what is tested is what the
 * writer does. */
#include "store/db.h"
#include "base/mem.h"
#include <pthread.h>
#include <stdlib.h>

struct db_fault {
    struct db_driver        driver; /* first: open finds the rest through it */
    const struct db_driver *inner;
    pthread_mutex_t         lock;
    enum db_fault_kind      kind;   /* NONE when not armed, or spent */
    bool                    only_commits, fired;
    unsigned long           nth, calls;
};

struct fault_db {
    struct db_fault *fault;
    struct db       *inner;
    bool             counted;
};

struct fault_stmt {
    struct fault_db *db;
    struct db_stmt  *inner;
};

static struct fault_db *db_of(const struct db *db)
{
    return (struct fault_db *)db;
}

static struct fault_stmt *stmt_of(struct db_stmt *stmt)
{
    return (struct fault_stmt *)stmt;
}

/* Counts a call; what shall happen to it. */
static enum db_fault_kind count(struct db_fault *fault, bool counted, bool is_commit)
{
    if (!counted)
        return DB_FAULT_NONE;
    enum db_fault_kind kind = DB_FAULT_NONE;
    pthread_mutex_lock(&fault->lock);
    if (is_commit || !fault->only_commits) {
        if (fault->kind != DB_FAULT_NONE && fault->calls == fault->nth) {
            kind = fault->kind;
            fault->kind = DB_FAULT_NONE;
            fault->fired = true;
        }
        fault->calls++;
    }
    pthread_mutex_unlock(&fault->lock);
    return kind;
}

static enum err code_of(enum db_fault_kind kind)
{
    return kind == DB_FAULT_CUT || kind == DB_FAULT_CUT_AFTER ? ERR_IO : ERR_STORAGE;
}

static enum err told_to(enum db_fault_kind kind, struct error *error, const char *what)
{
    return error_set(error, code_of(kind), NULL, "%s failed, as it was told to", what);
}

static enum err fault_open(const struct db_driver *self, const char *url, enum db_role role, struct db **ret,
                           struct error *error)
{
    struct db_fault *fault = (struct db_fault *)(uintptr_t)self;
    bool             counted = role == DB_WRITER;
    enum db_fault_kind kind = count(fault, counted, false);
    if (kind != DB_FAULT_NONE)
        return told_to(kind, error, "open");
    struct fault_db *db = mem_alloc(sizeof *db);
    *db = (struct fault_db){ fault, NULL, counted };
    enum err err = fault->inner->open(fault->inner, url, role, &db->inner, error);
    if (err) {
        free(db);
        return err;
    }
    *ret = (struct db *)db;
    return ERR_OK;
}

static void fault_close(struct db *db)
{
    if (!db)
        return;
    db_of(db)->fault->inner->close(db_of(db)->inner);
    free(db_of(db));
}

/* FAILS, CUT: an error instead of the call. HAPPENED, CUT_AFTER: an error after it. */
#define THROUGH(db, is_commit, what, call)                                            \
    do {                                                                              \
        enum db_fault_kind kind = count((db)->fault, (db)->counted, is_commit);       \
        if (kind == DB_FAULT_FAILS || kind == DB_FAULT_CUT)                           \
            return told_to(kind, error, what);                                        \
        enum err err = (call);                                                        \
        return kind != DB_FAULT_NONE && !err ? told_to(kind, error, what) : err;      \
    } while (0)

static enum err fault_exec(struct db *base, const char *sql, struct error *error)
{
    struct fault_db *db = db_of(base);
    THROUGH(db, false, "exec", db->fault->inner->exec(db->inner, sql, error));
}

static enum err fault_prepare(struct db *base, const char *sql, struct db_stmt **ret, struct error *error)
{
    struct fault_db *db = db_of(base);
    enum db_fault_kind kind = count(db->fault, db->counted, false);
    if (kind != DB_FAULT_NONE)
        return told_to(kind, error, "prepare");
    struct db_stmt *inner = NULL;
    enum err        err = db->fault->inner->prepare(db->inner, sql, &inner, error);
    if (err)
        return err;
    struct fault_stmt *stmt = mem_alloc(sizeof *stmt);
    *stmt = (struct fault_stmt){ db, inner };
    *ret = (struct db_stmt *)stmt;
    return ERR_OK;
}

static void fault_finalize(struct db_stmt *stmt)
{
    if (!stmt)
        return;
    stmt_of(stmt)->db->fault->inner->finalize(stmt_of(stmt)->inner);
    free(stmt_of(stmt));
}

static enum err fault_bind_i64(struct db_stmt *base, unsigned index, int64_t value)
{
    struct fault_stmt *stmt = stmt_of(base);
    enum db_fault_kind kind = count(stmt->db->fault, stmt->db->counted, false);
    if (kind != DB_FAULT_NONE)
        return code_of(kind);
    return stmt->db->fault->inner->bind_i64(stmt->inner, index, value);
}

static enum err fault_bind_bytes(struct db_stmt *base, unsigned index, struct span value)
{
    struct fault_stmt *stmt = stmt_of(base);
    enum db_fault_kind kind = count(stmt->db->fault, stmt->db->counted, false);
    if (kind != DB_FAULT_NONE)
        return code_of(kind);
    return stmt->db->fault->inner->bind_bytes(stmt->inner, index, value);
}

static enum err fault_step(struct db_stmt *base, bool *ret_row, struct error *error)
{
    struct fault_stmt *stmt = stmt_of(base);
    THROUGH(stmt->db, false, "step", stmt->db->fault->inner->step(stmt->inner, ret_row, error));
}

static int64_t fault_i64(struct db_stmt *stmt, unsigned column)
{
    return stmt_of(stmt)->db->fault->inner->i64(stmt_of(stmt)->inner, column);
}

static struct span fault_bytes(struct db_stmt *stmt, unsigned column)
{
    return stmt_of(stmt)->db->fault->inner->bytes(stmt_of(stmt)->inner, column);
}

static void fault_reset(struct db_stmt *stmt)
{
    stmt_of(stmt)->db->fault->inner->reset(stmt_of(stmt)->inner);
}

static enum err fault_begin(struct db *base, bool write, struct error *error)
{
    struct fault_db *db = db_of(base);
    THROUGH(db, false, "begin", db->fault->inner->begin(db->inner, write, error));
}

static enum err fault_commit(struct db *base, struct error *error)
{
    struct fault_db *db = db_of(base);
    THROUGH(db, true, "commit", db->fault->inner->commit(db->inner, error));
}

static void fault_rollback(struct db *db)
{
    db_of(db)->fault->inner->rollback(db_of(db)->inner);
}

static enum err fault_checkpoint(struct db *db, uint32_t *ret_copied, struct error *error)
{
    return db_of(db)->fault->inner->checkpoint(db_of(db)->inner, ret_copied, error);
}

static uint32_t fault_log_pages(const struct db *db)
{
    return db_of(db)->fault->inner->log_pages(db_of(db)->inner);
}

static enum err fault_log_grow(struct db *db, uint32_t pages, bool *ret_done, struct error *error)
{
    return db_of(db)->fault->inner->log_grow(db_of(db)->inner, pages, ret_done, error);
}

struct db_fault *db_fault_new(const struct db_driver *inner)
{
    struct db_fault *fault = mem_alloc(sizeof *fault);
    fault->inner = inner;
    pthread_mutex_init(&fault->lock, NULL);
    fault->driver = (struct db_driver){
        .name = "fault",
        .clustered = inner->clustered,
        .type_i64 = inner->type_i64,
        .type_bytes = inner->type_bytes,
        .type_pos = inner->type_pos,
        .tail_unique = inner->tail_unique,
        .schemes = inner->schemes,
        .shared = inner->shared,
        .folder = inner->folder,
        .describe = inner->describe,
        .open = fault_open,
        .close = fault_close,
        .exec = fault_exec,
        .prepare = fault_prepare,
        .finalize = fault_finalize,
        .bind_i64 = fault_bind_i64,
        .bind_bytes = fault_bind_bytes,
        .step = fault_step,
        .i64 = fault_i64,
        .bytes = fault_bytes,
        .reset = fault_reset,
        .begin = fault_begin,
        .commit = fault_commit,
        .rollback = fault_rollback,
        .checkpoint = inner->checkpoint ? fault_checkpoint : NULL,
        .log_pages = inner->log_pages ? fault_log_pages : NULL,
        .log_grow = inner->log_grow ? fault_log_grow : NULL,
    };
    return fault;
}

void db_fault_free(struct db_fault *fault)
{
    if (!fault)
        return;
    pthread_mutex_destroy(&fault->lock);
    free(fault);
}

const struct db_driver *db_fault_driver(struct db_fault *fault)
{
    return &fault->driver;
}

void db_fault_arm(struct db_fault *fault, enum db_fault_kind kind, bool only_commits, unsigned long nth)
{
    pthread_mutex_lock(&fault->lock);
    fault->kind = kind;
    fault->only_commits = only_commits;
    fault->nth = nth;
    fault->calls = 0;
    fault->fired = false;
    pthread_mutex_unlock(&fault->lock);
}

bool db_fault_fired(const struct db_fault *fault)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&fault->lock;
    pthread_mutex_lock(lock);
    bool fired = fault->fired;
    pthread_mutex_unlock(lock);
    return fired;
}

unsigned long db_fault_calls(const struct db_fault *fault)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&fault->lock;
    pthread_mutex_lock(lock);
    unsigned long calls = fault->calls;
    pthread_mutex_unlock(lock);
    return calls;
}
