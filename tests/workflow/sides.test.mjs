// SPDX-License-Identifier: Apache-2.0
// One run, two surfaces: runs of workflows over the agent-runs API, and runs of agents over this one.
import assert from 'node:assert/strict';
import { Client } from '../conformance/lib/client.mjs';
import { graph, installFixtures, makeAgent, node } from '../conformance/lib/fixtures.mjs';
import { answer, asking, checkLog, llm, slow, spec, suite, types } from './lib.mjs';

const MIXED = spec([llm('a', 'one two', { stream: true }), asking('b', [{ name: 'look' }], { depends_on: ['a'] }),
    { id: 't', type: 'transform.json', object: { a: { from: 'a', pointer: '/output/0/content/0/text' }, b: { from: 'b', pointer: '/output/0/content/0/text' } } }]);

suite('the same run from both sides', {}, (test) => {
    test('a workflow run is an agent run: seen, inspected, followed, replayed', async ({ flow, api, runs }) => {
        const { run_id: id } = await flow.start(MIXED);
        await flow.until(id, 'waiting');
        const waiting = await api.run(id);
        assert.equal(waiting.status, 'running', 'nobody is asked: a client works');
        const [pending] = await flow.pending(id);
        const followed = [];
        const follow = (async () => { for await (const e of runs.follow(id, waiting.current_attempt_id)) followed.push(e); })();
        await flow.ok(flow.results(id, answer(pending, 'seen')), 200);
        const run = await flow.until(id);
        await follow;
        const ledger = await api.ledger(id);
        const seen = followed.filter((e) => e.type === 'run_event');
        assert.deepEqual(seen.map((e) => e.seq), ledger.map((e) => e.seq));
        assert.equal(ledger.at(-1).type, 'RUN_FINISHED');
        const done = await api.run(id);
        assert.equal(done.status, 'completed');
        assert.deepEqual(done.output, run.outputs);
        assert.ok((await api.ok(api.get('/runs', { limit: 500 }))).items.some((r) => r.run_id === id));
        const inspected = await api.ok(api.get(`/runs/${id}/inspection`));
        for (const name of ['a', 'b', 't']) assert.match(JSON.stringify(inspected), new RegExp(`"${name}"`));
        const { items } = await api.ok(api.get(`/runs/${id}/checkpoints/index`));
        const replayed = await api.ok(api.post(`/runs/${id}/checkpoints/${items[0].checkpoint_id}/replay`, { mode: 'strict', reason: 'again' }));
        const again = await api.until(replayed.run_id);
        assert.equal(again.status, 'completed', JSON.stringify(again));
        assert.deepEqual(again.output, run.outputs);
        const theirs = await flow.list(replayed.run_id);
        checkLog(theirs, { id: replayed.run_id });
        const mine = types(await flow.list(id)); // the replay begins behind the first node
        assert.deepEqual(types(theirs).slice(2), mine.slice(mine.indexOf('node_succeeded') + 1));
    });

    test('canceled over the one, seen on the other', async ({ flow, api }) => {
        const { run_id: id } = await flow.start(spec([slow()]));
        const log = await flow.follow(id);
        await log.event('node_started');
        assert.equal((await api.cancel(id, 'enough of it')).status, 200);
        await log.end();
        assert.equal(log.how, 'end');
        assert.deepEqual(log.events.at(-1).error, { code: 'CANCELED', message: 'enough of it' });
        assert.equal((await flow.snapshot(id)).status, 'canceled');
        const other = await flow.start(spec([slow()]));
        await flow.post(`/runs/${other.run_id}/cancel`);
        assert.equal((await api.run(other.run_id)).status, 'cancelled');
    });

    test('an agent that is a workflow', async ({ flow, api }) => {
        const workflow = spec([llm('a', undefined, { user: '{{task}}', stream: true, script: { interval_ms: 0 } })]);
        const agent_id = await makeAgent(api, { format: 1, workflow });
        const made = await api.create({ agent_id, input: { task: 'count me' } });
        const done = await api.until(made.run_id);
        assert.equal(done.status, 'completed', JSON.stringify(done));
        assert.match(JSON.stringify(done.output), /count me/);
        const events = await flow.list(made.run_id);
        checkLog(events, { id: made.run_id });
        assert.equal(events.at(-1).type, 'run_completed');
        assert.equal((await flow.snapshot(made.run_id)).nodes[0].type, 'llm.responses');
    });

    test('a run of an agent of another kind has valid events too, also while it waits', async ({ flow, server }) => {
        const api = new Client(server.url, server.token);
        const made = await installFixtures(api, 'EHFS');
        const agents = Object.values(made).map((f) => f?.agent_id ?? f?.id ?? f).filter((x) => typeof x === 'string');
        assert.ok(agents.length >= 4, JSON.stringify(made).slice(0, 400));
        for (const agent_id of agents) {
            const res = await api.post('/runs', { agent_id, input: { text: 'hi', message: 'hi', ticks: 3 } });
            if (res.status !== 201) continue;
            const id = res.json.run_id;
            const run = await api.until(id, new Set(['completed', 'failed', 'waiting_for_human', 'cancelled']));
            const open = run.status === 'waiting_for_human';
            const events = await flow.list(id, {}, true);
            checkLog(events, { id, open });
            const snapshot = await flow.snapshot(id);
            assert.equal(snapshot.status, { completed: 'succeeded', failed: 'failed', waiting_for_human: 'waiting', cancelled: 'canceled' }[run.status]);
            if (!open) continue;
            assert.ok(types(events).includes('node_user_ask'));
            const log = await flow.follow(id);
            await api.ok(api.resume(id, { input: { approved: true, answer: 'yes' } }));
            await log.end();
            assert.ok(types(log.events).includes('node_user_answer'));
            checkLog(log.events, { id });
        }
    });

    test('an attempt that is tried again ends its followers with a reset; the numbers go on', { timeout: 30000 }, async ({ flow, api }) => {
        const agent_id = await makeAgent(api, graph([node('slow', 'core.emit', { count: 6, interval_ms: 60 }, 'break'),
            node('break', 'core.fail', { code: 'again', category: 'tool', message: 'once more', retryable: true })], { max_attempts: 3 }));
        const { run_id: id } = await api.create({ agent_id, input: {} });
        const events = [];
        let resets = 0;
        for (let log; log?.how !== 'end';) {
            log = await flow.follow(id, { after_seq: events.length });
            await log.end(20000);
            events.push(...log.events);
            resets += log.how === 'reset';
        }
        assert.ok(resets >= 1, 'attempts before the last do not end cleanly');
        checkLogOfAttempts(events);
        assert.equal(events.at(-1).type, 'run_failed');
        assert.deepEqual(events, await listed(flow, id));
        assert.equal((await api.run(id)).current_attempt_no, 3);
        const sizes = [...events.keys(), events.length];
        for (const after of sizes) assert.deepEqual(await listed(flow, id, after), events.slice(after));
        assert.equal((await flow.snapshot(id)).status, 'failed');
    });
});

// A node that failed in one attempt starts again in the next.
function checkLogOfAttempts(events) {
    events.forEach((e, i) => assert.equal(e.seq, i + 1));
    assert.deepEqual(types(events).slice(0, 2), ['run_compiled', 'run_started']);
    assert.equal(types(events).filter((t) => t === 'run_compiled').length, 1);
}
async function listed(flow, id, after = 0) {
    const log = await (await flow.follow(id, { wait: 0, after_seq: after })).end();
    return log.events;
}
