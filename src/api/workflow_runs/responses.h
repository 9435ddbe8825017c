/* SPDX-License-Identifier: Apache-2.0 */
/* responses.h - what /responses and /responses/batch share. */
#pragma once
#include "api/workflow_runs/routes.h"
#include "api/workflow_runs/outflow.h"
#include "model/model.h"

struct response_want {
    struct span model, provider; /* provider: empty when none was named */
    struct span request;         /* neutral (model/model.h) */
};
/* From a body (workflow-runs.md 5.1), in the call's arena; false: what is wrong is among the call's issues, pointers behind `at`. */
bool response_read(struct call *call, struct jv body, const char *at, struct response_want *ret);
/* Is the body's state handle, if it names one, there (5.9)? */
enum err response_state(struct call *call, struct jv body, struct error *error);
/* config has its callbacks set. */
enum err response_start(struct call *call, const struct response_want *want, struct model_call_config *config,
                        struct model_call **ret, struct error *error);
struct span response_id(struct call *call); /* a new one */
/* The response object (5.6) of a model's answer. */
void response_put(struct jw *w, struct span id, struct span model, struct jv answer);
/* The class of a failed call, and its message. */
enum err response_failure(struct jv error, struct arena *arena, struct error *ret);
