/* SPDX-License-Identifier: Apache-2.0 */
/* flow_watch.c - follows a run of a workflow, over the agent-runs surface for people (it tells of items and money) and over the
 * workflow surface for programs. When a node waits for its client, that is us: a question goes to the terminal, a tool's result
 * is looked up in what the caller gave. */
#include "cli/flow_watch.h"
#include "base/env.h"
#include "cli/follow.h"
#include "cli/node_board.h"
#include "cli/watch.h"
#include <poll.h>
#include <stdlib.h>

enum { TICK_MS = 250, SILENCE_MS = 60000, PATIENCE_US = 300 * 1000 * 1000, LINE_MAX_BYTES = 32 << 20 };

enum last { LAST_NONE, LAST_FINISHED, LAST_FAILED, LAST_CANCELLED, LAST_WAITING };

/* How often a tool's results were used. */
struct used {
    struct used *next;
    struct span  tool;
    size_t       count;
};

struct session {
    const struct flow_watch *watch;
    struct node_board        board;
    struct arena             arena;      /* as long as the watch */
    struct watch_signals     signals;
    uint64_t                 deadline_us;
    uint64_t                 next_seq;
    const char              *attempt_id, *next_attempt;
    enum last                last;
    bool                     superseded; /* failed, but another attempt follows */
    struct used             *used;
    struct buf               line;       /* of the event lines, what has come of the next one */
};

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

static const char *text_of(struct jv v, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? arena_copy(arena, text).p : NULL;
}

static int ask(struct session *s, const struct web_request *request, struct jv *ret, int *ret_status)
{
    return cli_ask(s->watch->cli, s->watch->command, s->watch->web, request, &s->arena, ret, ret_status);
}

static int get_run(struct session *s, struct jv *ret)
{
    struct web_request request = { .path = path_make(&s->arena, "/v1/api/runs/%s", s->watch->run_id) };
    return ask(s, &request, ret, NULL);
}

/* ---- ends that are none ---- */

static void put_hint(struct session *s, const char *how)
{
    const struct flow_watch *w = s->watch;
    node_board_clear(&s->board);
    if (w->local_data)
        fprintf(stderr, "%s The run %s is kept in %s and goes on with: perdure serve --data %s\n", how, w->run_id, w->local_data,
                w->local_data);
    else
        fprintf(stderr, "%s The run %s goes on; watch it again: perdure runs follow %s\n", how, w->run_id, w->run_id);
}

static int waiting_hint(struct session *s, struct span node, struct span tool, struct span arguments)
{
    const struct flow_watch *w = s->watch;
    struct span              question = jv_string(jv_get(json_read(arguments, &s->arena), "question"), &s->arena);
    bool                     person = span_is(tool, "user_ask");
    node_board_clear(&s->board);
    if (person)
        fprintf(stderr, "%.*s asks a person, and nobody answers here: ", SPAN_ARG(node));
    else
        fprintf(stderr, "%.*s wants its client to run the tool %.*s: ", SPAN_ARG(node), SPAN_ARG(tool));
    cli_put_safe(stderr, person && question.n ? question : arguments, true);
    fprintf(stderr, "\nThe run %s waits. %s can be given with --tool-results FILE, {\"%.*s\": …}, when it is started, or submitted now\n"
                    "to /api/v1/runs/%s/tool-results.\n", w->run_id, person ? "Answers" : "Results", SPAN_ARG(tool), w->run_id);
    if (w->local_data)
        fprintf(stderr, "It is kept in %s; start a server there first: perdure serve --data %s\n", w->local_data, w->local_data);
    return EXIT_WAITING;
}

static int interrupted(struct session *s)
{
    put_hint(s, "Stopped watching.");
    return EXIT_INTERRUPTED;
}

/* ---- what the run wants of us ---- */

/* The next result that was given for this tool, or absent. */
static struct jv given_result(struct session *s, struct span tool)
{
    struct jv    given = jv_get_span(s->watch->results, tool);
    struct used *used = s->used;
    if (!jv_is(given, JSON_ARRAY))
        return given;
    while (used && !span_eq(used->tool, tool))
        used = used->next;
    if (!used) {
        used = ARENA_NEW(&s->arena, struct used);
        *used = (struct used){ s->used, arena_copy(&s->arena, tool), 0 };
        s->used = used;
    }
    return used->count < jv_count(given) ? jv_at(given, used->count++) : (struct jv){ 0 };
}

/* A number chooses an option; the words of one are that option. False: nothing of the kind, and nothing else is allowed. */
static bool fit_option(struct jv question, struct span typed, struct arena *arena, struct span *ret, bool *ret_free)
{
    struct jv options = jv_get(question, "options");
    size_t    number = (size_t)strtoul(typed.p, NULL, 10), at = 0;
    for (struct jv_iter it = jv_iter(options); jv_step(&it);) {
        struct span label = jv_string(jv_get(it.value, "label"), arena);
        if (++at == number || span_eq(label, typed)) {
            *ret = label;
            *ret_free = false;
            return true;
        }
    }
    *ret = typed;
    *ret_free = true;
    return jv_count(options) == 0 || jv_bool(jv_get(question, "allow_freeform"), true);
}

static void print_question(struct jv question, struct arena *arena)
{
    size_t at = 0;
    cli_put_safe(stderr, jv_string(jv_get(question, "question"), arena), true);
    fputc('\n', stderr);
    for (struct jv_iter it = jv_iter(jv_get(question, "options")); jv_step(&it);) {
        struct span more = jv_string(jv_get(it.value, "description"), arena);
        fprintf(stderr, "  %zu  ", ++at);
        cli_put_safe(stderr, jv_string(jv_get(it.value, "label"), arena), true);
        fputs(more.n ? ": " : "", stderr);
        cli_put_safe(stderr, more, true);
        fputc('\n', stderr);
    }
}

/* What user_ask returns. */
static struct span answer_output(struct session *s, struct span answer, bool is_free)
{
    struct buf text = { 0 };
    struct jw  w = jw_on(&text);
    jw_obj(&w);
    jw_key(&w, "answer");
    jw_str(&w, answer);
    jw_key(&w, "is_freeform");
    jw_bool(&w, is_free);
    jw_end(&w);
    struct span copy = arena_copy(&s->arena, buf_view(&text));
    buf_done(&text);
    return copy;
}

/* -1: *ret is the output of user_ask; else the exit code. */
static int ask_person(struct session *s, struct span node, struct span arguments, struct span *ret)
{
    struct jv   question = json_read(arguments, &s->arena);
    char       *line = NULL;
    size_t      cap = 0;
    bool        signal = false, is_free = true;
    struct span answer = SPAN_NONE;
    node_board_clear(&s->board);
    print_question(question, &s->arena);
    do {
        fputs("answer (an empty line leaves it waiting): ", stderr);
        if (!watch_read_line(s->signals.fd, &line, &cap, &signal) || !line[0]) {
            free(line);
            fputc('\n', stderr);
            return signal ? interrupted(s) : waiting_hint(s, node, SPAN("user_ask"), arguments);
        }
    } while (!fit_option(question, span_of(line), &s->arena, &answer, &is_free));
    *ret = answer_output(s, answer, is_free);
    free(line);
    return -1;
}

/* Text as it is, the answer to a question in its form, anything else as JSON. -1: *ret is the output. */
static int result_of(struct session *s, struct span node, struct jv call, struct span *ret)
{
    const struct cli *cli = s->watch->cli;
    struct span tool = jv_string(jv_get(call, "name"), &s->arena), arguments = jv_string(jv_get(call, "arguments"), &s->arena);
    struct jv   given = given_result(s, tool);
    if (jv_is(given, JSON_STRING) && span_is(tool, "user_ask")) {
        *ret = answer_output(s, jv_string(given, &s->arena), false);
        return -1;
    }
    if (!jv_is(given, JSON_NONE)) {
        *ret = jv_is(given, JSON_STRING) ? jv_string(given, &s->arena) : jv_raw(given);
        return -1;
    }
    if (span_is(tool, "user_ask") && cli->in_tty && cli->err_tty)
        return ask_person(s, node, arguments, ret);
    return waiting_hint(s, node, tool, arguments);
}

/* {node_id, step, request_id, results} of one waiting node. -1: go on. */
static int put_results(struct session *s, struct jv waiting, struct buf *body)
{
    struct span node = jv_string(jv_get(waiting, "node_id"), &s->arena);
    struct jw   w = jw_on(body);
    int         code = -1;
    jw_obj(&w);
    for (size_t i = 0; i < 3; i++) {
        static const char *const same[] = { "node_id", "step", "request_id" };
        jw_key(&w, same[i]);
        jw_raw(&w, jv_raw(jv_get(waiting, same[i])));
    }
    jw_key(&w, "results");
    jw_arr(&w);
    for (struct jv_iter it = jv_iter(jv_get(waiting, "tool_calls")); code < 0 && jv_step(&it);) {
        struct jv   call = jv_get(it.value, "tool_call");
        struct span output = SPAN_NONE;
        code = result_of(s, node, call, &output);
        jw_obj(&w);
        jw_key(&w, "tool_call");
        jw_obj(&w);
        jw_key(&w, "id");
        jw_raw(&w, jv_raw(jv_get(call, "id")));
        jw_key(&w, "name");
        jw_raw(&w, jv_raw(jv_get(call, "name")));
        jw_end(&w);
        jw_key(&w, "output");
        jw_str(&w, output);
        jw_end(&w);
    }
    jw_arr_end(&w);
    jw_end(&w);
    return code;
}

/* -1: go on following. */
static int answer_pending(struct session *s)
{
    struct web_request list = { .path = path_make(&s->arena, "/api/v1/runs/%s/pending-tools", s->watch->run_id) };
    struct jv          answer;
    int                code = ask(s, &list, &answer, NULL);
    if (code)
        return code;
    code = -1;
    for (struct jv_iter it = jv_iter(jv_get(answer, "pending")); code < 0 && jv_step(&it);) {
        struct buf body = { 0 };
        int        status = 0;
        code = put_results(s, it.value, &body);
        struct web_request submit = { .path = path_make(&s->arena, "/api/v1/runs/%s/tool-results", s->watch->run_id),
                                      .body = buf_view(&body) };
        if (code < 0)
            code = ask(s, &submit, NULL, &status);
        if (code == EXIT_OK || status == 409) /* somebody else was faster */
            code = -1;
        buf_done(&body);
    }
    return code;
}

/* ---- for people ---- */

static bool on_event(void *user, struct span text, struct jv event)
{
    struct session *s = user;
    struct jv       type = jv_get(event, "type"), payload = jv_get(event, "payload");
    (void)text;
    node_board_event(&s->board, event);
    s->last = jv_str_eq(type, "RUN_FINISHED")    ? LAST_FINISHED
              : jv_str_eq(type, "RUN_FAILED")    ? LAST_FAILED
              : jv_str_eq(type, "RUN_CANCELLED") ? LAST_CANCELLED
              : jv_str_eq(type, "NODE_WAITING") && jv_str_eq(jv_get(payload, "reason"), "tool_results") ? LAST_WAITING
                                                                                                        : LAST_NONE;
    if (s->last == LAST_FAILED) {
        s->superseded = !jv_bool(jv_get(payload, "final"), true);
        s->next_attempt = text_of(jv_get(payload, "next_attempt_id"), &s->arena);
    }
    return s->last != LAST_WAITING;
}

static void on_note(void *user, enum follow_note note, const char *why, uint32_t retry_ms)
{
    struct session *s = user;
    bool            before = s->board.note != NULL;
    (void)retry_ms;
    s->board.note = note == FOLLOW_CUT ? "connection lost; trying again" : NULL;
    if (!s->board.live && !s->board.quiet && before != (s->board.note != NULL))
        fprintf(stderr, "%s%s\n", note == FOLLOW_CUT ? "connection lost, trying again: " : "connected again",
                note == FOLLOW_CUT ? why : "");
    node_board_tick(&s->board);
}

static void on_tick(void *user)
{
    struct session *s = user;
    node_board_tick(&s->board);
}

static void print_end(struct session *s, const char *word, enum paint paint, struct jv run)
{
    const struct cli *cli = s->watch->cli;
    struct board_node sum = node_board_sum(&s->board);
    (void)jv_i64(jv_get(run, "duration_ms"), &sum.took_ms);
    fprintf(stderr, "%s%s%s  %.*s  %srun %s%s\n", cli_paint(cli->err_color, paint), word, cli_paint(cli->err_color, PAINT_OFF),
            SPAN_ARG(node_board_figures(&sum, &s->arena)), cli_paint(cli->err_color, PAINT_DIM), s->watch->run_id,
            cli_paint(cli->err_color, PAINT_OFF));
}

static int finish(struct session *s)
{
    static const struct {
        const char *word;
        enum paint  paint;
        int         code;
    } ends[] = { [LAST_FINISHED] = { "completed", PAINT_GREEN, EXIT_OK },
                 [LAST_FAILED] = { "failed", PAINT_RED, EXIT_FAILED },
                 [LAST_CANCELLED] = { "cancelled", PAINT_YELLOW, EXIT_CANCELLED } };
    const struct flow_watch *w = s->watch;
    struct jv                run;
    node_board_end(&s->board);
    int code = get_run(s, &run);
    if (code)
        return code;
    if (w->form == FLOW_PEOPLE)
        print_end(s, ends[s->last].word, ends[s->last].paint, run);
    if (s->last == LAST_FINISHED)
        cli_put_json(stdout, jv_get(run, "output"), w->form != FLOW_JSON && w->cli->out_tty);
    else
        watch_print_error(w->cli, stderr, jv_get(run, "error"));
    fflush(stdout);
    return ends[s->last].code;
}

/* Behind the end of an attempt. -1: go on with the next. */
static int next_attempt(struct session *s)
{
    struct jv run;
    if (!s->next_attempt) {
        int code = get_run(s, &run);
        if (code)
            return code;
        s->next_attempt = text_of(jv_get(run, "current_attempt_id"), &s->arena);
    }
    if (!s->next_attempt || strcmp(s->next_attempt, s->attempt_id) == 0)
        return finish(s);
    s->attempt_id = s->next_attempt;
    s->next_attempt = NULL;
    s->next_seq = 0;
    return -1;
}

static int over_time(struct session *s)
{
    put_hint(s, "The time is over.");
    return EXIT_TIMED_OUT;
}

static int after(struct session *s, enum follow_end end, const struct error *error)
{
    switch (end) {
    case FOLLOW_TERMINAL: return s->last == LAST_FAILED && s->superseded ? next_attempt(s) : finish(s);
    case FOLLOW_STOPPED:  return answer_pending(s);
    case FOLLOW_SIGNAL:   return interrupted(s);
    case FOLLOW_DEADLINE: return over_time(s);
    case FOLLOW_AUTH:
    case FOLLOW_REFUSED:
    case FOLLOW_LOST:     break;
    }
    node_board_clear(&s->board);
    return cli_fail(s->watch->cli, s->watch->command, end == FOLLOW_AUTH ? EXIT_AUTH : EXIT_SERVER, "%s", error->message);
}

static int watch_people(struct session *s)
{
    struct jv run;
    int       code = get_run(s, &run);
    if (code)
        return code;
    s->attempt_id = text_of(jv_get(run, "current_attempt_id"), &s->arena);
    for (code = -1; code < 0;) {
        struct follow follow = { .run_id = s->watch->run_id, .attempt_id = s->attempt_id, .next_seq = s->next_seq,
                                 .deadline_us = s->deadline_us, .wake_fd = s->signals.fd, .on_event = on_event, .on_note = on_note,
                                 .tick_ms = s->board.live ? TICK_MS : 0, .on_tick = on_tick, .user = s };
        enum follow_end end = follow_attempt(s->watch->web, &follow);
        s->next_seq = follow.next_seq;
        code = after(s, end, &follow.error);
    }
    return code;
}

/* ---- for programs: the lines of the workflow surface ---- */

/* False: nothing more is wanted. */
static bool take_line(struct session *s, struct span line)
{
    struct arena arena = { 0 };
    struct jv    event = json_read(line, &arena), type = jv_get(event, "type");
    int64_t      seq = 0;
    if (jv_i64(jv_get(event, "seq"), &seq))
        s->next_seq = (uint64_t)seq;
    fwrite(line.p, 1, line.n, stdout);
    fputc('\n', stdout);
    fflush(stdout);
    bool timed_out = jv_str_eq(jv_get(jv_get(event, "error"), "code"), "RUN_TIMEOUT");
    s->last = jv_str_eq(type, "run_completed")                ? LAST_FINISHED
              : jv_str_eq(type, "run_failed")                 ? LAST_FAILED
              : jv_str_eq(type, "run_canceled") && timed_out  ? LAST_FAILED
              : jv_str_eq(type, "run_canceled")               ? LAST_CANCELLED
              : jv_str_eq(type, "node_waiting")               ? LAST_WAITING
                                                              : LAST_NONE;
    arena_done(&arena);
    return s->last == LAST_NONE;
}

/* Whole lines only; a blank one says that the server is there. */
static bool on_bytes(void *user, struct span data)
{
    struct session *s = user;
    while (data.n) {
        const char *end = memchr(data.p, '\n', data.n);
        size_t      n = end ? (size_t)(end - data.p) : data.n;
        if (s->line.len + n > LINE_MAX_BYTES)
            return false;
        buf_put(&s->line, data.p, n);
        if (!end)
            break;
        data = span_make(end + 1, data.n - n - 1);
        bool more = !s->line.len || take_line(s, buf_view(&s->line));
        s->line.len = 0;
        if (!more)
            return false;
    }
    return true;
}

static bool on_open(void *user)
{
    struct session *s = user;
    s->line.len = 0; /* half a line of a lost connection */
    return true;
}

static bool pause_ms(struct session *s, uint32_t ms)
{
    struct pollfd wake = { .fd = s->signals.fd, .events = POLLIN };
    return poll(&wake, 1, (int)ms) == 0;
}

/* -1: go on; after the pause that a lost connection wants. */
static int after_lines(struct session *s, enum web_end end, const struct web_stream *stream, unsigned *tries, uint64_t *contact)
{
    static const int codes[] = { [LAST_FINISHED] = EXIT_OK, [LAST_FAILED] = EXIT_FAILED, [LAST_CANCELLED] = EXIT_CANCELLED };
    if (end == WEB_WOKEN)
        return interrupted(s);
    if (end == WEB_DEADLINE)
        return over_time(s);
    if (s->last == LAST_WAITING) {
        s->last = LAST_NONE;
        return answer_pending(s);
    }
    if (s->last != LAST_NONE)
        return codes[s->last];
    bool final = stream->status >= 400 && stream->status < 500 && stream->status != 408 && stream->status != 429;
    if (stream->status == 200) {
        *tries = 0;
        *contact = now_us();
    }
    if (final || now_us() - *contact > PATIENCE_US)
        return cli_fail(s->watch->cli, s->watch->command, EXIT_SERVER, "%s", stream->error.message);
    return pause_ms(s, follow_delay_ms(++*tries, end == WEB_REFUSED, 0)) ? -1 : interrupted(s);
}

static int watch_lines(struct session *s)
{
    unsigned tries = 0;
    uint64_t contact = now_us();
    int      code = -1;
    while (code < 0) {
        struct arena      arena = { 0 };
        const char       *path = path_make(&arena, "/api/v1/runs/%s/events", s->watch->run_id);
        const char       *after = arena_printf(&arena, "%llu", (unsigned long long)s->next_seq).p;
        struct web_stream stream = { .path = path_query(&arena, path, "after_seq", after), .accept = "application/x-ndjson",
                                     .idle_ms = SILENCE_MS, .deadline_us = s->deadline_us, .wake_fd = s->signals.fd,
                                     .on_open = on_open, .on_data = on_bytes, .user = s };
        enum web_end end = web_follow(s->watch->web, &stream);
        code = after_lines(s, end, &stream, &tries, &contact);
        arena_done(&arena);
    }
    return code;
}

int flow_watch(const struct flow_watch *watch)
{
    struct session s = { .watch = watch };
    watch_signals_begin(&s.signals);
    if (watch->timeout_ms)
        s.deadline_us = now_us() + (uint64_t)watch->timeout_ms * 1000;
    node_board_init(&s.board, watch->cli, watch->plan, watch->form != FLOW_PEOPLE);
    int code = watch->form == FLOW_NDJSON ? watch_lines(&s) : watch_people(&s);
    node_board_done(&s.board);
    buf_done(&s.line);
    watch_signals_end(&s.signals);
    arena_done(&s.arena);
    return code;
}
