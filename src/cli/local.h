/* SPDX-License-Identifier: Apache-2.0 */
/* local.h - a server of this command's own, for `perdure run` where none is there.
 *
 * It is this very program as a child: `perdure serve --listen 127.0.0.1:0 --data DIR`. It ends with the command
 * (also when that is killed), and what it did lasts in DIR. */
#pragma once
#include "base/err.h"
#include <sys/types.h>

struct local {
    pid_t pid;       /* 0: none */
    int   out;       /* the child's stdout, kept open */
    char  url[128];  /* "http://127.0.0.1:PORT" */
};

/* Returns when the server is ready. On failure nothing is left running, and what the child said last was copied to
 * stderr. */
enum err local_start(const char *data, const char *config, struct local *ret, struct error *error);
/* Asks it to drain and waits; after 15 s it is killed, which loses nothing that was committed. Accepts an empty
 * struct. */
void     local_stop(struct local *local);
