// SPDX-License-Identifier: Apache-2.0
// Crons (contract 9): what a cron says, its life, and runs that begin by the clock. Which minutes are due is tests/unit/test_schedule.c,
// what was missed tests/sim/test_cron.c; here one real minute passes.
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { UNKNOWN_ID, UUID, TIME, checkList, invalid, problem } from './lib/expect.mjs';
import { sleep, unique } from './lib/client.mjs';
import { fixtureDefinition, makeAgent } from './lib/fixtures.mjs';

const MEMBERS = ['cron_id', 'agent_id', 'schedule', 'timezone', 'thread', 'bundle_id', 'enabled', 'end_time', 'next_run_at', 'last_run_at', 'last_run_id', 'last_error',
    'revision', 'created_at', 'updated_at'];
const checkCron = (cron) => {
    assert.deepEqual(Object.keys(cron).filter((name) => name !== 'input').sort(), [...MEMBERS].sort());
    assert.match(cron.cron_id, UUID);
    for (const name of ['next_run_at', 'last_run_at', 'end_time']) if (cron[name] !== null) assert.match(cron[name], TIME);
    return cron;
};
const make = async (api, body) => checkCron(await api.ok(api.post('/crons', body), 201));
const runsOf = async (api, agent) => (await api.ok(api.get('/runs', { agent_id: agent }), 200)).items;

suite('V crons', {}, (test) => {
    test('9 create, get, list, change, delete', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const made = await make(api, { agent_id: agent, schedule: '30 9 1 1 *', timezone: 'Europe/Berlin', input: { n: 1.50 } });
        assert.deepEqual([made.enabled, made.end_time, made.thread, made.bundle_id, made.last_run_at, made.last_error, made.revision], [true, null, null, null, null, null, 1]);
        assert.match(made.next_run_at, /^\d{4}-01-01T08:30:00\.000Z$/, 'half past nine in Berlin, in winter');
        assert.ok(Date.parse(made.next_run_at) > Date.now());
        assert.deepEqual(await api.ok(api.get(`/crons/${made.cron_id}`), 200), made);
        const list = await api.get('/crons', { agent_id: agent });
        checkList(list);
        assert.deepEqual(list.json.items, [made]);
        const changed = await api.ok(api.patch(`/crons/${made.cron_id}`, { schedule: '0 12 * * *', timezone: null, input: { m: 2 } }), 200);
        checkCron(changed);
        assert.deepEqual([changed.timezone, changed.revision, changed.input, changed.next_run_at.slice(11)], ['UTC', 2, { n: 1.5, m: 2 }, '12:00:00.000Z']);
        problem(await api.patch(`/crons/${made.cron_id}`, { enabled: false }, { headers: { 'If-Match': '"1"' } }), 'version_conflict');
        const off = await api.ok(api.patch(`/crons/${made.cron_id}`, { enabled: false }), 200);
        assert.deepEqual([off.enabled, off.next_run_at], [false, null]);
        assert.deepEqual(await api.ok(api.get(`/crons/${made.cron_id}`), 200), off);
        assert.equal((await api.del(`/crons/${made.cron_id}`)).status, 204);
        problem(await api.get(`/crons/${made.cron_id}`), 'cron_not_found');
        problem(await api.del(`/crons/${made.cron_id}`), 'cron_not_found');
        assert.equal((await api.get('/crons', { agent_id: agent })).json.total, 0);
        const audit = await api.ok(api.get('/audit', { resource_id: made.cron_id }), 200);
        assert.deepEqual(audit.items.map((row) => row.action), ['cron.delete', 'cron.update', 'cron.update', 'cron.create']);
    });

    test('9 what a cron cannot say', async ({ api, E }) => {
        const good = { agent_id: E, schedule: '* * * * *', enabled: false };
        invalid(await api.post('/crons', { ...good, schedule: '61 * * * *' }), '/schedule');
        invalid(await api.post('/crons', { ...good, schedule: undefined }), '/schedule');
        invalid(await api.post('/crons', { ...good, timezone: 'Mars/Olympus' }), '/timezone');
        invalid(await api.post('/crons', { ...good, timezone: '../../etc/passwd' }), '/timezone');
        invalid(await api.post('/crons', { ...good, enabled: 'yes' }), '/enabled');
        invalid(await api.post('/crons', { ...good, end_time: 'soon' }), '/end_time');
        invalid(await api.post('/crons', { ...good, agent_id: undefined }), '/agent_id');
        invalid(await api.post('/crons', { ...good, thread: { new_thread: true, thread_id: UNKNOWN_ID } }), '/thread');
        for (const id of [UNKNOWN_ID, 'nobody']) {
            problem(await api.post('/crons', { ...good, agent_id: id }), 'agent_not_found');
            problem(await api.post('/crons', { ...good, bundle_id: id }), 'bundle_not_found');
            problem(await api.post('/crons', { ...good, thread: { thread_id: id } }), 'thread_not_found');
            problem(await api.post(`/crons/${id}/trigger`), 'cron_not_found');
            problem(await api.patch(`/crons/${id}`, {}), 'cron_not_found');
        }
        const cron = await make(api, good);
        invalid(await api.patch(`/crons/${cron.cron_id}`, { schedule: null }), '/schedule');
        assert.deepEqual(await api.ok(api.get(`/crons/${cron.cron_id}`), 200), cron);
        const never = await make(api, { ...good, enabled: true, end_time: '2001-01-01' });
        assert.equal(never.next_run_at, null);
    });

    test('9 trigger begins a run now, once per key', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const cron = await make(api, { agent_id: agent, schedule: '0 0 1 1 *', input: { deep: [1] }, enabled: false });
        const first = await api.ok(api.post(`/crons/${cron.cron_id}/trigger`), 201);
        assert.deepEqual((await api.until(first.run_id)).output, { echo: { deep: [1] } });
        const headers = { 'Idempotency-Key': unique() };
        const one = await api.ok(api.post(`/crons/${cron.cron_id}/trigger`, {}, { headers }), 201);
        const two = await api.ok(api.post(`/crons/${cron.cron_id}/trigger`, {}, { headers }), 200);
        assert.deepEqual([two.run_id, two.reused], [one.run_id, true]);
        assert.equal((await runsOf(api, agent)).length, 2);
    });

    test('2.3 scope crons:*, and other workspaces see nothing', async ({ api, E }) => {
        const cron = await make(api, { agent_id: E, schedule: '0 0 1 1 *' });
        const run = await api.create({ agent_id: E });
        const { workspace_id } = await api.run(run.run_id);
        const token = async (workspace, ...scopes) => api.as((await api.ok(api.post('/api-tokens', { name: unique('t'), scopes, workspace_id: workspace }), 201)).token);
        const reader = await token(workspace_id, 'runs:read', 'runs:write');
        assert.equal(problem(await reader.get('/crons'), 'insufficient_scope').required_scope, 'crons:*');
        assert.equal((await (await token(workspace_id, 'crons:*')).get(`/crons/${cron.cron_id}`)).status, 200);
        const other = await api.ok(api.post('/workspaces', { name: unique('w') }), 201);
        const stranger = await token(other.workspace_id, 'crons:*');
        for (const answer of [stranger.get(`/crons/${cron.cron_id}`), stranger.del(`/crons/${cron.cron_id}`), stranger.post(`/crons/${cron.cron_id}/trigger`)]) {
            problem(await answer, 'cron_not_found');
        }
    });

    test('9 a due minute gives one run, and a disabled or ended cron none', { timeout: 120000 }, async ({ api }) => {
        const [due, off, over] = [await makeAgent(api, fixtureDefinition('echo')), await makeAgent(api, fixtureDefinition('echo')), await makeAgent(api, fixtureDefinition('echo'))];
        const cron = await make(api, { agent_id: due, schedule: '* * * * *', input: 'tick' });
        await make(api, { agent_id: off, schedule: '* * * * *', enabled: false });
        await make(api, { agent_id: over, schedule: '* * * * *', end_time: new Date().toISOString() });
        const minute = Date.parse(cron.next_run_at);
        assert.ok(minute % 60000 === 0 && minute - Date.now() <= 60000);
        await sleep(minute - Date.now() + 10);
        let runs;
        for (let i = 0; i < 100 && !(runs = await runsOf(api, due)).length; i++) await sleep(50);
        assert.equal(runs.length, 1);
        const run = await api.until(runs[0].run_id);
        assert.deepEqual([run.status, run.output, run.source], ['completed', { echo: 'tick' }, 'cron']);
        assert.ok(Date.parse(run.created_at) >= minute, 'not before its minute');
        const after = await api.ok(api.get(`/crons/${cron.cron_id}`), 200);
        assert.deepEqual([after.last_run_id, after.last_run_at, Date.parse(after.next_run_at)], [run.run_id, cron.next_run_at, minute + 60000]);
        await sleep(500);
        assert.equal((await runsOf(api, due)).length, 1);
        for (const agent of [off, over]) assert.deepEqual(await runsOf(api, agent), []);
        await api.del(`/crons/${cron.cron_id}`);
    });
});
