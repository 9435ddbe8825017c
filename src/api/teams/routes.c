/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the routes of teams. */
#include "api/teams/routes.h"

const struct route teams_routes[] = {
    { HTTP_M_GET,  "/v1/api/runs/{id}/trace",       "runs:read",  team_trace_get,      ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_GET,  "/v1/api/runs/{id}/team-events", "runs:read",  team_events,         ROUTE_STREAM },
    { HTTP_M_POST, "/v1/api/teams/runs",            "runs:write", team_run_post,       0 },
    { HTTP_M_POST, "/v1/api/teams/replay",          "runs:read",  team_replay_post,    ROUTE_BATCH },
    { HTTP_M_POST, "/v1/api/teams/benchmark",       "runs:write", team_benchmark_post, 0 },
    { 0 },
};
