/* SPDX-License-Identifier: Apache-2.0 */
/* perdure.h - the public C API of libperdure: an engine inside your own process.
 *
 * An engine keeps its runs in a data folder (or a PostgreSQL database) exactly as `perdure serve` does: a run goes on after the
 * process died and the engine was opened again, and the same folder can be served later. One folder has one engine at a time.
 *
 *     struct pd_config  config = PD_CONFIG_INIT;
 *     struct pd_engine *engine;
 *     struct pd_error   error;
 *     config.data = "./perdure-data";
 *     if (pd_open(&config, &engine, &error) != PD_OK) ...
 *
 * Results   Functions that can fail return an enum pd_code: PD_OK is 0, what is wrong is negative, PD_TIMEOUT and PD_END are
 *           positive. On a negative code `error` (which may be NULL) says why. Results are written to `ret_...` arguments and
 *           only when PD_OK is returned.
 * Ownership Arguments are borrowed for the call: the library copies what it keeps. A `char *` that is handed out is yours:
 *           pd_free. A `const char *` belongs to the object it came from.
 * Threads   All functions may be called from any thread; an engine may be used by many threads at once, and a process may have
 *           several engines. One struct pd_events is used by one thread at a time. The library starts threads of its own, in
 *           which all signals are blocked; it installs no signal handler and never prints. A child made by fork() must not use
 *           an engine of its parent.
 * Text      UTF-8, ended by NUL. JSON comes in and goes out as text; ids are UUIDs of 36 characters in lower case.
 * Units     Times are milliseconds. A time-out below 0 waits without end, 0 does not wait.
 * Memory    Out of memory ends the process with a line on stderr, as everywhere in Perdure: what was committed is safe.
 * ABI       Handles are opaque. Structs that you fill begin with their own size (use the PD_..._INIT macros); members are only
 *           ever added at their end, and a shorter struct means the defaults for what it lacks. struct pd_error never changes.
 *
 * C99 and C++11. */
#ifndef PERDURE_H
#define PERDURE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PD_API __attribute__((visibility("default")))
#else
#define PD_API
#endif

/* ---- results ---- */

enum pd_code {
    PD_OK        = 0,
    PD_TIMEOUT   = 1,  /* nothing happened in that time; no error */
    PD_END       = 2,  /* there is nothing more to read; no error */
    PD_INVALID   = -1, /* an argument, a definition or an input is wrong; `field` says where */
    PD_NOT_FOUND = -2, /* no such run, agent, thread, attempt or question */
    PD_CONFLICT  = -3, /* not possible in the state that the thing is in */
    PD_LIMIT     = -4, /* a queue is full */
    PD_GONE      = -5, /* it was there; retention has removed its events */
    PD_CLOSED    = -6, /* the engine is being closed */
    PD_STORAGE   = -7, /* the store cannot be opened, read or written, or another engine has it. After a failed commit the
                          engine takes nothing any more: close it and open it again */
    PD_INTERNAL  = -8,
};

/* Why something failed. Yours; plain values, nothing to free. */
struct pd_error {
    int  code;         /* enum pd_code */
    char reason[48];   /* a stable word, finer than the code, the same as over HTTP: "run_not_found", "validation_failed" ... */
    char field[128];   /* JSON pointer into the definition or input, or the name of the argument; "" when there is none */
    char message[256]; /* for people */
};

/* "0.1.0": of the library that is loaded. */
PD_API const char *pd_version(void);
/* "PD_OK" ...; "PD_INTERNAL" for a number that is none. Valid for ever. */
PD_API const char *pd_code_name(int code);
/* Frees what the library handed out as `char *`. Accepts NULL. */
PD_API void pd_free(char *text);

/* ---- engines ---- */

struct pd_engine;

enum pd_log_level { PD_LOG_DEBUG, PD_LOG_INFO, PD_LOG_WARN, PD_LOG_ERROR, PD_LOG_OFF };

/* One line without its end. Called from threads of the library, from several at once; must not call the engine. */
typedef void (*pd_log_fn)(int level, const char *line, void *user);

struct pd_config {
    size_t      size;         /* sizeof(struct pd_config) */
    const char *data;         /* the data folder, required; made when it is missing */
    const char *store;        /* where the ledger is: "sqlite:DIR" or "postgres://..."; NULL: in the data folder */
    const char *config;       /* JSON as in the file of --config: providers, prices, tools, mcp_servers, outbound, redact,
                                 budgets; NULL: none. The provider `scripted` is always there */
    pd_log_fn   log;          /* NULL: nothing is logged */
    void       *log_user;
    int         log_level;    /* what is logged: this level and above [PD_LOG_INFO] */
    int64_t     retention_ms; /* events of a run are removed so long after its end [30 days]; -1: never */
    uint32_t    thread_queue; /* runs that may wait on one thread, 1 to 100000 [64] */
};
#define PD_CONFIG_INIT { sizeof(struct pd_config), NULL, NULL, NULL, NULL, NULL, PD_LOG_INFO, 0, 0 }

/* Opens the engine and takes up every run that was in flight when the last one ended. It has threads of its own and works until
 * pd_close. PD_INVALID: the configuration. PD_STORAGE: the folder or database, also when another engine has it. */
PD_API int pd_open(const struct pd_config *config, struct pd_engine **ret, struct pd_error *error);

/* Drains and closes: what was accepted gets committed, calls to models and tools are given up, and runs that have not ended go
 * on when the engine is opened again. Calls that wait in other threads return PD_CLOSED; none may be begun. What pd_events_open
 * gave must still be closed by its owner, before or after. Returns PD_STORAGE when the engine had stopped because the store
 * failed, else PD_OK. Accepts NULL. */
PD_API int pd_close(struct pd_engine *engine);

/* ---- runs ---- */

#define PD_ID_SIZE 37 /* an id and its NUL */

enum pd_status { PD_PENDING, PD_QUEUED, PD_RUNNING, PD_WAITING, PD_COMPLETED, PD_FAILED, PD_CANCELLED };
/* "pending", "queued", "running", "waiting", "completed", "failed", "cancelled"; NULL for a number that is none. */
PD_API const char *pd_status_name(int status);

struct pd_run_config {
    size_t      size;       /* sizeof(struct pd_run_config) */
    const char *definition; /* JSON of a bundle: {"format": 1, "agent" | "workflow" | "team" | "nodes": ...}, at most 4 MiB */
    const char *agent;      /* instead: the id of an agent that the data folder has; its live bundle is run */
    const char *input;      /* JSON, at most 4 MiB; NULL: none */
    const char *thread;     /* id of the thread to run on, behind what it holds; NULL: a new one */
    const char *key;        /* idempotency key, 1 to 255 bytes: a second start with it is the first run again; NULL: none */
};
#define PD_RUN_CONFIG_INIT { sizeof(struct pd_run_config), NULL, NULL, NULL, NULL, NULL }

/* Creates a run; when this returns it is on disk and lasts. PD_INVALID: what is wrong with the definition first. */
PD_API int pd_run_start(struct pd_engine *engine, const struct pd_run_config *config, char ret_run[PD_ID_SIZE],
                        struct pd_error *error);

/* Waits until the run has ended or waits for a person: PD_COMPLETED, PD_FAILED, PD_CANCELLED or PD_WAITING. At once when it is
 * so already. PD_TIMEOUT: not yet; the run goes on. */
PD_API int pd_run_wait(struct pd_engine *engine, const char *run, int64_t timeout_ms, int *ret_status, struct pd_error *error);

/* The run as GET /v1/api/runs/{id} shows it: status, input, output or error, the question it waits for, usage, cost. */
PD_API int pd_run_get(struct pd_engine *engine, const char *run, char **ret_json, struct pd_error *error);

/* The output of a completed run, JSON. PD_CONFLICT: it has not completed. */
PD_API int pd_run_output(struct pd_engine *engine, const char *run, char **ret_json, struct pd_error *error);

/* `reason` (NULL: none) is kept. PD_OK also when it was cancelled before. PD_CONFLICT: it has completed or failed. */
PD_API int pd_run_cancel(struct pd_engine *engine, const char *run, const char *reason, struct pd_error *error);

/* Answers what the run asks a person; `input` is JSON. `approval` says which question is meant when a run has several (member
 * approval_id of pd_run_get and of events); NULL: the one it waits for. PD_CONFLICT: nothing is asked, or it was answered.
 * PD_INVALID: the answer does not fit the question's schema; the run still waits. */
PD_API int pd_run_answer(struct pd_engine *engine, const char *run, const char *approval, const char *input,
                         struct pd_error *error);

/* ---- events ---- */

struct pd_events;

/* Follows the events of one attempt of a run from the one behind `after_seq` on (0: from the first). `attempt`: its id, or NULL
 * for the run's current one. Nothing is held in memory but a window of 256 KiB; a follower that rests reads on from the ledger. */
PD_API int pd_events_open(struct pd_engine *engine, const char *run, const char *attempt, uint64_t after_seq,
                          struct pd_events **ret, struct pd_error *error);

/* The next event, as JSON like GET /v1/api/runs/{id}/events shows it: {"id", "seq", "type", "timestamp", "payload" ...}. Each
 * comes once, in order, and only when it is on disk. *ret_json is valid until the next call on `events`.
 * PD_TIMEOUT: none in that time. PD_END: the attempt has ended and all of it was read. PD_CLOSED: pd_close was called; open the
 * engine again and follow on from pd_events_seq. */
PD_API int pd_events_next(struct pd_events *events, int64_t timeout_ms, const char **ret_json, struct pd_error *error);

/* seq of the event that was handed out last; `after_seq` before the first. */
PD_API uint64_t pd_events_seq(const struct pd_events *events);

/* Accepts NULL. Never changes the run. */
PD_API void pd_events_close(struct pd_events *events);

/* ---- teams ---- */

/* The trace of a team's run (schema 1.0). `node`: which node's team, for a workflow that has several; else NULL. PD_CONFLICT:
 * the team has not finished. PD_NOT_FOUND: no such run, or no team in it. */
PD_API int pd_team_trace(struct pd_engine *engine, const char *run, const char *node, char **ret_json, struct pd_error *error);

/* The result that belongs to a trace: output, events, transcript, usage, cost. Needs no engine and calls nobody. PD_INVALID:
 * this is no trace of schema 1.0. */
PD_API int pd_team_replay(const char *trace, char **ret_json, struct pd_error *error);

#ifdef __cplusplus
}
#endif
#endif
