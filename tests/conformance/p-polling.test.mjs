// SPDX-License-Identifier: Apache-2.0
// Group P: events by polling (contract 3.5, 5.1, 5.2, 10.6).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { sleep } from './lib/client.mjs';
import { UNKNOWN_ID, checkEvent, checkLedger, invalid, problem } from './lib/expect.mjs';
import { fixtureDefinition, graph, makeAgent, node } from './lib/fixtures.mjs';

const page = (api, run, query) => api.ok(api.events(run.run_id, run.current_attempt_id, query), 200);

suite('P polling', {}, (test) => {
    test('P1 the ledger of a finished run', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E, input: { a: 1 } });
        const res = await api.events(run.run_id, run.current_attempt_id, { afterSeq: 0 });
        assert.equal(res.status, 200);
        assert.match(res.headers.get('cache-control') ?? '', /no-store/);
        const { events, ...rest } = res.json;
        const n = events.length;
        assert.deepEqual(rest, { latest_seq: n, next_after_seq: n, has_more: false, attempt_closed: true });
        checkLedger(events, { attemptId: run.current_attempt_id });
        assert.equal(events[0].type, 'RUN_STARTED');
        assert.equal(events[n - 1].type, 'RUN_FINISHED');
        assert.deepEqual(events[n - 1].payload.output, { echo: { a: 1 } });
        assert.deepEqual([events[0].payload.agent_id, events[0].payload.bundle_id, events[0].payload.attempt_no], [E, run.bundle_id, 1]);
        assert.ok(!('from_checkpoint_id' in events[0].payload) && !('replay_mode' in events[0].payload));
        for (const type of ['NODE_STARTED', 'NODE_FINISHED', 'CHECKPOINT_CREATED']) assert.ok(events.some((e) => e.type === type), type);
        assert.deepEqual((await page(api, run)), res.json, 'afterSeq defaults to 0');
    });

    test('P2 small pages concatenate to the whole', async ({ api, S }) => {
        const run = await api.createAndFinish({ agent_id: S, input: { ticks: 11, interval_ms: 1 } });
        const whole = await api.ledger(run.run_id);
        for (const limit of [1, 2, 3, 7]) assert.deepEqual(await api.ledger(run.run_id, undefined, limit), whole, `limit ${limit}`);
        for (let after = 0; after < whole.length; after++) {
            const one = await page(api, run, { afterSeq: after, limit: 1 });
            assert.deepEqual(one.events, [whole[after]]);
            assert.deepEqual([one.latest_seq, one.next_after_seq, one.has_more], [whole.length, after + 1, after + 1 < whole.length]);
        }
    });

    test('P3 a cursor at and beyond the end is echoed', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        const n = run.latest_seq;
        for (const afterSeq of [n, n + 1, n + 1000, 9007199254740991]) {
            assert.deepEqual(await page(api, run, { afterSeq }),
                { events: [], latest_seq: n, next_after_seq: afterSeq, has_more: false, attempt_closed: true });
        }
    });

    test('P4 attemptId is required', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        invalid(await api.get(`/runs/${run.run_id}/events`), 'attemptId', 'invalid_parameter');
        invalid(await api.get(`/runs/${run.run_id}/events`, { attemptId: '' }), 'attemptId', 'invalid_parameter');
        invalid(await api.get(`/runs/${run.run_id}/events`, { attempt_id: run.current_attempt_id }), 'attemptId', 'invalid_parameter');
    });

    test('P5 foreign and unknown attempts', async ({ api, E }) => {
        const [a, b] = [await api.createAndFinish({ agent_id: E }), await api.createAndFinish({ agent_id: E })];
        problem(await api.events(a.run_id, b.current_attempt_id), 'attempt_not_found');
        problem(await api.events(a.run_id, UNKNOWN_ID), 'attempt_not_found');
        problem(await api.events(a.run_id, 'nope'), 'attempt_not_found');
        problem(await api.events(UNKNOWN_ID, a.current_attempt_id), 'run_not_found');
    });

    test('P6 bad cursors', async ({ api, E }) => {
        const run = await api.createAndFinish({ agent_id: E });
        for (const afterSeq of ['-1', 'x', '1.5', '1e3', '0x1', ' 1', '+1', '99999999999999999999999']) {
            problem(await api.events(run.run_id, run.current_attempt_id, { afterSeq }), 'invalid_cursor');
        }
    });

    test('P7 limits', async ({ api, S }) => {
        const run = await api.createAndFinish({ agent_id: S, input: { ticks: 1100, interval_ms: 0 } }, 30000);
        for (const limit of ['0', '-1', 'x', '1.5']) {
            invalid(await api.events(run.run_id, run.current_attempt_id, { limit }), 'limit', 'invalid_parameter');
        }
        const big = await page(api, run, { limit: 5000 });
        assert.equal(big.events.length, 1000);
        assert.equal(big.has_more, true);
        assert.equal((await page(api, run)).events.length, 100);
    });

    test('P8 the empty ledger of a pending run', async ({ api, H, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const head = await api.create({ agent_id: H, thread: { thread_id } });
        const behind = await api.create({ agent_id: E, thread: { thread_id } });
        assert.deepEqual(await page(api, behind), { events: [], latest_seq: 0, next_after_seq: 0, has_more: false, attempt_closed: false });
        assert.equal((await api.run(behind.run_id)).latest_seq, 0);
        assert.equal((await page(api, behind, { afterSeq: 5 })).next_after_seq, 5);
        await api.waiting(head.run_id);
        await api.cancel(behind.run_id);
        await api.cancel(head.run_id);
    });

    test('P9 polling while it runs: no gap, no repeat, never null', async ({ api, S, runs }) => {
        const run = await api.create({ agent_id: S, input: { ticks: 60, interval_ms: 10 } });
        const events = [];
        for (let cursor = 0, closed = false; !closed;) {
            const { data } = await runs.getEvents(run.run_id, { attemptId: run.current_attempt_id, afterSeq: cursor, limit: 3 });
            assert.notEqual(data.next_after_seq, null);
            assert.ok(data.latest_seq >= cursor);
            assert.equal(data.has_more, data.next_after_seq < data.latest_seq);
            data.events.forEach((e, i) => assert.equal(e.seq, cursor + i + 1));
            events.push(...data.events);
            cursor = data.next_after_seq;
            closed = data.attempt_closed && !data.has_more;
        }
        checkLedger(events);
        assert.equal(events.filter((e) => e.type === 'MODEL_DELTA').length, 60);
        assert.deepEqual((await api.until(run.run_id)).output, { ticks: 60 });
    });

    test('P10 every event of every fixture is complete', async ({ api, E, H, F, S }) => {
        for (const [agent, input] of [[E, 1], [F, 1], [S, { ticks: 3, interval_ms: 1 }], [H, 1]]) {
            const run = await api.create({ agent_id: agent, input });
            if (agent === H) {
                await api.waiting(run.run_id);
                await api.ok(api.resume(run.run_id, { input: 1 }), 200);
            }
            await api.until(run.run_id);
            const events = await api.ledger(run.run_id);
            for (const event of events) checkEvent(event);
            checkLedger(events, { attemptId: run.current_attempt_id });
        }
    });

    test('L3 redelivery is byte-identical', async ({ api, S }) => {
        const run = await api.create({ agent_id: S, input: { ticks: 10, interval_ms: 20 } });
        await sleep(120);
        const early = await api.events(run.run_id, run.current_attempt_id, { limit: 4 });
        await api.until(run.run_id);
        const late = await api.events(run.run_id, run.current_attempt_id, { limit: 4 });
        const bytes = (res) => res.text.slice(res.text.indexOf('['), res.text.lastIndexOf(']') + 1);
        assert.equal(bytes(early), bytes(late));
    });

    test('5.7 SLOW: node, delta index from 0, one finish, output', async ({ api, S }) => {
        const run = await api.createAndFinish({ agent_id: S, input: { ticks: 25, interval_ms: 2 } });
        const events = await api.ledger(run.run_id);
        const deltas = events.filter((e) => e.type === 'MODEL_DELTA');
        assert.deepEqual(deltas.map((e) => e.payload.index), Array.from({ length: 25 }, (_, i) => i));
        for (const e of deltas) assert.equal(e.payload.node, 'ticker');
        const finish = events.at(-1);
        assert.deepEqual(finish.payload.output, { ticks: 25 });
        assert.equal(typeof finish.payload.duration_ms, 'number');
        assert.equal((await api.createAndFinish({ agent_id: S, input: { ticks: 0 } })).output.ticks, 0);
    });

    test('5.7 FAIL: a failed node, then the end with final true', async ({ api, F }) => {
        const run = await api.createAndFinish({ agent_id: F });
        const events = await api.ledger(run.run_id);
        const failed = events.find((e) => e.type === 'NODE_FAILED');
        assert.deepEqual([failed.payload.error.code, failed.payload.will_retry], ['fixture_failure', false]);
        const last = events.at(-1);
        assert.equal(last.type, 'RUN_FAILED');
        assert.deepEqual([last.payload.final, last.payload.error.code, last.payload.error.category], [true, 'fixture_failure', 'tool']);
        assert.equal(last.payload.error.node, 'break');
        assert.ok(!('next_attempt_id' in last.payload) || last.payload.next_attempt_id === null);
        assert.deepEqual(run.error, last.payload.error);
    });

    test('L9 payload members over 256 KiB are replaced', async ({ api, E }) => {
        const input = 'y'.repeat(300 * 1024);
        const run = await api.createAndFinish({ agent_id: E, input });
        assert.deepEqual(run.output, { echo: input }, 'the run itself keeps the value');
        const finish = (await api.ledger(run.run_id)).at(-1);
        assert.equal(finish.payload.output.truncated, true);
        assert.ok(Number.isInteger(finish.payload.output.bytes) && finish.payload.output.bytes > 300 * 1024);
        const fine = await api.createAndFinish({ agent_id: E, input: 'y'.repeat(200 * 1024) });
        assert.equal((await api.ledger(fine.run_id)).at(-1).payload.output.echo.length, 200 * 1024);
    });

    test('T10 an automatic retry: the old ledger ends with final false and names the next attempt', async ({ api }) => {
        const agent = await makeAgent(api, graph([node('first', 'core.value', { value: 1 }, 'break'),
            node('break', 'core.fail', { code: 'flaky', category: 'network', message: 'once', retryable: true, fail_times: 1 }, 'end'),
            node('end', 'core.value', { value: 'survived' })], { max_attempts: 3 }));
        const made = await api.create({ agent_id: agent });
        const run = await api.until(made.run_id, undefined, 20000);
        assert.deepEqual([run.status, run.current_attempt_no, run.output], ['completed', 2, 'survived']);
        assert.notEqual(run.current_attempt_id, made.current_attempt_id);
        const old = await api.ledger(run.run_id, made.current_attempt_id);
        checkLedger(old, { attemptId: made.current_attempt_id });
        const last = old.at(-1).payload;
        assert.deepEqual([last.final, last.next_attempt_id, last.next_attempt_no], [false, run.current_attempt_id, 2]);
        const events = await api.ledger(run.run_id);
        checkLedger(events, { attemptId: run.current_attempt_id });
        assert.equal(events[0].payload.attempt_no, 2);
        assert.equal(typeof events[0].payload.from_checkpoint_id, 'string');
        assert.ok(!events.some((e) => e.type === 'NODE_STARTED' && e.payload.node === 'first'), 'work before the checkpoint is not repeated');
        assert.equal(run.latest_seq, events.length);
    });

    test('5.2 polling is never affected by the terminal redelivery of streams', async ({ api }) => {
        const agent = await makeAgent(api, fixtureDefinition('echo'));
        const run = await api.createAndFinish({ agent_id: agent });
        assert.deepEqual((await page(api, run, { afterSeq: run.latest_seq })).events, []);
    });
});
