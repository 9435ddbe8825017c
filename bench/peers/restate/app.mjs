// SPDX-License-Identifier: Apache-2.0
// app.mjs PORT - the smallest Restate services there are: `echo`, what a run of core.echo is compared with, and `flow`, whose steps
// are what the nodes of a workflow are compared with: {"n": …} of them one after the other (chain), or side by side (wide).
import * as restate from '@restatedev/restate-sdk';

// The SDK wants a newer runtime than some distributions have.
Promise.withResolvers ??= function () {
    let resolve, reject;
    const promise = new Promise((a, b) => { resolve = a; reject = b; });
    return { promise, resolve, reject };
};

const echo = restate.service({ name: 'echo', handlers: { run: async (ctx, input) => ({ echo: input }) } });
const flow = restate.service({
    name: 'flow',
    handlers: {
        chain: async (ctx, { n }) => {
            let value = {};
            for (let i = 0; i < n; i++) value = await ctx.run('step', () => ({ value: i }));
            return value;
        },
        wide: async (ctx, { n }) => {
            const all = await restate.RestatePromise.all(Array.from({ length: n }, (_, i) => ctx.run(`step ${i}`, () => ({ value: i }))));
            return all.length;
        },
    },
});
restate.serve({ services: [echo, flow], port: Number(process.argv[2]) });
