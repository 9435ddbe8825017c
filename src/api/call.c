/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - answers and errors of a call, and what handlers read from a request (agent-runs.md 2). */
#include "api/inner.h"
#include <stdio.h>
#include <stdlib.h>

void call_free(struct call *call)
{
    if (!call)
        return;
    loop_timer_clear(&call->timer);
    auth_unref(call->cred);
    buf_done(&call->headers);
    buf_done(&call->out);
    buf_done(&call->extra);
    arena_done(&call->arena);
    free(call);
}

/* ---- answers ---- */

void call_header(struct call *call, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char line[512];
    int  n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    assert(n > 0 && (size_t)n < sizeof line);
    buf_printf(&call->headers, "%s\r\n", line);
}

static void finish_headers(struct call *call)
{
    buf_printf(&call->headers, "X-Request-Id: %s\r\n", call->request_id);
    if (call->flow)
        buf_printf(&call->headers, "X-ModelRelay-Request-Id: %s\r\n", call->request_id);
    if (streams_own(call)) {
        streams_headers(call, &call->headers);
        return;
    }
    const char *type = call->content_type ? call->content_type : "application/json; charset=utf-8";
    if (call->problem_body)
        type = "application/problem+json";
    if (call->out.len || call->type_always)
        buf_printf(&call->headers, "Content-Type: %s\r\n", type);
    BUF_LIT(&call->headers, "Cache-Control: no-store\r\n");
    const struct api_config *config = &call->api->config;
    if (config->cors_origin)
        buf_printf(&call->headers, "Access-Control-Allow-Origin: %s\r\n"
                                   "Access-Control-Expose-Headers: X-Request-Id, Retry-After, Location, X-RateLimit-Limit, "
                                   "X-RateLimit-Remaining, X-RateLimit-Reset\r\n", config->cors_origin);
}

static void send_now(struct call *call)
{
    struct api *api = call->api;
    if (call->status >= 100 && call->status < 600)
        api->by_status[call->status / 100]++;
    if (call->req) {
        finish_headers(call);
        struct http_request *req = TAKE(call->req);
        req->user = NULL;
        http_reply(req, call->status, buf_view(&call->headers), buf_view(&call->out));
    }
    call_free(call);
}

void call_send(struct call *call, int status)
{
    if (call->late) {
        call_send_committed(call, status);
        return;
    }
    call->status = status;
    if (call->in_job) /* on the reader thread: the answer goes out from the engine's */
        return;
    send_now(call);
}

static void committed(void *arg, enum err err)
{
    struct call *call = arg;
    if (err && call->req) { /* nothing was promised; the outcome is unknown to the client, so no answer at all */
        http_abort(TAKE(call->req));
        call_free(call);
        return;
    }
    send_now(call);
}

void call_send_committed(struct call *call, int status)
{
    call->status = status;
    engine_after(call->api->engine, committed, call);
}

void call_extra_str(struct call *call, const char *name, struct span value)
{
    buf_printf(&call->extra, ",\"%s\":", name);
    json_put_string(&call->extra, value);
}

static void error_body(struct call *call, const struct error *error)
{
    const struct err_info *info = err_info(error->code);
    struct span            message = error->message[0] ? span_of(error->message) : span_of(info->title);
    call->out.len = 0;
    call->w = jw_on(&call->out);
    struct jw *w = &call->w;
    jw_obj(w);
    jw_key(w, "type");
    struct buf type = { 0 };
    buf_printf(&type, "urn:agent-runs:error:%s", info->ar_code);
    jw_str(w, buf_view(&type));
    buf_done(&type);
    jw_key(w, "title");
    jw_cstr(w, info->title);
    jw_key(w, "status");
    jw_i64(w, info->ar_status);
    jw_key(w, "detail");
    jw_str(w, message);
    jw_key(w, "instance");
    jw_str(w, call->path);
    jw_key(w, "code");
    jw_cstr(w, info->ar_code);
    jw_key(w, "message");
    jw_str(w, message);
    jw_key(w, "retryable");
    jw_bool(w, info->retryable);
    jw_key(w, "request_id");
    jw_cstr(w, call->request_id);
    jw_key(w, "errors");
    if (call->issues.count) {
        issues_to_json(&call->issues, w);
    } else if (error->field[0]) {
        struct issues one = { .arena = &call->arena };
        if (error->field[0] == '/')
            issue_add(&one, span_of(error->field), info->ar_code, "%.*s", SPAN_ARG(message));
        else
            issue_add_parameter(&one, error->field, info->ar_code, "%.*s", SPAN_ARG(message));
        issues_to_json(&one, w);
    } else {
        jw_arr(w);
        jw_arr_end(w);
    }
    buf_span(&call->out, buf_view(&call->extra));
    jw_end(w);
}

void call_error(struct call *call, const struct error *error)
{
    const struct err_info *info = err_info(error->code);
    int                    status = call->flow ? info->wf_status : info->ar_status;
    if (call->flow)
        flow_error_body(call, error);
    else
        error_body(call, error);
    call->problem_body = call->problem && !call->flow;
    if (status == 401)
        call_header(call, "WWW-Authenticate: Bearer");
    if (status == 503)
        call_header(call, "Retry-After: 1");
    call->api->errors++;
    call_send(call, status);
}

void call_fail(struct call *call, enum err err, const char *field, const char *format, ...)
{
    struct error error = { .code = err };
    va_list      args;
    va_start(args, format);
    char text[sizeof error.message];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(&error, err, field, "%s", text);
    call_error(call, &error);
}

bool call_invalid(struct call *call, enum err as)
{
    if (!call->issues.count)
        return false;
    const struct issue *first = &call->issues.items[0];
    call_fail(call, as, "", "%.*s: %.*s", SPAN_ARG(first->pointer.n ? first->pointer : first->parameter), SPAN_ARG(first->message));
    return true;
}

/* ---- query parameters ---- */

struct span call_query_raw(struct call *call, const char *name, bool *ret_present)
{
    struct span value = SPAN_NONE;
    bool        bad = false;
    size_t      count = query_get(call->query, name, &call->arena, &value, &bad);
    *ret_present = count > 0;
    if (count > 1)
        issue_add_parameter(&call->issues, name, "repeated", "is given %zu times", count);
    if (bad)
        issue_add_parameter(&call->issues, name, "encoding", "is not correctly percent-encoded");
    return count ? value : SPAN_NONE;
}

struct span call_query(struct call *call, const char *name)
{
    bool        present;
    struct span value = call_query_raw(call, name, &present);
    return present && value.n ? value : SPAN_NONE;
}

bool call_parse_count(struct span text, int64_t *ret)
{
    const int64_t top = (int64_t)1 << 53; /* larger ones mean "all": they are clamped */
    int64_t       n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        n = n < top ? n * 10 + (text.p[i] - '0') : top;
    }
    *ret = n;
    return text.n > 0;
}

enum { PAGE_DEFAULT = 50, PAGE_MAX = 500 };

struct page call_page(struct call *call)
{
    struct page page = { .limit = PAGE_DEFAULT };
    struct span limit = call_query(call, "limit"), offset = call_query(call, "offset"), order = call_query(call, "order");
    if (limit.p && (!call_parse_count(limit, &page.limit) || page.limit == 0))
        issue_add_parameter(&call->issues, "limit", "range", "must be an integer from 1 on");
    if (offset.p && !call_parse_count(offset, &page.offset))
        issue_add_parameter(&call->issues, "offset", "range", "must be an integer from 0 on");
    if (order.p && !span_is(order, "asc") && !span_is(order, "desc"))
        issue_add_parameter(&call->issues, "order", "enum", "must be asc or desc");
    page.ascending = span_is(order, "asc");
    if (page.limit > PAGE_MAX)
        page.limit = PAGE_MAX;
    return page;
}

void call_page_head(struct call *call, struct page page, int64_t total, int64_t shown)
{
    jw_key(&call->w, "total");
    jw_i64(&call->w, total);
    jw_key(&call->w, "limit");
    jw_i64(&call->w, page.limit);
    jw_key(&call->w, "offset");
    jw_i64(&call->w, page.offset);
    jw_key(&call->w, "has_more");
    jw_bool(&call->w, page.offset + shown < total);
}

bool call_path_uuid(struct call *call, unsigned param, struct uuid *ret)
{
    return uuid_parse(call->params[param], ret);
}

/* ---- body members ---- */

static struct span pointer_of(struct call *call, const char *name)
{
    return arena_printf(&call->arena, "/%s", name);
}

static size_t characters(struct span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    return n;
}

bool body_text(struct call *call, const char *name, bool required, size_t max, struct span *ret)
{
    struct jv v = jv_get(call->body, name);
    *ret = SPAN_NONE;
    if (jv_is(v, JSON_NONE) || jv_is(v, JSON_NULL)) {
        if (required)
            issue_add(&call->issues, pointer_of(call, name), "required", "is required");
        return false;
    }
    if (!jv_is(v, JSON_STRING)) {
        issue_add(&call->issues, pointer_of(call, name), "type", "must be a string");
        return false;
    }
    *ret = jv_string(v, &call->arena);
    if (characters(*ret) > max)
        issue_add(&call->issues, pointer_of(call, name), "max_length", "must have at most %zu characters", max);
    else if (required && !ret->n)
        issue_add(&call->issues, pointer_of(call, name), "min_length", "must not be empty");
    return true;
}

bool body_object(struct call *call, const char *name, struct jv *ret)
{
    *ret = jv_get(call->body, name);
    if (jv_is(*ret, JSON_NONE) || jv_is(*ret, JSON_NULL))
        return false;
    if (!jv_is(*ret, JSON_OBJECT)) {
        issue_add(&call->issues, pointer_of(call, name), "type", "must be an object");
        return false;
    }
    return true;
}

struct span minified(struct call *call, struct jv v)
{
    struct buf text = { 0 };
    json_minify(v, &text);
    struct span kept = arena_copy(&call->arena, buf_view(&text));
    buf_done(&text);
    return kept;
}

/* ---- idempotency ---- */

static enum err check_key(struct span key, const char *field, struct error *error)
{
    bool ok = key.n >= 1 && key.n <= 255;
    for (size_t i = 0; ok && i < key.n; i++)
        ok = key.p[i] >= 0x21 && key.p[i] <= 0x7e;
    return ok ? ERR_OK : error_set(error, ERR_VALIDATION, field, "an idempotency key has 1 to 255 visible ASCII characters");
}

enum err call_idem_key(struct call *call, struct span *ret_key, struct error *error)
{
    static const char *const names[] = { "X-Idempotency-Key", "Idempotency-Key" };
    struct span given[3] = { 0 };
    unsigned    count = 0;
    for (size_t i = 0; i < ARRAY_LEN(names) && call->req; i++) {
        struct span value;
        if (http_header_count(call->req, names[i]) > 1)
            return error_set(error, ERR_INVALID_HEADER, names[i], "%s is given more than once", names[i]);
        if (!http_header(call->req, names[i], &value))
            continue;
        if (check_key(value, names[i], error))
            return ERR_VALIDATION;
        given[count++] = arena_copy(&call->arena, value);
    }
    struct jv member = jv_get(call->body, "idempotency_key");
    if (jv_is(member, JSON_STRING)) {
        struct span value = jv_string(member, &call->arena);
        if (value.n && check_key(value, "/idempotency_key", error))
            return ERR_VALIDATION;
        if (value.n)
            given[count++] = value;
    } else if (!jv_is(member, JSON_NONE) && !jv_is(member, JSON_NULL)) {
        return error_set(error, ERR_VALIDATION, "/idempotency_key", "must be a string");
    }
    for (unsigned i = 1; i < count; i++)
        if (!span_eq(given[0], given[i]))
            return error_set(error, ERR_IDEM_MISMATCH, "", "the idempotency keys of header and body differ");
    *ret_key = count ? given[0] : SPAN_NONE;
    return ERR_OK;
}

struct span call_canonical(struct call *call, struct jv object)
{
    struct buf kept = { 0 }, canonical = { 0 };
    struct jw  w = jw_on(&kept);
    if (!jv_is(object, JSON_OBJECT)) {
        json_canonical(object, JSON_JCS, &canonical);
    } else {
        jw_obj(&w);
        for (struct jv_iter it = jv_iter(object); jv_step(&it);) {
            if (jv_str_eq(it.name, "idempotency_key") || jv_str_eq(it.name, "timeout_seconds"))
                continue;
            jw_key_span(&w, jv_string(it.name, &call->arena));
            jw_raw(&w, jv_raw(it.value));
        }
        jw_end(&w);
        json_canonical(json_read(buf_view(&kept), &call->arena), JSON_JCS, &canonical);
    }
    struct span text = arena_copy(&call->arena, buf_view(&canonical));
    buf_done(&kept);
    buf_done(&canonical);
    return text;
}

enum err call_idem(struct call *call, const char *scope, struct span key, struct span canonical, struct idem_use *ret,
                   struct error *error)
{
    *ret = (struct idem_use){ .used = key.p != NULL };
    if (!ret->used)
        return ERR_OK;
    ret->key = idem_key(call->workspace, scope, key);
    ret->fingerprint = sha256_of(canonical);
    ret->found = idem_get(call->api->engine, ret->key, &call->arena, &ret->hit);
    if (!ret->found || memcmp(ret->fingerprint.b, ret->hit.fingerprint.b, sizeof ret->fingerprint.b) == 0)
        return ERR_OK;
    char id[UUID_TEXT];
    uuid_format(ret->hit.target, id);
    call_extra_str(call, "run_id", span_make(id, sizeof id));
    return error_set(error, ERR_IDEM_REUSED, "", "the idempotency key was used for another request");
}

void call_send_reused(struct call *call, struct span answer)
{
    assert(answer.n > 2 && answer.p[answer.n - 1] == '}');
    buf_put(&call->out, answer.p, answer.n - 1);
    BUF_LIT(&call->out, ",\"reused\":true}");
    call_send_committed(call, 200);
}

const char *call_actor(const struct call *call, struct buf *out)
{
    BUF_LIT(out, "token:");
    buf_uuid(out, call->cred->row.id);
    buf_byte(out, 0);
    return out->p;
}
