/* SPDX-License-Identifier: Apache-2.0 */
/* outflow.c - see outflow.h. */
#include "api/workflow_runs/outflow.h"

static void is_over(struct outflow *flow)
{
    flow->conn = NULL;
    flow->over(flow->user);
}

static void conn_writable(void *user)
{
    outflow_flush(user);
}

static void conn_closed(void *user)
{
    is_over(user);
}

static const struct http_stream_ops conn_ops = { .writable = conn_writable, .closed = conn_closed };

void outflow_begin(struct outflow *flow, struct call *call, const char *content_type, void (*over)(void *user), void *user)
{
    flow->over = over;
    flow->user = user;
    call_header(call, "Content-Type: %s", content_type);
    call_header(call, "Cache-Control: no-cache, no-transform");
    call_header(call, "X-Request-Id: %s", call->request_id);
    call_header(call, "X-ModelRelay-Request-Id: %s", call->request_id);
    if (call->api->config.cors_origin)
        call_header(call, "Access-Control-Allow-Origin: %s", call->api->config.cors_origin);
    struct http_request *req = TAKE(call->req);
    req->user = NULL;
    flow->conn = http_stream_begin(req, 200, buf_view(&call->headers), true, &conn_ops, flow);
    call->api->by_status[2]++;
}

void outflow_put(struct outflow *flow, struct span bytes)
{
    http_chunk(&flow->out, bytes);
}

void outflow_flush(struct outflow *flow)
{
    while (flow->conn && flow->out.len) {
        struct iovec iov = { flow->out.p, flow->out.len };
        ssize_t      n = http_stream_write(flow->conn, &iov, 1);
        if (n < 0) {
            is_over(flow);
            return;
        }
        if (n == 0)
            return;
        memmove(flow->out.p, flow->out.p + n, flow->out.len - (size_t)n);
        flow->out.len -= (size_t)n;
    }
    if (!flow->conn || !flow->ending)
        return;
    http_stream_end(TAKE(flow->conn));
    is_over(flow);
}

void outflow_end(struct outflow *flow)
{
    flow->ending = true;
    outflow_flush(flow);
}

void outflow_abort(struct outflow *flow)
{
    if (flow->conn)
        http_stream_abort(TAKE(flow->conn));
}

void outflow_done(struct outflow *flow)
{
    outflow_abort(flow);
    buf_done(&flow->out);
}
