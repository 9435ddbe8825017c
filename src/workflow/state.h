/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - what the graph machine remembers; shared by graph.c (steps) and graph_save.c (snapshots). */
#pragma once
#include "workflow/capability.h"

/* A text that is replaced again and again. The arena cannot free, so room is kept and doubled: all texts that a slot
 * ever held cost at most four times the longest one. */
struct slot {
    char *p; /* NULL: nothing there; "" is never stored, since JSON is never empty */
    size_t n, cap;
};
void slot_set(struct slot *slot, struct span text, struct arena *arena);
static inline struct span slot_view(const struct slot *slot)
{
    return span_make(slot->p, slot->n);
}

enum life { LIFE_NEW, LIFE_RUNNING, LIFE_FINISHED, LIFE_FAILED, LIFE_COUNT };

struct node_state {
    enum phase phase;   /* PHASE_IDLE: not in flight */
    bool token;         /* an edge led here since the last start */
    bool ended;         /* its last execution finished and gave no token on */
    uint32_t execs;     /* executions so far, see graph.h */
    uint32_t try_no;    /* of the last one, from 1 */
    uint32_t step;      /* of the last one */
    uint32_t fails;     /* core.fail's counter */
    uint32_t blocker;   /* a guess, never saved: the running node that was last seen to be in the way */
    uint64_t due_us;    /* in flight: when its timer or wait is due; 0: none */
    struct machine *inner; /* at work, or to go on in the next attempt; NULL: none */
    struct slot memo;   /* in flight: what the capability wants to know when the answer comes */
    struct slot output; /* of the last finished execution, if somebody may ask for it */
};

struct flow_run;
struct machine {
    const struct plan *plan;
    struct flow_run *flow; /* of a workflow.v1 (flow.h), which uses nothing of the nodes and tokens below; else NULL */
    const struct graph *graph;
    struct arena *arena;
    enum life life;
    uint32_t steps;    /* starts so far */
    uint32_t pauses;   /* how often a step was cut, see pause_run */
    bool paused;       /* the timer of the last cut has not come back */
    uint32_t running;  /* nodes in flight */
    uint32_t tokens;   /* nodes that have one */
    uint32_t failers;  /* nodes whose counter `fails` is not 0 */
    struct slot input; /* empty when none was sent */
    struct slot values;
    struct slot canonical; /* JCS of values; computed when needed. Not saved */
    bool canonical_known;
    struct node_state *nodes; /* as graph->nodes */

    /* scratch, never saved */
    uint32_t *seen, seen_mark; /* by node: the search that came by last */
    uint32_t *queue;
};

/* The path of an execution, see graph.h. */
static inline struct op_path node_path(uint32_t node, uint32_t exec)
{
    struct op_path path = { .n = 1, .v = { exec <= 255 ? OP_NODE_TRY(node, exec) : OP_NODE_TRY(node, 0) } };
    return exec <= 255 ? path : op_sub(path, OP_PART(OP_ITEM, exec));
}
/* JCS of the thread's values; valid until they change. */
struct span machine_canonical_values(struct machine *m);
struct machine *machine_new(const struct plan *plan, struct arena *arena);
extern const char *const phase_names[PHASE_COUNT];
extern const char *const life_names[LIFE_COUNT];
enum err graph_save(const struct machine *m, struct buf *out);
enum err graph_load(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret);
