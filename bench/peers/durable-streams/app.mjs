// SPDX-License-Identifier: Apache-2.0
// The reference server with its file store: node app.mjs PORT DIR
import { DurableStreamTestServer } from '@durable-streams/server';

Promise.withResolvers ??= function () { let resolve, reject; const promise = new Promise((a, b) => { resolve = a; reject = b; }); return { promise, resolve, reject }; };
const server = new DurableStreamTestServer({ port: +process.argv[2], host: '127.0.0.1', dataDir: process.argv[3], compression: false });
await server.start();
console.log('up');
