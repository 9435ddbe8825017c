// SPDX-License-Identifier: Apache-2.0
// Starts, stops, kills and restarts one perdure server for a test: an own data folder, a free port, and its stderr
// kept so that a failing test can show it. Ends only the child it started, by its pid.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { load as loadDocument } from './openapi.mjs';

const repoRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const KEEP_STDERR = 256 * 1024;

export function perdureBin() {
    return path.resolve(repoRoot, process.env.PERDURE_BIN || 'build/perdure');
}

// PERDURE_STORE_ARGS="--store postgres://…&options=-csearch_path%3D{id}" runs the same tests on another store; {id} is unique per
// data folder. PERDURE_STORE_SETUP is a command, with {id} in it too, that makes the place before the first start.
function words(text, id) {
    return text ? text.split(/\s+/).filter(Boolean).map((arg) => arg.replaceAll('{id}', id)) : [];
}

const madePlaces = new Set();
function storeArgs(id) {
    const [command, ...args] = words(process.env.PERDURE_STORE_SETUP, id);
    if (command && !madePlaces.has(id)) execFileSync(path.resolve(repoRoot, command), args);
    madePlaces.add(id);
    return words(process.env.PERDURE_STORE_ARGS, id);
}

export const otherStore = Boolean(process.env.PERDURE_STORE_ARGS);

// A test process that is ended from outside (a time-out of the runner, Ctrl-C) takes its servers with it.
const living = new Set();
function endAll() {
    for (const server of living) {
        server.child.kill('SIGKILL');
        server.removeData();
    }
}
process.on('exit', endAll);
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
    process.once(signal, () => process.exit(1));
}

export class Server {
    constructor(options) {
        this.options = options;
        this.dev = options.dev ?? true;
        this.ownsFolder = !options.dataDir;
        this.dataDir = options.dataDir ?? mkdtempSync(path.join(tmpdir(), 'perdure-test-'));
        this.port = options.port ?? 0;
        this.stderrText = '';
        this.child = null;
        this.exit = null;
    }

    get pid() { return this.child?.pid; }
    get url() { return `http://127.0.0.1:${this.port}`; }
    get token() { return this.dev ? 'dev' : readFileSync(path.join(this.dataDir, 'token'), 'utf8').trim(); }
    get alive() { return this.child !== null && this.exit === null; }

    args() {
        const args = ['serve'];
        if (this.dev) args.push('--dev');
        args.push('--listen', `127.0.0.1:${this.port}`, '--data', this.dataDir);
        if (this.options.config) {
            const file = path.join(this.dataDir, 'test-config.json');
            writeFileSync(file, JSON.stringify(this.options.config));
            args.push('--config', file);
        }
        args.push(...storeArgs(path.basename(this.dataDir).replace(/[^a-z0-9]/gi, '').toLowerCase()));
        args.push(...(this.options.args ?? []));
        return args;
    }

    // Resolves once the line "listening on http://HOST:PORT" was read; rejects when the child ends or the time is over.
    async start() {
        const began = performance.now();
        const child = spawn(perdureBin(), this.args(), {
            stdio: ['ignore', 'pipe', 'pipe'],
            env: { ...process.env, ...this.options.env },
        });
        this.child = child;
        this.exit = null;
        living.add(this);
        this.exited = new Promise((resolve) => {
            child.once('error', (error) => {
                this.exit = { code: null, signal: null, error };
                living.delete(this);
                resolve(this.exit);
            });
            child.once('exit', (code, signal) => {
                this.exit ??= { code, signal };
                living.delete(this);
                resolve(this.exit);
            });
        });
        child.stderr.setEncoding('utf8');
        child.stderr.on('data', (text) => {
            this.stderrText = (this.stderrText + text).slice(-KEEP_STDERR);
        });
        await new Promise((resolve, reject) => {
            let out = '';
            const timer = setTimeout(() => {
                child.kill('SIGKILL');
                reject(new Error(`server not ready in time; stdout: ${out}\n${this.stderrText}`));
            }, this.options.readyMs ?? 15000);
            child.stdout.setEncoding('utf8');
            child.stdout.on('data', (text) => {
                out += text;
                const match = /^listening on http:\/\/[^\s:]+:(\d+)$/m.exec(out);
                if (match) {
                    clearTimeout(timer);
                    this.port = Number(match[1]);
                    resolve();
                }
            });
            this.exited.then((exit) => {
                clearTimeout(timer);
                const why = exit.error ? exit.error.message : `code ${exit.code}, signal ${exit.signal}`;
                reject(new Error(`server ended before it was ready: ${why}\n${this.stderrText}`));
            });
        });
        this.readyMs = performance.now() - began;
        await loadDocument(this.url);
        return this;
    }

    // SIGTERM drains; a server that does not go within the time is killed and that is an error.
    async stop({ withinMs = 15000 } = {}) {
        if (!this.child || this.exit) return this.exit;
        this.child.kill('SIGTERM');
        let timer;
        const late = new Promise((resolve) => { timer = setTimeout(resolve, withinMs, 'late'); });
        const outcome = await Promise.race([this.exited, late]);
        clearTimeout(timer);
        if (outcome === 'late') {
            this.child.kill('SIGKILL');
            await this.exited;
            throw new Error(`server did not end ${withinMs} ms after SIGTERM\n${this.stderrText}`);
        }
        return this.exit;
    }

    // kill -9: no chance to say goodbye.
    async kill9() {
        if (this.child && !this.exit) {
            this.child.kill('SIGKILL');
            await this.exited;
        }
    }

    // Starts again on the same data folder and the same port, so that followers find it.
    async restart({ how = 'kill9' } = {}) {
        if (how === 'kill9') await this.kill9();
        else await this.stop();
        return this.start();
    }

    fdCount() { return readdirSync(`/proc/${this.pid}/fd`).length; }

    rssBytes() {
        const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'));
        return Number(match[1]) * 1024;
    }

    removeData() {
        if (this.ownsFolder) rmSync(this.dataDir, { recursive: true, force: true });
    }

    // What a sanitizer or an assertion left behind; a test run with such a line is a failed one.
    complaint() {
        const match = /^.*(ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|[Aa]ssertion.*failed).*$/m
            .exec(this.stderrText);
        return match ? match[0] : null;
    }
}

export async function startServer(options = {}) {
    const server = new Server(options);
    try {
        return await server.start();
    } catch (error) {
        await server.kill9();
        server.removeData();
        throw error;
    }
}

// Runs fn with a fresh server and always ends it; when fn fails the server's stderr is printed.
export async function withServer(options, fn) {
    const server = await startServer(options);
    try {
        const result = await fn(server);
        const complaint = server.complaint();
        if (complaint) throw new Error(`the server complained: ${complaint}`);
        return result;
    } catch (error) {
        process.stderr.write(`--- stderr of the server (last part) ---\n${server.stderrText.slice(-8000)}\n---\n`);
        throw error;
    } finally {
        if (server.alive) await server.stop().catch(() => server.kill9());
        server.removeData();
    }
}
