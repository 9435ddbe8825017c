/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - the live board; see progress.h.
 *
 * The status line sits on the line below the cursor. It is drawn by making sure that there is such a line (IND
 * scrolls without touching the column), saving the cursor, writing, restoring; and removed by erasing everything
 * behind the cursor. Between two drawings the cursor is where the text ended, so text and status never need to know
 * each other. Only when text has just filled a line to its last column is the drawing put off: the terminal then
 * holds a wrap back that cursor movements would lose. */
#include "cli/progress.h"
#include "base/env.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

enum {
    STREAMED_MAX = 4 << 20,
    REDRAW_US = 50000, /* text may come in thousands of pieces a second */
};

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

void board_init(struct board *board, const struct cli *cli, bool quiet)
{
    const char *term = getenv("TERM");
    *board = (struct board){ .cli = cli, .quiet = quiet, .since_us = now_us() };
    board->live = cli->out_tty && cli->err_tty && term && strcmp(term, "dumb") != 0;
    board_state(board, "queued");
}

void board_done(struct board *board)
{
    board_clear(board);
    buf_done(&board->streamed);
}

/* ---- the status line ---- */

static unsigned columns(void)
{
    struct winsize size;
    return ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void erase(struct board *board)
{
    if (board->drawn)
        fputs("\x1b[J", stderr);
    board->drawn = false;
    fflush(stderr);
}

/* "running  draft  ~41 tokens  3.2 s", cut to the width of the terminal. */
static struct span status_text(const struct board *board, struct arena *arena)
{
    struct span elapsed = cli_duration((int64_t)(now_us() - board->since_us) / 1000, arena);
    struct buf  text = { 0 };
    buf_printf(&text, "%s", board->state);
    if (board->node[0])
        buf_printf(&text, "  %s", board->node);
    if (board->output_tokens)
        buf_printf(&text, "  %" PRIu64 " tokens", board->input_tokens + board->output_tokens);
    else if (board->deltas) /* a piece is about a token; the exact number comes at the end of the call */
        buf_printf(&text, "  ~%" PRIu64 " tokens", board->deltas);
    buf_printf(&text, "  %.*s", SPAN_ARG(elapsed));
    struct span copy = arena_copy(arena, buf_view(&text));
    buf_done(&text);
    unsigned width = columns();
    if (copy.n >= width)
        copy.n = utf8_cut(copy.p, width - 1);
    return copy;
}

void board_tick(struct board *board)
{
    if (!board->live || board->column >= columns())
        return;
    struct arena arena = { 0 };
    fflush(stdout);
    fputs("\x1b" "D\x1b[A\x1b" "7\x1b[B\r\x1b[2K", stderr);
    fputs(cli_paint(board->cli->err_color, PAINT_DIM), stderr);
    cli_put_safe(stderr, status_text(board, &arena), true);
    fputs(cli_paint(board->cli->err_color, PAINT_OFF), stderr);
    fputs("\x1b" "8", stderr);
    fflush(stderr);
    board->drawn = true;
    board->drawn_us = now_us();
    arena_done(&arena);
}

void board_clear(struct board *board)
{
    erase(board);
    if (board->open_line) {
        fputc('\n', stdout);
        board->open_line = false;
        board->column = 0;
    }
    fflush(stdout);
}

void board_state(struct board *board, const char *state)
{
    snprintf(board->state, sizeof board->state, "%s", state);
}

void board_say(struct board *board, enum paint paint, const char *format, ...)
{
    char    text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    board_clear(board);
    fputs(cli_paint(board->cli->err_color, paint), stderr);
    cli_put_safe(stderr, span_of(text), board->cli->err_tty);
    fprintf(stderr, "%s\n", cli_paint(board->cli->err_color, PAINT_OFF));
    board_tick(board);
}

/* Steps are worth a line only where there is no status line. */
static void step(struct board *board, const char *format, ...) PRINTF(2, 3);
static void step(struct board *board, const char *format, ...)
{
    char    text[1024];
    va_list args;
    if (board->live || board->quiet)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    board_say(board, PAINT_DIM, "%s", text);
}

/* ---- text ---- */

/* Where the cursor is after `text`; good enough for tabs and wide characters, and only used to know when a line is
 * full. */
static unsigned advance(unsigned column, struct span text, unsigned width)
{
    for (size_t i = 0; i < text.n;) {
        uint32_t cp = '?';
        unsigned n = utf8_decode(text.p + i, text.p + text.n, false, &cp);
        int      w = cp == '\t' ? (int)(8 - column % 8) : wcwidth((wchar_t)cp);
        i += n ? n : 1;
        if (cp == '\n')
            column = 0;
        else if (w > 0)
            column = column + (unsigned)w > width ? (unsigned)w : column + (unsigned)w;
    }
    return column;
}

static void put_text(struct board *board, struct span text)
{
    erase(board);
    cli_put_safe(stdout, text, board->cli->out_tty);
    fflush(stdout);
    board->column = advance(board->column, text, columns());
    board->open_line = text.p[text.n - 1] != '\n';
}

static void keep_text(struct board *board, struct span text)
{
    if (board->streamed.len + text.n > STREAMED_MAX)
        board->overflow = true;
    else
        buf_span(&board->streamed, text);
}

/* Another node begins to talk: its words start on their own line, on a terminal under its name. */
static void change_speaker(struct board *board)
{
    bool first = !board->shown_node[0];
    if (strcmp(board->node, board->shown_node) == 0)
        return;
    snprintf(board->shown_node, sizeof board->shown_node, "%s", board->node);
    if (!first)
        board_clear(board);
    if (!first && board->live)
        board_say(board, PAINT_DIM, "%s:", board->node);
}

static void on_delta(struct board *board, struct jv payload, struct arena *arena)
{
    struct span text = jv_string(jv_get(payload, "delta"), arena);
    bool        thought = jv_str_eq(jv_get(payload, "kind"), "reasoning");
    board->deltas++;
    board_state(board, thought ? "thinking" : "running");
    if (!text.n || jv_is(jv_get(payload, "kind"), JSON_STRING)) /* thoughts, arguments of tools: no part of the answer */
        return;
    keep_text(board, text);
    if (board->quiet)
        return;
    change_speaker(board);
    put_text(board, text);
}

bool board_has_shown(const struct board *board, struct span text)
{
    return !board->quiet && !board->overflow && text.n > 0 && span_eq(text, buf_view(&board->streamed));
}

/* ---- events ---- */

static void forget_text(struct board *board)
{
    board->streamed.len = 0;
    board->overflow = false;
}

static void on_started(struct board *board, struct jv payload, struct arena *arena)
{
    board_state(board, "running");
}

static void on_node_started(struct board *board, struct jv payload, struct arena *arena)
{
    forget_text(board);
    step(board, "%s: started", board->node);
}

static void on_node_finished(struct board *board, struct jv payload, struct arena *arena)
{
    int64_t ms = 0;
    if (jv_i64(jv_get(payload, "duration_ms"), &ms))
        step(board, "%s: finished after %.*s", board->node, SPAN_ARG(cli_duration(ms, arena)));
    else
        step(board, "%s: finished", board->node);
}

static void on_node_failed(struct board *board, struct jv payload, struct arena *arena)
{
    struct jv   error = jv_get(payload, "error");
    struct span message = cli_text(jv_get(error, "message"), arena);
    if (!board->quiet)
        board_say(board, PAINT_YELLOW, "%s: failed: %.*s%s", board->node, SPAN_ARG(message),
                  jv_bool(jv_get(payload, "will_retry"), false) ? "; trying again" : "");
}

static void on_model_started(struct board *board, struct jv payload, struct arena *arena)
{
    forget_text(board);
}

/* What the call had said does not count when another one takes its place. */
static void on_model_failed(struct board *board, struct jv payload, struct arena *arena)
{
    struct span message = cli_text(jv_get(jv_get(payload, "error"), "message"), arena);
    if (!board->quiet && jv_bool(jv_get(payload, "will_retry"), false))
        board_say(board, PAINT_YELLOW, "%s: the model failed: %.*s; asking again", board->node[0] ? board->node : "run",
                  SPAN_ARG(message));
}

static void on_budget(struct board *board, struct jv payload, struct arena *arena)
{
    struct span cap = cli_text(jv_get(payload, "cap"), arena);
    if (!board->quiet)
        board_say(board, PAINT_YELLOW, "%s: the budget of %.*s is used up", board->node[0] ? board->node : "run", SPAN_ARG(cap));
}

static void on_model_finished(struct board *board, struct jv payload, struct arena *arena)
{
    int64_t   in = 0, out = 0;
    struct jv usage = jv_get(payload, "usage");
    if (jv_i64(jv_get(usage, "input_tokens"), &in) && in > 0)
        board->input_tokens += (uint64_t)in;
    if (jv_i64(jv_get(usage, "output_tokens"), &out) && out > 0)
        board->output_tokens += (uint64_t)out;
}

static void on_tool(struct board *board, struct jv payload, struct arena *arena)
{
    struct span tool = cli_text(jv_get(payload, "tool"), arena);
    if (!board->quiet)
        board_say(board, PAINT_DIM, "%s: tool %.*s", board->node[0] ? board->node : "run", SPAN_ARG(tool));
}

static void on_tool_failed(struct board *board, struct jv payload, struct arena *arena)
{
    struct span message = cli_text(jv_get(jv_get(payload, "error"), "message"), arena);
    if (!board->quiet)
        board_say(board, PAINT_YELLOW, "%s: tool failed: %.*s", board->node[0] ? board->node : "run",
                  SPAN_ARG(message));
}

static void on_prompt(struct board *board, struct jv payload, struct arena *arena)
{
    board_state(board, "waiting for a person");
    if (!board->quiet)
        board_say(board, PAINT_YELLOW, "asks: %.*s", SPAN_ARG(cli_text(jv_get(payload, "prompt"), arena)));
    struct jv arguments = jv_get(jv_get(payload, "details"), "arguments"); /* what it is that is to be approved */
    if (!board->quiet && !jv_is(arguments, JSON_NONE))
        board_say(board, PAINT_YELLOW, "      with %.*s", SPAN_ARG(jv_raw(arguments)));
}

static void on_resumed(struct board *board, struct jv payload, struct arena *arena)
{
    board_state(board, "running");
    step(board, "resumed");
}

static void on_end(struct board *board, struct jv payload, struct arena *arena)
{
    board_state(board, "ended");
}

void board_event(struct board *board, struct jv event)
{
    static const struct {
        const char *type;
        void (*show)(struct board *board, struct jv payload, struct arena *arena);
    } table[] = {
        { "MODEL_DELTA", on_delta },
        { "RUN_STARTED", on_started },
        { "NODE_STARTED", on_node_started },
        { "NODE_FINISHED", on_node_finished },
        { "NODE_FAILED", on_node_failed },
        { "MODEL_STARTED", on_model_started },
        { "MODEL_FINISHED", on_model_finished },
        { "MODEL_FAILED", on_model_failed },
        { "BUDGET_REACHED", on_budget },
        { "TOOL_CALL_STARTED", on_tool },
        { "TOOL_CALL_FAILED", on_tool_failed },
        { "HUMAN_PROMPT", on_prompt },
        { "RUN_RESUMED", on_resumed },
        { "RUN_FINISHED", on_end },
        { "RUN_FAILED", on_end },
        { "RUN_CANCELLED", on_end },
    };
    struct arena arena = { 0 };
    struct jv    payload = jv_get(event, "payload");
    struct span  node = jv_string(jv_get(payload, "node"), &arena);
    if (node.n)
        snprintf(board->node, sizeof board->node, "%.*s", SPAN_ARG(node));
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (jv_str_eq(jv_get(event, "type"), table[i].type))
            table[i].show(board, payload, &arena);
    if (!board->quiet && (!jv_str_eq(jv_get(event, "type"), "MODEL_DELTA") || now_us() - board->drawn_us > REDRAW_US))
        board_tick(board);
    arena_done(&arena);
}
