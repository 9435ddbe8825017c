/* SPDX-License-Identifier: Apache-2.0 */
/* record.c - encodes and decodes records; see record.h for the layout. */
#include "ledger/record.h"

static const struct record_info infos[REC_END] = {
#define X(name, number, ar, class_char) [number] = { ar, class_char },
    RECORD_TABLE(X)
#undef X
};

const struct record_info *record_info(unsigned type)
{
    return type < REC_END && infos[type].ar_type ? &infos[type] : NULL;
}

static void put_part(struct buf *out, struct span part)
{
    buf_varint(out, part.n);
    buf_span(out, part);
}

/* Deltas of one call in one frame count on by themselves; a frame remembers the last few calls. */
static bool delta_continues(struct frame_writer *w, const struct record *r)
{
    for (unsigned i = 0; i < w->call_count; i++) {
        if (w->calls[i].op != r->op || w->calls[i].kind != r->delta_kind)
            continue;
        bool next = w->calls[i].next_index == r->index;
        w->calls[i].next_index = r->index + 1;
        return next;
    }
    unsigned at = w->call_count < FRAME_CALLS ? w->call_count++ : FRAME_CALLS - 1;
    w->calls[at].op = r->op;
    w->calls[at].kind = r->delta_kind;
    w->calls[at].next_index = r->index + 1;
    return false;
}

static void put_delta(struct frame_writer *w, const struct record *r, uint8_t flags)
{
    bool first = !delta_continues(w, r);
    buf_byte(&w->body, (char)REC_MODEL_DELTA);
    buf_byte(&w->body, (char)(flags | (first ? REC_FIRST_DELTA : 0)));
    buf_varint(&w->body, (uint64_t)(r->wall_ms - w->base_ms));
    buf_varint(&w->body, r->op);
    buf_byte(&w->body, (char)r->delta_kind);
    if (first) {
        buf_varint(&w->body, r->index);
        buf_varint(&w->body, r->parent);
        buf_varint(&w->body, r->surface);
        put_part(&w->body, r->node);
    }
    put_part(&w->body, r->text);
}

static void put_plain(struct frame_writer *w, const struct record *r, uint8_t flags)
{
    buf_byte(&w->body, (char)r->type);
    buf_byte(&w->body, (char)(flags | (r->priv.p ? REC_HAS_PRIV : 0)));
    buf_varint(&w->body, (uint64_t)(r->wall_ms - w->base_ms));
    buf_varint(&w->body, r->op);
    buf_varint(&w->body, r->parent);
    put_part(&w->body, r->pub);
    if (r->priv.p)
        put_part(&w->body, r->priv);
}

void frame_put(struct frame_writer *w, const struct record *r)
{
    if (w->n == 0)
        w->base_ms = r->wall_ms;
    assert(r->wall_ms >= w->base_ms);
    uint8_t flags = r->flags & (REC_TERMINAL | REC_WF_MASK | REC_JOINED);
    if (r->type == REC_MODEL_DELTA)
        put_delta(w, r, flags);
    else
        put_plain(w, r, flags);
    w->n++;
    w->terminal = w->terminal || (flags & REC_TERMINAL);
}

struct frame_reader frame_read(uint64_t first_seq, uint32_t n, int64_t base_ms, struct span body)
{
    return (struct frame_reader){ .in = bytes_of(body), .seq = first_seq, .base_ms = base_ms, .left = n };
}

static struct span take_part(struct reader_bytes *in)
{
    return bytes_take(in, bytes_varint(in));
}

static void read_context(struct frame_reader *r, struct record *ret)
{
    ret->index = bytes_varint(&r->in);
    ret->parent = (uint32_t)bytes_varint(&r->in);
    ret->surface = (uint8_t)bytes_varint(&r->in);
    ret->node = take_part(&r->in);
    unsigned at = 0;
    while (at < r->call_count && (r->calls[at].op != ret->op || r->calls[at].kind != ret->delta_kind))
        at++;
    if (at == r->call_count)
        at = r->call_count < FRAME_CALLS ? r->call_count++ : FRAME_CALLS - 1;
    r->calls[at].op = ret->op;
    r->calls[at].kind = ret->delta_kind;
    r->calls[at].parent = ret->parent;
    r->calls[at].surface = ret->surface;
    r->calls[at].node = ret->node;
    r->calls[at].next_index = ret->index + 1;
}

static void reuse_context(struct frame_reader *r, struct record *ret)
{
    for (unsigned i = 0; i < r->call_count; i++) {
        if (r->calls[i].op != ret->op || r->calls[i].kind != ret->delta_kind)
            continue;
        ret->index = r->calls[i].next_index++;
        ret->parent = r->calls[i].parent;
        ret->surface = r->calls[i].surface;
        ret->node = r->calls[i].node;
        return;
    }
    r->in.bad = true; /* a delta without its context */
}

bool frame_next(struct frame_reader *r, struct record *ret)
{
    if (r->left == 0 || r->in.bad)
        return false;
    *ret = (struct record){ .seq = r->seq, .wf = r->wf };
    unsigned type = bytes_u8(&r->in);
    ret->type = (enum record_type)type;
    ret->flags = bytes_u8(&r->in);
    r->wf += record_wf(ret->flags);
    ret->wall_ms = r->base_ms + (int64_t)bytes_varint(&r->in);
    ret->op = (uint32_t)bytes_varint(&r->in);
    if (!record_info(type))
        r->in.bad = true;
    if (type == REC_MODEL_DELTA) {
        ret->delta_kind = bytes_u8(&r->in);
        if (ret->flags & REC_FIRST_DELTA)
            read_context(r, ret);
        else
            reuse_context(r, ret);
        ret->text = take_part(&r->in);
    } else {
        ret->parent = (uint32_t)bytes_varint(&r->in);
        ret->pub = take_part(&r->in);
        if (ret->flags & REC_HAS_PRIV)
            ret->priv = take_part(&r->in);
    }
    if (r->in.bad)
        return false;
    r->seq++;
    r->left--;
    return true;
}
