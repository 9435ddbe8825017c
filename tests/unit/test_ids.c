/* SPDX-License-Identifier: Apache-2.0 */
/* Promises of base/ids.h about ids and hashes; the maps have test_map.c. */
#include "unit.h"
#include "base/ids.h"
#include <stdio.h>

/* A clock that stands where it is put, and random bytes that are all the same. */
struct fake_env {
    struct env base;
    int64_t    wall;
    uint8_t    byte;
};

static int64_t fake_wall(struct env *env)
{
    return CONTAINER(env, struct fake_env, base)->wall;
}

static uint64_t fake_mono(struct env *env)
{
    return 0;
}

static void fake_random(struct env *env, void *out, size_t n)
{
    memset(out, CONTAINER(env, struct fake_env, base)->byte, n);
}

static struct fake_env fake(int64_t wall, uint8_t byte)
{
    return (struct fake_env){ { fake_wall, fake_mono, fake_random }, wall, byte };
}

static int64_t ms_of(struct uuid id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id.b[i];
    return ms;
}

static void minted_ids_have_version_variant_and_time(void **state)
{
    struct fake_env env = fake(0x0123456789ab, 0xff);
    struct uuid_gen gen = { 0 };
    char            text[UUID_TEXT];
    uuid_format(uuid_mint(&gen, &env.base), text);
    assert_memory_equal(text, "01234567-89ab-77ff-bfff-ffffffffffff", UUID_TEXT);
    env.byte = 0;
    uuid_format(uuid_mint(&gen, &env.base), text);
    assert_memory_equal(text, "01234567-89ab-7800-8000-000000000000", UUID_TEXT);
}

static void minted_ids_strictly_increase(void **state)
{
    struct fake_env env = fake(1000000, 0xff);
    struct uuid_gen gen = { 0 };
    struct uuid     last = uuid_mint(&gen, &env.base);
    uint64_t        seed = 1;
    for (int i = 0; i < 100000; i++) {
        env.wall += (int64_t)(next_random(&seed) % 5) - 2; /* stands, advances, steps back */
        if (i == 50000)
            env.wall -= 3600000;
        env.byte = (uint8_t)next_random(&seed);
        struct uuid id = uuid_mint(&gen, &env.base);
        assert_true(memcmp(last.b, id.b, 16) < 0);
        assert_int_equal(id.b[6] >> 4, 7);
        assert_int_equal(id.b[8] >> 6, 2);
        last = id;
    }
}

static void a_full_millisecond_borrows_from_the_next(void **state)
{
    struct fake_env env = fake(5000, 0);
    struct uuid_gen gen = { 0 };
    for (int i = 0; i < 4096; i++)
        assert_int_equal(ms_of(uuid_mint(&gen, &env.base)), 5000);
    assert_int_equal(ms_of(uuid_mint(&gen, &env.base)), 5001);
    env.wall = 5001;
    assert_int_equal(ms_of(uuid_mint(&gen, &env.base)), 5001);
    env.wall = 5002;
    assert_int_equal(ms_of(uuid_mint(&gen, &env.base)), 5002);
}

static void real_ids_differ(void **state)
{
    struct uuid_gen a = { 0 }, b = { 0 };
    struct uuid     last = { { 0 } };
    for (int i = 0; i < 2000; i++) {
        struct uuid x = uuid_mint(&a, env_real()), y = uuid_mint(&b, env_real());
        assert_false(uuid_eq(x, y));
        assert_true(memcmp(x.b + 8, y.b + 8, 8) != 0);
        assert_true(memcmp(last.b, x.b, 16) < 0);
        last = x;
    }
    int64_t now = env_real()->wall_ms(env_real());
    assert_true(ms_of(last) > now - 60000 && ms_of(last) < now + 60000);
}

static void derived_ids_are_fixed_for_ever(void **state)
{
    /* SHA-256 of 00..0f, 01, 0000000000000007; computed independently. */
    struct uuid base;
    for (int i = 0; i < 16; i++)
        base.b[i] = (uint8_t)i;
    char text[UUID_TEXT];
    uuid_format(uuid_derive(base, UUID_EVENT, 7), text);
    assert_memory_equal(text, "e7c4dd70-1020-87ca-a904-b54c2a30fea2", UUID_TEXT);
    assert_false(uuid_eq(uuid_derive(base, UUID_EVENT, 7), uuid_derive(base, UUID_EVENT, 8)));
    assert_false(uuid_eq(uuid_derive(base, UUID_EVENT, 7), uuid_derive(base, UUID_OPERATION, 7)));
}

static void text_comes_back(void **state)
{
    struct uuid id, same;
    struct buf  buf = { 0 };
    assert_true(uuid_parse(SPAN("0190A2b3-C4d5-7e6f-8091-a2B3c4D5e6F7"), &id));
    buf_uuid(&buf, id);
    assert_true(span_is(buf_view(&buf), "0190a2b3-c4d5-7e6f-8091-a2b3c4d5e6f7"));
    assert_true(uuid_parse(buf_view(&buf), &same));
    assert_true(uuid_eq(id, same));
    assert_false(uuid_is_nil(id));
    assert_true(uuid_parse(SPAN("00000000-0000-0000-0000-000000000000"), &id));
    assert_true(uuid_is_nil(id));
    buf_done(&buf);
}

static void other_texts_are_refused(void **state)
{
    static const char *const bad[] = {
        "", "0190a2b3c4d57e6f8091a2b3c4d5e6f7", "0190a2b3-c4d5-7e6f-8091-a2b3c4d5e6f",
        "0190a2b3-c4d5-7e6f-8091-a2b3c4d5e6f70",
        "{190a2b3-c4d5-7e6f-8091-a2b3c4d5e6f}", "0190a2b3-c4d5-7e6f-8091-a2b3c4d5e6g7",
        "0190a2b3+c4d5-7e6f-8091-a2b3c4d5e6f7",
        "0190a2b-3c4d5-7e6f-8091-a2b3c4d5e6f7", " 190a2b3-c4d5-7e6f-8091-a2b3c4d5e6f7",
        "0190a2b3-c4d5-7e6f-8091-a2b3c4d5e6@7",
    };
    struct uuid id;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(uuid_parse(span_of(bad[i]), &id));
}

static void sha256_is_the_standard_one(void **state)
{
    struct buf    buf = { 0 };
    struct sha256 digest = sha256_of(SPAN("abc"));
    buf_hex(&buf, digest.b, sizeof digest.b);
    digest = sha256_of(SPAN_NONE);
    buf_hex(&buf, digest.b, sizeof digest.b);
    assert_true(span_is(buf_view(&buf), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
                                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    buf_done(&buf);
}

static void random_text_is_hex_behind_its_prefix(void **state)
{
    char            text[3 + 2 * 24 + 1];
    struct fake_env env = fake(0, 0xa5);
    random_text(&env.base, "ar_", 4, text);
    assert_string_equal(text, "ar_a5a5a5a5");
    char again[sizeof text];
    random_text(env_real(), "ar_", 24, text);
    random_text(env_real(), "ar_", 24, again);
    assert_int_equal(strlen(text), sizeof text - 1);
    assert_int_equal(strspn(text + 3, "0123456789abcdef"), 48);
    assert_string_not_equal(text, again);
    random_text(env_real(), "x", 0, text);
    assert_string_equal(text, "x");
}

static void each_byte_of_random_text_shows(void **state)
{
    /* The bytes are expanded in place; a wrong order would read what it has just written. */
    struct fake_env env = fake(0, 0);
    for (int byte = 0; byte < 256; byte++) {
        char text[2 * 9 + 1], want[3];
        env.byte = (uint8_t)byte;
        random_text(&env.base, "", 9, text);
        snprintf(want, sizeof want, "%02x", (unsigned)byte);
        for (int i = 0; i < 9; i++)
            assert_memory_equal(text + 2 * i, want, 2);
    }
}

static void random_large_and_small(void **state)
{
    static uint8_t a[10000], b[10000];
    env_real()->random(env_real(), a, sizeof a);
    for (size_t i = 0; i < sizeof b; i += 100)
        env_real()->random(env_real(), b + i, 100);
    size_t zeros = 0;
    for (size_t i = 0; i < sizeof a; i++)
        zeros += (a[i] == 0) + (b[i] == 0);
    assert_true(zeros > 20 && zeros < 300); /* 78 on average */
    assert_true(memcmp(a, b, sizeof a) != 0);
}

/* Each output bit flips for about half of the single-bit changes of the input. */
static void hash_depends_on_every_bit(void **state)
{
    uint8_t  key[40];
    uint64_t seed = 3;
    for (size_t n = 1; n <= sizeof key; n++) {
        for (size_t i = 0; i < n; i++)
            key[i] = (uint8_t)next_random(&seed);
        uint64_t before = hash64(key, n), flips = 0;
        for (size_t bit = 0; bit < n * 8; bit++) {
            key[bit / 8] ^= (uint8_t)(1 << bit % 8);
            uint64_t after = hash64(key, n);
            assert_true(after != before);
            flips += (uint64_t)__builtin_popcountll(before ^ after);
            key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(flips > n * 8 * 24 && flips < n * 8 * 40);
    }
    assert_true(hash64("", 0) != hash64("\0", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minted_ids_have_version_variant_and_time),
        cmocka_unit_test(minted_ids_strictly_increase),
        cmocka_unit_test(a_full_millisecond_borrows_from_the_next),
        cmocka_unit_test(real_ids_differ),
        cmocka_unit_test(derived_ids_are_fixed_for_ever),
        cmocka_unit_test(text_comes_back),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(sha256_is_the_standard_one),
        cmocka_unit_test(random_text_is_hex_behind_its_prefix),
        cmocka_unit_test(each_byte_of_random_text_shows),
        cmocka_unit_test(random_large_and_small),
        cmocka_unit_test(hash_depends_on_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
