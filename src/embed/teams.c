/* SPDX-License-Identifier: Apache-2.0 */
/* teams.c - the trace of a team's run, and what a trace alone gives (teams.md 4, 14). */
#include "api/teams/routes.h"
#include "embed/engine.h"
#include "team/result.h"

struct trace_ask {
    struct ask  ask;
    struct uuid run;
    struct span node;
    struct buf  text;
};

static enum err trace_read(struct ask *ask, struct reader *reader)
{
    struct trace_ask *t = CONTAINER(ask, struct trace_ask, ask);
    struct team_fold *fold = NULL;
    enum err e = team_trace_read(reader, ask->engine->workspace, t->run, t->node, &ask->arena, &fold, &ask->error);
    if (!e) {
        struct jw w = jw_on(&t->text);
        team_trace_to_json(team_fold_trace(fold), &w);
    }
    team_fold_free(fold);
    return e;
}

int pd_team_trace(struct pd_engine *engine, const char *run, const char *node, char **ret_json, struct pd_error *error)
{
    struct trace_ask t = { .node = node ? span_of(node) : SPAN_NONE };
    int              code = PD_OK;
    if (!take_id(run, "run", ERR_RUN_NOT_FOUND, &t.run, error, &code))
        return code;
    ask_init(&t.ask, ask_read);
    t.ask.read = trace_read;
    ask_wait(&t.ask, engine);
    code = give_ask(&t.ask, error);
    if (code == PD_OK)
        *ret_json = give_text(&t.text);
    buf_done(&t.text);
    return code;
}

int pd_team_replay(const char *trace, char **ret_json, struct pd_error *error)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct issues issues = { .arena = &arena };
    struct buf    text = { 0 };
    struct jw     w = jw_on(&text);
    struct jv     root;
    int           code = PD_OK;
    if (!take_json(trace, "trace", &arena, &root, error, &code))
        return code;
    team_trace_check(root, &issues);
    if (issues.count) {
        struct span at = arena_copy(&arena, issues.items[0].pointer);
        return refuse(error, ERR_VALIDATION, at.n ? at.p : "trace", "%.*s", SPAN_ARG(issues.items[0].message));
    }
    team_replay(root, &w);
    *ret_json = give_text(&text);
    return PD_OK;
}
