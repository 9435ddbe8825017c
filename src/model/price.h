/* SPDX-License-Identifier: Apache-2.0 */
/* price.h - what a model call costs: a price table as data, exact decimal arithmetic in 10^-12 USD (model.md 9).
 *
 * The table is data/prices.json, compiled in, and "prices" of --config FILE on top of it: {"PROVIDER/MODEL": {"input", "cache_read"?,
 * "cache_write"?, "output", "reasoning"?}} with prices as decimal text, USD per million tokens. A model that has no price costs
 * an unknown amount, never 0. */
#pragma once
#include "base/json.h"

struct prices;
enum { PRICE_UNKNOWN = 0, PRICE_KNOWN = 1 };

enum err prices_new(struct jv config, struct prices **ret, struct error *error);
void     prices_free(struct prices *prices);
/* `usage`: of a model's answer (model.h); absent: unknown. Returns true and *ret_pico when all buckets in use have a price. */
bool     price_of(const struct prices *prices, struct span provider, struct span model, struct jv usage, int64_t *ret_pico);
/* At most this much for a request that may give `max_output` tokens for `input` tokens: what a budget reserves. */
bool     price_bound(const struct prices *prices, struct span provider, struct span model, uint64_t input, uint64_t max_output,
                     int64_t *ret_pico);
/* Decimal text of USD without trailing zeros, at least "0": "0.00123". And back; ERR_VALIDATION when it is no such text. */
void     usd_text(int64_t pico, struct buf *out);
enum err usd_parse(struct span text, int64_t *ret_pico);
