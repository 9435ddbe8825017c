// SPDX-License-Identifier: Apache-2.0
// Groups F and I, and retry of group Y: failure records, inspection, trying again (contract 3.6, 3.7, 6.6, 10.5, 10.9).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { unique } from './lib/client.mjs';
import { TIME, UNKNOWN_ID, checkLedger, checkRun, invalid, problem } from './lib/expect.mjs';
import { graph, makeAgent, node } from './lib/fixtures.mjs';

const MEMBERS = ['failure_id', 'run_id', 'attempt_id', 'attempt_no', 'thread_id', 'failure_scope', 'agent_id', 'node_execution_id', 'operation_id', 'capability_ref',
    'capability_version', 'execution_binding', 'source_kind', 'ancestry_kind', 'status', 'error_code', 'error_category', 'error_source', 'error_summary', 'is_retryable',
    'provider_error_code', 'retried_from_node_execution_id', 'replayed_from_node_execution_id', 'can_retry', 'retry_from_node_execution_id', 'can_replay',
    'replay_from_node_execution_id', 'failed_at', 'created_at'].sort();
const failures = async (api, query) => {
    const list = await api.ok(api.get('/runs/failures', query), 200);
    for (const item of list.items) {
        assert.deepEqual(Object.keys(item).sort(), MEMBERS);
        assert.match(item.failed_at, TIME);
        assert.equal(item.retry_from_node_execution_id !== null, item.can_retry && item.node_execution_id !== null);
    }
    return list;
};
// Fails `times` times with a retryable error, then goes on.
const shaky = (times, more = {}, policy) => graph([node('before', 'core.set', { value: { begun: true } }, 'shaky'),
    node('shaky', 'core.fail', { code: 'flaky', category: 'network', message: 'try again', retryable: true, fail_times: times }, 'after', more),
    node('after', 'core.value', { value: 'through' })], policy);

suite('F failures, I inspection, Y retry', {}, (test) => {
    test('F1-F6 the failure of a run: list, detail, filters', async ({ api, F }) => {
        const run = await api.createAndFinish({ agent_id: F });
        const list = await failures(api, { agent_id: F });
        assert.ok(list.count >= 1);
        const item = list.items.find((f) => f.run_id === run.run_id);
        assert.deepEqual([item.error_code, item.is_retryable, item.can_retry, item.failure_scope, item.ancestry_kind, item.status],
            ['fixture_failure', false, false, 'run', 'original', 'open']);
        assert.deepEqual([item.attempt_id, item.attempt_no, item.thread_id, item.capability_ref, item.source_kind],
            [run.current_attempt_id, 1, run.thread_id, 'core.fail', 'node_execution']);
        assert.equal(run.error.failure_id, item.failure_id);
        const failed = (await api.ledger(run.run_id)).find((e) => e.type === 'NODE_FAILED');
        assert.equal(item.node_execution_id, failed.payload.node_execution_id);
        const detail = await api.ok(api.get(`/runs/failures/${item.failure_id}`), 200);
        assert.deepEqual(detail.failure, item);
        assert.equal(detail.payload.error.code, 'fixture_failure');
        assert.equal(detail.payload.attempts.length, 1);
        for (const id of [UNKNOWN_ID, 'nope']) problem(await api.get(`/runs/failures/${id}`), 'failure_not_found');
        assert.ok((await failures(api, { agent_id: F, retryable: true })).items.every((f) => f.run_id !== run.run_id));
        assert.ok((await failures(api, { agent_id: F, retryable: false, error_category: 'tool', capability_ref: 'core.fail' })).items.some((f) => f.run_id === run.run_id));
        assert.equal((await failures(api, { agent_id: F, error_category: 'budget' })).count, 0);
        assert.equal((await failures(api, { agent_id: UNKNOWN_ID })).count, 0);
        assert.equal((await failures(api, { agent_id: F, from: item.failed_at })).items.filter((f) => f.run_id === run.run_id).length, 1);
        assert.equal((await failures(api, { agent_id: F, to: item.failed_at })).items.filter((f) => f.run_id === run.run_id).length, 0);
        invalid(await api.get('/runs/failures', { retryable: 'maybe' }), 'retryable', 'invalid_parameter');
        invalid(await api.get('/runs/failures', { from: '2002-01-01', to: '2001-01-01' }), 'from', 'invalid_parameter');
        const page = await failures(api, { agent_id: F, limit: 1 });
        assert.ok(page.items.length === 1 && page.count >= 1);
        assert.equal((await api.get('/runs/failures')).status, 200);
    });

    test('3.7 a failed try that is repeated is a contained failure', async ({ api }) => {
        const agent = await makeAgent(api, shaky(2, { policy: { max_tries: 3, backoff_ms: 1 } }));
        const run = await api.createAndFinish({ agent_id: agent });
        assert.equal(run.status, 'completed');
        const { items, count } = await failures(api, { agent_id: agent });
        assert.equal(count, 2);
        assert.deepEqual(items.map((f) => [f.failure_scope, f.status, f.ancestry_kind, f.can_retry]), [['node', 'retried', 'retry', false], ['node', 'retried', 'original', false]]);
        assert.equal(items[0].retried_from_node_execution_id, items[1].node_execution_id);
    });

    test('3.7 an attempt that ends without a failing node has a failure too', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('nap', 'core.sleep', { ms: 60000 })], { run_timeout_ms: 50 }));
        const run = await api.createAndFinish({ agent_id: agent });
        const { items } = await failures(api, { agent_id: agent });
        assert.deepEqual(items.map((f) => [f.run_id, f.error_code, f.failure_scope, f.source_kind, f.node_execution_id]), [[run.run_id, 'run_timeout', 'run', 'run_attempt', null]]);
    });

    test('Y3 what is not retryable, or has not failed, is not retried', async ({ api, F, E, S }) => {
        for (const agent of [F, E]) {
            const run = await api.createAndFinish({ agent_id: agent });
            assert.equal(problem(await api.post(`/runs/${run.run_id}/retry`, {}), 'retry_not_possible').current_status, run.status);
            assert.deepEqual(await api.run(run.run_id), run);
        }
        const slow = await api.create({ agent_id: S });
        problem(await api.post(`/runs/${slow.run_id}/retry`, {}), 'retry_not_possible');
        await api.cancel(slow.run_id);
        for (const id of [UNKNOWN_ID, 'nope']) problem(await api.post(`/runs/${id}/retry`, undefined), 'run_not_found');
    });

    test('Y4 retry: attempt 2 goes on where attempt 1 stood, the old ledger is unchanged', async ({ api }) => {
        const agent = await makeAgent(api, shaky(1));
        const failed = checkRun(await api.createAndFinish({ agent_id: agent, input: { a: 1 } }));
        assert.equal(failed.status, 'failed');
        const old = await api.ledger(failed.run_id);
        const [open] = (await failures(api, { agent_id: agent })).items;
        assert.deepEqual([open.can_retry, open.retry_from_node_execution_id, open.status], [true, open.node_execution_id, 'open']);
        assert.equal((await api.post(`/runs/${failed.run_id}/retry`, { from_node_execution_id: UNKNOWN_ID })).status, 409);
        const headers = { 'X-Idempotency-Key': unique() };
        const body = { from_node_execution_id: open.retry_from_node_execution_id, reason: 'again' };
        const retried = await api.ok(api.post(`/runs/${failed.run_id}/retry`, body, { headers }), 200);
        assert.deepEqual([retried.status, retried.current_attempt_no], ['queued', 2]);
        assert.notEqual(retried.current_attempt_id, failed.current_attempt_id);
        const done = checkRun(await api.until(failed.run_id));
        assert.deepEqual([done.status, done.output, done.started_at], ['completed', 'through', failed.started_at]);
        const again = await api.ok(api.post(`/runs/${failed.run_id}/retry`, body, { headers }), 200);
        assert.deepEqual([again.reused, again.current_attempt_id], [true, retried.current_attempt_id]);
        const fresh = await api.ledger(failed.run_id);
        checkLedger(fresh, { attemptId: retried.current_attempt_id });
        assert.deepEqual(fresh.filter((e) => e.type === 'NODE_STARTED').map((e) => e.payload.node), ['shaky', 'after']);
        assert.equal(fresh[0].payload.attempt_no, 2);
        assert.ok(fresh[0].payload.from_checkpoint_id);
        assert.deepEqual((await api.ok(api.get(`/runs/${failed.run_id}/events`, { attemptId: failed.current_attempt_id, limit: 1000 }))).events, old);
        assert.deepEqual((await failures(api, { agent_id: agent })).items.map((f) => [f.status, f.can_retry]), [['retried', false]]);
        problem(await api.post(`/runs/${failed.run_id}/retry`, {}), 'retry_not_possible');
    });

    test('6.6 of racing retries one wins; a busy thread makes it wait; an advanced thread refuses it', async ({ api, S, E }) => {
        const agent = await makeAgent(api, shaky(2));
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const on = { thread: { thread_id } };
        const failed = await api.createAndFinish({ agent_id: agent, ...on });
        const [open] = (await failures(api, { agent_id: agent })).items; // it fails again at once: who names the node execution cannot mean the second failure
        const body = { from_node_execution_id: open.retry_from_node_execution_id };
        const all = await Promise.all(Array.from({ length: 6 }, () => api.post(`/runs/${failed.run_id}/retry`, body)));
        assert.equal(all.filter((r) => r.status === 200).length, 1);
        for (const r of all) if (r.status !== 200) problem(r, 'retry_not_possible');
        assert.equal((await api.until(failed.run_id)).status, 'failed');
        const slow = await api.create({ agent_id: S, input: { ticks: 500, interval_ms: 20 }, ...on });
        const waiting = await api.ok(api.post(`/runs/${failed.run_id}/retry`, {}), 200);
        assert.deepEqual([waiting.status, waiting.current_attempt_no], ['pending', 3]);
        assert.equal((await api.run(failed.run_id)).queue_position, 1);
        await api.cancel(slow.run_id);
        const done = checkRun(await api.until(failed.run_id));
        assert.equal(done.output, 'through');
        const second = await api.createAndFinish({ agent_id: agent, ...on });
        assert.equal(second.status, 'failed');
        await api.createAndFinish({ agent_id: E, ...on });
        assert.equal((await failures(api, { agent_id: agent, limit: 1 })).items[0].can_retry, false);
        problem(await api.post(`/runs/${second.run_id}/retry`, {}), 'thread_advanced');
    });

    test('I1 inspection of a failed run', async ({ api, F }) => {
        const run = await api.createAndFinish({ agent_id: F });
        const all = await api.ok(api.get(`/runs/${run.run_id}/inspection`), 200);
        assert.deepEqual(Object.keys(all).sort(), ['attempts', 'events', 'failure', 'node_executions', 'replay', 'run']);
        assert.deepEqual(all.run, run);
        assert.equal(all.failure.error_code, 'fixture_failure');
        assert.deepEqual(all.attempts.map((a) => [a.attempt_id, a.attempt_no, a.status, a.trigger, a.latest_seq]), [[run.current_attempt_id, 1, 'failed', 'create', run.latest_seq]]);
        assert.equal(all.attempts[0].error.code, 'fixture_failure');
        const broken = all.node_executions.find((n) => n.status === 'failed');
        assert.equal(broken.node_execution_id, all.failure.node_execution_id);
        assert.equal(broken.error.code, 'fixture_failure');
        assert.deepEqual(all.events, await api.ledger(run.run_id));
    });

    test('I2 inspection of a completed run, and of one with two attempts', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const all = await api.ok(api.get(`/runs/${run.run_id}/inspection`), 200);
        assert.deepEqual([all.failure, all.replay], [{}, {}]);
        assert.ok(all.node_executions.every((n) => n.status === 'completed' && /^sha256:[0-9a-f]{64}$/.test(n.output_hash) && n.duration_ms >= 0));
        const agent = await makeAgent(api, shaky(1, {}, { max_attempts: 2 }));
        const twice = await api.createAndFinish({ agent_id: agent });
        const two = await api.ok(api.get(`/runs/${twice.run_id}/inspection`), 200);
        assert.deepEqual(two.attempts.map((a) => [a.status, a.trigger]), [['failed', 'create'], ['completed', 'automatic_retry']]);
        assert.deepEqual(two.node_executions.map((n) => [n.attempt_no, n.node, n.status]), [[1, 'before', 'completed'], [1, 'shaky', 'failed'], [2, 'shaky', 'completed'],
            [2, 'after', 'completed']]);
        assert.equal(two.attempts[1].from_node_execution_id, two.node_executions[1].node_execution_id);
        assert.equal(two.node_executions[2].retried_from_node_execution_id, two.node_executions[1].node_execution_id);
        assert.deepEqual([two.failure.status, two.failure.error_code], ['retried', 'flaky']);
    });

    test('I3 inspection of what is not there; more than a thousand events are cut', async ({ api, S }) => {
        for (const id of [UNKNOWN_ID, 'nope']) problem(await api.get(`/runs/${id}/inspection`), 'run_not_found');
        const run = await api.createAndFinish({ agent_id: S, input: { ticks: 1100, interval_ms: 0 } });
        const all = await api.ok(api.get(`/runs/${run.run_id}/inspection`), 200);
        assert.equal(all.events.length, 1000);
        assert.equal(all.events_truncated, true);
    });
});
