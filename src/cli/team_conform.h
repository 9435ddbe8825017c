/* SPDX-License-Identifier: Apache-2.0 */
/* team_conform.h - scenario and vector files of the teams contract, held against the engine (teams.md 17, 18). */
#pragma once
#include "base/json.h"

struct conform {
    size_t passed, failed;
    /* Once per case; `difference` is NULL when it passed, else where the first difference is and what it is. */
    void (*each)(void *user, struct span name, const char *difference);
    void  *user;
};

/* Runs every *.scenario.json of the folder, the vector files (format team-vectors-1) in it, in its folder vectors and beside it,
 * and the scenarios in its folder scenarios. ERR_NOT_FOUND when there is nothing to run. */
enum err conform_folder(const char *path, struct conform *conform, struct error *error);
/* One scenario with its expected file. */
void conform_scenario(struct span name, struct jv scenario, struct jv expected, struct conform *conform);
/* One vector file. */
void conform_vectors(struct jv file, struct conform *conform);

/* Appends "at /a/0/b: expected X, got Y" to `out` for the first place where the values differ; false when there is none.
 * Members of the expected object `skip` names at the top are passed over (may be NULL). */
bool conform_differs(struct jv expected, struct jv actual, struct buf *pointer, struct buf *out);
