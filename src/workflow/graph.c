/* SPDX-License-Identifier: Apache-2.0 */
/* graph.c - the steps of the graph machine (graph.h tells when nodes start and how effects are named).
 *
 * One step: take the input to the node that waits for it, then start whatever can start, the first in byte order of the
 * names, until nothing can. Nodes that need no answer start and finish within the step. */
#include "workflow/graph.h"
#include "workflow/flow.h"
#include "workflow/state.h"

/* ---- memory ---- */

void slot_set(struct slot *slot, struct span text, struct arena *arena)
{
    if (!slot->p || text.n > slot->cap) {
        slot->cap = text.n > slot->cap * 2 ? text.n : slot->cap * 2;
        slot->p = arena_alloc(arena, slot->cap + 1);
    }
    if (text.n)
        memcpy(slot->p, text.p, text.n);
    slot->n = text.n;
}

struct machine *machine_new(const struct plan *plan, struct arena *arena)
{
    const struct graph *graph = plan->compiled;
    struct machine *m = ARENA_NEW(arena, struct machine);

    m->plan = plan;
    m->graph = graph;
    m->arena = arena;
    m->nodes = ARENA_ARRAY(arena, struct node_state, graph->node_count);
    m->seen = ARENA_ARRAY(arena, uint32_t, graph->node_count);
    m->queue = ARENA_ARRAY(arena, uint32_t, graph->node_count);
    for (uint32_t i = 0; i < graph->node_count; i++)
        m->nodes[i].blocker = NO_INDEX;
    slot_set(&m->values, SPAN("{}"), arena);
    return m;
}

static enum err graph_init(const struct plan *plan, struct arena *arena, struct machine **ret)
{
    const struct graph *graph = plan->compiled;
    *ret = graph->flow ? flow_new(plan, arena) : machine_new(plan, arena);
    return ERR_OK;
}

/* ---- one step ---- */

/* What lives as long as a step. Documents are parsed at most once in it. */
struct doc_seen {
    struct doc_seen *next;
    enum ref_scope scope;
    uint32_t node;
    struct jv root;
};

struct turn {
    struct machine *m;
    const struct input *in;
    struct effects *out;
    struct doc_seen *docs;
    struct ref_docs refs;
    uint32_t starts; /* in this step */
    uint32_t checkpoints; /* in this step */
    size_t bytes;    /* of outputs and states in its effects */
};

/* One step is one commit and lives in memory as a whole, so a long run of nodes that need no answer is cut into
 * several. */
enum { STEP_STARTS_MAX = 256, STEP_BYTES_MAX = 4 << 20 };

static struct jv docs_find(void *ctx, const struct ref *ref)
{
    struct turn *t = ctx;
    struct machine *m = t->m;
    uint32_t node = ref->scope == REF_OUTPUT ? graph_find(m->graph, ref->node) : NO_INDEX;
    const struct slot *slot = ref->scope == REF_INPUT ? &m->input : &m->values;

    if (ref->scope == REF_OUTPUT) {
        if (node == NO_INDEX)
            return (struct jv){ 0 };
        slot = &m->nodes[node].output;
    }
    if (!slot->n)
        return (struct jv){ 0 };
    for (struct doc_seen *doc = t->docs; doc; doc = doc->next)
        if (doc->scope == ref->scope && doc->node == node)
            return doc->root;
    /* Parsed where it stands: whoever overwrites the slot in this step forgets the document, and nobody keeps what
     * was found in it, because resolving writes a new text. */
    struct doc_seen *doc = ARENA_NEW(t->out->arena, struct doc_seen);
    *doc = (struct doc_seen){ t->docs, ref->scope, node, json_read(slot_view(slot), t->out->arena) };
    t->docs = doc;
    return doc->root;
}

static void docs_forget(struct turn *t, enum ref_scope scope, uint32_t node)
{
    for (struct doc_seen **link = &t->docs; *link; link = &(*link)->next)
        if ((*link)->scope == scope && (*link)->node == node) {
            *link = (*link)->next;
            return;
        }
}

static struct op_path path_of(const struct machine *m, uint32_t node)
{
    return node_path(node, m->nodes[node].execs);
}

/* The effect that the node waits for. */
static struct op_path awaited_path(const struct machine *m, uint32_t node)
{
    static const uint32_t parts[PHASE_COUNT] = {
        [PHASE_MODEL] = OP_PART(OP_MODEL, 0),   [PHASE_TIMER] = OP_PART(OP_TIMER, 0),
        [PHASE_ANSWER] = OP_PART(OP_WAIT, 0),   [PHASE_CHILD] = OP_PART(OP_CHILD, 0),
        [PHASE_BACKOFF] = OP_PART(OP_TIMER, 1), [PHASE_TOOL] = OP_PART(OP_TOOL, 0),
    };
    enum phase phase = m->nodes[node].phase;
    /* Timers of small numbers may be the inner machine's. */
    uint32_t last = OP_PART(OP_TIMER, 0x0fffffff);
    return op_sub(path_of(m, node), phase == PHASE_BACKOFF && m->graph->nodes[node].inner ? last : parts[phase]);
}

/* ---- tokens ---- */

static void token_put(struct machine *m, uint32_t node)
{
    m->tokens += !m->nodes[node].token;
    m->nodes[node].token = true;
}

static void token_take(struct machine *m, uint32_t node)
{
    m->tokens -= m->nodes[node].token;
    m->nodes[node].token = false;
}

static void phase_set(struct machine *m, uint32_t node, enum phase phase)
{
    m->running -= m->nodes[node].phase != PHASE_IDLE;
    m->running += phase != PHASE_IDLE;
    m->nodes[node].phase = phase;
}

/* The way round a loop does not count for what lies in the loop, except for its header, which waits for the whole
 * body. */
static bool edge_counts(const struct graph *g, const struct plan_edge *edge, uint32_t node)
{
    return edge->back == NO_INDEX || g->loops[edge->back].header == node ||
           !loop_within(g, g->nodes[node].loop, edge->back);
}

/* true when `other`, which can reach `node`, must come first. A header that only has a token lets its body finish:
 * otherwise the two would wait for each other. */
static bool comes_first(const struct machine *m, uint32_t other, uint32_t node)
{
    const struct graph *g = m->graph;
    uint32_t loop = g->nodes[other].loop;

    if (m->nodes[other].phase != PHASE_IDLE)
        return true;
    if (!m->nodes[other].token)
        return false;
    return loop == NO_INDEX || g->loops[loop].header != other || !loop_within(g, g->nodes[node].loop, loop);
}

/* Searches backwards from the node for something that must come first. Returns NO_INDEX when there is nothing. */
static uint32_t find_blocker(struct machine *m, uint32_t node)
{
    const struct graph *g = m->graph;
    uint32_t head = 0, tail = 0, mark;

    if (m->seen_mark == UINT32_MAX) {
        memset(m->seen, 0, g->node_count * sizeof m->seen[0]);
        m->seen_mark = 0;
    }
    mark = ++m->seen_mark;
    m->seen[node] = mark;
    m->queue[tail++] = node;
    while (head < tail) {
        const struct plan_node *at = &g->nodes[m->queue[head++]];
        for (uint32_t i = at->in; i < at->in + at->in_count; i++) {
            const struct plan_edge *edge = &g->edges[g->in_edges[i]];
            if (m->seen[edge->from] == mark || !edge_counts(g, edge, node))
                continue;
            if (comes_first(m, edge->from, node))
                return edge->from;
            m->seen[edge->from] = mark;
            m->queue[tail++] = edge->from;
        }
    }
    return NO_INDEX;
}

static bool can_start(struct machine *m, uint32_t node)
{
    struct node_state *ns = &m->nodes[node];

    if (!ns->token || ns->phase != PHASE_IDLE)
        return false;
    if (m->graph->nodes[node].solo || m->running + m->tokens == 1)
        return true;
    /* What ran and was in the way a moment ago mostly still is. */
    if (ns->blocker != NO_INDEX && m->nodes[ns->blocker].phase != PHASE_IDLE)
        return false;
    ns->blocker = find_blocker(m, node);
    return ns->blocker == NO_INDEX;
}

static uint32_t next_to_start(struct machine *m)
{
    uint32_t left = m->tokens;
    for (uint32_t i = 0; left > 0 && i < m->graph->node_count; i++) {
        left -= m->nodes[i].token;
        if (can_start(m, i))
            return i;
    }
    return NO_INDEX;
}

/* ---- effects ---- */

static struct effect *node_effect(struct turn *t, uint32_t node, enum node_event event)
{
    const struct node_state *ns = &t->m->nodes[node];
    struct effect *fx = effect_add(t->out, FX_NODE, path_of(t->m, node));
    fx->node = t->m->graph->nodes[node].id;
    fx->top = true;
    fx->node_.event = event;
    fx->node_.step = ns->step;
    fx->node_.try_no = ns->try_no;
    return fx;
}

struct span machine_canonical_values(struct machine *m)
{
    if (!m->canonical_known) {
        CLEANUP(arena_done) struct arena scratch = { 0 };
        CLEANUP(buf_done) struct buf text = { 0 };
        json_canonical(json_read(slot_view(&m->values), &scratch), JSON_JCS, &text);
        slot_set(&m->canonical, buf_view(&text), m->arena);
        m->canonical_known = true;
    }
    return slot_view(&m->canonical);
}

/* JCS of {"next", "state": {"locals", "values"}, "step"}; "locals" holds the counters of core.fail. */
static struct span hashed_state(struct machine *m, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    uint32_t left = m->running + m->tokens;

    jw_obj(&w);
    jw_key(&w, "next");
    jw_arr(&w);
    for (uint32_t i = 0; left > 0 && i < m->graph->node_count; i++) {
        bool runs = m->nodes[i].phase != PHASE_IDLE;
        left -= (uint32_t)runs + m->nodes[i].token;
        if (runs || m->nodes[i].token)
            jw_str(&w, m->graph->nodes[i].id);
    }
    jw_arr_end(&w);
    jw_key(&w, "state");
    jw_obj(&w);
    jw_key(&w, "locals");
    jw_obj(&w);
    for (uint32_t i = 0; m->failers > 0 && i < m->graph->node_count; i++)
        if (m->nodes[i].fails) {
            jw_key_span(&w, m->graph->nodes[i].id);
            jw_u64(&w, m->nodes[i].fails);
        }
    jw_end(&w);
    jw_key(&w, "values");
    jw_raw(&w, machine_canonical_values(m));
    jw_end(&w);
    jw_key(&w, "step");
    jw_u64(&w, m->steps);
    jw_end(&w);
    return arena_copy(arena, buf_view(&text));
}

static void checkpoint(struct turn *t, enum checkpoint_kind kind, uint32_t node)
{
    struct op_path op = node == NO_INDEX ? (struct op_path){ 0 } : path_of(t->m, node);
    struct effect *fx = effect_add(t->out, FX_CHECKPOINT, op);
    fx->top = true;
    if (node != NO_INDEX)
        fx->node = t->m->graph->nodes[node].id;
    fx->checkpoint.kind = kind;
    fx->checkpoint.step = t->m->steps;
    fx->checkpoint.hashed = hashed_state(t->m, t->out->arena);
    t->bytes += fx->checkpoint.hashed.n;
    t->checkpoints++;
}

/* ---- the end of the run ---- */

/* What was in flight gets its token back, so that a new attempt starts it again. */
static void rewind_flights(struct machine *m)
{
    for (uint32_t i = 0; m->running > 0 && i < m->graph->node_count; i++)
        if (m->nodes[i].phase != PHASE_IDLE) {
            phase_set(m, i, PHASE_IDLE);
            token_put(m, i);
        }
}

static void fail_run(struct turn *t, const struct fault *fault, uint32_t node)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct machine *m = t->m;

    if (m->running > 0 || m->paused)
        effect_add(t->out, FX_ABORT, (struct op_path){ 0 })->top = true;
    m->paused = false;
    for (uint32_t i = 0; i < m->graph->node_count; i++)
        /* Between two tries there is no execution to cancel. */
        if (m->nodes[i].phase != PHASE_IDLE && m->nodes[i].phase != PHASE_BACKOFF)
            node_effect(t, i, NODE_CANCEL)->node_.error = SPAN("\"run_failed\"");
    rewind_flights(m);
    token_put(m, node);
    m->life = LIFE_FAILED;
    fault_to_json(fault, m->graph->nodes[node].id, &text);
    effect_add(t->out, FX_FAIL, (struct op_path){ 0 })->fail.error = arena_copy(t->out->arena, buf_view(&text));
}

static struct span run_output(struct machine *m, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    uint32_t count = 0, last = NO_INDEX;

    jw_obj(&w);
    for (uint32_t i = 0; i < m->graph->node_count; i++) {
        if (!m->nodes[i].ended)
            continue;
        jw_key_span(&w, m->graph->nodes[i].id);
        jw_raw(&w, slot_view(&m->nodes[i].output));
        last = i;
        count++;
    }
    jw_end(&w);
    if (count == 0)
        return SPAN("null");
    return arena_copy(arena, count == 1 ? slot_view(&m->nodes[last].output) : buf_view(&text));
}

static void finish_run(struct turn *t)
{
    struct machine *m = t->m;
    m->life = LIFE_FINISHED;
    checkpoint(t, CHECKPOINT_FINAL, NO_INDEX);
    struct effect *fx = effect_add(t->out, FX_FINISH, (struct op_path){ 0 });
    fx->finish.output = run_output(m, t->out->arena);
    fx->finish.values = arena_copy(t->out->arena, slot_view(&m->values));
}

/* ---- one node ---- */

static bool edge_holds(const struct plan_edge *edge, struct jv output)
{
    return !edge->conditional || jv_equal(jv_pointer(output, edge->pointer), edge->equals);
}

static bool any_conditional(const struct graph *g, const struct plan_node *node)
{
    for (uint32_t e = node->out; e < node->out + node->out_count; e++)
        if (g->edges[e].conditional)
            return true;
    return false;
}

static void finish_node(struct turn *t, uint32_t node, struct span output)
{
    struct machine *m = t->m;
    const struct plan_node *plan_node = &m->graph->nodes[node];
    struct node_state *ns = &m->nodes[node];
    struct jv doc = { 0 };

    node_effect(t, node, NODE_FINISH)->node_.output = output;
    t->bytes += output.n;
    if (any_conditional(m->graph, plan_node))
        doc = json_read(output, t->out->arena);
    ns->ended = true;
    for (uint32_t e = plan_node->out; e < plan_node->out + plan_node->out_count; e++)
        if (edge_holds(&m->graph->edges[e], doc)) {
            token_put(m, m->graph->edges[e].to);
            ns->ended = false;
        }
    if (plan_node->keep) {
        slot_set(&ns->output, output, m->arena);
        docs_forget(t, REF_OUTPUT, node);
    }
    checkpoint(t, CHECKPOINT_NODE, node);
}

/* Doubles from try to try, up to the longest time that can be asked for. */
static uint64_t backoff_us(const struct plan_node *node, uint32_t try_no)
{
    uint64_t us = node->backoff_us, most = (uint64_t)PLAN_MS_MAX * 1000;
    for (uint32_t i = 1; i < try_no && us < most; i++)
        us *= 2;
    return us < most ? us : most;
}

/* true when the node is to be tried again at once. */
static bool fail_node(struct turn *t, uint32_t node, const struct fault *fault)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct machine *m = t->m;
    const struct plan_node *plan_node = &m->graph->nodes[node];
    struct node_state *ns = &m->nodes[node];
    bool again = fault->retryable && ns->try_no < plan_node->max_tries;

    fault_to_json(fault, SPAN_NONE, &text);
    struct effect *fx = node_effect(t, node, NODE_FAIL);
    fx->node_.error = arena_copy(t->out->arena, buf_view(&text));
    fx->node_.will_retry = again;
    if (!again) {
        fail_run(t, fault, node);
        return false;
    }
    ns->inner = NULL; /* the next try begins anew; only a new attempt of the run goes on where the last one was */
    if (plan_node->backoff_us == 0)
        return true;
    ns->due_us = t->in->elapsed_us + backoff_us(plan_node, ns->try_no);
    phase_set(m, node, PHASE_BACKOFF);
    fx = effect_add(t->out, FX_TIMER, awaited_path(m, node));
    fx->node = plan_node->id;
    fx->top = true;
    fx->timer.due_us = ns->due_us;
    return false;
}

static struct work work_on(struct turn *t, uint32_t node)
{
    struct machine *m = t->m;
    return (struct work){
        .plan = m->plan,
        .node = &m->graph->nodes[node],
        .op = path_of(m, node),
        .in = t->in,
        .out = t->out,
        .docs = &t->refs,
        .input = slot_view(&m->input),
        .values = slot_view(&m->values),
        .memo = slot_view(&m->nodes[node].memo),
        .fails = m->nodes[node].fails,
        .inner = &m->nodes[node].inner,
        .arena = m->arena,
        .top = true,
    };
}

/* Puts into the state what the capability did. true when the node is to be tried again at once. */
static bool conclude(struct turn *t, uint32_t node, const struct work *work, enum verdict verdict)
{
    struct machine *m = t->m;
    struct node_state *ns = &m->nodes[node];

    if (work->values.p != m->values.p) {
        slot_set(&m->values, work->values, m->arena);
        m->canonical_known = false;
        docs_forget(t, REF_VALUES, NO_INDEX);
    }
    m->failers += !ns->fails && work->fails;
    ns->fails = work->fails;
    if (verdict == VERDICT_FAILED)
        return fail_node(t, node, &work->fault);
    if (verdict == VERDICT_DONE) {
        finish_node(t, node, work->output);
        return false;
    }
    if (work->memo.p != ns->memo.p)
        slot_set(&ns->memo, work->memo, m->arena);
    ns->due_us = work->due_us;
    phase_set(m, node, work->phase);
    return false;
}

static enum verdict bad_config(struct work *work, struct span code, struct span message)
{
    work->fault =
        (struct fault){ .code = code, .category = SPAN("validation"), .message = message, .source = SPAN("agent") };
    return VERDICT_FAILED;
}

/* Replaces the references; then the values are there and can be checked as the rest was when the plan was made. */
static enum verdict start_resolved(struct turn *t, struct work *work)
{
    CLEANUP(buf_done) struct buf at = { 0 };
    CLEANUP(buf_done) struct buf text = { 0 };
    struct arena *arena = t->out->arena;
    struct issues issues = { .arena = arena };
    struct span missing;

    if (ref_resolve(work->node->config, &t->refs, arena, &text, &missing))
        return bad_config(work, SPAN("reference_not_found"),
                          arena_printf(arena, "There is nothing at %.*s.", SPAN_ARG(missing)));
    work->config = json_read(arena_copy(arena, buf_view(&text)), arena);
    capability_check(work->node->capability, work->config, true, &at, &issues);
    if (issues.count > 0)
        return bad_config(work, SPAN("invalid_config"),
                          arena_printf(arena, "config%.*s %.*s.", SPAN_ARG(issues.items[0].pointer),
                                       SPAN_ARG(issues.items[0].message)));
    return work->node->capability->start(work);
}

/* Puts the checkpoint of a prompt where the work wants it: in front of the prompt. */
static void human_checkpoint(struct turn *t, uint32_t node, const struct work *work)
{
    size_t at = work->human_at;
    if (!work->human)
        return;
    checkpoint(t, CHECKPOINT_HUMAN, node);
    struct effects *out = t->out;
    struct effect last = out->items[out->count - 1];
    memmove(&out->items[at + 1], &out->items[at], (out->count - 1 - at) * sizeof out->items[0]);
    out->items[at] = last;
}

static bool steps_left(struct turn *t, uint32_t node)
{
    struct machine *m = t->m;
    if (m->steps < m->graph->max_steps)
        return true;
    struct fault fault = {
        .code = SPAN("max_steps"),
        .category = SPAN("budget"),
        .message = arena_printf(t->out->arena, "The run has started %u nodes, which is its limit.", m->steps),
        .source = SPAN("runtime"),
    };
    fail_run(t, &fault, node);
    return false;
}

/* One execution. true when the node is to be tried again at once. */
static bool execute(struct turn *t, uint32_t node, uint32_t try_no)
{
    struct machine *m = t->m;
    const struct plan_node *plan_node = &m->graph->nodes[node];
    struct node_state *ns = &m->nodes[node];

    if (!steps_left(t, node))
        return false;
    ns->execs++;
    ns->try_no = try_no;
    ns->step = m->steps++;
    t->starts++;
    ns->due_us = 0;
    struct effect *fx = node_effect(t, node, NODE_START);
    fx->node_.capability_ref = span_of(plan_node->capability->name);
    fx->node_.capability_version = span_of(plan_node->capability->version);
    fx->node_.execution_binding = plan_node->binding;

    struct work work = work_on(t, node);
    enum verdict verdict;
    work.config = plan_node->config;
    verdict = plan_node->has_refs ? start_resolved(t, &work) : plan_node->capability->start(&work);
    bool again = conclude(t, node, &work, verdict);
    human_checkpoint(t, node, &work);
    return again;
}

static void run_node(struct turn *t, uint32_t node, uint32_t try_no)
{
    while (execute(t, node, try_no))
        try_no++;
}

/* ---- inputs ---- */

static void set_member(struct slot *slot, struct jv v, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    if (jv_is(v, JSON_NONE))
        return;
    json_minify(v, &text);
    slot_set(slot, buf_view(&text), arena);
}

/* A team that is the whole run has no other checkpoint to be replayed from but its end. */
static bool wants_start(const struct machine *m)
{
    const struct plan *inner = m->graph->node_count == 1 ? m->graph->nodes[0].inner : NULL;
    return inner && strcmp(inner->ops->kind, "team") == 0;
}

static void begin(struct turn *t)
{
    struct machine *m = t->m;
    bool fresh = m->life == LIFE_NEW;
    struct jv start = json_read(t->in->value, t->out->arena), values = jv_get(start, "values");

    if (fresh) {
        set_member(&m->input, jv_get(start, "input"), m->arena);
        if (jv_is(values, JSON_OBJECT))
            set_member(&m->values, values, m->arena);
        for (uint32_t i = 0; i < m->graph->start_count; i++)
            token_put(m, m->graph->starts[i]);
    }
    rewind_flights(m);
    m->paused = false;
    m->life = LIFE_RUNNING;
    if (fresh && wants_start(m))
        checkpoint(t, CHECKPOINT_START, NO_INDEX);
}

/* The node that waits for exactly this input, or NO_INDEX: late answers are nobody's. */
static uint32_t addressee(const struct machine *m, const struct input *in)
{
    static const enum input_kind kinds[PHASE_COUNT] = {
        [PHASE_IDLE] = IN_KIND_COUNT, [PHASE_MODEL] = IN_MODEL, [PHASE_TIMER] = IN_TIMER,
        [PHASE_ANSWER] = IN_ANSWER,   [PHASE_CHILD] = IN_CHILD, [PHASE_BACKOFF] = IN_TIMER, [PHASE_INNER] = IN_KIND_COUNT,
        [PHASE_TOOL] = IN_TOOL,
    };
    uint32_t node;

    if (in->op.n == 0 || in->op.v[0] >> 28 != OP_NODE)
        return NO_INDEX;
    node = (in->op.v[0] & 0x0fffffff) >> 8;
    if (node >= m->graph->node_count)
        return NO_INDEX;
    struct op_path path = path_of(m, node);
    if (m->nodes[node].phase == PHASE_INNER)
        return in->op.n > path.n && op_path_under(&in->op, &path) ? node : NO_INDEX;
    if (m->nodes[node].phase == PHASE_TOOL && in->kind == IN_ANSWER) { /* nobody answered a client's call in time */
        struct op_path wait = op_sub(path_of(m, node), OP_PART(OP_WAIT, 0));
        return op_path_eq(&in->op, &wait) ? node : NO_INDEX;
    }
    if (kinds[m->nodes[node].phase] != in->kind)
        return NO_INDEX;
    struct op_path awaited = awaited_path(m, node);
    return op_path_eq(&in->op, &awaited) ? node : NO_INDEX;
}

static void deliver(struct turn *t, uint32_t node)
{
    struct machine *m = t->m;
    struct node_state *ns = &m->nodes[node];
    bool again = ns->phase == PHASE_BACKOFF;

    phase_set(m, node, PHASE_IDLE);
    ns->due_us = 0;
    if (!again) {
        struct work work = work_on(t, node);
        again = conclude(t, node, &work, work.node->capability->answer(&work));
        human_checkpoint(t, node, &work);
    }
    if (again)
        run_node(t, node, ns->try_no + 1);
}

/* A message is for the run: all machines that are at work in its nodes get it, in byte order of the names. */
static void deliver_message(struct turn *t)
{
    struct machine *m = t->m;
    uint32_t left = m->running;
    for (uint32_t i = 0; left > 0 && m->life == LIFE_RUNNING && i < m->graph->node_count; i++) {
        left -= m->nodes[i].phase != PHASE_IDLE;
        if (m->nodes[i].phase == PHASE_INNER)
            deliver(t, i);
    }
}

static struct op_path pause_path(const struct machine *m)
{
    return (struct op_path){ .n = 1, .v = { OP_PART(OP_TIMER, m->pauses) } };
}

/* Goes on when the timer, which is due at once, comes back. */
static void pause_run(struct turn *t)
{
    struct machine *m = t->m;
    m->pauses++;
    m->paused = true;
    struct effect *fx = effect_add(t->out, FX_TIMER, pause_path(m));
    fx->top = true;
    fx->timer.due_us = t->in->elapsed_us;
}

/* Somebody wants the state as it was at this checkpoint, and nothing of what came behind it. */
static bool is_cut(const struct turn *t)
{
    return t->out->stop_after_checkpoints && t->checkpoints >= t->out->stop_after_checkpoints;
}

static void start_ready(struct turn *t)
{
    struct machine *m = t->m;
    uint32_t node;

    while (!is_cut(t) && m->life == LIFE_RUNNING && !m->paused && (node = next_to_start(m)) != NO_INDEX) {
        if (t->starts >= STEP_STARTS_MAX || t->bytes >= STEP_BYTES_MAX) {
            pause_run(t);
            return;
        }
        token_take(m, node);
        run_node(t, node, 1);
    }
    if (is_cut(t) || m->life != LIFE_RUNNING || m->running > 0 || m->paused)
        return;
    /* Among nodes with tokens one can always start. Suppose each had another in its way, in a ring, and take the
     * innermost loop that holds the ring: a header with a token stops nobody in its loop, and without the way through
     * the header there is no ring unless in a loop further inside. */
    assert(m->tokens == 0);
    finish_run(t);
}

static bool ends_pause(const struct machine *m, const struct input *in)
{
    struct op_path path = pause_path(m);
    return m->paused && in->kind == IN_TIMER && op_path_eq(&in->op, &path);
}

static enum err graph_step(struct machine *m, const struct input *in, struct effects *out)
{
    if (m->flow)
        return flow_step(m, in, out);
    struct turn t = { .m = m, .in = in, .out = out };
    t.refs = (struct ref_docs){ docs_find, &t };

    if (in->kind == IN_START) {
        begin(&t);
    } else if (ends_pause(m, in)) {
        m->paused = false;
    } else if (in->kind == IN_MESSAGE) {
        deliver_message(&t);
    } else {
        uint32_t node = m->life == LIFE_RUNNING ? addressee(m, in) : NO_INDEX;
        if (node == NO_INDEX)
            return ERR_OK;
        deliver(&t, node);
    }
    start_ready(&t);
    return ERR_OK;
}

const struct machine_ops graph_ops = {
    .kind = "graph",
    .rev = 1,
    .compile = bundle_compile,
    .open = plan_open,
    .init = graph_init,
    .step = graph_step,
    .save = graph_save,
    .load = graph_load,
};
