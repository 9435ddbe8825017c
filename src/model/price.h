/* SPDX-License-Identifier: Apache-2.0 */
/* price.h - what a model call costs: a price table as data, exact decimal arithmetic in 10^-12 USD (model.md 9).
 *
 * The table is the list of price_table.c, for providers that are named `openai` and `anthropic`, and "prices" of --config FILE
 * on top of it: {"PROVIDER/MODEL": {"input", "cache_read"?, "cache_write"?, "output", "reasoning"?}} with prices as decimal
 * text (or a plain number), USD per million tokens, at most 6 decimals, at most 1000000. MODEL may be `*`: every model of the
 * provider that has no entry of its own. `reasoning` is `output` unless said. null takes an entry of the list away.
 *
 * A model that has no price costs an unknown amount, never 0. So does a call that used a bucket without a price, and one whose
 * cost does not fit an int64 (9.2 million USD). */
#pragma once
#include "base/json.h"

struct prices;
enum { PRICE_UNKNOWN = 0, PRICE_KNOWN = 1 };

/* One line of the list that is compiled in; NULL: not told. */
struct price_line {
    const char *name; /* "PROVIDER/MODEL" */
    const char *input, *cache_read, *cache_write, *output;
};
extern const struct price_line price_table[]; /* ends with a name NULL */
extern const char              price_table_date[]; /* "2026-06": when the list was checked */

/* `config`: the value of "prices", or absent. ERR_VALIDATION names the member. */
enum err prices_new(struct jv config, struct prices **ret, struct error *error);
void     prices_free(struct prices *prices); /* accepts NULL */
/* `usage`: of a model's answer (model.h), its totals alone will do; absent: unknown. Returns true and *ret_pico when all
 * buckets in use have a price. */
bool     price_of(const struct prices *prices, struct span provider, struct span model, struct jv usage, int64_t *ret_pico);
/* At most this much for a request of `input` tokens that may give `max_output` tokens, whatever the cache does: what a budget
 * reserves. */
bool     price_bound(const struct prices *prices, struct span provider, struct span model, uint64_t input, uint64_t max_output,
                     int64_t *ret_pico);
/* Decimal text of USD without trailing zeros, at least "0": "0.00123". And back: digits, a point and at most 12 decimals, a
 * minus in front; ERR_VALIDATION when it is no such text or does not fit. */
void     usd_text(int64_t pico, struct buf *out);
enum err usd_parse(struct span text, int64_t *ret_pico);
