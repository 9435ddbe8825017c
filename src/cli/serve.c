/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - perdure serve: puts the parts together, says when it is ready, and takes them apart again. */
#include "cli/commands.h"
#include "embed/parts.h"
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

struct options {
    const char *listen, *data, *store, *config, *log_level, *log_format, *cors_origin;
    bool        dev;
    int64_t     heartbeat_ms, slow_reader_ms, max_age_ms, rate_limit, rate_burst, max_streams, max_body, max_connections;
    int64_t     retention_days, retention_ms;
    int64_t     head_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms, thread_queue;
    int64_t     long_poll_ms, live_age_ms, stream_body, stream_chunk;
};

#define DAY_MS INT64_C(86400000)

#define OPT(name, ENV, kind, member, arg, help, min, max) \
    { name, "PERDURE_" ENV, kind, offsetof(struct options, member), arg, help, min, max }

static const struct opt opts[] = {
    OPT("listen", "LISTEN", OPT_TEXT, listen, "HOST:PORT",
        "address to listen on, default 127.0.0.1:7070; port 0 picks one", 0, 0),
    OPT("data", "DATA", OPT_TEXT, data, "DIR",
        "data folder, default " WEB_DEFAULT_DATA "; made when it is missing", 0, 0),
    OPT("store", "STORE", OPT_TEXT, store, "URL",
        "where the ledger is: sqlite:DIR or postgres://USER@HOST:PORT/DB, default sqlite:DIR of --data", 0, 0),
    OPT("config", "CONFIG", OPT_TEXT, config, "FILE", "configuration file (JSON): model providers, prices, tools, MCP servers", 0, 0),
    OPT("dev", "DEV", OPT_FLAG, dev, NULL,
        "for a laptop and for tests: token \"dev\", no rate limits, loopback only", 0, 0),
    OPT("heartbeat-ms", "HEARTBEAT_MS", OPT_INT, heartbeat_ms, "N",
        "a quiet event stream says so after N ms, default 5000", 100, 15000),
    OPT("slow-reader-ms", "SLOW_READER_MS", OPT_INT, slow_reader_ms, "N",
        "a follower that reads nothing is dropped after N ms, default 30000", 500, 600000),
    OPT("max-stream-age-ms", "MAX_STREAM_AGE_MS", OPT_INT, max_age_ms, "N",
        "an event stream ends after about N ms, default 3600000; 0: never", 0, 86400000),
    OPT("retention-days", "RETENTION_DAYS", OPT_INT, retention_days, "N",
        "events and checkpoints of a run are removed N days after its end, default 30; 0: never", 0, 36500),
    OPT("retention-ms", "RETENTION_MS", OPT_INT, retention_ms, "N",
        "the same in milliseconds, for tests; wins over --retention-days", 0, INT64_MAX),
    OPT("rate-limit", "RATE_LIMIT", OPT_INT, rate_limit, "N",
        "requests per minute and token, default 600; 0: off", 0, 10000000),
    OPT("rate-burst", "RATE_BURST", OPT_INT, rate_burst, "N",
        "requests at once above the rate, default 120", 1, 10000000),
    OPT("max-streams", "MAX_STREAMS", OPT_INT, max_streams, "N",
        "open event streams per token, default 64; 0: no limit", 0, 1000000),
    OPT("max-body", "MAX_BODY", OPT_INT, max_body, "BYTES",
        "request body, default 4194304; batches may have four times that", 1024, 1 << 30),
    OPT("max-connections", "MAX_CONNECTIONS", OPT_INT, max_connections, "N",
        "open connections, default 20000", 1, 1000000),
    OPT("head-timeout-ms", "HEAD_TIMEOUT_MS", OPT_INT, head_timeout_ms, "N",
        "time for a request's head, default 10000", 100, 600000),
    OPT("body-timeout-ms", "BODY_TIMEOUT_MS", OPT_INT, body_timeout_ms, "N",
        "time for a request's body, default 60000", 100, 600000),
    OPT("idle-timeout-ms", "IDLE_TIMEOUT_MS", OPT_INT, idle_timeout_ms, "N",
        "an idle connection is closed after N ms, default 75000", 100, 3600000),
    OPT("write-timeout-ms", "WRITE_TIMEOUT_MS", OPT_INT, write_timeout_ms, "N",
        "an answer without progress is dropped after N ms, default 30000", 500, 600000),
    OPT("thread-queue", "THREAD_QUEUE", OPT_INT, thread_queue, "N",
        "runs that may wait on one thread, default 64", 1, 100000),
    OPT("long-poll-ms", "LONG_POLL_MS", OPT_INT, long_poll_ms, "N",
        "Durable Streams: a waiting request is answered after N ms, default 20000", 100, 600000),
    OPT("live-age-ms", "LIVE_AGE_MS", OPT_INT, live_age_ms, "N",
        "Durable Streams: an SSE answer ends after about N ms, default 60000", 2000, 86400000),
    OPT("stream-body", "STREAM_BODY", OPT_INT, stream_body, "BYTES",
        "Durable Streams: body of a create or append, default 16777216", 1024, 1 << 30),
    OPT("stream-chunk", "STREAM_CHUNK", OPT_INT, stream_chunk, "BYTES",
        "Durable Streams: one catch-up answer, default 1048576; a longer message comes whole", 1, 1 << 30),
    OPT("cors-origin", "CORS_ORIGIN", OPT_TEXT, cors_origin, "ORIGIN",
        "let pages of this origin call the API (* for all); default: none", 0, 0),
    OPT("log-level", "LOG_LEVEL", OPT_TEXT, log_level, "LEVEL", "debug, info, warn, error or off; default info", 0, 0),
    OPT("log-format", "LOG_FORMAT", OPT_TEXT, log_format, "FORMAT", "text or json, default text", 0, 0),
};

static const struct args_spec spec = {
    .command = "serve",
    .about = "Serves the API on one port over one ledger. The first start makes the data folder, a tenant, a workspace and a root token "
             "in DIR/token. When it is ready it prints one line: listening on http://HOST:PORT. SIGTERM and SIGINT drain: followers are "
             "told, what was accepted is committed, runs go on at the next start.",
    .epilog = "example:\n  perdure serve --listen 127.0.0.1:7070 --data ./perdure-data\n",
    .opts = opts,
    .opt_count = ARRAY_LEN(opts),
};

/* Everything that lives as long as the process serves. */
struct server {
    struct options       o;
    struct log           log;
    struct config        config;
    struct parts         parts;
    struct http_server  *http;
    char                 host[64];
    uint16_t             port;
};

/* ---- options ---- */

static bool parse_listen(struct server *s, struct error *error)
{
    const char *colon = strrchr(s->o.listen, ':');
    char       *end = NULL;
    long        port = colon ? strtol(colon + 1, &end, 10) : -1;
    size_t      n = colon ? (size_t)(colon - s->o.listen) : 0;
    if (!colon || n == 0 || n >= sizeof s->host || *end || end == colon + 1 || port < 0 || port > 65535) {
        error_set(error, ERR_VALIDATION, "listen", "\"%s\" is not HOST:PORT", s->o.listen);
        return false;
    }
    bool brackets = s->o.listen[0] == '[' && s->o.listen[n - 1] == ']';
    snprintf(s->host, sizeof s->host, "%.*s", (int)(brackets ? n - 2 : n), s->o.listen + brackets);
    if (strcmp(s->host, "localhost") == 0)
        snprintf(s->host, sizeof s->host, "127.0.0.1");
    s->port = (uint16_t)port;
    return true;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    return strcmp(host, "::1") == 0 || (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static bool parse_log(struct server *s, struct error *error)
{
    static const char *const levels[] = { "debug", "info", "warn", "error", "off" };
    s->log = (struct log){ .level = LOG_INFO, .fd = 2 };
    bool known = !s->o.log_level;
    for (size_t i = 0; s->o.log_level && i < ARRAY_LEN(levels); i++)
        if (strcmp(s->o.log_level, levels[i]) == 0) {
            s->log.level = (enum log_level)i;
            known = true;
        }
    if (!known) {
        error_set(error, ERR_VALIDATION, "log-level", "\"%s\" is none of debug, info, warn, error, off", s->o.log_level);
        return false;
    }
    s->log.json = s->o.log_format && strcmp(s->o.log_format, "json") == 0;
    if (s->o.log_format && !s->log.json && strcmp(s->o.log_format, "text") != 0) {
        error_set(error, ERR_VALIDATION, "log-format", "\"%s\" is neither text nor json", s->o.log_format);
        return false;
    }
    return true;
}

static bool check_options(struct server *s, struct error *error)
{
    if (!parse_listen(s, error) || !parse_log(s, error))
        return false;
    if (s->o.dev && !is_loopback(s->host)) {
        error_set(error, ERR_VALIDATION, "dev", "--dev has well-known credentials and listens on loopback addresses only");
        return false;
    }
    return true;
}

/* ---- life ---- */

static void on_signal(void *user, int signal)
{
    struct server *s = user;
    if (engine_draining(s->parts.engine)) {
        loop_stop(s->parts.loop); /* the second one: now */
        return;
    }
    log_line(&s->log, LOG_INFO, "draining", "signal=%d", signal);
    http_server_drain(s->http);
    engine_drain(s->parts.engine);
}

static enum err start_parts(struct server *s, struct error *error)
{
    struct parts_config parts = { .data = s->o.data, .store = s->o.store, .config = &s->config, .log = &s->log,
                                  .ledger = { .heartbeat_ms = (uint32_t)s->o.heartbeat_ms,
                                              .slow_reader_ms = (uint32_t)s->o.slow_reader_ms,
                                              .max_age_ms = (uint32_t)s->o.max_age_ms },
                                  .retention_ms = s->o.retention_ms ? s->o.retention_ms : s->o.retention_days * DAY_MS,
                                  .thread_queue_max = (uint32_t)s->o.thread_queue,
                                  .api = { .dev = s->o.dev, .rate_per_minute = (uint32_t)s->o.rate_limit,
                                           .rate_burst = (uint32_t)s->o.rate_burst, .max_streams = (uint32_t)s->o.max_streams,
                                           .max_body = (uint64_t)s->o.max_body, .max_batch_body = (uint64_t)s->o.max_body * 4,
                                           .max_stream_body = (uint64_t)s->o.stream_body,
                                           .stream_chunk = (uint64_t)s->o.stream_chunk,
                                           .long_poll_ms = (uint32_t)s->o.long_poll_ms,
                                           .live_age_ms = (uint32_t)s->o.live_age_ms, .cors_origin = s->o.cors_origin } };
    return parts_open(&parts, &s->parts, error);
}

static enum err start_http(struct server *s, struct error *error)
{
    struct http_server_config config;
    http_server_defaults(&config);
    config.host = s->host;
    config.port = s->port;
    config.max_connections = (uint32_t)s->o.max_connections;
    config.max_body = (uint64_t)s->o.max_body;
    config.head_timeout_ms = (uint32_t)s->o.head_timeout_ms;
    config.body_timeout_ms = (uint32_t)s->o.body_timeout_ms;
    config.idle_timeout_ms = (uint32_t)s->o.idle_timeout_ms;
    config.write_timeout_ms = (uint32_t)s->o.write_timeout_ms;
    struct http_handler handler = api_handler(s->parts.api);
    enum err            e = http_server_new(s->parts.loop, &config, &handler, &s->http, error);
    if (e)
        return e;
    api_set_server(s->parts.api, s->http);
    e = loop_on_signal(s->parts.loop, SIGTERM, on_signal, s, error);
    return e ? e : loop_on_signal(s->parts.loop, SIGINT, on_signal, s, error);
}

static void take_apart(struct server *s)
{
    http_server_free(s->http);
    parts_close(&s->parts);
    config_done(&s->config);
}

/* Every follower is a descriptor: take what the system gives. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int cmd_serve(struct cli *cli, int argc, char **argv)
{
    struct server s = { .o = { .listen = "127.0.0.1:7070", .data = WEB_DEFAULT_DATA, .heartbeat_ms = 5000, .slow_reader_ms = 30000,
                               .max_age_ms = 3600000, .retention_days = 30,
                               .rate_limit = 600, .rate_burst = 120, .max_streams = 64, .max_body = 4 << 20,
                               .max_connections = 20000, .head_timeout_ms = 10000, .body_timeout_ms = 60000,
                               .idle_timeout_ms = 75000, .write_timeout_ms = 30000, .thread_queue = 64,
                               .long_poll_ms = 20000, .live_age_ms = 60000, .stream_body = 16 << 20, .stream_chunk = 1 << 20 } };
    struct args  args;
    struct error error = { 0 };
    int          code = args_begin(&spec, argc, argv, &s.o, &args);
    if (code >= 0)
        return code;
    if (s.o.dev && !args_given(&spec, &args, "rate-limit"))
        s.o.rate_limit = 0;
    if (s.o.dev && !args_given(&spec, &args, "max-streams"))
        s.o.max_streams = 0;
    if (!check_options(&s, &error) || config_load(s.o.config, &s.config, &error)) {
        config_done(&s.config);
        return cli_fail(cli, "serve", EXIT_USAGE, "--%s: %s", error.field[0] ? error.field : "config", error.message);
    }
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    enum err e = start_parts(&s, &error);
    if (!e)
        e = start_http(&s, &error);
    if (e) {
        take_apart(&s);
        return cli_fail(cli, "serve", EXIT_FAILED, "%s", error.message[0] ? error.message : err_info(e)->title);
    }
    bool v6 = strchr(s.host, ':');
    printf("listening on http://%s%s%s:%u\n", v6 ? "[" : "", s.host, v6 ? "]" : "", http_server_port(s.http));
    fflush(stdout);
    log_line(&s.log, LOG_INFO, "started", "version=%s data=%s epoch=%llu", PERDURE_VERSION, s.o.data,
             (unsigned long long)store_epoch(s.parts.store));
    loop_run(s.parts.loop);
    bool failed = store_failed(s.parts.store);
    log_line(&s.log, LOG_INFO, "stopped", "failed=%d", failed);
    take_apart(&s);
    return failed ? EXIT_FAILED : EXIT_OK;
}

/* ---- doctor ---- */

struct check {
    struct doctor *doctor;
    struct loop   *loop;
    struct tools  *tools;
};

static void one_provider(void *user, struct span provider, enum err err, struct span detail)
{
    struct check *check = user;
    doctor_report(check->doctor, err ? DOCTOR_FAIL : DOCTOR_OK, "provider",
                  err ? "check base_url, api_key_env or api_key_file of this provider in the configuration file" : NULL, "%.*s: %.*s",
                  SPAN_ARG(provider), SPAN_ARG(detail));
}

static void one_tool(void *user, struct span name, enum err err, struct span detail)
{
    struct check *check = user;
    doctor_report(check->doctor, err ? DOCTOR_FAIL : DOCTOR_OK, "tool",
                  err ? "check the secrets and the address or command of this tool or MCP server in the configuration file" : NULL,
                  "%.*s: %.*s", SPAN_ARG(name), SPAN_ARG(detail));
}

static void all_tools(void *user)
{
    struct check *check = user;
    loop_stop(check->loop);
}

static void all_providers(void *user)
{
    struct check *check = user;
    tools_check(check->tools, one_tool, all_tools, check);
}

int doctor_providers(const char *config_path, struct doctor *doctor)
{
    struct config       config;
    struct error        error = { 0 };
    struct check        check = { .doctor = doctor };
    struct http_client *client = NULL;
    struct models      *models = NULL;
    struct prices      *prices = NULL;
    enum err            e = config_load(config_path, &config, &error);
    signal(SIGPIPE, SIG_IGN); /* an MCP server may die while it is written to */
    if (!e)
        e = loop_new(env_real(), NULL, &check.loop, &error);
    if (!e)
        e = http_client_new(check.loop, &client, &error);
    if (!e)
        e = config_outbound(&config, client, &error);
    if (!e)
        e = models_new(check.loop, client, config.providers, &models, &error);
    if (!e)
        e = prices_new(config.prices, &prices, &error);
    if (!e)
        e = tools_new(check.loop, client, config.tools, config.mcp_servers, &check.tools, &error);
    if (e) {
        doctor_report(doctor, DOCTOR_FAIL, "config", "correct the configuration file", "%s%s%s", error.field, error.field[0] ? ": " : "",
                      error.message);
    } else {
        models_check(models, one_provider, all_providers, &check);
        loop_run(check.loop);
    }
    models_free(models);
    tools_free(check.tools);
    http_client_free(client);
    loop_free(check.loop);
    config_done(&config);
    return e != ERR_OK;
}
