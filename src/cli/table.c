/* SPDX-License-Identifier: Apache-2.0 */
/* table.c - lays out the human tables. Width is counted in characters, which is right for ids, numbers and most
 * names. */
#include "cli/table.h"
#include "base/utf8.h"
#include <stdlib.h>

static size_t width_of(struct span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += !utf8_is_tail(text.p[i]);
    return n;
}

void grid_init(struct grid *grid, const char *const *heads)
{
    *grid = (struct grid){ 0 };
    for (; heads[grid->columns]; grid->columns++) {
        assert(grid->columns < GRID_COLUMNS);
        grid->right[grid->columns] = heads[grid->columns][0] == '>';
        grid->heads[grid->columns] = heads[grid->columns] + grid->right[grid->columns];
    }
}

void grid_done(struct grid *grid)
{
    free(grid->cells);
}

void grid_put(struct grid *grid, struct span text, enum paint paint)
{
    if (grid->count == grid->cap) {
        grid->cap = grid->cap ? grid->cap * 2 : 64;
        grid->cells = mem_grow(grid->cells, grid->cap * sizeof *grid->cells);
    }
    grid->cells[grid->count++] = (struct grid_cell){ text, paint };
}

static void put_cell(const struct cli *cli, FILE *out, struct span text, enum paint paint, size_t width, bool right,
                     bool last)
{
    size_t have = width_of(text), pad = width > have ? width - have : 0;
    if (right)
        fprintf(out, "%*s", (int)pad, "");
    fputs(paint == PAINT_OFF ? "" : cli_paint(cli->out_color, paint), out);
    cli_put_safe(out, text, true);
    fputs(paint == PAINT_OFF ? "" : cli_paint(cli->out_color, PAINT_OFF), out);
    if (!last)
        fprintf(out, "%*s", right ? 2 : (int)pad + 2, "");
}

void grid_print(const struct grid *grid, const struct cli *cli, FILE *out)
{
    size_t width[GRID_COLUMNS];
    assert(grid->count % grid->columns == 0);
    if (grid->count == 0)
        return;
    for (size_t c = 0; c < grid->columns; c++) {
        width[c] = strlen(grid->heads[c]);
        for (size_t i = c; i < grid->count; i += grid->columns)
            if (width_of(grid->cells[i].text) > width[c])
                width[c] = width_of(grid->cells[i].text);
    }
    for (size_t c = 0; c < grid->columns; c++)
        put_cell(cli, out, span_of(grid->heads[c]), PAINT_DIM, width[c], grid->right[c], c + 1 == grid->columns);
    fputc('\n', out);
    for (size_t i = 0; i < grid->count; i++) {
        size_t c = i % grid->columns;
        bool   last = c + 1 == grid->columns;
        put_cell(cli, out, grid->cells[i].text, grid->cells[i].paint, width[c], grid->right[c], last);
        if (last)
            fputc('\n', out);
    }
}

void field_print(const struct cli *cli, FILE *out, const char *name, struct span value, enum paint paint)
{
    fprintf(out, "%s%-12s%s ", cli_paint(cli->out_color, PAINT_DIM), name, cli_paint(cli->out_color, PAINT_OFF));
    put_cell(cli, out, value, paint, 0, false, true);
    fputc('\n', out);
}
