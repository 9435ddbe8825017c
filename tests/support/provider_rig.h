/* SPDX-License-Identifier: Apache-2.0 */
/* provider_rig.h - calls of a model provider against tests/wire/provider-server.mjs, on a real loop.
 *
 * The server is started once per test program, as a child on a port of its own; the name of the model says how it behaves. */
#pragma once
#include "unit/unit.h"
#include "model/model.h"
#include <sys/types.h>

#define RIG_KEY   "sk-very-secret-0123456789" /* what the configured key is */
#define RIG_HELLO "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}"

struct rig_server {
    pid_t pid;
    int   port;
};

/* Group setup and teardown of cmocka; *state is the struct rig_server. */
int rig_server_start(void **state);
int rig_server_stop(void **state);
/* The body of a GET, read without a loop; a NUL behind it. */
void rig_get(const struct rig_server *server, const char *path, struct buf *ret_body);
/* The newest request: {"path", "headers", "body", …}. */
struct jv rig_last_request(const struct rig_server *server, struct arena *arena);
/* Waits until the newest request for the model was closed by us. */
void rig_saw_the_close(const struct rig_server *server, const char *model);

/* A loop with the provider "local" of one kind. */
struct wire_rig {
    const struct rig_server *server;
    struct loop             *loop;
    struct http_client      *client;
    struct models           *models;
    struct arena             arena;
};
/* `more`: further members of the provider, with a comma in front. */
struct wire_rig wire_open(const struct rig_server *server, const char *kind, const char *more);
void       wire_close(struct wire_rig *rig);

struct heard {
    struct wire_rig        *rig;
    struct model_call *call;
    struct buf         text, reasoning, arguments, result; /* NUL-terminated behind wire_run */
    unsigned           chunks, cancel_after, stop_after;   /* after so many chunks; 0: never */
    bool               ended;
    enum err           err;
    struct loop_timer  timer; /* the test's patience */
};
void rig_start(struct wire_rig *rig, struct heard *heard, const char *model, const char *request);
/* Starts the call and runs the loop until it has ended, or was cancelled or stopped by its own chunk. */
void wire_run(struct wire_rig *rig, struct heard *heard, const char *model, const char *request);
void heard_done(struct heard *heard);

/* One call and what must come of it. A result that ends in * is a beginning. */
struct rig_answer {
    const char *model, *text, *reasoning, *arguments, *result;
    enum err    err;
};
/* All over one client, so that kept connections are used again behind well and badly ended answers alike. */
void rig_check_answers(const struct rig_server *server, const char *kind, const char *more, const struct rig_answer *answers,
                       size_t count);
/* What is the same whatever is spoken: cut and split streams, wrong types, every status, silence, size, cancellation.
 * `whole`: the result of the model "plain". */
void rig_check_wire(const struct rig_server *server, const char *kind, const char *more, const char *whole);
/* The body of the request that goes out for `request`, compared as JSON with `want`. */
void rig_check_body(struct wire_rig *rig, const char *request, const char *want);
/* The request is refused before it leaves, and the error names `field`. */
void rig_check_refused(struct wire_rig *rig, const char *request, const char *field);

#define RIG_FAILED(code, category, message, retryable, rest) \
    "{\"code\":\"" code "\",\"category\":\"" category "\",\"message\":\"" message "\",\"retryable\":" retryable \
    ",\"source\":\"provider\"" rest "}"
/* tokens as text: input, cache read, cache write, output, reasoning, and the three totals */
#define RIG_USAGE(i, r, w, o, t, in, out, total) \
    ",\"usage\":{\"input_tokens\":" in ",\"output_tokens\":" out ",\"total_tokens\":" total ",\"buckets\":{\"input\":" i \
    ",\"cache_read\":" r ",\"cache_write\":" w ",\"output\":" o ",\"reasoning\":" t "}}"
