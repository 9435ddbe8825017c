/* SPDX-License-Identifier: Apache-2.0 */
/* capability.h - what nodes can do: one row per capability.
 *
 * A capability is pure like the machine. It sees one execution of one node as a `struct work`, adds effects for it,
 * and says whether the node is done, waits for the answer to an effect, or failed. The machine does the rest:
 * starting, finishing, retrying, checkpoints. */
#pragma once
#include "machine/fault.h"
#include "workflow/plan.h"
#include "workflow/ref.h"

enum verdict { VERDICT_DONE, VERDICT_PENDING, VERDICT_FAILED };

/* What a node waits for. The order is part of nothing: snapshots hold the names. */
enum phase {
    PHASE_IDLE, PHASE_MODEL, PHASE_TIMER, PHASE_ANSWER, PHASE_CHILD, PHASE_BACKOFF, PHASE_TOOL,
    PHASE_INNER, /* a machine inside the node is at work: every answer below the node's path is its */
    PHASE_COUNT
};

struct work {
    const struct plan *plan;
    const struct plan_node *node;
    struct op_path op;      /* of this execution */
    const struct input *in; /* what caused this step */
    struct effects *out;
    struct jv config; /* references replaced; on the answer to an effect: absent */
    const struct ref_docs *docs;
    struct span input;  /* the run's, empty when none was sent */
    struct span values; /* the thread's. May be replaced: valid until the next step */
    struct span memo;   /* JSON to remember until the answer. May be replaced */
    uint32_t fails;     /* core.fail: how often it has failed in this run. May be changed */
    struct machine **inner; /* the machine in the node: NULL inside until it begins and when it has finished */
    struct arena *arena;    /* as long as the machine: for the inner one */
    bool top;           /* a top-level node: fan-out items are not */
    bool human;         /* set: add a checkpoint of kind human in front of effect `human_at` of the step */
    size_t human_at;

    /* results */
    enum phase phase;   /* VERDICT_PENDING: what for */
    uint64_t due_us;    /* PHASE_TIMER */
    struct span output; /* VERDICT_DONE: JSON */
    struct fault fault; /* VERDICT_FAILED */
};

struct field;
struct check;
struct capability {
    const char *name, *version, *binding;
    const struct field *fields;                           /* of the config; NULL name at the end */
    void (*check)(struct check *check, struct jv config); /* what the table of fields cannot say; may be NULL */
    enum verdict (*start)(struct work *work);
    enum verdict (*answer)(struct work *work); /* work->in is the answer; NULL when start never waits */
    const char *nests; /* kind of the machine that a node of it holds, or NULL (nested.h) */
};

const struct capability *capability_find(struct span name, struct span version); /* NULL when there is none */
/* true when there is a capability of that name in any version. */
bool capability_known(struct span name);

/* Adds an issue for everything that is wrong with a config; `at` is the pointer of the config in the definition and
 * is left as it was. With `resolved` the references have been replaced, so that all values are checked; without,
 * references pass. */
void capability_check(const struct capability *capability, struct jv config, bool resolved, struct buf *at,
                      struct issues *issues);
/* Calls `fn` for the pointers into the run's documents that are no {"$from": …} (core.switch). */
void capability_pointers(const struct capability *capability, struct jv config,
                         void (*fn)(void *ctx, struct span pointer), void *ctx);
/* core.switch: nodes that its cases name; `fn` gets the index of the case. */
void capability_targets(const struct capability *capability, struct jv config,
                        void (*fn)(void *ctx, size_t index, struct jv next), void *ctx);
bool capability_is_switch(const struct capability *capability);
