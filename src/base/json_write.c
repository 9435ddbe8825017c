/* SPDX-License-Identifier: Apache-2.0 */
/* json_write.c - text to JSON: strings, the cursor that remembers commas, and minified copies. */
#include "base/ids.h"
#include "base/json_inner.h"
#include "base/utf8.h"
#include <stdio.h>

/* ---- strings ---- */

static void put_unit(struct buf *out, uint32_t unit)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = { '\\', 'u', digits[unit >> 12 & 15], digits[unit >> 8 & 15], digits[unit >> 4 & 15],
                     digits[unit & 15] };
    buf_put(out, text, sizeof text);
}

/* A quote, a backslash or a control byte. */
static void put_escaped(struct buf *out, char c)
{
    static const char letters[] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
                                    ['"'] = '"', ['\\'] = '\\' };
    unsigned char code = (unsigned char)c;
    if (code >= sizeof letters || !letters[code]) {
        put_unit(out, code);
        return;
    }
    buf_byte(out, '\\');
    buf_byte(out, letters[code]);
}

static void put_character_ascii(struct buf *out, uint32_t cp)
{
    if (cp < 0x10000) {
        put_unit(out, cp);
        return;
    }
    put_unit(out, 0xd800 + ((cp - 0x10000) >> 10));
    put_unit(out, 0xdc00 + ((cp - 0x10000) & 0x3ff));
}

/* Bytes that are no UTF-8 become U+FFFD, so that what we write is always JSON, whatever we were given. */
static const char *put_character(struct buf *out, const char *p, const char *end, bool ascii)
{
    uint32_t cp = 0xfffd;
    unsigned n = utf8_decode(p, end, true, &cp);
    if (ascii || (cp >= 0xd800 && cp <= 0xdfff))
        put_character_ascii(out, cp);
    else if (n)
        buf_put(out, p, n);
    else
        BUF_LIT(out, "\xef\xbf\xbd");
    return p + (n ? n : 1);
}

static void put_string(struct buf *out, struct span text, bool ascii)
{
    buf_reserve(out, text.n + 2);
    buf_byte(out, '"');
    for (const char *p = text.p, *end = text.n ? p + text.n : p; p < end;) {
        const char *stop = json_skip_plain(p, end);
        buf_put(out, p, (size_t)(stop - p));
        p = stop;
        if (p == end)
            break;
        if ((unsigned char)*p < 0x80)
            put_escaped(out, *p++);
        else
            p = put_character(out, p, end, ascii);
    }
    buf_byte(out, '"');
}

void json_put_string(struct buf *out, struct span utf8)
{
    put_string(out, utf8, false);
}

void json_put_string_ascii(struct buf *out, struct span utf8)
{
    put_string(out, utf8, true);
}

/* ---- minified copies ---- */

void json_minify(struct jv v, struct buf *out)
{
    enum json_kind kind = jv_kind(v);
    if (kind != JSON_ARRAY && kind != JSON_OBJECT) {
        buf_span(out, jv_raw(v));
        return;
    }
    buf_byte(out, kind == JSON_OBJECT ? '{' : '[');
    bool comma = false;
    for (struct jv_iter it = jv_iter(v); jv_step(&it); comma = true) {
        if (comma)
            buf_byte(out, ',');
        if (it.object) {
            buf_span(out, jv_raw(it.name));
            buf_byte(out, ':');
        }
        json_minify(it.value, out); /* no deeper than the parser's limit */
    }
    buf_byte(out, kind == JSON_OBJECT ? '}' : ']');
}

struct span json_minified(struct jv v, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    json_minify(v, &text);
    return arena_copy(arena, buf_view(&text));
}

/* ---- the cursor ---- */

/* Before a value: a comma when something stands before it, and from now on something does. */
static void next_value(struct jw *w)
{
    if (w->comma)
        buf_byte(w->out, ',');
    w->comma = true;
}

static void open_bracket(struct jw *w, char bracket)
{
    next_value(w);
    buf_byte(w->out, bracket);
    w->comma = false;
}

static void close_bracket(struct jw *w, char bracket)
{
    buf_byte(w->out, bracket);
    w->comma = true;
}

void jw_obj(struct jw *w)
{
    open_bracket(w, '{');
}

void jw_end(struct jw *w)
{
    close_bracket(w, '}');
}

void jw_arr(struct jw *w)
{
    open_bracket(w, '[');
}

void jw_arr_end(struct jw *w)
{
    close_bracket(w, ']');
}

void jw_key(struct jw *w, const char *name)
{
    size_t n = strlen(name);
    next_value(w);
    buf_reserve(w->out, n + 3);
    buf_byte(w->out, '"');
    buf_put(w->out, name, n);
    BUF_LIT(w->out, "\":");
    w->comma = false;
}

void jw_key_span(struct jw *w, struct span name)
{
    next_value(w);
    json_put_string(w->out, name);
    buf_byte(w->out, ':');
    w->comma = false;
}

void jw_str(struct jw *w, struct span s)
{
    next_value(w);
    json_put_string(w->out, s);
}

void jw_cstr(struct jw *w, const char *s)
{
    if (s)
        jw_str(w, span_of(s));
    else
        jw_null(w);
}

void jw_raw(struct jw *w, struct span json)
{
    next_value(w);
    buf_span(w->out, json.n ? json : SPAN("null"));
}

void jw_u64(struct jw *w, uint64_t v)
{
    next_value(w);
    buf_u64(w->out, v);
}

void jw_i64(struct jw *w, int64_t v)
{
    next_value(w);
    if (v < 0)
        buf_byte(w->out, '-');
    w->comma = false;
    jw_u64(w, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void jw_f64(struct jw *w, double v)
{
    next_value(w);
    json_put_f64(w->out, v);
}

void jw_bool(struct jw *w, bool v)
{
    jw_raw(w, v ? SPAN("true") : SPAN("false"));
}

void jw_null(struct jw *w)
{
    jw_raw(w, SPAN("null"));
}

void jw_time(struct jw *w, int64_t wall_ms)
{
    char text[TIME_TEXT];
    time_format(wall_ms, text);
    jw_str(w, span_make(text, sizeof text));
}

void jw_uuid(struct jw *w, const struct uuid *id)
{
    next_value(w);
    buf_byte(w->out, '"');
    buf_uuid(w->out, *id);
    buf_byte(w->out, '"');
}
