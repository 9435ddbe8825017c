// SPDX-License-Identifier: Apache-2.0
// Scenarios of the teams contract as runs of a real server: definitions for the scripted provider, and traces without
// what may differ between two correct runs (contract 16).
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));

function read(folder) {
    const from = path.join(here, folder);
    return readdirSync(from).filter((f) => f.endsWith('.scenario.json')).sort().map((file) => ({
        scenario: JSON.parse(readFileSync(path.join(from, file), 'utf8')),
        expected: JSON.parse(readFileSync(path.join(from, file.replace('.scenario.', '.expected.')), 'utf8')),
    }));
}

// Those of the contract, and of the others what a run can be: no virtual clock, no errors that only JavaScript has.
export function scenarios() {
    const simple = ({ scenario, expected }) => expected.result && scenario.mode !== 'benchmark' && !['tools', 'cancel', 'retry', 'evaluation', 'trace'].some((k) => k in scenario)
        && !/"hang"|"timeoutMs"|"error"/.test(JSON.stringify(scenario));
    return [...read('data/scenarios'), ...read('more').filter(simple)];
}

const present = (object, names) => Object.fromEntries(names.filter((n) => object[n] !== undefined).map((n) => [n, object[n]]));

// What the scripted provider is to do so that it answers like the step; a stream of chunks is told as one text.
function script(step, pace) {
    const last = step.chunks ? step.chunks.reduce((all, chunk) => ({ ...all, ...chunk, text: (all.text ?? '') + (chunk.text ?? '') }), {}) : step;
    const made = { text: last.text ?? '', interval_ms: pace, delay_ms: pace, usage: null,
        answer: present(last, ['usage', 'costUsd', 'toolRequests', 'metadata', 'finishReason']) };
    if (step.error) return { error: { status: step.error.detail?.statusCode ?? 500, message: step.error.message }, delay_ms: pace };
    return made;
}

export function definition({ scenario }, { pace = 3 } = {}) {
    const { intent, ...options } = scenario.options;
    const steps = scenario.provider.steps.map((step) => script(step, pace));
    const model = { provider: 'scripted', id: scenario.provider.id, stream: Boolean(scenario.provider.streaming), script: steps,
        retry: { max_attempts: 1 } };
    return { intent, definition: { format: 1, team: { ...options, model, ...(scenario.tools ? { tools: scenario.tools.map(manifest) } : {}) } } };
}

function manifest(tool) {
    return { identity: tool.identity, inputSchema: tool.inputSchema ?? { kind: 'json-schema', schema: { type: 'object' } },
        ...(tool.permissions ? { permissions: tool.permissions } : {}) };
}

const FREE = new Set(['at', 'startedAt', 'completedAt', 'elapsedMs']);

// Without stamps; the run's id as RUN wherever it stands.
export function plain(value, runId) {
    if (typeof value === 'string') return runId ? value.replaceAll(runId, 'RUN') : value;
    if (Array.isArray(value)) return value.map((v) => plain(v, runId));
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).filter(([k]) => !FREE.has(k)).map(([k, v]) => [k, plain(v, runId)]));
}

// A trace without chunks (their boundaries are the provider's) and what counts them; a reason to finish that a real
// provider tells and the scenario's does not is no difference.
export function plainTrace(trace) {
    const copy = plain(trace, trace.runId);
    copy.events = copy.events.filter((e) => e.type !== 'model-output-chunk');
    for (const list of [copy.protocolDecisions, copy.budgetStateChanges]) for (const entry of list) delete entry.eventIndex;
    for (const call of copy.providerCalls) delete call.response.finishReason;
    return copy;
}

// A connection that was kept from before a kill may be dead, which is only seen when it is used: asked again, on a new one.
async function ask(url, options, tries = 5) {
    try {
        return await fetch(url, options);
    } catch (error) {
        if (tries <= 1) throw error;
        return ask(url, options, tries - 1);
    }
}

// All events of a followed run as lines; `each` may throw to leave.
export async function follow(base, token, runId, each) {
    const response = await ask(`${base}/v1/api/runs/${runId}/team-events`, { headers: { Authorization: `Bearer ${token}`, Accept: 'application/x-ndjson' } });
    if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
    let rest = '';
    const decoder = new TextDecoder();
    for await (const bytes of response.body) {
        rest += decoder.decode(bytes, { stream: true });
        const lines = rest.split('\n');
        rest = lines.pop();
        for (const line of lines) if (line !== '' && (await each(JSON.parse(line), line)) === false) return;
    }
}
