/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h - secrets that the configuration names: the content of an environment variable or of a file.
 *
 * White space around it is taken off. What is left must be one line of at most SECRET_MAX bytes, since it ends up in a header. */
#pragma once
#include "base/mem.h"

enum { SECRET_MAX = 16384 };

struct span span_trim(struct span text);    /* without bytes <= 0x20 at both ends */
bool        span_one_line(struct span text); /* no control bytes; empty is fine */
/* The secret, in the arena. Else SPAN_NONE, and *ret_missing says why, in the arena; `what` is what it should hold ("key"). */
struct span secret_from_env(struct span name, const char *what, struct arena *arena, const char **ret_missing);
struct span secret_from_file(struct span path, const char *what, struct arena *arena, const char **ret_missing);
