/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the routes of the Durable Streams surface, and which class of streams a name belongs to (streams.md 1, 15). */
#include "api/streams/streams.h"
#include <stdlib.h>

enum { SWEEP_US = 1000 * 1000 };

/* ---- which stream is meant ---- */

/* False: the call was answered. */
static bool parse_target(struct call *call, struct span *ret_name, struct stream_name *ret)
{
    if (!name_parse(call->params[0], &call->arena, ret_name)) {
        ds_fail(call, NULL, ERR_BAD_REQUEST, "", "this is no name of a stream");
        return false;
    }
    *ret = name_class(*ret_name);
    return true;
}

static void read_only(struct call *call)
{
    BUF_LIT(&call->headers, "Allow: GET, HEAD, OPTIONS\r\n");
    ds_fail(call, NULL, ERR_METHOD_NOT_ALLOWED, "", "streams of runs can only be read");
}

static void nothing_there(struct call *call)
{
    ds_fail(call, NULL, ERR_NOT_FOUND, "", "there is no such stream");
}

/* PUT, POST, DELETE: only free streams. */
static void change(struct call *call, void (*handle)(struct call *call, struct span name))
{
    struct span        name;
    struct stream_name which;
    if (!parse_target(call, &name, &which))
        return;
    switch (which.class_) {
    case STREAM_FREE: handle(call, name); return;
    case STREAM_RUN: case STREAM_ATTEMPT: case STREAM_RUNS_OTHER: read_only(call); return;
    case STREAM_CHANNEL: case STREAM_CONTROL: nothing_there(call); return;
    }
}

static void create(struct call *call, struct span name)
{
    (void)name;
    ds_create(call);
}

static void append(struct call *call, struct span name)
{
    (void)name;
    ds_append(call);
}

static void delete(struct call *call, struct span name)
{
    struct error error = { 0 };
    if (engine_ready(call->api->engine, &error)) {
        call_error(call, &error);
        return;
    }
    struct free_stream *fs = ds_find(call, name);
    if (!fs)
        return;
    free_remove(fs);
    call_send_committed(call, 204);
}

static void handle_put(struct call *call)    { change(call, create); }
static void handle_post(struct call *call)   { change(call, append); }
static void handle_delete(struct call *call) { change(call, delete); }

/* ---- reading ---- */

/* False: the call was answered. */
static bool open_source(struct call *call, bool touch, struct source *ret)
{
    struct span         name;
    struct stream_name  which;
    struct free_stream *fs;
    enum err            err;
    if (!parse_target(call, &name, &which))
        return false;
    switch (which.class_) {
    case STREAM_FREE:
        fs = ds_find(call, name);
        if (!fs)
            return false;
        if (touch)
            free_touch(fs);
        source_of_free(call, fs, ret);
        return true;
    case STREAM_RUN: case STREAM_ATTEMPT:
        err = source_of_run(call, &which, ret);
        if (err)
            ds_fail(call, NULL, err, "", "%s", err == ERR_NOT_FOUND          ? "there is no such run or attempt"
                                               : err == ERR_LEDGER_EXPIRED ? "the events were removed by retention"
                                                                           : "the store cannot be read");
        return !err;
    case STREAM_RUNS_OTHER: case STREAM_CHANNEL: case STREAM_CONTROL: break;
    }
    nothing_there(call);
    return false;
}

static void handle_get(struct call *call)
{
    struct source source;
    if (open_source(call, true, &source))
        ds_read(call, &source);
}

static void handle_head(struct call *call)
{
    struct source source;
    if (!open_source(call, false, &source))
        return;
    ds_head(call, &source);
    source_done(&source);
}

static void handle_options(struct call *call)
{
    BUF_LIT(&call->headers,
            "Access-Control-Allow-Methods: GET, HEAD, PUT, POST, DELETE, OPTIONS\r\n"
            "Access-Control-Allow-Headers: content-type, authorization, if-none-match, stream-seq, stream-ttl, stream-expires-at, "
            "stream-closed, producer-id, producer-epoch, producer-seq, stream-forked-from, stream-fork-offset, stream-fork-sub-offset\r\n"
            "Access-Control-Max-Age: 600\r\n");
    call_send(call, 204);
}

const struct route streams_routes[] = {
    { HTTP_M_GET,     STREAMS_ROOT "*", "streams:read",  handle_get,     0 },
    { HTTP_M_HEAD,    STREAMS_ROOT "*", "streams:read",  handle_head,    0 },
    { HTTP_M_PUT,     STREAMS_ROOT "*", "streams:write", handle_put,     ROUTE_RAW },
    { HTTP_M_POST,    STREAMS_ROOT "*", "streams:write", handle_post,    ROUTE_RAW },
    { HTTP_M_DELETE,  STREAMS_ROOT "*", "streams:write", handle_delete,  0 },
    { HTTP_M_OPTIONS, STREAMS_ROOT "*", NULL,            handle_options, 0 },
    { 0 },
};

/* ---- life ---- */

static uint64_t new_number(void *user)
{
    return engine_new_stream(user);
}

static struct batch *turn_batch(void *user)
{
    return engine_batch(user);
}

static void sweep(struct loop_timer *timer)
{
    struct streams *streams = CONTAINER(timer, struct streams, sweep);
    struct engine  *engine = streams->api->engine;
    if (!engine_ready(engine, NULL))
        free_sweep(streams->all);
    loop_timer_set(timer, loop_now_us(engine_loop(engine)) + SWEEP_US);
}

struct streams *streams_new(struct api *api)
{
    struct engine   *engine = api->engine;
    struct streams  *streams = mem_alloc(sizeof *streams);
    struct free_host host = { .user = engine, .number = new_number, .batch = turn_batch };
    streams->api = api;
    streams->all = free_streams_new(engine_ledger(engine), engine_store(engine), engine_env(engine), &host);
    loop_timer_init(&streams->sweep, engine_loop(engine), sweep);
    loop_timer_set(&streams->sweep, engine_env(engine)->mono_us(engine_env(engine)) + SWEEP_US);
    return streams;
}

void streams_free(struct streams *streams)
{
    if (!streams)
        return;
    loop_timer_clear(&streams->sweep);
    free_streams_free(streams->all);
    free(streams);
}
