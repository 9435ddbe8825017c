// SPDX-License-Identifier: Apache-2.0
// Group Y, first part: approvals beyond the plain pause (contract 9; several prompts at once, races, rights).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { unique } from './lib/client.mjs';
import { UNKNOWN_ID, checkLedger, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { graph, makeAgent, node } from './lib/fixtures.mjs';

const pending = async (api, run) => checkList(await api.get('/approvals', { run_id: run.run_id, status: 'pending', order: 'asc' })).items;

// Two people are asked side by side while a third branch is still at work.
const fork = (work) => ({ ...graph([node('begin', 'core.value', { value: 1 }, ['left', 'right', 'busy']), node('left', 'core.human', { prompt: 'Left?' }, 'end'),
    node('right', 'core.human', { prompt: 'Right?' }, 'end'), work,
    node('end', 'core.value', { value: [{ $from: '/nodes/left/output' }, { $from: '/nodes/right/output' }] })]) });

async function until(check, what) {
    for (let i = 0; i < 200; i++) {
        const got = await check();
        if (got) return got;
        await new Promise((resolve) => { setTimeout(resolve, 10); });
    }
    throw new Error(`never: ${what}`);
}

suite('Y approvals', {}, (test) => {
    test('9 any open prompt can be decided, in any order', async ({ api }) => {
        const agent = await makeAgent(api, fork(node('busy', 'core.sleep', { ms: 1 }, 'end')));
        const run = await api.waiting((await api.create({ agent_id: agent })).run_id);
        await until(async () => (await pending(api, run)).length === 2, 'two prompts');
        const open = await pending(api, run);
        assert.deepEqual(open.map((a) => a.prompt).sort(), ['Left?', 'Right?']);
        const right = open.find((a) => a.node === 'right');
        const first = await api.ok(api.post(`/approvals/${right.approval_id}/approve`, { input: 'r' }), 200);
        assert.deepEqual([first.status, first.decision], ['approved', 'r']);
        assert.match(first.decided_by, /^token:/);
        const still = await api.waiting(run.run_id);
        assert.equal(still.human_prompt, 'Left?');
        await api.ok(api.post(`/approvals/${(await pending(api, run))[0].approval_id}/reject`, { reason: 'no' }), 200);
        const done = checkRun(await api.until(run.run_id));
        assert.deepEqual(done.output, [{ approved: false, reason: 'no' }, 'r']);
        checkLedger(await api.ledger(run.run_id));
    });

    test('9 a prompt can be decided while another branch still runs; resume cannot', async ({ api }) => {
        const agent = await makeAgent(api, fork(node('busy', 'core.sleep', { ms: 1500 }, 'end')));
        const made = await api.create({ agent_id: agent });
        await until(async () => (await pending(api, made)).length === 2, 'two prompts');
        const run = await api.run(made.run_id);
        assert.equal(run.status, 'running');
        problem(await api.resume(run.run_id, { input: 1 }), 'invalid_run_state');
        for (const approval of await pending(api, run)) await api.ok(api.post(`/approvals/${approval.approval_id}/approve`, {}), 200);
        assert.equal((await api.run(run.run_id)).status, 'running');
        assert.deepEqual((await api.until(run.run_id)).output, [{ approved: true }, { approved: true }]);
        checkLedger(await api.ledger(run.run_id));
    });

    test('9 of racing decisions one wins', async ({ api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const [{ approval_id: id }] = await pending(api, run);
        const all = await Promise.all(Array.from({ length: 12 }, (_, i) => (i % 3 === 0 ? api.post(`/approvals/${id}/approve`, { input: i })
            : i % 3 === 1 ? api.post(`/approvals/${id}/reject`, { reason: `${i}` }) : api.resume(run.run_id, { input: i }))));
        const won = all.findIndex((r) => r.status === 200);
        assert.equal(all.filter((r) => r.status === 200).length, 1);
        for (const r of all) if (r.status !== 200) problem(r, 'invalid_run_state');
        const done = await api.until(run.run_id);
        assert.deepEqual(done.output.answer, won % 3 === 1 ? { approved: false, reason: `${won}` } : won);
        assert.equal((await api.ok(api.get(`/approvals/${id}`))).status, won % 3 === 1 ? 'rejected' : 'approved');
        assert.equal((await api.ledger(run.run_id)).filter((e) => e.type === 'RUN_RESUMED').length, 1);
    });

    test('9 the words of an approval, its filters and their checks', async ({ api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const [approval] = await pending(api, run);
        assert.equal(checkList(await api.get('/approvals', { run_id: run.run_id, status: 'approved' })).total, 0);
        assert.equal(checkList(await api.get('/approvals', { run_id: UNKNOWN_ID })).total, 0);
        assert.equal(checkList(await api.get('/approvals', { run_id: 'nope' })).total, 0);
        invalid(await api.get('/approvals', { status: 'bogus' }), 'status', 'invalid_parameter');
        invalid(await api.post(`/approvals/${approval.approval_id}/reject`, { reason: 7 }), '/reason');
        problem(await api.post('/approvals/nope/reject', {}), 'approval_not_found');
        await api.ok(api.cancel(run.run_id), 200);
        const refused = problem(await api.post(`/approvals/${approval.approval_id}/approve`, {}), 'invalid_run_state');
        assert.equal(refused.current_status, 'cancelled');
        assert.equal((await api.ok(api.get(`/approvals/${approval.approval_id}`))).status, 'cancelled');
    });

    test('6.5 schemas: what is unknown is refused with the bundle, an approval must fit, a rejection always may', async ({ api }) => {
        const { agent_id: draft } = await api.ok(api.post('/agents', { name: unique('agent') }), 201);
        const ask = (schema) => graph([node('gate', 'core.human', { prompt: 'OK?', schema })]);
        const refused = invalid(await api.post(`/agents/${draft}/bundles`, { definition: ask({ type: 'object', properties: { a: { pattern: 'x' } } }) }));
        assert.ok(refused.errors.some((e) => e.pointer === '/definition/nodes/0/config/schema/properties/a/pattern' && e.code === 'unsupported_keyword'),
            JSON.stringify(refused.errors));
        invalid(await api.post(`/agents/${draft}/bundles`, { definition: ask({ type: 'text' }) }), '/definition/nodes/0/config/schema/type');
        const agent = await makeAgent(api, ask({ type: 'object', required: ['who'], properties: { who: { enum: ['me', 'you'] } } }));
        for (const verb of ['approve', 'reject']) {
            const run = await api.waiting((await api.create({ agent_id: agent })).run_id);
            const [{ approval_id: id, schema }] = await pending(api, run);
            assert.deepEqual(schema.required, ['who']);
            invalid(await api.post(`/approvals/${id}/approve`, {}), '/input/who');
            invalid(await api.post(`/approvals/${id}/approve`, { input: { who: 'them' } }), '/input/who');
            assert.equal((await api.ok(api.get(`/approvals/${id}`))).status, 'pending');
            await api.ok(api.post(`/approvals/${id}/${verb}`, verb === 'approve' ? { input: { who: 'me' } } : { reason: 'nobody' }), 200);
            await api.until(run.run_id);
        }
    });

    test('2.3 deciding needs approvals:decide, reading runs:read', async ({ api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const [approval] = await pending(api, run);
        const token = async (...scopes) => api.as((await api.ok(api.post('/api-tokens', { name: unique('t'), scopes, workspace_id: run.workspace_id }), 201)).token);
        const reader = await token('runs:read');
        const judge = await token('approvals:decide');
        assert.equal((await reader.get(`/approvals/${approval.approval_id}`)).status, 200);
        assert.equal(problem(await reader.post(`/approvals/${approval.approval_id}/approve`, {}), 'insufficient_scope').required_scope, 'approvals:decide');
        problem(await judge.get(`/approvals/${approval.approval_id}`), 'insufficient_scope');
        await api.ok(judge.post(`/approvals/${approval.approval_id}/approve`, {}), 200);
        assert.deepEqual((await api.until(run.run_id)).output, { answer: { approved: true } });
    });
});
