/* SPDX-License-Identifier: Apache-2.0 */
/* ref.c - finding and replacing {"$from": …} in configurations (see ref.h). */
#include "workflow/ref.h"

/* Takes "/name" off the front of a pointer. Names of scopes and nodes need no escapes, so none are undone. */
static bool take_token(struct span *pointer, struct span *ret_token)
{
    if (pointer->n == 0 || pointer->p[0] != '/')
        return false;
    const char *end = memchr(pointer->p + 1, '/', pointer->n - 1);
    size_t n = end ? (size_t)(end - pointer->p) : pointer->n;
    *ret_token = span_make(pointer->p + 1, n - 1);
    *pointer = span_make(pointer->p + n, pointer->n - n);
    return true;
}

bool ref_parse(struct span pointer, struct ref *ret)
{
    struct ref ref = { 0 };
    struct span scope, output;

    if (!json_pointer_valid(pointer) || !take_token(&pointer, &scope))
        return false;
    if (span_is(scope, "input")) {
        ref.scope = REF_INPUT;
    } else if (span_is(scope, "values")) {
        ref.scope = REF_VALUES;
    } else if (span_is(scope, "nodes") && take_token(&pointer, &ref.node) && take_token(&pointer, &output) &&
               span_is(output, "output")) {
        ref.scope = REF_OUTPUT;
    } else {
        return false;
    }
    ref.rest = pointer;
    *ret = ref;
    return true;
}

bool ref_is(struct jv value)
{
    return jv_is(value, JSON_OBJECT) && !jv_is(jv_get(value, "$from"), JSON_NONE);
}

void ref_each(struct jv value, void (*fn)(void *ctx, struct jv reference), void *ctx)
{
    if (ref_is(value)) {
        fn(ctx, value);
        ref_each(jv_get(value, "default"), fn, ctx);
        return;
    }
    if (!jv_is(value, JSON_OBJECT) && !jv_is(value, JSON_ARRAY))
        return;
    for (struct jv_iter it = jv_iter(value); jv_step(&it);)
        ref_each(it.value, fn, ctx);
}

static void note_one(void *ctx, struct jv reference)
{
    (void)reference;
    *(bool *)ctx = true;
}

bool ref_inside(struct jv value)
{
    bool found = false;
    ref_each(value, note_one, &found);
    return found;
}

struct jv ref_lookup(struct span pointer, const struct ref_docs *docs)
{
    struct ref ref;
    if (!ref_parse(pointer, &ref))
        return (struct jv){ 0 };
    return jv_pointer(docs->find(docs->ctx, &ref), ref.rest);
}

static enum err resolve_members(struct jv value, const struct ref_docs *docs, struct arena *arena, struct buf *out,
                                struct span *ret_missing)
{
    bool object = jv_is(value, JSON_OBJECT), comma = false;

    buf_byte(out, object ? '{' : '[');
    for (struct jv_iter it = jv_iter(value); jv_step(&it); comma = true) {
        if (comma)
            buf_byte(out, ',');
        if (object) {
            buf_span(out, jv_raw(it.name));
            buf_byte(out, ':');
        }
        enum err err = ref_resolve(it.value, docs, arena, out, ret_missing);
        if (err)
            return err;
    }
    buf_byte(out, object ? '}' : ']');
    return ERR_OK;
}

enum err ref_resolve(struct jv value, const struct ref_docs *docs, struct arena *arena, struct buf *out,
                     struct span *ret_missing)
{
    if (ref_is(value)) {
        struct span pointer = jv_string(jv_get(value, "$from"), arena);
        struct jv found = ref_lookup(pointer, docs), def = jv_get(value, "default");
        if (!jv_is(found, JSON_NONE)) {
            json_minify(found, out);
            return ERR_OK;
        }
        if (!jv_is(def, JSON_NONE))
            return ref_resolve(def, docs, arena, out, ret_missing);
        *ret_missing = pointer;
        return ERR_NOT_FOUND;
    }
    if (jv_is(value, JSON_OBJECT) || jv_is(value, JSON_ARRAY))
        return resolve_members(value, docs, arena, out, ret_missing);
    buf_span(out, jv_raw(value));
    return ERR_OK;
}
