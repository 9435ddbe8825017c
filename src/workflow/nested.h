/* SPDX-License-Identifier: Apache-2.0 */
/* nested.h - nodes that hold a machine of their own: agent.loop an agent, team.run a team (model.md 7.2, machine/nest.h).
 *
 * The machine's plan stands inside the outer plan, its state inside the node's. It gets IN_START when the node starts and
 * everything below the path of the execution after that. What it asks for stands below that path. When it asks for a person
 * or a follower, the node says so: a checkpoint of kind human in front of the first question to a person, NODE_WAIT behind
 * the last, with the calls that a follower is to answer: [{"id", "name", "arguments"}…].
 *
 * When it ends, nothing of it is left in flight: what it did not clear away itself is aborted here. */
#pragma once
#include "workflow/capability.h"

/* Compiles the definition of an inner machine and appends its plan's canonical JSON. Issues are added with `at` in front of
 * their pointers. ERR_UNSUPPORTED_BINDING, with an issue, when this server has no such machine. */
enum err nested_compile(const struct plan *plan, const char *kind, struct jv definition, struct buf *at,
                        struct issues *issues, struct buf *out);
/* Opens the plan of an inner machine for a node of `plan`; it lives in `arena`. NULL when it cannot be. */
const struct plan *nested_open(const struct plan *plan, struct arena *arena, const char *kind, struct jv json);

enum verdict nested_start(struct work *work);
enum verdict nested_answer(struct work *work);

struct jw;
enum err nested_save(const struct plan_node *node, const struct machine *inner, struct jw *w);
enum err nested_load(const struct plan_node *node, struct span saved, struct arena *arena, struct machine **ret);
