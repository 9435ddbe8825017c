/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - shows a run while it happens.
 *
 * Text of the model goes to stdout as it comes. On a terminal one status line is kept below it (state, node, tokens,
 * elapsed); where stdout or stderr is no terminal, steps are plain lines on stderr instead. */
#pragma once
#include "cli/commands.h"

struct board {
    const struct cli *cli;
    bool              live;      /* draw the status line */
    bool              quiet;     /* no text, no steps: only what board_say is given */
    bool              drawn;     /* the status line is on the screen */
    bool              open_line; /* the text on stdout does not end with a newline */
    bool              overflow;  /* `streamed` does not hold everything */
    unsigned          column;    /* of the cursor behind the text; only meaningful on a terminal */
    uint64_t          since_us, drawn_us;
    uint64_t          deltas, input_tokens, output_tokens;
    char              state[32], node[64], shown_node[64];
    struct buf        streamed;  /* text of the model call that streamed last */
};

void board_init(struct board *board, const struct cli *cli, bool quiet);
void board_done(struct board *board);
void board_state(struct board *board, const char *state);
void board_event(struct board *board, struct jv event);
void board_tick(struct board *board);  /* redraws the status line */
void board_clear(struct board *board); /* takes it away and closes an open line of text */
/* A line of its own on stderr, above the status line. */
void board_say(struct board *board, enum paint paint, const char *format, ...) PRINTF(3, 4);
/* Has exactly this text just been streamed? Then it need not be printed again. */
bool board_has_shown(const struct board *board, struct span text);
