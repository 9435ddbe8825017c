/* SPDX-License-Identifier: Apache-2.0 */
/* budget.c - reading and writing "budget" (budget.h). */
#include "workflow/budget.h"

enum { DIGITS_BEHIND = 12 };

static const char *const breaches[] = { [BUDGET_FAIL] = "fail", [BUDGET_STOP] = "stop", [BUDGET_ASK] = "ask" };

static const struct cap {
    const char *name;
    size_t offset;
    int64_t most;
} caps[] = {
    { "max_tokens", offsetof(struct plan_budget, tokens), INT64_C(1000000000000) },
    { "max_model_calls", offsetof(struct plan_budget, model_calls), 1000000000 },
    { "max_tool_calls", offsetof(struct plan_budget, tool_calls), 1000000000 },
    { "max_seconds", offsetof(struct plan_budget, seconds), 31536000 },
};

static uint64_t *cap_of(struct plan_budget *budget, const struct cap *cap)
{
    return (uint64_t *)((char *)budget + cap->offset);
}

bool budget_usd(struct span text, int64_t *ret_pico)
{
    int64_t pico = 0;
    size_t i = 0, behind = 0;

    for (; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
        if ((pico = pico * 10 + (text.p[i] - '0')) > 9000000)
            return false;
    if (i == 0 || (i > 1 && text.p[0] == '0'))
        return false;
    if (i < text.n && text.p[i++] != '.')
        return false;
    if (i == text.n && text.p[i - 1] == '.')
        return false;
    for (; i < text.n; i++, behind++) {
        if (behind == DIGITS_BEHIND || text.p[i] < '0' || text.p[i] > '9')
            return false;
        pico = pico * 10 + (text.p[i] - '0');
    }
    for (; behind < DIGITS_BEHIND; behind++)
        pico *= 10;
    *ret_pico = pico;
    return pico > 0;
}

static struct span shortest(struct span usd)
{
    if (!memchr(usd.p, '.', usd.n))
        return usd;
    while (usd.p[usd.n - 1] == '0')
        usd.n--;
    usd.n -= usd.p[usd.n - 1] == '.';
    return usd;
}

static bool known(struct jv name)
{
    bool found = jv_str_eq(name, "max_usd") || jv_str_eq(name, "on_breach");
    for (size_t i = 0; i < ARRAY_LEN(caps); i++)
        found |= jv_str_eq(name, caps[i].name);
    return found;
}

static bool breach_of(struct jv v, enum budget_breach *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(breaches); i++)
        if (jv_str_eq(v, breaches[i])) {
            *ret = (enum budget_breach)i;
            return true;
        }
    return false;
}

/* What is wrong with one member, or NULL. */
static const char *read_member(struct span name, struct jv v, struct arena *arena, struct budget_text *ret)
{
    struct plan_budget *budget = &ret->budget;
    int64_t n;

    if (span_is(name, "max_usd")) {
        if (!jv_is(v, JSON_STRING) || !budget_usd(jv_string(v, arena), &budget->usd))
            return "must be an amount of USD above 0 in a string, like \"0.25\"";
        ret->max_usd = arena_copy(arena, shortest(jv_string(v, arena)));
        return NULL;
    }
    if (span_is(name, "on_breach"))
        return breach_of(v, &budget->on_breach) ? NULL : "must be fail, stop or ask";
    for (size_t i = 0; i < ARRAY_LEN(caps); i++)
        if (span_is(name, caps[i].name)) {
            if (!jv_i64(v, &n) || n < 1 || n > caps[i].most)
                return "must be an integer from 1 on, and not beyond reason";
            *cap_of(budget, &caps[i]) = (uint64_t)n;
        }
    return NULL;
}

void budget_read(struct jv budget, struct arena *arena, struct buf *at, struct issues *issues, struct budget_text *ret)
{
    size_t outer = at->len;

    *ret = (struct budget_text){ 0 };
    if (jv_is(budget, JSON_NONE) || jv_is(budget, JSON_NULL))
        return;
    BUF_LIT(at, "/budget");
    if (!jv_is(budget, JSON_OBJECT))
        issue_add(issues, buf_view(at), "type", "must be an object");
    else
        for (struct jv_iter it = jv_iter(budget); jv_step(&it);) {
            size_t before = at->len;
            struct span name = jv_string(it.name, arena);
            const char *wrong = known(it.name) ? read_member(name, it.value, arena, ret) : NULL;
            json_pointer_push(at, name);
            if (!known(it.name))
                issue_add(issues, buf_view(at), "unknown_member", "is not known here");
            else if (wrong)
                issue_add(issues, buf_view(at), "range", "%s", wrong);
            at->len = before;
        }
    at->len = outer;
}

void budget_write(const struct budget_text *text, struct jw *w)
{
    struct plan_budget budget = text->budget;
    bool any = text->max_usd.n;

    for (size_t i = 0; i < ARRAY_LEN(caps); i++)
        any |= *cap_of(&budget, &caps[i]) > 0;
    if (!any)
        return;
    jw_key(w, "budget");
    jw_obj(w);
    if (text->max_usd.n) {
        jw_key(w, "max_usd");
        jw_str(w, text->max_usd);
    }
    for (size_t i = 0; i < ARRAY_LEN(caps); i++)
        if (*cap_of(&budget, &caps[i])) {
            jw_key(w, caps[i].name);
            jw_u64(w, *cap_of(&budget, &caps[i]));
        }
    if (budget.on_breach != BUDGET_FAIL) {
        jw_key(w, "on_breach");
        jw_cstr(w, breaches[budget.on_breach]);
    }
    jw_end(w);
}

bool budget_open(struct jv budget, struct plan_budget *ret)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct issues issues = { .arena = &scratch };
    struct budget_text text;
    struct buf at = { 0 };

    budget_read(budget, &scratch, &at, &issues, &text);
    buf_done(&at);
    *ret = text.budget;
    return issues.count == 0;
}
