// SPDX-License-Identifier: Apache-2.0
// /responses, whole, streamed and in batches; /models; sessions and state handles.
import assert from 'node:assert/strict';
import http from 'node:http';
import { sleep } from '../conformance/lib/client.mjs';
import { llm, spec, suite, text } from './lib.mjs';

const ask = (script, more = {}) => ({ model: 'scripted/echo', input: [text('hi')], script: { interval_ms: 0, ...script }, ...more });
const TOTALS = { usage: { input_tokens: 3, output_tokens: 4 } };

// Through node:http: when the headers came, and how the body ended.
function timed(flow, path, body, headers = {}) {
    return new Promise((resolve, reject) => {
        const url = new URL(flow.base);
        const began = Date.now();
        const req = http.request({ host: url.hostname, port: url.port, method: 'POST', path: `/api/v1${path}`, agent: false,
            headers: { ...flow.headers, 'content-type': 'application/json', ...headers } }, (res) => {
            const answer = { status: res.statusCode, headersMs: Date.now() - began, how: 'end', text: '', type: res.headers['content-type'], req };
            if (headers.leave) { req.destroy(); resolve(answer); return; }
            res.setEncoding('utf8');
            res.on('data', (part) => { answer.text += part; answer.firstMs ??= Date.now() - began; });
            res.on('error', () => { answer.how = 'reset'; resolve(answer); });
            res.on('end', () => resolve(answer));
            req.on('error', () => {});
        });
        req.on('error', (error) => { if (!req.res) reject(error); });
        req.end(JSON.stringify(body));
    });
}
const records = (t) => { assert.ok(t.endsWith('\n')); return t.trim().split('\n').map((l) => JSON.parse(l)); };

suite('responses', {}, (test) => {
    test('one answer: all members, and tool calls', async ({ flow }) => {
        const res = await flow.ok(flow.post('/responses', ask({ text: 'Grüße', ...TOTALS })), 200);
        assert.deepEqual(res.output, [{ type: 'message', role: 'assistant', content: [{ type: 'text', text: 'Grüße' }] }]);
        assert.deepEqual(res.usage, { input_tokens: 3, output_tokens: 4, total_tokens: 7 });
        assert.equal(res.stop_reason, 'stop');
        assert.ok(res.id && res.model);
        const called = await flow.ok(flow.post('/responses', ask({ tool_calls: [{ name: 'look', arguments: { at: 1 } }] }, { tools: [{ type: 'function', function: { name: 'look' } }] })), 200);
        assert.deepEqual(called.output[0].content, []);
        assert.equal(called.output[0].tool_calls[0].function.name, 'look');
        assert.equal(called.output[0].tool_calls[0].function.arguments, '{"at":1}');
        assert.equal(called.stop_reason, 'tool_calls');
    });

    test('what the published client\'s own integration test asks for', async ({ flow }) => {
        const res = await flow.ok(flow.post('/responses', { model: 'gpt-4o-mini', input: [text('Say hi')] }), 200);
        assert.ok(res.id.length && res.output.length);
        for (const n of ['input_tokens', 'output_tokens', 'total_tokens']) assert.ok(res.usage[n] > 0, n);
        assert.ok(res.usage.total_tokens >= res.usage.input_tokens + res.usage.output_tokens);
    });

    test('PROVIDER/MODEL, a name alone, a provider that nobody has', async ({ flow }) => {
        assert.equal((await flow.ok(flow.post('/responses', ask({ text: 'x' }, { model: 'scripted/one' })))).model, 'one');
        assert.equal((await flow.ok(flow.post('/responses', ask({ text: 'x' }, { model: 'one' })))).model, 'one');
        assert.equal((await flow.ok(flow.post('/responses', ask({ text: 'x' }, { model: 'one', provider: 'scripted' })))).model, 'one');
        assert.equal((await flow.post('/responses', ask({ text: 'x' }, { model: 'nobody/one' }))).status, 400);
    });

    test('what is refused', async ({ flow, api, server }) => {
        for (const body of [{ model: 'm' }, { model: 'm', input: [] }, { model: 'm', input: [{ role: 'king' }] }, { input: [text('x')] }, { model: '', input: [text('x')] },
            ask({}, { stop: Array(9).fill('x') }), ask({}, { stop: ['x'.repeat(129)] }), ask({}, { temperature: 3 }), ask({}, { max_output_tokens: -1 })]) {
            const res = await flow.post('/responses', body);
            assert.equal(res.status, 400, JSON.stringify(body));
            assert.equal(res.json.code, 'VALIDATION_ERROR');
            assert.ok(res.json.fields.length);
        }
        const customer = await api.ok(api.post('/v1/api/api-tokens', { name: 'c', kind: 'customer_token', customer_id: 'c' }), 201);
        const res = await flow.with({ Authorization: `Bearer ${customer.token}` }).post('/responses', { input: [text('x')] });
        assert.equal(res.status, 200, 'a customer\'s token needs no model');
    });

    test('what the provider says becomes the status', async ({ flow }) => {
        for (const [status, want, code] of [[429, 429, 'RATE_LIMIT'], [500, 503, 'SERVICE_UNAVAILABLE'], [400, 400, 'VALIDATION_ERROR']]) {
            for (const accept of ['application/json', 'application/x-ndjson; profile="responses-stream/v2"']) {
                const res = await flow.post('/responses', ask({ error: { status, message: 'so it is' } }), { headers: { Accept: accept } });
                assert.equal(res.status, want, `${status} ${accept} ${res.text}`);
                assert.equal(res.json.code, code);
                assert.match(res.json.message, /so it is/);
            }
        }
    });

    test('records: start, increments, completion with the whole', async ({ flow }) => {
        const res = await timed(flow, '/responses', ask({ text: 'eins zwei drei ü', interval_ms: 60, ...TOTALS }), { accept: 'application/x-ndjson; profile="responses-stream/v2"' });
        assert.match(res.type, /^application\/x-ndjson/);
        assert.ok(res.firstMs < 200, 'as they come');
        const all = records(res.text);
        assert.ok(/^[\x20-\x7e\n]*$/.test(res.text), 'ASCII');
        assert.equal(all[0].type, 'start');
        assert.ok(all[0].request_id && all[0].model);
        assert.equal(all.filter((r) => r.type === 'update').map((r) => r.delta).join(''), 'eins zwei drei ü');
        const last = all.at(-1);
        assert.equal(last.type, 'completion');
        assert.equal(last.content, 'eins zwei drei ü');
        assert.deepEqual(last.usage, { input_tokens: 3, output_tokens: 4, total_tokens: 7 });
        const tools = records((await timed(flow, '/responses', ask({ tool_calls: [{ name: 'look' }] }), { accept: 'application/x-ndjson' })).text);
        assert.deepEqual(tools.map((r) => r.type), ['start', 'tool_use_stop', 'completion']);
        assert.equal(tools[1].tool_calls[0].function.name, 'look');
        const sse = await timed(flow, '/responses', ask({ text: 'a b' }), { accept: 'text/event-stream' });
        assert.deepEqual(sse.text.trim().split('\n\n').map((b) => /^event: (\w+)\ndata: (.*)$/.exec(b)[1]), ['start', 'update', 'update', 'completion']);
    });

    test('an error behind the first record is a record', async ({ flow }) => {
        const res = await timed(flow, '/responses', ask({ text: 'a b c', error: { status: 429, message: 'enough' }, error_after_chunks: 2 }), { accept: 'application/x-ndjson' });
        const all = records(res.text);
        assert.deepEqual(all.map((r) => r.type), ['start', 'update', 'update', 'error']);
        assert.deepEqual([all[3].code, all[3].status], ['RATE_LIMIT', 429]);
        assert.equal(res.how, 'end');
    });

    test('headers within five seconds, however long the model thinks', { timeout: 30000 }, async ({ flow }) => {
        const late = { delay_ms: 5500, text: 'late' };
        const item = (script) => ({ requests: [{ id: 'a', ...ask(script) }] });
        const [whole, streamed, failed, batch] = await Promise.all([timed(flow, '/responses', ask(late)), timed(flow, '/responses', ask(late), { accept: 'application/x-ndjson' }),
            timed(flow, '/responses', ask({ ...late, error: { status: 500 } })), timed(flow, '/responses/batch', item(late))]);
        for (const res of [whole, streamed, failed, batch]) {
            assert.equal(res.status, 200);
            assert.ok(res.headersMs < 5000, `${res.headersMs} ms`);
        }
        assert.equal(JSON.parse(whole.text).output[0].content[0].text, 'late');
        assert.equal(records(streamed.text).at(-1).content, 'late');
        assert.equal(failed.how, 'reset');
        assert.equal(JSON.parse(batch.text).results[0].response.output[0].content[0].text, 'late');
    });

    test('who leaves takes the call along', async ({ flow, api }) => {
        const left = { delay_ms: 4000, text: 'x y z', interval_ms: 1000 };
        const gone = new AbortController();
        const waiting = [flow.post('/responses', ask(left), { signal: gone.signal }), flow.post('/responses/batch', { requests: [{ id: 'a', ...ask(left) }] }, { signal: gone.signal })];
        await timed(flow, '/responses', ask({ text: 'word '.repeat(500), interval_ms: 20 }), { accept: 'application/x-ndjson', leave: '1' });
        await sleep(100);
        gone.abort();
        await Promise.allSettled(waiting);
        assert.equal((await api.get('/healthz')).status, 200);
    });

    test('a batch: in order, with failures in their place', async ({ flow }) => {
        const requests = [{ id: 'a', ...ask({ text: 'one', delay_ms: 80, ...TOTALS }) }, { id: 'b', ...ask({ error: { status: 429, message: 'no' } }) }, { id: 'c', ...ask({ text: 'three', ...TOTALS }) }];
        const res = await flow.ok(flow.post('/responses/batch', { requests, options: { max_concurrent: 2 } }), 200);
        assert.deepEqual(res.results.map((r) => [r.id, r.status]), [['a', 'success'], ['b', 'error'], ['c', 'success']]);
        assert.equal(res.results[1].error.status, 429);
        assert.deepEqual(res.usage, { total_input_tokens: 6, total_output_tokens: 8, total_requests: 3, successful_requests: 2, failed_requests: 1 });
        const fast = await flow.ok(flow.post('/responses/batch', { requests: [requests[1], { id: 'z', ...ask({ delay_ms: 5000 }) }], options: { fail_fast: true } }), 200);
        assert.deepEqual(fast.results.map((r) => r.status), ['error', 'error']);
        const late = await flow.ok(flow.post('/responses/batch', { requests: [{ id: 'z', ...ask({ delay_ms: 5000 }) }], options: { timeout_ms: 100 } }), 200);
        assert.equal(late.results[0].status, 'error');
        for (const body of [{}, { requests: [] }, { requests: [{ ...ask({}) }] }, { requests: [{ id: 'a', model: 'm' }] }, { requests: [requests[0]], options: { max_concurrent: 101 } }]) {
            const bad = await flow.post('/responses/batch', body);
            assert.equal(bad.status, 400);
            assert.equal(bad.json.code, 'VALIDATION_ERROR');
        }
    });

    test('models', async ({ flow }) => {
        const { models } = await flow.ok(flow.get('/models'), 200);
        assert.ok(models.some((m) => m.model_id === 'scripted/echo'));
        assert.deepEqual((await flow.ok(flow.get('/models', { capability: 'tools', provider: 'scripted' }))).models.map((m) => m.model_id), ['scripted/echo']);
        assert.deepEqual((await flow.ok(flow.get('/models', { provider: 'nobody' }))).models, []);
        assert.deepEqual((await flow.ok(flow.get('/models', { capability: 'flying' }))).models, []);
    });

    test('sessions: made, listed in pages, changed, cleared, deleted', async ({ flow }) => {
        const mine = flow.with({ ...flow.headers, 'X-ModelRelay-Customer-Id': 'pages' });
        const made = [];
        for (let i = 0; i < 5; i++) made.unshift(await mine.ok(mine.post('/sessions', { metadata: { i } }), 201));
        assert.equal(made[0].message_count, 0);
        const seen = [];
        for (let cursor; ;) {
            const page = await mine.ok(mine.get('/sessions', { limit: 2, cursor }), 200);
            seen.push(...page.sessions);
            if (!page.next_cursor) break;
            cursor = page.next_cursor;
        }
        assert.deepEqual(seen, made);
        assert.equal((await mine.ok(mine.get('/sessions', { limit: 2, offset: 4 }))).sessions.length, 1);
        for (const query of [{ limit: 0 }, { limit: 101 }, { offset: -1 }, { cursor: 'x' }]) assert.equal((await flow.get('/sessions', query)).status, 400);
        const { id } = made[0];
        assert.deepEqual((await flow.ok(flow.patch(`/sessions/${id}`, { metadata: { i: null, n: { a: 1 } } }), 200)).metadata, { n: { a: 1 } });
        const one = await flow.ok(flow.post(`/sessions/${id}/messages`, { role: 'user', content: [{ type: 'text', text: 'ü' }] }), 201);
        assert.equal(one.seq, 1);
        const two = await flow.ok(flow.post(`/sessions/${id}/messages`, { role: 'assistant', content: [], run_id: id }), 201);
        assert.deepEqual([two.seq, two.run_id], [2, id]);
        const whole = await flow.ok(flow.get(`/sessions/${id}`), 200);
        assert.equal(whole.message_count, 2);
        assert.deepEqual(whole.messages, [one, two]);
        assert.deepEqual((await flow.ok(flow.get(`/sessions/${id}/messages`))).messages, [one, two]);
        for (const body of [{}, { role: 'king', content: [] }, { role: 'user', content: 'x' }, { role: 'user', content: ['x'] }, { role: 'user', content: [], run_id: 'x' }]) {
            const bad = await flow.post(`/sessions/${id}/messages`, body);
            assert.equal(bad.status, 400);
            assert.equal(bad.json.code, 'VALIDATION_ERROR');
        }
        assert.equal((await flow.ok(flow.post(`/sessions/${id}/clear`), 200)).message_count, 0);
        assert.deepEqual((await flow.ok(flow.get(`/sessions/${id}`))).messages, []);
        assert.equal((await flow.ok(flow.post(`/sessions/${id}/messages`, { role: 'user', content: [] }), 201)).seq, 3);
        assert.equal((await flow.del(`/sessions/${id}`)).status, 204);
        for (const path of ['', '/messages']) assert.equal((await flow.get(`/sessions/${id}${path}`)).status, 404);
        assert.equal((await flow.post(`/sessions/${id}/clear`)).status, 404);
        assert.equal((await flow.del(`/sessions/${id}`)).status, 404);
    });

    test('messages that come at once have numbers of their own', async ({ flow }) => {
        const { id } = await flow.ok(flow.post('/sessions', {}), 201);
        const made = await Promise.all(Array.from({ length: 20 }, (_, i) => flow.ok(flow.post(`/sessions/${id}/messages`, { role: 'user', content: [{ i }] }), 201)));
        assert.deepEqual(made.map((m) => m.seq).sort((a, b) => a - b), Array.from({ length: 20 }, (_, i) => i + 1));
    });

});

suite('sessions and runs', {}, (test) => {
    test('a run says in its session what its outputs say', async ({ flow, server }) => {
        const { id } = await flow.ok(flow.post('/sessions', {}), 201);
        const one = await flow.finish(spec([llm('a', 'said')]), { session_id: id });
        const two = await flow.finish(spec([llm('a', 'also'), { id: 't', type: 'transform.json', object: { only: { from: 'a', pointer: '/output/0/content/0/text' } } }]), { session_id: id });
        const { messages } = await flow.ok(flow.get(`/sessions/${id}/messages`));
        assert.deepEqual(messages.map((m) => [m.seq, m.role, m.run_id, m.content]), [[1, 'assistant', one.run_id, [{ type: 'text', text: 'said' }]]]);
        assert.equal(two.status, 'succeeded');
        await server.restart();
        assert.deepEqual((await flow.ok(flow.get(`/sessions/${id}/messages`))).messages, messages);
        assert.equal((await flow.ok(flow.post(`/sessions/${id}/messages`, { role: 'user', content: [] }), 201)).seq, 2);
    });
});

suite('state handles', {}, (test) => {
    test('made, listed, deleted; one that has expired is 410', { timeout: 15000 }, async ({ flow }) => {
        const long = await flow.ok(flow.post('/state-handles', {}), 201);
        assert.ok(!('expires_at' in long));
        const short = await flow.ok(flow.post('/state-handles', { ttl_seconds: 1 }), 201);
        assert.equal((await flow.ok(flow.get('/state-handles'))).state_handles.length, 2);
        assert.equal((await flow.post('/responses', ask({ text: 'x' }, { state_id: short.id }))).status, 200);
        await sleep(1100);
        for (const res of [await flow.post('/responses', ask({ text: 'x' }, { state_id: short.id })), await flow.get(`/state-handles/${short.id}`)]) {
            assert.equal(res.status, 410, res.text);
            assert.equal(typeof res.json.error, 'string');
        }
        const batch = await flow.ok(flow.post('/responses/batch', { requests: [{ id: 'a', ...ask({ text: 'x' }, { state_id: short.id }) }, { id: 'b', ...ask({ text: 'x' }) }] }), 200);
        assert.deepEqual(batch.results.map((r) => r.error?.status), [410, undefined]);
        assert.equal((await flow.post('/responses', ask({ text: 'x' }, { state_id: 'nothing' }))).status, 404);
        assert.equal((await flow.post('/responses', ask({ text: 'x' }, { state_id: long.id }))).status, 200);
        for (const ttl of [0, 31536001, 'x', 1.5]) assert.equal((await flow.post('/state-handles', { ttl_seconds: ttl })).status, 400);
        assert.equal((await flow.del(`/state-handles/${long.id}`)).status, 204);
        assert.equal((await flow.get(`/state-handles/${long.id}`)).status, 404);
        assert.equal((await flow.del(`/state-handles/${long.id}`)).status, 404);
    });
});
