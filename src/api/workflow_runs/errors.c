/* SPDX-License-Identifier: Apache-2.0 */
/* errors.c - what an error looks like on the workflow surface (workflow-runs.md 1.7): flat, `error` a string; only a specification
 * that does not hold is answered with its bare list of issues. */
#include "api/workflow_runs/routes.h"

static void put_fields(struct call *call, const struct error *error, struct jw *w)
{
    const struct issues *issues = &call->issues;
    if (!issues->count && !error->field[0])
        return;
    jw_key(w, "fields");
    jw_arr(w);
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++) {
        const struct issue *issue = &issues->items[i];
        struct span         name = issue->pointer.n ? issue->pointer : issue->parameter;
        jw_obj(w);
        jw_key(w, "field");
        jw_str(w, name.n && name.p[0] == '/' ? span_make(name.p + 1, name.n - 1) : name.n ? name : SPAN("body"));
        jw_key(w, "message");
        jw_str(w, issue->message);
        jw_end(w);
    }
    if (!issues->count) {
        jw_obj(w);
        jw_key(w, "field");
        jw_cstr(w, error->field[0] == '/' ? error->field + 1 : error->field);
        jw_key(w, "message");
        jw_str(w, span_of(error->message));
        jw_end(w);
    }
    jw_arr_end(w);
}

void flow_error_body(struct call *call, const struct error *error)
{
    const struct err_info *info = err_info(error->code);
    call->out.len = 0;
    call->w = jw_on(&call->out);
    struct jw *w = &call->w;
    jw_obj(w);
    jw_key(w, "error");
    jw_cstr(w, info->wf_code);
    jw_key(w, "code");
    jw_cstr(w, info->wf_code);
    jw_key(w, "message");
    jw_str(w, error->message[0] ? span_of(error->message) : span_of(info->title));
    jw_key(w, "request_id");
    jw_cstr(w, call->request_id);
    put_fields(call, error, w);
    jw_end(w);
}

void flow_send_issues(struct call *call, const struct issues *issues)
{
    struct jw *w = &call->w;
    jw_obj(w);
    flow_put_issues(w, "issues", issues);
    jw_end(w);
    call->api->errors++;
    call_send(call, 400);
}

void flow_put_issues(struct jw *w, const char *name, const struct issues *issues)
{
    jw_key(w, name);
    jw_arr(w);
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++) {
        const struct issue *issue = &issues->items[i];
        jw_obj(w);
        jw_key(w, "code");
        jw_str(w, issue->code);
        jw_key(w, "path");
        jw_str(w, issue->pointer);
        jw_key(w, "message");
        jw_str(w, issue->message);
        jw_end(w);
    }
    jw_arr_end(w);
}
