// SPDX-License-Identifier: Apache-2.0
// perdure stream …: from a shell, against a server that is also killed under a tail.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { perdureBin } from '../conformance/lib/server.mjs';
import { fresh, group, sleep } from './lib.mjs';

function perdure(server, args, { input } = {}) {
    const child = spawn(perdureBin(), ['stream', ...args, '--server', server.url, '--token', 'dev'], { stdio: ['pipe', 'pipe', 'pipe'] });
    const got = { out: '', err: '', child };
    child.stdout.on('data', (part) => { got.out += part; });
    child.stderr.on('data', (part) => { got.err += part; });
    child.stdin.end(input ?? '');
    got.done = new Promise((resolve) => { child.once('exit', (code) => { got.code = code; resolve(got); }); });
    return got;
}

const ok = async (server, args, options) => {
    const got = await perdure(server, args, options).done;
    assert.equal(got.code, 0, got.err);
    return got.out;
};

group('perdure stream', { concurrency: 1 }, (test) => {
    test('create, append, read, fork, close, delete', async (server) => {
        const name = fresh('cli log');
        await ok(server, ['create', name, '--type', 'text/plain', '--ttl', '60']);
        await ok(server, ['append', name, 'one\n']);
        await ok(server, ['append', name, '--file', '-'], { input: 'two\n' });
        assert.equal(await ok(server, ['read', name]), 'one\ntwo\n');
        await ok(server, ['create', `${name}2`, '--from', name, '--at', '0000000000000000_0000000000000001']);
        assert.equal(await ok(server, ['read', `${name}2`]), 'one\n');
        await ok(server, ['close', name]);
        const refused = await perdure(server, ['append', name, 'three']).done;
        assert.equal(refused.code, 5);
        assert.match(refused.err, /closed/);
        await ok(server, ['delete', name]);
        assert.equal((await perdure(server, ['read', name]).done).code, 5);
        assert.equal((await perdure(server, ['append', name]).done).code, 2);
    });

    test('JSON comes one message per line', async (server) => {
        const name = fresh('cli');
        await ok(server, ['create', name, '[1,{"a":[2]}]', '--type', 'application/json']);
        await ok(server, ['append', name, '[[3],"x"]']);
        assert.equal(await ok(server, ['read', name]), '1\n{"a":[2]}\n[3]\n"x"\n');
    });

    test('tail goes on behind a kill, and ends when the stream is closed', async (server) => {
        const name = fresh('cli');
        await ok(server, ['create', name, '--type', 'text/plain']);
        const tail = perdure(server, ['tail', name, '--offset', '-1']);
        for (let i = 0; i < 4; i++) {
            await ok(server, ['append', name, `${i}\n`]);
            if (i === 1) await server.restart();
            else await sleep(30);
        }
        await ok(server, ['close', name]);
        await tail.done;
        assert.deepEqual([tail.code, tail.out], [0, '0\n1\n2\n3\n']);
    });
});
