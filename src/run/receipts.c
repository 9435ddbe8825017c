/* SPDX-License-Identifier: Apache-2.0 */
/* receipts.c - what is known of the tool calls of a run, by key, over all its attempts (model.md 7.2, "tool key").
 *
 * The key of a call is derived from the run, from where the call stands in its plan, and from what is sent. A node that starts
 * again because it, or its attempt, failed asks with the same key as before; a node that comes by again in a loop, after it
 * has finished, does not. So the number of an execution is left out of the path and the number of finished ones is put in.
 * All of this is a fold of the ledger: it lies in snapshots, and a later attempt that comes from the store reads the earlier
 * attempts. */
#include "run/inner.h"
#include <stdlib.h>

static struct tally *tally_of(struct run *run, struct span node, bool make)
{
    struct receipts *r = &run->receipts;
    for (uint32_t i = 0; i < r->tally_count; i++)
        if (span_eq(r->tallies[i].node, node))
            return &r->tallies[i];
    if (!make)
        return NULL;
    if (r->tally_count == r->tally_cap) {
        r->tally_cap = r->tally_cap ? r->tally_cap * 2 : 4;
        r->tallies = mem_grow(r->tallies, r->tally_cap * sizeof *r->tallies);
    }
    struct tally *tally = &r->tallies[r->tally_count++];
    *tally = (struct tally){ .node = arena_copy(&r->arena, node) };
    return tally;
}

void receipt_node_finished(struct run *run, struct span node)
{
    struct tally *tally = tally_of(run, node, false);
    if (tally)
        tally->finished++;
}

/* The path without the numbers of executions; they grow with each start. */
static void hash_path(struct buf *text, const struct op_path *path)
{
    for (unsigned i = 0; i < path->n; i++) {
        uint32_t part = path->v[i];
        if (part >> 28 == OP_NODE) {
            bool apart = !(part & 0xff) && i + 1 < path->n && path->v[i + 1] >> 28 == OP_ITEM; /* a number above 255 */
            part &= ~(uint32_t)0xff;
            i += apart;
        }
        buf_printf(text, "%u/", part);
    }
}

struct uuid tool_key(struct run *run, const struct op_path *path, struct span node, struct span tool, struct span arguments)
{
    struct buf    text = { 0 };
    struct sha256 hash = sha256_of(arguments);
    hash_path(&text, path);
    buf_printf(&text, " %u ", tally_of(run, node, true)->finished);
    buf_span(&text, tool);
    buf_byte(&text, ' ');
    buf_put(&text, hash.b, sizeof hash.b);
    hash = sha256_of(buf_view(&text));
    buf_done(&text);
    uint64_t number;
    struct uuid base = run->row.id;
    memcpy(&number, hash.b, sizeof number);
    for (size_t i = 0; i < sizeof base.b; i++) /* 24 bytes of the hash count */
        base.b[i] ^= hash.b[sizeof number + i];
    return uuid_derive(base, UUID_TOOL_KEY, number);
}

struct receipt *receipt_find(struct run *run, struct uuid key)
{
    struct receipts *r = &run->receipts;
    struct receipt  *found = NULL;
    for (uint32_t i = 0; i < r->count; i++) {
        struct receipt *item = &r->items[i];
        if (!uuid_eq(item->key, key) || (item->state == RECEIPT_FAILED && !item->sent))
            continue;
        if (item->state == RECEIPT_OK)
            return item;
        found = item;
    }
    return found;
}

static uint64_t name_hash(struct span name)
{
    return hash64(name.p, name.n) & 0xffffffffffff; /* is kept as a JSON number */
}

struct receipt *receipt_named(const struct run *run, struct span name)
{
    uint64_t hash = name_hash(name);
    for (uint32_t i = run->receipts.count; i-- > 0;)
        if (run->receipts.items[i].name == hash)
            return &run->receipts.items[i];
    return NULL;
}

bool receipt_name_used(const struct run *run, struct span name)
{
    return receipt_named(run, name) != NULL;
}

static struct receipt *receipt_new(struct run *run)
{
    struct receipts *r = &run->receipts;
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 8;
        r->items = mem_grow(r->items, r->cap * sizeof *r->items);
    }
    r->items[r->count] = (struct receipt){ .state = RECEIPT_OPEN };
    return &r->items[r->count++];
}

struct receipt *receipt_add(struct run *run, struct uuid key, uint32_t op, struct span name)
{
    struct receipt *item = receipt_new(run);
    item->key = key;
    item->attempt_no = (uint32_t)run->row.attempt_no;
    item->op = op;
    item->name = name_hash(name);
    return item;
}

static struct receipt *find_op(struct run *run, uint32_t attempt_no, uint32_t op)
{
    for (uint32_t i = run->receipts.count; i-- > 0;)
        if (run->receipts.items[i].attempt_no == attempt_no && run->receipts.items[i].op == op)
            return &run->receipts.items[i];
    return NULL;
}

struct receipt *receipt_of_op(struct run *run, uint32_t op)
{
    return find_op(run, (uint32_t)run->row.attempt_no, op);
}

void receipts_restart(struct run *run)
{
    run->receipts.tally_count = 0;
}

void receipts_free(struct run *run)
{
    free(run->receipts.items);
    free(run->receipts.tallies);
    arena_done(&run->receipts.arena);
    run->receipts = (struct receipts){ .count = 0 };
}

/* ---- from the ledger ---- */

static uint64_t attempt_stream(struct reader *reader, const struct run_row *row, uint32_t no)
{
    struct attempt_row old = { .run = row->id, .no = no };
    if (no == (uint32_t)row->attempt_no)
        return (uint64_t)row->stream;
    return reader_get(reader, TABLE_attempt, &old) ? 0 : (uint64_t)old.stream;
}

struct wanted {
    uint64_t     seq;
    struct arena *arena;
    struct span  value;
};

static bool find_value(void *user, const struct frame *frame)
{
    struct wanted      *wanted = user;
    struct frame_reader frames = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&frames, &record))
        if (record.seq == wanted->seq) {
            struct span priv = arena_copy(wanted->arena, record.priv);
            wanted->value = jv_raw(jv_get(json_read(priv, wanted->arena), "v"));
            return false;
        }
    return !frames.in.bad;
}

struct span receipt_value(struct run *run, const struct receipt *receipt)
{
    if (receipt->value.p)
        return receipt->value;
    struct engine *engine = run->engine;
    struct wanted  wanted = { .seq = receipt->seq, .arena = &engine->turn };
    if (engine_read_begin(engine))
        return SPAN_NONE;
    uint64_t stream = attempt_stream(engine_reader(engine), &run->row, receipt->attempt_no);
    if (stream)
        (void)reader_frames(engine_reader(engine), stream, receipt->seq - 1, SIZE_MAX, find_value, &wanted);
    engine_read_end(engine);
    return wanted.value;
}

struct scan {
    struct run  *run;
    struct arena arena;
    uint32_t     attempt_no;
};

static void scan_started(struct scan *s, const struct record *record)
{
    struct jv   priv = json_read(record->priv, &s->arena), pub = json_read(record->pub, &s->arena);
    struct uuid key;
    if (!uuid_parse(jv_string(jv_get(priv, "key"), &s->arena), &key))
        return;
    struct receipt *item = receipt_new(s->run);
    item->key = key;
    item->attempt_no = s->attempt_no;
    item->op = record->op;
    item->name = name_hash(jv_string(jv_get(pub, "tool_call_id"), &s->arena));
    tally_of(s->run, jv_string(jv_get(pub, "node"), &s->arena), true);
}

static void scan_record(struct scan *s, const struct record *record)
{
    struct receipt *item;
    struct jv       pub;
    switch (record->type) {
    case REC_RUN_STARTED:
        pub = json_read(record->pub, &s->arena);
        if (jv_is(jv_get(pub, "from_checkpoint_id"), JSON_NONE))
            receipts_restart(s->run);
        break;
    case REC_TOOL_STARTED:
        scan_started(s, record);
        break;
    case REC_TOOL_FINISHED:
    case REC_TOOL_FAILED:
        item = find_op(s->run, s->attempt_no, record->op);
        if (item) {
            item->state = record->type == REC_TOOL_FINISHED ? RECEIPT_OK : RECEIPT_FAILED;
            item->sent = !jv_bool(jv_get(json_read(record->priv, &s->arena), "unsent"), false);
            item->seq = record->seq;
        }
        break;
    case REC_NODE_FINISHED:
        receipt_node_finished(s->run, jv_string(jv_get(json_read(record->pub, &s->arena), "node"), &s->arena));
        break;
    default:
        break;
    }
}

static bool scan_frame(void *user, const struct frame *frame)
{
    struct scan        *s = user;
    struct frame_reader frames = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&frames, &record))
        scan_record(s, &record);
    arena_reset(&s->arena);
    return !frames.in.bad;
}

enum err receipts_scan(struct run *run, struct reader *reader)
{
    struct scan s = { .run = run };
    enum err    e = ERR_OK;
    receipts_free(run);
    for (s.attempt_no = 1; !e && s.attempt_no < (uint32_t)run->row.attempt_no; s.attempt_no++) {
        uint64_t stream = attempt_stream(reader, &run->row, s.attempt_no);
        if (stream)
            e = reader_frames(reader, stream, 0, SIZE_MAX, scan_frame, &s);
    }
    arena_done(&s.arena);
    return e;
}

/* ---- in snapshots ---- */

void receipts_save(const struct run *run, struct jw *w)
{
    const struct receipts *r = &run->receipts;
    jw_key(w, "receipts"); /* key, state, sent, attempt, operation, seq, name */
    jw_arr(w);
    for (uint32_t i = 0; i < r->count; i++) {
        const struct receipt *item = &r->items[i];
        jw_arr(w);
        jw_uuid(w, &item->key);
        jw_u64(w, item->state);
        jw_u64(w, item->sent);
        jw_u64(w, item->attempt_no);
        jw_u64(w, item->op);
        jw_u64(w, item->seq);
        jw_u64(w, item->name);
        jw_arr_end(w);
    }
    jw_arr_end(w);
    jw_key(w, "tallies");
    jw_arr(w);
    for (uint32_t i = 0; i < r->tally_count; i++) {
        jw_arr(w);
        jw_str(w, r->tallies[i].node);
        jw_u64(w, r->tallies[i].finished);
        jw_arr_end(w);
    }
    jw_arr_end(w);
}

static uint64_t number_at(struct jv list, size_t index)
{
    int64_t v = 0;
    jv_i64(jv_at(list, index), &v);
    return (uint64_t)v;
}

void receipts_load(struct run *run, struct jv body)
{
    struct arena *arena = &run->receipts.arena;
    for (struct jv_iter it = jv_iter(jv_get(body, "receipts")); jv_step(&it);) {
        struct receipt *item = receipt_new(run);
        uuid_parse(jv_string(jv_at(it.value, 0), arena), &item->key);
        item->state = (enum receipt_state)number_at(it.value, 1);
        item->sent = number_at(it.value, 2);
        item->attempt_no = (uint32_t)number_at(it.value, 3);
        item->op = (uint32_t)number_at(it.value, 4);
        item->seq = number_at(it.value, 5);
        item->name = number_at(it.value, 6);
    }
    for (struct jv_iter it = jv_iter(jv_get(body, "tallies")); jv_step(&it);)
        tally_of(run, jv_string(jv_at(it.value, 0), arena), true)->finished = (uint32_t)number_at(it.value, 1);
}
