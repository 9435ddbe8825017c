/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - what the commands share: exit codes, the terminal, calls with printed errors, and every command's
 * function.
 *
 * A command is `int cmd_…(struct cli *cli, int argc, char **argv)`: argv[0] is the command's own (last) word, the
 * return value is the exit code. Commands print; the modules below them (args, http, follow) return errors. */
#pragma once
#include "base/json.h"
#include "cli/args.h"
#include "cli/http.h"
#include <stdio.h>

#ifndef PERDURE_VERSION /* the build says it; this is for builds by hand */
#define PERDURE_VERSION "0.1.0"
#endif

/* Documented in `perdure help`: scripts depend on them. */
enum exit_code {
    EXIT_OK          = 0,   /* done; a watched run completed */
    EXIT_FAILED      = 1,   /* a watched run failed; doctor found something broken */
    EXIT_USAGE       = 2,   /* the command line or a file is wrong */
    EXIT_CANCELLED   = 3,   /* a watched run was cancelled */
    EXIT_WAITING     = 4,   /* a watched run waits for a person and there is no terminal to ask, or for its client's tool */
    EXIT_SERVER      = 5,   /* the server cannot be reached or refused the request */
    EXIT_AUTH        = 6,   /* no or a wrong token, or not enough rights */
    EXIT_TIMED_OUT   = 7,   /* --timeout is over; the run goes on */
    EXIT_INTERRUPTED = 130, /* Ctrl-C */
};

struct cli {
    bool in_tty, out_tty, err_tty;
    bool out_color, err_color; /* a terminal, and NO_COLOR is unset */
};

enum paint { PAINT_OFF, PAINT_BOLD, PAINT_DIM, PAINT_RED, PAINT_GREEN, PAINT_YELLOW, PAINT_BLUE, PAINT_COUNT };

struct cli  cli_here(void);                        /* looks at the three standard descriptors and the environment */
const char *cli_paint(bool color, enum paint paint); /* an escape sequence, or "" without colour */
enum paint  cli_status_paint(struct span status);  /* of a run's status */

/* "perdure COMMAND: message" on stderr; returns `code`. */
int cli_fail(const struct cli *cli, const char *command, int code, const char *format, ...) PRINTF(4, 5);

/* Opens the connection that the options describe; prints and returns an exit code when they are no good. */
int cli_connect(const struct cli *cli, const char *command, const struct web_options *options, struct web **ret);
/* One call. EXIT_OK: a 2xx answer, *ret is its JSON (absent when the body was empty). Otherwise the problem was
 * printed, validation errors one per line, and the result is EXIT_AUTH or EXIT_SERVER; *ret_status (may be NULL) is
 * the HTTP status or 0 when there was no answer. */
int cli_ask(const struct cli *cli, const char *command, struct web *web, const struct web_request *request,
            struct arena *arena, struct jv *ret, int *ret_status);
/* Prints why a reply is no success, like cli_ask does, and returns the exit code. */
int cli_problem(const struct cli *cli, const char *command, const struct web_reply *reply, struct arena *arena);

/* Text from outside for a terminal: control characters become '?', so that no output of a model or a name drives it. */
void cli_put_safe(FILE *out, struct span text, bool terminal);
/* A JSON value for people (indented on a terminal) or as one line. Ends with a newline. */
void cli_put_json(FILE *out, struct jv value, bool pretty);
/* A table or field value: strings unquoted, everything else as JSON; "-" when absent or null. Lives in the arena or
 * the doc. */
struct span cli_text(struct jv value, struct arena *arena);
/* "850 ms", "3.2 s", "4 min 05 s", "2 h 10 min", "3 d 4 h". */
struct span cli_duration(int64_t ms, struct arena *arena);

/* A whole file, or stdin for "-", at most 16 MiB. */
enum err cli_read(const char *path, struct buf *out, struct error *error);
/* JSON from an option: the text itself, or @FILE, or @- for stdin. The document lives in the arena. */
enum err cli_json_option(const char *option, const char *value, struct arena *arena, struct jv *ret,
                         struct error *error);

/* Options that every command that talks to a server has; `member` is a struct web_options. */
#define CONNECTION_OPTS(type, member)                                                                                                 \
    { "server", "PERDURE_URL", OPT_TEXT, offsetof(type, member.server), "URL", "the server, default " WEB_DEFAULT_URL, 0, 0 },         \
        { "token", "PERDURE_TOKEN", OPT_TEXT, offsetof(type, member.token), "TOKEN",                                                  \
          "the token; without it the file DIR/token of --data is read", 0, 0 },                                                       \
        { "data", "PERDURE_DATA", OPT_TEXT, offsetof(type, member.data), "DIR",                                                       \
          "data folder of a server on this machine, default " WEB_DEFAULT_DATA, 0, 0 },                                               \
        { "workspace", "PERDURE_WORKSPACE", OPT_TEXT, offsetof(type, member.workspace), "ID",                                         \
          "workspace, for tokens that may use several", 0, 0 }

/* ---- doctor, for the one who adds checks ---- */
struct doctor;
enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };
/* One line of the report: `check` is a short stable name, `advice` says what to do (NULL for DOCTOR_OK). */
void doctor_report(struct doctor *doctor, enum doctor_level level, const char *check, const char *advice,
                   const char *format, ...) PRINTF(5, 6);
/* Reports on each model provider of a configuration file. Written next to the loader of that file. Returns 0, or 1
 * when the file itself is unusable (reported too). */
int doctor_providers(const char *config_path, struct doctor *doctor);

/* ---- commands ---- */
int cmd_serve(struct cli *cli, int argc, char **argv); /* serve.c */
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_runs_list(struct cli *cli, int argc, char **argv);
int cmd_runs_show(struct cli *cli, int argc, char **argv);
int cmd_runs_follow(struct cli *cli, int argc, char **argv);
int cmd_runs_cancel(struct cli *cli, int argc, char **argv);
int cmd_runs_resume(struct cli *cli, int argc, char **argv);
int cmd_runs_inspect(struct cli *cli, int argc, char **argv);
int cmd_runs_failures(struct cli *cli, int argc, char **argv);
int cmd_runs_rerun(struct cli *cli, int argc, char **argv);
int cmd_runs_retry(struct cli *cli, int argc, char **argv);
int cmd_runs_replay(struct cli *cli, int argc, char **argv);
int cmd_approvals_list(struct cli *cli, int argc, char **argv);
int cmd_approvals_approve(struct cli *cli, int argc, char **argv);
int cmd_approvals_reject(struct cli *cli, int argc, char **argv);
int cmd_crons_list(struct cli *cli, int argc, char **argv);
int cmd_crons_create(struct cli *cli, int argc, char **argv);
int cmd_crons_delete(struct cli *cli, int argc, char **argv);
int cmd_crons_trigger(struct cli *cli, int argc, char **argv);
int cmd_audit(struct cli *cli, int argc, char **argv);
int cmd_agents_apply(struct cli *cli, int argc, char **argv);
int cmd_agents_list(struct cli *cli, int argc, char **argv);
int cmd_agents_show(struct cli *cli, int argc, char **argv);
int cmd_token_create(struct cli *cli, int argc, char **argv);
int cmd_token_list(struct cli *cli, int argc, char **argv);
int cmd_token_revoke(struct cli *cli, int argc, char **argv);
int cmd_stream_create(struct cli *cli, int argc, char **argv);
int cmd_stream_append(struct cli *cli, int argc, char **argv);
int cmd_stream_read(struct cli *cli, int argc, char **argv);
int cmd_stream_tail(struct cli *cli, int argc, char **argv);
int cmd_stream_close(struct cli *cli, int argc, char **argv);
int cmd_stream_delete(struct cli *cli, int argc, char **argv);
int cmd_workflow_lint(struct cli *cli, int argc, char **argv);
int cmd_workflow_compile(struct cli *cli, int argc, char **argv);
int cmd_workflow_graph(struct cli *cli, int argc, char **argv);
int cmd_team_run(struct cli *cli, int argc, char **argv);
int cmd_team_replay(struct cli *cli, int argc, char **argv);
int cmd_team_bench(struct cli *cli, int argc, char **argv);
int cmd_team_conformance(struct cli *cli, int argc, char **argv);
int cmd_doctor(struct cli *cli, int argc, char **argv);
