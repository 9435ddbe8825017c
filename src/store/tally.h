/* SPDX-License-Identifier: Apache-2.0 */
/* tally.h - how often each number was seen: a sum, a mean and an exact percentile of very many numbers in one pass.
 *
 * Memory grows with the numbers that differ, not with how many there are: latencies in milliseconds repeat. */
#pragma once
#include "base/ids.h"
#include "base/mem.h"

/* A zeroed struct is an empty tally. */
struct tally {
    struct u64_map counts;
    int64_t        n, sum; /* of all that was added; both below 2^63 */
};

/* `times` > 0. What the tally remembers lives in the arena. */
void    tally_add(struct tally *tally, struct arena *arena, int64_t value, int64_t times);
/* Nearest rank: of n numbers in order the one at ceil(0.95 n), counted from 1; 0 of none. */
int64_t tally_p95(const struct tally *tally);
void    tally_done(struct tally *tally); /* an empty one again */
