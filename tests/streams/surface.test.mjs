// SPDX-License-Identifier: Apache-2.0
// What the published suite leaves open: places, names, headers, JSON as it came, partial answers, waiting (streams.md 14).
import assert from 'node:assert/strict';
import { append, ask, at, expect, fresh, group, make, producer, raw, read, sleep, sse, type, ZERO } from './lib.mjs';

group('the surface', {}, (test) => {
    test('names are decoded once and checked', async (server) => {
        for (const bad of ['', 'a//b', 'a/', '%2e%2e/a', 'a/%2e/b', 'a%00b', 'a%0ab', '%ff', 'x'.repeat(1025), 'a%zz']) {
            const answer = await raw(server, `GET /v1/stream/${bad} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer dev\r\n\r\n`);
            assert.match(answer, /^HTTP\/1\.1 400 /, `${bad}: ${answer}`);
        }
        const name = `${fresh('n')}/%C3%A4%2520 x`;
        await make(server, type.text, { name, body: 'umlaut' });
        assert.equal((await read(server, name)).text, 'umlaut');
        await make(server, type.text, { name: `${fresh('long')}${'y'.repeat(900)}` });
    });

    test('reserved names', async (server) => {
        await expect(ask(server, 'PUT', '__ds/x', { headers: type.text }), 404);
        await expect(ask(server, 'GET', '__ds'), 404);
        await expect(ask(server, 'GET', 'channels/a'), 404);
        const res = await expect(ask(server, 'PUT', 'runs/x', { headers: type.text }), 405);
        assert.equal(res.get('allow'), 'GET, HEAD, OPTIONS');
        await expect(ask(server, 'POST', 'runs/x/attempts/1', { headers: type.text, body: 'x' }), 405);
        await expect(ask(server, 'GET', 'runs/x/attempts/01'), 404);
        const patch = await expect(ask(server, 'PATCH', 'a', { body: 'x' }), 405);
        for (const m of ['GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'OPTIONS']) assert.ok(patch.get('allow').includes(m));
    });

    test('every answer has the headers of browsers, refusals too; OPTIONS needs no token', async (server) => {
        const answers = [
            await expect(ask(server, 'GET', fresh()), 404), await expect(ask(server, 'GET', fresh(), { token: null }), 401),
            await expect(ask(server, 'GET', 'a', { query: '?offset=bad' }), 404), await expect(ask(server, 'OPTIONS', fresh(), { token: null }), 204),
            await expect(ask(server, 'PUT', 'x/', { headers: type.text }), 400), await expect(ask(server, 'DELETE', 'runs/a'), 405),
        ];
        for (const res of answers) {
            assert.equal(res.get('x-content-type-options'), 'nosniff');
            assert.equal(res.get('cross-origin-resource-policy'), 'cross-origin');
            assert.equal(res.get('access-control-allow-origin'), '*');
            assert.ok(res.get('access-control-expose-headers').includes('Stream-SSE-Data-Encoding'));
            if (res.status >= 400) assert.equal(typeof JSON.parse(res.text).code, 'string');
        }
    });

    test('a place beyond the end is refused, in every form of reading', async (server) => {
        const name = await make(server, type.text, { body: 'one' });
        for (const live of [undefined, 'long-poll', 'sse']) await expect(read(server, name, at(2), { live }), 400);
        await expect(read(server, name, at(0, 1)), 400);
        assert.equal((await expect(read(server, name, at(1)), 200)).text, '');
        for (const bad of ['now%00', 'now%0A', '-1%20', '', '1', at(1) + '0', at(1).slice(1), at(1).replace('_', '-'), '+1']) {
            await expect(read(server, name, bad), 400);
        }
        await expect(ask(server, 'GET', name, { query: `?offset=${ZERO}&offset=${ZERO}` }), 400);
    });

    test('names and types cannot break out of their headers', async (server) => {
        const name = fresh('inject');
        const res = await raw(server, `PUT /v1/stream/${name}%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer dev\r\nContent-Length: 0\r\n\r\n`);
        assert.match(res, /^HTTP\/1\.1 400 /);
        assert.ok(!/^X-Evil/im.test(res));
        const host = await raw(server, `PUT /v1/stream/${name} HTTP/1.1\r\nHost: localhost:1\r\nAuthorization: Bearer dev\r\nContent-Type: text/plain; a="b"\r\nContent-Length: 0\r\n\r\n`);
        assert.match(host, /^HTTP\/1\.1 201 /);
        assert.ok(host.includes(`Location: http://localhost:1/v1/stream/${name}\r\n`), host);
        assert.ok(host.includes('Content-Type: text/plain; a="b"\r\n'));
        await expect(ask(server, 'PUT', fresh(), { headers: { 'content-type': `text/${'x'.repeat(300)}` } }), 400);
    });

    test('absent and empty headers differ', async (server) => {
        const name = await make(server);
        const post = (line) => raw(server, `POST /v1/stream/${name} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer dev\r\nContent-Type: text/plain\r\n${line}\r\nContent-Length: 1\r\n\r\nx`);
        assert.match(await post('Producer-Id:'), /^HTTP\/1\.1 400 /);
        assert.match(await post('Stream-Seq:'), /^HTTP\/1\.1 400 /);
        assert.match(await post('Stream-Closed:'), /^HTTP\/1\.1 204 /);
        assert.match(await post('Stream-Closed: yes'), /^HTTP\/1\.1 204 /);
        assert.match(await post('Stream-Closed: TRUE'), /Stream-Closed: true/);
    });

    test('of many PUTs at once one makes the stream', async (server) => {
        const name = fresh('race');
        const all = await Promise.all(Array.from({ length: 24 }, (_, i) => ask(server, 'PUT', name, { headers: type.text, body: `body ${i}` })));
        assert.equal(all.filter((r) => r.status === 201).length, 1);
        assert.equal(all.filter((r) => r.status === 200).length, 23);
        assert.equal(new Set(all.map((r) => r.next)).size, 1);
        assert.match((await read(server, name)).text, /^body \d+$/);
        const mixed = await Promise.all(Array.from({ length: 8 }, () => ask(server, 'PUT', name, { headers: type.json })));
        assert.ok(mixed.every((r) => r.status === 409));
    });

    test('a 409 tells a producer what is expected', async (server) => {
        const name = await make(server);
        await expect(append(server, name, 'a', producer('p', 0, 0)), 200);
        await expect(append(server, name, 'b', { ...producer('p', 0, 1), 'stream-seq': 'm' }), 200);
        const order = await expect(append(server, name, 'c', { ...producer('p', 0, 2), 'stream-seq': 'm' }), 409);
        assert.deepEqual([order.get('producer-expected-seq'), order.get('producer-received-seq')], ['2', '2']);
        const media = await expect(ask(server, 'POST', name, { body: '1', headers: { ...type.json, ...producer('p', 0, 2) } }), 409);
        assert.equal(media.get('producer-expected-seq'), '2');
        await expect(append(server, name, 'z', { ...producer('p', 0, 2), 'stream-closed': 'true' }), 200);
        const closed = await expect(append(server, name, 'd', producer('p', 0, 3)), 409);
        assert.deepEqual([closed.get('producer-expected-seq'), closed.get('producer-received-seq'), closed.closed, closed.next], ['3', '3', 'true', at(3)]);
        const other = await expect(append(server, name, 'd', producer('q', 4, 7)), 409);
        assert.deepEqual([other.get('producer-expected-seq'), other.get('producer-received-seq')], ['0', '7']);
        const again = await expect(append(server, name, 'other body', { ...producer('p', 0, 2), 'stream-closed': 'true' }), 204);
        assert.equal(again.get('producer-seq'), '2');
    });

    test('a tag does not outlive what it stands for', async (server) => {
        const name = await make(server, type.text, { body: 'one' });
        const first = await expect(read(server, name), 200);
        const tag = first.get('etag');
        const hit = await expect(read(server, name, '-1', { headers: { 'if-none-match': `"x", W/${tag}` } }), 304);
        assert.deepEqual([hit.get('etag'), hit.next, hit.upToDate, hit.get('content-length')], [tag, at(1), 'true', null]);
        await expect(read(server, name, '-1', { headers: { 'if-none-match': '*' } }), 304);
        await expect(ask(server, 'POST', name, { headers: { 'stream-closed': 'true' } }), 204);
        const closed = await expect(read(server, name, '-1', { headers: { 'if-none-match': tag } }), 200);
        assert.equal(closed.closed, 'true');
        assert.notEqual(closed.get('etag'), tag);
        const after = await expect(read(server, name, '-1', { headers: { 'if-none-match': closed.get('etag') } }), 304);
        assert.equal(after.closed, 'true');
        await expect(ask(server, 'DELETE', name), 204);
        await make(server, type.text, { name, body: 'two' });
        await expect(ask(server, 'POST', name, { headers: { 'stream-closed': 'true' } }), 204);
        assert.equal((await expect(read(server, name, '-1', { headers: { 'if-none-match': closed.get('etag') } }), 200)).text, 'two');
        assert.equal((await read(server, name, 'now')).get('etag'), null);
    });

    test('JSON keeps number texts, order and escapes; blanks go', async (server) => {
        const name = await make(server, type.json);
        const post = (body) => ask(server, 'POST', name, { headers: type.json, body });
        await expect(post('[ {"b": 12345678901234567890, "a" : 1.0}, [ ], "x y\\u0000\\ud800" , null ]'), 204);
        await expect(post(' 1e400\n'), 204);
        assert.equal((await read(server, name)).text, '[{"b":12345678901234567890,"a":1.0},[],"x y\\u0000\\ud800",null,1e400]');
        assert.equal((await read(server, name)).next, at(5));
        for (const bad of ['[1,]', '\ufeff1', '1 2', '[]', '{"a":1', `${'['.repeat(130)}${']'.repeat(130)}`, 'NaN']) await expect(post(bad), 400);
        await expect(post(JSON.stringify(Array(10001).fill(0))), 413);
        await expect(post(JSON.stringify(Array(10000).fill(0))), 204);
        assert.equal((await ask(server, 'HEAD', name)).next, at(10005));
    });

    test('waiters with one place share one answer', async (server) => {
        const name = await make(server, type.json, { body: '["first"]' });
        const waiting = Array.from({ length: 200 }, () => read(server, name, at(1), { live: 'long-poll' }));
        await sleep(150);
        await expect(ask(server, 'POST', name, { headers: type.json, body: '[1,2,3]' }), 204);
        const answers = await Promise.all(waiting);
        for (const res of answers) {
            assert.deepEqual([res.status, res.text, res.next, res.upToDate], [200, '[1,2,3]', at(4), 'true']);
            assert.equal(res.get('etag'), answers[0].get('etag'));
            assert.match(res.get('stream-cursor'), /^\d+$/);
        }
    });

    test('closing and deleting end those who wait', async (server) => {
        const name = await make(server);
        const wait = read(server, name, 'now', { live: 'long-poll' });
        const follow = sse(server, name);
        await sleep(100);
        await expect(ask(server, 'POST', name, { headers: { 'stream-closed': 'true' } }), 204);
        assert.deepEqual([(await wait).status, (await wait).closed], [204, 'true']);
        const { events, ended } = await follow;
        assert.ok(ended);
        assert.deepEqual(events.map((e) => [e.data.streamNextOffset, e.data.streamClosed ?? false]), [[ZERO, false], [ZERO, true]]);
        const second = await make(server);
        const gone = [read(server, second, 'now', { live: 'long-poll' }), sse(server, second)];
        await sleep(100);
        await expect(ask(server, 'DELETE', second), 204);
        assert.equal((await gone[0]).status, 404);
        assert.ok((await gone[1]).ended);
    });

    test('SSE text: lines, blanks, broken UTF-8 and characters in two appends', async (server) => {
        const name = await make(server);
        for (const part of [' lead\r\n  two\rthree\n', Buffer.from([0xe2, 0x82]), Buffer.from([0xac, 0xff]), '\n\nevent: control\ndata:{}']) await expect(append(server, name, part), 204);
        const { data, events } = await sse(server, name, { enough: (all) => all.some((e) => e.data.upToDate) });
        assert.equal(data.join(''), ' lead\n  two\nthree\n€\ufffd\n\nevent: control\ndata:{}');
        assert.deepEqual(events.map((e) => e.type), ['data', 'control']);
        assert.equal(events[1].data.streamNextOffset, at(4));
        assert.ok(Number(events[1].data.streamCursor) > 0);
    });

    test('SSE cursors answer the cursor of the client', async (server) => {
        const name = await make(server);
        const { events } = await sse(server, name, { query: '&cursor=999999999', enough: (all) => all.length });
        assert.ok(Number(events[0].data.streamCursor) > 999999999);
    });

    test('bytes over SSE are base64, each data event by itself', async (server) => {
        const name = await make(server, type.bytes);
        const follow = sse(server, name, { enough: (all) => all.filter((e) => e.type === 'data').length === 3 && all.at(-1).type === 'control' });
        await sleep(50);
        for (const n of [1, 2, 3]) {
            await expect(ask(server, 'POST', name, { headers: type.bytes, body: Buffer.alloc(n, 200 + n) }), 204);
            await sleep(20);
        }
        const { data, headers } = await follow;
        assert.equal(headers.get('stream-sse-data-encoding'), 'base64');
        assert.deepEqual(data.map((d) => [...Buffer.from(d, 'base64')]), [[201], [202, 202], [203, 203, 203]]);
    });

    test('forks of forks read across all of their bases, and the last one takes them along', async (server) => {
        const names = [await make(server, type.json, { body: '["0a","0b"]' })];
        for (let i = 1; i <= 12; i++) {
            const name = fresh(`fork${i}`);
            const res = await expect(ask(server, 'PUT', name, { headers: { 'stream-forked-from': `/v1/stream/${names[i - 1]}` }, body: `["${i}a","${i}b"]` }), 201);
            assert.equal(res.next, at(2 * i + 2));
            names.push(name);
        }
        const want = names.flatMap((_, i) => [`${i}a`, `${i}b`]);
        assert.deepEqual(JSON.parse((await read(server, names[12])).text), want);
        assert.deepEqual(JSON.parse((await read(server, names[12], at(7))).text), want.slice(7));
        const { data } = await sse(server, names[12], { enough: (all) => all.some((e) => e.data.upToDate) });
        assert.deepEqual(data.flatMap((d) => JSON.parse(d)), want);
        const half = fresh('half');
        await expect(ask(server, 'PUT', half, { headers: { 'stream-forked-from': `/v1/stream/${names[12]}`, 'stream-fork-offset': at(5), 'stream-fork-sub-offset': '1' } }), 201);
        assert.deepEqual(JSON.parse((await read(server, half)).text), want.slice(0, 6));
        await expect(ask(server, 'PUT', fresh(), { headers: { 'stream-forked-from': `/v1/stream/${names[12]}`, 'stream-fork-offset': at(5), 'stream-fork-sub-offset': '2' } }), 400);
        for (const name of names) await expect(ask(server, 'DELETE', name), 204);
        await expect(ask(server, 'GET', names[0]), 410);
        await expect(ask(server, 'DELETE', half), 204);
        for (const name of names) await expect(ask(server, 'GET', name), 404);
    });

    test('sub-offsets of bytes compose, and are bounded by one append', async (server) => {
        const source = await make(server, type.text, { body: 'abcdef' });
        await expect(append(server, source, 'next'), 204);
        const fork = (from, sub, headers = {}) => ask(server, 'PUT', fresh('sub'), { headers: { 'stream-forked-from': `/v1/stream/${from}`, 'stream-fork-offset': ZERO, 'stream-fork-sub-offset': String(sub), ...headers } });
        const one = fresh('sub1');
        await expect(ask(server, 'PUT', one, { body: 'X', headers: { ...type.text, 'stream-forked-from': `/v1/stream/${source}`, 'stream-fork-offset': ZERO, 'stream-fork-sub-offset': '4', 'stream-closed': 'true' } }), 201);
        const got = await read(server, one);
        assert.deepEqual([got.text, got.next, got.closed], ['abcdX', at(2), 'true']);
        const two = await expect(fork(one, 3), 201);
        assert.equal(two.next, at(1));
        await expect(fork(one, 5), 400);
        await expect(fork(source, 7), 400);
        await expect(fork(source, 6), 201);
    });

    test('64 levels of forks and no more', async (server) => {
        let name = await make(server, type.text, { body: '0' });
        let depth = 0;
        for (;;) {
            const next = fresh('deep');
            const res = await ask(server, 'PUT', next, { headers: { 'stream-forked-from': `/v1/stream/${name}` }, body: '.' , });
            if (res.status !== 201) { assert.equal(res.status, 400); break; }
            name = next;
            depth++;
            assert.ok(depth <= 64);
        }
        assert.ok(depth >= 62, String(depth));
        assert.equal((await read(server, name)).text, `0${'.'.repeat(depth)}`);
    });
});

group('small answers', { args: ['--stream-chunk', '10', '--stream-body', '4096', '--live-age-ms', '2000'] }, (test) => {
    test('a partial answer is neither up to date nor closed, and is cut between messages', async (server) => {
        const name = await make(server);
        for (const part of ['12345', '67890', 'a message longer than the answer', 'end']) await expect(append(server, name, part), 204);
        await expect(ask(server, 'POST', name, { headers: { 'stream-closed': 'true' } }), 204);
        const seen = [];
        for (let offset = '-1'; ;) {
            const res = await expect(read(server, name, offset), 200);
            seen.push([res.text, res.upToDate, res.closed, res.get('cache-control').includes('immutable')]);
            if (res.upToDate) break;
            offset = res.next;
        }
        assert.deepEqual(seen, [['1234567890', null, null, true], ['a message longer than the answer', null, null, true], ['end', 'true', 'true', false]]);
        const last = await expect(read(server, name, at(4)), 200);
        assert.deepEqual([last.text, last.upToDate, last.closed], ['', 'true', 'true']);
    });

    test('a body over the limit is refused whole', async (server) => {
        const name = await make(server);
        await expect(append(server, name, 'x'.repeat(4097)), 413);
        assert.equal((await ask(server, 'HEAD', name)).next, ZERO);
        await expect(append(server, name, 'x'.repeat(4096)), 204);
    });

    test('an SSE connection ends after its time, behind a control', async (server) => {
        const name = await make(server, type.text, { body: 'x' });
        const began = Date.now();
        const { events, ended } = await sse(server, name);
        assert.ok(ended);
        assert.equal(events.at(-1).type, 'control');
        assert.ok(Date.now() - began >= 1700 && Date.now() - began < 4500, String(Date.now() - began));
    });
});
