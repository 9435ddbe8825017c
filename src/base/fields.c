/* SPDX-License-Identifier: Apache-2.0 */
/* fields.c - reads a JSON object by a table of its members, and names the member that is wrong. */
#include "base/fields.h"
#include <stdarg.h>
#include <stdio.h>

enum err field_error(struct error *error, const char *pointer, struct span name, const char *format, ...)
{
    struct buf where = { 0 };
    char       why[160];
    va_list    args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    buf_printf(&where, "%s", pointer);
    json_pointer_push(&where, name);
    buf_byte(&where, 0);
    error_set(error, ERR_VALIDATION, where.p, "%.*s: %s", SPAN_ARG(name), why);
    buf_done(&where);
    return ERR_VALIDATION;
}

static bool in_range(const struct field *field, double value)
{
    return field->max == 0 || (value >= (double)field->min && value <= (double)field->max);
}

static enum err range_error(const struct field *field, const char *pointer, const char *what, struct error *error)
{
    return field_error(error, pointer, span_of(field->name), "must be %s from %lld to %lld", what, (long long)field->min,
                       (long long)field->max);
}

static enum err read_string(const struct field *field, struct jv value, const char *pointer, struct arena *arena, void *at,
                            struct error *error)
{
    if (!jv_is(value, JSON_STRING))
        return field_error(error, pointer, span_of(field->name), "must be a string");
    struct span text = jv_string(value, arena);
    if (!in_range(field, (double)text.n))
        return range_error(field, pointer, "a text with a length", error);
    *(struct span *)at = text;
    return ERR_OK;
}

static enum err read_int(const struct field *field, struct jv value, const char *pointer, void *at, struct error *error)
{
    int64_t number;
    if (!jv_is(value, JSON_NUMBER) || !jv_i64(value, &number))
        return field_error(error, pointer, span_of(field->name), "must be an integer");
    if (!in_range(field, (double)number))
        return range_error(field, pointer, "an integer", error);
    *(int64_t *)at = number;
    return ERR_OK;
}

static enum err read_number(const struct field *field, struct jv value, const char *pointer, void *at, struct error *error)
{
    double number;
    if (!jv_is(value, JSON_NUMBER) || !jv_f64(value, &number))
        return field_error(error, pointer, span_of(field->name), "must be a number");
    if (!in_range(field, number))
        return range_error(field, pointer, "a number", error);
    *(struct jv *)at = value;
    return ERR_OK;
}

static enum err read_container(const struct field *field, struct jv value, const char *pointer, void *at, struct error *error)
{
    bool object = field->type == FIELD_OBJECT;
    if (!jv_is(value, object ? JSON_OBJECT : JSON_ARRAY))
        return field_error(error, pointer, span_of(field->name), object ? "must be an object" : "must be an array");
    *(struct jv *)at = value;
    return ERR_OK;
}

static enum err read_bool(const struct field *field, struct jv value, const char *pointer, void *at, struct error *error)
{
    if (!jv_is(value, JSON_TRUE) && !jv_is(value, JSON_FALSE))
        return field_error(error, pointer, span_of(field->name), "must be true or false");
    *(bool *)at = jv_bool(value, false);
    return ERR_OK;
}

static enum err read_field(const struct field *field, struct jv value, const char *pointer, struct arena *arena, void *out,
                           struct error *error)
{
    void *at = (char *)out + field->offset;
    if (jv_is(value, JSON_NULL) && field->type != FIELD_ANY)
        return ERR_OK;
    switch (field->type) {
    case FIELD_STRING: return read_string(field, value, pointer, arena, at, error);
    case FIELD_INT:    return read_int(field, value, pointer, at, error);
    case FIELD_NUMBER: return read_number(field, value, pointer, at, error);
    case FIELD_OBJECT:
    case FIELD_ARRAY:  return read_container(field, value, pointer, at, error);
    case FIELD_BOOL:   return read_bool(field, value, pointer, at, error);
    case FIELD_ANY:    *(struct jv *)at = value; return ERR_OK;
    }
    assert(!"a field has a type");
    return ERR_INTERNAL;
}

static const struct field *field_find(const struct field *fields, size_t count, struct span name)
{
    for (size_t i = 0; i < count; i++)
        if (span_is(name, fields[i].name))
            return &fields[i];
    return NULL;
}

enum err fields_read(struct jv object, const char *pointer, const struct field *fields, size_t count, struct arena *arena,
                     void *out, struct error *error)
{
    if (!jv_is(object, JSON_OBJECT))
        return error_set(error, ERR_VALIDATION, pointer, "must be an object");
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct span         name = jv_string(it.name, arena);
        const struct field *field = field_find(fields, count, name);
        if (!field)
            return field_error(error, pointer, name, "unknown member");
        enum err err = read_field(field, it.value, pointer, arena, out, error);
        if (err)
            return err;
    }
    for (size_t i = 0; i < count; i++) {
        struct jv value = jv_get(object, fields[i].name);
        bool      missing = jv_is(value, JSON_NONE) || (jv_is(value, JSON_NULL) && fields[i].type != FIELD_ANY);
        if (fields[i].required && missing)
            return field_error(error, pointer, span_of(fields[i].name), "is required");
    }
    return ERR_OK;
}
