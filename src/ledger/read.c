/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - the records of a stream out of a reader's snapshot, also across the streams that it was forked from. */
#include "ledger/ledger.h"

struct walk {
    uint64_t  after, upto; /* of the part in hand */
    bool      stopped;
    enum err  err;
    bool    (*each)(void *user, const struct record *record);
    void     *user;
};

static bool walk_frame(void *user, const struct frame *frame)
{
    struct walk        *walk = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (!walk->stopped && frame_next(&reader, &record)) {
        if (record.seq <= walk->after)
            continue;
        if (record.seq > walk->upto)
            return false;
        if (record.seq != walk->after + 1)
            reader.in.bad = true;
        if (reader.in.bad)
            break;
        walk->after = record.seq;
        walk->stopped = !walk->each(walk->user, &record);
    }
    if (reader.in.bad)
        walk->err = ERR_CORRUPT;
    return !walk->err && !walk->stopped && walk->after < walk->upto;
}

/* The stream that has the event behind `after`, and up to where. */
static uint64_t part_of(const struct stream_view *view, uint64_t after, uint64_t *ret_upto)
{
    for (unsigned i = 0; i < view->base_count && after < view->from; i++) {
        const struct stream_base *base = &view->bases[i];
        if (after >= base->from && after < base->upto) {
            *ret_upto = base->upto;
            return base->number;
        }
    }
    *ret_upto = UINT64_MAX;
    return view->number;
}

enum err stream_records(struct reader *reader, const struct stream_view *view, uint64_t after, uint64_t upto,
                        bool (*each)(void *user, const struct record *record), void *user)
{
    struct walk walk = { .after = after, .each = each, .user = user };
    enum err    err = ERR_OK;
    while (!err && !walk.stopped && walk.after < upto) {
        uint64_t end, begin = walk.after, number = part_of(view, walk.after, &end);
        walk.upto = end < upto ? end : upto;
        err = reader_frames(reader, number, walk.after, SIZE_MAX, walk_frame, &walk);
        if (!err)
            err = walk.err;
        if (!err && walk.after == begin && !walk.stopped)
            err = ERR_CORRUPT; /* promised, and not there */
    }
    return err;
}
