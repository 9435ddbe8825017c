/* SPDX-License-Identifier: Apache-2.0 */
/* aggregate.c - the statements behind aggregate.h, in the dialect that SQLite and PostgreSQL share.
 *
 * PostgreSQL sums BIGINTs into NUMERIC: hence the casts. */
#include "store/aggregate.h"
#include "store/inner.h"

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

static enum err bind_next(struct select *s, int64_t value)
{
    return s->driver->bind_i64(s->cached->stmt, ++s->bound, value);
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

/* The element number ceil(0.95 n) of those that have a latency, from 1. */
static int64_t nearest_rank(int64_t n)
{
    return (n * 95 + 99) / 100;
}

static enum err runs_p95(struct reader *reader, const struct stat_window *window, int64_t n, int64_t *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    BUF_LIT(&sql, "SELECT ms FROM stat");
    put_window(&sql, window, STAT_RUN);
    buf_printf(&sql, " AND ms >= 0 ORDER BY ms LIMIT 1 OFFSET $%d", uuid_is_nil(window->agent) ? 4 : 5);
    struct select s;
    bool          row = false;
    enum err      err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    err = bind_next(&s, nearest_rank(n) - 1);
    if (!err)
        err = reader_step(reader, s.cached, &row);
    if (!err && row)
        *ret = s.driver->i64(s.cached->stmt, 0);
    return done(&s, err);
}

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

enum err stat_runs(struct reader *reader, const struct stat_window *window, struct stat_runs *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    int64_t v[7];
    BUF_LIT(&sql, "SELECT COUNT(*), " HOW_MANY("status = 1") ", " HOW_MANY("status = 2") ", " SUM("tries - 1") ", " SUM("replayed")
                  ", " HOW_MANY("ms >= 0") ", " SUM("CASE WHEN ms >= 0 THEN ms ELSE 0 END") " FROM stat");
    put_window(&sql, window, STAT_RUN);
    enum err err = one_row(reader, window, &sql, v, 7);
    if (err)
        return err;
    struct stat_runs runs = { .total = v[0], .ok = v[1], .failed = v[2], .retries = v[3], .replays = v[4], .timed = v[5], .ms_sum = v[6] };
    err = runs_live(reader, window, &runs);
    if (!err && runs.timed)
        err = runs_p95(reader, window, runs.timed, &runs.ms_p95);
    if (!err)
        *ret = runs;
    return err;
}

enum err stat_nodes(struct reader *reader, const struct stat_window *window, struct stat_nodes *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    int64_t v[5];
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

struct groups {
    const char        *key; /* two columns */
    struct stat_group *items;
    unsigned           count;
};

/* The group of this page that the statement's row (the key in its first two columns) belongs to, or NULL. */
static struct stat_group *group_of(const struct groups *groups, struct select *s)
{
    struct span name = s->driver->bytes(s->cached->stmt, 0), version = s->driver->bytes(s->cached->stmt, 1);
    for (unsigned i = 0; i < groups->count; i++)
        if (span_eq(groups->items[i].name, name) && span_eq(groups->items[i].version, version))
            return &groups->items[i];
    return NULL;
}

static enum err groups_count(struct reader *reader, const struct stat_window *window, const struct groups *groups, int64_t *ret)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    buf_printf(&sql, "SELECT COUNT(*) FROM (SELECT %s FROM stat", groups->key);
    put_window(&sql, window, STAT_NODE);
    buf_printf(&sql, " GROUP BY %s) AS g", groups->key);
    return one_row(reader, window, &sql, ret, 1);
}

static enum err groups_page(struct reader *reader, const struct stat_window *window, struct groups *groups, int64_t limit, int64_t offset)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    int n = uuid_is_nil(window->agent) ? 4 : 5;
    buf_printf(&sql, "SELECT %s, MAX(at_ms), " NODE_FIGURES " FROM stat", groups->key);
    put_window(&sql, window, STAT_NODE);
    buf_printf(&sql, " GROUP BY %s ORDER BY total DESC, %s LIMIT $%d OFFSET $%d", groups->key, groups->key, n, n + 1);
    struct select s;
    bool          row = true;
    enum err      err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    err = bind_next(&s, limit);
    if (!err)
        err = bind_next(&s, offset);
    while (!err && !(err = reader_step(reader, s.cached, &row)) && row && groups->count < limit) {
        int64_t v[6];
        for (unsigned i = 0; i < ARRAY_LEN(v); i++)
            v[i] = s.driver->i64(s.cached->stmt, i + 2);
        groups->items[groups->count++] = (struct stat_group){
            .name = text(&s, 0), .version = text(&s, 1), .last_ms = v[0],
            .nodes = { .total = v[1], .failed = v[2], .retries = v[3], .timed = v[4], .ms_sum = v[5] } };
    }
    return done(&s, err);
}

/* One pass ranks all groups. */
static enum err groups_p95(struct reader *reader, const struct stat_window *window, const struct groups *groups)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    buf_printf(&sql, "SELECT * FROM (SELECT %s, ms, ROW_NUMBER() OVER (PARTITION BY %s ORDER BY ms) AS place, "
                     "COUNT(*) OVER (PARTITION BY %s) AS n FROM stat", groups->key, groups->key, groups->key);
    put_window(&sql, window, STAT_NODE);
    BUF_LIT(&sql, " AND ms >= 0) AS r WHERE place = (n * 95 + 99) / 100");
    struct select s;
    bool          row = true;
    enum err      err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    while (!(err = reader_step(reader, s.cached, &row)) && row) {
        struct stat_group *group = group_of(groups, &s);
        if (group)
            group->ms_p95 = s.driver->i64(s.cached->stmt, 2);
    }
    return done(&s, err);
}

static enum err groups_categories(struct reader *reader, const struct stat_window *window, const struct groups *groups)
{
    CLEANUP(buf_done) struct buf sql = { 0 };
    buf_printf(&sql, "SELECT %s, category, COUNT(*) AS total FROM stat", groups->key);
    put_window(&sql, window, STAT_NODE);
    buf_printf(&sql, " AND status = %d GROUP BY %s, category ORDER BY total DESC, category", STAT_FAILED, groups->key);
    struct select s;
    bool          row = true;
    enum err      err = begin(&s, reader, window, &sql);
    if (err)
        return err;
    while (!(err = reader_step(reader, s.cached, &row)) && row) {
        struct stat_group *group = group_of(groups, &s);
        if (group && !group->category.p)
            group->category = text(&s, 2);
    }
    return done(&s, err);
}

enum err stat_groups(struct reader *reader, const struct stat_window *window, enum stat_group_by by, int64_t limit, int64_t offset,
                     struct stat_group *ret, unsigned *ret_count, int64_t *ret_total)
{
    /* Selected twice under two names; grouping by the same column twice is grouping by it. */
    struct groups groups = { .key = by == STAT_BY_CAPABILITY ? "ref, version" : "binding, binding", .items = ret };
    int64_t       total = 0;
    enum err      err = groups_count(reader, window, &groups, &total);
    if (!err)
        err = groups_page(reader, window, &groups, limit, offset);
    if (!err && groups.count)
        err = groups_p95(reader, window, &groups);
    if (!err && groups.count)
        err = groups_categories(reader, window, &groups);
    if (err)
        return err;
    *ret_count = groups.count;
    *ret_total = total;
    return ERR_OK;
}
