// SPDX-License-Identifier: Apache-2.0
// Teams as runs of a real server: every scenario of the contract with the scripted provider, its trace, its events, a
// strict replay, and kill -9 at every event.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Client } from '../conformance/lib/client.mjs';
import { makeAgent } from '../conformance/lib/fixtures.mjs';
import { withServer } from '../conformance/lib/server.mjs';
import { definition, follow, plain, plainTrace, scenarios } from './lib.mjs';

const single = scenarios().filter(({ scenario }) => scenario.mode !== 'benchmark' && scenario.mode !== 'replay' && !scenario.tools);
const options = { args: ['--heartbeat-ms', '500'] };

async function eventsOf(server, runId) {
    const events = [];
    await follow(server.url, server.token, runId, (event) => { events.push(event); });
    return events;
}

// No call is made again whose answer is in the ledger, and each call of the trace was asked for once.
function checkCalls(ledger, calls, failed = 0) {
    const finished = new Set(ledger.filter((e) => e.type === 'MODEL_FINISHED').map((e) => e.payload.call_id));
    const started = ledger.filter((e) => e.type === 'MODEL_STARTED');
    for (const { payload } of started) assert.ok(!finished.has(payload.supersedes_call_id), `call ${payload.supersedes_call_id} had an answer and was made again`);
    assert.equal(started.filter((e) => !e.payload.supersedes_call_id).length, calls + failed);
    assert.equal(finished.size, calls);
}

describe('teams as runs', { concurrency: 2 }, () => {
    for (const one of single) {
        const { scenario, expected } = one;
        test(`${scenario.id}: trace, events, replay`, { timeout: 60000 }, () => withServer(options, async (server) => {
            const api = new Client(server.url, server.token);
            const made = definition(one);
            const agent = await makeAgent(api, made.definition);
            const run = await api.createAndFinish({ agent_id: agent, input: made.intent });
            const events = await eventsOf(server, run.run_id);
            const answer = await api.get(`/runs/${run.run_id}/trace`);
            if (expected.error) {
                assert.equal(run.status, 'failed');
                assert.equal(answer.status, 409);
                assert.deepEqual(events.map((e) => e.type), expected.events.map((e) => e.type));
                assert.equal(events.at(-1).detail.code, expected.error.code);
                return;
            }
            assert.equal(run.status, 'completed', JSON.stringify(run.error));
            assert.equal(answer.status, 200, answer.text);
            assert.deepEqual(plainTrace(answer.json), plainTrace(expected.result.trace));
            assert.deepEqual(events, answer.json.events, 'the stream is what the trace holds');
            const replayed = await api.ok(api.post('/teams/replay', answer.json), 200);
            assert.equal(replayed.output, expected.result.output);
            assert.deepEqual(plain(replayed.transcript, run.run_id), plain(expected.result.transcript, expected.result.trace.runId));
            assert.deepEqual(Object.keys(replayed), expected.replay?.topLevelKeys ?? Object.keys(replayed));
            await strictReplay(api, run, answer.json);
        }));
    }

    async function strictReplay(api, run, trace) {
        const before = await modelCalls(api);
        const { items } = await api.ok(api.get(`/runs/${run.run_id}/checkpoints/index`), 200);
        const start = items.find((c) => c.kind === 'start');
        assert.ok(before > 0);
        const made = await api.ok(api.post(`/runs/${run.run_id}/checkpoints/${start.checkpoint_id}/replay`, { mode: 'strict' }), 201);
        const again = await api.until(made.run_id);
        assert.equal(again.status, 'completed', JSON.stringify(again.error));
        const second = await api.ok(api.get(`/runs/${again.run_id}/trace`), 200);
        assert.deepEqual(plain(second, second.runId), plain(trace, trace.runId));
        assert.equal(await modelCalls(api), before, 'nobody was called');
    }

    async function modelCalls(api) {
        const text = await (await fetch(`${api.base}/metrics`)).text();
        return Number(/^\S*model_calls_total (\d+)$/m.exec(text)[1]);
    }

    for (const one of single) {
        const { scenario, expected } = one;
        test(`${scenario.id}: kill -9 at every event`, { timeout: 180000 }, () => withServer(options, async (server) => {
            const api = new Client(server.url, server.token);
            const made = definition(one, { pace: 30 });
            const agent = await makeAgent(api, made.definition);
            const { run_id: id } = await api.create({ agent_id: agent, input: made.intent });
            let seen = [];
            for (let over = false; !over;) {
                const now = [];
                await follow(server.url, server.token, id, (event, line) => {
                    now.push(line);
                    over = event.type === 'final' || event.type === 'error';
                    return now.length <= seen.length && !over;
                });
                if (scenario.provider.streaming !== true) assert.deepEqual(now.slice(0, seen.length), seen, 'what was told stays told');
                seen = now;
                await server.restart();
            }
            const run = await api.until(id);
            if (expected.error) checkCalls(await api.ledger(id), expected.providerRequests.length - 1, 1);
            else checkCalls(await api.ledger(id), expected.result.trace.providerCalls.length);
            if (expected.error) {
                assert.equal(run.status, 'failed');
                return;
            }
            const trace = await api.ok(api.get(`/runs/${id}/trace`), 200);
            assert.deepEqual(plainTrace(trace), plainTrace(expected.result.trace));
        }));
    }
});
