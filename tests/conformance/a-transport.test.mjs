// SPDX-License-Identifier: Apache-2.0
// Group A: transport, authentication, scope, errors, request ids, rate limits (contract 2.1-2.6, 10.1).
import assert from 'node:assert/strict';
import net from 'node:net';
import { suite } from './lib/harness.mjs';
import { API, RunsClient, rawRequest, sleep, unique } from './lib/client.mjs';
import { UNKNOWN_ID, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, makeAgent } from './lib/fixtures.mjs';
import { openStream } from './lib/sse.mjs';

const ENDPOINTS = [
    ['GET', '/runs'], ['POST', '/runs'], ['POST', '/runs/wait'], ['POST', '/runs/batch'], ['GET', '/runs/failures'],
    ['GET', `/runs/failures/${UNKNOWN_ID}`], ['GET', '/runs/observability/summary'], ['GET', '/runs/observability/capabilities'],
    ['GET', '/runs/observability/bindings'], ['GET', `/runs/${UNKNOWN_ID}`], ['GET', `/runs/${UNKNOWN_ID}/inspection`],
    ['POST', `/runs/${UNKNOWN_ID}/cancel`], ['POST', `/runs/${UNKNOWN_ID}/resume`], ['POST', `/runs/${UNKNOWN_ID}/rerun`],
    ['POST', `/runs/${UNKNOWN_ID}/retry`], ['POST', `/runs/${UNKNOWN_ID}/checkpoints/${UNKNOWN_ID}/replay`],
    ['GET', `/runs/${UNKNOWN_ID}/checkpoints/index`], ['GET', `/runs/${UNKNOWN_ID}/events`], ['GET', `/runs/${UNKNOWN_ID}/events/stream`],
];

const newToken = async (api, body) => api.ok(api.post('/api-tokens', { name: unique('token'), ...body }), 201);
const newWorkspace = async (api) => api.ok(api.post('/workspaces', { name: unique('ws') }), 201);
const total = async (api, agentId) => checkList(await api.get('/runs', { agent_id: agentId })).total;
// An error body without what differs from request to request.
const anonymised = (res, id) => JSON.parse(JSON.stringify({ ...res.json, request_id: '', instance: '' }).replaceAll(id, 'ID'));

// Sends bytes as they are on a fresh connection and answers what came back until it closed (or 3 s passed).
function wire(base, text) {
    return new Promise((resolve, reject) => {
        const socket = net.connect(Number(new URL(base).port), '127.0.0.1', () => socket.write(text));
        let answer = '';
        socket.setEncoding('latin1');
        socket.on('data', (part) => { answer += part; });
        socket.on('close', () => resolve(answer));
        socket.on('error', (error) => (answer ? resolve(answer) : reject(error)));
        setTimeout(() => socket.destroy(), 3000).unref();
    });
}

suite('A auth, scope, workspaces', { dev: false, args: ['--rate-limit', '0'] }, (test) => {
    test('A1 every runs endpoint without a token: 401 with WWW-Authenticate', async ({ anonymous }) => {
        for (const [method, path] of ENDPOINTS) {
            const res = await anonymous.req(method, path, method === 'POST' ? { body: {} } : {});
            problem(res, 'unauthenticated');
            assert.match(res.headers.get('www-authenticate') ?? '', /^Bearer/, path);
        }
    });

    test('A1b garbled credentials are no credentials', async ({ anonymous, server }) => {
        for (const value of ['Bearer', 'Bearer ', 'Basic dXNlcjpwYXNz', server.token, `Bearer ${server.token}x`, `Bearer ${server.token} x`,
            `Digest ${server.token}`, 'Bearer dev']) {
            problem(await anonymous.get('/runs', {}, { headers: { Authorization: value } }), 'unauthenticated');
        }
    });

    test('A2 unknown and revoked tokens get the same 401; revocation works at once', async ({ api }) => {
        const made = await newToken(api, { scopes: ['*'] });
        assert.equal(typeof made.token, 'string');
        const mine = api.as(made.token, made.workspace_id ? {} : { 'X-Workspace-Id': (await api.run((await api.createAndFinish({
            agent_id: await makeAgent(api, fixtureDefinition('echo')) })).run_id)).workspace_id });
        assert.equal((await mine.get('/runs')).status, 200);
        const id = made.token_id;
        assert.equal(typeof id, 'string', `token id in ${JSON.stringify(Object.keys(made))}`);
        assert.equal((await api.del(`/api-tokens/${id}`)).status, 204);
        const revoked = await mine.get('/runs');
        problem(revoked, 'unauthenticated');
        const unknown = await api.as('no-such-token').get('/runs');
        problem(unknown, 'unauthenticated');
        assert.deepEqual(anonymised(revoked, '-'), anonymised(unknown, '-'));
        assert.equal(revoked.headers.get('www-authenticate'), unknown.headers.get('www-authenticate'));
    });

    test('A2b an expired token is refused', async ({ api, E }) => {
        const workspace = (await api.run((await api.create({ agent_id: E })).run_id)).workspace_id;
        const made = await newToken(api, { scopes: ['runs:read'], workspace_id: workspace, expires_at: new Date(Date.now() + 1500).toISOString() });
        const mine = api.as(made.token);
        assert.equal((await mine.get('/runs')).status, 200);
        await sleep(1700);
        problem(await mine.get('/runs'), 'unauthenticated');
    });

    test('A3 a missing scope is named', async ({ api }) => {
        const E = await makeAgent(api, fixtureDefinition('echo'));
        const workspace = (await api.run((await api.create({ agent_id: E })).run_id)).workspace_id;
        const reader = api.as((await newToken(api, { scopes: ['runs:read'], workspace_id: workspace })).token);
        const before = await total(api, E);
        const cases = [['POST', '/runs', 'runs:write'], ['POST', '/runs/wait', 'runs:write'], ['POST', '/runs/batch', 'runs:write'],
            ['POST', `/runs/${UNKNOWN_ID}/cancel`, 'runs:write'], ['POST', `/runs/${UNKNOWN_ID}/resume`, 'runs:write'],
            ['GET', '/agents', 'agents:read'], ['POST', '/agents', 'agents:write'], ['POST', '/api-tokens', 'tokens:admin'],
            ['GET', '/audit', 'audit:read']];
        for (const [method, path, scope] of cases) {
            const res = await reader.req(method, path, method === 'POST' ? { body: { agent_id: E, name: 'x' } } : {});
            assert.equal(problem(res, 'insufficient_scope').required_scope, scope, path);
        }
        assert.equal((await reader.get('/runs')).status, 200);
        assert.equal(await total(api, E), before);
        const writer = api.as((await newToken(api, { scopes: ['runs:write'], workspace_id: workspace })).token);
        assert.equal((await writer.post('/runs', { agent_id: E })).status, 201);
        assert.equal(problem(await writer.get('/runs'), 'insufficient_scope').required_scope, 'runs:read');
    });

    test('A4 workspace selection', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const other = await newWorkspace(api);
        const bound = api.as((await newToken(api, { scopes: ['*'], workspace_id: run.workspace_id })).token);
        assert.equal((await bound.get('/runs')).status, 200);
        assert.equal((await bound.get('/runs', {}, { headers: { 'X-Workspace-Id': run.workspace_id } })).status, 200);
        problem(await bound.get('/runs', {}, { headers: { 'X-Workspace-Id': other.workspace_id } }), 'workspace_forbidden');
        problem(await bound.get('/runs', {}, { headers: { 'X-Workspace-Id': UNKNOWN_ID } }), 'workspace_forbidden');
        const wide = api.as((await newToken(api, { scopes: ['*'], workspace_id: null })).token);
        problem(await wide.get('/runs'), 'workspace_required');
        problem(await wide.get('/runs', {}, { headers: { 'X-Workspace-Id': UNKNOWN_ID } }), 'workspace_forbidden');
        assert.equal((await wide.get(`/runs/${run.run_id}`, {}, { headers: { 'X-Workspace-Id': run.workspace_id } })).status, 200);
        problem(await wide.get(`/runs/${run.run_id}`, {}, { headers: { 'X-Workspace-Id': other.workspace_id } }), 'run_not_found');
    });

    test('A4b X-Tenant-Id must be the tenant of the token', async ({ api }) => {
        const tenant = await api.ok(api.get('/tenants/current'), 200);
        assert.equal(typeof tenant.tenant_id, 'string');
        assert.equal((await api.get('/runs', {}, { headers: { 'X-Tenant-Id': tenant.tenant_id } })).status, 200);
        problem(await api.get('/runs', {}, { headers: { 'X-Tenant-Id': UNKNOWN_ID } }), 'tenant_forbidden');
    });

    test('A5 a run of another workspace looks like one that never was', async ({ api, E, H }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const other = await newWorkspace(api);
        const foreign = api.as((await newToken(api, { scopes: ['*'], workspace_id: other.workspace_id })).token);
        const attempt = run.current_attempt_id;
        for (const [method, path] of [['GET', ''], ['POST', '/cancel'], ['POST', '/resume'], ['POST', '/rerun'], ['GET', '/inspection'],
            ['GET', '/checkpoints/index'], ['GET', `/events?attemptId=${attempt}`], ['GET', `/events/stream?attemptId=${attempt}`]]) {
            const options = method === 'POST' ? { body: { input: 1 } } : {};
            const theirs = await foreign.req(method, `/runs/${run.run_id}${path}`, options);
            const nobodys = await foreign.req(method, `/runs/${UNKNOWN_ID}${path}`, options);
            problem(theirs, 'run_not_found');
            assert.deepEqual(anonymised(theirs, run.run_id), anonymised(nobodys, UNKNOWN_ID), path);
        }
        problem(await foreign.post('/runs', { agent_id: E }), 'agent_not_found');
        assert.equal(checkList(await foreign.get('/runs')).total, 0);
        assert.equal(checkList(await foreign.get('/runs', { agent_id: H })).total, 0);
    });

    test('2.3 order of checks: route, method, auth, scope, content type, size, JSON, validation, existence, state', async ({ api, anonymous, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const reader = api.as((await newToken(api, { scopes: ['runs:read'], workspace_id: run.workspace_id })).token);
        const text = { headers: { 'Content-Type': 'text/plain' } };
        problem(await anonymous.get('/nope'), 'not_found');
        problem(await anonymous.del('/runs'), 'method_not_allowed');
        problem(await anonymous.req('POST', '/runs', { raw: '{', ...text }), 'unauthenticated');
        problem(await reader.req('POST', '/runs', { raw: '{', ...text }), 'insufficient_scope');
        problem(await api.req('POST', '/runs', { raw: '{', ...text }), 'unsupported_media_type');
        problem(await api.req('POST', '/runs', { raw: '{' }), 'malformed_json');
        invalid(await api.post('/runs', { agent_id: UNKNOWN_ID, thread: 5 }), '/thread');
        problem(await api.post('/runs', { agent_id: UNKNOWN_ID }), 'agent_not_found');
        invalid(await api.post(`/runs/${UNKNOWN_ID}/resume`, {}));
        problem(await api.post(`/runs/${UNKNOWN_ID}/resume`, { input: 1 }), 'run_not_found');
        problem(await api.post(`/runs/${run.run_id}/resume`, { input: 1 }), 'invalid_run_state');
    });

    test('R9 a revoked token ends its streams at a frame boundary; the reconnect gets 401 and follow stops', { timeout: 40000 }, async ({ api, H, base }) => {
        const run = await api.create({ agent_id: H });
        const waiting = await api.waiting(run.run_id);
        const made = await newToken(api, { scopes: ['runs:read'], workspace_id: waiting.workspace_id });
        const stream = await openStream(api.as(made.token), run.run_id, { attemptId: waiting.current_attempt_id, afterSeq: 0 });
        await stream.event((e) => e.type === 'HUMAN_PROMPT');
        assert.equal((await api.del(`/api-tokens/${made.token_id}`)).status, 204);
        await stream.end(15000);
        assert.equal(stream.rest, '', 'the end is at a frame boundary');
        const again = await openStream(api.as(made.token), run.run_id, { attemptId: waiting.current_attempt_id, afterSeq: 0 });
        problem(again, 'unauthenticated');
        assert.ok(again.response.statusMessage, 'a reason phrase');
        const seen = [];
        const client = new RunsClient(base, made.token);
        for await (const event of client.follow(run.run_id, waiting.current_attempt_id, { baseDelayMs: 5 })) seen.push(event);
        assert.deepEqual(seen.map((e) => [e.type, e.payload.code]), [['error', 'HTTP_401']]);
        await api.cancel(run.run_id);
    });
});

suite('A transport', { fixtures: 'ES' }, (test) => {
    test('A6 unknown path', async ({ api }) => {
        problem(await api.get('/nope'), 'not_found');
        problem(await api.get('/v1/api'), 'not_found');
        problem(await api.post('/runs/wait/more', {}), 'not_found');
    });

    test('A6b a trailing slash is another path', async ({ api, E }) => {
        problem(await api.get('/runs/'), 'not_found');
        const run = await api.create({ agent_id: E });
        problem(await api.get(`/runs/${run.run_id}/`), 'not_found');
        problem(await api.get(`/runs/${run.run_id}/events/`), 'not_found');
    });

    test('A7 DELETE /runs: 405 with Allow', async ({ api }) => {
        const res = await api.del('/runs');
        problem(res, 'method_not_allowed');
        assert.deepEqual(res.headers.get('allow').split(',').map((s) => s.trim()).filter((s) => s !== 'HEAD' && s !== 'OPTIONS').sort(), ['GET', 'POST']);
    });

    test('A8 GET of the static POST routes: 405, never a run id', async ({ api }) => {
        for (const path of ['/runs/wait', '/runs/batch']) {
            const res = await api.get(path);
            problem(res, 'method_not_allowed');
            assert.equal(res.headers.get('allow').replace(/,?\s*OPTIONS/, ''), 'POST');
        }
        problem(await api.post(`/runs/${UNKNOWN_ID}`, {}), 'method_not_allowed');
        const failures = await api.post('/runs/failures', {});
        problem(failures, 'method_not_allowed');
        problem(await api.req('PUT', `/runs/${UNKNOWN_ID}/events`, { body: {} }), 'method_not_allowed');
    });

    test('A9 content types', async ({ api, E }) => {
        const body = JSON.stringify({ agent_id: E });
        for (const type of ['text/plain', 'application/xml', 'application/x-www-form-urlencoded', 'application/jsonx', 'json']) {
            problem(await api.req('POST', '/runs', { raw: body, headers: { 'Content-Type': type } }), 'unsupported_media_type');
        }
        for (const type of ['application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON', 'application/json;foo=bar', 'application/vnd.x+json']) {
            assert.equal((await api.req('POST', '/runs', { raw: body, headers: { 'Content-Type': type } })).status, 201, type);
        }
        const none = await rawRequest(api.base, { method: 'POST', path: `${API}/runs`, headers: api.requestHeaders({ 'Content-Length': body.length }), body });
        problem(none, 'unsupported_media_type');
    });

    test('A10 malformed JSON creates nothing', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const id = JSON.stringify(agent);
        const bad = ['{"agent_id":', `{"agent_id":${id}}x`, `{"agent_id":${id}} {}`, `{"agent_id":${id},}`, `{agent_id:${id}}`, `{'agent_id':${id}}`,
            `{"agent_id":${id},"input":NaN}`, `{"agent_id":${id},"input":Infinity}`, `{"agent_id":${id},"input":-Infinity}`,
            `{"agent_id":${id},"input":01}`, `{"agent_id":${id},"input":1.}`, `{"agent_id":${id},"input":.5}`, `{"agent_id":${id},"input":+1}`,
            `{"agent_id":${id},"input":"\\ud800"}`, `{"agent_id":${id},"input":"\\udc00\\ud800"}`, `{"agent_id":${id},"input":"\\x41"}`,
            `{"agent_id":${id},"input":"a\tb"}`, `{"agent_id":${id},"input":"a\nb"}`, `{"agent_id":${id}/*c*/}`, `{"agent_id":${id},"input":tru}`,
            `[${'1,'.repeat(20)}`, '"', '{"a"}', '{"a":1 "b":2}'];
        for (const raw of bad) problem(await api.req('POST', '/runs', { raw }), 'malformed_json');
        const utf8 = Buffer.concat([Buffer.from(`{"agent_id":${id},"input":"`), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]);
        problem(await api.req('POST', '/runs', { raw: utf8 }), 'malformed_json');
        const overlong = Buffer.concat([Buffer.from(`{"agent_id":${id},"input":"`), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]);
        problem(await api.req('POST', '/runs', { raw: overlong }), 'malformed_json');
        const surrogate = Buffer.concat([Buffer.from(`{"agent_id":${id},"input":"`), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]);
        problem(await api.req('POST', '/runs', { raw: surrogate }), 'malformed_json');
        assert.equal(await total(api, agent), 0);
    });

    test('A10b duplicate members: the last one wins; unknown members and parameters are ignored', async ({ api, E }) => {
        const made = await api.req('POST', '/runs', { raw: `{"agent_id":"nobody","input":1,"agent_id":${JSON.stringify(E)},"input":{"a":1,"a":2},"future":true}`,
            query: { future: 'x' } });
        assert.equal(made.status, 201, made.text);
        assert.deepEqual((await api.run(made.json.run_id)).input, { a: 2 });
        assert.equal((await api.get('/runs', { nonsense: 'x', limit: 1 })).status, 200);
        assert.equal((await api.get('/runs', {}, { headers: { 'X-Operation-Context': 'abc', Traceparent: 'rubbish' } })).status, 200);
    });

    test('2.1 a repeated query parameter is ambiguous', async ({ api, E }) => {
        invalid(await api.get('/runs?limit=1&limit=2'), 'limit', 'invalid_parameter');
        invalid(await api.get(`/runs?agent_id=${E}&agent_id=${E}`), 'agent_id', 'invalid_parameter');
    });

    test('2.1 path segments are decoded once, after splitting', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const encoded = [...run.run_id].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('');
        const raw = (path) => rawRequest(api.base, { path: API + path, headers: api.requestHeaders() });
        assert.equal((await raw(`/runs/${encoded}`)).json?.run_id, run.run_id);
        assert.equal((await raw('/r%75ns')).status, 200);
        for (const path of ['/runs/%00', `/runs/${run.run_id}%00`, '/runs/%ff', '/runs/%c3%28', `/runs%2f${run.run_id}`, `/runs/${run.run_id}%2fevents`,
            `/runs/%25${encoded.slice(1)}`]) {
            assert.equal((await raw(path)).status, 404, path);
        }
    });

    test('A11 a body that is no object', async ({ api }) => {
        for (const raw of ['[]', '1', '"x"', 'null', 'true']) invalid(await api.req('POST', '/runs', { raw }));
    });

    test('A12 5 MiB: refused with 413, nothing created', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const make = (bytes) => Buffer.from(JSON.stringify({ agent_id: agent, input: 'x'.repeat(bytes) }));
        const big = make(5 * 1024 * 1024);
        const headers = api.requestHeaders({ 'Content-Type': 'application/json' });
        problem(await rawRequest(api.base, { method: 'POST', path: `${API}/runs`, headers: { ...headers, 'Content-Length': big.length }, body: big }),
            'payload_too_large');
        const chunked = await rawRequest(api.base, { method: 'POST', path: `${API}/runs`, headers, body: big, chunked: true });
        problem(chunked, 'payload_too_large');
        assert.equal(await total(api, agent), 0);
        // 2.1: 4 MiB in general; just below it is fine, and the answer echoes it back whole.
        const near = await api.req('POST', '/runs', { raw: make(4 * 1024 * 1024 - 200) });
        assert.equal(near.status, 201, near.text.slice(0, 300));
        assert.equal((await api.run(near.json.run_id)).input.length, 4 * 1024 * 1024 - 200);
    });

    test('A12b the size is decided before the body is read', async ({ api }) => {
        const answer = await wire(api.base, `POST ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\n`
            + 'Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n');
        assert.match(answer, /^HTTP\/1\.1 413 /);
        assert.match(answer, /payload_too_large/);
    });

    test('A13 request ids', async ({ api }) => {
        assert.equal((await api.get('/runs', {}, { headers: { 'X-Request-Id': 'abc-1' } })).headers.get('x-request-id'), 'abc-1');
        const error = await api.get('/nope', {}, { headers: { 'X-Request-Id': 'abc-2' } });
        assert.equal(problem(error, 'not_found').request_id, 'abc-2');
        const longest = 'r'.repeat(128);
        assert.equal((await api.get('/runs', {}, { headers: { 'X-Request-Id': longest } })).headers.get('x-request-id'), longest);
        for (const bad of ['r'.repeat(129), 'a b', 'ä', undefined]) {
            const made = (await api.get('/runs', {}, { headers: { 'X-Request-Id': bad } })).headers.get('x-request-id');
            assert.ok(made && made !== bad && made.length <= 128, `generated id for ${bad}: ${made}`);
        }
        const one = (await api.get('/runs')).headers.get('x-request-id');
        assert.notEqual(one, (await api.get('/runs')).headers.get('x-request-id'));
    });

    test('A15 nesting: 64 is fine, 65 is not', async ({ api, E }) => {
        const nested = (depth) => `{"agent_id":${JSON.stringify(E)},"input":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
        problem(await api.req('POST', '/runs', { raw: nested(65) }), 'malformed_json');
        problem(await api.req('POST', '/runs', { raw: nested(100000) }), 'malformed_json');
        const made = await api.req('POST', '/runs', { raw: nested(64) });
        assert.equal(made.status, 201, made.text);
        assert.equal((await api.until(made.json.run_id)).status, 'completed');
    });

    test('A16 the media type of an error follows Accept', async ({ api }) => {
        const asked = await api.get(`/runs/${UNKNOWN_ID}`, {}, { headers: { Accept: 'application/problem+json' } });
        problem(asked, 'run_not_found');
        assert.match(asked.headers.get('content-type'), /^application\/problem\+json/);
        const also = await api.get(`/runs/${UNKNOWN_ID}`, {}, { headers: { Accept: 'application/json, application/problem+json;q=0.9' } });
        assert.match(also.headers.get('content-type'), /^application\/problem\+json/);
        for (const accept of ['*/*', 'application/json', 'text/html']) {
            const plain = await api.get(`/runs/${UNKNOWN_ID}`, {}, { headers: { Accept: accept } });
            problem(plain, 'run_not_found');
            assert.equal(plain.headers.get('content-type'), 'application/json; charset=utf-8');
        }
    });

    test('2.1 answers are JSON in UTF-8; get is not to be stored; status lines have reasons', async ({ api, E }) => {
        const run = await api.create({ agent_id: E, input: 'zażółć 🦉 \u0000' });
        const res = await api.get(`/runs/${run.run_id}`);
        assert.equal(res.headers.get('content-type'), 'application/json; charset=utf-8');
        assert.match(res.headers.get('cache-control') ?? '', /no-store/);
        assert.equal(res.json.input, 'zażółć 🦉 \u0000');
        assert.match(await wire(api.base, `GET ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 401 \w/);
    });

    test('2.1 an empty body is legal for cancel, rerun, replay and retry', async ({ api, E, S }) => {
        const post = (path, headers = {}) => rawRequest(api.base, { method: 'POST', path: API + path, headers: api.requestHeaders({ 'Content-Length': 0, ...headers }) });
        const slow = await api.create({ agent_id: S });
        const cancelled = await post(`/runs/${slow.run_id}/cancel`);
        assert.equal(cancelled.status, 200, cancelled.text);
        const done = await api.createAndFinish({ agent_id: E });
        assert.equal((await post(`/runs/${done.run_id}/rerun`)).status, 201);
        assert.equal((await post(`/runs/${done.run_id}/rerun`, { 'Content-Type': 'application/json' })).status, 201);
        const index = await api.ok(api.get(`/runs/${done.run_id}/checkpoints/index`), 200);
        assert.equal((await post(`/runs/${done.run_id}/checkpoints/${index.items[0].checkpoint_id}/replay`)).status, 201);
        problem(await post(`/runs/${done.run_id}/retry`), 'retry_not_possible');
    });

    test('2.5 all violations are listed, at most 50', async ({ api }) => {
        const res = await api.post('/runs', { thread: 7, bundle_id: 5, idempotency_key: 'a b' });
        const body = invalid(res);
        const places = body.errors.map((e) => e.pointer).sort();
        assert.deepEqual(places, ['/agent_id', '/bundle_id', '/idempotency_key', '/thread']);
        const many = invalid(await api.post('/runs/batch', { agent_id: 'x', inputs: Array.from({ length: 80 }, () => ({})) }));
        assert.equal(many.errors.length, 50);
    });

    test('406 on the stream when Accept excludes event streams', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const path = `/runs/${run.run_id}/events/stream?attemptId=${run.current_attempt_id}`;
        problem(await api.get(path, {}, { headers: { Accept: 'application/json' } }), 'not_acceptable');
        for (const accept of ['text/event-stream', '*/*', 'application/json, text/event-stream', 'text/*']) {
            assert.equal((await api.get(path, {}, { headers: { Accept: accept } })).status, 200, accept);
        }
    });

    test('2.3 X-API-Key is an equivalent; two different credentials are none', async ({ anonymous, api }) => {
        const res = await anonymous.get('/runs', {}, { headers: { 'X-API-Key': api.token } });
        if (res.status !== 401) assert.equal(res.status, 200);
        problem(await api.get('/runs', {}, { headers: { 'X-API-Key': 'another' } }), 'unauthenticated');
    });

    test('9 health needs no token', async ({ anonymous }) => {
        assert.equal((await anonymous.get('/healthz')).status, 200);
        assert.equal((await anonymous.get('/readyz')).status, 200);
    });

    test('design: --dev checks Host and Origin', async ({ api, E }) => {
        const before = await total(api, E);
        const body = JSON.stringify({ agent_id: E, input: 'foreign' });
        const send = (host, more) => wire(api.base, `POST ${API}/runs HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${api.token}\r\n${more}`
            + `Content-Type: application/json\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        assert.match(await send('evil.example', ''), /^HTTP\/1\.1 4\d\d /);
        assert.match(await send('127.0.0.1', 'Origin: http://evil.example\r\n'), /^HTTP\/1\.1 4\d\d /);
        const port = new URL(api.base).port;
        assert.match(await send(`localhost:${port}`, `Origin: http://localhost:${port}\r\n`), /^HTTP\/1\.1 201 /);
        await sleep(20);
        assert.ok(await total(api, E) >= before + 1);
        assert.equal(checkList(await api.get('/runs', { agent_id: E, limit: 500 })).items.filter((r) => r.input === 'foreign').length, 1);
    });

    test('A other methods and the workspace of a run', async ({ api, E }) => {
        const run = checkRun(await api.createAndFinish({ agent_id: E }));
        const tenant = await api.ok(api.get('/tenants/current'), 200);
        assert.equal(run.tenant_id, tenant.tenant_id);
        const workspaces = checkList(await api.get('/workspaces'));
        assert.ok(workspaces.items.some((w) => w.workspace_id === run.workspace_id));
    });
});

suite('A rate limit', { dev: false, args: ['--rate-limit', '60'], fixtures: '' }, (test) => {
    test('A14 more requests than the limit: 429 with Retry-After, and limits are per token', async ({ api, anonymous }) => {
        const first = await api.get('/runs');
        assert.equal(first.status, 200);
        assert.equal(first.headers.get('x-ratelimit-limit'), '60');
        assert.match(first.headers.get('x-ratelimit-remaining') ?? '', /^\d+$/);
        assert.match(first.headers.get('x-ratelimit-reset') ?? '', /^\d+$/);
        let limited;
        let served = 0;
        for (let i = 0; i < 200 && !limited; i++) {
            const res = await api.get('/runs');
            if (res.status === 200) served++;
            else limited = res;
        }
        assert.ok(limited, `no 429 in 200 requests`);
        problem(limited, 'rate_limited');
        assert.equal(limited.headers.get('x-ratelimit-remaining'), '0');
        assert.ok(served <= 130, `${served} served before the limit`);
        problem(await anonymous.get('/runs'), 'unauthenticated');
        assert.equal((await anonymous.get('/healthz')).status, 200);
        // The bucket refills: after Retry-After seconds a request is served again.
        await sleep(Number(limited.headers.get('retry-after')) * 1000 + 100);
        assert.equal((await api.get('/runs')).status, 200);
    });
});

suite('A stream limit', { args: ['--max-streams', '3'], fixtures: 'H' }, (test) => {
    test('2.6 more open streams than the limit: 429 too_many_streams; a closed one makes room', async ({ api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const open = () => openStream(api, run.run_id, { attemptId: run.current_attempt_id, afterSeq: 0 });
        const streams = [await open(), await open(), await open()];
        for (const s of streams) assert.equal(s.status, 200);
        problem(await open(), 'too_many_streams');
        streams[0].close();
        let last;
        for (let i = 0; i < 40; i++) {
            last = await open();
            if (last.status === 200) break;
            await sleep(50);
        }
        assert.equal(last.status, 200);
        for (const s of [...streams, last]) s.close();
    });
});
