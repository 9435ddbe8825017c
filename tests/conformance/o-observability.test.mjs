// SPDX-License-Identifier: Apache-2.0
// Group O: summary, capabilities and bindings (contract 3.8, 8, 10.9). Every number is computed here from the runs and their
// ledgers, and compared exactly; each case uses agents of its own, so that nobody else's runs are in its window.
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { UNKNOWN_ID, TIME, invalid } from './lib/expect.mjs';
import { fixtureDefinition, graph, makeAgent, node } from './lib/fixtures.mjs';

const MEMBERS = ['workspace_id', 'agent_id', 'from', 'to', 'runs_total', 'runs_completed', 'runs_failed', 'node_executions_total', 'node_executions_failed',
    'retry_count', 'replay_count', 'handoff_count', 'avg_run_latency_ms', 'p95_run_latency_ms', 'avg_node_latency_ms', 'failure_rate', 'top_error_categories'];
const mean = (list) => (list.length ? Math.round((list.reduce((a, b) => a + b, 0) / list.length) * 1000) / 1000 : 0);
const p95 = (list) => (list.length ? [...list].sort((a, b) => a - b)[Math.ceil(0.95 * list.length) - 1] : 0);
const ms = (text) => Date.parse(text);

const summary = async (api, query) => {
    const body = await api.ok(api.get('/runs/observability/summary', query), 200);
    assert.deepEqual(Object.keys(body), MEMBERS);
    for (const name of MEMBERS.slice(4, 16)) assert.ok(Number.isFinite(body[name]) && body[name] >= 0, `${name} is ${body[name]}`);
    return body;
};
const groups = async (api, what, query) => {
    const body = await api.ok(api.get(`/runs/observability/${what}`, query), 200);
    assert.deepEqual(Object.keys(body), ['items', 'count']);
    for (const item of body.items) assert.match(item.last_used_at, TIME);
    return body;
};
// Runs in turn, so that none waits for another one's processor time.
const finish = async (api, agent, inputs) => {
    const runs = [];
    for (const input of inputs) runs.push(await api.createAndFinish({ agent_id: agent, input }));
    return runs;
};
const latency = (run) => ms(run.completed_at) - ms(run.started_at);
const zeros = (body) => {
    for (const name of MEMBERS.slice(4, 16)) assert.equal(body[name], 0, name);
    assert.deepEqual(body.top_error_categories, []);
};
const napper = graph([node('nap', 'core.sleep', { ms: { $from: '/input/ms' } }, 'after'), node('after', 'core.value', { value: 1 })]);

suite('O observability', {}, (test) => {
    test('O1 a summary of known runs: every number', async ({ api }) => {
        const agent = await makeAgent(api, napper);
        const runs = await finish(api, agent, [2, 40, 5, 12, 25].map((n) => ({ ms: n })));
        const events = (await Promise.all(runs.map((run) => api.ledger(run.run_id)))).flat();
        const nodes = events.filter((e) => e.type === 'NODE_FINISHED').map((e) => e.payload.duration_ms);
        const body = await summary(api, { agent_id: agent });
        assert.deepEqual(body, { workspace_id: runs[0].workspace_id, agent_id: agent, from: null, to: null, runs_total: 5, runs_completed: 5, runs_failed: 0,
            node_executions_total: 10, node_executions_failed: 0, retry_count: 0, replay_count: 0, handoff_count: 0,
            avg_run_latency_ms: mean(runs.map(latency)), p95_run_latency_ms: p95(runs.map(latency)), avg_node_latency_ms: mean(nodes),
            failure_rate: 0, top_error_categories: [] });
        assert.ok(body.p95_run_latency_ms >= 40, 'the longest nap is the 95th percentile of five');
    });

    test('O1 the rank of the 95th percentile of 20 is the 19th', async ({ api }) => {
        const agent = await makeAgent(api, napper);
        const runs = await finish(api, agent, Array.from({ length: 20 }, (_, i) => ({ ms: i === 7 ? 200 : i })));
        const sorted = runs.map(latency).sort((a, b) => a - b);
        const body = await summary(api, { agent_id: agent });
        assert.equal(body.p95_run_latency_ms, sorted[18]);
        assert.ok(body.p95_run_latency_ms < 200 && sorted[19] >= 200, `${sorted}`);
    });

    test('O1 a window holds its first instant and not its last one', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const runs = [];
        for (let i = 0; i < 3; i++) {
            runs.push(await api.createAndFinish({ agent_id: agent }));
            await new Promise((resolve) => { setTimeout(resolve, 3); });
        }
        const [first, , last] = runs.map((run) => run.created_at);
        assert.equal((await summary(api, { agent_id: agent, from: first })).runs_total, 3);
        const body = await summary(api, { agent_id: agent, from: first, to: last });
        assert.deepEqual([body.runs_total, body.node_executions_total, body.from, body.to], [2, 2, first, last]);
        assert.equal((await summary(api, { agent_id: agent, from: last, to: last })).runs_total, 0);
        assert.equal((await summary(api, { agent_id: agent, from: '2001-02-03' })).from, '2001-02-03T00:00:00.000Z');
        invalid(await api.get('/runs/observability/summary', { from: '2002-01-01', to: '2001-01-01' }), 'from', 'invalid_parameter');
        invalid(await api.get('/runs/observability/summary', { to: 'yesterday' }), 'to', 'invalid_parameter');
    });

    test('O1 runs that go on, wait or were cancelled are counted, and dilute no rate', async ({ api }) => {
        const human = await makeAgent(api, fixtureDefinition('human'));
        const waiting = await api.create({ agent_id: human });
        await api.waiting(waiting.run_id);
        const before = await summary(api, { agent_id: human });
        assert.deepEqual([before.runs_total, before.runs_completed, before.runs_failed, before.failure_rate, before.avg_run_latency_ms], [1, 0, 0, 0, 0]);
        const begun = async (id) => (await api.ledger(id)).filter((e) => e.type === 'NODE_STARTED').length;
        const started = await begun(waiting.run_id);
        assert.equal(before.node_executions_total, started);
        await new Promise((resolve) => { setTimeout(resolve, 150); });
        await api.resume(waiting.run_id, { input: 1 });
        const run = await api.until(waiting.run_id);
        const after = await summary(api, { agent_id: human });
        assert.deepEqual([after.runs_total, after.runs_completed, after.node_executions_total], [1, 1, await begun(run.run_id)]);
        assert.ok(after.p95_run_latency_ms < latency(run) - 100, 'the time in which a person was asked does not count');
        const dropped = await api.create({ agent_id: human });
        await api.waiting(dropped.run_id);
        await api.cancel(dropped.run_id);
        const end = await summary(api, { agent_id: human });
        assert.deepEqual([end.runs_total, end.runs_completed, end.runs_failed, end.node_executions_total, end.p95_run_latency_ms],
            [2, 1, 0, after.node_executions_total + started, after.p95_run_latency_ms]);
    });

    test('O2 a summary of failures', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('fail'));
        const runs = await finish(api, agent, [1, 2, 3]);
        const body = await summary(api, { agent_id: agent });
        assert.deepEqual([body.runs_total, body.runs_completed, body.runs_failed, body.failure_rate, body.node_executions_failed], [3, 0, 3, 1, 3]);
        assert.deepEqual(body.top_error_categories, [{ error_category: 'tool', count: 3 }]);
        assert.equal(body.avg_run_latency_ms, mean(runs.map(latency)));
    });

    test('O2 tries and attempts are retries, and a contained failure is no failure of the run', async ({ api }) => {
        const shaky = (times, more, policy) => graph([node('shaky', 'core.fail', { code: 'flaky', category: 'network', message: 'again', retryable: true, fail_times: times }, 'after', more),
            node('after', 'core.value', { value: 'through' })], policy);
        const tries = await makeAgent(api, shaky(2, { policy: { max_tries: 3, backoff_ms: 1 } }));
        await finish(api, tries, [0]);
        const one = await summary(api, { agent_id: tries });
        assert.deepEqual([one.runs_completed, one.node_executions_total, one.node_executions_failed, one.retry_count, one.failure_rate], [1, 4, 2, 2, 0]);
        assert.deepEqual(one.top_error_categories, []);
        const attempts = await makeAgent(api, shaky(1, {}, { max_attempts: 2 }));
        const [run] = await finish(api, attempts, [0]);
        const two = await summary(api, { agent_id: attempts });
        assert.deepEqual([run.status, run.current_attempt_no], ['completed', 2]);
        assert.deepEqual([two.runs_total, two.runs_completed, two.node_executions_total, two.node_executions_failed], [1, 1, 3, 1]);
        assert.deepEqual(two.top_error_categories, [{ error_category: 'network', count: 1 }]);
        const again = (await api.ledger(run.run_id)).filter((e) => e.type === 'NODE_STARTED' && e.payload.try_no > 1).length;
        assert.equal(two.retry_count, 1 + again);
    });

    test('O2 a failed run that is tried again is counted once, as what it is now', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('shaky', 'core.fail', { code: 'flaky', category: 'network', message: 'again', retryable: true, fail_times: 1 }, 'nap'),
            node('nap', 'core.sleep', { ms: 200 })]));
        const [run] = await finish(api, agent, [0]);
        assert.equal(run.status, 'failed');
        assert.deepEqual([(await summary(api, { agent_id: agent })).runs_failed], [1]);
        await api.ok(api.post(`/runs/${run.run_id}/retry`, {}), 200);
        const during = await summary(api, { agent_id: agent });
        assert.deepEqual([during.runs_total, during.runs_failed, during.runs_completed, during.retry_count >= 1], [1, 0, 0, true]);
        await api.until(run.run_id);
        const after = await summary(api, { agent_id: agent });
        assert.deepEqual([after.runs_total, after.runs_failed, after.runs_completed], [1, 0, 1]);
    });

    test('O2 handoffs', async ({ api, E }) => {
        const agent = await makeAgent(api, graph([node('give', 'core.handoff', { agent_id: E, input: {} })]));
        await finish(api, agent, [1, 2]);
        const body = await summary(api, { agent_id: agent });
        assert.deepEqual([body.runs_total, body.handoff_count], [2, 2]);
    });

    test('O3 nothing in the window, nobody by that name: zeros', async ({ api, E }) => {
        await api.createAndFinish({ agent_id: E });
        zeros(await summary(api, { agent_id: E, to: '2001-01-01' }));
        zeros(await summary(api, { agent_id: UNKNOWN_ID }));
        const nobody = await summary(api, { agent_id: 'nobody' });
        zeros(nobody);
        assert.equal(nobody.agent_id, 'nobody');
        for (const what of ['capabilities', 'bindings']) assert.deepEqual(await groups(api, what, { agent_id: UNKNOWN_ID }), { items: [], count: 0 });
    });

    test('O4 capabilities and bindings', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('nap', 'core.sleep', { ms: { $from: '/input/ms' } }, 'pick'),
            node('pick', 'core.switch', { cases: [{ when: { pointer: '/input/fail', equals: true }, next: 'fail' }, { next: 'ask' }] }),
            node('fail', 'core.fail', { code: 'x', category: 'tool', message: 'no', retryable: false }),
            node('ask', 'core.human', { prompt: 'so?' })]));
        const ends = [];
        for (const [nap, fail] of [[3, true], [9, true], [1, false]]) {
            const made = await api.create({ agent_id: agent, input: { ms: nap, fail } });
            ends.push(await api.until(made.run_id, new Set(['failed', 'waiting_for_human'])));
        }
        assert.deepEqual(ends.map((run) => run.status), ['failed', 'failed', 'waiting_for_human']);
        const events = (await Promise.all(ends.map((run) => api.ledger(run.run_id)))).flat();
        const begun = events.filter((e) => e.type === 'NODE_STARTED');
        const naps = events.filter((e) => e.type === 'NODE_FINISHED' && e.payload.node === 'nap').map((e) => e.payload.duration_ms);
        const { items, count } = await groups(api, 'capabilities', { agent_id: agent });
        const expected = [...new Set(begun.map((e) => e.payload.capability_ref))]
            .map((ref) => [ref, begun.filter((e) => e.payload.capability_ref === ref).length])
            .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
        assert.equal(count, expected.length);
        assert.deepEqual(items.map((item) => [item.capability_ref, item.node_executions_total]), expected);
        const by = Object.fromEntries(items.map((item) => [item.capability_ref, item]));
        const { last_used_at: _, ...nap } = by['core.sleep'];
        assert.deepEqual(nap, { capability_ref: 'core.sleep', capability_version: '1', node_executions_total: 3, node_executions_failed: 0, failure_rate: 0,
            retry_count: 0, avg_latency_ms: mean(naps), p95_latency_ms: p95(naps), top_error_category: null });
        assert.deepEqual([by['core.fail'].node_executions_failed, by['core.fail'].failure_rate, by['core.fail'].top_error_category], [2, 1, 'tool']);
        assert.deepEqual([by['core.human'].node_executions_total, by['core.human'].avg_latency_ms, by['core.human'].p95_latency_ms], [1, 0, 0]);
        const page = await groups(api, 'capabilities', { agent_id: agent, limit: 1, offset: 1 });
        assert.deepEqual(page, { items: [items[1]], count });
        const bindings = await groups(api, 'bindings', { agent_id: agent });
        assert.deepEqual(bindings.items.map((b) => [b.execution_binding, b.node_executions_total, b.node_executions_failed, b.top_error_category]),
            [['builtin', begun.length - 1, 2, 'tool'], ['human', 1, 0, null]]);
        assert.equal(bindings.count, 2);
        assert.equal(bindings.items[0].failure_rate, 2 / (begun.length - 1));
        assert.ok(!('capability_ref' in bindings.items[0]));
        invalid(await api.get('/runs/observability/bindings', { limit: 0 }), 'limit', 'invalid_parameter');
    });

    test('O5 a replay is counted as one', async ({ api, t }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const [run] = await finish(api, agent, [1]);
        const before = await summary(api, { agent_id: agent });
        assert.equal(before.replay_count, 0);
        const index = await api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`), 200);
        const made = await api.post(`/runs/${run.run_id}/checkpoints/${index.items[0].checkpoint_id}/replay`, {});
        if (made.status === 404 && made.json?.code === 'not_found') {
            t.skip('this server has no replay');
            return;
        }
        assert.equal(made.status, 201);
        await api.until(made.json.run_id);
        const after = await summary(api, { agent_id: agent });
        assert.deepEqual([after.replay_count, after.runs_total], [1, 2]);
    });
});
