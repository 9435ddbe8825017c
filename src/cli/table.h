/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - columns for people: as wide as they must be, the last one unpadded.
 *
 * Cells are spans that live as long as the table is used. Control characters are shown as '?'. */
#pragma once
#include "cli/commands.h"

enum { GRID_COLUMNS = 8 };

struct grid_cell {
    struct span text;
    enum paint  paint; /* PAINT_OFF: plain */
};

struct grid {
    size_t            columns, count, cap; /* cells */
    const char       *heads[GRID_COLUMNS];
    bool              right[GRID_COLUMNS]; /* numbers */
    struct grid_cell *cells;
};

/* `heads`: NULL-terminated; a leading '>' aligns the column to the right. */
void grid_init(struct grid *grid, const char *const *heads);
void grid_done(struct grid *grid);
void grid_put(struct grid *grid, struct span text, enum paint paint); /* the next cell, row by row */
/* With a header line; nothing at all when there are no rows. */
void grid_print(const struct grid *grid, const struct cli *cli, FILE *out);

/* "name:   value" lines of one thing. */
void field_print(const struct cli *cli, FILE *out, const char *name, struct span value, enum paint paint);
