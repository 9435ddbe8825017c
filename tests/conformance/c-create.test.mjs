// SPDX-License-Identifier: Apache-2.0
// Group C: create, threads and pinning as seen from create, idempotency (contract 2.7, 4.5, 4.6, 6.1, 10.2).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { TERMINAL, sleep, unique } from './lib/client.mjs';
import { UNKNOWN_ID, checkLedger, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, graph, makeAgent, makeDraft, node, publish } from './lib/fixtures.mjs';

const echoAgent = (api) => makeAgent(api, fixtureDefinition('echo'));
const count = async (api, agentId) => checkList(await api.get('/runs', { agent_id: agentId })).total;

suite('C create', {}, (test) => {
    test('C1 create answers 201 with run_id, status, Location', async ({ api, E }) => {
        const res = await api.post('/runs', { agent_id: E, input: { m: 1 } });
        assert.equal(res.status, 201, res.text);
        assert.ok(['queued', 'pending'].includes(res.json.status), res.text);
        assert.ok(res.json.reused === undefined || res.json.reused === false);
        assert.ok(res.headers.get('location')?.endsWith(`/v1/api/runs/${res.json.run_id}`), `Location ${res.headers.get('location')}`);
        for (const key of ['thread_id', 'current_attempt_id']) assert.equal(typeof res.json[key], 'string', key);
        assert.equal(res.json.current_attempt_no, 1);
    });

    test('C2 the run is complete at once', async ({ api, E, S, H, F }) => {
        for (const agent of [E, S, H, F]) {
            const made = await api.create({ agent_id: agent, input: { m: 1 } });
            const run = checkRun(await api.run(made.run_id));
            assert.equal(run.current_attempt_id, made.current_attempt_id);
            assert.equal(run.current_attempt_no, 1);
            assert.equal(run.thread_id, made.thread_id);
            assert.deepEqual(run.input, { m: 1 });
            assert.equal(run.agent_id, agent);
            assert.equal(typeof run.agent_version_id, 'string', 'published bundle');
            assert.equal(run.source, 'api');
        }
    });

    test('C3 agent_id is required', async ({ api }) => {
        const res = await api.post('/runs', { input: 1 });
        assert.equal(invalid(res, '/agent_id').errors[0].pointer, '/agent_id');
        for (const bad of ['', null, 5, {}, []]) invalid(await api.post('/runs', { agent_id: bad }), '/agent_id');
        for (const bad of [5, {}, true]) invalid(await api.post('/runs', { agent_id: UNKNOWN_ID, bundle_id: bad }), '/bundle_id');
    });

    test('C4 unknown agent', async ({ api }) => {
        problem(await api.post('/runs', { agent_id: UNKNOWN_ID }), 'agent_not_found');
        problem(await api.post('/runs', { agent_id: 'not-a-uuid' }), 'agent_not_found');
        problem(await api.post('/runs', { agent_id: `${UNKNOWN_ID}\u0000` }), 'agent_not_found');
    });

    test('C5 unknown thread', async ({ api, E }) => {
        problem(await api.post('/runs', { agent_id: E, thread: { thread_id: 'nope' } }), 'thread_not_found');
        problem(await api.post('/runs', { agent_id: E, thread: { thread_id: UNKNOWN_ID } }), 'thread_not_found');
    });

    test('C6 new_thread twice: two threads; no thread: an implicit one', async ({ api, E }) => {
        const a = await api.create({ agent_id: E, thread: { new_thread: true } });
        const b = await api.create({ agent_id: E, thread: { new_thread: true } });
        assert.notEqual(a.thread_id, b.thread_id);
        assert.equal((await api.ok(api.get(`/threads/${a.thread_id}`))).implicit, false);
        for (const thread of [undefined, null, {}]) {
            const run = await api.create({ agent_id: E, thread });
            assert.equal((await api.ok(api.get(`/threads/${run.thread_id}`))).implicit, true);
        }
    });

    test('C7 a thread that says two things', async ({ api, E }) => {
        const thread = await api.ok(api.post('/threads', {}), 201);
        for (const bad of [{ thread_id: thread.thread_id, new_thread: true }, { new_thread: false }, 'x', 5, [], { thread_id: 5 }, { new_thread: 'yes' }]) {
            const body = invalid(await api.post('/runs', { agent_id: E, thread: bad }));
            assert.ok(body.errors.every((e) => e.pointer.startsWith('/thread')), JSON.stringify(body.errors));
        }
    });

    test('C8 a busy thread queues: pending until the first is terminal, then in order', async ({ api, S, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const first = await api.create({ agent_id: S, thread: { thread_id }, input: { ticks: 12, interval_ms: 60 } });
        assert.equal(first.status, 'queued');
        const later = [];
        for (let i = 0; i < 3; i++) later.push(await api.create({ agent_id: E, thread: { thread_id }, input: i }));
        for (const run of later) assert.equal(run.status, 'pending');
        const waiting = checkRun(await api.run(later[1].run_id));
        assert.equal(waiting.status, 'pending');
        assert.ok(Number.isInteger(waiting.queue_position), 'queue_position of a pending run');
        for (;;) {
            const second = await api.run(later[0].run_id);
            const one = await api.run(first.run_id);
            if (second.status !== 'pending') {
                assert.ok(TERMINAL.has(one.status), `the second run is ${second.status} while the first is ${one.status}`);
                break;
            }
            await sleep(20);
        }
        let before = await api.until(first.run_id);
        for (const run of later) {
            const now = await api.until(run.run_id);
            assert.equal(now.status, 'completed');
            assert.equal(now.thread_id, thread_id);
            assert.ok(now.started_at >= before.completed_at, 'runs of a thread do not overlap');
            before = now;
        }
    });

    test('4.5 a waiting run holds the slot; 64 may wait behind it, the 65th is refused', async ({ api, H, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const head = await api.create({ agent_id: H, thread: { thread_id } });
        await api.waiting(head.run_id);
        const queued = [];
        for (let i = 0; i < 64; i++) queued.push(await api.create({ agent_id: E, thread: { thread_id }, input: i }));
        problem(await api.post('/runs', { agent_id: E, thread: { thread_id } }), 'thread_queue_full');
        assert.equal((await api.ok(api.get(`/threads/${thread_id}`))).pending_runs, 64);
        await api.ok(api.cancel(head.run_id));
        for (const run of queued) assert.equal((await api.until(run.run_id)).status, 'completed');
        const started = await Promise.all(queued.map(async (run) => (await api.run(run.run_id)).started_at));
        assert.deepEqual(started, [...started].sort(), 'first in, first out');
    });

    test('4.5 threads do not wait for each other', async ({ api, S }) => {
        const began = Date.now();
        const runs = await Promise.all(Array.from({ length: 20 }, () => api.create({ agent_id: S, input: { ticks: 5, interval_ms: 100 }, thread: { new_thread: true } })));
        await Promise.all(runs.map((run) => api.until(run.run_id)));
        assert.ok(Date.now() - began < 5000, `20 parallel runs of 0.5 s took ${Date.now() - began} ms`);
    });

    test('C9 same key, same body: one run', async ({ api }) => {
        const agent = await echoAgent(api);
        const key = unique();
        const body = { agent_id: agent, input: { a: 1, b: [1, 2] }, idempotency_key: key };
        const options = { headers: { 'X-Idempotency-Key': key } };
        const first = await api.post('/runs', body, options);
        assert.equal(first.status, 201, first.text);
        await api.until(first.json.run_id);
        const second = await api.post('/runs', body, options);
        assert.equal(second.status, 200, second.text);
        assert.equal(second.json.reused, true);
        assert.equal(second.json.run_id, first.json.run_id);
        assert.equal(second.json.status, first.json.status, 'the status first answered');
        assert.equal(await count(api, agent), 1);
        // The fingerprint is over canonical JSON: member order does not matter.
        const swapped = await api.req('POST', '/runs', { raw: `{"idempotency_key":"${key}","input":{"b":[1,2],"a":1},"agent_id":"${agent}"}` });
        assert.equal(swapped.status, 200, swapped.text);
        assert.equal(swapped.json.run_id, first.json.run_id);
    });

    test('C10 same key, other input', async ({ api, E }) => {
        const key = unique();
        const first = await api.create({ agent_id: E, input: 1, idempotency_key: key });
        const other = problem(await api.post('/runs', { agent_id: E, input: 2, idempotency_key: key }), 'idempotency_key_reused');
        assert.equal(other.run_id, first.run_id);
        problem(await api.post('/runs', { agent_id: E, idempotency_key: key }), 'idempotency_key_reused');
    });

    test('C11 sources that differ', async ({ api }) => {
        const agent = await echoAgent(api);
        problem(await api.post('/runs', { agent_id: agent, idempotency_key: 'b' }, { headers: { 'X-Idempotency-Key': 'a' } }), 'idempotency_key_mismatch');
        problem(await api.post('/runs', { agent_id: agent }, { headers: { 'X-Idempotency-Key': 'a', 'Idempotency-Key': 'b' } }), 'idempotency_key_mismatch');
        problem(await api.post('/runs', { agent_id: agent, idempotency_key: 'b' }, { headers: { 'Idempotency-Key': 'a' } }), 'idempotency_key_mismatch');
        assert.equal(await count(api, agent), 0);
    });

    test('C12 one source is enough: body, header, or its alias', async ({ api }) => {
        const agent = await echoAgent(api);
        const sources = [(k) => [{ idempotency_key: k }, {}], (k) => [{}, { 'X-Idempotency-Key': k }], (k) => [{}, { 'Idempotency-Key': k }]];
        for (const make of sources) {
            const [body, headers] = make(unique());
            const first = await api.post('/runs', { agent_id: agent, input: 1, ...body }, { headers });
            const second = await api.post('/runs', { agent_id: agent, input: 1, ...body }, { headers });
            assert.deepEqual([first.status, second.status], [201, 200]);
            assert.equal(second.json.run_id, first.json.run_id);
            assert.equal(second.json.reused, true);
        }
        // All sources name one key.
        const key = unique();
        const one = await api.create({ agent_id: agent, input: 1, idempotency_key: key });
        const again = await api.ok(api.post('/runs', { agent_id: agent, input: 1 }, { headers: { 'X-Idempotency-Key': key, 'Idempotency-Key': key } }), 200);
        assert.equal(again.run_id, one.run_id);
        assert.equal(await count(api, agent), 4);
    });

    test('C13 an empty or null key is no key', async ({ api, E }) => {
        for (const key of ['', null]) {
            const a = await api.create({ agent_id: E, idempotency_key: key });
            const b = await api.create({ agent_id: E, idempotency_key: key });
            assert.notEqual(a.run_id, b.run_id);
        }
    });

    test('2.7 key syntax: 1 to 255 bytes of visible ASCII', async ({ api, E }) => {
        for (const bad of ['k'.repeat(256), 'a b', 'ä', 'a\u0001', 'a\u007f', 5, {}, true]) {
            invalid(await api.post('/runs', { agent_id: E, idempotency_key: bad }), '/idempotency_key');
        }
        assert.equal((await api.post('/runs', { agent_id: E, idempotency_key: unique().padEnd(255, '~') })).status, 201);
        const header = await api.post('/runs', { agent_id: E }, { headers: { 'X-Idempotency-Key': 'k'.repeat(256) } });
        assert.equal(header.status, 422, header.text);
    });

    test('C14 20 parallel creates with one key', async ({ api }) => {
        const agent = await echoAgent(api);
        const key = unique();
        const all = await Promise.all(Array.from({ length: 20 }, () => api.post('/runs', { agent_id: agent, input: 1, idempotency_key: key })));
        assert.deepEqual(all.map((r) => r.status).sort(), [...Array(19).fill(200), 201]);
        assert.equal(new Set(all.map((r) => r.json.run_id)).size, 1);
        for (const r of all) if (r.status === 200) assert.equal(r.json.reused, true);
        assert.equal(await count(api, agent), 1);
    });

    test('2.7 an error leaves the key free', async ({ api }) => {
        const agent = await makeAgent(api);
        const key = unique();
        const body = { agent_id: agent, input: 1, idempotency_key: key };
        problem(await api.post('/runs', body), 'agent_has_no_live_bundle');
        const draft = await makeDraft(api, agent, fixtureDefinition('echo'));
        await publish(api, agent, draft.bundle_id);
        assert.equal((await api.post('/runs', body)).status, 201);
        assert.equal((await api.post('/runs', body)).status, 200);
    });

    test('2.7 create, wait and batch items share one operation name', async ({ api, E }) => {
        const key = unique();
        const made = await api.create({ agent_id: E, input: 7, idempotency_key: key });
        const waited = await api.ok(api.post('/runs/wait', { agent_id: E, input: 7, idempotency_key: key, timeout_seconds: 3 }), 200);
        assert.equal(waited.run_id, made.run_id);
        assert.equal(waited.reused, true);
        assert.equal(waited.status, 'completed');
        const batch = await api.ok(api.post('/runs/batch', { agent_id: E, inputs: [{ input: 7, idempotency_key: key }] }), 200);
        assert.equal(batch.items[0].run_id, made.run_id);
        problem(await api.post('/runs/batch', { agent_id: E, inputs: [{ input: 8, idempotency_key: key }] }), 'idempotency_key_reused');
    });

    test('2.7 keys of rerun, resume, replay and of other resources', async ({ api, E, H }) => {
        const done = await api.createAndFinish({ agent_id: E, input: 1 });
        const key = unique();
        const headers = { 'X-Idempotency-Key': key };
        const a = await api.post(`/runs/${done.run_id}/rerun`, undefined, { headers });
        const b = await api.post(`/runs/${done.run_id}/rerun`, undefined, { headers });
        assert.deepEqual([a.status, b.status], [201, 200]);
        assert.equal(a.json.run_id, b.json.run_id);
        assert.equal(b.json.reused, true);
        assert.notEqual(a.json.run_id, done.run_id);
        const index = await api.ok(api.get(`/runs/${done.run_id}/checkpoints/index`), 200);
        const replay = () => api.post(`/runs/${done.run_id}/checkpoints/${index.items[0].checkpoint_id}/replay`, {}, { headers });
        const c = await replay();
        const d = await replay();
        assert.deepEqual([c.status, d.status], [201, 200]);
        assert.equal(c.json.run_id, d.json.run_id);
        const waiting = await api.waiting((await api.create({ agent_id: H })).run_id);
        const e = await api.resume(waiting.run_id, { input: 1 }, { headers });
        const f = await api.resume(waiting.run_id, { input: 1 }, { headers });
        assert.deepEqual([e.status, f.status], [200, 200], f.text);
        assert.equal(f.json.reused, true);
        assert.equal(f.json.status, 'resumed');
        for (const [path, body, id] of [['/agents', { name: unique('agent') }, 'agent_id'], ['/threads', { metadata: { a: 1 } }, 'thread_id']]) {
            const one = await api.post(path, body, { headers });
            const two = await api.post(path, body, { headers });
            assert.deepEqual([one.status, two.status], [201, 200], two.text);
            assert.equal(one.json[id], two.json[id]);
            assert.equal(two.json.reused, true);
        }
    });

    test('2.7 a key belongs to its workspace', async ({ api, E, base }) => {
        const key = unique();
        const here = await api.create({ agent_id: E, input: 1, idempotency_key: key });
        const workspace = await api.ok(api.post('/workspaces', { name: unique('ws') }), 201);
        const token = await api.ok(api.post('/api-tokens', { name: unique('t'), scopes: ['*'], workspace_id: workspace.workspace_id }), 201);
        const there = api.as(token.token);
        const agent = await makeAgent(there, fixtureDefinition('echo'));
        const made = await there.create({ agent_id: agent, input: 1, idempotency_key: key });
        assert.notEqual(made.run_id, here.run_id, base);
    });

    test('C15 a draft can be pinned', async ({ api, E }) => {
        const draft = await makeDraft(api, E, graph([node('only', 'core.value', { value: 'from the draft' })]));
        const made = await api.create({ agent_id: E, bundle_id: draft.bundle_id });
        const run = checkRun(await api.until(made.run_id));
        assert.equal(run.bundle_id, draft.bundle_id);
        assert.ok(!('agent_version_id' in run));
        assert.equal(run.output, 'from the draft');
        const live = await api.createAndFinish({ agent_id: E, input: 1 });
        assert.notEqual(live.bundle_id, draft.bundle_id);
    });

    test('C16 the bundle of another agent; an unknown bundle', async ({ api, E, F }) => {
        const draft = await makeDraft(api, F, fixtureDefinition('echo'));
        problem(await api.post('/runs', { agent_id: E, bundle_id: draft.bundle_id }), 'bundle_agent_mismatch');
        problem(await api.post('/runs', { agent_id: E, bundle_id: UNKNOWN_ID }), 'bundle_not_found');
        problem(await api.post('/runs', { agent_id: E, bundle_id: 'nope' }), 'bundle_not_found');
    });

    test('C17 no live bundle; an archived agent', async ({ api }) => {
        const agent = await makeAgent(api);
        problem(await api.post('/runs', { agent_id: agent }), 'agent_has_no_live_bundle');
        await makeDraft(api, agent, fixtureDefinition('echo'));
        problem(await api.post('/runs', { agent_id: agent }), 'agent_has_no_live_bundle');
        const other = await echoAgent(api);
        const before = await api.createAndFinish({ agent_id: other });
        assert.equal((await api.del(`/agents/${other}`)).status, 204);
        problem(await api.post('/runs', { agent_id: other }), 'agent_archived');
        problem(await api.post('/runs/wait', { agent_id: other }), 'agent_archived');
        problem(await api.post('/runs/batch', { agent_id: other, inputs: [{ input: 1 }] }), 'agent_archived');
        assert.equal((await api.run(before.run_id)).status, 'completed', 'runs stay');
    });

    test('C18 input absent, null, a number beyond a double', async ({ api, E }) => {
        const absent = await api.createAndFinish({ agent_id: E });
        assert.ok(!('input' in absent));
        const nothing = await api.createAndFinish({ agent_id: E, input: null });
        assert.ok('input' in nothing && nothing.input === null);
        assert.deepEqual(nothing.output, { echo: null });
        const big = await api.req('POST', '/runs', { raw: `{"agent_id":"${E}","input":12345678901234567890}` });
        await api.until(big.json.run_id);
        const text = (await api.get(`/runs/${big.json.run_id}`)).text;
        assert.match(text, /"input":\s*12345678901234567890[,}]/);
        assert.match(text, /"echo":\s*12345678901234567890\s*}/);
    });

    test('2.1 number texts and member order survive create, get, list, events and output', async ({ api, E }) => {
        const input = '{"z":1.0,"a":[1e2,-0,0.10,1E+2,123456789012345678901234567890.5,-1.5e-7],"é":"\\u00e9","m":{"b":1,"a":2}}';
        const made = await api.req('POST', '/runs', { raw: `{"agent_id":"${E}","input":${input}}` });
        assert.equal(made.status, 201, made.text);
        const run = await api.until(made.json.run_id);
        const numbers = '[1e2,-0,0.10,1E+2,123456789012345678901234567890.5,-1.5e-7]';
        const squeeze = (text) => text.replace(/\s+/g, '');
        const got = squeeze((await api.get(`/runs/${run.run_id}`)).text);
        assert.equal(got.split(numbers).length - 1, 2, `input and output keep number texts: ${got}`);
        assert.equal(got.split('{"z":1.0,"a":').length - 1, 2, 'member order');
        assert.ok(squeeze((await api.get('/runs', { agent_id: E, limit: 500 })).text).includes(numbers), 'list');
        assert.ok(squeeze((await api.events(run.run_id, run.current_attempt_id)).text).includes(numbers), 'events');
        assert.deepEqual(run.input, JSON.parse(input));
        assert.deepEqual(Object.keys(run.input), Object.keys(JSON.parse(input)));
    });

    test('4.6 the bundle is pinned at creation: a pause goes on in the old code after a republish', async ({ api }) => {
        const human = (word) => graph([node('gate', 'core.human', { prompt: 'Go?' }, 'end'), node('end', 'core.value', { value: word })]);
        const agent = await makeAgent(api, human('old'));
        const run = await api.waiting((await api.create({ agent_id: agent })).run_id);
        const { thread_id } = run;
        const behind = await api.create({ agent_id: agent, thread: { thread_id } });
        assert.equal(behind.status, 'pending');
        const next = await makeDraft(api, agent, human('new'));
        await publish(api, agent, next.bundle_id);
        await api.ok(api.resume(run.run_id, { input: 1 }), 200);
        const done = await api.until(run.run_id);
        assert.equal(done.output, 'old');
        assert.equal(done.bundle_id, run.bundle_id);
        const second = await api.waiting(behind.run_id);
        assert.equal(second.bundle_id, run.bundle_id, 'pinned when it was created, not when it started');
        await api.ok(api.resume(behind.run_id, { input: 1 }), 200);
        assert.equal((await api.until(behind.run_id)).output, 'old');
        const fresh = await api.waiting((await api.create({ agent_id: agent })).run_id);
        assert.equal(fresh.bundle_id, next.bundle_id);
        await api.cancel(fresh.run_id);
    });

    test('5.1 a short run has a well formed ledger', async ({ api, E, F }) => {
        for (const agent of [E, F]) {
            const run = checkRun(await api.createAndFinish({ agent_id: agent, input: { x: [1, null, 'ä'] } }));
            const events = await api.ledger(run.run_id);
            checkLedger(events, { attemptId: run.current_attempt_id });
            assert.equal(run.latest_seq, events.length);
        }
    });
});
