/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h - an engine put together from its parts, for `perdure serve` and for libperdure alike. */
#pragma once
#include "api/api.h"
#include "embed/config.h"

struct parts_config {
    const char          *data;     /* the data folder */
    const char          *store;    /* URL; NULL: sqlite in the data folder */
    const struct config *config;   /* lives as long as the parts */
    struct log          *log;      /* likewise; is told what to keep out of its lines */
    struct ledger_config ledger;   /* store and env are filled in */
    int64_t              retention_ms;     /* 0: never */
    uint32_t             thread_queue_max;
    struct api_config    api;      /* engine, token_path and version are filled in */
};

struct parts {
    struct log          *log;
    struct loop         *loop;
    struct engine_inbox *inbox;
    struct store        *store;
    struct http_client  *client;
    struct models       *models;
    struct prices       *prices;
    struct tools        *tools;
    struct redact       *redact;
    struct engine       *engine;
    struct api          *api;
    char                *token_path;
};

/* Everything up to a recovered engine whose loop is ready to run, on the calling thread from now on. After a failure the parts
 * that were made are in *ret: parts_close. The error's field names an option of `perdure serve` or a member of the configuration. */
enum err parts_open(const struct parts_config *config, struct parts *ret, struct error *error);
/* The loop has ended, connections and followers are gone. Accepts zeroed and half-made ones; leaves them zeroed. */
void     parts_close(struct parts *parts);
