/* SPDX-License-Identifier: Apache-2.0 */
/* spec.h - workflow specifications: from what an author wrote to the plan that runs, or all that is wrong with it.
 *
 * Two formats come in (workflow-runs.md 2): the intent format (kind "workflow") and the compiled one (kind "workflow.v1").
 * One comes out: canonical workflow.v1. Compiling a plan gives the same plan again. Everything here is a function of its
 * arguments; time and memory are bounded by the size of the text (near-linear), and by SPEC_DEPTH_MAX in depth.
 *
 * Issues of this module carry a JSONPath text ("$.nodes[2].user") in `struct issue.pointer`, not a JSON pointer, and the
 * codes of docs/reference/workflow-format.md. They are sorted by path, then code, in byte order. At most ISSUES_MAX are kept;
 * when there were more, the first one is TOO_MANY_ISSUES at "$" and says how many. spec_issues_to_json writes them in the
 * form of workflow-runs.md 1.7. */
#pragma once
#include "base/json.h"
#include "workflow/plan.h"

enum {
    SPEC_NODES_MAX = PLAN_NODES_MAX, /* one machine runs all plans, so its limits are theirs */
    SPEC_EDGES_MAX = PLAN_EDGES_MAX, /* depends_on and inferred ones, each pair once; conditional ones each */
    SPEC_BINDINGS_MAX = 10000,       /* placeholders or bindings of one node */
    SPEC_NAMES_MAX = 10000,          /* inputs; outputs */
    SPEC_DEPTH_MAX = 64,             /* containers within containers, of a workflow.v1 */
    SPEC_INTENT_DEPTH_MAX = 60,      /* of an intent spec: compiling puts up to four around what it holds */
    SPEC_POINTER_MAX = 2048,         /* bytes of a JSON pointer or a condition's path */
    SPEC_MODEL_MAX = 128,            /* characters of a model's or a tool's name (workflow-runs.md 1.9) */
};

/* ---- compile, lint, draw ---- */

/* ERR_OK: *ret_v1 is the canonical JSON (RFC 8785) of the plan, in `arena`; its SHA-256 is the plan_hash. ERR_VALIDATION:
 * all that is wrong is in `issues`, sorted, and *ret_v1 is untouched. `issues` must be empty (its arena set). */
MUST_USE enum err spec_compile(struct jv spec, struct arena *arena, struct span *ret_v1, struct issues *issues);
/* Advice that is no reason to refuse: strictness of schemas, members that are ignored, inputs and nodes nobody uses, text
 * that only looks like a placeholder, names that some clients cannot read. A spec with issues may be linted too. */
void spec_lint(struct jv spec, struct issues *warnings);
/* [{"code","path","message"}…] */
void spec_issues_to_json(const struct issues *issues, struct jw *w);

enum spec_graph_form { SPEC_MERMAID, SPEC_DOT };
/* Draws a plan that spec_compile made. ERR_CORRUPT when it is none; `out` then holds rubbish behind its old length. */
MUST_USE enum err spec_graph(struct jv v1, enum spec_graph_form form, struct buf *out);

/* The JSON pointer of a path in an issue ("$.nodes[2].user": "/nodes/2/user"), for surfaces that speak of pointers. */
struct span spec_path_pointer(struct span path, struct arena *arena);

/* ---- when a run starts (workflow-runs.md 2.3, 3.8); `v1` is a plan that spec_compile made ---- */

/* The run's inputs: what was sent, else defaults. Declared inputs are checked against their type, and what the plan needs
 * must be there: INPUT_REQUIRED, INPUT_TYPE at $.input.NAME. `input` is an object or absent. On success *ret is canonical
 * JSON in `arena`, an object that holds what was sent and used or declared. */
MUST_USE enum err spec_inputs(struct jv v1, struct jv input, struct arena *arena, struct span *ret, struct issues *issues);
/* Do the overrides name nodes that have a model, and does every model node get one? `model_override` is a string or absent,
 * `model_overrides` an object {"nodes"?, "fanout_subnodes"?} or absent. INVALID_TYPE, UNKNOWN_NODE, FIELD_NOT_ALLOWED,
 * MODEL_REQUIRED. Overrides are no part of the plan. */
MUST_USE enum err spec_models(struct jv v1, struct jv model_override, struct jv model_overrides, struct issues *issues);
/* The plan with `stream` set on every model node; a plan of its own, with its own hash. STREAM_TOOL_MODE where tools run in
 * the client or the agentic loop. */
MUST_USE enum err spec_stream(struct jv v1, struct arena *arena, struct span *ret_v1, struct issues *issues);
/* UNKNOWN_TOOL for each function that the server would have to run and that `known` does not know. user_ask is always handed
 * out and never asked for. */
MUST_USE enum err spec_tools(struct jv v1, bool (*known)(void *ctx, struct span name), void *ctx, struct issues *issues);

/* ---- what the machine reads the same way ---- */

#define SPEC_TEXT_POINTER "/output/0/content/0/text" /* the text of a model node's output */

/* The next {{name}} at or behind *at: the name with its "input:" if it has one, and *at behind the braces. The marker begins
 * two bytes before the name. Text that only looks like one is skipped. */
bool spec_marker_next(struct span text, size_t *at, struct span *ret_name);
/* One step of a condition's path behind its "$": a member name (*ret_index -1) or an index. false at the end, and when the
 * rest is no path; then *path is what was not read, so an empty one means the end. */
bool spec_path_next(struct span *path, struct span *ret_name, int64_t *ret_index);
