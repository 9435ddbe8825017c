/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the configuration file: {"providers": {…}}. Unknown members are errors that name the member. */
#pragma once
#include "base/json.h"

struct config {
    struct arena arena;
    struct buf   text;
    struct json  doc;
    struct jv    providers; /* absent when the file has none, or there is no file */
};

/* path NULL: an empty configuration. The file may have 1 MiB. */
enum err config_load(const char *path, struct config *ret, struct error *error);
void     config_done(struct config *config); /* also after a failure */
