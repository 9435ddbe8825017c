/* SPDX-License-Identifier: Apache-2.0 */
/* json_read.c - looking at a tape: members, elements, texts, numbers, pointers. Nothing here can fail but by being
 * absent. */
#include "base/json_inner.h"
#include "base/utf8.h"

/* ---- kinds and members ---- */

struct jv json_root(const struct json *doc)
{
    return (struct jv){ doc->count ? doc : NULL, 0 };
}

enum json_kind jv_kind(struct jv v)
{
    return v.doc ? (enum json_kind)jv_entry(v)->kind : JSON_NONE;
}

bool jv_is(struct jv v, enum json_kind kind)
{
    return jv_kind(v) == kind;
}

struct span jv_raw(struct jv v)
{
    if (!v.doc)
        return SPAN_NONE;
    struct span text = entry_text(v.doc, v.at);
    return jv_entry(v)->kind == JSON_STRING ? span_make(text.p - 1, text.n + 2) : text;
}

struct jv_iter jv_iter(struct jv v)
{
    enum json_kind kind = jv_kind(v);
    if (kind != JSON_ARRAY && kind != JSON_OBJECT)
        return (struct jv_iter){ 0 };
    const struct json_entry *entry = jv_entry(v);
    bool                     object = kind == JSON_OBJECT;
    return (struct jv_iter){ .doc = v.doc, .at = v.at + 1, .end = entry->next, .object = object,
                             .dups = object && entry->escaped };
}

bool jv_step(struct jv_iter *it)
{
    while (it->at < it->end) {
        uint32_t name = it->at, value = name + it->object;
        it->at = it->doc->tape[value].next;
        if (it->dups && it->doc->tape[name].overridden)
            continue;
        it->name = (struct jv){ it->object ? it->doc : NULL, it->object ? name : 0 };
        it->value = (struct jv){ it->doc, value };
        return true;
    }
    return false;
}

size_t jv_count(struct jv v)
{
    struct jv_iter it = jv_iter(v);
    size_t         n = 0;
    for (it.dups = false; jv_step(&it);)
        n++;
    return n;
}

struct jv jv_at(struct jv array, size_t index)
{
    if (!jv_is(array, JSON_ARRAY))
        return (struct jv){ 0 };
    for (struct jv_iter it = jv_iter(array); jv_step(&it);)
        if (index-- == 0)
            return it.value;
    return (struct jv){ 0 };
}

/* ---- strings ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int32_t json_hex4(const char *p, const char *end)
{
    int32_t value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(p[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* *p is behind "\u". A pair becomes one character; a lone half stays what it is. */
static uint32_t unescape_unicode(const char **p, const char *end)
{
    uint32_t unit = (uint32_t)json_hex4(*p, end);
    *p += 4;
    if (unit < 0xd800 || unit >= 0xdc00 || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
        return unit;
    int32_t second = json_hex4(*p + 2, end);
    if (second < 0xdc00 || second >= 0xe000)
        return unit;
    *p += 6;
    return 0x10000 + ((unit - 0xd800) << 10) + ((uint32_t)second - 0xdc00);
}

unsigned json_unescape(const char **p, const char *end, char out[4])
{
    char c = (*p)[1];
    *p += 2;
    switch (c) {
    case 'b': out[0] = '\b'; return 1;
    case 'f': out[0] = '\f'; return 1;
    case 'n': out[0] = '\n'; return 1;
    case 'r': out[0] = '\r'; return 1;
    case 't': out[0] = '\t'; return 1;
    case 'u': return utf8_encode(unescape_unicode(p, end), out);
    default:  out[0] = c; return 1; /* a quote, a backslash, a slash */
    }
}

static const char *next_escape(const char *p, const char *end)
{
    const char *found = p < end ? memchr(p, '\\', (size_t)(end - p)) : NULL;
    return found ? found : end;
}

struct span json_unescaped(struct span raw, bool escaped, struct arena *arena)
{
    if (!escaped)
        return raw;
    const char *p = raw.p, *end = p + raw.n;
    char       *text = arena_alloc(arena, raw.n); /* text is never longer than its escaped form */
    size_t      n = 0;
    while (p < end) {
        const char *stop = next_escape(p, end);
        memcpy(text + n, p, (size_t)(stop - p));
        n += (size_t)(stop - p);
        p = stop;
        char     bytes[4];
        unsigned got = p < end ? json_unescape(&p, end, bytes) : 0;
        memcpy(text + n, bytes, got);
        n += got;
    }
    return span_make(text, n);
}

struct span jv_string(struct jv v, struct arena *arena)
{
    if (!jv_is(v, JSON_STRING))
        return SPAN_NONE;
    return json_unescaped(entry_text(v.doc, v.at), jv_entry(v)->escaped, arena);
}

/* Takes `n` bytes from the front of *rest when they are equal to p. */
static bool eat(struct span *rest, const char *p, size_t n)
{
    if (n > rest->n || (n && memcmp(rest->p, p, n) != 0))
        return false;
    rest->p += n;
    rest->n -= n;
    return true;
}

static bool string_is(const struct json *doc, uint32_t at, struct span text)
{
    struct span raw = entry_text(doc, at);
    if (!doc->tape[at].escaped)
        return span_eq(raw, text);
    const char *p = raw.p, *end = p + raw.n;
    while (p < end) {
        const char *stop = next_escape(p, end);
        if (!eat(&text, p, (size_t)(stop - p)))
            return false;
        p = stop;
        char bytes[4];
        if (p < end && !eat(&text, bytes, json_unescape(&p, end, bytes)))
            return false;
    }
    return text.n == 0;
}

bool jv_str_eq(struct jv v, const char *text)
{
    return jv_is(v, JSON_STRING) && string_is(v.doc, v.at, span_of(text));
}

struct jv jv_get_span(struct jv object, struct span name)
{
    if (!jv_is(object, JSON_OBJECT))
        return (struct jv){ 0 };
    /* Overridden members are skipped, so the first hit is the last member of that name. */
    for (struct jv_iter it = jv_iter(object); jv_step(&it);)
        if (string_is(it.doc, it.name.at, name))
            return it.value;
    return (struct jv){ 0 };
}

struct jv jv_get(struct jv object, const char *name)
{
    return jv_get_span(object, span_of(name));
}

/* ---- numbers and booleans ---- */

static bool only_zeros(const char *p, const char *end)
{
    while (p < end && *p == '0')
        p++;
    return p == end;
}

bool jv_i64(struct jv v, int64_t *ret)
{
    if (!jv_is(v, JSON_NUMBER))
        return false;
    struct span text = entry_text(v.doc, v.at);
    const char *p = text.p, *end = p + text.n;
    bool        negative = *p == '-';
    uint64_t    most = (uint64_t)INT64_MAX + negative, value = 0;
    for (p += negative; p < end && *p >= '0' && *p <= '9'; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (value > (most - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (p < end && (*p != '.' || !only_zeros(p + 1, end)))
        return false;
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool jv_f64(struct jv v, double *ret)
{
    if (!jv_is(v, JSON_NUMBER))
        return false;
    struct decimal d = decimal_of(entry_text(v.doc, v.at));
    return decimal_to_f64(&d, ret);
}

bool jv_bool(struct jv v, bool def)
{
    enum json_kind kind = jv_kind(v);
    return kind == JSON_TRUE || (kind != JSON_FALSE && def);
}

/* ---- equality ---- */

static bool arrays_equal(struct jv a, struct jv b)
{
    struct jv_iter left = jv_iter(a), right = jv_iter(b);
    for (;;) {
        bool more = jv_step(&left);
        if (more != jv_step(&right))
            return false;
        if (!more)
            return true;
        if (!jv_equal(left.value, right.value))
            return false;
    }
}

/* Sorted first: looking each name up would be quadratic. */
static bool objects_equal(struct jv a, struct jv b)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    size_t              n, m;
    struct json_member *left = json_members_sorted(a, false, &arena, &n);
    struct json_member *right = json_members_sorted(b, false, &arena, &m);
    if (n != m)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!span_eq(left[i].name, right[i].name))
            return false;
    for (size_t i = 0; i < n; i++)
        if (!jv_equal(left[i].value, right[i].value))
            return false;
    return true;
}

static bool strings_equal(struct jv a, struct jv b)
{
    struct span raw = entry_text(a.doc, a.at);
    if (!jv_entry(a)->escaped)
        return string_is(b.doc, b.at, raw);
    CLEANUP(arena_done) struct arena arena = { 0 };
    return string_is(b.doc, b.at, json_unescaped(raw, true, &arena));
}

bool jv_equal(struct jv a, struct jv b)
{
    enum json_kind kind = jv_kind(a);
    if (kind != jv_kind(b))
        return false;
    switch (kind) {
    case JSON_NUMBER: {
        struct decimal x = decimal_of(entry_text(a.doc, a.at)), y = decimal_of(entry_text(b.doc, b.at));
        return decimal_eq(&x, &y);
    }
    case JSON_STRING:
        return strings_equal(a, b);
    case JSON_ARRAY:
        return arrays_equal(a, b);
    case JSON_OBJECT:
        return objects_equal(a, b);
    default:
        return true;
    }
}

/* ---- pointers ---- */

bool json_pointer_valid(struct span pointer)
{
    if (pointer.n && pointer.p[0] != '/')
        return false;
    for (size_t i = 0; i < pointer.n; i++)
        if (pointer.p[i] == '~' && (i + 1 == pointer.n || (pointer.p[i + 1] != '0' && pointer.p[i + 1] != '1')))
            return false;
    return true;
}

void json_pointer_push(struct buf *pointer, struct span token)
{
    buf_byte(pointer, '/');
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] == '~')
            BUF_LIT(pointer, "~0");
        else if (token.p[i] == '/')
            BUF_LIT(pointer, "~1");
        else
            buf_byte(pointer, token.p[i]);
    }
}

static struct jv get_by_token(struct jv object, struct span token)
{
    if (!token.n || !memchr(token.p, '~', token.n))
        return jv_get_span(object, token);
    CLEANUP(buf_done) struct buf name = { 0 };
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] == '~')
            buf_byte(&name, token.p[++i] == '0' ? '~' : '/');
        else
            buf_byte(&name, token.p[i]);
    }
    return jv_get_span(object, buf_view(&name));
}

/* "0", "17"; not "-", "01" or "+1". */
static struct jv at_by_token(struct jv array, struct span token)
{
    size_t index = 0;
    if (token.n == 0 || token.n > 10 || (token.n > 1 && token.p[0] == '0'))
        return (struct jv){ 0 };
    for (size_t i = 0; i < token.n; i++) {
        if (token.p[i] < '0' || token.p[i] > '9')
            return (struct jv){ 0 };
        index = index * 10 + (size_t)(token.p[i] - '0');
    }
    return jv_at(array, index);
}

struct jv jv_pointer(struct jv v, struct span pointer)
{
    if (!json_pointer_valid(pointer))
        return (struct jv){ 0 };
    const char *p = pointer.p, *end = p + pointer.n;
    while (p < end && v.doc) {
        const char *from = ++p; /* behind the slash */
        while (p < end && *p != '/')
            p++;
        struct span token = span_make(from, (size_t)(p - from));
        v = jv_is(v, JSON_ARRAY) ? at_by_token(v, token) : get_by_token(v, token);
    }
    return v;
}

bool jv_deeper_than(struct jv v, unsigned depth)
{
    if (!jv_is(v, JSON_OBJECT) && !jv_is(v, JSON_ARRAY))
        return false;
    if (depth == 0)
        return true;
    for (struct jv_iter it = jv_iter(v); jv_step(&it);)
        if (jv_deeper_than(it.value, depth - 1))
            return true;
    return false;
}
