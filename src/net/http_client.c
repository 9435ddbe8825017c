/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.c - outgoing HTTP: libcurl's multi interface, driven by the loop's sockets and timers.
 *
 * libcurl must not be called from inside its own callbacks. So whatever the user asks for there (cancel this call, cancel
 * another, start a new one) is noted and done when libcurl has returned; `inside` says when that is. A call that was
 * cancelled is silent from that moment on. */
#include "net/http_client.h"
#include "base/mem.h"
#include <curl/curl.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>

enum { CONNECT_TIMEOUT_MS = 10 * 1000, IDLE_TIMEOUT_MS = 120 * 1000 };

struct http_client {
    struct loop      *loop;
    CURLM            *multi;
    struct loop_timer timer;     /* libcurl's */
    struct loop_timer later;     /* due at once while calls wait to be added or dropped */
    struct http_call *first;     /* all calls */
    struct outbound  *outbound;
    unsigned          inside;    /* libcurl is on the stack */
    bool              changed;   /* some call is NEW or DROPPED */
};

enum call_state {
    CALL_NEW,     /* not yet given to libcurl */
    CALL_LIVE,
    CALL_DROPPED, /* cancelled from inside a callback */
};

struct http_call {
    struct http_client      *client;
    struct http_call        *prev, *next;
    struct http_call_config  config;      /* callbacks and limits; its pointers are not kept */
    CURL                    *easy;
    struct curl_slist       *headers, *resolve;
    struct loop_timer        idle;
    uint64_t                 heard_us;    /* when the last byte came */
    uint64_t                 bytes;
    int64_t                  retry_after_s;
    enum call_state          state;
    enum err                 failed;      /* ours: decided by us, whatever libcurl says then */
    bool                     head_done;
    bool                     sent;        /* the request, or the first bytes of it */
    char                     reason[CURL_ERROR_SIZE];
};

static void call_free(struct http_call *call)
{
    struct http_client *client = call->client;

    if (call->prev)
        call->prev->next = call->next;
    else if (client->first == call)
        client->first = call->next;
    if (call->next)
        call->next->prev = call->prev;
    loop_timer_clear(&call->idle);
    if (call->easy && call->state != CALL_NEW)
        curl_multi_remove_handle(client->multi, call->easy); /* an unfinished transfer closes its socket here */
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->resolve);
    free(call);
}

static void call_done(struct http_call *call, enum err err, const char *message)
{
    struct error error = { 0 };

    call->state = CALL_DROPPED; /* a late cancel has nothing to do */
    curl_multi_remove_handle(call->client->multi, call->easy);
    curl_easy_cleanup(TAKE(call->easy));
    if (err)
        error_set(&error, err, NULL, "%s", message);
    call->config.on_done(call->config.user, err, &error);
    call_free(call);
}

/* ---- what comes back ---- */

static void heard(struct http_call *call)
{
    struct env *env = loop_env(call->client->loop);
    call->heard_us = env->mono_us(env);
}

/* Seconds, or an HTTP date; -1 when it is neither. */
static int64_t read_retry_after(struct http_call *call, struct span value)
{
    int64_t seconds = 0;
    bool    digits = value.n > 0;
    char    text[64];

    for (size_t i = 0; i < value.n && digits; i++) {
        digits = value.p[i] >= '0' && value.p[i] <= '9';
        if (digits && seconds < INT32_MAX)
            seconds = seconds * 10 + (value.p[i] - '0');
    }
    if (digits)
        return seconds < INT32_MAX ? seconds : INT32_MAX;
    if (value.n == 0 || value.n >= sizeof text)
        return -1;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    time_t      at = curl_getdate(text, NULL);
    struct env *env = loop_env(call->client->loop);
    if (at < 0)
        return -1;
    int64_t left = (int64_t)at - env->wall_ms(env) / 1000;
    return left > 0 ? left : 0;
}

static struct span trimmed(struct span s)
{
    while (s.n > 0 && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    while (s.n > 0 && strchr(" \t", s.p[0])) {
        s.p++;
        s.n--;
    }
    return s;
}

static void head_complete(struct http_call *call)
{
    long        status = 0;
    const char *type = NULL;

    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &type);
    if (status < 200)
        return; /* 100 Continue and the like: the final head follows */
    call->head_done = true;
    if (call->config.on_head)
        call->config.on_head(call->config.user, (int)status, span_of(type), call->retry_after_s);
}

static void tell_header(struct http_call *call, struct span line)
{
    const char *colon = memchr(line.p, ':', line.n);
    long        status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (colon && status >= 200 && call->config.on_header)
        call->config.on_header(call->config.user, span_make(line.p, (size_t)(colon - line.p)),
                               trimmed(span_make(colon + 1, line.n - (size_t)(colon - line.p) - 1)));
}

/* One header line, the status line, or the empty line behind them. Anything but n stops the transfer. */
static size_t on_header(char *p, size_t size, size_t n, void *user)
{
    static const char name[] = "retry-after:";
    struct http_call *call = user;
    struct span       line = { p, size * n };

    if (call->state != CALL_LIVE)
        return 0;
    heard(call);
    if (call->head_done)
        return line.n; /* a trailer */
    if (line.n >= 5 && memcmp(p, "HTTP/", 5) == 0)
        call->retry_after_s = -1;
    else
        tell_header(call, line);
    if (line.n >= sizeof name - 1 && strncasecmp(p, name, sizeof name - 1) == 0)
        call->retry_after_s = read_retry_after(call, trimmed(span_make(p + sizeof name - 1, line.n - (sizeof name - 1))));
    else if (trimmed(line).n == 0)
        head_complete(call);
    if (!call->head_done)
        tell_header(call, line);
    return call->state == CALL_LIVE ? line.n : 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    struct http_call *call = user;
    struct span       data = { p, size * n };

    if (call->state != CALL_LIVE)
        return 0;
    heard(call);
    call->bytes += data.n;
    if (call->config.max_bytes && call->bytes > call->config.max_bytes) {
        call->failed = ERR_TOO_LARGE;
        return 0;
    }
    if (data.n > 0 && call->config.on_data)
        call->config.on_data(call->config.user, data);
    return call->state == CALL_LIVE ? data.n : 0;
}

static void on_idle(struct loop_timer *timer)
{
    struct http_call *call = CONTAINER(timer, struct http_call, idle);
    uint64_t          due = call->heard_us + call->config.idle_timeout_ms * 1000ull;

    /* Bytes do not move the timer, they only say when they came: most of the time it is looked at once. */
    if (due > loop_now_us(call->client->loop)) {
        loop_timer_set(timer, due);
        return;
    }
    call_done(call, ERR_TIMEOUT, "no byte received for too long");
}

static enum err err_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return ERR_OK;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_FILESIZE_EXCEEDED:
        return ERR_TOO_LARGE;
    default:
        return ERR_IO;
    }
}

static void finish(struct http_call *call, CURLcode code)
{
    if (call->state == CALL_DROPPED) {
        call_free(call);
    } else if (code && call->failed == ERR_FORBIDDEN) {
        call_done(call, ERR_FORBIDDEN, "the URL leads to an address that is not public; outbound.allow in the configuration can allow it");
    } else if (call->failed == ERR_TOO_LARGE) {
        call_done(call, ERR_TOO_LARGE, "the response body exceeds its limit");
    } else {
        char message[CURL_ERROR_SIZE + 64];
        const char *what = curl_easy_strerror(code);
        snprintf(message, sizeof message, "%.63s%s%.250s", what, call->reason[0] ? ": " : "", call->reason);
        call_done(call, err_of(code), message);
    }
}

/* ---- where it may lead ---- */

/* libcurl connects the socket that this gives to exactly this address. Once one address of a host was refused no other is taken:
 * a name that leads inside and outside is not one to trust. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct http_call *call = user;
    if (call->failed == ERR_FORBIDDEN ||
        (!call->config.trusted && !outbound_allows_address(call->client->outbound, &address->addr))) {
        call->failed = ERR_FORBIDDEN;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* The connection stands and the request follows. */
static int before_request(void *user, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    struct http_call *call = user;
    call->sent = true;
    return CURL_PREREQFUNC_OK;
}

bool http_call_sent(const struct http_call *call)
{
    return call->sent;
}

void http_client_allow(struct http_client *client, struct outbound *outbound)
{
    outbound_free(client->outbound);
    client->outbound = outbound;
}

/* By what the URL alone says. A host that is allowed by name is trusted from here on. */
static enum err check_url(struct http_client *client, struct http_call_config *config, const char *url, struct error *error)
{
    struct arena arena = { 0 };
    struct span  host;
    enum err     err = outbound_url(url, &arena, &host, error);
    if (!err)
        config->trusted = config->trusted || outbound_allows_host(client->outbound, host);
    if (!err && !config->trusted && !outbound_allows_literal(client->outbound, host))
        err = error_set(error, ERR_FORBIDDEN, "url", "%.*s is not a public address; outbound.allow in the configuration can allow it",
                        SPAN_ARG(host));
    arena_done(&arena);
    return err;
}

/* ---- libcurl on the loop ---- */

static void collect(struct http_client *client)
{
    CURLMsg *message;
    int      left;

    while ((message = curl_multi_info_read(client->multi, &left))) {
        struct http_call *call = NULL;
        CURLcode          code = message->data.result; /* the message is gone when its handle is */
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        finish(call, code);
    }
}

/* Carries out what was asked for while libcurl was on the stack. */
static void carry_out(struct http_client *client)
{
    if (!client->changed)
        return;
    client->changed = false;
    for (struct http_call *call = client->first, *next; call; call = next) {
        next = call->next;
        if (call->state == CALL_DROPPED) {
            call_free(call);
        } else if (call->state == CALL_NEW) {
            call->state = CALL_LIVE;
            client->inside++;
            curl_multi_add_handle(client->multi, call->easy);
            client->inside--;
        }
    }
}

static void drive(struct http_client *client, curl_socket_t fd, int what)
{
    int running;

    client->inside++;
    curl_multi_socket_action(client->multi, fd, what, &running);
    client->inside--;
    carry_out(client);
    collect(client);
}

static void on_socket_event(evutil_socket_t fd, short what, void *user)
{
    drive(user, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
    struct http_client *client = user;
    struct event       *event = socket_user;

    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        short wanted = (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);
        event = event_new(loop_base(client->loop), fd, wanted, on_socket_event, client);
        if (!event || event_add(event, NULL))
            return -1;
    }
    curl_multi_assign(client->multi, fd, event);
    return 0;
}

static int set_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct http_client *client = user;
    struct env         *env = loop_env(client->loop);

    if (timeout_ms < 0)
        loop_timer_clear(&client->timer);
    else
        loop_timer_set(&client->timer, env->mono_us(env) + (uint64_t)timeout_ms * 1000);
    return 0;
}

static void on_curl_timer(struct loop_timer *timer)
{
    drive(CONTAINER(timer, struct http_client, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_later(struct loop_timer *timer)
{
    struct http_client *client = CONTAINER(timer, struct http_client, later);
    carry_out(client);
    collect(client);
}

static void note_change(struct http_client *client)
{
    client->changed = true;
    if (!client->later.due_us)
        loop_timer_set(&client->later, loop_now_us(client->loop));
}

/* ---- the client ---- */

enum err http_client_new(struct loop *loop, struct http_client **ret, struct error *error)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) /* counted by libcurl */
        return error_set(error, ERR_IO, NULL, "libcurl does not start");
    CURLM *multi = curl_multi_init();
    if (!multi) {
        curl_global_cleanup();
        return error_set(error, ERR_IO, NULL, "libcurl does not start");
    }
    struct http_client *client = mem_alloc(sizeof *client);
    client->loop = loop;
    client->multi = multi;
    loop_timer_init(&client->timer, loop, on_curl_timer);
    loop_timer_init(&client->later, loop, on_later);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
    *ret = client;
    return ERR_OK;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    assert(client->inside == 0); /* never from inside on_head or on_data */
    while (client->first)
        call_free(client->first); /* takes itself off the list, which the analyzer misses: NOLINT(clang-analyzer-unix.Malloc) */
    curl_multi_cleanup(client->multi);
    loop_timer_clear(&client->timer);
    loop_timer_clear(&client->later);
    outbound_free(client->outbound);
    free(client);
    curl_global_cleanup();
}

/* ---- calls ---- */

static bool add_header(struct http_call *call, const char *line)
{
    struct curl_slist *longer = curl_slist_append(call->headers, line);
    if (longer)
        call->headers = longer;
    return longer != NULL;
}

static bool add_headers(struct http_call *call, const char *const *lines)
{
    bool typed = false;
    for (; lines && *lines; lines++) {
        typed = typed || strncasecmp(*lines, "content-type:", 13) == 0;
        if (strpbrk(*lines, "\r\n") || !add_header(call, *lines))
            return false;
    }
    /* What libcurl would add by itself: a form's content type, and a wait for 100 Continue. */
    return (typed || add_header(call, "Content-Type:")) && add_header(call, "Expect:");
}

static bool add_resolve(struct http_call *call, const char *const *lines)
{
    for (; lines && *lines; lines++) {
        struct curl_slist *longer = curl_slist_append(call->resolve, *lines);
        if (!longer)
            return false;
        call->resolve = longer;
    }
    return true;
}

static CURLcode set_request(CURL *easy, const struct http_call_config *config)
{
    CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, config->url);
    if (strcmp(config->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return code;
    }
    if (config->body.n > 0 || strcmp(config->method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)config->body.n);
        code = code ? code : curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, config->body.n ? config->body.p : "");
    }
    return code ? code : curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, config->method);
}

static void set_rules(struct http_call *call, const struct http_call_config *config)
{
    CURL *easy = call->easy;
    long  connect_ms = config->connect_timeout_ms ? config->connect_timeout_ms : CONNECT_TIMEOUT_MS;

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* a call is a socket: cancel closes it */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* do not wait for the resolver's thread when cancelled */
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)config->total_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->reason);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
    curl_easy_setopt(easy, CURLOPT_RESOLVE, call->resolve);
    if (!call->config.trusted) { /* never through a connection that a trusted call has opened, and none is left for later */
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
}

enum err http_call_start(struct http_client *client, const struct http_call_config *config, struct http_call **ret,
                         struct error *error)
{
    struct http_call_config checked = *config;
    enum err                err = check_url(client, &checked, config->url, error);
    if (err)
        return err;
    struct http_call *call = mem_alloc(sizeof *call);
    call->client = client;
    call->config = checked;
    call->config.resolve = NULL;
    call->config.method = call->config.url = NULL; /* the caller's; libcurl has its copies */
    call->config.headers = NULL;
    call->config.body = SPAN_NONE;
    if (!call->config.idle_timeout_ms)
        call->config.idle_timeout_ms = IDLE_TIMEOUT_MS;
    call->retry_after_s = -1;
    loop_timer_init(&call->idle, client->loop, on_idle);
    call->easy = curl_easy_init();
    if (!call->easy || !add_headers(call, config->headers) || !add_resolve(call, config->resolve) ||
        set_request(call->easy, config)) {
        call_free(call);
        return error_set(error, ERR_INVALID_PARAMETER, NULL, "not a request that can be sent");
    }
    set_rules(call, config);
    call->next = client->first;
    if (call->next)
        call->next->prev = call;
    client->first = call;
    heard(call);
    loop_timer_set(&call->idle, call->heard_us + call->config.idle_timeout_ms * 1000ull);
    note_change(client); /* it begins in this round or the next, never before this returns */
    *ret = call;
    return ERR_OK;
}

void http_call_cancel(struct http_call *call)
{
    if (call->client->inside == 0 || call->state == CALL_NEW) {
        call_free(call);
        return;
    }
    call->state = CALL_DROPPED; /* the transfer ends as soon as libcurl has returned */
    loop_timer_clear(&call->idle);
    note_change(call->client);
}

/* ---- headers that the configuration names ---- */

bool http_header_name_valid(struct span name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c && strchr("!#$%&'*+-.^_`|~0123456789", c)))
            return false;
    }
    return name.n > 0 && name.n <= 128;
}

bool http_header_is_secret(const char *name)
{
    static const char *const hints[] = { "key", "token", "secret", "authorization", "cookie", "password" };
    for (size_t i = 0; i < ARRAY_LEN(hints); i++)
        if (strcasestr(name, hints[i]))
            return true;
    return false;
}
