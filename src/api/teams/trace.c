/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - the trace of a run that is a team or has one in it: a fold over its ledger (teams.md 4). */
#include "api/agent_runs/routes.h"
#include "api/teams/routes.h"

/* ---- which team ---- */

enum err team_place_read(struct reader *reader, const struct run_row *row, struct span node, struct arena *arena,
                         struct team_place *ret, struct error *error)
{
    struct plan_row plan = { .hash = row->plan };
    enum err        e = reader_get(reader, TABLE_plan, &plan);
    if (e)
        return error_set(error, ERR_STORAGE, "", "the run's plan cannot be read");
    team_place_find(json_read(arena_copy(arena, plan.json), arena), node, arena, ret);
    if (ret->count == 0 && node.n)
        return error_set(error, ERR_NOT_FOUND, "node", "the run has no team in a node %.*s", SPAN_ARG(node));
    if (ret->count == 0)
        return error_set(error, ERR_NOT_FOUND, "", "the run has no team");
    if (ret->count > 1)
        return error_set(error, ERR_INVALID_PARAMETER, "node", "the run has %zu teams: say which node's with ?node=", ret->count);
    return ERR_OK;
}

/* ---- the attempts that count: a new one goes on where the one before it stood, unless it began anew (model.md 5.2) ---- */

struct first_record {
    struct arena *arena;
    bool          goes_on;
};

static bool read_first(void *user, const struct frame *frame)
{
    struct first_record *first = user;
    struct frame_reader  reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record        record;
    if (!frame_next(&reader, &record) || record.type != REC_RUN_STARTED)
        return false;
    struct jv pub = json_read(arena_copy(first->arena, record.pub), first->arena);
    first->goes_on = jv_is(jv_get(pub, "from_checkpoint_id"), JSON_STRING);
    return false;
}

static bool feed_frame(void *user, const struct frame *frame)
{
    struct team_fold   *fold = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record))
        team_fold_take(fold, &record);
    return !reader.in.bad;
}

/* The first attempt whose records count for what the last one does. */
static enum err first_that_counts(struct reader *reader, const struct attempt_span *attempts, size_t count, struct arena *arena,
                                  size_t *ret)
{
    for (*ret = count - 1; *ret > 0; --*ret) {
        struct first_record first = { .arena = arena };
        enum err            e = reader_frames(reader, attempts[*ret].stream, 0, 1, read_first, &first);
        if (e || !first.goes_on)
            return e;
    }
    return ERR_OK;
}

enum err team_lineage_feed(struct reader *reader, const struct run_row *row, bool last_too, struct arena *arena, struct team_fold *fold)
{
    struct attempt_span *attempts;
    size_t               count = 0, first = 0;
    enum err             e = attempts_read(reader, row, arena, &attempts, &count);
    if (!e)
        e = first_that_counts(reader, attempts, count, arena, &first);
    for (size_t i = first; !e && i < count - !last_too; i++)
        e = reader_frames(reader, attempts[i].stream, 0, SIZE_MAX, feed_frame, fold);
    return e;
}

static enum err incomplete(const struct run_row *row, const struct team_fold *fold, struct error *error)
{
    if (!run_terminal((enum run_status)row->status))
        return error_set(error, ERR_INVALID_RUN_STATE, "", "the team has not finished yet");
    if (!team_fold_begun(fold))
        return error_set(error, ERR_INVALID_RUN_STATE, "", "the team of this run has never begun");
    return error_set(error, ERR_INVALID_RUN_STATE, "", "the run ended without a result: there is no trace");
}

enum err team_trace_read(struct reader *reader, struct uuid workspace, struct uuid run, struct span node, struct arena *arena,
                         struct team_fold **ret, struct error *error)
{
    struct run_row    row = { .workspace = workspace, .id = run };
    struct team_place place;
    enum err          e = reader_get(reader, TABLE_run, &row);
    *ret = NULL;
    if (e)
        return error_set(error, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : ERR_STORAGE, "", "no such run in this workspace");
    if ((e = team_place_read(reader, &row, node, arena, &place, error)))
        return e;
    if (!row.stream)
        return error_set(error, ERR_LEDGER_EXPIRED, "", "the ledger of this run is gone");
    *ret = team_fold_new(run, &place, NULL, NULL);
    if (team_lineage_feed(reader, &row, true, arena, *ret))
        return error_set(error, ERR_STORAGE, "", "the ledger cannot be read");
    return team_fold_complete(*ret) ? ERR_OK : incomplete(&row, *ret, error);
}

void team_trace_get(struct call *call)
{
    struct uuid       run;
    struct team_fold *fold = NULL;
    struct error      error = { 0 };
    struct span       node = call_query(call, "node");
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    if (!call_path_uuid(call, 0, &run))
        call_fail(call, ERR_RUN_NOT_FOUND, "", "no such run in this workspace");
    else if (team_trace_read(call->reader, call->workspace, run, node, &call->arena, &fold, &error))
        call_error(call, &error);
    else {
        team_trace_to_json(team_fold_trace(fold), &call->w);
        call_send(call, 200);
    }
    team_fold_free(fold);
}
