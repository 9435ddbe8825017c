/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c - the descriptions of the tables, made from the lists in rows.h, and what a list cannot say: secondary
 * indexes, and whether rows live in the tree of their key.
 *
 * Clustered are tables with small rows whose key sits at the right edge (time-ordered ids) or is all one ever asks for.
 * Rows with bodies are kept in order of arrival: inside an index tree a row above a quarter of a page spills into
 * overflow pages, and each change of a row rewrites it there. */
#include "store/rows.h"

#define COLUMN(kind, name) { #name, COL_##kind, offsetof(ROW, name) },

#define ROW struct meta_row
static const struct column meta_columns[] = { META_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct node_row
static const struct column node_columns[] = { NODE_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct tenant_row
static const struct column tenant_columns[] = { TENANT_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct workspace_row
static const struct column workspace_columns[] = { WORKSPACE_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct credential_row
static const struct column credential_columns[] = { CREDENTIAL_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct agent_row
static const struct column agent_columns[] = { AGENT_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct bundle_row
static const struct column bundle_columns[] = { BUNDLE_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct version_row
static const struct column version_columns[] = { VERSION_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct plan_row
static const struct column plan_columns[] = { PLAN_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct thread_row
static const struct column thread_columns[] = { THREAD_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct run_row
static const struct column run_columns[] = { RUN_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct attempt_row
static const struct column attempt_columns[] = { ATTEMPT_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct wait_row
static const struct column wait_columns[] = { WAIT_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct snapshot_row
static const struct column snapshot_columns[] = { SNAPSHOT_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct blob_row
static const struct column blob_columns[] = { BLOB_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct idem_row
static const struct column idem_columns[] = { IDEM_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct timer_row
static const struct column timer_columns[] = { TIMER_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct stream_row
static const struct column stream_columns[] = { STREAM_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct producer_row
static const struct column producer_columns[] = { PRODUCER_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct purge_row
static const struct column purge_columns[] = { PURGE_COLUMNS(COLUMN) };
#undef ROW

#define ROW struct audit_row
static const struct column audit_columns[] = { AUDIT_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct failure_row
static const struct column failure_columns[] = { FAILURE_COLUMNS(COLUMN) };
#undef ROW

#define ROW struct cron_row
static const struct column cron_columns[] = { CRON_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct flow_row
static const struct column flow_columns[] = { FLOW_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct session_row
static const struct column session_columns[] = { SESSION_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct message_row
static const struct column message_columns[] = { MESSAGE_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct handle_row
static const struct column handle_columns[] = { HANDLE_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct stat_row
static const struct column stat_columns[] = { STAT_COLUMNS(COLUMN) };
#undef ROW

#define ROW struct kv_row
static const struct column kv_columns[] = { KV_COLUMNS(COLUMN) };
#undef ROW
#define ROW struct spend_row
static const struct column spend_columns[] = { SPEND_COLUMNS(COLUMN) };
#undef ROW

static const char *const no_indexes[] = { NULL };
static const char *const workspace_indexes[] = {
    "CREATE INDEX IF NOT EXISTS workspace_by_tenant ON workspace (tenant, id)",
    "CREATE INDEX IF NOT EXISTS workspace_by_app ON workspace (app_id)",
    NULL,
};
static const char *const credential_indexes[] = {
    "CREATE INDEX IF NOT EXISTS credential_by_lookup ON credential (lookup)",
    "CREATE INDEX IF NOT EXISTS credential_by_workspace ON credential (workspace, id)",
    NULL,
};
static const char *const agent_indexes[] = {
    "CREATE INDEX IF NOT EXISTS agent_by_name ON agent (workspace, name)",
    "CREATE INDEX IF NOT EXISTS agent_by_workspace ON agent (workspace, id)",
    NULL,
};
static const char *const bundle_indexes[] = {
    "CREATE INDEX IF NOT EXISTS bundle_by_agent ON bundle (agent, id)",
    NULL,
};
static const char *const version_indexes[] = {
    "CREATE INDEX IF NOT EXISTS version_by_agent ON version (agent, version_no)",
    NULL,
};
static const char *const run_indexes[] = {
    "CREATE INDEX IF NOT EXISTS run_by_status ON run (status, workspace, id)",
    "CREATE INDEX IF NOT EXISTS run_by_thread ON run (thread, workspace, id)",
    "CREATE INDEX IF NOT EXISTS run_by_agent ON run (agent, workspace, id)",
    "CREATE INDEX IF NOT EXISTS run_by_end ON run (completed_ms) WHERE stream > 0 AND completed_ms > 0",
    "CREATE INDEX IF NOT EXISTS run_by_replayed ON run (replayed_from) WHERE replayed_from IS NOT NULL",
    NULL,
};
static const char *const wait_indexes[] = {
    "CREATE INDEX IF NOT EXISTS wait_by_run ON wait (run, id)",
    "CREATE INDEX IF NOT EXISTS wait_by_status ON wait (status, workspace, id)",
    NULL,
};
static const char *const idem_indexes[] = {
    "CREATE INDEX IF NOT EXISTS idem_by_expiry ON idem (expires_ms)",
    NULL,
};

static const char *const stream_indexes[] = {
    "CREATE INDEX IF NOT EXISTS stream_by_name ON stream (workspace, name)",
    "CREATE INDEX IF NOT EXISTS stream_by_due ON stream (expiring, due_ms)",
    NULL,
};

static const char *const failure_indexes[] = {
    "CREATE INDEX IF NOT EXISTS failure_by_run ON failure (run, id)",
    NULL,
};

static const char *const kv_indexes[] = {
    "CREATE INDEX IF NOT EXISTS kv_by_expiry ON kv (expires_ms) WHERE expires_ms > 0",
    NULL,
};

#define spend_indexes    no_indexes
#define audit_indexes    no_indexes
#define stat_indexes     no_indexes
#define cron_indexes     no_indexes
#define meta_indexes     no_indexes
#define node_indexes     no_indexes
#define tenant_indexes   no_indexes
#define plan_indexes     no_indexes
#define thread_indexes   no_indexes
#define attempt_indexes  no_indexes
#define snapshot_indexes no_indexes
#define blob_indexes     no_indexes
#define timer_indexes    no_indexes
#define producer_indexes no_indexes
#define purge_indexes    no_indexes
#define flow_indexes     no_indexes
#define session_indexes  no_indexes
#define message_indexes  no_indexes
#define handle_indexes   no_indexes

/* Rows with bodies: inputs and outputs, values, prompts, definitions, states. Measured for run, written at each event
 * by 64 appenders: 1.2 times the events/s of the clustered table at 400 bytes of input and output, 1.2 to 1.4 times at
 * 2,200. */
#define IN_ORDER_OF_ARRIVAL(id)                                                                             \
    ((id) == TABLE_run || (id) == TABLE_thread || (id) == TABLE_wait || (id) == TABLE_bundle || (id) == TABLE_plan || \
     (id) == TABLE_snapshot || (id) == TABLE_blob || (id) == TABLE_failure || (id) == TABLE_cron || \
     (id) == TABLE_message || (id) == TABLE_session)

#define TABLE_ENTRY(table, COLUMNS, key_count)      \
    [TABLE_##table] = {                             \
        .name = #table,                             \
        .columns = table##_columns,                 \
        .count = ARRAY_LEN(table##_columns),        \
        .keys = (key_count),                        \
        .clustered = !IN_ORDER_OF_ARRIVAL(TABLE_##table), \
        .indexes = table##_indexes,                 \
        .row_size = sizeof(struct table##_row),     \
    },

const struct table tables[TABLE_COUNT] = { TABLES(TABLE_ENTRY) };
