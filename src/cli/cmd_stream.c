/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_stream.c - perdure stream create | append | read | tail | close | delete: Durable Streams from a shell. Bytes go to standard
 * output as they are; the messages of a JSON stream one per line. */
#include "cli/commands.h"
#include <stdlib.h>
#include <strings.h>
#include <time.h>

enum { LONG_POLL_MS = 620000, PAUSE_MS = 1000 };

struct options {
    struct web_options web;
    const char        *type, *ttl, *expires, *from, *at, *seq, *file, *offset;
    bool               closed;
};

#define TEXT_OPT(name, member, arg, help) { name, NULL, OPT_TEXT, offsetof(struct options, member), arg, help, 0, 0 }
#define CLOSED_OPT(name, help)            { name, NULL, OPT_FLAG, offsetof(struct options, closed), NULL, help, 0, 0 }

/* What every one of these has: its options, the connection, an arena. */
struct task {
    struct cli                *cli;
    const struct args_spec    *spec;
    struct options             o;
    struct args                args;
    struct web                *web;
    struct arena               arena;
    struct buf                 body;
    const char                *headers[8]; /* NULL behind the last */
    unsigned                   header_count;
};

/* -1: go on; else the exit code. */
static int task_begin(struct task *t, struct cli *cli, const struct args_spec *spec, int argc, char **argv)
{
    t->cli = cli;
    t->spec = spec;
    int code = args_begin(spec, argc, argv, &t->o, &t->args);
    if (code >= 0)
        return code;
    code = cli_connect(cli, spec->command, &t->o.web, &t->web);
    return code ? code : -1;
}

static int task_end(struct task *t, int code)
{
    web_free(t->web);
    arena_done(&t->arena);
    buf_done(&t->body);
    return code;
}

static void add_header(struct task *t, const char *name, const char *value)
{
    if (!value)
        return;
    assert(t->header_count + 1 < ARRAY_LEN(t->headers));
    t->headers[t->header_count++] = arena_printf(&t->arena, "%s: %s", name, value).p;
}

static const char *path_of(struct task *t, const char *name)
{
    return path_make(&t->arena, "/v1/stream/%s", name);
}

/* EXIT_OK: a 2xx answer in *ret. */
static int ask(struct task *t, const struct web_request *request, struct web_reply *ret)
{
    struct error error;
    enum err     err = web_call(t->web, request, &t->arena, ret, &error);
    if (err)
        return cli_fail(t->cli, t->spec->command, EXIT_SERVER, "%s", error.message);
    return ret->status / 100 == 2 ? EXIT_OK : cli_problem(t->cli, t->spec->command, ret, &t->arena);
}

static void say_place(const struct task *t, const char *what, const struct web_reply *reply)
{
    fprintf(stderr, "%s%s %s, next offset %s%s%s\n", cli_paint(t->cli->err_color, PAINT_DIM), what, t->args.items[0], reply->stream_next,
            reply->stream_closed ? ", closed" : "", cli_paint(t->cli->err_color, PAINT_OFF));
}

static int read_body(struct task *t)
{
    struct error error;
    if (t->o.file && t->args.count > 1)
        return cli_fail(t->cli, t->spec->command, EXIT_USAGE, "give a text or --file, not both");
    if (t->o.file && cli_read(t->o.file, &t->body, &error))
        return cli_fail(t->cli, t->spec->command, EXIT_USAGE, "--file: %s", error.message);
    if (t->args.count > 1)
        buf_span(&t->body, span_of(t->args.items[1]));
    return EXIT_OK;
}

/* ---- create ---- */

int cmd_stream_create(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        TEXT_OPT("type", type, "TYPE", "content type, default application/octet-stream; a fork has its source's"),
        TEXT_OPT("ttl", ttl, "SECONDS", "gone when nobody used it for so long"),
        TEXT_OPT("expires", expires, "TIME", "gone at that time, RFC 3339"),
        TEXT_OPT("from", from, "NAME", "fork this stream"),
        TEXT_OPT("at", at, "OFFSET", "with --from: behind this offset, default its end"),
        TEXT_OPT("file", file, "FILE", "its first content; - is standard input"),
        CLOSED_OPT("closed", "nothing can be appended"),
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = {
        .command = "stream create", .operands = "NAME [TEXT]", .min = 1, .max = 2, .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Makes a stream. Making it again with the same options is no error and changes nothing.",
        .epilog = "example:\n  perdure stream create logs/build --type text/plain\n",
    };
    struct task      t = { 0 };
    struct web_reply reply;
    int              code = task_begin(&t, cli, &spec, argc, argv);
    if (code >= 0)
        return task_end(&t, code);
    code = read_body(&t);
    add_header(&t, "Stream-TTL", t.o.ttl);
    add_header(&t, "Stream-Expires-At", t.o.expires);
    add_header(&t, "Stream-Forked-From", t.o.from ? path_of(&t, t.o.from) : NULL);
    add_header(&t, "Stream-Fork-Offset", t.o.at);
    add_header(&t, "Stream-Closed", t.o.closed ? "true" : NULL);
    if (!t.body.len)
        add_header(&t, "Content-Type", t.o.type);
    struct web_request request = { .method = "PUT", .path = path_of(&t, t.args.items[0]), .body = buf_view(&t.body), .headers = t.headers,
                                   .content_type = t.o.type ? t.o.type : "application/octet-stream" };
    if (code == EXIT_OK)
        code = ask(&t, &request, &reply);
    if (code == EXIT_OK)
        say_place(&t, reply.status == 201 ? "created" : "exists:", &reply);
    return task_end(&t, code);
}

/* ---- append, close ---- */

static int stream_type(struct task *t, const char **ret)
{
    struct web_reply   reply;
    struct web_request request = { .path = path_make(&t->arena, "/v1/stream/%s?offset=now", t->args.items[0]) };
    int                code = ask(t, &request, &reply);
    *ret = arena_copy(&t->arena, span_of(reply.stream_type)).p;
    return code;
}

int cmd_stream_append(struct cli *cli, int argc, char **argv)
{
    static const struct opt opts[] = {
        TEXT_OPT("file", file, "FILE", "append what is in there; - is standard input"),
        TEXT_OPT("type", type, "TYPE", "content type, default the stream's"),
        TEXT_OPT("seq", seq, "TEXT", "refused unless greater than the last one's"),
        CLOSED_OPT("close", "close the stream with it"),
        CONNECTION_OPTS(struct options, web),
    };
    static const struct args_spec spec = {
        .command = "stream append", .operands = "NAME [TEXT]", .min = 1, .max = 2, .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Appends one message: a text or a file. When it returns 0 the message is on disk. To a JSON stream an array "
                 "appends each of its elements.",
        .epilog = "examples:\n  perdure stream append logs/build 'step 1 done'\n  make 2>&1 | perdure stream append logs/build --file -\n",
    };
    struct task      t = { 0 };
    struct web_reply reply;
    int              code = task_begin(&t, cli, &spec, argc, argv);
    if (code >= 0)
        return task_end(&t, code);
    code = read_body(&t);
    if (code == EXIT_OK && !t.body.len)
        code = cli_fail(cli, spec.command, EXIT_USAGE, "there is nothing to append: give a text or --file");
    if (code == EXIT_OK && !t.o.type)
        code = stream_type(&t, &t.o.type);
    add_header(&t, "Stream-Seq", t.o.seq);
    add_header(&t, "Stream-Closed", t.o.closed ? "true" : NULL);
    struct web_request request = { .method = "POST", .path = path_of(&t, t.args.items[0]), .body = buf_view(&t.body),
                                   .content_type = t.o.type, .headers = t.headers };
    if (code == EXIT_OK)
        code = ask(&t, &request, &reply);
    if (code == EXIT_OK)
        say_place(&t, "appended to", &reply);
    return task_end(&t, code);
}

int cmd_stream_close(struct cli *cli, int argc, char **argv)
{
    static const struct opt       opts[] = { CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = {
        .command = "stream close", .operands = "NAME", .min = 1, .max = 1, .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Closes a stream for good. Its readers are told; it can still be read, forked and deleted.",
    };
    struct task      t = { 0 };
    struct web_reply reply;
    int              code = task_begin(&t, cli, &spec, argc, argv);
    if (code >= 0)
        return task_end(&t, code);
    add_header(&t, "Stream-Closed", "true");
    struct web_request request = { .method = "POST", .path = path_of(&t, t.args.items[0]), .headers = t.headers };
    code = ask(&t, &request, &reply);
    if (code == EXIT_OK)
        say_place(&t, "closed", &reply);
    return task_end(&t, code);
}

int cmd_stream_delete(struct cli *cli, int argc, char **argv)
{
    static const struct opt       opts[] = { CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = {
        .command = "stream delete", .operands = "NAME", .min = 1, .max = 1, .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Deletes a stream. What was forked from it goes on; until then its name stays taken.",
    };
    struct task      t = { 0 };
    struct web_reply reply;
    int              code = task_begin(&t, cli, &spec, argc, argv);
    if (code >= 0)
        return task_end(&t, code);
    struct web_request request = { .method = "DELETE", .path = path_of(&t, t.args.items[0]), .once = true };
    code = ask(&t, &request, &reply);
    return task_end(&t, code);
}

/* ---- read, tail ---- */

static bool put_messages(const struct task *t, const struct web_reply *reply)
{
    bool json = strncasecmp(reply->stream_type, "application/json", 16) == 0 && jv_is(reply->json, JSON_ARRAY);
    if (!json)
        cli_put_safe(stdout, reply->body, t->cli->out_tty);
    for (struct jv_iter it = jv_iter(reply->json); json && jv_step(&it);)
        cli_put_json(stdout, it.value, false);
    return fflush(stdout) == 0;
}

int cmd_stream_read(struct cli *cli, int argc, char **argv)
{
    static const struct opt       opts[] = { TEXT_OPT("offset", offset, "OFFSET", "begin behind it; default -1, the start"),
                                             CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = {
        .command = "stream read", .operands = "NAME", .min = 1, .max = 1, .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Prints what a stream has, up to now. The messages of a JSON stream come one per line. Runs are streams too: "
                 "runs/RUN and runs/RUN/attempts/1.",
    };
    struct task      t = { 0 };
    struct web_reply reply;
    int              code = task_begin(&t, cli, &spec, argc, argv);
    if (code >= 0)
        return task_end(&t, code);
    char offset[64];
    snprintf(offset, sizeof offset, "%s", t.o.offset ? t.o.offset : "-1");
    do {
        struct web_request request = { .path = path_make(&t.arena, "/v1/stream/%s?offset=%s", t.args.items[0], offset) };
        code = ask(&t, &request, &reply);
        if (code)
            break;
        if (!put_messages(&t, &reply))
            code = EXIT_FAILED;
        snprintf(offset, sizeof offset, "%s", reply.stream_next);
        bool more = !reply.stream_up_to_date;
        arena_reset(&t.arena);
        if (!more)
            break;
    } while (code == EXIT_OK);
    return task_end(&t, code);
}

static void pause_ms(long ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

int cmd_stream_tail(struct cli *cli, int argc, char **argv)
{
    static const struct opt       opts[] = { TEXT_OPT("offset", offset, "OFFSET", "begin behind it; default now, -1 is the start"),
                                             CONNECTION_OPTS(struct options, web) };
    static const struct args_spec spec = {
        .command = "stream tail", .operands = "NAME", .min = 1, .max = 1, .opts = opts, .opt_count = ARRAY_LEN(opts),
        .about = "Prints what is appended, as it comes, until the stream is closed. A server that goes away is waited for: nothing is "
                 "lost and nothing comes twice.",
        .epilog = "example:\n  perdure stream tail logs/build --offset -1\n",
    };
    struct task  t = { 0 };
    struct error error;
    int          code = task_begin(&t, cli, &spec, argc, argv);
    if (code >= 0)
        return task_end(&t, code);
    char offset[64];
    snprintf(offset, sizeof offset, "%s", t.o.offset ? t.o.offset : "now");
    for (code = EXIT_OK; code == EXIT_OK;) {
        struct web_reply   reply = { 0 };
        struct web_request request = { .path = path_make(&t.arena, "/v1/stream/%s?live=long-poll&offset=%s", t.args.items[0], offset),
                                       .timeout_ms = LONG_POLL_MS };
        enum err           err = web_call(t.web, &request, &t.arena, &reply, &error);
        if (err || reply.status == 503 || reply.status == 429) {
            pause_ms(PAUSE_MS);
        } else if (reply.status != 200 && reply.status != 204) {
            code = cli_problem(cli, spec.command, &reply, &t.arena);
        } else {
            if (reply.status == 200 && !put_messages(&t, &reply))
                code = EXIT_FAILED;
            snprintf(offset, sizeof offset, "%s", reply.stream_next);
            if (reply.stream_closed)
                break;
        }
        arena_reset(&t.arena);
    }
    return task_end(&t, code);
}
