/* SPDX-License-Identifier: Apache-2.0 */
/* money.c - what calls cost, summed, and held against caps (model.md 7.2, "budgets").
 *
 * What was spent is a row per run, per thread, and per workspace and day, written in the commit of the event that says so. What
 * is in flight is reserved in RAM: a call may begin when what is spent, what is reserved and what it may cost at most stay
 * within every cap. So a cap is overshot by no more than what the calls in flight cost beyond their reservations. */
#include "run/inner.h"
#include <stdlib.h>

enum { OUTPUT_GUESS = 4096, DAY_MS = 86400000 };

static const char *const cap_names[CAP_COUNT] = { "usd", "tokens", "model_calls", "tool_calls", "seconds" };

static bool load(struct engine *engine, struct spend_row *row)
{
    if (engine_read_begin(engine))
        return false;
    enum err e = reader_get(engine_reader(engine), TABLE_spend, row);
    engine_read_end(engine);
    return !e || e == ERR_NOT_FOUND;
}

static struct spend_row *of_run(struct run *run)
{
    if (!run->spend_loaded) {
        run->spend = (struct spend_row){ .workspace = run->row.workspace, .kind = SPEND_RUN, .id = run->row.id };
        run->spend_loaded = load(run->engine, &run->spend);
    }
    return &run->spend;
}

static struct spend_row *of_thread(struct run *run)
{
    struct thread *thread = run->thread;
    if (!thread->spend_loaded) {
        thread->spend = (struct spend_row){ .workspace = run->row.workspace, .kind = SPEND_THREAD, .id = thread->row.id };
        thread->spend_loaded = load(run->engine, &thread->spend);
    }
    return &thread->spend;
}

/* Of the day that it is now (UTC). */
static struct spend_day *of_day(struct run *run)
{
    struct engine    *engine = run->engine;
    struct spend_day *day = uuid_map_get(&engine->days, run->row.workspace);
    int64_t           today = engine_now_ms(engine) / DAY_MS;
    if (!day) {
        day = mem_alloc(sizeof *day);
        uuid_map_put(&engine->days, run->row.workspace, day);
    }
    if (day->row.day != today) {
        day->row = (struct spend_row){ .workspace = run->row.workspace, .kind = SPEND_DAY, .id = run->row.workspace, .day = today };
        (void)load(engine, &day->row);
    }
    return day;
}

void money_free(struct engine *engine)
{
    struct spend_day *day;
    for (size_t i = 0; (day = uuid_map_next(&engine->days, &i));)
        free(day);
    uuid_map_done(&engine->days);
}

bool spend_read(struct reader *reader, struct uuid workspace, enum spend_kind kind, struct uuid id, int64_t day, struct spend_row *ret)
{
    *ret = (struct spend_row){ .workspace = workspace, .kind = kind, .id = id, .day = day };
    return !reader_get(reader, TABLE_spend, ret) && ret->model_calls + ret->tool_calls > 0;
}

/* ---- sums ---- */

void cost_add(struct cost *sum, const struct cost *more)
{
    sum->usd += more->usd;
    sum->tokens_in += more->tokens_in;
    sum->tokens_out += more->tokens_out;
    sum->unpriced += more->unpriced;
    sum->calls += more->calls;
}

static void add_to(struct engine *engine, struct spend_row *row, const struct cost *cost, int64_t tool_calls)
{
    row->usd += cost->usd;
    row->unpriced += cost->unpriced;
    row->tokens_in += cost->tokens_in;
    row->tokens_out += cost->tokens_out;
    row->model_calls += cost->calls;
    row->tool_calls += tool_calls;
    batch_put(engine_batch(engine), TABLE_spend, row);
}

static void spend(struct run *run, const struct cost *cost, int64_t tool_calls)
{
    struct engine *engine = run->engine;
    add_to(engine, of_run(run), cost, tool_calls);
    add_to(engine, of_thread(run), cost, tool_calls);
    add_to(engine, &of_day(run)->row, cost, tool_calls);
    engine->stats.cost_pico += (uint64_t)cost->usd;
    engine->stats.calls_unpriced += (uint64_t)cost->unpriced;
}

static int64_t count(struct jv usage, const char *name)
{
    int64_t n = 0;
    return jv_i64(jv_get(usage, name), &n) && n > 0 ? n : 0;
}

struct cost cost_of(const struct run *run, const struct inflight *call, struct jv answer)
{
    struct jv   usage = jv_get(answer, "usage");
    struct cost cost = { .calls = 1, .tokens_in = count(usage, "input_tokens"), .tokens_out = count(usage, "output_tokens") };
    const struct prices *prices = run->engine->config.prices;
    if (call->on_node)
        return (struct cost){ .usd = 0 }; /* core.emit is no model */
    cost.unpriced = !prices || !price_of(prices, call->provider, call->model, usage, &cost.usd);
    return cost;
}

static bool was_shown(const struct inflight *call)
{
    for (unsigned i = 0; i < ARRAY_LEN(call->chunks); i++)
        if (call->chunks[i])
            return true;
    return false;
}

static bool price_known(const struct run *run, const struct inflight *call)
{
    const struct prices *prices = run->engine->config.prices;
    int64_t              none;
    return prices && price_bound(prices, call->provider, call->model, 0, 0, &none);
}

/* What was reserved for it, as long as nobody knows better. */
static struct cost cost_of_reserved(const struct run *run, const struct inflight *call)
{
    struct cost cost = call->reserved;
    cost.unpriced = cost.calls && !price_known(run, call);
    return cost;
}

struct cost cost_of_failed(const struct run *run, const struct inflight *call, enum err err, struct jv error)
{
    struct cost cost = { .calls = 1, .unpriced = !price_known(run, call) };
    if (err == ERR_BUDGET || call->on_node)
        return (struct cost){ .usd = 0 };
    if (jv_is(jv_get(error, "usage"), JSON_OBJECT))
        return cost_of(run, call, error);
    if (was_shown(call))
        return cost_of_reserved(run, call);
    return cost;
}

struct cost money_lost(struct run *run, struct inflight *call)
{
    struct cost cost = cost_of_reserved(run, call);
    money_settle(run, call, &cost);
    cost_book(run, &call->path, &cost);
    money_reserve(run, call);
    return cost;
}

void cost_put(struct jw *w, const struct cost *cost)
{
    if (!cost->calls)
        return;
    if (cost->unpriced) {
        jw_key(w, "cost_known");
        jw_bool(w, false);
    }
    if (cost->unpriced >= cost->calls)
        return;
    struct buf text = { 0 };
    usd_text(cost->usd, &text);
    jw_key(w, "cost_usd");
    jw_str(w, buf_view(&text));
    buf_done(&text);
}

struct span cost_priv(struct arena *arena, const struct cost *cost)
{
    return arena_printf(arena, "\"cost\":[%lld,%lld,%lld,%lld,%lld]", (long long)cost->usd, (long long)cost->tokens_in,
                        (long long)cost->tokens_out, (long long)cost->unpriced, (long long)cost->calls);
}

struct cost cost_read(struct jv priv)
{
    struct cost cost = { .usd = 0 };
    struct jv   list = jv_get(priv, "cost");
    int64_t    *members[] = { &cost.usd, &cost.tokens_in, &cost.tokens_out, &cost.unpriced, &cost.calls };
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        jv_i64(jv_at(list, i), members[i]);
    return cost;
}

/* To the nodes it lies in. */
void cost_book(struct run *run, const struct op_path *path, const struct cost *cost)
{
    struct op_path at = *path;
    for (; at.n > 0; at.n--) {
        struct op *op = run_op(run, &at);
        if (op && op->node_exec)
            cost_add(&op->cost, cost);
    }
}

/* ---- reservations ---- */

static int64_t guess_output(struct jv request)
{
    int64_t max = 0;
    return jv_i64(jv_get(request, "max_tokens"), &max) && max > 0 ? max : OUTPUT_GUESS;
}

void money_reserve(struct run *run, struct inflight *call)
{
    const struct prices *prices = run->engine->config.prices;
    int64_t              output = guess_output(json_read(call->request, &run->engine->turn));
    int64_t              input = (int64_t)call->request.n / 4 + 1; /* about four bytes of text are a token */
    call->reserved = (struct cost){ .calls = 1, .tokens_in = input, .tokens_out = output };
    if (!prices || !price_bound(prices, call->provider, call->model, (uint64_t)input, (uint64_t)output, &call->reserved.usd))
        call->reserved.usd = 0;
    cost_add(&run->reserved, &call->reserved);
    cost_add(&of_day(run)->reserved, &call->reserved);
}

static void subtract(struct cost *sum, const struct cost *less)
{
    sum->usd -= less->usd;
    sum->tokens_in -= less->tokens_in;
    sum->tokens_out -= less->tokens_out;
    sum->calls -= less->calls;
}

static void unreserve(struct run *run, struct inflight *call)
{
    struct spend_day *day = uuid_map_get(&run->engine->days, run->row.workspace);
    subtract(&run->reserved, &call->reserved);
    if (day)
        subtract(&day->reserved, &call->reserved);
    call->reserved = (struct cost){ .usd = 0 };
}

void money_settle(struct run *run, struct inflight *call, const struct cost *cost)
{
    if (run->fold || !call->reserved.calls)
        return;
    unreserve(run, call);
    spend(run, cost, 0);
}

/* It was cut off: what it has cost is not known, so what was reserved for it counts. */
void money_abandon(struct run *run, struct inflight *call)
{
    struct cost cost = cost_of_reserved(run, call);
    if (run->fold || !call->reserved.calls)
        return;
    unreserve(run, call);
    bool sent = call->model_call; /* else it was never sent, or had its answer */
    if (sent && run->engine->batch) /* without one the engine is taken apart: the next start finds the call lost, and counts it */
        spend(run, &cost, 0);
}

/* ---- caps ---- */

struct breach {
    enum cap           cap;
    bool               of_day;
    int64_t            limit, used;
    enum budget_breach action;
};

static int64_t used_of(const struct spend_row *row, const struct cost *reserved, enum cap cap)
{
    switch (cap) {
    case CAP_USD:         return row->usd + reserved->usd;
    case CAP_TOKENS:      return row->tokens_in + row->tokens_out + reserved->tokens_in + reserved->tokens_out;
    case CAP_MODEL_CALLS: return row->model_calls + reserved->calls;
    case CAP_TOOL_CALLS:  return row->tool_calls;
    case CAP_SECONDS:
    case CAP_COUNT:       break;
    }
    return 0;
}

static int64_t limit_of(const struct plan_budget *budget, enum cap cap)
{
    switch (cap) {
    case CAP_USD:         return budget->usd;
    case CAP_TOKENS:      return (int64_t)budget->tokens;
    case CAP_MODEL_CALLS: return (int64_t)budget->model_calls;
    case CAP_TOOL_CALLS:  return (int64_t)budget->tool_calls;
    case CAP_SECONDS:     return (int64_t)budget->seconds;
    case CAP_COUNT:       break;
    }
    return 0;
}

static int64_t *raised_of(struct spend_row *row, enum cap cap)
{
    switch (cap) {
    case CAP_USD:         return &row->raised_usd;
    case CAP_TOKENS:      return &row->raised_tokens;
    case CAP_MODEL_CALLS: return &row->raised_model_calls;
    case CAP_TOOL_CALLS:  return &row->raised_tool_calls;
    case CAP_SECONDS:
    case CAP_COUNT:       break;
    }
    return &row->raised_seconds;
}

static int64_t plus(int64_t a, int64_t b) /* neither is negative */
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

/* What the call would add: `cost` of a model's, else a tool's. */
static int64_t adds(const struct cost *cost, enum cap cap)
{
    switch (cap) {
    case CAP_USD:         return cost ? cost->usd : 0;
    case CAP_TOKENS:      return cost ? cost->tokens_in + cost->tokens_out : 0;
    case CAP_MODEL_CALLS: return cost != NULL;
    case CAP_TOOL_CALLS:  return cost == NULL;
    case CAP_SECONDS:
    case CAP_COUNT:       break;
    }
    return 0;
}

static int64_t seconds_of(const struct run *run)
{
    uint64_t waited = (uint64_t)run->row.waited_ms * 1000;
    return run->now_us > waited ? (int64_t)((run->now_us - waited) / 1000000) : 0;
}

static bool over(const struct run *run, const struct plan_budget *budget, struct spend_row *row, const struct cost *reserved,
                 const struct cost *cost, bool of_day, struct breach *ret)
{
    for (int cap = 0; cap < CAP_COUNT; cap++) {
        int64_t limit = limit_of(budget, (enum cap)cap), more = adds(cost, (enum cap)cap);
        int64_t used = cap == CAP_SECONDS ? seconds_of(run) : used_of(row, reserved, (enum cap)cap);
        if (!limit || (cap == CAP_SECONDS && of_day))
            continue;
        limit = plus(limit, *raised_of(row, (enum cap)cap));
        if (cap == CAP_SECONDS ? used < limit : !more || used + more <= limit)
            continue;
        *ret = (struct breach){ .cap = (enum cap)cap, .of_day = of_day, .limit = limit, .used = used, .action = budget->on_breach };
        return true;
    }
    return false;
}

/* The plan's caps, and the server's where the plan has none. */
static struct plan_budget run_budget(const struct run *run)
{
    struct plan_budget        budget = run->plan->budget;
    const struct plan_budget *otherwise = &run->engine->config.run_budget;
    bool                      own = budget.usd || budget.tokens || budget.model_calls || budget.tool_calls || budget.seconds;
    if (!own)
        budget.on_breach = otherwise->on_breach;
    budget.usd = budget.usd ? budget.usd : otherwise->usd;
    budget.tokens = budget.tokens ? budget.tokens : otherwise->tokens;
    budget.model_calls = budget.model_calls ? budget.model_calls : otherwise->model_calls;
    budget.tool_calls = budget.tool_calls ? budget.tool_calls : otherwise->tool_calls;
    budget.seconds = budget.seconds ? budget.seconds : otherwise->seconds;
    return budget;
}

static bool has_caps(const struct plan_budget *b)
{
    return b->usd || b->tokens || b->model_calls || b->tool_calls || b->seconds;
}

/* What is in the way of a call that costs `cost` at most (NULL: a tool's). */
static bool find_breach(struct run *run, const struct cost *cost, struct breach *ret)
{
    struct plan_budget        own = run_budget(run);
    const struct plan_budget *daily = &run->engine->config.day_budget;
    if (has_caps(&own) && over(run, &own, of_run(run), &run->reserved, cost, false, ret))
        return true;
    return has_caps(daily) && over(run, daily, &of_day(run)->row, &of_day(run)->reserved, cost, true, ret);
}

static void put_amount(struct jw *w, const char *name, enum cap cap, int64_t amount)
{
    jw_key(w, name);
    if (cap != CAP_USD) {
        jw_i64(w, amount);
        return;
    }
    struct buf text = { 0 };
    usd_text(amount, &text);
    jw_str(w, buf_view(&text));
    buf_done(&text);
}

static void put_breach(struct jw *w, const struct breach *b)
{
    static const char *const actions[] = { "fail", "stop", "ask" };
    jw_key(w, "cap");
    jw_cstr(w, cap_names[b->cap]);
    jw_key(w, "scope");
    jw_cstr(w, b->of_day ? "workspace_day" : "run");
    put_amount(w, "limit", b->cap, b->limit);
    put_amount(w, "used", b->cap, b->used);
    jw_key(w, "action");
    jw_cstr(w, actions[b->action]);
}

static struct span breach_json(struct run *run, const struct breach *b)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    put_breach(&w, b);
    jw_end(&w);
    struct span kept = arena_copy(&run->engine->turn, buf_view(&text));
    buf_done(&text);
    return kept;
}

static void record_breach(struct run *run, const struct breach *b, uint32_t op, uint32_t parent, struct span node)
{
    struct jw w = payload_begin(run->engine, node);
    put_breach(&w, b);
    run_record(run, REC_BUDGET, 0, 0, op, parent, payload_end(run->engine, &w), SPAN_NONE, NULL);
    run->engine->stats.budgets_reached++;
}

#define RAISE_SCHEMA(amount)                                                                                                \
    "{\"anyOf\":[{\"enum\":[\"stop\"]},{\"type\":\"object\",\"required\":[\"raise\"],\"additionalProperties\":false," \
    "\"properties\":{\"raise\":" amount "}}]}"
static const char raise_schema[] = RAISE_SCHEMA("{\"type\":\"integer\",\"minimum\":1}");
static const char raise_usd_schema[] = RAISE_SCHEMA("{\"type\":[\"number\",\"string\"],\"exclusiveMinimum\":0,\"minLength\":1}");

static struct op_path wait_of_call(struct op_path call)
{
    uint32_t *last = &call.v[call.n - 1];
    *last = OP_PART(OP_WAIT, (*last & 0x0fffffff) | BUDGET_BIT);
    return call;
}

static bool budget_asked(const struct run *run)
{
    for (const struct open_wait *w = run->waits; w; w = w->next)
        if (w->row.kind == WAIT_BUDGET)
            return true;
    return false;
}

static void ask(struct run *run, const struct breach *b, struct op_path call, uint32_t op, struct span node)
{
    struct span details = breach_json(run, b);
    struct op   of = run_node_of(run, call);
    if (budget_asked(run)) /* one question at a time: its answer is for all that are held */
        return;
    wait_ask(run, WAIT_BUDGET, wait_of_call(call), op, node, SPAN_NONE,
             arena_printf(&run->engine->turn, "The budget of %s is used up. Answer {\"raise\": amount} to go on, or \"stop\".",
                          cap_names[b->cap]), span_of(b->cap == CAP_USD ? raise_usd_schema : raise_schema), details);
    if (of.no)
        wait_note(run, &of, of.node, SPAN_NONE, true);
}

/* What becomes of a call that may not be made. */
static enum admit refuse(struct run *run, const struct breach *b, struct pending_input *in, struct op_path path, uint32_t op,
                         uint32_t parent, struct span node, bool *held)
{
    record_breach(run, b, op, parent, node);
    if (b->action == BUDGET_ASK) {
        *held = true;
        ask(run, b, path, op, node);
        return ADMIT_HELD;
    }
    if (b->action == BUDGET_FAIL) {
        run_fail_code(run, "budget_exceeded", "budget", false, "the run has reached one of its caps");
        return ADMIT_FAILED;
    }
    in->err = ERR_BUDGET;
    in->path = path;
    in->op = op;
    in->unsent = true;
    in->value = breach_json(run, b);
    run_input(run, in);
    return ADMIT_HELD;
}

enum admit money_admit_model(struct run *run, struct inflight *call)
{
    struct breach        b;
    struct pending_input in = { .kind = IN_MODEL };
    if (call->on_node)
        return ADMIT_GO;
    money_reserve(run, call);
    struct cost wanted = call->reserved;
    subtract(&run->reserved, &wanted); /* it is what is asked about */
    subtract(&of_day(run)->reserved, &wanted);
    bool breaks = find_breach(run, &wanted, &b);
    cost_add(&run->reserved, &wanted);
    cost_add(&of_day(run)->reserved, &wanted);
    if (!breaks)
        return ADMIT_GO;
    unreserve(run, call);
    return refuse(run, &b, &in, call->path, call->op, call->on_node ? 0 : call->delta_parent, call->node, &call->held);
}

enum admit money_admit_tool(struct run *run, struct tool_flight *t)
{
    struct breach        b;
    struct pending_input in = { .kind = IN_TOOL };
    if (t->by == TOOL_BY_LOCAL)
        return ADMIT_GO;
    if (!find_breach(run, NULL, &b)) {
        spend(run, &(struct cost){ .usd = 0 }, 1);
        return ADMIT_GO;
    }
    return refuse(run, &b, &in, t->path, t->op, t->parent, t->node, &t->held);
}

/* ---- a person raises a cap ---- */

/* The amount as decimal text, however it was written. */
static struct span amount_text(struct jv amount, struct arena *arena)
{
    return jv_is(amount, JSON_STRING) ? jv_string(amount, arena) : jv_raw(amount);
}

bool money_raise_fits(struct jv answer, struct arena *arena)
{
    struct jv amount = jv_get(answer, "raise");
    int64_t   n = 0;
    return jv_is(amount, JSON_NONE) || jv_i64(amount, &n) || (!usd_parse(amount_text(amount, arena), &n) && n > 0);
}

static int64_t amount_of(struct jv amount, enum cap cap, struct arena *arena)
{
    int64_t n = 0;
    if (cap != CAP_USD)
        return jv_i64(amount, &n) ? n : 0;
    if (!usd_parse(amount_text(amount, arena), &n))
        return n;
    return jv_i64(amount, &n) ? INT64_MAX : 0; /* more than can be counted */
}

static void raise_cap(struct run *run, struct jv details, struct jv amount)
{
    bool              daily = jv_str_eq(jv_get(details, "scope"), "workspace_day");
    struct spend_row *row = daily ? &of_day(run)->row : of_run(run);
    for (int cap = 0; cap < CAP_COUNT; cap++)
        if (jv_str_eq(jv_get(details, "cap"), cap_names[cap])) {
            int64_t *raised = raised_of(row, (enum cap)cap), n = amount_of(amount, (enum cap)cap, &run->engine->turn);
            *raised = plus(*raised, n > 0 ? n : 0);
        }
    batch_put(engine_batch(run->engine), TABLE_spend, row);
}

/* What was held is looked at again, in its order: it goes, or the next question is asked. Stopped: it gets its refusal. */
static void release_models(struct run *run, bool stop, struct span why)
{
    for (bool found = true; found && !run->gone;) {
        struct inflight *held = NULL;
        for (struct inflight *c = run->calls; c; c = c->next)
            if (c->held && (!held || c->op < held->op))
                held = c;
        found = held != NULL;
        if (!found)
            return;
        held->held = false;
        if (stop) {
            run_input(run, &(struct pending_input){ .kind = IN_MODEL, .err = ERR_BUDGET, .path = held->path, .op = held->op,
                                                    .value = why });
            continue;
        }
        enum admit admitted = money_admit_model(run, held);
        if (admitted == ADMIT_GO)
            inflight_begin(run, held, 0);
        else if (admitted == ADMIT_FAILED || held->held)
            return;
    }
}

void money_answered(struct run *run, struct span details, struct span value, bool rejected)
{
    struct arena *turn = &run->engine->turn;
    struct jv     asked = json_read(arena_copy(turn, details), turn), raise = jv_get(json_read(value, turn), "raise");
    bool          stop = rejected || jv_is(raise, JSON_NONE);
    struct span   why = arena_copy(turn, details);
    if (!stop)
        raise_cap(run, asked, raise);
    release_models(run, stop, why);
    if (!run->gone && !budget_asked(run))
        tool_release(run, stop, why);
}
