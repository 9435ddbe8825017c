/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - the plan of the graph machine: its canonical JSON and the arrays made of it.
 *
 *     {"kind": "graph", "format": 1,
 *      "limits": {"max_attempts": 1, "max_steps": 10000, "run_timeout_ms"?, "human_timeout_ms"?, "budget"?},
 *      "start":  [NAME…],                            nodes that have a token when the run begins
 *      "nodes":  [{"id", "type", "version", "binding", "config"?, "machine"?, "max_tries"?, "backoff_ms"?}…],  by id
 *      "edges":  [{"from", "to", "when"?: {"pointer", "equals"}}…]}                    in byte order of (from, to)
 *
 * `type` is the name of a capability. A node that holds a machine (agent.loop, team.run) has the canonical JSON of that
 * machine's own plan in "machine"; its config is {"input"?}. "budget" is that of the definition, see budget.h. `when` is
 * tested on the output of `from`: the value at `pointer` equals `equals`. core.switch needs nothing else, because its
 * output is {"next": NAME}. The JSON is canonical (RFC 8785)
 * and its SHA-256 names the plan; optional members with default values are not written, so that equal definitions
 * have equal names.
 *
 * A workflow's plan is its canonical workflow.v1, {"kind": "workflow.v1", …} (workflow-runs.md 2.6), and its hash is the
 * plan_hash. flow.h has what is made of it, and the rules by which the same machine runs it. */
#pragma once
#include "machine/machine.h"

struct capability;

enum {
    PLAN_NODES_MAX = 10000,
    PLAN_EDGES_MAX = 100000,
    PLAN_LOOPS_DEEP = 32, /* loops within loops */
    PLAN_STEPS_DEFAULT = 10000,
    PLAN_STEPS_MAX = 1000000,
    PLAN_TRIES_MAX = 100,
};
#define PLAN_MS_MAX INT64_C(31536000000) /* a year: the longest time that can be asked for anywhere */
#define NO_INDEX    UINT32_MAX

struct plan_node {
    struct span id;
    const struct capability *capability;
    struct span binding;
    struct jv config; /* an object, or absent */
    bool has_refs;    /* the config holds {"$from": …} */
    bool keep;        /* somebody may ask for its output later */
    bool solo;        /* a token is enough to start it: nothing else can ever reach it */
    const struct plan *inner; /* of the machine that the node holds, or NULL */
    uint32_t max_tries;
    uint64_t backoff_us;
    uint32_t out, out_count; /* edges[out …] */
    uint32_t in, in_count;   /* in_edges[in …] are indices into edges */
    uint32_t loop;           /* the innermost loop that holds it, or NO_INDEX */
};

struct plan_edge {
    uint32_t from, to;
    uint32_t back; /* the loop that begins again over this edge, or NO_INDEX */
    bool conditional;
    struct span pointer; /* when: value at pointer … */
    struct jv equals;    /* … equals this */
};

struct plan_loop {
    uint32_t header; /* the node a repetition begins with */
    uint32_t parent; /* the loop around it, or NO_INDEX */
};

struct flow;
struct graph {
    struct flow *flow; /* a workflow.v1 (flow.h): nothing else is here; else NULL */
    uint32_t node_count, edge_count, loop_count, start_count;
    struct plan_node *nodes; /* byte order of id */
    struct plan_edge *edges; /* by from */
    uint32_t *in_edges;
    struct plan_loop *loops;
    uint32_t *starts;
    uint32_t max_steps;
};

/* ---- for front ends ---- */
/* From a bundle definition (agent-runs.md 9.1): machine_ops.compile. Pointers of issues are relative to the
 * definition. */
enum err bundle_compile(struct jv definition, struct plan *plan, struct issues *issues);
/* Makes `text` canonical, names it, opens it. `text` must be a plan as above, members in any order, nodes and edges
 * sorted. ERR_TOO_LARGE when loops nest too deep; ERR_CORRUPT when it is no plan, which is the front end's mistake.
 * */
enum err plan_seal(struct span text, struct plan *plan);
/* true for ^[a-z][a-z0-9_]{0,63}$ */
bool plan_name_valid(struct span name);

/* From a workflow: {"format": 1, "workflow": SPEC}, or the SPEC itself. Pointers of issues are JSONPath texts of the spec. */
enum err workflow_compile(struct jv definition, struct plan *plan, struct issues *issues);
/* true when workflow_compile is asked for. */
bool workflow_is(struct jv definition);

/* ---- for the machine ---- */
/* machine_ops.open: fills plan->compiled (a struct graph), the limits and the hash. Does nothing when that is done
 * already. */
enum err plan_open(struct plan *plan);
/* Index of the node, or NO_INDEX. */
uint32_t graph_find(const struct graph *graph, struct span name);
/* true when `loop` or a loop around it is `outer`. */
bool loop_within(const struct graph *graph, uint32_t loop, uint32_t outer);
