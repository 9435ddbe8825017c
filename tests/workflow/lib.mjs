// SPDX-License-Identifier: Apache-2.0
// What the tests of the workflow surface share: a client of /api/v1, a strict reader of event lines, and workflows to run.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { Client, queryString, sleep } from '../conformance/lib/client.mjs';
import { suite as base } from '../conformance/lib/harness.mjs';
import { validator } from '../conformance/lib/validator.mjs';

export { sleep };
export const KEY = 'mr_sk_dev';
export const TERMINAL = new Set(['succeeded', 'failed', 'canceled']);
export const TERMINAL_EVENTS = new Set(['run_completed', 'run_failed', 'run_canceled']);
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const HASH = /^[0-9a-f]{64}$/;

const schema = JSON.parse(readFileSync(new URL('../../src/api/workflow_runs/run_event.schema.json', import.meta.url)));
const complaint = validator(schema);

// ---- the client ----

export class Flow extends Client {
    constructor(server, headers = { 'X-ModelRelay-Api-Key': KEY }) {
        super(server.url, undefined, headers);
        this.server = server;
    }

    with(headers) { return new Flow(this.server, headers); }
    req(method, path, options) { return super.req(method, `/api/v1${path}`, options); }

    async start(spec, more = {}) { return this.ok(this.post('/runs', { spec, ...more }), 200); }
    snapshot(id, query) { return this.ok(this.get(`/runs/${id}`, query), 200); }
    pending(id) { return this.ok(this.get(`/runs/${id}/pending-tools`), 200).then((body) => body.pending); }
    results(id, body) { return this.post(`/runs/${id}/tool-results`, body); }

    async until(id, wanted = TERMINAL, withinMs = 15000) {
        const set = typeof wanted === 'string' ? new Set([wanted]) : wanted;
        const deadline = Date.now() + withinMs;
        for (let pause = 5; ; pause = Math.min(pause * 2, 60)) {
            const run = await this.snapshot(id);
            if (set.has(run.status)) return run;
            assert.ok(Date.now() < deadline && !TERMINAL.has(run.status), `run ${id} is ${run.status}, wanted ${[...set]}: ${JSON.stringify(run).slice(0, 1500)}`);
            await sleep(pause);
        }
    }

    async finish(spec, more, wanted = 'succeeded') {
        const made = await this.start(spec, more);
        return this.until(made.run_id, wanted);
    }

    // What is stored, checked.
    async list(id, query = {}, open = false) {
        const log = await this.follow(id, { wait: 0, ...query });
        await log.end();
        assert.equal(log.how, 'end');
        checkLog(log.events, { after: Number(query.after_seq ?? 0), open: true, id });
        if (!open && !query.limit) assert.ok(log.events.length === 0 || TERMINAL_EVENTS.has(log.events.at(-1).type), 'the log ends with a terminal event');
        return log.events;
    }

    // An open event stream; its headers are there.
    follow(id, query = {}, headers = {}) {
        return new Promise((resolve, reject) => {
            const url = new URL(this.base);
            const request = http.request({ host: url.hostname, port: url.port, agent: false, path: `/api/v1/runs/${id}/events${queryString(query)}`,
                headers: { ...this.headers, accept: 'application/x-ndjson', ...headers } }, (response) => resolve(new Log(request, response)));
            request.on('error', reject);
            request.end();
        });
    }
}

// ---- event lines ----

export class Log {
    constructor(request, response) {
        this.request = request;
        this.status = response.statusCode;
        this.headers = response.headers;
        this.bytes = Buffer.alloc(0);
        this.how = null; // 'end' or 'reset'
        this.blank = 0;
        this.events = [];
        this.waiters = new Set();
        let at = 0;
        response.on('data', (part) => {
            this.bytes = Buffer.concat([this.bytes, part]);
            for (let end; this.status === 200 && (end = this.bytes.indexOf(10, at)) >= 0; at = end + 1) this.line(this.bytes.subarray(at, end));
            this.rest = this.bytes.length - at;
            this.wake();
        });
        response.on('end', () => { this.how ??= 'end'; this.wake(); });
        response.on('error', () => { this.how ??= 'reset'; this.wake(); });
        response.on('aborted', () => { this.how ??= 'reset'; this.wake(); });
    }

    get text() { return this.bytes.toString('utf8'); }
    line(bytes) {
        if (bytes.length === 0) { this.blank++; return; }
        if (String(this.headers['content-type']).startsWith('application/x-ndjson')) this.events.push(checkLine(bytes));
    }

    wake() { for (const wake of this.waiters) wake(); }
    close() { this.request.destroy(); }

    async until(enough, withinMs = 10000, what = 'what was waited for') {
        const deadline = Date.now() + withinMs;
        while (!enough(this)) {
            assert.ok(Date.now() < deadline, `not in time: ${what}; ${this.how ?? 'open'}, ${this.text.slice(-1500)}`);
            let wake;
            const woken = new Promise((resolve) => { wake = resolve; this.waiters.add(wake); });
            await Promise.race([woken, sleep(Math.min(100, Math.max(1, deadline - Date.now())))]);
            this.waiters.delete(wake);
        }
        return this;
    }

    event(type, withinMs) { return this.until((log) => log.events.some((e) => e.type === type), withinMs, type).then(() => this.events.find((e) => e.type === type)); }
    async end(withinMs = 10000) {
        await this.until((log) => log.how, withinMs, 'the end');
        if (this.how === 'end') assert.equal(this.rest ?? 0, 0, 'the last line ends with a newline');
        return this;
    }
}

// Of the schema, and of contract 4.3 to 4.5 what the schema does not say.
export function checkLine(bytes) {
    assert.ok(bytes.every((b) => b >= 0x20 && b < 0x7f), `printable ASCII: ${bytes}`);
    const event = JSON.parse(bytes.toString('latin1'));
    const wrong = complaint(event);
    assert.equal(wrong, null, `${wrong}: ${bytes}`);
    assert.equal(event.envelope_version, 'v2');
    assert.ok(EVENT_TYPES.has(event.type), `type ${event.type}`);
    const nulls = JSON.stringify(event).match(/:null/);
    assert.equal(nulls, null, `null in ${bytes}`);
    for (const key of ['output', 'outputs']) if (event[key]) assert.equal(event[key].info.included, false);
    if (event.error) assert.deepEqual(Object.keys(event.error).filter((k) => !['code', 'message'].includes(k)), []);
    if (event.delta) assert.equal('text_delta' in event.delta, event.delta.kind === 'message_delta');
    if (event.node_id) assert.match(event.node_id, /^[a-z][a-z0-9_]{0,63}$/);
    return event;
}

export const EVENT_TYPES = new Set(['run_compiled', 'run_started', 'run_completed', 'run_failed', 'run_canceled', 'node_started', 'node_llm_call',
    'node_tool_call', 'node_tool_result', 'node_waiting', 'node_user_ask', 'node_user_answer', 'node_output_delta', 'node_output',
    'node_succeeded', 'node_failed']);

// The order of a log, or of its part behind `after`.
export function checkLog(events, { after = 0, open = false, id } = {}) {
    events.forEach((event, i) => {
        assert.equal(event.seq, after + i + 1, `dense seq: ${events.map((e) => e.seq)}`);
        if (id) assert.equal(event.run_id, id);
        if (i) assert.ok(event.ts >= events[i - 1].ts, 'ts does not decrease');
        if (TERMINAL_EVENTS.has(event.type)) assert.equal(i, events.length - 1, 'nothing follows the terminal event');
    });
    if (!open) assert.ok(TERMINAL_EVENTS.has(events.at(-1)?.type), `ends with a terminal event: ${events.at(-1)?.type}`);
    if (after > 0 || events.length === 0) return;
    assert.equal(events[0].type, 'run_compiled');
    assert.equal(events[1].type, 'run_started');
    const nodes = new Map();
    const calls = new Set();
    for (const event of events) {
        if (!event.node_id) continue;
        const node = nodes.get(event.node_id) ?? { started: false, ended: false, open: new Set() };
        nodes.set(event.node_id, node);
        assert.ok(!node.ended, `${event.type} behind the end of ${event.node_id}`);
        assert.equal(node.started, event.type !== 'node_started', `${event.type} of ${event.node_id}`);
        node.started = true;
        if (event.type === 'node_tool_call') {
            const call = event.tool_call.tool_call.id;
            assert.ok(!calls.has(call), `the id ${call} is used twice`);
            calls.add(call);
            node.open.add(call);
        }
        if (event.type === 'node_user_ask' && event.user_ask.tool_call.id.startsWith('ask_')) node.open.add(event.user_ask.tool_call.id); // made up
        if (event.type === 'node_waiting') for (const p of event.waiting.pending_tool_calls) assert.ok(node.open.has(p.tool_call.id), `${p.tool_call.id} was called`);
        if (event.type === 'node_tool_result') assert.ok(node.open.delete(event.tool_result.tool_call.id), 'a result of a call that is open');
        if (event.type === 'node_succeeded') assert.equal(node.last, 'node_output');
        node.ended = event.type === 'node_succeeded' || event.type === 'node_failed';
        node.last = event.type;
    }
}

export const types = (events) => events.map((event) => event.type);

// ---- workflows ----

export const text = (at) => ({ role: 'user', type: 'message', content: [{ type: 'text', text: at }] });
export const spec = (nodes, more = {}) => ({ kind: 'workflow', name: 'test', model: 'scripted/echo', nodes,
    outputs: [{ name: 'result', from: nodes.at(-1).id }], ...more });
export const says = (words, more = {}) => ({ script: { text: words, interval_ms: 0, ...more } });
export const llm = (id, words, more = {}) => ({ id, type: 'llm', user: 'go', ...says(words), ...more });
// A node whose model calls a tool of the client, then says `end`.
export const asking = (id, calls, more = {}, end = 'done') => ({ id, type: 'llm', user: 'go',
    tools: [...new Set(calls.map((c) => c.name))], tool_execution: { mode: 'client' },
    script: { turns: [{ tool_calls: calls, interval_ms: 0 }, { text: end, interval_ms: 0 }] }, ...more });
// Runs until somebody cancels it.
export const slow = (id = 'slow', more = {}) => llm(id, 'x', { script: { text: 'word '.repeat(4000), interval_ms: 20 }, ...more });
export const result = (call, output, more = {}) => ({ tool_call: { id: call.tool_call.id, name: call.tool_call.name }, output, ...more });
export const answer = (pending, output) => ({ node_id: pending.node_id, step: pending.step, request_id: pending.request_id,
    results: pending.tool_calls.map((call) => result(call, typeof output === 'function' ? output(call) : output)) });

// ---- suites: one server, one Flow ----

export function suite(name, options, body) {
    base(name, { fixtures: '', ...options }, (add, ctx) => {
        body((title, caseOptions, fn) => {
            if (typeof caseOptions === 'function') [caseOptions, fn] = [{}, caseOptions];
            add(title, caseOptions, (c) => fn({ ...c, flow: new Flow(ctx.server) }));
        }, ctx);
    });
}
