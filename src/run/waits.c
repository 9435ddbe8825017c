/* SPDX-License-Identifier: Apache-2.0 */
/* waits.c - what people and clients are asked (model.md 6.3): prompts, questions and approvals of a machine, receipts and budgets
 * of the host's own, and the calls that a client answers.
 *
 * A question to a person is an event of its own (HUMAN_PROMPT) and an approval; a wait for a client's tools is a row and the
 * NODE_WAITING of its node. Each node that begins to wait in a step says so once, behind everything that it waits for. */
#include "run/inner.h"
#include <stdlib.h>

const char *wait_kind_name(enum wait_kind kind)
{
    static const char *const names[] = { "prompt", "ask", "tools", "approval", "receipt", "budget" };
    assert(kind < ARRAY_LEN(names));
    return names[kind];
}

struct open_wait *wait_at(const struct run *run, const struct op_path *path)
{
    struct open_wait *wait = run->waits;
    while (wait && !op_path_eq(&wait->path, path))
        wait = wait->next;
    return wait;
}

struct open_wait *wait_first_person(const struct run *run)
{
    struct open_wait *wait = run->waits;
    while (wait && wait->row.kind == WAIT_TOOLS)
        wait = wait->next;
    return wait;
}

static struct open_wait *wait_new(struct run *run, enum wait_kind kind, struct op_path path, uint32_t op, struct span node)
{
    struct open_wait  *wait = mem_alloc(sizeof *wait);
    struct open_wait **tail = &run->waits;
    wait->path = path;
    wait->fresh = true;
    wait->row = (struct wait_row){ .workspace = run->row.workspace, .run = run->row.id, .thread = run->row.thread,
                                   .attempt = run->row.attempt, .op = op, .kind = kind, .checkpoint_seq = run->row.checkpoint_seq,
                                   .created_ms = engine_now_ms(run->engine), .node = arena_copy(&run->host_arena, node) };
    if (!run->fold)
        wait->row.id = engine_mint(run->engine);
    while (*tail)
        tail = &(*tail)->next;
    *tail = wait;
    return wait;
}

static void set_expiry(struct run *run, struct open_wait *wait, uint64_t expires_us)
{
    wait->expires_us = expires_us;
    if (expires_us)
        wait->row.expires_ms = wait->row.created_ms + (expires_us > run->now_us ? (int64_t)((expires_us - run->now_us) / 1000) : 0);
}

/* The model call that led here, for surfaces that name it. */
static void put_step(const struct run *run, struct jw *w, const struct op_path *path)
{
    uint32_t step, op;
    if (!run_step_at(run, path, &step, &op))
        return;
    jw_key(w, "wf_step");
    jw_u64(w, step);
    jw_key(w, "call_op");
    jw_u64(w, op);
}

/* HUMAN_PROMPT and the row. */
static void open_person(struct run *run, struct open_wait *wait, uint32_t parent)
{
    struct engine   *engine = run->engine;
    struct wait_row *row = &wait->row;
    struct uuid      checkpoint = checkpoint_id(run->row.attempt, (uint64_t)row->checkpoint_seq);
    struct jw        w = payload_begin(engine, row->node);
    jw_key(&w, "prompt");
    jw_str(&w, row->prompt);
    jw_key(&w, "checkpoint_id");
    jw_uuid(&w, &checkpoint);
    jw_key(&w, "approval_id");
    jw_uuid(&w, &row->id);
    jw_key(&w, "kind");
    jw_cstr(&w, wait_kind_name((enum wait_kind)row->kind));
    if (row->schema_json.n) {
        jw_key(&w, "schema");
        jw_raw(&w, row->schema_json);
    }
    if (row->call_name.n) {
        jw_key(&w, "tool_call_id");
        jw_str(&w, row->call_name);
    }
    if (row->options.n)
        payload_value(&w, "details", row->options);
    struct span pub = payload_end(engine, &w), recorded = SPAN_NONE;
    engine->scratch_priv.len = 0;
    struct jw p = jw_on(&engine->scratch_priv);
    jw_obj(&p);
    put_step(run, &p, &wait->path);
    if (wait->host) {
        jw_key(&p, "host");
        jw_cstr(&p, wait_kind_name((enum wait_kind)row->kind));
        jw_key(&p, "p");
        path_json(&p, &wait->path);
    }
    jw_end(&p);
    run_record(run, REC_WAIT_OPENED, 0, 1, (uint32_t)row->op, parent, pub, buf_view(&engine->scratch_priv), &recorded);
    if (run->fold)
        uuid_parse(jv_string(jv_get(json_read(recorded, &engine->turn), "approval_id"), &engine->turn), &row->id);
    else
        batch_put(engine_batch(engine), TABLE_wait, row);
}

/* The client's call that a question belongs to, or NULL: the question stands beside it or below it. */
static struct tool_flight *asked_call(struct run *run, const struct op_path *wait, struct span given)
{
    struct op_path parent = *wait;
    parent.n--;
    for (struct tool_flight *t = run->tools; t && given.n; t = t->next) {
        struct op_path of = t->path;
        of.n--;
        if (t->by == TOOL_BY_CLIENT && (op_path_eq(&of, &parent) || op_path_eq(&t->path, &parent)) && span_eq(t->given, given))
            return t;
    }
    return NULL;
}

/* Rows show no more than the ledger does. */
static struct span hidden(struct run *run, struct span json)
{
    return redact_json(run->engine->config.redact, json, &run->engine->turn);
}

static struct span hidden_text(struct run *run, struct span text)
{
    return redact_text(run->engine->config.redact, text, &run->engine->turn);
}

static const char approval_schema[] = "{\"type\":\"object\",\"required\":[\"approved\"],"
                                      "\"properties\":{\"approved\":{\"type\":\"boolean\"}}}";

void wait_apply(struct run *run, const struct effect *fx)
{
    struct arena       *arena = &run->host_arena;
    struct op           node = run_node_of(run, fx->op);
    struct open_wait   *wait = wait_new(run, fx->wait.kind, fx->op, node.no, fx->node);
    struct wait_row    *row = &wait->row;
    struct tool_flight *call = fx->wait.kind == WAIT_ASK ? asked_call(run, &fx->op, fx->wait.call_name) : NULL;
    set_expiry(run, wait, fx->wait.expires_us);
    if (fx->wait.kind == WAIT_TOOLS) { /* its event is the NODE_WAITING that follows */
        row->prompt = SPAN("");
        if (!run->fold)
            batch_put(engine_batch(run->engine), TABLE_wait, row);
        return;
    }
    row->prompt = arena_copy(arena, hidden_text(run, fx->wait.prompt));
    row->schema_json = fx->wait.schema.n ? arena_copy(arena, fx->wait.schema) : SPAN_NONE;
    if (!row->schema_json.n && fx->wait.kind == WAIT_APPROVAL)
        row->schema_json = span_of(approval_schema);
    row->call_name = fx->wait.call_name.n ? arena_copy(arena, call ? call->name : fx->wait.call_name) : SPAN_NONE;
    row->options = fx->wait.details.n ? arena_copy(arena, hidden(run, fx->wait.details)) : SPAN_NONE;
    if (call)
        call->asked = true;
    open_person(run, wait, node.parent);
}

void wait_ask(struct run *run, enum wait_kind kind, struct op_path path, uint32_t op, struct span node, struct span call_name,
              struct span prompt, struct span schema, struct span details)
{
    struct arena     *arena = &run->host_arena;
    struct op         of = run_node_of(run, path);
    struct open_wait *wait = wait_new(run, kind, path, of.no ? of.no : op, node);
    wait->host = true;
    wait->row.prompt = arena_copy(arena, hidden_text(run, prompt));
    wait->row.schema_json = schema.n ? arena_copy(arena, schema) : SPAN_NONE;
    wait->row.call_name = call_name.n ? arena_copy(arena, call_name) : SPAN_NONE;
    wait->row.options = details.n ? arena_copy(arena, hidden(run, details)) : SPAN_NONE;
    open_person(run, wait, of.parent);
}

/* ---- NODE_WAITING ---- */

static void put_pending(struct run *run, struct jw *w, const struct op_path *node)
{
    jw_key(w, "pending");
    jw_arr(w);
    for (const struct tool_flight *t = run->tools; t; t = t->next) {
        if (t->by != TOOL_BY_CLIENT || !op_path_under(&t->path, node))
            continue;
        jw_obj(w);
        jw_key(w, "tool_call_id");
        jw_str(w, t->name);
        jw_key(w, "tool");
        jw_str(w, t->tool);
        payload_value(w, "arguments", t->arguments);
        jw_key(w, "step");
        jw_u64(w, t->wf_step);
        jw_end(w);
    }
    jw_arr_end(w);
}

/* Waits of the node, or of what lies in it, that were opened in this step. */
static bool is_new_of(const struct open_wait *wait, const struct op_path *node)
{
    return wait->fresh && op_path_under(&wait->path, node);
}

/* What is asked without a call of a model, and the step of what the node waits for. */
static void put_asks(const struct run *run, struct jw *w, const struct op *node)
{
    const struct tool_flight *t = run->tools;
    while (t && (t->by != TOOL_BY_CLIENT || !op_path_under(&t->path, &node->path)))
        t = t->next;
    put_step(run, w, t ? &t->path : &node->path);
    jw_key(w, "asks");
    jw_arr(w);
    for (const struct open_wait *o = run->waits; o; o = o->next) {
        if (o->row.kind == WAIT_TOOLS || o->row.kind == WAIT_ASK || !is_new_of(o, &node->path))
            continue;
        jw_obj(w);
        jw_key(w, "approval_id");
        jw_uuid(w, &o->row.id);
        jw_key(w, "prompt");
        jw_str(w, o->row.prompt);
        jw_end(w);
    }
    jw_arr_end(w);
}

static struct span waiting_priv(struct run *run, const struct op *node, bool host)
{
    struct buf *out = &run->engine->scratch_priv;
    out->len = 0;
    struct jw w = jw_on(out);
    jw_obj(&w);
    if (host) {
        jw_key(&w, "host");
        jw_cstr(&w, "waiting");
    }
    jw_key(&w, "waits");
    jw_arr(&w);
    for (const struct open_wait *o = run->waits; o; o = o->next)
        if (o->row.kind == WAIT_TOOLS && is_new_of(o, &node->path))
            jw_uuid(&w, &o->row.id);
    jw_arr_end(&w);
    put_asks(run, &w, node);
    jw_end(&w);
    return buf_view(out);
}

/* The ids of the waits for tools come from the record; they are in the order of the waits. */
static void fold_ids(struct run *run, const struct op *node)
{
    const struct fold *fold = run->fold;
    struct arena      *turn = &run->engine->turn;
    if (fold->err || !fold->at)
        return;
    struct jv_iter it = jv_iter(jv_get(json_read(fold->records[fold->at - 1].priv, turn), "waits"));
    for (struct open_wait *o = run->waits; o; o = o->next)
        if (o->row.kind == WAIT_TOOLS && is_new_of(o, &node->path) && jv_step(&it))
            uuid_parse(jv_string(it.value, turn), &o->row.id);
}

void wait_note(struct run *run, const struct op *node, struct span name, struct span reason, bool host)
{
    bool person = false;
    for (const struct open_wait *o = run->waits; o; o = o->next)
        person |= is_new_of(o, &node->path) && o->row.kind != WAIT_TOOLS && o->row.kind != WAIT_ASK;
    struct uuid id = operation_id(run->row.id, run->row.attempt, node->no);
    struct jw   w = payload_begin(run->engine, name);
    jw_key(&w, "node_execution_id");
    jw_uuid(&w, &id);
    jw_key(&w, "reason");
    jw_raw(&w, reason.n ? reason : person ? SPAN("\"human\"") : SPAN("\"tool_results\""));
    put_pending(run, &w, &node->path);
    struct span pub = payload_end(run->engine, &w);
    run_record(run, REC_NODE_WAITING, 0, 1, node->no, node->parent, pub, waiting_priv(run, node, host), NULL);
    if (run->fold)
        fold_ids(run, node);
    for (struct open_wait *o = run->waits; o; o = o->next)
        if (op_path_under(&o->path, &node->path))
            o->fresh = false;
}

void wait_note_rest(struct run *run)
{
    for (bool found = true; found;) {
        found = false;
        for (struct open_wait *o = run->waits; o && !found; o = o->next) {
            struct op node = o->fresh && !o->host ? run_node_of(run, o->path) : (struct op){ .no = 0 };
            if (!node.no)
                continue;
            wait_note(run, &node, node.node, SPAN_NONE, false);
            found = !o->fresh;
        }
    }
}

void wait_fold_host(struct run *run, const struct record *record)
{
    struct arena     *turn = &run->engine->turn;
    struct op_path    path = fold_recorded(record, turn).op;
    struct jv         pub = json_read(record->pub, turn), priv = json_read(record->priv, turn);
    enum wait_kind    kind = jv_str_eq(jv_get(priv, "host"), "budget") ? WAIT_BUDGET : WAIT_RECEIPT;
    struct open_wait *wait = wait_new(run, kind, path, record->op, jv_string(jv_get(pub, "node"), turn));
    wait->host = true;
    wait->fresh = false;
    uuid_parse(jv_string(jv_get(pub, "approval_id"), turn), &wait->row.id);
    if (kind == WAIT_RECEIPT) {
        struct op_path      of = tool_of_wait(path);
        struct tool_flight *call = tool_flight_at(run, &of);
        if (call)
            call->unknown = true;
    }
}

/* ---- the end of a wait ---- */

void wait_close(struct run *run, struct open_wait *wait, enum wait_status status, struct span answer, struct span by)
{
    struct open_wait **p = &run->waits;
    while (*p != wait)
        p = &(*p)->next;
    *p = wait->next;
    wait->row.status = status;
    wait->row.answer = answer;
    wait->row.decided_by = by;
    wait->row.decided_ms = engine_now_ms(run->engine);
    if (!run->fold)
        batch_put(engine_batch(run->engine), TABLE_wait, &wait->row);
    free(wait);
}

void wait_tools_answered(struct run *run, const struct op_path *call)
{
    struct op_path parent = *call;
    parent.n--;
    for (const struct tool_flight *t = run->tools; t; t = t->next) {
        struct op_path of = t->path;
        of.n--;
        if (t->by == TOOL_BY_CLIENT && !t->asked && op_path_eq(&of, &parent))
            return;
    }
    for (struct open_wait *o = run->waits; o; o = o->next) {
        struct op_path of = o->path;
        of.n--;
        if (o->row.kind != WAIT_TOOLS || !op_path_eq(&of, &parent))
            continue;
        wait_close(run, o, WAIT_APPROVED, SPAN_NONE, SPAN_NONE);
        return;
    }
}
