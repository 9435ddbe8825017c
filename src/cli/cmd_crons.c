/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_crons.c - perdure crons list | create | delete | trigger: runs that begin by the clock. */
#include "cli/table.h"
#include <inttypes.h>

struct options {
    struct web_options web;
    bool               json, disabled;
    const char        *schedule, *timezone, *input, *end, *thread;
    int64_t            limit;
};

#define JSON_OPT { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print the server's answer", 0, 0 }

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

static void print_list(const struct cli *cli, struct jv list, struct arena *arena)
{
    static const char *const heads[] = { "CRON", "SCHEDULE", "TIMEZONE", "NEXT RUN", "LAST RUN", "AGENT", NULL };
    static const char *const members[] = { "cron_id", "schedule", "timezone", "next_run_at", "last_run_at", "agent_id" };
    struct grid              grid;
    size_t                   shown = 0;
    int64_t                  total = 0;
    grid_init(&grid, heads);
    for (struct jv_iter it = jv_iter(jv_get(list, "items")); jv_step(&it); shown++)
        for (size_t i = 0; i < ARRAY_LEN(members); i++)
            grid_put(&grid, cli_text(jv_get(it.value, members[i]), arena), PAINT_OFF);
    grid_print(&grid, cli, stdout);
    grid_done(&grid);
    if (shown == 0)
        fprintf(stderr, "no crons\n");
    else if (jv_i64(jv_get(list, "total"), &total) && (size_t)total > shown)
        fprintf(stderr, "%zu of %" PRId64 "; more with --limit\n", shown, total);
}

int cmd_crons_list(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "limit", NULL, OPT_INT, offsetof(struct options, limit), "N", "how many at most, default 20", 1, 500 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "crons list", .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Lists runs that begin by the clock, newest first." };
    CLEANUP(work_done) struct work w = { .options = { .limit = 20 } };
    struct jv list;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    const char        *limit = arena_printf(&w.arena, "%" PRId64, w.options.limit).p;
    struct web_request request = { .path = path_query(&w.arena, "/v1/api/crons", "limit", limit) };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &list, NULL);
    if (code == EXIT_OK && w.options.json)
        cli_put_json(stdout, list, cli->out_tty);
    else if (code == EXIT_OK)
        print_list(cli, list, &w.arena);
    return code;
}

/* ---- create ---- */

static void put_text(struct jw *json, const char *name, const char *text)
{
    if (!text)
        return;
    jw_key(json, name);
    jw_cstr(json, text);
}

static void put_body(const struct options *options, const char *agent, const struct jv *input, struct jw *json)
{
    jw_obj(json);
    put_text(json, "agent_id", agent);
    put_text(json, "schedule", options->schedule);
    put_text(json, "timezone", options->timezone);
    put_text(json, "end_time", options->end);
    if (input) {
        jw_key(json, "input");
        jw_raw(json, jv_raw(*input));
    }
    if (options->thread) {
        jw_key(json, "thread");
        jw_obj(json);
        put_text(json, "thread_id", options->thread);
        jw_end(json);
    }
    jw_key(json, "enabled");
    jw_bool(json, !options->disabled);
    jw_end(json);
}

int cmd_crons_create(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "schedule", NULL, OPT_TEXT, offsetof(struct options, schedule), "LINE",
          "five fields: minute hour day-of-month month day-of-week, as in \"0 9 * * 1-5\"", 0, 0 },
        { "timezone", NULL, OPT_TEXT, offsetof(struct options, timezone), "ZONE", "an IANA name, default UTC", 0, 0 },
        { "input", NULL, OPT_TEXT, offsetof(struct options, input), "JSON", "of every run; @FILE reads it, @- from standard input", 0, 0 },
        { "thread", NULL, OPT_TEXT, offsetof(struct options, thread), "THREAD",
          "all runs on this thread, default one of its own each", 0, 0 },
        { "end", NULL, OPT_TEXT, offsetof(struct options, end), "TIME", "no run from then on, RFC 3339", 0, 0 },
        { "disabled", NULL, OPT_FLAG, offsetof(struct options, disabled), NULL, "never due until it is enabled", 0, 0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "crons create", .operands = "AGENT", .min = 1, .max = 1, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts), .about = "Runs an agent (its id) by the clock.",
                                           .epilog = "example:\n  perdure crons create AGENT --schedule \"0 9 * * 1-5\" "
                                                     "--timezone Europe/Berlin\n" };
    CLEANUP(work_done) struct work w = { 0 };
    CLEANUP(buf_done) struct buf   body = { 0 };
    struct jw    json = jw_on(&body);
    struct jv    input, answer;
    struct error error;
    int          code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    if (!w.options.schedule)
        return cli_fail(cli, spec.command, EXIT_USAGE, "--schedule is required");
    if (w.options.input && cli_json_option("input", w.options.input, &w.arena, &input, &error))
        return cli_fail(cli, spec.command, EXIT_USAGE, "%s", error.message);
    put_body(&w.options, w.args.items[0], w.options.input ? &input : NULL, &json);
    struct web_request request = { .method = "POST", .path = "/v1/api/crons", .body = buf_view(&body) };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &answer, NULL);
    if (code == EXIT_OK && w.options.json)
        cli_put_json(stdout, answer, cli->out_tty);
    else if (code == EXIT_OK)
        printf("cron %.*s; next run %.*s\n", SPAN_ARG(cli_text(jv_get(answer, "cron_id"), &w.arena)),
               SPAN_ARG(cli_text(jv_get(answer, "next_run_at"), &w.arena)));
    return code;
}

/* ---- delete, trigger ---- */

int cmd_crons_delete(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = { CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = { .command = "crons delete", .operands = "CRON", .min = 1, .max = 1, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts), .about = "Ends a cron. Its runs stay." };
    CLEANUP(work_done) struct work w = { 0 };
    struct jv answer;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    struct web_request request = { .method = "DELETE", .path = path_make(&w.arena, "/v1/api/crons/%s", w.args.items[0]) };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &answer, NULL);
    if (code == EXIT_OK)
        printf("cron %s is gone\n", w.args.items[0]);
    return code;
}

int cmd_crons_trigger(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = { JSON_OPT, CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = { .command = "crons trigger", .operands = "CRON", .min = 1, .max = 1, .opts = opts,
                                           .opt_count = ARRAY_LEN(opts), .about = "Runs a cron's agent now, whatever the clock says." };
    CLEANUP(work_done) struct work w = { 0 };
    struct jv answer;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    struct web_request request = { .method = "POST", .path = path_make(&w.arena, "/v1/api/crons/%s/trigger", w.args.items[0]) };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &answer, NULL);
    if (code == EXIT_OK && w.options.json)
        cli_put_json(stdout, answer, cli->out_tty);
    else if (code == EXIT_OK)
        printf("run %.*s\n", SPAN_ARG(cli_text(jv_get(answer, "run_id"), &w.arena)));
    return code;
}
