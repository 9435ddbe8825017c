/* SPDX-License-Identifier: Apache-2.0 */
/* benchmark.c - one task under a protocol: run options, artifact, accounting, score (teams.md 15). */
#include "team/result.h"
#include "team/text.h"
#include <math.h>

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

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

void team_benchmark_options(struct jv config, struct jv protocol, struct jw *w)
{
    struct jv budget = jv_get(config, "budget");
    jw_obj(w);
    copy(w, jv_get(config, "task"), "intent");
    copy_as(w, "protocol", protocol);
    copy(w, budget, "tier");
    copy(w, config, "agents");
    copy(w, jv_get(config, "model"), "temperature");
    if (has(budget, "maxUsd") || has(budget, "maxTotalTokens") || has(budget, "qualityWeight")) {
        jw_key(w, "budget"), jw_obj(w);
        copy(w, budget, "maxUsd");
        copy_as(w, "maxTokens", jv_get(budget, "maxTotalTokens"));
        copy(w, budget, "qualityWeight");
        jw_end(w);
    }
    jw_end(w);
}

/* ---- accounting ---- */

static void put_utilization(struct jw *w, const char *name, struct jv cap, struct jv used)
{
    double limit, spent = 0;
    if (!jv_f64(cap, &limit))
        return;
    jv_f64(used, &spent);
    jw_key(w, name), jw_f64(w, limit <= 0 ? 0 : spent / limit);
}

static void put_accounting(struct jv config, struct jv result, struct jw *w)
{
    struct jv budget = jv_get(config, "budget"), cost = jv_get(result, "cost");
    jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "benchmark-cost-accounting");
    copy(w, budget, "tier");
    copy_as(w, "budget", budget);
    copy_as(w, "cost", cost);
    put_utilization(w, "usdCapUtilization", jv_get(budget, "maxUsd"), jv_get(cost, "usd"));
    put_utilization(w, "totalTokenCapUtilization", jv_get(budget, "maxTotalTokens"), jv_get(cost, "totalTokens"));
    jw_end(w);
}

/* ---- score ---- */

struct dimension {
    const char *name;
    double      score, most;
};

static void put_score(struct jv result, const char *source, double normalized, double score, const struct dimension *dimensions,
                      size_t count, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "benchmark-protocol-score");
    copy(w, jv_get(result, "trace"), "protocol");
    jw_key(w, "score"), jw_f64(w, score);
    jw_key(w, "normalizedScore"), jw_f64(w, normalized);
    jw_key(w, "maxScore"), jw_u64(w, 100);
    jw_key(w, "source"), jw_cstr(w, source);
    jw_key(w, "dimensions"), jw_arr(w);
    for (size_t i = 0; i < count; i++) {
        jw_obj(w);
        jw_key(w, "name"), jw_cstr(w, dimensions[i].name);
        jw_key(w, "score"), jw_f64(w, dimensions[i].score);
        jw_key(w, "maxScore"), jw_f64(w, dimensions[i].most);
        jw_end(w);
    }
    jw_arr_end(w), jw_end(w);
}

static double output_points(struct jv result)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    return js_blank(jv_string(jv_get(result, "output"), &arena)) ? 0 : 20;
}

static double transcript_points(struct jv result)
{
    size_t count = jv_count(jv_get(result, "transcript"));
    return count && count == jv_count(jv_get(jv_get(result, "trace"), "transcript")) ? 20 : 0;
}

/* Is each event the trace's, by canonical text? */
static bool same_events(struct jv list, const struct span *events, size_t count)
{
    size_t i = 0;
    if (jv_count(list) != count)
        return false;
    for (struct jv_iter it = jv_iter(list); jv_step(&it); i++) {
        CLEANUP(arena_done) struct arena arena = { 0 };
        if (!span_eq(team_canonical(it.value, &arena), team_canonical_text(events[i], &arena)))
            return false;
    }
    return true;
}

static double event_points(struct jv result, const struct span *events, size_t count)
{
    bool final = false;
    for (size_t i = 0; i < count && !final; i++) {
        CLEANUP(arena_done) struct arena arena = { 0 };
        final = jv_str_eq(jv_get(json_read(events[i], &arena), "type"), "final");
    }
    bool same = same_events(jv_get(jv_get(result, "trace"), "events"), events, count);
    if (count == 0)
        return 0;
    return final && same ? 40 : final || same ? 20 : 10;
}

static double budget_points(struct jv accounting)
{
    double usd = 0, tokens = 0;
    jv_f64(jv_get(accounting, "usdCapUtilization"), &usd);
    jv_f64(jv_get(accounting, "totalTokenCapUtilization"), &tokens);
    return usd <= 1 && tokens <= 1 ? 20 : 0;
}

void team_benchmark_score(struct jv result, struct jv accounting, const struct span *events, size_t count, struct jw *w)
{
    double quality;
    if (jv_f64(jv_get(result, "quality"), &quality)) {
        quality = fmin(1, fmax(0, quality));
        struct dimension run_quality = { "run_quality", quality * 100, 100 };
        put_score(result, "run-quality", quality, quality * 100, &run_quality, 1, w);
        return;
    }
    struct dimension dimensions[] = {
        { "output_captured", output_points(result), 20 },
        { "transcript_captured", transcript_points(result), 20 },
        { "event_log_captured", event_points(result, events, count), 40 },
        { "budget_respected", budget_points(accounting), 20 },
    };
    double sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(dimensions); i++)
        sum += dimensions[i].score;
    put_score(result, "artifact-completeness", sum / 100, sum, dimensions, ARRAY_LEN(dimensions), w);
}

/* ---- artifact ---- */

static void put_reproducibility(struct jv config, struct jv protocol, struct jv trace, struct jw *w)
{
    struct jv model = jv_get(config, "model");
    jw_key(w, "reproducibility"), jw_obj(w);
    copy(w, config, "task");
    copy(w, config, "budget");
    jw_key(w, "protocol"), jw_obj(w);
    copy_as(w, "kind", jv_get(trace, "protocol"));
    copy_as(w, "config", protocol);
    jw_end(w);
    copy(w, trace, "modelProviderId");
    copy(w, model, "temperature");
    copy(w, model, "seed");
    copy_as(w, "modelMetadata", jv_get(model, "metadata"));
    copy_as(w, "agents", jv_get(trace, "agentsUsed"));
    copy_as(w, "benchmarkMetadata", jv_get(config, "metadata"));
    jw_end(w);
}

static void put_event_log(struct jv trace, const struct span *events, size_t count, struct jw *w)
{
    jw_key(w, "eventLog"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "benchmark-streaming-event-log");
    copy(w, trace, "runId");
    copy(w, trace, "protocol");
    jw_key(w, "eventTypes"), jw_arr(w);
    for (size_t i = 0; i < count; i++) {
        CLEANUP(arena_done) struct arena arena = { 0 };
        jw_raw(w, jv_raw(jv_get(json_read(events[i], &arena), "type")));
    }
    jw_arr_end(w);
    jw_key(w, "eventCount"), jw_u64(w, count);
    jw_key(w, "events"), jw_arr(w);
    for (size_t i = 0; i < count; i++)
        jw_raw(w, events[i]);
    jw_arr_end(w), jw_end(w);
}

void team_benchmark_artifact(struct jv config, struct jv protocol, struct jv result, const struct span *events, size_t count,
                             struct jw *w)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf accounting = { 0 };
    struct jv trace = jv_get(result, "trace"), metadata = jv_get(result, "metadata");
    struct jw a = jw_on(&accounting);
    put_accounting(config, result, &a);
    jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "benchmark-run");
    jw_key(w, "schemaVersion"), jw_cstr(w, "1.0");
    copy(w, trace, "runId");
    copy(w, metadata, "startedAt");
    copy(w, metadata, "completedAt");
    put_reproducibility(config, protocol, trace, w);
    copy(w, result, "output");
    copy(w, result, "transcript");
    put_event_log(trace, events, count, w);
    copy_as(w, "trace", trace);
    jw_key(w, "accounting"), jw_raw(w, buf_view(&accounting));
    jw_key(w, "score"), team_benchmark_score(result, json_read(buf_view(&accounting), &arena), events, count, w);
    copy(w, result, "cost");
    copy(w, result, "quality");
    jw_end(w);
}
