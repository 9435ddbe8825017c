/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - the neutral answer of a provider, translated. */
#include "team/answer.h"

static bool has(struct jv v, const char *name)
{
    return jv_kind(jv_get(v, name)) != JSON_NONE;
}

static void copy(struct jw *w, struct jv from, const char *name)
{
    if (!has(from, name))
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(jv_get(from, name)));
}

static void put_finish(struct jw *w, struct jv reason)
{
    jw_key(w, "finishReason");
    if (jv_str_eq(reason, "tool_calls"))
        jw_cstr(w, "tool-calls");
    else if (jv_str_eq(reason, "content_filter"))
        jw_cstr(w, "content-filter");
    else
        jw_raw(w, jv_raw(reason));
}

static void put_count(struct jw *w, const char *name, struct jv usage, const char *neutral)
{
    double number = 0;
    jv_f64(jv_get(usage, neutral), &number);
    jw_key(w, name);
    jw_f64(w, number);
}

static void put_usage(struct jw *w, struct jv usage)
{
    jw_key(w, "usage");
    jw_obj(w);
    put_count(w, "inputTokens", usage, "input_tokens");
    put_count(w, "outputTokens", usage, "output_tokens");
    put_count(w, "totalTokens", usage, "total_tokens");
    jw_end(w);
}

static struct span tool_id(const struct team *team, struct span name, struct arena *arena)
{
    for (size_t i = 0; i < team->tool_count; i++)
        if (span_eq(jv_string(jv_get(json_read(team->tools[i].identity, arena), "name"), arena), name))
            return team->tools[i].id;
    return name;
}

static void put_call(const struct team *team, struct jw *w, struct jv call, struct arena *arena)
{
    struct jv arguments = json_read(jv_string(jv_get(call, "arguments"), arena), arena);
    jw_obj(w);
    jw_key(w, "toolId"), jw_str(w, tool_id(team, jv_string(jv_get(call, "name"), arena), arena));
    jw_key(w, "input"), jw_raw(w, jv_is(arguments, JSON_OBJECT) ? jv_raw(arguments) : SPAN("{}"));
    if (has(call, "id"))
        jw_key(w, "toolCallId"), jw_raw(w, jv_raw(jv_get(call, "id")));
    jw_end(w);
}

/* A number, or the host's decimal text. */
static void put_cost(struct jw *w, struct jv cost, struct arena *arena)
{
    struct jv number = jv_is(cost, JSON_STRING) ? json_read(jv_string(cost, arena), arena) : cost;
    if (jv_is(number, JSON_NUMBER))
        jw_key(w, "costUsd"), jw_raw(w, jv_raw(number));
}

static void put_neutral(const struct team *team, struct jw *w, struct jv answer, struct arena *arena)
{
    if (!has(answer, "finishReason") && has(answer, "finish_reason"))
        put_finish(w, jv_get(answer, "finish_reason"));
    if (!has(answer, "costUsd"))
        put_cost(w, jv_get(answer, "cost_usd"), arena);
    if (has(answer, "toolRequests") || !jv_count(jv_get(answer, "tool_calls")))
        return;
    jw_key(w, "toolRequests");
    jw_arr(w);
    for (struct jv_iter it = jv_iter(jv_get(answer, "tool_calls")); jv_step(&it);)
        put_call(team, w, it.value, arena);
    jw_arr_end(w);
}

struct span team_answer(const struct team *team, struct jv answer, struct arena *arena)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    CLEANUP(buf_done) struct buf out = { 0 };
    struct jw w = jw_on(&out);
    struct jv usage = jv_get(answer, "usage");
    jw_obj(&w);
    copy(&w, answer, "text");
    copy(&w, answer, "finishReason");
    copy(&w, answer, "toolRequests");
    copy(&w, answer, "costUsd");
    copy(&w, answer, "metadata");
    if (has(usage, "input_tokens"))
        put_usage(&w, usage);
    else
        copy(&w, answer, "usage");
    put_neutral(team, &w, answer, &scratch);
    jw_end(&w);
    return team_canonical_text(buf_view(&out), arena);
}
