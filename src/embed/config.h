/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the configuration file: {"providers", "prices", "tools", "mcp_servers", "outbound", "redact", "budgets"}. Unknown
 * members are errors that name the member; what the parts mean is decided where they are used. */
#pragma once
#include "base/json.h"
#include "machine/machine.h"
#include "net/http_client.h"

struct config {
    struct arena arena;
    struct buf   text;
    struct json  doc;
    /* absent when the file has none, or there is no file */
    struct jv    providers, prices, tools, mcp_servers, outbound, redact, budgets;
};

/* path NULL: an empty configuration; "-": standard input. It may have 1 MiB. */
enum err config_load(const char *path, struct config *ret, struct error *error);
enum err config_parse(struct span text, struct config *ret, struct error *error); /* a copy of the text; p NULL: empty */
void     config_done(struct config *config); /* also after a failure */
/* "budgets": {"run": {…}, "workspace_day": {…}}, each as "budget" of a definition. ERR_VALIDATION names the member. */
enum err config_budgets(const struct config *config, struct plan_budget *ret_run, struct plan_budget *ret_day, struct error *error);
/* Gives the client what "outbound" allows. */
enum err config_outbound(const struct config *config, struct http_client *client, struct error *error);
