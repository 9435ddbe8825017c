// SPDX-License-Identifier: Apache-2.0
// MCP servers made with the published SDK, over stdio and over streamable HTTP: listing, calling, errors, cancellation, death.
import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startDriver, until } from './driver.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const everything = path.join(here, 'node_modules/@modelcontextprotocol/server-everything/dist/index.js');
const own = path.join(here, 'mcp-server.mjs');
const folder = mkdtempSync(path.join(os.tmpdir(), 'perdure-mcp-'));
after(() => rmSync(folder, { recursive: true }));

const alive = (pid) => { try { process.kill(pid, 0); return true; } catch { return false; } };
const lines = (file) => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)) : []);

async function freePort() {
    const server = net.createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

async function listening(port) {
    await until(() => new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
        socket.on('error', () => resolve(false));
    }), 20000);
}

// The published example server, unchanged.
for (const transport of ['stdio', 'streamableHttp'])
    describe(`server-everything over ${transport}`, () => {
        let driver, child;
        before(async () => {
            let config = { command: ['node', everything, 'stdio'] };
            if (transport !== 'stdio') {
                const port = await freePort();
                child = spawn('node', [everything, 'streamableHttp'], { env: { ...process.env, PORT: String(port) }, stdio: 'ignore' });
                await listening(port);
                config = { url: `http://127.0.0.1:${port}/mcp` };
            }
            driver = startDriver({ mcp_servers: { every: { ...config, repeat_safe: ['echo'] } } });
        });
        after(async () => {
            const { code, log } = await driver.stop();
            child?.kill('SIGKILL');
            assert.equal(code, 0, log);
        });
        test('lists its tools', async () => {
            const { err, result } = await driver.list(['every.*']);
            assert.equal(err, 'OK', JSON.stringify(result));
            const names = result.tools.map((t) => t.name);
            assert.ok(names.includes('every.echo'), names.join());
            const echo = result.tools.find((t) => t.name === 'every.echo');
            assert.equal(echo.input_schema.type, 'object');
            assert.equal(echo.repeat_safe, true);
            assert.deepEqual((await driver.list(['every.echo'])).result.tools, [echo]);
            assert.equal((await driver.list(['every.none'])).result.code, 'unknown_tool');
        });
        test('calls, also several at once', async () => {
            const said = await driver.call('every.echo', { message: 'hello ünicode' });
            assert.deepEqual([said.err, said.result, said.sent], ['OK', 'Echo: hello ünicode', true]);
            const sums = await Promise.all([1, 2, 3, 4, 5].map((n) => driver.call('every.get-sum', { a: n, b: 1 })));
            sums.forEach((sum, i) => assert.match(sum.result, new RegExp(`\\b${i + 2}\\b`)));
        });
        test('content that is not text is given as it came', async () => {
            const { err, result } = await driver.call('every.get-tiny-image', {});
            assert.equal(err, 'OK');
            assert.ok(result.content.some((part) => part.type === 'image' && part.data.length > 100));
        });
        test('structured content is the output', async () => {
            const { err, result } = await driver.call('every.get-structured-content', { location: 'Chicago' });
            assert.equal(err, 'OK', JSON.stringify(result));
            assert.equal(typeof result.temperature, 'number');
        });
        test('arguments are checked before they are sent', async () => {
            const said = await driver.call('every.echo', {});
            assert.deepEqual([said.err, said.result.code, said.sent], ['TOOL', 'invalid_arguments', false]);
            assert.equal((await driver.call('every.get-sum', { a: 'x', b: 1 })).result.code, 'invalid_arguments');
            assert.equal((await driver.call('every.none', {})).result.code, 'unknown_tool');
        });
        test('doctor', async () => {
            const check = (await driver.check()).find((c) => c.check === 'every');
            assert.equal(check.err, 'OK', check.detail);
            assert.match(check.detail, /offers \d+ tools/);
        });
    });

// A server of our own, made with the same SDK, that misbehaves on order and writes down what it sees.
describe('stdio', () => {
    const start = (name, more = {}, env = {}) => {
        const seen = path.join(folder, `${name}.jsonl`);
        const driver = startDriver({ mcp_servers: { own: { command: ['node', own, 'stdio'], env: { SEEN: seen }, timeout_ms: 5000, ...more } } }, env);
        return { driver, seen: () => lines(seen) };
    };
    test('pages of tools, a changed list, allowed tools', async () => {
        const { driver } = start('pages', { tools: ['whoami', 'extra', 'add-tool', 'page-2'] });
        const names = async () => (await driver.list(['own.*'])).result.tools.map((t) => t.name);
        assert.deepEqual(await names(), ['own.whoami', 'own.add-tool', 'own.page-2']);
        assert.equal((await driver.call('own.sleep', {})).result.code, 'unknown_tool');
        assert.equal((await driver.call('own.add-tool', {})).err, 'OK');
        await until(async () => (await names()).includes('own.extra'));
        assert.equal((await driver.call('own.extra', {})).result, 'extra');
        assert.equal((await driver.stop()).code, 0);
    });
    test('the environment is what is configured and nothing else; the key goes along', async () => {
        const { driver, seen } = start('env', { env_from: ['TEST_TOKEN'] }, { TEST_TOKEN: 'tok-123456', TEST_OTHER: 'no' });
        const { result } = await driver.call('own.whoami', {}, { key: 'key-7' });
        assert.equal(result.env.TEST_TOKEN, 'tok-123456');
        assert.equal(result.env.TEST_OTHER, undefined);
        assert.equal(seen().find((m) => m.method === 'tools/call').params._meta['perdure.dev/idempotency-key'], 'key-7');
        await driver.stop();
    });
    test('errors of the tool and of the protocol', async () => {
        const { driver } = start('errors');
        const failed = await driver.call('own.fail', {});
        assert.deepEqual([failed.err, failed.result.code, failed.result.message, failed.sent], ['TOOL', 'tool_error', 'it failed on purpose', true]);
        const large = await driver.call('own.large', { bytes: 2_000_000 });
        assert.equal(large.result.code, 'too_large');
        assert.equal((await driver.call('own.whoami', {})).err, 'OK');
        await driver.stop();
    });
    test('cancelling and running out of time tell the server', async () => {
        const { driver, seen } = start('cancel', { timeout_ms: 1500 });
        await driver.list(['own.*']);
        const call = driver.call('own.sleep', {});
        await until(() => seen().some((m) => m.method === 'tools/call'));
        driver.cancel(call.id);
        const request = seen().find((m) => m.method === 'tools/call');
        await until(() => seen().some((m) => m.method === 'notifications/cancelled' && m.params.requestId === request.id));
        const late = await driver.call('own.sleep', {});
        assert.deepEqual([late.result.code, late.result.retryable, late.sent], ['timeout', true, true]);
        await until(() => seen().filter((m) => m.method === 'notifications/cancelled').length === 2);
        assert.equal((await driver.call('own.whoami', {})).err, 'OK');
        await driver.stop();
    });
    test('a server that dies fails what it had and is started again', async () => {
        const { driver } = start('dies');
        const first = (await driver.call('own.whoami', {})).result.pid;
        const sleeping = driver.call('own.sleep', {});
        const dead = await driver.call('own.die', {});
        assert.deepEqual([dead.err, dead.result.code, dead.result.retryable, dead.sent], ['TOOL', 'unavailable', true, true]);
        assert.equal((await sleeping).result.code, 'unavailable');
        const second = (await driver.call('own.whoami', {})).result.pid;
        assert.notEqual(second, first);
        process.kill(second, 'SIGKILL');
        await until(() => /mcp_server_down.*signal 9/.test(driver.log()));
        assert.notEqual((await driver.call('own.whoami', {})).result.pid, second);
        await driver.stop();
    });
    test('it ends with us, with what it has started, also when we are killed', async () => {
        const { driver } = start('ends');
        const { pid, child } = (await driver.call('own.whoami', { child: true })).result;
        assert.ok(alive(pid) && alive(child));
        await driver.stop();
        await until(() => !alive(pid) && !alive(child));
        const other = start('killed').driver;
        const orphan = (await other.call('own.whoami', {})).result.pid;
        process.kill(other.pid, 'SIGKILL');
        await until(() => !alive(orphan));
    });
    test('what it says on standard error goes to the log', async () => {
        const { driver } = start('stderr');
        await driver.call('own.whoami', {});
        await until(() => /mcp_server_says server=own text="hello from standard error/.test(driver.log()));
        await driver.stop();
    });
    test('programs that are no server', async () => {
        const driver = startDriver({ mcp_servers: {
            none: { command: ['/no/such/program'] }, exits: { command: ['false'] }, silent: { command: ['sleep', '60'], start_timeout_ms: 300 },
            noise: { command: ['sh', '-c', 'echo not json; sleep 60'] }, unset: { command: ['cat'], env_from: ['TEST_NOT_SET'] },
            mirror: { command: ['cat'] },
        } });
        for (const [name, why] of [['none', /No such file/], ['exits', /status 1/], ['silent', /in time/], ['noise', /no message/], ['unset', /TEST_NOT_SET/], ['mirror', /Method not found/]]) {
            const said = await driver.call(`${name}.x`, {});
            assert.deepEqual([said.err, said.result.code, said.sent], ['TOOL', 'unavailable', false]);
            assert.match(said.result.message, why);
        }
        assert.equal((await driver.stop()).code, 0);
    });
    test('one that never comes up is tried later and later', async () => {
        const driver = startDriver({ mcp_servers: { exits: { command: ['false'] } } });
        const began = Date.now();
        for (let i = 0; i < 4; i++) assert.equal((await driver.call('exits.x', {})).result.code, 'unavailable');
        assert.ok(Date.now() - began >= 700, 'there was no back-off');
        await driver.stop();
    });
});

describe('streamable HTTP', () => {
    const start = async (name, mode = 'http') => {
        const port = await freePort();
        const file = path.join(folder, `${name}.jsonl`);
        const launch = () => spawn('node', [own, mode, String(port)], { env: { ...process.env, SEEN: file }, stdio: 'inherit' });
        const server = { child: launch() };
        await listening(port);
        server.again = async () => {
            server.child.kill('SIGKILL');
            await until(() => server.child.exitCode !== null || server.child.signalCode !== null);
            server.child = launch();
            await listening(port);
        };
        const driver = startDriver({ mcp_servers: { own: { url: `http://127.0.0.1:${port}/mcp`, headers: { 'X-Token': 'tok-header-1' }, timeout_ms: 5000 } } });
        return { driver, server, seen: () => lines(file), stop: async () => { const end = await driver.stop(); server.child.kill('SIGKILL'); return end; } };
    };
    for (const mode of ['http', 'http-json'])
        test(`a session from initialize to DELETE (${mode})`, async () => {
            const { driver, seen, stop } = await start(`session-${mode}`, mode);
            assert.equal((await driver.call('own.whoami', {})).err, 'OK');
            assert.equal((await driver.call('own.fail', {})).result.message, 'it failed on purpose');
            const posts = seen().filter((m) => m.http === 'POST');
            assert.equal(posts[0].session, undefined);
            assert.ok(posts.slice(1).every((p) => p.session === posts[1].session && p.session && /^\d{4}-\d\d-\d\d$/.test(p.version)));
            assert.ok(posts.every((p) => p.token === 'tok-header-1'));
            assert.equal((await stop()).code, 0);
            assert.deepEqual(seen().filter((m) => m.http === 'DELETE').map((m) => m.session), [posts[1].session]);
        });
    test('a session that the server has forgotten is begun again and the call sent again', async () => {
        const { driver, server, stop, seen } = await start('forgotten');
        const first = (await driver.call('own.whoami', {})).result.pid;
        await server.again();
        const said = await driver.call('own.whoami', {});
        assert.equal(said.err, 'OK', JSON.stringify(said.result));
        assert.notEqual(said.result.pid, first);
        assert.equal(seen().filter((m) => m.method === 'initialize').length, 2);
        await stop();
    });
    test('a server that dies during a call, and one that is not there', async () => {
        const { driver, server, stop } = await start('gone');
        await driver.list(['own.*']);
        const dead = await driver.call('own.die', {});
        assert.deepEqual([dead.result.code, dead.sent], ['unavailable', true]);
        const gone = await driver.call('own.whoami', {});
        assert.deepEqual([gone.result.code, gone.sent], ['unavailable', false]);
        await server.again();
        await until(async () => (await driver.call('own.whoami', {})).err === 'OK');
        await stop();
    });
    test('cancelling closes the request and tells the server', async () => {
        const { driver, seen, stop } = await start('cancel-http');
        await driver.list(['own.*']);
        const call = driver.call('own.sleep', {});
        const request = await until(() => seen().find((m) => m.method === 'tools/call'));
        driver.cancel(call.id);
        await until(() => seen().some((m) => m.method === 'notifications/cancelled' && m.params.requestId === request.id));
        assert.equal((await driver.call('own.whoami', {})).err, 'OK');
        await stop();
    });
});
