/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_runs.c - perdure runs list | show | follow | cancel | resume. */
#include "base/env.h"
#include "cli/agents.h"
#include "cli/table.h"
#include "cli/watch.h"
#include <inttypes.h>

struct options {
    struct web_options web;
    bool               json, follow, quiet;
    const char        *status, *agent, *thread, *reason, *input, *attempt;
    int64_t            limit, from, timeout_ms;
};

#define JSON_OPT(text) { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, text, 0, 0 }

/* What each command below begins with; ends the function when there is nothing to do. */
struct work {
    struct options options;
    struct args    args;
    struct web    *web;
    struct arena   arena;
};

static void work_done(struct work *w)
{
    web_free(w->web);
    arena_done(&w->arena);
}

static int work_begin(struct cli *cli, const struct args_spec *spec, int argc, char **argv, struct work *w)
{
    int code = args_begin(spec, argc, argv, &w->options, &w->args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec->command, &w->options.web, &w->web);
    return code == EXIT_OK ? -1 : code;
}

/* ---- list ---- */

/* "2031-04-05 06:07:08" of "2031-04-05T06:07:08.009Z"; anything else as it is. */
static struct span short_time(struct jv v, struct arena *arena)
{
    struct span text = cli_text(v, arena);
    if (text.n != TIME_TEXT || text.p[10] != 'T')
        return text;
    return arena_printf(arena, "%.10s %.8s", text.p, text.p + 11);
}

static struct span run_duration(struct jv run, struct arena *arena)
{
    int64_t     ms;
    struct span started = jv_string(jv_get(run, "started_at"), arena);
    if (jv_i64(jv_get(run, "duration_ms"), &ms))
        return cli_duration(ms, arena);
    if (!started.n || !time_parse(started, &ms))
        return SPAN("-");
    int64_t now = env_real()->wall_ms(env_real());
    return cli_duration(now > ms ? now - ms : 0, arena);
}

static void print_list(const struct cli *cli, struct jv list, struct arena *arena)
{
    static const char *const heads[] = {
        "RUN", "STATUS", "AGENT", "CREATED (UTC)", "STARTED (UTC)", ">DURATION", NULL
    };
    struct grid              grid;
    size_t                   shown = 0;
    int64_t                  total = 0;
    grid_init(&grid, heads);
    for (struct jv_iter it = jv_iter(jv_get(list, "items")); jv_step(&it); shown++) {
        struct span status = cli_text(jv_get(it.value, "status"), arena);
        grid_put(&grid, cli_text(jv_get(it.value, "run_id"), arena), PAINT_OFF);
        grid_put(&grid, status, cli_status_paint(status));
        grid_put(&grid, cli_text(jv_get(it.value, "agent_id"), arena), PAINT_OFF);
        grid_put(&grid, short_time(jv_get(it.value, "created_at"), arena), PAINT_OFF);
        grid_put(&grid, short_time(jv_get(it.value, "started_at"), arena), PAINT_OFF);
        grid_put(&grid, run_duration(it.value, arena), PAINT_OFF);
    }
    grid_print(&grid, cli, stdout);
    grid_done(&grid);
    if (shown == 0)
        fprintf(stderr, "no runs\n");
    else if (jv_i64(jv_get(list, "total"), &total) && (size_t)total > shown)
        fprintf(stderr, "%zu of %" PRId64 "; more with --limit\n", shown, total);
}

static int list_path(struct cli *cli, struct work *w, const char **ret)
{
    struct arena *arena = &w->arena;
    const char *path = path_query(arena, "/v1/api/runs", "limit", arena_printf(arena, "%" PRId64, w->options.limit).p);
    path = path_query(arena, path, "status", w->options.status);
    path = path_query(arena, path, "thread_id", w->options.thread);
    if (w->options.agent) {
        struct jv agent;
        int       code = agent_find(cli, "runs list", w->web, w->options.agent, arena, &agent);
        if (code)
            return code;
        path = path_query(arena, path, "agent_id", arena_copy(arena, jv_string(jv_get(agent, "agent_id"), arena)).p);
    }
    *ret = path;
    return EXIT_OK;
}

int cmd_runs_list(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "status", NULL, OPT_TEXT, offsetof(struct options, status), "S",
          "pending, queued, running, waiting_for_human, resumed, completed, failed or cancelled; several with commas",
          0, 0 },
        { "agent", NULL, OPT_TEXT, offsetof(struct options, agent), "AGENT", "runs of this agent, by name or id", 0,
          0 },
        { "thread", NULL, OPT_TEXT, offsetof(struct options, thread), "ID", "runs on this thread", 0, 0 },
        { "limit", NULL, OPT_INT, offsetof(struct options, limit), "N", "how many at most, default 20", 1, 500 },
        JSON_OPT("print the server's answer"),
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs list", .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Lists runs, newest first." };
    CLEANUP(work_done) struct work w = { .options.limit = 20 };
    const char *path;
    struct jv   list;
    int         code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    code = list_path(cli, &w, &path);
    if (code)
        return code;
    struct web_request request = { .path = path };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &list, NULL);
    if (code == EXIT_OK && w.options.json)
        cli_put_json(stdout, list, cli->out_tty);
    else if (code == EXIT_OK)
        print_list(cli, list, &w.arena);
    return code;
}

/* ---- show ---- */

static void print_run(const struct cli *cli, struct jv run, struct arena *arena)
{
    static const struct {
        const char *label, *member;
    } fields[] = { { "run", "run_id" },
                   { "status", "status" },
                   { "agent", "agent_id" },
                   { "thread", "thread_id" },
                   { "bundle", "bundle_id" },
                   { "attempt", "current_attempt_no" },
                   { "attempt id", "current_attempt_id" },
                   { "events", "latest_seq" },
                   { "created", "created_at" },
                   { "started", "started_at" },
                   { "completed", "completed_at" },
                   { "replay of", "replayed_from_run_id" },
                   { "rerun of", "rerun_of_run_id" },
                   { "reason", "cancel_reason" },
                   { "checkpoint", "checkpoint_id" },
                   { "asks", "human_prompt" } };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct jv   v = jv_get(run, fields[i].member);
        struct span text = cli_text(v, arena);
        if (!jv_is(v, JSON_NONE) && !jv_is(v, JSON_NULL))
            field_print(cli, stdout, fields[i].label, text,
                        strcmp(fields[i].label, "status") ? PAINT_OFF : cli_status_paint(text));
    }
    field_print(cli, stdout, "duration", run_duration(run, arena), PAINT_OFF);
}

static void print_value(const struct cli *cli, const char *name, struct jv v)
{
    if (jv_is(v, JSON_NONE))
        return;
    printf("%s%s%s\n", cli_paint(cli->out_color, PAINT_DIM), name, cli_paint(cli->out_color, PAINT_OFF));
    cli_put_json(stdout, v, true);
}

int cmd_runs_show(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = { JSON_OPT("print the run as the server sends it"),
                                       CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = { .command = "runs show",
                                           .operands = "RUN",
                                           .min = 1,
                                           .max = 1,
                                           .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Shows one run: its fields, input, output or error." };
    CLEANUP(work_done) struct work w = { 0 };
    struct jv run;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    struct web_request request = { .path = path_make(&w.arena, "/v1/api/runs/%s", w.args.items[0]) };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &run, NULL);
    if (code)
        return code;
    if (w.options.json) {
        cli_put_json(stdout, run, cli->out_tty);
        return EXIT_OK;
    }
    print_run(cli, run, &w.arena);
    print_value(cli, "input", jv_get(run, "input"));
    print_value(cli, "output", jv_get(run, "output"));
    if (!jv_is(jv_get(run, "error"), JSON_NONE)) {
        printf("%serror%s ", cli_paint(cli->out_color, PAINT_RED), cli_paint(cli->out_color, PAINT_OFF));
        watch_print_error(cli, stdout, jv_get(run, "error"));
    }
    return EXIT_OK;
}

/* ---- follow ---- */

int cmd_runs_follow(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "from", NULL, OPT_INT, offsetof(struct options, from), "SEQ", "first event wanted, default 1", 1,
          INT64_C(1) << 53 },
        { "attempt", NULL, OPT_TEXT, offsetof(struct options, attempt), "ID",
          "an older attempt, default the current one", 0, 0 },
        { "timeout", NULL, OPT_SECONDS, offsetof(struct options, timeout_ms), "S",
          "stop watching after so many seconds", 1, INT64_MAX },
        { "quiet", NULL, OPT_FLAG, offsetof(struct options, quiet), NULL, "print only the output", 0, 0 },
        JSON_OPT("print one event object per line, as received"),
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = {
        .command = "runs follow",
        .operands = "RUN",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about =
            "Shows a run's events from the start and then live, until it ends. A lost connection is taken up again where it "
            "broke: no event is missed and none comes twice. Ctrl-C stops watching, never the run.",
        .epilog = "exit codes: 0 completed, 1 failed, 3 cancelled, 5 server, 6 token, 7 --timeout, 130 Ctrl-C\n",
    };
    CLEANUP(work_done) struct work w = { 0 };
    int code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    struct watch watch = { .cli = cli, .web = w.web, .command = spec.command, .run_id = w.args.items[0],
                           .attempt_id = w.options.attempt, .from = (uint64_t)w.options.from, .json = w.options.json,
                           .quiet = w.options.quiet, .timeout_ms = w.options.timeout_ms };
    return watch_run(&watch);
}

/* ---- cancel ---- */

int cmd_runs_cancel(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "reason", NULL, OPT_TEXT, offsetof(struct options, reason), "TEXT", "kept with the run", 0, 0 },
        JSON_OPT("print the server's answer"),
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs cancel",
                                           .operands = "RUN",
                                           .min = 1,
                                           .max = 1,
                                           .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Cancels a run that has not ended." };
    CLEANUP(work_done) struct work w = { 0 };
    struct buf body = { 0 };
    struct jw  json = jw_on(&body);
    struct jv  answer;
    int        code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    jw_obj(&json);
    if (w.options.reason) {
        jw_key(&json, "reason");
        jw_cstr(&json, w.options.reason);
    }
    jw_end(&json);
    struct web_request request = { .method = "POST",
                                   .path = path_make(&w.arena, "/v1/api/runs/%s/cancel", w.args.items[0]),
                                   .body = buf_view(&body) };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &answer, NULL);
    buf_done(&body);
    if (code == EXIT_OK && w.options.json)
        cli_put_json(stdout, answer, cli->out_tty);
    else if (code == EXIT_OK)
        printf("run %s %s\n", w.args.items[0],
               jv_bool(jv_get(answer, "already_cancelled"), false) ? "was cancelled before" : "cancelled");
    return code;
}

/* ---- resume ---- */

static int resume(struct cli *cli, struct work *w, struct jv input)
{
    struct buf body = { 0 };
    struct jw  json = jw_on(&body);
    struct jv  run;
    jw_obj(&json);
    jw_key(&json, "input");
    jw_raw(&json, jv_raw(input));
    jw_end(&json);
    struct web_request request = { .method = "POST",
                                   .path = path_make(&w->arena, "/v1/api/runs/%s/resume", w->args.items[0]),
                                   .body = buf_view(&body) };
    int code = cli_ask(cli, "runs resume", w->web, &request, &w->arena, &run, NULL);
    buf_done(&body);
    if (code || w->options.follow)
        return code;
    if (w->options.json)
        cli_put_json(stdout, run, cli->out_tty);
    else
        printf("run %s resumed\n", w->args.items[0]);
    return EXIT_OK;
}

int cmd_runs_resume(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "input", NULL, OPT_TEXT, offsetof(struct options, input), "JSON",
          "the answer; @FILE reads it, @- from standard input", 0, 0 },
        { "follow", NULL, OPT_FLAG, offsetof(struct options, follow), NULL, "then watch the run to its end", 0, 0 },
        JSON_OPT("print the run, or with --follow one event per line"),
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs resume",
                                           .operands = "RUN",
                                           .min = 1,
                                           .max = 1,
                                           .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Answers a run that waits for a person." };
    CLEANUP(work_done) struct work w = { 0 };
    struct jv    input, run;
    struct error error;
    int64_t      latest = 0;
    int          code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    if (!w.options.input)
        return cli_fail(cli, spec.command, EXIT_USAGE, "--input is missing");
    if (cli_json_option("input", w.options.input, &w.arena, &input, &error))
        return cli_fail(cli, spec.command, EXIT_USAGE, "%s", error.message);
    struct web_request request = { .path = path_make(&w.arena, "/v1/api/runs/%s", w.args.items[0]) };
    code = w.options.follow ? cli_ask(cli, spec.command, w.web, &request, &w.arena, &run, NULL) : EXIT_OK;
    if (code == EXIT_OK && w.options.follow) /* what was there before the answer is old news */
        (void)jv_i64(jv_get(run, "latest_seq"), &latest);
    if (code == EXIT_OK)
        code = resume(cli, &w, input);
    if (code || !w.options.follow)
        return code;
    struct watch watch = { .cli = cli, .web = w.web, .command = spec.command, .run_id = w.args.items[0],
                           .from = (uint64_t)latest + 1, .json = w.options.json, .leave_when_waiting = true };
    return watch_run(&watch);
}
