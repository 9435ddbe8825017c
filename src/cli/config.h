/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the configuration file: {"providers", "prices", "tools", "mcp_servers", "outbound", "redact"}. Unknown members are
 * errors that name the member; what the parts mean is decided where they are used. */
#pragma once
#include "base/json.h"
#include "net/http_client.h"

struct config {
    struct arena arena;
    struct buf   text;
    struct json  doc;
    struct jv    providers, prices, tools, mcp_servers, outbound, redact; /* absent when the file has none, or there is no file */
};

/* path NULL: an empty configuration. The file may have 1 MiB. */
enum err config_load(const char *path, struct config *ret, struct error *error);
void     config_done(struct config *config); /* also after a failure */
/* Gives the client what "outbound" allows. */
enum err config_outbound(const struct config *config, struct http_client *client, struct error *error);
