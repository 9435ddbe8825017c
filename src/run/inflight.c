/* SPDX-License-Identifier: Apache-2.0 */
/* inflight.c - model calls in flight: started after the commit of their intent, every chunk an event, the end an input. */
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
        inflight_free(call);
    }
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
    if (call) {
        struct model_call_config config = { .provider = call->provider, .model = call->model, .request = call->request,
                                            .skip_chunks = intent->skip, .seed = run->seed ^ call->op, .on_chunk = on_chunk,
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
