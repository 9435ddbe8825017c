// SPDX-License-Identifier: Apache-2.0
// app.mjs PORT DATABASE-URL - workflows of steps on DBOS, and an HTTP server that runs one per POST and answers when it is done.
// /chain {"n": steps one after the other}, /wide {"n": steps side by side}.
import http from 'node:http';
import { DBOS } from '@dbos-inc/dbos-sdk';

const step = async (value) => ({ value });
const chain = DBOS.registerWorkflow(async (n) => {
    let value = {};
    for (let i = 0; i < n; i++) value = await DBOS.runStep(() => step(i), { name: 'step' });
    return value;
}, { name: 'chain' });
const wide = DBOS.registerWorkflow(async (n) => {
    const all = await Promise.all(Array.from({ length: n }, (_, i) => DBOS.runStep(() => step(i), { name: 'step' })));
    return all.length;
}, { name: 'wide' });

DBOS.setConfig({ name: 'bench', systemDatabaseUrl: process.argv[3], logLevel: 'error', runAdminServer: false });
await DBOS.launch();
http.createServer((req, res) => {
    let body = '';
    req.on('data', (data) => { body += data; });
    req.on('end', async () => {
        const run = req.url === '/wide' ? wide : chain;
        const text = JSON.stringify(await run(JSON.parse(body).n));
        res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
        res.end(text);
    });
}).listen(Number(process.argv[2]), '127.0.0.1');
