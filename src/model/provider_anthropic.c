/* SPDX-License-Identifier: Apache-2.0 */
/* provider_anthropic.c - Anthropic's Messages: POST {base_url}/messages, with x-api-key and anthropic-version.
 *
 * System messages, wherever they stand, become the member `system`; results of tools that follow each other become one
 * message of the user, as the protocol wants it. Thinking blocks, signed or redacted, are the answer's provider_state
 * ({"kind": "anthropic", "blocks": [...]}) and go back in front of the message that they belong to. `max_tokens` is required
 * by the protocol: MAX_TOKENS_DEFAULT when the request has none. */
#include "model/model_http.h"

enum {
    MAX_TOKENS_DEFAULT = 8192,
    BLOCKS_MAX = 512,
};

enum block_kind { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING, BLOCK_REDACTED, BLOCK_TOOL, BLOCK_OTHER };

struct block {
    enum block_kind kind;
    size_t          tool; /* of BLOCK_TOOL: its place in the answer */
};

struct counts {
    int64_t input, cache_read, cache_write, output, thinking; /* -1: not told */
};

struct messages_call {
    struct model_http x; /* first */
    struct block   *blocks;
    struct buf      thinking, signature, redacted; /* of the block that is open */
    struct counts   counts;
};

/* ---- what goes out ---- */

struct writer {
    struct jw    *w;
    struct arena *arena;
    struct error *error;
};

static void put_text_block(struct jw *w, struct span text)
{
    jw_obj(w);
    jw_key(w, "type"); jw_cstr(w, "text");
    jw_key(w, "text"); jw_str(w, text);
    jw_end(w);
}

static enum err put_file(const struct writer *out, const struct part *part)
{
    struct jw *w = out->w;
    bool       image = mime_is(part->mime, "image/");
    if (!image && !span_is(part->mime, "application/pdf"))
        return error_set(out->error, ERR_VALIDATION, "/messages", "messages: this provider takes images and PDF files, not %.*s",
                         (int)(part->mime.n < 64 ? part->mime.n : 64), part->mime.p);
    jw_obj(w);
    jw_key(w, "type");       jw_cstr(w, image ? "image" : "document");
    jw_key(w, "source");     jw_obj(w);
    jw_key(w, "type");       jw_cstr(w, "base64");
    jw_key(w, "media_type"); jw_str(w, part->mime);
    jw_key(w, "data");       jw_str(w, part->data);
    jw_end(w);
    if (!image && part->filename.n) {
        jw_key(w, "title");
        jw_str(w, part->filename);
    }
    jw_end(w);
    return ERR_OK;
}

/* The blocks of a content, without the array around them. Empty texts are errors to the provider and left out. */
static enum err put_blocks(const struct writer *out, struct jv content)
{
    enum err err = ERR_OK;
    if (!jv_is(content, JSON_ARRAY)) {
        struct span text = jv_string(content, out->arena);
        if (text.n)
            put_text_block(out->w, text);
        return ERR_OK;
    }
    for (struct jv_iter it = jv_iter(content); !err && jv_step(&it);) {
        struct part part = part_read(it.value, out->arena);
        if (part.is_file)
            err = put_file(out, &part);
        else if (part.text.n)
            put_text_block(out->w, part.text);
    }
    return err;
}

/* The model wrote the arguments. What is no object would be refused here, so it goes back as a text that the model can read. */
static void put_arguments(const struct writer *out, struct span text)
{
    static const struct json_limits limits = { .depth = 64, .lone_surrogates = true };
    struct json                     doc;
    if (!json_parse(text, &limits, out->arena, &doc, NULL) && jv_is(json_root(&doc), JSON_OBJECT)) {
        put_json(out->w, json_root(&doc));
        return;
    }
    jw_obj(out->w);
    if (text.n) {
        jw_key(out->w, "unreadable_arguments");
        jw_str(out->w, text);
    }
    jw_end(out->w);
}

static void put_calls(const struct writer *out, struct jv calls)
{
    struct jw *w = out->w;
    if (!jv_count(calls))
        return;
    for (struct jv_iter it = jv_iter(calls); jv_step(&it);) {
        struct tool_call_want call = tool_call_read(it.value, out->arena);
        jw_obj(w);
        jw_key(w, "type");  jw_cstr(w, "tool_use");
        jw_key(w, "id");    jw_str(w, call.id);
        jw_key(w, "name");  jw_str(w, call.name);
        jw_key(w, "input"); put_arguments(out, call.arguments);
        jw_end(w);
    }
}

static void put_state(struct jw *w, struct jv state)
{
    struct jv blocks = jv_get(state, "blocks");
    if (!jv_str_eq(jv_get(state, "kind"), "anthropic") || !jv_is(blocks, JSON_ARRAY))
        return; /* another provider's */
    for (struct jv_iter it = jv_iter(blocks); jv_step(&it);)
        put_json(w, it.value);
}

static enum err put_result(const struct writer *out, const struct message *message)
{
    struct jw *w = out->w;
    jw_obj(w);
    jw_key(w, "type");        jw_cstr(w, "tool_result");
    jw_key(w, "tool_use_id"); jw_str(w, message->tool_call_id);
    jw_key(w, "content");     jw_arr(w);
    enum err err = put_blocks(out, message->content);
    jw_arr_end(w);
    if (message->is_error) {
        jw_key(w, "is_error");
        jw_bool(w, true);
    }
    jw_end(w);
    return err;
}

static void open_message(struct jw *w, const char *role)
{
    jw_obj(w);
    jw_key(w, "role");    jw_cstr(w, role);
    jw_key(w, "content"); jw_arr(w);
}

static void close_message(struct jw *w)
{
    jw_arr_end(w);
    jw_end(w);
}

static bool says_nothing(const struct message *message)
{
    return content_is_empty(message->content) && !jv_count(message->tool_calls) && !jv_is(message->provider_state, JSON_OBJECT);
}

static enum err put_message(const struct writer *out, const struct message *message)
{
    bool assistant = span_is(message->role, "assistant");
    open_message(out->w, assistant ? "assistant" : "user");
    if (assistant)
        put_state(out->w, message->provider_state);
    enum err err = put_blocks(out, message->content);
    if (assistant)
        put_calls(out, message->tool_calls);
    close_message(out->w);
    return err;
}

static enum err put_messages(const struct writer *out, struct jv messages)
{
    bool     results = false; /* a message with results of tools is open */
    enum err err = ERR_OK;
    jw_arr(out->w);
    for (struct jv_iter it = jv_iter(messages); !err && jv_step(&it);) {
        struct message message = message_read(it.value, out->arena);
        bool           tool = span_is(message.role, "tool");
        if (span_is(message.role, "system") || (!tool && says_nothing(&message)))
            continue;
        if (tool && !results)
            open_message(out->w, "user");
        if (!tool && results)
            close_message(out->w);
        results = tool;
        err = tool ? put_result(out, &message) : put_message(out, &message);
    }
    if (results)
        close_message(out->w);
    jw_arr_end(out->w);
    return err;
}

static void put_system(const struct writer *out, struct jv messages)
{
    struct buf all = { 0 };
    for (struct jv_iter it = jv_iter(messages); jv_step(&it);) {
        struct message message = message_read(it.value, out->arena);
        struct span    text = content_text(message.content, out->arena);
        if (!span_is(message.role, "system") || !text.n)
            continue;
        if (all.len)
            BUF_LIT(&all, "\n\n");
        buf_span(&all, text);
    }
    if (all.len) {
        jw_key(out->w, "system");
        jw_str(out->w, buf_view(&all));
    }
    buf_done(&all);
}

static void put_tools(const struct writer *out, struct jv tools)
{
    struct jw *w = out->w;
    jw_arr(w);
    for (struct jv_iter it = jv_iter(tools); jv_step(&it);) {
        struct tool_want tool = tool_read(it.value, out->arena);
        jw_obj(w);
        jw_key(w, "name"); jw_str(w, tool.name);
        if (tool.description.n) {
            jw_key(w, "description");
            jw_str(w, tool.description);
        }
        jw_key(w, "input_schema"); put_json(w, tool.parameters);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_choice(struct jw *w, const struct model_request *want)
{
    bool named = jv_is(want->tool_choice, JSON_OBJECT), alone = jv_is(want->parallel_tool_calls, JSON_FALSE);
    bool none = jv_str_eq(want->tool_choice, "none");
    if (!named && !alone && !jv_is(want->tool_choice, JSON_STRING))
        return;
    jw_key(w, "tool_choice");
    jw_obj(w);
    jw_key(w, "type");
    jw_cstr(w, named ? "tool" : none ? "none" : jv_str_eq(want->tool_choice, "required") ? "any" : "auto");
    if (named) {
        jw_key(w, "name");
        put_json(w, jv_get(want->tool_choice, "name"));
    }
    if (alone && !none) {
        jw_key(w, "disable_parallel_tool_use");
        jw_bool(w, true);
    }
    jw_end(w);
}

static int64_t thinking_budget(struct span effort)
{
    return span_is(effort, "low") ? 1024 : span_is(effort, "medium") ? 4096 : 16384;
}

/* Reasoning and the form of the answer. */
static void put_output(const struct writer *out, const struct model_request *want, bool budget)
{
    struct jw *w = out->w;
    bool       format = jv_is(want->output_format, JSON_OBJECT), effort = want->reasoning_effort.n > 0;
    if (effort) {
        jw_key(w, "thinking");
        jw_obj(w);
        jw_key(w, "type"); jw_cstr(w, budget ? "enabled" : "adaptive");
        if (budget) {
            jw_key(w, "budget_tokens");
            jw_i64(w, thinking_budget(want->reasoning_effort));
        }
        jw_end(w);
    }
    if (!format && (!effort || budget))
        return;
    jw_key(w, "output_config");
    jw_obj(w);
    if (effort && !budget) {
        jw_key(w, "effort");
        jw_str(w, want->reasoning_effort);
    }
    if (format) {
        jw_key(w, "format");
        jw_obj(w);
        jw_key(w, "type");   jw_cstr(w, "json_schema");
        jw_key(w, "schema"); put_json(w, jv_get(want->output_format, "schema"));
        jw_end(w);
    }
    jw_end(w);
}

/* The budget for thinking counts against max_tokens and must be smaller. */
static int64_t max_tokens(const struct model_request *want, bool budget)
{
    int64_t most;
    if (jv_i64(want->max_tokens, &most))
        return most;
    return MAX_TOKENS_DEFAULT + (budget && want->reasoning_effort.n ? thinking_budget(want->reasoning_effort) : 0);
}

static enum err messages_put_body(struct model_http *x, const struct model_request *want, struct jw *w, struct error *error)
{
    const struct provider_http *http = &x->call.provider->http;
    struct writer               out = { w, &x->call.arena, error };
    struct messages_call       *call = (struct messages_call *)x;
    int64_t                     most = max_tokens(want, http->thinking_budget);

    call->counts = (struct counts){ -1, -1, -1, -1, -1 };
    if (http->thinking_budget && want->reasoning_effort.n && most <= thinking_budget(want->reasoning_effort))
        return field_error(error, "", SPAN("max_tokens"), "must be more than the %d tokens for thinking",
                           (int)thinking_budget(want->reasoning_effort));
    jw_obj(w);
    jw_key(w, "model");      jw_str(w, x->call.model);
    jw_key(w, "max_tokens"); jw_i64(w, most);
    put_system(&out, want->messages);
    jw_key(w, "messages");
    enum err err = put_messages(&out, want->messages);
    jw_key(w, "stream");     jw_bool(w, !http->whole);
    if (jv_is(want->temperature, JSON_NUMBER)) {
        jw_key(w, "temperature");
        jw_raw(w, jv_raw(want->temperature));
    }
    if (jv_count(want->tools)) {
        jw_key(w, "tools");
        put_tools(&out, want->tools);
        put_choice(w, want);
    }
    if (jv_count(want->stop)) {
        jw_key(w, "stop_sequences");
        put_json(w, want->stop);
    }
    put_output(&out, want, http->thinking_budget);
    jw_end(w);
    return err;
}

/* ---- what comes back: each function returns false when the call is over ---- */

static void take_count(struct jv usage, const char *name, int64_t *count)
{
    int64_t n;
    if (jv_i64(jv_get(usage, name), &n) && n >= 0)
        *count = n;
}

/* Comes at the beginning and, with the last figures, near the end. */
static void take_usage(struct messages_call *call, struct jv usage)
{
    take_count(usage, "input_tokens", &call->counts.input);
    take_count(usage, "cache_read_input_tokens", &call->counts.cache_read);
    take_count(usage, "cache_creation_input_tokens", &call->counts.cache_write);
    take_count(usage, "output_tokens", &call->counts.output);
    take_count(jv_get(usage, "output_tokens_details"), "thinking_tokens", &call->counts.thinking);
}

static void take_stop(struct model_http *x, struct jv reason)
{
    static const struct {
        const char *theirs, *ours;
    } names[] = {
        { "end_turn", "stop" }, { "stop_sequence", "stop" }, { "max_tokens", "length" }, { "tool_use", "tool_calls" },
        { "refusal", "content_filter" }, { "model_context_window_exceeded", "length" },
    };
    if (!jv_is(reason, JSON_STRING))
        return;
    x->answer.finish = "other";
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (jv_str_eq(reason, names[i].theirs))
            x->answer.finish = names[i].ours;
}

static enum block_kind block_kind(struct jv block)
{
    static const struct {
        const char     *name;
        enum block_kind kind;
    } kinds[] = {
        { "text", BLOCK_TEXT }, { "thinking", BLOCK_THINKING }, { "redacted_thinking", BLOCK_REDACTED }, { "tool_use", BLOCK_TOOL },
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (jv_str_eq(jv_get(block, "type"), kinds[i].name))
            return kinds[i].kind;
    return BLOCK_OTHER;
}

static struct span text_of(struct model_http *x, struct jv object, const char *name)
{
    return jv_string(jv_get(object, name), &x->scratch);
}

/* Kept for provider_state, handed to nobody. */
static bool keep(struct model_http *x, struct buf *buf, struct span text)
{
    if (!model_http_count(x, text.n))
        return false;
    buf_span(buf, text);
    return true;
}

static bool open_tool(struct model_http *x, struct block *block, struct jv body)
{
    struct tool_call *tool = answer_tool(&x->answer, (int64_t)x->answer.tool_count);
    struct jv         input = jv_get(body, "input");
    struct buf        text = { 0 };
    if (!tool)
        return model_http_bad(x, "there are too many tool calls");
    block->tool = x->answer.tool_count - 1;
    answer_set_once(&tool->id, text_of(x, body, "id"), 512);
    answer_set_once(&tool->name, text_of(x, body, "name"), 512);
    if (jv_count(input)) /* a stream begins with {} and sends the rest in pieces */
        json_minify(input, &text);
    bool more = model_http_text(x, CHUNK_TOOL_ARGUMENTS, buf_view(&text), &tool->arguments);
    buf_done(&text);
    return more;
}

static bool open_block(struct model_http *x, struct block *block, struct jv body)
{
    struct messages_call *call = (struct messages_call *)x;
    block->kind = block_kind(body);
    switch (block->kind) {
    case BLOCK_TEXT:     return model_http_text(x, CHUNK_TEXT, text_of(x, body, "text"), &x->answer.text);
    case BLOCK_TOOL:     return open_tool(x, block, body);
    case BLOCK_REDACTED: return keep(x, &call->redacted, text_of(x, body, "data"));
    case BLOCK_THINKING:
        call->thinking.len = call->signature.len = 0;
        return keep(x, &call->signature, text_of(x, body, "signature")) &&
               keep(x, &call->thinking, text_of(x, body, "thinking")) &&
               model_http_text(x, CHUNK_REASONING, text_of(x, body, "thinking"), &x->answer.reasoning);
    case BLOCK_OTHER:
    case BLOCK_NONE:     break; /* tools that run at the provider were not asked for */
    }
    return true;
}

static bool take_delta(struct model_http *x, struct block *block, struct jv delta)
{
    struct messages_call *call = (struct messages_call *)x;
    struct jv             type = jv_get(delta, "type");
    if (jv_str_eq(type, "text_delta"))
        return model_http_text(x, CHUNK_TEXT, text_of(x, delta, "text"), &x->answer.text);
    if (jv_str_eq(type, "thinking_delta"))
        return keep(x, &call->thinking, text_of(x, delta, "thinking")) &&
               model_http_text(x, CHUNK_REASONING, text_of(x, delta, "thinking"), &x->answer.reasoning);
    if (jv_str_eq(type, "signature_delta"))
        return keep(x, &call->signature, text_of(x, delta, "signature"));
    if (jv_str_eq(type, "input_json_delta") && block->kind == BLOCK_TOOL)
        return model_http_text(x, CHUNK_TOOL_ARGUMENTS, text_of(x, delta, "partial_json"), &x->answer.tools[block->tool].arguments);
    return true;
}

static void put_thinking(struct messages_call *call, const struct block *block)
{
    struct buf *state = &call->x.answer.state;
    struct jw   w = jw_on(state);
    if (state->len)
        buf_byte(state, ',');
    else
        BUF_LIT(state, "{\"kind\":\"anthropic\",\"blocks\":[");
    jw_obj(&w);
    if (block->kind == BLOCK_THINKING) {
        jw_key(&w, "type");      jw_cstr(&w, "thinking");
        jw_key(&w, "thinking");  jw_str(&w, buf_view(&call->thinking));
        jw_key(&w, "signature"); jw_str(&w, buf_view(&call->signature));
    } else {
        jw_key(&w, "type"); jw_cstr(&w, "redacted_thinking");
        jw_key(&w, "data"); jw_str(&w, buf_view(&call->redacted));
    }
    jw_end(&w);
}

static bool close_block(struct model_http *x, struct block *block)
{
    struct messages_call *call = (struct messages_call *)x;
    bool                  more = true;
    if (block->kind == BLOCK_TOOL && !x->answer.tools[block->tool].arguments.len)
        more = model_http_text(x, CHUNK_TOOL_ARGUMENTS, SPAN("{}"), &x->answer.tools[block->tool].arguments);
    if ((block->kind == BLOCK_THINKING && call->signature.len) || block->kind == BLOCK_REDACTED)
        put_thinking(call, block); /* unsigned thinking is not taken back */
    call->redacted.len = 0;
    block->kind = BLOCK_NONE;
    return more;
}

static struct block *block_at(struct messages_call *call, struct jv event)
{
    int64_t index;
    if (!jv_i64(jv_get(event, "index"), &index) || index < 0 || index >= BLOCKS_MAX)
        return NULL;
    if (!call->blocks)
        call->blocks = ARENA_ARRAY(&call->x.call.arena, struct block, BLOCKS_MAX);
    return &call->blocks[index];
}

static bool take_block(struct model_http *x, struct jv event)
{
    struct block *block = block_at((struct messages_call *)x, event);
    struct jv     type = jv_get(event, "type");
    if (!block)
        return model_http_bad(x, "a content block has an index that is out of range");
    if (jv_str_eq(type, "content_block_start"))
        return open_block(x, block, jv_get(event, "content_block"));
    if (jv_str_eq(type, "content_block_delta"))
        return take_delta(x, block, jv_get(event, "delta"));
    return close_block(x, block);
}

static void take_head(struct model_http *x, struct jv message)
{
    answer_set_once(&x->answer.response_id, text_of(x, message, "id"), 512);
    answer_set_once(&x->answer.model, text_of(x, message, "model"), 512);
    take_usage((struct messages_call *)x, jv_get(message, "usage"));
}

static bool messages_take_event(struct model_http *x, struct jv event)
{
    struct jv type = jv_get(event, "type");
    if (jv_str_eq(type, "message_start")) {
        take_head(x, jv_get(event, "message"));
    } else if (jv_str_eq(type, "content_block_start") || jv_str_eq(type, "content_block_delta") ||
               jv_str_eq(type, "content_block_stop")) {
        return take_block(x, event);
    } else if (jv_str_eq(type, "message_delta")) {
        take_stop(x, jv_get(jv_get(event, "delta"), "stop_reason"));
        take_usage((struct messages_call *)x, jv_get(event, "usage"));
    } else if (jv_str_eq(type, "message_stop")) {
        return model_http_done(x);
    }
    return true; /* ping, and what comes to be known later */
}

static bool messages_take_whole(struct model_http *x, struct jv answer)
{
    struct jv content = jv_get(answer, "content");
    take_head(x, answer);
    take_stop(x, jv_get(answer, "stop_reason"));
    if (!jv_is(content, JSON_ARRAY))
        return model_http_bad(x, "the answer has no content");
    for (struct jv_iter it = jv_iter(content); jv_step(&it);) {
        struct block block = { 0 };
        if (!open_block(x, &block, it.value) || !close_block(x, &block))
            return false;
    }
    return true;
}

static int64_t told(int64_t count)
{
    return count < 0 ? 0 : count;
}

static bool messages_finish(struct model_http *x)
{
    const struct counts *counts = &((struct messages_call *)x)->counts;
    int64_t              cached = told(counts->cache_read), written = told(counts->cache_write), input;
    if (x->answer.state.len)
        BUF_LIT(&x->answer.state, "]}");
    if (counts->input < 0 || __builtin_add_overflow(cached, written, &input) || __builtin_add_overflow(input, counts->input, &input))
        return true;
    usage_from_totals(&x->answer.usage, (struct usage_totals){ input, cached, written, counts->output, counts->thinking });
    return true; /* what is cached stands beside the input here, not in it */
}

static void messages_release(struct model_call *base)
{
    struct messages_call *call = (struct messages_call *)base;
    buf_done(&call->thinking);
    buf_done(&call->signature);
    buf_done(&call->redacted);
    model_http_release(base);
}

const struct protocol protocol_anthropic = {
    .path = "/messages",
    .call_size = sizeof(struct messages_call),
    .put_body = messages_put_body,
    .take_event = messages_take_event,
    .take_whole = messages_take_whole,
    .finish = messages_finish,
};

static enum err messages_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    assert(skip_chunks == 0); /* not resumable */
    return model_http_start(call, &protocol_anthropic, request, error);
}

const struct provider_ops provider_anthropic = {
    .kind = "anthropic",
    .call_size = sizeof(struct messages_call),
    .check_path = "/models",
    .key_header = "x-api-key: ",
    .version_header = "anthropic-version: 2023-06-01",
    .start = messages_start,
    .close = model_http_close,
    .release = messages_release,
};
