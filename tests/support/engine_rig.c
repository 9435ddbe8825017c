/* SPDX-License-Identifier: Apache-2.0 */
/* engine_rig.c - puts an engine together as serve.c does, without HTTP in front. */
#include "support/engine_rig.h"
#include "workflow/graph.h"
#include <stdio.h>
#include <stdlib.h>

static const struct machine_ops *const graph_alone[] = { &graph_ops, NULL };

void rig_init(struct rig *rig, const struct db_driver *driver)
{
    *rig = (struct rig){ .driver = driver, .folder = temp_folder_new() };
    size_t n = strlen(rig->folder) + sizeof "sqlite:";
    rig->url = mem_alloc(n);
    snprintf(rig->url, n, "sqlite:%s", rig->folder);
    memset(&rig->tenant, 1, sizeof rig->tenant);
    memset(&rig->workspace, 2, sizeof rig->workspace);
}

enum err rig_open(struct rig *rig, struct error *error)
{
    enum err e = loop_new(env_real(), NULL, &rig->loop, error);
    if (e)
        return e;
    rig->inbox = engine_inbox_new(rig->loop);
    struct store_config store = { .url = rig->url, .driver = rig->driver, .env = env_real(), .deliver = engine_inbox_deliver,
                                  .user = rig->inbox, .wal_grow_pages = 1 };
    e = store_open(&store, &rig->store, error);
    if (!e)
        e = http_client_new(rig->loop, &rig->client, error);
    if (!e)
        e = models_new(rig->loop, rig->client, (struct jv){ 0 }, &rig->models, error);
    struct engine_config config = { .loop = rig->loop, .store = rig->store, .models = rig->models, .tools = rig->tools, .prices = rig->prices,
                                    .run_budget = rig->run_budget, .day_budget = rig->day_budget, .machines = rig->machines ? rig->machines : graph_alone,
                                    .ledger = rig->ledger };
    if (!e)
        e = engine_new(&config, &rig->engine, error);
    if (!e) {
        engine_attach_inbox(rig->engine, rig->inbox);
        e = engine_start(rig->engine, error);
    }
    if (e)
        rig_close(rig);
    return e;
}

static void poll_fire(struct loop_timer *timer)
{
    struct rig *rig = CONTAINER(timer, struct rig, poll);
    uint64_t    now = loop_now_us(rig->loop);
    if (rig->until && rig->until(rig->until_user)) {
        loop_stop(rig->loop);
        return;
    }
    if (now >= rig->give_up_us) {
        rig->timed_out = true;
        loop_stop(rig->loop);
        return;
    }
    loop_timer_set(timer, now + 500);
}

bool rig_run(struct rig *rig, bool (*until)(void *user), void *user, double seconds)
{
    uint64_t now = env_real()->mono_us(env_real());
    rig->until = until;
    rig->until_user = user;
    rig->timed_out = false;
    rig->give_up_us = now + (uint64_t)(seconds * 1e6);
    loop_timer_init(&rig->poll, rig->loop, poll_fire);
    loop_timer_set(&rig->poll, now);
    loop_run(rig->loop);
    loop_timer_clear(&rig->poll);
    return !rig->timed_out;
}

void rig_close(struct rig *rig)
{
    if (rig->engine && !store_failed(rig->store)) {
        engine_drain(rig->engine);
        loop_run(rig->loop); /* until everything is on disk */
    } else if (rig->engine) {
        ledger_end_all(engine_ledger(rig->engine), FOLLOW_STORAGE);
    }
    store_close(rig->store);
    if (rig->engine)
        engine_inbox_flush(rig->inbox);
    engine_free(rig->engine);
    models_free(rig->models);
    http_client_free(rig->client);
    engine_inbox_free(rig->inbox);
    loop_free(rig->loop);
    rig->models = NULL;
    rig->store = NULL;
    rig->engine = NULL;
    rig->client = NULL;
    rig->inbox = NULL;
    rig->loop = NULL;
}

void rig_done(struct rig *rig)
{
    if (rig->loop)
        rig_close(rig);
    temp_folder_remove(rig->folder);
    free(rig->url);
    rig->folder = rig->url = NULL;
}

struct uuid rig_agent(struct rig *rig, const char *name, const char *definition)
{
    struct arena      arena = { 0 };
    struct issues     issues = { .arena = &arena };
    struct sha256     plan;
    struct engine    *engine = rig->engine;
    struct uuid       id = engine_mint(engine);
    struct bundle_row bundle = { .id = engine_mint(engine), .workspace = rig->workspace, .agent = id, .definition = span_of(definition) };
    enum err          e = catalog_compile(engine, json_read(span_of(definition), &arena), &plan, &issues);
    if (e)
        fprintf(stderr, "definition: %.*s %.*s\n", SPAN_ARG(issues.items[0].pointer), SPAN_ARG(issues.items[0].message));
    assert(!e);
    bundle.plan = plan;
    bundle.version = engine_mint(engine);
    catalog_put_bundle(engine, &bundle);
    struct agent_row agent = { .id = id, .tenant = rig->tenant, .workspace = rig->workspace, .name = span_of(name),
                               .description = SPAN(""), .metadata = SPAN("{}"), .live_bundle = bundle.id };
    catalog_put_agent(engine, &agent);
    arena_done(&arena);
    return id;
}

static bool add_types(void *user, const struct frame *frame)
{
    struct buf         *out = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record))
        buf_printf(out, "%s%s", out->len ? " " : "", record_info(record.type)->ar_type);
    return !reader.in.bad;
}

void rig_events(struct rig *rig, uint64_t stream, struct buf *out)
{
    struct arena   arena = { 0 };
    struct reader *reader = store_reader(rig->store);
    enum err       e = reader_begin(reader, &arena);
    assert(!e);
    e = reader_frames(reader, stream, 0, SIZE_MAX, add_types, out);
    assert(!e);
    reader_end(reader);
    arena_done(&arena);
}
