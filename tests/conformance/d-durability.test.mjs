// SPDX-License-Identifier: Apache-2.0
// Group D: what survives a kill -9 (contract 10.10, 5.1 L7, 2.7). Each case has a server of its own.
import assert from 'node:assert/strict';
import { readdirSync, statSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Client, RunsClient, sleep, unique } from './lib/client.mjs';
import { checkLedger, checkList, checkRun } from './lib/expect.mjs';
import { graph, installFixtures, makeAgent, node } from './lib/fixtures.mjs';
import { otherStore, withServer } from './lib/server.mjs';

const options = { args: ['--heartbeat-ms', '500'] };

function durable(title, fixtures, fn, { skip } = {}) {
    test(title, { timeout: 60000, skip }, () => withServer(options, async (server) => {
        const api = new Client(server.url, server.token);
        await fn({ server, api, ...await installFixtures(api, fixtures) });
    }));
}

// After a crash in the middle of a run: either the same attempt goes on, or it was closed with worker_lost and another
// one took over. Answers the finished run.
async function checkRecovered(api, made, seen, ticks) {
    const run = checkRun(await api.until(made.run_id, undefined, 20000));
    assert.equal(run.status, 'completed');
    assert.deepEqual(run.output, { ticks });
    const first = await api.ledger(made.run_id, made.current_attempt_id);
    checkLedger(first, { attemptId: made.current_attempt_id });
    assert.deepEqual(first.slice(0, seen.length), seen, 'what was seen before the kill is unchanged');
    if (run.current_attempt_id === made.current_attempt_id) {
        assert.deepEqual(first.filter((e) => e.type === 'MODEL_DELTA').map((e) => e.payload.index), Array.from({ length: ticks }, (_, i) => i));
        return run;
    }
    const last = first.at(-1);
    assert.deepEqual([last.type, last.payload.final, last.payload.error.code, last.payload.error.category],
        ['RUN_FAILED', false, 'worker_lost', 'infrastructure']);
    checkLedger(await api.ledger(made.run_id), { attemptId: run.current_attempt_id });
    return run;
}

describe('D durability', { concurrency: 3 }, () => {
    durable('D1 kill right after the 201: the run exists and ends', 'ES', async ({ server, api, E, S }) => {
        for (let round = 0; round < 3; round++) {
            const made = await Promise.all(Array.from({ length: 20 }, (_, i) => api.create({ agent_id: i % 2 ? E : S, input: { ticks: 2, interval_ms: 5, round, i } })));
            await server.restart();
            for (const [i, one] of made.entries()) {
                const run = checkRun(await api.until(one.run_id, undefined, 20000));
                assert.equal(run.status, 'completed');
                assert.deepEqual(run.input, { ticks: 2, interval_ms: 5, round, i });
                assert.equal(run.thread_id, one.thread_id);
                checkLedger(await api.ledger(one.run_id, one.current_attempt_id), { attemptId: one.current_attempt_id });
            }
        }
    });

    durable('D2 kill while SLOW runs: no seq is reused, the run ends', 'S', async ({ server, api, S }) => {
        const made = await api.create({ agent_id: S, input: { ticks: 40, interval_ms: 25 } });
        const client = new RunsClient(server.url, server.token);
        const raw = [];
        const followed = [];
        const following = (async () => {
            for await (const e of client.follow(made.run_id, made.current_attempt_id, { baseDelayMs: 30, maxDelayMs: 100, maxReconnects: 200,
                onRaw: (r) => { if (r.event === 'run_event') raw.push(r.data); } })) {
                if (e.type === 'run_event') followed.push(e.seq);
            }
        })();
        for (const at of [10, 22, 33]) {
            while (raw.length < at) await sleep(5);
            const seen = raw.slice();
            await server.restart();
            const now = await api.ledger(made.run_id, made.current_attempt_id);
            assert.deepEqual(now.slice(0, seen.length), seen, 'commit before publish');
        }
        await following;
        assert.deepEqual(followed, Array.from({ length: followed.length }, (_, i) => i + 1), 'the follower lost nothing and saw nothing twice');
        await checkRecovered(api, made, raw, 40);
    });

    durable('D2b many runs at once, one kill', 'ES', async ({ server, api, S }) => {
        const made = await Promise.all(Array.from({ length: 40 }, (_, i) => api.create({ agent_id: S, input: { ticks: 20, interval_ms: 10 + i } })));
        await sleep(200);
        const seen = await Promise.all(made.map((m) => api.ledger(m.run_id, m.current_attempt_id)));
        await server.restart();
        await Promise.all(made.map((m, i) => checkRecovered(api, m, seen[i], 20)));
    });

    durable('D3 kill while HUMAN waits: still waiting, resume works, seq continues', 'H', async ({ server, api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const before = await api.events(run.run_id, run.current_attempt_id, { limit: 1000 });
        await server.restart();
        const again = checkRun(await api.run(run.run_id));
        assert.deepEqual({ ...again, updated_at: '' }, { ...run, updated_at: '' });
        assert.equal((await api.events(run.run_id, run.current_attempt_id, { limit: 1000 })).text, before.text, 'byte-identical');
        assert.equal(checkList(await api.get('/approvals', { run_id: run.run_id, status: 'pending' })).total, 1);
        await api.ok(api.resume(run.run_id, { input: { late: true } }), 200);
        assert.deepEqual((await api.until(run.run_id)).output, { answer: { late: true } });
        const events = await api.ledger(run.run_id, run.current_attempt_id);
        checkLedger(events, { attemptId: run.current_attempt_id });
        assert.deepEqual(events.slice(0, before.json.events.length), before.json.events);
    });

    durable('D3b kill right after a resume was acknowledged', 'H', async ({ server, api, H }) => {
        const made = await Promise.all(Array.from({ length: 10 }, () => api.create({ agent_id: H })));
        const runs = await Promise.all(made.map((m) => api.waiting(m.run_id)));
        await Promise.all(runs.map((run, i) => api.ok(api.resume(run.run_id, { input: i }), 200)));
        await server.restart();
        for (const [i, run] of runs.entries()) {
            assert.deepEqual((await api.until(run.run_id)).output, { answer: i });
            checkLedger(await api.ledger(run.run_id, run.current_attempt_id));
        }
    });

    durable('D4 idempotency survives', 'EH', async ({ server, api, E, H }) => {
        const key = unique();
        const body = { agent_id: E, input: 1, idempotency_key: key };
        const first = await api.create(body);
        const waiting = await api.waiting((await api.create({ agent_id: H })).run_id);
        const headers = { 'X-Idempotency-Key': unique() };
        await api.ok(api.resume(waiting.run_id, { input: 2 }, { headers }), 200);
        await server.restart();
        const again = await api.post('/runs', body);
        assert.equal(again.status, 200, again.text);
        assert.deepEqual([again.json.run_id, again.json.status, again.json.reused], [first.run_id, first.status, true]);
        const resumed = await api.resume(waiting.run_id, { input: 2 }, { headers });
        assert.equal(resumed.status, 200, resumed.text);
        assert.equal(resumed.json.reused, true);
        assert.equal((await api.post('/runs', { ...body, input: 2 })).json.code, 'idempotency_key_reused');
    });

    durable('D queues, threads, agents, tokens survive', 'EH', async ({ server, api, E, H }) => {
        const thread = await api.ok(api.post('/threads', { values: { a: 1 }, metadata: { m: 'x' } }), 201);
        const { thread_id } = thread;
        const head = await api.create({ agent_id: H, thread: { thread_id } });
        await api.waiting(head.run_id);
        const behind = [];
        for (let i = 0; i < 3; i++) behind.push(await api.create({ agent_id: E, thread: { thread_id }, input: i }));
        const over = await api.create({ agent_id: E, thread: { thread_id } });
        await api.ok(api.cancel(over.run_id, 'kept'));
        const token = await api.ok(api.post('/api-tokens', { name: 'kept', scopes: ['*'], workspace_id: (await api.run(head.run_id)).workspace_id }), 201);
        await server.restart();
        assert.equal((await api.as(token.token).get('/runs')).status, 200);
        const now = await api.ok(api.get(`/threads/${thread_id}`), 200);
        assert.deepEqual([now.pending_runs, now.active_run_id, now.metadata, now.status], [3, head.run_id, { m: 'x' }, 'waiting_for_human']);
        for (const run of behind) assert.equal((await api.run(run.run_id)).status, 'pending');
        assert.equal((await api.run(over.run_id)).cancel_reason, 'kept');
        await api.ok(api.resume(head.run_id, { input: 1 }), 200);
        let before = await api.until(head.run_id);
        for (const run of behind) {
            const done = await api.until(run.run_id);
            assert.ok(done.started_at >= before.completed_at, 'still first in, first out');
            before = done;
        }
    });

    durable('D a timer and a child run survive', 'S', async ({ server, api, S }) => {
        const sleeper = await makeAgent(api, graph([node('nap', 'core.sleep', { ms: 900 }, 'end'), node('end', 'core.value', { value: 'woke' })]));
        const parent = await makeAgent(api, graph([node('give', 'core.handoff', { agent_id: S, input: { ticks: 15, interval_ms: 40 } })]));
        const [nap, family] = [await api.create({ agent_id: sleeper }), await api.create({ agent_id: parent })];
        while (!(await api.ledger(family.run_id)).some((e) => e.type === 'HANDOFF_STARTED')) await sleep(10);
        await sleep(150);
        await server.restart();
        assert.equal((await api.until(nap.run_id)).output, 'woke');
        const done = await api.until(family.run_id);
        assert.deepEqual([done.status, done.output], ['completed', { ticks: 15 }]);
        const events = await api.ledger(family.run_id);
        checkLedger(events);
        assert.equal(events.filter((e) => e.type === 'HANDOFF_STARTED').length, 1, 'the child is not started twice');
    });

    durable('D a graceful stop loses nothing either', 'S', async ({ server, api, S }) => {
        const made = await api.create({ agent_id: S, input: { ticks: 30, interval_ms: 20 } });
        await sleep(200);
        const seen = await api.ledger(made.run_id, made.current_attempt_id);
        await server.restart({ how: 'stop' });
        assert.equal(server.exit, null);
        await checkRecovered(api, made, seen, 30);
    });

    durable('D5 a torn tail of the store is dropped as a whole', 'S', async ({ server, api, S }) => {
        const made = await api.create({ agent_id: S, input: { ticks: 30, interval_ms: 20 } });
        let seen = [];
        while (seen.length < 15) seen = await api.ledger(made.run_id, made.current_attempt_id);
        await server.kill9();
        const wal = readdirSync(server.dataDir, { recursive: true }).map((f) => path.join(server.dataDir, f)).find((f) => f.endsWith('-wal'));
        assert.ok(wal, `a write-ahead log in ${readdirSync(server.dataDir)}`);
        const size = statSync(wal).size;
        assert.ok(size > 100, `${wal} has ${size} bytes`);
        truncateSync(wal, size - 100);
        await server.start();
        const now = await api.ledger(made.run_id, made.current_attempt_id);
        const common = Math.min(now.length, seen.length);
        assert.deepEqual(now.slice(0, common), seen.slice(0, common), 'earlier events are intact');
        assert.ok(now.length >= seen.length - 3, `one torn commit loses one commit: ${seen.length} seen, ${now.length} left`);
        const run = await api.until(made.run_id, undefined, 20000);
        assert.equal(run.status, 'completed');
        checkLedger(await api.ledger(made.run_id, made.current_attempt_id), { attemptId: made.current_attempt_id });
    }, { skip: otherStore && 'only files of the built-in store can be torn from here' });

    durable('D the data folder admits one server', 'E', async ({ server }) => {
        await assert.rejects(withServer({ dataDir: server.dataDir, readyMs: 8000 }, async () => {}), /ended before it was ready|not ready/);
        const api = new Client(server.url, server.token);
        assert.equal((await api.get('/runs')).status, 200, 'the first one goes on');
    });

    durable('D6 kill while a retried run waits for its turn, and after decisions: all of it is kept', 'HS', async ({ server, api, H, S }) => {
        const agent = await makeAgent(api, graph([node('before', 'core.set', { value: { begun: true } }, 'shaky'),
            node('shaky', 'core.fail', { code: 'flaky', retryable: true, fail_times: 1 }, 'after'), node('after', 'core.value', { value: { $from: '/values/begun' } })]));
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const on = { thread: { thread_id } };
        const failed = await api.createAndFinish({ agent_id: agent, ...on });
        const slow = await api.create({ agent_id: S, input: { ticks: 2000, interval_ms: 10 }, ...on });
        const behind = await api.create({ agent_id: H, ...on });
        assert.equal((await api.ok(api.post(`/runs/${failed.run_id}/retry`, {}), 200)).status, 'pending');
        const gone = await api.ok(api.post('/threads', {}), 201);
        assert.equal((await api.del(`/threads/${gone.thread_id}`)).status, 204);
        const asked = await api.waiting((await api.create({ agent_id: H })).run_id);
        await api.ok(api.post(`/approvals/${asked.approval_id}/reject`, { reason: 'r' }), 200);
        await server.restart();
        assert.equal((await api.get(`/threads/${gone.thread_id}`)).status, 404);
        assert.deepEqual([(await api.run(failed.run_id)).queue_position, (await api.run(behind.run_id)).queue_position], [1, 2]);
        const approval = await api.ok(api.get(`/approvals/${asked.approval_id}`), 200);
        assert.deepEqual([approval.status, approval.decision], ['rejected', { approved: false, reason: 'r' }]);
        assert.deepEqual((await api.until(asked.run_id)).output, { answer: { approved: false, reason: 'r' } });
        await api.ok(api.cancel(slow.run_id), 200);
        const done = checkRun(await api.until(failed.run_id));
        assert.deepEqual([done.status, done.current_attempt_no, done.output], ['completed', 2, true]);
        assert.deepEqual((await api.ledger(failed.run_id)).filter((e) => e.type === 'NODE_STARTED').map((e) => e.payload.node), ['shaky', 'after']);
        await api.ok(api.cancel(behind.run_id), 200);
        const audit = checkList(await api.get('/audit', { resource_id: failed.run_id }));
        assert.deepEqual(audit.items.map((a) => a.action), ['run.retry', 'run.create']);
        assert.equal((await api.ok(api.get('/runs/failures', { agent_id: agent }))).items[0].status, 'retried');
    });
});
