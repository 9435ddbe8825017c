/* SPDX-License-Identifier: Apache-2.0 */
/* local.c - tools that the host itself is: kv_*, tasks_write, memory_write (workflow-runs.md 3.6). Intent, effect and receipt are
 * one commit, so nothing of them is ever unknown or done twice.
 *
 * Values lie under a handle and a key: the handle is the one that the call's context names ("state_id"), else the thread's own;
 * tasks lie under the run's. Writes of a commit that is on its way are read from RAM. */
#include "run/inner.h"
#include <stdlib.h>

enum { KV_KEY_MAX = 512, KV_VALUE_MAX = 64 << 10, KV_LIST_MAX = 1000 };

/* A value whose commit has not come back; `gone`: it was deleted. */
struct kv_pending {
    struct engine *engine;
    struct uuid    at;
    struct kv_row  row; /* spans behind this struct */
    bool           gone;
};

struct local {
    struct run               *run;
    const struct tool_flight *call;
    struct arena             *arena;
    struct jv                 arguments;
    struct uuid               handle;
    struct span               result; /* JSON */
    const char               *wrong;  /* what is wrong with the arguments */
};

static struct uuid place_of(const struct kv_row *row)
{
    struct buf text = { 0 };
    buf_put(&text, row->workspace.b, sizeof row->workspace.b);
    buf_put(&text, row->handle.b, sizeof row->handle.b);
    buf_span(&text, row->key);
    struct sha256 hash = sha256_of(buf_view(&text));
    struct uuid   ret;
    memcpy(ret.b, hash.b, sizeof ret.b);
    buf_done(&text);
    return ret;
}

static void kv_committed(void *arg, enum err err)
{
    struct kv_pending *pending = arg;
    (void)err;
    if (uuid_map_get(&pending->engine->kv, pending->at) == pending)
        uuid_map_del(&pending->engine->kv, pending->at);
    free(pending);
}

static void kv_write(struct local *l, const struct kv_row *row, bool gone)
{
    struct engine     *engine = l->run->engine;
    struct kv_pending *pending = mem_alloc(sizeof *pending + row->key.n + row->value.n + 1);
    char              *text = (char *)(pending + 1);
    *pending = (struct kv_pending){ .engine = engine, .at = place_of(row), .row = *row, .gone = gone };
    memcpy(text, row->key.p, row->key.n);
    pending->row.key = span_make(text, row->key.n);
    if (row->value.n)
        memcpy(text + row->key.n, row->value.p, row->value.n);
    pending->row.value = span_make(text + row->key.n, row->value.n);
    if (gone)
        batch_delete(engine_batch(engine), TABLE_kv, row);
    else
        batch_put(engine_batch(engine), TABLE_kv, row);
    uuid_map_put(&engine->kv, pending->at, pending); /* the one before is freed by its own commit */
    engine_after(engine, kv_committed, pending);
}

static bool is_live(const struct kv_row *row, int64_t now)
{
    return !row->expires_ms || row->expires_ms > now;
}

/* The spans of *row live in the turn's arena, or as long as the turn. False: there is nothing under that key. */
static bool kv_read(struct local *l, struct kv_row *row)
{
    struct engine     *engine = l->run->engine;
    struct kv_pending *pending = uuid_map_get(&engine->kv, place_of(row));
    if (pending) {
        if (!pending->gone)
            *row = pending->row;
        return !pending->gone && is_live(row, engine_now_ms(engine));
    }
    if (engine_read_begin(engine))
        return false;
    bool found = !reader_get(engine_reader(engine), TABLE_kv, row);
    engine_read_end(engine);
    return found && is_live(row, engine_now_ms(engine));
}

/* ---- arguments ---- */

static struct kv_row row_of(struct local *l, struct span key)
{
    return (struct kv_row){ .workspace = l->run->row.workspace, .handle = l->handle, .key = key };
}

static bool get_key(struct local *l, const char *name, struct span *ret)
{
    struct jv v = jv_get(l->arguments, name);
    *ret = jv_string(v, l->arena);
    if (!jv_is(v, JSON_STRING) || !ret->n || ret->n > KV_KEY_MAX)
        l->wrong = "key must be a text of 1 to 512 bytes";
    return !l->wrong;
}

static void put_value(struct local *l, struct span key, struct jv value)
{
    struct kv_row row = row_of(l, key);
    struct buf    text = { 0 };
    int64_t       ttl = 0;
    json_minify(value, &text);
    row.value = redact_json(l->run->engine->config.redact, arena_copy(l->arena, buf_view(&text)), l->arena);
    buf_done(&text);
    row.updated_ms = engine_now_ms(l->run->engine);
    bool timed = !jv_is(jv_get(l->arguments, "ttl_seconds"), JSON_NONE);
    if (timed && (!jv_i64(jv_get(l->arguments, "ttl_seconds"), &ttl) || ttl < 1 || ttl > 31536000))
        l->wrong = "ttl_seconds must be from 1 to 31536000";
    else if (row.value.n > KV_VALUE_MAX)
        l->wrong = "the value must not be larger than 64 KiB";
    if (l->wrong)
        return;
    row.expires_ms = timed ? row.updated_ms + ttl * 1000 : 0;
    kv_write(l, &row, false);
    l->result = SPAN("{\"ok\":true}");
}

/* ---- the tools ---- */

static void do_write(struct local *l)
{
    struct span key;
    struct jv   value = jv_get(l->arguments, "value");
    if (jv_is(value, JSON_NONE))
        l->wrong = "value is required";
    else if (get_key(l, "key", &key))
        put_value(l, key, value);
}

static void do_read(struct local *l)
{
    struct span key;
    if (!get_key(l, "key", &key))
        return;
    struct kv_row row = row_of(l, key);
    if (kv_read(l, &row))
        l->result = arena_printf(l->arena, "{\"found\":true,\"value\":%.*s}", SPAN_ARG(row.value));
    else
        l->result = SPAN("{\"found\":false}");
}

static void do_delete(struct local *l)
{
    struct span key;
    if (!get_key(l, "key", &key))
        return;
    struct kv_row row = row_of(l, key);
    bool          found = kv_read(l, &row);
    row = row_of(l, key);
    if (found)
        kv_write(l, &row, true);
    l->result = found ? SPAN("{\"deleted\":true}") : SPAN("{\"deleted\":false}");
}

struct listing {
    struct local *l;
    struct span   prefix;
    struct span  *keys;
    size_t        count;
    int64_t       now;
};

static void list_add(struct listing *list, struct span key)
{
    size_t at = 0;
    if (key.n < list->prefix.n || (list->prefix.n && memcmp(key.p, list->prefix.p, list->prefix.n) != 0) || list->count == KV_LIST_MAX)
        return;
    while (at < list->count && span_cmp(list->keys[at], key) < 0)
        at++;
    memmove(&list->keys[at + 1], &list->keys[at], (list->count - at) * sizeof key);
    list->keys[at] = arena_copy(list->l->arena, key);
    list->count++;
}

static bool list_row(void *user, const void *row)
{
    struct listing      *list = user;
    const struct kv_row *kv = row;
    if (is_live(kv, list->now) && !uuid_map_get(&list->l->run->engine->kv, place_of(kv)))
        list_add(list, kv->key);
    return list->count < KV_LIST_MAX;
}

static void do_list(struct local *l)
{
    struct engine *engine = l->run->engine;
    struct listing list = { .l = l, .prefix = jv_string(jv_get(l->arguments, "prefix"), l->arena), .now = engine_now_ms(engine),
                            .keys = ARENA_ARRAY(l->arena, struct span, KV_LIST_MAX + 1) };
    struct query   query = { .table = TABLE_kv, .eq_count = 2, .order_column = "key", .limit = -1 };
    query.eq[0].column = "workspace";
    query.eq[0].uuid = l->run->row.workspace;
    query.eq[1].column = "handle";
    query.eq[1].uuid = l->handle;
    struct kv_pending *pending;
    for (size_t i = 0; (pending = uuid_map_next(&engine->kv, &i));)
        if (!pending->gone && uuid_eq(pending->row.handle, l->handle) && uuid_eq(pending->row.workspace, l->run->row.workspace) &&
            is_live(&pending->row, list.now))
            list_add(&list, pending->row.key);
    if (!engine_read_begin(engine)) {
        (void)reader_query(engine_reader(engine), &query, list_row, &list);
        engine_read_end(engine);
    }
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "keys");
    jw_arr(&w);
    for (size_t i = 0; i < list.count; i++)
        jw_str(&w, list.keys[i]);
    jw_arr_end(&w);
    jw_end(&w);
    l->result = arena_copy(l->arena, buf_view(&text));
    buf_done(&text);
}

static void do_tasks(struct local *l)
{
    struct jv tasks = jv_get(l->arguments, "tasks");
    l->handle = l->run->row.id;
    for (struct jv_iter it = jv_iter(tasks); jv_step(&it);) {
        struct jv status = jv_get(it.value, "status");
        bool known = jv_str_eq(status, "pending") || jv_str_eq(status, "in_progress") || jv_str_eq(status, "completed");
        if (!jv_is(jv_get(it.value, "content"), JSON_STRING) || !known)
            l->wrong = "a task has content, and status pending, in_progress or completed";
    }
    if (!jv_is(tasks, JSON_ARRAY))
        l->wrong = "tasks must be an array";
    if (!l->wrong)
        put_value(l, SPAN("tasks"), tasks);
}

/* Without a key of its own a memory gets the next free number. */
static void do_memory(struct local *l)
{
    struct jv   content = jv_get(l->arguments, "content");
    struct span key = SPAN_NONE;
    if (!jv_is(content, JSON_STRING))
        l->wrong = "content must be a text";
    else if (!jv_is(jv_get(l->arguments, "key"), JSON_NONE))
        (void)get_key(l, "key", &key);
    if (l->wrong)
        return;
    for (unsigned i = 1; !key.n; i++) {
        struct span   name = arena_printf(l->arena, "memory/%u", i);
        struct kv_row row = row_of(l, name);
        if (!kv_read(l, &row))
            key = name;
    }
    put_value(l, key, content);
    if (!l->wrong) {
        struct buf text = { 0 };
        struct jw  w = jw_on(&text);
        jw_obj(&w);
        jw_key(&w, "key");
        jw_str(&w, key);
        jw_end(&w);
        l->result = arena_copy(l->arena, buf_view(&text));
        buf_done(&text);
    }
}

static const struct {
    const char *name;
    void (*run)(struct local *l);
} locals[] = { { "kv_read", do_read },       { "kv_write", do_write },    { "kv_list", do_list },
               { "kv_delete", do_delete },   { "tasks_write", do_tasks }, { "memory_write", do_memory } };

void local_call(struct run *run, struct tool_flight *flight)
{
    struct arena        *turn = &run->engine->turn;
    struct local         l = { .run = run, .call = flight, .arena = turn, .handle = run->row.thread,
                               .arguments = json_read(flight->arguments, turn) };
    struct pending_input in = { .kind = IN_TOOL, .path = flight->path, .op = flight->op };
    const char          *code = "unknown_tool", *message = "there is no such tool";
    (void)uuid_parse(jv_string(jv_get(json_read(flight->context, turn), "state_id"), turn), &l.handle);
    for (size_t i = 0; i < ARRAY_LEN(locals); i++)
        if (span_is(flight->tool, locals[i].name))
            locals[i].run(&l);
    if (l.wrong) {
        code = "invalid_arguments";
        message = l.wrong;
    }
    in.value = l.result;
    if (!l.result.n) {
        in.err = ERR_TOOL;
        in.unsent = true;
        in.value = error_json(turn, code, "tool", "tool", false, message);
    }
    run_input(run, &in);
}

void local_expire(struct engine *engine, const struct kv_row *rows, size_t count)
{
    if (!count || engine_read_begin(engine))
        return;
    for (size_t i = 0; i < count; i++) {
        struct kv_row row = rows[i];
        if (uuid_map_get(&engine->kv, place_of(&rows[i])) || reader_get(engine_reader(engine), TABLE_kv, &row) ||
            row.expires_ms != rows[i].expires_ms)
            continue;
        batch_delete(engine_batch(engine), TABLE_kv, &rows[i]);
    }
    engine_read_end(engine);
}

void local_free(struct engine *engine)
{
    struct kv_pending *pending;
    for (size_t i = 0; (pending = uuid_map_next(&engine->kv, &i));)
        free(pending);
    uuid_map_done(&engine->kv);
}
