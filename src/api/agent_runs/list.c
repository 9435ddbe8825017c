/* SPDX-License-Identifier: Apache-2.0 */
/* list.c - offset lists: items and total from one snapshot (agent-runs.md 2.4). */
#include "api/agent_runs/routes.h"

void call_list(struct call *call, const struct query *query, struct page page, bool known, bool (*each)(void *user, const void *row))
{
    int64_t  total = 0;
    enum err e = ERR_OK;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    if (known)
        e = reader_query(call->reader, query, each, call);
    if (known && !e)
        e = reader_count(call->reader, query, &total);
    if (e) {
        call->out.len = 0;
        call->w = jw_on(&call->out);
        call_fail(call, ERR_STORAGE, "", "the list cannot be read");
        return;
    }
    jw_arr_end(&call->w);
    call_page_head(call, page, total, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}

static bool read_time(struct call *call, struct query *query, const char *parameter, const char *column, const char *op, int64_t *ret)
{
    struct span text = call_query(call, parameter);
    if (!text.p)
        return false;
    if (!time_parse(text, ret)) {
        issue_add_parameter(&call->issues, parameter, "format", "must be an RFC 3339 time or a date");
        return false;
    }
    query->cmp[query->cmp_count].column = column;
    query->cmp[query->cmp_count].op = op;
    query->cmp[query->cmp_count++].i64 = *ret;
    return true;
}

void call_time_range(struct call *call, struct query *query, const char *column)
{
    int64_t from, to;
    bool    has_from = read_time(call, query, "from", column, ">=", &from), has_to = read_time(call, query, "to", column, "<", &to);
    if (has_from && has_to && from > to)
        issue_add_parameter(&call->issues, "from", "range", "lies after to");
}
