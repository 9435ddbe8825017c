/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - the surfaces: from HTTP to the engine and back. One port for all of them (model.md 10). */
#pragma once
#include "net/http_server.h"
#include "run/engine.h"

struct api;

struct api_config {
    struct engine *engine;
    bool           dev;               /* well-known credentials, no rate limits (design.md "serve --dev") */
    uint32_t       rate_per_minute;   /* requests per token [600]; 0: off */
    uint32_t       rate_burst;        /* [120] */
    uint32_t       max_streams;       /* open streams per token [64]; 0: off */
    uint64_t       max_body;          /* [4 MiB] */
    uint64_t       max_batch_body;    /* [16 MiB] */
    uint64_t       max_stream_body;   /* Durable Streams [16 MiB] */
    uint64_t       stream_chunk;      /* bytes of one catch-up answer [1 MiB] */
    uint32_t       long_poll_ms;      /* [20000] */
    uint32_t       live_age_ms;       /* an SSE answer of Durable Streams ends after this long +-10 % [60000] */
    const char    *token_path;        /* where the root token is written on first start, mode 0600 */
    const char    *cors_origin;       /* NULL: no CORS headers */
    const char    *version;
};

/* Makes tenant, workspace and root token when the store is empty; loads the credentials. */
enum err api_new(const struct api_config *config, struct api **ret, struct error *error);
void     api_free(struct api *api);
/* The first tenant and its first workspace: those that a process which embeds the engine works in. */
void     api_home(const struct api *api, struct uuid *ret_tenant, struct uuid *ret_workspace);
/* For http_server_new. */
struct http_handler api_handler(struct api *api);
void     api_set_server(struct api *api, struct http_server *server); /* for its figures in /metrics */
