/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_json.c - arbitrary bytes through the JSON library, side by side with yajl.
 *
 * libFuzzer: clang -fsanitize=fuzzer,address,undefined. With -DFUZZ_MAIN it is a plain program that runs the files
 * named on its command line (a corpus, or one finding).
 *
 * yajl 2.1 accepts all that we accept (with lone surrogate escapes allowed, which it never minds), and these things
 * that are not JSON:
 *     1. vertical tab and form feed as white space
 *     2. UTF-8 that only has the shape: lead bytes C0..F7 with enough tails, so overlong forms (C0 80),
 *        surrogates (ED A0 80) and code points beyond U+10FFFF (F5 80 80 80)
 *     3. a string behind the value that never ends ("[] \"abc"): its lexer waits for the rest and nobody asks for it
 *     4. any depth
 * `mend` makes JSON of exactly these; a text that yajl accepts must be accepted by us as it is or mended. So anything
 * new stops the fuzzer. Not compared: what strings decode to (yajl makes '?' of a lone surrogate).
 *
 * What we accept must also survive: minified text means the same and minifies to itself, canonical text likewise. */
#include "base/json.h"
#include "base/utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

enum { DEPTH = 128, DEPTH_MOST = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                 \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);     \
            abort();                                                                    \
        }                                                                               \
    } while (0)

/* ---- yajl ---- */

struct yajl_side {
    int  depth, deepest;
    bool any;
};

static int on_scalar(void *context)
{
    return 1;
}

static int on_boolean(void *context, int value)
{
    return 1;
}

static int on_text(void *context, const char *text, size_t n)
{
    return 1;
}

static int on_string(void *context, const unsigned char *text, size_t n)
{
    return 1;
}

static int on_open(void *context)
{
    struct yajl_side *side = context;
    if (++side->depth > side->deepest)
        side->deepest = side->depth;
    return 1;
}

static int on_close(void *context)
{
    ((struct yajl_side *)context)->depth--;
    return 1;
}

static bool yajl_accepts(struct span text, int *ret_deepest)
{
    static const yajl_callbacks callbacks = {
        .yajl_null = on_scalar, .yajl_boolean = on_boolean, .yajl_number = on_text, .yajl_string = on_string,
        .yajl_start_map = on_open, .yajl_map_key = on_string, .yajl_end_map = on_close, .yajl_start_array = on_open,
        .yajl_end_array = on_close,
    };
    struct yajl_side side = { 0 };
    yajl_handle      yajl = yajl_alloc(&callbacks, NULL, &side);
    yajl_config(yajl, yajl_allow_comments, 0);
    yajl_status status = yajl_parse(yajl, (const unsigned char *)text.p, text.n);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(yajl);
    yajl_free(yajl);
    *ret_deepest = side.deepest;
    return status == yajl_status_ok;
}

/* ---- known differences ---- */

/* How many bytes at p yajl takes for one character of a string. */
static size_t yajl_character(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0xc0 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 1;
    for (size_t i = 1; i < n; i++)
        if (i >= left || (p[i] & 0xc0) != 0x80)
            return 1;
    return n;
}

/* A character that only yajl takes for one becomes question marks. Returns its length. */
static size_t mend_character(uint8_t *p, size_t left)
{
    uint32_t cp;
    size_t   n = yajl_character(p, left);
    if (n > 1 && utf8_decode((char *)p, (char *)p + left, false, &cp) == 0)
        memset(p, '?', n);
    return n;
}

/* Mends the string whose opening quote is at text[at]; returns the place behind it, or 0 when it never ends. */
static size_t mend_string(uint8_t *text, size_t n, size_t at)
{
    for (at++; at < n;) {
        if (text[at] == '"')
            return at + 1;
        if (text[at] == '\\')
            at += 2;
        else
            at += mend_character(text + at, n - at);
    }
    return 0;
}

static struct span mend(struct span text, struct arena *arena)
{
    struct span copy = arena_copy(arena, text);
    uint8_t    *p = (uint8_t *)(uintptr_t)copy.p;
    for (size_t i = 0; i < copy.n;) {
        if (p[i] == '"') {
            size_t behind = mend_string(p, copy.n, i);
            if (behind == 0)
                return span_make(p, i);
            i = behind;
            continue;
        }
        if (p[i] == '\v' || p[i] == '\f')
            p[i] = ' ';
        i++;
    }
    return copy;
}

static void compare_with_yajl(struct span text, bool ours, struct arena *arena)
{
    static const struct json_limits deepest_of_all = { .depth = DEPTH_MOST, .lone_surrogates = true };
    int         deepest;
    struct json doc;
    bool        theirs = yajl_accepts(text, &deepest);
    if (ours == theirs)
        return;
    MUST(theirs);
    MUST(deepest > DEPTH_MOST || json_parse(mend(text, arena), &deepest_of_all, arena, &doc, NULL) == ERR_OK);
}

/* ---- what must survive ---- */

static struct jv parse(struct span text, struct arena *arena)
{
    static const struct json_limits limits = { .depth = DEPTH, .lone_surrogates = true };
    struct json *doc = ARENA_NEW(arena, struct json);
    if (json_parse(text, &limits, arena, doc, NULL) != ERR_OK)
        return (struct jv){ 0 };
    return json_root(doc);
}

/* Every entry lies inside the text and its container, and the tape ends where the text does. */
static void check_tape(const struct json *doc)
{
    MUST(doc->count > 0 && doc->tape[0].next == doc->count);
    for (uint32_t i = 0; i < doc->count; i++) {
        const struct json_entry *entry = &doc->tape[i];
        MUST(entry->kind > JSON_NONE && entry->kind <= JSON_OBJECT);
        MUST((size_t)entry->off + entry->len <= doc->text.n);
        MUST(entry->next > i && entry->next <= doc->count);
        MUST(entry->kind >= JSON_ARRAY || entry->next == i + 1);
    }
}

static void check_minify(struct jv v, struct arena *arena)
{
    CLEANUP(buf_done) struct buf once = { 0 }, twice = { 0 };
    json_minify(v, &once);
    struct jv same = parse(buf_view(&once), arena);
    MUST(same.doc);
    MUST(jv_equal(v, same) && jv_equal(same, v));
    json_minify(same, &twice);
    MUST(span_eq(buf_view(&once), buf_view(&twice)));
}

static void check_canonical(struct jv v, unsigned flags, struct arena *arena)
{
    CLEANUP(buf_done) struct buf once = { 0 }, twice = { 0 };
    json_canonical(v, flags, &once);
    struct jv same = parse(buf_view(&once), arena);
    MUST(same.doc);
    json_canonical(same, flags, &twice);
    MUST(span_eq(buf_view(&once), buf_view(&twice)));
}

/* Text written by us and read again is the same text. */
static void check_strings(struct jv v, struct arena *arena)
{
    if (jv_is(v, JSON_STRING)) {
        CLEANUP(buf_done) struct buf quoted = { 0 }, ascii = { 0 };
        struct span text = jv_string(v, arena);
        json_put_string(&quoted, text);
        json_put_string_ascii(&ascii, text);
        MUST(span_eq(jv_string(parse(buf_view(&quoted), arena), arena), text));
        MUST(span_eq(jv_string(parse(buf_view(&ascii), arena), arena), text));
    }
    for (struct jv_iter it = jv_iter(v); jv_step(&it);) {
        if (it.object) {
            MUST(jv_is(it.name, JSON_STRING));
            struct jv got = jv_get_span(v, jv_string(it.name, arena));
            MUST(got.doc && got.at == it.value.at); /* the last of its name, and only that one is seen */
        }
        check_strings(it.value, arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = { 0 };
    struct span  text = span_make(data, size);
    struct jv    v = parse(text, &arena);
    compare_with_yajl(text, v.doc != NULL, &arena);
    if (v.doc) {
        check_tape(v.doc);
        check_minify(v, &arena);
        for (unsigned flags = 0; flags < 4; flags++)
            check_canonical(v, flags, &arena);
        if (size < 1 << 14) /* looks each name up: quadratic */
            check_strings(v, &arena);
    }
    arena_done(&arena);
    return 0;
}

#ifdef FUZZ_MAIN
static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    struct buf buf = { 0 };
    for (int c; (c = fgetc(file)) != EOF;)
        buf_byte(&buf, (char)c);
    fclose(file);
    /* Exactly as long as the text, so that a sanitizer sees each byte beyond. */
    uint8_t *exact = (uint8_t *)mem_dup(buf.p, buf.len);
    exact = mem_grow(exact, buf.len ? buf.len : 1);
    LLVMFuzzerTestOneInput(exact, buf.len);
    free(exact);
    buf_done(&buf);
    return 0;
}

int main(int argc, char **argv)
{
    int bad = 0;
    for (int i = 1; i < argc; i++)
        bad |= run_file(argv[i]);
    return bad;
}
#endif
