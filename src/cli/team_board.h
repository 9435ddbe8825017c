/* SPDX-License-Identifier: Apache-2.0 */
/* team_board.h - shows a team while it works: who speaks, rounds, tokens, cost, and why it stopped.
 *
 * On a terminal a block of lines on stderr, one per agent, is drawn again and again in the same place; elsewhere each turn is a
 * line. Fed with the contract's events (teams.md 3). */
#pragma once
#include "cli/commands.h"

enum { TEAM_BOARD_AGENTS = 32 }; /* more are counted, not listed */

struct team_board_agent {
    char     id[48], role[48], doing[64];
    uint64_t turns, chunks;
};

struct team_board {
    const struct cli *cli;
    bool              live, quiet;
    unsigned          drawn;       /* lines on the screen */
    uint64_t          since_us, drawn_us;
    struct team_board_agent agents[TEAM_BOARD_AGENTS];
    size_t            agent_count; /* all of them */
    uint64_t          turns, round, tokens;
    double            usd;
    char              state[32], stopped[64];
};

void team_board_init(struct team_board *board, const struct cli *cli, bool quiet);
void team_board_event(struct team_board *board, struct jv event);
void team_board_tick(struct team_board *board);
void team_board_clear(struct team_board *board);
/* "12 turns, 2 rounds, 3412 tokens, $0.0123, stopped by budget:cost" */
struct span team_board_summary(const struct team_board *board, struct arena *arena);
