/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - inputs go to the ledger, then through the machine; what it answers goes to the ledger too (model.md 7.1).
 *
 * Inputs of a run are taken one at a time in the order in which they are recorded. Stepping before the commit is allowed
 * because nothing leaves the process before it; when the commit fails the engine stops. */
#include "run/inner.h"
#include <stdio.h>
#include <stdlib.h>

struct span error_json(struct arena *arena, const char *code, const char *category, const char *source, bool retryable,
                       const char *message)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "code");
    jw_cstr(&w, code);
    jw_key(&w, "category");
    jw_cstr(&w, category);
    jw_key(&w, "message");
    jw_cstr(&w, message);
    jw_key(&w, "retryable");
    jw_bool(&w, retryable);
    jw_key(&w, "source");
    jw_cstr(&w, source);
    jw_key(&w, "provider_code");
    jw_null(&w);
    jw_end(&w);
    struct span kept = arena_copy(arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

void run_input(struct run *run, const struct pending_input *input)
{
    struct pending_input *in = mem_alloc(sizeof *in + input->value.n + input->node.n + input->by.n);
    char                 *text = (char *)(in + 1);
    *in = *input;
    in->next = NULL;
    struct { struct span *to; } members[] = { { &in->value }, { &in->node }, { &in->by } };
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct span from = *members[i].to;
        if (from.n)
            memcpy(text, from.p, from.n);
        *members[i].to = (struct span){ from.p ? text : NULL, from.n };
        text += from.n;
    }
    *run->inbox_tail = in;
    run->inbox_tail = &in->next;
    run_ready(run);
}

void run_step(struct run *run, const struct input *in)
{
    run->now_us = in->elapsed_us;
    run->effects.count = 0;
    arena_reset(&run->effects_arena);
    run->effects.arena = &run->effects_arena;
    enum err e = run->plan->ops->step(run->machine, in, &run->effects);
    if (e) {
        run_fail_code(run, "internal_error", "internal", false, "the machine could not take its input");
        return;
    }
    run_effects(run);
}

/* ---- recording inputs: one function per kind makes the record ---- */

static struct span parse_or_null(struct span value)
{
    return value.n ? value : SPAN("null");
}

static void put_call_id(struct run *run, struct jw *w, uint32_t op)
{
    struct uuid id = operation_id(run->row.id, run->row.attempt, op);
    jw_key(w, "call_id");
    jw_uuid(w, &id);
}

static void count_tokens(struct run *run, struct jv usage)
{
    struct engine_stats *stats = &run->engine->stats;
    int64_t              in, out;
    if (run->fold)
        return;
    if (jv_i64(jv_get(usage, "input_tokens"), &in) && in > 0)
        stats->tokens_in += (uint64_t)in;
    if (jv_i64(jv_get(usage, "output_tokens"), &out) && out > 0)
        stats->tokens_out += (uint64_t)out;
}

static void record_model(struct run *run, const struct pending_input *in, struct inflight *call)
{
    struct arena *turn = &run->engine->turn;
    struct jv     value = json_read(in->value, turn);
    struct jw     w = payload_begin(run->engine, call->node);
    put_call_id(run, &w, call->op);
    unsigned    wf;
    struct cost cost = in->err ? cost_of_failed(run, call, in->err, value) : cost_of(run, call, value);
    money_settle(run, call, &cost);
    cost_book(run, &call->path, &cost);
    if (!in->err) {
        count_tokens(run, jv_get(value, "usage"));
        jw_key(&w, "usage");
        jw_raw(&w, jv_is(jv_get(value, "usage"), JSON_OBJECT) ? jv_raw(jv_get(value, "usage")) : SPAN("{}"));
        jw_key(&w, "finish_reason");
        jw_raw(&w, jv_raw(jv_get(value, "finish_reason")));
        jw_key(&w, "model");
        jw_str(&w, call->model.n ? call->model : call->provider);
        cost_put(&w, &cost);
        wf = call->on_node ? 0 : call->texts ? 2 : 1;
    } else {
        payload_value(&w, "error", in->value);
        jw_key(&w, "will_retry");
        jw_bool(&w, false);
        wf = call->texts ? 1 : 0;
    }
    struct span more = cost.calls ? cost_priv(turn, &cost) : SPAN_NONE;
    if (!in->err && !call->on_node) {
        run_step_finished(run, &call->path, call->op);
        struct op_path of = call->path;
        of.n--;
        for (uint32_t i = 0; i < run->step_count; i++)
            if (op_path_eq(&run->steps[i].of, &of))
                more = arena_printf(turn, "\"wf_step\":%u,\"provider\":\"%.*s\",%.*s", run->steps[i].step, SPAN_ARG(call->provider),
                                    SPAN_ARG(more)); /* a provider's name needs no escape */
    }
    struct span pub = payload_end(run->engine, &w);
    struct span priv = input_priv_more(run->engine, run->now_us, &in->path, in->err, more, in->value);
    run_record(run, in->err ? REC_MODEL_FAILED : REC_MODEL_FINISHED, 0, wf, call->op, call->on_node ? call->delta_op : call->delta_parent,
               pub, priv, NULL);
}

/* A timer of a node, or (expired) the time-out of a prompt. */
static void record_timer(struct run *run, const struct pending_input *in, bool expired)
{
    struct op  node = run_node_of(run, in->path);
    struct buf text = { 0 };
    path_text(&in->path, &text);
    struct jw w = payload_begin(run->engine, node.node);
    jw_key(&w, "timer");
    jw_str(&w, buf_view(&text));
    if (expired) {
        jw_key(&w, "expired");
        jw_bool(&w, true);
    }
    buf_done(&text);
    struct span pub = payload_end(run->engine, &w);
    struct span priv = input_priv(run->engine, run->now_us, &in->path, SPAN_NONE);
    run_record(run, REC_TIMER_FIRED, 0, 0, node.no, node.parent, pub, priv, NULL);
}

static void record_child(struct run *run, const struct pending_input *in, const struct child *child)
{
    struct jv value = json_read(in->value, &run->engine->turn);
    struct jw w = payload_begin(run->engine, in->node);
    jw_key(&w, "child_run_id");
    if (uuid_is_nil(child->run))
        jw_null(&w);
    else
        jw_uuid(&w, &child->run);
    jw_key(&w, "child_agent_id");
    jw_str(&w, child->agent);
    jw_key(&w, "status");
    jw_raw(&w, jv_raw(jv_get(value, "status")));
    struct span pub = payload_end(run->engine, &w);
    run_record(run, REC_CHILD_FINISHED, 0, 0, in->op, in->parent, pub,
               input_priv(run->engine, run->now_us, &in->path, in->value), NULL);
}

/* The answer of a person. What the host asked, or a call's question, is not the machine's: its own input follows. */
static void record_answer(struct run *run, const struct pending_input *in, const struct open_wait *wait, bool host)
{
    struct jw w = payload_begin(run->engine, SPAN_NONE);
    payload_value(&w, "input", parse_or_null(in->value));
    jw_key(&w, "approval_id");
    jw_uuid(&w, &in->wait);
    jw_key(&w, "resumed_by");
    jw_str(&w, in->by);
    jw_key(&w, "wait_kind");
    jw_cstr(&w, wait_kind_name((enum wait_kind)wait->row.kind));
    uint32_t    step = 0, call_op = (uint32_t)wait->row.op;
    (void)run_step_at(run, &wait->path, &step, &call_op);
    struct buf  node = { 0 };
    json_put_string(&node, wait->row.node);
    struct span more = arena_printf(&run->engine->turn, "\"wf_step\":%u,\"call_op\":%u,\"node\":%.*s", step, call_op,
                                    SPAN_ARG(buf_view(&node)));
    buf_done(&node);
    struct span pub = payload_end(run->engine, &w);
    struct span priv = input_priv_more(run->engine, run->now_us, &in->path, ERR_OK, more, in->value);
    if (host)
        priv = arena_printf(&run->engine->turn, HOST_PRIV "\"answer\",%.*s", (int)priv.n - 1, priv.p + 1);
    run_record(run, REC_WAIT_CLOSED, 0, wait->row.kind != WAIT_ASK, 0, 0, pub, priv, NULL);
}

/* ---- taking inputs ---- */

static struct inflight *take_call(struct run *run, const struct pending_input *in)
{
    for (struct inflight **p = &run->calls; *p; p = &(*p)->next)
        if ((*p)->op == in->op) {
            struct inflight *call = *p;
            *p = call->next;
            return call;
        }
    return NULL;
}

static struct child *take_child(struct run *run, const struct pending_input *in)
{
    for (struct child **p = &run->children; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, &in->path)) {
            struct child *child = *p;
            *p = child->next;
            return child;
        }
    return NULL;
}

static bool take_timer(struct run *run, const struct pending_input *in)
{
    for (struct timer **p = &run->timers; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, &in->path)) {
            struct timer *timer = *p;
            *p = timer->next;
            free(timer);
            return true;
        }
    return false;
}

/* Records one input. False: it answers nothing that is in flight (a late answer): dropped, unrecorded. */
static bool record_input(struct run *run, struct pending_input *in)
{
    struct inflight      *call;
    struct open_wait     *wait;
    struct child         *child;
    switch (in->kind) {
    case IN_MODEL:
        if (!(call = take_call(run, in)))
            return false;
        record_model(run, in, call);
        run_op_drop(run, &call->path);
        inflight_free(call);
        return true;
    case IN_TIMER:
        if (!take_timer(run, in))
            return false;
        record_timer(run, in, false);
        return true;
    case IN_CHILD:
        if (!(child = take_child(run, in)))
            return false;
        record_child(run, in, child);
        free(child);
        return true;
    case IN_ANSWER:
        if (!(wait = wait_at(run, &in->path)))
            return false;
        if (in->err)
            record_timer(run, in, true);
        else
            record_answer(run, in, wait, false);
        if (in->err && (wait->row.kind == WAIT_TOOLS || wait->row.kind == WAIT_ASK))
            tool_drop_unanswered(run, &wait->path);
        wait_close(run, wait, in->err ? WAIT_EXPIRED : in->rejected ? WAIT_REJECTED : WAIT_APPROVED, in->value, in->by);
        return true;
    case IN_TOOL:
        return tool_record(run, in);
    case IN_START:
    case IN_MESSAGE:
    case IN_KIND_COUNT:
        break;
    }
    return false;
}

/* A waiting run gets its answer (T8), or its prompt expired and the machine says what follows. */
static void wake(struct run *run, bool expired)
{
    run_move(run, expired ? RUN_WAKE : RUN_ANSWER);
    run->row.waited_ms += stream_now_ms(run->stream) - run->row.waiting_since_ms;
    run->row.waiting_since_ms = 0;
    run->row.mask = 0;
    run->row.prompt = SPAN_NONE;
    run->row.wait = (struct uuid){ 0 };
}

static void claim_again(struct run *run)
{
    if (run->row.status != RUN_RESUMED)
        return;
    run_move(run, RUN_REQUEUE);
    run_move(run, RUN_CLAIM);
}

/* The client's call that a question stands for, or NULL: its answer is the call's result. */
static struct tool_flight *asked_call(const struct run *run, const struct open_wait *wait)
{
    for (struct tool_flight *t = run->tools; t && wait->row.kind == WAIT_ASK && wait->row.call_name.n; t = t->next)
        if (t->by == TOOL_BY_CLIENT && span_eq(t->name, wait->row.call_name))
            return t;
    return NULL;
}

/* The answer to what the host asked: it is recorded, and becomes what the machine waits for. */
static void take_host_answer(struct run *run, const struct pending_input *in, struct open_wait *wait, struct run_row *ret_row)
{
    const struct tool_flight *call = asked_call(run, wait);
    enum wait_kind            kind = (enum wait_kind)wait->row.kind;
    struct pending_input      result = { .kind = IN_TOOL, .value = in->value };
    if (call) {
        result.path = call->path;
        result.op = call->op;
    }
    struct span details = arena_copy(&run->engine->turn, wait->row.options);
    record_answer(run, in, wait, true);
    wait_close(run, wait, in->rejected ? WAIT_REJECTED : WAIT_APPROVED, in->value, in->by);
    if (ret_row)
        run_row_view(run, ret_row);
    claim_again(run);
    if (kind == WAIT_ASK)
        run_take_input(run, &result);
    else if (kind == WAIT_BUDGET)
        money_answered(run, details, in->value, in->rejected);
    else if (kind == WAIT_RECEIPT)
        tool_answered_by_person(run, in->path, in->value, in->rejected, in->by);
}

/* A machine that sums up what it spends (a team) is told what the host makes of the call, unless the answer says it. */
static void tell_cost(struct run *run, struct pending_input *in)
{
    struct arena          *turn = &run->engine->turn;
    const struct inflight *call = run->calls;
    while (call && !op_path_eq(&call->path, &in->path))
        call = call->next;
    if (in->kind != IN_MODEL || in->err || !call || !call->labelled || in->value.n < 3)
        return;
    struct jv answer = json_read(in->value, turn);
    if (!jv_is(jv_get(answer, "cost_usd"), JSON_NONE) || !jv_is(jv_get(answer, "costUsd"), JSON_NONE))
        return;
    struct cost cost = cost_of(run, call, answer);
    if (cost.unpriced || !cost.calls)
        return;
    struct buf text = { 0 };
    usd_text(cost.usd, &text);
    in->value = arena_printf(turn, "{\"cost_usd\":%.*s,%.*s", SPAN_ARG(buf_view(&text)), (int)in->value.n - 1, in->value.p + 1);
    buf_done(&text);
}

/* One input: state, record, step. ret_row (may be NULL): the row between record and step. */
static void take_input(struct run *run, struct pending_input *in, struct run_row *ret_row)
{
    struct open_wait *wait = in->kind == IN_ANSWER ? wait_at(run, &in->path) : NULL;
    if ((in->kind == IN_ANSWER && !wait) || (in->kind == IN_TOOL && !tool_flight_at(run, &in->path)))
        return;
    in->value = redact_json(run->engine->config.redact, in->value, &run->engine->turn); /* the machine sees what is recorded */
    run->now_us = run_elapsed_us(run);
    if (in->at_us > run->now_us)
        run->now_us = in->at_us;
    if (run->row.status == RUN_WAITING) {
        if (in->kind != IN_ANSWER && in->kind != IN_TOOL)
            return;
        wake(run, in->err || in->kind == IN_TOOL);
    }
    if (wait && !in->err && (wait->host || asked_call(run, wait))) {
        take_host_answer(run, in, wait, ret_row);
        return;
    }
    if (in->kind == IN_MODEL && in->err && inflight_retry(run, in))
        return;
    tell_cost(run, in);
    if (!record_input(run, in))
        return;
    if (ret_row)
        run_row_view(run, ret_row);
    claim_again(run);
    run->engine->stats.inputs++;
    struct input input = { .kind = in->kind, .seq = stream_head(run->stream), .op = in->path, .wall_ms = stream_now_ms(run->stream),
                           .elapsed_us = run->now_us, .err = in->err, .value = in->value };
    run_step(run, &input);
}

void run_take_input(struct run *run, struct pending_input *in)
{
    take_input(run, in, NULL);
}

/* {"input":…?,"values":{…}}, in the turn's arena. */
static struct span start_value(struct run *run, struct span values)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    if (run->row.input.p) {
        jw_key(&w, "input");
        jw_raw(&w, run->row.input);
    }
    jw_key(&w, "values");
    jw_raw(&w, values);
    jw_end(&w);
    struct span value = arena_copy(&run->engine->turn, buf_view(&text));
    buf_done(&text);
    return value;
}

static struct span started_pub(struct run *run, bool replays)
{
    struct jw w = payload_begin(run->engine, SPAN_NONE);
    jw_key(&w, "agent_id");
    jw_uuid(&w, &run->row.agent);
    jw_key(&w, "bundle_id");
    jw_uuid(&w, &run->row.bundle);
    jw_key(&w, "attempt_no");
    jw_i64(&w, run->row.attempt_no);
    if (!uuid_is_nil(run->from_checkpoint)) {
        jw_key(&w, "from_checkpoint_id");
        jw_uuid(&w, &run->from_checkpoint);
    }
    if (replays) {
        jw_key(&w, "replay_mode");
        jw_cstr(&w, run->row.replay_mode ? "strict" : "best_effort");
    }
    return payload_end(run->engine, &w);
}

/* What a fold needs to begin as this attempt did. */
static struct span started_priv(struct run *run, struct span values)
{
    struct buf *text = &run->engine->scratch_priv;
    text->len = 0;
    struct jw w = jw_on(text);
    jw_obj(&w);
    jw_key(&w, "kind");
    jw_cstr(&w, run->plan->ops->kind);
    jw_key(&w, "rev");
    jw_u64(&w, run->plan->ops->rev);
    jw_key(&w, "seed");
    jw_u64(&w, run->seed);
    jw_key(&w, "values");
    jw_raw(&w, values);
    if (run->replay_reason.p) {
        jw_key(&w, "reason");
        jw_str(&w, run->replay_reason);
    }
    jw_end(&w);
    return buf_view(text);
}

/* A machine to step, and the clock at its beginning. False: there is none, and the run has failed or broken off. */
static bool ready_machine(struct run *run, bool first, bool replays)
{
    if (!run->machine && (!first || replays))
        run_load_start(run);
    if (!run->machine && run->plan->ops->init(run->plan, &run->machine_arena, &run->machine)) {
        run_fail_code(run, "internal_error", "internal", false, "the machine could not begin");
        return false;
    }
    if (replays && !run->machine) {
        run_fail_code(run, "checkpoint_expired", "replay", false, "the state to begin with is gone");
        return false;
    }
    run_set_elapsed(run, 0);
    return !replays || replay_reopen(run);
}

void run_begin_attempt(struct run *run)
{
    struct engine *engine = run->engine;
    struct error   error = { 0 };
    run->plan = catalog_plan(engine, run->row.plan, &error);
    if (!run->plan) {
        run_fail_code(run, "bundle_unavailable", "infrastructure", false, "the bundle's plan cannot be read");
        return;
    }
    run_move(run, RUN_CLAIM);
    bool first = run->row.attempt_no == 1, replays = !uuid_is_nil(run->row.replayed_from);
    if (!ready_machine(run, first, replays))
        return;
    if (replays && first)
        run->from_checkpoint = run->row.replayed_checkpoint;
    struct span values = run->thread && run->thread->row.values_json.n ? run->thread->row.values_json : SPAN("{}");
    struct span value = start_value(run, values);
    env_random_u64(engine->env, &run->seed);
    run->seed = replay_seed(run, run->seed) >> 11; /* fits a double exactly */
    struct span pub = started_pub(run, replays);
    uint64_t    seq = run_record(run, REC_RUN_STARTED, 0, first ? 2 : 0, 0, 0, pub, started_priv(run, values), NULL);
    if (!run->row.started_ms)
        run->row.started_ms = stream_now_ms(run->stream);
    struct input in = { .kind = IN_START, .seq = seq, .wall_ms = stream_now_ms(run->stream), .value = value };
    run_step(run, &in);
}

/* After the inputs: is it at rest, is a snapshot due, when must it wake? */
static void settle(struct run *run)
{
    if (run->gone)
        return;
    if (run->row.status == RUN_ACTIVE && !inflight_any(run) && !run->timers && !run->children && !run->inbox &&
        !tool_in_flight(run)) {
        if (run->waits)
            run_rest(run);
        else
            run_fail_code(run, "stuck", "internal", false, "the run has nothing in flight and is not finished");
    } else if (run->row.status == RUN_ACTIVE && run->records_since_snapshot >= run->engine->config.snapshot_records) {
        run_save_snapshot(run);
    }
    if (!run->gone)
        run_arm(run);
}

void run_turn(struct run *run)
{
    if (!run->gone && run->row.status == RUN_QUEUED && !run->wake_retry_us)
        run_begin_attempt(run);
    while (run->inbox && !run->gone) {
        struct pending_input *in = run->inbox;
        run->inbox = in->next;
        if (!run->inbox)
            run->inbox_tail = &run->inbox;
        take_input(run, in, NULL);
        free(in);
    }
    if (replay_feed(run))
        settle(run);
}

void run_answer(struct run *run, struct pending_input *in, struct run_row *ret_row)
{
    take_input(run, in, ret_row);
    if (replay_feed(run))
        settle(run);
}
