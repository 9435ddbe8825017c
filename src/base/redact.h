/* SPDX-License-Identifier: Apache-2.0 */
/* redact.h - takes configured secrets and fields out of what is about to be kept or said.
 *
 * Filled while the process starts, then only read, from any thread. All functions accept NULL and cost nothing when there is
 * nothing to look for. Secrets are found in their plain form and in every form in which JSON may write them (escaped, with
 * escaped slashes, in ASCII), also when the JSON is itself a text in JSON (arguments of tool calls). What is found becomes
 * "[redacted]". Only texts are looked at: a secret that is a JSON number is not found, so use texts for secrets. */
#pragma once
#include "base/json.h"

struct redact;

enum { REDACT_SECRET_MIN = 6 }; /* a shorter secret would be found everywhere; it is not looked for */

struct redact *redact_new(void);
void           redact_free(struct redact *redact); /* accepts NULL */
void           redact_add(struct redact *redact, struct span secret);
/* {"fields": ["password", …], "secrets_env": ["NAME", …]} or absent. Fields: members of these names, upper or lower case, at any
 * depth, whose value is a text, a number or a boolean lose it. Names that the engine's own payloads need are refused. */
enum err redact_configure(struct redact *redact, struct jv config, struct error *error);

/* A JSON value as text. The same span when there was nothing to replace, else a copy in the arena: still the same JSON otherwise. */
struct span redact_json(const struct redact *redact, struct span json, struct arena *arena);
/* Any text: log lines, messages of errors. */
struct span redact_text(const struct redact *redact, struct span text, struct arena *arena);
/* Appends `text` with its secrets replaced; true when there were some. */
bool redact_append(const struct redact *redact, struct span text, struct buf *out);

/* A text that comes in pieces: a secret may be cut. The end of a piece that could be the beginning of a secret is held back and
 * comes with the next one, or at the end of the text. */
struct redact_carry {
    struct buf held;
};
/* What may be shown now; in the arena or `piece` itself. May be empty. */
struct span redact_piece(const struct redact *redact, struct redact_carry *carry, struct span piece, struct arena *arena);
/* What was still held back. */
struct span redact_rest(const struct redact *redact, struct redact_carry *carry, struct arena *arena);
void        redact_carry_done(struct redact_carry *carry);
/* Fields cannot be found in JSON that comes in pieces: such pieces are kept without their text. */
bool        redact_hides_arguments(const struct redact *redact);
