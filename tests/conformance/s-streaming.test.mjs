// SPDX-License-Identifier: Apache-2.0
// Group S: event streams (contract 5.3-5.6, 10.7, CB1-CB14).
import assert from 'node:assert/strict';
import net from 'node:net';
import { suite } from './lib/harness.mjs';
import { API, Client, RunsClient, sleep } from './lib/client.mjs';
import { UNKNOWN_ID, checkLedger, checkRun, invalid, problem } from './lib/expect.mjs';
import { installFixtures } from './lib/fixtures.mjs';
import { startCuttingProxy } from './lib/proxy.mjs';
import { openStream } from './lib/sse.mjs';
import { startServer } from './lib/server.mjs';

const streamOf = (api, run, more = {}) => openStream(api, run.run_id, { attemptId: run.current_attempt_id, ...more });
const slow = (api, S, ticks, interval_ms) => api.create({ agent_id: S, input: { ticks, interval_ms } });

// Follows to the end and answers the events, checked to be 1..n once each, in order.
async function followAll(client, run, options = {}) {
    const events = [];
    for await (const event of client.follow(run.run_id, run.current_attempt_id, { baseDelayMs: 2, ...options })) {
        if (event.type === 'run_event') {
            assert.equal(event.seq, (options.startSeq || 1) + events.length, 'each event once, in order');
            events.push(event);
        }
    }
    assert.ok(['RUN_FINISHED', 'RUN_FAILED', 'RUN_CANCELLED'].includes(events.at(-1)?.payload.type), 'followed to the end');
    return events;
}

suite('S streaming', { args: ['--max-streams', '0'], concurrency: 8 }, (test) => {
    test('S12 a waiting run for 12 s: heartbeats every 5 s, the connection stays', { timeout: 40000 }, async ({ api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const stream = await streamOf(api, run, { afterSeq: 0 });
        await sleep(12000);
        assert.equal(stream.ended, false);
        assert.equal(stream.error, null);
        const beats = stream.frames.filter((f) => f.event === 'heartbeat');
        assert.ok(beats.length >= 2 && beats.length <= 5, `${beats.length} heartbeats in 12 s`);
        for (const beat of beats) {
            assert.deepEqual(Object.keys(beat.data).sort(), ['attempt_id', 'latest_seq', 'run_id', 'timestamp']);
            assert.deepEqual([beat.data.run_id, beat.data.attempt_id, beat.data.latest_seq], [run.run_id, run.current_attempt_id, run.latest_seq]);
        }
        stream.close();
        await api.cancel(run.run_id);
    });

    test('S1 a finished run: all events, close, end', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E, input: 'x' });
        const stream = await (await streamOf(api, run, { afterSeq: 0 })).end();
        assert.equal(stream.status, 200);
        assert.equal(stream.endedHow, 'end', 'a complete response');
        assert.equal(stream.rest, '');
        checkLedger(stream.events.map((f) => f.data), { attemptId: run.current_attempt_id });
        const close = stream.frames.at(-1);
        assert.equal(close.event, 'close');
        assert.deepEqual({ ...close.data, timestamp: '' }, { timestamp: '', reason: 'completed', terminal: true, latest_seq: run.latest_seq });
        assert.equal(stream.frames.filter((f) => f.event === 'close').length, 1);
    });

    test('S1b close names the reason', async ({ api, F, S }) => {
        const failed = await api.createAndFinish({ agent_id: F });
        assert.equal((await (await streamOf(api, failed)).end()).frames.at(-1).data.reason, 'failed');
        const made = await slow(api, S, 500, 20);
        await api.ok(api.cancel(made.run_id));
        assert.equal((await (await streamOf(api, made)).end()).frames.at(-1).data.reason, 'cancelled');
    });

    test('S2 S3 S4 S5 the cursor rule', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const n = run.latest_seq;
        const cases = [ // [Last-Event-ID, afterSeq, first seq]
            ['2', 3, 3], ['0', 1, 1], [undefined, 2, 3], ['2', 0, 3], [undefined, undefined, 1], [undefined, 0, 1], ['1', 99, 2],
            ['', 2, 3], ['', 0, 1], ['0', 3, 1], [String(n - 1), n, n], ['0000000000000002', 3, 3],
        ];
        for (const [lastEventId, afterSeq, first] of cases) {
            const stream = await (await streamOf(api, run, { lastEventId, afterSeq })).end();
            assert.deepEqual(stream.seqs, Array.from({ length: n - first + 1 }, (_, i) => first + i), `Last-Event-ID ${lastEventId}, afterSeq ${afterSeq}`);
        }
    });

    test('S6 R4 a closed attempt gives its terminal event again', async ({ api, E, F }) => {
        for (const agent of [E, F]) {
            const run = await api.createAndFinish({ agent_id: agent });
            const T = run.latest_seq;
            for (const [lastEventId, afterSeq] of [[String(T), T + 1], [String(T + 5), T + 6], [undefined, T], [undefined, T + 77], ['9007199254740991', 0]]) {
                const stream = await (await streamOf(api, run, { lastEventId, afterSeq })).end();
                assert.deepEqual(stream.seqs, [T]);
                assert.deepEqual(stream.frames.map((f) => f.event), ['run_event', 'close']);
            }
        }
    });

    test('S7 a cursor in the future of an open attempt is held', async ({ api, S }) => {
        const run = await slow(api, S, 40, 25);
        await sleep(150);
        const { latest_seq } = await api.run(run.run_id);
        const stream = await streamOf(api, run, { lastEventId: String(latest_seq + 4), afterSeq: latest_seq + 5 });
        await stream.end();
        assert.equal(stream.seqs[0], latest_seq + 5);
        stream.seqs.forEach((seq, i) => assert.equal(seq, latest_seq + 5 + i));
    });

    test('S7b R4 a held cursor that the end never reaches gets the terminal event', async ({ api, S }) => {
        const run = await slow(api, S, 10, 20);
        const stream = await streamOf(api, run, { lastEventId: '5000', afterSeq: 5001 });
        await stream.end();
        const done = await api.run(run.run_id);
        assert.deepEqual(stream.seqs, [done.latest_seq]);
        assert.equal(stream.frames.at(-1).event, 'close');
    });

    test('S8 bad cursors are JSON errors', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        for (const lastEventId of ['abc', '-1', '1.5', '1e3', '12345678901234567', '0x1', '1 2']) {
            const res = await streamOf(api, run, { lastEventId });
            problem(res, 'invalid_cursor');
        }
        for (const afterSeq of ['x', '-1', '1.5', '12345678901234567']) {
            problem(await streamOf(api, run, { afterSeq }), 'invalid_cursor');
            problem(await streamOf(api, run, { afterSeq, lastEventId: '1' }), 'invalid_cursor');
        }
        problem(await streamOf(api, run, { lastEventId: ['1', '2'] }), 'invalid_header');
        problem(await streamOf(api, run, { lastEventId: ['1', '1'] }), 'invalid_header');
    });

    test('S9 missing, foreign, unknown', async ({ api, E }) => {
        const [a, b] = [await api.createAndFinish({ agent_id: E }), await api.createAndFinish({ agent_id: E })];
        invalid(await openStream(api, a.run_id, { afterSeq: 0 }), 'attemptId', 'invalid_parameter');
        invalid(await openStream(api, a.run_id, { attemptId: '', afterSeq: 0 }), 'attemptId', 'invalid_parameter');
        problem(await openStream(api, a.run_id, { attemptId: b.current_attempt_id }), 'attempt_not_found');
        problem(await openStream(api, a.run_id, { attemptId: 'nope' }), 'attempt_not_found');
        problem(await openStream(api, UNKNOWN_ID, { attemptId: a.current_attempt_id }), 'run_not_found');
        const head = await openStream(api, a.run_id, { attemptId: a.current_attempt_id, method: 'HEAD' });
        assert.equal(head.status, 405);
        problem(await api.post(`/runs/${a.run_id}/events/stream`, {}), 'method_not_allowed');
    });

    test('S10 no token', async ({ api, anonymous, E, base }) => {
        const run = await api.createAndFinish({ agent_id: E });
        problem(await streamOf(anonymous, run), 'unauthenticated');
        const seen = [];
        for await (const e of new RunsClient(base, 'wrong').follow(run.run_id, run.current_attempt_id)) seen.push(e);
        assert.deepEqual(seen.map((e) => [e.type, e.payload.code]), [['error', 'HTTP_401']]);
        assert.ok(seen[0].payload.message);
    });

    test('S11 headers and frames', async ({ api, S }) => {
        const run = await slow(api, S, 5, 20);
        const stream = await streamOf(api, run, { afterSeq: 0, headers: { 'X-Request-Id': 'stream-1', 'Accept-Encoding': 'gzip' } });
        assert.equal(stream.headers['content-type'], 'text/event-stream; charset=utf-8');
        assert.equal(stream.headers['cache-control'], 'no-cache, no-transform');
        assert.equal(stream.headers['x-accel-buffering'], 'no');
        assert.equal(stream.headers['x-request-id'], 'stream-1');
        assert.ok(!('content-length' in stream.headers) && !('content-encoding' in stream.headers));
        await stream.end();
        // The strict frame reader checked every frame: LF only, one data line, data last, retry in the first frame only.
        assert.ok(!stream.text.includes('\n\n\n') && !stream.text.startsWith('\ufeff') && !/^:/m.test(stream.text));
        for (const frame of stream.events) assert.deepEqual(frame.block.replace(/^retry: 1000\n/m, '').split('\n').map((l) => l.split(':')[0]), ['id', 'event', 'data']);
        assert.equal((stream.text.match(/^retry: 1000$/gm) ?? []).length, 1);
    });

    test('S11b headers come at once, also when there is nothing to say yet', async ({ api, H, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const head = await api.create({ agent_id: H, thread: { thread_id } });
        const behind = await api.create({ agent_id: E, thread: { thread_id } });
        const began = performance.now();
        const stream = await streamOf(api, behind, { afterSeq: 0 });
        assert.ok(performance.now() - began < 1000, 'headers are flushed');
        assert.equal(stream.status, 200);
        await api.waiting(head.run_id);
        await api.ok(api.resume(head.run_id, { input: 1 }), 200);
        await stream.end();
        checkLedger(stream.events.map((f) => f.data));
    });

    test('S13 through a proxy that cuts at random bytes', async ({ api, S, server }) => {
        const seed = Date.now() % 1000000;
        const proxy = await startCuttingProxy({ port: server.port, seed, minBytes: 200, maxBytes: 3000, maxCuts: 25 });
        try {
            const run = await slow(api, S, 80, 10);
            const events = await followAll(new RunsClient(proxy.url, api.token), run);
            assert.ok(proxy.stats.cuts >= 10, `${proxy.stats.cuts} cuts, seed ${seed}`);
            assert.deepEqual(events.map((e) => e.seq), (await api.ledger(run.run_id)).map((e) => e.seq), `seed ${seed}`);
        } finally {
            await proxy.close();
        }
    });

    test('S14 200 followers see the identical sequence', async ({ api, S }) => {
        const run = await slow(api, S, 50, 20);
        const streams = await Promise.all(Array.from({ length: 200 }, () => streamOf(api, run, { afterSeq: 0 })));
        await Promise.all(streams.map((s) => s.end(30000)));
        const bytes = (s) => s.frames.filter((f) => f.event === 'run_event').map((f) => f.block.replace('retry: 1000\n', '')).join('\n\n');
        const first = bytes(streams[0]);
        for (const s of streams) assert.ok(bytes(s) === first, 'identical bytes');
        checkLedger(streams[0].events.map((f) => f.data));
    });

    test('S14b R2 followers that join at different moments see one sequence', async ({ api, S }) => {
        const run = await slow(api, S, 100, 8);
        const streams = [];
        for (let i = 0; i < 40; i++) {
            streams.push(streamOf(api, run, { afterSeq: 0 }));
            await sleep(20);
        }
        const all = await Promise.all(streams.map(async (s) => (await s).end(20000)));
        const want = (await api.ledger(run.run_id)).map((e) => e.seq);
        for (const s of all) assert.deepEqual(s.seqs, want);
    });

    test('S17 cancel: all followers get the event, close, end', async ({ api, S }) => {
        const run = await slow(api, S, 1000, 50);
        const streams = await Promise.all(Array.from({ length: 50 }, () => streamOf(api, run, { afterSeq: 0 })));
        await Promise.all(streams.map((s) => s.event((e) => e.type === 'MODEL_DELTA')));
        await api.ok(api.cancel(run.run_id, 'enough'));
        for (const s of streams) {
            await s.end();
            assert.deepEqual(s.frames.slice(-2).map((f) => f.event), ['run_event', 'close']);
            assert.equal(s.events.at(-1).data.type, 'RUN_CANCELLED');
            checkLedger(s.events.map((f) => f.data));
        }
    });

    test('S18 follow with startSeq beyond the end of a closed attempt ends', async ({ api, E, runs }) => {
        const run = await api.createAndFinish({ agent_id: E });
        for (const startSeq of [run.latest_seq + 1, run.latest_seq + 1000]) {
            const events = [];
            for await (const e of runs.follow(run.run_id, run.current_attempt_id, { startSeq })) events.push([e.type, e.seq]);
            assert.deepEqual(events, [['run_event', run.latest_seq], ['close', run.latest_seq]]);
        }
    });

    test('S19 polling and stream: the same bytes', async ({ api, S, F }) => {
        for (const made of [await slow(api, S, 10, 5), await api.create({ agent_id: F })]) {
            const stream = await (await streamOf(api, made, { afterSeq: 0 })).end();
            const poll = await api.events(made.run_id, made.current_attempt_id, { limit: 1000 });
            assert.deepEqual(stream.events.map((f) => f.data), poll.json.events);
            for (const frame of stream.events) assert.ok(poll.text.includes(frame.text), `not byte-identical: ${frame.text}`);
        }
    });

    test('5.3 what follow sends for each start, and what comes first', async ({ api, E, base }) => {
        const run = await api.createAndFinish({ agent_id: E });
        for (const [startSeq, header, after, first] of [[undefined, undefined, 0, 1], [0, undefined, 0, 1], [1, '0', 1, 1], [3, '2', 3, 3]]) {
            const sent = [];
            const client = new RunsClient(base, api.token, { onRequest: (r) => sent.push(r) });
            const got = [];
            for await (const e of client.follow(run.run_id, run.current_attempt_id, { startSeq })) got.push(e);
            assert.equal(sent.length, 1);
            assert.equal(sent[0].headers['Last-Event-ID'], header);
            assert.ok(sent[0].path.endsWith(`afterSeq=${after}`), sent[0].path);
            assert.equal(got[0].seq, first);
            assert.deepEqual(got.slice(-2).map((e) => e.type), ['run_event', 'close'], 'the server close frame is not needed to end');
        }
    });

    test('CB1 createAndStream', async ({ runs, E, F, S, H, api }) => {
        for (const [agent, end] of [[E, 'RUN_FINISHED'], [F, 'RUN_FAILED'], [S, 'RUN_FINISHED']]) {
            const events = [];
            for await (const e of runs.createAndStream({ agent_id: agent, input: { ticks: 5, interval_ms: 10 } })) events.push(e);
            assert.equal(events.at(-1).type, 'close');
            assert.equal(events.at(-2).payload.type, end);
            assert.equal(events[0].payload.type, 'RUN_STARTED');
            const nodes = events.filter((e) => e.payload?.type === 'NODE_STARTED');
            assert.ok(nodes.every((e) => typeof e.node === 'string' && e.node === e.payload.node), 'CB9');
            for (const e of events.filter((x) => x.type === 'run_event')) {
                assert.ok(e.operation_id && e.root_operation_id && e.parent_operation_id !== undefined);
            }
        }
        for await (const e of runs.createAndStream({ agent_id: H })) {
            if (e.payload?.type === 'HUMAN_PROMPT') {
                const { data } = await runs.list({ status: 'waiting_for_human', agent_id: H, limit: 500 });
                assert.ok(Array.isArray(data.items));
                const run = data.items.find((r) => r.current_attempt_id === e.payload.attempt_id) ?? await api.waiting((await firstOf(api, e)).run_id);
                assert.equal((await runs.resume(run.run_id, { input: 'ok' })).data.status, 'resumed');
            }
        }
        await assert.rejects(async () => { for await (const e of runs.createAndStream({ agent_id: UNKNOWN_ID })) assert.fail(e.type); }, /agent_not_found/);
    });

    test('CB2 waitFor', async ({ runs, api, S, H, E }) => {
        const run = await slow(api, S, 10, 20);
        const delta = await runs.waitFor(run.run_id, run.current_attempt_id, (e) => e.payload?.type === 'MODEL_DELTA' && e.payload.index === 4);
        assert.equal(delta.node, 'ticker');
        const close = await runs.waitFor(run.run_id, run.current_attempt_id, (e) => e.type === 'close', { timeoutMs: 20000 });
        assert.equal(close.payload.terminal, true);
        checkRun(await api.run(run.run_id));
        assert.equal((await api.run(run.run_id)).status, 'completed', 'who has seen the end finds the terminal status');
        const done = await api.createAndFinish({ agent_id: E });
        await assert.rejects(runs.waitFor(done.run_id, done.current_attempt_id, () => false), /without matching event/);
        const waiting = await api.waiting((await api.create({ agent_id: H })).run_id);
        const began = performance.now();
        await assert.rejects(runs.waitFor(waiting.run_id, waiting.current_attempt_id, () => false, { timeoutMs: 500 }), { name: 'TimeoutError' });
        assert.ok(performance.now() - began < 7000, 'heartbeats are frames, so a time-out is noticed');
        await api.cancel(waiting.run_id);
    });

    test('CB5 a caller that leaves early has no effect on the run (R10)', async ({ api, S, runs }) => {
        const run = await slow(api, S, 20, 20);
        for await (const e of runs.follow(run.run_id, run.current_attempt_id)) if (e.seq >= 3) break;
        const streams = await Promise.all(Array.from({ length: 20 }, () => streamOf(api, run)));
        for (const s of streams) s.close();
        assert.deepEqual((await api.until(run.run_id)).output, { ticks: 20 });
        checkLedger(await api.ledger(run.run_id));
    });

    test('R3 keep-alive after a stream: the connection serves the next request', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const get = (path) => `GET ${API}${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\n\r\n`;
        const text = await new Promise((resolve, reject) => {
            const socket = net.connect(new URL(api.base).port, '127.0.0.1', () => {
                socket.write(get(`/runs/${run.run_id}/events/stream?attemptId=${run.current_attempt_id}&afterSeq=0`));
            });
            let got = '';
            let asked = false;
            socket.setEncoding('utf8');
            socket.on('data', (part) => {
                got += part;
                if (!asked && got.includes('\r\n0\r\n\r\n')) {
                    asked = true;
                    socket.write(get(`/runs/${run.run_id}`));
                }
                if (got.includes('"agent_version_id"')) socket.destroy();
            });
            socket.on('close', () => resolve(got));
            socket.on('error', reject);
            setTimeout(() => socket.destroy(), 5000).unref();
        });
        assert.ok(text.includes('\r\n0\r\n\r\n'), 'a final chunk');
        assert.ok(/^connection: close/im.test(text) || text.includes('"agent_version_id"'), 'keep-alive is allowed, not demanded');
    });

    test('R5 R11 events reach a follower soon after their time stamp', async ({ api, S }) => {
        const run = await slow(api, S, 30, 20);
        const stream = await (await streamOf(api, run, { afterSeq: 0 })).end();
        const delays = stream.events.slice(5).map((f) => f.at - Date.parse(f.data.timestamp)).sort((a, b) => a - b);
        assert.ok(delays[Math.floor(delays.length / 2)] < 500, `median delay ${delays[Math.floor(delays.length / 2)]} ms`);
    });

    test('L7 what a follower has seen, a read finds', async ({ api, S }) => {
        const run = await slow(api, S, 15, 20);
        const stream = await streamOf(api, run, { afterSeq: 0 });
        for (let n = 1; n <= 10; n++) {
            await stream.until((s) => s.events.length >= n);
            const seen = stream.seqs.at(-1);
            assert.ok((await api.run(run.run_id)).latest_seq >= seen);
            assert.ok((await api.ok(api.events(run.run_id, run.current_attempt_id), 200)).latest_seq >= seen);
        }
        stream.close();
    });
});

// The run of an event whose list entry was not there yet.
async function firstOf(api, event) {
    for (;;) {
        const { items } = await api.ok(api.get('/runs', { limit: 500 }));
        const run = items.find((r) => r.current_attempt_id === event.payload.attempt_id);
        if (run) return run;
        await sleep(10);
    }
}

suite('S slow readers', { args: ['--max-streams', '0', '--slow-reader-ms', '2000', '--heartbeat-ms', '500'], fixtures: 'S' }, (test) => {
    test('S15 a follower that stops reading is closed; others and memory are not affected', { timeout: 90000 }, async ({ api, S, server }) => {
        const run = await slow(api, S, 50000, 0);
        const rssBefore = server.rssBytes();
        const path = `${API}/runs/${run.run_id}/events/stream?attemptId=${run.current_attempt_id}&afterSeq=0`;
        const stalled = await Promise.all(Array.from({ length: 10 }, () => new Promise((resolve, reject) => {
            const socket = net.connect(server.port, '127.0.0.1', () => {
                socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\n\r\n`);
                socket.pause();
                resolve(socket);
            });
            socket.on('error', reject);
        })));
        const reader = await streamOf(api, run, { afterSeq: 0 });
        await reader.end(60000);
        assert.equal(reader.frames.at(-1).event, 'close');
        reader.seqs.forEach((seq, i) => assert.equal(seq, i + 1));
        assert.ok(reader.text.length > 10e6, `${reader.text.length} bytes are enough to fill the socket buffers`);
        const grown = server.rssBytes() - rssBefore;
        assert.ok(grown < 128 * 1024 * 1024, `memory grew by ${grown >> 20} MiB`);
        await sleep(4000);
        // Reading on now finds the rest of the kernel's buffers and then an end, long before the terminal event.
        for (const socket of stalled) {
            const got = await new Promise((resolve) => {
                let text = '';
                if (socket.destroyed) return resolve(text);
                socket.removeAllListeners('error');
                socket.on('data', (part) => { text = (text + part).slice(-4000); });
                socket.on('close', () => resolve(text));
                socket.on('error', () => {});
                setTimeout(() => { resolve('STILL OPEN'); socket.destroy(); }, 5000).unref();
                return socket.resume();
            });
            assert.notEqual(got, 'STILL OPEN');
            assert.ok(!got.includes('"RUN_FINISHED"'), 'closed before it had everything');
        }
        assert.equal((await api.createAndFinish({ agent_id: S, input: { ticks: 1, interval_ms: 0 } })).status, 'completed');
    });
});

suite('S heartbeats', { args: ['--heartbeat-ms', '200'], fixtures: 'HS' }, (test) => {
    test('5.4 heartbeats come after silence, carry no seq, and do not move the cursor of follow', async ({ api, H, base }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const events = [];
        const client = new RunsClient(base, api.token);
        for await (const e of client.follow(run.run_id, run.current_attempt_id, { baseDelayMs: 2 })) {
            events.push(e);
            if (events.filter((x) => x.type === 'heartbeat').length === 3) await api.resume(run.run_id, { input: 1 });
        }
        const beats = events.filter((e) => e.type === 'heartbeat');
        assert.ok(beats.length >= 3);
        for (const beat of beats) assert.deepEqual([beat.seq, beat.payload.latest_seq >= run.latest_seq], [-1, true]);
        assert.deepEqual(events.filter((e) => e.type === 'run_event').map((e) => e.seq), (await api.ledger(run.run_id)).map((e) => e.seq));
    });

    test('5.4 a stream with frames needs no heartbeats', async ({ api, S }) => {
        const run = await slow(api, S, 60, 20);
        const stream = await (await streamOf(api, run, { afterSeq: 0 })).end();
        assert.ok(stream.frames.filter((f) => f.event === 'heartbeat').length <= 2);
    });
});

suite('S restart and drain', { args: ['--heartbeat-ms', '500'], fixtures: '', concurrency: 2 }, (test) => {
    async function own(fn) {
        const server = await startServer({ args: ['--heartbeat-ms', '500'] });
        try {
            const api = new Client(server.url, server.token);
            await fn({ server, api, ...await installFixtures(api, 'HS') });
        } finally {
            await server.kill9();
            server.removeData();
        }
    }

    for (const how of ['kill9', 'stop']) {
        test(`S16 restart (${how}) during the stream of a waiting run`, () => own(async ({ server, api, H }) => {
            const run = await api.waiting((await api.create({ agent_id: H })).run_id);
            const client = new RunsClient(server.url, server.token);
            const seqs = [];
            const following = (async () => {
                for await (const e of client.follow(run.run_id, run.current_attempt_id, { baseDelayMs: 50, maxDelayMs: 200, maxReconnects: 100 })) {
                    if (e.type === 'run_event') seqs.push(e.seq);
                }
            })();
            while (seqs.length < run.latest_seq) await sleep(10);
            await server.restart({ how });
            assert.equal((await api.run(run.run_id)).status, 'waiting_for_human');
            await sleep(300);
            await api.ok(api.resume(run.run_id, { input: 'after' }), 200);
            await following;
            const events = await api.ledger(run.run_id);
            checkLedger(events);
            assert.deepEqual(seqs, events.map((e) => e.seq), 'no loss, no repeat');
            assert.deepEqual((await api.run(run.run_id)).output, { answer: 'after' });
        }));
    }

    test('R8 draining: an error frame, then the end', () => own(async ({ server, api, H, S }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const busy = await slow(api, S, 1000, 20);
        const streams = [await streamOf(api, run, { afterSeq: 0 }), await streamOf(api, busy, { afterSeq: 0 })];
        for (const s of streams) await s.event((e) => e.seq >= 3);
        const exit = await server.stop();
        assert.equal(exit.code, 0);
        for (const s of streams) {
            await s.end();
            const last = s.frames.at(-1);
            assert.equal(last.event, 'error', s.tail());
            assert.equal(last.data.code, 'draining');
            assert.equal(last.data.retryable, true);
            assert.equal(typeof last.data.message, 'string');
            assert.ok(!s.frames.some((f) => f.event === 'close'));
        }
    }));
});
