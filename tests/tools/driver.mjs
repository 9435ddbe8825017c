// SPDX-License-Identifier: Apache-2.0
// Starts tests/tools/tool_driver.c with a configuration and talks to it: call, list, cancel, check.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const bin = process.env.PERDURE_TOOL_DRIVER;
if (!bin) throw new Error('PERDURE_TOOL_DRIVER names no program');

export function startDriver(config, env = {}) {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'perdure-tools-'));
    writeFileSync(path.join(folder, 'config.json'), JSON.stringify(config));
    const child = spawn(bin, [path.join(folder, 'config.json')], { env: { ...process.env, ...env } });
    const waiting = new Map();
    const checks = [];
    let next = 1;
    let checked = null;
    let safe = null;
    let log = '';
    child.stderr.on('data', (data) => { log += data; });
    readline.createInterface({ input: child.stdout }).on('line', (line) => {
        const said = JSON.parse(line);
        if (said.check !== undefined) checks.push(said);
        else if (said.checked) checked?.(checks.splice(0));
        else if (said.safe !== undefined) safe?.(said);
        else { waiting.get(said.id)?.(said); waiting.delete(said.id); }
    });
    const ended = new Promise((resolve) => child.on('exit', (code, signal) => {
        rmSync(folder, { recursive: true });
        for (const [id, answer] of waiting) answer({ id, err: 'GONE', result: log });
        resolve({ code, signal, log });
    }));
    const put = (command) => child.stdin.write(`${JSON.stringify(command)}\n`);
    const ask = (command) => {
        const id = next++;
        const answer = new Promise((resolve) => waiting.set(id, resolve));
        put({ ...command, id });
        return Object.assign(answer, { id });
    };
    return {
        call: (tool, args, more = {}) => ask({ op: 'call', tool, arguments: args, ...more }),
        list: (names) => ask({ op: 'list', names }),
        cancel: (id) => { waiting.delete(id); put({ op: 'cancel', id }); },
        check: () => new Promise((resolve) => { checked = resolve; put({ op: 'check' }); }),
        safe: (tool) => new Promise((resolve) => { safe = resolve; put({ op: 'safe', tool }); }),
        stop: () => { child.stdin.end(); return ended; },
        log: () => log,
        pid: child.pid,
        ended,
    };
}

// Polls: for what another process does.
export async function until(what, ms = 10000) {
    const end = Date.now() + ms;
    for (;;) {
        const value = await what();
        if (value) return value;
        if (Date.now() > end) throw new Error('it did not happen in time');
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
}
