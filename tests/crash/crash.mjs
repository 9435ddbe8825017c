// SPDX-License-Identifier: Apache-2.0
// node tests/crash/crash.mjs N [SEED]: kills the server N times with SIGKILL at random moments, under load, and checks
// after each restart that nothing acknowledged was lost and nothing came twice.
//
// Load: 50 workers, each with one run at a time (SLOW, ECHO, HUMAN that is resumed, idempotent creates) and a follower
// on it. Everything the server said is kept: the answer of each create and the bytes of each event. What must hold after
// a restart: each acknowledged create is there, each event that was seen is there with the same bytes, seqs are 1..n
// without a gap, an idempotent repeat answers the same run, and in the end every run comes to its end.
import { pathToFileURL } from 'node:url';
import { API, Client, TERMINAL, sleep } from '../conformance/lib/client.mjs';
import { isTerminalEvent } from '../conformance/lib/expect.mjs';
import { installFixtures } from '../conformance/lib/fixtures.mjs';
import { randomFrom } from '../conformance/lib/proxy.mjs';
import { startServer } from '../conformance/lib/server.mjs';

const WORKERS = 50;
const UP_MS = [60, 350]; // how long a server lives, at random
const PAUSE_MS = 400;    // a worker rests this long at most between two runs
const END_MS = 60000;    // how long the last server has to bring every run to its end

export class Difference extends Error {}

function differ(what, run, more) {
    throw new Difference(`${what}\n  run ${run.id} (${run.kind}), attempt ${run.attempt}\n${Object.entries(more ?? {})
        .map(([k, v]) => `  ${k}: ${typeof v === 'string' ? v : JSON.stringify(v)}`).join('\n')}`);
}

// Splits the events array of a polling answer into the bytes of each event.
function eventTexts(text) {
    const out = [];
    let depth = 0;
    let from = -1;
    let quoted = false;
    for (let i = text.indexOf('[') + 1; i < text.length; i++) {
        const c = text[i];
        if (quoted) {
            if (c === '\\') i++;
            else if (c === '"') quoted = false;
        } else if (c === '"') quoted = true;
        else if (c === '{') { if (depth++ === 0) from = i; }
        else if (c === '}') { if (--depth === 0) out.push(text.slice(from, i + 1)); }
        else if (c === ']' && depth === 0) break;
    }
    return out;
}

export class Crash {
    constructor(server, agents, random) {
        this.server = server;
        this.agents = agents;
        this.random = random;
        this.api = new Client(server.url, server.token);
        this.runs = [];
        this.working = true;
        this.up = true;
        this.failure = null;
        this.reused = 0;
        this.keys = 0;
    }

    // A request that is repeated while the server is down; answers null when work is over or when repeating is not asked for.
    async call(method, path, body, { repeat = true } = {}) {
        for (;;) {
            try {
                const res = await this.api.req(method, path, { body, signal: AbortSignal.timeout(5000) });
                if (res.status < 500) return res;
            } catch {
                // No answer: the server was killed, or is not up yet.
            }
            if (!repeat || this.failure) return null;
            await sleep(10);
        }
    }

    pick() {
        const at = this.random();
        if (at < 0.35) return { kind: 'SLOW', agent: this.agents.S, input: { ticks: 5 + Math.floor(this.random() * 25), interval_ms: Math.floor(this.random() * 20) } };
        if (at < 0.65) return { kind: 'ECHO', agent: this.agents.E, input: { n: this.random() } };
        return { kind: 'HUMAN', agent: this.agents.H, input: null };
    }

    // Half of the creates carry a key and are repeated until they are answered; the others are sent once.
    async create() {
        const { kind, agent, input } = this.pick();
        const key = this.random() < 0.5 ? `crash-${++this.keys}` : undefined;
        const body = { agent_id: agent, input, idempotency_key: key };
        const res = await this.call('POST', '/runs', body, { repeat: key !== undefined });
        if (!res) return null;
        if (res.status !== 201 && !(res.status === 200 && key)) throw new Difference(`create answered ${res.status}: ${res.text}`);
        const run = { id: res.json.run_id, attempt: res.json.current_attempt_id, status: res.json.status, kind, key, body, input, seen: [], over: false };
        if (key && this.runs.some((r) => r.id === run.id)) differ('two keys name one run', run);
        this.runs.push(run);
        return run;
    }

    record(run, seq, text) {
        if (seq <= run.seen.length) {
            if (run.seen[seq - 1] !== text) differ(`event ${seq} changed`, run, { before: run.seen[seq - 1], after: text });
            return;
        }
        if (seq !== run.seen.length + 1) differ(`event ${seq} came after event ${run.seen.length}`, run, { event: text });
        const last = run.seen.length ? JSON.parse(run.seen[run.seen.length - 1]) : null;
        if (last && isTerminalEvent(last)) differ(`event ${seq} came after the terminal event`, run, { event: text });
        run.seen.push(text);
    }

    // Follows like the published client, but keeps the bytes. Ends at the terminal event, which may be one of an attempt
    // that another one replaces (worker_lost): then goes on with that.
    async follow(run) {
        while (!this.failure && !run.over) {
            const aborter = new AbortController();
            const timer = setTimeout(() => aborter.abort(), 20000);
            try {
                const next = run.seen.length;
                const res = await fetch(`${this.server.url}${API}/runs/${run.id}/events/stream?attemptId=${run.attempt}&afterSeq=${next ? next + 1 : 0}`, {
                    headers: { Authorization: `Bearer ${this.api.token}`, ...(next ? { 'Last-Event-ID': String(next) } : {}) }, signal: aborter.signal });
                if (res.status === 404) differ('an acknowledged run is gone', run, { answer: await res.text() });
                if (res.ok) await this.readStream(run, res);
            } catch (error) {
                if (error instanceof Difference) throw error;
            } finally {
                clearTimeout(timer);
            }
            if (!run.over) await sleep(15);
        }
    }

    async readStream(run, res) {
        const decoder = new TextDecoder();
        let rest = '';
        for await (const part of res.body) {
            rest += decoder.decode(part, { stream: true });
            for (let at; (at = rest.indexOf('\n\n')) >= 0;) {
                const block = rest.slice(0, at);
                rest = rest.slice(at + 2);
                if (!block.includes('event: run_event\n')) continue;
                const text = block.slice(block.indexOf('data: ') + 6);
                const event = JSON.parse(text);
                if (block.match(/^id: (\d+)$/m)?.[1] !== String(event.seq)) differ('id and seq differ', run, { block });
                this.record(run, event.seq, text);
                if (event.type === 'HUMAN_PROMPT') run.prompted = true;
                if (event.type === 'RUN_FAILED' && event.payload.final === false) {
                    run.attempt = event.payload.next_attempt_id;
                    run.seen = [];
                    return;
                }
                if (isTerminalEvent(event)) {
                    run.over = true;
                    return;
                }
            }
        }
    }

    async resume(run) {
        while (!run.over && !this.failure) {
            if (!run.prompted) { await sleep(10); continue; }
            const res = await this.call('POST', `/runs/${run.id}/resume`, { input: run.id }, { repeat: false });
            // 409: not at rest yet, or an earlier resume without an answer had been committed; the follower tells.
            if (res && res.status === 200) {
                run.acknowledged = res.json.latest_seq; // RUN_RESUMED is an acknowledged event
                return;
            }
            if (res && res.status !== 409) differ(`resume answered ${res.status}`, run, { answer: res.text });
            await sleep(20);
        }
    }

    async worker() {
        while (this.working && !this.failure) {
            const run = await this.create();
            if (!run) { await sleep(10); continue; }
            await Promise.all([this.follow(run), run.kind === 'HUMAN' ? this.resume(run) : null]);
            await sleep(this.random() * PAUSE_MS); // so that the amount to verify does not grow with the server's speed
        }
    }

    guard(promise) {
        return promise.catch((error) => { this.failure ??= error; });
    }

    // Everything acknowledged so far, against the server as it is now. `runs`: a snapshot taken before the kill.
    async verify(runs) {
        const check = async (run) => {
            const seen = run.seen.slice();
            const { attempt, acknowledged = 0 } = run;
            const res = await this.api.get(`/runs/${run.id}`);
            if (res.status !== 200) differ(`an acknowledged run is gone (${res.status})`, run, { answer: res.text });
            const texts = [];
            for (let cursor = 0; ;) {
                const page = await this.api.events(run.id, attempt, { afterSeq: cursor, limit: 1000 });
                if (page.status !== 200) differ(`events answered ${page.status}`, run, { answer: page.text });
                texts.push(...eventTexts(page.text));
                cursor = page.json.next_after_seq;
                if (!page.json.has_more) break;
            }
            texts.forEach((text, i) => {
                const { seq } = JSON.parse(text);
                if (seq !== i + 1) differ(`seq ${seq} at place ${i + 1}`, run, { event: text });
            });
            if (texts.length < seen.length) differ(`${seen.length} events were seen, ${texts.length} are left`, run, { lost: seen[texts.length] });
            if (texts.length < acknowledged) differ(`event ${acknowledged} was acknowledged by resume, ${texts.length} are left`, run);
            seen.forEach((text, i) => { if (text !== texts[i]) differ(`event ${i + 1} changed`, run, { before: text, after: texts[i] }); });
            if (run.key && this.random() < 0.3) {
                const again = await this.api.post('/runs', run.body);
                if (again.status !== 200 || again.json.run_id !== run.id || again.json.reused !== true || again.json.status !== run.status) {
                    differ('an idempotent repeat is not the first answer', run, { answer: again.text, first: run.status });
                }
                this.reused++;
            }
            return texts.length;
        };
        let events = 0;
        for (let at = 0; at < runs.length; at += 64) {
            for (const n of await Promise.all(runs.slice(at, at + 64).map(check))) events += n;
        }
        return events;
    }

    async finish() {
        this.working = false;
        const deadline = Date.now() + END_MS;
        for (const run of this.runs) {
            for (;;) {
                if (this.failure) throw this.failure;
                if (run.over) break;
                if (Date.now() > deadline) differ(`not at its end ${END_MS} ms after the last start`, run, { status: (await this.api.run(run.id)).status, seen: run.seen.length });
                await sleep(20);
            }
            const now = await this.api.run(run.id);
            const want = { SLOW: { ticks: run.input?.ticks }, ECHO: { echo: run.input }, HUMAN: { answer: run.id } }[run.kind];
            if (!TERMINAL.has(now.status) || JSON.stringify(now.output) !== JSON.stringify(want)) {
                differ('ended otherwise than it should', run, { status: now.status, output: now.output ?? null, wanted: want, error: now.error ?? null });
            }
            if (run.kind === 'SLOW' && now.current_attempt_no === 1) {
                const deltas = run.seen.map((t) => JSON.parse(t)).filter((e) => e.type === 'MODEL_DELTA').map((e) => e.payload.index);
                if (deltas.length !== run.input.ticks || deltas.some((d, i) => d !== i)) differ('deltas are not 0..ticks-1', run, { deltas });
            }
        }
    }
}

async function main(kills, seed) {
    const random = randomFrom(seed);
    const server = await startServer({ args: ['--max-streams', '0', '--heartbeat-ms', '1000', ...(process.env.PERDURE_CRASH_ARGS ?? '').split(' ').filter(Boolean)] });
    let crash;
    const began = Date.now();
    try {
        crash = new Crash(server, await installFixtures(new Client(server.url, server.token), 'EHS'), random);
        const workers = Array.from({ length: WORKERS }, () => crash.guard(crash.worker()));
        let checkedUpTo = 0;
        for (let n = 1; n <= kills; n++) {
            await sleep(UP_MS[0] + random() * (UP_MS[1] - UP_MS[0]));
            const snapshot = crash.runs.slice();
            await server.restart({ how: 'kill9' });
            // Runs that were over at an earlier check do not change any more: sample those, check all others.
            const old = snapshot.slice(0, checkedUpTo).filter((r) => !r.over || random() < 0.02);
            await crash.verify([...old, ...snapshot.slice(checkedUpTo)]);
            checkedUpTo = snapshot.length;
            if (crash.failure) throw crash.failure;
            if (n % 10 === 0) {
                process.stdout.write(`${n} kills, ${crash.runs.length} runs, ${crash.runs.filter((r) => r.over).length} over, `
                    + `${crash.runs.reduce((sum, r) => sum + r.seen.length, 0)} events, ${crash.reused} repeats, last start ${Math.round(server.readyMs)} ms, ${Date.now() - began} ms\n`);
            }
        }
        await crash.finish();
        await Promise.all(workers);
        if (crash.failure) throw crash.failure;
        const events = await crash.verify(crash.runs);
        process.stdout.write(`${kills} kills, ${crash.runs.length} runs, ${events} events: ok\n`);
    } catch (error) {
        if (crash) crash.failure ??= error;
        process.stdout.write(`seed ${seed}: ${error instanceof Difference ? `DIFFERENCE: ${error.message}` : error.stack}\n`);
        process.stdout.write(`--- stderr of the server (last part) ---\n${server.stderrText.slice(-3000)}\n`);
        process.exitCode = 1;
    } finally {
        await server.kill9();
        if (process.exitCode && process.env.KEEP_DATA) process.stdout.write(`data kept in ${server.dataDir}\n`);
        else server.removeData();
    }
    process.exit();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    const kills = Number(process.argv[2] ?? 100);
    const seed = Number(process.argv[3] ?? Date.now() % 1000000);
    if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) {
        process.stderr.write('usage: node tests/crash/crash.mjs KILLS [SEED]\n');
        process.exit(2);
    }
    await main(kills, seed);
}
