/* SPDX-License-Identifier: Apache-2.0 */
/* capability.c - the capabilities every server has (agent-runs.md 9.1), model.chat, and core.value, which shapes
 * outputs. */
#include "workflow/capability.h"
#include "base/json_schema.h"
#include "workflow/nested.h"

/* ---- checking configs ---- */

enum field_type { FIELD_ANY, FIELD_TEXT, FIELD_NAME, FIELD_INT, FIELD_NUMBER, FIELD_BOOL, FIELD_OBJECT, FIELD_ARRAY };

struct field {
    const char *name;
    enum field_type type;
    bool required;
    int64_t low, high; /* FIELD_INT, FIELD_NUMBER */
};

struct check {
    struct issues *issues;
    struct buf *at; /* JSON pointer of what is being checked */
    bool resolved;
};

/* Steps into a member; returns what check_leave needs to step out again. */
static size_t check_enter(struct check *c, const char *name)
{
    size_t before = c->at->len;
    json_pointer_push(c->at, span_of(name));
    return before;
}

static size_t check_enter_index(struct check *c, size_t index)
{
    size_t before = c->at->len;
    buf_printf(c->at, "/%zu", index);
    return before;
}

static void check_leave(struct check *c, size_t before)
{
    c->at->len = before;
}

#define CHECK_ISSUE(c, code, ...) issue_add((c)->issues, buf_view((c)->at), code, __VA_ARGS__)

static void check_range(struct check *c, const struct field *field, struct jv v)
{
    int64_t n;
    double d;
    if (field->type == FIELD_INT) {
        if (!jv_i64(v, &n))
            CHECK_ISSUE(c, "type", "must be an integer");
        else if (n < field->low || n > field->high)
            CHECK_ISSUE(c, "range", "must be from %lld to %lld", (long long)field->low, (long long)field->high);
    } else if (!jv_f64(v, &d)) {
        CHECK_ISSUE(c, "type", "must be a number");
    } else if (!(d >= (double)field->low && d <= (double)field->high)) {
        CHECK_ISSUE(c, "range", "must be from %lld to %lld", (long long)field->low, (long long)field->high);
    }
}

/* A value in place of a reference may be of any kind where text is asked for: it is written as JSON then. */
static void check_value(struct check *c, const struct field *field, struct jv v)
{
    if (ref_is(v) && !c->resolved)
        return;
    switch (field->type) {
    case FIELD_ANY: break;
    case FIELD_TEXT:
        if (!jv_is(v, JSON_STRING) && !c->resolved)
            CHECK_ISSUE(c, "type", "must be a string");
        break;
    case FIELD_NAME:
        if (!jv_is(v, JSON_STRING))
            CHECK_ISSUE(c, "type", "must be a string");
        else if (jv_str_eq(v, ""))
            CHECK_ISSUE(c, "range", "must not be empty");
        break;
    case FIELD_INT:
    case FIELD_NUMBER: check_range(c, field, v); break;
    case FIELD_BOOL:
        if (!jv_is(v, JSON_TRUE) && !jv_is(v, JSON_FALSE))
            CHECK_ISSUE(c, "type", "must be true or false");
        break;
    case FIELD_OBJECT:
        if (!jv_is(v, JSON_OBJECT))
            CHECK_ISSUE(c, "type", "must be an object");
        break;
    case FIELD_ARRAY:
        if (!jv_is(v, JSON_ARRAY))
            CHECK_ISSUE(c, "type", "must be an array");
        break;
    }
}

static const struct field *field_find(const struct field *fields, struct span name)
{
    for (; fields->name; fields++)
        if (span_is(name, fields->name))
            return fields;
    return NULL;
}

static void check_fields(struct check *c, const struct field *fields, struct jv config)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };

    for (const struct field *f = fields; f->name; f++) {
        struct jv v = jv_get(config, f->name);
        size_t before = check_enter(c, f->name);
        if (!jv_is(v, JSON_NONE))
            check_value(c, f, v);
        else if (f->required)
            CHECK_ISSUE(c, "required", "is required");
        check_leave(c, before);
    }
    for (struct jv_iter it = jv_iter(config); jv_step(&it);) {
        struct span name = jv_string(it.name, &scratch);
        if (field_find(fields, name))
            continue;
        size_t before = c->at->len;
        json_pointer_push(c->at, name);
        CHECK_ISSUE(c, "unknown_member", "is not known here");
        check_leave(c, before);
    }
}

void capability_check(const struct capability *capability, struct jv config, bool resolved, struct buf *at,
                      struct issues *issues)
{
    struct check c = { .issues = issues, .at = at, .resolved = resolved };

    if (!jv_is(config, JSON_NONE) && (!jv_is(config, JSON_OBJECT) || (ref_is(config) && !resolved))) {
        CHECK_ISSUE(&c, "type", "must be an object of members");
        return;
    }
    check_fields(&c, capability->fields, config);
    if (capability->check)
        capability->check(&c, config);
}

/* ---- small helpers ---- */

/* Text as it is; anything else as compact JSON. */
static struct span text_of(struct jv v, struct arena *arena)
{
    if (jv_is(v, JSON_STRING))
        return jv_string(v, arena);
    if (jv_is(v, JSON_NONE))
        return SPAN_NONE;
    CLEANUP(buf_done) struct buf text = { 0 };
    json_minify(v, &text);
    return arena_copy(arena, buf_view(&text));
}

static int64_t int_of(struct jv config, const char *name, int64_t def)
{
    int64_t n;
    return jv_i64(jv_get(config, name), &n) ? n : def;
}

static struct effect *work_effect(struct work *work, enum effect_kind kind, struct op_path op)
{
    struct effect *fx = effect_add(work->out, kind, op);
    fx->node = work->node->id;
    fx->top = true;
    return fx;
}

static enum verdict pending(struct work *work, enum phase phase)
{
    work->phase = phase;
    return VERDICT_PENDING;
}

static enum verdict done(struct work *work, struct span output)
{
    work->output = output;
    return VERDICT_DONE;
}

static struct span copy_or(struct jv v, const char *def, struct arena *arena)
{
    return jv_is(v, JSON_STRING) ? jv_string(v, arena) : span_of(def);
}

/* The error object that came with a failed call; what it does not say follows from the class. */
static enum verdict failed_as_told(struct work *work)
{
    work->fault = fault_told(work->in->err, work->in->value, work->in->kind == IN_TOOL ? "tool" : "model", work->out->arena);
    return VERDICT_FAILED;
}

/* ---- core.echo, core.value ---- */

static enum verdict echo_start(struct work *work)
{
    return done(work, work->input.n ? arena_printf(work->out->arena, "{\"echo\":%.*s}", SPAN_ARG(work->input))
                                    : SPAN("{\"echo\":null}"));
}

static const struct field echo_fields[] = { { .name = NULL } };

static enum verdict value_start(struct work *work)
{
    return done(work, jv_raw(jv_get(work->config, "value")));
}

static const struct field value_fields[] = { { .name = "value", .type = FIELD_ANY, .required = true },
                                             { .name = NULL } };

/* ---- core.emit: a built-in model that counts ---- */

static enum verdict emit_start(struct work *work)
{
    struct arena *arena = work->out->arena;
    long long count = int_of(work->config, "count", 0), interval = int_of(work->config, "interval_ms", 0);
    struct effect *fx = work_effect(work, FX_MODEL, op_sub(work->op, OP_PART(OP_MODEL, 0)));

    fx->model.provider = fx->model.model = SPAN("core.emit");
    fx->model.request = arena_printf(arena, "{\"count\":%lld,\"interval_ms\":%lld}", count, interval);
    fx->model.stream = fx->model.on_node = true;
    work->memo = arena_printf(arena, "%lld", count);
    return pending(work, PHASE_MODEL);
}

static enum verdict emit_answer(struct work *work)
{
    if (work->in->err)
        return failed_as_told(work);
    return done(work, arena_printf(work->out->arena, "{\"ticks\":%.*s}", SPAN_ARG(work->memo)));
}

static const struct field emit_fields[] = {
    { .name = "count", .type = FIELD_INT, .required = true, .low = 0, .high = 100000 },
    { .name = "interval_ms", .type = FIELD_INT, .low = 0, .high = 86400000 },
    { .name = NULL },
};

/* ---- core.sleep ---- */

static enum verdict sleep_start(struct work *work)
{
    struct effect *fx = work_effect(work, FX_TIMER, op_sub(work->op, OP_PART(OP_TIMER, 0)));
    fx->timer.due_us = work->in->elapsed_us + (uint64_t)int_of(work->config, "ms", 0) * 1000;
    work->due_us = fx->timer.due_us;
    return pending(work, PHASE_TIMER);
}

static enum verdict sleep_answer(struct work *work)
{
    return done(work, SPAN("null"));
}

static const struct field sleep_fields[] = {
    { .name = "ms", .type = FIELD_INT, .required = true, .low = 0, .high = PLAN_MS_MAX },
    { .name = NULL },
};

/* ---- core.set ---- */

static void patch_one(struct jw *patch, struct span name, bool present, struct jv value)
{
    CLEANUP(buf_done) struct buf path = { 0 };
    json_pointer_push(&path, name);
    jw_obj(patch);
    jw_key(patch, "op");
    jw_cstr(patch, present ? "replace" : "add");
    jw_key(patch, "path");
    jw_str(patch, buf_view(&path));
    jw_key(patch, "value");
    jw_raw(patch, jv_raw(value));
    jw_end(patch);
}

/* Members of `values` keep their place, new ones follow in the order of the config. */
static void merge(struct jv values, struct jv news, struct arena *arena, struct jw *patch, struct jw *merged)
{
    jw_arr(patch);
    jw_obj(merged);
    for (struct jv_iter it = jv_iter(values); jv_step(&it);) {
        struct span name = jv_string(it.name, arena);
        struct jv changed = jv_get_span(news, name);
        jw_key_span(merged, name);
        jw_raw(merged, jv_raw(jv_is(changed, JSON_NONE) ? it.value : changed));
    }
    for (struct jv_iter it = jv_iter(news); jv_step(&it);) {
        struct span name = jv_string(it.name, arena);
        bool present = !jv_is(jv_get_span(values, name), JSON_NONE);
        patch_one(patch, name, present, it.value);
        if (present)
            continue;
        jw_key_span(merged, name);
        jw_raw(merged, jv_raw(it.value));
    }
    jw_arr_end(patch);
    jw_end(merged);
}

static enum verdict set_start(struct work *work)
{
    CLEANUP(buf_done) struct buf patch = { 0 };
    CLEANUP(buf_done) struct buf merged = { 0 };
    struct arena *arena = work->out->arena;
    struct jv news = jv_get(work->config, "value");
    struct jw patch_writer = jw_on(&patch), merged_writer = jw_on(&merged);

    if (jv_count(news) > 0) {
        merge(json_read(work->values, arena), news, arena, &patch_writer, &merged_writer);
        work->values = arena_copy(arena, buf_view(&merged));
        struct effect *fx = work_effect(work, FX_STATE, work->op);
        fx->state.patch = arena_copy(arena, buf_view(&patch));
        fx->state.values = work->values;
    }
    return done(work, jv_raw(news));
}

static const struct field set_fields[] = { { .name = "value", .type = FIELD_OBJECT, .required = true },
                                           { .name = NULL } };

/* ---- core.fail ---- */

static enum verdict fail_start(struct work *work)
{
    struct arena *arena = work->out->arena;
    int64_t times = int_of(work->config, "fail_times", INT64_MAX);

    if (work->fails >= times)
        return done(work, SPAN("null"));
    work->fails++;
    work->fault = (struct fault){
        .code = copy_or(jv_get(work->config, "code"), "failed", arena),
        .category = copy_or(jv_get(work->config, "category"), "internal", arena),
        .message = text_of(jv_get(work->config, "message"), arena),
        .source = SPAN("agent"),
        .retryable = jv_bool(jv_get(work->config, "retryable"), false),
    };
    if (!work->fault.message.n)
        work->fault.message = SPAN("The node failed on purpose.");
    return VERDICT_FAILED;
}

static void fail_check(struct check *c, struct jv config)
{
    struct jv category = jv_get(config, "category");
    size_t before = check_enter(c, "category");
    if (jv_is(category, JSON_STRING) && !fault_is_category(category))
        CHECK_ISSUE(c, "enum", "is no category of errors");
    check_leave(c, before);
}

static const struct field fail_fields[] = {
    { .name = "code", .type = FIELD_NAME },
    { .name = "category", .type = FIELD_NAME },
    { .name = "message", .type = FIELD_TEXT },
    { .name = "retryable", .type = FIELD_BOOL },
    { .name = "fail_times", .type = FIELD_INT, .low = 0, .high = 1000000 },
    { .name = NULL },
};

/* ---- core.human ---- */

static enum verdict human_start(struct work *work)
{
    struct arena *arena = work->out->arena;
    struct jv schema = jv_get(work->config, "schema");
    uint64_t timeout_us = work->plan->human_timeout_us;

    work->human = true;
    work->human_at = work->out->count;
    struct effect *fx = work_effect(work, FX_WAIT, op_sub(work->op, OP_PART(OP_WAIT, 0)));
    fx->wait.kind = WAIT_PROMPT;
    fx->wait.prompt = text_of(jv_get(work->config, "prompt"), arena);
    fx->wait.schema = jv_is(schema, JSON_OBJECT) ? jv_raw(schema) : SPAN_NONE;
    fx->wait.expires_us = timeout_us ? work->in->elapsed_us + timeout_us : 0;
    work->due_us = fx->wait.expires_us;
    fx = work_effect(work, FX_NODE, work->op);
    fx->node_.event = NODE_WAIT;
    fx->node_.error = SPAN("\"human\"");
    return pending(work, PHASE_ANSWER);
}

static enum verdict human_answer(struct work *work)
{
    if (work->in->err == ERR_OK)
        return done(work, work->in->value.n ? arena_copy(work->out->arena, work->in->value) : SPAN("null"));
    bool expired = work->in->err == ERR_EXPIRED;
    work->fault = (struct fault){
        .code = expired ? SPAN("human_timeout") : span_of(err_info(work->in->err)->ar_code),
        .category = SPAN("human"),
        .message = expired ? SPAN("Nobody answered in time.") : span_of(err_info(work->in->err)->title),
        .source = SPAN("human"),
    };
    return VERDICT_FAILED;
}

static void human_check(struct check *c, struct jv config)
{
    struct jv schema = jv_get(config, "schema");
    size_t before = check_enter(c, "schema");
    bool fine = jv_is(schema, JSON_NONE) || jv_is(schema, JSON_NULL) || jv_is(schema, JSON_OBJECT);
    if (!fine)
        CHECK_ISSUE(c, "type", "must be an object or null");
    else if (jv_is(schema, JSON_OBJECT) && !c->resolved)
        json_schema_check(schema, c->at, c->issues); /* as it is written: a schema is never taken from the state */
    check_leave(c, before);
}

static const struct field human_fields[] = {
    { .name = "prompt", .type = FIELD_TEXT, .required = true },
    { .name = "schema", .type = FIELD_ANY },
    { .name = NULL },
};

/* ---- core.switch ---- */

static bool case_matches(struct work *work, struct jv when)
{
    if (jv_is(when, JSON_NONE))
        return true;
    struct span pointer = jv_string(jv_get(when, "pointer"), work->out->arena);
    struct jv found = ref_lookup(pointer, work->docs);
    return !jv_is(found, JSON_NONE) && jv_equal(found, jv_get(when, "equals"));
}

static enum verdict switch_start(struct work *work)
{
    for (struct jv_iter it = jv_iter(jv_get(work->config, "cases")); jv_step(&it);) {
        if (!case_matches(work, jv_get(it.value, "when")))
            continue;
        struct span next = jv_raw(jv_get(it.value, "next"));
        return done(work, next.n ? arena_printf(work->out->arena, "{\"next\":%.*s}", SPAN_ARG(next))
                                 : SPAN("{\"next\":null}"));
    }
    work->fault = (struct fault){
        .code = SPAN("no_case"),
        .category = SPAN("validation"),
        .message = SPAN("No case of the switch holds."),
        .source = SPAN("agent"),
    };
    return VERDICT_FAILED;
}

static const struct field case_fields[] = {
    { .name = "when", .type = FIELD_OBJECT },
    { .name = "next", .type = FIELD_ANY },
    { .name = NULL },
};
/* The pointer must stand there as it is: which outputs are kept depends on it. */
static const struct field when_fields[] = {
    { .name = "pointer", .type = FIELD_ANY, .required = true },
    { .name = "equals", .type = FIELD_ANY, .required = true },
    { .name = NULL },
};

static void when_check(struct check *c, struct jv when)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct jv pointer = jv_get(when, "pointer");
    struct ref ref;

    check_fields(c, when_fields, when);
    size_t before = check_enter(c, "pointer");
    if (!jv_is(pointer, JSON_NONE) && !jv_is(pointer, JSON_STRING))
        CHECK_ISSUE(c, "type", "must be a string");
    else if (jv_is(pointer, JSON_STRING) && !ref_parse(jv_string(pointer, &scratch), &ref))
        CHECK_ISSUE(c, "pointer", "must be a JSON pointer that begins with /input, /values or /nodes/NAME/output");
    check_leave(c, before);
}

static void case_check(struct check *c, struct jv one)
{
    struct jv when = jv_get(one, "when"), next = jv_get(one, "next");

    if (!jv_is(one, JSON_OBJECT) || ref_is(one)) {
        CHECK_ISSUE(c, "type", "must be an object");
        return;
    }
    check_fields(c, case_fields, one);
    size_t before = check_enter(c, "next");
    if (!jv_is(next, JSON_NONE) && !jv_is(next, JSON_NULL) && !jv_is(next, JSON_STRING))
        CHECK_ISSUE(c, "type", "must be the name of a node or null");
    check_leave(c, before);
    before = check_enter(c, "when");
    if (ref_is(when))
        CHECK_ISSUE(c, "type", "must be an object of members");
    else if (jv_is(when, JSON_OBJECT))
        when_check(c, when);
    check_leave(c, before);
}

static void switch_check(struct check *c, struct jv config)
{
    struct jv cases = jv_get(config, "cases");
    size_t outer = check_enter(c, "cases"), index = 0;

    if (!jv_is(cases, JSON_NONE) && !jv_is(cases, JSON_ARRAY))
        CHECK_ISSUE(c, "type", "must be an array");
    else if (jv_is(cases, JSON_ARRAY) && jv_count(cases) == 0)
        CHECK_ISSUE(c, "range", "must hold at least one case");
    if (jv_is(cases, JSON_ARRAY))
        for (struct jv_iter it = jv_iter(cases); jv_step(&it); index++) {
            size_t before = check_enter_index(c, index);
            case_check(c, it.value);
            check_leave(c, before);
        }
    check_leave(c, outer);
}

static const struct field switch_fields[] = {
    { .name = "cases", .type = FIELD_ANY, .required = true },
    { .name = NULL },
};

bool capability_is_switch(const struct capability *capability)
{
    return capability->start == switch_start;
}

void capability_pointers(const struct capability *capability, struct jv config,
                         void (*fn)(void *ctx, struct span pointer), void *ctx)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct jv cases = jv_get(config, "cases");
    if (!capability_is_switch(capability) || !jv_is(cases, JSON_ARRAY))
        return;
    for (struct jv_iter it = jv_iter(cases); jv_step(&it);) {
        struct jv pointer = jv_get(jv_get(it.value, "when"), "pointer");
        if (jv_is(pointer, JSON_STRING))
            fn(ctx, jv_string(pointer, &scratch));
    }
}

void capability_targets(const struct capability *capability, struct jv config,
                        void (*fn)(void *ctx, size_t index, struct jv next), void *ctx)
{
    struct jv cases = jv_get(config, "cases");
    size_t index = 0;
    if (!capability_is_switch(capability) || !jv_is(cases, JSON_ARRAY))
        return;
    for (struct jv_iter it = jv_iter(cases); jv_step(&it); index++) {
        struct jv next = jv_get(it.value, "next");
        if (jv_is(next, JSON_STRING))
            fn(ctx, index, next);
    }
}

/* ---- core.handoff ---- */

static enum verdict handoff_start(struct work *work)
{
    struct jv input = jv_get(work->config, "input");
    struct effect *fx = work_effect(work, FX_CHILD, op_sub(work->op, OP_PART(OP_CHILD, 0)));
    fx->child.agent = jv_string(jv_get(work->config, "agent_id"), work->out->arena);
    fx->child.input = jv_raw(input);
    return pending(work, PHASE_CHILD);
}

static enum verdict handoff_answer(struct work *work)
{
    struct arena *arena = work->out->arena;
    struct jv result = json_read(work->in->value, arena), status = jv_get(result, "status");
    struct jv output = jv_get(result, "output"), error = jv_get(result, "error"), category = jv_get(error, "category");

    if (work->in->err == ERR_OK && jv_str_eq(status, "completed"))
        return done(work, jv_is(output, JSON_NONE) ? SPAN("null") : json_minified(output, arena));
    bool cancelled = jv_str_eq(status, "cancelled");
    work->fault = (struct fault){
        .code = cancelled ? SPAN("child_cancelled") : SPAN("child_failed"),
        .category = cancelled               ? SPAN("cancelled")
                    : fault_is_category(category) ? jv_string(category, arena)
                                            : SPAN("internal"),
        .message = copy_or(jv_get(error, "message"),
                           cancelled ? "The child run was cancelled." : "The child run failed.", arena),
        .source = SPAN("agent"),
        .retryable = !cancelled && jv_bool(jv_get(error, "retryable"), false),
    };
    return VERDICT_FAILED;
}

static const struct field handoff_fields[] = {
    { .name = "agent_id", .type = FIELD_NAME, .required = true },
    { .name = "input", .type = FIELD_ANY },
    { .name = NULL },
};

/* ---- model.chat ---- */

static void put_text_message(struct jw *w, const char *role, struct span text)
{
    jw_obj(w);
    jw_key(w, "role");
    jw_cstr(w, role);
    jw_key(w, "content");
    jw_str(w, text);
    jw_end(w);
}

/* Content is text or a list of parts; anything else came from a reference and becomes text. */
static void put_message(struct jw *w, struct jv message, struct arena *arena)
{
    jw_obj(w);
    for (struct jv_iter it = jv_iter(message); jv_step(&it);) {
        struct span name = jv_string(it.name, arena);
        jw_key_span(w, name);
        if (span_is(name, "content") && !jv_is(it.value, JSON_STRING) && !jv_is(it.value, JSON_ARRAY))
            jw_str(w, text_of(it.value, arena));
        else
            jw_raw(w, jv_raw(it.value));
    }
    jw_end(w);
}

static void put_member(struct jw *w, struct jv config, const char *name)
{
    struct jv v = jv_get(config, name);
    if (jv_is(v, JSON_NONE))
        return;
    jw_key(w, name);
    jw_raw(w, jv_raw(v));
}

static struct span chat_request(struct jv config, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct jw w = jw_on(&text);
    struct jv system = jv_get(config, "system"), prompt = jv_get(config, "prompt");

    jw_obj(&w);
    jw_key(&w, "messages");
    jw_arr(&w);
    if (!jv_is(system, JSON_NONE))
        put_text_message(&w, "system", text_of(system, arena));
    for (struct jv_iter it = jv_iter(jv_get(config, "messages")); jv_step(&it);)
        put_message(&w, it.value, arena);
    if (!jv_is(prompt, JSON_NONE))
        put_text_message(&w, "user", text_of(prompt, arena));
    jw_arr_end(&w);
    put_member(&w, config, "max_tokens");
    put_member(&w, config, "temperature");
    put_member(&w, config, "script");
    jw_end(&w);
    return arena_copy(arena, buf_view(&text));
}

static enum verdict chat_start(struct work *work)
{
    struct arena *arena = work->out->arena;
    struct effect *fx = work_effect(work, FX_MODEL, op_sub(work->op, OP_PART(OP_MODEL, 0)));
    fx->model.provider = jv_string(jv_get(work->config, "provider"), arena);
    fx->model.model = jv_string(jv_get(work->config, "model"), arena);
    fx->model.request = chat_request(work->config, arena);
    fx->model.stream = true;
    return pending(work, PHASE_MODEL);
}

static enum verdict chat_answer(struct work *work)
{
    if (work->in->err)
        return failed_as_told(work);
    CLEANUP(buf_done) struct buf text = { 0 };
    struct arena *arena = work->out->arena;
    struct jw w = jw_on(&text);
    struct jv answer = json_read(work->in->value, arena);

    jw_obj(&w);
    jw_key(&w, "text");
    jw_str(&w, text_of(jv_get(answer, "text"), arena));
    put_member(&w, answer, "usage");
    put_member(&w, answer, "finish_reason");
    jw_end(&w);
    return done(work, arena_copy(arena, buf_view(&text)));
}

static void message_check(struct check *c, struct jv message)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool", "developer" };
    struct jv role = jv_get(message, "role"), content = jv_get(message, "content");
    bool known = ref_is(role) && !c->resolved;

    if (ref_is(message) && !c->resolved)
        return;
    if (!jv_is(message, JSON_OBJECT)) {
        CHECK_ISSUE(c, "type", "must be an object");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        known |= jv_str_eq(role, roles[i]);
    size_t before = check_enter(c, "role");
    if (jv_is(role, JSON_NONE))
        CHECK_ISSUE(c, "required", "is required");
    else if (!known)
        CHECK_ISSUE(c, "enum", "must be system, user, assistant, tool or developer");
    check_leave(c, before);
    before = check_enter(c, "content");
    if (jv_is(content, JSON_NONE))
        CHECK_ISSUE(c, "required", "is required");
    else if (!c->resolved && !ref_is(content) && !jv_is(content, JSON_STRING) && !jv_is(content, JSON_ARRAY))
        CHECK_ISSUE(c, "type", "must be a string or an array of parts");
    check_leave(c, before);
}

static void chat_check(struct check *c, struct jv config)
{
    struct jv messages = jv_get(config, "messages");
    bool has_prompt = !jv_is(jv_get(config, "prompt"), JSON_NONE), has_messages = !jv_is(messages, JSON_NONE);
    size_t index = 0, outer;

    if (!has_prompt && !has_messages)
        CHECK_ISSUE(c, "required", "one of prompt and messages is required");
    if (has_prompt && has_messages)
        CHECK_ISSUE(c, "exclusive", "only one of prompt and messages may be given");
    if (!jv_is(messages, JSON_ARRAY))
        return;
    outer = check_enter(c, "messages");
    if (jv_count(messages) == 0)
        CHECK_ISSUE(c, "range", "must hold at least one message");
    for (struct jv_iter it = jv_iter(messages); jv_step(&it); index++) {
        size_t before = check_enter_index(c, index);
        message_check(c, it.value);
        check_leave(c, before);
    }
    check_leave(c, outer);
}

static const struct field chat_fields[] = {
    { .name = "provider", .type = FIELD_NAME, .required = true },
    { .name = "model", .type = FIELD_NAME, .required = true },
    { .name = "system", .type = FIELD_TEXT },
    { .name = "prompt", .type = FIELD_TEXT },
    { .name = "messages", .type = FIELD_ARRAY },
    { .name = "max_tokens", .type = FIELD_INT, .low = 1, .high = 10000000 },
    { .name = "temperature", .type = FIELD_NUMBER, .low = 0, .high = 2 },
    { .name = "script", .type = FIELD_OBJECT },
    { .name = NULL },
};

/* ---- agent.loop, team.run: see nested.c; the definition was compiled by the machine itself ---- */

static const struct field nested_fields[] = { { .name = "input", .type = FIELD_ANY }, { .name = NULL } };

/* ---- tool.call: one call of a tool, by the server or by a follower of the run ---- */

enum { TOOL_WAIT_MS = 900000 }; /* as long as the workflow surface waits for its clients */

static enum verdict tool_call_start(struct work *work)
{
    struct arena *arena = work->out->arena;
    struct jv arguments = jv_get(work->config, "arguments");
    bool client = jv_str_eq(jv_get(work->config, "by"), "client");
    struct effect *fx = work_effect(work, FX_TOOL, op_sub(work->op, OP_PART(OP_TOOL, 0)));

    fx->tool.tool = jv_string(jv_get(work->config, "tool"), arena);
    fx->tool.arguments = jv_is(arguments, JSON_NONE) ? SPAN("{}") : json_minified(arguments, arena);
    fx->tool.by = client                                           ? TOOL_BY_CLIENT
                  : jv_str_eq(jv_get(work->config, "by"), "local") ? TOOL_BY_LOCAL
                                                                   : TOOL_BY_SERVER;
    if (client) {
        fx = work_effect(work, FX_WAIT, op_sub(work->op, OP_PART(OP_WAIT, 0)));
        fx->wait.kind = WAIT_TOOLS;
        fx->wait.expires_us = work->in->elapsed_us + (uint64_t)int_of(work->config, "wait_ms", TOOL_WAIT_MS) * 1000;
        work->due_us = fx->wait.expires_us;
    }
    return pending(work, PHASE_TOOL);
}

static enum verdict tool_call_answer(struct work *work)
{
    struct arena *arena = work->out->arena;

    if (work->in->kind == IN_ANSWER) { /* the wait's end: nobody answered */
        work->fault = (struct fault){ .code = SPAN("tool_wait_expired"), .category = SPAN("tool"), .source = SPAN("tool"),
                                      .message = SPAN("Nobody answered the tool call in time.") };
        return VERDICT_FAILED;
    }
    if (work->in->err)
        return failed_as_told(work);
    return done(work, work->in->value.n ? json_minified(json_read(work->in->value, arena), arena) : SPAN("null"));
}

static void tool_call_check(struct check *c, struct jv config)
{
    struct jv by = jv_get(config, "by");
    size_t before = check_enter(c, "by");
    if (jv_is(by, JSON_STRING) && !jv_str_eq(by, "server") && !jv_str_eq(by, "client") &&
        !jv_str_eq(by, "local"))
        CHECK_ISSUE(c, "enum", "must be server, client or local");
    check_leave(c, before);
}

static const struct field tool_call_fields[] = {
    { .name = "tool", .type = FIELD_NAME, .required = true },
    { .name = "arguments", .type = FIELD_OBJECT },
    { .name = "by", .type = FIELD_NAME },
    { .name = "wait_ms", .type = FIELD_INT, .low = 1, .high = PLAN_MS_MAX },
    { .name = NULL },
};

/* ---- the table ---- */

static const struct capability capabilities[] = {
    { "agent.loop", "1", "loop", nested_fields, NULL, nested_start, nested_answer, "agent" },
    { "core.echo", "1", "builtin", echo_fields, NULL, echo_start, NULL, NULL },
    { "core.emit", "1", "builtin", emit_fields, NULL, emit_start, emit_answer, NULL },
    { "core.fail", "1", "builtin", fail_fields, fail_check, fail_start, NULL, NULL },
    { "core.handoff", "1", "agent", handoff_fields, NULL, handoff_start, handoff_answer, NULL },
    { "core.human", "1", "human", human_fields, human_check, human_start, human_answer, NULL },
    { "core.set", "1", "builtin", set_fields, NULL, set_start, NULL, NULL },
    { "core.sleep", "1", "builtin", sleep_fields, NULL, sleep_start, sleep_answer, NULL },
    { "core.switch", "1", "builtin", switch_fields, switch_check, switch_start, NULL, NULL },
    { "core.value", "1", "builtin", value_fields, NULL, value_start, NULL, NULL },
    { "model.chat", "1", "model", chat_fields, chat_check, chat_start, chat_answer, NULL },
    { "team.run", "1", "team", nested_fields, NULL, nested_start, nested_answer, "team" },
    { "tool.call", "1", "tool", tool_call_fields, tool_call_check, tool_call_start, tool_call_answer, NULL },
};

const struct capability *capability_find(struct span name, struct span version)
{
    for (size_t i = 0; i < ARRAY_LEN(capabilities); i++)
        if (span_is(name, capabilities[i].name) && span_is(version, capabilities[i].version))
            return &capabilities[i];
    return NULL;
}

bool capability_known(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(capabilities); i++)
        if (span_is(name, capabilities[i].name))
            return true;
    return false;
}
