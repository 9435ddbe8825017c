/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the routes of the agent-runs surface; static segments before parameters. */
#include "api/agent_runs/routes.h"

const struct route agent_runs_routes[] = {
    { HTTP_M_GET,    "/v1/api/runs",                                "runs:read",    runs_list,         ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_POST,   "/v1/api/runs",                                "runs:write",   runs_create,       0 },
    { HTTP_M_POST,   "/v1/api/runs/wait",                           "runs:write",   runs_wait,         0 },
    { HTTP_M_POST,   "/v1/api/runs/batch",                          "runs:write",   runs_batch,        ROUTE_BATCH },
    { HTTP_M_GET,    "/v1/api/runs/{id}",                           "runs:read",    runs_get,          ROUTE_READ },
    { HTTP_M_POST,   "/v1/api/runs/{id}/cancel",                    "runs:write",   runs_cancel,       ROUTE_EMPTY_OK },
    { HTTP_M_POST,   "/v1/api/runs/{id}/resume",                    "runs:write",   runs_resume,       0 },
    { HTTP_M_GET,    "/v1/api/runs/{id}/events",                    "runs:read",    events_poll,       ROUTE_READ },
    { HTTP_M_GET,    "/v1/api/runs/{id}/events/stream",             "runs:read",    events_stream,     ROUTE_STREAM },
    { HTTP_M_GET,    "/v1/api/agents",                              "agents:read",  agents_list,       ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_POST,   "/v1/api/agents",                              "agents:write", agents_create,     0 },
    { HTTP_M_GET,    "/v1/api/agents/{id}",                         "agents:read",  agents_get,        ROUTE_READ },
    { HTTP_M_PATCH,  "/v1/api/agents/{id}",                         "agents:write", agents_patch,      0 },
    { HTTP_M_DELETE, "/v1/api/agents/{id}",                         "agents:write", agents_archive,    0 },
    { HTTP_M_GET,    "/v1/api/agents/{id}/bundles",                 "agents:read",  bundles_list,      ROUTE_READ },
    { HTTP_M_POST,   "/v1/api/agents/{id}/bundles",                 "agents:write", bundles_create,    0 },
    { HTTP_M_GET,    "/v1/api/agents/{id}/bundles/{bundle}",        "agents:read",  bundles_get,       ROUTE_READ },
    { HTTP_M_PATCH,  "/v1/api/agents/{id}/bundles/{bundle}",        "agents:write", bundles_patch,     0 },
    { HTTP_M_POST,   "/v1/api/agents/{id}/bundles/{bundle}/publish", "agents:write", bundles_publish,  ROUTE_EMPTY_OK },
    { HTTP_M_GET,    "/v1/api/agents/{id}/versions",                "agents:read",  versions_list,     ROUTE_READ },
    { HTTP_M_POST,   "/v1/api/agents/{id}/versions/{version}/activate", "agents:write", versions_activate, ROUTE_EMPTY_OK },
    { HTTP_M_GET,    "/v1/api/threads",                             "threads:read", threads_list,      ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_POST,   "/v1/api/threads",                             "threads:write", threads_create,   ROUTE_EMPTY_OK },
    { HTTP_M_GET,    "/v1/api/threads/{id}",                        "threads:read", threads_get,       ROUTE_READ },
    { 0 },
};
