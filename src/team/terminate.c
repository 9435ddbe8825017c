/* SPDX-License-Identifier: Apache-2.0 */
/* terminate.c - budget, convergence, judge and firstOf. */
#include "team/terminate.h"
#include "team/text.h"
#include <math.h>
#include <stdlib.h>

static const struct {
    const char *name, *reason, *normalized;
} caps_by_order[CAP_COUNT] = {
    [CAP_USD]        = { "maxUsd",        "cost",       "budget:cost" },
    [CAP_TOKENS]     = { "maxTokens",     "tokens",     "budget:tokens" },
    [CAP_ITERATIONS] = { "maxIterations", "iterations", "budget:iterations" },
    [CAP_TIMEOUT]    = { "timeoutMs",     "timeout",    "budget:timeout" },
};

/* ---- cost ---- */

void team_cost_to_json(const struct team_cost *cost, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "inputTokens"), jw_f64(w, cost->input_tokens);
    jw_key(w, "outputTokens"), jw_f64(w, cost->output_tokens);
    jw_key(w, "totalTokens"), jw_f64(w, cost->total_tokens);
    jw_key(w, "usd"), jw_f64(w, cost->usd);
    jw_end(w);
}

static double number_or_zero(struct jv object, const char *name)
{
    double number;
    return jv_f64(jv_get(object, name), &number) ? number : 0;
}

void team_cost_read(struct jv cost, struct team_cost *ret)
{
    *ret = (struct team_cost){ number_or_zero(cost, "usd"), number_or_zero(cost, "inputTokens"),
                               number_or_zero(cost, "outputTokens"), number_or_zero(cost, "totalTokens") };
}

/* ---- budget ---- */

static struct team_verdict goes_on(struct jv condition)
{
    return (struct team_verdict){ .condition = condition };
}

static struct span budget_detail(enum team_cap cap, double limit, double observed, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    jw_key(&w, "cap"), jw_cstr(&w, caps_by_order[cap].name);
    jw_key(&w, "limit"), jw_f64(&w, limit);
    jw_key(&w, "observed"), jw_f64(&w, observed);
    jw_end(&w);
    return arena_copy(arena, buf_view(&out));
}

static struct team_verdict evaluate_budget(struct jv condition, const struct team_context *context, struct arena *arena)
{
    const double observed[CAP_COUNT] = { context->cost.usd, context->cost.total_tokens, context->iteration, context->elapsed_ms };
    for (unsigned i = 0; i < CAP_COUNT; i++) {
        double limit;
        if (jv_f64(jv_get(condition, caps_by_order[i].name), &limit) && observed[i] >= limit)
            return (struct team_verdict){ .stop = true,
                                          .condition = condition,
                                          .reason = "budget",
                                          .normalized = caps_by_order[i].normalized,
                                          .budget_reason = caps_by_order[i].reason,
                                          .detail = budget_detail(i, limit, observed[i], arena) };
    }
    return goes_on(condition);
}

/* ---- convergence ---- */

/* The tokens of a normalised text: runs of a-z0-9, each once. */
struct token_set {
    struct span *items;
    size_t       count;
};

static bool set_has(const struct token_set *set, struct span token)
{
    for (size_t i = 0; i < set->count; i++)
        if (span_eq(set->items[i], token))
            return true;
    return false;
}

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

enum { SIMILAR_TOKENS_MAX = 20000 }; /* a text with more different words is compared by its first ones */

/* Open addressing keeps long outputs linear. */
static struct token_set tokens_of(struct span text, struct arena *arena)
{
    size_t slots = 64;
    while (slots < text.n + 2 && slots < (size_t)4 * SIMILAR_TOKENS_MAX)
        slots *= 2;
    uint32_t        *table = ARENA_ARRAY(arena, uint32_t, slots);
    struct token_set set = { ARENA_ARRAY(arena, struct span, text.n / 2 + 1), 0 };
    for (size_t i = 0; i < text.n && set.count < SIMILAR_TOKENS_MAX;) {
        size_t from = i;
        while (i < text.n && is_token_char(text.p[i]))
            i++;
        if (i == from) {
            i++;
            continue;
        }
        struct span token = span_make(text.p + from, i - from);
        size_t      at = 5381;
        for (size_t k = 0; k < token.n; k++)
            at = at * 33 + (unsigned char)token.p[k];
        for (at %= slots; table[at] && !span_eq(set.items[table[at] - 1], token);)
            at = (at + 1) % slots;
        if (!table[at]) {
            set.items[set.count++] = token;
            table[at] = (uint32_t)set.count;
        }
    }
    return set;
}

static int token_cmp(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

static size_t common_tokens(struct token_set *a, struct token_set *b)
{
    size_t common = 0;
    if (a->count < 16) {
        for (size_t i = 0; i < a->count; i++)
            common += set_has(b, a->items[i]);
        return common;
    }
    qsort(a->items, a->count, sizeof a->items[0], token_cmp);
    qsort(b->items, b->count, sizeof b->items[0], token_cmp);
    for (size_t i = 0, k = 0; i < a->count && k < b->count;) {
        int order = span_cmp(a->items[i], b->items[k]);
        common += order == 0;
        i += order <= 0;
        k += order >= 0;
    }
    return common;
}

double team_similarity(struct span a, struct span b)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    a = js_lower(js_trim(a), &arena);
    b = js_lower(js_trim(b), &arena);
    if (span_eq(a, b))
        return 1;
    struct token_set left = tokens_of(a, &arena), right = tokens_of(b, &arena);
    if (!left.count || !right.count)
        return 0;
    size_t common = common_tokens(&left, &right);
    return (double)common / (double)(left.count + right.count - common);
}

static struct span convergence_detail(const struct team_context *context, size_t window, double least, double observed,
                                      struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    jw_obj(&w);
    jw_key(&w, "protocol"), jw_str(&w, context->protocol);
    jw_key(&w, "stableTurns"), jw_u64(&w, window);
    jw_key(&w, "minSimilarity"), jw_f64(&w, least);
    jw_key(&w, "observedSimilarity"), jw_f64(&w, observed);
    jw_key(&w, "outputs"), jw_arr(&w);
    for (size_t i = context->entries - window; i < context->entries; i++)
        jw_str(&w, context->output(context->user, i));
    jw_arr_end(&w);
    jw_end(&w);
    return arena_copy(arena, buf_view(&out));
}

static struct team_verdict evaluate_convergence(struct jv condition, const struct team_context *context, struct arena *arena)
{
    double stable = fmax(1, ceil(number_or_zero(condition, "stableTurns"))), least = number_or_zero(condition, "minSimilarity");
    if ((double)context->entries < stable)
        return goes_on(condition);
    size_t window = (size_t)stable;
    double observed = 1;
    for (size_t i = context->entries - window + 1; i < context->entries; i++)
        observed = fmin(observed,
                        team_similarity(context->output(context->user, i - 1), context->output(context->user, i)));
    if (observed < least)
        return goes_on(condition);
    return (struct team_verdict){ .stop = true,
                                  .condition = condition,
                                  .reason = "convergence",
                                  .normalized = "convergence",
                                  .detail = convergence_detail(context, window, least, observed, arena) };
}

/* ---- judge ---- */

static void copy_member(struct jw *w, const char *name, struct jv v)
{
    if (jv_kind(v) == JSON_NONE)
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static struct span judge_detail(struct jv judge, struct jv quality, struct jv least, struct arena *arena)
{
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    bool      made = jv_kind(judge) == JSON_NONE;
    jw_obj(&w);
    jw_key(&w, "decision");
    if (made)
        jw_cstr(&w, "score");
    else
        jw_raw(&w, jv_raw(jv_get(judge, "type")));
    copy_member(&w, "score", made ? quality : jv_get(judge, "score"));
    copy_member(&w, "minScore", least);
    copy_member(&w, "rationale", jv_get(judge, "rationale"));
    copy_member(&w, "metadata", jv_get(judge, "metadata"));
    jw_end(&w);
    return arena_copy(arena, buf_view(&out));
}

static struct team_verdict evaluate_judge(struct jv condition, const struct team_context *context, struct arena *arena)
{
    struct jv judge = context->judge, none = { 0 };
    bool      made = jv_kind(judge) == JSON_NONE;
    if (made && jv_kind(context->quality) == JSON_NONE)
        return goes_on(condition);
    struct team_verdict verdict = { .stop = true, .condition = condition, .reason = "judge" };
    if (jv_str_eq(jv_get(judge, "type"), "accept")) {
        verdict.normalized = "judge:accepted";
        verdict.judge_reason = "accepted";
        verdict.detail = judge_detail(judge, none, none, arena);
        return verdict;
    }
    if (jv_str_eq(jv_get(judge, "type"), "reject")) {
        verdict.normalized = "judge:rejected";
        verdict.judge_reason = "rejected";
        verdict.detail = judge_detail(judge, none, none, arena);
        return verdict;
    }
    struct jv least = jv_get(condition, "minScore");
    double    score = 0, wanted;
    jv_f64(made ? context->quality : jv_get(judge, "score"), &score);
    if (jv_f64(least, &wanted) && score < wanted)
        return goes_on(condition);
    verdict.normalized = "judge:score-threshold";
    verdict.judge_reason = "score-threshold";
    verdict.detail = judge_detail(judge, context->quality, least, arena);
    return verdict;
}

/* ---- all of them ---- */

/* The first child that stops, its index in *ret_index; what was asked up to it goes to `evaluated` (an open array) unless NULL. */
static struct team_verdict evaluate_first_of(struct jv condition, const struct team_context *context, struct arena *arena,
                                             struct jw *evaluated, size_t *ret_index)
{
    size_t i = 0;
    for (struct jv_iter it = jv_iter(jv_get(condition, "conditions")); jv_step(&it); i++) {
        struct team_verdict verdict;
        team_evaluate(it.value, context, arena, &verdict);
        if (evaluated)
            team_verdict_to_json(&verdict, evaluated);
        if (verdict.stop) {
            *ret_index = i;
            return verdict;
        }
    }
    return goes_on(condition);
}

void team_evaluate(struct jv condition, const struct team_context *context, struct arena *arena, struct team_verdict *ret)
{
    struct jv kind = jv_get(condition, "kind");
    size_t    index;
    if (jv_str_eq(kind, "budget"))
        *ret = evaluate_budget(condition, context, arena);
    else if (jv_str_eq(kind, "firstOf"))
        *ret = evaluate_first_of(condition, context, arena, NULL, &index);
    else if (context->floor > 0 && context->progress < context->floor)
        *ret = goes_on(condition);
    else if (jv_str_eq(kind, "convergence"))
        *ret = evaluate_convergence(condition, context, arena);
    else
        *ret = evaluate_judge(condition, context, arena);
}

static void verdict_members(const struct team_verdict *verdict, struct jw *w)
{
    jw_key(w, "reason"), jw_cstr(w, verdict->reason);
    jw_key(w, "normalizedReason"), jw_cstr(w, verdict->normalized);
    if (verdict->budget_reason)
        jw_key(w, "budgetReason"), jw_cstr(w, verdict->budget_reason);
    if (verdict->judge_reason)
        jw_key(w, "judgeReason"), jw_cstr(w, verdict->judge_reason);
    if (verdict->detail.n)
        jw_key(w, "detail"), jw_raw(w, verdict->detail);
}

void team_verdict_to_json(const struct team_verdict *verdict, struct jw *w)
{
    jw_obj(w);
    jw_key(w, "type"), jw_cstr(w, verdict->stop ? "stop" : "continue");
    jw_key(w, "condition"), jw_raw(w, jv_raw(verdict->condition));
    if (verdict->stop)
        verdict_members(verdict, w);
    jw_end(w);
}

static void first_of_member(struct jv condition, size_t index, const struct team_verdict *verdict, struct span evaluated,
                            struct jw *w)
{
    jw_key(w, "firstOf"), jw_obj(w);
    jw_key(w, "kind"), jw_cstr(w, "firstOf-stop");
    jw_key(w, "winningConditionIndex"), jw_u64(w, index);
    jw_key(w, "winningCondition"), jw_raw(w, jv_raw(jv_at(jv_get(condition, "conditions"), index)));
    jw_key(w, "firedCondition"), jw_raw(w, jv_raw(verdict->condition));
    jw_key(w, "evaluated"), jw_raw(w, evaluated);
    jw_end(w);
}

bool team_stop(struct jv condition, const struct team_context *context, struct arena *arena, struct team_verdict *ret_verdict,
               struct span *ret_record)
{
    CLEANUP(buf_done) struct buf out = { 0 }, evaluated = { 0 };
    struct jw list = jw_on(&evaluated), w = jw_on(&out);
    bool      first_of = jv_str_eq(jv_get(condition, "kind"), "firstOf");
    size_t    index = 0;
    if (first_of) {
        jw_arr(&list);
        *ret_verdict = evaluate_first_of(condition, context, arena, &list, &index);
        jw_arr_end(&list);
    } else
        team_evaluate(condition, context, arena, ret_verdict);
    if (!ret_verdict->stop)
        return false;
    jw_obj(&w);
    jw_key(&w, "kind"), jw_cstr(&w, "termination-stop");
    jw_key(&w, "rootCondition"), jw_raw(&w, jv_raw(condition));
    jw_key(&w, "firedCondition"), jw_raw(&w, jv_raw(ret_verdict->condition));
    verdict_members(ret_verdict, &w);
    if (first_of)
        first_of_member(condition, index, ret_verdict, buf_view(&evaluated), &w);
    jw_end(&w);
    *ret_record = arena_copy(arena, buf_view(&out));
    return true;
}

/* Budget before judge before convergence. */
static int stop_class(struct jv decision)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct span reason = jv_string(jv_get(decision, "normalizedReason"), &arena);
    if (reason.n >= 7 && memcmp(reason.p, "budget:", 7) == 0)
        return 0;
    return reason.n >= 6 && memcmp(reason.p, "judge:", 6) == 0 ? 1 : 2;
}

struct jv team_combine(struct jv decisions)
{
    struct jv winner = { 0 };
    for (struct jv_iter it = jv_iter(decisions); jv_step(&it);)
        if (jv_str_eq(jv_get(it.value, "type"), "stop") &&
            (jv_kind(winner) == JSON_NONE || stop_class(it.value) < stop_class(winner)))
            winner = it.value;
    return jv_kind(winner) == JSON_NONE ? jv_at(decisions, 0) : winner;
}

/* ---- caps ---- */

void team_caps_add(struct team_caps *caps, struct jv limits)
{
    if (jv_str_eq(jv_get(limits, "kind"), "firstOf")) {
        for (struct jv_iter it = jv_iter(jv_get(limits, "conditions")); jv_step(&it);)
            team_caps_add(caps, it.value);
        return;
    }
    if (jv_kind(jv_get(limits, "kind")) != JSON_NONE && !jv_str_eq(jv_get(limits, "kind"), "budget"))
        return;
    for (unsigned i = 0; i < CAP_COUNT; i++) {
        double limit;
        if (!jv_f64(jv_get(limits, caps_by_order[i].name), &limit))
            continue;
        caps->value[i] = caps->has[i] ? fmin(caps->value[i], limit) : limit;
        caps->has[i] = true;
    }
}

/* ---- wrap-up hint ---- */

static bool fraction_reached(const struct team_caps *caps, enum team_cap cap, double current, double fraction)
{
    return caps->has[cap] && caps->value[cap] > 0 && current / caps->value[cap] >= fraction;
}

bool team_hint_fires(struct jv hint, const struct team_caps *caps, double iteration, double elapsed_ms)
{
    double at, fraction;
    if (jv_f64(jv_get(hint, "atIteration"), &at) && iteration >= at)
        return true;
    return jv_f64(jv_get(hint, "atFraction"), &fraction) &&
           (fraction_reached(caps, CAP_ITERATIONS, iteration, fraction) || fraction_reached(caps, CAP_TIMEOUT, elapsed_ms, fraction));
}

/* toFixed(1) of JavaScript: by the exact value of the double, ties up. Times ten fits exactly into the 64 bits of a long double's
 * mantissa. */
static void put_seconds(double ms, struct buf *out)
{
    long double tenths = (long double)(ms / 1000) * 10, whole = floorl(tenths);
    uint64_t    rounded = (uint64_t)whole + (tenths - whole >= 0.5L);
    buf_printf(out, "%llu.%llus", (unsigned long long)(rounded / 10), (unsigned long long)(rounded % 10));
}

static void put_remaining(const struct team_caps *caps, double iteration, double elapsed_ms, struct buf *out)
{
    double turns = fmax(0, caps->value[CAP_ITERATIONS] - iteration), ms = fmax(0, caps->value[CAP_TIMEOUT] - elapsed_ms);
    if (caps->has[CAP_ITERATIONS]) {
        json_put_f64(out, turns);
        buf_printf(out, " %s remaining", turns == 1 ? "turn" : "turns");
    }
    if (caps->has[CAP_ITERATIONS] && caps->has[CAP_TIMEOUT])
        BUF_LIT(out, " and ");
    if (caps->has[CAP_TIMEOUT]) {
        if (ms >= 1000)
            put_seconds(ms, out);
        else {
            json_put_f64(out, ms);
            BUF_LIT(out, "ms");
        }
        BUF_LIT(out, " remaining");
    }
}

void team_hint_text(struct jv hint, const struct team_caps *caps, double iteration, double elapsed_ms, struct buf *out)
{
    if (jv_is(jv_get(hint, "inject"), JSON_STRING)) {
        CLEANUP(arena_done) struct arena arena = { 0 };
        buf_span(out, jv_string(jv_get(hint, "inject"), &arena));
        return;
    }
    if (caps->has[CAP_ITERATIONS] || caps->has[CAP_TIMEOUT]) {
        BUF_LIT(out, "[wrap-up] You are approaching a hard limit with ");
        put_remaining(caps, iteration, elapsed_ms, out);
        BUF_LIT(out, ".");
    } else
        BUF_LIT(out, "[wrap-up] You are approaching a configured hard limit.");
    BUF_LIT(out, " If you have enough context, package your work now and return a final-ready answer.");
}
