/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_team.c - perdure team conformance: the teams contract's scenarios and vectors against this engine. */
#include "cli/commands.h"
#include "cli/team_conform.h"

struct team_options {
    bool quiet, json;
};

struct print {
    const struct cli          *cli;
    const struct team_options *options;
};

static void print_json(struct span name, const char *difference)
{
    CLEANUP(buf_done) struct buf line = { 0 };
    struct jw w = jw_on(&line);
    jw_obj(&w);
    jw_key(&w, "name"), jw_str(&w, name);
    jw_key(&w, "passed"), jw_bool(&w, !difference);
    if (difference)
        jw_key(&w, "difference"), jw_cstr(&w, difference);
    jw_end(&w);
    printf("%.*s\n", SPAN_ARG(buf_view(&line)));
}

static void print_case(void *user, struct span name, const char *difference)
{
    const struct print *print = user;
    bool                color = print->cli->out_color;
    if (print->options->json)
        print_json(name, difference);
    else if (difference) {
        printf("%sfailed%s  ", cli_paint(color, PAINT_RED), cli_paint(color, PAINT_OFF));
        cli_put_safe(stdout, name, print->cli->out_tty);
        printf("\n        ");
        cli_put_safe(stdout, span_of(difference), print->cli->out_tty);
        printf("\n");
    } else if (!print->options->quiet) {
        printf("%spassed%s  ", cli_paint(color, PAINT_GREEN), cli_paint(color, PAINT_OFF));
        cli_put_safe(stdout, name, print->cli->out_tty);
        printf("\n");
    }
}

int cmd_team_conformance(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "quiet", NULL, OPT_FLAG, offsetof(struct team_options, quiet), NULL, "print only what failed", 0, 0 },
        { "json", NULL, OPT_FLAG, offsetof(struct team_options, json), NULL, "one JSON object per case", 0, 0 },
    };
    static const struct args_spec spec = {
        .command = "team conformance",
        .operands = "DIR",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .epilog = "Runs every DIR/*.scenario.json (and those in DIR/scenarios) under a simulated host with a virtual clock, compares\n"
                  "with *.expected.json, and checks the vector files in DIR, in DIR/vectors and beside a folder called scenarios.\n"
                  "Needs no server. The last line is `N passed, N failed`; the exit code is 1 when something failed.\n",
    };
    struct team_options options = { 0 };
    struct args         args;
    int                 code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    struct print   print = { cli, &options };
    struct conform conform = { .each = print_case, .user = &print };
    struct error   error = { 0 };
    if (conform_folder(args.items[0], &conform, &error) != ERR_OK)
        return cli_fail(cli, spec.command, EXIT_USAGE, "%s", error.message);
    if (!options.json)
        printf("%zu passed, %zu failed\n", conform.passed, conform.failed);
    return conform.failed ? EXIT_FAILED : EXIT_OK;
}
