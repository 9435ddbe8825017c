/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_approvals.c - perdure approvals list | approve | reject: what runs ask of people. */
#include "cli/table.h"
#include <inttypes.h>

struct options {
    struct web_options web;
    bool               json;
    const char        *status, *run, *input, *reason;
    int64_t            limit;
};

#define JSON_OPT { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print the server's answer", 0, 0 }

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

static void print_list(const struct cli *cli, struct jv list, struct arena *arena)
{
    static const char *const heads[] = { "APPROVAL", "STATUS", "RUN", "NODE", "CREATED", "PROMPT", NULL };
    static const char *const members[] = { "approval_id", "status", "run_id", "node", "created_at", "prompt" };
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
        fprintf(stderr, "no approvals\n");
    else if (jv_i64(jv_get(list, "total"), &total) && (size_t)total > shown)
        fprintf(stderr, "%zu of %" PRId64 "; more with --limit\n", shown, total);
}

int cmd_approvals_list(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "status", NULL, OPT_TEXT, offsetof(struct options, status), "S",
          "pending (the default), approved, rejected, expired, cancelled or all", 0, 0 },
        { "run", NULL, OPT_TEXT, offsetof(struct options, run), "RUN", "of this run", 0, 0 },
        { "limit", NULL, OPT_INT, offsetof(struct options, limit), "N", "how many at most, default 20", 1, 500 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "approvals list", .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Lists what runs ask of people, newest first." };
    CLEANUP(work_done) struct work w = { .options = { .limit = 20, .status = "pending" } };
    struct jv list;
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    const char *path = path_query(&w.arena, "/v1/api/approvals", "limit", arena_printf(&w.arena, "%" PRId64, w.options.limit).p);
    path = path_query(&w.arena, path, "status", strcmp(w.options.status, "all") ? w.options.status : NULL);
    path = path_query(&w.arena, path, "run_id", w.options.run);
    struct web_request request = { .path = path };
    code = cli_ask(cli, spec.command, w.web, &request, &w.arena, &list, NULL);
    if (code == EXIT_OK && w.options.json)
        cli_put_json(stdout, list, cli->out_tty);
    else if (code == EXIT_OK)
        print_list(cli, list, &w.arena);
    return code;
}

/* ---- approve, reject ---- */

static int decide(struct cli *cli, struct work *w, const char *command, const char *verb, struct buf *body)
{
    struct jv          answer;
    struct web_request request = { .method = "POST", .body = buf_view(body),
                                   .path = path_make(&w->arena, "/v1/api/approvals/%s/%s", w->args.items[0], verb) };
    int code = cli_ask(cli, command, w->web, &request, &w->arena, &answer, NULL);
    if (code == EXIT_OK && w->options.json)
        cli_put_json(stdout, answer, cli->out_tty);
    else if (code == EXIT_OK)
        printf("approval %s %.*s; run %.*s goes on\n", w->args.items[0], SPAN_ARG(cli_text(jv_get(answer, "status"), &w->arena)),
               SPAN_ARG(cli_text(jv_get(answer, "run_id"), &w->arena)));
    return code;
}

int cmd_approvals_approve(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "input", NULL, OPT_TEXT, offsetof(struct options, input), "JSON",
          "the answer, default {\"approved\":true}; @FILE reads it, @- from standard input", 0, 0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "approvals approve", .operands = "APPROVAL", .min = 1, .max = 1,
                                           .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Says yes to what a run asks, or gives it another answer." };
    CLEANUP(work_done) struct work w = { 0 };
    CLEANUP(buf_done) struct buf   body = { 0 };
    struct jw    json = jw_on(&body);
    struct jv    input;
    struct error error;
    int          code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    if (w.options.input && cli_json_option("input", w.options.input, &w.arena, &input, &error))
        return cli_fail(cli, spec.command, EXIT_USAGE, "%s", error.message);
    jw_obj(&json);
    if (w.options.input) {
        jw_key(&json, "input");
        jw_raw(&json, jv_raw(input));
    }
    jw_end(&json);
    return decide(cli, &w, spec.command, "approve", &body);
}

int cmd_approvals_reject(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "reason", NULL, OPT_TEXT, offsetof(struct options, reason), "TEXT", "told to the run and kept", 0, 0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "approvals reject", .operands = "APPROVAL", .min = 1, .max = 1,
                                           .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Says no to what a run asks. What that means is up to the agent." };
    CLEANUP(work_done) struct work w = { 0 };
    CLEANUP(buf_done) struct buf   body = { 0 };
    struct jw json = jw_on(&body);
    int       code = work_begin(cli, &spec, argc, argv, &w);
    if (code >= 0)
        return code;
    jw_obj(&json);
    if (w.options.reason) {
        jw_key(&json, "reason");
        jw_cstr(&json, w.options.reason);
    }
    jw_end(&json);
    return decide(cli, &w, spec.command, "reject", &body);
}
