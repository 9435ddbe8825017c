/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - who asks on the workflow surface (workflow-runs.md 1.3): a key in a header of its own, or a bearer; with both, both must
 * hold. A token of the agent-runs surface that may do everything may do everything here, too. */
#include "api/workflow_runs/routes.h"
#include <strings.h>

static struct credential *find(struct call *call, struct span text)
{
    unsigned kinds = 1u << CRED_MR_KEY | 1u << CRED_CUSTOMER | 1u << CRED_TOKEN;
    return auth_find(call->api->auth, text, kinds, engine_now_ms(call->api->engine));
}

static struct span bearer_text(struct span header)
{
    if (header.n < 8 || strncasecmp(header.p, "Bearer ", 7) != 0)
        return SPAN_NONE;
    header = span_make(header.p + 7, header.n - 7);
    while (header.n && header.p[0] == ' ')
        header = span_make(header.p + 1, header.n - 1);
    return header;
}

bool flow_authenticate(struct call *call)
{
    struct span        header, customer;
    bool               has_bearer = http_header(call->req, "Authorization", &header);
    struct credential *cred = has_bearer ? find(call, bearer_text(header)) : NULL;
    bool               bad = has_bearer && !cred;
    if (!bad && http_header(call->req, "X-ModelRelay-Api-Key", &header)) {
        struct credential *key = find(call, header);
        bad = !key;
        cred = cred ? cred : key;
    }
    if (bad || !cred) {
        call_fail(call, ERR_UNAUTHENTICATED, "", "a valid API key or bearer token is needed");
        return false;
    }
    call->cred = cred;
    auth_ref(cred);
    call->tenant = cred->row.tenant;
    call->customer = arena_copy(&call->arena, cred->row.client_id);
    if (cred->row.kind != CRED_CUSTOMER && http_header(call->req, "X-ModelRelay-Customer-Id", &customer) && customer.n)
        call->customer = arena_copy(&call->arena, customer);
    return true;
}
