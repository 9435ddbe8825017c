// SPDX-License-Identifier: Apache-2.0
// node tests/run-node-tests.mjs [PATTERN …]: runs the *.test.mjs below this folder with the node test runner, two files at
// a time, and prints one line per file, the failures in full, and last "N passed, N failed, N skipped". A PATTERN is
// part of a file's path; with --only=TEXT only tests whose name matches TEXT (a regular expression) run.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';

const CONCURRENCY = 2; // files at a time; the cases of a file run side by side too
const here = path.dirname(fileURLToPath(import.meta.url));
const only = process.argv.find((arg) => arg.startsWith('--only='))?.slice(7);
const verbose = process.argv.includes('--verbose');
const patterns = process.argv.slice(2).filter((arg) => !arg.startsWith('--'));
const files = readdirSync(here, { recursive: true }).map(String)
    .filter((file) => file.endsWith('.test.mjs') && !file.includes('node_modules') && !file.startsWith('streams/')) // streams/run.mjs has its own
    .filter((file) => (patterns.length === 0 && !/^(plans|workflow|agents)\//.test(file)) || patterns.some((p) => file.includes(p))) // parts of their own in ./dev
    .filter((file) => process.env.PERDURE_TOOL_DRIVER || !file.startsWith('tools/')) // ./dev test tools
    .sort((a, b) => Number(b.includes('s-streaming')) - Number(a.includes('s-streaming')) || a.localeCompare(b)) // the longest one first
    .map((file) => path.join(here, file));

if (files.length === 0) {
    process.stderr.write('no test file matches\n');
    process.exit(2);
}

const total = { passed: 0, failed: 0, skipped: 0 };
const failures = [];

function describe(error) {
    const cause = error?.cause ?? error;
    return String(cause?.stack ?? cause?.message ?? cause).split('\n').filter((line) => !/node:internal|^\s+at .*node:test/.test(line)).slice(0, 40).join('\n');
}

// One file in a process of its own; answers when it is through. Each file is a run() of its own because the runner
// reports the place of the test() call, which is the harness for most of our cases, and not the file.
function runFile(file) {
    const name = path.relative(here, file);
    const mine = { passed: 0, failed: 0, skipped: 0 };
    const began = Date.now();
    const say = (line) => process.stdout.write(`${line}\n`);
    const count = (data, outcome) => {
        const error = data.details?.error;
        // A suite or a file repeats what its cases said, unless a hook of it failed or it never got to them.
        const container = data.details?.type === 'suite' || path.resolve(data.name) === file;
        if (container && (outcome !== 'failed' || error?.failureType === 'subtestsFailed')) return;
        total[outcome]++;
        mine[outcome]++;
        if (error?.failureType === 'cancelledByParent') return; // its suite says why
        if (outcome === 'failed') failures.push({ name, title: data.name, error });
        if (outcome === 'failed') say(`FAIL  ${name}: ${data.name} (${Math.round(data.details.duration_ms)} ms)`);
        else if (verbose) say(`${outcome === 'passed' ? 'ok   ' : 'skip '} ${name}: ${data.name} (${Math.round(data.details.duration_ms)} ms)`);
    };
    return new Promise((resolve) => {
        const stream = run({ files: [file], concurrency: 1, timeout: 300000, ...(only ? { testNamePatterns: [only] } : {}) });
        stream.on('test:pass', (data) => {
            const skipped = data.skip !== undefined || data.todo !== undefined;
            if (!(only && skipped)) count(data, skipped ? 'skipped' : 'passed');
        });
        stream.on('test:fail', (data) => count(data, 'failed'));
        stream.on('test:stderr', (data) => process.stdout.write(data.message));
        stream.on('test:diagnostic', (data) => { if (/^(seed|server|the server|\d+ cuts)/.test(data.message)) say(`      ${name}: ${data.message}`); });
        stream.on('data', () => {});
        stream.on('end', () => {
            say(`${name}: ${mine.passed} passed, ${mine.failed} failed${mine.skipped ? `, ${mine.skipped} skipped` : ''} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
            resolve();
        });
    });
}

const began = Date.now();
const queue = files.slice();
await Promise.all(Array.from({ length: CONCURRENCY }, async () => {
    while (queue.length) await runFile(queue.shift());
}));
for (const { name, title, error } of failures) process.stdout.write(`\n--- ${name}: ${title}\n${describe(error)}\n`);
if (failures.length) process.stdout.write('\n');
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped (${Math.round((Date.now() - began) / 1000)} s)\n`);
process.exit(total.failed || total.passed === 0 ? 1 : 0);
