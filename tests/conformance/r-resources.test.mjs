// SPDX-License-Identifier: Apache-2.0
// Resources around runs: agents, bundles, publish, versions, threads, tokens, workspaces, checkpoints, health
// (contract 9).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { sleep, unique } from './lib/client.mjs';
import { TIME, UNKNOWN_ID, UUID, checkList, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, graph, makeAgent, makeDraft, node, publish } from './lib/fixtures.mjs';

const value = (v) => graph([node('v', 'core.value', { value: v })]);

suite('R agents', { fixtures: 'E' }, (test) => {
    test('agents: create, get, list, patch, archive', async ({ api }) => {
        const name = unique('order-desk');
        const made = await api.ok(api.post('/agents', { name, description: 'd', metadata: { team: 'x', n: 1 } }), 201);
        assert.match(made.agent_id, UUID);
        assert.deepEqual([made.name, made.description, made.status, made.metadata], [name, 'd', 'active', { team: 'x', n: 1 }]);
        assert.ok(Number.isInteger(made.revision));
        assert.match(made.created_at, TIME);
        for (const key of ['live_bundle_id', 'live_version_id', 'live_version_no']) assert.ok(made[key] === null || made[key] === undefined, key);
        assert.deepEqual(await api.ok(api.get(`/agents/${made.agent_id}`), 200), made);
        const found = checkList(await api.get('/agents', { name }));
        assert.deepEqual(found.items.map((a) => a.agent_id), [made.agent_id]);
        const patched = await api.ok(api.patch(`/agents/${made.agent_id}`, { description: 'e', metadata: { team: null, m: 2 } }), 200);
        assert.deepEqual([patched.description, patched.metadata, patched.name], ['e', { n: 1, m: 2 }, name]);
        assert.ok(patched.revision > made.revision && patched.updated_at >= made.updated_at);
        assert.equal((await api.del(`/agents/${made.agent_id}`)).status, 204);
        assert.equal((await api.ok(api.get(`/agents/${made.agent_id}`))).status, 'archived');
        assert.equal(checkList(await api.get('/agents', { name, archived: true })).total, 1);
        assert.equal(checkList(await api.get('/agents', { name, archived: false })).total, 0);
        invalid(await api.get('/agents', { archived: 'maybe' }), 'archived', 'invalid_parameter');
    });

    test('agents: what is refused', async ({ api }) => {
        invalid(await api.post('/agents', {}), '/name');
        for (const name of ['', 5, null, {}]) invalid(await api.post('/agents', { name }), '/name');
        invalid(await api.post('/agents', { name: unique('a'), metadata: 5 }), '/metadata');
        invalid(await api.post('/agents', { name: unique('a'), description: 5 }), '/description');
        for (const path of [`/agents/${UNKNOWN_ID}`, '/agents/nope', `/agents/${UNKNOWN_ID}/bundles`, `/agents/${UNKNOWN_ID}/versions`]) {
            problem(await api.get(path), 'agent_not_found');
        }
        problem(await api.patch(`/agents/${UNKNOWN_ID}`, {}), 'agent_not_found');
        problem(await api.del(`/agents/${UNKNOWN_ID}`), 'agent_not_found');
        problem(await api.post(`/agents/${UNKNOWN_ID}/bundles`, { definition: value(1) }), 'agent_not_found');
    });

    test('If-Match: the revision guards a patch and a publish', async ({ api }) => {
        const id = await makeAgent(api);
        const { revision } = await api.ok(api.get(`/agents/${id}`));
        const match = (n) => ({ headers: { 'If-Match': `"${n}"` } });
        const patched = await api.ok(api.patch(`/agents/${id}`, { description: 'one' }, match(revision)), 200);
        problem(await api.patch(`/agents/${id}`, { description: 'two' }, match(revision)), 'version_conflict');
        assert.equal((await api.ok(api.get(`/agents/${id}`))).description, 'one');
        const draft = await makeDraft(api, id, value(1));
        problem(await api.post(`/agents/${id}/bundles/${draft.bundle_id}/publish`, {}, match(revision + 1000)), 'version_conflict');
        problem(await api.post('/runs', { agent_id: id }), 'agent_has_no_live_bundle');
        assert.ok(patched.revision > revision);
        const now = (await api.ok(api.get(`/agents/${id}`))).revision;
        await api.ok(api.post(`/agents/${id}/bundles/${draft.bundle_id}/publish`, {}, match(now)), 200);
    });

    test('bundles: drafts can be changed, published ones cannot', async ({ api, E }) => {
        const id = await makeAgent(api);
        const draft = await makeDraft(api, id, value('first'));
        assert.match(draft.bundle_id, UUID);
        assert.equal(draft.agent_id, id);
        const got = await api.ok(api.get(`/agents/${id}/bundles/${draft.bundle_id}`), 200);
        assert.deepEqual(got.definition.nodes[0].config, { value: 'first' });
        const patched = await api.ok(api.patch(`/agents/${id}/bundles/${draft.bundle_id}`, { definition: value('second') }), 200);
        assert.deepEqual(patched.definition.nodes[0].config, { value: 'second' });
        invalid(await api.patch(`/agents/${id}/bundles/${draft.bundle_id}`, { definition: { nodes: [] } }));
        await publish(api, id, draft.bundle_id);
        assert.equal((await api.patch(`/agents/${id}/bundles/${draft.bundle_id}`, { definition: value('third') })).status, 409);
        assert.equal((await api.createAndFinish({ agent_id: id })).output, 'second');
        problem(await api.get(`/agents/${id}/bundles/${UNKNOWN_ID}`), 'bundle_not_found');
        problem(await api.get(`/agents/${E}/bundles/${draft.bundle_id}`), 'bundle_not_found');
        problem(await api.post(`/agents/${id}/bundles/${UNKNOWN_ID}/publish`, {}), 'bundle_not_found');
        assert.equal(checkList(await api.get(`/agents/${id}/bundles`)).total, 1);
    });

    test('publish: live at once; twice is the same version; versions count', async ({ api }) => {
        const id = await makeAgent(api);
        const one = await makeDraft(api, id, value('one'));
        const first = await publish(api, id, one.bundle_id, { notes: 'first' });
        assert.deepEqual([first.version_no, first.bundle_id], [1, one.bundle_id]);
        assert.match(first.agent_version_id, UUID);
        assert.match(first.published_at, TIME);
        const again = await publish(api, id, one.bundle_id);
        assert.deepEqual([again.agent_version_id, again.version_no, again.published_at], [first.agent_version_id, 1, first.published_at]);
        const agent = await api.ok(api.get(`/agents/${id}`));
        assert.deepEqual([agent.live_bundle_id, agent.live_version_id, agent.live_version_no], [one.bundle_id, first.agent_version_id, 1]);
        const two = await makeDraft(api, id, value('two'));
        assert.equal((await api.createAndFinish({ agent_id: id })).output, 'one', 'a draft changes nothing');
        const second = await publish(api, id, two.bundle_id);
        assert.equal(second.version_no, 2);
        const run = await api.createAndFinish({ agent_id: id });
        assert.deepEqual([run.output, run.agent_version_id, run.bundle_id], ['two', second.agent_version_id, two.bundle_id]);
        const versions = checkList(await api.get(`/agents/${id}/versions`));
        assert.deepEqual(versions.items.map((v) => v.version_no).sort(), [1, 2]);
    });

    test('activate rolls back', async ({ api }) => {
        const id = await makeAgent(api);
        const versions = [];
        for (const v of ['one', 'two']) versions.push(await publish(api, id, (await makeDraft(api, id, value(v))).bundle_id));
        assert.equal((await api.post(`/agents/${id}/versions/${versions[0].agent_version_id}/activate`, {})).status, 200);
        const run = await api.createAndFinish({ agent_id: id });
        assert.deepEqual([run.output, run.agent_version_id], ['one', versions[0].agent_version_id]);
        assert.equal((await api.ok(api.get(`/agents/${id}`))).live_version_no, 1);
        const other = await makeAgent(api, value(1));
        assert.equal((await api.post(`/agents/${other}/versions/${versions[0].agent_version_id}/activate`, {})).status, 404);
        assert.equal((await api.post(`/agents/${id}/versions/${UNKNOWN_ID}/activate`, {})).status, 404);
    });

    test('lists of agents page like all lists', async ({ api }) => {
        const ids = [];
        for (let i = 0; i < 3; i++) ids.push(await makeAgent(api));
        const page = checkList(await api.get('/agents', { limit: 2 }));
        assert.equal(page.items.length, 2);
        // Other cases make agents meanwhile: of ours, the newest comes first.
        const ours = (await api.ok(api.get('/agents', { limit: 500 }))).items.map((a) => a.agent_id).filter((id) => ids.includes(id));
        assert.deepEqual(ours, [...ids].reverse(), 'newest first');
        invalid(await api.get('/agents', { limit: 0 }), 'limit', 'invalid_parameter');
    });
});

suite('R threads', { fixtures: 'EHSF' }, (test) => {
    test('threads: create, get, list, patch', async ({ api }) => {
        const made = await api.ok(api.post('/threads', { metadata: { a: 1 }, values: { v: [1.0] } }), 201);
        assert.match(made.thread_id, UUID);
        assert.deepEqual([made.status, made.implicit, made.values, made.metadata, made.active_run_id, made.pending_runs, made.forked_from_thread_id],
            ['idle', false, { v: [1] }, { a: 1 }, null, 0, null]);
        assert.deepEqual(await api.ok(api.get(`/threads/${made.thread_id}`), 200), made);
        const patched = await api.ok(api.patch(`/threads/${made.thread_id}`, { metadata: { a: null, b: 2 } }), 200);
        assert.deepEqual(patched.metadata, { b: 2 });
        assert.ok(checkList(await api.get('/threads', { limit: 500 })).items.some((t) => t.thread_id === made.thread_id));
        problem(await api.get(`/threads/${UNKNOWN_ID}`), 'thread_not_found');
        problem(await api.patch(`/threads/${UNKNOWN_ID}`, {}), 'thread_not_found');
        problem(await api.del(`/threads/${UNKNOWN_ID}`), 'thread_not_found');
        invalid(await api.post('/threads', { metadata: 5 }), '/metadata');
        invalid(await api.post('/threads', { values: 5 }), '/values');
        const empty = await api.ok(api.post('/threads', {}), 201);
        assert.deepEqual([empty.values, empty.metadata], [{}, {}]);
    });

    test('thread status follows its runs', async ({ api, E, H, F, S }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const thread = () => api.ok(api.get(`/threads/${thread_id}`));
        const on = { thread: { thread_id } };
        const busy = await api.create({ agent_id: S, input: { ticks: 500, interval_ms: 20 }, ...on });
        assert.deepEqual([(await thread()).status, (await thread()).active_run_id], ['busy', busy.run_id]);
        await api.cancel(busy.run_id);
        const waiting = await api.waiting((await api.create({ agent_id: H, ...on })).run_id);
        assert.equal((await thread()).status, 'waiting_for_human');
        assert.ok(checkList(await api.get('/threads', { status: 'waiting_for_human', limit: 500 })).items.some((t) => t.thread_id === thread_id));
        await api.cancel(waiting.run_id);
        await api.createAndFinish({ agent_id: F, ...on });
        assert.equal((await thread()).status, 'error');
        await api.createAndFinish({ agent_id: E, ...on });
        const idle = await thread();
        assert.deepEqual([idle.status, idle.active_run_id], ['idle', null]);
        assert.equal(typeof idle.head_checkpoint_id, 'string');
        invalid(await api.get('/threads', { status: 'bogus' }), 'status', 'invalid_parameter');
    });

    test('DELETE of a busy thread: 409, or force', async ({ api, S, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const on = { thread: { thread_id } };
        const busy = await api.create({ agent_id: S, input: { ticks: 500, interval_ms: 20 }, ...on });
        const behind = await api.create({ agent_id: E, ...on });
        problem(await api.del(`/threads/${thread_id}`), 'thread_busy');
        assert.equal((await api.del(`/threads/${thread_id}?force=true`)).status, 204);
        for (const run of [busy, behind]) {
            const res = await api.get(`/runs/${run.run_id}`);
            if (res.status === 200) assert.equal(res.json.status, 'cancelled');
            else problem(res, 'run_not_found');
        }
        const late = await api.post('/runs', { agent_id: E, ...on });
        assert.ok([404, 409].includes(late.status), late.text);
        problem(late, late.status === 404 ? 'thread_not_found' : 'thread_deleted');
        const idle = await api.ok(api.post('/threads', {}), 201);
        assert.equal((await api.del(`/threads/${idle.thread_id}`)).status, 204);
        problem(await api.get(`/threads/${idle.thread_id}`), 'thread_not_found');
    });

    test('checkpoints of a thread, newest first', async ({ api, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const run = await api.createAndFinish({ agent_id: E, thread: { thread_id } });
        const index = await api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`), 200);
        assert.ok(index.count >= 1 && index.items.length === index.count);
        const history = await api.ok(api.get(`/threads/${thread_id}/history`), 200);
        assert.deepEqual(history.items.map((c) => c.checkpoint_id), index.items.map((c) => c.checkpoint_id).reverse());
        assert.equal((await api.ok(api.get(`/threads/${thread_id}/history`, { limit: 1 }))).items.length, 1);
        const one = await api.ok(api.get(`/checkpoints/${index.items[0].checkpoint_id}`), 200);
        assert.ok('state' in one && 'next' in one);
        problem(await api.get(`/checkpoints/${UNKNOWN_ID}`), 'checkpoint_not_found');
    });

    test('2.5 what is not there, by its name', async ({ api }) => {
        for (const id of [UNKNOWN_ID, 'nope']) {
            problem(await api.get(`/runs/failures/${id}`), 'failure_not_found');
            problem(await api.get(`/crons/${id}`), 'cron_not_found');
            problem(await api.get(`/checkpoints/${id}`), 'checkpoint_not_found');
            problem(await api.get(`/approvals/${id}`), 'approval_not_found');
            problem(await api.get(`/threads/${id}`), 'thread_not_found');
            problem(await api.del(`/api-tokens/${id}`), 'token_not_found');
            problem(await api.get(`/runs/${id}/checkpoints/index`), 'run_not_found');
            problem(await api.post(`/runs/${id}/rerun`, undefined), 'run_not_found');
        }
    });

    test('concurrent creates on one thread keep their order and never overlap', async ({ api, S }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const made = await Promise.all(Array.from({ length: 12 }, () => api.create({ agent_id: S, input: { ticks: 2, interval_ms: 5 }, thread: { thread_id } })));
        const runs = await Promise.all(made.map((m) => api.until(m.run_id)));
        const spans = runs.map((r) => [r.started_at, r.completed_at]).sort();
        for (let i = 1; i < spans.length; i++) assert.ok(spans[i][0] >= spans[i - 1][1], `${spans[i - 1]} overlaps ${spans[i]}`);
        assert.equal(runs.filter((r) => r.status === 'completed').length, 12);
    });
});

suite('R tokens, workspaces', { dev: false, args: ['--rate-limit', '0'], fixtures: 'ES' }, (test) => {
    test('tokens: shown once, listed without, revoked at once', async ({ api, E }) => {
        const workspace = (await api.run((await api.create({ agent_id: E })).run_id)).workspace_id;
        const name = unique('ci');
        const made = await api.ok(api.post('/api-tokens', { name, scopes: ['runs:read', 'runs:write'], workspace_id: workspace }), 201);
        assert.ok(made.token.length >= 20);
        const list = checkList(await api.get('/api-tokens', { limit: 500 }));
        const item = list.items.find((t) => t.name === name);
        assert.ok(item && !('token' in item));
        assert.ok(made.token.startsWith(item.prefix) && item.prefix.length < made.token.length);
        assert.ok(!JSON.stringify(list).includes(made.token));
        assert.deepEqual([...item.scopes].sort(), ['runs:read', 'runs:write']);
        const mine = api.as(made.token);
        assert.equal((await mine.post('/runs', { agent_id: E })).status, 201);
        const id = made.token_id;
        assert.equal((await api.del(`/api-tokens/${id}`)).status, 204);
        problem(await mine.get('/runs'), 'unauthenticated');
        problem(await mine.post('/runs', { agent_id: E }), 'unauthenticated');
        problem(await api.del(`/api-tokens/${UNKNOWN_ID}`), 'token_not_found');
    });

    test('tokens: what is refused', async ({ api }) => {
        invalid(await api.post('/api-tokens', { name: 'x' }), '/scopes');
        invalid(await api.post('/api-tokens', { scopes: ['*'] }), '/name');
        const bad = invalid(await api.post('/api-tokens', { name: 'x', scopes: ['runs:read', 'runs:everything'] }));
        assert.ok(bad.errors[0].pointer.startsWith('/scopes'));
        invalid(await api.post('/api-tokens', { name: 'x', scopes: [], expires_at: 'soon' }));
        invalid(await api.post('/api-tokens', { name: 'x', scopes: ['*'], expires_at: 'soon' }), '/expires_at');
    });

    test('a token may not give what it does not have', async ({ api, E }) => {
        const workspace = (await api.run((await api.create({ agent_id: E })).run_id)).workspace_id;
        const admin = api.as((await api.ok(api.post('/api-tokens', { name: unique('a'), scopes: ['tokens:admin', 'runs:read'], workspace_id: workspace }), 201)).token);
        const res = await admin.post('/api-tokens', { name: unique('b'), scopes: ['*'], workspace_id: workspace });
        assert.ok([403, 422].includes(res.status), `${res.status} ${res.text}`);
    });

    test('workspaces: create, get, patch, delete when empty; a tenant-wide token must choose', async ({ api, E }) => {
        const name = unique('ws');
        const made = await api.ok(api.post('/workspaces', { name }), 201);
        assert.match(made.workspace_id, UUID);
        assert.equal(made.name, name);
        assert.equal((await api.ok(api.get(`/workspaces/${made.workspace_id}`), 200)).name, name);
        const renamed = unique('ws');
        assert.equal((await api.ok(api.patch(`/workspaces/${made.workspace_id}`, { name: renamed }), 200)).name, renamed);
        invalid(await api.post('/workspaces', {}), '/name');
        const wide = api.as((await api.ok(api.post('/api-tokens', { name: unique('wide'), scopes: ['*'], workspace_id: null }), 201)).token);
        problem(await wide.get('/agents'), 'workspace_required');
        problem(await wide.post('/runs', { agent_id: E }), 'workspace_required');
        const inside = wide.as(wide.token, { 'X-Workspace-Id': made.workspace_id });
        const agent = await makeAgent(inside, fixtureDefinition('echo'));
        const run = await inside.createAndFinish({ agent_id: agent });
        assert.equal(run.workspace_id, made.workspace_id);
        assert.ok((await api.del(`/workspaces/${made.workspace_id}`)).status === 409, 'only when empty');
        const empty = await api.ok(api.post('/workspaces', { name: unique('ws') }), 201);
        assert.equal((await api.del(`/workspaces/${empty.workspace_id}`)).status, 204);
        assert.equal((await api.get(`/workspaces/${empty.workspace_id}`)).status, 404);
    });

    test('audit: who did what', async ({ api, S }) => {
        const run = await api.create({ agent_id: S });
        await api.ok(api.cancel(run.run_id, 'audited'), 200);
        await sleep(20);
        const list = checkList(await api.get('/audit', { resource_id: run.run_id, limit: 100 }));
        assert.ok(list.total >= 1, JSON.stringify(list));
        const cancel = list.items.find((a) => a.action === 'run.cancel');
        assert.ok(cancel, JSON.stringify(list.items.map((a) => a.action)));
        assert.equal(cancel.resource.id, run.run_id);
        assert.equal(typeof cancel.request_id, 'string');
    });
});
