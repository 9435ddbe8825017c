/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.h - YAML files that people write, as JSON text.
 *
 * One document, the core schema of YAML 1.2: null, booleans, integers and floats are what they look like, everything else and
 * everything in quotes is a string. Anchors and aliases work; merge keys, tags and keys that are no scalars do not. */
#pragma once
#include "base/err.h"
#include "base/mem.h"

/* Appends the JSON text of `yaml`. At most 16 MiB come out and 64 levels, whatever aliases ask for. ERR_VALIDATION with line
 * and column in the message; `out` then holds rubbish behind its old length. */
enum err yaml_to_json(struct span yaml, struct buf *out, struct error *error);
