// SPDX-License-Identifier: Apache-2.0
// An MCP server made with the published SDK. node mcp-server.mjs stdio | http PORT | http-json PORT. Each message that it gets, and
// each HTTP request, is appended to the file $SEEN as a line of JSON.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import http from 'node:http';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const [mode, port] = process.argv.slice(2);
const note = (what) => { if (process.env.SEEN) appendFileSync(process.env.SEEN, `${JSON.stringify(what)}\n`); };
const tool = (name, properties = {}) => ({ name, description: `The tool ${name}.`, inputSchema: { type: 'object', properties } });

function makeServer() {
    const server = new Server({ name: 'own', version: '1' }, { capabilities: { tools: { listChanged: true } } });
    const pages = [[tool('whoami', { child: { type: 'boolean' } }), tool('sleep'), tool('fail'), tool('die')],
        [tool('large', { bytes: { type: 'integer' } }), tool('add-tool'), tool('page-2')]];
    server.setRequestHandler(ListToolsRequestSchema, async ({ params }) => {
        const page = Number(params?.cursor ?? 0);
        return { tools: pages[page], ...(page + 1 < pages.length ? { nextCursor: String(page + 1) } : {}) };
    });
    const text = (value) => ({ content: [{ type: 'text', text: value }] });
    server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
        switch (params.name) {
            case 'whoami': {
                const child = params.arguments.child ? spawn('sleep', ['600'], { stdio: 'ignore' }).pid : null;
                return { content: [], structuredContent: { pid: process.pid, child, env: process.env } };
            }
            case 'sleep': await new Promise((resolve) => setTimeout(resolve, 60000)); return text('slept');
            case 'fail': return { ...text('it failed on purpose'), isError: true };
            case 'die': process.exit(9); break;
            case 'large': return text('x'.repeat(params.arguments.bytes));
            case 'add-tool': pages[1].push(tool('extra')); await server.sendToolListChanged(); return text('added');
            default: return text(params.name);
        }
    });
    return server;
}

function watch(transport) {
    const take = transport.onmessage;
    transport.onmessage = (message, extra) => { note(message); take?.(message, extra); };
}

if (mode === 'stdio') {
    process.stderr.write('hello from standard error\n');
    const transport = new StdioServerTransport();
    await makeServer().connect(transport);
    watch(transport);
} else {
    const sessions = new Map();
    http.createServer(async (req, res) => {
        const session = req.headers['mcp-session-id'];
        note({ http: req.method, session, version: req.headers['mcp-protocol-version'], token: req.headers['x-token'] });
        let transport = sessions.get(session);
        if (session && !transport) {
            res.statusCode = 404;
            res.end();
            return;
        }
        if (!transport) {
            transport = new StreamableHTTPServerTransport({
                sessionIdGenerator: () => randomUUID(), enableJsonResponse: mode === 'http-json',
                onsessioninitialized: (id) => { sessions.set(id, transport); },
            });
            await makeServer().connect(transport);
            watch(transport);
        }
        await transport.handleRequest(req, res);
    }).listen(Number(port), '127.0.0.1');
}
