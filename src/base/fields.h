/* SPDX-License-Identifier: Apache-2.0 */
/* fields.h - reads a JSON object by a table of its members (inner; the configuration and the requests of providers).
 *
 * Strict: a member that is not in the table, of another type or out of range is ERR_VALIDATION, and the error's field is the
 * JSON pointer of the member. A member that is absent or null leaves what stands in `out`, so defaults are set before. */
#pragma once
#include "base/json.h"

enum field_type {
    FIELD_STRING, /* struct span, unescaped; in the document or the arena */
    FIELD_INT,    /* int64_t within min..max */
    FIELD_NUMBER, /* struct jv: a number within min..max, to be passed on as it came */
    FIELD_OBJECT, /* struct jv */
    FIELD_ARRAY,  /* struct jv */
    FIELD_BOOL,   /* bool */
    FIELD_ANY,    /* struct jv; null counts as a value */
};

struct field {
    const char     *name;
    enum field_type type;
    size_t          offset; /* in `out` */
    bool            required;
    int64_t         min, max; /* of the value; of a string: bytes. max 0: no limits */
};

/* `pointer` is the JSON pointer of `object` itself. On failure `out` may be half filled. */
enum err fields_read(struct jv object, const char *pointer, const struct field *fields, size_t count, struct arena *arena,
                     void *out, struct error *error);
/* ERR_VALIDATION at pointer/name, with the name in front of the message. */
enum err field_error(struct error *error, const char *pointer, struct span name, const char *format, ...) PRINTF(4, 5);
