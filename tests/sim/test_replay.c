/* SPDX-License-Identifier: Apache-2.0 */
/* test_replay.c - runs of every shape, recorded once and replayed from each of their checkpoints.
 *
 * Strictly: the same end, not one model call, not one difference; also when the engine stops halfway. A journal that somebody
 * has changed ends the replay at the changed place. Best effort: everything is done again, with the same end. */
#include "support/engine_rig.h"
#include "unit/unit.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define NODE(name, ref, binding, config, rest) \
    "{\"node\":\"" name "\",\"capability_ref\":\"" ref "\",\"capability_version\":\"1\",\"execution_binding\":\"" binding "\"," \
    "\"config\":" config ",\"next\":" rest "}"
#define CORE(name, ref, config, rest) NODE(name, ref, "builtin", config, rest)
#define MODEL(name, text, ms, rest) \
    NODE(name, "model.chat", "model", \
         "{\"provider\":\"scripted\",\"model\":\"m\",\"prompt\":\"p\",\"script\":{\"text\":\"" text "\",\"interval_ms\":" ms "}}", rest)
#define FROM(at) "{\"$from\":\"" at "\"}"
#define WHEN(at, value, next) "{\"when\":{\"pointer\":\"" at "\",\"equals\":" value "},\"next\":\"" next "\"}"
#define GRAPH(entry, policy, nodes) "{\"format\":1,\"entry\":\"" entry "\"" policy ",\"nodes\":[" nodes "]}"

struct sample {
    const char *name, *definition, *child; /* child: the definition of the agent that %s names */
    enum run_status ends;
};

static const char echo[] = GRAPH("a", "", CORE("a", "core.echo", "{}", "null"));
static const char chain[] = GRAPH("a", "", MODEL("a", "alpha beta", "0", "\"b\"") "," CORE("b", "core.set",
      "{\"value\":{\"n\":1}}", "\"c\"")
    "," MODEL("c", "gamma", "0", "\"d\"") "," CORE("d", "core.value", "{\"value\":[" FROM("/nodes/a/output/text") ","
      FROM("/nodes/c/output/text") ","
                                                             FROM("/values/n") "]}", "null"));

static const struct sample samples[] = {
    { "echo", echo, NULL, RUN_COMPLETED },
    { "chain", chain, NULL, RUN_COMPLETED },
    { "emit", GRAPH("a", "", CORE("a", "core.emit", "{\"count\":5,\"interval_ms\":1}", "\"b\"") "," CORE("b", "core.echo", "{}",
      "null")), NULL,
      RUN_COMPLETED },
    { "switch", GRAPH("s", "", CORE("p", "core.value", "{\"value\":1}", "null") "," CORE("q", "core.value", "{\"value\":2}", "null") ","
      NODE("s", "core.switch", "builtin", "{\"cases\":[" WHEN("/input/n", "1", "p") ",{\"next\":\"q\"}]}", "null")),
      NULL, RUN_COMPLETED },
    { "parallel", GRAPH("f", "", CORE("f", "core.echo", "{}", "[\"a\",\"b\",\"z\"]") "," MODEL("a", "one two three four", "2",
      "\"j\"") ","
      MODEL("b", "one", "1", "\"m\"") "," CORE("m", "core.set", "{\"value\":{\"b\":true}}", "\"n\"") "," MODEL("n", "n n", "1",
      "\"j\"") ","
      CORE("z", "core.sleep", "{\"ms\":4}", "\"j\"") "," CORE("j", "core.value", "{\"value\":[" FROM("/nodes/a/output/text") ","
      FROM("/nodes/n/output/text") "," FROM("/values/b") "]}", "null")),
      NULL, RUN_COMPLETED },
    { "human", GRAPH("a", "", MODEL("a", "draft", "0", "\"g\"") "," NODE("g", "core.human", "human", "{\"prompt\":\"ok?\"}", "\"e\"") ","
      CORE("e", "core.value", "{\"value\":{\"$from\":\"/nodes/g/output\"}}", "null")), NULL, RUN_COMPLETED },
    { "human beside work", GRAPH("f", "", CORE("f", "core.echo", "{}", "[\"g\",\"w\"]") ","
      NODE("g", "core.human", "human", "{\"prompt\":\"ok?\"}", "\"j\"") "," MODEL("w", "a b c", "2", "\"j\"") ","
      CORE("j", "core.value", "{\"value\":{\"$from\":\"/nodes/g/output\"}}", "null")), NULL, RUN_COMPLETED },
    { "loop", GRAPH("a", "", NODE("a", "core.human", "human", "{\"prompt\":\"again?\"}", "\"s\"") ","
      NODE("s", "core.switch", "builtin", "{\"cases\":[" WHEN("/nodes/a/output", "1", "m") "," WHEN("/nodes/a/output", "2", "m")
      ",{\"next\":\"e\"}]}", "null") ","
      MODEL("m", "round", "0", "\"a\"") "," CORE("e", "core.value", "{\"value\":{\"$from\":\"/nodes/a/output\"}}", "null")), NULL,
      RUN_COMPLETED },
    { "handoff", GRAPH("h", "", NODE("h", "core.handoff", "agent", "{\"agent_id\":\"%s\",\"input\":{\"x\":1}}", "\"e\"") ","
      CORE("e", "core.value", "{\"value\":{\"$from\":\"/nodes/h/output\"}}", "null")), chain, RUN_COMPLETED },
    { "tries of a node", GRAPH("a", "", CORE("a", "core.echo", "{}", "\"f\"") ","
      "{\"node\":\"f\",\"capability_ref\":\"core.fail\",\"capability_version\":\"1\",\"execution_binding\":\"builtin\","
      "\"policy\":{\"max_tries\":3,\"backoff_ms\":2},"
      "\"config\":{\"code\":\"flaky\",\"category\":\"network\",\"message\":\"m\",\"retryable\":true,\"fail_times\":2},\"next\":\"e\"}" ","
      CORE("e", "core.value", "{\"value\":3}", "null")), NULL, RUN_COMPLETED },
    { "a second attempt", GRAPH("a", ",\"policy\":{\"max_attempts\":2}", MODEL("a", "first", "0", "\"f\"") ","
      CORE("f", "core.fail", "{\"code\":\"once\",\"category\":\"tool\",\"message\":\"m\",\"retryable\":true,\"fail_times\":1}",
      "\"b\"") ","
      MODEL("b", "second", "0", "\"e\"") "," CORE("e", "core.value", "{\"value\":4}", "null")), NULL, RUN_COMPLETED },
    { "a failure", GRAPH("a", "", MODEL("a", "x", "0", "\"f\"") ","
      CORE("f", "core.fail", "{\"code\":\"broken\",\"category\":\"tool\",\"message\":\"m\",\"retryable\":false}", "null")), NULL,
      RUN_FAILED },
    { "a time-out", GRAPH("a", ",\"policy\":{\"run_timeout_ms\":60}", MODEL("a", "x", "0", "\"s\"") ","
      CORE("s", "core.sleep", "{\"ms\":60000}", "null")), NULL, RUN_FAILED },
};

struct world {
    struct rig     rig;
    struct uuid    id;
    struct run_row row;
    struct arena   arena;
    int            answers;
    bool           live; /* answers prompts */
    int64_t        stop_at; /* until so many events are on disk; 0: until the end */
};

static void read_row(struct world *w)
{
    arena_reset(&w->arena);
    w->row = (struct run_row){ .status = RUN_QUEUED };
    if (run_row_get(w->rig.engine, w->rig.workspace, w->id, &w->arena, &w->row))
        w->row.status = RUN_QUEUED;
}

static bool over(void *user)
{
    struct world *w = user;
    read_row(w);
    if (w->live && w->row.status == RUN_WAITING) {
        struct run_row row;
        struct issues  issues = { .arena = &w->arena };
        char           text[16];
        snprintf(text, sizeof text, "%d", w->answers + 1);
        enum err e = run_resume(w->rig.engine, w->rig.workspace, w->id, span_of(text), (struct uuid){ 0 }, SPAN("dev"), &row,
      &issues, NULL);
        assert_true(!e || e == ERR_INVALID_RUN_STATE); /* the row on disk lags behind */
        w->answers += !e;
    }
    return (w->stop_at && w->row.last_seq >= w->stop_at) || run_terminal((enum run_status)w->row.status);
}

static void finish(struct world *w, struct uuid id, bool live)
{
    w->id = id;
    w->answers = 0;
    w->live = live;
    assert_true(rig_run(&w->rig, over, w, 20));
}

static void begin(struct world *w)
{
    struct error error = { 0 };
    *w = (struct world){ .live = true };
    rig_init(&w->rig, NULL);
    assert_int_equal(rig_open(&w->rig, &error), ERR_OK);
}

static void end(struct world *w)
{
    arena_done(&w->arena);
    rig_done(&w->rig);
}

/* Records one run of the definition and leaves its row in w->row. */
static void record_run(struct world *w, const char *definition, const char *child)
{
    char  id[UUID_TEXT + 1] = "";
    char *text = mem_alloc(strlen(definition) + sizeof id);
    if (child) {
        uuid_format(rig_agent(&w->rig, "child", child), id);
        const char *at = strstr(definition, "%s");
        sprintf(text, "%.*s%s%s", (int)(at - definition), definition, id, at + 2);
    } else {
        strcpy(text, definition);
    }
    struct run_spec spec = { .tenant = w->rig.tenant, .workspace = w->rig.workspace, .agent = rig_agent(&w->rig, "agent", text),
                             .input = SPAN("{\"n\":1}") };
    struct run_row  row;
    struct error    error = { 0 };
    assert_int_equal(run_create(w->rig.engine, &spec, &row, &error), ERR_OK);
    free(text);
    finish(w, row.id, true);
}

/* ---- reading ---- */

struct ledger_view {
    struct arena arena;
    struct uuid  attempt;
    struct buf   checkpoints;        /* struct uuid */
    unsigned     deltas, diverged, started;
    struct span  divergence;         /* payload of the first */
};

static bool view_frame(void *user, const struct frame *frame)
{
    struct ledger_view *v = user;
    struct frame_reader reader = frame_read(frame->first_seq, frame->n, frame->base_ms, frame->body);
    struct record       record;
    while (frame_next(&reader, &record)) {
        struct uuid id = checkpoint_id(v->attempt, record.seq);
        if (record.type == REC_CHECKPOINT)
            buf_put(&v->checkpoints, &id, sizeof id);
        v->deltas += record.type == REC_MODEL_DELTA;
        v->started += record.type == REC_MODEL_STARTED;
        if (record.type == REC_DIVERGED && !v->diverged++)
            v->divergence = arena_copy(&v->arena, record.pub);
    }
    return true;
}

static struct ledger_view view(struct world *w)
{
    struct ledger_view v = { 0 };
    struct arena       arena = { 0 };
    struct reader     *reader = store_reader(w->rig.store);
    assert_int_equal(reader_begin(reader, &arena), ERR_OK);
    for (int64_t no = 1; no <= w->row.attempt_no; no++) {
        struct attempt_row old = { .run = w->row.id, .no = no, .id = w->row.attempt, .stream = w->row.stream };
        if (no < w->row.attempt_no)
            assert_int_equal(reader_get(reader, TABLE_attempt, &old), ERR_OK);
        v.attempt = old.id;
        assert_int_equal(reader_frames(reader, (uint64_t)old.stream, 0, SIZE_MAX, view_frame, &v), ERR_OK);
    }
    reader_end(reader);
    arena_done(&arena);
    return v;
}

static void view_done(struct ledger_view *v)
{
    buf_done(&v->checkpoints);
    arena_done(&v->arena);
}

static uint64_t model_calls(struct world *w)
{
    struct engine_stats stats;
    engine_stats(w->rig.engine, &stats);
    return stats.model_calls;
}

static struct uuid replay(struct world *w, struct uuid source, struct uuid checkpoint, bool strict)
{
    struct replay_spec spec = { .workspace = w->rig.workspace, .run = source, .checkpoint = checkpoint, .strict = strict, .reason =
      SPAN("why") };
    struct run_row     row;
    struct error       error = { 0 };
    enum err           e = run_replay(w->rig.engine, &spec, &row, &error);
    if (e)
        fprintf(stderr, "replay: %s\n", error.message);
    assert_int_equal(e, ERR_OK);
    assert_int_equal(row.source, SOURCE_REPLAY);
    return row.id;
}

static struct span code_of(struct span error, struct arena *arena)
{
    return error.p ? jv_string(jv_get(json_read(error, arena), "code"), arena) : SPAN_NONE;
}

static void assert_same_span(struct span a, struct span b)
{
    if (!span_eq(a, b))
        fprintf(stderr, "%.*s\n%.*s\n", SPAN_ARG(a), SPAN_ARG(b));
    assert_true(span_eq(a, b));
}

/* ---- every sample, every checkpoint ---- */

static void each_checkpoint(const struct sample *sample, bool strict)
{
    struct world w;
    struct arena kept = { 0 };
    begin(&w);
    record_run(&w, sample->definition, sample->child);
    assert_int_equal(w.row.status, sample->ends);
    struct ledger_view source = view(&w);
    struct uuid        id = w.row.id, thread = w.row.thread;
    struct span        output = w.row.output.p ? arena_copy(&kept, w.row.output) : SPAN_NONE;
    struct span        code = arena_copy(&kept, code_of(w.row.error, &w.arena));
    const struct uuid *all = (const struct uuid *)(const void *)source.checkpoints.p;
    size_t             count = source.checkpoints.len / sizeof *all;
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t calls = model_calls(&w);
        finish(&w, replay(&w, id, all[i], strict), !strict);
        struct ledger_view now = view(&w);
        if (strict && now.diverged)
            fprintf(stderr, "%s, checkpoint %zu: %.*s\n", sample->name, i, SPAN_ARG(now.divergence));
        assert_int_equal(w.row.status, sample->ends);
        assert_same_span(w.row.output.p ? w.row.output : SPAN_NONE, output);
        assert_same_span(code_of(w.row.error, &w.arena), code);
        assert_false(uuid_eq(w.row.thread, thread));
        assert_true(uuid_eq(w.row.replayed_from, id) && uuid_eq(w.row.replayed_checkpoint, all[i]));
        if (strict) {
            assert_int_equal(now.diverged, 0);
            assert_int_equal(model_calls(&w), calls);
        }
        if (i + 1 == count && sample->ends == RUN_COMPLETED)
            assert_int_equal(now.started, 0); /* the last one is final */
        view_done(&now);
    }
    view_done(&source);
    arena_done(&kept);
    end(&w);
}

static void strict_from_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++)
        each_checkpoint(&samples[i], true);
}

static void best_effort_from_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++)
        if (strcmp(samples[i].name, "loop")) /* its answers count from one again */
            each_checkpoint(&samples[i], false);
}

/* A replay can be replayed: its ledger is as good as any. */
static void replay_of_a_replay(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    record_run(&w, chain, NULL);
    for (int depth = 0; depth < 3; depth++) {
        struct ledger_view v = view(&w);
        struct uuid        first;
        memcpy(&first, v.checkpoints.p, sizeof first);
        finish(&w, replay(&w, w.row.id, first, true), false);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        view_done(&v);
    }
    end(&w);
}

/* More nodes than a step may start: steps are cut, and in a replay elsewhere than in the source. */
static void long_steps(void **state)
{
    enum { NODES = 600 };
    struct world w;
    struct buf   text = { 0 };
    (void)state;
    begin(&w);
    buf_printf(&text, "{\"format\":1,\"entry\":\"n0\",\"nodes\":[");
    for (int i = 0; i < NODES; i++)
        buf_printf(&text, CORE("n%d", "core.echo", "{}", "\"n%d\"") ",", i, i + 1);
    buf_printf(&text, MODEL("n%d", "at last", "0", "null") "]}", NODES);
    buf_byte(&text, 0);
    record_run(&w, text.p, NULL);
    buf_done(&text);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    struct ledger_view source = view(&w);
    struct uuid        id = w.row.id;
    const struct uuid *all = (const struct uuid *)(const void *)source.checkpoints.p;
    assert_int_equal(source.checkpoints.len / sizeof *all, NODES + 2);
    for (size_t i = 0; i < NODES + 2; i += 43) {
        finish(&w, replay(&w, id, all[i], true), false);
        struct ledger_view now = view(&w);
        assert_int_equal(w.row.status, RUN_COMPLETED);
        assert_int_equal(now.diverged, 0);
        assert_int_equal(now.checkpoints.len / sizeof *all, NODES + 1 - i + (i == NODES + 1));
        view_done(&now);
    }
    view_done(&source);
    end(&w);
}

/* ---- stopped halfway ---- */

static void goes_on_after_a_stop(void **state)
{
    struct world w;
    struct error error = { 0 };
    (void)state;
    begin(&w);
    record_run(&w, GRAPH("p", "", CORE("p", "core.echo", "{}", "\"a\"") "," CORE("a", "core.emit",
      "{\"count\":10000,\"interval_ms\":0}", "\"b\"")
                         "," MODEL("b", "and on", "0", "null")), NULL);
    struct ledger_view v = view(&w);
    struct uuid        first;
    memcpy(&first, v.checkpoints.p, sizeof first);
    view_done(&v);
    struct uuid again = replay(&w, w.row.id, first, true);
    for (int stops = 0; stops < 5; stops++) {
        w.stop_at = stops ? w.row.last_seq + 1 : 1;
        finish(&w, again, false);
        assert_false(run_terminal((enum run_status)w.row.status));
        rig_close(&w.rig);
        assert_int_equal(rig_open(&w.rig, &error), ERR_OK);
    }
    w.stop_at = 0;
    finish(&w, again, false);
    assert_int_equal(w.row.status, RUN_COMPLETED);
    assert_int_equal(model_calls(&w), 0);
    v = view(&w);
    assert_int_equal(v.diverged, 0);
    assert_int_equal(v.deltas, 10002);
    view_done(&v);
    end(&w);
}

static bool waits(void *user)
{
    struct world *w = user;
    read_row(w);
    return w->row.status == RUN_WAITING;
}

/* The source was cancelled while it asked: the replay asks again, also after a stop, and an answer is more than was recorded. */
static void asks_what_nobody_answered(void **state)
{
    struct world    w;
    struct error    error = { 0 };
    struct run_row  row;
    struct issues   issues = { .arena = &w.arena };
    bool            already;
    struct run_spec spec = { .source = SOURCE_API };
    (void)state;
    begin(&w);
    spec.tenant = w.rig.tenant;
    spec.workspace = w.rig.workspace;
    spec.agent = rig_agent(&w.rig, "asks", GRAPH("a", "", MODEL("a", "draft", "0", "\"g\"") ","
                           NODE("g", "core.human", "human", "{\"prompt\":\"ok?\"}", "\"b\"") "," MODEL("b", "more", "0", "null")));
    assert_int_equal(run_create(w.rig.engine, &spec, &row, &error), ERR_OK);
    w.id = row.id;
    assert_true(rig_run(&w.rig, waits, &w, 20));
    assert_int_equal(run_cancel(w.rig.engine, w.rig.workspace, w.id, SPAN("no"), SPAN("dev"), &row, &already, &error), ERR_OK);
    finish(&w, w.id, false);
    struct ledger_view v = view(&w);
    struct uuid        first;
    memcpy(&first, v.checkpoints.p, sizeof first);
    view_done(&v);
    w.id = replay(&w, w.row.id, first, true);
    assert_true(rig_run(&w.rig, waits, &w, 20));
    rig_close(&w.rig);
    assert_int_equal(rig_open(&w.rig, &error), ERR_OK);
    assert_int_equal(run_resume(w.rig.engine, w.rig.workspace, w.id, SPAN("1"), (struct uuid){ 0 }, SPAN("dev"), &row, &issues, &error),
                     ERR_OK);
    finish(&w, w.id, false);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_same_span(code_of(w.row.error, &w.arena), SPAN("replay_divergence"));
    assert_int_equal(model_calls(&w), 0);
    v = view(&w);
    assert_same_span(jv_string(jv_get(json_read(v.divergence, &w.arena), "kind"), &w.arena), SPAN("extra_effect"));
    view_done(&v);
    end(&w);
}

/* ---- a changed journal ---- */

struct change {
    const char *from, *to; /* as long as each other; the first place in the ledger */
    const char *node, *kind;
};

static bool patch_table(sqlite3 *db, const char *table, const struct change *change)
{
    char          sql[128];
    sqlite3_stmt *find, *put;
    size_t        n = strlen(change->from);
    bool          done = false;
    snprintf(sql, sizeof sql, "SELECT rowid, body FROM %s ORDER BY first_seq", table);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &find, NULL), SQLITE_OK);
    snprintf(sql, sizeof sql, "UPDATE %s SET body = ? WHERE rowid = ?", table);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &put, NULL), SQLITE_OK);
    while (!done && sqlite3_step(find) == SQLITE_ROW) {
        size_t size = (size_t)sqlite3_column_bytes(find, 1);
        char  *body = mem_alloc(size + 1), *at;
        memcpy(body, sqlite3_column_blob(find, 1), size);
        at = memmem(body, size, change->from, n);
        if (at) {
            memcpy(at, change->to, n);
            sqlite3_bind_blob(put, 1, body, (int)size, SQLITE_TRANSIENT);
            sqlite3_bind_int64(put, 2, sqlite3_column_int64(find, 0));
            done = true;
        }
        free(body);
    }
    sqlite3_finalize(find);
    if (done)
        assert_int_equal(sqlite3_step(put), SQLITE_DONE);
    sqlite3_finalize(put);
    return done;
}

static void patch(struct world *w, const struct change *change)
{
    char     path[512];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/perdure.db", w->rig.folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(strlen(change->from), strlen(change->to));
    assert_true(patch_table(db, "segment", change) || patch_table(db, "tail", change));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void one_change(const struct change *change)
{
    struct world w;
    struct error error = { 0 };
    begin(&w);
    record_run(&w, chain, NULL);
    struct ledger_view v = view(&w);
    struct uuid        first, source = w.row.id;
    memcpy(&first, v.checkpoints.p, sizeof first);
    view_done(&v);
    rig_close(&w.rig);
    patch(&w, change);
    assert_int_equal(rig_open(&w.rig, &error), ERR_OK);
    finish(&w, replay(&w, source, first, true), false);
    assert_int_equal(w.row.status, RUN_FAILED);
    assert_same_span(code_of(w.row.error, &w.arena), SPAN("replay_divergence"));
    v = view(&w);
    assert_int_equal(v.diverged, 1);
    struct jv said = json_read(v.divergence, &w.arena);
    assert_same_span(jv_string(jv_get(said, "kind"), &w.arena), span_of(change->kind));
    assert_same_span(jv_string(jv_get(said, "node"), &w.arena), span_of(change->node));
    view_done(&v);
    end(&w);
}

static void changed_journals(void **state)
{
    static const struct change changes[] = {
        { "\"output\":{\"text\":\"gamma\"", "\"output\":{\"text\":\"gamme\"", "c", "effect" },
        { "\"v\":{\"text\":\"gamma\"", "\"v\":{\"text\":\"gamme\"", "c", "effect" },
        { "\"capability_ref\":\"core.value\"", "\"capability_ref\":\"core.valve\"", "d", "effect" },
        { "\"output\":[\"alpha beta\",\"gamma\",1]}", "\"output\":[\"alpha beta\",\"gamma\",2]}", "d", "effect" },
        { "{\"output\":[\"alpha beta\",\"gamma\",1]", "{\"output\":[\"alpha beta\",\"gamma\",2]", "d", "output" },
        { "\"kind\":\"final\",\"step\":4,\"state_hash\":\"sha256:", "\"kind\":\"final\",\"step\":5,\"state_hash\":\"sha256:", "d",
      "state_hash" },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        one_change(&changes[i]);
}

/* ---- what is refused ---- */

static enum err try_replay(struct world *w, struct uuid run, struct uuid checkpoint, bool strict)
{
    struct replay_spec spec = { .workspace = w->rig.workspace, .run = run, .checkpoint = checkpoint, .strict = strict };
    struct run_row     row;
    return run_replay(w->rig.engine, &spec, &row, NULL);
}

static void refusals(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    record_run(&w, echo, NULL);
    struct ledger_view v = view(&w);
    struct uuid        first, one = w.row.id, unknown = { .b = { 9 } };
    memcpy(&first, v.checkpoints.p, sizeof first);
    view_done(&v);
    record_run(&w, echo, NULL);
    assert_int_equal(try_replay(&w, w.row.id, first, false), ERR_CHECKPOINT_NOT_FOUND);
    assert_int_equal(try_replay(&w, unknown, first, false), ERR_RUN_NOT_FOUND);
    assert_int_equal(try_replay(&w, one, unknown, true), ERR_CHECKPOINT_NOT_FOUND);
    assert_int_equal(try_replay(&w, one, first, true), ERR_OK);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_from_everywhere), cmocka_unit_test(best_effort_from_everywhere), cmocka_unit_test(replay_of_a_replay),
        cmocka_unit_test(long_steps),
        cmocka_unit_test(asks_what_nobody_answered),
        cmocka_unit_test(goes_on_after_a_stop),   cmocka_unit_test(changed_journals),            cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
