// SPDX-License-Identifier: Apache-2.0
// What holds on all routes of /api/v1: who may ask, how errors look, which headers there are.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { perdureBin } from '../conformance/lib/server.mjs';
import { rawRequest } from '../conformance/lib/client.mjs';
import { Flow, KEY, llm, spec, suite } from './lib.mjs';

const PLAIN = spec([llm('a', 'x')]);
const NOBODY = '00000000-0000-4000-8000-000000000000';

async function minted(api, kind, more = {}) {
    const made = await api.ok(api.post('/v1/api/api-tokens', { name: kind, kind, ...more }), 201);
    return made.token;
}
const refused = (res, status, code) => {
    assert.equal(res.status, status, res.text);
    assert.equal(res.json.error, code);
    assert.equal(res.json.code, code);
    assert.ok(res.json.message);
    assert.equal(res.json.request_id, res.headers.get('x-modelrelay-request-id'));
};

suite('workflow transport', {}, (test) => {
    test('a key in its own header, or as a bearer; with both, both must hold', async ({ flow, server }) => {
        const good = [{ 'X-ModelRelay-Api-Key': KEY }, { Authorization: `Bearer ${KEY}` }, { Authorization: `bearer ${KEY}` }, { Authorization: 'Bearer dev' },
            { Authorization: `Bearer ${KEY}`, 'X-ModelRelay-Api-Key': KEY }];
        for (const headers of good) assert.equal((await new Flow(server, headers).get('/models')).status, 200, JSON.stringify(headers));
        const bad = [{}, { 'X-ModelRelay-Api-Key': 'mr_sk_other' }, { 'X-ModelRelay-Api-Key': 'mr_pk_x' }, { 'X-ModelRelay-Api-Key': '' }, { Authorization: 'Bearer nothing' },
            { Authorization: KEY }, { Authorization: `Bearer ${KEY}`, 'X-ModelRelay-Api-Key': 'mr_sk_other' }, { Authorization: 'Bearer nothing', 'X-ModelRelay-Api-Key': KEY }];
        for (const headers of bad) refused(await new Flow(server, headers).get('/models'), 401, 'UNAUTHORIZED');
        refused(await new Flow(server, {}).post('/runs', { spec: PLAIN }), 401, 'UNAUTHORIZED');
        assert.equal((await flow.get('/models')).status, 200);
    });

    test('keys are made by an administrator, and revoked', async ({ api, server }) => {
        const made = await api.ok(api.post('/v1/api/api-tokens', { name: 'k', kind: 'workflow_key' }), 201);
        assert.match(made.token, /^mr_sk_.+/);
        const flow = new Flow(server, { 'X-ModelRelay-Api-Key': made.token });
        const run = await flow.finish(PLAIN);
        const other = await api.post('/v1/api/api-tokens', { name: 'k', kind: 'workflow_key', scopes: ['*'] });
        assert.equal(other.status, 422);
        assert.equal((await api.get('/v1/api/runs', undefined, { headers: { Authorization: `Bearer ${made.token}` } })).status, 401);
        assert.equal((await api.del(`/v1/api/api-tokens/${made.token_id}`)).status, 204);
        refused(await flow.get(`/runs/${run.run_id}`), 401, 'UNAUTHORIZED');
    });

    test('the command makes keys and customers\' tokens', async ({ server }) => {
        const make = (...args) => execFileSync(perdureBin(), ['token', 'create', '--name', 'cli', ...args, '--server', server.url, '--token', 'dev'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
        const key = make('--kind', 'workflow_key');
        assert.match(key, /^mr_sk_/);
        assert.equal((await new Flow(server, { 'X-ModelRelay-Api-Key': key }).get('/models')).status, 200);
        const flow = new Flow(server, { Authorization: `Bearer ${make('--kind', 'customer_token', '--customer', 'cli-1')}` });
        assert.equal((await flow.ok(flow.post('/sessions', {}), 201)).customer_id, 'cli-1');
    });

    test('a token of the other surface with few rights may not; one that may do everything may', async ({ api, server }) => {
        const few = await api.ok(api.post('/v1/api/api-tokens', { name: 'few', scopes: ['runs:read'] }), 201);
        refused(await new Flow(server, { Authorization: `Bearer ${few.token}` }).get('/models'), 403, 'FORBIDDEN');
    });

    test('a customer sees what is the customer\'s, the project\'s key sees all', async ({ api, server, flow }) => {
        const one = new Flow(server, { Authorization: `Bearer ${await minted(api, 'customer_token', { customer_id: 'c-1' })}` });
        const two = new Flow(server, { Authorization: `Bearer ${await minted(api, 'customer_token', { customer_id: 'c-2' })}` });
        const key = flow.with({ 'X-ModelRelay-Api-Key': KEY, 'X-ModelRelay-Customer-Id': 'c-1' });
        const mine = await one.finish(PLAIN);
        const theirs = await two.start(PLAIN);
        const made = await key.finish(PLAIN);
        const nobodys = await flow.finish(PLAIN);
        for (const id of [mine.run_id, made.run_id]) {
            for (const who of [one, flow]) assert.equal((await who.get(`/runs/${id}`)).status, 200);
            for (const path of ['', '/events', '/pending-tools', '/steps', '/tasks', '/steps/0/tool-calls/x']) refused(await two.get(`/runs/${id}${path}`), 404, 'NOT_FOUND');
            refused(await two.post(`/runs/${id}/cancel`), 404, 'NOT_FOUND');
            refused(await two.results(id, { node_id: 'a', step: 0, request_id: NOBODY, results: [{ tool_call: { id: 'x', name: 'y' }, output: 'z' }] }), 404, 'NOT_FOUND');
        }
        refused(await one.get(`/runs/${theirs.run_id}`), 404, 'NOT_FOUND');
        refused(await one.get(`/runs/${nobodys.run_id}`), 404, 'NOT_FOUND');
        const session = await one.ok(one.post('/sessions', {}), 201);
        assert.equal(session.customer_id, 'c-1');
        refused(await two.get(`/sessions/${session.id}`), 404, 'NOT_FOUND');
        assert.deepEqual((await two.ok(two.get('/sessions'))).sessions, []);
        assert.equal((await one.ok(one.get('/sessions'))).sessions.length, 1);
        refused(await two.post('/runs', { spec: PLAIN, session_id: session.id }), 404, 'NOT_FOUND');
        refused(await one.del(`/sessions/${session.id}`), 403, 'FORBIDDEN');
        assert.equal((await flow.del(`/sessions/${session.id}`)).status, 204);
    });

    test('another workspace\'s run is not found', async ({ api, server, flow }) => {
        const place = await api.ok(api.post('/v1/api/workspaces', { name: 'other' }), 201);
        const other = new Flow(server, { 'X-ModelRelay-Api-Key': await minted(api, 'workflow_key', { workspace_id: place.workspace_id }) });
        const run = await flow.finish(PLAIN);
        refused(await other.get(`/runs/${run.run_id}`), 404, 'NOT_FOUND');
        refused(await other.post('/runs', { plan_hash: run.plan_hash }), 404, 'NOT_FOUND');
        const theirs = await other.finish(PLAIN);
        assert.equal(theirs.plan_hash, run.plan_hash);
        refused(await flow.get(`/runs/${theirs.run_id}`), 404, 'NOT_FOUND');
    });

    test('unknown routes are 404, other methods 405, both flat', async ({ flow }) => {
        refused(await flow.get('/nothing'), 404, 'NOT_FOUND');
        refused(await flow.get('/customers/x'), 404, 'NOT_FOUND');
        const res = await flow.req('PUT', '/runs', { body: {} });
        refused(res, 405, 'METHOD_NOT_ALLOWED');
        assert.match(res.headers.get('allow'), /POST/);
        refused(await flow.del('/runs/x'), 405, 'METHOD_NOT_ALLOWED');
        for (const path of ['/runs/x', `/runs/${NOBODY}`]) {
            const gone = await flow.get(path);
            refused(gone, 404, 'NOT_FOUND');
            assert.deepEqual(gone.json.fields, [{ field: 'run_id', message: 'run not found' }]);
        }
    });

    test('bodies: malformed, not an object, too large, of another type', async ({ flow }) => {
        refused(await flow.req('POST', '/runs', { raw: '{' }), 400, 'INVALID_INPUT');
        refused(await flow.req('POST', '/runs', { raw: '[]' }), 400, 'INVALID_INPUT');
        refused(await flow.req('POST', '/runs', { raw: '' }), 400, 'INVALID_INPUT');
        refused(await flow.req('POST', '/runs', { raw: '{}', headers: { 'Content-Type': 'text/plain' } }), 415, 'INVALID_INPUT');
        const large = await rawRequest(flow.base, { method: 'POST', path: '/api/v1/runs', headers: { ...flow.headers, 'content-type': 'application/json' },
            body: Buffer.concat([Buffer.from('{"a":"'), Buffer.alloc(17 << 20, 120), Buffer.from('"}')]) });
        assert.equal(large.status, 413, large.text);
        assert.equal(large.json.error, 'INVALID_INPUT');
    });

    test('a specification that does not hold is a bare list of issues, sorted', async ({ flow }) => {
        const broken = { kind: 'workflow', nodes: [llm('a', 'x', { depends_on: ['zz'] }), { id: 'B', type: 'nope' }], outputs: [{ name: 'r', from: 'nope' }] };
        for (const send of [() => flow.post('/runs', { spec: broken }), () => flow.post('/workflows/compile', broken)]) {
            const res = await send();
            assert.equal(res.status, 400);
            assert.deepEqual(Object.keys(res.json), ['issues']);
            const keys = res.json.issues.map((i) => `${i.path}\0${i.code}`);
            assert.deepEqual(keys, [...keys].sort());
            for (const issue of res.json.issues) for (const k of ['code', 'path', 'message']) assert.ok(issue[k].length);
            const codes = res.json.issues.map((i) => i.code);
            for (const code of ['UNKNOWN_NODE', 'INVALID_NODE_ID', 'UNSUPPORTED_NODE_TYPE']) assert.ok(codes.includes(code), `${code} in ${codes}`);
        }
        const res = await flow.post('/workflows/compile', { kind: 'workflow.v0', nodes: [] });
        assert.ok(res.json.issues.some((i) => i.code === 'UNSUPPORTED_KIND' && i.path === '$.kind'));
    });

    test('compile: the plan, its hash, the same for the same, and lint', async ({ flow }) => {
        const { createHash } = await import('node:crypto');
        const one = await flow.ok(flow.post('/workflows/compile', PLAIN), 200);
        const again = await flow.ok(flow.post('/workflows/compile', JSON.parse(JSON.stringify({ outputs: PLAIN.outputs, ...PLAIN }))), 200);
        assert.deepEqual(one, again);
        const of_plan = await flow.ok(flow.post('/workflows/compile', one.plan_json), 200);
        assert.deepEqual(of_plan, one);
        const text = (await flow.post('/workflows/compile', PLAIN)).text;
        const plan = text.slice('{"plan_json":'.length, text.lastIndexOf(',"plan_hash"'));
        assert.equal(createHash('sha256').update(plan).digest('hex'), one.plan_hash);
        assert.equal(one.plan_json.kind, 'workflow.v1');
        const lint = await flow.ok(flow.post('/workflows/lint', PLAIN), 200);
        assert.equal(lint.plan_hash, one.plan_hash);
        assert.ok(Array.isArray(lint.lint_issues));
        const bad = await flow.ok(flow.post('/workflows/lint', { ...PLAIN, outputs: [] }), 200);
        assert.ok(bad.compile_issues.length);
        const not = await flow.ok(flow.post('/workflows/lint?compile=false', PLAIN), 200);
        assert.ok(!('plan_hash' in not) && !('compile_issues' in not));
    });

    test('the schemas need no key', async ({ server }) => {
        const open = new Flow(server, {});
        for (const name of ['run_event', 'workflow']) {
            const res = await open.get(`/schemas/${name}.schema.json`);
            assert.equal(res.status, 200);
            assert.match(res.headers.get('content-type'), /^application\/schema\+json/);
            assert.equal(res.json.$schema.startsWith('http'), true);
        }
    });

    test('every answer has a request id, also one that was asked for', async ({ flow }) => {
        for (const path of ['/models', '/nothing', '/runs/x']) {
            const res = await flow.get(path);
            assert.ok(res.headers.get('x-modelrelay-request-id'), path);
            assert.ok(res.headers.get('x-request-id'), path);
        }
        const mine = await flow.get('/models', undefined, { headers: { 'X-ModelRelay-Request-Id': 'mine-1' } });
        assert.equal(mine.headers.get('x-modelrelay-request-id'), 'mine-1');
    });
});
