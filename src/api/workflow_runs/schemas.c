/* SPDX-License-Identifier: Apache-2.0 */
/* schemas.c - the schema files, compiled into the program (tools/embed.c; meson.build lists them). */
#include "api/workflow_runs/schemas.h"
#include "base/embedded.h"

static struct span schema(size_t which)
{
    const struct embedded *file = &workflow_run_schemas[which];
    return span_make(file->bytes, file->length);
}

struct span schema_run_event(void)
{
    return schema(0);
}

struct span schema_workflow(void)
{
    return schema(1);
}
