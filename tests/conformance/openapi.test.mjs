// SPDX-License-Identifier: Apache-2.0
// GET /openapi.json, and the check that holds all answers of these tests against it: that it is at work, and that it finds what is wrong.
import Ajv from 'ajv/dist/2020.js';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Client, rawRequest } from './lib/client.mjs';
import { answersChecked, build, checkAnswer, checkFrame, checking, complaint } from './lib/openapi.mjs';
import { suite } from './lib/harness.mjs';

suite('openapi.json', { fixtures: 'E' }, (add) => {
    add('it is served without a credential, and is a document of version 3.1', async ({ anonymous }) => {
        const res = await anonymous.get('/openapi.json');
        assert.equal(res.status, 200);
        assert.match(res.headers.get('content-type'), /^application\/json/);
        const { openapi, info, paths, components } = res.json;
        assert.deepEqual([openapi, info.title, typeof info.version], ['3.1.0', 'Perdure', 'string']);
        assert.ok(Object.keys(paths).length >= 40);
        const ids = Object.values(paths).flatMap((item) => Object.entries(item)).filter(([verb]) => verb !== 'parameters').map(([, o]) => o.operationId);
        assert.equal(new Set(ids).size, ids.length, 'operationId is unique');
        for (const [path, item] of Object.entries(paths)) {
            const named = [...path.matchAll(/\{(\w+)\}/g)].map((m) => m[1]);
            assert.deepEqual((item.parameters ?? []).filter((p) => p.in === 'path').map((p) => p.name), named, path);
        }
        for (const schema of Object.values(components.schemas)) new Ajv({ strict: false, validateFormats: false }).validateSchema(schema, true);
    });

    add('every answer that the client sees is looked at', async ({ api, base, E }) => {
        assert.ok(checking);
        const before = answersChecked();
        await api.createAndFinish({ agent_id: E });
        await rawRequest(base, { path: '/healthz' });
        assert.ok(answersChecked() >= before + 3);
    });

    add('what is not described is found', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const good = await api.get(`/runs/${run.run_id}`);
        const wrong = (change) => assert.throws(() => checkAnswer({ ...good, ...change }), /not as openapi.json says/, JSON.stringify(change));
        checkAnswer(good);
        wrong({ json: { ...good.json, surprise: 1 } });
        wrong({ json: { ...good.json, status: 'done' } });
        wrong({ json: { ...good.json, created_at: 'yesterday' } });
        wrong({ json: Object.fromEntries(Object.entries(good.json).filter(([key]) => key !== 'run_id')) });
        wrong({ json: undefined });
        wrong({ status: 202 });
        wrong({ status: 404 });
        wrong({ headers: new Headers({ 'content-type': 'text/html' }) });
        wrong({ target: '/v1/api/elsewhere' });
        wrong({ method: 'PUT' });
        assert.throws(() => checkFrame({ event: 'run_event', data: { seq: 1 } }), /not as openapi.json says/);
        assert.throws(() => checkFrame({ event: 'news', data: {} }), /not as openapi.json says/);
    });
});

describe('the check itself', () => {
    const ok = (schema) => ({ description: '', content: { 'application/json': { schema } } });
    const book = build({ paths: {
        '/a/{id}': { get: { responses: { 200: ok({ $ref: '#/components/schemas/Both' }) } } },
        '/a/fixed': { get: { responses: { 204: { description: '' } } } },
    }, components: { schemas: {
        Error: { type: 'object', properties: { code: { type: 'string' } }, required: ['code'] },
        One: { type: 'object', properties: { one: { type: 'integer' } }, required: ['one'] },
        Both: { allOf: [{ $ref: '#/components/schemas/One' }, { type: 'object', properties: { two: { $ref: '#/components/schemas/One' } } }] },
    } } }, Ajv);
    const answer = (target, status, json, method = 'GET') => complaint(book, { method, target, status, json, text: json === undefined ? '' : JSON.stringify(json),
        headers: new Headers({ 'content-type': 'application/json' }) });

    test('objects made of several are closed as a whole, and those inside, too', () => {
        assert.equal(answer('/a/x?y=1', 200, { one: 1, two: { one: 2 } }), null);
        assert.match(answer('/a/x', 200, { one: 1, three: 3 }), /three/);
        assert.match(answer('/a/x', 200, { one: 1, two: { one: 2, three: 3 } }), /three/);
        assert.match(answer('/a/x', 200, { two: { one: 2 } }), /one/);
    });

    test('fixed segments come before parameters; what is refused has the body of an error', () => {
        assert.equal(answer('/a/fixed', 204), null);
        assert.match(answer('/a/fixed', 200, { one: 1 }), /not described/);
        assert.equal(answer('/a/x', 405, { code: 'c' }, 'POST'), null);
        assert.match(answer('/a/x', 405, {}, 'POST'), /code/);
        assert.equal(answer('/b', 404, { code: 'c' }), null);
        assert.match(answer('/b', 404, 'c'), /object/);
        assert.match(answer('/b', 200, {}), /not described/);
        assert.match(answer('/a/x', 418, { code: 'c' }), /not described/);
    });
});
