/* SPDX-License-Identifier: Apache-2.0 */
/* flow.h - plans of kind workflow.v1 (workflow-runs.md 2.6 and 3.4, 3.5): what is made of one, and what a run of it remembers.
 *
 * The second scheduler of the graph machine: behind the same machine_ops, with the same nodes that hold machines, but with the
 * rules of dependencies in place of tokens. docs/concepts/workflow-execution.md says what was chosen where the contract left a
 * choice. In short:
 *
 *   - A pair (source, target) is resolved when the source has succeeded, failed or was cancelled. It is on when one of its
 *     edges holds: a plain one when the source succeeded, a conditional one when its test says so.
 *   - A plain node is ready when all its pairs are resolved, all plain ones are on, and one of the conditional ones, if there
 *     are any. If it cannot become ready it is cancelled without a trace. So are the sources that nobody needs any more.
 *   - join.all is a plain node. join.any is ready with the first source that is on and satisfies the predicate, and fails when
 *     there will be none. join.collect is ready with `limit` of them, or when all are resolved, or when its time is over.
 *   - The first ready node in byte order of the ids starts, again and again, while fewer than max_parallelism nodes run and do
 *     not wait for people; nodes that are done at once need no place. Items of a fan-out start by index, in the place of
 *     their node in that order.
 *   - A failure ends the run unless every way from the node to an output leads through a join.any, a join.collect or an edge
 *     that tests the status.
 *
 * Op paths. A node's index is its place in byte order of the ids; execution e is node_path(index, e). Item i of a fan-out
 * stands at OP_ITEM i below it. Try k > 1 of a model node or item (its `retry`) stands at OP_NODE k below that: it is no new
 * execution, nothing but its model calls is seen. Timers: FLOW_BACKOFF, FLOW_LIMIT + n, FLOW_COLLECT + n.
 *
 * The run's input is the object of the workflow's inputs. Its member "$models", which can be no input's name, overrides models:
 * {"all"?: MODEL, "nodes"?: {ID: MODEL}, "subnodes"?: {FANOUT ID: MODEL}}; MODEL is text. The run's output is the object of
 * the outputs; an output whose node was cancelled is not in it. */
#pragma once
#include "workflow/state.h"

enum {
    FLOW_ITEMS_MAX = 10000,
    FLOW_OUTPUT_MAX = 8 << 20, /* bytes that a join, a transform or a fan-out may put together: joins of joins double */
    FLOW_PARALLEL = 4,         /* default max_parallelism */
    FLOW_BACKOFF = 0x0fffffff,
    FLOW_LIMIT = 0x0e000000,
    FLOW_COLLECT = 0x0d000000,
};

enum flow_type {
    FLOW_LLM,
    FLOW_ROUTE,
    FLOW_JOIN_ALL,
    FLOW_JOIN_ANY,
    FLOW_JOIN_COLLECT,
    FLOW_TRANSFORM,
    FLOW_FANOUT,
    FLOW_TYPES
};
extern const char *const flow_type_names[FLOW_TYPES];

enum flow_op { FLOW_EQUALS, FLOW_MATCHES, FLOW_EXISTS };
struct flow_when {
    bool status; /* test the status of the source, not its output */
    enum flow_op op;
    struct span path; /* "$…" */
    struct jv value;
};

enum flow_class { RETRY_INVALID_JSON = 1, RETRY_TRUNCATED = 2, RETRY_RATE_LIMIT = 4, RETRY_TIMEOUT = 8 };

/* What a node, or the subnode of a fan-out, does. */
struct flow_job {
    enum flow_type type;
    struct plan_node node; /* id, and the plan of the agent in a model node */
    struct jv input;       /* as the plan has it; maybe absent */
    struct jv bindings;
    bool rebuilt;      /* a binding changes more than the messages: its agent is compiled when it starts */
    bool structured;   /* the answer is JSON */
    unsigned retry_on; /* of enum flow_class */
    uint32_t max_tries;
    uint64_t backoff_us;
};

struct flow_edge {
    uint32_t from, to;
    struct flow_when *when; /* NULL: none */
};

struct flow_node {
    struct flow_job job;
    uint32_t out, out_count;   /* edges[out …], by target */
    uint32_t in, in_count;     /* in_edges[in …] are indices into edges, by source */
    uint32_t sources, targets; /* how many different ones */
    uint32_t conditional;      /* sources whose edges are all conditional */
    bool output;               /* an output of the run is taken from it */
    struct flow_when *predicate;
    uint32_t limit; /* join.collect; 0: none */
    uint64_t timeout_us;
    struct flow_job sub;     /* fan-out */
    uint32_t items_from;     /* node, or NO_INDEX */
    struct span items_input; /* name of an input */
    struct span items_pointer, items_path;
    uint32_t parallel; /* items at a time */
};

struct flow_output {
    struct span name, pointer;
    uint32_t from;
};

struct flow {
    uint32_t node_count, edge_count, output_count;
    struct flow_node *nodes; /* byte order of id */
    struct flow_edge *edges; /* by (from, to) */
    uint32_t *in_edges;
    struct flow_output *outputs; /* in the order of the plan */
    struct jv root;              /* the plan */
    struct jv inputs;            /* its declarations */
    uint32_t parallel;
    uint64_t node_timeout_us;
};

/* ---- plans: flow_plan.c ---- */
/* From plan->json, a canonical workflow.v1, to a struct flow. ERR_CORRUPT; with `issues` (may be NULL) what an inner definition
 * has to say, JSONPath in the pointers. */
enum err flow_open(struct plan *plan, struct flow **ret, struct issues *issues);
uint32_t flow_find(const struct flow *flow, struct span id);
/* Members "tools" and "tool_choice" of a neutral request (model/model.h), from those of a /responses request; none when there are
 * none. What a provider does by itself is left out. complete: who says nothing of parameters takes an object. */
void flow_put_tools(struct jv tools, bool complete, struct jw *w);
void flow_put_choice(struct jv choice, struct jw *w);
/* The definition of the agent that a model node is: from a /responses request with everything put in. `model` overrides. */
void flow_definition(const struct flow_job *job, struct jv request, struct span model, struct arena *arena,
                     struct buf *out);

/* ---- state ---- */
enum flow_status { FLOW_PENDING, FLOW_RUNNING, FLOW_SUCCEEDED, FLOW_FAILED, FLOW_CANCELED, FLOW_STATUSES };
extern const char *const flow_status_names[FLOW_STATUSES];

enum flow_phase { CALL_IDLE, CALL_INNER, CALL_BACKOFF };
struct flow_call {         /* one agent at work: a model node, or a model item */
    struct plan_node node; /* of this run; node.inner is the plan in use, NULL: that of the job */
    struct machine *inner;
    enum flow_phase phase;
    uint32_t try_no; /* from 1 */
};

struct flow_item {
    enum flow_status status;
    struct flow_call call;
    struct span value; /* JSON; empty once it succeeded */
    struct span output;
};

struct flow_state {
    enum flow_status status;
    uint32_t execs, step;
    uint32_t order; /* when it became what it is for good; counts from 1 */
    /* of its sources */
    uint32_t left, on, plain_off, conditional_on;
    uint32_t *got, got_count; /* joins: sources that qualified, in the order in which they did */
    uint32_t live;            /* targets that are not done yet */
    bool ready;
    /* in flight */
    struct flow_call call;
    bool waits;              /* for a person or a follower */
    uint64_t limit_us;       /* when its time is over; what is left of it while it waits; 0: no limit */
    uint32_t timers;         /* time-outs set so far */
    uint64_t collect_due_us; /* join.collect: 0: no timer */
    bool late;               /* its time was over */
    struct flow_item *items;
    uint32_t item_count, item_next, items_flying, items_done;
    uint32_t failed_item; /* or NO_INDEX */
    struct slot output;
};

enum flow_set {
    SET_PLACED, /* can start when there is a place */
    SET_FREE,   /* can start without one; fan-outs that can start an item */
    SET_RUNNING,
    FLOW_SETS
};
struct flow_run {
    struct machine *m;
    const struct flow *flow;
    struct flow_state *nodes; /* as flow->nodes */
    uint32_t running, waiting, order;
    uint64_t *ready[FLOW_SETS]; /* bit sets of nodes */
    struct jv models;           /* $models of the input, or absent */
    const struct plan **plans;  /* by node: the agent's plan in this run, if it is another than the node's */
    struct jv *docs;            /* scratch: outputs that this step has parsed */
    uint32_t *doc_turn, turn;
};

enum err flow_step(struct machine *m, const struct input *in, struct effects *out);
enum err flow_save(const struct machine *m, struct buf *out);
enum err flow_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret);
/* An input of the run, or its default. `root` is the input that was sent. */
struct jv flow_input(struct flow_run *f, struct jv root, struct span name);
void flow_take_models(struct flow_run *f);
/* The plan of the agent that a job is in this run, overrides included. NULL when it cannot be. */
const struct plan *flow_inner(struct flow_run *f, const struct flow_node *node, const struct flow_job *job,
                              struct jv request);
/* What $models of the run's input says about a job; empty: nothing. */
struct span flow_model(struct flow_run *f, const struct flow_node *node, const struct flow_job *job,
                       struct arena *arena);

/* ---- order: flow_order.c ---- */
struct machine *flow_new(const struct plan *plan, struct arena *arena);
bool flow_is_model(const struct flow_job *job);
bool flow_is_done(const struct flow_state *ns);
/* Output of a node that succeeded, parsed at most once in a step; else absent. */
struct jv flow_doc(struct flow_run *f, uint32_t node, struct arena *arena);
void flow_set_node(struct flow_run *f, uint32_t node, enum flow_set set, bool on);
uint32_t flow_first(const struct flow_run *f, enum flow_set set); /* or NO_INDEX */
/* Models and fan-outs take a place, the others are done at once. */
enum flow_set flow_place_of(const struct flow_node *node);
/* What follows for sources and targets when a node is done; nothing is done about it. */
void flow_account(struct flow_run *f, uint32_t node, struct arena *scratch);
enum flow_outlook { FLOW_OUTLOOK_OPEN, FLOW_OUTLOOK_READY, FLOW_OUTLOOK_NEVER };
enum flow_outlook flow_outlook(const struct flow_run *f, uint32_t node);
/* true when a fan-out can start an item, which is `item_next` then. */
bool flow_has_item(const struct flow_node *n, struct flow_state *ns);
/* Finds all sets again. */
void flow_make_ready(struct flow_run *f);

/* ---- values: flow_value.c ---- */
/* Can a condition's regular expression run: is it one, and bounded? One that is not matches nothing. */
bool flow_pattern_valid(struct span pattern);
bool flow_holds(const struct flow_when *when, enum flow_status status, struct jv output);
/* Values behind bindings: nodes' outputs, the run's inputs, the item. */
struct flow_source {
    struct jv (*node)(void *ctx, uint32_t node);
    struct jv (*input)(void *ctx, struct span name);
    void *ctx;
    const struct flow *flow;
    struct jv item; /* absent unless in a fan-out */
};
/* The request with all bindings put in. On failure *ret_fault says why. */
bool flow_request(const struct flow_job *job, const struct flow_source *source, struct arena *arena, struct jv *ret,
                  struct fault *ret_fault);
/* {"input":{"messages":[…]}} of a request. */
struct jv flow_agent_input(struct jv request, struct arena *arena);
bool flow_transform(const struct flow_job *job, const struct flow_source *source, struct arena *arena, struct span *ret,
                    struct fault *ret_fault);
bool flow_items(const struct flow_node *node, const struct flow_source *source, struct arena *arena, struct jv *ret,
                struct fault *ret_fault);
struct fault flow_fault(const char *code, const char *category, struct span message);
/* The JSON of the first text of a response, or absent. */
struct jv flow_text_json(struct jv response, struct arena *arena);
struct span flow_text(struct jv response, struct arena *arena);
