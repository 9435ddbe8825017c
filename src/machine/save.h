/* SPDX-License-Identifier: Apache-2.0 */
/* save.h - members of snapshots, for machines that leave out what is 0, false or empty (machine.h, save and load). */
#pragma once
#include "base/json.h"

static inline void save_number(struct jw *w, const char *name, uint64_t n)
{
    if (n == 0)
        return;
    jw_key(w, name);
    jw_u64(w, n);
}

static inline void save_flag(struct jw *w, const char *name, bool flag)
{
    if (!flag)
        return;
    jw_key(w, name);
    jw_bool(w, true);
}

static inline void save_json(struct jw *w, const char *name, struct span json)
{
    if (!json.n)
        return;
    jw_key(w, name);
    jw_raw(w, json);
}

/* Absent: 0. False when it is anything but a number up to `most`, which is at most INT64_MAX. */
static inline bool load_number(struct jv object, const char *name, uint64_t most, uint64_t *ret)
{
    struct jv v = jv_get(object, name);
    int64_t n = 0;
    if (!jv_is(v, JSON_NONE) && (!jv_i64(v, &n) || n < 0 || (uint64_t)n > most))
        return false;
    *ret = (uint64_t)n;
    return true;
}

static inline bool load_u32(struct jv object, const char *name, uint32_t *ret)
{
    uint64_t n;
    if (!load_number(object, name, UINT32_MAX, &n))
        return false;
    *ret = (uint32_t)n;
    return true;
}

/* The index of a word; false when it is none of them. */
static inline bool load_word(struct jv v, const char *const *words, uint32_t count, uint32_t *ret)
{
    for (*ret = 0; *ret < count; ++*ret)
        if (jv_str_eq(v, words[*ret]))
            return true;
    return false;
}

/* JSON text in the arena, or empty. */
static inline struct span load_json(struct jv object, const char *name, struct arena *arena)
{
    struct jv v = jv_get(object, name);
    return jv_is(v, JSON_NONE) ? SPAN_NONE : arena_copy(arena, jv_raw(v));
}
