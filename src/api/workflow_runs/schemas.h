/* SPDX-License-Identifier: Apache-2.0 */
/* schemas.h - the published JSON schemas of this surface, as they are in the files beside this one. They live for ever. */
#pragma once
#include "base/span.h"

struct span schema_run_event(void);
struct span schema_workflow(void);
