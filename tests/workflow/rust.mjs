// SPDX-License-Identifier: Apache-2.0
// node rust.mjs PROGRAM: a server, and the journeys of the published Rust client (rust/src/main.rs, built as PROGRAM) against it.
import { spawn } from 'node:child_process';
import { withServer } from '../conformance/lib/server.mjs';
import { Flow, KEY, asking, spec } from './lib.mjs';

const program = process.argv[2];
const code = await withServer({}, async (server) => {
    const flow = new Flow(server);
    const plan = await flow.ok(flow.post('/workflows/compile', spec([asking('read', [{ name: 'fs_read_file', arguments: { path: 'log.txt' } }])])), 200);
    const child = spawn(program, { stdio: 'inherit', env: { ...process.env, MODELRELAY_TEST_URL: `${server.url}/api/v1`, MODELRELAY_TEST_SECRET_KEY: KEY, PLAN_TOOLS: plan.plan_hash } });
    return new Promise((resolve) => { child.on('exit', (status) => resolve(status ?? 1)); child.on('error', () => resolve(1)); });
});
process.exit(code);
