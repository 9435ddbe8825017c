/* SPDX-License-Identifier: Apache-2.0 */
/* failure.c - what went wrong is kept as rows of its own, in the commit of the event that says so (agent-runs.md 3.7).
 *
 * One row per failure: a node failure that ends the attempt gives one row of scope run, one that was contained (the node is
 * tried again, or the run goes on without it) one of scope node. */
#include "base/utf8.h"
#include "run/inner.h"

enum { SUMMARY_BYTES = 500 };

/* The plan says what a node is made of; failures are rare, so it is looked up only now. */
static void put_capability(struct run *run, struct span node, struct failure_row *row)
{
    struct arena *turn = &run->engine->turn;
    struct jv     plan = run->plan ? json_read(run->plan->json, turn) : (struct jv){ .doc = NULL };
    for (struct jv_iter it = jv_iter(jv_get(plan, "nodes")); jv_step(&it);) {
        if (!span_eq(jv_string(jv_get(it.value, "id"), turn), node))
            continue;
        row->capability_ref = jv_string(jv_get(it.value, "type"), turn);
        row->capability_version = jv_string(jv_get(it.value, "version"), turn);
        row->execution_binding = jv_string(jv_get(it.value, "binding"), turn);
        return;
    }
}

static struct span text_or(struct jv v, const char *otherwise, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? text : span_of(otherwise);
}

static void put_error(struct run *run, struct span error, struct failure_row *row)
{
    struct arena *turn = &run->engine->turn;
    struct jv     object = json_read(error, turn), provider = jv_get(object, "provider_code");
    row->error = error;
    row->code = text_or(jv_get(object, "code"), "internal_error", turn);
    row->category = text_or(jv_get(object, "category"), "internal", turn);
    row->source = text_or(jv_get(object, "source"), "runtime", turn);
    row->summary = text_or(jv_get(object, "message"), "", turn);
    if (row->summary.n > SUMMARY_BYTES)
        row->summary.n = utf8_cut(row->summary.p, SUMMARY_BYTES);
    row->retryable = jv_bool(jv_get(object, "retryable"), false);
    if (jv_is(provider, JSON_STRING))
        row->provider_code = jv_string(provider, turn);
    else if (jv_is(provider, JSON_NUMBER))
        row->provider_code = jv_raw(provider);
}

struct uuid failure_put(struct run *run, int scope, int status, const struct op *op, struct span error)
{
    struct failure_row row = { .workspace = run->row.workspace, .run = run->row.id, .attempt = run->row.attempt,
                               .attempt_no = run->row.attempt_no, .thread = run->row.thread, .agent = run->row.agent, .scope = scope,
                               .status = status, .checkpoint_seq = run->row.checkpoint_seq };
    if (run->fold)
        return row.id;
    row.id = engine_mint(run->engine);
    row.failed_ms = stream_now_ms(run->stream);
    put_error(run, error, &row);
    if (op) {
        row.op = op->no;
        row.node = op->node;
        put_capability(run, op->node, &row);
    }
    batch_insert(engine_batch(run->engine), TABLE_failure, &row);
    if (scope == FAILURE_RUN)
        stat_failure(run, row.category);
    return row.id;
}
