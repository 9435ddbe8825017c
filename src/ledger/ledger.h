/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h - streams of events: append, and publish what is on disk.
 *
 * A stream is a dense sequence of records from 1 on. The owner (the engine's thread) appends during a turn; at the end of the
 * turn ledger_seal packs what each stream got into frames of the turn's batch; when the batch is committed the frames are
 * published to the stream's followers. Commit before publish: nothing that a crash could take back is ever shown.
 *
 * All calls belong to the owner's thread. */
#pragma once
#include "ledger/record.h"
#include "store/store.h"

struct ledger;
struct stream;
struct wire_format;
struct follower;

struct ledger_config {
    struct store *store;
    struct env   *env;
    uint32_t      heartbeat_ms;     /* a quiet feed says so after this long [5000] */
    uint32_t      slow_reader_ms;   /* a follower without progress is dropped after this long [30000] */
    uint32_t      max_age_ms;       /* a live connection ends at a frame boundary after this long +-10 % [1 h]; 0: never */
    uint32_t      ring_bytes;       /* encoded bytes kept per feed for followers that are nearly there [32 KiB] */
    uint32_t      frame_bytes;      /* a frame row is cut above this [32 KiB] */
};
void ledger_defaults(struct ledger_config *config);
struct ledger *ledger_new(const struct ledger_config *config);
void           ledger_free(struct ledger *ledger); /* all streams must be closed */

/* ---- streams ---- */
struct stream_place {
    uint64_t head;     /* last seq on disk */
    int64_t  last_ms;  /* its time */
    uint64_t wf_total; /* WF events up to it */
    bool     closed;   /* its last record is terminal */
};
/* The one live object of a stream; opening it again returns the same one with one more reference (place is then ignored). */
struct stream *stream_open(struct ledger *ledger, uint64_t number, const struct stream_place *place);
bool     stream_is_open(const struct ledger *ledger, uint64_t number); /* somebody has it in hand */
void     stream_unref(struct stream *stream); /* accepts NULL */
uint64_t stream_number(const struct stream *stream);
uint64_t stream_head(const struct stream *stream);      /* last seq appended */
uint64_t stream_committed(const struct stream *stream); /* last seq on disk and published */
uint64_t stream_wf_total(const struct stream *stream);
bool     stream_closed(const struct stream *stream);    /* a terminal record was appended */
bool     stream_finished(const struct stream *stream);  /* and it is on disk */

/* Assigns seq and wall_ms (never below the last one's), copies, returns the seq. record->flags: REC_TERMINAL and the WF count
 * as wanted. After a terminal record nothing may follow. */
uint64_t stream_append(struct stream *stream, struct record *record);
/* Ends the stream without a record: nothing may follow. Followers are told once it is on disk that the caller says so (a row
 * in the same batch); stream_open wants it in its place. */
void     stream_close(struct stream *stream);
/* Time that the next record would get. */
int64_t  stream_now_ms(struct stream *stream);

/* A fork: events from+1 … upto are those of another stream, under the same numbers. */
struct stream_base {
    uint64_t number, from, upto;
};
/* Where the events of a stream lie: behind `from` in the stream itself, before that in its bases, which stay
 * as they are while the stream is open: any thread for which it is held may read them. */
struct stream_view {
    uint64_t                  number, from;
    const struct stream_base *bases;
    unsigned                  base_count;
};
/* Before anybody follows; copies. Opening it again: no effect. */
void               stream_set_bases(struct stream *stream, uint64_t from, const struct stream_base *bases, unsigned count);
struct stream_view stream_view(const struct stream *stream);

/* Turns what was appended since the last call into frames of the batch, to be published when it is committed. */
void ledger_seal(struct ledger *ledger, struct batch *batch);
bool ledger_dirty(const struct ledger *ledger);
/* Heartbeats, slow readers, ages; call it about every 100 ms. */
void ledger_tick(struct ledger *ledger);

struct ledger_stats {
    uint64_t streams, feeds, followers, blocked, catching_up;
    uint64_t appended, published, deliveries, catch_up_reads, slow_dropped;
};
void ledger_stats(const struct ledger *ledger, struct ledger_stats *ret);
/* Seqs of a place, from the store: what stream_open wants for a stream that is not live. Within reader_begin/end. */
enum err stream_place_read(struct reader *reader, uint64_t number, struct stream_place *ret);
/* The records behind `after` up to `upto`, in order, until each() returns false; spans are valid during the call. Within
 * reader_begin/end. ERR_CORRUPT when they are not there. */
enum err stream_records(struct reader *reader, const struct stream_view *view, uint64_t after, uint64_t upto,
                        bool (*each)(void *user, const struct record *record), void *user);
