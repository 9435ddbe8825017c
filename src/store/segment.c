/* SPDX-License-Identifier: Apache-2.0 */
/* segment.c - packs frames into the body of a segment row, and reads them back.
 *
 * One frame is: n, base_ms, wf_before, epoch, length (varints; all but n and length are differences to the frame
 * before, the first one's to the row's own columns, hence zero), then the frame's bytes as they came. The stream and
 * the seq are not repeated: seqs are dense. */
#include "store/segment.h"

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

void segment_begin(struct segment *segment, struct buf *body)
{
    body->len = 0;
    *segment = (struct segment){ .body = body };
}

bool segment_fits(const struct segment *segment, const struct frame *frame)
{
    return segment->events == 0 || segment->body->len + frame->body.n <= SEGMENT_BYTES;
}

void segment_add(struct segment *segment, const struct frame *frame)
{
    if (segment->events == 0)
        segment->first = segment->last = *frame;
    else
        assert(frame->first_seq == segment->last.first_seq + segment->last.n);
    struct buf *body = segment->body;
    buf_varint(body, frame->n);
    /* Unsigned subtraction: the clock's and the epoch's extremes wrap around and come back when they are added. */
    buf_varint(body, zigzag((int64_t)((uint64_t)frame->base_ms - (uint64_t)segment->last.base_ms)));
    buf_varint(body, frame->wf_before - segment->last.wf_before);
    buf_varint(body, zigzag((int64_t)(frame->epoch - segment->last.epoch)));
    buf_varint(body, frame->body.n);
    buf_span(body, frame->body);
    segment->events += frame->n;
    segment->last = *frame;
}

struct segment_reader segment_read(const struct frame *row, uint64_t events)
{
    struct segment_reader reader = {
        .bytes = bytes_of(row->body),
        .at = *row,
        .next_seq = row->first_seq,
        .end_seq = row->first_seq + events,
    };
    return reader;
}

bool segment_next(struct segment_reader *reader)
{
    struct reader_bytes *bytes = &reader->bytes;
    if (bytes->bad || bytes->p == bytes->end)
        return false;
    uint64_t n = bytes_varint(bytes);
    reader->at.base_ms = (int64_t)((uint64_t)reader->at.base_ms + (uint64_t)unzigzag(bytes_varint(bytes)));
    reader->at.wf_before += bytes_varint(bytes);
    reader->at.epoch += (uint64_t)unzigzag(bytes_varint(bytes));
    uint64_t length = bytes_varint(bytes);
    if (length > (uint64_t)(bytes->end - bytes->p) || n == 0 || n > UINT32_MAX ||
        n > reader->end_seq - reader->next_seq)
        bytes->bad = true;
    if (bytes->bad)
        return false;
    reader->at.n = (uint32_t)n;
    reader->at.first_seq = reader->next_seq;
    reader->at.body = bytes_take(bytes, (size_t)length);
    reader->next_seq += n;
    return true;
}

bool segment_damaged(const struct segment_reader *reader)
{
    return reader->bytes.bad || (reader->bytes.p == reader->bytes.end && reader->next_seq != reader->end_seq);
}
