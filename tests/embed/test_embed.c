/* SPDX-License-Identifier: Apache-2.0 */
/* libperdure through its public header alone: runs of every kind, followers in other threads, reopening, several engines, bad input. */
#include <perdure.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { WAIT_MS = 60000 };

#define MODEL(script) "{\"provider\":\"scripted\",\"model\":\"writer\",\"script\":" script "}"
#define AGENT(script) "{\"format\":1,\"agent\":{\"model\":" MODEL(script) "}}"

static const char quick[] = AGENT("{\"text\":\"A short answer.\",\"interval_ms\":1}");
/* 200 chunks, 20 ms apart: time enough to do something meanwhile. */
static const char slow[] = AGENT("{\"text\":\""
    "one two three four five six seven eight nine ten one two three four five six seven eight nine ten "
    "one two three four five six seven eight nine ten one two three four five six seven eight nine ten "
    "one two three four five six seven eight nine ten one two three four five six seven eight nine ten "
    "one two three four five six seven eight nine ten one two three four five six seven eight nine ten\",\"interval_ms\":20}");
static const char endless[] = AGENT("{\"text\":\"never\",\"delay_ms\":3600000}");
static const char workflow[] =
    "{\"format\":1,\"workflow\":{\"kind\":\"workflow.v1\",\"name\":\"two\","
    "\"inputs\":[{\"name\":\"topic\",\"required\":true,\"type\":\"string\"}],"
    "\"nodes\":[{\"id\":\"draft\",\"type\":\"llm.responses\",\"input\":{\"bindings\":[{\"encoding\":\"json_string\",\"from_input\":"
    "\"topic\",\"to_placeholder\":\"topic\"}],\"request\":{\"input\":[{\"content\":[{\"text\":\"Write about {{topic}}\",\"type\":\"text\"}],"
    "\"role\":\"user\",\"type\":\"message\"}],\"model\":\"scripted/writer\",\"script\":{\"interval_ms\":1,\"text\":\"The text.\"}}}}],"
    "\"outputs\":[{\"from\":\"draft\",\"name\":\"text\",\"pointer\":\"/output/0/content/0/text\"}]}}";
static const char team[] =
    "{\"format\":1,\"team\":{\"protocol\":\"broadcast\",\"agents\":[{\"id\":\"ada\",\"role\":\"planner\"},{\"id\":\"bob\",\"role\":\"critic\"}],"
    "\"model\":{\"provider\":\"scripted\",\"id\":\"desk\",\"script\":{\"text\":\"I agree.\",\"interval_ms\":1}}}}";
static const char question[] =
    "{\"format\":1,\"entry\":\"gate\",\"nodes\":[{\"node\":\"gate\",\"capability_ref\":\"core.human\",\"capability_version\":\"1\","
    "\"execution_binding\":\"human\",\"config\":{\"prompt\":\"Go on?\",\"schema\":{\"enum\":[\"yes\",\"no\"]}},\"next\":null}]}";

/* ---- a folder and an engine for each test ---- */

struct place {
    char              folder[64];
    struct pd_engine *engine;
};

static void die(const char *what, const struct pd_error *error)
{
    fail_msg("%s: %s %s: %s: %s", what, pd_code_name(error->code), error->reason, error->field, error->message);
}

static struct pd_engine *open_in(const char *folder)
{
    struct pd_config  config = PD_CONFIG_INIT;
    struct pd_engine *engine = NULL;
    struct pd_error   error;
    config.data = folder;
    if (pd_open(&config, &engine, &error) != PD_OK)
        die("open", &error);
    return engine;
}

static void remove_folder(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "/tmp/perdure-embed-XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    place->engine = open_in(place->folder);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    int           code = pd_close(place->engine);
    remove_folder(place->folder);
    free(place);
    return code;
}

static void start(struct pd_engine *engine, const char *definition, const char *input, char run[PD_ID_SIZE])
{
    struct pd_run_config config = PD_RUN_CONFIG_INIT;
    struct pd_error      error;
    config.definition = definition;
    config.input = input;
    if (pd_run_start(engine, &config, run, &error) != PD_OK)
        die("start", &error);
    assert_int_equal(strlen(run), PD_ID_SIZE - 1);
}

static int wait_for(struct pd_engine *engine, const char *run)
{
    struct pd_error error;
    int             status = -1, code = pd_run_wait(engine, run, WAIT_MS, &status, &error);
    if (code < 0)
        die("wait", &error);
    assert_int_equal(code, PD_OK);
    return status;
}

static void has_output(struct pd_engine *engine, const char *run, const char *part)
{
    struct pd_error error;
    char           *json;
    if (pd_run_output(engine, run, &json, &error) != PD_OK)
        die("output", &error);
    if (!strstr(json, part))
        fail_msg("%s is not in %s", part, json);
    pd_free(json);
}

/* ---- a follower ---- */

struct follower {
    struct pd_engine *engine;
    const char       *run;
    uint64_t          after, last;
    unsigned          count, pause_every;
    int               code;
    bool              finished;
    size_t            bytes;
};

static void *follow(void *arg)
{
    struct follower  *f = arg;
    struct pd_events *events = NULL;
    struct pd_error   error;
    const char       *json = NULL;
    char              head[32];
    f->last = f->after;
    f->code = pd_events_open(f->engine, f->run, NULL, f->after, &events, &error);
    while (f->code >= 0 && (f->code = pd_events_next(events, WAIT_MS, &json, &error)) == PD_OK) {
        assert_int_equal(pd_events_seq(events), f->last + 1); /* none lost, none twice */
        f->last++;
        f->count++;
        f->bytes += strlen(json);
        snprintf(head, sizeof head, "\"seq\":%llu,", (unsigned long long)f->last);
        assert_non_null(strstr(json, head));
        f->finished = strstr(json, "\"type\":\"RUN_FINISHED\"") != NULL;
        if (f->pause_every && f->count % f->pause_every == 0)
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    pd_events_close(events);
    return NULL;
}

/* ---- runs ---- */

static void an_agent_a_workflow_and_a_team_run_to_their_end(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    char              a[PD_ID_SIZE], w[PD_ID_SIZE], t[PD_ID_SIZE];
    start(engine, quick, "\"What is it?\"", a);
    start(engine, workflow, "{\"topic\":\"gutters\"}", w);
    start(engine, team, "\"Decide.\"", t);
    assert_int_equal(wait_for(engine, a), PD_COMPLETED);
    assert_int_equal(wait_for(engine, w), PD_COMPLETED);
    assert_int_equal(wait_for(engine, t), PD_COMPLETED);
    has_output(engine, a, "\"text\":\"A short answer.\"");
    has_output(engine, w, "{\"text\":\"The text.\"}");
    has_output(engine, t, "I agree.");
    int status;
    assert_int_equal(pd_run_wait(engine, a, 0, &status, NULL), PD_OK); /* it has ended: no time is needed */
    assert_string_equal(pd_status_name(status), "completed");
}

static void a_run_is_shown_as_over_http(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    char              run[PD_ID_SIZE], *json;
    start(engine, quick, "{\"message\":\"hello\"}", run);
    wait_for(engine, run);
    assert_int_equal(pd_run_get(engine, run, &json, NULL), PD_OK);
    assert_non_null(strstr(json, run));
    assert_non_null(strstr(json, "\"status\":\"completed\""));
    assert_non_null(strstr(json, "\"input\":{\"message\":\"hello\"}"));
    assert_non_null(strstr(json, "\"usage\":{\"input_tokens\":"));
    pd_free(json);
}

static void a_key_makes_one_run(void **state)
{
    struct pd_engine    *engine = ((struct place *)*state)->engine;
    struct pd_run_config config = PD_RUN_CONFIG_INIT;
    struct pd_error      error;
    char                 first[PD_ID_SIZE], second[PD_ID_SIZE];
    config.definition = quick;
    config.key = "once";
    assert_int_equal(pd_run_start(engine, &config, first, &error), PD_OK);
    assert_int_equal(pd_run_start(engine, &config, second, &error), PD_OK);
    assert_string_equal(first, second);
    config.input = "\"another\"";
    assert_int_equal(pd_run_start(engine, &config, second, &error), PD_CONFLICT);
    assert_string_equal(error.reason, "idempotency_key_reused");
}

static void a_cancelled_run_ends(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    struct pd_error   error;
    char              run[PD_ID_SIZE], *json;
    int               status = -1;
    start(engine, endless, "\"go\"", run);
    assert_int_equal(pd_run_wait(engine, run, 50, &status, &error), PD_TIMEOUT);
    assert_int_equal(status, -1);
    assert_int_equal(pd_run_output(engine, run, &json, &error), PD_CONFLICT);
    assert_int_equal(pd_run_cancel(engine, run, "no longer needed", &error), PD_OK);
    assert_int_equal(wait_for(engine, run), PD_CANCELLED);
    assert_int_equal(pd_run_cancel(engine, run, NULL, &error), PD_OK);
    assert_int_equal(pd_run_get(engine, run, &json, &error), PD_OK);
    assert_non_null(strstr(json, "no longer needed"));
    pd_free(json);
}

static void a_question_waits_for_an_answer_that_fits(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    struct pd_error   error;
    char              run[PD_ID_SIZE], approval[PD_ID_SIZE], *json;
    start(engine, question, NULL, run);
    assert_int_equal(wait_for(engine, run), PD_WAITING);
    assert_int_equal(pd_run_get(engine, run, &json, &error), PD_OK);
    assert_non_null(strstr(json, "\"human_prompt\":\"Go on?\""));
    const char *at = strstr(json, "\"approval_id\":\"");
    assert_non_null(at);
    snprintf(approval, sizeof approval, "%s", at + strlen("\"approval_id\":\""));
    pd_free(json);
    assert_int_equal(pd_run_answer(engine, run, NULL, "\"perhaps\"", &error), PD_INVALID);
    assert_string_equal(error.field, "/input");
    assert_int_equal(wait_for(engine, run), PD_WAITING);
    assert_int_equal(pd_run_answer(engine, run, approval, "\"yes\"", &error), PD_OK);
    assert_int_equal(wait_for(engine, run), PD_COMPLETED);
    has_output(engine, run, "yes");
    assert_int_equal(pd_run_answer(engine, run, approval, "\"yes\"", &error), PD_CONFLICT);
}

/* ---- following ---- */

static void followers_in_other_threads_get_every_event_once(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    struct follower   f[4];
    pthread_t         threads[4];
    char              run[PD_ID_SIZE];
    start(engine, slow, "\"go\"", run);
    for (unsigned i = 0; i < 4; i++) {
        f[i] = (struct follower){ .engine = engine, .run = run, .after = i, .pause_every = i };
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &f[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(f[i].code, PD_END);
        assert_true(f[i].finished);
        assert_true(f[i].count > 80);
        assert_int_equal(f[i].last, f[0].last);
    }
    /* Behind the end there is nothing; and later it is all still there. */
    struct follower late = { .engine = engine, .run = run, .after = f[0].last }, whole = { .engine = engine, .run = run };
    follow(&late);
    assert_int_equal(late.code, PD_END);
    assert_int_equal(late.count, 0);
    follow(&whole);
    assert_int_equal(whole.last, f[0].last);
    assert_int_equal(whole.bytes, f[0].bytes);
}

static void a_ledger_larger_than_the_window_is_read_whole(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    size_t            words = 4000, n = 0;
    char             *definition = malloc(words * 8 + 512), run[PD_ID_SIZE];
    n += (size_t)sprintf(definition, "{\"format\":1,\"agent\":{\"model\":{\"provider\":\"scripted\",\"model\":\"w\",\"script\":{\"text\":\"");
    for (size_t i = 0; i < words; i++)
        n += (size_t)sprintf(definition + n, "w%zu ", i);
    sprintf(definition + n, "\",\"interval_ms\":0}}}}");
    start(engine, definition, "\"go\"", run);
    struct follower f = { .engine = engine, .run = run, .pause_every = 64 }; /* slower than the run */
    follow(&f);
    assert_int_equal(f.code, PD_END);
    assert_true(f.finished);
    assert_true(f.bytes > 1024 * 1024);
    free(definition);
}

static void nothing_new_is_a_timeout(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    struct pd_events *events;
    struct pd_error   error;
    const char       *json;
    char              run[PD_ID_SIZE];
    int               code, seen = 0;
    start(engine, endless, "\"go\"", run);
    assert_int_equal(pd_events_open(engine, run, NULL, 0, &events, &error), PD_OK);
    while ((code = pd_events_next(events, 100, &json, &error)) == PD_OK)
        seen++;
    assert_int_equal(code, PD_TIMEOUT);
    assert_true(seen > 0);
    assert_int_equal(pd_events_seq(events), seen);
    assert_int_equal(pd_events_next(events, 0, &json, &error), PD_TIMEOUT);
    pd_events_close(events);
}

/* ---- opening again ---- */

static void a_run_goes_on_in_the_next_engine(void **state)
{
    struct place   *place = *state;
    struct follower f = { .engine = place->engine }, rest;
    pthread_t       thread;
    char            run[PD_ID_SIZE], again[PD_ID_SIZE];
    start(place->engine, slow, "\"go\"", run);
    f.run = run;
    assert_int_equal(pthread_create(&thread, NULL, follow, &f), 0);
    nanosleep(&(struct timespec){ .tv_nsec = 400000000 }, NULL);
    assert_int_equal(pd_close(place->engine), PD_OK);
    pthread_join(thread, NULL);
    assert_int_equal(f.code, PD_CLOSED);
    assert_false(f.finished);
    assert_true(f.count > 2);

    place->engine = open_in(place->folder);
    rest = (struct follower){ .engine = place->engine, .run = run, .after = f.last };
    follow(&rest);
    assert_int_equal(rest.code, PD_END);
    assert_true(rest.finished);
    assert_int_equal(wait_for(place->engine, run), PD_COMPLETED);
    has_output(place->engine, run, "one two three four five six seven eight nine ten one two");
    start(place->engine, quick, "\"go\"", again);
    assert_int_equal(wait_for(place->engine, again), PD_COMPLETED);
}

struct waiter {
    struct pd_engine *engine;
    const char       *run;
    int               code;
};

static void *wait_long(void *arg)
{
    struct waiter *w = arg;
    int            status;
    w->code = pd_run_wait(w->engine, w->run, -1, &status, NULL);
    return NULL;
}

static void closing_ends_calls_that_wait_and_leaves_handles_to_their_owners(void **state)
{
    struct place     *place = *state;
    struct waiter     w = { .engine = place->engine };
    struct pd_events *events;
    struct pd_error   error;
    const char       *json;
    pthread_t         thread;
    char              run[PD_ID_SIZE];
    int               code;
    start(place->engine, endless, "\"go\"", run);
    w.run = run;
    assert_int_equal(pd_events_open(place->engine, run, NULL, 0, &events, &error), PD_OK);
    assert_int_equal(pthread_create(&thread, NULL, wait_long, &w), 0);
    nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    assert_int_equal(pd_close(place->engine), PD_OK);
    pthread_join(thread, NULL);
    assert_int_equal(w.code, PD_CLOSED);
    while ((code = pd_events_next(events, WAIT_MS, &json, &error)) == PD_OK)
        continue;
    assert_int_equal(code, PD_CLOSED);
    pd_events_close(events);
    place->engine = NULL; /* pd_close accepts it */
}

static void two_engines_in_one_process(void **state)
{
    struct place *here = *state, *there;
    void         *other = NULL;
    char          a[PD_ID_SIZE], b[PD_ID_SIZE];
    struct pd_error error;
    set_up(&other);
    there = other;
    start(here->engine, quick, "\"go\"", a);
    start(there->engine, team, "\"Decide.\"", b);
    assert_int_equal(wait_for(here->engine, a), PD_COMPLETED);
    assert_int_equal(wait_for(there->engine, b), PD_COMPLETED);
    int status;
    assert_int_equal(pd_run_wait(there->engine, a, 0, &status, &error), PD_NOT_FOUND); /* runs of one are none of the other's */
    assert_string_equal(error.reason, "run_not_found");
    assert_int_equal(tear_down(&other), 0);

    struct pd_config  config = PD_CONFIG_INIT;
    struct pd_engine *second = NULL;
    config.data = here->folder;
    assert_int_equal(pd_open(&config, &second, &error), PD_STORAGE); /* but a folder has one engine */
    assert_null(second);
    assert_non_null(strstr(error.message, "in use"));
}

enum { STARTERS = 4, RUNS_EACH = 8 };

static void *start_many(void *arg)
{
    struct pd_engine *engine = arg;
    for (unsigned i = 0; i < RUNS_EACH; i++) {
        char run[PD_ID_SIZE];
        start(engine, i % 2 ? quick : workflow, "{\"topic\":\"threads\"}", run);
        assert_int_equal(wait_for(engine, run), PD_COMPLETED);
    }
    return NULL;
}

static void many_threads_share_an_engine(void **state)
{
    pthread_t threads[STARTERS];
    for (unsigned i = 0; i < STARTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_many, ((struct place *)*state)->engine), 0);
    for (unsigned i = 0; i < STARTERS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- teams ---- */

static void a_trace_alone_gives_the_result_again(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    struct pd_error   error;
    char              run[PD_ID_SIZE], other[PD_ID_SIZE], *trace, *result;
    start(engine, team, "\"Decide.\"", run);
    wait_for(engine, run);
    assert_int_equal(pd_team_trace(engine, run, NULL, &trace, &error), PD_OK);
    assert_non_null(strstr(trace, "\"schemaVersion\":\"1.0\""));
    assert_int_equal(pd_team_replay(trace, &result, &error), PD_OK);
    assert_non_null(strstr(result, "I agree."));
    assert_non_null(strstr(result, "\"accounting\":"));
    pd_free(trace);
    pd_free(result);
    start(engine, quick, "\"go\"", other);
    wait_for(engine, other);
    assert_int_equal(pd_team_trace(engine, other, NULL, &trace, &error), PD_NOT_FOUND);
    assert_int_equal(pd_team_replay("{\"schemaVersion\":\"0.9\"}", &result, &error), PD_INVALID);
    assert_string_equal(error.field, "/schemaVersion");
    assert_int_equal(pd_team_replay("{", &result, &error), PD_INVALID);
}

/* ---- bad input ---- */

static void what_is_wrong_is_named(void **state)
{
    struct pd_engine *engine = ((struct place *)*state)->engine;
    static const struct { const char *definition, *input, *thread, *key, *field; int code; } cases[] = {
        { NULL, NULL, NULL, NULL, "definition", PD_INVALID },
        { "{", NULL, NULL, NULL, "definition", PD_INVALID },
        { "[]", NULL, NULL, NULL, NULL, PD_INVALID },
        { "{\"format\":1,\"agent\":{\"model\":{\"provider\":7}}}", NULL, NULL, NULL, NULL, PD_INVALID },
        { quick, "{\"a\":", NULL, NULL, "input", PD_INVALID },
        { quick, NULL, "nonsense", NULL, "thread", PD_NOT_FOUND },
        { quick, NULL, "00000000-0000-7000-8000-000000000000", NULL, NULL, PD_NOT_FOUND },
        { quick, NULL, NULL, "", "key", PD_INVALID },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pd_run_config config = PD_RUN_CONFIG_INIT;
        struct pd_error      error = { .code = 99 };
        char                 run[PD_ID_SIZE] = "untouched";
        config.definition = cases[i].definition;
        config.input = cases[i].input;
        config.thread = cases[i].thread;
        config.key = cases[i].key;
        assert_int_equal(pd_run_start(engine, &config, run, &error), cases[i].code);
        assert_int_equal(error.code, cases[i].code);
        assert_true(error.message[0] && error.reason[0]);
        if (cases[i].field)
            assert_string_equal(error.field, cases[i].field);
        assert_string_equal(run, "untouched");
    }
    struct pd_run_config none = { .size = 0 };
    char                 run[PD_ID_SIZE], *json;
    struct pd_events    *events;
    int                  status;
    assert_int_equal(pd_run_start(engine, &none, run, NULL), PD_INVALID);
    assert_int_equal(pd_run_get(engine, "nonsense", &json, NULL), PD_NOT_FOUND);
    assert_int_equal(pd_run_get(engine, NULL, &json, NULL), PD_INVALID);
    assert_int_equal(pd_run_wait(engine, "00000000-0000-7000-8000-000000000000", -1, &status, NULL), PD_NOT_FOUND);
    assert_int_equal(pd_events_open(engine, "00000000-0000-7000-8000-000000000000", NULL, 0, &events, NULL), PD_NOT_FOUND);
    assert_int_equal(pd_run_cancel(engine, "00000000-0000-7000-8000-000000000000", NULL, NULL), PD_NOT_FOUND);
    start(engine, quick, "\"go\"", run);
    assert_int_equal(pd_events_open(engine, run, "00000000-0000-7000-8000-000000000000", 0, &events, NULL), PD_NOT_FOUND);
}

static void a_shorter_struct_means_defaults(void **state)
{
    struct pd_engine    *engine = ((struct place *)*state)->engine;
    struct pd_run_config config = PD_RUN_CONFIG_INIT;
    char                 run[PD_ID_SIZE];
    config.definition = question;
    config.input = "not looked at";
    config.size = offsetof(struct pd_run_config, input);
    assert_int_equal(pd_run_start(engine, &config, run, NULL), PD_OK);
    assert_int_equal(wait_for(engine, run), PD_WAITING);
}

struct lines {
    pthread_mutex_t lock;
    unsigned        count;
    bool            newline;
};

static void take_line(int level, const char *line, void *user)
{
    struct lines *lines = user;
    pthread_mutex_lock(&lines->lock);
    lines->count += level >= PD_LOG_DEBUG;
    lines->newline = lines->newline || strchr(line, '\n');
    pthread_mutex_unlock(&lines->lock);
}

static void opening_says_what_is_wrong_and_logs_to_the_caller(void **state)
{
    (void)state;
    struct lines      lines = { .lock = PTHREAD_MUTEX_INITIALIZER };
    struct pd_config  config = PD_CONFIG_INIT;
    struct pd_engine *engine = NULL;
    struct pd_error   error;
    char              folder[] = "/tmp/perdure-embed-XXXXXX", file[64];
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/file", folder);
    fclose(fopen(file, "w"));
    assert_int_equal(pd_open(&config, &engine, &error), PD_INVALID);
    assert_string_equal(error.field, "data");
    assert_int_equal(pd_open(NULL, &engine, &error), PD_INVALID);
    config.data = file;
    assert_int_equal(pd_open(&config, &engine, &error), PD_STORAGE);
    config.data = folder;
    config.config = "{\"nobody\":1}";
    assert_int_equal(pd_open(&config, &engine, &error), PD_INVALID);
    assert_non_null(strstr(error.message, "nobody"));
    config.config = "{\"providers\":{\"x\":{\"kind\":\"none such\"}}}";
    assert_int_equal(pd_open(&config, &engine, &error), PD_INVALID);
    config.config = "{\"prices\":{\"scripted/*\":{\"input\":\"1.00\",\"output\":\"2.00\"}}}";
    config.store = "mysql://nowhere";
    assert_true(pd_open(&config, &engine, &error) < 0);
    assert_null(engine);
    config.store = NULL;
    config.config = NULL;
    config.log = take_line;
    config.log_user = &lines;
    config.log_level = PD_LOG_DEBUG;
    if (pd_open(&config, &engine, &error) != PD_OK)
        die("open", &error);
    char run[PD_ID_SIZE];
    start(engine, quick, "\"go\"", run);
    assert_int_equal(wait_for(engine, run), PD_COMPLETED);
    assert_int_equal(pd_close(engine), PD_OK);
    assert_false(lines.newline);
    remove_folder(folder);
}

static void names_and_versions(void **state)
{
    (void)state;
    assert_non_null(strchr(pd_version(), '.'));
    assert_string_equal(pd_code_name(PD_CLOSED), "PD_CLOSED");
    assert_string_equal(pd_code_name(4711), "PD_INTERNAL");
    assert_null(pd_status_name(-1));
    assert_null(pd_status_name(PD_CANCELLED + 1));
    pd_free(NULL);
    pd_events_close(NULL);
    assert_int_equal(pd_close(NULL), PD_OK);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(an_agent_a_workflow_and_a_team_run_to_their_end),
        WITH(a_run_is_shown_as_over_http),
        WITH(a_key_makes_one_run),
        WITH(a_cancelled_run_ends),
        WITH(a_question_waits_for_an_answer_that_fits),
        WITH(followers_in_other_threads_get_every_event_once),
        WITH(a_ledger_larger_than_the_window_is_read_whole),
        WITH(nothing_new_is_a_timeout),
        WITH(a_run_goes_on_in_the_next_engine),
        WITH(closing_ends_calls_that_wait_and_leaves_handles_to_their_owners),
        WITH(two_engines_in_one_process),
        WITH(many_threads_share_an_engine),
        WITH(a_trace_alone_gives_the_result_again),
        WITH(what_is_wrong_is_named),
        WITH(a_shorter_struct_means_defaults),
        cmocka_unit_test(opening_says_what_is_wrong_and_logs_to_the_caller),
        cmocka_unit_test(names_and_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
