/* SPDX-License-Identifier: Apache-2.0 */
/* team_vectors.c - the vector files: pure functions, inputs and outputs (teams.md 18). */
#include "cli/commands.h"
#include "cli/team_conform.h"
#include "team/compatible.h"
#include "team/decision.h"
#include "team/order.h"
#include "team/plan.h"
#include "team/result.h"
#include "team/tools.h"
#include "team/validate.h"

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

static void copy(struct jw *w, struct jv from, const char *name)
{
    if (has(from, name))
        jw_key(w, name), jw_raw(w, jv_raw(jv_get(from, name)));
}

/* Each of these writes an object with the members that a case expects. false: the case does not apply. */
typedef bool vector_fn(struct jv test, struct arena *arena, struct jw *w);

static bool canonical_vector(struct jv test, struct arena *arena, struct jw *w)
{
    jw_key(w, "text"), jw_str(w, team_canonical(jv_get(test, "value"), arena));
    return true;
}

static bool decisions_vector(struct jv test, struct arena *arena, struct jw *w)
{
    struct team_decision decision;
    jw_key(w, "decision");
    if (team_decision_parse(jv_string(jv_get(test, "text"), arena), &decision))
        team_decision_to_json(&decision, w);
    else
        jw_null(w);
    return true;
}

/* ---- order ---- */

/* The collation is that of printable ASCII: with other letters a case is about more than we claim, unless hashes decide. */
static bool is_ascii(struct jv agents, struct arena *arena)
{
    struct span text = team_canonical(agents, arena);
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] >= 0x80)
            return false;
    return true;
}

static bool ordering_vector(struct jv test, struct arena *arena, struct jw *w)
{
    struct jv          list = jv_get(test, "agents"), seed = jv_get(test, "seed");
    struct team_agent *agents = ARENA_ARRAY(arena, struct team_agent, jv_count(list) + 1);
    CLEANUP(buf_done) struct buf number = { 0 };
    double      temperature = 1, value;
    size_t      count = 0;
    struct span seed_text = jv_string(seed, arena);
    if (!is_ascii(list, arena) && !has(test, "seed"))
        return false;
    if (jv_f64(seed, &value)) {
        json_put_f64(&number, value);
        seed_text = buf_view(&number);
    }
    for (struct jv_iter it = jv_iter(list); jv_step(&it); count++)
        agents[count] = (struct team_agent){ .id = jv_string(jv_get(it.value, "id"), arena),
                                             .role = jv_string(jv_get(it.value, "role"), arena),
                                             .instructions = jv_string(jv_get(it.value, "instructions"), arena),
                                             .json = arena_printf(arena, "%zu", count) };
    if (has(test, "scores")) {
        jw_key(w, "scores"), jw_arr(w);
        for (size_t i = 0; i < count; i++)
            jw_u64(w, team_selection_hash(seed_text, &agents[i]));
        jw_arr_end(w);
    }
    jv_f64(jv_get(test, "temperature"), &temperature);
    team_order(agents, count, temperature, seed);
    jw_key(w, "order"), jw_arr(w);
    for (size_t i = 0; i < count; i++)
        jw_raw(w, agents[i].json);
    jw_arr_end(w);
    return true;
}

/* ---- termination ---- */

struct transcript {
    struct jv     entries;
    struct arena *arena;
};

static struct span transcript_output(const void *user, size_t index)
{
    const struct transcript *transcript = user;
    return jv_string(jv_get(jv_at(transcript->entries, index), "output"), transcript->arena);
}

static double number_or(struct jv v, double otherwise)
{
    double number;
    return jv_f64(v, &number) ? number : otherwise;
}

static bool termination_vector(struct jv test, struct arena *arena, struct jw *w)
{
    if (has(test, "combine")) {
        struct jv winner = team_combine(jv_get(test, "combine"));
        jw_key(w, "combined"), jw_raw(w, jv_kind(winner) == JSON_NONE ? SPAN_NONE : jv_raw(winner));
        return true;
    }
    struct jv           context = jv_get(test, "context"), condition = jv_get(test, "condition");
    struct jv           config = jv_get(context, "protocolConfig");
    struct transcript   transcript = { jv_get(context, "transcript"), arena };
    bool                broadcast = jv_str_eq(jv_get(config, "kind"), "broadcast");
    struct team_context own = { .protocol = jv_string(jv_get(context, "protocol"), arena),
                                .entries = jv_count(transcript.entries),
                                .output = transcript_output,
                                .user = &transcript,
                                .judge = jv_get(context, "judgeDecision"),
                                .quality = jv_get(context, "quality") };
    team_cost_read(jv_get(context, "cost"), &own.cost);
    own.iteration = number_or(jv_get(context, "iteration"), (double)own.entries);
    own.progress = number_or(jv_get(context, "protocolIteration"), own.iteration);
    own.elapsed_ms = number_or(jv_get(context, "elapsedMs"), 0);
    own.floor = number_or(jv_get(config, broadcast ? "minRounds" : "minTurns"), 0);
    struct team_verdict verdict;
    struct span         record = SPAN_NONE;
    team_evaluate(condition, &own, arena, &verdict);
    jw_key(w, "decision"), team_verdict_to_json(&verdict, w);
    team_stop(condition, &own, arena, &verdict, &record);
    jw_key(w, "stopRecord"), jw_raw(w, record);
    return true;
}

/* ---- validation ---- */

static void put_model(struct jv overrides, struct arena *arena, struct jw *w)
{
    jw_key(w, "model"), jw_obj(w);
    jw_key(w, "id"), jw_cstr(w, "m");
    for (struct jv_iter it = jv_iter(overrides); jv_step(&it);) /* a later member of the same name wins */
        jw_key_span(w, jv_string(it.name, arena)), jw_raw(w, jv_raw(it.value));
    jw_end(w);
}

static bool validation_vector(struct jv test, struct arena *arena, struct jw *w)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jv options = jv_get(test, "options"), v = options;
    struct jw o = jw_on(&text);
    if (jv_is(options, JSON_OBJECT)) {
        jw_obj(&o);
        for (struct jv_iter it = jv_iter(options); jv_step(&it);)
            jw_key_span(&o, jv_string(it.name, arena)), jw_raw(&o, jv_raw(it.value));
        if (!jv_bool(jv_get(test, "noModel"), false) && !has(options, "model"))
            put_model(jv_get(test, "model"), arena, &o);
        copy(&o, test, "tools");
        jw_end(&o);
        v = json_read(buf_view(&text), arena);
    }
    struct team_problem problem;
    jw_key(w, "error");
    if (team_validate(v, TEAM_CHECK_INTENT | TEAM_CHECK_FUNCTIONS, arena, &problem))
        jw_null(w);
    else
        team_problem_to_json(&problem, w);
    return true;
}

/* ---- tools ---- */

static bool builtin_vector(struct jv test, struct arena *arena, struct jw *w)
{
    CLEANUP(buf_done) struct buf issues = { 0 };
    enum team_builtin tool = team_builtin(jv_string(jv_get(test, "tool"), arena));
    struct jw         list = jw_on(&issues);
    if (has(test, "manifest")) {
        jw_key(w, "manifest"), team_builtin_manifest(tool, jv_get(test, "options"), w);
        return true;
    }
    size_t count = team_builtin_check(tool, jv_get(test, "options"), jv_get(test, "input"), &list);
    jw_key(w, "result"), jw_obj(w);
    jw_key(w, "type"), jw_cstr(w, count ? "invalid" : "valid");
    if (count)
        jw_key(w, "issues"), jw_raw(w, buf_view(&issues));
    jw_end(w);
    return true;
}

static bool compatible_vector(struct jv test, struct arena *arena, struct jw *w)
{
    team_compatible(jv_get(test, "options"), jv_get(test, "request"), jv_get(test, "reply"), w);
    return true;
}

/* ---- benchmark score ---- */

/* The one-agent run of the file's title, and what is wrong with it: a word of the case's name says which defect. */
enum { DEFECT_NO_EVENTS = 1, DEFECT_FINAL_ONLY = 2, DEFECT_NO_FINAL = 4, DEFECT_CHANGED = 8, DEFECT_OUTPUT = 16, DEFECT_TRANSCRIPT = 32,
       DEFECT_TRACE = 64, DEFECT_BUDGET = 128 };

static unsigned defect_of(struct span name)
{
    static const struct {
        const char *word;
        unsigned    defect;
    } words[] = {
        { "no events", DEFECT_NO_EVENTS },      { "final only", DEFECT_FINAL_ONLY },  { "no final", DEFECT_NO_FINAL },
        { "without final", DEFECT_NO_FINAL },   { "changed", DEFECT_CHANGED },        { "differ", DEFECT_CHANGED },
        { "output", DEFECT_OUTPUT },            { "trace transcript", DEFECT_TRACE }, { "transcript", DEFECT_TRANSCRIPT },
        { "over", DEFECT_BUDGET },              { "cap", DEFECT_BUDGET },             { "budget", DEFECT_BUDGET },
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (name.n && memmem(name.p, name.n, words[i].word, strlen(words[i].word)))
            return words[i].defect;
    return 0;
}

static size_t score_events(unsigned defect, struct span events[3])
{
    static const char *const types[] = { "{\"type\":\"role-assignment\"}", "{\"type\":\"agent-turn\"}", "{\"type\":\"final\"}" };
    size_t count = 0;
    for (size_t i = 0; i < 3; i++)
        if (!(defect & DEFECT_NO_EVENTS) && (!(defect & DEFECT_FINAL_ONLY) || i == 2) && (!(defect & DEFECT_NO_FINAL) || i != 2))
            events[count++] = span_of(types[i]);
    if (defect & DEFECT_CHANGED)
        events[1] = SPAN("{\"type\":\"agent-turn\",\"output\":\"other\"}");
    return count;
}

static bool score_vector(struct jv test, struct arena *arena, struct jw *w)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    unsigned    defect = defect_of(jv_string(jv_get(test, "name"), arena));
    struct span all[3], events[3];
    size_t      count = score_events(defect, events);
    score_events(0, all);
    buf_printf(&text, "{\"output\":\"%s\",\"transcript\":[%s],\"trace\":{\"protocol\":\"sequential\",\"transcript\":[{}%s],\"events\":[",
               defect & DEFECT_OUTPUT ? "  " : "out", defect & DEFECT_TRANSCRIPT ? "" : "{}", defect & DEFECT_TRACE ? ",{}" : "");
    buf_printf(&text, "%.*s,%.*s,%.*s]}", SPAN_ARG(all[0]), SPAN_ARG(all[1]), SPAN_ARG(all[2]));
    if (has(test, "quality")) {
        BUF_LIT(&text, ",\"quality\":");
        buf_span(&text, jv_raw(jv_get(test, "quality")));
    }
    BUF_LIT(&text, "}");
    const char *accounting = defect & DEFECT_BUDGET ? "{\"usdCapUtilization\":1.2}" : "{}";
    jw_key(w, "score");
    team_benchmark_score(json_read(buf_view(&text), arena), json_read(span_of(accounting), arena), events, count, w);
    return true;
}

/* ---- the files ---- */

/* The expected members of a case are those that the function wrote. */
static void run_case(struct span file, size_t number, struct jv test, vector_fn *fn, struct conform *conform)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf actual = { 0 }, pointer = { 0 }, difference = { 0 };
    struct jw w = jw_on(&actual);
    jw_obj(&w);
    bool applies = fn(test, &arena, &w);
    jw_end(&w);
    if (!applies)
        return;
    for (struct jv_iter it = jv_iter(json_read(buf_view(&actual), &arena)); jv_step(&it) && !difference.len;) {
        struct span name = jv_string(it.name, &arena);
        pointer.len = 0;
        json_pointer_push(&pointer, name);
        conform_differs(jv_get_span(test, name), it.value, &pointer, &difference);
    }
    struct span own = jv_string(jv_get(test, "name"), &arena);
    struct span name = arena_printf(&arena, "%.*s %zu%s%.*s", SPAN_ARG(file), number, own.n ? ": " : "", SPAN_ARG(own));
    buf_byte(&difference, '\0');
    conform->passed += difference.len == 1;
    conform->failed += difference.len != 1;
    conform->each(conform->user, name, difference.len == 1 ? NULL : difference.p);
}

void conform_vectors(struct jv file, struct conform *conform)
{
    static const struct {
        const char *name;
        vector_fn  *fn;
    } functions[] = {
        { "canonical-json", canonical_vector },   { "decisions", decisions_vector },
        { "ordering", ordering_vector },          { "termination", termination_vector },
        { "validation", validation_vector },      { "builtin-tools", builtin_vector },
        { "openai-compatible", compatible_vector }, { "benchmark-score", score_vector },
    };
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct span name = jv_string(jv_get(file, "name"), &arena);
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        size_t number = 0;
        if (!span_is(name, functions[i].name))
            continue;
        for (struct jv_iter it = jv_iter(jv_get(file, "cases")); jv_step(&it);)
            run_case(name, ++number, it.value, functions[i].fn, conform);
        return;
    }
    conform->failed++;
    conform->each(conform->user, name, "no such vectors are known");
}
