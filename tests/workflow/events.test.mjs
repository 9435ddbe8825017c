// SPDX-License-Identifier: Apache-2.0
// GET /runs/{id}/events: lines, numbers, order, where one may begin, how it ends.
import assert from 'node:assert/strict';
import { asking, checkLog, llm, says, slow, sleep, spec, suite, types } from './lib.mjs';

const STREAMED = spec([llm('a', 'Grüße, 🙂 one two', { stream: true }), { id: 'j', type: 'join.all', depends_on: ['a'] },
    { id: 't', type: 'transform.json', object: { text: { from: 'a', pointer: '/output/0/content/0/text' } } }]);

suite('workflow events', {}, (test) => {
    test('every line is of the schema, the numbers are dense, the order is that of the contract', async ({ flow }) => {
        const run = await flow.finish(STREAMED);
        const events = await flow.list(run.run_id);
        checkLog(events, { id: run.run_id });
        const of = (id) => types(events.filter((e) => e.node_id === id));
        assert.deepEqual(of('a').filter((t) => t !== 'node_output_delta'), ['node_started', 'node_llm_call', 'node_output', 'node_succeeded']);
        assert.deepEqual(of('j'), ['node_started', 'node_output', 'node_succeeded']);
        assert.deepEqual(of('t'), ['node_started', 'node_output', 'node_succeeded']);
        const deltas = events.filter((e) => e.type === 'node_output_delta').map((e) => e.delta);
        assert.equal(deltas[0].kind, 'message_start');
        assert.equal(deltas.at(-1).kind, 'message_stop');
        assert.equal(deltas.map((d) => d.text_delta ?? '').join(''), 'Grüße, 🙂 one two');
        const call = events.find((e) => e.type === 'node_llm_call').llm_call;
        assert.equal(call.step, 0);
        assert.equal(call.response_id, deltas[0].response_id);
        assert.equal(run.outputs.result.text, 'Grüße, 🙂 one two');
    });

    test('artifacts say size and hash of the canonical JSON', async ({ flow }) => {
        const { createHash } = await import('node:crypto');
        const run = await flow.finish(spec([{ id: 't', type: 'transform.json', object: { b: { from: 'a' }, a: { from: 'a', pointer: '/id' } } }, llm('a', 'é')].reverse()));
        const event = (await flow.list(run.run_id)).at(-1);
        const sorted = (v) => (Array.isArray(v) ? v.map(sorted) : v && typeof v === 'object'
            ? Object.fromEntries(Object.keys(v).sort().map((k) => [k, sorted(v[k])])) : v);
        const bytes = Buffer.from(JSON.stringify(sorted(run.outputs)));
        assert.deepEqual(event.outputs, { artifact_key: 'run_outputs.v0', info: { bytes: bytes.length,
            sha256: createHash('sha256').update(bytes).digest('hex'), included: false } });
    });

    test('every position is a place to begin, and everybody gets the same bytes', async ({ flow }) => {
        const run = await flow.finish(STREAMED);
        const whole = await (await flow.follow(run.run_id)).end();
        const lines = whole.text.split('\n');
        const count = whole.events.length;
        for (let after = 0; after <= count + 1; after++) {
            for (const wait of [0, 1]) {
                const part = await (await flow.follow(run.run_id, { after_seq: after, wait })).end();
                assert.equal(part.how, 'end');
                assert.equal(part.text, lines.slice(after).join('\n'), `after ${after}, wait ${wait}`);
            }
        }
        assert.equal(whole.headers['content-type'].startsWith('application/x-ndjson'), true);
    });

    test('a follower of a live run begins anywhere too, also in the middle of a record', async ({ flow }) => {
        const { run_id: id } = await flow.start(spec([asking('a', [{ name: 'look' }], { stream: true, script: undefined }),
            llm('b', 'x', { depends_on: ['a'] })].map((n) => ({ ...n, script: n.script ?? { turns: [{ text: 'hm ', tool_calls: [{ name: 'look' }], interval_ms: 0 }, { text: 'so', interval_ms: 0 }] },
            ...(n.id === 'a' ? { stream: undefined } : {}) }))));
        await flow.until(id, 'waiting');
        const stored = await flow.list(id, {}, true);
        const logs = await Promise.all(Array.from({ length: stored.length + 1 }, (_, after) => flow.follow(id, { after_seq: after })));
        await sleep(50);
        logs.forEach((log, after) => assert.equal(log.events.length, stored.length - after));
        const [pending] = await flow.pending(id);
        await flow.ok(flow.results(id, { ...pending, tool_calls: undefined, results: [{ tool_call: pending.tool_calls[0].tool_call, output: 'seen' }] }), 200);
        await Promise.all(logs.map((log) => log.end()));
        const lines = logs[0].text.split('\n');
        logs.forEach((log, after) => assert.equal(log.text, lines.slice(after).join('\n')));
        checkLog(logs[0].events, { id });
    });

    test('headers come at once, before there is anything to say', async ({ flow }) => {
        const run = await flow.start(spec([slow()]));
        const began = Date.now();
        const log = await flow.follow(run.run_id, { after_seq: 100000 });
        assert.equal(log.status, 200);
        assert.ok(Date.now() - began < 1000);
        assert.ok(log.headers['x-modelrelay-request-id']);
        log.close();
        await flow.post(`/runs/${run.run_id}/cancel`);
    });

    test('limit: stored and live, closed behind that many', async ({ flow }) => {
        const { run_id: id } = await flow.start(spec([slow('s', { stream: true })]));
        const stored = await (await flow.follow(id, { limit: 2 })).end();
        assert.deepEqual(types(stored.events), ['run_compiled', 'run_started']);
        const live = await (await flow.follow(id, { limit: 25 })).end();
        assert.equal(live.how, 'end');
        assert.equal(live.events.length, 25);
        checkLog(live.events, { open: true, id });
        const later = await (await flow.follow(id, { after_seq: 20, limit: 10 })).end();
        checkLog(later.events, { after: 20, open: true });
        assert.equal(later.events.length, 10);
        const listed = await (await flow.follow(id, { after_seq: 3, limit: 4, wait: 0 })).end();
        assert.deepEqual(listed.events.map((e) => e.seq), [4, 5, 6, 7]);
        await flow.post(`/runs/${id}/cancel`);
        const all = await flow.list(id);
        const beyond = await (await flow.follow(id, { limit: 10000, wait: 1 })).end();
        assert.equal(beyond.events.length, all.length);
    });

    test('a run that has ended and a number behind its last: 200 and nothing', async ({ flow }) => {
        const run = await flow.finish(spec([llm('a', 'x')]));
        const count = (await flow.list(run.run_id)).length;
        for (const after of [count, count + 5]) {
            const log = await (await flow.follow(run.run_id, { after_seq: after })).end();
            assert.equal(log.status, 200);
            assert.equal(log.text, '');
            assert.ok(log.headers['content-type'].startsWith('application/x-ndjson'));
        }
    });

    test('bad parameters are refused before anything is streamed; an unknown run is not found', async ({ flow }) => {
        const run = await flow.finish(spec([llm('a', 'x')]));
        for (const query of [{ after_seq: -1 }, { after_seq: 'x' }, { limit: 0 }, { limit: 10001 }, { limit: 'all' }, { wait: 'maybe' }, { include_output: 2 }, { subnodes: 'x' }]) {
            const res = await flow.get(`/runs/${run.run_id}/events`, query);
            assert.equal(res.status, 400, JSON.stringify(query));
            assert.equal(res.json.code, 'INVALID_INPUT');
        }
        for (const id of ['nothing', '00000000-0000-4000-8000-000000000000']) assert.equal((await flow.get(`/runs/${id}/events`)).status, 404);
    });

    test('server-sent events: the same events by name and number', async ({ flow }) => {
        const run = await flow.finish(STREAMED);
        const events = await flow.list(run.run_id);
        for (const after of [0, 4]) {
            const log = await (await flow.follow(run.run_id, { after_seq: after }, { accept: 'text/event-stream' })).end();
            const blocks = log.text.split('\n\n').filter((b) => b && !b.startsWith(':'));
            assert.equal(log.headers['content-type'].startsWith('text/event-stream'), true);
            assert.deepEqual(blocks.map((b) => /^event: (\S+)\nid: (\d+)\ndata: (.*)$/.exec(b).slice(1, 3)), events.slice(after).map((e) => [e.type, String(e.seq)]));
            assert.deepEqual(blocks.map((b) => JSON.parse(b.split('\ndata: ')[1])), events.slice(after));
        }
    });

    test('include_output puts the payload of small artifacts in', async ({ flow }) => {
        const run = await flow.finish(spec([llm('a', 'x'), { id: 't', type: 'transform.json', object: { t: { from: 'a', pointer: '/output/0/content/0/text' } } }]));
        const res = await flow.get(`/runs/${run.run_id}/events`, { include_output: 'true' });
        const events = res.text.trim().split('\n').map((l) => JSON.parse(l));
        const last = events.at(-1);
        assert.equal(last.outputs.info.included, true);
        assert.deepEqual(last.outputs.content, run.outputs);
        const node = events.find((e) => e.type === 'node_output' && e.node_id === 't');
        assert.deepEqual(node.output.content, { t: 'x' });
    });

    test('a waiting run keeps its stream open, and a quiet one sends blank lines', { timeout: 40000 }, async ({ flow }) => {
        const { run_id: id } = await flow.start(spec([asking('a', [{ name: 'look' }])]));
        const log = await flow.follow(id);
        await log.event('node_waiting');
        await log.until((l) => l.blank >= 1, 20000, 'a blank line');
        assert.equal(log.how, null);
        const sse = await flow.follow(id, {}, { accept: 'text/event-stream' });
        assert.equal((await flow.post(`/runs/${id}/cancel`)).status, 200);
        await log.end();
        assert.equal(log.how, 'end');
        checkLog(log.events, { id });
        await sse.end();
    });

    test('an event reaches its followers at once', async ({ flow }) => {
        const { run_id: id } = await flow.start(spec([asking('a', [{ name: 'look' }])]));
        const log = await flow.follow(id);
        await log.event('node_waiting');
        const began = Date.now();
        void flow.post(`/runs/${id}/cancel`);
        await log.event('run_canceled');
        assert.ok(Date.now() - began < 500, `${Date.now() - began} ms`);
        await log.end();
    });

    test('a failed run ends with run_failed and its node with node_failed', async ({ flow }) => {
        const made = await flow.start(spec([llm('a', 'x', says('', { error: { code: 'broken', message: 'it broke', retryable: false } })), llm('b', 'y', { depends_on: ['a'] })]));
        const run = await flow.until(made.run_id, 'failed');
        const events = await flow.list(made.run_id);
        assert.equal(events.at(-1).type, 'run_failed');
        assert.equal(events.at(-1).error.code, 'NODE_FAILED');
        assert.match(events.at(-1).error.message, /it broke/);
        assert.ok(events.find((e) => e.type === 'node_failed' && e.node_id === 'a').error.message);
        assert.deepEqual(run.nodes.map((n) => n.status), ['failed', 'canceled']);
    });

    test('a fan-out attributes its calls to its node, steps counted over the whole', async ({ flow }) => {
        const fan = { id: 'fan', type: 'map.fanout', items_from_input: 'items', subnode: llm('sub', 'ok', { user: '{{item}}', stream: true }) };
        const run = await flow.finish(spec([fan]), { input: { items: ['a', 'b', 'c'] } });
        const events = await flow.list(run.run_id);
        const calls = events.filter((e) => e.type === 'node_llm_call');
        assert.deepEqual(calls.map((e) => e.node_id), ['fan', 'fan', 'fan']);
        assert.deepEqual(calls.map((e) => e.llm_call.step), [0, 1, 2]);
        assert.equal(new Set(calls.map((e) => e.llm_call.request_id)).size, 3);
        assert.equal(run.outputs.result.results.length, 3);
        const more = await (await flow.follow(run.run_id, { subnodes: 1 }, { accept: 'text/event-stream' })).end();
        for (const i of [0, 1, 2]) assert.match(more.text, new RegExp(`"node_id":"fan:sub:${i}"`));
    });
});
