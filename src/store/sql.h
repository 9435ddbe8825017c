/* SPDX-License-Identifier: Apache-2.0 */
/* sql.h - (inner) statement texts made from the descriptions of the tables, and the way of a row into and out of a
 * statement.
 *
 * The dialect is what SQLite >= 3.40 and PostgreSQL share. Placeholders are $1, $2, … and appear in ascending order,
 * because SQLite numbers named placeholders by their first appearance. */
#pragma once
#include "store/store.h"

/* How a row is written. */
enum sql_write { SQL_PUT, SQL_INSERT, SQL_INSERT_NEW, SQL_DELETE, SQL_WRITE_COUNT };

/* All append one statement to `out`, without a NUL. */
void sql_create(const struct db_driver *driver, enum table_id id, struct buf *out);
void sql_write(enum table_id id, enum sql_write how, struct buf *out);
void sql_get(enum table_id id, struct buf *out);
void sql_query(const struct query *query, bool count, struct buf *out);

/* The description of a column by name. It must exist: a query that names another one is our own mistake. */
const struct column *sql_column(enum table_id id, const char *name);

/* Binds one column of a row; `is_key`: an empty value is stored as empty, not as NULL. */
enum err sql_bind(const struct db_driver *driver, struct db_stmt *stmt, unsigned index, const struct column *column, bool is_key,
                  const void *row);
/* Fills all columns of `row` from the statement's current row. Bytes are copied into the arena. ERR_CORRUPT when an id
 * or a hash does not have its size. */
enum err sql_read(const struct db_driver *driver, struct db_stmt *stmt, enum table_id id, struct arena *arena, void *row);

/* ---- the two tables of frames ---- */
void sql_create_frames(const struct db_driver *driver, struct buf *tail, struct buf *segment);
#define SQL_FRAME_COLUMNS "stream, first_seq, n, base_ms, wf_before, epoch, body"
#define SQL_TAIL_INSERT   "INSERT INTO tail (pos, " SQL_FRAME_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
#define SQL_TAIL_DELETE   "DELETE FROM tail WHERE pos <= $1"
#define SQL_TAIL_BODY     "SELECT body FROM tail WHERE pos = $1"
#define SQL_TAIL_RANGE    "SELECT (SELECT min(pos) FROM tail), (SELECT max(pos) FROM tail)"
#define SQL_TAIL_SCAN                                                                                                        \
    "SELECT pos, stream, first_seq, n, base_ms, wf_before, epoch, length(body) FROM tail WHERE pos > $1 ORDER BY pos LIMIT $2"
#define SQL_SEGMENT_INSERT "INSERT INTO segment (" SQL_FRAME_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7)"
/* The segment that holds a seq, if any does: the last one that does not begin behind it. */
#define SQL_SEGMENT_AT                                                                                                       \
    "SELECT first_seq, n, base_ms, wf_before, epoch, body FROM segment WHERE stream = $1 AND first_seq <= $2 "              \
    "ORDER BY first_seq DESC LIMIT 1"
#define SQL_SEGMENT_PLACE                                                                                                    \
    "SELECT first_seq, n, wf_before FROM segment WHERE stream = $1 AND first_seq <= $2 ORDER BY first_seq DESC LIMIT 1"
#define SQL_SEGMENTS_FROM                                                                                                    \
    "SELECT first_seq, n, base_ms, wf_before, epoch, body FROM segment WHERE stream = $1 AND first_seq >= $2 "              \
    "ORDER BY first_seq LIMIT $3"
#define SQL_SEGMENT_PURGE                                                                                                    \
    "DELETE FROM segment WHERE stream = $1 AND first_seq IN "                                                                \
    "(SELECT first_seq FROM segment WHERE stream = $2 ORDER BY first_seq LIMIT 64)"
/* Up to so many: whether one purge takes them all. */
#define SQL_SEGMENT_COUNT "SELECT count(*) FROM (SELECT 1 FROM segment WHERE stream = $1 LIMIT 65) AS seen"
/* The newest first: the first of all is what an attempt began from. */
#define SQL_SNAPSHOT_PURGE                                                                                                   \
    "DELETE FROM snapshot WHERE attempt = $1 AND seq IN "                                                                    \
    "(SELECT seq FROM snapshot WHERE attempt = $2 ORDER BY seq DESC LIMIT 64)"
/* As the index run_by_end has it. */
#define SQL_RUN_ENDED                                                                                                        \
    "SELECT workspace, id, completed_ms FROM run WHERE stream > 0 AND completed_ms > 0 AND completed_ms >= $1 "             \
    "AND completed_ms < $2 ORDER BY completed_ms LIMIT $3"
#define SQL_SNAPSHOT_AT_MOST                                                                                                 \
    "SELECT attempt, seq, digest, body FROM snapshot WHERE attempt = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1"

/* ---- the lease (lease.c) ---- */
/* Locks the row, so that of two processes that open at once the second one waits and then sees what the first one wrote. */
#define SQL_LEASE_RAISE "UPDATE node SET epoch = epoch + 1 WHERE id = $1"
#define SQL_LEASE_OTHER "SELECT id, expires_ms FROM node WHERE id <> $1 AND expires_ms > $2 LIMIT 1"
#define SQL_LEASE_LOOK  "SELECT epoch, expires_ms FROM node WHERE id = $1"
/* The division is the guard: by zero, and the transaction fails, unless the row is as this process left it. */
#define SQL_LEASE_RENEW \
    "UPDATE node SET expires_ms = $1 / CASE WHEN epoch = $2 AND expires_ms = $3 THEN 1 ELSE 0 END WHERE id = $4"
