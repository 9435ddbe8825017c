/* SPDX-License-Identifier: Apache-2.0 */
/* ancestry.c - which node execution of its source a node execution of a replay lives through once more (agent-runs.md 3.6, 3.7, 7.2).
 *
 * Nothing of it is stored. Attempt k of a replay stands beside the k-th attempt of the source from the checkpoint's on; in there
 * the n-th start of a node repeats the source's n-th of what a replay does again: what began behind the checkpoint, or was at
 * work in it. Starts are counted, not steps: what starts again is a step of its own (run/replay.c compares in the same way). */
#include "api/agent_runs/routes.h"

struct origin {
    struct span node;
    int64_t     attempt_no; /* of the replay */
    uint32_t    op;
    bool        over;       /* it ended before the checkpoint */
    struct uuid id;
};

struct origins {
    struct origin *items;
    size_t         count;
};

struct gather {
    struct arena *arena;
    struct buf    items;
    struct uuid   run, attempt;
    int64_t       attempt_no; /* of the replay */
    size_t        from;       /* the attempt's first item */
    uint64_t      checkpoint; /* 0: the attempt counts from its beginning */
};

static void gather_start(struct gather *to, const struct record *record)
{
    struct jv     pub = json_read(arena_copy(to->arena, record->pub), to->arena);
    struct origin origin = { .node = jv_string(jv_get(pub, "node"), to->arena), .attempt_no = to->attempt_no, .op = record->op,
                             .id = operation_id(to->run, to->attempt, record->op) };
    buf_put(&to->items, &origin, sizeof origin);
}

static void gather_end(struct gather *to, const struct record *record)
{
    struct origin *all = (struct origin *)(void *)to->items.p;
    for (size_t i = to->from; i < to->items.len / sizeof *all; i++)
        if (all[i].op == record->op)
            all[i].over = true;
}

static bool gather_frame(void *user, const struct frame *frame)
{
    struct gather      *to = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record)) {
        if (record.type == REC_NODE_STARTED)
            gather_start(to, &record);
        else if (record.seq <= to->checkpoint &&
                 (record.type == REC_NODE_FINISHED || record.type == REC_NODE_FAILED || record.type == REC_NODE_CANCELLED))
            gather_end(to, &record);
    }
    return true;
}

/* The seq of the checkpoint in the attempt; 0: it is not in there. */
static uint64_t checkpoint_in(const struct attempt_span *attempt, struct uuid checkpoint)
{
    for (uint64_t seq = attempt->last_seq; seq > 0; seq--)
        if (uuid_eq(checkpoint_id(attempt->id, seq), checkpoint))
            return seq;
    return 0;
}

enum err origins_read(struct reader *reader, const struct run_row *run, struct arena *arena, struct origins **ret)
{
    struct run_row       source = { .workspace = run->workspace, .id = run->replayed_from };
    struct gather        gather = { .arena = arena, .run = run->replayed_from };
    struct attempt_span *attempts;
    size_t               count = 0, first = 0;
    *ret = ARENA_NEW(arena, struct origins);
    if (uuid_is_nil(run->replayed_from))
        return ERR_OK;
    enum err e = reader_get(reader, TABLE_run, &source);
    if (!e)
        e = attempts_read(reader, &source, arena, &attempts, &count);
    if (e)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    while (first < count && !(gather.checkpoint = checkpoint_in(&attempts[first], run->replayed_checkpoint)))
        first++;
    for (size_t i = first; i < count && !e; i++) {
        gather.attempt = attempts[i].id;
        gather.attempt_no = (int64_t)(i - first) + 1;
        gather.from = gather.items.len / sizeof(struct origin);
        e = reader_frames(reader, attempts[i].stream, 0, SIZE_MAX, gather_frame, &gather);
        gather.checkpoint = 0;
    }
    (*ret)->count = gather.items.len / sizeof(struct origin);
    (*ret)->items = ARENA_ARRAY(arena, struct origin, (*ret)->count ? (*ret)->count : 1);
    if ((*ret)->count)
        memcpy((*ret)->items, gather.items.p, gather.items.len);
    buf_done(&gather.items);
    return e;
}

struct uuid origin_of(const struct origins *origins, int64_t attempt_no, struct span node, unsigned nth)
{
    for (size_t i = 0; i < origins->count; i++) {
        const struct origin *origin = &origins->items[i];
        if (origin->attempt_no == attempt_no && !origin->over && span_eq(origin->node, node) && nth-- == 0)
            return origin->id;
    }
    return (struct uuid){ .b = { 0 } };
}

/* ---- of one node execution ---- */

struct counting {
    struct arena *arena;
    struct span   node;
    uint32_t      op;
    unsigned      nth;
    bool          found;
};

static bool count_frame(void *user, const struct frame *frame)
{
    struct counting    *to = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (!to->found && frame_next(&reader, &record)) {
        if (record.type != REC_NODE_STARTED)
            continue;
        to->found = record.op == to->op;
        struct jv pub = json_read(arena_copy(to->arena, record.pub), to->arena);
        to->nth += !to->found && span_eq(jv_string(jv_get(pub, "node"), to->arena), to->node);
    }
    return !to->found;
}

struct uuid origin_of_failure(struct reader *reader, const struct run_row *run, const struct failure_row *failure)
{
    struct arena         arena = { 0 };
    struct counting      counting = { .arena = &arena, .node = failure->node, .op = (uint32_t)failure->op };
    struct uuid          id = { .b = { 0 } };
    struct attempt_span *attempts;
    struct origins      *origins;
    size_t               count = 0;
    if (uuid_is_nil(run->replayed_from) || !failure->op)
        return id;
    if (!attempts_read(reader, run, &arena, &attempts, &count))
        for (size_t i = 0; i < count; i++)
            if (uuid_eq(attempts[i].id, failure->attempt))
                (void)reader_frames(reader, attempts[i].stream, 0, SIZE_MAX, count_frame, &counting);
    if (counting.found && !origins_read(reader, run, &arena, &origins))
        id = origin_of(origins, failure->attempt_no, failure->node, counting.nth);
    arena_done(&arena);
    return id;
}
