/* SPDX-License-Identifier: Apache-2.0 */
/* graph.h - the graph machine (model.md 7): nodes, edges and conditions of one plan, run to the end.
 *
 * The front ends (bundle.c; later the workflow specs) write the same plan, plan.h says which; this machine runs it.
 *
 * When a node starts. Finishing a node puts a token on each of its edges whose condition holds. A node that has a
 * token starts when nothing that runs, or has a token itself, can still reach it. So a join waits for all activated
 * predecessors, a branch that was not chosen is simply never waited for, and a join behind a loop waits until the
 * loop is over. Inside a loop the way round (through the loop's first node) does not count, or two branches of one
 * loop body would wait for each other. One start takes all tokens of the node. The run is over when nothing runs and
 * no token is left; its output is the output of the only node that ended without giving a token on, or, if there are
 * several, an object by node name in byte order.
 *
 * Op paths. A node's index is its place in byte order of the names. Each start of a node, be it a repetition in a
 * loop, a next try or a new attempt, counts as one execution e = 1, 2, …; it never falls, so paths are unique over
 * all attempts:
 *     e <= 255   OP_NODE_TRY(index, e)
 *     e >  255   OP_NODE_TRY(index, 0), OP_PART(OP_ITEM, e)
 * Below it: OP_MODEL 0 the call, OP_WAIT 0 the prompt, OP_TIMER 0 a sleep, OP_TIMER 1 the pause before the next try,
 * OP_CHILD 0 the child run. Below a node that holds a machine are that machine's paths; its pause before the next try is
 * the last OP_TIMER there is. `try_no` in FX_NODE starts again at 1 for each repetition in a loop.
 *
 * Numbers. `step` of FX_NODE is the number of starts before it in the run; `step` of a checkpoint is the number of
 * starts so far. Starts are bounded by the plan's max_steps: the run then fails with code max_steps.
 *
 * Nodes that hold a machine (nested.h). Its state is a member of the node's; every input below the path of the execution
 * goes to it; a message for the run goes to all of them. In a new attempt it goes on, in a next try it begins anew.
 *
 * Cuts. A step starts at most 256 nodes, and none after 4 MiB of outputs and states; then it asks for a timer of the
 * run itself, path OP_PART(OP_TIMER, n) with n = 1, 2, …, due at once, and goes on when that fires.
 *
 * New attempt. After a load, IN_START starts what was in flight, or failed, or was cancelled by the failure, as a new
 * execution; finished nodes, values, input and the counters of core.fail stay. A machine that had finished gives its
 * final checkpoint and its output again.
 *
 * Snapshots hold values, input and outputs inline (only the outputs that a configuration refers to or that may become
 * the run's output); how large one may be is the host's limit. */
#pragma once
#include "machine/machine.h"

extern const struct machine_ops graph_ops;
