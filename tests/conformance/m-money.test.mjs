// SPDX-License-Identifier: Apache-2.0
// Money over the API: what runs and threads say of usage and cost, caps from the definition and from the configuration, and a
// cap that a person raises.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, sleep } from './lib/client.mjs';
import { graph, makeAgent, node } from './lib/fixtures.mjs';
import { startServer } from './lib/server.mjs';

let server;
let api;

before(async () => {
    server = await startServer({ config: { prices: { 'scripted/priced': { input: '1', output: '2' } },
        budgets: { run: { max_model_calls: 3 }, workspace_day: { max_tool_calls: 1000 } } } });
    api = new Client(server.url, server.token);
});
after(async () => { await server.stop(); server.removeData(); });

const say = (name, model, next = null) => node(name, 'model.chat', { provider: 'scripted', model, prompt: 'Hello',
    script: { text: 'one two', interval_ms: 0, usage: { input_tokens: 1000, output_tokens: 500 } } }, next);

async function end(run) {
    for (let i = 0; i < 500; i++, await sleep(10)) {
        const now = await api.run(run.run_id);
        if (['completed', 'failed', 'waiting_for_human'].includes(now.status)) return now;
    }
    throw new Error('the run does not end');
}

const begin = async (definition) => end(await api.ok(api.post('/runs', { agent_id: await makeAgent(api, definition) }), 201));
const events = async (run) => (await api.events(run.run_id, run.current_attempt_id, { afterSeq: 0, limit: 1000 })).json.events;

test('M1 a run, its thread, its call and its node tell what they cost', async () => {
    const run = await begin(graph([say('a', 'priced')]));
    assert.equal(run.status, 'completed');
    assert.deepEqual(run.usage, { input_tokens: 1000, output_tokens: 500, model_calls: 1, tool_calls: 0 });
    assert.equal(run.cost_usd, '0.002');
    assert.equal(run.cost_known, undefined);
    const all = await events(run);
    assert.equal(all.find((e) => e.type === 'MODEL_FINISHED').payload.cost_usd, '0.002');
    assert.equal(all.find((e) => e.type === 'NODE_FINISHED').payload.cost_usd, '0.002');
    const thread = (await api.get(`/threads/${run.thread_id}`)).json;
    assert.equal(thread.cost_usd, '0.002');
});

test('M2 what has no price is unknown, never 0', async () => {
    const run = await begin(graph([say('a', 'unheard-of')]));
    assert.equal(run.cost_known, false);
    assert.equal(run.cost_usd, undefined);
    const both = await begin(graph([say('a', 'unheard-of', 'b'), say('b', 'priced')]));
    assert.equal(both.cost_known, false);
    assert.equal(both.cost_usd, '0.002');
});

test('M3 caps of the configuration hold for runs that have none of their own', async () => {
    const run = await begin(graph([say('a', 'priced', 'b'), say('b', 'priced', 'c'), say('c', 'priced', 'd'), say('d', 'priced')]));
    assert.equal(run.status, 'failed');
    assert.equal(run.error.code, 'budget_exceeded');
    assert.equal(run.error.category, 'budget');
    const reached = (await events(run)).find((e) => e.type === 'BUDGET_REACHED');
    assert.deepEqual(reached.payload, { node: 'd', cap: 'model_calls', scope: 'run', limit: 3, used: 3, action: 'fail' });
});

test('M4 a person raises the cap', async () => {
    const run = await begin({ ...graph([say('a', 'priced', 'b'), say('b', 'priced')]), budget: { max_model_calls: 1, on_breach: 'ask' } });
    assert.equal(run.status, 'waiting_for_human');
    const approval = (await api.get(`/approvals/${run.approval_id}`)).json;
    assert.equal(approval.status, 'pending');
    const refused = await api.post(`/approvals/${run.approval_id}/approve`, { input: { raise: 0 } });
    assert.equal(refused.status, 422);
    const said = await api.post(`/approvals/${run.approval_id}/approve`, { input: { raise: 1 } });
    assert.equal(said.status, 200);
    let now = await end(run);
    for (let i = 0; i < 200 && now.status !== 'completed'; i++, await sleep(10)) now = await end(run);
    assert.equal(now.usage.model_calls, 2);
});
