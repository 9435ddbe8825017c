/* SPDX-License-Identifier: Apache-2.0 */
/* spec.c - compiles a workflow specification: the order of things, and what every part of it reads with (spec.h).
 *
 * First the names of all nodes, then nodes one by one (which finds edges), then the graph, then what pointers lead to. The
 * plan is written on the way and made canonical at the end. */
#include "base/utf8.h"
#include "workflow/spec_inner.h"
#include <stdlib.h>

enum {
    SHOWN = 80,
    NAME_SHOWN = 64,
    NODES_READ_MAX = 20 * SPEC_NODES_MAX /* with more, their number is all that is said */
};

const char *const spec_type_names[SPEC_TYPE_COUNT] = {
    [SPEC_NO_TYPE] = "",
    [SPEC_LLM] = "llm.responses",
    [SPEC_ROUTE] = "route.switch",
    [SPEC_JOIN_ALL] = "join.all",
    [SPEC_JOIN_ANY] = "join.any",
    [SPEC_JOIN_COLLECT] = "join.collect",
    [SPEC_TRANSFORM] = "transform.json",
    [SPEC_FANOUT] = "map.fanout",
};

/* ---- issues ---- */

struct span spec_show(struct span text)
{
    return text.n <= SHOWN ? text : span_make(text.p, utf8_cut(text.p, SHOWN));
}

static int by_path(const void *left, const void *right)
{
    const struct issue *a = left, *b = right;
    int c = span_cmp(a->pointer, b->pointer);
    if (c == 0)
        c = span_cmp(a->code, b->code);
    return c ? c : span_cmp(a->message, b->message);
}

/* When not all were kept, the last one makes room for a line that says so. */
void spec_sort_issues(struct issues *issues)
{
    size_t kept = issues->count < ISSUES_MAX ? issues->count : ISSUES_MAX;
    if (issues->count > ISSUES_MAX) {
        struct issue *last = &issues->items[ISSUES_MAX - 1];
        *last = (struct issue){ .pointer = SPAN("$"), .code = SPAN("TOO_MANY_ISSUES") };
        last->message = arena_printf(issues->arena, "there are %zu issues; %d of them are listed", issues->count,
                                     ISSUES_MAX - 1);
    }
    if (kept > 1)
        qsort(issues->items, kept, sizeof *issues->items, by_path);
}

void spec_issues_to_json(const struct issues *issues, struct jw *w)
{
    size_t kept = issues->count < ISSUES_MAX ? issues->count : ISSUES_MAX;
    jw_arr(w);
    for (size_t i = 0; i < kept; i++) {
        jw_obj(w);
        jw_key(w, "code");
        jw_str(w, issues->items[i].code);
        jw_key(w, "path");
        jw_str(w, issues->items[i].pointer);
        jw_key(w, "message");
        jw_str(w, issues->items[i].message);
        jw_end(w);
    }
    jw_arr_end(w);
}

struct span spec_path_pointer(struct span path, struct arena *arena)
{
    struct buf out = { 0 };
    struct span name;
    int64_t index;
    if (path.n > 0 && path.p[0] == '$')
        path = span_make(path.p + 1, path.n - 1);
    while (spec_path_next(&path, &name, &index))
        if (index >= 0)
            buf_printf(&out, "/%lld", (long long)index);
        else
            json_pointer_push(&out, name);
    struct span ret = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return ret;
}

/* ---- where we are ---- */

size_t spec_enter(struct spec_compile *c, const char *name)
{
    size_t before = c->at.len;
    buf_byte(&c->at, '.');
    buf_span(&c->at, span_of(name));
    return before;
}

/* Long names are cut: a path is for people. */
size_t spec_enter_span(struct spec_compile *c, struct span name)
{
    size_t before = c->at.len;
    bool plain = spec_ident(name) && name.n <= NAME_SHOWN;
    if (name.n > NAME_SHOWN)
        name.n = utf8_cut(name.p, NAME_SHOWN);
    buf_span(&c->at, plain ? SPAN(".") : SPAN("['"));
    buf_span(&c->at, name);
    buf_span(&c->at, plain ? SPAN("") : SPAN("']"));
    return before;
}

size_t spec_enter_index(struct spec_compile *c, size_t index)
{
    size_t before = c->at.len;
    buf_printf(&c->at, "[%zu]", index);
    return before;
}

/* ---- plain members ---- */

struct jv spec_get(struct jv object, const char *name)
{
    struct jv v = jv_is(object, JSON_OBJECT) ? jv_get(object, name) : (struct jv){ 0 };
    return jv_is(v, JSON_NULL) ? (struct jv){ 0 } : v;
}

bool spec_has(struct jv object, const char *name)
{
    return !jv_is(spec_get(object, name), JSON_NONE);
}

static const char *kind_name(enum json_kind kind)
{
    static const char *const names[] = { [JSON_NONE] = "nothing",       [JSON_NULL] = "null",
                                         [JSON_FALSE] = "a boolean",    [JSON_TRUE] = "a boolean",
                                         [JSON_NUMBER] = "a number",    [JSON_STRING] = "a string",
                                         [JSON_ARRAY] = "an array",     [JSON_OBJECT] = "an object" };
    return names[kind];
}

static struct jv read_member(struct spec_compile *c, struct jv object, const char *name, enum json_kind kind, bool needed)
{
    struct jv v = spec_get(object, name);
    bool absent = jv_is(v, JSON_NONE);
    if (jv_is(v, kind) || (absent && !needed))
        return v;
    size_t before = spec_enter(c, name);
    if (absent)
        SPEC_ISSUE(c, "REQUIRED", "is required");
    else
        SPEC_ISSUE(c, "INVALID_TYPE", "must be %s", kind_name(kind));
    spec_leave(c, before);
    return (struct jv){ 0 };
}

struct jv spec_need(struct spec_compile *c, struct jv object, const char *name, enum json_kind kind)
{
    return read_member(c, object, name, kind, true);
}

struct jv spec_want(struct spec_compile *c, struct jv object, const char *name, enum json_kind kind)
{
    return read_member(c, object, name, kind, false);
}

size_t spec_characters(struct span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += !utf8_is_tail(text.p[i]);
    return n;
}

static struct span checked_text(struct spec_compile *c, struct jv v, const char *name, size_t max)
{
    struct span text = jv_string(v, c->arena);
    if (jv_is(v, JSON_NONE))
        return SPAN_NONE;
    if (text.n > 0 && (max == 0 || spec_characters(text) <= max))
        return text;
    size_t before = spec_enter(c, name);
    if (text.n == 0)
        SPEC_ISSUE(c, "INVALID_TYPE", "must not be empty");
    else
        SPEC_ISSUE(c, "INVALID_TYPE", "must have at most %zu characters", max);
    spec_leave(c, before);
    return SPAN_NONE;
}

struct span spec_need_text(struct spec_compile *c, struct jv object, const char *name, size_t max)
{
    return checked_text(c, spec_need(c, object, name, JSON_STRING), name, max);
}

struct span spec_want_text(struct spec_compile *c, struct jv object, const char *name, size_t max)
{
    return checked_text(c, spec_want(c, object, name, JSON_STRING), name, max);
}

bool spec_int(struct spec_compile *c, struct jv object, const char *name, int64_t low, int64_t high, int64_t *ret)
{
    struct jv v = spec_get(object, name);
    int64_t n;
    if (jv_is(v, JSON_NONE))
        return false;
    if (jv_i64(v, &n) && n >= low && n <= high) {
        *ret = n;
        return true;
    }
    size_t before = spec_enter(c, name);
    SPEC_ISSUE(c, "INVALID_TYPE", "must be an integer from %lld to %lld", (long long)low, (long long)high);
    spec_leave(c, before);
    return false;
}

bool spec_flag(struct spec_compile *c, struct jv object, const char *name)
{
    struct jv v = spec_get(object, name);
    if (jv_is(v, JSON_TRUE) || jv_is(v, JSON_FALSE) || jv_is(v, JSON_NONE))
        return jv_is(v, JSON_TRUE);
    size_t before = spec_enter(c, name);
    SPEC_ISSUE(c, "INVALID_TYPE", "must be true or false");
    spec_leave(c, before);
    return false;
}

struct span spec_pointer(struct spec_compile *c, struct jv object, const char *name)
{
    struct jv v = spec_want(c, object, name, JSON_STRING);
    struct span pointer = jv_string(v, c->arena);
    const char *wrong = NULL;
    if (jv_is(v, JSON_NONE))
        return SPAN_NONE;
    if (!json_pointer_valid(pointer))
        wrong = "is no JSON pointer (RFC 6901): \"\" or \"/name/0\", with ~1 for / and ~0 for ~";
    else if (pointer.n > SPEC_POINTER_MAX)
        wrong = "is longer than a pointer may be";
    if (!wrong)
        return pointer;
    size_t before = spec_enter(c, name);
    SPEC_ISSUE(c, "INVALID_POINTER", "%s", wrong);
    spec_leave(c, before);
    return SPAN_NONE;
}

void spec_only(struct spec_compile *c, struct jv object, bool closed, const char *const *known)
{
    bool refuse = closed && c->v1;
    if (!jv_is(object, JSON_OBJECT) || (!refuse && !c->warnings))
        return;
    for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
        struct span name = jv_string(it.name, c->arena);
        const char *const *k = known;
        while (*k && !span_is(name, *k))
            k++;
        if (*k)
            continue;
        size_t before = spec_enter_span(c, name);
        if (refuse)
            SPEC_ISSUE(c, "FIELD_NOT_ALLOWED", "is not known here");
        else
            SPEC_WARN(c, "UNKNOWN_FIELD", "is not known here and ignored");
        spec_leave(c, before);
    }
}

void spec_put_int(struct spec_compile *c, struct jv object, const char *name, int64_t low, int64_t high, int64_t def)
{
    int64_t n;
    if (!spec_int(c, object, name, low, high, &n) || n == def)
        return;
    jw_key(&c->w, name);
    jw_i64(&c->w, n);
}

/* ---- names ---- */

static int by_name(const void *left, const void *right)
{
    const struct spec_name *a = left, *b = right;
    int c = span_cmp(a->name, b->name);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static void read_id(struct spec_compile *c, struct spec_node *node, uint32_t index)
{
    struct span id = jv_string(spec_need(c, node->v, "id", JSON_STRING), c->arena);
    if (!id.p)
        return;
    if (plan_name_valid(id)) {
        c->names[c->name_count++] = (struct spec_name){ id, index };
        node->id = id;
        return;
    }
    size_t before = spec_enter(c, "id");
    SPEC_ISSUE(c, "INVALID_NODE_ID", "\"%.*s\" is no node id: a letter a-z, then up to 63 of a-z, 0-9 and _", SHOW(id));
    spec_leave(c, before);
}

/* The first of several nodes with one name keeps it. */
static void sort_names(struct spec_compile *c)
{
    uint32_t kept = 0;
    if (c->name_count > 1)
        qsort(c->names, c->name_count, sizeof *c->names, by_name);
    for (uint32_t i = 0; i < c->name_count; i++) {
        struct spec_name name = c->names[i];
        if (kept == 0 || !span_eq(c->names[kept - 1].name, name.name)) {
            c->nodes[name.index].rank = kept;
            c->names[kept++] = name;
            continue;
        }
        size_t before = spec_enter(c, "nodes");
        (void)spec_enter_index(c, name.index);
        (void)spec_enter(c, "id");
        SPEC_ISSUE(c, "DUPLICATE_NODE_ID", "there is another node \"%.*s\"", SHOW(name.name));
        spec_leave(c, before);
        c->nodes[name.index].id = SPAN_NONE;
    }
    c->name_count = kept;
    for (uint32_t i = 0; i < c->node_count; i++)
        if (c->nodes[i].id.n == 0)
            c->nodes[i].rank = kept + i; /* the plan is lost, but the graph is still looked at */
}

/* false when there are so many that nothing else is said. */
static bool index_nodes(struct spec_compile *c, struct jv nodes)
{
    size_t before = spec_enter(c, "nodes");
    size_t count = jv_count(nodes);
    if (jv_is(nodes, JSON_ARRAY) && count == 0)
        SPEC_ISSUE(c, "REQUIRED", "there must be at least one node");
    if (count > SPEC_NODES_MAX)
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are %zu nodes; %d are allowed", count, SPEC_NODES_MAX);
    if (count > NODES_READ_MAX) {
        spec_leave(c, before);
        return false;
    }
    c->nodes = ARENA_ARRAY(c->arena, struct spec_node, count + 1);
    c->names = ARENA_ARRAY(c->arena, struct spec_name, count + 1);
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it); c->node_count++) {
        struct spec_node *node = &c->nodes[c->node_count];
        size_t at = spec_enter_index(c, c->node_count);
        node->v = it.value;
        if (!jv_is(it.value, JSON_OBJECT)) {
            SPEC_ISSUE(c, "INVALID_TYPE", "must be an object");
        } else {
            read_id(c, node, c->node_count);
            node->shape.type = c->v1 ? spec_v1_type(c, node->v, false) : spec_intent_type(c, node->v, false);
        }
        spec_leave(c, at);
    }
    spec_leave(c, before);
    sort_names(c);
    return true;
}

/* ---- the whole ---- */

static bool read_kind(struct spec_compile *c, struct jv spec)
{
    if (!jv_is(spec, JSON_OBJECT)) {
        SPEC_ISSUE(c, "INVALID_TYPE", "a workflow is an object");
        return false;
    }
    struct span kind = jv_string(spec_need(c, spec, "kind", JSON_STRING), c->arena);
    c->v1 = span_is(kind, "workflow.v1");
    if (kind.p && !c->v1 && !span_is(kind, "workflow")) {
        size_t before = spec_enter(c, "kind");
        SPEC_ISSUE(c, "UNSUPPORTED_KIND", "\"%.*s\" is not supported; use \"workflow\" or \"workflow.v1\"", SHOW(kind));
        spec_leave(c, before);
    }
    if (jv_deeper_than(spec, c->v1 ? SPEC_DEPTH_MAX : SPEC_INTENT_DEPTH_MAX))
        SPEC_ISSUE(c, "LIMIT_EXCEEDED", "it is nested deeper than %d levels",
                   c->v1 ? SPEC_DEPTH_MAX : SPEC_INTENT_DEPTH_MAX);
    return c->issues->count == 0;
}

static void put_execution(struct spec_compile *c, struct jv spec)
{
    static const char *const known[] = { "max_parallelism", "node_timeout_ms", "run_timeout_ms", NULL };
    struct jv execution = c->v1 ? spec_want(c, spec, "execution", JSON_OBJECT) : spec;
    size_t before = c->at.len, start = c->body.len;
    struct jw outer = c->w;

    jw_key(&c->w, "execution");
    jw_obj(&c->w);
    size_t empty = c->body.len;
    if (c->v1)
        (void)spec_enter(c, "execution");
    spec_put_int(c, execution, "max_parallelism", 1, INT32_MAX, 4);
    if (c->v1) {
        spec_put_int(c, execution, "node_timeout_ms", 1, PLAN_MS_MAX, 0);
        spec_put_int(c, execution, "run_timeout_ms", 1, PLAN_MS_MAX, 0);
        spec_only(c, execution, true, known);
    }
    spec_leave(c, before);
    if (c->body.len == empty) {
        c->body.len = start;
        c->w = outer;
        return;
    }
    jw_end(&c->w);
}

static void put_head(struct spec_compile *c, struct jv spec)
{
    static const char *const intent[] = { "kind", "name", "model", "max_parallelism", "inputs", "nodes", "outputs", NULL };
    static const char *const v1[] = { "kind",  "name",  "execution", "inputs",
                                      "nodes", "edges", "outputs",   "fragments", NULL };
    struct span name = jv_string(spec_want(c, spec, "name", JSON_STRING), c->arena);
    spec_only(c, spec, true, c->v1 ? v1 : intent);
    jw_key(&c->w, "kind");
    jw_cstr(&c->w, "workflow.v1");
    if (name.n > 0) {
        jw_key(&c->w, "name");
        jw_str(&c->w, name);
    }
    if (!c->v1)
        c->model = spec_want_text(c, spec, "model", SPEC_MODEL_MAX);
    struct jv fragments = c->v1 ? spec_want(c, spec, "fragments", JSON_OBJECT) : (struct jv){ 0 };
    if (jv_is(fragments, JSON_OBJECT) && jv_count(fragments) > 0) {
        size_t before = spec_enter(c, "fragments");
        SPEC_ISSUE(c, "UNSUPPORTED_NODE_TYPE", "fragments are not supported");
        spec_leave(c, before);
    }
    put_execution(c, spec);
}

static void put_nodes(struct spec_compile *c)
{
    size_t before = spec_enter(c, "nodes");
    jw_key(&c->w, "nodes");
    jw_arr(&c->w);
    for (uint32_t i = 0; i < c->node_count; i++) {
        if (!jv_is(c->nodes[i].v, JSON_OBJECT))
            continue;
        size_t at = spec_enter_index(c, i);
        (c->v1 ? spec_v1_node : spec_intent_node)(c, i);
        spec_leave(c, at);
    }
    jw_arr_end(&c->w);
    spec_leave(c, before);
}

static void compile_spec(struct spec_compile *c, struct jv spec)
{
    buf_byte(&c->at, '$');
    if (!read_kind(c, spec))
        return;
    if (!index_nodes(c, spec_need(c, spec, "nodes", JSON_ARRAY)))
        return;
    c->w = jw_on(&c->body);
    jw_obj(&c->w);
    put_head(c, spec);
    spec_read_inputs(c, spec_want(c, spec, "inputs", JSON_ARRAY));
    put_nodes(c);
    if (c->v1)
        spec_v1_edges(c, spec);
    spec_read_outputs(c, spec);
    spec_order(c);
    spec_put_edges(c);
    spec_check_uses(c);
    if (c->warnings)
        spec_lint_plan(c);
    jw_end(&c->w);
}

/* What compiling wrote is JSON by construction, so that only a mistake of ours could make it unreadable. */
static struct span canonical_of(struct buf *text, struct arena *scratch, struct arena *arena)
{
    struct buf canonical = { 0 };
    struct jv v = json_read(buf_view(text), scratch);
    assert(jv_is(v, JSON_OBJECT));
    json_canonical(v, JSON_JCS, &canonical);
    struct span ret = arena_copy(arena, buf_view(&canonical));
    buf_done(&canonical);
    return ret;
}

enum err spec_run(struct jv spec, struct arena *arena, struct span *ret_v1, struct issues *issues, struct issues *warnings)
{
    CLEANUP(arena_done) struct arena scratch = { 0 };
    struct spec_compile c = { .arena = &scratch, .issues = issues, .warnings = warnings };
    compile_spec(&c, spec);
    spec_sort_issues(issues);
    enum err err = issues->count ? ERR_VALIDATION : ERR_OK;
    if (err == ERR_OK)
        *ret_v1 = canonical_of(&c.body, &scratch, arena);
    free(c.edges);
    free(c.uses);
    buf_done(&c.at);
    buf_done(&c.body);
    return err;
}

enum err spec_compile(struct jv spec, struct arena *arena, struct span *ret_v1, struct issues *issues)
{
    return spec_run(spec, arena, ret_v1, issues, NULL);
}
