/* SPDX-License-Identifier: Apache-2.0 */
/* ids.h - identifiers (model.md 2): minted UUIDv7, and derived UUIDv8 that are never stored. */
#pragma once
#include "base/env.h"
#include "base/mem.h"

struct uuid {
    uint8_t b[16];
};

enum { UUID_TEXT = 36 };

/* Kinds of derived ids: the second argument of uuid_derive. The numbers are part of the stored format. */
enum uuid_kind {
    UUID_EVENT      = 1, /* (attempt, seq) */
    UUID_OPERATION  = 2, /* (attempt, op); op 0 is (run, 0) */
    UUID_CHECKPOINT = 3, /* (attempt, seq) */
    UUID_INVOCATION = 4, /* (run, n) */
    UUID_INLINE     = 5, /* (workspace, 0): the inline agent */
    UUID_TOOL_KEY   = 6,
    UUID_MESSAGE    = 7, /* (thread, seq) */
    UUID_BUNDLE     = 8, /* (workspace, first 8 bytes of the plan's hash): the bundle of a plan that was posted without one */
};

bool uuid_is_nil(struct uuid id);
bool uuid_eq(struct uuid a, struct uuid b);
/* A UUIDv7 of the wall clock. Within one generator ids strictly increase, also when the clock steps back. */
struct uuid_gen {
    int64_t  last_ms;
    uint16_t counter;
};
struct uuid uuid_mint(struct uuid_gen *gen, struct env *env);
/* Version-8 UUID: first 16 bytes of SHA-256(base, kind byte, number as 8 bytes big-endian), version and variant bits set. */
struct uuid uuid_derive(struct uuid base, enum uuid_kind kind, uint64_t number);
void uuid_format(struct uuid id, char out[UUID_TEXT]);         /* lower case, no NUL */
bool uuid_parse(struct span text, struct uuid *ret);            /* accepts upper and lower case; 36 characters */
void buf_uuid(struct buf *buf, struct uuid id);
static inline struct span uuid_span(const struct uuid *id) { return span_make(id->b, sizeof id->b); }

/* ---- hashing ---- */
struct sha256 {
    uint8_t b[32];
};
struct sha256 sha256_of(struct span s);
struct sha256 hmac_sha256(struct span key, struct span text);
bool          sha256_parse(struct span hex, struct sha256 *ret); /* 64 hex digits, either case */
/* Random text of `bytes` random bytes in lower-case hex behind `prefix`; out must hold strlen(prefix) + 2*bytes + 1. */
void random_text(struct env *env, const char *prefix, size_t bytes, char *out);
uint64_t hash64(const void *p, size_t n); /* fast, not for outside adversaries to see; seeded per process by caller xor */

/* ---- maps: open addressing, keys are ids or numbers, values are pointers; not owned ---- */
struct uuid_map {
    struct uuid_slot *slots;
    size_t            cap, count;
};
void *uuid_map_get(const struct uuid_map *map, struct uuid key);      /* NULL when absent */
void  uuid_map_put(struct uuid_map *map, struct uuid key, void *value); /* value not NULL; replaces */
void *uuid_map_del(struct uuid_map *map, struct uuid key);            /* the removed value or NULL */
void  uuid_map_done(struct uuid_map *map);
/* Iterate: for (size_t i = 0; (v = uuid_map_next(map, &i)); ). Do not change the map meanwhile. */
void *uuid_map_next(const struct uuid_map *map, size_t *i);

struct u64_map {
    struct u64_slot *slots;
    size_t           cap, count;
};
void *u64_map_get(const struct u64_map *map, uint64_t key);
void  u64_map_put(struct u64_map *map, uint64_t key, void *value);
void *u64_map_del(struct u64_map *map, uint64_t key);
void  u64_map_done(struct u64_map *map);
void *u64_map_next(const struct u64_map *map, size_t *i);
