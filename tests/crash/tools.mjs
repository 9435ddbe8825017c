// SPDX-License-Identifier: Apache-2.0
// node tests/crash/tools.mjs [TIMES]: a real server, a real HTTP tool, and SIGKILL between every pair of steps of a tool call.
//
// The steps: the run is acknowledged; its intent is committed (TOOL_CALL_STARTED is seen); the request arrives at the tool; the
// tool has done its work; its answer is on the way; the receipt is committed (TOOL_CALL_FINISHED is seen). At each place the
// server is killed TIMES times (20) with a tool that must not be called twice, and TIMES times with one that may be.
//
// What must hold: a tool that is not repeat-safe is never called twice with the same key, and the outcome is asked for exactly
// when the intent was committed and the receipt was not; a receipt that was seen is never lost or made again; a repeat-safe
// tool is called again with the same key; and in the end every run has the result of its call.
import http from 'node:http';
import { pathToFileURL } from 'node:url';
import { API, Client, TERMINAL, sleep } from '../conformance/lib/client.mjs';
import { makeAgent } from '../conformance/lib/fixtures.mjs';
import { startServer } from '../conformance/lib/server.mjs';

const PLACES = ['acknowledged', 'intent', 'arrived', 'done', 'answered', 'receipt'];
const END_MS = 15000;

// Counts calls by key. `at(place, key)` is told where a call is; what it returns is waited for.
class Tool {
    async start() {
        this.calls = new Map();
        this.at = () => {};
        this.slow = 0;
        this.server = http.createServer((req, res) => this.serve(req, res).catch(() => res.destroy()));
        await new Promise((resolve) => { this.server.listen(0, '127.0.0.1', resolve); });
        this.url = `http://127.0.0.1:${this.server.address().port}/pay`;
    }

    async serve(req, res) {
        const key = req.headers['idempotency-key'];
        for await (const part of req) void part;
        this.calls.set(key, (this.calls.get(key) ?? 0) + 1);
        await this.at('arrived');
        await sleep(this.slow); // so that what is seen of the intent is seen before there is a receipt
        const body = JSON.stringify({ paid: key });
        await this.at('done');
        res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
        res.end(body);
        res.on('finish', () => this.at('answered'));
    }
}

const graph = (tool) => ({ format: 1, entry: 'a', nodes: [
    { node: 'a', capability_ref: 'tool.call', capability_version: '1', execution_binding: 'tool', config: { tool, arguments: { n: 1 } }, next: null }] });

class Story {
    constructor(server, tool, agent, safe, place) {
        Object.assign(this, { server, tool, agent, safe, place, api: new Client(server.url, server.token), killed: false, seen: [] });
    }

    // Only once per story, and before anything else happens.
    kill(place) {
        if (place !== this.place || this.killed) return undefined;
        this.killed = true;
        this.server.child.kill('SIGKILL');
        return sleep(5); // the answer of the tool finds nobody
    }

    async follow(run) {
        try {
            const res = await fetch(`${this.server.url}${API}/runs/${run.run_id}/events/stream?attemptId=${run.current_attempt_id}&afterSeq=0`,
                { headers: { Authorization: `Bearer ${this.api.token}` } });
            let rest = '';
            const decoder = new TextDecoder();
            for await (const part of res.body) {
                rest += decoder.decode(part, { stream: true });
                for (const match of rest.matchAll(/"type":"(TOOL_CALL_STARTED|TOOL_CALL_FINISHED|RUN_FINISHED)"/g)) {
                    if (!this.seen.includes(match[1])) this.seen.push(match[1]);
                }
                if (this.seen.includes('TOOL_CALL_STARTED')) this.kill('intent');
                if (this.seen.includes('TOOL_CALL_FINISHED')) this.kill('receipt');
                if (this.seen.includes('RUN_FINISHED')) return;
            }
        } catch {
            // the server was killed
        }
    }

    fail(what, more) {
        throw new Error(`killed at "${this.place}", ${this.safe ? 'repeat-safe' : 'not repeat-safe'}: ${what}\n${JSON.stringify(more, null, 1)}`);
    }

    async rest(run) {
        for (const began = Date.now(); Date.now() - began < END_MS; await sleep(5)) {
            const now = await this.api.run(run.run_id);
            if (TERMINAL.has(now.status) || now.status === 'waiting_for_human') return now;
        }
        return this.fail('the run does not come to rest', await this.events(run));
    }

    async events(run) {
        return (await this.api.events(run.run_id, run.current_attempt_id, { afterSeq: 0, limit: 1000 })).json.events;
    }

    async play() {
        this.tool.at = (place) => this.kill(place);
        this.tool.calls.clear();
        this.tool.slow = this.place === 'intent' ? 15 : 0;
        const res = await this.api.post('/runs', { agent_id: this.agent, input: null });
        if (res.status !== 201) this.fail('the run was not created', res.json);
        const run = res.json;
        this.kill('acknowledged');
        await this.follow(run);
        for (let i = 0; i < 400 && !this.killed; i++) await sleep(5);
        if (!this.killed) this.fail('the place was never reached', this.seen);
        await this.server.restart({ how: 'kill9' });
        let now = await this.rest(run);
        const events = await this.events(run);
        const types = events.map((e) => e.type);
        const recovered = types.indexOf('RUN_RECOVERED');
        const before = recovered < 0 ? types : types.slice(0, recovered);
        const intended = before.includes('TOOL_CALL_STARTED');
        const received = before.includes('TOOL_CALL_FINISHED');
        if (this.seen.includes('TOOL_CALL_FINISHED') && !received) this.fail('a receipt that was seen is lost', events);
        if (this.seen.includes('TOOL_CALL_STARTED') && !intended) this.fail('an intent that was seen is lost', events);
        const asked = now.status === 'waiting_for_human';
        const true_ = recovered >= 0 && intended && !received && !this.safe;
        if (asked !== true_) this.fail(asked ? 'asked although the outcome is known' : 'not asked although the outcome is unknown', events);
        if (asked) {
            const list = (await this.api.get(`/approvals?run_id=${run.run_id}&status=pending`)).json;
            const approval = (list.approvals ?? list.data ?? list.items)[0];
            const said = await this.api.post(`/approvals/${approval.approval_id}/approve`, { input: { result: { paid: 'by hand' } } });
            if (said.status !== 200) this.fail('the answer was not taken', said.json);
            for (let i = 0; i < 1000 && now.status !== 'completed'; i++, await sleep(5)) now = await this.api.run(run.run_id);
        }
        if (now.status !== 'completed' || now.output?.paid === undefined) this.fail('the run did not complete', now);
        if (types.filter((t) => t === 'TOOL_CALL_FINISHED').length > 1) this.fail('two receipts', events);
        const calls = [...this.tool.calls.entries()];
        if (calls.length > 1) this.fail('two keys for one call', calls);
        if (!this.safe && calls.some(([, n]) => n > 1)) this.fail('a tool was called twice that must not be', calls);
        if (received && calls.some(([, n]) => n > 1)) this.fail('a call was made again behind its receipt', calls);
        return { asked, sends: calls[0]?.[1] ?? 0 };
    }
}

async function main(times) {
    const tool = new Tool();
    await tool.start();
    const server = await startServer({ args: ['--max-streams', '0', '--heartbeat-ms', '1000'], config: {
        outbound: { allow: ['127.0.0.1'] },
        tools: { pay: { kind: 'http', url: tool.url, description: 'pays', input_schema: { type: 'object' } },
            look: { kind: 'http', url: tool.url, description: 'looks', input_schema: { type: 'object' }, repeat_safe: true } } } });
    try {
        const api = new Client(server.url, server.token);
        const agents = { pay: await makeAgent(api, graph('pay')), look: await makeAgent(api, graph('look')) };
        for (const place of PLACES) {
            for (const safe of [false, true]) {
                let asked = 0, again = 0;
                for (let n = 0; n < times; n++) {
                    const end = await new Story(server, tool, safe ? agents.look : agents.pay, safe, place).play();
                    asked += end.asked;
                    again += end.sends > 1;
                }
                process.stdout.write(`${place}, ${safe ? 'repeat-safe' : 'not repeat-safe'}: ${times} kills, ${asked} asked, ${again} sent again\n`);
            }
        }
        process.stdout.write(`${PLACES.length * 2 * times} kills: ok\n`);
    } catch (error) {
        process.stdout.write(`${error.stack}\n--- stderr of the server (last part) ---\n${server.stderrText.slice(-2000)}\n`);
        process.exitCode = 1;
    } finally {
        await server.kill9();
        server.removeData();
    }
    process.exit();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(Number(process.argv[2] ?? 20));
