/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - blocking HTTP for the command, on one libcurl handle driven by hand, so that a signal, a deadline or a dead
 * connection ends a transfer at once and not at its next byte. */
#include "cli/http.h"
#include "base/env.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    REPLY_MAX = 64 << 20,   /* bytes of one JSON answer */
    PROBLEM_MAX = 64 << 10, /* bytes of a stream's error answer that are looked at */
    TOKEN_MAX = 4096,
    CONNECT_MS = 10000,
    TRIES = 3,
    RETRY_AFTER_MAX_S = 10, /* a person is waiting */
};

struct web {
    CURLM *multi;
    CURL  *easy;
    CURLU *url;
    char  *base, *token, *workspace;
    bool   local;
};

/* ---- where to ---- */

static bool is_loopback(const char *host)
{
    struct in_addr v4; /* 127.0.0.0/8; a name like 127.example.org is none */
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static enum err set_base(struct web *web, const char *text, struct error *error)
{
    char *scheme = NULL, *host = NULL, *query = NULL;
    bool  good = curl_url_set(web->url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                curl_url_get(web->url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(web->url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
                curl_url_get(web->url, CURLUPART_QUERY, &query, 0) == CURLUE_NO_QUERY;
    if (good) {
        size_t n = strlen(text);
        while (n > 0 && text[n - 1] == '/')
            n--;
        free(web->base);
        web->base = mem_dup(text, n);
        web->local = is_loopback(host);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(query);
    if (!good)
        return error_set(error, ERR_INVALID_PARAMETER, "server", "\"%s\" is not an address like " WEB_DEFAULT_URL,
                         text);
    return ERR_OK;
}

/* Visible ASCII only: a token is pasted into a header line. */
static bool token_ok(struct span token)
{
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] <= ' ' || token.p[i] > '~')
            return false;
    return token.n > 0;
}

/* The first line of DIR/token; NULL when there is none that can be read. */
static char *token_of_folder(const char *folder)
{
    char path[4096], text[TOKEN_MAX];
    if (snprintf(path, sizeof path, "%s/token", folder) >= (int)sizeof path)
        return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    if (n <= 0)
        return NULL;
    struct span line = { text, 0 };
    while (line.n < (size_t)n && text[line.n] != '\n' && text[line.n] != '\r')
        line.n++;
    return token_ok(line) ? mem_dup(line.p, line.n) : NULL;
}

static enum err set_token(struct web *web, const struct web_options *options, struct error *error)
{
    char *token = NULL;
    if (options->token) {
        if (!token_ok(span_of(options->token)))
            return error_set(error, ERR_INVALID_PARAMETER, "token", "the token is empty or holds blanks");
        token = mem_dup(options->token, strlen(options->token));
    } else if (options->data || web->local) {
        token = token_of_folder(options->data ? options->data : WEB_DEFAULT_DATA);
    }
    free(web->token);
    web->token = token;
    return ERR_OK;
}

enum err web_move(struct web *web, const struct web_options *options, struct error *error)
{
    enum err err = set_base(web, options->server ? options->server : WEB_DEFAULT_URL, error);
    return err ? err : set_token(web, options, error);
}

enum err web_new(const struct web_options *options, struct web **ret, struct error *error)
{
    CLEANUP(web_freep) struct web *web = mem_alloc(sizeof *web);
    if (options->workspace && !token_ok(span_of(options->workspace)))
        return error_set(error, ERR_INVALID_PARAMETER, "workspace", "the workspace is empty or holds blanks");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return error_set(error, ERR_IO, "", "libcurl cannot start");
    web->multi = curl_multi_init();
    web->easy = curl_easy_init();
    web->url = curl_url();
    if (!web->multi || !web->easy || !web->url)
        return error_set(error, ERR_NOMEM, "", "libcurl cannot start");
    enum err err = web_move(web, options, error);
    if (err)
        return err;
    if (options->workspace)
        web->workspace = mem_dup(options->workspace, strlen(options->workspace));
    *ret = TAKE(web);
    return ERR_OK;
}

void web_free(struct web *web)
{
    if (!web)
        return;
    curl_easy_cleanup(web->easy);
    curl_multi_cleanup(web->multi);
    curl_url_cleanup(web->url);
    free(web->base);
    free(web->token);
    free(web->workspace);
    free(web);
}

void web_freep(struct web **web)
{
    web_free(*web);
}

const char *web_base(const struct web *web)
{
    return web->base;
}

bool web_has_token(const struct web *web)
{
    return web->token != NULL;
}

bool web_is_local(const struct web *web)
{
    return web->local;
}

/* ---- one transfer ---- */

struct transfer {
    struct web        *web;
    struct web_stream *stream; /* NULL: an ordinary call */
    struct buf         body;   /* of a call, or of a stream's error answer */
    struct curl_slist *headers;
    struct buf         url;
    uint64_t           last_us; /* when something was read last */
    bool               opened, stopped, too_large;
    char               why[CURL_ERROR_SIZE];
};

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

static size_t stream_bytes(struct transfer *t, struct span data)
{
    struct web_stream *s = t->stream;
    if (!t->opened) {
        t->opened = true;
        t->stopped = !s->on_open(s->user);
    }
    t->stopped = t->stopped || !s->on_data(s->user, data);
    return t->stopped ? 0 : data.n;
}

/* libcurl's write callback; fewer bytes than given end the transfer. */
static size_t on_bytes(char *p, size_t size, size_t count, void *user)
{
    struct transfer *t = user;
    size_t           n = size * count;
    long             status = 0;
    t->last_us = now_us();
    curl_easy_getinfo(t->web->easy, CURLINFO_RESPONSE_CODE, &status);
    if (t->stream && status == 200)
        return stream_bytes(t, span_make(p, n));
    if (t->body.len + n > (t->stream ? PROBLEM_MAX : REPLY_MAX)) {
        t->too_large = true;
        return 0;
    }
    buf_put(&t->body, p, n);
    return n;
}

static void add_header(struct transfer *t, const char *name, const char *value)
{
    struct buf line = { 0 };
    buf_printf(&line, "%s: %s", name, value);
    buf_byte(&line, 0);
    t->headers = curl_slist_append(t->headers, line.p);
    buf_done(&line);
}

/* What every request of ours carries. A proxy of the environment is used for servers elsewhere, never for this
 * machine. */
static void transfer_begin(struct transfer *t, struct web *web, const char *path, const char *accept)
{
    t->web = web;
    t->last_us = now_us();
    buf_printf(&t->url, "%s%s", web->base, path);
    buf_byte(&t->url, 0);
    curl_easy_reset(web->easy);
    curl_easy_setopt(web->easy, CURLOPT_URL, t->url.p);
    curl_easy_setopt(web->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(web->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(web->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(web->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(web->easy, CURLOPT_ERRORBUFFER, t->why);
    curl_easy_setopt(web->easy, CURLOPT_USERAGENT, "perdure-cli");
    if (web->local)
        curl_easy_setopt(web->easy, CURLOPT_PROXY, "");
    add_header(t, "Accept", accept);
    if (web->token) {
        struct buf bearer = { 0 };
        buf_printf(&bearer, "Bearer %s", web->token);
        buf_byte(&bearer, 0);
        add_header(t, "Authorization", bearer.p);
        buf_done(&bearer);
    }
    if (web->workspace)
        add_header(t, "X-Workspace-Id", web->workspace);
}

static void transfer_done(struct transfer *t)
{
    curl_slist_free_all(t->headers);
    buf_done(&t->body);
    buf_done(&t->url);
}

static const char *response_header(struct web *web, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(web->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : NULL;
}

/* Seconds; the date form is rare enough to count as none. */
static int64_t retry_after(struct web *web)
{
    const char *text = response_header(web, "retry-after");
    int64_t     v = 0;
    if (!text || !*text || strlen(text) > 9)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        v = v * 10 + (*text - '0');
    }
    return v;
}

/* How long to sleep in poll: until the next thing that must be looked at. */
static int poll_ms(uint64_t now, uint64_t idle_at, uint64_t deadline, uint64_t tick_at)
{
    uint64_t at = now + 1000 * 1000;
    at = idle_at && idle_at < at ? idle_at : at;
    at = deadline && deadline < at ? deadline : at;
    at = tick_at && tick_at < at ? tick_at : at;
    return at <= now ? 0 : (int)((at - now) / 1000) + 1;
}

static enum web_end end_of(struct transfer *t, CURLcode code)
{
    if (t->stopped)
        return WEB_STOPPED;
    if (code == CURLE_OK)
        return WEB_EOF;
    return code == CURLE_COULDNT_CONNECT ? WEB_REFUSED : WEB_BROKEN;
}

/* The transfer's own result, once libcurl says that it is over. */
static bool is_over(struct transfer *t, int running, enum web_end *ret)
{
    int      left;
    CURLMsg *message = running ? NULL : curl_multi_info_read(t->web->multi, &left);
    if (running)
        return false;
    *ret = end_of(t, message ? message->data.result : CURLE_RECV_ERROR);
    return true;
}

struct limits {
    uint64_t idle_us, deadline_us, tick_us; /* 0: none */
    int      wake_fd;
};

static enum web_end drive(struct transfer *t, const struct limits *limits)
{
    uint64_t tick_at = limits->tick_us ? now_us() + limits->tick_us : 0;
    for (;;) {
        int          running;
        enum web_end end;
        curl_multi_perform(t->web->multi, &running);
        if (is_over(t, running, &end))
            return end;
        uint64_t now = now_us();
        uint64_t idle_at = limits->idle_us ? t->last_us + limits->idle_us : 0;
        if (limits->deadline_us && now >= limits->deadline_us)
            return WEB_DEADLINE;
        if (idle_at && now >= idle_at)
            return WEB_IDLE;
        if (tick_at && now >= tick_at) {
            t->stream->on_tick(t->stream->user);
            tick_at = now + limits->tick_us;
        }
        struct curl_waitfd wake = { .fd = limits->wake_fd, .events = CURL_WAIT_POLLIN };
        curl_multi_poll(t->web->multi, &wake, limits->wake_fd >= 0, poll_ms(now, idle_at, limits->deadline_us, tick_at),
                        NULL);
        if (limits->wake_fd >= 0 && wake.revents)
            return WEB_WOKEN;
    }
}

static enum web_end transfer_run(struct transfer *t, const struct limits *limits)
{
    curl_easy_setopt(t->web->easy, CURLOPT_HTTPHEADER, t->headers);
    curl_multi_add_handle(t->web->multi, t->web->easy);
    enum web_end end = drive(t, limits);
    curl_multi_remove_handle(t->web->multi, t->web->easy);
    return end;
}

static enum err no_answer(struct transfer *t, enum web_end end, struct error *error)
{
    const char *base = t->web->base;
    if (t->too_large)
        return error_set(error, ERR_TOO_LARGE, "", "the answer of %s is larger than %d MiB", base, REPLY_MAX >> 20);
    if (end == WEB_DEADLINE)
        return error_set(error, ERR_TIMEOUT, "", "%s does not answer", base);
    if (end == WEB_REFUSED)
        return error_set(error, ERR_IO, "refused", "nobody listens at %s", base);
    return error_set(error, ERR_IO, "", "%s: %s", base, t->why[0] ? t->why : "the connection broke");
}

/* ---- calls ---- */

static void set_method(struct transfer *t, const struct web_request *request)
{
    const char *method = request->method ? request->method : request->body.n ? "POST" : "GET";
    CURL       *easy = t->web->easy;
    if (request->body.n) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.n);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.p);
        add_header(t, "Content-Type", request->content_type ? request->content_type : "application/json");
        t->headers = curl_slist_append(t->headers, "Expect:"); /* no waiting for 100-continue */
    } else if (strcmp(method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, 0L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
        t->headers = curl_slist_append(t->headers, "Content-Type:");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    for (const char *const *h = request->headers; h && *h; h++)
        t->headers = curl_slist_append(t->headers, *h);
    if (request->idempotency_key)
        add_header(t, "X-Idempotency-Key", request->idempotency_key);
}

static int64_t date_ms(const char *text)
{
    time_t at = text ? curl_getdate(text, NULL) : -1;
    return at > 0 ? (int64_t)at * 1000 : 0;
}

/* Answers may nest as deep as the API allows in requests, wrapped in an envelope or two. */
static struct jv parse_body(struct span body, struct arena *arena)
{
    struct json_limits limits = { .depth = 80, .lone_surrogates = true };
    struct json       *doc = ARENA_NEW(arena, struct json);
    if (body.n == 0 || json_parse(body, &limits, arena, doc, NULL))
        return (struct jv){ 0 };
    return json_root(doc);
}

static void copy_header(struct web *web, const char *name, char *out, size_t size)
{
    const char *value = response_header(web, name);
    snprintf(out, size, "%s", value ? value : "");
}

static void read_reply(struct transfer *t, struct arena *arena, struct web_reply *ret)
{
    long        status = 0;
    const char *id = response_header(t->web, "x-request-id");
    curl_easy_getinfo(t->web->easy, CURLINFO_RESPONSE_CODE, &status);
    *ret = (struct web_reply){ .status = (int)status, .retry_after_s = retry_after(t->web) };
    ret->date_ms = date_ms(response_header(t->web, "date"));
    ret->body = arena_copy(arena, buf_view(&t->body));
    ret->json = parse_body(ret->body, arena);
    snprintf(ret->request_id, sizeof ret->request_id, "%s", id ? id : "");
    copy_header(t->web, "stream-next-offset", ret->stream_next, sizeof ret->stream_next);
    copy_header(t->web, "content-type", ret->stream_type, sizeof ret->stream_type);
    ret->stream_up_to_date = response_header(t->web, "stream-up-to-date") != NULL;
    ret->stream_closed = response_header(t->web, "stream-closed") != NULL;
}

static enum err call_once(struct web *web, const struct web_request *request, struct arena *arena,
                          struct web_reply *ret, struct error *error)
{
    struct transfer t = { 0 };
    uint32_t        timeout = request->timeout_ms ? request->timeout_ms : 60000;
    struct limits   limits = { .deadline_us = now_us() + (uint64_t)timeout * 1000, .wake_fd = -1 };
    transfer_begin(&t, web, request->path, "application/json");
    set_method(&t, request);
    enum web_end end = transfer_run(&t, &limits);
    enum err     err = end == WEB_EOF ? ERR_OK : no_answer(&t, end, error);
    if (!err)
        read_reply(&t, arena, ret);
    transfer_done(&t);
    return err;
}

static bool may_repeat(const struct web_request *request)
{
    const char *method = request->method ? request->method : request->body.n ? "POST" : "GET";
    return !request->once && (request->idempotency_key || strcmp(method, "POST") != 0) && strcmp(method, "PATCH") != 0;
}

static void sleep_ms(int64_t ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

enum err web_call(struct web *web, const struct web_request *request, struct arena *arena, struct web_reply *ret,
                  struct error *error)
{
    struct error why = { 0 };
    for (unsigned n = 1;; n++) {
        enum err err = call_once(web, request, arena, ret, &why);
        bool     again = err == ERR_IO ? strcmp(why.field, "refused") != 0
                                       : err == ERR_OK && (ret->status == 429 || ret->status == 503);
        if (!again || n == TRIES || !may_repeat(request)) {
            if (err && error)
                *error = why;
            return err;
        }
        int64_t wait_s = err ? 1 : ret->retry_after_s;
        sleep_ms(wait_s < 0 ? 1000 : wait_s > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S * 1000 : wait_s * 1000);
    }
}

/* ---- streams ---- */

static enum web_end stream_end(struct transfer *t, enum web_end end)
{
    struct web_stream *s = t->stream;
    long               status = 0;
    curl_easy_getinfo(t->web->easy, CURLINFO_RESPONSE_CODE, &status);
    s->status = (int)status;
    s->retry_after_s = retry_after(t->web);
    if (s->status != 200 && s->status != 0 && (end == WEB_EOF || t->too_large)) {
        struct arena arena = { 0 };
        web_problem(s->status, parse_body(buf_view(&t->body), &arena), &arena, &s->error);
        arena_done(&arena);
        return WEB_STATUS;
    }
    if (end == WEB_REFUSED || end == WEB_BROKEN)
        no_answer(t, end, &s->error);
    return end;
}

enum web_end web_follow(struct web *web, struct web_stream *stream)
{
    struct transfer t = { .stream = stream };
    struct limits   limits = { .idle_us = (uint64_t)stream->idle_ms * 1000, .deadline_us = stream->deadline_us,
                               .tick_us = (uint64_t)stream->tick_ms * 1000, .wake_fd = stream->wake_fd };
    transfer_begin(&t, web, stream->path, stream->accept);
    if (stream->last_event_id)
        add_header(&t, "Last-Event-ID", stream->last_event_id);
    enum web_end end = stream_end(&t, transfer_run(&t, &limits));
    transfer_done(&t);
    return end;
}

/* ---- problems ---- */

static enum err class_of(int status)
{
    switch (status) {
    case 401: return ERR_UNAUTHENTICATED;
    case 403: return ERR_INSUFFICIENT_SCOPE;
    case 404: return ERR_NOT_FOUND;
    case 409: return ERR_CONFLICT;
    case 422: return ERR_VALIDATION;
    case 429: return ERR_RATE_LIMITED;
    case 503: return ERR_OVERLOADED;
    default: return status >= 500 ? ERR_INTERNAL : ERR_BAD_REQUEST;
    }
}

void web_problem(int status, struct jv body, struct arena *arena, struct error *error)
{
    static const char *const members[] = { "message", "detail", "title" };
    struct span              message = SPAN_NONE;
    for (size_t i = 0; i < ARRAY_LEN(members) && !message.n; i++)
        message = jv_string(jv_get(body, members[i]), arena);
    struct span code = jv_string(jv_get(body, "code"), arena);
    if (!message.n)
        error_set(error, class_of(status), "", "the server answered with status %d", status);
    else if (code.n)
        error_set(error, class_of(status), "", "%.*s (%.*s)", SPAN_ARG(message), SPAN_ARG(code));
    else
        error_set(error, class_of(status), "", "%.*s (status %d)", SPAN_ARG(message), status);
}

/* ---- paths ---- */

static void put_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("-_.~", c);
        if (plain)
            buf_byte(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

static const char *take_text(struct buf *text, struct arena *arena)
{
    struct span copy = arena_copy(arena, buf_view(text));
    buf_done(text);
    return copy.p;
}

const char *path_make(struct arena *arena, const char *format, ...)
{
    struct buf path = { 0 };
    va_list    args;
    va_start(args, format);
    for (; *format; format++) {
        if (format[0] == '%' && format[1] == 's') {
            put_escaped(&path, va_arg(args, const char *));
            format++;
        } else {
            buf_byte(&path, *format);
        }
    }
    va_end(args);
    return take_text(&path, arena);
}

const char *path_query(struct arena *arena, const char *path, const char *name, const char *value)
{
    struct buf out = { 0 };
    if (!value)
        return path;
    buf_printf(&out, "%s%c%s=", path, strchr(path, '?') ? '&' : '?', name);
    put_escaped(&out, value);
    return take_text(&out, arena);
}
