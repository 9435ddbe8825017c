/* SPDX-License-Identifier: Apache-2.0 */
/* team_sim.h - a simulated host for team machines: a virtual clock, a scripted provider and scripted tools (teams.md 17).
 *
 * It carries out the effects of the machine from a scenario and feeds what came of them back, so that a scenario's run is the
 * machine's own and everything around it is as the contract lays down. Nothing here is used by a server. */
#pragma once
#include "team/result.h"
#include "team/team.h"
#include "team/tools.h"

/* Called behind each step of a machine with the machine as it is; it may put another one in its place (a saved and loaded one).
 * NULL: nothing happens. */
struct sim_probe {
    void (*stepped)(void *user, const struct plan *plan, struct arena *arena, struct machine **machine);
    void *user;
};

/* Runs the scenario and writes what an expected file says (teams.md 17.2) as a JSON object. ERR_VALIDATION when the scenario
 * is none. `probe` may be NULL. */
enum err sim_scenario(struct jv scenario, const struct sim_probe *probe, struct buf *out, struct error *error);

/* ---- inside ---- */

enum sim_timer_kind { SIM_LIMIT, SIM_CANCEL, SIM_PROVIDER, SIM_RETRY, SIM_TOOL, SIM_TOOL_LIMIT };

struct sim_run;
struct sim_timer {
    double              due_ms;
    uint64_t            order;
    enum sim_timer_kind kind;
    struct sim_run     *run;
    void               *what; /* sim_call or sim_tool */
    uint32_t            stamp; /* of the call or tool when it was set: a later one makes it void */
};

/* Something thrown; `json` is its value in the arena of the simulation. */
struct sim_thrown {
    struct span json;
    bool        is_error;
};

/* A model call: what the provider does with it. */
struct sim_call {
    struct sim_call *next;
    uint32_t    number, attempt, stamp;
    struct span request; /* as the provider sees it */
    struct jv   step;
    size_t      chunk;   /* streaming: the next one */
    struct buf  text;
    struct jv   usage, cost, finish, tools, metadata; /* remembered of the chunks */
    bool        open, hanging, sleeping;
};

/* A tool call that has begun. */
struct sim_tool {
    struct sim_tool *next;
    struct op_path op;
    uint32_t       call, index, stamp;
    struct jv      tool;  /* of the scenario */
    struct jv      input, context;
    bool           open;
    double         timeout_ms; /* code execution with a limit, or negative */
};

struct sim {
    struct arena   *arena;
    struct jv       scenario, provider;
    double          now_ms;
    uint64_t        timer_orders, run_ids, draws;
    size_t          steps_used;
    size_t         *http_used; /* by tool: replies taken */
    struct sim_timer *timers;
    size_t          timer_count, timer_cap;
    const struct sim_probe *probe;
    struct buf      requests, logs, retries, urls, warnings, artifacts; /* JSON lists without brackets */
};

struct sim_queue_item {
    enum input_kind kind;
    struct op_path  op;
    enum err        err;
    struct span     value;
};

struct sim_run {
    struct sim     *sim;
    struct plan     plan;
    bool            streams; /* a stream handle, not run() */
    double          start_ms;
    uint64_t        seq;
    struct machine *machine;
    struct arena    machine_arena, step_arena;
    struct effects  fx;
    struct team_trace trace;
    struct span     run_id;  /* empty: never started */
    size_t          published;
    struct buf      events;  /* published ones, JSON list without brackets */
    struct span    *event_items;
    size_t          event_count, event_cap;
    struct sim_call *calls; /* in the order in which they began */
    struct sim_tool *tools;
    struct sim_queue_item *queue;
    size_t          queue_head, queue_tail, queue_cap;
    bool            done;
    const char     *status;  /* completed, failed, cancelled; NULL: no handle */
    struct sim_thrown failure;
    bool            aborted; /* the caller's token fired, and nobody races with it (run() without a limit) */
    struct sim_thrown reason;
};

double   sim_number(struct jv v, double otherwise);
void     sim_timer(struct sim_run *run, enum sim_timer_kind kind, double delay_ms, void *what, uint32_t stamp);
struct sim_thrown sim_thrown_of(struct sim *sim, struct jv error);
void     sim_list_add(struct buf *list, struct span json);
void     sim_answer(struct sim_run *run, enum input_kind kind, struct op_path op, enum err err, struct span value);
void     sim_fail(struct sim_run *run, struct sim_thrown error, const char *status);
int64_t  sim_wall(const struct sim *sim);
void     sim_publish(struct sim_run *run);
struct sim_thrown sim_abort_error(struct sim_run *run);
void     sim_error_json(const struct sim_thrown *error, struct buf *out);

/* team_sim_provider.c */
void sim_call_start(struct sim_run *run, uint32_t number, struct span request);
void sim_call_timer(struct sim_run *run, struct sim_call *call, enum sim_timer_kind kind);
void sim_calls_abort(struct sim_run *run);

/* team_sim_tools.c */
struct jv sim_tool_manifest(struct sim *sim, struct jv tool); /* {"identity","inputSchema","permissions"?} */
void sim_tool_start(struct sim_run *run, const struct effect *fx);
void sim_tool_timer(struct sim_run *run, struct sim_tool *tool, enum sim_timer_kind kind);
void sim_tools_abort(struct sim_run *run);
