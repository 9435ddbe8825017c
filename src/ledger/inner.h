/* SPDX-License-Identifier: Apache-2.0 */
/* inner.h - what ledger.c and follow.c share and nobody else sees. */
#pragma once
#include "ledger/follow.h"

/* Encoded events of one format, immutable, counted (owner's thread only). */
struct chunk {
    unsigned  refs;
    uint64_t  first_seq, last_seq;
    struct buf bytes;
    uint32_t *ends; /* ends[i]: where event first_seq + i ends */
};

enum { RING_CHUNKS = 256, RECENT_READS = 4 };

struct catch_up;
struct feed {
    struct stream            *stream;
    const struct wire_format *format;
    void                     *ctx;
    struct feed              *next;            /* of the same stream */
    struct follower         **followers;
    size_t                    count, cap;
    struct chunk             *ring[RING_CHUNKS]; /* consecutive events, newest last */
    unsigned                  ring_at, ring_count;
    size_t                    ring_bytes;
    struct chunk             *recent[RECENT_READS]; /* what was read from the store last: others may want it too */
    unsigned                  recent_at;
    struct catch_up          *reads;           /* on their way */
    int64_t                   last_sent_ms, swept_ms;
    unsigned                  busy;            /* being walked: not to be freed */
};

struct stream {
    struct ledger      *ledger;
    uint64_t            number;
    unsigned            refs;
    uint64_t            head, committed, wf_total;
    uint64_t            durable;     /* committed, and what the commit in hand is about to publish */
    int64_t             last_ms;
    bool                closed;      /* a terminal record was appended */
    bool                finished;    /* and is on disk */
    bool                close_due;   /* closed without a record, in this turn */
    uint64_t            from;        /* of a fork: events up to here are those of its bases */
    struct stream_base *bases;
    unsigned            base_count;
    enum record_type    last_type;   /* of the terminal record, once closed; REC_END when it is not known */
    uint8_t             last_flags;  /* its flags, then */
    struct frame_writer writer;      /* this turn's */
    struct sealed      *sealed, *sealed_last; /* frames cut during this turn */
    bool                dirty;
    struct stream      *dirty_next;
    struct feed        *feeds;
    struct stream      *feed_prev, *feed_next; /* of streams that have feeds */
};

struct ledger {
    struct ledger_config config;
    struct u64_map       streams;
    struct stream       *dirty;
    struct stream       *with_feeds;
    struct ledger_stats  stats;
};

/* A frame on its way to disk. */
struct sealed {
    struct sealed *next;
    struct stream *stream;
    uint64_t       first_seq, last_seq, wf_before;
    uint32_t       n;    /* 0: no frame, the stream was closed without a record */
    int64_t        base_ms;
    struct buf     body; /* empty when nobody followed when it was sealed */
    bool           terminal;
};

/* follow.c: the frame is on disk. */
void feeds_publish(struct stream *stream, const struct sealed *sealed);
/* The stream is finished, without an event that says so. */
void feeds_finish(struct stream *stream);
void feeds_free(struct stream *stream);
void feeds_tick(struct stream *stream, int64_t now_ms);
