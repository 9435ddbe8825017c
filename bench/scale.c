/* SPDX-License-Identifier: Apache-2.0 */
/* scale.c - a folder with very many finished runs, and how the database answers questions about them.
 *
 *   scale DIR fill RUNS
 *   scale DIR plans
 *
 * fill: DIR was made by a server that has agents. Rows of runs, of their threads, and of what is counted about them are written
 * as the engine writes them, thousands in a batch, over the last thirty days: one run in five on one long thread, the others eight
 * to a thread; of a hundred 90 completed, 6 failed, 4 were cancelled. They have no events: their ledgers are empty. Prints the
 * long thread and one of the agents.
 *
 * plans: the statements that lists and observability make, and what EXPLAIN QUERY PLAN says of each. The store itself makes
 * them: a driver is put around SQLite's that explains a statement when it is prepared. */
#include "common.h"
#include "run/state.h"
#include "store/aggregate.h"

enum { AGENTS_MOST = 8, BATCH_RUNS = 4000, IN_FLIGHT = 2, LONG_EVERY = 5, THREAD_EVERY = 10, SPAN_DAYS = 30, LIST_LIMIT = 50,
       LIST_OFFSET = 100000 };

/* An environment whose clock is set, so that ids look as old as their runs. */
struct past {
    struct env env; /* first: what is called gets only this */
    int64_t    now_ms;
    uint64_t   random;
};

struct scale {
    struct mailbox   box;
    struct store    *store;
    struct past      past;
    struct uuid_gen  ids;
    struct arena     arena;       /* what was read about the agents */
    struct agent_row agents[AGENTS_MOST];
    struct sha256    plans[AGENTS_MOST];
    unsigned         agent_count;
    struct uuid      long_thread, thread; /* thread: of the others, the current one */
    unsigned         in_flight;
};

static int64_t past_wall(struct env *env)
{
    return ((struct past *)env)->now_ms;
}

static void past_random(struct env *env, void *out, size_t n)
{
    struct past *past = (struct past *)env;
    for (uint8_t *p = out; n; n--) {
        past->random = past->random * 6364136223846793005u + 1442695040888963407u;
        *p++ = (uint8_t)(past->random >> 56);
    }
}

/* ---- the store ---- */

static void deliver(void *user, struct mail *chain)
{
    mailbox_post_chain(&((struct scale *)user)->box, chain);
}

static void open_store(struct scale *s, const char *folder, const struct db_driver *driver)
{
    char         url[4096];
    struct error error = { 0 };
    snprintf(url, sizeof url, "sqlite:%s", folder);
    mailbox_init(&s->box, false);
    struct store_config config = { .url = url, .driver = driver, .env = env_real(), .deliver = deliver, .user = s };
    if (store_open(&config, &s->store, &error))
        die("%s: %s", folder, error.message);
}

static void close_store(struct scale *s)
{
    store_close(s->store);
    mailbox_done(&s->box);
    arena_done(&s->arena);
}

static void committed(void *arg, enum err err)
{
    if (err)
        die("a commit failed");
    ((struct scale *)arg)->in_flight--;
}

static void finish_until(struct scale *s, unsigned most)
{
    while (s->in_flight > most)
        for (struct mail *mail = mailbox_wait(&s->box, -1), *next; mail; mail = next) {
            next = mail->next;
            store_finish(s->store, mail);
        }
}

static bool take_agent(void *user, const void *row)
{
    struct scale           *s = user;
    const struct agent_row *agent = row;
    if (!uuid_is_nil(agent->live_bundle))
        s->agents[s->agent_count++] = *agent;
    return s->agent_count < AGENTS_MOST;
}

static void read_agents(struct scale *s)
{
    struct reader *reader = store_reader(s->store);
    struct query   query = { .table = TABLE_agent, .order_column = "id", .limit = -1 };
    if (reader_begin(reader, &s->arena) || reader_query(reader, &query, take_agent, s) || !s->agent_count)
        die("the folder has no agents");
    for (unsigned i = 0; i < s->agent_count; i++) {
        struct bundle_row bundle = { .id = s->agents[i].live_bundle };
        if (reader_get(reader, TABLE_bundle, &bundle))
            die("an agent has no bundle");
        s->plans[i] = bundle.plan;
    }
    reader_end(reader);
}

/* ---- filling ---- */

struct texts {
    char        input[64], output[64];
    struct span error;
};

static struct span text_of(const char *text)
{
    return span_make(text, strlen(text));
}

static void make_texts(size_t number, enum run_status status, struct texts *ret)
{
    snprintf(ret->input, sizeof ret->input, "{\"n\":%zu}", number);
    ret->output[0] = 0;
    if (status == RUN_COMPLETED)
        snprintf(ret->output, sizeof ret->output, "{\"echo\":{\"n\":%zu}}", number);
    static const char failure[] = "{\"code\":\"fixture_failure\",\"message\":\"as asked\",\"category\":\"tool\",\"retryable\":false}";
    ret->error = status == RUN_FAILED ? text_of(failure) : SPAN_NONE;
}

static enum run_status status_of(size_t number)
{
    size_t of_hundred = number * 37 % 100;
    return of_hundred < 90 ? RUN_COMPLETED : of_hundred < 96 ? RUN_FAILED : RUN_CANCELLED;
}

/* One row for the run, one for its node, one for its failure: src/run/stat.c. */
static void put_stats(struct batch *batch, const struct run_row *run)
{
    bool            failed = run->status == RUN_FAILED, timed = run->status != RUN_CANCELLED;
    int             status = run->status == RUN_COMPLETED ? STAT_OK : failed ? STAT_FAILED : STAT_CANCELLED;
    struct stat_row row = { .workspace = run->workspace, .kind = STAT_RUN, .created_ms = run->created_ms, .run = run->id,
                            .agent = run->agent, .status = status, .ms = timed ? run->completed_ms - run->started_ms : -1, .tries = 1,
                            .at_ms = run->completed_ms };
    batch_put(batch, TABLE_stat, &row);
    row.kind = STAT_NODE;
    row.attempt_no = 1;
    row.op = 1;
    row.ref = SPAN("core.echo");
    row.version = SPAN("1");
    row.binding = SPAN("builtin");
    row.category = failed ? SPAN("tool") : SPAN_NONE;
    batch_put(batch, TABLE_stat, &row);
    if (!failed)
        return;
    struct stat_row failure = { .workspace = run->workspace, .kind = STAT_FAILURE, .created_ms = run->created_ms, .run = run->id,
                                .attempt_no = 1, .op = run->last_seq, .agent = run->agent, .ms = -1, .at_ms = run->completed_ms,
                                .category = SPAN("tool") };
    batch_put(batch, TABLE_stat, &failure);
}

static void put_thread(struct scale *s, struct batch *batch, const struct run_row *run)
{
    struct thread_row row = { .workspace = run->workspace, .id = run->thread, .tenant = run->tenant, .agent = run->agent,
                              .implicit = !uuid_eq(run->thread, s->long_thread), .values_json = SPAN("{}"), .metadata = SPAN("{}"),
                              .last_run = run->id, .created_ms = run->created_ms, .updated_ms = run->completed_ms };
    batch_put(batch, TABLE_thread, &row);
}

static void put_run(struct scale *s, struct batch *batch, size_t number)
{
    bool                    on_long = number % LONG_EVERY == 0, new_thread = number % THREAD_EVERY == 1 || !number;
    unsigned                which = on_long ? 0 : (unsigned)(number / THREAD_EVERY % s->agent_count);
    const struct agent_row *agent = &s->agents[which];
    enum run_status         status = status_of(number);
    struct texts            texts;
    int64_t                 created = s->past.now_ms, took = 3 + (int64_t)(number * 7919 % 997);
    make_texts(number, status, &texts);
    if (new_thread)
        *(number ? &s->thread : &s->long_thread) = uuid_mint(&s->ids, &s->past.env);
    struct run_row run = { .workspace = agent->workspace, .id = uuid_mint(&s->ids, &s->past.env), .tenant = agent->tenant,
                           .thread = on_long ? s->long_thread : s->thread, .agent = agent->id, .bundle = agent->live_bundle,
                           .version = agent->live_version, .plan = s->plans[which], .status = status, .stream = created << 20 | 1 << 10,
                           .attempt = uuid_mint(&s->ids, &s->past.env), .attempt_no = 1, .last_seq = 6, .input = text_of(texts.input),
                           .output = status == RUN_COMPLETED ? text_of(texts.output) : SPAN_NONE, .error = texts.error,
                           .created_ms = created, .started_ms = created + 1, .completed_ms = created + 1 + took,
                           .updated_ms = created + 1 + took };
    run.root_operation = uuid_derive(run.id, UUID_OPERATION, 0);
    batch_put(batch, TABLE_run, &run);
    put_stats(batch, &run);
    if (new_thread)
        put_thread(s, batch, &run);
}

static void fill(struct scale *s, size_t runs)
{
    int64_t  end = env_real()->wall_ms(env_real()) - 3600000, all = (int64_t)SPAN_DAYS * 86400000;
    uint64_t begin = now_ns();
    read_agents(s);
    for (size_t done = 0; done < runs;) {
        struct batch *batch = batch_new(s->store);
        for (size_t i = 0; i < BATCH_RUNS && done < runs; i++, done++) {
            s->past.now_ms = end - all + (int64_t)((double)all * ((double)done / (double)runs));
            put_run(s, batch, done);
        }
        batch_after(batch, committed, s);
        s->in_flight++;
        store_submit(s->store, batch);
        finish_until(s, IN_FLIGHT);
    }
    finish_until(s, 0);
    char thread[UUID_TEXT], agent[UUID_TEXT];
    uuid_format(s->long_thread, thread);
    uuid_format(s->agents[s->agent_count - 1].id, agent);
    printf("seconds=%.1f runs=%zu agents=%u thread=%.*s agent=%.*s\n", (double)(now_ns() - begin) / 1e9, runs, s->agent_count, UUID_TEXT,
           thread, UUID_TEXT, agent);
}

/* ---- plans ---- */

/* The columns of a row are many, and always the same. */
static void print_statement(const char *sql)
{
    static const char all[] = "SELECT workspace, id, tenant, thread, ";
    const char       *from = strncmp(sql, all, sizeof all - 1) == 0 ? strstr(sql, " FROM ") : NULL;
    printf("  %s%s\n", from ? "SELECT (all columns)" : "", from ? from : sql);
}

static enum err prepare_and_explain(struct db *db, const char *sql, struct db_stmt **ret, struct error *error)
{
    struct db_stmt *explain = NULL;
    bool            row = false;
    if (strncmp(sql, "SELECT", 6) == 0 && (strstr(sql, " FROM run") || strstr(sql, " FROM stat"))) {
        CLEANUP(buf_done) struct buf text = { 0 };
        buf_printf(&text, "EXPLAIN QUERY PLAN %s%c", sql, 0);
        print_statement(sql);
        if (db_sqlite.prepare(db, text.p, &explain, error))
            die("EXPLAIN: %s", error->message);
        while (!db_sqlite.step(explain, &row, error) && row)
            printf("      %.*s\n", SPAN_ARG(db_sqlite.bytes(explain, 3)));
        db_sqlite.finalize(explain);
    }
    return db_sqlite.prepare(db, sql, ret, error);
}

static bool ignore_row(void *user, const void *row)
{
    (void)user;
    (void)row;
    return true;
}

/* What runs_list makes of its parameters (src/api/agent_runs/runs.c). */
static struct query list_query(const struct agent_row *agent)
{
    struct query query = { .table = TABLE_run, .eq_count = 1, .order_column = "id", .descending = true, .limit = LIST_LIMIT,
                           .offset = LIST_OFFSET };
    query.eq[0].column = "workspace";
    query.eq[0].uuid = agent->workspace;
    return query;
}

static void ask_list(struct reader *reader, const char *title, const struct query *query)
{
    int64_t count;
    printf("list, %s:\n", title);
    if (reader_query(reader, query, ignore_row, NULL) || reader_count(reader, query, &count))
        die("the list cannot be read");
}

static void ask_lists(struct reader *reader, const struct agent_row *agent)
{
    struct query query = list_query(agent);
    ask_list(reader, "no filter", &query);
    query.in_column = "status";
    query.in[0] = RUN_COMPLETED;
    query.in_count = 1;
    ask_list(reader, "status", &query);
    static const char *const columns[] = { "thread", "agent" };
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        query = list_query(agent);
        query.eq[1].column = columns[i];
        query.eq[1].uuid = agent->id;
        query.eq_count = 2;
        ask_list(reader, columns[i], &query);
    }
}

static void ask_figures(struct reader *reader, const struct stat_window *window, const char *of)
{
    struct stat_runs     runs;
    struct stat_nodes    nodes;
    int64_t              handoffs, total;
    struct stat_category categories[5];
    struct stat_group    groups[LIST_LIMIT];
    unsigned             count;
    printf("summary, %s:\n", of);
    if (stat_runs(reader, window, &runs) || stat_nodes(reader, window, &nodes) || stat_handoffs(reader, window, &handoffs) ||
        stat_categories(reader, window, categories, ARRAY_LEN(categories), &count))
        die("the summary cannot be read");
    printf("capabilities, %s:\n", of);
    if (stat_groups(reader, window, STAT_BY_CAPABILITY, LIST_LIMIT, 0, groups, &count, &total))
        die("the capabilities cannot be read");
}

static void plans(struct scale *s)
{
    static const int64_t live[] = { RUN_PENDING, RUN_QUEUED, RUN_ACTIVE, RUN_WAITING, RUN_RESUMED };
    struct arena         arena = { 0 };
    struct reader       *reader = store_reader(s->store);
    read_agents(s);
    const struct agent_row *agent = &s->agents[0];
    struct stat_window window = { .workspace = agent->workspace, .from_ms = INT64_MIN, .to_ms = INT64_MAX, .live = live,
                                  .live_count = ARRAY_LEN(live) };
    if (reader_begin(reader, &arena))
        die("the store cannot be read");
    ask_lists(reader, agent);
    ask_figures(reader, &window, "all");
    window.agent = agent->id;
    ask_figures(reader, &window, "one agent");
    reader_end(reader);
    arena_done(&arena);
}

int main(int argc, char **argv)
{
    bool fills = argc == 4 && strcmp(argv[2], "fill") == 0;
    if (!fills && !(argc == 3 && strcmp(argv[2], "plans") == 0))
        die("usage: scale DIR fill RUNS | scale DIR plans");
    struct db_driver explaining = db_sqlite;
    explaining.prepare = prepare_and_explain;
    struct scale *s = must_alloc(sizeof *s);
    s->past = (struct past){ .env = { .wall_ms = past_wall, .random = past_random }, .random = 1 };
    open_store(s, argv[1], fills ? NULL : &explaining);
    if (fills)
        fill(s, strtoul(argv[3], NULL, 10));
    else
        plans(s);
    close_store(s);
    free(s);
    return 0;
}
