// SPDX-License-Identifier: Apache-2.0
// What the server does with bytes that are no HTTP, or HTTP meant badly: it answers 4xx or closes, keeps its memory and
// descriptors, and serves the next request as if nothing had been.
import assert from 'node:assert/strict';
import net from 'node:net';
import { API, sleep } from '../conformance/lib/client.mjs';
import { suite } from '../conformance/lib/harness.mjs';
import { randomFrom } from '../conformance/lib/proxy.mjs';

const HEAD_MS = 800;
const IDLE_MS = 800;
const options = { args: ['--head-timeout-ms', String(HEAD_MS), '--idle-timeout-ms', String(IDLE_MS), '--max-streams', '0'], fixtures: 'EH', concurrency: 1, timeout: 60000 };

// Writes the parts (strings or bytes; a number is a pause in ms), then reads until the server closes or the time is over.
function talk(port, parts, { waitMs = 3000, end = false } = {}) {
    return new Promise((resolve) => {
        const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        const got = [];
        let how = 'timeout';
        const done = () => {
            clearTimeout(timer);
            socket.destroy();
            resolve({ text: Buffer.concat(got).toString('latin1'), how });
        };
        const timer = setTimeout(done, waitMs);
        socket.on('data', (part) => got.push(part));
        socket.on('end', () => { how = 'closed'; done(); });
        socket.on('error', (error) => { how = error.code; done(); });
        socket.on('connect', async () => {
            for (const part of parts) {
                if (typeof part === 'number') await sleep(part);
                else if (!socket.destroyed) socket.write(part);
            }
            if (end && !socket.destroyed) socket.end();
        });
    });
}

const get = (api, path, more = '') => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\n${more}\r\n`;
const answers = (text) => [...text.matchAll(/HTTP\/1\.[01] (\d\d\d) /g)].map((m) => Number(m[1]));

// Settles and answers how many descriptors the server has beyond `base` connections of our own.
async function fdsSettle(server, limit, withinMs = 6000) {
    const deadline = Date.now() + withinMs;
    let now;
    do {
        now = server.fdCount();
        if (now <= limit) return now;
        await sleep(50);
    } while (Date.now() < deadline);
    return now;
}

suite('wire: bad bytes', options, (test) => {
    test('what is no HTTP is answered 4xx or closed', async ({ api, server }) => {
        const id = 'Host: 127.0.0.1\r\n';
        const bad = {
            'a word': 'HELLO\r\n\r\n',
            'no version': 'GET /healthz\r\n\r\n',
            'a wrong version': `GET /healthz HTTP/9.9\r\n${id}\r\n`,
            'lower case protocol': `GET /healthz http/1.1\r\n${id}\r\n`,
            'no path': `GET  HTTP/1.1\r\n${id}\r\n`,
            'a method of rubbish': `G\u0000T /healthz HTTP/1.1\r\n${id}\r\n`,
            'a header without colon': `GET /healthz HTTP/1.1\r\n${id}nonsense\r\n\r\n`,
            'a header name with a space': `GET /healthz HTTP/1.1\r\n${id}Bad Name: x\r\n\r\n`,
            'a space before the colon': `POST ${API}/runs HTTP/1.1\r\n${id}Content-Length : 2\r\n\r\n{}`,
            'NUL in a header': `GET /healthz HTTP/1.1\r\n${id}X: a\u0000b\r\n\r\n`,
            'a folded header that smuggles': `GET /healthz HTTP/1.1\r\n${id}X: a\r\nContent-Length\r\n : 5\r\n\r\n`,
            'two lengths': `POST ${API}/runs HTTP/1.1\r\n${id}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} `,
            'a length of rubbish': `POST ${API}/runs HTTP/1.1\r\n${id}Content-Length: 2x\r\n\r\n{}`,
            'a negative length': `POST ${API}/runs HTTP/1.1\r\n${id}Content-Length: -2\r\n\r\n{}`,
            'a length beyond 64 bits': `POST ${API}/runs HTTP/1.1\r\n${id}Content-Length: 99999999999999999999999\r\n\r\n{}`,
            'length and chunked': `POST ${API}/runs HTTP/1.1\r\n${id}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
            'a chunk size of rubbish': `POST ${API}/runs HTTP/1.1\r\n${id}Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n`,
            'a chunk size beyond 64 bits': `POST ${API}/runs HTTP/1.1\r\n${id}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx`,
            'TLS': Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
            'HTTP/2 without asking': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
        };
        for (const [why, bytes] of Object.entries(bad)) {
            const { text, how } = await talk(server.port, [typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, '\r\n\r\n']);
            assert.notEqual(how, 'timeout', `${why}: neither answered to the end nor closed: ${text.slice(0, 200)}`);
            for (const status of answers(text)) assert.ok(status >= 400 && status < 600, `${why}: ${text.slice(0, 200)}`);
            assert.equal((await api.get('/healthz')).status, 200, why);
        }
    });

    test('random bytes, 2000 times (seeded)', async ({ api, server, t }) => {
        const seed = Date.now() % 1000000;
        t.diagnostic(`seed ${seed}`);
        const random = randomFrom(seed);
        const valid = Buffer.from(get(api, `${API}/runs?limit=1`, 'X-Test: abc\r\n') + `POST ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}`);
        const make = (i) => {
            if (i % 2) return Buffer.from(Array.from({ length: 1 + Math.floor(random() * 400) }, () => Math.floor(random() * 256)));
            const bytes = Buffer.from(valid);
            for (let n = 1 + Math.floor(random() * 6); n > 0; n--) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
            return bytes.subarray(0, 1 + Math.floor(random() * bytes.length));
        };
        for (let i = 0; i < 2000; i += 50) {
            await Promise.all(Array.from({ length: 50 }, (_, k) => talk(server.port, [make(i + k)], { waitMs: 4000, end: true })));
            assert.ok(server.alive, `seed ${seed}`);
        }
        assert.equal((await api.get('/runs', { limit: 1 })).status, 200);
    });

    test('heads without end: too long a line, too long a header, too many of them', async ({ api, server }) => {
        const cases = [
            `GET /${'a'.repeat(200000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
            `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${'a'.repeat(200000)}\r\n\r\n`,
            `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n${'a'.repeat(200000)}: x\r\n\r\n`,
            `GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n${Array.from({ length: 5000 }, (_, i) => `X-${i}: y\r\n`).join('')}\r\n`,
        ];
        for (const bytes of cases) {
            const { text, how } = await talk(server.port, [bytes]);
            assert.notEqual(how, 'timeout');
            for (const status of answers(text)) assert.ok([400, 413, 414, 431].includes(status), text.slice(0, 100));
        }
        const endless = await talk(server.port, Array.from({ length: 400 }, () => 'X'.repeat(16384)), { waitMs: 5000 });
        assert.notEqual(endless.how, 'timeout');
        assert.equal((await api.get('/healthz')).status, 200);
        assert.ok(server.rssBytes() < 512 * 1024 * 1024);
    });

    test('slow loris: a head that drips is cut after the head time-out', async ({ api, server }) => {
        const began = Date.now();
        const drips = [];
        for (const c of 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') drips.push(c, 60);
        const all = await Promise.all(Array.from({ length: 100 }, () => talk(server.port, drips, { waitMs: 8000 })));
        assert.ok(Date.now() - began < 6000, `cut after ${Date.now() - began} ms, limit ${HEAD_MS} ms`);
        for (const { text, how } of all) {
            assert.notEqual(how, 'timeout');
            for (const status of answers(text)) assert.equal(status, 408);
        }
        assert.equal((await api.get('/healthz')).status, 200);
    });

    test('idle and half-open connections are closed; a stream is not idle', async ({ api, server, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const stream = talk(server.port, [get(api, `${API}/runs/${run.run_id}/events/stream?attemptId=${run.current_attempt_id}&afterSeq=0`)], { waitMs: 4 * IDLE_MS });
        const silent = await Promise.all(Array.from({ length: 50 }, () => talk(server.port, [], { waitMs: 6000 })));
        for (const { how } of silent) assert.notEqual(how, 'timeout', 'a connection that never says anything is closed');
        const kept = await talk(server.port, [get(api, '/healthz')], { waitMs: 6000 });
        assert.deepEqual([answers(kept.text), kept.how === 'timeout'], [[200], false], 'closed after the idle time');
        const half = await talk(server.port, [get(api, `${API}/runs?limit=1`)], { end: true });
        assert.deepEqual(answers(half.text), [200], 'a half-closed client still gets its answer');
        const { how, text } = await stream;
        assert.equal(how, 'timeout', 'the stream stays open');
        assert.match(text, /HUMAN_PROMPT/);
        await api.cancel(run.run_id);
    });

    test('a body that does not come', async ({ api, server }) => {
        const head = (length) => `POST ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;
        for (const length of ['1099511627776', '9223372036854775807', '18446744073709551615', '4294967296']) {
            const { text } = await talk(server.port, [head(length), '{"agent'], { waitMs: 3000 });
            // 2^64-1 is no number that a length can be: refused as such.
            assert.deepEqual(answers(text), [length === '18446744073709551615' ? 400 : 413], `Content-Length ${length}: ${text.slice(0, 100)}`);
        }
        const before = server.rssBytes();
        const open = Array.from({ length: 200 }, () => talk(server.port, [head(4 * 1024 * 1024 - 1), '{"agent_id":"'], { waitMs: 1500 }));
        await Promise.all(open);
        assert.ok(server.rssBytes() - before < 200 * 1024 * 1024, 'a promise of bytes takes no memory');
        assert.equal((await api.get('/healthz')).status, 200);
    });

    test('pipelining: answers come in order', async ({ api, server, E }) => {
        const body = JSON.stringify({ agent_id: E, input: 'pipelined' });
        const post = `POST ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
        const all = [get(api, '/healthz'), post, get(api, `${API}/nope`), get(api, `${API}/runs?limit=1`), post, get(api, `${API}/runs?limit=0`),
            get(api, '/healthz', 'Connection: close\r\n')].join('');
        const want = [200, 201, 404, 200, 201, 422, 200];
        assert.deepEqual(answers((await talk(server.port, [all], { waitMs: 5000 })).text), want);
        const bytes = Buffer.from(all);
        const dribble = [];
        for (let i = 0; i < bytes.length; i += 97) dribble.push(bytes.subarray(i, i + 97), 1);
        assert.deepEqual(answers((await talk(server.port, dribble, { waitMs: 5000 })).text), want, 'cut anywhere, the same');
        const many = Array.from({ length: 300 }, () => get(api, '/healthz')).join('') + get(api, '/healthz', 'Connection: close\r\n');
        assert.equal(answers((await talk(server.port, [many], { waitMs: 8000 })).text).length, 301);
    });

    test('HTTP details: 100-continue, HTTP/1.0, HEAD, chunked bodies, bare names', async ({ api, server, E }) => {
        const body = JSON.stringify({ agent_id: E, input: 'x' });
        const auth = `Authorization: Bearer ${api.token}\r\nContent-Type: application/json\r\n`;
        const expect = await talk(server.port, [`POST ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n${auth}Expect: 100-continue\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`, 100, body]);
        assert.deepEqual(answers(expect.text).filter((s) => s !== 100), [201]);
        const old = await talk(server.port, [`GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n`]);
        assert.deepEqual([answers(old.text), old.how], [[200], 'closed'], 'HTTP/1.0 closes');
        const chunks = `${body.slice(0, 10)}|${body.slice(10)}`.split('|').map((c) => `${c.length.toString(16)};ext=1\r\n${c}\r\n`).join('');
        const chunked = await talk(server.port, [`POST ${API}/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n${auth}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\nTrailer: x\r\n\r\n`]);
        assert.deepEqual(answers(chunked.text), [201]);
        const weird = await talk(server.port, [`GET /healthz HTTP/1.1\r\nhOsT:127.0.0.1\r\nCONNECTION:   close  \r\n\r\n`]);
        assert.deepEqual(answers(weird.text), [200]);
        const nohost = await talk(server.port, [`GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n`]);
        assert.ok(answers(nohost.text).every((s) => s >= 200 && s < 500 && s !== 201), nohost.text.slice(0, 100));
    });

    test('clients that vanish in the middle of everything', async ({ api, server, E, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        const base = server.fdCount();
        const stream = get(api, `${API}/runs/${run.run_id}/events/stream?attemptId=${run.current_attempt_id}&afterSeq=0`);
        const body = JSON.stringify({ agent_id: E, timeout_seconds: 20 });
        const wait = `POST ${API}/runs/wait HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${api.token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
        for (let round = 0; round < 10; round++) {
            await Promise.all(Array.from({ length: 60 }, (_, i) => new Promise((resolve) => {
                const bytes = [stream, wait, get(api, `${API}/runs?limit=500`)][i % 3];
                const socket = net.connect(server.port, '127.0.0.1', () => {
                    socket.write(bytes.slice(0, i % 7 === 0 ? bytes.length >> 1 : undefined));
                    setTimeout(() => {
                        if (i % 2) socket.resetAndDestroy();
                        else socket.destroy();
                        resolve();
                    }, i % 13);
                });
                socket.on('error', resolve);
            })));
        }
        assert.ok(await fdsSettle(server, base + 20) <= base + 20, `${server.fdCount()} descriptors, ${base} before`);
        assert.equal((await api.get('/healthz')).status, 200);
        await api.cancel(run.run_id);
    });

    test('10,000 connects leave no descriptors and little memory', async ({ api, server }) => {
        await sleep(IDLE_MS * 2);
        const fds = server.fdCount();
        const rss = server.rssBytes();
        const request = get(api, '/healthz', 'Connection: close\r\n');
        for (let done = 0; done < 10000; done += 100) {
            await Promise.all(Array.from({ length: 100 }, (_, i) => new Promise((resolve, reject) => {
                const socket = net.connect(server.port, '127.0.0.1', () => {
                    if (i % 4 === 0) return socket.resetAndDestroy();
                    if (i % 4 === 1) return socket.destroy();
                    socket.write(request);
                    return socket.resume();
                });
                socket.on('error', (error) => (i % 4 > 1 ? reject(error) : resolve()));
                socket.on('close', resolve);
            })));
        }
        assert.ok(await fdsSettle(server, fds + 10) <= fds + 10, `${server.fdCount()} descriptors, ${fds} before`);
        assert.ok(server.rssBytes() - rss < 64 * 1024 * 1024, `memory grew by ${(server.rssBytes() - rss) >> 20} MiB`);
        assert.equal((await api.get('/healthz')).status, 200);
    });
});
