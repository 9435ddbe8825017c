/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - runs as streams, to read only: one attempt, or all attempts of a run one behind the other (streams.md 15).
 *
 * An attempt's stream has the seqs of the ledger and closes with its terminal event. In a run's stream the first field of an
 * offset is the attempt's number. It closes when the run is completed or cancelled; a failed run may be tried again as
 * long as its ledger is kept. Who waits at the end of a failed one follows a stream that never gets an event, until a look at the
 * run's row says that it went on or that its time is over. */
#include "api/agent_runs/render.h"
#include "api/streams/streams.h"
#include <stdlib.h>

enum { LOOK_US = 500 * 1000 };

static enum err read_run(struct call *call, struct uuid id, struct run_row *ret)
{
    struct reader *reader = engine_reader(call->api->engine);
    *ret = (struct run_row){ .workspace = call->workspace, .id = id };
    enum err err = reader_begin(reader, &call->arena);
    if (err)
        return ERR_STORAGE;
    err = reader_get(reader, TABLE_run, ret);
    reader_end(reader);
    return err == ERR_NOT_FOUND || !err ? err : ERR_STORAGE;
}

static enum err attempt_id(struct call *call, const struct run_row *run, uint64_t no, struct uuid *ret)
{
    if (no == (uint64_t)run->attempt_no) {
        *ret = run->attempt;
        return ERR_OK;
    }
    struct reader     *reader = engine_reader(call->api->engine);
    struct attempt_row row = { .run = run->id, .no = (int64_t)no };
    enum err           err = no < (uint64_t)run->attempt_no ? reader_begin(reader, &call->arena) : ERR_NOT_FOUND;
    if (err)
        return err;
    err = reader_get(reader, TABLE_attempt, &row);
    reader_end(reader);
    *ret = row.id;
    return err;
}

/* Puts attempt `no` of the run into the source: its stream and how its events are spelled. */
static enum err open_attempt(struct call *call, const struct run_row *run, uint64_t no, struct source *source)
{
    struct uuid          attempt;
    struct attempt_place place;
    struct error         error;
    enum err             err = attempt_id(call, run, no, &attempt);
    if (!err)
        err = attempt_open(call->api->engine, call->workspace, run->id, attempt, &place, &error);
    if (err)
        return err == ERR_STORAGE || err == ERR_LEDGER_EXPIRED ? err : ERR_NOT_FOUND;
    stream_unref(source->stream);
    free(source->ref);
    source->stream = place.stream;
    source->ref = mem_alloc(sizeof *source->ref);
    *source->ref = attempt_ref_make(place.run, place.attempt, place.root_operation, place.parent_operation);
    source->upto = stream_committed(place.stream);
    source->id = stream_number(place.stream);
    return ERR_OK;
}

static bool run_final(const struct engine *engine, const struct run_row *run)
{
    return run->status == RUN_COMPLETED || run->status == RUN_CANCELLED || run_expired(engine, run);
}

enum err source_of_run(struct call *call, const struct stream_name *name, struct source *ret)
{
    struct run_row run;
    struct uuid    id;
    *ret = (struct source){ .json = true, .text = true, .content_type = "application/json" };
    enum err err = uuid_parse(name->run, &id) ? read_run(call, id, &run) : ERR_NOT_FOUND;
    bool     whole = name->class_ == STREAM_RUN;
    if (!err)
        err = open_attempt(call, &run, whole ? (uint64_t)run.attempt_no : name->attempt, ret);
    if (err)
        return err;
    ret->run = id;
    ret->attempts = whole ? (uint64_t)run.attempt_no : 0;
    ret->tail = (struct ds_offset){ ret->attempts, ret->upto };
    ret->closed = stream_finished(ret->stream) && (!whole || run_final(call->api->engine, &run));
    return ERR_OK;
}

/* The attempt that has what comes behind an offset of a run's stream. ERR_INVALID_CURSOR: there is no such place. */
enum err source_seek(struct call *call, struct source *source, struct ds_offset *from)
{
    struct run_row run;
    if (!source->attempts)
        return ERR_OK;
    if (!from->generation && from->seq)
        return ERR_INVALID_CURSOR;
    if (!from->generation)
        from->generation = 1;
    enum err err = from->generation < source->attempts ? read_run(call, source->run, &run) : ERR_OK;
    while (!err && from->generation < source->attempts) {
        err = open_attempt(call, &run, from->generation, source);
        if (!err && from->seq > source->upto)
            err = ERR_INVALID_CURSOR;
        if (err || from->seq < source->upto)
            return err;
        *from = (struct ds_offset){ from->generation + 1, 0 };
        if (from->generation == source->attempts)
            err = open_attempt(call, &run, from->generation, source);
    }
    return err;
}

/* ---- waiting for a failed run to go on ---- */

struct parked_run {
    struct loop_timer timer;
    struct api       *api;
    struct stream    *stream;
    struct uuid       workspace, run;
    uint64_t          attempts;
};

static void look(struct loop_timer *timer)
{
    struct parked_run *p = CONTAINER(timer, struct parked_run, timer);
    struct engine     *engine = p->api->engine;
    struct arena       arena = { 0 };
    struct run_row     run;
    loop_timer_set(timer, loop_now_us(engine_loop(engine)) + LOOK_US);
    bool moved = !run_row_get(engine, p->workspace, p->run, &arena, &run) &&
                 ((uint64_t)run.attempt_no != p->attempts || run_final(engine, &run));
    arena_done(&arena);
    if (moved)
        stream_end_followers(p->stream, FOLLOW_AGE); /* ends p too; the client comes again and finds the next attempt, or the end */
}

struct parked_run *run_park(struct call *call, struct source *source)
{
    struct engine *engine = call->api->engine;
    if (!source->attempts || source->closed || !stream_finished(source->stream))
        return NULL;
    struct parked_run  *p = mem_alloc(sizeof *p);
    struct stream_place place = { .head = source->upto, .last_ms = engine_now_ms(engine) };
    *p = (struct parked_run){ .api = call->api, .workspace = call->workspace, .run = source->run, .attempts = source->attempts };
    p->stream = stream_open(engine_ledger(engine), engine_new_stream(engine), &place);
    loop_timer_init(&p->timer, engine_loop(engine), look);
    loop_timer_set(&p->timer, loop_now_us(engine_loop(engine)) + LOOK_US);
    return p;
}

struct stream *parked_stream(struct parked_run *parked)
{
    return parked->stream;
}

void parked_free(struct parked_run *parked)
{
    if (!parked)
        return;
    loop_timer_clear(&parked->timer);
    stream_unref(parked->stream);
    free(parked);
}
