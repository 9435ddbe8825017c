// SPDX-License-Identifier: Apache-2.0
// A strict reader of event streams for tests that look at bytes: it refuses everything the contract (5.4) does not
// allow a server to send, and keeps the raw text of each frame.
import http from 'node:http';
import assert from 'node:assert/strict';
import { API, queryString } from './client.mjs';

const FRAME_EVENTS = ['run_event', 'heartbeat', 'close', 'error'];

// One frame without its blank line. Lines: "retry: ", "id: ", "event: " in any order, then exactly one "data: " last.
export function parseFrame(block, first) {
    assert.ok(!block.includes('\r'), `CR in frame: ${JSON.stringify(block)}`);
    const frame = { block };
    const lines = block.split('\n');
    lines.forEach((line, at) => {
        const match = /^(id|event|retry|data): (.*)$/.exec(line);
        assert.ok(match, `line ${JSON.stringify(line)} in frame ${JSON.stringify(block.slice(0, 300))}`);
        assert.ok(!(match[1] in frame), `${match[1]} twice in one frame`);
        frame[match[1]] = match[2];
        if (match[1] === 'data') assert.equal(at, lines.length - 1, 'data is the last line of a frame');
    });
    assert.ok('data' in frame, `frame without data: ${JSON.stringify(block)}`);
    assert.ok(FRAME_EVENTS.includes(frame.event), `event name ${frame.event}`);
    if (first) assert.equal(frame.retry, '1000', 'retry: 1000 is a line of the first frame');
    else assert.ok(!('retry' in frame), 'retry only in the first frame');
    frame.text = frame.data;
    frame.data = JSON.parse(frame.data);
    assert.ok(frame.data !== null && typeof frame.data === 'object' && !Array.isArray(frame.data), 'data is an object');
    assert.match(String(frame.data.timestamp), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    if (frame.event === 'run_event') {
        assert.match(frame.id ?? '', /^[1-9]\d*$/, 'run_event has a decimal id');
        assert.equal(frame.id, String(frame.data.seq), 'id equals data.seq');
    } else {
        assert.ok(!('id' in frame), `${frame.event} has no id`);
        assert.ok(!('seq' in frame.data), `${frame.event} has no seq`);
    }
    return frame;
}

export class Stream {
    constructor(response, request) {
        this.status = response.statusCode;
        this.headers = response.headers;
        this.rawHeaders = response.rawHeaders;
        this.request = request;
        this.response = response;
        this.frames = [];
        this.text = '';
        this.rest = '';
        this.ended = false;
        this.error = null;
        this.waiters = new Set();
        response.setEncoding('utf8');
        const sse = this.status === 200;
        response.on('data', (part) => {
            this.text += part;
            if (!sse) return;
            this.rest += part;
            try {
                for (let at; (at = this.rest.indexOf('\n\n')) >= 0;) {
                    const block = this.rest.slice(0, at);
                    this.rest = this.rest.slice(at + 2);
                    const frame = parseFrame(block, this.frames.length === 0);
                    frame.at = Date.now();
                    this.frames.push(frame);
                }
            } catch (error) {
                this.error ??= error;
            }
            this.wake();
        });
        const end = (how) => () => {
            this.ended = true;
            this.endedHow ??= how;
            this.wake();
        };
        response.on('end', end('end'));
        response.on('error', end('error'));
        response.on('close', end('close'));
    }

    wake() { for (const waiter of this.waiters) waiter(); }

    // Waits until test(this) is truthy and answers that value; throws on a malformed frame or when the time is over.
    until(test, withinMs = 10000, what = 'stream') {
        return new Promise((resolve, reject) => {
            const finish = (fn, value) => {
                clearTimeout(timer);
                this.waiters.delete(look);
                fn(value);
            };
            const look = () => {
                if (this.error) return finish(reject, this.error);
                const value = test(this);
                if (value) return finish(resolve, value);
                if (this.ended) finish(reject, new Error(`${what}: the stream ended after ${this.frames.length} frames: ${this.tail()}`));
            };
            const timer = setTimeout(() => finish(reject,
                new Error(`${what}: nothing in ${withinMs} ms, ${this.frames.length} frames so far: ${this.tail()}`)), withinMs);
            this.waiters.add(look);
            look();
        });
    }

    tail() { return this.frames.slice(-3).map((f) => f.block.slice(0, 200)).join(' | '); }

    get events() { return this.frames.filter((f) => f.event === 'run_event'); }
    get seqs() { return this.events.map((f) => f.data.seq); }

    end(withinMs = 10000) { return this.until((s) => s.ended, withinMs, 'end of response').then(() => this); }
    event(test, withinMs) { return this.until((s) => s.events.find((f) => test(f.data)), withinMs, 'event'); }
    frame(kind, withinMs) { return this.until((s) => s.frames.find((f) => f.event === kind), withinMs, kind); }
    close() { this.request.destroy(); }
}

// headers may hold arrays (repeated headers) or empty strings, which fetch would not send as written.
export function openStream(api, runId, { attemptId, afterSeq, lastEventId, headers = {}, path, method = 'GET' } = {}) {
    return new Promise((resolve, reject) => {
        const url = new URL(api.base);
        const all = api.requestHeaders({ ...headers });
        if (lastEventId !== undefined) all['Last-Event-ID'] = lastEventId;
        const request = http.request({
            host: url.hostname, port: url.port, method, agent: false, headers: all,
            path: path ?? `${API}/runs/${runId}/events/stream${queryString({ attemptId, afterSeq })}`,
        }, (response) => {
            const stream = new Stream(response, request);
            if (stream.status === 200) return resolve(stream);
            response.on('end', () => {
                let json;
                try { json = JSON.parse(stream.text); } catch { json = undefined; }
                resolve(Object.assign(stream, { json, headers: new Headers(response.headers), target: request.path, method }));
            });
        });
        request.on('error', reject);
        request.end();
    });
}
