/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema.h - the subset of JSON Schema that answers of people are checked against (docs/reference/json-schema.md).
 *
 * A schema is checked when it is accepted, so that validation cannot fail later: a keyword outside the subset is refused,
 * never ignored. Nothing here loops on its own terms: no references, no regular expressions, sizes and depth bounded, and
 * validation counts its steps. */
#pragma once
#include "base/json.h"

enum {
    JSON_SCHEMA_BYTES = 64 << 10, /* the text of a schema */
    JSON_SCHEMA_DEPTH = 32,       /* schemas within schemas */
    JSON_SCHEMA_STEPS = 4000000,  /* of one validation; above it the value is refused as too_complex */
};

/* Adds an issue for everything that is no schema of the subset; `at` is its pointer, unchanged afterwards. */
void json_schema_check(struct jv schema, struct buf *at, struct issues *issues);
/* Does the value fit? `schema` was checked before. Adds an issue for each place that does not; `at` is the value's pointer,
 * unchanged afterwards. `issues` may be NULL. */
bool json_schema_fits(struct jv schema, struct jv value, struct buf *at, struct issues *issues);
