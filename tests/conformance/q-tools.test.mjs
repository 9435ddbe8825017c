// SPDX-License-Identifier: Apache-2.0
// Agents that call tools, over the API: what is sent, what a person is asked, and what a kill -9 in the middle leaves.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { Client, sleep } from './lib/client.mjs';
import { makeAgent } from './lib/fixtures.mjs';
import { startServer } from './lib/server.mjs';

let server;
let api;
const tool = { sends: [], held: false };

before(async () => {
    tool.server = http.createServer(async (req, res) => {
        for await (const part of req) void part;
        tool.sends.push({ name: req.url.slice(1), key: req.headers['idempotency-key'] });
        while (tool.held) await sleep(5);
        res.writeHead(200, { 'Content-Type': 'application/json' });
        res.end(JSON.stringify({ done: true }));
    });
    await new Promise((resolve) => { tool.server.listen(0, '127.0.0.1', resolve); });
    const http_ = (name, more = {}) => ({ kind: 'http', url: `http://127.0.0.1:${tool.server.address().port}/${name}`,
        description: name, input_schema: { type: 'object' }, ...more });
    server = await startServer({ config: { outbound: { allow: ['127.0.0.1'] }, tools: { pay: http_('pay'), look: http_('look', { repeat_safe: true }) } } });
    api = new Client(server.url, server.token);
});
after(async () => {
    await server.stop();
    server.removeData();
    tool.server.close();
});

const call = (name, args = {}) => ({ name, arguments: args });
const agent = (turns, tools) => ({ format: 1, agent: { system: 's', model: { provider: 'scripted', model: 'm', script: { turns } }, tools } });

async function begin(turns, tools) {
    tool.sends = [];
    return api.ok(api.post('/runs', { agent_id: await makeAgent(api, agent(turns, tools)), input: 'go' }), 201);
}

async function until(run, ...statuses) {
    for (let i = 0; i < 1000; i++, await sleep(10)) {
        const now = await api.run(run.run_id);
        if (statuses.includes(now.status)) return now;
    }
    throw new Error(`not ${statuses}: ${(await types(run)).join(' ')}`);
}

const events = async (run) => (await api.events(run.run_id, run.current_attempt_id, { afterSeq: 0, limit: 1000 })).json.events;
const types = async (run) => (await events(run)).map((e) => e.type).filter((t) => t !== 'MODEL_DELTA');

test('Q1 a kill between intents and receipts: the repeat-safe tool is sent again, of the other a person is asked', async () => {
    const run = await begin([{ tool_calls: [call('pay', { n: 1 }), call('look')] }, { text: 'done' }], ['pay', 'look']);
    tool.held = true;
    while (tool.sends.length < 2) await sleep(5);
    await server.restart({ how: 'kill9' });
    tool.held = false;
    const asked = await until(run, 'waiting_for_human');
    assert.equal(tool.sends.filter((s) => s.name === 'pay').length, 1);
    const looks = tool.sends.filter((s) => s.name === 'look').map((s) => s.key);
    assert.equal(looks.length, 2);
    assert.equal(looks[0], looks[1]);
    const approval = (await api.get(`/approvals/${asked.approval_id}`)).json;
    assert.match(approval.prompt, /pay/);
    const said = await api.post(`/approvals/${asked.approval_id}/approve`, { input: { result: { paid: 7 } } });
    assert.equal(said.status, 200);
    const now = await until(run, 'completed', 'failed');
    assert.equal(now.status, 'completed');
    assert.equal(tool.sends.length, 3);
    assert.deepEqual(await types(run), ['RUN_STARTED', 'NODE_STARTED', 'TOOL_CALL_STARTED', 'TOOL_CALL_FINISHED', 'MODEL_STARTED', 'MODEL_FINISHED',
        'TOOL_CALL_STARTED', 'TOOL_CALL_STARTED', 'RUN_RECOVERED', 'HUMAN_PROMPT', 'NODE_WAITING', 'TOOL_CALL_FINISHED', 'RUN_RESUMED',
        'TOOL_CALL_FINISHED', 'MODEL_STARTED', 'MODEL_FINISHED', 'NODE_FINISHED', 'CHECKPOINT_CREATED', 'CHECKPOINT_CREATED', 'RUN_FINISHED']);
    const prompt = (await events(run)).find((e) => e.type === 'HUMAN_PROMPT').payload;
    assert.equal(prompt.kind, 'receipt');
    assert.equal(prompt.details.idempotency_key, tool.sends.find((s) => s.name === 'pay').key);
});

test('Q2 a question is answered by resume, also after a restart; a blank answer is refused', async () => {
    const run = await begin([{ tool_calls: [call('user_ask', { question: 'Sure?' })] }, { text: 'done' }], ['user_ask']);
    const asked = await until(run, 'waiting_for_human');
    assert.equal(asked.human_prompt, 'Sure?');
    await server.restart({ how: 'kill9' });
    assert.equal((await api.post(`/runs/${run.run_id}/resume`, { input: ' ' })).status, 422);
    assert.equal((await api.post(`/runs/${run.run_id}/resume`, { input: 'yes' })).status, 200);
    await until(run, 'completed');
    const result = (await events(run)).find((e) => e.type === 'TOOL_CALL_FINISHED').payload.result;
    assert.deepEqual(result, { answer: 'yes', is_freeform: true });
});

test('Q3 a tool that needs approval is not sent before, and not when it is rejected', async () => {
    for (const reject of [false, true]) {
        const run = await begin([{ tool_calls: [call('pay')] }, { text: 'done' }], [{ name: 'pay', approval: true }]);
        const asked = await until(run, 'waiting_for_human');
        assert.equal(tool.sends.length, 0);
        await api.ok(api.post(`/approvals/${asked.approval_id}/${reject ? 'reject' : 'approve'}`, {}), 200);
        await until(run, 'completed');
        assert.equal(tool.sends.length, reject ? 0 : 1);
    }
});

test('Q4 a client\'s call: the run waits for tools, and says so', async () => {
    const definition = { format: 1, entry: 'a', nodes: [{ node: 'a', capability_ref: 'tool.call', capability_version: '1', execution_binding: 'tool',
        config: { tool: 'read', by: 'client', arguments: { path: 'x' }, wait_ms: 300 }, next: null }] };
    const run = await api.ok(api.post('/runs', { agent_id: await makeAgent(api, definition), input: null }), 201);
    let now = await api.run(run.run_id);
    for (let i = 0; i < 200 && !now.waiting_on && now.status !== 'failed'; i++, await sleep(5)) now = await api.run(run.run_id);
    assert.equal(now.status, 'running');
    assert.equal(now.waiting_on, 'tools');
    assert.equal((await api.get(`/approvals?run_id=${run.run_id}`)).json.items.length, 0);
    const waiting = (await events(run)).find((e) => e.type === 'NODE_WAITING').payload;
    assert.equal(waiting.reason, 'tool_results');
    assert.deepEqual(waiting.pending.map((p) => [p.tool, p.arguments, p.step]), [['read', { path: 'x' }, 0]]);
    assert.equal((await until(run, 'failed')).error.code, 'tool_wait_expired');
});
