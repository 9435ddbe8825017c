/* SPDX-License-Identifier: Apache-2.0 */
/* env.h - the outside world as arguments: clocks and random numbers. Tests hand in a fake one. */
#pragma once
#include "base/span.h"
#include <stddef.h>
#include <stdint.h>

struct env {
    int64_t  (*wall_ms)(struct env *env);  /* Unix time in milliseconds */
    uint64_t (*mono_us)(struct env *env);  /* monotonic microseconds */
    void     (*random)(struct env *env, void *out, size_t n);
};

/* The real clocks and the system's random source. Valid for ever; thread-safe. */
struct env *env_real(void);

enum { TIME_TEXT = 24 };
/* RFC 3339, UTC, three digits, Z: "2031-04-05T06:07:08.009Z"; no NUL. Years 0000..9999, clamped. */
void time_format(int64_t wall_ms, char out[TIME_TEXT]);
/* Any RFC 3339 offset, or a bare date (00:00 UTC). false when it is not one. */
bool time_parse(struct span text, int64_t *ret_ms);
static inline void env_random_u64(struct env *env, uint64_t *ret)
{
    env->random(env, ret, sizeof *ret);
}
