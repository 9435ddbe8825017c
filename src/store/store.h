/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - what is kept: one writer thread that commits batches, readers that see snapshots, and the frames of all streams.
 *
 * Writing. The owner (the engine's thread) fills a batch and submits it. The storage thread takes everything that is queued as
 * ONE transaction, one sync (group commit), and gives the batches back in order, all with the same result. The first failed
 * commit stops the store for good (fail-stop, design rule 4): that batch and all later ones come back with ERR_STORAGE.
 *
 * Frames. All events of one stream in one commit are one frame (model.md 3, D5, D6). Frames are appended in arrival order to
 * `tail` and settled at leisure into `segment`, clustered by (stream, first_seq); a segment's body is a run of packed frames,
 * so that nothing inside them is rewritten. Where a stream's unsettled frames lie in the tail is known from an index in RAM,
 * rebuilt at start. The store does not look into frame bodies.
 *
 * Reading. A reader is a connection with its own snapshot; any thread may own one. The reader thread runs jobs that may take
 * long; what is a look-up by key may be read by the owner itself with its own reader (store_reader). */
#pragma once
#include "base/env.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "store/db.h"
#include "store/rows.h"

struct store;
struct batch;
struct reader;

struct store_config {
    /* "sqlite:DIR" (DIR/perdure.db), or "postgres://USER@HOST:PORT/DB" as libpq takes it. */
    const char             *url;
    /* Made, mode 0700, and locked: one process at a time. NULL for SQLite, whose url names it. */
    const char             *folder;
    const struct db_driver *driver;       /* NULL: by the url */
    const char             *node;         /* this node's name; NULL: "local" */
    struct env             *env;
    const struct log       *log;          /* may be NULL */
    /* Called on the storage or the reader thread with a chain of what is done (batches, read jobs; linked by mail.next, oldest
     * first). The owner must call store_finish on each, on its own thread. */
    void (*deliver)(void *user, struct mail *chain);
    void  *user;
    /* Pacing; 0 means the default in brackets. */
    uint32_t settle_events;     /* [256]      unsettled events of a stream that make it due */
    uint32_t settle_bytes;      /* [65536]    or bytes */
    uint32_t settle_hold_ms;    /* [30000]    or so long the oldest frame of the tail */
    uint64_t tail_bytes;        /* [64 MiB]   above it settling goes before new mail */
    uint32_t wal_pages;         /* [4000]     wakes the checkpoint thread */
    uint32_t wal_grow_pages;    /* [6000]     the WAL is grown once at start; tests use less */
    uint32_t reconnect_ms;      /* [30000]    so long a transaction waits for a database that went away, then fail-stop */
};

/* Opens or creates, takes the lock on the folder and on a server the node's lease (ERR_CONFLICT when another process has
 * it), raises this node's epoch, loads the tail index, starts the threads. */
enum err store_open(const struct store_config *config, struct store **ret, struct error *error);
/* Commits what is queued, delivers it, stops the threads. Batches not yet finished by the owner must be finished before. */
void     store_close(struct store *store); /* accepts NULL */
uint64_t store_epoch(const struct store *store);
bool     store_failed(const struct store *store); /* fail-stop has happened; any thread */
/* The database cannot be reached, and the store is trying; nothing is acknowledged meanwhile. Any thread. */
bool     store_away(const struct store *store);
/* After store_failed: why. Any thread. */
void     store_failure(const struct store *store, struct error *ret);

struct store_stats { /* plain snapshots, any thread */
    uint64_t commits, batches, frames, events, frame_bytes, settled_events, settles, checkpoints, checkpoint_stalls;
    uint64_t wal_pages, tail_frames, tail_bytes, queue_batches;
    uint64_t commit_us_last, commit_us_max, commit_us_sum;
    uint64_t commit_us_hist[24]; /* [i]: commits of < 2^i microseconds */
    uint64_t file_bytes; /* 0 where the database is not a file of ours */
    uint64_t retries;    /* transactions that were tried again: conflicts, lost connections */
};
void store_stats(const struct store *store, struct store_stats *ret);

/* ---- batches ---- */
/* Calls of the owner's thread. A batch that was not submitted is freed by batch_free. */
struct batch *batch_new(struct store *store);
void          batch_free(struct batch *batch);
bool          batch_empty(const struct batch *batch);
size_t        batch_bytes(const struct batch *batch);
struct frame {
    uint64_t    stream;    /* > 0 */
    uint64_t    first_seq; /* from 1; dense per stream: exactly behind the last frame of the stream */
    uint32_t    n;         /* events in it, > 0 */
    int64_t     base_ms;
    uint64_t    wf_before; /* WF events before it (model.md D2) */
    uint64_t    epoch;
    struct span body;
};
/* All of these copy what they are given. `closed`: nothing will follow in this stream: settle it soon. */
void batch_frame(struct batch *batch, const struct frame *frame, bool closed);
void batch_put(struct batch *batch, enum table_id table, const void *row);    /* insert, or replace all columns by key */
void batch_insert(struct batch *batch, enum table_id table, const void *row); /* a key that exists fails the commit */
void batch_insert_new(struct batch *batch, enum table_id table, const void *row); /* a key that exists is left as it is */
void batch_delete(struct batch *batch, enum table_id table, const void *row); /* by key */
enum { PURGE_MOST = 64 };
/* Deletes the first segments of a stream that nobody reads or writes any more, PURGE_MOST of them; its tail must be empty. */
void batch_purge(struct batch *batch, uint64_t stream);
/* Deletes the newest snapshots of an attempt, PURGE_MOST of them. */
void batch_purge_snapshots(struct batch *batch, struct uuid attempt);
/* Called by store_finish on the owner's thread, in order of addition; err is ERR_OK (on disk) or ERR_STORAGE. */
void batch_after(struct batch *batch, void (*fn)(void *arg, enum err err), void *arg);
/* The store owns the batch until it is delivered; store_finish runs the after-calls and frees it. */
void store_submit(struct store *store, struct batch *batch);
/* For what comes through config.deliver: one mail of the chain (read its next before). */
void store_finish(struct store *store, struct mail *mail);

/* ---- reading ---- */
enum err reader_open(struct store *store, struct reader **ret, struct error *error); /* a connection of one's own, for one thread */
void     reader_close(struct reader *reader);                  /* accepts NULL */
struct reader *store_reader(struct store *store);              /* the owner's own; made by store_open */
/* Reads between begin and end see one snapshot of rows and streams. They do not nest. Spans that reads return live in the
 * arena handed to begin. After an error the rest of the reads return it too. */
enum err reader_begin(struct reader *reader, struct arena *arena);
void     reader_end(struct reader *reader);

/* `row` has its key columns set; all columns are filled. ERR_NOT_FOUND. */
enum err reader_get(struct reader *reader, enum table_id table, void *row);

/* A query over one table: WHERE eq[0].column = ? AND … [AND column IN (…)], ORDER BY the table's key order given, LIMIT/OFFSET. */
struct query {
    enum table_id table;
    struct { const char *column; int64_t i64; struct span bytes; struct uuid uuid; } eq[4]; /* value by the column's kind */
    unsigned      eq_count;
    struct { const char *column, *op; int64_t i64; struct uuid uuid; } cmp[2]; /* op: "<", "<=", ">", ">="; I64 and UUID columns */
    unsigned      cmp_count;
    const char   *in_column;      /* I64 column, or NULL */
    int64_t       in[16];
    unsigned      in_count;
    const char   *order_column;   /* usually "id" */
    bool          descending;
    int64_t       limit;          /* < 0: none */
    int64_t       offset;
};
/* Calls each(row) for every row, in order; stops when it returns false. */
enum err reader_query(struct reader *reader, const struct query *query, bool (*each)(void *user, const void *row), void *user);
enum err reader_count(struct reader *reader, const struct query *query, int64_t *ret); /* limit and offset ignored */

/* Frames of a stream from the one that holds `after + 1` on, in order, each once, until `max_bytes` of bodies were handed out
 * (at least one frame) or the end of the snapshot; the callback returns false to stop. The span is valid during the call. */
enum err reader_frames(struct reader *reader, uint64_t stream, uint64_t after, size_t max_bytes,
                       bool (*each)(void *user, const struct frame *frame), void *user);
/* The last frame's place: head = first_seq + n - 1, 0 for an empty or unknown stream; and its base_ms, wf_before. body empty. */
enum err reader_head(struct reader *reader, uint64_t stream, uint64_t *ret_head, struct frame *ret_last);
/* Whether frames of the stream still lie in the tail. */
bool     reader_in_tail(struct reader *reader, uint64_t stream);
/* The frame that holds WF number `after + 1`: the last one with wf_before <= after (model.md 5.1). ERR_NOT_FOUND. */
enum err reader_frame_by_wf(struct reader *reader, uint64_t stream, uint64_t after, uint64_t *ret_first_seq);
/* How many segments the stream has, counted up to PURGE_MOST + 1. */
enum err reader_segments(struct reader *reader, uint64_t stream, int64_t *ret);
/* Runs that ended from from_ms to before before_ms and whose ledger is still there: their keys and completed_ms, in the order of
 * that, at most `limit`. */
enum err reader_ended(struct reader *reader, int64_t from_ms, int64_t before_ms, int64_t limit,
                      void (*each)(void *user, struct uuid workspace, struct uuid id, int64_t completed_ms), void *user);
/* The snapshot of an attempt with the highest seq <= at_most. ERR_NOT_FOUND. */
enum err reader_snapshot(struct reader *reader, struct uuid attempt, uint64_t at_most, struct snapshot_row *ret);

/* ---- read jobs, on the reader thread ---- */
struct read_job {
    struct mail mail;
    void (*run)(struct read_job *job, struct reader *reader); /* reader thread; begins and ends its own snapshots */
    void (*done)(struct read_job *job);                       /* owner's thread, from store_finish; frees the job */
};
void store_read(struct store *store, struct read_job *job);
