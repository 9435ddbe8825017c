/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - strict RFC 8259 over immutable bytes: a flat tape of spans, and writers (model.md 9).
 *
 * Number texts and member order survive, because payloads are re-emitted as they came. Nothing is decoded before it is asked
 * for. The parser accepts exactly RFC 8259 in UTF-8: no BOM, no comments, no trailing bytes, no NaN, no raw control bytes in
 * strings. Lone surrogate escapes are accepted or refused by a flag (AR refuses them). Duplicate members: the last wins. */
#pragma once
#include "base/err.h"
#include "base/mem.h"

enum json_kind { JSON_NONE, JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_entry {        /* 16 bytes */
    uint32_t off;          /* first byte in the text; of a string: behind the quote */
    uint32_t len;          /* bytes; of a string: between the quotes */
    uint32_t next;         /* index of the entry behind this value and all it holds */
    uint8_t  kind;         /* enum json_kind */
    uint8_t  escaped;      /* a string that holds a backslash; an object that holds duplicate names */
    uint16_t overridden;   /* a member name that a later member of the same object repeats */
};

struct json {
    struct span        text; /* the caller's bytes; must outlive the tape */
    struct json_entry *tape; /* an object holds name, value, name, value … */
    uint32_t           count;
};

struct json_limits {
    uint32_t depth;            /* containers within containers, e.g. 64; a scalar has depth 0, [] has 1 */
    uint32_t entries;          /* tape length; 0: no limit but the text's */
    bool     lone_surrogates;  /* accept \ud800 without its pair */
};

/* A value: a place on a tape. The zero value is "absent": kind JSON_NONE, and every accessor copes with it. */
struct jv {
    const struct json *doc;
    uint32_t           at;
};

/* Parses all of `text` (at most 1 GiB). The tape lives in `arena`. On failure ERR_MALFORMED_JSON with the byte offset in the
 * message, `ret` untouched. */
MUST_USE enum err json_parse(struct span text, const struct json_limits *limits, struct arena *arena, struct json *ret,
                             struct error *error);
/* For text that this process wrote itself: generous limits, surrogates allowed; the doc is allocated in the arena.
 * Returns the absent value when the text is damaged. */
struct jv json_read(struct span text, struct arena *arena);

struct jv      json_root(const struct json *doc);
enum json_kind jv_kind(struct jv v);
bool           jv_is(struct jv v, enum json_kind kind);
struct span    jv_raw(struct jv v);                       /* the text as it stands, quotes included */
struct jv      jv_get(struct jv object, const char *name);  /* last member of that name, or absent */
struct jv      jv_get_span(struct jv object, struct span name); /* name is unescaped text */
size_t         jv_count(struct jv v);                     /* elements or members (duplicates counted) */
struct jv      jv_at(struct jv array, size_t index);

/* for (struct jv_iter it = jv_iter(v); jv_step(&it);) use it.value, and it.name when v is an object.
 * Members that a later duplicate overrides are skipped. */
struct jv_iter {
    const struct json *doc;
    uint32_t           at, end;
    bool               object, dups;
    struct jv          name, value;
};
struct jv_iter jv_iter(struct jv v);
bool           jv_step(struct jv_iter *it);

/* Unescaped text; without escapes it points into the document, else into the arena. Lone surrogates become their 3-byte
 * form (WTF-8). Not a string: SPAN_NONE with p NULL. */
struct span jv_string(struct jv v, struct arena *arena);
bool        jv_str_eq(struct jv v, const char *text);     /* a string equal to text, compared unescaped */
/* An integer written without point or exponent (or with value-preserving zeros) that fits; else false. */
bool        jv_i64(struct jv v, int64_t *ret);
bool        jv_f64(struct jv v, double *ret);
bool        jv_bool(struct jv v, bool def);               /* def when it is no boolean */
bool        jv_equal(struct jv a, struct jv b);           /* by value: member order ignored, numbers by value */

/* RFC 6901. "" is v itself. Absent when there is nothing or the pointer is not well-formed. */
struct jv   jv_pointer(struct jv v, struct span pointer);
bool        json_pointer_valid(struct span pointer);
/* true when containers stand in containers for more than `depth` levels; a scalar has 0, [] has 1. */
bool        jv_deeper_than(struct jv v, unsigned depth);
/* "/a~1b/3" grows by one reference token. */
void        json_pointer_push(struct buf *pointer, struct span token);

/* ---- writing ---- */
void json_put_string(struct buf *out, struct span utf8); /* quoted, minimal escapes; WTF-8 surrogates as \udxxx */
void json_put_string_ascii(struct buf *out, struct span utf8); /* every non-ASCII character as \uXXXX */
void json_put_f64(struct buf *out, double v);            /* ECMAScript shortest form; NaN and infinities: null */
/* As it came, without white space; overridden duplicates are dropped. */
void json_minify(struct jv v, struct buf *out);
struct span json_minified(struct jv v, struct arena *arena); /* the same, in the arena */

enum json_canon {
    JSON_JCS       = 0, /* RFC 8785: names by UTF-16 code units; integers beyond 2^53 keep their text (model.md 11, 31) */
    JSON_TEAM_KEYS = 1, /* integer-like names first, in numeric order (teams.md 1) */
    JSON_DOUBLES   = 2, /* every number through a double, as JavaScript does (teams.md 1) */
};
void json_canonical(struct jv v, unsigned flags, struct buf *out);

/* A cursor that remembers commas. Nothing can fail but memory, and that aborts. */
struct jw {
    struct buf *out;
    bool        comma;
};
static inline struct jw jw_on(struct buf *out) { return (struct jw){ out, false }; }
void jw_obj(struct jw *w);   /* { */
void jw_end(struct jw *w);   /* } */
void jw_arr(struct jw *w);   /* [ */
void jw_arr_end(struct jw *w); /* ] */
void jw_key(struct jw *w, const char *name); /* name needs no escape */
void jw_key_span(struct jw *w, struct span name);
void jw_str(struct jw *w, struct span s);
void jw_cstr(struct jw *w, const char *s); /* NULL: null */
void jw_raw(struct jw *w, struct span json); /* one JSON value as text; empty: null */
void jw_i64(struct jw *w, int64_t v);
void jw_u64(struct jw *w, uint64_t v);
void jw_f64(struct jw *w, double v);
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);
void jw_time(struct jw *w, int64_t wall_ms); /* RFC 3339 text */
struct uuid;
void jw_uuid(struct jw *w, const struct uuid *id);

/* ---- all that is wrong with a document, at once (AR 2.5: at most 50) ---- */
enum { ISSUES_MAX = 50 };
struct issue {
    struct span pointer;   /* JSON pointer, or empty when parameter is set */
    struct span parameter; /* query parameter or header */
    struct span code;      /* "required", "type", "range", … */
    struct span message;
};
struct issues {
    struct arena *arena;   /* where the texts live */
    size_t        count;   /* found, may exceed ISSUES_MAX; only the first ISSUES_MAX are kept */
    struct issue *items;   /* in the arena; made by the first one, so that a request without any pays nothing */
};
void issue_add(struct issues *issues, struct span pointer, const char *code, const char *format, ...) PRINTF(4, 5);
void issue_add_parameter(struct issues *issues, const char *parameter, const char *code, const char *format, ...) PRINTF(4, 5);
void issues_to_json(const struct issues *issues, struct jw *w); /* an array */
