// SPDX-License-Identifier: Apache-2.0
// app.mjs PORT - the smallest Restate service there is: what a run of core.echo is compared with.
import * as restate from '@restatedev/restate-sdk';

// The SDK wants a newer runtime than some distributions have.
Promise.withResolvers ??= function () {
    let resolve, reject;
    const promise = new Promise((a, b) => { resolve = a; reject = b; });
    return { promise, resolve, reject };
};

const echo = restate.service({ name: 'echo', handlers: { run: async (ctx, input) => ({ echo: input }) } });
restate.serve({ services: [echo], port: Number(process.argv[2]) });
