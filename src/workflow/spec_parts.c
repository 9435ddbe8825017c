/* SPDX-License-Identifier: Apache-2.0 */
/* spec_parts.c - what both formats of a specification write alike: inputs, outputs, conditions, transforms. */
#include "workflow/flow.h"
#include "workflow/spec_inner.h"
#include <stdlib.h>

enum { PATTERN_WORK_MAX = 1 << 20 }; /* bytes of regular expressions that are tried in one compile, written out */

/* ---- inputs (workflow-runs.md 2.3) ---- */

static const char *const input_types[] = { "string", "number", "object", "array", "boolean", "null", "json" };

bool spec_type_fits(struct span type, struct jv value)
{
    switch (jv_kind(value)) {
    case JSON_STRING: return span_is(type, "string");
    case JSON_NUMBER: return span_is(type, "number");
    case JSON_OBJECT: return span_is(type, "object");
    case JSON_ARRAY: return span_is(type, "array");
    case JSON_NULL: return span_is(type, "null");
    default: return span_is(type, "boolean");
    }
}

static struct span read_input_type(struct spec_compile *c, struct jv decl)
{
    struct span type = spec_want_text(c, decl, "type", 0);
    for (size_t i = 0; i < ARRAY_LEN(input_types); i++)
        if (span_is(type, input_types[i]))
            return span_is(type, "json") ? SPAN_NONE : type;
    if (type.n) {
        size_t before = spec_enter(c, "type");
        SPEC_ISSUE(c, "INVALID_TYPE", "must be string, number, object, array, boolean, null or json");
        spec_leave(c, before);
    }
    return SPAN_NONE;
}

static void put_text(struct spec_compile *c, const char *name, struct span text)
{
    if (text.n == 0)
        return;
    jw_key(&c->w, name);
    jw_str(&c->w, text);
}

static void read_input(struct spec_compile *c, struct jv decl, struct spec_input *input)
{
    static const char *const known[] = { "name", "type", "required", "description", "default", NULL };
    struct jv value = jv_get(decl, "default");
    spec_only(c, decl, true, known);
    input->name = spec_need_text(c, decl, "name", 0);
    input->type = read_input_type(c, decl);
    jw_obj(&c->w);
    put_text(c, "name", input->name);
    put_text(c, "type", input->type);
    put_text(c, "description", jv_string(spec_want(c, decl, "description", JSON_STRING), c->arena));
    if (spec_flag(c, decl, "required")) {
        jw_key(&c->w, "required");
        jw_bool(&c->w, true);
    }
    if (!jv_is(value, JSON_NONE)) {
        size_t before = spec_enter(c, "default");
        if (input->type.n && !spec_type_fits(input->type, value))
            SPEC_ISSUE(c, "INPUT_TYPE", "must be of type %.*s", SHOW(input->type));
        spec_leave(c, before);
        jw_key(&c->w, "default");
        jw_raw(&c->w, jv_raw(value));
    }
    jw_end(&c->w);
}

static int by_input(const void *left, const void *right)
{
    const struct spec_input *a = left, *b = right;
    int c = span_cmp(a->name, b->name);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static void refuse_doubled_inputs(struct spec_compile *c)
{
    if (c->input_count > 1)
        qsort(c->inputs, c->input_count, sizeof *c->inputs, by_input);
    for (uint32_t i = 1; i < c->input_count; i++) {
        if (c->inputs[i].name.n == 0 || !span_eq(c->inputs[i - 1].name, c->inputs[i].name))
            continue;
        size_t before = spec_enter_index(c, c->inputs[i].index);
        (void)spec_enter(c, "name");
        SPEC_ISSUE(c, "DUPLICATE_INPUT", "there is another input \"%.*s\"", SHOW(c->inputs[i].name));
        spec_leave(c, before);
    }
}

void spec_read_inputs(struct spec_compile *c, struct jv inputs)
{
    size_t before = spec_enter(c, "inputs");
    if (jv_count(inputs) > SPEC_NAMES_MAX) {
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are %zu inputs; %d are allowed", jv_count(inputs), SPEC_NAMES_MAX);
    } else if (jv_count(inputs) > 0) {
        c->inputs = ARENA_ARRAY(c->arena, struct spec_input, jv_count(inputs));
        jw_key(&c->w, "inputs");
        jw_arr(&c->w);
        for (struct jv_iter it = jv_iter(inputs); jv_step(&it); c->input_count++) {
            size_t at = spec_enter_index(c, c->input_count);
            c->inputs[c->input_count].index = c->input_count;
            if (jv_is(it.value, JSON_OBJECT))
                read_input(c, it.value, &c->inputs[c->input_count]);
            else
                SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
            spec_leave(c, at);
        }
        jw_arr_end(&c->w);
        refuse_doubled_inputs(c);
    }
    spec_leave(c, before);
}

/* ---- outputs ---- */

static void read_output(struct spec_compile *c, struct jv output, struct spec_name *ret_name)
{
    static const char *const known[] = { "name", "from", "pointer", NULL };
    spec_only(c, output, true, known);
    ret_name->name = spec_need_text(c, output, "name", 0);
    if (!spec_has(output, "from"))
        (void)spec_need(c, output, "from", JSON_STRING);
    uint32_t node = spec_node_ref(c, output, "from");
    struct span pointer = spec_pointer(c, output, "pointer");
    size_t before = spec_enter(c, "pointer");
    spec_use_node(c, node, pointer);
    spec_leave(c, before);
    jw_obj(&c->w);
    put_text(c, "name", ret_name->name);
    put_text(c, "from", jv_string(spec_get(output, "from"), c->arena));
    put_text(c, "pointer", pointer);
    jw_end(&c->w);
}

static int by_output(const void *left, const void *right)
{
    const struct spec_name *a = left, *b = right;
    int c = span_cmp(a->name, b->name);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static void refuse_doubled_outputs(struct spec_compile *c, struct spec_name *names, uint32_t count)
{
    if (count > 1)
        qsort(names, count, sizeof *names, by_output);
    for (uint32_t i = 1; i < count; i++) {
        if (names[i].name.n == 0 || !span_eq(names[i - 1].name, names[i].name))
            continue;
        size_t before = spec_enter_index(c, names[i].index);
        (void)spec_enter(c, "name");
        SPEC_ISSUE(c, "DUPLICATE_OUTPUT", "there is another output \"%.*s\"", SHOW(names[i].name));
        spec_leave(c, before);
    }
}

void spec_read_outputs(struct spec_compile *c, struct jv spec)
{
    struct jv outputs = spec_need(c, spec, "outputs", JSON_ARRAY);
    uint32_t count = 0;
    size_t before = spec_enter(c, "outputs");
    if (jv_count(outputs) > SPEC_NAMES_MAX) {
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are %zu outputs; %d are allowed", jv_count(outputs), SPEC_NAMES_MAX);
        spec_leave(c, before);
        return;
    }
    struct spec_name *names = ARENA_ARRAY(c->arena, struct spec_name, jv_count(outputs) + 1);
    if (jv_is(outputs, JSON_ARRAY) && jv_count(outputs) == 0)
        SPEC_ISSUE(c, "REQUIRED", "there must be at least one output");
    jw_key(&c->w, "outputs");
    jw_arr(&c->w);
    for (struct jv_iter it = jv_iter(outputs); jv_step(&it); count++) {
        size_t at = spec_enter_index(c, count);
        names[count].index = count;
        if (jv_is(it.value, JSON_OBJECT))
            read_output(c, it.value, &names[count]);
        else
            SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        spec_leave(c, at);
    }
    jw_arr_end(&c->w);
    refuse_doubled_outputs(c, names, count);
    spec_leave(c, before);
}

/* ---- conditions (workflow-runs.md 2.6, 3.5) ---- */

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* $ then .name, ['name'] or ["name"], and [n]. */
bool spec_path_next(struct span *path, struct span *ret_name, int64_t *ret_index)
{
    const char *p = path->p, *end = path->p + path->n;
    const char *from, *close;
    if (path->n < 2)
        return false;
    *ret_index = -1;
    if (p[0] == '.') {
        for (close = p + 1; close < end && is_plain(*close); close++)
            ;
        *ret_name = span_make(p + 1, (size_t)(close - p) - 1);
        if (ret_name->n == 0)
            return false;
        *path = span_make(close, (size_t)(end - close));
        return true;
    }
    if (p[0] == '[' && (p[1] == '\'' || p[1] == '"')) {
        close = memchr(p + 2, p[1], (size_t)(end - p) - 2);
        if (!close || close + 1 >= end || close[1] != ']')
            return false;
        *ret_name = span_make(p + 2, (size_t)(close - p) - 2);
        *path = span_make(close + 2, (size_t)(end - close) - 2);
        return true;
    }
    if (p[0] != '[')
        return false;
    int64_t index = 0;
    for (from = close = p + 1; close < end && *close >= '0' && *close <= '9' && close - from < 9; close++)
        index = index * 10 + (*close - '0');
    if (close == from || close == end || *close != ']' || (*from == '0' && close - from > 1))
        return false;
    *ret_index = index;
    *ret_name = SPAN_NONE;
    *path = span_make(close + 1, (size_t)(end - close) - 1);
    return true;
}

static bool path_valid(struct span path)
{
    struct span name;
    int64_t index;
    if (path.n < 1 || path.n > SPEC_POINTER_MAX || path.p[0] != '$')
        return false;
    path = span_make(path.p + 1, path.n - 1);
    while (spec_path_next(&path, &name, &index))
        ;
    return path.n == 0;
}

static struct span read_path(struct spec_compile *c, struct jv when, bool status)
{
    struct jv v = spec_get(when, "path");
    struct span path = jv_string(v, c->arena);
    const char *wrong = NULL;
    if (jv_is(v, JSON_NONE))
        return SPAN_NONE;
    if (!path_valid(path))
        wrong = "must be a path: $, then .name, ['name'] or [n]";
    else if (status && path.n > 1)
        wrong = "a node's status is a string; only $ leads somewhere";
    size_t before = spec_enter(c, "path");
    if (wrong)
        SPEC_ISSUE(c, "INVALID_CONDITION", "%s", wrong);
    spec_leave(c, before);
    return wrong || span_is(path, "$") ? SPAN_NONE : path;
}

/* *ret_op: 0 equals, 1 matches, 2 exists. */
static bool read_word(struct spec_compile *c, struct jv when, const char *name, const char *const *words, unsigned *ret)
{
    struct jv v = spec_get(when, name);
    for (unsigned i = 0; words[i]; i++)
        if (jv_str_eq(v, words[i])) {
            *ret = i;
            return true;
        }
    size_t before = spec_enter(c, name);
    SPEC_ISSUE(c, "INVALID_CONDITION", words[2] ? "must be %s, %s or %s" : "must be %s or %s", words[0], words[1], words[2]);
    spec_leave(c, before);
    return false;
}

/* Only as many as can be looked at in little time; the same for the same spec. */
static bool pattern_runs(struct spec_compile *c, struct span pattern)
{
    bool repeats = pattern.n && memchr(pattern.p, '{', pattern.n); /* at most 256 times, see flow_pattern_valid */
    c->pattern_work += 64 + pattern.n * (repeats ? 256 : 1);
    return c->pattern_work > PATTERN_WORK_MAX || flow_pattern_valid(pattern);
}

static void check_value(struct spec_compile *c, struct jv value, unsigned op)
{
    enum json_kind kind = jv_kind(value);
    const char *wrong = NULL;
    if (kind == JSON_ARRAY || kind == JSON_OBJECT)
        wrong = "must be a string, a number, a boolean or null";
    else if (op == 0 && kind == JSON_NONE)
        wrong = "equals needs a value";
    else if (op == 1 && kind != JSON_STRING)
        wrong = "matches needs a regular expression, which is a string";
    else if (op == 1 && !pattern_runs(c, jv_string(value, c->arena)))
        wrong = "is no regular expression (POSIX extended), or one without bounds: back references, many repetitions, too long";
    size_t before = spec_enter(c, "value");
    if (wrong)
        SPEC_ISSUE(c, "INVALID_CONDITION", "%s", wrong);
    spec_leave(c, before);
}

void spec_condition(struct spec_compile *c, struct jv when, struct jw *w)
{
    static const char *const known[] = { "source", "op", "path", "value", NULL };
    static const char *const sources[] = { "node_output", "node_status", NULL, NULL };
    static const char *const ops[] = { "equals", "matches", "exists", NULL };
    unsigned source = 0, op = 2;
    struct jv value = jv_get(when, "value");
    spec_only(c, when, true, known);
    bool right = read_word(c, when, "source", sources, &source);
    right = read_word(c, when, "op", ops, &op) && right;
    if (op != 2 || right)
        check_value(c, value, op);
    struct span path = read_path(c, when, source == 1);
    jw_obj(w);
    jw_key(w, "source");
    jw_cstr(w, sources[source]);
    jw_key(w, "op");
    jw_cstr(w, ops[op]);
    if (path.n) {
        jw_key(w, "path");
        jw_str(w, path);
    }
    if (op != 2 && !jv_is(value, JSON_NONE)) {
        jw_key(w, "value");
        jw_raw(w, jv_raw(value));
    }
    jw_end(w);
}

void spec_put_predicate(struct spec_compile *c, struct jv object)
{
    struct jv predicate = spec_want(c, object, "predicate", JSON_OBJECT);
    if (!jv_is(predicate, JSON_OBJECT))
        return;
    size_t before = spec_enter(c, "predicate");
    jw_key(&c->w, "predicate");
    spec_condition(c, predicate, &c->w);
    spec_leave(c, before);
}

/* ---- transforms ---- */

static void read_source(struct spec_compile *c, struct jv ref, uint32_t node, bool item)
{
    static const char *const known[] = { "from", "pointer", NULL };
    if (!jv_is(ref, JSON_OBJECT)) {
        SPEC_ISSUE(c, "INVALID_TYPE", "must be an object with \"from\"");
        return;
    }
    spec_only(c, ref, true, known);
    struct span from = spec_need_text(c, ref, "from", 0), pointer = spec_pointer(c, ref, "pointer");
    if (item && from.n && !span_is(from, "item")) {
        size_t before = spec_enter(c, "from");
        SPEC_ISSUE(c, "UNKNOWN_NODE", "a fan-out's subnode sees only \"item\"");
        spec_leave(c, before);
    }
    if (!item && from.n) {
        uint32_t source = spec_node_ref(c, ref, "from");
        spec_depend(c, source, node);
        size_t before = spec_enter(c, "pointer");
        spec_use_node(c, source, pointer);
        spec_leave(c, before);
    }
    jw_obj(&c->w);
    put_text(c, "from", from);
    put_text(c, "pointer", pointer);
    jw_end(&c->w);
}

static void read_object(struct spec_compile *c, struct jv object, uint32_t node, bool item)
{
    size_t before = spec_enter(c, "object");
    if (jv_count(object) == 0)
        SPEC_ISSUE(c, "REQUIRED", "there must be at least one member");
    jw_key(&c->w, "object");
    jw_obj(&c->w);
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct span name = jv_string(it.name, c->arena);
        size_t at = spec_enter_span(c, name);
        jw_key_span(&c->w, name);
        read_source(c, it.value, node, item);
        spec_leave(c, at);
    }
    jw_end(&c->w);
    spec_leave(c, before);
}

static void read_merge(struct spec_compile *c, struct jv merge, uint32_t node, bool item)
{
    size_t before = spec_enter(c, "merge"), i = 0;
    if (jv_count(merge) == 0)
        SPEC_ISSUE(c, "REQUIRED", "there must be at least one element");
    jw_key(&c->w, "merge");
    jw_arr(&c->w);
    for (struct jv_iter it = jv_iter(merge); jv_step(&it); i++) {
        size_t at = spec_enter_index(c, i);
        read_source(c, it.value, node, item);
        spec_leave(c, at);
    }
    jw_arr_end(&c->w);
    spec_leave(c, before);
}

void spec_transform(struct spec_compile *c, struct jv object, uint32_t node, bool item)
{
    if (spec_has(object, "object") == spec_has(object, "merge"))
        SPEC_ISSUE(c, "EXCLUSIVE_FIELDS", "needs exactly one of object and merge");
    struct jv members = spec_want(c, object, "object", JSON_OBJECT), merge = spec_want(c, object, "merge", JSON_ARRAY);
    if (jv_is(members, JSON_OBJECT))
        read_object(c, members, node, item);
    if (jv_is(merge, JSON_ARRAY))
        read_merge(c, merge, node, item);
}

struct spec_shape spec_shape_of(enum spec_type type, struct jv fields, struct jv request)
{
    struct spec_shape shape = { .type = type };
    if (type == SPEC_LLM || type == SPEC_ROUTE)
        shape.structured = jv_str_eq(spec_get(spec_get(request, "output_format"), "type"), "json_schema");
    if (type == SPEC_TRANSFORM && jv_is(spec_get(fields, "object"), JSON_OBJECT)) {
        shape.object = spec_get(fields, "object");
        shape.members = (uint32_t)jv_count(shape.object);
    }
    return shape;
}
