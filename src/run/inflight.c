/* SPDX-License-Identifier: Apache-2.0 */
/* inflight.c - model calls in flight: started after the commit of their intent, every chunk an event, the end an input. */
#include "model/retry.h"
#include "run/inner.h"
#include <stdlib.h>

/* From the intent to the commit: the run or the call may be gone by then. */
struct intent {
    struct engine *engine;
    struct uuid    run, attempt;
    uint32_t       op;
    uint64_t       skip;
};

void inflight_free(struct inflight *call)
{
    if (call->model_call)
        model_cancel(call->model_call);
    for (unsigned i = 0; i < ARRAY_LEN(call->carry); i++)
        redact_carry_done(&call->carry[i]);
    free(call);
}

void inflight_cancel_under(struct run *run, const struct op_path *prefix)
{
    for (struct inflight **p = &run->calls; *p;) {
        struct inflight *call = *p;
        if (!op_path_under(&call->path, prefix)) {
            p = &call->next;
            continue;
        }
        *p = call->next;
        money_abandon(run, call);
        inflight_free(call);
    }
}

bool inflight_any(const struct run *run)
{
    for (const struct inflight *call = run->calls; call; call = call->next)
        if (!call->held)
            return true;
    return false;
}

/* Chunks go to the ledger as they come: one provider chunk, one event (model.md D5). */
void inflight_chunk(struct inflight *call, enum model_chunk_kind kind, struct span text)
{
    struct run *run = call->run;
    unsigned    wf = 0;
    if (kind == CHUNK_TEXT && text.n && call->streams && !call->on_node)
        wf = call->texts++ ? 1 : 2;
    struct record record = { .type = REC_MODEL_DELTA, .flags = (uint8_t)(wf << REC_WF_SHIFT), .op = call->delta_op,
                             .parent = call->delta_parent, .delta_kind = (uint8_t)kind,
                             .surface = call->on_node ? SURFACE_NO_CALL : 0, .index = call->chunks[kind]++, .text = text,
                             .node = call->node };
    run_record_delta(run, &record);
}

/* With secrets configured the end of a chunk that may be the beginning of one comes with the next chunk; what a crash finds held
 * back is only in the whole answer. */
static void on_chunk(void *user, enum model_chunk_kind kind, struct span text)
{
    struct inflight     *call = user;
    const struct redact *redact = call->run->engine->config.redact;
    if (kind == CHUNK_TOOL_ARGUMENTS && redact_hides_arguments(redact))
        text = SPAN_NONE;
    inflight_chunk(call, kind, redact_piece(redact, &call->carry[kind], text, &call->run->engine->turn));
}

static void record_rest(struct inflight *call)
{
    for (unsigned kind = 0; kind < ARRAY_LEN(call->carry); kind++)
        if (call->carry[kind].held.len)
            inflight_chunk(call, (enum model_chunk_kind)kind,
                           redact_rest(call->run->engine->config.redact, &call->carry[kind], &call->run->engine->turn));
}

static void on_end(void *user, enum err err, struct span result)
{
    struct inflight *call = user;
    call->model_call = NULL;
    record_rest(call);
    run_input(call->run, &(struct pending_input){ .kind = IN_MODEL, .err = err, .path = call->path, .op = call->op, .value = result });
}

static void start_failed(struct inflight *call, const struct error *error)
{
    struct span value = error_json(&call->run->engine->turn, "invalid_request", "validation", "model", false, error->message);
    run_input(call->run, &(struct pending_input){ .kind = IN_MODEL, .err = ERR_MODEL, .path = call->path, .op = call->op,
                                                  .value = value });
}

/* The intent is on disk: now the call may leave the process. */
static void start(void *arg, enum err err)
{
    struct intent *intent = arg;
    struct engine *engine = intent->engine;
    struct run    *run = uuid_map_get(&engine->runs, intent->run);
    struct inflight   *call = NULL;
    if (!err && run && !run->gone && uuid_eq(run->row.attempt, intent->attempt) && !engine->draining)
        for (call = run->calls; call && call->op != intent->op;)
            call = call->next;
    if (call && !call->lost && !call->held && !call->model_call) {
        struct model_call_config config = { .provider = call->provider, .model = call->model, .request = call->request,
                                            .skip_chunks = intent->skip, .attempt = call->tries,
                                            .seed = run->seed ^ call->op, .on_chunk = on_chunk,
                                            .on_end = on_end, .user = call };
        struct error error = { 0 };
        engine->stats.model_calls++;
        if (model_start(engine->config.models, &config, &call->model_call, &error))
            start_failed(call, &error);
    }
    free(intent);
}

void inflight_begin(struct run *run, struct inflight *call, uint64_t skip)
{
    struct intent *intent = mem_alloc(sizeof *intent);
    *intent = (struct intent){ .engine = run->engine, .run = run->row.id, .attempt = run->row.attempt, .op = call->op, .skip = skip };
    engine_after(run->engine, start, intent);
}

/* ---- another try ---- */

static struct inflight *call_of(const struct run *run, uint32_t op)
{
    struct inflight *call = run->calls;
    while (call && call->op != op)
        call = call->next;
    return call;
}

/* Uniform in [0, 1), the same for the same try of the same run. */
static double draw_of(const struct run *run, const struct inflight *call)
{
    uint64_t numbers[] = { run->seed, call->op, call->tries };
    struct sha256 hash = sha256_of(span_make(numbers, sizeof numbers));
    uint64_t bits;
    memcpy(&bits, hash.b, sizeof bits);
    return (double)(bits >> 11) / 9007199254740992.0;
}

static bool wants_retry(const struct run *run, const struct inflight *call, struct span error, uint64_t *ret_ms)
{
    struct arena       *turn = &run->engine->turn;
    struct retry_policy policy;
    retry_default(&policy);
    if (call->retry.n)
        (void)retry_parse(json_read(call->retry, turn), "", &policy, NULL); /* it was checked with the plan */
    return retry_after(&policy, json_read(error, turn), call->tries, draw_of(run, call), ret_ms);
}

static void record_try(struct run *run, const struct inflight *call, const struct pending_input *in, const struct cost *cost,
                       uint64_t wait_ms)
{
    struct engine *engine = run->engine;
    struct uuid    id = operation_id(run->row.id, run->row.attempt, call->op);
    struct jw      w = payload_begin(engine, call->node);
    jw_key(&w, "call_id");
    jw_uuid(&w, &id);
    payload_value(&w, "error", in->value);
    jw_key(&w, "will_retry");
    jw_bool(&w, true);
    jw_key(&w, "retry_in_ms");
    jw_u64(&w, wait_ms);
    jw_key(&w, "try_no");
    jw_u64(&w, call->tries);
    cost_put(&w, cost);
    struct span more = cost_priv(&engine->turn, cost);
    struct span priv = arena_printf(&engine->turn, "{\"superseded\":true,\"us\":%llu,\"due\":%llu,\"try\":%u,%.*s}",
                                    (unsigned long long)run->now_us, (unsigned long long)call->due_us, call->tries, SPAN_ARG(more));
    run_record(run, REC_MODEL_FAILED, 0, call->texts ? 1 : 0, call->op, call->delta_parent, payload_end(engine, &w), priv, NULL);
}

bool inflight_retry(struct run *run, const struct pending_input *in)
{
    struct inflight *call = call_of(run, in->op);
    uint64_t         wait_ms = 0;
    if (!call || call->on_node || in->err == ERR_BUDGET || replay_is_strict(run) || !wants_retry(run, call, in->value, &wait_ms))
        return false;
    struct cost cost = cost_of_failed(run, call, in->err, json_read(in->value, &run->engine->turn));
    money_settle(run, call, &cost);
    cost_book(run, &call->path, &cost);
    call->lost = true;
    call->due_us = run->now_us + wait_ms * 1000;
    record_try(run, call, in, &cost, wait_ms);
    run->engine->stats.model_retries++;
    return true;
}

void inflight_again(struct run *run, struct inflight *call)
{
    struct engine *engine = run->engine;
    struct uuid    old = operation_id(run->row.id, run->row.attempt, call->op);
    call->op = ++run->op_next;
    if (!call->on_node)
        call->delta_op = call->op;
    memset(call->chunks, 0, sizeof call->chunks);
    call->texts = 0;
    call->lost = false;
    struct op *op = run_op(run, &call->path);
    if (op)
        op->no = call->op;
    struct uuid id = operation_id(run->row.id, run->row.attempt, call->op);
    struct jw   w = payload_begin(engine, call->node);
    jw_key(&w, "model");
    jw_str(&w, call->model.n ? call->model : call->provider);
    jw_key(&w, "call_id");
    jw_uuid(&w, &id);
    jw_key(&w, "supersedes_call_id");
    jw_uuid(&w, &old);
    run_record(run, REC_MODEL_STARTED, 0, 0, call->op, call->delta_parent, payload_end(engine, &w), SPAN_NONE, NULL);
}

void inflight_due(struct run *run)
{
    uint64_t now = run_elapsed_us(run);
    for (bool found = true; found && !run->gone;) {
        struct inflight *due = NULL;
        for (struct inflight *call = run->calls; call; call = call->next)
            if (call->lost && call->due_us <= now && (!due || call->op < due->op))
                due = call;
        found = due != NULL;
        if (!found)
            return;
        run->now_us = now;
        due->tries++;
        inflight_again(run, due);
        if (money_admit_model(run, due) == ADMIT_GO)
            inflight_begin(run, due, 0);
    }
}
