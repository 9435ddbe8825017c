/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.c - agents, bundles and plans in RAM, written through; and the idempotency keys of answers.
 *
 * Agents, bundles and plans stay in RAM once they were used: there are few of them, every create needs them, and what is in
 * RAM is never older than what is on its way to disk. */
#include "run/inner.h"
#include <stdlib.h>

static struct agent *agent_keep(struct engine *engine, const struct agent_row *row)
{
    struct agent *agent = uuid_map_get(&engine->agents, row->id);
    struct arena  fresh = { 0 };
    struct agent_row copy = *row;
    copy.name = arena_copy(&fresh, row->name);
    copy.description = arena_copy(&fresh, row->description);
    copy.metadata = arena_copy(&fresh, row->metadata);
    if (!agent) {
        agent = mem_alloc(sizeof *agent);
        uuid_map_put(&engine->agents, row->id, agent);
    }
    arena_done(&agent->arena); /* `row` may have pointed into it: everything was copied above */
    agent->arena = fresh;
    agent->row = copy;
    return agent;
}

static struct bundle *bundle_keep(struct engine *engine, const struct bundle_row *row)
{
    struct bundle    *bundle = uuid_map_get(&engine->bundles, row->id);
    struct arena      fresh = { 0 };
    struct bundle_row copy = *row;
    copy.definition = arena_copy(&fresh, row->definition);
    if (!bundle) {
        bundle = mem_alloc(sizeof *bundle);
        uuid_map_put(&engine->bundles, row->id, bundle);
    }
    arena_done(&bundle->arena);
    bundle->arena = fresh;
    bundle->row = copy;
    return bundle;
}

struct agent *catalog_agent(struct engine *engine, struct uuid workspace, struct uuid id)
{
    struct agent *agent = uuid_map_get(&engine->agents, id);
    if (!agent && !engine_read_begin(engine)) {
        struct agent_row row = { .id = id };
        if (!reader_get(engine_reader(engine), TABLE_agent, &row))
            agent = agent_keep(engine, &row);
        engine_read_end(engine);
    }
    return agent && uuid_eq(agent->row.workspace, workspace) ? agent : NULL;
}

struct bundle *catalog_bundle(struct engine *engine, struct uuid workspace, struct uuid id)
{
    struct bundle *bundle = uuid_map_get(&engine->bundles, id);
    if (!bundle && !engine_read_begin(engine)) {
        struct bundle_row row = { .id = id };
        if (!reader_get(engine_reader(engine), TABLE_bundle, &row))
            bundle = bundle_keep(engine, &row);
        engine_read_end(engine);
    }
    return bundle && uuid_eq(bundle->row.workspace, workspace) ? bundle : NULL;
}

struct agent *catalog_put_agent(struct engine *engine, const struct agent_row *row)
{
    struct agent *agent = agent_keep(engine, row);
    batch_put(engine_batch(engine), TABLE_agent, &agent->row);
    return agent;
}

struct bundle *catalog_put_bundle(struct engine *engine, const struct bundle_row *row)
{
    struct bundle *bundle = bundle_keep(engine, row);
    batch_put(engine_batch(engine), TABLE_bundle, &bundle->row);
    return bundle;
}

/* ---- versions: in RAM only while they are on their way to disk ---- */

struct version_out {
    struct engine     *engine;
    struct version_row row;
    struct arena       arena;
};

static void version_committed(void *arg, enum err err)
{
    struct version_out *out = arg;
    (void)err;
    uuid_map_del(&out->engine->versions, out->row.id);
    arena_done(&out->arena);
    free(out);
}

struct version_row *catalog_version(struct engine *engine, struct uuid id)
{
    struct version_out *out = uuid_map_get(&engine->versions, id);
    return out ? &out->row : NULL;
}

void catalog_put_version(struct engine *engine, const struct version_row *row)
{
    struct version_out *out = mem_alloc(sizeof *out);
    out->engine = engine;
    out->row = *row;
    if (row->notes.p)
        out->row.notes = arena_copy(&out->arena, row->notes);
    uuid_map_put(&engine->versions, row->id, out);
    batch_put(engine_batch(engine), TABLE_version, row);
    engine_after(engine, version_committed, out);
}

/* ---- plans: keyed by the first half of their hash ---- */

static struct uuid plan_key(const struct sha256 *hash)
{
    struct uuid key;
    memcpy(key.b, hash->b, sizeof key.b);
    return key;
}

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    arena_done(&plan->arena);
    free(plan);
}

static const struct machine_ops *machine_named(const struct engine *engine, struct span kind)
{
    for (const struct machine_ops *const *m = engine->config.machines; *m; m++)
        if (span_is(kind, (*m)->kind))
            return *m;
    return NULL;
}

static enum err only_unsupported(const struct issues *issues)
{
    for (size_t i = 0; i < issues->count && i < ISSUES_MAX; i++)
        if (!span_is(issues->items[i].code, "unsupported_binding"))
            return ERR_VALIDATION;
    return ERR_UNSUPPORTED_BINDING;
}

void catalog_prepared_free(struct prepared *prepared)
{
    plan_free(prepared->plan);
    buf_done(&prepared->definition);
    *prepared = (struct prepared){ 0 };
}

enum err catalog_prepare(const struct engine *engine, struct jv definition, struct prepared *ret, struct issues *issues)
{
    struct plan *plan = mem_alloc(sizeof *plan);
    *ret = (struct prepared){ .plan = plan };
    plan->ops = engine->config.machines[0]; /* the graph: it holds the other kinds in its nodes */
    plan->kinds = engine->config.machines;
    enum err e = plan->ops->compile(definition, plan, issues);
    if (e == ERR_VALIDATION)
        e = only_unsupported(issues);
    if (!e) {
        ret->hash = sha256_of(plan->json);
        json_minify(definition, &ret->definition);
        e = plan->compiled ? ERR_OK : plan->ops->open(plan);
    }
    if (e)
        catalog_prepared_free(ret);
    return e;
}

/* The plan is stored with the turn, and kept in memory unless it is there. */
static void keep_plan(struct engine *engine, struct prepared *prepared)
{
    struct plan    *plan = TAKE(prepared->plan);
    struct plan_row row = { .hash = prepared->hash, .kind = span_of(plan->ops->kind), .json = plan->json,
                            .created_ms = engine_now_ms(engine) };
    batch_insert_new(engine_batch(engine), TABLE_plan, &row);
    if (uuid_map_get(&engine->plans, plan_key(&prepared->hash)))
        plan_free(plan);
    else
        uuid_map_put(&engine->plans, plan_key(&prepared->hash), plan);
}

enum err catalog_compile(struct engine *engine, struct jv definition, struct sha256 *ret_hash, struct issues *issues)
{
    struct prepared prepared;
    enum err        e = catalog_prepare(engine, definition, &prepared, issues);
    if (e)
        return e;
    keep_plan(engine, &prepared);
    *ret_hash = prepared.hash;
    catalog_prepared_free(&prepared);
    return ERR_OK;
}

struct plan *plan_load(const struct engine *engine, struct reader *reader, struct sha256 hash)
{
    struct plan_row           row = { .hash = hash };
    const struct machine_ops *ops = reader_get(reader, TABLE_plan, &row) ? NULL : machine_named(engine, row.kind);
    if (!ops)
        return NULL;
    struct plan *plan = mem_alloc(sizeof *plan);
    plan->ops = ops;
    plan->kinds = engine->config.machines;
    plan->json = arena_copy(&plan->arena, row.json);
    if (!ops->open(plan))
        return plan;
    plan_free(plan);
    return NULL;
}

struct plan *catalog_plan(struct engine *engine, struct sha256 hash, struct error *error)
{
    struct plan *plan = uuid_map_get(&engine->plans, plan_key(&hash));
    if (plan)
        return plan;
    if (engine_read_begin(engine))
        return NULL;
    plan = plan_load(engine, engine_reader(engine), hash);
    if (plan)
        uuid_map_put(&engine->plans, plan_key(&hash), plan);
    engine_read_end(engine);
    if (!plan)
        error_set(error, ERR_CORRUPT, "", "the plan of the bundle cannot be read");
    return plan;
}

void catalog_free(struct engine *engine)
{
    struct agent  *agent;
    struct bundle *bundle;
    struct plan   *plan;
    for (size_t i = 0; (agent = uuid_map_next(&engine->agents, &i));) {
        arena_done(&agent->arena);
        free(agent);
    }
    for (size_t i = 0; (bundle = uuid_map_next(&engine->bundles, &i));) {
        arena_done(&bundle->arena);
        free(bundle);
    }
    for (size_t i = 0; (plan = uuid_map_next(&engine->plans, &i));)
        plan_free(plan);
    uuid_map_done(&engine->agents);
    uuid_map_done(&engine->bundles);
    uuid_map_done(&engine->plans);
    uuid_map_done(&engine->versions);
    uuid_map_done(&engine->sessions);
}

/* ---- plans without a bundle of their own ---- */

struct uuid inline_agent_id(struct uuid workspace)
{
    return uuid_derive(workspace, UUID_INLINE, 0);
}

static struct uuid inline_bundle_id(struct uuid workspace, const struct sha256 *plan)
{
    uint64_t number;
    memcpy(&number, plan->b, sizeof number);
    return uuid_derive(workspace, UUID_BUNDLE, be64toh(number));
}

struct bundle *catalog_inline_bundle(struct engine *engine, struct uuid workspace, const struct sha256 *plan)
{
    struct bundle *bundle = catalog_bundle(engine, workspace, inline_bundle_id(workspace, plan));
    return bundle && memcmp(bundle->row.plan.b, plan->b, sizeof plan->b) == 0 ? bundle : NULL;
}

static void inline_agent(struct engine *engine, struct uuid tenant, struct uuid workspace)
{
    struct uuid id = inline_agent_id(workspace);
    int64_t     now = engine_now_ms(engine);
    if (catalog_agent(engine, workspace, id))
        return;
    struct agent_row row = { .id = id, .tenant = tenant, .workspace = workspace, .name = SPAN("~inline"), .metadata = SPAN("{}"),
                             .description = SPAN("owns the runs that were made without an agent"), .revision = 1, .created_ms = now,
                             .updated_ms = now };
    catalog_put_agent(engine, &row);
}

void catalog_inline_prepared(struct engine *engine, struct uuid tenant, struct uuid workspace, struct prepared *prepared)
{
    int64_t now = engine_now_ms(engine);
    if (!catalog_inline_bundle(engine, workspace, &prepared->hash)) {
        keep_plan(engine, prepared);
        inline_agent(engine, tenant, workspace);
        struct bundle_row row = { .id = inline_bundle_id(workspace, &prepared->hash), .workspace = workspace,
                                  .agent = inline_agent_id(workspace), .definition = buf_view(&prepared->definition),
                                  .plan = prepared->hash, .revision = 1, .created_ms = now, .updated_ms = now };
        catalog_put_bundle(engine, &row);
    }
    catalog_prepared_free(prepared);
}

enum err catalog_inline(struct engine *engine, struct uuid tenant, struct uuid workspace, struct jv definition, struct sha256 *ret_plan,
                        struct issues *issues)
{
    struct prepared prepared;
    enum err        e = catalog_prepare(engine, definition, &prepared, issues);
    if (e)
        return e;
    *ret_plan = prepared.hash;
    catalog_inline_prepared(engine, tenant, workspace, &prepared);
    return ERR_OK;
}

/* ---- idempotency ---- */

/* A key that is on its way to disk; the row takes over when it is there. */
struct idem_out {
    struct engine *engine;
    struct sha256  key, fingerprint;
    struct uuid    target;
    char          *answer;
    size_t         answer_len;
};

static struct uuid half(const struct sha256 *key)
{
    return plan_key(key);
}

struct sha256 idem_key(struct uuid workspace, const char *scope, struct span key)
{
    struct buf text = { 0 };
    buf_put(&text, workspace.b, sizeof workspace.b);
    buf_put(&text, scope, strlen(scope) + 1);
    buf_span(&text, key);
    struct sha256 hash = sha256_of(buf_view(&text));
    buf_done(&text);
    return hash;
}

bool idem_get(struct engine *engine, struct sha256 key, struct arena *arena, struct idem_hit *ret)
{
    struct idem_out *out = uuid_map_get(&engine->idems, half(&key));
    if (out) {
        *ret = (struct idem_hit){ out->fingerprint, out->target, arena_copy(arena, span_make(out->answer, out->answer_len)) };
        return true;
    }
    struct idem_row row = { .key = key };
    bool            found = false;
    if (!engine_read_begin(engine)) {
        found = !reader_get(engine_reader(engine), TABLE_idem, &row);
        if (found)
            *ret = (struct idem_hit){ row.fingerprint, row.target, arena_copy(arena, row.answer) };
        engine_read_end(engine);
    }
    return found;
}

static void idem_committed(void *arg, enum err err)
{
    struct idem_out *out = arg;
    (void)err;
    uuid_map_del(&out->engine->idems, half(&out->key));
    free(out->answer);
    free(out);
}

enum { IDEM_KEEP_MS = 24 * 3600 * 1000 };

void idem_put(struct engine *engine, struct uuid workspace, struct sha256 key, struct sha256 fingerprint, struct uuid target,
              struct span answer)
{
    struct idem_out *out = mem_alloc(sizeof *out);
    *out = (struct idem_out){ .engine = engine, .key = key, .fingerprint = fingerprint, .target = target,
                              .answer = mem_dup(answer.p, answer.n), .answer_len = answer.n };
    uuid_map_put(&engine->idems, half(&key), out);
    struct idem_row row = { .key = key, .workspace = workspace, .fingerprint = fingerprint, .target = target, .answer = answer,
                            .expires_ms = engine_now_ms(engine) + IDEM_KEEP_MS };
    batch_put(engine_batch(engine), TABLE_idem, &row);
    engine_after(engine, idem_committed, out);
}
