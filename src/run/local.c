/* SPDX-License-Identifier: Apache-2.0 */
/* local.c - tools that the host itself is: intent, effect and receipt are one commit. */
#include "run/inner.h"

void local_call(struct run *run, struct tool_flight *flight)
{
    struct span value = error_json(&run->engine->turn, "unknown_tool", "tool", "tool", false, "there is no such local tool");
    run_input(run, &(struct pending_input){ .kind = IN_TOOL, .err = ERR_TOOL, .path = flight->path, .op = flight->op, .value = value,
                                            .unsent = true });
}
