// SPDX-License-Identifier: Apache-2.0
// The published Durable Streams suite, unmodified, against the server at DS_URL (started by run.mjs). Its own command does
// not find its file when it is installed, so vitest is pointed at this one.
import { runConformanceTests } from '@durable-streams/server-conformance-tests';

const { DS_URL, DS_TOKEN, DS_SUBSCRIPTIONS } = process.env;
if (!DS_URL) throw new Error('DS_URL is not set');
if (DS_TOKEN) {
    const plain = globalThis.fetch;
    const auth = (headers) => { headers.set('authorization', `Bearer ${DS_TOKEN}`); return headers; };
    globalThis.fetch = (url, options = {}) => plain(url, { ...options, headers: auth(new Headers(options.headers)) });
}
runConformanceTests({ baseUrl: DS_URL.replace(/\/+$/, ''), subscriptions: DS_SUBSCRIPTIONS === '1' });
