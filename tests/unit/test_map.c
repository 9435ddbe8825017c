/* SPDX-License-Identifier: Apache-2.0 */
/* The maps of base/ids.h against a plain array, and their behaviour with the keys that the engine really has. */
#include "unit.h"
#include "base/ids.h"
#include <stdlib.h>

enum { KEYS = 600, STEPS = 200000 };

static int things[KEYS]; /* only addresses matter */

static uint64_t number_of(size_t i)
{
    /* Sequences, multiples of large powers of two, and the ends of the range. */
    switch (i % 3) {
    case 0: return i;
    case 1: return (uint64_t)i << 40;
    default: return UINT64_MAX - i;
    }
}

static void u64_map_agrees_with_an_array(void **state)
{
    struct u64_map map = { 0 };
    void          *want[KEYS] = { 0 };
    size_t         count = 0;
    uint64_t       seed = 11;
    assert_null(u64_map_get(&map, 0));
    assert_null(u64_map_del(&map, 0));
    for (int step = 0; step < STEPS; step++) {
        uint64_t r = next_random(&seed);
        /* The map breathes: for a while mostly puts, then mostly removals. */
        bool   put = (r >> 32) % 10 < (step / 5000 % 2 ? 3u : 7u);
        size_t i = r % KEYS;
        if (put) {
            void *value = &things[next_random(&seed) % KEYS];
            u64_map_put(&map, number_of(i), value);
            count += want[i] == NULL;
            want[i] = value;
        } else {
            assert_ptr_equal(u64_map_del(&map, number_of(i)), want[i]);
            count -= want[i] != NULL;
            want[i] = NULL;
        }
        assert_int_equal(map.count, count);
        size_t probe = next_random(&seed) % KEYS;
        assert_ptr_equal(u64_map_get(&map, number_of(probe)), want[probe]);
        if (step % 1000 == 0)
            for (size_t k = 0; k < KEYS; k++)
                assert_ptr_equal(u64_map_get(&map, number_of(k)), want[k]);
    }
    u64_map_done(&map);
    assert_int_equal(map.count, 0);
    assert_null(u64_map_get(&map, 1));
}

static void uuid_map_agrees_with_an_array(void **state)
{
    struct uuid_map map = { 0 };
    struct uuid_gen gen = { 0 };
    struct uuid     keys[KEYS];
    void           *want[KEYS] = { 0 };
    uint64_t        seed = 12;
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = uuid_mint(&gen, env_real());
    for (int step = 0; step < STEPS; step++) {
        uint64_t r = next_random(&seed);
        size_t   i = r % KEYS;
        if ((r >> 32) % 10 < (step / 5000 % 2 ? 3u : 7u))
            uuid_map_put(&map, keys[i], want[i] = &things[i]);
        else {
            assert_ptr_equal(uuid_map_del(&map, keys[i]), want[i]);
            want[i] = NULL;
        }
        size_t probe = next_random(&seed) % KEYS;
        assert_ptr_equal(uuid_map_get(&map, keys[probe]), want[probe]);
    }
    uuid_map_done(&map);
}

static void iteration_sees_each_value_once(void **state)
{
    struct u64_map map = { 0 };
    size_t         at = 0;
    int            seen[KEYS] = { 0 };
    assert_null(u64_map_next(&map, &at));
    for (size_t i = 0; i < KEYS; i++)
        u64_map_put(&map, i, &things[i]);
    for (size_t i = 0; i < KEYS; i += 2)
        u64_map_del(&map, i);
    int *thing;
    for (at = 0; (thing = u64_map_next(&map, &at));)
        seen[thing - things]++;
    for (size_t i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], i % 2);
    u64_map_done(&map);
}

/* Of keys into twice as many buckets, about 21 % find theirs taken. Structured keys must not do worse. */
static void structured_keys_spread_like_random_ones(void **state)
{
    enum { N = 1 << 14 };
    static uint8_t  used[3][2 * N];
    size_t          taken[3] = { 0 };
    struct uuid_gen gen = { 0 };
    for (uint64_t i = 0; i < N; i++) {
        struct uuid id = uuid_mint(&gen, env_real());
        uint64_t    multiple = i << 32;
        uint64_t    hashes[3] = { hash64(&i, 8), hash64(&multiple, 8), hash64(&id, 16) };
        for (int k = 0; k < 3; k++) {
            uint8_t *slot = &used[k][hashes[k] & (2 * N - 1)];
            taken[k] += *slot;
            *slot = 1;
        }
    }
    for (int k = 0; k < 3; k++)
        assert_true(taken[k] > N / 10 && taken[k] < N * 24 / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(u64_map_agrees_with_an_array),
        cmocka_unit_test(uuid_map_agrees_with_an_array),
        cmocka_unit_test(iteration_sees_each_value_once),
        cmocka_unit_test(structured_keys_spread_like_random_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
