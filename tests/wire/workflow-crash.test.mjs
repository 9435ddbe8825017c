// SPDX-License-Identifier: Apache-2.0
// kill -9 in the middle of a fan-out over 1,000 items: no item is run again after its result was recorded, and the results keep
// the order of the items.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, sleep } from '../conformance/lib/client.mjs';
import { makeAgent } from '../conformance/lib/fixtures.mjs';
import { withServer } from '../conformance/lib/server.mjs';

const ITEMS = 1000;
const KILLS = 6;

const definition = {
    format: 1,
    workflow: {
        kind: 'workflow.v1',
        nodes: [{
            id: 'fan',
            type: 'map.fanout',
            input: {
                items: { from_input: 'list' },
                max_parallelism: 50,
                item_bindings: [{ to_placeholder: 'item' }],
                subnode: {
                    id: 'sub',
                    type: 'llm.responses',
                    input: {
                        request: {
                            model: 'scripted/demo',
                            script: { chunk: 65536, delay_ms: 40 },
                            input: [{ type: 'message', role: 'user', content: [{ type: 'text', text: '{{item}}' }] }],
                        },
                    },
                },
            },
        }],
        outputs: [{ name: 'all', from: 'fan', pointer: '/results' }],
    },
};

// What the scripted model says begins with what it was asked.
const asked = (result) => /“(item \d+)”/.exec(result.output[0].content[0].text)?.[1];

test('a fan-out over 1,000 items survives kill -9 again and again', { timeout: 120000 }, async () => {
    await withServer({}, async (server) => {
        const api = () => new Client(server.url, server.token);
        const agent = await makeAgent(api(), definition);
        const list = Array.from({ length: ITEMS }, (_, i) => `item ${i}`);
        const made = await api().create({ agent_id: agent, input: { list } });
        for (let i = 0; i < KILLS; i++) {
            await sleep(60 + 70 * i);
            await server.restart();
        }
        const run = await api().until(made.run_id, undefined, 90000);
        assert.equal(run.status, 'completed', JSON.stringify(run.error));
        assert.deepEqual(run.output.all.map(asked), list);

        const finished = new Map();
        const started = new Map();
        let recovered = 0;
        for (const event of await api().ledger(made.run_id)) {
            recovered += event.type === 'RUN_RECOVERED';
            const node = event.payload?.node;
            if (!node?.startsWith('fan:sub:')) continue;
            if (event.type === 'NODE_STARTED' || event.type === 'MODEL_STARTED')
                assert.ok(!finished.has(node), `${node} was run again after its result was recorded`);
            if (event.type === 'NODE_STARTED') started.set(node, (started.get(node) ?? 0) + 1);
            if (event.type === 'NODE_FINISHED') finished.set(node, event.seq);
        }
        assert.equal(finished.size, ITEMS);
        assert.ok([...started.values()].every((n) => n === 1));
        assert.ok(recovered > 0, 'no kill came while the run was at work');
    });
});
