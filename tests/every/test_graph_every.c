/* SPDX-License-Identifier: Apache-2.0 */
/* test_graph_every.c - every graph of up to four nodes, every kind of node in every place, every choice of every
 * switch, every order in which calls end, and every place where one fails.
 *
 * Each run is compared with a reference that is slow and obviously right: it resolves edges one by one as alive or
 * dead and starts a node when all its edges are resolved. The machine works differently (graph.h), so the two do not
 * err alike. Then each run is repeated with a crash (save, throw away, load) before each of its inputs in turn, and
 * with one before all of them: the effects must be the same to the byte. That is what recovery rests on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "../unit/graph_rig.h"

/* ---- the enumerator of style.md ---- */

struct every {
    bool started;
    unsigned at, depth;
    struct {
        unsigned now, max;
    } pick[32];
};

static bool every_next(struct every *e)
{
    e->at = 0;
    if (!e->started)
        return e->started = true;
    while (e->depth > 0 && e->pick[e->depth - 1].now == e->pick[e->depth - 1].max)
        e->depth--;
    if (e->depth == 0)
        return false;
    e->pick[e->depth - 1].now++;
    return true;
}

static unsigned every_pick(struct every *e, unsigned count)
{
    assert(count > 0 && e->at < 32);
    if (e->at == e->depth)
        e->pick[e->depth++].now = 0;
    e->pick[e->at].max = count - 1;
    return e->pick[e->at++].now;
}

/* ---- graphs ---- */

enum { NODES = 4 };
enum kind { KIND_VALUE, KIND_CALL, KIND_SWITCH, KIND_COUNT };

struct shape {
    unsigned count;
    bool edge[NODES][NODES]; /* from a smaller to a larger number; node 0 is the entry */
    enum kind kind[NODES];
    bool backwards; /* names fall where numbers rise */
};

static char name_of(const struct shape *s, unsigned node)
{
    return (char)(s->backwards ? 'd' - (int)node : 'a' + (int)node);
}

static unsigned children(const struct shape *s, unsigned node)
{
    unsigned count = 0;
    for (unsigned to = node + 1; to < s->count; to++)
        count += s->edge[node][to];
    return count;
}

/* Every node has a predecessor, so all can be reached. A node without children is no switch. */
static void pick_shape(struct every *e, struct shape *s)
{
    *s = (struct shape){ .count = 1 + every_pick(e, NODES) };
    for (unsigned to = 1; to < s->count; to++) {
        unsigned from = 1 + every_pick(e, (1U << to) - 1); /* a set of predecessors, not empty */
        for (unsigned i = 0; i < to; i++)
            s->edge[i][to] = from >> i & 1;
    }
    for (unsigned i = 0; i < s->count; i++)
        s->kind[i] = every_pick(e, children(s, i) ? KIND_COUNT : KIND_SWITCH);
    s->backwards = every_pick(e, 2);
}

static void write_switch(const struct shape *s, unsigned node, struct buf *out)
{
    unsigned k = 0;
    buf_printf(out, "\"core.switch\",\"execution_binding\":\"builtin\",\"config\":{\"cases\":[");
    for (unsigned to = node + 1; to < s->count; to++)
        if (s->edge[node][to])
            buf_printf(out, "{\"when\":{\"pointer\":\"/input/%c\",\"equals\":%u},\"next\":\"%c\"},", name_of(s, node),
                       k++, name_of(s, to));
    buf_printf(out, "{\"next\":null}]}");
}

static void write_plain(const struct shape *s, unsigned node, struct buf *out)
{
    bool comma = false;
    if (s->kind[node] == KIND_VALUE)
        buf_printf(out, "\"core.value\",\"execution_binding\":\"builtin\",\"config\":{\"value\":\"%c\"}",
                   name_of(s, node));
    else
        buf_printf(
            out,
            "\"model.chat\",\"execution_binding\":\"model\",\"config\":{\"provider\":\"p\",\"model\":\"m\",\"prompt\":\"?\"}");
    buf_printf(out, ",\"next\":[");
    for (unsigned to = node + 1; to < s->count; to++)
        if (s->edge[node][to]) {
            buf_printf(out, "%s\"%c\"", comma ? "," : "", name_of(s, to));
            comma = true;
        }
    buf_printf(out, "]");
}

static void write_definition(const struct shape *s, struct buf *out)
{
    buf_printf(out, "{\"format\":1,\"entry\":\"%c\",\"nodes\":[", name_of(s, 0));
    for (unsigned i = 0; i < s->count; i++) {
        buf_printf(out, "%s{\"node\":\"%c\",\"capability_version\":\"1\",\"capability_ref\":", i ? "," : "",
                   name_of(s, i));
        if (s->kind[i] == KIND_SWITCH)
            write_switch(s, i, out);
        else
            write_plain(s, i, out);
        BUF_LIT(out, "}");
    }
    BUF_LIT(out, "]}");
    buf_byte(out, 0);
}

/* ---- the reference ---- */

enum edge_state { OPEN, ALIVE, DEAD };
enum node_now { PENDING, RUNNING, DONE, NEVER };

struct reference {
    const struct shape *s;
    const unsigned *choice; /* of switches: which child, or one more for none */
    enum edge_state edge[NODES][NODES];
    enum node_now node[NODES];
    bool failed;
    struct buf log;
};

static unsigned by_name(const struct shape *s, unsigned rank)
{
    return s->backwards ? s->count - 1 - rank : rank;
}

static void reference_finish(struct reference *r, unsigned node)
{
    unsigned k = 0;
    r->node[node] = DONE;
    buf_printf(&r->log, "finish %c\n", name_of(r->s, node));
    for (unsigned to = node + 1; to < r->s->count; to++)
        if (r->s->edge[node][to])
            r->edge[node][to] = r->s->kind[node] != KIND_SWITCH || r->choice[node] == k++ ? ALIVE : DEAD;
}

/* true when all edges to the node are resolved; *ret_alive when one of them is alive. */
static bool resolved(const struct reference *r, unsigned node, bool *ret_alive)
{
    *ret_alive = node == 0;
    for (unsigned from = 0; from < node; from++) {
        if (!r->s->edge[from][node])
            continue;
        if (r->edge[from][node] == OPEN)
            return false;
        *ret_alive |= r->edge[from][node] == ALIVE;
    }
    return true;
}

static void reference_bury(struct reference *r)
{
    bool alive;
    for (unsigned node = 0; node < r->s->count; node++)
        if (r->node[node] == PENDING && resolved(r, node, &alive) && !alive) {
            r->node[node] = NEVER;
            for (unsigned to = node + 1; to < r->s->count; to++)
                r->edge[node][to] = DEAD;
        }
}

static void reference_settle(struct reference *r)
{
    bool alive, again = true;
    while (again) {
        again = false;
        reference_bury(r);
        for (unsigned rank = 0; rank < r->s->count && !again; rank++) {
            unsigned node = by_name(r->s, rank);
            if (r->node[node] != PENDING || !resolved(r, node, &alive) || !alive)
                continue;
            buf_printf(&r->log, "start %c\n", name_of(r->s, node));
            r->node[node] = RUNNING;
            if (r->s->kind[node] != KIND_CALL)
                reference_finish(r, node);
            again = true;
        }
    }
}

static void reference_answer(struct reference *r, unsigned node, bool fails)
{
    if (!fails) {
        reference_finish(r, node);
        reference_settle(r);
        return;
    }
    r->failed = true;
    r->node[node] = NEVER;
    buf_printf(&r->log, "fail %c\n", name_of(r->s, node));
    for (unsigned rank = 0; rank < r->s->count; rank++)
        if (r->node[by_name(r->s, rank)] == RUNNING)
            buf_printf(&r->log, "cancel %c\n", name_of(r->s, by_name(r->s, rank)));
}

static void reference_output_of(const struct reference *r, unsigned node, struct buf *out)
{
    unsigned k = 0, to;
    if (r->s->kind[node] == KIND_VALUE)
        buf_printf(out, "\"%c\"", name_of(r->s, node));
    else if (r->s->kind[node] == KIND_CALL)
        buf_printf(out, "{\"text\":\"%c\"}", name_of(r->s, node));
    else {
        for (to = node + 1; to < r->s->count; to++)
            if (r->s->edge[node][to] && r->choice[node] == k++)
                break;
        buf_printf(out, to < r->s->count ? "{\"next\":\"%c\"}" : "{\"next\":null}", name_of(r->s, to));
    }
}

static struct buf reference_output(const struct reference *r)
{
    struct buf out = { 0 };
    unsigned ends[NODES], count = 0;
    for (unsigned rank = 0; rank < r->s->count; rank++) {
        unsigned node = by_name(r->s, rank);
        bool on = false;
        for (unsigned to = node + 1; to < r->s->count; to++)
            on |= r->s->edge[node][to] && r->edge[node][to] == ALIVE;
        if (r->node[node] == DONE && !on)
            ends[count++] = node;
    }
    if (count == 1) {
        reference_output_of(r, ends[0], &out);
        return out;
    }
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&out, "%s\"%c\":", i ? "," : "{", name_of(r->s, ends[i]));
        reference_output_of(r, ends[i], &out);
    }
    BUF_LIT(&out, "}");
    return out;
}

/* ---- comparing ---- */

/* "start a", "finish a", "fail a", "cancel a" of the rig's trace. */
static struct buf short_log(const struct buf *trace)
{
    static const char *const words[] = { "start ", "finish ", "fail ", "cancel " };
    struct buf out = { 0 };
    for (const char *p = trace->p, *end = p + trace->len, *eol; p < end; p = eol + 1) {
        eol = memchr(p, '\n', (size_t)(end - p));
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (strncmp(p, words[i], strlen(words[i])) == 0)
                buf_printf(&out, "%s%c\n", words[i], p[strlen(words[i])]);
    }
    return out;
}

static void assert_same(const struct shape *s, struct span is, struct span expected)
{
    if (span_eq(is, expected))
        return;
    struct buf definition = { 0 };
    write_definition(s, &definition);
    print_error("%s\nis:\n%.*s\nexpected:\n%.*s\n", definition.p, SPAN_ARG(is), SPAN_ARG(expected));
    fail();
}

struct decision {
    char node;
    bool fails;
};

static void rig_decide(struct rig *r, struct decision d)
{
    char answer[32], name[2] = { d.node, 0 };
    snprintf(answer, sizeof answer, d.fails ? "{\"code\":\"%c\"}" : "{\"text\":\"%c\"}", d.node);
    rig_answer(r, name, d.fails ? ERR_MODEL : ERR_OK, answer);
}

/* The plan stays while the definition is the same: the first choices change last. */
static void open_shape(struct rig *r, const struct shape *s, struct buf *known)
{
    struct buf definition = { 0 };
    write_definition(s, &definition);
    if (!known->len || strcmp(known->p, definition.p) != 0) {
        if (known->len)
            rig_close(r);
        rig_open(r, definition.p);
        known->len = 0;
        buf_span(known, buf_view(&definition));
    }
    buf_done(&definition);
}

/* Another run of the same plan. */
static void rig_again(struct rig *r)
{
    arena_reset(&r->machine_arenas[0]);
    arena_reset(&r->machine_arenas[1]);
    r->life = 0;
    r->trace.len = r->paths.len = r->call_count = r->open_nodes = 0;
    r->finished = r->failed = false;
    r->seq = r->elapsed_us = 0;
    assert(graph_ops.init(&r->plan, &r->machine_arenas[0], &r->m) == ERR_OK);
}

/* crash: before which input; NODES + 1: before each. */
static void run_with_crash(struct rig *r, const char *start, const struct decision *decisions, unsigned count,
                           unsigned crash)
{
    rig_again(r);
    if (crash == 0 || crash > NODES)
        rig_reload(r);
    rig_start(r, start);
    for (unsigned i = 0; i < count; i++) {
        if (crash == i + 1 || crash > NODES)
            rig_reload(r);
        rig_decide(r, decisions[i]);
    }
}

static void every_small_graph_runs_as_the_reference_and_survives_every_crash(void **state)
{
    struct every e = { 0 };
    struct rig r;
    struct buf known = { 0 };
    unsigned runs = 0, crashes = 0;

    while (every_next(&e)) {
        struct shape s;
        struct decision decisions[NODES];
        unsigned count = 0, choice[NODES] = { 0 };
        struct buf start = { 0 };

        pick_shape(&e, &s);
        open_shape(&r, &s, &known);
        BUF_LIT(&start, "{\"values\":{},\"input\":{\"none\":0");
        for (unsigned i = 0; i < s.count; i++)
            if (s.kind[i] == KIND_SWITCH)
                buf_printf(&start, ",\"%c\":%u", name_of(&s, i), choice[i] = every_pick(&e, children(&s, i) + 1));
        BUF_LIT(&start, "}}");
        buf_byte(&start, 0);

        struct reference ref = { .s = &s, .choice = choice };
        rig_again(&r);
        rig_start(&r, start.p);
        reference_settle(&ref);
        while (r.call_count > 0) {
            size_t at = every_pick(&e, (unsigned)r.call_count);
            struct decision d = { r.calls[at].node[0], every_pick(&e, 2) };
            decisions[count++] = d;
            rig_decide(&r, d);
            reference_answer(&ref, (unsigned)(s.backwards ? 'd' - d.node : d.node - 'a'), d.fails);
        }

        struct buf is = short_log(&r.trace);
        assert_same(&s, buf_view(&is), buf_view(&ref.log));
        assert_true(r.failed == ref.failed && r.finished == !ref.failed);
        if (r.finished) {
            struct buf output = reference_output(&ref);
            assert_same(&s, buf_view(&r.output), buf_view(&output));
            buf_done(&output);
        }
        char *whole = mem_dup(r.trace.p, r.trace.len);
        for (unsigned crash = 0; crash <= NODES + 1; crash++) {
            if (crash > count && crash <= NODES)
                continue;
            run_with_crash(&r, start.p, decisions, count, crash);
            assert_same(&s, buf_view(&r.trace), span_of(whole));
            crashes++;
        }
        free(whole);
        buf_done(&is);
        buf_done(&ref.log);
        buf_done(&start);
        runs++;
    }
    rig_close(&r);
    buf_done(&known);
    print_message("%u runs, %u runs with crashes\n", runs, crashes);
    assert_true(runs > 10000);
}

/* ---- loops ---- */

/* Three places, each either a fork (a value with several followers) or a question (a model call, and a switch that
 * goes where the answer says). Followers may be any place, so there are loops within loops, loops with two ways in,
 * parallel branches that leave a loop one by one. What all of them must do: come to an end once the answers say so,
 * and survive crashes. */
enum { PLACES = 3, ANSWERS = 3 };

struct maze {
    bool question[PLACES];
    unsigned next[PLACES]; /* set of places */
};

static void write_maze(const struct maze *z, struct buf *out)
{
    BUF_LIT(out, "{\"format\":1,\"entry\":\"p0\",\"nodes\":[");
    for (unsigned i = 0; i < PLACES; i++) {
        bool comma = false;
        buf_printf(out, "%s{\"node\":\"p%u\",\"capability_version\":\"1\",", i ? "," : "", i);
        if (z->question[i])
            buf_printf(
                out,
                "\"capability_ref\":\"model.chat\",\"execution_binding\":\"model\",\"config\":{\"provider\":\"p\","
                "\"model\":\"m\",\"prompt\":\"?\"},\"next\":\"s%u\"},{\"node\":\"s%u\",\"capability_version\":\"1\","
                "\"capability_ref\":\"core.switch\",\"execution_binding\":\"builtin\",\"config\":{\"cases\":[",
                i, i);
        else
            BUF_LIT(out, "\"capability_ref\":\"core.echo\",\"execution_binding\":\"builtin\",\"next\":[");
        for (unsigned to = 0; to < PLACES; to++) {
            if (!(z->next[i] >> to & 1))
                continue;
            if (z->question[i])
                buf_printf(out,
                           "{\"when\":{\"pointer\":\"/nodes/p%u/output/text\",\"equals\":\"%u\"},\"next\":\"p%u\"},", i,
                           to, to);
            else
                buf_printf(out, "%s\"p%u\"", comma ? "," : "", to);
            comma = true;
        }
        buf_printf(out, z->question[i] ? "{\"next\":null}]}}" : "]}");
    }
    BUF_LIT(out, "]}");
    buf_byte(out, 0);
}

static bool maze_compiles(const struct buf *definition)
{
    struct arena scratch = { 0 };
    struct plan plan = { 0 };
    struct issues issues = { .arena = &scratch };
    bool good = graph_ops.compile(rig_parse(definition->p, &scratch), &plan, &issues) == ERR_OK;
    arena_done(&plan.arena);
    arena_done(&scratch);
    return good;
}

struct turn_taken {
    unsigned call;
    char answer[16];
};

static void maze_answer(struct rig *r, const struct turn_taken *taken)
{
    rig_answer_at(r, taken->call, ERR_OK, taken->answer);
}

static unsigned walk_maze(struct rig *r, struct every *e, struct turn_taken *taken, unsigned most)
{
    unsigned count = 0;
    rig_again(r);
    rig_start(r, "{\"values\":{}}");
    while (r->call_count > 0) {
        assert_true(count < most);
        struct turn_taken *t = &taken[count++];
        bool free_choice = count <= ANSWERS;
        t->call = free_choice ? every_pick(e, (unsigned)r->call_count) : 0;
        snprintf(t->answer, sizeof t->answer, "{\"text\":\"%u\"}", free_choice ? every_pick(e, PLACES + 1) : PLACES);
        maze_answer(r, t);
    }
    assert_true(r->finished);
    return count;
}

static void every_small_maze_comes_to_an_end_and_survives_every_crash(void **state)
{
    unsigned runs = 0, mazes = 0;

    for (unsigned code = 0; code < 16 * 16 * 16; code++) {
        struct maze z;
        struct rig r;
        struct every e = { 0 };
        struct buf definition = { 0 };
        for (unsigned i = 0, rest = code; i < PLACES; i++, rest /= 16) {
            z.question[i] = rest & 1;
            z.next[i] = rest >> 1 & 7;
        }
        write_maze(&z, &definition);
        if (maze_compiles(&definition)) {
            mazes++;
            rig_open(&r, definition.p);
            while (every_next(&e)) {
                struct turn_taken taken[64];
                unsigned count = walk_maze(&r, &e, taken, ARRAY_LEN(taken));
                char *whole = mem_dup(r.trace.p, r.trace.len);
                rig_again(&r);
                rig_start(&r, "{\"values\":{}}");
                for (unsigned i = 0; i < count; i++) {
                    rig_reload(&r);
                    maze_answer(&r, &taken[i]);
                }
                if (!span_eq(buf_view(&r.trace), span_of(whole)))
                    fail_msg("%s\n%s\n---\n%.*s", definition.p, whole, SPAN_ARG(buf_view(&r.trace)));
                free(whole);
                runs++;
            }
            rig_close(&r);
        }
        buf_done(&definition);
    }
    print_message("%u mazes, %u runs\n", mazes, runs);
    assert_true(mazes > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_graph_runs_as_the_reference_and_survives_every_crash),
        cmocka_unit_test(every_small_maze_comes_to_an_end_and_survives_every_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
