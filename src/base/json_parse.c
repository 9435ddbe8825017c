/* SPDX-License-Identifier: Apache-2.0 */
/* json_parse.c - RFC 8259 text to a tape, in one pass and without recursion.
 *
 * Every request goes through here, so nothing is allocated per value: entries are collected in an array on the stack,
 * on the heap when there are many, and copied into the arena once their number is known. */
#include "base/json_inner.h"
#include "base/utf8.h"
#include <stdlib.h>

enum { LOCAL_ENTRIES = 256, FEW_MEMBERS = 32 };

struct parser {
    const char               *start, *p, *end;
    const struct json_limits *limits;
    struct json_entry        *tape;
    uint32_t                  count, cap;
    struct json_entry        *heap;      /* `tape` when it outgrew `local` */
    const char               *why;       /* what is wrong at p, once something is */
    struct arena              scratch;   /* for objects with many or escaped names */
    uint32_t                  depth;
    uint32_t                  open[JSON_DEPTH_MAX]; /* entries of the containers around p */
    struct json_entry         local[LOCAL_ENTRIES];
};

static bool fail(struct parser *ps, const char *at, const char *why)
{
    ps->p = at;
    ps->why = why;
    return false;
}

static void grow_tape(struct parser *ps)
{
    uint32_t cap = ps->cap * 2;
    bool     was_local = !ps->heap;
    ps->heap = mem_grow(ps->heap, cap * sizeof *ps->heap);
    if (was_local)
        memcpy(ps->heap, ps->local, ps->count * sizeof *ps->heap);
    ps->tape = ps->heap;
    ps->cap = cap;
}

static inline bool add(struct parser *ps, enum json_kind kind, const char *from, size_t len, bool escaped)
{
    if (ps->limits->entries && ps->count >= ps->limits->entries)
        return fail(ps, from, "too many values");
    if (ps->count == ps->cap)
        grow_tape(ps);
    ps->tape[ps->count] = (struct json_entry){ .off = (uint32_t)(from - ps->start), .len = (uint32_t)len,
                                               .next = ps->count + 1, .kind = (uint8_t)kind, .escaped = escaped };
    ps->count++;
    return true;
}

static inline void skip_space(struct parser *ps)
{
    const char *p = ps->p;
    while (p < ps->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    ps->p = p;
}

/* ---- strings ---- */

/* ps->p is at "\u". */
static bool check_unicode_escape(struct parser *ps)
{
    int32_t unit = json_hex4(ps->p + 2, ps->end);
    if (unit < 0)
        return fail(ps, ps->p, "\\u needs four hex digits");
    bool    high = unit >= 0xd800 && unit < 0xdc00, low = unit >= 0xdc00 && unit < 0xe000;
    int32_t second = -1;
    if (high && ps->end - ps->p >= 8 && ps->p[6] == '\\' && ps->p[7] == 'u')
        second = json_hex4(ps->p + 8, ps->end);
    bool paired = second >= 0xdc00 && second < 0xe000;
    if ((low || (high && !paired)) && !ps->limits->lone_surrogates)
        return fail(ps, ps->p, "a surrogate without its pair");
    ps->p += paired ? 12 : 6;
    return true;
}

static bool check_escape(struct parser *ps)
{
    if (ps->end - ps->p < 2)
        return fail(ps, ps->end, "the string does not end");
    switch (ps->p[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        ps->p += 2;
        return true;
    case 'u':
        return check_unicode_escape(ps);
    default:
        return fail(ps, ps->p, "an unknown escape");
    }
}

static bool check_utf8(struct parser *ps)
{
    do {
        uint32_t cp;
        unsigned n = utf8_decode(ps->p, ps->end, false, &cp);
        if (n == 0)
            return fail(ps, ps->p, "not UTF-8");
        ps->p += n;
    } while (ps->p < ps->end && (unsigned char)*ps->p >= 0x80);
    return true;
}

/* ps->p is at the opening quote. */
static bool parse_string(struct parser *ps)
{
    const char *from = ++ps->p;
    bool        escaped = false;
    for (;;) {
        ps->p = json_skip_plain(ps->p, ps->end);
        if (ps->p == ps->end)
            return fail(ps, ps->end, "the string does not end");
        unsigned char c = (unsigned char)*ps->p;
        if (c == '"')
            break;
        if (c < 0x20)
            return fail(ps, ps->p, "a control character in a string");
        if (c == '\\')
            escaped = true;
        if (!(c == '\\' ? check_escape(ps) : check_utf8(ps)))
            return false;
    }
    return add(ps, JSON_STRING, from, (size_t)(ps->p++ - from), escaped);
}

/* ---- other scalars ---- */

/* Behind the digits from p on; `p` itself when there is none. */
static inline const char *skip_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static bool parse_number(struct parser *ps)
{
    const char *from = ps->p, *p = from, *end = ps->end, *digits;
    p += *p == '-';
    digits = p;
    /* A zero stands alone before the point: 01 is no number. */
    p = p < end && *p == '0' ? p + 1 : skip_digits(p, end);
    if (p > digits && p < end && *p == '.') {
        digits = p + 1;
        p = skip_digits(digits, end);
    }
    if (p > digits && p < end && (*p == 'e' || *p == 'E')) {
        digits = p + 1;
        digits += digits < end && (*digits == '+' || *digits == '-');
        p = skip_digits(digits, end);
    }
    if (p == digits)
        return fail(ps, p, "a digit is missing");
    ps->p = p;
    return add(ps, JSON_NUMBER, from, (size_t)(p - from), false);
}

static bool parse_word(struct parser *ps, struct span word, enum json_kind kind)
{
    if ((size_t)(ps->end - ps->p) < word.n || memcmp(ps->p, word.p, word.n) != 0)
        return fail(ps, ps->p, "a value is missing");
    ps->p += word.n;
    return add(ps, kind, ps->p - word.n, word.n, false);
}

/* ---- duplicate names ---- */

static struct span name_at(const struct parser *ps, uint32_t at)
{
    return span_make(ps->start + ps->tape[at].off, ps->tape[at].len);
}

/* Something cheap that is the same for equal names and usually differs for others. */
static uint32_t name_sign(struct span name)
{
    uint32_t head = 0, tail = 0;
    if (name.n >= 4) {
        memcpy(&head, name.p, 4);
        memcpy(&tail, name.p + name.n - 4, 4);
    } else {
        memcpy(&head, name.p, name.n);
    }
    return (head * 31 + tail) * 31 + (uint32_t)name.n;
}

struct named {
    struct span name; /* unescaped */
    uint32_t    at;
};

/* Any total order will do; lengths mostly decide. Equal names stand in document order. */
static int named_cmp(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    if (a->name.n != b->name.n)
        return a->name.n < b->name.n ? -1 : 1;
    int c = a->name.n ? memcmp(a->name.p, b->name.p, a->name.n) : 0;
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

static void override(struct parser *ps, uint32_t object, uint32_t name)
{
    ps->tape[name].overridden = 1;
    ps->tape[object].escaped = 1;
}

/* Many names, or escaped ones: sorted, so that no document can make this quadratic. */
static void find_duplicates_sorted(struct parser *ps, uint32_t object)
{
    size_t count = 0, n = 0;
    for (uint32_t at = object + 1; at < ps->count; at = ps->tape[at + 1].next)
        count++;
    struct named *all = ARENA_ARRAY(&ps->scratch, struct named, count);
    for (uint32_t at = object + 1; at < ps->count; at = ps->tape[at + 1].next)
        all[n++] = (struct named){ json_unescaped(name_at(ps, at), ps->tape[at].escaped, &ps->scratch), at };
    qsort(all, n, sizeof *all, named_cmp);
    for (size_t i = 1; i < n; i++)
        if (span_eq(all[i - 1].name, all[i].name))
            override(ps, object, all[i - 1].at);
    arena_reset(&ps->scratch);
}

/* Marks names that a later member repeats. The usual object has a handful: each is compared with those before it. */
static void find_duplicates(struct parser *ps, uint32_t object)
{
    uint32_t sign[FEW_MEMBERS], member[FEW_MEMBERS], n = 0;
    for (uint32_t at = object + 1; at < ps->count; at = ps->tape[at + 1].next) {
        if (n == FEW_MEMBERS || ps->tape[at].escaped) {
            find_duplicates_sorted(ps, object);
            return;
        }
        struct span name = name_at(ps, at);
        sign[n] = name_sign(name);
        member[n] = at;
        for (uint32_t i = 0; i < n; i++)
            if (sign[i] == sign[n] && span_eq(name_at(ps, member[i]), name))
                override(ps, object, member[i]);
        n++;
    }
}

/* ---- containers ---- */

/* The name of a member and its colon. */
static bool parse_name(struct parser *ps)
{
    skip_space(ps);
    if (ps->p == ps->end || *ps->p != '"')
        return fail(ps, ps->p, "a member name is missing");
    if (!parse_string(ps))
        return false;
    skip_space(ps);
    if (ps->p == ps->end || *ps->p != ':')
        return fail(ps, ps->p, "a colon is missing");
    ps->p++;
    return true;
}

/* ps->p is at the closing bracket of the innermost container. */
static void close_container(struct parser *ps)
{
    uint32_t           at = ps->open[--ps->depth];
    struct json_entry *entry = &ps->tape[at];
    ps->p++;
    entry->len = (uint32_t)(ps->p - ps->start) - entry->off;
    entry->next = ps->count;
    if (entry->kind == JSON_OBJECT)
        find_duplicates(ps, at);
}

static char closer(const struct parser *ps)
{
    return ps->tape[ps->open[ps->depth - 1]].kind == JSON_OBJECT ? '}' : ']';
}

/* Sets *ret_open when the container is not empty: then its first value comes next. */
static bool parse_open(struct parser *ps, enum json_kind kind, bool *ret_open)
{
    if (ps->depth >= ps->limits->depth || ps->depth >= JSON_DEPTH_MAX)
        return fail(ps, ps->p, "nested too deeply");
    if (!add(ps, kind, ps->p, 0, false))
        return false;
    ps->open[ps->depth++] = ps->count - 1;
    ps->p++;
    skip_space(ps);
    if (ps->p < ps->end && *ps->p == closer(ps)) {
        close_container(ps);
        return true;
    }
    *ret_open = true;
    return kind == JSON_ARRAY || parse_name(ps);
}

/* A scalar, an empty container, or the opening of another one and all before its first value. */
static bool parse_value(struct parser *ps, bool *ret_open)
{
    skip_space(ps);
    *ret_open = false;
    switch (ps->p < ps->end ? *ps->p : '\0') {
    case '"':
        return parse_string(ps);
    case '{':
        return parse_open(ps, JSON_OBJECT, ret_open);
    case '[':
        return parse_open(ps, JSON_ARRAY, ret_open);
    case 't':
        return parse_word(ps, SPAN("true"), JSON_TRUE);
    case 'f':
        return parse_word(ps, SPAN("false"), JSON_FALSE);
    case 'n':
        return parse_word(ps, SPAN("null"), JSON_NULL);
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        return parse_number(ps);
    default:
        return fail(ps, ps->p, ps->p < ps->end ? "a value is missing" : "the text ends too early");
    }
}

/* Behind a complete value: closes what ends here. Sets *ret_more when a comma promises another value. */
static bool parse_behind_value(struct parser *ps, bool *ret_more)
{
    *ret_more = false;
    while (ps->depth > 0) {
        skip_space(ps);
        if (ps->p == ps->end)
            return fail(ps, ps->p, "the text ends too early");
        char close = closer(ps);
        if (*ps->p == ',') {
            ps->p++;
            *ret_more = true;
            return close == ']' || parse_name(ps);
        }
        if (*ps->p != close)
            return fail(ps, ps->p, close == '}' ? "a comma or } is missing" : "a comma or ] is missing");
        close_container(ps);
    }
    return true;
}

static bool parse_document(struct parser *ps)
{
    for (bool more = true; more;) {
        if (!parse_value(ps, &more))
            return false;
        if (!more && !parse_behind_value(ps, &more))
            return false;
    }
    skip_space(ps);
    return ps->p == ps->end || fail(ps, ps->p, "something follows the value");
}

enum err json_parse(struct span text, const struct json_limits *limits, struct arena *arena, struct json *ret,
                    struct error *error)
{
    if (text.n > JSON_TEXT_MAX)
        return error_set(error, ERR_MALFORMED_JSON, NULL, "JSON text is longer than 1 GiB");

    struct parser ps; /* not zeroed as a whole: the two arrays are large */
    ps.start = ps.p = text.n ? text.p : "";
    ps.end = ps.start + text.n;
    ps.limits = limits;
    ps.tape = ps.local;
    ps.heap = NULL;
    ps.cap = LOCAL_ENTRIES;
    ps.count = ps.depth = 0;
    ps.why = NULL;
    ps.scratch = (struct arena){ 0 };

    enum err err = ERR_OK;
    if (parse_document(&ps)) {
        struct span tape = arena_copy(arena, span_make(ps.tape, ps.count * sizeof *ps.tape));
        *ret = (struct json){ span_make(ps.start, text.n), (struct json_entry *)(uintptr_t)tape.p, ps.count };
    } else {
        err = error_set(error, ERR_MALFORMED_JSON, NULL, "%s at byte %zu", ps.why, (size_t)(ps.p - ps.start));
    }
    free(ps.heap);
    arena_done(&ps.scratch);
    return err;
}

struct jv json_read(struct span text, struct arena *arena)
{
    static const struct json_limits generous = { .depth = JSON_DEPTH_MAX, .lone_surrogates = true };
    struct json *doc = ARENA_NEW(arena, struct json);
    if (json_parse(text, &generous, arena, doc, NULL) != ERR_OK)
        return (struct jv){ 0 };
    return json_root(doc);
}
