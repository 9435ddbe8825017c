/* SPDX-License-Identifier: Apache-2.0 */
/* fold.c - records to a team's trace; see fold.h. */
#include "api/teams/fold.h"
#include "machine/machine.h"
#include "team/result.h"
#include "team/tools.h"
#include <stdlib.h>

/* An operation of the ledger that is a model call of the team, or one of its tool calls. */
struct known_op {
    uint32_t    op, call, index;
    bool        tool;
    struct span call_id; /* of a model call, as recorded */
};

struct team_fold {
    struct arena     arena, scratch; /* scratch: of one record */
    struct team      team;
    struct span      node, run_id;
    struct buf       ops;            /* struct known_op */
    bool             begun;
    struct team_trace trace;
    void (*event)(void *user, const struct team_event *event);
    void  *user;
};

/* ---- which team ---- */

void team_place_find(struct jv plan, struct span node, struct arena *arena, struct team_place *ret)
{
    *ret = (struct team_place){ .count = 0 };
    for (struct jv_iter it = jv_iter(jv_get(plan, "nodes")); jv_step(&it);) {
        struct span id = jv_string(jv_get(it.value, "id"), arena);
        if (!jv_str_eq(jv_get(it.value, "type"), "team.run") || (node.n && !span_eq(node, id)))
            continue;
        if (ret->count++ == 0) {
            ret->node = id;
            ret->definition = jv_get(jv_get(it.value, "machine"), "team");
        }
    }
}

/* ---- life ---- */

struct team_fold *team_fold_new(struct uuid run, const struct team_place *place,
                                void (*event)(void *user, const struct team_event *event), void *user)
{
    struct team_fold *fold = mem_alloc(sizeof *fold);
    char              id[UUID_TEXT];
    uuid_format(run, id);
    fold->event = event;
    fold->user = user;
    fold->node = arena_copy(&fold->arena, place->node);
    fold->run_id = arena_copy(&fold->arena, span_make(id, UUID_TEXT));
    team_read(json_read(arena_copy(&fold->arena, jv_raw(place->definition)), &fold->arena), &fold->arena, &fold->team);
    return fold;
}

void team_fold_free(struct team_fold *fold)
{
    if (!fold)
        return;
    arena_done(&fold->arena);
    arena_done(&fold->scratch);
    buf_done(&fold->ops);
    free(fold);
}

bool team_fold_begun(const struct team_fold *fold)
{
    return fold->begun;
}

bool team_fold_complete(const struct team_fold *fold)
{
    return fold->begun && fold->trace.output.n > 0;
}

const struct team_trace *team_fold_trace(const struct team_fold *fold)
{
    return &fold->trace;
}

/* ---- operations ---- */

static struct known_op *known(struct team_fold *fold, uint32_t op)
{
    struct known_op *all = (struct known_op *)(void *)fold->ops.p;
    for (size_t i = fold->ops.len / sizeof *all; i-- > 0;)
        if (all[i].op == op)
            return &all[i];
    return NULL;
}

static struct known_op *known_call(struct team_fold *fold, struct span call_id)
{
    struct known_op *all = (struct known_op *)(void *)fold->ops.p;
    for (size_t i = fold->ops.len / sizeof *all; i-- > 0;)
        if (call_id.n && span_eq(all[i].call_id, call_id))
            return &all[i];
    return NULL;
}

static void keep_op(struct team_fold *fold, struct known_op op)
{
    buf_put(&fold->ops, &op, sizeof op);
}

/* ---- records ---- */

/* What was cut out of `pub` stands in `priv`. */
static struct jv whole(struct jv pub, const char *name, struct jv priv)
{
    return jv_kind(priv) == JSON_NONE ? jv_get(pub, name) : priv;
}

static void begin(struct team_fold *fold, struct jv value)
{
    fold->begun = true;
    fold->ops.len = 0;
    team_trace_init(&fold->trace, &fold->team, fold->run_id, jv_string(jv_get(value, "intent"), &fold->scratch), &fold->arena);
    fold->trace.sink = fold->event;
    fold->trace.sink_user = fold->user;
}

static void take_custom(struct team_fold *fold, const struct record *r, struct jv pub, struct jv priv)
{
    struct span name = jv_string(jv_get(pub, "name"), &fold->scratch);
    struct jv   value = whole(pub, "value", priv);
    if (span_is(name, "team.started"))
        begin(fold, value);
    else if (fold->begun)
        (void)team_trace_emit(&fold->trace, name, jv_raw(value), r->wall_ms);
}

static void take_call(struct team_fold *fold, const struct record *r, struct jv pub, struct jv priv)
{
    struct jv        labels = jv_get(priv, "labels");
    struct span      id = arena_copy(&fold->arena, jv_string(jv_get(pub, "call_id"), &fold->scratch));
    struct known_op *before = known_call(fold, jv_string(jv_get(pub, "supersedes_call_id"), &fold->scratch));
    int64_t          call = 0;
    if (before) {
        uint32_t same = before->call; /* keep_op moves what `before` points into */
        keep_op(fold, (struct known_op){ .op = r->op, .call = same, .call_id = id });
        team_trace_call_again(&fold->trace, same, r->wall_ms);
    } else if (jv_i64(jv_get(labels, "call"), &call) && call >= 0 && call >> 28 == 0) {
        keep_op(fold, (struct known_op){ .op = r->op, .call = (uint32_t)call, .call_id = id });
        team_trace_call_failed(&fold->trace, (uint32_t)call); /* the node began again: what was streamed of it is void */
        team_trace_call(&fold->trace, (uint32_t)call, jv_raw(jv_get(labels, "request")), jv_raw(labels), r->wall_ms);
    }
}

static void take_tool(struct team_fold *fold, const struct record *r, struct jv pub, struct jv priv)
{
    struct jv path = jv_get(priv, "p"), arguments = whole(pub, "arguments", jv_get(priv, "arguments"));
    size_t    n = jv_count(path);
    int64_t   call = 0, index = 0;
    if (n < 2 || !jv_i64(jv_at(path, n - 2), &call) || !jv_i64(jv_at(path, n - 1), &index) || call >> 28 != OP_MODEL ||
        index >> 28 != OP_TOOL)
        return; /* the evaluation is no event */
    struct known_op op = { .op = r->op, .tool = true, .call = (uint32_t)call & 0xfffffff, .index = (uint32_t)index & 0xfffffff };
    keep_op(fold, op);
    team_trace_tool(&fold->trace, op.call, op.index, jv_raw(arguments), jv_raw(jv_get(priv, "context")), r->wall_ms);
}

static void take_receipt(struct team_fold *fold, const struct record *r, const struct known_op *op, struct jv priv)
{
    CLEANUP(buf_done) struct buf outcome = { 0 };
    struct jw w = jw_on(&outcome);
    team_outcome_receipt(r->type == REC_TOOL_FINISHED, jv_get(priv, "v"), &w);
    team_trace_tool_end(&fold->trace, op->call, op->index, buf_view(&outcome), r->wall_ms);
}

/* How a stream of a run ends that has no result (teams.md 11.1, 11.3). */
static void take_end(struct team_fold *fold, const struct record *r, struct jv pub)
{
    CLEANUP(buf_done) struct buf error = { 0 }, event = { 0 };
    struct jw e = jw_on(&error), w = jw_on(&event);
    if (!fold->event)
        return;
    if (r->type == REC_RUN_CANCELLED)
        team_aborted(fold->team.provider_id, true, &e);
    else
        team_error_of_run(jv_get(pub, "error"), fold->team.provider_id, &e);
    team_error_event(json_read(buf_view(&error), &fold->scratch), true, fold->begun ? fold->run_id : SPAN_NONE, r->wall_ms, &w);
    struct team_event out = { "error", r->wall_ms, team_canonical_text(buf_view(&event), &fold->scratch), UINT32_MAX };
    fold->event(fold->user, &out);
}

static void take_op(struct team_fold *fold, const struct record *r, struct jv priv)
{
    const struct known_op *op = known(fold, r->op);
    if (!op)
        return;
    if (op->tool)
        take_receipt(fold, r, op, priv);
    else if (r->type == REC_MODEL_FINISHED)
        team_trace_answer(&fold->trace, op->call, jv_get(priv, "v"), r->wall_ms);
    else if (r->type == REC_MODEL_FAILED)
        team_trace_call_failed(&fold->trace, op->call);
}

static void take(struct team_fold *fold, const struct record *r)
{
    struct jv pub = json_read(r->pub, &fold->scratch), priv = { 0 };
    if (r->priv.p)
        priv = json_read(r->priv, &fold->scratch);
    if (r->type == REC_RUN_FAILED || r->type == REC_RUN_CANCELLED) {
        take_end(fold, r, pub);
        return;
    }
    if (!span_eq(jv_string(jv_get(pub, "node"), &fold->scratch), fold->node))
        return;
    if (r->type == REC_CUSTOM)
        take_custom(fold, r, pub, priv);
    else if (!fold->begun)
        return;
    else if (r->type == REC_MODEL_STARTED)
        take_call(fold, r, pub, priv);
    else if (r->type == REC_TOOL_STARTED)
        take_tool(fold, r, pub, priv);
    else
        take_op(fold, r, priv);
}

void team_fold_take(struct team_fold *fold, const struct record *r)
{
    const struct known_op *op;
    if (r->type != REC_MODEL_DELTA) {
        take(fold, r);
        arena_reset(&fold->scratch);
    } else if (fold->begun && fold->team.stream && r->delta_kind == DELTA_TEXT && (op = known(fold, r->op)) && !op->tool) {
        team_trace_chunk(&fold->trace, op->call, r->text, r->wall_ms);
    }
}
