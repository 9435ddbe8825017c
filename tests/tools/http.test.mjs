// SPDX-License-Identifier: Apache-2.0
// Tools that are HTTP requests: what is sent, how it is signed, what each answer becomes, and where http_fetch may not go.
import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { startDriver, until } from './driver.mjs';

let server, port, driver;
const heard = [];

const answers = {
    '/echo': (req, res, body) => { res.setHeader('content-type', 'application/json'); res.end(JSON.stringify({ got: JSON.parse(body) })); },
    '/text': (req, res) => { res.setHeader('content-type', 'text/plain; charset=utf-8'); res.end('grüß Gott\n'); },
    '/bad-utf8': (req, res) => { res.setHeader('content-type', 'text/plain'); res.end(Buffer.from([0x61, 0xff, 0x62])); },
    '/empty': (req, res) => { res.statusCode = 204; res.end(); },
    '/binary': (req, res) => { res.setHeader('content-type', 'image/png'); res.end('png'); },
    '/not-json': (req, res) => { res.setHeader('content-type', 'application/json'); res.end('{"a":'); },
    '/hang': () => {},
    '/reset': (req, res) => { res.socket.destroy(); },
    '/large': (req, res) => { res.setHeader('content-type', 'text/plain'); res.end('x'.repeat(5000)); },
    '/search': (req, res) => {
        res.setHeader('content-type', 'application/json');
        res.end(JSON.stringify({ results: [{ title: 'T', url: 'http://x/', snippet: 's', more: 1 }] }));
    },
    '/search-bad': (req, res) => { res.setHeader('content-type', 'application/json'); res.end('[{"title":" ","url":"u"}]'); },
    '/sandbox': (req, res, body) => {
        res.setHeader('content-type', 'application/json');
        res.end(JSON.stringify({ stdout: body, stderr: '', exitCode: 0, secret: 1 }));
    },
    '/page': (req, res) => { res.setHeader('content-type', 'text/html'); res.end('<p>page</p>'); },
    '/go': (req, res) => { res.statusCode = 302; res.setHeader('location', '/page'); res.end(); },
    '/loop': (req, res) => { res.statusCode = 302; res.setHeader('location', '/loop'); res.end(); },
    '/go-inside': (req, res) => { res.statusCode = 307; res.setHeader('location', 'http://169.254.169.254/latest/meta-data'); res.end(); },
    '/go-decimal': (req, res) => { res.statusCode = 301; res.setHeader('location', 'http://2130706434/'); res.end(); },
    '/go-file': (req, res) => { res.statusCode = 302; res.setHeader('location', 'file:///etc/passwd'); res.end(); },
    '/go-user': (req, res) => { res.statusCode = 302; res.setHeader('location', `http://a:b@127.0.0.1:${port}/page`); res.end(); },
};

const http_tool = (path, more = {}) => ({ kind: 'http', url: `http://127.0.0.1:${port}${path}`, ...more });

before(async () => {
    server = http.createServer((req, res) => {
        let body = '';
        req.on('data', (data) => { body += data; });
        req.on('end', () => {
            const url = new URL(req.url, 'http://x');
            heard.push({ method: req.method, path: url.pathname, query: url.search, headers: req.headers, body, open: true });
            const mine = heard.at(-1);
            res.on('close', () => { mine.open = false; });
            if (url.pathname.startsWith('/status/')) {
                res.statusCode = Number(url.pathname.slice(8));
                res.setHeader('content-type', 'application/json');
                res.end('{"error":{"message":"because"}}');
            } else answers[url.pathname](req, res, body);
        });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = server.address().port;
    const tools = {
        signed: http_tool('/echo', {
            description: 'Echoes.', version: '3', secret_env: 'TEST_SIGN_SECRET', api_key_env: 'TEST_API_KEY', headers: { 'X-More': 'yes' }, approval: 'always',
            input_schema: { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false },
        }),
        unset: http_tool('/echo', { secret_env: 'TEST_NOT_SET' }),
        safe: http_tool('/echo', { repeat_safe: true }),
        hang: http_tool('/hang', { timeout_ms: 300 }),
        slow: http_tool('/hang', { timeout_ms: 60000 }),
        large: http_tool('/large', { max_bytes: 1000 }),
        nobody: { kind: 'http', url: 'http://127.0.0.1:1/' },
        search: { kind: 'web_search', url: `http://127.0.0.1:${port}/search?lang=en&q=old&limit=3`, default_limit: 7 },
        search_bad: { kind: 'web_search', url: `http://127.0.0.1:${port}/search-bad` },
        search_down: { kind: 'web_search', url: `http://127.0.0.1:${port}/status/503` },
        code: { kind: 'code_exec', url: `http://127.0.0.1:${port}/sandbox`, languages: ['python', 'bash'], default_timeout_ms: 500, max_timeout_ms: 1000 },
        small_fetch: { kind: 'http_fetch', max_bytes: 100, max_redirects: 3 },
    };
    for (const name of ['text', 'empty', 'binary', 'not-json', 'reset']) tools[name] = http_tool(`/${name}`);
    for (const status of [400, 401, 404, 408, 413, 429, 500, 501, 503, 302]) tools[`s${status}`] = http_tool(`/status/${status}`);
    driver = startDriver({ tools, outbound: { allow: ['127.0.0.1'] } }, { TEST_SIGN_SECRET: 'sign-me-0123', TEST_API_KEY: 'key-0123456' });
});

after(async () => {
    const { code, log } = await driver.stop();
    server.closeAllConnections();
    server.close();
    assert.equal(code, 0, log);
});

describe('http', () => {
    test('the request carries arguments, context, key, and a signature over time and body', async () => {
        const said = await driver.call('signed', { n: 1 }, { key: 'key-1', context: { run: 'r' } });
        assert.deepEqual(said, { id: said.id, err: 'OK', result: { got: { tool: 'signed', version: '3', arguments: { n: 1 }, context: { run: 'r' } } }, sent: true });
        const { headers, body, method } = heard.at(-1);
        assert.equal(method, 'POST');
        assert.equal(headers['content-type'], 'application/json');
        assert.equal(headers['idempotency-key'], 'key-1');
        assert.equal(headers.authorization, 'Bearer key-0123456');
        assert.equal(headers['x-more'], 'yes');
        assert.ok(Math.abs(Number(headers['perdure-timestamp']) - Date.now() / 1000) < 5);
        const digest = createHmac('sha256', 'sign-me-0123').update(`${headers['perdure-timestamp']}.${body}`).digest('hex');
        assert.equal(headers['perdure-signature'], `v1=${digest}`);
    });

    test('arguments that do not fit the schema never leave', async () => {
        const before = heard.length;
        for (const bad of [{}, { n: 'x' }, { n: 1, m: 2 }]) {
            const { err, result, sent } = await driver.call('signed', bad);
            assert.equal(err, 'TOOL');
            assert.equal(result.code, 'invalid_arguments');
            assert.equal(result.retryable, false);
            assert.equal(sent, false);
        }
        assert.equal((await driver.call('signed', [1])).result.code, 'invalid_arguments');
        assert.equal(heard.length, before);
    });

    test('a secret that is missing', async () => {
        const { result, sent } = await driver.call('unset', {});
        assert.equal(result.code, 'not_configured');
        assert.match(result.message, /TEST_NOT_SET/);
        assert.equal(sent, false);
    });

    test('answers that are text or empty', async () => {
        assert.equal((await driver.call('text', {})).result, 'grüß Gott\n');
        assert.equal((await driver.call('empty', {})).result, null);
    });

    for (const [tool, code, retryable, sent] of [
        ['binary', 'invalid_response', false, true], ['not-json', 'invalid_response', false, true], ['hang', 'timeout', true, true],
        ['reset', 'unavailable', true, true], ['nobody', 'unavailable', true, false], ['large', 'too_large', false, true],
        ['s400', 'rejected', false, true], ['s401', 'permission_denied', false, true], ['s404', 'not_found', false, true],
        ['s408', 'timeout', true, true], ['s413', 'too_large', false, true], ['s429', 'rate_limited', true, true], ['s500', 'unavailable', true, true],
        ['s501', 'unavailable', false, true], ['s503', 'unavailable', true, true], ['s302', 'invalid_response', false, true],
    ])
        test(`failures: ${tool}`, async () => {
            const said = await driver.call(tool, {});
            assert.equal(said.err, 'TOOL');
            assert.deepEqual(Object.keys(said.result).sort(), ['category', 'code', 'message', 'retryable', 'source']);
            assert.equal(said.result.code, code, said.result.message);
            assert.equal(said.result.retryable, retryable);
            assert.equal(said.sent, sent);
            assert.equal(said.result.category, 'tool');
            if (tool.startsWith('s')) assert.match(said.result.message, /because/);
        });

    test('a cancelled call closes its socket', async () => {
        const call = driver.call('slow', {});
        const mine = await until(() => heard.findLast((h) => h.path === '/hang' && h.open));
        driver.cancel(call.id);
        await until(() => !mine.open);
    });

    test('unknown names', async () => {
        const said = await driver.call('nope', {});
        assert.equal(said.err, 'TOOL');
        assert.match(said.result, /nope/);
        assert.equal((await driver.list(['signed', 'nope'])).err, 'TOOL');
    });

    test('contracts', async () => {
        const { result } = await driver.list(['signed', 'http_fetch', 'search', 'code']);
        assert.deepEqual(result.tools[0], {
            name: 'signed', version: '3', description: 'Echoes.', repeat_safe: false, approval: true,
            input_schema: { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false },
        });
        assert.deepEqual(result.tools.map((t) => [t.name, t.repeat_safe, t.approval]),
            [['signed', false, true], ['http_fetch', true, false], ['search', true, false], ['code', false, false]]);
        assert.deepEqual(result.tools[3].input_schema.properties.language.enum, ['python', 'bash']);
        assert.deepEqual(await driver.safe('safe'), { safe: true, approval: false });
        assert.deepEqual(await driver.safe('signed'), { safe: false, approval: true });
        assert.deepEqual(await driver.safe('nope'), { safe: false, approval: false });
    });

    test('doctor', async () => {
        const checks = await driver.check();
        assert.equal(checks.find((c) => c.check === 'unset').err, 'UNAUTHENTICATED');
        assert.equal(checks.find((c) => c.check === 'signed').err, 'OK');
        assert.ok(!JSON.stringify(checks).includes('key-0123456'));
    });
});

describe('built-ins of teams', () => {
    test('search sets q and limit and keeps the rest', async () => {
        assert.deepEqual((await driver.call('search', { query: 'a b&c=ü' })).result, { results: [{ title: 'T', url: 'http://x/', snippet: 's' }] });
        assert.equal(heard.at(-1).query, '?lang=en&q=a+b%26c%3D%C3%BC&limit=7');
        await driver.call('search', { query: 'q', maxResults: 2 });
        assert.equal(heard.at(-1).query, '?lang=en&q=q&limit=2');
    });
    test('search errors in the words of the contract', async () => {
        assert.deepEqual((await driver.call('search', { query: ' ' })).result.message, 'webSearch.query must not be empty.');
        const bad = (await driver.call('search_bad', { query: 'q' })).result;
        assert.deepEqual([bad.code, bad.message, bad.retryable], ['backend-error', 'Web search result title must be a non-empty string.', false]);
        const down = (await driver.call('search_down', { query: 'q' })).result;
        assert.deepEqual([down.code, down.message, down.retryable], ['unavailable', 'Web search backend returned HTTP 503.', true]);
    });
    test('code goes to the sandbox with the default timeout', async () => {
        const { result } = await driver.call('code', { language: 'python', code: 'print(1)' });
        assert.deepEqual(result, { stdout: '{"language":"python","code":"print(1)","timeoutMs":500}', stderr: '', exitCode: 0 });
        assert.equal((await driver.call('code', { language: 'javascript', code: '' })).result.message, 'codeExec.language is not enabled for this adapter.');
        assert.equal((await driver.call('code', { language: 'bash', code: '', timeoutMs: 2000 })).result.message, 'codeExec.timeoutMs must be less than or equal to 1000.');
    });
});

describe('http_fetch', () => {
    const fetched = (path) => driver.call('http_fetch', { url: path.startsWith('/') ? `http://127.0.0.1:${port}${path}` : path });
    test('gives the text of a page, also behind a redirect', async () => {
        const page = { url: `http://127.0.0.1:${port}/page`, status: 200, content_type: 'text/html', text: '<p>page</p>', truncated: false };
        assert.deepEqual((await fetched('/page')).result, page);
        assert.deepEqual((await fetched('/go')).result, page);
        assert.equal((await fetched('/status/404')).result.status, 404);
        assert.equal((await fetched('/bad-utf8')).result.text, 'a\ufffdb');
    });
    test('cuts what is too large and refuses what is no text', async () => {
        const { result } = await driver.call('small_fetch', { url: `http://127.0.0.1:${port}/large` });
        assert.equal(result.text.length, 100);
        assert.equal(result.truncated, true);
        assert.equal((await fetched('/binary')).result.code, 'unsupported_content');
        assert.equal((await fetched('/status/500')).result.code, 'unavailable');
    });
    test('redirects are counted and each is checked again', async () => {
        assert.equal((await fetched('/loop')).result.code, 'too_many_redirects');
        for (const path of ['/go-inside', '/go-decimal']) {
            const said = await fetched(path);
            assert.equal(said.result.code, 'outbound_refused', path);
        }
        assert.equal((await fetched('/go-file')).result.code, 'invalid_url');
        assert.equal((await fetched('/go-user')).result.code, 'invalid_url');
    });
    test('what the configuration does not allow', async () => {
        for (const url of ['http://127.0.0.2/', 'http://[::1]/', 'http://0x7f000002/', 'http://10.0.0.1/', 'http://[::ffff:169.254.169.254]/']) {
            const said = await fetched(url);
            assert.equal(said.result.code, 'outbound_refused', url);
            assert.equal(said.sent, false);
            assert.match(said.result.message, /not (a )?public/);
        }
        assert.equal((await fetched('ftp://example.com/')).result.code, 'invalid_url');
    });
    test('the address of a configured tool is no permission for a fetch', async () => {
        const other = startDriver({ tools: { echo: http_tool('/echo') } });
        assert.equal((await other.call('echo', {})).err, 'OK'); /* a connection that could be reused */
        const said = await other.call('http_fetch', { url: `http://127.0.0.1:${port}/page` });
        assert.equal(said.result.code, 'outbound_refused');
        await other.stop();
    });
});

describe('configuration', () => {
    const refused = async (config, pattern) => {
        const { code, log } = await startDriver(config).ended;
        assert.equal(code, 1);
        assert.match(log, pattern);
    };
    test('mistakes are named', async () => {
        await refused({ tools: { a: { kind: 'http' } } }, /^\/tools\/a\/url: url: is required/);
        await refused({ tools: { a: { kind: 'nope' } } }, /^\/tools\/a\/kind: .*no kind/);
        await refused({ tools: { a: { kind: 'http', url: 'http://x/', color: 1 } } }, /^\/tools\/a\/color: /);
        await refused({ tools: { a: { kind: 'http', url: 'http://u:p@x/' } } }, /^\/tools\/a\/url: /);
        await refused({ tools: { a: { kind: 'http', url: 'http://x/', input_schema: { type: 'object', $ref: '#' } } } }, /^\/tools\/a\/input_schema: /);
        await refused({ tools: { a: { kind: 'http', url: 'http://x/', approval: 'maybe' } } }, /^\/tools\/a\/approval: /);
        await refused({ tools: { a: { kind: 'http_fetch', url: 'http://x/' } } }, /^\/tools\/a\/url: /);
        await refused({ tools: { 'a b': { kind: 'http_fetch' } } }, /^\/tools\/a b: /);
        await refused({ outbound: { allow: ['10.0.0.0/40'] } }, /^\/outbound\/allow: /);
        await refused({ outbound: { deny: [] } }, /^\/outbound\/deny: /);
        await refused({ mcp_servers: { a: {} } }, /^\/mcp_servers\/a: /);
        await refused({ mcp_servers: { a: { command: ['x'], url: 'http://x/' } } }, /^\/mcp_servers\/a: /);
        await refused({ mcp_servers: { 'a.b': { command: ['x'] } } }, /^\/mcp_servers\/a.b: /);
    });
});
