/* SPDX-License-Identifier: Apache-2.0 */
/* parts.c - puts an engine together and takes it apart again. */
#include "embed/parts.h"
#include "agent/agent.h"
#include "model/price.h"
#include "team/team.h"
#include "tool/tool.h"
#include "workflow/graph.h"
#include <stdlib.h>

/* The outermost machine of a run is the first; the others stand inside its nodes. */
static const struct machine_ops *const machines[] = { &graph_ops, &agent_ops, &team_ops, NULL };

static void add_secret(void *redact, struct span secret)
{
    redact_add(redact, secret);
}

/* What the configuration names. Its secrets are known before anything is written or logged. */
static enum err open_outside(struct parts *p, const struct config *config, struct error *error)
{
    enum err e = http_client_new(p->loop, &p->client, error);
    if (!e)
        e = config_outbound(config, p->client, error);
    if (!e)
        e = models_new(p->loop, p->client, config->providers, &p->models, error);
    if (!e)
        e = prices_new(config->prices, &p->prices, error);
    if (!e)
        e = tools_new(p->loop, p->client, config->tools, config->mcp_servers, &p->tools, error);
    p->redact = redact_new();
    if (!e)
        e = redact_configure(p->redact, config->redact, error);
    if (e)
        return e;
    models_secrets(p->models, add_secret, p->redact);
    tools_secrets(p->tools, add_secret, p->redact);
    p->log->redact = p->redact;
    return ERR_OK;
}

static enum err open_store(struct parts *p, const struct parts_config *config, struct error *error)
{
    CLEANUP(buf_done) struct buf url = { 0 };
    buf_printf(&url, "sqlite:%s%c", config->data, '\0');
    struct store_config store = { .url = config->store ? config->store : url.p, .folder = config->data, .env = env_real(),
                                  .log = p->log, .deliver = engine_inbox_deliver, .user = p->inbox };
    return store_open(&store, &p->store, error);
}

static enum err open_engine(struct parts *p, const struct parts_config *config, struct error *error)
{
    struct engine_config engine = { .loop = p->loop, .store = p->store, .models = p->models, .prices = p->prices,
                                    .machines = machines, .redact = p->redact, .ledger = config->ledger,
                                    .tools = { p->tools, tool_start, tool_list, tool_cancel, tool_repeat_safe, tool_known },
                                    .retention_ms = config->retention_ms, .thread_queue_max = config->thread_queue_max };
    enum err             e = config_budgets(config->config, &engine.run_budget, &engine.day_budget, error);
    if (!e)
        e = engine_new(&engine, &p->engine, error);
    if (!e)
        engine_attach_inbox(p->engine, p->inbox);
    return e;
}

static enum err open_api(struct parts *p, const struct parts_config *config, struct error *error)
{
    struct buf        path = { 0 };
    struct api_config api = config->api;
    buf_printf(&path, "%s/token%c", config->data, '\0');
    p->token_path = path.p;
    api.engine = p->engine;
    api.token_path = p->token_path;
    api.version = PERDURE_VERSION;
    return api_new(&api, &p->api, error);
}

enum err parts_open(const struct parts_config *config, struct parts *ret, struct error *error)
{
    *ret = (struct parts){ .log = config->log };
    enum err e = loop_new(env_real(), ret->log, &ret->loop, error);
    if (e)
        return e;
    ret->inbox = engine_inbox_new(ret->loop);
    e = open_outside(ret, config->config, error);
    if (!e)
        e = open_store(ret, config, error);
    if (!e)
        e = open_engine(ret, config, error);
    if (!e)
        e = open_api(ret, config, error);
    return e ? e : engine_start(ret->engine, error);
}

void parts_close(struct parts *p)
{
    store_close(p->store);
    if (p->engine)
        engine_inbox_flush(p->inbox);
    api_free(p->api);
    engine_free(p->engine);
    models_free(p->models);
    prices_free(p->prices);
    tools_free(p->tools);
    http_client_free(p->client);
    engine_inbox_free(p->inbox);
    loop_free(p->loop);
    if (p->log)
        p->log->redact = NULL;
    redact_free(p->redact);
    free(p->token_path);
    *p = (struct parts){ 0 };
}
