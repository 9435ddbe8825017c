/* SPDX-License-Identifier: Apache-2.0 */
/* result.c - a result out of a trace: replay() and the accounting (teams.md 5, 14). */
#include "team/result.h"

static void copy_as(struct jw *w, const char *name, struct jv v)
{
    if (jv_kind(v) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static void copy(struct jw *w, struct jv from, const char *name)
{
    copy_as(w, name, jv_get(from, name));
}

static struct jv last_of(struct jv list)
{
    size_t count = jv_count(list);
    return count ? jv_at(list, count - 1) : (struct jv){ 0 };
}

static void put_event_log(struct jv trace, struct jw *w)
{
    struct jv events = jv_get(trace, "events");
    jw_key(w, "eventLog"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "run-event-log");
    copy(w, trace, "runId");
    copy(w, trace, "protocol");
    jw_key(w, "eventTypes"), jw_arr(w);
    for (struct jv_iter it = jv_iter(events); jv_step(&it);)
        jw_raw(w, jv_raw(jv_get(it.value, "type")));
    jw_arr_end(w);
    jw_key(w, "eventCount"), jw_u64(w, jv_count(events));
    copy(w, trace, "events");
    jw_end(w);
}

static void put_usage(const char *name, struct jv cost, struct jw *w)
{
    jw_key(w, name), jw_obj(w);
    copy(w, cost, "usd"), copy(w, cost, "inputTokens"), copy(w, cost, "outputTokens"), copy(w, cost, "totalTokens");
    jw_end(w);
}

static void put_metadata(struct jv trace, struct jw *w)
{
    struct jv events = jv_get(trace, "events");
    jw_key(w, "metadata"), jw_obj(w);
    copy(w, trace, "runId"), copy(w, trace, "protocol"), copy(w, trace, "tier"), copy(w, trace, "modelProviderId");
    copy(w, trace, "agentsUsed");
    copy_as(w, "startedAt", jv_get(jv_at(events, 0), "at"));
    copy_as(w, "completedAt", jv_get(last_of(events), "at"));
    jw_end(w);
}

/* cap 0: 0; no cap: nothing. Not clamped. */
static void put_utilization(const char *name, struct jv cap, struct jv used, struct jw *w)
{
    double limit, spent = 0;
    if (!jv_f64(cap, &limit))
        return;
    jv_f64(used, &spent);
    jw_key(w, name), jw_f64(w, limit == 0 ? 0 : spent / limit);
}

void team_state_changes(struct jv events, struct jw *w)
{
    size_t index = 0;
    jw_key(w, "budgetStateChanges"), jw_arr(w);
    for (struct jv_iter it = jv_iter(events); jv_step(&it); index++) {
        struct jv type = jv_get(it.value, "type");
        bool      stop = jv_str_eq(type, "budget-stop");
        if (!stop && !jv_str_eq(type, "agent-turn") && !jv_str_eq(type, "broadcast") && !jv_str_eq(type, "final"))
            continue;
        jw_obj(w);
        jw_key(w, "kind"), jw_cstr(w, "replay-trace-budget-state-change");
        jw_key(w, "eventIndex"), jw_u64(w, index);
        copy_as(w, "eventType", type);
        copy(w, it.value, "at"), copy(w, it.value, "cost");
        if (stop)
            copy(w, it.value, "iteration"), copy(w, it.value, "elapsedMs"), copy_as(w, "budgetReason", jv_get(it.value, "reason"));
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_accounting(struct jv trace, struct jv cost, struct jw *w)
{
    struct jv budget = jv_get(trace, "budget"), caps = jv_get(budget, "caps");
    jw_key(w, "accounting"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "run-accounting");
    copy(w, trace, "tier");
    copy_as(w, "budget", caps);
    copy(w, budget, "termination");
    put_usage("usage", cost, w);
    copy_as(w, "cost", cost);
    team_state_changes(jv_get(trace, "events"), w);
    put_utilization("usdCapUtilization", jv_get(caps, "maxUsd"), jv_get(cost, "usd"), w);
    put_utilization("totalTokenCapUtilization", jv_get(caps, "maxTokens"), jv_get(cost, "totalTokens"), w);
    jw_end(w);
}

void team_replay(struct jv trace, struct jw *w)
{
    struct jv final = jv_get(trace, "finalOutput"), cost = jv_get(final, "cost"), last = last_of(jv_get(trace, "events"));
    jw_obj(w);
    copy(w, final, "output");
    put_event_log(trace, w);
    jw_key(w, "trace"), jw_raw(w, jv_raw(trace));
    copy(w, trace, "transcript");
    put_usage("usage", cost, w);
    put_metadata(trace, w);
    put_accounting(trace, cost, w);
    copy_as(w, "cost", cost);
    if (jv_str_eq(jv_get(last, "type"), "final"))
        copy(w, last, "quality"), copy(w, last, "evaluation");
    jw_end(w);
}
