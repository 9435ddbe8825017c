// SPDX-License-Identifier: Apache-2.0
// Group H: human pauses, resume, approvals (contract 4.2 T7-T13, 6.5, 9, 10.5).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { sleep, unique } from './lib/client.mjs';
import { UNKNOWN_ID, checkLedger, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { graph, makeAgent, node } from './lib/fixtures.mjs';
import { openStream } from './lib/sse.mjs';

const paused = async (api, agent, input) => api.waiting((await api.create({ agent_id: agent, input })).run_id);

suite('H resume', { args: ['--heartbeat-ms', '300'] }, (test) => {
    test('H1 resume answers the run as resumed and it goes on in the same attempt', async ({ api, H }) => {
        const run = checkRun(await paused(api, H));
        assert.equal(run.current_attempt_no, 1);
        const before = await api.ledger(run.run_id);
        checkLedger(before, { closed: false });
        assert.ok(before.length >= 3);
        const res = await api.resume(run.run_id, { input: { a: 1 } });
        assert.equal(res.status, 200, res.text);
        checkRun(res.json);
        assert.equal(res.json.status, 'resumed');
        assert.equal(res.json.current_attempt_id, run.current_attempt_id);
        assert.ok(res.json.latest_seq > run.latest_seq, 'latest_seq includes RUN_RESUMED');
        const done = checkRun(await api.until(run.run_id));
        assert.deepEqual(done.output, { answer: { a: 1 } });
        assert.equal(done.status, 'completed');
        const events = await api.ledger(run.run_id);
        checkLedger(events, { attemptId: run.current_attempt_id });
        assert.deepEqual(events.slice(0, before.length), before, 'what was there is unchanged');
        const resumed = events.find((e) => e.type === 'RUN_RESUMED');
        assert.deepEqual(resumed.payload.input, { a: 1 });
        assert.equal(resumed.seq, res.json.latest_seq);
    });

    test('H1b the pause: checkpoint, prompt, approval fit together', async ({ api, H }) => {
        const run = await paused(api, H);
        const events = await api.ledger(run.run_id);
        const prompt = events.find((e) => e.type === 'HUMAN_PROMPT');
        assert.equal(prompt.payload.prompt, run.human_prompt);
        assert.equal(prompt.payload.checkpoint_id, run.checkpoint_id);
        if ('approval_id' in run) assert.equal(prompt.payload.approval_id, run.approval_id);
        assert.equal(events.filter((e) => e.type === 'HUMAN_PROMPT').length, 1);
        const list = checkList(await api.get('/approvals', { run_id: run.run_id }));
        assert.equal(list.total, 1);
        const approval = list.items[0];
        assert.deepEqual({ ...approval, created_at: '' }, { approval_id: prompt.payload.approval_id, run_id: run.run_id, thread_id: run.thread_id,
            attempt_id: run.current_attempt_id, checkpoint_id: run.checkpoint_id, node: 'gate', status: 'pending', prompt: run.human_prompt, schema: null,
            kind: 'prompt', details: null, expires_at: null, decided_at: null, decided_by: null, decision: null, created_at: '' });
        await api.cancel(run.run_id);
    });

    test('H1c any JSON is an answer', async ({ api, H }) => {
        for (const input of [null, false, 0, '', [], 'yes', [1, { b: 2 }]]) {
            const run = await paused(api, H);
            await api.ok(api.resume(run.run_id, { input }), 200);
            assert.deepEqual((await api.until(run.run_id)).output, { answer: input });
        }
    });

    test('H2 of parallel resumes one wins', async ({ api, H }) => {
        const run = await paused(api, H);
        const all = await Promise.all(Array.from({ length: 8 }, (_, i) => api.resume(run.run_id, { input: i })));
        const won = all.findIndex((r) => r.status === 200);
        assert.equal(all.filter((r) => r.status === 200).length, 1);
        for (const r of all) if (r.status !== 200) problem(r, 'invalid_run_state');
        assert.deepEqual((await api.until(run.run_id)).output, { answer: won });
        assert.equal((await api.ledger(run.run_id)).filter((e) => e.type === 'RUN_RESUMED').length, 1);
    });

    test('H3 only a waiting run can be resumed', async ({ api, E, S, F }) => {
        const done = await api.createAndFinish({ agent_id: E });
        assert.equal(problem(await api.resume(done.run_id, { input: 1 }), 'invalid_run_state').current_status, 'completed');
        const failed = await api.createAndFinish({ agent_id: F });
        assert.equal(problem(await api.resume(failed.run_id, { input: 1 }), 'invalid_run_state').current_status, 'failed');
        const slow = await api.create({ agent_id: S });
        await api.until(slow.run_id, 'running');
        assert.equal(problem(await api.resume(slow.run_id, { input: 1 }), 'invalid_run_state').current_status, 'running');
        await api.cancel(slow.run_id);
        problem(await api.resume(UNKNOWN_ID, { input: 1 }), 'run_not_found');
    });

    test('H4 input is required', async ({ api, H }) => {
        const run = await paused(api, H);
        invalid(await api.resume(run.run_id, {}), '/input');
        invalid(await api.req('POST', `/runs/${run.run_id}/resume`, { raw: '[]' }));
        invalid(await api.resume(run.run_id, { input: 1, checkpoint_id: 5 }), '/checkpoint_id');
        const still = await api.run(run.run_id);
        assert.equal(still.status, 'waiting_for_human');
        assert.equal(still.latest_seq, run.latest_seq);
        await api.cancel(run.run_id);
    });

    test('H5 a follower attached before the pause sees everything', async ({ api, H }) => {
        const made = await api.create({ agent_id: H });
        const stream = await openStream(api, made.run_id, { attemptId: made.current_attempt_id, afterSeq: 0 });
        await stream.event((e) => e.type === 'HUMAN_PROMPT');
        await stream.until((s) => s.frames.filter((f) => f.event === 'heartbeat').length >= 2, 5000, 'heartbeats');
        await api.waiting(made.run_id);
        await api.ok(api.resume(made.run_id, { input: 'go' }), 200);
        await stream.end();
        const types = stream.events.map((f) => f.data.type);
        assert.ok(types.indexOf('HUMAN_PROMPT') < types.indexOf('RUN_RESUMED'));
        assert.equal(types.at(-1), 'RUN_FINISHED');
        checkLedger(stream.events.map((f) => f.data));
        assert.equal(stream.frames.at(-1).event, 'close');
    });

    test('H6 waiting runs can be listed', async ({ api, H }) => {
        const run = await paused(api, H);
        const list = checkList(await api.get('/runs', { status: 'waiting_for_human', limit: 500 }));
        assert.ok(list.items.some((r) => r.run_id === run.run_id && r.human_prompt === run.human_prompt));
        await api.cancel(run.run_id);
        const after = checkList(await api.get('/runs', { status: 'waiting_for_human', limit: 500 }));
        assert.ok(!after.items.some((r) => r.run_id === run.run_id));
    });

    test('6.5 checkpoint_id guards against a late duplicate', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('one', 'core.human', { prompt: 'First?' }, 'two'), node('two', 'core.human', { prompt: 'Second?' }, 'end'),
            node('end', 'core.value', { value: [{ $from: '/nodes/one/output' }, { $from: '/nodes/two/output' }] })]));
        const first = await paused(api, agent);
        assert.equal(first.human_prompt, 'First?');
        assert.equal((await api.resume(first.run_id, { input: 'x', checkpoint_id: UNKNOWN_ID })).status, 409);
        await api.ok(api.resume(first.run_id, { input: 'a', checkpoint_id: first.checkpoint_id }), 200);
        let second;
        do { second = await api.waiting(first.run_id); } while (second.human_prompt !== 'Second?');
        assert.equal((await api.resume(first.run_id, { input: 'late', checkpoint_id: first.checkpoint_id })).status, 409);
        await api.ok(api.resume(first.run_id, { input: 'b', checkpoint_id: second.checkpoint_id }), 200);
        assert.deepEqual((await api.until(first.run_id)).output, ['a', 'b']);
        checkLedger(await api.ledger(first.run_id));
    });

    test('6.5 with a key a repeat gets the first answer', async ({ api, H }) => {
        const run = await paused(api, H);
        const headers = { 'X-Idempotency-Key': unique() };
        const first = await api.resume(run.run_id, { input: 5 }, { headers });
        assert.equal(first.status, 200, first.text);
        await api.until(run.run_id);
        const again = await api.resume(run.run_id, { input: 5 }, { headers });
        assert.equal(again.status, 200, again.text);
        assert.deepEqual([again.json.status, again.json.reused, again.json.latest_seq], ['resumed', true, first.json.latest_seq]);
        problem(await api.resume(run.run_id, { input: 6 }, { headers }), 'idempotency_key_reused');
    });

    test('6.5 a schema is enforced', async ({ api }) => {
        const schema = { type: 'object', required: ['ok'], properties: { ok: { type: 'boolean' }, note: { type: 'string' } } };
        const agent = await makeAgent(api, graph([node('gate', 'core.human', { prompt: 'OK?', schema }, 'end'), node('end', 'core.value', { value: { $from: '/nodes/gate/output' } })]));
        const run = await paused(api, agent);
        const prompt = (await api.ledger(run.run_id)).find((e) => e.type === 'HUMAN_PROMPT');
        assert.deepEqual(prompt.payload.schema, schema);
        for (const input of [{}, { ok: 'yes' }, 5, { ok: true, note: 7 }]) {
            const body = invalid(await api.resume(run.run_id, { input }));
            assert.ok(body.errors.every((e) => e.pointer.startsWith('/input')), JSON.stringify(body.errors));
        }
        assert.equal((await api.run(run.run_id)).status, 'waiting_for_human');
        await api.ok(api.resume(run.run_id, { input: { ok: true } }), 200);
        assert.deepEqual((await api.until(run.run_id)).output, { ok: true });
    });

    test('9 approve and reject are resumes', async ({ api, H }) => {
        const approvalOf = async (run) => checkList(await api.get('/approvals', { run_id: run.run_id, status: 'pending' })).items[0].approval_id;
        const cases = [['approve', {}, { approved: true }, 'approved'], ['approve', { input: 'fine' }, 'fine', 'approved'],
            ['reject', { reason: 'no' }, { approved: false, reason: 'no' }, 'rejected']];
        for (const [verb, body, answer, status] of cases) {
            const run = await paused(api, H);
            const id = await approvalOf(run);
            const res = await api.post(`/approvals/${id}/${verb}`, body);
            assert.equal(res.status, 200, res.text);
            assert.deepEqual((await api.until(run.run_id)).output, { answer });
            const approval = await api.ok(api.get(`/approvals/${id}`), 200);
            assert.equal(approval.status, status);
            assert.ok(approval.decided_at);
            assert.equal((await api.post(`/approvals/${id}/approve`, {})).status, 409);
        }
        const run = await paused(api, H);
        const id = await approvalOf(run);
        await api.ok(api.resume(run.run_id, { input: 1 }), 200);
        assert.equal((await api.ok(api.get(`/approvals/${id}`), 200)).status, 'approved');
        problem(await api.get(`/approvals/${UNKNOWN_ID}`), 'approval_not_found');
        problem(await api.post(`/approvals/${UNKNOWN_ID}/approve`, {}), 'approval_not_found');
    });

    // The wait may be over before a loaded machine's client has seen it: what it was is read afterwards, from what is kept.
    test('T13 a prompt expires', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('gate', 'core.human', { prompt: 'Quick?' })], { human_timeout_ms: 300 }));
        const made = await api.create({ agent_id: agent, input: null });
        const over = checkRun(await api.until(made.run_id, new Set(['failed'])));
        assert.deepEqual([over.error.code, over.error.category], ['human_timeout', 'human']);
        const events = await api.ledger(made.run_id);
        checkLedger(events);
        assert.equal(events.at(-1).payload.final, true);
        const asked = events.find((e) => e.type === 'HUMAN_PROMPT');
        assert.ok(asked, 'somebody was asked');
        const waited = Date.parse(events.at(-1).timestamp) - Date.parse(asked.timestamp);
        assert.ok(waited >= 299, `over after ${waited} ms`);
        const approval = checkList(await api.get('/approvals', { run_id: made.run_id })).items[0];
        assert.equal(approval.status, 'expired');
        const allowed = Date.parse(approval.expires_at) - Date.parse(approval.created_at);
        assert.ok(allowed >= 299 && allowed <= 300, `${allowed} ms to answer`);
        problem(await api.resume(made.run_id, { input: 1 }), 'invalid_run_state');
    });

    test('4.3 waiting takes no worker: many pauses at once', async ({ api, H, E }) => {
        const made = await Promise.all(Array.from({ length: 100 }, (_, i) => api.create({ agent_id: H, input: i })));
        const waiting = await Promise.all(made.map((m) => api.waiting(m.run_id)));
        assert.equal((await api.createAndFinish({ agent_id: E })).status, 'completed');
        await sleep(50);
        await Promise.all(waiting.map((run, i) => api.ok(api.resume(run.run_id, { input: i }), 200)));
        const done = await Promise.all(waiting.map((run) => api.until(run.run_id)));
        assert.deepEqual(done.map((run) => run.output.answer), made.map((_, i) => i));
    });

    test('4.2 waited_ms counts the pause', async ({ api, H }) => {
        const run = await paused(api, H);
        await sleep(250);
        await api.ok(api.resume(run.run_id, { input: 1 }), 200);
        const done = await api.until(run.run_id);
        assert.ok(done.waited_ms >= 200 && done.waited_ms <= done.duration_ms, `waited_ms ${done.waited_ms} of ${done.duration_ms}`);
    });
});
