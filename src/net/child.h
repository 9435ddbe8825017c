/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - a child process whose standard streams are on the loop (MCP servers over stdio).
 *
 * The child leads a process group of its own, so that what it starts ends with it, and dies with this process. It inherits no
 * descriptor and only the environment that it is given. Everything runs on the loop's thread. */
#pragma once
#include "net/loop.h"

struct child_process;

struct child_config {
    const char *const *argv; /* argv[0] is looked up in PATH; NULL-terminated; only used during the start */
    const char *const *env;  /* "NAME=value", NULL-terminated */
    const char        *folder; /* to run in; NULL: this process's */
    size_t             max_unsent; /* bytes that may wait for the child to read them */
    void (*on_out)(void *user, struct span data); /* bytes of its standard output, as they come */
    void (*on_err)(void *user, struct span data); /* the same of its standard error */
    /* Exactly once, last, unless child_stop was called: it closed its output or ended. The child is gone and freed when this
     * returns. `how` is a text like "ended with status 3". */
    void (*on_end)(void *user, const char *how);
    void *user;
};
/* ERR_IO when it cannot be started: the message says why ("npx: No such file or directory"). */
enum err child_start(struct loop *loop, const struct child_config *config, struct child_process **ret, struct error *error);
/* Copies what the pipe does not take now. ERR_TOO_LARGE when more than max_unsent would wait: nothing of it is sent then. A
 * failing pipe is not told here; on_end follows. */
enum err child_write(struct child_process *child, struct span data);
/* Closes its input, waits up to patience_ms, then ends its whole group: SIGTERM, the same wait, SIGKILL. Returns when it is gone.
 * No callback any more. Accepts NULL; not from inside on_out and on_err. */
void child_stop(struct child_process *child, unsigned patience_ms);
