/* SPDX-License-Identifier: Apache-2.0 */
/* spec_v1.c - nodes and edges of workflow.v1 (workflow-runs.md 2.6): checked as the published schema does, with from_input
 * beside from, and written with defaults left out.
 *
 * Objects that the schema closes are closed here; unknown members of the open ones (a node's input, a request) are dropped. */
#include "workflow/spec_inner.h"

/* Values of requests that may be walked over to find targets, in one compile; beyond it a target is not looked at before the
 * run. The same for the same spec. */
#define TARGET_WORK_MAX UINT64_C(100000000)

static const char *const hosted[] = { "agent.run", "agent.scheduler", "sql.validate", "execute.python", "llm.rlm", "fragment" };

enum spec_type spec_v1_type(struct spec_compile *c, struct jv node, bool sub)
{
    struct span name = jv_string(spec_need(c, node, "type", JSON_STRING), c->arena);
    enum spec_type type = SPEC_NO_TYPE;
    const char *why = "is no type of node";
    if (!name.p)
        return SPEC_NO_TYPE;
    for (unsigned i = SPEC_LLM; i < SPEC_TYPE_COUNT; i++)
        if (span_is(name, spec_type_names[i]))
            type = (enum spec_type)i;
    if (type != SPEC_NO_TYPE && (!sub || type == SPEC_LLM || type == SPEC_ROUTE || type == SPEC_TRANSFORM))
        return type;
    if (sub)
        why = "cannot be a fan-out's subnode: llm.responses, route.switch and transform.json can";
    for (size_t i = 0; i < ARRAY_LEN(hosted); i++)
        if (span_is(name, hosted[i]))
            why = "is not supported by this server";
    if (span_is(name, "llm"))
        why = "is a node of kind workflow; here it is called llm.responses";
    size_t before = spec_enter(c, "type");
    SPEC_ISSUE(c, "UNSUPPORTED_NODE_TYPE", "\"%.*s\" %s", SHOW(name), why);
    spec_leave(c, before);
    return SPEC_NO_TYPE;
}

/* ---- bindings ---- */

/* The value that `to` replaces, or would be added to: it must be there when the request is built. */
static void check_target(struct spec_compile *c, struct jv request, struct span to)
{
    struct span parent = to;
    const char *wrong = NULL;
    c->target_work += jv_is(request, JSON_NONE) ? 0 : request.doc->tape[request.at].next - request.at;
    if (c->target_work > TARGET_WORK_MAX)
        return;
    while (parent.n > 0 && parent.p[parent.n - 1] != '/')
        parent.n--;
    if (parent.n > 0)
        parent.n--;
    struct jv target = jv_pointer(request, to), holder = jv_pointer(request, parent);
    size_t before = spec_enter(c, "to");
    if (to.n > 8 ? memcmp(to.p, "/request/", 9) == 0 : span_is(to, "/request"))
        SPEC_ISSUE(c, "INVALID_POINTER", "begins inside the request, so without /request");
    else if (jv_is(target, JSON_NONE) && !jv_is(holder, JSON_OBJECT))
        wrong = jv_is(holder, JSON_ARRAY) ? "the array has no such element" : "there is nothing that could hold it";
    if (wrong)
        SPEC_ISSUE(c, "POINTER_NOT_FOUND", "\"%.*s\" leads nowhere in the request: %s", SHOW(to), wrong);
    spec_leave(c, before);
}

static bool read_encoding(struct spec_compile *c, struct jv v, bool placeholder)
{
    struct jv encoding = spec_want(c, v, "encoding", JSON_STRING);
    if (jv_is(encoding, JSON_NONE))
        return placeholder;
    if (jv_str_eq(encoding, "json") || jv_str_eq(encoding, "json_string"))
        return jv_str_eq(encoding, "json_string");
    size_t before = spec_enter(c, "encoding");
    SPEC_ISSUE(c, "INVALID_TYPE", "must be json or json_string");
    spec_leave(c, before);
    return placeholder;
}

static void read_target(struct spec_compile *c, struct jv v, struct jv request, const struct spec_marks *marks,
                        struct spec_binding *b)
{
    b->to = spec_pointer(c, v, "to");
    b->to_placeholder = spec_want_text(c, v, "to_placeholder", 0);
    b->text = read_encoding(c, v, b->to_placeholder.n > 0);
    if (spec_has(v, "to") == spec_has(v, "to_placeholder"))
        SPEC_ISSUE(c, "EXCLUSIVE_FIELDS", "needs exactly one of to and to_placeholder");
    else if (jv_str_eq(spec_get(v, "to"), ""))
        SPEC_ISSUE(c, "INVALID_POINTER", "to must lead into the request");
    else if (b->to.n)
        check_target(c, request, b->to);
    else if (b->to_placeholder.n && !spec_marks_have(marks, b->to_placeholder)) {
        size_t before = spec_enter(c, "to_placeholder");
        SPEC_ISSUE(c, "PLACEHOLDER_NOT_FOUND", "no text of the request has {{%.*s}}", SHOW(b->to_placeholder));
        spec_leave(c, before);
    }
}

static void read_binding(struct spec_compile *c, struct jv v, uint32_t index, struct jv request,
                         const struct spec_marks *marks, struct spec_binding *b)
{
    static const char *const known[] = { "from", "from_input", "pointer", "to", "to_placeholder", "encoding", NULL };
    spec_only(c, v, true, known);
    uint32_t from = spec_node_ref(c, v, "from");
    b->from_input = spec_want_text(c, v, "from_input", 0);
    b->pointer = spec_pointer(c, v, "pointer");
    if (spec_has(v, "from") == spec_has(v, "from_input"))
        SPEC_ISSUE(c, "EXCLUSIVE_FIELDS", "needs exactly one of from and from_input");
    size_t before = spec_enter(c, "pointer");
    if (from != NO_INDEX) {
        b->from = c->nodes[from].id;
        spec_depend(c, from, index);
        spec_use_node(c, from, b->pointer);
    } else if (b->from_input.n) {
        spec_use_input(c, b->from_input, b->pointer);
    }
    spec_leave(c, before);
    read_target(c, v, request, marks, b);
}

static void read_item_binding(struct spec_compile *c, struct jv v, struct jv request, const struct spec_marks *marks,
                              struct spec_binding *b)
{
    static const char *const known[] = { "path", "to", "to_placeholder", "encoding", NULL };
    spec_only(c, v, true, known);
    b->pointer = spec_pointer(c, v, "path");
    read_target(c, v, request, marks, b);
}

/* `index` NO_INDEX: of items. */
static void put_bindings(struct spec_compile *c, struct jv object, const char *member, uint32_t index, struct jv request,
                         const struct spec_marks *marks)
{
    struct jv list = spec_want(c, object, member, JSON_ARRAY);
    size_t before = spec_enter(c, member), count = 0;
    if (jv_count(list) > SPEC_BINDINGS_MAX) {
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are %zu bindings; %d are allowed", jv_count(list), SPEC_BINDINGS_MAX);
        list = (struct jv){ 0 };
    }
    struct spec_binding *bindings = ARENA_ARRAY(c->arena, struct spec_binding, jv_count(list) + 1);
    for (struct jv_iter it = jv_iter(list); jv_step(&it); count++) {
        size_t at = spec_enter_index(c, count);
        bindings[count].path = arena_copy(c->arena, buf_view(&c->at));
        if (!jv_is(it.value, JSON_OBJECT))
            SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        else if (index == NO_INDEX)
            read_item_binding(c, it.value, request, marks, &bindings[count]);
        else
            read_binding(c, it.value, index, request, marks, &bindings[count]);
        spec_leave(c, at);
    }
    spec_leave(c, before);
    spec_put_bindings(c, member, bindings, count);
}

/* ---- models ---- */

/* Does a binding fill all of /input? */
static bool binds_input(struct jv bindings)
{
    for (struct jv_iter it = jv_iter(bindings); jv_step(&it);)
        if (jv_str_eq(spec_get(it.value, "to"), "/input"))
            return true;
    return false;
}

static void put_limits(struct spec_compile *c, struct jv input)
{
    static const char *const known[] = { "max_llm_calls", "max_tool_calls_per_step", "wait_ttl_ms", NULL };
    struct jv limits = spec_want(c, input, "tool_limits", JSON_OBJECT);
    size_t before = spec_enter(c, "tool_limits"), start = c->body.len;
    struct jw outer = c->w;
    jw_key(&c->w, "tool_limits");
    jw_obj(&c->w);
    size_t empty = c->body.len;
    spec_put_int(c, limits, "max_llm_calls", 1, 64, 8);
    spec_put_int(c, limits, "max_tool_calls_per_step", 1, 64, 16);
    spec_put_int(c, limits, "wait_ttl_ms", 1, 86400000, 900000);
    spec_only(c, limits, true, known);
    if (c->body.len == empty) {
        c->body.len = start;
        c->w = outer;
    } else {
        jw_end(&c->w);
    }
    spec_leave(c, before);
}

/* Members of a model node's input. Bindings of a subnode are those of its fan-out. */
static void put_llm(struct spec_compile *c, struct jv input, uint32_t index, struct jv bindings, bool sub,
                    struct spec_marks *marks)
{
    static const char *const known[] = { "request",     "stream",         "bindings", "tool_execution",
                                         "tool_limits", "max_tool_steps", "retry",    NULL };
    struct jv request = spec_need(c, input, "request", JSON_OBJECT);
    spec_only(c, input, false, known);
    if (jv_is(request, JSON_OBJECT)) {
        size_t before = spec_enter(c, "request");
        spec_v1_request(c, request, binds_input(bindings), marks);
        spec_leave(c, before);
    }
    spec_llm_common(c, input, sub);
    put_limits(c, input);
    spec_put_int(c, input, "max_tool_steps", 1, 64, 10);
    if (!sub) {
        put_bindings(c, input, "bindings", index, request, marks);
    } else if (jv_count(spec_want(c, input, "bindings", JSON_ARRAY)) > 0) {
        size_t before = spec_enter(c, "bindings");
        SPEC_ISSUE(c, "PLACEHOLDER_NOT_ALLOWED", "a fan-out's subnode is bound to its item by item_bindings only");
        spec_leave(c, before);
    }
}

/* ---- fan-out ---- */

static void put_items(struct spec_compile *c, struct jv input, uint32_t index)
{
    static const char *const known[] = { "from", "from_input", "pointer", "path", NULL };
    struct jv items = spec_need(c, input, "items", JSON_OBJECT);
    if (!jv_is(items, JSON_OBJECT))
        return;
    size_t before = spec_enter(c, "items");
    uint32_t from = spec_node_ref(c, items, "from");
    struct span name = spec_want_text(c, items, "from_input", 0);
    struct span pointer = spec_pointer(c, items, "pointer"), path = spec_pointer(c, items, "path");
    enum spec_type type = from == NO_INDEX ? SPEC_NO_TYPE : c->nodes[from].shape.type;
    spec_only(c, items, true, known);
    if (spec_has(items, "from") == spec_has(items, "from_input"))
        SPEC_ISSUE(c, "EXCLUSIVE_FIELDS", "needs exactly one of from and from_input");
    if (pointer.n == 0 && (type == SPEC_LLM || type == SPEC_ROUTE)) /* a response is never an array */
        pointer = SPAN(SPEC_TEXT_POINTER);
    spec_depend(c, from, index);
    (void)spec_enter(c, "pointer");
    if (from != NO_INDEX)
        spec_use_node(c, from, pointer);
    else if (name.n)
        spec_use_input(c, name, pointer);
    spec_leave(c, before);

    jw_key(&c->w, "items");
    jw_obj(&c->w);
    jw_key(&c->w, from != NO_INDEX ? "from" : "from_input");
    jw_str(&c->w, from != NO_INDEX ? c->nodes[from].id : name);
    if (pointer.n) {
        jw_key(&c->w, "pointer");
        jw_str(&c->w, pointer);
    }
    if (path.n) {
        jw_key(&c->w, "path");
        jw_str(&c->w, path);
    }
    jw_end(&c->w);
}

static void put_subnode(struct spec_compile *c, struct jv fanout, struct jv sub, uint32_t index, struct spec_marks *marks)
{
    static const char *const known[] = { "id", "type", "input", NULL };
    enum spec_type type = spec_v1_type(c, sub, true);
    struct span id = jv_string(spec_need(c, sub, "id", JSON_STRING), c->arena);
    struct jv input = spec_need(c, sub, "input", JSON_OBJECT);
    spec_only(c, sub, true, known);
    if (id.p && !plan_name_valid(id)) {
        size_t before = spec_enter(c, "id");
        SPEC_ISSUE(c, "INVALID_NODE_ID", "\"%.*s\" is no node id: a letter a-z, then up to 63 of a-z, 0-9 and _", SHOW(id));
        spec_leave(c, before);
    }
    c->nodes[index].sub = spec_shape_of(type, input, spec_get(input, "request"));
    jw_obj(&c->w);
    jw_key(&c->w, "id");
    jw_str(&c->w, id);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, spec_type_names[type]);
    jw_key(&c->w, "input");
    jw_obj(&c->w);
    size_t before = spec_enter(c, "input");
    if (jv_is(input, JSON_OBJECT) && type == SPEC_TRANSFORM) {
        static const char *const transform[] = { "object", "merge", NULL };
        spec_only(c, input, true, transform);
        spec_transform(c, input, index, true);
    } else if (jv_is(input, JSON_OBJECT) && type != SPEC_NO_TYPE) {
        put_llm(c, input, index, spec_get(fanout, "item_bindings"), true, marks);
    }
    spec_leave(c, before);
    jw_end(&c->w);
    jw_end(&c->w);
}

static void put_fanout(struct spec_compile *c, struct jv input, uint32_t index)
{
    static const char *const known[] = { "items", "item_bindings", "subnode", "max_parallelism", NULL };
    struct spec_marks marks = { 0 };
    spec_only(c, input, true, known);
    put_items(c, input, index);
    spec_put_int(c, input, "max_parallelism", 1, INT32_MAX, 0);
    struct jv sub = spec_need(c, input, "subnode", JSON_OBJECT);
    if (jv_is(sub, JSON_OBJECT)) {
        size_t before = spec_enter(c, "subnode");
        jw_key(&c->w, "subnode");
        put_subnode(c, input, sub, index, &marks);
        spec_leave(c, before);
    }
    put_bindings(c, input, "item_bindings", NO_INDEX, spec_get(spec_get(sub, "input"), "request"), &marks);
}

/* ---- nodes ---- */

static void put_input(struct spec_compile *c, struct jv input, enum spec_type type, uint32_t index)
{
    static const char *const none[] = { NULL };
    static const char *const any[] = { "predicate", NULL };
    static const char *const collect[] = { "predicate", "limit", "timeout_ms", NULL };
    static const char *const transform[] = { "object", "merge", NULL };
    struct spec_marks marks = { 0 };
    switch (type) {
    case SPEC_LLM:
    case SPEC_ROUTE:
        put_llm(c, input, index, spec_get(input, "bindings"), false, &marks);
        break;
    case SPEC_JOIN_ALL:
        spec_only(c, input, true, none);
        break;
    case SPEC_JOIN_ANY:
        spec_only(c, input, true, any);
        spec_put_predicate(c, input);
        break;
    case SPEC_JOIN_COLLECT:
        spec_only(c, input, true, collect);
        spec_put_predicate(c, input);
        spec_put_int(c, input, "limit", 1, INT32_MAX, 0);
        spec_put_int(c, input, "timeout_ms", 1, PLAN_MS_MAX, 0);
        break;
    case SPEC_TRANSFORM:
        spec_only(c, input, true, transform);
        spec_transform(c, input, index, false);
        break;
    case SPEC_FANOUT:
        put_fanout(c, input, index);
        break;
    default:
        break;
    }
}

void spec_v1_node(struct spec_compile *c, uint32_t index)
{
    static const char *const known[] = { "id", "type", "input", NULL };
    struct spec_node *node = &c->nodes[index];
    enum spec_type type = node->shape.type;
    bool needed = type != SPEC_JOIN_ALL && type != SPEC_JOIN_ANY && type != SPEC_NO_TYPE;
    struct jv input = (needed ? spec_need : spec_want)(c, node->v, "input", JSON_OBJECT);
    spec_only(c, node->v, true, known);
    node->shape = spec_shape_of(type, input, spec_get(input, "request"));
    jw_obj(&c->w);
    jw_key(&c->w, "id");
    jw_str(&c->w, node->id);
    jw_key(&c->w, "type");
    jw_cstr(&c->w, spec_type_names[type]);
    if (jv_is(input, JSON_OBJECT)) {
        size_t before = spec_enter(c, "input"), start = c->body.len;
        struct jw outer = c->w;
        jw_key(&c->w, "input");
        jw_obj(&c->w);
        size_t empty = c->body.len;
        put_input(c, input, type, index);
        if (c->body.len == empty && !needed) {
            c->body.len = start;
            c->w = outer;
        } else {
            jw_end(&c->w);
        }
        spec_leave(c, before);
    }
    jw_end(&c->w);
}

/* ---- edges ---- */

static void read_edge(struct spec_compile *c, struct jv v)
{
    static const char *const known[] = { "from", "to", "when", NULL };
    struct spec_edge edge = { 0 };
    struct buf text = { 0 };
    spec_only(c, v, true, known);
    if (!spec_has(v, "from"))
        (void)spec_need(c, v, "from", JSON_STRING);
    if (!spec_has(v, "to"))
        (void)spec_need(c, v, "to", JSON_STRING);
    edge.from = spec_node_ref(c, v, "from");
    struct span to = spec_want_text(c, v, "to", 0);
    edge.to = to.n ? spec_find(c, to) : NO_INDEX;
    if (to.n && edge.to == NO_INDEX) {
        size_t before = spec_enter(c, "to");
        SPEC_ISSUE(c, "UNKNOWN_NODE", "there is no node \"%.*s\"", SHOW(to));
        spec_leave(c, before);
    }
    struct jv when = spec_want(c, v, "when", JSON_OBJECT);
    if (jv_is(when, JSON_OBJECT)) {
        size_t before = spec_enter(c, "when");
        struct jw w = jw_on(&text);
        spec_condition(c, when, &w);
        spec_leave(c, before);
        struct buf canonical = { 0 };
        json_canonical(json_read(buf_view(&text), c->arena), JSON_JCS, &canonical);
        edge.when = arena_copy(c->arena, buf_view(&canonical));
        buf_done(&canonical);
        buf_done(&text);
    }
    if (edge.from != NO_INDEX && edge.to != NO_INDEX)
        spec_edge_add(c, edge);
}

void spec_v1_edges(struct spec_compile *c, struct jv spec)
{
    struct jv edges = spec_want(c, spec, "edges", JSON_ARRAY);
    size_t before = spec_enter(c, "edges"), i = 0;
    for (struct jv_iter it = jv_iter(edges); jv_step(&it); i++) {
        size_t at = spec_enter_index(c, i);
        if (jv_is(it.value, JSON_OBJECT))
            read_edge(c, it.value);
        else
            SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        spec_leave(c, at);
    }
    spec_leave(c, before);
}
