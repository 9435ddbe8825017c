/* SPDX-License-Identifier: Apache-2.0 */
/* inspection.c - all there is to know about one run, folded from its ledgers in one answer (agent-runs.md 3.6). */
#include "api/agent_runs/routes.h"
#include <stdlib.h>

enum { EVENTS_MAX = 1000 };

/* One try of one node, as its records tell it. Texts live in the call's arena. */
struct execution {
    const struct attempt_span *attempt;
    uint32_t                   op, parent;
    int64_t                    started_ms, ended_ms; /* ended 0: it has not */
    const char                *status;
    struct span                node, started;        /* payload of NODE_STARTED */
    struct span                error;
    char                       output_hash[72];      /* "" : none */
    struct uuid                retried_from;
};

struct inspect {
    struct call          *call;
    struct run_row        run;
    struct attempt_span  *attempts, *attempt; /* attempt: the one being read */
    size_t                attempt_count;
    struct buf            executions;         /* struct execution */
    struct origins       *origins;            /* of a replay: what it repeats */
    struct attempt_ref    ref;
    struct buf            events;             /* of the current attempt, rendered, with commas */
    size_t                event_count;
    bool                  truncated;
    struct { int64_t started_ms; bool again, failed; struct uuid last_failed; } notes; /* of the attempt being read */
};

/* ---- reading ---- */

static struct execution *find(struct inspect *in, uint32_t op)
{
    struct execution *all = (struct execution *)(void *)in->executions.p;
    for (size_t i = in->executions.len / sizeof *all; i-- > 0;)
        if (all[i].op == op && all[i].attempt == in->attempt)
            return &all[i];
    return NULL;
}

/* What a node execution of a replay repeats of the source: it is the nth start of its node in its attempt. */
static struct uuid replays(const struct inspect *in, const struct execution *x)
{
    const struct execution *all = (const struct execution *)(const void *)in->executions.p;
    unsigned                nth = 0;
    for (const struct execution *other = all; other < x; other++)
        nth += other->attempt == x->attempt && span_eq(other->node, x->node);
    return origin_of(in->origins, x->attempt->no, x->node, nth);
}

static struct uuid execution_id(const struct inspect *in, const struct execution *x)
{
    return operation_id(in->run.id, x->attempt->id, x->op);
}

/* The newest execution of the same node that did not complete: this one repeats it, if it is a repetition at all. */
static struct uuid repeats(struct inspect *in, struct span node, bool new_attempt)
{
    struct execution *all = (struct execution *)(void *)in->executions.p;
    struct uuid       none = { { 0 } };
    for (size_t i = in->executions.len / sizeof *all; i-- > 0;)
        if (span_eq(all[i].node, node) && (new_attempt || all[i].attempt == in->attempt))
            return strcmp(all[i].status, "completed") ? execution_id(in, &all[i]) : none;
    return none;
}

static void node_started(struct inspect *in, const struct record *r)
{
    struct arena    *arena = &in->call->arena;
    struct execution x = { .attempt = in->attempt, .op = r->op, .parent = r->parent, .started_ms = r->wall_ms, .status = "running",
                           .started = arena_copy(arena, r->pub) };
    struct jv pub = json_read(x.started, arena);
    x.node = jv_string(jv_get(pub, "node"), arena);
    x.retried_from = repeats(in, x.node, in->attempt->no > 1);
    buf_put(&in->executions, &x, sizeof x);
}

static void node_ended(struct inspect *in, const struct record *r, const char *status)
{
    struct arena     *arena = &in->call->arena;
    struct execution *x = find(in, r->op);
    if (!x)
        return;
    struct jv pub = json_read(arena_copy(arena, r->pub), arena), output = jv_get(pub, "output");
    x->status = status;
    x->ended_ms = r->wall_ms;
    x->error = r->type == REC_NODE_FAILED ? jv_raw(jv_get(pub, "error")) : SPAN_NONE;
    if (r->type == REC_NODE_FAILED)
        in->notes.last_failed = execution_id(in, x);
    if (r->type != REC_NODE_FINISHED || jv_is(output, JSON_NONE))
        return;
    struct buf canonical = { 0 }, text = { 0 };
    json_canonical(r->priv.p ? json_read(arena_copy(arena, r->priv), arena) : output, JSON_JCS, &canonical);
    struct sha256 hash = sha256_of(buf_view(&canonical));
    BUF_LIT(&text, "sha256:");
    buf_hex(&text, hash.b, sizeof hash.b);
    memcpy(x->output_hash, text.p, text.len);
    buf_done(&canonical);
    buf_done(&text);
}

/* What an attempt's end leaves in flight was cut off. */
static void cut_off(struct inspect *in, const struct record *r)
{
    struct execution *all = (struct execution *)(void *)in->executions.p;
    for (size_t i = 0; i < in->executions.len / sizeof *all; i++)
        if (all[i].attempt == in->attempt && !all[i].ended_ms) {
            all[i].status = "cancelled";
            all[i].ended_ms = r->wall_ms;
        }
    in->attempt->completed_ms = r->wall_ms;
    if (r->type == REC_RUN_FAILED)
        in->notes.again = !jv_bool(jv_get(json_read(r->pub, &in->call->arena), "final"), true);
}

static void take_record(struct inspect *in, const struct record *r)
{
    struct execution *x;
    switch (r->type) {
    case REC_RUN_STARTED:    in->notes.started_ms = r->wall_ms; break;
    case REC_NODE_STARTED:   node_started(in, r); break;
    case REC_NODE_FINISHED:  node_ended(in, r, "completed"); break;
    case REC_NODE_FAILED:    node_ended(in, r, "failed"); break;
    case REC_NODE_CANCELLED: node_ended(in, r, "cancelled"); break;
    case REC_NODE_WAITING:
        if ((x = find(in, r->op)))
            x->status = "waiting_for_human";
        break;
    case REC_RUN_FINISHED:
    case REC_RUN_FAILED:
    case REC_RUN_CANCELLED:  cut_off(in, r); break;
    default: break;
    }
}

static bool take_frame(void *user, const struct frame *frame)
{
    struct inspect     *in = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    bool                current = in->attempt == &in->attempts[in->attempt_count - 1];
    while (frame_next(&reader, &record)) {
        take_record(in, &record);
        if (current && in->event_count < EVENTS_MAX) {
            if (in->event_count++)
                BUF_LIT(&in->events, ",");
            render_event(&in->ref, &record, &in->events);
        } else if (current) {
            in->truncated = true;
        }
    }
    return true;
}

/* ---- shapes ---- */

static void put_id(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    if (uuid_is_nil(id))
        jw_null(w);
    else
        jw_uuid(w, &id);
}

static void put_times(struct jw *w, int64_t started_ms, int64_t ended_ms)
{
    jw_key(w, "started_at");
    if (started_ms)
        jw_time(w, started_ms);
    else
        jw_null(w);
    jw_key(w, "completed_at");
    if (ended_ms)
        jw_time(w, ended_ms);
    else
        jw_null(w);
    jw_key(w, "duration_ms");
    if (started_ms && ended_ms)
        jw_i64(w, ended_ms - started_ms);
    else
        jw_null(w);
}

/* An attempt has words of its own for what has not begun. */
static const char *attempt_status(const struct attempt_span *a)
{
    if (a->status == RUN_PENDING || (a->status == RUN_QUEUED && !a->last_seq))
        return "created";
    if (a->status == RUN_QUEUED || a->status == RUN_RESUMED)
        return "running";
    return run_status_ar(a->status, MASK_PERSON);
}

/* Written as the ledgers are read, one after the other: what an attempt began from is known from the one before it. */
static void put_attempt(struct inspect *in, struct jw *w, bool after_automatic, struct uuid from)
{
    const struct attempt_span *a = in->attempt;
    jw_obj(w);
    put_id(w, "attempt_id", a->id);
    jw_key(w, "attempt_no");
    jw_i64(w, a->no);
    jw_key(w, "status");
    jw_cstr(w, attempt_status(a));
    jw_key(w, "trigger");
    jw_cstr(w, a->no == 1 ? "create" : after_automatic ? "automatic_retry" : "retry");
    put_id(w, "from_node_execution_id", from);
    put_times(w, in->notes.started_ms, a->completed_ms);
    jw_key(w, "latest_seq");
    jw_u64(w, a->last_seq);
    jw_key(w, "error");
    jw_raw(w, a->error);
    jw_key(w, "worker_id");
    jw_null(w);
    jw_end(w);
}

static enum err put_attempts(struct inspect *in, struct jw *w)
{
    enum err    e = ERR_OK;
    bool        again = false;
    struct uuid from = { { 0 } };
    jw_key(w, "attempts");
    jw_arr(w);
    for (size_t i = 0; i < in->attempt_count && !e; i++) {
        in->attempt = &in->attempts[i];
        memset(&in->notes, 0, sizeof in->notes);
        e = reader_frames(in->call->reader, in->attempt->stream, 0, SIZE_MAX, take_frame, in);
        put_attempt(in, w, again, from);
        again = in->notes.again;
        from = in->notes.last_failed;
    }
    jw_arr_end(w);
    return e;
}

static void put_execution(struct inspect *in, struct jw *w, const struct execution *x)
{
    static const char *const members[] = { "capability_ref", "capability_version", "execution_binding", "step", "try_no" };
    struct jv started = json_read(x->started, &in->call->arena);
    jw_obj(w);
    put_id(w, "node_execution_id", execution_id(in, x));
    put_id(w, "attempt_id", x->attempt->id);
    jw_key(w, "attempt_no");
    jw_i64(w, x->attempt->no);
    jw_key(w, "node");
    jw_str(w, x->node);
    jw_key(w, "status");
    jw_cstr(w, x->status);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        jw_key(w, members[i]);
        jw_raw(w, jv_raw(jv_get(started, members[i])));
    }
    put_id(w, "operation_id", execution_id(in, x));
    put_id(w, "parent_operation_id", operation_id(in->run.id, x->attempt->id, x->parent));
    jw_key(w, "input_hash");
    jw_null(w); /* inputs are not recorded */
    jw_key(w, "output_hash");
    jw_cstr(w, x->output_hash[0] ? x->output_hash : NULL);
    put_times(w, x->started_ms, x->ended_ms);
    jw_key(w, "error");
    jw_raw(w, x->error);
    put_id(w, "retried_from_node_execution_id", x->retried_from);
    put_id(w, "replayed_from_node_execution_id", replays(in, x));
    jw_end(w);
}

static bool put_replay_run(void *user, const void *row)
{
    jw_uuid(user, &((const struct run_row *)row)->id);
    return true;
}

/* What a replay's own ledgers say about it: why it was asked for, and where it went another way than its source. */
struct replay_notes {
    struct arena *arena;
    struct buf    divergences; /* with commas */
    struct span   reason;      /* JSON; p NULL: none */
};

static void note_divergence(struct replay_notes *notes, const struct record *record)
{
    static const char *const members[] = { "node", "kind", "expected", "actual" };
    struct jv pub = json_read(arena_copy(notes->arena, record->pub), notes->arena);
    if (notes->divergences.len)
        BUF_LIT(&notes->divergences, ",");
    struct jw w = jw_on(&notes->divergences);
    jw_obj(&w);
    jw_key(&w, "seq");
    jw_u64(&w, record->seq);
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        jw_key(&w, members[i]);
        jw_raw(&w, jv_raw(jv_get(pub, members[i])));
    }
    jw_end(&w);
}

static bool note_frame(void *user, const struct frame *frame)
{
    struct replay_notes *notes = user;
    struct frame_reader  reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record        record;
    while (frame_next(&reader, &record)) {
        if (record.type == REC_DIVERGED)
            note_divergence(notes, &record);
        if (record.type != REC_RUN_STARTED || notes->reason.p || !record.priv.p)
            continue;
        struct jv reason = jv_get(json_read(arena_copy(notes->arena, record.priv), notes->arena), "reason");
        if (jv_is(reason, JSON_STRING))
            notes->reason = jv_raw(reason);
    }
    return true;
}

static void put_notes(struct inspect *in, struct jw *w)
{
    struct replay_notes notes = { .arena = &in->call->arena };
    struct buf          list = { 0 };
    for (size_t i = 0; i < in->attempt_count; i++)
        (void)reader_frames(in->call->reader, in->attempts[i].stream, 0, SIZE_MAX, note_frame, &notes);
    jw_key(w, "reason");
    jw_raw(w, notes.reason); /* none: null */
    jw_key(w, "divergences");
    BUF_LIT(&list, "[");
    buf_span(&list, buf_view(&notes.divergences));
    BUF_LIT(&list, "]");
    jw_raw(w, buf_view(&list));
    buf_done(&list);
    buf_done(&notes.divergences);
}

static void put_replay(struct inspect *in, struct jw *w)
{
    const struct run_row *run = &in->run;
    struct query query = { .table = TABLE_run, .eq_count = 2, .order_column = "id", .limit = 100 };
    int64_t      count = 0;
    query.eq[0].column = "replayed_from";
    query.eq[0].uuid = run->id;
    query.eq[1].column = "workspace";
    query.eq[1].uuid = run->workspace;
    (void)reader_count(in->call->reader, &query, &count);
    jw_key(w, "replay");
    jw_obj(w);
    if (!uuid_is_nil(run->replayed_from)) {
        put_id(w, "replayed_from_run_id", run->replayed_from);
        put_id(w, "replayed_from_checkpoint_id", run->replayed_checkpoint);
        jw_key(w, "replay_mode");
        jw_cstr(w, run->replay_mode ? "strict" : "best_effort");
        put_notes(in, w);
    }
    if (count) {
        jw_key(w, "replays");
        jw_arr(w);
        (void)reader_query(in->call->reader, &query, put_replay_run, w);
        jw_arr_end(w);
    }
    jw_end(w);
}

struct failure_out {
    struct jw     *w;
    struct call   *call;
    bool           shown;
};

static bool put_one_failure(void *user, const void *row)
{
    struct failure_out *out = user;
    render_failure(out->w, out->call, row);
    out->shown = true;
    return false;
}

static void put_failure(struct inspect *in, struct jw *w)
{
    struct failure_out out = { .w = w, .call = in->call };
    struct query       query = { .table = TABLE_failure, .eq_count = 1, .order_column = "id", .descending = true, .limit = 1 };
    query.eq[0].column = "run";
    query.eq[0].uuid = in->run.id;
    jw_key(w, "failure");
    (void)reader_query(in->call->reader, &query, put_one_failure, &out);
    if (out.shown)
        return;
    jw_obj(w);
    jw_end(w);
}

static enum err put_inspection(struct inspect *in)
{
    struct jw *w = &in->call->w;
    jw_obj(w);
    jw_key(w, "run");
    jw_obj(w);
    render_run(w, &in->run, 0);
    jw_end(w);
    put_replay(in, w);
    put_failure(in, w);
    enum err e = put_attempts(in, w);
    jw_key(w, "node_executions");
    jw_arr(w);
    const struct execution *all = (const struct execution *)(const void *)in->executions.p;
    for (size_t i = 0; i < in->executions.len / sizeof *all; i++)
        put_execution(in, w, &all[i]);
    jw_arr_end(w);
    jw_key(w, "events");
    struct buf list = { 0 };
    BUF_LIT(&list, "[");
    buf_span(&list, buf_view(&in->events));
    BUF_LIT(&list, "]");
    jw_raw(w, buf_view(&list));
    buf_done(&list);
    if (in->truncated) {
        jw_key(w, "events_truncated");
        jw_bool(w, true);
    }
    jw_end(w);
    return e;
}

void runs_inspection(struct call *call)
{
    struct inspect in = { .call = call, .run = { .workspace = call->workspace } };
    enum err       e = call_path_uuid(call, 0, &in.run.id) ? reader_get(call->reader, TABLE_run, &in.run) : ERR_NOT_FOUND;
    if (e == ERR_NOT_FOUND) {
        call_fail(call, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
        return;
    }
    if (!e)
        e = attempts_read(call->reader, &in.run, &call->arena, &in.attempts, &in.attempt_count);
    if (!e)
        e = origins_read(call->reader, &in.run, &call->arena, &in.origins);
    fill_latest(call->reader, &in.run);
    in.ref = attempt_ref_make(in.run.id, in.run.attempt, in.run.root_operation, in.run.parent_operation);
    if (!e)
        e = put_inspection(&in);
    buf_done(&in.executions);
    buf_done(&in.events);
    if (!e) {
        call_send(call, 200);
        return;
    }
    call->out.len = 0;
    call->w = jw_on(&call->out);
    call_fail(call, ERR_STORAGE, "", "the run cannot be read");
}
