// SPDX-License-Identifier: Apache-2.0
// Group K, checkpoints (contract 3.4, 7.1, 9, 10.8): the index, what a checkpoint holds, the history of a thread; and rerun (6.7).
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { describe, test as single } from 'node:test';
import { Client } from './lib/client.mjs';
import { suite } from './lib/harness.mjs';
import { otherStore, withServer } from './lib/server.mjs';
import { UNKNOWN_ID, checkLedger, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { graph, makeAgent, makeDraft, node, publish } from './lib/fixtures.mjs';

// Canonical JSON of what has only ASCII names and small numbers.
const canonical = (v) => (v === null || typeof v !== 'object' ? JSON.stringify(v) : Array.isArray(v) ? `[${v.map(canonical)}]`
    : `{${Object.keys(v).sort().map((k) => `${JSON.stringify(k)}:${canonical(v[k])}`)}}`);
const hashOf = (c) => `sha256:${createHash('sha256').update(canonical({ state: c.state, next: c.next, step: c.step })).digest('hex')}`;
const index = async (api, run) => api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`), 200);

async function checkContents(api, items) {
    for (const item of items) {
        const { state, next, ...rest } = await api.ok(api.get(`/checkpoints/${item.checkpoint_id}`), 200);
        assert.deepEqual(rest, item);
        assert.equal(hashOf({ state, next, step: item.step }), item.state_hash);
        assert.equal(canonical({ state, next, step: item.step }).length, item.size_bytes);
        assert.deepEqual(await api.ok(api.get(`/checkpoints/${item.checkpoint_id}`, { run_id: item.run_id }), 200), { ...rest, state, next });
    }
}

suite('K checkpoints', {}, (test) => {
    test('K1 index of a finished run', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const list = await index(api, run);
        assert.equal(list.run_id, run.run_id);
        assert.equal(list.count, list.items.length);
        assert.ok(list.count >= 1);
        const events = await api.ledger(run.run_id);
        assert.equal(list.count, events.filter((e) => e.type === 'CHECKPOINT_CREATED').length);
        let parent = null;
        list.items.forEach((item, i) => {
            const event = events.find((e) => e.seq === item.seq);
            assert.equal(event.type, 'CHECKPOINT_CREATED');
            for (const key of ['checkpoint_id', 'kind', 'step', 'state_hash']) assert.equal(item[key], event.payload[key], key);
            assert.equal(item.node, event.payload.node ?? null);
            assert.equal(item.node_execution_id, item.node ? event.operation_id : null);
            assert.deepEqual([item.run_id, item.thread_id, item.attempt_id, item.attempt_no], [run.run_id, run.thread_id, run.current_attempt_id, 1]);
            assert.equal(item.parent_checkpoint_id, parent);
            assert.equal(item.created_at, event.timestamp);
            assert.ok(i === 0 || item.seq > list.items[i - 1].seq);
            parent = item.checkpoint_id;
        });
        assert.equal(list.items.at(-1).kind, 'final');
        assert.equal(list.items.at(-1).checkpoint_id, run.checkpoint_id);
    });

    test('K2 unknown runs and checkpoints', async ({ api }) => {
        for (const id of [UNKNOWN_ID, 'nope']) {
            problem(await api.get(`/runs/${id}/checkpoints/index`), 'run_not_found');
            problem(await api.get(`/checkpoints/${id}`), 'checkpoint_not_found');
            problem(await api.get(`/checkpoints/${id}`, { run_id: id }), 'checkpoint_not_found');
            problem(await api.get(`/threads/${id}/history`), 'thread_not_found');
            problem(await api.get(`/threads/${id}/checkpoints`), 'thread_not_found');
        }
    });

    test('7.1 what each checkpoint holds hashes to what the ledger says; also after a pause, a failed try and a second attempt', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.set', { value: { n: 1 } }, 'shaky'),
            node('shaky', 'core.fail', { code: 'x', retryable: true, fail_times: 1, category: 'tool', message: 'once' }, 'gate'), node('gate', 'core.human', { prompt: '?' }, 'b'),
            node('b', 'core.set', { value: { said: { $from: '/nodes/gate/output' } } }, 'c'), node('c', 'core.value', { value: 3 })], { max_attempts: 2 }));
        const run = await api.waiting((await api.create({ agent_id: agent })).run_id);
        assert.equal(run.current_attempt_no, 2);
        const before = await index(api, run);
        await checkContents(api, before.items);
        await api.ok(api.resume(run.run_id, { input: 'yes' }), 200);
        await api.until(run.run_id);
        const after = await index(api, run);
        assert.deepEqual(after.items.slice(0, before.count).map((i) => i.checkpoint_id), before.items.map((i) => i.checkpoint_id));
        assert.deepEqual([...new Set(after.items.map((i) => i.attempt_no))], [1, 2]);
        await checkContents(api, after.items);
        const human = await api.ok(api.get(`/checkpoints/${after.items.find((i) => i.kind === 'human').checkpoint_id}`));
        assert.deepEqual(human.state.values, { n: 1 });
        assert.deepEqual(human.next, ['gate']);
        const last = await api.ok(api.get(`/checkpoints/${after.items.at(-1).checkpoint_id}`));
        assert.deepEqual([last.state.values, last.next], [{ n: 1, said: 'yes' }, []]);
    });

    test('9 history and checkpoints of a thread', async ({ api, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const runs = [];
        for (let i = 0; i < 3; i++) runs.push(await api.createAndFinish({ agent_id: E, input: i, thread: { thread_id } }));
        const newest = [];
        for (const run of runs) newest.unshift(...(await index(api, run)).items.reverse());
        const ids = newest.map((i) => i.checkpoint_id);
        const all = await api.ok(api.get(`/threads/${thread_id}/history`), 200);
        assert.deepEqual(all.items.map((i) => i.checkpoint_id), ids);
        assert.equal(all.has_more, false);
        const seen = [];
        for (let before; ;) {
            const page = await api.ok(api.get(`/threads/${thread_id}/history`, { limit: 2, before }), 200);
            seen.push(...page.items.map((i) => i.checkpoint_id));
            if (!page.has_more) break;
            before = page.items.at(-1).checkpoint_id;
        }
        assert.deepEqual(seen, ids);
        assert.deepEqual((await api.ok(api.get(`/threads/${thread_id}/history`, { before: UNKNOWN_ID }))).items, []);
        const list = checkList(await api.get(`/threads/${thread_id}/checkpoints`, { limit: 2, offset: 1 }));
        assert.equal(list.total, ids.length);
        assert.deepEqual(list.items.map((i) => i.checkpoint_id), ids.slice(1, 3));
        assert.deepEqual(checkList(await api.get(`/threads/${thread_id}/checkpoints`, { order: 'asc' })).items.map((i) => i.checkpoint_id), ids.slice().reverse());
        invalid(await api.get(`/threads/${thread_id}/history`, { limit: 0 }), 'limit', 'invalid_parameter');
    });

    const replay = (api, run, checkpoint, body) => api.post(`/runs/${run.run_id}/checkpoints/${checkpoint.checkpoint_id}/replay`, body);

    test('K3 replay from the first checkpoint, with an empty body', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E, input: { n: 1 } });
        const [first] = (await index(api, run)).items;
        const res = await replay(api, run, first, {});
        assert.equal(res.status, 201, res.text);
        const made = res.json;
        assert.equal(res.headers.get('location'), `/v1/api/runs/${made.run_id}`);
        assert.notEqual(made.run_id, run.run_id);
        assert.deepEqual([made.replay_mode, made.replayed_from_run_id, made.replayed_from_checkpoint_id, made.reused], ['best_effort', run.run_id, first.checkpoint_id, false]);
        const again = checkRun(await api.until(made.run_id));
        assert.deepEqual([again.status, again.source, again.replay_mode, again.bundle_id], ['completed', 'replay', 'best_effort', run.bundle_id]);
        assert.deepEqual([again.input, again.output], [run.input, run.output]);
        const events = await api.ledger(again.run_id);
        checkLedger(events, { attemptId: made.current_attempt_id });
        assert.deepEqual([events[0].payload.from_checkpoint_id, events[0].payload.replay_mode], [first.checkpoint_id, 'best_effort']);
        assert.deepEqual(events.filter((e) => e.type === 'NODE_STARTED' || e.type === 'REPLAY_DIVERGED'), [], 'what was finished stays finished');
        for (const body of [undefined, { mode: null }, { mode: 'best_effort', reason: 'x' }])
            assert.equal((await api.ok(replay(api, run, first, body), 201)).replay_mode, 'best_effort');
    });

    test('K4 strict replay from every checkpoint: the same end, the same chunks; O5 and inspection count it', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.set', { value: { n: 1 } }, ['m', 'e']),
            node('m', 'model.chat', { provider: 'scripted', model: 'demo', prompt: 'Hi', script: { text: 'one two three', interval_ms: 2 } }, 'gate'),
            node('e', 'core.emit', { count: 4, interval_ms: 2 }, 'gate'), node('gate', 'core.human', { prompt: 'ok?' }, 'end'),
            node('end', 'core.value', { value: [{ $from: '/nodes/m/output/text' }, { $from: '/nodes/e/output/ticks' }, { $from: '/nodes/gate/output' }, { $from: '/values/n' }] })]));
        const asked = await api.waiting((await api.create({ agent_id: agent })).run_id);
        await api.ok(api.resume(asked.run_id, { input: 'yes' }), 200);
        const run = await api.until(asked.run_id);
        assert.deepEqual(run.output, ['one two three', 4, 'yes', 1]);
        const chunks = (events) => events.filter((e) => e.type === 'MODEL_DELTA').map((e) => e.payload.delta).sort();
        const source = await api.ledger(run.run_id);
        const { items } = await index(api, run);
        const made = [];
        for (const item of items) {
            const answer = await api.ok(replay(api, run, item, { mode: 'strict', reason: 'audit' }), 201);
            made.push(answer.run_id);
            const again = checkRun(await api.until(answer.run_id));
            assert.deepEqual([again.status, again.output, again.replay_mode], ['completed', run.output, 'strict'], JSON.stringify(again.error));
            assert.deepEqual([again.replayed_from_run_id, again.replayed_from_checkpoint_id], [run.run_id, item.checkpoint_id]);
            const events = await api.ledger(again.run_id);
            checkLedger(events, { attemptId: again.current_attempt_id });
            if (item === items[0]) assert.deepEqual(chunks(events), chunks(source));
            const all = await api.ok(api.get(`/runs/${again.run_id}/inspection`));
            assert.deepEqual(all.replay, { replayed_from_run_id: run.run_id, replayed_from_checkpoint_id: item.checkpoint_id, replay_mode: 'strict', reason: 'audit', divergences: [] });
        }
        assert.deepEqual((await api.ok(api.get(`/runs/${run.run_id}/inspection`))).replay, { replays: made });
    });

    test('3.6 3.7 what a replay does again names the node execution of its source, try by try and attempt by attempt', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.set', { value: { n: 1 } }, 'flaky'),
            node('flaky', 'core.fail', { code: 'x', category: 'tool', message: 'once', retryable: true, fail_times: 1 }, 'gate', { policy: { max_tries: 2, backoff_ms: 1 } }),
            node('gate', 'core.human', { prompt: '?' }, 'end'), node('end', 'core.fail', { code: 'y', category: 'tool', message: 'always', retryable: true })], { max_attempts: 2 }));
        const asked = await api.waiting((await api.create({ agent_id: agent })).run_id);
        await api.ok(api.resume(asked.run_id, { input: 'yes' }), 200);
        const run = await api.until(asked.run_id);
        assert.deepEqual([run.status, run.current_attempt_no], ['failed', 2]);
        const executions = async (id) => (await api.ok(api.get(`/runs/${id}/inspection`), 200)).node_executions;
        const source = await executions(run.run_id);
        assert.deepEqual(source.map((x) => [x.attempt_no, x.node]), [[1, 'a'], [1, 'flaky'], [1, 'flaky'], [1, 'gate'], [1, 'end'], [2, 'end']]);
        assert.ok(source.every((x) => x.replayed_from_node_execution_id === null), 'an original repeats nothing');
        const [own] = (await api.ok(api.get('/runs/failures', { agent_id: agent }), 200)).items;
        assert.deepEqual([own.ancestry_kind, own.replayed_from_node_execution_id], ['retry', null]);
        const { items } = await index(api, run);
        for (const item of items.filter((i) => i.attempt_no === 1)) {
            const { run_id } = await api.ok(replay(api, run, item, { mode: 'strict' }), 201);
            await api.until(run_id);
            const done = source.filter((x) => x.attempt_no === 1 && item.kind === 'node').findIndex((x) => x.node_execution_id === item.node_execution_id);
            const again = source.slice(item.kind === 'human' ? 3 : done + 1); // what was asked when the checkpoint was made is asked again
            const mine = await executions(run_id);
            assert.deepEqual(mine.map((x) => [x.attempt_no, x.node]), again.map((x) => [x.attempt_no, x.node]), `${item.kind} ${item.node}`);
            assert.deepEqual(mine.map((x) => x.replayed_from_node_execution_id), again.map((x) => x.node_execution_id), `${item.kind} ${item.node}`);
            const { items: failures } = await api.ok(api.get('/runs/failures', { agent_id: agent, limit: 500 }), 200);
            const failed = failures.filter((f) => f.run_id === run_id);
            assert.equal(failed.length, mine.filter((x) => x.status === 'failed').length);
            for (const failure of failed) {
                const at = mine.find((x) => x.node_execution_id === failure.node_execution_id);
                assert.equal(failure.replayed_from_node_execution_id, at.replayed_from_node_execution_id, JSON.stringify(failure));
            }
        }
        const second = items.find((i) => i.attempt_no === 2);
        assert.equal(second, undefined, 'nothing finished in the second attempt');
        const rerun = await api.ok(api.post(`/runs/${run.run_id}/rerun`, undefined), 201);
        await api.waiting(rerun.run_id);
        assert.ok((await executions(rerun.run_id)).every((x) => x.replayed_from_node_execution_id === null), 'a rerun is no replay');
        await api.ok(api.cancel(rerun.run_id), 200);
    });

    test('K5 K6 bodies and checkpoints that will not do', async ({ api, E, H }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const other = await api.createAndFinish({ agent_id: E });
        const [first] = (await index(api, run)).items;
        invalid(await replay(api, run, first, { mode: 'maybe' }), '/mode');
        invalid(await replay(api, run, first, { mode: 1 }), '/mode');
        invalid(await replay(api, run, first, { reason: 'x'.repeat(2001) }), '/reason');
        problem(await replay(api, other, first, {}), 'checkpoint_not_found');
        for (const id of [UNKNOWN_ID, 'nope']) {
            problem(await replay(api, run, { checkpoint_id: id }, {}), 'checkpoint_not_found');
            problem(await replay(api, { run_id: id }, first, {}), 'run_not_found');
        }
        const waiting = await api.waiting((await api.create({ agent_id: H })).run_id);
        const [human] = (await index(api, waiting)).items;
        const again = await api.ok(replay(api, waiting, human, {}), 201);
        assert.equal((await api.waiting(again.run_id)).human_prompt, waiting.human_prompt, 'best effort asks again');
        problem(await replay(api, waiting, human, { mode: 'strict' }), 'replay_not_deterministic');
        for (const id of [waiting.run_id, again.run_id]) await api.ok(api.cancel(id), 200);
        const paused = await api.ok(replay(api, waiting, human, { mode: 'strict' }), 201);
        await api.waiting(paused.run_id);
        await api.ok(api.cancel(paused.run_id), 200);
    });

    test('K7 a running source is not replayed strictly', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.echo', {}, 'e'), node('e', 'core.emit', { count: 400, interval_ms: 20 })]));
        const run = await api.create({ agent_id: agent });
        await api.until(run.run_id, 'running');
        const [first] = (await index(api, run)).items;
        assert.deepEqual([first.replayable, first.strict_replayable], [true, false]);
        problem(await replay(api, run, first, { mode: 'strict' }), 'replay_not_deterministic');
        const beside = await api.ok(replay(api, run, first, {}), 201);
        for (const id of [run.run_id, beside.run_id]) await api.ok(api.cancel(id), 200);
        const again = await api.ok(replay(api, run, first, { mode: 'strict' }), 201);
        assert.equal((await api.until(again.run_id)).status, 'cancelled', 'it ends where its source was ended');
    });

    test('K8 a thread of its own; the source and its thread stay as they are', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.set', { value: { n: 1 } }, 'b'), node('b', 'core.set', { value: { m: 2 } })]));
        const { thread_id } = await api.ok(api.post('/threads', { values: { kept: 1 } }), 201);
        const run = await api.createAndFinish({ agent_id: agent, thread: { thread_id } });
        const before = [await api.run(run.run_id), await api.ledger(run.run_id), await api.ok(api.get(`/threads/${thread_id}`))];
        const [first] = (await index(api, run)).items;
        for (const mode of ['best_effort', 'strict']) {
            const made = await api.ok(replay(api, run, first, { mode }), 201);
            assert.notEqual(made.thread_id, thread_id);
            await api.until(made.run_id);
            const thread = await api.ok(api.get(`/threads/${made.thread_id}`));
            assert.deepEqual([thread.forked_from_thread_id, thread.values], [thread_id, { kept: 1, n: 1, m: 2 }]);
        }
        assert.deepEqual([await api.run(run.run_id), await api.ledger(run.run_id), await api.ok(api.get(`/threads/${thread_id}`))], before);
    });

    test('7.2 best effort: another answer is a difference that is told, and the run goes on', async ({ api, H }) => {
        const asked = await api.waiting((await api.create({ agent_id: H })).run_id);
        await api.ok(api.resume(asked.run_id, { input: 'yes' }), 200);
        const run = await api.until(asked.run_id);
        const human = (await index(api, run)).items.find((i) => i.kind === 'human');
        const again = await api.waiting((await api.ok(replay(api, run, human, {}), 201)).run_id);
        await api.ok(api.resume(again.run_id, { input: 'no' }), 200);
        const done = await api.until(again.run_id);
        assert.equal(done.status, 'completed');
        const told = (await api.ledger(again.run_id)).filter((e) => e.type === 'REPLAY_DIVERGED');
        assert.ok(told.length >= 1);
        checkLedger(await api.ledger(again.run_id), { attemptId: again.current_attempt_id });
        const { replay: { divergences } } = await api.ok(api.get(`/runs/${again.run_id}/inspection`));
        assert.deepEqual(divergences.map((d) => [d.seq, d.kind]), told.map((e) => [e.seq, e.payload.kind]));
        assert.equal(told[0].payload.kind, 'effect');
    });

    test('Y1 rerun: same input, another run, another thread, empty state', async ({ api, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', { values: { kept: 1 } }), 201);
        const run = await api.createAndFinish({ agent_id: E, input: { n: 12345678901234567890n.toString() }, thread: { thread_id } });
        const res = await api.post(`/runs/${run.run_id}/rerun`, undefined);
        assert.equal(res.status, 201, res.text);
        assert.equal(res.headers.get('location'), `/v1/api/runs/${res.json.run_id}`);
        assert.notEqual(res.json.run_id, run.run_id);
        assert.notEqual(res.json.thread_id, thread_id);
        const again = checkRun(await api.until(res.json.run_id));
        assert.deepEqual([again.source, again.rerun_of_run_id, again.status], ['rerun', run.run_id, 'completed']);
        assert.deepEqual(again.input, run.input);
        assert.deepEqual((await api.ok(api.get(`/threads/${again.thread_id}`))).values, {});
        assert.deepEqual(await api.run(run.run_id), run, 'the source is untouched');
    });

    test('Y2 rerun of what is not there', async ({ api }) => {
        for (const id of [UNKNOWN_ID, 'nope']) problem(await api.post(`/runs/${id}/rerun`, undefined), 'run_not_found');
    });

    test('6.7 rerun: any status, an explicit pin is kept, otherwise the live bundle is taken', async ({ api, S }) => {
        const slow = await api.create({ agent_id: S });
        await api.until(slow.run_id, 'running');
        const copy = await api.ok(api.post(`/runs/${slow.run_id}/rerun`, undefined), 201);
        for (const run of [slow, copy]) await api.ok(api.cancel(run.run_id), 200);
        assert.equal((await api.post(`/runs/${slow.run_id}/rerun`, undefined)).status, 201);
        const agent = await makeAgent(api, graph([node('one', 'core.value', { value: 1 })]));
        const unpinned = await api.createAndFinish({ agent_id: agent });
        const pinned = await api.createAndFinish({ agent_id: agent, bundle_id: unpinned.bundle_id });
        const next = await makeDraft(api, agent, graph([node('one', 'core.value', { value: 2 })]));
        await publish(api, agent, next.bundle_id);
        const rerun = async (run) => api.until((await api.ok(api.post(`/runs/${run.run_id}/rerun`, undefined), 201)).run_id);
        assert.equal((await rerun(unpinned)).output, 2);
        assert.equal((await rerun(pinned)).output, 1);
    });

    test('9 every change leaves one audit row, and only changes do', async ({ api, H }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const rows = async (query) => checkList(await api.get('/audit', query)).items;
        const key = `k-${thread_id}`;
        const run = await api.create({ agent_id: H, thread: { thread_id }, idempotency_key: key });
        await api.ok(api.post('/runs', { agent_id: H, thread: { thread_id }, idempotency_key: key }), 200);
        const waiting = await api.waiting(run.run_id);
        await api.ok(api.post(`/approvals/${waiting.approval_id}/reject`, { reason: 'because' }), 200);
        await api.ok(api.patch(`/threads/${thread_id}`, { metadata: { a: 1 } }), 200);
        await api.until(run.run_id);
        await api.req('DELETE', `/threads/${thread_id}`);
        assert.deepEqual((await rows({ resource_id: run.run_id })).map((r) => r.action), ['run.create']);
        const [rejected] = await rows({ resource_id: waiting.approval_id });
        assert.deepEqual([rejected.action, rejected.result, rejected.data, rejected.resource.kind], ['approval.reject', 'ok', { reason: 'because' }, 'approval']);
        assert.deepEqual((await rows({ resource_id: thread_id })).map((r) => r.action), ['thread.delete', 'thread.update', 'thread.create']);
        assert.equal((await rows({ actor: rejected.actor.id, action: 'approval.reject', resource_id: waiting.approval_id })).length, 1);
        assert.equal((await rows({ actor: UNKNOWN_ID })).length, 0);
        assert.equal((await rows({ resource_id: run.run_id, to: '2001-01-01' })).length, 0);
        assert.ok((await rows({ resource_id: run.run_id, from: '2001-01-01', to: '2901-01-01' })).length >= 1);
        invalid(await api.get('/audit', { from: '2002-01-01', to: '2001-01-01' }), 'from', 'invalid_parameter');
        invalid(await api.get('/audit', { from: 'soon' }), 'from', 'invalid_parameter');
        assert.equal((await api.req('DELETE', '/audit')).status, 405);
    });
});

const ownServer = (title, fn) => single(title, { timeout: 60000, skip: otherStore && 'another store has no folder to look into' },
    () => withServer({}, async (server) => fn({ server, api: new Client(server.url, server.token) })));

// Changes the first place in the ledgers where the text stands; the other one must be as long.
async function tamper(dataDir, from, to) {
    assert.equal(from.length, to.length);
    const { DatabaseSync } = await import('node:sqlite');
    const db = new DatabaseSync(path.join(dataDir, 'perdure.db'));
    let changed = 0;
    for (const table of ['segment', 'tail']) {
        for (const { id, body } of db.prepare(`SELECT rowid AS id, body FROM ${table} ORDER BY first_seq`).all()) {
            const bytes = Buffer.from(body);
            const at = bytes.indexOf(from);
            if (at < 0 || changed) continue;
            bytes.write(to, at);
            changed += Number(db.prepare(`UPDATE ${table} SET body = ? WHERE rowid = ?`).run(bytes, id).changes);
        }
    }
    db.close();
    assert.equal(changed, 1);
}

describe('K replay with a server of its own', { concurrency: 2 }, () => {
    ownServer('K9 strict replay with a tampered journal', async ({ server, api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.echo', {}, 'm'),
            node('m', 'model.chat', { provider: 'scripted', model: 'demo', prompt: 'Hi', script: { text: 'honest', interval_ms: 0 } }, 'end'),
            node('end', 'core.value', { value: { $from: '/nodes/m/output/text' } })]));
        const run = await api.createAndFinish({ agent_id: agent });
        const [first] = (await api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`))).items;
        const path_ = `/runs/${run.run_id}/checkpoints/${first.checkpoint_id}/replay`;
        await server.stop();
        await tamper(server.dataDir, '"v":{"text":"honest"', '"v":{"text":"forged"');
        await server.start();
        const strict = checkRun(await api.until((await api.ok(api.post(path_, { mode: 'strict' }), 201)).run_id));
        assert.equal(strict.status, 'failed');
        assert.deepEqual([strict.error.code, strict.error.category, strict.error.retryable], ['replay_divergence', 'replay', false]);
        const events = await api.ledger(strict.run_id);
        checkLedger(events, { attemptId: strict.current_attempt_id });
        assert.deepEqual(events.slice(-2).map((e) => e.type), ['REPLAY_DIVERGED', 'RUN_FAILED']);
        const told = events.at(-2).payload;
        assert.deepEqual([told.node, told.kind, told.expected.payload.output.text, told.actual.payload.output.text], ['m', 'effect', 'honest', 'forged']);
        problem(await api.post(`/runs/${strict.run_id}/retry`, {}), 'retry_not_possible');
        const best = await api.until((await api.ok(api.post(path_, {}), 201)).run_id);
        assert.deepEqual([best.status, best.output], ['completed', 'honest'], 'best effort asks the model');
    });

    ownServer('7.2 kill -9 during strict replays: they go on and end like their source', async ({ server, api }) => {
        const agent = await makeAgent(api, graph([node('a', 'core.echo', {}, ['e', 'f']), node('e', 'core.emit', { count: 6000, interval_ms: 0 }, 'gate'),
            node('f', 'core.emit', { count: 3000, interval_ms: 0 }, 'gate'), node('gate', 'core.human', { prompt: '?' }, 'end'), node('end', 'core.value', { value: { $from: '/nodes/gate/output' } })]));
        const asked = await api.waiting((await api.create({ agent_id: agent })).run_id);
        await api.ok(api.resume(asked.run_id, { input: 7 }), 200);
        const run = await api.until(asked.run_id);
        const { items } = await api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`));
        const made = await Promise.all(items.map((i) => api.ok(api.post(`/runs/${run.run_id}/checkpoints/${i.checkpoint_id}/replay`, { mode: 'strict' }), 201)));
        await server.restart();
        for (const { run_id } of made) {
            const again = checkRun(await api.until(run_id, undefined, 20000));
            assert.deepEqual([again.status, again.output], ['completed', 7], JSON.stringify(again.error));
            checkLedger(await api.ledger(run_id), { attemptId: again.current_attempt_id });
        }
        const chunks = (await api.ledger(made[0].run_id)).filter((e) => e.type === 'MODEL_DELTA').length;
        assert.equal(chunks, 9000);
    });
});
