/* SPDX-License-Identifier: Apache-2.0 */
/* spec_template.c - what a specification refers to: nodes, inputs, placeholders, and pointers into outputs.
 *
 * A pointer is refused only when it leads nowhere for certain: outputs of joins have the names of their sources, a fan-out has
 * "results", a transform the members it makes, a model's answer those of a response (workflow-runs.md 3.5, 5.6). What a model
 * or a merge puts inside cannot be known. */
#include "workflow/spec_inner.h"
#include <stdlib.h>

enum {
    HOPS_MAX = 32,           /* a pointer through joins and transforms; beyond it nothing is said */
    SHAPE_WORK_MAX = 4000000 /* members and bytes looked through in one compile; the same for the same spec */
};

/* ---- names ---- */

uint32_t spec_find(const struct spec_compile *c, struct span name)
{
    uint32_t low = 0, high = c->name_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = span_cmp(c->names[mid].name, name);
        if (order == 0)
            return c->names[mid].index;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NO_INDEX;
}

struct spec_input *spec_find_input(const struct spec_compile *c, struct span name)
{
    uint32_t low = 0, high = c->input_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = span_cmp(c->inputs[mid].name, name);
        if (order == 0)
            return &c->inputs[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

uint32_t spec_node_ref(struct spec_compile *c, struct jv object, const char *name)
{
    struct span id = spec_want_text(c, object, name, 0);
    uint32_t node = id.n ? spec_find(c, id) : NO_INDEX;
    if (node != NO_INDEX) {
        c->nodes[node].used = true;
    } else if (id.n) {
        size_t before = spec_enter(c, name);
        SPEC_ISSUE(c, "UNKNOWN_NODE", "there is no node \"%.*s\"", SHOW(id));
        spec_leave(c, before);
    }
    return node;
}

/* ---- edges ---- */

void spec_edge_add(struct spec_compile *c, struct spec_edge edge)
{
    if (c->edge_count == c->edge_cap) {
        c->edge_cap = c->edge_cap ? c->edge_cap * 2 : 64;
        c->edges = mem_grow(c->edges, c->edge_cap * sizeof *c->edges);
    }
    c->edges[c->edge_count++] = edge;
}

/* The nodes are read one after the other, so a mark on the source is enough to see a repetition. */
void spec_depend(struct spec_compile *c, uint32_t from, uint32_t to)
{
    if (from == NO_INDEX || c->nodes[from].seen == to + 1)
        return;
    c->nodes[from].seen = to + 1;
    c->nodes[from].used = true;
    spec_edge_add(c, (struct spec_edge){ .from = from, .to = to, .inferred = true });
}

/* ---- placeholders ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static size_t ident_length(struct span text)
{
    size_t n = 0;
    while (n < text.n && (is_letter(text.p[n]) || (n > 0 && text.p[n] >= '0' && text.p[n] <= '9')))
        n++;
    return n;
}

bool spec_ident(struct span name)
{
    return name.n > 0 && ident_length(name) == name.n;
}

static struct span without_prefix(struct span name)
{
    const struct span prefix = SPAN("input:");
    if (name.n > prefix.n && memcmp(name.p, prefix.p, prefix.n) == 0)
        return span_make(name.p + prefix.n, name.n - prefix.n);
    return name;
}

bool spec_marker_name(struct span name)
{
    return spec_ident(without_prefix(name));
}

bool spec_marker_next(struct span text, size_t *at, struct span *ret_name)
{
    const char *end = text.p + text.n;
    size_t i = *at;
    while (text.n - i >= 5) { /* {{a}} */
        const char *open = memchr(text.p + i, '{', text.n - i);
        if (!open || end - open < 5)
            break;
        i = (size_t)(open - text.p) + 1;
        if (open[1] != '{')
            continue;
        struct span rest = span_make(open + 2, (size_t)(end - open) - 2), name = without_prefix(rest);
        size_t prefix = rest.n - name.n, n = ident_length(name);
        if (n == 0 || name.n < n + 2 || name.p[n] != '}' || name.p[n + 1] != '}')
            continue;
        *ret_name = span_make(rest.p, prefix + n);
        *at = (size_t)(name.p + n + 2 - text.p);
        return true;
    }
    *at = text.n;
    return false;
}

/* "{{ name }}" is text, but hardly anybody wants it to be. */
static void warn_blanks(struct spec_compile *c, struct span text)
{
    for (size_t i = 0; i + 4 < text.n; i++) {
        if (memcmp(text.p + i, "{{ ", 3) != 0)
            continue;
        struct span rest = span_make(text.p + i + 3, text.n - i - 3);
        size_t n = ident_length(without_prefix(rest));
        if (n > 0) {
            SPEC_WARN(c, "PLACEHOLDER_LITERAL", "\"{{ \" with a blank begins no placeholder and stays text");
            return;
        }
    }
}

static int by_text(const void *left, const void *right)
{
    return span_cmp(*(const struct span *)left, *(const struct span *)right);
}

void spec_marks_sort(struct spec_marks *marks)
{
    size_t kept = 0;
    if (marks->count > 1)
        qsort(marks->names, marks->count, sizeof *marks->names, by_text);
    for (size_t i = 0; i < marks->count; i++)
        if (kept == 0 || !span_eq(marks->names[kept - 1], marks->names[i]))
            marks->names[kept++] = marks->names[i];
    marks->count = kept;
}

/* The same few names may come up a million times: what is doubled goes before the list grows. */
static bool make_room(struct spec_compile *c, struct spec_marks *marks)
{
    spec_marks_sort(marks);
    if (marks->count > SPEC_BINDINGS_MAX)
        return false;
    if (marks->count <= marks->cap / 2 && marks->cap > 0)
        return true;
    size_t cap = marks->cap ? marks->cap * 2 : 16;
    struct span *names = ARENA_ARRAY(c->arena, struct span, cap);
    if (marks->count)
        memcpy(names, marks->names, marks->count * sizeof *names);
    marks->names = names;
    marks->cap = cap;
    return true;
}

void spec_scan(struct spec_compile *c, struct span text, struct span allowed, struct spec_marks *marks)
{
    struct span name;
    for (size_t at = 0; spec_marker_next(text, &at, &name);) {
        if (allowed.n && !span_eq(name, allowed)) {
            SPEC_ISSUE(c, "PLACEHOLDER_NOT_ALLOWED", "{{%.*s}} cannot be used in a fan-out's subnode; only {{%.*s}} can",
                       SHOW(name), SHOW(allowed));
            continue;
        }
        if (marks->count > 0 && span_eq(marks->names[marks->count - 1], name))
            continue;
        if (marks->count == marks->cap && !make_room(c, marks)) {
            SPEC_ISSUE(c, "LIMIT_EXCEEDED", "there are more than %d placeholders", SPEC_BINDINGS_MAX);
            break;
        }
        marks->names[marks->count++] = name;
    }
    if (c->warnings)
        warn_blanks(c, text);
}

bool spec_marks_have(const struct spec_marks *marks, struct span name)
{
    return marks->count && bsearch(&name, marks->names, marks->count, sizeof *marks->names, by_text);
}

/* ---- bindings ---- */

static int by_target(const void *left, const void *right)
{
    const struct spec_binding *a = left, *b = right;
    int c = span_cmp(a->to, b->to);
    if (c == 0)
        c = span_cmp(a->to_placeholder, b->to_placeholder);
    return c;
}

static int by_binding(const void *left, const void *right)
{
    const struct spec_binding *a = left, *b = right;
    int c = by_target(a, b);
    if (c == 0)
        c = span_cmp(a->from, b->from);
    if (c == 0)
        c = span_cmp(a->from_input, b->from_input);
    if (c == 0)
        c = span_cmp(a->pointer, b->pointer);
    return c ? c : span_cmp(a->path, b->path);
}

static void put_member(struct jw *w, const char *name, struct span text)
{
    if (text.n == 0)
        return;
    jw_key(w, name);
    jw_str(w, text);
}

void spec_put_bindings(struct spec_compile *c, const char *member, struct spec_binding *bindings, size_t count)
{
    if (count == 0)
        return;
    qsort(bindings, count, sizeof *bindings, by_binding);
    jw_key(&c->w, member);
    jw_arr(&c->w);
    for (size_t i = 0; i < count; i++) {
        const struct spec_binding *b = &bindings[i];
        bool item = b->from.n == 0 && b->from_input.n == 0;
        if (i > 0 && b->to.n + b->to_placeholder.n > 0 && by_target(b - 1, b) == 0)
            issue_add(c->issues, b->path.n ? b->path : buf_view(&c->at), "DUPLICATE_BINDING",
                      "another binding has the same target");
        jw_obj(&c->w);
        put_member(&c->w, "from", b->from);
        put_member(&c->w, "from_input", b->from_input);
        put_member(&c->w, item ? "path" : "pointer", b->pointer);
        put_member(&c->w, "to", b->to);
        put_member(&c->w, "to_placeholder", b->to_placeholder);
        put_member(&c->w, "encoding", b->text ? SPAN("json_string") : SPAN("json"));
        jw_end(&c->w);
    }
    jw_arr_end(&c->w);
}

/* ---- pointers into nothing ---- */

static void use(struct spec_compile *c, struct spec_use u)
{
    if (u.pointer.n == 0)
        return;
    if (c->use_count == c->use_cap) {
        c->use_cap = c->use_cap ? c->use_cap * 2 : 64;
        c->uses = mem_grow(c->uses, c->use_cap * sizeof *c->uses);
    }
    u.path = arena_copy(c->arena, buf_view(&c->at));
    c->uses[c->use_count++] = u;
}

void spec_use_node(struct spec_compile *c, uint32_t node, struct span pointer)
{
    if (node != NO_INDEX)
        use(c, (struct spec_use){ .node = node, .pointer = pointer });
}

void spec_use_input(struct spec_compile *c, struct span name, struct span pointer)
{
    struct spec_input *input = spec_find_input(c, name);
    if (input)
        input->used = true;
    use(c, (struct spec_use){ .node = NO_INDEX, .input = name, .pointer = pointer });
}

/* Cuts the first token off a valid pointer; false when it is empty. */
static bool next_token(struct span *pointer, struct arena *arena, struct span *ret)
{
    if (pointer->n == 0)
        return false;
    const char *p = pointer->p + 1, *end = pointer->p + pointer->n;
    const char *slash = memchr(p, '/', (size_t)(end - p));
    struct span token = span_make(p, (size_t)((slash ? slash : end) - p));
    *pointer = span_make(p + token.n, (size_t)(end - p) - token.n);
    if (token.n && memchr(token.p, '~', token.n)) {
        char *text = arena_alloc(arena, token.n + 1);
        size_t n = 0;
        for (size_t i = 0; i < token.n; i++)
            text[n++] = token.p[i] == '~' ? (token.p[++i] == '1' ? '/' : '~') : token.p[i];
        token = span_make(text, n);
    }
    *ret = token;
    return true;
}

static bool is_index(struct span token)
{
    if (token.n == 0 || token.n > 9 || (token.n > 1 && token.p[0] == '0'))
        return false;
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] < '0' || token.p[i] > '9')
            return false;
    return true;
}

/* NULL, or what is wrong with a pointer into a model's answer. */
static const char *wrong_in_answer(struct spec_compile *c, bool structured, struct span token, struct span rest)
{
    static const char *const scalars[] = { "id", "model", "provider", "stop_reason" };
    struct span inner;
    for (size_t i = 0; i < ARRAY_LEN(scalars); i++)
        if (span_is(token, scalars[i]))
            return rest.n ? "a response's id, model, provider and stop_reason hold nothing" : NULL;
    if (span_is(token, "output") || span_is(token, "citations"))
        return next_token(&rest, c->arena, &inner) && !is_index(inner) ? "this is an array: an index must follow" : NULL;
    if (span_is(token, "structured"))
        return structured ? NULL : "only a model with an output_format of json_schema has \"structured\"";
    return span_is(token, "usage") ? NULL
                                   : "a model's output is a response: id, model, output, usage, …; its text is at "
                                     "/output/0/content/0/text";
}

struct place {
    uint32_t          node;
    struct spec_shape shape;
    bool              sub; /* the shape is that of the node's subnode */
    struct span       rest;
};

/* One token further. Returns NULL, or what is wrong; *ret_done when no more can be said. */
static const char *step(struct spec_compile *c, struct place *p, bool *ret_done)
{
    struct span token, from;
    uint32_t next = NO_INDEX;
    struct jv value;
    *ret_done = true;
    if (!next_token(&p->rest, c->arena, &token))
        return NULL;
    switch (p->shape.type) {
    case SPEC_LLM:
    case SPEC_ROUTE:
        return wrong_in_answer(c, p->shape.structured, token, p->rest);
    case SPEC_JOIN_ALL:
    case SPEC_JOIN_ANY:
    case SPEC_JOIN_COLLECT:
        next = spec_find(c, token);
        if (next == NO_INDEX || !spec_has_edge(c, next, p->node))
            return "the output of a join has the names of its sources, and this is none";
        break;
    case SPEC_FANOUT:
        if (!span_is(token, "results"))
            return "the output of a fan-out is {\"results\": […]}";
        if (!next_token(&p->rest, c->arena, &token))
            return NULL;
        if (!is_index(token))
            return "results is an array: an index must follow";
        *ret_done = false;
        p->sub = true;
        p->shape = c->nodes[p->node].sub;
        return NULL;
    case SPEC_TRANSFORM:
        c->shape_work += p->shape.members + p->rest.n;
        if (!jv_is(p->shape.object, JSON_OBJECT) || c->shape_work > SHAPE_WORK_MAX)
            return NULL;
        value = jv_get_span(p->shape.object, token);
        if (jv_is(value, JSON_NONE))
            return "the transform makes no such member";
        from = jv_string(spec_get(value, "from"), c->arena);
        next = p->sub ? NO_INDEX : spec_find(c, from);
        if (next != NO_INDEX) {
            struct span pointer = jv_string(spec_get(value, "pointer"), c->arena);
            if (pointer.n > SPEC_POINTER_MAX || !json_pointer_valid(pointer))
                return NULL;
            p->rest = arena_printf(c->arena, "%.*s%.*s", SPAN_ARG(pointer), SPAN_ARG(p->rest));
        }
        break;
    default:
        return NULL;
    }
    if (next == NO_INDEX)
        return NULL;
    *ret_done = false;
    *p = (struct place){ .node = next, .shape = c->nodes[next].shape, .rest = p->rest };
    return NULL;
}

static const char *wrong_in_node(struct spec_compile *c, const struct spec_use *u)
{
    struct place place = { .node = u->node, .shape = c->nodes[u->node].shape, .rest = u->pointer };
    bool done = false;
    const char *wrong = NULL;
    for (unsigned hops = 0; !wrong && !done && hops < HOPS_MAX; hops++)
        wrong = step(c, &place, &done);
    return wrong;
}

static const char *wrong_in_input(struct spec_compile *c, const struct spec_use *u)
{
    static const char *const scalars[] = { "string", "number", "boolean", "null" };
    const struct spec_input *input = spec_find_input(c, u->input);
    for (size_t i = 0; input && i < ARRAY_LEN(scalars); i++)
        if (span_is(input->type, scalars[i]))
            return "the input is declared as a value that holds nothing";
    return NULL;
}

void spec_check_uses(struct spec_compile *c)
{
    for (uint32_t i = 0; i < c->use_count; i++) {
        const struct spec_use *u = &c->uses[i];
        const char *wrong = u->node == NO_INDEX ? wrong_in_input(c, u) : wrong_in_node(c, u);
        if (wrong)
            issue_add(c->issues, u->path, "POINTER_NOT_FOUND", "\"%.*s\" leads nowhere: %s", SHOW(u->pointer), wrong);
    }
}
