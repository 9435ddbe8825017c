/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_schema.c - any bytes as a schema and a value: {"s": schema, "v": value}.
 *
 * Whatever the checker accepts, the validator must cope with: it ends, its verdict agrees with its issues, it is the same
 * without issues, and the pointer comes back as it was. libFuzzer; with -DFUZZ_MAIN it runs the files named. */
#include "base/json_schema.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

static void validate(struct jv schema, struct jv value, struct arena *arena)
{
    struct issues issues = { .arena = arena };
    struct buf    at = { 0 };
    bool          fits = json_schema_fits(schema, value, &at, &issues);
    MUST(fits == (issues.count == 0));
    MUST(fits == json_schema_fits(schema, value, &at, NULL));
    MUST(at.len == 0);
    for (size_t i = 0; i < issues.count && i < ISSUES_MAX; i++)
        MUST(json_pointer_valid(issues.items[i].pointer));
    buf_done(&at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena  arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct json   doc;
    if (!json_parse(span_make(data, size), &(struct json_limits){ .depth = 128 }, &arena, &doc, NULL)) {
        struct buf at = { 0 };
        struct jv  schema = jv_get(json_root(&doc), "s"), value = jv_get(json_root(&doc), "v");
        json_schema_check(schema, &at, &issues);
        MUST(at.len == 0);
        buf_done(&at);
        if (!issues.count && jv_kind(value) != JSON_NONE)
            validate(schema, value, &arena);
    }
    arena_done(&arena);
    return 0;
}

#ifdef FUZZ_MAIN
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        static char bytes[1 << 20];
        FILE       *f = fopen(argv[i], "rb");
        MUST(f);
        LLVMFuzzerTestOneInput((const uint8_t *)bytes, fread(bytes, 1, sizeof bytes, f));
        fclose(f);
    }
    return 0;
}
#endif
