/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - sessions of the workflow surface: threads with numbered messages (workflow-runs.md 3.10, 5.9; model.md 2).
 *
 * A session's row is in RAM while a change of it is on its way to disk, so that numbers are given once. Messages are rows; what is
 * cleared stays on disk below a floor and is shown no more. */
#include "run/inner.h"
#include <stdlib.h>

struct session_out {
    struct engine     *engine;
    struct session_row row;
    struct arena       texts;
    unsigned           inflight; /* commits on their way */
};

static void own(struct session_out *out, const struct session_row *row)
{
    struct arena fresh = { 0 };
    struct session_row copy = *row;
    copy.customer = arena_copy(&fresh, row->customer);
    copy.metadata = arena_copy(&fresh, row->metadata);
    arena_done(&out->texts);
    out->texts = fresh;
    out->row = copy;
}

static void committed(void *arg, enum err err)
{
    struct session_out *out = arg;
    (void)err;
    if (--out->inflight)
        return;
    uuid_map_del(&out->engine->sessions, out->row.id);
    arena_done(&out->texts);
    free(out);
}

/* The row as it is from now on. */
static void put(struct engine *engine, const struct session_row *row)
{
    struct session_out *out = uuid_map_get(&engine->sessions, row->id);
    if (!out) {
        out = mem_alloc(sizeof *out);
        out->engine = engine;
        uuid_map_put(&engine->sessions, row->id, out);
    }
    own(out, row);
    out->inflight++;
    batch_put(engine_batch(engine), TABLE_session, &out->row);
    engine_after(engine, committed, out);
}

enum err session_read(struct engine *engine, struct uuid workspace, struct uuid id, struct session_row *ret)
{
    struct session_out *out = uuid_map_get(&engine->sessions, id);
    *ret = (struct session_row){ .workspace = workspace, .id = id };
    if (out) {
        *ret = out->row;
        ret->customer = arena_copy(&engine->turn, ret->customer);
        ret->metadata = arena_copy(&engine->turn, ret->metadata);
        return uuid_eq(out->row.workspace, workspace) && out->row.last_no >= 0 ? ERR_OK : ERR_NOT_FOUND;
    }
    enum err e = engine_read_begin(engine);
    if (e)
        return e;
    e = reader_get(engine_reader(engine), TABLE_session, ret);
    ret->customer = arena_copy(&engine->turn, ret->customer);
    ret->metadata = arena_copy(&engine->turn, ret->metadata);
    engine_read_end(engine);
    return e;
}

struct session_row session_create(struct engine *engine, struct uuid tenant, struct uuid workspace, struct span customer,
                                  struct span metadata)
{
    struct thread_row  thread;
    int64_t            now = engine_now_ms(engine);
    struct uuid        id = thread_create(engine, tenant, workspace, SPAN_NONE, SPAN_NONE, &thread);
    struct session_row row = { .workspace = workspace, .id = id, .customer = customer, .metadata = metadata, .created_ms = now,
                               .updated_ms = now };
    put(engine, &row);
    return row;
}

void session_change(struct engine *engine, struct session_row *row)
{
    row->updated_ms = engine_now_ms(engine);
    put(engine, row);
}

struct uuid session_message_id(struct uuid session, int64_t no)
{
    return uuid_derive(session, UUID_MESSAGE, (uint64_t)no);
}

struct message_row session_append(struct engine *engine, struct session_row *row, struct span role, struct span content, struct uuid run)
{
    struct message_row message = { .session = row->id, .no = ++row->last_no, .role = role, .content = content, .run = run,
                                   .created_ms = engine_now_ms(engine) };
    batch_put(engine_batch(engine), TABLE_message, &message);
    session_change(engine, row);
    return message;
}

/* Runs of a session take no slot of its thread, so the store is asked for those that go on. */
static bool busy(struct engine *engine, struct uuid workspace, struct uuid id)
{
    struct run *run;
    for (size_t i = 0; (run = uuid_map_next(&engine->runs, &i));)
        if (!run->gone && uuid_eq(run->row.thread, id) && uuid_eq(run->row.workspace, workspace))
            return true;
    struct query query = { .table = TABLE_run, .eq_count = 1, .in_column = "status", .order_column = "id", .limit = 1 };
    query.eq[0].column = "thread";
    query.eq[0].uuid = id;
    for (unsigned status = 0; status < RUN_STATUS_COUNT; status++)
        if (!run_terminal((enum run_status)status))
            query.in[query.in_count++] = status;
    int64_t count = 0;
    if (engine_read_begin(engine))
        return true;
    (void)reader_count(engine_reader(engine), &query, &count);
    engine_read_end(engine);
    return count > 0;
}

enum err session_delete(struct engine *engine, struct uuid workspace, struct uuid id, struct span by, struct error *error)
{
    struct session_row row;
    enum err           e = session_read(engine, workspace, id, &row);
    if (e)
        return error_set(error, e == ERR_NOT_FOUND ? e : ERR_STORAGE, "", "no such session");
    if (busy(engine, workspace, id))
        return error_set(error, ERR_THREAD_BUSY, "", "a run of the session has not ended");
    e = thread_delete(engine, workspace, id, false, by, error);
    if (e && e != ERR_THREAD_NOT_FOUND)
        return e;
    struct session_out *out = uuid_map_get(&engine->sessions, id);
    if (out)
        out->row.last_no = -1; /* nobody finds it any more */
    batch_delete(engine_batch(engine), TABLE_session, &row);
    for (int64_t no = row.cleared + 1; no <= row.last_no; no++)
        batch_delete(engine_batch(engine), TABLE_message, &(struct message_row){ .session = id, .no = no });
    return ERR_OK;
}

/* ---- what a run says in its session ---- */

enum { MESSAGES_PER_RUN = 100 };

struct saying {
    struct run         *run;
    struct session_row *row;
    unsigned            count;
};

static void say(struct saying *s, struct jv content)
{
    if (!jv_is(content, JSON_ARRAY) || !jv_count(content) || s->count++ >= MESSAGES_PER_RUN)
        return;
    (void)session_append(s->run->engine, s->row, SPAN("assistant"), jv_raw(content), s->run->row.id);
}

static bool is_part(struct jv v)
{
    return jv_is(v, JSON_OBJECT) && jv_is(jv_get(v, "type"), JSON_STRING) && !jv_is(jv_get(v, "role"), JSON_STRING);
}

/* An output is a response with "output", a list of messages, or a list of content parts (2.1). */
static void say_output(struct saying *s, struct jv value)
{
    struct jv list = jv_is(value, JSON_OBJECT) ? jv_get(value, "output") : value;
    if (!jv_is(list, JSON_ARRAY) || !jv_count(list))
        return;
    struct jv_iter first = jv_iter(list);
    (void)jv_step(&first);
    if (is_part(first.value)) {
        say(s, list);
        return;
    }
    for (struct jv_iter it = jv_iter(list); jv_step(&it);)
        if (jv_str_eq(jv_get(it.value, "role"), "assistant"))
            say(s, jv_get(it.value, "content"));
}

void session_run_finished(struct run *run, struct span output)
{
    struct engine     *engine = run->engine;
    struct session_row row;
    if (run->row.source != SOURCE_WORKFLOW || !run->thread || run->thread->row.implicit ||
        session_read(engine, run->row.workspace, run->row.thread, &row))
        return;
    struct saying s = { .run = run, .row = &row };
    struct jv     outputs = json_read(output, &engine->turn);
    for (struct jv_iter it = jv_iter(outputs); jv_is(outputs, JSON_OBJECT) && jv_step(&it);)
        say_output(&s, it.value);
}
