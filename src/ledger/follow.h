/* SPDX-License-Identifier: Apache-2.0 */
/* follow.h - hands committed events to whoever follows a stream.
 *
 * A follower owns nothing but a cursor: the last seq that its connection accepted. Everything else is read back from the
 * ledger. That is why a follower may vanish at any moment, and why one that falls behind can leave the live feed and join it
 * again without losing or repeating an event. An event is encoded once per wire format; the bytes are shared by all followers
 * of that format (a feed). Nothing is queued per follower; closing a connection never changes a stream. */
#pragma once
#include "ledger/ledger.h"
#include <sys/uio.h>

/* Why a followed connection is told to end. */
enum follow_end { FOLLOW_DONE, FOLLOW_AGE, FOLLOW_DRAINING, FOLLOW_STORAGE, FOLLOW_SLOW, FOLLOW_DELETED };

/* Where a follower is when a chunk ends. */
struct follow_place {
    uint64_t seq;        /* its cursor then */
    bool     at_head;    /* nothing behind it is on disk */
    bool     closed;     /* and nothing will follow */
    enum record_type last; /* with closed: the terminal record, REC_END when it is not known */
    int64_t  now_ms;
    uint64_t mark;       /* follower_mark */
    uint32_t generation;
};
enum { FOLLOW_TAIL = 224 };

/* What a follower of a format with `once` gets, one time. */
struct follow_answer {
    enum follow_end end;    /* DONE without bytes: the stream is closed */
    struct span     bytes;  /* p NULL: nothing */
    uint64_t        seq;    /* the last event in it */
    bool            at_head, closed;
};

/* How one dialect spells events. Pure: `ctx` is constant, `event` is called on the reader thread too. Bytes must be whole
 * HTTP chunks when the connection is chunked, so that any event boundary is a place to start. */
struct wire_format {
    const char *name;
    void (*event)(const void *ctx, const struct record *record, struct buf *out);
    /* Sent once, before anything else. May be NULL. */
    void (*greeting)(const void *ctx, struct buf *out);
    /* A quiet moment. May be NULL. */
    void (*heartbeat)(const void *ctx, uint64_t latest_seq, int64_t now_ms, struct buf *out);
    /* After the terminal event; `end` other than DONE: an error frame, or nothing. */
    void (*farewell)(const void *ctx, enum follow_end end, enum record_type last, uint64_t latest_seq, int64_t now_ms,
                     struct buf *out);
    /* Formats whose unit is a chunk and not an event (Durable Streams): `event` gathers, finish makes it what is sent. A chunk
     * is then only ever sent from its first event on, and a follower behind the end is not given the last event again. */
    void (*finish)(const void *ctx, struct buf *bytes);
    /* With finish: each chunk is followed by a tail of the follower's own, and is sent as one HTTP chunk with it; so is a quiet
     * moment, and the beginning when there is nothing to send. Returns its length. */
    size_t (*tail)(const void *ctx, const struct follow_place *place, char out[FOLLOW_TAIL]);
    /* `event` keeps in ctx what it was given: each follower has a ctx of its own, starts at cursor 0, and is served from the store
     * alone, so that it is given every record once and in order, on the reader thread. */
    bool     remembers;
    bool     once;         /* with finish: the first chunk is handed to sink->answer, and the follower is gone */
    uint32_t heartbeat_ms; /* 0: the ledger's */
    bool reset_on_fault; /* end with a TCP reset unless DONE, and unless the record that closed the stream shows something on WF (else
                            the run goes on in another attempt): a clean end would be read as "completed" */
    bool ageless;        /* never ended because it is old: its clients take an early end for the end of the run (WF) */
    void (*ctx_free)(void *ctx);
};

/* The connection, as the ledger sees it. */
struct sink_ops {
    ssize_t (*write)(void *sink, const struct iovec *iov, int count); /* bytes taken; 0: full, follower_writable follows; -1: gone */
    void    (*end)(void *sink);   /* clean end; the sink forgets the follower, which is freed */
    void    (*abort)(void *sink); /* reset */
    void    (*answer)(void *sink, const struct follow_answer *answer); /* formats with `once`; the follower is freed behind it */
};

/* Follows `stream` from the event behind `cursor`. The feed of (stream, format) is shared; ctx is owned by the ledger from
 * here on, also when the feed has one already. deadline_ms: wall time at which the credential ends, 0: never. The follower
 * holds the stream. Never calls the sink before returning; the first write happens in follower_start. */
struct follower *follower_new(struct stream *stream, const struct wire_format *format, void *ctx, uint64_t cursor,
                              int64_t deadline_ms);
/* For formats with a tail, before the start: two numbers of this follower's own that its tails are made of. */
void follower_mark(struct follower *follower, uint64_t mark, uint32_t generation);
/* May call sink->end or abort, also at once; then the follower is gone and false is returned. */
bool follower_start(struct follower *follower, const struct sink_ops *ops, void *sink);
void follower_writable(struct follower *follower); /* the sink takes bytes again */
void follower_gone(struct follower *follower);     /* the sink is gone; no call into it any more */
void follower_expire(struct follower *follower);   /* the credential was revoked: end at the next event boundary */

/* Ends every follower: a farewell where it fits. */
void ledger_end_all(struct ledger *ledger, enum follow_end why);
/* The same for one stream; the caller holds it. */
void stream_end_followers(struct stream *stream, enum follow_end why);
