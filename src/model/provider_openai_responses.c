/* SPDX-License-Identifier: Apache-2.0 */
/* provider_openai_responses.c - OpenAI's Responses: POST {base_url}/responses.
 *
 * Nothing is left at the provider ("store": false): each request carries the whole conversation. Reasoning that came
 * encrypted is the answer's provider_state ({"kind": "openai-responses", "items": [...]}) and goes back in front of the
 * message that it belongs to. It is asked for when the request has a reasoning_effort: models that do not reason refuse the
 * question. The protocol has no `stop`. */
#include "model/model_http.h"

enum { ITEMS_MAX = 512 };

struct responses_call {
    struct model_http x; /* first */
    size_t         *tools; /* by output_index: the place in the answer plus 1; 0: no tool call */
};

/* ---- what goes out ---- */

static void put_typed_text(struct jw *w, const char *type, struct span text)
{
    jw_obj(w);
    jw_key(w, "type"); jw_cstr(w, type);
    jw_key(w, "text"); jw_str(w, text);
    jw_end(w);
}

static void put_part(struct jw *w, const struct part *part, struct arena *arena)
{
    bool image = mime_is(part->mime, "image/");
    if (!part->is_file) {
        put_typed_text(w, "input_text", part->text);
        return;
    }
    jw_obj(w);
    jw_key(w, "type"); jw_cstr(w, image ? "input_image" : "input_file");
    if (!image) {
        jw_key(w, "filename");
        jw_str(w, part->filename.n ? part->filename : SPAN("file"));
    }
    jw_key(w, image ? "image_url" : "file_data"); jw_str(w, data_url(part, arena));
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

static void put_state(struct jw *w, struct jv state)
{
    struct jv items = jv_get(state, "items");
    if (!jv_str_eq(jv_get(state, "kind"), "openai-responses") || !jv_is(items, JSON_ARRAY))
        return; /* another provider's */
    for (struct jv_iter it = jv_iter(items); jv_step(&it);)
        put_json(w, it.value);
}

static void put_calls(struct jw *w, struct jv calls, struct arena *arena)
{
    if (!jv_count(calls))
        return;
    for (struct jv_iter it = jv_iter(calls); jv_step(&it);) {
        struct tool_call_want call = tool_call_read(it.value, arena);
        jw_obj(w);
        jw_key(w, "type");      jw_cstr(w, "function_call");
        jw_key(w, "call_id");   jw_str(w, call.id);
        jw_key(w, "name");      jw_str(w, call.name);
        jw_key(w, "arguments"); jw_str(w, call.arguments);
        jw_end(w);
    }
}

/* What an assistant said can only be text: its parts are joined. */
static void put_said(struct jw *w, const struct message *message, struct arena *arena)
{
    bool assistant = span_is(message->role, "assistant");
    if (assistant && content_is_empty(message->content))
        return;
    jw_obj(w);
    jw_key(w, "role"); jw_str(w, message->role);
    jw_key(w, "content");
    if (assistant)
        jw_str(w, content_text(message->content, arena));
    else
        put_content(w, message->content, arena);
    jw_end(w);
}

static void put_output(struct jw *w, const struct message *message, struct arena *arena)
{
    jw_obj(w);
    jw_key(w, "type");    jw_cstr(w, "function_call_output");
    jw_key(w, "call_id"); jw_str(w, message->tool_call_id);
    jw_key(w, "output");  put_content(w, message->content, arena);
    jw_end(w);
}

static void put_input(struct jw *w, struct jv messages, struct arena *arena)
{
    jw_arr(w);
    for (struct jv_iter it = jv_iter(messages); jv_step(&it);) {
        struct message message = message_read(it.value, arena);
        if (span_is(message.role, "tool")) {
            put_output(w, &message, arena);
            continue;
        }
        put_state(w, message.provider_state);
        put_said(w, &message, arena);
        put_calls(w, message.tool_calls, arena);
    }
    jw_arr_end(w);
}

/* `strict` is said because the protocol's default is true, and schemas that are not made for it would be refused. */
static void put_tools(struct jw *w, struct jv tools, struct arena *arena)
{
    jw_arr(w);
    for (struct jv_iter it = jv_iter(tools); jv_step(&it);) {
        struct tool_want tool = tool_read(it.value, arena);
        jw_obj(w);
        jw_key(w, "type"); jw_cstr(w, "function");
        jw_key(w, "name"); jw_str(w, tool.name);
        if (tool.description.n) {
            jw_key(w, "description");
            jw_str(w, tool.description);
        }
        jw_key(w, "parameters"); put_json(w, tool.parameters);
        jw_key(w, "strict");     jw_bool(w, false);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_tool_members(struct jw *w, const struct model_request *want, struct arena *arena)
{
    if (!jv_count(want->tools))
        return;
    jw_key(w, "tools");
    put_tools(w, want->tools, arena);
    if (jv_is(want->tool_choice, JSON_STRING)) {
        jw_key(w, "tool_choice");
        put_json(w, want->tool_choice);
    } else if (jv_is(want->tool_choice, JSON_OBJECT)) {
        jw_key(w, "tool_choice");
        jw_obj(w);
        jw_key(w, "type"); jw_cstr(w, "function");
        jw_key(w, "name"); put_json(w, jv_get(want->tool_choice, "name"));
        jw_end(w);
    }
    if (jv_is(want->parallel_tool_calls, JSON_TRUE) || jv_is(want->parallel_tool_calls, JSON_FALSE)) {
        jw_key(w, "parallel_tool_calls");
        put_json(w, want->parallel_tool_calls);
    }
}

static void put_format(struct jw *w, struct jv format)
{
    if (!jv_is(format, JSON_OBJECT))
        return;
    jw_key(w, "text");
    jw_obj(w);
    jw_key(w, "format");
    put_json(w, format); /* the members have the same names */
    jw_end(w);
}

static void put_reasoning(struct jw *w, struct span effort)
{
    if (!effort.n)
        return;
    jw_key(w, "reasoning");
    jw_obj(w);
    jw_key(w, "effort"); jw_str(w, effort);
    jw_end(w);
    jw_key(w, "include");
    jw_raw(w, SPAN("[\"reasoning.encrypted_content\"]"));
}

static enum err responses_put_body(struct model_http *x, const struct model_request *want, struct jw *w, struct error *error)
{
    struct arena *arena = &x->call.arena;
    if (jv_count(want->stop))
        return field_error(error, "", SPAN("stop"), "OpenAI's Responses have no stop texts");
    jw_obj(w);
    jw_key(w, "model");  jw_str(w, x->call.model);
    jw_key(w, "input");  put_input(w, want->messages, arena);
    jw_key(w, "stream"); jw_bool(w, !x->call.provider->http.whole);
    jw_key(w, "store");  jw_bool(w, false);
    if (jv_is(want->max_tokens, JSON_NUMBER)) {
        jw_key(w, "max_output_tokens");
        jw_raw(w, jv_raw(want->max_tokens));
    }
    if (jv_is(want->temperature, JSON_NUMBER)) {
        jw_key(w, "temperature");
        jw_raw(w, jv_raw(want->temperature));
    }
    put_tool_members(w, want, arena);
    put_format(w, want->output_format);
    put_reasoning(w, want->reasoning_effort);
    jw_end(w);
    return ERR_OK;
}

/* ---- what comes back: each function returns false when the call is over ---- */

static struct span text_of(struct model_http *x, struct jv object, const char *name)
{
    return jv_string(jv_get(object, name), &x->scratch);
}

static int64_t count_of(struct jv object, const char *name)
{
    int64_t n;
    return jv_i64(jv_get(object, name), &n) ? n : -1;
}

static void take_usage(struct model_http *x, struct jv usage)
{
    struct jv input = jv_get(usage, "input_tokens_details");
    usage_from_totals(&x->answer.usage, (struct usage_totals){
        .input = count_of(usage, "input_tokens"),
        .cached = count_of(input, "cached_tokens"),
        .written = count_of(input, "cache_write_tokens"),
        .output = count_of(usage, "output_tokens"),
        .reasoning = count_of(jv_get(usage, "output_tokens_details"), "reasoning_tokens"),
    });
}

static void take_names(struct model_http *x, struct jv response)
{
    answer_set_once(&x->answer.response_id, text_of(x, response, "id"), 512);
    answer_set_once(&x->answer.model, text_of(x, response, "model"), 512);
}

/* Encrypted reasoning is kept, without what the provider does not take back. */
static bool keep_reasoning(struct model_http *x, struct jv item)
{
    struct buf *state = &x->answer.state;
    struct jw   w = jw_on(state);
    if (!jv_is(jv_get(item, "encrypted_content"), JSON_STRING))
        return true;
    if (!model_http_count(x, jv_raw(item).n))
        return false;
    if (state->len)
        buf_byte(state, ',');
    else
        BUF_LIT(state, "{\"kind\":\"openai-responses\",\"items\":[");
    jw_obj(&w);
    jw_key(&w, "type"); jw_cstr(&w, "reasoning");
    if (jv_is(jv_get(item, "id"), JSON_STRING)) {
        jw_key(&w, "id");
        put_json(&w, jv_get(item, "id"));
    }
    jw_key(&w, "summary");
    if (jv_is(jv_get(item, "summary"), JSON_ARRAY))
        put_json(&w, jv_get(item, "summary"));
    else
        jw_raw(&w, SPAN("[]"));
    jw_key(&w, "encrypted_content"); put_json(&w, jv_get(item, "encrypted_content"));
    jw_end(&w);
    return true;
}

static size_t *place_of(struct model_http *x, struct jv event)
{
    struct responses_call *call = (struct responses_call *)x;
    int64_t                index;
    if (!jv_i64(jv_get(event, "output_index"), &index) || index < 0 || index >= ITEMS_MAX)
        return NULL;
    if (!call->tools)
        call->tools = ARENA_ARRAY(&x->call.arena, size_t, ITEMS_MAX);
    return &call->tools[index];
}

static struct tool_call *add_tool(struct model_http *x, struct jv item)
{
    struct tool_call *tool = answer_tool(&x->answer, (int64_t)x->answer.tool_count);
    if (!tool) {
        model_http_bad(x, "there are too many tool calls");
        return NULL;
    }
    answer_set_once(&tool->id, text_of(x, item, "call_id"), 512);
    answer_set_once(&tool->name, text_of(x, item, "name"), 512);
    return tool;
}

static bool take_item_added(struct model_http *x, struct jv event)
{
    struct jv item = jv_get(event, "item");
    size_t   *place = place_of(x, event);
    if (!place)
        return model_http_bad(x, "an item has an index that is out of range");
    if (!jv_str_eq(jv_get(item, "type"), "function_call") || *place)
        return true;
    if (!add_tool(x, item))
        return false;
    *place = x->answer.tool_count;
    return true;
}

static bool take_arguments(struct model_http *x, struct jv event)
{
    size_t *place = place_of(x, event);
    if (!place || !*place)
        return model_http_bad(x, "there are arguments for a tool call that has not begun");
    return model_http_text(x, CHUNK_TOOL_ARGUMENTS, text_of(x, event, "delta"), &x->answer.tools[*place - 1].arguments);
}

/* Arguments that did not come in pieces stand in the finished item. */
static bool take_item_done(struct model_http *x, struct jv event)
{
    struct jv item = jv_get(event, "item");
    if (jv_str_eq(jv_get(item, "type"), "reasoning"))
        return keep_reasoning(x, item);
    if (!jv_str_eq(jv_get(item, "type"), "function_call"))
        return true;
    if (!take_item_added(x, event))
        return false;
    struct tool_call *tool = &x->answer.tools[*place_of(x, event) - 1];
    return tool->arguments.len ||
           model_http_text(x, CHUNK_TOOL_ARGUMENTS, text_of(x, item, "arguments"), &tool->arguments);
}

/* The texts of a list of parts, with `between` them. */
static bool take_parts(struct model_http *x, struct jv parts, enum model_chunk_kind kind, struct span between, struct buf *keep)
{
    if (!jv_is(parts, JSON_ARRAY))
        return true;
    for (struct jv_iter it = jv_iter(parts); jv_step(&it);)
        if ((keep->len && !model_http_text(x, kind, between, keep)) || !model_http_text(x, kind, text_of(x, it.value, "text"), keep) ||
            !model_http_text(x, kind, text_of(x, it.value, "refusal"), keep))
            return false;
    return true;
}

static bool take_item(struct model_http *x, struct jv item)
{
    struct jv type = jv_get(item, "type");
    if (jv_str_eq(type, "message"))
        return take_parts(x, jv_get(item, "content"), CHUNK_TEXT, SPAN_NONE, &x->answer.text);
    if (jv_str_eq(type, "reasoning"))
        return take_parts(x, jv_get(item, "summary"), CHUNK_REASONING, SPAN("\n\n"), &x->answer.reasoning) &&
               take_parts(x, jv_get(item, "content"), CHUNK_REASONING, SPAN("\n\n"), &x->answer.reasoning) && keep_reasoning(x, item);
    if (!jv_str_eq(type, "function_call"))
        return true;
    struct tool_call *tool = add_tool(x, item);
    return tool && model_http_text(x, CHUNK_TOOL_ARGUMENTS, text_of(x, item, "arguments"), &tool->arguments);
}

static const char *finish_of(struct jv response)
{
    struct jv reason = jv_get(jv_get(response, "incomplete_details"), "reason");
    if (jv_str_eq(jv_get(response, "status"), "completed"))
        return "stop";
    if (jv_str_eq(reason, "max_output_tokens"))
        return "length";
    return jv_str_eq(reason, "content_filter") ? "content_filter" : "other";
}

static bool responses_take_whole(struct model_http *x, struct jv response)
{
    struct jv output = jv_get(response, "output");
    if (!jv_is(output, JSON_ARRAY))
        return model_http_bad(x, "the answer has no output");
    take_names(x, response);
    take_usage(x, jv_get(response, "usage"));
    for (struct jv_iter it = jv_iter(output); jv_step(&it);)
        if (!take_item(x, it.value))
            return false;
    x->answer.finish = finish_of(response);
    return true;
}

/* Of the response at the end of a stream only what the stream did not tell. */
static bool take_end(struct model_http *x, struct jv event)
{
    struct jv response = jv_get(event, "response");
    bool      told = x->answer_bytes || x->answer.tool_count;
    if (!told && jv_is(jv_get(response, "output"), JSON_ARRAY) && !responses_take_whole(x, response))
        return false;
    take_names(x, response);
    take_usage(x, jv_get(response, "usage"));
    x->answer.finish = finish_of(response);
    return model_http_done(x);
}

static bool take_failed(struct model_http *x, struct jv event)
{
    return model_http_fault(x, jv_get(event, "response"));
}

static bool take_created(struct model_http *x, struct jv event)
{
    take_names(x, jv_get(event, "response"));
    return true;
}

static bool take_text(struct model_http *x, struct jv event)
{
    return model_http_text(x, CHUNK_TEXT, text_of(x, event, "delta"), &x->answer.text);
}

static bool take_thought(struct model_http *x, struct jv event)
{
    return model_http_text(x, CHUNK_REASONING, text_of(x, event, "delta"), &x->answer.reasoning);
}

static bool take_summary_part(struct model_http *x, struct jv event)
{
    return !x->answer.reasoning.len || model_http_text(x, CHUNK_REASONING, SPAN("\n\n"), &x->answer.reasoning);
}

static const struct {
    const char *type;
    bool (*take)(struct model_http *x, struct jv event);
} events[] = {
    { "response.output_text.delta",             take_text },
    { "response.refusal.delta",                 take_text },
    { "response.reasoning_text.delta",          take_thought },
    { "response.reasoning_summary_text.delta",  take_thought },
    { "response.reasoning_summary_part.added",  take_summary_part },
    { "response.function_call_arguments.delta", take_arguments },
    { "response.output_item.added",             take_item_added },
    { "response.output_item.done",              take_item_done },
    { "response.created",                       take_created },
    { "response.completed",                     take_end },
    { "response.incomplete",                    take_end },
    { "response.failed",                        take_failed },
};

static bool responses_take_event(struct model_http *x, struct jv event)
{
    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        if (jv_str_eq(jv_get(event, "type"), events[i].type))
            return events[i].take(x, event);
    return true; /* the same things said again, and what comes to be known later */
}

static bool responses_finish(struct model_http *x)
{
    if (x->answer.state.len)
        BUF_LIT(&x->answer.state, "]}");
    return true;
}

const struct protocol protocol_openai_responses = {
    .path = "/responses",
    .call_size = sizeof(struct responses_call),
    .put_body = responses_put_body,
    .take_event = responses_take_event,
    .take_whole = responses_take_whole,
    .finish = responses_finish,
};

static enum err responses_start(struct model_call *call, struct jv request, uint64_t skip_chunks, struct error *error)
{
    assert(skip_chunks == 0); /* not resumable */
    return model_http_start(call, &protocol_openai_responses, request, error);
}

const struct provider_ops provider_openai_responses = {
    .kind = "openai-responses",
    .call_size = sizeof(struct responses_call),
    .check_path = "/models",
    .key_header = "Authorization: Bearer ",
    .start = responses_start,
    .close = model_http_close,
    .release = model_http_release,
};
