// SPDX-License-Identifier: Apache-2.0
// What an agent can call, over the API: HTTP tools, MCP servers, http_fetch and where it may not go, its own values, other agents, its
// clients, and people.
import assert from 'node:assert/strict';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { agentOf, everything, here, makeAgent, startPerdure, startProvider, startTool } from './lib.mjs';

let provider, tool, web, p;
const inside = { requests: [] };

before(async () => {
    provider = await startProvider();
    tool = await startTool({ pay: { paid: true } });
    web = http.createServer((req, res) => {
        inside.requests.push(req.url);
        if (req.url === '/page') { res.setHeader('content-type', 'text/html'); return res.end('<p>page</p>'); }
        const to = { '/to-metadata': 'http://169.254.169.254/latest/meta-data', '/to-mapped': 'http://[::ffff:127.0.0.1]:1/', '/to-page': '/page',
            '/to-decimal': `http://2130706433:${web.address().port}/page`, '/to-file': 'file:///etc/passwd', '/to-user': 'http://a:b@example.com/' }[req.url];
        res.writeHead(to ? 302 : 404, to ? { location: to } : {});
        return res.end();
    });
    await new Promise((resolve) => { web.listen(0, '127.0.0.1', resolve); });
    inside.url = `http://localhost:${web.address().port}`;
    p = await startPerdure(provider, {
        tools: { pay: tool.config('pay', { secret_env: 'TEST_SIGN', version: '2' }), asked: tool.config('asked', { approval: 'always' }), look: tool.config('look', { repeat_safe: true }),
            fails: tool.config('fails'), slow: tool.config('slow', { timeout_ms: 200 }) },
        mcp_servers: { every: { command: [process.execPath, everything, 'stdio'], repeat_safe: ['echo'] },
            own: { command: [process.execPath, path.join(here, '../tools/mcp-server.mjs'), 'stdio'] } },
        outbound: { allow: ['localhost'] }, // by this name, not by its address
    }, { env: { TEST_SIGN: 'sign-with-this' } });
});
after(async () => {
    await p?.stop();
    tool?.stop();
    web?.close();
    provider?.stop();
});

const calls = (...list) => ({ calls: list.map(([name, args]) => ({ name, arguments: args ?? {} })) });
const done = { texts: ['done'] };
// What the model is told of the results in its second request, by the order of its calls.
const told = async (model, nth = 1) => (await provider.requests(model))[nth].body.messages.filter((m) => m.role === 'tool').map((m) => m.content);

describe('tools of the server', () => {
    test('HTTP: key, signature, context; errors and time-outs are results that the model reads', async () => {
        const model = await provider.script(calls(['pay', { n: 1 }], ['fails'], ['slow'], ['unheard_of'], ['pay', 'no json']), done);
        tool.answers.fails = (call, res) => { res.writeHead(422, { 'content-type': 'application/json' }); res.end('{"error":{"message":"not today"}}'); };
        tool.answers.slow = (call, res) => new Promise((resolve) => { res.on('close', resolve); });
        const run = await p.play(agentOf(model, { tools: ['pay', 'fails', 'slow'] }));
        const [pay, fails, slow, unknown, bad] = await told(model);
        assert.equal(pay, '{"paid":true}');
        assert.match(fails, /^Error: .*not today/);
        assert.match(slow, /^Error: /);
        assert.match(unknown, /^Error: .*unheard_of/);
        assert.match(bad, /^Error: /);
        const [call] = tool.named('pay');
        assert.match(call.key, /^[0-9a-f-]{36}$/);
        assert.match(call.headers['perdure-signature'], /^v1=[0-9a-f]{64}$/);
        assert.equal(call.body.version, '2');
        const failed = await p.all(run, 'TOOL_CALL_FAILED');
        assert.deepEqual(failed.map((f) => [f.tool, f.error.code]).sort(), [['fails', 'rejected'], ['slow', 'timeout']], JSON.stringify(failed));
        assert.equal(run.usage.tool_calls, 3);
    });

    test('MCP over stdio: listed at the start, called, its errors are results, and a server that dies is one too', async () => {
        const model = await provider.script(calls(['every_get-sum', { a: 2, b: 40 }], ['own_fail']), calls(['own_die']), calls(['own_page-2']), done);
        const run = await p.play(agentOf(model, { tools: ['every.*', 'own.*'] }));
        const results = await told(model);
        assert.match(results[0], /\b42\b/);
        assert.match(results[1], /^Error: .*it failed on purpose/);
        assert.match((await told(model, 2)).at(-1), /^Error: .*ended/);
        assert.equal((await told(model, 3)).at(-1), 'page-2');
        const tools = (await provider.requests(model))[0].body.tools.map((t) => t.function);
        assert.ok(tools.some((t) => t.name === 'every_echo' && t.parameters.type === 'object'));
        assert.equal((await p.one(run, 'TOOL_CALL_STARTED')).tool.includes('.*'), false);
    });

    test('http_fetch goes where the configuration lets it, and nowhere else', async () => {
        const local = `http://127.0.0.1:${web.address().port}/page`;
        const refused = ['http://127.0.0.1/', local, 'http://2130706433/', 'http://0x7f000001/', 'http://0177.0.0.1/', 'http://127.1/', 'http://[::1]/',
            'http://[::ffff:127.0.0.1]/', 'http://[::ffff:7f00:1]/', 'http://[64:ff9b::7f00:1]/', 'http://169.254.169.254/latest/meta-data', 'http://[fd00:ec2::254]/', 'http://10.0.0.1/',
            'http://172.16.0.1/', 'http://192.168.1.1/', 'http://100.64.0.1/', 'http://0.0.0.0/', 'http://224.0.0.1/', 'http://[fe80::1]/', 'ftp://example.com/',
            'file:///etc/passwd', 'http://user:secret@example.com/', 'gopher://127.0.0.1/', `${inside.url}/to-metadata`, `${inside.url}/to-mapped`,
            `${inside.url}/to-decimal`, `${inside.url}/to-file`, `${inside.url}/to-user`];
        for (let at = 0; at < refused.length; at += 14) {
            const some = refused.slice(at, at + 14);
            const model = await provider.script(calls(...some.map((url) => ['http_fetch', { url }])), done);
            inside.requests.length = 0;
            const run = await p.play(agentOf(model, { tools: ['http_fetch'] }));
            (await told(model)).forEach((result, i) => assert.match(result, /^Error: /, some[i]));
            const failed = await p.all(run, 'TOOL_CALL_FAILED');
            assert.equal(failed.length, some.length);
            for (const f of failed) assert.match(f.error.code, /^(outbound_refused|invalid_url)$/, JSON.stringify(f));
            assert.deepEqual(inside.requests.filter((url) => url === '/page'), []);
        }
        const model = await provider.script(calls(['http_fetch', { url: `${inside.url}/to-page` }]), done);
        await p.play(agentOf(model, { tools: ['http_fetch'] }));
        const page = JSON.parse((await told(model))[0]);
        assert.deepEqual([page.status, page.text, page.url], [200, '<p>page</p>', `${inside.url}/page`]);
    });

    test('values of its own are there in the next run of the thread', async () => {
        const first = await provider.script(calls(['kv_write', { key: 'colour', value: 'green' }]), done);
        const run = await p.play(agentOf(first, { tools: [{ name: 'kv_write', by: 'local' }] }));
        const second = await provider.script(calls(['kv_read', { key: 'colour' }]), done);
        await p.play(agentOf(second, { tools: [{ name: 'kv_read', by: 'local' }] }), 'again', { thread: { thread_id: run.thread_id } });
        assert.match((await told(second))[0], /green/);
    });
});

describe('other agents', () => {
    test('an agent is a node of a graph, and its usage is on the node and the run', async () => {
        const model = await provider.script(calls(['look']), { texts: ['seen'] });
        const run = await p.play({ format: 1, entry: 'first', nodes: [
            { node: 'first', capability_ref: 'core.value', capability_version: '1', execution_binding: 'builtin', config: { value: 'the question' }, next: 'clerk' },
            { node: 'clerk', capability_ref: 'agent.loop', capability_version: '1', execution_binding: 'loop', next: 'last',
                config: { input: { $from: '/nodes/first/output' }, ...agentOf(model, { tools: ['look'] }).agent } },
            { node: 'last', capability_ref: 'core.value', capability_version: '1', execution_binding: 'builtin', config: { value: { $from: '/nodes/clerk/output/text' } }, next: null }] });
        assert.equal(run.output, 'seen');
        assert.equal((await provider.requests(model))[0].body.messages.at(-1).content, 'the question');
        const clerk = (await p.all(run, 'NODE_FINISHED')).find((n) => n.node === 'clerk');
        assert.equal(clerk.output.steps, 2);
        assert.equal(run.usage.model_calls, 2);
    });

    test('an agent is a tool, in the same run and in one of its own', async () => {
        const lawyer = await provider.script({ texts: ['It is legal.'] });
        const model = await provider.script(calls(['lawyer', { input: 'May I?' }], ['clerk', { input: 'Note it.' }]), done);
        const clerk = await makeAgent(p.api, agentOf(await provider.script({ texts: ['Noted.'] })));
        const run = await p.play(agentOf(model, { tools: [
            { name: 'lawyer', description: 'Knows the law.', agent: agentOf(lawyer).agent }, { name: 'clerk', description: 'Notes.', agent_id: clerk }] }));
        assert.deepEqual(await told(model), ['It is legal.', 'Noted.']);
        const child = await p.one(run, 'HANDOFF_STARTED');
        assert.equal(child.child_agent_id, clerk);
        assert.equal((await p.api.run(child.child_run_id)).output.text, 'Noted.');
        assert.equal(run.usage.model_calls, 3);
    });
});

describe('clients and people', () => {
    const waiting = async (run) => p.soon(async () => (await p.api.run(run.run_id)).waiting_on === 'tools' && (await p.all(run, 'NODE_WAITING')).at(-1));
    const give = (run, ...results) => p.api.post(`/runs/${run.run_id}/tool-results`, { results });

    test('a follower answers the tools that are its own, in parts, also after a restart', async () => {
        const model = await provider.script(calls(['open_file', { path: 'a' }], ['open_file', { path: 'b' }]), calls(['open_file', { path: 'c' }]), done);
        const run = await p.begin(agentOf(model, { tools: [{ name: 'open_file', description: 'Opens.', by: 'client', parameters: { type: 'object' } }] }));
        const { pending } = await waiting(run);
        assert.deepEqual(pending.map((c) => [c.tool, c.arguments]), [['open_file', { path: 'a' }], ['open_file', { path: 'b' }]]);
        const [a, b] = pending.map((c) => c.tool_call_id);
        assert.equal((await give(run, { tool_call_id: a, result: { text: 'A' } })).json.waiting_on, 'tools');
        await p.server.restart({ how: 'kill9' });
        assert.equal((await give(run, { tool_call_id: a, result: { text: 'A' } })).status, 200); // the same again does no harm
        assert.equal((await give(run, { tool_call_id: a, result: { text: 'other' } })).status, 409);
        for (const bad of [[], [{ tool_call_id: b }], [{ tool_call_id: b, result: 1, error: 'both' }], [{ result: 1 }], [{ tool_call_id: b, result: 1 }, { tool_call_id: b, result: 1 }],
            [{ tool_call_id: b, error: '' }], [{ tool_call_id: 'nobody', result: 1 }]])
            assert.equal((await give(run, ...bad)).status, 422, JSON.stringify(bad));
        assert.equal((await p.api.post('/runs/00000000-0000-7000-8000-000000000000/tool-results', { results: [{ tool_call_id: 'x', result: 1 }] })).status, 404);
        assert.equal((await give(run, { tool_call_id: b, error: { message: 'no such file', code: 'enoent' } })).status, 200);
        const next = await p.soon(async () => (await p.all(run, 'NODE_WAITING'))[1]);
        const last = { tool_call_id: next.pending[0].tool_call_id, result: null };
        await p.soon(async () => (await give(run, last)).status === 200);
        await p.until(run, 'completed');
        assert.deepEqual((await told(model)).map((t) => t.slice(0, 19)), ['{"text":"A"}', 'Error: no such file']);
        assert.equal((await give(run, last)).status, 200);
        assert.equal((await give(run, { tool_call_id: a, result: 5 })).status, 409);
    });

    test('a question, an approval that is given and one that is not; neither is asked of a tool before', async () => {
        const model = await provider.script(calls(['user_ask', { question: 'Which room?' }]), calls(['asked', { n: 1 }]), calls(['asked', { n: 2 }]), done);
        const run = await p.begin(agentOf(model, { tools: ['user_ask', 'asked'] }));
        let now = await p.until(run, 'waiting_for_human');
        assert.equal(now.human_prompt, 'Which room?');
        await p.api.ok(p.api.resume(run.run_id, { input: 'the green one' }), 200);
        const next = async (prompt) => p.soon(async () => {
            now = await p.api.run(run.run_id);
            return now.status === 'waiting_for_human' && now.approval_id !== prompt && now;
        });
        const first = await next(now.approval_id);
        assert.equal(tool.named('asked').length, 0);
        await p.api.ok(p.api.post(`/approvals/${first.approval_id}/approve`, {}), 200);
        const second = await next(first.approval_id);
        assert.deepEqual(tool.named('asked').map((c) => c.body.arguments), [{ n: 1 }]);
        await p.api.ok(p.api.post(`/approvals/${second.approval_id}/reject`, { reason: 'too dear' }), 200);
        await p.until(run, 'completed');
        assert.equal(tool.named('asked').length, 1);
        const results = await told(model, 3);
        assert.match(results[0], /the green one/);
        assert.match(results[2], /^Error: .*too dear/);
        const decided = (await p.api.get(`/approvals?run_id=${run.run_id}&order=asc`)).json.items.map((a) => a.status);
        assert.deepEqual(decided, ['approved', 'approved', 'rejected']);
    });

    test('a kill -9 while a tool works: the repeat-safe one is sent again with its key, of the other the approvals list asks', async () => {
        for (const decision of ['result', 'failed', 'repeat']) {
            let held = true;
            tool.calls.length = 0;
            tool.answers.pay = async (call, res) => { if (held) await new Promise((resolve) => { res.on('close', resolve); }); return { paid: decision }; };
            tool.answers.look = tool.answers.pay;
            const model = await provider.script(calls(['pay', { n: decision }], ['look']), done);
            const run = await p.begin(agentOf(model, { tools: ['pay', 'look'] }));
            await p.soon(() => tool.calls.length === 2);
            await p.server.restart({ how: 'kill9' });
            held = false;
            const now = await p.until(run, 'waiting_for_human');
            const [asked] = (await p.api.get(`/approvals?run_id=${run.run_id}&status=pending`)).json.items;
            assert.equal(asked.approval_id, now.approval_id);
            assert.match(asked.prompt, /pay/);
            assert.equal(tool.named('pay').length, 1);
            const looks = tool.named('look').map((c) => c.key);
            assert.deepEqual([looks.length, looks[0]], [2, looks[1]]);
            const prompt = await p.one(run, 'HUMAN_PROMPT');
            assert.equal(prompt.kind, 'receipt');
            assert.equal(prompt.details.idempotency_key, tool.named('pay')[0].key);
            await p.api.ok(p.api.post(`/approvals/${asked.approval_id}/approve`, { input: decision === 'result' ? { result: { paid: 'by hand' } } : decision }), 200);
            await p.until(run, 'completed');
            assert.equal(tool.named('pay').length, decision === 'repeat' ? 2 : 1);
            const [paid] = await told(model);
            if (decision === 'result') assert.equal(paid, '{"paid":"by hand"}');
            else if (decision === 'failed') assert.match(paid, /^Error: /);
            else assert.equal(paid, '{"paid":"repeat"}');
            if (decision === 'repeat') assert.equal(tool.named('pay')[1].key, tool.named('pay')[0].key);
        }
    });
});
