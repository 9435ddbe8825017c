/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema.c - checks schemas and validates values; see json_schema.h.
 *
 * One table names the keywords. Each row says what its value must look like and, if it constrains anything, the function that
 * tests a value against it; a keyword without such a function only annotates. */
#include "base/json_schema.h"
#include "base/utf8.h"
#include <math.h>

struct visit {
    struct issues *issues; /* NULL: only the verdict counts */
    struct buf    *at;
    struct arena  *scratch;
    uint64_t       steps;
    bool           too_complex;
};

/* What a keyword's value must be. */
enum shape { SHAPE_ANY, SHAPE_TYPE, SHAPE_LIST, SHAPE_STRING, SHAPE_BOOL, SHAPE_COUNT, SHAPE_NUMBER, SHAPE_NAMES, SHAPE_SCHEMA,
             SHAPE_SCHEMAS, SHAPE_MEMBERS };

struct keyword {
    const char *name;
    enum shape  shape;
    bool      (*fits)(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value);
    const char *code; /* of the issue */
};

static const struct keyword *keyword_find(struct jv name);
static bool fits(struct visit *v, struct jv schema, struct jv value);

#define MISFIT(v, code, ...)                                                    \
    ((v)->issues ? issue_add((v)->issues, buf_view((v)->at), code, __VA_ARGS__) \
                 : (void)0, false)

/* ---- types ---- */

static const char *const type_names[] = { "null", "boolean", "integer", "number", "string", "array", "object" };

static bool is_type_name(struct jv v)
{
    for (size_t i = 0; i < ARRAY_LEN(type_names); i++)
        if (jv_str_eq(v, type_names[i]))
            return true;
    return false;
}

/* 1, 1.0 and 1e3 are integers, and so are digits that fit no machine word. */
static bool is_integer(struct jv v)
{
    struct span text = jv_raw(v);
    double      d;
    if (!jv_is(v, JSON_NUMBER))
        return false;
    if (!memchr(text.p, '.', text.n) && !memchr(text.p, 'e', text.n) && !memchr(text.p, 'E', text.n))
        return true;
    return jv_f64(v, &d) && isfinite(d) && floor(d) == d;
}

static bool has_type(struct jv value, struct jv name)
{
    switch (jv_kind(value)) {
    case JSON_NULL:   return jv_str_eq(name, "null");
    case JSON_FALSE:
    case JSON_TRUE:   return jv_str_eq(name, "boolean");
    case JSON_NUMBER: return jv_str_eq(name, "number") || (jv_str_eq(name, "integer") && is_integer(value));
    case JSON_STRING: return jv_str_eq(name, "string");
    case JSON_ARRAY:  return jv_str_eq(name, "array");
    case JSON_OBJECT: return jv_str_eq(name, "object");
    case JSON_NONE:   break;
    }
    return false;
}

/* ---- checking a schema ---- */

static void check(struct visit *v, struct jv schema, unsigned depth);

static void check_at(struct visit *v, struct span token, struct jv schema, unsigned depth)
{
    size_t before = v->at->len;
    json_pointer_push(v->at, token);
    check(v, schema, depth);
    v->at->len = before;
}

static void check_type(struct visit *v, struct jv value)
{
    bool fine = is_type_name(value);
    if (jv_is(value, JSON_ARRAY)) {
        fine = jv_count(value) > 0;
        for (struct jv_iter it = jv_iter(value); jv_step(&it);)
            fine = fine && is_type_name(it.value);
    }
    if (!fine)
        (void)MISFIT(v, "enum", "must be null, boolean, integer, number, string, array or object, or a list of these");
}

static void check_names(struct visit *v, struct jv value)
{
    bool fine = jv_is(value, JSON_ARRAY);
    for (struct jv_iter it = jv_iter(value); fine && jv_step(&it);)
        fine = jv_is(it.value, JSON_STRING);
    if (!fine)
        (void)MISFIT(v, "type", "must be a list of names");
}

static void check_count(struct visit *v, struct jv value)
{
    int64_t n;
    if (!jv_i64(value, &n) || n < 0)
        (void)MISFIT(v, "type", "must be an integer from 0 on");
}

static void check_schemas(struct visit *v, struct jv value, unsigned depth)
{
    size_t i = 0;
    if (!jv_is(value, JSON_ARRAY) || !jv_count(value))
        (void)MISFIT(v, "type", "must be a list of at least one schema");
    else
        for (struct jv_iter it = jv_iter(value); jv_step(&it); i++)
            check_at(v, arena_printf(v->scratch, "%zu", i), it.value, depth);
}

static void check_members(struct visit *v, struct jv value, unsigned depth)
{
    if (!jv_is(value, JSON_OBJECT))
        (void)MISFIT(v, "type", "must be an object of schemas");
    else
        for (struct jv_iter it = jv_iter(value); jv_step(&it);)
            check_at(v, jv_string(it.name, v->scratch), it.value, depth);
}

static void check_value(struct visit *v, enum shape shape, struct jv value, unsigned depth)
{
    switch (shape) {
    case SHAPE_ANY: break;
    case SHAPE_TYPE: check_type(v, value); break;
    case SHAPE_LIST:
        if (!jv_is(value, JSON_ARRAY) || !jv_count(value))
            (void)MISFIT(v, "type", "must be a list of at least one value");
        break;
    case SHAPE_STRING:
        if (!jv_is(value, JSON_STRING))
            (void)MISFIT(v, "type", "must be a string");
        break;
    case SHAPE_BOOL:
        if (!jv_is(value, JSON_TRUE) && !jv_is(value, JSON_FALSE))
            (void)MISFIT(v, "type", "must be true or false");
        break;
    case SHAPE_COUNT: check_count(v, value); break;
    case SHAPE_NUMBER:
        if (!jv_is(value, JSON_NUMBER))
            (void)MISFIT(v, "type", "must be a number");
        break;
    case SHAPE_NAMES: check_names(v, value); break;
    case SHAPE_SCHEMA: check(v, value, depth); break;
    case SHAPE_SCHEMAS: check_schemas(v, value, depth); break;
    case SHAPE_MEMBERS: check_members(v, value, depth); break;
    }
}

static void check(struct visit *v, struct jv schema, unsigned depth)
{
    if (jv_is(schema, JSON_TRUE) || jv_is(schema, JSON_FALSE))
        return;
    if (!jv_is(schema, JSON_OBJECT)) {
        (void)MISFIT(v, "type", "must be a schema: an object, true or false");
        return;
    }
    if (depth == JSON_SCHEMA_DEPTH) {
        (void)MISFIT(v, "too_deep", "schemas may be nested %d deep", JSON_SCHEMA_DEPTH);
        return;
    }
    for (struct jv_iter it = jv_iter(schema); jv_step(&it);) {
        const struct keyword *keyword = keyword_find(it.name);
        size_t                before = v->at->len;
        json_pointer_push(v->at, jv_string(it.name, v->scratch));
        if (keyword)
            check_value(v, keyword->shape, it.value, depth + 1);
        else
            (void)MISFIT(v, "unsupported_keyword", "is no keyword of the supported subset of JSON Schema");
        v->at->len = before;
    }
}

void json_schema_check(struct jv schema, struct buf *at, struct issues *issues)
{
    struct arena scratch = { 0 };
    struct visit visit = { .issues = issues, .at = at, .scratch = &scratch };
    if (jv_raw(schema).n > JSON_SCHEMA_BYTES)
        (void)MISFIT(&visit, "max_length", "must have at most %d bytes", JSON_SCHEMA_BYTES);
    else
        check(&visit, schema, 0);
    arena_done(&scratch);
}

/* ---- validating: one function per keyword that constrains ---- */

/* False: enough. What was found so far stays. */
static bool spend(struct visit *v, uint64_t steps)
{
    v->steps += steps;
    if (v->steps <= JSON_SCHEMA_STEPS)
        return true;
    if (!v->too_complex)
        (void)MISFIT(v, "too_complex", "is too large to be checked against its schema");
    v->too_complex = true;
    return false;
}

static uint64_t entries(struct jv v)
{
    return v.doc ? v.doc->tape[v.at].next - v.at : 0;
}

/* Comparing objects looks up every name of the one in the other. */
static bool equal(struct visit *v, struct jv a, struct jv b)
{
    uint64_t steps = jv_kind(a) != jv_kind(b) ? 1 : jv_is(a, JSON_OBJECT) || jv_is(a, JSON_ARRAY) ? entries(a) * entries(b) : 2;
    return spend(v, steps) && jv_equal(a, b);
}

static bool fits_type(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    bool fine = jv_is(want, JSON_STRING) && has_type(value, want);
    for (struct jv_iter it = jv_iter(want); jv_is(want, JSON_ARRAY) && jv_step(&it);)
        fine = fine || has_type(value, it.value);
    if (fine)
        return true;
    struct buf text = { 0 };
    json_minify(want, &text);
    (void)MISFIT(v, keyword->code, "must be of type %.*s", SPAN_ARG(buf_view(&text)));
    buf_done(&text);
    return false;
}

static bool fits_enum(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    for (struct jv_iter it = jv_iter(want); jv_step(&it);)
        if (equal(v, value, it.value))
            return true;
    return MISFIT(v, keyword->code, "is none of the %zu values that are possible", jv_count(want));
}

static bool fits_const(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    return equal(v, value, want) || MISFIT(v, keyword->code, "is not the one value that is possible");
}

static bool fits_below(struct visit *v, struct span token, struct jv schema, struct jv value)
{
    size_t before = v->at->len;
    json_pointer_push(v->at, token);
    bool fine = fits(v, schema, value);
    v->at->len = before;
    return fine;
}

static bool fits_properties(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    bool fine = true;
    for (struct jv_iter it = jv_iter(value); jv_is(value, JSON_OBJECT) && spend(v, jv_count(want) + 1) && jv_step(&it);) {
        struct span name = jv_string(it.name, v->scratch);
        struct jv   of = jv_get_span(want, name);
        if (!jv_is(of, JSON_NONE))
            fine = fits_below(v, name, of, it.value) && fine;
    }
    return fine;
}

/* For the members that `properties` does not name. */
static bool fits_additional(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    struct jv known = jv_get(schema, "properties");
    bool      fine = true;
    for (struct jv_iter it = jv_iter(value); jv_is(value, JSON_OBJECT) && spend(v, jv_count(known) + 1) && jv_step(&it);) {
        struct span name = jv_string(it.name, v->scratch);
        if (!jv_is(jv_get_span(known, name), JSON_NONE))
            continue;
        size_t before = v->at->len;
        json_pointer_push(v->at, name);
        if (jv_is(want, JSON_FALSE))
            fine = MISFIT(v, keyword->code, "is not known here");
        else
            fine = fits(v, want, it.value) && fine;
        v->at->len = before;
    }
    return fine;
}

static bool fits_required(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    uint64_t members = jv_is(value, JSON_OBJECT) ? jv_count(value) : 0;
    bool     fine = true;
    for (struct jv_iter it = jv_iter(want); jv_is(value, JSON_OBJECT) && spend(v, members + 1) && jv_step(&it);) {
        struct span name = jv_string(it.value, v->scratch);
        if (!jv_is(jv_get_span(value, name), JSON_NONE))
            continue;
        size_t before = v->at->len;
        json_pointer_push(v->at, name);
        fine = MISFIT(v, keyword->code, "is required");
        v->at->len = before;
    }
    return fine;
}

static bool fits_items(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    bool   fine = true;
    size_t i = 0, before = v->at->len;
    for (struct jv_iter it = jv_iter(value); jv_is(value, JSON_ARRAY) && spend(v, 1) && jv_step(&it); i++) {
        buf_printf(v->at, "/%zu", i);
        fine = fits(v, want, it.value) && fine;
        v->at->len = before;
    }
    return fine;
}

/* A count, so at least 0; more than 2^53 is no limit at all. */
static uint64_t count_of(struct jv want)
{
    int64_t n = 0;
    return jv_i64(want, &n) && n > 0 ? (uint64_t)n : 0;
}

static uint64_t characters(struct span text)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += !utf8_is_tail(text.p[i]);
    return n;
}

/* The size that a keyword of counts is about; false: the value is of another type and the keyword says nothing. */
static bool size_of(struct visit *v, const struct keyword *keyword, struct jv value, uint64_t *ret)
{
    const char *what = keyword->name + 3; /* behind min, max */
    if (strcmp(what, "Items") == 0 && jv_is(value, JSON_ARRAY))
        *ret = jv_count(value);
    else if (strcmp(what, "Properties") == 0 && jv_is(value, JSON_OBJECT))
        *ret = jv_count(value);
    else if (strcmp(what, "Length") == 0 && jv_is(value, JSON_STRING))
        *ret = characters(jv_string(value, v->scratch));
    else
        return false;
    return spend(v, *ret / 16 + 1);
}

static bool fits_size(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    bool     least = keyword->name[1] == 'i'; /* min…, not max… */
    uint64_t n, limit = count_of(want);
    if (!size_of(v, keyword, value, &n) || (least ? n >= limit : n <= limit))
        return true;
    return MISFIT(v, keyword->code, "has %llu, which is %s than %llu", (unsigned long long)n, least ? "less" : "more",
                  (unsigned long long)limit);
}

static bool within(const char *keyword, double n, double limit)
{
    if (strcmp(keyword, "minimum") == 0)
        return n >= limit;
    if (strcmp(keyword, "maximum") == 0)
        return n <= limit;
    return strcmp(keyword, "exclusiveMinimum") == 0 ? n > limit : n < limit;
}

static bool fits_range(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    double n, limit;
    if (!jv_is(value, JSON_NUMBER) || !jv_f64(value, &n) || !jv_f64(want, &limit) || within(keyword->name, n, limit))
        return true;
    struct span text = jv_raw(want);
    return MISFIT(v, keyword->code, "is outside of %s %.*s", keyword->name, SPAN_ARG(text));
}

/* How many of the alternatives fit; those that do not leave no issues. */
static size_t alternatives(struct visit *v, struct jv want, struct jv value)
{
    struct issues *issues = v->issues;
    size_t         count = 0;
    v->issues = NULL;
    for (struct jv_iter it = jv_iter(want); spend(v, 1) && jv_step(&it);)
        count += fits(v, it.value, value);
    v->issues = issues;
    return count;
}

static bool fits_any_of(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    return alternatives(v, want, value) > 0 || MISFIT(v, keyword->code, "fits none of the %zu alternatives", jv_count(want));
}

static bool fits_one_of(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    size_t count = alternatives(v, want, value);
    return count == 1 || MISFIT(v, keyword->code, "fits %zu of the alternatives, not exactly one", count);
}

static bool fits_all_of(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    bool fine = true;
    for (struct jv_iter it = jv_iter(want); spend(v, 1) && jv_step(&it);)
        fine = fits(v, it.value, value) && fine;
    return fine;
}

static bool fits_not(struct visit *v, const struct keyword *keyword, struct jv schema, struct jv want, struct jv value)
{
    struct issues *issues = v->issues;
    v->issues = NULL;
    bool fine = !fits(v, want, value);
    v->issues = issues;
    return fine || MISFIT(v, keyword->code, "is what the schema excludes");
}

static const struct keyword keywords[] = {
    { "type", SHAPE_TYPE, fits_type, "type" },
    { "enum", SHAPE_LIST, fits_enum, "enum" },
    { "const", SHAPE_ANY, fits_const, "const" },
    { "required", SHAPE_NAMES, fits_required, "required" },
    { "properties", SHAPE_MEMBERS, fits_properties, NULL },
    { "additionalProperties", SHAPE_SCHEMA, fits_additional, "unknown_member" },
    { "minProperties", SHAPE_COUNT, fits_size, "min_properties" },
    { "maxProperties", SHAPE_COUNT, fits_size, "max_properties" },
    { "items", SHAPE_SCHEMA, fits_items, NULL },
    { "minItems", SHAPE_COUNT, fits_size, "min_items" },
    { "maxItems", SHAPE_COUNT, fits_size, "max_items" },
    { "minLength", SHAPE_COUNT, fits_size, "min_length" },
    { "maxLength", SHAPE_COUNT, fits_size, "max_length" },
    { "minimum", SHAPE_NUMBER, fits_range, "range" },
    { "maximum", SHAPE_NUMBER, fits_range, "range" },
    { "exclusiveMinimum", SHAPE_NUMBER, fits_range, "range" },
    { "exclusiveMaximum", SHAPE_NUMBER, fits_range, "range" },
    { "anyOf", SHAPE_SCHEMAS, fits_any_of, "any_of" },
    { "oneOf", SHAPE_SCHEMAS, fits_one_of, "one_of" },
    { "allOf", SHAPE_SCHEMAS, fits_all_of, NULL },
    { "not", SHAPE_SCHEMA, fits_not, "not" },
    { "title", SHAPE_STRING, NULL, NULL },
    { "description", SHAPE_STRING, NULL, NULL },
    { "$comment", SHAPE_STRING, NULL, NULL },
    { "$schema", SHAPE_STRING, NULL, NULL },
    { "default", SHAPE_ANY, NULL, NULL },
    { "examples", SHAPE_LIST, NULL, NULL },
    { "deprecated", SHAPE_BOOL, NULL, NULL },
    { "readOnly", SHAPE_BOOL, NULL, NULL },
    { "writeOnly", SHAPE_BOOL, NULL, NULL },
};

static const struct keyword *keyword_find(struct jv name)
{
    for (size_t i = 0; i < ARRAY_LEN(keywords); i++)
        if (jv_str_eq(name, keywords[i].name))
            return &keywords[i];
    return NULL;
}

static bool fits(struct visit *v, struct jv schema, struct jv value)
{
    bool fine = true;
    if (jv_is(schema, JSON_FALSE))
        return MISFIT(v, "not", "must not be there");
    for (struct jv_iter it = jv_iter(schema); jv_is(schema, JSON_OBJECT) && spend(v, 1) && jv_step(&it);) {
        const struct keyword *keyword = keyword_find(it.name);
        if (keyword && keyword->fits)
            fine = keyword->fits(v, keyword, schema, it.value, value) && fine;
    }
    return fine && !v->too_complex;
}

bool json_schema_fits(struct jv schema, struct jv value, struct buf *at, struct issues *issues)
{
    struct arena scratch = { 0 };
    struct visit visit = { .issues = issues, .at = at, .scratch = &scratch };
    bool         fine = fits(&visit, schema, value) && !visit.too_complex;
    arena_done(&scratch);
    return fine;
}
