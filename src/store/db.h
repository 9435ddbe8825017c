/* SPDX-License-Identifier: Apache-2.0 */
/* db.h - the driver interface: what the store needs from a database, and nothing else.
 *
 * Drivers: db_sqlite (embedded, the default), db_pg (PostgreSQL), and db_fault, which wraps another one and fails on
 * demand, also in the nasty way: commit reports an error and yet it happened. All pass tests/store. A connection belongs
 * to one thread at a time.
 *
 * Besides ERR_STORAGE, which ends writing for good, a driver whose server may go away knows three answers. ERR_CONFLICT:
 * it did not happen, try the transaction again. ERR_IO: the connection is lost; whether the transaction happened is not
 * known when its commit was asked for. ERR_FENCED: the lease's guard refused the transaction (store/lease.c). After each
 * of them the transaction is rolled back by the caller, and the next begin connects again where it must. Statements
 * outlive a lost connection. */
#pragma once
#include "base/err.h"
#include "base/mem.h"

struct db;
struct db_stmt;

enum db_role { DB_WRITER, DB_READER, DB_CHECKPOINTER };

struct db_driver {
    const char *name;
    /* Suffix of CREATE TABLE for tables clustered by their key ("WITHOUT ROWID"), and type names: the only DDL differences. */
    const char *clustered, *type_i64, *type_bytes, *type_pos;
    const char *tail_unique; /* behind the columns of `tail`: a constraint that refuses a second writer, or "" */
    const char *const *schemes; /* how its urls begin: "sqlite:"; NULL-terminated */
    /* Other processes can reach the database: the row of the node is the lease, and every transaction renews it. False:
     * the lock on the data folder is the lease. */
    bool shared;
    /* The data folder that the url names; NULL in a driver that keeps nothing on this machine. */
    const char *(*folder)(const char *url);
    /* What may be shown of the url: never a password. */
    void     (*describe)(const char *url, struct buf *out);
    enum err (*open)(const struct db_driver *self, const char *url, enum db_role role, struct db **ret, struct error *error);
    void     (*close)(struct db *db);                                   /* accepts NULL; statements must be finalized */
    enum err (*exec)(struct db *db, const char *sql, struct error *error); /* no results */
    enum err (*prepare)(struct db *db, const char *sql, struct db_stmt **ret, struct error *error);
    void     (*finalize)(struct db_stmt *stmt);                         /* accepts NULL */
    /* index from 1. Bytes must stay valid until the step. */
    enum err (*bind_i64)(struct db_stmt *stmt, unsigned index, int64_t value);
    enum err (*bind_bytes)(struct db_stmt *stmt, unsigned index, struct span value); /* p NULL: SQL NULL */
    /* One row (ret_row true), or the end. What gives rows begins with SELECT. Anything else may only be sent: its trouble
     * surfaces at the next SELECT, or at the commit. */
    enum err (*step)(struct db_stmt *stmt, bool *ret_row, struct error *error);
    int64_t  (*i64)(struct db_stmt *stmt, unsigned column);             /* from 0; NULL reads as 0 */
    struct span (*bytes)(struct db_stmt *stmt, unsigned column);        /* p NULL for SQL NULL; valid until step or reset */
    void     (*reset)(struct db_stmt *stmt);                            /* ready to bind again */
    enum err (*begin)(struct db *db, bool write, struct error *error);  /* a read transaction sees one snapshot from here on */
    enum err (*commit)(struct db *db, struct error *error);             /* ERR_OK: it is on disk; see above */
    void     (*rollback)(struct db *db);                                /* never fails; may drop the connection */

    /* A database that keeps a log of its own beside the file (SQLite's WAL) and wants care. All three are NULL in a driver
     * whose server looks after itself. */
    /* One pass that copies what it can without waiting for anybody; on a DB_CHECKPOINTER it syncs the file, too. `ret_copied`:
     * how many of the log's pages are in the file now. */
    enum err (*checkpoint)(struct db *db, uint32_t *ret_copied, struct error *error);
    /* Pages in the log after this connection's last commit. */
    uint32_t (*log_pages)(const struct db *db);
    /* Makes the log's file longer by one slice, until it has room for `pages` (then ret_done). Between transactions of the
     * one writer only. */
    enum err (*log_grow)(struct db *db, uint32_t pages, bool *ret_done, struct error *error);
};

extern const struct db_driver db_sqlite, db_pg;

/* ---- the fault driver ---- */
enum db_fault_kind {
    DB_FAULT_NONE,
    DB_FAULT_FAILS,    /* the n-th call reports an error and did nothing */
    DB_FAULT_HAPPENED, /* the n-th call reports an error and yet it happened (commit, exec, step) */
    DB_FAULT_CUT,      /* the n-th call reports a lost connection (ERR_IO) and did nothing */
    DB_FAULT_CUT_AFTER, /* it reports a lost connection, and yet it happened */
};
/* One shot, shared by all connections opened through it. Thread-safe. Lives until db_fault_free; no statics. */
struct db_fault;
struct db_fault *db_fault_new(const struct db_driver *inner);
void             db_fault_free(struct db_fault *fault);
const struct db_driver *db_fault_driver(struct db_fault *fault);
/* The `nth` call (from 0) that can fail, counted from now on, on writer connections (open, exec, prepare, bind, step, begin,
 * commit). only_commits: count commits alone. */
void             db_fault_arm(struct db_fault *fault, enum db_fault_kind kind, bool only_commits, unsigned long nth);
bool             db_fault_fired(const struct db_fault *fault);
unsigned long    db_fault_calls(const struct db_fault *fault); /* counted since it was armed */
