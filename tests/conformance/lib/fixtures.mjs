// SPDX-License-Identifier: Apache-2.0
// Makes agents through the API: the four fixtures of contract 9.2, and small graphs for single tests.
import { readFileSync } from 'node:fs';
import { unique } from './client.mjs';

const NAMES = { E: 'echo', H: 'human', F: 'fail', S: 'slow' };

export const fixtureDefinition = (name) => JSON.parse(readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url), 'utf8'));

const BINDINGS = { 'core.human': 'human', 'core.handoff': 'agent', 'model.chat': 'model' };

export function node(name, ref, config = {}, next = null, extra = {}) {
    return { node: name, capability_ref: ref, capability_version: '1', execution_binding: BINDINGS[ref] ?? 'builtin', config, next, ...extra };
}

export function graph(nodes, policy) {
    return { format: 1, entry: nodes[0].node, ...(policy ? { policy } : {}), nodes };
}

export async function makeDraft(api, agentId, definition) {
    return api.ok(api.post(`/agents/${agentId}/bundles`, { definition }), 201);
}

export async function publish(api, agentId, bundleId, body = {}) {
    return api.ok(api.post(`/agents/${agentId}/bundles/${bundleId}/publish`, body), 200);
}

// An agent with one published bundle; without a definition: an agent without any.
export async function makeAgent(api, definition, name = unique('agent')) {
    const agent = await api.ok(api.post('/agents', { name }), 201);
    if (definition) {
        const bundle = await makeDraft(api, agent.agent_id, definition);
        await publish(api, agent.agent_id, bundle.bundle_id);
    }
    return agent.agent_id;
}

export async function installFixtures(api, which = 'EHFS') {
    const ids = {};
    for (const key of which) ids[key] = await makeAgent(api, fixtureDefinition(NAMES[key]), unique(NAMES[key]));
    return ids;
}
