// SPDX-License-Identifier: Apache-2.0
// Group W: wait (contract 6.2, 10.4).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { TERMINAL, sleep, unique } from './lib/client.mjs';
import { UNKNOWN_ID, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, makeAgent } from './lib/fixtures.mjs';

suite('W wait', {}, (test) => {
    const wait = (api, body, options) => api.post('/runs/wait', body, options);

    test('W1 waits for the end and answers the run', async ({ api, E }) => {
        const res = await wait(api, { agent_id: E, input: { q: 1 } });
        assert.equal(res.status, 200, res.text);
        assert.equal(res.json.status, 'completed');
        assert.deepEqual(res.json.output, { echo: { q: 1 } });
        assert.equal(res.json.timed_out, false);
        assert.ok(Number.isInteger(res.json.waited_ms_total) && res.json.waited_ms_total >= 0);
        const run = checkRun(await api.run(res.json.run_id));
        assert.equal(run.source, 'wait');
        for (const [key, value] of Object.entries(run)) assert.deepEqual(res.json[key], value, `the answer is a superset of Run: ${key}`);
    });

    test('W2 the time is over: the run as it is; it goes on', async ({ api, S }) => {
        const began = performance.now();
        const res = await wait(api, { agent_id: S, input: { ticks: 30, interval_ms: 100 }, timeout_seconds: 0.3 });
        const took = performance.now() - began;
        assert.equal(res.status, 200, res.text);
        assert.ok(took >= 295 && took < 1500, `took ${took} ms`);
        assert.equal(res.json.timed_out, true);
        assert.ok(!TERMINAL.has(res.json.status) && res.json.status !== 'waiting_for_human', res.json.status);
        assert.equal((await api.until(res.json.run_id)).status, 'completed');
    });

    test('W2b zero answers at once; 300 s and more is clamped, not refused', async ({ api, S, E }) => {
        const began = performance.now();
        const res = await wait(api, { agent_id: S, timeout_seconds: 0 });
        assert.equal(res.status, 200, res.text);
        assert.ok(performance.now() - began < 1000);
        assert.equal(res.json.timed_out, true);
        await api.cancel(res.json.run_id);
        for (const seconds of [100000, null, 1e9, 30.25]) {
            assert.equal((await wait(api, { agent_id: E, timeout_seconds: seconds })).json.status, 'completed');
        }
    });

    test('W3 a failed run is a successful request', async ({ api, F }) => {
        const res = await wait(api, { agent_id: F });
        assert.equal(res.status, 200, res.text);
        assert.equal(res.json.status, 'failed');
        assert.equal(res.json.error.code, 'fixture_failure');
        assert.equal(res.json.timed_out, false);
    });

    test('W4 a pause ends the wait', async ({ api, H }) => {
        const res = await wait(api, { agent_id: H });
        assert.equal(res.status, 200, res.text);
        assert.equal(res.json.status, 'waiting_for_human');
        assert.ok(res.json.human_prompt);
        assert.equal(res.json.timed_out, false);
        await api.cancel(res.json.run_id);
    });

    test('W5 bad time-outs create nothing', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        for (const bad of [-1, 'x', -0.001, {}, [], true, '5']) {
            invalid(await wait(api, { agent_id: agent, timeout_seconds: bad }), '/timeout_seconds');
        }
        assert.equal(checkList(await api.get('/runs', { agent_id: agent })).total, 0);
    });

    test('W6 unknown agent', async ({ api }) => {
        problem(await wait(api, { agent_id: UNKNOWN_ID }), 'agent_not_found');
        invalid(await wait(api, {}), '/agent_id');
    });

    test('W7 the caller goes away: the run goes on', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('slow'));
        const controller = new AbortController();
        const gone = wait(api, { agent_id: agent, input: { ticks: 8, interval_ms: 50 } }, { signal: controller.signal });
        await sleep(150);
        controller.abort();
        await assert.rejects(gone);
        const list = checkList(await api.get('/runs', { agent_id: agent }));
        assert.equal(list.total, 1);
        assert.equal((await api.until(list.items[0].run_id)).status, 'completed');
    });

    test('6.2 an idempotent repeat attaches to the run and waits for it', async ({ api, S }) => {
        const key = unique();
        const body = { agent_id: S, input: { ticks: 8, interval_ms: 60 }, idempotency_key: key };
        const first = wait(api, body);
        await sleep(120);
        const second = await wait(api, { ...body, timeout_seconds: 9 });
        assert.equal(second.status, 200, second.text);
        assert.equal(second.json.status, 'completed');
        assert.equal(second.json.reused, true);
        assert.equal((await first).json.run_id, second.json.run_id);
    });

    test('6.2 a wait on a busy thread waits for its turn, and cancel ends it', async ({ api, H, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const head = await api.create({ agent_id: H, thread: { thread_id } });
        await api.waiting(head.run_id);
        const queued = await wait(api, { agent_id: E, thread: { thread_id }, timeout_seconds: 0.2 });
        assert.equal(queued.json.status, 'pending');
        assert.equal(queued.json.timed_out, true);
        const turn = wait(api, { agent_id: E, thread: { thread_id }, timeout_seconds: 10 });
        await sleep(100);
        await api.ok(api.cancel(head.run_id));
        assert.equal((await turn).json.status, 'completed');
    });

    test('6.2 a run that is cancelled while someone waits', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('slow'));
        const waiting = wait(api, { agent_id: agent, timeout_seconds: 20 });
        let item;
        while (!item) {
            await sleep(20);
            [item] = checkList(await api.get('/runs', { agent_id: agent })).items;
        }
        await api.ok(api.cancel(item.run_id));
        const res = await waiting;
        assert.equal(res.json.status, 'cancelled');
        assert.equal(res.json.timed_out, false);
    });

    test('6.2 200 waiters at once', async ({ api, S }) => {
        const all = await Promise.all(Array.from({ length: 200 }, () => wait(api, { agent_id: S, input: { ticks: 4, interval_ms: 100 } })));
        for (const res of all) assert.equal(res.json.status, 'completed', res.text);
    });
});
