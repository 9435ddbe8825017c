/* SPDX-License-Identifier: Apache-2.0 */
/* ref.h - values that a configuration takes from the run: {"$from": POINTER, "default"?: VALUE} at any depth.
 *
 * A pointer (RFC 6901) begins with /input, /values or /nodes/NAME/output. That document is never built: the first
 * tokens choose one of the three texts, the rest is looked up in it. A value that was put in is not searched for
 * references again. A default may itself hold references. */
#pragma once
#include "base/json.h"

enum ref_scope { REF_INPUT, REF_VALUES, REF_OUTPUT };

struct ref {
    enum ref_scope scope;
    struct span node; /* REF_OUTPUT: whose output */
    struct span rest; /* pointer inside that document, maybe empty */
};

/* Where references lead. `find` gives the root of a document, or the absent value. */
struct ref_docs {
    struct jv (*find)(void *ctx, const struct ref *ref);
    void *ctx;
};

/* false when the pointer is malformed or does not begin as it must; `ret` points into `pointer`. */
bool ref_parse(struct span pointer, struct ref *ret);
/* true when the value is an object with a member "$from". */
bool ref_is(struct jv value);
/* true when there is a reference in the value at any depth. */
bool ref_inside(struct jv value);
/* Calls `fn` for each reference in the value, at any depth, defaults included. */
void ref_each(struct jv value, void (*fn)(void *ctx, struct jv reference), void *ctx);
/* What the pointer leads to, or the absent value. */
struct jv ref_lookup(struct span pointer, const struct ref_docs *docs);
/* Appends the value with all references replaced, number texts intact. ERR_NOT_FOUND when one leads nowhere and has no
 * default: *ret_missing is its pointer, and `out` holds rubbish behind its old length. */
enum err ref_resolve(struct jv value, const struct ref_docs *docs, struct arena *arena, struct buf *out,
                     struct span *ret_missing);
