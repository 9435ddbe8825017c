/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h - the single agent loop (model.md 7.2): ask a model, run the tools it calls, feed the results back, until it answers.
 *
 * Always an inner machine (nest.h): a node of a graph, or the tool of another agent. It asks for FX_MODEL, FX_TOOL, FX_WAIT,
 * FX_CHILD and FX_ABORT; FX_FINISH and FX_FAIL end it. docs/reference/agent-definition.md says what a definition holds; the plan
 * is {"agent": DEFINITION, "format": 1, "kind": "agent"} in canonical form.
 *
 * Paths. Model call k is OP_MODEL k, k = 0, 1, … A complete step is an answer and the results of all tools that it called.
 *     t0          tools.list, once at the start, when the definition names server tools
 *     m<k>        model call
 *     m<k>/t<j>   call j of its answer: a tool, or the prefix of an agent that is a tool
 *     m<k>/t<j>/w0  approval before it, or the question of user_ask;  m<k>/t<j>/c0  the run of another agent
 *     m<k>/w0     the wait for client tools, one for all of the step
 *
 * Inputs. An answer to a path that nothing waits for is dropped. A question of user_ask is a client tool and a wait: whichever
 * answer comes first, IN_TOOL on m<k>/t<j> or IN_ANSWER on m<k>/t<j>/w0, is the result. When all client tools have answered and
 * their wait has not expired, FX_ABORT on its path closes it. Steering (IN_MESSAGE: text, or an object as the input may be) is
 * read at the next model call; it also makes one when the model had nothing more to do.
 *
 * Start, and new attempt. The first IN_START begins; each later one begins again where the machine stands: what is in flight is
 * asked for again under the same path, what has a result keeps it, a failed call is made again. After the end it ends again.
 *
 * Values. With "memory" the conversation is the member "messages" of the values; FX_FINISH gives all values back, and only that
 * member differs from what IN_START brought.
 *
 * Compiled plans hold no pointer to the struct plan or its arena, so a parent may lend its own arena: set plan.arena to it, call
 * open, take it back. */
#pragma once
#include "machine/machine.h"

extern const struct machine_ops agent_ops;
