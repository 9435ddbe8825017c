/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_spec.c - any bytes as a workflow specification: compiling, linting and drawing must not crash, issues are whole and in
 * order, and what compiles compiles to itself. */
#include "workflow/spec.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_issues(const struct issues *issues)
{
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++) {
        const struct issue *issue = &issues->items[i];
        assert(issue->pointer.n > 0 && issue->pointer.p[0] == '$' && issue->code.n > 0 && issue->message.n > 0);
        assert(i == 0 || span_cmp(issue[-1].pointer, issue->pointer) <= 0);
    }
}

static bool knows_nothing(void *ctx, struct span name)
{
    (void)ctx;
    return name.n == 0;
}

static void use_plan(struct span text, struct arena *arena)
{
    struct issues issues = { .arena = arena };
    struct jv v1 = json_read(text, arena);
    struct span again = SPAN_NONE, streamed = SPAN_NONE, input = SPAN_NONE;
    struct buf drawing = { 0 };
    assert(spec_compile(v1, arena, &again, &issues) == ERR_OK);
    assert(span_eq(text, again));
    assert(spec_graph(v1, SPEC_MERMAID, &drawing) == ERR_OK);
    assert(spec_graph(v1, SPEC_DOT, &drawing) == ERR_OK);
    buf_done(&drawing);
    if (spec_stream(v1, arena, &streamed, &issues) == ERR_OK) {
        assert(spec_compile(json_read(streamed, arena), arena, &again, &issues) == ERR_OK);
        assert(span_eq(streamed, again));
    }
    issues.count = 0;
    (void)spec_models(v1, (struct jv){ 0 }, v1, &issues);
    issues.count = 0;
    (void)spec_inputs(v1, v1, arena, &input, &issues);
    issues.count = 0;
    (void)spec_tools(v1, knows_nothing, NULL, &issues);
    check_issues(&issues);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = { 0 };
    struct issues issues = { .arena = &arena }, warnings = { .arena = &arena };
    struct span text = SPAN_NONE;
    struct json doc;
    if (json_parse(span_make(data, size), &(struct json_limits){ .depth = 200, .lone_surrogates = true }, &arena, &doc, NULL) ==
        ERR_OK) {
        enum err err = spec_compile(json_root(&doc), &arena, &text, &issues);
        assert((err == ERR_OK) == (issues.count == 0));
        check_issues(&issues);
        spec_lint(json_root(&doc), &warnings);
        check_issues(&warnings);
        if (err == ERR_OK)
            use_plan(text, &arena);
    }
    arena_done(&arena);
    return 0;
}
