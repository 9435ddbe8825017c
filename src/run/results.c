/* SPDX-License-Identifier: Apache-2.0 */
/* results.c - what clients answer to the tool calls that are theirs (model.md 6.3, workflow-runs.md 3.6).
 *
 * A submission is taken as a whole or not at all. It may hold a part of what a node waits for; what it repeats is compared
 * with what the ledger says was given before. */
#include "run/inner.h"
#include <stdlib.h>

static struct tool_flight *find_call(const struct run *run, struct span name)
{
    for (struct tool_flight *t = run ? run->tools : NULL; t; t = t->next)
        if (t->by == TOOL_BY_CLIENT && span_eq(t->name, name))
            return t;
    return NULL;
}

/* The node as the surfaces name it: an item of a fan-out belongs to what is in front of its colon. */
static bool of_node(const struct tool_flight *t, struct span node)
{
    const char *colon = t->node.n ? memchr(t->node.p, ':', t->node.n) : NULL;
    return !node.p || span_eq(t->node, node) || (colon && span_eq(span_make(t->node.p, (size_t)(colon - t->node.p)), node));
}

static struct uuid request_of(const struct run *run, const struct tool_flight *t)
{
    return t->model_op ? operation_id(run->row.id, run->row.attempt, t->model_op) : (struct uuid){ { 0 } };
}

/* What people are asked without a call of a model, in the form of one (model.md 6.3). */
static struct pending_call made_call(const struct run *run, const struct open_wait *wait)
{
    struct arena *arena = &run->engine->turn;
    uint32_t      step = 0, op = (uint32_t)wait->row.op;
    char          id[UUID_TEXT];
    struct buf    text = { 0 };
    (void)run_step_at(run, &wait->path, &step, &op);
    uuid_format(wait->row.id, id);
    BUF_LIT(&text, "{\"question\":");
    json_put_string(&text, wait->row.prompt);
    BUF_LIT(&text, "}");
    struct pending_call call = { .node = arena_copy(arena, wait->row.node), .call = arena_printf(arena, "ask_%.*s", UUID_TEXT, id),
                                 .tool = SPAN("user_ask"), .arguments = arena_copy(arena, buf_view(&text)), .step = step,
                                 .request = operation_id(run->row.id, run->row.attempt, op), .question = true, .made_up = true,
                                 .approval = wait->row.kind == WAIT_APPROVAL, .wait = wait->row.id };
    buf_done(&text);
    return call;
}

enum err run_pending_calls(struct engine *engine, struct uuid workspace, struct uuid id,
                           void (*each)(void *user, const struct pending_call *call), void *user, struct run_row *ret_row,
                           struct error *error)
{
    struct run *run = NULL;
    enum err    e = run_load(engine, workspace, id, &run, ret_row, error);
    if (e)
        return e == ERR_INVALID_RUN_STATE ? ERR_OK : e;
    run_row_view(run, ret_row);
    for (const struct tool_flight *t = run->tools; t; t = t->next) {
        struct pending_call call = { .node = arena_copy(&engine->turn, t->node), .call = arena_copy(&engine->turn, t->name),
                                     .tool = arena_copy(&engine->turn, t->tool), .arguments = arena_copy(&engine->turn, t->arguments),
                                     .request = request_of(run, t), .step = t->wf_step, .question = t->asked };
        if (t->by == TOOL_BY_CLIENT)
            each(user, &call);
    }
    for (const struct open_wait *wait = run->waits; wait; wait = wait->next) {
        if (wait->row.kind == WAIT_TOOLS || wait->row.kind == WAIT_ASK)
            continue;
        struct pending_call call = made_call(run, wait);
        each(user, &call);
    }
    return ERR_OK;
}

/* ---- what was given before ---- */

struct given {
    const struct client_result *items;
    size_t                      count;
    bool                       *found, *same;
    struct arena                arena;
};

static void compare(struct given *g, const struct record *record)
{
    bool        failed = record->type == REC_TOOL_FAILED;
    struct jv   pub = json_read(record->pub, &g->arena), value = jv_get(json_read(record->priv, &g->arena), "v");
    struct span name = jv_string(jv_get(pub, "tool_call_id"), &g->arena);
    for (size_t i = 0; i < g->count; i++)
        if (span_eq(g->items[i].call, name)) {
            g->found[i] = true;
            g->same[i] = failed == g->items[i].failed && jv_equal(value, json_read(g->items[i].output, &g->arena));
        }
}

static bool compare_frame(void *user, const struct frame *frame)
{
    struct given       *g = user;
    struct frame_reader frames = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&frames, &record))
        if (record.type == REC_TOOL_FINISHED || record.type == REC_TOOL_FAILED)
            compare(g, &record);
    arena_reset(&g->arena);
    return !frames.in.bad;
}

/* What was given a moment ago is not on disk yet. */
static void compare_memory(struct given *g, const struct run *run, struct arena *arena)
{
    for (size_t i = 0; run && i < g->count; i++) {
        const struct receipt *receipt = receipt_named(run, g->items[i].call);
        if (g->found[i] || !receipt || receipt->state == RECEIPT_OPEN || !receipt->value.p)
            continue;
        g->found[i] = true;
        g->same[i] = (receipt->state == RECEIPT_FAILED) == g->items[i].failed &&
                     jv_equal(json_read(receipt->value, arena), json_read(g->items[i].output, arena));
    }
}

static enum err read_given(struct engine *engine, uint64_t stream, struct given *g)
{
    enum err e = engine_read_begin(engine);
    if (e)
        return e;
    e = reader_frames(engine_reader(engine), stream, 0, SIZE_MAX, compare_frame, g);
    engine_read_end(engine);
    arena_done(&g->arena);
    return e;
}

/* ---- taking a submission ---- */

static enum err check_open(const struct run *run, const struct client_results *all, struct error *error)
{
    bool waits = false;
    for (const struct tool_flight *t = run->tools; t; t = t->next) {
        if (t->by != TOOL_BY_CLIENT || !of_node(t, all->node))
            continue;
        waits = true;
        if (!all->checked || (t->wf_step == all->step && uuid_eq(request_of(run, t), all->request)))
            return ERR_OK;
    }
    return waits ? error_set(error, ERR_CONFLICT, "", "the node waits for the results of another step")
                 : error_set(error, ERR_NOT_FOUND, "", "the node waits for no results");
}

static enum err check_results(const struct run *run, const struct client_results *all, const struct given *g, struct error *error)
{
    bool repeats = true;
    for (size_t i = 0; i < all->count; i++)
        repeats = repeats && g->found[i] && g->same[i];
    if (repeats)
        return ERR_OK;
    if (!run)
        return error_set(error, ERR_CONFLICT, "", "the run has ended");
    enum err e = check_open(run, all, error);
    for (size_t i = 0; i < all->count && (!e || e == ERR_NOT_FOUND); i++) {
        const struct client_result *item = &all->items[i];
        const struct tool_flight   *t = find_call(run, item->call);
        if (g->found[i] && !g->same[i])
            e = error_set(error, ERR_CONFLICT, "", "call %.*s has another result already", SPAN_ARG(item->call));
        else if (!e && !g->found[i] && (!t || !of_node(t, all->node)))
            e = error_set(error, ERR_INVALID_PARAMETER, "", "there is no open call %.*s in this step", SPAN_ARG(item->call));
        else if (!e && t && item->tool.p && !span_eq(t->tool, item->tool))
            e = error_set(error, ERR_INVALID_PARAMETER, "", "call %.*s is of the tool %.*s", SPAN_ARG(item->call), SPAN_ARG(t->tool));
    }
    return e;
}

/* The question that stands for a call is answered with it. */
static void close_question(struct run *run, const struct tool_flight *t, const struct client_result *item, struct span by)
{
    for (struct open_wait *wait = run->waits; wait && t->asked; wait = wait->next)
        if (wait->row.kind == WAIT_ASK && span_eq(wait->row.call_name, t->name)) {
            struct pending_input in = { .kind = IN_ANSWER, .path = wait->path, .op = (uint32_t)wait->row.op, .value = item->output,
                                        .by = by, .node = wait->row.node, .wait = wait->row.id };
            run_take_input(run, &in); /* gives the call its result */
            return;
        }
}

static void take_result(struct run *run, const struct client_result *item, struct span by)
{
    struct tool_flight  *t = find_call(run, item->call);
    struct pending_input in = { .kind = IN_TOOL, .err = item->failed ? ERR_TOOL : ERR_OK, .value = item->output };
    if (!t)
        return; /* it was there before, or the run came to its end */
    in.path = t->path;
    in.op = t->op;
    if (t->asked && !item->failed)
        close_question(run, t, item, by);
    else
        run_take_input(run, &in);
}

enum err run_tool_results(struct engine *engine, const struct client_results *results, struct run_row *ret_row, struct error *error)
{
    struct run  *run = NULL;
    enum err     e = engine_ready(engine, error);
    struct given g = { .items = results->items, .count = results->count };
    if (!e)
        e = run_load(engine, results->workspace, results->run, &run, ret_row, error);
    if (!e && run->inbox)
        run_turn(run);
    bool ended = e == ERR_INVALID_RUN_STATE || (!e && run->gone && run_terminal((enum run_status)run->row.status));
    if (e && !ended)
        return e;
    if (!e)
        run_row_view(run, ret_row);
    g.found = ARENA_ARRAY(&engine->turn, bool, g.count + 1);
    g.same = ARENA_ARRAY(&engine->turn, bool, g.count + 1);
    if (read_given(engine, (uint64_t)ret_row->stream, &g))
        return error_set(error, ERR_STORAGE, "", "the store cannot be read");
    compare_memory(&g, ended ? NULL : run, &engine->turn);
    e = check_results(ended ? NULL : run, results, &g, error);
    if (e || ended)
        return e;
    for (size_t i = 0; i < results->count && !run->gone; i++)
        if (!g.found[i])
            take_result(run, &results->items[i], results->by);
    run_turn(run); /* it may have come to rest */
    run_row_view(run, ret_row);
    return ERR_OK;
}
