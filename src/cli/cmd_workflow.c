/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_workflow.c - perdure workflow lint | compile | graph: what a workflow file means, without a server. */
#include "base/ids.h"
#include "cli/document.h"
#include "cli/table.h"
#include "workflow/spec.h"

enum { JSON_DEPTH = 200 };

struct options {
    bool        json, hash, strict;
    const char *format;
};

#define EPILOG                                                                                                         \
    "FILE is JSON or YAML, or - for standard input. Both formats are read: kind \"workflow\" and kind \"workflow.v1\".\n" \
    "Run one with: perdure run FILE\n"                                                                                  \
    "\n"                                                                                                               \
    "exit codes: 0 it is a workflow; 2 the file is wrong or cannot be read (all issues are listed)."

/* What one command works on. */
struct work {
    struct arena  arena;
    struct jv     spec;
    struct issues issues, warnings;
    struct span   plan; /* empty when there are issues */
};

/* ---- reading ---- */

/* -1 to go on. */
static int read_spec(const struct cli *cli, const char *command, const char *path, struct work *work)
{
    struct error error;
    enum err     err = document_read(path, JSON_DEPTH, &work->arena, &work->spec, &error);
    if (err)
        return cli_fail(cli, command, EXIT_USAGE, "%s: %s", path, error.message);
    work->issues.arena = work->warnings.arena = &work->arena;
    return -1;
}

/* ---- issues ---- */

static void print_issues(const struct cli *cli, const struct issues *issues, enum paint paint, FILE *out)
{
    static const char *const heads[] = { "PATH", "CODE", "MESSAGE", NULL };
    struct grid grid;
    size_t      kept = issues->count < ISSUES_MAX ? issues->count : ISSUES_MAX;
    grid_init(&grid, heads);
    for (size_t i = 0; i < kept; i++) {
        grid_put(&grid, issues->items[i].pointer, PAINT_BOLD);
        grid_put(&grid, issues->items[i].code, paint);
        grid_put(&grid, issues->items[i].message, PAINT_OFF);
    }
    grid_print(&grid, cli, out);
    grid_done(&grid);
}

static void put_line(struct buf *out)
{
    printf("%.*s\n", SPAN_ARG(buf_view(out)));
    buf_done(out);
}

/* Issues of a file that was to be compiled: in place of the result for programs, on stderr for people. */
static int refuse(const struct cli *cli, const char *command, const char *path, const struct work *work, bool json)
{
    if (json) {
        struct buf out = { 0 };
        struct jw  w = jw_on(&out);
        jw_obj(&w);
        jw_key(&w, "issues");
        spec_issues_to_json(&work->issues, &w);
        jw_end(&w);
        put_line(&out);
        return EXIT_USAGE;
    }
    (void)cli_fail(cli, command, EXIT_USAGE, "%s: %zu issue%s", path, work->issues.count,
                   work->issues.count == 1 ? "" : "s");
    struct cli err_cli = *cli;
    err_cli.out_color = cli->err_color;
    print_issues(&err_cli, &work->issues, PAINT_RED, stderr);
    return EXIT_USAGE;
}

static void put_hash(struct span plan, struct buf *out)
{
    struct sha256 hash = sha256_of(plan);
    buf_hex(out, hash.b, sizeof hash.b);
}

/* ---- lint ---- */

/* As POST /workflows/lint answers (workflow-runs.md 2.8), without the plan itself. */
static void print_lint_json(const struct work *work)
{
    struct buf out = { 0 }, hash = { 0 };
    struct jw  w = jw_on(&out);
    struct jv  kind = jv_is(work->spec, JSON_OBJECT) ? jv_get(work->spec, "kind") : (struct jv){ 0 };
    jw_obj(&w);
    if (jv_is(kind, JSON_STRING)) {
        jw_key(&w, "kind");
        jw_raw(&w, jv_raw(kind));
    }
    jw_key(&w, "lint_issues");
    spec_issues_to_json(&work->warnings, &w);
    jw_key(&w, "compile_issues");
    spec_issues_to_json(&work->issues, &w);
    if (work->plan.n) {
        put_hash(work->plan, &hash);
        jw_key(&w, "plan_hash");
        jw_str(&w, buf_view(&hash));
    }
    jw_end(&w);
    put_line(&out);
    buf_done(&hash);
}

int cmd_workflow_lint(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "strict", NULL, OPT_FLAG, offsetof(struct options, strict), NULL, "let advice count as an issue", 0, 0 },
        { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print JSON for programs", 0, 0 },
    };
    static const struct args_spec spec = {
        .command = "workflow lint",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Lists what is wrong with a workflow, and advice: what is ignored, unused, not strict, or not portable.",
        .epilog = EPILOG,
    };
    struct options options = { 0 };
    struct args    args;
    struct work    work = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = read_spec(cli, spec.command, args.items[0], &work);
    if (code < 0) {
        bool bad = spec_compile(work.spec, &work.arena, &work.plan, &work.issues) != ERR_OK;
        spec_lint(work.spec, &work.warnings);
        code = bad || (options.strict && work.warnings.count) ? EXIT_USAGE : EXIT_OK;
        if (options.json) {
            print_lint_json(&work);
        } else {
            print_issues(cli, &work.issues, PAINT_RED, stdout);
            print_issues(cli, &work.warnings, PAINT_YELLOW, stdout);
            printf("%s%s: %zu issues, %zu pieces of advice\n", work.issues.count + work.warnings.count ? "\n" : "",
                   args.items[0], work.issues.count, work.warnings.count);
        }
    }
    arena_done(&work.arena);
    return code;
}

/* ---- compile ---- */

static void print_plan(const struct cli *cli, struct work *work, const struct options *options)
{
    struct buf out = { 0 };
    struct jw  w = jw_on(&out);
    if (options->hash) {
        put_hash(work->plan, &out);
    } else if (options->json) {
        struct buf hash = { 0 };
        put_hash(work->plan, &hash);
        jw_obj(&w);
        jw_key(&w, "plan_json");
        jw_raw(&w, work->plan);
        jw_key(&w, "plan_hash");
        jw_str(&w, buf_view(&hash));
        jw_end(&w);
        buf_done(&hash);
    } else if (cli->out_tty) {
        cli_put_json(stdout, json_read(work->plan, &work->arena), true);
        return;
    } else {
        buf_span(&out, work->plan);
    }
    put_line(&out);
}

int cmd_workflow_compile(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "hash", NULL, OPT_FLAG, offsetof(struct options, hash), NULL, "print only the plan_hash", 0, 0 },
        { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL,
          "print {\"plan_json\",\"plan_hash\"}, or {\"issues\"}", 0, 0 },
    };
    static const struct args_spec spec = {
        .command = "workflow compile",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Prints the plan that a workflow compiles to: canonical JSON of kind workflow.v1, indented on a terminal.",
        .epilog = EPILOG,
    };
    struct options options = { 0 };
    struct args    args;
    struct work    work = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = read_spec(cli, spec.command, args.items[0], &work);
    if (code < 0 && spec_compile(work.spec, &work.arena, &work.plan, &work.issues) != ERR_OK)
        code = refuse(cli, spec.command, args.items[0], &work, options.json);
    if (code < 0) {
        print_plan(cli, &work, &options);
        code = EXIT_OK;
    }
    arena_done(&work.arena);
    return code;
}

/* ---- graph ---- */

static int print_graph(const struct cli *cli, struct work *work, enum spec_graph_form form)
{
    struct buf out = { 0 };
    enum err   err = spec_graph(json_read(work->plan, &work->arena), form, &out);
    assert(err == ERR_OK); /* it was compiled a moment ago */
    cli_put_safe(stdout, buf_view(&out), cli->out_tty);
    buf_done(&out);
    return EXIT_OK;
}

int cmd_workflow_graph(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "format", NULL, OPT_TEXT, offsetof(struct options, format), "FORMAT", "mermaid (the default) or dot", 0, 0 },
        { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print issues, if any, as JSON", 0, 0 },
    };
    static const struct args_spec spec = {
        .command = "workflow graph",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Draws a workflow as text for Mermaid or Graphviz.",
        .epilog = EPILOG,
    };
    struct options options = { .format = "mermaid" };
    struct args    args;
    struct work    work = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    bool dot = strcmp(options.format, "dot") == 0;
    if (!dot && strcmp(options.format, "mermaid") != 0)
        return cli_fail(cli, spec.command, EXIT_USAGE, "--format is mermaid or dot");
    code = read_spec(cli, spec.command, args.items[0], &work);
    if (code < 0 && spec_compile(work.spec, &work.arena, &work.plan, &work.issues) != ERR_OK)
        code = refuse(cli, spec.command, args.items[0], &work, options.json);
    if (code < 0)
        code = print_graph(cli, &work, dot ? SPEC_DOT : SPEC_MERMAID);
    arena_done(&work.arena);
    return code;
}
