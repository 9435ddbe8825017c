/* SPDX-License-Identifier: Apache-2.0 */
/* inner.h - runs in RAM: what the files of this folder share.
 *
 * A run is in RAM while it has something to do. It is written (run_dirty) once per turn whatever happened in it, leaves memory
 * when it ended or when it only waits for people (parked), and comes back by folding its ledger (recover.c). */
#pragma once
#include "run/engine.h"
#include "store/aggregate.h"

/* What calls of models cost, or may cost. usd in 10^-12; unpriced: of the calls, those without a known price. */
struct cost {
    int64_t usd, tokens_in, tokens_out, unpriced, calls;
};

/* An operation of the attempt: a node execution, a call, a wait. Numbers are dense, given in order of first record. */
struct op {
    struct op_path path;
    uint32_t       no, parent;
    bool           top;        /* of a top-level node */
    bool           node_exec;  /* a node execution; else a call */
    bool           counted;    /* its row of figures is written, or needs none yet (stat.c) */
    uint32_t       try_no;
    struct cost    cost;       /* of a node execution: of the calls in it, all tries */
    uint32_t       wf_steps;   /* of a node execution: model calls that finished in it or below it */
    uint64_t       started_us; /* elapsed */
    struct span    node;       /* plan name, in the run's arena */
    struct span    ref, version, binding; /* of a node execution; in the run's arena */
};

struct inflight {                  /* a model call in flight */
    struct inflight       *next;
    struct run        *run;
    struct op_path     path;
    uint32_t           op, delta_op, delta_parent; /* deltas carry delta_op */
    bool               top, on_node, streams, labelled; /* labelled: its machine is told the cost */
    struct span        node, provider, model, request;
    uint64_t            chunks[3];  /* recorded so far, by kind */
    struct redact_carry carry[3];   /* the beginning of what may become a secret, by kind */
    uint64_t            texts;      /* of them: text that is not empty */
    bool                lost;       /* failed or lost: it is made again, its successor's intent follows */
    uint64_t            due_us;     /* of a lost one: when */
    uint32_t            tries;      /* from 1 */
    bool                held;       /* by a budget: a person is asked */
    struct cost         reserved;   /* while it may cost something; calls 0: not */
    struct span         retry;      /* policy as the machine gave it, or empty */
    uint64_t           started_us;
    struct model_call *model_call; /* NULL until it was started */
};

struct tool_flight {           /* a tool call that has no receipt */
    struct tool_flight *next;
    struct run         *run;
    struct op_path      path;
    uint32_t            op, parent;
    enum tool_by        by;
    bool                top;
    bool                safe;      /* may be sent again with the same key, as recorded with the intent */
    bool                unknown;   /* perhaps sent, outcome lost: a person is asked, see its receipt wait */
    bool                held;      /* by a budget: a person is asked */
    bool                asked;     /* by client: a question to a person (a wait of kind ask) stands for it */
    struct span         node, tool, arguments, context;
    struct span         given;     /* the machine's name of the call, may be empty */
    struct span         name;      /* unique in the run: tool_call_id */
    struct uuid         key;
    uint32_t            wf_step, model_op; /* of the model call that asked for it; op 0: none did */
    uint64_t            started_us;
    struct tool_call   *call;      /* NULL until it was started, and for others than the server's */
};

/* What is known of a call by its key, over all attempts of the run (receipts.c). */
enum receipt_state { RECEIPT_OPEN, RECEIPT_OK, RECEIPT_FAILED };
struct receipt {
    struct uuid        key;
    enum receipt_state state;
    bool               sent;       /* FAILED: something may have left the process */
    uint32_t           attempt_no, op;
    uint64_t           seq;        /* OK: of its record */
    uint64_t           name;       /* hash of the call's name */
    struct span        value;      /* or its error; in RAM when it was received in this process; else p NULL */
};
/* Finished executions of a node since its first tool call. */
struct tally {
    struct span node;
    uint32_t    finished;
};
struct receipts {
    struct arena    arena;
    struct receipt *items;
    uint32_t        count, cap;
    struct tally   *tallies;
    uint32_t        tally_count, tally_cap;
};

/* Model calls of a part of a node (a node, an item, an agent in it): the step that the workflow surface shows. */
/* The latest model call of what `path` lies in, or of what lies in `path`: its step (model.md 4) and its operation. False: none. */
bool run_step_at(const struct run *run, const struct op_path *path, uint32_t *ret_step, uint32_t *ret_op);
struct wf_steps {
    struct op_path of;             /* what makes the calls */
    uint32_t       step, model_op; /* of its last finished call */
};

struct timer {                 /* FX_TIMER, armed */
    struct timer  *next;
    struct op_path path;
    uint64_t       due_us;
};

struct child {                 /* a handoff in flight */
    struct child  *next;
    struct op_path path;
    uint32_t       op;
    struct span    node, agent;
    struct uuid    run;
};

struct open_wait {
    struct open_wait *next;
    struct wait_row   row;     /* spans in the run's arena */
    struct op_path    path;
    uint64_t          expires_us;
    bool              host;    /* the host asks, not the machine: receipt, budget */
    bool              fresh;   /* opened in this step: node.waiting is to follow */
};

struct pending_input {         /* waits for the turn */
    struct pending_input *next;
    enum input_kind       kind;
    enum err              err;
    struct op_path        path;
    uint32_t              op, parent;
    struct span           value; /* behind this struct */
    struct span           node;
    struct uuid           wait;
    struct span           by;
    bool                  rejected; /* IN_ANSWER: what the wait's row says becomes of it */
    uint64_t              at_us;    /* not before this elapsed time; 0: now */
    bool                  unsent;   /* IN_TOOL that failed: it is certain that nothing left the process */
    bool                  reused;   /* IN_TOOL: the receipt of an earlier call with the same key */
    bool                  by_person;/* IN_TOOL: the receipt was given by a person */
};

struct watch {
    struct watch  *next;
    struct engine *engine;
    struct run    *run;    /* NULL once it was fired */
    uint64_t       ticket;
    void        (*done)(void *user, const struct run_row *row);
    void         *user;
};

struct run {
    struct engine       *engine;
    struct thread       *thread;
    struct run_row       row;         /* spans in `texts` */
    struct arena         texts;       /* of the row: input, output, error, prompt */
    struct stream       *stream;
    struct plan         *plan;
    struct machine      *machine;     /* NULL: not begun, or dropped */
    struct arena         machine_arena;
    struct effects       effects;
    struct arena         effects_arena;
    struct arena         host_arena;  /* ops' names, calls, waits */
    struct op           *ops;         /* those in flight, in no order */
    uint32_t             op_count, op_cap, op_next; /* op_next: the last number given */
    struct op            failing;     /* the node execution that failed in this step for good; number 0: none */
    struct span          failing_error;
    struct op            finished;    /* the node that finished last: its checkpoint marker follows */
    struct inflight         *calls;
    struct tool_flight  *tools;       /* in the order of their intents */
    struct receipts      receipts;    /* over all attempts */
    struct spend_row     spend;       /* money.c */
    bool                 spend_loaded;
    struct cost          reserved;    /* by its calls in flight */
    struct wf_steps     *steps;
    uint32_t             step_count, step_cap;
    struct timer        *timers;
    struct child        *children;
    struct open_wait    *waits;       /* oldest first */
    struct pending_input *inbox, **inbox_tail;
    struct watch        *watches;
    struct loop_timer    wake;        /* the next FX_TIMER, wait expiry, run timeout or retry */
    uint64_t             wake_retry_us;   /* mono: start of the next attempt; 0: none */
    uint64_t             elapsed_base_us, mono_base_us;
    uint64_t             records_since_snapshot;
    int64_t              last_wall_ms; /* of the last record folded */
    uint64_t             seed;
    struct uuid          from_checkpoint; /* where a later attempt began */
    uint32_t             inflight;    /* batches on their way that hold something of this run */
    bool                 dirty, ready, row_stale; /* row_stale: the row itself changed, not only its stream */
    struct run          *dirty_next, *ready_next;
    bool                 announce_recovery; /* run.recovered goes before the next record */
    bool                 gone;        /* ended or parked: free when nothing holds it */
    uint64_t             now_us;      /* elapsed time of the input in hand */
    struct replay       *replay;      /* of a run that was replayed from another: what the source did; else NULL */
    struct span          replay_reason; /* until run.started has it */
    struct fold         *fold;        /* while the ledger is read back: nothing is recorded, everything compared */
};

struct thread {
    struct engine    *engine;
    struct thread_row row;
    struct arena      texts;
    struct run      **pending; /* runs that wait for the slot, oldest first */
    size_t            pending_count, pending_cap;
    unsigned          refs;    /* runs in RAM */
    unsigned          inflight;
    bool              dirty;
    struct spend_row  spend;   /* money.c */
    bool              spend_loaded;
    bool              deleted; /* its row goes with the next commit; nobody finds it any more */
    struct thread    *dirty_next;
};

struct engine {
    struct engine_config  config;
    struct env           *env;
    struct ledger        *ledger;
    struct batch         *batch;      /* the turn's; never NULL while running */
    bool                  batch_used; /* something waits for it even when it is empty */
    struct engine_inbox  *inbox;
    struct uuid_gen       ids;
    uint64_t              last_stream;
    struct uuid_map       runs, threads, agents, bundles, versions, idems, plans, sessions;
    struct u64_map        watches;    /* ticket -> struct watch */
    struct run           *dirty_runs, *ready_runs, **ready_tail;
    struct thread        *dirty_threads;
    struct loop_timer     tick, sweep, retention, cron_timer;
    int64_t               retained_from_ms; /* where the next look at old runs goes on; 0: from the oldest */
    struct uuid_map       crons;
    struct uuid_map       days;       /* workspace -> struct spend_day */
    struct uuid_map       kv;         /* of local.c: values on their way to disk */
    struct uuid_map       parked;     /* run id -> struct parked: those with a due time */
    uint64_t              next_ticket;
    bool                  draining, failed;
    unsigned              reading;    /* depth of engine_read_begin */
    struct buf            scratch;    /* for payloads; one user at a time */
    struct buf            scratch_priv;
    struct arena          turn;       /* until the end of the turn */
    struct engine_stats   stats;
    uint64_t              pending_looked_us; /* 0: never */
    bool                  pending_looking;
    unsigned              batches_out;
};

struct parked {                /* a run that left memory with a due time */
    struct loop_timer timer;
    struct engine    *engine;
    struct uuid       workspace, run;
    int64_t           due_ms;
};

/* ---- engine.c ---- */
void engine_touch(struct engine *engine); /* the batch must be submitted at the end of this turn */
/* A snapshot of the store on the engine's own reader; spans live until the end of the turn. Does not nest: see reading. */
enum err engine_read_begin(struct engine *engine);
void     engine_read_end(struct engine *engine);

/* ---- runs.c: RAM, rows, leaving and coming ---- */
struct run *run_find(struct engine *engine, struct uuid workspace, struct uuid id); /* in RAM only */
/* In RAM, or brought back from the store (also parked and pending ones). ERR_RUN_NOT_FOUND. Terminal runs are not loaded:
 * ERR_INVALID_RUN_STATE and the row in *ret_row (spans in the turn's arena). */
enum err run_load(struct engine *engine, struct uuid workspace, struct uuid id, struct run **ret, struct run_row *ret_row,
                  struct error *error);
void thread_forget(struct thread *thread); /* frees at once (engine_free) */
struct run *run_new(struct engine *engine, const struct run_row *row); /* copies the row; registers; takes its thread */
void run_row_own(struct run *run, const struct run_row *row); /* copies all spans into run->texts */
void run_row_view(const struct run *run, struct run_row *ret); /* a copy; spans live until the end of the turn */
void run_dirty(struct run *run);
void run_ready(struct run *run);
void run_rows_seal(struct engine *engine);
void run_leave(struct run *run);  /* ended or parked: frees it once its commits are through */
void run_forget(struct run *run); /* frees at once (engine_free) */
void run_move(struct run *run, enum run_input input); /* asserts that the table allows it */
void run_text(struct run *run, struct span *member, struct span value); /* sets a span member of run->row, copying */
void run_texts_copy(struct arena *arena, struct run_row *row); /* its spans, into the arena */
void run_watches_fire(struct run *run); /* after this turn's commit */
uint64_t run_elapsed_us(struct run *run);
void run_set_elapsed(struct run *run, uint64_t elapsed_us); /* the clock goes on from here */
void run_arm(struct run *run);          /* sets run->wake to the next due time */
void run_wake_fire(struct loop_timer *timer);
void run_new_stream(struct run *run);   /* a fresh stream for the current attempt; lets go of the old one */
enum err run_unpark(struct engine *engine, struct uuid workspace, struct uuid id, struct run **ret, struct run_row *ret_row,
                    struct error *error);
void run_reset_machine(struct run *run);/* drops machine, operations, effects */
void parked_load(struct engine *engine, struct uuid workspace, struct uuid id, int64_t due_ms);
void parked_forget(struct engine *engine, struct uuid id);

/* ---- threads.c ---- */
struct thread *thread_get(struct engine *engine, struct uuid workspace, struct uuid id); /* RAM or store; +1 ref; NULL */
struct thread *thread_make(struct engine *engine, struct uuid tenant, struct uuid workspace, struct uuid agent, bool implicit);
void thread_unref(struct thread *thread);
void thread_dirty(struct thread *thread);
void thread_rows_seal(struct engine *engine);
/* The run takes the slot (true), or queues behind it. A run of the workflow surface needs no slot (model.md D8). */
bool thread_enter(struct thread *thread, struct run *run);
/* The run leaves the slot or the queue; the next one is promoted and made ready. `values`: p NULL leaves them. */
void thread_exit(struct thread *thread, struct run *run, struct span values, bool failed);

/* ---- host.c: inputs -> machine -> effects ---- */
void run_input(struct run *run, const struct pending_input *input); /* copies; makes the run ready */
void run_turn(struct run *run);     /* takes the inbox, steps, records; may end the run */
/* An answer to an open wait, now (the inbox must be empty); *ret_row is the run right behind its record. */
void run_answer(struct run *run, struct pending_input *in, struct run_row *ret_row);
void run_begin_attempt(struct run *run); /* claims: RUN_STARTED and the first step */
void run_take_input(struct run *run, struct pending_input *in); /* now; nothing else may be in the inbox */
/* One recorded input through the machine and its effects into the ledger (or, in a fold, against it). */
void run_step(struct run *run, const struct input *in);
void run_save_snapshot(struct run *run);
struct span error_json(struct arena *arena, const char *code, const char *category, const char *source, bool retryable,
                       const char *message);

/* ---- effects.c ---- */
struct op *run_op(struct run *run, const struct op_path *path); /* in flight, or NULL */
struct op *run_op_new(struct run *run, const struct op_path *path, uint32_t parent, struct span node, bool top);
struct op  run_node_of(struct run *run, struct op_path path); /* the node it is or lies in; number 0: the run itself */
void       run_op_drop(struct run *run, const struct op_path *path);
/* The call of a model that finished, by what makes the calls; and the steps of a node that is over go. */
void       run_step_note(struct run *run, struct op_path of, uint32_t step, uint32_t model_op);
void       run_step_finished(struct run *run, const struct op_path *call, uint32_t model_op);
void       run_steps_drop(struct run *run, const struct op_path *node);
void       run_effects(struct run *run); /* applies run->effects */
void       run_abort_under(struct run *run, const struct op_path *prefix); /* calls, timers, children, waits */

/* ---- ending.c ---- */
void run_finish(struct run *run, struct span output, struct span values);
void run_fail(struct run *run, struct span error); /* appends RUN_FAILED; a new attempt when the policy has one left */
void run_fail_code(struct run *run, const char *code, const char *category, bool retryable, const char *message);
void run_cancel_now(struct run *run, struct span reason, struct span by);
void run_rest(struct run *run); /* nothing in flight and somebody is asked: waiting */
void run_tell_parent(struct run *run);

/* The next attempt, from `saved` (a machine's state; empty: from the input); the attempt's row must have been written. */
void run_open_attempt(struct run *run, struct uuid next, struct span saved);
struct span run_saved_state(struct run *run); /* in the turn's arena; empty when there is none */

/* ---- failure.c ---- */
enum { FAILURE_RUN, FAILURE_NODE };                  /* scope; stored */
enum { FAILURE_OPEN, FAILURE_RETRIED };              /* status; stored */
/* A row in the turn's batch. op: the node execution, or NULL. */
struct uuid failure_put(struct run *run, int scope, int status, const struct op *op, struct span error);

/* ---- stat.c: rows of figures, in the turn's batch; nothing in a fold ---- */
void stat_node(struct run *run, const struct op *op, int status, struct span error); /* it ended; error: of a failed one */
void stat_nodes_open(struct run *run);   /* those that outlive the commit under way */
void stat_nodes_cut(struct run *run);    /* the attempt ends, and they with it */
void stat_run_ended(struct run *run);
void stat_run_again(struct run *run);    /* it had ended, and goes on */
void stat_handoff(struct run *run, uint64_t seq);
void stat_failure(struct run *run, struct span category); /* of scope run */

/* ---- session.c ---- */
void session_run_finished(struct run *run, struct span output); /* its answers become messages of its session */

/* ---- retry.c ---- */
void run_load_start(struct run *run); /* the state that a later attempt begins with, when the run comes from the store */

/* ---- record.c ---- */
/* Starts a payload: {"node":name, when it has one. Finish with payload_end. */
struct jw payload_begin(struct engine *engine, struct span node);
struct span payload_end(struct engine *engine, struct jw *w);
/* A value member, cut at 256 KiB (AR L9). Returns true when it was cut. */
bool payload_value(struct jw *w, const char *name, struct span json);
/* priv of a recorded input: {"us":…,"p":[…],"e":…?,"v":…}. */
struct span input_priv(struct engine *engine, uint64_t elapsed_us, const struct op_path *path, struct span value);
/* The same with the class of failure, and further members as JSON text without braces (may be empty). */
struct span input_priv_more(struct engine *engine, uint64_t elapsed_us, const struct op_path *path, enum err err, struct span more,
                            struct span value);
/* True for what the host recorded on its own account: neither asked for by the machine nor given to it. Its priv begins so. */
#define HOST_PRIV "{\"host\":"
static inline bool record_by_host(const struct record *record)
{
    return record->priv.n >= sizeof HOST_PRIV - 1 && memcmp(record->priv.p, HOST_PRIV, sizeof HOST_PRIV - 1) == 0;
}
/* Appends, or in a fold takes the recorded one of that type and operation instead; returns its seq. *ret_pub (may be NULL) is
 * the payload that counts: the recorded one in a fold. */
uint64_t run_record(struct run *run, enum record_type type, uint8_t flags, unsigned wf, uint32_t op, uint32_t parent,
                    struct span pub, struct span priv, struct span *ret_pub);
void run_record_delta(struct run *run, struct record *delta);
void path_json(struct jw *w, const struct op_path *path); /* an array of its parts */
void path_read(struct jv list, struct op_path *ret);
void path_text(const struct op_path *path, struct buf *out); /* for timers' payload and logs */

/* ---- money.c ---- */
enum cap { CAP_USD, CAP_TOKENS, CAP_MODEL_CALLS, CAP_TOOL_CALLS, CAP_SECONDS, CAP_COUNT };
enum admit { ADMIT_GO, ADMIT_HELD, ADMIT_FAILED }; /* HELD: a person is asked, or its refusal is an input; FAILED: the run has ended */
enum { BUDGET_BIT = 1 << 26 };                     /* in the number of a budget's wait, so that no machine has it */
struct spend_day {             /* of a workspace */
    struct spend_row row;
    struct cost      reserved;
};
void        cost_add(struct cost *sum, const struct cost *more);
struct cost cost_of(const struct run *run, const struct inflight *call, struct jv answer);
/* Of one that failed: the usage that the error reports; else, when something was shown, what was reserved for it; else the call alone. */
struct cost cost_of_failed(const struct run *run, const struct inflight *call, enum err err, struct jv error);
void        cost_put(struct jw *w, const struct cost *cost); /* cost_usd, cost_known; nothing when there was no call */
struct span cost_priv(struct arena *arena, const struct cost *cost); /* a member of priv */
struct cost cost_read(struct jv priv);
void        cost_book(struct run *run, const struct op_path *path, const struct cost *cost);
/* After its intent is recorded: may the call be made? What it may cost is reserved. */
enum admit  money_admit_model(struct run *run, struct inflight *call);
enum admit  money_admit_tool(struct run *run, struct tool_flight *flight);
void        money_reserve(struct run *run, struct inflight *call); /* without asking: it goes on after a restart */
void        money_settle(struct run *run, struct inflight *call, const struct cost *cost);
/* A restart met it on its way: what was reserved counts, and the call that takes its place has a reservation of its own. */
struct cost money_lost(struct run *run, struct inflight *call);
void        money_abandon(struct run *run, struct inflight *call);
void        money_answered(struct run *run, struct span details, struct span value, bool rejected);
/* May this answer raise a cap? The schema of the question has no word for decimal text. */
bool        money_raise_fits(struct jv answer, struct arena *arena);
void        money_free(struct engine *engine);

/* ---- inflight.c: model calls ---- */
void inflight_begin(struct run *run, struct inflight *call, uint64_t skip); /* to be started after the commit */
void inflight_cancel_under(struct run *run, const struct op_path *prefix); /* n == 0: all */
void inflight_free(struct inflight *call);
bool inflight_any(const struct run *run); /* something will answer without a person */
/* A failure that the machine does not see: the call is made again, later. False: it is its last try. */
bool inflight_retry(struct run *run, const struct pending_input *in);
void inflight_due(struct run *run);       /* makes those again whose time has come */
/* The next try of a lost call: its intent, under a new operation. */
void inflight_again(struct run *run, struct inflight *call);
void inflight_chunk(struct inflight *call, enum model_chunk_kind kind, struct span text); /* to the ledger */

/* ---- tools.c: tool calls ---- */
void tool_apply(struct run *run, const struct effect *fx);
void tool_abort_under(struct run *run, const struct op_path *prefix); /* n == 0: all */
bool tool_in_flight(const struct run *run); /* something will answer without a person or a client */
/* Records the input and lets go of the call. False: nothing is in flight under that path (a late answer). */
bool tool_record(struct run *run, const struct pending_input *in);
void tool_go_live(struct run *run); /* after a fold */
struct tool_flight *tool_flight_at(const struct run *run, const struct op_path *path);
void tool_forget(struct run *run, const struct op_path *path); /* in a fold: it was answered */
void tool_fold_receipt(struct run *run, const struct record *record, const struct op_path *path); /* in a fold, before tool_forget */
void tool_answered_by_person(struct run *run, struct op_path wait, struct span answer, bool rejected, struct span by);
void tool_drop_unanswered(struct run *run, const struct op_path *wait); /* the calls of an expired wait of kind tools */
void tool_release(struct run *run, bool stop, struct span why); /* what a budget held: it goes, or is refused */
void tool_quiesce(struct run *run);
struct op_path tool_of_wait(struct op_path wait); /* the call that a receipt wait stands for */
void tool_save(const struct run *run, struct jw *w);
void tool_load(struct run *run, struct jv body);

/* ---- local.c: tools that the host itself is, answered in the commit of the intent ---- */
void local_call(struct run *run, struct tool_flight *flight);
void local_free(struct engine *engine);
/* Removes values that were found to be over, unless they were written again since. */
void local_expire(struct engine *engine, const struct kv_row *rows, size_t count);

/* ---- receipts.c ---- */
struct uuid tool_key(struct run *run, const struct op_path *path, struct span node, struct span tool, struct span arguments);
/* The latest that counts for the key: a success before anything else. NULL: it was never called. */
struct receipt *receipt_find(struct run *run, struct uuid key);
struct receipt *receipt_add(struct run *run, struct uuid key, uint32_t op, struct span name);
struct receipt *receipt_of_op(struct run *run, uint32_t op); /* of the current attempt */
bool            receipt_name_used(const struct run *run, struct span name);
struct receipt *receipt_named(const struct run *run, struct span name); /* the latest of that name, or NULL */
struct span     receipt_value(struct run *run, const struct receipt *receipt); /* JSON, in the turn's arena when it was read */
void            receipt_node_finished(struct run *run, struct span node);
/* Reads the attempts before the current one. */
enum err        receipts_scan(struct run *run, struct reader *reader);
void            receipts_restart(struct run *run); /* the next attempt begins from the input: nodes are counted anew */
void            receipts_free(struct run *run);
void            receipts_save(const struct run *run, struct jw *w);
void            receipts_load(struct run *run, struct jv body);

/* ---- waits.c: what people and clients are asked ---- */
void wait_apply(struct run *run, const struct effect *fx);
/* A question of the host's own, about the operation `op` at `path`. */
void wait_ask(struct run *run, enum wait_kind kind, struct op_path path, uint32_t op, struct span node, struct span call_name,
              struct span prompt, struct span schema, struct span details);
/* REC_NODE_WAITING; the waits of the node that were opened in this step go with it. `reason`: JSON, empty: by what it waits for. */
void wait_note(struct run *run, const struct op *node, struct span name, struct span reason, bool host);
void wait_note_rest(struct run *run);  /* at the end of a step: nodes that wait and were not noted by their machine */
void wait_fold_host(struct run *run, const struct record *record); /* REC_WAIT_OPENED of the host's */
struct open_wait *wait_at(const struct run *run, const struct op_path *path);
struct open_wait *wait_first_person(const struct run *run); /* the oldest that a person answers, or NULL */
void wait_close(struct run *run, struct open_wait *wait, enum wait_status status, struct span answer, struct span by); /* frees it */
/* The client's calls that this wait of kind tools stands for are all answered: it is over. */
void wait_tools_answered(struct run *run, const struct op_path *call);

/* ---- recover.c ---- */
struct fold {
    struct record *records; /* behind the snapshot, in order; spans in `arena` */
    size_t         count, at;
    struct arena  *arena;
    uint64_t       until;   /* the seq of a checkpoint to stop at, its state goes to `hashed`; 0: all there is */
    bool           cut;     /* with until: the machine stops behind that checkpoint */
    bool           closed;  /* the attempt is over: its terminal record is left out, and so is what led to it */
    struct span    hashed;  /* p NULL: the checkpoint was not met */
    enum err       err;
    struct error   error;
};
/* In a fold: the next record that the machine's effect must equal; false: the run diverged (run->fold->err). */
bool     fold_take(struct run *run, enum record_type type, uint32_t op, uint64_t *ret_seq, struct span *ret_pub);
/* An input as it was recorded; spans live in the arena or in the record. The start has no value. */
struct input fold_recorded(const struct record *record, struct arena *arena);
bool         fold_superseded(const struct record *record, struct arena *arena); /* not an input: the call was made again */
/* Feeds what the ledger of run->row.stream holds, from the newest snapshot that will do, to a machine of run->plan. */
enum err fold_ledger(struct run *run, struct reader *reader, struct fold *fold);
/* Rebuilds machine, ops, calls, waits, timers from snapshot and ledger. Reads through the engine's reader (a snapshot must be
 * open). */
enum err run_fold(struct run *run, struct reader *reader, struct arena *arena, struct error *error);
void     run_go_live(struct run *run); /* after a fold: open intents are taken up again */
enum err engine_recover(struct engine *engine, struct error *error);

/* ---- checkpoint.c ---- */
struct cut {
    struct span saved;         /* the machine's state right behind the checkpoint, for ops->load */
    struct span hashed;        /* as checkpoint_read has it */
    bool        between_tries; /* a node waited for its next try */
};
/* `row` as for checkpoint_read; ERR_CHECKPOINT_NOT_FOUND, ERR_CORRUPT. */
enum err checkpoint_cut(const struct engine *engine, struct reader *reader, const struct run_row *row, uint64_t seq, struct arena *arena,
                        struct cut *ret);

/* ---- replay.c: all accept a run that is no replay ---- */
/* Reads the source again and what the current attempt has recorded so far. False: a strict replay has lost its source. */
bool     replay_open(struct run *run, struct reader *reader);
bool     replay_reopen(struct run *run); /* the same, with the engine's reader */
void     replay_close(struct run *run);  /* the attempt is over; what it read stays until replay_free */
void     replay_free(struct run *run);
bool     replay_is_strict(const struct run *run); /* nothing leaves the process */
uint64_t replay_seed(const struct run *run, uint64_t otherwise);
/* What is recorded; an effect that makes another of its node possible or has a seq in it, right behind its record, others before
 * it. False: a strict replay differs here for the first time; nothing more is to be recorded of the step. */
bool     replay_check(struct run *run, enum record_type type, struct span pub, struct span priv);
bool     replay_finish(struct run *run, struct span hashed, struct span output); /* the same for the end */
bool     replay_broken(const struct run *run); /* strict, and a difference was recorded */
void     replay_break(struct run *run);        /* ends a broken one */
/* Before the terminal record. False: it differs from the source's, and the run has ended for that. */
bool     replay_end(struct run *run, enum record_type how, struct span value);
/* A failing attempt of a strict replay: does another follow? As in the source. */
bool     replay_again(const struct run *run, bool otherwise);
/* Strict: gives what the source got, as far as a turn may go. False: there is more, or the run was ended. */
bool     replay_feed(struct run *run);

/* ---- cron.c ---- */
enum err cron_start(struct engine *engine, struct error *error); /* reads them all; those that were missed run now */
void     cron_free_all(struct engine *engine);

/* ---- gauge.c ---- */
enum err gauge_start(struct engine *engine, struct error *error); /* counts what the store holds; before anything changes */

/* ---- sweep.c ---- */
void sweep_start(struct engine *engine);

/* ---- retention.c ---- */
void retention_start(struct engine *engine);

/* ---- catalog.c ---- */
struct plan *catalog_plan(struct engine *engine, struct sha256 hash, struct error *error); /* opened, shared */
/* A plan of one's own, for any thread: reads nothing of the engine but its table of machines. NULL: it cannot be read. */
struct plan *plan_load(const struct engine *engine, struct reader *reader, struct sha256 hash);
void         plan_free(struct plan *plan); /* accepts NULL */
void         catalog_free(struct engine *engine);
