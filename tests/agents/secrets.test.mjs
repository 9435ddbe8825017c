// SPDX-License-Identifier: Apache-2.0
// Secrets that providers, tools and MCP servers say back, in every protocol: in errors, in tokens cut anywhere, in arguments of tools,
// in structured answers, in results, on standard error. Afterwards none of them is in the store's bytes, the log, /metrics or any answer.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { otherStore } from '../conformance/lib/server.mjs';
import { KINDS, agentOf, here, sleep, startPerdure, startProvider, startTool } from './lib.mjs';

const SECRETS = { TEST_MODEL_KEY: 'good-key', SECRET_TOOL_KEY: 'sk-tool-4711/with+slash==', SECRET_SIGN: 'sign "this" \\ well', SECRET_MCP: 'mcp-geheim-grün-0815',
    SECRET_MORE: 'further-secret-99' };
const HEADER = 'sk-header-secret-55';
const NEEDLES = [...Object.values(SECRETS), HEADER];
const ALL = NEEDLES.join(' and ');
const forms = (secret) => {
    const once = JSON.stringify(secret).slice(1, -1);
    const ascii = once.replace(/[^\0-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
    return [...new Set([secret, once, JSON.stringify(once).slice(1, -1), ascii, once.replaceAll('/', '\\/')])];
};
const finds = (bytes) => NEEDLES.filter((secret) => forms(secret).some((form) => bytes.includes(Buffer.from(form))));
const cut = (text, size) => text.match(new RegExp(`[^]{1,${size}}`, 'gu'));

let provider, tool, p;
const runs = [];

before(async () => {
    provider = await startProvider();
    tool = await startTool();
    tool.answers.leak = { leaked: NEEDLES, text: `so: ${ALL}`, [SECRETS.SECRET_MORE]: 1 };
    tool.answers.refuse = (call, res) => { res.writeHead(403, { 'content-type': 'application/json' }); res.end(JSON.stringify({ error: { message: `no ${ALL}` } })); };
    const one = (kind) => ({ kind, base_url: provider.base, api_key_env: 'TEST_MODEL_KEY', headers: { 'X-Api-Secret': HEADER } });
    p = await startPerdure(provider, {
        providers: Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, one(kind)])),
        tools: { leak: tool.config('leak', { api_key_env: 'SECRET_TOOL_KEY', secret_env: 'SECRET_SIGN' }), refuse: tool.config('refuse') },
        mcp_servers: {
            own: { command: [process.execPath, path.join(here, '../tools/mcp-server.mjs'), 'stdio'], env_from: ['SECRET_MCP'] },
            noisy: { command: ['sh', '-c', 'echo "token is $SECRET_MCP" >&2; exit 3'], env_from: ['SECRET_MCP'] },
        },
        redact: { secrets_env: ['SECRET_MORE'] },
    }, { env: SECRETS, args: ['--log-level', 'debug'] });
});
after(async () => {
    await p?.stop();
    tool?.stop();
    provider?.stop();
});

const end = async (definition, input = 'go') => {
    const run = await p.until(await p.begin(definition, input), 'completed', 'failed', 'waiting_for_human');
    runs.push(run);
    return run;
};
const say = (size) => ({ texts: cut(`it is ${ALL}.`, size) });

async function everything() {
    const texts = [];
    for (const at of ['/metrics', '/runs?limit=500', '/runs/failures', '/approvals', '/audit', '/threads', '/runs/observability/summary', '/runs/observability/bindings'])
        texts.push((await p.api.get(at)).text);
    for (const { run_id: id, thread_id: thread, current_attempt_id: attempt } of runs) {
        for (const at of [`/runs/${id}`, `/runs/${id}/inspection`, `/runs/${id}/checkpoints/index`, `/threads/${thread}`, `/threads/${thread}/history`])
            texts.push((await p.api.get(at)).text);
        texts.push(JSON.stringify(await p.api.ledger(id, attempt)));
        const stream = await fetch(`${p.server.url}/v1/api/runs/${id}/events/stream?attemptId=${attempt}&afterSeq=0`, { headers: { Authorization: 'Bearer dev' },
            signal: AbortSignal.timeout(300) });
        for await (const piece of stream.body) texts.push(Buffer.from(piece).toString());
    }
    return texts.join('\n');
}

describe('secrets are said back', { concurrency: 1 }, () => {
    test('in tokens, however they are cut, and in thoughts', async () => {
        for (const name of Object.keys(KINDS))
            for (const size of [1, 3, 7, 1000]) {
                const run = await end(agentOf({ provider: name, model: await provider.script(say(size)) }));
                assert.equal(run.output.text, `it is ${NEEDLES.map(() => '[redacted]').join(' and ')}.`);
            }
    });
    test('in errors, also such as are tried again, and in streams that break', async () => {
        for (const name of Object.keys(KINDS)) {
            assert.match((await end(agentOf({ provider: name, model: 'error-echo-key' }))).error.message, /\[redacted\]|\*\*\*/);
            await end(agentOf({ provider: name, model: await provider.script({ status: 500, message: `broken: ${ALL}` }) }, { retry: { base_delay_ms: 1 } }));
            await end(agentOf({ provider: name, model: await provider.script({ ...say(2), cut: 30 }, say(5)) }, { retry: { base_delay_ms: 1 } }));
        }
    });
    test('in arguments, results and errors of tools, and in what an MCP server says', async () => {
        for (const name of Object.keys(KINDS)) {
            const calls = { calls: [['leak', { say: ALL }], ['refuse', {}], ['own_whoami', {}]].map(([called, args]) => ({ name: called, arguments: args })) };
            const run = await end(agentOf({ provider: name, model: await provider.script(calls, say(4)) }, { tools: ['leak', 'refuse', 'own.whoami'] }));
            assert.equal(run.status, 'completed', JSON.stringify(run.error));
        }
        assert.ok(tool.named('leak').length === 3);
        assert.equal(tool.named('leak')[0].headers.authorization, `Bearer ${SECRETS.SECRET_TOOL_KEY}`); // it does reach whom it is for
        assert.equal((await end(agentOf({ provider: 'chat', model: await provider.script(say(9)) }, { tools: ['noisy.*'] }))).status, 'failed');
        for (let i = 0; i < 300 && !/mcp_server_says/.test(p.server.stderrText); i++) await sleep(10);
        assert.match(p.server.stderrText, /token is \[redacted\]/);
    });
    test('in structured answers and their repairs, questions, approvals and memories', async () => {
        const output = { schema: { type: 'object', required: ['ok'] }, repairs: 1 };
        await end(agentOf(await provider.script({ texts: [JSON.stringify({ bad: ALL })] }, { texts: [JSON.stringify({ ok: ALL })] }), { output, memory: { thread: true } }), ALL);
        await end(agentOf(await provider.script({ texts: [JSON.stringify({ bad: ALL })] }), { output }), { message: ALL });
        const asks = { calls: [{ name: 'user_ask', arguments: { question: `Is it ${ALL}?` } }] };
        const asked = await end(agentOf(await provider.script(asks, say(6)), { tools: ['user_ask'] }));
        assert.equal(asked.status, 'waiting_for_human');
        await p.api.ok(p.api.resume(asked.run_id, { input: `yes, ${ALL}` }), 200);
        await p.until(asked, 'completed');
        const wants = { calls: [{ name: 'kv_write', arguments: { key: 'k', value: ALL } }] };
        const wanted = await end(agentOf(await provider.script(wants, say(6)), { tools: [{ name: 'kv_write', by: 'local', approval: true }] }));
        await p.api.ok(p.api.post(`/approvals/${wanted.approval_id}/reject`, { reason: ALL }), 200);
        await p.until(wanted, 'completed');
    });
    test('nothing of it is told', async () => {
        const text = await everything();
        assert.equal(finds(Buffer.from(text + ALL)).length, NEEDLES.length);
        assert.ok(text.includes('[redacted]') && text.length > 100000);
        assert.deepEqual(finds(Buffer.from(text)), []);
    });
    test('nothing of it is told after a kill -9, nor kept in the bytes of the store or the log', async () => {
        await p.server.restart({ how: 'kill9' });
        assert.deepEqual(finds(Buffer.from(await everything())), []);
        await p.server.stop();
        let bytes = 0;
        for (const file of readdirSync(p.server.dataDir, { recursive: true, withFileTypes: true })) {
            if (otherStore || !file.isFile() || file.name === 'test-config.json') continue;
            const content = readFileSync(path.join(file.parentPath ?? file.path, file.name));
            bytes += content.length;
            for (const found of finds(content)) {
                const at = content.indexOf(Buffer.from(found));
                assert.fail(`${file.name}: ${JSON.stringify(content.subarray(Math.max(0, at - 200), at + 80).toString('latin1'))}`);
            }
        }
        assert.ok(otherStore || bytes > 100000);
        assert.deepEqual(finds(Buffer.from(p.server.stderrText)), []);
    });
});
