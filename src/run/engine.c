/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the turn: everything that is ready is stepped, sealed into one batch, committed, and only then shown. */
#include "ledger/follow.h"
#include "run/inner.h"
#include <stdlib.h>

enum { TICK_US = 100000 };

/* ---- what comes back from the store's threads ---- */

struct engine_inbox {
    struct loop_mail mail;    /* first: what the loop runs */
    struct loop     *loop;
    struct engine   *engine;  /* set by engine_attach_inbox, before anything can be delivered */
    struct mailbox   box;
    atomic_bool      poked;
};

static void take_mail(struct loop_mail *mail)
{
    struct engine_inbox *inbox = CONTAINER(mail, struct engine_inbox, mail);
    /* Cleared before the take: a mail posted after it pokes again; one posted before it is taken now. */
    atomic_store_explicit(&inbox->poked, false, memory_order_seq_cst);
    for (struct mail *m = mailbox_take(&inbox->box), *next; m; m = next) {
        next = m->next;
        store_finish(inbox->engine->config.store, m);
    }
}

struct engine_inbox *engine_inbox_new(struct loop *loop)
{
    struct engine_inbox *inbox = mem_alloc(sizeof *inbox);
    inbox->mail.run = take_mail;
    inbox->loop = loop;
    mailbox_init(&inbox->box, false);
    return inbox;
}

void engine_inbox_free(struct engine_inbox *inbox)
{
    if (!inbox)
        return;
    mailbox_done(&inbox->box);
    free(inbox);
}

void engine_inbox_deliver(void *user, struct mail *chain)
{
    struct engine_inbox *inbox = user;
    mailbox_post_chain(&inbox->box, chain);
    if (!atomic_exchange_explicit(&inbox->poked, true, memory_order_seq_cst))
        loop_post(inbox->loop, &inbox->mail);
}

void engine_attach_inbox(struct engine *engine, struct engine_inbox *inbox)
{
    inbox->engine = engine;
    engine->inbox = inbox;
}

/* After loop_run has ended: what is still on its way is finished by hand. */
void engine_inbox_flush(struct engine_inbox *inbox)
{
    inbox->engine->failed = true; /* the store is closed: nobody asks it any more why something failed */
    take_mail(&inbox->mail);
}

/* Nothing goes on: no timer fires, no model answers. What was in flight is taken up again at the next start. */
static void quiesce(struct engine *engine)
{
    struct run *run;
    for (size_t i = 0; (run = uuid_map_next(&engine->runs, &i));) {
        loop_timer_clear(&run->wake);
        for (struct inflight *c = run->calls; c; c = c->next)
            if (c->model_call)
                model_cancel(TAKE(c->model_call));
        tool_quiesce(run);
    }
}

/* ---- the turn ---- */

static void batch_done(void *arg, enum err err)
{
    struct engine *engine = arg;
    engine->batches_out--;
    if (!err || engine->failed)
        return;
    engine->failed = true;
    struct error why;
    store_failure(engine->config.store, &why);
    log_line(loop_log(engine->config.loop), LOG_ERROR, "storage_stopped", "reason=\"%s\"", why.message);
    quiesce(engine);
    ledger_end_all(engine->ledger, FOLLOW_STORAGE);
}

/* A follower that waits for the store is told what it waits for, and then that the server stops. */
static bool followers_read(const struct engine *engine)
{
    struct ledger_stats stats;
    ledger_stats(engine->ledger, &stats);
    return stats.catching_up > 0;
}

static void turn(void *user)
{
    struct engine *engine = user;
    while (engine->ready_runs) {
        struct run *run = engine->ready_runs;
        engine->ready_runs = run->ready_next;
        if (!engine->ready_runs)
            engine->ready_tail = &engine->ready_runs;
        run->ready = false;
        run_turn(run);
    }
    if (engine->batch_used || ledger_dirty(engine->ledger)) {
        thread_rows_seal(engine);
        run_rows_seal(engine);
        ledger_seal(engine->ledger, engine->batch);
        batch_after(engine->batch, batch_done, engine);
        engine->batches_out++;
        engine->batch_used = false;
        store_submit(engine->config.store, engine->batch);
        engine->batch = batch_new(engine->config.store);
        engine->stats.turns++;
    }
    arena_reset(&engine->turn);
    if (engine->draining && !engine->batches_out && !engine->batch_used && !followers_read(engine))
        loop_stop(engine->config.loop);
}

static void tick(struct loop_timer *timer)
{
    struct engine *engine = CONTAINER(timer, struct engine, tick);
    ledger_tick(engine->ledger);
    loop_timer_set(timer, loop_now_us(engine->config.loop) + TICK_US);
}

void engine_touch(struct engine *engine)
{
    engine->batch_used = true;
}

struct batch *engine_batch(struct engine *engine)
{
    engine_touch(engine);
    return engine->batch;
}

void engine_after(struct engine *engine, void (*fn)(void *arg, enum err err), void *arg)
{
    batch_after(engine_batch(engine), fn, arg);
}

/* ---- life ---- */

static void defaults(struct engine_config *config)
{
    if (!config->thread_queue_max)
        config->thread_queue_max = 64;
    if (!config->snapshot_records)
        config->snapshot_records = 256;
    if (!config->snapshot_max)
        config->snapshot_max = 16 << 20;
}

enum err engine_new(const struct engine_config *config, struct engine **ret, struct error *error)
{
    (void)error;
    struct engine *engine = mem_alloc(sizeof *engine);
    engine->config = *config;
    defaults(&engine->config);
    engine->env = loop_env(config->loop);
    engine->ready_tail = &engine->ready_runs;
    engine->config.ledger.store = config->store;
    engine->config.ledger.env = engine->env;
    engine->ledger = ledger_new(&engine->config.ledger);
    engine->batch = batch_new(config->store);
    *ret = engine;
    return ERR_OK;
}

enum err engine_start(struct engine *engine, struct error *error)
{
    enum err e = gauge_start(engine, error);
    if (!e)
        e = engine_recover(engine, error);
    if (e)
        return e;
    loop_timer_init(&engine->tick, engine->config.loop, tick);
    loop_timer_set(&engine->tick, engine->env->mono_us(engine->env) + TICK_US);
    sweep_start(engine);
    retention_start(engine);
    e = cron_start(engine, error);
    if (e)
        return e;
    loop_on_turn(engine->config.loop, turn, engine);
    turn(engine); /* what was recovered goes on now */
    return ERR_OK;
}

void engine_drain(struct engine *engine)
{
    if (engine->draining)
        return;
    engine->draining = true;
    quiesce(engine);
    ledger_end_all(engine->ledger, FOLLOW_DRAINING);
    engine_touch(engine);
}

bool engine_draining(const struct engine *engine)
{
    return engine->draining;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    loop_timer_clear(&engine->tick);
    loop_timer_clear(&engine->sweep);
    loop_timer_clear(&engine->retention);
    cron_free_all(engine);
    batch_free(TAKE(engine->batch)); /* from here on nothing is written any more */
    struct run    *run;
    struct parked *parked;
    struct thread *thread;
    for (size_t i = 0; (run = uuid_map_next(&engine->runs, &i)); i = 0)
        run_forget(run);
    for (size_t i = 0; (thread = uuid_map_next(&engine->threads, &i)); i = 0)
        thread_forget(thread);
    for (size_t i = 0; (parked = uuid_map_next(&engine->parked, &i));) {
        loop_timer_clear(&parked->timer);
        free(parked);
    }
    uuid_map_done(&engine->runs);
    uuid_map_done(&engine->threads);
    uuid_map_done(&engine->parked);
    uuid_map_done(&engine->idems);
    local_free(engine);
    money_free(engine);
    struct watch *watch;
    for (size_t i = 0; (watch = u64_map_next(&engine->watches, &i));)
        free(watch);
    u64_map_done(&engine->watches);
    catalog_free(engine);
    ledger_free(engine->ledger);
    buf_done(&engine->scratch);
    buf_done(&engine->scratch_priv);
    arena_done(&engine->turn);
    free(engine);
}

/* ---- small answers ---- */

struct loop   *engine_loop(struct engine *engine)   { return engine->config.loop; }
struct store  *engine_store(struct engine *engine)  { return engine->config.store; }
struct ledger *engine_ledger(struct engine *engine) { return engine->ledger; }
struct models *engine_models(struct engine *engine) { return engine->config.models; }

bool engine_knows_tool(const struct engine *engine, struct span name)
{
    const struct engine_tools *tools = &engine->config.tools;
    return tools->known && tools->known(tools->tools, name);
}

const struct prices *engine_prices(const struct engine *engine) { return engine->config.prices; }
struct env    *engine_env(struct engine *engine)    { return engine->env; }
const struct redact *engine_redact(const struct engine *engine) { return engine->config.redact; }
struct reader *engine_reader(struct engine *engine) { return store_reader(engine->config.store); }
struct uuid    engine_mint(struct engine *engine)   { return uuid_mint(&engine->ids, engine->env); }
int64_t        engine_now_ms(struct engine *engine) { return engine->env->wall_ms(engine->env); }

enum err engine_read_begin(struct engine *engine)
{
    if (engine->reading++)
        return ERR_OK;
    enum err e = reader_begin(engine_reader(engine), &engine->turn);
    if (e)
        engine->reading--;
    return e;
}

void engine_read_end(struct engine *engine)
{
    assert(engine->reading > 0);
    if (--engine->reading == 0)
        reader_end(engine_reader(engine));
}

enum err engine_ready(struct engine *engine, struct error *error)
{
    if (engine->failed || store_failed(engine->config.store))
        return error_set(error, ERR_STORAGE, "", "storage has stopped; nothing is written any more");
    if (engine->draining)
        return error_set(error, ERR_DRAINING, "", "the server is shutting down");
    if (store_away(engine->config.store))
        return error_set(error, ERR_STORAGE, "", "the database cannot be reached; trying again");
    return ERR_OK;
}

/* Milliseconds, then ten bits of the epoch and a counter: two lives of the node never make the same number, whatever the
 * clock does in between. */
uint64_t engine_new_stream(struct engine *engine)
{
    uint64_t epoch = store_epoch(engine->config.store) & 0x3ff;
    uint64_t first = (uint64_t)engine_now_ms(engine) << 20 | epoch << 10;
    uint64_t next = engine->last_stream + 1;
    if ((next & 0x3ff) == 0) /* the counter is used up: the next millisecond */
        next = ((engine->last_stream >> 20) + 1) << 20 | epoch << 10;
    engine->last_stream = first > next ? first : next;
    return engine->last_stream;
}

void engine_stats(const struct engine *engine, struct engine_stats *ret)
{
    *ret = engine->stats;
}
