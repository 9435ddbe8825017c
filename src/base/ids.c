/* SPDX-License-Identifier: Apache-2.0 */
/* ids.c - UUIDs, SHA-256 and the fast hash. See model.md 2 for which ids are minted and which derived. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/ids.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

/* ---- identifiers ---- */

bool uuid_is_nil(struct uuid id)
{
    return uuid_eq(id, (struct uuid){ { 0 } });
}

bool uuid_eq(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

static struct uuid uuid_stamp(struct uuid id, unsigned version)
{
    id.b[6] = (uint8_t)((id.b[6] & 0x0f) | version << 4);
    id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80);
    return id;
}

enum { COUNTER_MOST = 0xfff };

/* Moves the generator to the next (millisecond, counter). The counter starts somewhere in its lower half, so that there
 * is room for at least 2048 ids in a millisecond before time is borrowed from the next one. */
static void gen_advance(struct uuid_gen *gen, int64_t now_ms, uint16_t seed)
{
    if (now_ms > gen->last_ms) {
        gen->last_ms = now_ms;
        gen->counter = seed & (COUNTER_MOST >> 1);
    } else if (gen->counter < COUNTER_MOST) {
        gen->counter++;
    } else {
        gen->last_ms++;
        gen->counter = seed & (COUNTER_MOST >> 1);
    }
}

struct uuid uuid_mint(struct uuid_gen *gen, struct env *env)
{
    struct uuid id;
    uint8_t     random[10]; /* 8 for the id, 2 for the counter's start */
    env->random(env, random, sizeof random);
    gen_advance(gen, env->wall_ms(env), (uint16_t)(random[8] << 8 | random[9]));
    for (int i = 0; i < 6; i++)
        id.b[i] = (uint8_t)((uint64_t)gen->last_ms >> (40 - 8 * i));
    id.b[6] = (uint8_t)(gen->counter >> 8);
    id.b[7] = (uint8_t)gen->counter;
    memcpy(id.b + 8, random, 8);
    return uuid_stamp(id, 7);
}

struct uuid uuid_derive(struct uuid base, enum uuid_kind kind, uint64_t number)
{
    uint8_t input[25];
    memcpy(input, base.b, 16);
    input[16] = (uint8_t)kind;
    for (int i = 0; i < 8; i++)
        input[17 + i] = (uint8_t)(number >> (56 - 8 * i));
    struct sha256 digest = sha256_of(span_make(input, sizeof input));
    struct uuid   id;
    memcpy(id.b, digest.b, sizeof id.b);
    return uuid_stamp(id, 8);
}

static bool dash_before(unsigned byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(struct uuid id, char out[UUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < sizeof id.b; i++) {
        if (dash_before(i))
            *out++ = '-';
        *out++ = digits[id.b[i] >> 4];
        *out++ = digits[id.b[i] & 15];
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool uuid_parse(struct span text, struct uuid *ret)
{
    struct uuid id;
    const char *p = text.p;
    if (text.n != UUID_TEXT)
        return false;
    for (unsigned i = 0; i < sizeof id.b; i++, p += 2) {
        if (dash_before(i) && *p++ != '-')
            return false;
        int high = hex_digit(p[0]), low = hex_digit(p[1]);
        if (high < 0 || low < 0)
            return false;
        id.b[i] = (uint8_t)(high << 4 | low);
    }
    *ret = id;
    return true;
}

void buf_uuid(struct buf *buf, struct uuid id)
{
    buf_reserve(buf, UUID_TEXT);
    uuid_format(id, buf->p + buf->len);
    buf->len += UUID_TEXT;
}

/* ---- hashing ---- */

struct sha256 sha256_of(struct span s)
{
    /* The low-level calls on purpose: since OpenSSL 3 the one-shot fetches a provider, takes locks and allocates each time,
     * which was most of the cost of a derived id (four of them in each event that is shown). */
    struct sha256 digest;
    SHA256_CTX    context;
    SHA256_Init(&context);
    SHA256_Update(&context, s.n ? s.p : "", s.n);
    SHA256_Final(digest.b, &context);
    return digest;
}

struct sha256 hmac_sha256(struct span key, struct span text)
{
    struct sha256 digest;
    unsigned      n = sizeof digest.b;
    assert(key.n <= INT32_MAX);
    const void *made = HMAC(EVP_sha256(), key.n ? key.p : "", (int)key.n, (const unsigned char *)(text.n ? text.p : ""), text.n,
                            digest.b, &n);
    assert(made && n == sizeof digest.b);
    return digest;
}

void random_text(struct env *env, const char *prefix, size_t bytes, char *out)
{
    static const char digits[] = "0123456789abcdef";
    size_t            n = strlen(prefix);
    memcpy(out, prefix, n);
    /* The bytes go into the upper half of their own text; hex is written from the front and never overtakes them. */
    uint8_t *random = (uint8_t *)out + n + bytes;
    env->random(env, random, bytes);
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = random[i];
        out[n++] = digits[byte >> 4];
        out[n++] = digits[byte & 15];
    }
    out[n] = '\0';
}

/* Multiply to 128 bits and fold: every bit of a and b reaches every bit of the result. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

uint64_t hash64(const void *p, size_t n)
{
    static const uint64_t odd0 = 0x9e3779b97f4a7c15, odd1 = 0xd6e8feb86659fd93;
    const uint8_t        *bytes = p;
    uint64_t              h = mix(n ^ odd0, odd1);
    for (; n > 16; n -= 16, bytes += 16)
        h = mix(load(bytes, 8) ^ odd0 ^ h, load(bytes + 8, 8) ^ odd1);
    if (n > 8)
        h = mix(load(bytes, 8) ^ odd0 ^ h, load(bytes + 8, n - 8) ^ odd1);
    else if (n > 0)
        h = mix(load(bytes, n) ^ odd0 ^ h, odd1);
    return mix(h ^ odd0, odd1);
}

bool sha256_parse(struct span hex, struct sha256 *ret)
{
    if (hex.n != 2 * sizeof ret->b)
        return false;
    for (size_t i = 0; i < sizeof ret->b; i++) {
        int high = hex_digit(hex.p[2 * i]), low = hex_digit(hex.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret->b[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}
