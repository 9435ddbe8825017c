// SPDX-License-Identifier: Apache-2.0
// node tests/crash/postgres.mjs N [SEED]: kills a PostgreSQL server N times, all its processes with SIGKILL, under a perdure
// server that works on it, starts it again, and checks that perdure comes back by itself: the same process, nothing
// acknowledged lost, no event that was seen changed or gone, and in the end every run comes to its end.
//
// The load and what is checked are those of crash.mjs. The database is a throw-away one (tests/support/postgres.sh).
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, sleep } from '../conformance/lib/client.mjs';
import { installFixtures } from '../conformance/lib/fixtures.mjs';
import { randomFrom } from '../conformance/lib/proxy.mjs';
import { startServer } from '../conformance/lib/server.mjs';
import { Crash, Difference } from './crash.mjs';

const WORKERS = 40;
const UP_MS = [200, 900];  // how long the database lives, at random
const DOWN_MS = [0, 600];  // and is away
const BACK_MS = 20000;     // how long perdure may take to be ready again
const script = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../support/postgres.sh');

const stdio = ['ignore', 'pipe', 'inherit'];
const postgres = (...args) => execFileSync(script, args, { encoding: 'utf8', stdio }).trim();
const between = (random, [low, high]) => low + random() * (high - low);

async function readyAgain(server) {
    const deadline = Date.now() + BACK_MS;
    for (;;) {
        if (!server.alive) throw new Difference(`the server ended: ${JSON.stringify(server.exit)}`);
        const status = await fetch(`${server.url}/readyz`, { signal: AbortSignal.timeout(2000) }).then((res) => res.status, () => 0);
        if (status === 200) return;
        if (Date.now() > deadline) throw new Difference(`not ready ${BACK_MS} ms after the database came back (${status})`);
        await sleep(20);
    }
}

async function work(server, kills, random, folder) {
    const crash = new Crash(server, await installFixtures(new Client(server.url, server.token), 'EHS'), random);
    const workers = Array.from({ length: WORKERS }, () => crash.guard(crash.worker()));
    const { pid } = server;
    let red = 0;
    for (let n = 1; n <= kills; n++) {
        await sleep(between(random, UP_MS));
        const snapshot = crash.runs.slice();
        postgres('kill', folder);
        await sleep(between(random, DOWN_MS));
        const status = await fetch(`${server.url}/readyz`, { signal: AbortSignal.timeout(2000) }).then((res) => res.status, () => 0);
        if (status !== 200) red++;
        postgres('start', folder);
        await readyAgain(server);
        await crash.verify(snapshot);
        if (crash.failure) throw crash.failure;
    }
    await crash.finish();
    await Promise.all(workers);
    if (crash.failure) throw crash.failure;
    const events = await crash.verify(crash.runs);
    if (server.pid !== pid) throw new Difference('the server is another process');
    if (red === 0) throw new Difference('health was never red while the database was away');
    process.stdout.write(`${kills} kills of the database, ${crash.runs.length} runs, ${events} events, health red ${red} times: ok\n`);
}

async function main(kills, seed) {
    const folder = mkdtempSync(path.join(tmpdir(), 'perdure-pg-'));
    let server;
    try {
        const url = postgres('start', folder);
        server = await startServer({ args: ['--max-streams', '0', '--heartbeat-ms', '1000', '--store', url] });
        await work(server, kills, randomFrom(seed), folder);
    } catch (error) {
        process.stdout.write(`seed ${seed}: ${error instanceof Difference ? `DIFFERENCE: ${error.message}` : error.stack}\n`);
        process.stdout.write(`--- stderr of the server (last part) ---\n${server?.stderrText.slice(-3000)}\n`);
        process.exitCode = 1;
    } finally {
        await server?.kill9();
        server?.removeData();
        postgres('remove', folder);
    }
    process.exit();
}

const kills = Number(process.argv[2] ?? 8);
const seed = Number(process.argv[3] ?? Date.now() % 1000000);
if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) {
    process.stderr.write('usage: node tests/crash/postgres.mjs KILLS [SEED]\n');
    process.exit(2);
}
await main(kills, seed);
