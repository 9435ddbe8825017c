/* SPDX-License-Identifier: Apache-2.0 */
/* cli.c - what the commands share: colours, printed errors, calls that explain themselves, values for people. */
#include "cli/commands.h"
#include "base/utf8.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 16 << 20, JSON_DEPTH = 64 };

/* ---- the terminal ---- */

struct cli cli_here(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool        color = !(no_color && *no_color) && term && *term && strcmp(term, "dumb") != 0;
    struct cli  cli = { .in_tty = isatty(0), .out_tty = isatty(1), .err_tty = isatty(2) };
    cli.out_color = color && cli.out_tty;
    cli.err_color = color && cli.err_tty;
    return cli;
}

const char *cli_paint(bool color, enum paint paint)
{
    static const char *const codes[PAINT_COUNT] = { [PAINT_OFF] = "\x1b[0m",     [PAINT_BOLD] = "\x1b[1m",
                                                    [PAINT_DIM] = "\x1b[2m",     [PAINT_RED] = "\x1b[31m",
                                                    [PAINT_GREEN] = "\x1b[32m",  [PAINT_YELLOW] = "\x1b[33m",
                                                    [PAINT_BLUE] = "\x1b[36m" };
    return color ? codes[paint] : "";
}

enum paint cli_status_paint(struct span status)
{
    static const struct {
        const char *status;
        enum paint  paint;
    } table[] = {
        { "completed", PAINT_GREEN },  { "failed", PAINT_RED },
        { "cancelled", PAINT_YELLOW }, { "waiting_for_human", PAINT_YELLOW },
        { "running", PAINT_BLUE },     { "resumed", PAINT_BLUE },
        { "active", PAINT_GREEN },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (span_is(status, table[i].status))
            return table[i].paint;
    return PAINT_DIM;
}

int cli_fail(const struct cli *cli, const char *command, int code, const char *format, ...)
{
    struct buf text = { 0 };
    char       small[1024];
    va_list    args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    buf_put(&text, small, n < 0 ? 0 : (size_t)n < sizeof small ? (size_t)n : sizeof small - 1);
    fflush(stdout);
    fprintf(stderr, "%sperdure %s:%s ", cli_paint(cli->err_color, PAINT_RED), command,
            cli_paint(cli->err_color, PAINT_OFF));
    cli_put_safe(stderr, buf_view(&text), cli->err_tty);
    fputc('\n', stderr);
    buf_done(&text);
    return code;
}

/* C0 and DEL; C1 controls come as two bytes in UTF-8 and some terminals obey them too. */
static size_t unsafe_at(struct span text, size_t i)
{
    unsigned char c = (unsigned char)text.p[i];
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
        return 1;
    bool c1 =
        c == 0xc2 && i + 1 < text.n && (unsigned char)text.p[i + 1] >= 0x80 && (unsigned char)text.p[i + 1] < 0xa0;
    return c1 ? 2 : 0;
}

void cli_put_safe(FILE *out, struct span text, bool terminal)
{
    size_t from = 0;
    for (size_t i = 0; terminal && i < text.n; i++) {
        size_t n = unsafe_at(text, i);
        if (n == 0)
            continue;
        fwrite(text.p + from, 1, i - from, out);
        fputc('?', out);
        i += n - 1;
        from = i + 1;
    }
    if (text.n > from)
        fwrite(text.p + from, 1, text.n - from, out);
}

/* ---- calls ---- */

int cli_connect(const struct cli *cli, const char *command, const struct web_options *options, struct web **ret)
{
    struct error error;
    return web_new(options, ret, &error) ? cli_fail(cli, command, EXIT_USAGE, "%s", error.message) : EXIT_OK;
}

/* "/definition/nodes/0: message", one per line. */
static void put_issues(const struct cli *cli, struct jv issues, struct arena *arena)
{
    for (struct jv_iter it = jv_iter(issues); jv_step(&it);) {
        struct span where = jv_string(jv_get(it.value, "pointer"), arena);
        if (!where.p)
            where = jv_string(jv_get(it.value, "parameter"), arena);
        if (!where.p) /* of a workflow */
            where = jv_string(jv_get(it.value, "path"), arena);
        struct span text = jv_string(jv_get(it.value, "message"), arena);
        if (!text.n)
            text = jv_string(jv_get(it.value, "code"), arena);
        fputs("  ", stderr);
        cli_put_safe(stderr, where.n ? where : SPAN("/"), cli->err_tty);
        fputs(": ", stderr);
        cli_put_safe(stderr, text, cli->err_tty);
        fputc('\n', stderr);
    }
}

static const char *auth_hint(int status)
{
    return status == 401 ? "  Give a token: --token, PERDURE_TOKEN, or --data DIR of a server on this machine.\n" : "";
}

int cli_problem(const struct cli *cli, const char *command, const struct web_reply *reply, struct arena *arena)
{
    struct error error;
    web_problem(reply->status, reply->json, arena, &error);
    bool auth = reply->status == 401 || reply->status == 403;
    bool spec = jv_is(jv_get(reply->json, "issues"), JSON_ARRAY); /* the bare list that a workflow is refused with */
    cli_fail(cli, command, EXIT_SERVER, "%s", spec ? "the server refuses the workflow or its inputs" : error.message);
    put_issues(cli, jv_get(reply->json, spec ? "issues" : "errors"), arena);
    fputs(auth_hint(reply->status), stderr);
    return auth ? EXIT_AUTH : EXIT_SERVER;
}

int cli_ask(const struct cli *cli, const char *command, struct web *web, const struct web_request *request,
            struct arena *arena, struct jv *ret, int *ret_status)
{
    struct web_reply reply = { 0 };
    struct error     error;
    enum err         err = web_call(web, request, arena, &reply, &error);
    if (ret_status)
        *ret_status = err ? 0 : reply.status;
    if (err)
        return cli_fail(cli, command, EXIT_SERVER, "%s%s", error.message,
                        strcmp(error.field, "refused") == 0 ? "; start it with: perdure serve" : "");
    if (reply.status < 200 || reply.status > 299)
        return cli_problem(cli, command, &reply, arena);
    if (ret)
        *ret = reply.json;
    return EXIT_OK;
}

/* ---- values for people ---- */

static void put_indent(struct buf *out, unsigned depth)
{
    buf_byte(out, '\n');
    for (unsigned i = 0; i < depth; i++)
        BUF_LIT(out, "  ");
}

/* Recursion is bounded by the parser's depth limit. Empty containers and scalars stay on their line. */
static void put_pretty(struct jv v, unsigned depth, struct buf *out)
{
    bool object = jv_is(v, JSON_OBJECT);
    if ((!object && !jv_is(v, JSON_ARRAY)) || jv_count(v) == 0) {
        json_minify(v, out);
        return;
    }
    bool first = true;
    buf_byte(out, object ? '{' : '[');
    for (struct jv_iter it = jv_iter(v); jv_step(&it); first = false) {
        if (!first)
            buf_byte(out, ',');
        put_indent(out, depth + 1);
        if (object) {
            buf_span(out, jv_raw(it.name));
            BUF_LIT(out, ": ");
        }
        put_pretty(it.value, depth + 1, out);
    }
    put_indent(out, depth);
    buf_byte(out, object ? '}' : ']');
}

void cli_put_json(FILE *out, struct jv value, bool pretty)
{
    struct buf text = { 0 };
    if (jv_is(value, JSON_NONE))
        BUF_LIT(&text, "null");
    else if (pretty)
        put_pretty(value, 0, &text);
    else
        json_minify(value, &text);
    buf_byte(&text, '\n');
    cli_put_safe(out, buf_view(&text), pretty);
    buf_done(&text);
}

struct span cli_text(struct jv value, struct arena *arena)
{
    if (jv_is(value, JSON_NONE) || jv_is(value, JSON_NULL))
        return SPAN("-");
    return jv_is(value, JSON_STRING) ? jv_string(value, arena) : jv_raw(value);
}

struct span cli_duration(int64_t ms, struct arena *arena)
{
    int64_t s = ms / 1000;
    if (ms < 0)
        return SPAN("-");
    if (ms < 1000)
        return arena_printf(arena, "%d ms", (int)ms);
    if (s < 60)
        return arena_printf(arena, "%d.%d s", (int)s, (int)(ms % 1000 / 100));
    if (s < 3600)
        return arena_printf(arena, "%d min %02d s", (int)(s / 60), (int)(s % 60));
    if (s < 86400)
        return arena_printf(arena, "%d h %d min", (int)(s / 3600), (int)(s / 60 % 60));
    return arena_printf(arena, "%lld d %d h", (long long)(s / 86400), (int)(s / 3600 % 24));
}

/* ---- files ---- */

static enum err read_all(int fd, const char *name, struct buf *out, struct error *error)
{
    for (;;) {
        buf_reserve(out, 65536);
        ssize_t n = read(fd, out->p + out->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(error, ERR_IO, "", "%s: %s", name, strerror(errno));
        if (n == 0)
            return ERR_OK;
        out->len += (size_t)n;
        if (out->len > FILE_BYTES_MAX)
            return error_set(error, ERR_TOO_LARGE, "", "%s: larger than %d MiB", name, FILE_BYTES_MAX >> 20);
    }
}

enum err cli_read(const char *path, struct buf *out, struct error *error)
{
    if (strcmp(path, "-") == 0)
        return read_all(0, "standard input", out, error);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, ERR_IO, "", "%s: %s", path, strerror(errno));
    enum err err = read_all(fd, path, out, error);
    close(fd);
    return err;
}

enum err cli_json_option(const char *option, const char *value, struct arena *arena, struct jv *ret,
                         struct error *error)
{
    struct json_limits limits = { .depth = JSON_DEPTH };
    struct json       *doc = ARENA_NEW(arena, struct json);
    struct span        text = span_of(value);
    struct error       why;
    if (value[0] == '@') {
        struct buf file = { 0 };
        enum err   err = cli_read(value + 1, &file, error);
        text = arena_copy(arena, buf_view(&file));
        buf_done(&file);
        if (err)
            return err;
    }
    if (json_parse(text, &limits, arena, doc, &why))
        return error_set(error, ERR_MALFORMED_JSON, option, "--%s is not JSON: %s%s", option, why.message,
                         strchr("@{[\"", value[0]) ? "" : " (a string needs quotes: '\"text\"')");
    *ret = json_root(doc);
    return ERR_OK;
}
