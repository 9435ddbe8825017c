/* SPDX-License-Identifier: Apache-2.0 */
/* provider_scripted.c - the model that is built in: it needs no key and streams what it was told to, at a chosen pace.
 *
 * The member `script` of a request says what happens; all of its members are optional:
 *
 *   text                what to say; without it, and without tool_calls, a few paragraphs about the last user message
 *   echo                true: say the last message, a person's or a tool's, as it is; only without text
 *   reasoning           what to think before that
 *   tool_calls          [{"name", "arguments"?: object or text, "id"?}…] behind the text
 *   chunk               characters per chunk; without it word by word
 *   interval_ms         from one chunk to the next, 20 unless said
 *   delay_ms            before the first chunk
 *   finish_reason       "stop", or "tool_calls" if there are some, unless said
 *   usage               {"input_tokens", "output_tokens", "cache_read_tokens"?, "cache_write_tokens"?, "reasoning_tokens"?}: the
 *                       first two include the others; null for none; without it words are counted
 *   provider_state      an object to give back
 *   answer              members that the answer has besides, or instead of those it would have ("cost_usd", a team's
 *                       "toolRequests" …)
 *   error               an error object (agent-runs.md 3.2), or {"status": 429, …}: the error that a provider's answer with
 *                       this status is; at once, or behind the text if there is one
 *   error_after_chunks  … or behind so many chunks
 *   cut_after_chunks    ends like a connection that breaks behind so many chunks
 *   fail_tries          error or cut only in so many tries of the same call; then it goes well
 *   turns               [script…] instead of all of these: the n-th call of a conversation, by the assistant's messages in the
 *                       request; behind the end of the list its last one
 *
 * What it says depends on the request and the try alone, so it can go on behind any chunk after a crash. */
#include "base/utf8.h"
#include "model/answer.h"
#include "model/fault.h"
#include "model/provider.h"

enum { INTERVAL_DEFAULT = 20, WORD_CHARS_MAX = 32, CHUNK_CHARS_MAX = 65536, TURNS_MAX = 1024 };

struct script {
    struct span text, reasoning, finish_reason;
    int64_t     chunk, interval_ms, delay_ms, error_after, cut_after, fail_tries; /* -1: not said */
    struct jv   usage, error, tool_calls, provider_state, more, turns;
    bool        echo;
};

struct script_usage {
    int64_t input, output, cached, written, reasoning;
};

struct script_error {
    struct span code, category, message, source, provider_code;
    bool        retryable;
    int64_t     retry_after_ms, status;
};

struct script_call {
    struct span id, name;
    struct jv   arguments;
};

enum ending { END_OK, END_ERROR, END_CUT };

/* A piece of the answer that is cut into chunks of its own. */
struct segment {
    enum model_chunk_kind kind;
    struct span           text;
};

struct scripted_call {
    struct model_call call; /* first */
    struct pace       pace;
    struct segment    segments[TOOL_CALLS_MAX + 2];
    size_t            segment_count, segment; /* the one that the next chunk is from */
    size_t            at;                     /* and where in it */
    size_t            chunk_chars;            /* 0: word by word */
    size_t            turn;                   /* from 0 */
    struct span       text, finish_reason;
    struct answer     answer;                 /* what is told at a good end, but for text and finish reason */
    struct span       more;                   /* JSON object of members that it has besides, or empty */
    enum ending       ending;
    struct failure    failure; /* of END_ERROR */
    struct buf        made;    /* a text that was made up */
};

#define TOKENS_MAX ((int64_t)1 << 53)

#define AT(member) offsetof(struct script, member)
static const struct field script_fields[] = {
    { "text",               FIELD_STRING, AT(text),           false, 0, 0 },
    { "echo",               FIELD_BOOL,   AT(echo),           false, 0, 0 },
    { "reasoning",          FIELD_STRING, AT(reasoning),      false, 0, 0 },
    { "tool_calls",         FIELD_ARRAY,  AT(tool_calls),     false, 0, 0 },
    { "chunk",              FIELD_INT,    AT(chunk),          false, 1, CHUNK_CHARS_MAX },
    { "interval_ms",        FIELD_INT,    AT(interval_ms),    false, 0, PACE_INTERVAL_MAX },
    { "delay_ms",           FIELD_INT,    AT(delay_ms),       false, 0, PACE_INTERVAL_MAX },
    { "finish_reason",      FIELD_STRING, AT(finish_reason),  false, 1, 64 },
    { "usage",              FIELD_ANY,    AT(usage),          false, 0, 0 },
    { "provider_state",     FIELD_OBJECT, AT(provider_state), false, 0, 0 },
    { "answer",             FIELD_OBJECT, AT(more),           false, 0, 0 },
    { "error",              FIELD_OBJECT, AT(error),          false, 0, 0 },
    { "error_after_chunks", FIELD_INT,    AT(error_after),    false, 0, INT32_MAX },
    { "cut_after_chunks",   FIELD_INT,    AT(cut_after),      false, 0, INT32_MAX },
    { "fail_tries",         FIELD_INT,    AT(fail_tries),     false, 1, INT32_MAX },
    { "turns",              FIELD_ARRAY,  AT(turns),          false, 0, 0 },
};
#undef AT

static const struct field usage_fields[] = {
    { "input_tokens",       FIELD_INT, offsetof(struct script_usage, input),     true,  0, TOKENS_MAX },
    { "output_tokens",      FIELD_INT, offsetof(struct script_usage, output),    true,  0, TOKENS_MAX },
    { "cache_read_tokens",  FIELD_INT, offsetof(struct script_usage, cached),    false, 0, TOKENS_MAX },
    { "cache_write_tokens", FIELD_INT, offsetof(struct script_usage, written),   false, 0, TOKENS_MAX },
    { "reasoning_tokens",   FIELD_INT, offsetof(struct script_usage, reasoning), false, 0, TOKENS_MAX },
};

static const struct field error_fields[] = {
    { "code",           FIELD_STRING, offsetof(struct script_error, code),           false, 1, 64 },
    { "status",         FIELD_INT,    offsetof(struct script_error, status),         false, 400, 599 },
    { "category",       FIELD_STRING, offsetof(struct script_error, category),       false, 1, 64 },
    { "message",        FIELD_STRING, offsetof(struct script_error, message),        false, 0, 4096 },
    { "retryable",      FIELD_BOOL,   offsetof(struct script_error, retryable),      false, 0, 0 },
    { "source",         FIELD_STRING, offsetof(struct script_error, source),         false, 1, 64 },
    { "provider_code",  FIELD_STRING, offsetof(struct script_error, provider_code),  false, 0, 128 },
    { "retry_after_ms", FIELD_INT,    offsetof(struct script_error, retry_after_ms), false, 0, INT32_MAX },
};

static const struct field call_fields[] = {
    { "id",        FIELD_STRING, offsetof(struct script_call, id),        false, 1, 512 },
    { "name",      FIELD_STRING, offsetof(struct script_call, name),      true,  1, 128 },
    { "arguments", FIELD_ANY,    offsetof(struct script_call, arguments), false, 0, 0 },
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

static size_t chunk_end(const struct scripted_call *scripted, struct span text, size_t at)
{
    return scripted->chunk_chars ? chunk_by_chars(text, at, scripted->chunk_chars) : chunk_by_word(text, at);
}

static uint64_t chunk_count(const struct scripted_call *scripted)
{
    uint64_t count = 0;
    for (size_t i = 0; i < scripted->segment_count; i++)
        for (size_t at = 0; at < scripted->segments[i].text.n; at = chunk_end(scripted, scripted->segments[i].text, at))
            count++;
    return count;
}

/* There is one: the pace counts them. */
static struct segment next_chunk(struct scripted_call *scripted)
{
    while (scripted->at == scripted->segments[scripted->segment].text.n) {
        assert(scripted->segment + 1 < scripted->segment_count);
        scripted->segment++;
        scripted->at = 0;
    }
    struct segment segment = scripted->segments[scripted->segment];
    size_t         from = scripted->at;
    scripted->at = chunk_end(scripted, segment.text, from);
    segment.text = span_make(segment.text.p + from, scripted->at - from);
    return segment;
}

static void scripted_chunk(struct model_call *call, uint64_t index)
{
    struct segment chunk = next_chunk((struct scripted_call *)call);
    call_chunk(call, chunk.kind, chunk.text);
}

/* ---- the end ---- */

/* The members of `more` win. */
static void add_members(struct scripted_call *scripted, struct buf *result)
{
    struct arena *arena = &scripted->call.arena;
    struct jv     more = json_read(scripted->more, arena), own = json_read(arena_copy(arena, buf_view(result)), arena);
    result->len = 0;
    struct jw w = jw_on(result);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(own); jv_step(&it);) {
        struct span name = jv_string(it.name, arena);
        if (!jv_is(jv_get(more, arena_copy(arena, name).p), JSON_NONE))
            continue;
        jw_key_span(&w, name);
        jw_raw(&w, jv_raw(it.value));
    }
    for (struct jv_iter it = jv_iter(more); jv_step(&it);) {
        jw_key_span(&w, jv_string(it.name, arena));
        jw_raw(&w, jv_raw(it.value));
    }
    jw_end(&w);
}

static void end_well(struct scripted_call *scripted)
{
    struct answer *answer = &scripted->answer;
    struct buf     result = { 0 };
    buf_span(&answer->text, scripted->text);
    buf_span(&answer->model, scripted->call.model);
    answer->finish = arena_copy(&scripted->call.arena, scripted->finish_reason).p;
    answer_to_json(answer, &result);
    if (scripted->more.n)
        add_members(scripted, &result);
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

struct conversation {
    struct span prompt; /* the last user message */
    struct span last;   /* the last message */
    int64_t     words;  /* of all */
    size_t      answers;
};

static struct conversation read_messages(struct jv messages, struct arena *arena)
{
    struct conversation ret = { 0 };
    if (!jv_is(messages, JSON_ARRAY))
        return ret;
    for (struct jv_iter it = jv_iter(messages); jv_step(&it);) {
        struct span text = content_text(jv_get(it.value, "content"), arena);
        ret.words += (int64_t)text_words(text);
        if (jv_str_eq(jv_get(it.value, "role"), "user"))
            ret.prompt = text;
        ret.last = text;
        ret.answers += jv_str_eq(jv_get(it.value, "role"), "assistant");
    }
    return ret;
}

static const char *one_of(const char *const *list, struct span text)
{
    while (*list && !span_is(text, *list))
        list++;
    return *list;
}

/* {"status": 429}: what would come of a provider's answer with it. */
static struct failure failure_of_status(const struct script_error *want, struct arena *arena)
{
    struct provider_fault fault = { .message = want->message, .code = want->provider_code };
    return fault_class(&fault, (int)want->status, want->retry_after_ms, arena);
}

static enum err read_error(struct scripted_call *scripted, struct jv value, const char *pointer, struct error *error)
{
    struct arena       *arena = &scripted->call.arena;
    struct script_error want = { .category = SPAN("model"), .source = SPAN("model"), .retry_after_ms = -1 };
    enum err err = fields_read(value, pointer, error_fields, ARRAY_LEN(error_fields), arena, &want, error);
    if (err)
        return err;
    if ((want.code.n > 0) == (want.status > 0))
        return field_error(error, pointer, SPAN("code"), want.status ? "cannot stand beside status" : "is required");
    scripted->failure = want.status ? failure_of_status(&want, arena) : (struct failure){
        .code = arena_copy(arena, want.code).p,
        .category = one_of(categories, want.category),
        .source = one_of(sources, want.source),
        .retryable = want.retryable,
        .message = want.message.n ? want.message : SPAN("the script says so"),
        .provider_code = want.provider_code,
        .retry_after_ms = want.retry_after_ms,
    };
    if (!scripted->failure.category)
        return field_error(error, pointer, SPAN("category"), "there is no such category");
    if (!want.status && !scripted->failure.source)
        return field_error(error, pointer, SPAN("source"), "there is no such source");
    scripted->ending = END_ERROR;
    return ERR_OK;
}

static void add_segment(struct scripted_call *scripted, enum model_chunk_kind kind, struct span text)
{
    assert(scripted->segment_count < ARRAY_LEN(scripted->segments));
    scripted->segments[scripted->segment_count++] = (struct segment){ kind, text };
}

static enum err add_call(struct scripted_call *scripted, struct jv value, const char *pointer, struct error *error)
{
    struct script_call want = { 0 };
    enum err err = fields_read(value, pointer, call_fields, ARRAY_LEN(call_fields), &scripted->call.arena, &want, error);
    if (err)
        return err;
    size_t            index = scripted->answer.tool_count;
    struct tool_call *tool = answer_tool(&scripted->answer, (int64_t)index);
    if (!tool)
        return error_set(error, ERR_VALIDATION, pointer, "there are more than %d calls", TOOL_CALLS_MAX);
    if (want.id.n)
        buf_span(&tool->id, want.id);
    else
        buf_printf(&tool->id, "call-%zu-%zu", scripted->turn, index);
    buf_span(&tool->name, want.name);
    if (jv_is(want.arguments, JSON_STRING))
        buf_span(&tool->arguments, jv_string(want.arguments, &scripted->call.arena));
    else if (jv_is(want.arguments, JSON_OBJECT))
        json_minify(want.arguments, &tool->arguments);
    else if (jv_is(want.arguments, JSON_NONE))
        BUF_LIT(&tool->arguments, "{}");
    else
        return field_error(error, pointer, SPAN("arguments"), "must be an object or a text");
    return ERR_OK;
}

static enum err add_calls(struct scripted_call *scripted, struct jv calls, const char *pointer, struct error *error)
{
    enum err err = ERR_OK;
    size_t   at = 0;
    if (!jv_is(calls, JSON_ARRAY))
        return ERR_OK;
    for (struct jv_iter it = jv_iter(calls); !err && jv_step(&it); at++)
        err = add_call(scripted, it.value, arena_printf(&scripted->call.arena, "%s/tool_calls/%zu", pointer, at).p, error);
    for (size_t i = 0; !err && i < scripted->answer.tool_count; i++)
        add_segment(scripted, CHUNK_TOOL_ARGUMENTS, buf_view(&scripted->answer.tools[i].arguments));
    return err;
}

static int64_t output_words(const struct scripted_call *scripted)
{
    int64_t words = 0;
    for (size_t i = 0; i < scripted->segment_count; i++)
        words += (int64_t)text_words(scripted->segments[i].text);
    return words;
}

static enum err read_usage(struct scripted_call *scripted, struct jv value, int64_t input_words, const char *pointer,
                           struct error *error)
{
    struct script_usage want = { .input = input_words, .output = output_words(scripted),
                                 .reasoning = (int64_t)text_words(buf_view(&scripted->answer.reasoning)) };
    enum err err = ERR_OK;
    if (jv_is(value, JSON_NULL))
        return ERR_OK;
    if (!jv_is(value, JSON_NONE)) {
        want.reasoning = 0;
        err = fields_read(value, arena_printf(&scripted->call.arena, "%s/usage", pointer).p, usage_fields, ARRAY_LEN(usage_fields),
                          &scripted->call.arena, &want, error);
    }
    if (!err)
        usage_from_totals(&scripted->answer.usage, (struct usage_totals){ want.input, want.cached, want.written, want.output,
                                                                          want.reasoning });
    return err;
}

/* How many chunks there will be before the end. */
static enum err read_limits(struct scripted_call *scripted, const struct script *script, const char *pointer, uint64_t *ret_count,
                            struct error *error)
{
    uint64_t count = chunk_count(scripted);
    int64_t  limit = script->error_after >= 0 ? script->error_after : script->cut_after;

    if (script->error_after >= 0 && scripted->ending != END_ERROR)
        return field_error(error, pointer, SPAN("error_after_chunks"), "needs an error beside it");
    if (script->cut_after >= 0 && scripted->ending == END_ERROR)
        return field_error(error, pointer, SPAN("cut_after_chunks"), "cannot stand beside an error");
    if (script->cut_after >= 0)
        scripted->ending = END_CUT;
    if (script->fail_tries >= 0 && scripted->ending == END_OK)
        return field_error(error, pointer, SPAN("fail_tries"), "needs an error or a cut beside it");
    if (script->fail_tries >= 0 && (int64_t)scripted->call.attempt > script->fail_tries) {
        scripted->ending = END_OK;
        limit = -1;
    }
    *ret_count = limit >= 0 && (uint64_t)limit < count ? (uint64_t)limit : count;
    return ERR_OK;
}

/* An error that comes at once has nothing made up in front of it; a call that gets over it has. */
static void choose_text(struct scripted_call *scripted, const struct script *script, const struct conversation *said)
{
    bool error_at_once = scripted->ending == END_ERROR && script->error_after < 0 &&
                         (script->fail_tries < 0 || (int64_t)scripted->call.attempt <= script->fail_tries);
    scripted->text = script->text;
    if (!script->text.p && script->echo) {
        scripted->text = said->last;
    } else if (!script->text.p && !error_at_once && !jv_count(script->tool_calls)) {
        scripted_paragraphs(said->prompt, &scripted->made);
        scripted->text = buf_view(&scripted->made);
    }
}

static enum err read_script(struct scripted_call *scripted, struct jv value, const char *pointer, struct script *ret,
                            struct error *error)
{
    *ret = (struct script){ .interval_ms = INTERVAL_DEFAULT, .error_after = -1, .cut_after = -1, .fail_tries = -1 };
    if (!jv_is(value, JSON_OBJECT))
        return jv_is(value, JSON_NONE) ? ERR_OK : error_set(error, ERR_VALIDATION, pointer, "must be an object");
    return fields_read(value, pointer, script_fields, ARRAY_LEN(script_fields), &scripted->call.arena, ret, error);
}

/* All turns are read, so that a mistake in a later one is found at the first call. */
static enum err read_turns(struct scripted_call *scripted, struct jv value, struct script *ret, const char **ret_pointer,
                           struct error *error)
{
    struct script script;
    enum err      err = read_script(scripted, value, "/script", ret, error);
    struct jv     turns = ret->turns;
    size_t        count = jv_count(turns);
    *ret_pointer = "/script";
    if (err || !jv_is(turns, JSON_ARRAY))
        return err;
    if (jv_count(value) != 1)
        return field_error(error, "/script", SPAN("turns"), "stands alone");
    if (count == 0 || count > TURNS_MAX)
        return field_error(error, "/script", SPAN("turns"), "must hold from 1 to %d scripts", TURNS_MAX);
    for (size_t at = 0; at < count && !err; at++) {
        const char *pointer = arena_printf(&scripted->call.arena, "/script/turns/%zu", at).p;
        err = read_script(scripted, jv_at(turns, at), pointer, &script, error);
        if (!err && jv_is(script.turns, JSON_ARRAY))
            err = field_error(error, pointer, SPAN("turns"), "a turn has none of its own");
        if (at == scripted->turn || (at + 1 == count && scripted->turn >= count)) {
            *ret = script;
            *ret_pointer = pointer;
        }
    }
    return err;
}

static enum err prepare(struct scripted_call *scripted, const struct script *script, const char *pointer,
                        const struct conversation *said, uint64_t *ret_count, struct error *error)
{
    struct arena *arena = &scripted->call.arena;
    enum err      err = ERR_OK;
    if (jv_is(script->error, JSON_OBJECT))
        err = read_error(scripted, script->error, arena_printf(arena, "%s/error", pointer).p, error);
    if (err)
        return err;
    scripted->chunk_chars = (size_t)script->chunk;
    choose_text(scripted, script, said);
    buf_span(&scripted->answer.reasoning, script->reasoning);
    add_segment(scripted, CHUNK_REASONING, script->reasoning);
    add_segment(scripted, CHUNK_TEXT, scripted->text);
    if ((err = add_calls(scripted, script->tool_calls, pointer, error)) ||
        (err = read_usage(scripted, script->usage, said->words, pointer, error)))
        return err;
    scripted->finish_reason = script->finish_reason.n ? script->finish_reason
                              : scripted->answer.tool_count ? SPAN("tool_calls") : SPAN("stop");
    if (jv_is(script->provider_state, JSON_OBJECT))
        json_minify(script->provider_state, &scripted->answer.state);
    if (jv_is(script->more, JSON_OBJECT))
        scripted->more = arena_copy(arena, jv_raw(script->more));
    return read_limits(scripted, script, pointer, ret_count, error);
}

static enum err scripted_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    struct scripted_call *scripted = (struct scripted_call *)call;
    struct model_request  want;
    struct script         script;
    const char           *pointer;
    uint64_t              count = 0;

    enum err err = request_check(request, &call->arena, &want, error);
    if (err)
        return err;
    struct conversation said = read_messages(want.messages, &call->arena);
    scripted->turn = said.answers;
    if ((err = read_turns(scripted, want.script, &script, &pointer, error)) ||
        (err = prepare(scripted, &script, pointer, &said, &count, error)))
        return err;

    scripted->pace.emit = scripted_chunk;
    scripted->pace.end = scripted_end;
    pace_start(&scripted->pace, call, skip_chunks, count, (uint64_t)script.interval_ms);
    if (skip_chunks == 0 && script.delay_ms > 0)
        pace_delay(&scripted->pace, (uint64_t)script.delay_ms);
    for (uint64_t k = 0; k < scripted->pace.first; k++)
        (void)next_chunk(scripted);
    return ERR_OK;
}

static void scripted_close(struct model_call *call)
{
    pace_stop(&((struct scripted_call *)call)->pace);
}

static void scripted_release(struct model_call *call)
{
    struct scripted_call *scripted = (struct scripted_call *)call;
    answer_done(&scripted->answer);
    buf_done(&scripted->made);
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
