/* SPDX-License-Identifier: Apache-2.0 */
/* provider_openai_chat.c - any server that speaks OpenAI's chat completions: POST {base_url}/chat/completions.
 *
 * Many servers speak it nearly. What is tolerated beyond model_http.h: no finish_reason before [DONE], usage in a chunk without
 * choices or not at all, tool calls without an index, ids and names that are repeated in each piece, reasoning under two
 * names. Finish reasons that we have no name for are "other". */
#include "model/model_http.h"

struct chat_call {
    struct model_http x; /* first */
};

/* ---- what goes out ---- */

static void put_file(struct jw *w, const struct part *part, struct arena *arena)
{
    bool wav = mime_is(part->mime, "audio/wav") || mime_is(part->mime, "audio/x-wav");
    jw_obj(w);
    jw_key(w, "type");
    if (mime_is(part->mime, "image/")) {
        jw_cstr(w, "image_url");
        jw_key(w, "image_url"); jw_obj(w);
        jw_key(w, "url");       jw_str(w, data_url(part, arena));
    } else if (wav || mime_is(part->mime, "audio/mpeg") || mime_is(part->mime, "audio/mp3")) {
        jw_cstr(w, "input_audio");
        jw_key(w, "input_audio"); jw_obj(w);
        jw_key(w, "data");        jw_str(w, part->data);
        jw_key(w, "format");      jw_cstr(w, wav ? "wav" : "mp3");
    } else {
        jw_cstr(w, "file");
        jw_key(w, "file");      jw_obj(w);
        jw_key(w, "filename");  jw_str(w, part->filename.n ? part->filename : SPAN("file"));
        jw_key(w, "file_data"); jw_str(w, data_url(part, arena));
    }
    jw_end(w);
    jw_end(w);
}

static void put_part(struct jw *w, const struct part *part, struct arena *arena)
{
    if (part->is_file) {
        put_file(w, part, arena);
        return;
    }
    jw_obj(w);
    jw_key(w, "type"); jw_cstr(w, "text");
    jw_key(w, "text"); jw_str(w, part->text);
    jw_end(w);
}

static void put_content(struct jw *w, struct jv content, struct arena *arena)
{
    if (!jv_is(content, JSON_ARRAY)) {
        jw_str(w, jv_string(content, arena));
        return;
    }
    jw_arr(w);
    for (struct jv_iter it = jv_iter(content); jv_step(&it);) {
        struct part part = part_read(it.value, arena);
        put_part(w, &part, arena);
    }
    jw_arr_end(w);
}

static void put_calls(struct jw *w, struct jv calls, struct arena *arena)
{
    jw_arr(w);
    for (struct jv_iter it = jv_iter(calls); jv_step(&it);) {
        struct tool_call_want call = tool_call_read(it.value, arena);
        jw_obj(w);
        jw_key(w, "id");       jw_str(w, call.id);
        jw_key(w, "type");     jw_cstr(w, "function");
        jw_key(w, "function"); jw_obj(w);
        jw_key(w, "name");      jw_str(w, call.name);
        jw_key(w, "arguments"); jw_str(w, call.arguments);
        jw_end(w);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_message(struct jw *w, const struct message *message, struct arena *arena)
{
    bool calls = jv_count(message->tool_calls) > 0;
    jw_obj(w);
    jw_key(w, "role"); jw_str(w, message->role);
    jw_key(w, "content");
    if (calls && content_is_empty(message->content))
        jw_null(w);
    else
        put_content(w, message->content, arena);
    if (message->name.n) {
        jw_key(w, "name");
        jw_str(w, message->name);
    }
    if (calls) {
        jw_key(w, "tool_calls");
        put_calls(w, message->tool_calls, arena);
    }
    if (message->tool_call_id.n) {
        jw_key(w, "tool_call_id");
        jw_str(w, message->tool_call_id);
    }
    jw_end(w);
}

static void put_messages(struct jw *w, struct jv messages, struct arena *arena)
{
    jw_arr(w);
    for (struct jv_iter it = jv_iter(messages); jv_step(&it);) {
        struct message message = message_read(it.value, arena);
        put_message(w, &message, arena);
    }
    jw_arr_end(w);
}

static void put_tools(struct jw *w, struct jv tools, struct arena *arena)
{
    jw_arr(w);
    for (struct jv_iter it = jv_iter(tools); jv_step(&it);) {
        struct tool_want tool = tool_read(it.value, arena);
        jw_obj(w);
        jw_key(w, "type");     jw_cstr(w, "function");
        jw_key(w, "function"); jw_obj(w);
        jw_key(w, "name");     jw_str(w, tool.name);
        if (tool.description.n) {
            jw_key(w, "description");
            jw_str(w, tool.description);
        }
        jw_key(w, "parameters"); put_json(w, tool.parameters);
        jw_end(w);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_choice(struct jw *w, struct jv choice)
{
    if (!jv_is(choice, JSON_OBJECT)) {
        put_json(w, choice);
        return;
    }
    jw_obj(w);
    jw_key(w, "type");     jw_cstr(w, "function");
    jw_key(w, "function"); put_json(w, choice); /* {"name"} */
    jw_end(w);
}

static void put_format(struct jw *w, struct jv value, struct arena *arena)
{
    struct format_want format = format_read(value, arena);
    jw_obj(w);
    jw_key(w, "type");        jw_cstr(w, "json_schema");
    jw_key(w, "json_schema"); jw_obj(w);
    jw_key(w, "name");        jw_str(w, format.name);
    if (format.description.n) {
        jw_key(w, "description");
        jw_str(w, format.description);
    }
    jw_key(w, "schema"); put_json(w, format.schema);
    if (jv_is(format.strict, JSON_TRUE) || jv_is(format.strict, JSON_FALSE)) {
        jw_key(w, "strict");
        put_json(w, format.strict);
    }
    jw_end(w);
    jw_end(w);
}

static void put_tool_members(struct jw *w, const struct model_request *want, struct arena *arena)
{
    if (!jv_count(want->tools))
        return; /* a choice among no tools is an error to OpenAI */
    jw_key(w, "tools");
    put_tools(w, want->tools, arena);
    if (jv_is(want->tool_choice, JSON_STRING) || jv_is(want->tool_choice, JSON_OBJECT)) {
        jw_key(w, "tool_choice");
        put_choice(w, want->tool_choice);
    }
    if (jv_is(want->parallel_tool_calls, JSON_TRUE) || jv_is(want->parallel_tool_calls, JSON_FALSE)) {
        jw_key(w, "parallel_tool_calls");
        put_json(w, want->parallel_tool_calls);
    }
}

static enum err chat_put_body(struct model_http *x, const struct model_request *want, struct jw *w, struct error *error)
{
    const struct provider_http *http = &x->call.provider->http;
    struct arena               *arena = &x->call.arena;

    jw_obj(w);
    jw_key(w, "model");    jw_str(w, x->call.model);
    jw_key(w, "messages"); put_messages(w, want->messages, arena);
    jw_key(w, "stream");   jw_bool(w, !http->whole);
    if (!http->whole) {
        jw_key(w, "stream_options");
        jw_raw(w, SPAN("{\"include_usage\":true}"));
    }
    if (jv_is(want->max_tokens, JSON_NUMBER)) {
        jw_key(w, http->max_completion_tokens ? "max_completion_tokens" : "max_tokens");
        jw_raw(w, jv_raw(want->max_tokens));
    }
    if (jv_is(want->temperature, JSON_NUMBER)) {
        jw_key(w, "temperature");
        jw_raw(w, jv_raw(want->temperature));
    }
    put_tool_members(w, want, arena);
    if (jv_is(want->output_format, JSON_OBJECT)) {
        jw_key(w, "response_format");
        put_format(w, want->output_format, arena);
    }
    if (jv_count(want->stop)) {
        jw_key(w, "stop");
        put_json(w, want->stop);
    }
    if (want->reasoning_effort.n) {
        jw_key(w, "reasoning_effort");
        jw_str(w, want->reasoning_effort);
    }
    jw_end(w);
    return ERR_OK;
}

/* ---- what comes back: each function returns false when the call is over ---- */

static struct tool_call *tool_at(struct answer *answer, struct jv delta)
{
    int64_t index;
    bool    told = jv_i64(jv_get(delta, "index"), &index);
    if (!told) /* some servers send whole calls without an index, and pieces without an id */
        index = (int64_t)answer->tool_count - (jv_is(jv_get(delta, "id"), JSON_STRING) || !answer->tool_count ? 0 : 1);
    return answer_tool(answer, index);
}

static bool take_tool(struct model_http *x, struct jv delta)
{
    struct jv         function = jv_get(delta, "function");
    struct tool_call *tool = tool_at(&x->answer, delta);
    if (!tool)
        return model_http_bad(x, "a tool call has an index that is out of range");
    answer_set_once(&tool->id, jv_string(jv_get(delta, "id"), &x->scratch), 512);
    answer_set_once(&tool->name, jv_string(jv_get(function, "name"), &x->scratch), 512);
    return model_http_text(x, CHUNK_TOOL_ARGUMENTS, jv_string(jv_get(function, "arguments"), &x->scratch), &tool->arguments);
}

static bool take_tools(struct model_http *x, struct jv list)
{
    if (!jv_is(list, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(list); jv_step(&it);)
        if (!take_tool(x, it.value))
            return false;
    return true;
}

static const struct {
    const char           *name;
    enum model_chunk_kind kind;
} text_members[] = {
    { "reasoning_content", CHUNK_REASONING },
    { "reasoning",         CHUNK_REASONING },
    { "content",           CHUNK_TEXT },
    { "refusal",           CHUNK_TEXT },
};

/* A delta, or the message of an answer that is not streamed: the members are the same. */
static bool take_message(struct model_http *x, struct jv message)
{
    bool reasoned = false; /* servers that send reasoning under both names send the same text twice */
    for (size_t i = 0; i < ARRAY_LEN(text_members); i++) {
        enum model_chunk_kind kind = text_members[i].kind;
        struct jv             value = jv_get(message, text_members[i].name);
        if (jv_is(value, JSON_NONE) || jv_is(value, JSON_NULL) || (kind == CHUNK_REASONING && reasoned))
            continue;
        if (!jv_is(value, JSON_STRING)) {
            if (kind == CHUNK_REASONING)
                continue;
            return model_http_bad(x, "a piece of the answer is not a text");
        }
        struct span text = jv_string(value, &x->scratch);
        reasoned = reasoned || (kind == CHUNK_REASONING && text.n);
        if (!model_http_text(x, kind, text, kind == CHUNK_TEXT ? &x->answer.text : &x->answer.reasoning))
            return false;
    }
    return take_tools(x, jv_get(message, "tool_calls"));
}

static int64_t count_of(struct jv object, const char *name)
{
    int64_t n;
    return jv_i64(jv_get(object, name), &n) ? n : -1;
}

static void take_usage(struct model_http *x, struct jv usage)
{
    struct jv prompt = jv_get(usage, "prompt_tokens_details");
    int64_t   cached = count_of(prompt, "cached_tokens");
    usage_from_totals(&x->answer.usage, (struct usage_totals){
        .input = count_of(usage, "prompt_tokens"),
        .cached = cached >= 0 ? cached : count_of(usage, "prompt_cache_hit_tokens"), /* DeepSeek */
        .written = count_of(prompt, "cache_write_tokens"),
        .output = count_of(usage, "completion_tokens"),
        .reasoning = count_of(jv_get(usage, "completion_tokens_details"), "reasoning_tokens"),
    });
}

static const char *finish_name(struct span reason)
{
    static const struct {
        const char *theirs, *ours;
    } names[] = {
        { "stop", "stop" }, { "length", "length" }, { "tool_calls", "tool_calls" }, { "function_call", "tool_calls" },
        { "content_filter", "content_filter" }, { "error", "error" },
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_is(reason, names[i].theirs))
            return names[i].ours;
    return "other";
}

static bool take_choices(struct model_http *x, struct jv choices, const char *member)
{
    if (!jv_is(choices, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(choices); jv_step(&it);) {
        int64_t index;
        if (jv_i64(jv_get(it.value, "index"), &index) && index != 0)
            continue; /* one answer was asked for */
        if (!take_message(x, jv_get(it.value, member)))
            return false;
        struct span reason = jv_string(jv_get(it.value, "finish_reason"), &x->scratch);
        if (reason.n && !x->answer.finish)
            x->answer.finish = finish_name(reason);
    }
    return true;
}

static bool take_answer(struct model_http *x, struct jv answer, const char *member)
{
    answer_set_once(&x->answer.response_id, jv_string(jv_get(answer, "id"), &x->scratch), 512);
    answer_set_once(&x->answer.model, jv_string(jv_get(answer, "model"), &x->scratch), 512);
    take_usage(x, jv_get(answer, "usage"));
    return take_choices(x, jv_get(answer, "choices"), member);
}

static bool chat_take_event(struct model_http *x, struct jv event)
{
    return take_answer(x, event, "delta");
}

static bool chat_take_whole(struct model_http *x, struct jv answer)
{
    return take_answer(x, answer, "message");
}

const struct protocol protocol_openai_chat = {
    .path = "/chat/completions",
    .call_size = sizeof(struct chat_call),
    .put_body = chat_put_body,
    .take_event = chat_take_event,
    .take_whole = chat_take_whole,
};

static enum err chat_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    assert(skip_chunks == 0); /* not resumable */
    return model_http_start(call, &protocol_openai_chat, request, error);
}

const struct provider_ops provider_openai_chat = {
    .kind = "openai-chat",
    .call_size = sizeof(struct chat_call),
    .check_path = "/models",
    .key_header = "Authorization: Bearer ",
    .start = chat_start,
    .close = model_http_close,
    .release = model_http_release,
};
