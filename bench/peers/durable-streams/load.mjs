// SPDX-License-Identifier: Apache-2.0
// Fills a JSON stream, or reads one from its start to its end: node load.mjs fill|read URL [MESSAGES]
// Prints seconds=… bytes=… requests=…. The bearer token is in BENCH_TOKEN.
import http from 'node:http';

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
    // node:http and not fetch: what is measured is the server, so the bytes are only counted.
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const page = (offset) => new Promise((resolve, reject) => {
        http.get(`${url}?offset=${offset}`, { agent, headers }, (answer) => {
            if (answer.statusCode !== 200) reject(new Error(`status ${answer.statusCode}`));
            answer.on('data', (data) => { bytes += data.length; });
            answer.on('end', () => resolve(answer.headers));
            answer.on('error', reject);
        }).on('error', reject);
    });
    for (let offset = '-1'; ;) {
        const answer = await page(offset);
        requests++;
        offset = answer['stream-next-offset'];
        if (answer['stream-up-to-date'] === 'true') break;
    }
    agent.destroy();
}
console.log(`seconds=${((performance.now() - began) / 1000).toFixed(4)} bytes=${bytes} requests=${requests}`);
