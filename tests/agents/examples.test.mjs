// SPDX-License-Identifier: Apache-2.0
// examples/agents as its README tells: perdure run of an agent with an HTTP tool, and of one that asks and waits for approval.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { perdureBin, startServer } from '../conformance/lib/server.mjs';
import { here } from './lib.mjs';

const examples = path.join(here, '../../examples/agents');
const folder = mkdtempSync(path.join(tmpdir(), 'perdure-examples-'));
const secret = { ORDERS_SECRET: 'the-secret-of-the-orders' };
let service, said, config;

const perdure = (args, env = {}) => new Promise((resolve) => {
    const child = execFile(perdureBin(), args, { env: { ...process.env, ...env }, timeout: 30000 }, (error, out, err) => resolve({ code: error?.code ?? 0, out, err }));
    child.stdin.end();
});

before(async () => {
    service = spawn(process.execPath, [path.join(examples, 'orders.mjs')], { env: { ...process.env, ...secret, ORDERS_PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] });
    said = createInterface({ input: service.stdout })[Symbol.asyncIterator]();
    const port = /:(\d+)$/.exec((await said.next()).value)[1];
    config = path.join(folder, 'config.json');
    writeFileSync(config, readFileSync(path.join(examples, 'config.json'), 'utf8').replace('7171', port));
});
after(() => {
    service?.kill();
    rmSync(folder, { recursive: true, force: true });
});

// Port 7070 is where a server is looked for when none is named; where one runs, perdure run brings none of its own.
const taken = await new Promise((resolve) => {
    const socket = net.connect(7070, '127.0.0.1', () => { socket.destroy(); resolve('something listens on port 7070'); });
    socket.on('error', () => resolve(false));
});
const alone = (name) => ['--data', path.join(folder, name)];

test('an agent with a tool over HTTP', { skip: taken }, async () => {
    const { code, out, err } = await perdure(['run', path.join(examples, 'order-status.json'), '--config', config, '--input', '"Where is order 17?"', ...alone('a')], secret);
    assert.equal(code, 0, err);
    assert.match(out, /^Let me look that up\.\nOrder 17 left the warehouse yesterday/);
    assert.match(err, /tool order_status/);
    assert.match((await said.next()).value, /^order 17, idempotency key [0-9a-f-]{36}$/);
});

test('with a wrong secret the tool fails, and the agent goes on', { skip: taken }, async () => {
    const { code, err } = await perdure(['run', path.join(examples, 'order-status.json'), '--config', config, '--input', '"Where?"', ...alone('b')], { ORDERS_SECRET: 'another-secret' });
    assert.equal(code, 0, err);
    assert.match(err, /tool failed: .*signature is wrong/);
});

test('an agent that asks, and waits for approval, with answers over the command line', async () => {
    const server = await startServer();
    const at = ['--server', server.url, '--token', 'dev'];
    try {
        const asked = await perdure(['run', path.join(examples, 'refund.json'), '--input', '"A refund, please."', ...at]);
        assert.equal(asked.code, 4, asked.err);
        assert.equal(asked.out, ''); // the arguments of a tool are no text of the answer
        assert.match(asked.err, /asks: How much shall be refunded for order 17\?/);
        const run = /run ([0-9a-f-]{36})/.exec(asked.err)[1];
        const pending = async () => {
            for (let i = 0; i < 400; i++) {
                const { items } = JSON.parse((await perdure(['approvals', 'list', '--status', 'pending', '--json', ...at])).out);
                if (items.length) return items[0];
            }
            throw new Error('nothing is asked');
        };
        const first = await pending();
        assert.equal(first.kind, 'ask');
        assert.equal((await perdure(['approvals', 'approve', first.approval_id, '--input', '{"answer": "20 EUR", "is_freeform": true}', ...at])).code, 0);
        const second = await pending();
        assert.equal(second.kind, 'approval');
        assert.deepEqual(second.details, { tool: 'kv_write', arguments: { key: 'refund-17', value: '20.00 EUR' } });
        assert.equal((await perdure(['approvals', 'approve', second.approval_id, ...at])).code, 0);
        const { code, out } = await perdure(['runs', 'follow', run, ...at]);
        assert.equal(code, 0);
        assert.match(out, /The refund for order 17 is settled\./);
    } finally {
        await server.stop();
        server.removeData();
    }
});
