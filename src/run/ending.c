/* SPDX-License-Identifier: Apache-2.0 */
/* ending.c - how a run comes to rest or to its end: terminal records, the next attempt, the slot, the parent, who waits. */
#include "run/inner.h"
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_BASE_MS = 1000, RETRY_MAX_MS = 60000 };

/* What the row and everybody around must know once the terminal record is appended. */
static void end_run(struct run *run, enum run_input how, struct span values)
{
    struct engine *engine = run->engine;
    run_move(run, how);
    run->row.completed_ms = stream_now_ms(run->stream);
    if (run->row.waiting_since_ms) {
        run->row.waited_ms += run->row.completed_ms - run->row.waiting_since_ms;
        run->row.waiting_since_ms = 0;
    }
    run->row.mask = 0;
    run->row.prompt = SPAN_NONE;
    run->row.wait = (struct uuid){ 0 };
    run->row.last_seq = (int64_t)stream_head(run->stream);
    stat_nodes_cut(run);
    stat_run_ended(run);
    run_abort_under(run, &(struct op_path){ 0 });
    run->wake_retry_us = 0;
    loop_timer_clear(&run->wake);
    run_dirty(run);
    thread_exit(run->thread, run, values, how == RUN_FAIL);
    engine->stats.runs_ended++;
    run_watches_fire(run);
    if (!uuid_is_nil(run->row.parent_run))
        run_tell_parent(run);
    run_leave(run);
}

/* The parent's handoff node gets the child's end as an input of the same turn, so in the same commit. */
void run_tell_parent(struct run *run)
{
    struct engine *engine = run->engine;
    struct run    *parent = run_find(engine, run->row.workspace, run->row.parent_run);
    if (!parent)
        return; /* it ended before: a cancelled parent cancels its children */
    for (struct child *c = parent->children; c; c = c->next) {
        if (!uuid_eq(c->run, run->row.id))
            continue;
        struct buf value = { 0 };
        struct jw  w = jw_on(&value);
        jw_obj(&w);
        jw_key(&w, "status");
        jw_cstr(&w, run_status_ar((enum run_status)run->row.status, 0));
        if (run->row.status == RUN_COMPLETED) {
            jw_key(&w, "output");
            jw_raw(&w, run->row.output);
        } else if (run->row.error.p) {
            jw_key(&w, "error");
            jw_raw(&w, run->row.error);
        }
        jw_end(&w);
        run_input(parent, &(struct pending_input){ .kind = IN_CHILD, .err = run->row.status == RUN_COMPLETED ? ERR_OK : ERR_CHILD,
                                                   .path = c->path, .op = c->op, .node = c->node, .value = buf_view(&value) });
        buf_done(&value);
        return;
    }
}

static int64_t duration_ms(struct run *run)
{
    return run->row.started_ms ? stream_now_ms(run->stream) - run->row.started_ms : 0;
}

void run_finish(struct run *run, struct span output, struct span values)
{
    if (!run->fold && !replay_end(run, REC_RUN_FINISHED, output))
        return;
    struct jw w = payload_begin(run->engine, SPAN_NONE);
    bool      cut = payload_value(&w, "output", output);
    jw_key(&w, "duration_ms");
    jw_i64(&w, duration_ms(run));
    run_record(run, REC_RUN_FINISHED, REC_TERMINAL, 1, 0, 0, payload_end(run->engine, &w), cut ? output : SPAN_NONE, NULL);
    if (run->fold)
        return;
    run_text(run, &run->row.output, output);
    run->row.error = SPAN_NONE;
    session_run_finished(run, output);
    end_run(run, RUN_FINISH, values);
}

/* The terminal event of an attempt that failed. next nil: final. */
static void record_failed(struct run *run, struct span error, struct uuid next)
{
    bool     final = uuid_is_nil(next);
    unsigned wf = !final ? 0 : run->row.attempt_no == 1 && stream_head(run->stream) == 0 ? 3 : 1;
    struct jw w = payload_begin(run->engine, SPAN_NONE);
    payload_value(&w, "error", error);
    jw_key(&w, "final");
    jw_bool(&w, final);
    if (!final) {
        jw_key(&w, "next_attempt_id");
        jw_uuid(&w, &next);
        jw_key(&w, "next_attempt_no");
        jw_i64(&w, run->row.attempt_no + 1);
    }
    run_record(run, REC_RUN_FAILED, REC_TERMINAL, wf, 0, 0, payload_end(run->engine, &w), SPAN_NONE, NULL);
}

struct span run_saved_state(struct run *run)
{
    struct buf saved = { 0 };
    struct span kept = SPAN_NONE;
    assert(!run->machine || run->plan);
    if (run->machine && !run->plan->ops->save(run->machine, &saved))
        kept = arena_copy(&run->engine->turn, buf_view(&saved));
    buf_done(&saved);
    return kept;
}

static void start_retry(struct loop_timer *timer)
{
    struct run *run = CONTAINER(timer, struct run, wake);
    run->wake_retry_us = 0;
    run->wake.fire = run_wake_fire;
    run_ready(run);
}

void run_open_attempt(struct run *run, struct uuid next, struct span saved)
{
    run->from_checkpoint = (struct uuid){ { 0 } };
    if (run->row.checkpoint_seq)
        run->from_checkpoint = checkpoint_id(run->row.attempt, (uint64_t)run->row.checkpoint_seq);
    run->row.wf_base += (int64_t)stream_wf_total(run->stream);
    run->row.attempt = next;
    run->row.attempt_no++;
    run_new_stream(run);
    run_reset_machine(run);
    replay_close(run);
    if (!saved.n)
        receipts_restart(run);
    if (saved.n && !run->plan->ops->load(run->plan, saved, &run->machine_arena, &run->machine)) {
        struct snapshot_row row = { .attempt = next, .seq = 0, .digest = sha256_of(saved), .body = saved };
        batch_put(engine_batch(run->engine), TABLE_snapshot, &row);
    }
}

/* T10: the attempt is closed, the next one begins where this one stood: what was finished stays finished. */
static void next_attempt(struct run *run, struct span error)
{
    struct engine *engine = run->engine;
    struct uuid    next = engine_mint(engine);
    struct span    saved = run_saved_state(run);
    struct attempt_row old = { .run = run->row.id, .no = run->row.attempt_no, .id = run->row.attempt, .stream = run->row.stream,
                               .status = RUN_FAILED, .wf_base = run->row.wf_base, .checkpoint_seq = run->row.checkpoint_seq,
                               .error = error, .started_ms = run->row.started_ms };
    record_failed(run, error, next);
    old.completed_ms = stream_now_ms(run->stream);
    old.last_seq = (int64_t)stream_head(run->stream);
    batch_put(engine_batch(engine), TABLE_attempt, &old);
    stat_nodes_cut(run);
    run_abort_under(run, &(struct op_path){ 0 });
    run_move(run, RUN_TRY_AGAIN);
    run_text(run, &run->row.error, error);
    run_open_attempt(run, next, saved);
    uint64_t random;
    env_random_u64(engine->env, &random);
    int64_t bound = run->row.attempt_no - 2 < 6 ? RETRY_BASE_MS << (run->row.attempt_no - 2) : RETRY_MAX_MS;
    uint64_t delay_us = random % (uint64_t)((bound < RETRY_MAX_MS ? bound : RETRY_MAX_MS) * 1000 + 1);
    if (run->row.replay_mode && !uuid_is_nil(run->row.replayed_from))
        delay_us = 1; /* strict: timers fire at once */
    run->wake_retry_us = engine->env->mono_us(engine->env) + delay_us;
    run->wake.fire = start_retry;
    loop_timer_set(&run->wake, run->wake_retry_us);
    run_dirty(run);
}

void run_fail(struct run *run, struct span error)
{
    struct jv object = json_read(error, &run->engine->turn);
    bool      retryable = jv_bool(jv_get(object, "retryable"), false);
    if (run->fold) { /* a fold never reaches the end of an open attempt */
        uint64_t seq;
        if (!run->fold->closed || run->fold->at < run->fold->count)
            fold_take(run, REC_RUN_FAILED, 0, &seq, NULL);
        return;
    }
    if (!replay_end(run, REC_RUN_FAILED, error))
        return;
    bool        again = retryable && run->row.status == RUN_ACTIVE && run->plan && run->row.attempt_no < run->plan->max_attempts;
    again = replay_again(run, again);
    struct uuid id = failure_put(run, FAILURE_RUN, again ? FAILURE_RETRIED : FAILURE_OPEN, run->failing.no ? &run->failing : NULL, error);
    char        text[UUID_TEXT];
    uuid_format(id, text);
    run->failing = (struct op){ .no = 0 };
    error = arena_printf(&run->engine->turn, "%.*s,\"failure_id\":\"%.*s\"}", (int)error.n - 1, error.p, UUID_TEXT, text);
    if (again) {
        next_attempt(run, error);
        return;
    }
    record_failed(run, error, (struct uuid){ 0 });
    run_text(run, &run->row.error, error);
    end_run(run, RUN_FAIL, SPAN_NONE);
}

void run_fail_code(struct run *run, const char *code, const char *category, bool retryable, const char *message)
{
    run_fail(run, error_json(&run->engine->turn, code, category, "runtime", retryable, message));
}

void run_cancel_now(struct run *run, struct span reason, struct span by)
{
    unsigned  wf = run->row.attempt_no == 1 && stream_head(run->stream) == 0 ? 3 : 1;
    struct jw w = payload_begin(run->engine, SPAN_NONE);
    jw_key(&w, "reason");
    if (reason.p)
        jw_str(&w, reason);
    else
        jw_null(&w);
    jw_key(&w, "cancelled_by");
    jw_str(&w, by);
    run_record(run, REC_RUN_CANCELLED, REC_TERMINAL, wf, 0, 0, payload_end(run->engine, &w), SPAN_NONE, NULL);
    run_text(run, &run->row.cancel_reason, redact_text(run->engine->config.redact, reason, &run->engine->turn));
    end_run(run, RUN_CANCEL, SPAN_NONE);
}

void run_rest(struct run *run)
{
    struct open_wait *oldest = wait_first_person(run);
    run_move(run, RUN_REST);
    run->row.mask = oldest ? MASK_PERSON : 0;
    for (const struct open_wait *w = run->waits; w; w = w->next)
        if (w->row.kind == WAIT_TOOLS)
            run->row.mask |= MASK_TOOLS;
    if (!oldest) {
        assert(run->waits); /* or it would not rest */
        oldest = run->waits;
        run->row.wait = (struct uuid){ 0 };
        run->row.prompt = SPAN_NONE;
    }
    run->row.waiting_since_ms = stream_now_ms(run->stream);
    if (run->row.mask & MASK_PERSON) {
        run->row.wait = oldest->row.id;
        run_text(run, &run->row.prompt, oldest->row.prompt);
    }
    run->row.checkpoint_seq = oldest->row.checkpoint_seq;
    run->row.last_seq = (int64_t)stream_head(run->stream);
    run_dirty(run);
    thread_dirty(run->thread);
    run_save_snapshot(run);
    if (run->row.mask & MASK_PERSON)
        run_watches_fire(run);
    if (!run->gone && !run->watches) /* somebody waits for more than this: it stays */
        run_leave(run); /* parked: it comes back with the answer */
}
