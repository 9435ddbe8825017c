/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_inspect.c - perdure runs inspect | failures | rerun | retry | replay, and perdure audit: what happened, and once more. */
#include "cli/table.h"
#include "cli/watch.h"
#include <inttypes.h>

struct options {
    struct web_options web;
    bool               json, follow;
    const char        *agent, *category, *from, *to, *actor, *action, *resource, *reason, *mode;
    int64_t            limit;
};

#define JSON_OPT { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print the server's answer", 0, 0 }
#define TEXT_OPT(name, member, arg, help) { name, NULL, OPT_TEXT, offsetof(struct options, member), arg, help, 0, 0 }
#define LIMIT_OPT { "limit", NULL, OPT_INT, offsetof(struct options, limit), "N", "how many at most, default 20", 1, 500 }

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

/* A table of members of each item; the member "duration_ms" is shown as a duration, one with a '/' is a pointer. */
static size_t print_items(const struct cli *cli, struct jv items, const char *const *heads, const char *const *members, struct arena *arena)
{
    struct grid grid;
    size_t      shown = 0;
    grid_init(&grid, heads);
    for (struct jv_iter it = jv_iter(items); jv_step(&it); shown++)
        for (const char *const *m = members; *m; m++) {
            struct jv   v = (*m)[0] == '/' ? jv_pointer(it.value, span_of(*m)) : jv_get(it.value, *m);
            int64_t     ms;
            struct span text = strcmp(*m, "duration_ms") == 0 && jv_i64(v, &ms) ? cli_duration(ms, arena) : cli_text(v, arena);
            grid_put(&grid, text, strcmp(*m, "status") ? PAINT_OFF : cli_status_paint(text));
        }
    grid_print(&grid, cli, stdout);
    grid_done(&grid);
    return shown;
}

static const char *limited(struct work *w, const char *path)
{
    return path_query(&w->arena, path, "limit", arena_printf(&w->arena, "%" PRId64, w->options.limit).p);
}

static int get(struct cli *cli, struct work *w, const char *command, const char *path, struct jv *ret)
{
    struct web_request request = { .path = path };
    int                code = cli_ask(cli, command, w->web, &request, &w->arena, ret, NULL);
    if (code == EXIT_OK && w->options.json)
        cli_put_json(stdout, *ret, cli->out_tty);
    return code;
}

static void tell_total(struct jv list, const char *member, size_t shown, const char *nothing)
{
    int64_t total = 0;
    if (shown == 0)
        fprintf(stderr, "%s\n", nothing);
    else if (jv_i64(jv_get(list, member), &total) && (size_t)total > shown)
        fprintf(stderr, "%zu of %" PRId64 "; more with --limit\n", shown, total);
}

/* ---- inspect ---- */

static void print_inspection(const struct cli *cli, struct jv all, struct arena *arena)
{
    static const char *const attempt_heads[] = { "ATTEMPT", "STATUS", "TRIGGER", ">EVENTS", ">DURATION", "ERROR", NULL };
    static const char *const attempt_members[] = { "attempt_no", "status", "trigger", "latest_seq", "duration_ms", "/error/code", NULL };
    static const char *const node_heads[] = { ">ATTEMPT", "NODE", "CAPABILITY", ">TRY", "STATUS", ">DURATION", "ERROR", NULL };
    static const char *const node_members[] = { "attempt_no", "node", "capability_ref", "try_no", "status", "duration_ms", "/error/code",
                                                NULL };
    static const char *const run_members[] = { "run_id", "status", "source", "rerun_of_run_id", "human_prompt" };
    struct jv   run = jv_get(all, "run"), failure = jv_get(all, "failure");
    for (size_t i = 0; i < ARRAY_LEN(run_members); i++) {
        struct jv   v = jv_get(run, run_members[i]);
        struct span text = cli_text(v, arena);
        if (!jv_is(v, JSON_NONE))
            field_print(cli, stdout, run_members[i], text, strcmp(run_members[i], "status") ? PAINT_OFF : cli_status_paint(text));
    }
    if (jv_count(failure)) {
        field_print(cli, stdout, "failure", cli_text(jv_get(failure, "failure_id"), arena), PAINT_OFF);
        field_print(cli, stdout, "can retry", cli_text(jv_get(failure, "can_retry"), arena), PAINT_OFF);
    }
    printf("\n");
    print_items(cli, jv_get(all, "attempts"), attempt_heads, attempt_members, arena);
    printf("\n");
    print_items(cli, jv_get(all, "node_executions"), node_heads, node_members, arena);
}

int cmd_runs_inspect(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = { JSON_OPT, CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = { .command = "runs inspect", .operands = "RUN", .min = 1, .max = 1, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Shows what a run did: its attempts and node executions. --json has the events too." };
    CLEANUP(work_done) struct work w = { 0 };
    struct jv all;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    code = get(cli, &w, spec.command, path_make(&w.arena, "/v1/api/runs/%s/inspection", w.args.items[0]), &all);
    if (code == EXIT_OK && !w.options.json)
        print_inspection(cli, all, &w.arena);
    return code;
}

/* ---- failures ---- */

int cmd_runs_failures(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        TEXT_OPT("agent", agent, "ID", "of this agent"),
        TEXT_OPT("category", category, "C", "with this error category"),
        TEXT_OPT("from", from, "TIME", "not before: a date or an RFC 3339 time"),
        TEXT_OPT("to", to, "TIME", "before"),
        LIMIT_OPT,
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs failures", .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Lists what went wrong, newest first." };
    static const char *const heads[] = { "RUN", "FAILED", "SCOPE", "STATUS", "ERROR", "RETRY", "SUMMARY", NULL };
    static const char *const members[] = { "run_id",     "failed_at", "failure_scope", "status",
                                           "error_code", "can_retry", "error_summary", NULL };
    CLEANUP(work_done) struct work w = { .options.limit = 20 };
    struct jv list;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    const char *path = limited(&w, "/v1/api/runs/failures");
    path = path_query(&w.arena, path, "agent_id", w.options.agent);
    path = path_query(&w.arena, path, "error_category", w.options.category);
    path = path_query(&w.arena, path_query(&w.arena, path, "from", w.options.from), "to", w.options.to);
    code = get(cli, &w, spec.command, path, &list);
    if (code == EXIT_OK && !w.options.json)
        tell_total(list, "count", print_items(cli, jv_get(list, "items"), heads, members, &w.arena), "no failures");
    return code;
}

/* ---- rerun, retry ---- */

static int post(struct cli *cli, struct work *w, const char *command, const char *path, struct span body, struct jv *ret)
{
    struct web_request request = { .method = "POST", .path = path, .body = body };
    int                code = cli_ask(cli, command, w->web, &request, &w->arena, ret, NULL);
    if (code == EXIT_OK && w->options.json && !w->options.follow)
        cli_put_json(stdout, *ret, cli->out_tty);
    return code;
}

static int watch_new(struct cli *cli, struct work *w, const char *command, const char *run)
{
    struct watch watch = { .cli = cli, .web = w->web, .command = command, .run_id = run, .json = w->options.json,
                           .leave_when_waiting = true };
    return watch_run(&watch);
}

int cmd_runs_rerun(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "follow", NULL, OPT_FLAG, offsetof(struct options, follow), NULL, "then watch the new run to its end", 0, 0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs rerun", .operands = "RUN", .min = 1, .max = 1, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Makes the request of a run once more: a new run with the same input, on "
                                                    "a thread of its own. The first one is left alone." };
    CLEANUP(work_done) struct work w = { 0 };
    struct jv made;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    code = post(cli, &w, spec.command, path_make(&w.arena, "/v1/api/runs/%s/rerun", w.args.items[0]), SPAN("{}"), &made);
    if (code)
        return code;
    const char *run = arena_copy(&w.arena, cli_text(jv_get(made, "run_id"), &w.arena)).p;
    if (w.options.follow)
        return watch_new(cli, &w, spec.command, run);
    if (!w.options.json)
        printf("run %s\n", run);
    return EXIT_OK;
}

int cmd_runs_retry(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        TEXT_OPT("reason", reason, "TEXT", "kept in the audit log"),
        { "follow", NULL, OPT_FLAG, offsetof(struct options, follow), NULL, "then watch the new attempt to its end", 0, 0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs retry", .operands = "RUN", .min = 1, .max = 1, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Tries a failed run again, from where it stood: a new attempt of the same "
                                                    "run. Possible when its error is retryable and its thread has not gone on." };
    CLEANUP(work_done) struct work w = { 0 };
    CLEANUP(buf_done) struct buf   body = { 0 };
    struct jw json = jw_on(&body);
    struct jv run;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    jw_obj(&json);
    if (w.options.reason) {
        jw_key(&json, "reason");
        jw_cstr(&json, w.options.reason);
    }
    jw_end(&json);
    code = post(cli, &w, spec.command, path_make(&w.arena, "/v1/api/runs/%s/retry", w.args.items[0]), buf_view(&body), &run);
    if (code)
        return code;
    if (w.options.follow)
        return watch_new(cli, &w, spec.command, w.args.items[0]);
    if (!w.options.json)
        printf("run %s: attempt %.*s\n", w.args.items[0], SPAN_ARG(cli_text(jv_get(run, "current_attempt_no"), &w.arena)));
    return EXIT_OK;
}

/* ---- replay ---- */

/* The id of the first or last checkpoint of the run, when one of these words is given; NULL: an error was printed. */
static const char *named_checkpoint(struct cli *cli, struct work *w, const char *command, const char *run, const char *name, int *code)
{
    bool      first = strcmp(name, "first") == 0;
    struct jv index;
    if (!first && strcmp(name, "last"))
        return name;
    struct web_request request = { .path = path_make(&w->arena, "/v1/api/runs/%s/checkpoints/index", run) };
    *code = cli_ask(cli, command, w->web, &request, &w->arena, &index, NULL);
    if (*code)
        return NULL;
    struct jv items = jv_get(index, "items");
    size_t    count = jv_count(items);
    if (!count) {
        *code = cli_fail(cli, command, EXIT_SERVER, "run %s has no checkpoint", run);
        return NULL;
    }
    return arena_copy(&w->arena, cli_text(jv_get(jv_at(items, first ? 0 : count - 1), "checkpoint_id"), &w->arena)).p;
}

static void put_replay_body(const struct work *w, struct buf *body)
{
    struct jw json = jw_on(body);
    jw_obj(&json);
    if (w->options.mode) {
        jw_key(&json, "mode");
        jw_cstr(&json, w->options.mode);
    }
    if (w->options.reason) {
        jw_key(&json, "reason");
        jw_cstr(&json, w->options.reason);
    }
    jw_end(&json);
}

int cmd_runs_replay(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        TEXT_OPT("mode", mode, "MODE",
                 "best_effort (default): calls are made again; strict: nothing is called, every answer is the recorded one"),
        TEXT_OPT("reason", reason, "TEXT", "kept with the new run"),
        { "follow", NULL, OPT_FLAG, offsetof(struct options, follow), NULL, "then watch the new run to its end", 0, 0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "runs replay", .operands = "RUN CHECKPOINT", .min = 2, .max = 2, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Makes a new run that begins at a checkpoint of another one; the first one is left "
                                                    "alone. CHECKPOINT is an id, or one of the words first and last." };
    CLEANUP(work_done) struct work w = { 0 };
    CLEANUP(buf_done) struct buf   body = { 0 };
    struct jv made;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    code = EXIT_OK;
    const char *source = w.args.items[0];
    const char *checkpoint = named_checkpoint(cli, &w, spec.command, source, w.args.items[1], &code);
    if (!checkpoint)
        return code;
    put_replay_body(&w, &body);
    code = post(cli, &w, spec.command, path_make(&w.arena, "/v1/api/runs/%s/checkpoints/%s/replay", source, checkpoint), buf_view(&body),
                &made);
    if (code)
        return code;
    const char *run = arena_copy(&w.arena, cli_text(jv_get(made, "run_id"), &w.arena)).p;
    if (w.options.follow)
        return watch_new(cli, &w, spec.command, run);
    if (!w.options.json)
        printf("run %s\n", run);
    return EXIT_OK;
}

/* ---- audit ---- */

int cmd_audit(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        TEXT_OPT("actor", actor, "ID", "done with this token"),
        TEXT_OPT("action", action, "A", "this action: run.cancel, bundle.publish, token.create …"),
        TEXT_OPT("resource", resource, "ID", "done to this run, agent, thread, token …"),
        TEXT_OPT("from", from, "TIME", "not before: a date or an RFC 3339 time"),
        TEXT_OPT("to", to, "TIME", "before"),
        LIMIT_OPT,
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "audit", .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Lists who changed what, newest first. Needs the scope audit:read." };
    static const char *const heads[] = { "AT", "ACTION", "KIND", "RESOURCE", "ACTOR", "DATA", NULL };
    static const char *const members[] = { "at", "action", "/resource/kind", "/resource/id", "/actor/id", "data", NULL };
    CLEANUP(work_done) struct work w = { .options.limit = 20 };
    struct jv list;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    const char *path = limited(&w, "/v1/api/audit");
    path = path_query(&w.arena, path_query(&w.arena, path, "actor", w.options.actor), "action", w.options.action);
    path = path_query(&w.arena, path, "resource_id", w.options.resource);
    path = path_query(&w.arena, path_query(&w.arena, path, "from", w.options.from), "to", w.options.to);
    code = get(cli, &w, spec.command, path, &list);
    if (code == EXIT_OK && !w.options.json)
        tell_total(list, "total", print_items(cli, jv_get(list, "items"), heads, members, &w.arena), "nothing");
    return code;
}
