/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - a trace in, the result that belongs to it out; nobody is called (teams.md 14). */
#include "api/teams/routes.h"
#include "team/result.h"

void team_trace_check(struct jv trace, struct issues *issues)
{
    static const struct { const char *name; enum json_kind kind; } members[] = {
        { "runId", JSON_STRING },  { "protocol", JSON_STRING },   { "finalOutput", JSON_OBJECT },
        { "events", JSON_ARRAY },  { "transcript", JSON_ARRAY },  { "budget", JSON_OBJECT },
    };
    if (!jv_is(trace, JSON_OBJECT)) {
        issue_add(issues, SPAN(""), "type", "must be a trace, an object");
        return;
    }
    if (!jv_str_eq(jv_get(trace, "schemaVersion"), "1.0"))
        issue_add(issues, SPAN("/schemaVersion"), "enum", "must be \"1.0\"");
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (jv_kind(jv_get(trace, members[i].name)) != members[i].kind)
            issue_add(issues, arena_printf(issues->arena, "/%s", members[i].name), "type", "is missing, or of another kind");
}

void team_replay_post(struct call *call)
{
    team_trace_check(call->body, &call->issues);
    if (call_invalid(call, ERR_VALIDATION))
        return;
    team_replay(call->body, &call->w);
    call_send(call, 200);
}
