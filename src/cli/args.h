/* SPDX-License-Identifier: Apache-2.0 */
/* args.h - options of the command line: a table of rows in, a filled struct of values out.
 *
 * A row says the long name, the environment variable that mirrors it, the kind, where the value goes and one line of
 * help, so that parsing, messages and help can never disagree. What is on the command line wins over the
 * environment; what is in neither leaves the value as the caller set it (that is where defaults and configuration
 * files come in; `args_given` tells them apart). Accepted: --name VALUE, --name=VALUE, --flag, --flag=false,
 * --no-flag, --help, -h; `--` ends the options. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stdio.h>

enum opt_kind {
    OPT_FLAG,    /* bool */
    OPT_TEXT,    /* const char *: points into argv or the environment */
    OPT_INT,     /* int64_t, decimal, min..max of the row (both 0: any) */
    OPT_SECONDS, /* int64_t milliseconds, written as seconds with an optional fraction; min..max in milliseconds */
    OPT_LIST,    /* struct opt_list: may be given several times; the environment gives one */
};

enum { OPT_LIST_MAX = 64, ARGS_MAX = 64, ARGS_OPTIONS_MAX = 64 };

struct opt_list {
    const char *items[OPT_LIST_MAX];
    size_t      count;
};

struct opt {
    const char   *name;  /* "listen" for --listen */
    const char   *env;   /* "PERDURE_LISTEN", or NULL */
    enum opt_kind kind;
    size_t        offset; /* into the struct of values */
    const char   *arg;   /* what help calls the value: "URL"; NULL for a flag */
    const char   *help;
    int64_t       min, max;
};

struct args_spec {
    const char       *command;  /* "runs list" */
    const char       *operands; /* "RUN" or "AGENT|FILE", for the usage line; NULL when there are none */
    const char       *about;    /* a paragraph */
    const char       *epilog;   /* examples, exit codes; may be NULL */
    const struct opt *opts;
    size_t            opt_count; /* at most ARGS_OPTIONS_MAX */
    size_t            min, max;  /* how many operands */
};

struct args {
    const char *items[ARGS_MAX]; /* the operands */
    size_t      count;
    uint64_t    given;           /* bit i: option i came from the command line or the environment */
};

enum args_result { ARGS_OK, ARGS_HELP, ARGS_WRONG };

/* argv[0] is the name of the command and is skipped. On ARGS_WRONG `error` names the option; `values` may then be
 * partly filled. ARGS_HELP: --help was among the options. */
enum args_result args_parse(const struct args_spec *spec, int argc, char **argv, void *values, struct args *ret,
                            struct error *error);
/* Was the option set by the command line or the environment? `name` must be in the table. */
bool args_given(const struct args_spec *spec, const struct args *args, const char *name);
void args_help(const struct args_spec *spec, FILE *out);

/* What every command does first. Returns -1 to go on, else the exit code to end with: 0 after help was printed to
 * stdout, 2 after a message on stderr. */
int args_begin(const struct args_spec *spec, int argc, char **argv, void *values, struct args *ret);

/* The nearest of `names` when it is near enough to be a slip of the fingers, else NULL. */
const char *args_nearest(const char *word, const char *const *names, size_t count);
