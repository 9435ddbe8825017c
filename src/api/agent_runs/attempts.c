/* SPDX-License-Identifier: Apache-2.0 */
/* attempts.c - the attempts of a run as one list: older ones have rows, the current one lives in the run's. */
#include "api/agent_runs/routes.h"

static struct attempt_span older(const struct attempt_row *row)
{
    return (struct attempt_span){ .id = row->id, .no = row->no, .started_ms = row->started_ms, .completed_ms = row->completed_ms,
                                  .stream = (uint64_t)row->stream, .last_seq = (uint64_t)row->last_seq,
                                  .status = (enum run_status)row->status, .error = row->error };
}

enum err attempts_read(struct reader *reader, const struct run_row *row, struct arena *arena, struct attempt_span **ret,
                       size_t *ret_count)
{
    size_t               count = 0;
    struct attempt_span *spans = ARENA_ARRAY(arena, struct attempt_span, (size_t)row->attempt_no);
    for (int64_t no = 1; no < row->attempt_no; no++) {
        struct attempt_row old = { .run = row->id, .no = no };
        enum err           e = reader_get(reader, TABLE_attempt, &old);
        if (e && e != ERR_NOT_FOUND)
            return e;
        if (!e)
            spans[count++] = older(&old);
    }
    struct run_row now = *row;
    fill_latest(reader, &now);
    struct attempt_span *current = &spans[count++];
    *current = (struct attempt_span){ .id = row->attempt, .no = row->attempt_no, .stream = (uint64_t)row->stream,
                                      .last_seq = (uint64_t)now.last_seq, .status = (enum run_status)row->status };
    if (run_terminal(current->status))
        current->completed_ms = row->completed_ms;
    if (row->status == RUN_FAILED)
        current->error = row->error;
    *ret = spans;
    *ret_count = count;
    return ERR_OK;
}
