/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h - credentials: who asks, what they may, how often (model.md 2.1, agent-runs.md 2.3, 2.6). Engine thread only.
 *
 * All credentials are in RAM by the SHA-256 of their text; only hashes are stored. A revoked one stays known, so that revoked
 * and unknown look the same from outside and cost the same. */
#pragma once
#include "api/api.h"

enum credential_kind { CRED_TOKEN, CRED_MR_KEY, CRED_CUSTOMER, CRED_APP_KEY, CRED_RT_TOKEN };

struct stream_sink;
struct credential {
    struct credential_row row;     /* spans in `arena` */
    struct arena          arena;
    struct sha256         hash;
    unsigned              refs;    /* the table holds one */
    bool                  all;     /* has the scope "*" */
    uint64_t              bucket_us;  /* rate limit: when it was last filled */
    double                bucket;
    uint32_t              streams;
    struct stream_sink   *sinks;   /* open followers, to end when it is revoked */
};

struct workspace {
    struct workspace_row row;
    struct arena         arena;
    struct workspace    *next;
};

struct auth;
enum err auth_new(struct engine *engine, struct auth **ret, struct error *error);
void     auth_free(struct auth *auth);
/* NULL: unknown, revoked, expired, or not one of `kinds` (bit set of 1 << credential_kind). `now_ms` decides about expiry. Not
 * referenced. */
struct credential *auth_find(struct auth *auth, struct span token, unsigned kinds, int64_t now_ms);
bool auth_usable(const struct credential *cred, int64_t now_ms);
bool auth_allows(const struct credential *cred, const char *scope);
void auth_ref(struct credential *cred);
void auth_unref(struct credential *cred);
/* A new credential. */
struct credential_spec {
    enum credential_kind kind;
    struct uuid          tenant, workspace; /* workspace nil: all of the tenant */
    struct span          name, scopes;      /* scopes: JSON array */
    struct span          customer;          /* of CRED_CUSTOMER: whom it stands for */
    struct span          text;              /* what the client shows; only its hash is kept. auth_mint makes it */
    int64_t              expires_ms;        /* 0: never */
    bool                 stored;            /* written through the turn's batch */
};
struct credential *auth_put(struct auth *auth, const struct credential_spec *spec);
/* With a text of "prefix + 48 hex", given once; stored. */
struct credential *auth_mint(struct auth *auth, const struct credential_spec *spec, char ret_text[64]);
struct credential *auth_by_id(struct auth *auth, struct uuid id);
void auth_revoke(struct auth *auth, struct credential *cred);
/* Takes one request from the bucket: false when it is empty. remaining and reset (seconds until full) are for the headers. */
bool auth_take(struct credential *cred, uint64_t now_us, uint32_t per_minute, uint32_t burst, uint32_t *ret_remaining,
               uint32_t *ret_reset_s);

/* Workspaces and tenants are few and in RAM. */
struct workspace *auth_workspace(struct auth *auth, struct uuid id);
struct workspace *auth_workspaces(struct auth *auth); /* a list, oldest first */
struct workspace *auth_put_workspace(struct auth *auth, const struct workspace_row *row);
void              auth_drop_workspace(struct auth *auth, struct workspace *workspace);
bool              auth_first_start(const struct auth *auth);
struct uuid       auth_tenant(const struct auth *auth);
struct tenant_row auth_tenant_row(const struct auth *auth);
/* Iterates credentials of a tenant. */
void auth_each(struct auth *auth, void (*each)(void *user, const struct credential *cred), void *user);
