/* SPDX-License-Identifier: Apache-2.0 */
/* team_sim_provider.c - the scripted provider of a scenario, and the retry wrapper around it (teams.md 13.4, 17). */
#include "cli/team_sim.h"
#include "model/retry.h"
#include <math.h>

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

static bool is_streaming(const struct sim *sim)
{
    return jv_bool(jv_get(sim->provider, "streaming"), false);
}

static void copy_as(struct jw *w, const char *name, struct jv v)
{
    if (jv_kind(v) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

/* ---- ends of a call ---- */

static void call_fails(struct sim_run *run, struct sim_call *call, struct sim_thrown error)
{
    call->open = false;
    run->failure = error;
    sim_answer(run, IN_MODEL, op_sub((struct op_path){ 0 }, OP_PART(OP_MODEL, call->number)), ERR_MODEL, error.json);
}

static void call_answers(struct sim_run *run, struct sim_call *call, struct span response)
{
    call->open = false;
    if (run->aborted) {
        sim_fail(run, sim_abort_error(run), NULL);
        return;
    }
    CLEANUP(arena_done) struct arena arena = { 0 };
    team_trace_answer(&run->trace, call->number, json_read(response, &arena), sim_wall(run->sim));
    sim_answer(run, IN_MODEL, op_sub((struct op_path){ 0 }, OP_PART(OP_MODEL, call->number)), ERR_OK, response);
}

/* ---- retry ---- */

static struct retry_policy policy_of(const struct sim *sim)
{
    struct jv           retry = jv_get(sim->scenario, "retry");
    struct retry_policy policy;
    retry_default(&policy);
    policy.max_attempts = (uint32_t)sim_number(jv_get(retry, "maxAttempts"), policy.max_attempts);
    policy.base_delay_ms = (uint64_t)sim_number(jv_get(retry, "baseDelayMs"), (double)policy.base_delay_ms);
    policy.max_delay_ms = (uint64_t)sim_number(jv_get(retry, "maxDelayMs"), (double)policy.max_delay_ms);
    policy.jitter = !jv_str_eq(jv_get(retry, "jitter"), "none");
    return policy;
}

static double next_draw(struct sim *sim)
{
    struct jv values = jv_get(jv_get(sim->scenario, "retry"), "randomValues");
    size_t    count = jv_count(values);
    return count ? fmin(sim_number(jv_at(values, sim->draws++ % count), 0), 1 - 1e-9) : 0; /* in [0, 1) */
}

static void note_retry(struct sim_run *run, const struct sim_call *call, const struct retry_policy *policy, uint64_t delay,
                       const struct sim_thrown *error)
{
    CLEANUP(buf_done) struct buf note = { 0 }, text = { 0 };
    struct jw w = jw_on(&note);
    sim_error_json(error, &text);
    jw_obj(&w);
    jw_key(&w, "attempt"), jw_u64(&w, call->attempt);
    jw_key(&w, "maxAttempts"), jw_u64(&w, policy->max_attempts);
    jw_key(&w, "delayMs"), jw_u64(&w, delay);
    jw_key(&w, "providerId"), jw_str(&w, run->trace.team->provider_id);
    jw_key(&w, "error"), jw_raw(&w, buf_view(&text));
    jw_end(&w);
    sim_list_add(&run->sim->retries, buf_view(&note));
}

static void begin_attempt(struct sim_run *run, struct sim_call *call);

/* The wrapper sees what the provider threw: again, or out to the run. Streams are passed through unchanged. */
static void attempt_fails(struct sim_run *run, struct sim_call *call, struct sim_thrown error)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct sim         *sim = run->sim;
    struct retry_policy policy = policy_of(sim);
    struct jv           value = json_read(error.json, &arena);
    bool                known = error.is_error || team_error_is_own(value);
    double              draw = known && retry_draws(&policy, value, call->attempt) ? next_draw(sim) : 0;
    uint64_t            delay;
    if (!has(sim->scenario, "retry") || is_streaming(sim) || run->aborted || !known ||
        !retry_after(&policy, value, call->attempt, draw, &delay)) {
        call_fails(run, call, error);
        return;
    }
    note_retry(run, call, &policy, delay, &error);
    call->attempt++;
    if (delay > 0) {
        call->sleeping = true;
        sim_timer(run, SIM_RETRY, (double)delay, call, call->stamp);
    } else
        begin_attempt(run, call);
}

/* ---- streaming ---- */

/* A step without chunks is one chunk; one that only fails has none. */
static size_t chunk_count(struct jv step)
{
    if (has(step, "chunks"))
        return jv_count(jv_get(step, "chunks"));
    return has(step, "error") || jv_bool(jv_get(step, "hang"), false) ? 0 : 1;
}

static struct jv chunk_at(struct jv step, size_t index)
{
    return has(step, "chunks") ? jv_at(jv_get(step, "chunks"), index) : step;
}

static bool is_truthy(struct jv v)
{
    enum json_kind kind = jv_kind(v);
    return kind == JSON_OBJECT || kind == JSON_ARRAY || kind == JSON_TRUE;
}

static void remember(struct jv *slot, struct jv chunk, const char *name)
{
    if (has(chunk, name))
        *slot = jv_get(chunk, name);
}

static void stream_ends(struct sim_run *run, struct sim_call *call)
{
    CLEANUP(buf_done) struct buf response = { 0 };
    struct jw w = jw_on(&response);
    jw_obj(&w);
    jw_key(&w, "text"), jw_str(&w, buf_view(&call->text));
    copy_as(&w, "finishReason", call->finish);
    if (jv_count(call->tools))
        copy_as(&w, "toolRequests", call->tools);
    copy_as(&w, "usage", call->usage);
    copy_as(&w, "costUsd", call->cost);
    copy_as(&w, "metadata", call->metadata);
    jw_end(&w);
    call_answers(run, call, buf_view(&response));
}

/* Behind the last chunk: the error that stands next to them, nothing for ever, or the end. */
static void next_of_stream(struct sim_run *run, struct sim_call *call)
{
    if (call->chunk < chunk_count(call->step)) {
        double delay = has(call->step, "chunks") ? sim_number(jv_get(chunk_at(call->step, call->chunk), "delayMs"), 0) : 0;
        sim_timer(run, SIM_PROVIDER, delay, call, call->stamp);
    } else if (has(call->step, "error"))
        attempt_fails(run, call, sim_thrown_of(run->sim, jv_get(call->step, "error")));
    else if (jv_bool(jv_get(call->step, "hang"), false))
        call->hanging = true;
    else
        stream_ends(run, call);
}

static void take_chunk(struct sim_run *run, struct sim_call *call)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv chunk = chunk_at(call->step, call->chunk++);
    if (run->aborted) {
        sim_fail(run, sim_abort_error(run), NULL);
        return;
    }
    struct span text = jv_string(jv_get(chunk, "text"), &arena);
    buf_span(&call->text, text);
    team_trace_chunk(&run->trace, call->number, text, sim_wall(run->sim));
    sim_publish(run);
    if (is_truthy(jv_get(chunk, "usage")))
        call->usage = jv_get(chunk, "usage");
    remember(&call->cost, chunk, "costUsd");
    remember(&call->finish, chunk, "finishReason");
    remember(&call->tools, chunk, "toolRequests");
    remember(&call->metadata, chunk, "metadata");
    next_of_stream(run, call);
}

/* ---- attempts ---- */

static struct jv next_step(struct sim *sim)
{
    struct jv steps = jv_get(sim->provider, "steps");
    size_t    count = jv_count(steps), at = sim->steps_used++;
    if (at >= count && count && jv_bool(jv_get(sim->provider, "repeatLast"), false))
        at = count - 1;
    return at < count ? jv_at(steps, at) : (struct jv){ 0 };
}

static void begin_attempt(struct sim_run *run, struct sim_call *call)
{
    struct sim *sim = run->sim;
    call->stamp++;
    call->sleeping = false;
    if (run->aborted) {
        call_fails(run, call, run->reason);
        return;
    }
    sim_list_add(&sim->requests, call->request);
    call->step = next_step(sim);
    if (jv_kind(call->step) == JSON_NONE)
        attempt_fails(run, call, (struct sim_thrown){ SPAN("{\"name\":\"Error\",\"message\":\"scripted provider exhausted\"}"), true });
    else if (is_streaming(sim) && chunk_count(call->step) + has(call->step, "chunks") > 0)
        next_of_stream(run, call);
    else if (jv_bool(jv_get(call->step, "hang"), false))
        call->hanging = true;
    else
        sim_timer(run, SIM_PROVIDER, sim_number(jv_get(call->step, "latencyMs"), 0), call, call->stamp);
}

static void answer_step(struct sim_run *run, struct sim_call *call)
{
    static const char *const fields[] = { "text", "finishReason", "toolRequests", "usage", "costUsd", "metadata" };
    CLEANUP(buf_done) struct buf response = { 0 };
    struct jw w = jw_on(&response);
    jw_obj(&w);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        copy_as(&w, fields[i], jv_get(call->step, fields[i]));
    jw_end(&w);
    call_answers(run, call, buf_view(&response));
}

void sim_call_timer(struct sim_run *run, struct sim_call *call, enum sim_timer_kind kind)
{
    if (kind == SIM_RETRY)
        begin_attempt(run, call);
    else if (is_streaming(run->sim) && call->chunk < chunk_count(call->step))
        take_chunk(run, call);
    else if (has(call->step, "error"))
        attempt_fails(run, call, sim_thrown_of(run->sim, jv_get(call->step, "error")));
    else
        answer_step(run, call);
}

void sim_call_start(struct sim_run *run, uint32_t number, struct span request)
{
    struct sim      *sim = run->sim;
    struct sim_call *call = ARENA_NEW(sim->arena, struct sim_call);
    *call = (struct sim_call){ .number = number, .attempt = 1, .open = true };
    call->request = arena_copy(sim->arena, team_request(&run->trace, request));
    struct sim_call **end = &run->calls;
    while (*end)
        end = &(*end)->next;
    *end = call;
    begin_attempt(run, call);
}

/* The token fired and nobody rejects the run in its place: who listens to it throws its reason. */
void sim_calls_abort(struct sim_run *run)
{
    for (struct sim_call *call = run->calls; call; call = call->next)
        if (call->open && (call->hanging || call->sleeping))
            call_fails(run, call, run->reason);
}
