/* SPDX-License-Identifier: Apache-2.0 */
/* document.h - a file that a person wrote, JSON or YAML, as a JSON value. */
#pragma once
#include "base/json.h"

/* `path` "-" is standard input. A name that ends in .yaml or .yml is YAML, .json is JSON; of anything else, what begins with `{` is
 * JSON. At most 16 MiB and `depth` levels. The document lives in the arena. ERR_IO, ERR_TOO_LARGE: it cannot be read;
 * ERR_MALFORMED_JSON, ERR_VALIDATION: it is neither. The message names no file. */
MUST_USE enum err document_read(const char *path, uint32_t depth, struct arena *arena, struct jv *ret, struct error *error);
/* Does this word end like the name of a document? */
bool document_name(const char *word);
