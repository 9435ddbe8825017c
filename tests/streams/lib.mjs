// SPDX-License-Identifier: Apache-2.0
// What the tests of this folder share: requests on streams, offsets, SSE blocks.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { startServer } from '../conformance/lib/server.mjs';

export const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
export const ZERO = '0000000000000000_0000000000000000';
export const at = (seq, generation = 0) => `${String(generation).padStart(16, '0')}_${String(seq).padStart(16, '0')}`;
let counter = 0;
export const fresh = (word = 's') => `t/${word}-${process.pid}-${++counter}`;

// One request; the answer with its text read.
export async function ask(server, method, name, { headers = {}, body, query = '', token = 'dev', signal } = {}) {
    const res = await fetch(`${server.url}/v1/stream/${name}${query}`, {
        method, body: typeof body === 'string' ? Buffer.from(body) : body, // a string would bring a Content-Type of its own
        signal, headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers },
    });
    const bytes = Buffer.from(await res.arrayBuffer());
    const get = (h) => res.headers.get(h);
    return { status: res.status, headers: res.headers, get, bytes, text: bytes.toString('utf8'), next: get('stream-next-offset'),
             closed: get('stream-closed'), upToDate: get('stream-up-to-date') };
}

const TEXT = { 'content-type': 'text/plain' };
const JSON_TYPE = { 'content-type': 'application/json' };
export const type = { text: TEXT, json: JSON_TYPE, bytes: { 'content-type': 'application/octet-stream' } };
export const producer = (id, epoch, seq) => ({ 'producer-id': id, 'producer-epoch': String(epoch), 'producer-seq': String(seq) });

export async function make(server, headers = TEXT, { name = fresh(), body } = {}) {
    const res = await ask(server, 'PUT', name, { headers, body });
    assert.equal(res.status, 201, res.text);
    return name;
}

export const append = (server, name, body, headers = {}) => ask(server, 'POST', name, { headers: { ...TEXT, ...headers }, body });
export const read = (server, name, offset = '-1', more = {}) => ask(server, 'GET', name, { query: `?offset=${offset}${more.live ? `&live=${more.live}` : ''}`, ...more });

export async function expect(promise, status) {
    const res = await promise;
    assert.equal(res.status, status, `${res.status}: ${res.text}`);
    return res;
}

// Events of an SSE answer as { type, data } until enough() or the end.
export async function sse(server, name, { offset = '-1', enough = () => false, query = '', withinMs = 10000, token = 'dev' } = {}) {
    const aborter = new AbortController();
    const timer = setTimeout(() => aborter.abort(), withinMs);
    const events = [];
    const res = await fetch(`${server.url}/v1/stream/${name}?offset=${offset}&live=sse${query}`,
        { headers: { authorization: `Bearer ${token}` }, signal: aborter.signal });
    assert.equal(res.status, 200);
    const decoder = new TextDecoder();
    let rest = '';
    let ended = false;
    try {
        for await (const part of res.body) {
            rest += decoder.decode(part, { stream: true });
            for (let end; (end = rest.indexOf('\n\n')) >= 0;) {
                const lines = rest.slice(0, end).split('\n');
                rest = rest.slice(end + 2);
                const data = lines.filter((l) => l.startsWith('data:')).map((l) => (l[5] === ' ' ? l.slice(6) : l.slice(5))).join('\n');
                const kind = lines[0].slice('event: '.length);
                events.push({ type: kind, data: kind === 'control' ? JSON.parse(data) : data });
            }
            if (enough(events)) break;
        }
        ended = !enough(events);
    } finally {
        clearTimeout(timer);
        aborter.abort();
    }
    return { events, headers: res.headers, ended, data: events.filter((e) => e.type === 'data').map((e) => e.data) };
}

// Raw bytes to the port and all that comes back, for what fetch refuses to send.
export function raw(server, text, waitMs = 300) {
    return new Promise((resolve, reject) => {
        const socket = net.connect(server.port, '127.0.0.1', () => socket.write(text, 'latin1'));
        let got = '';
        socket.on('data', (part) => { got += part.toString('latin1'); });
        socket.on('error', reject);
        setTimeout(() => { socket.destroy(); resolve(got); }, waitMs);
    });
}

export function group(name, options, body) {
    const ctx = {};
    describe(name, { concurrency: options.concurrency ?? 4 }, () => {
        before(async () => { ctx.server = await startServer({ args: ['--long-poll-ms', '500', ...(options.args ?? [])], dev: options.dev }); });
        after(async () => {
            const exit = ctx.server.alive ? await ctx.server.stop() : ctx.server.exit;
            ctx.server.removeData();
            assert.equal(ctx.server.complaint(), null, ctx.server.stderrText.slice(-6000));
            assert.equal(exit.code, 0, ctx.server.stderrText.slice(-3000));
        });
        body((title, fn) => test(title, { timeout: 60000 }, async () => fn(ctx.server)), ctx);
    });
}
