/* SPDX-License-Identifier: Apache-2.0 */
/* gauge.c - how many runs are in which status, and how long the oldest pending one has waited: for /metrics.
 *
 * The numbers are counted once, at the start, and kept by every transition. The age of the oldest pending run has to be looked
 * up: on the reader thread, and only while somebody asks. */
#include "run/inner.h"
#include <stdlib.h>

enum { LOOK_EVERY_US = 10000000 };

enum err gauge_start(struct engine *engine, struct error *error)
{
    enum err e = engine_read_begin(engine);
    if (e)
        return error_set(error, e, "", "the runs cannot be counted");
    for (int i = 0; i < RUN_STATUS_COUNT && !e; i++) {
        struct query query = { .table = TABLE_run, .eq_count = 1 };
        query.eq[0].column = "status";
        query.eq[0].i64 = i;
        if (!run_terminal((enum run_status)i)) /* of those that ended there may be millions */
            e = reader_count(engine_reader(engine), &query, &engine->stats.now[i]);
    }
    engine_read_end(engine);
    return e ? error_set(error, e, "", "the runs cannot be counted") : ERR_OK;
}

/* ---- the oldest pending run ---- */

struct look {
    struct read_job job;
    struct engine  *engine;
    int64_t         since_ms;
};

static bool take_first(void *user, const void *row)
{
    *(int64_t *)user = ((const struct run_row *)row)->created_ms;
    return false;
}

static void look_run(struct read_job *job, struct reader *reader)
{
    struct look *look = CONTAINER(job, struct look, job);
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct query query = { .table = TABLE_run, .eq_count = 1, .order_column = "created_ms", .limit = 1 };
    query.eq[0].column = "status";
    query.eq[0].i64 = RUN_PENDING;
    if (reader_begin(reader, &arena))
        return;
    (void)reader_query(reader, &query, take_first, &look->since_ms);
    reader_end(reader);
}

static void look_done(struct read_job *job)
{
    struct look *look = CONTAINER(job, struct look, job);
    look->engine->stats.pending_since_ms = look->since_ms;
    look->engine->pending_looking = false;
    free(look);
}

void engine_look_pending(struct engine *engine)
{
    uint64_t now = engine->env->mono_us(engine->env);
    if (engine->pending_looking || (engine->pending_looked_us && now - engine->pending_looked_us < LOOK_EVERY_US))
        return;
    struct look *look = mem_alloc(sizeof *look);
    look->job.run = look_run;
    look->job.done = look_done;
    look->engine = engine;
    engine->pending_looking = true;
    engine->pending_looked_us = now;
    store_read(engine->config.store, &look->job);
}
