// SPDX-License-Identifier: Apache-2.0
// A corpus of secrets is sent through everything that is kept or said: inputs, models' chunks, tools' answers, errors, MCP servers'
// standard error, thread metadata. Afterwards none of them is in the files of the store, the log, the metrics or what the API gives.
import assert from 'node:assert/strict';
import http from 'node:http';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { graph, makeAgent, node } from '../conformance/lib/fixtures.mjs';
import { Client, sleep } from '../conformance/lib/client.mjs';
import { otherStore, startServer } from '../conformance/lib/server.mjs';

const SECRETS = {
    TEST_PROVIDER_KEY: 'sk-provider-4711-abcdef', TEST_TOOL_KEY: 'tool-key/with+slash==', TEST_SIGN: 'sign "quoted" \\ secret',
    TEST_MCP_TOKEN: 'mcp-token-grün-0815', TEST_MORE: 'further-secret-99',
};
const PASSWORD = 'hunter2-in-a-field';
const NEEDLES = [...Object.values(SECRETS), PASSWORD, 'sk-header-secret-55'];
// How each may stand in bytes: as it is, as JSON has it once or twice, in ASCII, with slashes escaped.
const forms = (secret) => {
    const once = JSON.stringify(secret).slice(1, -1);
    const ascii = once.replace(/[^\0-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
    return [...new Set([secret, once, JSON.stringify(once).slice(1, -1), ascii, once.replaceAll('/', '\\/')])];
};
const finds = (bytes) => NEEDLES.filter((secret) => forms(secret).some((form) => bytes.includes(Buffer.from(form))));

let outside, server, api, agents;
let asked = 0;

before(async () => {
    outside = http.createServer((req, res) => {
        let body = '';
        req.on('data', (data) => { body += data; });
        req.on('end', async () => {
            if (req.url === '/tool') {
                asked++;
                res.setHeader('content-type', 'application/json');
                res.end(JSON.stringify({ leaked: Object.values(SECRETS), heard: JSON.parse(body).arguments, password: PASSWORD, [SECRETS.TEST_MORE]: 1 }));
            } else if (req.url === '/tool-fails') {
                res.statusCode = 400;
                res.end(JSON.stringify({ error: { message: `no ${SECRETS.TEST_TOOL_KEY} ${SECRETS.TEST_MORE}` } }));
            } else if (JSON.parse(body).model === 'fails') {
                res.statusCode = 400;
                res.end(JSON.stringify({ error: { message: `bad key ${SECRETS.TEST_PROVIDER_KEY} or ${SECRETS.TEST_MORE}` } }));
            } else {
                assert.equal(req.headers.authorization, `Bearer ${SECRETS.TEST_PROVIDER_KEY}`);
                res.setHeader('content-type', 'text/event-stream');
                const text = `here: ${Object.values(SECRETS).join(' and ')} end sk-provider-`;
                for (let i = 0; i < text.length; i += 5) { // every secret is cut
                    res.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: text.slice(i, i + 5) } }] })}\n\n`);
                    if (i % 25 === 0) await sleep(2);
                }
                res.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}\n\n`);
                res.end('data: [DONE]\n\n');
            }
        });
    });
    await new Promise((resolve) => outside.listen(0, '127.0.0.1', resolve));
    const base = `http://127.0.0.1:${outside.address().port}`;
    server = await startServer({
        args: ['--log-level', 'debug'],
        env: SECRETS,
        config: {
            providers: { local: { kind: 'openai-chat', base_url: base, api_key_env: 'TEST_PROVIDER_KEY', headers: { 'X-Secret': 'sk-header-secret-55' } } },
            tools: {
                leaky: { kind: 'http', url: `${base}/tool`, api_key_env: 'TEST_TOOL_KEY', secret_env: 'TEST_SIGN', repeat_safe: true },
                fails: { kind: 'http', url: `${base}/tool-fails`, repeat_safe: true },
            },
            mcp_servers: { noisy: { command: ['sh', '-c', 'echo "token is $TEST_MCP_TOKEN" >&2; exit 3'], env_from: ['TEST_MCP_TOKEN'] } },
            redact: { fields: ['password'], secrets_env: ['TEST_MORE'] },
        },
    });
    api = new Client(server.url, server.token);
    const tool = (name) => graph([node('call', 'tool.call', { tool: name, arguments: { $from: '/input' } }, null, { execution_binding: 'tool' })]);
    const chat = (model) => graph([node('say', 'model.chat', { provider: 'local', model, prompt: { $from: '/input/text' } })]);
    agents = {
        chat: await makeAgent(api, chat('fine')), chatFails: await makeAgent(api, chat('fails')), tool: await makeAgent(api, tool('leaky')),
        toolFails: await makeAgent(api, tool('fails')), mcp: await makeAgent(api, tool('noisy.x')),
        set: await makeAgent(api, graph([node('keep', 'core.set', { value: { $from: '/input' } })])),
        human: await makeAgent(api, graph([node('ask', 'core.human', { prompt: 'what?' })])),
    };
});

after(async () => {
    await server?.stop();
    outside.close();
});

const input = { text: `tell me ${Object.values(SECRETS).join(', ')}`, password: PASSWORD, deep: [{ Password: PASSWORD }], json: JSON.stringify({ password: PASSWORD }) };

async function run(agent, body = input) {
    const created = await api.ok(api.post('/runs', { agent_id: agent, input: body }), 201);
    return api.until(created.run_id, new Set(['completed', 'failed', 'cancelled', 'waiting_for_human']));
}

const everything = async (runs) => {
    const texts = [(await api.get('/metrics')).text, (await api.get('/runs')).text, (await api.get('/failures')).text, (await api.get('/approvals')).text];
    for (const { run_id: id, thread_id: thread, current_attempt_id: attempt } of runs)
        for (const at of [`/runs/${id}`, `/runs/${id}/events?attemptId=${attempt}&limit=500`, `/runs/${id}/nodes`, `/runs/${id}/checkpoints`, `/threads/${thread}`])
            texts.push((await api.get(at)).text);
    return texts.join('\n');
};

describe('no secret is kept or said', () => {
    test('whatever way it comes', { timeout: 60000 }, async () => {
        const chat = await run(agents.chat);
        assert.equal(chat.status, 'completed', JSON.stringify(chat));
        assert.equal(chat.output.text, `here: ${Object.keys(SECRETS).map(() => '[redacted]').join(' and ')} end sk-provider-`);
        assert.deepEqual(chat.input, { text: `tell me ${Object.keys(SECRETS).map(() => '[redacted]').join(', ')}`, password: '[redacted]',
            deep: [{ Password: '[redacted]' }], json: '{"password":"[redacted]"}' });
        const shown = (await api.ledger(chat.run_id)).filter((e) => e.type === 'MODEL_DELTA').map((e) => e.payload.delta ?? e.payload.text ?? '');
        assert.equal(shown.join(''), chat.output.text);
        assert.ok(shown.length > 20);
        const runs = [chat];
        const tool = await run(agents.tool);
        assert.equal(tool.status, 'completed', JSON.stringify(tool));
        assert.equal(asked, 1);
        assert.deepEqual(tool.output.leaked ?? tool.output.output?.leaked, Object.keys(SECRETS).map(() => '[redacted]'));
        runs.push(tool);
        for (const [name, status] of [['chatFails', 'failed'], ['toolFails', 'failed'], ['mcp', 'failed'], ['set', 'completed'], ['human', 'waiting_for_human']]) {
            const done = await run(agents[name]);
            assert.equal(done.status, status, JSON.stringify(done));
            runs.push(done);
        }
        const waiting = runs.at(-1);
        assert.ok((await api.post(`/runs/${waiting.run_id}/resume`, { input: { answer: SECRETS.TEST_MORE, password: PASSWORD } })).status < 300);
        await api.post('/threads', { metadata: { note: SECRETS.TEST_MORE }, values: { v: SECRETS.TEST_SIGN } });
        const cron = await api.ok(api.post('/crons', { agent_id: agents.set, schedule: '0 0 1 1 *', input }), 201);
        assert.equal(cron.input.password, '[redacted]');
        const other = await run(agents.human);
        await api.post(`/runs/${other.run_id}/cancel`, { reason: `because of ${SECRETS.TEST_MORE}` });
        runs.push(other);
        const said = await everything(runs) + JSON.stringify(await api.get('/crons')) + (await api.get('/audit')).text;
        assert.ok(said.includes('[redacted]'));
        assert.deepEqual(finds(Buffer.from(said)), []);
        for (let n = 0; n < 200 && !/mcp_server_says/.test(server.stderrText); n++) await sleep(10);
        assert.match(server.stderrText, /token is \[redacted\]/);
    });
    test('after a restart that folds the ledgers', { timeout: 60000 }, async () => {
        const waiting = await run(agents.human);
        await server.restart();
        api = new Client(server.url, server.token);
        assert.ok((await api.post(`/runs/${waiting.run_id}/resume`, { input: { password: PASSWORD } })).status < 300);
        assert.deepEqual(finds(Buffer.from(await everything([waiting]))), []);
    });
    test('in the bytes of the store and the log', { skip: otherStore }, async () => {
        await server.stop();
        let bytes = 0;
        for (const file of readdirSync(server.dataDir, { recursive: true, withFileTypes: true })) {
            if (!file.isFile() || file.name === 'test-config.json') continue;
            const content = readFileSync(path.join(file.parentPath ?? file.path, file.name));
            bytes += content.length;
            for (const found of finds(content)) {
                const at = content.indexOf(Buffer.from(found));
                assert.fail(`${file.name}: ${JSON.stringify(content.subarray(Math.max(0, at - 150), at + 80).toString('latin1'))}`);
            }
        }
        assert.ok(bytes > 50000);
        assert.deepEqual(finds(Buffer.from(server.stderrText)), []);
    });
});
