/* SPDX-License-Identifier: Apache-2.0 */
/* map.c - two open-addressing maps, from ids and from numbers to pointers.
 *
 * Linear probing over a power of two of slots, at most three quarters full; an empty slot has a NULL value. A removal
 * shifts the rest of its cluster back, so there are no tombstones and a map that shrinks is as fast as one that never
 * grew. The two maps differ only in their key; MAP writes both, so that they cannot drift apart. */
#include "base/ids.h"
#include <stdlib.h>

static uint64_t uuid_hash(struct uuid key)
{
    return hash64(key.b, sizeof key.b);
}

static uint64_t u64_hash(uint64_t key)
{
    return hash64(&key, sizeof key);
}

static bool u64_eq(uint64_t a, uint64_t b)
{
    return a == b;
}

enum { CAP_FIRST = 16 };

#define MAP(map_t, slot_t, key_t, hash_of, equal)                                                        \
    struct slot_t {                                                                                      \
        key_t key;                                                                                       \
        void *value;                                                                                     \
    };                                                                                                   \
                                                                                                         \
    /* The slot of the key, or the empty slot where it belongs. The map has at least one empty slot. */  \
    static size_t map_t##_find(const struct map_t *map, key_t key)                                       \
    {                                                                                                    \
        size_t i = (size_t)hash_of(key) & (map->cap - 1);                                                \
        while (map->slots[i].value && !equal(map->slots[i].key, key))                                    \
            i = (i + 1) & (map->cap - 1);                                                                \
        return i;                                                                                        \
    }                                                                                                    \
                                                                                                         \
    static void map_t##_grow(struct map_t *map)                                                          \
    {                                                                                                    \
        struct map_t old = *map;                                                                         \
        map->cap = old.cap ? old.cap * 2 : CAP_FIRST;                                                    \
        map->slots = mem_alloc(map->cap * sizeof *map->slots);                                           \
        for (size_t i = 0; i < old.cap; i++)                                                             \
            if (old.slots[i].value)                                                                      \
                map->slots[map_t##_find(map, old.slots[i].key)] = old.slots[i];                          \
        free(old.slots);                                                                                 \
    }                                                                                                    \
                                                                                                         \
    void *map_t##_get(const struct map_t *map, key_t key)                                                \
    {                                                                                                    \
        return map->count ? map->slots[map_t##_find(map, key)].value : NULL;                             \
    }                                                                                                    \
                                                                                                         \
    void map_t##_put(struct map_t *map, key_t key, void *value)                                          \
    {                                                                                                    \
        assert(value);                                                                                   \
        if ((map->count + 1) * 4 > map->cap * 3)                                                         \
            map_t##_grow(map);                                                                           \
        struct slot_t *slot = &map->slots[map_t##_find(map, key)];                                       \
        map->count += slot->value == NULL;                                                               \
        *slot = (struct slot_t){ key, value };                                                           \
    }                                                                                                    \
                                                                                                         \
    /* Closes the hole: each follower in the cluster that may stand in the hole moves there. It may     \
     * not when its home lies behind the hole (cyclically), because a search for it starts there. */     \
    static void map_t##_close_hole(struct map_t *map, size_t hole)                                       \
    {                                                                                                    \
        size_t mask = map->cap - 1;                                                                      \
        for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {                    \
            size_t home = (size_t)hash_of(map->slots[i].key) & mask;                                     \
            if (((i - home) & mask) < ((i - hole) & mask))                                               \
                continue;                                                                                \
            map->slots[hole] = map->slots[i];                                                            \
            hole = i;                                                                                    \
        }                                                                                                \
        map->slots[hole].value = NULL;                                                                   \
    }                                                                                                    \
                                                                                                         \
    void *map_t##_del(struct map_t *map, key_t key)                                                      \
    {                                                                                                    \
        if (!map->count)                                                                                 \
            return NULL;                                                                                 \
        size_t i = map_t##_find(map, key);                                                               \
        void  *value = map->slots[i].value;                                                              \
        if (!value)                                                                                      \
            return NULL;                                                                                 \
        map_t##_close_hole(map, i);                                                                      \
        map->count--;                                                                                    \
        return value;                                                                                    \
    }                                                                                                    \
                                                                                                         \
    void map_t##_done(struct map_t *map)                                                                 \
    {                                                                                                    \
        free(map->slots);                                                                                \
        *map = (struct map_t){ 0 };                                                                      \
    }                                                                                                    \
                                                                                                         \
    void *map_t##_next(const struct map_t *map, size_t *i)                                               \
    {                                                                                                    \
        while (*i < map->cap) {                                                                          \
            void *value = map->slots[(*i)++].value;                                                      \
            if (value)                                                                                   \
                return value;                                                                            \
        }                                                                                                \
        return NULL;                                                                                     \
    }

MAP(uuid_map, uuid_slot, struct uuid, uuid_hash, uuid_eq)
MAP(u64_map, u64_slot, uint64_t, u64_hash, u64_eq)
