/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - a run is lived through once more from one of its checkpoints (agent-runs.md 7.2, model.md 7.2).
 *
 * The new run begins with the machine's state at the checkpoint; what was in flight there starts again. What its machine does
 * is compared with what the source's did, node by node: a difference is an event, and in a strict replay the end. In a strict
 * replay nothing leaves the process: every call, timer, child and question is answered from the source's recorded inputs, in
 * their order, and the chunks of model calls are copied. What is in RAM here is read from the two ledgers and nothing else, so
 * that a replay goes on after a crash like any other run. */
#include "run/inner.h"
#include <stdlib.h>

enum { FEED_MAX = 512, SHOWN_MAX = 4096 };

/* What a node did, without ids and times. */
struct deed {
    struct deed     *next;
    enum record_type type;
    struct sha256    digest;
    struct span      plain;
};

struct trace {
    struct trace *next;
    struct span   node;
    struct deed  *first, **tail, *at; /* at: the next one expected */
    bool          running;            /* while the source is read up to the checkpoint */
    bool          diverged;           /* said once per node */
};

struct replay {
    struct arena   arena;
    bool           strict, over, broken;
    bool           whole;            /* the source has ended: nothing will be added to what it did */
    struct record *records;          /* of the source's attempt */
    size_t         count, at;        /* at: the next input to be given */
    struct trace  *traces;
    const struct record *end;        /* its terminal record; NULL: none */
    struct span    final_hash;       /* of its last checkpoint; p NULL: it did not get there */
    int64_t        final_step;
    uint64_t       seed;
    struct span    last_node;        /* that finished in the source: differences of the run as a whole go by its name */
    bool           ended;            /* the end was compared */
};

bool replay_is_strict(const struct run *run)
{
    return run->row.replay_mode && !uuid_is_nil(run->row.replayed_from);
}

bool replay_broken(const struct run *run)
{
    return run->replay && run->replay->broken;
}

void replay_close(struct run *run)
{
    if (run->replay)
        run->replay->over = true;
}

void replay_free(struct run *run)
{
    struct replay *r = TAKE(run->replay);
    if (r)
        arena_done(&r->arena);
    free(r);
}

uint64_t replay_seed(const struct run *run, uint64_t otherwise)
{
    return replay_is_strict(run) && run->replay ? run->replay->seed << 11 : otherwise;
}

/* ---- what is compared ---- */

/* Everything but what names this run, tells the time, or counts starts (a node that starts again is counted again). */
static void put_plain(struct jw *w, struct jv object, struct arena *arena)
{
    static const char *const left_out[] = { "node_execution_id", "call_id", "checkpoint_id", "approval_id", "child_run_id",
                                            "failure_id", "duration_ms", "step", "try_no", "state_hash", "tool_call_id",
                                            "pending", "cost_usd", "cost_known" };
    jw_obj(w);
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        size_t i = 0;
        while (i < ARRAY_LEN(left_out) && !jv_str_eq(it.name, left_out[i]))
            i++;
        if (i < ARRAY_LEN(left_out))
            continue;
        jw_key_span(w, jv_string(it.name, arena));
        if (jv_str_eq(it.name, "error") && jv_is(it.value, JSON_OBJECT))
            put_plain(w, it.value, arena);
        else
            jw_raw(w, jv_raw(it.value));
    }
    jw_end(w);
}

/* pub: the payload, read with the scratch arena. */
static struct deed *deed_new(struct arena *arena, struct arena *scratch, enum record_type type, struct jv pub, struct span priv)
{
    struct deed *deed = ARENA_NEW(arena, struct deed);
    struct buf   text = { 0 };
    struct jw    w = jw_on(&text);
    put_plain(&w, pub, scratch);
    deed->type = type;
    deed->plain = arena_copy(arena, buf_view(&text));
    if (type == REC_NODE_FINISHED) /* the output, when it was too long for the payload */
        buf_span(&text, priv);
    deed->digest = sha256_of(buf_view(&text));
    buf_done(&text);
    return deed;
}

static bool same_deed(const struct deed *a, const struct deed *b)
{
    return a && b && a->type == b->type && memcmp(a->digest.b, b->digest.b, sizeof a->digest.b) == 0;
}

static struct trace *trace_of(struct replay *r, struct span node)
{
    struct trace **p = &r->traces;
    while (*p && !span_eq((*p)->node, node))
        p = &(*p)->next;
    if (!*p) {
        *p = ARENA_NEW(&r->arena, struct trace);
        (*p)->node = arena_copy(&r->arena, node);
        (*p)->tail = &(*p)->first;
    }
    return *p;
}

/* What belongs to a node and comes from its machine; a call that was made again after a crash does not count. */
static bool is_compared(enum record_type type, struct jv pub, struct span priv)
{
    return record_info(type)->class_ == 'E' && !record_by_host(&(struct record){ .priv = priv }) && type != REC_DIVERGED &&
           type != REC_RUN_FINISHED && type != REC_RUN_FAILED &&
           jv_is(jv_get(pub, "node"), JSON_STRING) && jv_is(jv_get(pub, "supersedes_call_id"), JSON_NONE);
}

/* ---- reading the source ---- */

/* Up to the checkpoint only what is still at work counts: it will start again. */
static void keep_deed(struct replay *r, const struct record *record, struct jv pub, bool behind, struct arena *scratch)
{
    struct trace *t = trace_of(r, jv_string(jv_get(pub, "node"), scratch));
    if (record->type == REC_NODE_FINISHED)
        r->last_node = t->node;
    if (!behind && record->type == REC_NODE_STARTED)
        t->running = true;
    if (behind || t->running) {
        struct deed *deed = deed_new(&r->arena, scratch, record->type, pub, record->priv);
        *t->tail = deed;
        t->tail = &deed->next;
    }
    if (!behind && (record->type == REC_NODE_FINISHED || record->type == REC_NODE_FAILED || record->type == REC_NODE_CANCELLED)) {
        t->running = false;
        t->first = NULL;
        t->tail = &t->first;
    }
}

static void keep_start(struct replay *r, const struct record *record, struct arena *scratch)
{
    int64_t seed = 0;
    if (record->priv.p)
        jv_i64(jv_get(json_read(record->priv, scratch), "seed"), &seed);
    r->seed = (uint64_t)seed;
}

static void keep_record(struct replay *r, const struct record *record, uint64_t checkpoint, struct arena *scratch)
{
    if (record->flags & REC_TERMINAL)
        r->end = record;
    if (record->type == REC_RUN_STARTED)
        keep_start(r, record, scratch);
    if (record_info(record->type)->class_ != 'E')
        return;
    struct jv pub = json_read(record->pub, scratch);
    if (record->type == REC_CHECKPOINT && jv_str_eq(jv_get(pub, "kind"), "final")) {
        r->final_hash = arena_copy(&r->arena, jv_string(jv_get(pub, "state_hash"), scratch));
        jv_i64(jv_get(pub, "step"), &r->final_step);
    }
    if (is_compared(record->type, pub, record->priv))
        keep_deed(r, record, pub, record->seq > checkpoint, scratch);
}

struct collect {
    struct arena *arena;
    struct buf    records;
    bool          bad;
};

static bool collect_frame(void *user, const struct frame *frame)
{
    struct collect     *to = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, arena_copy(to->arena, frame->body));
    struct record       record;
    while (frame_next(&reader, &record))
        buf_put(&to->records, &record, sizeof record);
    to->bad = reader.in.bad;
    return !to->bad;
}

/* All records of a stream, into the arena. */
static enum err read_stream(struct reader *reader, uint64_t stream, struct arena *arena, struct record **ret, size_t *ret_count)
{
    struct collect collect = { .arena = arena };
    enum err       e = reader_frames(reader, stream, 0, SIZE_MAX, collect_frame, &collect);
    *ret_count = collect.records.len / sizeof(struct record);
    *ret = ARENA_ARRAY(arena, struct record, *ret_count ? *ret_count : 1);
    if (*ret_count)
        memcpy(*ret, collect.records.p, collect.records.len);
    buf_done(&collect.records);
    return e ? e : collect.bad ? ERR_CORRUPT : ERR_OK;
}

struct place {                 /* of an attempt, or of a checkpoint in it */
    struct uuid attempt;
    int64_t     no;
    uint64_t    stream, seq;
};

static enum err find_attempt(struct reader *reader, const struct run_row *row, int64_t no, struct place *ret)
{
    struct attempt_row old = { .run = row->id, .no = no };
    if (no == row->attempt_no)
        *ret = (struct place){ .attempt = row->attempt, .no = no, .stream = (uint64_t)row->stream };
    else if (no > row->attempt_no || reader_get(reader, TABLE_attempt, &old))
        return ERR_NOT_FOUND;
    else
        *ret = (struct place){ .attempt = old.id, .no = no, .stream = (uint64_t)old.stream };
    return ERR_OK;
}

struct wanted {
    struct uuid  id;
    struct place place;
};

static bool match_frame(void *user, const struct frame *frame)
{
    struct wanted      *wanted = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record))
        if (record.type == REC_CHECKPOINT && uuid_eq(checkpoint_id(wanted->place.attempt, record.seq), wanted->id)) {
            wanted->place.seq = record.seq;
            return false;
        }
    return true;
}

/* Newest attempts first. */
static enum err find_checkpoint(struct reader *reader, const struct run_row *row, struct uuid id, struct place *ret)
{
    struct wanted wanted = { .id = id };
    for (int64_t no = row->attempt_no; no > 0; no--) {
        if (find_attempt(reader, row, no, &wanted.place))
            continue;
        enum err e = reader_frames(reader, wanted.place.stream, 0, SIZE_MAX, match_frame, &wanted);
        if (e)
            return e;
        if (wanted.place.seq) {
            *ret = wanted.place;
            return ERR_OK;
        }
    }
    return ERR_CHECKPOINT_NOT_FOUND;
}

/* An input that the source's machine got and this one must be given: not a start, not the pause between two halves of a long
 * step, which is cut elsewhere here. */
static bool is_given(const struct record *record, struct arena *scratch, struct input *ret)
{
    if (record_info(record->type)->class_ != 'I' || record->type == REC_RUN_STARTED || fold_superseded(record, scratch) ||
        record_by_host(record))
        return false;
    *ret = fold_recorded(record, scratch);
    return !ret->op.n || ret->op.v[0] >> 28 == OP_NODE;
}

static void skip_record(struct replay *r, const struct record *own, struct arena *scratch)
{
    char         class_ = record_info(own->type)->class_;
    struct input in;
    if (r->strict && class_ == 'I' && is_given(own, scratch, &in)) {
        while (r->at < r->count && !is_given(&r->records[r->at], scratch, &in))
            r->at++;
        r->at += r->at < r->count;
    }
    if (class_ != 'E')
        return;
    struct jv     pub = json_read(own->pub, scratch);
    struct span   node = jv_string(jv_get(pub, "node"), scratch);
    struct trace *t = is_compared(own->type, pub, own->priv) || own->type == REC_DIVERGED ? trace_of(r, node) : NULL;
    if (own->type == REC_DIVERGED)
        t->diverged |= own->op > 0;
    else if (t)
        t->at = t->at ? t->at->next : NULL;
}

/* What this attempt has recorded before the engine was started is gone through, so that it is expected no more. */
static enum err skip_recorded(struct run *run, struct reader *reader)
{
    struct arena   scratch = { 0 }, bodies = { 0 };
    struct record *own;
    size_t         count;
    enum err       e = read_stream(reader, (uint64_t)run->row.stream, &bodies, &own, &count);
    for (size_t i = 0; i < count && !e; i++) {
        skip_record(run->replay, &own[i], &scratch);
        arena_reset(&scratch);
    }
    arena_done(&scratch);
    arena_done(&bodies);
    return e;
}

static void keep_records(struct replay *r, uint64_t checkpoint)
{
    struct arena scratch = { 0 };
    for (size_t i = 0; i < r->count; i++) {
        keep_record(r, &r->records[i], checkpoint, &scratch);
        arena_reset(&scratch);
    }
    arena_done(&scratch);
    for (struct trace *t = r->traces; t; t = t->next)
        t->at = t->first;
    while (r->at < r->count && r->records[r->at].seq <= checkpoint)
        r->at++;
}

static enum err read_source(struct run *run, struct reader *reader)
{
    struct replay *r = run->replay;
    struct run_row source = { .workspace = run->row.workspace, .id = run->row.replayed_from };
    struct place   from, place;
    enum err       e = reader_get(reader, TABLE_run, &source);
    if (!e)
        e = find_checkpoint(reader, &source, run->row.replayed_checkpoint, &from);
    if (!e)
        e = find_attempt(reader, &source, from.no + run->row.attempt_no - 1, &place);
    if (!e)
        e = read_stream(reader, place.stream, &r->arena, &r->records, &r->count);
    if (e)
        return e;
    uint64_t checkpoint = run->row.attempt_no == 1 ? from.seq : 0;
    r->whole = run_terminal((enum run_status)source.status) || place.no < source.attempt_no;
    keep_records(r, checkpoint);
    return skip_recorded(run, reader);
}

bool replay_open(struct run *run, struct reader *reader)
{
    replay_free(run);
    run->replay = mem_alloc(sizeof *run->replay);
    run->replay->strict = replay_is_strict(run);
    if (!read_source(run, reader))
        return true;
    bool strict = run->replay->strict;
    replay_free(run); /* best effort goes on without anything to compare with */
    return !strict;
}

bool replay_reopen(struct run *run)
{
    if (uuid_is_nil(run->row.replayed_from) || (run->replay && !run->replay->over))
        return true;
    bool opened = !engine_read_begin(run->engine);
    bool ok = opened && replay_open(run, engine_reader(run->engine));
    if (opened)
        engine_read_end(run->engine);
    if (!ok)
        run_fail_code(run, "replay_divergence", "replay", false, "the source has nothing recorded to be replayed from");
    return ok;
}

/* ---- differences ---- */

static struct span shown(struct arena *arena, const struct deed *deed)
{
    if (!deed)
        return SPAN("null");
    if (deed->plain.n <= SHOWN_MAX)
        return arena_printf(arena, "{\"type\":\"%s\",\"payload\":%.*s}", record_info(deed->type)->ar_type, SPAN_ARG(deed->plain));
    struct buf hex = { 0 };
    buf_hex(&hex, deed->digest.b, sizeof deed->digest.b);
    struct span text = arena_printf(arena, "{\"type\":\"%s\",\"hash\":\"sha256:%.*s\"}", record_info(deed->type)->ar_type,
                                    (int)hex.len, hex.p);
    buf_done(&hex);
    return text;
}

static struct span shown_value(struct arena *arena, struct span json)
{
    if (!json.n)
        return SPAN("null");
    if (json.n <= SHOWN_MAX)
        return json;
    struct sha256 digest = sha256_of(json);
    struct buf    hex = { 0 };
    buf_hex(&hex, digest.b, sizeof digest.b);
    struct span text = arena_printf(arena, "{\"hash\":\"sha256:%.*s\"}", (int)hex.len, hex.p);
    buf_done(&hex);
    return text;
}

static struct span quoted(struct arena *arena, struct span text)
{
    struct buf out = { 0 };
    struct jw  w = jw_on(&out);
    jw_str(&w, text);
    struct span kept = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return kept;
}

/* Number 0, which is the run's: it is not at work. */
static struct op node_at_work(const struct run *run, struct span node)
{
    for (uint32_t i = 0; i < run->op_count; i++)
        if (run->ops[i].node_exec && span_eq(run->ops[i].node, node))
            return run->ops[i];
    return (struct op){ .no = 0 };
}

/* expected, actual: JSON. */
static void diverge(struct run *run, struct span node, const char *kind, struct span expected, struct span actual)
{
    struct op  op = node_at_work(run, node);
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "node");
    jw_str(&w, node.n ? node : run->replay->last_node);
    jw_key(&w, "kind");
    jw_cstr(&w, kind);
    jw_key(&w, "expected");
    jw_raw(&w, expected);
    jw_key(&w, "actual");
    jw_raw(&w, actual);
    jw_end(&w);
    run->replay->broken = run->replay->strict;
    run_record(run, REC_DIVERGED, 0, 0, op.no, op.parent, buf_view(&text), SPAN_NONE, NULL);
    buf_done(&text);
}

bool replay_check(struct run *run, enum record_type type, struct span pub, struct span priv)
{
    struct replay *r = run->replay;
    if (!r || r->over || r->broken || record_info(type)->class_ != 'E' || type == REC_DIVERGED)
        return true;
    struct arena *turn = &run->engine->turn;
    struct span   kept = arena_copy(turn, pub);
    struct jv     root = json_read(kept, turn);
    if (!is_compared(type, root, priv))
        return true;
    struct trace *t = trace_of(r, jv_string(jv_get(root, "node"), turn));
    struct deed  *expected = t->at, *actual = deed_new(turn, turn, type, root, priv);
    if (expected)
        t->at = expected->next;
    if (t->diverged || same_deed(expected, actual) || (!expected && !r->whole))
        return true;
    t->diverged = true;
    diverge(run, t->node, expected ? "effect" : "extra_effect", shown(turn, expected), shown(turn, actual));
    return !r->broken;
}

/* The hash covers the number of starts, and what started again counts twice: it is taken with the source's number. */
static void check_hash(struct run *run, struct span hashed)
{
    struct replay *r = run->replay;
    if (!r->final_hash.p)
        return;
    struct arena *turn = &run->engine->turn;
    struct jv     root = json_read(hashed, turn);
    struct span   text = arena_printf(turn, "{\"next\":%.*s,\"state\":%.*s,\"step\":%lld}", SPAN_ARG(jv_raw(jv_get(root, "next"))),
                                      SPAN_ARG(jv_raw(jv_get(root, "state"))), (long long)r->final_step);
    struct sha256 hash = sha256_of(text);
    struct buf    hex = { 0 };
    BUF_LIT(&hex, "sha256:");
    buf_hex(&hex, hash.b, sizeof hash.b);
    if (!span_eq(buf_view(&hex), r->final_hash))
        diverge(run, SPAN_NONE, "state_hash", quoted(turn, r->final_hash), quoted(turn, buf_view(&hex)));
    buf_done(&hex);
}

void replay_break(struct run *run)
{
    run_fail_code(run, "replay_divergence", "replay", false, "the replay differs from its source");
}

/* ---- the end ---- */

static bool check_missing(struct run *run)
{
    struct replay *r = run->replay;
    for (struct trace *t = r->traces; t && !r->broken; t = t->next)
        if (t->at && !t->diverged && r->whole) {
            t->diverged = true;
            diverge(run, t->node, "missing_effect", shown(&run->engine->turn, t->at), SPAN("null"));
        }
    return !r->broken;
}

static struct span source_output(struct replay *r, struct jv pub)
{
    return r->end->priv.p ? r->end->priv : jv_raw(jv_get(pub, "output"));
}

static struct span error_code(struct jv error)
{
    struct jv code = jv_get(error, "code");
    return jv_is(code, JSON_STRING) ? jv_raw(code) : SPAN("null");
}

static void check_end(struct run *run, enum record_type how, struct span value)
{
    struct replay *r = run->replay;
    struct arena  *turn = &run->engine->turn;
    struct jv      pub = r->end ? json_read(r->end->pub, turn) : (struct jv){ .doc = NULL };
    if (!r->end)
        return;
    if (r->end->type != how) {
        diverge(run, SPAN_NONE, "end", quoted(turn, span_of(record_info(r->end->type)->ar_type)),
                quoted(turn, span_of(record_info(how)->ar_type)));
    } else if (how == REC_RUN_FINISHED) {
        struct span expected = source_output(r, pub);
        if (!span_eq(expected, value))
            diverge(run, SPAN_NONE, "output", shown_value(turn, expected), shown_value(turn, value));
    } else {
        struct span expected = error_code(jv_get(pub, "error")), actual = error_code(json_read(value, turn));
        if (!span_eq(expected, actual))
            diverge(run, SPAN_NONE, "error", expected, actual);
    }
}

bool replay_end(struct run *run, enum record_type how, struct span value)
{
    struct replay *r = run->replay;
    if (!r || r->over || r->broken || r->ended)
        return true;
    r->ended = true;
    if (check_missing(run))
        check_end(run, how, value);
    if (!r->broken)
        return true;
    replay_break(run);
    return false;
}

/* Before the last checkpoint, which stands right in front of the terminal record. */
bool replay_finish(struct run *run, struct span hashed, struct span output)
{
    struct replay *r = run->replay;
    if (!r || r->over || r->broken)
        return true;
    r->ended = true;
    if (check_missing(run))
        check_end(run, REC_RUN_FINISHED, output);
    if (!r->broken)
        check_hash(run, hashed);
    return !r->broken;
}

bool replay_again(const struct run *run, bool otherwise)
{
    const struct replay *r = run->replay;
    if (!r || !r->strict)
        return otherwise;
    if (r->broken || r->over || !r->end || r->end->type != REC_RUN_FAILED || run->row.status != RUN_ACTIVE)
        return false;
    struct jv pub = json_read(r->end->pub, &run->engine->turn);
    return !jv_bool(jv_get(pub, "final"), true);
}

/* ---- strict: the source's inputs once more ---- */

/* The same operation of the same node; how often the node has started before does not matter. */
static bool same_operation(const struct op_path *a, const struct op_path *b)
{
    unsigned i = 1 + (a->n && !(a->v[0] & 0xff)), k = 1 + (b->n && !(b->v[0] & 0xff)); /* a high number has a part of its own */
    if (!a->n || !b->n || a->v[0] >> 8 != b->v[0] >> 8 || a->n - i != b->n - k)
        return false;
    for (; i < a->n; i++, k++)
        if (a->v[i] != b->v[k])
            return false;
    return true;
}

static bool is_chunk_of(const struct record *delta, const struct record *end)
{
    return delta->type == REC_MODEL_DELTA && delta->op == (delta->surface & SURFACE_NO_CALL ? end->parent : end->op);
}

/* Copies the chunks of a call that are not there yet. True: all are. */
static bool feed_chunks(struct replay *r, struct inflight *call, const struct record *end, unsigned *budget)
{
    uint64_t skip = call->chunks[DELTA_TEXT] + call->chunks[DELTA_REASONING] + call->chunks[DELTA_ARGUMENTS];
    for (const struct record *d = r->records; d < end; d++) {
        if (!is_chunk_of(d, end))
            continue;
        if (skip) {
            skip--;
            continue;
        }
        if (!*budget)
            return false;
        --*budget;
        inflight_chunk(call, (enum model_chunk_kind)d->delta_kind, d->text);
    }
    return true;
}

enum fed { FED, FED_LATER, FED_NOBODY };

static enum fed feed_model(struct run *run, const struct record *record, struct pending_input *in, unsigned *budget)
{
    for (struct inflight *c = run->calls; c; c = c->next)
        if (same_operation(&c->path, &in->path)) {
            if (!feed_chunks(run->replay, c, record, budget))
                return FED_LATER;
            in->path = c->path;
            in->op = c->op;
            return FED;
        }
    return FED_NOBODY;
}

static enum fed feed_wait(struct run *run, const struct record *record, struct pending_input *in)
{
    for (struct open_wait *w = run->waits; w; w = w->next)
        if (same_operation(&w->path, &in->path)) {
            in->path = w->path;
            in->op = (uint32_t)w->row.op;
            in->node = w->row.node;
            in->wait = w->row.id;
            in->by = jv_string(jv_get(json_read(record->pub, &run->engine->turn), "resumed_by"), &run->engine->turn);
            return FED;
        }
    return FED_NOBODY;
}

static enum fed address(struct run *run, const struct record *record, struct pending_input *in, unsigned *budget)
{
    if (in->kind == IN_MODEL)
        return feed_model(run, record, in, budget);
    if (in->kind == IN_ANSWER)
        return feed_wait(run, record, in);
    for (struct tool_flight *t = run->tools; t && in->kind == IN_TOOL; t = t->next)
        if (same_operation(&t->path, &in->path)) {
            in->path = t->path;
            in->op = t->op;
            return FED;
        }
    for (struct timer *t = run->timers; t && in->kind == IN_TIMER; t = t->next)
        if (same_operation(&t->path, &in->path)) {
            in->path = t->path;
            return FED;
        }
    for (struct child *c = run->children; c && in->kind == IN_CHILD; c = c->next)
        if (same_operation(&c->path, &in->path)) {
            in->path = c->path;
            in->op = c->op;
            in->node = c->node;
            return FED;
        }
    return FED_NOBODY;
}

/* Its own, at once: where a long step was cut. */
static bool feed_pause(struct run *run)
{
    for (struct timer *t = run->timers; t; t = t->next)
        if (t->path.n == 1 && t->path.v[0] >> 28 == OP_TIMER) {
            struct pending_input in = { .kind = IN_TIMER, .path = t->path };
            run_take_input(run, &in);
            return true;
        }
    return false;
}

/* Without the number of the source's failure: this one gets its own. */
static struct span own_error(struct jv error, struct arena *arena)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(error); jv_step(&it);) {
        if (jv_str_eq(it.name, "failure_id"))
            continue;
        jw_key_span(&w, jv_string(it.name, arena));
        jw_raw(&w, jv_raw(it.value));
    }
    jw_end(&w);
    struct span kept = arena_copy(arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

/* The source got no further and its machine did not end it: somebody, or the host, did. The same happens here; a question
 * that nobody answered is asked again. */
static bool feed_end(struct run *run)
{
    struct replay *r = run->replay;
    struct arena  *turn = &run->engine->turn;
    struct jv      pub = r->end ? json_read(r->end->pub, turn) : (struct jv){ .doc = NULL };
    bool           busy = inflight_any(run) || run->timers || run->children || tool_in_flight(run);
    if (!busy && !run->waits)
        return true;
    if (r->end && r->end->type == REC_RUN_FAILED) {
        run_fail(run, own_error(jv_get(pub, "error"), turn));
    } else if (!busy) {
        return true;
    } else if (r->end && r->end->type == REC_RUN_CANCELLED) {
        struct jv reason = jv_get(pub, "reason");
        run_cancel_now(run, jv_is(reason, JSON_STRING) ? jv_string(reason, turn) : SPAN_NONE, SPAN("replay"));
    } else {
        diverge(run, SPAN_NONE, "end", SPAN("\"RUN_FINISHED\""), SPAN("null"));
        replay_break(run);
    }
    return false;
}

struct more {                  /* from one part of a long replay to the next: the run may be gone by then */
    struct engine *engine;
    struct uuid    run;
};

static void feed_more(void *arg, enum err err)
{
    struct more *more = arg;
    struct run  *run = uuid_map_get(&more->engine->runs, more->run);
    if (!err && run && !run->gone && !more->engine->draining)
        run_ready(run);
    free(more);
}

/* When this part is on disk, so that a replay cannot outrun it. */
static bool feed_later(struct run *run)
{
    struct more *more = mem_alloc(sizeof *more);
    *more = (struct more){ .engine = run->engine, .run = run->row.id };
    engine_after(run->engine, feed_more, more);
    return false;
}

static enum fed feed_one(struct run *run, const struct record *record, const struct input *recorded, unsigned *budget)
{
    struct pending_input in = { .kind = recorded->kind, .err = recorded->err, .path = recorded->op, .value = recorded->value,
                                .at_us = recorded->elapsed_us };
    enum fed fed = address(run, record, &in, budget);
    if (fed == FED_NOBODY) {
        diverge(run, SPAN_NONE, "input", quoted(&run->engine->turn, span_of(record_info(record->type)->ar_type)), SPAN("null"));
        replay_break(run);
    } else if (fed == FED) {
        run->replay->at++;
        run_take_input(run, &in);
    }
    return fed;
}

bool replay_feed(struct run *run)
{
    struct input in = { .err = ERR_OK };
    if (!replay_is_strict(run))
        return true;
    for (unsigned budget = FEED_MAX; !run->gone && run->row.status == RUN_ACTIVE && run->replay && !run->replay->over; budget--) {
        struct replay *r = run->replay;
        if (!budget)
            return feed_later(run);
        if (feed_pause(run))
            continue;
        while (r->at < r->count && !is_given(&r->records[r->at], &run->engine->turn, &in))
            r->at++;
        if (r->at == r->count)
            return feed_end(run);
        enum fed fed = feed_one(run, &r->records[r->at], &in, &budget);
        if (fed == FED_LATER)
            return feed_later(run);
        if (fed == FED_NOBODY)
            return false;
        budget += !budget;
    }
    return true;
}

/* ---- a new replay ---- */

static struct thread *fork_thread(struct engine *engine, const struct run_row *source, const struct cut *cut)
{
    struct thread *thread = thread_make(engine, source->tenant, source->workspace, source->agent, true);
    struct jv      state = jv_get(json_read(cut->hashed, &engine->turn), "state");
    thread->row.values_json = arena_copy(&thread->texts, jv_raw(jv_get(state, "values")));
    thread->row.forked_from = source->thread;
    return thread;
}

static struct run_row new_row(struct engine *engine, const struct replay_spec *spec, const struct run_row *source,
                              const struct thread *thread)
{
    int64_t        now = engine_now_ms(engine);
    struct run_row row = { .workspace = source->workspace, .id = engine_mint(engine), .tenant = source->tenant, .thread = thread->row.id,
                           .agent = source->agent, .bundle = source->bundle, .version = source->version, .plan = source->plan,
                           .status = RUN_QUEUED, .source = SOURCE_REPLAY, .pinned = source->pinned,
                           .stream = (int64_t)engine_new_stream(engine), .attempt = engine_mint(engine), .attempt_no = 1,
                           .input = source->input, .created_ms = now, .updated_ms = now, .replayed_from = source->id,
                           .replayed_checkpoint = spec->checkpoint, .replay_mode = spec->strict };
    row.root_operation = operation_id(row.id, row.attempt, 0);
    return row;
}

/* The state is a row of the same commit, as for every attempt that does not begin from the input. */
static struct run *make_run(struct engine *engine, const struct replay_spec *spec, const struct run_row *source, const struct cut *cut)
{
    struct thread      *thread = fork_thread(engine, source, cut);
    struct run_row      row = new_row(engine, spec, source, thread);
    struct run         *run = run_new(engine, &row);
    struct snapshot_row start = { .attempt = row.attempt, .seq = 0, .digest = sha256_of(cut->saved), .body = cut->saved };
    batch_put(engine_batch(engine), TABLE_snapshot, &start);
    if (spec->reason.p)
        run->replay_reason = arena_copy(&run->texts, spec->reason);
    run->plan = catalog_plan(engine, row.plan, NULL);
    if (run->plan && run->plan->ops->load(run->plan, cut->saved, &run->machine_arena, &run->machine))
        run->machine = NULL;
    thread_enter(thread, run); /* nobody else is there */
    run_ready(run);
    thread_dirty(thread);
    thread_unref(thread); /* the run holds it */
    run->row_stale = true;
    run_dirty(run);
    engine->stats.runs_created++;
    engine->stats.by_status[RUN_QUEUED]++;
    return run;
}

/* Of a ledger that is gone: ids are derived from what the rows still say. */
static enum err was_checkpoint(struct reader *reader, const struct run_row *row, struct uuid id)
{
    for (int64_t no = row->attempt_no; no > 0; no--) {
        struct attempt_row old = { .run = row->id, .no = no, .id = row->attempt, .last_seq = row->last_seq };
        if (no < row->attempt_no && reader_get(reader, TABLE_attempt, &old))
            continue;
        for (uint64_t seq = (uint64_t)old.last_seq; seq > 0; seq--)
            if (uuid_eq(checkpoint_id(old.id, seq), id))
                return ERR_CHECKPOINT_NOT_REPLAYABLE;
    }
    return ERR_CHECKPOINT_NOT_FOUND;
}

static enum err cut_source(struct engine *engine, const struct replay_spec *spec, const struct run_row *source, struct cut *ret,
                           struct error *error)
{
    struct reader *reader = engine_reader(engine);
    struct run_row at = *source;
    struct place   place = { 0 };
    enum err       e = source->stream ? find_checkpoint(reader, source, spec->checkpoint, &place)
                                      : was_checkpoint(reader, source, spec->checkpoint);
    if (e == ERR_CHECKPOINT_NOT_REPLAYABLE)
        return error_set(error, e, "", "the run's checkpoints were removed by retention");
    if (e)
        return error_set(error, e == ERR_CHECKPOINT_NOT_FOUND ? e : ERR_STORAGE, "", "no such checkpoint in this run");
    if (spec->strict && !run_terminal((enum run_status)source->status))
        return error_set(error, ERR_NOT_DETERMINISTIC, "", "the run is %s; only one that has ended can be replayed strictly",
                         run_status_ar((enum run_status)source->status, (unsigned)source->mask));
    if (!catalog_plan(engine, source->plan, NULL))
        return error_set(error, spec->strict ? ERR_NOT_DETERMINISTIC : ERR_CHECKPOINT_NOT_REPLAYABLE, "", "the run's bundle is gone");
    at.attempt = place.attempt;
    at.attempt_no = place.no;
    at.stream = (int64_t)place.stream;
    if (checkpoint_cut(engine, reader, &at, place.seq, &engine->turn, ret))
        return error_set(error, ERR_CHECKPOINT_NOT_REPLAYABLE, "", "the state at the checkpoint cannot be restored");
    if (spec->strict && ret->between_tries)
        return error_set(error, ERR_NOT_DETERMINISTIC, "", "a node waited for its next try at this checkpoint");
    return ERR_OK;
}

enum err run_replay(struct engine *engine, const struct replay_spec *spec, struct run_row *ret_row, struct error *error)
{
    struct run_row source = { .workspace = spec->workspace, .id = spec->run };
    struct cut     cut = { .between_tries = false };
    enum err       e = engine_ready(engine, error);
    if (e)
        return e;
    if (engine_read_begin(engine))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    e = reader_get(engine_reader(engine), TABLE_run, &source);
    if (e)
        e = error_set(error, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : ERR_STORAGE, "", "no such run in this workspace");
    else
        e = cut_source(engine, spec, &source, &cut, error);
    if (!e)
        run_row_view(make_run(engine, spec, &source, &cut), ret_row);
    engine_read_end(engine);
    return e;
}
