// SPDX-License-Identifier: Apache-2.0
// Fills a JSON stream, or reads one from its start to its end: node load.mjs fill|read URL [MESSAGES]
// Prints seconds=… bytes=… requests=…. The bearer token is in BENCH_TOKEN.
const [, , what, url, count] = process.argv;
const headers = process.env.BENCH_TOKEN ? { authorization: `Bearer ${process.env.BENCH_TOKEN}` } : {};
const began = performance.now();
let bytes = 0, requests = 0;

if (what === 'fill') {
    await fetch(url, { method: 'PUT', headers: { ...headers, 'content-type': 'application/json' } });
    for (let made = 0; made < +count; made += 5000) {
        const body = JSON.stringify(Array.from({ length: 5000 }, (_, i) => ({ n: made + i, d: 'small' })));
        const answer = await fetch(url, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body });
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
        requests++;
    }
} else {
    for (let offset = '-1'; ;) {
        const answer = await fetch(`${url}?offset=${offset}`, { headers });
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
        bytes += (await answer.arrayBuffer()).byteLength;
        requests++;
        offset = answer.headers.get('stream-next-offset');
        if (answer.headers.get('stream-up-to-date') === 'true') break;
    }
}
console.log(`seconds=${((performance.now() - began) / 1000).toFixed(4)} bytes=${bytes} requests=${requests}`);
