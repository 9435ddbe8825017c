// SPDX-License-Identifier: Apache-2.0
// The figures of /metrics that follow runs: what is there by status, who waits longest, tokens, refused writes.
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { sleep, unique } from './lib/client.mjs';
import { fixtureDefinition, graph, makeAgent, node } from './lib/fixtures.mjs';

// Name with labels -> value; each sample follows its HELP and TYPE.
const figures = async (base) => {
    const text = await (await fetch(`${base}/metrics`)).text();
    const found = new Map();
    let typed = '';
    for (const line of text.trim().split('\n')) {
        if (line.startsWith('# TYPE ')) typed = line.split(' ')[2];
        if (line.startsWith('#')) continue;
        const [, name, value] = /^(\S+) (\S+)$/.exec(line);
        assert.ok(name.startsWith(typed) && Number.isFinite(Number(value)), line);
        assert.ok(!found.has(name), `${name} twice`);
        found.set(name, Number(value));
    }
    return found;
};
const LIVE = ['pending', 'queued', 'running', 'waiting_for_human', 'resumed'];
const byStatus = (m) => Object.fromEntries(LIVE.map((status) => [status, m.get(`perdure_runs{status="${status}"}`)]));

suite('metrics', { concurrency: 1 }, (test, ctx) => {
    test('runs by status, also behind a restart, and the oldest pending run', { timeout: 60000 }, async ({ api, base, server }) => {
        const human = await makeAgent(api, fixtureDefinition('human'));
        assert.deepEqual(byStatus(await figures(base)), { pending: 0, queued: 0, running: 0, waiting_for_human: 0, resumed: 0 });
        const first = await api.create({ agent_id: human });
        const run = await api.waiting(first.run_id);
        const second = await api.create({ agent_id: human, thread: { thread_id: run.thread_id } });
        assert.equal(second.status, 'pending');
        const waiting = { pending: 1, queued: 0, running: 0, waiting_for_human: 1, resumed: 0 };
        assert.deepEqual(byStatus(await figures(base)), waiting);
        await server.restart();
        assert.deepEqual(byStatus(await figures(server.url)), waiting);
        const again = ctx.api.as(server.token);
        again.base = server.url;
        await sleep(1100);
        assert.ok((await figures(server.url)).get('perdure_oldest_pending_seconds') >= 1);
        await again.resume(first.run_id, { input: 1 });
        await again.until(first.run_id);
        await again.waiting(second.run_id);
        assert.deepEqual(byStatus(await figures(server.url)), { ...waiting, pending: 0 });
        await again.cancel(second.run_id);
        assert.deepEqual(byStatus(await figures(server.url)), { ...waiting, pending: 0, waiting_for_human: 0 });
    });

    test('tokens are those that models reported, and memory is not nothing', async ({ server }) => {
        const api = ctx.api.as(server.token);
        api.base = server.url;
        const before = await figures(server.url);
        const agent = await makeAgent(api, graph([node('say', 'model.chat', { provider: 'scripted', model: 'demo', prompt: 'Hello there' })]), unique('say'));
        const run = await api.createAndFinish({ agent_id: agent });
        const used = (await api.ledger(run.run_id)).filter((e) => e.type === 'MODEL_FINISHED').map((e) => e.payload.usage);
        const after = await figures(server.url);
        for (const kind of ['input', 'output']) {
            const name = `perdure_model_tokens_total{kind="${kind}"}`;
            assert.ok(after.get(name) > before.get(name), kind);
            assert.equal(after.get(name) - before.get(name), used.reduce((sum, u) => sum + (u[`${kind}_tokens`] ?? 0), 0));
        }
        assert.ok(used.length === 1 && after.get('perdure_resident_bytes') > 1e6 && after.has('perdure_heap_bytes')); // a sanitizer's heap says 0
        assert.equal(after.get('perdure_stale_writes_refused_total'), 0);
    });
});
