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
enum follow_end { FOLLOW_DONE, FOLLOW_AGE, FOLLOW_DRAINING, FOLLOW_STORAGE, FOLLOW_SLOW };

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
    bool reset_on_fault; /* end with a TCP reset unless DONE: a clean end would be read as "completed" (WF) */
    void (*ctx_free)(void *ctx);
};

/* The connection, as the ledger sees it. */
struct sink_ops {
    ssize_t (*write)(void *sink, const struct iovec *iov, int count); /* bytes taken; 0: full, follower_writable follows; -1: gone */
    void    (*end)(void *sink);   /* clean end; the sink forgets the follower, which is freed */
    void    (*abort)(void *sink); /* reset */
};

/* Follows `stream` from the event behind `cursor`. The feed of (stream, format) is shared; ctx is owned by the ledger from
 * here on, also when the feed has one already. deadline_ms: wall time at which the credential ends, 0: never. The follower
 * holds the stream. Never calls the sink before returning; the first write happens in follower_start. */
struct follower *follower_new(struct stream *stream, const struct wire_format *format, void *ctx, uint64_t cursor,
                              int64_t deadline_ms);
/* May call sink->end or abort, also at once; then the follower is gone and false is returned. */
bool follower_start(struct follower *follower, const struct sink_ops *ops, void *sink);
void follower_writable(struct follower *follower); /* the sink takes bytes again */
void follower_gone(struct follower *follower);     /* the sink is gone; no call into it any more */
void follower_expire(struct follower *follower);   /* the credential was revoked: end at the next event boundary */

/* Ends every follower: a farewell where it fits. */
void ledger_end_all(struct ledger *ledger, enum follow_end why);
