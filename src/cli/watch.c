/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - watches a run: follows its attempts one after the other, asks the person at the terminal when the run
 * does, prints the output, and turns the end into an exit code.
 *
 * Ctrl-C arrives through a descriptor and not through a handler: the transfer under way ends between two events, the
 * screen is left clean and there is nothing global. Watching never changes a run. */
#include "cli/watch.h"
#include "base/env.h"
#include "cli/follow.h"
#include "cli/progress.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { TICK_MS = 250, ANSWER_TRIES = 20 };

enum last { LAST_NONE, LAST_FINISHED, LAST_FAILED, LAST_CANCELLED, LAST_PROMPT };

struct session {
    const struct watch *watch;
    struct board        board;
    struct arena        arena;      /* for ids and the run, as long as the watch */
    const char         *attempt_id;
    uint64_t            next_seq;
    uint64_t            deadline_us;
    struct watch_signals signals;
    enum last           last;       /* the last event that decides something */
    bool                superseded; /* RUN_FAILED, but another attempt follows */
    const char         *next_attempt;
    const char         *prompt_checkpoint; /* of the newest HUMAN_PROMPT */
    bool                prompt_approves;   /* it wants {"approved": boolean} */
};

/* ---- the run itself ---- */

static int get_run(struct session *s, struct jv *ret)
{
    const struct watch *w = s->watch;
    struct web_request  request = { .path = path_make(&s->arena, "/v1/api/runs/%s", w->run_id) };
    return cli_ask(w->cli, w->command, w->web, &request, &s->arena, ret, NULL);
}

static const char *text_of(struct jv v, struct arena *arena)
{
    struct span text = jv_string(v, arena);
    return text.n ? arena_copy(arena, text).p : NULL;
}

/* ---- events ---- */

static enum last last_of(struct jv event)
{
    static const struct {
        const char *type;
        enum last   last;
    } table[] = { { "RUN_FINISHED", LAST_FINISHED }, { "RUN_FAILED", LAST_FAILED }, { "RUN_CANCELLED", LAST_CANCELLED },
                  { "HUMAN_PROMPT", LAST_PROMPT } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (jv_str_eq(jv_get(event, "type"), table[i].type))
            return table[i].last;
    return LAST_NONE;
}

static void take_prompt(struct session *s, struct jv payload)
{
    s->prompt_checkpoint = text_of(jv_get(payload, "checkpoint_id"), &s->arena);
    s->prompt_approves = jv_str_eq(jv_get(payload, "kind"), "approval");
}

static bool on_event(void *user, struct span text, struct jv event)
{
    struct session *s = user;
    s->last = last_of(event);
    if (s->watch->json) {
        fwrite(text.p, 1, text.n, stdout);
        fputc('\n', stdout);
        fflush(stdout);
    } else {
        board_event(&s->board, event);
    }
    if (s->last == LAST_FAILED) {
        struct jv payload = jv_get(event, "payload");
        s->superseded = !jv_bool(jv_get(payload, "final"), true);
        s->next_attempt = text_of(jv_get(payload, "next_attempt_id"), &s->arena);
    }
    if (s->last == LAST_PROMPT)
        take_prompt(s, jv_get(event, "payload"));
    return !(s->last == LAST_PROMPT && s->watch->leave_when_waiting);
}

static void on_note(void *user, enum follow_note note, const char *why, uint32_t retry_ms)
{
    struct session *s = user;
    if (s->watch->quiet)
        return;
    if (note == FOLLOW_CONNECTED) {
        board_state(&s->board, "running");
        board_say(&s->board, PAINT_DIM, "connected again");
    } else if (strcmp(s->board.state, "reconnecting") != 0) { /* once per outage */
        board_state(&s->board, "reconnecting");
        board_say(&s->board, PAINT_YELLOW, "connection lost: %s; trying again", why);
    }
}

static void on_tick(void *user)
{
    struct session *s = user;
    board_tick(&s->board);
}

/* ---- a person is needed ---- */

bool watch_read_line(int signal_fd, char **line, size_t *cap, bool *ret_signal)
{
    struct pollfd fds[] = { { .fd = 0, .events = POLLIN }, { .fd = signal_fd, .events = POLLIN } };
    while (poll(fds, 2, -1) <= 0)
        ;
    *ret_signal = fds[1].revents != 0;
    ssize_t n = *ret_signal ? -1 : getline(line, cap, stdin);
    if (n > 0 && (*line)[n - 1] == '\n')
        (*line)[--n] = 0;
    return n >= 0;
}

/* What was typed is JSON when it reads as JSON, otherwise it is the string itself. */
static void put_answer(struct buf *body, struct span typed, struct jv run, struct arena *arena)
{
    struct json_limits limits = { .depth = 60 };
    struct json        doc;
    struct jw          w = jw_on(body);
    jw_obj(&w);
    jw_key(&w, "input");
    if (json_parse(typed, &limits, arena, &doc, NULL) == ERR_OK)
        jw_raw(&w, typed);
    else
        jw_str(&w, typed);
    if (jv_is(jv_get(run, "checkpoint_id"), JSON_STRING)) {
        jw_key(&w, "checkpoint_id"); /* so that the answer cannot hit a later question */
        jw_raw(&w, jv_raw(jv_get(run, "checkpoint_id")));
    }
    jw_end(&w);
}

/* To a tool that wants approval. */
static struct span yes_or_no(struct span typed)
{
    static const struct { const char *word, *answer; } words[] = {
        { "y", "{\"approved\":true}" }, { "yes", "{\"approved\":true}" }, { "n", "{\"approved\":false}" }, { "no", "{\"approved\":false}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (span_is(typed, words[i].word))
            return span_of(words[i].answer);
    return typed;
}

/* true: the question is settled, by us or by somebody else; false: ask again. */
static bool send_answer(struct session *s, struct span typed, struct jv run, int *ret_code)
{
    typed = s->prompt_approves ? yes_or_no(typed) : typed;
    const struct watch *w = s->watch;
    struct buf          body = { 0 };
    int                 status = 0;
    put_answer(&body, typed, run, &s->arena);
    struct web_request request = { .method = "POST", .path = path_make(&s->arena, "/v1/api/runs/%s/resume", w->run_id),
                                   .body = buf_view(&body) };
    *ret_code = cli_ask(w->cli, w->command, w->web, &request, &s->arena, NULL, &status);
    buf_done(&body);
    if (status == 409) /* the message was printed; the run goes on with the other answer */
        *ret_code = EXIT_OK;
    return status != 422;
}

static int waiting_hint(struct session *s)
{
    const struct watch *w = s->watch;
    board_clear(&s->board);
    fprintf(stderr, "The run waits for a person. Answer with: perdure runs resume %s --input JSON\n", w->run_id);
    if (w->local_data)
        fprintf(stderr, "It is kept in %s; start a server there first: perdure serve --data %s\n", w->local_data,
                w->local_data);
    return EXIT_WAITING;
}

static int interrupted_hint(struct session *s)
{
    const struct watch *w = s->watch;
    board_clear(&s->board);
    if (w->local_data)
        fprintf(stderr, "\nStopped watching. The run is kept in %s and goes on with: perdure serve --data %s\n",
                w->local_data, w->local_data);
    else
        fprintf(stderr, "\nStopped watching; the run goes on. Watch it again: perdure runs follow %s\n", w->run_id);
    return EXIT_INTERRUPTED;
}

/* EXIT_OK: go on following. */
static int ask_person(struct session *s, struct jv run)
{
    char  *line = NULL;
    size_t cap = 0;
    int    code = EXIT_OK;
    bool   signal = false, settled = false;
    board_clear(&s->board);
    if (s->watch->quiet) {
        cli_put_safe(stderr, cli_text(jv_get(run, "human_prompt"), &s->arena), true);
        fputc('\n', stderr);
    }
    for (unsigned n = 0; n < ANSWER_TRIES && !settled; n++) {
        fprintf(stderr, "answer (%s; an empty line leaves it waiting): ", s->prompt_approves ? "yes, no, or JSON" : "text or JSON");
        if (!watch_read_line(s->signals.fd, &line, &cap, &signal) || !line[0]) {
            fputc('\n', stderr);
            code = signal ? interrupted_hint(s) : waiting_hint(s);
            break;
        }
        settled = send_answer(s, span_of(line), run, &code);
    }
    free(line);
    return code;
}

/* The prompt may be an old one that was answered long ago: the run says. EXIT_OK: go on following. */
static int on_pause(struct session *s)
{
    struct jv run;
    int       code = get_run(s, &run);
    if (code || !jv_str_eq(jv_get(run, "status"), "waiting_for_human"))
        return code;
    /* Another checkpoint: this prompt is history, and the one that is open comes further down the ledger. */
    const char *open = text_of(jv_get(run, "checkpoint_id"), &s->arena);
    if (open && s->prompt_checkpoint && strcmp(open, s->prompt_checkpoint) != 0)
        return EXIT_OK;
    const struct cli *cli = s->watch->cli;
    return cli->in_tty && cli->err_tty && !s->watch->json ? ask_person(s, run) : waiting_hint(s);
}

/* ---- the end ---- */

void watch_print_error(const struct cli *cli, FILE *out, struct jv error)
{
    struct arena arena = { 0 };
    if (jv_is(error, JSON_OBJECT)) {
        cli_put_safe(out, cli_text(jv_get(error, "code"), &arena), true);
        fputs(": ", out);
        cli_put_safe(out, cli_text(jv_get(error, "message"), &arena), true);
        if (jv_is(jv_get(error, "node"), JSON_STRING)) {
            fputs(" (node ", out);
            cli_put_safe(out, cli_text(jv_get(error, "node"), &arena), true);
            fputc(')', out);
        }
    } else {
        cli_put_safe(out, cli_text(error, &arena), true);
    }
    fputc('\n', out);
    arena_done(&arena);
}

/* A model's answer is text: it was shown while it came, and is not shown twice. */
static void print_output(struct session *s, struct jv output)
{
    const struct cli *cli = s->watch->cli;
    struct span       text = jv_string(jv_is(output, JSON_OBJECT) ? jv_get(output, "text") : output, &s->arena);
    if (jv_is(output, JSON_NONE) || board_has_shown(&s->board, text))
        return;
    if (jv_is(output, JSON_STRING) && cli->out_tty) {
        cli_put_safe(stdout, text, true);
        fputc('\n', stdout);
    } else {
        cli_put_json(stdout, output, cli->out_tty);
    }
    fflush(stdout);
}

static void print_end(struct session *s, const char *word, enum paint paint, struct jv run)
{
    const struct cli *cli = s->watch->cli;
    int64_t           ms = -1;
    if (s->watch->quiet)
        return;
    fprintf(stderr, "%s%s%s", cli_paint(cli->err_color, paint), word, cli_paint(cli->err_color, PAINT_OFF));
    if (jv_i64(jv_get(run, "duration_ms"), &ms))
        fprintf(stderr, " after %.*s", SPAN_ARG(cli_duration(ms, &s->arena)));
    if (s->board.output_tokens)
        fprintf(stderr, ", %llu tokens", (unsigned long long)(s->board.input_tokens + s->board.output_tokens));
    fprintf(stderr, "  %srun %s%s\n", cli_paint(cli->err_color, PAINT_DIM), s->watch->run_id,
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
    struct jv run;
    int       code = ends[s->last].code;
    if (s->watch->json)
        return code;
    board_clear(&s->board);
    s->board.live = false;
    int asked = get_run(s, &run);
    if (asked)
        return asked;
    if (s->last == LAST_FINISHED)
        print_output(s, jv_get(run, "output"));
    print_end(s, ends[s->last].word, ends[s->last].paint, run);
    if (s->last == LAST_FAILED)
        watch_print_error(s->watch->cli, stderr, jv_get(run, "error"));
    return code;
}

/* Where an attempt ended that was not the last one. -1: go on with the next. */
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
    if (!s->watch->json && !s->watch->quiet)
        board_say(&s->board, PAINT_YELLOW, "the attempt failed; another one begins");
    s->attempt_id = s->next_attempt;
    s->next_attempt = NULL;
    s->next_seq = 0;
    return -1;
}

/* ---- the loop ---- */

static int after(struct session *s, enum follow_end end, const struct error *error)
{
    const struct watch *w = s->watch;
    switch (end) {
    case FOLLOW_TERMINAL:
        return s->last == LAST_FAILED && s->superseded ? next_attempt(s) : finish(s);
    case FOLLOW_STOPPED: {
        int code = on_pause(s);
        return code == EXIT_OK ? -1 : code;
    }
    case FOLLOW_SIGNAL:
        return interrupted_hint(s);
    case FOLLOW_DEADLINE:
        board_clear(&s->board);
        return cli_fail(w->cli, w->command, EXIT_TIMED_OUT, "the time is over; the run goes on: perdure runs follow %s",
                        w->run_id);
    case FOLLOW_AUTH:
        board_clear(&s->board);
        return cli_fail(w->cli, w->command, EXIT_AUTH, "%s", error->message);
    case FOLLOW_REFUSED:
    case FOLLOW_LOST:
        break;
    }
    board_clear(&s->board);
    return cli_fail(w->cli, w->command, EXIT_SERVER, "%s", error->message);
}

static int watch_attempts(struct session *s)
{
    for (;;) {
        struct follow follow = { .run_id = s->watch->run_id,
                                 .attempt_id = s->attempt_id,
                                 .next_seq = s->next_seq,
                                 .deadline_us = s->deadline_us,
                                 .wake_fd = s->signals.fd,
                                 .on_event = on_event,
                                 .on_note = on_note,
                                 .tick_ms = s->board.live ? TICK_MS : 0,
                                 .on_tick = on_tick,
                                 .user = s };
        enum follow_end end = follow_attempt(s->watch->web, &follow);
        s->next_seq = follow.next_seq;
        int code = after(s, end, &follow.error);
        if (code >= 0)
            return code;
    }
}

static int begin(struct session *s)
{
    struct jv run;
    if (s->watch->attempt_id) {
        s->attempt_id = s->watch->attempt_id;
        return EXIT_OK;
    }
    int code = get_run(s, &run);
    if (code)
        return code;
    s->attempt_id = text_of(jv_get(run, "current_attempt_id"), &s->arena);
    if (!s->attempt_id)
        return cli_fail(s->watch->cli, s->watch->command, EXIT_SERVER, "the server's answer has no current_attempt_id");
    return EXIT_OK;
}

void watch_signals_begin(struct watch_signals *signals)
{
    sigemptyset(&signals->set);
    sigaddset(&signals->set, SIGINT);
    sigaddset(&signals->set, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals->set, &signals->old);
    signals->fd = signalfd(-1, &signals->set, SFD_CLOEXEC);
}

void watch_signals_end(struct watch_signals *signals)
{
    struct timespec now = { 0 };
    while (sigtimedwait(&signals->set, NULL, &now) > 0) /* the signal that ended the watch is dealt with */
        ;
    close(signals->fd);
    sigprocmask(SIG_SETMASK, &signals->old, NULL);
}

int watch_run(const struct watch *watch)
{
    struct session s = { .watch = watch, .next_seq = watch->from };
    watch_signals_begin(&s.signals);
    if (watch->timeout_ms)
        s.deadline_us = env_real()->mono_us(env_real()) + (uint64_t)watch->timeout_ms * 1000;
    board_init(&s.board, watch->cli, watch->quiet || watch->json);
    s.board.live = s.board.live && !watch->json && !watch->quiet;
    int code = begin(&s);
    if (code == EXIT_OK)
        code = watch_attempts(&s);
    board_done(&s.board);
    arena_done(&s.arena);
    watch_signals_end(&s.signals);
    return code;
}
