// SPDX-License-Identifier: Apache-2.0
// The published client: what docs/guides/streams.md shows, and a producer of its own that goes on across a kill.
import { DurableStream, IdempotentProducer } from '@durable-streams/client';
import assert from 'node:assert/strict';
import { fresh, group, read, sleep } from './lib.mjs';

const headers = { authorization: 'Bearer dev' };

group('the published client', { concurrency: 1 }, (test) => {
    test('creates, appends, follows by SSE', async (server) => {
        const url = `${server.url}/v1/stream/${fresh('client')}`;
        const chat = await DurableStream.create({ url, headers, contentType: 'application/json' });
        await chat.append(JSON.stringify({ n: 1 }));
        const res = await chat.stream({ offset: '-1', live: 'sse' });
        const seen = [];
        const all = new Promise((resolve) => {
            res.subscribeJson(async (batch) => {
                seen.push(...batch.items);
                if (seen.length === 3) resolve();
            });
        });
        await chat.append(JSON.stringify([2, 3]));
        await chat.append(JSON.stringify({ n: 3 }));
        await all;
        assert.deepEqual(seen, [{ n: 1 }, [2, 3], { n: 3 }]);
        res.cancel();
        await chat.close();
        assert.equal((await chat.head()).streamClosed, true);
    });

    test('a producer of the client is exactly once across a kill', async (server) => {
        const name = fresh('producer');
        const chat = await DurableStream.create({ url: `${server.url}/v1/stream/${name}`, headers, contentType: 'application/json' });
        const errors = [];
        const patient = async (input, init) => { // the client leaves lost connections to its caller; epoch and seq make it safe
            for (;;) {
                try { return await fetch(input, init); } catch { await sleep(5); }
            }
        };
        const producer = new IdempotentProducer(chat, 'p1', { fetch: patient, lingerMs: 1, maxInFlight: 2, onError: (error) => errors.push(error) });
        for (let i = 0; i < 200; i++) {
            producer.append(JSON.stringify(i));
            if (i === 100) await server.restart();
            if (i % 20 === 0) await sleep(5);
        }
        await producer.flush();
        assert.deepEqual(errors.map(String), []);
        await producer.close();
        const got = await read(server, name);
        assert.deepEqual(JSON.parse(got.text), Array.from({ length: 200 }, (_, i) => i));
        assert.equal(got.closed, 'true');
    });
});
