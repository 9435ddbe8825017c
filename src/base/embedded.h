/* SPDX-License-Identifier: Apache-2.0 */
/* embedded.h - files that are part of the program: tools/embed.c writes them as arrays of C at build time (meson.build). */
#pragma once
#include <stddef.h>

struct embedded {
    const char *name;  /* of the file, without its folder; NULL: behind the last one */
    const char *bytes; /* a NUL behind them does not count */
    size_t      length;
};

extern const struct embedded openapi_parts[]; /* src/api/openapi/, base.json first */
extern const struct embedded workflow_run_schemas[]; /* src/api/workflow_runs/: run_event, workflow_v1 */
