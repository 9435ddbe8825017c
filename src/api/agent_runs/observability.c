/* SPDX-License-Identifier: Apache-2.0 */
/* observability.c - figures over a window of runs: as a whole, by capability, by binding (agent-runs.md 3.8, 8).
 *
 * The database counts (store/aggregate.h), on the reader thread; here is only what the words mean and how numbers are shown. */
#include "api/agent_runs/routes.h"
#include "store/aggregate.h"

enum { TOP_CATEGORIES = 5 };

struct window {
    struct stat_window stat;
    struct span        agent; /* as it was asked for; p NULL: any */
    bool               known; /* false: the agent is no id, so there is nothing to count */
    int64_t            from_ms, to_ms;
    bool               has_from, has_to;
};

static const int64_t live[] = { RUN_PENDING, RUN_QUEUED, RUN_ACTIVE, RUN_WAITING, RUN_RESUMED };

static struct window read_window(struct call *call)
{
    struct query  range = { .table = TABLE_stat };
    struct window window = { .known = true, .agent = call_query(call, "agent_id"),
                             .stat = { .workspace = call->workspace, .from_ms = INT64_MIN, .to_ms = INT64_MAX,
                                       .live = live, .live_count = ARRAY_LEN(live) } };
    if (window.agent.p)
        window.known = uuid_parse(window.agent, &window.stat.agent) && !uuid_is_nil(window.stat.agent);
    call_time_range(call, &range, "created_ms");
    for (unsigned i = 0; i < range.cmp_count; i++) {
        if (range.cmp[i].op[0] == '>') {
            window.has_from = true;
            window.from_ms = window.stat.from_ms = range.cmp[i].i64;
        } else {
            window.has_to = true;
            window.to_ms = window.stat.to_ms = range.cmp[i].i64;
        }
    }
    return window;
}

/* ---- numbers ---- */

static void put_count(struct jw *w, const char *name, int64_t v)
{
    jw_key(w, name);
    jw_i64(w, v);
}

/* The arithmetic mean, to three decimals, half away from zero; 0 of nothing. */
static void put_mean(struct jw *w, const char *name, int64_t sum, int64_t n)
{
    int64_t whole = n ? sum / n : 0, rest = n ? sum % n : 0;
    int64_t thousandths = n ? (rest * 2000 + n) / (2 * n) : 0;
    jw_key(w, name);
    jw_f64(w, (double)(whole * 1000 + thousandths) / 1000);
}

static void put_rate(struct jw *w, int64_t part, int64_t whole)
{
    jw_key(w, "failure_rate");
    jw_f64(w, whole ? (double)part / (double)whole : 0);
}

static void put_time(struct jw *w, const char *name, bool has, int64_t ms)
{
    jw_key(w, name);
    if (has)
        jw_time(w, ms);
    else
        jw_null(w);
}

static void put_text(struct jw *w, const char *name, struct span text)
{
    jw_key(w, name);
    if (text.p)
        jw_str(w, text);
    else
        jw_null(w);
}

static void unreadable(struct call *call)
{
    call->out.len = 0;
    call->w = jw_on(&call->out);
    call_fail(call, ERR_STORAGE, "", "the figures cannot be read");
}

/* ---- the whole ---- */

struct summary {
    struct stat_runs     runs;
    struct stat_nodes    nodes;
    int64_t              handoffs;
    struct stat_category top[TOP_CATEGORIES];
    unsigned             top_count;
};

static enum err read_summary(struct reader *reader, const struct window *window, struct summary *ret)
{
    *ret = (struct summary){ .handoffs = 0 };
    if (!window->known)
        return ERR_OK;
    enum err e = stat_runs(reader, &window->stat, &ret->runs);
    if (!e)
        e = stat_nodes(reader, &window->stat, &ret->nodes);
    if (!e)
        e = stat_handoffs(reader, &window->stat, &ret->handoffs);
    if (!e)
        e = stat_categories(reader, &window->stat, ret->top, TOP_CATEGORIES, &ret->top_count);
    return e;
}

static void render_summary(struct call *call, const struct window *window, const struct summary *s)
{
    struct jw *w = &call->w;
    jw_obj(w);
    jw_key(w, "workspace_id");
    jw_uuid(w, &call->workspace);
    put_text(w, "agent_id", window->agent);
    put_time(w, "from", window->has_from, window->from_ms);
    put_time(w, "to", window->has_to, window->to_ms);
    put_count(w, "runs_total", s->runs.total);
    put_count(w, "runs_completed", s->runs.ok);
    put_count(w, "runs_failed", s->runs.failed);
    put_count(w, "node_executions_total", s->nodes.total);
    put_count(w, "node_executions_failed", s->nodes.failed);
    put_count(w, "retry_count", s->runs.retries + s->nodes.retries);
    put_count(w, "replay_count", s->runs.replays);
    put_count(w, "handoff_count", s->handoffs);
    put_mean(w, "avg_run_latency_ms", s->runs.ms_sum, s->runs.timed);
    put_count(w, "p95_run_latency_ms", s->runs.ms_p95);
    put_mean(w, "avg_node_latency_ms", s->nodes.ms_sum, s->nodes.timed);
    put_rate(w, s->runs.failed, s->runs.ok + s->runs.failed);
    jw_key(w, "top_error_categories");
    jw_arr(w);
    for (unsigned i = 0; i < s->top_count; i++) {
        jw_obj(w);
        put_text(w, "error_category", s->top[i].name);
        put_count(w, "count", s->top[i].count);
        jw_end(w);
    }
    jw_arr_end(w);
    jw_end(w);
}

void observability_summary(struct call *call)
{
    struct window  window = read_window(call);
    struct summary summary;
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    if (read_summary(call->reader, &window, &summary)) {
        unreadable(call);
        return;
    }
    render_summary(call, &window, &summary);
    call_send(call, 200);
}

/* ---- by capability, by binding ---- */

static void render_group(struct jw *w, enum stat_group_by by, const struct stat_group *g)
{
    jw_obj(w);
    if (by == STAT_BY_CAPABILITY) {
        put_text(w, "capability_ref", g->name);
        put_text(w, "capability_version", g->version);
    } else {
        put_text(w, "execution_binding", g->name);
    }
    put_count(w, "node_executions_total", g->nodes.total);
    put_count(w, "node_executions_failed", g->nodes.failed);
    put_rate(w, g->nodes.failed, g->nodes.total);
    put_count(w, "retry_count", g->nodes.retries);
    put_mean(w, "avg_latency_ms", g->nodes.ms_sum, g->nodes.timed);
    put_count(w, "p95_latency_ms", g->ms_p95);
    put_time(w, "last_used_at", true, g->last_ms);
    put_text(w, "top_error_category", g->category);
    jw_end(w);
}

static void answer_groups(struct call *call, enum stat_group_by by)
{
    struct window      window = read_window(call);
    struct page        page = call_page(call);
    struct stat_group *groups;
    unsigned           n = 0;
    int64_t            total = 0;
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    groups = arena_alloc(&call->arena, (size_t)page.limit * sizeof *groups);
    if (window.known && stat_groups(call->reader, &window.stat, by, page.limit, page.offset, groups, &n, &total)) {
        unreadable(call);
        return;
    }
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    for (unsigned i = 0; i < n; i++)
        render_group(&call->w, by, &groups[i]);
    jw_arr_end(&call->w);
    put_count(&call->w, "count", total);
    jw_end(&call->w);
    call_send(call, 200);
}

void observability_capabilities(struct call *call)
{
    answer_groups(call, STAT_BY_CAPABILITY);
}

void observability_bindings(struct call *call)
{
    answer_groups(call, STAT_BY_BINDING);
}
