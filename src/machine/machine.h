/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - what a run executes (model.md 7): pure state machines, `step(state, input) -> effects`.
 *
 * A machine does no I/O, reads no clock, draws no random number and makes no identifier. The host (src/run) records each
 * input, steps the machine, records what the effects say, commits, and only then carries the effects out. Recovery and replay
 * feed the recorded inputs again and must get the same effects in the same order: everything a machine does may depend on
 * nothing but the plan and the inputs so far.
 *
 * Memory: `arena` given to init/load belongs to the machine for its life. Spans in an input are valid during the step only:
 * copy what is kept. Spans in effects must stay valid until the next step of the same machine. */
#pragma once
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"

/* ---- paths: which effect, deterministic, never a UUID. "read.1/m0", "fan.1/2/m0/t1" ---- */
enum { OP_PATH_MAX = 11 };
enum op_part { OP_NODE, OP_ITEM, OP_MODEL, OP_TOOL, OP_WAIT, OP_TIMER, OP_CHILD };
struct op_path {
    uint8_t  n;              /* parts in use; 0: the run itself */
    uint32_t v[OP_PATH_MAX]; /* part kind << 28 | number; a node part is node index << 8 | try_no (from 1) */
};
#define OP_PART(kind, number) ((uint32_t)(kind) << 28 | (uint32_t)(number))
#define OP_NODE_TRY(index, try_no) OP_PART(OP_NODE, (uint32_t)(index) << 8 | (uint32_t)(try_no))
static inline struct op_path op_sub(struct op_path parent, uint32_t part)
{
    assert(parent.n < OP_PATH_MAX);
    parent.v[parent.n++] = part;
    return parent;
}
static inline bool op_path_eq(const struct op_path *a, const struct op_path *b)
{
    return a->n == b->n && memcmp(a->v, b->v, a->n * sizeof a->v[0]) == 0;
}
/* true when `path` is `prefix` or lies below it */
static inline bool op_path_under(const struct op_path *path, const struct op_path *prefix)
{
    return path->n >= prefix->n && memcmp(path->v, prefix->v, prefix->n * sizeof path->v[0]) == 0;
}

/* ---- inputs: exactly one record of class I each ---- */
enum input_kind { IN_START, IN_MODEL, IN_TOOL, IN_ANSWER, IN_TIMER, IN_CHILD, IN_MESSAGE, IN_KIND_COUNT };

struct input {
    enum input_kind kind;
    uint64_t        seq;        /* of the record: the order of inputs is the order of the ledger */
    struct op_path  op;         /* which effect it answers; empty for START and MESSAGE */
    int64_t         wall_ms;
    uint64_t        elapsed_us; /* since the run began; never decreasing; downtime counts */
    enum err        err;        /* ERR_OK or the class of failure */
    struct span     value;      /* JSON text. START: {"input":…?, "values":{…}} (no "input" member when none was sent).
                                   MODEL ok: {"text","usage"?,"finish_reason"?,"tool_calls"?,…}; failed: the error object.
                                   TOOL: the tool's output (any JSON), or the error object. err BUDGET (MODEL, TOOL): the call
                                   was not made; value {"cap","limit","used"}. ANSWER: the answer. TIMER: null.
                                   CHILD: {"status","output"?,"error"?} */
};

/* ---- effects ---- */
enum effect_kind {
    FX_NODE, FX_MODEL, FX_TOOL, FX_WAIT, FX_TIMER, FX_CHILD, FX_ABORT, FX_EMIT, FX_STATE, FX_CHECKPOINT, FX_FINISH, FX_FAIL
};
enum node_event { NODE_START, NODE_FINISH, NODE_FAIL, NODE_CANCEL, NODE_WAIT };
enum wait_kind { WAIT_PROMPT, WAIT_ASK, WAIT_TOOLS, WAIT_APPROVAL, WAIT_RECEIPT, WAIT_BUDGET };
/* Who answers a tool call: the host's registry, a follower of the run, or the host itself in the commit of the intent's
 * successor (kv_*, tasks_write, memory_write, tools.list). */
enum tool_by { TOOL_BY_SERVER, TOOL_BY_CLIENT, TOOL_BY_LOCAL };
enum checkpoint_kind { CHECKPOINT_START, CHECKPOINT_NODE, CHECKPOINT_HUMAN, CHECKPOINT_FINAL };

struct effect {
    enum effect_kind kind;
    struct op_path   op;    /* of the node, call, wait, timer or child; what is below a node has the node as parent */
    struct span      node;  /* plan name of the node it concerns, or empty */
    bool             top;   /* a top-level node of the plan: counts on WF (model.md 4) */
    union {
        struct {
            enum node_event event;
            struct span     capability_ref, capability_version, execution_binding; /* on START */
            uint32_t        step;    /* number of nodes started before it, in this run */
            uint32_t        try_no;  /* from 1 */
            struct span     output;  /* FINISH: JSON */
            struct span     error;   /* FAIL: error object of AR 3.2 without node members. CANCEL, WAIT: JSON reason */
            bool            will_retry;
            struct span     pending; /* WAIT: JSON array of the client tool calls it waits for, or empty */
        } node_;
        struct {
            struct span provider;  /* name in the configuration: "scripted", "openai" …; "core.emit" is built in */
            struct span model;
            struct span request;   /* JSON object, provider-neutral (model/model.h says its members);
                                      core.emit: {"count","interval_ms"} */
            struct span retry;     /* JSON retry policy (model/retry.h), or empty: the host's default. The machine sees the
                                      last try only */
            struct span labels;    /* JSON object kept with the intent for other dialects ({"agent_id","role","input"} of a
                                      team's turn), or empty */
            bool        stream;
            bool        on_node;   /* deltas carry the node's operation, not the call's (core.emit) */
        } model;
        struct {
            struct span  call_name; /* the model's id of the call; the host makes it unique in the run. May be empty */
            struct span  tool;      /* name of the tool in the configuration; "tools.list" (by local): the contracts of
                                       the tools named in arguments {"tools":[…]}, recorded, so that a replay sees the same */
            struct span  arguments; /* JSON */
            struct span  context;   /* JSON object for the tool, or empty: {"agent_id","role","turn",…} of a team */
            enum tool_by by;
            bool         repeat_safe; /* from its contract: may be sent again with the same key after a crash */
        } tool;
        struct {
            enum wait_kind kind;
            struct span    prompt;     /* text, not JSON */
            struct span    schema;     /* JSON or empty */
            struct span    call_name;  /* ask, approval: the tool call it belongs to; else empty */
            struct span    details;    /* ask, approval: JSON {"question","options"?,"allow_freeform"?} or {"tool","arguments"} */
            uint64_t       expires_us; /* elapsed time at which it expires; 0: never. Answered by IN_ANSWER err EXPIRED */
        } wait;
        struct {
            bool     clear;
            uint64_t due_us; /* elapsed time; may lie in the past */
        } timer;
        struct {
            struct span agent; /* id text */
            struct span input; /* JSON or empty */
        } child;
        struct {
            struct span name;
            struct span value; /* JSON */
        } emit;
        struct {
            struct span patch;  /* RFC 6902, JSON array */
            struct span values; /* the values after it, JSON object */
        } state;
        struct {
            enum checkpoint_kind kind;
            uint32_t             step;
            struct span          hashed; /* JCS of {"state","next","step"}: the host hashes it (AR 7.1) */
        } checkpoint;
        struct {
            struct span output; /* JSON */
            struct span values; /* thread values from now on, JSON object */
        } finish;
        struct {
            struct span error; /* error object of AR 3.2, with "retryable" */
        } fail;
    };
};

struct effects {
    struct arena  *arena; /* for texts made by this step; lives until the next step of this machine */
    struct effect *items;
    size_t         count, cap;
    uint32_t       stop_after_checkpoints; /* 0: never. The step ends behind its n-th checkpoint of a node or prompt, with nothing
                                              started and nothing finished behind it: the state is that of the checkpoint */
};
/* Appends a zeroed effect and returns it; the pointer is valid until the next call. `items` grows on the heap so that its
 * owner can set `count` to 0 and use it for the next step; the owner gives it back with free(). */
static inline struct effect *effect_add(struct effects *out, enum effect_kind kind, struct op_path op)
{
    if (out->count == out->cap) {
        out->cap   = out->cap ? out->cap * 2 : 16;
        out->items = mem_grow(out->items, out->cap * sizeof out->items[0]);
    }
    struct effect *fx = &out->items[out->count++];
    *fx = (struct effect){ .kind = kind, .op = op };
    return fx;
}

/* ---- plans: compiled once, named by the hash of their canonical JSON, shared by all runs ---- */
struct machine_ops;

/* What a run may cost at most (0: no cap). The host reserves before a call and settles after it. */
enum budget_breach { BUDGET_FAIL, BUDGET_STOP, BUDGET_ASK }; /* STOP: the machine gets ERR_BUDGET and ends with what is there */
struct plan_budget {
    int64_t            usd; /* in 10^-12 USD */
    uint64_t           tokens, model_calls, tool_calls, seconds;
    enum budget_breach on_breach;
};

struct plan {
    const struct machine_ops *ops;
    const struct machine_ops *const *kinds; /* NULL-terminated; what a node may hold (nest.h); set before compile and open */
    struct plan_budget budget;
    struct sha256_text { char hex[64]; } hash;
    struct span  json;        /* canonical JSON */
    uint64_t     run_timeout_us;   /* 0: none */
    uint64_t     human_timeout_us; /* 0: none */
    uint32_t     max_attempts;     /* from 1 */
    void        *compiled;    /* what the machine kind made of it; lives in the plan's arena */
    struct arena arena;
    unsigned     refs;        /* engine thread only */
};

struct machine;
struct machine_ops {
    const char *kind; /* "graph", "agent", "team" */
    uint32_t    rev;  /* in run.started and in every snapshot; a machine loads its last two revisions */
    /* From the definition a client sent (already parsed) to a plan whose `json` is canonical; all issues at once.
     * ERR_VALIDATION with issues filled, or ERR_OK. `plan->arena` is ready to use; the caller frees it on failure. */
    enum err (*compile)(struct jv definition, struct plan *plan, struct issues *issues);
    /* From the stored canonical JSON to plan->compiled. ERR_CORRUPT when it cannot be. */
    enum err (*open)(struct plan *plan);
    enum err (*init)(const struct plan *plan, struct arena *arena, struct machine **ret);
    enum err (*step)(struct machine *m, const struct input *in, struct effects *out);
    enum err (*save)(const struct machine *m, struct buf *out); /* JSON text, deterministic */
    enum err (*load)(const struct plan *plan, struct span saved, struct arena *arena, struct machine **ret);
    /* After load, before the IN_START of a new attempt: nodes in flight start again as a new execution (model.md 7.2). */
};
