/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_agents.c - perdure agents apply | list | show. */
#include "cli/agents.h"
#include "cli/table.h"
#include <inttypes.h>

struct options {
    struct web_options web;
    bool               json, archived;
    int64_t            limit;
};

#define JSON_OPT { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print JSON for programs", 0, 0 }

static const struct opt plain_opts[] = { JSON_OPT, CONNECTION_OPTS(struct options, web) };

/* ---- apply ---- */

static void print_applied(const struct applied *applied, bool json)
{
    struct buf out = { 0 };
    struct jw  w = jw_on(&out);
    if (!json) {
        printf("agent %s %s: %s", applied->name, applied->agent_id, applied->result);
        if (strcmp(applied->result, "unchanged") != 0 && applied->version_no > 0)
            printf(" (version %" PRId64 ")", applied->version_no);
        putchar('\n');
        return;
    }
    jw_obj(&w);
    jw_key(&w, "agent_id");
    jw_cstr(&w, applied->agent_id);
    jw_key(&w, "name");
    jw_cstr(&w, applied->name);
    jw_key(&w, "result");
    jw_cstr(&w, applied->result);
    jw_key(&w, "version_no");
    jw_i64(&w, applied->version_no);
    jw_end(&w);
    printf("%.*s\n", SPAN_ARG(buf_view(&out)));
    buf_done(&out);
}

int cmd_agents_apply(struct cli *cli, int argc, char **argv)
{
    static const struct args_spec spec = {
        .command = "agents apply",
        .operands = "FILE",
        .min = 1,
        .max = 1,
        .opts = plain_opts,
        .opt_count = ARRAY_LEN(plain_opts),
        .about =
            "Makes an agent on the server equal to a file: {\"name\", \"description\"?, \"metadata\"?, \"definition\"}. An "
            "agent with that name is updated, otherwise one is created; a new version is published only when the definition "
            "changed. FILE may be - for standard input.",
    };
    struct options          options = { 0 };
    struct args             args;
    struct applied          applied;
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    int                     code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    struct jv file;
    code = agent_file_read(cli, spec.command, args.items[0], &arena, &file);
    if (code == EXIT_OK)
        code = cli_connect(cli, spec.command, &options.web, &web);
    if (code == EXIT_OK)
        code = agent_apply(cli, spec.command, web, args.items[0], file, &arena, &applied);
    if (code == EXIT_OK)
        print_applied(&applied, options.json);
    return code;
}

/* ---- list ---- */

static void print_list(const struct cli *cli, struct jv list, struct arena *arena)
{
    static const char *const heads[] = { "AGENT", "NAME", "STATUS", ">VERSION", "UPDATED", NULL };
    struct grid              grid;
    size_t                   shown = 0;
    int64_t                  total = 0;
    grid_init(&grid, heads);
    for (struct jv_iter it = jv_iter(jv_get(list, "items")); jv_step(&it); shown++) {
        struct span status = cli_text(jv_get(it.value, "status"), arena);
        grid_put(&grid, cli_text(jv_get(it.value, "agent_id"), arena), PAINT_OFF);
        grid_put(&grid, cli_text(jv_get(it.value, "name"), arena), PAINT_BOLD);
        grid_put(&grid, status, cli_status_paint(status));
        grid_put(&grid, cli_text(jv_get(it.value, "live_version_no"), arena), PAINT_OFF);
        grid_put(&grid, cli_text(jv_get(it.value, "updated_at"), arena), PAINT_OFF);
    }
    grid_print(&grid, cli, stdout);
    grid_done(&grid);
    if (jv_i64(jv_get(list, "total"), &total) && (size_t)total > shown)
        fprintf(stderr, "%zu of %" PRId64 "; more with --limit\n", shown, total);
    else if (shown == 0)
        fprintf(stderr, "no agents yet; make one with: perdure agents apply FILE\n");
}

int cmd_agents_list(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "archived", NULL, OPT_FLAG, offsetof(struct options, archived), NULL, "show archived agents", 0, 0 },
        { "limit", NULL, OPT_INT, offsetof(struct options, limit), "N", "how many at most, default 50", 1, 500 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = { .command = "agents list", .opts = opts, .opt_count = ARRAY_LEN(opts),
                                           .about = "Lists the agents, newest first." };
    struct options                options = { .limit = 50 };
    struct args                   args;
    struct jv                     list;
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    int                           code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec.command, &options.web, &web);
    if (code)
        return code;
    const char *path = path_query(&arena, "/v1/api/agents", "limit", arena_printf(&arena, "%" PRId64, options.limit).p);
    struct web_request request = { .path = path_query(&arena, path, "archived", options.archived ? "true" : NULL) };
    code = cli_ask(cli, spec.command, web, &request, &arena, &list, NULL);
    if (code == EXIT_OK && options.json)
        cli_put_json(stdout, list, cli->out_tty);
    else if (code == EXIT_OK)
        print_list(cli, list, &arena);
    return code;
}

/* ---- show ---- */

static void print_agent(const struct cli *cli, struct jv agent, struct arena *arena)
{
    static const struct {
        const char *label, *member;
    } fields[] = { { "agent", "agent_id" },         { "name", "name" },       { "description", "description" },
                   { "status", "status" },          { "version", "live_version_no" }, { "bundle", "live_bundle_id" },
                   { "metadata", "metadata" },      { "created", "created_at" }, { "updated", "updated_at" } };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct span text = cli_text(jv_get(agent, fields[i].member), arena);
        if (!span_is(text, "-") && text.n && !span_is(text, "{}"))
            field_print(cli, stdout, fields[i].label, text,
                        strcmp(fields[i].label, "status") ? PAINT_OFF : cli_status_paint(text));
    }
}

/* The definition that runs get now, as the third part of `agents show`. */
static int print_definition(struct cli *cli, struct web *web, struct jv agent, struct arena *arena)
{
    struct jv bundle;
    if (!jv_is(jv_get(agent, "live_bundle_id"), JSON_STRING))
        return EXIT_OK;
    const char *agent_id = arena_copy(arena, jv_string(jv_get(agent, "agent_id"), arena)).p;
    const char *bundle_id = arena_copy(arena, jv_string(jv_get(agent, "live_bundle_id"), arena)).p;
    struct web_request request = { .path = path_make(arena, "/v1/api/agents/%s/bundles/%s", agent_id, bundle_id) };
    int                code = cli_ask(cli, "agents show", web, &request, arena, &bundle, NULL);
    if (code == EXIT_OK) {
        printf("\n");
        cli_put_json(stdout, jv_get(bundle, "definition"), true);
    }
    return code;
}

int cmd_agents_show(struct cli *cli, int argc, char **argv)
{
    static const struct args_spec spec = {
        .command = "agents show",
        .operands = "AGENT",
        .min = 1,
        .max = 1,
        .opts = plain_opts,
        .opt_count = ARRAY_LEN(plain_opts),
        .about = "Shows one agent, by name or id, and the definition that is live.",
    };
    struct options options = { 0 };
    struct args    args;
    struct jv      agent;
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec.command, &options.web, &web);
    if (code == EXIT_OK)
        code = agent_find(cli, spec.command, web, args.items[0], &arena, &agent);
    if (code)
        return code;
    if (options.json) {
        cli_put_json(stdout, agent, cli->out_tty);
        return EXIT_OK;
    }
    print_agent(cli, agent, &arena);
    return print_definition(cli, web, agent, &arena);
}
