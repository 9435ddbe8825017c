// SPDX-License-Identifier: Apache-2.0
// The perdure command as a person or a script uses it: what it prints, how it ends, and that a watched run loses nothing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fixtureDefinition } from '../conformance/lib/fixtures.mjs';
import { startCuttingProxy } from '../conformance/lib/proxy.mjs';
import { perdureBin, startServer } from '../conformance/lib/server.mjs';

const folder = mkdtempSync(path.join(tmpdir(), 'perdure-cli-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
let server;

// Nothing of the caller's environment reaches the command but what a case sets.
function environment(more) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PERDURE_')));
    return { ...env, ...more };
}

// Starts the command in the test's folder; `done` resolves with what it said and how it ended.
function start(args, { env = { PERDURE_URL: server.url, PERDURE_TOKEN: server.token }, input = '' } = {}) {
    const child = spawn(perdureBin(), args, { cwd: folder, env: environment(env), stdio: 'pipe' });
    const said = { out: '', err: '', child };
    child.stdout.setEncoding('utf8').on('data', (text) => { said.out += text; });
    child.stderr.setEncoding('utf8').on('data', (text) => { said.err += text; });
    child.stdin.on('error', () => {}).end(input);
    const timer = setTimeout(() => child.kill('SIGKILL'), 50000);
    said.done = new Promise((resolve) => {
        child.once('close', (code, signal) => {
            clearTimeout(timer);
            resolve({ ...said, code, signal });
        });
    });
    return said;
}

const perdure = (args, options) => start(args, options).done;

async function ok(args, options, code = 0) {
    const result = await perdure(args, options);
    assert.equal(result.code, code, `perdure ${args.join(' ')}: code ${result.code} ${result.signal}\n${result.out}\n${result.err}`);
    return result;
}

async function until(what, condition) {
    for (let n = 0; n < 500; n++) {
        if (await condition()) return;
        await sleep(20);
    }
    assert.fail(`${what} did not happen`);
}

function agentFile(name, definition, more = {}) {
    const file = path.join(folder, `${name}.json`);
    writeFileSync(file, JSON.stringify({ name, ...more, definition }));
    return file;
}

const seqs = (out) => out.trim().split('\n').map((line) => JSON.parse(line).seq);
const oneTo = (n) => Array.from({ length: n }, (_, i) => i + 1);

function assertWhole(out) {
    const events = out.trim().split('\n').map((line) => JSON.parse(line));
    assert.deepEqual(seqs(out), oneTo(events.length));
    assert.equal(events.at(-1).type, 'RUN_FINISHED');
    return events;
}

describe('the perdure command', { concurrency: 4 }, () => {
    before(async () => {
        server = await startServer({ dev: true });
        for (const name of ['echo', 'human', 'fail', 'slow']) await ok(['agents', 'apply', agentFile(name, fixtureDefinition(name))]);
    });
    after(async () => {
        await server?.stop();
        server?.removeData();
    });

    test('run prints the output and ends with 0', async () => {
        const result = await ok(['run', 'echo', '--input', '{"n": 12345678901234567890}']);
        assert.equal(result.out, '{"echo":{"n":12345678901234567890}}\n');
        assert.match(result.err, /^completed/m);
    });

    test('run takes its input from files and from standard input', async () => {
        writeFileSync(path.join(folder, 'input.json'), '[1]');
        writeFileSync(path.join(folder, 'a.txt'), 'first');
        writeFileSync(path.join(folder, 'b.txt'), 'second\n');
        assert.equal((await ok(['run', 'echo', '--quiet', '--input', '@input.json'])).out, '{"echo":[1]}\n');
        assert.equal((await ok(['run', 'echo', '--quiet', '--input', '@-'], { ...defaults(), input: '"x"' })).out, '{"echo":"x"}\n');
        const text = await ok(['run', 'echo', '--quiet', '--text', 'a.txt', '--text', 'b.txt']);
        assert.deepEqual(JSON.parse(text.out), { echo: { text: 'first\nsecond\n' } });
        assert.equal(text.err, '');
    });

    test('run of a file applies it first', async () => {
        const file = agentFile('from-file', fixtureDefinition('echo'));
        assert.match((await ok(['run', file, '--input', '1'])).err, /agent from-file: created/);
        assert.doesNotMatch((await ok(['run', file, '--input', '1'])).err, /agent from-file/);
    });

    test('the same key is the same run', async () => {
        const args = ['run', 'echo', '--input', '1', '--key', 'cli-test-key', '--detach'];
        const first = await ok(args);
        assert.equal((await ok(args)).out, first.out);
        assert.match(first.out, /^[0-9a-f-]{36}\n$/);
    });

    test('a failed run ends with 1 and says why', async () => {
        const result = await ok(['run', 'fail'], undefined, 1);
        assert.match(result.err, /fixture_failure/);
    });

    test('--json prints every event once, as received', async () => {
        const result = await ok(['run', 'slow', '--json', '--input', '{"ticks":5,"interval_ms":10}']);
        const deltas = assertWhole(result.out).filter((event) => event.type === 'MODEL_DELTA');
        assert.deepEqual(deltas.map((event) => event.payload.index), [0, 1, 2, 3, 4]);
        assert.equal(result.err, '');
    });

    test('follow goes on where it was and begins where it is told', async () => {
        const run = (await ok(['run', 'slow', '--detach', '--input', '{"ticks":10,"interval_ms":20}'])).out.trim();
        const all = seqs((await ok(['runs', 'follow', run, '--json'])).out);
        assert.deepEqual(all, oneTo(all.length));
        assert.deepEqual(seqs((await ok(['runs', 'follow', run, '--json', '--from', '4'])).out), all.slice(3));
        assert.deepEqual(seqs((await ok(['runs', 'follow', run, '--json', '--from', '999'])).out), all.slice(-1));
    });

    test('a connection that is cut at random bytes loses nothing and repeats nothing', { timeout: 120000 }, async () => {
        const run = (await ok(['run', 'slow', '--detach', '--input', '{"ticks":30,"interval_ms":10}'])).out.trim();
        const proxy = await startCuttingProxy({ port: server.port, seed: 7, minBytes: 700, maxBytes: 4000, maxCuts: 12 });
        try {
            const result = await ok(['runs', 'follow', run, '--json'], { env: { PERDURE_URL: proxy.url, PERDURE_TOKEN: server.token } });
            assert.equal(assertWhole(result.out).filter((event) => event.type === 'MODEL_DELTA').length, 30);
            assert.ok(proxy.stats.cuts >= 3, `only ${proxy.stats.cuts} cuts`);
        } finally {
            await proxy.close();
        }
    });

    test('cancel ends the watch with 3', async () => {
        const run = (await ok(['run', 'slow', '--detach', '--input', '{"ticks":2000,"interval_ms":50}'])).out.trim();
        const watch = start(['runs', 'follow', run]);
        await until('a tick', () => watch.out.length > 0);
        assert.match((await ok(['runs', 'cancel', run, '--reason', 'enough'])).out, /cancelled/);
        assert.equal((await watch.done).code, 3);
        assert.match((await ok(['runs', 'cancel', run])).out, /before/);
        assert.match((await ok(['runs', 'show', run])).out, /enough/);
    });

    test('Ctrl-C stops the watch and not the run', async () => {
        const run = (await ok(['run', 'slow', '--detach', '--input', '{"ticks":60,"interval_ms":30}'])).out.trim();
        const watch = start(['runs', 'follow', run]);
        await until('a tick', () => watch.out.length > 0);
        watch.child.kill('SIGINT');
        const result = await watch.done;
        assert.equal(result.code, 130);
        assert.match(result.err, new RegExp(`perdure runs follow ${run}`));
        assertWhole((await ok(['runs', 'follow', run, '--json'])).out);
    });

    test('--timeout ends the watch with 7', async () => {
        const result = await ok(['run', 'slow', '--timeout', '0.3', '--input', '{"ticks":100,"interval_ms":50}'], undefined, 7);
        assert.match(result.err, /the run goes on/);
    });

    test('without a terminal a question ends with 4; resume answers it', async () => {
        const asked = await ok(['run', 'human', '--json'], undefined, 4);
        const run = /perdure runs resume (\S+)/.exec(asked.err)[1];
        assert.match((await ok(['runs', 'show', run])).out, /waiting_for_human/);
        const answered = await ok(['runs', 'resume', run, '--input', '{"yes":true}', '--follow']);
        assert.equal(answered.out, '{"answer":{"yes":true}}\n');
        await ok(['runs', 'resume', run, '--input', '1'], undefined, 5);
    });

    test('approvals: list, approve, reject', async () => {
        for (const [words, answer] of [[['approve'], { approved: true }], [['approve', '--input', '[1]'], [1]], [['reject', '--reason', 'no'], { approved: false, reason: 'no' }]]) {
            const run = /perdure runs resume (\S+)/.exec((await ok(['run', 'human', '--json'], undefined, 4)).err)[1];
            const [open] = JSON.parse((await ok(['approvals', 'list', '--run', run, '--json'])).out).items;
            assert.match((await ok(['approvals', 'list', '--run', run])).out, new RegExp(`${open.approval_id} +pending +${run} +gate`));
            const [verb, ...options] = words;
            assert.match((await ok(['approvals', verb, open.approval_id, ...options])).out, verb === 'approve' ? /approved/ : /rejected/);
            await ok(['approvals', verb, open.approval_id], undefined, 5);
            assert.deepEqual(JSON.parse((await ok(['runs', 'follow', run, '--quiet'])).out), { answer });
            assert.match((await ok(['approvals', 'list', '--run', run])).err, /no approvals/);
            assert.match((await ok(['approvals', 'list', '--run', run, '--status', 'all'])).out, /gate/);
        }
        await ok(['approvals', 'approve', 'x', '--input', '{'], undefined, 2);
    });

    test('inspect, failures, rerun, retry, audit', async () => {
        await ok(['run', 'fail'], undefined, 1);
        const [failure] = JSON.parse((await ok(['runs', 'failures', '--json', '--limit', '1'])).out).items;
        assert.equal(failure.error_code, 'fixture_failure');
        assert.match((await ok(['runs', 'failures', '--category', 'tool'])).out, /fixture_failure/);
        assert.match((await ok(['runs', 'failures', '--to', '2001-01-01'])).err, /no failures/);
        assert.match((await ok(['runs', 'inspect', failure.run_id])).out, /fixture_failure/);
        assert.equal(JSON.parse((await ok(['runs', 'inspect', failure.run_id, '--json'])).out).run.run_id, failure.run_id);
        assert.match((await ok(['runs', 'retry', failure.run_id], undefined, 5)).err, /not retryable/);
        const made = /run (\S+)/.exec((await ok(['runs', 'rerun', failure.run_id])).out)[1];
        assert.notEqual(made, failure.run_id);
        await ok(['runs', 'rerun', failure.run_id, '--follow'], undefined, 1);
        assert.match((await ok(['audit', '--resource', made])).out, /run\.rerun/);
        assert.equal(JSON.parse((await ok(['audit', '--action', 'run.rerun', '--limit', '1', '--json'])).out).items.length, 1);
        assert.match((await ok(['audit', '--to', '2001-01-01'])).err, /nothing/);
    });

    test('replay: from the first, the last or a named checkpoint', async () => {
        const run = JSON.parse((await ok(['runs', 'list', '--status', 'completed', '--limit', '1', '--json'])).out).items[0];
        const strict = await ok(['runs', 'replay', run.run_id, 'first', '--mode', 'strict', '--follow']);
        assert.deepEqual(JSON.parse(strict.out), run.output);
        const made = JSON.parse((await ok(['runs', 'replay', run.run_id, 'last', '--json'])).out);
        assert.deepEqual([made.replay_mode, made.replayed_from_run_id], ['best_effort', run.run_id]);
        assert.match((await ok(['runs', 'replay', run.run_id, made.replayed_from_checkpoint_id, '--reason', 'x'])).out, /^run \S+\n$/);
        await ok(['runs', 'replay', run.run_id, run.run_id], undefined, 5);
        await ok(['runs', 'replay', run.run_id, 'first', '--mode', 'maybe'], undefined, 5);
    });

    test('apply creates, leaves alone and updates', async () => {
        const definition = fixtureDefinition('echo');
        const apply = async (body) => (await ok(['agents', 'apply', '-'], { ...defaults(), input: JSON.stringify(body) })).out;
        const agent = { name: 'applied', description: 'one', metadata: { a: 1, b: { c: 2 } }, definition };
        assert.match(await apply(agent), /^agent applied \S+: created \(version 1\)$/m);
        assert.match(await apply(agent), /^agent applied \S+: unchanged$/m);
        assert.match(await apply({ definition, metadata: { b: { c: 2 }, a: 1 }, name: 'applied' }), /unchanged/);
        assert.match(await apply({ ...agent, metadata: { b: { d: 3 } } }), /updated/);
        const shown = JSON.parse((await ok(['agents', 'show', 'applied', '--json'])).out);
        assert.deepEqual(shown.metadata, { b: { d: 3 } });
        assert.equal(shown.live_version_no, 1);
        assert.match(await apply({ ...agent, definition: fixtureDefinition('human') }), /updated \(version 2\)/);
    });

    test('apply says what is wrong and where', async () => {
        const bad = { name: 'bad', definition: { format: 1, entry: 'x', nodes: [{ node: 'a', capability_ref: 'no.such' }] } };
        const refused = await ok(['agents', 'apply', '-'], { ...defaults(), input: JSON.stringify(bad) }, 5);
        assert.match(refused.err, /^ {2}\/definition\S*: .+$/m);
        const typo = await ok(['agents', 'apply', '-'], { ...defaults(), input: '{"name":"x","defintion":{}}' }, 2);
        assert.match(typo.err, /\/defintion: unknown member/);
        await ok(['agents', 'apply', '/nonexistent/file.json'], undefined, 2);
    });

    test('lists are tables for people and JSON for programs', async () => {
        await ok(['run', 'echo', '--input', '1']);
        const table = await ok(['runs', 'list', '--status', 'completed', '--agent', 'echo']);
        assert.match(table.out, /^RUN +STATUS +AGENT/);
        const list = JSON.parse((await ok(['runs', 'list', '--json', '--limit', '1'])).out);
        assert.equal(list.items.length, 1);
        assert.match((await ok(['agents', 'list'])).out, /^\S{36} {2}echo /m);
        assert.doesNotMatch(table.out, /\x1b/);
    });

    test('tokens are made, listed and revoked', async () => {
        const made = await ok(['token', 'create', '--name', 'cli', '--scopes', 'runs:read', '--expires', '1h']);
        const env = { PERDURE_URL: server.url, PERDURE_TOKEN: made.out.trim() };
        await ok(['runs', 'list'], { env });
        await ok(['run', 'echo'], { env }, 6);
        const id = /\(id (\S+)\)/.exec(made.err)[1];
        assert.match((await ok(['token', 'list'])).out, new RegExp(`^${id} +cli `, 'm'));
        assert.doesNotMatch((await ok(['token', 'list', '--json'])).out, new RegExp(made.out.trim()));
        await ok(['token', 'revoke', id]);
        await ok(['runs', 'list'], { env }, 6);
    });

    test('crons are made, listed, triggered and deleted', async () => {
        const agent = /"agent_id":"([^"]+)"/.exec((await ok(['agents', 'show', 'echo', '--json'])).out)[1];
        const made = await ok(['crons', 'create', agent, '--schedule', '30 9 1 1 *', '--timezone', 'Europe/Berlin', '--input', '{"n":1}']);
        const [, id] = /^cron (\S+); next run \d{4}-01-01T08:30:00\.000Z$/m.exec(made.out);
        assert.match((await ok(['crons', 'list'])).out, new RegExp(`^${id} +30 9 1 1 \\* +Europe/Berlin `, 'm'));
        const run = /^run (\S+)$/m.exec((await ok(['crons', 'trigger', id])).out)[1];
        assert.match((await ok(['runs', 'follow', run, '--json'])).out, /"RUN_FINISHED"/);
        await ok(['crons', 'delete', id]);
        assert.doesNotMatch((await ok(['crons', 'list', '--json'])).out, new RegExp(id));
        await ok(['crons', 'delete', id], {}, 5);
        await ok(['crons', 'create', agent], {}, 2);
        assert.match((await ok(['crons', 'create', agent, '--schedule', '61 * * * *'], {}, 5)).err, /minute/);
    });

    test('exit codes tell usage, server and token apart', async () => {
        assert.match((await ok(['rusn'], undefined, 2)).err, /did you mean "runs"/);
        assert.match((await ok(['runs', 'list', '--limt', '1'], undefined, 2)).err, /did you mean --limit/);
        await ok(['run', 'echo', '--input', '{'], undefined, 2);
        await ok(['runs', 'list', '--server', 'nonsense'], undefined, 2);
        await ok(['runs', 'show', 'no-such-run'], undefined, 5);
        await ok(['run', 'no-such-agent'], undefined, 5);
        const closed = net.createServer().listen(0, '127.0.0.1');
        await new Promise((resolve) => { closed.once('listening', resolve); });
        const url = `http://127.0.0.1:${closed.address().port}`;
        await new Promise((resolve) => { closed.close(resolve); });
        await ok(['runs', 'list'], { env: { PERDURE_URL: url, PERDURE_TOKEN: 'dev' } }, 5);
        await ok(['run', 'echo'], { env: { PERDURE_URL: url, PERDURE_TOKEN: 'dev' } }, 5);
        await ok(['runs', 'list'], { env: { PERDURE_URL: server.url, PERDURE_TOKEN: 'wrong' } }, 6);
        await ok(['runs', 'list'], { env: { PERDURE_URL: server.url } }, 6);
    });

    test('help is everywhere', async () => {
        assert.match((await ok(['--version'])).out, /^perdure \d+\.\d+\.\d+/);
        assert.match((await ok(['help'])).out, /exit codes/);
        for (const words of [['run'], ['runs', 'list'], ['agents', 'apply'], ['token', 'create'], ['approvals', 'list'], ['runs', 'inspect'], ['audit'], ['doctor'], ['serve']]) {
            const help = (await ok(['help', ...words])).out;
            assert.match(help, new RegExp(`usage: perdure ${words.join(' ')}`));
            assert.equal((await ok([...words, '--help'])).out, help);
        }
        assert.match((await ok(['runs'], undefined, 2)).err, /usage: perdure runs/);
    });

    test('doctor finds a healthy server and a missing one', async () => {
        const report = JSON.parse((await ok(['doctor', '--json', '--data', server.dataDir])).out);
        const level = (check) => report.checks.find((item) => item.check === check)?.level;
        assert.equal(report.ok, true);
        for (const check of ['version', 'folder', 'keyfile', 'server', 'ready', 'token']) assert.equal(level(check), 'ok', check);
        const bad = await ok(['doctor', '--json', '--token', 'wrong'], undefined, 1);
        assert.equal(JSON.parse(bad.out).checks.find((item) => item.check === 'token').level, 'fail');
    });
});

const defaults = () => ({ env: { PERDURE_URL: server.url, PERDURE_TOKEN: server.token } });

describe('the perdure command and the life of a server', () => {
    test('a follower outlives kill -9 and restart of the server', { timeout: 120000 }, async () => {
        const own = await startServer({ dev: true });
        const env = { PERDURE_URL: own.url, PERDURE_TOKEN: own.token };
        const home = mkdtempSync(path.join(tmpdir(), 'perdure-cli-'));
        try {
            const file = path.join(home, 'slow.json');
            writeFileSync(file, JSON.stringify({ name: 'slow', definition: fixtureDefinition('slow') }));
            const watch = start(['run', file, '--json', '--input', '{"ticks":40,"interval_ms":50}'], { env });
            for (let kill = 1; kill <= 2; kill++) {
                await until('progress', () => watch.out.split('\n').length > kill * 8);
                await own.restart();
            }
            const result = await watch.done;
            assert.equal(result.code, 0, result.err);
            const byAttempt = new Map();
            for (const line of result.out.trim().split('\n')) {
                const event = JSON.parse(line);
                byAttempt.set(event.attempt_id, [...(byAttempt.get(event.attempt_id) ?? []), event.seq]);
            }
            for (const list of byAttempt.values()) assert.deepEqual(list, oneTo(list.length));
            assert.match(result.err, /trying again/);
        } finally {
            await own.stop();
            own.removeData();
            rmSync(home, { recursive: true, force: true });
        }
    });

    // Port 7070 is where a server is looked for when none is named; on a machine where one runs there this cannot be tried.
    test('run brings its own server where there is none, and leaves none behind', async (t) => {
        const taken = await new Promise((resolve) => {
            const socket = net.connect(7070, '127.0.0.1', () => { socket.destroy(); resolve(true); });
            socket.on('error', () => resolve(false));
        });
        if (taken) return t.skip('something listens on port 7070');
        const home = mkdtempSync(path.join(tmpdir(), 'perdure-cli-'));
        try {
            const file = path.join(home, 'echo.json');
            const data = path.join(home, 'data');
            writeFileSync(file, JSON.stringify({ name: 'echo', definition: fixtureDefinition('echo') }));
            const args = ['run', file, '--data', data, '--input', '7'];
            const first = await perdure(args, { env: {} });
            assert.equal(first.code, 0, first.err);
            assert.equal(first.out, '{"echo":7}\n');
            assert.match(first.err, /started one for this run/);
            assert.ok(existsSync(path.join(data, 'token')));
            assert.equal(statSync(path.join(data, 'token')).mode & 0o777, 0o600);
            /* The folder is free again, and knows the agent. */
            const second = await perdure(args, { env: {} });
            assert.equal(second.code, 0, second.err);
            assert.doesNotMatch(second.err, /agent echo/);
            await perdure([...args, '--detach'], { env: {} }).then((result) => assert.equal(result.code, 5));
        } finally {
            rmSync(home, { recursive: true, force: true });
        }
        return undefined;
    });
});
