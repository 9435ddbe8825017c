/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - a trace in, the result that belongs to it out; nobody is called (teams.md 14). */
#include "api/teams/routes.h"
#include "team/result.h"

/* replay() does not check a trace; what is no trace at all is refused here. */
static void check_trace(struct call *call)
{
    static const struct { const char *name; enum json_kind kind; } members[] = {
        { "runId", JSON_STRING },  { "protocol", JSON_STRING },   { "finalOutput", JSON_OBJECT },
        { "events", JSON_ARRAY },  { "transcript", JSON_ARRAY },  { "budget", JSON_OBJECT },
    };
    if (!jv_is(call->body, JSON_OBJECT)) {
        issue_add(&call->issues, SPAN(""), "type", "must be a trace, an object");
        return;
    }
    if (!jv_str_eq(jv_get(call->body, "schemaVersion"), "1.0"))
        issue_add(&call->issues, SPAN("/schemaVersion"), "enum", "must be \"1.0\"");
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (jv_kind(jv_get(call->body, members[i].name)) != members[i].kind)
            issue_add(&call->issues, arena_printf(&call->arena, "/%s", members[i].name), "type", "is missing, or of another kind");
}

void team_replay_post(struct call *call)
{
    check_trace(call);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    team_replay(call->body, &call->w);
    call_send(call, 200);
}
