/* SPDX-License-Identifier: Apache-2.0 */
/* record.h - what an event is on disk (model.md 3, 4), and how to read a frame of them.
 *
 * record := type u8 | flags u8 | dt varint | op varint | parent varint | pub len+bytes | [priv len+bytes]
 * delta  := type u8 | flags u8 | dt varint | op varint | kind u8 | [index, parent, surface varint, node len+bytes] | text len+bytes
 *
 * dt is milliseconds since the frame's base. A delta carries its context (index, parent, node) only when it is the first of
 * its call in the frame (bit 5); the ones after it take the next index. The byte layout is in docs/reference/storage-format.md. */
#pragma once
#include "base/mem.h"

/* X(name, number on disk, AR type, class): I recorded input, E emitted by the machine or recorded intent, D delta, H host */
#define RECORD_TABLE(X)                                     \
    X(RUN_STARTED,     1,  "RUN_STARTED",        'I')       \
    X(RUN_RECOVERED,   2,  "RUN_RECOVERED",      'H')       \
    X(RUN_FINISHED,    3,  "RUN_FINISHED",       'E')       \
    X(RUN_FAILED,      4,  "RUN_FAILED",         'E')       \
    X(RUN_CANCELLED,   5,  "RUN_CANCELLED",      'H')       \
    X(NODE_STARTED,    6,  "NODE_STARTED",       'E')       \
    X(NODE_FINISHED,   7,  "NODE_FINISHED",      'E')       \
    X(NODE_FAILED,     8,  "NODE_FAILED",        'E')       \
    X(NODE_CANCELLED,  9,  "NODE_CANCELLED",     'E')       \
    X(NODE_WAITING,    10, "NODE_WAITING",       'E')       \
    X(MODEL_STARTED,   11, "MODEL_STARTED",      'E')       \
    X(MODEL_DELTA,     12, "MODEL_DELTA",        'D')       \
    X(MODEL_FINISHED,  13, "MODEL_FINISHED",     'I')       \
    X(MODEL_FAILED,    14, "MODEL_FAILED",       'I')       \
    X(TOOL_STARTED,    15, "TOOL_CALL_STARTED",  'E')       \
    X(TOOL_FINISHED,   16, "TOOL_CALL_FINISHED", 'I')       \
    X(TOOL_FAILED,     17, "TOOL_CALL_FAILED",   'I')       \
    X(WAIT_OPENED,     18, "HUMAN_PROMPT",       'E')       \
    X(WAIT_CLOSED,     19, "RUN_RESUMED",        'I')       \
    X(TIMER_FIRED,     20, "TIMER_FIRED",        'I')       \
    X(CHILD_STARTED,   21, "HANDOFF_STARTED",    'E')       \
    X(CHILD_FINISHED,  22, "HANDOFF_FINISHED",   'I')       \
    X(STATE_UPDATED,   23, "STATE_UPDATED",      'E')       \
    X(CHECKPOINT,      24, "CHECKPOINT_CREATED", 'E')       \
    X(MESSAGE,         25, "MESSAGE_RECEIVED",   'I')       \
    X(BUDGET,          26, "BUDGET_REACHED",     'H')       \
    X(DIVERGED,        27, "REPLAY_DIVERGED",    'E')       \
    X(CUSTOM,          28, "CUSTOM",             'E')       \
    X(BYTES,           29, "BYTES",              'H')

enum record_type {
#define X(name, number, ar, class_) REC_##name = (number),
    RECORD_TABLE(X)
#undef X
    REC_END
};

struct record_info {
    const char *ar_type;
    char        class_;
};
/* NULL for a number that no record has. */
const struct record_info *record_info(unsigned type);

enum {
    REC_TERMINAL    = 1 << 0,
    REC_HAS_PRIV    = 1 << 1,
    REC_HAS_BLOBS   = 1 << 2, /* reserved */
    REC_WF_SHIFT    = 3,      /* bits 3-4: events it is on the workflow surface, 0..3 */
    REC_WF_MASK     = 3 << REC_WF_SHIFT,
    REC_FIRST_DELTA = 1 << 5,
    REC_JOINED      = 1 << 6, /* of bytes: in the same append as the record before it */
};

enum { DELTA_TEXT, DELTA_REASONING, DELTA_ARGUMENTS };
enum { SURFACE_NO_CALL = 1 << 0 }; /* of a delta: it carries the node's operation and no call_id (core.emit) */

enum { RECORD_PART_MAX = 256 << 10 }; /* AR L9: a larger value in `pub` is replaced when it is recorded */

struct record {
    enum record_type type;
    uint8_t          flags;
    uint64_t         seq;
    int64_t          wall_ms;
    uint32_t         op, parent;
    struct span      pub;   /* the AR payload, a JSON object; empty for deltas; of bytes: the message */
    struct span      priv;  /* for the machine and other dialects; p NULL when there is none */
    /* deltas */
    uint8_t          delta_kind, surface;
    uint64_t         index;
    struct span      text, node;
    uint64_t         wf;    /* read: workflow events of the stream before this record (frame_reader.wf) */
};

static inline unsigned record_wf(uint8_t flags) { return (flags & REC_WF_MASK) >> REC_WF_SHIFT; }

/* ---- writing one frame ---- */
enum { FRAME_CALLS = 8 };
struct frame_writer {
    struct buf body;
    uint64_t   first_seq;
    uint32_t   n;
    int64_t    base_ms;
    uint64_t   wf_before;
    bool       terminal;
    struct { uint32_t op; uint8_t kind; uint64_t next_index; } calls[FRAME_CALLS];
    unsigned   call_count;
};
/* Appends; the first record fixes base_ms. record->wall_ms must not lie before the last one's. flags of deltas are made here. */
void frame_put(struct frame_writer *w, const struct record *record);

/* ---- reading one frame ---- */
struct frame_reader {
    struct reader_bytes in;
    uint64_t            seq; /* of the next record */
    uint64_t            wf;  /* workflow events before it; a caller that wants them sets it to the frame's wf_before */
    int64_t             base_ms;
    uint32_t            left;
    struct { uint32_t op, parent; uint8_t kind, surface; uint64_t next_index; struct span node; } calls[FRAME_CALLS];
    unsigned            call_count;
};
struct frame_reader frame_read(uint64_t first_seq, uint32_t n, int64_t base_ms, struct span body);
/* false at the end, and when the bytes are damaged (then reader->in.bad). Spans point into the body. */
bool frame_next(struct frame_reader *reader, struct record *ret);
