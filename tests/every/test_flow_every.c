/* SPDX-License-Identifier: Apache-2.0 */
/* test_flow_every.c - workflows of up to five nodes: all edges, plain, tested on the output or on the status, all kinds of joins,
 * all places where a call fails, against a reference that is slow and obviously right; and large random ones, against the
 * rules of order alone.
 *
 * A workflow is a number: each choice takes its part of it. Up to three nodes all numbers are tried; of the others a sample, or
 * all of four and a large sample of five with PERDURE_EVERY=full. With each, the machine is saved and loaded before every
 * input; each second one is done without, and must give the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "unit/call_agent.h"
#define RIG_KINDS call_agent_kinds
#include "unit/graph_rig.h"

enum { MOST = 5 };
enum kind { K_LLM, K_ALL, K_ANY, K_COLLECT, K_KINDS };
enum edge { E_NONE, E_PLAIN, E_OUTPUT, E_STATUS, E_KINDS };
enum status { PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED };

struct shape {
    unsigned count, parallel, limit;
    enum kind kind[MOST];
    bool fails[MOST], says[MOST]; /* a call fails; its answer passes the tests of edges */
    enum edge edge[MOST][MOST];
    bool output[MOST];
    unsigned order; /* which of the calls in flight is answered next */
};

/* ---- from a number to a workflow ---- */

static unsigned take(uint64_t *number, unsigned count)
{
    unsigned n = (unsigned)(*number % count);
    *number /= count;
    return n;
}

/* How many numbers there are for `count` nodes when `edges` kinds of edges are tried. */
static uint64_t shapes(unsigned count, unsigned edges)
{
    uint64_t n = 4; /* order × parallel */
    for (unsigned i = 0; i < count; i++)
        n *= 7; /* four outcomes of a call, three joins */
    for (unsigned i = 0; i < count * (count - 1) / 2; i++)
        n *= edges;
    return n;
}

static struct shape shape_of(uint64_t number, unsigned count, unsigned edges)
{
    struct shape s = { .count = count };
    s.order = take(&number, 2);
    s.parallel = take(&number, 2) ? 4 : 1;
    s.limit = 1 + count % 2;
    for (unsigned i = 0; i < count; i++) {
        unsigned k = take(&number, 7);
        s.kind[i] = k < 4 ? K_LLM : (enum kind)(k - 3);
        s.fails[i] = k & 1;
        s.says[i] = k & 2;
        for (unsigned j = 0; j < i; j++)
            s.edge[j][i] = (enum edge)take(&number, edges);
    }
    s.output[count - 1] = true;
    s.output[0] |= number & 1;
    return s;
}

static void put_definition(const struct shape *s, struct buf *out)
{
    static const char *const inputs[] = {
        [K_LLM] = "\"llm.responses\",\"input\":{\"request\":{\"model\":\"m\",\"input\":[]}}",
        [K_ALL] = "\"join.all\"",
        [K_ANY] = "\"join.any\"",
        [K_COLLECT] = "\"join.collect\",\"input\":{}",
    };
    bool comma = false;
    buf_printf(out, "{\"kind\":\"workflow.v1\",\"execution\":{\"max_parallelism\":%u},\"nodes\":[", s->parallel);
    for (unsigned i = 0; i < s->count; i++) {
        buf_printf(out, "%s{\"id\":\"%c\",\"type\":", i ? "," : "", 'a' + (int)i);
        if (s->kind[i] == K_COLLECT)
            buf_printf(out, "\"join.collect\",\"input\":{\"limit\":%u}}", s->limit);
        else
            buf_printf(out, "%s}", inputs[s->kind[i]]);
    }
    buf_printf(out, "],\"edges\":[");
    for (unsigned i = 0; i < s->count; i++)
        for (unsigned j = 0; j < i; j++) {
            static const char *const when[] = {
                [E_PLAIN] = "",
                [E_OUTPUT] =
                    ",\"when\":{\"source\":\"node_output\",\"op\":\"equals\",\"path\":\"$.go\",\"value\":true}",
                [E_STATUS] =
                    ",\"when\":{\"source\":\"node_status\",\"op\":\"equals\",\"path\":\"$\",\"value\":\"failed\"}",
            };
            if (s->edge[j][i] == E_NONE)
                continue;
            buf_printf(out, "%s{\"from\":\"%c\",\"to\":\"%c\"%s}", comma ? "," : "", 'a' + (int)j, 'a' + (int)i,
                       when[s->edge[j][i]]);
            comma = true;
        }
    buf_printf(out, "],\"outputs\":[");
    comma = false;
    for (unsigned i = 0; i < s->count; i++)
        if (s->output[i]) {
            buf_printf(out, "%s{\"name\":\"%c\",\"from\":\"%c\"}", comma ? "," : "", 'a' + (int)i, 'a' + (int)i);
            comma = true;
        }
    buf_printf(out, "]}");
    buf_byte(out, '\0');
}

/* ---- the reference ---- */

struct ref {
    const struct shape *s;
    enum status st[MOST];
    unsigned done_at[MOST], clock;
    unsigned flying[MOST], flying_count; /* in the order of their start */
    char text[MOST][512];
    struct buf trace;
    bool failed;
};

static bool over(const struct ref *r, unsigned v)
{
    return r->st[v] == SUCCEEDED || r->st[v] == FAILED || r->st[v] == CANCELED;
}

/* The way u → v is open: asked only when u is over. */
static bool on(const struct ref *r, unsigned u, unsigned v)
{
    switch (r->s->edge[u][v]) {
    case E_PLAIN: return r->st[u] == SUCCEEDED;
    case E_OUTPUT: return r->st[u] == SUCCEEDED && r->s->kind[u] == K_LLM && r->s->says[u];
    case E_STATUS: return r->st[u] == FAILED;
    default: return false;
    }
}

static bool is_source(const struct ref *r, unsigned u, unsigned v)
{
    return u < v && r->s->edge[u][v] != E_NONE;
}

/* For v: sources, those that are over, open ones, those that bring something, failed ones. */
struct view {
    unsigned sources, over, on, got, failed, plain_off, tested, tested_on;
};

static struct view view_of(const struct ref *r, unsigned v)
{
    struct view view = { 0 };
    for (unsigned u = 0; u < v; u++) {
        if (!is_source(r, u, v))
            continue;
        bool plain = r->s->edge[u][v] == E_PLAIN;
        view.sources++;
        view.tested += !plain;
        if (!over(r, u))
            continue;
        view.over++;
        view.on += on(r, u, v);
        view.tested_on += !plain && on(r, u, v);
        view.got += on(r, u, v) && r->st[u] == SUCCEEDED;
        view.failed += r->st[u] == FAILED;
        view.plain_off += plain && !on(r, u, v);
    }
    return view;
}

static bool is_ready(const struct ref *r, unsigned v)
{
    struct view w = view_of(r, v);
    bool all = w.over == w.sources;
    if (r->st[v] != PENDING)
        return false;
    switch (r->s->kind[v]) {
    case K_ANY: return w.got > 0 || (all && (w.sources == 0 || w.on > 0 || w.failed > 0));
    case K_COLLECT: return w.got >= r->s->limit || (all && (w.sources == 0 || w.on > 0 || w.failed > 0));
    default: return all && w.plain_off == 0 && (w.tested == 0 || w.tested_on > 0);
    }
}

static bool is_hopeless(const struct ref *r, unsigned v)
{
    struct view w = view_of(r, v);
    bool all = w.over == w.sources;
    if (r->st[v] != PENDING)
        return false;
    if (r->s->kind[v] == K_ANY || r->s->kind[v] == K_COLLECT)
        return all && w.sources > 0 && w.on == 0 && w.failed == 0;
    return w.plain_off > 0 || (all && w.tested > 0 && w.tested_on == 0);
}

static bool is_unneeded(const struct ref *r, unsigned u)
{
    bool targets = false, live = false;
    for (unsigned v = u + 1; v < r->s->count; v++)
        if (is_source(r, u, v)) {
            targets = true;
            live |= !over(r, v);
        }
    return !over(r, u) && !r->s->output[u] && targets && !live;
}

static void unfly(struct ref *r, unsigned v)
{
    for (unsigned i = 0; i < r->flying_count; i++)
        if (r->flying[i] == v)
            memmove(&r->flying[i], &r->flying[i + 1], (--r->flying_count - i) * sizeof r->flying[0]);
}

static void settle(struct ref *r)
{
    bool cancelled[MOST] = { false };
    for (bool again = true; again;) {
        again = false;
        for (unsigned v = 0; v < r->s->count; v++)
            if (is_hopeless(r, v) || is_unneeded(r, v)) {
                cancelled[v] = r->st[v] == RUNNING;
                r->st[v] = CANCELED;
                unfly(r, v);
                again = true;
            }
    }
    for (unsigned v = 0; v < r->s->count; v++)
        if (cancelled[v])
            buf_printf(&r->trace, "cancel %c\n", 'a' + (int)v);
}

static bool reaches_output(const struct ref *r, unsigned u)
{
    if (r->s->output[u])
        return true;
    for (unsigned v = u + 1; v < r->s->count; v++)
        if (is_source(r, u, v) && r->s->edge[u][v] != E_STATUS && r->s->kind[v] != K_ANY &&
            r->s->kind[v] != K_COLLECT && !over(r, v) && reaches_output(r, v))
            return true;
    return false;
}

static void end(struct ref *r, unsigned v, bool good)
{
    unfly(r, v);
    buf_printf(&r->trace, "%s %c\n", good ? "finish" : "fail", 'a' + (int)v);
    if (!good && reaches_output(r, v)) {
        for (unsigned u = 0; u < r->s->count; u++)
            if (r->st[u] == RUNNING && u != v)
                buf_printf(&r->trace, "cancel %c\n", 'a' + (int)u);
        r->failed = true;
        return;
    }
    r->st[v] = good ? SUCCEEDED : FAILED;
    r->done_at[v] = ++r->clock;
    settle(r);
}

/* Sources that bring something, the first `most` of them in time, by id. */
static void join(struct ref *r, unsigned v, unsigned most)
{
    struct buf text = { 0 };
    unsigned count = 0;
    for (unsigned u = 0; u < v; u++) {
        unsigned before = 0;
        if (!is_source(r, u, v) || r->st[u] != SUCCEEDED || !on(r, u, v))
            continue;
        for (unsigned x = 0; x < v; x++)
            before += is_source(r, x, v) && r->st[x] == SUCCEEDED && on(r, x, v) && r->done_at[x] < r->done_at[u];
        if (before < most)
            buf_printf(&text, "%s\"%c\":%s", count++ ? "," : "", 'a' + (int)u, r->text[u]);
    }
    snprintf(r->text[v], sizeof r->text[v], "{%.*s}", SPAN_ARG(buf_view(&text)));
    buf_done(&text);
    end(r, v, count > 0 || r->s->kind[v] != K_ANY);
}

static void start_all(struct ref *r)
{
    for (unsigned v = 0; v < r->s->count && !r->failed; v++) {
        if (!is_ready(r, v) || (r->s->kind[v] == K_LLM && r->flying_count >= r->s->parallel))
            continue;
        buf_printf(&r->trace, "start %c\n", 'a' + (int)v);
        r->st[v] = RUNNING;
        if (r->s->kind[v] == K_LLM)
            r->flying[r->flying_count++] = v;
        else
            join(r, v, r->s->kind[v] == K_ANY ? 1 : r->s->kind[v] == K_COLLECT ? r->s->limit : MOST);
        v = (unsigned)-1; /* from the first on again */
    }
}

static void ref_run(struct ref *r)
{
    start_all(r);
    while (r->flying_count > 0 && !r->failed) {
        unsigned v = r->flying[r->s->order ? r->flying_count - 1 : 0];
        snprintf(r->text[v], sizeof r->text[v], "{\"go\":%s,\"n\":%u}", r->s->says[v] ? "true" : "false", v);
        end(r, v, !r->s->fails[v]);
        start_all(r);
    }
    if (r->failed)
        return;
    buf_printf(&r->trace, "done {");
    bool comma = false;
    for (unsigned v = 0; v < r->s->count; v++)
        if (r->s->output[v] && r->st[v] == SUCCEEDED) {
            buf_printf(&r->trace, "%s\"%c\":%s", comma ? "," : "", 'a' + (int)v, r->text[v]);
            comma = true;
        }
    buf_printf(&r->trace, "}\n");
}

/* ---- the machine ---- */

/* Lines of nodes; neighbouring cancels by name, because they come at the same time. */
static void shorten(struct span trace, struct buf *out)
{
    unsigned cancelled = 0;
    for (const char *p = trace.p, *end = trace.p + trace.n; p <= end && trace.n;) {
        const char *line_end = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        struct span line = span_make(p, line_end ? (size_t)(line_end - p) : 0);
        bool cancel = line.n > 7 && memcmp(line.p, "cancel ", 7) == 0;
        if (cancel)
            cancelled |= 1u << (line.p[7] - 'a');
        else if (!line_end || (line.n > 5 && (!memcmp(line.p, "start ", 6) || !memcmp(line.p, "finish ", 7) ||
                                              (!memcmp(line.p, "fail ", 5)) || !memcmp(line.p, "done ", 5)))) {
            for (unsigned v = 0; v < MOST; v++)
                if (cancelled >> v & 1)
                    buf_printf(out, "cancel %c\n", 'a' + (int)v);
            cancelled = 0;
            const char *values = memmem(line.p, line.n, " values ", 8),
                       *space = line.n ? memchr(line.p, ' ', line.n) : NULL;
            if (space)
                buf_printf(out, "%.*s\n", (int)((values ? values : space + 2) - line.p), line.p);
        }
        if (!line_end)
            break;
        p = line_end + 1;
    }
}

static void machine_run(const struct shape *s, bool crashes, struct buf *ret)
{
    static struct rig r;
    struct buf text = { 0 };
    put_definition(s, &text);
    rig_open(&r, text.p);
    rig_start(&r, "{}");
    for (unsigned n = 0; !r.finished && !r.failed; n++) {
        if (crashes)
            rig_reload(&r);
        assert_true(r.call_count > 0 && r.call_count <= s->parallel && n < 100);
        size_t at = s->order ? r.call_count - 1 : 0;
        unsigned v = (unsigned)(r.calls[at].node[0] - 'a');
        text.len = 0;
        buf_printf(&text, "{\"go\":%s,\"n\":%u}", s->says[v] ? "true" : "false", v);
        buf_byte(&text, '\0');
        rig_answer_at(&r, at, s->fails[v] ? ERR_MODEL : ERR_OK,
                      s->fails[v] ? "{\"code\":\"x\",\"message\":\"m\"}" : text.p);
    }
    ret->len = 0;
    shorten(buf_view(&r.trace), ret);
    buf_done(&text);
    rig_close(&r);
}

static void compare(uint64_t number, unsigned count, unsigned edges)
{
    static struct buf is;
    struct shape s = shape_of(number, count, edges);
    struct ref ref = { .s = &s };
    ref_run(&ref);
    for (unsigned crashes = 0; crashes < 2; crashes++) {
        machine_run(&s, crashes, &is);
        if (!span_eq(buf_view(&is), buf_view(&ref.trace))) {
            struct buf text = { 0 };
            put_definition(&s, &text);
            fail_msg("number %llu, %u nodes%s\n%s\nshould be:\n%.*sis:\n%.*s", (unsigned long long)number, count,
                     crashes ? ", with crashes" : "", text.p, SPAN_ARG(buf_view(&ref.trace)), SPAN_ARG(buf_view(&is)));
        }
    }
    buf_done(&is);
    buf_done(&ref.trace);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void sample(unsigned count, unsigned edges, unsigned times)
{
    uint64_t seed = 88172645463325252u + count, all = shapes(count, edges) * 2;
    for (unsigned i = 0; i < times; i++)
        compare(next_random(&seed) % all, count, edges);
}

static bool is_full(void)
{
    const char *every = getenv("PERDURE_EVERY");
    return every && strcmp(every, "full") == 0;
}

static void up_to_three_nodes(void **state)
{
    for (unsigned count = 1; count <= 3; count++) {
        uint64_t step = is_full() || count < 3 ? 1 : 11; /* eleven divides none of the choices */
        for (uint64_t number = 0; number < shapes(count, E_KINDS) * 2; number += step)
            compare(number, count, E_KINDS);
    }
}

static void four_nodes(void **state)
{
    if (is_full())
        for (uint64_t number = 0; number < shapes(4, 2) * 2; number++)
            compare(number, 4, 2);
    sample(4, E_KINDS, is_full() ? 500000 : 6000);
}

static void five_nodes(void **state)
{
    sample(5, 2, is_full() ? 1000000 : 5000);
    sample(5, E_KINDS, is_full() ? 1000000 : 5000);
}

/* ---- large ones ---- */

struct large {
    uint32_t count, parallel;
    uint8_t *kind;
    uint32_t (*from)[3];
    uint8_t *from_count;
};

static void put_large(struct large *l, uint64_t *seed, struct buf *out)
{
    buf_printf(out, "{\"kind\":\"workflow.v1\",\"execution\":{\"max_parallelism\":%u},\"nodes\":[", l->parallel);
    for (uint32_t i = 0; i < l->count; i++) {
        l->kind[i] = (uint8_t)(i < 10 || i % 4 ? K_LLM : next_random(seed) % K_KINDS);
        buf_printf(out, "%s{\"id\":\"n%05u\",\"type\":%s}", i ? "," : "", i,
                   l->kind[i] == K_LLM   ? "\"llm.responses\",\"input\":{\"request\":{\"model\":\"m\",\"input\":[]}}"
                   : l->kind[i] == K_ALL ? "\"join.all\""
                   : l->kind[i] == K_ANY ? "\"join.any\""
                                         : "\"join.collect\",\"input\":{}");
    }
    buf_printf(out, "],\"edges\":[");
    bool comma = false;
    for (uint32_t i = 1; i < l->count; i++) {
        l->from_count[i] = (uint8_t)(1 + next_random(seed) % 3);
        for (uint32_t k = 0; k < l->from_count[i]; k++) {
            uint32_t near = i < 50 ? i : 50;
            l->from[i][k] = i - 1 - (uint32_t)(next_random(seed) % near);
            /* A join of joins of joins would become too large. */
            if (l->kind[i] != K_LLM)
                l->from[i][k] |= 1;
            buf_printf(out, "%s{\"from\":\"n%05u\",\"to\":\"n%05u\"}", comma ? "," : "", l->from[i][k], i);
            comma = true;
        }
    }
    buf_printf(out, "],\"outputs\":[{\"name\":\"out\",\"from\":\"n%05u\"}]}", l->count - 1);
    buf_byte(out, '\0');
}

/* Nothing fails here, so each node that starts must have what it needs. */
static void check_start(const struct large *l, const uint8_t *finished, uint32_t node)
{
    uint32_t there = 0;
    for (uint32_t k = 0; k < l->from_count[node]; k++)
        there += finished[l->from[node][k]];
    if (l->kind[node] == K_ANY)
        assert_true(there > 0 || l->from_count[node] == 0);
    else
        assert_true(there == l->from_count[node]);
}

static void run_large(uint32_t count, uint32_t parallel, uint64_t seed)
{
    struct large l = { .count = count, .parallel = parallel };
    struct buf text = { 0 };
    struct arena arena = { 0 };
    struct plan plan = { .kinds = call_agent_kinds };
    struct issues issues = { .arena = &arena };
    struct machine *m;
    struct arena machine_arena = { 0 }, effects_arena = { 0 };
    struct effects fx = { .arena = &effects_arena };
    uint8_t *finished = ARENA_ARRAY(&arena, uint8_t, count), *started = ARENA_ARRAY(&arena, uint8_t, count);
    struct op_path *calls = ARENA_ARRAY(&arena, struct op_path, parallel + 1), pause = { 0 };
    uint32_t flying = 0, steps = 0;
    bool ended = false;

    l.kind = ARENA_ARRAY(&arena, uint8_t, count);
    l.from = arena_alloc(&arena, count * sizeof l.from[0]);
    l.from_count = ARENA_ARRAY(&arena, uint8_t, count);
    put_large(&l, &seed, &text);
    assert_int_equal(rig_plan(rig_parse(text.p, &arena), &plan, &issues), ERR_OK);
    assert_int_equal(graph_ops.init(&plan, &machine_arena, &m), ERR_OK);
    struct input in = { .kind = IN_START, .value = SPAN("{}") };
    while (!ended) {
        arena_reset(&effects_arena);
        fx.count = 0;
        assert_int_equal(graph_ops.step(m, &in, &fx), ERR_OK);
        for (size_t i = 0; i < fx.count; i++) {
            const struct effect *e = &fx.items[i];
            uint32_t node = e->op.n ? (e->op.v[0] & 0x0fffffff) >> 8 : 0;
            if (e->kind == FX_NODE && e->node_.event == NODE_START) {
                assert_true(!started[node]++);
                assert_int_equal(e->node_.step, steps++);
                check_start(&l, finished, node);
            } else if (e->kind == FX_NODE && e->node_.event == NODE_FINISH) {
                finished[node] = 1;
            } else if (e->kind == FX_MODEL) {
                calls[flying++] = e->op;
                assert_true(flying <= parallel);
            } else if (e->kind == FX_TIMER) {
                pause = e->op;
            } else if (e->kind == FX_ABORT) {
                uint32_t kept = 0;
                for (uint32_t c = 0; c < flying; c++)
                    if (!op_path_under(&calls[c], &e->op))
                        calls[kept++] = calls[c];
                flying = kept;
            }
            ended |= e->kind == FX_FINISH;
            assert_true(e->kind != FX_FAIL);
        }
        if (pause.n) {
            in = (struct input){ .kind = IN_TIMER, .op = pause, .value = SPAN("null") };
            pause.n = 0;
        } else if (!ended) {
            assert_true(flying > 0);
            uint32_t at = (uint32_t)(next_random(&seed) % flying);
            in = (struct input){ .kind = IN_MODEL, .op = calls[at], .value = SPAN("{\"n\":1}") };
            calls[at] = calls[--flying];
        }
    }
    assert_int_equal(flying, 0);
    free(fx.items);
    buf_done(&text);
    arena_done(&effects_arena);
    arena_done(&machine_arena);
    arena_done(&plan.arena);
    arena_done(&arena);
}

static void large_ones_keep_the_order(void **state)
{
    static const uint32_t counts[] = { 10, 100, 1000, 10000 };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        for (uint64_t seed = 1; seed <= (counts[i] < 1000 ? 20 : 1); seed++)
            run_large(counts[i], seed % 2 ? 4 : 32, seed * 7919);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(up_to_three_nodes),
        cmocka_unit_test(four_nodes),
        cmocka_unit_test(five_nodes),
        cmocka_unit_test(large_ones_keep_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
