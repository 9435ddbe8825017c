// SPDX-License-Identifier: Apache-2.0
// node tests/crash/producers.mjs N [SEED]: kills the server N times with SIGKILL while producers append to free streams, and checks
// that each append is there exactly once: everything acknowledged, nothing twice, in order, by producer epoch and seq.
//
// A producer sends its next append until it is answered, with the same epoch and seq. Now and then one begins a new epoch, as a
// producer does that lost its memory. A follower over SSE must see the same sequence, without loss or repeat, across all kills.
import { startServer } from '../conformance/lib/server.mjs';
import { randomFrom } from '../conformance/lib/proxy.mjs';

const PRODUCERS = 12;
const STREAMS = 3;
const UP_MS = [20, 110];
const kills = Number(process.argv[2] ?? 200);
const seed = Number(process.argv[3] ?? Date.now() % 1000000);
if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) {
    process.stderr.write('usage: node tests/crash/producers.mjs KILLS [SEED]\n');
    process.exit(2);
}
const random = randomFrom(seed);
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const server = await startServer({ args: [...(process.env.PERDURE_CRASH_ARGS ?? '').split(' ').filter(Boolean)] });
const headers = { authorization: 'Bearer dev', 'content-type': 'application/json' };
const url = (k) => `${server.url}/v1/stream/crash/${k}`;
let working = true;
let failure = null;
const count = { acknowledged: 0, repeated: 0, fenced: 0, epochs: 0 };

function fail(what, more) { throw new Error(`${what}: ${JSON.stringify(more)}`); }

async function send(stream, p, body) {
    for (let tries = 0; ; tries++) {
        try {
            const res = await fetch(url(stream), { method: 'POST', body, signal: AbortSignal.timeout(3000),
                headers: { ...headers, 'producer-id': p.id, 'producer-epoch': String(p.epoch), 'producer-seq': String(p.seq) } });
            await res.arrayBuffer();
            if (res.status === 200) return;
            if (res.status === 204 && tries) { count.repeated++; return; } // an earlier try was on disk, its answer was lost
            if (res.status < 500) fail('an append was refused', { status: res.status, ...p, tries, expected: res.headers.get('producer-expected-seq') });
        } catch (error) {
            if (error.message.startsWith('an append')) throw error;
        }
        if (failure) return;
        await sleep(3);
    }
}

async function producer(p) {
    while (working && !failure) {
        const stream = p.stream;
        if (random() < 0.01) { p.epoch++; p.seq = 0; count.epochs++; }
        const messages = Array.from({ length: 1 + Math.floor(random() * 3) }, (_, i) => ({ p: p.id, e: p.epoch, s: p.seq, i }));
        await send(stream, p, JSON.stringify(messages));
        if (failure) return;
        p.acked.push([p.epoch, p.seq, messages.length]);
        p.seq++;
        count.acknowledged++;
        if (random() < 0.2) await sleep(random() * 4);
    }
}

// Follows by SSE from the last control it saw; keeps every message.
async function follower(f) {
    while (!failure && !f.over) {
        const aborter = new AbortController();
        f.abort = () => aborter.abort();
        try {
            const res = await fetch(`${url(f.stream)}?offset=${f.offset}&live=sse`, { headers, signal: aborter.signal });
            if (!res.ok) throw new Error('not yet');
            const decoder = new TextDecoder();
            let rest = '';
            let data = null;
            for await (const part of res.body) {
                rest += decoder.decode(part, { stream: true });
                for (let end; (end = rest.indexOf('\n\n')) >= 0;) {
                    const block = rest.slice(0, end);
                    rest = rest.slice(end + 2);
                    const text = block.slice(block.indexOf('data:') + 5);
                    if (block.startsWith('event: data')) {
                        data = JSON.parse(text);
                    } else { // only with its control is a data event taken
                        if (data) f.seen.push(...data);
                        data = null;
                        f.offset = JSON.parse(text).streamNextOffset;
                    }
                }
            }
        } catch {
            // cut off, or not up
        }
        if (!f.over) await sleep(3);
    }
}

async function readAll(stream, offset = '-1') {
    const all = [];
    for (;;) {
        const res = await fetch(`${url(stream)}?offset=${offset}`, { headers });
        if (res.status !== 200) fail('a stream cannot be read', { status: res.status, text: await res.text() });
        all.push(...await res.json());
        offset = res.headers.get('stream-next-offset');
        if (res.headers.get('stream-up-to-date')) return { all, offset };
    }
}

// Each append whole, once, in order of (epoch, seq) for each producer, and everything acknowledged among them.
function check(all, producers, acked) {
    const by = new Map(producers.map((p) => [p.id, []]));
    for (const m of all) by.get(m.p).push(m);
    producers.forEach((p, n) => {
        const seen = new Set();
        let last = { e: -1, s: 0, i: 0 };
        for (const m of by.get(p.id)) {
            const next = m.i > 0 ? m.e === last.e && m.s === last.s && m.i === last.i + 1 : m.e === last.e ? m.s === last.s + 1 : m.e > last.e && m.s === 0;
            if (!next) fail('lost, repeated or out of order', { after: last, came: m });
            seen.add(`${m.e}/${m.s}/${m.i}`);
            last = m;
        }
        for (const [e, s, length] of acked[n]) {
            for (let i = 0; i < length; i++) if (!seen.has(`${e}/${s}/${i}`)) fail('an acknowledged append is lost', { p: p.id, e, s, i });
        }
    });
}

const began = Date.now();
try {
    for (let k = 0; k < STREAMS; k++) {
        const res = await fetch(url(k), { method: 'PUT', headers });
        if (res.status !== 201) fail('no stream', { status: res.status });
    }
    const producers = Array.from({ length: PRODUCERS }, (_, i) => ({ id: `p${i}`, stream: i % STREAMS, epoch: 0, seq: 0, acked: [] }));
    const followers = Array.from({ length: STREAMS }, (_, k) => ({ stream: k, offset: '-1', seen: [], over: false, abort() {} }));
    const guard = (promise) => promise.catch((error) => { failure ??= error; });
    const work = producers.map((p) => guard(producer(p)));
    const follow = followers.map((f) => guard(follower(f)));
    const of = (k) => producers.filter((p) => p.stream === k);
    for (let n = 1; n <= kills && !failure; n++) {
        await sleep(UP_MS[0] + random() * (UP_MS[1] - UP_MS[0]));
        await server.restart({ how: 'kill9' });
        if (n % 20 === 0) {
            for (let k = 0; k < STREAMS; k++) {
                const acked = of(k).map((p) => p.acked.slice());
                check((await readAll(k)).all, of(k), acked);
            }
            process.stdout.write(`${n} kills, ${count.acknowledged} appends, ${count.repeated} answered by a repeat, ${count.epochs} new epochs, ${Date.now() - began} ms\n`);
        }
    }
    working = false;
    await Promise.all(work);
    if (failure) throw failure;
    for (let k = 0; k < STREAMS; k++) {
        const { all, offset } = await readAll(k);
        check(all, of(k), of(k).map((p) => p.acked));
        const f = followers[k];
        for (let tries = 0; f.offset !== offset && tries < 1000; tries++) await sleep(10);
        f.over = true;
        f.abort();
        if (JSON.stringify(f.seen) !== JSON.stringify(all)) fail('the follower saw something else', { seen: f.seen.length, there: all.length });
    }
    await Promise.all(follow);
    if (!count.repeated) fail('no answer was ever lost: the kills hit nothing', count);
    process.stdout.write(`${kills} kills, ${count.acknowledged} appends acknowledged, ${count.repeated} by a repeat: each exactly once, ${Date.now() - began} ms\n`);
    process.stdout.write('1 passed, 0 failed, 0 skipped\n');
} catch (error) {
    failure ??= error;
    process.stdout.write(`seed ${seed}: ${error.stack}\n--- stderr of the server (last part) ---\n${server.stderrText.slice(-3000)}\n`);
    process.stdout.write('0 passed, 1 failed, 0 skipped\n');
    process.exitCode = 1;
} finally {
    await server.kill9();
    server.removeData();
}
process.exit();
