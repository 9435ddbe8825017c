/* SPDX-License-Identifier: Apache-2.0 */
/* flow_turn.h - one step of a workflow.v1 from the inside (flow.h is the outside): shared by flow.c, which takes the input and
 * starts what can start, flow_fanout.c and flow_call.c, which do what nodes are there for, and flow_turn.c, which tells the host
 * what became of a node and finds what follows from it.
 *
 * Whoever ends a node does so with flow_finish_node or flow_fail_node, which may end the run: look at m->life afterwards. */
#pragma once
#include "workflow/capability.h"
#include "workflow/flow.h"

struct flow_turn {
    struct machine *m;
    struct flow_run *f;
    const struct input *in;
    struct effects *out;
    struct jv input; /* of the run, once it was needed */
    bool input_read;
    uint32_t head, tail; /* of the queue m->queue */
    uint32_t starts, checkpoints;
    size_t bytes;
};

/* ---- paths ---- */
struct op_path flow_path(const struct flow_run *f, uint32_t node); /* of the current execution */
struct op_path flow_timer_path(struct op_path path, uint32_t number);
bool flow_is_timer(const struct input *in, struct op_path path, uint32_t number);

/* ---- flow_turn.c: effects ---- */
struct effect *flow_node_effect(struct flow_turn *t, uint32_t node, enum node_event event);
struct effect *flow_item_effect(struct flow_turn *t, uint32_t node, uint32_t i, enum node_event event);
void flow_timer_effect(struct flow_turn *t, uint32_t node, struct op_path path, uint64_t due_us, bool clear);
/* In front of the effects that came behind `at`. `node`: NO_INDEX when the run ends. */
void flow_checkpoint(struct flow_turn *t, enum checkpoint_kind kind, uint32_t node, size_t at);
void flow_cancel_items(struct flow_turn *t, uint32_t node, const char *reason);

/* ---- flow_turn.c: timers of nodes ---- */
void flow_limit_set(struct flow_turn *t, uint32_t node, uint64_t left_us);
void flow_waits_set(struct flow_turn *t, uint32_t node, bool waits);
void flow_collect_clear(struct flow_turn *t, uint32_t node);

/* ---- flow_turn.c: ends ---- */
void flow_finish_node(struct flow_turn *t, uint32_t node, struct span output);
void flow_fail_node(struct flow_turn *t, uint32_t node, const struct fault *fault);
/* Nothing that large is put together: true when the node has failed for it. */
bool flow_is_too_large(struct flow_turn *t, uint32_t node, size_t bytes);
/* `node` has told of its failure and counts as running still; NO_INDEX: the run fails by itself. */
void flow_fail_run(struct flow_turn *t, const struct fault *fault, uint32_t node);
/* What was in flight starts again in a new attempt. */
void flow_rewind(struct flow_run *f);
void flow_look_at_target(struct flow_turn *t, uint32_t node);
/* What follows from the nodes that are done. */
void flow_drain(struct flow_turn *t);

/* ---- flow_call.c ---- */
struct flow_calling {
    uint32_t node;
    const struct flow_job *job;
    struct flow_call *call;
    struct op_path path; /* of the execution */
    struct jv item;
    bool top;
};
struct flow_source flow_source_of(struct flow_turn *t, struct jv item);
/* Begins a try, or gives the machine its answer. Afterwards the call is at work (VERDICT_PENDING), or its end is told. */
enum verdict flow_call_step(struct flow_turn *t, const struct flow_calling *c, bool begin, struct span *ret_output,
                            struct fault *ret_fault);
/* 0: the input is not for this call; 1: the next try is due; 2: it is for its machine. */
unsigned flow_for_call(const struct input *in, struct op_path path, const struct flow_call *call);

/* ---- flow_fanout.c ---- */
void flow_start_fanout(struct flow_turn *t, uint32_t node);
void flow_start_item(struct flow_turn *t, uint32_t node); /* the next one; flow_has_item */
void flow_deliver_item(struct flow_turn *t, uint32_t node, struct op_path path);
