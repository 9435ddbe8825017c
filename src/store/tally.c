/* SPDX-License-Identifier: Apache-2.0 */
/* tally.c - numbers and how often they were seen. */
#include "store/tally.h"
#include <stdlib.h>

struct seen {
    int64_t value, times;
};

void tally_add(struct tally *tally, struct arena *arena, int64_t value, int64_t times)
{
    assert(times > 0);
    struct seen *seen = u64_map_get(&tally->counts, (uint64_t)value);
    if (!seen) {
        seen = ARENA_NEW(arena, struct seen);
        seen->value = value;
        u64_map_put(&tally->counts, (uint64_t)value, seen);
    }
    seen->times += times;
    tally->n += times;
    tally->sum += value * times;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = ((const struct seen *)a)->value, y = ((const struct seen *)b)->value;
    return (x > y) - (x < y);
}

int64_t tally_p95(const struct tally *tally)
{
    if (!tally->n)
        return 0;
    struct seen *sorted = mem_alloc(tally->counts.count * sizeof *sorted), *seen = NULL;
    size_t       count = 0, i = 0;
    while ((seen = u64_map_next(&tally->counts, &i)))
        sorted[count++] = *seen;
    qsort(sorted, count, sizeof *sorted, by_value);
    int64_t rank = tally->n - tally->n / 20; /* ceil(0.95 n) without its product */
    for (i = 0; rank > sorted[i].times; i++)
        rank -= sorted[i].times;
    int64_t p95 = sorted[i].value;
    free(sorted);
    return p95;
}

void tally_done(struct tally *tally)
{
    u64_map_done(&tally->counts);
    *tally = (struct tally){ 0 };
}
