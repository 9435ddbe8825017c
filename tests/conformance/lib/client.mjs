// SPDX-License-Identifier: Apache-2.0
// Two clients of the runs API. `Client` is a thin wrapper over fetch that shows status, headers, text and JSON.
// `RunsClient` is a test double of the published client's runs module: each part says which behaviour it mirrors,
// because the contract's rules CB1-CB14 are about exactly these behaviours.
import http from 'node:http';
import { checkAnswer, checkFrame } from './openapi.mjs';

export const API = '/v1/api';
export const TERMINAL = new Set(['completed', 'failed', 'cancelled']);
export const TERMINAL_EVENTS = new Set(['RUN_FINISHED', 'RUN_FAILED', 'RUN_CANCELLED']);

const ROOT_PATHS = new Set(['/healthz', '/readyz', '/metrics', '/openapi.json']);

export const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

let counter = 0;
export const unique = (word = 'k') => `${word}-${process.pid}-${Date.now().toString(36)}-${++counter}`;

// undefined members are left out of the query, as every client does.
export function queryString(query) {
    const parts = Object.entries(query ?? {}).filter(([, value]) => value !== undefined);
    return parts.length ? `?${new URLSearchParams(parts.map(([k, v]) => [k, String(v)]))}` : '';
}

export class Client {
    constructor(base, token, headers = {}) {
        this.base = base;
        this.token = token;
        this.headers = headers;
    }

    as(token, headers = {}) { return new Client(this.base, token, { ...this.headers, ...headers }); }

    requestHeaders(extra = {}) {
        const all = { ...this.headers, ...extra };
        if (this.token && !('Authorization' in all)) all.Authorization = `Bearer ${this.token}`;
        for (const key of Object.keys(all)) if (all[key] === undefined) delete all[key];
        return all;
    }

    // body: a value (sent as JSON) or raw: a string or bytes sent as they are.
    async req(method, path, { body, raw, headers, query, signal } = {}) {
        const all = this.requestHeaders(headers);
        let payload;
        if (raw !== undefined) payload = typeof raw === 'string' ? Buffer.from(raw) : raw;
        else if (body !== undefined) payload = Buffer.from(JSON.stringify(body));
        if (payload !== undefined && !Object.keys(all).some((k) => k.toLowerCase() === 'content-type')) {
            all['Content-Type'] = 'application/json';
        }
        if (all['Content-Type'] === '') delete all['Content-Type'];
        const target = path.startsWith('/v1/') || path.startsWith('/api/v1/') || ROOT_PATHS.has(path) ? path : API + path;
        const response = await fetch(this.base + target + queryString(query), {
            method, headers: all, body: payload, signal, redirect: 'manual',
        });
        const text = await response.text();
        let json;
        try { json = text === '' ? undefined : JSON.parse(text); } catch { json = undefined; }
        return checkAnswer({ status: response.status, headers: response.headers, text, json, method, target, sent: raw === undefined ? body : undefined });
    }

    get(path, query, options = {}) { return this.req('GET', path, { query, ...options }); }
    post(path, body, options = {}) { return this.req('POST', path, { body, ...options }); }
    patch(path, body, options = {}) { return this.req('PATCH', path, { body, ...options }); }
    del(path, options = {}) { return this.req('DELETE', path, options); }

    // Answers the body of a 2xx, throws with the whole answer otherwise.
    async ok(promise, status) {
        const res = await promise;
        if (status ? res.status !== status : res.status < 200 || res.status > 299) {
            throw new Error(`${res.method} ${res.target}: expected ${status ?? '2xx'}, got ${res.status}: ${res.text.slice(0, 600)}`);
        }
        return res.json;
    }

    create(body, options) { return this.ok(this.post('/runs', body, options), 201); }
    run(id) { return this.ok(this.get(`/runs/${id}`), 200); }
    cancel(id, reason) { return this.post(`/runs/${id}/cancel`, reason === undefined ? {} : { reason }); }
    resume(id, body, options) { return this.post(`/runs/${id}/resume`, body, options); }

    // Polls the run until its status is one of those wanted (default: terminal).
    async until(id, wanted = TERMINAL, withinMs = 15000) {
        const set = typeof wanted === 'string' ? new Set([wanted]) : wanted;
        const deadline = Date.now() + withinMs;
        for (let pause = 5; ; pause = Math.min(pause * 2, 60)) {
            const run = await this.run(id);
            if (set.has(run.status)) return run;
            if (Date.now() > deadline || (TERMINAL.has(run.status))) {
                throw new Error(`run ${id} is ${run.status} after ${withinMs} ms, wanted ${[...set]}: ${JSON.stringify(run).slice(0, 500)}`);
            }
            await sleep(pause);
        }
    }

    waiting(id, withinMs) { return this.until(id, 'waiting_for_human', withinMs); }

    async createAndFinish(body, withinMs) {
        const made = await this.create(body);
        return this.until(made.run_id, TERMINAL, withinMs);
    }

    events(runId, attemptId, query = {}) { return this.get(`/runs/${runId}/events`, { attemptId, ...query }); }

    // The whole ledger by polling, following next_after_seq.
    async ledger(runId, attemptId, limit = 1000) {
        const attempt = attemptId ?? (await this.run(runId)).current_attempt_id;
        const events = [];
        for (let cursor = 0; ;) {
            const page = await this.ok(this.events(runId, attempt, { afterSeq: cursor, limit }), 200);
            events.push(...page.events);
            cursor = page.next_after_seq;
            if (!page.has_more) return events;
        }
    }
}

// A request through node:http, for what fetch hides: repeated headers, early answers to big bodies, missing bodies.
export function rawRequest(base, { method = 'GET', path, headers = {}, body, chunked = false, timeoutMs = 20000 }) {
    return new Promise((resolve, reject) => {
        const url = new URL(base);
        const req = http.request({ host: url.hostname, port: url.port, method, path, headers, agent: false }, (res) => {
            const parts = [];
            res.on('data', (part) => parts.push(part));
            const done = () => {
                const text = Buffer.concat(parts).toString('utf8');
                let json;
                try { json = JSON.parse(text); } catch { json = undefined; }
                const answer = { status: res.statusCode, statusText: res.statusMessage, headers: new Headers(
                    Object.entries(res.headers).flatMap(([k, v]) => (Array.isArray(v) ? v.map((x) => [k, x]) : [[k, v]]))),
                    text, json, method, target: path };
                req.destroy();
                try { resolve(checkAnswer(answer)); } catch (error) { reject(error); }
            };
            res.on('end', done);
            res.on('error', done);
        });
        req.setTimeout(timeoutMs, () => req.destroy(new Error('no answer in time')));
        // A server may answer and close while the body is still going out: the answer counts, not the broken pipe.
        let failed = null;
        req.on('error', (error) => { failed = error; setTimeout(() => reject(failed), 200).unref(); });
        if (body !== undefined && chunked) {
            for (let at = 0; at < body.length; at += 65536) req.write(body.subarray(at, at + 65536));
            req.end();
        } else {
            req.end(body);
        }
    });
}

// ---- the published client's runs module, as a double -----------------------------------------------------------

// Server-sent events over a fetch response. The published parser is not known; this one does what both a WHATWG parser
// and a simple splitter would: lines end with LF, CRLF or CR, a blank line ends a frame, a frame without data is
// nothing, what is unfinished at the end of the stream is dropped, data is JSON.
export async function* parseSSE(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder('utf-8', { fatal: true });
    let rest = '';
    let frame = { data: [] };
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            rest += decoder.decode(value, { stream: true });
            const lines = rest.split(/\r\n|\n|\r(?!$)/);
            rest = lines.pop();
            for (const line of lines) {
                if (line === '') {
                    if (frame.data.length) {
                        const text = frame.data.join('\n');
                        const raw = { event: frame.event, id: frame.id, retry: frame.retry, data: JSON.parse(text), text };
                        checkFrame(raw);
                        yield raw;
                    }
                    frame = { data: [] };
                    continue;
                }
                const colon = line.indexOf(':');
                const name = colon < 0 ? line : line.slice(0, colon);
                const content = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
                if (name === 'data') frame.data.push(content);
                else if (name === 'event') frame.event = content;
                else if (name === 'id') frame.id = content;
                else if (name === 'retry') frame.retry = content;
            }
        }
    } finally {
        await reader.cancel().catch(() => {});
    }
}

// Mirrors narrowFollowEvent: unknown event names vanish (CB10); seq is data.seq, else the number in `id`, else -1
// (CB14); the payload is spread first and five names are laid over it (CB8); payload.node becomes `node` (CB9).
export function narrowFollowEvent(raw) {
    const kind = raw.event ?? 'message';
    if (!['run_event', 'heartbeat', 'close', 'error'].includes(kind)) return null;
    const data = raw.data;
    const text = (value) => (typeof value === 'string' ? value : undefined);
    const seq = typeof data?.seq === 'number' ? data.seq : (raw.id ? parseInt(raw.id, 10) : -1);
    const timestamp = text(data?.timestamp) ?? new Date().toISOString();
    if (kind !== 'run_event' || !data) {
        return { type: kind, seq, timestamp, payload: data, node: text(data?.node) };
    }
    const inner = typeof data.payload === 'object' && data.payload !== null ? data.payload : null;
    const operations = {
        operation_id: text(data.operation_id),
        parent_operation_id: data.parent_operation_id === null ? null : text(data.parent_operation_id),
        root_operation_id: text(data.root_operation_id),
    };
    return {
        type: 'run_event',
        seq,
        timestamp,
        payload: { ...inner, type: text(data.type) ?? 'UNKNOWN', attempt_id: text(data.attempt_id), ...operations },
        ...operations,
        node: text(inner?.node),
    };
}

// Mirrors isTerminalRunEvent: only these three inner types end a follow, whatever their case (CB2).
const isTerminal = (event) => TERMINAL_EVENTS.has(String(event.payload?.type ?? '').toUpperCase());

// Mirrors calculateBackoff: doubled from the base, capped, plus up to a fifth (CB6).
function backoff(attempt, baseMs, maxMs) {
    const capped = Math.min(baseMs * 2 ** (attempt - 1), maxMs);
    return Math.floor(capped + capped * 0.2 * Math.random());
}

export class RunsClient {
    // onRequest({path, headers}) is not in the published client: it lets a test look at what is sent.
    constructor(base, token, { onRequest } = {}) {
        this.api = new Client(base, token);
        this.onRequest = onRequest;
    }

    // Mirrors create: the header is sent if and only if the key is a non-empty string, the body keeps the member.
    async create(body) {
        const headers = {};
        if (body.idempotency_key) headers['X-Idempotency-Key'] = body.idempotency_key;
        return this.answer(this.api.post('/runs', body, { headers }));
    }

    get(runId) { return this.answer(this.api.get(`/runs/${encodeURIComponent(runId)}`)); }
    list(params) { return this.answer(this.api.get('/runs', params)); }
    wait(body) { return this.answer(this.api.post('/runs/wait', body)); }
    batch(body) { return this.answer(this.api.post('/runs/batch', body)); }
    cancel(runId, reason) { return this.answer(this.api.post(`/runs/${runId}/cancel`, { reason })); }
    resume(runId, body) { return this.answer(this.api.post(`/runs/${runId}/resume`, body)); }
    // Mirrors rerun: no body at all.
    rerun(runId) { return this.answer(this.api.post(`/runs/${runId}/rerun`, undefined)); }

    // Mirrors getEvents: all three parameters are always sent.
    getEvents(runId, { attemptId, afterSeq, limit }) {
        return this.answer(this.api.get(`/runs/${runId}/events`, { attemptId, afterSeq: afterSeq ?? 0, limit: limit ?? 100 }));
    }

    async answer(promise) {
        const res = await promise;
        return res.status >= 200 && res.status < 300 ? { data: res.json } : { error: res.json };
    }

    // Mirrors iterate: advances by the length received, stops at total or at an empty page (CB12).
    async *iterate(filters, { pageSize = 100, maxItems = Infinity } = {}) {
        let yielded = 0;
        for (let offset = 0, more = true; more && yielded < maxItems;) {
            const { data, error } = await this.list({ ...filters, limit: Math.min(pageSize, maxItems - yielded), offset });
            if (error) throw error;
            for (const run of data.items) {
                if (yielded >= maxItems) return;
                yield run;
                yielded++;
            }
            offset += data.items.length;
            more = offset < data.total && data.items.length > 0;
        }
    }

    // Mirrors streamGet as follow uses it: Last-Event-ID is the last seq received, afterSeq the next one wanted, and
    // both are left at nothing and 0 before the first event. The abort signal is not given to the transport (CB7).
    async openStream(runId, attemptId, nextSeq) {
        const headers = this.api.requestHeaders(nextSeq > 0 ? { 'Last-Event-ID': String(nextSeq - 1) } : {});
        const path = `${API}/runs/${runId}/events/stream${queryString({ attemptId, afterSeq: nextSeq > 0 ? nextSeq : 0 })}`;
        this.onRequest?.({ path, headers });
        return fetch(this.api.base + path, { headers });
    }

    // Mirrors follow. Ends on a terminal run_event (after yielding a close of its own), on 401/403, on too many failed
    // connects, on abort. A server's close or error frame is handed on; an error frame breaks the connection, end of
    // stream leads to a reconnect; a successful connect resets the count (CB3, CB5).
    async *follow(runId, attemptId, options = {}) {
        if (!attemptId) throw new Error('attemptId is required for run event streaming');
        const { signal, maxReconnects = 10, baseDelayMs = 1000, maxDelayMs = 30000 } = options;
        const ownError = (code, message) => ({ type: 'error', payload: { code, message }, seq: -1, timestamp: new Date().toISOString() });
        let nextSeq = options.startSeq ?? 0;
        let failures = 0;
        options.onConnect?.();
        while (failures <= maxReconnects) {
            if (signal?.aborted) return;
            try {
                const response = await this.openStream(runId, attemptId, nextSeq);
                if (response.status === 401 || response.status === 403) {
                    yield ownError(`HTTP_${response.status}`, response.statusText);
                    return;
                }
                if (!response.ok) throw new Error(`SSE connection failed: ${response.status}`);
                if (failures > 0) options.onReconnect?.(failures);
                failures = 0;
                for await (const raw of parseSSE(response)) {
                    if (signal?.aborted) return;
                    const event = narrowFollowEvent(raw);
                    if (!event) continue;
                    options.onRaw?.(raw);
                    // Any frame with a seq moves the cursor, also backwards (CB4).
                    if (typeof event.seq === 'number' && event.seq >= 0) nextSeq = event.seq + 1;
                    yield event;
                    if (event.type === 'error') break;
                    if (event.type === 'run_event' && isTerminal(event)) {
                        yield { type: 'close', seq: event.seq, timestamp: event.timestamp, payload: { terminal: true } };
                        return;
                    }
                }
                if (signal?.aborted) return;
                options.onDisconnect?.('eof');
                failures++;
                if (failures <= maxReconnects) await sleep(backoff(failures, baseDelayMs, maxDelayMs));
            } catch (error) {
                if (signal?.aborted) return;
                options.onDisconnect?.('error', error);
                failures++;
                if (failures > maxReconnects) {
                    yield ownError('MAX_RECONNECTS', `Max reconnects (${maxReconnects}) exceeded`);
                    return;
                }
                await sleep(backoff(failures, baseDelayMs, maxDelayMs));
            }
        }
    }

    // Mirrors createAndStream: create, at once get, then follow the current attempt (CB1).
    async *createAndStream(body, options) {
        const { data, error } = await this.create(body);
        if (error || !data) throw new Error(`Failed to create run: ${JSON.stringify(error)}`);
        const got = await this.get(data.run_id);
        if (got.error || !got.data?.current_attempt_id) throw new Error('Run created without current_attempt_id');
        yield* this.follow(data.run_id, got.data.current_attempt_id, options);
    }

    // Mirrors waitFor: the first event that the predicate likes; throws on a close before it and on a time-out, which is
    // noticed only when a frame arrives (CB7).
    async waitFor(runId, attemptId, predicate, { timeoutMs = 300000, startSeq, baseDelayMs } = {}) {
        const controller = new AbortController();
        const timer = setTimeout(() => controller.abort(), timeoutMs);
        try {
            for await (const event of this.follow(runId, attemptId, { signal: controller.signal, startSeq, baseDelayMs })) {
                if (predicate(event)) return event;
                if (event.type === 'close') throw new Error('Run completed without matching event');
            }
            throw new Error('Stream ended without matching event');
        } catch (error) {
            if (controller.signal.aborted) throw Object.assign(new Error(`timed out after ${timeoutMs} ms`), { name: 'TimeoutError' });
            throw error;
        } finally {
            clearTimeout(timer);
        }
    }
}
