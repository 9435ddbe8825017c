/* SPDX-License-Identifier: Apache-2.0 */
/* rows.h - the tables, each described once: a struct, its columns, its key (model.md 5.3).
 *
 * Statements for create, upsert, delete and get are made from these descriptions; only queries that are more than that are
 * written out (store/query.c). Column kinds: I64; BYTES (struct span, NULL when p is NULL); UUID (16 bytes, NULL when nil);
 * HASH (32 bytes). Times are wall milliseconds, 0 for "not yet". */
#pragma once
#include "base/ids.h"

enum column_kind { COL_I64, COL_BYTES, COL_UUID, COL_HASH };

struct column {
    const char      *name;
    enum column_kind kind;
    size_t           offset;
};

struct table {
    const char          *name;
    const struct column *columns;
    unsigned             count;
    unsigned             keys;       /* the first `keys` columns are the primary key; they are never NULL */
    bool                 clustered;  /* rows live in the tree of their key: small rows. Else in order of arrival, with an index */
    const char *const   *indexes;    /* "CREATE INDEX IF NOT EXISTS …" texts, NULL-terminated */
    size_t               row_size;   /* sizeof the struct */
};

/* X(kind, name). The struct's members have the columns' names. */
#define META_COLUMNS(X) X(BYTES, name) X(BYTES, value)
#define NODE_COLUMNS(X) X(BYTES, id) X(I64, epoch) X(I64, expires_ms) X(BYTES, address)
#define TENANT_COLUMNS(X) X(UUID, id) X(BYTES, name) X(I64, created_ms)
#define WORKSPACE_COLUMNS(X)                                                                                                   \
    X(UUID, id) X(UUID, tenant) X(BYTES, name) X(BYTES, app_id) X(BYTES, metadata) X(I64, revision) X(I64, created_ms)              \
    X(I64, updated_ms)
/* secret: only for app_key, sealed. scopes: JSON array. revoked rows stay. (model.md 2.1) */
#define CREDENTIAL_COLUMNS(X)                                                                                                  \
    X(UUID, id) X(UUID, tenant) X(UUID, workspace) X(UUID, customer) X(I64, kind) X(BYTES, lookup) X(BYTES, secret) X(BYTES, name)   \
    X(BYTES, prefix) X(BYTES, scopes) X(BYTES, capability) X(BYTES, client_id) X(I64, expires_ms) X(I64, revoked_ms) X(I64, created_ms)
#define AGENT_COLUMNS(X)                                                                                                       \
    X(UUID, id) X(UUID, tenant) X(UUID, workspace) X(BYTES, name) X(BYTES, description) X(BYTES, metadata) X(I64, archived_ms)      \
    X(UUID, live_bundle) X(UUID, live_version) X(I64, live_version_no) X(I64, revision) X(I64, created_ms) X(I64, updated_ms)
#define BUNDLE_COLUMNS(X)                                                                                                      \
    X(UUID, id) X(UUID, workspace) X(UUID, agent) X(BYTES, definition) X(HASH, plan) X(UUID, version) X(I64, revision)            \
    X(I64, created_ms) X(I64, updated_ms)
#define VERSION_COLUMNS(X)                                                                                                     \
    X(UUID, id) X(UUID, workspace) X(UUID, agent) X(UUID, bundle) X(I64, version_no) X(BYTES, notes) X(I64, published_ms)
#define PLAN_COLUMNS(X) X(HASH, hash) X(BYTES, kind) X(BYTES, json) X(I64, created_ms)
#define THREAD_COLUMNS(X)                                                                                                      \
    X(UUID, workspace) X(UUID, id) X(UUID, tenant) X(UUID, agent) X(I64, implicit) X(I64, state) X(UUID, active_run) X(I64, pending)  \
    X(BYTES, values_json) X(BYTES, metadata) X(UUID, head_checkpoint) X(UUID, forked_from) X(UUID, last_run) X(BYTES, channel)      \
    X(BYTES, owner_node) X(I64, owner_epoch) X(I64, cleared_below) X(I64, created_ms) X(I64, updated_ms)
#define RUN_COLUMNS(X)                                                                                                         \
    X(UUID, workspace) X(UUID, id) X(UUID, tenant) X(UUID, thread) X(UUID, agent) X(UUID, bundle) X(UUID, version) X(HASH, plan)     \
    X(I64, status) X(I64, mask) X(I64, source) X(I64, pinned) X(I64, stream) X(UUID, attempt) X(I64, attempt_no) X(I64, wf_base)     \
    X(I64, last_seq) X(I64, checkpoint_seq) X(BYTES, input) X(BYTES, output) X(BYTES, error) X(BYTES, prompt) X(UUID, wait)         \
    X(I64, created_ms) X(I64, started_ms) X(I64, completed_ms) X(I64, updated_ms) X(I64, waited_ms) X(I64, waiting_since_ms)        \
    X(UUID, root_operation) X(UUID, parent_operation) X(UUID, parent_run) X(I64, parent_op) X(UUID, rerun_of) X(UUID, replayed_from) \
    X(UUID, replayed_checkpoint) X(I64, replay_mode) X(BYTES, cancel_reason)
/* older attempts only: the current one lives in the run row. stream 0, here and in run: its time is over, the ledger is gone */
#define ATTEMPT_COLUMNS(X)                                                                                                     \
    X(UUID, run) X(I64, no) X(UUID, id) X(I64, stream) X(I64, status) X(I64, wf_base) X(I64, last_seq) X(I64, checkpoint_seq)       \
    X(BYTES, error) X(I64, started_ms) X(I64, completed_ms)
#define WAIT_COLUMNS(X)                                                                                                        \
    X(UUID, id) X(UUID, workspace) X(UUID, run) X(UUID, thread) X(UUID, attempt) X(I64, op) X(I64, kind) X(BYTES, node) X(BYTES, call_name)\
    X(I64, checkpoint_seq) X(BYTES, prompt) X(BYTES, schema_json) X(BYTES, options) X(I64, expires_ms) X(I64, status) X(BYTES, answer)     \
    X(BYTES, decided_by) X(I64, decided_ms) X(I64, created_ms)
#define SNAPSHOT_COLUMNS(X) X(UUID, attempt) X(I64, seq) X(HASH, digest) X(BYTES, body)
#define BLOB_COLUMNS(X) X(HASH, hash) X(BYTES, body)
/* key: SHA-256 of (workspace, scope, key) (model.md 2.2) */
#define IDEM_COLUMNS(X) X(HASH, key) X(UUID, workspace) X(HASH, fingerprint) X(UUID, target) X(BYTES, answer) X(I64, expires_ms)
/* A free stream (streams.md 15): what was asked for when it was made (ttl_s -1, expires_ms 0: not), what is in force (a fork
 * inherits), last access as it was persisted, and due_ms for the sweeper while `expiring`. closer: the producer whose append
 * closed it. last_order: Stream-Seq. fork_of: number of the stream it was forked from, behind fork_seq. deleted: its name is
 * kept for its forks. Its tail is the head of its frames. */
#define STREAM_COLUMNS(X)                                                                                                      \
    X(I64, number) X(UUID, workspace) X(BYTES, name) X(BYTES, media) X(I64, ttl_s) X(I64, expires_ms) X(I64, window_s)             \
    X(I64, until_ms) X(I64, access_ms) X(I64, expiring) X(I64, due_ms) X(I64, closed) X(BYTES, closer) X(I64, closer_epoch)         \
    X(I64, closer_seq) X(BYTES, last_order) X(I64, fork_of) X(I64, fork_seq) X(BYTES, fork_name) X(I64, fork_sub) X(I64, forks)     \
    X(I64, deleted) X(I64, created_ms)
#define PRODUCER_COLUMNS(X) X(I64, stream) X(BYTES, id) X(I64, epoch) X(I64, last_seq)
/* streams that nobody can name any more and whose frames and producers are still there */
#define PURGE_COLUMNS(X) X(I64, stream) X(I64, since_ms)
/* due times of runs that left memory */
#define TIMER_COLUMNS(X) X(I64, due_ms) X(UUID, workspace) X(UUID, run)

/* one row per change over an API, written with the change; never changed. request: the request's id. data: a JSON object or NULL */
#define AUDIT_COLUMNS(X)                                                                                                       \
    X(UUID, workspace) X(UUID, id) X(UUID, tenant) X(I64, at_ms) X(UUID, actor) X(BYTES, action) X(BYTES, kind) X(UUID, resource)  \
    X(BYTES, request) X(BYTES, data)
/* what went wrong (agent-runs.md 3.7): scope 0 the run's attempt, 1 a node, contained. op: of the node execution, 0 none. status:
 * 0 open, 1 retried; the other words follow from the run */
#define FAILURE_COLUMNS(X)                                                                                                     \
    X(UUID, workspace) X(UUID, id) X(UUID, run) X(UUID, attempt) X(I64, attempt_no) X(UUID, thread) X(UUID, agent) X(I64, scope)   \
    X(I64, op) X(I64, status) X(BYTES, node) X(BYTES, capability_ref) X(BYTES, capability_version) \
    X(BYTES, execution_binding) X(BYTES, code) X(BYTES, category) X(BYTES, source) X(BYTES, summary) X(BYTES, provider_code)        \
    X(BYTES, error) X(I64, retryable) X(I64, checkpoint_seq) X(I64, failed_ms)
/* What is counted (agent-runs.md 8), in the order in which windows of time ask for it; the projection is written with what it
 * tells of. kind, status: store/aggregate.h. created_ms, agent: of the run. op: STAT_RUN 0, STAT_NODE the operation, else a
 * seq. ms: -1 none. tries: of a run its attempts, of a node execution its try. at_ms: when it was last heard of. */
#define STAT_COLUMNS(X)                                                                                                        \
    X(UUID, workspace) X(I64, kind) X(I64, created_ms) X(UUID, run) X(I64, attempt_no) X(I64, op) X(UUID, agent) X(I64, status)    \
    X(I64, ms) X(I64, tries) X(I64, replayed) X(I64, at_ms) X(BYTES, ref) X(BYTES, version) X(BYTES, binding) X(BYTES, category)
/* config: JSON object of what was asked for, as the API takes it. due_ms: the latest minute that was dealt with; 0: none yet.
 * error: why the latest due minute gave no run, or NULL */
#define CRON_COLUMNS(X)                                                                                                        \
    X(UUID, workspace) X(UUID, id) X(UUID, tenant) X(UUID, agent) X(BYTES, config) X(I64, due_ms) X(I64, last_ms) X(UUID, last_run)  \
    X(BYTES, error) X(I64, revision) X(I64, created_ms) X(I64, updated_ms)

/* Values of tools (workflow-runs.md 3.6): handle is a state handle, or the id of the thread or run whose own one it is. value: JSON.
 * expires_ms 0: never. */
#define KV_COLUMNS(X)                                                                                                          \
    X(UUID, workspace) X(UUID, handle) X(BYTES, key) X(BYTES, value) X(I64, expires_ms) X(I64, updated_ms)
/* What was spent. kind: run/money.c. id: of the run, the thread, or the workspace; day: of a workspace, days since 1970, else 0. usd:
 * in 10^-12; of calls without a known price only their number. */
#define SPEND_COLUMNS(X)                                                                                                       \
    X(UUID, workspace) X(I64, kind) X(UUID, id) X(I64, day) X(I64, usd) X(I64, unpriced) X(I64, tokens_in) X(I64, tokens_out)      \
    X(I64, model_calls) X(I64, tool_calls) X(I64, raised_usd) X(I64, raised_tokens) X(I64, raised_model_calls) \
    X(I64, raised_tool_calls) X(I64, raised_seconds)
/* The workflow surface (workflow-runs.md). flow: what a run has there besides its own row. session: what a thread has; its messages
 * are numbered from 1, those up to `cleared` are gone. handle: a state handle; expires_ms 0: never. */
#define FLOW_COLUMNS(X)    X(UUID, workspace) X(UUID, run) X(BYTES, customer)
#define SESSION_COLUMNS(X) X(UUID, workspace) X(UUID, id) X(BYTES, customer) X(I64, last_no) X(I64, cleared) X(I64, created_ms) \
    X(I64, updated_ms) X(BYTES, metadata)
#define MESSAGE_COLUMNS(X) X(UUID, session) X(I64, no) X(BYTES, role) X(BYTES, content) X(UUID, run) X(I64, created_ms)
#define HANDLE_COLUMNS(X)  X(UUID, workspace) X(UUID, id) X(BYTES, customer) X(I64, expires_ms) X(I64, created_ms)

#define TABLES(X)                                                                                                              \
    X(meta, META_COLUMNS, 1) X(node, NODE_COLUMNS, 1) X(tenant, TENANT_COLUMNS, 1) X(workspace, WORKSPACE_COLUMNS, 1)             \
    X(credential, CREDENTIAL_COLUMNS, 1) X(agent, AGENT_COLUMNS, 1) X(bundle, BUNDLE_COLUMNS, 1) X(version, VERSION_COLUMNS, 1)   \
    X(plan, PLAN_COLUMNS, 1) X(thread, THREAD_COLUMNS, 2) X(run, RUN_COLUMNS, 2) X(attempt, ATTEMPT_COLUMNS, 2)                   \
    X(wait, WAIT_COLUMNS, 1) X(snapshot, SNAPSHOT_COLUMNS, 2) X(blob, BLOB_COLUMNS, 1) X(idem, IDEM_COLUMNS, 1)                   \
    X(timer, TIMER_COLUMNS, 3) X(stream, STREAM_COLUMNS, 1) X(producer, PRODUCER_COLUMNS, 2) X(purge, PURGE_COLUMNS, 1)  \
    X(audit, AUDIT_COLUMNS, 2) X(failure, FAILURE_COLUMNS, 2) X(stat, STAT_COLUMNS, 6) X(cron, CRON_COLUMNS, 2) \
    X(kv, KV_COLUMNS, 3) X(spend, SPEND_COLUMNS, 4)    \
    X(flow, FLOW_COLUMNS, 2) X(session, SESSION_COLUMNS, 2) X(message, MESSAGE_COLUMNS, 2) X(handle, HANDLE_COLUMNS, 2)

#define ROW_MEMBER_I64(name)   int64_t name;
#define ROW_MEMBER_BYTES(name) struct span name;
#define ROW_MEMBER_UUID(name)  struct uuid name;
#define ROW_MEMBER_HASH(name)  struct sha256 name;
#define ROW_MEMBER(kind, name) ROW_MEMBER_##kind(name)
#define ROW_STRUCT(table, COLUMNS, keys) \
    struct table##_row {                 \
        COLUMNS(ROW_MEMBER)              \
    };
TABLES(ROW_STRUCT)
#undef ROW_STRUCT

enum table_id {
#define ROW_ID(table, COLUMNS, keys) TABLE_##table,
    TABLES(ROW_ID)
#undef ROW_ID
    TABLE_COUNT
};
extern const struct table tables[TABLE_COUNT];
