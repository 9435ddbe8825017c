// SPDX-License-Identifier: Apache-2.0
// What every answer, run and ledger has to satisfy, whatever a test is about.
import assert from 'node:assert/strict';

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const UNKNOWN_ID = '01890000-0000-7000-8000-00000000dead';

// The error table of the contract (2.5): code -> status, and which are worth repeating.
const ERRORS = {
    400: ['malformed_json', 'invalid_cursor', 'invalid_header', 'idempotency_key_mismatch', 'workspace_required'],
    401: ['unauthenticated'],
    403: ['insufficient_scope', 'workspace_forbidden', 'tenant_forbidden'],
    404: ['not_found', 'run_not_found', 'attempt_not_found', 'checkpoint_not_found', 'failure_not_found', 'agent_not_found',
        'bundle_not_found', 'thread_not_found', 'approval_not_found', 'cron_not_found', 'token_not_found'],
    405: ['method_not_allowed'],
    406: ['not_acceptable'],
    409: ['invalid_run_state', 'agent_has_no_live_bundle', 'agent_archived', 'checkpoint_not_replayable',
        'replay_not_deterministic', 'retry_not_possible', 'thread_advanced', 'thread_deleted', 'version_conflict', 'thread_busy'],
    410: ['ledger_expired'],
    413: ['payload_too_large'],
    415: ['unsupported_media_type'],
    422: ['validation_failed', 'invalid_parameter', 'idempotency_key_reused', 'bundle_agent_mismatch', 'thread_queue_full'],
    429: ['rate_limited', 'too_many_streams'],
    500: ['internal_error'],
    503: ['draining', 'overloaded', 'storage_unavailable'],
};
const STATUS_OF = new Map(Object.entries(ERRORS).flatMap(([status, codes]) => codes.map((code) => [code, Number(status)])));

// Checks the whole form of an error answer (RFC 9457 members plus ours) and answers its body.
export function problem(res, code) {
    const status = STATUS_OF.get(code);
    assert.ok(status, `${code} is in the error table`);
    const where = `${res.method} ${res.target} -> ${res.status} ${res.text?.slice(0, 400)}`;
    assert.equal(res.status, status, where);
    const body = res.json;
    assert.ok(body && typeof body === 'object', `error body is a JSON object: ${where}`);
    assert.equal(body.code, code, where);
    assert.equal(body.type, `urn:agent-runs:error:${code}`, where);
    assert.equal(body.status, status, where);
    assert.ok(typeof body.title === 'string' && body.title !== '', `title: ${where}`);
    assert.ok(typeof body.detail === 'string' && body.detail !== '', `detail: ${where}`);
    assert.equal(body.message, body.detail, `message equals detail: ${where}`);
    assert.ok(typeof body.instance === 'string' && res.target.startsWith(body.instance.split('?')[0]), `instance: ${where}`);
    assert.equal(body.retryable, [429, 500, 503].includes(status), `retryable: ${where}`);
    assert.ok(typeof body.request_id === 'string' && body.request_id !== '', `request_id: ${where}`);
    assert.equal(res.headers.get('x-request-id'), body.request_id, 'request id of header and body agree');
    assert.ok(Array.isArray(body.errors), `errors is an array: ${where}`);
    assert.match(res.headers.get('content-type') ?? '', /^application\/(json; charset=utf-8|problem\+json)/);
    if (status === 429 || status === 503) {
        assert.match(res.headers.get('retry-after') ?? '', /^[1-9]\d*$/, `Retry-After: ${where}`);
    }
    return body;
}

// 422 with a violation at a JSON pointer (or of a query parameter).
export function invalid(res, where, code = 'validation_failed') {
    const body = problem(res, code);
    assert.ok(body.errors.length >= 1 && body.errors.length <= 50, `1 to 50 violations: ${res.text}`);
    for (const entry of body.errors) {
        assert.ok(typeof entry.code === 'string' && typeof entry.message === 'string', `violation form: ${res.text}`);
        assert.ok(typeof (entry.pointer ?? entry.parameter) === 'string', `violation place: ${res.text}`);
    }
    if (where !== undefined) {
        assert.ok(body.errors.some((entry) => (entry.pointer ?? entry.parameter) === where), `no violation at ${where}: ${res.text}`);
    }
    return body;
}

export function noNulls(object) {
    for (const [key, value] of Object.entries(object)) {
        if (key !== 'input' && key !== 'output') assert.notEqual(value, null, `member ${key} is null`);
    }
}

const STATUSES = ['pending', 'queued', 'running', 'completed', 'failed', 'cancelled', 'waiting_for_human', 'resumed'];
const CATEGORIES = ['validation', 'auth', 'not_found', 'conflict', 'rate_limit', 'timeout', 'network', 'provider', 'tool', 'model',
    'budget', 'human', 'replay', 'infrastructure', 'cancelled', 'internal'];
const SOURCES = ['agent', 'tool', 'model', 'runtime', 'provider', 'human', 'client'];

// Error object of a run, attempt or node (3.2).
export function checkError(error) {
    for (const key of ['code', 'category', 'message', 'source']) assert.equal(typeof error[key], 'string', `error.${key}`);
    assert.equal(typeof error.retryable, 'boolean', 'error.retryable');
    assert.ok(CATEGORIES.includes(error.category), `category ${error.category}`);
    assert.ok(SOURCES.includes(error.source), `source ${error.source}`);
}

// A complete Run (3.1): which members are there in which status.
export function checkRun(run) {
    assert.ok(STATUSES.includes(run.status), `status ${run.status}`);
    for (const key of ['run_id', 'thread_id', 'agent_id', 'bundle_id', 'tenant_id', 'workspace_id', 'current_attempt_id']) {
        assert.ok(typeof run[key] === 'string' && run[key] !== '', `${key} of ${JSON.stringify(run).slice(0, 400)}`);
    }
    assert.match(run.run_id, UUID);
    assert.ok(Number.isInteger(run.current_attempt_no) && run.current_attempt_no >= 1, 'current_attempt_no');
    assert.ok(Number.isInteger(run.latest_seq) && run.latest_seq >= 0, 'latest_seq');
    assert.match(run.created_at, TIME);
    noNulls(run);
    const terminal = ['completed', 'failed', 'cancelled'].includes(run.status);
    assert.equal('completed_at' in run, terminal, `completed_at in status ${run.status}`);
    assert.equal('output' in run, run.status === 'completed', `output in status ${run.status}`);
    assert.equal('human_prompt' in run, run.status === 'waiting_for_human', `human_prompt in status ${run.status}`);
    assert.equal('duration_ms' in run, terminal && 'started_at' in run, `duration_ms in status ${run.status}`);
    if (run.status === 'failed') checkError(run.error);
    if (run.status === 'completed' || run.status === 'cancelled') assert.ok(!('error' in run) || run.status === 'cancelled', 'no error');
    if (run.status === 'waiting_for_human') {
        assert.ok(typeof run.human_prompt === 'string' && run.human_prompt !== '', 'human_prompt');
        assert.equal(typeof run.checkpoint_id, 'string', 'pause checkpoint');
    }
    if (terminal && 'started_at' in run) {
        assert.match(run.started_at, TIME);
        assert.match(run.completed_at, TIME);
        assert.ok(run.created_at <= run.started_at && run.started_at <= run.completed_at, 'times are in order');
        assert.ok(Number.isInteger(run.duration_ms) && run.duration_ms >= 0, 'duration_ms');
    }
    const replayed = ['replayed_from_run_id', 'replayed_from_checkpoint_id', 'replay_mode'].filter((key) => key in run);
    assert.ok(replayed.length === 0 || replayed.length === 3, 'the replay members come together');
    return run;
}

const EVENT_KEYS = ['attempt_id', 'id', 'operation_id', 'parent_operation_id', 'payload', 'root_operation_id', 'seq', 'timestamp', 'type'];
const RESERVED = ['type', 'attempt_id', 'operation_id', 'parent_operation_id', 'root_operation_id'];
const NODE_TYPES = ['NODE_STARTED', 'NODE_FINISHED', 'NODE_FAILED', 'MODEL_STARTED', 'MODEL_DELTA', 'MODEL_FINISHED', 'TOOL_CALL_STARTED',
    'TOOL_CALL_FINISHED', 'TOOL_CALL_FAILED', 'HUMAN_PROMPT', 'HANDOFF_STARTED', 'HANDOFF_FINISHED', 'REPLAY_DIVERGED'];
const PAYLOAD = {
    RUN_STARTED: ['agent_id', 'bundle_id', 'attempt_no'],
    NODE_STARTED: ['node_execution_id', 'capability_ref', 'capability_version', 'execution_binding', 'step', 'try_no'],
    NODE_FINISHED: ['node_execution_id', 'duration_ms'],
    NODE_FAILED: ['node_execution_id', 'error', 'will_retry'],
    MODEL_STARTED: ['model', 'call_id'],
    MODEL_DELTA: ['index', 'delta'],
    MODEL_FINISHED: ['call_id', 'usage', 'finish_reason'],
    CHECKPOINT_CREATED: ['checkpoint_id', 'kind', 'step', 'state_hash'],
    HUMAN_PROMPT: ['prompt', 'checkpoint_id', 'approval_id'],
    RUN_RESUMED: ['input', 'approval_id', 'resumed_by'],
    HANDOFF_STARTED: ['child_run_id', 'child_agent_id'],
    HANDOFF_FINISHED: ['child_run_id', 'child_agent_id', 'status'],
    RUN_FINISHED: ['output', 'duration_ms'],
    RUN_FAILED: ['error', 'final'],
    RUN_CANCELLED: ['reason', 'cancelled_by'],
};
export const isTerminalEvent = (event) => ['RUN_FINISHED', 'RUN_FAILED', 'RUN_CANCELLED'].includes(event.type);

// One RunEventDto (3.5, 5.7, CB8, CB9).
export function checkEvent(event) {
    const where = JSON.stringify(event).slice(0, 500);
    assert.deepEqual(Object.keys(event).sort(), EVENT_KEYS, `members of ${where}`);
    assert.match(event.id, UUID, where);
    assert.ok(Number.isSafeInteger(event.seq) && event.seq >= 1, where);
    assert.match(event.type, /^[A-Z][A-Z0-9_]*$/, where);
    assert.match(event.timestamp, TIME, where);
    assert.equal(typeof event.attempt_id, 'string', where);
    assert.ok(typeof event.operation_id === 'string' && event.operation_id, where);
    assert.ok(typeof event.root_operation_id === 'string' && event.root_operation_id, where);
    assert.ok(event.parent_operation_id === null || typeof event.parent_operation_id === 'string', where);
    assert.ok(event.payload === null || (typeof event.payload === 'object' && !Array.isArray(event.payload)), where);
    for (const name of RESERVED) assert.ok(!(name in (event.payload ?? {})), `reserved ${name} in payload: ${where}`);
    for (const name of PAYLOAD[event.type] ?? []) assert.ok(name in (event.payload ?? {}), `payload.${name} missing: ${where}`);
    if (NODE_TYPES.includes(event.type)) assert.ok(typeof event.payload.node === 'string' && event.payload.node, `payload.node: ${where}`);
    if (event.type === 'NODE_FAILED' || event.type === 'RUN_FAILED') checkError(event.payload.error);
    if (event.type === 'MODEL_DELTA') assert.equal(typeof event.payload.delta, 'string', where);
}

// A ledger from seq 1 (5.1, 5.7, 4.4). closed: whether its attempt is over; child: whether the run has a parent.
export function checkLedger(events, { attemptId, closed = true, child = false } = {}) {
    const ids = new Set();
    const nodes = new Map();
    const deltas = new Map();
    let before = '';
    events.forEach((event, at) => {
        checkEvent(event);
        assert.equal(event.seq, at + 1, 'seq is gapless from 1');
        assert.ok(!ids.has(event.id), 'event ids are unique');
        ids.add(event.id);
        assert.ok(event.timestamp >= before, 'timestamps do not go back');
        before = event.timestamp;
        if (attemptId) assert.equal(event.attempt_id, attemptId);
        assert.equal(event.root_operation_id, events[0].root_operation_id, 'one root operation');
        if (isTerminalEvent(event)) assert.equal(at, events.length - 1, `${event.type} is the last event`);
        checkOrder(events, at, nodes, deltas, child);
    });
    if (!events.length) return;
    const last = events[events.length - 1];
    assert.equal(isTerminalEvent(last), closed, `last event is ${last.type}`);
    if (!(events.length === 1 && isTerminalEvent(last))) assert.equal(events[0].type, 'RUN_STARTED', 'first event');
    if (last.type === 'RUN_FINISHED') {
        const final = events[events.length - 2];
        assert.equal(final.type, 'CHECKPOINT_CREATED', 'a final checkpoint precedes RUN_FINISHED');
        assert.equal(final.payload.kind, 'final');
        for (const [id, node] of nodes) assert.ok(node.ended, `node execution ${id} (${node.name}) has an end`);
    }
}

function checkOrder(events, at, nodes, deltas, child) {
    const event = events[at];
    const payload = event.payload ?? {};
    if (event.type.startsWith('RUN_') && !child) {
        assert.equal(event.parent_operation_id, null, `${event.type} has no parent operation`);
        assert.equal(event.operation_id, event.root_operation_id, `${event.type} carries the root operation`);
    }
    if (event.type === 'NODE_STARTED') {
        assert.ok(!nodes.has(payload.node_execution_id), 'a node execution starts once');
        assert.equal(event.parent_operation_id, events[0].operation_id, 'a node operation belongs to the run operation');
        nodes.set(payload.node_execution_id, { name: payload.node, operation: event.operation_id, ended: false });
    } else if (NODE_TYPES.includes(event.type) && !(event.type === 'REPLAY_DIVERGED' && event.operation_id === event.root_operation_id)) {
        const node = [...nodes.values()].find((n) => n.operation === event.operation_id || n.operation === event.parent_operation_id);
        assert.ok(node, `${event.type} at ${event.seq} comes before its NODE_STARTED`);
        assert.equal(payload.node, node.name, `${event.type} names its node`);
        assert.ok(!node.ended, `${event.type} at ${event.seq} comes after the end of its node execution`);
        if (event.type === 'NODE_FINISHED' || event.type === 'NODE_FAILED') node.ended = true;
    }
    if (event.type === 'MODEL_DELTA') {
        const key = `${event.operation_id}/${payload.call_id ?? ''}`;
        assert.equal(payload.index, deltas.get(key) ?? 0, `delta index at seq ${event.seq}`);
        deltas.set(key, payload.index + 1);
    }
    if (event.type === 'CHECKPOINT_CREATED') {
        assert.ok(['start', 'node', 'human', 'final'].includes(payload.kind), `checkpoint kind ${payload.kind}`);
        if (payload.kind === 'node') {
            assert.equal(events[at - 1].type, 'NODE_FINISHED', `checkpoint (node) at ${event.seq} directly follows NODE_FINISHED`);
        }
    }
    if (event.type === 'HUMAN_PROMPT') {
        assert.ok(events.slice(0, at).some((e) => e.type === 'CHECKPOINT_CREATED' && e.payload.checkpoint_id === payload.checkpoint_id
            && e.payload.kind === 'human'), 'the pause checkpoint comes before its prompt');
    }
}

// An offset list (2.4).
export function checkList(res) {
    assert.equal(res.status, 200, res.text);
    const list = res.json;
    assert.ok(Array.isArray(list.items), res.text.slice(0, 300));
    for (const key of ['total', 'limit', 'offset']) assert.ok(Number.isInteger(list[key]), `${key}: ${res.text.slice(0, 300)}`);
    assert.equal(list.has_more, list.offset + list.items.length < list.total, 'has_more');
    assert.ok(list.items.length <= list.limit, 'page is not longer than limit');
    return list;
}
