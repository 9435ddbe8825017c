// SPDX-License-Identifier: Apache-2.0
// A suite is a describe block with one server for all of its cases, the fixture agents on it, and the server's stderr
// shown when a case fails. Cases of a suite run concurrently: each uses runs, threads and agents of its own.
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { startServer } from './server.mjs';
import { Client, RunsClient } from './client.mjs';
import { installFixtures } from './fixtures.mjs';

// options: those of Server, plus fixtures (which of EHFS), concurrency, timeout (per case).
export function suite(name, options, body) {
    const ctx = {};
    describe(name, { concurrency: options.concurrency ?? 6 }, () => {
        before(async () => {
            ctx.server = await startServer(options);
            ctx.base = ctx.server.url;
            ctx.api = new Client(ctx.base, ctx.server.token);
            ctx.anonymous = new Client(ctx.base, undefined);
            ctx.runs = new RunsClient(ctx.base, ctx.server.token);
            Object.assign(ctx, await installFixtures(ctx.api, options.fixtures ?? 'EHFS'));
        });
        after(async () => {
            if (!ctx.server) return;
            const died = !ctx.server.alive && ctx.server.exit;
            let exit = null;
            try {
                exit = await ctx.server.stop();
            } finally {
                ctx.server.removeData();
            }
            assert.ok(!died, `the server died during the suite: ${JSON.stringify(died)}\n${ctx.server.stderrText.slice(-4000)}`);
            assert.equal(ctx.server.complaint(), null);
            assert.equal(exit.code, 0, `exit code after SIGTERM (signal ${exit.signal})\n${ctx.server.stderrText.slice(-2000)}`);
        });
        const add = (title, caseOptions, fn) => {
            if (typeof caseOptions === 'function') [caseOptions, fn] = [{}, caseOptions];
            test(title, { timeout: options.timeout ?? 60000, ...caseOptions }, async (t) => {
                const mark = ctx.server.stderrText.length;
                try {
                    await fn({ ...ctx, t });
                } catch (error) {
                    const heard = ctx.server.stderrText.slice(mark).slice(-3000).trim();
                    if (heard) t.diagnostic(`server said: ${heard}`);
                    if (!ctx.server.alive) t.diagnostic(`the server is gone: ${JSON.stringify(ctx.server.exit)}`);
                    throw error;
                }
            });
        };
        body(add, ctx);
    });
}
