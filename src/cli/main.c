/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the perdure command: a table of commands, help, and the nearest one for a slip of the fingers. */
#include "cli/commands.h"
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char           *name, *operands, *summary;
    int                 (*run)(struct cli *cli, int argc, char **argv); /* NULL: a group */
    const struct command *subs;                                         /* of a group; ends with an empty row */
};

static const struct command runs_commands[] = {
    { "list", "", "list runs, newest first", cmd_runs_list, NULL },
    { "show", "RUN", "show one run: fields, input, output, error", cmd_runs_show, NULL },
    { "follow", "RUN", "watch a run's events until it ends", cmd_runs_follow, NULL },
    { "cancel", "RUN", "cancel a run", cmd_runs_cancel, NULL },
    { "resume", "RUN", "answer a run that waits for a person", cmd_runs_resume, NULL },
    { "inspect", "RUN", "show a run's attempts and node executions", cmd_runs_inspect, NULL },
    { "failures", "", "list what went wrong, newest first", cmd_runs_failures, NULL },
    { "rerun", "RUN", "the same request once more, as a new run", cmd_runs_rerun, NULL },
    { "retry", "RUN", "try a failed run again from where it stood", cmd_runs_retry, NULL },
    { "replay", "RUN CHECKPOINT", "a new run from one of its checkpoints", cmd_runs_replay, NULL },
    { 0 },
};

static const struct command approvals_commands[] = {
    { "list", "", "list what runs ask of people", cmd_approvals_list, NULL },
    { "approve", "APPROVAL", "say yes, or answer", cmd_approvals_approve, NULL },
    { "reject", "APPROVAL", "say no", cmd_approvals_reject, NULL },
    { 0 },
};

static const struct command crons_commands[] = {
    { "list", "", "list crons and when they are due", cmd_crons_list, NULL },
    { "create", "AGENT", "run an agent by the clock", cmd_crons_create, NULL },
    { "delete", "CRON", "end a cron; its runs stay", cmd_crons_delete, NULL },
    { "trigger", "CRON", "run it now", cmd_crons_trigger, NULL },
    { 0 },
};

static const struct command agents_commands[] = {
    { "apply", "FILE", "create or update an agent from a file", cmd_agents_apply, NULL },
    { "list", "", "list agents", cmd_agents_list, NULL },
    { "show", "AGENT", "show an agent and its live definition", cmd_agents_show, NULL },
    { 0 },
};

static const struct command token_commands[] = {
    { "create", "", "make a token", cmd_token_create, NULL },
    { "list", "", "list tokens", cmd_token_list, NULL },
    { "revoke", "ID", "make a token invalid", cmd_token_revoke, NULL },
    { 0 },
};

static const struct command stream_commands[] = {
    { "create", "NAME", "make a stream, or fork one", cmd_stream_create, NULL },
    { "append", "NAME [TEXT]", "append one message, or a file", cmd_stream_append, NULL },
    { "read", "NAME", "print what is there", cmd_stream_read, NULL },
    { "tail", "NAME", "print what comes, until it is closed", cmd_stream_tail, NULL },
    { "close", "NAME", "let nothing be appended any more", cmd_stream_close, NULL },
    { "delete", "NAME", "delete a stream", cmd_stream_delete, NULL },
    { 0 },
};

static const struct command workflow_commands[] = {
    { "lint", "FILE", "list what is wrong with a workflow, and advice", cmd_workflow_lint, NULL },
    { "compile", "FILE", "print the plan it compiles to, or its hash", cmd_workflow_compile, NULL },
    { "graph", "FILE", "draw it for Mermaid or Graphviz", cmd_workflow_graph, NULL },
    { 0 },
};

static const struct command team_commands[] = {
    { "run", "FILE", "run a team and watch it", cmd_team_run, NULL },
    { "replay", "FILE", "the result that belongs to a trace", cmd_team_replay, NULL },
    { "bench", "FILE", "one task under several protocols, compared", cmd_team_bench, NULL },
    { "conformance", "DIR", "run scenarios of the teams contract and compare", cmd_team_conformance, NULL },
    { 0 },
};

static const struct command commands[] = {
    { "serve", "", "run the server", cmd_serve, NULL },
    { "run", "AGENT|FILE", "start a run and watch it", cmd_run, NULL },
    { "runs", "", "list, show, follow, cancel, resume, inspect, retry runs", NULL, runs_commands },
    { "approvals", "", "list, approve, reject what runs ask", NULL, approvals_commands },
    { "crons", "", "list, create, delete, trigger runs by the clock", NULL, crons_commands },
    { "agents", "", "apply, list, show agents", NULL, agents_commands },
    { "workflow", "", "lint, compile, graph workflow files", NULL, workflow_commands },
    { "team", "", "run, replay, bench teams of agents; conformance", NULL, team_commands },
    { "stream", "", "create, append, read, tail, close, delete streams", NULL, stream_commands },
    { "token", "", "create, list, revoke tokens", NULL, token_commands },
    { "audit", "", "list who changed what", cmd_audit, NULL },
    { "doctor", "", "check this machine, the server and the configuration", cmd_doctor, NULL },
    { 0 },
};

/* ---- help ---- */

static void print_commands(FILE *out, const struct command *table)
{
    for (; table->name; table++) {
        int n = fprintf(out, "  %s%s%s", table->name, table->operands[0] ? " " : "", table->operands);
        fprintf(out, "%*s%s\n", n < 20 ? 20 - n : 1, "", table->summary);
    }
}

static void print_help(FILE *out)
{
    fputs("usage: perdure COMMAND [options]\n\nA self-hosted engine that makes runs of AI agents last.\n\ncommands:\n",
          out);
    print_commands(out, commands);
    fputs(
        "  help [COMMAND]    this text, or a command's own\n"
        "\n"
        "Every command has --help, every list and every watch has --json. Which server: --server or PERDURE_URL (default\n" WEB_DEFAULT_URL
        "). Which token: --token, PERDURE_TOKEN, or the file DIR/token of --data or PERDURE_DATA\n"
        "(default ./" WEB_DEFAULT_DATA "). NO_COLOR turns colours off.\n"
        "\n"
        "exit codes:\n"
        "  0   done; a watched run completed\n"
        "  1   a watched run failed; doctor found something broken\n"
        "  2   the command line or a file is wrong\n"
        "  3   a watched run was cancelled\n"
        "  4   a watched run waits for a person and there is no terminal to ask\n"
        "  5   the server cannot be reached or refused the request\n"
        "  6   no token, a wrong one, or not enough rights\n"
        "  7   --timeout is over; the run goes on\n"
        "  130 Ctrl-C\n",
        out);
}

static void print_group_help(FILE *out, const struct command *group)
{
    fprintf(out, "usage: perdure %s COMMAND [options]\n\ncommands:\n", group->name);
    print_commands(out, group->subs);
    fprintf(out, "\nSee: perdure %s COMMAND --help\n", group->name);
}

/* ---- which command ---- */

static const struct command *find(const struct command *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

/* `prefix` is "" or the group's name and a blank. */
static int unknown(const struct command *table, const char *prefix, const char *word)
{
    const char *names[32];
    size_t      n = 0;
    for (; table[n].name && n < ARRAY_LEN(names); n++)
        names[n] = table[n].name;
    const char *near = args_nearest(word, names, n);
    fprintf(stderr, "perdure: there is no command \"%s%s\"", prefix, word);
    if (near)
        fprintf(stderr, "; did you mean \"%s%s\"?", prefix, near);
    fprintf(stderr, "\nSee: perdure help\n");
    return EXIT_USAGE;
}

static bool is_help(const char *word)
{
    return strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int run_group(struct cli *cli, const struct command *group, int argc, char **argv)
{
    if (argc < 2 || is_help(argv[1])) {
        const struct command *sub = argc > 2 ? find(group->subs, argv[2]) : NULL;
        char                  help[] = "--help";
        char                 *words[] = { argc > 2 ? argv[2] : NULL, help, NULL };
        if (sub)
            return sub->run(cli, 2, words);
        print_group_help(argc < 2 ? stderr : stdout, group);
        return argc < 2 ? EXIT_USAGE : EXIT_OK;
    }
    const struct command *sub = find(group->subs, argv[1]);
    char                  prefix[32];
    snprintf(prefix, sizeof prefix, "%s ", group->name);
    return sub ? sub->run(cli, argc - 1, argv + 1) : unknown(group->subs, prefix, argv[1]);
}

/* `perdure help runs list` is `perdure runs list --help`. */
static int help(struct cli *cli, int argc, char **argv)
{
    char                  option[] = "--help";
    const struct command *command = argc > 1 ? find(commands, argv[1]) : NULL;
    if (argc < 2) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (!command)
        return unknown(commands, "", argv[1]);
    char *words[] = { argv[1], option, argc > 2 ? argv[2] : NULL, NULL };
    return command->subs ? run_group(cli, command, argc > 2 ? 3 : 2, words) : command->run(cli, 2, words);
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (is_help(argv[1]))
        return help(cli, argc - 1, argv + 1);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("perdure %s\n", PERDURE_VERSION);
        return EXIT_OK;
    }
    const struct command *command = find(commands, argv[1]);
    if (!command)
        return unknown(commands, "", argv[1]);
    return command->subs ? run_group(cli, command, argc - 1, argv + 1) : command->run(cli, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    /* Only for the width of characters on a terminal; numbers and messages stay as they are. */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    struct cli cli = cli_here();
    int        code = dispatch(&cli, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout))
        return code == EXIT_OK ? EXIT_FAILED : code;
    return code;
}
