/* SPDX-License-Identifier: Apache-2.0 */
/* node_board.h - a workflow run while it happens: a line per node with its state, time, items of a fan-out, tokens and cost.
 *
 * On a terminal the lines stand still and change; otherwise a line comes when a node starts, waits or ends. All of it goes to
 * stderr. It is a fold over the events of the agent-runs surface (agent-runs.md 4), which tell of items and of money. */
#pragma once
#include "cli/commands.h"

enum node_state { NODE_PENDING, NODE_RUNNING, NODE_WAITS, NODE_DONE, NODE_FAILED, NODE_CANCELLED };

struct board_node {
    struct span     id, type;
    enum node_state state;
    uint64_t        since_us;          /* of the state NODE_RUNNING */
    int64_t         took_ms;           /* -1: not known */
    uint32_t        items, done, failed; /* of a fan-out: begun, and how they ended */
    uint64_t        tokens;
    int64_t         pico_usd;          /* 0: free, or nobody knows */
};

struct node_board {
    const struct cli  *cli;
    bool               live, quiet;
    struct arena       arena;
    struct board_node *nodes;          /* in the order of the plan */
    uint32_t          *by_id;
    size_t             count, drawn;   /* nodes; lines that are on the screen */
    uint64_t           drawn_us;
    const char        *note;           /* below the nodes: what is the matter; NULL: nothing */
};

/* `plan` is compiled (kind workflow.v1); its texts are copied. */
void node_board_init(struct node_board *board, const struct cli *cli, struct jv plan, bool quiet);
void node_board_done(struct node_board *board);
void node_board_event(struct node_board *board, struct jv event);
void node_board_tick(struct node_board *board);  /* draws anew */
void node_board_clear(struct node_board *board); /* takes the lines away, before anything else is printed */
void node_board_end(struct node_board *board);   /* the last drawing stays */
/* Tokens and money of all nodes. */
struct board_node node_board_sum(const struct node_board *board);
/* "2.1 s  12 items  568 tokens  $0.0012": what is known of them. */
struct span node_board_figures(const struct board_node *node, struct arena *arena);
