// SPDX-License-Identifier: Apache-2.0
// Group G: get and list (contract 2.4, 3.1, 6.8, 10.3).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { TERMINAL } from './lib/client.mjs';
import { UNKNOWN_ID, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, graph, makeAgent, node } from './lib/fixtures.mjs';

const echoAgent = (api) => makeAgent(api, fixtureDefinition('echo'));

async function finishedRuns(api, agent, n) {
    const made = [];
    for (let i = 0; i < n; i++) made.push(await api.create({ agent_id: agent, input: i }));
    for (const run of made) await api.until(run.run_id);
    return made.map((run) => run.run_id);
}

suite('G get, list', {}, (test) => {
    test('G1 unknown ids', async ({ api }) => {
        for (const id of [UNKNOWN_ID, 'not-a-uuid', 'x', '%20', UNKNOWN_ID.toUpperCase(), 'a'.repeat(300)]) {
            problem(await api.get(`/runs/${id}`), 'run_not_found');
        }
    });

    test('G2 a finished run', async ({ api, E }) => {
        const run = checkRun(await api.createAndFinish({ agent_id: E, input: { deep: [1, { a: null }] } }));
        assert.equal(run.status, 'completed');
        assert.deepEqual(run.output, { echo: { deep: [1, { a: null }] } });
        assert.ok(run.started_at && run.completed_at && run.duration_ms >= 0);
        assert.ok(!('error' in run) && !('human_prompt' in run));
        assert.ok(Math.abs(Date.parse(run.completed_at) - Date.parse(run.started_at) - run.duration_ms) <= 1, 'duration = completed - started');
        assert.equal(typeof run.checkpoint_id, 'string', 'newest checkpoint');
        assert.ok(!('reused' in run) && !('replay_mode' in run));
    });

    test('G2b a failed and a cancelled run', async ({ api, F, S }) => {
        const failed = checkRun(await api.createAndFinish({ agent_id: F }));
        assert.equal(failed.status, 'failed');
        assert.equal(failed.error.code, 'fixture_failure');
        assert.equal(failed.error.category, 'tool');
        assert.equal(failed.error.retryable, false);
        assert.equal(failed.current_attempt_no, 1);
        const slow = await api.create({ agent_id: S });
        await api.ok(api.cancel(slow.run_id, 'because'));
        const cancelled = checkRun(await api.run(slow.run_id));
        assert.equal(cancelled.cancel_reason, 'because');
    });

    test('G3 G4 pages', async ({ api }) => {
        const agent = await echoAgent(api);
        await finishedRuns(api, agent, 5);
        const first = checkList(await api.get('/runs', { agent_id: agent, limit: 2 }));
        assert.deepEqual([first.items.length, first.total, first.limit, first.offset, first.has_more], [2, 5, 2, 0, true]);
        const last = checkList(await api.get('/runs', { agent_id: agent, limit: 2, offset: 4 }));
        assert.deepEqual([last.items.length, last.total, last.has_more], [1, 5, false]);
        const beyond = checkList(await api.get('/runs', { agent_id: agent, offset: 100 }));
        assert.deepEqual([beyond.items.length, beyond.total, beyond.offset, beyond.has_more], [0, 5, 100, false]);
        const plain = checkList(await api.get('/runs', { agent_id: agent }));
        assert.deepEqual([plain.limit, plain.offset], [50, 0]);
        for (const run of plain.items) checkRun(run);
    });

    test('G5 a large limit is clamped', async ({ api }) => {
        assert.equal(checkList(await api.get('/runs', { limit: 100000 })).limit, 500);
        assert.equal(checkList(await api.get('/runs', { limit: 500 })).limit, 500);
        assert.equal(checkList(await api.get('/runs', { limit: 501 })).limit, 500);
        assert.equal(checkList(await api.get('/runs', { limit: '99999999999999999999' })).limit, 500);
    });

    test('G6 bad limits and offsets', async ({ api }) => {
        for (const bad of ['0', '-1', 'x', '1.5', '1e2', ' 1', '0x10']) {
            invalid(await api.get('/runs', { limit: bad }), 'limit', 'invalid_parameter');
        }
        for (const bad of ['-1', 'x', '1.5']) invalid(await api.get('/runs', { offset: bad }), 'offset', 'invalid_parameter');
    });

    test('G7 status filter', async ({ api }) => {
        const agent = await makeAgent(api, graph([
            node('pick', 'core.switch', { cases: [{ when: { pointer: '/input', equals: 'fail' }, next: 'bad' }, { next: 'good' }] }),
            node('bad', 'core.fail', { code: 'wanted', category: 'tool', message: 'wanted', retryable: false }),
            node('good', 'core.echo')]));
        await api.createAndFinish({ agent_id: agent, input: 'fail' });
        await api.createAndFinish({ agent_id: agent, input: 'x' });
        await api.createAndFinish({ agent_id: agent, input: 'x' });
        const total = async (status) => {
            const list = checkList(await api.get('/runs', { agent_id: agent, status }));
            for (const run of list.items) assert.ok(status === '' || status.split(',').includes(run.status), run.status);
            return list.total;
        };
        assert.deepEqual(await Promise.all(['completed', 'failed', 'completed,failed', '', 'running,queued', 'cancelled'].map(total)), [2, 1, 3, 3, 0, 0]);
        invalid(await api.get('/runs', { status: 'bogus' }), 'status', 'invalid_parameter');
        invalid(await api.get('/runs', { status: 'completed,bogus' }), 'status', 'invalid_parameter');
        invalid(await api.get('/runs', { status: 'COMPLETED' }), 'status', 'invalid_parameter');
    });

    test('G8 iterate visits each run once', async ({ api, runs }) => {
        const agent = await echoAgent(api);
        const ids = await finishedRuns(api, agent, 7);
        const seen = [];
        for await (const run of runs.iterate({ agent_id: agent }, { pageSize: 2 })) seen.push(run.run_id);
        assert.deepEqual(seen, [...ids].reverse());
        const some = [];
        for await (const run of runs.iterate({ agent_id: agent, status: 'completed' }, { pageSize: 3, maxItems: 4 })) some.push(run.run_id);
        assert.equal(some.length, 4);
        const none = [];
        for await (const run of runs.iterate({ agent_id: UNKNOWN_ID })) none.push(run);
        assert.deepEqual(none, []);
    });

    test('G9 thread filter; newest first; order=asc', async ({ api }) => {
        const agent = await echoAgent(api);
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const ids = [];
        for (let i = 0; i < 4; i++) {
            ids.push((await api.createAndFinish({ agent_id: agent, thread: { thread_id }, input: i })).run_id);
            await api.create({ agent_id: agent });
        }
        const newest = checkList(await api.get('/runs', { thread_id }));
        assert.equal(newest.total, 4);
        assert.deepEqual(newest.items.map((r) => r.run_id), [...ids].reverse());
        const oldest = checkList(await api.get('/runs', { thread_id, order: 'asc' }));
        assert.deepEqual(oldest.items.map((r) => r.run_id), ids);
        const page = checkList(await api.get('/runs', { thread_id, order: 'asc', limit: 2, offset: 1 }));
        assert.deepEqual(page.items.map((r) => r.run_id), ids.slice(1, 3));
        invalid(await api.get('/runs', { order: 'sideways' }), 'order', 'invalid_parameter');
        const both = checkList(await api.get('/runs', { thread_id, agent_id: agent, status: 'completed' }));
        assert.equal(both.total, 4);
    });

    test('6.8 filters that name nothing give empty lists', async ({ api, E }) => {
        for (const query of [{ thread_id: UNKNOWN_ID }, { thread_id: 'nope' }, { agent_id: UNKNOWN_ID }, { agent_id: 'nope' }, { agent_id: E, thread_id: UNKNOWN_ID }]) {
            const list = checkList(await api.get('/runs', query));
            assert.deepEqual([list.items.length, list.total], [0, 0]);
        }
        assert.ok(checkList(await api.get('/runs', { agent_id: '', thread_id: '', status: '' })).total >= 0);
    });

    test('6.8 large values are cut in lists only', async ({ api }) => {
        const agent = await echoAgent(api);
        const input = 'x'.repeat(70 * 1024);
        const run = await api.createAndFinish({ agent_id: agent, input });
        assert.equal(run.input, input);
        assert.deepEqual(run.output, { echo: input });
        const item = checkList(await api.get('/runs', { agent_id: agent })).items[0];
        assert.deepEqual(item.input, { truncated: true, bytes: input.length + 2 });
        assert.equal(item.output.truncated, true);
        assert.ok(item.output.bytes > input.length);
    });

    test('2.4 a page and its total are one snapshot while runs are made', async ({ api }) => {
        const agent = await echoAgent(api);
        let going = true;
        const writer = (async () => { while (going) await api.create({ agent_id: agent }); })();
        try {
            for (let i = 0; i < 40; i++) {
                const list = checkList(await api.get('/runs', { agent_id: agent, limit: 500 }));
                assert.equal(list.items.length, Math.min(list.total, 500));
            }
        } finally {
            going = false;
            await writer;
        }
    });

    test('4.2 status and ledger agree at every moment', async ({ api, S }) => {
        const run = await api.create({ agent_id: S, input: { ticks: 20, interval_ms: 20 } });
        for (;;) {
            const page = await api.ok(api.events(run.run_id, run.current_attempt_id, { limit: 1000 }), 200);
            const now = checkRun(await api.run(run.run_id));
            if (page.attempt_closed) assert.equal(now.status, 'completed', 'who saw the terminal event finds the terminal status');
            assert.ok(now.latest_seq >= page.latest_seq, 'latest_seq does not lag behind the events');
            if (TERMINAL.has(now.status)) {
                const after = await api.ok(api.events(run.run_id, run.current_attempt_id, { limit: 1000 }), 200);
                assert.equal(after.attempt_closed, true, 'who saw the terminal status finds the terminal event');
                assert.equal(after.latest_seq, now.latest_seq);
                break;
            }
        }
    });
});
