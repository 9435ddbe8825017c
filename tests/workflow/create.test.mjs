// SPDX-License-Identifier: Apache-2.0
// POST /runs and what a run then looks like: inputs, overrides, keys of idempotency, statuses, snapshot, cancel.
import assert from 'node:assert/strict';
import { HASH, UUID, asking, checkLog, llm, says, slow, spec, suite, types } from './lib.mjs';

const PLAIN = spec([llm('a', 'x')]);
const invalid = (res) => { assert.equal(res.status, 400, res.text); assert.equal(res.json.code, 'INVALID_INPUT', res.text); };
const issue = (res, code, path) => {
    assert.equal(res.status, 400, res.text);
    assert.ok(res.json.issues?.some((i) => i.code === code && (path instanceof RegExp ? path.test(i.path) : i.path === path)), res.text);
};

suite('workflow runs', {}, (test) => {
    test('of a specification, and of the hash of its plan', async ({ flow }) => {
        const made = await flow.start(PLAIN);
        assert.match(made.run_id, UUID);
        assert.match(made.plan_hash, HASH);
        assert.equal(made.status, 'running');
        assert.deepEqual(Object.keys(made).sort(), ['plan_hash', 'run_id', 'status']);
        const again = await flow.ok(flow.post('/runs', { plan_hash: made.plan_hash }), 200);
        assert.equal(again.plan_hash, made.plan_hash);
        const run = await flow.until(again.run_id);
        assert.equal(run.outputs.result.output[0].content[0].text, 'x');
        const compiled = await flow.ok(flow.post('/workflows/compile', spec([llm('only', 'compiled')])), 200);
        const third = await flow.ok(flow.post('/runs', { plan_hash: compiled.plan_hash }), 200);
        assert.equal((await flow.until(third.run_id)).status, 'succeeded');
        const v1 = await flow.finish(compiled.plan_json);
        assert.equal(v1.plan_hash, compiled.plan_hash);
    });

    test('what is not one of them is refused', async ({ flow }) => {
        invalid(await flow.post('/runs', {}));
        invalid(await flow.post('/runs', { spec: PLAIN, plan_hash: 'a'.repeat(64) }));
        invalid(await flow.post('/runs', { plan_hash: 'xyz' }));
        const unknown = await flow.post('/runs', { plan_hash: 'a'.repeat(64) });
        assert.equal(unknown.status, 404);
        assert.equal(unknown.json.code, 'NOT_FOUND');
        invalid(await flow.post('/runs', { spec: PLAIN, input: [] }));
        invalid(await flow.post('/runs', { spec: PLAIN, stream: 'yes' }));
        invalid(await flow.post('/runs', { spec: PLAIN, options: { idempotency_key: 'k'.repeat(256) } }));
        invalid(await flow.post('/runs', { spec: PLAIN, session_id: 5 }));
        for (const id of ['x', '00000000-0000-4000-8000-000000000000']) assert.equal((await flow.post('/runs', { spec: PLAIN, session_id: id })).status, 404);
    });

    test('inputs: sent, by default, missing, of another type', async ({ flow }) => {
        const of = (inputs) => spec([llm('a', undefined, { user: '{{task}}', script: { interval_ms: 0 } })], { inputs });
        const need = of([{ name: 'task', type: 'string', required: true }]);
        issue(await flow.post('/runs', { spec: need }), 'INPUT_REQUIRED', '$.input.task');
        issue(await flow.post('/runs', { spec: need, input: { task: 5 } }), 'INPUT_TYPE', '$.input.task');
        issue(await flow.post('/runs', { spec: of(undefined) }), 'INPUT_REQUIRED', '$.input.task');
        const run = await flow.finish(need, { input: { task: 'walk the dog', unused: 1 } });
        assert.match(JSON.stringify(run.outputs), /walk the dog/);
        assert.match(JSON.stringify((await flow.finish(of([{ name: 'task', default: 'feed the cat' }]))).outputs), /feed the cat/);
        const object = await flow.finish(spec([{ id: 'fan', type: 'map.fanout', items_from_input: 'items', subnode: { id: 's', type: 'transform.json', object: { item: { from: 'item' } } } }]), { input: { items: [1, { a: 2 }] } });
        assert.deepEqual(object.outputs.result, { results: [{ item: 1 }, { item: { a: 2 } }] });
    });

    test('models: overrides and who wins', async ({ flow }) => {
        const fan = { id: 'fan', type: 'map.fanout', items_from_input: 'items', subnode: llm('sub', 'x', { user: '{{item}}' }) };
        const three = spec([llm('a', 'x'), llm('b', 'x', { model: 'scripted/b' }), fan], { model: 'scripted/spec' });
        const models = async (more) => {
            const run = await flow.finish(three, { input: { items: ['1'] }, ...more });
            const calls = (await flow.list(run.run_id)).filter((e) => e.type === 'node_llm_call');
            return [run.plan_hash, Object.fromEntries(calls.map((e) => [e.node_id, e.llm_call.model]))];
        };
        const [hash, plain] = await models({});
        assert.deepEqual(plain, { a: 'spec', b: 'b', fan: 'spec' });
        const [same, all] = await models({ model_override: 'scripted/all' });
        assert.equal(same, hash);
        assert.deepEqual(all, { a: 'all', b: 'all', fan: 'all' });
        const [, some] = await models({ model_override: 'scripted/all', model_overrides: { nodes: { b: 'scripted/mine' }, fanout_subnodes: [{ parent_id: 'fan', subnode_id: 'sub', model: 'scripted/sub' }] } });
        assert.deepEqual(some, { a: 'all', b: 'mine', fan: 'sub' });
        issue(await flow.post('/runs', { spec: PLAIN, model_overrides: { nodes: { zz: 'm' } } }), 'UNKNOWN_NODE', '$.model_overrides.nodes.zz');
        issue(await flow.post('/runs', { spec: three, input: { items: [] }, model_overrides: { nodes: { fan: 'm' } } }), 'FIELD_NOT_ALLOWED', '$.model_overrides.nodes.fan');
        issue(await flow.post('/runs', { spec: spec([llm('a', 'x')], { model: undefined }) }), 'MODEL_REQUIRED', /^\$\.nodes\[0\]/);
        assert.equal((await flow.finish(spec([llm('a', 'x')], { model: undefined }), { model_override: 'scripted/echo' })).status, 'succeeded');
    });

    test('stream: on all model nodes, with a plan of its own; not where tools are the client\'s', async ({ flow }) => {
        const run = await flow.finish(PLAIN, { stream: true });
        const plain = await flow.finish(PLAIN);
        assert.notEqual(run.plan_hash, plain.plan_hash);
        assert.ok((await flow.list(run.run_id)).some((e) => e.type === 'node_output_delta'));
        assert.ok(!(await flow.list(plain.run_id)).some((e) => e.type === 'node_output_delta'));
        const query = await flow.ok(flow.post('/runs?stream=true', { spec: PLAIN }), 200);
        assert.equal(query.plan_hash, run.plan_hash);
        issue(await flow.post('/runs', { spec: spec([asking('a', [{ name: 'look' }])]), stream: true }), 'STREAM_TOOL_MODE', /\.tool_execution\.mode$/);
    });

    test('a key: once, also for twenty at a time; another body is a conflict', async ({ flow }) => {
        const options = { idempotency_key: 'twenty' };
        const all = await Promise.all(Array.from({ length: 20 }, () => flow.post('/runs', { spec: PLAIN, options })));
        for (const res of all) assert.equal(res.status, 200, res.text);
        assert.equal(new Set(all.map((res) => res.json.run_id)).size, 1);
        assert.equal(new Set(all.map((res) => res.json.plan_hash)).size, 1);
        await flow.until(all[0].json.run_id);
        const later = await flow.ok(flow.post('/runs', { options, spec: PLAIN }), 200);
        assert.equal(later.status, 'succeeded');
        assert.equal(later.run_id, all[0].json.run_id);
        for (const other of [{ input: { a: 1 } }, { stream: true }, { model_override: 'scripted/other' }]) {
            const res = await flow.post('/runs', { spec: PLAIN, options, ...other });
            assert.equal(res.status, 409, res.text);
            assert.equal(res.json.code, 'CONFLICT');
        }
        const customer = await flow.with({ ...flow.headers, 'X-ModelRelay-Customer-Id': 'c' }).start(PLAIN, { options });
        assert.notEqual(customer.run_id, later.run_id);
        assert.equal((await flow.post('/runs', { spec: { ...PLAIN, outputs: [] }, options: { idempotency_key: 'unused' } })).status, 400);
        assert.equal((await flow.start(PLAIN, { options: { idempotency_key: 'unused' } })).status, 'running');
        const blank = await Promise.all([1, 2].map(() => flow.start(PLAIN, { options: { idempotency_key: '' } })));
        assert.notEqual(blank[0].run_id, blank[1].run_id);
    });

    test('a tool that nobody can run is an issue at create', async ({ flow }) => {
        const server = spec([llm('a', 'x', { tools: ['user_ask', 'nobody_knows_it'] })]);
        issue(await flow.post('/runs', { spec: server }), 'UNKNOWN_TOOL', /^\$\.nodes\[0\].*tools\[1\]/);
        assert.equal((await flow.post('/workflows/compile', server)).status, 200);
        issue(await flow.post('/runs', { plan_hash: (await flow.ok(flow.post('/workflows/compile', server))).plan_hash }), 'UNKNOWN_TOOL', /tools\[1\]/);
        assert.equal((await flow.post('/runs', { spec: spec([llm('a', 'x', { tools: ['nobody_knows_it'], tool_execution: { mode: 'client' } })]) })).status, 200);
    });

    test('the snapshot', async ({ flow }) => {
        const usage = { input_tokens: 10, output_tokens: 5 };
        const run = await flow.finish(spec([llm('a', 'x', says('x', { usage })), { id: 'j', type: 'join.all', depends_on: ['a'] }, { id: 't', type: 'transform.json', object: { o: { from: 'j', pointer: '/a/output/0/content/0/text' } } }]));
        assert.deepEqual(run.nodes.map((n) => [n.id, n.type, n.status]), [['a', 'llm.responses', 'succeeded'], ['j', 'join.all', 'succeeded'], ['t', 'transform.json', 'succeeded']]);
        for (const node of run.nodes) assert.ok(node.started_at <= node.ended_at);
        assert.deepEqual(run.nodes[2].output, { o: 'x' });
        assert.deepEqual(run.nodes[0].output.usage, { ...usage, total_tokens: 15 });
        assert.deepEqual(run.summary, { total_steps: 1, total_llm_calls: 1, total_tool_calls: 0, total_input_tokens: 10, total_output_tokens: 5, total_cost_cents: 0 });
        assert.deepEqual(run.cost_summary, { total_usd_cents: 0, line_items: [{ provider_id: 'openai', model: 'echo', requests: 1, input_tokens: 10, output_tokens: 5, usd_cents: 0 }] });
        assert.ok(!('steps' in run));
        const more = await flow.snapshot(run.run_id, { include: 'steps,tool_calls' });
        assert.equal(more.steps.length, 1);
        assert.equal(more.steps[0].node_id, 'a');
        assert.equal((await flow.ok(flow.get(`/runs/${run.run_id}/steps`))).steps.length, 1);
        assert.deepEqual((await flow.ok(flow.get(`/runs/${run.run_id}/tasks`))).tasks, []);
    });

    test('a run that waits has no outputs and no nulls; branches that were not taken are canceled', async ({ flow }) => {
        const { run_id: id } = await flow.start(spec([asking('a', [{ name: 'look' }]), llm('b', 'x', { depends_on: ['a'] })]));
        const run = await flow.until(id, 'waiting');
        assert.ok(!('outputs' in run));
        assert.deepEqual(run.nodes.map((n) => n.status), ['waiting', 'pending']);
        const route = { kind: 'workflow.v1', name: 'r', nodes: [
            { id: 'r', type: 'route.switch', input: { request: { model: 'scripted/echo', input: [{ type: 'message', role: 'user', content: [{ type: 'text', text: 'x' }] }], script: { text: '{"route":"left"}', interval_ms: 0 } } } },
            { id: 'left', type: 'transform.json', input: { object: { side: { from: 'r', pointer: '/model' } } } },
            { id: 'right', type: 'transform.json', input: { object: { side: { from: 'r', pointer: '/model' } } } },
            { id: 'end', type: 'join.any', input: {} }],
        edges: [{ from: 'r', to: 'left', when: { source: 'node_output', op: 'equals', path: '$.route', value: 'left' } },
            { from: 'r', to: 'right', when: { source: 'node_output', op: 'equals', path: '$.route', value: 'right' } },
            { from: 'left', to: 'end' }, { from: 'right', to: 'end' }], outputs: [{ name: 'o', from: 'end' }] };
        const routed = await flow.finish(route);
        assert.deepEqual(routed.nodes.map((n) => n.status), ['succeeded', 'succeeded', 'canceled', 'succeeded']);
        assert.ok(!(await flow.list(routed.run_id)).some((e) => e.node_id === 'right'));
    });

    test('cancel: at once, again, and never a conflict', async ({ flow }) => {
        for (const nodes of [[slow()], [asking('a', [{ name: 'look' }])]]) {
            const { run_id: id } = await flow.start(spec(nodes));
            if (nodes[0].id === 'a') await flow.until(id, 'waiting');
            const res = await flow.post(`/runs/${id}/cancel`);
            assert.equal(res.status, 200, res.text);
            assert.equal(res.json.status, 'canceled');
            assert.equal(res.json.nodes[0].status, 'canceled');
            const again = await flow.post(`/runs/${id}/cancel`, {});
            assert.equal(again.status, 200);
            const events = await flow.list(id);
            checkLog(events);
            assert.equal(events.at(-1).type, 'run_canceled');
            assert.equal(events.at(-1).error.code, 'CANCELED');
        }
        const done = await flow.finish(PLAIN);
        const res = await flow.post(`/runs/${done.run_id}/cancel`);
        assert.equal(res.status, 200);
        assert.equal(res.json.status, 'succeeded');
        assert.equal((await flow.post('/runs/00000000-0000-4000-8000-000000000000/cancel')).status, 404);
    });

    test('a run that takes too long is canceled', async ({ flow }) => {
        const { plan_json: plan } = await flow.ok(flow.post('/workflows/compile', spec([slow()])), 200);
        const { run_id: id } = await flow.start({ ...plan, execution: { ...plan.execution, run_timeout_ms: 300 } });
        const run = await flow.until(id, 'canceled');
        assert.equal(run.nodes[0].status, 'canceled');
        const events = await flow.list(id);
        assert.equal(events.at(-1).type, 'run_canceled');
        assert.equal(events.at(-1).error.code, 'RUN_TIMEOUT');
        assert.ok(types(events).includes('node_started'));
    });

    test('a node that takes too long fails', async ({ flow }) => {
        const { plan_json: plan } = await flow.ok(flow.post('/workflows/compile', spec([slow()])), 200);
        const { run_id: id } = await flow.start({ ...plan, execution: { ...plan.execution, node_timeout_ms: 300 } });
        const run = await flow.until(id, 'failed');
        assert.equal(run.nodes[0].error.code, 'NODE_TIMEOUT');
        assert.deepEqual(types((await flow.list(id)).slice(-2)), ['node_failed', 'run_failed']);
    });
});
