/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoints.c - the checkpoints of a run and of a thread, and what one of them holds (agent-runs.md 3.4, 7.1, 9).
 *
 * A checkpoint is a record of an attempt's ledger and nothing else: the index is read from the ledgers, the state is folded
 * (run/checkpoint.c), and an id, which is derived from attempt and seq, is found by deriving. All of it on the reader thread. */
#include "api/agent_runs/routes.h"

enum { INDEX_MAX = 10000, RUNS_AT_A_TIME = 200 };

struct item {
    const struct run_row      *run;
    const struct attempt_span *attempt;
    uint64_t                   seq;
    uint32_t                   op;
    int64_t                    wall_ms;
    struct uuid                parent; /* nil: the first of the run */
    struct span                pub, priv;
};

/* ---- reading the ledgers ---- */

struct collect {
    struct arena              *arena;
    const struct run_row      *run;
    const struct attempt_span *attempt;
    struct uuid                last;
    struct buf                 items;
};

static bool collect_frame(void *user, const struct frame *frame)
{
    struct collect     *to = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record)) {
        if (record.type != REC_CHECKPOINT)
            continue;
        struct item item = { .run = to->run, .attempt = to->attempt, .seq = record.seq, .op = record.op, .wall_ms = record.wall_ms,
                             .parent = to->last, .pub = arena_copy(to->arena, record.pub),
                             .priv = record.priv.p ? arena_copy(to->arena, record.priv) : SPAN_NONE };
        buf_put(&to->items, &item, sizeof item);
        to->last = checkpoint_id(to->attempt->id, record.seq);
    }
    return true;
}

/* Of all attempts of the run, oldest first. */
static enum err collect_run(struct reader *reader, struct arena *arena, const struct run_row *run, struct item **ret, size_t *ret_count)
{
    struct collect       collect = { .arena = arena, .run = run };
    struct attempt_span *attempts;
    size_t               count;
    enum err             e = attempts_read(reader, run, arena, &attempts, &count);
    for (size_t i = 0; i < count && !e; i++) {
        collect.attempt = &attempts[i];
        e = reader_frames(reader, attempts[i].stream, 0, SIZE_MAX, collect_frame, &collect);
    }
    *ret_count = collect.items.len / sizeof(struct item);
    *ret = ARENA_ARRAY(arena, struct item, *ret_count ? *ret_count : 1);
    if (collect.items.len)
        memcpy(*ret, collect.items.p, collect.items.len);
    buf_done(&collect.items);
    return e;
}

/* ---- shapes ---- */

static void put_id(struct jw *w, const char *name, struct uuid id)
{
    jw_key(w, name);
    if (uuid_is_nil(id))
        jw_null(w);
    else
        jw_uuid(w, &id);
}

static void put_member(struct jw *w, struct jv object, const char *name)
{
    jw_key(w, name);
    jw_raw(w, jv_raw(jv_get(object, name))); /* absent: null */
}

/* The members of an index item, without the braces. */
static void put_item(struct jw *w, const struct item *item, struct arena *arena)
{
    struct jv pub = json_read(item->pub, arena), priv = item->priv.p ? json_read(item->priv, arena) : (struct jv){ .doc = NULL };
    put_id(w, "checkpoint_id", checkpoint_id(item->attempt->id, item->seq));
    put_id(w, "run_id", item->run->id);
    put_id(w, "thread_id", item->run->thread);
    put_id(w, "attempt_id", item->attempt->id);
    jw_key(w, "attempt_no");
    jw_i64(w, item->attempt->no);
    jw_key(w, "seq");
    jw_u64(w, item->seq);
    put_member(w, pub, "step");
    put_member(w, pub, "node");
    struct uuid none = { .b = { 0 } };
    put_id(w, "node_execution_id", item->op ? operation_id(item->run->id, item->attempt->id, item->op) : none);
    put_id(w, "parent_checkpoint_id", item->parent);
    put_member(w, pub, "kind");
    put_member(w, pub, "state_hash");
    jw_key(w, "size_bytes");
    jw_raw(w, jv_raw(jv_get(priv, "n")));
    jw_key(w, "replayable");
    jw_bool(w, true);
    jw_key(w, "strict_replayable");
    jw_bool(w, run_terminal((enum run_status)item->run->status));
    jw_key(w, "created_at");
    jw_time(w, item->wall_ms);
}

static void list_item(struct call *call, const struct item *item)
{
    jw_obj(&call->w);
    put_item(&call->w, item, &call->arena);
    jw_end(&call->w);
    call->shown++;
}

static void unreadable(struct call *call)
{
    call->out.len = 0;
    call->w = jw_on(&call->out);
    call_fail(call, ERR_STORAGE, "", "the checkpoints cannot be read");
}

/* ---- of a run ---- */

static bool is_of_node(const struct item *item, struct arena *arena)
{
    return jv_str_eq(jv_get(json_read(item->pub, arena), "kind"), "node");
}

void checkpoints_index(struct call *call)
{
    struct run_row row = { .workspace = call->workspace };
    struct item   *items;
    size_t         count, surplus;
    enum err       e = call_path_uuid(call, 0, &row.id) ? reader_get(call->reader, TABLE_run, &row) : ERR_NOT_FOUND;
    if (e) {
        call_fail(call, e == ERR_NOT_FOUND ? ERR_RUN_NOT_FOUND : ERR_STORAGE, "", "no such run in this workspace");
        return;
    }
    if (collect_run(call->reader, &call->arena, &row, &items, &count)) {
        unreadable(call);
        return;
    }
    surplus = count > INDEX_MAX ? count - INDEX_MAX : 0;
    jw_obj(&call->w);
    put_id(&call->w, "run_id", row.id);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    for (size_t i = 0; i < count; i++)
        if (surplus && is_of_node(&items[i], &call->arena))
            surplus--; /* the oldest of nodes are dropped */
        else
            list_item(call, &items[i]);
    jw_arr_end(&call->w);
    jw_key(&call->w, "count");
    jw_i64(&call->w, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}

/* ---- one of them ---- */

struct search {
    struct reader *reader;
    struct arena  *arena;
    struct uuid    wanted, last; /* last: the run looked at */
    struct run_row run;
    struct attempt_span attempt;
    uint64_t       seq;          /* 0: not found */
    int64_t        looked_at;
};

static bool is_in_run(struct search *s, const struct run_row *run)
{
    struct attempt_span *attempts;
    size_t               count;
    if (attempts_read(s->reader, run, s->arena, &attempts, &count))
        return false;
    for (size_t i = 0; i < count; i++)
        for (uint64_t seq = 1; seq <= attempts[i].last_seq; seq++)
            if (uuid_eq(checkpoint_id(attempts[i].id, seq), s->wanted)) {
                s->run = *run;
                s->attempt = attempts[i];
                s->seq = seq;
                return true;
            }
    return false;
}

static bool search_run(void *user, const void *row)
{
    struct search *s = user;
    s->last = ((const struct run_row *)row)->id;
    s->looked_at++;
    return !is_in_run(s, row);
}

/* Newest runs first, some at a time, so that their inputs and outputs do not pile up in memory. */
static enum err search_all(struct call *call, struct search *s, struct arena *pages)
{
    struct query query = { .table = TABLE_run, .eq_count = 1, .order_column = "id", .descending = true, .limit = RUNS_AT_A_TIME };
    enum err     e = ERR_OK;
    query.eq[0].column = "workspace";
    query.eq[0].uuid = call->workspace;
    query.cmp[0].column = "id";
    query.cmp[0].op = "<";
    reader_end(call->reader); /* each page has a snapshot and an arena of its own */
    do {
        s->looked_at = 0;
        query.cmp_count = !uuid_is_nil(s->last);
        query.cmp[0].uuid = s->last;
        arena_reset(pages);
        e = reader_begin(call->reader, pages);
        if (!e) {
            e = reader_query(call->reader, &query, search_run, s);
            reader_end(call->reader);
        }
    } while (!e && !s->seq && s->looked_at == RUNS_AT_A_TIME);
    enum err again = reader_begin(call->reader, &call->arena);
    return e ? e : again;
}

static enum err search(struct call *call, struct search *s)
{
    struct span    hint = call_query(call, "run_id");
    struct run_row row = { .workspace = call->workspace };
    if (!hint.p) {
        struct arena pages = { 0 };
        s->arena = &pages;
        enum err e = search_all(call, s, &pages);
        struct run_row found = { .workspace = call->workspace, .id = s->run.id };
        if (!e && s->seq)
            e = reader_get(call->reader, TABLE_run, &found);
        s->run = found;
        s->attempt.error = SPAN_NONE; /* it lived in the page */
        arena_done(&pages);
        return e;
    }
    if (uuid_parse(hint, &row.id) && !reader_get(call->reader, TABLE_run, &row))
        (void)is_in_run(s, &row);
    return ERR_OK;
}

static void send_checkpoint(struct call *call, const struct search *s)
{
    struct item   *items;
    size_t         count, i = 0;
    struct span    hashed = SPAN_NONE;
    struct run_row row = s->run;
    enum err       e = collect_run(call->reader, &call->arena, &s->run, &items, &count);
    while (!e && i < count && !(items[i].seq == s->seq && uuid_eq(items[i].attempt->id, s->attempt.id)))
        i++;
    row.attempt = s->attempt.id;
    row.attempt_no = s->attempt.no;
    row.stream = (int64_t)s->attempt.stream;
    if (!e && i < count)
        e = checkpoint_read(call->api->engine, call->reader, &row, s->seq, &call->arena, &hashed);
    if (e || i == count) {
        call_fail(call, e ? ERR_STORAGE : ERR_CHECKPOINT_NOT_FOUND, "", "%s", e ? "the checkpoint cannot be read" : "no such checkpoint");
        return;
    }
    struct jv state = json_read(hashed, &call->arena);
    jw_obj(&call->w);
    put_item(&call->w, &items[i], &call->arena);
    put_member(&call->w, state, "state");
    put_member(&call->w, state, "next");
    jw_end(&call->w);
    call_send(call, 200);
}

void checkpoints_get(struct call *call)
{
    struct search s = { .reader = call->reader, .arena = &call->arena };
    if (call_path_uuid(call, 0, &s.wanted) && search(call, &s)) {
        call_fail(call, ERR_STORAGE, "", "the checkpoints cannot be read");
        return;
    }
    if (s.seq)
        send_checkpoint(call, &s);
    else if (!call_invalid(call, ERR_INVALID_PARAMETER))
        call_fail(call, ERR_CHECKPOINT_NOT_FOUND, "", "no such checkpoint in this workspace");
}

/* ---- of a thread ---- */

static bool keep_run(void *user, const void *row)
{
    buf_put(user, row, sizeof(struct run_row));
    return true;
}

/* Newest first. False: the answer was given. */
static bool collect_thread(struct call *call, struct item **ret, size_t *ret_count)
{
    struct thread_row thread = { .workspace = call->workspace };
    struct query      query = { .table = TABLE_run, .eq_count = 1, .order_column = "id", .limit = -1 };
    struct buf        runs = { 0 }, all = { 0 };
    if (!call_path_uuid(call, 0, &thread.id) || reader_get(call->reader, TABLE_thread, &thread)) {
        call_fail(call, ERR_THREAD_NOT_FOUND, "", "no such thread in this workspace");
        return false;
    }
    query.eq[0].column = "thread";
    query.eq[0].uuid = thread.id;
    enum err e = reader_query(call->reader, &query, keep_run, &runs);
    struct span kept = arena_copy(&call->arena, buf_view(&runs));
    const struct run_row *rows = (const struct run_row *)(const void *)kept.p;
    for (size_t i = 0; !e && i < runs.len / sizeof *rows; i++) {
        struct item *items;
        size_t       count;
        e = collect_run(call->reader, &call->arena, &rows[i], &items, &count);
        buf_put(&all, items, e ? 0 : count * sizeof *items);
    }
    size_t count = all.len / sizeof(struct item);
    *ret = ARENA_ARRAY(&call->arena, struct item, count ? count : 1);
    for (size_t i = 0; i < count; i++)
        memcpy(&(*ret)[i], all.p + (count - 1 - i) * sizeof(struct item), sizeof(struct item));
    *ret_count = count;
    buf_done(&runs);
    buf_done(&all);
    if (e)
        unreadable(call);
    return !e;
}

/* ?before: a checkpoint of the thread; the items older than it. One that is not of the thread has nothing before it. */
void threads_history(struct call *call)
{
    struct page  page = call_page(call);
    struct span  text = call_query(call, "before");
    struct uuid  before = { 0 };
    struct item *items;
    size_t       count, i = 0;
    bool         known = !text.p || uuid_parse(text, &before);
    if (call_invalid(call, ERR_INVALID_PARAMETER) || !collect_thread(call, &items, &count))
        return;
    while (text.p && i < count && !(known && uuid_eq(checkpoint_id(items[i].attempt->id, items[i].seq), before)))
        i++;
    i += text.p && i < count;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    for (; i < count && call->shown < page.limit; i++)
        list_item(call, &items[i]);
    jw_arr_end(&call->w);
    jw_key(&call->w, "limit");
    jw_i64(&call->w, page.limit);
    jw_key(&call->w, "has_more");
    jw_bool(&call->w, i < count);
    jw_end(&call->w);
    call_send(call, 200);
}

void threads_checkpoints(struct call *call)
{
    struct page  page = call_page(call);
    struct item *items;
    size_t       count;
    if (call_invalid(call, ERR_INVALID_PARAMETER) || !collect_thread(call, &items, &count))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "items");
    jw_arr(&call->w);
    for (size_t i = (size_t)page.offset; i < count && call->shown < page.limit; i++)
        list_item(call, &items[page.ascending ? count - 1 - i : i]);
    jw_arr_end(&call->w);
    call_page_head(call, page, (int64_t)count, call->shown);
    jw_end(&call->w);
    call_send(call, 200);
}
