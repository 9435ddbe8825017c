/* SPDX-License-Identifier: Apache-2.0 */
/* aggregate.c - the statements behind aggregate.h, in the dialect that SQLite and PostgreSQL share.
 *
 * What wants a percentile or falls into groups is read once, in the order in which it lies, and put together here: an embedded
 * database sorts all rows for each GROUP BY and each window function, which took five times as long as reading them. A server
 * (driver->shared) hands each row over a connection; it groups by hash, so it is asked for equal rows once, with their number.
 * Either way a row read here stands for `times` rows of the table.
 *
 * PostgreSQL sums BIGINTs into NUMERIC: hence the casts. */
#include "store/aggregate.h"
#include "store/inner.h"
#include "store/tally.h"
#include <stdlib.h>

#define SUM(what)        "CAST(COALESCE(SUM(" what "), 0) AS BIGINT)"
#define HOW_MANY(which)  SUM("CASE WHEN " which " THEN 1 ELSE 0 END")
#define NODE_FIGURES     "COUNT(*) AS total, " HOW_MANY("status = 2") ", " HOW_MANY("tries > 1") ", " HOW_MANY("ms >= 0") ", " \
                         SUM("CASE WHEN ms >= 0 THEN ms ELSE 0 END")

static_assert(STAT_OK == 1 && STAT_FAILED == 2, "the texts below say so");

/* A statement under way: its window is bound, its rows are taken by `next`. */
struct select {
    struct reader          *reader;
    const struct db_driver *driver;
    struct cached          *cached;
    unsigned                bound;
};

static enum err done(struct select *s, enum err err)
{
    reader_done(s->reader, s->cached);
    return err ? reader_fail(s->reader, err) : ERR_OK;
}

/* " WHERE …": the placeholders $1 to $3, and $4 for an agent. `kind` < 0: of the table run, which has no kinds. */
static void put_window(struct buf *sql, const struct stat_window *window, int kind)
{
    BUF_LIT(sql, " WHERE workspace = $1");
    if (kind >= 0)
        buf_printf(sql, " AND kind = %d", kind);
    BUF_LIT(sql, " AND created_ms >= $2 AND created_ms < $3");
    if (!uuid_is_nil(window->agent))
        BUF_LIT(sql, " AND agent = $4");
}

static enum err begin(struct select *s, struct reader *reader, const struct stat_window *window, struct buf *sql)
{
    *s = (struct select){ .reader = reader, .driver = reader->store->driver };
    if (reader->err)
        return reader->err;
    assert(reader->arena);
    enum err err = reader_use(reader, buf_view(sql), &s->cached);
    if (err)
        return err;
    struct db_stmt *stmt = s->cached->stmt;
    err = s->driver->bind_bytes(stmt, 1, uuid_span(&window->workspace));
    if (!err)
        err = s->driver->bind_i64(stmt, 2, window->from_ms);
    if (!err)
        err = s->driver->bind_i64(stmt, 3, window->to_ms);
    s->bound = 3;
    if (!err && !uuid_is_nil(window->agent))
        err = s->driver->bind_bytes(stmt, ++s->bound, uuid_span(&window->agent));
    return err ? done(s, err) : ERR_OK;
}

/* The columns of the one row that a statement gives; all 0 when it gives none. */
static enum err one_row(struct reader *reader, const struct stat_window *window, struct buf *sql, int64_t *ret, unsigned count)
{
    struct select s;
    bool          row = false;
    enum err      err = begin(&s, reader, window, sql);
    if (err)
        return err;
    err = reader_step(reader, s.cached, &row);
    for (unsigned i = 0; i < count && !err; i++)
        ret[i] = row ? s.driver->i64(s.cached->stmt, i) : 0;
    return done(&s, err);
}

/* ---- of all ---- */

/* Runs that go on have no row of figures yet. */
static enum err runs_live(struct reader *reader, const struct stat_window *window, struct stat_runs *runs)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    int64_t v[3];
    BUF_LIT(&sql, "SELECT COUNT(*), " SUM("attempt_no - 1") ", " HOW_MANY("replayed_from IS NOT NULL") " FROM run");
    put_window(&sql, window, -1);
    for (unsigned i = 0; i < window->live_count; i++)
        buf_printf(&sql, "%s%lld", i ? ", " : " AND status IN (", (long long)window->live[i]);
    BUF_LIT(&sql, ")");
    enum err err = one_row(reader, window, &sql, v, 3);
    if (err)
        return err;
    runs->total += v[0];
    runs->retries += v[1];
    runs->replays += v[2];
    return ERR_OK;
}

/* The statement that stat_runs reads: status, ms, what was tried again, whether it is a replay, times. */
static void put_ended(struct buf *sql, const struct db_driver *driver, const struct stat_window *window)
{
    buf_printf(sql, "SELECT status, ms, tries - 1 AS again, replayed, %s FROM stat", driver->shared ? "COUNT(*)" : "1");
    put_window(sql, window, STAT_RUN);
    if (driver->shared)
        BUF_LIT(sql, " GROUP BY status, ms, again, replayed");
}

static void add_run(struct stat_runs *runs, struct tally *latencies, struct select *s)
{
    struct db_stmt *stmt = s->cached->stmt;
    int64_t         status = s->driver->i64(stmt, 0), ms = s->driver->i64(stmt, 1), times = s->driver->i64(stmt, 4);
    runs->total += times;
    runs->ok += status == STAT_OK ? times : 0;
    runs->failed += status == STAT_FAILED ? times : 0;
    runs->retries += s->driver->i64(stmt, 2) * times;
    runs->replays += s->driver->i64(stmt, 3) * times;
    if (ms >= 0)
        tally_add(latencies, s->reader->arena, ms, times);
}

enum err stat_runs(struct reader *reader, const struct stat_window *window, struct stat_runs *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    CLEANUP(tally_done) struct tally latencies = { 0 };
    struct stat_runs runs = { 0 };
    struct select    s;
    bool             row = false;
    put_ended(&sql, reader->store->driver, window);
    enum err err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    while (!(err = reader_step(reader, s.cached, &row)) && row)
        add_run(&runs, &latencies, &s);
    err = done(&s, err);
    if (!err)
        err = runs_live(reader, window, &runs);
    if (err)
        return err;
    runs.timed = latencies.n;
    runs.ms_sum = latencies.sum;
    runs.ms_p95 = tally_p95(&latencies);
    *ret = runs;
    return ERR_OK;
}

/* Sums over CASE are dearer than handing over three numbers, where a row costs nothing to hand over. */
static enum err nodes_counted(struct reader *reader, const struct stat_window *window, struct stat_nodes *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    struct stat_nodes nodes = { 0 };
    struct select     s;
    bool              row = false;
    BUF_LIT(&sql, "SELECT status, ms, tries FROM stat");
    put_window(&sql, window, STAT_NODE);
    enum err err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    struct db_stmt *stmt = s.cached->stmt;
    while (!(err = reader_step(reader, s.cached, &row)) && row) {
        int64_t ms = s.driver->i64(stmt, 1);
        nodes.total++;
        nodes.failed += s.driver->i64(stmt, 0) == STAT_FAILED;
        nodes.retries += s.driver->i64(stmt, 2) > 1;
        nodes.timed += ms >= 0;
        nodes.ms_sum += ms >= 0 ? ms : 0;
    }
    *ret = nodes;
    return done(&s, err);
}

enum err stat_nodes(struct reader *reader, const struct stat_window *window, struct stat_nodes *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    int64_t v[5];
    if (!reader->store->driver->shared)
        return nodes_counted(reader, window, ret);
    BUF_LIT(&sql, "SELECT " NODE_FIGURES " FROM stat");
    put_window(&sql, window, STAT_NODE);
    enum err err = one_row(reader, window, &sql, v, 5);
    if (!err)
        *ret = (struct stat_nodes){ .total = v[0], .failed = v[1], .retries = v[2], .timed = v[3], .ms_sum = v[4] };
    return err;
}

enum err stat_handoffs(struct reader *reader, const struct stat_window *window, int64_t *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    BUF_LIT(&sql, "SELECT COUNT(*) FROM stat");
    put_window(&sql, window, STAT_HANDOFF);
    return one_row(reader, window, &sql, ret, 1);
}

static struct span text(struct select *s, unsigned column)
{
    struct span bytes = s->driver->bytes(s->cached->stmt, column);
    return bytes.p ? arena_copy(s->reader->arena, bytes) : SPAN_NONE;
}

enum err stat_categories(struct reader *reader, const struct stat_window *window, struct stat_category *ret, unsigned max,
                         unsigned *ret_count)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    BUF_LIT(&sql, "SELECT category, COUNT(*) AS total FROM stat");
    put_window(&sql, window, STAT_FAILURE);
    buf_printf(&sql, " GROUP BY category ORDER BY total DESC, category LIMIT %u", max);
    struct select s;
    bool          row = true;
    unsigned      n = 0;
    enum err      err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    while (!(err = reader_step(reader, s.cached, &row)) && row && n < max)
        ret[n++] = (struct stat_category){ text(&s, 0), s.driver->i64(s.cached->stmt, 1) };
    if (!err)
        *ret_count = n;
    return done(&s, err);
}

/* ---- by capability, by binding ---- */

/* Few in one group: the words are ours (agent-runs.md 3.7). */
struct reason {
    struct reason *next;
    struct span    name;
    int64_t        times;
};

struct group {
    struct group     *same_hash;
    struct stat_group of;
    struct tally      latencies;
    struct reason    *reasons;
};

struct groups {
    struct u64_map by_hash;
    struct group  *last; /* that a row went to: the next one often goes there, too */
    size_t         count;
};

static void groups_done(struct groups *groups)
{
    struct group *group = NULL;
    for (size_t i = 0; (group = u64_map_next(&groups->by_hash, &i));)
        for (; group; group = group->same_hash)
            tally_done(&group->latencies);
    u64_map_done(&groups->by_hash);
}

/* NULL is not the empty text. */
static bool same_text(struct span a, struct span b)
{
    return a.p && b.p ? span_eq(a, b) : !a.p && !b.p;
}

static struct span keep(struct arena *arena, struct span text)
{
    return text.p ? arena_copy(arena, text) : SPAN_NONE;
}

static bool is_group(const struct group *group, struct span name, struct span version)
{
    return same_text(group->of.name, name) && same_text(group->of.version, version);
}

static struct group *group_of(struct groups *groups, struct arena *arena, struct span name, struct span version)
{
    if (groups->last && is_group(groups->last, name, version))
        return groups->last;
    uint64_t      hash = hash64(name.p, name.n) * 31 + hash64(version.p, version.n);
    struct group *first = u64_map_get(&groups->by_hash, hash), *group = first;
    while (group && !is_group(group, name, version))
        group = group->same_hash;
    if (!group) {
        group = ARENA_NEW(arena, struct group);
        group->of = (struct stat_group){ .name = keep(arena, name), .version = keep(arena, version), .last_ms = INT64_MIN };
        group->same_hash = first;
        u64_map_put(&groups->by_hash, hash, group);
        groups->count++;
    }
    return groups->last = group;
}

static void add_reason(struct group *group, struct arena *arena, struct span name, int64_t times)
{
    struct reason *reason = group->reasons;
    while (reason && !same_text(reason->name, name))
        reason = reason->next;
    if (!reason) {
        reason = ARENA_NEW(arena, struct reason);
        reason->name = keep(arena, name);
        reason->next = group->reasons;
        group->reasons = reason;
    }
    reason->times += times;
}

/* The columns of the statement that stat_groups reads. NAME and VERSION are one column when groups are bindings. */
enum { STATUS, AGAIN, MS, AT_MS, CATEGORY, TIMES, NAME, VERSION };

static void put_grouped(struct buf *sql, const struct db_driver *driver, const struct stat_window *window, const char *key)
{
    bool shared = driver->shared;
    buf_printf(sql, "SELECT status, CASE WHEN tries > 1 THEN 1 ELSE 0 END AS again, ms, %s, category, %s, %s FROM stat",
               shared ? "MAX(at_ms)" : "at_ms", shared ? "COUNT(*)" : "1", key);
    put_window(sql, window, STAT_NODE);
    if (shared)
        buf_printf(sql, " GROUP BY status, again, ms, category, %s", key);
}

static void add_nodes(struct groups *groups, struct select *s, unsigned version)
{
    struct db_stmt *stmt = s->cached->stmt;
    struct arena   *arena = s->reader->arena;
    struct group   *group = group_of(groups, arena, s->driver->bytes(stmt, NAME), s->driver->bytes(stmt, version));
    int64_t         ms = s->driver->i64(stmt, MS), at_ms = s->driver->i64(stmt, AT_MS), times = s->driver->i64(stmt, TIMES);
    group->of.nodes.total += times;
    group->of.nodes.retries += s->driver->i64(stmt, AGAIN) ? times : 0;
    if (group->of.last_ms < at_ms)
        group->of.last_ms = at_ms;
    if (ms >= 0)
        tally_add(&group->latencies, arena, ms, times);
    if (s->driver->i64(stmt, STATUS) == STAT_FAILED) {
        group->of.nodes.failed += times;
        add_reason(group, arena, s->driver->bytes(stmt, CATEGORY), times);
    }
}

/* NULL, then by bytes. */
static int compare_text(struct span a, struct span b)
{
    if (!a.p || !b.p)
        return (a.p != NULL) - (b.p != NULL);
    return span_cmp(a, b);
}

static int largest_first(const void *a, const void *b)
{
    const struct stat_group *x = &(*(struct group *const *)a)->of, *y = &(*(struct group *const *)b)->of;
    if (x->nodes.total != y->nodes.total)
        return x->nodes.total < y->nodes.total ? 1 : -1;
    int order = compare_text(x->name, y->name);
    return order ? order : compare_text(x->version, y->version);
}

static struct span most_frequent(const struct group *group)
{
    const struct reason *most = NULL;
    for (const struct reason *reason = group->reasons; reason; reason = reason->next)
        if (!most || reason->times > most->times || (reason->times == most->times && compare_text(reason->name, most->name) < 0))
            most = reason;
    return most ? most->name : SPAN_NONE;
}

static struct stat_group figures_of(const struct group *group)
{
    struct stat_group figures = group->of;
    figures.nodes.timed = group->latencies.n;
    figures.nodes.ms_sum = group->latencies.sum;
    figures.ms_p95 = tally_p95(&group->latencies);
    figures.category = most_frequent(group);
    return figures;
}

static struct group **in_order(const struct groups *groups, struct arena *arena)
{
    struct group **all = ARENA_ARRAY(arena, struct group *, groups->count + 1), *group = NULL;
    size_t         n = 0;
    for (size_t i = 0; (group = u64_map_next(&groups->by_hash, &i));)
        for (; group; group = group->same_hash)
            all[n++] = group;
    qsort(all, n, sizeof(struct group *), largest_first);
    return all;
}

enum err stat_groups(struct reader *reader, const struct stat_window *window, enum stat_group_by by, int64_t limit,
                     int64_t offset, struct stat_group *ret, unsigned *ret_count, int64_t *ret_total)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    CLEANUP(groups_done) struct groups groups = { 0 };
    bool          by_capability = by == STAT_BY_CAPABILITY, row = false;
    struct select s;
    put_grouped(&sql, reader->store->driver, window, by_capability ? "ref, version" : "binding");
    enum err err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    while (!(err = reader_step(reader, s.cached, &row)) && row)
        add_nodes(&groups, &s, by_capability ? VERSION : NAME);
    err = done(&s, err);
    if (err)
        return err;
    struct group **all = in_order(&groups, reader->arena);
    unsigned       n = 0;
    for (size_t i = (size_t)offset; i < groups.count && n < limit; i++)
        ret[n++] = figures_of(all[i]);
    *ret_count = n;
    *ret_total = (int64_t)groups.count;
    return ERR_OK;
}
