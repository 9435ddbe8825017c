/* SPDX-License-Identifier: Apache-2.0 */
/* node_board.c - the lines of a workflow run; see node_board.h. */
#include "cli/node_board.h"
#include "base/env.h"
#include "model/price.h"
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum { REDRAW_US = 50000 };

static uint64_t now_us(void)
{
    return env_real()->mono_us(env_real());
}

/* ---- nodes ---- */

static int by_id(const void *a, const void *b, void *user)
{
    const struct board_node *nodes = user;
    return span_cmp(nodes[*(const uint32_t *)a].id, nodes[*(const uint32_t *)b].id);
}

void node_board_init(struct node_board *board, const struct cli *cli, struct jv plan, bool quiet)
{
    const char *term = getenv("TERM");
    struct jv   nodes = jv_get(plan, "nodes");
    *board = (struct node_board){ .cli = cli, .quiet = quiet };
    board->live = !quiet && cli->err_tty && term && strcmp(term, "dumb") != 0;
    board->nodes = ARENA_ARRAY(&board->arena, struct board_node, jv_count(nodes) + 1);
    board->by_id = ARENA_ARRAY(&board->arena, uint32_t, jv_count(nodes) + 1);
    for (struct jv_iter it = jv_iter(nodes); jv_step(&it);) {
        struct board_node *node = &board->nodes[board->count];
        node->id = arena_copy(&board->arena, jv_string(jv_get(it.value, "id"), &board->arena));
        node->type = arena_copy(&board->arena, jv_string(jv_get(it.value, "type"), &board->arena));
        node->took_ms = -1;
        board->by_id[board->count] = (uint32_t)board->count;
        board->count++;
    }
    qsort_r(board->by_id, board->count, sizeof *board->by_id, by_id, board->nodes);
}

void node_board_done(struct node_board *board)
{
    node_board_clear(board);
    arena_done(&board->arena);
}

static struct board_node *find(const struct node_board *board, struct span id)
{
    size_t low = 0, high = board->count;
    while (low < high) {
        size_t             middle = (low + high) / 2;
        struct board_node *node = &board->nodes[board->by_id[middle]];
        int                order = span_cmp(id, node->id);
        if (order == 0)
            return node;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

struct board_node node_board_sum(const struct node_board *board)
{
    struct board_node sum = { .took_ms = -1 };
    for (size_t i = 0; i < board->count; i++) {
        sum.tokens += board->nodes[i].tokens;
        sum.pico_usd += board->nodes[i].pico_usd;
    }
    return sum;
}

/* ---- a line ---- */

static const struct {
    const char *word;
    enum paint  paint;
} states[] = {
    [NODE_PENDING] = { "pending", PAINT_DIM },     [NODE_RUNNING] = { "running", PAINT_BLUE },
    [NODE_WAITS] = { "waiting", PAINT_YELLOW },    [NODE_DONE] = { "done", PAINT_GREEN },
    [NODE_FAILED] = { "failed", PAINT_RED },       [NODE_CANCELLED] = { "not run", PAINT_DIM },
};

struct span node_board_figures(const struct board_node *node, struct arena *arena)
{
    int64_t     ms = node->state == NODE_RUNNING ? (int64_t)(now_us() - node->since_us) / 1000 : node->took_ms;
    struct buf  text = { 0 };
    const char *gap = "";
    if (ms >= 0) {
        buf_printf(&text, "%.*s", SPAN_ARG(cli_duration(ms, arena)));
        gap = "  ";
    }
    if (node->items) {
        uint32_t ended = node->done + node->failed;
        buf_printf(&text, "%s%" PRIu32 " item%s", gap, node->done, node->done == 1 ? "" : "s");
        if (node->failed)
            buf_printf(&text, ", %" PRIu32 " failed", node->failed);
        if (node->items > ended)
            buf_printf(&text, ", %" PRIu32 " at work", node->items - ended);
        gap = "  ";
    }
    if (node->tokens) {
        buf_printf(&text, "%s%" PRIu64 " token%s", gap, node->tokens, node->tokens == 1 ? "" : "s");
        gap = "  ";
    }
    if (node->pico_usd) {
        buf_printf(&text, "%s$", gap);
        usd_text(node->pico_usd, &text);
    }
    struct span copy = arena_copy(arena, buf_view(&text));
    buf_done(&text);
    return copy;
}

static void put_line(const struct node_board *board, const struct board_node *node, unsigned id_width, unsigned width)
{
    struct arena arena = { 0 };
    struct span  id = node->id, figures = node_board_figures(node, &arena);
    if (id.n > id_width)
        id.n = id_width;
    fprintf(stderr, "  %s%-8s%s%-*.*s  ", cli_paint(board->cli->err_color, states[node->state].paint), states[node->state].word,
            cli_paint(board->cli->err_color, PAINT_OFF), (int)id_width, (int)id.n, id.p);
    unsigned left = width > id_width + 13 ? width - id_width - 13 : 0;
    if (figures.n > left) /* ASCII */
        figures.n = left;
    fprintf(stderr, "%.*s\n", SPAN_ARG(figures));
    arena_done(&arena);
}

/* ---- on a terminal ---- */

static struct winsize screen(void)
{
    struct winsize size = { 0 };
    if (ioctl(2, TIOCGWINSZ, &size) != 0 || !size.ws_col || !size.ws_row)
        size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
    return size;
}

void node_board_clear(struct node_board *board)
{
    if (board->drawn)
        fprintf(stderr, "\x1b[%zuA\r\x1b[J", board->drawn);
    board->drawn = 0;
    fflush(stderr);
}

static unsigned id_width(const struct node_board *board, unsigned columns)
{
    size_t most = 4;
    for (size_t i = 0; i < board->count; i++)
        most = board->nodes[i].id.n > most ? board->nodes[i].id.n : most;
    return most > columns / 3 ? columns / 3 : (unsigned)most;
}

/* Where not all of them fit: what is at work and what went wrong, and how many the others are. */
static bool shown(const struct board_node *node, bool all)
{
    return all || node->state == NODE_RUNNING || node->state == NODE_WAITS || node->state == NODE_FAILED;
}

static void draw(struct node_board *board, size_t room)
{
    struct winsize size = screen();
    unsigned       width = id_width(board, size.ws_col);
    bool           all = board->count <= room;
    size_t         lines = 0, done = 0;
    for (size_t i = 0; i < board->count; i++) {
        done += board->nodes[i].state >= NODE_DONE;
        if (lines + !all >= room || !shown(&board->nodes[i], all))
            continue;
        put_line(board, &board->nodes[i], width, size.ws_col);
        lines++;
    }
    if (!all) {
        fprintf(stderr, "  %zu of %zu nodes have ended\n", done, board->count);
        lines++;
    }
    board->drawn = lines;
}

void node_board_tick(struct node_board *board)
{
    if (!board->live)
        return;
    struct winsize size = screen();
    node_board_clear(board);
    draw(board, size.ws_row > 3 ? size.ws_row - 2u : 1);
    if (board->note) {
        fprintf(stderr, "  %s%.*s%s\n", cli_paint(board->cli->err_color, PAINT_YELLOW), size.ws_col > 3 ? size.ws_col - 3 : 1,
                board->note, cli_paint(board->cli->err_color, PAINT_OFF));
        board->drawn++;
    }
    fflush(stderr);
    board->drawn_us = now_us();
}

void node_board_end(struct node_board *board)
{
    board->note = NULL;
    for (size_t i = 0; i < board->count; i++)
        if (board->nodes[i].state == NODE_PENDING) /* a way that was not taken */
            board->nodes[i].state = NODE_CANCELLED;
    node_board_tick(board);
    board->drawn = 0;
    board->live = false;
}

/* ---- events ---- */

static void say(struct node_board *board, const struct board_node *node, struct span more)
{
    struct arena arena = { 0 };
    if (!board->live && !board->quiet) {
        struct span figures = node_board_figures(node, &arena);
        bool        ended = node->state >= NODE_DONE;
        fprintf(stderr, "%.*s: %s%s%.*s%s", SPAN_ARG(node->id), states[node->state].word, ended && figures.n ? "  " : "",
                ended ? (int)figures.n : 0, ended ? figures.p : "", more.n ? ": " : "");
        cli_put_safe(stderr, more, true);
        fputc('\n', stderr);
    }
    arena_done(&arena);
}

static void enter(struct node_board *board, struct board_node *node, enum node_state state, struct span more)
{
    if (state == NODE_RUNNING && node->state == NODE_PENDING)
        node->since_us = now_us();
    bool changed = node->state != state;
    node->state = state;
    if (changed)
        say(board, node, more);
}

static void ended(struct node_board *board, struct board_node *node, struct jv payload, enum node_state state, struct arena *arena)
{
    struct jv error = jv_get(payload, "error");
    if (!jv_i64(jv_get(payload, "duration_ms"), &node->took_ms))
        node->took_ms = node->since_us ? (int64_t)(now_us() - node->since_us) / 1000 : -1;
    enter(board, node, state, state == NODE_FAILED ? jv_string(jv_get(error, "message"), arena) : SPAN_NONE);
}

static void spent(struct board_node *node, struct jv payload, struct arena *arena)
{
    int64_t     in = 0, out = 0, pico = 0;
    struct jv   usage = jv_get(payload, "usage");
    struct span cost = jv_string(jv_get(payload, "cost_usd"), arena);
    if (jv_i64(jv_get(usage, "input_tokens"), &in) && in > 0)
        node->tokens += (uint64_t)in;
    if (jv_i64(jv_get(usage, "output_tokens"), &out) && out > 0)
        node->tokens += (uint64_t)out;
    if (cost.n && usd_parse(cost, &pico) == ERR_OK)
        node->pico_usd += pico;
}

static void item_event(struct board_node *node, struct jv event)
{
    struct jv type = jv_get(event, "type"), payload = jv_get(event, "payload");
    int64_t   try_no = 1;
    if (jv_bool(jv_get(payload, "will_retry"), false) || (jv_i64(jv_get(payload, "try_no"), &try_no) && try_no > 1))
        return; /* the same item once more */
    if (jv_str_eq(type, "NODE_STARTED"))
        node->items++;
    else if (jv_str_eq(type, "NODE_FINISHED"))
        node->done++;
    else if (jv_str_eq(type, "NODE_FAILED") || jv_str_eq(type, "NODE_CANCELLED"))
        node->failed++;
}

static void node_event(struct node_board *board, struct board_node *node, struct jv event, struct arena *arena)
{
    struct jv type = jv_get(event, "type"), payload = jv_get(event, "payload");
    bool      goes_on = jv_str_eq(type, "MODEL_STARTED") && node->state == NODE_WAITS;
    if (jv_str_eq(type, "NODE_STARTED") || goes_on)
        enter(board, node, NODE_RUNNING, SPAN_NONE);
    else if (jv_str_eq(type, "NODE_FINISHED"))
        ended(board, node, payload, NODE_DONE, arena);
    else if (jv_str_eq(type, "NODE_FAILED") && !jv_bool(jv_get(payload, "will_retry"), false))
        ended(board, node, payload, NODE_FAILED, arena);
    else if (jv_str_eq(type, "NODE_CANCELLED"))
        ended(board, node, payload, NODE_CANCELLED, arena);
    else if (jv_str_eq(type, "NODE_WAITING"))
        enter(board, node, NODE_WAITS, SPAN_NONE);
}

/* Of "fan:sub:3" the node is "fan". */
void node_board_event(struct node_board *board, struct jv event)
{
    struct arena arena = { 0 };
    struct jv    payload = jv_get(event, "payload");
    struct span  name = jv_string(jv_get(payload, "node"), &arena);
    const char  *colon = name.n ? memchr(name.p, ':', name.n) : NULL;
    struct board_node *node = find(board, colon ? span_make(name.p, (size_t)(colon - name.p)) : name);
    if (node) {
        if (jv_str_eq(jv_get(event, "type"), "MODEL_FINISHED"))
            spent(node, payload, &arena);
        if (colon)
            item_event(node, event);
        else
            node_event(board, node, event, &arena);
        if (now_us() - board->drawn_us > REDRAW_US)
            node_board_tick(board);
    }
    arena_done(&arena);
}
