/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_team.c - any bytes as an agent's answer, as a team's definition and as a saved machine: nothing crashes, what compiles
 * runs to its end, and what is loaded is saved as it was.
 *
 * The first byte chooses. Definitions are run with answers drawn from the bytes; after each step the machine may be replaced by
 * one that was loaded from its text. */
#include "base/ids.h"
#include "team/decision.h"
#include "team/plan.h"
#include "team/team.h"
#include "team/text.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPEN_MAX = 512, STEPS_MAX = 300 };

struct open_calls {
    struct op_path     op[OPEN_MAX];
    enum input_kind    kind[OPEN_MAX];
    size_t             count;
    bool               ended;
};

static uint32_t draw(uint64_t *seed, size_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*seed >> 33) % below);
}

static void note(struct open_calls *open, const struct effects *fx)
{
    for (size_t i = 0; i < fx->count; i++) {
        const struct effect *e = &fx->items[i];
        open->ended = open->ended || e->kind == FX_FINISH || e->kind == FX_FAIL;
        if ((e->kind != FX_MODEL && e->kind != FX_TOOL) || open->count == OPEN_MAX)
            continue;
        open->op[open->count] = e->op;
        open->kind[open->count++] = e->kind == FX_MODEL ? IN_MODEL : IN_TOOL;
    }
}

static void reload(const struct plan *plan, struct arena *arena, struct machine **m)
{
    struct buf      before = { 0 }, after = { 0 };
    struct machine *loaded;
    assert(team_ops.save(*m, &before) == ERR_OK);
    assert(team_ops.load(plan, buf_view(&before), arena, &loaded) == ERR_OK);
    assert(team_ops.save(loaded, &after) == ERR_OK);
    assert(span_eq(buf_view(&before), buf_view(&after)));
    *m = loaded;
    buf_done(&before);
    buf_done(&after);
}

static struct input next_input(struct open_calls *open, uint64_t *seed)
{
    static const char *const answers[] = {
        "{\"text\":\"a b\",\"usage\":{\"inputTokens\":1,\"outputTokens\":1,\"totalTokens\":2},\"costUsd\":0.1}",
        "{\"text\":\"role_selected: a\\nparticipation: abstain\\nrationale: b\\ncontribution:\\nc\"}",
        "{\"text\":\"a b\",\"toolRequests\":[{\"toolId\":\"t\",\"input\":{}},{\"toolId\":\"none\"},{\"toolId\":7,\"input\":[]}]}",
        "{\"text\":\"x\",\"finish_reason\":\"tool_calls\",\"tool_calls\":[{\"id\":\"1\",\"name\":\"t\",\"arguments\":\"{\"}]}",
        "{\"quality\":1}", "null", "7", "{\"text\":5,\"toolRequests\":{\"a\":[]}}",
    };
    size_t       at = draw(seed, open->count);
    struct input in = { .kind = open->kind[at], .op = open->op[at], .value = span_of(answers[draw(seed, ARRAY_LEN(answers))]) };
    in.err = draw(seed, 40) ? ERR_OK : draw(seed, 2) ? ERR_MODEL : ERR_BUDGET;
    open->op[at] = open->op[--open->count];
    open->kind[at] = open->kind[open->count];
    return in;
}

static void run(const struct plan *plan, uint64_t seed)
{
    struct arena      arena = { 0 }, step = { 0 };
    struct effects    fx = { .arena = &step };
    struct open_calls open = { 0 };
    struct machine   *m;
    struct input      in = { .kind = IN_START, .value = SPAN("{\"input\":\"i\",\"values\":{}}") };
    assert(team_ops.init(plan, &arena, &m) == ERR_OK);
    for (int i = 0; i < STEPS_MAX && !open.ended; i++) {
        fx.count = 0;
        arena_reset(&step);
        in.elapsed_us = (uint64_t)i * 1000;
        assert(team_ops.step(m, &in, &fx) == ERR_OK);
        note(&open, &fx);
        assert(open.ended || open.count > 0);
        if (draw(&seed, 4) == 0)
            reload(plan, &arena, &m);
        if (open.count)
            in = next_input(&open, &seed);
    }
    free(fx.items);
    arena_done(&arena);
    arena_done(&step);
}

static void definition(const uint8_t *data, size_t size)
{
    struct arena  arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct plan   plan = { 0 };
    struct json   doc;
    if (json_parse(span_make(data, size), &(struct json_limits){ .depth = 64 }, &arena, &doc, NULL) == ERR_OK) {
        enum err err = team_ops.compile(json_root(&doc), &plan, &issues);
        assert((err == ERR_OK) == (issues.count == 0));
        if (err == ERR_OK)
            run(&plan, hash64(data, size));
    }
    arena_done(&plan.arena);
    arena_done(&arena);
}

static void decision(struct span text)
{
    struct team_decision d;
    struct arena         arena = { 0 };
    if (team_decision_parse(text, &d)) {
        assert(d.role.n && d.rationale.n && d.contribution.n);
        assert(d.role.p >= text.p && d.contribution.p + d.contribution.n <= text.p + text.n);
    }
    struct span lower = js_lower(text, &arena), trimmed = js_trim(text);
    assert(trimmed.n <= text.n && (lower.n || !text.n));
    double same = team_similarity(text, text), other = team_similarity(text, SPAN("a b c"));
    assert(same == 1 && other >= 0 && other <= 1);
    arena_done(&arena);
}

static void saved(struct span text)
{
    static const char plan_text[] = "{\"format\":1,\"kind\":\"team\",\"team\":{\"model\":{\"provider\":\"p\"},\"protocol\":\"broadcast\"}}";
    struct plan     plan = { .json = span_of(plan_text) };
    struct arena    arena = { 0 };
    struct machine *m;
    assert(team_ops.open(&plan) == ERR_OK);
    if (team_ops.load(&plan, text, &arena, &m) == ERR_OK)
        reload(&plan, &arena, &m);
    arena_done(&arena);
    arena_done(&plan.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        decision(span_make(data + 1, size - 1));
        break;
    case 1:
        saved(span_make(data + 1, size - 1));
        break;
    default:
        definition(data + 1, size - 1);
    }
    return 0;
}
