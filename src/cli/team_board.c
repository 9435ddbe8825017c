/* SPDX-License-Identifier: Apache-2.0 */
/* team_board.c - the live board of a team; see team_board.h. */
#include "cli/team_board.h"
#include "base/env.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum { REDRAW_US = 80000 };

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

void team_board_init(struct team_board *board, const struct cli *cli, bool quiet)
{
    const char *term = getenv("TERM");
    *board = (struct team_board){ .cli = cli, .quiet = quiet, .since_us = now_us() };
    board->live = !quiet && cli->err_tty && term && strcmp(term, "dumb") != 0;
    snprintf(board->state, sizeof board->state, "waiting");
}

/* ---- drawing ---- */

static unsigned columns(void)
{
    struct winsize size;
    return ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void team_board_clear(struct team_board *board)
{
    if (board->drawn)
        fprintf(stderr, "\x1b[%uA\x1b[J", board->drawn);
    board->drawn = 0;
    fflush(stderr);
}

static void put_line(struct team_board *board, enum paint paint, struct span text)
{
    unsigned width = columns();
    if (text.n >= width)
        text.n = utf8_cut(text.p, width - 1);
    fputs(cli_paint(board->cli->err_color, paint), stderr);
    cli_put_safe(stderr, text, true);
    fputs(cli_paint(board->cli->err_color, PAINT_OFF), stderr);
    fputc('\n', stderr);
    board->drawn++;
}

static void put_agent_line(struct team_board *board, const struct team_board_agent *agent, struct arena *arena)
{
    struct span line = arena_printf(arena, "  %-16s %-16s %3" PRIu64 " %s  %s", agent->id, agent->role, agent->turns,
                                    agent->turns == 1 ? "turn " : "turns", agent->doing);
    put_line(board, agent->chunks ? PAINT_GREEN : PAINT_OFF, line);
}

struct span team_board_summary(const struct team_board *board, struct arena *arena)
{
    CLEANUP(buf_done) struct buf text = { 0 };
    buf_printf(&text, "%" PRIu64 " turn%s", board->turns, board->turns == 1 ? "" : "s");
    if (board->round)
        buf_printf(&text, ", %" PRIu64 " round%s", board->round, board->round == 1 ? "" : "s");
    buf_printf(&text, ", %" PRIu64 " tokens, $%.4f", board->tokens, board->usd);
    if (board->stopped[0])
        buf_printf(&text, ", stopped by %s", board->stopped);
    return arena_copy(arena, buf_view(&text));
}

void team_board_tick(struct team_board *board)
{
    CLEANUP(arena_done) struct arena arena = { 0 };
    if (!board->live)
        return;
    size_t shown = board->agent_count < TEAM_BOARD_AGENTS ? board->agent_count : TEAM_BOARD_AGENTS;
    team_board_clear(board);
    for (size_t i = 0; i < shown; i++)
        put_agent_line(board, &board->agents[i], &arena);
    if (board->agent_count > shown)
        put_line(board, PAINT_DIM, arena_printf(&arena, "  and %zu more", board->agent_count - shown));
    struct span elapsed = cli_duration((int64_t)(now_us() - board->since_us) / 1000, &arena);
    struct span summary = team_board_summary(board, &arena);
    put_line(board, PAINT_DIM, arena_printf(&arena, "%s  %.*s  %.*s", board->state, SPAN_ARG(summary), SPAN_ARG(elapsed)));
    fflush(stderr);
    board->drawn_us = now_us();
}

/* ---- events ---- */

static struct team_board_agent *agent_of(struct team_board *board, struct jv event, struct arena *arena)
{
    struct span id = jv_string(jv_get(event, "agentId"), arena);
    size_t      shown = board->agent_count < TEAM_BOARD_AGENTS ? board->agent_count : TEAM_BOARD_AGENTS;
    for (size_t i = 0; i < shown; i++)
        if (span_is(id, board->agents[i].id) || (id.n >= sizeof board->agents[i].id && memcmp(id.p, board->agents[i].id, 47) == 0))
            return &board->agents[i];
    return NULL;
}

static void doing(struct team_board_agent *agent, const char *what, struct span detail)
{
    if (agent)
        snprintf(agent->doing, sizeof agent->doing, "%s%.*s", what, (int)(detail.n < 40 ? detail.n : 40), detail.p ? detail.p : "");
}

static void say(struct team_board *board, const char *what, struct span detail, struct arena *arena)
{
    if (board->quiet || board->live)
        return;
    cli_put_safe(stderr, arena_printf(arena, "%s%.*s", what, SPAN_ARG(detail)), board->cli->err_tty);
    fputc('\n', stderr);
}

static void on_role(struct team_board *board, struct jv event, struct arena *arena)
{
    size_t i = board->agent_count++;
    snprintf(board->state, sizeof board->state, "working");
    if (i >= TEAM_BOARD_AGENTS)
        return;
    snprintf(board->agents[i].id, sizeof board->agents[i].id, "%.*s", SPAN_ARG(jv_string(jv_get(event, "agentId"), arena)));
    snprintf(board->agents[i].role, sizeof board->agents[i].role, "%.*s", SPAN_ARG(jv_string(jv_get(event, "role"), arena)));
}

static void on_chunk(struct team_board *board, struct jv event, struct arena *arena)
{
    struct team_board_agent *agent = agent_of(board, event, arena);
    if (!agent)
        return;
    agent->chunks++;
    snprintf(agent->doing, sizeof agent->doing, "~%" PRIu64 " tokens", agent->chunks);
}

static void on_tool_call(struct team_board *board, struct jv event, struct arena *arena)
{
    struct span name = jv_string(jv_get(jv_get(event, "tool"), "id"), arena);
    doing(agent_of(board, event, arena), "tool ", name);
    say(board, "  tool ", name, arena);
}

static void on_turn(struct team_board *board, struct jv event, struct arena *arena)
{
    struct team_board_agent *agent = agent_of(board, event, arena);
    struct jv                decision = jv_get(event, "decision");
    struct span              id = jv_string(jv_get(event, "agentId"), arena);
    bool                     abstains = jv_str_eq(jv_get(decision, "participation"), "abstain");
    board->turns++;
    if (agent) {
        agent->turns++;
        agent->chunks = 0;
    }
    doing(agent, abstains ? "abstains" : "has spoken", SPAN_NONE);
    say(board, "turn ", arena_printf(arena, "%" PRIu64 ": %.*s%s", board->turns, SPAN_ARG(id), abstains ? " abstains" : ""), arena);
}

static void on_broadcast(struct team_board *board, struct jv event, struct arena *arena)
{
    int64_t round = 0;
    jv_i64(jv_get(event, "round"), &round);
    board->round = (uint64_t)round;
    say(board, "round ", arena_printf(arena, "%lld is complete", (long long)round), arena);
}

static void on_stop(struct team_board *board, struct jv event, struct arena *arena)
{
    struct span reason = jv_string(jv_get(event, "reason"), arena);
    snprintf(board->stopped, sizeof board->stopped, "budget:%.*s", SPAN_ARG(reason));
    say(board, "stopped by budget:", reason, arena);
}

static void on_final(struct team_board *board, struct jv event, struct arena *arena)
{
    struct span reason = jv_string(jv_get(jv_get(event, "termination"), "normalizedReason"), arena);
    snprintf(board->state, sizeof board->state, "completed");
    if (reason.n)
        snprintf(board->stopped, sizeof board->stopped, "%.*s", SPAN_ARG(reason));
}

static void on_error(struct team_board *board, struct jv event, struct arena *arena)
{
    (void)arena, (void)event;
    snprintf(board->state, sizeof board->state, "failed");
}

static void take_cost(struct team_board *board, struct jv cost)
{
    double tokens = 0;
    if (jv_is(cost, JSON_NONE))
        return;
    jv_f64(jv_get(cost, "usd"), &board->usd);
    if (jv_f64(jv_get(cost, "totalTokens"), &tokens) && tokens >= 0)
        board->tokens = (uint64_t)tokens;
}

void team_board_event(struct team_board *board, struct jv event)
{
    static const struct {
        const char *type;
        void (*show)(struct team_board *board, struct jv event, struct arena *arena);
    } table[] = {
        { "model-output-chunk", on_chunk }, { "role-assignment", on_role }, { "tool-call", on_tool_call },
        { "agent-turn", on_turn },          { "broadcast", on_broadcast },  { "budget-stop", on_stop },
        { "final", on_final },              { "error", on_error },
    };
    CLEANUP(arena_done) struct arena arena = { 0 };
    struct jv type = jv_get(event, "type");
    take_cost(board, jv_get(event, "cost"));
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (jv_str_eq(type, table[i].type))
            table[i].show(board, event, &arena);
    if (!jv_str_eq(type, "model-output-chunk") || now_us() - board->drawn_us > REDRAW_US)
        team_board_tick(board);
}
