// SPDX-License-Identifier: Apache-2.0
// What a kill -9 and a drain do to followers and to runs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withServer } from '../conformance/lib/server.mjs';
import { Flow, answer, asking, checkLog, llm, sleep, spec, suite, text, types } from './lib.mjs';

const words = (n) => Array.from({ length: n }, (_, i) => `w${i} `).join('');
const STREAMING = spec([llm('a', undefined, { stream: true, script: { text: words(60), interval_ms: 20 } }), llm('b', 'x', { depends_on: ['a'] })]);

for (const when of [3, 10, 30, 55]) {
    test(`kill -9 behind ${when} events: followers are reset and go on where they were`, { timeout: 60000 }, () => withServer({}, async (server) => {
        const flow = new Flow(server);
        const { run_id: id } = await flow.start(STREAMING);
        const log = await flow.follow(id);
        const sse = await flow.follow(id, {}, { accept: 'text/event-stream' });
        await log.until((l) => l.events.length >= when);
        await server.kill9();
        await Promise.all([log.end(), sse.end()]);
        assert.equal(log.how, 'reset');
        assert.equal(sse.how, 'reset');
        await server.start();
        const rest = await flow.follow(id, { after_seq: log.events.length });
        await rest.end(20000);
        assert.equal(rest.how, 'end');
        const all = [...log.events, ...rest.events];
        checkLog(all, { id });
        assert.deepEqual(all, await flow.list(id));
        const run = await flow.until(id);
        assert.equal(run.nodes[0].output.output[0].content[0].text, words(60));
        let told = '';
        for (const e of all.filter((x) => x.node_id === 'a' && x.delta)) told = e.delta.kind === 'message_start' ? '' : told + (e.delta.text_delta ?? '');
        assert.equal(told, words(60), 'what a client that begins anew at message_start has');
    }));
}

test('a drain ends followers of live runs with a reset, and of ended ones cleanly', { timeout: 30000 }, () => withServer({}, async (server) => {
    const flow = new Flow(server);
    const { run_id: id } = await flow.start(spec([asking('a', [{ name: 'look' }])]));
    const log = await flow.follow(id);
    const sse = await flow.follow(id, {}, { accept: 'text/event-stream' });
    await log.event('node_waiting');
    await server.stop();
    await Promise.all([log.end(), sse.end()]);
    assert.equal(log.how, 'reset');
    assert.equal(sse.how, 'reset');
    await server.start();
    const [pending] = await flow.pending(id);
    const again = await flow.follow(id);
    await flow.ok(flow.results(id, answer(pending, 'x')), 200);
    await again.end();
    assert.equal(again.how, 'end');
    checkLog(again.events, { id });
}));

test('a run that waits keeps its calls and its clock over a kill', { timeout: 30000 }, () => withServer({}, async (server) => {
    const flow = new Flow(server);
    const { plan_json: plan } = await flow.ok(flow.post('/workflows/compile', spec([asking('a', [{ name: 'look' }])])), 200);
    plan.nodes[0].input.tool_limits = { wait_ttl_ms: 2500 };
    const { run_id: id } = await flow.start(plan);
    await flow.until(id, 'waiting');
    const before = await flow.pending(id);
    const log = await flow.list(id, {}, true);
    await server.restart();
    assert.deepEqual(await flow.pending(id), before);
    assert.deepEqual(await flow.list(id, {}, true), log);
    const run = await flow.until(id, 'failed');
    assert.equal(run.nodes[0].error.code, 'TOOL_WAIT_EXPIRED');
    const last = (await flow.list(id)).at(-1);
    const waited = Date.parse(last.ts) - Date.parse(log.at(-1).ts);
    assert.ok(waited >= 2400 && waited < 6000, `${waited} ms`);
}));

test('a key of idempotency and the plan of a hash survive a kill', { timeout: 30000 }, () => withServer({}, async (server) => {
    const flow = new Flow(server);
    const body = { spec: spec([llm('a', 'x')]), options: { idempotency_key: 'once' } };
    const made = await flow.ok(flow.post('/runs', body), 200);
    const compiled = await flow.ok(flow.post('/workflows/compile', spec([llm('other', 'y')])), 200);
    await server.restart();
    assert.equal((await flow.ok(flow.post('/runs', body), 200)).run_id, made.run_id);
    await flow.until(made.run_id);
    const of_plan = await flow.ok(flow.post('/runs', { plan_hash: compiled.plan_hash }), 200);
    await flow.until(of_plan.run_id);
}));

test('nodes that were done are not run again', { timeout: 30000 }, () => withServer({}, async (server) => {
    const flow = new Flow(server);
    const chain = Array.from({ length: 8 }, (_, i) => llm(`n${i}`, `said ${i}`, { depends_on: i ? [`n${i - 1}`] : [], script: { text: `said ${i}`, interval_ms: 0, delay_ms: 60 } }));
    const { run_id: id } = await flow.start(spec(chain));
    for (let kills = 0; kills < 3; kills++) {
        await sleep(120);
        await server.restart();
    }
    await flow.until(id);
    const all = await flow.list(id);
    for (let i = 0; i < 8; i++) {
        assert.equal(all.filter((e) => e.type === 'node_output' && e.node_id === `n${i}`).length, 1);
        assert.equal(all.filter((e) => e.type === 'node_llm_call' && e.node_id === `n${i}`).length, 1);
    }
}));
