/* SPDX-License-Identifier: Apache-2.0 */
/* provider_scripted.c - the model that is built in: it needs no key and streams what it was told to, at a chosen pace.
 *
 * The member `script` of a request says what happens; all of its members are optional:
 *
 *   text                what to say; without it a few paragraphs about the last user message (scripted_text.c)
 *   chunk               characters per chunk; without it word by word
 *   interval_ms         from one chunk to the next, 20 unless said
 *   finish_reason       "stop" unless said
 *   usage               {"input_tokens", "output_tokens"}, or null for none; without it words are counted
 *   error               an error object (agent-runs.md 3.2) to end with: at once, or behind the text if there is one
 *   error_after_chunks  … or behind so many chunks
 *   cut_after_chunks    ends like a connection that breaks behind so many chunks
 *
 * What it says depends on the request alone, so it can go on behind any chunk after a crash. */
#include "base/utf8.h"
#include "model/provider.h"

enum { INTERVAL_DEFAULT = 20, WORD_CHARS_MAX = 32, CHUNK_CHARS_MAX = 65536 };

struct script {
    struct span text, finish_reason;
    int64_t     chunk, interval_ms, error_after, cut_after; /* -1: not said */
    struct jv   usage, error;
};

struct script_usage {
    int64_t input_tokens, output_tokens;
};

struct script_error {
    struct span code, category, message, source, provider_code;
    bool        retryable;
    int64_t     retry_after_ms;
};

enum ending { END_OK, END_ERROR, END_CUT };

struct scripted_call {
    struct model_call   call; /* first */
    struct pace         pace;
    struct span         text;
    size_t              at; /* where the next chunk begins */
    size_t              chunk_chars; /* 0: word by word */
    struct span         finish_reason;
    bool                has_usage;
    struct script_usage usage;
    enum ending         ending;
    struct failure      failure; /* of END_ERROR */
    struct buf          made;    /* a text that was made up */
};

#define TOKENS_MAX ((int64_t)1 << 53)

static const struct field script_fields[] = {
    { "text",               FIELD_STRING, offsetof(struct script, text),          false, 0, 0 },
    { "chunk",              FIELD_INT,    offsetof(struct script, chunk),         false, 1, CHUNK_CHARS_MAX },
    { "interval_ms",        FIELD_INT,    offsetof(struct script, interval_ms),   false, 0, PACE_INTERVAL_MAX },
    { "finish_reason",      FIELD_STRING, offsetof(struct script, finish_reason), false, 1, 64 },
    { "usage",              FIELD_ANY,    offsetof(struct script, usage),         false, 0, 0 },
    { "error",              FIELD_OBJECT, offsetof(struct script, error),         false, 0, 0 },
    { "error_after_chunks", FIELD_INT,    offsetof(struct script, error_after),   false, 0, INT32_MAX },
    { "cut_after_chunks",   FIELD_INT,    offsetof(struct script, cut_after),     false, 0, INT32_MAX },
};

static const struct field usage_fields[] = {
    { "input_tokens",  FIELD_INT, offsetof(struct script_usage, input_tokens),  true, 0, TOKENS_MAX },
    { "output_tokens", FIELD_INT, offsetof(struct script_usage, output_tokens), true, 0, TOKENS_MAX },
};

static const struct field error_fields[] = {
    { "code",           FIELD_STRING, offsetof(struct script_error, code),           true,  1, 64 },
    { "category",       FIELD_STRING, offsetof(struct script_error, category),       false, 1, 64 },
    { "message",        FIELD_STRING, offsetof(struct script_error, message),        false, 0, 4096 },
    { "retryable",      FIELD_BOOL,   offsetof(struct script_error, retryable),      false, 0, 0 },
    { "source",         FIELD_STRING, offsetof(struct script_error, source),         false, 1, 64 },
    { "provider_code",  FIELD_STRING, offsetof(struct script_error, provider_code),  false, 0, 128 },
    { "retry_after_ms", FIELD_INT,    offsetof(struct script_error, retry_after_ms), false, 0, INT32_MAX },
};

/* agent-runs.md 3.2 */
static const char *const categories[] = {
    "validation", "auth", "not_found", "conflict", "rate_limit", "timeout", "network", "provider", "tool", "model", "budget",
    "human", "replay", "infrastructure", "cancelled", "internal", NULL,
};
static const char *const sources[] = { "agent", "tool", "model", "runtime", "provider", "human", "client", NULL };

/* ---- chunks ---- */

/* The text is JSON's, so it is well-formed (a lone surrogate counts as one character). */
static size_t char_bytes(struct span text, size_t at)
{
    uint32_t cp;
    unsigned n = utf8_decode(text.p + at, text.p + text.n, true, &cp);
    return n ? n : 1;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t chunk_by_chars(struct span text, size_t at, size_t chars)
{
    while (chars-- > 0 && at < text.n)
        at += char_bytes(text, at);
    return at;
}

/* A word and the white space behind it. Words without end (CJK, base64) are cut, so that each chunk stays small. */
static size_t chunk_by_word(struct span text, size_t at)
{
    size_t chars = 0;
    while (at < text.n && is_blank(text.p[at]) && chars++ < WORD_CHARS_MAX)
        at++;
    while (at < text.n && !is_blank(text.p[at]) && chars++ < WORD_CHARS_MAX)
        at += char_bytes(text, at);
    while (at < text.n && is_blank(text.p[at]) && chars++ < WORD_CHARS_MAX)
        at++;
    return at;
}

static size_t chunk_end(const struct scripted_call *scripted, size_t at)
{
    return scripted->chunk_chars ? chunk_by_chars(scripted->text, at, scripted->chunk_chars) : chunk_by_word(scripted->text, at);
}

static uint64_t chunk_count(const struct scripted_call *scripted)
{
    uint64_t count = 0;
    for (size_t at = 0; at < scripted->text.n; at = chunk_end(scripted, at))
        count++;
    return count;
}

static void scripted_chunk(struct model_call *call, uint64_t index)
{
    struct scripted_call *scripted = (struct scripted_call *)call;
    size_t                from = scripted->at;
    scripted->at = chunk_end(scripted, from);
    call_chunk(call, CHUNK_TEXT, span_make(scripted->text.p + from, scripted->at - from));
}

/* ---- the end ---- */

static void end_well(struct scripted_call *scripted)
{
    struct buf result = { 0 };
    struct jw  w = jw_on(&result);

    jw_obj(&w);
    jw_key(&w, "text");          jw_str(&w, scripted->text);
    jw_key(&w, "finish_reason"); jw_str(&w, scripted->finish_reason);
    if (scripted->has_usage) {
        jw_key(&w, "usage");
        jw_obj(&w);
        jw_key(&w, "input_tokens");  jw_i64(&w, scripted->usage.input_tokens);
        jw_key(&w, "output_tokens"); jw_i64(&w, scripted->usage.output_tokens);
        jw_end(&w);
    }
    if (scripted->call.model.n) {
        jw_key(&w, "model");
        jw_str(&w, scripted->call.model);
    }
    jw_end(&w);
    call_end(&scripted->call, ERR_OK, buf_view(&result));
    buf_done(&result);
}

static void scripted_end(struct model_call *call)
{
    static const struct failure cut = {
        .code = "stream_cut", .category = "network", .retryable = true, .retry_after_ms = -1,
        .message = { "the connection ended in the middle of the answer", 48 },
    };
    struct scripted_call *scripted = (struct scripted_call *)call;
    switch (scripted->ending) {
    case END_OK:    end_well(scripted); break;
    case END_ERROR: provider_fail(call, &scripted->failure); break;
    case END_CUT:   provider_fail(call, &cut); break;
    }
}

/* ---- the start ---- */

/* Returns the last user message; counts the words of all. */
static struct span read_messages(struct jv messages, struct arena *arena, int64_t *ret_words)
{
    struct span prompt = SPAN_NONE;
    int64_t     words = 0;
    if (jv_is(messages, JSON_ARRAY)) {
        for (struct jv_iter it = jv_iter(messages); jv_step(&it);) {
            struct span text = content_text(jv_get(it.value, "content"), arena);
            words += (int64_t)text_words(text);
            if (jv_str_eq(jv_get(it.value, "role"), "user"))
                prompt = text;
        }
    }
    *ret_words = words;
    return prompt;
}

static const char *one_of(const char *const *list, struct span text)
{
    while (*list && !span_is(text, *list))
        list++;
    return *list;
}

static enum err read_error(struct scripted_call *scripted, struct jv value, struct error *error)
{
    struct arena       *arena = &scripted->call.arena;
    struct script_error want = { .category = SPAN("model"), .source = SPAN("model"), .retry_after_ms = -1 };
    enum err err = fields_read(value, "/script/error", error_fields, ARRAY_LEN(error_fields), arena, &want, error);
    if (err)
        return err;
    scripted->failure = (struct failure){
        .code = arena_copy(arena, want.code).p,
        .category = one_of(categories, want.category),
        .source = one_of(sources, want.source),
        .retryable = want.retryable,
        .message = want.message.n ? want.message : SPAN("the script says so"),
        .provider_code = want.provider_code,
        .retry_after_ms = want.retry_after_ms,
    };
    if (!scripted->failure.category)
        return field_error(error, "/script/error", SPAN("category"), "there is no such category");
    if (!scripted->failure.source)
        return field_error(error, "/script/error", SPAN("source"), "there is no such source");
    scripted->ending = END_ERROR;
    return ERR_OK;
}

static enum err read_usage(struct scripted_call *scripted, struct jv value, int64_t input_words, struct error *error)
{
    scripted->has_usage = !jv_is(value, JSON_NULL);
    if (!scripted->has_usage)
        return ERR_OK;
    if (jv_is(value, JSON_NONE)) {
        scripted->usage.input_tokens = input_words;
        scripted->usage.output_tokens = (int64_t)text_words(scripted->text);
        return ERR_OK;
    }
    return fields_read(value, "/script/usage", usage_fields, ARRAY_LEN(usage_fields), &scripted->call.arena, &scripted->usage,
                       error);
}

/* How many chunks there will be before the end. */
static enum err read_limits(struct scripted_call *scripted, const struct script *script, uint64_t *ret_count, struct error *error)
{
    uint64_t count = chunk_count(scripted);
    int64_t  limit = script->error_after >= 0 ? script->error_after : script->cut_after;

    if (script->error_after >= 0 && scripted->ending != END_ERROR)
        return field_error(error, "/script", SPAN("error_after_chunks"), "needs an error beside it");
    if (script->cut_after >= 0 && scripted->ending == END_ERROR)
        return field_error(error, "/script", SPAN("cut_after_chunks"), "cannot stand beside an error");
    if (script->cut_after >= 0)
        scripted->ending = END_CUT;
    *ret_count = limit >= 0 && (uint64_t)limit < count ? (uint64_t)limit : count;
    return ERR_OK;
}

static void choose_text(struct scripted_call *scripted, const struct script *script, struct span prompt)
{
    bool error_at_once = scripted->ending == END_ERROR && script->error_after < 0;
    scripted->text = script->text;
    if (!script->text.p && !error_at_once) {
        scripted_paragraphs(prompt, &scripted->made);
        scripted->text = buf_view(&scripted->made);
    }
}

static enum err scripted_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    struct scripted_call *scripted = (struct scripted_call *)call;
    struct model_request  want;
    struct script         script = { .interval_ms = INTERVAL_DEFAULT, .error_after = -1, .cut_after = -1,
                                     .finish_reason = SPAN("stop") };
    uint64_t              count = 0;
    int64_t               words = 0;

    enum err err = request_check(request, &call->arena, &want, error);
    if (!err && jv_is(want.script, JSON_OBJECT))
        err = fields_read(want.script, "/script", script_fields, ARRAY_LEN(script_fields), &call->arena, &script, error);
    if (!err && jv_is(script.error, JSON_OBJECT))
        err = read_error(scripted, script.error, error);
    if (err)
        return err;
    scripted->chunk_chars = (size_t)script.chunk;
    scripted->finish_reason = script.finish_reason;
    choose_text(scripted, &script, read_messages(want.messages, &call->arena, &words));
    if ((err = read_usage(scripted, script.usage, words, error)) || (err = read_limits(scripted, &script, &count, error)))
        return err;

    scripted->pace.emit = scripted_chunk;
    scripted->pace.end = scripted_end;
    pace_start(&scripted->pace, call, skip_chunks, count, (uint64_t)script.interval_ms);
    for (uint64_t k = 0; k < scripted->pace.first; k++)
        scripted->at = chunk_end(scripted, scripted->at);
    return ERR_OK;
}

static void scripted_close(struct model_call *call)
{
    pace_stop(&((struct scripted_call *)call)->pace);
}

static void scripted_release(struct model_call *call)
{
    buf_done(&((struct scripted_call *)call)->made);
}

const struct provider_ops provider_scripted = {
    .kind = "scripted",
    .fixed_name = "scripted",
    .resumable = true,
    .call_size = sizeof(struct scripted_call),
    .start = scripted_start,
    .close = scripted_close,
    .release = scripted_release,
};
