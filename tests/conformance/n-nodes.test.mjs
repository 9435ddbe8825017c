// SPDX-License-Identifier: Apache-2.0
// Bundles over the wire: every core.* capability, switches, parallel branches, handoffs, references, and what a bundle
// may not be (contract 9.1, 5.7, model 7.4).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { checkLedger, checkRun, invalid } from './lib/expect.mjs';
import { fixtureDefinition, graph, makeAgent, node } from './lib/fixtures.mjs';

async function runGraph(api, definition, input) {
    const agent = await makeAgent(api, definition);
    const run = checkRun(await api.createAndFinish({ agent_id: agent, input }));
    const events = await api.ledger(run.run_id);
    checkLedger(events, { attemptId: run.current_attempt_id });
    return { agent, run, events };
}

const started = (events) => events.filter((e) => e.type === 'NODE_STARTED').map((e) => e.payload.node);

suite('N nodes', {}, (test) => {
    test('core.echo and NODE_STARTED members', async ({ api }) => {
        const { run, events } = await runGraph(api, fixtureDefinition('echo'), [1]);
        assert.deepEqual(run.output, { echo: [1] });
        const start = events.find((e) => e.type === 'NODE_STARTED').payload;
        assert.deepEqual([start.node, start.capability_ref, start.capability_version, start.execution_binding, start.try_no], ['echo', 'core.echo', '1', 'builtin', 1]);
        const end = events.find((e) => e.type === 'NODE_FINISHED').payload;
        assert.equal(end.node_execution_id, start.node_execution_id);
        assert.ok(Number.isInteger(end.duration_ms) && end.duration_ms >= 0);
        const noInput = await runGraph(api, fixtureDefinition('echo'));
        assert.equal(noInput.run.status, 'completed');
    });

    test('core.emit', async ({ api }) => {
        const { run, events } = await runGraph(api, graph([node('e', 'core.emit', { count: 4, interval_ms: 30 })]));
        assert.deepEqual(run.output, { ticks: 4 });
        const at = events.filter((e) => e.type === 'MODEL_DELTA').map((e) => Date.parse(e.timestamp));
        assert.equal(at.length, 4);
        assert.ok(at[3] - at[0] >= 80, `3 gaps of 30 ms took ${at[3] - at[0]} ms`);
    });

    test('core.sleep', async ({ api }) => {
        const { run } = await runGraph(api, graph([node('s', 'core.sleep', { ms: 150 }, 'v'), node('v', 'core.value', { value: 1 })]));
        assert.equal(run.output, 1);
        assert.ok(run.duration_ms >= 145, `${run.duration_ms} ms`);
    });

    test('core.value and references', async ({ api }) => {
        const value = { a: { $from: '/input/x/0' }, b: [{ $from: '/nodes/e/output/ticks' }, 'k'], c: { $from: '/input/none', default: { d: 1 } },
            e: { $from: '/input/none', default: null }, f: { $from: '/input/y~1z' }, whole: { $from: '/input' } };
        const { run } = await runGraph(api, graph([node('e', 'core.emit', { count: 2, interval_ms: 0 }, 'v'), node('v', 'core.value', { value })]),
            { x: [7], 'y/z': 0 });
        assert.deepEqual(run.output, { a: 7, b: [2, 'k'], c: { d: 1 }, e: null, f: 0, whole: { x: [7], 'y/z': 0 } });
    });

    test('a reference to nothing fails the node', async ({ api }) => {
        const { run, events } = await runGraph(api, graph([node('v', 'core.value', { value: { $from: '/input/none' } })]), {});
        assert.deepEqual([run.status, run.error.code], ['failed', 'reference_not_found']);
        assert.equal(events.find((e) => e.type === 'NODE_FAILED').payload.error.code, 'reference_not_found');
    });

    test('core.set writes the values of the thread; a failed run leaves them', async ({ api }) => {
        const setter = await makeAgent(api, graph([node('s', 'core.set', { value: { n: { $from: '/input/n' } } })]));
        const reader = await makeAgent(api, graph([node('v', 'core.value', { value: { $from: '/values/n' } })]));
        const spoiler = await makeAgent(api, graph([node('s', 'core.set', { value: { n: 'spoiled' } }, 'f'),
            node('f', 'core.fail', { code: 'no', category: 'tool', message: 'no', retryable: false })]));
        const thread = await api.ok(api.post('/threads', {}), 201);
        const on = { thread: { thread_id: thread.thread_id } };
        const values = async () => (await api.ok(api.get(`/threads/${thread.thread_id}`))).values;
        const set = await api.createAndFinish({ agent_id: setter, input: { n: 5 }, ...on });
        assert.equal(set.status, 'completed');
        checkLedger(await api.ledger(set.run_id));
        assert.equal((await values()).n, 5);
        assert.equal((await api.createAndFinish({ agent_id: reader, ...on })).output, 5);
        assert.equal((await api.createAndFinish({ agent_id: spoiler, ...on })).status, 'failed');
        assert.equal((await values()).n, 5);
        assert.equal((await api.createAndFinish({ agent_id: setter, input: { n: 6 }, ...on })).status, 'completed');
        assert.equal((await values()).n, 6);
    });

    test('core.fail: code, category, message; fail_times with node tries', async ({ api }) => {
        const fails = await runGraph(api, graph([node('f', 'core.fail', { code: 'my_code', category: 'budget', message: 'my words', retryable: false })]));
        assert.deepEqual([fails.run.error.code, fails.run.error.category, fails.run.error.message, fails.run.error.node], ['my_code', 'budget', 'my words', 'f']);
        const tries = graph([node('f', 'core.fail', { code: 'flaky', category: 'network', message: 'once', retryable: true, fail_times: 1 }, 'v', { policy: { max_tries: 3 } }),
            node('v', 'core.value', { value: 'ok' })]);
        const { run, events } = await runGraph(api, tries);
        assert.deepEqual([run.status, run.output, run.current_attempt_no], ['completed', 'ok', 1]);
        const execs = events.filter((e) => e.type === 'NODE_STARTED' && e.payload.node === 'f');
        assert.deepEqual(execs.map((e) => e.payload.try_no), [1, 2]);
        assert.notEqual(execs[0].payload.node_execution_id, execs[1].payload.node_execution_id);
        assert.equal(events.find((e) => e.type === 'NODE_FAILED').payload.will_retry, true);
    });

    test('core.switch: first match, last plain case, no case', async ({ api }) => {
        const def = (last) => graph([
            node('pick', 'core.switch', { cases: [{ when: { pointer: '/input/kind', equals: 'a' }, next: 'a' },
                { when: { pointer: '/input/kind', equals: { deep: [1] } }, next: 'b' }, ...(last ? [{ next: 'c' }] : [])] }),
            node('a', 'core.value', { value: 'A' }), node('b', 'core.value', { value: 'B' }), ...(last ? [node('c', 'core.value', { value: 'C' })] : [])]);
        for (const [kind, output] of [['a', 'A'], [{ deep: [1] }, 'B'], ['zzz', 'C'], [undefined, 'C']]) {
            const { run, events } = await runGraph(api, def(true), { kind });
            assert.equal(run.output, output);
            assert.deepEqual(started(events), ['pick', output.toLowerCase()], 'other branches do not run');
        }
        const none = await runGraph(api, def(false), { kind: 'zzz' });
        assert.deepEqual([none.run.status, none.run.error.code], ['failed', 'no_case']);
    });

    test('a cycle through core.switch', async ({ api }) => {
        const loop = await makeAgent(api, graph([
            node('ask', 'core.human', { prompt: 'Again?' }, 'pick'),
            node('pick', 'core.switch', { cases: [{ when: { pointer: '/nodes/ask/output', equals: 'again' }, next: 'ask' }, { next: 'end' }] }),
            node('end', 'core.value', { value: { $from: '/nodes/ask/output' } })]));
        const looping = await api.create({ agent_id: loop });
        for (const [answer, prompts] of [['again', 1], ['again', 2], ['enough', 3]]) {
            let waiting;
            do {
                waiting = await api.waiting(looping.run_id);
            } while ((await api.ledger(looping.run_id)).filter((e) => e.type === 'HUMAN_PROMPT').length < prompts);
            await api.ok(api.resume(waiting.run_id, { input: answer, checkpoint_id: waiting.checkpoint_id }), 200);
        }
        assert.equal((await api.until(looping.run_id)).output, 'enough');
        const again = await api.ledger(looping.run_id);
        checkLedger(again);
        assert.equal(started(again).filter((n) => n === 'ask').length, 3);
    });

    test('parallel branches: both run, the join waits, one sink or several', async ({ api }) => {
        const joined = await runGraph(api, graph([
            node('fork', 'core.value', { value: 0 }, ['left', 'right']),
            node('left', 'core.emit', { count: 6, interval_ms: 20 }, 'join'), node('right', 'core.emit', { count: 3, interval_ms: 20 }, 'join'),
            node('join', 'core.value', { value: [{ $from: '/nodes/left/output/ticks' }, { $from: '/nodes/right/output/ticks' }] })]));
        assert.deepEqual(joined.run.output, [6, 3]);
        assert.equal(started(joined.events).filter((n) => n === 'join').length, 1);
        const firstEnd = joined.events.findIndex((e) => e.type === 'NODE_FINISHED' && ['left', 'right'].includes(e.payload.node));
        const starts = joined.events.filter((e, i) => i < firstEnd && e.type === 'NODE_STARTED').map((e) => e.payload.node);
        assert.ok(starts.includes('left') && starts.includes('right'), 'branches run side by side');
        const sinks = await runGraph(api, graph([
            node('fork', 'core.value', { value: 0 }, ['left', 'right']), node('left', 'core.value', { value: 'L' }), node('right', 'core.value', { value: 'R' })]));
        assert.deepEqual(sinks.run.output, { left: 'L', right: 'R' });
    });

    test('a branch that fails fails the run, the other one is stopped', async ({ api }) => {
        const { run, events } = await runGraph(api, graph([
            node('fork', 'core.value', { value: 0 }, ['slow', 'bad']),
            node('slow', 'core.emit', { count: 500, interval_ms: 20 }),
            node('bad', 'core.fail', { code: 'broken', category: 'tool', message: 'x', retryable: false })]));
        assert.deepEqual([run.status, run.error.code], ['failed', 'broken']);
        assert.ok(run.duration_ms < 5000);
        assert.ok(events.filter((e) => e.type === 'MODEL_DELTA').length < 300);
    });

    test('a pause in one branch does not stop the other', async ({ api }) => {
        const agent = await makeAgent(api, graph([
            node('fork', 'core.value', { value: 0 }, ['gate', 'ticker']), node('gate', 'core.human', { prompt: 'Go?' }, 'join'),
            node('ticker', 'core.emit', { count: 10, interval_ms: 10 }, 'join'),
            node('join', 'core.value', { value: [{ $from: '/nodes/gate/output' }, { $from: '/nodes/ticker/output/ticks' }] })]));
        const run = await api.waiting((await api.create({ agent_id: agent })).run_id);
        const before = await api.ledger(run.run_id);
        assert.equal(before.filter((e) => e.type === 'MODEL_DELTA').length, 10, 'the run rests when the other branch is done');
        await api.ok(api.resume(run.run_id, { input: 'yes' }), 200);
        assert.deepEqual((await api.until(run.run_id)).output, ['yes', 10]);
        checkLedger(await api.ledger(run.run_id));
    });

    test('core.handoff: a child run, one root operation, its output', async ({ api, E, F }) => {
        const { run, events } = await runGraph(api, graph([
            node('give', 'core.handoff', { agent_id: E, input: { for: { $from: '/input' } } }, 'end'),
            node('end', 'core.value', { value: { got: { $from: '/nodes/give/output' } } })]), 'child');
        assert.deepEqual(run.output, { got: { echo: { for: 'child' } } });
        const begin = events.find((e) => e.type === 'HANDOFF_STARTED');
        const end = events.find((e) => e.type === 'HANDOFF_FINISHED');
        assert.deepEqual([begin.payload.child_agent_id, end.payload.child_run_id, end.payload.status, begin.payload.node], [E, begin.payload.child_run_id, 'completed', 'give']);
        const child = await api.run(begin.payload.child_run_id);
        assert.deepEqual([child.status, child.source, child.parent_run_id, child.agent_id], ['completed', 'handoff', run.run_id, E]);
        const childEvents = await api.ledger(child.run_id);
        checkLedger(childEvents, { child: true });
        assert.equal(childEvents[0].root_operation_id, events[0].root_operation_id, 'one root joins the tree');
        assert.equal(childEvents[0].parent_operation_id, begin.operation_id);
        const failing = await runGraph(api, graph([node('give', 'core.handoff', { agent_id: F })]));
        assert.equal(failing.run.status, 'failed');
        assert.equal(failing.events.find((e) => e.type === 'HANDOFF_FINISHED').payload.status, 'failed');
    });

    test('run_timeout_ms ends a run', async ({ api }) => {
        const { run } = await runGraph(api, graph([node('s', 'core.sleep', { ms: 20000 })], { run_timeout_ms: 300 }));
        assert.deepEqual([run.status, run.error.code, run.error.category], ['failed', 'run_timeout', 'timeout']);
        assert.ok(run.duration_ms < 3000);
    });

    test('a scripted model', async ({ api }) => {
        const { run, events } = await runGraph(api, graph([node('m', 'model.chat', { provider: 'scripted', model: 'demo', prompt: 'Hello',
            script: { text: 'one two three', chunk: 4, interval_ms: 1 } })]));
        assert.equal(run.status, 'completed');
        assert.equal(run.output.text, 'one two three');
        const deltas = events.filter((e) => e.type === 'MODEL_DELTA');
        assert.equal(deltas.map((e) => e.payload.delta).join(''), 'one two three');
        for (const type of ['MODEL_STARTED', 'MODEL_FINISHED']) assert.equal(events.filter((e) => e.type === type).length, 1);
        const finish = events.find((e) => e.type === 'MODEL_FINISHED').payload;
        assert.ok(Number.isInteger(finish.usage.input_tokens) && Number.isInteger(finish.usage.output_tokens));
    });

    test('9.1 definitions that are refused', async ({ api }) => {
        const agent = await makeAgent(api);
        const echo = (name, next) => node(name, 'core.echo', {}, next);
        const bad = {
            'unknown capability': graph([node('a', 'core.unknown')]),
            'unknown version': graph([{ ...echo('a'), capability_version: '99' }]),
            'missing next': graph([echo('a', 'nowhere')]),
            'missing next in a list': graph([echo('a', ['b', 'nowhere']), echo('b')]),
            'missing next of a case': graph([node('a', 'core.switch', { cases: [{ next: 'nowhere' }] })]),
            'unreachable node': graph([echo('a'), echo('b')]),
            'duplicate name': graph([echo('a', 'b'), echo('b'), echo('b')]),
            'cycle without a switch': graph([echo('a', 'b'), echo('b', 'a')]),
            'self cycle': graph([echo('a', 'a')]),
            'entry that is not there': { ...graph([echo('a')]), entry: 'zzz' },
            'no entry': { format: 1, nodes: [echo('a')] },
            'no nodes': { format: 1, entry: 'a', nodes: [] },
            'other format': { ...graph([echo('a')]), format: 2 },
            'node name': graph([echo('Bad-Name')]),
            'binding without code': graph([{ ...echo('a'), execution_binding: 'http' }]),
            'nodes of another type': { format: 1, entry: 'a', nodes: {} },
            'a string': 'graph', 'a number': 7, 'a list': [],
        };
        for (const [why, definition] of Object.entries(bad)) {
            const res = await api.post(`/agents/${agent}/bundles`, { definition });
            assert.equal(res.status, 422, `${why}: ${res.status} ${res.text}`);
            if (why === 'binding without code') assert.equal(res.json.code, 'unsupported_binding'); else invalid(res);
        }
        invalid(await api.post(`/agents/${agent}/bundles`, {}), '/definition');
        assert.equal((await api.ok(api.get(`/agents/${agent}/bundles`))).total, 0);
    });
});
