// SPDX-License-Identifier: Apache-2.0
// Agents with real protocols: the loop with parallel tool calls over each of them, streamed and whole; what the provider is told of
// the results, what the run says of usage and cost; retries, cut streams, and cancelling.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { KINDS, agentOf, everything, startPerdure, startProvider, startTool } from './lib.mjs';

let provider, tool, p;
const PRICES = { input: '2', cache_read: '0.2', cache_write: '2.5', output: '10', reasoning: '20' };

before(async () => {
    provider = await startProvider();
    tool = await startTool({ weather: { sky: 'rain' } });
    const whole = Object.fromEntries(Object.entries(KINDS).map(([name, kind]) =>
        [`${name}-whole`, { kind, base_url: provider.base, api_key_env: 'TEST_MODEL_KEY', stream: false }]));
    const prices = Object.fromEntries(['chat', 'responses', 'anthropic'].flatMap((name) => [[`${name}/*`, PRICES], [`${name}-whole/*`, PRICES]]));
    p = await startPerdure(provider, { providers: whole, prices,
        tools: { weather: tool.config('weather', { input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } }) },
        mcp_servers: { every: { command: [process.execPath, everything, 'stdio'] } } });
});
after(async () => {
    await p?.stop();
    tool?.stop();
    provider?.stop();
});

// What each protocol says of the results of tools, as the provider gets it: [id, text].
const resultsIn = {
    chat: (body) => body.messages.filter((m) => m.role === 'tool').map((m) => [m.tool_call_id, m.content]),
    responses: (body) => body.input.filter((m) => m.type === 'function_call_output').map((m) => [m.call_id, m.output]),
    anthropic: (body) => body.messages.flatMap((m) => (Array.isArray(m.content) ? m.content : [])).filter((c) => c.type === 'tool_result')
        .map((c) => [c.tool_use_id, typeof c.content === 'string' ? c.content : c.content.map((part) => part.text).join('')]),
};
const toolsIn = {
    chat: (body) => body.tools.map((t) => t.function.name),
    responses: (body) => body.tools.map((t) => t.name),
    anthropic: (body) => body.tools.map((t) => t.name),
};
const systemIn = {
    chat: (body) => body.messages[0].content,
    responses: (body) => body.instructions ?? body.input[0].content?.[0]?.text ?? body.input[0].content,
    anthropic: (body) => (typeof body.system === 'string' ? body.system : body.system[0].text),
};

for (const name of Object.keys(KINDS))
    for (const way of ['streamed', 'whole'])
        test(`${KINDS[name]}, ${way}: two tools at once, then an answer; usage and cost to the last digit`, async () => {
            const model = await provider.script(
                { texts: ['Let me', ' look.'], calls: [{ name: 'weather', arguments: { city: 'Ulm' } }, { name: 'every_echo', arguments: { message: 'grüß' } }],
                    usage: { input: 1000, output: 100 } },
                { texts: ['It', ' rains', ' 🌊.'], usage: { input: 2000, cached: 800, written: name === 'anthropic' ? 200 : 0, output: 300, reasoning: 100 } });
            tool.calls.length = 0;
            const run = await p.play(agentOf({ provider: way === 'whole' ? `${name}-whole` : name, model }, { tools: ['weather', 'every.echo'] }), { message: 'How is Ulm?' });
            assert.equal(run.output.text, 'It rains 🌊.');
            assert.equal(run.output.finish_reason, 'stop');
            assert.equal(run.output.steps, 2);
            assert.deepEqual(tool.calls.map((c) => c.body.arguments), [{ city: 'Ulm' }]);
            const requests = await provider.requests(model);
            assert.equal(requests.length, 2);
            assert.deepEqual(toolsIn[name](requests[0].body), ['weather', 'every_echo']);
            assert.equal(systemIn[name](requests[0].body), 'You help.');
            const results = resultsIn[name](requests[1].body);
            assert.deepEqual(results, [['call_0_0', '{"sky":"rain"}'], ['call_0_1', 'Echo: grüß']]);
            // 1000 x 2 + 100 x 10; then (2000 - 800 - written) x 2 + 800 x 0.2 + written x 2.5 + 200 x 10 + 100 x 20, per million
            const second = name === 'anthropic' ? '0.00666' : '0.00656';
            const cost = name === 'anthropic' ? '0.00966' : '0.00956';
            assert.deepEqual(run.usage, { input_tokens: 3000, output_tokens: 400, model_calls: 2, tool_calls: 2 });
            assert.equal(run.cost_usd, cost);
            assert.equal(run.cost_known, undefined);
            const calls = await p.all(run, 'MODEL_FINISHED');
            assert.deepEqual(calls.map((c) => c.cost_usd), ['0.003', second]);
            const written = name === 'anthropic' ? 200 : 0;
            assert.deepEqual(calls[1].usage.buckets, { input: 1200 - written, cache_read: 800, cache_write: written, output: 200, reasoning: 100 });
            assert.equal((await p.one(run, 'NODE_FINISHED')).cost_usd, cost);
            assert.equal((await p.api.get(`/threads/${run.thread_id}`)).json.cost_usd, cost);
            const deltas = (await p.all(run, 'MODEL_DELTA')).filter((d) => d.call_id === calls[1].call_id);
            if (way === 'streamed') assert.ok(deltas.length >= 2, JSON.stringify(deltas));
        });

describe('what goes wrong at the provider', () => {
    test('429 with Retry-After is waited for, and the events say so', async () => {
        for (const [name, headers, ms] of [['chat', { 'retry-after': '1' }, 1000], ['responses', { 'retry-after-ms': '600' }, 600], ['anthropic', { 'retry-after': '1' }, 1000]]) {
            const model = await provider.script({ status: 429, headers, message: 'slow down' }, { texts: ['ok'] });
            const run = await p.play(agentOf({ provider: name, model }));
            const [first, second] = await provider.requests(model);
            assert.ok(second.at - first.at >= ms - 5 && second.at - first.at < ms + 1500, `${name}: ${second.at - first.at} ms`);
            const failed = await p.one(run, 'MODEL_FAILED');
            assert.equal(failed.error.code, 'rate_limited');
            assert.equal(failed.will_retry, true);
            assert.equal(failed.retry_in_ms, ms);
            assert.equal(run.usage.model_calls, 2);
            assert.equal((await p.all(run, 'MODEL_STARTED'))[1].supersedes_call_id, failed.call_id);
        }
    });

    test('a stream that breaks after tokens were shown is a new call, and the events say which tokens count', async () => {
        for (const name of Object.keys(KINDS)) {
            const model = await provider.script({ texts: ['Wrong', ' words'], cut: 3, pace_ms: 5 }, { texts: ['Right', ' words'] });
            const run = await p.play(agentOf({ provider: name, model }, { retry: { base_delay_ms: 1 } }));
            assert.equal(run.output.text, 'Right words');
            const events = await p.events(run);
            const failed = events.find((e) => e.type === 'MODEL_FAILED').payload;
            assert.equal(failed.error.code, 'stream_cut');
            const started = events.filter((e) => e.type === 'MODEL_STARTED').map((e) => e.payload);
            assert.equal(started[1].supersedes_call_id, started[0].call_id);
            const superseded = new Set(started.map((s) => s.supersedes_call_id).filter(Boolean));
            const deltas = events.filter((e) => e.type === 'MODEL_DELTA').map((e) => e.payload);
            const text = (list) => list.map((d) => d.delta ?? d.text ?? '').join('');
            assert.equal(text(deltas.filter((d) => !superseded.has(d.call_id))), 'Right words');
            assert.equal(text(deltas.filter((d) => superseded.has(d.call_id))), 'Wrong words');
            // Nobody knows what the broken one cost: what was reserved for it counts, 4096 tokens of output among it.
            assert.equal(run.usage.model_calls, 2);
            assert.equal(run.usage.output_tokens, 4096 + 5);
            assert.ok(Number(run.cost_usd) > 4096 * 20 / 1e6 && Number(run.cost_usd) < 0.09, run.cost_usd);
        }
    });

    test('what is not worth trying again fails at once, with the provider\'s words', async () => {
        for (const [status, code, category] of [[401, 'authentication_failed', 'auth'], [404, 'not_found', 'not_found'], [400, 'invalid_request', 'validation']]) {
            const model = await provider.script({ status, message: 'no, because' });
            const run = await p.fail(agentOf({ provider: 'anthropic', model }));
            assert.equal(run.error.code, code);
            assert.equal(run.error.category, category);
            assert.match(run.error.message, /no, because/);
            assert.equal((await provider.requests(model)).length, 1);
        }
    });

    test('tries come to an end', async () => {
        const model = await provider.script({ status: 500 });
        const run = await p.fail(agentOf({ provider: 'responses', model }, { retry: { max_attempts: 3, base_delay_ms: 1 } }));
        assert.equal(run.error.code, 'provider_error');
        assert.equal((await provider.requests(model)).length, 3);
        assert.deepEqual((await p.all(run, 'MODEL_FAILED')).map((f) => f.will_retry ?? false), [true, true, false]);
    });

    test('cancelling closes the socket of the provider, and of the tool', async () => {
        for (const name of Object.keys(KINDS)) {
            const model = await provider.script({ texts: ['On', ' and', ' on'], hang: 2 });
            const run = await p.begin(agentOf({ provider: name, model }));
            await p.soon(async () => (await p.all(run, 'MODEL_DELTA')).length > 0);
            assert.equal((await p.api.cancel(run.run_id)).status, 200);
            assert.equal(await provider.closed(model), 'early');
        }
        let closed = 0;
        tool.answers.weather = (call, res) => new Promise((resolve) => { res.on('close', () => { closed++; resolve(); }); });
        const model = await provider.script({ calls: [{ name: 'weather', arguments: { city: 'x' } }] });
        const run = await p.begin(agentOf(model, { tools: ['weather'] }));
        await p.soon(() => tool.calls.some((c) => c.body.arguments.city === 'x'));
        await p.api.cancel(run.run_id);
        await p.soon(() => closed === 1);
        tool.answers.weather = { sky: 'rain' };
    });

    test('a kill -9 in the middle of an answer: a new call, the old tokens are superseded, finished tools are not asked again', async () => {
        const model = await provider.script({ calls: [{ name: 'weather', arguments: { city: 'before' } }] }, { texts: ['Half', ' an'], hang: 2 }, { texts: ['All', ' of it'] });
        const run = await p.begin(agentOf({ provider: 'anthropic', model }, { tools: ['weather'] }));
        await p.soon(async () => (await p.all(run, 'MODEL_DELTA')).some((d) => (d.delta ?? d.text) === 'Half'));
        await p.server.restart({ how: 'kill9' });
        const now = await p.until(run, 'completed');
        assert.equal(now.output.text, 'All of it');
        assert.equal(tool.calls.filter((c) => c.body.arguments.city === 'before').length, 1);
        assert.equal((await provider.requests(model)).length, 3);
        const started = await p.all(run, 'MODEL_STARTED');
        assert.equal(started.length, 3);
        assert.equal(started[2].supersedes_call_id, started[1].call_id);
        assert.equal(now.usage.model_calls, 3); // the lost one counts with what was reserved for it
        assert.equal(now.usage.output_tokens, 5 + 4096 + 5);
        assert.equal((await p.one(run, 'NODE_FINISHED')).cost_usd, now.cost_usd);
        assert.ok((await p.types(run)).includes('RUN_RECOVERED'));
    });
});
