/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c - a run as the workflow surface shows it: nodes, steps, cost, folded from its ledgers (workflow-runs.md 3.7).
 *
 * Attempts are folded one after the other: a later one goes on where the one before it stood, so what it says about a node
 * replaces what was known. Money and counts are those of all attempts. */
#include "api/workflow_runs/routes.h"
#include "model/price.h"

struct flow_node {
    struct span name, type;
    const char *status;
    int64_t     started_ms, ended_ms;
    struct span output, error;  /* JSON; p NULL: none */
};

/* One model call of a node, and the tools that its answer called. */
struct flow_step {
    struct span node;
    int64_t     step;
    uint32_t    op;
    struct uuid request;
    struct span call;           /* payload of MODEL_FINISHED */
    struct span response;       /* the model's whole answer; p NULL: it failed */
};

struct flow_tool {
    struct span node, id, name, arguments, output;
    int64_t     step;
    uint32_t    call;           /* operation of the model call */
    bool        done, client;
};

struct flow_line {
    struct span provider, model;
    int64_t     requests, input, output, pico;
};

struct flow_snapshot {
    struct call    *call;
    struct flow_ref ref;
    struct buf      nodes, steps, tools, lines; /* arrays of the structs above, in the call's memory until it is sent */
    int64_t         llm_calls, tool_calls, input_tokens, output_tokens;
    struct jv       plan;       /* workflow.v1, or absent */
};

#define ITEMS(type, buffer) ((type *)(void *)(buffer).p)
#define COUNT(type, buffer) ((buffer).len / sizeof(type))

static struct flow_node *node_of(struct flow_snapshot *s, struct span name)
{
    struct flow_node *all = ITEMS(struct flow_node, s->nodes);
    for (size_t i = 0; i < COUNT(struct flow_node, s->nodes); i++)
        if (span_eq(all[i].name, name))
            return &all[i];
    return NULL;
}

/* ---- the nodes of the plan, in its order ---- */

/* A bundle's nodes have capabilities: a switch is a switch, what asks a model is an llm, the rest transforms (model.md 6.2). */
static struct span bundle_type(struct jv node)
{
    struct jv type = jv_get(node, "type"), binding = jv_get(node, "binding");
    if (jv_str_eq(type, "core.switch"))
        return SPAN("route.switch");
    bool model = jv_str_eq(binding, "model") || jv_str_eq(binding, "loop") || jv_str_eq(binding, "team");
    return model ? SPAN("llm.responses") : SPAN("transform.json");
}

static void add_nodes(struct flow_snapshot *s, struct jv plan)
{
    struct arena *arena = &s->call->arena;
    bool          v1 = jv_str_eq(jv_get(plan, "kind"), "workflow.v1");
    for (struct jv_iter it = jv_iter(jv_get(plan, "nodes")); jv_step(&it);) {
        struct flow_node node = { .name = jv_string(jv_get(it.value, "id"), arena), .status = "pending",
                                  .type = v1 ? jv_string(jv_get(it.value, "type"), arena) : bundle_type(it.value) };
        buf_put(&s->nodes, &node, sizeof node);
    }
}

/* ---- records ---- */

static struct span kept(struct flow_snapshot *s, struct span json)
{
    return arena_copy(&s->call->arena, json);
}

static struct span whole(struct jv pub, struct jv priv, const char *name)
{
    struct jv shown = jv_get(pub, name);
    if (!jv_is(jv_get(shown, "truncated"), JSON_TRUE) || jv_is(priv, JSON_NONE))
        return jv_is(shown, JSON_NONE) ? SPAN_NONE : jv_raw(shown);
    return jv_is(jv_get(priv, "v"), JSON_NONE) ? jv_raw(priv) : jv_raw(jv_get(priv, "v"));
}

static void take_node(struct flow_snapshot *s, const struct record *r, struct span name, struct jv pub, struct jv priv)
{
    struct flow_node *node = node_of(s, name);
    if (!node)
        return;
    switch (r->type) {
    case REC_NODE_STARTED:
        *node = (struct flow_node){ .name = node->name, .type = node->type, .status = "running", .started_ms = r->wall_ms };
        return;
    case REC_NODE_FINISHED:
        node->status = "succeeded";
        node->output = kept(s, whole(pub, priv, "output"));
        break;
    case REC_NODE_FAILED:
        if (jv_is(jv_get(pub, "will_retry"), JSON_TRUE))
            return;
        node->status = "failed";
        node->error = kept(s, jv_raw(jv_get(pub, "error")));
        break;
    case REC_NODE_CANCELLED: node->status = "canceled"; break;
    case REC_NODE_WAITING:   node->status = "waiting"; return;
    default:                 node->status = "running"; return;
    }
    node->ended_ms = r->wall_ms;
}

static int64_t number(struct jv v)
{
    int64_t n = 0;
    return jv_i64(v, &n) && n > 0 ? n : 0;
}

static void count_call(struct flow_snapshot *s, struct jv pub, struct jv priv)
{
    struct arena    *arena = &s->call->arena;
    struct jv        usage = jv_get(pub, "usage");
    struct span      model = jv_string(jv_get(pub, "model"), arena), provider = jv_string(jv_get(priv, "provider"), arena);
    struct flow_line fresh = { .provider = provider, .model = arena_copy(arena, model) }, *line = NULL;
    for (size_t i = 0; i < COUNT(struct flow_line, s->lines) && !line; i++)
        if (span_eq(ITEMS(struct flow_line, s->lines)[i].model, model))
            line = &ITEMS(struct flow_line, s->lines)[i];
    if (!line) {
        buf_put(&s->lines, &fresh, sizeof fresh);
        line = &ITEMS(struct flow_line, s->lines)[COUNT(struct flow_line, s->lines) - 1];
    }
    line->requests++;
    line->input += number(jv_get(usage, "input_tokens"));
    line->output += number(jv_get(usage, "output_tokens"));
    struct span cost = jv_string(jv_get(pub, "cost_usd"), arena);
    int64_t     pico = 0;
    if (cost.n && !usd_parse(cost, &pico))
        line->pico += pico;
    s->llm_calls++;
    s->input_tokens += number(jv_get(usage, "input_tokens"));
    s->output_tokens += number(jv_get(usage, "output_tokens"));
}

static void take_model(struct flow_snapshot *s, const struct record *r, struct span name, struct jv pub, struct jv priv)
{
    struct flow_step step = { .node = name, .step = number(jv_get(priv, "wf_step")), .op = r->op,
                              .request = flow_request_id(&s->ref, r->op), .call = kept(s, r->pub) };
    struct jv answer = jv_get(priv, "v");
    if (jv_is(answer, JSON_OBJECT))
        step.response = kept(s, jv_raw(answer));
    count_call(s, pub, priv);
    buf_put(&s->steps, &step, sizeof step);
}

static void take_tool(struct flow_snapshot *s, struct span name, struct jv pub, struct jv priv)
{
    struct arena    *arena = &s->call->arena;
    struct jv        arguments = jv_get(pub, "arguments");
    struct flow_tool tool = { .node = name, .step = number(jv_get(priv, "wf_step")), .call = (uint32_t)number(jv_get(priv, "call_op")),
                              .id = kept(s, jv_string(jv_get(pub, "tool_call_id"), arena)),
                              .name = kept(s, jv_string(jv_get(pub, "tool"), arena)),
                              .client = jv_str_eq(jv_get(pub, "by"), "client") };
    tool.arguments = kept(s, jv_is(arguments, JSON_STRING) ? jv_string(arguments, arena) : jv_raw(arguments));
    s->tool_calls++;
    buf_put(&s->tools, &tool, sizeof tool);
}

static void take_result(struct flow_snapshot *s, const struct record *r, struct jv pub, struct jv priv)
{
    struct arena *arena = &s->call->arena;
    struct span   id = jv_string(jv_get(pub, "tool_call_id"), arena);
    for (size_t i = COUNT(struct flow_tool, s->tools); i-- > 0;) {
        struct flow_tool *tool = &ITEMS(struct flow_tool, s->tools)[i];
        if (tool->done || !span_eq(tool->id, id))
            continue;
        tool->done = true;
        struct jv output = json_read(whole(pub, priv, "result"), arena);
        if (r->type == REC_TOOL_FAILED)
            tool->output = arena_printf(arena, "Error: %.*s", SPAN_ARG(jv_string(jv_get(jv_get(pub, "error"), "message"), arena)));
        else
            tool->output = kept(s, jv_is(output, JSON_STRING) ? jv_string(output, arena) : jv_raw(output));
        return;
    }
}

static void take_record(struct flow_snapshot *s, const struct record *record)
{
    struct arena *arena = &s->call->arena;
    struct jv     pub = json_read(kept(s, record->pub), arena);
    struct jv     priv = record->priv.n ? json_read(kept(s, record->priv), arena) : (struct jv){ 0 };
    struct span   full = jv_string(jv_get(pub, "node"), arena), name = flow_node(full);
    switch (record->type) {
    case REC_NODE_STARTED:
    case REC_NODE_FINISHED:
    case REC_NODE_FAILED:
    case REC_NODE_CANCELLED:
    case REC_NODE_WAITING:
        if (full.n == name.n) /* a sub-node is no node of the plan */
            take_node(s, record, name, pub, priv);
        break;
    case REC_MODEL_FINISHED:
        if (record_wf(record->flags))
            take_model(s, record, name, pub, priv);
        break;
    case REC_TOOL_STARTED:
        if (!record_wf(record->flags)) /* a listing of tools */
            break;
        take_tool(s, name, pub, priv);
        take_node(s, record, name, pub, priv);
        break;
    case REC_TOOL_FINISHED:
    case REC_TOOL_FAILED:
        take_result(s, record, pub, priv);
        break;
    case REC_WAIT_OPENED: {
        struct flow_node *node = node_of(s, name);
        if (node)
            node->status = "waiting";
        break;
    }
    default: break;
    }
}

static bool take_frame(void *user, const struct frame *frame)
{
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record))
        if (record.type != REC_MODEL_DELTA)
            take_record(user, &record);
    return true;
}

/* ---- folding ---- */

/* What the run brought to an end without a word of its own. */
static void cut_off(struct flow_snapshot *s, const struct run_row *row)
{
    for (size_t i = 0; i < COUNT(struct flow_node, s->nodes); i++) {
        struct flow_node *node = &ITEMS(struct flow_node, s->nodes)[i];
        bool              open = strcmp(node->status, "succeeded") && strcmp(node->status, "failed");
        if (open && run_terminal((enum run_status)row->status))
            node->status = "canceled";
    }
}

/* The arrays move into the call's memory. */
static void settle(struct flow_snapshot *s)
{
    struct buf *all[] = { &s->nodes, &s->steps, &s->tools, &s->lines };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct span bytes = arena_copy(&s->call->arena, buf_view(all[i]));
        size_t      n = all[i]->len;
        buf_done(all[i]);
        *all[i] = (struct buf){ .p = (char *)(uintptr_t)bytes.p, .len = n };
    }
}

enum err flow_fold(struct call *call, const struct run_row *row, struct flow_snapshot **ret)
{
    struct flow_snapshot *s = ARENA_NEW(&call->arena, struct flow_snapshot);
    struct plan_row       plan = { .hash = row->plan };
    enum err              e = reader_get(call->reader, TABLE_plan, &plan);
    s->call = call;
    if (!e)
        add_nodes(s, s->plan = json_read(kept(s, plan.json), &call->arena));
    for (int64_t no = 1; no < row->attempt_no && !e; no++) {
        struct attempt_row old = { .run = row->id, .no = no };
        e = reader_get(call->reader, TABLE_attempt, &old);
        s->ref = flow_ref_make(row, old.id, 0);
        if (!e)
            e = reader_frames(call->reader, (uint64_t)old.stream, 0, SIZE_MAX, take_frame, s);
        if (e == ERR_NOT_FOUND)
            e = ERR_OK;
    }
    s->ref = flow_ref_make(row, row->attempt, 0);
    if (!e)
        e = reader_frames(call->reader, (uint64_t)row->stream, 0, SIZE_MAX, take_frame, s);
    cut_off(s, row);
    settle(s);
    *ret = s;
    return e;
}

/* ---- shapes ---- */

static void put_node(struct jw *w, const struct flow_node *node, struct arena *arena)
{
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, node->name);
    jw_key(w, "type");
    jw_str(w, node->type);
    jw_key(w, "status");
    jw_cstr(w, node->status);
    if (node->started_ms) {
        jw_key(w, "started_at");
        jw_time(w, node->started_ms);
    }
    if (node->ended_ms) {
        jw_key(w, "ended_at");
        jw_time(w, node->ended_ms);
    }
    if (node->output.n) {
        jw_key(w, "output");
        jw_raw(w, node->output);
    }
    if (node->error.n) {
        struct jv error = json_read(node->error, arena);
        jw_key(w, "error");
        jw_obj(w);
        jw_key(w, "code");
        jw_raw(w, jv_raw(jv_get(error, "code")));
        jw_key(w, "message");
        jw_raw(w, jv_raw(jv_get(error, "message")));
        jw_end(w);
    }
    jw_end(w);
}

/* Half a cent and more is a cent. */
static int64_t cents(int64_t pico)
{
    const int64_t cent = INT64_C(10000000000);
    return (pico + cent / 2) / cent;
}

/* Clients know four providers; any other speaks like openai (1.9). */
static const char *provider_id(struct span name)
{
    static const char *const known[] = { "anthropic", "xai", "google-ai-studio" };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (span_is(name, known[i]))
            return known[i];
    return "openai";
}

static int64_t put_cost(struct jw *w, const struct flow_snapshot *s)
{
    int64_t total = 0;
    for (size_t i = 0; i < COUNT(struct flow_line, s->lines); i++)
        total += cents(ITEMS(struct flow_line, s->lines)[i].pico);
    jw_key(w, "cost_summary");
    jw_obj(w);
    jw_key(w, "total_usd_cents");
    jw_i64(w, total);
    jw_key(w, "line_items");
    jw_arr(w);
    for (size_t i = 0; i < COUNT(struct flow_line, s->lines); i++) {
        const struct flow_line *line = &ITEMS(struct flow_line, s->lines)[i];
        jw_obj(w);
        jw_key(w, "provider_id");
        jw_cstr(w, provider_id(line->provider));
        jw_key(w, "model");
        jw_str(w, line->model);
        jw_key(w, "requests");
        jw_i64(w, line->requests);
        jw_key(w, "input_tokens");
        jw_i64(w, line->input);
        jw_key(w, "output_tokens");
        jw_i64(w, line->output);
        jw_key(w, "usd_cents");
        jw_i64(w, cents(line->pico));
        jw_end(w);
    }
    jw_arr_end(w);
    jw_end(w);
    return total;
}

static void put_counts(struct jw *w, const struct flow_snapshot *s, int64_t total_cents)
{
    const struct { const char *name; int64_t value; } counts[] = {
        { "total_steps", (int64_t)COUNT(struct flow_step, s->steps) }, { "total_llm_calls", s->llm_calls },
        { "total_tool_calls", s->tool_calls }, { "total_input_tokens", s->input_tokens },
        { "total_output_tokens", s->output_tokens }, { "total_cost_cents", total_cents },
    };
    jw_key(w, "summary");
    jw_obj(w);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        jw_key(w, counts[i].name);
        jw_i64(w, counts[i].value);
    }
    jw_end(w);
}

static void put_tool_call(struct jw *w, const struct flow_tool *tool, bool arguments)
{
    jw_obj(w);
    jw_key(w, "id");
    jw_str(w, tool->id);
    jw_key(w, "name");
    jw_str(w, tool->name);
    if (arguments) {
        jw_key(w, "arguments");
        jw_str(w, tool->arguments.n ? tool->arguments : SPAN("{}"));
    }
    jw_end(w);
}

static void put_step_tools(struct jw *w, const struct flow_snapshot *s, const struct flow_step *step, bool results)
{
    jw_key(w, results ? "tool_results" : "tool_calls");
    jw_arr(w);
    for (size_t i = 0; i < COUNT(struct flow_tool, s->tools); i++) {
        const struct flow_tool *tool = &ITEMS(struct flow_tool, s->tools)[i];
        if (tool->call != step->op || !span_eq(tool->node, step->node) || (results && !tool->done))
            continue;
        if (!results) {
            put_tool_call(w, tool, true);
            continue;
        }
        jw_obj(w);
        jw_key(w, "tool_call");
        put_tool_call(w, tool, false);
        jw_key(w, "output");
        jw_str(w, tool->output);
        jw_end(w);
    }
    jw_arr_end(w);
}

static void put_step(struct jw *w, const struct flow_snapshot *s, const struct flow_step *step)
{
    struct jv pub = json_read(step->call, &s->call->arena);
    jw_obj(w);
    jw_key(w, "node_id");
    jw_str(w, step->node);
    jw_key(w, "step");
    jw_i64(w, step->step);
    jw_key(w, "request_id");
    jw_uuid(w, &step->request);
    jw_key(w, "llm_call");
    jw_obj(w);
    jw_key(w, "model");
    jw_raw(w, jv_raw(jv_get(pub, "model")));
    jw_key(w, "stop_reason");
    jw_raw(w, jv_raw(jv_get(pub, "finish_reason")));
    jw_key(w, "usage");
    jw_raw(w, jv_raw(jv_get(pub, "usage")));
    jw_end(w);
    if (step->response.n) {
        jw_key(w, "llm_response");
        jw_raw(w, step->response);
    }
    put_step_tools(w, s, step, false);
    put_step_tools(w, s, step, true);
    jw_end(w);
}

static void put_steps(struct jw *w, const struct flow_snapshot *s)
{
    jw_key(w, "steps");
    jw_arr(w);
    for (size_t i = 0; i < COUNT(struct flow_step, s->steps); i++)
        put_step(w, s, &ITEMS(struct flow_step, s->steps)[i]);
    jw_arr_end(w);
}

/* The outputs of a run that was made by another surface are one: "output". */
static void put_outputs(struct jw *w, const struct run_row *row, const struct flow_snapshot *s)
{
    if (row->status != RUN_COMPLETED)
        return;
    jw_key(w, "outputs");
    if (jv_str_eq(jv_get(s->plan, "kind"), "workflow.v1")) {
        jw_raw(w, row->output.n ? row->output : SPAN("{}"));
        return;
    }
    jw_obj(w);
    jw_key(w, "output");
    jw_raw(w, row->output);
    jw_end(w);
}

void flow_put_snapshot(struct call *call, const struct run_row *row, const struct flow_snapshot *s, bool steps)
{
    struct jw *w = &call->w;
    jw_obj(w);
    jw_key(w, "run_id");
    jw_uuid(w, &row->id);
    jw_key(w, "status");
    jw_cstr(w, flow_run_status(row));
    jw_key(w, "plan_hash");
    jw_cstr(w, s->ref.plan_hash);
    put_counts(w, s, put_cost(w, s));
    jw_key(w, "nodes");
    jw_arr(w);
    for (size_t i = 0; i < COUNT(struct flow_node, s->nodes); i++)
        put_node(w, &ITEMS(struct flow_node, s->nodes)[i], &call->arena);
    jw_arr_end(w);
    put_outputs(w, row, s);
    if (!uuid_is_nil(row->parent_run)) {
        jw_key(w, "parent_run_id");
        jw_uuid(w, &row->parent_run);
    }
    if (steps)
        put_steps(w, s);
    jw_end(w);
}

/* ---- steps, tool calls, tasks ---- */

static struct flow_snapshot *read_snapshot(struct call *call, struct run_row *ret)
{
    struct flow_snapshot *s;
    if (!flow_run_read(call, ret))
        return NULL;
    if (!flow_fold(call, ret, &s))
        return s;
    call_fail(call, ERR_STORAGE, "", "the ledger cannot be read");
    return NULL;
}

void flow_run_steps(struct call *call)
{
    struct run_row        row;
    struct flow_snapshot *s = read_snapshot(call, &row);
    if (!s)
        return;
    jw_obj(&call->w);
    put_steps(&call->w, s);
    jw_end(&call->w);
    call_send(call, 200);
}

void flow_run_tool_call(struct call *call)
{
    struct run_row        row;
    int64_t               step = -1;
    struct flow_snapshot *s = read_snapshot(call, &row);
    if (!s)
        return;
    (void)call_parse_count(call->params[1], &step);
    for (size_t i = 0; i < COUNT(struct flow_tool, s->tools); i++) {
        const struct flow_tool *tool = &ITEMS(struct flow_tool, s->tools)[i];
        if (tool->step != step || !span_eq(tool->id, call->params[2]))
            continue;
        jw_obj(&call->w);
        jw_key(&call->w, "node_id");
        jw_str(&call->w, tool->node);
        jw_key(&call->w, "step");
        jw_i64(&call->w, step);
        jw_key(&call->w, "tool_call");
        put_tool_call(&call->w, tool, true);
        if (tool->done) {
            jw_key(&call->w, "tool_result");
            jw_obj(&call->w);
            jw_key(&call->w, "output");
            jw_str(&call->w, tool->output);
            jw_end(&call->w);
        }
        jw_end(&call->w);
        call_send(call, 200);
        return;
    }
    call_fail(call, ERR_NOT_FOUND, "tool_id", "no such tool call in this step");
}

/* Each call of tasks_write replaces the list. */
void flow_run_tasks(struct call *call)
{
    struct run_row        row;
    struct span           tasks = SPAN("[]");
    struct flow_snapshot *s = read_snapshot(call, &row);
    if (!s)
        return;
    for (size_t i = 0; i < COUNT(struct flow_tool, s->tools); i++) {
        const struct flow_tool *tool = &ITEMS(struct flow_tool, s->tools)[i];
        struct jv               list = jv_get(json_read(tool->arguments, &call->arena), "tasks");
        if (span_is(tool->name, "tasks_write") && tool->done && jv_is(list, JSON_ARRAY))
            tasks = jv_raw(list);
    }
    jw_obj(&call->w);
    jw_key(&call->w, "tasks");
    jw_raw(&call->w, tasks);
    jw_end(&call->w);
    call_send(call, 200);
}
