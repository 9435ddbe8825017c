// SPDX-License-Identifier: Apache-2.0
// Group B: batch (contract 6.3, 10.4).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { unique } from './lib/client.mjs';
import { UNKNOWN_ID, checkList, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, makeAgent } from './lib/fixtures.mjs';

suite('B batch', { fixtures: 'E' }, (test) => {
    const batch = (api, body, options) => api.post('/runs/batch', body, options);
    const echoAgent = (api) => makeAgent(api, fixtureDefinition('echo'));
    const count = async (api, agentId) => checkList(await api.get('/runs', { agent_id: agentId })).total;

    test('B1 three runs', async ({ api, E }) => {
        const res = await batch(api, { agent_id: E, inputs: [{ input: 'a' }, { input: null }, { input: { c: 1 } }] });
        assert.equal(res.status, 201, res.text);
        assert.deepEqual([res.json.count, res.json.created, res.json.reused], [3, 3, 0]);
        assert.deepEqual(res.json.items.map((i) => i.index), [0, 1, 2]);
        assert.equal(new Set(res.json.items.map((i) => i.run_id)).size, 3);
        assert.equal(new Set(res.json.items.map((i) => i.thread_id)).size, 3);
        const runs = await Promise.all(res.json.items.map((i) => api.until(i.run_id)));
        assert.deepEqual(runs.map((r) => r.output), [{ echo: 'a' }, { echo: null }, { echo: { c: 1 } }]);
        for (const [at, run] of runs.entries()) {
            assert.equal(run.source, 'batch');
            assert.equal(run.thread_id, res.json.items[at].thread_id);
            assert.equal(run.bundle_id, runs[0].bundle_id);
            assert.equal((await api.ok(api.get(`/threads/${run.thread_id}`))).implicit, true);
            assert.equal(res.json.items[at].reused, false);
        }
    });

    test('B2 item keys', async ({ api }) => {
        const agent = await echoAgent(api);
        const inputs = [1, 2, 3].map((input) => ({ input, idempotency_key: unique() }));
        const first = await batch(api, { agent_id: agent, inputs });
        assert.equal(first.status, 201, first.text);
        const second = await batch(api, { agent_id: agent, inputs });
        assert.equal(second.status, 200, second.text);
        assert.deepEqual([second.json.count, second.json.created, second.json.reused], [3, 0, 3]);
        assert.deepEqual(second.json.items.map((i) => [i.index, i.run_id, i.reused]), first.json.items.map((i) => [i.index, i.run_id, true]));
        const mixed = await batch(api, { agent_id: agent, inputs: [...inputs, { input: 4 }] });
        assert.equal(mixed.status, 201, mixed.text);
        assert.deepEqual([mixed.json.created, mixed.json.reused], [1, 3]);
        assert.equal(await count(api, agent), 4);
    });

    test('2.7 the header K gives items without a key K#index', async ({ api, E }) => {
        const key = unique();
        const own = unique();
        const headers = { 'X-Idempotency-Key': key };
        const body = { agent_id: E, inputs: [{ input: 'x' }, { input: 'y', idempotency_key: own }, { input: 'z' }] };
        const first = await batch(api, body, { headers });
        const second = await batch(api, body, { headers });
        assert.deepEqual([first.status, second.status], [201, 200], second.text);
        const ids = first.json.items.map((i) => i.run_id);
        assert.deepEqual(second.json.items.map((i) => i.run_id), ids);
        const two = await api.ok(api.post('/runs', { agent_id: E, input: 'z', idempotency_key: `${key}#2` }), 200);
        assert.equal(two.run_id, ids[2]);
        const one = await api.ok(api.post('/runs', { agent_id: E, input: 'y', idempotency_key: own }), 200);
        assert.equal(one.run_id, ids[1]);
        assert.equal((await api.post('/runs', { agent_id: E, input: 'y', idempotency_key: `${key}#1` })).status, 201);
    });

    test('6.3 one key twice in a batch', async ({ api }) => {
        const agent = await echoAgent(api);
        const key = unique();
        const same = await batch(api, { agent_id: agent, inputs: [{ input: 1, idempotency_key: key }, { input: 1, idempotency_key: key }] });
        assert.equal(same.status, 201, same.text);
        assert.equal(same.json.items[1].run_id, same.json.items[0].run_id);
        assert.deepEqual(same.json.items.map((i) => i.reused), [false, true]);
        const other = unique();
        problem(await batch(api, { agent_id: agent, inputs: [{ input: 5 }, { input: 1, idempotency_key: other }, { input: 2, idempotency_key: other }] }),
            'idempotency_key_reused');
        assert.equal(await count(api, agent), 1, 'all or nothing');
        assert.equal((await api.post('/runs', { agent_id: agent, input: 9, idempotency_key: other })).status, 201, 'the key stayed free');
    });

    test('B3 B4 B5 bad inputs: nothing is created', async ({ api }) => {
        const agent = await echoAgent(api);
        invalid(await batch(api, { agent_id: agent, inputs: [] }), '/inputs');
        invalid(await batch(api, { agent_id: agent }), '/inputs');
        for (const bad of [5, 'x', {}, null]) invalid(await batch(api, { agent_id: agent, inputs: bad }), '/inputs');
        invalid(await batch(api, { agent_id: agent, inputs: [{ input: 1 }, {}] }), '/inputs/1/input');
        invalid(await batch(api, { agent_id: agent, inputs: [{ input: 1 }, 7] }), '/inputs/1');
        invalid(await batch(api, { agent_id: agent, inputs: [{ input: 1 }, { input: 1, idempotency_key: 'a b' }] }), '/inputs/1/idempotency_key');
        invalid(await batch(api, { inputs: [{ input: 1 }] }), '/agent_id');
        const many = Array.from({ length: 1001 }, (_, input) => ({ input }));
        invalid(await batch(api, { agent_id: agent, inputs: many }), '/inputs');
        assert.equal(await count(api, agent), 0);
    });

    test('6.3 1000 inputs are fine', async ({ api }) => {
        const agent = await echoAgent(api);
        const res = await batch(api, { agent_id: agent, inputs: Array.from({ length: 1000 }, (_, input) => ({ input })) });
        assert.equal(res.status, 201, res.text.slice(0, 300));
        assert.deepEqual(res.json.items.map((i) => i.index), Array.from({ length: 1000 }, (_, i) => i));
        for (const at of [0, 1, 500, 999]) {
            assert.deepEqual((await api.until(res.json.items[at].run_id, undefined, 30000)).output, { echo: at });
        }
        const asc = checkList(await api.get('/runs', { agent_id: agent, order: 'asc', limit: 500 }));
        assert.deepEqual(asc.items.slice(0, 50).map((r) => r.input), Array.from({ length: 50 }, (_, i) => i), 'made in order');
    });

    test('2.1 a batch may be larger than 4 MiB', async ({ api, E }) => {
        const big = 'x'.repeat(3 * 1024 * 1024);
        const ok = await batch(api, { agent_id: E, inputs: [{ input: big }, { input: big }] });
        assert.equal(ok.status, 201, ok.text.slice(0, 300));
    });

    test('B6 unknown agent', async ({ api }) => {
        problem(await batch(api, { agent_id: UNKNOWN_ID, inputs: [{ input: 1 }] }), 'agent_not_found');
        problem(await batch(api, { agent_id: await makeAgent(api), inputs: [{ input: 1 }] }), 'agent_has_no_live_bundle');
    });

    test('B parallel repeats of one batch', async ({ api }) => {
        const agent = await echoAgent(api);
        const inputs = Array.from({ length: 10 }, (_, input) => ({ input, idempotency_key: unique() }));
        const all = await Promise.all(Array.from({ length: 8 }, () => batch(api, { agent_id: agent, inputs })));
        assert.deepEqual(all.map((r) => r.status).sort(), [200, 200, 200, 200, 200, 200, 200, 201]);
        assert.equal(await count(api, agent), 10);
    });
});
