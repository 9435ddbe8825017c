/* SPDX-License-Identifier: Apache-2.0 */
/* aggregate.h - what is counted, summed and ranked over the rows of figures (table stat), in the database itself.
 *
 * Each call reads one range of stat's key: a workspace, a kind, a window of time. What it costs depends on what lies in the
 * window and not on what else there is. All calls belong between reader_begin and reader_end; spans live in that arena. */
#pragma once
#include "store/store.h"

/* The numbers are stored. */
enum stat_kind { STAT_RUN, STAT_NODE, STAT_HANDOFF, STAT_FAILURE };
enum stat_status { STAT_OPEN, STAT_OK, STAT_FAILED, STAT_CANCELLED };

struct stat_window {
    struct uuid    workspace, agent; /* agent nil: any */
    int64_t        from_ms, to_ms;   /* created_ms of the run: from <= it < to */
    const int64_t *live;             /* the statuses of a run that has not ended */
    unsigned       live_count;
};

struct stat_runs {
    int64_t total, ok, failed, retries, replays;
    int64_t timed, ms_sum, ms_p95; /* runs with a latency; nearest rank, 0 when there is none */
};
enum err stat_runs(struct reader *reader, const struct stat_window *window, struct stat_runs *ret);

struct stat_nodes {
    int64_t total, failed, retries;
    int64_t timed, ms_sum;
};
enum err stat_nodes(struct reader *reader, const struct stat_window *window, struct stat_nodes *ret);
enum err stat_handoffs(struct reader *reader, const struct stat_window *window, int64_t *ret);

struct stat_category {
    struct span name;
    int64_t     count;
};
/* Failures of runs by category, most first, then by name; at most `max`. */
enum err stat_categories(struct reader *reader, const struct stat_window *window, struct stat_category *ret, unsigned max,
                         unsigned *ret_count);

/* Node executions by what carried them out; the largest group first, then by name. */
enum stat_group_by { STAT_BY_CAPABILITY, STAT_BY_BINDING };
struct stat_group {
    struct span       name, version; /* STAT_BY_BINDING: both the binding */
    struct stat_nodes nodes;
    int64_t           ms_p95, last_ms;
    struct span       category;      /* the most frequent among the failed ones; p NULL: none */
};
/* Fills up to `limit` groups behind `offset`; *ret_total: all there are. */
enum err stat_groups(struct reader *reader, const struct stat_window *window, enum stat_group_by by, int64_t limit, int64_t offset,
                     struct stat_group *ret, unsigned *ret_count, int64_t *ret_total);
