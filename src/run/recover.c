/* SPDX-License-Identifier: Apache-2.0 */
/* recover.c - a run comes back: its snapshot, then its recorded inputs through the machine (model.md 7.2).
 *
 * The fold feeds what was recorded and takes for each effect the record that it made when it happened. The first difference is
 * a divergence: such a run fails with worker_lost and can be retried; nothing is guessed. */
#include "run/inner.h"
#include <stdlib.h>

/* ---- the fold ---- */

static void diverge(struct run *run, const char *what)
{
    struct fold *fold = run->fold;
    if (!fold->err)
        fold->err = error_set(&fold->error, ERR_CORRUPT, "", "the ledger does not fit the machine: %s", what);
}

static struct inflight *call_of(struct run *run, const struct record *record)
{
    for (struct inflight *c = run->calls; c; c = c->next)
        if (c->delta_op == record->op)
            return c;
    return NULL;
}

static void count_delta(struct run *run, const struct record *record)
{
    struct inflight *call = call_of(run, record);
    if (!call)
        return;
    call->chunks[record->delta_kind] = record->index + 1;
    call->texts += record->delta_kind == DELTA_TEXT && record->text.n > 0 && call->streams && !call->on_node; /* as inflight_chunk */
}


/* A call that a budget holds back until a person has answered. */
static void fold_budget(struct run *run, const struct record *record)
{
    struct jv pub = json_read(record->pub, run->fold->arena);
    bool      held = jv_str_eq(jv_get(pub, "action"), "ask");
    for (struct inflight *c = run->calls; c; c = c->next)
        c->held = c->op == record->op ? held : c->held;
    for (struct tool_flight *t = run->tools; t; t = t->next)
        t->held = t->op == record->op ? held : t->held;
}

/* What the host recorded on its own account, amid or behind the machine's effects. */
static bool fold_host(struct run *run, const struct record *record)
{
    if (record->type == REC_BUDGET)
        fold_budget(run, record);
    if (record->type == REC_DIVERGED || record_info(record->type)->class_ == 'H')
        return true;
    if (record_info(record->type)->class_ != 'E' || !record_by_host(record))
        return false;
    if (record->type == REC_WAIT_OPENED)
        wait_fold_host(run, record);
    return true;
}

/* A person's answer to the host: the question is over, and what it was about is in flight again. */
static void fold_host_answer(struct run *run, const struct record *record)
{
    struct op_path      path = fold_recorded(record, run->fold->arena).op;
    struct open_wait   *wait = wait_at(run, &path);
    struct op_path      of = tool_of_wait(path);
    struct tool_flight *call = tool_flight_at(run, &of);
    if (!wait) {
        diverge(run, "an answer without its question");
        return;
    }
    if (wait->row.kind == WAIT_RECEIPT && call)
        call->unknown = false;
    for (struct inflight *c = run->calls; c && wait->row.kind == WAIT_BUDGET; c = c->next)
        c->held = false; /* what is still held says so again */
    for (struct tool_flight *t = run->tools; t && wait->row.kind == WAIT_BUDGET; t = t->next)
        t->held = false;
    wait_close(run, wait, WAIT_APPROVED, SPAN_NONE, SPAN_NONE);
}

bool fold_take(struct run *run, enum record_type type, uint32_t op, uint64_t *ret_seq, struct span *ret_pub)
{
    struct fold *fold = run->fold;
    while (fold->at < fold->count && fold_host(run, &fold->records[fold->at])) /* the host's word, not the machine's */
        fold->at++;
    if (fold->err || fold->at == fold->count || fold->records[fold->at].type != type || fold->records[fold->at].op != op) {
        diverge(run, record_info(type)->ar_type);
        return false;
    }
    const struct record *record = &fold->records[fold->at++];
    *ret_seq = record->seq;
    if (ret_pub)
        *ret_pub = record->pub;
    return true;
}

/* What the host recorded when a call failed or was lost and it made it again: the call goes on under another operation. */
static void superseded(struct run *run, const struct record *record)
{
    struct jv   priv = json_read(record->priv, run->fold->arena);
    struct cost cost = cost_read(priv);
    int64_t     due = 0, try_no = 0;
    for (struct inflight *c = run->calls; c; c = c->next)
        if (c->op == record->op) {
            c->lost = true;
            if (jv_i64(jv_get(priv, "due"), &due))
                c->due_us = (uint64_t)due;
            if (jv_i64(jv_get(priv, "try"), &try_no))
                c->tries = (uint32_t)try_no + 1;
            cost_book(run, &c->path, &cost);
        }
    run->last_wall_ms = record->wall_ms;
    if (jv_i64(jv_get(priv, "us"), &due) && (uint64_t)due > run->now_us)
        run->now_us = (uint64_t)due;
}

static void supersede(struct run *run, const struct record *record)
{
    struct arena *arena = run->fold->arena;
    struct uuid   old = { { 0 } };
    uuid_parse(jv_string(jv_get(json_read(record->pub, arena), "supersedes_call_id"), arena), &old);
    for (struct inflight *c = run->calls; c; c = c->next)
        if (c->lost && uuid_eq(operation_id(run->row.id, run->row.attempt, c->op), old)) {
            struct op *op = run_op(run, &c->path);
            c->lost = false;
            c->op = record->op;
            if (!c->on_node)
                c->delta_op = record->op;
            memset(c->chunks, 0, sizeof c->chunks);
            c->texts = 0;
            run->op_next = record->op > run->op_next ? record->op : run->op_next;
            if (op)
                op->no = record->op;
            return;
        }
    diverge(run, "MODEL_STARTED");
}

/* Drops what the input answers from what is in flight; the machine gets it next. */
static void forget_answered(struct run *run, const struct record *record, const struct op_path *path)
{
    if (record->type == REC_MODEL_FINISHED || record->type == REC_MODEL_FAILED) {
        for (struct inflight **p = &run->calls; *p; p = &(*p)->next)
            if (op_path_eq(&(*p)->path, path)) {
                struct inflight *call = *p;
                *p = call->next;
                struct cost cost = cost_read(json_read(record->priv, run->fold->arena));
                cost_book(run, path, &cost);
                if (record->type == REC_MODEL_FINISHED && !call->on_node)
                    run_step_finished(run, path, call->op);
                run_op_drop(run, path);
                free(call);
                return;
            }
        diverge(run, "an answer without its call");
    }
    if (record->type == REC_TOOL_FINISHED || record->type == REC_TOOL_FAILED) {
        tool_fold_receipt(run, record, path);
        tool_forget(run, path);
        return;
    }
    for (struct timer **p = &run->timers; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, path)) {
            struct timer *timer = *p;
            *p = timer->next;
            free(timer);
            return;
        }
    for (struct child **p = &run->children; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, path)) {
            struct child *child = *p;
            *p = child->next;
            free(child);
            return;
        }
    for (struct open_wait **p = &run->waits; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, path)) {
            struct open_wait *wait = *p;
            *p = wait->next;
            if (wait->row.kind == WAIT_TOOLS || wait->row.kind == WAIT_ASK)
                tool_drop_unanswered(run, path);
            free(wait);
            return;
        }
}

static struct span start_value(struct run *run, struct jv priv)
{
    struct buf start = { 0 };
    struct jw  w = jw_on(&start);
    jw_obj(&w);
    if (run->row.input.p) {
        jw_key(&w, "input");
        jw_raw(&w, run->row.input);
    }
    jw_key(&w, "values");
    jw_raw(&w, jv_raw(jv_get(priv, "values")));
    jw_end(&w);
    struct span kept = arena_copy(run->fold->arena, buf_view(&start));
    buf_done(&start);
    return kept;
}

static enum input_kind input_of(const struct record *record, struct jv pub)
{
    switch (record->type) {
    case REC_RUN_STARTED:    return IN_START;
    case REC_MODEL_FINISHED:
    case REC_MODEL_FAILED:   return IN_MODEL;
    case REC_TOOL_FINISHED:
    case REC_TOOL_FAILED:    return IN_TOOL;
    case REC_WAIT_CLOSED:    return IN_ANSWER;
    case REC_TIMER_FIRED:    return jv_bool(jv_get(pub, "expired"), false) ? IN_ANSWER : IN_TIMER;
    case REC_CHILD_FINISHED: return IN_CHILD;
    default:                 return IN_MESSAGE;
    }
}

static enum err error_of(const struct record *record, enum input_kind kind, struct jv pub, struct jv priv)
{
    struct jv name = jv_get(priv, "e");
    for (int e = 1; e < ERR_COUNT && jv_is(name, JSON_STRING); e++)
        if (jv_str_eq(name, err_info((enum err)e)->name))
            return (enum err)e;
    if (record->type == REC_MODEL_FAILED)
        return ERR_MODEL;
    if (record->type == REC_TOOL_FAILED)
        return ERR_TOOL;
    if (record->type == REC_TIMER_FIRED && kind == IN_ANSWER)
        return ERR_EXPIRED;
    if (record->type == REC_CHILD_FINISHED && !jv_str_eq(jv_get(pub, "status"), "completed"))
        return ERR_CHILD;
    return ERR_OK;
}

struct input fold_recorded(const struct record *record, struct arena *arena)
{
    struct jv priv = record->priv.p ? json_read(record->priv, arena) : (struct jv){ .doc = NULL }, pub = json_read(record->pub, arena);
    int64_t   us = 0;
    jv_i64(jv_get(priv, "us"), &us);
    enum input_kind kind = input_of(record, pub);
    struct input    in = { .kind = kind, .seq = record->seq, .wall_ms = record->wall_ms, .elapsed_us = (uint64_t)us,
                           .err = error_of(record, kind, pub, priv), .value = jv_raw(jv_get(priv, "v")) };
    path_read(jv_get(priv, "p"), &in.op);
    return in;
}

bool fold_superseded(const struct record *record, struct arena *arena)
{
    return record->type == REC_MODEL_FAILED && record->priv.p && jv_bool(jv_get(json_read(record->priv, arena), "superseded"), false);
}

/* The checkpoint looked for lies in the step of this input: the machine is to stop behind it. */
static void stop_at_checkpoint(struct run *run)
{
    const struct fold *fold = run->fold;
    uint32_t           count = 0;
    run->effects.stop_after_checkpoints = 0;
    for (size_t i = fold->at; fold->cut && i < fold->count && record_info(fold->records[i].type)->class_ != 'I'; i++) {
        count += fold->records[i].type == REC_CHECKPOINT;
        if (fold->records[i].seq == fold->until)
            run->effects.stop_after_checkpoints = count;
    }
}

static void fold_input(struct run *run, const struct record *record)
{
    struct arena *arena = run->fold->arena;
    struct input  in = fold_recorded(record, arena);
    int64_t       seed = 0;
    if (in.kind == IN_START) {
        struct jv priv = json_read(record->priv, arena);
        jv_i64(jv_get(priv, "seed"), &seed);
        run->seed = (uint64_t)seed;
        in.value = start_value(run, priv);
    } else {
        forget_answered(run, record, &in.op);
    }
    stop_at_checkpoint(run);
    run->last_wall_ms = record->wall_ms;
    if (!run->fold->err)
        run_step(run, &in);
}

static void fold_one(struct run *run, const struct record *record)
{
    switch (record_info(record->type)->class_) {
    case 'D':
        count_delta(run, record);
        break;
    case 'I':
        if (fold_superseded(record, run->fold->arena))
            superseded(run, record);
        else if (record_by_host(record))
            fold_host_answer(run, record);
        else
            fold_input(run, record);
        break;
    case 'E':
        if (record->type == REC_MODEL_STARTED)
            supersede(run, record);
        else if (!fold_host(run, record))
            diverge(run, record_info(record->type)->ar_type);
        break;
    default:
        (void)fold_host(run, record);
        break;
    }
}

struct collect {
    struct buf    records;
    uint64_t      after, until; /* until 0: no end */
    bool          bad, closed;
    struct arena *arena;
};

static bool collect_frame(void *user, const struct frame *frame)
{
    struct collect     *to = user;
    struct span         body = arena_copy(to->arena, frame->body);
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, body);
    struct record       record;
    while (frame_next(&reader, &record))
        if (record.seq > to->after && (!to->until || record.seq <= to->until) && !(to->closed && record.flags & REC_TERMINAL))
            buf_put(&to->records, &record, sizeof record);
    to->bad = to->bad || reader.in.bad;
    return !to->bad && (!to->until || reader.seq <= to->until);
}

/* ---- snapshots: the machine's state and what the host holds for it ---- */

static void key_u64(struct jw *w, const char *name, uint64_t v)
{
    jw_key(w, name);
    jw_u64(w, v);
}

static void key_span(struct jw *w, const char *name, struct span v)
{
    jw_key(w, name);
    jw_str(w, v);
}

static void save_ops(const struct run *run, struct jw *w)
{
    jw_key(w, "ops");
    jw_arr(w);
    for (uint32_t i = 0; i < run->op_count; i++) {
        const struct op *op = &run->ops[i];
        jw_obj(w);
        jw_key(w, "path");
        path_json(w, &op->path);
        key_u64(w, "no", op->no);
        key_u64(w, "parent", op->parent);
        key_u64(w, "us", op->started_us);
        key_u64(w, "steps", op->wf_steps);
        if (op->cost.calls) {
            struct arena scratch = { 0 };
            buf_byte(w->out, ',');
            buf_span(w->out, cost_priv(&scratch, &op->cost));
            arena_done(&scratch);
        }
        jw_key(w, "top");
        jw_bool(w, op->top);
        jw_key(w, "exec");
        jw_bool(w, op->node_exec);
        key_span(w, "node", op->node);
        if (op->node_exec) {
            key_u64(w, "try", op->try_no);
            key_span(w, "ref", op->ref);
            key_span(w, "version", op->version);
            key_span(w, "binding", op->binding);
        }
        jw_end(w);
    }
    jw_arr_end(w);
}

static void save_calls(const struct run *run, struct jw *w)
{
    jw_key(w, "calls");
    jw_arr(w);
    for (const struct inflight *c = run->calls; c; c = c->next) {
        jw_obj(w);
        jw_key(w, "path");
        path_json(w, &c->path);
        key_u64(w, "op", c->op);
        key_u64(w, "delta_op", c->delta_op);
        key_u64(w, "delta_parent", c->delta_parent);
        jw_key(w, "top");
        jw_bool(w, c->top);
        jw_key(w, "on_node");
        jw_bool(w, c->on_node);
        jw_key(w, "streams");
        jw_bool(w, c->streams);
        if (c->labelled) {
            jw_key(w, "labelled");
            jw_bool(w, true);
        }
        key_span(w, "node", c->node);
        key_span(w, "provider", c->provider);
        key_span(w, "model", c->model);
        jw_key(w, "request");
        jw_raw(w, c->request);
        key_u64(w, "us", c->started_us);
        key_span(w, "retry", c->retry);
        key_u64(w, "due", c->due_us);
        key_u64(w, "tries", c->tries);
        jw_key(w, "lost");
        jw_bool(w, c->lost);
        jw_key(w, "held");
        jw_bool(w, c->held);
        key_u64(w, "texts", c->texts);
        jw_key(w, "chunks");
        jw_arr(w);
        for (size_t i = 0; i < ARRAY_LEN(c->chunks); i++)
            jw_u64(w, c->chunks[i]);
        jw_arr_end(w);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void save_rest(const struct run *run, struct jw *w)
{
    jw_key(w, "timers");
    jw_arr(w);
    for (const struct timer *t = run->timers; t; t = t->next) {
        jw_obj(w);
        jw_key(w, "path");
        path_json(w, &t->path);
        key_u64(w, "due", t->due_us);
        jw_end(w);
    }
    jw_arr_end(w);
    jw_key(w, "children");
    jw_arr(w);
    for (const struct child *c = run->children; c; c = c->next) {
        jw_obj(w);
        jw_key(w, "path");
        path_json(w, &c->path);
        key_u64(w, "op", c->op);
        key_span(w, "node", c->node);
        key_span(w, "agent", c->agent);
        jw_key(w, "run");
        jw_uuid(w, &c->run);
        jw_end(w);
    }
    jw_arr_end(w);
    jw_key(w, "waits");
    jw_arr(w);
    for (const struct open_wait *o = run->waits; o; o = o->next) {
        jw_obj(w);
        jw_key(w, "path");
        path_json(w, &o->path);
        jw_key(w, "id");
        jw_uuid(w, &o->row.id);
        key_u64(w, "expires", o->expires_us);
        key_u64(w, "kind", (uint64_t)o->row.kind);
        jw_key(w, "host");
        jw_bool(w, o->host);
        jw_end(w);
    }
    jw_arr_end(w);
}

void run_save_snapshot(struct run *run)
{
    struct engine *engine = run->engine;
    struct buf     machine = { 0 }, body = { 0 };
    if (!run->machine || run->plan->ops->save(run->machine, &machine)) {
        buf_done(&machine);
        return; /* a snapshot is a cache: the ledger has everything */
    }
    struct jw w = jw_on(&body);
    jw_obj(&w);
    key_span(&w, "kind", span_of(run->plan->ops->kind));
    key_u64(&w, "rev", run->plan->ops->rev);
    key_u64(&w, "us", run->now_us);
    key_u64(&w, "seed", run->seed);
    key_u64(&w, "op_next", run->op_next);
    key_u64(&w, "checkpoint", (uint64_t)run->row.checkpoint_seq);
    jw_key(&w, "wall");
    jw_i64(&w, stream_now_ms(run->stream));
    save_ops(run, &w);
    save_calls(run, &w);
    tool_save(run, &w);
    save_rest(run, &w);
    jw_key(&w, "machine");
    jw_raw(&w, buf_view(&machine));
    jw_end(&w);
    if (body.len <= engine->config.snapshot_max) {
        struct snapshot_row row = { .attempt = run->row.attempt, .seq = (int64_t)stream_head(run->stream),
                                    .digest = sha256_of(buf_view(&body)), .body = buf_view(&body) };
        batch_put(engine_batch(engine), TABLE_snapshot, &row);
        run->records_since_snapshot = 0;
    } else {
        run->records_since_snapshot = 0;
        run_fail_code(run, "state_too_large", "internal", false, "the run's state is larger than a snapshot may be");
    }
    buf_done(&machine);
    buf_done(&body);
}

static uint64_t get_u64(struct jv object, const char *name)
{
    int64_t v = 0;
    jv_i64(jv_get(object, name), &v);
    return (uint64_t)v;
}

static struct span get_text(struct run *run, struct jv object, const char *name)
{
    return arena_copy(&run->host_arena, jv_string(jv_get(object, name), &run->host_arena));
}

static void load_calls(struct run *run, struct jv list)
{
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct inflight *c = mem_alloc(sizeof *c);
        c->run = run;
        path_read(jv_get(it.value, "path"), &c->path);
        c->op = (uint32_t)get_u64(it.value, "op");
        c->delta_op = (uint32_t)get_u64(it.value, "delta_op");
        c->delta_parent = (uint32_t)get_u64(it.value, "delta_parent");
        c->top = jv_bool(jv_get(it.value, "top"), false);
        c->on_node = jv_bool(jv_get(it.value, "on_node"), false);
        c->streams = jv_bool(jv_get(it.value, "streams"), false);
        c->labelled = jv_bool(jv_get(it.value, "labelled"), false);
        c->node = get_text(run, it.value, "node");
        c->provider = get_text(run, it.value, "provider");
        c->model = get_text(run, it.value, "model");
        c->request = arena_copy(&run->host_arena, jv_raw(jv_get(it.value, "request")));
        c->started_us = get_u64(it.value, "us");
        c->texts = get_u64(it.value, "texts");
        c->retry = get_text(run, it.value, "retry");
        c->due_us = get_u64(it.value, "due");
        c->tries = (uint32_t)get_u64(it.value, "tries");
        c->tries += !c->tries; /* of an older snapshot */
        c->lost = jv_bool(jv_get(it.value, "lost"), false);
        c->held = jv_bool(jv_get(it.value, "held"), false);
        for (size_t i = 0; i < ARRAY_LEN(c->chunks); i++) {
            int64_t n = 0;
            jv_i64(jv_at(jv_get(it.value, "chunks"), i), &n);
            c->chunks[i] = (uint64_t)n;
        }
        c->next = run->calls;
        run->calls = c;
    }
}

static void load_ops(struct run *run, struct jv list)
{
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct op_path path;
        path_read(jv_get(it.value, "path"), &path);
        struct span node = jv_string(jv_get(it.value, "node"), &run->host_arena);
        struct op  *op = run_op_new(run, &path, (uint32_t)get_u64(it.value, "parent"), node, jv_bool(jv_get(it.value, "top"), false));
        op->no = (uint32_t)get_u64(it.value, "no");
        op->started_us = get_u64(it.value, "us");
        op->wf_steps = (uint32_t)get_u64(it.value, "steps");
        op->cost = cost_read(it.value);
        op->node_exec = jv_bool(jv_get(it.value, "exec"), false);
        op->counted = true; /* with the commit of the snapshot */
        op->try_no = (uint32_t)get_u64(it.value, "try");
        op->ref = get_text(run, it.value, "ref");
        op->version = get_text(run, it.value, "version");
        op->binding = get_text(run, it.value, "binding");
    }
}

static void load_waits(struct run *run, struct jv list)
{
    struct open_wait **tail = &run->waits;
    for (struct jv_iter it = jv_iter(list); jv_step(&it);) {
        struct open_wait *wait = mem_alloc(sizeof *wait);
        path_read(jv_get(it.value, "path"), &wait->path);
        wait->expires_us = get_u64(it.value, "expires");
        wait->row.kind = (int64_t)get_u64(it.value, "kind");
        wait->host = jv_bool(jv_get(it.value, "host"), false);
        uuid_parse(jv_string(jv_get(it.value, "id"), &run->host_arena), &wait->row.id);
        *tail = wait;
        tail = &wait->next;
    }
}

static void load_rest(struct run *run, struct jv body)
{
    for (struct jv_iter it = jv_iter(jv_get(body, "timers")); jv_step(&it);) {
        struct timer *timer = mem_alloc(sizeof *timer);
        path_read(jv_get(it.value, "path"), &timer->path);
        timer->due_us = get_u64(it.value, "due");
        timer->next = run->timers;
        run->timers = timer;
    }
    for (struct jv_iter it = jv_iter(jv_get(body, "children")); jv_step(&it);) {
        struct child *child = mem_alloc(sizeof *child);
        path_read(jv_get(it.value, "path"), &child->path);
        child->op = (uint32_t)get_u64(it.value, "op");
        child->node = get_text(run, it.value, "node");
        child->agent = get_text(run, it.value, "agent");
        uuid_parse(jv_string(jv_get(it.value, "run"), &run->host_arena), &child->run);
        child->next = run->children;
        run->children = child;
    }
}

static enum err load_snapshot(struct run *run, const struct snapshot_row *row, struct arena *arena)
{
    struct sha256 digest = sha256_of(row->body);
    if (memcmp(digest.b, row->digest.b, sizeof digest.b) != 0)
        return ERR_CORRUPT;
    struct jv body = json_read(row->body, arena);
    if (row->seq == 0) /* where a later attempt begins: the machine alone */
        return run->plan->ops->load(run->plan, row->body, &run->machine_arena, &run->machine);
    enum err e = run->plan->ops->load(run->plan, jv_raw(jv_get(body, "machine")), &run->machine_arena, &run->machine);
    if (e)
        return e;
    load_ops(run, jv_get(body, "ops"));
    run->op_next = (uint32_t)get_u64(body, "op_next");
    load_calls(run, jv_get(body, "calls"));
    tool_load(run, body);
    load_rest(run, body);
    load_waits(run, jv_get(body, "waits"));
    run->seed = get_u64(body, "seed");
    run->now_us = get_u64(body, "us");
    run->row.checkpoint_seq = (int64_t)get_u64(body, "checkpoint");
    jv_i64(jv_get(body, "wall"), &run->last_wall_ms);
    return ERR_OK;
}

/* The rows of the waits that are open, for the prompt and its schema. */
static enum err fill_waits(struct run *run, struct reader *reader)
{
    for (struct open_wait *w = run->waits; w; w = w->next) {
        if (reader_get(reader, TABLE_wait, &w->row))
            return ERR_CORRUPT;
        w->row.node = arena_copy(&run->host_arena, w->row.node);
        w->row.prompt = arena_copy(&run->host_arena, w->row.prompt);
        if (w->row.schema_json.p)
            w->row.schema_json = arena_copy(&run->host_arena, w->row.schema_json);
        w->row.call_name = w->row.call_name.n ? arena_copy(&run->host_arena, w->row.call_name) : SPAN_NONE;
        w->row.options = w->row.options.n ? arena_copy(&run->host_arena, w->row.options) : SPAN_NONE;
        w->row.answer = w->row.decided_by = SPAN_NONE;
    }
    return ERR_OK;
}

enum err fold_ledger(struct run *run, struct reader *reader, struct fold *fold)
{
    struct snapshot_row snapshot = { 0 };
    struct collect      collect = { .arena = fold->arena, .until = fold->until, .closed = fold->closed };
    enum err e = reader_snapshot(reader, run->row.attempt, fold->until ? fold->until - 1 : INT64_MAX, &snapshot);
    if (!e)
        e = load_snapshot(run, &snapshot, fold->arena);
    else if (e == ERR_NOT_FOUND)
        e = run->plan->ops->init(run->plan, &run->machine_arena, &run->machine);
    if (!e && !snapshot.seq && run->row.attempt_no > 1 && !fold->until)
        e = receipts_scan(run, reader);
    collect.after = (uint64_t)snapshot.seq;
    if (!e)
        e = reader_frames(reader, (uint64_t)run->row.stream, collect.after, SIZE_MAX, collect_frame, &collect);
    fold->records = (struct record *)(void *)collect.records.p;
    fold->count = collect.records.len / sizeof(struct record);
    fold->err = e ? e : collect.bad ? ERR_CORRUPT : ERR_OK;
    run->fold = fold;
    while (!fold->err && fold->at < fold->count)
        fold_one(run, &fold->records[fold->at++]);
    run->fold = NULL;
    buf_done(&collect.records);
    return fold->err;
}

enum err run_fold(struct run *run, struct reader *reader, struct arena *arena, struct error *error)
{
    run->plan = catalog_plan(run->engine, run->row.plan, error);
    if (!run->plan)
        return ERR_CORRUPT;
    struct fold fold = { .arena = arena };
    (void)fold_ledger(run, reader, &fold);
    run->records_since_snapshot = fold.count;
    if (!fold.err)
        fold.err = fill_waits(run, reader);
    if (fold.err && error)
        *error = fold.error;
    return fold.err;
}

/* ---- going live again ---- */

static void supersede_call(struct run *run, struct inflight *call)
{
    struct engine *engine = run->engine;
    uint32_t       old = call->op;
    struct uuid    old_id = operation_id(run->row.id, run->row.attempt, old);
    struct jw      w = payload_begin(engine, call->node);
    jw_key(&w, "call_id");
    jw_uuid(&w, &old_id);
    jw_key(&w, "error");
    jw_raw(&w, error_json(&engine->turn, "superseded", "infrastructure", "runtime", true, "the engine restarted during the call"));
    jw_key(&w, "will_retry");
    jw_bool(&w, true);
    struct cost lost = call->on_node ? (struct cost){ .usd = 0 } : money_lost(run, call);
    cost_put(&w, &lost);
    struct span priv = arena_printf(&engine->turn, "{\"superseded\":true,%.*s}", SPAN_ARG(cost_priv(&engine->turn, &lost)));
    run_record(run, REC_MODEL_FAILED, 0, call->texts ? 1 : 0, old, call->delta_parent, payload_end(engine, &w), priv, NULL);
    call->lost = true;
    inflight_again(run, call);
}

void run_go_live(struct run *run)
{
    struct engine *engine = run->engine;
    int64_t        away_ms = engine->env->wall_ms(engine->env) - run->last_wall_ms;
    run_set_elapsed(run, run->now_us + (away_ms > 0 ? (uint64_t)away_ms * 1000 : 0));
    run->announce_recovery = stream_head(run->stream) > 0 && run->row.status == RUN_ACTIVE;
    if (run->row.status != RUN_QUEUED && !replay_reopen(run))
        return;
    if (replay_is_strict(run)) { /* its calls were never made */
        run_set_elapsed(run, run->now_us);
        run_ready(run);
        return;
    }
    for (struct inflight *c = run->calls; c; c = c->next) {
        uint64_t skip = 0;
        if (c->lost || c->held) /* its time comes, or its answer */
            continue;
        if (!c->on_node)
            money_reserve(run, c);
        if (model_resumable(engine->config.models, c->provider))
            skip = c->chunks[DELTA_TEXT] + c->chunks[DELTA_REASONING] + c->chunks[DELTA_ARGUMENTS];
        else
            supersede_call(run, c);
        inflight_begin(run, c, skip);
    }
    tool_go_live(run);
    run_arm(run);
}

/* The machine is lost: what was acknowledged stays, the run ends as worker_lost. */
static void lose(struct run *run, const struct error *error)
{
    run_reset_machine(run);
    run_fail_code(run, "worker_lost", "infrastructure", true, error->message[0] ? error->message : "the run could not be recovered");
}

static struct run *bring_back(struct engine *engine, const struct run_row *row, const struct stream_place *place)
{
    struct stream *stream = stream_open(engine->ledger, (uint64_t)row->stream, place);
    struct run    *run = run_new(engine, row); /* shares the stream */
    stream_unref(stream);
    return run;
}

enum err run_unpark(struct engine *engine, struct uuid workspace, struct uuid id, struct run **ret, struct run_row *ret_row,
                    struct error *error)
{
    struct reader *reader = engine_reader(engine);
    struct run_row row = { .workspace = workspace, .id = id };
    if (engine_read_begin(engine))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    enum err e = reader_get(reader, TABLE_run, &row);
    if (e) {
        engine_read_end(engine);
        return e == ERR_NOT_FOUND ? error_set(error, ERR_RUN_NOT_FOUND, "", "no such run in this workspace") : ERR_STORAGE;
    }
    *ret_row = row;
    if (run_terminal((enum run_status)row.status)) {
        engine_read_end(engine);
        return ERR_INVALID_RUN_STATE;
    }
    struct thread *thread = thread_get(engine, workspace, row.thread); /* brings pending runs along */
    struct run    *run = run_find(engine, workspace, id);
    if (!run) {
        struct stream_place place;
        struct error        lost = { 0 };
        e = stream_place_read(reader, (uint64_t)row.stream, &place);
        run = bring_back(engine, &row, &place);
        thread_enter(thread, run);
        engine->stats.runs_parked -= engine->stats.runs_parked > 0;
        parked_forget(engine, id);
        if (e || run_fold(run, reader, &engine->turn, &lost))
            lose(run, &lost);
        else
            run_go_live(run);
    }
    thread_unref(thread);
    engine_read_end(engine);
    if (run->gone) {
        run_row_view(run, ret_row);
        return ERR_INVALID_RUN_STATE;
    }
    *ret = run;
    return ERR_OK;
}

/* ---- at start ---- */

struct found {
    struct uuid workspace, id;
};

static bool collect_run(void *user, const void *row)
{
    const struct run_row *run = row;
    struct found          found = { run->workspace, run->id };
    buf_put(user, &found, sizeof found);
    return true;
}

static bool collect_timer(void *user, const void *row)
{
    buf_put(user, row, sizeof(struct timer_row));
    return true;
}

/* Runs that wait for people cost nothing at a start: they come back when they are asked for. */
enum err engine_recover(struct engine *engine, struct error *error)
{
    struct query query = { .table = TABLE_run, .in_column = "status", .in = { RUN_QUEUED, RUN_ACTIVE, RUN_RESUMED }, .in_count = 3,
                           .order_column = "id", .limit = -1 };
    struct query timers = { .table = TABLE_timer, .order_column = "due_ms", .limit = -1 };
    struct buf   runs = { 0 }, due = { 0 };
    enum err     e = engine_read_begin(engine);
    if (!e) {
        e = reader_query(engine_reader(engine), &query, collect_run, &runs);
        if (!e)
            e = reader_query(engine_reader(engine), &timers, collect_timer, &due);
        engine_read_end(engine);
    }
    const struct timer_row *rows = (const struct timer_row *)(const void *)due.p;
    for (size_t i = 0; !e && i < due.len / sizeof *rows; i++)
        parked_load(engine, rows[i].workspace, rows[i].run, rows[i].due_ms);
    const struct found *found = (const struct found *)(const void *)runs.p;
    for (size_t i = 0; !e && i < runs.len / sizeof *found; i++) {
        struct run    *run = NULL;
        struct run_row row;
        if (!run_load(engine, found[i].workspace, found[i].id, &run, &row, NULL))
            run_ready(run);
    }
    buf_done(&runs);
    buf_done(&due);
    return e ? error_set(error, e, "", "the runs in flight cannot be read") : ERR_OK;
}
