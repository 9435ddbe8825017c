// SPDX-License-Identifier: Apache-2.0
// Group X: cancel (contract 6.4, 10.5).
import assert from 'node:assert/strict';
import { suite } from './lib/harness.mjs';
import { rawRequest, API, sleep } from './lib/client.mjs';
import { UNKNOWN_ID, checkLedger, checkList, checkRun, invalid, problem } from './lib/expect.mjs';
import { graph, makeAgent, node } from './lib/fixtures.mjs';

// A run that is running and has shown at least one delta.
async function runningSlow(api, S, input = { ticks: 200, interval_ms: 50 }) {
    const made = await api.create({ agent_id: S, input });
    for (;;) {
        const page = await api.ok(api.events(made.run_id, made.current_attempt_id), 200);
        if (page.events.some((e) => e.type === 'MODEL_DELTA')) return made;
        await sleep(10);
    }
}

suite('X cancel', {}, (test) => {
    test('X1 a running run: cancelled in the same commit, nothing after it', async ({ api, S }) => {
        const made = await runningSlow(api, S);
        const res = await api.cancel(made.run_id, 'stop');
        assert.equal(res.status, 200, res.text);
        assert.equal(res.json.run_id, made.run_id);
        assert.deepEqual([res.json.status, res.json.cancelled, res.json.already_cancelled, res.json.reason], ['cancelled', true, false, 'stop']);
        assert.match(res.json.completed_at, /Z$/);
        const run = checkRun(await api.run(made.run_id));
        assert.deepEqual([run.status, run.cancel_reason], ['cancelled', 'stop']);
        const events = await api.ledger(made.run_id);
        checkLedger(events, { attemptId: made.current_attempt_id });
        const last = events[events.length - 1];
        assert.equal(last.type, 'RUN_CANCELLED');
        assert.equal(last.payload.reason, 'stop');
        await sleep(300);
        assert.equal((await api.ledger(made.run_id)).length, events.length, 'no later event');
        assert.equal((await api.run(made.run_id)).latest_seq, events.length);
    });

    test('X2 again: the first reason stays', async ({ api, S }) => {
        const made = await runningSlow(api, S);
        await api.ok(api.cancel(made.run_id, 'first'));
        const again = await api.cancel(made.run_id, 'second');
        assert.equal(again.status, 200, again.text);
        assert.deepEqual([again.json.status, again.json.cancelled, again.json.already_cancelled, again.json.reason], ['cancelled', true, true, 'first']);
        assert.equal((await api.run(made.run_id)).cancel_reason, 'first');
    });

    test('X3 what is over cannot be cancelled', async ({ api, E, F }) => {
        for (const [agent, status] of [[E, 'completed'], [F, 'failed']]) {
            const run = await api.createAndFinish({ agent_id: agent });
            assert.equal(problem(await api.cancel(run.run_id), 'invalid_run_state').current_status, status);
            assert.equal((await api.run(run.run_id)).status, status);
        }
    });

    test('X4 unknown', async ({ api }) => {
        problem(await api.cancel(UNKNOWN_ID), 'run_not_found');
        problem(await api.cancel('nope'), 'run_not_found');
    });

    test('X5 a pending run: its ledger is one event, seq 1', async ({ api, H, E }) => {
        const { thread_id } = await api.ok(api.post('/threads', {}), 201);
        const head = await api.create({ agent_id: H, thread: { thread_id } });
        await api.waiting(head.run_id);
        const behind = await api.create({ agent_id: E, thread: { thread_id } });
        const last = await api.create({ agent_id: E, thread: { thread_id } });
        assert.equal(behind.status, 'pending');
        assert.equal((await api.cancel(behind.run_id)).status, 200);
        const events = await api.ledger(behind.run_id);
        checkLedger(events);
        assert.deepEqual(events.map((e) => [e.seq, e.type, e.payload.reason]), [[1, 'RUN_CANCELLED', null]]);
        const run = checkRun(await api.run(behind.run_id));
        assert.equal(run.latest_seq, 1);
        assert.ok(!('started_at' in run) && !('duration_ms' in run));
        assert.equal((await api.run(last.run_id)).status, 'pending', 'the queue behind it stays in order');
        await api.ok(api.resume(head.run_id, { input: 1 }));
        assert.equal((await api.until(last.run_id)).status, 'completed');
    });

    test('X6 a waiting run: approval cancelled, resume refused', async ({ api, H }) => {
        const run = await api.waiting((await api.create({ agent_id: H })).run_id);
        assert.equal((await api.cancel(run.run_id)).status, 200);
        const approvals = checkList(await api.get('/approvals', { run_id: run.run_id }));
        assert.deepEqual(approvals.items.map((a) => a.status), ['cancelled']);
        assert.equal(problem(await api.resume(run.run_id, { input: 1 }), 'invalid_run_state').current_status, 'cancelled');
        const approval = approvals.items[0].approval_id;
        assert.equal((await api.post(`/approvals/${approval}/approve`, {})).status, 409);
        assert.equal((await api.post(`/approvals/${approval}/reject`, {})).status, 409);
        assert.equal((await api.ledger(run.run_id)).at(-1).type, 'RUN_CANCELLED');
    });

    test('X7 no reason: {} or no body at all', async ({ api, S }) => {
        for (const body of ['{}', undefined, '{"reason":null}']) {
            const made = await api.create({ agent_id: S });
            const headers = api.requestHeaders(body === undefined ? { 'Content-Length': 0 } : { 'Content-Type': 'application/json', 'Content-Length': body.length });
            const res = await rawRequest(api.base, { method: 'POST', path: `${API}/runs/${made.run_id}/cancel`, headers, body });
            assert.equal(res.status, 200, res.text);
            assert.equal((await api.ledger(made.run_id)).at(-1).payload.reason, null);
            assert.ok(!('cancel_reason' in await api.run(made.run_id)));
        }
    });

    test('6.4 reasons: a string up to 2000 characters', async ({ api, S }) => {
        const made = await api.create({ agent_id: S });
        for (const bad of [5, {}, [], true, 'x'.repeat(2001)]) {
            invalid(await api.post(`/runs/${made.run_id}/cancel`, { reason: bad }), '/reason');
        }
        assert.notEqual((await api.run(made.run_id)).status, 'cancelled');
        const reason = 'ż'.repeat(2000);
        await api.ok(api.cancel(made.run_id, reason));
        assert.equal((await api.run(made.run_id)).cancel_reason, reason);
    });

    test('X8 50 cancels racing the finish: status and terminal event agree', async ({ api, E }) => {
        const outcomes = { completed: 0, cancelled: 0 };
        await Promise.all(Array.from({ length: 50 }, async (_, i) => {
            const made = await api.create({ agent_id: E, input: i });
            if (i % 5) await sleep(i % 5);
            const res = await api.cancel(made.run_id);
            const run = await api.until(made.run_id);
            const events = await api.ledger(made.run_id);
            checkLedger(events);
            assert.equal(events.at(-1).type, run.status === 'cancelled' ? 'RUN_CANCELLED' : 'RUN_FINISHED');
            if (res.status === 200) assert.equal(run.status, 'cancelled', 'after the 200 the run is cancelled');
            else assert.equal(problem(res, 'invalid_run_state').current_status, 'completed');
            outcomes[run.status]++;
        }));
        assert.equal(outcomes.completed + outcomes.cancelled, 50);
    });

    test('6.4 parallel cancels all succeed, one is first', async ({ api, S }) => {
        const made = await runningSlow(api, S);
        const all = await Promise.all(Array.from({ length: 10 }, (_, i) => api.cancel(made.run_id, `r${i}`)));
        assert.deepEqual(all.map((r) => r.status), Array(10).fill(200));
        assert.equal(all.filter((r) => r.json.already_cancelled === false).length, 1);
        assert.equal(new Set(all.map((r) => r.json.reason)).size, 1);
        assert.equal((await api.ledger(made.run_id)).filter((e) => e.type === 'RUN_CANCELLED').length, 1);
    });

    test('6.4 cancel against resume: one order or the other', async ({ api, H }) => {
        await Promise.all(Array.from({ length: 20 }, async (_, i) => {
            const run = await api.waiting((await api.create({ agent_id: H })).run_id);
            const [resumed, cancelled] = await Promise.all(i % 2
                ? [api.resume(run.run_id, { input: i }), api.cancel(run.run_id)]
                : [sleep(1).then(() => api.resume(run.run_id, { input: i })), api.cancel(run.run_id)]);
            const end = await api.until(run.run_id);
            const events = await api.ledger(run.run_id);
            checkLedger(events);
            assert.equal(resumed.status === 200, events.some((e) => e.type === 'RUN_RESUMED'));
            if (cancelled.status === 200) assert.equal(end.status, 'cancelled');
            else assert.equal(end.status, 'completed');
            if (resumed.status !== 200) problem(resumed, 'invalid_run_state');
        }));
    });

    test('6.4 children are cancelled with their parent', async ({ api, S, H }) => {
        for (const child of [S, H]) {
            const parent = await makeAgent(api, graph([node('give', 'core.handoff', { agent_id: child, input: { ticks: 500, interval_ms: 50 } })]));
            const made = await api.create({ agent_id: parent });
            let started;
            while (!started) {
                started = (await api.ledger(made.run_id)).find((e) => e.type === 'HANDOFF_STARTED');
                await sleep(10);
            }
            const childId = started.payload.child_run_id;
            if (child === H) await api.waiting(childId);
            await api.ok(api.cancel(made.run_id, 'enough'));
            const over = await api.until(childId);
            assert.equal(over.status, 'cancelled');
            assert.equal(over.cancel_reason, 'parent_cancelled');
            assert.equal(over.parent_run_id, made.run_id);
            checkLedger(await api.ledger(childId), { child: true });
            checkLedger(await api.ledger(made.run_id));
        }
    });

    test('6.4 a cancelled run frees its thread and leaves the thread values alone', async ({ api, S, E }) => {
        const thread = await api.ok(api.post('/threads', { values: { kept: 1 } }), 201);
        const made = await api.create({ agent_id: S, thread: { thread_id: thread.thread_id } });
        const behind = await api.create({ agent_id: E, thread: { thread_id: thread.thread_id } });
        await api.ok(api.cancel(made.run_id));
        assert.equal((await api.until(behind.run_id)).status, 'completed');
        assert.equal((await api.ok(api.get(`/threads/${thread.thread_id}`))).values.kept, 1);
    });
});
