/* SPDX-License-Identifier: Apache-2.0 */
/* tools.c - tool calls: the intent is recorded with its key, then the call leaves, then its receipt is recorded (model.md 7.1).
 *
 * A call is sent after the commit of its intent and never otherwise. When the process dies in between, a call whose tool may be
 * called twice with the same key is sent again; the outcome of any other is unknown, and a person is asked. A call with the key
 * of an earlier one that succeeded takes that one's receipt and is not sent. */
#include "run/inner.h"
#include <stdlib.h>

static const char *const by_names[] = { "server", "client", "local" };

struct tool_flight *tool_flight_at(const struct run *run, const struct op_path *path)
{
    struct tool_flight *t = run->tools;
    while (t && !op_path_eq(&t->path, path))
        t = t->next;
    return t;
}

bool tool_in_flight(const struct run *run)
{
    for (const struct tool_flight *t = run->tools; t; t = t->next)
        if (t->by != TOOL_BY_CLIENT && !t->unknown && !t->held)
            return true;
    return false;
}

static const struct engine_tools *registry(const struct run *run)
{
    return run->engine->config.tools.start ? &run->engine->config.tools : NULL;
}

static void cancel(struct tool_flight *t)
{
    if (t->call)
        registry(t->run)->cancel(TAKE(t->call));
}

static void flight_free(struct tool_flight *t)
{
    cancel(t);
    free(t);
}

static void flight_add(struct run *run, struct tool_flight *t)
{
    struct tool_flight **tail = &run->tools;
    while (*tail)
        tail = &(*tail)->next;
    *tail = t;
}

static struct tool_flight *flight_take(struct run *run, const struct op_path *path)
{
    for (struct tool_flight **p = &run->tools; *p; p = &(*p)->next)
        if (op_path_eq(&(*p)->path, path)) {
            struct tool_flight *t = *p;
            *p = t->next;
            return t;
        }
    return NULL;
}

void tool_abort_under(struct run *run, const struct op_path *prefix)
{
    for (struct tool_flight **p = &run->tools; *p;) {
        struct tool_flight *t = *p;
        if (!op_path_under(&t->path, prefix)) {
            p = &t->next;
            continue;
        }
        *p = t->next;
        run_op_drop(run, &t->path);
        flight_free(t);
    }
}

void tool_quiesce(struct run *run)
{
    for (struct tool_flight *t = run->tools; t; t = t->next)
        cancel(t);
}

static struct tool_flight *unanswered_of(struct run *run, const struct op_path *parent)
{
    for (struct tool_flight *t = run->tools; t; t = t->next) {
        struct op_path of = t->path;
        of.n--;
        if (t->by == TOOL_BY_CLIENT && op_path_eq(t->asked ? &t->path : &of, parent))
            return t;
    }
    return NULL;
}

/* Nobody answered the client's calls of this wait, or the question of one, in time: they are over, as the timer's event says. */
void tool_drop_unanswered(struct run *run, const struct op_path *wait)
{
    struct op_path      parent = *wait;
    struct tool_flight *t;
    parent.n--;
    while ((t = unanswered_of(run, &parent))) {
        struct op_path path = t->path;
        tool_abort_under(run, &path);
    }
}

/* ---- sending ---- */

/* From the intent to the commit: the run or the call may be gone by then. */
struct intent {
    struct engine *engine;
    struct uuid    run, attempt;
    uint32_t       op;
};

static void answer(struct tool_flight *t, enum err err, struct span value, bool unsent)
{
    run_input(t->run, &(struct pending_input){ .kind = IN_TOOL, .err = err, .path = t->path, .op = t->op, .value = value,
                                               .unsent = unsent });
}

static void on_end(void *user, enum err err, struct span result, bool sent)
{
    struct tool_flight *t = user;
    t->call = NULL;
    answer(t, err, result, err && !sent);
}

static void could_not_start(struct tool_flight *t, const char *code, const char *message)
{
    answer(t, ERR_TOOL, error_json(&t->run->engine->turn, code, "tool", "tool", false, message), true);
}

static void send(struct tool_flight *t)
{
    struct engine             *engine = t->run->engine;
    const struct engine_tools *ops = registry(t->run);
    struct error               error = { 0 };
    struct tool_call_config config = { .tool = t->tool, .arguments = t->arguments, .context = t->context, .on_end = on_end, .user = t };
    char                    key[UUID_TEXT];
    enum err                e;
    if (!ops) {
        could_not_start(t, "unknown_tool", "this server has no tools");
        return;
    }
    uuid_format(t->key, key);
    config.key = span_make(key, UUID_TEXT);
    engine->stats.tool_calls++;
    if (t->by == TOOL_BY_LOCAL)
        e = ops->list(ops->tools, jv_raw(jv_get(json_read(t->arguments, &engine->turn), "tools")), on_end, t, &t->call, &error);
    else
        e = ops->start(ops->tools, &config, &t->call, &error);
    if (e)
        could_not_start(t, "unknown_tool", error.message);
}

static void committed(void *arg, enum err err)
{
    struct intent      *intent = arg;
    struct engine      *engine = intent->engine;
    struct run         *run = uuid_map_get(&engine->runs, intent->run);
    struct tool_flight *t = NULL;
    if (!err && run && !run->gone && uuid_eq(run->row.attempt, intent->attempt) && !engine->draining)
        for (t = run->tools; t && t->op != intent->op;)
            t = t->next;
    if (t && !t->call && !t->unknown && !t->held)
        send(t);
    free(intent);
}

static void send_later(struct tool_flight *t)
{
    struct intent *intent = mem_alloc(sizeof *intent);
    struct run    *run = t->run;
    *intent = (struct intent){ .engine = run->engine, .run = run->row.id, .attempt = run->row.attempt, .op = t->op };
    engine_after(run->engine, committed, intent);
}

/* ---- a person decides about an unknown outcome ---- */

static const char receipt_schema[] =
    "{\"anyOf\":[{\"enum\":[\"repeat\",\"failed\"]},"
    "{\"type\":\"object\",\"required\":[\"result\"],\"additionalProperties\":false,\"properties\":{\"result\":true}}]}";

/* As deep as the call itself; no machine counts its waits that far. */
static const uint32_t RECEIPT_BIT = 1u << 27;

static struct op_path wait_of_tool(struct op_path call)
{
    uint32_t *last = &call.v[call.n - 1];
    *last = OP_PART(OP_WAIT, (*last & 0x0fffffff) | RECEIPT_BIT);
    return call;
}

struct op_path tool_of_wait(struct op_path wait)
{
    uint32_t *last = &wait.v[wait.n - 1];
    *last = OP_PART(OP_TOOL, *last & 0x0fffffff & ~RECEIPT_BIT);
    return wait;
}

static struct span call_details(struct run *run, const struct tool_flight *t)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "tool");
    jw_str(&w, t->tool);
    payload_value(&w, "arguments", t->arguments);
    jw_key(&w, "idempotency_key");
    jw_uuid(&w, &t->key);
    jw_end(&w);
    struct span kept = arena_copy(&run->engine->turn, buf_view(&text));
    buf_done(&text);
    return kept;
}

/* The node's NODE_WAITING is the caller's. */
static void ask_for_receipt(struct run *run, struct tool_flight *t)
{
    struct span prompt = arena_printf(&run->engine->turn,
                                      "Whether the call of %.*s took effect is not known. Answer \"repeat\" to send it again, \"failed\", "
                                      "or {\"result\": …}.", SPAN_ARG(t->tool));
    t->unknown = true;
    run->engine->stats.receipts_asked++;
    wait_ask(run, WAIT_RECEIPT, wait_of_tool(t->path), t->op, t->node, t->name, prompt, span_of(receipt_schema), call_details(run, t));
}

static void note_waiting(struct run *run, const struct op_path *call)
{
    struct op node = run_node_of(run, *call);
    if (node.no)
        wait_note(run, &node, node.node, SPAN_NONE, true);
}

void tool_answered_by_person(struct run *run, struct op_path wait, struct span value, bool rejected, struct span by)
{
    struct arena       *turn = &run->engine->turn;
    struct op_path      path = tool_of_wait(wait);
    struct tool_flight *t = tool_flight_at(run, &path);
    struct jv           said = json_read(value, turn), result = jv_get(said, "result");
    if (!t)
        return;
    t->unknown = false;
    if (!rejected && jv_str_eq(said, "repeat")) {
        send_later(t);
        return;
    }
    struct pending_input in = { .kind = IN_TOOL, .path = t->path, .op = t->op, .by_person = true, .by = by, .value = jv_raw(result) };
    if (rejected || jv_is(result, JSON_NONE)) {
        in.err = ERR_TOOL;
        in.value = error_json(turn, "tool_failed", "tool", "human", false, "a person said that the call did not take effect");
    }
    run_take_input(run, &in);
}

/* ---- the intent ---- */

/* The innermost part of the node that has called a model and holds the call. */
static const struct wf_steps *steps_of(const struct run *run, const struct op_path *path)
{
    const struct wf_steps *found = NULL;
    for (uint32_t i = 0; i < run->step_count; i++)
        if (op_path_under(path, &run->steps[i].of) && (!found || run->steps[i].of.n > found->of.n))
            found = &run->steps[i];
    return found;
}

bool run_step_at(const struct run *run, const struct op_path *path, uint32_t *ret_step, uint32_t *ret_op)
{
    const struct wf_steps *found = steps_of(run, path);
    for (uint32_t i = 0; i < run->step_count && !found; i++)
        if (op_path_under(&run->steps[i].of, path))
            found = &run->steps[i];
    if (found) {
        *ret_step = found->step;
        *ret_op = found->model_op;
    }
    return found != NULL;
}

static struct span unique_name(struct run *run, struct span given, uint32_t op)
{
    struct arena *arena = &run->host_arena;
    if (!given.n)
        given = arena_printf(arena, "call_%u", op);
    if (receipt_name_used(run, given))
        given = arena_printf(arena, "%.*s_%lld_%u", SPAN_ARG(given), (long long)run->row.attempt_no, op);
    return arena_copy(arena, given);
}

static struct tool_flight *flight_new(struct run *run, const struct effect *fx, const struct op *op)
{
    struct arena          *arena = &run->host_arena;
    struct tool_flight    *t = mem_alloc(sizeof *t);
    const struct wf_steps *steps = steps_of(run, &fx->op);
    *t = (struct tool_flight){ .run = run, .path = fx->op, .op = op->no, .parent = op->parent, .by = fx->tool.by, .top = fx->top,
                               .started_us = run->now_us };
    t->node = arena_copy(arena, fx->node);
    t->tool = arena_copy(arena, fx->tool.tool);
    t->arguments = arena_copy(arena, fx->tool.arguments.n ? fx->tool.arguments : SPAN("{}"));
    t->context = arena_copy(arena, fx->tool.context);
    t->given = arena_copy(arena, fx->tool.call_name);
    t->key = tool_key(run, &t->path, t->node, t->tool, t->arguments);
    t->safe = registry(run) ? registry(run)->repeat_safe(registry(run)->tools, t->tool) : fx->tool.repeat_safe;
    t->safe = t->safe || t->by != TOOL_BY_SERVER;
    if (steps) {
        t->wf_step = steps->step;
        t->model_op = steps->model_op;
    }
    return t;
}

static struct span intent_priv(struct engine *engine, const struct tool_flight *t, bool cut)
{
    engine->scratch_priv.len = 0;
    struct jw w = jw_on(&engine->scratch_priv);
    jw_obj(&w);
    jw_key(&w, "key");
    jw_uuid(&w, &t->key);
    jw_key(&w, "safe");
    jw_bool(&w, t->safe);
    jw_key(&w, "p");
    path_json(&w, &t->path);
    jw_key(&w, "wf_step");
    jw_u64(&w, t->wf_step);
    jw_key(&w, "call_op");
    jw_u64(&w, t->model_op);
    if (t->given.n) {
        jw_key(&w, "call");
        jw_str(&w, t->given);
    }
    if (t->context.n) { /* what other dialects show of the call */
        jw_key(&w, "context");
        jw_raw(&w, t->context);
    }
    if (cut) {
        jw_key(&w, "arguments");
        jw_raw(&w, t->arguments);
    }
    jw_end(&w);
    return buf_view(&engine->scratch_priv);
}

/* What was decided when it was recorded counts. */
static void fold_intent(struct run *run, struct tool_flight *t, struct span pub)
{
    const struct fold *fold = run->fold;
    struct arena      *turn = &run->engine->turn;
    if (fold->err || !fold->at)
        return;
    struct jv priv = json_read(fold->records[fold->at - 1].priv, turn);
    t->name = arena_copy(&run->host_arena, jv_string(jv_get(json_read(pub, turn), "tool_call_id"), turn));
    t->safe = jv_bool(jv_get(priv, "safe"), false);
    uuid_parse(jv_string(jv_get(priv, "key"), turn), &t->key);
}

/* What an agent asks before it asks its model: no model called it, so other dialects do not show it. */
static bool is_listing(const struct tool_flight *t)
{
    return t->by == TOOL_BY_LOCAL && span_is(t->tool, "tools.list");
}

static void record_intent(struct run *run, struct tool_flight *t)
{
    struct engine *engine = run->engine;
    if (!run->fold)
        t->name = unique_name(run, t->given, t->op);
    struct jw w = payload_begin(engine, t->node);
    jw_key(&w, "tool_call_id");
    jw_str(&w, t->name);
    jw_key(&w, "tool");
    jw_str(&w, t->tool);
    bool cut = payload_value(&w, "arguments", t->arguments);
    jw_key(&w, "by");
    jw_cstr(&w, by_names[t->by]);
    struct span pub = payload_end(engine, &w), recorded = SPAN_NONE;
    run_record(run, REC_TOOL_STARTED, 0, !is_listing(t), t->op, t->parent, pub, intent_priv(engine, t, cut), &recorded);
    if (run->fold)
        fold_intent(run, t, recorded);
}

/* What was known of this key before: its receipt is used, or, when nobody knows what became of it, a person decides. */
static void follow_up(struct run *run, struct tool_flight *t, const struct receipt *earlier)
{
    if (earlier && earlier->state == RECEIPT_OK) {
        struct pending_input in = { .kind = IN_TOOL, .path = t->path, .op = t->op, .reused = true, .value = receipt_value(run, earlier) };
        if (in.value.p) {
            run_input(run, &in);
            return;
        }
    }
    if (earlier && !t->safe) {
        ask_for_receipt(run, t);
        note_waiting(run, &t->path);
    } else {
        send_later(t);
    }
}

void tool_apply(struct run *run, const struct effect *fx)
{
    struct op          *op = run_op_new(run, &fx->op, run_node_of(run, fx->op).no, fx->node, fx->top);
    struct tool_flight *t = flight_new(run, fx, op);
    record_intent(run, t);
    struct receipt *found = run->fold || t->by != TOOL_BY_SERVER ? NULL : receipt_find(run, t->key);
    struct receipt  earlier = found ? *found : (struct receipt){ .seq = 0 };
    receipt_add(run, t->key, t->op, t->name);
    flight_add(run, t);
    if (run->fold || replay_is_strict(run) || replay_broken(run))
        return;
    if (t->by == TOOL_BY_CLIENT) {
        (void)money_admit_tool(run, t);
        return;
    }
    if (t->by == TOOL_BY_LOCAL && !is_listing(t))
        local_call(run, t);
    else if ((found && earlier.state == RECEIPT_OK) || money_admit_tool(run, t) == ADMIT_GO)
        follow_up(run, t, found ? &earlier : NULL);
}

void tool_release(struct run *run, bool stop, struct span why)
{
    for (bool found = true; found && !run->gone;) {
        struct tool_flight *t = run->tools;
        while (t && !t->held)
            t = t->next;
        found = t != NULL;
        if (!found)
            return;
        t->held = false;
        if (stop)
            answer(t, ERR_BUDGET, why, true);
        else if (money_admit_tool(run, t) != ADMIT_GO)
            return;
        else if (t->by != TOOL_BY_CLIENT)
            send_later(t);
    }
}

/* ---- the receipt ---- */

static unsigned answer_events(const struct tool_flight *t, struct span value, struct arena *arena)
{
    struct jv said = json_read(value, arena);
    if (!t->asked)
        return 1;
    if (jv_is(said, JSON_STRING)) /* a text that holds JSON, as clients of workflows send it */
        said = json_read(jv_string(said, arena), arena);
    struct span text = jv_string(jv_get(said, "answer"), arena);
    for (size_t i = 0; i < text.n; i++)
        if (!strchr(" \t\r\n", text.p[i]))
            return 2;
    return 1;
}

static void keep_receipt(struct run *run, const struct tool_flight *t, const struct pending_input *in, uint64_t seq)
{
    struct receipt *item = receipt_of_op(run, t->op);
    if (!item)
        return;
    item->state = in->err ? RECEIPT_FAILED : RECEIPT_OK;
    item->sent = !in->unsent;
    item->seq = seq;
    if (t->by != TOOL_BY_LOCAL)
        item->value = arena_copy(&run->receipts.arena, in->value.n ? in->value : SPAN("null"));
}

static struct span receipt_priv(struct run *run, const struct tool_flight *t, const struct pending_input *in)
{
    struct span more = arena_printf(&run->engine->turn, "\"wf_step\":%u,\"call_op\":%u%s%s%s", t->wf_step, t->model_op,
                                    in->unsent ? ",\"unsent\":true" : "", in->reused ? ",\"reused\":true" : "",
                                    in->by_person ? ",\"by_person\":true" : "");
    return input_priv_more(run->engine, run->now_us, &t->path, in->err, more, in->value);
}

bool tool_record(struct run *run, const struct pending_input *in)
{
    struct engine      *engine = run->engine;
    struct tool_flight *t = flight_take(run, &in->path);
    if (!t)
        return false;
    struct jw w = payload_begin(engine, t->node);
    jw_key(&w, "tool_call_id");
    jw_str(&w, t->name);
    jw_key(&w, "tool");
    jw_str(&w, t->tool);
    payload_value(&w, in->err ? "error" : "result", in->value.n ? in->value : SPAN("null"));
    jw_key(&w, "duration_ms");
    jw_u64(&w, (run->now_us - t->started_us) / 1000);
    if (in->reused) {
        jw_key(&w, "reused");
        jw_bool(&w, true);
    }
    if (in->by_person) {
        jw_key(&w, "resolved_by");
        jw_str(&w, in->by);
    }
    struct span pub = payload_end(engine, &w);
    unsigned    wf = is_listing(t) ? 0 : in->err ? 1 : answer_events(t, in->value, &engine->turn);
    uint64_t    seq = run_record(run, in->err ? REC_TOOL_FAILED : REC_TOOL_FINISHED, 0, wf, t->op, t->parent, pub,
                                 receipt_priv(run, t, in), NULL);
    keep_receipt(run, t, in, seq);
    run_op_drop(run, &t->path);
    if (t->by == TOOL_BY_CLIENT)
        wait_tools_answered(run, &t->path);
    flight_free(t);
    return true;
}

/* ---- in a fold ---- */

void tool_fold_receipt(struct run *run, const struct record *record, const struct op_path *path)
{
    struct receipt     *item = receipt_of_op(run, record->op);
    struct tool_flight *t = tool_flight_at(run, path);
    if (!t || !item)
        return;
    item->state = record->type == REC_TOOL_FINISHED ? RECEIPT_OK : RECEIPT_FAILED;
    item->sent = !jv_bool(jv_get(json_read(record->priv, &run->engine->turn), "unsent"), false);
    item->seq = record->seq;
}

void tool_forget(struct run *run, const struct op_path *path)
{
    struct tool_flight *t = flight_take(run, path);
    if (!t)
        return;
    run_op_drop(run, path);
    if (t->by == TOOL_BY_CLIENT)
        wait_tools_answered(run, path);
    free(t);
}

void tool_go_live(struct run *run)
{
    struct op_path asked[16];
    unsigned       count = 0;
    for (struct tool_flight *t = run->tools; t; t = t->next) {
        if (t->by == TOOL_BY_CLIENT || t->unknown || t->held)
            continue;
        if (t->safe) {
            send_later(t);
            continue;
        }
        struct op node = run_node_of(run, t->path);
        bool      known = false;
        ask_for_receipt(run, t);
        for (unsigned i = 0; i < count; i++)
            known |= op_path_eq(&asked[i], &node.path);
        if (!known && count < ARRAY_LEN(asked))
            asked[count++] = node.path;
    }
    for (unsigned i = 0; i < count; i++) /* once per node, behind all of its questions */
        note_waiting(run, &asked[i]);
}

/* ---- in snapshots ---- */

void tool_save(const struct run *run, struct jw *w)
{
    jw_key(w, "tools");
    jw_arr(w);
    for (const struct tool_flight *t = run->tools; t; t = t->next) {
        const struct { const char *name; uint64_t v; } numbers[] = {
            { "op", t->op }, { "parent", t->parent }, { "by", t->by }, { "top", t->top }, { "safe", t->safe }, { "unknown", t->unknown },
            { "held", t->held },
            { "asked", t->asked }, { "step", t->wf_step }, { "model_op", t->model_op }, { "us", t->started_us },
        };
        const struct { const char *name; struct span v; } texts[] = {
            { "node", t->node }, { "tool", t->tool }, { "arguments", t->arguments }, { "context", t->context }, { "given", t->given },
            { "name", t->name },
        };
        jw_obj(w);
        jw_key(w, "path");
        path_json(w, &t->path);
        jw_key(w, "key");
        jw_uuid(w, &t->key);
        for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
            jw_key(w, numbers[i].name);
            jw_u64(w, numbers[i].v);
        }
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
            jw_key(w, texts[i].name);
            jw_str(w, texts[i].v);
        }
        jw_end(w);
    }
    jw_arr_end(w);
    jw_key(w, "steps");
    jw_arr(w);
    for (uint32_t i = 0; i < run->step_count; i++) {
        jw_obj(w);
        jw_key(w, "of");
        path_json(w, &run->steps[i].of);
        jw_key(w, "step");
        jw_u64(w, run->steps[i].step);
        jw_key(w, "model_op");
        jw_u64(w, run->steps[i].model_op);
        jw_end(w);
    }
    jw_arr_end(w);
    receipts_save(run, w);
}

static uint32_t get_u32(struct jv object, const char *name)
{
    int64_t v = 0;
    jv_i64(jv_get(object, name), &v);
    return (uint32_t)v;
}

static struct span get_text(struct run *run, struct jv object, const char *name)
{
    return arena_copy(&run->host_arena, jv_string(jv_get(object, name), &run->host_arena));
}

static void load_flight(struct run *run, struct jv v)
{
    struct tool_flight *t = mem_alloc(sizeof *t);
    int64_t             us = 0;
    *t = (struct tool_flight){ .run = run, .op = get_u32(v, "op"), .parent = get_u32(v, "parent"), .by = (enum tool_by)get_u32(v, "by"),
                               .top = get_u32(v, "top"), .safe = get_u32(v, "safe"), .unknown = get_u32(v, "unknown"),
                               .held = get_u32(v, "held"),
                               .asked = get_u32(v, "asked"), .wf_step = get_u32(v, "step"), .model_op = get_u32(v, "model_op") };
    path_read(jv_get(v, "path"), &t->path);
    jv_i64(jv_get(v, "us"), &us);
    t->started_us = (uint64_t)us;
    uuid_parse(jv_string(jv_get(v, "key"), &run->host_arena), &t->key);
    t->node = get_text(run, v, "node");
    t->tool = get_text(run, v, "tool");
    t->arguments = get_text(run, v, "arguments");
    t->context = get_text(run, v, "context");
    t->given = get_text(run, v, "given");
    t->name = get_text(run, v, "name");
    flight_add(run, t);
}

void tool_load(struct run *run, struct jv body)
{
    for (struct jv_iter it = jv_iter(jv_get(body, "tools")); jv_step(&it);)
        load_flight(run, it.value);
    for (struct jv_iter it = jv_iter(jv_get(body, "steps")); jv_step(&it);) {
        struct op_path of;
        path_read(jv_get(it.value, "of"), &of);
        run_step_note(run, of, get_u32(it.value, "step"), get_u32(it.value, "model_op"));
    }
    receipts_load(run, body);
}
