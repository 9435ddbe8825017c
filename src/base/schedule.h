/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h - "0 9 * * 1-5": the five fields of a cron line, and when they are due in a time zone.
 *
 * Minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 (0 and 7 are Sunday) or SUN-SAT. A field is
 * a list, with commas, of `*`, a number or a range, each with an optional step. When both days are restricted, either one
 * will do, as in cron. A local minute that is skipped (clocks go forward) is not due; one that comes twice is due once,
 * the first time. */
#pragma once
#include "base/tz.h"

struct schedule {
    uint64_t minutes;
    uint32_t hours, days, months, weekdays; /* bit i: the value i */
    bool     any_day, any_weekday;          /* the field is `*` */
};

/* false: *ret_why says what is wrong, in words for people (static). */
bool schedule_parse(struct span text, struct schedule *ret, const char **ret_why);
/* The first due instant behind `after_s`, a whole minute. false: never (30 February), or not within some years. */
bool schedule_next(const struct schedule *schedule, const struct tz *tz, int64_t after_s, int64_t *ret_s);
/* The latest due instant in (after_s, until_s]; false: none. */
bool schedule_latest(const struct schedule *schedule, const struct tz *tz, int64_t after_s, int64_t until_s, int64_t *ret_s);
