// SPDX-License-Identifier: Apache-2.0
// node tests/streams/run.mjs [suite|own] [TEXT]: the published Durable Streams suite against a perdure of our own, then the
// *.test.mjs of this folder; prints "N passed, N failed, N skipped" last. TEXT: only tests whose name matches. What it needs from
// npm is put here by `npm ci` (./dev test streams does that). The suite counts only when all of it ran: 332 tests.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startServer } from '../conformance/lib/server.mjs';

const WANTED = 332;
const here = path.dirname(fileURLToPath(import.meta.url));
const [what = 'all', only] = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };

function say(line) { process.stdout.write(`${line}\n`); }

async function suite() {
    const vitest = path.join(here, 'node_modules/vitest/vitest.mjs');
    if (!existsSync(vitest)) throw new Error('run `npm ci` in tests/streams first (./dev test streams does)');
    const folder = mkdtempSync(path.join(tmpdir(), 'perdure-streams-'));
    const result = path.join(folder, 'result.json');
    const server = await startServer({ args: ['--long-poll-ms', '500'] });
    let text = '';
    try {
        const args = [vitest, 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${result}`, ...(only ? ['-t', only] : [])];
        const child = spawn(process.execPath, args, {
            cwd: here, stdio: ['ignore', 'pipe', 'pipe'],
            env: { ...process.env, CI: '1', NO_COLOR: '1', DS_URL: server.url, DS_TOKEN: server.token },
        });
        for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => { text += part; });
        const code = await new Promise((resolve) => { child.once('exit', resolve); });
        const counts = JSON.parse(readFileSync(result, 'utf8'));
        const passed = counts.numPassedTests, failed = counts.numFailedTests, skipped = counts.numPendingTests;
        total.passed += passed;
        total.failed += failed;
        total.skipped += skipped;
        say(`suite: ${passed} passed, ${failed} failed, ${skipped} skipped`);
        const complaint = server.complaint();
        if (complaint) throw new Error(`the server complained: ${complaint}`);
        if (failed || code) say(text.slice(text.indexOf('Failed Tests') >= 0 ? text.indexOf('Failed Tests') : 0).slice(0, 12000));
        if (!only && (passed !== WANTED || failed || code)) {
            total.failed += failed ? 0 : 1;
            say(`the suite must end with ${WANTED} passed and 0 failed (exit ${code})`);
        }
    } catch (error) {
        total.failed++;
        say(`suite: ${error.stack}\n${text.slice(-4000)}\n${server.stderrText.slice(-4000)}`);
    } finally {
        const exit = server.alive ? await server.stop().catch((error) => ({ code: error.message })) : server.exit;
        if (exit?.code !== 0) {
            total.failed++;
            say(`the server ended with ${JSON.stringify(exit)}\n${server.stderrText.slice(-4000)}`);
        }
        server.removeData();
        rmSync(folder, { recursive: true, force: true });
    }
}

async function own() {
    const files = readdirSync(here).filter((file) => file.endsWith('.test.mjs')).map((file) => path.join(here, file));
    const stream = run({ files, concurrency: 1, timeout: 120000, ...(only ? { testNamePatterns: [only] } : {}) });
    const count = (data, outcome) => {
        if (data.details?.type === 'suite' || files.includes(path.resolve(data.name))) {
            if (outcome !== 'failed' || data.details?.error?.failureType === 'subtestsFailed') return;
        }
        total[outcome]++;
        if (outcome === 'failed') say(`FAIL  ${data.name}\n${data.details?.error?.cause?.stack ?? data.details?.error}`);
    };
    stream.on('test:pass', (data) => count(data, data.skip !== undefined ? 'skipped' : 'passed'));
    stream.on('test:fail', (data) => count(data, 'failed'));
    stream.on('test:stderr', (data) => process.stdout.write(data.message));
    stream.on('data', () => {});
    await new Promise((resolve) => { stream.on('end', resolve); });
}

if (what !== 'own') await suite();
if (what !== 'suite') await own();
say(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed || !total.passed ? 1 : 0);
