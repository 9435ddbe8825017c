/* SPDX-License-Identifier: Apache-2.0 */
/* free.h - free streams: streams of bytes with a name, that clients make, append to and delete (streams.md 15).
 *
 * A free stream is a stream of the ledger like any other, plus a row: name, media type, what was asked for when it was made,
 * closing, lifetime, the last Stream-Seq, where it was forked from, and how many forks it has. Its producers are rows beside
 * it. The owner's thread decides by what is in RAM; each change is put into the turn's batch at once, together with the records
 * that it belongs to, so one append is one commit over all of them.
 *
 * A stream comes into RAM when it is asked for and stays while it is used, while something of it is on its way to disk, and as
 * long as there is room: what is in RAM is never older than what was promised.
 *
 * All calls belong to the owner's thread. */
#pragma once
#include "ledger/ledger.h"

struct free_streams;
struct free_host {
    void          *user;
    uint64_t     (*number)(void *user); /* a stream number that was never used */
    struct batch *(*batch)(void *user); /* the turn's */
};

struct producer {
    struct producer *next;
    uint64_t         epoch, last_seq;
    size_t           n;
    char             id[];
};

enum { FREE_PRODUCER_BUCKETS = 64, FREE_FORK_LEVELS = 64 };
struct free_stream {
    struct free_streams *all;
    struct stream_row    row;       /* read only for callers; spans in `texts` */
    struct stream       *stream;
    struct free_stream  *parent;    /* what it was forked from; held */
    unsigned             level;     /* 0: no fork */
    /* inner */
    struct arena         texts;
    struct buf           order, closer;
    struct uuid          key;
    unsigned             refs, inflight, live;
    bool                 dead;      /* deleted, nothing of it is left: only its tombstone in RAM until that is on disk */
    uint64_t             access_ms; /* monotonic */
    struct free_stream  *newer, *older;
    struct producer     *producers[FREE_PRODUCER_BUCKETS];
    unsigned             producer_count;
};

struct free_streams *free_streams_new(struct ledger *ledger, struct store *store, struct env *env, const struct free_host *host);
void                 free_streams_free(struct free_streams *all); /* after store_close; accepts NULL */
size_t               free_streams_count(const struct free_streams *all); /* in RAM */

/* ---- finding ---- */
enum free_found { FREE_ABSENT, FREE_LIVE, FREE_DELETED, FREE_BROKEN }; /* DELETED: its name is kept for its forks; BROKEN: no storage */
/* Whose time is over is deleted here. *ret for LIVE and DELETED: valid until the end of the callback, or longer with free_hold. */
enum free_found free_find(struct free_streams *all, struct uuid workspace, struct span name, struct free_stream **ret);
void free_hold(struct free_stream *fs);
void free_drop(struct free_stream *fs);
/* Something of it is on its way to disk: an answer about it has to wait for the turn's commit. */
bool free_pending(const struct free_stream *fs);
uint64_t free_tail(const struct free_stream *fs); /* last seq, its own or inherited; appended, perhaps not yet on disk */

/* ---- access: what keeps a stream with a TTL alive ---- */
void free_touch(struct free_stream *fs);
void free_live_begin(struct free_stream *fs); /* a live connection; holds it */
void free_live_end(struct free_stream *fs);

/* ---- making ---- */
struct free_spec {
    struct uuid         workspace;
    struct span         name, media;
    int64_t             ttl_s;       /* -1: none was asked for */
    int64_t             expires_ms;  /* 0: none */
    struct free_stream *source;      /* of a fork, LIVE; or NULL */
    uint64_t            fork_seq;    /* at most its tail */
    struct span         fork_name;
    uint64_t            fork_sub;
};
/* The name must be ABSENT, and the source less than FREE_FORK_LEVELS deep. */
struct free_stream *free_create(struct free_streams *all, const struct free_spec *spec);

/* ---- changing: the stream must be LIVE ---- */
/* One message. `joined`: of the same append as the one before. `closing`: the last one, and the stream ends with it. */
void free_append(struct free_stream *fs, struct span message, bool joined, bool closing);
/* Marks it closed; `closing` was given to the last append, or there is none (empty): then the stream ends without a record.
 * id: the producer that closed it, or empty. */
void free_close(struct free_stream *fs, bool empty, struct span id, uint64_t epoch, uint64_t seq);
void free_set_order(struct free_stream *fs, struct span order); /* Stream-Seq */

enum producer_verdict { PRODUCER_NEXT, PRODUCER_DUPLICATE, PRODUCER_FENCED, PRODUCER_BAD_START, PRODUCER_GAP };
struct producer_state {
    bool     known;
    uint64_t epoch, last_seq;
};
/* What is known of a producer; ERR_STORAGE. Changes nothing. */
enum err free_producer(struct free_stream *fs, struct span id, struct producer_state *ret);
enum producer_verdict producer_judge(const struct producer_state *state, uint64_t epoch, uint64_t seq);
void free_producer_put(struct free_stream *fs, struct span id, uint64_t epoch, uint64_t seq);

/* Deletes it, or marks it deleted while it has forks; releases what it was forked from. Followers end after the commit. */
void free_remove(struct free_stream *fs);

/* ---- time passing ---- */
/* About once a second: deletes what has expired, and a bounded part of what deleted streams left behind. */
void free_sweep(struct free_streams *all);
