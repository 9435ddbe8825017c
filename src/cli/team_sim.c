/* SPDX-License-Identifier: Apache-2.0 */
/* team_sim.c - the virtual clock, the host around the machine, and the modes of a scenario: run, stream, benchmark, replay. */
#include "cli/team_sim.h"
#include "base/ids.h"
#include "team/validate.h"
#include <math.h>
#include <stdlib.h>

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

double sim_number(struct jv v, double otherwise)
{
    double number;
    return jv_f64(v, &number) ? number : otherwise;
}

void sim_list_add(struct buf *list, struct span json)
{
    if (list->len)
        buf_byte(list, ',');
    buf_span(list, json);
}

int64_t sim_wall(const struct sim *sim)
{
    return INT64_C(1767225600000) + (int64_t)floor(sim->now_ms); /* 2026-01-01T00:00:00.000Z */
}

/* ---- errors ---- */

struct sim_thrown sim_thrown_of(struct sim *sim, struct jv error)
{
    static const char *const members[] = { "name", "code", "message", "retryable", "providerId", "detail" };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jv kind = jv_get(error, "kind");
    bool      own = jv_str_eq(kind, "dogpile");
    if (!own && !jv_str_eq(kind, "error"))
        return (struct sim_thrown){ has(error, "value") ? jv_raw(jv_get(error, "value")) : jv_raw(error), false };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    if (own || !has(error, "name"))
        jw_key(&w, "name"), jw_cstr(&w, own ? "DogpileError" : "Error");
    for (size_t i = own ? 1 : 0; i < ARRAY_LEN(members); i++)
        if (has(error, members[i]) && (own || i == 0 || i == 2))
            jw_key(&w, members[i]), jw_raw(&w, jv_raw(jv_get(error, members[i])));
    jw_end(&w);
    return (struct sim_thrown){ arena_copy(sim->arena, buf_view(&out)), true };
}

void sim_error_json(const struct sim_thrown *error, struct buf *out)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv value = json_read(error->json, &arena);
    struct jw w = jw_on(out);
    if (team_error_is_own(value))
        team_error_to_json(value, &w);
    else
        buf_span(out, error->json.n ? error->json : SPAN("null")); /* nothing was thrown: a provider that never answers */
}

static struct sim_thrown made_error(struct sim_run *run, bool cancelled)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    team_aborted(run->trace.team->provider_id, cancelled, &w);
    return (struct sim_thrown){ arena_copy(run->sim->arena, buf_view(&out)), true };
}

/* The token's reason when that is an error of the contract, else the contract's own. */
struct sim_thrown sim_abort_error(struct sim_run *run)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    return team_error_is_own(json_read(run->reason.json, &arena)) ? run->reason : made_error(run, false);
}

/* ---- timers ---- */

void sim_timer(struct sim_run *run, enum sim_timer_kind kind, double delay_ms, void *what, uint32_t stamp)
{
    struct sim *sim = run->sim;
    if (sim->timer_count == sim->timer_cap) {
        sim->timer_cap = sim->timer_cap ? sim->timer_cap * 2 : 16;
        sim->timers = mem_grow(sim->timers, sim->timer_cap * sizeof *sim->timers);
    }
    sim->timers[sim->timer_count++] = (struct sim_timer){
        .due_ms = sim->now_ms + fmax(0, delay_ms), .order = sim->timer_orders++, .kind = kind, .run = run, .what = what, .stamp = stamp
    };
}

static void drop_timers(struct sim_run *run, int kind)
{
    struct sim *sim = run->sim;
    size_t      kept = 0;
    for (size_t i = 0; i < sim->timer_count; i++)
        if (sim->timers[i].run != run || (kind >= 0 && sim->timers[i].kind != (enum sim_timer_kind)kind))
            sim->timers[kept++] = sim->timers[i];
    sim->timer_count = kept;
}

static bool take_timer(struct sim *sim, struct sim_timer *ret)
{
    size_t first = 0;
    if (!sim->timer_count)
        return false;
    for (size_t i = 1; i < sim->timer_count; i++)
        if (sim->timers[i].due_ms < sim->timers[first].due_ms ||
            (sim->timers[i].due_ms == sim->timers[first].due_ms && sim->timers[i].order < sim->timers[first].order))
            first = i;
    *ret = sim->timers[first];
    sim->timers[first] = sim->timers[--sim->timer_count];
    return true;
}

/* ---- events ---- */

/* The scenario's logger, if it has one, sees the event. */
static void log_event(struct sim *sim, struct span event)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf record = { 0 };
    struct jv logger = jv_get(sim->scenario, "logger");
    struct jw w = jw_on(&record);
    if ((jv_is(logger, JSON_OBJECT) || jv_bool(logger, false)) &&
        team_log_record(json_read(event, &arena), jv_get(logger, "include"), &w))
        sim_list_add(&sim->logs, buf_view(&record));
}

static void publish(struct sim_run *run, struct span event)
{
    if (run->event_count == run->event_cap) {
        run->event_cap = run->event_cap ? run->event_cap * 2 : 64;
        run->event_items = mem_grow(run->event_items, run->event_cap * sizeof *run->event_items);
    }
    run->event_items[run->event_count++] = event;
    sim_list_add(&run->events, event);
    log_event(run->sim, event);
}

void sim_publish(struct sim_run *run)
{
    for (; run->published < run->trace.event_count; run->published++)
        if (run->streams && !run->done)
            publish(run, run->trace.events[run->published].json);
}

/* `status` NULL: failed, or nothing where there is no handle. */
void sim_fail(struct sim_run *run, struct sim_thrown error, const char *status)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf event = { 0 };
    struct jw w = jw_on(&event);
    struct jv value = json_read(error.json, &arena);
    if (run->done)
        return;
    if (run->streams) {
        bool abort = (team_error_is_own(value) && jv_str_eq(jv_get(value, "code"), "aborted")) ||
                     (error.is_error && jv_str_eq(jv_get(value, "name"), "AbortError"));
        team_error_event(value, error.is_error, run->trace.event_count ? run->run_id : SPAN(""), sim_wall(run->sim), &w);
        publish(run, team_canonical_text(buf_view(&event), run->sim->arena));
        run->status = status ? status : abort ? "cancelled" : "failed";
    }
    run->failure = error;
    run->done = true;
    drop_timers(run, -1);
}

/* ---- the host ---- */

void sim_answer(struct sim_run *run, enum input_kind kind, struct op_path op, enum err err, struct span value)
{
    if (run->done)
        return;
    if (run->queue_tail == run->queue_cap) {
        run->queue_cap = run->queue_cap ? run->queue_cap * 2 : 16;
        run->queue = mem_grow(run->queue, run->queue_cap * sizeof *run->queue);
    }
    run->queue[run->queue_tail++] = (struct sim_queue_item){ kind, op, err, arena_copy(run->sim->arena, value) };
}

static void serve_evaluation(struct sim_run *run, const struct effect *fx)
{
    struct jv evaluation = jv_get(run->sim->scenario, "evaluation");
    sim_answer(run, IN_TOOL, fx->op, ERR_OK, jv_raw(evaluation));
}

static void serve_emit(struct sim_run *run, const struct effect *fx)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    if (span_is(fx->emit.name, "team.warning")) {
        sim_list_add(&run->sim->warnings, jv_raw(jv_get(json_read(fx->emit.value, &arena), "message")));
        return;
    }
    team_trace_emit(&run->trace, fx->emit.name, fx->emit.value, sim_wall(run->sim));
    sim_publish(run);
}

static void serve_effect(struct sim_run *run, const struct effect *fx)
{
    switch (fx->kind) {
    case FX_EMIT:
        serve_emit(run, fx);
        break;
    case FX_MODEL:
        team_trace_call(&run->trace, fx->op.v[0] & 0xfffffff, fx->model.request, fx->model.labels, sim_wall(run->sim));
        sim_call_start(run, fx->op.v[0] & 0xfffffff, fx->model.request);
        break;
    case FX_TOOL:
        if (fx->op.n == 1)
            serve_evaluation(run, fx);
        else
            sim_tool_start(run, fx);
        break;
    case FX_TIMER:
        if (fx->timer.clear)
            drop_timers(run, SIM_LIMIT);
        else
            sim_timer(run, SIM_LIMIT, (double)fx->timer.due_us / 1000 - (run->sim->now_ms - run->start_ms), NULL, 0);
        break;
    case FX_FINISH:
        run->status = run->streams ? "completed" : NULL;
        run->done = true;
        drop_timers(run, -1);
        break;
    case FX_FAIL: {
        bool own = fx->fail.error.n != run->failure.json.n || memcmp(fx->fail.error.p, run->failure.json.p, fx->fail.error.n) != 0;
        sim_fail(run, own ? (struct sim_thrown){ arena_copy(run->sim->arena, fx->fail.error), true } : run->failure, NULL);
        break;
    }
    default: /* FX_ABORT: who was asked is not waited for; FX_FAIL follows */
        break;
    }
}

/* A cancelled run() without a limit goes on with the tools of the turn and then notices. */
static bool notices_abort(struct sim_run *run, enum input_kind kind)
{
    if (!run->aborted || kind != IN_TOOL)
        return false;
    for (size_t i = 0; i < run->fx.count; i++)
        if (run->fx.items[i].kind == FX_TOOL && run->fx.items[i].op.n == 2)
            return false;
    return true;
}

static void step(struct sim_run *run, const struct sim_queue_item *item)
{
    struct sim  *sim = run->sim;
    struct input in = { .kind = item->kind, .seq = ++run->seq, .op = item->op, .wall_ms = sim_wall(sim), .err = item->err,
                        .value = item->value };
    in.elapsed_us = (uint64_t)llround((sim->now_ms - run->start_ms) * 1000);
    run->fx.count = 0;
    arena_reset(&run->step_arena);
    team_ops.step(run->machine, &in, &run->fx);
    if (notices_abort(run, item->kind)) {
        sim_fail(run, sim_abort_error(run), NULL);
        return;
    }
    for (size_t i = 0; i < run->fx.count && !run->done; i++)
        serve_effect(run, &run->fx.items[i]);
    if (sim->probe)
        sim->probe->stepped(sim->probe->user, &run->plan, &run->machine_arena, &run->machine);
}

static void drain(struct sim_run *run)
{
    while (!run->done && run->queue_head < run->queue_tail) {
        struct sim_queue_item item = run->queue[run->queue_head++];
        step(run, &item);
    }
}

/* ---- cancellation ---- */

static struct sim_thrown reason_of(struct sim *sim)
{
    struct jv reason = jv_get(jv_get(sim->scenario, "cancel"), "reason"), kind = jv_get(reason, "kind");
    if (jv_kind(reason) == JSON_NONE)
        return (struct sim_thrown){ SPAN("{\"name\":\"AbortError\",\"message\":\"This operation was aborted\"}"), true };
    if (jv_str_eq(kind, "dogpile") || jv_str_eq(kind, "error") || jv_str_eq(kind, "object") || jv_str_eq(kind, "value"))
        return sim_thrown_of(sim, reason);
    return (struct sim_thrown){ jv_raw(reason), false };
}

static void cancel(struct sim_run *run)
{
    bool by_token = jv_str_eq(jv_get(jv_get(run->sim->scenario, "cancel"), "via"), "signal");
    if (run->done)
        return;
    if (run->streams) {
        sim_fail(run, made_error(run, true), "cancelled");
        return;
    }
    if (!by_token)
        return; /* run() has no handle */
    run->reason = reason_of(run->sim);
    if (run->trace.team->has_limit)
        sim_fail(run, sim_abort_error(run), NULL);
    else {
        run->aborted = true;
        sim_calls_abort(run);
        sim_tools_abort(run);
    }
}

static void serve_timer(struct sim_run *run, const struct sim_timer *timer)
{
    switch (timer->kind) {
    case SIM_LIMIT:
        sim_answer(run, IN_TIMER, op_sub((struct op_path){ 0 }, OP_PART(OP_TIMER, 0)), ERR_OK, SPAN("null"));
        break;
    case SIM_CANCEL:
        cancel(run);
        break;
    case SIM_PROVIDER:
    case SIM_RETRY: {
        struct sim_call *call = timer->what;
        if (call->open && call->stamp == timer->stamp)
            sim_call_timer(run, call, timer->kind);
        break;
    }
    case SIM_TOOL:
    case SIM_TOOL_LIMIT:
        sim_tool_timer(run, timer->what, timer->kind);
        break;
    }
    drain(run);
}

/* ---- one run ---- */

/* The definition: the options, the provider as model, the manifests of the tools. A benchmark has no tools and no evaluator, and
 * streams of 0.3 do not pass the hint on (teams.md 10.7). */
static void put_definition(struct sim *sim, struct jv options, bool streams, struct jw *w)
{
    bool      benchmark = jv_str_eq(jv_get(sim->scenario, "mode"), "benchmark");
    struct jv tools = benchmark ? (struct jv){ 0 } : jv_get(sim->scenario, "tools"), id = jv_get(sim->provider, "id");
    jw_obj(w);
    for (struct jv_iter it = jv_iter(options); jv_step(&it);) {
        if (jv_str_eq(it.name, "tools") || jv_str_eq(it.name, "model") || (streams && jv_str_eq(it.name, "wrapUpHint")))
            continue;
        jw_key_span(w, jv_string(it.name, sim->arena));
        jw_raw(w, jv_raw(it.value));
    }
    jw_key(w, "model"), jw_obj(w);
    jw_key(w, "provider"), jw_cstr(w, "scripted");
    jw_key(w, "id"), jw_raw(w, jv_raw(id));
    jw_key(w, "stream"), jw_bool(w, jv_bool(jv_get(sim->provider, "streaming"), false));
    jw_end(w);
    if (jv_count(tools)) {
        jw_key(w, "tools"), jw_arr(w);
        for (struct jv_iter it = jv_iter(tools); jv_step(&it);)
            jw_raw(w, jv_raw(sim_tool_manifest(sim, it.value)));
        jw_arr_end(w);
    }
    if (!benchmark && has(sim->scenario, "evaluation"))
        jw_key(w, "evaluate"), jw_raw(w, SPAN("{\"tool\":\"evaluation\"}"));
    jw_end(w);
}

/* Thrown at once, before anything runs: bad options, or a bad retry policy. */
static bool throws_at_once(struct sim_run *run, struct jv definition)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct sim         *sim = run->sim;
    struct team_problem problem;
    struct jw           w = jw_on(&out);
    struct jv           retry = jv_get(sim->scenario, "retry");
    double attempts = sim_number(jv_get(retry, "maxAttempts"), 3), base = sim_number(jv_get(retry, "baseDelayMs"), 250),
           most = sim_number(jv_get(retry, "maxDelayMs"), 4000);
    if (attempts < 1 || base < 0 || most < 0) {
        jw_obj(&w);
        jw_key(&w, "name"), jw_cstr(&w, "DogpileError");
        jw_key(&w, "code"), jw_cstr(&w, "invalid-configuration");
        jw_key(&w, "message");
        jw_cstr(&w, attempts < 1 ? "withRetry: maxAttempts must be >= 1." : "withRetry: delay fields must be non-negative.");
        jw_key(&w, "detail"), jw_obj(&w);
        if (attempts < 1)
            jw_key(&w, "maxAttempts"), jw_f64(&w, attempts);
        else {
            jw_key(&w, "baseDelayMs"), jw_f64(&w, base);
            jw_key(&w, "maxDelayMs"), jw_f64(&w, most);
        }
        jw_end(&w), jw_end(&w);
    } else if (!team_validate(definition, TEAM_CHECK_INTENT, &arena, &problem))
        team_problem_to_json(&problem, &w);
    else
        return false;
    run->failure = (struct sim_thrown){ arena_copy(sim->arena, buf_view(&out)), true };
    run->done = true;
    return true;
}

static struct span next_run_id(struct sim *sim)
{
    return arena_printf(sim->arena, "00000000-0000-4000-8000-%012llx", (unsigned long long)++sim->run_ids);
}

static void run_done(struct sim_run *run)
{
    drop_timers(run, -1);
    arena_done(&run->plan.arena);
    arena_done(&run->machine_arena);
    arena_done(&run->step_arena);
    free(run->fx.items);
    free(run->queue);
    free(run->event_items);
    buf_done(&run->events);
    for (struct sim_call *call = run->calls; call; call = call->next)
        buf_done(&call->text);
}

static bool prepare(struct sim_run *run, struct jv options)
{
    CLEANUP(buf_done) struct buf definition = { 0 };
    struct sim   *sim = run->sim;
    struct jw     w = jw_on(&definition);
    struct issues issues = { .arena = &run->step_arena };
    put_definition(sim, options, run->streams, &w);
    struct jv v = json_read(arena_copy(sim->arena, buf_view(&definition)), sim->arena);
    if (throws_at_once(run, v))
        return false;
    if (team_ops.compile(v, &run->plan, &issues) != ERR_OK) {
        run->failure = (struct sim_thrown){ SPAN("{\"name\":\"Error\",\"message\":\"the team is too large\"}"), true };
        run->done = true;
        return false;
    }
    team_trace_init(&run->trace, run->plan.compiled, SPAN(""), ((struct team *)run->plan.compiled)->intent, sim->arena);
    return true;
}

static void begin(struct sim_run *run)
{
    struct jv cancel_at = jv_get(run->sim->scenario, "cancel");
    run->run_id = next_run_id(run->sim);
    team_trace_init(&run->trace, run->plan.compiled, run->run_id, ((struct team *)run->plan.compiled)->intent, run->sim->arena);
    team_ops.init(&run->plan, &run->machine_arena, &run->machine);
    struct sim_queue_item start = { .kind = IN_START, .value = SPAN("{\"values\":{}}") };
    step(run, &start);
    if (has(cancel_at, "atMs")) /* set when the first calls are under way, before anything comes of them */
        sim_timer(run, SIM_CANCEL, sim_number(jv_get(cancel_at, "atMs"), 0), NULL, 0);
    drain(run);
}

/* Cancelled before the start: a stream never begins; run() begins and notices at once. */
static void cancel_before(struct sim_run *run)
{
    if (run->streams)
        sim_fail(run, made_error(run, true), "cancelled");
    else {
        run->run_id = next_run_id(run->sim);
        run->reason = reason_of(run->sim);
        sim_fail(run, sim_abort_error(run), NULL);
    }
}

static void perform(struct sim_run *run, struct jv options)
{
    struct sim_timer timer;
    run->start_ms = run->sim->now_ms;
    run->fx.arena = &run->step_arena;
    if (!prepare(run, options))
        return;
    if (jv_bool(jv_get(jv_get(run->sim->scenario, "cancel"), "before"), false))
        cancel_before(run);
    else
        begin(run);
    while (!run->done && take_timer(run->sim, &timer)) {
        run->sim->now_ms = timer.due_ms;
        serve_timer(run, &timer);
    }
}

/* ---- what an expected file says ---- */

static struct span digest(struct span text, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct sha256 sum = sha256_of(text);
    buf_hex(&out, sum.b, sizeof sum.b);
    return arena_copy(arena, buf_view(&out));
}

static struct span events_digest(const struct span *events, size_t count, struct arena *arena)
{
    CLEANUP(buf_done) struct buf lines = { 0 };
    for (size_t i = 0; i < count; i++) {
        buf_span(&lines, events[i]);
        buf_byte(&lines, '\n');
    }
    return digest(buf_view(&lines), arena);
}

static void put_list(struct jw *w, const char *name, const struct buf *list)
{
    jw_key(w, name);
    buf_byte(w->out, '[');
    buf_span(w->out, buf_view(list));
    buf_byte(w->out, ']');
    w->comma = true;
}

static void put_replay(struct jw *w, struct jv result, struct arena *arena)
{
    CLEANUP(buf_done) struct buf replayed = { 0 };
    struct jw   r = jw_on(&replayed);
    struct jv   trace = jv_get(result, "trace"), events = jv_get(trace, "events");
    struct span *items = ARENA_ARRAY(arena, struct span, jv_count(events));
    size_t      count = 0;
    team_replay(trace, &r);
    struct jv   again = json_read(buf_view(&replayed), arena);
    struct span text = team_canonical(again, arena);
    for (struct jv_iter it = jv_iter(events); jv_step(&it);)
        items[count++] = team_canonical(it.value, arena);
    jw_key(w, "replay"), jw_obj(w);
    jw_key(w, "equalsLiveResult"), jw_bool(w, span_eq(text, team_canonical(result, arena)));
    jw_key(w, "resultSha256"), jw_str(w, digest(text, arena));
    jw_key(w, "streamStatus"), jw_cstr(w, "completed");
    jw_key(w, "streamEventCount"), jw_u64(w, count);
    jw_key(w, "streamEventsSha256"), jw_str(w, events_digest(items, count, arena));
    jw_key(w, "topLevelKeys"), jw_arr(w);
    for (struct jv_iter it = jv_iter(again); jv_step(&it);)
        jw_raw(w, jv_raw(it.name));
    jw_arr_end(w), jw_end(w);
}

static void put_result(struct sim *sim, struct jw *w, struct jv result)
{
    jw_key(w, "result"), jw_raw(w, jv_raw(result));
    jw_key(w, "error"), jw_null(w);
    jw_key(w, "traceSha256"), jw_str(w, digest(team_canonical(jv_get(result, "trace"), sim->arena), sim->arena));
    jw_key(w, "resultSha256"), jw_str(w, digest(team_canonical(result, sim->arena), sim->arena));
    if (jv_bool(jv_get(sim->scenario, "thenReplay"), false))
        put_replay(w, result, sim->arena);
}

static void put_failure(struct jw *w, const struct sim_thrown *failure)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    sim_error_json(failure, &text);
    jw_key(w, "result"), jw_null(w);
    jw_key(w, "error"), jw_raw(w, buf_view(&text));
}

static struct jv result_of(struct sim_run *run)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    team_result_to_json(&run->trace, &w);
    return json_read(arena_copy(run->sim->arena, buf_view(&out)), run->sim->arena);
}

static void put_events(struct sim *sim, struct jw *w, const char *status, const struct buf *list, const struct span *events,
                       size_t count)
{
    jw_key(w, "status"), jw_cstr(w, status);
    put_list(w, "events", list);
    jw_key(w, "eventsSha256"), jw_str(w, events_digest(events, count, sim->arena));
}

static void scenario_run(struct sim *sim, bool streams, struct jw *w)
{
    CLEANUP(run_done) struct sim_run run = { .sim = sim, .streams = streams, .status = streams ? "running" : NULL };
    perform(&run, jv_get(sim->scenario, "options"));
    if (streams)
        put_events(sim, w, run.status, &run.events, run.event_items, run.event_count);
    if (run.trace.output.n && !run.failure.json.n)
        put_result(sim, w, result_of(&run));
    else
        put_failure(w, &run.failure);
}

/* ---- benchmark ---- */

static struct jv with_quality(struct sim *sim, struct jv result, struct jv quality)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    if (jv_kind(quality) == JSON_NONE)
        return result;
    buf_put(&out, jv_raw(result).p, jv_raw(result).n - 1);
    BUF_LIT(&out, ",\"quality\":");
    buf_span(&out, jv_raw(quality));
    BUF_LIT(&out, "}");
    return json_read(arena_copy(sim->arena, buf_view(&out)), sim->arena);
}

static void put_artifact(struct sim_run *run, struct jv config, struct jv protocol, struct jv quality)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct sim *sim = run->sim;
    struct jw   w = jw_on(&out);
    team_benchmark_artifact(config, protocol, with_quality(sim, result_of(run), quality), run->event_items, run->event_count, &w);
    struct span hash = digest(team_canonical_text(buf_view(&out), sim->arena), sim->arena);
    out.len--; /* the digest joins the artifact */
    buf_printf(&out, ",\"__sha256\":\"%.*s\"}", SPAN_ARG(hash));
    sim_list_add(&sim->artifacts, buf_view(&out));
}

static void scenario_benchmark(struct sim *sim, struct jw *w)
{
    struct jv benchmark = jv_get(sim->scenario, "benchmark"), config = jv_get(benchmark, "config");
    for (struct jv_iter it = jv_iter(jv_get(benchmark, "protocols")); jv_step(&it);) {
        CLEANUP(run_done) struct sim_run run = { .sim = sim, .streams = true };
        CLEANUP(buf_done) struct buf options = { 0 };
        struct jw o = jw_on(&options);
        sim->steps_used = 0;
        team_benchmark_options(config, it.value, &o);
        perform(&run, json_read(arena_copy(sim->arena, buf_view(&options)), sim->arena));
        if (!run.trace.output.n || run.failure.json.n) {
            put_failure(w, &run.failure);
            return;
        }
        put_artifact(&run, config, it.value, jv_get(benchmark, "quality"));
    }
    put_list(w, "artifacts", &sim->artifacts);
}

/* ---- replay ---- */

static void scenario_replay(struct sim *sim, struct jw *w)
{
    CLEANUP(buf_done) struct buf out = { 0 }, list = { 0 };
    struct jw    r = jw_on(&out);
    struct jv    trace = jv_get(sim->scenario, "trace"), events = jv_get(trace, "events");
    struct span *items = ARENA_ARRAY(sim->arena, struct span, jv_count(events));
    size_t       count = 0;
    team_replay(trace, &r);
    for (struct jv_iter it = jv_iter(events); jv_step(&it);) {
        items[count] = team_canonical(it.value, sim->arena);
        sim_list_add(&list, jv_raw(it.value));
        log_event(sim, items[count++]);
    }
    put_events(sim, w, "completed", &list, items, count);
    struct jv result = json_read(buf_view(&out), sim->arena);
    put_result(sim, w, result);
    if (!jv_bool(jv_get(sim->scenario, "thenReplay"), false))
        put_replay(w, result, sim->arena);
}

/* ---- all modes ---- */

static void sim_done(struct sim *sim)
{
    struct buf *lists[] = { &sim->requests, &sim->logs, &sim->retries, &sim->urls, &sim->warnings, &sim->artifacts };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        buf_done(lists[i]);
    free(sim->timers);
}

enum err sim_scenario(struct jv scenario, const struct sim_probe *probe, struct buf *out, struct error *error)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(sim_done) struct sim sim = { .arena = &arena, .scenario = scenario, .provider = jv_get(scenario, "provider"), .probe = probe };
    struct jv mode = jv_get(scenario, "mode");
    struct jw w = jw_on(out);
    if (!jv_str_eq(jv_get(scenario, "format"), "team-scenario-1"))
        return error_set(error, ERR_VALIDATION, "/format", "not a scenario: format is not team-scenario-1");
    sim.http_used = ARENA_ARRAY(&arena, size_t, jv_count(jv_get(scenario, "tools")) + 1);
    jw_obj(&w);
    jw_key(&w, "scenario"), jw_raw(&w, jv_raw(jv_get(scenario, "id")));
    jw_key(&w, "mode"), jw_raw(&w, jv_raw(mode));
    if (jv_str_eq(mode, "benchmark"))
        scenario_benchmark(&sim, &w);
    else if (jv_str_eq(mode, "replay"))
        scenario_replay(&sim, &w);
    else
        scenario_run(&sim, jv_str_eq(mode, "stream"), &w);
    if (has(scenario, "logger"))
        put_list(&w, "logs", &sim.logs);
    put_list(&w, "providerRequests", &sim.requests);
    put_list(&w, "retries", &sim.retries);
    put_list(&w, "toolUrls", &sim.urls);
    put_list(&w, "warnings", &sim.warnings);
    jw_key(&w, "endMs"), jw_f64(&w, sim.now_ms);
    jw_end(&w);
    return ERR_OK;
}
