/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the one owner of all run state: what the surfaces may ask of it.
 *
 * Everything here belongs to the engine's thread (the loop's). A call changes state in RAM, appends events and rows to the
 * turn's batch, and returns; nothing may be shown to anybody before the batch is committed: answers are sent from
 * engine_after. The turn ends with the loop's round: ready runs are stepped, frames sealed, one batch submitted. When a commit
 * fails the engine stops for good (design rule 4): after-calls get ERR_STORAGE and nothing new is accepted. */
#pragma once
#include "base/redact.h"
#include "ledger/ledger.h"
#include "machine/machine.h"
#include "model/model.h"
#include "model/price.h"
#include "net/loop.h"
#include "run/state.h"
#include "tool/tool.h"

struct engine;
struct run;

/* What tool.h offers, as a table: the engine calls tools through it. All NULL: there are none. */
struct engine_tools {
    struct tools *tools;
    enum err (*start)(struct tools *tools, const struct tool_call_config *config, struct tool_call **ret, struct error *error);
    enum err (*list)(struct tools *tools, struct span names, void (*on_end)(void *user, enum err err, struct span result, bool sent),
                     void *user, struct tool_call **ret, struct error *error);
    void (*cancel)(struct tool_call *call);
    bool (*repeat_safe)(const struct tools *tools, struct span name);
    bool (*known)(const struct tools *tools, struct span name); /* NULL: the surfaces do not ask */
};

struct engine_config {
    struct loop                     *loop;
    struct store                    *store;
    struct models                   *models;
    struct engine_tools              tools;
    const struct redact             *redact; /* what never reaches the ledger; NULL: nothing */
    const struct prices             *prices;     /* NULL: no price is known */
    struct plan_budget               run_budget; /* caps of runs whose plan has none of its own */
    struct plan_budget               day_budget; /* caps of a workspace and day (UTC); seconds is not looked at */
    const struct machine_ops *const *machines; /* NULL-terminated; the graph first, then what its nodes may hold */
    struct ledger_config             ledger;   /* store and env are filled in here */
    uint32_t                         thread_queue_max;  /* pending runs per thread [64] */
    uint32_t                         snapshot_records;  /* folded records behind the last snapshot [256] */
    uint64_t                         snapshot_max;      /* bytes; above: state_too_large [16 MiB] */
    uint32_t                         worker_retries_max;
    int64_t                          retention_ms;      /* a ledger goes so long after its run ended; 0: never */
};

enum err engine_new(const struct engine_config *config, struct engine **ret, struct error *error);
/* Recovers every run that was in flight. Call once, before requests are taken. */
enum err engine_start(struct engine *engine, struct error *error);
/* For store_config.deliver: any thread. `user` is a struct engine_inbox made before the store. */
struct engine_inbox;
struct engine_inbox *engine_inbox_new(struct loop *loop);
void                 engine_inbox_free(struct engine_inbox *inbox); /* after store_close */
void                 engine_inbox_flush(struct engine_inbox *inbox); /* the loop has ended: finishes what was delivered */
void                 engine_inbox_deliver(void *user, struct mail *chain);
void                 engine_attach_inbox(struct engine *engine, struct engine_inbox *inbox);
/* No new turns; followers are told; what is queued gets committed. Then loop_stop. */
void engine_drain(struct engine *engine);
bool engine_draining(const struct engine *engine);
void engine_free(struct engine *engine); /* after store_close */

struct loop   *engine_loop(struct engine *engine);
struct store  *engine_store(struct engine *engine);
struct ledger *engine_ledger(struct engine *engine);
struct models *engine_models(struct engine *engine);
bool           engine_knows_tool(const struct engine *engine, struct span name);
const struct prices *engine_prices(const struct engine *engine); /* NULL: none */
struct env    *engine_env(struct engine *engine);
const struct redact *engine_redact(const struct engine *engine); /* for rows that are not runs'; may be NULL */
struct reader *engine_reader(struct engine *engine); /* the engine thread's own, for look-ups by key */
struct uuid    engine_mint(struct engine *engine);
uint64_t       engine_new_stream(struct engine *engine); /* a stream number: rises with time */
int64_t        engine_now_ms(struct engine *engine);

/* ERR_OK while writes are accepted; else ERR_DRAINING or ERR_STORAGE. */
enum err engine_ready(struct engine *engine, struct error *error);
/* The turn's batch, for rows that are not runs' (tokens, agents …). */
struct batch *engine_batch(struct engine *engine);
/* fn(arg, err) once everything done so far in this turn is on disk (ERR_OK) or never will be (ERR_STORAGE). */
void engine_after(struct engine *engine, void (*fn)(void *arg, enum err err), void *arg);

struct engine_stats {
    uint64_t runs_live, runs_parked, runs_created, runs_ended, ledgers_expired, turns, inputs, model_calls, tool_calls, threads_live;
    uint64_t by_status[RUN_STATUS_COUNT]; /* transitions into it since start */
    int64_t  now[RUN_STATUS_COUNT];       /* runs that are in it; of the statuses that end a run only what changed since start */
    uint64_t tokens_in, tokens_out;       /* as models reported them */
    uint64_t cost_pico, calls_unpriced;   /* in 10^-12 USD, of the calls that have a price; and the number of the others */
    uint64_t budgets_reached, model_retries, receipts_asked;
    int64_t  pending_since_ms;            /* created_ms of the pending run that waits longest, as of the last look; 0: none */
};
void engine_stats(const struct engine *engine, struct engine_stats *ret);
/* Has pending_since_ms looked up when that was done more than ten seconds ago. The answer is there a moment later. */
void engine_look_pending(struct engine *engine);

/* ---- catalog: agents, bundles, plans (kept in RAM once used; rows are written through) ---- */
struct agent {
    struct agent_row row;      /* spans live in `arena` */
    struct arena     arena;
    int64_t          versions; /* the last number given; 0: not yet counted */
};
struct bundle {
    struct bundle_row row;
    struct arena      arena;
    struct plan      *plan; /* NULL until used */
};
/* NULL when absent or of another workspace. */
struct agent  *catalog_agent(struct engine *engine, struct uuid workspace, struct uuid id);
struct bundle *catalog_bundle(struct engine *engine, struct uuid workspace, struct uuid id);
/* Takes copies of the row's spans, puts it into the turn's batch. Inserts or changes. */
struct agent  *catalog_put_agent(struct engine *engine, const struct agent_row *row);
struct bundle *catalog_put_bundle(struct engine *engine, const struct bundle_row *row);
/* A version on its way to disk, or NULL: then the store has it. */
struct version_row *catalog_version(struct engine *engine, struct uuid id);
void                catalog_put_version(struct engine *engine, const struct version_row *row);
/* A plan that the engine does not have yet. Large ones take long: they are prepared on another thread. */
struct prepared {
    struct plan  *plan;
    struct sha256 hash;
    struct buf    definition; /* as it came, minified */
};
/* Any thread: it reads nothing of the engine but what never changes. Errors as catalog_compile; on failure *ret is empty. */
MUST_USE enum err catalog_prepare(const struct engine *engine, struct jv definition, struct prepared *ret, struct issues *issues);
void catalog_prepared_free(struct prepared *prepared); /* accepts an empty one */
/* Compiles a definition into a plan that is stored with the turn; *ret_hash names it. ERR_VALIDATION with issues (pointers
 * relative to the definition), ERR_UNSUPPORTED_BINDING when that is all that is wrong. */
enum err catalog_compile(struct engine *engine, struct jv definition, struct sha256 *ret_hash, struct issues *issues);

/* ---- money (model.md 7.2): sums over all calls and attempts, as of the last commit ---- */
enum spend_kind { SPEND_RUN, SPEND_THREAD, SPEND_DAY }; /* stored. DAY: of a workspace, id is its own */
/* Any thread, on a reader with an open snapshot. False: nothing was spent, *ret is zero. */
bool spend_read(struct reader *reader, struct uuid workspace, enum spend_kind kind, struct uuid id, int64_t day, struct spend_row *ret);
/* The bundle of a plan that comes without one (model.md 2): of the workspace's inline agent, made when it is not there yet.
 * `definition`: a bundle definition. Errors as catalog_compile. */
enum err catalog_inline(struct engine *engine, struct uuid tenant, struct uuid workspace, struct jv definition, struct sha256 *ret_plan,
                        struct issues *issues);
/* The same of what is prepared, which is taken. */
void catalog_inline_prepared(struct engine *engine, struct uuid tenant, struct uuid workspace, struct prepared *prepared);
/* NULL: the workspace has never seen this plan. */
struct bundle *catalog_inline_bundle(struct engine *engine, struct uuid workspace, const struct sha256 *plan);
struct uuid    inline_agent_id(struct uuid workspace);

/* ---- idempotency (model.md 2.2) ---- */
struct idem_hit {
    struct sha256 fingerprint;
    struct uuid   target;
    struct span   answer; /* lives in the arena given */
};
struct sha256 idem_key(struct uuid workspace, const char *scope, struct span key);
/* false: the key is free. */
bool idem_get(struct engine *engine, struct sha256 key, struct arena *arena, struct idem_hit *ret);
void idem_put(struct engine *engine, struct uuid workspace, struct sha256 key, struct sha256 fingerprint, struct uuid target,
              struct span answer);

/* ---- runs ---- */
enum run_source { SOURCE_API, SOURCE_WAIT, SOURCE_BATCH, SOURCE_CRON, SOURCE_RERUN, SOURCE_REPLAY, SOURCE_HANDOFF, SOURCE_WORKFLOW,
                  SOURCE_SESSION, SOURCE_COUNT };
const char *run_source_name(enum run_source source);

enum thread_choice { THREAD_IMPLICIT, THREAD_NEW, THREAD_GIVEN };
struct run_spec {
    struct uuid        tenant, workspace, agent;
    struct uuid        bundle;    /* nil: the agent's live one */
    enum thread_choice thread_choice;
    struct uuid        thread;    /* THREAD_GIVEN */
    struct span        input;     /* minified JSON; p NULL: none was sent */
    enum run_source    source;
    struct uuid        parent_run, parent_operation, root_operation; /* handoff; else nil */
    uint32_t           parent_op;
    struct uuid        rerun_of;  /* nil: it is none */
};
/* Checks without changing anything: ERR_AGENT_NOT_FOUND, BUNDLE_NOT_FOUND, BUNDLE_MISMATCH, NO_LIVE_BUNDLE, AGENT_ARCHIVED,
 * THREAD_NOT_FOUND, THREAD_DELETED, THREAD_QUEUE_FULL. */
enum err run_check(struct engine *engine, const struct run_spec *spec, struct error *error);
/* Creates the run and its attempt 1; it begins in this turn when its thread is free. *ret_row is the run as it is at this
 * moment (queued or pending); its spans live until the end of the turn. */
enum err run_create(struct engine *engine, const struct run_spec *spec, struct run_row *ret_row, struct error *error);
/* ERR_RUN_NOT_FOUND; ERR_INVALID_RUN_STATE with *ret_row (completed or failed). ret_already: it was cancelled before. */
enum err run_cancel(struct engine *engine, struct uuid workspace, struct uuid id, struct span reason, struct span by,
                    struct run_row *ret_row, bool *ret_already, struct error *error);
/* checkpoint: nil, or the pause that is meant. The row has status resumed and the seq of RUN_RESUMED. ERR_VALIDATION with
 * issues (pointers from /input on): the answer does not fit the prompt's schema, the run still waits. */
enum err run_resume(struct engine *engine, struct uuid workspace, struct uuid id, struct span input, struct uuid checkpoint,
                    struct span by, struct run_row *ret_row, struct issues *issues, struct error *error);
/* An answer to one open prompt, also while other branches of its run go on. The engine decides, so that of several answers one
 * wins: ERR_APPROVAL_NOT_FOUND, or ERR_INVALID_RUN_STATE with *ret_wait as far as it is known when it is not open any more. An
 * approval's input is checked against the prompt's schema (ERR_VALIDATION, pointers from /input on); a rejection's is not: it
 * must always be possible. *ret_wait lives until the end of the turn. */
struct wait_answer {
    struct uuid workspace, wait;
    struct span input; /* minified JSON */
    struct span by;
    bool        reject;
};
enum err wait_decide(struct engine *engine, const struct wait_answer *answer, struct wait_row *ret_wait, struct run_row *ret_run,
                     struct issues *issues, struct error *error);
const char *wait_kind_name(enum wait_kind kind); /* as in HUMAN_PROMPT */

/* ---- calls that a client answers (model.md 6.3, workflow-runs.md 3.6) ---- */
struct pending_call {
    struct span node, call, tool, arguments; /* call: its tool_call_id; arguments: JSON */
    struct uuid request;                     /* the model call that asked for it; nil: none did */
    uint32_t    step;                        /* of that model call, counted over the outermost node */
    bool        question;                    /* user_ask: a wait of kind ask stands for it */
    bool        made_up;                     /* no model called: a person is asked all the same; call is "ask_" and the wait's id */
    bool        approval;                    /* with made_up: yes or no */
    struct uuid wait;                        /* with made_up: what wait_decide takes */
};
/* Those that are open, in the order in which they were asked for; the run is brought back when it was parked. A run that has
 * ended has none. The spans live until the end of the turn. ERR_RUN_NOT_FOUND. */
enum err run_pending_calls(struct engine *engine, struct uuid workspace, struct uuid run,
                           void (*each)(void *user, const struct pending_call *call), void *user, struct run_row *ret_row,
                           struct error *error);
struct client_result {
    struct span call;   /* tool_call_id */
    struct span tool;   /* p NULL: not compared */
    struct span output; /* JSON; of a failed one its error object */
    bool        failed;
};
struct client_results {
    struct uuid workspace, run;
    struct span node;    /* p NULL: any */
    bool        checked; /* step and request must be those of the node's open calls */
    uint32_t    step;
    struct uuid request;
    struct span by;
    const struct client_result *items;
    size_t      count;
};
/* All of them or none, in one commit, in their order. Results that are there already do no harm when they are the same.
 * ERR_RUN_NOT_FOUND; ERR_NOT_FOUND: the node has no such calls; ERR_CONFLICT: other step or request, another result than the one
 * given before, or the run has ended; ERR_INVALID_PARAMETER: no call of this step, or of another tool. *ret_row is the run behind
 * it (of a run that has ended: its row). */
enum err run_tool_results(struct engine *engine, const struct client_results *results, struct run_row *ret_row, struct error *error);
/* Any thread: may the failed run be tried again (agent-runs.md 3.7)? ERR_OK, ERR_RETRY_NOT_POSSIBLE, ERR_THREAD_ADVANCED. */
enum err retry_check(const struct engine *engine, struct reader *reader, const struct run_row *row, struct error *error);
/* T11: a new attempt of a failed run, from where the last one stood. `from`: nil, or the node execution that must be the one to
 * be repeated. ERR_RUN_NOT_FOUND; else as retry_check, and ERR_THREAD_QUEUE_FULL. *ret_row is queued or pending. */
enum err run_retry(struct engine *engine, struct uuid workspace, struct uuid id, struct uuid from, struct run_row *ret_row,
                   struct error *error);
/* A new run on a thread of its own that begins at a checkpoint of another one (agent-runs.md 7.2). ERR_RUN_NOT_FOUND,
 * ERR_CHECKPOINT_NOT_FOUND, ERR_CHECKPOINT_NOT_REPLAYABLE, ERR_NOT_DETERMINISTIC (strict). */
struct replay_spec {
    struct uuid workspace, run, checkpoint;
    bool        strict;
    struct span reason; /* p NULL: none */
};
enum err run_replay(struct engine *engine, const struct replay_spec *spec, struct run_row *ret_row, struct error *error);
/* Calls done(user, row) after the commit in which the run is terminal or waits for a person — at once (after the turn's
 * commit) when it is so already. row NULL: storage failed. Returns a ticket for run_unwatch, 0 when the run is unknown. */
uint64_t run_watch(struct engine *engine, struct uuid workspace, struct uuid id,
                   void (*done)(void *user, const struct run_row *row), void *user);
void     run_unwatch(struct engine *engine, uint64_t ticket);
/* The stream of the attempt `attempt_no` (or by id) of a run, opened; the caller unrefs. Reads what is not in RAM. */
struct attempt_place {
    struct uuid     run, attempt;
    uint32_t        attempt_no;
    struct uuid     root_operation, parent_operation;
    struct stream  *stream;
};
/* ERR_RUN_NOT_FOUND, ERR_ATTEMPT_NOT_FOUND, ERR_LEDGER_EXPIRED, ERR_STORAGE. */
enum err attempt_open(struct engine *engine, struct uuid workspace, struct uuid run, struct uuid attempt,
                      struct attempt_place *ret, struct error *error);
/* The same for any reader, without opening the stream. `row` has workspace and id set and is filled. */
struct attempt_find {
    uint64_t stream;
    uint32_t no;
};
enum err attempt_read(struct reader *reader, struct run_row *row, struct uuid attempt, struct attempt_find *ret, struct error *error);
/* Any thread: the content of the checkpoint at `seq` of an attempt, JCS of {"next","state","step"}, by folding its ledger. `row` is
 * the run's, with attempt and stream of that attempt. ERR_CHECKPOINT_NOT_FOUND, ERR_CORRUPT. */
enum err checkpoint_read(const struct engine *engine, struct reader *reader, const struct run_row *row, uint64_t seq,
                         struct arena *arena, struct span *ret_hashed);
/* The row as it is on disk, with the committed head of its stream; spans live in the arena. */
enum err run_row_get(struct engine *engine, struct uuid workspace, struct uuid id, struct arena *arena, struct run_row *ret);

/* Any thread. The run ended longer ago than its ledger is kept: it can be neither tried again nor replayed, and what is still there
 * of its ledger may go at any moment. */
bool run_expired(const struct engine *engine, const struct run_row *row);

/* ---- crons: runs that begin by the clock (agent-runs.md 9) ---- */
/* What a cron says; the spans live in the JSON's arena. */
struct cron_config {
    struct run_spec run;       /* tenant and workspace are not filled in */
    struct span     schedule, timezone;
    bool            enabled;
    int64_t         end_ms;    /* 0: none */
};
/* From its JSON object, with an issue for everything that is wrong with it. issues NULL: it was checked before. */
void cron_read(struct jv config, struct arena *arena, struct cron_config *ret, struct issues *issues);
/* New or changed; what is due counts from now on. Copies the row. */
void cron_put(struct engine *engine, const struct cron_row *row);
bool cron_get(struct engine *engine, struct uuid workspace, struct uuid id, struct cron_row *ret); /* spans until the next change of it */
bool cron_delete(struct engine *engine, struct uuid workspace, struct uuid id);
/* When a row would run next, behind `after_ms`: any thread. 0: never. */
int64_t cron_next_ms(const struct cron_row *row, int64_t after_ms);

/* ---- ids that are derived, never stored (model.md 2) ---- */
static inline struct uuid event_id(struct uuid attempt, uint64_t seq) { return uuid_derive(attempt, UUID_EVENT, seq); }
static inline struct uuid checkpoint_id(struct uuid attempt, uint64_t seq) { return uuid_derive(attempt, UUID_CHECKPOINT, seq); }
static inline struct uuid operation_id(struct uuid run, struct uuid attempt, uint32_t op)
{
    return op ? uuid_derive(attempt, UUID_OPERATION, op) : uuid_derive(run, UUID_OPERATION, 0);
}

/* ---- sessions of the workflow surface (workflow-runs.md 5.9): a thread with numbered messages ---- */
/* ERR_NOT_FOUND. Spans live until the end of the turn. */
enum err session_read(struct engine *engine, struct uuid workspace, struct uuid id, struct session_row *ret);
/* With a thread of its own. Spans of the result are those given. */
struct session_row session_create(struct engine *engine, struct uuid tenant, struct uuid workspace, struct span customer,
                                  struct span metadata);
void session_change(struct engine *engine, struct session_row *row); /* written, with the time of now */
/* The next message; row is that of the session and is changed. content: JSON array. */
struct message_row session_append(struct engine *engine, struct session_row *row, struct span role, struct span content, struct uuid run);
struct uuid session_message_id(struct uuid session, int64_t no);
/* ERR_THREAD_BUSY while a run of it has not ended. */
enum err session_delete(struct engine *engine, struct uuid workspace, struct uuid id, struct span by, struct error *error);

/* ---- threads ---- */
/* Rows only; runs' threads are made by run_create. */
/* ERR_THREAD_NOT_FOUND. The spans of *ret_row live until the end of the turn. */
enum err thread_read(struct engine *engine, struct uuid workspace, struct uuid id, struct thread_row *ret_row, struct error *error);
enum err thread_set_metadata(struct engine *engine, struct uuid workspace, struct uuid id, struct span metadata,
                             struct thread_row *ret_row, struct error *error);
/* The thread is gone with the turn's commit; its runs stay readable. ERR_THREAD_BUSY while one of its runs has not ended, unless
 * `force`: then they are cancelled in the same commit. */
enum err thread_delete(struct engine *engine, struct uuid workspace, struct uuid id, bool force, struct span by, struct error *error);
struct uuid thread_create(struct engine *engine, struct uuid tenant, struct uuid workspace, struct span metadata, struct span values,
                          struct thread_row *ret_row);
