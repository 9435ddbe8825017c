/* SPDX-License-Identifier: Apache-2.0 */
/* test_builtin_tools.c - the built-in tools of teams against the vectors of the contract, and what the vectors leave out. */
#include "unit/unit.h"
#include "tool/builtin.h"
#include <stdio.h>
#include <stdlib.h>

static struct jv load(struct arena *arena)
{
    char       path[4096];
    struct buf text = { 0 };
    snprintf(path, sizeof path, "%s/builtin-tools.json", getenv("PERDURE_TESTDATA") ? getenv("PERDURE_TESTDATA") : "tests/unit/data");
    FILE *file = fopen(path, "r");
    char  piece[4096];
    assert_non_null(file);
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;)
        buf_put(&text, piece, n);
    fclose(file);
    struct jv root = json_read(arena_copy(arena, buf_view(&text)), arena);
    buf_done(&text);
    return root;
}

static void expect(struct jv wanted, struct buf *got, struct arena *arena)
{
    struct buf want = { 0 };
    json_minify(wanted, &want);
    bool same = jv_equal(wanted, json_read(buf_view(got), arena));
    if (!same)
        print_error("want %.*s\ngot  %.*s\n", SPAN_ARG(buf_view(&want)), SPAN_ARG(buf_view(got)));
    assert_true(same);
    buf_done(&want);
    got->len = 0;
}

static void vectors(void **state)
{
    struct arena arena = { 0 };
    struct buf   out = { 0 };
    size_t       count = 0;
    for (struct jv_iter it = jv_iter(jv_get(load(&arena), "cases")); jv_step(&it); count++) {
        bool      search = jv_str_eq(jv_get(it.value, "tool"), "webSearch");
        struct jv input = jv_get(it.value, "input"), manifest = jv_get(it.value, "manifest");
        if (!jv_is(manifest, JSON_NONE)) {
            search ? web_search_manifest(&out) : code_exec_manifest(NULL, &out);
            expect(manifest, &out, &arena);
        } else {
            struct jv result = jv_get(it.value, "result");
            assert_int_equal(search ? web_search_check(input, &out) : code_exec_check(input, NULL, &out),
                             jv_str_eq(jv_get(result, "type"), "valid"));
            expect(result, &out, &arena);
        }
    }
    assert_int_equal(count, 6);
    buf_done(&out);
    arena_done(&arena);
}

static void an_adapter_narrows(void **state)
{
    static const struct code_limits limits = { .languages = 1u << 2, .default_timeout_ms = 500, .max_timeout_ms = 1000 };
    static const struct code_limits odd = { .languages = 1u << 2, .default_timeout_ms = 5000, .max_timeout_ms = 1000 };
    static const struct {
        const struct code_limits *limits;
        const char               *input, *result;
    } cases[] = {
        { &limits, "{\"language\":\"python\",\"code\":\"\"}", "{\"type\":\"valid\"}" },
        { &limits, "{\"language\":\"bash\",\"code\":\"\",\"timeoutMs\":1001}",
          "{\"type\":\"invalid\",\"issues\":[{\"code\":\"invalid-value\",\"path\":\"language\",\"message\":\"codeExec.language is not enabled "
          "for this adapter.\",\"detail\":{\"allowed\":[\"python\"]}},{\"code\":\"out-of-range\",\"path\":\"timeoutMs\",\"message\":"
          "\"codeExec.timeoutMs must be less than or equal to 1000.\",\"detail\":{\"maximum\":1000}}]}" },
        { &odd, "{\"language\":\"python\",\"code\":\"x\"}",
          "{\"type\":\"invalid\",\"issues\":[{\"code\":\"out-of-range\",\"path\":\"defaultTimeoutMs\",\"message\":"
          "\"codeExec.timeoutMs must be less than or equal to 1000.\",\"detail\":{\"maximum\":1000}}]}" },
        { NULL, "{\"language\":\"shell\",\"code\":\"\",\"timeoutMs\":0}",
          "{\"type\":\"invalid\",\"issues\":[{\"code\":\"out-of-range\",\"path\":\"timeoutMs\",\"message\":"
          "\"codeExec.timeoutMs must be greater than or equal to 1.\",\"detail\":{\"minimum\":1}}]}" },
    };
    struct arena arena = { 0 };
    struct buf   out = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        code_exec_check(json_read(span_of(cases[i].input), &arena), cases[i].limits, &out);
        expect(json_read(span_of(cases[i].result), &arena), &out, &arena);
    }
    code_exec_manifest(&limits, &out);
    struct jv manifest = json_read(buf_view(&out), &arena);
    assert_true(jv_str_eq(jv_pointer(manifest, SPAN("/permissions/0/languages/0")), "python"));
    assert_true(jv_is(jv_pointer(manifest, SPAN("/permissions/0/languages/1")), JSON_NONE));
    assert_true(jv_str_eq(jv_pointer(manifest, SPAN("/inputSchema/schema/properties/language/enum/0")), "python"));
    buf_done(&out);
    arena_done(&arena);
}

static void answers_of_a_search_backend(void **state)
{
    static const struct {
        int         status;
        const char *body, *result, *code, *message;
        bool        retryable;
    } cases[] = {
        { 200, "[{\"title\":\"t\",\"url\":\"u\",\"x\":1,\"metadata\":{\"a\":1}}]",
          "{\"results\":[{\"title\":\"t\",\"url\":\"u\",\"metadata\":{\"a\":1}}]}", 0, 0, 0 },
        { 204, "{\"results\":[]}", "{\"results\":[]}", 0, 0, 0 },
        { 200, "{}", NULL, "backend-error", "Web search backend response must contain a results array.", false },
        { 200, "", NULL, "backend-error", "Web search backend response must contain a results array.", false },
        { 200, "[1]", NULL, "backend-error", "Web search result must be a JSON object.", false },
        { 200, "[{\"title\":\"t\"}]", NULL, "backend-error", "Web search result url must be a non-empty string.", false },
        { 200, "[{\"title\":\"t\",\"url\":\"u\",\"snippet\":1}]", NULL, "backend-error", "Web search result snippet must be a string when present.", false },
        { 200, "[{\"title\":\"t\",\"url\":\"u\",\"metadata\":[]}]", NULL, "backend-error",
          "Web search result metadata must be a JSON object when present.", false },
        { 503, "", NULL, "unavailable", "Web search backend returned HTTP 503.", true },
        { 429, "", NULL, "backend-error", "Web search backend returned HTTP 429.", true },
        { 408, "", NULL, "backend-error", "Web search backend returned HTTP 408.", true },
        { 404, "", NULL, "backend-error", "Web search backend returned HTTP 404.", false },
    };
    struct arena arena = { 0 };
    struct buf   out = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct builtin_error error = { 0 };
        bool ok = web_search_result(cases[i].status, json_read(span_of(cases[i].body), &arena), &out, &error);
        assert_int_equal(ok, cases[i].result != NULL);
        if (ok) {
            expect(json_read(span_of(cases[i].result), &arena), &out, &arena);
            continue;
        }
        assert_int_equal(out.len, 0);
        assert_string_equal(error.code, cases[i].code);
        assert_string_equal(error.message, cases[i].message);
        assert_int_equal(error.retryable, cases[i].retryable);
    }
    buf_done(&out);
    arena_done(&arena);
}

static void urls_of_a_search(void **state)
{
    static const struct { const char *endpoint, *input, *url; } cases[] = {
        { "http://s/x", "{\"query\":\"a b\"}", "http://s/x?q=a+b&limit=10" },
        { "http://s/x?k=1&q=z&limit=9#f", "{\"query\":\"*-._~\",\"maxResults\":2}", "http://s/x?k=1&q=*-._%7E&limit=2" },
        { "http://s/?", "{\"query\":\"\303\274/?\"}", "http://s/?q=%C3%BC%2F%3F&limit=10" },
    };
    struct arena arena = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(web_search_url(span_of(cases[i].endpoint), json_read(span_of(cases[i].input), &arena), 0, &arena), cases[i].url);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(an_adapter_narrows),
        cmocka_unit_test(answers_of_a_search_backend),
        cmocka_unit_test(urls_of_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
