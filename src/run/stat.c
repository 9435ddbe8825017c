/* SPDX-License-Identifier: Apache-2.0 */
/* stat.c - what observability counts (agent-runs.md 8) is kept as small rows, in the commit of the event that says so.
 *
 * One row per run when it ends, one per node execution, per handoff and per failure of a run. A node execution that begins and
 * ends in one commit is written once; one that outlives the commit is written as open first, so that nothing is missing while
 * a person is asked. Runs that go on are counted from their own rows: they are few. */
#include "run/inner.h"

static struct stat_row row_of(const struct run *run, enum stat_kind kind, int64_t op)
{
    return (struct stat_row){ .workspace = run->row.workspace, .kind = kind, .created_ms = run->row.created_ms, .run = run->row.id,
                              .attempt_no = run->row.attempt_no, .op = op, .agent = run->row.agent, .ms = -1,
                              .at_ms = stream_now_ms(run->stream) };
}

static void put_node(struct run *run, const struct op *op, int status, struct span category)
{
    struct stat_row row = row_of(run, STAT_NODE, op->no);
    row.status = status;
    row.tries = op->try_no;
    row.ref = op->ref;
    row.version = op->version;
    row.binding = op->binding;
    row.category = category;
    if (status == STAT_OK || status == STAT_FAILED)
        row.ms = (int64_t)((run->now_us - op->started_us) / 1000);
    batch_put(engine_batch(run->engine), TABLE_stat, &row);
}

void stat_node(struct run *run, const struct op *op, int status, struct span error)
{
    struct span category = SPAN_NONE;
    if (run->fold)
        return;
    if (status == STAT_FAILED) {
        category = jv_string(jv_get(json_read(error, &run->engine->turn), "category"), &run->engine->turn);
        category = category.n ? category : SPAN("internal");
    }
    put_node(run, op, status, category);
}

void stat_nodes_open(struct run *run)
{
    for (uint32_t i = 0; i < run->op_count; i++) {
        struct op *op = &run->ops[i];
        if (!op->node_exec || op->counted)
            continue;
        op->counted = true;
        put_node(run, op, STAT_OPEN, SPAN_NONE);
    }
}

void stat_nodes_cut(struct run *run)
{
    for (uint32_t i = 0; i < run->op_count; i++) {
        if (!run->ops[i].node_exec)
            continue;
        run->ops[i].counted = true;
        put_node(run, &run->ops[i], STAT_CANCELLED, SPAN_NONE);
    }
}

/* Its key says nothing of attempts: the run has one such row, however often it was tried again. */
static struct stat_row row_of_run(const struct run *run)
{
    struct stat_row row = row_of(run, STAT_RUN, 0);
    row.attempt_no = 0;
    return row;
}

void stat_run_ended(struct run *run)
{
    struct stat_row row = row_of_run(run);
    bool            completed = run->row.status == RUN_COMPLETED, failed = run->row.status == RUN_FAILED;
    row.status = completed ? STAT_OK : failed ? STAT_FAILED : STAT_CANCELLED;
    row.tries = run->row.attempt_no;
    row.replayed = !uuid_is_nil(run->row.replayed_from);
    if ((completed || failed) && run->row.started_ms) {
        row.ms = run->row.completed_ms - run->row.started_ms - run->row.waited_ms;
        if (row.ms < 0)
            row.ms = 0; /* the clock was set back while somebody was asked */
    }
    batch_put(engine_batch(run->engine), TABLE_stat, &row);
}

void stat_run_again(struct run *run)
{
    struct stat_row row = row_of_run(run);
    batch_delete(engine_batch(run->engine), TABLE_stat, &row);
}

void stat_handoff(struct run *run, uint64_t seq)
{
    if (run->fold)
        return; /* counted when it happened */
    struct stat_row row = row_of(run, STAT_HANDOFF, (int64_t)seq);
    batch_put(engine_batch(run->engine), TABLE_stat, &row);
}

void stat_failure(struct run *run, struct span category)
{
    struct stat_row row = row_of(run, STAT_FAILURE, (int64_t)stream_head(run->stream));
    row.category = category;
    batch_put(engine_batch(run->engine), TABLE_stat, &row);
}
