/* SPDX-License-Identifier: Apache-2.0 */
/* talk.c - the conversation: where messages come from, and which are forgotten. */
#include "agent/state.h"

void agent_talk_add(struct talk *talk, struct span message, struct arena *arena)
{
    if (talk->count == talk->cap) {
        uint32_t cap = talk->cap ? talk->cap * 2 : 8;
        struct span *items = ARENA_ARRAY(arena, struct span, cap);
        if (talk->count)
            memcpy(items, talk->items, talk->count * sizeof items[0]);
        talk->items = items;
        talk->cap = cap;
    }
    talk->items[talk->count++] = arena_copy(arena, message);
}

static void add_user(struct talk *talk, struct span content, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    BUF_LIT(&text, "{\"role\":\"user\",\"content\":");
    buf_span(&text, content);
    BUF_LIT(&text, "}");
    agent_talk_add(talk, buf_view(&text), arena);
}

static bool is_role(struct jv v)
{
    return jv_str_eq(v, "system") || jv_str_eq(v, "user") || jv_str_eq(v, "assistant") || jv_str_eq(v, "tool");
}

static const char *message_wrong(struct jv message)
{
    struct jv content = jv_get(message, "content"), calls = jv_get(message, "tool_calls");

    if (!jv_is(message, JSON_OBJECT))
        return "a message must be an object";
    if (!is_role(jv_get(message, "role")))
        return "the role of a message must be system, user, assistant or tool";
    if (!jv_is(content, JSON_STRING) && !jv_is(content, JSON_ARRAY))
        return "the content of a message must be a text or a list of parts";
    if (!jv_is(calls, JSON_NONE) && !jv_is(calls, JSON_ARRAY))
        return "the tool calls of a message must be a list";
    if (jv_str_eq(jv_get(message, "role"), "tool") && !jv_is(jv_get(message, "tool_call_id"), JSON_STRING))
        return "a tool message must name its call";
    return NULL;
}

static bool add_messages(struct talk *talk, struct jv messages, struct arena *arena, const char **why)
{
    if (!jv_is(messages, JSON_ARRAY) || jv_count(messages) == 0) {
        *why = "messages must be a list of at least one message";
        return false;
    }
    for (struct jv_iter it = jv_iter(messages); jv_step(&it);) {
        CLEANUP(buf_done) struct buf text = { 0 };
        *why = message_wrong(it.value);
        if (*why)
            return false;
        json_minify(it.value, &text);
        agent_talk_add(talk, buf_view(&text), arena);
    }
    return true;
}

bool agent_talk_add_input(struct talk *talk, struct jv input, struct arena *arena, const char **why)
{
    static const char *const words[] = { "message", "prompt", "text" };
    CLEANUP(buf_done) struct buf text = { 0 };
    CLEANUP(buf_done) struct buf quoted = { 0 };

    if (jv_is(input, JSON_NONE) || jv_is(input, JSON_NULL)) {
        *why = "there is no input";
        return false;
    }
    if (!jv_is(jv_get(input, "messages"), JSON_NONE))
        return add_messages(talk, jv_get(input, "messages"), arena, why);
    for (size_t i = 0; i < ARRAY_LEN(words) && !jv_is(input, JSON_STRING); i++)
        if (jv_is(jv_get(input, words[i]), JSON_STRING))
            input = jv_get(input, words[i]);
    json_minify(input, &text);
    if (!jv_is(input, JSON_STRING)) {
        json_put_string(&quoted, buf_view(&text));
        add_user(talk, buf_view(&quoted), arena);
    } else {
        add_user(talk, buf_view(&text), arena);
    }
    return true;
}

bool agent_talk_is(struct span message, const char *role)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    return jv_str_eq(jv_get(json_read(message, &scratch), "role"), role);
}

static uint64_t characters(struct span text)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    return n;
}

uint32_t agent_talk_trim(const struct span *messages, uint32_t count, uint32_t max_messages, uint64_t max_chars)
{
    uint32_t from = count; /* the oldest turn that still fits begins here */
    uint64_t chars = 0;

    for (uint32_t i = count; i-- > 0;) {
        bool newest = from == count;
        chars += characters(messages[i]);
        if (!newest && (count - i > max_messages || (max_chars && chars > max_chars)))
            return from;
        if (agent_talk_is(messages[i], "user"))
            from = i;
    }
    return 0;
}
