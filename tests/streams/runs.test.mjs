// SPDX-License-Identifier: Apache-2.0
// Runs as streams: the events of an attempt, byte for byte those of the runs API, read by Durable Streams clients (streams.md 15).
import { stream as readStream } from '@durable-streams/client';
import assert from 'node:assert/strict';
import { Client } from '../conformance/lib/client.mjs';
import { installFixtures } from '../conformance/lib/fixtures.mjs';
import { ask, at, expect, group, read, sleep, sse, type } from './lib.mjs';

async function start(server, key, input) {
    const api = new Client(server.url, server.token);
    const agents = await installFixtures(api, key);
    const res = await api.post('/runs', { agent_id: agents[key], input });
    assert.equal(res.status, 201, res.text);
    return { api, id: res.json.run_id, attempt: res.json.current_attempt_id };
}

async function ended(run) {
    for (;;) {
        const now = await run.api.run(run.id);
        if (['completed', 'failed', 'cancelled'].includes(now.status)) return now;
        await sleep(20);
    }
}

group('runs as streams', { args: ['--rate-limit', '0'] }, (test) => {
    test('an attempt is the events of the runs API, with the same numbers', async (server) => {
        const run = await start(server, 'S', { ticks: 5, interval_ms: 5 });
        await ended(run);
        const polled = await run.api.events(run.id, run.attempt, { afterSeq: 0, limit: 1000 });
        const name = `runs/${run.id}/attempts/1`;
        const got = await expect(read(server, name), 200);
        assert.equal(got.get('content-type'), 'application/json');
        assert.deepEqual(JSON.parse(got.text), polled.json.events);
        assert.deepEqual([got.next, got.closed, got.upToDate], [at(polled.json.latest_seq), 'true', 'true']);
        const rest = await expect(read(server, name, at(3)), 200);
        assert.equal(JSON.parse(rest.text)[0].seq, 4);
        const head = await expect(ask(server, 'HEAD', name), 200);
        assert.deepEqual([head.next, head.closed], [got.next, 'true']);
        const end = await expect(read(server, name, got.next, { live: 'long-poll' }), 204);
        assert.equal(end.closed, 'true');
        await expect(read(server, name, at(99999)), 400);
        await expect(ask(server, 'GET', `runs/${run.id}/attempts/2`), 404);
        await expect(ask(server, 'GET', 'runs/00000000-0000-7000-8000-000000000000'), 404);
        await expect(ask(server, 'PUT', 'fork-of-run', { headers: { ...type.json, 'stream-forked-from': `/v1/stream/${name}` } }), 403);
    });

    test('a run has the attempt number in front, closes when it is completed', async (server) => {
        const run = await start(server, 'S', { ticks: 20, interval_ms: 20 });
        const { events, ended: over } = await sse(server, `runs/${run.id}`);
        assert.ok(over);
        const all = events.filter((e) => e.type === 'data').flatMap((e) => JSON.parse(e.data));
        assert.deepEqual(all.map((e) => e.seq), all.map((_, i) => i + 1));
        assert.equal(all.at(-1).type, 'RUN_FINISHED');
        const last = events.at(-1).data;
        assert.deepEqual([last.streamNextOffset, last.streamClosed, last.streamCursor], [at(all.length, 1), true, undefined]);
        events.forEach((e, i) => assert.equal(e.type, events[0].type === 'data' ? (i % 2 ? 'control' : 'data') : e.type));
        const got = await expect(read(server, `runs/${run.id}`), 200);
        assert.deepEqual([got.next, got.closed], [at(all.length, 1), 'true']);
        const rest = await expect(read(server, `runs/${run.id}`, at(2, 1)), 200);
        assert.equal(JSON.parse(rest.text)[0].seq, 3);
        await expect(read(server, `runs/${run.id}`, at(1, 2)), 400);
        await expect(read(server, `runs/${run.id}`, at(1, 0)), 400);
    });

    test('a failed run can be tried again: its attempt is closed, the run is not', async (server) => {
        const run = await start(server, 'F', null);
        const now = await ended(run);
        assert.equal(now.status, 'failed');
        const attempt = await expect(read(server, `runs/${run.id}/attempts/${now.current_attempt_no}`), 200);
        assert.equal(attempt.closed, 'true');
        let offset = '-1';
        let seen = [];
        let res;
        do {
            res = await expect(read(server, `runs/${run.id}`, offset), 200);
            seen = seen.concat(JSON.parse(res.text));
            offset = res.next;
        } while (!res.upToDate);
        assert.equal(res.closed, null);
        assert.equal(seen.filter((e) => e.type === 'RUN_FAILED').length, now.current_attempt_no);
        const wait = await expect(read(server, `runs/${run.id}`, offset, { live: 'long-poll' }), 204);
        assert.deepEqual([wait.closed, wait.next], [null, offset]);
        const { events } = await sse(server, `runs/${run.id}`, { offset, enough: (all) => all.length });
        assert.deepEqual([events[0].data.upToDate, events[0].data.streamClosed, events[0].data.streamNextOffset], [true, undefined, offset]);
    });

    test('the published client follows an attempt, by long-poll and by SSE', async (server) => {
        for (const live of ['long-poll', 'sse']) {
            const run = await start(server, 'S', { ticks: 10, interval_ms: 10 });
            const res = await readStream({ url: `${server.url}/v1/stream/runs/${run.id}/attempts/1`, headers: { authorization: 'Bearer dev' }, offset: '-1', live });
            const seen = [];
            await new Promise((resolve) => {
                res.subscribeJson(async (batch) => {
                    seen.push(...batch.items);
                    if (batch.streamClosed || seen.at(-1)?.type === 'RUN_FINISHED') resolve();
                });
            });
            assert.deepEqual(seen.map((e) => e.seq), seen.map((_, i) => i + 1));
            assert.equal(seen.at(-1).type, 'RUN_FINISHED');
            res.cancel?.();
        }
    });
});
