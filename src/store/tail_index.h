/* SPDX-License-Identifier: Apache-2.0 */
/* tail_index.h - (inner) where each stream's frames lie in the table `tail`: an index in RAM, because one on disk would
 * dirty a page per stream and commit (hotpath.md 1).
 *
 * Who does what. The storage thread adds entries, marks them settled and takes them out; readers of any thread look
 * entries up. `lock` guards the map of streams, their entries and the list of guards. The rest belongs to the storage
 * thread.
 *
 * Why a reader's snapshot and this index always agree, although the index runs ahead of every snapshot:
 *
 *   1. Positions are given out in ascending order, rows of the tail are only ever deleted as a prefix (`pos <= x`), and
 *      transactions are committed in order. So the rows that a snapshot S holds are exactly the positions
 *      min(S)..max(S), the two numbers that a reader reads first. Entries outside are ignored: above max(S) lie frames
 *      committed after S (or never), below min(S) frames whose rows S has seen deleted.
 *   2. No row of S lacks its entry. Entries are added before the commit that makes their rows visible, so every row that
 *      S can see was added before S was pinned. Entries are taken out only up to `deleted_through`, a position that is
 *      moved after the commit that deleted those rows, and only as far as each active guard allows: a guard remembers
 *      the `deleted_through` that it saw, under the lock, before its snapshot was pinned. The deletion up to there was
 *      committed by then, hence S contains it, hence all rows of S lie above it, hence none of their entries is taken
 *      out before the guard leaves.
 *   3. What a stream lacks in min(S)..max(S) is in its segments in S: a frame's row is deleted only by a commit after
 *      the one that inserted its segment. A frame that is in both places has the same bytes in both.
 *
 * Readers are few and leave soon; what a long one costs is some RAM for entries, never a wrong answer. */
#pragma once
#include "store/store.h"
#include <pthread.h>

struct tail_entry {
    uint64_t pos, first_seq, wf_before, epoch;
    int64_t  base_ms;
    uint32_t n, bytes;
};

enum tail_due { TAIL_NOT_DUE, TAIL_DUE_FULL, TAIL_DUE_CLOSED };

struct tail_stream {
    uint64_t           number;
    struct tail_entry *entries;            /* entries[start..end) are there, oldest first; guarded by the lock */
    uint32_t           start, end, cap;
    /* From here on the storage thread's own. */
    uint32_t           settled;            /* entries[start..settled) are in segments */
    uint32_t           picked;             /* the transaction under way settles entries[settled..picked) */
    bool               is_picked;
    bool               bound_known;        /* false for what was found at start: a segment may already hold some of it */
    bool               bodies_kept;        /* `bodies` holds the bodies of entries[settled..end), in order */
    bool               closed;
    enum tail_due      due;
    uint64_t           unsettled_events, unsettled_bytes;
    struct buf         bodies;
    struct tail_stream *next_due;
};

/* One per position that is not yet taken out: whose it is. */
struct tail_place {
    struct tail_stream *stream;
    uint32_t            since_ms;     /* since the store was opened */
    uint32_t            bytes : 31, settled : 1;
};

/* A reader's place in the list of those who hold entries back. */
struct tail_guard {
    struct tail_guard *next;
    uint64_t           deleted_through;
    bool               active;
};

struct tail_due_list {
    struct tail_stream *first, **last;
};

struct tail_limits {
    uint32_t events, bytes;       /* what makes a stream due */
    size_t   body_ram;            /* bodies kept in RAM, all streams together */
};

struct tail_index {
    pthread_mutex_t      lock;
    struct u64_map       streams;
    struct tail_guard   *guards;
    struct tail_place   *places;        /* ring: position p is at places[p & (cap - 1)] */
    uint64_t             cap;
    uint64_t             oldest;        /* positions below are taken out */
    uint64_t             next_pos;
    uint64_t             floor;         /* every position <= floor is settled, on disk */
    uint64_t             deleted_through; /* every position <= this has no row any more, on disk; written under the lock */
    uint64_t             bytes;         /* of the rows that are in the table, with some overhead per row */
    uint64_t             ram;           /* bytes in all `bodies` */
    struct tail_limits   limits;
    struct tail_due_list full, closed;
};

enum { TAIL_ROW_COST = 40 }; /* what a row takes beside its body, about */

void tail_index_init(struct tail_index *index, const struct tail_limits *limits);
void tail_index_done(struct tail_index *index);

/* ---- the storage thread ---- */
/* At start, in order of position: a row that was found. The first one says where positions begin. False when the row
 * cannot stand there: a gap in the positions or in the stream. */
bool tail_index_found(struct tail_index *index, const struct tail_entry *entry, uint64_t stream);
/* A transaction's frames, which got the positions from next_pos on. Before the commit. */
struct tail_new {
    struct frame frame;
    bool         closed;
};
void tail_index_add(struct tail_index *index, const struct tail_new *frames, size_t count, uint32_t now_ms);
/* The bodies cannot be kept, or are no longer what is wanted: they are read from the tail when their time comes. */
void tail_index_drop_bodies(struct tail_index *index, struct tail_stream *stream);
/* entries[settled..picked) were packed, their bodies (`bytes`) are not needed in RAM any more. */
void tail_index_bodies_packed(struct tail_index *index, struct tail_stream *stream, size_t bytes);
/* The next stream that is due (closed ones first), off its list; NULL when none is. */
struct tail_stream *tail_index_take_due(struct tail_index *index);
/* Back onto its list: the transaction that was to settle it did not happen. */
void tail_index_make_due(struct tail_index *index, struct tail_stream *stream);
struct tail_place *tail_index_place(const struct tail_index *index, uint64_t pos);
/* entries[settled..picked) are in segments, on disk. Moves the floor. */
void tail_index_settled(struct tail_index *index, struct tail_stream *stream);
/* The rows up to `through` are deleted, on disk. Takes out what no guard holds. */
void tail_index_deleted(struct tail_index *index, uint64_t through);

/* ---- readers ---- */
void tail_guard_enter(struct tail_index *index, struct tail_guard *guard);
void tail_guard_leave(struct tail_index *index, struct tail_guard *guard);

/* The positions that a snapshot holds; min > max when it holds none. */
struct tail_view {
    uint64_t min, max;
};
enum tail_where { TAIL_NONE, TAIL_BEFORE, TAIL_HERE, TAIL_BEYOND };
/* Copies up to `most` entries of the stream from the one that holds `seq` on; *ret_count is set for TAIL_HERE.
 * TAIL_NONE: the view has nothing of this stream. TAIL_BEFORE, TAIL_BEYOND: seq lies before or behind what it has. */
enum tail_where tail_index_copy(struct tail_index *index, struct tail_view view, uint64_t stream, uint64_t seq,
                                struct tail_entry *out, size_t most, size_t *ret_count);
/* The stream's last entry in the view. */
bool tail_index_last(struct tail_index *index, struct tail_view view, uint64_t stream, struct tail_entry *ret);
/* The last entry with wf_before <= after: TAIL_HERE; TAIL_BEFORE: the first entry already has more. */
enum tail_where tail_index_by_wf(struct tail_index *index, struct tail_view view, uint64_t stream, uint64_t after,
                                 struct tail_entry *ret);
