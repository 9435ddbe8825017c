/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.c - perdure run: starts a run of an agent, or of a file with an agent, a definition or a workflow, and watches it.
 * Where no server listens and none was named, it brings its own for as long as the run is watched. */
#include "base/env.h"
#include "base/ids.h"
#include "cli/agents.h"
#include "cli/document.h"
#include "cli/flow_watch.h"
#include "cli/local.h"
#include "cli/watch.h"
#include "workflow/spec.h"
#include <errno.h>
#include <sys/stat.h>

struct options {
    struct web_options web;
    const char        *input, *thread, *key, *config, *tool_results;
    struct opt_list    text;
    bool               detach, json, ndjson, quiet;
    int64_t            timeout_ms;
};

static const struct opt opts[] = {
    { "input", NULL, OPT_TEXT, offsetof(struct options, input), "JSON",
      "the run's input; @FILE reads it, @- from standard input", 0, 0 },
    { "text", NULL, OPT_LIST, offsetof(struct options, text), "FILE",
      "instead: the input is {\"text\": …} with this file's text (- is standard input); several are joined", 0, 0 },
    { "thread", NULL, OPT_TEXT, offsetof(struct options, thread), "ID",
      "run on this thread, after what it already holds", 0, 0 },
    { "key", NULL, OPT_TEXT, offsetof(struct options, key), "KEY",
      "idempotency key: a second time this is the same run", 0, 0 },
    { "detach", NULL, OPT_FLAG, offsetof(struct options, detach), NULL, "print the run's id and do not watch it", 0,
      0 },
    { "timeout", NULL, OPT_SECONDS, offsetof(struct options, timeout_ms), "S",
      "stop watching after so many seconds; the run goes on", 1, INT64_MAX },
    { "quiet", NULL, OPT_FLAG, offsetof(struct options, quiet), NULL, "print only the output", 0, 0 },
    { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL,
      "of a workflow: print only the outputs, in one line; of an agent: the same as --ndjson", 0, 0 },
    { "ndjson", NULL, OPT_FLAG, offsetof(struct options, ndjson), NULL, "print one event object per line, as received", 0, 0 },
    { "tool-results", NULL, OPT_TEXT, offsetof(struct options, tool_results), "FILE",
      "what a workflow's client tools return: {\"TOOL\": result}, or a list of results for one call after the other", 0, 0 },
    { "config", "PERDURE_CONFIG", OPT_TEXT, offsetof(struct options, config), "FILE",
      "configuration (model providers) of the server that is started when none is there", 0, 0 },
    CONNECTION_OPTS(struct options, web),
};

static const struct args_spec spec = {
    .command = "run",
    .operands = "AGENT|FILE",
    .min = 1,
    .max = 1,
    .opts = opts,
    .opt_count = ARRAY_LEN(opts),
    .about =
        "Starts a run and watches it to its end. AGENT is a name or an id. FILE is JSON or YAML: a workflow (see perdure workflow "
        "--help), which has a line per node; or an agent file, or a definition alone, which are applied first, as by `perdure agents "
        "apply`. When the run asks a person, the question is asked here. "
        "Without --server, and when nobody listens at " WEB_DEFAULT_URL
        ", a server is started for the run, with its data in --data.",
    .epilog = "exit codes: 0 completed, 1 failed, 2 usage, 3 cancelled, 4 waits for a person or a client tool, 5 server,\n"
              "            6 token, 7 --timeout, 130 Ctrl-C\n\n"
              "examples:\n"
              "  perdure run hello.json --input '{\"name\": \"Ada\"}'\n"
              "  perdure run summary --text report.txt --quiet > summary.json\n"
              "  perdure run pipeline.yaml --input @document.json --json\n",
};

struct job {
    struct cli     *cli;
    struct options  options;
    struct web     *web;
    struct arena    arena;
    struct local    local;
    const char     *local_data; /* set while our own server runs */
    struct jv       input, file;   /* file: absent when an agent was named */
    struct jv       plan, results; /* of a workflow: compiled; of its client tools */
    const char     *agent_id, *run_id, *attempt_id;
};

static const char *text_of(struct jv v, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? arena_copy(arena, text).p : NULL;
}

/* ---- input ---- */

/* {"text": "…"}: the files one after the other, each beginning on its own line. */
static enum err input_of_files(struct job *job, struct error *error)
{
    const struct opt_list *files = &job->options.text;
    struct buf             text = { 0 }, json = { 0 };
    struct jw              w = jw_on(&json);
    enum err               err = ERR_OK;
    for (size_t i = 0; i < files->count && !err; i++) {
        if (text.len > 0 && text.p[text.len - 1] != '\n')
            buf_byte(&text, '\n');
        err = cli_read(files->items[i], &text, error);
    }
    jw_obj(&w);
    jw_key(&w, "text");
    jw_str(&w, buf_view(&text));
    jw_end(&w);
    struct json *doc = ARENA_NEW(&job->arena, struct json);
    if (!err && json_parse(arena_copy(&job->arena, buf_view(&json)), &(struct json_limits){ .depth = 8 }, &job->arena,
                           doc, NULL))
        err = error_set(error, ERR_INVALID_PARAMETER, "text", "--text: the files are not UTF-8 text");
    if (!err)
        job->input = json_root(doc);
    buf_done(&text);
    buf_done(&json);
    return err;
}

static int read_input(struct job *job)
{
    const struct options *o = &job->options;
    struct error          error;
    enum err              err = ERR_OK;
    if (o->input && o->text.count)
        return cli_fail(job->cli, "run", EXIT_USAGE, "--input and --text exclude each other");
    if (o->detach && o->timeout_ms)
        return cli_fail(job->cli, "run", EXIT_USAGE, "--detach and --timeout exclude each other");
    if (o->input)
        err = cli_json_option("input", o->input, &job->arena, &job->input, &error);
    else if (o->text.count)
        err = input_of_files(job, &error);
    if (!err && o->tool_results && document_read(o->tool_results, 64, &job->arena, &job->results, &error))
        return cli_fail(job->cli, "run", EXIT_USAGE, "%s: %s", o->tool_results, error.message);
    if (o->tool_results && !jv_is(job->results, JSON_OBJECT))
        return cli_fail(job->cli, "run", EXIT_USAGE, "%s: must be an object of results by tool", o->tool_results);
    return err ? cli_fail(job->cli, "run", EXIT_USAGE, "%s", error.message) : EXIT_OK;
}

/* ---- the file ---- */

/* A name of an agent has no slash and does not end like a file; what exists as a file in the current folder is one all the same. */
static bool is_file(const char *word)
{
    struct stat st;
    return strcmp(word, "-") == 0 || strchr(word, '/') || document_name(word) || (stat(word, &st) == 0 && S_ISREG(st.st_mode));
}

static int refuse(struct job *job, const char *path, const struct issues *issues)
{
    size_t kept = issues->count < ISSUES_MAX ? issues->count : ISSUES_MAX;
    (void)cli_fail(job->cli, "run", EXIT_USAGE, "%s: %zu issue%s", path, issues->count, issues->count == 1 ? "" : "s");
    for (size_t i = 0; i < kept; i++) {
        fputs("  ", stderr);
        cli_put_safe(stderr, issues->items[i].pointer, true);
        fputs(": ", stderr);
        cli_put_safe(stderr, issues->items[i].message, true);
        fprintf(stderr, " (%.*s)\n", SPAN_ARG(issues->items[i].code));
    }
    return EXIT_USAGE;
}

/* Compiled here, so that a mistake shows before any server is asked. */
static int read_workflow(struct job *job, const char *path)
{
    struct issues issues = { .arena = &job->arena };
    struct span   v1, inputs;
    if (job->options.thread)
        return cli_fail(job->cli, "run", EXIT_USAGE, "%s: a workflow runs on no thread", path);
    if (!jv_is(job->input, JSON_NONE) && !jv_is(job->input, JSON_OBJECT))
        return cli_fail(job->cli, "run", EXIT_USAGE, "--input: must be an object of inputs by name");
    if (spec_compile(job->file, &job->arena, &v1, &issues))
        return refuse(job, path, &issues);
    job->plan = json_read(v1, &job->arena);
    if (spec_inputs(job->plan, job->input, &job->arena, &inputs, &issues))
        return refuse(job, path, &issues);
    return EXIT_OK;
}

static bool is_workflow(const struct job *job)
{
    return !jv_is(job->plan, JSON_NONE);
}

static int read_file(struct job *job, const char *word)
{
    int code = is_file(word) ? agent_file_read(job->cli, "run", word, &job->arena, &job->file) : EXIT_OK;
    if (code == EXIT_OK && jv_is(jv_get(job->file, "kind"), JSON_STRING))
        code = read_workflow(job, word);
    if (code == EXIT_OK && !is_workflow(job) && job->options.tool_results)
        return cli_fail(job->cli, "run", EXIT_USAGE, "--tool-results is for workflows");
    return code;
}

/* ---- a server ---- */

static int connect_or_start(struct job *job)
{
    const struct options *o = &job->options;
    struct local_want     want = { .command = "run", .config = o->config, .options = &o->web, .stays = o->detach, .quiet = o->quiet };
    return local_connect(job->cli, &want, &job->web, &job->local, &job->local_data);
}

/* ---- the agent and the run ---- */

static int find_agent(struct job *job, const char *word)
{
    struct applied applied;
    struct jv      agent;
    int            code;
    if (!jv_is(job->file, JSON_NONE)) {
        code = agent_apply(job->cli, "run", job->web, word, job->file, &job->arena, &applied);
        if (code == EXIT_OK && strcmp(applied.result, "unchanged") != 0 && !job->options.quiet)
            fprintf(stderr, "%sagent %s: %s%s\n", cli_paint(job->cli->err_color, PAINT_DIM), applied.name,
                    applied.result, cli_paint(job->cli->err_color, PAINT_OFF));
        job->agent_id = code == EXIT_OK ? applied.agent_id : NULL;
        return code;
    }
    code = agent_find(job->cli, "run", job->web, word, &job->arena, &agent);
    if (code == EXIT_OK)
        job->agent_id = text_of(jv_get(agent, "agent_id"), &job->arena);
    return code;
}

static void put_run(struct job *job, const char *key, struct buf *body)
{
    struct jw w = jw_on(body);
    jw_obj(&w);
    jw_key(&w, "agent_id");
    jw_cstr(&w, job->agent_id);
    if (!jv_is(job->input, JSON_NONE)) {
        jw_key(&w, "input");
        jw_raw(&w, jv_raw(job->input));
    }
    if (job->options.thread) {
        jw_key(&w, "thread");
        jw_obj(&w);
        jw_key(&w, "thread_id");
        jw_cstr(&w, job->options.thread);
        jw_end(&w);
    }
    jw_key(&w, "idempotency_key");
    jw_cstr(&w, key);
    jw_end(&w);
}

/* The same for a workflow. */
static void put_workflow_run(struct job *job, const char *key, struct buf *body)
{
    struct jw w = jw_on(body);
    jw_obj(&w);
    jw_key(&w, "spec");
    jw_raw(&w, jv_raw(job->file));
    if (!jv_is(job->input, JSON_NONE)) {
        jw_key(&w, "input");
        jw_raw(&w, jv_raw(job->input));
    }
    jw_key(&w, "options");
    jw_obj(&w);
    jw_key(&w, "idempotency_key");
    jw_cstr(&w, key);
    jw_end(&w);
    jw_end(&w);
}

/* Always with a key: then a broken connection can be tried again without a second run. */
static int create_run(struct job *job)
{
    char        made[4 + 32 + 1];
    const char *key = job->options.key;
    struct buf  body = { 0 };
    struct jv   answer;
    if (!key) {
        random_text(env_real(), "cli-", 16, made);
        key = made;
    }
    (is_workflow(job) ? put_workflow_run : put_run)(job, key, &body);
    struct web_request request = { .method = "POST", .path = is_workflow(job) ? "/api/v1/runs" : "/v1/api/runs",
                                   .body = buf_view(&body), .idempotency_key = key };
    int                code = cli_ask(job->cli, "run", job->web, &request, &job->arena, &answer, NULL);
    buf_done(&body);
    if (code)
        return code;
    job->run_id = text_of(jv_get(answer, "run_id"), &job->arena);
    /* A reused answer is the first one again: the run may have another attempt by now. */
    if (!jv_bool(jv_get(answer, "reused"), false))
        job->attempt_id = text_of(jv_get(answer, "current_attempt_id"), &job->arena);
    if (!job->run_id)
        return cli_fail(job->cli, "run", EXIT_SERVER, "the server's answer has no run_id");
    if (job->options.detach && job->options.json)
        cli_put_json(stdout, answer, job->cli->out_tty);
    else if (job->options.detach)
        printf("%s\n", job->run_id);
    return EXIT_OK;
}

static int watch_workflow(struct job *job)
{
    const struct options *o = &job->options;
    struct flow_watch     watch = { .cli = job->cli, .web = job->web, .command = "run", .run_id = job->run_id, .plan = job->plan,
                                    .results = job->results, .timeout_ms = o->timeout_ms, .local_data = job->local_data,
                                    .form = o->ndjson ? FLOW_NDJSON : o->json ? FLOW_JSON : o->quiet ? FLOW_QUIET : FLOW_PEOPLE };
    if (watch.form == FLOW_PEOPLE && !job->cli->err_tty)
        fprintf(stderr, "run %s\n", job->run_id);
    return flow_watch(&watch);
}

static int watch(struct job *job)
{
    if (is_workflow(job))
        return watch_workflow(job);
    struct watch watch = { .cli = job->cli,
                           .web = job->web,
                           .command = "run",
                           .run_id = job->run_id,
                           .attempt_id = job->attempt_id,
                           .json = job->options.json || job->options.ndjson,
                           .quiet = job->options.quiet,
                           .leave_when_waiting = true,
                           .timeout_ms = job->options.timeout_ms,
                           .local_data = job->local_data };
    if (!watch.json && !watch.quiet && !(job->cli->out_tty && job->cli->err_tty))
        fprintf(stderr, "run %s\n", job->run_id);
    return watch_run(&watch);
}

static void job_done(struct job *job)
{
    web_free(job->web);
    local_stop(&job->local);
    arena_done(&job->arena);
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
    CLEANUP(job_done) struct job job = { .cli = cli };
    struct args args;
    int         code = args_begin(&spec, argc, argv, &job.options, &args);
    if (code >= 0)
        return code;
    code = read_input(&job);
    if (code == EXIT_OK)
        code = read_file(&job, args.items[0]);
    if (code == EXIT_OK)
        code = connect_or_start(&job);
    if (code == EXIT_OK && !is_workflow(&job))
        code = find_agent(&job, args.items[0]);
    if (code == EXIT_OK)
        code = create_run(&job);
    if (code == EXIT_OK && !job.options.detach)
        code = watch(&job);
    return code;
}
