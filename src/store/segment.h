/* SPDX-License-Identifier: Apache-2.0 */
/* segment.h - (inner) the bytes of a settled segment: frames packed behind each other
 * (docs/reference/storage-format.md). */
#pragma once
#include "store/store.h"

/* A body that a frame would make larger than this is not given it; a larger frame is alone in its segment. */
enum { SEGMENT_BYTES = 128 * 1024 };

/* What goes into the columns of the row, and where the next frame of the body counts from. */
struct segment {
    struct frame first;   /* first_seq, base_ms, wf_before, epoch of the first frame; body unused */
    struct frame last;    /* the frame packed or read last */
    uint64_t     events;
    struct buf  *body;
};

/* Begins an empty body in `body` (which is cut to nothing and stays the caller's). */
void segment_begin(struct segment *segment, struct buf *body);
/* False when the frame does not belong into this body any more (it is full). An empty body takes any frame. */
bool segment_fits(const struct segment *segment, const struct frame *frame);
/* The frame must follow the last one. */
void segment_add(struct segment *segment, const struct frame *frame);

/* Reads a body back, frame by frame. `row` carries the columns: stream, first_seq, n (events of all frames), base_ms,
 * wf_before, epoch and body. */
struct segment_reader {
    struct reader_bytes bytes;
    struct frame        at;       /* the frame read last; its body points into the row's body */
    uint64_t            next_seq;
    uint64_t            end_seq;  /* one behind the last event */
};
struct segment_reader segment_read(const struct frame *row, uint64_t events);
/* False at the end, or when the bytes are damaged: then segment_damaged. */
bool segment_next(struct segment_reader *reader);
bool segment_damaged(const struct segment_reader *reader);
