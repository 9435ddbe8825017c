/* SPDX-License-Identifier: Apache-2.0 */
/* spec_inner.h - what the files of the specification compiler share with each other and with nobody else.
 *
 * Both formats are read into the same arrays and written while they are read: a node's plan text goes to `body` as soon as the
 * node was looked at. Whatever is found wrong goes to `issues` and reading goes on; the text is thrown away in the end if there
 * was any. Names of nodes are known before the first node is read, because a placeholder means what its name is. */
#pragma once
#include "workflow/spec.h"

enum spec_type {
    SPEC_NO_TYPE,
    SPEC_LLM,
    SPEC_ROUTE,
    SPEC_JOIN_ALL,
    SPEC_JOIN_ANY,
    SPEC_JOIN_COLLECT,
    SPEC_TRANSFORM,
    SPEC_FANOUT,
    SPEC_TYPE_COUNT
};
extern const char *const spec_type_names[SPEC_TYPE_COUNT]; /* in workflow.v1 */

/* What is known of an output before it exists: enough to tell that a pointer leads nowhere. */
struct spec_shape {
    enum spec_type type;
    bool           structured; /* a model that answers in JSON: its output has "structured" */
    struct jv      object;     /* of a transform that makes an object: its members */
    uint32_t       members;    /* of `object` */
};

struct spec_node {
    struct jv         v;    /* as written */
    struct span       id;   /* empty when it has none that is valid and first of its name */
    struct spec_shape shape, sub; /* sub: of a fan-out's subnode */
    uint32_t          seen; /* while another node is read: 1 + its index when the edge to it is there already */
    uint32_t          rank; /* place among the ids in byte order */
    bool              used; /* something depends on it or an output shows it */
};

struct spec_name {
    struct span name;
    uint32_t    index;
};

struct spec_edge {
    uint32_t    from, to;
    bool        inferred; /* from a reference; an explicit edge of the pair replaces it */
    struct span when;     /* canonical JSON, or empty */
};

/* A pointer into an output or an input, looked at when all is known. */
struct spec_use {
    uint32_t    node;  /* or NO_INDEX */
    struct span input; /* when node is NO_INDEX */
    struct span pointer, path;
};

struct spec_input {
    struct span name;
    struct span type; /* empty: any */
    bool        used;
    uint32_t    index; /* as declared */
};

struct spec_compile {
    struct arena     *arena; /* of the compile only */
    struct issues    *issues;
    struct issues    *warnings; /* NULL unless linting */
    bool              v1;
    struct buf        at;       /* JSONPath of what is looked at */
    struct span       model;    /* the spec's default */
    struct spec_node *nodes;
    uint32_t          node_count;
    struct spec_name *names; /* sorted */
    uint32_t          name_count;
    struct spec_edge *edges;
    uint32_t          edge_count, edge_cap;
    struct spec_use  *uses;
    uint32_t          use_count, use_cap;
    struct spec_input *inputs; /* sorted by name */
    uint32_t          input_count;
    uint64_t          shape_work, target_work, pattern_work; /* values looked through so far, for pointers */
    struct buf        body;       /* the plan as it is written */
    struct jw         w;          /* on body */
};

#define SPEC_ISSUE(c, code, ...) issue_add((c)->issues, buf_view(&(c)->at), code, __VA_ARGS__)
#define SPEC_WARN(c, code, ...)                                                                                        \
    do {                                                                                                               \
        if ((c)->warnings)                                                                                             \
            issue_add((c)->warnings, buf_view(&(c)->at), code, __VA_ARGS__);                                           \
    } while (0)
/* For "%.*s": what an author wrote, as far as a message has room for it. */
struct span spec_show(struct span text);
#define SHOW(s) SPAN_ARG(spec_show(s))

/* ---- spec.c: the whole; where we are; plain members. null counts as absent everywhere but in defaults and conditions ---- */
/* Compiles; *ret_v1 is in `arena`. Warnings may be NULL. */
enum err spec_run(struct jv spec, struct arena *arena, struct span *ret_v1, struct issues *issues, struct issues *warnings);
void     spec_sort_issues(struct issues *issues);
size_t   spec_enter(struct spec_compile *c, const char *name);
size_t   spec_enter_span(struct spec_compile *c, struct span name);
size_t   spec_enter_index(struct spec_compile *c, size_t index);
static inline void spec_leave(struct spec_compile *c, size_t before)
{
    c->at.len = before;
}
struct jv spec_get(struct jv object, const char *name);
bool      spec_has(struct jv object, const char *name);
/* REQUIRED or INVALID_TYPE when it is not there as it should be; absent then. */
struct jv spec_need(struct spec_compile *c, struct jv object, const char *name, enum json_kind kind);
/* The same, but it may be missing. */
struct jv spec_want(struct spec_compile *c, struct jv object, const char *name, enum json_kind kind);
/* A string of 1..max characters (0: any number), or empty. */
struct span spec_need_text(struct spec_compile *c, struct jv object, const char *name, size_t max);
struct span spec_want_text(struct spec_compile *c, struct jv object, const char *name, size_t max);
size_t spec_characters(struct span text);
/* true when it is there and right. */
bool spec_int(struct spec_compile *c, struct jv object, const char *name, int64_t low, int64_t high, int64_t *ret);
bool spec_flag(struct spec_compile *c, struct jv object, const char *name);
/* Empty when absent, wrong, or the whole. */
struct span spec_pointer(struct spec_compile *c, struct jv object, const char *name);
/* Members beyond `known` (ends with NULL): refused in a closed object of workflow.v1, else a warning. */
void spec_only(struct spec_compile *c, struct jv object, bool closed, const char *const *known);
/* Writes an integer member unless it has its default. */
void spec_put_int(struct spec_compile *c, struct jv object, const char *name, int64_t low, int64_t high, int64_t def);

/* ---- spec_template.c: references ---- */
uint32_t spec_find(const struct spec_compile *c, struct span name); /* or NO_INDEX */
struct spec_input *spec_find_input(const struct spec_compile *c, struct span name);
/* The node that member `name` of `object` names; UNKNOWN_NODE otherwise. NO_INDEX also when the member is absent. */
uint32_t spec_node_ref(struct spec_compile *c, struct jv object, const char *name);
void     spec_edge_add(struct spec_compile *c, struct spec_edge edge);
/* `to` needs the output of `from`. */
void spec_depend(struct spec_compile *c, uint32_t from, uint32_t to);
void spec_use_node(struct spec_compile *c, uint32_t node, struct span pointer);
void spec_use_input(struct spec_compile *c, struct span name, struct span pointer);
/* POINTER_NOT_FOUND for each use that leads nowhere for certain. */
void spec_check_uses(struct spec_compile *c);
bool spec_ident(struct span name); /* a letter or _, then letters, digits, _ */
bool spec_marker_name(struct span name); /* what may stand between {{ and }} */

/* Placeholders found in the texts of one request. */
struct spec_marks {
    struct span *names; /* sorted, each once, after spec_marks_sort */
    size_t       count, cap;
};
/* `allowed`: the only name that may stand there, or empty for any (PLACEHOLDER_NOT_ALLOWED). */
void spec_scan(struct spec_compile *c, struct span text, struct span allowed, struct spec_marks *marks);
void spec_marks_sort(struct spec_marks *marks);
bool spec_marks_have(const struct spec_marks *marks, struct span name);

struct spec_binding {
    struct span to, to_placeholder;        /* one of them */
    struct span from, from_input, pointer; /* from: a node's id; none of both: the item of a fan-out, at pointer */
    bool        text;                      /* json_string */
    struct span path;                      /* where it stands, for issues; may be empty */
};
/* Sorts, refuses two for one target (DUPLICATE_BINDING), writes the member unless there is none. */
void spec_put_bindings(struct spec_compile *c, const char *member, struct spec_binding *bindings, size_t count);

/* ---- spec_llm.c: requests to models ---- */
/* Writes member "request" from an intent node. `allowed` as for spec_scan. */
void spec_intent_request(struct spec_compile *c, struct jv node, struct span allowed, struct spec_marks *marks);
/* Writes member "request" from the one of a workflow.v1 node. `input_bound`: a binding fills /input. */
void spec_v1_request(struct spec_compile *c, struct jv request, bool input_bound, struct spec_marks *marks);
/* Writes stream, tool_execution and retry; in_fanout: CLIENT_TOOLS_IN_FANOUT. */
void spec_llm_common(struct spec_compile *c, struct jv object, bool in_fanout);

/* ---- parts that both formats have: spec_parts.c ---- */
void spec_read_inputs(struct spec_compile *c, struct jv inputs);
void spec_read_outputs(struct spec_compile *c, struct jv spec);
/* Appends a condition to `w`. */
void spec_condition(struct spec_compile *c, struct jv when, struct jw *w);
void spec_put_predicate(struct spec_compile *c, struct jv object);
/* Writes object or merge of a transform. `node` depends on what they name; in a fan-out (`item`) only "item" is there. */
void spec_transform(struct spec_compile *c, struct jv object, uint32_t node, bool item);
/* Is the value of that type of an input? */
bool spec_type_fits(struct span type, struct jv value);
/* The shape of what such a node makes. */
struct spec_shape spec_shape_of(enum spec_type type, struct jv fields, struct jv request);

/* ---- the two formats ---- */
void spec_intent_node(struct spec_compile *c, uint32_t index);
enum spec_type spec_intent_type(struct spec_compile *c, struct jv node, bool sub); /* UNSUPPORTED_NODE_TYPE at .type */
void spec_v1_node(struct spec_compile *c, uint32_t index);
enum spec_type spec_v1_type(struct spec_compile *c, struct jv node, bool sub);
void spec_v1_edges(struct spec_compile *c, struct jv spec);

/* ---- spec_order.c ---- */
/* Sorts the edges, drops what is doubled, looks for a cycle. */
void spec_order(struct spec_compile *c);
bool spec_has_edge(const struct spec_compile *c, uint32_t from, uint32_t to); /* after spec_order */
void spec_put_edges(struct spec_compile *c);

/* ---- spec_lint.c: called while compiling when there are warnings ---- */
void spec_lint_format(struct spec_compile *c, struct jv format); /* at the output_format */
void spec_lint_plan(struct spec_compile *c);
void spec_lint_tool(struct spec_compile *c, struct span name);
