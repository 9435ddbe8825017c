/* SPDX-License-Identifier: Apache-2.0 */
/* spec_graph.c - a plan as a drawing: text for Mermaid and for Graphviz.
 *
 * Ids of nodes get a prefix, because "end" and "graph" are words of both languages; everything an author wrote goes into
 * quoted labels. */
#include "base/utf8.h"
#include "workflow/spec_inner.h"

enum { LABEL_MAX = 80 };

struct drawing {
    struct arena arena;
    struct buf *out;
    bool dot;
};

/* Inside quotes of a label. Mermaid has entities and no escapes; control characters become blanks in both. */
static void put_label(struct drawing *d, struct span text)
{
    size_t n = text.n <= LABEL_MAX ? text.n : utf8_cut(text.p, LABEL_MAX);
    for (size_t i = 0; i < n; i++) {
        char c = text.p[i];
        if ((unsigned char)c < 0x20 || c == 0x7f)
            buf_byte(d->out, ' ');
        else if (d->dot && (c == '"' || c == '\\'))
            buf_printf(d->out, "\\%c", c);
        else if (!d->dot && c && strchr("\"#<>&`\\", c))
            buf_printf(d->out, "#%d;", c);
        else
            buf_byte(d->out, c);
    }
    if (n < text.n)
        BUF_LIT(d->out, "...");
}

static void put_break(struct drawing *d)
{
    buf_span(d->out, d->dot ? SPAN("\\n") : SPAN("<br/>"));
}

static struct span text_of(struct drawing *d, struct jv object, const char *name)
{
    return jv_string(spec_get(object, name), &d->arena);
}

/* ---- nodes ---- */

static enum spec_type type_of(struct span name)
{
    for (unsigned i = SPEC_LLM; i < SPEC_TYPE_COUNT; i++)
        if (span_is(name, spec_type_names[i]))
            return (enum spec_type)i;
    return SPEC_NO_TYPE;
}

static const struct {
    const char *open, *close; /* Mermaid */
    const char *shape;        /* Graphviz */
} shapes[SPEC_TYPE_COUNT] = {
    [SPEC_NO_TYPE] = { "[", "]", "box" },
    [SPEC_LLM] = { "[", "]", "box" },
    [SPEC_ROUTE] = { "{", "}", "diamond" },
    [SPEC_JOIN_ALL] = { "{{", "}}", "hexagon" },
    [SPEC_JOIN_ANY] = { "{{", "}}", "hexagon" },
    [SPEC_JOIN_COLLECT] = { "{{", "}}", "hexagon" },
    [SPEC_TRANSFORM] = { "[/", "/]", "parallelogram" },
    [SPEC_FANOUT] = { "[[", "]]", "box3d" },
};

static void put_model(struct drawing *d, struct jv input)
{
    struct span model = text_of(d, spec_get(input, "request"), "model");
    struct span mode = text_of(d, spec_get(input, "tool_execution"), "mode");
    if (model.n) {
        BUF_LIT(d->out, ", ");
        put_label(d, model);
    }
    if (mode.n) {
        BUF_LIT(d->out, ", tools: ");
        put_label(d, mode);
    }
}

static void put_text(struct drawing *d, struct jv node)
{
    struct jv input = spec_get(node, "input"), sub = spec_get(input, "subnode");
    put_label(d, text_of(d, node, "id"));
    put_break(d);
    put_label(d, text_of(d, node, "type"));
    put_model(d, input);
    if (!jv_is(sub, JSON_OBJECT))
        return;
    put_break(d);
    BUF_LIT(d->out, "each: ");
    put_label(d, text_of(d, sub, "id"));
    BUF_LIT(d->out, ", ");
    put_label(d, text_of(d, sub, "type"));
    put_model(d, spec_get(sub, "input"));
}

static void put_node(struct drawing *d, struct jv node)
{
    struct span id = text_of(d, node, "id");
    enum spec_type type = type_of(text_of(d, node, "type"));
    buf_printf(d->out, "  n_%.*s%s\"", SPAN_ARG(id), d->dot ? " [label=" : shapes[type].open);
    put_text(d, node);
    if (d->dot)
        buf_printf(d->out, "\", shape=%s];\n", shapes[type].shape);
    else
        buf_printf(d->out, "\"%s\n", shapes[type].close);
}

/* ---- edges ---- */

static void put_condition(struct drawing *d, struct jv when)
{
    struct span path = text_of(d, when, "path"), op = text_of(d, when, "op");
    struct jv value = jv_get(when, "value");
    put_label(d, span_is(text_of(d, when, "source"), "node_status") ? SPAN("status") : path.n ? path : SPAN("$"));
    BUF_LIT(d->out, " ");
    put_label(d, span_is(op, "equals") ? SPAN("=") : span_is(op, "matches") ? SPAN("~") : op);
    if (jv_is(value, JSON_NONE))
        return;
    BUF_LIT(d->out, " ");
    put_label(d, jv_raw(value));
}

static void put_edge(struct drawing *d, struct jv edge)
{
    struct jv when = spec_get(edge, "when");
    bool plain = jv_is(when, JSON_NONE);
    struct span from = text_of(d, edge, "from"), to = text_of(d, edge, "to");
    const char *arrow = d->dot ? " -> " : plain ? " --> " : " -.->|\"";
    buf_printf(d->out, "  n_%.*s%s", SPAN_ARG(from), arrow);
    if (d->dot)
        buf_printf(d->out, "n_%.*s%s", SPAN_ARG(to), plain ? "" : " [style=dashed, label=\"");
    if (!plain)
        put_condition(d, when);
    if (d->dot)
        buf_span(d->out, plain ? SPAN(";\n") : SPAN("\"];\n"));
    else
        buf_printf(d->out, "%sn_%.*s\n", plain ? "" : "\"| ", SPAN_ARG(to));
}

static void put_output(struct drawing *d, struct jv output, size_t index)
{
    struct span from = text_of(d, output, "from"), pointer = text_of(d, output, "pointer");
    buf_printf(d->out, "  out_%zu%s\"", index, d->dot ? " [label=" : "([");
    put_label(d, text_of(d, output, "name"));
    if (pointer.n) {
        put_break(d);
        put_label(d, pointer);
    }
    buf_span(d->out, d->dot ? SPAN("\", shape=oval];\n") : SPAN("\"])\n"));
    buf_printf(d->out, "  n_%.*s%sout_%zu%s\n", SPAN_ARG(from), d->dot ? " -> " : " --> ", index, d->dot ? ";" : "");
}

enum err spec_graph(struct jv v1, enum spec_graph_form form, struct buf *out)
{
    struct drawing d = { .out = out, .dot = form == SPEC_DOT };
    struct jv nodes = spec_get(v1, "nodes");
    struct span name;
    size_t i = 0;
    if (!jv_str_eq(spec_get(v1, "kind"), "workflow.v1") || !jv_is(nodes, JSON_ARRAY))
        return ERR_CORRUPT;
    name = text_of(&d, v1, "name");
    if (d.dot) {
        BUF_LIT(out, "digraph \"");
        put_label(&d, name.n ? name : SPAN("workflow"));
        BUF_LIT(out, "\" {\n  rankdir=TB;\n  node [fontname=\"sans-serif\"];\n");
    } else {
        BUF_LIT(out, "flowchart TD\n");
    }
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it);)
        put_node(&d, it.value);
    for (struct jv_iter it = jv_iter(spec_get(v1, "edges")); jv_step(&it);)
        put_edge(&d, it.value);
    for (struct jv_iter it = jv_iter(spec_get(v1, "outputs")); jv_step(&it); i++)
        put_output(&d, it.value, i);
    if (d.dot)
        BUF_LIT(out, "}\n");
    arena_done(&d.arena);
    return ERR_OK;
}
