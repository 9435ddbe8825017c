/* SPDX-License-Identifier: Apache-2.0 */
/* effects.c - what a machine asked for: recorded in order, remembered, carried out after the commit (model.md 7).
 *
 * The same code runs live and in a fold: run_record appends in the one case and compares in the other, and what would leave
 * the process (calls, rows, children) is skipped while run->fold is set. */
#include "run/inner.h"
#include <stdlib.h>

struct op *run_op(struct run *run, const struct op_path *path)
{
    for (uint32_t i = run->op_count; i-- > 0;)
        if (op_path_eq(&run->ops[i].path, path))
            return &run->ops[i];
    return NULL;
}

struct op *run_op_new(struct run *run, const struct op_path *path, uint32_t parent, struct span node, bool top)
{
    if (run->op_count == run->op_cap) {
        run->op_cap = run->op_cap ? run->op_cap * 2 : 8;
        run->ops = mem_grow(run->ops, run->op_cap * sizeof *run->ops);
    }
    struct op *op = &run->ops[run->op_count++];
    *op = (struct op){ .path = *path, .no = ++run->op_next, .parent = parent, .top = top, .started_us = run->now_us,
                       .node = arena_copy(&run->host_arena, node) };
    return op;
}

void run_op_drop(struct run *run, const struct op_path *path)
{
    struct op *op = run_op(run, path);
    if (op)
        *op = run->ops[--run->op_count];
}

/* The node that `path` is or lies in; number 0: the run itself. A node that has just finished is still found. */
struct op run_node_of(struct run *run, struct op_path path)
{
    for (; path.n > 0; path.n--) {
        struct op *op = run_op(run, &path);
        if (op && op->node_exec)
            return *op;
        if (run->finished.no && op_path_eq(&run->finished.path, &path))
            return run->finished;
    }
    return (struct op){ 0 };
}

static uint32_t parent_op(struct run *run, struct op_path path)
{
    if (path.n)
        path.n--;
    return run_node_of(run, path).no;
}

static void put_operation(struct run *run, struct jw *w, const char *name, uint32_t op)
{
    struct uuid id = operation_id(run->row.id, run->row.attempt, op);
    jw_key(w, name);
    jw_uuid(w, &id);
}

/* An error object of the machine, with the node's members behind its own. */
static void put_node_error(struct run *run, struct jw *w, struct span error, struct span node, uint32_t op)
{
    struct jv root = json_read(error, &run->engine->turn);
    jw_key(w, "error");
    jw_obj(w);
    for (struct jv_iter it = jv_iter(root); jv_step(&it);) {
        if (jv_str_eq(it.name, "node") || jv_str_eq(it.name, "node_execution_id"))
            continue;
        jw_key_span(w, jv_string(it.name, &run->engine->turn));
        jw_raw(w, jv_raw(it.value));
    }
    jw_key(w, "node");
    jw_str(w, node);
    put_operation(run, w, "node_execution_id", op);
    jw_end(w);
}

/* ---- nodes ---- */

static void node_start(struct run *run, const struct effect *fx)
{
    struct op *op = run_op_new(run, &fx->op, parent_op(run, fx->op), fx->node, fx->top);
    uint32_t   no = op->no, parent = op->parent;
    op->node_exec = true;
    op->counted = run->fold != NULL;
    op->try_no = fx->node_.try_no;
    op->ref = arena_copy(&run->host_arena, fx->node_.capability_ref);
    op->version = arena_copy(&run->host_arena, fx->node_.capability_version);
    op->binding = arena_copy(&run->host_arena, fx->node_.execution_binding);
    struct jw  w = payload_begin(run->engine, fx->node);
    put_operation(run, &w, "node_execution_id", no);
    jw_key(&w, "capability_ref");
    jw_str(&w, fx->node_.capability_ref);
    jw_key(&w, "capability_version");
    jw_str(&w, fx->node_.capability_version);
    jw_key(&w, "execution_binding");
    jw_str(&w, fx->node_.execution_binding);
    jw_key(&w, "step");
    jw_u64(&w, fx->node_.step);
    jw_key(&w, "try_no");
    jw_u64(&w, fx->node_.try_no);
    run_record(run, REC_NODE_STARTED, 0, fx->top, no, parent, payload_end(run->engine, &w), SPAN_NONE, NULL);
}

static void node_finish(struct run *run, const struct effect *fx)
{
    struct op *op = run_op(run, &fx->op);
    uint32_t   no = op ? op->no : 0, parent = op ? op->parent : 0;
    uint64_t   started = op ? op->started_us : run->now_us;
    struct jw  w = payload_begin(run->engine, fx->node);
    put_operation(run, &w, "node_execution_id", no);
    jw_key(&w, "duration_ms");
    jw_u64(&w, (run->now_us - started) / 1000);
    bool cut = payload_value(&w, "output", fx->node_.output);
    if (op)
        cost_put(&w, &op->cost);
    run_record(run, REC_NODE_FINISHED, 0, fx->top ? 2 : 0, no, parent, payload_end(run->engine, &w),
               cut ? fx->node_.output : SPAN_NONE, NULL);
    if (op) {
        stat_node(run, op, STAT_OK, SPAN_NONE);
        run->finished = *op; /* its checkpoint marker follows */
    }
    receipt_node_finished(run, fx->node);
    run_steps_drop(run, &fx->op);
    run_op_drop(run, &fx->op);
}

/* A node failed for good and the run goes on: a failure of its own. */
static void contained(struct run *run)
{
    if (run->failing.no)
        failure_put(run, FAILURE_NODE, FAILURE_OPEN, &run->failing, run->failing_error);
    run->failing = (struct op){ .no = 0 };
}

static void node_fail(struct run *run, const struct effect *fx)
{
    struct op *op = run_op(run, &fx->op);
    uint32_t   no = op ? op->no : 0, parent = op ? op->parent : 0;
    struct jw  w = payload_begin(run->engine, fx->node);
    put_operation(run, &w, "node_execution_id", no);
    put_node_error(run, &w, fx->node_.error, fx->node, no);
    jw_key(&w, "will_retry");
    jw_bool(&w, fx->node_.will_retry);
    if (op)
        cost_put(&w, &op->cost);
    run_record(run, REC_NODE_FAILED, 0, fx->top && !fx->node_.will_retry, no, parent, payload_end(run->engine, &w), SPAN_NONE,
               NULL);
    if (op)
        stat_node(run, op, STAT_FAILED, fx->node_.error);
    if (op && fx->node_.will_retry) {
        failure_put(run, FAILURE_NODE, FAILURE_RETRIED, op, fx->node_.error);
    } else if (op) { /* does it bring the run down? The rest of the step tells */
        contained(run);
        run->failing = *op;
        run->failing_error = arena_copy(&run->engine->turn, fx->node_.error);
    }
    run_steps_drop(run, &fx->op);
    run_op_drop(run, &fx->op);
}

static void node_cancel(struct run *run, const struct effect *fx)
{
    struct op *op = run_op(run, &fx->op);
    uint32_t   no = op ? op->no : 0, parent = op ? op->parent : 0;
    struct jw  w = payload_begin(run->engine, fx->node);
    put_operation(run, &w, "node_execution_id", no);
    jw_key(&w, "reason");
    jw_raw(&w, fx->node_.error);
    run_record(run, REC_NODE_CANCELLED, 0, 0, no, parent, payload_end(run->engine, &w), SPAN_NONE, NULL);
    if (op)
        stat_node(run, op, STAT_CANCELLED, SPAN_NONE);
    run_steps_drop(run, &fx->op);
    run_op_drop(run, &fx->op);
}

static void node_wait(struct run *run, const struct effect *fx)
{
    const struct op *op = run_op(run, &fx->op);
    struct op        node = op ? *op : (struct op){ .path = fx->op };
    wait_note(run, &node, fx->node, fx->node_.error, false);
}

static void apply_node(struct run *run, const struct effect *fx)
{
    switch (fx->node_.event) {
    case NODE_START:  node_start(run, fx); break;
    case NODE_FINISH: node_finish(run, fx); break;
    case NODE_FAIL:   node_fail(run, fx); break;
    case NODE_CANCEL: node_cancel(run, fx); break;
    case NODE_WAIT:   node_wait(run, fx); break;
    }
}

/* ---- steps of model calls (model.md 4, wf_step) ---- */

void run_step_note(struct run *run, struct op_path of, uint32_t step, uint32_t model_op)
{
    for (uint32_t i = 0; i < run->step_count; i++)
        if (op_path_eq(&run->steps[i].of, &of)) {
            run->steps[i].step = step;
            run->steps[i].model_op = model_op;
            return;
        }
    if (run->step_count == run->step_cap) {
        run->step_cap = run->step_cap ? run->step_cap * 2 : 4;
        run->steps = mem_grow(run->steps, run->step_cap * sizeof *run->steps);
    }
    run->steps[run->step_count++] = (struct wf_steps){ .of = of, .step = step, .model_op = model_op };
}

/* Counted over the outermost node, in the order of completion. */
void run_step_finished(struct run *run, const struct op_path *call, uint32_t model_op)
{
    struct op_path path = { .n = 0 }, of = *call;
    struct op     *top = NULL;
    while (!top && path.n < call->n) {
        path.v[path.n] = call->v[path.n];
        path.n++;
        top = run_op(run, &path);
        if (top && !top->node_exec)
            top = NULL;
    }
    of.n--;
    run_step_note(run, of, top ? top->wf_steps : 0, model_op);
    if (top)
        top->wf_steps++;
}

void run_steps_drop(struct run *run, const struct op_path *node)
{
    for (uint32_t i = run->step_count; i-- > 0;)
        if (op_path_under(&run->steps[i].of, node))
            run->steps[i] = run->steps[--run->step_count];
}

/* ---- calls, timers, children, waits ---- */

/* What other dialects want to know of a call: whose turn it is, and what it was asked. */
static struct span labels_priv(struct engine *engine, const struct effect *fx)
{
    if (!fx->model.labels.n)
        return SPAN_NONE;
    engine->scratch_priv.len = 0;
    buf_printf(&engine->scratch_priv, "{\"labels\":%.*s}", SPAN_ARG(fx->model.labels));
    return buf_view(&engine->scratch_priv);
}

static void apply_model(struct run *run, const struct effect *fx)
{
    struct op *op = run_op_new(run, &fx->op, parent_op(run, fx->op), fx->node, fx->top);
    struct inflight *call = mem_alloc(sizeof *call);
    call->run = run;
    call->path = fx->op;
    call->op = op->no;
    call->on_node = fx->model.on_node;
    call->delta_op = call->on_node ? op->parent : op->no;
    call->delta_parent = call->on_node ? 0 : op->parent;
    call->top = fx->top;
    call->streams = fx->model.stream;
    call->labelled = fx->model.labels.n > 0;
    call->started_us = run->now_us;
    call->node = arena_copy(&run->host_arena, fx->node);
    call->provider = arena_copy(&run->host_arena, fx->model.provider);
    call->model = arena_copy(&run->host_arena, fx->model.model);
    if (run->engine->config.models) /* what the call costs depends on who gets it */
        models_route(run->engine->config.models, &run->host_arena, &call->provider, &call->model);
    call->request = arena_copy(&run->host_arena, fx->model.request);
    call->retry = arena_copy(&run->host_arena, fx->model.retry);
    call->tries = 1;
    struct jw w = payload_begin(run->engine, fx->node);
    jw_key(&w, "model");
    jw_str(&w, fx->model.model.n ? fx->model.model : fx->model.provider);
    put_operation(run, &w, "call_id", op->no);
    run_record(run, REC_MODEL_STARTED, 0, 0, op->no, op->parent, payload_end(run->engine, &w), labels_priv(run->engine, fx), NULL);
    call->next = run->calls;
    run->calls = call;
    if (!run->fold && !replay_is_strict(run) && !replay_broken(run) && money_admit_model(run, call) == ADMIT_GO)
        inflight_begin(run, call, 0);
}

static void clear_timer(struct run *run, const struct op_path *path)
{
    for (struct timer **p = &run->timers; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, path)) {
            struct timer *gone = *p;
            *p = gone->next;
            free(gone);
            return;
        }
}

static void apply_timer(struct run *run, const struct effect *fx)
{
    clear_timer(run, &fx->op);
    if (fx->timer.clear)
        return;
    struct timer *timer = mem_alloc(sizeof *timer);
    timer->path = fx->op;
    timer->due_us = fx->timer.due_us;
    timer->next = run->timers;
    run->timers = timer;
}

/* The child's run is made in the same commit; what cannot be made answers at once as a failed child. */
static struct uuid make_child(struct run *run, const struct effect *fx, uint32_t op, struct error *error)
{
    struct run_spec spec = { .tenant = run->row.tenant, .workspace = run->row.workspace, .source = SOURCE_HANDOFF,
                             .parent_run = run->row.id, .parent_op = op, .root_operation = run->row.root_operation };
    spec.parent_operation = operation_id(run->row.id, run->row.attempt, op);
    spec.input = fx->child.input.n ? fx->child.input : SPAN_NONE;
    struct run_row child = { 0 };
    if (!uuid_parse(fx->child.agent, &spec.agent))
        error_set(error, ERR_AGENT_NOT_FOUND, "agent_id", "no agent %.*s in this workspace", SPAN_ARG(fx->child.agent));
    else if (!run_create(run->engine, &spec, &child, error))
        return child.id;
    return (struct uuid){ 0 };
}

static void apply_child(struct run *run, const struct effect *fx)
{
    struct op    node = run_node_of(run, fx->op);
    uint32_t     op = node.no;
    struct error error = { 0 };
    struct uuid  made = run->fold || replay_is_strict(run) ? (struct uuid){ 0 } : make_child(run, fx, op, &error);
    struct jw    w = payload_begin(run->engine, fx->node);
    jw_key(&w, "child_run_id");
    if (uuid_is_nil(made))
        jw_null(&w);
    else
        jw_uuid(&w, &made);
    jw_key(&w, "child_agent_id");
    jw_str(&w, fx->child.agent);
    struct span pub = SPAN_NONE;
    stat_handoff(run, run_record(run, REC_CHILD_STARTED, 0, 0, op, node.parent, payload_end(run->engine, &w), SPAN_NONE, &pub));
    struct child *child = mem_alloc(sizeof *child);
    child->path = fx->op;
    child->op = op;
    child->node = arena_copy(&run->host_arena, fx->node);
    child->agent = arena_copy(&run->host_arena, fx->child.agent);
    child->run = made;
    if (run->fold)
        uuid_parse(jv_string(jv_get(json_read(pub, &run->engine->turn), "child_run_id"), &run->engine->turn), &child->run);
    child->next = run->children;
    run->children = child;
    if (!run->fold && error.code) {
        struct arena *arena = &run->engine->turn;
        struct span   object = error_json(arena, err_info(error.code)->ar_code, "not_found", "agent", false, error.message);
        struct span   value = arena_printf(arena, "{\"status\":\"failed\",\"error\":%.*s}", SPAN_ARG(object));
        run_input(run, &(struct pending_input){ .kind = IN_CHILD, .err = ERR_CHILD, .path = fx->op, .op = op, .node = fx->node,
                                                .value = value });
    }
}

/* ---- the rest ---- */

static const char *const checkpoint_kinds[] = { "start", "node", "human", "final" };

/* The last checkpoint comes right before the end: what the run ends with is known. */
static struct span output_behind(const struct run *run, const struct effect *fx)
{
    bool ends = fx + 1 < run->effects.items + run->effects.count && fx[1].kind == FX_FINISH;
    return ends ? fx[1].finish.output : SPAN_NONE;
}

static void apply_checkpoint(struct run *run, const struct effect *fx)
{
    struct engine *engine = run->engine;
    if (!run->fold && fx->checkpoint.kind == CHECKPOINT_FINAL && !replay_finish(run, fx->checkpoint.hashed, output_behind(run, fx)))
        return;
    bool           of_node = fx->checkpoint.kind == CHECKPOINT_NODE || fx->checkpoint.kind == CHECKPOINT_HUMAN;
    struct op      node = of_node ? run_node_of(run, fx->op) : (struct op){ 0 };
    uint64_t       seq = run->fold ? 0 : stream_head(run->stream) + 1 + run->announce_recovery;
    struct uuid    id = checkpoint_id(run->row.attempt, seq);
    struct sha256  hash = sha256_of(fx->checkpoint.hashed);
    struct buf     text = { 0 };
    BUF_LIT(&text, "sha256:");
    buf_hex(&text, hash.b, sizeof hash.b);
    struct jw w = payload_begin(engine, of_node ? fx->node : SPAN_NONE);
    jw_key(&w, "checkpoint_id");
    jw_uuid(&w, &id);
    jw_key(&w, "kind");
    jw_cstr(&w, checkpoint_kinds[fx->checkpoint.kind]);
    jw_key(&w, "step");
    jw_u64(&w, fx->checkpoint.step);
    jw_key(&w, "state_hash");
    jw_str(&w, buf_view(&text));
    buf_done(&text);
    struct span pub = payload_end(engine, &w);
    engine->scratch_priv.len = 0;
    buf_printf(&engine->scratch_priv, "{\"n\":%zu}", fx->checkpoint.hashed.n); /* the size of the state, for the index */
    seq = run_record(run, REC_CHECKPOINT, 0, 0, node.no, node.parent, pub, buf_view(&engine->scratch_priv), NULL);
    if (run->fold && seq && seq == run->fold->until)
        run->fold->hashed = arena_copy(run->fold->arena, fx->checkpoint.hashed);
    run->row.checkpoint_seq = (int64_t)seq;
}

static void apply_state(struct run *run, const struct effect *fx)
{
    struct jw w = payload_begin(run->engine, fx->node);
    payload_value(&w, "patch", fx->state.patch);
    struct op node = run_node_of(run, fx->op);
    run_record(run, REC_STATE_UPDATED, 0, 0, node.no, node.parent, payload_end(run->engine, &w), SPAN_NONE, NULL);
}

static void apply_emit(struct run *run, const struct effect *fx)
{
    struct jw w = payload_begin(run->engine, fx->node);
    jw_key(&w, "name");
    jw_str(&w, fx->emit.name);
    bool cut = payload_value(&w, "value", fx->emit.value);
    struct op node = run_node_of(run, fx->op);
    run_record(run, REC_CUSTOM, 0, 0, node.no, node.parent, payload_end(run->engine, &w), cut ? fx->emit.value : SPAN_NONE, NULL);
}

void run_abort_under(struct run *run, const struct op_path *prefix)
{
    inflight_cancel_under(run, prefix);
    tool_abort_under(run, prefix);
    for (struct timer **p = &run->timers; *p;) {
        struct timer *t = *p;
        if (!op_path_under(&t->path, prefix)) {
            p = &t->next;
            continue;
        }
        *p = t->next;
        free(t);
    }
    for (struct child **p = &run->children; *p;) {
        struct child *c = *p;
        if (!op_path_under(&c->path, prefix)) {
            p = &c->next;
            continue;
        }
        *p = c->next;
        if (!run->fold && !uuid_is_nil(c->run)) {
            struct run_row row;
            bool           already;
            (void)run_cancel(run->engine, run->row.workspace, c->run, SPAN("parent_cancelled"), SPAN("parent"), &row, &already, NULL);
        }
        free(c);
    }
    for (struct open_wait **p = &run->waits; *p;) {
        struct open_wait *wait = *p;
        if (!op_path_under(&wait->path, prefix)) {
            p = &wait->next;
            continue;
        }
        *p = wait->next;
        wait->row.status = WAIT_CANCELLED;
        wait->row.decided_ms = engine_now_ms(run->engine);
        if (!run->fold)
            batch_put(engine_batch(run->engine), TABLE_wait, &wait->row);
        free(wait);
    }
}

static bool apply(struct run *run, const struct effect *fx)
{
    switch (fx->kind) {
    case FX_NODE:       apply_node(run, fx); break;
    case FX_MODEL:      apply_model(run, fx); break;
    case FX_WAIT:       wait_apply(run, fx); break;
    case FX_TIMER:      apply_timer(run, fx); break;
    case FX_CHILD:      apply_child(run, fx); break;
    case FX_ABORT:      run_abort_under(run, &fx->op); break;
    case FX_EMIT:       apply_emit(run, fx); break;
    case FX_STATE:      apply_state(run, fx); break;
    case FX_CHECKPOINT: apply_checkpoint(run, fx); break;
    case FX_FINISH:     run_finish(run, fx->finish.output, fx->finish.values); return false;
    case FX_FAIL:       run_fail(run, fx->fail.error); return false;
    case FX_TOOL:       tool_apply(run, fx); break;
    }
    return !run->gone && !(run->fold && run->fold->err) && !replay_broken(run);
}

void run_effects(struct run *run)
{
    for (size_t i = 0; i < run->effects.count; i++)
        if (!apply(run, &run->effects.items[i]))
            break;
    run->effects.count = 0;
    if (!run->gone && !(run->fold && run->fold->err) && !replay_broken(run))
        wait_note_rest(run);
    if (!run->fold && !run->gone && replay_broken(run))
        replay_break(run);
    if (run->fold || run->gone)
        run->failing = (struct op){ .no = 0 };
    else
        contained(run);
}
