// SPDX-License-Identifier: Apache-2.0
// What holds an agent: budgets that fail, stop or ask; limits of steps and calls; an answer that must fit a schema; the memory of a
// thread and how it is trimmed.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { agentOf, sleep, startPerdure, startProvider, startTool } from './lib.mjs';

let provider, tool, p;

before(async () => {
    provider = await startProvider();
    tool = await startTool();
    p = await startPerdure(provider, { tools: { look: tool.config('look') }, prices: { 'chat/*': { input: '1', output: '10' } } });
});
after(async () => {
    await p?.stop();
    tool?.stop();
    provider?.stop();
});

const look = (n = 1, texts = ['Looking.']) => ({ texts, calls: Array.from({ length: n }, () => ({ name: 'look', arguments: {} })), usage: { input: 1000, output: 100 } });
const asked = async (model) => (await provider.requests(model)).length;
const loop = (model, more = {}) => agentOf({ provider: 'chat', model, max_tokens: 100 }, { tools: ['look'], ...more });

describe('budgets', () => {
    test('fail, stop and ask, for money, tokens, model calls and tool calls', async () => {
        // A turn costs 0.002 USD and 1100 tokens; the third would go beyond each of these.
        for (const budget of [{ usd: '0.0045' }, { tokens: 2300 }, { model_calls: 2 }, { tool_calls: 2 }]) {
            const [cap] = Object.keys(budget);
            const failing = await provider.script(look());
            const failed = await p.fail(loop(failing, { budget, on_budget: 'fail' }));
            assert.equal(failed.error.category, 'budget', JSON.stringify(failed.error));
            const reached = await p.one(failed, 'BUDGET_REACHED');
            assert.equal(reached.cap, cap);
            assert.equal(reached.scope, 'run');
            const stopping = await provider.script(look());
            const stopped = await p.play(loop(stopping, { budget, on_budget: 'stop' }));
            assert.equal(stopped.output.finish_reason, 'budget');
            assert.equal(stopped.output.text, 'Looking.');
            assert.equal(await asked(stopping), cap === 'tool_calls' ? 3 : 2);
        }
    });

    test('a person raises a cap, also after a restart, or says stop', async () => {
        for (const answer of [{ raise: '0.01' }, 'stop']) {
            const model = await provider.script(look(), look(), { texts: ['Done.'] });
            const run = await p.begin(loop(model, { budget: { usd: '0.0045' }, on_budget: 'ask' }));
            const now = await p.until(run, 'waiting_for_human');
            assert.equal((await p.one(run, 'HUMAN_PROMPT')).kind, 'budget');
            assert.equal(await asked(model), 2);
            await p.server.restart({ how: 'kill9' });
            for (const raise of ['-1', '0', 'much', '1e3', '', 0, -1, 1e-30, null])
                assert.equal((await p.api.post(`/approvals/${now.approval_id}/approve`, { input: { raise } })).status, 422, String(raise));
            await p.api.ok(p.api.post(`/approvals/${now.approval_id}/approve`, { input: answer }), 200);
            const end = await p.until(run, 'completed');
            assert.equal(end.output.finish_reason, answer === 'stop' ? 'budget' : 'stop');
            assert.equal(await asked(model), answer === 'stop' ? 2 : 3);
        }
    });

    test('what is raised is this cap and no other', async () => {
        const caps = [[{ model_calls: 1, tool_calls: 1 }, ['model_calls', 'tool_calls']], [{ seconds: 1, model_calls: 2 }, ['seconds', 'model_calls']], [{ tokens: 1200 }, ['tokens', 'tokens']]];
        for (const [budget, order] of caps) {
            if (budget.seconds) tool.answers.look = () => sleep(1050);
            const model = await provider.script(look());
            const run = await p.begin(loop(model, { budget, on_budget: 'ask' }));
            let before = null;
            for (const cap of order) {
                const now = await p.soon(async () => { const r = await p.api.run(run.run_id); return r.status === 'waiting_for_human' && r.approval_id !== before && r; });
                before = now.approval_id;
                assert.equal((await p.all(run, 'BUDGET_REACHED')).at(-1).cap, cap);
                await p.api.ok(p.api.post(`/approvals/${before}/approve`, { input: { raise: cap === 'tokens' ? 1100 : cap === 'seconds' ? 3600 : 1 } }), 200);
            }
            delete tool.answers.look;
            const last = await p.soon(async () => { const r = await p.api.run(run.run_id); return r.status === 'waiting_for_human' && r.approval_id !== before && r; });
            await p.api.ok(p.api.post(`/approvals/${last.approval_id}/reject`, {}), 200);
            await p.until(run, 'completed');
        }
    });

    test('tries count: a cap of calls holds for a provider that always fails', async () => {
        const model = await provider.script({ status: 500 });
        const run = await p.fail(loop(model, { retry: { max_attempts: 9, base_delay_ms: 1 }, budget: { model_calls: 3 }, on_budget: 'fail' }));
        assert.equal(run.error.category, 'budget');
        assert.equal(await asked(model), 3);
    });

    test('calls at the same time are reserved together: no cap is overshot by more than its calls in flight', async () => {
        const model = await provider.script(look(8), { texts: ['Done.'] });
        tool.calls.length = 0;
        const run = await p.play(loop(model, { budget: { tool_calls: 5 }, on_budget: 'stop', limits: { max_tool_calls_per_step: 16 } }));
        assert.ok(run.usage.tool_calls <= 5 && tool.calls.length <= 5, JSON.stringify(run.usage));
    });

    test('seconds', async () => {
        tool.answers.look = () => sleep(700);
        const model = await provider.script(look());
        const run = await p.play(loop(model, { budget: { seconds: 1 } }));
        delete tool.answers.look;
        assert.equal(run.output.finish_reason, 'budget');
        assert.ok(await asked(model) <= 3);
    });
});

test('limits of steps and of calls in a step', async () => {
    const endless = await provider.script(look());
    assert.equal((await p.fail(loop(endless, { limits: { max_steps: 3 } }))).error.code, 'tool_loop_limit');
    assert.equal(await asked(endless), 3);
    const stopped = await p.play(loop(await provider.script(look()), { limits: { max_steps: 2 }, on_limit: 'stop' }));
    assert.deepEqual([stopped.output.finish_reason, stopped.output.text], ['tool_loop_limit', 'Looking.']);
    assert.equal((await p.fail(loop(await provider.script(look(3)), { limits: { max_tool_calls_per_step: 2 } }))).error.code, 'tool_calls_limit');
});

describe('an answer that must fit a schema', () => {
    const output = { name: 'ticket', repairs: 2, schema: { type: 'object', required: ['priority'], additionalProperties: false,
        properties: { priority: { enum: ['low', 'high'] } } } };
    const texts = (text) => ({ texts: [text] });

    test('it is repaired, and the model is told what was wrong', async () => {
        for (const name of ['chat', 'responses', 'anthropic']) {
            const model = await provider.script(texts('Sure!'), texts('{"priority":"urgent"}'), texts('{"priority":"high"}'));
            const run = await p.play(agentOf({ provider: name, model }, { output }));
            assert.deepEqual(run.output.output, { priority: 'high' });
            assert.equal(run.usage.model_calls, 3);
            const bodies = (await provider.requests(model)).map((r) => r.body);
            assert.match(JSON.stringify(bodies[0]), /"ticket"|json_schema/);
            assert.match(JSON.stringify(bodies[2].messages ?? bodies[2].input), /priority/);
        }
    });

    test('it has as many chances as it is given', async () => {
        const model = await provider.script(texts('{"priority":7}'));
        const run = await p.fail(agentOf(model, { output }));
        assert.equal(run.error.code, 'invalid_output');
        assert.equal(await asked(model), 3);
    });
});

test('the conversation is kept with the thread, whole turns of it, and outlives a kill -9', async () => {
    const memory = { thread: true, max_messages: 6 };
    let thread;
    const say = async (text, ...turns) => {
        const model = await provider.script(...turns);
        const run = await p.play(loop(model, { memory }), text, thread && { thread: { thread_id: thread } });
        thread = run.thread_id;
        return (await provider.requests(model)).map((r) => r.body.messages.map((m) => [m.role, m.content ?? '']));
    };
    await say('one', look(1, ['First.']), { texts: ['1'] }); // four messages: user, assistant with a call, tool, assistant
    await p.server.restart({ how: 'kill9' });
    const [second] = await say('two', { texts: ['2'] });
    assert.deepEqual(second.map(([role]) => role), ['system', 'user', 'assistant', 'tool', 'assistant', 'user']);
    assert.deepEqual([second[0][1], second[1][1], second.at(-1)[1]], ['You help.', 'one', 'two']);
    await say('three', { texts: ['3'] }); // eight messages: the first turn, with its call, is forgotten as a whole
    const [fourth] = await say('four', { texts: ['4'] });
    assert.deepEqual(fourth.map(([, content]) => content), ['You help.', 'two', '2', 'three', '3', 'four']);
    const { values } = (await p.api.get(`/threads/${thread}`)).json;
    assert.deepEqual(values.messages.map((m) => m.role), ['user', 'assistant', 'user', 'assistant', 'user', 'assistant']);
});
