/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_token.c - perdure token create | list | revoke. A token is shown once, by create, and never again. */
#include "base/env.h"
#include "cli/table.h"

struct options {
    struct web_options web;
    bool               json;
    const char        *name, *scopes, *expires, *only, *kind, *customer;
};

#define JSON_OPT { "json", NULL, OPT_FLAG, offsetof(struct options, json), NULL, "print the server's answer", 0, 0 }

/* ---- create ---- */

/* "30d", "12h", "45m", a date or a time: a point in time, later than now. */
static bool parse_expiry(const char *text, int64_t *ret_ms)
{
    static const struct {
        char    unit;
        int64_t ms;
    } units[] = { { 'm', 60000 }, { 'h', 3600000 }, { 'd', 86400000 } };
    int64_t now = env_real()->wall_ms(env_real()), v = 0;
    size_t  n = strspn(text, "0123456789");
    if (n > 0 && n <= 6 && text[n] && !text[n + 1]) {
        for (size_t i = 0; i < n; i++)
            v = v * 10 + (text[i] - '0');
        for (size_t i = 0; i < ARRAY_LEN(units); i++)
            if (units[i].unit == text[n])
                return *ret_ms = now + v * units[i].ms, v > 0;
        return false;
    }
    return time_parse(span_of(text), ret_ms) && *ret_ms > now;
}

static void put_scopes(struct jw *w, const char *scopes)
{
    jw_arr(w);
    while (*scopes) {
        size_t n = strcspn(scopes, ", ");
        if (n > 0)
            jw_str(w, span_make(scopes, n));
        scopes += n + (scopes[n] != 0);
    }
    jw_arr_end(w);
}

static int put_token(const struct cli *cli, const struct options *o, struct buf *body)
{
    struct jw w = jw_on(body);
    int64_t   expires;
    jw_obj(&w);
    jw_key(&w, "name");
    jw_cstr(&w, o->name);
    if (o->scopes) {
        jw_key(&w, "scopes");
        put_scopes(&w, o->scopes);
    }
    if (o->kind) {
        jw_key(&w, "kind");
        jw_cstr(&w, o->kind);
    }
    if (o->customer) {
        jw_key(&w, "customer_id");
        jw_cstr(&w, o->customer);
    }
    if (o->only) {
        jw_key(&w, "workspace_id");
        jw_cstr(&w, o->only);
    }
    if (o->expires) {
        if (!parse_expiry(o->expires, &expires))
            return cli_fail(cli, "token create", EXIT_USAGE,
                            "--expires: \"%s\" is neither a span like 30d, 12h or 45m nor a time to come", o->expires);
        jw_key(&w, "expires_at");
        jw_time(&w, expires);
    }
    jw_end(&w);
    return EXIT_OK;
}

static void print_created(const struct cli *cli, struct jv answer, struct arena *arena)
{
    struct span token = cli_text(jv_get(answer, "token"), arena);
    fprintf(stderr, "%sThis token is shown only now (id %.*s):%s\n", cli_paint(cli->err_color, PAINT_DIM),
            SPAN_ARG(cli_text(jv_get(answer, "token_id"), arena)), cli_paint(cli->err_color, PAINT_OFF));
    cli_put_safe(stdout, token, true);
    putchar('\n');
}

int cmd_token_create(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        { "name", NULL, OPT_TEXT, offsetof(struct options, name), "NAME", "what it is for", 0, 0 },
        { "scopes", NULL, OPT_TEXT, offsetof(struct options, scopes), "A,B",
          "runs:read, runs:write, agents:read, agents:write, threads:*, approvals:decide, crons:*, tokens:admin, audit:read, streams:*, "
          "channels:* or *",
          0, 0 },
        { "kind", NULL, OPT_TEXT, offsetof(struct options, kind), "KIND",
          "token, or without scopes of its own: workflow_key, customer_token", 0, 0 },
        { "customer", NULL, OPT_TEXT, offsetof(struct options, customer), "ID", "of a customer_token: whom it stands for", 0, 0 },
        { "expires", NULL, OPT_TEXT, offsetof(struct options, expires), "WHEN",
          "a span like 30d, 12h, 45m, or a date; default never", 0, 0 },
        { "only-workspace", NULL, OPT_TEXT, offsetof(struct options, only), "ID", "good for this workspace alone", 0,
          0 },
        JSON_OPT,
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = {
        .command = "token create", .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Makes a token and prints it to standard output, once.",
        .epilog = "example:\n  export PERDURE_TOKEN=$(perdure token create --name ci --scopes runs:read,runs:write)\n"
                  "  export MODELRELAY_API_KEY=$(perdure token create --name app --kind workflow_key)\n",
    };
    struct options options = { 0 };
    struct args    args;
    struct jv      answer;
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    CLEANUP(buf_done) struct buf body = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    bool plain = !options.kind || strcmp(options.kind, "token") == 0;
    if (!options.name || (plain && !options.scopes))
        return cli_fail(cli, spec.command, EXIT_USAGE, "%s is missing", options.name ? "--scopes" : "--name");
    code = put_token(cli, &options, &body);
    if (code == EXIT_OK)
        code = cli_connect(cli, spec.command, &options.web, &web);
    if (code)
        return code;
    struct web_request request = { .method = "POST", .path = "/v1/api/api-tokens", .body = buf_view(&body) };
    code = cli_ask(cli, spec.command, web, &request, &arena, &answer, NULL);
    if (code == EXIT_OK && options.json)
        cli_put_json(stdout, answer, cli->out_tty);
    else if (code == EXIT_OK)
        print_created(cli, answer, &arena);
    return code;
}

/* ---- list ---- */

/* ["a","b"] as a,b */
static struct span joined(struct jv array, struct arena *arena)
{
    struct buf out = { 0 };
    for (struct jv_iter it = jv_iter(array); jv_step(&it);) {
        if (out.len)
            buf_byte(&out, ',');
        buf_span(&out, cli_text(it.value, arena));
    }
    struct span copy = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return copy;
}

static void print_list(const struct cli *cli, struct jv list, struct arena *arena)
{
    static const char *const heads[] = { "TOKEN", "NAME", "PREFIX", "CREATED", "EXPIRES", "SCOPES", NULL };
    struct grid              grid;
    grid_init(&grid, heads);
    for (struct jv_iter it = jv_iter(jv_get(list, "items")); jv_step(&it);) {
        grid_put(&grid, cli_text(jv_get(it.value, "token_id"), arena), PAINT_OFF);
        grid_put(&grid, cli_text(jv_get(it.value, "name"), arena), PAINT_BOLD);
        grid_put(&grid, cli_text(jv_get(it.value, "prefix"), arena), PAINT_OFF);
        grid_put(&grid, cli_text(jv_get(it.value, "created_at"), arena), PAINT_OFF);
        grid_put(&grid, cli_text(jv_get(it.value, "expires_at"), arena), PAINT_OFF);
        grid_put(&grid, joined(jv_get(it.value, "scopes"), arena), PAINT_OFF);
    }
    grid_print(&grid, cli, stdout);
    grid_done(&grid);
}

int cmd_token_list(struct cli *cli, int argc, char **argv)
{
    static const struct opt       opts[] = { JSON_OPT, CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = {
        .command = "token list",
        .opts = opts,
        .opt_count = ARRAY_LEN(opts),
        .about = "Lists the tokens that are valid; the tokens themselves cannot be shown."
    };
    struct options options = { 0 };
    struct args    args;
    struct jv      list;
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec.command, &options.web, &web);
    if (code)
        return code;
    struct web_request request = { .path = "/v1/api/api-tokens?limit=500" };
    code = cli_ask(cli, spec.command, web, &request, &arena, &list, NULL);
    if (code == EXIT_OK && options.json)
        cli_put_json(stdout, list, cli->out_tty);
    else if (code == EXIT_OK)
        print_list(cli, list, &arena);
    return code;
}

/* ---- revoke ---- */

int cmd_token_revoke(struct cli *cli, int argc, char **argv)
{
    static const struct opt       opts[] = { CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = { .command = "token revoke",
                                           .operands = "ID",
                                           .min = 1,
                                           .max = 1,
                                           .opts = opts,
                                           .opt_count = ARRAY_LEN(opts),
                                           .about = "Makes a token invalid at once; ID as in `token list`." };
    struct options options = { 0 };
    struct args    args;
    CLEANUP(web_freep) struct web *web = NULL;
    CLEANUP(arena_done) struct arena arena = { 0 };
    int            code = args_begin(&spec, argc, argv, &options, &args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec.command, &options.web, &web);
    if (code)
        return code;
    struct web_request request = { .method = "DELETE",
                                   .path = path_make(&arena, "/v1/api/api-tokens/%s", args.items[0]) };
    code = cli_ask(cli, spec.command, web, &request, &arena, NULL, NULL);
    if (code == EXIT_OK)
        printf("token %s revoked\n", args.items[0]);
    return code;
}
