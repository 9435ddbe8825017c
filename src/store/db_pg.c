/* SPDX-License-Identifier: Apache-2.0 */
/* db_pg.c - the PostgreSQL driver: one connection per thread, in pipeline mode, prepared statements, binary values.
 *
 * A write transaction is sent without waiting: BEGIN, its statements, COMMIT and the sync go into one stream, and the
 * outcomes are read once, at the commit. So a commit costs one round trip, and a statement's trouble surfaces there.
 * Only what gives rows is waited for. In a read transaction BEGIN travels with the first query, and its end is sent
 * without waiting; what it answers is read when the next one begins.
 *
 * After any trouble in a transaction the connection is given up and the next `begin` makes a new one: the server undoes
 * what was not committed, and there is only one state to come back to. A statement outlives connections; it is prepared
 * again, in the stream, when it is first used on a new one.
 *
 * A lost connection is ERR_IO: whether the transaction happened is for the store to find out (lease.c). */
#include "store/db.h"
#include "base/mem.h"
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARAMS_MOST = 64, TYPE_INT8 = 20, TYPE_BYTEA = 17, BINARY = 1 };

struct pg_db {
    PGconn      *conn;       /* NULL: there is none; the next begin makes one */
    char        *url;
    enum db_role role;
    unsigned     generation; /* of the connection */
    unsigned     names;      /* given to statements so far */
    unsigned     pending;    /* commands whose outcome was not read */
    bool         in_transaction, writing;
    bool         fresh;      /* nothing was read in this transaction */
    bool         trouble;    /* something failed: the connection goes at the transaction's end */
    bool         ending;     /* a read transaction's end was sent, its answer not read */
};

struct pg_stmt {
    struct pg_db *db;
    unsigned      generation; /* of the connection that has it prepared; 0: none yet */
    unsigned      name, params;
    bool          gives_rows;
    PGresult     *result;     /* of the execution under way, NULL before the first step */
    int           row;
    Oid           types[PARAMS_MOST];
    const char   *values[PARAMS_MOST];
    int           lengths[PARAMS_MOST];
    unsigned char numbers[PARAMS_MOST][8]; /* in the order of the network */
    char          sql[];
};

static struct pg_db *db_of(const struct db *db)
{
    return (struct pg_db *)db;
}

static struct pg_stmt *stmt_of(struct db_stmt *stmt)
{
    return (struct pg_stmt *)stmt;
}

/* ---- trouble ---- */

static void drop(struct pg_db *db)
{
    PQfinish(db->conn);
    db->conn = NULL;
    db->pending = 0;
    db->in_transaction = db->writing = db->fresh = db->trouble = db->ending = false;
}

/* libpq ends its messages with a newline and may put several lines into one. */
static enum err conn_failed(struct pg_db *db, enum err code, const char *what, struct error *error)
{
    const char *text = db->conn ? PQerrorMessage(db->conn) : "there is no connection";
    db->trouble = true;
    return error_set(error, code, NULL, "%s: %.*s", what, (int)strcspn(text, "\n"), text);
}

static enum err lost(struct pg_db *db, struct error *error)
{
    return conn_failed(db, ERR_IO, "the connection to the database was lost", error);
}

/* By prefix of the SQLSTATE; anything else is ERR_STORAGE. */
static const struct {
    char     state[6];
    enum err err;
} states[] = {
    { "40001", ERR_CONFLICT }, /* serialization_failure */
    { "40P01", ERR_CONFLICT }, /* deadlock_detected */
    { "55P03", ERR_CONFLICT }, /* lock_not_available: a lost transaction of our own still holds the node's row */
    { "40003", ERR_IO },       /* statement_completion_unknown */
    { "08", ERR_IO },          /* connection exceptions */
    { "57P", ERR_IO },         /* the server is going down, or ended the session */
    { "25006", ERR_IO },       /* read_only_sql_transaction: the primary has moved; a new connection may find it */
    { "22012", ERR_FENCED },   /* division_by_zero: the guard in the renewal of the lease (lease.c) */
};

static enum err class_of(const char *state)
{
    for (size_t i = 0; state && i < ARRAY_LEN(states); i++)
        if (strncmp(state, states[i].state, strlen(states[i].state)) == 0)
            return states[i].err;
    return ERR_STORAGE;
}

/* Only the primary message: details may hold values of rows. */
static enum err result_failed(struct pg_db *db, const PGresult *result, struct error *error)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!state || PQstatus(db->conn) == CONNECTION_BAD)
        return lost(db, error);
    db->trouble = true;
    return error_set(error, class_of(state), NULL, "%s (PostgreSQL %s)", text ? text : "a statement failed", state);
}

/* ---- what was sent is answered ---- */

/* The outcome of the oldest command that was not read. ret_result may be NULL. */
static enum err take_outcome(struct pg_db *db, PGresult **ret_result, struct error *error)
{
    PGresult *result = PQgetResult(db->conn);
    if (!result)
        return lost(db, error);
    enum err       err = ERR_OK;
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        err = result_failed(db, result, error);
    for (PGresult *end; !err && (end = PQgetResult(db->conn)); PQclear(end))
        err = result_failed(db, end, error);
    if (err || !ret_result)
        PQclear(result);
    else
        *ret_result = result;
    db->pending--;
    return err;
}

static enum err take_outcomes(struct pg_db *db, unsigned leave, struct error *error)
{
    enum err err = ERR_OK;
    while (!err && db->pending > leave)
        err = take_outcome(db, NULL, error);
    return err;
}

static enum err take_sync(struct pg_db *db, struct error *error)
{
    PGresult *result = PQgetResult(db->conn);
    bool      synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
    PQclear(result);
    return synced ? ERR_OK : lost(db, error);
}

/* The outcome of the command sent last, and of all before it. A command outside a transaction is one by itself. */
static enum err take_last(struct pg_db *db, PGresult **ret_result, struct error *error)
{
    bool alone = !db->in_transaction;
    int  sent = alone ? PQpipelineSync(db->conn) : PQsendFlushRequest(db->conn) && PQflush(db->conn) == 0;
    if (!sent)
        return lost(db, error);
    enum err err = take_outcomes(db, 1, error);
    if (!err)
        err = take_outcome(db, ret_result, error);
    return err || !alone ? err : take_sync(db, error);
}

static enum err send_text(struct pg_db *db, const char *sql, struct error *error)
{
    if (!db->conn || !PQsendQueryParams(db->conn, sql, 0, NULL, NULL, NULL, NULL, BINARY))
        return lost(db, error);
    db->pending++;
    return ERR_OK;
}

/* ---- opening ---- */

static void be_silent(void *user, const char *message)
{
    /* "relation exists, skipping" and the like. */
}

static enum err simple(struct pg_db *db, const char *sql, PGresult **ret_result, struct error *error)
{
    PGresult      *result = PQexec(db->conn, sql);
    ExecStatusType status = PQresultStatus(result);
    enum err       err = ERR_OK;
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        err = result ? result_failed(db, result, error) : lost(db, error);
    if (err || !ret_result)
        PQclear(result);
    else
        *ret_result = result;
    return err;
}

static bool setting_is(const PGresult *result, int column, const char *value)
{
    return strcmp(PQgetvalue(result, 0, column), value) == 0;
}

/* What a commit promises must hold: it means synced. Settings that a server does not know read as empty. */
static enum err check_promises(struct pg_db *db, struct error *error)
{
    PGresult *result = NULL;
    enum err  err = simple(db,
                           "SELECT current_setting('fsync', true), current_setting('synchronous_commit', true), "
                           "current_setting('transaction_read_only', true)",
                           &result, error);
    if (err)
        return err;
    if (setting_is(result, 0, "off"))
        err = error_set(error, ERR_STORAGE, "store",
                        "the database server runs with fsync = off: a crash would lose what was acknowledged");
    else if (setting_is(result, 1, "off"))
        err = error_set(error, ERR_STORAGE, "store", "the database server does not let synchronous_commit be on");
    else if (setting_is(result, 2, "on"))
        err = error_set(error, ERR_IO, "store", "the database server is read-only (a standby?)");
    PQclear(result);
    return err;
}

/* Settings that a role or a database may carry and that would break a promise or a long transaction. */
static enum err set_session(struct pg_db *db, struct error *error)
{
    enum err err = simple(db,
                          "SET synchronous_commit = on; SET statement_timeout = 0; SET lock_timeout = '10s'; "
                          "SET idle_in_transaction_session_timeout = 0",
                          NULL, error);
    return err || db->role != DB_WRITER ? err : check_promises(db, error);
}

/* The url's own parameters come last and win. */
static PGconn *dial(const char *url)
{
    static const char *const names[] = { "fallback_application_name", "connect_timeout", "keepalives_idle",
                                         "keepalives_interval", "keepalives_count", "tcp_user_timeout", "dbname", NULL };
    const char *const values[] = { "perdure", "5", "10", "5", "3", "15000", url, NULL };
    _Static_assert(ARRAY_LEN(names) == ARRAY_LEN(values), "a value for each name");
    return PQconnectdbParams(names, values, 1);
}

static enum err connect_now(struct pg_db *db, struct error *error)
{
    db->conn = dial(db->url);
    enum err err = ERR_OK;
    if (PQstatus(db->conn) != CONNECTION_OK)
        err = conn_failed(db, ERR_IO, "cannot connect to the database", error);
    if (!err) {
        PQsetNoticeProcessor(db->conn, be_silent, NULL);
        err = set_session(db, error);
    }
    if (!err && !PQenterPipelineMode(db->conn))
        err = lost(db, error);
    if (err)
        drop(db);
    else
        db->generation++;
    return err;
}

static void pg_close(struct db *base)
{
    struct pg_db *db = db_of(base);
    if (!db)
        return;
    drop(db);
    free(db->url);
    free(db);
}

static enum err check_url(const char *url, struct error *error)
{
    /* libpq's own words are not passed on: they quote the url, which may hold a password. */
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    if (!options)
        return error_set(error, ERR_INVALID_PARAMETER, "store",
                         "the store's url is not one that PostgreSQL understands (want postgres://USER@HOST:PORT/DB)");
    PQconninfoFree(options);
    return ERR_OK;
}

static enum err pg_open(const struct db_driver *self, const char *url, enum db_role role, struct db **ret,
                        struct error *error)
{
    enum err err = check_url(url, error);
    if (err)
        return err;
    struct pg_db *db = mem_alloc(sizeof *db);
    db->url = mem_dup(url, strlen(url));
    db->role = role;
    err = connect_now(db, error);
    if (err) {
        pg_close((struct db *)db);
        return err;
    }
    *ret = (struct db *)db;
    return ERR_OK;
}

/* Everything but these four may be a secret, or lead to one. */
static void pg_describe(const char *url, struct buf *out)
{
    static const char *const shown[] = { "user", "host", "port", "dbname" };
    static const char *const before[] = { "", "@", ":", "/" };
    PQconninfoOption        *options = PQconninfoParse(url, NULL);
    BUF_LIT(out, "postgres://");
    for (size_t i = 0; options && i < ARRAY_LEN(shown); i++)
        for (const PQconninfoOption *option = options; option->keyword; option++)
            if (option->val && strcmp(option->keyword, shown[i]) == 0)
                buf_printf(out, "%s%s", before[i], option->val);
    PQconninfoFree(options);
}

/* ---- beginnings of transactions ---- */

/* A connection that the server has closed meanwhile is found out here, where nothing depends on it yet. */
static bool still_there(struct pg_db *db)
{
    struct error error;
    if (!db->conn || db->trouble || !PQconsumeInput(db->conn))
        return false;
    if (db->ending && (take_outcomes(db, 0, &error) || take_sync(db, &error)))
        return false;
    db->ending = false;
    return true;
}

static enum err pg_begin(struct db *base, bool write, struct error *error)
{
    struct pg_db *db = db_of(base);
    assert(!db->in_transaction);
    if (!still_there(db)) {
        drop(db);
        enum err err = connect_now(db, error);
        if (err)
            return err;
    }
    enum err err = send_text(db, write ? "BEGIN" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error);
    if (err)
        return err;
    db->in_transaction = true;
    db->writing = write;
    db->fresh = !write;
    return ERR_OK;
}

/* ---- statements ---- */

static enum err pg_exec(struct db *base, const char *sql, struct error *error)
{
    struct pg_db *db = db_of(base);
    enum err      err = send_text(db, sql, error);
    return err ? err : take_last(db, NULL, error);
}

static enum err pg_prepare(struct db *base, const char *sql, struct db_stmt **ret, struct error *error)
{
    size_t          length = strlen(sql);
    struct pg_stmt *stmt = mem_alloc(sizeof *stmt + length + 1);
    memcpy(stmt->sql, sql, length);
    stmt->db = db_of(base);
    stmt->name = stmt->db->names++;
    stmt->gives_rows = strncmp(sql, "SELECT", 6) == 0;
    *ret = (struct db_stmt *)stmt;
    return ERR_OK;
}

static void pg_reset(struct db_stmt *stmt)
{
    PQclear(stmt_of(stmt)->result);
    stmt_of(stmt)->result = NULL;
}

static void pg_finalize(struct db_stmt *stmt)
{
    if (!stmt)
        return;
    pg_reset(stmt);
    free(stmt_of(stmt));
}

static void bind(struct pg_stmt *stmt, unsigned index, Oid type, const char *value, int length)
{
    assert(index >= 1 && index <= PARAMS_MOST);
    if (stmt->params < index)
        stmt->params = index;
    stmt->types[index - 1] = type;
    stmt->values[index - 1] = value;
    stmt->lengths[index - 1] = length;
}

static enum err pg_bind_i64(struct db_stmt *base, unsigned index, int64_t value)
{
    struct pg_stmt *stmt = stmt_of(base);
    assert(index >= 1 && index <= PARAMS_MOST);
    unsigned char *bytes = stmt->numbers[index - 1];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> (56 - 8 * i));
    bind(stmt, index, TYPE_INT8, (const char *)bytes, 8);
    return ERR_OK;
}

static enum err pg_bind_bytes(struct db_stmt *stmt, unsigned index, struct span value)
{
    if (value.n > INT32_MAX)
        return ERR_TOO_LARGE;
    bind(stmt_of(stmt), index, TYPE_BYTEA, value.p, (int)value.n);
    return ERR_OK;
}

static enum err send_prepare(struct pg_stmt *stmt, const char *name, struct error *error)
{
    struct pg_db *db = stmt->db;
    if (stmt->generation == db->generation)
        return ERR_OK;
    if (!PQsendPrepare(db->conn, name, stmt->sql, (int)stmt->params, stmt->types))
        return lost(db, error);
    db->pending++;
    stmt->generation = db->generation;
    return ERR_OK;
}

static enum err send_stmt(struct pg_stmt *stmt, struct error *error)
{
    static const int formats[PARAMS_MOST] = { [0 ... PARAMS_MOST - 1] = BINARY };
    struct pg_db    *db = stmt->db;
    char             name[16];
    snprintf(name, sizeof name, "p%u", stmt->name);
    if (!db->conn)
        return lost(db, error);
    enum err err = send_prepare(stmt, name, error);
    if (err)
        return err;
    if (!PQsendQueryPrepared(db->conn, name, (int)stmt->params, stmt->values, stmt->lengths, formats, BINARY))
        return lost(db, error);
    db->pending++;
    return ERR_OK;
}

static enum err ask(struct pg_stmt *stmt, struct error *error)
{
    enum err err = send_stmt(stmt, error);
    stmt->row = 0;
    return err ? err : take_last(stmt->db, &stmt->result, error);
}

/* A connection may have ended long ago, and nobody has noticed. As long as a read transaction has read nothing it may
 * as well begin on a new one. */
static enum err ask_again(struct pg_stmt *stmt, struct error *error)
{
    drop(stmt->db);
    enum err err = pg_begin((struct db *)stmt->db, false, error);
    return err ? err : ask(stmt, error);
}

static enum err pg_step(struct db_stmt *base, bool *ret_row, struct error *error)
{
    struct pg_stmt *stmt = stmt_of(base);
    struct pg_db   *db = stmt->db;
    enum err        err = ERR_OK;
    if (!stmt->result && db->writing && !stmt->gives_rows) {
        *ret_row = false; /* the outcome is read with the next answer, at the latest at the commit */
        return send_stmt(stmt, error);
    }
    if (stmt->result) {
        stmt->row++;
    } else {
        bool may_repeat = db->fresh;
        err = ask(stmt, error);
        if (err == ERR_IO && may_repeat)
            err = ask_again(stmt, error);
        db->fresh = false;
    }
    if (!err)
        *ret_row = stmt->row < PQntuples(stmt->result);
    return err;
}

static int64_t pg_i64(struct db_stmt *base, unsigned column)
{
    const struct pg_stmt *stmt = stmt_of(base);
    if (PQgetisnull(stmt->result, stmt->row, (int)column))
        return 0;
    const unsigned char *bytes = (const unsigned char *)PQgetvalue(stmt->result, stmt->row, (int)column);
    int                  length = PQgetlength(stmt->result, stmt->row, (int)column);
    /* length() is an int4, everything else an int8. */
    uint64_t value = bytes[0] & 0x80 ? UINT64_MAX : 0;
    for (int i = 0; i < length; i++)
        value = value << 8 | bytes[i];
    return (int64_t)value;
}

static struct span pg_bytes(struct db_stmt *base, unsigned column)
{
    const struct pg_stmt *stmt = stmt_of(base);
    if (PQgetisnull(stmt->result, stmt->row, (int)column))
        return SPAN_NONE;
    return span_make(PQgetvalue(stmt->result, stmt->row, (int)column),
                     (size_t)PQgetlength(stmt->result, stmt->row, (int)column));
}

/* ---- ends of transactions ---- */

static enum err send_end(struct pg_db *db, struct error *error)
{
    enum err err = send_text(db, "COMMIT", error);
    return err || PQpipelineSync(db->conn) ? err : lost(db, error);
}

static enum err pg_commit(struct db *base, struct error *error)
{
    struct pg_db *db = db_of(base);
    PGresult     *result = NULL;
    enum err      err = send_end(db, error);
    if (!err)
        err = take_outcomes(db, 1, error);
    if (!err)
        err = take_outcome(db, &result, error);
    if (!err && strcmp(PQcmdStatus(result), "COMMIT") != 0) {
        db->trouble = true;
        err = error_set(error, ERR_STORAGE, NULL, "the database rolled the transaction back");
    }
    PQclear(result);
    if (!err)
        err = take_sync(db, error);
    if (!err)
        db->in_transaction = db->writing = false;
    return err;
}

static void pg_rollback(struct db *base)
{
    struct pg_db *db = db_of(base);
    struct error  error;
    if (!db->in_transaction && !db->trouble)
        return;
    if (db->writing || db->trouble || send_end(db, &error)) {
        drop(db);
        return;
    }
    db->in_transaction = false;
    db->ending = true;
}

static const char *const pg_schemes[] = { "postgres:", "postgresql:", NULL };

const struct db_driver db_pg = {
    .name = "postgresql",
    .schemes = pg_schemes,
    .clustered = "",
    .type_i64 = "BIGINT",
    .type_bytes = "BYTEA",
    .type_pos = "BIGINT PRIMARY KEY",
    .tail_unique = ", UNIQUE (stream, first_seq)",
    .shared = true,
    .describe = pg_describe,
    .open = pg_open,
    .close = pg_close,
    .exec = pg_exec,
    .prepare = pg_prepare,
    .finalize = pg_finalize,
    .bind_i64 = pg_bind_i64,
    .bind_bytes = pg_bind_bytes,
    .step = pg_step,
    .i64 = pg_i64,
    .bytes = pg_bytes,
    .reset = pg_reset,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
};
