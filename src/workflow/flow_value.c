/* SPDX-License-Identifier: Apache-2.0 */
/* flow_value.c - values in workflows: conditions, placeholders and bindings, transforms, items (workflow-runs.md 2.4, 2.5, 3.5). */
#include "workflow/flow.h"
#include <regex.h>

const char *const flow_status_names[FLOW_STATUSES] = {
    [FLOW_PENDING] = "pending", [FLOW_RUNNING] = "running",   [FLOW_SUCCEEDED] = "succeeded",
    [FLOW_FAILED] = "failed",   [FLOW_CANCELED] = "canceled",
};

struct fault flow_fault(const char *code, const char *category, struct span message)
{
    return (struct fault){
        .code = span_of(code), .category = span_of(category), .message = message, .source = SPAN("agent")
    };
}

/* ---- conditions ---- */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* One step of a path: .name, ['name'] or [n]. Absent when the rest is no path. */
static struct jv path_step(struct jv v, const char **p, const char *end)
{
    const char *begin = ++*p;
    if (begin[-1] == '.') {
        while (*p < end && is_word(**p))
            ++*p;
        return jv_get_span(v, span_make(begin, (size_t)(*p - begin)));
    }
    if (begin < end && (*begin == '\'' || *begin == '"')) {
        const char *close = memchr(begin + 1, *begin, (size_t)(end - begin - 1));
        if (begin[-1] != '[' || !close || close + 1 == end || close[1] != ']')
            return (struct jv){ 0 };
        *p = close + 2;
        return jv_get_span(v, span_make(begin + 1, (size_t)(close - begin - 1)));
    }
    uint64_t index = 0;
    for (; *p < end && **p >= '0' && **p <= '9' && index < UINT32_MAX; ++*p)
        index = index * 10 + (uint64_t)(**p - '0');
    if (begin[-1] != '[' || *p == begin || *p == end || **p != ']' || !jv_is(v, JSON_ARRAY))
        return (struct jv){ 0 };
    ++*p;
    return jv_at(v, index);
}

static struct jv path_find(struct jv v, struct span path)
{
    const char *p = path.p, *end = path.p + path.n;
    if (path.n == 0)
        return v;
    for (p++; p < end && !jv_is(v, JSON_NONE);)
        v = path_step(v, &p, end);
    return v;
}

enum { PATTERN_MAX = 1024, SUBJECT_MAX = 65536, REPEATS_MAX = 256 };

/* What the C library can run in time and memory that follow from the lengths: no back references, and the bounds in braces
 * multiplied are small. */
static bool is_bounded(struct span pattern)
{
    uint64_t product = 1;
    for (size_t i = 0; i < pattern.n; i++) {
        if (pattern.p[i] == '\\' && ++i < pattern.n && pattern.p[i] >= '0' && pattern.p[i] <= '9')
            return false;
        if (i >= pattern.n || pattern.p[i] != '{')
            continue;
        uint64_t most = 1, n = 0;
        for (i++; i < pattern.n && ((pattern.p[i] >= '0' && pattern.p[i] <= '9') || pattern.p[i] == ','); i++) {
            n = pattern.p[i] == ',' ? 0 : n * 10 + (uint64_t)(pattern.p[i] - '0');
            most = n > most ? n : most;
            if (most > REPEATS_MAX)
                return false;
        }
        if ((product *= most) > REPEATS_MAX)
            return false;
    }
    return pattern.n <= PATTERN_MAX;
}

bool flow_pattern_valid(struct span pattern)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    regex_t regex;
    if (!is_bounded(pattern) || regcomp(&regex, arena_copy(&scratch, pattern).p, REG_EXTENDED | REG_NOSUB))
        return false;
    regfree(&regex);
    return true;
}

/* POSIX extended, unanchored. A pattern that is none, or cannot be bounded, matches nothing; nor does a text of more than
 * 64 KiB. */
static bool text_matches(struct span text, struct jv pattern)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    if (text.n > SUBJECT_MAX || !is_bounded(jv_string(pattern, &scratch)))
        return false;
    struct span expression = arena_copy(&scratch, jv_string(pattern, &scratch)), subject = arena_copy(&scratch, text);
    regex_t regex;

    if (regcomp(&regex, expression.p, REG_EXTENDED | REG_NOSUB))
        return false;
    bool matches = regexec(&regex, subject.p, 0, NULL, 0) == 0;
    regfree(&regex);
    return matches;
}

static bool status_holds(const struct flow_when *when, struct span status)
{
    if (when->path.n > 1)
        return false;
    switch (when->op) {
    case FLOW_EXISTS: return true;
    case FLOW_EQUALS:
        return jv_str_eq(when->value, flow_status_names[FLOW_SUCCEEDED]) ? span_is(status, "succeeded")
               : jv_str_eq(when->value, flow_status_names[FLOW_FAILED])
                   ? span_is(status, "failed")
                   : jv_str_eq(when->value, flow_status_names[FLOW_CANCELED]) && span_is(status, "canceled");
    case FLOW_MATCHES: return text_matches(status, when->value);
    }
    return false;
}

bool flow_holds(const struct flow_when *when, enum flow_status status, struct jv output)
{
    if (when->status)
        return status_holds(when, span_of(flow_status_names[status]));
    if (status != FLOW_SUCCEEDED)
        return false;
    struct jv found = path_find(output, when->path);
    switch (when->op) {
    case FLOW_EXISTS: return !jv_is(found, JSON_NONE);
    case FLOW_EQUALS: return !jv_is(found, JSON_NONE) && jv_equal(found, when->value);
    case FLOW_MATCHES: break;
    }
    CLEANUP(arena_done) struct arena scratch = { 0 };
    return jv_is(found, JSON_STRING) && text_matches(jv_string(found, &scratch), when->value);
}

/* ---- texts ---- */

struct span flow_text(struct jv response, struct arena *arena)
{
    struct jv text = jv_pointer(response, SPAN("/output/0/content/0/text"));
    return jv_is(text, JSON_STRING) ? jv_string(text, arena) : SPAN_NONE;
}

static struct jv parse_text(struct span text, struct arena *arena)
{
    static const struct json_limits limits = { .depth = 64, .lone_surrogates = true };
    struct json *doc = ARENA_NEW(arena, struct json);
    if (json_parse(arena_copy(arena, text), &limits, arena, doc, NULL))
        return (struct jv){ 0 };
    return json_root(doc);
}

struct jv flow_text_json(struct jv response, struct arena *arena)
{
    return parse_text(flow_text(response, arena), arena);
}

/* Text as it is, anything else as compact JSON. */
static void put_text(struct jv v, struct arena *arena, struct buf *out)
{
    if (jv_is(v, JSON_STRING))
        buf_span(out, jv_string(v, arena));
    else
        json_minify(v, out);
}

/* ---- bindings ---- */

struct binding {
    struct span to, placeholder; /* one of them */
    bool text;
    struct jv value;
};

struct filling {
    struct binding *items;
    size_t count;
    struct arena *arena;
    struct buf at; /* pointer of what is being written */
};

static bool bound_value(struct jv v, const struct flow_source *source, struct arena *arena, struct jv *ret,
                        struct fault *fault)
{
    struct jv from = jv_get(v, "from"), from_input = jv_get(v, "from_input"), path = jv_get(v, "path");
    struct span pointer = jv_string(jv_get(v, "pointer"), arena);

    if (jv_is(from, JSON_STRING)) {
        uint32_t node = flow_find(source->flow, jv_string(from, arena));
        *ret = node == NO_INDEX ? (struct jv){ 0 } : source->node(source->ctx, node);
    } else if (jv_is(from_input, JSON_STRING)) {
        *ret = source->input(source->ctx, jv_string(from_input, arena));
        if (jv_is(*ret, JSON_NONE)) {
            *fault =
                flow_fault("INPUT_REQUIRED", "validation",
                           arena_printf(arena, "The run has no input %.*s.", SPAN_ARG(jv_string(from_input, arena))));
            return false;
        }
    } else {
        *ret = source->item;
        pointer = jv_is(path, JSON_STRING) ? jv_string(path, arena) : pointer;
    }
    *ret = jv_pointer(*ret, pointer);
    if (!jv_is(*ret, JSON_NONE))
        return true;
    struct span name = jv_is(from, JSON_STRING)         ? jv_string(from, arena)
                       : jv_is(from_input, JSON_STRING) ? jv_string(from_input, arena)
                                                        : SPAN("item");
    *fault =
        flow_fault("POINTER_NOT_FOUND", "validation",
                   arena_printf(arena, "There is nothing at \"%.*s\" in %.*s.", SPAN_ARG(pointer), SPAN_ARG(name)));
    return false;
}

static bool read_bindings(const struct flow_job *job, const struct flow_source *source, struct filling *f,
                          struct fault *fault)
{
    f->items = ARENA_ARRAY(f->arena, struct binding, jv_count(job->bindings) + 1);
    for (struct jv_iter it = jv_iter(job->bindings); jv_step(&it);) {
        struct binding *b = &f->items[f->count++];
        struct jv encoding = jv_get(it.value, "encoding");
        b->to = jv_string(jv_get(it.value, "to"), f->arena);
        b->placeholder = jv_string(jv_get(it.value, "to_placeholder"), f->arena);
        b->text = jv_is(encoding, JSON_STRING) ? jv_str_eq(encoding, "json_string") : b->placeholder.n > 0;
        if (!bound_value(it.value, source, f->arena, &b->value, fault))
            return false;
    }
    return true;
}

/* The end of "{{name}}" that begins at p, and its name; NULL when it is none. */
static const char *marker_at(const char *p, const char *end, struct span *ret_name)
{
    const char *name = p + 2, *at = name;
    if (end - p < 5 || p[0] != '{' || p[1] != '{')
        return NULL;
    if (end - at > 6 && memcmp(at, "input:", 6) == 0)
        at += 6;
    if (at == end || !is_word(*at) || (*at >= '0' && *at <= '9') || *at == '-')
        return NULL;
    while (at < end && is_word(*at) && *at != '-')
        at++;
    if (end - at < 2 || at[0] != '}' || at[1] != '}')
        return NULL;
    *ret_name = span_make(name, (size_t)(at - name));
    return at + 2;
}

static const struct binding *find_marker(const struct filling *f, struct span name)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i].placeholder.n && span_eq(f->items[i].placeholder, name))
            return &f->items[i];
    return NULL;
}

/* What is put in is not scanned again. */
static void put_filled_text(struct filling *f, struct jv v, struct buf *out)
{
    CLEANUP(buf_done) struct buf filled = { 0 };
    struct span text = jv_string(v, f->arena), name;
    const char *p = text.p, *end = text.p + text.n;

    while (p < end) {
        const char *brace = memchr(p, '{', (size_t)(end - p)), *behind;
        buf_put(&filled, p, (size_t)((brace ? brace : end) - p));
        if (!brace)
            break;
        /* The caller sees that it became too large. */
        bool room = filled.len + out->len <= FLOW_OUTPUT_MAX;
        const struct binding *b = (behind = marker_at(brace, end, &name)) && room ? find_marker(f, name) : NULL;
        if (!b)
            buf_byte(&filled, '{');
        else if (b->text)
            put_text(b->value, f->arena, &filled);
        else
            json_minify(b->value, &filled);
        p = b ? behind : brace + 1;
    }
    json_put_string(out, buf_view(&filled));
}

static const struct binding *find_target(const struct filling *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i].to.n && span_eq(f->items[i].to, buf_view(&f->at)))
            return &f->items[i];
    return NULL;
}

static void put_bound(struct filling *f, const struct binding *b, struct buf *out)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (!b->text) {
        json_minify(b->value, out);
        return;
    }
    put_text(b->value, f->arena, &text);
    json_put_string(out, buf_view(&text));
}

static void put_filled(struct filling *f, struct jv v, struct buf *out);

/* Bindings to members that are not there yet: directly below what is being written. */
static void put_added(struct filling *f, struct jv v, bool comma, struct buf *out)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct binding *b = &f->items[i];
        if (b->to.n <= f->at.len + 1 || memcmp(b->to.p, f->at.len ? f->at.p : "", f->at.len) != 0 ||
            b->to.p[f->at.len] != '/')
            continue;
        struct span below = span_make(b->to.p + f->at.len, b->to.n - f->at.len),
                    name = span_make(below.p + 1, below.n - 1);
        if (memchr(name.p, '/', name.n) || !jv_is(jv_pointer(v, below), JSON_NONE))
            continue;
        if (comma)
            buf_byte(out, ',');
        if (jv_is(v, JSON_OBJECT)) {
            json_put_string(out, name);
            buf_byte(out, ':');
        }
        put_bound(f, b, out);
        comma = true;
    }
}

static void put_filled_members(struct filling *f, struct jv v, struct buf *out)
{
    bool object = jv_is(v, JSON_OBJECT), comma = false;
    size_t index = 0;

    buf_byte(out, object ? '{' : '[');
    for (struct jv_iter it = jv_iter(v); jv_step(&it); index++, comma = true) {
        size_t before = f->at.len;
        if (comma)
            buf_byte(out, ',');
        if (object) {
            buf_span(out, jv_raw(it.name));
            buf_byte(out, ':');
            json_pointer_push(&f->at, jv_string(it.name, f->arena));
        } else {
            buf_printf(&f->at, "/%zu", index);
        }
        put_filled(f, it.value, out);
        f->at.len = before;
    }
    put_added(f, v, comma, out);
    buf_byte(out, object ? '}' : ']');
}

static bool ends_with(struct span text, struct span end)
{
    return text.n >= end.n && memcmp(text.p + text.n - end.n, end.p, end.n) == 0;
}

/* Placeholders stand in the texts of messages only. */
static bool is_message_text(const struct filling *f)
{
    struct span at = buf_view(&f->at);
    return at.n > 7 && memcmp(at.p, "/input/", 7) == 0 && ends_with(at, SPAN("/text"));
}

static void put_filled(struct filling *f, struct jv v, struct buf *out)
{
    const struct binding *target = find_target(f);
    if (target)
        put_bound(f, target, out);
    else if (jv_is(v, JSON_OBJECT) || jv_is(v, JSON_ARRAY))
        put_filled_members(f, v, out);
    else if (jv_is(v, JSON_STRING) && is_message_text(f))
        put_filled_text(f, v, out);
    else
        buf_span(out, jv_raw(v));
}

bool flow_request(const struct flow_job *job, const struct flow_source *source, struct arena *arena, struct jv *ret,
                  struct fault *ret_fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct filling f = { .arena = arena };
    struct jv request = jv_get(job->input, "request");

    *ret = request;
    if (jv_count(job->bindings) == 0)
        return true;
    if (!read_bindings(job, source, &f, ret_fault))
        return false;
    put_filled(&f, request, &text);
    buf_done(&f.at);
    if (text.len > FLOW_OUTPUT_MAX) {
        *ret_fault = flow_fault(
            "REQUEST_TOO_LARGE", "validation",
            arena_printf(arena, "With its placeholders filled the request has more than %d bytes.", FLOW_OUTPUT_MAX));
        return false;
    }
    *ret = json_read(arena_copy(arena, buf_view(&text)), arena);
    return true;
}

/* ---- messages ---- */

static void put_calls(struct jw *w, struct jv calls, struct arena *arena)
{
    jw_key(w, "tool_calls");
    jw_arr(w);
    for (struct jv_iter it = jv_iter(calls); jv_step(&it);) {
        struct jv function = jv_get(it.value, "function"), arguments = jv_get(function, "arguments");
        jw_obj(w);
        jw_key(w, "id");
        jw_str(w, jv_string(jv_get(it.value, "id"), arena));
        jw_key(w, "name");
        jw_str(w, jv_string(jv_get(function, "name"), arena));
        jw_key(w, "arguments");
        jw_str(w, jv_is(arguments, JSON_STRING) ? jv_string(arguments, arena) : SPAN("{}"));
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_message(struct jw *w, struct jv item, struct arena *arena)
{
    struct jv content = jv_get(item, "content"), calls = jv_get(item, "tool_calls"),
              call_id = jv_get(item, "tool_call_id");

    jw_obj(w);
    jw_key(w, "role");
    jw_raw(w, jv_raw(jv_get(item, "role")));
    jw_key(w, "content");
    jw_raw(w, jv_is(content, JSON_STRING) || jv_is(content, JSON_ARRAY) ? jv_raw(content) : SPAN("[]"));
    if (jv_count(calls) > 0)
        put_calls(w, calls, arena);
    if (jv_is(call_id, JSON_STRING)) {
        jw_key(w, "tool_call_id");
        jw_raw(w, jv_raw(call_id));
    }
    jw_end(w);
}

struct jv flow_agent_input(struct jv request, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);

    jw_obj(&w);
    jw_key(&w, "input");
    jw_obj(&w);
    jw_key(&w, "messages");
    jw_arr(&w);
    for (struct jv_iter it = jv_iter(jv_get(request, "input")); jv_step(&it);)
        put_message(&w, it.value, arena);
    jw_arr_end(&w);
    jw_end(&w);
    jw_end(&w);
    return json_read(arena_copy(arena, buf_view(&text)), arena);
}

/* ---- transforms ---- */

static bool is_too_large(const struct buf *text, struct arena *arena, struct fault *fault)
{
    if (text->len <= FLOW_OUTPUT_MAX)
        return false;
    *fault = flow_fault("OUTPUT_TOO_LARGE", "validation",
                        arena_printf(arena, "The output would have more than %d bytes.", FLOW_OUTPUT_MAX));
    return true;
}

static bool transform_value(struct jv v, const struct flow_source *source, struct arena *arena, struct jv *ret,
                            struct fault *fault)
{
    struct span from = jv_string(jv_get(v, "from"), arena), pointer = jv_string(jv_get(v, "pointer"), arena);
    uint32_t node = flow_find(source->flow, from);

    *ret = span_is(from, "item") && !jv_is(source->item, JSON_NONE) ? source->item
           : node != NO_INDEX                                       ? source->node(source->ctx, node)
                                                                    : (struct jv){ 0 };
    *ret = jv_pointer(*ret, pointer);
    if (!jv_is(*ret, JSON_NONE))
        return true;
    *fault =
        flow_fault("POINTER_NOT_FOUND", "validation",
                   arena_printf(arena, "There is nothing at \"%.*s\" in %.*s.", SPAN_ARG(pointer), SPAN_ARG(from)));
    return false;
}

static bool put_object(struct jv object, const struct flow_source *source, struct arena *arena, struct buf *out,
                       struct fault *fault)
{
    struct jw w = jw_on(out);
    jw_obj(&w);
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct jv v;
        if (!transform_value(it.value, source, arena, &v, fault))
            return false;
        jw_key_span(&w, jv_string(it.name, arena));
        jw_raw(&w, jv_raw(v));
        if (is_too_large(out, arena, fault))
            return false;
    }
    jw_end(&w);
    return true;
}

/* Later ones win: duplicates are written, and dropped when the text is read again. */
static bool put_merged(struct jv merge, const struct flow_source *source, struct arena *arena, struct buf *out,
                       struct fault *fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    size_t index = 0;

    jw_obj(&w);
    for (struct jv_iter it = jv_iter(merge); jv_step(&it); index++) {
        struct jv v;
        if (!transform_value(it.value, source, arena, &v, fault))
            return false;
        if (!jv_is(v, JSON_OBJECT)) {
            *fault = flow_fault("MERGE_NOT_OBJECT", "validation",
                                arena_printf(arena, "Value %zu of merge is no object.", index));
            return false;
        }
        for (struct jv_iter member = jv_iter(v); jv_step(&member);) {
            jw_key_span(&w, jv_string(member.name, arena));
            jw_raw(&w, jv_raw(member.value));
        }
        if (is_too_large(&text, arena, fault))
            return false;
    }
    jw_end(&w);
    json_minify(json_read(arena_copy(arena, buf_view(&text)), arena), out);
    return true;
}

bool flow_transform(const struct flow_job *job, const struct flow_source *source, struct arena *arena, struct span *ret,
                    struct fault *ret_fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jv object = jv_get(job->input, "object");
    bool good = jv_is(object, JSON_OBJECT) ? put_object(object, source, arena, &text, ret_fault)
                                           : put_merged(jv_get(job->input, "merge"), source, arena, &text, ret_fault);
    if (good)
        *ret = arena_copy(arena, buf_view(&text));
    return good;
}

/* ---- items ---- */

bool flow_items(const struct flow_node *node, const struct flow_source *source, struct arena *arena, struct jv *ret,
                struct fault *ret_fault)
{
    struct jv v = node->items_from == NO_INDEX ? source->input(source->ctx, node->items_input)
                                               : source->node(source->ctx, node->items_from);
    v = jv_pointer(v, node->items_pointer);
    if (jv_is(v, JSON_STRING)) {
        struct jv parsed = parse_text(jv_string(v, arena), arena);
        v = jv_is(parsed, JSON_NONE) ? v : parsed;
    }
    v = jv_pointer(v, node->items_path);
    *ret = v;
    if (jv_is(v, JSON_NONE))
        *ret_fault =
            flow_fault("ITEMS_NOT_FOUND", "validation",
                       arena_printf(arena, "There are no items at items_pointer \"%.*s\", items_path \"%.*s\".",
                                    SPAN_ARG(node->items_pointer), SPAN_ARG(node->items_path)));
    else if (!jv_is(v, JSON_ARRAY))
        *ret_fault = flow_fault(
            "ITEMS_NOT_ARRAY", "validation",
            arena_printf(arena, "What items_pointer \"%.*s\" leads to is no array.", SPAN_ARG(node->items_pointer)));
    else if (jv_count(v) > FLOW_ITEMS_MAX)
        *ret_fault =
            flow_fault("FANOUT_TOO_LARGE", "validation",
                       arena_printf(arena, "There are %zu items, and at most %d may be.", jv_count(v), FLOW_ITEMS_MAX));
    else
        return true;
    return false;
}
