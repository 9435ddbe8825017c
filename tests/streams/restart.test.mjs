// SPDX-License-Identifier: Apache-2.0
// What a stream is must be the same after kill -9: producers, closing, Stream-Seq, lifetimes, forks (streams.md 15).
import assert from 'node:assert/strict';
import { append, ask, at, expect, fresh, group, make, producer, read, sleep, type, ZERO } from './lib.mjs';

for (const how of ['kill9', 'stop']) {
    group(`restart by ${how}`, { concurrency: 1 }, (test) => {
        test('everything acknowledged is there, and means the same', async (server) => {
            const text = await make(server, { ...type.text, 'stream-ttl': '3600' }, { body: 'a' });
            await expect(append(server, text, 'b', { ...producer('p', 3, 0), 'stream-seq': 'k' }), 200);
            await expect(append(server, text, 'c', producer('p', 3, 1)), 200);
            const closed = await make(server);
            await expect(append(server, closed, 'z', { ...producer('p', 1, 0), 'stream-closed': 'true' }), 200);
            const empty = await make(server, { ...type.text, 'stream-closed': 'true' });
            const json = await make(server, type.json, { body: '[1,2,3]' });
            const fork = fresh('fork'), second = fresh('fork');
            await expect(ask(server, 'PUT', fork, { headers: { 'stream-forked-from': `/v1/stream/${json}`, 'stream-fork-offset': at(2) }, body: '["f"]' }), 201);
            await expect(ask(server, 'PUT', second, { headers: { 'stream-forked-from': `/v1/stream/${fork}` }, body: '["g"]' }), 201);
            await expect(ask(server, 'DELETE', json), 204);
            const gone = await make(server, type.text, { body: 'old' });
            await expect(ask(server, 'DELETE', gone), 204);
            const expiring = await make(server, { ...type.text, 'stream-expires-at': new Date(Date.now() + 1500).toISOString() });

            await server.restart({ how });

            const again = await expect(append(server, text, 'c', producer('p', 3, 1)), 204);
            assert.equal(again.get('producer-seq'), '1');
            await expect(append(server, text, 'x', producer('p', 2, 0)), 403);
            assert.equal((await expect(append(server, text, 'x', producer('p', 3, 3)), 409)).get('producer-expected-seq'), '2');
            await expect(append(server, text, 'x', { 'stream-seq': 'k' }), 409);
            await expect(append(server, text, 'd', { ...producer('p', 3, 2), 'stream-seq': 'l' }), 200);
            const all = await expect(read(server, text), 200);
            assert.deepEqual([all.text, all.next], ['abcd', at(4)]);
            assert.equal((await ask(server, 'HEAD', text)).get('stream-ttl'), '3600');
            await expect(ask(server, 'PUT', text, { headers: { ...type.text, 'stream-ttl': '3600' } }), 200);
            await expect(ask(server, 'PUT', text, { headers: type.text }), 409);

            await expect(append(server, closed, 'other', { ...producer('p', 1, 0), 'stream-closed': 'true' }), 204);
            await expect(append(server, closed, 'other'), 409);
            assert.equal((await read(server, closed)).closed, 'true');
            const end = await expect(read(server, empty, 'now', { live: 'long-poll' }), 204);
            assert.deepEqual([end.closed, end.next], ['true', ZERO]);

            await expect(ask(server, 'GET', json), 410);
            await expect(ask(server, 'PUT', json, { headers: type.json }), 409);
            assert.equal((await read(server, second)).text, '[1,2,"f","g"]');
            await expect(ask(server, 'PUT', fork, { headers: { 'stream-forked-from': `/v1/stream/${json}`, 'stream-fork-offset': at(2) } }), 200);
            await expect(ask(server, 'DELETE', fork), 204);
            assert.equal((await read(server, second)).text, '[1,2,"f","g"]');
            await expect(ask(server, 'DELETE', second), 204);
            for (const name of [json, fork, second, gone]) await expect(ask(server, 'GET', name), 404);
            await make(server, type.json, { name: json });
            assert.equal((await read(server, json)).text, '[]');
            await sleep(1500);
            await expect(ask(server, 'HEAD', expiring), 404);
        });

        test('a window goes on, and reading renews it', async (server) => {
            const name = await make(server, { ...type.text, 'stream-ttl': '2' }, { body: 'x' });
            await sleep(1300);
            await expect(read(server, name), 200);
            await sleep(1300);
            await expect(ask(server, 'HEAD', name), 200);
            await sleep(900);
            await expect(ask(server, 'HEAD', name), 404);
        });
    });
}
