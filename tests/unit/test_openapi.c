/* SPDX-License-Identifier: Apache-2.0 */
/* test_openapi.c - the OpenAPI document against the router's tables: what is served is described, with its scope, and the other way
 * round; references lead somewhere. Whether the schemas are true is for the conformance tests to say. */
#include "api/inner.h"
#include "api/workflow_runs/schemas.h"
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>

static const char *const method_keys[] = { "get", "head", "post", "put", "patch", "delete", "options" };

struct document {
    struct arena arena;
    struct buf   text;
    struct jv    root;
};

static int set_up(void **state)
{
    struct document *document = mem_alloc(sizeof *document);
    openapi_document("1.2.3", &document->text);
    document->root = json_read(buf_view(&document->text), &document->arena);
    *state = document;
    return 0;
}

static int tear_down(void **state)
{
    struct document *document = *state;
    buf_done(&document->text);
    arena_done(&document->arena);
    free(document);
    return 0;
}

/* In the document the rest of a path has a name. */
static const char *path_of(const struct route *route, char out[256])
{
    size_t n = strlen(route->pattern);
    bool   rest = route->pattern[n - 1] == '*';
    snprintf(out, 256, "%.*s%s", (int)(n - rest), route->pattern, rest ? "{name}" : "");
    return out;
}

static struct jv described(const struct document *document, const struct route *route)
{
    char path[256];
    return jv_get(jv_get(jv_get(document->root, "paths"), path_of(route, path)), method_keys[route->method]);
}

static void it_has_what_openapi_wants(void **state)
{
    const struct document *document = *state;
    assert_true(jv_str_eq(jv_get(document->root, "openapi"), "3.1.0"));
    assert_true(jv_str_eq(jv_get(jv_get(document->root, "info"), "version"), "1.2.3"));
    assert_true(jv_is(jv_get(jv_get(document->root, "info"), "title"), JSON_STRING));
    assert_true(jv_count(jv_get(document->root, "tags")) > 5);
}

static void every_route_is_described_with_its_scope(void **state)
{
    struct document *document = *state;
    for (size_t t = 0; route_table(t); t++)
        for (const struct route *r = route_table(t); r->pattern; r++) {
            struct jv operation = described(document, r), security = jv_get(operation, "security");
            if (!jv_is(operation, JSON_OBJECT))
                fail_msg("%s %s is not described", method_keys[r->method], r->pattern);
            struct jv scopes = jv_get(jv_at(security, 0), "bearer");
            bool other_key = strncmp(r->pattern, "/api/v1/", 8) == 0; /* or a key in a header of its own */
            if (jv_count(security) != (r->scope ? 1u + other_key : 0) || jv_count(scopes) != (r->scope && r->scope[0]) ||
                (r->scope && r->scope[0] && !jv_str_eq(jv_at(scopes, 0), r->scope)))
                fail_msg("%s %s: another scope than %s", method_keys[r->method], r->pattern, r->scope ? r->scope : "none");
        }
}

static bool is_served(struct span path, struct span method)
{
    char pattern[256];
    for (size_t t = 0; route_table(t); t++)
        for (const struct route *r = route_table(t); r->pattern; r++)
            if (span_is(path, path_of(r, pattern)) && span_is(method, method_keys[r->method]))
                return true;
    return false;
}

static void everything_described_is_served(void **state)
{
    struct document *document = *state;
    unsigned         count = 0;
    for (struct jv_iter path = jv_iter(jv_get(document->root, "paths")); jv_step(&path);)
        for (struct jv_iter it = jv_iter(path.value); jv_step(&it);) {
            if (jv_str_eq(it.name, "parameters"))
                continue;
            struct span p = jv_string(path.name, &document->arena), m = jv_string(it.name, &document->arena);
            if (!is_served(p, m))
                fail_msg("%.*s %.*s is not served", SPAN_ARG(m), SPAN_ARG(p));
            count++;
        }
    assert_true(count > 60);
}

/* Returns how many there are. */
static unsigned check_references(struct document *document, struct jv v)
{
    unsigned count = 0;
    if (!jv_is(v, JSON_OBJECT) && !jv_is(v, JSON_ARRAY))
        return 0;
    for (struct jv_iter it = jv_iter(v); jv_step(&it);) {
        count += check_references(document, it.value);
        if (!jv_is(v, JSON_OBJECT) || !jv_str_eq(it.name, "$ref"))
            continue;
        struct span to = jv_string(it.value, &document->arena);
        assert_true(to.n > 1 && to.p[0] == '#');
        if (jv_is(jv_pointer(document->root, span_make(to.p + 1, to.n - 1)), JSON_NONE))
            fail_msg("%.*s leads nowhere", SPAN_ARG(to));
        count++;
    }
    return count;
}

static void references_lead_somewhere(void **state)
{
    struct document *document = *state;
    assert_true(check_references(document, document->root) > 100);
}

static void names_are_unique(void **state)
{
    struct document *document = *state;
    static const char *const objects[] = { "/paths", "/components/schemas", "/components/parameters", "/components/responses" };
    for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
        struct jv object = jv_pointer(document->root, span_of(objects[i]));
        size_t    count = 0;
        for (struct jv_iter it = jv_iter(object); jv_step(&it);) /* passes over what a later one of the same name replaces */
            count++;
        assert_true(count > 0);
        assert_int_equal(count, jv_count(object));
    }
}

static void assert_is_file(struct span embedded, const char *path)
{
    const char *root = getenv("PERDURE_SOURCE_ROOT");
    CLEANUP(buf_done) struct buf name = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    buf_printf(&name, "%s/src/api/%s%c", root ? root : ".", path, 0);
    FILE *file = fopen(name.p, "rb");
    if (!file)
        fail_msg("%s: cannot be opened; run in the source folder or set PERDURE_SOURCE_ROOT", name.p);
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        buf_byte(&text, (char)c);
    fclose(file);
    assert_true(span_eq(embedded, buf_view(&text)));
}

static void embedded_schemas_are_the_files(void **state)
{
    (void)state;
    assert_is_file(schema_run_event(), "workflow_runs/run_event.schema.json");
    assert_is_file(schema_workflow(), "workflow_runs/workflow_v1.schema.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_has_what_openapi_wants, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_route_is_described_with_its_scope, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everything_described_is_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(references_lead_somewhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_unique, set_up, tear_down),
        cmocka_unit_test(embedded_schemas_are_the_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
