// SPDX-License-Identifier: Apache-2.0
// Specifications that take long to compile: compiled beside the engine's thread, with the same answers as small ones, and nothing is
// left behind when the client goes away meanwhile. Hostile ones are refused with issues.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer } from '../conformance/lib/server.mjs';

let server;
const headers = () => ({ Authorization: `Bearer ${server.token}`, 'Content-Type': 'application/json' });

async function post(path, body) {
    const response = await fetch(`${server.url}/api/v1${path}`, { method: 'POST', headers: headers(), body: JSON.stringify(body) });
    return { status: response.status, json: await response.json() };
}
const get = async (path) => (await fetch(`${server.url}/api/v1${path}`, { headers: headers() })).json();

// A chain of joins behind a model with a long text: some hundred KiB.
const large = (text) => ({
    kind: 'workflow',
    model: 'scripted/demo',
    nodes: [
        { id: 'n0', type: 'llm', user: `${text} ${'x'.repeat(100000)}`, script: { text } },
        ...Array.from({ length: 1999 }, (_, i) => ({ id: `n${i + 1}`, type: 'join.all', depends_on: ['n0'] })),
    ],
    outputs: [{ name: 'said', from: 'n0', pointer: '/output/0/content/0/text' }],
});

async function end(run) {
    for (let i = 0; i < 500; i++) {
        const now = await get(`/runs/${run}`);
        if (!['running', 'waiting'].includes(now.status)) return now;
        await sleep(50);
    }
    return assert.fail('the run does not end');
}

describe('large specifications', { concurrency: 1 }, () => {
    before(async () => { server = await startServer({ dev: true }); });
    after(async () => {
        await server?.stop();
        server?.removeData();
    });

    test('create, compile and create from the hash agree, and the run runs', async () => {
        const made = await post('/runs', { spec: large('one') });
        assert.equal(made.status, 200, JSON.stringify(made.json));
        const compiled = await post('/workflows/compile', large('one'));
        assert.equal(compiled.status, 200);
        assert.equal(compiled.json.plan_hash, made.json.plan_hash);
        const again = await post('/runs', { plan_hash: made.json.plan_hash });
        assert.equal(again.status, 200);
        for (const run of [made.json.run_id, again.json.run_id])
            assert.deepEqual((await end(run)).outputs, { said: 'one' });
    });

    test('compile alone keeps the plan', async () => {
        const compiled = await post('/workflows/compile', large('two'));
        assert.equal((await post('/runs', { plan_hash: compiled.json.plan_hash })).status, 200);
    });

    test('a repeat is the same run, another request with the key is a conflict', async () => {
        const body = { spec: large('three'), options: { idempotency_key: 'large' } };
        const [a, b] = await Promise.all([post('/runs', body), post('/runs', body)]);
        assert.equal(a.status, 200);
        assert.equal(a.json.run_id, b.json.run_id);
        assert.equal((await post('/runs', { ...body, spec: large('four') })).status, 409);
    });

    test('what is wrong with the rest of the request is said all the same', async () => {
        assert.equal((await post('/runs', { spec: large('five'), input: 3 })).json.code, 'INVALID_INPUT');
        assert.equal((await post('/runs', { spec: large('five'), plan_hash: 'x' })).json.code, 'INVALID_INPUT');
        assert.equal((await post('/runs', { spec: large('five'), session_id: '01a1fa6d-6396-715a-9f9b-26c9825397b0' })).status, 404);
        const spec = { ...large('five'), inputs: [{ name: 'x', required: true }] };
        assert.equal((await post('/runs', { spec })).json.issues[0].code, 'INPUT_REQUIRED');
    });

    test('hostile ones are refused with issues', async () => {
        const many = { kind: 'workflow', nodes: Array.from({ length: 100000 }, (_, i) => ({ id: `n${i}`, type: 'join.all' })), outputs: [{ name: 'o', from: 'n0' }] };
        const schema = Object.fromEntries(Array.from({ length: 200000 }, (_, i) => [`k${i}`, i]));
        const wide = { ...large('six'), nodes: [{ id: 'n0', type: 'llm', user: 'x', output_format: { type: 'json_schema', json_schema: { name: 's', schema } } }] };
        const ring = { ...many, nodes: Array.from({ length: 10000 }, (_, i) => ({ id: `n${i}`, type: 'join.all', depends_on: [`n${(i + 1) % 10000}`] })) };
        for (const [spec, code] of [[many, 'LIMIT_EXCEEDED'], [wide, 'LIMIT_EXCEEDED'], [ring, 'CYCLE']])
            for (const answer of [await post('/runs', { spec }), await post('/workflows/compile', spec)]) {
                assert.equal(answer.status, 400, JSON.stringify(answer.json).slice(0, 300));
                assert.equal(answer.json.issues[0].code, code);
            }
    });

    test('clients that go away while theirs is compiled leave a server that works', async () => {
        for (const path of ['/runs', '/workflows/compile', '/workflows/lint'])
            for (let i = 0; i < 5; i++) {
                const body = JSON.stringify(path === '/runs' ? { spec: large(`gone ${i}`) } : large(`gone ${i}`));
                const request = http.request(`${server.url}/api/v1${path}`, { method: 'POST', headers: headers() });
                request.on('error', () => {});
                request.end(body);
                await sleep(4 * i);
                request.destroy();
            }
        const made = await post('/runs', { spec: large('last') });
        assert.deepEqual((await end(made.json.run_id)).outputs, { said: 'last' });
    });
});
