/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_team_run.c - perdure team run, replay, bench: a team from a file as a run, a trace as its result, a task under several
 * protocols. */
#include "base/env.h"
#include "base/ids.h"
#include "cli/local.h"
#include "cli/table.h"
#include "cli/team_board.h"
#include "cli/team_watch.h"
#include "team/result.h"
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 200 };

struct options {
    struct web_options web;
    const char        *input, *config, *trace, *key;
    bool               json, ndjson, quiet, detach, result, events;
};

struct job {
    struct cli       *cli;
    const char       *command;
    struct options    options;
    struct web       *web;
    struct arena      arena;
    struct local      local;
    const char       *local_data;
    struct team_board board;
    struct span       output, error; /* JSON text of the last event's members */
    int               signal_fd;
    sigset_t          signals, before;
};

static void job_done(struct job *job)
{
    web_free(job->web);
    local_stop(&job->local);
    arena_done(&job->arena);
}

static const struct json_limits limits = { .depth = 160, .lone_surrogates = true };

static int read_json(struct job *job, const char *path, struct jv *ret)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    struct error        error;
    struct json        *doc = ARENA_NEW(&job->arena, struct json);
    if (cli_read(path, &text, &error))
        return cli_fail(job->cli, job->command, EXIT_USAGE, "%s", error.message);
    if (json_parse(arena_copy(&job->arena, buf_view(&text)), &limits, &job->arena, doc, NULL))
        return cli_fail(job->cli, job->command, EXIT_USAGE, "%s: no JSON", path);
    *ret = json_root(doc);
    if (!jv_is(*ret, JSON_OBJECT))
        return cli_fail(job->cli, job->command, EXIT_USAGE, "%s: must hold an object", path);
    return EXIT_OK;
}

/* An agent file, a bundle definition, or the run options themselves. */
static struct jv team_of(struct jv file)
{
    struct jv definition = jv_is(jv_get(file, "definition"), JSON_OBJECT) ? jv_get(file, "definition") : file;
    return jv_is(jv_get(definition, "team"), JSON_OBJECT) ? jv_get(definition, "team") : definition;
}

static const char *key_of(struct job *job)
{
    char made[4 + 32 + 1];
    if (job->options.key)
        return job->options.key;
    random_text(env_real(), "cli-", 16, made);
    return arena_copy(&job->arena, span_of(made)).p;
}

static int connect_server(struct job *job)
{
    const struct options *o = &job->options;
    bool                  quiet = o->quiet || o->json || o->ndjson;
    struct local_want want = { .command = job->command, .config = o->config, .options = &o->web, .stays = o->detach, .quiet = quiet };
    return local_connect(job->cli, &want, &job->web, &job->local, &job->local_data);
}

/* ---- run ---- */

/* The intent as it stands, unless it is JSON that says more. */
static void put_input(struct job *job, struct jw *w)
{
    struct error error;
    struct jv    value;
    const char  *input = job->options.input;
    if (!input)
        return;
    jw_key(w, "input");
    bool json = (input[0] == '{' || input[0] == '"' || input[0] == '@') && !cli_json_option("input", input, &job->arena, &value, &error);
    if (json)
        jw_raw(w, jv_raw(value));
    else
        jw_cstr(w, input);
}

static int create(struct job *job, struct jv team, const char **ret_id)
{
    CLEANUP(buf_done) struct buf body = { 0 };
    struct jw w = jw_on(&body);
    struct jv answer;
    jw_obj(&w);
    jw_key(&w, "team"), jw_raw(&w, jv_raw(team));
    put_input(job, &w);
    jw_end(&w);
    struct web_request request = { .method = "POST", .path = "/v1/api/teams/runs", .body = buf_view(&body),
                                   .idempotency_key = key_of(job) };
    int code = cli_ask(job->cli, job->command, job->web, &request, &job->arena, &answer, NULL);
    if (code)
        return code;
    struct span id = jv_string(jv_get(answer, "run_id"), &job->arena);
    if (!id.n)
        return cli_fail(job->cli, job->command, EXIT_SERVER, "the server's answer has no run_id");
    *ret_id = arena_copy(&job->arena, id).p;
    return EXIT_OK;
}

static void on_event(void *user, struct span text, struct jv event)
{
    struct job *job = user;
    if (job->options.json || job->options.ndjson) {
        printf("%.*s\n", SPAN_ARG(text));
        fflush(stdout);
    }
    team_board_event(&job->board, event);
    if (jv_str_eq(jv_get(event, "type"), "final"))
        job->output = arena_copy(&job->arena, jv_string(jv_get(event, "output"), &job->arena));
    if (jv_str_eq(jv_get(event, "type"), "error"))
        job->error = arena_copy(&job->arena, jv_string(jv_get(event, "message"), &job->arena));
}

static void on_tick(void *user)
{
    struct job *job = user;
    team_board_tick(&job->board);
}

static void hold_signals(struct job *job)
{
    sigemptyset(&job->signals);
    sigaddset(&job->signals, SIGINT);
    sigaddset(&job->signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &job->signals, &job->before);
    job->signal_fd = signalfd(-1, &job->signals, SFD_CLOEXEC);
}

static void release_signals(struct job *job)
{
    struct timespec now = { 0 };
    while (sigtimedwait(&job->signals, NULL, &now) > 0) /* the one that ended the watch is dealt with */
        ;
    close(job->signal_fd);
    sigprocmask(SIG_SETMASK, &job->before, NULL);
}

static int get_trace(struct job *job, const char *run_id, struct jv *ret)
{
    struct web_request request = { .path = path_make(&job->arena, "/v1/api/runs/%s/trace", run_id) };
    return cli_ask(job->cli, job->command, job->web, &request, &job->arena, ret, NULL);
}

static int write_trace(struct job *job, const char *run_id)
{
    struct jv trace;
    int       code = get_trace(job, run_id, &trace);
    if (code)
        return code;
    FILE *file = strcmp(job->options.trace, "-") == 0 ? stdout : fopen(job->options.trace, "w");
    if (!file)
        return cli_fail(job->cli, job->command, EXIT_USAGE, "%s cannot be written", job->options.trace);
    cli_put_json(file, trace, false);
    if (file != stdout && fclose(file))
        return cli_fail(job->cli, job->command, EXIT_USAGE, "%s cannot be written", job->options.trace);
    return EXIT_OK;
}

static int say_end(struct job *job, enum team_end end, const char *run_id)
{
    static const struct {
        const char *word;
        enum paint  paint;
        int         code;
    } ends[] = { [TEAM_END_FINAL] = { "completed", PAINT_GREEN, EXIT_OK },
                 [TEAM_END_ERROR] = { "failed", PAINT_RED, EXIT_FAILED },
                 [TEAM_END_CANCELLED] = { "cancelled", PAINT_YELLOW, EXIT_CANCELLED } };
    const struct cli *cli = job->cli;
    bool              quiet = job->options.quiet || job->options.json || job->options.ndjson;
    if (end == TEAM_END_FINAL && !job->options.json && !job->options.ndjson && job->output.n) {
        cli_put_safe(stdout, job->output, cli->out_tty);
        fputc('\n', stdout);
        fflush(stdout);
    }
    if (!quiet)
        fprintf(stderr, "%s%s%s: %.*s  %srun %s%s\n", cli_paint(cli->err_color, ends[end].paint), ends[end].word,
                cli_paint(cli->err_color, PAINT_OFF), SPAN_ARG(team_board_summary(&job->board, &job->arena)),
                cli_paint(cli->err_color, PAINT_DIM), run_id, cli_paint(cli->err_color, PAINT_OFF));
    if (end == TEAM_END_ERROR && job->error.n)
        cli_fail(cli, job->command, EXIT_FAILED, "%.*s", SPAN_ARG(job->error));
    return ends[end].code;
}

static int watch(struct job *job, const char *run_id)
{
    bool quiet = job->options.quiet || job->options.json || job->options.ndjson;
    team_board_init(&job->board, job->cli, quiet);
    hold_signals(job);
    struct team_watch watch = { .run_id = run_id, .wake_fd = job->signal_fd, .tick_ms = job->board.live ? TICK_MS : 0,
                                .on_event = on_event, .on_tick = on_tick, .user = job };
    enum team_end end = team_watch(job->web, &watch);
    team_board_clear(&job->board);
    release_signals(job);
    switch (end) {
    case TEAM_END_SIGNAL:
        fprintf(stderr, "the run goes on: perdure runs follow %s\n", run_id);
        return EXIT_INTERRUPTED;
    case TEAM_END_LOST:
    case TEAM_END_REFUSED:
        return cli_fail(job->cli, job->command, EXIT_SERVER, "%s", watch.error.message);
    default:
        break;
    }
    int code = say_end(job, end, run_id);
    return code == EXIT_OK && job->options.trace ? write_trace(job, run_id) : code;
}

int cmd_team_run(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "input", NULL, OPT_TEXT, offsetof(struct options, input), "TEXT",
          "the intent; also {\"intent\": …}, @FILE or @- with JSON; without it that of the file", 0, 0 },
        { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print the team's events, one per line, and nothing else", 0, 0 },
        { "ndjson", NULL, OPT_FLAG, offsetof(struct options, ndjson), NULL, "the same", 0, 0 },
        { "quiet", NULL, OPT_FLAG, offsetof(struct options, quiet), NULL, "print only the output", 0, 0 },
        { "trace", NULL, OPT_TEXT, offsetof(struct options, trace), "FILE",
          "write the trace when the run is complete (- is standard output)", 0, 0 },
        { "detach", NULL, OPT_FLAG, offsetof(struct options, detach), NULL, "print the run's id and do not watch it", 0, 0 },
        { "key", NULL, OPT_TEXT, offsetof(struct options, key), "KEY", "idempotency key: a second time this is the same run", 0, 0 },
        { "config", "PERDURE_CONFIG", OPT_TEXT, offsetof(struct options, config), "FILE",
          "configuration of the server that is started when none is there", 0, 0 },
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = {
        .command = "team run",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Runs the team in FILE (run options, {\"team\": …}, or an agent file that holds one) and shows who speaks, rounds, "
                 "tokens, cost, and what stopped it. The run survives this command and the server's restart.",
        .epilog = "exit codes: as for `perdure run`\n",
    };
    CLEANUP(job_done) struct job job = { .cli = cli, .command = "team run" };
    struct args args;
    struct jv   file = { 0 };
    const char *run_id = NULL;
    int         code = args_begin(&spec, argc, argv, &job.options, &args);
    if (code >= 0)
        return code;
    code = read_json(&job, args.items[0], &file);
    if (code == EXIT_OK)
        code = connect_server(&job);
    if (code == EXIT_OK)
        code = create(&job, team_of(file), &run_id);
    if (code == EXIT_OK && job.options.detach)
        printf("%s\n", run_id);
    else if (code == EXIT_OK)
        code = watch(&job, run_id);
    return code;
}

/* ---- replay ---- */

static void print_events(struct jv trace)
{
    for (struct jv_iter it = jv_iter(jv_get(trace, "events")); jv_step(&it);)
        printf("%.*s\n", SPAN_ARG(jv_raw(it.value)));
}

int cmd_team_replay(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "ndjson", NULL, OPT_FLAG, offsetof(struct options, ndjson), NULL, "print the recorded events, one per line", 0, 0 },
        { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print the result on one line", 0, 0 },
        { "quiet", NULL, OPT_FLAG, offsetof(struct options, quiet), NULL, "print only the output", 0, 0 },
    };
    static const struct args_spec spec = {
        .command = "team replay",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Gives the result that belongs to the trace in FILE (- is standard input). Nobody is called; needs no server.",
    };
    CLEANUP(job_done) struct job job = { .cli = cli, .command = "team replay" };
    CLEANUP(buf_done) struct buf result = { 0 };
    struct args args;
    struct jv   trace = { 0 };
    int         code = args_begin(&spec, argc, argv, &job.options, &args);
    if (code >= 0)
        return code;
    if ((code = read_json(&job, args.items[0], &trace)))
        return code;
    if (!jv_str_eq(jv_get(trace, "schemaVersion"), "1.0") || !jv_is(jv_get(trace, "finalOutput"), JSON_OBJECT))
        return cli_fail(cli, job.command, EXIT_USAGE, "%s: no trace of schema 1.0", args.items[0]);
    struct jw w = jw_on(&result);
    team_replay(trace, &w);
    if (job.options.ndjson)
        print_events(trace);
    else if (job.options.quiet) {
        cli_put_safe(stdout, jv_string(jv_get(jv_get(trace, "finalOutput"), "output"), &job.arena), cli->out_tty);
        fputc('\n', stdout);
    } else
        cli_put_json(stdout, json_read(buf_view(&result), &job.arena), cli->out_tty && !job.options.json);
    return EXIT_OK;
}

/* ---- bench ---- */

/* The request's body: a configuration, or one that stands beside its protocols. */
static void put_benchmark(struct jv file, struct buf *body)
{
    struct jw w = jw_on(body);
    struct jv config = jv_is(jv_get(file, "config"), JSON_OBJECT) ? jv_get(file, "config") : file;
    jw_obj(&w);
    jw_key(&w, "config"), jw_raw(&w, jv_raw(config));
    if (!jv_is(jv_get(file, "protocols"), JSON_NONE))
        jw_key(&w, "protocols"), jw_raw(&w, jv_raw(jv_get(file, "protocols")));
    jw_key(&w, "timeout_seconds"), jw_u64(&w, 50);
    jw_end(&w);
}

static struct span protocol_name(struct jv run, struct arena *arena)
{
    struct jv protocol = jv_get(run, "protocol");
    return jv_string(jv_is(protocol, JSON_STRING) ? protocol : jv_get(protocol, "kind"), arena);
}

static struct span number(struct jv v, const char *format, struct arena *arena)
{
    double n = 0;
    char   text[64];
    jv_f64(v, &n);
    snprintf(text, sizeof text, strcmp(format, "usd") == 0 ? "$%.4f" : "%.0f", n);
    return arena_copy(arena, span_of(text));
}

static struct span stop_of(struct jv artifact, struct arena *arena)
{
    struct jv events = jv_get(jv_get(artifact, "trace"), "events"), last = jv_at(events, jv_count(events) - 1);
    struct span reason = jv_string(jv_get(jv_get(last, "termination"), "normalizedReason"), arena);
    return reason.n ? reason : SPAN("-");
}

static void put_row(struct grid *grid, struct jv run, struct jv artifact, struct arena *arena)
{
    struct jv cost = jv_get(artifact, "cost");
    bool      done = jv_is(artifact, JSON_OBJECT);
    grid_put(grid, protocol_name(run, arena), PAINT_OFF);
    grid_put(grid, jv_string(jv_get(run, "status"), arena), PAINT_OFF);
    grid_put(grid, done ? number(jv_get(jv_get(artifact, "score"), "score"), "n", arena) : SPAN("-"), PAINT_OFF);
    grid_put(grid, done ? arena_printf(arena, "%zu", jv_count(jv_get(artifact, "transcript"))) : SPAN("-"), PAINT_OFF);
    grid_put(grid, done ? number(jv_get(cost, "totalTokens"), "n", arena) : SPAN("-"), PAINT_OFF);
    grid_put(grid, done ? number(jv_get(cost, "usd"), "usd", arena) : SPAN("-"), PAINT_OFF);
    grid_put(grid, done ? stop_of(artifact, arena) : SPAN("-"), PAINT_OFF);
    grid_put(grid, jv_string(jv_get(run, "run_id"), arena), PAINT_OFF);
}

static int print_report(struct job *job, struct jv answer)
{
    static const char *const heads[] = { "PROTOCOL", "STATUS", ">SCORE", ">TURNS", ">TOKENS", ">COST", "STOPPED BY", "RUN", NULL };
    struct grid grid;
    int          code = EXIT_OK;
    size_t       i = 0;
    grid_init(&grid, heads);
    for (struct jv_iter it = jv_iter(jv_get(answer, "runs")); jv_step(&it); i++) {
        struct jv artifact = jv_at(jv_get(answer, "artifacts"), i);
        if (!jv_is(artifact, JSON_OBJECT))
            code = EXIT_FAILED;
        put_row(&grid, it.value, artifact, &job->arena);
    }
    grid_print(&grid, job->cli, stdout);
    grid_done(&grid);
    return code;
}

/* The same request with the same key until all of its runs are over. */
static int ask_benchmark(struct job *job, struct span body, struct jv *ret)
{
    const char *key = key_of(job);
    for (;;) {
        struct web_request request = { .method = "POST", .path = "/v1/api/teams/benchmark", .body = body, .idempotency_key = key,
                                       .timeout_ms = 120000 };
        int code = cli_ask(job->cli, job->command, job->web, &request, &job->arena, ret, NULL);
        if (code || !jv_bool(jv_get(*ret, "timed_out"), false))
            return code;
    }
}

int cmd_team_bench(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print runs and artifacts as JSON", 0, 0 },
        { "ndjson", NULL, OPT_FLAG, offsetof(struct options, ndjson), NULL, "print the artifacts, one per line", 0, 0 },
        { "quiet", NULL, OPT_FLAG, offsetof(struct options, quiet), NULL, "say nothing about a server that is started", 0, 0 },
        { "key", NULL, OPT_TEXT, offsetof(struct options, key), "KEY", "idempotency key: a second time these are the same runs", 0, 0 },
        { "config", "PERDURE_CONFIG", OPT_TEXT, offsetof(struct options, config), "FILE",
          "configuration of the server that is started when none is there", 0, 0 },
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = {
        .command = "team bench",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Runs one task under several protocols, each a run, and compares. FILE holds a benchmark configuration (task, budget, "
                 "model, agents), or {\"config\": …, \"protocols\": […]}; without protocols all four are used.",
    };
    CLEANUP(job_done) struct job job = { .cli = cli, .command = "team bench" };
    CLEANUP(buf_done) struct buf body = { 0 };
    struct args args;
    struct jv   file = { 0 }, answer = { 0 };
    int         code = args_begin(&spec, argc, argv, &job.options, &args);
    if (code >= 0)
        return code;
    code = read_json(&job, args.items[0], &file);
    if (code == EXIT_OK)
        code = connect_server(&job);
    if (code)
        return code;
    put_benchmark(file, &body);
    if ((code = ask_benchmark(&job, buf_view(&body), &answer)))
        return code;
    if (job.options.ndjson)
        for (struct jv_iter it = jv_iter(jv_get(answer, "artifacts")); jv_step(&it);)
            printf("%.*s\n", SPAN_ARG(jv_raw(it.value)));
    else if (job.options.json)
        cli_put_json(stdout, answer, cli->out_tty);
    else
        code = print_report(&job, answer);
    return code;
}
