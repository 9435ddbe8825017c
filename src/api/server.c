/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - what happens to every request: route, method, credential, scope, rate, body; then its handler. */
#include "api/inner.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void request_gone(struct http_request *req)
{
    struct call *call = req->user;
    if (!call)
        return;
    call->req = NULL;
    if (call->on_gone)
        call->on_gone(call);
    else if (!call->dispatched)
        call_free(call);
}

/* ---- request ids, headers ---- */

static void take_request_id(struct call *call)
{
    struct span given;
    bool        named = (call->flow && http_header(call->req, "X-ModelRelay-Request-Id", &given)) ||
                 http_header(call->req, "X-Request-Id", &given);
    bool        usable = named && given.n >= 1 && given.n <= CALL_REQUEST_ID;
    for (size_t i = 0; usable && i < given.n; i++)
        usable = given.p[i] > 0x20 && given.p[i] < 0x7f;
    if (usable)
        memcpy(call->request_id, given.p, given.n);
    else
        random_text(engine_env(call->api->engine), "req_", 12, call->request_id);
}

static bool accepts(struct call *call, const char *type)
{
    struct span accept;
    return http_header(call->req, "Accept", &accept) && memmem(accept.p ? accept.p : "", accept.n, type, strlen(type));
}

static struct call *call_new(struct api *api, struct http_request *req)
{
    struct call *call = mem_alloc(sizeof *call);
    call->api = api;
    call->req = req;
    call->issues.arena = &call->arena;
    call->path = arena_copy(&call->arena, req->path);
    call->query = req->query.p ? arena_copy(&call->arena, req->query) : SPAN_NONE;
    call->w = jw_on(&call->out);
    loop_timer_init(&call->timer, engine_loop(api->engine), NULL);
    req->user = call;
    req->gone = request_gone;
    call->flow = call->path.n >= 8 && memcmp(call->path.p, "/api/v1/", 8) == 0;
    take_request_id(call);
    call->problem = accepts(call, "application/problem+json");
    api->requests++;
    return call;
}

/* ---- credential, scope, workspace, rate ---- */

static bool bearer(struct call *call, struct span *ret)
{
    struct span auth, key;
    bool        has_auth = http_header(call->req, "Authorization", &auth), has_key = http_header(call->req, "X-API-Key", &key);
    struct span token = SPAN_NONE;
    if (has_auth) {
        if (auth.n < 8 || strncasecmp(auth.p, "Bearer ", 7) != 0)
            return false;
        token = span_make(auth.p + 7, auth.n - 7);
        while (token.n && token.p[0] == ' ')
            token = span_make(token.p + 1, token.n - 1);
    }
    if (has_key && token.p && !span_eq(key, token))
        return false;
    *ret = token.p ? token : has_key ? key : SPAN_NONE;
    return ret->n > 0;
}

static bool authenticate(struct call *call)
{
    struct api        *api = call->api;
    struct span        token;
    if (call->flow)
        return flow_authenticate(call);
    struct credential *cred = bearer(call, &token) ? auth_find(api->auth, token, 1 << CRED_TOKEN, engine_now_ms(api->engine)) : NULL;
    if (!cred) {
        call_fail(call, ERR_UNAUTHENTICATED, "", "a valid bearer token is needed");
        return false;
    }
    call->cred = cred;
    auth_ref(cred);
    call->tenant = cred->row.tenant;
    return true;
}

static bool choose_workspace(struct call *call)
{
    if (call->flow && !uuid_is_nil(call->cred->row.workspace)) {
        call->workspace = call->cred->row.workspace;
        return true;
    }
    struct span given;
    struct uuid tenant, asked;
    if (http_header(call->req, "X-Tenant-Id", &given) && (!uuid_parse(given, &tenant) || !uuid_eq(tenant, call->tenant))) {
        call_fail(call, ERR_TENANT_FORBIDDEN, "X-Tenant-Id", "the token belongs to another tenant");
        return false;
    }
    struct uuid bound = call->cred->row.workspace;
    bool        has = http_header(call->req, "X-Workspace-Id", &given);
    call->workspace = bound;
    if (!has) {
        if (!uuid_is_nil(bound) || call->route->flags & ROUTE_TENANT)
            return true;
        call_fail(call, ERR_WORKSPACE_REQUIRED, "X-Workspace-Id", "the token is for all workspaces: name one in X-Workspace-Id");
        return false;
    }
    struct workspace *workspace = uuid_parse(given, &asked) ? auth_workspace(call->api->auth, asked) : NULL;
    if (!workspace || !uuid_eq(workspace->row.tenant, call->tenant) || (!uuid_is_nil(bound) && !uuid_eq(bound, asked))) {
        call_fail(call, ERR_WORKSPACE_FORBIDDEN, "X-Workspace-Id", "the token has no access to this workspace");
        return false;
    }
    call->workspace = asked;
    return true;
}

static bool allowed(struct call *call)
{
    if (auth_allows(call->cred, call->route->scope))
        return true;
    call_extra_str(call, "required_scope", span_of(call->route->scope));
    call_fail(call, ERR_INSUFFICIENT_SCOPE, "", "the token lacks the scope %s", call->route->scope);
    return false;
}

static bool within_rate(struct call *call)
{
    const struct api_config *config = &call->api->config;
    if (!config->rate_per_minute)
        return true;
    uint32_t remaining, reset_s;
    bool     taken = auth_take(call->cred, loop_now_us(engine_loop(call->api->engine)), config->rate_per_minute, config->rate_burst,
                               &remaining, &reset_s);
    call_header(call, "X-RateLimit-Limit: %u", config->rate_per_minute);
    call_header(call, "X-RateLimit-Remaining: %u", remaining);
    call_header(call, "X-RateLimit-Reset: %u", reset_s);
    if (taken)
        return true;
    call_header(call, "Retry-After: %u", (60 + config->rate_per_minute - 1) / config->rate_per_minute);
    call_fail(call, ERR_RATE_LIMITED, "", "more than %u requests per minute", config->rate_per_minute);
    return false;
}

static bool json_type(struct call *call)
{
    struct span type;
    if (!http_header(call->req, "Content-Type", &type))
        type = SPAN("");
    const char *semicolon = memchr(type.p ? type.p : "", ';', type.n);
    if (semicolon)
        type.n = (size_t)(semicolon - type.p);
    while (type.n && type.p[type.n - 1] == ' ')
        type.n--;
    if ((type.n == 16 && strncasecmp(type.p, "application/json", 16) == 0) ||
        (type.n > 5 && strncasecmp(type.p + type.n - 5, "+json", 5) == 0))
        return true;
    call_fail(call, ERR_MEDIA_TYPE, "Content-Type", "the body must be application/json");
    return false;
}

static bool takes_body(const struct route *route)
{
    return route->method == HTTP_M_POST || route->method == HTTP_M_PUT || route->method == HTTP_M_PATCH;
}

/* ---- the head: everything that can be decided before the body is read ---- */

static void preflight(struct call *call)
{
    call_header(call, "Access-Control-Allow-Methods: GET, POST, PATCH, PUT, DELETE, OPTIONS");
    call_header(call, "Access-Control-Allow-Headers: Authorization, Content-Type, X-Idempotency-Key, Idempotency-Key, Last-Event-ID, "
                      "X-Tenant-Id, X-Workspace-Id, X-Request-Id, X-Operation-Id, X-Correlation-Id, Traceparent");
    call_header(call, "Access-Control-Max-Age: 600");
    call_send(call, 204);
}

static bool find_route(struct call *call)
{
    bool                other = false;
    struct buf          allow = { 0 };
    const struct route *route = route_find(call->path, call->req->method, &call->arena, call->params, &other, &allow);
    call->route = route; /* an answer below frees the call */
    if (!route && call->api->config.cors_origin && other && call->req->method == HTTP_M_OPTIONS) {
        preflight(call);
    } else if (!route && other) {
        call_header(call, "Allow: %.*s", (int)allow.len, allow.p);
        call_fail(call, ERR_METHOD_NOT_ALLOWED, "", "%.*s is not possible here", SPAN_ARG(call->req->method_text));
    } else if (!route) {
        call_fail(call, ERR_NOT_FOUND, "", "there is nothing at %.*s", SPAN_ARG(call->path));
    }
    buf_done(&allow);
    return route;
}

/* "127.0.0.1:7070", "localhost", "[::1]:7070". */
static bool names_loopback(struct span host)
{
    static const char *const names[] = { "127.0.0.1", "localhost", "[::1]" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i]);
        if (host.n >= n && strncasecmp(host.p, names[i], n) == 0 && (host.n == n || host.p[n] == ':'))
            return true;
    }
    return false;
}

/* --dev has well-known credentials, so a page in a browser must not be able to reach it under another name. */
static bool from_here(struct call *call)
{
    struct span host, origin;
    if (!call->api->config.dev)
        return true;
    bool here = !http_header(call->req, "Host", &host) || names_loopback(host);
    /* A preflight gives nothing away; the request that follows it is refused. */
    if (here && call->req->method != HTTP_M_OPTIONS && http_header(call->req, "Origin", &origin)) {
        const char *at = memmem(origin.p ? origin.p : "", origin.n, "://", 3);
        here = at && names_loopback(span_make(at + 3, origin.n - (size_t)(at + 3 - origin.p)));
    }
    if (!here)
        call_fail(call, ERR_FORBIDDEN, "Host", "--dev answers on this machine's own names only");
    return here;
}

static uint64_t body_limit(const struct call *call)
{
    const struct api_config *config = &call->api->config;
    if (call->route->flags & ROUTE_RAW)
        return config->max_stream_body;
    return call->route->flags & ROUTE_BATCH ? config->max_batch_body : config->max_body;
}

static uint64_t on_head(void *user, struct http_request *req)
{
    struct api  *api = user;
    struct call *call = call_new(api, req);
    if (!from_here(call) || !find_route(call))
        return 0;
    if (call->route->scope && !(authenticate(call) && choose_workspace(call) && allowed(call) && within_rate(call)))
        return 0;
    bool body = req->content_length > 0; /* UINT64_MAX when chunked */
    if (body && !(call->route->flags & ROUTE_RAW) && req->content_length != UINT64_MAX && takes_body(call->route) && !json_type(call))
        return 0;
    return body_limit(call);
}

/* ---- the body, then the handler ---- */

static bool parse_body(struct call *call)
{
    static const struct json_limits limits = { .depth = 64 };
    struct http_request *req = call->req;
    struct error         error = { 0 };
    if (!takes_body(call->route) || call->route->flags & ROUTE_RAW)
        return true;
    if (req->body.n && !json_type(call))
        return false;
    struct span text = req->body.n ? req->body : call->route->flags & ROUTE_EMPTY_OK ? SPAN("{}") : SPAN("");
    if (json_parse(text, &limits, &call->arena, &call->doc, &error)) {
        call_error(call, &error);
        return false;
    }
    call->body = json_root(&call->doc);
    if (jv_is(call->body, JSON_OBJECT))
        return true;
    issue_add(&call->issues, SPAN(""), "type", "the body must be an object");
    call_fail(call, call->flow ? ERR_BAD_REQUEST : ERR_VALIDATION, "", "the body must be an object");
    return false;
}

static void read_call(struct call *call, struct reader *reader)
{
    enum err e = reader_begin(reader, &call->arena);
    if (e) {
        call_fail(call, ERR_STORAGE, "", "the store cannot be read");
        return;
    }
    call->reader = reader;
    call->route->handle(call);
    call->reader = NULL;
    reader_end(reader);
}

static void job_run(struct read_job *job, struct reader *reader)
{
    read_call(CONTAINER(job, struct call, job), reader);
}

static void job_done(struct read_job *job)
{
    struct call *call = CONTAINER(job, struct call, job);
    call->in_job = false;
    call_send(call, call->status);
}

static void dispatch_read(struct call *call)
{
    call->in_job = true; /* call_send only notes the status until the snapshot is closed */
    if (call->route->flags & ROUTE_HEAVY) {
        call->job.run = job_run;
        call->job.done = job_done;
        store_read(engine_store(call->api->engine), &call->job);
        return;
    }
    read_call(call, engine_reader(call->api->engine));
    call->in_job = false;
    call_send(call, call->status);
}

static void on_request(void *user, struct http_request *req, bool too_large)
{
    struct call *call = req->user;
    (void)user;
    call->dispatched = true;
    if (too_large) {
        call_fail(call, ERR_TOO_LARGE, "", "the body is larger than %llu bytes", (unsigned long long)body_limit(call));
        return;
    }
    if (!parse_body(call))
        return;
    if (call->route->flags & ROUTE_READ)
        dispatch_read(call);
    else
        call->route->handle(call);
}

static void on_bad(void *user, enum err code, struct buf *headers, struct buf *body)
{
    (void)user;
    const struct err_info *info = err_info(code);
    BUF_LIT(headers, "Content-Type: application/json; charset=utf-8\r\n");
    if (info->ar_status == 503)
        BUF_LIT(headers, "Retry-After: 1\r\n");
    struct jw w = jw_on(body);
    jw_obj(&w);
    jw_key(&w, "type");
    struct buf type = { 0 };
    buf_printf(&type, "urn:agent-runs:error:%s", info->ar_code);
    jw_str(&w, buf_view(&type));
    buf_done(&type);
    jw_key(&w, "title");
    jw_cstr(&w, info->title);
    jw_key(&w, "status");
    jw_i64(&w, info->ar_status);
    jw_key(&w, "code");
    jw_cstr(&w, info->ar_code);
    jw_key(&w, "message");
    jw_cstr(&w, info->title);
    jw_key(&w, "retryable");
    jw_bool(&w, info->retryable);
    jw_end(&w);
}

struct http_handler api_handler(struct api *api)
{
    return (struct http_handler){ .on_head = on_head, .on_request = on_request, .on_bad = on_bad, .user = api };
}

/* ---- life ---- */

static enum err write_token(const char *path, const char *token, struct error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(error, ERR_IO, "token", "cannot write %s: %m", path);
    size_t n = strlen(token);
    bool   ok = write(fd, token, n) == (ssize_t)n && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    close(fd);
    return ok ? ERR_OK : error_set(error, ERR_IO, "token", "cannot write %s: %m", path);
}

static enum err first_start(struct api *api, struct error *error)
{
    char token[64];
    auth_mint(api->auth, &(struct credential_spec){ .kind = CRED_TOKEN, .tenant = auth_tenant(api->auth),
              .workspace = auth_workspaces(api->auth)->row.id, .name = SPAN("root"), .scopes = SPAN("[\"*\"]") }, token);
    return api->config.token_path ? write_token(api->config.token_path, token, error) : ERR_OK;
}

enum err api_new(const struct api_config *config, struct api **ret, struct error *error)
{
    struct api *api = mem_alloc(sizeof *api);
    api->config = *config;
    api->engine = config->engine;
    api->started_ms = engine_now_ms(config->engine);
    enum err e = auth_new(api->engine, &api->auth, error);
    if (!e && auth_first_start(api->auth))
        e = first_start(api, error);
    if (e) {
        api_free(api);
        return e;
    }
    if (config->dev)
        api->dev = auth_put(api->auth, &(struct credential_spec){ .kind = CRED_TOKEN, .tenant = auth_tenant(api->auth),
                            .workspace = auth_workspaces(api->auth)->row.id, .name = SPAN("dev"), .scopes = SPAN("[\"*\"]"),
                            .text = SPAN("dev") });
    if (config->dev)
        api->dev_key = auth_put(api->auth, &(struct credential_spec){ .kind = CRED_MR_KEY, .tenant = auth_tenant(api->auth),
                                .workspace = auth_workspaces(api->auth)->row.id, .name = SPAN("dev"), .scopes = SPAN("[\"workflows:*\"]"),
                                .text = SPAN("mr_sk_dev") });
    api->ds = streams_new(api);
    openapi_document(config->version, &api->openapi);
    *ret = api;
    return ERR_OK;
}

void api_home(const struct api *api, struct uuid *ret_tenant, struct uuid *ret_workspace)
{
    *ret_tenant = auth_tenant(api->auth);
    *ret_workspace = auth_workspaces(api->auth)->row.id;
}

void api_set_server(struct api *api, struct http_server *server)
{
    api->server = server;
}

void api_free(struct api *api)
{
    if (!api)
        return;
    streams_free(api->ds);
    buf_done(&api->openapi);
    auth_free(api->auth);
    free(api);
}
