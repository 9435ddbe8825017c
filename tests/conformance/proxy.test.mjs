// SPDX-License-Identifier: Apache-2.0
// S13 at scale: many followers behind a proxy that cuts connections at random byte positions. At least 1,000 cuts in
// total; each follower must see 1..n once each, in order. Set PROXY_SEED to repeat a failure.
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { RunsClient } from './lib/client.mjs';
import { startCuttingProxy } from './lib/proxy.mjs';

const CUTS = 1000;
const BOUND_MS = 25000;

suite('proxy', { args: ['--max-streams', '0'], fixtures: 'S' }, (test) => {
    test(`S13 ${CUTS} cuts, none lost, none twice`, { timeout: BOUND_MS + 20000 }, async ({ t, api, S, server }) => {
        const seed = Number(process.env.PROXY_SEED) || Date.now() % 1000000;
        t.diagnostic(`seed ${seed}`);
        const began = Date.now();
        const proxy = await startCuttingProxy({ port: server.port, seed, minBytes: 20, maxBytes: 9000, maxCuts: 4 * CUTS });
        const client = new RunsClient(proxy.url, api.token);
        let events = 0;
        let rounds = 0;
        try {
            while (proxy.stats.cuts < CUTS) {
                assert.ok(Date.now() - began < BOUND_MS, `${proxy.stats.cuts} cuts in ${BOUND_MS} ms, seed ${seed}`);
                rounds++;
                const runs = await Promise.all(Array.from({ length: 4 }, (_, i) => api.create({ agent_id: S, input: { ticks: 150 + i, interval_ms: 8 } })));
                const followed = await Promise.all(runs.flatMap((run) => Array.from({ length: 6 }, async () => {
                    const seqs = [];
                    for await (const e of client.follow(run.run_id, run.current_attempt_id, { baseDelayMs: 1, maxDelayMs: 8, maxReconnects: 200 })) {
                        if (e.type === 'run_event') seqs.push(e.seq);
                        else assert.notEqual(e.type, 'error', JSON.stringify(e));
                    }
                    return [run, seqs];
                })));
                const truth = new Map();
                for (const run of runs) truth.set(run.run_id, (await api.ledger(run.run_id)).length);
                for (const [run, seqs] of followed) {
                    const bad = seqs.findIndex((seq, i) => seq !== i + 1);
                    assert.equal(bad, -1, `seed ${seed}: follower of ${run.run_id} got ${seqs.slice(Math.max(0, bad - 3), bad + 3)} at ${bad}`);
                    assert.equal(seqs.length, truth.get(run.run_id), `seed ${seed}: not followed to the end`);
                    events += seqs.length;
                }
            }
        } finally {
            await proxy.close();
        }
        t.diagnostic(`${proxy.stats.cuts} cuts, ${proxy.stats.connections} connections, ${events} events, ${rounds} rounds in ${Date.now() - began} ms`);
    });
});
