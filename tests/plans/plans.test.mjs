// SPDX-License-Identifier: Apache-2.0
// Compiled workflow plans, through the command: each validates against the published workflow.v1 schema, its hash is that of
// its canonical bytes, and YAML and JSON give the same one.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';
import { perdureBin } from '../conformance/lib/server.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'perdure-plans-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

// Two slips of the published schema are mended, and nothing else. It knows no from_input, though its own clients write it: a
// binding and a fan-out's items may have it in place of from. And it takes no integer as the value of a condition, because an
// integer is a number too and it allows one alternative only.
function schema() {
    const published = JSON.parse(readFileSync(path.join(here, 'workflow_v1.schema.json'), 'utf8'));
    const text = { minLength: 1, type: 'string' };
    const either = (object) => {
        object.properties.from_input = text;
        delete object.required;
        object.allOf = [{ oneOf: [{ required: ['from'] }, { required: ['from_input'] }] }];
    };
    either(published.definitions.llmResponsesBinding);
    const fanout = published.definitions.node.oneOf.find((kind) => kind.properties.type.const === 'map.fanout');
    either(fanout.allOf[0].properties.input.properties.items);
    const { value } = published.definitions.condition.properties;
    value.anyOf = value.oneOf;
    delete value.oneOf;
    return published;
}
const ajv = new Ajv({ strict: false, allErrors: true });
addFormats(ajv);
const validate = ajv.compile(schema());

function perdure(args, input = '') {
    return new Promise((resolve) => {
        const child = spawn(perdureBin(), args, { stdio: 'pipe' });
        const said = { out: '', err: '' };
        child.stdout.setEncoding('utf8').on('data', (text) => { said.out += text; });
        child.stderr.setEncoding('utf8').on('data', (text) => { said.err += text; });
        child.stdin.on('error', () => {}).end(input);
        child.once('close', (code) => resolve({ ...said, code }));
    });
}

// RFC 8785, for what plans hold.
function canonical(value) {
    if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
    if (value === null || typeof value !== 'object') return JSON.stringify(value);
    return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(',')}}`;
}

async function compiled(file, input) {
    const { code, out, err } = await perdure(['workflow', 'compile', '--json', file], input);
    assert.equal(code, 0, `${file}: ${out}${err}`);
    const answer = JSON.parse(out);
    assert.deepEqual(Object.keys(answer), ['plan_json', 'plan_hash']);
    assert.ok(validate(answer.plan_json), `${file}: ${JSON.stringify(validate.errors, null, 1)}\n${JSON.stringify(answer.plan_json, null, 1)}`);
    assert.equal(answer.plan_hash, createHash('sha256').update(canonical(answer.plan_json)).digest('hex'));
    return answer;
}

// Every type of node and every member, put together at random from a fixed seed; edges lead from earlier nodes to later ones.
function randomSpec(seed) {
    let state = seed * 2654435761 % 4294967296;
    const draw = (n) => { state = (state * 1664525 + 1013904223) % 4294967296; return Math.floor(state / 65536) % n; };
    const maybe = (object, name, make) => { if (draw(2)) object[name] = make(); };
    const nodes = [];
    const some = () => nodes[draw(nodes.length)].id;
    const source = () => ({ from: some(), ...(draw(2) ? { pointer: '' } : {}) });
    const llm = (node, text) => {
        node.type = 'llm';
        maybe(node, 'system', () => `system ${text}`);
        node.user = `user ${text} é "quoted"`;
        maybe(node, 'input', () => [{ type: 'message', role: 'assistant', content: [{ type: 'text', text: 'hm' }, { type: 'file', file: { data_base64: 'AA==', mime_type: 'text/plain' } }] }]);
        maybe(node, 'model', () => `m${draw(3)}`);
        maybe(node, 'stream', () => draw(2) === 1);
        maybe(node, 'tools', () => ['look', { type: 'function', function: { name: 'find', description: 'd', parameters: { type: 'object' } } }]);
        maybe(node, 'tool_execution', () => ({ mode: ['server', 'agentic'][draw(2)] }));
        maybe(node, 'retry', () => ({ max_attempts: 1 + draw(3), retryable_errors: ['timeout'], backoff_ms: draw(2000) }));
        maybe(node, 'output_format', () => ({ type: 'json_schema', json_schema: { name: 'n', schema: { type: 'object' } } }));
        maybe(node, 'max_output_tokens', () => draw(100));
        maybe(node, 'stop', () => ['x']);
        return node;
    };
    const count = 1 + draw(9);
    for (let i = 0; i < count; i++) {
        const node = { id: `n${i}` };
        const kind = nodes.length === 0 ? 0 : draw(6);
        if (nodes.length) maybe(node, 'depends_on', () => [some(), some()]);
        if (kind === 0) llm(node, `{{task}} {{input:other}}${nodes.length ? ` {{${some()}}}` : ''}`);
        if (kind === 1) { node.type = ['join.all', 'join.any', 'join.collect'][draw(3)]; node.depends_on = [some()]; }
        if (kind === 1 && node.type !== 'join.all') maybe(node, 'predicate', () => ({ source: 'node_output', op: 'equals', path: '$.a[0]', value: [1, 'a', null, true, 1.5][draw(5)] }));
        if (kind === 1 && node.type === 'join.collect') { maybe(node, 'limit', () => 1 + draw(3)); maybe(node, 'timeout_ms', () => 1 + draw(3)); }
        if (kind === 2) Object.assign(node, { type: 'transform.json', object: { a: source(), 'b c': source() } });
        if (kind === 3) Object.assign(node, { type: 'transform.json', merge: [source(), source()] });
        if (kind === 4) Object.assign(node, { type: 'map.fanout', items_from: some(), subnode: llm({ id: 'sub' }, '{{item}}') });
        if (kind === 5) Object.assign(node, { type: 'map.fanout', items_from_input: 'list', items_path: '/a~1b', max_parallelism: 1 + draw(5), subnode: { id: 'sub', type: 'transform.json', object: { x: { from: 'item', pointer: '/y' } } } });
        nodes.push(node);
    }
    const spec = { kind: 'workflow', nodes, outputs: [{ name: 'o', from: some() }, { name: 'p', from: some() }] };
    maybe(spec, 'name', () => 'näme');
    maybe(spec, 'model', () => 'm');
    maybe(spec, 'max_parallelism', () => 1 + draw(8));
    maybe(spec, 'inputs', () => [{ name: 'task', type: 'string', required: true }, { name: 'list', default: [1] }]);
    return spec;
}

describe('plans', () => {
    test('the manual has every code that the compiler knows, and no other', () => {
        const root = path.join(here, '..', '..');
        const folder = path.join(root, 'src', 'workflow');
        const known = new Set(readdirSync(folder).filter((name) => /^spec.*\.c$/.test(name))
            .flatMap((name) => [...readFileSync(path.join(folder, name), 'utf8').matchAll(/"([A-Z]+_?[A-Z_]+)"/g)].map((m) => m[1])));
        const manual = readFileSync(path.join(root, 'docs', 'reference', 'workflow-format.md'), 'utf8');
        const listed = new Set([...manual.slice(manual.indexOf('## Issues')).matchAll(/^\|(.*?)\|/gm)].flatMap((m) => [...m[1].matchAll(/`([A-Z_]+)`/g)].map((c) => c[1])));
        assert.deepEqual([...listed].sort(), [...known].sort());
    });

    for (const name of readdirSync(path.join(here, 'specs')))
        test(`${name} compiles to a plan of the published schema, and to itself again`, async () => {
            const file = path.join(here, 'specs', name);
            const first = await compiled(file);
            const again = path.join(folder, `${name}.json`);
            writeFileSync(again, JSON.stringify(first.plan_json));
            assert.equal((await compiled(again)).plan_hash, first.plan_hash);
            assert.equal((await perdure(['workflow', 'compile', '--hash', file])).out, `${first.plan_hash}\n`);
            assert.equal((await perdure(['workflow', 'compile', file])).out, `${canonical(first.plan_json)}\n`);
        });

    test('a hundred random specs do', async () => {
        for (let seed = 1; seed <= 100; seed++) {
            const spec = randomSpec(seed);
            const first = await compiled('-', JSON.stringify(spec));
            assert.equal((await compiled('-', JSON.stringify(first.plan_json))).plan_hash, first.plan_hash, `seed ${seed}`);
        }
    });

    test('YAML is the same as JSON', async () => {
        const yaml = `# a comment\nkind: workflow\nname: "yes"\nmodel: m\nmax_parallelism: 2\nnodes:\n- id: a\n  type: llm\n  user: >\n    folded\n    text\n  stream: true\n  stop: ['1', "tab\\t", plain text]\noutputs: [{name: o, from: a}]\n`;
        const json = { kind: 'workflow', name: 'yes', model: 'm', max_parallelism: 2, nodes: [{ id: 'a', type: 'llm', user: 'folded text\n', stream: true, stop: ['1', 'tab\t', 'plain text'] }], outputs: [{ name: 'o', from: 'a' }] };
        assert.deepEqual((await compiled('-', yaml)).plan_json, (await compiled('-', JSON.stringify(json))).plan_json);
    });

    test('YAML scalars are what they look like', async () => {
        const scalars = { 'null': null, '~': null, '': null, 'true': true, 'False': false, 'no': 'no', '12': 12, '-3': -3, '+4': 4, '007': 7, '1.50': 1.5, '.5': 0.5, '1e3': 1000, '0x10': '0x10', '1.2.3': '1.2.3', '2026-01-01': '2026-01-01', '"12"': '12', "'null'": 'null' };
        const inputs = Object.keys(scalars).map((text, i) => `- {name: i${i}, default: ${text}}`).join('\n');
        const { plan_json: plan } = await compiled('-', `kind: workflow\ninputs:\n${inputs}\nnodes: [{id: a, type: llm, user: x}]\noutputs: [{name: o, from: a}]\n`);
        assert.deepEqual(plan.inputs.map((input) => input.default), Object.values(scalars));
    });

    test('a file that is no YAML, or a bomb, is refused with its place', async () => {
        const bomb = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]', ...Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`)}]`)].join('\n');
        for (const [text, said] of [['a: [', /line 2, column 1/], [bomb, /larger than 16 MiB/], ['a: &x [*x]', /line 1/], ['a: .nan', /no such number/], ['--- 1\n--- 2', /more than one document/], ['<<: {a: 1}', /merge keys/], ['? [a]\n: b', /a key must be text/], ['', /nothing in it/], ['{"kind":', /./]]) {
            const { code, err, out } = await perdure(['workflow', 'compile', '-'], text);
            assert.equal(code, 2, text);
            assert.match(err, said);
            assert.equal(out, '');
        }
    });

    test('issues come all at once, sorted, in a table or as JSON, with exit code 2', async () => {
        const bad = JSON.stringify({ kind: 'workflow', nodes: [{ id: 'A', type: 'llm' }, { id: 'b', type: 'nope' }], outputs: [{ name: 'o', from: 'c' }] });
        const json = await perdure(['workflow', 'compile', '--json', '-'], bad);
        assert.equal(json.code, 2);
        const { issues } = JSON.parse(json.out);
        assert.deepEqual(issues.map(({ path: at, code }) => `${at} ${code}`), ['$.nodes[0] LLM_INPUT_REQUIRED', '$.nodes[0].id INVALID_NODE_ID', '$.nodes[1].type UNSUPPORTED_NODE_TYPE', '$.outputs[0].from UNKNOWN_NODE']);
        for (const issue of issues) assert.ok(issue.message.length > 0);
        for (const command of ['compile', 'graph']) {
            const { code, out, err } = await perdure(['workflow', command, '-'], bad);
            assert.equal(code, 2);
            assert.equal(out, '');
            assert.match(err, /4 issues\nPATH +CODE +MESSAGE\n\$\.nodes\[0\] +LLM_INPUT_REQUIRED/);
        }
        const lint = await perdure(['workflow', 'lint', '--json', '-'], bad);
        assert.equal(lint.code, 2);
        assert.deepEqual(JSON.parse(lint.out), { kind: 'workflow', lint_issues: [{ code: 'UNUSED_NODE', path: '$.nodes[1]', message: 'nothing depends on it and no output shows it' }], compile_issues: issues });
    });

    test('lint gives advice, which is an error only when asked', async () => {
        const file = path.join(here, 'specs', 'tool-loop.json');
        assert.equal((await perdure(['workflow', 'lint', '--strict', file])).code, 0);
        const text = JSON.stringify({ kind: 'workflow', nodes: [{ id: 'a', type: 'llm', user: '{{ x }}' }], outputs: [{ name: 'o', from: 'a' }] });
        const plain = await perdure(['workflow', 'lint', '-'], text);
        assert.equal(plain.code, 0);
        assert.match(plain.out, /PLACEHOLDER_LITERAL/);
        assert.equal((await perdure(['workflow', 'lint', '--strict', '-'], text)).code, 2);
    });

    test('graph draws for Mermaid and Graphviz', async () => {
        const file = path.join(here, 'specs', 'route.yml');
        const mermaid = (await perdure(['workflow', 'graph', file])).out;
        assert.match(mermaid, /^flowchart TD\n {2}n_router\{"router<br\/>route\.switch, scripted-1"\}\n/);
        assert.match(mermaid, /n_router -\.->\|"\$\.route = #34;left#34;"\| n_left\n/);
        const dot = (await perdure(['workflow', 'graph', '--format', 'dot', file])).out;
        assert.match(dot, /^digraph "route" \{[^]*n_router -> n_left \[style=dashed, label="\$\.route = \\"left\\""\];[^]*\}\n$/);
        assert.equal((await perdure(['workflow', 'graph', '--format', 'png', file])).code, 2);
    });
});
