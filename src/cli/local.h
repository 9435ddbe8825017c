/* SPDX-License-Identifier: Apache-2.0 */
/* local.h - a server of this command's own, for `perdure run` where none is there.
 *
 * It is this very program as a child: `perdure serve --listen 127.0.0.1:0 --data DIR`. It ends with the command
 * (also when that is killed), and what it did lasts in DIR. */
#pragma once
#include "cli/commands.h"
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

/* Opens the connection that `options` describe; where no server was named and nobody listens, one is started in *local and
 * *ret_data names its folder (else NULL). `stays`: the command needs a server that outlives it, so none is started. Prints and
 * returns an exit code when there is none. */
struct local_want {
    const char               *command, *config;
    const struct web_options *options;
    bool                      stays, quiet;
};
int local_connect(const struct cli *cli, const struct local_want *want, struct web **web, struct local *local, const char **ret_data);
