/* SPDX-License-Identifier: Apache-2.0 */
/* schemas.c - the schema files, put into the program by the assembler. */
#include "api/workflow_runs/schemas.h"

#define FILE_BYTES(name, path)                                                                                        \
    __asm__(".pushsection .rodata\n" #name "_begin:\n.incbin \"" PERDURE_SOURCE "/" path "\"\n" #name "_end:\n.byte 0\n" \
            ".popsection\n");                                                                                         \
    extern const char name##_begin[], name##_end[]

FILE_BYTES(run_event, "api/workflow_runs/run_event.schema.json");
FILE_BYTES(workflow, "api/workflow_runs/workflow_v1.schema.json");

struct span schema_run_event(void) { return span_make(run_event_begin, (size_t)(run_event_end - run_event_begin)); }
struct span schema_workflow(void)  { return span_make(workflow_begin, (size_t)(workflow_end - workflow_begin)); }
