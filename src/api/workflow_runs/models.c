/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - the models that the configured providers are known to have (workflow-runs.md 5.8): those with a price, and the scripted
 * one. Any other name that a provider knows works as well. */
#include "api/workflow_runs/routes.h"
#include "model/model.h"
#include "model/price.h"

struct listing {
    struct call           *call;
    struct span            capability, provider; /* of the query */
    struct span            name;                 /* of the provider in hand */
    const struct prices   *prices;
};

static void put_list(struct jw *w, const char *name, const char *const *items)
{
    jw_key(w, name);
    jw_arr(w);
    for (; *items; items++)
        jw_cstr(w, *items);
    jw_arr_end(w);
}

/* Cents for a million tokens, half a cent and more is a cent; 0 when no price is known. */
static void put_price(struct listing *l, struct span model, const char *name, const char *bucket)
{
    struct span usage = arena_printf(&l->call->arena, "{\"buckets\":{\"%s\":1000000}}", bucket);
    int64_t     pico = 0;
    if (l->prices)
        (void)price_of(l->prices, l->name, model, json_read(usage, &l->call->arena), &pico);
    jw_key(&l->call->w, name);
    jw_i64(&l->call->w, (pico + INT64_C(5000000000)) / INT64_C(10000000000));
}

static void put_model(struct listing *l, struct span id, struct span model)
{
    static const char *const capabilities[] = { "text", "tools", "streaming", "structured_output", NULL };
    struct jw               *w = &l->call->w;
    bool                     capable = !l->capability.p;
    for (size_t i = 0; capabilities[i] && !capable; i++)
        capable = span_is(l->capability, capabilities[i]);
    if (!capable)
        return;
    jw_obj(w);
    jw_key(w, "model_id");
    jw_str(w, id);
    jw_key(w, "provider");
    jw_str(w, l->name);
    jw_key(w, "display_name");
    jw_str(w, model);
    jw_key(w, "description");
    jw_cstr(w, "");
    put_list(w, "capabilities", capabilities);
    jw_key(w, "context_window");
    jw_i64(w, 0);
    jw_key(w, "max_output_tokens");
    jw_i64(w, 0);
    jw_key(w, "training_cutoff");
    jw_cstr(w, "");
    jw_key(w, "deprecated");
    jw_bool(w, false);
    jw_key(w, "deprecation_message");
    jw_cstr(w, "");
    put_price(l, model, "input_cost_per_million_cents", "input");
    put_price(l, model, "output_cost_per_million_cents", "output");
    jw_end(w);
}

static void put_provider(void *user, struct span provider)
{
    struct listing *l = user;
    if (l->provider.p && !span_eq(l->provider, provider))
        return;
    l->name = provider;
    for (const struct price_line *line = price_table; line->name; line++) {
        struct span id = span_of(line->name);
        if (id.n > provider.n && memcmp(id.p, provider.p, provider.n) == 0 && id.p[provider.n] == '/')
            put_model(l, id, span_make(id.p + provider.n + 1, id.n - provider.n - 1));
    }
    if (span_is(provider, "scripted"))
        put_model(l, SPAN("scripted/echo"), SPAN("echo"));
}

void flow_models(struct call *call)
{
    struct engine *engine = call->api->engine;
    struct listing l = { .call = call, .provider = call_query(call, "provider"), .capability = call_query(call, "capability"),
                         .prices = engine_prices(engine) };
    if (call_invalid(call, ERR_INVALID_PARAMETER))
        return;
    jw_obj(&call->w);
    jw_key(&call->w, "models");
    jw_arr(&call->w);
    models_each(engine_models(engine), put_provider, &l);
    jw_arr_end(&call->w);
    jw_end(&call->w);
    call_send(call, 200);
}
