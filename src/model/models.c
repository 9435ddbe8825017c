/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - the configured providers, and the life of a call.
 *
 * A new kind of provider is a file with a `struct provider_ops` and a line in `kinds`. Everything here is the same for all
 * kinds: names, the checks of a request, who may still call back, when memory goes. */
#include "model/provider.h"
#include <stdio.h>
#include <stdlib.h>

struct models {
    struct loop            *loop;
    struct http_client     *client;
    struct arena            arena;     /* providers and their texts */
    struct provider        *providers; /* the built-in ones first, then as configured */
    struct model_call      *calls;
    struct model_check_list checks;
};

static const struct provider_ops *const kinds[] = { &provider_scripted, &provider_emit, &provider_openai_chat,
                                                    &provider_openai_responses, &provider_anthropic, NULL };

/* ---- the registry ---- */

static struct provider *provider_find(const struct models *models, struct span name)
{
    struct provider *provider = models->providers;
    while (provider && !span_eq(provider->name, name))
        provider = provider->next;
    return provider;
}

static struct provider *provider_add(struct models *models, struct span name)
{
    struct provider **end = &models->providers;
    while (*end)
        end = &(*end)->next;
    *end = ARENA_NEW(&models->arena, struct provider);
    (*end)->name = arena_copy(&models->arena, name);
    return *end;
}

static void add_built_in(struct models *models)
{
    for (size_t i = 0; kinds[i]; i++)
        if (kinds[i]->fixed_name)
            provider_add(models, span_of(kinds[i]->fixed_name))->ops = kinds[i];
}

static bool name_is_fine(struct span name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (name.n == 0 || name.n > 64)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!name.p[i] || !strchr(allowed, name.p[i]))
            return false;
    return true;
}

static enum err add_configured(struct models *models, struct span name, struct jv config, struct error *error)
{
    char pointer[sizeof "/providers/" + 64];

    if (!name_is_fine(name))
        return field_error(error, "/providers", name, "a provider's name is 1 to 64 letters, digits, '.', '_' or '-'");
    if (provider_find(models, name)) /* of two members with one name the last wins, so it can only be a built-in one */
        return field_error(error, "/providers", name, "is built in and cannot be configured");
    snprintf(pointer, sizeof pointer, "/providers/%.*s", SPAN_ARG(name)); /* nothing in a fine name needs an escape */
    return provider_configure(provider_add(models, name), config, pointer, &models->arena, kinds, error);
}

static enum err add_all_configured(struct models *models, struct jv config, struct error *error)
{
    if (jv_is(config, JSON_NONE) || jv_is(config, JSON_NULL))
        return ERR_OK;
    if (!jv_is(config, JSON_OBJECT))
        return error_set(error, ERR_VALIDATION, "/providers", "providers: must be an object");
    for (struct jv_iter it = jv_iter(config); jv_step(&it);) {
        enum err err = add_configured(models, jv_string(it.name, &models->arena), it.value, error);
        if (err)
            return err;
    }
    return ERR_OK;
}

enum err models_new(struct loop *loop, struct http_client *client, struct jv config, struct models **ret, struct error *error)
{
    struct models *models = mem_alloc(sizeof *models);

    models->loop = loop;
    models->client = client;
    add_built_in(models);
    enum err err = add_all_configured(models, config, error);
    if (err) {
        models_free(models);
        return err;
    }
    *ret = models;
    return ERR_OK;
}

void models_free(struct models *models)
{
    if (!models)
        return;
    while (models->calls)
        model_cancel(models->calls); /* takes itself off the list, which the analyzer misses: NOLINT(clang-analyzer-unix.Malloc) */
    model_checks_cancel(&models->checks);
    arena_done(&models->arena);
    free(models);
}

void models_secrets(const struct models *models, void (*each)(void *user, struct span secret), void *user)
{
    for (const struct provider *provider = models->providers; provider; provider = provider->next)
        for (size_t i = 0; i < provider->http.secret_count; i++)
            each(user, provider->http.secrets[i]);
}

bool models_has(const struct models *models, struct span provider)
{
    return provider_find(models, provider) != NULL;
}

/* NULL: nothing but what is built in. */
static const struct provider *default_provider(const struct models *models)
{
    const struct provider *only = NULL;
    size_t                 count = 0;

    for (const struct provider *p = models->providers; p; p = p->next) {
        if (span_is(p->name, "default"))
            return p;
        if (!p->ops->fixed_name) {
            only = p;
            count++;
        }
    }
    return count == 1 ? only : NULL;
}

void models_route(const struct models *models, struct arena *arena, struct span *provider, struct span *model)
{
    const struct provider *def = default_provider(models);
    bool                   named = provider->n && !span_is(*provider, "default");

    if (provider_find(models, *provider) || (named && !(def && span_is(def->name, "default"))))
        return;
    if (named)
        *model = arena_printf(arena, "%.*s/%.*s", SPAN_ARG(*provider), SPAN_ARG(*model));
    *provider = def ? def->name : SPAN("scripted");
}

void models_each(const struct models *models, void (*each)(void *user, struct span provider), void *user)
{
    for (const struct provider *p = models->providers; p; p = p->next)
        if (!p->ops->fixed_name)
            each(user, p->name);
    each(user, SPAN("scripted"));
}

bool model_resumable(const struct models *models, struct span provider)
{
    struct span  model = SPAN("");
    struct arena arena = { 0 };

    models_route(models, &arena, &provider, &model);
    const struct provider *found = provider_find(models, provider);
    arena_done(&arena);
    return found && found->ops->resumable;
}

void models_check(struct models *models, void (*each)(void *user, struct span provider, enum err err, struct span detail),
                  void (*done)(void *user), void *user)
{
    model_check_start(&models->checks, models->loop, models->client, models->providers, each, done, user);
}

/* ---- requests ---- */

/* The request is copied: the call outlives the caller's bytes. */
static enum err call_document(struct model_call *call, struct span text, struct jv *ret, struct error *error)
{
    static const struct json_limits limits = { .depth = 128, .lone_surrogates = true };
    struct json                    *doc = ARENA_NEW(&call->arena, struct json);
    struct error                    why;

    if (json_parse(arena_copy(&call->arena, text), &limits, &call->arena, doc, &why))
        return error_set(error, ERR_VALIDATION, "", "the request is not JSON: %s", why.message);
    *ret = json_root(doc);
    return ERR_OK;
}

/* ---- the life of a call ---- */

static void call_free(struct model_call *call)
{
    if (call->provider->ops->release)
        call->provider->ops->release(call);
    arena_done(&call->arena);
    free(call);
}

static struct model_call *call_new(struct models *models, struct provider *provider, const struct model_call_config *config)
{
    struct model_call *call = mem_alloc(provider->ops->call_size);

    call->models = models;
    call->loop = models->loop;
    call->client = models->client;
    call->provider = provider;
    call->model = arena_copy(&call->arena, config->model);
    call->attempt = config->attempt ? config->attempt : 1;
    call->on_chunk = config->on_chunk;
    call->on_end = config->on_end;
    call->user = config->user;
    return call;
}

static void call_link(struct model_call *call)
{
    call->next = call->models->calls;
    if (call->next)
        call->next->prev = call;
    call->models->calls = call;
}

static void call_unlink(struct model_call *call)
{
    if (call->prev)
        call->prev->next = call->next;
    else
        call->models->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
}

static enum err start_routed(struct models *models, const struct model_call_config *config, struct model_call **ret, struct error *error)
{
    struct provider *provider = provider_find(models, config->provider);
    if (!provider)
        return error_set(error, ERR_VALIDATION, "/provider", "provider: there is none named '%.*s'", SPAN_ARG(config->provider));

    struct model_call *call = call_new(models, provider, config);
    struct jv          request = { 0 };
    enum err           err = call_document(call, config->request, &request, error);
    if (!err)
        err = provider->ops->start(call, request, config->skip_chunks, error);
    if (err) {
        call_free(call);
        return err;
    }
    call_link(call);
    *ret = call;
    return ERR_OK;
}

enum err model_start(struct models *models, const struct model_call_config *config, struct model_call **ret, struct error *error)
{
    struct model_call_config routed = *config;
    struct arena             arena = { 0 };

    models_route(models, &arena, &routed.provider, &routed.model);
    enum err err = start_routed(models, &routed, ret, error);
    arena_done(&arena);
    return err;
}

/* From here on the provider has nothing left that could call back. */
static void call_close(struct model_call *call)
{
    call->closed = true;
    call->provider->ops->close(call);
    call_unlink(call);
}

void model_cancel(struct model_call *call)
{
    if (!call || call->closed)
        return;
    call_close(call);
    if (!call->busy)
        call_free(call);
}

void call_enter(struct model_call *call)
{
    call->busy++;
}

void call_leave(struct model_call *call)
{
    assert(call->busy > 0);
    if (--call->busy == 0 && call->closed)
        call_free(call);
}

bool call_chunk(struct model_call *call, enum model_chunk_kind kind, struct span text)
{
    assert(call->busy > 0);
    if (!call->closed)
        call->on_chunk(call->user, kind, text);
    return !call->closed;
}

void call_end(struct model_call *call, enum err err, struct span result)
{
    assert(call->busy > 0);
    if (call->closed)
        return;
    call_close(call);
    call->on_end(call->user, err, result);
}

/* ---- failures ---- */

void failure_to_json(const struct failure *failure, struct buf *out)
{
    struct jw w = jw_on(out);

    jw_obj(&w);
    jw_key(&w, "code");      jw_cstr(&w, failure->code);
    jw_key(&w, "category");  jw_cstr(&w, failure->category);
    jw_key(&w, "message");   jw_str(&w, failure->message);
    jw_key(&w, "retryable"); jw_bool(&w, failure->retryable);
    jw_key(&w, "source");    jw_cstr(&w, failure->source ? failure->source : "provider");
    if (failure->provider_code.n) {
        jw_key(&w, "provider_code");
        jw_str(&w, failure->provider_code);
    }
    if (failure->retry_after_ms >= 0) {
        jw_key(&w, "retry_after_ms");
        jw_i64(&w, failure->retry_after_ms);
    }
    jw_end(&w);
}

void provider_fail(struct model_call *call, const struct failure *failure)
{
    struct buf result = { 0 };
    failure_to_json(failure, &result);
    call_end(call, ERR_MODEL, buf_view(&result));
    buf_done(&result);
}
