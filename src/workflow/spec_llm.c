/* SPDX-License-Identifier: Apache-2.0 */
/* spec_llm.c - requests to models inside a specification: the body of /responses (workflow-runs.md 5.1-5.5).
 *
 * Members that the server knows are checked and copied; the rest is not (2.1). */
#include "base/ids.h"
#include "workflow/spec_inner.h"

enum { STOPS_MAX = 8, STOP_CHARACTERS = 128, SCHEMA_NAME_MAX = 64 };

/* ---- small ---- */

static bool is_word(struct jv v, const char *const *words)
{
    for (; *words; words++)
        if (jv_str_eq(v, *words))
            return true;
    return false;
}

/* INVALID_TYPE at the member unless it is absent or one of the words; true when it is one. */
static bool check_word(struct spec_compile *c, struct jv object, const char *name, const char *const *words, const char *list)
{
    struct jv v = spec_get(object, name);
    if (is_word(v, words))
        return true;
    if (jv_is(v, JSON_NONE))
        return false;
    size_t before = spec_enter(c, name);
    SPEC_ISSUE(c, "INVALID_TYPE", "must be %s", list);
    spec_leave(c, before);
    return false;
}

static void put_raw(struct spec_compile *c, const char *name, struct jv v)
{
    if (jv_is(v, JSON_NONE))
        return;
    jw_key(&c->w, name);
    jw_raw(&c->w, jv_raw(v));
}

static void put_text(struct spec_compile *c, const char *name, struct span text)
{
    if (text.n == 0)
        return;
    jw_key(&c->w, name);
    jw_str(&c->w, text);
}

static void put_message(struct spec_compile *c, const char *role, struct span text)
{
    jw_obj(&c->w);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, "message");
    jw_key(&c->w, "role");
    jw_cstr(&c->w, role);
    jw_key(&c->w, "content");
    jw_arr(&c->w);
    jw_obj(&c->w);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, "text");
    jw_key(&c->w, "text");
    jw_str(&c->w, text);
    jw_end(&c->w);
    jw_arr_end(&c->w);
    jw_end(&c->w);
}

/* ---- input items (5.2, 5.3) ---- */

static void put_part(struct spec_compile *c, struct jv part, struct span allowed, struct spec_marks *marks)
{
    static const char *const types[] = { "text", "file", NULL };
    if (!jv_is(part, JSON_OBJECT)) {
        SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        return;
    }
    (void)spec_need(c, part, "type", JSON_STRING);
    bool known = check_word(c, part, "type", types, "text or file");
    if (known && jv_str_eq(spec_get(part, "type"), "text")) {
        struct span text = jv_string(spec_need(c, part, "text", JSON_STRING), c->arena);
        size_t before = spec_enter(c, "text");
        spec_scan(c, text, allowed, marks);
        spec_leave(c, before);
    } else if (known) {
        struct jv file = spec_need(c, part, "file", JSON_OBJECT);
        size_t before = spec_enter(c, "file");
        if (jv_is(file, JSON_OBJECT)) {
            (void)spec_need_text(c, file, "data_base64", 0);
            (void)spec_need_text(c, file, "mime_type", 0);
        }
        spec_leave(c, before);
    }
    jw_raw(&c->w, jv_raw(part));
}

static void put_content(struct spec_compile *c, struct jv content, struct span allowed, struct spec_marks *marks)
{
    size_t before = spec_enter(c, "content"), i = 0;
    jw_key(&c->w, "content");
    jw_arr(&c->w);
    for (struct jv_iter it = jv_iter(content); jv_step(&it); i++) {
        size_t at = spec_enter_index(c, i);
        put_part(c, it.value, allowed, marks);
        spec_leave(c, at);
    }
    jw_arr_end(&c->w);
    spec_leave(c, before);
}

static void put_item(struct spec_compile *c, struct jv item, struct span allowed, struct spec_marks *marks)
{
    static const char *const known[] = { "type", "role", "content", "tool_calls", "tool_call_id", NULL };
    static const char *const types[] = { "message", NULL };
    static const char *const roles[] = { "system", "user", "assistant", "tool", NULL };
    if (!jv_is(item, JSON_OBJECT)) {
        SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        return;
    }
    spec_only(c, item, false, known);
    (void)check_word(c, item, "type", types, "message");
    if (jv_is(spec_need(c, item, "role", JSON_STRING), JSON_STRING))
        (void)check_word(c, item, "role", roles, "system, user, assistant or tool");
    jw_obj(&c->w);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, "message");
    put_raw(c, "role", spec_get(item, "role"));
    put_content(c, spec_want(c, item, "content", JSON_ARRAY), allowed, marks);
    put_raw(c, "tool_calls", spec_want(c, item, "tool_calls", JSON_ARRAY));
    put_text(c, "tool_call_id", spec_want_text(c, item, "tool_call_id", 256));
    jw_end(&c->w);
}

static void put_items(struct spec_compile *c, struct jv items, struct span allowed, struct spec_marks *marks)
{
    size_t before = spec_enter(c, "input"), i = 0;
    for (struct jv_iter it = jv_iter(items); jv_step(&it); i++) {
        size_t at = spec_enter_index(c, i);
        put_item(c, it.value, allowed, marks);
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

/* ---- tools (5.4) ---- */

static void put_function(struct spec_compile *c, struct jv tool)
{
    static const char *const known[] = { "name", "description", "parameters", NULL };
    struct jv function = spec_need(c, tool, "function", JSON_OBJECT);
    size_t before = spec_enter(c, "function");
    jw_key(&c->w, "function");
    jw_obj(&c->w);
    if (jv_is(function, JSON_OBJECT)) {
        struct span name = spec_need_text(c, function, "name", SPEC_MODEL_MAX);
        spec_only(c, function, false, known);
        if (c->warnings && name.n)
            spec_lint_tool(c, name);
        put_text(c, "name", name);
        put_text(c, "description", jv_string(spec_want(c, function, "description", JSON_STRING), c->arena));
        put_raw(c, "parameters", spec_want(c, function, "parameters", JSON_OBJECT));
    }
    jw_end(&c->w);
    spec_leave(c, before);
}

static void put_tool_name(struct spec_compile *c, struct jv tool)
{
    struct span name = jv_string(tool, c->arena);
    if (name.n == 0 || spec_characters(name) > SPEC_MODEL_MAX)
        SPEC_ISSUE(c, "INVALID_TYPE", "the name of a tool has 1 to %d characters", SPEC_MODEL_MAX);
    else if (c->warnings)
        spec_lint_tool(c, name);
    jw_obj(&c->w);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, "function");
    jw_key(&c->w, "function");
    jw_obj(&c->w);
    put_text(c, "name", name);
    jw_end(&c->w);
    jw_end(&c->w);
}

static void put_tool(struct spec_compile *c, struct jv tool)
{
    static const char *const types[] = { "function", "web", "x_search", "code_execution", "image_generation", NULL };
    static const char *const options[] = { "web", "x_search", "code_execution", "image_generation" };
    if (jv_is(tool, JSON_STRING)) {
        put_tool_name(c, tool);
        return;
    }
    if (!jv_is(tool, JSON_OBJECT)) {
        SPEC_ISSUE(c, "INVALID_TYPE", "must be a tool or the name of one");
        return;
    }
    jw_obj(&c->w);
    if (jv_is(spec_need(c, tool, "type", JSON_STRING), JSON_STRING) &&
        check_word(c, tool, "type", types, "function, web, x_search, code_execution or image_generation")) {
        put_raw(c, "type", spec_get(tool, "type"));
        if (jv_str_eq(spec_get(tool, "type"), "function"))
            put_function(c, tool);
    }
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        put_raw(c, options[i], spec_want(c, tool, options[i], JSON_OBJECT));
    jw_end(&c->w);
}

static void put_tools(struct spec_compile *c, struct jv object)
{
    struct jv tools = spec_want(c, object, "tools", JSON_ARRAY);
    size_t before = spec_enter(c, "tools"), i = 0;
    if (jv_count(tools) > 0) {
        jw_key(&c->w, "tools");
        jw_arr(&c->w);
        for (struct jv_iter it = jv_iter(tools); jv_step(&it); i++) {
            size_t at = spec_enter_index(c, i);
            put_tool(c, it.value);
            spec_leave(c, at);
        }
        jw_arr_end(&c->w);
    }
    spec_leave(c, before);
}

/* ---- the rest of a request ---- */

static void put_schema(struct spec_compile *c, struct jv format)
{
    struct jv schema = spec_need(c, format, "json_schema", JSON_OBJECT);
    size_t before = spec_enter(c, "json_schema");
    jw_key(&c->w, "json_schema");
    jw_obj(&c->w);
    if (jv_is(schema, JSON_OBJECT)) {
        put_text(c, "name", spec_need_text(c, schema, "name", SCHEMA_NAME_MAX));
        put_text(c, "description", jv_string(spec_want(c, schema, "description", JSON_STRING), c->arena));
        put_raw(c, "schema", spec_need(c, schema, "schema", JSON_OBJECT));
        if (spec_flag(c, schema, "strict")) {
            jw_key(&c->w, "strict");
            jw_bool(&c->w, true);
        }
    }
    jw_end(&c->w);
    spec_leave(c, before);
}

/* {"type":"text"} is the default and not written. */
static void put_format(struct spec_compile *c, struct jv object)
{
    static const char *const types[] = { "text", "json_schema", NULL };
    struct jv format = spec_want(c, object, "output_format", JSON_OBJECT);
    size_t before = spec_enter(c, "output_format");
    if (jv_is(format, JSON_OBJECT) && jv_is(spec_need(c, format, "type", JSON_STRING), JSON_STRING) &&
        check_word(c, format, "type", types, "text or json_schema") && !jv_str_eq(spec_get(format, "type"), "text")) {
        jw_key(&c->w, "output_format");
        jw_obj(&c->w);
        jw_key(&c->w, "type");
        jw_cstr(&c->w, "json_schema");
        put_schema(c, format);
        jw_end(&c->w);
        if (c->warnings)
            spec_lint_format(c, format);
    }
    spec_leave(c, before);
}

static void put_stop(struct spec_compile *c, struct jv object)
{
    struct jv stop = spec_want(c, object, "stop", JSON_ARRAY);
    size_t before = spec_enter(c, "stop"), i = 0;
    if (jv_count(stop) > STOPS_MAX)
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are %zu stop texts; %d are allowed", jv_count(stop), STOPS_MAX);
    else if (jv_count(stop) > 0)
        put_raw(c, "stop", stop);
    for (struct jv_iter it = jv_iter(stop); jv_step(&it); i++) {
        struct span text = jv_string(it.value, c->arena);
        if (text.n > 0 && spec_characters(text) <= STOP_CHARACTERS)
            continue;
        size_t at = spec_enter_index(c, i);
        SPEC_ISSUE(c, "INVALID_TYPE", "must be a string of 1 to %d characters", STOP_CHARACTERS);
        spec_leave(c, at);
    }
    spec_leave(c, before);
}

static void put_count(struct spec_compile *c, struct jv object, const char *name)
{
    spec_put_int(c, object, name, 0, INT32_MAX, -1);
}

static void put_temperature(struct spec_compile *c, struct jv object)
{
    struct jv v = spec_get(object, "temperature");
    double value;
    if (jv_is(v, JSON_NONE))
        return;
    size_t before = spec_enter(c, "temperature");
    if (!jv_is(v, JSON_NUMBER) || !jv_f64(v, &value) || !(value >= 0 && value <= 2))
        SPEC_ISSUE(c, "INVALID_TYPE", "must be a number from 0 to 2");
    spec_leave(c, before);
    put_raw(c, "temperature", v);
}

static void put_choice(struct spec_compile *c, struct jv object)
{
    static const char *const types[] = { "auto", "required", "none", NULL };
    struct jv choice = spec_want(c, object, "tool_choice", JSON_OBJECT);
    size_t before = spec_enter(c, "tool_choice");
    if (jv_is(choice, JSON_OBJECT) && jv_is(spec_need(c, choice, "type", JSON_STRING), JSON_STRING)) {
        (void)check_word(c, choice, "type", types, "auto, required or none");
        jw_key(&c->w, "tool_choice");
        jw_obj(&c->w);
        put_raw(c, "type", spec_get(choice, "type"));
        put_text(c, "function", spec_want_text(c, choice, "function", SPEC_MODEL_MAX));
        jw_end(&c->w);
    }
    spec_leave(c, before);
}

static void put_session(struct spec_compile *c, struct jv object)
{
    struct span id = spec_want_text(c, object, "session_id", 0);
    struct uuid uuid;
    if (id.n && !uuid_parse(id, &uuid)) {
        size_t before = spec_enter(c, "session_id");
        SPEC_ISSUE(c, "INVALID_TYPE", "must be a UUID");
        spec_leave(c, before);
    }
    put_text(c, "session_id", id);
}

/* What both formats may say, beside the messages. */
static void put_options(struct spec_compile *c, struct jv object, struct span default_model)
{
    struct span model = spec_want_text(c, object, "model", SPEC_MODEL_MAX);
    put_text(c, "model", model.n ? model : default_model);
    put_count(c, object, "max_output_tokens");
    put_raw(c, "script", spec_get(object, "script")); /* ours: what a provider of kind scripted answers; it is checked there */
    put_format(c, object);
    put_stop(c, object);
    put_tools(c, object);
}

void spec_intent_request(struct spec_compile *c, struct jv node, struct span allowed, struct spec_marks *marks)
{
    struct span system = jv_string(spec_want(c, node, "system", JSON_STRING), c->arena);
    struct span user = jv_string(spec_want(c, node, "user", JSON_STRING), c->arena);
    struct jv items = spec_want(c, node, "input", JSON_ARRAY);
    if (system.n == 0 && user.n == 0 && jv_count(items) == 0)
        SPEC_ISSUE(c, "LLM_INPUT_REQUIRED", "a model needs at least one message: system, input or user");
    jw_key(&c->w, "request");
    jw_obj(&c->w);
    jw_key(&c->w, "input");
    jw_arr(&c->w);
    if (system.n) {
        size_t before = spec_enter(c, "system");
        spec_scan(c, system, allowed, marks);
        spec_leave(c, before);
        put_message(c, "system", system);
    }
    put_items(c, items, allowed, marks);
    if (user.n) {
        size_t before = spec_enter(c, "user");
        spec_scan(c, user, allowed, marks);
        spec_leave(c, before);
        put_message(c, "user", user);
    }
    jw_arr_end(&c->w);
    put_options(c, node, c->model);
    jw_end(&c->w);
    spec_marks_sort(marks);
}

void spec_v1_request(struct spec_compile *c, struct jv request, bool input_bound, struct spec_marks *marks)
{
    static const char *const known[] = { "input", "model",       "provider",   "max_output_tokens", "temperature", "output_format",
                                         "stop",  "tool_choice", "session_id", "tools",             "script",      NULL };
    struct jv items = spec_want(c, request, "input", JSON_ARRAY);
    if (jv_count(items) == 0 && !input_bound)
        SPEC_ISSUE(c, "LLM_INPUT_REQUIRED", "a model needs at least one message in input");
    spec_only(c, request, false, known);
    jw_key(&c->w, "request");
    jw_obj(&c->w);
    if (jv_is(items, JSON_ARRAY)) {
        jw_key(&c->w, "input");
        jw_arr(&c->w);
        put_items(c, items, SPAN_NONE, marks);
        jw_arr_end(&c->w);
    }
    put_options(c, request, SPAN_NONE);
    put_text(c, "provider", spec_want_text(c, request, "provider", SPEC_MODEL_MAX));
    put_temperature(c, request);
    put_choice(c, request);
    put_session(c, request);
    jw_end(&c->w);
    spec_marks_sort(marks);
}

/* ---- beside the request ---- */

static void put_mode(struct spec_compile *c, struct jv object, bool in_fanout)
{
    static const char *const known[] = { "mode", NULL };
    static const char *const modes[] = { "server", "client", "agentic", NULL };
    struct jv execution = spec_want(c, object, "tool_execution", JSON_OBJECT);
    size_t before = spec_enter(c, "tool_execution");
    if (jv_is(execution, JSON_OBJECT)) {
        struct jv mode = spec_need(c, execution, "mode", JSON_STRING);
        spec_only(c, execution, true, known);
        bool right = check_word(c, execution, "mode", modes, "server, client or agentic");
        if (in_fanout && jv_str_eq(mode, "client")) {
            (void)spec_enter(c, "mode");
            SPEC_ISSUE(c, "CLIENT_TOOLS_IN_FANOUT", "a fan-out's subnode cannot wait for tools of the client");
        }
        if (right && !jv_str_eq(mode, "server")) {
            jw_key(&c->w, "tool_execution");
            jw_obj(&c->w);
            put_raw(c, "mode", mode);
            jw_end(&c->w);
        }
    }
    spec_leave(c, before);
}

static const char *const retry_classes[] = { "invalid_json", "rate_limit", "timeout", "truncated", NULL };

/* As a set, in byte order; the default is not written. */
static void put_classes(struct spec_compile *c, struct jv retry)
{
    struct jv list = spec_want(c, retry, "retryable_errors", JSON_ARRAY);
    unsigned set = 0;
    size_t before = spec_enter(c, "retryable_errors"), at = 0;
    for (struct jv_iter it = jv_iter(list); jv_step(&it); at++) {
        unsigned i = 0;
        while (retry_classes[i] && !jv_str_eq(it.value, retry_classes[i]))
            i++;
        set |= 1u << i;
        if (retry_classes[i])
            continue;
        size_t inner = spec_enter_index(c, at);
        SPEC_ISSUE(c, "INVALID_TYPE", "must be invalid_json, rate_limit, timeout or truncated");
        spec_leave(c, inner);
    }
    spec_leave(c, before);
    if (!jv_is(list, JSON_ARRAY) || set == (1u << 0 | 1u << 3))
        return;
    jw_key(&c->w, "retryable_errors");
    jw_arr(&c->w);
    for (unsigned i = 0; retry_classes[i]; i++)
        if (set & 1u << i)
            jw_cstr(&c->w, retry_classes[i]);
    jw_arr_end(&c->w);
}

static void put_retry(struct spec_compile *c, struct jv object)
{
    static const char *const known[] = { "max_attempts", "retryable_errors", "backoff_ms", NULL };
    struct jv retry = spec_want(c, object, "retry", JSON_OBJECT);
    if (!jv_is(retry, JSON_OBJECT))
        return;
    size_t before = spec_enter(c, "retry"), start = c->body.len;
    struct jw outer = c->w;
    int64_t attempts = 1;
    spec_only(c, retry, false, known);
    jw_key(&c->w, "retry");
    jw_obj(&c->w);
    if (spec_int(c, retry, "max_attempts", 1, PLAN_TRIES_MAX, &attempts)) {
        jw_key(&c->w, "max_attempts");
        jw_i64(&c->w, attempts);
    }
    put_classes(c, retry);
    spec_put_int(c, retry, "backoff_ms", 0, 86400000, 1000);
    jw_end(&c->w);
    if (attempts == 1) { /* one attempt is no retry, whatever else it says */
        c->body.len = start;
        c->w = outer;
    }
    spec_leave(c, before);
}

void spec_llm_common(struct spec_compile *c, struct jv object, bool in_fanout)
{
    if (spec_flag(c, object, "stream")) {
        jw_key(&c->w, "stream");
        jw_bool(&c->w, true);
    }
    put_mode(c, object, in_fanout);
    put_retry(c, object);
}
