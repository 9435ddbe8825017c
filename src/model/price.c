/* SPDX-License-Identifier: Apache-2.0 */
/* price.c - what a model call costs, exactly.
 *
 * A price with at most 6 decimals in USD per million tokens is a whole number of 10^-12 USD per token, so a cost is a sum of
 * products of integers, and the only thing that can go wrong is its size. */
#include "model/price.h"
#include "base/fields.h"
#include <inttypes.h>
#include <stdlib.h>

#define PICO_PER_USD INT64_C(1000000000000)
#define PRICE_MAX    INT64_C(1000000000000) /* pico USD per token: a million USD per million tokens */

enum bucket { INPUT, CACHE_READ, CACHE_WRITE, OUTPUT, REASONING, BUCKET_COUNT };

static const char *const bucket_names[BUCKET_COUNT] = { "input", "cache_read", "cache_write", "output", "reasoning" };

struct price {
    struct price *next;
    struct span   name; /* "PROVIDER/MODEL" */
    bool          none; /* an entry of the list was taken away */
    int64_t       per_token[BUCKET_COUNT]; /* 10^-12 USD; -1: unknown */
};

struct prices {
    struct arena  arena;
    struct price *configured, *listed;
};

/* ---- decimal text ---- */

void usd_text(int64_t pico, struct buf *out)
{
    uint64_t size = pico < 0 ? 0 - (uint64_t)pico : (uint64_t)pico, rest = size % PICO_PER_USD;
    buf_printf(out, "%s%" PRIu64, pico < 0 ? "-" : "", size / PICO_PER_USD);
    if (rest == 0)
        return;
    buf_printf(out, ".%012" PRIu64, rest);
    while (out->p[out->len - 1] == '0')
        out->len--;
}

/* Digits, and behind a point at most `decimals` more; the value times 10^decimals. */
static bool read_decimal(struct span text, unsigned decimals, uint64_t *ret)
{
    uint64_t value = 0;
    size_t   at = 0, whole;
    unsigned places = 0;
    while (at < text.n && text.p[at] >= '0' && text.p[at] <= '9')
        if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (uint64_t)(text.p[at++] - '0'), &value))
            return false;
    whole = at;
    if (whole == 0)
        return false;
    if (at < text.n && text.p[at] == '.')
        for (at++; at < text.n && text.p[at] >= '0' && text.p[at] <= '9' && places < decimals; places++)
            if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (uint64_t)(text.p[at++] - '0'), &value))
                return false;
    if (at != text.n || (at > whole && places == 0))
        return false;
    for (; places < decimals; places++)
        if (__builtin_mul_overflow(value, 10u, &value))
            return false;
    *ret = value;
    return true;
}

enum err usd_parse(struct span text, int64_t *ret_pico)
{
    uint64_t size;
    bool     minus = text.n && text.p[0] == '-';
    if (!read_decimal(minus ? span_make(text.p + 1, text.n - 1) : text, 12, &size) || size > (uint64_t)INT64_MAX + minus)
        return ERR_VALIDATION;
    *ret_pico = minus ? (int64_t)(0 - size) : (int64_t)size;
    return ERR_OK;
}

/* ---- the table ---- */

static bool read_price(struct span text, int64_t *ret)
{
    uint64_t value;
    if (!read_decimal(text, 6, &value) || value > (uint64_t)PRICE_MAX)
        return false;
    *ret = (int64_t)value;
    return true;
}

static struct price *price_new(struct prices *prices, struct price **list, struct span name)
{
    struct price *price = ARENA_NEW(&prices->arena, struct price);
    price->name = arena_copy(&prices->arena, name);
    for (int i = 0; i < BUCKET_COUNT; i++)
        price->per_token[i] = -1;
    price->next = *list;
    *list = price;
    return price;
}

static void add_listed(struct prices *prices, const struct price_line *line)
{
    struct price *price = price_new(prices, &prices->listed, span_of(line->name));
    const char   *texts[BUCKET_COUNT] = { line->input, line->cache_read, line->cache_write, line->output, line->output };
    for (int i = 0; i < BUCKET_COUNT; i++) {
        bool fine = !texts[i] || read_price(span_of(texts[i]), &price->per_token[i]);
        assert(fine);
    }
}

static enum err read_member(struct price *price, struct jv member, enum bucket bucket, const char *pointer, struct arena *arena,
                            struct error *error)
{
    struct span text = jv_is(member, JSON_NUMBER) ? jv_raw(member) : jv_string(member, arena);
    if (jv_is(member, JSON_NONE) || jv_is(member, JSON_NULL))
        return ERR_OK;
    if (!read_price(text, &price->per_token[bucket]))
        return field_error(error, pointer, span_of(bucket_names[bucket]), "must be USD per million tokens, as decimal text like "
                           "\"2.50\" with at most 6 decimals, at most 1000000");
    return ERR_OK;
}

struct price_members {
    struct jv buckets[BUCKET_COUNT];
};
static const struct field price_fields[BUCKET_COUNT] = {
    [INPUT]       = { "input",       FIELD_ANY, offsetof(struct price_members, buckets[INPUT]),       true,  0, 0 },
    [CACHE_READ]  = { "cache_read",  FIELD_ANY, offsetof(struct price_members, buckets[CACHE_READ]),  false, 0, 0 },
    [CACHE_WRITE] = { "cache_write", FIELD_ANY, offsetof(struct price_members, buckets[CACHE_WRITE]), false, 0, 0 },
    [OUTPUT]      = { "output",      FIELD_ANY, offsetof(struct price_members, buckets[OUTPUT]),      true,  0, 0 },
    [REASONING]   = { "reasoning",   FIELD_ANY, offsetof(struct price_members, buckets[REASONING]),   false, 0, 0 },
};

static enum err add_configured(struct prices *prices, struct span name, struct jv config, struct error *error)
{
    struct price_members want = { 0 };
    struct buf           pointer = { 0 };
    enum err             err = ERR_OK;
    const char          *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
    if (!slash || slash == name.p || slash + 1 == name.p + name.n || name.n > 512)
        return field_error(error, "/prices", name, "must be PROVIDER/MODEL");
    struct price *price = price_new(prices, &prices->configured, name);
    if (jv_is(config, JSON_NULL)) {
        price->none = true;
        return ERR_OK;
    }
    buf_printf(&pointer, "/prices");
    json_pointer_push(&pointer, name);
    buf_byte(&pointer, 0);
    err = fields_read(config, pointer.p, price_fields, ARRAY_LEN(price_fields), &prices->arena, &want, error);
    for (int i = 0; i < BUCKET_COUNT && !err; i++)
        err = read_member(price, want.buckets[i], (enum bucket)i, pointer.p, &prices->arena, error);
    for (int i = 0; i < BUCKET_COUNT && !err; i++)
        if (price_fields[i].required && price->per_token[i] < 0)
            err = field_error(error, pointer.p, span_of(price_fields[i].name), "is required");
    if (price->per_token[REASONING] < 0)
        price->per_token[REASONING] = price->per_token[OUTPUT];
    buf_done(&pointer);
    return err;
}

enum err prices_new(struct jv config, struct prices **ret, struct error *error)
{
    struct prices *prices = mem_alloc(sizeof *prices);
    enum err       err = ERR_OK;
    for (const struct price_line *line = price_table; line->name; line++)
        add_listed(prices, line);
    if (jv_is(config, JSON_OBJECT)) {
        for (struct jv_iter it = jv_iter(config); !err && jv_step(&it);)
            err = add_configured(prices, jv_string(it.name, &prices->arena), it.value, error);
    } else if (!jv_is(config, JSON_NONE) && !jv_is(config, JSON_NULL)) {
        err = error_set(error, ERR_VALIDATION, "/prices", "prices: must be an object");
    }
    if (err) {
        prices_free(prices);
        return err;
    }
    *ret = prices;
    return ERR_OK;
}

void prices_free(struct prices *prices)
{
    if (!prices)
        return;
    arena_done(&prices->arena);
    free(prices);
}

static bool is_named(const struct price *price, struct span provider, struct span model)
{
    return price->name.n == provider.n + 1 + model.n && price->name.p[provider.n] == '/' &&
           span_eq(span_make(price->name.p, provider.n), provider) && span_eq(span_make(price->name.p + provider.n + 1, model.n), model);
}

static const struct price *find_in(const struct price *list, struct span provider, struct span model)
{
    while (list && !is_named(list, provider, model))
        list = list->next;
    return list;
}

/* What is configured wins, the more exact name first. */
static const struct price *price_find(const struct prices *prices, struct span provider, struct span model)
{
    const struct price *price = find_in(prices->configured, provider, model);
    if (!price)
        price = find_in(prices->configured, provider, SPAN("*"));
    if (!price)
        price = find_in(prices->listed, provider, model);
    return price && !price->none ? price : NULL;
}

/* ---- costs ---- */

/* false: unknown, or it does not fit. */
static bool add_cost(int64_t per_token, uint64_t tokens, int64_t *sum)
{
    int64_t cost;
    if (tokens == 0)
        return true;
    return per_token >= 0 && !__builtin_mul_overflow(per_token, tokens, &cost) && !__builtin_add_overflow(*sum, cost, sum);
}

/* Tokens by bucket; from the totals alone when there are no buckets. false: this is no usage. */
static bool read_usage(struct jv usage, uint64_t tokens[BUCKET_COUNT])
{
    struct jv   buckets = jv_get(usage, "buckets");
    bool        split = jv_is(buckets, JSON_OBJECT);
    int64_t     n;
    const char *totals[BUCKET_COUNT] = { "input_tokens", NULL, NULL, "output_tokens", NULL };
    for (int i = 0; i < BUCKET_COUNT; i++) {
        struct jv value = split ? jv_get(buckets, bucket_names[i]) : totals[i] ? jv_get(usage, totals[i]) : (struct jv){ 0 };
        bool      required = totals[i] != NULL;
        tokens[i] = 0;
        if (jv_is(value, JSON_NONE) && !required)
            continue;
        if (!jv_i64(value, &n) || n < 0)
            return false;
        tokens[i] = (uint64_t)n;
    }
    return true;
}

bool price_of(const struct prices *prices, struct span provider, struct span model, struct jv usage, int64_t *ret_pico)
{
    const struct price *price = price_find(prices, provider, model);
    uint64_t            tokens[BUCKET_COUNT];
    int64_t             sum = 0;
    if (!price || !read_usage(usage, tokens))
        return false;
    for (int i = 0; i < BUCKET_COUNT; i++)
        if (!add_cost(price->per_token[i], tokens[i], &sum))
            return false;
    *ret_pico = sum;
    return true;
}

static int64_t dearest(const struct price *price, enum bucket from, enum bucket to)
{
    int64_t most = -1;
    for (int i = (int)from; i <= (int)to; i++)
        most = price->per_token[i] > most ? price->per_token[i] : most;
    return most;
}

bool price_bound(const struct prices *prices, struct span provider, struct span model, uint64_t input, uint64_t max_output,
                 int64_t *ret_pico)
{
    const struct price *price = price_find(prices, provider, model);
    int64_t             sum = 0;
    if (!price || !add_cost(dearest(price, INPUT, CACHE_WRITE), input, &sum) ||
        !add_cost(dearest(price, OUTPUT, REASONING), max_output, &sum))
        return false;
    *ret_pico = sum;
    return true;
}
