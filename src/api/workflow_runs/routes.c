/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the routes of the workflow surface (workflow-runs.md 1.1); static segments before parameters. "workflows:use" is what a
 * customer's token has, "workflows:*" what a key has. */
#include "api/workflow_runs/routes.h"

const struct route workflow_routes[] = {
    { HTTP_M_POST,   "/api/v1/workflows/compile",           "workflows:use", flow_compile,         ROUTE_BATCH },
    { HTTP_M_POST,   "/api/v1/workflows/lint",              "workflows:use", flow_lint,            ROUTE_BATCH | ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_GET,    "/api/v1/schemas/run_event.schema.json", NULL,          flow_schema_events,   0 },
    { HTTP_M_GET,    "/api/v1/schemas/workflow.schema.json", NULL,           flow_schema_workflow, 0 },
    { HTTP_M_POST,   "/api/v1/runs",                        "workflows:use", flow_runs_create,     ROUTE_BATCH },
    { HTTP_M_GET,    "/api/v1/runs/{id}",                   "workflows:use", flow_runs_get,        ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_POST,   "/api/v1/runs/{id}/cancel",            "workflows:use", flow_runs_cancel,     ROUTE_EMPTY_OK },
    { HTTP_M_GET,    "/api/v1/runs/{id}/events",            "workflows:use", flow_run_events,      ROUTE_STREAM },
    { HTTP_M_GET,    "/api/v1/runs/{id}/pending-tools",     "workflows:use", flow_pending_tools,   0 },
    { HTTP_M_POST,   "/api/v1/runs/{id}/tool-results",      "workflows:use", flow_tool_results,    0 },
    { HTTP_M_GET,    "/api/v1/runs/{id}/steps",             "workflows:use", flow_run_steps,       ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_GET,    "/api/v1/runs/{id}/steps/{step}/tool-calls/{tool}", "workflows:use", flow_run_tool_call, ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_GET,    "/api/v1/runs/{id}/tasks",             "workflows:use", flow_run_tasks,       ROUTE_READ | ROUTE_HEAVY },
    { HTTP_M_GET,    "/api/v1/models",                      "workflows:use", flow_models,          0 },
    { HTTP_M_POST,   "/api/v1/responses",                   "workflows:use", flow_responses,       ROUTE_BATCH },
    { HTTP_M_POST,   "/api/v1/responses/batch",             "workflows:use", flow_responses_batch, ROUTE_BATCH },
    { HTTP_M_POST,   "/api/v1/sessions",                    "workflows:use", flow_sessions_create, ROUTE_EMPTY_OK },
    { HTTP_M_GET,    "/api/v1/sessions",                    "workflows:use", flow_sessions_list,   ROUTE_READ },
    { HTTP_M_GET,    "/api/v1/sessions/{id}",               "workflows:use", flow_sessions_get,    ROUTE_READ },
    { HTTP_M_PATCH,  "/api/v1/sessions/{id}",               "workflows:use", flow_sessions_patch,  0 },
    { HTTP_M_DELETE, "/api/v1/sessions/{id}",               "workflows:*",   flow_sessions_delete, 0 },
    { HTTP_M_POST,   "/api/v1/sessions/{id}/messages",      "workflows:use", flow_messages_create, 0 },
    { HTTP_M_GET,    "/api/v1/sessions/{id}/messages",      "workflows:use", flow_messages_list,   ROUTE_READ },
    { HTTP_M_POST,   "/api/v1/sessions/{id}/clear",         "workflows:use", flow_sessions_clear,  ROUTE_EMPTY_OK },
    { HTTP_M_POST,   "/api/v1/state-handles",               "workflows:use", flow_handles_create,  ROUTE_EMPTY_OK },
    { HTTP_M_GET,    "/api/v1/state-handles",               "workflows:use", flow_handles_list,    ROUTE_READ },
    { HTTP_M_GET,    "/api/v1/state-handles/{id}",          "workflows:use", flow_handles_get,     ROUTE_READ },
    { HTTP_M_DELETE, "/api/v1/state-handles/{id}",          "workflows:use", flow_handles_delete,  0 },
    { 0 },
};
