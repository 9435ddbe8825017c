/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - what an agent gives back: usage, the structured document, the three forms, the thread's values. */
#include "agent/state.h"
#include "base/json_schema.h"

/* ---- usage ---- */

const char *const agent_usage_words[USE_COUNT] = {
    [USE_INPUT] = "input_tokens", [USE_OUTPUT] = "output_tokens",  [USE_TOTAL] = "total_tokens",
    [USE_B_INPUT] = "input",      [USE_B_READ] = "cache_read",     [USE_B_WRITE] = "cache_write",
    [USE_B_OUTPUT] = "output",    [USE_B_REASONING] = "reasoning",
};

static void add_clamped(uint64_t *sum, uint64_t n)
{
    if (__builtin_add_overflow(*sum, n, sum) || *sum > INT64_MAX)
        *sum = INT64_MAX;
}

static uint64_t count_of(struct jv object, const char *name)
{
    int64_t n;
    return jv_i64(jv_get(object, name), &n) && n > 0 ? (uint64_t)n : 0;
}

void agent_usage_add(struct usage *usage, struct jv reported)
{
    struct usage one = { .known = true };
    struct jv buckets = jv_get(reported, "buckets");

    if (!jv_is(reported, JSON_OBJECT))
        return;
    for (int i = 0; i < USE_COUNT; i++)
        one.n[i] = count_of(i < USE_B_INPUT ? reported : buckets, agent_usage_words[i]);
    /* Who gives no buckets has cached and reasoned nothing that we know of. */
    if (!jv_is(buckets, JSON_OBJECT)) {
        one.n[USE_B_INPUT] = one.n[USE_INPUT];
        one.n[USE_B_OUTPUT] = one.n[USE_OUTPUT];
    }
    if (jv_is(jv_get(reported, "total_tokens"), JSON_NONE)) {
        add_clamped(&one.n[USE_TOTAL], one.n[USE_INPUT]);
        add_clamped(&one.n[USE_TOTAL], one.n[USE_OUTPUT]);
    }
    agent_usage_sum(usage, &one);
}

void agent_usage_sum(struct usage *usage, const struct usage *other)
{
    usage->known = usage->known || other->known;
    for (int i = 0; i < USE_COUNT; i++)
        add_clamped(&usage->n[i], other->n[i]);
}

static void put_totals(const struct usage *usage, struct jw *w)
{
    for (int i = 0; i < USE_B_INPUT; i++) {
        jw_key(w, agent_usage_words[i]);
        jw_u64(w, usage->n[i]);
    }
}

static void put_usage(const struct usage *usage, struct jw *w)
{
    jw_obj(w);
    put_totals(usage, w);
    jw_key(w, "buckets");
    jw_obj(w);
    for (int i = USE_B_INPUT; i < USE_COUNT; i++) {
        jw_key(w, agent_usage_words[i]);
        jw_u64(w, usage->n[i]);
    }
    jw_end(w);
    jw_end(w);
}

/* ---- structured output ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct span trimmed(struct span s)
{
    while (s.n && is_space(s.p[0]))
        s = span_make(s.p + 1, s.n - 1);
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Models like to put a document between three backticks, with a word behind the first ones. */
static struct span unfenced(struct span s)
{
    s = trimmed(s);
    if (s.n < 6 || memcmp(s.p, "```", 3) != 0 || memcmp(s.p + s.n - 3, "```", 3) != 0)
        return s;
    const char *line = memchr(s.p, '\n', s.n - 3);
    return line ? trimmed(span_make(line, s.n - 3 - (size_t)(line - s.p))) : s;
}

enum { OUTPUT_DEPTH = 64, WRONG_SHOWN = 20 };

static struct span schema_wrong(const struct issues *issues, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    BUF_LIT(&text, "The answer does not fit the schema:");
    for (size_t i = 0; i < issues->count && i < WRONG_SHOWN; i++)
        buf_printf(&text, "\n- %.*s %.*s", SPAN_ARG(issues->items[i].pointer), SPAN_ARG(issues->items[i].message));
    return arena_copy(arena, buf_view(&text));
}

bool agent_output_parse(const struct machine *m, struct arena *arena, struct span *ret_json, struct span *ret_wrong)
{
    CLEANUP(buf_done) struct buf at = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    struct span said = unfenced(jv_string(json_read(m->last.text, arena), arena));
    struct json *doc = ARENA_NEW(arena, struct json);
    struct issues issues = { .arena = arena };
    struct error error;

    if (json_parse(said, &(struct json_limits){ .depth = OUTPUT_DEPTH, .lone_surrogates = true }, arena, doc, &error)) {
        *ret_wrong = arena_printf(arena, "The answer is not a JSON document: %s.%s", error.message,
                                  span_is(m->last.finish_reason, "length") ? " It was cut off; make it shorter." : "");
        return false;
    }
    if (m->agent->checks_output && !json_schema_fits(m->agent->schema, json_root(doc), &at, &issues)) {
        *ret_wrong = schema_wrong(&issues, arena);
        return false;
    }
    json_minify(json_root(doc), &text);
    *ret_json = arena_copy(arena, buf_view(&text));
    return true;
}

/* ---- the forms ---- */

static struct span said(const struct machine *m)
{
    return m->last.text.n ? m->last.text : SPAN("\"\"");
}

static void form_text(const struct machine *m, struct span structured, struct jw *w)
{
    jw_key(w, "text");
    jw_raw(w, said(m));
    if (structured.n) {
        jw_key(w, "output");
        jw_raw(w, structured);
    }
    jw_key(w, "finish_reason");
    jw_str(w, m->last.finish_reason);
    jw_key(w, "steps");
    jw_u64(w, m->steps);
    if (m->usage.known) {
        jw_key(w, "usage");
        put_usage(&m->usage, w);
    }
}

static void form_message(struct span text, struct jw *w)
{
    jw_key(w, "role");
    jw_cstr(w, "assistant");
    jw_key(w, "content");
    jw_raw(w, text);
}

/* workflow-runs.md 5.6; clients know four providers and fail at any other. */
static void form_response(const struct machine *m, struct span text, struct jw *w, struct arena *arena)
{
    static const char *const known[] = { "anthropic", "openai", "xai", "google-ai-studio" };

    jw_key(w, "id");
    jw_str(w, m->last.response_id.n ? m->last.response_id : arena_printf(arena, "resp_%u", m->steps));
    jw_key(w, "model");
    jw_str(w, m->last.model.n ? m->last.model : m->agent->model);
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (span_is(m->agent->provider, known[i])) {
            jw_key(w, "provider");
            jw_cstr(w, known[i]);
        }
    jw_key(w, "output");
    jw_arr(w);
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, "message");
    jw_key(w, "role");
    jw_cstr(w, "assistant");
    jw_key(w, "content");
    jw_arr(w);
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, "text");
    jw_key(w, "text");
    jw_raw(w, text);
    jw_end(w);
    jw_arr_end(w);
    jw_end(w);
    jw_arr_end(w);
    jw_key(w, "stop_reason");
    jw_str(w, m->last.finish_reason);
    jw_key(w, "usage");
    jw_obj(w);
    put_totals(&m->usage, w);
    jw_end(w);
}

struct span agent_output_make(const struct machine *m, struct span structured, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    CLEANUP(buf_done) struct buf document = { 0 };
    struct jw w = jw_on(&text);

    /* These forms have no other place for the document, and their readers parse the text. */
    if (structured.n)
        json_put_string(&document, structured);
    struct span words = structured.n ? buf_view(&document) : said(m);
    jw_obj(&w);
    switch (m->agent->form) {
    case FORM_TEXT: form_text(m, structured, &w); break;
    case FORM_MESSAGE: form_message(words, &w); break;
    case FORM_RESPONSE: form_response(m, words, &w, arena); break;
    }
    jw_end(&w);
    return arena_copy(arena, buf_view(&text));
}

struct span agent_output_values(const struct machine *m, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    const struct agent *a = m->agent;

    if (!a->memory)
        return SPAN_NONE;
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(json_read(m->values, arena)); jv_step(&it);) {
        jw_key_span(&w, jv_string(it.name, arena));
        jw_raw(&w, jv_raw(it.value));
    }
    jw_key(&w, "messages");
    jw_arr(&w);
    /* System messages of the input are this run's, as the system prompt is the definition's. */
    uint32_t from = agent_talk_trim(m->messages.items, m->messages.count, a->max_messages, a->max_chars);
    for (uint32_t i = from; i < m->messages.count; i++)
        if (!agent_talk_is(m->messages.items[i], "system"))
            jw_raw(&w, m->messages.items[i]);
    jw_arr_end(&w);
    jw_end(&w);
    return arena_copy(arena, buf_view(&text));
}

struct span agent_output_for_caller(struct jv output, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    CLEANUP(buf_done) struct buf quoted = { 0 };
    struct jv structured = jv_get(output, "output"), words = jv_get(output, "text");

    if (jv_is(words, JSON_STRING))
        output = jv_is(structured, JSON_NONE) ? words : structured;
    json_minify(output, &text);
    if (jv_is(output, JSON_STRING))
        return arena_copy(arena, buf_view(&text));
    json_put_string(&quoted, text.len ? buf_view(&text) : SPAN("null"));
    return arena_copy(arena, buf_view(&quoted));
}
