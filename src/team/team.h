/* SPDX-License-Identifier: Apache-2.0 */
/* team.h - a team of agents as a machine (teams.md): sequential, broadcast, shared, coordinator.
 *
 * An inner machine (nest.h): it stands in a node of a graph and never asks for FX_NODE or FX_CHECKPOINT.
 *
 * Definition: the run options of teams.md 2.1 without functions. `model` is {"provider", "model"?, "id"?, "stream"?, "retry"?,
 * "max_tokens"?, "script"?}; "id" is what the trace calls the provider (default: "provider"); "script" is for the scripted
 * provider: one for all calls, or a list of one per call, in the order of their numbers. A tool is {"identity", "inputSchema",
 * "permissions"?}; the
 * host knows it by identity.id. `evaluate` is {"tool": NAME, …}: that tool gets {"output","transcript","cost","termination"?,
 * "options"} and gives {"quality","rationale"?,"metadata"?}. `wrapUpHint.inject` is a text. The intent comes with the run, as a
 * text or as {"intent": text}, or stands in the definition.
 *
 * Paths. OP_MODEL n is the n-th model call of the run, from 0, in agent order; below it OP_TOOL k is its k-th tool request.
 * OP_TIMER 0 is the time limit, OP_TOOL 0 the evaluation.
 *
 * What leaves the machine knows no run id and no time. The events of FX_EMIT, named team.role-assignment, team.agent-turn,
 * team.broadcast, team.budget-stop and team.final, carry the contract's objects without type, runId and at; team.started is
 * {"intent"} and comes first; team.warning is {"message"}; team.tool-unavailable is {"call","index","context","input","outcome"}
 * for a tool that nobody has, since nothing is called then. Request metadata has no runId, the context of a tool call has
 * "number" (of the call, from 1) and "callId" (if the model gave one) for the id. trace.h puts run id, stamps and ids in their
 * places. The labels of FX_MODEL have "call" (its number), "agent_id", "role" and "request".
 *
 * End: FX_FINISH with {"cost","evaluation"?,"output","quality"?,"termination"?}, or FX_FAIL with the error that the model call
 * gave, unchanged, or the contract's own (timeout, invalid-configuration) with category and source added. A call that the host's
 * budget refuses (ERR_BUDGET) ends the team with what is there.
 *
 * New attempt: a later IN_START goes on where the machine stands, also when it had failed: what was in flight is asked for again
 * under the same path, what has an answer keeps it. After the end it ends again.
 *
 * The plan is {"format":1,"kind":"team","team":DEFINITION} in canonical form. Compiled plans hold no pointer to the struct plan or
 * its arena, so a parent may lend its own arena. */
#pragma once
#include "machine/nest.h"

extern const struct machine_ops team_ops;
