/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - the table of credentials and workspaces; see auth.h. */
#include "api/auth.h"
#include <openssl/crypto.h>
#include <stdlib.h>

struct auth {
    struct engine    *engine;
    struct uuid_map   by_hash; /* first half of the token's SHA-256 */
    struct uuid_map   by_id;
    struct uuid_map   workspaces;
    struct workspace *first, **last;
    struct tenant_row tenant;
    struct arena      arena;
    bool              first_start;
};

static struct uuid half(const struct sha256 *hash)
{
    struct uuid key;
    memcpy(key.b, hash->b, sizeof key.b);
    return key;
}

void auth_ref(struct credential *cred)
{
    cred->refs++;
}

void auth_unref(struct credential *cred)
{
    if (!cred || --cred->refs)
        return;
    arena_done(&cred->arena);
    free(cred);
}

static bool has_scope(const struct credential *cred, const char *scope)
{
    struct arena arena = { 0 };
    struct span  want = span_of(scope);
    const char  *colon = memchr(want.p, ':', want.n);
    bool         allowed = want.n == 0;
    for (struct jv_iter it = jv_iter(json_read(cred->row.scopes, &arena)); !allowed && jv_step(&it);) {
        struct span have = jv_string(it.value, &arena);
        allowed = span_is(have, "*") || span_eq(have, want) ||
                  (colon && have.n == (size_t)(colon - want.p) + 2 && have.p[have.n - 1] == '*' &&
                   memcmp(have.p, want.p, have.n - 1) == 0);
    }
    arena_done(&arena);
    return allowed;
}

static struct credential *keep(struct auth *auth, const struct credential_row *row)
{
    struct credential *cred = mem_alloc(sizeof *cred);
    cred->row = *row;
    struct span *texts[] = { &cred->row.lookup, &cred->row.secret, &cred->row.name, &cred->row.prefix, &cred->row.scopes,
                             &cred->row.capability, &cred->row.client_id };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i]->p)
            *texts[i] = arena_copy(&cred->arena, *texts[i]);
    if (row->lookup.n == sizeof cred->hash.b)
        memcpy(cred->hash.b, row->lookup.p, sizeof cred->hash.b);
    cred->refs = 1;
    cred->all = has_scope(cred, "*");
    uuid_map_put(&auth->by_hash, half(&cred->hash), cred);
    uuid_map_put(&auth->by_id, row->id, cred);
    return cred;
}

static bool load_credential(void *user, const void *row)
{
    keep(user, row);
    return true;
}

struct workspace *auth_workspace(struct auth *auth, struct uuid id)
{
    return uuid_map_get(&auth->workspaces, id);
}

struct workspace *auth_workspaces(struct auth *auth)
{
    return auth->first;
}

static struct workspace *keep_workspace(struct auth *auth, const struct workspace_row *row)
{
    struct workspace *w = auth_workspace(auth, row->id);
    struct arena      fresh = { 0 };
    struct workspace_row copy = *row;
    copy.name = arena_copy(&fresh, row->name);
    copy.app_id = arena_copy(&fresh, row->app_id);
    copy.metadata = arena_copy(&fresh, row->metadata);
    if (!w) {
        w = mem_alloc(sizeof *w);
        uuid_map_put(&auth->workspaces, row->id, w);
        *auth->last = w;
        auth->last = &w->next;
    }
    arena_done(&w->arena);
    w->arena = fresh;
    w->row = copy;
    return w;
}

static bool load_workspace(void *user, const void *row)
{
    keep_workspace(user, row);
    return true;
}

static bool load_tenant(void *user, const void *row)
{
    struct auth *auth = user;
    auth->tenant = *(const struct tenant_row *)row;
    auth->tenant.name = arena_copy(&auth->arena, auth->tenant.name);
    return false;
}

struct workspace *auth_put_workspace(struct auth *auth, const struct workspace_row *row)
{
    struct workspace *w = keep_workspace(auth, row);
    batch_put(engine_batch(auth->engine), TABLE_workspace, &w->row);
    return w;
}

void auth_drop_workspace(struct auth *auth, struct workspace *workspace)
{
    batch_delete(engine_batch(auth->engine), TABLE_workspace, &workspace->row);
    uuid_map_del(&auth->workspaces, workspace->row.id);
    for (struct workspace **p = &auth->first; *p; p = &(*p)->next)
        if (*p == workspace) {
            *p = workspace->next;
            if (!workspace->next)
                auth->last = p;
            break;
        }
    arena_done(&workspace->arena);
    free(workspace);
}

/* A store without a tenant is new: it gets one, and a workspace. */
static void found(struct auth *auth)
{
    int64_t now = engine_now_ms(auth->engine);
    auth->first_start = true;
    auth->tenant = (struct tenant_row){ .id = engine_mint(auth->engine), .name = SPAN("default"), .created_ms = now };
    batch_put(engine_batch(auth->engine), TABLE_tenant, &auth->tenant);
    struct workspace_row row = { .id = engine_mint(auth->engine), .tenant = auth->tenant.id, .name = SPAN("default"), .app_id = SPAN("app"),
                                 .metadata = SPAN("{}"), .revision = 1, .created_ms = now, .updated_ms = now };
    auth_put_workspace(auth, &row);
}

enum err auth_new(struct engine *engine, struct auth **ret, struct error *error)
{
    struct auth   *auth = mem_alloc(sizeof *auth);
    struct reader *reader = engine_reader(engine);
    struct arena   arena = { 0 };
    auth->engine = engine;
    auth->last = &auth->first;
    enum err e = reader_begin(reader, &arena);
    if (!e) {
        struct query tenants = { .table = TABLE_tenant, .order_column = "id", .limit = 1 };
        struct query workspaces = { .table = TABLE_workspace, .order_column = "id", .limit = -1 };
        struct query credentials = { .table = TABLE_credential, .order_column = "id", .limit = -1 };
        e = reader_query(reader, &tenants, load_tenant, auth);
        if (!e)
            e = reader_query(reader, &workspaces, load_workspace, auth);
        if (!e)
            e = reader_query(reader, &credentials, load_credential, auth);
        reader_end(reader);
    }
    arena_done(&arena);
    if (e) {
        auth_free(auth);
        return error_set(error, e, "", "the credentials cannot be read");
    }
    if (uuid_is_nil(auth->tenant.id))
        found(auth);
    *ret = auth;
    return ERR_OK;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    struct credential *cred;
    for (size_t i = 0; (cred = uuid_map_next(&auth->by_id, &i));)
        auth_unref(cred);
    while (auth->first) {
        struct workspace *next = auth->first->next;
        arena_done(&auth->first->arena);
        free(auth->first);
        auth->first = next;
    }
    uuid_map_done(&auth->by_hash);
    uuid_map_done(&auth->by_id);
    uuid_map_done(&auth->workspaces);
    arena_done(&auth->arena);
    free(auth);
}

bool auth_first_start(const struct auth *auth)             { return auth->first_start; }
struct uuid auth_tenant(const struct auth *auth)           { return auth->tenant.id; }
struct tenant_row auth_tenant_row(const struct auth *auth) { return auth->tenant; }

bool auth_allows(const struct credential *cred, const char *scope)
{
    return cred->all || has_scope(cred, scope);
}

bool auth_usable(const struct credential *cred, int64_t now_ms)
{
    return !cred->row.revoked_ms && (!cred->row.expires_ms || now_ms < cred->row.expires_ms);
}

struct credential *auth_find(struct auth *auth, struct span token, unsigned kinds, int64_t now_ms)
{
    struct sha256      hash = sha256_of(token);
    struct credential *cred = uuid_map_get(&auth->by_hash, half(&hash));
    /* The look-up is by a hash that the caller cannot steer; the comparison of the rest takes the same time always. */
    if (!cred || CRYPTO_memcmp(cred->hash.b, hash.b, sizeof hash.b) != 0 || !(kinds & 1u << cred->row.kind))
        return NULL;
    return auth_usable(cred, now_ms) ? cred : NULL;
}


struct credential *auth_by_id(struct auth *auth, struct uuid id)
{
    return uuid_map_get(&auth->by_id, id);
}

struct credential *auth_put(struct auth *auth, const struct credential_spec *spec)
{
    struct sha256         hash = sha256_of(spec->text);
    struct credential_row row = { .id = engine_mint(auth->engine), .tenant = spec->tenant, .workspace = spec->workspace,
                                  .kind = (int64_t)spec->kind, .lookup = span_make(hash.b, sizeof hash.b), .name = spec->name,
                                  .prefix = span_make(spec->text.p, spec->text.n < 8 ? spec->text.n : 8), .scopes = spec->scopes,
                                  .client_id = spec->customer, .expires_ms = spec->expires_ms,
                                  .created_ms = engine_now_ms(auth->engine) };
    struct credential *cred = keep(auth, &row);
    if (spec->stored)
        batch_put(engine_batch(auth->engine), TABLE_credential, &cred->row);
    return cred;
}

struct credential *auth_mint(struct auth *auth, const struct credential_spec *spec, char ret_text[64])
{
    static const char *const prefixes[] = { [CRED_TOKEN] = "pdt_", [CRED_MR_KEY] = "mr_sk_", [CRED_CUSTOMER] = "mr_ct_" };
    struct credential_spec made = *spec;
    assert(spec->kind < ARRAY_LEN(prefixes));
    random_text(engine_env(auth->engine), prefixes[spec->kind], 24, ret_text);
    made.text = span_of(ret_text);
    made.stored = true;
    return auth_put(auth, &made);
}

void auth_revoke(struct auth *auth, struct credential *cred)
{
    if (cred->row.revoked_ms)
        return;
    cred->row.revoked_ms = engine_now_ms(auth->engine);
    batch_put(engine_batch(auth->engine), TABLE_credential, &cred->row);
}

bool auth_take(struct credential *cred, uint64_t now_us, uint32_t per_minute, uint32_t burst, uint32_t *ret_remaining,
               uint32_t *ret_reset_s)
{
    double rate = per_minute / 60e6; /* per microsecond */
    if (!cred->bucket_us)
        cred->bucket = burst;
    else
        cred->bucket += (double)(now_us - cred->bucket_us) * rate;
    if (cred->bucket > burst)
        cred->bucket = burst;
    cred->bucket_us = now_us;
    bool taken = cred->bucket >= 1;
    if (taken)
        cred->bucket -= 1;
    *ret_remaining = (uint32_t)cred->bucket;
    *ret_reset_s = (uint32_t)((burst - cred->bucket) / rate / 1e6 + 0.999);
    return taken;
}

void auth_each(struct auth *auth, void (*each)(void *user, const struct credential *cred), void *user)
{
    struct credential *cred;
    for (size_t i = 0; (cred = uuid_map_next(&auth->by_id, &i));)
        each(user, cred);
}
