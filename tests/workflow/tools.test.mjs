// SPDX-License-Identifier: Apache-2.0
// Tool calls: who runs them, what is pending, how results are taken (contract 3.6), questions to people.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before } from 'node:test';
import { UUID, answer, asking, llm, result, sleep, spec, suite, types } from './lib.mjs';

const LOOK = { name: 'look', arguments: { at: 'log' } };
const NOBODY = '00000000-0000-4000-8000-000000000000';
const refused = (res, status, code) => { assert.equal(res.status, status, res.text); assert.equal(res.json.code, code, res.text); };

async function waiting(flow, nodes, more) {
    const { run_id: id } = await flow.start(spec(nodes, more));
    await flow.until(id, 'waiting');
    return [id, ...(await flow.pending(id))];
}

suite('client tools', {}, (test) => {
    test('a call is handed out, its result goes back to the model', async ({ flow }) => {
        const [id, pending] = await waiting(flow, [asking('read', [LOOK])]);
        const events = await flow.list(id, {}, true);
        assert.deepEqual(types(events).slice(2), ['node_started', 'node_llm_call', 'node_tool_call', 'node_waiting']);
        const [, , , llmCall, toolCall, wait] = events;
        assert.equal(wait.waiting.reason, 'tool_results');
        assert.equal(llmCall.llm_call.stop_reason, 'tool_calls');
        for (const e of [llmCall.llm_call, toolCall.tool_call, wait.waiting]) {
            assert.equal(e.step, 0);
            assert.equal(e.request_id, pending.request_id);
            assert.match(e.request_id, UUID);
        }
        assert.deepEqual(wait.waiting.pending_tool_calls, pending.tool_calls);
        assert.deepEqual(toolCall.tool_call.tool_call, pending.tool_calls[0].tool_call);
        assert.equal(pending.node_id, 'read');
        assert.equal(pending.tool_calls[0].tool_call.name, 'look');
        assert.deepEqual(JSON.parse(pending.tool_calls[0].tool_call.arguments), LOOK.arguments);
        const res = await flow.ok(flow.results(id, answer(pending, 'no space')), 200);
        assert.deepEqual(res, { accepted: 1, status: 'running' });
        const run = await flow.until(id);
        assert.equal(run.outputs.result.output[0].content[0].text, 'done');
        assert.deepEqual(await flow.pending(id), []);
        const after = (await flow.list(id)).slice(6);
        assert.deepEqual(types(after), ['node_tool_result', 'node_llm_call', 'node_output', 'node_succeeded', 'run_completed']);
        assert.equal(after[0].tool_result.output, 'no space');
        assert.equal(after[0].tool_result.request_id, pending.request_id);
        assert.equal(after[1].llm_call.step, 1);
        assert.notEqual(after[1].llm_call.request_id, pending.request_id);
        const { steps } = await flow.ok(flow.get(`/runs/${id}/steps`), 200);
        assert.deepEqual(steps.map((s) => [s.step, s.tool_calls.length, s.tool_results.length]), [[0, 1, 1], [1, 0, 0]]);
        const call = pending.tool_calls[0].tool_call;
        const one = await flow.ok(flow.get(`/runs/${id}/steps/0/tool-calls/${encodeURIComponent(call.id)}`), 200);
        assert.deepEqual(one, { node_id: 'read', step: 0, tool_call: call, tool_result: { output: 'no space' } });
        for (const path of ['1/tool-calls/x', `1/tool-calls/${call.id}`, 'x/tool-calls/y']) assert.equal((await flow.get(`/runs/${id}/steps/${path}`)).status, 404);
        assert.equal((await flow.snapshot(id)).summary.total_tool_calls, 1);
    });

    test('parts, repeats, and everything that is not right', async ({ flow }) => {
        const [id, pending] = await waiting(flow, [asking('a', [LOOK, { name: 'smell' }, { name: 'look', arguments: {} }])]);
        const [one, two, three] = pending.tool_calls;
        const send = (results, more = {}) => flow.results(id, { node_id: 'a', step: pending.step, request_id: pending.request_id, results, ...more });
        refused(await send([result(one, 'x')], { node_id: 'zz' }), 404, 'NOT_FOUND');
        refused(await send([result(one, 'x')], { step: 1 }), 409, 'CONFLICT');
        refused(await send([result(one, 'x')], { request_id: NOBODY }), 409, 'CONFLICT');
        refused(await send([result(one, 'x')], { request_id: 'abc' }), 409, 'CONFLICT');
        refused(await send([{ tool_call: { id: 'other', name: 'look' }, output: 'x' }]), 400, 'INVALID_INPUT');
        refused(await send([result(one, 'x'), { tool_call: { id: 'other', name: 'look' }, output: 'x' }]), 400, 'INVALID_INPUT');
        refused(await send([{ tool_call: { id: one.tool_call.id, name: 'smell' }, output: 'x' }]), 400, 'INVALID_INPUT');
        refused(await send([]), 400, 'INVALID_INPUT');
        refused(await send(undefined), 400, 'INVALID_INPUT');
        refused(await send([result(one, { not: 'text' })]), 400, 'INVALID_INPUT');
        refused(await send([result(one, 'x'), result(one, 'x')]), 400, 'INVALID_INPUT');
        refused(await send([result(one, 'x')], { step: -1 }), 400, 'INVALID_INPUT');
        refused(await flow.results(NOBODY, { ...answer(pending, 'x') }), 404, 'NOT_FOUND');
        assert.equal((await flow.pending(id))[0].tool_calls.length, 3, 'nothing was applied');
        const log = (await flow.list(id, {}, true)).length;

        assert.deepEqual(await flow.ok(send([result(two, 'b')])), { accepted: 1, status: 'waiting' });
        assert.deepEqual((await flow.pending(id))[0].tool_calls, [one, three]);
        const events = await flow.list(id, {}, true);
        assert.deepEqual(types(events.slice(log)), ['node_tool_result'], 'no second node_waiting');
        assert.deepEqual(await flow.ok(send([result(two, 'b')])), { accepted: 1, status: 'waiting' }, 'a repeat');
        assert.equal((await flow.list(id, {}, true)).length, events.length);
        refused(await send([result(two, 'c')]), 409, 'CONFLICT');
        assert.deepEqual(await flow.ok(send([result(three, 'c'), result(two, 'b'), result(one, 'a')])), { accepted: 3, status: 'running' });
        await flow.until(id);
        const all = await flow.list(id);
        assert.deepEqual(all.filter((e) => e.type === 'node_tool_result').map((e) => e.tool_result.output), ['b', 'c', 'a'], 'in the order of the bodies');
        assert.deepEqual(await flow.ok(send([result(one, 'a'), result(three, 'c')])), { accepted: 2, status: 'succeeded' }, 'a repeat behind the end');
        refused(await send([result(one, 'other')]), 409, 'CONFLICT');
        assert.equal((await flow.list(id)).length, all.length);
    });

    test('results at once: the same from twenty, each call once', async ({ flow }) => {
        const [id, pending] = await waiting(flow, [asking('a', [LOOK])]);
        const all = await Promise.all(Array.from({ length: 20 }, () => flow.results(id, answer(pending, 'same'))));
        for (const res of all) assert.equal(res.status, 200, res.text);
        await flow.until(id);
        assert.equal((await flow.list(id)).filter((e) => e.type === 'node_tool_result').length, 1);
    });

    test('several nodes wait; each is answered by itself; ids are never used twice', async ({ flow }) => {
        const same = [{ name: 'look', id: 'call_1' }];
        const [id, ...pending] = await waiting(flow, [asking('b', same), asking('a', same), { id: 'j', type: 'join.all', depends_on: ['a', 'b'] }]);
        assert.deepEqual(pending.map((p) => p.node_id), ['a', 'b']);
        assert.notEqual(pending[0].tool_calls[0].tool_call.id, pending[1].tool_calls[0].tool_call.id);
        assert.notEqual(pending[0].request_id, pending[1].request_id);
        refused(await flow.results(id, { ...answer(pending[0], 'x'), node_id: 'b' }), 409, 'CONFLICT');
        await flow.ok(flow.results(id, answer(pending[1], 'x')), 200);
        await flow.until(id, 'waiting');
        assert.deepEqual((await flow.pending(id)).map((p) => p.node_id), ['a']);
        await flow.ok(flow.results(id, answer(pending[0], 'x')), 200);
        await flow.until(id);
        await flow.list(id);
    });

    test('calls of the same id in two steps of a node', async ({ flow }) => {
        const script = { turns: [{ tool_calls: [{ name: 'look', id: 'x' }], interval_ms: 0 }, { tool_calls: [{ name: 'look', id: 'x' }], interval_ms: 0 }, { text: 'done', interval_ms: 0 }] };
        const [id, first] = await waiting(flow, [asking('a', [LOOK], { script })]);
        await flow.ok(flow.results(id, answer(first, 'x')), 200);
        await flow.until(id, 'waiting');
        const [second] = await flow.pending(id);
        assert.notEqual(second.tool_calls[0].tool_call.id, first.tool_calls[0].tool_call.id);
        assert.equal(second.step, 1);
        refused(await flow.results(id, answer(first, 'other')), 409, 'CONFLICT');
        assert.equal((await flow.results(id, answer(first, 'x'))).status, 200, 'a repeat of an older step');
        await flow.ok(flow.results(id, answer(second, 'y')), 200);
        await flow.until(id);
    });

    test('a run that was canceled takes no results', async ({ flow }) => {
        const [id, pending] = await waiting(flow, [asking('a', [LOOK])]);
        await flow.post(`/runs/${id}/cancel`);
        assert.deepEqual(await flow.pending(id), []);
        refused(await flow.results(id, answer(pending, 'x')), 409, 'CONFLICT');
    });

    test('a node that has never called anything: 404', async ({ flow }) => {
        const [id] = await waiting(flow, [asking('a', [LOOK]), llm('b', 'x')]);
        refused(await flow.results(id, { node_id: 'b', step: 0, request_id: NOBODY, results: [{ tool_call: { id: 'x', name: 'y' }, output: 'z' }] }), 404, 'NOT_FOUND');
    });

    test('what waits too long fails', async ({ flow }) => {
        const { plan_json: plan } = await flow.ok(flow.post('/workflows/compile', spec([asking('a', [LOOK])])), 200);
        plan.nodes[0].input.tool_limits = { wait_ttl_ms: 300 };
        const { run_id: id } = await flow.start(plan);
        const run = await flow.until(id, 'failed');
        assert.equal(run.nodes[0].error.code, 'TOOL_WAIT_EXPIRED');
        assert.deepEqual(types((await flow.list(id)).slice(-2)), ['node_failed', 'run_failed']);
    });

    test('too many calls in a step, too many steps', async ({ flow }) => {
        const many = await flow.finish(spec([asking('a', Array.from({ length: 17 }, () => LOOK))]), {}, 'failed');
        assert.equal(many.nodes[0].error.code, 'TOOL_CALLS_LIMIT');
        const { plan_json: plan } = await flow.ok(flow.post('/workflows/compile', spec([asking('a', [LOOK], { script: { tool_calls: [LOOK], interval_ms: 0 } })])), 200);
        plan.nodes[0].input.tool_limits = { max_llm_calls: 2 };
        const { run_id: id } = await flow.start(plan);
        for (let i = 0; ; i++) {
            const run = await flow.until(id, new Set(['waiting', 'failed']));
            if (run.status === 'failed') {
                assert.equal(run.nodes[0].error.code, 'TOOL_LOOP_LIMIT');
                break;
            }
            assert.ok(i < 4);
            const pending = await flow.pending(id);
            if (pending.length) await flow.results(id, answer(pending[0], 'x'));
        }
    });
});

suite('questions to people', {}, (test) => {
    const ASK = { name: 'user_ask', arguments: { question: 'Which region?', options: [{ label: 'eu' }, { label: 'us', description: 'far' }] } };

    for (const mode of ['client', 'server', 'agentic']) {
        test(`user_ask in ${mode} mode`, async ({ flow }) => {
            const { run_id: id } = await flow.start(spec([asking('a', [ASK], { tool_execution: { mode } })]));
            const log = await flow.follow(id);
            const asked = await log.event('node_user_ask');
            await log.event('node_waiting');
            await flow.until(id, 'waiting');
            const [pending] = await flow.pending(id);
            const call = pending.tool_calls[0].tool_call;
            assert.deepEqual(types(log.events).slice(2), ['node_started', 'node_llm_call', 'node_tool_call', 'node_user_ask', 'node_waiting']);
            assert.deepEqual(asked.user_ask, { step: 0, request_id: pending.request_id, tool_call: call, question: 'Which region?', options: ASK.arguments.options, allow_freeform: true });
            assert.deepEqual(log.events.at(-1).waiting.pending_tool_calls, pending.tool_calls);
            assert.equal(log.events.at(-1).waiting.reason, 'tool_results');
            await flow.ok(flow.results(id, answer(pending, JSON.stringify({ answer: 'eu', is_freeform: false }))), 200);
            await log.end();
            const answered = log.events.find((e) => e.type === 'node_user_answer');
            assert.deepEqual(answered.user_answer, { step: 0, request_id: pending.request_id, tool_call: { id: call.id, name: 'user_ask' }, answer: 'eu', is_freeform: false });
            assert.equal(log.events[log.events.indexOf(answered) - 1].type, 'node_tool_result');
            assert.equal(log.events.at(-1).type, 'run_completed');
        });
    }

    test('an answer that is none, or blank, is only a result', async ({ flow }) => {
        for (const output of ['Error: nobody is there', '{"answer":"  ","is_freeform":true}', '{"answer":5}', '"text"']) {
            const [id, pending] = await waiting(flow, [asking('a', [ASK])]);
            await flow.ok(flow.results(id, answer(pending, output)), 200);
            await flow.until(id);
            const all = await flow.list(id);
            assert.ok(!all.some((e) => e.type === 'node_user_answer'), output);
            assert.equal(all.find((e) => e.type === 'node_tool_result').tool_result.output, output);
        }
    });

    test('a question beside a call of the client', async ({ flow }) => {
        const [id, pending] = await waiting(flow, [asking('a', [LOOK, ASK])]);
        assert.equal(pending.tool_calls.length, 2);
        const all = await flow.list(id, {}, true);
        assert.deepEqual(types(all).slice(4), ['node_tool_call', 'node_tool_call', 'node_user_ask', 'node_waiting']);
        await flow.ok(flow.results(id, answer(pending, (c) => (c.tool_call.name === 'look' ? 'seen' : '{"answer":"x"}'))), 200);
        await flow.until(id);
        assert.equal((await flow.list(id)).find((e) => e.type === 'node_user_answer').user_answer.is_freeform, true);
    });
});

// A tool server: adds, and says what it was asked.
const tool = { asked: [] };
const config = {};
before(async () => {
    tool.server = http.createServer(async (req, res) => {
        let body = '';
        for await (const part of req) body += part;
        tool.asked.push(JSON.parse(body));
        const said = JSON.parse(body);
        const args = said.arguments ?? said;
        const bad = args.a === 13;
        res.writeHead(bad ? 400 : 200, { 'content-type': 'application/json' });
        res.end(JSON.stringify(bad ? { error: 'thirteen' } : { sum: args.a + args.b }));
    });
    await new Promise((resolve) => { tool.server.listen(0, '127.0.0.1', resolve); });
    config.tools = { add: { kind: 'http', url: `http://127.0.0.1:${tool.server.address().port}/`, description: 'adds', input_schema: { type: 'object',
        properties: { a: { type: 'number' }, b: { type: 'number' } }, required: ['a', 'b'] } } };
    config.tools.careful = { ...config.tools.add, approval: 'always' };
});
after(() => tool.server.close());

suite('server tools', { config }, (test) => {
    for (const mode of ['server', 'agentic']) {
        test(`${mode}: run here, their results go back to the model`, async ({ flow }) => {
            const node = asking('a', [{ name: 'add', arguments: { a: 1, b: 2 } }], { tool_execution: { mode }, tools: ['add'] });
            const run = await flow.finish(spec([node]));
            const all = await flow.list(run.run_id);
            assert.deepEqual(types(all).slice(2), ['node_started', 'node_llm_call', 'node_tool_call', 'node_tool_result', 'node_llm_call', 'node_output', 'node_succeeded', 'run_completed']);
            assert.match(all[5].tool_result.output, /3/);
            assert.equal(all[5].tool_result.request_id, all[3].llm_call.request_id);
            assert.equal(run.summary.total_tool_calls, 1);
        });

        test(`${mode}: an error, and arguments that do not fit, are results`, async ({ flow }) => {
            for (const args of [{ a: 13, b: 1 }, { a: 'x' }]) {
                const run = await flow.finish(spec([asking('a', [{ name: 'add', arguments: args }], { tool_execution: { mode }, tools: ['add'] })]));
                const all = await flow.list(run.run_id);
                assert.equal(all.filter((e) => e.type === 'node_llm_call').length, 2, 'the model is told');
                if (args.a === 13) assert.match(all.find((e) => e.type === 'node_tool_result').tool_result.output, /^Error: /);
            }
        });
    }

    for (const said of ['yes', 'no']) {
        test(`a tool that needs an approval asks like a model would; ${said}`, async ({ flow }) => {
            const { run_id: id } = await flow.start(spec([asking('a', [{ name: 'careful', arguments: { a: 1, b: 2 } }], { tool_execution: { mode: 'server' }, tools: ['careful'] })]));
            const log = await flow.follow(id);
            await log.event('node_waiting');
            const [pending] = await flow.pending(id);
            const asked = log.events.find((e) => e.type === 'node_user_ask').user_ask;
            assert.deepEqual(pending.tool_calls, [{ tool_call: asked.tool_call }]);
            assert.deepEqual(log.events.at(-1).waiting.pending_tool_calls, pending.tool_calls);
            assert.equal(asked.request_id, pending.request_id);
            const body = answer(pending, JSON.stringify({ answer: said, is_freeform: true }));
            refused(await flow.results(id, { ...body, step: 9 }), 409, 'CONFLICT');
            refused(await flow.results(id, { ...body, node_id: 'zz' }), 404, 'NOT_FOUND');
            refused(await flow.results(id, answer(pending, 'perhaps')), 400, 'INVALID_INPUT');
            assert.equal((await flow.ok(flow.results(id, body), 200)).accepted, 1);
            await log.end();
            assert.equal((await flow.ok(flow.results(id, body), 200)).accepted, 1, 'a repeat');
            assert.ok(log.events.some((e) => e.type === 'node_user_answer'));
            const results = log.events.filter((e) => e.type === 'node_tool_result').map((e) => e.tool_result.output);
            if (said === 'yes') assert.match(results[0], /3/);
            else assert.deepEqual(results.filter((r) => !r.startsWith('Error: ')), [], 'nothing was called');
            assert.equal(log.events.filter((e) => e.type === 'node_llm_call').length, 2, 'the model is told');
            assert.deepEqual(await flow.pending(id), []);
        });
    }
});
