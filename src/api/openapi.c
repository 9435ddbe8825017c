/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.c - GET /openapi.json: the document of all surfaces, put together from one file per surface.
 *
 * The files of src/api/openapi are written by hand and compiled into the program (meson.build lists them). base.json has what all
 * share; each of the others brings its tags, its paths and its components. Names must not meet: a path or a schema is in one file. */
#include "api/inner.h"
#include "base/embedded.h"

/* Without white space. */
static void put_value(struct jw *w, struct jv value)
{
    struct buf text = { 0 };
    json_minify(value, &text);
    jw_raw(w, buf_view(&text));
    buf_done(&text);
}

static void put_members(struct jw *w, struct jv object)
{
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct span name = jv_raw(it.name); /* quoted as it stands */
        jw_key_span(w, span_make(name.p + 1, name.n - 2));
        put_value(w, it.value);
    }
}

/* One member of the document, of all parts: an object of objects, or of schemas and the like. */
static void put_union(struct jw *w, const struct jv *parts, size_t count, const char *outer, const char *name)
{
    jw_key(w, name);
    jw_obj(w);
    for (size_t i = 0; i < count; i++)
        put_members(w, jv_get(outer ? jv_get(parts[i], outer) : parts[i], name));
    jw_end(w);
}

static void put_tags(struct jw *w, const struct jv *parts, size_t count)
{
    jw_key(w, "tags");
    jw_arr(w);
    for (size_t i = 0; i < count; i++)
        for (struct jv_iter it = jv_iter(jv_get(parts[i], "tags")); jv_step(&it);)
            put_value(w, it.value);
    jw_arr_end(w);
}

static void put_info(struct jw *w, struct jv info, const char *version)
{
    jw_key(w, "info");
    jw_obj(w);
    put_members(w, info);
    jw_key(w, "version");
    jw_cstr(w, version);
    jw_end(w);
}

void openapi_document(const char *version, struct buf *out)
{
    enum { PARTS_MAX = 32 };
    static const char *const components[] = { "securitySchemes", "parameters", "responses", "headers", "schemas" };
    struct arena arena = { 0 };
    struct jv    parts[PARTS_MAX];
    size_t       count = 0;
    for (const struct embedded *part = openapi_parts; part->name; part++) {
        assert(count < PARTS_MAX);
        parts[count] = json_read(span_make(part->bytes, part->length), &arena);
        assert(jv_is(parts[count], JSON_OBJECT));
        count++;
    }
    assert(count > 0);
    struct jw w = jw_on(out);
    jw_obj(&w);
    jw_key(&w, "openapi");
    jw_raw(&w, jv_raw(jv_get(parts[0], "openapi")));
    put_info(&w, jv_get(parts[0], "info"), version);
    put_tags(&w, parts, count);
    put_union(&w, parts, count, NULL, "paths");
    jw_key(&w, "components");
    jw_obj(&w);
    for (size_t i = 0; i < ARRAY_LEN(components); i++)
        put_union(&w, parts, count, "components", components[i]);
    jw_end(&w);
    jw_end(&w);
    arena_done(&arena);
}

void openapi_send(struct call *call)
{
    buf_span(&call->out, buf_view(&call->api->openapi));
    call_send(call, 200);
}
