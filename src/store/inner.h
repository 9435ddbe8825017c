/* SPDX-License-Identifier: Apache-2.0 */
/* inner.h - (inner) the store's parts and how they hang together.
 *
 *   owner ── batch.c ──mail──> writer.c (storage thread) ──> frames.c, settle.c ──> driver
 *     ^                            │          │                     └── tail_index.c (RAM)
 *     └────────── deliver ─────────┘          └── wakes ──> checkpoint.c (thread)
 *   any thread ── reader.c, query.c (own connection, own snapshot); read jobs: reader.c (thread)
 */
#pragma once
#include "store/segment.h"
#include "store/sql.h"
#include "store/tail_index.h"

/* ---- batches, as the storage thread sees them ---- */

struct batch {
    struct read_job job;     /* first: both kinds of mail come back through store_finish, which calls job.done */
    struct store   *store;
    struct buf      ops;     /* packed operations */
    size_t          frames;
    struct buf      after;   /* struct after, one behind the other */
    enum err        result;
};

enum op_kind { OP_FRAME, OP_ROW, OP_PURGE, OP_PURGE_SNAPSHOTS };
struct op {
    uint32_t size;           /* with this head */
    uint8_t  kind, table, how, closed;
};
/* Behind the head of OP_FRAME; then the body. Behind that of OP_ROW: the columns' values, packed (batch.c); of OP_PURGE: the
 * stream's number, of OP_PURGE_SNAPSHOTS the attempt's id. */
struct op_frame {
    uint64_t stream, first_seq, wf_before, epoch;
    int64_t  base_ms;
    uint32_t n, bytes;
};

/* Binds the packed values of a row operation to its statement. */
enum err batch_bind_row(const struct db_driver *driver, struct db_stmt *stmt, const struct op *op, const char *values);

/* ---- counters ---- */

/* The storage thread adds to `now` and publishes it once per turn; the checkpoint thread has two of its own. */
struct counters {
    pthread_mutex_t    lock;
    struct store_stats shown;
    struct store_stats now;
    _Atomic(uint64_t)  queued, checkpoints;
};
void stats_init(struct counters *counters);
void stats_done(struct counters *counters);
void stats_commit(struct counters *counters, uint64_t us);
void stats_publish(struct store *store);

/* ---- settling ---- */

struct settle {
    struct tail_stream **picked;
    size_t               count, cap;
    int64_t              due_credit, holder_credit; /* bytes that settling may write; below 0: written in advance */
    uint64_t             walk_from;   /* where the search for streams that hold the floor goes on */
    uint64_t             delete_to;   /* rows up to here are deleted in the transaction under way; 0: none */
    uint64_t             events;      /* settled in the transaction under way */
    struct buf           body;
};
enum settle_mode { SETTLE_BUSY, SETTLE_IDLE };
/* Part of the transaction under way: settles what the budget allows, deletes some rows that were settled before.
 * `inserted`: rows and bytes that this transaction put into the tail. */
enum err settle_step(struct store *store, enum settle_mode mode, size_t inserted, size_t inserted_bytes, struct error *error);
void     settle_committed(struct store *store);
void     settle_undone(struct store *store); /* the transaction will be tried again, without settling */
/* Milliseconds until there is something to settle or delete when no mail comes; -1: nothing to wait for. */
int      settle_patience(const struct store *store);
void     settle_done(struct settle *settle);

/* ---- the storage thread ---- */

struct writer {
    struct db       *db;
    struct db_stmt  *rows[TABLE_COUNT][SQL_WRITE_COUNT]; /* prepared when first needed */
    struct db_stmt  *tail_insert, *tail_delete, *tail_body, *segment_insert, *segment_place, *segment_purge, *snapshot_purge;
    struct db_stmt  *lease_renew, *lease_look;
    struct tail_new *frames;           /* of the transaction under way; bodies point into the batches */
    size_t           frame_count, frame_cap, frame_bytes;
    uint64_t         first_pos;        /* of these frames: the same when the transaction is tried again */
    struct mailbox   box;
    struct mail      stop, wake;       /* not batches */
    _Atomic(bool)    wake_posted;      /* the mail is in the box: it must not be posted twice */
    bool             stopping, growing;
    _Atomic(bool)    hurry;            /* the store is being closed: do not wait for a database that is away */
    _Atomic(bool)    away;             /* the database cannot be reached right now */
    unsigned         commits_since_asked; /* since the checkpoint thread asked for the last pass */
    pthread_t        thread;
    bool             started;
};
enum err writer_open(struct store *store, struct error *error);    /* connection, schema, epoch, tail index */
enum err writer_start(struct store *store, struct error *error);   /* the thread */
void     writer_stop(struct store *store);
void     writer_close(struct store *store);
/* Prepares when *stmt is NULL. */
enum err writer_prepare(struct store *store, struct db_stmt **stmt, const char *sql, struct error *error);

/* Rows of the tail for all frames of the transaction; and the index, before the commit. */
enum err frames_load(struct store *store, struct error *error);
void     frames_stage(struct writer *writer, const struct op *op);
enum err frames_insert(struct store *store, struct error *error);
void     frames_index(struct store *store);

/* ---- schema ---- */
enum err schema_prepare(struct store *store, struct error *error); /* tables, version, epoch: one transaction */
/* At start, on the writer's connection: a row by its key (*ret_found false: none), and a row written at once. */
enum err schema_read_row(struct store *store, enum table_id id, void *row, struct arena *arena, bool *ret_found,
                         struct error *error);
enum err schema_write_row(struct store *store, enum table_id id, enum sql_write how, const void *row,
                          struct error *error);

/* ---- the lease ---- */
enum { FOLDER_TOKEN = 33 }; /* hex digits and a NUL */
struct lease {
    int64_t  link;        /* expires_ms as the last transaction left it */
    int64_t  first, next; /* and as the one under way will: its first try; the try that is going on, or that happened */
    uint64_t renewed_us;
    char     token[FOLDER_TOKEN]; /* empty when the driver is not shared */
};
/* Part of the first transaction: raises the epoch; refuses while another process holds the lease. */
enum err lease_take(struct store *store, struct arena *arena, struct error *error);
void     lease_prepare(struct store *store, bool first); /* before each try of a transaction */
bool     lease_first_try(const struct store *store);     /* afterwards: the first try is the one that happened */
enum err lease_renew(struct store *store, struct error *error); /* part of every transaction */
void     lease_committed(struct store *store);
/* Milliseconds until the lease wants to be renewed when no mail comes; -1: there is none. */
int      lease_patience(const struct store *store);
/* What became of the transaction under way. ERR_OK: it happened. ERR_CONFLICT: it did not, try again. Or ERR_FENCED,
 * ERR_IO. */
enum err lease_outcome(struct store *store, struct error *error);
void     lease_give_back(struct store *store);

/* ---- checkpoints ---- */

enum checkpoint_state { CHECKPOINT_RESTS, CHECKPOINT_RUNS, CHECKPOINT_ASKS }; /* ASKS: the storage thread does the last pass */
struct checkpointer {
    struct db      *db;
    pthread_t       thread;
    bool            started;
    pthread_mutex_t lock;
    pthread_cond_t  wake;
    bool            stop;          /* under the lock */
    _Atomic(int)    state;         /* enum checkpoint_state; changed to RUNS under the lock */
    uint32_t        due_at;        /* the storage thread's: log pages that wake the thread */
    _Atomic(uint32_t) pages;       /* in the log, as of the last commit */
};
enum err checkpoint_start(struct store *store, struct error *error);
void     checkpoint_stop(struct store *store);
/* The storage thread has taken its wake-up out of the box. */
void     checkpoint_wake_taken(struct store *store);
/* After each commit, on the storage thread: wakes the checkpoint thread when the log is long. */
void     checkpoint_look(struct store *store);
/* On the storage thread, between transactions: the last pass, when the thread has asked for it. */
enum err checkpoint_finish(struct store *store, struct error *error);

/* ---- readers ---- */

struct read_thread {
    struct reader *reader;
    struct mailbox box;
    struct mail    stop;
    pthread_t      thread;
    bool           started;
};
enum err read_thread_start(struct store *store, struct error *error);
void     read_thread_stop(struct store *store);

struct cached {
    struct cached  *next;
    uint64_t        hash;
    size_t          length;
    struct db_stmt *stmt;
    bool            busy;
    char            text[];
};
enum { CACHE_BUCKETS = 64 };
struct reader {
    struct store     *store;
    struct db        *db;
    struct cached    *cache[CACHE_BUCKETS];
    struct tail_guard guard;
    struct tail_view  view;
    struct arena     *arena;      /* of the snapshot under way, or NULL */
    enum err          err;        /* the first error of the snapshot */
};
/* A statement with this text that nobody is using; give it back with reader_done. */
enum err reader_use(struct reader *reader, struct span text, struct cached **ret);
void     reader_done(struct reader *reader, struct cached *cached);
enum err reader_fail(struct reader *reader, enum err err);
/* The next row: *ret_row. */
enum err reader_step(struct reader *reader, struct cached *cached, bool *ret_row);

/* ---- the data folder ---- */
/* Makes the folder and locks DIR/lock. folder NULL or empty: ERR_INVALID_PARAMETER. */
enum err folder_take(const char *folder, int *ret_fd, struct error *error);
/* A random name of the folder, made at the first start. */
enum err folder_token(int lock_fd, struct env *env, char ret[FOLDER_TOKEN], struct error *error);
void     folder_give_back(int fd);

/* ---- the whole ---- */

struct store {
    struct store_config     config;     /* url, node and folder are copies */
    const struct db_driver *driver;
    struct lease            lease;
    int                     lock_fd;
    uint64_t                epoch;
    uint64_t                start_us;
    char                   *get_sql[TABLE_COUNT];
    struct writer           writer;
    struct tail_index       tail;
    struct settle           settle;
    struct checkpointer     checkpointer;
    struct read_thread      read_thread;
    struct reader          *reader;     /* the owner's */
    struct counters         counters;
    size_t                  batch_hint; /* the owner's: bytes of recent batches */
    _Atomic(bool)           failed;
    pthread_mutex_t         failure_lock;
    struct error            failure;
};
/* Fail-stop; the first reason is kept. Any thread. */
void     store_fail(struct store *store, const struct error *error);
uint64_t store_now_us(const struct store *store);
/* Starts a thread with all signals blocked. */
enum err store_thread(pthread_t *thread, const char *name, void *(*run)(void *), void *arg, struct error *error);
