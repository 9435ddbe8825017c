// SPDX-License-Identifier: Apache-2.0
// perdure run with workflow files: the examples do what their README says, and the command's forms, answers and exit codes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fixtureDefinition } from '../conformance/lib/fixtures.mjs';
import { perdureBin, startServer } from '../conformance/lib/server.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const examples = path.join(root, 'examples/workflows');
const letter = path.join(root, 'examples/letter.txt');
const folder = mkdtempSync(path.join(tmpdir(), 'perdure-flow-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
let server;

function perdure(args, { local = false, input = '' } = {}) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PERDURE_')));
    if (!local) Object.assign(env, { PERDURE_URL: server.url, PERDURE_TOKEN: server.token });
    const child = spawn(perdureBin(), args, { cwd: folder, env, stdio: 'pipe' });
    const said = { out: '', err: '' };
    child.stdout.setEncoding('utf8').on('data', (text) => { said.out += text; });
    child.stderr.setEncoding('utf8').on('data', (text) => { said.err += text; });
    child.stdin.on('error', () => {}).end(input);
    const timer = setTimeout(() => child.kill('SIGKILL'), 50000);
    return new Promise((resolve) => {
        child.once('close', (code) => {
            clearTimeout(timer);
            resolve({ ...said, code });
        });
    });
}

async function run(args, code = 0, options = {}) {
    const result = await perdure(['run', ...args], options);
    assert.equal(result.code, code, `perdure run ${args.join(' ')}: code ${result.code}\n${result.out}\n${result.err}`);
    return result;
}

function file(name, value) {
    const at = path.join(folder, name);
    writeFileSync(at, typeof value === 'string' ? value : JSON.stringify(value));
    return at;
}

const example = (name) => path.join(examples, name);
const events = (out) => {
    assert.ok(out.endsWith('\n'));
    return out.trimEnd().split('\n').map((line) => JSON.parse(line));
};

const drafted = 'Thank you for your letter. We repair the other three gutters in October.';
const items = Array.from({ length: 9 }, (_, i) => `item ${i + 1}`);
const cases = {
    'document-pipeline.yaml': {
        args: ['--text', letter],
        check: (out) => assert.deepEqual(out.report, {
            first: 'The gutter on the north side is repaired, because it leaks into the wall.',
            last: 'The reserve pays; come to the courtyard on Thursday the 24th to talk about the other gutters.',
            tone: 'friendly',
            verdict: { complete: true, score: 9 },
        }),
    },
    'approval.yaml': {
        args: ['--text', letter, '--tool-results', file('yes.json', { user_ask: 'yes' })],
        check: (out) => assert.deepEqual(out, { decision: { send: { sent: drafted } } }),
    },
    'tool-loop.yaml': {
        args: ['--tool-results', example('meter.json')],
        check: (out) => assert.deepEqual(out, { answer: '9,214 kWh, which is about 1,100 euros.' }),
    },
    'fan-out.yaml': {
        args: ['--input', JSON.stringify({ items })],
        check: (out) => assert.deepEqual(out.results.map((one) => one.output[0].content[0].text), items),
    },
};

describe('perdure run with a workflow', { concurrency: 3 }, () => {
    before(async () => { server = await startServer({ dev: true }); });
    after(async () => {
        await server?.stop();
        server?.removeData();
    });

    test('every example has a case here', () => {
        assert.deepEqual(readdirSync(examples).filter((name) => name.endsWith('.yaml')).sort(), Object.keys(cases).sort());
    });

    for (const [name, { args, check }] of Object.entries(cases)) {
        test(`example ${name}: its outputs, and no complaint of lint`, async () => {
            const lint = await perdure(['workflow', 'lint', '--strict', example(name)]);
            assert.equal(lint.code, 0, lint.out);
            const result = await run([example(name), ...args, '--json']);
            assert.equal(result.err, '');
            check(JSON.parse(result.out));
        });

        test(`example ${name}: another model is one line`, async () => {
            const text = readFileSync(example(name), 'utf8').replace(/scripted\/demo/g, 'openai/gpt-5-mini');
            const plan = await perdure(['workflow', 'compile', file(`online-${name}`, text)]);
            assert.equal(plan.code, 0, plan.err);
            assert.doesNotMatch(plan.out, /scripted\/demo/);
        });
    }

    test('without a server it brings its own, and says what each node does', async () => {
        const result = await run([example('document-pipeline.yaml'), '--text', letter, '--data', path.join(folder, 'own')], 0, { local: true });
        cases['document-pipeline.yaml'].check(JSON.parse(result.out));
        assert.match(result.err, /^summaries: done {2}\d+ ms {2}3 items {2}\d+ tokens$/m);
        assert.match(result.err, /^completed {2}\d+(\.\d+)? m?s {2}\d+ tokens/m);
    });

    test('--ndjson prints the event lines of the run and nothing else', async () => {
        const result = await run([example('tool-loop.yaml'), '--tool-results', example('meter.json'), '--ndjson']);
        const lines = events(result.out);
        assert.deepEqual(lines.map((event) => event.seq), lines.map((_, i) => i + 1));
        assert.equal(lines[0].type, 'run_compiled');
        assert.equal(lines.at(-1).type, 'run_completed');
        assert.equal(lines.filter((event) => event.type === 'node_waiting').length, 2);
        const response = await fetch(`${server.url}/api/v1/runs/${lines[0].run_id}/events`, { headers: { Authorization: `Bearer ${server.token}` } });
        assert.equal(result.out, (await response.text()).replace(/^\n/gm, ''));
    });

    test('a person who is not there: status 4, the run waits and takes the answer later', async () => {
        for (const form of [[], ['--json'], ['--ndjson']]) {
            const result = await run([example('approval.yaml'), '--text', letter, ...form], 4);
            assert.match(result.err, /Send this answer\?/);
        }
    });

    test('the other answer goes the other way', async () => {
        const no = file('no.json', { user_ask: { answer: 'no', is_freeform: false } });
        const result = await run([example('approval.yaml'), '--text', letter, '--tool-results', no, '--json']);
        assert.deepEqual(JSON.parse(result.out), { decision: { drop: { dropped: drafted } } });
    });

    test('a client tool without a result is refused with what to do; a list that is too short, too', async () => {
        assert.match((await run([example('tool-loop.yaml')], 4)).err, /run the tool meter: \{"month":"2025-12"\}/);
        const short = file('short.json', { meter: ['40112'] });
        assert.match((await run([example('tool-loop.yaml'), '--tool-results', short], 4)).err, /\{"month":"2026-11"\}/);
    });

    test('a run that fails ends with 1, in each form', async () => {
        const spec = file('fails.json', {
            kind: 'workflow',
            model: 'scripted/demo',
            nodes: [{ id: 'bad', type: 'llm', user: 'x', script: { error: { code: 'nope', message: 'it cannot be' } } }],
            outputs: [{ name: 'o', from: 'bad' }],
        });
        const result = await run([spec], 1);
        assert.match(result.err, /^bad: failed.*it cannot be/m);
        await run([spec, '--json'], 1);
        assert.equal(events((await run([spec, '--ndjson'], 1)).out).at(-1).type, 'run_failed');
    });

    test('what is wrong with the file or its inputs is listed before anything starts', async () => {
        const bad = file('bad.yaml', 'kind: workflow\nnodes:\n  - {id: a, type: llm}\noutputs:\n  - {name: o, from: b}\n');
        const result = await run([bad], 2, { local: true });
        assert.match(result.err, /\$\.nodes\[0\]: .*\(LLM_INPUT_REQUIRED\)/);
        assert.match(result.err, /\$\.outputs\[0\]\.from: .*\(UNKNOWN_NODE\)/);
        assert.match((await run([example('fan-out.yaml')], 2, { local: true })).err, /\$\.input\.items: .*\(INPUT_REQUIRED\)/);
        assert.match((await run([example('fan-out.yaml'), '--thread', 'x'], 2, { local: true })).err, /no thread/);
        assert.match((await run([example('fan-out.yaml'), '--tool-results', bad], 2, { local: true })).err, /INPUT_REQUIRED|results by tool/);
        const unknown = file('unknown.json', { kind: 'workflow', nodes: [{ id: 'a', type: 'llm', user: 'x' }], outputs: [{ name: 'o', from: 'a' }] });
        assert.match((await run([unknown], 5)).err, /MODEL_REQUIRED|neither the node nor the workflow nor the run names a model/);
    });

    test('--timeout stops the watching, not the run', async () => {
        const many = JSON.stringify({ items: Array.from({ length: 40 }, (_, i) => `${i}`) });
        for (const form of [[], ['--ndjson']])
            await run([example('fan-out.yaml'), '--input', many, '--timeout', '1', ...form], 7);
    });

    test('a definition alone is applied under the name of its file; YAML will do', async () => {
        const result = await run([file('plain.json', fixtureDefinition('echo')), '--input', '3']);
        assert.match(result.err, /agent plain: created/);
        assert.equal(result.out, '{"echo":3}\n');
        const yaml = file('letters.yaml', `name: letters\ndefinition: ${JSON.stringify(fixtureDefinition('echo'))}\n`);
        assert.match((await run([yaml, '--input', '4'])).err, /agent letters: created/);
        assert.match((await run([yaml, '--input', '4', '--tool-results', example('meter.json')], 2)).err, /for workflows/);
    });
});
