// SPDX-License-Identifier: Apache-2.0
// Retention (contract L10, 2.5, 3.7): events and checkpoints of runs that ended long ago are removed, their rows stay, and what
// can be tried again or replayed says so no more. A kill -9 on the way leaves each ledger whole or gone.
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { API, Client, rawRequest, sleep } from './lib/client.mjs';
import { checkLedger, checkRun, problem } from './lib/expect.mjs';
import { graph, installFixtures, makeAgent, node } from './lib/fixtures.mjs';
import { otherStore, withServer } from './lib/server.mjs';

const args = (ms) => ['--retention-days', '0', ...(ms ? ['--retention-ms', String(ms)] : [])];
const own = (title, ms, fn) => test(title, { timeout: 60000 }, () => withServer({ args: args(ms) }, async (server) => {
    const api = new Client(server.url, server.token);
    await fn({ server, api, ...await installFixtures(api, 'EHF') });
}));
const retryable = (api) => makeAgent(api, graph([node('a', 'core.set', { value: { n: 1 } }, 'b'),
    node('b', 'core.fail', { code: 'x', category: 'network', message: 'again', retryable: true })]));
const poll = (api, run, no = run.current_attempt_id) => api.events(run.run_id, no, { afterSeq: 0, limit: 1000 });
const stream = (api, method, run, tail = '', query = '') => rawRequest(api.base, { method, path: `/v1/stream/runs/${run.run_id}${tail}${query}`,
    headers: { Authorization: `Bearer ${api.token}` } });

async function gone(api, run, withinMs = 15000) {
    for (const until = Date.now() + withinMs; Date.now() < until; await sleep(40)) {
        const res = await poll(api, run);
        if (res.status !== 200) return res;
    }
    throw new Error(`the ledger of ${run.run_id} is still there`);
}

const metric = async (server, name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await (await fetch(`${server.url}/metrics`,
    { headers: { Authorization: `Bearer ${server.token}` } })).text())?.[1]);

async function count(server, table) {
    const { DatabaseSync } = await import('node:sqlite');
    const db = new DatabaseSync(path.join(server.dataDir, 'perdure.db'), { readOnly: true });
    try { return Number(db.prepare(`SELECT count(*) AS n FROM ${table}`).get().n); } finally { db.close(); }
}

describe('T retention', { concurrency: 2 }, () => {
    own('L10 a ledger whose time is over is 410 everywhere; the run, its end and its figures stay', 2500, async ({ server, api, E, H }) => {
        const flaky = await retryable(api);
        const waiting = await api.waiting((await api.create({ agent_id: H })).run_id);
        const done = await api.createAndFinish({ agent_id: E, input: { n: 1 } });
        const [checkpoint] = (await api.ok(api.get(`/runs/${done.run_id}/checkpoints/index`), 200)).items;
        const failed = await api.createAndFinish({ agent_id: flaky });
        await api.ok(api.post(`/runs/${failed.run_id}/retry`, {}), 200);
        const twice = await api.until(failed.run_id);
        assert.equal(twice.current_attempt_no, 2);
        const [before] = (await api.ok(api.get('/runs/failures', { agent_id: flaky }), 200)).items;
        assert.deepEqual([before.status, before.can_retry, before.can_replay], ['open', true, true]);
        const figures = () => Promise.all(['summary', 'capabilities', 'bindings'].map((what) =>
            api.ok(api.get(`/runs/observability/${what}`, { agent_id: flaky }), 200)));
        const counted = await figures();
        assert.ok(counted[1].count > 0 && counted[2].count > 0);

        problem(await gone(api, done), 'ledger_expired');
        problem(await gone(api, twice), 'ledger_expired');
        problem(await poll(api, twice, failed.current_attempt_id), 'ledger_expired');
        problem(await api.get(`/runs/${done.run_id}/events/stream`, { attemptId: done.current_attempt_id, afterSeq: 0 }), 'ledger_expired');
        problem(await poll(api, done, twice.current_attempt_id), 'attempt_not_found');
        for (const tail of ['', '/attempts/1', '/attempts/2'])
            for (const method of ['GET', 'HEAD']) assert.equal((await stream(api, method, twice, tail, '?offset=-1')).status, 410, `${method} ${tail}`);
        assert.equal((await stream(api, 'GET', twice, '/attempts/3')).status, 404);

        const after = checkRun(await api.run(done.run_id));
        const { checkpoint_id, ...rest } = done;
        assert.ok(checkpoint_id);
        assert.deepEqual(after, rest);
        assert.deepEqual((await api.ok(api.get(`/runs/${done.run_id}/checkpoints/index`), 200)).items, []);
        problem(await api.get(`/checkpoints/${checkpoint.checkpoint_id}`), 'checkpoint_not_found');
        problem(await api.get(`/checkpoints/${checkpoint.checkpoint_id}`, { run_id: done.run_id }), 'checkpoint_not_found');
        for (const mode of ['strict', 'best_effort'])
            problem(await api.post(`/runs/${done.run_id}/checkpoints/${checkpoint.checkpoint_id}/replay`, { mode }), 'checkpoint_not_replayable');
        problem(await api.post(`/runs/${twice.run_id}/checkpoints/${checkpoint.checkpoint_id}/replay`, {}), 'checkpoint_not_found');
        const all = await api.ok(api.get(`/runs/${twice.run_id}/inspection`), 200);
        assert.deepEqual([all.events, all.node_executions, all.attempts.length, all.failure.status], [[], [], 2, 'expired']);
        for (const item of (await api.ok(api.get('/runs/failures', { agent_id: flaky }), 200)).items) {
            assert.deepEqual([item.status, item.can_retry, item.can_replay, item.retry_from_node_execution_id, item.replay_from_node_execution_id],
                ['expired', false, false, null, null]);
            const detail = await api.ok(api.get(`/runs/failures/${item.failure_id}`), 200);
            assert.deepEqual(detail, { failure: item });
        }
        problem(await api.post(`/runs/${twice.run_id}/retry`, {}), 'retry_not_possible');
        assert.deepEqual(await figures(), counted);
        const again = await api.ok(api.post(`/runs/${done.run_id}/rerun`, undefined), 201);
        assert.deepEqual((await api.until(again.run_id)).output, done.output);

        checkLedger(await api.ledger(waiting.run_id), { closed: false });
        await api.ok(api.resume(waiting.run_id, { input: 'late' }), 200);
        assert.deepEqual((await api.until(waiting.run_id)).output, { answer: 'late' });
        checkLedger(await api.ledger(waiting.run_id));
        assert.ok(await metric(server, 'perdure_ledgers_expired_total') >= 2);
        assert.match(server.stderrText, /ledgers_expired runs=\d+ ended_before=\d{4}-/);
    });

    own('who follows the stream of a failed run is let go when it can be tried again no more', 1500, async ({ api, F }) => {
        const run = await api.createAndFinish({ agent_id: F });
        const tail = (await stream(api, 'HEAD', run)).headers.get('stream-next-offset');
        const began = Date.now();
        const ends = [];
        for (let res; res?.status !== 410; ends.push([res.status, res.headers.get('stream-closed')])) {
            assert.ok(Date.now() - began < 15000, `after ${ends.length}: ${ends.at(-1)}`);
            if (res) await sleep(50);
            res = await stream(api, 'GET', run, '', `?offset=${tail}&live=long-poll`);
        }
        assert.deepEqual(ends[0], [204, null], 'it was there to be followed');
        assert.ok(ends.slice(1, -1).every(([status, closed]) => status === 204 && closed === 'true'), `closed, then gone: ${JSON.stringify(ends.slice(0, 9))}`);
    });

    own('a replay that goes on holds its source', 1200, async ({ api, H }) => {
        const asked = await api.waiting((await api.create({ agent_id: H })).run_id);
        const [human] = (await api.ok(api.get(`/runs/${asked.run_id}/checkpoints/index`), 200)).items;
        await api.ok(api.resume(asked.run_id, { input: 'yes' }), 200);
        const source = await api.until(asked.run_id);
        const other = await api.createAndFinish({ agent_id: H }, 1).catch(() => null);
        assert.equal(other, null, 'H waits');
        const replay = await api.ok(api.post(`/runs/${source.run_id}/checkpoints/${human.checkpoint_id}/replay`, {}), 201);
        await api.waiting(replay.run_id);
        await sleep(2500);
        checkLedger(await api.ledger(source.run_id));
        await api.ok(api.resume(replay.run_id, { input: 'yes' }), 200);
        assert.equal((await api.until(replay.run_id)).status, 'completed');
        problem(await gone(api, source), 'ledger_expired');
    });

    test('kill -9 during the sweep: every ledger is whole or gone, and in the end nothing of them is left', { timeout: 120000 },
        () => withServer({ args: args(0) }, async (server) => {
            const api = new Client(server.url, server.token);
            const { E } = await installFixtures(api, 'E');
            const long = await makeAgent(api, graph([node('e', 'core.emit', { count: 3000, interval_ms: 0 })]));
            const runs = [];
            for (let i = 0; i < 4; i++) {
                const batch = await api.ok(api.post('/runs/batch', { agent_id: E, inputs: Array.from({ length: 60 }, (_, n) => ({ input: { n, text: 'x'.repeat(300) } })) }), 201);
                runs.push(...batch.items.map((item) => item.run_id));
            }
            for (let i = 0; i < 3; i++) runs.push((await api.create({ agent_id: long })).run_id);
            const ended = [];
            for (const id of runs) ended.push(await api.until(id));
            let left = ended.length;
            for (let kills = 0; left > 0; kills++) {
                assert.ok(kills < 40, `${left} left after ${kills} kills`);
                server.options.args = args(1);
                await server.restart();
                await sleep(40 + Math.random() * 250);
                server.options.args = args(0);
                await server.restart();
                left = 0;
                for (const run of ended) {
                    const res = await poll(api, run);
                    assert.ok(res.status === 200 || res.status === 410, `${run.run_id}: ${res.status} ${res.text.slice(0, 200)}`);
                    if (res.status === 410) continue;
                    left++;
                    const events = await api.ledger(run.run_id, run.current_attempt_id);
                    assert.equal(events.length, run.latest_seq);
                    checkLedger(events);
                    assert.equal((await api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`), 200)).items.at(-1).kind, 'final');
                }
            }
            if (otherStore) return;
            server.options.args = args(1);
            await server.restart();
            const until = Date.now() + 30000;
            for (const table of ['purge', 'segment', 'tail', 'snapshot'])
                while (await count(server, table)) {
                    assert.ok(Date.now() < until, `rows are left in ${table}`);
                    await sleep(100);
                }
            assert.ok(await count(server, 'run') >= ended.length);
        }));
});
