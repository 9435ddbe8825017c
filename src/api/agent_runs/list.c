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
