/* SPDX-License-Identifier: Apache-2.0 */
/* agents.h - agent files and agent names: what `agents apply` and `run` have in common. */
#pragma once
#include "cli/commands.h"

struct applied {
    const char *agent_id, *name; /* in the arena */
    const char *result;          /* "created", "updated", "unchanged" */
    int64_t     version_no;      /* of the live version; 0 when the server does not say */
};

/* The file (or stdin for "-"), JSON or YAML. Prints what is wrong and returns the exit code. */
int agent_file_read(const struct cli *cli, const char *command, const char *path, struct arena *arena, struct jv *ret);

/* Makes the server's agent equal to what was read from `path`, an agent or a definition alone, which has the file's
 * name: created when no agent has the name; a new version is published only when the definition differs by value from
 * the live one. Prints what is wrong and returns the exit code. */
int agent_apply(const struct cli *cli, const char *command, struct web *web, const char *path, struct jv file, struct arena *arena,
                struct applied *ret);

/* The active agent of that name, or absent. Prints and returns the exit code when the server cannot be asked. */
int agent_by_name(const struct cli *cli, const char *command, struct web *web, const char *name, struct arena *arena,
                  struct jv *ret);
/* By id when it looks like one, else by name; an unknown one is printed with advice. */
int agent_find(const struct cli *cli, const char *command, struct web *web, const char *name_or_id, struct arena *arena,
               struct jv *ret);

/* The RFC 7396 patch that turns `from` into `to`; false when they are equal by value and nothing was written. */
bool merge_patch_between(struct jv from, struct jv to, struct buf *out);
