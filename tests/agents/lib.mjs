// SPDX-License-Identifier: Apache-2.0
// What the tests of agents share: a provider that speaks three protocols natively, a tool behind HTTP, a perdure that knows both,
// and a few words about runs.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import http from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client, sleep, unique } from '../conformance/lib/client.mjs';
import { makeAgent } from '../conformance/lib/fixtures.mjs';
import { startServer } from '../conformance/lib/server.mjs';

export { Client, makeAgent, sleep, unique };
export const here = path.dirname(fileURLToPath(import.meta.url));
export const everything = path.join(here, '../tools/node_modules/@modelcontextprotocol/server-everything/dist/index.js');
export const KINDS = { chat: 'openai-chat', responses: 'openai-responses', anthropic: 'anthropic' };
const ENDED = ['completed', 'failed', 'cancelled'];

// tests/wire/provider-server.mjs in a process of its own.
export async function startProvider() {
    const child = spawn(process.execPath, [path.join(here, '../wire/provider-server.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout });
    const port = await new Promise((resolve) => { lines.once('line', (line) => resolve(Number(/listening on (\d+)/.exec(line)[1]))); });
    const url = `http://127.0.0.1:${port}`;
    const get = async (at) => (await fetch(url + at)).json();
    return {
        url,
        base: `${url}/v1`,
        // The n-th request for the model that is answered here gets the n-th turn.
        async script(...turns) {
            const model = unique('told');
            await fetch(`${url}/_script`, { method: 'POST', body: JSON.stringify({ model, turns }) });
            return model;
        },
        requests: async (model) => (await get('/_log')).filter((one) => one.model === model),
        closed: async (model) => (await get(`/_closed?model=${encodeURIComponent(model)}`)).closed,
        stop: () => child.kill(),
    };
}

// A tool behind HTTP. Each path answers with what `answers` has for it: a value, or a function of the request that may wait.
export async function startTool(answers = {}) {
    const tool = { answers, calls: [] };
    tool.server = http.createServer(async (req, res) => {
        let text = '';
        for await (const piece of req) text += piece;
        const name = req.url.slice(1).split('?')[0];
        const call = { name, key: req.headers['idempotency-key'], headers: req.headers, body: text ? JSON.parse(text) : null };
        tool.calls.push(call);
        const answer = tool.answers[name];
        const value = typeof answer === 'function' ? await answer(call, res) : answer;
        if (res.writableEnded) return;
        res.writeHead(200, { 'Content-Type': 'application/json' });
        res.end(JSON.stringify(value ?? { ok: name }));
    });
    await new Promise((resolve) => { tool.server.listen(0, '127.0.0.1', resolve); });
    tool.url = `http://127.0.0.1:${tool.server.address().port}`;
    tool.config = (name, more = {}) => ({ kind: 'http', url: `${tool.url}/${name}`, description: `The tool ${name}.`, ...more });
    tool.named = (name) => tool.calls.filter((call) => call.name === name);
    tool.stop = () => { tool.server.closeAllConnections(); tool.server.close(); };
    return tool;
}

// A perdure whose providers chat, responses and anthropic are all the one of the tests; options as for startServer.
export async function startPerdure(provider, config = {}, options = {}) {
    const one = (kind) => ({ kind, base_url: provider.base, api_key_env: 'TEST_MODEL_KEY' });
    const server = await startServer({ ...options, env: { TEST_MODEL_KEY: 'good-key', ...options.env },
        config: { ...config, providers: { chat: one(KINDS.chat), responses: one(KINDS.responses), anthropic: one(KINDS.anthropic), ...config.providers } } });
    const api = new Client(server.url, server.token);
    return { server, api, ...words(api), async stop() { await server.stop(); server.removeData(); assert.equal(server.complaint(), null); } };
}

export const agentOf = (model, more = {}) => ({ format: 1, agent: { system: 'You help.', model: typeof model === 'string' ? { provider: 'chat', model } : model, ...more } });

function words(api) {
    const events = (run) => api.ledger(run.run_id, run.current_attempt_id);
    const types = async (run) => (await events(run)).map((e) => e.type).filter((type) => type !== 'MODEL_DELTA');
    const until = async (run, ...statuses) => {
        for (const began = Date.now(); Date.now() - began < 20000; await sleep(10)) {
            const now = await api.run(run.run_id);
            if (statuses.includes(now.status)) return now;
            if (ENDED.includes(now.status)) throw new Error(`it is ${now.status}, not ${statuses}: ${JSON.stringify(now.error ?? now.output)}`);
        }
        throw new Error(`not ${statuses}: ${(await types(run)).join(' ')}`);
    };
    return {
        events, types, until,
        one: async (run, type) => (await events(run)).find((e) => e.type === type)?.payload,
        all: async (run, type) => (await events(run)).filter((e) => e.type === type).map((e) => e.payload),
        begin: async (definition, input = 'go', more = {}) =>
            api.create({ agent_id: typeof definition === 'string' ? definition : await makeAgent(api, definition), input, ...more }),
        async play(definition, input = 'go', more = {}) {
            const run = await this.begin(definition, input, more);
            const now = await until(run, 'completed', 'failed');
            assert.equal(now.status, 'completed', JSON.stringify(now.error));
            return now;
        },
        async fail(definition, input = 'go', more = {}) {
            const now = await until(await this.begin(definition, input, more), 'completed', 'failed');
            assert.equal(now.status, 'failed', JSON.stringify(now.output));
            return now;
        },
        // Until `what` gives something, for what another process does.
        async soon(what, ms = 10000) {
            for (const began = Date.now(); Date.now() - began < ms; await sleep(5)) {
                const found = await what();
                if (found) return found;
            }
            throw new Error('it did not happen in time');
        },
    };
}
