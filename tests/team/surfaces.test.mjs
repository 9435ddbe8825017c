// SPDX-License-Identifier: Apache-2.0
// What a server offers of teams besides the run itself: as a node of a graph, with tools, against a real provider's protocol,
// benchmarks, the command, and what is refused.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Client } from '../conformance/lib/client.mjs';
import { graph, makeAgent, node } from '../conformance/lib/fixtures.mjs';
import { perdureBin, withServer } from '../conformance/lib/server.mjs';
import { follow, plain, scenarios } from './lib.mjs';

const say = (...texts) => texts.map((text) => ({ text, interval_ms: 2 }));
const team = (more = {}, script = say('one', 'two', 'three')) => ({ protocol: 'sequential', model: { provider: 'scripted', id: 'm', script }, ...more });
const teamNode = (name, config, next) => ({ ...node(name, 'team.run', config, next), execution_binding: 'team' });
const scenario = (id) => scenarios().find((s) => s.scenario.id.startsWith(id));

async function eventsOf(server, runId) {
    const events = [];
    await follow(server.url, server.token, runId, (event) => { events.push(event); });
    return events;
}

// A chat-completions server that knows the scenario: it answers a request with the step that the scenario's own request got,
// and refuses any other.
async function chatServer({ scenario: of, expected }, { failOnce = -1 } = {}) {
    const asked = expected.providerRequests.map(() => 0);
    const answered = [];
    const server = http.createServer(async (req, res) => {
        let text = '';
        for await (const part of req) text += part;
        const body = JSON.parse(text);
        const index = expected.providerRequests.findIndex((r) => JSON.stringify(r.messages) === JSON.stringify(body.messages) && r.temperature === body.temperature);
        if (index < 0) {
            res.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error: { message: 'nobody should ask this', type: 'invalid_request_error' } }));
            return;
        }
        if (++asked[index] === 1 && index === failOnce) {
            res.writeHead(503, { 'content-type': 'application/json' }).end(JSON.stringify({ error: { message: 'not yet', type: 'server_error' } }));
            return;
        }
        const step = of.provider.steps[index];
        const usage = { prompt_tokens: step.usage?.inputTokens ?? 0, completion_tokens: step.usage?.outputTokens ?? 0, total_tokens: step.usage?.totalTokens ?? 0 };
        await new Promise((r) => { setTimeout(r, 20); });
        if (res.destroyed) return;
        res.writeHead(200, { 'content-type': 'text/event-stream' });
        const base = { id: `c${index}`, object: 'chat.completion.chunk', created: 1, model: 'm' };
        const send = (choice, more = {}) => res.write(`data: ${JSON.stringify({ ...base, choices: choice ? [{ index: 0, ...choice }] : [], ...more })}\n\n`);
        for (const word of step.text.split(/(?<= )/)) send({ delta: { content: word }, finish_reason: null });
        send({ delta: {}, finish_reason: 'stop' });
        send(null, { usage });
        res.end('data: [DONE]\n\n');
        answered.push(index);
    });
    await new Promise((r) => { server.listen(0, '127.0.0.1', r); });
    return { asked, answered, url: `http://127.0.0.1:${server.address().port}/v1`, close: () => { server.closeAllConnections(); server.close(); } };
}

const command = (args, env = {}) => new Promise((resolve) => {
    const child = spawn(perdureBin(), args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (d) => { out += d; });
    child.stderr.on('data', (d) => { err += d; });
    child.on('close', (code) => { resolve({ code, out, err }); });
});

describe('teams on the surfaces', { concurrency: 2 }, () => {
    test('what has no trace, and what is asked wrongly', { timeout: 60000 }, () => withServer({}, async (server) => {
        const api = new Client(server.url, server.token);
        const wrong = async (answer, status, code) => {
            const res = await answer;
            assert.equal(res.status, status, res.text);
            assert.equal(res.json.code, code);
        };
        const plainAgent = await makeAgent(api, graph([node('v', 'core.value', { value: 1 })]));
        const other = await api.createAndFinish({ agent_id: plainAgent });
        await wrong(api.get(`/runs/${other.run_id}/trace`), 404, 'not_found');
        await wrong(api.get(`/runs/${other.run_id}/team-events`), 404, 'not_found');
        await wrong(api.get('/runs/01a1fa57-e57b-7265-8cf0-eb70b2a43af0/trace'), 404, 'run_not_found');
        await wrong(api.get('/runs/nonsense/team-events'), 404, 'run_not_found');
        const slow = await api.ok(api.post('/teams/runs', { team: team({}, [{ text: 'a b', delay_ms: 60000 }]), input: 'x' }), 201);
        await wrong(api.get(`/runs/${slow.run_id}/trace`), 409, 'invalid_run_state');
        await api.ok(api.cancel(slow.run_id), 200);
        await wrong(api.get(`/runs/${slow.run_id}/trace`), 409, 'invalid_run_state');
        const last = (await eventsOf(server, slow.run_id)).at(-1);
        assert.deepEqual([last.type, last.name, last.detail.code, last.detail.status], ['error', 'DogpileError', 'aborted', 'cancelled']);
        const two = await makeAgent(api, graph([teamNode('a', { ...team(), input: 'x' }, 'b'), teamNode('b', { ...team(), input: 'y' })]));
        const both = await api.createAndFinish({ agent_id: two });
        assert.equal(both.status, 'completed', JSON.stringify(both.error));
        await wrong(api.get(`/runs/${both.run_id}/trace`), 422, 'invalid_parameter');
        for (const [name, intent] of [['a', 'x'], ['b', 'y']]) {
            const trace = await api.ok(api.get(`/runs/${both.run_id}/trace`, { node: name }), 200);
            assert.deepEqual([trace.inputs.intent, trace.events.length, trace.runId], [intent, 7, both.run_id]);
        }
        await wrong(api.post('/teams/replay', { schemaVersion: '2.0' }), 422, 'validation_failed');
        await wrong(api.post('/teams/runs', { team: { protocol: 'ring' } }), 422, 'validation_failed');
        await wrong(api.post('/teams/benchmark', { config: {}, protocols: [] }), 422, 'validation_failed');
        await wrong(api.post('/teams/runs', { team: team(), input: ' ' }).then(async (r) => ({ status: 422, json: { code: (await api.until(r.json.run_id)).error.code } })), 422, 'invalid-configuration');
    }));

    test('a team is a node like any other, also over a kill', { timeout: 60000 }, () => withServer({}, async (server) => {
        const api = new Client(server.url, server.token);
        const agent = await makeAgent(api, graph([node('in', 'core.value', { value: { word: { $from: '/input/word' } } }, 'desk'),
            teamNode('desk', { ...team({ protocol: 'broadcast' }, [{ text: 'said', interval_ms: 5, delay_ms: 40 }]), input: { $from: '/nodes/in/output/word' } }, 'out'),
            node('out', 'core.value', { value: { $from: '/nodes/desk/output/output' } })]));
        const { run_id: id } = await api.create({ agent_id: agent, input: { word: 'Decide.' } });
        await follow(server.url, server.token, id, (event) => event.type !== 'agent-turn');
        await server.restart();
        const run = await api.until(id);
        assert.equal(run.output, 'planner:agent-1 => said\ncritic:agent-2 => said\nsynthesizer:agent-3 => said');
        const trace = await api.ok(api.get(`/runs/${id}/trace`), 200);
        assert.equal(trace.inputs.intent, 'Decide.');
        assert.deepEqual(trace.events.map((e) => e.type), ['role-assignment', 'role-assignment', 'role-assignment', 'agent-turn', 'agent-turn', 'agent-turn', 'broadcast',
            'agent-turn', 'agent-turn', 'agent-turn', 'broadcast', 'final']);
    }));

    for (const id of ['02', '08', '12', '16']) {
        const one = scenario(id);
        test(`${one.scenario.id} with a chat-completions server: its requests and no others, once each, over kills`, { timeout: 120000 }, async () => {
            const chat = await chatServer(one);
            const config = { providers: { desk: { kind: 'openai-chat', base_url: chat.url, api_key_env: 'DESK_KEY' } }, prices: { 'desk/m': { input: 1, output: 2 } } };
            try {
                await withServer({ config, env: { DESK_KEY: 'k' } }, async (server) => {
                    const api = new Client(server.url, server.token);
                    const { intent, ...options } = one.scenario.options;
                    const made = await api.ok(api.post('/teams/runs', { team: { ...options, model: { provider: 'desk', model: 'm', id: one.scenario.provider.id } }, input: intent }), 201);
                    for (let seen = 0, over = false; !over;) {
                        let now = 0;
                        await follow(server.url, server.token, made.run_id, (event) => {
                            over = event.type === 'final' || event.type === 'error';
                            return ++now <= seen && !over;
                        });
                        seen = now;
                        if (!over) await server.restart();
                    }
                    const run = await api.until(made.run_id);
                    assert.equal(run.status, 'completed', JSON.stringify(run.error));
                    const trace = await api.ok(api.get(`/runs/${made.run_id}/trace`), 200);
                    const want = plain(one.expected.result.trace, one.expected.result.trace.runId);
                    const have = plain(trace, trace.runId);
                    const { tools, ...bare } = one.scenario.options;
                    assert.ok(!tools && bare.intent === trace.inputs.intent);
                    assert.deepEqual(have.providerCalls.map((c) => c.request), want.providerCalls.map((c) => c.request));
                    assert.deepEqual(have.transcript, want.transcript);
                    assert.equal(have.finalOutput.output, want.finalOutput.output);
                    const { usd, inputTokens, outputTokens } = have.finalOutput.cost;
                    assert.ok(usd > 0 && Math.abs(usd - (inputTokens + 2 * outputTokens) / 1e6) < 1e-9, `the host's price of the calls is the team's cost: ${usd}`);
                    const finished = (await api.ledger(made.run_id)).filter((e) => e.type === 'MODEL_FINISHED').length;
                    assert.equal(finished, want.providerCalls.length, 'one answer per call');
                    const lost = (await api.ledger(made.run_id)).filter((e) => e.type === 'MODEL_FAILED').length;
                    assert.ok(chat.asked.reduce((a, b) => a + b) <= finished + lost, 'only what was lost was asked again');
                });
            } finally {
                chat.close();
            }
        });
    }

    test('a run that failed and is tried again goes on behind its last turn; trace and events are of both attempts', { timeout: 60000 }, async () => {
        const one = scenario('02');
        const chat = await chatServer(one, { failOnce: 1 });
        try {
            await withServer({ config: { providers: { desk: { kind: 'openai-chat', base_url: chat.url, api_key_env: 'DESK_KEY' } } }, env: { DESK_KEY: 'k' } }, async (server) => {
                const api = new Client(server.url, server.token);
                const { intent, ...options } = one.scenario.options;
                const made = await api.ok(api.post('/teams/runs', { team: { ...options, model: { provider: 'desk', model: 'm', id: one.scenario.provider.id, retry: { max_attempts: 1 } } }, input: intent }), 201);
                const failed = await api.until(made.run_id);
                assert.equal(failed.status, 'failed');
                const stopped = await eventsOf(server, made.run_id);
                assert.deepEqual([stopped.at(-1).type, stopped.at(-1).detail.code], ['error', 'provider-unavailable']);
                await api.ok(api.post(`/runs/${made.run_id}/retry`, {}), 200);
                const run = await api.until(made.run_id);
                assert.deepEqual([run.status, run.current_attempt_no], ['completed', 2]);
                const trace = await api.ok(api.get(`/runs/${made.run_id}/trace`), 200);
                const bare = (t) => plain(t, t.runId).events.map(({ cost, ...event }) => event);
                assert.deepEqual(bare(trace), bare(one.expected.result.trace));
                assert.deepEqual(await eventsOf(server, made.run_id), trace.events);
                assert.deepEqual(chat.asked, [1, 2, ...chat.asked.slice(2).map(() => 1)]);
            });
        } finally {
            chat.close();
        }
    });

    test('tools: called one by one, their results in events and transcript', { timeout: 60000 }, async () => {
        const calls = [];
        let busy = 0;
        let most = 0;
        const tools = http.createServer(async (req, res) => {
            let text = '';
            for await (const part of req) text += part;
            most = Math.max(most, ++busy);
            calls.push(JSON.parse(text));
            await new Promise((r) => { setTimeout(r, 15); });
            busy--;
            const good = calls.at(-1).tool === 'team_lookup';
            res.writeHead(good ? 200 : 400, { 'content-type': 'application/json' }).end(JSON.stringify(good ? { found: calls.at(-1).arguments.key } : { error: 'no' }));
        });
        await new Promise((r) => { tools.listen(0, '127.0.0.1', r); });
        const url = `http://127.0.0.1:${tools.address().port}/`;
        const tool = (name) => ({ kind: 'http', url, description: name, input_schema: { type: 'object' }, repeat_safe: true });
        const config = { tools: { team_lookup: tool('looks up'), team_judge: tool('says no') }, outbound: { allow: ['127.0.0.1'] } };
        const manifest = (id) => ({ identity: { id, name: id }, inputSchema: { kind: 'json-schema', schema: { type: 'object' } } });
        const requests = [{ toolId: 'team_lookup', input: { key: 'a' } }, { toolId: 'team_judge', input: {}, toolCallId: 'mine' }, { toolId: 'absent', input: { x: 1 } }, { toolId: 'team_lookup', input: { key: 'b' } }];
        try {
            await withServer({ config }, async (server) => {
                const api = new Client(server.url, server.token);
                const made = await api.ok(api.post('/teams/runs', { team: team({ protocol: { kind: 'sequential', maxTurns: 1 }, tools: [manifest('team_lookup'), manifest('team_judge')] },
                    [{ text: 'done', interval_ms: 1, answer: { toolRequests: requests } }]), input: 'x' }), 201);
                const run = await api.until(made.run_id);
                assert.equal(run.status, 'completed', JSON.stringify(run.error));
                const trace = await api.ok(api.get(`/runs/${run.run_id}/trace`), 200);
                const results = trace.transcript[0].toolCalls;
                assert.deepEqual(results.map((c) => [c.tool.id, c.toolCallId.replace(run.run_id, 'RUN'), c.result.type, c.result.output ?? c.result.error.code]), [
                    ['team_lookup', 'RUN:tool-1', 'success', { found: 'a' }], ['team_judge', 'mine', 'error', results[1].result.error.code],
                    ['absent', 'RUN:tool-3', 'error', 'unavailable'], ['team_lookup', 'RUN:tool-4', 'success', { found: 'b' }]]);
                assert.deepEqual(trace.events.map((e) => e.type), ['role-assignment', ...requests.flatMap(() => ['tool-call', 'tool-result']), 'agent-turn', 'final']);
                assert.deepEqual(calls.map((c) => c.arguments), [{ key: 'a' }, {}, { key: 'b' }]);
                assert.equal(calls[0].context.role, 'planner');
                assert.deepEqual(await eventsOf(server, run.run_id), trace.events);
                assert.equal(most, 1, 'one by one');
                const again = await api.ok(api.post('/teams/runs', { team: team({ protocol: { kind: 'sequential', maxTurns: 1 }, tools: [manifest('team_lookup'), manifest('team_judge')] },
                    [{ text: 'done', interval_ms: 1, delay_ms: 30, answer: { toolRequests: requests } }]), input: 'x' }), 201);
                for (let seen = 0, over = false; !over;) {
                    let now = 0;
                    await follow(server.url, server.token, again.run_id, (event) => {
                        over = event.type === 'final' || event.type === 'error';
                        return ++now <= seen && !over;
                    });
                    seen = now;
                    await server.restart();
                }
                const second = await api.ok(api.get(`/runs/${again.run_id}/trace`), 200);
                assert.deepEqual(plain(second, second.runId), plain(trace, trace.runId), 'killed at every event');
            });
        } finally {
            tools.close();
        }
    });

    test('a follower that comes back goes on where it was', { timeout: 60000 }, () => withServer({}, async (server) => {
        const api = new Client(server.url, server.token);
        const made = await api.ok(api.post('/teams/runs', { team: { ...team({}, say('a b c', 'd e f', 'g')), model: { provider: 'scripted', stream: true, script: say('a b c', 'd e f', 'g') } }, input: 'x' }), 201);
        await api.until(made.run_id);
        const get = async (after) => (await api.get(`/runs/${made.run_id}/team-events`, {}, { headers: { Accept: 'text/event-stream', ...(after ? { 'Last-Event-ID': after } : {}) } })).text
            .split('\n\n').filter((block) => block.includes('event: team_event')).map((block) => [/^id: (\d+)$/m.exec(block)[1], /^data: (.*)$/m.exec(block)[1]]);
        const all = await get();
        assert.equal(all.filter(([, data]) => JSON.parse(data).type === 'model-output-chunk').length, 7);
        for (const at of [0, 3, all.length - 2]) assert.deepEqual(await get(all[at][0]), all.filter(([id]) => Number(id) > Number(all[at][0])));
    }));

    test('followers that are slow, late or go away: each gets every event once, in order', { timeout: 60000 }, () => withServer({}, async (server) => {
        const api = new Client(server.url, server.token);
        const text = 'word '.repeat(6000);
        const made = await api.ok(api.post('/teams/runs', { input: 'x', team: { protocol: 'shared', model: { provider: 'scripted', stream: true, script: { text, chunk: 300, interval_ms: 4 } } } }), 201);
        const get = (signal) => fetch(`${server.url}/v1/api/runs/${made.run_id}/team-events`, { signal, headers: { Authorization: `Bearer ${server.token}`, Accept: 'application/x-ndjson' } });
        const all = async (delay) => {
            const chunks = [];
            for await (const bytes of (await get()).body) {
                chunks.push(bytes);
                if (delay) await new Promise((r) => { setTimeout(r, delay); });
            }
            return Buffer.concat(chunks).toString('utf8').split('\n').filter(Boolean);
        };
        const leave = async (after) => {
            const gone = new AbortController();
            try {
                let n = 0;
                for await (const bytes of (await get(gone.signal)).body) if ((n += bytes.length) > after) gone.abort();
            } catch (error) {
                assert.equal(error.name, 'AbortError');
            }
        };
        const [fast, slow] = await Promise.all([all(), all(2), ...[1, 20000, 200000, 900000].map(leave)]);
        const late = await all();
        const trace = await api.ok(api.get(`/runs/${made.run_id}/trace`), 200);
        assert.equal(fast.length, 3 + 300 + 3 + 1);
        assert.ok(trace.events.every((event, i) => JSON.stringify(event) === fast[i]), 'the bytes of the stream are those of the trace');
        assert.ok(fast.every((line, i) => line === slow[i] && line === late[i]));
        assert.deepEqual([slow.length, late.length, trace.events.length], [fast.length, fast.length, fast.length]);
    }));

    test('benchmark: the artifacts of the contract; a repeat waits for the same runs', { timeout: 60000 }, () => withServer({}, async (server) => {
        const api = new Client(server.url, server.token);
        const { scenario: of, expected } = scenario('23');
        const { config, protocols } = of.benchmark;
        const script = of.provider.steps.map((s) => ({ text: s.text, interval_ms: 1, usage: null, answer: { usage: s.usage, costUsd: s.costUsd } }));
        const body = { config: { ...config, model: { ...config.model, provider: 'scripted', id: of.provider.id, script } }, protocols };
        const answer = await api.ok(api.post('/teams/benchmark', body, { headers: { 'Idempotency-Key': 'k' } }), 200);
        const bare = (artifact) => {
            const { __sha256, ...copy } = plain(artifact, artifact.runId);
            for (const list of [copy.trace.providerCalls]) for (const call of list) delete call.response.finishReason;
            return copy;
        };
        assert.deepEqual(answer.artifacts.map(bare), expected.artifacts.map(bare));
        const again = await api.ok(api.post('/teams/benchmark', body, { headers: { 'Idempotency-Key': 'k' } }), 200);
        assert.deepEqual([again.reused, again.runs], [true, answer.runs]);
        const slow = { ...body.config, model: { ...body.config.model, script: { text: 'x', delay_ms: 400 } } };
        const early = await api.ok(api.post('/teams/benchmark', { config: slow, protocols, timeout_seconds: 0 }), 200);
        assert.deepEqual([early.timed_out, early.artifacts], [true, protocols.map(() => null)]);
    }));

    test('the command: run, replay, bench', { timeout: 60000 }, () => withServer({}, async (server) => {
        const api = new Client(server.url, server.token);
        const dir = mkdtempSync(path.join(tmpdir(), 'perdure-team-'));
        const env = { PERDURE_URL: server.url, PERDURE_TOKEN: server.token };
        const file = (name, value) => { writeFileSync(path.join(dir, name), JSON.stringify(value)); return path.join(dir, name); };
        try {
            const trace = path.join(dir, 'trace.json');
            const run = await command(['team', 'run', file('team.json', { team: team() }), '--input', 'Say it.', '--trace', trace], env);
            assert.deepEqual([run.code, run.out], [0, 'three\n'], run.err);
            assert.match(run.err, /completed: 3 turns, \d+ tokens, \$0\.0000/);
            const id = /run ([0-9a-f-]{36})/.exec(run.err)[1];
            const written = JSON.parse(readFileSync(trace, 'utf8'));
            assert.deepEqual(written, await api.ok(api.get(`/runs/${id}/trace`), 200));
            const events = await command(['team', 'run', file('bare.json', team({ intent: 'Say it.' })), '--ndjson'], env);
            assert.equal(events.code, 0, events.err);
            const lines = events.out.trim().split('\n').map((l) => JSON.parse(l));
            assert.deepEqual(lines, (await api.ok(api.get(`/runs/${lines[0].runId}/trace`), 200)).events);
            const replay = await command(['team', 'replay', trace]);
            assert.deepEqual(JSON.parse(replay.out), await api.ok(api.post('/teams/replay', written), 200));
            assert.deepEqual((await command(['team', 'replay', trace, '--ndjson'])).out.trim().split('\n').map((l) => JSON.parse(l)), written.events);
            const failed = await command(['team', 'run', file('bad.json', team({}, [{ error: { status: 401, message: 'no key' } }])), '--input', 'x'], env);
            assert.equal(failed.code, 1);
            assert.match(failed.err, /no key/);
            assert.equal((await command(['team', 'run', file('odd.json', { protocol: 'ring' }), '--input', 'x'], env)).code, 5);
            const bench = await command(['team', 'bench', file('bench.json', { task: { id: 't', intent: 'x' }, budget: { tier: 'fast' }, model: { provider: 'scripted', script: say('w') } })], env);
            assert.equal(bench.code, 0, bench.err);
            for (const name of ['sequential', 'broadcast', 'shared', 'coordinator']) assert.match(bench.out, new RegExp(`^${name} +completed +100 `, 'm'));
        } finally {
            rmSync(dir, { recursive: true, force: true });
        }
    }));
});
